//! The NervesHub device as a pure state machine: no I/O, no clock, no threads, no_std.
#![no_std]
extern crate alloc;

pub mod client;
mod command;
mod config;
mod event;
mod ids;
mod input;
mod output;
mod secret;
mod time;

pub use client::Client;
pub use command::{Command, CommandError, Decision};
pub use config::{Auth, Backoff, Config, DelayUnit, DownloadConfig, KeyDigest, SharedSecret};
pub use event::{Event, FirmwareMeta, Stage, UpdateInfo};
pub use ids::{FetchId, OfferId, SocketId};
pub use input::{HeaderRef, Input};
pub use output::{Dial, Fetch, Output, StartApply};
pub use secret::Secret;
pub use time::{Instant, Now, UnixTime};
