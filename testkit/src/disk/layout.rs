//! Where things are on a test disk.

/// Bytes of a block.
pub const BLOCK: u64 = 512;

/// The partitions of an A/B disk, in 512-byte blocks: a boot record, a U-Boot environment (one copy or
/// two), two slots of the same size and a data partition, as Nerves systems have them
/// (device-identity §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskLayout {
    /// First block of the environment.
    pub environment: u64,
    /// Blocks of one copy of the environment.
    pub environment_blocks: u64,
    /// First block of the second copy, when there is one.
    pub environment_redundant: Option<u64>,
    /// First block of slot A.
    pub slot_a: u64,
    /// First block of slot B.
    pub slot_b: u64,
    /// Blocks of each slot.
    pub slot_blocks: u64,
    /// First block of the data partition.
    pub application: u64,
    /// Blocks of the data partition.
    pub application_blocks: u64,
}

impl DiskLayout {
    /// A layout with slots of this many MiB each (1 to 4096) and a single environment.
    pub fn with_slots_of(mib: u32) -> Self {
        // 2048 blocks are one MiB; partitions start on MiB borders as installers make them.
        let slot_blocks = u64::from(mib.clamp(1, 4096)) * 2048;
        Self {
            environment: 16,
            environment_blocks: 16,
            environment_redundant: None,
            slot_a: 2048,
            slot_b: 2048 + slot_blocks,
            slot_blocks,
            application: 2048 + 2 * slot_blocks,
            application_blocks: 2048,
        }
    }

    /// The same with a second copy of the environment, 256 KiB behind the first: fwup writes whole
    /// segments of 128 KiB, so that copies side by side would be torn together.
    #[must_use]
    pub fn redundant(mut self) -> Self {
        self.environment_redundant = Some(self.environment + 512);
        self
    }

    /// Bytes of the whole disk.
    pub fn disk_len(&self) -> u64 {
        (self.application + self.application_blocks) * BLOCK
    }

    /// First block of a slot.
    pub fn slot(&self, slot: Slot) -> u64 {
        match slot {
            Slot::A => self.slot_a,
            Slot::B => self.slot_b,
        }
    }
}

/// One of the two places a firmware can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// `a` or `b`, as the environment has it.
    pub fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The slot of a letter.
    pub fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "a" => Some(Self::A),
            "b" => Some(Self::B),
            _ => None,
        }
    }

    /// The slot that is not this one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}
