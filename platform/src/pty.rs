//! Shells with a terminal of their own, for operators who work on the device.
//!
//! Nothing here blocks: a loop waits for [`Shell::terminal`] and [`Shell::process`] with `poll(2)`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use pty_process::Size;
use pty_process::blocking::{Command, Pty, open};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::termios::{InputModes, OptionalActions, tcgetattr, tcsetattr};

use crate::child_env;
use crate::limits::{ENDING_SHELLS_MAX, HANG_UP_PAUSE, HANG_UP_TRIES, SHELL_GRACE};

/// The program to run as a shell, and what it gets.
#[derive(Clone, Debug)]
pub struct ShellCommand {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    passed: Vec<OsString>,
    folder: Option<PathBuf>,
}

/// A running shell.
///
/// Dropping it closes the terminal, which ends the shell and what runs in it; what doesn't end within
/// [`SHELL_GRACE`] is killed.
pub struct Shell {
    terminal: Pty,
    process: Option<Child>,
    watch: Option<OwnedFd>,
    hung_up: bool,
    ended: Option<Ended>,
}

/// What reading from a terminal gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Nothing any more: no process has the terminal open.
    HungUp,
}

/// How a shell ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code; -1 if it is not known, because another part of the program waited for the process.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

/// The end of a process whose status somebody else took.
const UNKNOWN_END: Ended = Ended::Exited(-1);

/// Why a shell could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShellError {
    /// The kernel gave no terminal.
    #[error("cannot get a pseudo-terminal: {0}; is /dev/pts mounted?")]
    Terminal(String),
    /// The program did not start.
    #[error("cannot start {}: {reason}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        reason: String,
    },
}

impl ShellCommand {
    /// Runs a program in the folder `/`, with what [`child_env::environment`] takes of this process's environment, and `TERM`
    /// (unless it is set, `xterm`).
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            passed: Vec::new(),
            folder: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn set(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), Some(value.into())));
        self
    }

    /// Passes on a variable of this process's environment that children don't get by themselves.
    #[must_use]
    pub fn pass(mut self, name: impl Into<OsString>) -> Self {
        self.passed.push(name.into());
        self
    }

    /// Takes a variable out of the environment.
    #[must_use]
    pub fn unset(mut self, name: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), None));
        self
    }

    /// Starts in a folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Starts the shell in a terminal of that many lines and characters in a line.
    ///
    /// Signals of terminals that this process ignores are caught from then on, with no effect on it, so that Ctrl-C works
    /// in the shell.
    ///
    /// # Errors
    ///
    /// What could not be had, and why.
    pub fn start(&self, rows: u16, cols: u16) -> Result<Shell, ShellError> {
        let terminal_error = |error: &dyn std::fmt::Display| ShellError::Terminal(error.to_string());
        let (terminal, inside) = open().map_err(|error| terminal_error(&error))?;
        prepare(&terminal, rows, cols).map_err(|error| terminal_error(&error))?;
        let mut command = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .current_dir(self.folder.as_deref().unwrap_or(Path::new("/")));
        let mut environment = child_env::environment(&self.passed);
        let term = environment.entry("TERM".into()).or_default();
        if term.is_empty() || term == OsStr::new("dumb") {
            *term = "xterm".into();
        }
        command = command.envs(environment);
        for (name, value) in &self.environment {
            command = match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        crate::signals::catch_ignored();
        let process = command.spawn(inside).map_err(|error| ShellError::Start {
            program: self.program.clone(),
            reason: error.to_string(),
        })?;
        // Kernels before 5.3 have no such thing; the end is then noticed by the terminal alone.
        let watch = pid(&process).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Ok(Shell { terminal, process: Some(process), watch, hung_up: false, ended: None })
    }
}

impl Shell {
    /// Returns the terminal, to wait until it can be read or written.
    pub fn terminal(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }

    /// Returns what can be read once the shell ended, if the kernel has such a thing.
    pub fn process(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Reads what the shell wrote.
    pub fn read(&mut self, buffer: &mut [u8]) -> Read {
        loop {
            return match rustix::io::read(&self.terminal, &mut *buffer) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Read::Nothing,
                // EIO: the last process closed it.
                Ok(0) | Err(_) => {
                    self.hung_up = true;
                    Read::HungUp
                }
                Ok(bytes) => Read::Bytes(bytes),
            };
        }
    }

    /// Types. Returns how much the terminal took; it takes the rest later, when it can be written.
    pub fn write(&mut self, typed: &[u8]) -> usize {
        loop {
            return match rustix::io::write(&self.terminal, typed) {
                Err(Errno::INTR) => continue,
                // Full, or hung up, which reading tells.
                Err(_) => 0,
                Ok(bytes) => bytes,
            };
        }
    }

    /// Gives the terminal another size, which programs are told.
    pub fn resize(&self, rows: u16, cols: u16) {
        // Fails only for what is no terminal.
        let _ = self.terminal.resize(Size::new(rows, cols));
    }

    /// Sends a signal to the shell and what belongs to its group. Numbers that are no signal do nothing.
    pub fn signal(&self, number: i32) {
        // Once it was waited for, its number may be another's.
        if let (None, Some(process), Some(signal)) =
            (self.ended, &self.process, Signal::from_named_raw(number))
        {
            signal_group(process, signal);
        }
    }

