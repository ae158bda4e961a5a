//! Who may send firmware, and whether data are what the manifest says.

mod digest;
mod keys;
mod signature;
mod streaming;

pub use digest::{Blake2b256, is_digest, to_hex};
pub(crate) use keys::without_mark;
pub use keys::{KeyError, PublicKey};
pub use signature::{SIGNATURE_LENGTH, verify};
pub(crate) use streaming::StreamingDigest;
