//! What a device leaves behind, whatever is dropped, and what it does to the runtime it is on: nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod adapter;
#[path = "../../testkit/tests/suite/bench.rs"]
mod bench;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bench::{Bench, Gate, LIMIT, SERIAL};
use nerves_hub_link_platform::install::{Install, InstallError, InstallReport, InstallRequest, Installer};
use nerves_hub_link_platform::kv::{Change, KeyValueStore, KvError, Pairs};
use nerves_hub_link_platform::pty::ShellCommand;
use nerves_hub_link_platform::store::DownloadStore;
use nerves_hub_link_protocol::{
    Client, Config, ConsoleConfig, Decision, Event, OfferId, PartsConfig, UpdateStrategy,
};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::{Firmware, Mischief, Times};
use nerves_hub_link_tokio::limits::EVENTS_MAX;
use nerves_hub_link_tokio::{
    Device, Events, Exit, Handle, HandleError, Options, Runner, RunnerError, events,
};
use nerves_hub_link_transport::Proxy;
use tokio::runtime::{Builder, Runtime};

const ON_ONE_THREAD: bool = true;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn spawn(config: Config, options: Options) -> Device {
    Runner::new(config, options).unwrap().spawn().unwrap()
}

fn start(bench: &Bench, config: Config, more: impl FnOnce(Options) -> Options) -> (Device, Events) {
    let (client, events) = events();
    (spawn(config, more(Options::new(bench.tls(), bench.installer(), client).seed(1))), events)
}

async fn until(events: &mut Events, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        while let Some(event) = events.next().await {
            if wanted(&event) {
                return event;
            }
        }
        panic!("the device ended before it was {what}");
    };
    tokio::time::timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("never {what}"))
}

/// Waits until nothing of a device is left on this runtime, nor any of the threads that devices start.
async fn nothing_is_left() {
    let end = Instant::now() + LIMIT;
    while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 || device_threads() > 0 {
        assert!(Instant::now() < end, "{} threads", device_threads());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The threads of this process that belong to devices.
fn device_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let name =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    names.map(name).filter(|name| name.starts_with("nerves-hub")).count()
}

/// One at a time: threads are counted for the whole process.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What a device may be in the middle of.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Proxy,
    Handshake,
    Waiting,
    Joined,
    Streaming,
    Parts,
    Shell,
}

const PHASES: [Phase; 7] = [
    Phase::Proxy,
    Phase::Handshake,
    Phase::Waiting,
    Phase::Joined,
    Phase::Streaming,
    Phase::Parts,
    Phase::Shell,
];

impl Phase {
    /// Gets a bench and a device's settings ready for it.
    fn prepare(self) -> (Bench, Config) {
        let bench = Bench::with_rootfs(3_500_000);
        let mut config = bench.config();
        let slow = Mischief::SlowBody { bytes: 4096, every_ms: 5 };
        match self {
            Self::Proxy => config.connect_timeout = LIMIT * 20,
            Self::Handshake => {
                config.connect_timeout = LIMIT * 20;
                bench.hub.mischief(Mischief::Silent, Times::UntilCleared);
            }
            Self::Waiting => {
                (config.backoff.min, config.backoff.max) = (LIMIT * 20, LIMIT * 20);
                bench.hub.mischief(
                    Mischief::RefuseUpgrade { status: 503, retry_after: None },
                    Times::UntilCleared,
                );
            }
            Self::Joined => {}
            Self::Streaming => {
                bench.hub.mischief(slow, Times::UntilCleared);
                bench.deploy("1.1.0");
            }
            Self::Parts => {
                config.strategy =
                    UpdateStrategy::Parts(PartsConfig { max_concurrent_parts: 3, ..PartsConfig::default() });
                bench.hub.mischief(slow, Times::UntilCleared);
                bench.deploy("1.1.0");
            }
            Self::Shell => config.console = Some(ConsoleConfig::default()),
        }
        (bench, config)
    }

