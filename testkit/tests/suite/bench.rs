//! A hub, a disk that boots and a device between them, for all adapters: each says in `crate::adapter` how it runs a device.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nerves_hub_link_platform::boot::{BootCheck, Marked};
use nerves_hub_link_platform::identity::{self, Identity};
use nerves_hub_link_platform::install::{DiskPolicy, FwupStreamInstaller, Installer};
use nerves_hub_link_platform::kv::fw_env_config::{FwEnvConfig, Location};
use nerves_hub_link_platform::kv::{KeyValueStore as _, UbootStore};
use nerves_hub_link_protocol::{
    ArchiveDecision, ArchiveInfo, Auth, Client, Config, Decision, Event, FirmwareMeta, SharedSecret,
    UpdateInfo,
};
use nerves_hub_link_runtime::{Control, Exit, Options, RunnerError, SendFileError, Status, device_config};
use nerves_hub_link_testkit::disk::{AbDisk, BLOCK, DiskLayout};
use nerves_hub_link_testkit::firmware::{FirmwareArchive, FirmwareBuilder, SigningKey};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::{Firmware, HubOptions, HubServer};
use nerves_hub_link_transport::{Roots, Tls, TlsOptions};
use tempfile::TempDir;

pub use crate::adapter::UnderTest;

/// Longest wait for anything. Reached only when something is broken.
pub const LIMIT: Duration = Duration::from_secs(60);
pub const SERIAL: &str = "device-1";

/// A device that an adapter runs, as tests use it. Clones speak to the same device.
pub trait Adapter: Deref<Target = Control> + Clone + Send + Sized + 'static {
    /// Starts a device, on whatever the adapter runs it.
    fn start(config: Config, options: Options) -> Result<Self, RunnerError>;
    /// Waits until `done` says yes to the status, the device stops, or the time is over.
    fn wait_until(&self, timeout: Duration, done: impl Fn(&Status) -> bool) -> (Status, bool);
    /// Waits until the device stops.
    fn wait(&self) -> Exit;
    /// Stops it and waits until it has.
    fn stop(&self) -> Exit;
    /// Sends a file to operators.
    fn send_file(&self, path: impl Into<PathBuf>) -> Result<(), SendFileError>;
}

pub struct Bench {
    pub hub: HubServer,
    pub disk: AbDisk,
    pub key: SigningKey,
    pub layout: DiskLayout,
    rootfs: u64,
    dir: TempDir,
}

impl Bench {
    /// A hub over TLS and a disk that runs 1.0.0.
    pub fn new() -> Self {
        Self::with_rootfs(700_000)
    }

    pub fn with_rootfs(rootfs: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let mib = u32::try_from(rootfs.div_ceil(1 << 20)).unwrap();
        let layout = DiskLayout::with_slots_of(mib).redundant();
        let key = SigningKey::from_seed(1);
        let hub = HubServer::start(HubOptions::default()).unwrap();
        let path = dir.path().join("disk.img");
        let disk = AbDisk::open(&path, &layout);
        let mut bench = Self { hub, disk, key, layout, rootfs, dir };
        let old = bench.firmware("1.0.0");
        bench.disk = AbDisk::create(&path, &layout, &old.meta, rootfs, 7).unwrap();
        bench
    }

    /// Builds a signed firmware for the disk.
    pub fn firmware(&self, version: &str) -> FirmwareArchive {
        let builder = FirmwareBuilder::new("lift", version).ab_layout(&self.layout).level(1);
        builder.rootfs(self.rootfs, 7).build(&self.key).unwrap()
    }

