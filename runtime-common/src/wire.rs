//! One TCP connection and the byte machine behind it: moving bytes between them, and nothing else.

use std::io::ErrorKind;
use std::time::Duration;

use std::net::IpAddr;

use nerves_hub_link_protocol::{AddressRules, Instant};
use nerves_hub_link_transport::{Address, Exchange, Proxy, Socket};

use crate::dial::{Attempt, Connected, Connector};
use crate::tcp::{Interest, Network, Tcp};

/// The face that both machines of the transport share.
pub(crate) trait Machine {
    fn address(&self) -> &Address;
    fn through(&mut self, proxy: &Proxy);
    fn wants_input(&self) -> bool;
    fn receive(&mut self, bytes: &[u8]);
    fn receive_eof(&mut self);
    fn out_of_time(&mut self);
    fn transmit(&mut self) -> &[u8];
    fn transmitted(&mut self, count: usize);
}

macro_rules! machine {
    ($name:ty, $wants_input:expr, $out_of_time:expr) => {
        impl Machine for $name {
            fn address(&self) -> &Address {
                self.address()
            }
            fn through(&mut self, proxy: &Proxy) {
                self.through(proxy);
            }
            fn wants_input(&self) -> bool {
                $wants_input(self)
            }
            fn receive(&mut self, bytes: &[u8]) {
                self.receive(bytes);
            }
            fn receive_eof(&mut self) {
                self.receive_eof();
            }
            fn out_of_time(&mut self) {
                $out_of_time(self);
            }
            fn transmit(&mut self) -> &[u8] {
                self.transmit()
            }
            fn transmitted(&mut self, count: usize) {
                self.transmitted(count);
            }
        }
    };
}

machine!(Socket, |_| true, Socket::out_of_time);
machine!(Exchange, Exchange::wants_input, |_| ());

/// A machine and its connection, which may still be on its way.
pub(crate) struct Wire<M, T> {
    pub(crate) machine: M,
    attempt: Attempt,
    /// The proxy that the connection goes through, if any.
    through: Option<String>,
    connected: Option<Connected<T>>,
    /// When the connection must be of use.
    deadline: Option<Instant>,
    /// Why no more bytes come or go, once that is so.
    broken: Option<String>,
    read_ended: bool,
    write_ended: bool,
}

impl<M: Machine, T: Tcp> Wire<M, T> {
    /// Starts to connect to where the machine wants to go.
    pub(crate) fn dial<N: Network<Tcp = T>>(
        mut machine: M,
        connector: &mut Connector<N>,
        timeout: Duration,
        now: Instant,
        rules: AddressRules,
    ) -> Result<Self, String> {
        let proxy = connector.proxy_for(machine.address());
        let through = proxy.as_ref().map(|proxy| proxy.address().authority());
        if let Some(proxy) = &proxy {
            machine.through(proxy);
        }
        let attempt = connector.start(machine.address().clone(), timeout, rules)?;
        let deadline = Some(now + timeout);
        let (read_ended, write_ended) = (false, false);
        Ok(Self {
            machine,
            attempt,
            through,
            connected: None,
            deadline,
            broken: None,
            read_ended,
            write_ended,
        })
    }

    /// Returns whether an attempt is the one this waits for.
    pub(crate) fn awaits(&self, attempt: Attempt) -> bool {
        self.attempt == attempt && self.connected.is_none()
    }

    /// Takes the end of the attempt.
    pub(crate) fn dialled(&mut self, result: Result<Connected<T>, String>) {
        match result {
            Ok(connected) => self.connected = Some(connected),
            Err(reason) => self.broken = Some(reason),
        }
    }

    /// The name of the interface the connection runs over, if known.
    pub(crate) fn interface(&self) -> Option<&str> {
        self.connected.as_ref()?.interface.as_deref()
    }