    fn options(self, bench: &Bench, mut options: Options) -> Options {
        if matches!(self, Self::Proxy) {
            // It takes connections and says nothing, until the program ends.
            let silent = Box::leak(Box::new(std::net::TcpListener::bind("127.0.0.1:0").unwrap()));
            let url = format!("http://{}", silent.local_addr().unwrap());
            options = options.proxy(Proxy::parse(&url).unwrap());
        }
        let shell = ShellCommand::new("/bin/sh").argument("-c").argument("echo up; sleep 600");
        options.shell(shell).firmware_store(DownloadStore::new(bench.path("downloads")))
    }

    /// Waits until a device is in it.
    async fn reached(self, bench: &Bench, handle: &Handle, events: &mut Events) {
        match self {
            Self::Proxy | Self::Handshake => {
                until(events, "dialling", |event| matches!(event, Event::Connecting { .. })).await;
            }
            Self::Waiting => {
                until(events, "refused", |event| matches!(event, Event::Disconnected { .. })).await;
            }
            Self::Joined => {
                until(events, "joined", |event| *event == Event::Joined).await;
            }
            Self::Streaming | Self::Parts => {
                let got = |event: &Event| matches!(event, Event::UpdateProgress { percent: 2.., .. });
                until(events, "under way", got).await;
            }
            Self::Shell => {
                assert!(handle.wait_until(LIMIT, |status| status.link.console_joined).await.1);
                bench.hub.with_hub(|hub, _| hub.console(SERIAL, "dn", &serde_json::json!({"data": "\r"})));
                let got = handle.wait_until(LIMIT, |status| status.link.console_active).await;
                assert!(got.1, "no shell");
            }
        }
    }
}

#[test]
fn a_device_that_is_stopped_in_any_phase_takes_leave_and_leaves_nothing_behind() {
    let _alone = alone();
    for phase in PHASES {
        println!("{phase:?}");
        let (bench, config) = phase.prepare();
        runtime().block_on(async {
            let (device, mut events) = start(&bench, config, |options| phase.options(&bench, options));
            phase.reached(&bench, &device, &mut events).await;
            let before = Instant::now();
            assert_eq!(device.shutdown().await, Exit::Stopped);
            assert!(before.elapsed() < LIMIT, "{:?}", before.elapsed());
            while events.next().await.is_some() {}
            nothing_is_left().await;
        });
        assert_eq!(bench.disk.boot().unwrap().meta.version, "1.0.0");
    }
}

#[test]
fn a_device_whose_owner_is_dropped_in_any_phase_ends() {
    let _alone = alone();
    for phase in PHASES {
        println!("{phase:?}");
        let (bench, config) = phase.prepare();
        runtime().block_on(async {
            let (device, mut events) = start(&bench, config, |options| phase.options(&bench, options));
            phase.reached(&bench, &device, &mut events).await;
            let handle = device.handle();
            drop(device);
            let exit = tokio::time::timeout(LIMIT, handle.wait()).await;
            assert_eq!(exit.expect("it runs on"), Exit::Stopped);
            assert_eq!(handle.reconnect(), Err(HandleError::Stopped));
            drop(events);
            nothing_is_left().await;
        });
    }
}

#[test]
fn a_future_that_is_dropped_in_any_phase_ends_everything_and_the_next_device_works() {
    let _alone = alone();
    for phase in PHASES {
        println!("{phase:?}");
        let (bench, config) = phase.prepare();
        runtime().block_on(async {
            let (client, mut events) = events();
            let options = Options::new(bench.tls(), bench.installer(), client).seed(1);
            let runner = Runner::new(config, phase.options(&bench, options)).unwrap();
            let handle = runner.handle();
            tokio::select! {
                exit = runner.run() => panic!("{exit:?}"),
                () = phase.reached(&bench, &handle, &mut events) => {}
            }
            // Whoever waits for it is told.
            assert_eq!(handle.wait().await, Exit::Stopped);
            while events.next().await.is_some() {}
            nothing_is_left().await;
            // Its server noticed, and its disk is free and whole.
            bench.hub.clear_mischief();
            bench.deploy("1.1.0");
            let (device, _events) = start(&bench, bench.config(), |options| options);
            let exit = tokio::time::timeout(LIMIT, device.wait()).await.unwrap();
            assert!(matches!(exit, Exit::Reboot { .. }), "{exit:?}");
        });
        assert_eq!(bench.disk.boot().unwrap().meta.version, "1.1.0");
    }
}

