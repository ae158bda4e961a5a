//! Proving who the device is.

pub(crate) mod clock;
mod etf;
pub(crate) mod shared_secret;
