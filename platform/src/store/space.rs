//! The free space of the partition that downloads are on, and how much of it they leave.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::limits::{RESERVE_MAX, RESERVE_MIN, RESERVE_PERCENT, RESERVE_SMALL};

/// The space of a partition, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All there is.
    pub total: u64,
    /// What programs without privileges may still use.
    pub available: u64,
}

/// Space that downloads leave free on their partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reserve {
    /// A share of the partition: 5 %, but 16 MiB at least (a quarter of partitions smaller than 64 MiB) and 512 MiB at most.
    #[default]
    Share,
    /// So many bytes.
    Bytes(u64),
}

impl Reserve {
    /// Returns the bytes to leave free on a partition of so many bytes.
    pub const fn of(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share => {
                let share = total / 100 * RESERVE_PERCENT + total % 100 * RESERVE_PERCENT / 100;
                let quarter = total / RESERVE_SMALL;
                let least = if quarter < RESERVE_MIN { quarter } else { RESERVE_MIN };
                if share < least {
                    least
                } else if share > RESERVE_MAX {
                    RESERVE_MAX
                } else {
                    share
                }
            }
        }
    }
}

/// How to ask for the space of a folder.
#[derive(Clone)]
pub(super) struct Probe(Arc<Ask>);

type Ask = dyn Fn(&Path) -> io::Result<Space> + Send + Sync;

impl Probe {
    pub(super) fn new(ask: impl Fn(&Path) -> io::Result<Space> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    pub(super) fn ask(&self, folder: &Path) -> io::Result<Space> {
        (self.0)(folder)
    }
}

impl Default for Probe {
    /// Asks the system.
    fn default() -> Self {
        Self::new(|folder| {
            let space = rustix::fs::statvfs(folder)?;
            let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
            Ok(Space { total: bytes(space.f_blocks), available: bytes(space.f_bavail) })
        })
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probe")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_share_between_two_bounds() {
        let share = |total| Reserve::Share.of(total);
        assert_eq!((share(0), share(4000)), (0, 1000));
        assert_eq!(share(RESERVE_MIN * 4 - 4), RESERVE_MIN - 1);
        assert_eq!(share(RESERVE_MIN * 4 + 4), RESERVE_MIN);
        assert_eq!(share(RESERVE_MIN * 20 - 100), RESERVE_MIN);
        assert_eq!(share(RESERVE_MIN * 20 + 100), RESERVE_MIN + 5);
        assert_eq!(share(RESERVE_MAX * 20 - 100), RESERVE_MAX - 5);
        assert_eq!(share(RESERVE_MAX * 20 + 100), RESERVE_MAX);
        assert_eq!(share(u64::MAX), RESERVE_MAX);
        assert_eq!(Reserve::Bytes(7).of(u64::MAX), 7);
    }
}
