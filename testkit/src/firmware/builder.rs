//! Builds signed archives.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ab;
use super::content::Content;
use super::keys::SigningKey;
use super::meta_conf::{Printer, Task};
use super::zip::{ArchiveWriter, Head, META_CONF, SIGNATURE};
use crate::disk::{DiskLayout, Rootfs};
use crate::limits::{META_CONF_MAX, META_CONF_MIN};
use crate::meta::FirmwareMeta;

/// The time in every archive unless another is set: 2023-11-14T22:13:20Z.
pub const DEFAULT_TIME: u32 = 1_700_000_000;

/// Why an archive was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A title that `meta.conf` cannot hold.
    #[error("the name {0:?} has a quote or a backslash in it, which meta.conf cannot hold")]
    Name(String),
    /// The manifest is too big or too small to be applied.
    #[error("meta.conf would have {0} bytes; readers take {META_CONF_MIN} to {META_CONF_MAX}")]
    MetaConf(usize),
    /// An A/B archive without its root file system.
    #[error("an A/B archive needs a resource rootfs.img; add it with rootfs() or resource()")]
    NoRootfs,
    /// The root file system is larger than a slot.
    #[error("rootfs.img has {length} bytes but a slot only {room}")]
    SlotTooSmall {
        /// Bytes of the resource.
        length: u64,
        /// Bytes of a slot.
        room: u64,
    },
    /// Writing failed.
    #[error("the archive could not be written: {0}")]
    Io(#[from] io::Error),
}

/// Describes a firmware and builds it as a signed `.fw` archive in fwup's form, always the same bytes
/// for the same description.
#[derive(Debug, Clone)]
pub struct FirmwareBuilder {
    meta: FirmwareMeta,
    resources: Vec<(String, Content)>,
    layout: Option<DiskLayout>,
    tasks: Vec<Task>,
    deltas: bool,
    mtime: u32,
    level: u32,
}

impl FirmwareBuilder {
    /// A firmware of this product and version, for platform `testkit` and architecture `generic`.
    pub fn new(product: &str, version: &str) -> Self {
        let meta = FirmwareMeta {
            product: product.to_owned(),
            version: version.to_owned(),
            platform: "testkit".to_owned(),
            architecture: "generic".to_owned(),
            ..FirmwareMeta::default()
        };
        let (resources, tasks) = (Vec::new(), Vec::new());
        Self { meta, resources, layout: None, tasks, deltas: false, mtime: DEFAULT_TIME, level: 9 }
    }

    /// Sets the platform.
    #[must_use]
    pub fn platform(mut self, platform: &str) -> Self {
        platform.clone_into(&mut self.meta.platform);
        self
    }

