//! TLS, WebSocket and HTTP as byte machines: no sockets, no clock, no threads.
//!
//! A connection is a value. Bytes that came from a TCP stream go in, bytes for the stream come out, and
//! events say what it means. The caller owns the stream, the waiting and the time; the same machines run
//! under threads, an async runtime, a simulation or a test.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `url` | [`Address`]: where a URL points |
//! | `tls`, `roots`, `tls_error`, `tls_words` | [`Tls`] settings, trust [`Roots`], and [`TlsError`] in words that say what to do |
//! | `socket` | [`Socket`]: a WebSocket connection, from the upgrade to the close |
//! | `exchange` | [`Exchange`]: one HTTP/1.1 GET, its body streamed with back-pressure |
//! | [`limits`] | every bound, with its reason |
//! | `error` | [`TransportError`] |
//!
//! Inside, both machines stand on one `pipe` (TLS or none), write their `request` and read the
//! `response` with ureq-proto, its `head` leniently; `upgrade` is the WebSocket's opening handshake, `frames` all after it.
//!
//! The face of both machines is the same: send what `transmit` holds and say so with `transmitted`, hand
//! what was read to `receive`, then `poll` until `None`, and look at `transmit` again. Memory is bounded
//! by [`limits`] on every path a peer can feed.
//!
//! ```
//! use nerves_hub_link_transport::{Exchange, ExchangeEvent, ExchangeRequest};
//!
//! let headers = [("range".to_owned(), "bytes=2-".to_owned())];
//! let mut exchange = Exchange::new(&ExchangeRequest {
//!     url: "http://files.example/firmware.fw?signature=secret",
//!     headers: &headers,
//!     tls: None,
//! })?;
//! assert_eq!((exchange.address().host.as_str(), exchange.address().port), ("files.example", 80));
//!
//! // What would go to the TCP stream …
//! let sent = exchange.transmit().len();
//! assert!(exchange.transmit().starts_with(b"GET /firmware.fw?signature=secret HTTP/1.1\r\n"));
//! exchange.transmitted(sent);
//!
//! // … and what came back, read in two pieces.
//! let mut body = Vec::new();
//! for piece in ["HTTP/1.1 206 Partial Content\r\nContent-Le", "ngth: 5\r\n\r\nhello"] {
//!     exchange.receive(piece.as_bytes());
//!     while let Some(event) = exchange.poll() {
//!         match event {
//!             ExchangeEvent::Head { status, .. } => assert_eq!(status, 206),
//!             ExchangeEvent::Body(bytes) => body.extend_from_slice(bytes),
//!             ExchangeEvent::End => assert!(body == b"hello"),
//!             ExchangeEvent::Failed(error) => return Err(error),
//!         }
//!     }
//! }
//! assert!(!exchange.wants_input());
//! # Ok::<(), nerves_hub_link_transport::TransportError>(())
//! ```

pub mod limits;

mod client_identity;
mod error;
mod exchange;
mod frames;
mod head;
mod pem;
mod pipe;
mod proxy_rules;
mod request;
mod response;
mod roots;
mod socket;
mod tls;
mod tls_error;
mod tls_words;
mod tunnel;
mod upgrade;
mod url;

pub use client_identity::ClientIdentity;
pub use error::{Stage, TransportError};
pub use exchange::{Exchange, ExchangeEvent, ExchangeRequest};
pub use nerves_hub_link_url::UrlError;
pub use proxy_rules::ProxyRules;
pub use roots::Roots;
/// [`ClientIdentity::Signer`] takes a resolver of this version of rustls.
pub use rustls;
pub use socket::{Socket, SocketEvent, SocketRequest};
pub use tls::{Clock, Tls, TlsOptions};
pub use tls_error::TlsError;
pub use tunnel::{Proxy, Tunnel};
pub use url::{Address, AddressError};
