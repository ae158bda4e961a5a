//! The checksum a server may announce for a file (spec §6.1).

use alloc::format;
use alloc::string::String;

use sha2::{Digest as _, Sha256};

/// SHA-256 over the bytes that pass by, and what it should be.
pub(super) struct Checksum {
    so_far: Sha256,
    announced: String,
}

impl Checksum {
    /// Builds a checksum from lower-case hex.
    pub(super) fn new(announced: String) -> Self {
        Self { so_far: Sha256::new(), announced }
    }

    /// Adds the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.so_far.update(bytes);
    }

    /// Returns what is wrong, if the bytes so far are not those announced.
    pub(super) fn mismatch(&self) -> Option<String> {
        let actual = hex(&self.so_far.clone().finalize());
        let announced = &self.announced;
        (actual != *announced).then(|| format!("SHA-256 is {actual} but the server announced {announced}"))
    }
}

fn hex(bytes: &[u8]) -> String {
    use core::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
