//! A device with a disk for downloads, and a server with one file.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use nerves_hub_link_protocol::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::common::*;

/// Bytes of a part in these tests.
pub const PART: usize = 1024;
pub const TAG: &str = "\"30CFA03\"";

/// What a device keeps over restarts: folders by name.
#[derive(Clone, Default, Debug)]
pub struct Disk(pub BTreeMap<String, Folder>);

#[derive(Clone, Default, Debug)]
pub struct Folder {
    pub manifest: String,
    pub parts: BTreeMap<u32, Vec<u8>>,
    pub committed: Vec<u32>,
}

/// A request that is being answered.
#[derive(Clone, Debug)]
pub struct Request {
    pub fetch: Fetch,
    /// What of the file is still to be sent; `None` before the head.
    pub rest: Option<std::ops::Range<usize>>,
}

pub struct Bench {
    pub device: Device,
    pub disk: Disk,
    pub file: Vec<u8>,
    pub open: Option<OpenStore>,
    pub requests: Vec<Request>,
    /// Every range that was asked for, as the header says it.
    pub ranges: Vec<String>,
    pub reads: Vec<(u64, u64)>,
    pub applied: Vec<u8>,
    pub finished: bool,
    /// A byte of the file that is sent wrong, and how often.
    pub corrupt: Option<(usize, u32)>,
    /// Whether the server ignores ranges.
    pub whole: bool,
    /// Bytes written and not yet reported: request and length.
    pub unreported: VecDeque<(FetchId, usize)>,
    /// Whether writes are reported at once.
    pub reports: bool,
}

pub fn parts(max_concurrent_parts: u32) -> UpdateStrategy {
    let mut parts = PartsConfig::default();
    (parts.part_size, parts.max_concurrent_parts) = (PART as u32, max_concurrent_parts);
    UpdateStrategy::Parts(parts)
}

pub fn settings(strategy: UpdateStrategy) -> Config {
    let mut config = config();
    config.heartbeat = Duration::ZERO;
    config.strategy = strategy;
    if let Auth::SharedSecret(secret) = &mut config.auth {
        secret.iterations = 1;
    }
    config
}

pub fn file(len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31) ^ (at >> 7)) as u8).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02X}"))
}

/// What the server says about a file.
pub fn announced(file: &[u8]) -> Value {
    let sums: Vec<_> = file.chunks(PART).map(hex).collect();
    json!({"size": file.len(), "checksum": hex(file), "partials_checksums": sums})
}

impl Bench {
    /// A device that accepted an update, before anything was carried out.
    pub fn started(strategy: UpdateStrategy, file: Vec<u8>, disk: Disk, extra: Value) -> Self {
        let mut device = Device::joined(settings(strategy));
        let offer = device.offer(extra);
        device.link.command(device.now, Command::Decide { offer, decision: Decision::Apply }).unwrap();
        let mut bench = Self {
            device,
            disk,
            file,
            open: None,
            requests: Vec::new(),
            ranges: Vec::new(),
            reads: Vec::new(),
            applied: Vec::new(),
            finished: false,
            corrupt: None,
            whole: false,
            unreported: VecDeque::new(),
            reports: true,
        };
        bench.carry_out();
        bench
    }

    pub fn plain(strategy: UpdateStrategy, len: usize) -> Self {
        Self::with(strategy, len, Disk::default())
    }

    pub fn with(strategy: UpdateStrategy, len: usize, disk: Disk) -> Self {
        let file = file(len);
        let extra = announced(&file);
        Self::started(strategy, file, disk, extra)
    }

    /// The device loses power and is offered the same again, at another address.
    pub fn restarted(self, strategy: UpdateStrategy) -> Self {
        let mut extra = announced(&self.file);
        extra["firmware_url"] = json!("https://elsewhere.example/other?signature=TOPSECRET");
        Self::started(strategy, self.file, self.disk, extra)
    }

    fn folder(&mut self) -> &mut Folder {
        let key = &self.open.as_ref().expect("no store").key;
        self.disk.0.get_mut(key).expect("no folder")
    }

    /// Carries out all orders, except that requests wait to be served.
    pub fn carry_out(&mut self) {
        loop {
            let new = self.device.drain();
            if new.is_empty() {
                return;
            }
            for output in new {
                self.order(output);
            }
        }
    }

