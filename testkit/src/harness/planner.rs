//! A download that is kept in a store: any server, any disk, restarts at any step.

use nerves_hub_link_protocol::{
    Auth, Command, Config, Decision, Event, FirmwareMeta, Input, Link, Output, PartsConfig, Serializer, Sink,
    UpdateStrategy,
};

use super::input::Source;
use super::link_world::{KEY, start};
use super::planner_disk::{Disk, PART, SIZE_MAX, published};
use super::planner_server::{Asked, Server};

/// Things that happen in one scenario at most.
const STEPS: usize = 400;
/// Things an honest world needs at most to end an update: chunks of some bytes, and each with some steps.
const HONEST_STEPS: usize = 4000;

/// Puts a download with a store through a scenario: a server that sends what it likes, a store that fails or was
/// left in any state, and restarts that lose what wasn't brought onto the disk. In the end everything is honest.
///
/// # Panics
/// When a promise of the machine is broken: bytes are stored without gap, in the part they belong to, and never into
/// one that is on the disk for good; a part is brought onto the disk only when it is what was announced; no two
/// requests at a time are for the same bytes, and there are no more than configured; the applier gets the
/// announced file and nothing else; an honest world ends in new firmware.
pub fn planner(data: &[u8]) {
    let mut source = Source::new(data);
    let world = World::new(&mut source);
    assert!(world.is_some(), "the configuration to begin with");
    let Some(mut world) = world else { return };
    world.begin();
    for _ in 0..STEPS {
        if source.is_empty() {
            break;
        }
        world.step(&mut source);
    }
    world.heal();
}

/// What the server announces.
#[derive(Clone, Copy)]
pub(super) struct Announced {
    pub(super) size: usize,
    pub(super) says_size: bool,
    pub(super) whole: bool,
    pub(super) parts: bool,
    /// Whether the device keeps the file in one piece, whatever is said about parts.
    pub(super) one_piece: bool,
}

impl Announced {
    /// Whether the device can tell a wrong byte.
    const fn is_checked(self) -> bool {
        self.whole || self.is_cut()
    }

    /// Whether the device deals with parts.
    pub(super) const fn is_cut(self) -> bool {
        self.parts && self.says_size && !self.one_piece
    }
}

struct World {
    config: Config,
    at_once: usize,
    announced: Announced,
    link: Link,
    now: nerves_hub_link_protocol::Now,
    disk: Disk,
    server: Server,
    refuses_ranges: bool,
    /// What the applier got, while one is open.
    applied: Option<Vec<u8>>,
    lives: u64,
    completed: bool,
    failed: bool,
    /// Whether the server and the disk do as they should.
    honest: bool,
}

impl World {
    fn new(source: &mut Source<'_>) -> Option<Self> {
        let bits = source.byte();
        let bit = |at: u8| bits >> at & 1 == 1;
        let size = 1 + usize::from(source.short()) % SIZE_MAX;
        let announced =
            Announced { size, says_size: !bit(0), whole: bit(1), parts: !bit(2), one_piece: bit(5) };
        let at_once = 1 + u32::from(bits >> 3 & 3);
        let parts = PartsConfig { part_size: PART, max_part_attempts: 2, max_concurrent_parts: at_once };
        let firmware = FirmwareMeta { uuid: "old".to_owned(), ..FirmwareMeta::default() };
        let mut config = Config::new("hub.example", Auth::Certificate, firmware);
        config.public_keys = vec![KEY.to_owned()];
        config.strategy = if bit(5) { UpdateStrategy::Caching } else { UpdateStrategy::Parts(parts) };
        config.download.max_disconnects = if bit(6) { 2 } else { 200 };
        let now = start();
        let link = Link::new(config.clone(), 1, now).ok()?;
        Some(Self {
            config,
            at_once: if bit(5) { 1 } else { at_once as usize },
            announced,
            link,
            now,
            disk: Disk::new(announced),
            server: Server::default(),
            refuses_ranges: bit(7),
            applied: None,
            lives: 1,
            completed: false,
            failed: false,
            honest: false,
        })
    }

    /// The device starts, connects, and is offered the update.
    fn begin(&mut self) {
        (self.applied, self.completed, self.failed) = (None, false, false);
        self.server = Server::default();
        self.server.refuses_ranges = self.refuses_ranges;
        self.command(Command::Connect);
    }

    /// The device starts anew, with what is on its disk.
    fn restart(&mut self) {
        self.lives += 1;
        if let Ok(link) = Link::new(self.config.clone(), self.lives, self.now) {
            self.link = link;
        }
        self.disk.power_loss();
        self.begin();
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.byte() % 16 {
            0 => self.tick(0),
            1 => self.tick(u64::from(source.short()) * 20),
            2 => self.restart(),
            3 => self.disk.spoil(source),
            4 => {
                if let Some(store) = self.disk.fail() {
                    self.input(Input::StoreFailed { store, reason: "the disk is full" });
                }
            }
            5..=7 => self.disk_works(),
            8 | 9 => self.head(source),
            10..=12 => self.body(source),
            13 => self.end(source),
            14 => self.offer(),
            _ => self.finish(),
        }
    }

