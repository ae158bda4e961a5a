//! Small archives, and destinations that misbehave.

use std::io;
use std::sync::{Arc, Mutex};

use ed25519_dalek::{Signer as _, SigningKey};
use fwup_stream::disk::{Extent, MemoryTarget, Target};
use fwup_stream::trust::{Blake2b256, PublicKey, to_hex};
use fwup_stream::{Applier, ApplyEvent, ApplyOptions, ApplyReport, Error};

pub const SLOT_A: u64 = 1024;
pub const SLOT_B: u64 = 4096;
pub const ENVIRONMENT: u64 = 16;

/// Data that differ from place to place and from seed to seed.
pub fn data(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at / 7 + at % 251) % 256).unwrap() ^ seed).collect()
}

/// A manifest's section for a resource.
pub fn resource(name: &str, data: &[u8]) -> String {
    let mut digest = Blake2b256::new();
    digest.update(data);
    let digest = to_hex(&digest.finalize());
    format!("file-resource \"{name}\" {{\nlength={}\nblake2b-256={digest}\n}}\n", data.len())
}

/// A ZIP archive of stored entries.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in entries {
        let size = u32::try_from(data.len()).unwrap().to_le_bytes();
        out.extend(b"PK\x03\x04\x0a\0\0\0\0\0\0\0\x21\0");
        out.extend(crc32fast::hash(data).to_le_bytes());
        out.extend([size, size].concat());
        out.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        out.extend([0, 0]);
        out.extend(name.as_bytes());
        out.extend(*data);
    }
    // The beginning of a directory is all a streaming reader looks for.
    out.extend(b"PK\x01\x02");
    out.extend([0; 42]);
    out
}

/// An unsigned archive.
pub fn archive(manifest: &str, resources: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<_> = resources.iter().map(|(name, _)| format!("data/{name}")).collect();
    let mut entries = vec![("meta.conf", manifest.as_bytes())];
    entries.extend(names.iter().zip(resources).map(|(name, (_, data))| (name.as_str(), *data)));
    zip(&entries)
}

pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A signed archive.
pub fn signed(manifest: &str, resources: &[(&str, &[u8])]) -> Vec<u8> {
    let signature = key().sign(manifest.as_bytes()).to_bytes();
    let mut out = zip(&[("meta.conf.ed25519", &signature)]);
    out.truncate(out.len() - 46);
    out.extend(archive(manifest, resources));
    out
}

pub fn public_key() -> PublicKey {
    PublicKey::from_file_bytes(key().verifying_key().as_bytes()).unwrap()
}

/// A device with two slots and an environment that says which one boots. Task "complete" fills slot A,
/// task "upgrade" the other slot than the active one.
pub fn device(version: u8) -> Vec<u8> {
    let image = data(version, 700_000);
    let task = |name: &str, active: &str, slot: u64, next: &str| {
        format!(
            "task \"{name}\" {{\nreqlist={{4,\"require-uboot-variable\",env,active,{active}}}\non-init {{\n\
             funlist={{2,info,\"to {next}\"}}\n}}\non-resource \"rootfs\" {{\nfunlist={{2,raw_write,{slot}}}\n}}\n\
             on-finish {{\nfunlist={{2,mbr_write,m,4,uboot_setenv,env,version,{version},4,uboot_setenv,env,active,{next}}}\n}}\n\
             on-error {{\nfunlist={{4,raw_memset,{slot},1,0xee}}\n}}\n}}\n"
        )
    };
    let manifest = [
        resource("rootfs", &image),
        "mbr \"m\" {\npartition \"0\" {\nblock-offset=1024\nblock-count=2000\ntype=131\n}\n}\n".to_owned(),
        format!(
            "task \"complete\" {{\non-init {{\nfunlist={{2,mbr_write,m,2,uboot_clearenv,env}}\n}}\n\
             on-resource \"rootfs\" {{\nfunlist={{2,raw_write,{SLOT_A}}}\n}}\n\
             on-finish {{\nfunlist={{4,uboot_setenv,env,active,a,4,uboot_setenv,env,version,{version}}}\n}}\n}}\n"
        ),
        task("upgrade.a", "b", SLOT_A, "a"),
        task("upgrade.b", "a", SLOT_B, "b"),
        // A block of its own, which a medium writes whole or not at all.
        format!("uboot-environment \"env\" {{\nblock-offset={ENVIRONMENT}\nblock-count=1\n}}\n"),
    ]
    .concat();
    signed(&manifest, &[("rootfs", &image)])
}

