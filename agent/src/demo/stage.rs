//! What the story is played with: keys, firmware, a disk, and a hub.

use std::ffi::OsString;
use std::path::PathBuf;

use nerves_hub_link_testkit::disk::{AbDisk, DiskLayout};
use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey, Tamper, tamper};
use nerves_hub_link_testkit::meta::FirmwareMeta;
use nerves_hub_link_testkit::server::{Firmware, HubOptions, HubServer, Mischief, Times};
use tempfile::TempDir;

use super::foreign::Foreign;
use super::screen::{Screen, Who};
use super::{DemoArgs, Fault};
use crate::cli::EnvLocation;
use crate::words::bytes;

/// The device's name at the hub.
pub const SERIAL: &str = "demo-device-1";

/// Bytes of a download's tick.
const TICK_BYTES: usize = 64 * 1024;

/// Milliseconds that a download shall take at least, so that the eye can follow it.
const DOWNLOAD_MS: u64 = 3000;

/// The stage.
pub struct Stage {
    /// The stand-in for the server.
    pub hub: HubServer,
    /// The firmware to deploy.
    pub update: Firmware,
    /// What boots from the disk.
    pub machine: Machine,
    ca: PathBuf,
    disk: PathBuf,
    trusted: String,
    // Removed with everything in it when the stage is struck.
    dir: TempDir,
}

/// A disk and its boot loader.
pub enum Machine {
    /// The made-up firmware's, whose root file system can tell whether it is whole.
    Ours(AbDisk),
    /// That of an archive of the user's.
    Foreign(Box<Foreign>),
}

/// What runs on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The slot.
    pub slot: String,
    /// The firmware.
    pub meta: FirmwareMeta,
    /// Whether it is validated; `None` where the disk doesn't say.
    pub validated: Option<bool>,
}

impl Stage {
    /// Makes everything.
    pub fn set(args: &DemoArgs, screen: &mut Screen) -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("nerves-hub-link-demo-")
            .tempdir()
            .map_err(|error| format!("can't make a temporary folder: {error}"))?;
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(|error| format!("no random numbers: {error}"))?;
        let key = SigningKey::from_seed(u64::from_le_bytes(seed));
        let hub = HubServer::start(HubOptions::default())
            .map_err(|error| format!("can't listen on 127.0.0.1: {error}"))?;
        screen.line(Who::Hub, &format!("listening on {}, TLS, shared secrets", hub.url()));
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, hub.ca_pem())
            .map_err(|error| format!("can't write {}: {error}", ca.display()))?;
        let disk = dir.path().join("disk.img");

        let (update, machine, trusted) = match &args.firmware {
            None => made_up(args, &key, &disk, dir.path())?,
            Some(file) => {
                let foreign = Foreign::load(file, args.public_key.as_deref(), &key, &disk, screen)?;
                let update = foreign.update(args.fault)?;
                let trusted = foreign.trusted.clone();
                (update, Machine::Foreign(Box::new(foreign)), trusted)
            }
        };
        // A restart in mid-download needs a middle, which a small firmware at full speed hasn't got.
        if !args.fast || args.fault == Some(Fault::ServerRestart) {
            let ticks = update.size() / TICK_BYTES as u64 + 1;
            let every_ms = (DOWNLOAD_MS / ticks).max(1);
            hub.mischief(Mischief::SlowBody { bytes: TICK_BYTES, every_ms }, Times::UntilCleared);
        }
        screen.line(
            Who::Stage,
            &format!(
                "firmware {} to deploy: {}, {}",
                update.meta.version,
                bytes(update.size()),
                update.meta.uuid
            ),
        );
        Ok(Self { hub, update, machine, ca, disk, trusted, dir })
    }

    /// Boots the disk once.
    pub fn boot(&self) -> Result<Running, String> {
        match &self.machine {
            Machine::Ours(disk) => {
                let booted = disk.boot().map_err(|error| format!("the disk doesn't boot: {error}"))?;
                let slot = booted.slot.letter().to_owned();
                Ok(Running { slot, meta: booted.meta, validated: booted.validated })
            }
            Machine::Foreign(foreign) => foreign.boot(&self.disk),
        }
    }

    /// Returns the arguments of `run` for a device in this state.
    pub fn arguments(&self, running: &Running) -> Vec<OsString> {
        let product = self.hub.product();
        let mut arguments: Vec<OsString> = Vec::new();
        let mut give = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        give("--host", self.hub.url().into());
        give("--serial", SERIAL.into());
        give("--product-key", product.key.clone().into());
        give("--disk", self.disk.clone().into());
        give("--public-key", self.trusted.clone().into());
        give("--ca", self.ca.clone().into());
        give("--uboot-env", self.environment().to_string().into());
        give("--firmware-uuid", running.meta.uuid.clone().into());
        give("--firmware-version", running.meta.version.clone().into());
        give("--firmware-product", running.meta.product.clone().into());
        give("--firmware-platform", running.meta.platform.clone().into());
        give("--firmware-architecture", running.meta.architecture.clone().into());
        if matches!(&self.machine, Machine::Foreign(foreign) if foreign.made_up) {
            give("--allow-mismatch", "offer,product,platform,architecture".into());
        }
        // A second is long enough for the eye; a real device waits fifteen.
        give("--retry-delay", "1".into());
        arguments
    }

    /// Returns the disk's bytes as one digest, to show that nothing was written.
    pub fn disk_digest(&self) -> Result<[u8; 32], String> {
        let complain = |error| format!("can't read {}: {error}", self.disk.display());
        let mut file = std::fs::File::open(&self.disk).map_err(complain)?;
        let mut digest = fwup_stream::trust::Blake2b256::new();
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match std::io::Read::read(&mut file, &mut buffer).map_err(complain)? {
                0 => return Ok(digest.finalize()),
                count => {
                    digest.update(buffer.get(..count).ok_or("the system read more bytes than asked for")?);
                }
            }
        }
    }

    /// Removes everything the demonstration made.
    pub fn strike(self) -> Result<(), String> {
        drop(self.hub);
        self.dir.close().map_err(|error| format!("can't remove the temporary folder: {error}"))
    }

    fn environment(&self) -> EnvLocation {
        match &self.machine {
            Machine::Ours(disk) => {
                let layout = disk.layout();
                let block = nerves_hub_link_testkit::disk::BLOCK;
                EnvLocation {
                    offset: layout.environment * block,
                    size: layout.environment_blocks * block,
                    second: layout.environment_redundant.map(|at| at * block),
                }
            }
            Machine::Foreign(foreign) => foreign.environment,
        }
    }
}

