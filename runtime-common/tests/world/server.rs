//! The servers: the pure hub behind a WebSocket, files behind HTTP, and what such servers get wrong.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use nerves_hub_link_testkit::hub::{Archive, ConnId, Hub, HubConfig, HubEvent, HubOutput, KeyPair, Release};
use sha2::{Digest, Sha256};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::net::{Heard, Net, SECOND, State};
use super::{KEY, PRODUCT, SECRET, URL_SECRET};

/// Bytes of a part of a file (device-protocol A1).
const PART: usize = 1024 * 1024;

/// The servers.
pub struct Server {
    pub hub: Hub,
    peers: BTreeMap<u64, Peer>,
    conns: BTreeMap<ConnId, u64>,
    pub files: BTreeMap<String, Vec<u8>>,
    last: u64,
    /// Sockets that were opened.
    pub connections: u64,
    pub heartbeats: u64,
    pub statuses: Vec<String>,
    /// Files that came out otherwise than they are.
    pub spoilt: u64,
    /// Silent until then.
    pub deaf: u64,
    /// Whether files are at addresses with TLS.
    tls: bool,
}

/// SHA-256 in upper-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02X}"))
}

/// What a connection is for.
enum Peer {
    Request(Vec<u8>),
    Socket(Box<WebSocket<Pipe>>, ConnId),
    Done,
}

