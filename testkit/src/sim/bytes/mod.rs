//! Real bytes between a device's machines of the transport and servers that are pure, too.
//!
//! A device's WebSocket and each of its downloads are a [`Line`]: the machine that the adapters use, a TCP connection
//! that delivers bytes in packets of any size, late, in part or not at all, and the server's end. What becomes of that
//! in the world is in `world/wire*`.
//!
//! | file | its job |
//! | --- | --- |
//! | `flow` | one direction of a TCP connection |
//! | `line` | a connection with both its ends |
//! | `near` | the device's end: the machines, and adapters with mistakes |
//! | `far` | the server's end of a WebSocket |
//! | `answer` | answers in HTTP |
//! | `hostile` | bytes no server should send |
//! | `witness` | what was sent, for comparing it with what arrives |

mod answer;
mod far;
mod flow;
mod hostile;
mod line;
mod near;
mod witness;

pub(super) use answer::{Framing, Reply};
pub(super) use far::{Far, Heard};
pub(super) use flow::End;
pub(super) use hostile::{broken_answer, broken_chunk, broken_frames, broken_upgrade};
pub(super) use line::{Line, LineId, Lines, Served, Way};
pub(super) use near::{Near, broke, plain};
