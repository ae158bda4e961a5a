//! A firmware as the socket hub serves it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::firmware::{Data, FirmwareArchive, describe};
use crate::limits::{BODY_CHUNK, PART};
use crate::meta::FirmwareMeta;

/// An archive to deploy: its bytes in memory or in a file, what it is, and the keys that verify it.
#[derive(Debug, Clone)]
pub struct Firmware {
    pub(super) data: Data,
    /// What the hub says the firmware is.
    pub meta: FirmwareMeta,
    /// Keys the hub hands out from the moment this is deployed.
    pub public_keys: Vec<String>,
    pub(super) size: u64,
    pub(super) checksum: String,
    pub(super) partials: Vec<String>,
}

impl Firmware {
    /// Takes a built archive together with its public key. Reads it once for its checksums.
    pub fn from_archive(archive: &FirmwareArchive) -> io::Result<Self> {
        let keys = archive.public_key.iter().cloned().collect();
        Self::new(archive.data.clone(), archive.meta.clone(), keys)
    }

    /// Takes these bytes.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>, meta: FirmwareMeta) -> io::Result<Self> {
        Self::new(Data::Memory(bytes.into()), meta, Vec::new())
    }

    /// Takes any archive from a file and reads what it says about itself. The file is read whenever it
    /// is served; it must stay as it is.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let meta = describe(File::open(path)?).map_err(io::Error::other)?;
        Self::new(Data::File(path.to_owned()), meta, Vec::new())
    }

    /// Adds a key.
    #[must_use]
    pub fn with_public_key(mut self, key: &str) -> Self {
        self.public_keys.push(key.to_owned());
        self
    }

    /// Takes all keys away, so that the hub does not vouch for the firmware.
    #[must_use]
    pub fn without_public_keys(mut self) -> Self {
        self.public_keys.clear();
        self
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn new(data: Data, meta: FirmwareMeta, public_keys: Vec<String>) -> io::Result<Self> {
        let mut firmware =
            Self { data, meta, public_keys, size: 0, checksum: String::new(), partials: Vec::new() };
        let mut reader = firmware.open_at(0)?;
        let mut whole = Sha256::new();
        let mut buffer = vec![0; BODY_CHUNK];
        let (mut part, mut in_part) = (Sha256::new(), 0);
        loop {
            let room = buffer.len().min(PART - in_part);
            let n = reader.read(buffer.get_mut(..room).unwrap_or_default())?;
            let piece = buffer.get(..n).unwrap_or_default();
            whole.update(piece);
            part.update(piece);
            in_part += n;
            firmware.size += n as u64;
            if in_part == PART || (n == 0 && in_part > 0) {
                firmware.partials.push(hex(&part.finalize_reset()));
                in_part = 0;
            }
            if n == 0 {
                firmware.checksum = hex(&whole.finalize());
                return Ok(firmware);
            }
        }
    }

    pub(super) fn open_at(&self, from: u64) -> io::Result<Box<dyn Read + Send>> {
        match &self.data {
            Data::Memory(bytes) => {
                let mut cursor = Cursor::new(Arc::clone(bytes));
                cursor.set_position(from);
                Ok(Box::new(cursor))
            }
            Data::File(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(from))?;
                Ok(Box::new(file))
            }
        }
    }
}

/// Upper-case hex, as the server sends it.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}
