//! The place of the tokio adapter. Nothing is here yet.
//!
//! Until it is, run `nerves-hub-link-blocking` on a thread of its own: its `Handle` is cheap to clone and
//! its calls return at once, so they can be made from async code. Or drive
//! `nerves_hub_link_protocol::Link` from your own loop; that is all an adapter does.
