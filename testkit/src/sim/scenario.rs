//! What a run is: everything that decides it, as plain data that can be saved and made smaller.

use serde::{Deserialize, Serialize};

use super::dice::{Dice, Rng};
use super::fault::{Fault, Faults};
use super::mutation::Mutation;
use crate::limits::{SIM_DEVICES, SIM_STEPS};

/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;
/// Microseconds in a minute.
pub const MINUTE: u64 = 60 * SECOND;
/// Microseconds in an hour.
pub const HOUR: u64 = 60 * MINUTE;
/// Microseconds in a day.
pub const DAY: u64 = 24 * HOUR;

/// A run. The same scenario gives the same run, event by event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Decides all that `steps` don't.
    pub seed: u64,
    /// Devices.
    pub devices: u32,
    /// Devices left out, to find the few that matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<u32>,
    /// Microseconds until everything heals.
    pub span: u64,
    /// Classes of faults in play.
    pub faults: Faults,
    /// How often faults strike: times the usual.
    pub rate: f64,
    /// The same for single classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<(Fault, f64)>,
    /// A fleet over days, switched on one device after the other; faults meet only what they are in time for.
    #[serde(default)]
    pub fleet: bool,
    /// Releases, evenly over the span. Only without `steps`.
    pub releases: u32,
    /// Bytes of a firmware.
    pub firmware_bytes: u64,
    /// Seconds between heartbeats; 0 for none.
    pub heartbeat: u64,
    /// Plays every heartbeat. Otherwise those of devices that nothing happens to are left out.
    #[serde(default)]
    pub every_heartbeat: bool,
    /// What differs between servers and devices, a bit for each.
    pub variant: u32,
    /// What happens, and when. If absent, the seed decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<Step>>,
    /// A mistake to be noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutation: Option<Mutation>,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Microseconds of virtual time.
    pub at: u64,
    /// To which device. Meaningless for what happens to the hub.
    pub device: u32,
    /// What.
    pub what: What,
    /// How much of it, and which kind of it.
    pub how: u32,
}

/// A fault, or work as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Something goes wrong.
    Fault(Fault),
    /// A good release.
    Release,
    /// An archive for all devices.
    Archive,
    /// An operator works with a device's shell for a while.
    Visit,
    /// The hub asks a device how it is, where, and by which names.
    Ask,
    /// Somebody does something about who decides when a device is updated.
    Manage,
    /// An operator has a script run.
    Script,
    /// An operator sends a device a file, or the device one to operators.
    File,
    /// A device gets other rules about when it may be updated and how fast.
    Policy,
}

/// What a fleet is like: new servers, devices of both serializers and all strategies, consoles and archives, some that
/// manage their updates, some that run scripts, some that may be
/// updated at some times only.
const FLEET: u32 = 0b1_1001_0000_0111_0100_0000_0111;
/// How often an operator looks into a device of a fleet in a week.
const VISITS: f64 = 0.5;
/// How often one has a script run on it.
const SCRIPTS: f64 = 0.25;
/// How often a file is sent, where there are consoles.
const FILES: f64 = 0.2;

/// Gaps between things that happen, in microseconds: from within one exchange to the next day.
const GAPS: [u64; 8] = [0, 3_000, 40_000, 400_000, 3 * SECOND, 20 * SECOND, 5 * MINUTE, 40 * MINUTE];

impl Scenario {
    /// A fleet over days.
    pub fn fleet(devices: u32, days: f64, seed: u64) -> Self {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let span = (days.clamp(0.0, 36_500.0) * DAY as f64) as u64;
        Self {
            seed,
            devices: devices.clamp(1, SIM_DEVICES),
            absent: Vec::new(),
            span: span.max(HOUR),
            faults: Faults::all(),
            rate: 1.0,
            rates: Vec::new(),
            fleet: true,
            releases: u32::try_from(span / (5 * DAY)).unwrap_or(u32::MAX).clamp(1, 1000),
            firmware_bytes: 128 * 1024,
            heartbeat: 30,
            every_heartbeat: false,
            variant: FLEET,
            steps: None,
            mutation: None,
        }
    }

    /// A short scenario of a seed: some devices, some classes of faults, some things that happen.
    pub fn short(seed: u64) -> Self {
        let mut scenario = Self::read(&mut Dice::Seed(Rng::of(seed, 1, 0)));
        scenario.seed = seed;
        scenario
    }

