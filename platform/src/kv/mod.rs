//! Where a device keeps what it knows about itself: key-value stores (device-identity §1).

mod file;
pub mod fw_env_config;
pub mod uboot_env;
mod uboot_store;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use file::FileStore;
pub use uboot_store::UbootStore;

use uboot_env::EnvError;

/// All pairs of a store, sorted by key.
pub type Pairs = BTreeMap<String, String>;

/// A change to one key: the new value, or `None` to remove it.
pub type Change<'a> = (&'a str, Option<&'a str>);

/// A change that owns its texts.
pub type OwnedChange = (String, Option<String>);

/// A place for keys and values that survives a restart.
///
/// The boot loader and the firmware applier write to the same place, so nothing is cached: every
/// call reads afresh.
pub trait KeyValueStore: Send {
    /// Reads every pair. Bytes that are not UTF-8 are replaced by U+FFFD.
    fn load(&self) -> Result<Pairs, KvError>;

    /// Applies all `changes` in one write: after a crash either all of them are there or none.
    /// (On a U-Boot environment without a second copy a torn write can lose the block.)
    fn update(&mut self, changes: &[Change<'_>]) -> Result<(), KvError>;

    /// Lets `decide` choose changes from what is there now, and applies them as [`update`](Self::update) does. Stores
    /// that lock keep other writers away in between. Without changes nothing is written.
    fn change(&mut self, decide: &mut dyn FnMut(&Pairs) -> Vec<OwnedChange>) -> Result<(), KvError> {
        let changes = decide(&self.load()?);
        if changes.is_empty() {
            return Ok(());
        }
        self.update(&borrowed(&changes))
    }

    /// Like [`change`](Self::change), but fails with [`EnvError::TooSmall`] and writes nothing if the changes need more
    /// room than what is there now and leave fewer than `reserve` bytes free. Stores without a fixed size always have room.
    fn change_leaving(
        &mut self,
        reserve: usize,
        decide: &mut dyn FnMut(&Pairs) -> Vec<OwnedChange>,
    ) -> Result<(), KvError> {
        // No bytes are scarce here.
        let _ = reserve;
        self.change(decide)
    }

    /// Reads one value.
    fn get(&self, key: &str) -> Result<Option<String>, KvError> {
        Ok(self.load()?.remove(key))
    }

    /// Sets one value.
    fn put(&mut self, key: &str, value: &str) -> Result<(), KvError> {
        self.update(&[(key, Some(value))])
    }
}

/// A store in memory, for tests and for devices that set their identity in code.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    pairs: Pairs,
}

impl MemoryStore {
    /// Builds a store that holds `pairs`.
    pub fn new<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { pairs: pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect() }
    }
}

impl KeyValueStore for MemoryStore {
    fn load(&self) -> Result<Pairs, KvError> {
        Ok(self.pairs.clone())
    }

    fn update(&mut self, changes: &[Change<'_>]) -> Result<(), KvError> {
        for (key, value) in changes {
            // Of what is deleted only the name is checked.
            check_pair(key, value.unwrap_or_default())?;
        }
        for (key, value) in changes {
            match value {
                Some(value) => self.pairs.insert((*key).to_owned(), (*value).to_owned()),
                None => self.pairs.remove(*key),
            };
        }
        Ok(())
    }
}

/// Why a store could not be read or written. What was there before is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The operating system said no.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// No copy of a U-Boot environment could be used.
    #[error(
        "no usable U-Boot environment: {reasons}; check that device, offset and size are those that the boot loader and \
         the firmware use"
    )]
    NoEnvironment {
        /// What is wrong with each copy, with its place.
        reasons: String,
    },
    /// The medium ends before a U-Boot environment or within it, and no other copy can be used.
    #[error(
        "no usable U-Boot environment: {reasons}; the disk is shorter than it was, or device, offset and size are not those \
         that the boot loader and the firmware use"
    )]
    TooShort {
        /// What is wrong with each copy, with its place.
        reasons: String,
    },
    /// The pairs do not fit, or a pair cannot be stored in this format.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// A value cannot be kept in a store of lines.
    #[error("the value of {key:?} has more than one line, which {path} cannot hold")]
    MultiLine {
        /// The key.
        key: String,
        /// The store.
        path: PathBuf,
    },
    /// A file is longer than any store of this kind.
    #[error("{path} is longer than {limit} bytes, too long for a key-value store")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Another program holds the medium, most likely an update that is being written.
    #[error("{path} is locked by another program (an update in progress?); try again later")]
    Busy {
        /// The file or device.
        path: PathBuf,
    },
    /// What was written is not what is there now.
    #[error("{path} did not keep what was written at offset {offset}; the medium may be failing")]
    NotKept {
        /// The file or device.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
    },
}

impl KvError {
    /// Returns whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}

fn borrowed(changes: &[OwnedChange]) -> Vec<Change<'_>> {
    changes.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect()
}

/// Refuses names and values that no store here can hold.
fn check_pair(key: &str, value: &str) -> Result<(), EnvError> {
    let bad_name = key.is_empty() || key.contains(['=', '\0', '\n', '\r']);
    if bad_name || value.contains('\0') {
        return Err(EnvError::Unstorable { name: key.to_owned() });
    }
    Ok(())
}

fn io_error(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> KvError {
    let path = path.to_owned();
    move |source| KvError::Io { what, path, source }
}
