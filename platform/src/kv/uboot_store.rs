//! A U-Boot environment on a device or in a file, as a store.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use crate::kv::fw_env_config::{FwEnvConfig, Location};
use crate::kv::uboot_env::{Copy, EnvError, Environment, Layout, newer};
use crate::kv::{Change, KeyValueStore, KvError, OwnedChange, Pairs, borrowed, io_error};
use crate::lock::{self, Held};
use crate::small_file::open_disk;

/// The U-Boot environment that boot loader, applier and device share.
///
/// Every write is preceded by a read, locks the medium and is read back. The lock is one that other users' programs can't take
/// (a file below `/run`); one that is held on the medium itself is waited for, for a second. With two copies the
/// newer one stays untouched, so a torn write loses only the change. A copy that cannot be read counts as one
/// with a bad checksum: the other is used, and the next write goes to the bad one. If that fails, nothing is
/// written: the only good copy is never overwritten.
#[derive(Clone, Debug)]
pub struct UbootStore {
    config: FwEnvConfig,
}

/// A copy that could be read.
struct Loaded {
    env: Environment,
    generation: u8,
    from: Copy,
    /// What is wrong with the other one.
    damage: Option<String>,
}

impl UbootStore {
    /// Builds a store at the places of `config`. Nothing is read yet.
    pub const fn new(config: FwEnvConfig) -> Self {
        Self { config }
    }

    /// Gives up what is there and writes an environment of `pairs` alone: for a new device, or one
    /// whose copies are all bad. Two copies get the same content and generation, as `fwup` does it; the
    /// one in use is written last, so that a loss of power leaves the old content or the new.
    pub fn format(&mut self, pairs: &Pairs) -> Result<(), KvError> {
        let changes: Vec<Change<'_>> =
            pairs.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))).collect();
        let mut env = Environment::default();
        env.apply(&changes)?;
        let _held = self.lock()?;
        // What cannot be read is what formatting is for.
        let (in_use, generation) = match self.read() {
            Ok(loaded) => (loaded.from, loaded.generation.wrapping_add(1)),
            Err(_) => (Copy::Second, 1),
        };
        let block = env.encode(self.config.first().size, self.layout(), generation)?;
        match (self.config.second(), in_use) {
            (None, _) => write(self.config.first(), &block),
            (Some(second), Copy::First) => {
                write(second, &block)?;
                write(self.config.first(), &block)
            }
            (Some(second), Copy::Second) => {
                write(self.config.first(), &block)?;
                write(second, &block)
            }
        }
    }

    /// Returns what is wrong with copies, for a person: none, or one that is unreadable or damaged beside a good one.
    ///
    /// # Errors
    ///
    /// If no copy can be used.
    pub fn damage(&self) -> Result<Option<String>, KvError> {
        Ok(self.read()?.damage)
    }

    /// Keeps others of ours from writing; a reader of the medium that locks it prevents nothing. Held from the read to the end of the write, whichever copy that goes to.
    fn lock(&self) -> Result<Held, KvError> {
        let open = |at: &Location| {
            let opened = OpenOptions::new().read(true).write(true).open(&at.path);
            opened.map_err(io_error("open for writing", &at.path)).map(|file| (file, at.path.clone()))
        };
        // The first copy may be the one whose device fails.
        let first = open(self.config.first());
        let (file, path) = match (first, self.config.second()) {
            (Err(_), Some(second)) => open(second)?,
            (first, _) => first?,
        };
        lock::insist(file, &path)
    }

    const fn layout(&self) -> Layout {
        if self.config.second().is_some() { Layout::Redundant } else { Layout::Plain }
    }

    fn read(&self) -> Result<Loaded, KvError> {
        let at = self.config.first();
        let first = self.read_copy(at);
        let Some(second_at) = self.config.second() else {
            let (env, generation) = first.map_err(|bad| bad.alone(at))?;
            return Ok(Loaded { env, generation, from: Copy::First, damage: None });
        };
        let (loaded, from, damage) = match (first, self.read_copy(second_at)) {
            (Ok(first), Ok(second)) => match newer(first.1, second.1) {
                Copy::First => (first, Copy::First, None),
                Copy::Second => (second, Copy::Second, None),
            },
            // The boot loader goes on with the other copy, too.
            (Ok(first), Err(bad)) => (first, Copy::First, Some(bad.describe(second_at))),
            (Err(bad), Ok(second)) => (second, Copy::Second, Some(bad.describe(at))),
            (Err(a), Err(b)) => {
                let reasons = format!("{}; {}", a.describe(at), b.describe(second_at));
                return Err(if a.is_short() || b.is_short() {
                    KvError::TooShort { reasons }
                } else {
                    KvError::NoEnvironment { reasons }
                });
            }
        };
        Ok(Loaded { env: loaded.0, generation: loaded.1, from, damage })
    }

    fn read_copy(&self, at: &Location) -> Result<(Environment, u8), Bad> {
        let file = open_disk(&at.path).map_err(io_error("open", &at.path)).map_err(Bad::Io)?;
        // A file that ends early reads as zeros, as `fwup` reads it: a bad checksum, not a failure.
        let mut block = vec![0; at.size];
        let count = read_up_to(&file, &mut block, at.offset)
            .map_err(io_error("read the U-Boot environment from", &at.path))
            .map_err(Bad::Io)?;
        Environment::decode(&block, self.layout()).map_err(|error| match count {
            0 => Bad::Beyond,
            _ if count < at.size => Bad::Cut { count },
            _ => Bad::Content(error),
        })
    }
}

