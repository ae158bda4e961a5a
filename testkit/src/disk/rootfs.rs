//! A root file system that can tell whether it is whole.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::firmware::Content;

/// Bytes of the header in front of the body.
pub const HEADER: usize = 512;

/// What the header begins with.
const MAGIC: &[u8; 8] = b"NHLROOT1";

/// The longest version text the header holds.
const VERSION_MAX: usize = HEADER - 50;

/// A root file system image for tests: a header that names version, length and SHA-256, then bytes
/// made from a seed that do not compress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    version: String,
    body: u64,
    seed: u64,
}

impl Rootfs {
    /// An image of `length` bytes in all, header included; shorter ones get just the header. A version
    /// of more than 462 bytes is cut.
    pub fn new(version: &str, length: u64, seed: u64) -> Self {
        let mut version = version.to_owned();
        while version.len() > VERSION_MAX {
            version.pop();
        }
        Self { version, body: length.saturating_sub(HEADER as u64), seed }
    }

    /// The image as the content of a resource. Reads the body once for its digest.
    pub fn content(&self) -> Content {
        let body = Content::random(self.seed, self.body);
        let mut digest = Sha256::new_with_prefix(self.version.as_bytes());
        let mut reader = body.reader();
        let mut buffer = vec![0; 64 * 1024];
        // Reading made-up bytes cannot fail.
        while let Ok(n @ 1..) = reader.read(&mut buffer) {
            digest.update(buffer.get(..n).unwrap_or_default());
        }
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC);
        header.extend(self.body.to_le_bytes());
        header.extend(digest.finalize());
        header.extend(u16::try_from(self.version.len()).unwrap_or_default().to_le_bytes());
        header.extend(self.version.as_bytes());
        header.resize(HEADER, 0);
        Content::joined(header, body)
    }
}

/// What a header says, checked against the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsInfo {
    /// The version.
    pub version: String,
    /// Bytes of header and body.
    pub length: u64,
    /// SHA-256 of version and body.
    pub digest: [u8; 32],
}

/// Why what is in a slot cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootfsError {
    /// There is no header: nothing was ever written, or its beginning is gone.
    #[error("there is no root file system: its first bytes are not the header's")]
    Missing,
    /// The header's numbers cannot be.
    #[error("the header of the root file system is damaged: {0}")]
    Header(&'static str),
    /// The body is not what the header says.
    #[error(
        "the root file system of version {version} is torn: its {length} bytes do not have the digest in its header"
    )]
    Torn {
        /// The version in the header.
        version: String,
        /// Bytes of the image.
        length: u64,
    },
    /// The disk could not be read.
    #[error("the slot could not be read: {0}")]
    Unreadable(String),
}

/// Reads an image of at most `room` bytes and checks it.
pub fn check(reader: &mut dyn Read, room: u64) -> Result<RootfsInfo, RootfsError> {
    let unreadable = |error: io::Error| RootfsError::Unreadable(error.to_string());
    let mut header = [0; HEADER];
    reader.read_exact(&mut header).map_err(unreadable)?;
    let rest = header.strip_prefix(MAGIC).ok_or(RootfsError::Missing)?;
    let damaged = || RootfsError::Header("it is cut short");
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (digest, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
    let (version_len, rest) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
    let body = u64::from_le_bytes(*length);
    let version = rest
        .get(..usize::from(u16::from_le_bytes(*version_len)))
        .and_then(|bytes| core::str::from_utf8(bytes).ok())
        .ok_or(RootfsError::Header("its version is no text"))?
        .to_owned();
    let length = body.saturating_add(HEADER as u64);
    if length > room {
        return Err(RootfsError::Header("it claims more bytes than the slot has"));
    }
    let mut hasher = Sha256::new_with_prefix(version.as_bytes());
    let copied = io::copy(&mut reader.take(body), &mut Digester(&mut hasher)).map_err(unreadable)?;
    if copied == body && hasher.finalize().as_slice() == digest {
        Ok(RootfsInfo { version, length, digest: *digest })
    } else {
        Err(RootfsError::Torn { version, length })
    }
}

struct Digester<'a>(&'a mut Sha256);

impl io::Write for Digester<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
