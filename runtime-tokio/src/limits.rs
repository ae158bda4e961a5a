//! The bounds of this crate, each with its reason; those of the engine are
//! [`nerves_hub_link_runtime::limits`]'s.

use std::time::Duration;

pub use nerves_hub_link_runtime::limits::*;

/// Events that may wait to be taken. A device at rest makes a few in a minute, a busy one some in a second: enough for a
/// program that looks away for a while, and bounded for one that never looks.
pub const EVENTS_MAX: usize = 256;

/// How often shells are looked at that the kernel can't watch. Only when it has no room to watch more.
pub const TERMINAL_PAUSE: Duration = Duration::from_millis(50);
