//! The loop: one thread that owns the machine, waits with `poll(2)` and carries out orders.

mod operators;
mod stores;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nerves_hub_link_platform::health::HealthSampler;
use nerves_hub_link_protocol::{
    Client, Command, Config, Event, ExtensionCommand, ExtensionEvent, FetchId, FirmwareMeta, Input, Link,
    Output, Probe, ProbeId, Sink, StartApply, client,
};
use nerves_hub_link_transport::limits::BODY_PIECE_MAX;
use nerves_hub_link_transport::{Address, Tls};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::applier::{Applier, SharedInstaller, panic_text};
use crate::clock::Clock;
use crate::connect::{Attempt, Connector, Dialled};
use crate::connection::{Download, Step, Websocket};
use crate::handle::{Exit, Order, Shared};
use crate::health;
use crate::inbox::Files;
use crate::keeper::Keeper;
use crate::limits::{FETCHES_MAX, READ_MAX};
use crate::memory::Memory;
use crate::options::Options;
use crate::runner::RunnerError;
use crate::shells::Shells;
use operators::Upload;
use stores::has_room;

pub(crate) use stores::Folders;

/// The machine and everything it has under way.
pub(crate) struct Engine {
    link: Link,
    clock: Clock,
    running: FirmwareMeta,
    client: Box<dyn Client + Send>,
    notice: Box<dyn FnMut(&str) + Send>,
    socket_tls: Tls,
    download_tls: Tls,
    installer: SharedInstaller,
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    connector: Connector,
    dialled: Receiver<Dialled>,
    /// A look for the network under way.
    probe: Option<(ProbeId, Attempt)>,
    /// Whether to go online at the start.
    connect: bool,
    memory: Memory,
    websocket: Option<Websocket>,
    downloads: Vec<Download>,
    applier: Option<Applier>,
    /// Where downloads are kept, and those that are open.
    folders: Folders,
    keepers: Vec<Keeper>,
    health: Option<HealthSampler>,
    shells: Shells,
    files: Files,
    upload: Upload,
    /// Appliers and stores that were cancelled and may be ending still.
    retired: Vec<JoinHandle<()>>,
    /// For what is read; only ever used within one call.
    buffer: Vec<u8>,
    exit: Option<Exit>,
}

