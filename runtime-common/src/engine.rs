//! The machine and everything it has under way: carries out orders, tells facts, and never waits.

mod carry;
mod operators;
mod ready;
mod serve;
mod stores;
mod tell;

use std::os::fd::BorrowedFd;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nerves_hub_link_platform::health::HealthSampler;
use nerves_hub_link_protocol::{
    Client, Command, Config, ConfigError, FirmwareMeta, Instant, Link, Now, ProbeId,
};
use nerves_hub_link_transport::Tls;
use nerves_hub_link_transport::limits::BODY_PIECE_MAX;

use crate::applier::{Applier, SharedInstaller};
use crate::buffer::Buffer;
use crate::clock;
use crate::closing::Closing;
use crate::connection::{Download, Websocket};
use crate::control::{Control, Exit, Order, Shared};
use crate::dial::{Attempt, Connector};
use crate::inbox::Files;
use crate::limits::{RECALL_MIN, THREADS_END_MAX};
use crate::memory::Memory;
use crate::options::Options;
use crate::shells::Shells;
use crate::signal::Signals;
use crate::store::Store;
use crate::tasks::Tasks;
use crate::tcp::{Interest, Network};
use crate::threads::Threads;
use crate::time_limit::TimeLimit;
use operators::Upload;
use ready::Readiness;
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
    /// The TLS settings for downloads cannot be made from those of the socket.
    #[error("cannot set up TLS for downloads: {0}")]
    Tls(#[from] nerves_hub_link_transport::TlsError),
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
    threads: Threads,
    orders: Receiver<Order>,
    connector: Connector<N>,
    /// A look for the network under way.
    probe: Option<(ProbeId, Attempt)>,
    /// Whether to go online at the start.
    connect: bool,
    /// Lent while it is written; until it is back, nothing else is done, for [`REMEMBER_MAX`] at most.
    memory: Option<Memory>,
    /// The thread that writes it, which does nothing else, and the time limit for it.
    remembering: Tasks,
    lent: Option<TimeLimit>,
    /// How long it may be away.
    lend_max: Duration,
    ready: Readiness,
    websocket: Option<Websocket<N::Tcp>>,
    /// WebSockets that the machine is done with.
    hanging_up: Closing<N::Tcp>,
    downloads: Vec<Download<N::Tcp>>,
    applier: Option<Applier>,
    /// Where downloads are kept, and those that are open.
    folders: Folders,
    stores: Vec<Store>,
    /// Lent while it is asked.
    health: Option<HealthSampler>,
    shells: Shells,
    files: Files,
    upload: Upload,
    tasks: Tasks,
    /// For what is read; only ever used within one call.
    buffer: Buffer,
    exit: Option<Exit>,
    /// Everything was told to end.
    closing: bool,
    /// How long threads may take to end.
    end_limit: Option<TimeLimit>,
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
    /// [`Options::remember_attempts`] keeps, for [`Options::attempts_limit`] at most.
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
        let (memory, past) = options.memory.read(options.attempts_limit.max(RECALL_MIN));
        past.recall(&mut config, &mut options.notice);
        let download_tls = match options.download_tls {
            Some(tls) => tls,
            None => options.socket_tls.for_downloads()?,
        };
        let threads = Threads::new(Arc::clone(&signals));
        let now = network.now();
        let ready = Readiness::new(&config, options.install_checks, &threads, now);
        let link = Link::new(config, seed, clock::at(now))?;
        let (shared, orders) = Shared::new(link.status(), Arc::clone(&signals));
        Ok(Self {
            ready,
            remembering: Tasks::new(&threads),
            lent: None,
            lend_max: options.attempts_limit,
            end_limit: None,
            running: link.running().clone(),
            link,
            client: options.client,
            notice: options.notice,
            socket_tls: options.socket_tls,
            download_tls,
            installer: Arc::new(Mutex::new(options.installer)),
            connector: Connector::new(network, signals, options.proxy),
            files: Files::new(options.data_path, &threads),
            tasks: Tasks::new(&threads),
            health: options.health,
            shells: Shells::new(options.shell),
            upload: Upload::default(),
            shared,
            threads,
            orders,
            probe: None,
            connect: options.connect,
            memory: Some(memory),
            websocket: None,
            hanging_up: Closing::default(),
            downloads: Vec::new(),
            applier: None,
            folders: options.folders,
            stores: Vec::new(),
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
        self.take_outcomes();
        self.miss_memory();
        if self.memory.is_some() && !self.closing {
            if std::mem::take(&mut self.connect) {
                self.order(Command::Connect);
            }
            self.tick();
            self.check_install();
            self.take_reports();
            self.take_store_reports();
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
        let now = self.connector.network.now();
        if !self.hanging_up.is_empty() {
            self.hanging_up.turn(now, self.buffer.get());
        }
        if self.downloads.is_empty() {
            self.buffer.release();
        }
        if self.closing && self.hanging_up.is_empty() && (self.threads.is_idle() || self.is_out_of_time(now))
        {
            return self.exit.clone();
        }
        None
    }

    /// Ends the device because its loop can't go on. [`turn`](Self::turn) says when it has ended.
    pub fn fail(&mut self, reason: String) {
        self.exit.get_or_insert(Exit::Failed { reason });
        self.close();
    }

    /// Returns how long to wait at most, if there is a limit.
    pub fn time_left(&self) -> Option<Duration> {
        let now = self.connector.network.now();
        if self.closing || self.memory.is_none() {
            let waits = if self.closing { &self.end_limit } else { &self.lent };
            let waits = waits.as_ref().map(TimeLimit::until);
            return self.hanging_up.deadline().into_iter().chain(waits).min().map(|at| until(at, now));
        }
        let wires =
            self.downloads.iter().flat_map(|download| [download.wire.deadline(), download.pause(now)]);
        let dial = self.websocket.as_ref().and_then(|websocket| websocket.wire.deadline());
        let link = self.link.deadline().map(|deadline| deadline.at);
        let next =
            wires.chain([dial, link, self.hanging_up.deadline(), self.ready.deadline()]).flatten().min();
        let readable = |download: &Download<N::Tcp>| self.takes_more_of(download, now);
        let broken = self.websocket.as_ref().is_some_and(|websocket| websocket.wire.is_broken())
            || self.downloads.iter().any(|download| download.wire.is_broken() && readable(download));
        if broken {
            // What broke since it was last looked at must be told at once.
            return Some(Duration::ZERO);
        }
        next.map(|at| until(at, now))
    }

    /// Returns what to wait for beside [`Signals::wake`] and the time.
    pub fn interests(&mut self) -> Interests<'_, N::Tcp> {
        let connections = self.hanging_up.interests().collect();
        let mut interests = Interests { connections, descriptors: Vec::new() };
        if self.closing || self.memory.is_none() {
            return interests;
        }
        let now = self.connector.network.now();
        interests.connections.extend(self.websocket.as_mut().and_then(|it| it.wire.interest(true)));
        let (applier, stores) = (self.applier.as_ref(), &self.stores);
        for download in &mut self.downloads {
            let room =
                download.pause(now).is_none() && has_room(applier, stores, download.into, BODY_PIECE_MAX);
            interests.connections.extend(download.wire.interest(room));
        }
        interests.descriptors.extend(self.shells.interests());
        interests
    }

    /// Gives up waiting for a thread that hangs, in a disk say: the system is to restart all the same.
    fn is_out_of_time(&mut self, now: Instant) -> bool {
        let over = self.end_limit.as_mut().is_some_and(|limit| limit.is_over(now));
        if over {
            let seconds = THREADS_END_MAX.as_secs();
            (self.notice)(&format!("a thread has not ended for {seconds} s; a disk may be hanging"));
        }
        over
    }

    fn now(&self) -> Now {
        clock::at(self.connector.network.now())
    }

    /// Closes the WebSocket, if there is one. What was sent on it gets the time to arrive.
    fn hang_up(&mut self) {
        let now = self.connector.network.now();
        // One that the server never accepted carried nothing that could be lost.
        if let Some(websocket) = self.websocket.take().filter(|websocket| websocket.up) {
            self.hanging_up.add(websocket.wire, now, self.buffer.get());
        }
    }

    /// Ends everything. What threads are writing is finished.
    fn close(&mut self) {
        self.closing = true;
        let now = self.connector.network.now();
        self.end_limit.get_or_insert_with(|| TimeLimit::new(now, THREADS_END_MAX));
        self.hang_up();
        self.downloads.clear();
        self.applier = None;
        self.stores.clear();
        self.files.close();
        self.tasks.close();
        self.remembering.close();
        self.ready.close();
        self.shells.close();
    }
}

/// How long it is until then, rounded up, so that waiting for it never falls short.
fn until(at: Instant, now: Instant) -> Duration {
    let left = at.saturating_since(now);
    if left.is_zero() { left } else { left + Duration::from_micros(1) }
}

impl<N: Network> std::fmt::Debug for Engine<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}
