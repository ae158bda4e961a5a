//! The blocking adapter under test.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use nerves_hub_link_blocking::{Control, Exit, Handle, Options, Runner, RunnerError, SendFileError, Status};
use nerves_hub_link_protocol::Config;

use crate::bench::Adapter;

#[derive(Clone)]
pub struct UnderTest(Handle);

impl Deref for UnderTest {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.0
    }
}

impl Adapter for UnderTest {
    fn start(config: Config, options: Options) -> Result<Self, RunnerError> {
        Runner::new(config, options)?.spawn().map(Self)
    }

    fn wait_until(&self, timeout: Duration, done: impl Fn(&Status) -> bool) -> (Status, bool) {
        self.0.wait_until(timeout, done)
    }

    fn wait(&self) -> Exit {
        self.0.wait()
    }

    fn stop(&self) -> Exit {
        self.0.stop()
    }

    fn send_file(&self, path: impl Into<PathBuf>) -> Result<(), SendFileError> {
        self.0.send_file(path)
    }
}
