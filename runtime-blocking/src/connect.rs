//! Looking up a host and connecting to it, on a thread of its own: neither can be interrupted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nerves_hub_link_transport::{Address, Proxy, Tunnel};

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
    proxy: Option<Proxy>,
    last: u64,
}

impl Connector {
    pub(crate) fn new(results: Sender<Dialled>, waker: Waker, proxy: Option<Proxy>) -> Self {
        Self { results, waker, running: Arc::default(), proxy, last: 0 }
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
        let (place, proxy) = (Place::take(&self.running), self.proxy.clone());
        let job = move || {
            let _place = place;
            // A loop that ended in the meantime no longer listens.
            let _ = results.send(Dialled { attempt, result: reach(&address, proxy.as_ref(), timeout) });
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

/// Connects to an address, or to the proxy and through it.
fn reach(address: &Address, proxy: Option<&Proxy>, timeout: Duration) -> Result<Connected, String> {
    let end = Instant::now() + timeout;
    let Some(proxy) = proxy else { return connect(address, end) };
    let mut connected = connect(proxy.address(), end).map_err(|error| format!("the proxy: {error}"))?;
    let name = proxy.address().authority();
    pass(&mut connected.tcp, Tunnel::new(proxy, address), end)
        .map_err(|error| format!("the proxy {name}: {error}"))??;
    Ok(connected)
}

/// Asks the proxy for the way. The outer error is the connection's, the inner one the proxy's word.
fn pass(tcp: &mut TcpStream, mut tunnel: Tunnel, end: Instant) -> std::io::Result<Result<(), String>> {
    tcp.set_nonblocking(false)?;
    let wait = |tcp: &TcpStream| {
        let left = end.saturating_duration_since(Instant::now());
        let left = Some(left).filter(|left| !left.is_zero());
        let left = left.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::TimedOut))?;
        tcp.set_read_timeout(Some(left))?;
        tcp.set_write_timeout(Some(left))
    };
    while !tunnel.transmit().is_empty() {
        wait(tcp)?;
        let sent = tcp.write(tunnel.transmit())?;
        tunnel.transmitted(sent);
    }
    // A byte at a time, so that nothing of the server's is taken for the proxy's.
    let mut byte = [0];
    loop {
        wait(tcp)?;
        let open = match tcp.read(&mut byte) {
            Ok(0) => Err(tunnel.ended()),
            Ok(_) => tunnel.receive(&byte),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match open {
            Ok(false) => {}
            Ok(true) => break,
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
    tcp.set_nonblocking(true)?;
    Ok(Ok(()))
}

fn connect(address: &Address, end: Instant) -> Result<Connected, String> {
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
        let mut connector = Connector::new(results, Waker::new().unwrap(), None);
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
        let error = reach(&at(port), None, Duration::from_secs(5)).unwrap_err();
        assert!(error.contains(&format!("127.0.0.1 port {port}")) && error.contains("refused"), "{error}");
    }

    #[test]
    fn an_unknown_host_is_named() {
        let address = Address::parse("https://no-such-host.invalid/").unwrap();
        let error = reach(&address, None, Duration::from_secs(5)).unwrap_err();
        assert!(error.starts_with("cannot look up no-such-host.invalid"), "{error}");
    }

    /// A proxy that answers one CONNECT; returns what it was asked.
    fn proxy(answer: &'static [u8]) -> (Proxy, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n") && tcp.read(&mut byte).unwrap() > 0 {
                asked.push(byte[0]);
            }
            tcp.write_all(answer).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (Proxy::parse(&format!("http://us%40r:s3cret@127.0.0.1:{port}")).unwrap(), thread)
    }

    #[test]
    fn a_proxy_is_asked_for_the_way_and_what_follows_is_the_server_s() {
        let (proxy, asked) = proxy(b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\nserver");
        let target = Address::parse("wss://hub.example/socket").unwrap();
        let mut connected = reach(&target, Some(&proxy), Duration::from_secs(10)).unwrap();
        assert_eq!(
            asked.join().unwrap(),
            "CONNECT hub.example:443 HTTP/1.1\r\nHost: hub.example:443\r\n\
             Proxy-Authorization: Basic dXNAcjpzM2NyZXQ=\r\n\r\n"
        );
        connected.tcp.set_nonblocking(false).unwrap();
        let mut rest = String::new();
        connected.tcp.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "server");
    }

    #[test]
    fn a_proxy_that_refuses_or_talks_nonsense_is_named() {
        let target = Address::parse("https://hub.example/").unwrap();
        for (answer, words) in [
            (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], "user and a password"),
            (b"HTTP/1.1 503 no\r\n\r\n", "hub.example:443 with HTTP 503"),
            (b"SSH-2.0-x\r\n\r\n", "did not answer in HTTP"),
            (b"HTTP/1.1 200", "before it answered CONNECT"),
        ] {
            let (proxy, asked) = proxy(answer);
            let error = reach(&target, Some(&proxy), Duration::from_secs(10)).unwrap_err();
            assert!(error.contains(words) && error.contains("127.0.0.1"), "{error}");
            assert!(!error.contains("s3cret") && !format!("{proxy:?}").contains("s3cret"), "{error}");
            asked.join().unwrap();
        }
        let gone = Proxy::parse("http://127.0.0.1:1").unwrap();
        let error = reach(&target, Some(&gone), Duration::from_secs(10)).unwrap_err();
        assert!(error.starts_with("the proxy: cannot connect"), "{error}");
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
        let mut connector = Connector::new(results, Waker::new().unwrap(), None);
        let places: Vec<Place> = (0..CONNECTORS_MAX).map(|_| Place::take(&connector.running)).collect();
        assert!(connector.start(at(1), Duration::from_secs(1)).unwrap_err().contains("name service"));
        drop(places);
        connector.start(at(1), Duration::from_secs(1)).unwrap();
    }
}
