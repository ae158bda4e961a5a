//! What surrounds a device under test: its configuration, and a watch over all it wants done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use nerves_hub_link_protocol::limits::{
    MAX_ATTEMPTS_REMEMBERED, MAX_BATCH_BYTES, MAX_BOUND, MAX_META_CHARS, MAX_OUTPUTS, MAX_REASON_CHARS,
    MAX_SCRIPT_OUTPUT_BYTES, MAX_SHELL_MESSAGE_BYTES, SEND_CREDIT,
};
use nerves_hub_link_protocol::{
    Auth, Config, Event, FetchId, FirmwareMeta, Instant, Link, Now, OfferId, Output, SharedSecret, Sink,
    SocketId, UnixTime,
};

use super::link_more::More;
use super::link_rest::Rest;

/// A public key that firmware could be signed with.
pub(super) const KEY: &str = "u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds=";
/// What no text for people may hold: the signature of the URLs that [`super::link`] offers.
pub(super) const SECRET: &str = "5ecre7-s1gna7ure";
/// Outputs over [`MAX_OUTPUTS`] that one last input may add.
const ONE_INPUT: usize = 64;
/// Longest message a device sends: reasons are cut, nothing of a peer's is sent back.
const MESSAGE: usize = 8000;

/// The clocks at the beginning.
pub(super) fn start() -> Now {
    Now { mono: Instant::from_micros(5), wall: Some(UnixTime(1_795_444_000)) }
}

/// A configuration with some things changed, a bit for each.
pub(super) fn config(bits: u8) -> Config {
    let bit = |at: u8| bits >> at & 1 == 1;
    let mut secret = SharedSecret::new("nhp_key", "secret", "device-1");
    // A signature for each dial, and there are many.
    secret.iterations = 1;
    let auth = if bit(0) { Auth::Certificate } else { Auth::SharedSecret(secret) };
    let firmware = FirmwareMeta { uuid: "old".to_owned(), ..FirmwareMeta::default() };
    let mut config = Config::new("hub.example", auth, firmware);
    config.firmware_validated = (!bit(1)).then_some(bit(2));
    config.wait_for_network = false;
    config.accept_server_keys = !bit(3);
    config.public_keys = if bit(4) { Vec::new() } else { vec![KEY.to_owned()] };
    config.download.allow_http = !bit(5);
    config.insecure_plain_hub = bit(1) && bit(3);
    if bit(6) {
        config.heartbeat = Duration::ZERO;
        config.download.max_size = 1500;
        config.download.max_disconnects = 1;
    }
    if bit(7) {
        config.backoff.min = Duration::from_millis(1);
        config.rejoin = Vec::new();
    }
    config
}

/// What the device did so far, as far as it binds what it may do next.
#[derive(Default)]
pub(super) struct World {
    pub(super) outputs: Vec<Output>,
    /// The numbers of the newest socket, request and offer.
    pub(super) socket: u64,
    pub(super) fetch: u64,
    pub(super) offer: u64,
    /// Sockets that were dialled and neither ended nor were hung up.
    live: BTreeSet<SocketId>,
    /// The socket that came up.
    up: Option<SocketId>,
    /// Messages handed out and not reported sent.
    pub(super) flying: u32,
    /// The references of the last join, heartbeat and other message.
    pub(super) join: u64,
    pub(super) heartbeat: u64,
    pub(super) push: u64,
    /// Offers made, and offers taken by the application.
    offered: BTreeSet<OfferId>,
    taken: BTreeSet<OfferId>,
    /// The offer whose applier is open.
    applying: Option<OfferId>,
    /// The offer that was started last, and the number of the newest applier.
    started: Option<OfferId>,
    applier: u64,
    finishing: bool,
    /// Firmware was written: nothing may touch the disk any more.
    written: bool,
    /// The UUID of each offer, that of the offer whose applier is open, and that of the archive it reported as signed.
    uuids: BTreeMap<OfferId, String>,
    wanted: Option<String>,
    signed: Option<String>,
    /// Somebody wanted a reboot.
    pub(super) reboot_wanted: bool,
    /// The references of the last join of each other topic.
    pub(super) joins: BTreeMap<String, u64>,
    /// What beside updates binds the device.
    pub(super) more: More,
    /// And what else does.
    pub(super) rest: Rest,
    /// Requests whose bytes go into a store, and bytes on their way into it.
    pub(super) to_store: BTreeSet<FetchId>,
    pub(super) in_store: VecDeque<(FetchId, usize)>,
    /// The request or reading whose bytes the applier got last.
    pub(super) newest: u64,
    /// Bytes given to the applier, and taken by it.
    pub(super) kept: u64,
    pub(super) stored: u64,
}

