//! The NervesHub device as a pure state machine: no I/O, no clock, no threads, no_std.
#![no_std]
extern crate alloc;

pub mod client;
mod command;
mod config;
mod download;
mod error;
mod event;
mod http;
mod hub;
mod ids;
mod input;
pub mod limits;
mod link;
mod output;
mod outputs;
mod phoenix;
mod rng;
mod secret;
mod status;
mod text;
mod time;
mod timer;

pub use client::Client;
pub use command::{Command, CommandError, Decision};
pub use config::{Auth, Backoff, Config, DelayUnit, DownloadConfig, KeyDigest, SharedSecret};
pub use download::Keep;
pub use error::ConfigError;
pub use event::{Event, FirmwareMeta, Stage, UpdateInfo};
pub use http::url::UrlError;
pub use ids::{FetchId, OfferId, SocketId};
pub use input::{HeaderRef, Input};
pub use link::Link;
pub use output::{Dial, Fetch, Output, StartApply};
pub use secret::Secret;
pub use status::{ConnectionState, Counters, Status, UpdateState};
pub use time::{Instant, Now, UnixTime};
pub use timer::{Deadline, Timer};
