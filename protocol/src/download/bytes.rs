//! The bytes of a download as they pass by: which are new, which are too many, and what became of them.

use core::ops::Range;

use super::{Download, Keep, Stage, Verdict};
use crate::config::DownloadConfig;
use crate::number::{as_u64, at_most};
use crate::time::Instant;

impl Download {
    /// A chunk passes by.
    pub(crate) fn body(&mut self, now: Instant, config: &DownloadConfig, chunk: &[u8]) -> (Keep, Verdict) {
        let new = match self.admit(now, config, chunk) {
            Ok(new) if !new.is_empty() => new,
            Ok(_) => return (Keep::default(), Verdict::Continue),
            Err(verdict) => return (Keep::default(), verdict),
        };
        debug_assert!(new.end <= chunk.len(), "more of a chunk is new than there is");
        let bytes = chunk.get(new.clone()).unwrap_or_default();
        if let Some(checksum) = &mut self.checksum {
            checksum.update(bytes);
        }
        // Judged before the applier gets the last bytes, with which it might finish by itself.
        if self.total == Some(self.received.saturating_add(as_u64(bytes.len())))
            && let Some(reason) = self.mismatch()
        {
            return (Keep::default(), self.wrong(reason));
        }
        (self.accept(now, new), Verdict::Continue)
    }

    /// Measures a chunk. Returns which part of it is new, or how it ends the download.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        config: &DownloadConfig,
        chunk: &[u8],
    ) -> Result<Range<usize>, Verdict> {
        let storing = self.is_storing();
        let Stage::Receiving { since, skip, loose, budget, .. } = &mut self.stage else {
            return match self.stage {
                Stage::Received { foreign: false } if !chunk.is_empty() => Err(self.wrong(self.excess())),
                _ => Ok(0..0),
            };
        };
        if !storing {
            let waited = now.saturating_since(*since);
            *budget = budget.map(|left| left.saturating_sub(waited));
        }
        *since = now;
        let skipped = at_most(*skip, chunk.len());
        *skip = skip.saturating_sub(as_u64(skipped));
        let mut end = chunk.len();
        // A server that ignores ranges, or said that it sends more, goes on past what was asked for; any other has no
        // business to.
        if let (true, Some(until)) = (*loose, self.until) {
            end = skipped + at_most(until.saturating_sub(self.received), end - skipped);
        }
        let received = self.received.saturating_add(as_u64(end.saturating_sub(skipped)));
        if self.until.or(self.total).is_some_and(|last| received > last) {
            return Err(self.wrong(self.excess()));
        }
        if received > config.max_size {
            return Err(self.too_big(config.max_size));
        }
        Ok(skipped..end)
    }

    /// Takes a part of a chunk that was measured before.
    pub(super) fn accept(&mut self, now: Instant, new: Range<usize>) -> Keep {
        let keep = Keep { offset: self.received, range: new, not_before: None };
        if !keep.range.is_empty() {
            self.received = self.received.saturating_add(as_u64(keep.range.len()));
            self.moved = now;
            self.retries.progressed();
            self.short = 0;
            if self.until.or(self.total) == Some(self.received) {
                self.stage = Stage::Received { foreign: false };
            }
        }
        keep
    }

    /// The applier took bytes.
    pub(crate) fn stored(&mut self, now: Instant, len: usize) -> Verdict {
        if !self.is_storing() {
            return Verdict::Continue;
        }
        let len = as_u64(len);
        let taken = len.min(self.received.saturating_sub(self.stored));
        self.stored = self.stored.saturating_add(taken);
        // What is wasted was handed over last.
        self.wasted = self.wasted.saturating_sub(len.saturating_sub(taken));
        self.moved = now;
        if let (false, Stage::Receiving { since, .. }) = (self.is_storing(), &mut self.stage) {
            *since = now.max(*since);
        }
        self.settled()
    }
}