impl World {
    /// The upgrade succeeded.
    pub(super) fn came_up(&mut self, socket: SocketId) {
        if self.live.contains(&socket) {
            self.up = Some(socket);
        }
    }

    pub(super) fn is_up(&self, socket: SocketId) -> bool {
        self.up == Some(socket)
    }

    /// The connection ended, or never was.
    pub(super) fn went(&mut self, socket: SocketId) {
        self.live.remove(&socket);
        if self.up == Some(socket) {
            self.up = None;
        }
    }

    /// The application took an offer.
    pub(super) fn took(&mut self, offer: OfferId) {
        assert!(self.offered.contains(&offer), "offer {offer} was never made, and could be taken");
        assert!(self.taken.insert(offer), "offer {offer} taken twice");
    }

    /// The applier read signed metadata.
    pub(super) fn read_metadata(&mut self, offer: OfferId, uuid: &str) {
        if self.applying == Some(offer) && self.signed.is_none() {
            self.signed = Some(uuid.to_owned());
        }
    }

    /// The applier ended by itself.
    pub(super) fn applier_ended(&mut self, offer: OfferId, well: bool) {
        if self.applying == Some(offer) {
            self.applying = None;
            self.written |= well;
            self.reboot_wanted |= well;
        }
    }

    /// Another tool ended the update it took over.
    pub(super) fn tool_ended(&mut self, well: bool) {
        self.written |= well;
        self.reboot_wanted |= well;
    }

    /// Bytes were to be kept: they must go on where the last ended.
    pub(super) fn keep(&mut self, offset: u64, length: usize) {
        if length > 0 {
            assert!(self.applying.is_some() && !self.finishing, "bytes for no applier");
            assert_eq!(offset, self.kept, "a gap or an overlap in the file");
            self.kept += length as u64;
        }
    }

    /// A store takes bytes.
    pub(super) fn store_kept(&mut self, fetch: FetchId, length: usize) {
        if length > 0 {
            self.in_store.push_back((fetch, length));
        }
    }

    /// Takes everything the device wants done.
    pub(super) fn drain(&mut self, link: &mut Link) {
        let mut new = 0;
        while let Some(output) = link.poll() {
            new += 1;
            self.check(&output);
            self.outputs.push(output);
        }
        assert!(new <= MAX_OUTPUTS + ONE_INPUT, "{new} outputs waited");
    }

