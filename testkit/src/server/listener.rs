//! The listening socket and its threads.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::http::read_request;
use super::mischief::Mischief;
use super::shared::Shared;
use super::tls::{Stream, Tls};
use super::{download, socket};
use crate::limits::CONNECTIONS;

/// How long a read or write waits before the thread looks around.
const TICK: Duration = Duration::from_millis(5);

/// A listening socket with the thread that accepts on it.
pub(super) struct Listener {
    pub address: SocketAddr,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Listens on 127.0.0.1.
    pub fn start(port: u16, tls: Option<Tls>, shared: Arc<Shared>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let thread = thread::Builder::new()
            .name("hub-accept".to_owned())
            .spawn(move || accept(&listener, tls, &shared))?;
        Ok(Self { address, thread })
    }

    /// Stops accepting and waits for every thread. `shared` must be stopping.
    pub fn join(self) {
        // Wakes the accepting thread.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        let _ = self.thread.join();
    }
}

fn accept(listener: &TcpListener, tls: Option<Tls>, shared: &Arc<Shared>) {
    let tls = tls.map(Arc::new);
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for socket in listener.incoming() {
        if shared.stopping() {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        let Ok(socket) = socket else { continue };
        if threads.len() >= CONNECTIONS {
            // As the real hub's connection limit: closed before TLS.
            continue;
        }
        // Decided here, so that it is the next connection and not the next thread that meets it.
        let silent = shared.with(|state, _| state.armed.take(|m| (*m == Mischief::Silent).then_some(())));
        let (tls, shared) = (tls.clone(), Arc::clone(shared));
        let spawned = thread::Builder::new().name("hub-connection".to_owned()).spawn(move || {
            if silent.is_some() {
                hold(&socket, &shared);
            } else {
                // An error ends this connection, nothing else.
                let _ = connection(socket, tls.as_deref(), &shared);
            }
        });
        threads.extend(spawned);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Keeps a connection open without a word until the hub stops.
fn hold(_socket: &TcpStream, shared: &Shared) {
    while !shared.stopping() {
        shared.pause(Duration::from_secs(1));
    }
}

fn connection(socket: TcpStream, tls: Option<&Tls>, shared: &Shared) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TICK))?;
    socket.set_write_timeout(Some(TICK))?;
    let mut stream = Stream::new(socket, tls)?;
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer, shared) {
        let last = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if request.path.starts_with("/firmware/") || request.path.starts_with("/uploads/archives/") {
            if !download::serve(&mut stream, &request, shared) {
                break;
            }
        } else {
            let certified = tls.and_then(|tls| tls.device(&stream));
            match socket::serve(stream, &request, std::mem::take(&mut buffer), shared, certified.as_deref()) {
                Some(back) => stream = back,
                None => return Ok(()),
            }
        }
        if last {
            break;
        }
    }
    stream.finish();
    Ok(())
}
