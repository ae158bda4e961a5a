//! What a loop brings along: connections, a clock, and how it waits for them.

use std::net::{IpAddr, Shutdown, TcpStream};

use nerves_hub_link_protocol::Instant;

use crate::dial::DialOrder;

/// A loop's own part: how it connects and tells the time.
pub trait Network {
    /// Its connections.
    type Tcp: Tcp;

    /// Starts to connect, without waiting: the result goes to [`DialOrder::finish`], from any thread, in time or late.
    ///
    /// # Errors
    ///
    /// Why it could not even be started, for a person.
    fn dial(&mut self, order: DialOrder<Self::Tcp>) -> Result<(), String>;

    /// The monotonic time since a point of the loop's choice, by the clock that it waits with.
    fn now(&self) -> Instant;
}

/// An open connection that never waits.
pub trait Tcp {
    /// Reads what is there.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) when nothing is there for now; all else ends the connection.
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize>;

    /// Writes what fits.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock) when nothing fits for now; all else ends the connection.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize>;

    /// Ends the sending direction, without waiting: the peer reads the end of the stream after everything written so far.
    ///
    /// # Errors
    ///
    /// If the connection is of no more use; it is closed then.
    fn shut_down_write(&mut self) -> std::io::Result<()>;

    /// Returns the address of the other end, if it can be found out. Without it, the server counts as being outside the
    /// device and its link.
    fn peer(&self) -> Option<IpAddr>;
}

/// A connection set to non-blocking.
impl Tcp for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::io::Read::read(self, buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::Write::write(self, bytes)
    }

    fn shut_down_write(&mut self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn peer(&self) -> Option<IpAddr> {
        self.peer_addr().ok().map(|peer| peer.ip())
    }
}

/// What a connection or a terminal is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Until it can be read.
    pub read: bool,
    /// Until it can be written.
    pub write: bool,
}

impl Interest {
    /// Returns whether there is nothing to wait for.
    pub const fn is_none(self) -> bool {
        !self.read && !self.write
    }
}