    fn order(&mut self, output: Output) {
        let now = self.device.now;
        match output {
            Output::OpenStore(open) => {
                assert!(self.open.is_none(), "two stores");
                assert!(open.key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
                self.disk.0.retain(|key, folder| *key == open.key && folder.manifest == open.manifest);
                let folder = self.disk.0.entry(open.key.clone()).or_default();
                folder.manifest.clone_from(&open.manifest);
                folder.parts.retain(|part, _| *part < open.parts);
                let lengths: Vec<_> =
                    folder.parts.iter().map(|(part, bytes)| (*part, bytes.len() as u64)).collect();
                let store = open.store;
                self.open = Some(open);
                self.device.link.handle(now, Input::StoreOpened { store, parts: &lengths });
            }
            Output::Fetch(fetch) => {
                let range = header(&fetch.headers, "range").unwrap_or("all").to_owned();
                self.ranges.push(range);
                self.requests.push(Request { fetch, rest: None });
            }
            Output::Abort { fetch } => self.requests.retain(|request| request.fetch.fetch != fetch),
            Output::CommitPart { store, part } => {
                let folder = self.folder();
                assert!(folder.parts.contains_key(&part), "nothing to commit");
                folder.committed.push(part);
                self.device.link.handle(now, Input::PartCommitted { store, part });
            }
            Output::DropPart { part, .. } => {
                self.folder().parts.remove(&part);
            }
            Output::CloseStore { store, clear } => {
                let open = self.open.take().expect("no store");
                assert_eq!(open.store, store);
                if clear {
                    self.disk.0.remove(&open.key);
                }
            }
            Output::ReadStore(read) => self.read(&read),
            Output::FinishApply { .. } => self.finished = true,
            _ => {}
        }
    }

    fn read(&mut self, read: &ReadStore) {
        self.reads.push((read.from, read.to));
        let part_size = self.open.as_ref().unwrap().part_size;
        let mut at = read.from;
        while at < read.to {
            let part = at / part_size;
            let inside = (at % part_size) as usize;
            let end = (u128::from(part + 1) * u128::from(part_size)).min(u128::from(read.to));
            let len = ((end - u128::from(at)) as usize).min(300);
            let Some(bytes) =
                self.folder().parts.get(&(part as u32)).and_then(|b| b.get(inside..inside + len))
            else {
                let reason = "no such bytes";
                self.device.link.handle(self.device.now, Input::FetchFailed { fetch: read.fetch, reason });
                return;
            };
            let bytes = bytes.to_vec();
            let keep = self.device.link.body(self.device.now, read.fetch, &bytes);
            let kept = &bytes[keep.range.clone()];
            assert!(read.into.is_some() || kept.is_empty(), "nothing to keep of what is only looked at");
            if !kept.is_empty() {
                assert_eq!(keep.offset, self.applied.len() as u64, "a gap or an overlap at the applier");
                self.applied.extend_from_slice(kept);
                self.device.link.stored(self.device.now, read.fetch, kept.len());
            }
            at += len as u64;
        }
        self.device.link.handle(self.device.now, Input::FetchEnd { fetch: read.fetch });
    }

    /// Sends the head of an answer, and then up to `len` bytes of its body.
    pub fn serve(&mut self, at: usize, len: usize) {
        let Some(request) = self.requests.get_mut(at) else { return };
        let (id, size) = (request.fetch.fetch, self.file.len());
        if request.rest.is_none() {
            let range = header(&request.fetch.headers, "range").filter(|_| !self.whole);
            let (status, from, to) = match range.and_then(|range| range.strip_prefix("bytes=")) {
                None => (200, 0, size),
                Some(range) => {
                    let (from, last) = range.split_once('-').unwrap();
                    let to = last.parse::<usize>().map_or(size, |last| (last + 1).min(size));
                    (206, from.parse().unwrap(), to)
                }
            };
            request.rest = Some(from..to);
            let content_range = format!("bytes {from}-{}/{size}", to.max(1) - 1);
            let length = (to - from).to_string();
            let mut headers = vec![("etag", TAG), ("content-length", &length)];
            if status == 206 {
                headers.push(("content-range", &content_range));
            }
            self.device.input_quietly(Input::FetchHead {
                fetch: id,
                status,
                headers: &headers,
                interface: Some("wlan0"),
            });
            self.carry_out();
        }
        let Some(request) = self.requests.iter_mut().find(|request| request.fetch.fetch == id) else {
            return;
        };
        let rest = request.rest.clone().unwrap();
        let end = rest.end.min(rest.start + len);
        request.rest = Some(end..rest.end);
        let mut bytes = self.file[rest.start..end].to_vec();
        if let Some((wrong, times @ 1..)) = self.corrupt
            && (rest.start..end).contains(&wrong)
        {
            bytes[wrong - rest.start] ^= 1;
            self.corrupt = Some((wrong, times - 1));
        }
        let now = self.device.now;
        let keep = self.device.link.body(now, id, &bytes);
        // What was ordered before comes first.
        self.carry_out();
        let kept = &bytes[keep.range.clone()];
        if !kept.is_empty() {
            self.write(keep.offset, kept);
            self.unreported.push_back((id, kept.len()));
            if self.reports {
                self.report();
            }
        }
        if end == rest.end && self.requests.iter().any(|request| request.fetch.fetch == id) {
            self.requests.retain(|request| request.fetch.fetch != id);
            self.device.input_quietly(Input::FetchEnd { fetch: id });
        }
        self.carry_out();
    }

    /// Tells the device that everything written so far is written.
    pub fn report(&mut self) {
        while let Some((fetch, len)) = self.unreported.pop_front() {
            self.device.link.stored(self.device.now, fetch, len);
            self.carry_out();
        }
    }

    fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        let part_size = self.open.as_ref().expect("no store").part_size;
        let mut at = offset;
        while !bytes.is_empty() {
            let (part, inside) = ((at / part_size) as u32, (at % part_size) as usize);
            let room = usize::try_from(part_size).unwrap_or(usize::MAX) - inside;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let held = self.folder().parts.entry(part).or_default();
            if inside == 0 {
                held.clear();
            }
            assert_eq!(held.len(), inside, "a gap or an overlap in part {part}");
            held.extend_from_slice(now);
            (at, bytes) = (at + now.len() as u64, later);
        }
    }

