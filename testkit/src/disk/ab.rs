//! An A/B disk image in a file.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::boot::{self, BootError, Booted};
use super::environment::{EnvironmentError, Variables, encode, read_environment, write_environment};
use super::layout::{BLOCK, DiskLayout, Slot};
use super::medium::{ImageFile, Medium};
use super::rootfs::Rootfs;
use crate::meta::FirmwareMeta;

/// A disk image with a boot record, a U-Boot environment and two slots. Opens the file anew for each
/// call, so that the code under test may write it in between.
#[derive(Debug, Clone)]
pub struct AbDisk {
    path: PathBuf,
    layout: DiskLayout,
}

impl AbDisk {
    /// Makes an image whose slot A holds this firmware, validated, with a root file system of
    /// `rootfs_len` bytes made from a seed.
    pub fn create(
        path: &Path,
        layout: &DiskLayout,
        meta: &FirmwareMeta,
        rootfs_len: u64,
        seed: u64,
    ) -> io::Result<Self> {
        let mut image = ImageFile::create(path, layout.disk_len())?;
        format_disk(&mut image, layout, meta, rootfs_len, seed)?;
        Ok(Self { path: path.to_owned(), layout: *layout })
    }

    /// Takes an image that is there.
    pub fn open(path: &Path, layout: &DiskLayout) -> Self {
        Self { path: path.to_owned(), layout: *layout }
    }

    /// The image file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where things are.
    pub fn layout(&self) -> &DiskLayout {
        &self.layout
    }

    /// Boots it once; see [`boot::boot`].
    pub fn boot(&self) -> Result<Booted, BootError> {
        boot::boot(&mut self.image()?, &self.layout)
    }

    /// Boots until something comes up; see [`boot::boot_with_watchdog`].
    pub fn boot_with_watchdog(&self) -> Result<Booted, BootError> {
        boot::boot_with_watchdog(&mut self.image()?, &self.layout)
    }

    /// Marks the running firmware as good.
    pub fn validate(&self) -> Result<(), EnvironmentError> {
        boot::validate(&mut self.image()?, &self.layout)
    }

    /// The environment.
    pub fn environment(&self) -> Result<Variables, EnvironmentError> {
        read_environment(&self.image()?, &self.layout)
    }

    /// Changes the environment as `fw_setenv` would.
    pub fn set_environment(&self, variables: &Variables) -> Result<(), EnvironmentError> {
        write_environment(&mut self.image()?, &self.layout, variables)
    }

    fn image(&self) -> Result<ImageFile, EnvironmentError> {
        ImageFile::open(&self.path)
            .map_err(|error| EnvironmentError::Io(format!("{}: {error}", self.path.display())))
    }
}

/// Writes boot record, environment and slot A as a factory would: what [`AbDisk::create`] does, on any
/// medium.
pub fn format_disk(
    medium: &mut dyn Medium,
    layout: &DiskLayout,
    meta: &FirmwareMeta,
    rootfs_len: u64,
    seed: u64,
) -> io::Result<()> {
    let room = layout.slot_blocks * BLOCK;
    if rootfs_len > room {
        return Err(io::Error::other(format!(
            "a root file system of {rootfs_len} bytes, but slots of {room}"
        )));
    }
    medium.write_at(0, &boot_record(layout))?;
    let variables = factory_environment(meta);
    let size = usize::try_from(layout.environment_blocks * BLOCK).map_err(io::Error::other)?;
    let generation = layout.environment_redundant.map(|_| 1);
    let block = encode(&variables, size, generation).map_err(io::Error::other)?;
    medium.write_at(layout.environment * BLOCK, &block)?;
    if let Some(second) = layout.environment_redundant {
        let block = encode(&variables, size, Some(0)).map_err(io::Error::other)?;
        medium.write_at(second * BLOCK, &block)?;
    }
    let content = Rootfs::new(&meta.version, rootfs_len, seed).content();
    let mut reader = content.reader();
    let mut buffer = vec![0; 64 * 1024];
    let mut at = layout.slot_a * BLOCK;
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        medium.write_at(at, buffer.get(..n).unwrap_or_default())?;
        at += n as u64;
    }
}

fn factory_environment(meta: &FirmwareMeta) -> Variables {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let mut variables = Variables::new();
    for (name, value) in [
        ("product", meta.product.clone()),
        ("description", text(&meta.description)),
        ("version", meta.version.clone()),
        ("platform", meta.platform.clone()),
        ("architecture", meta.architecture.clone()),
        ("author", text(&meta.author)),
        ("vcs_identifier", text(&meta.vcs_identifier)),
        ("misc", text(&meta.misc)),
        ("uuid", meta.uuid.clone()),
    ] {
        variables.insert(format!("{}.nerves_fw_{name}", Slot::A.letter()), value);
    }
    for (name, value) in [("active", "a"), ("validated", "1"), ("booted", "1"), ("devpath", "/dev/rootdisk0")]
    {
        variables.insert(format!("nerves_fw_{name}"), value.to_owned());
    }
    variables
}

fn boot_record(layout: &DiskLayout) -> Vec<u8> {
    let mut record = vec![0; 446];
    let partitions = [
        (layout.slot_a, layout.slot_blocks),
        (layout.slot_b, layout.slot_blocks),
        (layout.application, layout.application_blocks),
    ];
    for (start, count) in partitions {
        record.extend([0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
        for field in [start, count] {
            record.extend(u32::try_from(field).unwrap_or(u32::MAX).to_le_bytes());
        }
    }
    record.resize(510, 0);
    record.extend([0x55, 0xaa]);
    record
}
