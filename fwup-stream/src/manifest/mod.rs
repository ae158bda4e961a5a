//! The manifest (`meta.conf`): its language, and what it says.

mod calls;
mod metadata;
pub mod model;
mod number;
mod parser;

pub use calls::{Call, CallListError, ListKind};
pub use metadata::Metadata;
pub use model::*;
pub use parser::ManifestError;