/// The bytes of one connection, as a stream.
#[derive(Default)]
struct Pipe {
    input: VecDeque<u8>,
    ended: bool,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() && !self.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Server {
    pub fn new(tls: bool) -> Self {
        // The network of a scenario notices silence.
        let config = HubConfig { idle_ms: u64::MAX, ..HubConfig::default() };
        let mut hub = Hub::new(config, KeyPair::new(PRODUCT, SECRET));
        hub.add_public_key(KEY);
        Self {
            hub,
            peers: BTreeMap::new(),
            conns: BTreeMap::new(),
            files: BTreeMap::new(),
            last: 0,
            connections: 0,
            heartbeats: 0,
            statuses: Vec::new(),
            spoilt: 0,
            deaf: 0,
            tls,
        }
    }

    /// Publishes firmware and offers it.
    pub fn release(&mut self, now: u64, meta: nerves_hub_link_testkit::meta::FirmwareMeta, bytes: Vec<u8>) {
        let path = format!("/fw/{}", meta.uuid);
        let release = Release {
            url: format!(
                "{}://files.test{path}?signature={URL_SECRET}",
                if self.tls { "https" } else { "http" }
            ),
            size: bytes.len() as u64,
            checksum: hex(&bytes),
            partials: bytes.chunks(PART).map(hex).collect(),
            meta,
        };
        self.files.insert(path, bytes);
        self.hub.deploy(now / 1000, release);
    }

    /// Publishes an archive and tells of it.
    pub fn archive(&mut self, uuid: &str, version: &str, bytes: Vec<u8>) {
        let path = format!("/archives/{uuid}");
        let scheme = if self.tls { "https" } else { "http" };
        self.hub.set_archive(Some(Archive {
            size: bytes.len() as u64,
            uuid: uuid.to_owned(),
            version: version.to_owned(),
            description: None,
            platform: None,
            architecture: None,
            uploaded_at: "2026-11-23T14:39:17".to_owned(),
            url: format!("{scheme}://files.test{path}?signature={URL_SECRET}"),
        }));
        self.files.insert(path, bytes);
    }

    /// Does all that can be done now.
    pub fn step(&mut self, net: &Net) {
        net.connect();
        let mut state = net.lock();
        let now = state.now;
        self.hub.config_mut().heartbeat_replies = self.deaf <= now;
        let ids: Vec<u64> = state.lines.keys().copied().collect();
        for id in ids {
            while let Some(heard) = state.hear(id) {
                match heard {
                    // No more than a piece of TLS.
                    Heard::Bytes(bytes) if bytes.is_empty() => {}
                    Heard::Bytes(bytes) => self.hears(&mut state, id, &bytes),
                    Heard::End => self.hears(&mut state, id, &[]),
                }
            }
        }
        // Connections that nobody has any more.
        let gone: Vec<u64> = self.peers.keys().copied().filter(|id| !state.lines.contains_key(id)).collect();
        for id in gone {
            self.lose(id);
        }
        self.hub.tick(now / 1000);
        self.serve(&mut state);
    }

    /// When the hub has something to do, beside what arrives.
    pub fn next(&self) -> Option<u64> {
        [self.hub.next_due(), self.hub.next_ask()].into_iter().flatten().min().map(|ms| ms * 1000)
    }

    pub fn is_joined(&self) -> bool {
        !self.conns.is_empty()
    }

    fn lose(&mut self, id: u64) {
        if let Some(Peer::Socket(_, conn)) = self.peers.remove(&id) {
            self.conns.remove(&conn);
            self.hub.disconnected(conn);
        }
    }

    fn hears(&mut self, state: &mut State, id: u64, bytes: &[u8]) {
        match self.peers.remove(&id).unwrap_or(Peer::Request(Vec::new())) {
            Peer::Request(mut head) => {
                head.extend_from_slice(bytes);
                let whole = head.windows(4).any(|window| window == b"\r\n\r\n");
                let next = if bytes.is_empty() {
                    Peer::Done
                } else if whole {
                    self.request(state, id, &String::from_utf8(head).unwrap())
                } else {
                    Peer::Request(head)
                };
                self.peers.insert(id, next);
            }
            Peer::Socket(mut socket, conn) => {
                socket.get_mut().input.extend(bytes);
                socket.get_mut().ended = bytes.is_empty();
                let open = self.messages(state, &mut socket, conn);
                state.deliver(id, &std::mem::take(&mut socket.get_mut().output));
                self.peers.insert(id, Peer::Socket(socket, conn));
                if !open {
                    state.end(id);
                    self.lose(id);
                    self.peers.insert(id, Peer::Done);
                }
            }
            Peer::Done => drop(self.peers.insert(id, Peer::Done)),
        }
    }

    /// Reads what came. Returns whether the socket stays open.
    fn messages(&mut self, state: &State, socket: &mut WebSocket<Pipe>, conn: ConnId) -> bool {
        let now = state.now / 1000;
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => self.hub.text(now, conn, &text),
                Ok(Message::Binary(bytes)) => self.hub.binary(now, conn, &bytes),
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => return false,
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) => {
                    // An end in the middle of a frame is the network's doing; all else would be the device's.
                    let cut = socket.get_ref().ended;
                    assert!(cut, "the device sent what is no WebSocket: {error}");
                    return false;
                }
            }
        }
    }

    fn serve(&mut self, state: &mut State) {
        while let Some(output) = self.hub.poll() {
            let (conn, message) = match output {
                HubOutput::Send { conn, text } => (conn, Message::text(text)),
                HubOutput::SendBinary { conn, data } => (conn, Message::binary(data)),
                HubOutput::Close { conn, code, .. } => {
                    let frame = CloseFrame { code: code.into(), reason: "".into() };
                    (conn, Message::Close(Some(frame)))
                }
            };
            let Some(id) = self.conns.get(&conn).copied() else { continue };
            let Some(Peer::Socket(socket, _)) = self.peers.get_mut(&id) else { continue };
            let closes = message.is_close();
            // Sending on a socket that is being closed fails; it ends then.
            let _ = socket.send(message);
            let _ = socket.flush();
            state.deliver(id, &std::mem::take(&mut socket.get_mut().output));
            if closes {
                state.end(id);
                self.conns.remove(&conn);
                self.peers.insert(id, Peer::Done);
            }
        }
        while let Some(event) = self.hub.take_event() {
            match event {
                HubEvent::Status { status, .. } => self.statuses.push(status),
                HubEvent::Heartbeat { .. } => self.heartbeats += 1,
                _ => {}
            }
        }
    }

    /// Something goes wrong with the hub.
    pub fn strike(&mut self, net: &Net) {
        let mut state = net.lock();
        let conn = self.conns.keys().next().copied();
        let Some(conn) = conn else { return };
        let id = self.conns[&conn];
        match state.rng.below(9) {
            0 => self.hub.close_conn(conn, 1001, ""),
            1 => self.hub.close_conn(conn, 1012, ""),
            2 => self.hub.crash_channel(conn),
            3 => self.hub.drain(),
            4 => self.deaf = state.now + 200 * SECOND,
            5 => state.cut(id, 0),
            6 => {
                // The device may close the socket on this, or not.
                let garbage: [&[u8]; 4] = [
                    &[0x81, 3, b'x', b'y', b'z'],
                    &[0xc1, 1, b'x'],
                    &[0x81, 2, 0xff, 0xfe],
                    &[0x89, 2, b'h', b'i', 0x01, 1, b'[', 0x8a, 0, 0x80, 1, b']'],
                ];
                let pick = usize::try_from(state.rng.below(4)).unwrap();
                state.deliver(id, garbage[pick]);
            }
            7 => {
                state.end(id);
                self.lose(id);
                self.peers.insert(id, Peer::Done);
            }
            _ => {
                self.hub.broadcast("dance", &serde_json::json!({"with": [1, null]}));
            }
        }
        state.met += 1;
        self.serve(&mut state);
    }

    fn request(&mut self, state: &mut State, id: u64, head: &str) -> Peer {
        let mut lines = head.split("\r\n");
        let target = lines.next().unwrap().split(' ').nth(1).unwrap();
        let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let header = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.as_str())
        };
        let host = state.lines.get(&id).map_or("", |line| line.host.as_str());
        assert_eq!(header("host"), Some(host), "a request on the connection to another host");
        let Some(key) = header("sec-websocket-key") else {
            self.file(state, id, path, header("range"));
            return Peer::Done;
        };
        let refusals = [
            "401 Unauthorized\r\ncontent-length: 0",
            "429 Too Many Requests\r\nretry-after: 20\r\ncontent-length: 0",
            "503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy",
            "302 Found\r\nlocation: /elsewhere/websocket?vsn=2.0.0",
            "200 OK\r\ncontent-length: 99",
            "101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: no",
        ];
        if state.one_in(6) {
            let pick = usize::try_from(state.rng.below(refusals.len() as u64)).unwrap();
            answers(state, id, format!("HTTP/1.1 {}\r\n\r\n", refusals[pick]).as_bytes());
            return Peer::Done;
        }
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let answer = self.hub.authenticate(u64::try_from(unix).unwrap(), path, query, &headers);
        let device = match answer {
            Ok(device) => device,
            Err(refusal) => {
                let answer = format!("HTTP/1.1 {} No\r\ncontent-length: 0\r\n\r\n", refusal.status);
                answers(state, id, answer.as_bytes());
                return Peer::Done;
            }
        };
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        state.deliver(id, answer.as_bytes());
        self.last += 1;
        self.connections += 1;
        let conn = ConnId(self.last);
        self.conns.insert(conn, id);
        let speaks = self.hub.serializer(query).unwrap_or_default();
        self.hub.connected_speaking(state.now / 1000, conn, device, speaks);
        let config = WebSocketConfig::default();
        Peer::Socket(Box::new(WebSocket::from_raw_socket(Pipe::default(), Role::Server, Some(config))), conn)
    }

    fn file(&mut self, state: &mut State, id: u64, path: &str, range: Option<&str>) {
        let Some(file) = self.files.get(path).cloned() else {
            return answers(state, id, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        };
        if state.one_in(6) {
            let refusals =
                ["403 Forbidden", "500 Internal Server Error", "503 Service Unavailable", "404 Not Found"];
            let pick = usize::try_from(state.rng.below(4)).unwrap();
            let answer = format!("HTTP/1.1 {}\r\ncontent-length: 0\r\n\r\n", refusals[pick]);
            return answers(state, id, answer.as_bytes());
        }
        if state.one_in(20) {
            let answer = format!("HTTP/1.1 302 Found\r\nlocation: {path}?moved\r\ncontent-length: 0\r\n\r\n");
            return answers(state, id, answer.as_bytes());
        }
        let total = file.len();
        let range = range.filter(|_| !state.one_in(6)).and_then(|range| range.strip_prefix("bytes="));
        let (from, end) = match range.and_then(|range| range.split_once('-')) {
            Some((from, to)) => {
                let from: usize = from.parse().unwrap();
                (from, to.parse::<usize>().map_or(total, |to| total.min(to + 1)))
            }
            None => (0, total),
        };
        if from >= total {
            let answer = format!(
                "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-range: bytes */{total}\r\ncontent-length: 0\r\n\r\n"
            );
            return answers(state, id, answer.as_bytes());
        }
        let mut body = file[from..end].to_vec();
        let mut head = match range {
            Some(_) => {
                format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}\r\n", end - 1)
            }
            None => "HTTP/1.1 200 OK\r\n".to_owned(),
        };
        head.push_str("ETag: \"one\"\r\n");
        let whole = body.len();
        if state.one_in(40) {
            let at = usize::try_from(state.rng.below(whole as u64)).unwrap();
            body[at] ^= 1;
            self.spoilt += 1;
        }
        if state.one_in(4) {
            // It ends early.
            body.truncate(usize::try_from(state.rng.below(whole as u64)).unwrap());
        }
        let bytes = if state.rng.one_in(3) {
            head.push_str("Transfer-Encoding: chunked\r\n\r\n");
            let mut bytes = head.into_bytes();
            for piece in body.chunks(5000) {
                bytes.extend(format!("{:x}\r\n", piece.len()).bytes());
                bytes.extend_from_slice(piece);
                bytes.extend(b"\r\n");
            }
            if body.len() == whole {
                bytes.extend(b"0\r\n\r\n");
            }
            bytes
        } else {
            [head.as_bytes(), format!("Content-Length: {whole}\r\n\r\n").as_bytes(), &body].concat()
        };
        answers(state, id, &bytes);
    }
}

/// Answers a request, and ends the connection.
fn answers(state: &mut State, id: u64, bytes: &[u8]) {
    state.deliver(id, bytes);
    state.end(id);
}
