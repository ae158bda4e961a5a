//! What a device remembers of updates that failed.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use crate::bench::{Adapter as _, Bench, Gate, LIMIT, UnderTest};
use nerves_hub_link_platform::install::{
    FwupStreamInstaller, Install, InstallError, InstallRequest, Installer,
};
use nerves_hub_link_platform::kv::{Change, FileStore, KeyValueStore, KvError, Pairs};
use nerves_hub_link_protocol::{Attempt, Client, Config, Event};
use nerves_hub_link_runtime::{Exit, Options};
use nerves_hub_link_testkit::firmware::{Tamper, tamper};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::Firmware;

struct Ear(Sender<Event>);

impl Client for Ear {
    fn event(&mut self, event: &Event) {
        let _ = self.0.send(event.clone());
    }
}

struct Device {
    handle: UnderTest,
    events: Receiver<Event>,
    notices: Receiver<String>,
}

impl Device {
    fn start(bench: &Bench, config: Config, store: impl KeyValueStore + 'static) -> Self {
        Self::start_with(bench, config, store, bench.installer())
    }

    fn start_with(
        bench: &Bench,
        config: Config,
        store: impl KeyValueStore + 'static,
        installer: impl Installer + 'static,
    ) -> Self {
        let (ear, events) = channel();
        let (notice, notices) = channel();
        let options = Options::new(bench.tls(), installer, Ear(ear))
            .remember_attempts(store)
            .on_notice(move |text| drop(notice.send(text.to_owned())));
        let handle = UnderTest::start(config, options).unwrap();
        Self { handle, events, notices }
    }

    fn until(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let end = Instant::now() + LIMIT;
        while let Ok(event) = self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if wanted(&event) {
                return event;
            }
        }
        panic!("never {what}: {:?}", self.handle.status());
    }
}

fn attempts(store: &FileStore) -> Vec<Attempt> {
    let text = store.get("nerves_hub_link_attempts").unwrap();
    Attempt::list_from_text(&text.unwrap_or_default())
}

/// Deploys a firmware whose bytes are not those that were signed.
fn deploy_bad(bench: &Bench) -> String {
    let archive = bench.firmware("1.1.0");
    let bytes = tamper(&archive.bytes().unwrap(), &Tamper::Signature).unwrap();
    let firmware = Firmware::from_bytes(bytes, archive.meta.clone()).unwrap();
    bench.hub.deploy(firmware);
    archive.meta.uuid
}

#[test]
fn reboots_are_counted_over_restarts() {
    let bench = Bench::new();
    let store = FileStore::new(bench.path("state"));
    let config = || {
        let mut config = bench.config();
        config.bounds.reboots_per_hour = 2;
        config
    };
    for _ in 0..2 {
        let device = Device::start(&bench, config(), store.clone());
        device.until("joined", |event| *event == Event::Joined);
        bench.hub.broadcast("reboot", &serde_json::json!({}));
        let (status, _) = device.handle.wait_until(LIMIT, |status| status.exit.is_some());
        assert!(matches!(status.exit, Some(Exit::Reboot { .. })), "{status:?}");
    }
    let device = Device::start(&bench, config(), store.clone());
    device.until("joined", |event| *event == Event::Joined);
    bench.hub.broadcast("reboot", &serde_json::json!({}));
    device.until("refused", |event| matches!(event, Event::RebootRefused { .. }));
    device.handle.stop();
    // Without a store, an order soon after the start is refused.
    let alone = bench.start_with(config(), bench.installer());
    alone.until_joined();
    bench.hub.broadcast("reboot", &serde_json::json!({}));
    alone.until("refused", |event| matches!(event, Event::RebootRefused { .. }));
    alone.stop();
}

