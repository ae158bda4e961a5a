//! A device's engine in a world of memory: no socket of the system, and time that passes when nothing else can happen.
//!
//! Its threads are real, so a seed gives the same network and the same faults, and not quite the same run.

pub mod device;
pub mod net;
pub mod server;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use nerves_hub_link_platform::store::DownloadStore;
use nerves_hub_link_protocol::{ConnectionState, UpdateState};
use nerves_hub_link_runtime::limits::CLOSE_TIME_MAX;
use nerves_hub_link_runtime::{Engine, Exit, Options, Signals};
use nerves_hub_link_testkit::firmware::{Content, FirmwareBuilder, SigningKey};
use nerves_hub_link_testkit::meta::FirmwareMeta;
use nerves_hub_link_testkit::sim::Rng;
use nerves_hub_link_transport::{Roots, Tls, TlsOptions};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use device::{Attempts, Disk, Ears, Hands, config};
use net::{Net, SECOND};
use server::Server;

pub const PRODUCT: &str = "nhp_world";
pub const SECRET: &str = "w0rld-shared-secret";
pub const KEY: &str = "u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds=";
pub const URL_SECRET: &str = "5igned-w0rld";

/// Turns at one moment beside those in which a thread works: more mean that the engine spins.
const TURNS_MAX: u32 = 5000;
/// How long to wait for a thread that may just have been woken.
const PATIENCE: Duration = Duration::from_micros(30);
/// Times in a row to be patient when nothing but a thread can go on.
const IDLE_MAX: u32 = 1_000_000;
/// Longest wait for a thread to end. Reached only when something is broken.
const THREAD_LIMIT: Duration = Duration::from_secs(60);
/// How long all must stay well.
const STEADY: u64 = 1200 * SECOND;
/// The most time that passes at once while an update is under way, in which threads take part.
const STRIDE: u64 = 2 * SECOND;

/// How an engine's threads reach the loop.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn take(&self) -> bool {
        std::mem::take(&mut *self.rung.lock().unwrap())
    }

    fn wait(&self) -> bool {
        let rung = self.rung.lock().unwrap();
        let (mut rung, _) = self.changed.wait_timeout_while(rung, PATIENCE, |rung| !*rung).unwrap();
        std::mem::take(&mut *rung)
    }
}

impl Signals for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn changed(&self) {}
}

/// What a scenario came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub starts: u32,
    pub faults: u64,
    pub turns: u64,
    pub seconds: u64,
    pub refused: u64,
    pub spoilt: u64,
    pub statuses: Vec<String>,
    /// How often a store of attempts hung and was given up.
    pub hung: usize,
}

