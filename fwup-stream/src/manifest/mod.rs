//! The manifest (`meta.conf`): its language, and what it says.

pub mod model;
