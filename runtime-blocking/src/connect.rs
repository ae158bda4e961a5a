//! Looking up a host and connecting to it, on a thread of its own: neither can be interrupted.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use nerves_hub_link_protocol as protocol;
use nerves_hub_link_runtime::{Candidates, DialOrder, Guard, Network};
use nerves_hub_link_transport::{Address, Proxy, Tunnel};

/// Connects on threads.
#[derive(Debug)]
pub(crate) struct Threads {
    start: Instant,
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Network for Threads {
    type Tcp = TcpStream;

    fn dial(&mut self, order: DialOrder<TcpStream>) -> Result<(), String> {
        let job = move || {
            let reached = reach(&order.address, order.proxy.as_ref(), &order.guard, order.timeout);
            order.finish(reached.map(|tcp| {
                let local = tcp.local_addr().ok();
                (tcp, local)
            }));
        };
        let spawned = std::thread::Builder::new().name("nerves-hub-dial".to_owned()).spawn(job);
        spawned.map(drop).map_err(|error| format!("cannot start a thread to connect: {error}"))
    }

    fn now(&self) -> protocol::Instant {
        protocol::Instant::ZERO + self.start.elapsed()
    }
}

/// Connects to an address, or to the proxy and through it.
fn reach(
    address: &Address,
    proxy: Option<&Proxy>,
    guard: &Guard,
    timeout: Duration,
) -> Result<TcpStream, String> {
    let end = Instant::now() + timeout;
    let Some(proxy) = proxy else { return connect(address, guard, end) };
    let mut tcp =
        connect(proxy.address(), &Guard::none(), end).map_err(|error| format!("the proxy: {error}"))?;
    let name = proxy.address().authority();
    pass(&mut tcp, Tunnel::new(proxy, address), end)
        .map_err(|error| format!("the proxy {name}: {error}"))??;
    Ok(tcp)
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

fn connect(address: &Address, guard: &Guard, end: Instant) -> Result<TcpStream, String> {
    let found = (address.host.as_str(), address.port).to_socket_addrs();
    let mut candidates = Candidates::new(address, found, guard)?;
    while let Some((target, wait)) = candidates.next(end.saturating_duration_since(Instant::now())) {
        match TcpStream::connect_timeout(&target, wait).and_then(prepared) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => candidates.failed(target, error),
        }
    }
    Err(candidates.into_reason())
}

fn prepared(tcp: TcpStream) -> std::io::Result<TcpStream> {
    // Messages are small and wait for nothing.
    tcp.set_nodelay(true)?;
    tcp.set_nonblocking(true)?;
    Ok(tcp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn at(port: u16) -> Address {
        Address::parse(&format!("http://127.0.0.1:{port}/")).unwrap()
    }

    #[test]
    fn a_closed_port_is_named_with_its_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let error = reach(&at(port), None, &Guard::none(), Duration::from_secs(5)).unwrap_err();
        assert!(error.contains(&format!("127.0.0.1 port {port}")) && error.contains("refused"), "{error}");
    }

    #[test]
    fn an_unknown_host_is_named() {
        let address = Address::parse("https://no-such-host.invalid/").unwrap();
        let error = reach(&address, None, &Guard::none(), Duration::from_secs(5)).unwrap_err();
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
        let mut tcp = reach(&target, Some(&proxy), &Guard::none(), Duration::from_secs(10)).unwrap();
        assert_eq!(
            asked.join().unwrap(),
            "CONNECT hub.example:443 HTTP/1.1\r\nHost: hub.example:443\r\n\
             Proxy-Authorization: Basic dXNAcjpzM2NyZXQ=\r\n\r\n"
        );
        tcp.set_nonblocking(false).unwrap();
        let mut rest = String::new();
        tcp.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "server");
    }

    #[test]
    fn a_proxy_that_refuses_or_talks_nonsense_is_named() {
        let target = Address::parse("https://hub.example/").unwrap();
        for (answer, words) in [
            (
                &b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..],
                "it rejects the user and the password given",
            ),
            (b"HTTP/1.1 503 no\r\n\r\n", "hub.example:443 with HTTP 503"),
            (b"SSH-2.0-x\r\n\r\n", "did not answer in HTTP"),
            (b"HTTP/1.1 200", "before it answered CONNECT"),
        ] {
            let (proxy, asked) = proxy(answer);
            let error = reach(&target, Some(&proxy), &Guard::none(), Duration::from_secs(10)).unwrap_err();
            assert!(error.contains(words) && error.contains("127.0.0.1"), "{error}");
            assert!(!error.contains("s3cret") && !format!("{proxy:?}").contains("s3cret"), "{error}");
            asked.join().unwrap();
        }
        let gone = Proxy::parse("http://127.0.0.1:1").unwrap();
        let error = reach(&target, Some(&gone), &Guard::none(), Duration::from_secs(10)).unwrap_err();
        assert!(error.starts_with("the proxy: cannot connect"), "{error}");
    }
}