    /// Everything does as it should from now on; a device that gave up is asked again, started anew.
    fn heal(&mut self) {
        self.honest = true;
        self.disk.heal();
        for _ in 0..4 {
            self.restart();
            for step in 0..HONEST_STEPS {
                if self.completed || self.failed {
                    break;
                }
                self.disk_works();
                self.server_works();
                self.finish();
                // Time passes to the next deadline only when nobody has anything to do.
                let busy = self.server.pick(0).is_some() || self.disk.is_busy();
                self.tick(u64::from(busy) * (1 + u64::from(step % 8 == 7)));
            }
            if self.completed {
                break;
            }
        }
        let status = self.link.status();
        assert!(self.completed, "no new firmware from an honest server on a sound disk: {status:?}");
    }

    fn tick(&mut self, millis: u64) {
        self.now.mono = self.now.mono + std::time::Duration::from_millis(millis);
        if millis == 0
            && let Some(deadline) = self.link.deadline()
        {
            self.now.mono = self.now.mono.max(deadline.at);
        }
        self.input(Input::Tick);
        let deadline = self.link.deadline();
        assert!(
            deadline.is_none_or(|deadline| deadline.at > self.now.mono),
            "{deadline:?} at {:?}",
            self.now.mono
        );
    }

    fn offer(&mut self) {
        let text = self.disk.offer();
        if let Some(socket) = self.server.socket {
            self.input(Input::SocketText { socket, text: &text });
        }
    }

    fn command(&mut self, command: Command) {
        // Refused when it makes no sense any more.
        let _ = self.link.command(self.now, command);
        self.drain();
    }

    fn input(&mut self, input: Input<'_>) {
        self.link.handle(self.now, input);
        self.drain();
    }

