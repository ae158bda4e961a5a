//! An A/B disk behind a write-back cache, without the bytes: what was written, what is safe, what boots.

use super::dice::Rng;
use super::firmware::{Firmware, FirmwareId};
use super::violation::Broken;
use crate::disk::Slot;

/// Bytes that are written whole or not at all.
const SECTOR: u64 = 512;

/// What a slot holds.
#[derive(Debug, Clone)]
struct Content {
    firmware: FirmwareId,
    written: u64,
    /// Bytes that survive a power cut.
    safe: u64,
    crc: crc32fast::Hasher,
    /// Power went before everything was safe: the first byte that isn't what was written.
    torn: Option<u64>,
}

/// The boot environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Environment {
    active: Slot,
    validated: bool,
    booted: bool,
}

/// Two copies of it, of which the newest whole one counts. A copy that is torn is none.
#[derive(Debug, Clone)]
struct Copies {
    copies: [Option<Environment>; 2],
    /// The copy that counts.
    live: usize,
}

impl Copies {
    fn get(&self) -> Option<Environment> {
        let copy = |at: usize| self.copies.get(at).copied().flatten();
        copy(self.live).or_else(|| copy(1 - self.live))
    }

    fn set(&mut self, at: usize, environment: Option<Environment>) {
        if let Some(copy) = self.copies.get_mut(at) {
            *copy = environment;
        }
        self.live = if environment.is_some() { at } else { 1 - at };
    }
}

/// An environment written and not synced.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// The copy it was written to.
    copy: usize,
    /// By mistake, the other was written too.
    both: bool,
    environment: Environment,
}

/// A disk.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    slots: [Content; 2],
    environment: Copies,
    pending: Option<Pending>,
    /// The slot that runs.
    running: Slot,
}

/// What came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Booted {
    pub firmware: FirmwareId,
    pub validated: bool,
    pub reverted: bool,
}

impl Disk {
    /// A disk as it leaves the factory.
    pub fn new(firmware: &Firmware) -> Self {
        let nothing = Content {
            firmware: FirmwareId::MAX,
            written: 0,
            safe: 0,
            crc: crc32fast::Hasher::new(),
            torn: None,
        };
        let crc = crc32fast::Hasher::new_with_initial_len(firmware.crc, firmware.size);
        let (written, safe) = (firmware.size, firmware.size);
        let full = Content { firmware: firmware.id, written, safe, crc, torn: None };
        let environment = Environment { active: Slot::A, validated: true, booted: true };
        let environment = Copies { copies: [Some(environment); 2], live: 0 };
        Self { slots: [full, nothing], environment, pending: None, running: Slot::A }
    }

    /// The slot that an update goes to.
    pub fn spare(&self) -> Slot {
        self.running.other()
    }

    pub fn running(&self) -> Slot {
        self.running
    }

    /// Whether an update may begin: what runs was proved good, and no other firmware waits for the reboot.
    pub fn may_update(&self) -> bool {
        self.environment().is_some_and(|now| now.active == self.running && now.validated)
    }

    /// Whether the next boot runs another slot.
    pub fn is_switched(&self) -> bool {
        self.environment().is_some_and(|now| now.active != self.running)
    }

    /// The environment as programs see it, synced or not.
    fn environment(&self) -> Option<Environment> {
        self.pending.map(|pending| pending.environment).or_else(|| self.environment.get())
    }

    /// Writes the environment to the copy that doesn't count; to both, by mistake.
    fn write_environment(&mut self, environment: Environment, both: bool) {
        let copy = self.pending.map_or(1 - self.environment.live, |pending| pending.copy);
        self.pending = Some(Pending { copy, both, environment });
    }

    /// Begins to write a slot anew.
    pub fn begin(&mut self, slot: Slot, firmware: FirmwareId) -> Result<(), Broken> {
        self.guard(slot)?;
        let content = self.slot_mut(slot);
        let crc = crc32fast::Hasher::new();
        *content = Content { firmware, written: 0, safe: 0, crc, torn: None };
        Ok(())
    }

    pub fn write(&mut self, slot: Slot, bytes: &[u8]) -> Result<(), Broken> {
        self.guard(slot)?;
        let content = self.slot_mut(slot);
        content.written += bytes.len() as u64;
        content.crc.update(bytes);
        Ok(())
    }