#[test]
fn a_runtime_that_is_shut_down_takes_its_devices_along() {
    let _alone = alone();
    for phase in PHASES {
        println!("{phase:?}");
        let (bench, config) = phase.prepare();
        let runtime = runtime();
        let handle = runtime.block_on(async {
            let (device, mut events) = start(&bench, config, |options| phase.options(&bench, options));
            phase.reached(&bench, &device, &mut events).await;
            device.detach()
        });
        runtime.shutdown_timeout(LIMIT);
        assert_eq!(handle.status().exit, Some(Exit::Stopped));
        self::runtime().block_on(nothing_is_left());
    }
}

#[test]
fn a_device_outlives_its_handles_only_when_detached() {
    let _alone = alone();
    let bench = Bench::new();
    runtime().block_on(async {
        let (device, mut events) = start(&bench, bench.config(), |options| options);
        drop(device.detach());
        until(&mut events, "joined", |event| *event == Event::Joined).await;
        bench.hub.broadcast("reboot", &serde_json::json!({}));
        while events.next().await.is_some() {}
        nothing_is_left().await;
    });
}

/// Longest time that a thread may stand still on a busy machine. One that waited for the disk would stand still until the
/// gate opens, or for the ten seconds that an engine waits for a store.
const STILL_MAX: Duration = Duration::from_secs(8);

/// Hits every few milliseconds, and the longest time that a runtime of one thread kept it waiting.
async fn longest_gap(while_this: impl Future<Output = ()>) -> Duration {
    let mut work = pin!(while_this);
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    loop {
        tokio::select! {
            biased;
            () = &mut work => return longest,
            () = tokio::time::sleep(Duration::from_millis(2)) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
        }
    }
}

/// Whatever takes long, on a disk that takes very long.
#[derive(Clone)]
struct Stuck {
    gate: Gate,
    entered: Arc<AtomicUsize>,
}

impl Stuck {
    fn new() -> Self {
        Self { gate: Gate::default(), entered: Arc::default() }
    }

    fn pass(&self) {
        self.entered.fetch_add(1, Ordering::AcqRel);
        self.gate.pass();
    }