    /// A short scenario of a fuzzer's bytes, by the same rules.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::read(&mut Dice::Bytes(bytes))
    }

    fn read(dice: &mut Dice<'_>) -> Self {
        let devices = 1 + u32::from(dice.byte() % 8 / 6) + u32::from(dice.byte() % 8 / 7);
        let mut variant = dice.word();
        // Bytes take longer than messages: one scenario in four.
        if variant >> 17 & 1 == 0 {
            variant &= !(1 << Variant::Bytes as u32);
        }
        // Swarm: each class is in or out. A run with few classes goes deeper into those.
        let mask = u64::from(dice.word()) | u64::from(dice.word()) << 32;
        let sparse = if dice.byte() & 1 == 1 {
            u64::from(dice.word()) | u64::from(dice.word()) << 32
        } else {
            u64::MAX
        };
        let faults = Faults::from_bits(mask & sparse);
        let enabled: Vec<Fault> = faults.iter().collect();
        let firmware_bytes = match dice.byte() % 8 {
            // Several parts.
            7 if variant >> (Variant::Parts as u32) & 1 == 1 => 2_500_000,
            0 | 4 => 9_000,
            1 | 5 => 2_000,
            2 | 6 => 60_000,
            _ => 200_000,
        };
        let count = 4 + usize::from(dice.byte() % 32);
        let mut at = 0;
        let mut steps = Vec::new();
        while steps.len() < count.min(SIM_STEPS) && !(steps.len() > 1 && dice.is_empty()) {
            let pace = dice.byte();
            let gap = GAPS.get(usize::from(pace % 8)).copied().unwrap_or(0);
            at += gap / 8 * u64::from(pace / 8 + 1);
            let pick = dice.byte();
            let fault = enabled.get(usize::from(pick).checked_rem(enabled.len()).unwrap_or(0));
            let what = match fault {
                Some(fault) if pick < 180 => What::Fault(*fault),
                _ => match dice.byte() % 32 {
                    0..3 => What::Archive,
                    3..6 => What::Visit,
                    6..9 => What::Ask,
                    9..12 => What::Manage,
                    12..14 => What::Script,
                    14..16 => What::File,
                    16..18 => What::Policy,
                    _ => What::Release,
                },
            };
            let device = u32::from(dice.byte()) % devices;
            steps.push(Step { at, device, what, how: dice.word() });
        }
        Self {
            seed: 0,
            devices,
            absent: Vec::new(),
            span: at + MINUTE,
            faults,
            rate: 1.0,
            rates: Vec::new(),
            fleet: false,
            releases: 0,
            firmware_bytes,
            heartbeat: 30,
            every_heartbeat: false,
            variant,
            steps: Some(steps),
            mutation: None,
        }
    }

    /// Whether a bit of the variant is set.
    pub(super) const fn has(&self, variant: Variant) -> bool {
        self.variant >> (variant as u32) & 1 == 1
    }

    /// What happens to one device, one after the other, without end, if the seed decides.
    pub(super) fn strikes(&self, device: u32) -> Strikes {
        let faults = self.faults.iter().filter(|fault| !fault.is_global());
        let visits = self.has(Variant::Console).then_some((What::Visit, VISITS));
        let files = self.has(Variant::Console).then_some((What::File, FILES));
        let scripts = self.has(Variant::Scripts).then_some((What::Script, SCRIPTS));
        let all = faults
            .map(|fault| (What::Fault(fault), self.weekly(fault)))
            .chain(visits)
            .chain(scripts)
            .chain(files);
        Strikes::new(Rng::of(self.seed, 2, device.into()), all)
    }

    /// What happens to all at once, if the seed decides.
    pub(super) fn global_strikes(&self) -> Strikes {
        let faults = self
            .faults
            .iter()
            .filter(|fault| fault.is_global() && !matches!(fault, Fault::BadRelease | Fault::Untrusted));
        let faults = faults.map(|fault| (What::Fault(fault), self.weekly(fault)));
        Strikes::new(Rng::of(self.seed, 3, 0), faults)
    }

    /// The releases of firmware and archives over the span, if the seed decides, in order: good ones, or whichever
    /// fault is in play, and then a good one some hours later.
    pub(super) fn calendar(&self) -> Vec<(u64, What)> {
        if self.steps.is_some() {
            return Vec::new();
        }
        let gap = self.span / u64::from(self.releases.max(1));
        #[expect(clippy::cast_precision_loss)]
        let weeks = gap as f64 / (7 * DAY) as f64;
        let mut all = Vec::new();
        for number in 0..u64::from(self.releases) {
            let mut rng = Rng::of(self.seed, 7, number);
            let at = gap * number + gap / 3;
            let mut drawn = |fault| self.faults.contains(fault) && rng.unit() < self.weekly(fault) * weeks;
            match [Fault::BadRelease, Fault::Untrusted].into_iter().find(|fault| drawn(*fault)) {
                Some(fault) => {
                    all.push((at, What::Fault(fault)));
                    // Whoever made it notices some hours later.
                    all.push(((at + 6 * HOUR).min(self.span - 1), What::Release));
                }
                None => all.push((at, What::Release)),
            }
            if self.has(Variant::Archives) {
                all.push((at + gap / 4, What::Archive));
            }
        }
        all.sort_by_key(|(at, _)| *at);
        all
    }

    /// How often a class strikes in a week.
    pub(super) fn weekly(&self, fault: Fault) -> f64 {
        let own = self.rates.iter().find(|(which, _)| *which == fault).map_or(1.0, |(_, rate)| *rate);
        fault.per_week() * self.rate * own
    }
}

