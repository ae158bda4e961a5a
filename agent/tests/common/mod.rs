//! A hub, a disk and the program as a process of its own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

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
        let mut text = String::new();
        for line in BufReader::new(self.0.stdout.take().unwrap()).lines().map_while(Result::ok) {
            text += &(line + "\n");
            if text.contains(words) {
                return text;
            }
        }
        panic!("it ended without {words:?}: {text}");
    }

    /// Waits until it prints these words, ends it with SIGTERM, and returns all it printed.
    pub fn ends_after(self, words: &str) -> String {
        self.ends_after_times(words, 1)
    }

    /// Waits until it has printed these words so many times, ends it with SIGTERM, and returns all it printed.
    pub fn ends_after_times(mut self, words: &str, times: usize) -> String {
        let mut out = BufReader::new(self.0.stdout.take().unwrap());
        let mut text = String::new();
        while text.matches(words).count() < times {
            assert!(out.read_line(&mut text).unwrap() > 0, "it ended without {words:?}: {text}");
        }
        self.signal("TERM");
        std::io::Read::read_to_string(&mut out, &mut text).unwrap();
        assert!(self.0.wait().unwrap().success(), "{text}");
        text
    }

    /// Waits for the device to end, and returns what it printed.
    pub fn said(mut self) -> String {
        let lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let text = lines.map_while(Result::ok).collect::<Vec<_>>().join("\n");
        assert!(self.0.wait().unwrap().success(), "{text}");
        text
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