    async fn is_entered(&self) {
        while self.entered.load(Ordering::Acquire) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Installer for Stuck {
    fn begin(&mut self, _: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        Ok(Box::new(self.clone()))
    }
}

impl Install for Stuck {
    fn write(&mut self, _: &[u8]) -> Result<(), InstallError> {
        self.pass();
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<InstallReport, InstallError> {
        Ok(InstallReport::default())
    }
}

impl KeyValueStore for Stuck {
    fn load(&self) -> Result<Pairs, KvError> {
        Ok(Pairs::default())
    }

    fn update(&mut self, _: &[Change<'_>]) -> Result<(), KvError> {
        self.pass();
        Ok(())
    }
}

/// Runs one device that is stuck, on one thread with another one, which must notice nothing of it.
fn assert_stuck_alone(
    stuck: &Stuck,
    options: impl FnOnce(Options) -> Options,
    installer: impl Installer + 'static,
) {
    let (bench, other) = (Bench::new(), Bench::new());
    bench.deploy("1.1.0");
    runtime().block_on(async {
        let (client, _events) = events();
        let device = spawn(bench.config(), options(Options::new(bench.tls(), installer, client)));
        tokio::time::timeout(LIMIT, stuck.is_entered()).await.unwrap();
        let gap = longest_gap(async {
            let (second, mut events) = start(&other, other.config(), |options| options);
            other.deploy("1.1.0");
            while events.next().await.is_some() {}
            assert!(matches!(second.wait().await, Exit::Reboot { .. }));
        })
        .await;
        assert!(gap < STILL_MAX, "the runtime stood still for {gap:?}");
        device.request_stop();
        stuck.gate.open();
        device.shutdown().await;
    });
}

#[test]
fn a_disk_that_hangs_holds_up_no_other_device_on_the_thread() {
    let _alone = alone();
    let stuck = Stuck::new();
    assert_stuck_alone(&stuck, |options| options, stuck.clone());
}

#[test]
fn a_store_that_hangs_holds_up_no_other_device_on_the_thread() {
    let _alone = alone();
    let stuck = Stuck::new();
    let idle = Stuck::new();
    idle.gate.open();
    assert_stuck_alone(&stuck, |options| options.remember_attempts(stuck.clone()), idle);
}

#[test]
fn many_devices_share_a_thread() {
    let _alone = alone();
    let bench = Bench::new();
    runtime().block_on(async {
        let devices: Vec<Device> = (0..50)
            .map(|number| {
                let mut config = bench.config();
                let nerves_hub_link_protocol::Auth::SharedSecret(secret) = &mut config.auth else {
                    unreachable!()
                };
                secret.identifier = format!("device-{number}");
                start(&bench, config, |options| options.health(None)).0
            })
            .collect();
        for device in &devices {
            let (status, joined) = device.wait_until(LIMIT, nerves_hub_link_tokio::Status::joined).await;
            assert!(joined, "{status:?}");
        }
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), devices.len());
        for device in devices {
            assert_eq!(device.shutdown().await, Exit::Stopped);
        }
        nothing_is_left().await;
    });
    let joins = bench.hub.log().iter().filter(|event| matches!(event, HubEvent::Joined { .. })).count();
    assert_eq!(joins, 50);
}

#[test]
fn outside_of_a_runtime_nothing_starts_and_that_is_said() {
    struct Quiet;
    impl Client for Quiet {}
    let bench = Bench::new();
    let new = || Runner::new(bench.config(), Options::new(bench.tls(), bench.installer(), Quiet)).unwrap();
    let error = new().spawn().unwrap_err();
    assert!(matches!(&error, RunnerError::System(_)) && error.to_string().contains("runtime"), "{error}");
    let runner = new();
    let handle = runner.handle();
    let mut run = pin!(runner.run());
    let std::task::Poll::Ready(exit) = run.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it waits")
    };
    assert!(matches!(&exit, Exit::Failed { reason } if reason.contains("tokio")), "{exit:?}");
    assert_eq!(handle.status().exit, Some(exit));
}

#[test]
fn futures_go_from_thread_to_thread() {
    fn is_send(_: &impl Send) {}
    struct Quiet;
    impl Client for Quiet {}
    let bench = Bench::new();
    let new = || Runner::new(bench.config(), Options::new(bench.tls(), bench.installer(), Quiet)).unwrap();
    let (runner, (_, mut events)) = (new(), events());
    let handle = runner.handle();
    is_send(&handle);
    is_send(&handle.wait());
    is_send(&handle.stop());
    is_send(&handle.wait_until(Duration::ZERO, |_| true));
    is_send(&handle.send_file("x"));
    is_send(&events.next());
    is_send(&runner.run());
}

#[test]
fn waiting_for_a_status_can_be_given_up_and_taken_up_again() {
    let _alone = alone();
    let bench = Bench::new();
    runtime().block_on(async {
        let (device, _events) = start(&bench, bench.config(), |options| options.connect(false));
        let (status, yes) =
            device.wait_until(Duration::from_millis(5), nerves_hub_link_tokio::Status::joined).await;
        assert!(!yes && status.exit.is_none());
        // Dropped before it is ready, again and again.
        for _ in 0..100 {
            assert!(tokio::time::timeout(Duration::ZERO, device.wait()).await.is_err());
        }
        device.connect().unwrap();
        let (_, yes) = device.wait_until(Duration::MAX, nerves_hub_link_tokio::Status::joined).await;
        assert!(yes);
        // A stop that nobody waits for is a stop.
        assert!(pin!(device.stop()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(device.wait().await, Exit::Stopped);
    });
}

#[test]
fn events_are_kept_for_a_reader_that_looks_away_up_to_the_limit() {
    let (mut client, mut news) = events();
    let event = |number: usize| Event::JoinRefused { reason: number.to_string(), retry_in: Duration::ZERO };
    runtime().block_on(async {
        for number in 0..EVENTS_MAX {
            client.event(&event(number));
        }
        assert_eq!(news.lost(), 0);
        client.event(&event(999));
        assert_eq!(news.lost(), 1);
        assert_eq!(news.next().await, Some(event(1)), "the oldest is lost");
        // Reading that is given up loses nothing.
        for number in 2..EVENTS_MAX {
            let next = tokio::select! {
                biased;
                next = news.next() => next,
                () = std::future::ready(()) => unreachable!("there is one"),
            };
            assert_eq!(next, Some(event(number)));
        }
        assert_eq!(news.next().await, Some(event(999)));
        assert!(tokio::time::timeout(Duration::ZERO, news.next()).await.is_err());
        // Of the same progress only the newest waits.
        let progress = |offer, percent| Event::UpdateProgress {
            offer: OfferId(offer),
            stage: nerves_hub_link_protocol::Stage::Downloading,
            percent,
        };
        for percent in 0..100 {
            client.event(&progress(1, percent));
        }
        client.event(&progress(2, 5));
        drop(client);
        assert_eq!(news.next().await, Some(progress(1, 99)));
        assert_eq!(news.next().await, Some(progress(2, 5)));
        assert_eq!((news.next().await, news.lost()), (None, 1));
    });
}

#[test]
fn a_decision_may_be_left_to_a_reader_of_events() {
    let _alone = alone();
    let bench = Bench::new();
    bench.deploy("1.1.0");
    runtime().block_on(async {
        let (client, mut events) = events();
        let options = Options::new(bench.tls(), bench.installer(), client.decide_later());
        let device = spawn(bench.config(), options);
        let offered =
            until(&mut events, "offered", |event| matches!(event, Event::UpdateOffered { .. })).await;
        let Event::UpdateOffered { offer, .. } = offered else { unreachable!() };
        device.decide(offer, Decision::Apply).unwrap();
        let exit = tokio::time::timeout(LIMIT, device.wait()).await.unwrap();
        assert!(matches!(exit, Exit::Reboot { .. }), "{exit:?}");
    });
}

#[test]
fn the_devices_clock_is_tokios() {
    let _alone = alone();
    let bench = Bench::new();
    bench.hub.mischief(Mischief::RefuseUpgrade { status: 503, retry_after: None }, Times::UntilCleared);
    let mut config = bench.config();
    // An hour between attempts, by a clock that leaps whenever nobody has anything to do.
    (config.backoff.min, config.backoff.max) = (Duration::from_secs(3600), Duration::from_secs(3600));
    config.connect_timeout = Duration::from_secs(24 * 3600);
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let before = Instant::now();
    runtime.block_on(async {
        let (device, mut events) = start(&bench, config, |options| options);
        for _ in 0..3 {
            let gone = |event: &Event| matches!(event, Event::Disconnected { .. });
            while !gone(&events.next().await.unwrap()) {}
        }
        device.shutdown().await;
    });
    assert!(before.elapsed() < LIMIT);
}

#[test]
fn a_slow_reader_of_events_costs_no_connection() {
    let _alone = alone();
    let bench = Bench::new();
    runtime().block_on(async {
        let (device, mut events) = start(&bench, bench.config(), |options| options);
        until(&mut events, "joined", |event| *event == Event::Joined).await;
        let (told, heard) = channel();
        for _ in 0..2 * EVENTS_MAX {
            bench.hub.broadcast("identify", &serde_json::json!({}));
            told.send(()).unwrap();
        }
        assert_eq!(heard.try_iter().count(), 2 * EVENTS_MAX);
        let end = Instant::now() + LIMIT;
        while events.lost() == 0 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(events.lost() > 0 && device.joined());
        let firmware = Firmware::from_archive(&bench.firmware("1.1.0")).unwrap();
        bench.hub.deploy(firmware);
        let exit = tokio::time::timeout(LIMIT, device.wait()).await.unwrap();
        assert!(matches!(exit, Exit::Reboot { .. }), "{exit:?}");
    });
}