/// Where a device with a redundant environment has its copies: side by side, and next to the boot record.
pub const TWINS: [u64; 2] = [1, 4];
pub const TWIN_BLOCKS: u64 = 3;

/// Bytes of what such a device runs: a whole segment and a part.
pub const REDUNDANT_IMAGE: usize = 140_000;

/// Like [`device`], with two copies of the environment. `unset` variables go in on-init and `steps` are set
/// in on-finish, of which the first alone selects nothing and the last makes the upgrade complete.
pub fn redundant_device(version: u8, unset: usize, steps: usize) -> Vec<u8> {
    let image = data(version, REDUNDANT_IMAGE);
    let list = |calls: Vec<String>| calls.join(",");
    let unsets = list((0..unset).map(|number| format!("3,uboot_unsetenv,env,gone{number}")).collect());
    let sets: Vec<_> = (1..steps).map(|number| format!("4,uboot_setenv,env,s{number},{version}")).collect();
    let task = |name: &str, init: &str, slot: u64, next: &str| {
        let mut sets = sets.clone();
        sets.insert(sets.len() / 2, format!("4,uboot_setenv,env,active,{next}{version}"));
        let finish = list(sets);
        format!(
            "task \"{name}\" {{\non-init {{\nfunlist={{{init}}}\n}}\n\
             on-resource \"rootfs\" {{\nfunlist={{2,raw_write,{slot}}}\n}}\n\
             on-finish {{\nfunlist={{2,mbr_write,m,{finish}}}\n}}\n}}\n"
        )
    };
    let nothing = "2,info,go";
    let upgrade = task("upgrade", if unset == 0 { nothing } else { &unsets }, SLOT_B, "b");
    let complete = task("complete", "2,uboot_clearenv,env", SLOT_A, "a");
    let manifest = [
        resource("rootfs", &image),
        "mbr \"m\" {\npartition \"0\" {\nblock-offset=1024\nblock-count=2000\ntype=131\n}\n}\n".to_owned(),
        complete,
        upgrade,
        format!(
            "uboot-environment \"env\" {{\nblock-offset={}\nblock-count={TWIN_BLOCKS}\nblock-offset-redund={}\n}}\n",
            TWINS[0], TWINS[1]
        ),
    ]
    .concat();
    signed(&manifest, &[("rootfs", &image)])
}

