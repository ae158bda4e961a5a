//! The NervesHub device as a pure state machine: no I/O, no clock, no threads, no_std.
//!
//! [`Link`] is told what happened and answers with what to do. Whoever owns the loop owns the sockets,
//! the clock and the disk; everything a NervesHub device must know is in here.
//!
//! # The contract
//!
//! * Facts go in by [`Link::handle`], wishes by [`Link::command`], passing firmware by [`Link::body`]
//!   and [`Link::stored`].
//! * After any call in, call [`Link::poll`] until `None`, then wait until [`Link::deadline`] at the longest.
//!   A missed drain only delays; past [`limits::MAX_OUTPUTS`] the machine hangs up instead of growing.
//! * Time is handed in and never goes back. Late facts, with numbers no longer in use, are dropped.
//! * Same seed and same calls give the same outputs.
//! * Firmware is never held: the machine says which part of a chunk to keep, and where it belongs.
//!   What it says to keep must reach the applier.
//! * Nothing a peer sends makes it panic or grow; the bounds are in [`limits`].
//!
//! # The loop
//!
//! A whole device, with a server of a few lines in place of the network. A real adapter does the same with
//! sockets, and sleeps until the deadline when nothing happens.
//!
//! ```
//! use nerves_hub_link_protocol::{
//!     Auth, Client, Config, FirmwareMeta, Input, Instant, Link, Now, Output, SharedSecret, UnixTime,
//!     Command, client::deliver,
//! };
//!
//! struct App;
//! impl Client for App {}
//!
//! let firmware = FirmwareMeta { uuid: "old".into(), ..FirmwareMeta::default() };
//! let secret = SharedSecret::new("nhp_key", "secret", "serial-1");
//! let mut config = Config::new("hub.example", Auth::SharedSecret(secret), firmware);
//! config.public_keys = vec!["u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds=".into()];
//!
//! let mut now = Now { mono: Instant::from_micros(0), wall: Some(UnixTime(1_800_000_000)) };
//! let mut link = Link::new(config, 42, now)?;
//! link.command(now, Command::Connect)?;
//!
//! let (mut disk, mut rebooted) = (Vec::new(), false);
//! while !rebooted {
//!     // First all that is to be done …
//!     while let Some(output) = link.poll() {
//!         match output {
//!             // Is the network there? A real adapter opens and closes a TCP connection.
//!             Output::Probe(probe) => link.handle(now, Input::Reachable { probe: probe.probe }),
//!             // Open a WebSocket; here it is open at once.
//!             Output::Dial(dial) => {
//!                 link.handle(now, Input::SocketUp { socket: dial.socket, interface: None });
//!             }
//!             // Send it and say so; the server may answer.
//!             Output::Send { socket, text } => {
//!                 link.handle(now, Input::SocketSent { socket, frames: 1 });
//!                 if text.contains("phx_join") {
//!                     let reply = r#"["1","1","device","phx_reply",{"status":"ok","response":{}}]"#;
//!                     link.handle(now, Input::SocketText { socket, text: reply });
//!                     let update = r#"[null,null,"device","update",{"firmware_url":"https://files.example/1.fw",
//!                         "firmware_meta":{"uuid":"new"},"size":5}]"#;
//!                     link.handle(now, Input::SocketText { socket, text: update });
//!                 }
//!             }
//!             // Request it, and hand each chunk over as the machine says.
//!             Output::Fetch(fetch) => {
//!                 let head = Input::FetchHead { fetch: fetch.fetch, status: 200, headers: &[], interface: None };
//!                 link.handle(now, head);
//!                 for chunk in [b"he".as_slice(), b"llo"] {
//!                     let keep = link.body(now, fetch.fetch, chunk);
//!                     disk.extend_from_slice(&chunk[keep.range.clone()]);
//!                     link.stored(now, fetch.fetch, keep.range.len());
//!                 }
//!                 link.handle(now, Input::FetchEnd { fetch: fetch.fetch });
//!             }
//!             // The applier checks signatures and writes; here it is a vector.
//!             Output::StartApply(start) => assert!(!start.public_keys.is_empty()),
//!             // A real one waits for this, with what it read of the signed metadata, before it writes.
//!             Output::ContinueApply { .. } => {}
//!             Output::FinishApply { offer } => link.handle(now, Input::ApplyDone { offer }),
//!             // The application decides about offers and hears the news.
//!             Output::Event(event) => {
//!                 if let Some(answer) = deliver(&mut App, link.running(), &event) {
//!                     link.command(now, answer)?;
//!                 }
//!             }
//!             Output::Reboot { .. } => rebooted = true,
//!             // Survives a restart in a real device.
//!             Output::SaveAttempts { attempts } => assert_eq!(attempts[0].starts, 1),
//!             Output::SaveHistory { history } => assert!(history.writes.len() == 1 || history.reboots.len() == 1),
//!             // Only with `Config::refuse_older`.
//!             Output::SaveNewest { .. } => {}
//!             Output::HangUp { .. } | Output::Abort { .. } | Output::CancelApply { .. } => {}
//!             // Only with `Serializer::MsgPack`.
//!             Output::SendBinary { .. } => {}
//!             // Only with strategies that keep firmware before it is applied.
//!             Output::OpenStore(_) | Output::ReadStore(_) | Output::VerifyArchive(_) => {}
//!             Output::CommitPart { .. } | Output::DropPart { .. } | Output::CloseStore { .. } => {}
//!         }
//!     }
//!     // … then sleep until the deadline, or until something happens. Here nothing does, and time is cheap.
//!     let Some(deadline) = link.deadline() else { break };
//!     now.mono = deadline.at;
//!     link.handle(now, Input::Tick);
//! }
//! assert_eq!(disk, b"hello");
//! assert!(rebooted);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Inside
//!
//! `phoenix` speaks channels and knows no NervesHub; `hub` is the device; `download` fetches a file
//! whatever happens; `http` reads the little HTTP that decisions need.
#![no_std]
extern crate alloc;