    /// The store does the next thing it was asked to.
    fn disk_works(&mut self) {
        if let Some(store) = self.disk.opening.take() {
            match self.disk.open(&store) {
                Ok(parts) => self.input(Input::StoreOpened { store: store.store, parts: &parts }),
                Err(reason) => self.input(Input::StoreFailed { store: store.store, reason }),
            }
        } else if let Some((fetch, len)) = self.disk.writing.pop_front() {
            self.link.stored(self.now, fetch, len);
            self.drain();
        } else if let Some((store, part)) = self.disk.commits.pop_front() {
            self.disk.commit(part);
            self.input(Input::PartCommitted { store, part });
        } else if let Some(reading) = self.disk.reading.take() {
            let bytes = self.disk.read(reading.from, reading.to);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (chunk, later) = rest.split_at(rest.len().min(700));
                rest = later;
                let keep = self.link.body(self.now, reading.fetch, chunk);
                let kept = chunk.get(keep.range.clone()).unwrap_or_default();
                assert!(kept.is_empty() || reading.into.is_some(), "bytes kept of what was only looked at");
                if let Some(applied) = self.applied.as_mut().filter(|_| !kept.is_empty()) {
                    assert_eq!(keep.offset, applied.len() as u64, "a gap before the applier");
                    applied.extend_from_slice(kept);
                }
                self.link.stored(self.now, reading.fetch, kept.len());
                self.drain();
            }
            self.input(Input::FetchEnd { fetch: reading.fetch });
        }
    }

    /// The answer to a request, as a server may give it.
    fn head(&mut self, source: &mut Source<'_>) {
        let (which, how) = (source.byte(), source.byte());
        let Some(asked) = self.server.pick(which) else { return };
        self.answer(&asked, how);
    }

    fn answer(&mut self, asked: &Asked, how: u8) {
        let size = self.announced.size;
        let (status, range) = self.server.answer(asked, how, size);
        let mut headers = vec![("ETag", "\"one\"")];
        if let Some(range) = &range {
            headers.push(("Content-Range", range));
        }
        self.input(Input::FetchHead { fetch: asked.fetch, status, headers: &headers, interface: None });
    }

    /// Bytes of a response, true or not.
    fn body(&mut self, source: &mut Source<'_>) {
        let (which, length, wrong) = (source.byte(), usize::from(source.short()) % 3000, source.byte());
        if let Some(asked) = self.server.pick(which) {
            self.chunk(&asked, length, wrong < 40);
        }
    }

    fn chunk(&mut self, asked: &Asked, length: usize, wrong: bool) {
        let Some(at) = asked.at else { return };
        let mut bytes: Vec<u8> = (at..at + length).map(published).collect();
        if wrong && let Some(byte) = bytes.last_mut() {
            *byte ^= 0x55;
        }
        self.server.sent(asked.fetch, length);
        let keep = self.link.body(self.now, asked.fetch, &bytes);
        let kept = bytes.get(keep.range.clone()).unwrap_or_default();
        if !kept.is_empty() {
            self.disk.write(keep.offset, kept);
            self.disk.writing.push_back((asked.fetch, kept.len()));
        }
        self.drain();
    }

    fn end(&mut self, source: &mut Source<'_>) {
        let (which, broke) = (source.byte(), source.byte() & 1 == 1);
        let Some(asked) = self.server.pick(which) else { return };
        self.server.forget(asked.fetch);
        if broke {
            self.input(Input::FetchFailed { fetch: asked.fetch, reason: "cut" });
        } else {
            self.input(Input::FetchEnd { fetch: asked.fetch });
        }
    }

    /// An honest server answers each request in full, some bytes at a time.
    fn server_works(&mut self) {
        let Some(asked) = self.server.pick(0) else { return };
        match asked.at {
            None => self.answer(&asked, 0),
            Some(at) if at < asked.end(self.announced.size) => {
                let length = (asked.end(self.announced.size) - at).min(900);
                self.chunk(&asked, length, false);
            }
            Some(_) => {
                self.server.forget(asked.fetch);
                self.input(Input::FetchEnd { fetch: asked.fetch });
            }
        }
        self.server.turn();
    }

    /// The applier ends, if it was told to.
    fn finish(&mut self) {
        if let Some(offer) = self.disk.finishing.take() {
            self.input(Input::ApplyDone { offer });
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.link.poll() {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Probe(probe) => self.link.handle(self.now, Input::Reachable { probe: probe.probe }),
            Output::Dial(dial) => {
                self.server.socket = Some(dial.socket);
                self.link.handle(self.now, Input::SocketUp { socket: dial.socket, interface: None });
            }
            Output::Send { socket, text } => {
                self.link.handle(self.now, Input::SocketSent { socket, frames: 1 });
                if let Some(reply) = Server::reply(&text) {
                    self.link.handle(self.now, Input::SocketText { socket, text: &reply });
                    if text.contains("phx_join") {
                        let offer = self.disk.offer();
                        self.link.handle(self.now, Input::SocketText { socket, text: &offer });
                    }
                }
            }
            Output::HangUp { .. } => self.server.socket = None,
            Output::Fetch(fetch) => {
                assert_eq!(Some(fetch.into), self.disk.store.map(Sink::Store), "a request for no store");
                self.server.ask(&fetch, self.at_once, self.announced.size);
            }
            Output::Abort { fetch } => {
                self.server.forget(fetch);
                self.disk.reading.take_if(|reading| reading.fetch == fetch);
            }
            Output::OpenStore(store) => {
                assert!(self.disk.store.is_none(), "two stores at a time");
                self.disk.store = Some(store.store);
                self.disk.opening = Some(store);
            }
            Output::ReadStore(read) => {
                assert!(self.disk.store == Some(read.store), "reading a store that isn't open");
                assert!(self.disk.reading.is_none(), "two readings at a time");
                self.disk.reading = Some(read);
            }
            Output::CommitPart { store, part } => {
                assert!(self.disk.store == Some(store), "a part of a store that isn't open");
                self.disk.check(part);
                self.disk.commits.push_back((store, part));
            }
            Output::DropPart { part, .. } => self.disk.drop_part(part),
            Output::CloseStore { store, clear } => self.disk.close(store, clear),
            Output::StartApply(_) => {
                assert!(self.applied.replace(Vec::new()).is_none(), "two appliers at a time");
            }
            Output::ContinueApply { .. } => assert!(self.applied.is_none(), "no applier waits"),
            Output::FinishApply { offer } => {
                let applied = self.applied.take();
                assert!(applied.is_some(), "no applier to finish");
                if self.announced.is_checked() || self.honest && self.disk.is_sound() {
                    let whole: Vec<u8> = (0..self.announced.size).map(published).collect();
                    assert!(applied.as_ref() == Some(&whole), "something else than announced was applied");
                }
                self.disk.finishing = Some(offer);
            }
            Output::CancelApply { .. } => self.applied = None,
            // Every life is the first: it is the store that is tried here.
            Output::SaveAttempts { .. }
            | Output::SaveHistory { .. }
            | Output::SaveNewest { .. }
            | Output::Reboot { .. } => {}
            Output::SendBinary { .. } => assert_ne!(self.config.serializer, Serializer::Json, "bytes sent"),
            Output::VerifyArchive(verify) => {
                assert!(verify.public_keys.is_empty(), "nobody offered an archive");
            }
            Output::Event(event) => self.event(&event),
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::UpdateOffered { offer, .. } => {
                let _ =
                    self.link.command(self.now, Command::Decide { offer: *offer, decision: Decision::Apply });
            }
            Event::UpdateCompleted { .. } => self.completed = true,
            Event::UpdateFailed { .. } | Event::UpdateRefused { .. } => {
                self.failed = true;
                self.applied = None;
                self.disk.finishing = None;
            }
            _ => {}
        }
    }
}
