//! Looking up a host and connecting to it, on a thread of its own: neither can be interrupted.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nerves_hub_link_transport::Address;

use crate::limits::{ADDRESS_TIMEOUT_MIN, ADDRESSES_MAX, CONNECTORS_MAX};
use crate::wake::Waker;

/// The number of one attempt to connect; never used twice in a runner's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt(pub(crate) u64);

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) attempt: Attempt,
    pub(crate) result: Result<Connected, String>,
}

/// An open connection, set to non-blocking.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) tcp: TcpStream,
    /// The name of the interface it runs over, if that could be found out.
    pub(crate) interface: Option<String>,
}

/// Starts attempts and counts the threads they take.
#[derive(Debug)]
pub(crate) struct Connector {
    results: Sender<Dialled>,
    waker: Waker,
    running: Arc<AtomicUsize>,
    last: u64,
}

impl Connector {
    pub(crate) fn new(results: Sender<Dialled>, waker: Waker) -> Self {
        Self { results, waker, running: Arc::default(), last: 0 }
    }

    /// Starts an attempt. Its result comes over the channel, in time or late.
    pub(crate) fn start(&mut self, address: Address, timeout: Duration) -> Result<Attempt, String> {
        self.last += 1;
        let attempt = Attempt(self.last);
        if self.running.load(Ordering::Acquire) >= CONNECTORS_MAX {
            return Err(format!(
                "{CONNECTORS_MAX} earlier attempts to connect have not ended; the name service may be hanging"
            ));
        }
        let (results, waker) = (self.results.clone(), self.waker.clone());
        let place = Place::take(&self.running);
        let job = move || {
            let _place = place;
            // A loop that ended in the meantime no longer listens.
            let _ = results.send(Dialled { attempt, result: connect(&address, timeout) });
            waker.wake();
        };
        let spawned = std::thread::Builder::new().name("nerves-hub-dial".to_owned()).spawn(job);
        spawned.map(|_| attempt).map_err(|error| format!("cannot start a thread to connect: {error}"))
    }
}

/// One running attempt, counted until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(running))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn connect(address: &Address, timeout: Duration) -> Result<Connected, String> {
    let end = Instant::now() + timeout;
    let (host, port) = (address.host.as_str(), address.port);
    let found = (host, port).to_socket_addrs().map_err(|error| format!("cannot look up {host}: {error}"))?;
    let addresses = alternate(found);
    let mut failures = Vec::new();
    for (index, target) in addresses.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = u32::try_from(addresses.len() - index).unwrap_or(1);
        let wait = (left / share).max(ADDRESS_TIMEOUT_MIN);
        match open(target, wait) {
            Ok(connected) => return Ok(connected),
            Err(error) => failures.push(format!("{target}: {error}")),
        }
    }
    if failures.is_empty() {
        return Err(format!("{host} has no address"));
    }
    Err(format!("cannot connect to {host} port {port} ({})", failures.join("; ")))
}

fn open(target: &SocketAddr, wait: Duration) -> std::io::Result<Connected> {
    let tcp = TcpStream::connect_timeout(target, wait)?;
    // Messages are small and wait for nothing.
    tcp.set_nodelay(true)?;
    tcp.set_nonblocking(true)?;
    let interface = tcp.local_addr().ok().and_then(interface_of);
    Ok(Connected { tcp, interface })
}

/// Takes turns between IPv6 and IPv4, beginning with the system's favourite, so that a network that
/// swallows one of them costs one share of the time and not all of it.
fn alternate(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut rest: Vec<SocketAddr> = found.collect();
    let mut ordered: Vec<SocketAddr> = Vec::new();
    while !rest.is_empty() && ordered.len() < ADDRESSES_MAX {
        let other_family =
            |candidate: &SocketAddr| ordered.last().is_some_and(|last| last.is_ipv4() != candidate.is_ipv4());
        let next = rest.iter().position(other_family).unwrap_or(0);
        ordered.push(rest.remove(next));
    }
    ordered
}

fn interface_of(local: SocketAddr) -> Option<String> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    interfaces.into_iter().find(|interface| interface.ip() == local.ip()).map(|interface| interface.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::mpsc::channel;

    fn at(port: u16) -> Address {
        Address::parse(&format!("http://127.0.0.1:{port}/")).unwrap()
    }

    #[test]
    fn a_listener_is_reached_and_the_interface_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (results, dialled) = channel();
        let mut connector = Connector::new(results, Waker::new().unwrap());
        let port = listener.local_addr().unwrap().port();
        let attempt = connector.start(at(port), Duration::from_secs(5)).unwrap();
        let result = dialled.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(result.attempt, attempt);
        assert_eq!(result.result.unwrap().interface.as_deref(), Some("lo"));
    }

    #[test]
    fn a_closed_port_is_named_with_its_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = connect(&at(port), Duration::from_secs(5)).unwrap_err();
        assert!(error.contains(&format!("127.0.0.1 port {port}")) && error.contains("refused"), "{error}");
    }

    #[test]
    fn an_unknown_host_is_named() {
        let address = Address::parse("https://no-such-host.invalid/").unwrap();
        let error = connect(&address, Duration::from_secs(5)).unwrap_err();
        assert!(error.starts_with("cannot look up no-such-host.invalid"), "{error}");
    }

    #[test]
    fn families_take_turns_and_the_number_is_bounded() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let six = ["[::1]:1", "[::2]:1", "[::3]:1"].map(parse);
        let four = ["1.0.0.1:1", "1.0.0.2:1"].map(parse);
        let ordered = alternate(six.into_iter().chain(four));
        assert_eq!(ordered, [six[0], four[0], six[1], four[1], six[2]]);
        let many = (1..=ADDRESSES_MAX + 1).map(|n| parse(&format!("1.0.0.{n}:1")));
        assert_eq!(alternate(many).len(), ADDRESSES_MAX);
        assert_eq!(alternate(std::iter::empty()), []);
    }

    #[test]
    fn attempts_are_bounded() {
        let (results, _dialled) = channel();
        let mut connector = Connector::new(results, Waker::new().unwrap());
        let places: Vec<Place> = (0..CONNECTORS_MAX).map(|_| Place::take(&connector.running)).collect();
        assert!(connector.start(at(1), Duration::from_secs(1)).unwrap_err().contains("name service"));
        drop(places);
        connector.start(at(1), Duration::from_secs(1)).unwrap();
    }
}
