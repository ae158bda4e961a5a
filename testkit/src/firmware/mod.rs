//! Real `.fw` archives: built, signed, described and spoilt.
//!
//! | file | its job |
//! | --- | --- |
//! | `builder` | describes a firmware and builds it, in memory or streaming into a file |
//! | `ab`, `meta_conf` | the tasks of an A/B device; the printed form of a manifest |
//! | `content` | bytes at hand or made from a seed while reading |
//! | `keys` | signing keys |
//! | `archive`, `tamper` | reads by the directory; signs anew; spoils |
//! | `delta` | makes deltas, as a server does |
//! | `zip` | writes the container |

mod ab;
mod archive;
mod builder;
mod content;
mod delta;
mod keys;
mod meta_conf;
mod tamper;
pub(crate) mod zip;

pub use archive::{ArchiveError, describe};
pub use builder::{BuildError, DEFAULT_TIME, Data, FirmwareArchive, FirmwareBuilder, uuid};
pub use content::Content;
pub use delta::delta;
pub use keys::SigningKey;
pub use meta_conf::{Call, Task, call};
pub use tamper::{Tamper, sign_archive, tamper};
