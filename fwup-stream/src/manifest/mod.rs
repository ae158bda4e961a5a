//! The manifest (`meta.conf`): its language, and what it says.

mod build;
mod call_check;
mod calls;
mod configuration;
mod creation_check;
mod error;
mod evaluate;
mod lexer;
mod metadata;
pub mod model;
pub(crate) mod number;
mod parser;
mod print;
mod schema;
mod section;
mod unknown;
mod variables;
mod version;

pub(crate) use call_check::needs;
pub use calls::{Call, CallListError, ListKind};
pub use configuration::{Configuration, ConfigurationError, ResourceSource};
pub use error::ManifestError;
pub use metadata::Metadata;
pub use model::*;
pub use number::prefix as leading_number;
pub use version::FWUP_VERSION;
