//! An A/B disk behind a write-back cache, without the bytes: what was written, what is safe, what boots.

use super::dice::Rng;
use super::firmware::{Firmware, FirmwareId};
use super::violation::Broken;
use crate::disk::Slot;

/// What a slot holds.
#[derive(Debug, Clone)]
struct Content {
    firmware: FirmwareId,
    written: u64,
    /// Bytes that survive a power cut.
    safe: u64,
    crc: crc32fast::Hasher,
    /// Power went before everything was safe.
    torn: bool,
}

/// The boot environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Environment {
    active: Slot,
    validated: bool,
    booted: bool,
}

/// A disk.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    slots: [Content; 2],
    environment: Environment,
    /// An environment written and not synced.
    pending: Option<Environment>,
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
            torn: false,
        };
        let crc = crc32fast::Hasher::new_with_initial_len(firmware.crc, firmware.size);
        let (written, safe) = (firmware.size, firmware.size);
        let full = Content { firmware: firmware.id, written, safe, crc, torn: false };
        let environment = Environment { active: Slot::A, validated: true, booted: true };
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
        let environment = self.pending.unwrap_or(self.environment);
        environment.active == self.running && environment.validated
    }

    /// Whether the next boot runs another slot.
    pub fn is_switched(&self) -> bool {
        self.pending.unwrap_or(self.environment).active != self.running
    }

    /// Begins to write a slot anew.
    pub fn begin(&mut self, slot: Slot, firmware: FirmwareId) -> Result<(), Broken> {
        self.guard(slot)?;
        let content = self.slot_mut(slot);
        let crc = crc32fast::Hasher::new();
        *content = Content { firmware, written: 0, safe: 0, crc, torn: false };
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
        if let Some(environment) = self.pending.take() {
            self.environment = environment;
        }
    }

    /// Makes the next boot try a slot.
    pub fn switch_to(&mut self, active: Slot) {
        self.pending = Some(Environment { active, validated: false, booted: false });
    }

    /// Marks the running firmware good. Waits until that is safe.
    pub fn validate(&mut self) {
        let mut environment = self.pending.unwrap_or(self.environment);
        // Only what runs can prove good.
        if environment.active == self.running {
            environment.validated = true;
            self.pending = Some(environment);
            self.sync();
        }
    }

    /// Power goes: what was not synced is lost, or torn, or made it after all, each as chance has it.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        if let Some(environment) = self.pending.take()
            && rng.one_in(2)
        {
            self.environment = environment;
        }
        for content in &mut self.slots {
            if content.written > content.safe {
                let survived = rng.one_in(4);
                content.torn |= !survived;
                content.safe = content.written;
            }
        }
    }

    /// What the boot loader does. The slot it is told to run must be whole: whoever named it had to make sure.
    pub fn boot(&mut self, known: &[Firmware]) -> Result<Booted, Broken> {
        // A restart without a power cut still flushes.
        self.sync();
        let environment = &mut self.environment;
        let mut reverted = false;
        if !environment.validated {
            if environment.booted {
                reverted = true;
                environment.active = environment.active.other();
                environment.validated = true;
            }
            environment.booted = true;
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
        if content.torn {
            return Err(Broken::TornFirmwareBooted { slot: slot.letter(), firmware: content.firmware });
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