    /// Returns how the shell ended, once it did. What it wrote last may still have to be read.
    pub fn ended(&mut self) -> Option<Ended> {
        if self.ended.is_none()
            && let Some(process) = &mut self.process
        {
            if self.hung_up && self.watch.is_none() {
                // Nothing else would tell of its end, which is a moment away; or it goes on without a terminal.
                let mut tries = HANG_UP_TRIES;
                while tries > 0 && matches!(process.try_wait(), Ok(None)) {
                    thread::sleep(HANG_UP_PAUSE);
                    tries -= 1;
                }
                kill(process);
                self.ended = Some(process.wait().map_or(UNKNOWN_END, ended));
            } else {
                self.ended = match process.try_wait() {
                    Ok(status) => status.map(ended),
                    // It ended, and another part of the program waited for it.
                    Err(_) => Some(UNKNOWN_END),
                };
            }
        }
        self.ended
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let (Some(mut process), watch) = (self.process.take(), self.watch.take()) else { return };
        if matches!(process.try_wait(), Ok(Some(_))) {
            return;
        }
        // The kernel says the same when the terminal is closed, which is a moment later.
        signal_group(&process, Signal::HUP);
        signal_group(&process, Signal::CONT);
        let Some(place) = Ending::begin() else { return end(process) };
        let process = Arc::new(Mutex::new(Some(process)));
        let last = Arc::clone(&process);
        let thread = thread::Builder::new().name("ending shell".to_owned()).spawn(move || {
            wait(watch.as_ref());
            end_taken(&last);
            drop(place);
        });
        if thread.is_err() {
            end_taken(&process);
        }
    }
}

/// One of the shells that are ending.
struct Ending;

static ENDING: AtomicUsize = AtomicUsize::new(0);

impl Ending {
    fn begin() -> Option<Self> {
        let room = |ending| (ending < ENDING_SHELLS_MAX).then_some(ending + 1);
        ENDING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok().map(|_| Self)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        ENDING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes reading and writing never wait, and sets what a terminal needs.
fn prepare(terminal: &Pty, rows: u16, cols: u16) -> io::Result<()> {
    fcntl_setfl(terminal, fcntl_getfl(terminal)? | OFlags::NONBLOCK)?;
    terminal.resize(Size::new(rows, cols)).map_err(|error| io::Error::other(error.to_string()))?;
    // Without it, erasing leaves pieces of characters behind.
    let mut modes = tcgetattr(terminal)?;
    modes.input_modes |= InputModes::IUTF8;
    tcsetattr(terminal, OptionalActions::Now, &modes)?;
    Ok(())
}

fn pid(process: &Child) -> Option<Pid> {
    i32::try_from(process.id()).ok().and_then(Pid::from_raw)
}

/// Signals a process that leads its group, and the group. It must not have been waited for.
fn signal_group(process: &Child, signal: Signal) {
    if let Some(pid) = pid(process) {
        // It may just have ended.
        let _ = kill_process_group(pid, signal);
    }
}

/// Waits for the end of a process, but not for long.
fn wait(watch: Option<&OwnedFd>) {
    match (watch, Timespec::try_from(SHELL_GRACE)) {
        // Whatever it returns, the process is ended next.
        (Some(watch), Ok(timeout)) => drop(poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&timeout))),
        _ => thread::sleep(SHELL_GRACE),
    }
}

fn kill(process: &mut Child) {
    if matches!(process.try_wait(), Ok(None)) {
        signal_group(process, Signal::KILL);
    }
}

fn end_taken(process: &Mutex<Option<Child>>) {
    if let Some(process) = process.lock().unwrap_or_else(PoisonError::into_inner).take() {
        end(process);
    }
}

/// Ends a process for good.
fn end(mut process: Child) {
    kill(&mut process);
    // Nothing survives that; it only takes as long as the kernel needs.
    let _ = process.wait();
}

fn ended(status: std::process::ExitStatus) -> Ended {
    match status.signal() {
        Some(signal) => Ended::Signalled(signal),
        // What was not signalled has a code.
        None => status.code().map_or(UNKNOWN_END, Ended::Exited),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script as kernels before 5.3 would, and returns how it ended.
    fn end_of(script: &str) -> Ended {
        let mut shell = ShellCommand::new("/bin/sh").argument("-c").argument(script).start(24, 80).unwrap();
        shell.watch = None;
        let mut buffer = [0; 1024];
        loop {
            match shell.read(&mut buffer) {
                Read::Bytes(_) => {}
                Read::HungUp => return shell.ended().unwrap(),
                Read::Nothing => {
                    let terminal = shell.terminal();
                    assert_eq!(poll(&mut [PollFd::new(&terminal, PollFlags::IN)], None), Ok(1));
                }
            }
        }
    }

    #[test]
    fn old_kernels_tell_of_the_end_by_the_terminal() {
        assert_eq!(end_of("echo words; exit 3"), Ended::Exited(3));
        // One that gives its terminal away is of no use to anybody.
        assert_eq!(end_of("exec 0<&- 1>&- 2>&-; sleep 600"), Ended::Signalled(9));
    }
}