    /// Builds a firmware of the same identity from other bytes, as many or a few more or less.
    pub fn packed_anew(&self, version: &str) -> Firmware {
        let first = self.firmware(version);
        let builder = FirmwareBuilder::new("lift", version).ab_layout(&self.layout).level(9);
        let other = builder.rootfs(self.rootfs, 7).build(&self.key).unwrap();
        Firmware::from_bytes(other.bytes().unwrap(), first.meta)
            .unwrap()
            .with_public_key(&self.key.public_key())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn identity(&self) -> Identity {
        Identity::load(&self.environment()).unwrap()
    }

    /// Marks the running firmware good.
    pub fn validate(&self) {
        let boot = BootCheck::of_process();
        let marked = identity::mark_validated(&mut self.environment(), &boot).unwrap();
        assert_eq!(marked, Marked::Good);
    }

    /// Makes the first slot the one that boots, as a boot loader does that gives the other up.
    pub fn fall_back(&self) {
        let mut environment = self.environment();
        environment.update(&[("nerves_fw_active", Some("a")), ("a.nerves_fw_validated", Some("1"))]).unwrap();
    }

    pub fn environment(&self) -> UbootStore {
        let at = |block: u64| Location {
            path: self.disk.path().to_owned(),
            offset: block * BLOCK,
            size: usize::try_from(self.layout.environment_blocks * BLOCK).unwrap(),
        };
        let second = self.layout.environment_redundant.map(at);
        UbootStore::new(FwEnvConfig::new(at(self.layout.environment), second).unwrap())
    }

    /// Settings for the device on the disk, with delays for impatient tests.
    pub fn config(&self) -> Config {
        let product = self.hub.product();
        let secret = SharedSecret::new(&*product.key, &*product.secret, SERIAL);
        let mut config = device_config(self.hub.url(), Auth::SharedSecret(secret), &self.identity());
        config.public_keys = vec![self.key.public_key()];
        config.wait_for_network = false;
        config.backoff.min = Duration::from_millis(20);
        config.backoff.max = Duration::from_millis(200);
        config.rejoin = vec![Duration::from_millis(20)];
        // Without a store, orders are refused for a while after the start.
        config.bounds.reboots_per_hour = 0;
        config.bounds.failure_pause = Duration::ZERO;
        config.download.retry_delay = Duration::from_millis(20);
        config
    }

    pub fn tls(&self) -> Tls {
        Tls::new(&TlsOptions::new(Roots::Pem(self.hub.ca_pem().as_bytes().to_vec()))).unwrap()
    }

    pub fn installer(&self) -> FwupStreamInstaller {
        FwupStreamInstaller::new(DiskPolicy::new(self.disk.path()).fixed_size(true))
    }

    /// Starts a device with settings of the test's own.
    pub fn start_with(&self, config: Config, installer: impl Installer + 'static) -> Device {
        Device::start(config, self.tls(), installer, |_| Decision::Apply)
    }

    pub fn start(&self) -> Device {
        self.start_with(self.config(), self.installer())
    }

    pub fn deploy(&self, version: &str) {
        self.hub.deploy(Firmware::from_archive(&self.firmware(version)).unwrap());
    }

    /// Deploys the firmware's description with other bytes behind it.
    pub fn deploy_bytes(&self, version: &str, change: impl FnOnce(&[u8]) -> Vec<u8>) {
        let archive = self.firmware(version);
        let bytes = change(&archive.bytes().unwrap());
        self.hub.deploy(Firmware::from_bytes(bytes, archive.meta).unwrap());
    }

    /// The update was written, the device wants to restart, and the new firmware comes up.
    pub fn assert_updated(&self, device: &Device) {
        let exit = device.exit();
        assert!(matches!(exit, Exit::Reboot { .. }), "{exit:?}; the hub: {:#?}", self.hub.log());
        assert_eq!(self.disk.boot().unwrap().meta.version, "1.1.0");
    }

    pub fn assert_failed_while_running(&self, device: &Device, word: &str) {
        let heard = self.hub_saw_status("failed").unwrap_or_default();
        // Before a trusted signature was seen, only the device knows the reason.
        let reason = match heard.as_str() {
            nerves_hub_link_protocol::UNTOLD_FAILURE => device.handle.status().last_error,
            _ => Some(heard),
        };
        assert!(reason.as_ref().is_some_and(|reason| reason.contains(word)), "{reason:?}");
        device.answers(&self.hub);
        assert!(device.handle.status().exit.is_none());
        assert_eq!(self.disk.boot().unwrap().meta.version, "1.0.0");
    }

    pub fn downloads(&self) -> Vec<(u16, u64)> {
        let download = |event: &HubEvent| match event {
            HubEvent::Download { status, from, .. } => Some((*status, *from)),
            _ => None,
        };
        self.hub.log().iter().filter_map(download).collect()
    }

    /// Waits for the next event of the hub, from its first, that fits.
    pub fn hub_saw(&self, what: &str, wanted: impl FnMut(&HubEvent) -> bool) -> HubEvent {
        let seen = self.hub.wait_for(LIMIT, wanted);
        seen.unwrap_or_else(|| panic!("the hub never saw {what}; its log: {:#?}", self.hub.log()))
    }

    pub fn hub_saw_status(&self, wanted: &str) -> Option<String> {
        let event =
            self.hub_saw(wanted, |e| matches!(e, HubEvent::Status { status, .. } if status == wanted));
        let HubEvent::Status { reason, .. } = event else { unreachable!() };
        reason
    }
}

/// A running device and what it says.
pub struct Device {
    pub handle: UnderTest,
    pub events: Receiver<Event>,
    pub notices: Receiver<String>,
    pub reboots: Receiver<String>,
}

impl Device {
    pub fn start(
        config: Config,
        tls: Tls,
        installer: impl Installer + 'static,
        decide: impl FnMut(&UpdateInfo) -> Decision + Send + 'static,
    ) -> Self {
        Self::start_as(config, tls, installer, decide, |options| options)
    }

