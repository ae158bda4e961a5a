//! What the file server has: firmware and archives, in the order of their releases.

use super::firmware::{ARCHIVES, Firmware, FirmwareId, content, read};

/// Bytes of the largest file that is held whole, so that a fleet which fetches it doesn't make it up again and again.
const HELD: u64 = 256 * 1024;

/// The files.
#[derive(Debug)]
pub(super) struct Files {
    seed: u64,
    pub firmware: Vec<Firmware>,
    pub archives: Vec<Firmware>,
    /// The firmware and the archive that were read last.
    held: [Option<(FirmwareId, Vec<u8>)>; 2],
}

impl Files {
    /// A server with what devices are made with.
    pub fn new(seed: u64, factory: Firmware) -> Self {
        Self { seed, firmware: vec![factory], archives: Vec::new(), held: [None, None] }
    }

    /// A file.
    pub fn get(&self, id: FirmwareId) -> Option<&Firmware> {
        let all = if id < ARCHIVES { &self.firmware } else { &self.archives };
        all.get((id % ARCHIVES) as usize)
    }

    /// Bytes of a file from `offset` on.
    pub fn read(&mut self, id: FirmwareId, offset: u64, buffer: &mut [u8]) {
        let Some((size, header)) = self.get(id).map(|file| (file.size, file.header)) else { return };
        let code = content(self.seed, id);
        let place = self.held.get_mut(usize::from(id >= ARCHIVES));
        let Some(held) = place.filter(|_| size <= HELD) else { return read(code, &header, offset, buffer) };
        let (_, bytes) = match held.take() {
            Some(whole) if whole.0 == id => held.insert(whole),
            _ => {
                let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
                read(code, &header, 0, &mut bytes);
                held.insert((id, bytes))
            }
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let there = bytes.get(from..).unwrap_or_default();
        let length = there.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), there.get(..length)) {
            to.copy_from_slice(from);
        }
    }

    /// The same of a file that took its place: it has as many bytes, of another content.
    pub fn read_changed(&self, id: FirmwareId, offset: u64, buffer: &mut [u8]) {
        if let Some(file) = self.get(id) {
            read(content(!self.seed, id), &file.header, offset, buffer);
        }
    }
}
