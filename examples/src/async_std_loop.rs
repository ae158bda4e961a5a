//! A device on async-std, which has tasks, timers and sockets, and no way to ask a socket whether it is ready.
//!
//! It isn't needed: a read that has to wait leaves the waker that it was given, so each connection is given one that notes
//! that it is ready and wakes the loop. The loop then has one thing to wait for beside the time.
//!
//! async-std is discontinued. What is here holds for smol and others of its kind.

use std::io::{Error, ErrorKind};
use std::net;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use async_std::channel::{Receiver, Sender, bounded};
use async_std::future::timeout;
use async_std::io;
use async_std::io::{Read as _, Write as _};
use async_std::net::{TcpStream, ToSocketAddrs as _};
use async_std::task;
use nerves_hub_link_protocol as protocol;
use nerves_hub_link_runtime::{
    Candidates, Control, DialOrder, Engine, Exit, Network, Options, RunnerError, Signals, Tcp,
};

/// How often operators' shells are looked at while there are any: async-std can't wait for a terminal.
const SHELLS: Duration = Duration::from_millis(20);

/// Starts a device in a task. [`Control::status`] says how it is doing, and how it ended.
///
/// # Errors
///
/// If the settings make no sense.
pub fn spawn(config: protocol::Config, options: Options) -> Result<Control, RunnerError> {
    let (ring, rung) = bounded(1);
    let bell = Arc::new(Bell(ring));
    let connections = Connections { start: Instant::now(), bell: Arc::clone(&bell) };
    let engine = Engine::new(config, options, connections, bell)?;
    let control = engine.control();
    let ended = control.clone();
    task::spawn(async move { ended.end(run(engine, rung).await) });
    Ok(control)
}

async fn run(mut engine: Engine<Connections>, rung: Receiver<()>) -> Exit {
    loop {
        if let Some(exit) = engine.turn() {
            return exit;
        }
        let time_left = engine.time_left();
        let interests = engine.interests();
        let ready = interests.connections.iter().any(|(stream, interest)| {
            (interest.read && stream.readable.is_noted()) || (interest.write && stream.writable.is_noted())
        });
        let looks = [ready.then_some(Duration::ZERO), (!interests.descriptors.is_empty()).then_some(SHELLS)];
        match looks.into_iter().chain([time_left]).flatten().min() {
            Some(Duration::ZERO) => task::yield_now().await,
            // Late or early, the next turn sees to it.
            Some(left) => drop(timeout(left, rung.recv()).await),
            None => drop(rung.recv().await),
        }
    }
}

/// Wakes the loop: called by threads of the device, by handles, and by async-std when a connection is ready.
#[derive(Debug)]
struct Bell(Sender<()>);

impl Signals for Bell {
    fn wake(&self) {
        // Full means that a wake-up is waiting already.
        let _ = self.0.try_send(());
    }

    fn changed(&self) {}
}

/// Whether a connection may be read, or written. It is until it has to wait, and again when async-std says so.
#[derive(Debug)]
struct Readiness {
    noted: AtomicBool,
    bell: Arc<Bell>,
}

impl Readiness {
    fn new(bell: &Arc<Bell>) -> Arc<Self> {
        Arc::new(Self { noted: AtomicBool::new(true), bell: Arc::clone(bell) })
    }

    fn is_noted(&self) -> bool {
        self.noted.load(Ordering::Acquire)
    }

    /// Does something that leaves the waker when it has to wait.
    fn attempt<T>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Context<'_>) -> Poll<std::io::Result<T>>,
    ) -> std::io::Result<T> {
        // Before it, so that what wakes in the meantime counts.
        self.noted.store(false, Ordering::Release);
        match work(&mut Context::from_waker(&Waker::from(Arc::clone(self)))) {
            Poll::Ready(result) => {
                self.noted.store(true, Ordering::Release);
                result
            }
            Poll::Pending => Err(Error::from(ErrorKind::WouldBlock)),
        }
    }
}

impl Wake for Readiness {
    fn wake(self: Arc<Self>) {
        self.noted.store(true, Ordering::Release);
        self.bell.wake();
    }
}

#[derive(Debug)]
struct Connections {
    start: Instant,
    bell: Arc<Bell>,
}

impl Network for Connections {
    type Tcp = Stream;

    fn dial(&mut self, order: DialOrder<Stream>) -> Result<(), String> {
        if order.proxy.is_some() {
            return Err("this example knows no proxies; see `Tunnel` and the adapters".to_owned());
        }
        let (readable, writable) = (Readiness::new(&self.bell), Readiness::new(&self.bell));
        task::spawn(async move {
            let reached = reach(&order).await;
            let stream = reached.and_then(|plain| {
                let tcp = plain.try_clone().map_err(|error| error.to_string())?.into();
                let local = plain.local_addr().ok();
                Ok((Stream { tcp, plain, readable, writable }, local))
            });
            order.finish(stream);
        });
        Ok(())
    }

    fn now(&self) -> protocol::Instant {
        protocol::Instant::ZERO + self.start.elapsed()
    }
}

async fn reach(order: &DialOrder<Stream>) -> Result<net::TcpStream, String> {
    let end = Instant::now() + order.timeout;
    let name = (order.address.host.as_str(), order.address.port);
    let found = io::timeout(order.timeout, name.to_socket_addrs()).await;
    let mut candidates = Candidates::new(&order.address, found, &order.guard)?;
    while let Some((target, wait)) = candidates.next(end.saturating_duration_since(Instant::now())) {
        match task::spawn_blocking(move || open(target, wait)).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => candidates.failed(target, error),
        }
    }
    Err(candidates.into_reason())
}

/// Opened plainly, since async-std never gives a connection back.
fn open(target: net::SocketAddr, wait: Duration) -> std::io::Result<net::TcpStream> {
    let tcp = net::TcpStream::connect_timeout(&target, wait)?;
    tcp.set_nodelay(true)?;
    tcp.set_nonblocking(true)?;
    Ok(tcp)
}

/// A connection, and the same without async-std for its last words.
struct Stream {
    tcp: TcpStream,
    plain: net::TcpStream,
    readable: Arc<Readiness>,
    writable: Arc<Readiness>,
}

impl Tcp for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.readable.attempt(|cx| Pin::new(&mut self.tcp).poll_read(cx, buffer))
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.writable.attempt(|cx| Pin::new(&mut self.tcp).poll_write(cx, bytes))
    }

    fn shut_down_write(&mut self) -> std::io::Result<()> {
        self.plain.shutdown(net::Shutdown::Write)
    }

    fn peer(&self) -> Option<net::IpAddr> {
        self.plain.peer_addr().ok().map(|peer| peer.ip())
    }
}
