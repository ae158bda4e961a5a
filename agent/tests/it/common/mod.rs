//! A hub, a disk and the program as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nerves_hub_link_testkit::disk::{AbDisk, DiskLayout};
use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey};
use nerves_hub_link_testkit::hub::{HubConfig, HubEvent};
use nerves_hub_link_testkit::server::{HubOptions, HubServer};
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn command(disk: &Path) -> Command {
    command_of("agent-test-1", disk)
}

pub fn command_of(serial: &str, disk: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nerves-hub-link"));
    command
        .arg("run")
        .args(["--serial", serial, "--product-key", "nhp_key", "--host", "wss://localhost:9"])
        .arg("--disk")
        .arg(disk)
        // Some tests let one update fail after the other.
        .args(["--failure-pause", "0", "--overwrites-per-day", "0"])
        .env("NERVES_HUB_PRODUCT_SECRET", "very secret indeed");
    command
}

pub fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub struct Setting {
    pub hub: HubServer,
    pub disk: AbDisk,
    pub key: SigningKey,
    pub dir: TempDir,
}

impl Setting {
    pub fn new() -> Self {
        Self::with(HubConfig::default())
    }

    pub fn with(hub: HubConfig) -> Self {
        let dir = TempDir::new().unwrap();
        let key = SigningKey::from_seed(11);
        let layout = DiskLayout::with_slots_of(4);
        let old = builder("1.0.0", &layout).build(&key).unwrap();
        let disk = AbDisk::create(&dir.path().join("disk.img"), &layout, &old.meta, 1 << 20, 1).unwrap();
        let hub = HubServer::start(HubOptions { hub, ..HubOptions::default() }).unwrap();
        std::fs::write(dir.path().join("ca.pem"), hub.ca_pem()).unwrap();
        Self { hub, disk, key, dir }
    }

    pub fn device(&self, more: &[&str]) -> Device {
        Device(self.command(more).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Starts a device whose disk is elsewhere.
    pub fn device_on(&self, disk: &Path, more: &[&str]) -> Device {
        Device(self.command_on(disk, more).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Returns how a device is started.
    pub fn command(&self, more: &[&str]) -> Command {
        self.command_on(self.disk.path(), more)
    }

    fn command_on(&self, disk: &Path, more: &[&str]) -> Command {
        let product = self.hub.product();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nerves-hub-link"));
        command
            .arg("run")
            .args(["--host", &self.hub.url(), "--serial", "agent-test-1"])
            .args(["--product-key", &product.key])
            .env("NERVES_HUB_PRODUCT_SECRET", &product.secret)
            .args(["--disk", disk.to_str().unwrap(), "--public-key", &self.key.public_key()])
            .args(["--ca", self.dir.path().join("ca.pem").to_str().unwrap()])
            .args(more)
            // Whoever runs the tests may sit behind a proxy.
            .env("no_proxy", "*");
        command
    }

    pub fn saw(&self, what: &str, wanted: impl FnMut(&HubEvent) -> bool) -> HubEvent {
        self.hub.wait_for(PATIENCE, wanted).unwrap_or_else(|| panic!("no {what}: {:?}", self.hub.log()))
    }
}

pub fn builder(version: &str, layout: &DiskLayout) -> FirmwareBuilder {
    FirmwareBuilder::new("agent", version)
        .platform("board")
        .architecture("any")
        .rootfs(1 << 20, 3)
        .ab_layout(layout)
}

pub struct Device(pub Child);

impl Device {
    /// Waits until it prints these words. Returns what it printed so far; nobody hears the rest.
    pub fn says(&mut self, words: &str) -> String {
        self.listen().until(&[words], 1)
    }

    /// Waits until it prints these words, ends it with SIGTERM, and returns all it printed.
    pub fn ends_after(self, words: &str) -> String {
        self.ends_after_times(words, 1)
    }

    /// Waits until it has printed these words so many times, ends it with SIGTERM, and returns all it printed.
    pub fn ends_after_times(self, words: &str, times: usize) -> String {
        self.ends_once(&[words], times)
    }

    /// Waits until it has printed one of these words, ends it with SIGTERM, and returns all it printed.
    pub fn ends_after_any(self, words: &[&str]) -> String {
        self.ends_once(words, 1)
    }

    fn ends_once(mut self, words: &[&str], times: usize) -> String {
        let mut lines = self.listen();
        lines.until(words, times);
        self.signal("TERM");
        let text = lines.all();
        assert!(self.0.wait().unwrap().success(), "{text}");
        text
    }

    /// Waits for the device to end, and returns what it printed.
    pub fn said(mut self) -> String {
        let text = self.listen().all();
        assert!(self.0.wait().unwrap().success(), "{text}");
        text
    }

    fn listen(&mut self) -> Lines {
        let out = self.0.stdout.take().unwrap();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            // Nobody listens any more once the test goes on.
            BufReader::new(out).lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Lines { lines, text: String::new() }
    }
}

/// The lines that a device prints, each waited for with patience, but not for ever.
struct Lines {
    lines: Receiver<String>,
    text: String,
}

impl Lines {
    /// Waits until one of these words was printed so many times. Returns what was printed so far.
    fn until(&mut self, words: &[&str], times: usize) -> String {
        let end = Instant::now() + PATIENCE;
        while words.iter().all(|words| self.text.matches(words).count() < times) {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.text += &(line + "\n"),
                Err(error) => panic!("no {words:?} ({error}): {}", self.text),
            }
        }
        self.text.clone()
    }

    /// Waits until no more is printed. Returns everything.
    fn all(mut self) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.text += &(line + "\n"),
                Err(RecvTimeoutError::Disconnected) => return self.text,
                Err(RecvTimeoutError::Timeout) => panic!("it goes on and on: {}", self.text),
            }
        }
    }
}

impl Device {
    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