mod address;
mod alarm;
mod archive;
mod attempts;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod bounds;
mod chunk;
pub mod client;
mod command;
mod config;
mod download;
mod error;
mod event;
mod extension;
mod fault;
mod file;
mod http;
mod hub;
mod ids;
mod input;
pub mod limits;
mod link;
mod mismatch;
mod number;
mod output;
mod outputs;
mod phoenix;
mod refusal;
mod rng;
mod schedule;
mod secret;
mod shell;
mod status;
mod text;
mod time;
mod timer;
mod update_mode;
mod update_strategy;
mod update_tool;

pub use address::{AddressKind, AddressRules};
pub use alarm::{Alarm, RaisedAlarm};
pub use archive::{ArchiveCommand, ArchiveDecision, ArchiveEvent, ArchiveInfo};
pub use attempts::{Attempt, AttemptPolicy};
pub use bounds::{Bounds, History};
pub use chunk::Chunk;
pub use client::Client;
pub use command::{Command, CommandError, Decision, UpdateReport};
pub use config::{
    Auth, Backoff, Config, ConsoleConfig, DelayUnit, DownloadConfig, KeyDigest, Serializer, SharedSecret,
};
pub use download::Keep;
pub use error::ConfigError;
pub use event::{Event, FirmwareMeta, Stage, UpdateInfo};
pub use extension::{
    Connectivity, ErrorFrame, ErrorReport, ErrorReportsConfig, ErrorSource, ExtensionCommand, ExtensionEvent,
    ExtensionStatus, ExtensionsConfig, HealthCheck, HealthConfig, HealthReport, InterfaceKind, Location,
    LocationError, LogLevel, LogLine, LoggingConfig, MetricSample, NetworkIdentity, NetworkIdentityConfig,
    Reach, ThirdPartyExtension,
};
pub use file::{FileCommand, FileEvent, UploadCommand, UploadEvent};
pub use http::url::UrlError;
pub use hub::names::UNTOLD as UNTOLD_FAILURE;
pub use ids::{ArchiveId, FetchId, FileId, OfferId, ProbeId, ScriptId, ShellId, SocketId, StoreId, UploadId};
pub use input::{HeaderRef, Input};
pub use link::Link;
pub use mismatch::{AllowMismatch, MetaField, Mismatch};
/// Foreign text made fit for a log or a terminal. Texts of events are as the peer sent them: escape them where they are shown.
pub use nerves_hub_link_printable as printable;
pub use output::{
    Dial, Fetch, OpenStore, Output, Probe, ReadStore, Sink, StartApply, StoreKind, VerifyArchive,
};
pub use refusal::Refusal;
pub use schedule::{Maintenance, RateLimit, RateWindow, Weekday, Window};
pub use secret::Secret;
pub use shell::{ShellCommand, ShellEnd, ShellEvent, ShellKind, ShellStop, WindowSize};
pub use status::{ConnectionState, Counters, Status, UpdateState};
pub use time::{Instant, Now, UnixMicros, UnixTime};
pub use timer::{Deadline, Timer};
pub use update_mode::{RejectReason, Request, RequestFailure, UpdateMode};
pub use update_strategy::{PartsConfig, UpdateStrategy};
pub use update_tool::{JoinValue, ProgressEvent, UpdateTool};
