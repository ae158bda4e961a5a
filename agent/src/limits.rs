//! The bounds of the program, each with its reason.

use std::time::Duration;

/// Lines of output that wait for a reader. Older ones are dropped and counted: what happened last is what a person needs.
pub const LINES_MAX: usize = 1024;

/// Bytes of output that wait for a reader, whatever the number of lines.
pub const LINES_BYTES_MAX: usize = 256 * 1024;

/// Longest text of a line of output, in bytes. Texts of ours are shorter. Of a server's, the middle is left out.
pub const LINE_TEXT_MAX: usize = 4 * 1024;

/// Lines of one kind in [`LOG_WINDOW`]. A connection that fails as often as it may, every second or so at first, prints
/// fewer. More are counted, and not printed.
pub const KIND_LINES_MAX: u32 = 30;

/// Lines of progress in [`LOG_WINDOW`]: the machine sends two a second.
pub const PROGRESS_LINES_MAX: u32 = 150;

/// Bytes of one kind in [`LOG_WINDOW`], whatever the number of lines. Whoever floods all of some forty kinds that a server
/// can cause gets 14 KiB a second of log out of this program; one kind gives 0.3 KiB a second.
pub const KIND_BYTES_MAX: usize = 16 * 1024;

/// How long lines of one kind are counted together, and the longest time until those that were not printed are reported.
pub const LOG_WINDOW: Duration = Duration::from_secs(60);

/// Kinds of lines that are counted. The program has some eighty; further ones are counted together.
pub const KINDS_MAX: usize = 128;

/// Longest beginning of a notice by which it is told from others, in bytes.
pub const SHAPE_BYTES_MAX: usize = 128;

/// How long the end of the program waits for the readers of its output.
pub const FLUSH_MAX: Duration = Duration::from_secs(2);

/// How long a device that was told to stop may take, an update's current write included. Supervisors wait for longer:
/// systemd for 90 s.
pub const STOP_MAX: Duration = Duration::from_secs(10);

/// How long each look at local files may take before the device connects without what they hold. An SD card that repairs
/// itself takes seconds; a hung network mount takes for ever.
pub const LOCAL_MAX: Duration = Duration::from_secs(10);

/// Time before the second attempt to mark the firmware good. Most locks are held for less.
pub const MARK_PAUSE: Duration = Duration::from_secs(1);

/// Most time between two attempts to mark the firmware good; each one takes twice as long as the one before. Short, because
/// a restart in between brings the old firmware back.
pub const MARK_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Longest file with a secret, in bytes. The server's secrets have fewer than 100 letters.
pub const SECRET_FILE_MAX: u64 = 4096;

/// Most bytes of secrets taken out of the environment. Three addresses with passwords and a secret fit a hundred times.
pub const SECRETS_MAX: u64 = 64 * 1024;

/// How long the reboot command may take. One that works ends the system meanwhile.
pub const REBOOT_COMMAND_MAX: Duration = Duration::from_secs(300);

/// How long after a reboot command that failed, or after which the system still runs, it is run again. Long enough for an
/// operator to work on the console meanwhile.
pub const REBOOT_AGAIN: Duration = Duration::from_secs(3600);

/// Bytes kept of what the reboot command writes; later ones are refused.
pub const REBOOT_OUTPUT_MAX: u64 = 16 * 1024;
