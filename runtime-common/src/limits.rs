//! The bounds of this crate, each with its reason.

use std::time::Duration;

use nerves_hub_link_protocol::limits::MAX_CONCURRENT_PARTS;

/// Firmware bytes between network and applier, the piece being written included. A few pieces keep
/// the applier busy while the network waits its turn; more would only cost memory.
pub const HANDOVER_MAX: usize = 256 * 1024;

/// Bytes read from a connection in one turn, so that no connection starves the others.
pub const READ_MAX: usize = 32 * 1024;

/// Commands of the application that may wait for the loop. The loop takes them at once, so only a
/// program that sends in a tight loop meets this.
pub const COMMANDS_MAX: usize = 64;

/// Attempts to connect at a time, look-ups of names included: the socket's and those of all requests for an update. More
/// pile up only when a look-up hangs past its time-out, which nothing can interrupt.
pub const CONNECTORS_MAX: usize = 2 * MAX_CONCURRENT_PARTS as usize;

/// Addresses of one host that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// Shortest time given to one address.
pub const ADDRESS_TIMEOUT_MIN: Duration = Duration::from_millis(250);

/// Downloads at a time. The machine makes [`MAX_CONCURRENT_PARTS`] requests for an update; their predecessors may
/// still be closing.
pub const FETCHES_MAX: usize = 2 * MAX_CONCURRENT_PARTS as usize;

/// How long a connection that the device closed is kept for the server to close it too, so that the server reads what was
/// sent last. Servers do so at once; the end of the program waits no longer than this for one that is gone.
pub const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// Connections that may be closing at a time. A device has one socket, and dials the next after a pause: more than two
/// means a server that accepts and closes at once.
pub const CLOSING_MAX: usize = 4;

/// Bytes read from a kept download at a time.
pub const STORE_PIECE_MAX: usize = 64 * 1024;

/// Bytes of a kept download that are read before they are wanted, one piece more at most. As many as are on their way
/// to the applier.
pub const READ_AHEAD_MAX: usize = HANDOVER_MAX;

/// Remarks of an installer that may wait to be told; later ones are counted and dropped.
pub const REMARKS_MAX: usize = 32;

/// Longest remark told, in characters.
pub const REMARK_CHARS_MAX: usize = 500;

/// Tasks that may wait for the thread that does what may block. The loop gives a few kinds of them, one of each at a time.
pub const TASKS_MAX: usize = 8;

/// How long the thread that does what may block waits for more before it ends: long enough for a file that is sent in
/// pieces, short enough that a thousand idle devices have no thousand threads.
pub const TASKS_LINGER: Duration = Duration::from_secs(2);

/// Bytes read from a shell in one turn: what a terminal holds, and a quarter of what the machine takes.
pub const SHELL_READ_MAX: usize = 8 * 1024;

/// Bytes typed into a shell that its terminal may not have taken. The longest script an operator's page sends is shorter.
pub const TYPED_MAX: usize = 256 * 1024;

/// How long the loop waits for the store of attempts: shorter than the pause between heartbeats. Writing a few lines takes
/// milliseconds where a disk works.
pub const REMEMBER_MAX: Duration = Duration::from_secs(10);

/// Shortest time that the store of attempts gets to be read when a device is set up, whatever limit was given: a thread takes
/// milliseconds to begin where the processor is busy.
pub const RECALL_MIN: Duration = Duration::from_millis(500);

/// How long a device that ends waits for its threads. A write to a slow card takes seconds; one that hangs must not keep the
/// system from its restart.
pub const THREADS_END_MAX: Duration = Duration::from_secs(60);

/// How often a device that can't install updates looks whether it can again, unless told otherwise.
pub const INSTALL_CHECK_EVERY: Duration = Duration::from_secs(60);

/// How many times rarer a device looks that can install updates.
pub const INSTALL_CHECK_SPARSE: u32 = 10;

/// How long such a look may take before the disk is said to hang.
pub const INSTALL_CHECK_MAX: Duration = Duration::from_secs(10);
