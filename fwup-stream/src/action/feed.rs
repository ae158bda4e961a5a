//! A program that is fed a resource, holes as zeros.

use std::io::{self, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::internal::Internal;
use crate::lengths::smaller;

/// Zeros for holes are fed in pieces of this many bytes.
const ZEROS: usize = 16 * 1024;

/// A running program that takes data on its standard input.
pub(super) struct Feed {
    child: Child,
    offset: u64,
}

impl Feed {
    /// Starts the program.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self { child: command.stdin(Stdio::piped()).spawn()?, offset: 0 })
    }

    /// Feeds data that belong at `offset`; what lies before it and was not fed is zeros.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fill_up_to(offset)?;
        self.feed(data)
    }

    /// Feeds zeros up to `length`, closes the program's input and waits for its end.
    pub(super) fn finish(&mut self, length: u64) -> io::Result<ExitStatus> {
        self.fill_up_to(length)?;
        // Closing its input tells the program that this was all.
        drop(self.child.stdin.take());
        self.child.wait()
    }

    fn feed(&mut self, data: &[u8]) -> io::Result<()> {
        self.offset = self.offset.saturating_add(data.len() as u64);
        self.child
            .stdin
            .as_mut()
            .map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), |pipe| pipe.write_all(data))
    }

    fn fill_up_to(&mut self, offset: u64) -> io::Result<()> {
        let zeros = [0; ZEROS];
        if self.offset > offset {
            return Err(io::Error::other(Internal::new("data come in another order than they are fed")));
        }
        while self.offset < offset {
            let (piece, _) = zeros.split_at(smaller(offset - self.offset, ZEROS));
            self.feed(piece)?;
        }
        Ok(())
    }
}

impl Drop for Feed {
    /// Leaves no program behind when the update ends early. After a regular end there is nothing to do.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
