//! Shells for operators, in the words of both sides of the machine.

use alloc::string::String;

use crate::chunk::Chunk;
use crate::command::Command;
use crate::ids::ShellId;
use crate::secret::Secret;

/// News about a shell, in [`Event::Shell`](crate::Event::Shell).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ShellEvent {
    /// A shell is wanted: start one in a terminal, and say [`ShellCommand::Started`], or
    /// [`ShellCommand::Ended`] if that fails. What it writes goes to
    /// [`ShellCommand::Output`].
    Wanted {
        /// The number of this shell.
        shell: ShellId,
        /// Who wants it.
        kind: ShellKind,
        /// The size of the terminal's window.
        size: WindowSize,
        /// Bytes of output the machine takes for now; [`ShellEvent::Ready`] adds to them.
        room: usize,
    },
    /// An operator typed something. Hidden from `Debug`, as it may be a password.
    Input {
        /// Which shell it is for.
        shell: ShellId,
        /// What was typed: characters and control characters.
        data: Secret,
    },
    /// The window of a shell's terminal has another size.
    Resized {
        /// Which shell.
        shell: ShellId,
        /// The size now.
        size: WindowSize,
    },
    /// The machine takes more output of a shell. Until then, let the shell wait: the network is slower than it.
    Ready {
        /// Which shell.
        shell: ShellId,
        /// How many bytes, in addition to what is left of those before.
        bytes: usize,
    },
    /// A shell is to be stopped. Its number is no longer in use.
    Stopped {
        /// Which.
        shell: ShellId,
        /// Why.
        why: ShellStop,
    },
}

/// An order about a shell, in [`Command::Shell`](crate::Command::Shell).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ShellCommand {
    /// Say that the shell of [`ShellEvent::Wanted`] runs.
    Started {
        /// Which shell.
        shell: ShellId,
    },
    /// Hand in what a shell wrote, cut anywhere. Refused if it is more than the machine said it takes.
    Output {
        /// Which shell.
        shell: ShellId,
        /// What it wrote: text in UTF-8; what is none is replaced.
        data: Chunk,
    },
    /// Say that a shell ended, or could not be started.
    Ended {
        /// Which shell.
        shell: ShellId,
        /// How.
        end: ShellEnd,
    },
}

impl From<ShellCommand> for Command {
    fn from(command: ShellCommand) -> Self {
        Self::Shell(command)
    }
}

impl ShellCommand {
    /// Returns the shell it is about.
    pub(crate) const fn shell(&self) -> ShellId {
        match self {
            Self::Started { shell } | Self::Output { shell, .. } | Self::Ended { shell, .. } => *shell,
        }
    }
}

/// Who works with a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShellKind {
    /// The console: one session for all operators who watch.
    Console,
    /// The `local_shell` extension.
    Local,
}

impl core::fmt::Display for ShellKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Console => "console",
            Self::Local => "local shell",
        })
    }
}

impl core::fmt::Display for ShellStop {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Restart => f.write_str("an operator asked for a new one"),
            Self::Inactive => f.write_str("nobody used it"),
            Self::Killed { signal } => write!(f, "an operator ended it with signal {signal}"),
            Self::Detached => f.write_str("the server switched it off or is gone"),
        }
    }
}

/// The size of a terminal's window, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines, 1 or more.
    pub rows: u16,
    /// Characters in a line, 1 or more.
    pub cols: u16,
}

/// Why a shell is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShellStop {
    /// An operator wants a new one, which is asked for next.
    Restart,
    /// Nobody used it for [`ConsoleConfig::timeout`](crate::ConsoleConfig::timeout).
    Inactive,
    /// An operator wants it killed.
    Killed {
        /// The signal's number to send to it before its terminal is closed, 1 to 64.
        signal: u8,
    },
    /// The server no longer wants the extension it belongs to, or is gone.
    Detached,
}

/// How a shell ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShellEnd {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal of this number.
    Signalled(i32),
    /// It could not be started, or its terminal broke; the words are for a person.
    Failed(String),
}

impl Default for WindowSize {
    /// A terminal's usual 24 lines of 80 characters.
    fn default() -> Self {
        Self { rows: 24, cols: 80 }
    }
}

impl ShellEnd {
    /// Returns the exit code as shells tell it: 128 and the number for a signal, 127 if it could not run.
    pub(crate) const fn code(&self) -> i32 {
        match self {
            Self::Exited(code) => *code,
            Self::Signalled(signal) => signal.saturating_add(128),
            Self::Failed(_) => 127,
        }
    }
}

impl core::fmt::Display for ShellEnd {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Signalled(signal) => write!(f, "killed by signal {signal}"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}