impl Engine {
    pub(crate) fn new(mut config: Config, mut options: Options) -> Result<Self, RunnerError> {
        let seed = match options.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))?,
        };
        let clock = Clock::new();
        match options.memory.attempts() {
            Ok(attempts) => config.past_attempts.extend(attempts),
            Err(reason) => (options.notice)(&reason),
        }
        let link = Link::new(config, seed, clock.now())?;
        let (shared, orders) = Shared::new(link.status())?;
        let (results, dialled) = channel();
        Ok(Self {
            running: link.running().clone(),
            link,
            clock,
            client: options.client,
            notice: options.notice,
            socket_tls: options.socket_tls,
            download_tls: options.download_tls,
            installer: Arc::new(Mutex::new(options.installer)),
            connector: Connector::new(results, shared.waker.clone(), options.proxy),
            files: Files::new(options.data_path, shared.waker.clone()),
            health: options.health,
            shells: Shells::new(options.shell),
            upload: Upload::default(),
            shared,
            orders,
            dialled,
            probe: None,
            connect: options.connect,
            memory: options.memory,
            websocket: None,
            downloads: Vec::new(),
            applier: None,
            folders: options.folders,
            keepers: Vec::new(),
            retired: Vec::new(),
            buffer: vec![0; READ_MAX],
            exit: None,
        })
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Runs until told to stop or to reboot. When it returns, no thread of this device writes any more.
    pub(crate) fn run(mut self) -> Exit {
        if self.connect {
            self.order(Command::Connect);
        }
        let exit = loop {
            self.drain();
            self.flush();
            self.shared.publish(self.link.status());
            if let Some(exit) = self.exit.take() {
                break exit;
            }
            if let Err(error) = self.wait() {
                break Exit::Failed { reason: format!("cannot wait for connections: {error}") };
            }
            self.tick();
            self.take_news();
            self.take_store_news();
            self.serve_operators();
            self.serve_websocket();
            self.serve_downloads();
        };
        if let Some(websocket) = self.websocket.take() {
            websocket.wire.hang_up(&mut self.buffer);
        }
        self.retire_applier();
        self.retired.extend(self.keepers.drain(..).filter_map(Keeper::cancel));
        self.retired.extend(self.files.close());
        for thread in self.retired {
            // A panic in it was caught and told already.
            let _ = thread.join();
        }
        exit
    }

    /// Sleeps until a connection, another thread or a deadline wants something.
    fn wait(&mut self) -> std::io::Result<()> {
        let now = self.clock.mono();
        let wires =
            self.downloads.iter().flat_map(|download| [download.wire.deadline(), download.pause(now)]);
        let dial = self.websocket.as_ref().and_then(|websocket| websocket.wire.deadline());
        let link = self.link.deadline().map(|deadline| deadline.at);
        let next = wires.chain([dial, link]).flatten().min();
        let (applier, keepers) = (self.applier.as_ref(), &self.keepers);
        let readable = |download: &Download| {
            download.pause(now).is_none() && has_room(applier, keepers, download.into, BODY_PIECE_MAX)
        };
        let broken = self.websocket.as_ref().is_some_and(|websocket| websocket.wire.is_broken())
            || self.downloads.iter().any(|download| download.wire.is_broken() && readable(download));
        // What broke since it was last looked at must be told at once.
        let left = if broken { Some(Duration::ZERO) } else { next.map(|at| self.clock.until(at)) };
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let mut interests = vec![PollFd::new(&self.shared.waker, PollFlags::IN)];
        interests.extend(self.websocket.as_mut().and_then(|websocket| websocket.wire.interest(true)));
        for download in &mut self.downloads {
            let room = readable(download);
            interests.extend(download.wire.interest(room));
        }
        self.shells.interests(&mut interests);
        match poll(&mut interests, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        drop(interests);
        self.shared.waker.clear();
        Ok(())
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
        while let Ok(Dialled { attempt, result }) = self.dialled.try_recv() {
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
        self.retired.retain(|thread| !thread.is_finished());
    }

    fn take_applier_news(&mut self) {
        let Some(applier) = &self.applier else { return };
        let (offer, news) = (applier.offer, applier.news());
        let now = self.clock.now();
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
            self.retire_applier();
            match end {
                Ok(()) => self.link.handle(now, Input::ApplyDone { offer }),
                Err(reason) => self.link.handle(now, Input::ApplyFailed { offer, reason: &reason }),
            }
        }
        self.drain();
    }

    fn serve_websocket(&mut self) {
        if let Some(websocket) = &mut self.websocket {
            websocket.wire.read(&mut self.buffer);
        }
        loop {
            let now = self.clock.now();
            let Some(websocket) = &mut self.websocket else { return };
            match websocket.step(&mut self.link, now) {
                Step::More | Step::Keep(..) => self.drain(),
                Step::Idle => return,
                Step::Gone => {
                    if let Some(websocket) = self.websocket.take() {
                        websocket.wire.hang_up(&mut self.buffer);
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
            if let Some(download) = self.downloads.iter_mut().find(|download| download.id == id)
                && download.pause(self.clock.mono()).is_none()
                && has_room(applier, keepers, download.into, BODY_PIECE_MAX)
                && download.wire.read(&mut self.buffer) > 0
            {
                // The first bytes mean that TCP and TLS are up; from here the machine's own timer runs.
                download.wire.settle();
            }
            self.serve_download(id);
        }
    }

    fn serve_download(&mut self, id: FetchId) {
        loop {
            let now = self.clock.now();
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
        let now = self.clock.now();
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
            self.link.handle(self.clock.now(), Input::SocketSent { socket, frames });
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.link.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        let now = self.clock.now();
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
                    websocket.wire.hang_up(&mut self.buffer);
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
                    self.retire_applier();
                }
            }
            Output::SaveAttempts { attempts } => {
                if let Err(reason) = self.memory.keep(&attempts) {
                    (self.notice)(&reason);
                }
            }
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
        self.link.handle(self.clock.now(), input);
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
        self.retire_applier();
        let (installer, waker) = (Arc::clone(&self.installer), self.shared.waker.clone());
        match Applier::start(start.offer, start.public_keys, installer, waker) {
            Ok(applier) => self.applier = Some(applier),
            Err(error) => {
                let reason = format!("cannot start a thread to apply the update: {error}");
                let failed = Input::ApplyFailed { offer: start.offer, reason: &reason };
                self.link.handle(self.clock.now(), failed);
            }
        }
    }

    fn retire_applier(&mut self) {
        self.retired.extend(self.applier.take().and_then(Applier::cancel));
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
        let asked = matches!(event, Event::Extension(ExtensionEvent::HealthRequested));
        if let (true, Some(reason)) = (asked, failed) {
            return Some(ExtensionCommand::HealthFailed { reason }.into());
        }
        self.health.as_mut().and_then(|sampler| health::answer(sampler, event)).map(Command::Extension)
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
        if let Err(error) = self.link.command(self.clock.now(), command) {
            (self.notice)(&format!("a command was refused: {error}"));
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
