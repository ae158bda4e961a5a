//! What a device runs on: hands that write firmware into memory, ears, and settings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nerves_hub_link_platform::install::{Install, InstallError, InstallReport, InstallRequest, Installer};
use nerves_hub_link_platform::kv::{Change, KeyValueStore, KvError, MemoryStore, Pairs};
use nerves_hub_link_protocol::{
    ArchiveDecision, ArchiveEvent, ArchiveInfo, Auth, Client, Config, Event, FirmwareMeta, PartsConfig,
    Serializer, SharedSecret, UpdateStrategy,
};
use nerves_hub_link_testkit::sim::Rng;

use super::net::{Net, SECOND};
use super::{PRODUCT, SECRET, signer};

/// The disk, as far as this device has one.
#[derive(Debug, Default)]
pub struct Disk {
    /// Every firmware that was published, by its bytes.
    pub known: BTreeMap<Vec<u8>, String>,
    /// Every archive that was published, and those the device has.
    pub published: BTreeMap<String, Vec<u8>>,
    pub archives: Vec<String>,
    /// What happened to archives, for a person.
    pub news: Vec<String>,
    /// The firmware that boots next, if another than runs.
    pub next: Option<String>,
    /// Installs that ended in something nobody published.
    pub refused: u64,
    /// Whether the disk fails now and then.
    pub faults: bool,
    pub rng: Option<Rng>,
    pub open: u32,
    /// Counts lives of the program: what an earlier one still writes goes nowhere.
    pub life: u32,
    /// The world's time, and how long the disk takes now and then.
    pub net: Option<Net>,
}

impl Disk {
    fn fails(&mut self, n: u64) -> bool {
        self.faults && self.rng.as_mut().is_some_and(|rng| rng.one_in(n))
    }
}

/// Writes firmware into memory, and knows what was published.
pub struct Hands(pub Arc<Mutex<Disk>>);

struct Writing {
    disk: Arc<Mutex<Disk>>,
    life: u32,
    bytes: Vec<u8>,
}

impl Writing {
    fn lives(&self) -> bool {
        self.disk.lock().unwrap().life == self.life
    }
}

impl Installer for Hands {
    fn begin(&mut self, request: InstallRequest) -> Result<Box<dyn Install>, InstallError> {
        assert_eq!(request.public_keys, [signer().public_key()]);
        let mut disk = self.0.lock().unwrap();
        if disk.fails(30) {
            return Err(InstallError::Failed("the disk is not there".to_owned()));
        }
        disk.open += 1;
        assert_eq!(disk.open, 1, "two write at once");
        Ok(Box::new(Writing { disk: Arc::clone(&self.0), life: disk.life, bytes: Vec::new() }))
    }
}

