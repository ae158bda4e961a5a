//! What the functions of a task do.

pub mod fat;
