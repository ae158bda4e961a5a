//! What the functions of a task do: one file for each family, one table for all.

mod context;
mod data;
mod error;
pub mod fat;
mod fat_calls;
mod feed;
mod gpt;
mod host;
mod mbr;
mod memset;
mod message;
mod overlap;
mod raw;
mod table;
mod trim;
mod ubi;
pub(crate) mod uboot;

pub use error::ActionError;
pub use gpt::GptError;
pub use mbr::MbrError;
pub use overlap::Overlap;
pub use uboot::UbootError;

pub(crate) use context::{Context, Settings, blocks, bytes};
pub(crate) use data::DataRun;
pub(crate) use gpt::check as check_gpt;
pub(crate) use host::shell;
pub(crate) use mbr::check as check_mbr;
pub(crate) use raw::cipher;
pub(crate) use table::{Action, PlanContext, Run, find};
