//! A NervesHub as a pure state machine: messages in, orders and events out, no sockets, no clock.
//!
//! | file | its job |
//! | --- | --- |
//! | `machine` | connections, joins, topics, references |
//! | `upgrade`, `auth`, `term` | who may connect; NH1 shared-secret signatures |
//! | `device`, `extensions` | what is said on those channels |
//! | `update` | deployments, offers, attempts, penalties |
//! | `event`, `config`, `frame` | orders and events, settings, envelopes |

mod auth;
mod config;
mod device;
mod event;
mod extensions;
mod frame;
mod machine;
mod term;
mod update;
mod upgrade;

pub use auth::sign;
pub use config::{HubConfig, KeyPair, Refusal, Release, UpdateFields};
pub use event::{ConnId, DeviceId, HubEvent, HubOutput};
pub use machine::Hub;
pub(crate) use term::decode as token_payload;
