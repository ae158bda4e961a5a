//! Faults of one device that wait for their moment, and those that had it.

use super::fault::{Fault, Faults};

/// Faults that wait for their moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Armed {
    /// How often each class will strike, in the order of [`Fault::ALL`].
    times: [u8; Fault::ALL.len()],
    /// How long the disk takes for one operation more than usual.
    slow: u64,
    /// Which kind of it.
    pub how: u32,
    /// Until when they wait.
    pub until: u64,
    /// Classes that made a difference.
    pub felt: Faults,
}

impl Default for Armed {
    fn default() -> Self {
        Self { times: [0; Fault::ALL.len()], slow: 0, how: 0, until: 0, felt: Faults::NONE }
    }
}

impl Armed {
    /// Lets a class strike so many times.
    pub fn arm(&mut self, fault: Fault, times: u8) {
        if let Some(waiting) = self.times.get_mut(fault.index()) {
            *waiting = times;
        }
    }

    /// Lets the next operation of the disk take so many microseconds more.
    pub fn slow_down(&mut self, micros: u64) {
        self.slow = micros;
    }

    /// Whether a class strikes now.
    pub fn strikes(&mut self, fault: Fault) -> bool {
        let Some(waiting) = self.times.get_mut(fault.index()).filter(|waiting| **waiting > 0) else {
            return false;
        };
        *waiting -= 1;
        self.felt.insert(fault);
        true
    }

    /// Whether a class is yet to strike.
    pub fn waits(&self, fault: Fault) -> bool {
        self.times.get(fault.index()).is_some_and(|waiting| *waiting > 0)
    }

    /// How many microseconds more than usual the disk takes now.
    pub fn slowness(&mut self) -> u64 {
        if self.slow > 0 {
            self.felt.insert(Fault::DiskSlow);
        }
        std::mem::take(&mut self.slow)
    }

    /// Forgets what waited too long.
    pub fn expire(&mut self, now: u64) {
        if self.until <= now {
            self.disarm();
        }
    }

    /// Forgets everything that waits.
    pub fn disarm(&mut self) {
        *self = Self { felt: self.felt, ..Self::default() };
    }
}
