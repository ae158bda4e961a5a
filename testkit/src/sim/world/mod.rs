//! The world: everything around the devices, and what must hold in it.

mod archive;
mod download;
mod file;
mod hub;
mod machine;
mod managed;
mod policy;
mod power;
mod script;
mod socket;
mod store;
mod strike;
mod update;
mod visit;
mod wire;
mod wire_far;
mod wire_file;
mod wire_socket;

use super::bytes::Lines;
use super::device::{Device, PRODUCT_KEY, identifier};
use super::dice::{Rng, mix};
use super::fault::Fault;
use super::files::Files;
use super::firmware::{ARCHIVES, Firmware, FirmwareId, KEYS};
use super::mutation::Mutation;
use super::net::Net;
use super::queue::{DeviceDue, Due, Queue};
use super::scenario::{HOUR, MINUTE, SECOND, Scenario, Strikes, Variant, What};
use super::stats::Stats;
use super::trace::Trace;
use super::twins::is_twin;
use super::violation::{Broken, Violation};
use super::watch::SHARED_SECRET;
use crate::hub::{AlreadyUpdating, Hub, HubConfig, KeyPair, UpdateFields};
use crate::limits::{SIM_DEVICES, SIM_HEALING};

use hub::Server;

/// Bytes read from a firmware at a time, at most.
const CHUNK: usize = 16 * 1024;

/// How long the hub waits until it asks a device for its health again, in microseconds.
const HEALTH: u64 = 6 * HOUR;

/// A world of a scenario.
pub struct World {
    scenario: Scenario,
    now: u64,
    queue: Queue,
    /// A device is taken out while something happens to it.
    devices: Vec<Option<Box<Device>>>,
    nets: Vec<Net>,
    server: Server,
    lines: Lines,
    files: Files,
    /// The firmware that all devices shall run in the end, once everything healed.
    goal: Option<FirmwareId>,
    global: Strikes,
    rng: Rng,
    stats: Stats,
    trace: Trace,
    buffer: Vec<u8>,
    /// Used again for bytes that are read.
    scratch: Vec<u8>,
    done: bool,
}

/// What the hub wants of devices beside updates.
fn extensions(scenario: &Scenario) -> Vec<String> {
    let curious = scenario.has(Variant::Curious);
    let also: &[&str] = if curious { &["geo", "network_identity"] } else { &[] };
    ["health", "local_shell"].iter().chain(also).map(|name| (*name).to_owned()).collect()
}

/// How a run went.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// A hash over all that happened, in order.
    pub hash: u64,
    /// Things that happened.
    pub events: u64,
    /// Microseconds of virtual time.
    pub ended: u64,
    /// Figures.
    pub stats: Stats,
}

impl World {
    /// Builds a world.
    pub fn new(scenario: Scenario) -> Self {
        let rng = Rng::of(scenario.seed, 5, 0);
        let count = scenario.devices.min(SIM_DEVICES);
        let factory = Firmware::new(scenario.seed, 0, scenario.firmware_bytes, true, true);
        let config = HubConfig {
            // A hub that waits for a free slot looks again and again.
            offer_interval_ms: if scenario.has(Variant::Interval) || scenario.has(Variant::Slots) {
                3000
            } else {
                0
            },
            concurrent_updates: usize::from(scenario.has(Variant::Slots)),
            already_updating: if scenario.has(Variant::Crashes) {
                AlreadyUpdating::Crash
            } else {
                AlreadyUpdating::Rejected
            },
            // Those that speak no MessagePack know nothing of it either.
            managed_updates: !scenario.has(Variant::OldHub),
            update_fields: UpdateFields {
                size: scenario.has(Variant::Size),
                checksum: scenario.has(Variant::Checksum),
                partials: scenario.has(Variant::Parts) || scenario.has(Variant::Mixed),
            },
            msgpack: !scenario.has(Variant::OldHub),
            health_interval_ms: HEALTH / 1000,
            extensions: extensions(&scenario),
            // The network of a run notices silence; see `net`.
            idle_ms: u64::MAX,
            devices_max: usize::try_from(count).unwrap_or(usize::MAX),
            log_heartbeats: false,
            ..HubConfig::default()
        };
        let mut hub = Hub::new(config, KeyPair::new(PRODUCT_KEY, SHARED_SECRET));
        for key in KEYS.iter().take(1) {
            hub.add_public_key(key);
        }
        let device = |number| {
            (!scenario.absent.contains(&number)).then(|| Box::new(Device::new(&scenario, number, &factory)))
        };
        Self {
            now: 0,
            queue: Queue::default(),
            devices: (0..count).map(device).collect(),
            nets: (0..count).map(|number| Net::new(&mut Rng::of(scenario.seed, 6, number.into()))).collect(),
            server: Server::new(hub),
            lines: Lines::default(),
            files: Files::new(scenario.seed, factory),
            goal: None,
            global: scenario.global_strikes(),
            stats: Stats::new(count - u32::try_from(scenario.absent.len()).unwrap_or(0), scenario.span),
            trace: Trace::default(),
            buffer: vec![0; CHUNK],
            scratch: Vec::new(),
            done: false,
            rng,
            scenario,
        }
    }

