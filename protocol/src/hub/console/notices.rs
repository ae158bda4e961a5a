//! What the device says to operators between a shell's words (device-protocol §4). Lines end as terminals want it.

use alloc::format;
use alloc::string::String;

use crate::limits::{MAX_NAME_CHARS, MAX_TEXT_CHARS};
use crate::shell::ShellEnd;
use crate::text::cut;

/// An operator asked for a new shell.
pub(super) const RESTART: &str = "\r*** Restarting shell ***\r";

/// The shell was stopped, as nobody used it.
pub(super) const INACTIVE: &str = "\r\n****************************************\r\n\
    *   Session timeout due to inactivity  *\r\n\
    *                                      *\r\n\
    *   Press any key to continue...       *\r\n\
    ****************************************\r\n";

/// No shell is started by itself.
pub(super) const ANY_KEY: &str = "\r\n*** Press any key to start another one ***\r\n";

/// The shell ended by itself.
pub(super) fn stopped(end: &ShellEnd) -> String {
    let reason = cut(&format!("{end}"), MAX_TEXT_CHARS);
    format!("\r******* Remote shell stopped: {reason} *******\r")
}

/// A file was refused or lost. Its name may be anything an operator sent.
pub(super) fn not_received(name: &str, reason: &str) -> String {
    format!("{:?} was not received: {reason}", cut(name, MAX_NAME_CHARS))
}

/// Something to say in a line of its own.
pub(super) fn line(words: &str) -> String {
    format!("\r\n*** {words} ***\r\n")
}
