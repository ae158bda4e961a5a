//! A NervesHub as a pure state machine: messages in, orders and events out, no sockets, no clock.
//!
//! | file | its job |
//! | --- | --- |
//! | `machine` | connections, joins, topics, references |
//! | `upgrade`, `auth`, `term` | who may connect; NH1 shared-secret signatures |
//! | `device`, `extensions`, `console` | what is said on those channels |
//! | `extension_rules` | which versions, how many messages and what in them (device-protocol A3 to A8) |
//! | `deltas` | deltas between firmware, and who gets them |
//! | `update`, `managed` | deployments, offers, attempts, penalties; updates that devices ask for (device-protocol A2) |
//! | `operator` | what people do: keys, shells, scripts, archives, modes, extensions on and off |
//! | `event`, `config`, `frame` | orders and events, settings, envelopes |

mod auth;
mod config;
mod console;
mod deltas;
mod device;
mod event;
mod extension_rules;
mod extensions;
mod frame;
mod machine;
mod managed;
mod operator;
mod term;
mod update;
mod upgrade;

pub use auth::sign;
pub use config::{AlreadyUpdating, Archive, HubConfig, Joins, KeyPair, Refusal, Release, UpdateFields};
pub use deltas::Delta;
pub use event::{ConnId, DeviceId, HubEvent, HubOutput};
pub use frame::Serializer;
pub use machine::Hub;
pub use managed::UpdateMode;
pub(crate) use term::decode as token_payload;
