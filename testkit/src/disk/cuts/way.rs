//! Ways of applying the same archive.

use fwup_stream::disk::{Target, WriteBehind};
use fwup_stream::{Applier, ApplyOptions, Error};

use super::super::random::Random;

/// How an archive is cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pieces {
    Whole,
    Bytes,
    Odd,
}

/// A way of applying an archive. Whichever is taken, the same must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// What reports call it.
    pub name: &'static str,
    pieces: Pieces,
    threads: bool,
    verify: bool,
    minimize: bool,
    trim: bool,
    pub(super) sector: u64,
}

const PLAIN: Way = Way {
    name: "whole",
    pieces: Pieces::Whole,
    threads: false,
    verify: false,
    minimize: false,
    trim: false,
    sector: 512,
};

/// Every way: the archive whole, in odd pieces and byte by byte; without and with threads; writes read back,
/// left out where nothing changes, trimmed before; on disks with sectors of 512 and of 4096 bytes.
pub const WAYS: [Way; 8] = [
    PLAIN,
    Way { name: "odd pieces", pieces: Pieces::Odd, ..PLAIN },
    Way { name: "byte by byte", pieces: Pieces::Bytes, ..PLAIN },
    Way { name: "threads", pieces: Pieces::Odd, threads: true, ..PLAIN },
    Way { name: "verify", verify: true, ..PLAIN },
    Way { name: "minimize", minimize: true, ..PLAIN },
    Way {
        name: "verify, minimize, trim, threads",
        threads: true,
        verify: true,
        minimize: true,
        trim: true,
        ..PLAIN
    },
    Way { name: "sectors of 4096", pieces: Pieces::Odd, trim: true, sector: 4096, ..PLAIN },
];

/// Bytes of the largest odd piece.
const ODD_MAX: usize = 9973;

impl Way {
    /// Applies an archive this way; the task that ran, or why it did not.
    pub(super) fn apply(
        self,
        archive: &[u8],
        options: &ApplyOptions,
        target: impl Target + Send + 'static,
    ) -> Result<String, String> {
        let mut options = options.clone();
        options.threads = self.threads;
        options.minimize_writes = self.minimize;
        options.enable_trim = self.trim;
        let outcome = if self.threads {
            let behind = WriteBehind::new(target, self.verify);
            self.push(archive, options, behind.map_err(|error| format!("no thread to write: {error}"))?)
        } else {
            options.verify_writes = self.verify;
            self.push(archive, options, target)
        };
        outcome.map_err(|error| error.to_string())
    }

    fn push(self, archive: &[u8], options: ApplyOptions, target: impl Target) -> Result<String, Error> {
        let mut applier = Applier::new(options, target)?;
        let mut random = Random::new(archive.len() as u64);
        let mut rest = archive;
        while !rest.is_empty() {
            let piece = match self.pieces {
                Pieces::Whole => rest.len(),
                Pieces::Bytes => 1,
                Pieces::Odd => 1 + random.below(ODD_MAX),
            };
            let (now, later) = rest.split_at(piece.min(rest.len()));
            applier.push(now)?;
            rest = later;
        }
        applier.finish().map(|report| report.task)
    }
}