/// A device and its world.
pub struct World {
    seed: u64,
    net: Net,
    server: Server,
    disk: Arc<Mutex<Disk>>,
    folder: tempfile::TempDir,
    notices: Arc<Mutex<Vec<String>>>,
    running: FirmwareMeta,
    rng: Rng,
    bytes: usize,
    released: u64,
    /// The newest archive.
    archive: String,
    tls: Tls,
    /// Whether servers do TLS.
    secure: bool,
    outcome: Outcome,
    /// Since when more connections are open than the device needs.
    surplus: Option<u64>,
    /// Whether the store of attempts hangs until firmware is written.
    attempts_hang: bool,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::of(seed, 102, 0);
        let bytes = [3000, 30_000, 200_000, 1_300_000][usize::try_from(rng.below(4)).unwrap()];
        let disk = Disk { faults: true, rng: Some(Rng::of(seed, 103, 0)), ..Disk::default() };
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let names = ["hub.test", "files.test"].map(str::to_owned);
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let roots = Roots::Der(vec![made.cert.der().to_vec()]);
        let secure = rng.one_in(2);
        let net = Net::new(seed);
        if secure {
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let builder = builder.unwrap().with_no_client_auth();
            let config = builder.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
            net.lock().tls = Some(Arc::new(config));
        }
        let disk = Disk { net: Some(net.clone()), ..disk };
        Self {
            seed,
            net,
            server: Server::new(secure),
            secure,
            disk: Arc::new(Mutex::new(disk)),
            folder: folder.unwrap(),
            notices: Arc::default(),
            running: meta(0),
            rng,
            bytes,
            released: 0,
            archive: String::new(),
            tls: Tls::new(&TlsOptions::new(roots)).unwrap(),
            outcome: Outcome::default(),
            surplus: None,
            attempts_hang: false,
        }
    }

    /// A world in which the store of attempts hangs.
    pub fn with_hanging_attempts(seed: u64) -> Self {
        Self { attempts_hang: true, ..Self::new(seed) }
    }

    /// Lives through some minutes of trouble, and then through as many hours as it takes until all is well.
    pub fn run(mut self) -> Outcome {
        self.net.lock().pace = self.rng.within(1, 300);
        let trouble = self.rng.within(60, 1800) * SECOND;
        let strikes: Vec<u64> = (0..self.rng.below(30)).map(|_| self.rng.below(trouble)).collect();
        self.release();
        let mut plan = strikes;
        plan.sort_unstable();
        plan.push(trouble);
        let mut plan = std::collections::VecDeque::from(plan);
        let mut healed = false;
        loop {
            self.outcome.starts += 1;
            assert!(self.outcome.starts < 200, "seed {}: it starts again and again", self.seed);
            let bell = Arc::new(Bell::default());
            let mut engine = self.start(&bell);
            let control = engine.control();
            let exit = self.live(&mut engine, &bell, &mut plan, &mut healed);
            drop(engine);
            control.end(exit.clone());
            match exit {
                Exit::Stopped if healed && plan.is_empty() => break,
                Exit::Stopped => self.killed(),
                Exit::Reboot { .. } => {
                    self.net.lock().now += 20 * SECOND;
                    if let Some(uuid) = self.disk.lock().unwrap().next.take() {
                        let id: u64 = uuid.rsplit('-').next().unwrap().parse().unwrap();
                        self.running = meta(id);
                    }
                }
                Exit::Failed { reason } => panic!("seed {}: {reason}", self.seed),
                other => panic!("seed {}: {other:?}", self.seed),
            }
        }
        let notices = self.notices.lock().unwrap().join("\n");
        assert!(!notices.contains(SECRET) && !notices.contains(URL_SECRET), "{notices}");
        self.outcome.hung = notices.matches("how often updates were tried is not remembered").count();
        let disk = self.disk.lock().unwrap();
        assert!(
            disk.refused <= self.server.spoilt,
            "seed {}: bytes got lost or changed on the device",
            self.seed
        );
        (self.outcome.refused, self.outcome.spoilt) = (disk.refused, self.server.spoilt);
        self.outcome.statuses = std::mem::take(&mut self.server.statuses);
        let net = self.net.lock();
        (self.outcome.faults, self.outcome.seconds) = (net.met, net.now / SECOND);
        drop(net);
        drop(disk);
        self.outcome
    }

    /// The program is gone, and its threads with it.
    fn killed(&self) {
        {
            let mut disk = self.disk.lock().unwrap();
            (disk.life, disk.open) = (disk.life + 1, 0);
        }
        // What threads of an engine that was dropped still hold, they let go of soon.
        let began = std::time::Instant::now();
        while Arc::strong_count(&self.disk) > 1 {
            assert!(began.elapsed() < THREAD_LIMIT, "seed {}: a thread does not end", self.seed);
            std::thread::sleep(Duration::from_micros(100));
        }
        self.net.lock().now += 5 * SECOND;
    }

    fn release(&mut self) {
        self.released += 1;
        let (id, now) = (self.released, self.net.lock().now);
        let content = Content::random(Rng::of(self.seed, 104, id).bits(), self.bytes as u64);
        let builder = FirmwareBuilder::new("world", &meta(id).version).resource("data", content);
        // Stores check the signature; the installer compares all of it.
        let bytes = builder.build(&signer()).unwrap().bytes().unwrap().to_vec();
        self.disk.lock().unwrap().known.insert(bytes.clone(), meta(id).uuid);
        self.server.release(now, meta(id), bytes);
        let length = self.rng.within(1, 100_000);
        let version = format!("1.{id}.0");
        let builder = FirmwareBuilder::new("world", &version);
        let built = builder.resource("data", Content::random(self.seed, length)).build(&signer()).unwrap();
        let bytes = built.bytes().unwrap().to_vec();
        built.uuid().clone_into(&mut self.archive);
        self.disk.lock().unwrap().published.insert(self.archive.clone(), bytes.clone());
        self.server.archive(&self.archive, &version, bytes);
    }

    fn start(&self, bell: &Arc<Bell>) -> Engine<Net> {
        let notices = Arc::clone(&self.notices);
        let options =
            Options::new(self.tls.clone(), Hands(Arc::clone(&self.disk)), Ears(Arc::clone(&self.disk)))
                .archive_store(DownloadStore::new(self.folder.path().join("archives")))
                .firmware_store(DownloadStore::new(self.folder.path().join("firmware")))
                .remember_attempts(Attempts::new(self.attempts_hang.then(|| Arc::clone(&self.disk))))
                .on_notice(move |line| notices.lock().unwrap().push(line.to_owned()))
                .health(None)
                .seed(self.seed + u64::from(self.outcome.starts));
        let options = if self.attempts_hang { options.attempts_limit(Duration::ZERO) } else { options };
        let signals = Arc::<Bell>::clone(bell);
        Engine::new(config(self.seed, self.secure, &self.running), options, self.net.clone(), signals)
            .unwrap()
    }

    /// Runs a device until it ends, or all is well.
    fn live(
        &mut self,
        engine: &mut Engine<Net>,
        bell: &Bell,
        plan: &mut std::collections::VecDeque<u64>,
        healed: &mut bool,
    ) -> Exit {
        let (mut turns, mut moment, mut idle) = (0, 0, 0);
        let (mut well, mut quiet) = (None, self.net.lock().now);
        loop {
            let now = self.net.lock().now;
            if moment != now {
                (turns, moment) = (0, now);
            }
            self.outcome.turns += 1;
            assert!(turns < TURNS_MAX, "seed {}: it spins at {} s", self.seed, now / SECOND);
            if let Some(exit) = engine.turn() {
                return exit;
            }
            let busy = is_busy(engine);
            self.check(engine, busy);
            self.server.step(&self.net);
            if bell.take() || is_ready(engine) {
                turns += 1;
                continue;
            }
            if bell.wait() || threads_work() {
                continue;
            }
            if busy {
                quiet = now;
            } else if quiet + 60 * SECOND < now {
                assert_eq!(self.disk.lock().unwrap().open, 0, "seed {}: an install goes on", self.seed);
            }
            if *healed && self.is_well(engine) {
                let before = (now, self.server.connections, self.server.heartbeats);
                if self.stays_well(*well.get_or_insert(before)) {
                    engine.control().request_stop();
                    continue;
                }
            }
            let left = engine.time_left().map(|left| now + u64::try_from(left.as_micros()).unwrap());
            let planned = plan.front().map(|at| (*at).max(now));
            let next = [left, self.net.lock().next(), self.server.next(), planned].into_iter().flatten();
            let Some(next) = next.min() else {
                // A thread remembers an attempt, and the device does nothing else meanwhile.
                idle += 1;
                assert!(idle < IDLE_MAX, "seed {}: nothing will ever happen", self.seed);
                continue;
            };
            idle = 0;
            let next = if busy { next.min(now + STRIDE) } else { next };
            turns += u32::from(next <= now);
            self.net.lock().now = next.max(now);
            if planned.is_some_and(|at| at <= next) {
                plan.pop_front();
                if plan.is_empty() {
                    *healed = true;
                    self.heal();
                } else if self.rng.one_in(6) {
                    // The program is killed.
                    return Exit::Stopped;
                } else {
                    self.server.strike(&self.net);
                }
            }
            let limit = 8 * 3600 * SECOND;
            assert!(now < limit, "seed {}: stuck\n{}", self.seed, self.lacks(engine));
            if *healed {
                self.server.hub.clear_penalty("device-1");
            }
        }
    }

    /// What holds at any moment.
    fn check(&mut self, engine: &Engine<Net>, busy: bool) {
        let open = self.net.lock().open();
        let state = engine.control().status().link.connection;
        let most = match state {
            _ if busy => usize::MAX,
            ConnectionState::Offline | ConnectionState::Waiting => 0,
            _ => 1,
        };
        let now = self.net.lock().now;
        // One that the device is done with may have something left to write.
        let since = self.surplus.take().filter(|_| open > most).unwrap_or(now);
        self.surplus = (open > most).then_some(since);
        let late = now - since > u64::try_from(CLOSE_TIME_MAX.as_micros()).unwrap();
        assert!(!late, "seed {}: {open} connections are open, {state:?}", self.seed);
    }

    /// Whether all has been well for long, on the same connection, with a heartbeat every thirty seconds.
    fn stays_well(&self, (since, connections, heartbeats): (u64, u64, u64)) -> bool {
        let done = since + STEADY < self.net.lock().now;
        if done {
            assert_eq!(self.server.connections, connections, "seed {}: the connection ended", self.seed);
            let beats = self.server.heartbeats - heartbeats;
            assert!((35..=42).contains(&beats), "seed {}: {beats} heartbeats", self.seed);
        }
        done
    }

    fn heal(&mut self) {
        self.net.lock().heal();
        self.disk.lock().unwrap().faults = false;
        self.server.deaf = 0;
        self.release();
    }

    /// Whether the newest firmware runs, the newest archive is there, and the server knows the device.
    fn is_well(&self, engine: &Engine<Net>) -> bool {
        let has = self.disk.lock().unwrap().archives.contains(&self.archive);
        let runs = self.running.uuid == meta(self.released).uuid;
        runs && has && engine.control().joined() && self.server.is_joined()
    }

    /// What a person wants to know of a device that isn't well.
    fn lacks(&self, engine: &Engine<Net>) -> String {
        let (disk, notices) = (self.disk.lock().unwrap(), self.notices.lock().unwrap());
        let mut last: Vec<_> = disk.news.iter().chain(notices.iter()).rev().take(10).cloned().collect();
        last.reverse();
        let last = last.join("\n");
        let (runs, joined) = (&self.running.version, self.server.is_joined());
        let (has, wants) = (&disk.archives, &self.archive);
        let status = engine.control().status();
        format!(
            "runs {runs} of 1.{}.0, has archives {has:?}, wants {wants}, joined {joined}\n{last}\n{status:?}",
            self.released
        )
    }
}