#[test]
fn a_firmware_that_failed_is_remembered_over_restarts_and_forgotten_once_it_runs() {
    let bench = Bench::new();
    let store = FileStore::new(bench.path("state"));
    let config = |bench: &Bench| {
        let mut config = bench.config();
        config.attempts.limit = 1;
        config
    };
    let uuid = deploy_bad(&bench);
    let device = Device::start(&bench, config(&bench), store.clone());
    device.until("failed", |event| matches!(event, Event::UpdateFailed { .. }));
    let kept = attempts(&store);
    assert_eq!((kept.len(), kept[0].uuid.as_str(), kept[0].starts), (1, uuid.as_str(), 1));
    assert!(kept[0].last.is_some());
    device.handle.stop();

    // Another server that knows nothing of it offers the same firmware, whole this time.
    let other = Bench::new();
    let good = other.firmware("1.1.0");
    assert_eq!(good.meta.uuid, uuid);
    other.hub.deploy(Firmware::from_archive(&good).unwrap());
    let device = Device::start(&other, config(&other), store.clone());
    let refused = device.until("refused", |event| matches!(event, Event::UpdateRefused { .. }));
    let Event::UpdateRefused { reason, .. } = refused else { unreachable!() };
    assert!(reason.contains("started 1 time on"), "{reason}");
    assert_eq!(other.hub_saw_status("ignored").as_deref(), Some(reason.as_str()));

    // A person pushes it by hand; the next boot runs it, and it proves good.
    assert!(other.hub.push_update(crate::bench::SERIAL, Firmware::from_archive(&good).unwrap()));
    let (status, _) = device.handle.wait_until(LIMIT, |status| status.exit.is_some());
    assert!(matches!(status.exit, Some(Exit::Reboot { .. })), "{status:?}");
    assert_eq!(attempts(&store)[0].starts, 2);
    assert_eq!(other.disk.boot().unwrap().meta.version, "1.1.0");
    let device = Device::start(&other, config(&other), store.clone());
    device.until("joined", |event| *event == Event::Joined);
    assert_eq!(attempts(&store).len(), 1, "not known to be good yet");
    device.handle.firmware_validated().unwrap();
    other.hub_saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
    assert_eq!(attempts(&store), []);
    device.handle.stop();
}

#[test]
fn other_settings_count_from_the_next_connection_on() {
    let bench = Bench::new();
    let mut wrong = bench.config();
    if let nerves_hub_link_protocol::Auth::SharedSecret(secret) = &mut wrong.auth {
        secret.secret = nerves_hub_link_protocol::Secret::new("not the secret");
    }
    let device = Device::start(&bench, wrong, FileStore::new(bench.path("state")));
    device.until("refused", |event| matches!(event, Event::Refused { .. }));
    let mut senseless = bench.config();
    senseless.host = "no host".to_owned();
    assert!(senseless.check().is_err());
    device.handle.reconfigure(senseless).unwrap();
    let told = device.notices.recv_timeout(LIMIT).unwrap();
    assert!(told.contains("the configuration cannot be used: the host is unusable"), "{told}");
    device.handle.reconfigure(bench.config()).unwrap();
    device.handle.reconnect().unwrap();
    device.until("joined", |event| *event == Event::Joined);
    assert_eq!(device.handle.alarms(), []);
    assert_eq!(device.handle.currently_downloading_uuid(), None);
    device.handle.stop();
}

#[test]
fn a_memory_that_fails_is_told_and_stops_no_update() {
    let bench = Bench::new();
    // A directory in the place of the file: neither read nor written.
    let path = bench.path("state");
    std::fs::create_dir(&path).unwrap();
    bench.hub.deploy(Firmware::from_archive(&bench.firmware("1.1.0")).unwrap());
    let device = Device::start(&bench, bench.config(), FileStore::new(&path));
    let (status, _) = device.handle.wait_until(LIMIT, |status| status.exit.is_some());
    assert!(matches!(status.exit, Some(Exit::Reboot { .. })), "{status:?}");
    let notices: Vec<String> = device.notices.try_iter().collect();
    assert!(notices.iter().any(|notice| notice.contains("counts anew")), "{notices:?}");
    assert!(notices.iter().any(|notice| notice.contains("until the next restart")), "{notices:?}");
}

