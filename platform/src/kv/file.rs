//! A text file of `key=value` lines, for devices without a U-Boot environment (device-identity §8).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::kv::uboot_env::EnvError;
use crate::kv::{Change, KeyValueStore, KvError, Pairs, check_pair, io_error};
use crate::limits::{LINKS_MAX, STORE_FILE_MAX};
use crate::lock;
use crate::small_file::{self, beside};

/// The byte order mark with which some editors begin a file.
const MARK: char = '\u{feff}';

/// A store of lines: `key=value`, `#` starts a comment line, a value may be in double quotes.
///
/// Written beside the file, synced and renamed over it, so a crash leaves the old or the new file.
/// Comments and the order of lines are kept. A missing file is an empty store. Values with line
/// breaks are refused.
#[derive(Clone, Debug)]
pub struct FileStore {
    path: PathBuf,
}

impl FileStore {
    /// Builds a store in the file at `path`. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn read(&self) -> Result<Vec<u8>, KvError> {
        let bytes = match crate::read_limited(&self.path, STORE_FILE_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error("read", &self.path))?,
        };
        bytes.ok_or_else(|| KvError::TooLong { path: self.path.clone(), limit: STORE_FILE_MAX })
    }

    fn check(&self, key: &str, value: &str) -> Result<(), KvError> {
        check_pair(key, value)?;
        if key.starts_with('#') || key.trim() != key {
            return Err(EnvError::Unstorable { name: key.to_owned() }.into());
        }
        if value.contains(['\n', '\r']) {
            return Err(KvError::MultiLine { key: key.to_owned(), path: self.path.clone() });
        }
        Ok(())
    }

    /// Returns the file itself where the path is a link, so that the link stays: it may lead to a partition that outlives
    /// this one.
    fn target(&self) -> PathBuf {
        let mut path = self.path.clone();
        for _ in 0..LINKS_MAX {
            let Ok(next) = fs::read_link(&path) else { return path };
            path = path.parent().map_or_else(|| next.clone(), |folder| folder.join(&next));
        }
        path
    }

    fn replace(target: &Path, text: &str) -> Result<(), KvError> {
        // The store may hold secrets: a new one is the owner's alone.
        let mode = fs::metadata(target).map_or(0o600, |old| old.permissions().mode() & 0o777);
        small_file::replace(target, text.as_bytes(), mode).map_err(|failed| KvError::Io {
            what: failed.what,
            path: failed.path,
            source: failed.source,
        })
    }
}

impl KeyValueStore for FileStore {
    fn load(&self) -> Result<Pairs, KvError> {
        let text = String::from_utf8_lossy(&self.read()?).into_owned();
        let text = text.trim_start_matches(MARK);
        Ok(text.lines().filter_map(pair).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    fn update(&mut self, changes: &[Change<'_>]) -> Result<(), KvError> {
        for (key, value) in changes {
            // Of what is deleted only the name is checked.
            self.check(key, value.unwrap_or_default())?;
        }
        let target = self.target();
        let _held = lock::beside(&beside(&target, ".lock"))?;
        let not_text = |_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8 text");
        let old =
            String::from_utf8(self.read()?).map_err(not_text).map_err(io_error("change", &self.path))?;
        let mut lines: Vec<String> = old.trim_start_matches(MARK).lines().map(str::to_owned).collect();
        for (key, value) in changes {
            lines.retain(|line| pair(line).is_none_or(|(name, _)| name != *key));
            lines.extend(value.map(|value| line(key, value)));
        }
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        if text.len() as u64 > STORE_FILE_MAX {
            return Err(KvError::TooLong { path: self.path.clone(), limit: STORE_FILE_MAX });
        }
        Self::replace(&target, &text)
    }
}

fn pair(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let value = value.trim();
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Some((key.trim(), quoted.unwrap_or(value)))
}

fn line(key: &str, value: &str) -> String {
    if value.trim() == value && !value.starts_with('"') {
        format!("{key}={value}")
    } else {
        format!("{key}=\"{value}\"")
    }
}
