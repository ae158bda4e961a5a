//! Parts that come over one request.

use sha2::{Digest as _, Sha256};

use crate::download::Download;
use crate::download::digest::Sha;
use crate::download::plan::Plan;
use crate::fault::Fault;
use crate::number::{as_u64, at_most};

/// Contiguous parts that are received one after the other.
pub(super) struct Run {
    pub(super) first: u32,
    /// The part that is being received.
    pub(super) part: u32,
    /// The next part to be brought onto the disk.
    pub(super) commit: u32,
    pub(super) end: u32,
    /// Over what is there of the part being received.
    pub(super) hash: Sha256,
    /// Whether what was there of it before has been read.
    pub(super) seeded: bool,
    pub(super) transfer: Download,
}

impl Run {
    /// Hashes new bytes. Returns how many of them belong to parts that are right so far, and the part that turned
    /// out wrong.
    pub(super) fn judge(&mut self, plan: &Plan, bytes: &[u8]) -> Result<(usize, Option<u32>), Fault> {
        let from = self.transfer.received;
        let (mut at, mut rest) = (from, bytes);
        while !rest.is_empty() {
            // Of a file of unknown size, all belongs to its only part.
            let room = plan.end(self.part).map_or(u64::MAX, |end| end.saturating_sub(at));
            let (now, later) = rest.split_at(at_most(room, rest.len()));
            if now.is_empty() {
                return Err(Fault::new("bytes came that belong to no part"));
            }
            if plan.checksum(self.part).is_some() {
                self.hash.update(now);
            }
            (at, rest) = (at.saturating_add(as_u64(now.len())), later);
            if plan.end(self.part) == Some(at) {
                if !self.matches(plan) {
                    // None if the part began with earlier bytes.
                    let good = plan.start(self.part).saturating_sub(from);
                    return Ok((at_most(good, bytes.len()), Some(self.part)));
                }
                self.part = self.part.saturating_add(1);
                self.hash = Sha256::new();
            }
        }
        Ok((bytes.len(), None))
    }

    /// Whether the part that was received is the one announced, as far as one was.
    pub(super) fn matches(&self, plan: &Plan) -> bool {
        let found: Sha = self.hash.clone().finalize().into();
        plan.checksum(self.part).is_none_or(|announced| announced == found)
    }
}