    /// What was written before is safe now.
    pub fn sync(&mut self) {
        for content in &mut self.slots {
            content.safe = content.written;
        }
        if let Some(Pending { copy, environment, .. }) = self.pending.take() {
            self.environment.set(copy, Some(environment));
        }
    }

    /// Makes the next boot try a slot.
    pub fn switch_to(&mut self, active: Slot, both: bool) {
        self.write_environment(Environment { active, validated: false, booted: false }, both);
    }

    /// Marks the running firmware good, which is safe when synced.
    pub fn validate(&mut self) {
        // Only what runs can prove good.
        if let Some(environment) = self.environment().filter(|now| now.active == self.running) {
            self.write_environment(Environment { validated: true, ..environment }, false);
        }
    }

    /// Power goes: what was not synced is lost, or made it after all, as chance has it; with `tear`, some of its sectors
    /// did and others not. Returns whether something is torn.
    pub fn lose_power(&mut self, rng: &mut Rng, tear: bool) -> bool {
        let mut tore = false;
        if let Some(Pending { copy, both, environment }) = self.pending.take() {
            match rng.below(3) {
                0 => self.environment.set(copy, Some(environment)),
                1 if tear => {
                    self.environment.set(copy, None);
                    if both {
                        self.environment.set(1 - copy, None);
                    }
                    tore = true;
                }
                _ => {}
            }
        }
        for content in &mut self.slots {
            let unsafe_bytes = content.written - content.safe;
            if unsafe_bytes > 0 && !rng.one_in(4) {
                let kept = if tear { rng.below(unsafe_bytes) } else { 0 };
                let at = (content.safe + kept) / SECTOR * SECTOR;
                content.torn = Some(content.torn.unwrap_or(u64::MAX).min(at.max(content.safe)));
                tore |= tear;
            }
            content.safe = content.written;
        }
        tore
    }

    /// What the boot loader does. The slot it is told to run must be whole: whoever named it had to make sure.
    pub fn boot(&mut self, known: &[Firmware]) -> Result<Booted, Broken> {
        // A restart without a power cut still flushes.
        self.sync();
        let mut environment = self.environment.get().ok_or(Broken::NoEnvironment)?;
        let before = environment;
        let mut reverted = false;
        if !environment.validated {
            if environment.booted {
                reverted = true;
                environment.active = environment.active.other();
                environment.validated = true;
            }
            environment.booted = true;
        }
        if environment != before {
            self.write_environment(environment, false);
            self.sync();
        }
        let (active, validated) = (environment.active, environment.validated);
        let firmware = self.whole(active, known)?;
        self.running = active;
        Ok(Booted { firmware, validated, reverted })
    }

    /// The firmware in a slot, if every byte is as it was published.
    pub fn whole(&self, slot: Slot, known: &[Firmware]) -> Result<FirmwareId, Broken> {
        let content = self.slot(slot);
        let published = known
            .iter()
            .find(|firmware| firmware.id == content.firmware)
            .ok_or(Broken::NothingToBoot { slot: slot.letter() })?;
        if let Some(at) = content.torn {
            let (slot, firmware) = (slot.letter(), content.firmware);
            return Err(Broken::TornFirmwareBooted { slot, firmware, at });
        }
        let (written, crc) = (content.written, content.crc.clone().finalize());
        if written == published.size && crc == published.crc {
            Ok(content.firmware)
        } else {
            let (firmware, size) = (content.firmware, published.size);
            Err(Broken::OtherBytesThanPublished { slot: slot.letter(), firmware, written, size })
        }
    }

    fn guard(&self, slot: Slot) -> Result<(), Broken> {
        if slot == self.running {
            return Err(Broken::RunningSlotWritten { slot: slot.letter() });
        }
        Ok(())
    }

    fn slot(&self, slot: Slot) -> &Content {
        let [a, b] = &self.slots;
        if slot == Slot::A { a } else { b }
    }

    fn slot_mut(&mut self, slot: Slot) -> &mut Content {
        let [a, b] = &mut self.slots;
        if slot == Slot::A { a } else { b }
    }
}