/// Whether a thread of this process, but for the one that asks, does something or waits for a disk.
fn threads_work() -> bool {
    let own = std::fs::read_link("/proc/thread-self").unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let others = tasks.filter(|task| Some(task.file_name().as_os_str()) != own.file_name());
    others.into_iter().any(|task| {
        // `1234 (name) S …`; it may have ended by now.
        let line = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = line.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('R' | 'D'))
    })
}

/// Whether an update or an archive is under way, in which threads take part.
fn is_busy(engine: &Engine<Net>) -> bool {
    let status = engine.control().status().link;
    status.update != UpdateState::Idle || status.downloading_archive.is_some()
}

/// Whether waiting for the engine's connections would end at once.
fn is_ready(engine: &mut Engine<Net>) -> bool {
    engine.interests().connections.iter().any(|(side, interest)| side.is_ready(*interest))
}

/// Signs archives.
pub fn signer() -> SigningKey {
    SigningKey::from_seed(7)
}

/// A firmware by its number.
fn meta(id: u64) -> FirmwareMeta {
    FirmwareMeta {
        version: format!("1.{id}.0"),
        product: "world".to_owned(),
        uuid: format!("00000000-0000-5000-8000-{id:012}"),
        architecture: "generic".to_owned(),
        platform: "world".to_owned(),
        ..FirmwareMeta::default()
    }
}
