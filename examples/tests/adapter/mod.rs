//! The loop on async-std under test. It has no handle of its own; the tests look at the status now and then.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nerves_hub_link_examples::async_std_loop;
use nerves_hub_link_platform::files::Outgoing;
use nerves_hub_link_protocol::Config;
use nerves_hub_link_runtime::{Control, Exit, Options, RunnerError, SendFileError, Status};

use crate::bench::{Adapter, LIMIT};

#[derive(Clone)]
pub struct UnderTest(Control);

impl Deref for UnderTest {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.0
    }
}

impl Adapter for UnderTest {
    fn start(config: Config, options: Options) -> Result<Self, RunnerError> {
        async_std_loop::spawn(config, options).map(Self)
    }

    fn wait_until(&self, timeout: Duration, done: impl Fn(&Status) -> bool) -> (Status, bool) {
        let end = Instant::now() + timeout;
        loop {
            let status = self.0.status();
            let yes = done(&status);
            if yes || status.exit.is_some() || end <= Instant::now() {
                return (status, yes);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait(&self) -> Exit {
        self.wait_until(LIMIT, |status| status.exit.is_some()).0.exit.expect("it runs on")
    }

    fn stop(&self) -> Exit {
        self.0.request_stop();
        self.wait()
    }

    fn send_file(&self, path: impl Into<PathBuf>) -> Result<(), SendFileError> {
        self.0.send_opened(Outgoing::open(path)?)
    }
}