fn made_up(
    args: &DemoArgs,
    key: &SigningKey,
    disk: &std::path::Path,
    dir: &std::path::Path,
) -> Result<(Firmware, Machine, String), String> {
    let layout = DiskLayout::with_slots_of(args.size + 1);
    let length = u64::from(args.size) * 1024 * 1024;
    let builder = |version: &str, length, seed| {
        FirmwareBuilder::new("demo", version)
            .platform("demo-board")
            .architecture("any")
            .level(0)
            .rootfs(length, seed)
            .ab_layout(&layout)
    };
    let complain = |error: &dyn std::fmt::Display| format!("can't make the firmware: {error}");
    // What runs at first only has to be told apart; a small one is made quicker.
    let old = builder("1.0.0", 1024 * 1024, 1).build(key).map_err(|error| complain(&error))?;
    let machine = AbDisk::create(disk, &layout, &old.meta, 1024 * 1024, 1)
        .map_err(|error| format!("can't make {}: {error}", disk.display()))?;

    let stranger = SigningKey::from_seed(7);
    let signer = if args.fault == Some(Fault::WrongKey) { &stranger } else { key };
    let archive = builder("1.1.0", length, 2)
        .build_file(signer, &dir.join("update.fw"))
        .map_err(|error| complain(&error))?;
    let update = if args.fault == Some(Fault::Tampered) {
        let whole = archive.bytes().map_err(|error| complain(&error))?;
        let how = Tamper::Resource { name: "rootfs.img".into(), offset: usize::MAX };
        let spoilt = tamper(&whole, &how).map_err(|error| complain(&error))?;
        Firmware::from_bytes(spoilt, archive.meta.clone())
    } else {
        Firmware::from_archive(&archive).map(Firmware::without_public_keys)
    }
    .map_err(|error| complain(&error))?;
    Ok((update, Machine::Ours(machine), key.public_key()))
}
