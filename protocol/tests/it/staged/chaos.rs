//! Facts about stores, requests and archives in any order, with any number: the machine's promises hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::json;

use super::bench::{PART, announced, file, parts, settings};
use crate::common::*;
use nerves_hub_link_protocol::UpdateStrategy as Way;
use nerves_hub_link_protocol::limits::MAX_OUTPUTS;
use nerves_hub_link_protocol::*;

/// One thing that happens. Numbers are counted back from the newest.
#[derive(Clone, Debug)]
enum Step {
    Update(u8, bool),
    Archive(u8),
    Decide,
    DecideArchive(u8),
    Opened(usize, Vec<(u32, u64)>),
    StoreFailed(usize),
    Committed(usize, u32),
    Verdict(usize, bool),
    Head(usize, u16, u8),
    /// Bytes of the file from where the request, or the reading, is; or others.
    Body(usize, usize, bool),
    Stored(usize, usize),
    End(usize),
    Broke(usize),
    Apply(u8),
    Deadline,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let back = || prop_oneof![8 => Just(0_usize), 2 => 0..4_usize];
    let lengths = proptest::collection::btree_map(0..5_u32, 0..1200_u64, 0..4);
    let lengths = lengths.prop_map(|lengths| lengths.into_iter().collect::<Vec<_>>());
    let step = prop_oneof![
        4 => (0..3_u8, any::<bool>()).prop_map(|(uuid, sums)| Step::Update(uuid, sums)),
        4 => Just(Step::Archive(0)),
        1 => (0..50_u8).prop_map(|uuid| Step::Archive(uuid.saturating_sub(47))),
        4 => Just(Step::Decide),
        2 => (0..9_u8).prop_map(Step::DecideArchive),
        6 => (back(), lengths).prop_map(|(back, lengths)| Step::Opened(back, lengths)),
        1 => (0..90_usize).prop_map(Step::StoreFailed),
        8 => (back(), 0..4_u32).prop_map(|(back, part)| Step::Committed(back, part)),
        4 => (back(), any::<bool>()).prop_map(|(back, good)| Step::Verdict(back, good)),
        10 => back().prop_map(|back| Step::Head(back, 206, 0)),
        1 => (back(), proptest::sample::select(vec![200, 302, 404, 416, 500]), any::<u8>())
            .prop_map(|(back, status, bits)| Step::Head(back, status, bits)),
        24 => (back(), 1..1500_usize).prop_map(|(back, len)| Step::Body(back, len, true)),
        1 => (back(), 0..1500_usize).prop_map(|(back, len)| Step::Body(back, len, false)),
        16 => (back(), 1..3000_usize).prop_map(|(back, len)| Step::Stored(back, len)),
        4 => back().prop_map(Step::End),
        1 => back().prop_map(Step::Broke),
        2 => (0..4_u8).prop_map(Step::Apply),
        3 => Just(Step::Deadline),
        1 => (0..100_000_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..600)
}

/// A request or a reading: where it is, where its bytes go, and how many of them are on their way there.
#[derive(Clone, Default)]
struct Stream {
    number: u64,
    at: usize,
    end: usize,
    store: Option<StoreId>,
    applier: bool,
    flying: usize,
}

struct World {
    device: Device,
    file: Vec<u8>,
    streams: Vec<Stream>,
    stores: Vec<OpenStore>,
    /// Bytes of each part of the newest stores.
    held: BTreeMap<(StoreId, u32), u64>,
    offer: Option<OfferId>,
    taken: BTreeSet<OfferId>,
    archive: Option<ArchiveId>,
    applied: usize,
    outputs: Vec<Output>,
}

impl World {
    fn drain(&mut self) {
        let mut count = 0;
        while let Some(output) = self.device.link.poll() {
            count += 1;
            self.order(&output);
            self.outputs.push(output);
        }
        assert!(count <= MAX_OUTPUTS + 64, "{count} outputs waited");
    }

    fn order(&mut self, output: &Output) {
        match output {
            Output::Send { socket, .. } => {
                self.device.link.handle(self.device.now, Input::SocketSent { socket: *socket, frames: 1 });
            }
            Output::OpenStore(open) => {
                assert!(open.store.0 > self.stores.last().map_or(0, |last| last.store.0));
                self.stores.push(open.clone());
            }
            Output::DropPart { store, part } => drop(self.held.remove(&(*store, *part))),
            Output::Fetch(fetch) => {
                let range = header(&fetch.headers, "range").and_then(|range| range.strip_prefix("bytes="));
                let (from, last) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
                let store = match fetch.into {
                    Sink::Store(store) => Some(store),
                    Sink::Applier(_) => None,
                };
                self.streams.push(Stream {
                    number: fetch.fetch.0,
                    at: from.parse().unwrap(),
                    end: last.parse::<usize>().map_or(self.file.len(), |last| last + 1),
                    store,
                    ..Stream::default()
                });
            }
            Output::ReadStore(read) => self.streams.push(Stream {
                number: read.fetch.0,
                at: usize::try_from(read.from).unwrap(),
                end: usize::try_from(read.to).unwrap(),
                applier: read.into.is_some(),
                ..Stream::default()
            }),
            Output::StartApply(start) => {
                assert!(!start.public_keys.is_empty());
                assert!(self.taken.remove(&start.offer), "applied without being taken");
                self.applied = 0;
            }
            Output::VerifyArchive(verify) => assert!(!verify.public_keys.is_empty()),
            Output::FinishApply { .. } => assert_eq!(self.applied, self.file.len(), "finished too early"),
            Output::Event(Event::UpdateOffered { offer, .. }) => self.offer = Some(*offer),
            Output::Event(Event::Archive(ArchiveEvent::Offered { archive, .. })) => {
                self.archive = Some(*archive);
            }
            Output::Event(Event::UpdateFailed { reason, .. }) => assert!(!reason.contains("TOPSECRET")),
            _ => {}
        }
    }

