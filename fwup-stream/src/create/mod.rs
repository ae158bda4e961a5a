//! Making archives: from a configuration, signing, and the keys to sign with (fw-format §2 and §19).

mod builder;
mod deflate;
mod directory;
mod error;
mod keys;
mod output;
mod resource;
mod signer;
mod time;

pub use builder::Builder;
pub use error::CreateError;
pub use keys::{KeyPair, KeyPairError, PrivateKey, PrivateKeyError};
pub use signer::Signer;
