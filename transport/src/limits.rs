//! Every bound of this crate, with its reason. What happens at each one is tested in
//! `tests/it/limits.rs`.

/// Bytes the caller may hand to `receive` before draining `poll`, in one call or several.
///
/// A caller that reads its socket in pieces of up to 64 KiB and obeys `wants_input` never
/// reaches it. Past it the connection fails: growing instead would let a fast peer fill the memory.
pub const RECEIVE_PENDING_MAX: usize = 128 * 1024;

/// Decrypted bytes held at once before decoding goes on. One TLS record carries 16 KiB.
pub const PLAINTEXT_TARGET: usize = 16 * 1024;

/// Body bytes handed out by one `ExchangeEvent::Body`.
pub const BODY_PIECE_MAX: usize = 16 * 1024;

/// Bytes of one response head (status line and headers), and of one line of chunked framing.
///
/// NervesHub sends about 300; signed-URL stores and proxies stay under 8 KiB.
pub const HEAD_MAX: usize = 16 * 1024;

/// Header lines in one response. Real answers have 6 to 30.
pub const HEADERS_MAX: usize = 96;

/// Interim (1xx) responses skipped before the final one. More is a peer playing for time.
pub const INTERIM_MAX: usize = 8;

/// Bytes of trailers skipped after a chunked body. Nothing here uses trailers.
pub const TRAILER_MAX: usize = 8 * 1024;

/// Bytes of body kept from a refused upgrade. The server's reason is one sentence.
pub const REFUSED_BODY_MAX: usize = 4 * 1024;

/// Bytes of one request head, header lines given by the caller included. Signed URLs run to 2 KiB.
pub const REQUEST_MAX: usize = 32 * 1024;

/// Bytes in one WebSocket message, either way: the server's own limit (device-protocol §1.4).
pub const MESSAGE_MAX: usize = 8_000_000;

/// Payload bytes in one WebSocket frame: a message may come as a single frame.
pub const FRAME_MAX: usize = MESSAGE_MAX;

/// Bytes queued for the TCP stream before `send_text` and `send_binary` refuse.
///
/// One largest message fits, with 5 % for TLS records and frame headers.
pub const TRANSMIT_MAX: usize = 8_400_000;

/// Queued bytes above which answers to pings wait; only the newest is kept, as RFC 6455 §5.5.3 allows.
pub const PONG_BACKLOG_MAX: usize = 16 * 1024;

/// Bytes of the reason in a close frame (RFC 6455 §5.5: 125 less the code).
pub const CLOSE_REASON_MAX: usize = 123;

/// Payload bytes of a control frame (RFC 6455 §5.5).
pub const CONTROL_MAX: usize = 125;