    /// The address of the server, if it was reached directly.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.connected.as_ref()?.peer
    }

    /// Says that the connection is of use: its deadline is met.
    pub(crate) fn settle(&mut self) {
        self.deadline = None;
    }

    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Breaks the connection if its deadline has passed. What the machine has to tell all the same comes first.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.deadline = None;
            self.machine.out_of_time();
            let host = &self.machine.address().host;
            let doing = if self.connected.is_some() { "to answer" } else { "to be reached" };
            let through = self.through.as_ref().map(|proxy| format!(" through the proxy {proxy}"));
            self.broken = Some(format!("{host} took too long {doing}{}", through.unwrap_or_default()));
        }
    }

    /// Gives the connection up for a reason of ours.
    pub(crate) fn break_off(&mut self, reason: String) {
        self.broken = Some(reason);
    }

    /// Why the connection is of no more use, if so. Ask after the machine was polled.
    pub(crate) fn broken(&mut self) -> Option<String> {
        self.broken.take()
    }

    pub(crate) const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// What to wait for, if anything. `room` says whether what is read can be taken.
    pub(crate) fn interest(&mut self, room: bool) -> Option<(&T, Interest)> {
        let interest = Interest {
            read: room && !self.read_ended && self.machine.wants_input(),
            write: !self.write_ended && !self.machine.transmit().is_empty(),
        };
        let connected = self.connected.as_ref()?;
        (!interest.is_none()).then_some((&connected.tcp, interest))
    }

    /// Reads once, if something is there and wanted. Returns how many bytes came.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let Some(connected) = &mut self.connected else { return 0 };
        if self.read_ended || !self.machine.wants_input() {
            return 0;
        }
        match connected.tcp.read(buffer) {
            Ok(0) => {
                self.read_ended = true;
                self.machine.receive_eof();
                0
            }
            Ok(count) => {
                let Some(read) = buffer.get(..count) else {
                    debug_assert!(false, "{count} bytes read into {}", buffer.len());
                    self.read_ended = true;
                    self.broken =
                        Some("an internal error: more bytes were read than there was room for".to_owned());
                    return 0;
                };
                self.machine.receive(read);
                count
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(error) => {
                self.read_ended = true;
                let host = &self.machine.address().host;
                self.broken = Some(format!("the connection to {host} broke: {error}"));
                0
            }
        }
    }

    /// Writes what can be written now. Returns whether everything is on its way.
    pub(crate) fn flush(&mut self) -> bool {
        let Some(connected) = &mut self.connected else { return false };
        if !self.write_ended && !flush(&mut self.machine, &mut connected.tcp) {
            // The peer is gone, but its last words may wait to be read; reading ends the matter.
            self.write_ended = true;
        }
        !self.write_ended && self.machine.transmit().is_empty()
    }

    /// What to wait for while the connection is being closed, if anything.
    pub(crate) fn closing_interest(&self) -> Option<(&T, Interest)> {
        let interest = Interest { read: !self.read_ended, write: !self.write_ended };
        let connected = self.connected.as_ref()?;
        (!interest.is_none()).then_some((&connected.tcp, interest))
    }

    /// Returns whether neither side reads or writes any more.
    pub(crate) const fn has_ended(&self) -> bool {
        self.connected.is_none() || (self.read_ended && self.write_ended)
    }

    /// Writes what the machine still has to send, and then ends the sending direction.
    pub(crate) fn finish_writing(&mut self) {
        if self.write_ended || !self.flush() {
            return;
        }
        self.write_ended = true;
        if let Some(connected) = &mut self.connected
            && connected.tcp.shut_down_write().is_err()
        {
            // The connection is gone, and nothing waits for what the peer sent.
            self.read_ended = true;
        }
    }

    /// Reads and drops what the peer still sends, a few times. Bytes left unread would turn our close into a reset, which
    /// can overtake what we sent last.
    pub(crate) fn discard(&mut self, buffer: &mut [u8]) {
        let Some(connected) = &mut self.connected else { return };
        for _ in 0..DISCARD_READS {
            if self.read_ended {
                return;
            }
            match connected.tcp.read(buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => self.read_ended = true,
            }
        }
    }
}

/// Writes what the machine has to say, as far as it goes now. Returns false when the connection is of no more use.
fn flush(machine: &mut impl Machine, tcp: &mut impl Tcp) -> bool {
    while !machine.transmit().is_empty() {
        match tcp.write(machine.transmit()) {
            // A connection that takes nothing and doesn't say that one should wait takes nothing ever.
            Ok(0) => return false,
            Ok(count) => machine.transmitted(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}

/// Reads in one turn from a connection that is being closed.
const DISCARD_READS: u32 = 8;
