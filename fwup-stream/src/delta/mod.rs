//! Delta updates: VCDIFF (RFC 3284) as `xdelta3` writes it and fwup reads it (fw-format §12).
//!
//! A [`Decoder`] takes the bytes of a delta in pieces of any size, fetches what it needs of the old content
//! from a [`Source`] and hands out the new content in pieces. It holds one target window and the sections of
//! its delta, never the source and never the whole result.
//!
//! ```
//! use fwup_stream::delta::{Decoder, Step};
//!
//! let old = b"an apple a day keeps the doctor away";
//! // One window: copy 15 bytes from the start of the source, then add seven.
//! let delta = [
//!     0xd6, 0xc3, 0xc4, 0, 0, // VCDIFF, nothing special
//!     1, 36, 0, // a window with the whole source
//!     16, 22, 0, 7, 3, 1, // 16 bytes follow: 22 of target; sections of 7, 3 and 1 bytes
//!     b'i', b's', b' ', b'f', b'i', b'n', b'e', 19, 15, 8, 0,
//! ];
//!
//! let mut decoder = Decoder::new();
//! let mut new = Vec::new();
//! for mut piece in delta.chunks(4) {
//!     while let Step::Output(bytes) = decoder.next(&mut piece, &mut &old[..])? {
//!         new.extend_from_slice(bytes);
//!     }
//! }
//! decoder.finish()?;
//! assert_eq!(new, b"an apple a day is fine");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod addresses;
mod apply;
mod buffer;
mod codes;
mod decoder;
mod error;
mod header;
mod section;
mod source;
mod varint;
mod window;
mod window_header;

pub(crate) use apply::Delta;
pub use decoder::{Decoder, Step};
pub use error::{DecodeError, DeltaError, DeltaFault};
pub use header::Header;
pub use source::Source;
pub(crate) use source::Unknown;
