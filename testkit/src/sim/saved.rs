//! A failed run in a file: what to run again, and what happened last.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::scenario::Scenario;
use super::violation::Violation;
use super::world::World;

/// Lines of what happened that a file holds.
const LINES: usize = 400;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// What was broken, for a person.
    pub violation: Option<String>,
    /// The run.
    pub scenario: Scenario,
    /// What happened last, for a person.
    #[serde(default)]
    pub trace: Vec<String>,
}

impl Saved {
    /// Takes down a scenario that fails, and what happens in it.
    pub fn of(scenario: &Scenario, violation: &Violation) -> Self {
        let mut world = World::new(scenario.clone()).recording(LINES);
        // It fails again, in the same way; what counts are the lines.
        let _ = world.run();
        Self {
            violation: Some(violation.to_string()),
            scenario: scenario.clone(),
            trace: world.lines().map(str::to_owned).collect(),
        }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> io::Result<Self> {
        serde_json::from_str(&fs::read_to_string(path)?).map_err(io::Error::other)
    }

    /// Writes a file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        text.push('\n');
        fs::write(path, text)
    }

    /// Writes a file named after the seed into a folder, and returns its path.
    pub fn write_into(&self, folder: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("sim-{}.json", self.scenario.seed));
        self.write(&path)?;
        Ok(path)
    }
}

/// The line that runs a saved scenario again.
pub fn replay_line(path: &Path) -> String {
    format!("cargo run --release -p nerves-hub-link-testkit -- simulate --replay {}", path.display())
}