    fn stream(&self, back: usize) -> Option<usize> {
        self.streams.len().checked_sub(back + 1)
    }

    fn store(&self, back: usize) -> StoreId {
        let at = self.stores.len().checked_sub(back + 1);
        at.and_then(|at| self.stores.get(at)).map_or(StoreId(0), |open| open.store)
    }

    fn body(&mut self, at: usize, len: usize, right: bool) {
        let stream = self.streams[at].clone();
        let end = self.file.len().min(stream.end).min(stream.at + len);
        let bytes = if right { self.file[stream.at.min(end)..end].to_vec() } else { vec![9; len] };
        let keep = self.device.link.body(self.device.now, FetchId(stream.number), &bytes);
        assert!(keep.range.start <= keep.range.end && keep.range.end <= bytes.len());
        self.drain();
        let stream = &mut self.streams[at];
        stream.at = end;
        stream.flying += keep.range.len();
        let (mut offset, mut left) = (keep.offset, keep.range.len() as u64);
        if stream.applier && left > 0 {
            assert_eq!(offset, self.applied as u64, "a gap or an overlap at the applier");
            self.applied += keep.range.len();
        }
        let open = stream.store.and_then(|store| self.stores.iter().find(|open| open.store == store));
        while let (Some(open), true) = (open, left > 0) {
            let (part, inside) = ((offset / open.part_size) as u32, offset % open.part_size);
            let now = left.min(open.part_size - inside);
            let held = self.held.entry((open.store, part)).or_default();
            assert!(inside == 0 || inside == *held, "a gap or an overlap in part {part}");
            *held = inside + now;
            (offset, left) = (offset + now, left - now);
        }
    }

    fn step(&mut self, step: &Step) {
        let now = self.device.now;
        match step {
            Step::Update(uuid, sums) => {
                let mut payload = update();
                payload["firmware_meta"]["uuid"] = json!(format!("new-{uuid}"));
                payload["size"] = json!(self.file.len());
                if *sums {
                    let said = announced(&self.file);
                    (payload["checksum"], payload["partials_checksums"]) =
                        (said["checksum"].clone(), said["partials_checksums"].clone());
                }
                self.server(&json!([null, null, "device", "update", payload]));
            }
            Step::Archive(uuid) => {
                let payload = json!({"uuid": format!("archive-{uuid}"), "url": URL, "size": self.file.len()});
                self.server(&json!([null, null, "device", "archive", payload]));
            }
            Step::Decide => {
                if let Some(offer) = self.offer
                    && self
                        .device
                        .link
                        .command(now, Command::Decide { offer, decision: Decision::Apply })
                        .is_ok()
                {
                    self.taken.insert(offer);
                }
            }
            Step::DecideArchive(which) => {
                let decision = match which {
                    0 => ArchiveDecision::Ignore,
                    1 => ArchiveDecision::Reschedule { delay: Duration::from_secs(5) },
                    _ => ArchiveDecision::Download,
                };
                let archive = self.archive.unwrap_or(ArchiveId(0));
                let _ = self
                    .device
                    .link
                    .command(now, Command::Archive(ArchiveCommand::Decide { archive, decision }));
            }
            Step::Opened(back, lengths) => {
                let store = self.store(*back);
                // An opening is answered once.
                if self.held.insert((store, u32::MAX), 0).is_none() {
                    self.held.extend(lengths.iter().map(|(part, length)| ((store, *part), *length)));
                    self.device.link.handle(now, Input::StoreOpened { store, parts: lengths });
                }
            }
            Step::StoreFailed(back) => {
                let store = self.store(*back);
                self.device.link.handle(now, Input::StoreFailed { store, reason: "no space" });
            }
            Step::Committed(back, part) => {
                let store = self.store(*back);
                self.device.link.handle(now, Input::PartCommitted { store, part: *part });
            }
            Step::Verdict(back, good) => {
                let store = self.store(*back);
                let verdict = match good {
                    true => Input::ArchiveVerified { store, path: "/archive" },
                    false => Input::ArchiveRefused { store, reason: "unsigned" },
                };
                self.device.link.handle(now, verdict);
            }
            Step::Head(back, status, bits) => {
                let Some(at) = self.stream(*back) else { return };
                let (from, end, size) = (self.streams[at].at, self.streams[at].end, self.file.len());
                let range = format!("bytes {from}-{}/{size}", end.max(1) - 1);
                let mut headers = vec![("content-range", range.as_str())];
                if bits & 1 == 1 {
                    headers.push(("location", "/elsewhere"));
                }
                let fetch = FetchId(self.streams[at].number);
                let status = if from == 0 && end == size && *status == 206 { 200 } else { *status };
                let head = Input::FetchHead { fetch, status, headers: &headers, interface: None };
                self.device.link.handle(now, head);
            }
            Step::Body(back, len, right) => {
                if let Some(at) = self.stream(*back) {
                    self.body(at, *len, *right);
                }
            }
            Step::Stored(back, len) => {
                if let Some(at) = self.stream(*back) {
                    let stream = &mut self.streams[at];
                    let len = stream.flying.min(*len);
                    stream.flying -= len;
                    self.device.link.stored(now, FetchId(stream.number), len);
                }
            }
            Step::End(back) => {
                if let Some(at) = self.stream(*back) {
                    self.device.link.handle(now, Input::FetchEnd { fetch: FetchId(self.streams[at].number) });
                }
            }
            Step::Broke(back) => {
                if let Some(at) = self.stream(*back) {
                    let fetch = FetchId(self.streams[at].number);
                    self.device.link.handle(now, Input::FetchFailed { fetch, reason: "reset" });
                }
            }
            Step::Apply(kind) => {
                let Some(offer) = self.offer else { return };
                let input = match kind {
                    0 => Input::ApplyFailed { offer, reason: "bad" },
                    _ => Input::ApplyProgress { offer, percent: 50 },
                };
                self.device.link.handle(now, input);
            }
            Step::Deadline => {
                if let Some(deadline) = self.device.link.deadline() {
                    self.device.now.mono = now.mono.max(deadline.at);
                }
                self.tick();
            }
            Step::Pass(millis) => {
                self.device.now.mono = now.mono + Duration::from_millis(*millis);
                self.tick();
            }
        }
    }

