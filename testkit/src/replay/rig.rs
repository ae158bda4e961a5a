//! The machine with a clock of its own.

use nerves_hub_link_protocol::{
    Command, CommandError, Config, ConfigError, Input, Instant, Link, Now, Output, UnixTime,
};

/// The seed of every replay: the same recording gives the same result.
const SEED: u64 = 7;

/// A machine in virtual time. What it must never do is noted in `broken`.
pub struct Rig {
    /// The machine.
    pub link: Link,
    /// Microseconds of virtual time.
    clock: u64,
    /// The device's Unix time in microseconds when the clock was 0.
    epoch: i64,
    /// Promises of the machine that it broke.
    pub broken: Vec<String>,
}

impl Rig {
    /// Builds a machine at a time.
    pub fn new(config: Config, clock: u64, epoch: i64) -> Result<Self, ConfigError> {
        let link = Link::new(config, SEED, now(clock, epoch))?;
        Ok(Self { link, clock, epoch, broken: Vec::new() })
    }

    /// Returns the virtual time in microseconds.
    pub const fn clock(&self) -> u64 {
        self.clock
    }

    /// Returns the device's clocks.
    pub fn now(&self) -> Now {
        now(self.clock, self.epoch)
    }

    /// Lets time pass without telling the machine.
    pub fn set_clock(&mut self, clock: u64) {
        self.clock = self.clock.max(clock);
    }

    /// Returns when the machine wants to be woken, if at or before a time.
    pub fn due(&self, by: u64) -> Option<u64> {
        self.link.deadline().map(|deadline| deadline.at.as_micros()).filter(|at| *at <= by)
    }

    /// Tells a fact.
    pub fn handle(&mut self, input: Input<'_>) {
        let now = self.now();
        self.link.handle(now, input);
    }

    /// Gives an order.
    pub fn command(&mut self, command: Command) -> Result<(), CommandError> {
        let now = self.now();
        self.link.command(now, command)
    }

    /// Fetches an output.
    pub fn poll(&mut self) -> Option<Output> {
        self.link.poll()
    }

    /// Notes a deadline that has passed although the machine was told the time and everything was fetched.
    pub fn check_deadline(&mut self) {
        if let Some(deadline) = self.link.deadline()
            && deadline.at <= self.now().mono
            && self.broken.len() < 10
        {
            self.broken.push(format!("the deadline {deadline:?} has passed already at {} µs", self.clock));
        }
    }
}

fn now(clock: u64, epoch: i64) -> Now {
    let micros = epoch.saturating_add(i64::try_from(clock).unwrap_or(i64::MAX));
    Now { mono: Instant::from_micros(clock), wall: Some(UnixTime(micros.div_euclid(1_000_000))) }
}
