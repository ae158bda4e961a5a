//! TLS, WebSocket and HTTP as byte machines: no sockets, no clock.
