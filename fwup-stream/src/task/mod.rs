//! Tasks: which one is for this device, and what it will do.

mod plan;
mod require;
mod select;

pub(crate) use plan::{check, total_units};
pub(crate) use select::select;