    fn check(&mut self, output: &Output) {
        self.more.check(output);
        self.rest.check(output);
        match output {
            Output::Dial(dial) => {
                assert!(dial.socket.0 > self.socket, "a number is used twice");
                self.live.insert(dial.socket);
                assert!(self.live.len() == 1, "two sockets live: {:?}", self.live);
                (self.socket, self.flying, self.up) = (dial.socket.0, 0, None);
            }
            Output::Send { socket, text } => {
                assert!(
                    self.up == Some(*socket) && socket.0 == self.socket,
                    "sent on a socket that is not up"
                );
                self.flying += 1;
                assert!(self.flying <= SEND_CREDIT, "{} messages unsent", self.flying);
                let parsed = serde_json::from_str(text);
                assert!(parsed.is_ok(), "no message: {text}");
                self.note(&parsed.unwrap_or_default(), text.len());
            }
            Output::SendBinary { socket, data } => {
                assert!(self.up == Some(*socket), "sent on a socket that is not up");
                self.flying += 1;
                assert!(self.flying <= SEND_CREDIT, "{} messages unsent", self.flying);
                let parsed = crate::msgpack::decode(data);
                assert!(parsed.is_some(), "no message: {data:02x?}");
                self.note(&parsed.unwrap_or_default(), data.len());
            }
            Output::HangUp { socket, .. } => self.went(*socket),
            Output::Fetch(fetch) => {
                assert!(fetch.fetch.0 > self.fetch, "a number is used twice");
                let wanted = self.applying.map(Sink::Applier);
                let stored = matches!(fetch.into, Sink::Store(store) if self.more.has(store));
                assert!(wanted == Some(fetch.into) || stored, "a request for no applier and no store");
                if stored {
                    self.to_store.insert(fetch.fetch);
                } else {
                    self.newest = fetch.fetch.0;
                }
                self.fetch = fetch.fetch.0;
            }
            Output::StartApply(start) => {
                assert!(!start.public_keys.is_empty(), "an applier that trusts nobody");
                let fresh = start.offer == start.accepted && self.taken.remove(&start.accepted);
                let again = self.started == Some(start.accepted) && start.offer != start.accepted;
                assert!(fresh || again, "the application did not say so, or it did once");
                assert!(start.offer.0 > self.applier, "a number is used twice");
                (self.started, self.applier) = (Some(start.accepted), start.offer.0);
                assert!(self.applying.is_none() && !self.written, "the disk is in use");
                self.applying = Some(start.offer);
                (self.kept, self.stored, self.finishing) = (0, 0, false);
                (self.wanted, self.signed) = (self.uuids.get(&start.accepted).cloned(), None);
            }
            Output::ContinueApply { offer } => {
                assert!(self.applying == Some(*offer), "no applier to go on");
                assert_eq!(self.signed, self.wanted, "written, and not what was offered");
            }
            Output::FinishApply { offer } => {
                assert!(self.applying == Some(*offer) && !self.finishing, "no applier to finish");
                assert_eq!(self.stored, self.kept, "finished before everything was stored");
                self.finishing = true;
            }
            Output::CancelApply { offer } => {
                assert!(self.applying == Some(*offer), "no applier to cancel");
                self.applying = None;
            }
            Output::Reboot { .. } => assert!(self.reboot_wanted, "nobody wanted a reboot"),
            Output::Event(event) => self.hear(event),
            Output::SaveNewest { version } => assert!(version.len() <= MAX_META_CHARS),
            Output::SaveAttempts { attempts } => {
                assert!(attempts.len() <= MAX_ATTEMPTS_REMEMBERED, "{} firmwares remembered", attempts.len());
            }
            Output::SaveHistory { history } => {
                let most = usize::try_from(MAX_BOUND).unwrap_or(0);
                assert!(history.reboots.len() <= most, "{} reboots remembered", history.reboots.len());
            }
            Output::Probe(_) => assert!(self.live.is_empty(), "a look for the network beside a connection"),
            Output::ReadStore(order) => {
                assert!(order.fetch.0 > self.fetch, "a number is used twice");
                self.fetch = order.fetch.0;
                if order.into.is_some() {
                    self.newest = order.fetch.0;
                }
            }
            // Those are looked at by themselves.
            Output::OpenStore(_)
            | Output::VerifyArchive(_)
            | Output::CommitPart { .. }
            | Output::DropPart { .. }
            | Output::CloseStore { .. } => {}
            Output::Abort { fetch } => assert!(fetch.0 <= self.fetch, "a request that never was"),
        }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::UpdateOffered { offer, info } => {
                self.uuids.insert(*offer, info.firmware.uuid.clone());
                assert!(offer.0 > self.offer, "a number is used twice");
                self.offered.insert(*offer);
                self.offer = offer.0;
            }
            Event::UpdateFailed { reason, .. } | Event::UpdateRefused { reason, .. } => {
                assert!(reason.chars().count() <= MAX_REASON_CHARS, "{reason}");
                assert!(!reason.contains(SECRET), "{reason}");
            }
            Event::DownloadInterrupted { reason, received, .. } => {
                assert!(!reason.contains(SECRET), "{reason}");
                let streamed = self.to_store.is_empty();
                assert!(*received <= self.kept || !streamed, "{received} bytes safe of {}", self.kept);
            }
            _ => {}
        }
    }

    /// Reads the reference of a message: `[join reference, reference, topic, event, payload]`.
    fn note(&mut self, message: &serde_json::Value, length: usize) {
        let text = |at: usize| message.get(at).and_then(serde_json::Value::as_str);
        let (reference, topic, event) = (text(1), text(2), text(3));
        let whole = message.as_array().is_some_and(|parts| parts.len() == 5);
        assert!(whole && reference.is_some() && topic.is_some() && event.is_some(), "no message: {message}");
        let topic = topic.unwrap_or_default();
        // What others than the machine write goes in messages of its own; in a script's output and value, and in what a
        // shell writes, each character is escaped at worst.
        let most = match (topic, event) {
            ("device", Some("scripts/run")) => MESSAGE + 12 * MAX_SCRIPT_OUTPUT_BYTES,
            ("device" | "phoenix", _) => MESSAGE,
            ("extensions", _) => MESSAGE + MAX_BATCH_BYTES,
            _ => MESSAGE + 6 * MAX_SHELL_MESSAGE_BYTES,
        };
        assert!(length < most, "a message of {length} bytes");
        let reference = reference.unwrap_or_default().parse().unwrap_or_default();
        match event {
            Some("phx_join") if topic == "device" => self.join = reference,
            Some("phx_join") => drop(self.joins.insert(topic.to_owned(), reference)),
            Some("heartbeat") => self.heartbeat = reference,
            _ => self.push = reference,
        }
    }
}