    /// Breaks a request.
    pub fn cut(&mut self, at: usize) {
        if at < self.requests.len() {
            let fetch = self.requests.remove(at).fetch.fetch;
            self.device.input_quietly(Input::FetchFailed { fetch, reason: "reset by peer" });
            self.carry_out();
        }
    }

    pub fn pass(&mut self, time: Duration) {
        let before = self.device.out.len();
        self.device.pass(time);
        for output in self.device.out.split_off(before) {
            self.device.out.push(output.clone());
            self.order(output);
        }
        self.carry_out();
    }

    /// Serves everything to the end, in turns.
    pub fn serve_all(&mut self) {
        for _ in 0..10_000 {
            if self.requests.is_empty() {
                if self.finished || self.device.link.status().update == UpdateState::Idle {
                    return;
                }
                self.pass(Duration::from_secs(15));
            }
            for at in (0..self.requests.len()).rev() {
                self.serve(at, 700);
            }
        }
        panic!("no end: {:?}", self.device.link.status());
    }

    /// Asserts that exactly the file reached the applier, and that the update completes.
    pub fn assert_complete(&mut self) {
        assert!(self.finished, "{:?} {:?}", self.device.link.status(), self.device.events());
        assert_eq!(self.applied.len(), self.file.len());
        assert!(self.applied == self.file);
        let finishes = |output: &&Output| matches!(output, Output::FinishApply { .. });
        let offer = match self.device.out.iter().find(finishes) {
            Some(Output::FinishApply { offer }) => *offer,
            _ => panic!(),
        };
        self.device.input(Input::ApplyDone { offer });
        assert_eq!(self.device.link.status().update, UpdateState::Written);
        let statuses = self.device.statuses();
        let words: Vec<_> = statuses.iter().map(|status| status["status"].as_str().unwrap()).collect();
        assert!(words.iter().filter(|word| **word == "started").count() <= 1, "{words:?}");
        assert_eq!(words.last(), Some(&"completed"));
        let full = json!({"stage": "downloading", "value": 100});
        assert!(
            self.device.sent().iter().any(|message| message[4] == full),
            "downloading 100 is always told"
        );
    }
}