impl Install for Writing {
    fn write(&mut self, chunk: &[u8]) -> Result<(), InstallError> {
        assert!(!chunk.is_empty());
        let slow = {
            let mut disk = self.disk.lock().unwrap();
            if disk.fails(300) {
                return Err(InstallError::Failed("no space is left".to_owned()));
            }
            disk.fails(40).then(|| disk.net.clone()).flatten()
        };
        if let Some(net) = slow {
            let until = net.lock().now + 7 * SECOND;
            while self.lives() && net.lock().now < until && net.lock().faults {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        if !self.lives() {
            return Err(InstallError::Failed("the program was killed".to_owned()));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<InstallReport, InstallError> {
        let mut disk = self.disk.lock().unwrap();
        if disk.life != self.life {
            return Err(InstallError::Failed("the program was killed".to_owned()));
        }
        let Some(uuid) = disk.known.get(&self.bytes).cloned() else {
            disk.refused += 1;
            return Err(InstallError::File("the signature does not fit".to_owned()));
        };
        if disk.fails(20) {
            return Err(InstallError::Failed("the last write failed".to_owned()));
        }
        disk.next = Some(uuid);
        Ok(InstallReport::default())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap();
        if disk.life == self.life {
            disk.open -= 1;
        }
    }
}

/// A store of attempts. It may hang until firmware is written to the disk, as on a dead network mount.
pub struct Attempts {
    store: MemoryStore,
    hangs: Option<Arc<Mutex<Disk>>>,
    life: u32,
}

impl Attempts {
    pub fn new(hangs: Option<Arc<Mutex<Disk>>>) -> Self {
        let life = hangs.as_ref().map_or(0, |disk| disk.lock().unwrap().life);
        Self { store: MemoryStore::default(), hangs, life }
    }
}

impl KeyValueStore for Attempts {
    fn load(&self) -> Result<Pairs, KvError> {
        self.store.load()
    }

    fn update(&mut self, changes: &[Change<'_>]) -> Result<(), KvError> {
        let hangs = |disk: &Arc<Mutex<Disk>>| {
            let disk = disk.lock().unwrap();
            disk.life == self.life && disk.next.is_none()
        };
        while self.hangs.as_ref().is_some_and(hangs) {
            std::thread::sleep(Duration::from_micros(100));
        }
        self.store.update(changes)
    }
}

/// Takes every update, and every archive it has not; its firmware is good.
pub struct Ears(pub Arc<Mutex<Disk>>);

impl Client for Ears {
    fn event(&mut self, event: &Event) {
        if let Event::Archive(ArchiveEvent::Failed { .. } | ArchiveEvent::DownloadInterrupted { .. }) = event
        {
            self.0.lock().unwrap().news.push(format!("{event:?}"));
        }
    }

    fn firmware_validated(&mut self) -> Option<bool> {
        Some(true)
    }

    fn archive_available(&mut self, archive: &ArchiveInfo) -> Option<ArchiveDecision> {
        let known = self.0.lock().unwrap().archives.contains(&archive.uuid);
        Some(if known { ArchiveDecision::Ignore } else { ArchiveDecision::Download })
    }

    fn archive_ready(&mut self, archive: &ArchiveInfo, path: &str) {
        let bytes = std::fs::read(path).unwrap();
        let mut disk = self.0.lock().unwrap();
        let published = disk.published.get(&archive.uuid).expect("an archive that was published");
        let differ = published.iter().zip(&bytes).filter(|(right, byte)| right != byte).count();
        // One byte may have been changed on the way where no signature covers it: a time in the container, say.
        assert!(differ <= 1 && published.len() == bytes.len(), "{differ} bytes of {} differ", archive.uuid);
        disk.archives.push(archive.uuid.clone());
        std::fs::remove_file(path).unwrap();
    }
}

/// The settings of a device that runs this firmware.
pub fn config(seed: u64, tls: bool, meta: &nerves_hub_link_testkit::meta::FirmwareMeta) -> Config {
    let mut rng = Rng::of(seed, 101, 0);
    let mut secret = SharedSecret::new(PRODUCT, SECRET, "device-1");
    secret.iterations = 1;
    let running = FirmwareMeta {
        uuid: meta.uuid.clone(),
        product: meta.product.clone(),
        version: meta.version.clone(),
        platform: meta.platform.clone(),
        architecture: meta.architecture.clone(),
        ..FirmwareMeta::default()
    };
    let mut config = Config::new("hub.test", Auth::SharedSecret(secret), running);
    if !tls {
        config.socket_url = Some("ws://hub.test/device-socket/websocket".to_owned());
        config.download.allow_http = true;
        config.insecure_plain_hub = true;
    }
    config.public_keys = vec![signer().public_key()];
    config.archive_public_keys = vec![signer().public_key()];
    config.firmware_validated = Some(false);
    config.heartbeat = Duration::from_secs(30);
    if rng.one_in(2) {
        config.serializer = Serializer::MsgPack;
    }
    match rng.below(4) {
        0 => config.strategy = UpdateStrategy::Caching,
        1 => config.strategy = UpdateStrategy::Parts(PartsConfig::default()),
        _ => {}
    }
    config
}
