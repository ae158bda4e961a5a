//! Firmware and archives come no faster than they may.

use super::Link;
use crate::download::{Download, Keep};
use crate::ids::FetchId;

impl Link {
    /// Returns the download that a request of the network belongs to; other numbers are of readings.
    pub(super) fn transfer(&mut self, fetch: FetchId) -> Option<&mut Download> {
        match self.archives.transfer(fetch) {
            Some(download) => Some(download),
            None => self.updates.transfer(fetch),
        }
    }

    /// Bytes of the network came. Says when to read on, if they come too fast.
    pub(super) fn paced(&mut self, fetch: FetchId, bytes: usize, mut keep: Keep) -> Keep {
        keep.not_before = self.pace.came(self.core.now, self.core.wall, &self.core.config.rate, bytes);
        if let (Some(at), Some(download)) = (keep.not_before, self.transfer(fetch)) {
            download.paused(at);
        }
        keep
    }
}
