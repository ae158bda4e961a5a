//! An HTTP proxy that opens ways on this machine, to those who know the password.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use base64::Engine as _;

use crate::limits::PROXY_REQUEST;

/// A proxy on loopback that understands `CONNECT` and nothing else. Its threads end with the program.
#[derive(Debug)]
pub struct ProxyServer {
    address: SocketAddr,
    ways: Arc<AtomicUsize>,
}

impl ProxyServer {
    /// Starts one that asks for a user and a password.
    ///
    /// # Errors
    ///
    /// If it can't listen.
    pub fn start(user: &str, password: &str) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let secret = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let expected = format!("proxy-authorization: basic {}\r\n", secret.to_ascii_lowercase());
        let ways = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&ways);
        thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            for client in listener.incoming().flatten() {
                let (expected, counted) = (expected.clone(), Arc::clone(&counted));
                // A client that is not served is closed by being dropped.
                let serve = move || drop(serve(client, &expected, &counted));
                drop(thread::Builder::new().name("proxy-way".to_owned()).spawn(serve));
            }
        })?;
        Ok(Self { address, ways })
    }

    /// Returns where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many ways it has opened so far.
    pub fn ways(&self) -> usize {
        self.ways.load(Ordering::Acquire)
    }
}

fn serve(mut client: TcpStream, expected: &str, ways: &AtomicUsize) -> io::Result<()> {
    let (mut asked, mut byte) = (Vec::new(), [0]);
    while !asked.ends_with(b"\r\n\r\n") {
        if asked.len() >= PROXY_REQUEST || client.read(&mut byte)? == 0 {
            return Ok(());
        }
        asked.extend_from_slice(&byte);
    }
    let asked = String::from_utf8_lossy(&asked).into_owned();
    if !asked.to_ascii_lowercase().contains(expected) {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    }
    let target = asked.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let port = target.and_then(|target| target.rsplit(':').next()?.parse::<u16>().ok());
    let Some(port) = port else { return client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n") };
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
    };
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    ways.fetch_add(1, Ordering::AcqRel);
    let (back, forth) = (server.try_clone()?, client.try_clone()?);
    thread::Builder::new().name("proxy-back".to_owned()).spawn(move || copy(back, client))?;
    copy(forth, server);
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // Whichever side ends first ends the way.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
