//! Archives on this device: which it had already.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nerves_hub_link_protocol::limits::MAX_KNOWN_ARCHIVES;

/// The file of UUIDs, one a line, beside the archives.
const FILE: &str = "known-archives";
/// Largest such file read. Ours has a few lines.
const FILE_MAX: u64 = 64 * 1024;

/// The UUIDs of archives that were handed over once.
#[derive(Debug, Clone)]
pub struct Known {
    path: PathBuf,
}

impl Known {
    /// Looks in a folder of archives.
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join(FILE) }
    }

    /// Returns the newest, the oldest first.
    pub fn list(&self) -> Result<Vec<String>, String> {
        let complain = |error: std::io::Error| format!("can't read {}: {error}", self.path.display());
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(complain(error)),
            Ok(found) if found.len() > FILE_MAX => {
                return Err(format!("{} is larger than {FILE_MAX} bytes; delete it", self.path.display()));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(&self.path).map_err(complain)?;
        let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(lines.into_iter().rev().take(MAX_KNOWN_ARCHIVES).rev().collect())
    }

    /// Adds one, so that it is known after a power loss too.
    pub fn add(&self, uuid: &str) -> Result<(), String> {
        let complain = |error: std::io::Error| format!("can't write {}: {error}", self.path.display());
        if uuid.is_empty() || uuid.chars().any(char::is_control) {
            return Ok(());
        }
        let mut lines = self.list()?;
        lines.push(uuid.to_owned());
        let new = self.path.with_extension("new");
        let opened = OpenOptions::new().write(true).create(true).truncate(true).open(&new);
        let mut file = opened.map_err(complain)?;
        file.write_all((lines.join("\n") + "\n").as_bytes()).map_err(complain)?;
        file.sync_all().map_err(complain)?;
        fs::rename(&new, &self.path).map_err(complain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known::new(dir.path());
        assert_eq!(known.list(), Ok(Vec::new()));
        for number in 0..=MAX_KNOWN_ARCHIVES {
            known.add(&number.to_string()).unwrap();
        }
        known.add("two\nlines").unwrap();
        let list = known.list().unwrap();
        assert_eq!((list.len(), list[0].as_str()), (MAX_KNOWN_ARCHIVES, "1"));
        fs::write(dir.path().join(FILE), "x".repeat(usize::try_from(FILE_MAX).unwrap() + 1)).unwrap();
        assert!(known.list().unwrap_err().contains("delete it"));
    }
}
