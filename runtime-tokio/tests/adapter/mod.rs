//! The tokio adapter under test.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use nerves_hub_link_protocol::Config;
use nerves_hub_link_tokio::{Control, Exit, Handle, Options, Runner, RunnerError, SendFileError, Status};
use tokio::runtime::{Builder, Runtime};

use crate::bench::Adapter;

/// All devices of a program run on this one, as an application's would. Few threads, so that one that blocks is noticed.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

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
        let runner = Runner::new(config, options)?;
        if !crate::ON_ONE_THREAD {
            let _context = RUNTIME.enter();
            return Ok(Self(runner.spawn()?.detach()));
        }
        let handle = runner.handle();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(runner.run());
        });
        Ok(Self(handle))
    }

    fn wait_until(&self, timeout: Duration, done: impl Fn(&Status) -> bool) -> (Status, bool) {
        RUNTIME.block_on(self.0.wait_until(timeout, done))
    }

    fn wait(&self) -> Exit {
        RUNTIME.block_on(self.0.wait())
    }

    fn stop(&self) -> Exit {
        RUNTIME.block_on(self.0.stop())
    }

    fn send_file(&self, path: impl Into<PathBuf>) -> Result<(), SendFileError> {
        RUNTIME.block_on(self.0.send_file(path))
    }
}
