//! Archives on this device: which it had already.

use std::path::{Path, PathBuf};

use nerves_hub_link_platform::small_file;
use nerves_hub_link_protocol::limits::MAX_KNOWN_ARCHIVES;

use crate::bookkeeping::{Unusable, read_text, set_aside};

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
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn list(&self) -> Result<Vec<String>, Unusable> {
        let text = read_text(&self.path, FILE_MAX)?;
        let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(lines.into_iter().rev().take(MAX_KNOWN_ARCHIVES).rev().collect())
    }

    /// Returns the newest; a damaged file is set aside. Whatever is wrong is said, and costs a download.
    pub fn list_or_say(&self, say: impl Fn(String)) -> Vec<String> {
        let again = "archives that were downloaded once are downloaded again";
        let path = self.path.display();
        match self.list() {
            Ok(list) => return list,
            Err(Unusable::Damaged(why)) => match set_aside(&self.path) {
                Ok(aside) => {
                    say(format!("{path}: {why}; it is set aside as {}, and {again}", aside.display()));
                }
                Err(error) => say(format!("{path}: {why}, and it can't be set aside: {error}; {again}")),
            },
            Err(Unusable::Unreadable(why)) => say(format!("{path}: {why}; delete it. Until then {again}")),
        }
        Vec::new()
    }

    /// Adds one, so that it is known after a power loss too.
    pub fn add(&self, uuid: &str) -> Result<(), String> {
        if uuid.is_empty() || uuid.chars().any(char::is_control) {
            return Ok(());
        }
        self.change(|lines| lines.push(uuid.to_owned()))
    }

    /// Removes one that is no longer there.
    pub fn remove(&self, uuid: &str) -> Result<(), String> {
        self.change(|lines| lines.retain(|line| line != uuid))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<String>)) -> Result<(), String> {
        let mut lines = self.list().map_err(|why| format!("{}: {why}", self.path.display()))?;
        change(&mut lines);
        let text = lines.join("\n") + "\n";
        small_file::replace(&self.path, text.as_bytes(), 0o644).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_newest_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let known = Known::new(dir.path());
        assert_eq!(known.list().unwrap(), [] as [String; 0]);
        for number in 0..=MAX_KNOWN_ARCHIVES {
            known.add(&number.to_string()).unwrap();
        }
        known.add("two\nlines").unwrap();
        let list = known.list().unwrap();
        assert_eq!((list.len(), list[0].as_str()), (MAX_KNOWN_ARCHIVES, "1"));
        known.remove("1").unwrap();
        known.remove("nobody's").unwrap();
        assert_eq!(known.list().unwrap().first().map(String::as_str), Some("2"));
        fs::write(dir.path().join(FILE), "x".repeat(usize::try_from(FILE_MAX).unwrap() + 1)).unwrap();
        assert!(matches!(known.list(), Err(Unusable::Damaged(_))));
        let said = std::cell::RefCell::new(String::new());
        assert_eq!(known.list_or_say(|text| *said.borrow_mut() = text), [] as [String; 0]);
        assert!(said.borrow().contains("known-archives.damaged"), "{}", said.borrow());
        known.add("again").unwrap();
        assert_eq!(known.list().unwrap(), ["again"]);
    }
}