    pub fn start_as(
        config: Config,
        tls: Tls,
        installer: impl Installer + 'static,
        decide: impl FnMut(&UpdateInfo) -> Decision + Send + 'static,
        change: impl FnOnce(Options) -> Options,
    ) -> Self {
        let (events_sender, events) = channel();
        let (reboots_sender, reboots) = channel();
        let client = Recorder { events: events_sender, reboots: reboots_sender, decide: Box::new(decide) };
        let (notices_sender, notices) = channel();
        let options = Options::new(tls, installer, client)
            .seed(1)
            .on_notice(move |notice| drop(notices_sender.send(notice.to_owned())));
        let handle = UnderTest::start(config, change(options)).unwrap();
        Self { handle, events, notices, reboots }
    }

    /// Waits for an event that fits; those before it are passed over.
    pub fn until(&self, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        let end = Instant::now() + LIMIT;
        let mut passed = Vec::new();
        while let Ok(event) = self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if wanted(&event) {
                return event;
            }
            passed.push(event);
        }
        panic!("never {what}; instead: {passed:#?}; status: {:?}", self.handle.status());
    }

    pub fn until_joined(&self) {
        self.until("joined", |event| *event == Event::Joined);
    }

    pub fn status_when(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let (status, yes) = self.handle.wait_until(LIMIT, wanted);
        assert!(yes, "never {what}: {status:?}");
        status
    }

    /// Asserts that the connection works in both directions, now or after a reconnect.
    pub fn answers(&self, hub: &HubServer) {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            hub.broadcast("identify", &serde_json::json!({}));
            let short = Instant::now() + Duration::from_millis(200);
            while let Ok(event) = self.events.recv_timeout(short.saturating_duration_since(Instant::now())) {
                if event == Event::Identify {
                    return;
                }
            }
        }
        panic!("the device no longer answers: {:?}", self.handle.status());
    }

    /// Waits for the end, but not for ever.
    pub fn exit(&self) -> Exit {
        self.status_when("stopped", |status| status.exit.is_some()).exit.unwrap()
    }

    /// Stops it and asserts that this ends.
    pub fn stop(&self) {
        let before = Instant::now();
        assert_eq!(self.handle.stop(), Exit::Stopped);
        assert!(before.elapsed() < LIMIT, "stopping took {:?}", before.elapsed());
    }
}

struct Recorder {
    events: Sender<Event>,
    reboots: Sender<String>,
    decide: Box<dyn FnMut(&UpdateInfo) -> Decision + Send>,
}

impl Client for Recorder {
    fn event(&mut self, event: &Event) {
        let _ = self.events.send(event.clone());
    }

    fn update_available(&mut self, _running: &FirmwareMeta, update: &UpdateInfo) -> Option<Decision> {
        Some((self.decide)(update))
    }

    fn archive_available(&mut self, _: &ArchiveInfo) -> Option<ArchiveDecision> {
        Some(ArchiveDecision::Download)
    }

    fn reboot(&mut self, reason: &str) {
        let _ = self.reboots.send(reason.to_owned());
    }
}

/// A switch that a test holds and a thread of the device waits at.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, std::sync::Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn pass(&self) {
        let guard = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(guard, |open| !*open).unwrap());
    }
}
