//! Looking up a host and connecting to it, in a task.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nerves_hub_link_protocol as protocol;
use nerves_hub_link_runtime::{Candidates, DialOrder, Guard, Network, Place, Tcp};
use nerves_hub_link_transport::{Address, Tunnel};
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};

/// Connects in tasks, which end with it.
#[derive(Debug)]
pub(crate) struct Tasks {
    start: Instant,
    dialling: JoinSet<()>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), dialling: JoinSet::new() }
    }
}

impl Network for Tasks {
    type Tcp = Stream;

    fn dial(&mut self, order: DialOrder<Stream>) -> Result<(), String> {
        while self.dialling.try_join_next().is_some() {}
        self.dialling.spawn(async move {
            let reached = reach(&order).await;
            order.finish(reached.map(|tcp| {
                let local = tcp.local_addr().ok();
                (Stream(tcp), local)
            }));
        });
        Ok(())
    }

    fn now(&self) -> protocol::Instant {
        protocol::Instant::ZERO + self.start.elapsed()
    }
}

/// A connection of tokio's.
#[derive(Debug)]
pub(crate) struct Stream(pub(crate) TcpStream);

impl Tcp for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.try_read(buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn shut_down_write(&mut self) -> std::io::Result<()> {
        // Never waits: it is shutdown(2) alone.
        match Pin::new(&mut self.0).poll_shutdown(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        self.0.peer_addr().ok().map(|peer| peer.ip())
    }
}

/// Connects to an address, or to the proxy and through it.
async fn reach(order: &DialOrder<Stream>) -> Result<TcpStream, String> {
    let end = Instant::now() + order.timeout;
    let Some(proxy) = &order.proxy else {
        return connect(&order.address, &order.guard, order.place(), end).await;
    };
    let connected = connect(proxy.address(), &Guard::none(), order.place(), end).await;
    let tcp = connected.map_err(|error| format!("the proxy: {error}"))?;
    let name = proxy.address().authority();
    let passed = timeout_at(end, pass(&tcp, Tunnel::new(proxy, &order.address))).await;
    let passed = passed.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    passed.map_err(|error| format!("the proxy {name}: {error}"))??;
    Ok(tcp)
}

/// Asks the proxy for the way. The outer error is the connection's, the inner one the proxy's word.
async fn pass(tcp: &TcpStream, mut tunnel: Tunnel) -> std::io::Result<Result<(), String>> {
    while !tunnel.transmit().is_empty() {
        tcp.writable().await?;
        match tcp.try_write(tunnel.transmit()) {
            Ok(sent) => tunnel.transmitted(sent),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    // A byte at a time, so that nothing of the server's is taken for the proxy's.
    let mut byte = [0];
    loop {
        tcp.readable().await?;
        let open = match tcp.try_read(&mut byte) {
            Ok(0) => Err(tunnel.ended()),
            Ok(_) => tunnel.receive(&byte),
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(error),
        };
        match open {
            Ok(false) => {}
            Ok(true) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

async fn connect(address: &Address, guard: &Guard, place: Place, end: Instant) -> Result<TcpStream, String> {
    let found = timeout_at(end, look_up(address, place)).await;
    let found = found.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map(Vec::into_iter);
    let mut candidates = Candidates::new(address, found, guard)?;
    while let Some((target, wait)) = candidates.next(end.saturating_duration_since(Instant::now())) {
        match open(target, wait).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => candidates.failed(target, error),
        }
    }
    Err(candidates.into_reason())
}

/// Asks the system for a name, on one of tokio's threads for what blocks. A look-up that nobody waits for any more goes on
/// there and keeps its place.
async fn look_up(address: &Address, place: Place) -> std::io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let target = (address.host.clone(), address.port);
    let asked = spawn_blocking(move || {
        let _place = place;
        target.to_socket_addrs().map(Iterator::collect)
    });
    asked.await.unwrap_or_else(|ended| Err(std::io::Error::other(ended)))
}

async fn open(target: SocketAddr, wait: Duration) -> std::io::Result<TcpStream> {
    let tcp = timeout(wait, TcpStream::connect(target)).await;
    let tcp =
        tcp.unwrap_or_else(|_| Err(std::io::Error::new(ErrorKind::TimedOut, "connection timed out")))?;
    // Messages are small and wait for nothing.
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
