//! The hub behind real sockets on loopback: TLS WebSocket for devices, HTTPS with ranges for firmware,
//! one port, blocking threads.
//!
//! | file | its job |
//! | --- | --- |
//! | `hub_server` | start, deploy, watch, restart |
//! | `listener` | accepting, one thread per connection |
//! | `socket` | the WebSocket of a device |
//! | `http`, `download` | requests and answers; firmware with ranges |
//! | `tls` | a CA for one run |
//! | `proxy` | an HTTP proxy before it |
//! | `mischief` | what goes wrong on purpose |
//! | `firmware`, `options`, `shared` | what is served; settings; what threads share |

mod download;
mod firmware;
pub(crate) mod http;
mod hub_server;
mod listener;
mod mischief;
mod options;
mod proxy;
mod shared;
pub(crate) mod socket;
mod tls;

pub use firmware::Firmware;
pub use hub_server::{Events, HubServer};
pub use mischief::{Garbage, Mischief, Times};
pub use options::HubOptions;
pub use proxy::ProxyServer;