    /// Sets the architecture.
    #[must_use]
    pub fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.meta.architecture);
        self
    }

    /// Sets the author.
    #[must_use]
    pub fn author(mut self, author: &str) -> Self {
        self.meta.author = Some(author.to_owned());
        self
    }

    /// Sets the description.
    #[must_use]
    pub fn description(mut self, description: &str) -> Self {
        self.meta.description = Some(description.to_owned());
        self
    }

    /// Adds a resource.
    #[must_use]
    pub fn resource(mut self, name: &str, content: impl Into<Content>) -> Self {
        self.resources.push((name.to_owned(), content.into()));
        self
    }

    /// Adds `rootfs.img` of `length` bytes that names this firmware's version, made from a seed.
    #[must_use]
    pub fn rootfs(self, length: u64, seed: u64) -> Self {
        let content = Rootfs::new(&self.meta.version, length, seed).content();
        self.resource(ab::ROOTFS, content)
    }

    /// Adds the boot record, the environment and the tasks of an A/B device.
    #[must_use]
    pub fn ab_layout(mut self, layout: &DiskLayout) -> Self {
        self.layout = Some(*layout);
        self
    }

    /// Adds a task behind those of the layout.
    #[must_use]
    pub fn task(mut self, task: Task) -> Self {
        self.tasks.push(task);
        self
    }

    /// Lets the layout's upgrades take deltas ([`delta`](super::delta)) from the running slot.
    #[must_use]
    pub fn deltas(mut self) -> Self {
        self.deltas = true;
        self
    }

    /// Sets the time in the archive, in Unix seconds.
    #[must_use]
    pub fn time(mut self, unix_seconds: u32) -> Self {
        self.mtime = unix_seconds;
        self
    }

    /// Sets how hard to compress, 0 to 9; 9 at first. Lower is quicker for content that is huge and
    /// does not compress anyway.
    #[must_use]
    pub fn level(mut self, level: u32) -> Self {
        self.level = level;
        self
    }

    /// Builds it in memory, signed.
    pub fn build(&self, key: &SigningKey) -> Result<FirmwareArchive, BuildError> {
        self.in_memory(Some(key))
    }

    /// Builds it in memory without a signature.
    pub fn build_unsigned(&self) -> Result<FirmwareArchive, BuildError> {
        self.in_memory(None)
    }

    /// Builds it into a file, signed, without holding any resource in memory.
    pub fn build_file(&self, key: &SigningKey, path: &Path) -> Result<FirmwareArchive, BuildError> {
        let meta_conf = self.meta_conf()?;
        self.write(&meta_conf, Some(key), BufWriter::new(File::create(path)?))?;
        Ok(self.archive(&meta_conf, Some(key), Data::File(path.to_owned())))
    }

    fn in_memory(&self, key: Option<&SigningKey>) -> Result<FirmwareArchive, BuildError> {
        let meta_conf = self.meta_conf()?;
        let bytes = self.write(&meta_conf, key, Vec::new())?;
        Ok(self.archive(&meta_conf, key, Data::Memory(bytes.into())))
    }

    fn archive(&self, meta_conf: &str, key: Option<&SigningKey>, data: Data) -> FirmwareArchive {
        let meta = FirmwareMeta { uuid: uuid(meta_conf.as_bytes()), ..self.meta.clone() };
        FirmwareArchive { meta, public_key: key.map(SigningKey::public_key), data }
    }

    fn write<W: Write>(&self, meta_conf: &str, key: Option<&SigningKey>, out: W) -> io::Result<W> {
        let mut writer = ArchiveWriter::new(out, self.level);
        if let Some(key) = key {
            let signature = key.sign(meta_conf.as_bytes());
            writer.entry(&Head::new(SIGNATURE, self.mtime), 64, &mut signature.as_slice())?;
        }
        let size = meta_conf.len() as u64;
        writer.entry(&Head::new(META_CONF, self.mtime), size, &mut meta_conf.as_bytes())?;
        for (name, content) in &self.resources {
            // A leading slash puts the resource at the top of the archive.
            let name = name.strip_prefix('/').map_or_else(|| format!("data/{name}"), str::to_owned);
            writer.entry(&Head::new(&name, self.mtime), content.len(), &mut content.reader())?;
        }
        writer.finish()
    }

    fn meta_conf(&self) -> Result<String, BuildError> {
        let mut out = Printer::default();
        let optional = |value: &Option<String>| value.clone().unwrap_or_default();
        out.string("meta-product", &self.meta.product);
        out.string("meta-description", &optional(&self.meta.description));
        out.string("meta-version", &self.meta.version);
        out.string("meta-author", &optional(&self.meta.author));
        out.string("meta-platform", &self.meta.platform);
        out.string("meta-architecture", &self.meta.architecture);
        out.string("meta-vcs-identifier", &optional(&self.meta.vcs_identifier));
        out.string("meta-misc", &optional(&self.meta.misc));
        for (name, content) in &self.resources {
            title(name)?;
            out.open("file-resource", name);
            if !content.is_empty() {
                out.plain("length", content.len());
            }
            out.string("blake2b-256", &blake2b(content)?);
            out.close();
        }
        let mut tasks = Vec::new();
        if let Some(layout) = &self.layout {
            let rootfs = self.resources.iter().find(|(name, _)| name == ab::ROOTFS);
            let (_, content) = rootfs.ok_or(BuildError::NoRootfs)?;
            let room = layout.slot_blocks * crate::disk::BLOCK;
            if content.len() > room {
                return Err(BuildError::SlotTooSmall { length: content.len(), room });
            }
            ab::print_mbr(&mut out, layout);
            tasks = ab::tasks(layout, &self.meta, self.deltas);
        }
        tasks.extend(self.tasks.iter().cloned());
        for task in &tasks {
            title(&task.name)?;
            out.task(task);
        }
        if let Some(layout) = &self.layout {
            ab::print_environment(&mut out, layout);
        }
        let text = out.finish();
        if (META_CONF_MIN..=META_CONF_MAX).contains(&text.len()) {
            Ok(text)
        } else {
            Err(BuildError::MetaConf(text.len()))
        }
    }
}

/// A built archive and what is known about it.
#[derive(Debug, Clone)]
pub struct FirmwareArchive {
    /// What the firmware says about itself, UUID included.
    pub meta: FirmwareMeta,
    /// The public key that verifies it, absent when it is not signed.
    pub public_key: Option<String>,
    /// The bytes.
    pub data: Data,
}

impl FirmwareArchive {
    /// The archive's UUID.
    pub fn uuid(&self) -> &str {
        &self.meta.uuid
    }

    /// All bytes; from a file they are read now.
    pub fn bytes(&self) -> io::Result<Arc<[u8]>> {
        match &self.data {
            Data::Memory(bytes) => Ok(Arc::clone(bytes)),
            Data::File(path) => std::fs::read(path).map(Into::into),
        }
    }
}

/// Where the bytes of an archive are.
#[derive(Debug, Clone)]
pub enum Data {
    /// In memory.
    Memory(Arc<[u8]>),
    /// In a file.
    File(PathBuf),
}

/// The UUID of an archive, from the bytes of its `meta.conf` (fw-format §5).
pub fn uuid(meta_conf: &[u8]) -> String {
    const SALT: [u8; 16] =
        [0x20, 0x53, 0xdf, 0xfb, 0xd5, 0x1e, 0x43, 0x10, 0xb9, 0x3b, 0x95, 0x6d, 0xa8, 0x9f, 0x9f, 0x34];
    let hash =
        blake2b_simd::Params::new().hash_length(32).to_state().update(&SALT).update(meta_conf).finalize();
    let mut text = String::with_capacity(36);
    for (index, byte) in hash.as_bytes().iter().take(16).enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let byte = if index == 6 { (byte & 0x0f) | 0x50 } else { *byte };
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn blake2b(content: &Content) -> io::Result<String> {
    let mut state = blake2b_simd::Params::new().hash_length(32).to_state();
    let mut reader = content.reader();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            return Ok(state.finalize().to_hex().to_string());
        }
        state.update(buffer.get(..n).unwrap_or_default());
    }
}

fn title(name: &str) -> Result<(), BuildError> {
    if name.contains(['"', '\\']) { Err(BuildError::Name(name.to_owned())) } else { Ok(()) }
}