/// Bits of [`Scenario::variant`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Variant {
    /// Offers tell the size.
    Size,
    /// Offers tell the checksum.
    Checksum,
    /// The file server names a strong entity tag.
    Tag,
    /// The device has keys of its own instead of asking the server.
    OwnKeys,
    /// The device can't tell whether its firmware is validated.
    ValidationUnknown,
    /// The file server sends no length.
    Chunked,
    /// The hub makes offers every three seconds only.
    Interval,
    /// The device knows its network interface.
    Interface,
    /// Updates are kept on the device before they are applied.
    Stored,
    /// The same, in parts that are checked one by one.
    Parts,
    /// Devices speak MessagePack, all but some.
    MsgPack,
    /// The hub speaks no MessagePack.
    OldHub,
    /// Operators may use a console and, on some devices, a shell that is always there.
    Console,
    /// Archives come beside firmware.
    Archives,
    /// Some devices keep updates, some of those in parts, and the others don't.
    Mixed,
    /// The hub wants to know where devices are and by which names, beside how.
    Curious,
    /// Messages and downloads go as bytes through the machines of the transport.
    Bytes = 16,
    /// Some devices decide when they are updated.
    Managed = 20,
    /// The hub lets one device be updated at a time.
    Slots,
    /// The hub is one that crashes when a device asks for a second update.
    Crashes,
    /// Some devices run scripts.
    Scripts,
    /// Some devices have rules about when they may be updated and how fast.
    Policy,
    /// The second device has the identity of the first, until everything heals; with a hub that lets all be updated.
    Twins,
}

/// Things that happen at random times.
#[derive(Debug, Clone)]
pub(super) struct Strikes {
    rng: Rng,
    /// Classes with the sum of the rates up to and with each, per microsecond.
    classes: Vec<(What, f64)>,
    at: f64,
}

impl Strikes {
    fn new(rng: Rng, faults: impl Iterator<Item = (What, f64)>) -> Self {
        let mut sum = 0.0;
        #[expect(clippy::cast_precision_loss)]
        let week = (7 * DAY) as f64;
        let classes = faults.map(|(fault, weekly)| {
            sum += weekly / week;
            (fault, sum)
        });
        Self { rng, classes: classes.collect(), at: 0.0 }
    }
}

impl Iterator for Strikes {
    type Item = (u64, What, u32);

    fn next(&mut self) -> Option<Self::Item> {
        let sum = self.classes.last().map_or(0.0, |(_, sum)| *sum);
        if sum <= 0.0 {
            return None;
        }
        // Exponential gaps, as of things that don't know of each other. The logarithm is a library's, but the
        // same program on the same machine takes the same.
        self.at += -self.rng.unit().ln() / sum;
        let pick = self.rng.unit() * sum;
        let (what, _) = self.classes.iter().find(|(_, upto)| pick <= *upto).or(self.classes.last())?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
        let at = self.at as u64;
        Some((at, *what, self.rng.word()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_come_as_often_as_they_should() {
        let mut scenario = Scenario::fleet(1, 7.0, 1);
        (scenario.faults, scenario.variant) = (Faults::parse("cut,dns").unwrap(), 0);
        let weeks = 200;
        let all: Vec<_> = scenario.strikes(0).take_while(|(at, ..)| *at < weeks * 7 * DAY).collect();
        let count = |wanted| all.iter().filter(|(_, what, _)| *what == What::Fault(wanted)).count();
        let cuts = count(Fault::Cut);
        assert!((3900..4500).contains(&cuts), "{cuts}");
        assert!((320..480).contains(&count(Fault::Dns)), "{}", count(Fault::Dns));
        scenario.faults = Faults::NONE;
        assert_eq!(scenario.strikes(0).next(), None);
    }

    #[test]
    fn a_cut_input_is_still_a_scenario() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..bytes.len() {
            let scenario = Scenario::from_bytes(&bytes[..length]);
            assert!(scenario.devices >= 1 && scenario.steps.unwrap().len() <= SIM_STEPS);
        }
    }
}
