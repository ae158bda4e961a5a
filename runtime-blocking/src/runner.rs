//! Setting a device up and letting it run.

use std::sync::Arc;

use nerves_hub_link_protocol::{Config, ConfigError};

use crate::engine::Engine;
use crate::handle::{Exit, Handle, Shared};
use crate::options::Options;

/// A device that is ready to run.
#[derive(Debug)]
pub struct Runner {
    engine: Engine,
}

/// Why a device can't run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The settings make no sense.
    #[error("the configuration cannot be used: {0}")]
    Config(#[from] ConfigError),
    /// The operating system did not give what the loop needs.
    #[error("cannot set up the device's loop: {0}")]
    System(#[from] std::io::Error),
}

impl Runner {
    /// Checks the settings and gets ready. Nothing is connected yet.
    pub fn new(config: Config, options: Options) -> Result<Self, RunnerError> {
        Ok(Self { engine: Engine::new(config, options)? })
    }

    /// Returns a handle, to be used once the device runs.
    pub fn handle(&self) -> Handle {
        self.engine.shared().handle()
    }

    /// Runs the device on this thread until it stops.
    pub fn run(self) -> Exit {
        let ended = Ended(Arc::clone(self.engine.shared()));
        ended.0.runs_here();
        let exit = self.engine.run();
        ended.0.end(exit.clone());
        exit
    }

    /// Runs the device on a thread of its own.
    pub fn spawn(self) -> Result<Handle, RunnerError> {
        let handle = self.handle();
        std::thread::Builder::new().name("nerves-hub-link".to_owned()).spawn(move || drop(self.run()))?;
        Ok(handle)
    }
}

/// Says that the loop ended even if it panicked, so that no one waits for ever.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the device's loop panicked, which is a bug in nerves-hub-link".to_owned();
            self.0.end(Exit::Failed { reason });
        }
    }
}
