//! The table of clusters: chains, and where free clusters are looked for (fw-format §15.4).

use super::boot::Kind;
use super::error::Fault;
use super::volume::Volume;
use crate::disk::DiskIo;

/// The mark at the end of a chain; narrower tables keep its low bits.
const END: u32 = u32::MAX;

impl Volume {
    /// Returns what the table says of a cluster: 0 free, 1 (also for a cluster that does not exist) nonsense,
    /// a number in range the next one, more the end.
    pub(super) fn link(&mut self, disk: &mut dyn DiskIo, cluster: u32) -> Result<u32, Fault> {
        if cluster < 2 || cluster >= self.geometry.entries {
            return Ok(1);
        }
        Ok(match self.geometry.kind {
            Kind::Fat12 => {
                let low = self.table_byte(disk, cluster + cluster / 2)?;
                let high = self.table_byte(disk, cluster + cluster / 2 + 1)?;
                let both = u32::from(u16::from_le_bytes([low, high]));
                if cluster % 2 == 1 { both >> 4 } else { both & 0xFFF }
            }
            Kind::Fat16 => {
                let at = self.load_table(disk, u64::from(cluster) * 2)?;
                u32::from(self.window.word(at))
            }
            Kind::Fat32 => {
                let at = self.load_table(disk, u64::from(cluster) * 4)?;
                self.window.long(at) & 0x0FFF_FFFF
            }
        })
    }

    /// Frees the chain that begins with `cluster`.
    pub(super) fn free_chain(&mut self, disk: &mut dyn DiskIo, cluster: u32) -> Result<(), Fault> {
        if cluster < 2 || cluster >= self.geometry.entries {
            return Err(Fault::Corrupt);
        }
        let mut cluster = cluster;
        // Ends on a circle too, for the clusters behind are free by then.
        loop {
            let next = self.link(disk, cluster)?;
            match next {
                0 => return Ok(()),
                1 => return Err(Fault::Corrupt),
                _ => {}
            }
            self.set_link(disk, cluster, 0)?;
            if self.free < self.geometry.entries - 2 {
                self.free += 1;
                self.info_changed = true;
            }
            if next >= self.geometry.entries {
                return Ok(());
            }
            cluster = next;
        }
    }

    /// Takes a free cluster for a new chain. `None`: there is none.
    pub(super) fn begin_chain(&mut self, disk: &mut dyn DiskIo) -> Result<Option<u32>, Fault> {
        let from = if self.last == 0 || self.last >= self.geometry.entries { 1 } else { self.last };
        if self.free == 0 {
            return Ok(None);
        }
        let Some(found) = self.find_free(disk, from)? else { return Ok(None) };
        self.take(disk, found, None)?;
        Ok(Some(found))
    }

    /// Returns the cluster after `cluster`, and adds one if that was the last. `None`: there is no free one.
    pub(super) fn extend_chain(&mut self, disk: &mut dyn DiskIo, cluster: u32) -> Result<Option<u32>, Fault> {
        let next = self.link(disk, cluster)?;
        if next < 2 {
            return Err(Fault::Corrupt);
        }
        if next < self.geometry.entries {
            return Ok(Some(next));
        }
        if self.free == 0 {
            return Ok(None);
        }
        let neighbour = if cluster + 1 < self.geometry.entries { cluster + 1 } else { 2 };
        let found = match self.link(disk, neighbour)? {
            0 => Some(neighbour),
            1 => return Err(Fault::Corrupt),
            _ => {
                let hint = Some(self.last).filter(|last| (2..self.geometry.entries).contains(last));
                self.find_free(disk, hint.unwrap_or(cluster))?
            }
        };
        let Some(found) = found else { return Ok(None) };
        self.take(disk, found, Some(cluster))?;
        Ok(Some(found))
    }

    /// Looks for a free cluster from the one after `from` upwards, going on at the start; `from` is the last
    /// one looked at.
    fn find_free(&mut self, disk: &mut dyn DiskIo, from: u32) -> Result<Option<u32>, Fault> {
        let above = from.saturating_add(1)..self.geometry.entries;
        for cluster in above.chain(2..from.saturating_add(1)) {
            match self.link(disk, cluster)? {
                0 => return Ok(Some(cluster)),
                1 => return Err(Fault::Corrupt),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Makes a free cluster the end of a chain.
    fn take(&mut self, disk: &mut dyn DiskIo, cluster: u32, before: Option<u32>) -> Result<(), Fault> {
        self.set_link(disk, cluster, END)?;
        if let Some(before) = before {
            self.set_link(disk, before, cluster)?;
        }
        self.last = cluster;
        if self.free <= self.geometry.entries - 2 {
            // The count on a medium may be wrong.
            self.free = self.free.saturating_sub(1);
        }
        self.info_changed = true;
        Ok(())
    }

    fn set_link(&mut self, disk: &mut dyn DiskIo, cluster: u32, value: u32) -> Result<(), Fault> {
        if cluster < 2 || cluster >= self.geometry.entries {
            return Err(Fault::Corrupt);
        }
        self.index.relinked(cluster, value == 0);
        let [low, high, ..] = value.to_le_bytes();
        match self.geometry.kind {
            Kind::Fat12 => {
                let at = cluster + cluster / 2;
                let odd = cluster % 2 == 1;
                let old = self.table_byte(disk, at)?;
                let new = if odd { old & 0x0F | low << 4 } else { low };
                self.window.put(at as usize % 512, &[new]);
                let old = self.table_byte(disk, at + 1)?;
                let new = if odd { low >> 4 | high << 4 } else { old & 0xF0 | high & 0x0F };
                self.window.put((at + 1) as usize % 512, &[new]);
            }
            Kind::Fat16 => {
                let at = self.load_table(disk, u64::from(cluster) * 2)?;
                self.window.put(at, &[low, high]);
            }
            Kind::Fat32 => {
                let at = self.load_table(disk, u64::from(cluster) * 4)?;
                let value = value & 0x0FFF_FFFF | self.window.long(at) & 0xF000_0000;
                self.window.put(at, &value.to_le_bytes());
            }
        }
        Ok(())
    }

    fn table_byte(&mut self, disk: &mut dyn DiskIo, at: u32) -> Result<u8, Fault> {
        let at = self.load_table(disk, u64::from(at))?;
        Ok(self.window.byte(at))
    }

    /// Loads the table's sector with byte `at` and returns the byte's place in it.
    fn load_table(&mut self, disk: &mut dyn DiskIo, at: u64) -> Result<usize, Fault> {
        let index = u32::try_from(at / 512).map_err(|_| Fault::Corrupt)?;
        let sector = self.geometry.table.checked_add(index).ok_or(Fault::Corrupt)?;
        self.load(disk, sector)?;
        usize::try_from(at % 512).map_err(|_| Fault::Corrupt)
    }
}