/// A store whose writes tell that they begin, and wait at a gate.
struct Slow {
    store: FileStore,
    begun: Sender<()>,
    gate: Gate,
}

impl KeyValueStore for Slow {
    fn load(&self) -> Result<Pairs, KvError> {
        self.store.load()
    }

    fn update(&mut self, changes: &[Change<'_>]) -> Result<(), KvError> {
        let _ = self.begun.send(());
        self.gate.pass();
        self.store.update(changes)
    }
}

/// An installer that tells when it begins.
struct Telling(FwupStreamInstaller, Sender<()>);

impl Installer for Telling {
    fn begin(&mut self, request: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        let _ = self.1.send(());
        self.0.begin(request)
    }
}

#[test]
fn nothing_of_an_update_is_done_before_its_start_is_remembered() {
    let bench = Bench::new();
    let store = FileStore::new(bench.path("state"));
    let (begun, begins) = channel();
    let gate = Gate::default();
    let slow = Slow { store: store.clone(), begun, gate: gate.clone() };
    bench.hub.deploy(Firmware::from_archive(&bench.firmware("1.1.0")).unwrap());
    let before = std::fs::read(bench.disk.path()).unwrap();
    let (tell, installs) = channel();
    let device = Device::start_with(&bench, bench.config(), slow, Telling(bench.installer(), tell));
    begins.recv_timeout(LIMIT).unwrap();
    // It is being written, and nothing went past it.
    assert_eq!(attempts(&store), []);
    let (status, ended) =
        device.handle.wait_until(std::time::Duration::from_millis(200), |status| status.exit.is_some());
    assert!(!ended, "{status:?}");
    assert!(std::fs::read(bench.disk.path()).unwrap() == before);
    let begun = |event: &HubEvent| match event {
        HubEvent::Status { status, .. } => status == "started",
        HubEvent::Download { .. } => true,
        _ => false,
    };
    assert!(!bench.hub.log().iter().any(begun) && installs.try_recv().is_err(), "it was begun");
    gate.open();
    let (status, _) = device.handle.wait_until(LIMIT, |status| status.exit.is_some());
    assert!(matches!(status.exit, Some(Exit::Reboot { .. })), "{status:?}");
    assert_eq!(attempts(&store)[0].starts, 1);
}

#[test]
fn stopping_waits_for_what_is_being_remembered() {
    let bench = Bench::new();
    let store = FileStore::new(bench.path("state"));
    let (begun, begins) = channel();
    let gate = Gate::default();
    let slow = Slow { store: store.clone(), begun, gate: gate.clone() };
    bench.hub.deploy(Firmware::from_archive(&bench.firmware("1.1.0")).unwrap());
    let device = Device::start(&bench, bench.config(), slow);
    begins.recv_timeout(LIMIT).unwrap();
    device.handle.request_stop();
    let (status, ended) =
        device.handle.wait_until(std::time::Duration::from_millis(200), |status| status.exit.is_some());
    assert!(!ended, "{status:?}");
    gate.open();
    assert_eq!(device.handle.stop(), Exit::Stopped);
    assert_eq!(attempts(&store)[0].starts, 1);
}

#[test]
fn a_store_that_panics_is_told_and_stops_no_update() {
    struct Broken;
    impl KeyValueStore for Broken {
        fn load(&self) -> Result<Pairs, KvError> {
            Ok(Pairs::default())
        }
        fn update(&mut self, _: &[Change<'_>]) -> Result<(), KvError> {
            panic!("the driver is broken");
        }
    }
    let bench = Bench::new();
    bench.hub.deploy(Firmware::from_archive(&bench.firmware("1.1.0")).unwrap());
    let device = Device::start(&bench, bench.config(), Broken);
    let (status, _) = device.handle.wait_until(LIMIT, |status| status.exit.is_some());
    assert!(matches!(status.exit, Some(Exit::Reboot { .. })), "{status:?}");
    assert!(device.notices.try_iter().any(|notice| notice.contains("the driver is broken")));
}
