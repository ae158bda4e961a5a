//! The shells of operators: from the machine's wishes to terminals, and back.

use std::os::fd::BorrowedFd;

use nerves_hub_link_platform::pty::{Ended, Read, Shell, ShellCommand as Program};
use nerves_hub_link_protocol::{ShellCommand, ShellEnd, ShellEvent, ShellId, ShellStop, WindowSize};

use crate::limits::{SHELL_READ_MAX, TYPED_MAX};
use crate::tcp::Interest;

/// The shells that run.
pub(crate) struct Shells {
    program: Option<Program>,
    sessions: Vec<Session>,
}

struct Session {
    id: ShellId,
    shell: Shell,
    /// Bytes of output that the machine takes for now.
    room: usize,
    /// What was typed and not taken by the terminal.
    typed: Vec<u8>,
    ended: Option<Ended>,
    /// Nothing more can be read.
    silent: bool,
}

impl Shells {
    pub(crate) const fn new(program: Option<Program>) -> Self {
        Self { program, sessions: Vec::new() }
    }

    /// Returns whether shells are run here, and not by the application.
    pub(crate) const fn are_ours(&self) -> bool {
        self.program.is_some()
    }

    /// Ends all shells.
    pub(crate) fn close(&mut self) {
        self.sessions.clear();
    }

    /// Does what the machine wants. Returns what to tell it.
    ///
    /// # Errors
    ///
    /// What was lost, for the log.
    pub(crate) fn event(&mut self, event: &ShellEvent) -> Result<Option<ShellCommand>, String> {
        match event {
            ShellEvent::Wanted { shell, size, room, .. } => return Ok(self.start(*shell, *size, *room)),
            ShellEvent::Input { shell, data } => {
                if let Some(session) = self.find(*shell) {
                    session.type_in(data.expose().as_bytes())?;
                }
            }
            ShellEvent::Resized { shell, size } => {
                if let Some(session) = self.find(*shell) {
                    session.shell.resize(size.rows, size.cols);
                }
            }
            ShellEvent::Ready { shell, bytes } => {
                if let Some(session) = self.find(*shell) {
                    session.room = session.room.saturating_add(*bytes);
                }
            }
            ShellEvent::Stopped { shell, why } => {
                if let (ShellStop::Killed { signal }, Some(session)) = (why, self.find(*shell)) {
                    session.shell.signal(i32::from(*signal));
                }
                self.sessions.retain(|session| session.id != *shell);
            }
            _ => {}
        }
        Ok(None)
    }

    /// Returns what the shells wait for.
    pub(crate) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Interest)> {
        self.sessions.iter().flat_map(|session| {
            let interest = Interest { read: session.room > 0, write: !session.typed.is_empty() };
            // A terminal nobody has open is always ready.
            let terminal = (!interest.is_none() && !session.silent).then(|| session.shell.terminal());
            let process = session.shell.process().filter(|_| session.ended.is_none());
            let end = Interest { read: true, write: false };
            terminal.map(|it| (it, interest)).into_iter().chain(process.map(|it| (it, end)))
        })
    }

    /// Returns the next thing to tell the machine, if there is one for now.
    pub(crate) fn next(&mut self, buffer: &mut [u8]) -> Option<ShellCommand> {
        for at in 0..self.sessions.len() {
            let session = self.sessions.get_mut(at)?;
            session.flush();
            if let Some(data) = session.read(buffer) {
                return Some(ShellCommand::Output { shell: session.id, data: data.into() });
            }
            if let (Some(ended), true) = (session.ended, session.silent) {
                let shell = session.id;
                self.sessions.swap_remove(at);
                let end = match ended {
                    Ended::Exited(code) => ShellEnd::Exited(code),
                    Ended::Signalled(signal) => ShellEnd::Signalled(signal),
                };
                return Some(ShellCommand::Ended { shell, end });
            }
        }
        None
    }

    fn start(&mut self, id: ShellId, size: WindowSize, room: usize) -> Option<ShellCommand> {
        match self.program.as_ref()?.start(size.rows, size.cols) {
            Ok(shell) => {
                let typed = Vec::new();
                self.sessions.push(Session { id, shell, room, typed, ended: None, silent: false });
                Some(ShellCommand::Started { shell: id })
            }
            Err(error) => Some(ShellCommand::Ended { shell: id, end: ShellEnd::Failed(error.to_string()) }),
        }
    }

    fn find(&mut self, id: ShellId) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.id == id)
    }
}

impl Session {
    fn type_in(&mut self, text: &[u8]) -> Result<(), String> {
        self.flush();
        let room = TYPED_MAX.saturating_sub(self.typed.len());
        if text.len() > room {
            return Err(format!(
                "{} bytes typed into a shell were lost: it does not read, and {TYPED_MAX} may wait",
                text.len()
            ));
        }
        self.typed.extend_from_slice(text);
        self.flush();
        Ok(())
    }

