//! The machine and everything it has under way: carries out orders, tells facts, and never waits.

mod operators;
mod stores;

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nerves_hub_link_platform::health::HealthSampler;
use nerves_hub_link_protocol::{
    Client, Command, Config, ConfigError, Event, ExtensionCommand, FetchId, FirmwareMeta, Input, Link, Now,
    Output, Probe, ProbeId, Sink, StartApply, client,
};
use nerves_hub_link_transport::limits::BODY_PIECE_MAX;
use nerves_hub_link_transport::{Address, Tls};

use crate::applier::{Applier, SharedInstaller, panic_text};
use crate::buffer::Buffer;
use crate::chores::{Chores, Done};
use crate::clock;
use crate::connection::{Download, Step, Websocket};
use crate::control::{Control, Exit, Order, Shared};
use crate::crew::Crew;
use crate::dial::{Attempt, Connector, Dialled};
use crate::health::Question;
use crate::inbox::Files;
use crate::keeper::Keeper;
use crate::limits::FETCHES_MAX;
use crate::memory::Memory;
use crate::options::Options;
use crate::shells::Shells;
use crate::signal::Signals;
use crate::tcp::{Interest, Network};
use operators::Upload;
use stores::has_room;

pub(crate) use stores::Folders;

/// Why a device can't run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The settings make no sense.
    #[error("the configuration cannot be used: {0}")]
    Config(#[from] ConfigError),
    /// The operating system did not give what the loop needs.
    #[error("cannot set up the device's loop: {0}")]
    System(#[from] std::io::Error),
}

/// A device: the machine, its connections, and the threads that work for it.
///
/// A loop calls [`turn`](Self::turn), waits for what the engine tells it to, and calls it again:
///
/// ```text
/// loop {
///     if let Some(exit) = engine.turn() { break exit; }
///     wait until: the signals' wake(), one of engine.interests(), or engine.time_left() is over
/// }
/// ```
///
/// Nothing here waits or blocks: all that may runs on threads. Dropping it at any moment closes the connections; the
/// threads end by themselves after what they are writing.
pub struct Engine<N: Network> {
    link: Link,
    running: FirmwareMeta,
    client: Box<dyn Client + Send>,
    notice: Box<dyn FnMut(&str) + Send>,
    socket_tls: Tls,
    download_tls: Tls,
    installer: SharedInstaller,
    shared: Arc<Shared>,
    crew: Crew,
    orders: Receiver<Order>,
    connector: Connector<N>,
    /// A look for the network under way.
    probe: Option<(ProbeId, Attempt)>,
    /// Whether to go online at the start.
    connect: bool,
    /// Lent while it is written; until it is back, nothing else is done.
    memory: Option<Memory>,
    websocket: Option<Websocket<N::Tcp>>,
    downloads: Vec<Download<N::Tcp>>,
    applier: Option<Applier>,
    /// Where downloads are kept, and those that are open.
    folders: Folders,
    keepers: Vec<Keeper>,
    /// Lent while it is asked.
    health: Option<HealthSampler>,
    shells: Shells,
    files: Files,
    upload: Upload,
    chores: Chores,
    /// For what is read; only ever used within one call.
    buffer: Buffer,
    exit: Option<Exit>,
    /// Everything was told to end.
    closing: bool,
}

/// What to wait for. All of it is meant as a state and not as a change: what is ready already ends the wait at once, also
/// when it was so before the last turn, which doesn't read a connection to its end.
#[derive(Debug)]
pub struct Interests<'a, T> {
    /// Connections, each until one of these.
    pub connections: Vec<(&'a T, Interest)>,
    /// Terminals and processes of operators' shells, each until one of these. A process that ended can be read.
    pub descriptors: Vec<(BorrowedFd<'a>, Interest)>,
}

impl<N: Network> Engine<N> {
    /// Checks the settings and gets ready. Nothing is connected yet. Reads what
    /// [`Options::remember_attempts`] keeps.
    ///
    /// # Errors
    ///
    /// If the settings make no sense, or the system gives no random numbers.
    pub fn new(
        mut config: Config,
        mut options: Options,
        network: N,
        signals: Arc<dyn Signals>,
    ) -> Result<Self, RunnerError> {
        let seed = match options.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))?,
        };
        match options.memory.attempts() {
            Ok(attempts) => config.past_attempts.extend(attempts),
            Err(reason) => (options.notice)(&reason),
        }
        let link = Link::new(config, seed, clock::at(network.now()))?;
        let (shared, orders) = Shared::new(link.status(), Arc::clone(&signals));
        let crew = Crew::new(Arc::clone(&signals));
        Ok(Self {
            running: link.running().clone(),
            link,
            client: options.client,
            notice: options.notice,
            socket_tls: options.socket_tls,
            download_tls: options.download_tls,
            installer: Arc::new(Mutex::new(options.installer)),
            connector: Connector::new(network, signals, options.proxy),
            files: Files::new(options.data_path, crew.clone()),
            chores: Chores::new(crew.clone()),
            health: options.health,
            shells: Shells::new(options.shell),
            upload: Upload::default(),
            shared,
            crew,
            orders,
            probe: None,
            connect: options.connect,
            memory: Some(options.memory),
            websocket: None,
            downloads: Vec::new(),
            applier: None,
            folders: options.folders,
            keepers: Vec::new(),
            buffer: Buffer::default(),
            exit: None,
            closing: false,
        })
    }

    /// Returns the application's end.
    pub fn control(&self) -> Control {
        self.shared.control()
    }

    /// Does all that can be done now. Returns how the device ended, once it has and no thread of it writes any more; drop
    /// the engine then, and tell [`Control::end`].
    pub fn turn(&mut self) -> Option<Exit> {
        self.take_chores();
        if self.memory.is_some() && !self.closing {
            if std::mem::take(&mut self.connect) {
                self.order(Command::Connect);
            }
            self.tick();
            self.take_news();
            self.take_store_news();
            self.serve_operators();
            self.serve_websocket();
            self.serve_downloads();
            self.drain();
            self.flush();
            self.shared.publish(self.link.status());
            if self.exit.is_some() && self.memory.is_some() {
                self.close();
            }
        }
        if self.downloads.is_empty() {
            self.buffer.release();
        }
        if self.closing && self.crew.is_idle() { self.exit.clone() } else { None }
    }

    /// Ends the device because its loop can't go on. [`turn`](Self::turn) says when it has ended.
    pub fn fail(&mut self, reason: String) {
        self.exit.get_or_insert(Exit::Failed { reason });
        self.close();
    }

    /// Returns how long to wait at most, if there is a limit.
    pub fn time_left(&self) -> Option<Duration> {
        if self.closing || self.memory.is_none() {
            return None;
        }
        let now = self.connector.network.now();
        let wires =
            self.downloads.iter().flat_map(|download| [download.wire.deadline(), download.pause(now)]);
        let dial = self.websocket.as_ref().and_then(|websocket| websocket.wire.deadline());
        let link = self.link.deadline().map(|deadline| deadline.at);
        let next = wires.chain([dial, link]).flatten().min();
        let readable = |download: &Download<N::Tcp>| self.takes_more_of(download, now);
        let broken = self.websocket.as_ref().is_some_and(|websocket| websocket.wire.is_broken())
            || self.downloads.iter().any(|download| download.wire.is_broken() && readable(download));
        if broken {
            // What broke since it was last looked at must be told at once.
            return Some(Duration::ZERO);
        }
        // Rounded up, so that waiting for it never falls short.
        let left = next.map(|at| at.saturating_since(now));
        left.map(|left| if left.is_zero() { left } else { left + Duration::from_micros(1) })
    }

    /// Returns what to wait for beside [`Signals::wake`] and the time.
    pub fn interests(&mut self) -> Interests<'_, N::Tcp> {
        let mut interests = Interests { connections: Vec::new(), descriptors: Vec::new() };
        if self.closing || self.memory.is_none() {
            return interests;
        }
        let now = self.connector.network.now();
        interests.connections.extend(self.websocket.as_mut().and_then(|it| it.wire.interest(true)));
        let (applier, keepers) = (self.applier.as_ref(), &self.keepers);
        for download in &mut self.downloads {
            let room =
                download.pause(now).is_none() && has_room(applier, keepers, download.into, BODY_PIECE_MAX);
            interests.connections.extend(download.wire.interest(room));
        }
        interests.descriptors.extend(self.shells.interests());
        interests
    }

    fn now(&self) -> Now {
        clock::at(self.connector.network.now())
    }

    /// Ends everything. What threads are writing is finished.
    fn close(&mut self) {
        self.closing = true;
        if let Some(websocket) = self.websocket.take() {
            websocket.wire.hang_up(self.buffer.get());
        }
        self.downloads.clear();
        self.applier = None;
        self.keepers.clear();
        self.files.close();
        self.chores.close();
        self.shells.close();
    }

    /// Takes what was done on the thread for what may block.
    fn take_chores(&mut self) {
        while let Some(done) = self.chores.done() {
            match done {
                Done::Remembered(memory, result) => {
                    self.memory = Some(memory);
                    if let Err(reason) = result {
                        (self.notice)(&reason);
                    }
                }
                Done::Sampled(sampler, answer) => {
                    self.health = Some(*sampler);
                    self.order(Command::Extension(answer));
                }
                Done::Read(upload, file, piece) => self.read(upload, file, piece),
                Done::Panicked(text) => {
                    // Whatever it needed is lost, and the device goes on without.
                    (self.notice)(&format!("a task of the device panicked: {text}"));
                }
            }
        }
    }

    /// Keeps the attempts. Nothing else is done until they are on the disk, as the machine wants it.
    fn remember(&mut self, attempts: Vec<nerves_hub_link_protocol::Attempt>) {
        let Some(mut memory) = self.memory.take_if(|memory| !memory.is_none()) else { return };
        let work = move || {
            // The device waits for this one, whatever the application's store does.
            let kept = catch_unwind(AssertUnwindSafe(|| memory.keep(&attempts)));
            let panicked = |panic: Box<dyn std::any::Any + Send>| {
                Err(format!("the store of attempts panicked: {}", panic_text(&*panic)))
            };
            Done::Remembered(memory, kept.unwrap_or_else(panicked))
        };
        if let Err(reason) = self.chores.give(work) {
            (self.notice)(&format!(
                "how often updates were tried is remembered only until the next restart: {reason}"
            ));
            self.memory = Some(Memory::none());
        }
    }

    fn takes_more_of(&self, download: &Download<N::Tcp>, now: nerves_hub_link_protocol::Instant) -> bool {
        let room = has_room(self.applier.as_ref(), &self.keepers, download.into, BODY_PIECE_MAX);
        download.pause(now).is_none() && room
    }

    /// Takes what other threads have to say: the application, the connectors, the applier.
    fn take_news(&mut self) {
        if self.shared.stopping() && self.exit.is_none() {
            self.order(Command::Disconnect);
            self.exit = Some(Exit::Stopped);
        }
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Command(command) => self.order(command),
                Order::SendFile(file) => self.send_file(file),
                Order::CancelUpload => self.cancel_upload(),
            }
        }
        while let Some(Dialled { attempt, result }) = self.connector.ended() {
            if let Some((probe, _)) = self.probe.take_if(|(_, ours)| *ours == attempt) {
                let reason = result.err();
                self.probed(probe, reason.as_deref());
                continue;
            }
            // A connection nobody waits for any more is closed by being dropped.
            let socket = self.websocket.as_mut().map(|websocket| &mut websocket.wire);
            if let Some(wire) = socket.filter(|wire| wire.awaits(attempt)) {
                wire.dialled(result);
            } else if let Some(download) = self.downloads.iter_mut().find(|d| d.wire.awaits(attempt)) {
                download.wire.dialled(result);
            }
        }
        self.take_applier_news();
    }

    fn take_applier_news(&mut self) {
        let Some(applier) = &self.applier else { return };
        let (offer, news) = (applier.offer, applier.news());
        let now = self.now();
        for (fetch, len) in news.stored {
            self.link.stored(now, fetch, len);
        }
        for remark in news.remarks {
            (self.notice)(&remark);
        }
        if let Some(percent) = news.percent {
            self.link.handle(now, Input::ApplyProgress { offer, percent });
        }
        if let Some(end) = news.end {
            self.applier = None;
            match end {
                Ok(()) => self.link.handle(now, Input::ApplyDone { offer }),
                Err(reason) => self.link.handle(now, Input::ApplyFailed { offer, reason: &reason }),
            }
        }
        self.drain();
    }

    fn serve_websocket(&mut self) {
        if let Some(websocket) = &mut self.websocket {
            websocket.wire.read(self.buffer.get());
        }
        loop {
            let now = self.now();
            let Some(websocket) = &mut self.websocket else { return };
            match websocket.step(&mut self.link, now) {
                Step::More | Step::Keep(..) => self.drain(),
                Step::Idle => return,
                Step::Gone => {
                    if let Some(websocket) = self.websocket.take() {
                        websocket.wire.hang_up(self.buffer.get());
                    }
                    self.drain();
                    return;
                }
            }
        }
    }

    fn serve_downloads(&mut self) {
        let served: Vec<FetchId> = self.downloads.iter().map(|download| download.id).collect();
        for id in served {
            let (applier, keepers) = (self.applier.as_ref(), &self.keepers);
            let now = self.connector.network.now();
            if let Some(download) = self.downloads.iter_mut().find(|download| download.id == id)
                && download.pause(now).is_none()
                && has_room(applier, keepers, download.into, BODY_PIECE_MAX)
                && download.wire.read(self.buffer.get()) > 0
            {
                // The first bytes mean that TCP and TLS are up; from here the machine's own timer runs.
                download.wire.settle();
            }
            self.serve_download(id);
        }
    }

    fn serve_download(&mut self, id: FetchId) {
        loop {
            let now = self.now();
            let Some(download) = self.downloads.iter_mut().find(|download| download.id == id) else { return };
            let into = download.into;
            if download.pause(now.mono).is_some()
                || !has_room(self.applier.as_ref(), &self.keepers, into, BODY_PIECE_MAX)
            {
                return;
            }
            match download.step(&mut self.link, now) {
                Step::Idle => return,
                Step::More => self.drain(),
                Step::Gone => {
                    self.downloads.retain(|download| download.id != id);
                    self.drain();
                    return;
                }
                Step::Keep(offset, piece) => {
                    self.drain();
                    if !piece.is_empty() {
                        self.hand_over(id, into, offset, piece);
                    }
                }
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        if let Some(websocket) = &mut self.websocket {
            websocket.wire.expire(now.mono);
        }
        for download in &mut self.downloads {
            download.wire.expire(now.mono);
        }
        if self.link.deadline().is_some_and(|deadline| deadline.at <= now.mono) {
            self.link.handle(now, Input::Tick);
        }
    }

    /// Writes what can be written; what that sets free is carried out and written too.
    fn flush(&mut self) {
        for download in &mut self.downloads {
            download.wire.flush();
        }
        while let Some(websocket) = &mut self.websocket {
            let (socket, frames) = (websocket.id, websocket.flush());
            if frames == 0 {
                return;
            }
            self.link.handle(self.now(), Input::SocketSent { socket, frames });
            self.drain();
        }
    }

    fn drain(&mut self) {
        // Not past what has to be on the disk first.
        while self.memory.is_some()
            && let Some(output) = self.link.poll()
        {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        let now = self.now();
        match output {
            Output::Probe(probe) => self.look_for_network(&probe),
            Output::Dial(dial) => {
                self.probe = None;
                match Websocket::dial(&dial, &self.socket_tls, &mut self.connector, now.mono) {
                    Ok(websocket) => self.websocket = Some(websocket),
                    Err(reason) => {
                        let down = Input::SocketDown { socket: dial.socket, code: None, reason: &reason };
                        self.link.handle(now, down);
                    }
                }
            }
            Output::Send { socket, text } => {
                if let Some(websocket) = self.websocket.as_mut().filter(|it| it.id == socket) {
                    websocket.send(&text);
                }
            }
            Output::SendBinary { socket, data } => {
                if let Some(websocket) = self.websocket.as_mut().filter(|it| it.id == socket) {
                    websocket.send_binary(&data);
                }
            }
            Output::HangUp { socket, code, reason } => {
                if let Some(mut websocket) = self.websocket.take_if(|it| it.id == socket) {
                    websocket.wire.machine.close(code, &reason);
                    websocket.wire.hang_up(self.buffer.get());
                }
            }
            Output::Fetch(fetch) => {
                let started = if self.downloads.len() < FETCHES_MAX {
                    Download::start(&fetch, &self.download_tls, &mut self.connector, now.mono)
                } else {
                    Err(format!("{FETCHES_MAX} requests for firmware are open already"))
                };
                match started {
                    Ok(download) => self.downloads.push(download),
                    Err(reason) => {
                        self.link.handle(now, Input::FetchFailed { fetch: fetch.fetch, reason: &reason });
                    }
                }
            }
            Output::OpenStore(open) => self.open_store(open),
            Output::ReadStore(read) => self.with_keeper(read.store, |keeper| keeper.read(read)),
            Output::VerifyArchive(verify) => {
                self.with_keeper(verify.store, |keeper| keeper.verify(verify.public_keys));
            }
            Output::CommitPart { store, part } => self.with_keeper(store, |keeper| keeper.commit(part)),
            Output::DropPart { store, part } => self.with_keeper(store, |keeper| keeper.drop_part(part)),
            Output::CloseStore { store, clear } => self.close_store(store, clear),
            Output::Abort { fetch } => {
                self.downloads.retain(|download| download.id != fetch);
                self.keepers.iter().for_each(|keeper| keeper.abort(fetch));
            }
            Output::StartApply(start) => self.start_apply(start),
            Output::FinishApply { offer } => {
                if let Some(applier) = self.applier.as_ref().filter(|it| it.offer == offer) {
                    applier.finish();
                }
            }
            Output::CancelApply { offer } => {
                if self.applier.as_ref().is_some_and(|it| it.offer == offer) {
                    self.applier = None;
                }
            }
            Output::SaveAttempts { attempts } => self.remember(attempts),
            Output::Reboot { reason } => {
                let client = &mut self.client;
                let called = catch_unwind(AssertUnwindSafe(|| client.reboot(&reason)));
                self.tell_panic("reboot", called);
                self.exit.get_or_insert(Exit::Reboot { reason });
            }
            Output::Event(event) => self.tell(&event),
        }
    }

    fn look_for_network(&mut self, probe: &Probe) {
        self.probe = None;
        let started = Address::parse(&probe.url).map_err(|error| error.to_string());
        match started.and_then(|address| self.connector.start(address, probe.timeout)) {
            Ok(attempt) => self.probe = Some((probe.probe, attempt)),
            Err(reason) => self.probed(probe.probe, Some(&reason)),
        }
    }

    fn probed(&mut self, probe: ProbeId, error: Option<&str>) {
        let input = match error {
            None => Input::Reachable { probe },
            Some(reason) => Input::Unreachable { probe, reason },
        };
        self.link.handle(self.now(), input);
    }

    /// Hands bytes of a download over to where it goes.
    fn hand_over(&mut self, fetch: FetchId, into: Sink, offset: u64, piece: Vec<u8>) {
        match into {
            Sink::Applier(offer) => {
                if let Some(applier) = self.applier.as_ref().filter(|applier| applier.offer == offer) {
                    applier.push(fetch, piece);
                }
            }
            Sink::Store(store) => self.with_keeper(store, |keeper| keeper.write(fetch, offset, piece)),
        }
    }

    fn start_apply(&mut self, start: StartApply) {
        self.applier = None;
        let installer = Arc::clone(&self.installer);
        match Applier::start(start.offer, start.public_keys, installer, &self.crew) {
            Ok(applier) => self.applier = Some(applier),
            Err(error) => {
                let reason = format!("cannot start a thread to apply the update: {error}");
                let failed = Input::ApplyFailed { offer: start.offer, reason: &reason };
                self.link.handle(self.now(), failed);
            }
        }
    }

    /// Tells the application an event. Its answer, if any, goes back to the machine; for a callback that panics, the
    /// default one answers.
    fn tell(&mut self, event: &Event) {
        // First, so that a callback that asks the handle gets the news it was called for.
        self.shared.observe(event);
        self.shared.publish(self.link.status());
        if self.operate(event) {
            return self.show(event);
        }
        let (client, running) = (&mut *self.client, &self.running);
        let called = catch_unwind(AssertUnwindSafe(|| client::deliver(client, running, event)));
        let failed = called.as_ref().err().map(|panic| panic_text(&**panic).to_owned());
        let answer = match self.tell_panic("event", called) {
            Some(answer) => answer,
            // What the default callback would have said, so that a bad application can still be replaced.
            None => client::fallback(&self.running, event),
        };
        if let Some(command) = answer.or_else(|| self.answer_health(event, failed)) {
            self.order(command);
        }
    }

    /// Answers a question about the device's health that the application left open.
    fn answer_health(&mut self, event: &Event, failed: Option<String>) -> Option<Command> {
        let question = Question::of(event)?;
        if let (Question::Health, Some(reason)) = (question, failed) {
            return Some(ExtensionCommand::HealthFailed { reason }.into());
        }
        let mut sampler = Box::new(self.health.take()?);
        let work = move || {
            let answer = question.answer(&mut sampler);
            Done::Sampled(sampler, answer)
        };
        let given = self.chores.give(work);
        given.err().map(|reason| ExtensionCommand::HealthFailed { reason }.into())
    }

    fn tell_panic<T>(&mut self, what: &str, called: std::thread::Result<T>) -> Option<T> {
        called
            .map_err(|panic| {
                let text = panic_text(&*panic);
                (self.notice)(&format!("a callback of the application panicked on {what}: {text}"));
            })
            .ok()
    }

    fn order(&mut self, command: Command) {
        if let Err(error) = self.link.command(self.now(), command) {
            (self.notice)(&format!("a command was refused: {error}"));
        }
    }
}

impl<N: Network> std::fmt::Debug for Engine<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