    fn tick(&mut self) {
        let now = self.device.now;
        self.device.link.handle(now, Input::Tick);
        self.drain();
        let deadline = self.device.link.deadline();
        assert!(deadline.is_none_or(|deadline| deadline.at > now.mono), "{deadline:?} at {:?}", now.mono);
    }

    fn server(&mut self, message: &serde_json::Value) {
        let socket = self.device.socket();
        self.device.link.handle(self.device.now, Input::SocketText { socket, text: &message.to_string() });
    }
}

fn run(way: Way, steps: &[Step]) -> Vec<Output> {
    let mut world = World {
        device: Device::joined(settings(way)),
        file: file(3 * PART + 77),
        streams: Vec::new(),
        stores: Vec::new(),
        held: BTreeMap::new(),
        offer: None,
        taken: BTreeSet::new(),
        archive: None,
        applied: 0,
        outputs: Vec::new(),
    };
    for step in steps {
        world.step(step);
        world.drain();
    }
    world.outputs
}

fn way(at_once: u32) -> Way {
    if at_once == 0 { Way::Caching } else { parts(at_once) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_whatever_is_said_about_stores(at_once in 0..4_u32, steps in steps()) {
        let first = run(way(at_once), &steps);
        prop_assert!(first == run(way(at_once), &steps), "a second run differs");
    }
}

#[test]
fn the_steps_reach_every_order_about_stores() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeMap::<&str, u32>::new();
    for round in 0..300 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        for output in run(way(round % 4), &steps) {
            let name = match &output {
                Output::OpenStore(open) if open.kind == StoreKind::Archive => "open an archive's",
                Output::OpenStore(_) => "open",
                Output::ReadStore(read) if read.into.is_some() => "feed",
                Output::ReadStore(_) => "read",
                Output::CommitPart { .. } => "commit",
                Output::DropPart { .. } => "drop",
                Output::CloseStore { clear: true, .. } => "clear",
                Output::CloseStore { .. } => "close",
                Output::VerifyArchive(_) => "verify",
                Output::StartApply(_) => "apply",
                Output::FinishApply { .. } => "finish",
                Output::CancelApply { .. } => "cancel",
                Output::Abort { .. } => "abort",
                Output::Event(Event::Archive(ArchiveEvent::Ready { .. })) => "ready",
                Output::Event(Event::Archive(ArchiveEvent::Failed { .. })) => "archive failed",
                Output::Event(Event::Archive(ArchiveEvent::Replaced { .. })) => "replaced",
                _ => continue,
            };
            *seen.entry(name).or_default() += 1;
        }
    }
    println!("{seen:?}");
    assert_eq!(seen.len(), 16, "{seen:?}");
}
