//! Downloads that are kept on the device before they are applied.

use nerves_hub_link_protocol::{FetchId, Input, OpenStore, ReadStore, StoreId};

use super::{CHUNK, World};
use crate::sim::device::{Device, Reading, place};
use crate::sim::fault::Fault;
use crate::sim::firmware::FirmwareId;
use crate::sim::queue::DeviceDue;
use crate::sim::scenario::SECOND;
use crate::sim::violation::Broken;

impl World {
    /// The machine wants a store.
    pub(super) fn open_store(&mut self, device: &mut Device, order: &OpenStore) {
        let (store, place) = (order.store, place(order.kind));
        let Some(folder) = device.folders.get_mut(place) else { return };
        let parts = folder.open(order);
        let Some(life) = device.link.as_mut() else { return };
        if let Some(open) = life.stores.get_mut(place) {
            *open = Some(store);
        }
        let what = if device.armed.strikes(Fault::DiskFull) {
            DeviceDue::StoreFailed { store, reason: "no space left on the disk" }
        } else {
            DeviceDue::StoreOpened { store, parts }
        };
        let after = 5_000 + device.armed.slowness();
        self.later(device, after, what);
    }

    pub(super) fn store_opened(&mut self, device: &mut Device, store: StoreId, parts: &[(u32, u64)]) {
        let Some(life) = device.link.as_mut() else { return };
        life.input(self.now, device.wall, Input::StoreOpened { store, parts });
    }

    pub(super) fn store_failed(&mut self, device: &mut Device, store: StoreId, reason: &str) {
        let Some(life) = device.link.as_mut() else { return };
        life.input(self.now, device.wall, Input::StoreFailed { store, reason });
    }

    /// A part is to be brought onto the disk, behind all bytes of it.
    pub(super) fn commit_part(
        &mut self,
        device: &mut Device,
        store: StoreId,
        part: u32,
    ) -> Result<(), Broken> {
        let after = device.rng.within(2_000, 400_000) + device.armed.slowness();
        self.later(device, after, DeviceDue::PartCommitted { store, part });
        self.operation(device)
    }

    pub(super) fn part_committed(&mut self, device: &mut Device, store: StoreId, part: u32) {
        if let Some(folder) = device.folder_of(store) {
            folder.commit(part);
        }
        let Some(life) = device.link.as_mut() else { return };
        life.input(self.now, device.wall, Input::PartCommitted { store, part });
    }

    /// The machine reads back what is kept.
    pub(super) fn read_store(&mut self, device: &mut Device, order: &ReadStore) {
        let ReadStore { fetch, store, from, to, into } = *order;
        let Some(life) = device.link.as_mut() else { return };
        let Some(place) = life.open_at(store) else { return };
        life.readings.push(Reading { fetch, place, at: from, to, into });
        self.later(device, 1_000, DeviceDue::Read(fetch));
    }

    /// Bytes of a store are read, or the end is reached.
    pub(super) fn read(&mut self, device: &mut Device, fetch: FetchId) -> Result<(), Broken> {
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let clock = life.clock(self.now, device.wall);
        let Some(index) = life.readings.iter().position(|reading| reading.fetch == fetch) else {
            return Ok(());
        };
        let waiting = life.applier.as_ref().is_some_and(|applier| applier.outstanding > CHUNK as u64 * 4);
        let Some(reading) = life.readings.get_mut(index) else { return Ok(()) };
        if reading.into.is_some() && waiting {
            self.later(device, 20_000, DeviceDue::Read(fetch));
            return Ok(());
        }
        if device.armed.strikes(Fault::ReadError) {
            life.readings.remove(index);
            let reason = "what is kept can't be read: input/output error of the disk";
            life.input(self.now, device.wall, Input::FetchFailed { fetch, reason });
            return Ok(());
        }
        let most = (reading.to - reading.at).min(CHUNK as u64);
        let folder = device.folders.get(reading.place);
        let files = &mut self.files;
        let piece = folder.map_or_else(Vec::new, |folder| folder.read(files, reading.at, most));
        let ended = reading.at >= reading.to;
        reading.at += piece.len() as u64;
        if piece.is_empty() {
            life.readings.remove(index);
            let input = if ended {
                Input::FetchEnd { fetch }
            } else {
                Input::FetchFailed { fetch, reason: "the store holds fewer bytes" }
            };
            life.input(self.now, device.wall, input);
            return Ok(());
        }
        let into = reading.into;
        let keep = life.link.body(clock, fetch, &piece);
        let kept = keep.range.len() as u64;
        if into.is_some() {
            life.watch.keep(keep.offset, kept)?;
        } else if kept > 0 {
            return Err(Broken::Gap { offset: keep.offset, kept: 0 });
        }
        self.drain(device)?;
        if let (Some(_), Some(piece)) = (into, piece.get(keep.range).filter(|piece| !piece.is_empty())) {
            self.apply_piece(device, fetch, piece, kept)?;
        }
        self.later(device, 500, DeviceDue::Read(fetch));
        Ok(())
    }

    /// Bytes of a download go into a store.
    pub(super) fn keep_piece(
        &mut self,
        device: &mut Device,
        fetch: FetchId,
        store: StoreId,
        offset: u64,
        piece: &[u8],
        published: Option<(FirmwareId, u64)>,
    ) -> Result<(), Broken> {
        let strikes = device.armed.strikes(Fault::DiskError);
        // What comes before the machine knows of an error is lost.
        let Some(folder) = device.folder_of(store).filter(|folder| !folder.failed) else { return Ok(()) };
        if strikes {
            folder.failed = true;
            self.later(
                device,
                1_000,
                DeviceDue::StoreFailed { store, reason: "input/output error of the disk" },
            );
            return Ok(());
        }
        folder.write(offset, piece, published)?;
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let slow = device.armed.slowness().min(60 * SECOND);
        self.later(device, 300 + slow, DeviceDue::Kept { fetch, length });
        self.operation(device)
    }

    /// The store has bytes.
    pub(super) fn kept(&mut self, device: &mut Device, fetch: FetchId, length: u32) {
        let (now, wall) = (self.now, device.wall);
        let Some(life) = device.link.as_mut() else { return };
        let clock = life.clock(now, wall);
        life.link.stored(clock, fetch, usize::try_from(length).unwrap_or(usize::MAX));
    }
}