/// What the newer sound copy of a redundant environment says; nothing when the device is bricked: no copy is
/// sound, what is selected is not all there, or its variables are not (`steps` of them).
pub fn redundant_boots(disk: &MemoryTarget, steps: usize) -> Option<(char, u8)> {
    let size = usize::try_from(TWIN_BLOCKS).unwrap() * 512;
    let copies = TWINS.map(|block| disk.bytes(block * 512, size));
    let sound = |copy: &Vec<u8>| crc32fast::hash(&copy[5..]).to_le_bytes() == copy[..4];
    let newer = (1..128).contains(&copies[1][4].wrapping_sub(copies[0][4]));
    let order = if newer { [&copies[1], &copies[0]] } else { [&copies[0], &copies[1]] };
    let text = String::from_utf8_lossy(&order.into_iter().find(|copy| sound(copy))?[5..]).into_owned();
    let value = |name: &str| {
        text.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let active = value("active")?;
    let (slot, version) = (active.chars().next()?, active[1..].parse().ok()?);
    let set = (1..steps).all(|number| value(&format!("s{number}")) == Some(format!("{version}")));
    let start = if slot == 'a' { SLOT_A } else { SLOT_B };
    let want = data(version, REDUNDANT_IMAGE);
    (set && disk.bytes(start * 512, want.len()) == want).then_some((slot, version))
}

pub fn options(task: &str) -> ApplyOptions {
    let mut options = ApplyOptions::default();
    task.clone_into(&mut options.task);
    options.public_keys = vec![public_key()];
    options
}

/// Options for archives without a signature.
pub fn unsigned(task: &str) -> ApplyOptions {
    let mut options = ApplyOptions::default();
    task.clone_into(&mut options.task);
    options.require_signature = false;
    options
}

pub fn apply(options: ApplyOptions, archive: &[u8], target: impl Target) -> Result<ApplyReport, Error> {
    let mut applier = Applier::new(options, target)?;
    applier.push(archive)?;
    applier.finish()
}

/// Applies and collects what is told.
pub fn apply_telling(
    options: ApplyOptions,
    archive: &[u8],
    target: impl Target,
) -> (Result<ApplyReport, Error>, Vec<ApplyEvent>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = Arc::clone(&told);
    let outcome = Applier::with_observer(options, target, move |event| teller.lock().unwrap().push(event))
        .and_then(|mut applier| {
            applier.push(archive)?;
            applier.finish()
        });
    let events = told.lock().unwrap().clone();
    (outcome, events)
}

/// A disk with version 1 in slot A.
pub fn installed() -> MemoryTarget {
    let mut disk = MemoryTarget::with_hard_size(4 << 20);
    apply(options("complete"), &device(1), &mut disk).unwrap();
    disk
}

/// The slot the environment selects and the version it names, if the environment is sound.
pub fn selected(disk: &MemoryTarget) -> Option<(char, u8)> {
    let block = disk.bytes(ENVIRONMENT * 512, 512);
    let sum = u32::from_le_bytes(block[..4].try_into().unwrap());
    if crc32fast::hash(&block[4..]) != sum {
        return None;
    }
    let text = String::from_utf8_lossy(&block[4..]).into_owned();
    let value = |name: &str| {
        text.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    Some((value("active")?.chars().next()?, value("version")?.parse().ok()?))
}

/// Whether what the environment selects is all there.
pub fn boots(disk: &MemoryTarget) -> Option<(char, u8)> {
    let (slot, version) = selected(disk)?;
    let start = if slot == 'a' { SLOT_A } else { SLOT_B };
    let want = data(version, 700_000);
    (disk.bytes(start * 512, want.len()) == want).then_some((slot, version))
}

/// What a target was asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Write(u64, Vec<u8>),
    Sync,
}

/// A target that keeps a log, and fails where it is told to.
pub struct Recorder {
    pub disk: MemoryTarget,
    pub log: Vec<Done>,
    /// Writes that end beyond this byte fail.
    pub full_at: u64,
    /// Syncs fail from the one of this number on.
    pub sync_fails_from: usize,
    /// What it writes in one go.
    pub granularity: usize,
}

impl Recorder {
    pub fn new(disk: MemoryTarget) -> Self {
        Self { disk, log: Vec::new(), full_at: u64::MAX, sync_fails_from: usize::MAX, granularity: 512 }
    }
}

impl Target for Recorder {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset + data.len() as u64 > self.full_at {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.log.push(Done::Write(offset, data.to_vec()));
        self.disk.write_at(offset, data)
    }

    fn sync(&mut self) -> io::Result<()> {
        let number = self.log.iter().filter(|done| **done == Done::Sync).count();
        if number >= self.sync_fails_from {
            return Err(io::Error::other("the medium is gone"));
        }
        self.log.push(Done::Sync);
        Ok(())
    }

    fn trim(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn extent(&self) -> Extent {
        self.disk.extent()
    }

    fn granularity(&self) -> usize {
        self.granularity
    }
}