    /// The same, and keeps the newest lines of what happens for people.
    #[must_use]
    pub fn recording(mut self, lines: usize) -> Self {
        self.trace.record(lines);
        self
    }

    /// The lines kept.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.trace.lines()
    }

    /// Virtual time, in microseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Result<Outcome, Violation> {
        self.begin();
        let mut events = 0;
        while let Some((at, due)) = self.queue.pop() {
            self.now = at;
            events += 1;
            self.happens(due)?;
            if self.done {
                break;
            }
        }
        self.finish_stats();
        let stats = std::mem::replace(&mut self.stats, Stats::new(0, 0));
        Ok(Outcome { hash: self.trace.hash(), events, ended: self.now, stats })
    }

    fn begin(&mut self) {
        // A fleet isn't switched on at one moment.
        let spread = if self.scenario.fleet { 5 * MINUTE } else { 2 * SECOND };
        for number in 0..u32::try_from(self.devices.len()).unwrap_or(0) {
            let at = mix(self.scenario.seed, u64::from(number)) % spread;
            if self.devices.get(number as usize).is_some_and(Option::is_some) {
                self.queue.push(at, Due::Device { device: number, life: 0, what: DeviceDue::Start });
            }
            self.next_strike(Some(number));
        }
        self.next_strike(None);
        if let Some(steps) = &self.scenario.steps {
            for (index, step) in steps.iter().enumerate() {
                self.queue.push(step.at, Due::Step(index));
            }
        }
        for (at, what) in self.scenario.calendar() {
            self.queue.push(at, Due::Planned(what));
        }
        self.queue.push(self.scenario.span, Due::Heal);
    }

    fn happens(&mut self, due: Due) -> Result<(), Violation> {
        match due {
            Due::Device { device, life, what } => self.device_due(device, life, what),
            Due::HubDial { device, life, dial } => {
                self.hub_dial(device, life, &dial);
                Ok(())
            }
            Due::HubHears { conn, frame } => {
                self.hub_hears(conn, &frame);
                Ok(())
            }
            Due::Wire(line) => self.far_reads(line),
            Due::HubSays { conn, says } => {
                self.hub_says(conn, says, false);
                Ok(())
            }
            Due::HubGone { conn } => {
                self.forget_line(conn);
                self.server.gone(conn);
                self.serve();
                Ok(())
            }
            Due::HubTick => {
                self.server.wake = u64::MAX;
                self.server.hub.tick(self.now / 1000);
                self.serve();
                Ok(())
            }
            Due::Step(index) => {
                let step = self.scenario.steps.as_ref().and_then(|steps| steps.get(index)).copied();
                let Some(step) = step else { return Ok(()) };
                self.step(Some(step.device), step.what, step.how)
            }
            Due::Strike { device, what, how } => {
                self.next_strike(device);
                self.step(device, what, how)
            }
            Due::Planned(what) => self.step(None, what, 0),
            Due::Operator { device, how, step } => {
                self.operator(device, how, step);
                Ok(())
            }
            Due::Heal => self.heal(),
            Due::Inspect => self.inspect(),
        }
    }

    /// Does what a scenario has.
    fn step(&mut self, device: Option<u32>, what: What, how: u32) -> Result<(), Violation> {
        match (what, device) {
            (What::Release, _) => self.release(true, true),
            (What::Archive, _) => {
                self.archive(how % 8 != 7 || !self.scenario.faults.contains(Fault::Untrusted));
            }
            (What::Fault(fault), _) if fault.is_global() => self.strike_all(fault, how),
            (What::Fault(fault), Some(device)) => return self.strike(device, fault, how),
            (What::Visit, Some(device)) => self.operator(device, how, 0),
            (What::Ask, Some(device)) => self.ask(device, how),
            (What::Manage, Some(device)) => return self.mode_step(device, how),
            (What::Script, Some(device)) => self.script(device, how),
            (What::Policy, Some(device)) => return self.policy(device, how),
            (What::File, Some(device)) => return self.file_step(device, how),
            (_, None) => {}
        }
        Ok(())
    }

    /// Does something to a device, and lets its machine have its way.
    fn with(
        &mut self,
        number: u32,
        act: impl FnOnce(&mut Self, &mut Device) -> Result<(), Broken>,
    ) -> Result<(), Violation> {
        let index = number as usize;
        let Some(mut device) = self.devices.get_mut(index).and_then(Option::take) else { return Ok(()) };
        let result = device.warm(self.now).and_then(|()| act(self, &mut device));
        if let Some(slot) = self.devices.get_mut(index) {
            *slot = Some(device);
        }
        result.map_err(|broken| {
            self.trace.note(self.now, number, "BROKEN", &broken.to_string());
            Violation { at: self.now, device: number, broken }
        })
    }

    fn later(&mut self, device: &Device, after: u64, what: DeviceDue) {
        let (number, life) = (device.number, device.life);
        self.queue.push(self.now + after, Due::Device { device: number, life, what });
    }

    /// Draws the next fault of a device, or of all.
    fn next_strike(&mut self, device: Option<u32>) {
        let next = match device {
            Some(number) => {
                let device = self.devices.get_mut(number as usize).and_then(Option::as_mut);
                device.and_then(|device| device.strikes.as_mut()).and_then(Iterator::next)
            }
            None if self.scenario.steps.is_none() => self.global.next(),
            None => None,
        };
        if let Some((at, what, how)) = next.filter(|(at, ..)| *at < self.scenario.span) {
            self.queue.push(at.max(self.now), Due::Strike { device, what, how });
        }
    }

    /// Everything is well from here on, and one last release is to reach every device.
    fn heal(&mut self) -> Result<(), Violation> {
        self.trace.note(self.now, u32::MAX, "everything heals", "");
        self.stats.healed(self.now);
        for net in &mut self.nets {
            net.heal();
        }
        self.server.down_until = 0;
        for number in 0..u32::try_from(self.devices.len()).unwrap_or(0) {
            self.with(number, Self::heal_device)?;
            if is_twin(&self.scenario, number) {
                self.with(number, |world, device| {
                    world.end(device, true);
                    device.retired = true;
                    Ok(())
                })?;
            }
        }
        self.release_modes();
        self.release(true, true);
        self.archive(true);
        self.goal = self.files.firmware.last().map(|firmware| firmware.id);
        self.queue.push(self.now, Due::Inspect);
        Ok(())
    }

    /// Looks whether all is well; an operator lifts what the hub holds against devices.
    fn inspect(&mut self) -> Result<(), Violation> {
        let since = self.now.saturating_sub(self.scenario.span);
        for number in 0..u32::try_from(self.devices.len()).unwrap_or(0) {
            if since % (10 * MINUTE) < MINUTE {
                self.server.hub.clear_penalty(&identifier(number));
            }
        }
        self.serve();
        let mut first = None;
        for device in self.devices.iter().flatten().filter(|device| !device.retired) {
            if let Some(what) = self.wrong(device) {
                first = Some((device.number, what));
                break;
            }
        }
        let Some((device, what)) = first else {
            self.done = true;
            return Ok(());
        };
        if since >= SIM_HEALING {
            let broken = Broken::Stuck { hours: since / (60 * MINUTE), what };
            self.trace.note(self.now, device, "BROKEN", &broken.to_string());
            return Err(Violation { at: self.now, device, broken });
        }
        self.queue.push(self.now + MINUTE, Due::Inspect);
        Ok(())
    }

    /// What a device lacks to be well.
    fn wrong(&self, device: &Device) -> Option<String> {
        let Some(life) = &device.link else { return Some("it is not running".to_owned()) };
        let goal = self.goal.unwrap_or_default();
        if device.booted.firmware != goal {
            let update = life.link.update_state();
            return Some(format!(
                "it runs firmware {} and not {goal}; its update: {update:?}",
                device.booted.firmware
            ));
        }
        if !device.booted.validated {
            return Some("its firmware is not validated".to_owned());
        }
        if !device.is_settled() || !self.server.is_joined(device.number) {
            let reported = life.watch.unreported.len();
            return Some(format!(
                "it is {:?}, with {reported} failures to report",
                life.link.connection_state()
            ));
        }
        if !life.fetches.is_empty() {
            return Some("it keeps a request for a file open that it has no use for".to_owned());
        }
        if let Some(archive) = self.files.archives.last()
            && !device.archives.contains(&archive.meta.uuid)
        {
            return Some(format!("it has not got archive {}", archive.id - ARCHIVES));
        }
        None
    }

    fn mutated(&self, mutation: Mutation) -> bool {
        self.scenario.mutation == Some(mutation)
    }

    fn finish_stats(&mut self) {
        for device in self.devices.iter_mut().flatten() {
            if let Some(since) = device.joined_since.take() {
                self.stats.online(since, self.now);
            }
            self.stats.felt(device.armed.felt);
        }
        for net in &self.nets {
            self.stats.felt(net.felt);
        }
        self.stats.ended(self.now);
    }

    fn release(&mut self, trusted: bool, good: bool) {
        let id = u32::try_from(self.files.firmware.len()).unwrap_or(u32::MAX);
        let firmware = Firmware::new(self.scenario.seed, id, self.scenario.firmware_bytes, trusted, good);
        self.trace.note(self.now, u32::MAX, "release", &firmware.meta.version);
        self.stats.released(self.now, id, trusted && good);
        let release = firmware.release.clone();
        self.files.firmware.push(firmware);
        self.server.hub.deploy(self.now / 1000, release);
        self.serve();
    }
}