/// Why a copy can't be used.
enum Bad {
    /// The medium failed.
    Io(KvError),
    /// What is there is no environment.
    Content(EnvError),
    /// The medium ends before it.
    Beyond,
    /// The medium ends within it, and what is there is no environment.
    Cut {
        /// Bytes there are.
        count: usize,
    },
}

impl Bad {
    const fn is_short(&self) -> bool {
        matches!(self, Self::Beyond | Self::Cut { .. })
    }

    fn describe(&self, at: &Location) -> String {
        let place = at.path.display();
        let reason = match self {
            Self::Io(KvError::Io { source, .. }) => source.to_string(),
            Self::Io(error) => error.to_string(),
            Self::Content(error) => error.to_string(),
            Self::Beyond => "it ends before this place".to_owned(),
            Self::Cut { count } => format!("it ends after {count:#x} of them"),
        };
        format!("{place} at {:#x}, {:#x} bytes: {reason}", at.offset, at.size)
    }

    /// The error where there is no other copy.
    fn alone(self, at: &Location) -> KvError {
        match self {
            Self::Io(error) => error,
            Self::Content(_) => KvError::NoEnvironment { reasons: self.describe(at) },
            Self::Beyond | Self::Cut { .. } => KvError::TooShort { reasons: self.describe(at) },
        }
    }
}

impl KeyValueStore for UbootStore {
    fn load(&self) -> Result<Pairs, KvError> {
        Ok(self.read()?.env.pairs())
    }

    fn update(&mut self, changes: &[Change<'_>]) -> Result<(), KvError> {
        let _held = self.lock()?;
        let loaded = self.read()?;
        self.replace(loaded, changes)
    }

    fn change(&mut self, decide: &mut dyn FnMut(&Pairs) -> Vec<OwnedChange>) -> Result<(), KvError> {
        self.change_leaving(0, decide)
    }

    fn change_leaving(
        &mut self,
        reserve: usize,
        decide: &mut dyn FnMut(&Pairs) -> Vec<OwnedChange>,
    ) -> Result<(), KvError> {
        let _held = self.lock()?;
        let loaded = self.read()?;
        let changes = decide(&loaded.env.pairs());
        if changes.is_empty() {
            return Ok(());
        }
        let changes = borrowed(&changes);
        let mut after = loaded.env.clone();
        after.apply(&changes)?;
        let (needed, size) = (after.needed(self.layout()), self.config.first().size);
        if needed > loaded.env.needed(self.layout()) && needed.saturating_add(reserve) > size {
            return Err(EnvError::TooSmall { needed: needed.saturating_add(reserve), size }.into());
        }
        self.replace(loaded, &changes)
    }
}

impl UbootStore {
    /// Writes what was loaded, changed, to the copy that is not in use.
    fn replace(&self, loaded: Loaded, changes: &[Change<'_>]) -> Result<(), KvError> {
        let Loaded { mut env, generation, from, .. } = loaded;
        env.apply(changes)?;
        let (target, generation) = match (self.config.second(), from) {
            (None, _) => (self.config.first(), 0),
            (Some(second), Copy::First) => (second, generation.wrapping_add(1)),
            (Some(_), Copy::Second) => (self.config.first(), generation.wrapping_add(1)),
        };
        write(target, &env.encode(target.size, self.layout(), generation)?)
    }
}

fn write(at: &Location, block: &[u8]) -> Result<(), KvError> {
    let file = OpenOptions::new().read(true).write(true).open(&at.path);
    let file = file.map_err(io_error("open for writing", &at.path))?;
    let written = file.write_all_at(block, at.offset).and_then(|()| file.sync_data());
    written.map_err(io_error("write the U-Boot environment to", &at.path))?;
    let mut back = vec![0; block.len()];
    read_up_to(&file, &mut back, at.offset)
        .map_err(io_error("read the U-Boot environment from", &at.path))?;
    if back != block {
        return Err(KvError::NotKept { path: at.path.clone(), offset: at.offset });
    }
    Ok(())
}

/// Fills the buffer unless the file ends early. Returns how many bytes there were.
fn read_up_to(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<usize> {
    let wanted = buffer.len();
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => break,
            Ok(count) => {
                let Some(rest) = buffer.get_mut(count..) else {
                    debug_assert!(false, "more bytes read than asked for");
                    return Err(std::io::Error::other("the system read more bytes than asked for"));
                };
                buffer = rest;
                offset += count as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - buffer.len())
}