    /// Types what waits, as far as the terminal takes it.
    fn flush(&mut self) {
        if !self.typed.is_empty() && !self.silent {
            let taken = self.shell.write(&self.typed);
            debug_assert!(taken <= self.typed.len(), "{taken} bytes were typed of {}", self.typed.len());
            self.typed.drain(..taken.min(self.typed.len()));
        }
    }

    /// Returns what the shell wrote, as far as it may be told.
    fn read(&mut self, buffer: &mut [u8]) -> Option<Vec<u8>> {
        // Before reading: what it wrote before its end is then read for certain.
        self.ended = self.ended.or_else(|| self.shell.ended());
        if self.ended.is_some() {
            // Nobody is there to read it.
            self.typed.clear();
        }
        if self.silent {
            return None;
        }
        let room = self.room.min(SHELL_READ_MAX).min(buffer.len());
        let buffer = buffer.get_mut(..room).filter(|buffer| !buffer.is_empty())?;
        match self.shell.read(buffer) {
            Read::Bytes(bytes) => {
                let read = buffer.get(..bytes);
                debug_assert!(read.is_some(), "{bytes} bytes were read of a shell into {room}");
                self.room = self.room.saturating_sub(bytes);
                return read.map(<[u8]>::to_vec);
            }
            // What the shell left behind may keep the terminal open for ever.
            Read::Nothing => self.silent = self.ended.is_some(),
            Read::HungUp => {
                self.silent = true;
                self.ended = self.ended.or_else(|| self.shell.ended());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nerves_hub_link_protocol::{Secret, ShellKind};
    use rustix::event::{PollFd, PollFlags, poll};

    const SHELL: ShellId = ShellId(1);

    /// Waits until a shell has something to say, and returns it.
    fn hear(shells: &mut Shells) -> ShellCommand {
        let mut buffer = [0; SHELL_READ_MAX];
        loop {
            if let Some(command) = shells.next(&mut buffer) {
                return command;
            }
            let wait = |(fd, interest): (_, Interest)| {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::IN, interest.read);
                flags.set(PollFlags::OUT, interest.write);
                PollFd::from_borrowed_fd(fd, flags)
            };
            let mut interests: Vec<PollFd<'_>> = shells.interests().map(wait).collect();
            assert!(!interests.is_empty(), "nothing to wait for");
            poll(&mut interests, None).unwrap();
        }
    }

    fn start(script: &str, room: usize) -> Shells {
        let mut shells = Shells::new(Some(Program::new("/bin/sh").argument("-c").argument(script)));
        let size = WindowSize::default();
        let wanted = ShellEvent::Wanted { shell: SHELL, kind: ShellKind::Console, size, room };
        assert_eq!(shells.event(&wanted), Ok(Some(ShellCommand::Started { shell: SHELL })));
        shells
    }

    fn typed(length: usize) -> ShellEvent {
        ShellEvent::Input { shell: SHELL, data: Secret::new("x".repeat(length)) }
    }

    #[test]
    fn what_is_typed_waits_for_a_shell_that_does_not_read_but_not_without_bound() {
        let mut shells = start("stty raw -echo; echo ready; sleep 600", 1000);
        hear(&mut shells);
        // The terminal takes some thousands by and by, and then no more.
        let mut taken = 0;
        let lost = loop {
            let room = (TYPED_MAX - shells.sessions[0].typed.len()).max(1);
            match shells.event(&typed(room)) {
                Ok(_) => taken += room,
                Err(lost) => break lost,
            }
        };
        assert_eq!(shells.sessions[0].typed.len(), TYPED_MAX);
        assert!((TYPED_MAX..TYPED_MAX + 200_000).contains(&taken), "{taken}");
        assert!(lost.contains("1 bytes typed into a shell were lost"), "{lost}");
    }

    #[test]
    fn no_more_is_read_than_the_machine_takes() {
        let mut shells = start("printf 0123456789; exit 7", 4);
        let mut read = |length: usize| {
            let mut seen = Vec::new();
            while seen.len() < length {
                match hear(&mut shells) {
                    ShellCommand::Output { data, .. } => seen.extend(data.0),
                    other => panic!("{other:?} after {seen:?}"),
                }
            }
            assert_eq!(shells.sessions[0].room, 0);
            assert_eq!(shells.next(&mut [0; 100]), None);
            assert_eq!(shells.event(&ShellEvent::Ready { shell: SHELL, bytes: 6 }), Ok(None));
            seen
        };
        assert_eq!(read(4), b"0123");
        assert_eq!(read(6), b"456789");
        assert_eq!(hear(&mut shells), ShellCommand::Ended { shell: SHELL, end: ShellEnd::Exited(7) });
        assert!(shells.sessions.is_empty());
    }
}
