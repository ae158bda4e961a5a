//! A peer in memory, a certificate authority, and a loop that moves bytes cut as asked.
// Each test binary uses a part of this.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, OnceLock};

use nerves_hub_link_transport::limits::RECEIVE_PENDING_MAX;
use nerves_hub_link_transport::{
    Clock, Exchange, ExchangeEvent, Roots, Socket, SocketEvent, SocketRequest, Tls, TlsOptions,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

pub const HOST: &str = "hub.test";
/// The handshake key is made of sevens, the mask seed of eights.
pub const RANDOM: [u8; 32] = {
    let mut random = [7; 32];
    let mut at = 16;
    while at < 32 {
        random[at] = 8;
        at += 1;
    }
    random
};
/// 2026-11-23, inside the validity of every good certificate here.
pub const NOW: u64 = 1_795_445_085;

/// The answer to the key in `RANDOM`.
pub fn accept() -> String {
    tungstenite::handshake::derive_accept_key(b"BwcHBwcHBwcHBwcHBwcHBw==")
}

pub fn upgraded() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\ndate: Mon, 23 Nov 2026 14:47:24 GMT\r\nupgrade: websocket\r\n\
         connection: Upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
        accept()
    )
}

// ---- certificates ----

pub struct Authority {
    pub der: CertificateDer<'static>,
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for `names`, valid from 2020 to 2030.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.until(names, 2030)
    }

    /// A certificate for `names`, valid from 2020 to the beginning of a year.
    pub fn until(&self, names: &[&str], year: i32) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }
}

#[derive(Clone)]
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Vec<u8>,
}

impl Identity {
    /// A server that uses its CA certificate itself.
    pub fn self_signed_authority() -> (Self, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let der = certificate.der().clone();
        (Self { chain: vec![der.clone()], key: key.serialize_der() }, der.to_vec())
    }
}

pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("Test CA"))
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| authority().server(&[HOST, "192.0.2.1"]))
}

pub fn at(seconds: u64) -> Clock {
    Clock::Custom(Arc::new(move || Some(seconds)))
}

pub fn options() -> TlsOptions {
    let mut options = TlsOptions::new(Roots::Pem(authority().pem.clone().into_bytes()));
    options.clock = at(NOW);
    options
}

pub fn client_tls() -> &'static Tls {
    static TLS: OnceLock<Tls> = OnceLock::new();
    TLS.get_or_init(|| Tls::new(&options()).unwrap())
}

// ---- the peer ----

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Plain,
    Tls12,
    Tls13,
}

pub const LINKS: [Link; 3] = [Link::Plain, Link::Tls12, Link::Tls13];

impl Link {
    pub fn url(self, socket: bool) -> String {
        let scheme = match (self, socket) {
            (Self::Plain, true) => "ws",
            (_, true) => "wss",
            (Self::Plain, false) => "http",
            (_, false) => "https",
        };
        format!("{scheme}://{HOST}/path?vsn=2.0.0&token=SECRET")
    }

    pub fn peer(self) -> Peer {
        match self {
            Self::Plain => Peer { tls: None, inbox: Vec::new(), out: Vec::new(), got_close_notify: false },
            Self::Tls12 => Peer::tls(identity(), &[&rustls::version::TLS12]),
            Self::Tls13 => Peer::tls(identity(), &[&rustls::version::TLS13]),
        }
    }
}

pub struct Peer {
    tls: Option<ServerConnection>,
    /// Plain bytes received.
    pub inbox: Vec<u8>,
    out: Vec<u8>,
    pub got_close_notify: bool,
}

impl Peer {
    /// A server that wants a client certificate of the authority, but hints at another one.
    pub fn mutual(version: &'static SupportedProtocolVersion) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority().der.clone()).unwrap();
        let mut others = rustls::RootCertStore::empty();
        others.add(Authority::new("Somebody else").der).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .clear_root_hint_subjects()
            .add_root_hint_subjects(others.subjects())
            .build()
            .unwrap();
        let server = identity();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(server.chain.clone(), PrivateKeyDer::try_from(server.key.clone()).unwrap())
            .unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        Self { tls: Some(connection), inbox: Vec::new(), out: Vec::new(), got_close_notify: false }
    }

    /// The certificates the client showed.
    pub fn shown(&self) -> Vec<CertificateDer<'static>> {
        let shown = self.tls.as_ref().and_then(|tls| tls.peer_certificates()).unwrap_or_default();
        shown.iter().map(|der| der.clone().into_owned()).collect()
    }

    pub fn tls(identity: &Identity, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain.clone(), PrivateKeyDer::try_from(identity.key.clone()).unwrap())
            .unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        Self { tls: Some(connection), inbox: Vec::new(), out: Vec::new(), got_close_notify: false }
    }

    pub fn receive(&mut self, mut bytes: &[u8]) {
        let Some(tls) = &mut self.tls else {
            self.inbox.extend_from_slice(bytes);
            return;
        };
        while !bytes.is_empty() {
            if tls.read_tls(&mut bytes).unwrap() == 0 {
                break;
            }
            let Ok(state) = tls.process_new_packets() else { return };
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut plain).unwrap();
            self.inbox.extend(plain);
            self.got_close_notify |= state.peer_has_closed();
        }
        self.flush();
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if self.tls.is_none() {
            self.out.extend_from_slice(bytes);
            return;
        }
        for piece in bytes.chunks(16 * 1024) {
            self.tls.as_mut().unwrap().writer().write_all(piece).unwrap();
            self.flush();
        }
    }

    /// Bytes past TLS, straight onto the wire.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub fn close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.flush();
    }

    pub fn tls_version(&self) -> Option<rustls::ProtocolVersion> {
        self.tls.as_ref().and_then(|tls| tls.protocol_version())
    }

    pub fn take_out(&mut self) -> Vec<u8> {
        self.flush();
        std::mem::take(&mut self.out)
    }

    fn flush(&mut self) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.out).unwrap();
            }
        }
    }
}

// ---- the machines behind one face ----

/// An event of either machine, bodies joined, so that the cut of the bytes cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Up,
    Refused(u16, Vec<(String, String)>, Vec<u8>),
    Text(String),
    Binary(Vec<u8>),
    Alive,
    Closed(Option<u16>, String),
    Head(u16, Vec<(String, String)>),
    Body(Vec<u8>),
    End,
    Failed(String),
}

pub trait Machine {
    fn receive(&mut self, bytes: &[u8]);
    fn receive_eof(&mut self);
    fn take_out(&mut self) -> Vec<u8>;
    fn poll(&mut self) -> Option<Seen>;
}

impl Machine for Socket {
    fn receive(&mut self, bytes: &[u8]) {
        self.receive(bytes);
    }
    fn receive_eof(&mut self) {
        self.receive_eof();
    }
    fn take_out(&mut self) -> Vec<u8> {
        let bytes = self.transmit().to_vec();
        self.transmitted(bytes.len());
        bytes
    }
    fn poll(&mut self) -> Option<Seen> {
        Some(match Socket::poll(self)? {
            SocketEvent::Up => Seen::Up,
            SocketEvent::Refused { status, headers, body } => Seen::Refused(status, headers, body),
            SocketEvent::Text(text) => Seen::Text(text),
            SocketEvent::Binary(bytes) => Seen::Binary(bytes),
            SocketEvent::Alive => Seen::Alive,
            SocketEvent::Closed { code, reason } => Seen::Closed(code, reason),
            SocketEvent::Failed(error) => Seen::Failed(error.to_string()),
        })
    }
}

impl Machine for Exchange {
    fn receive(&mut self, bytes: &[u8]) {
        self.receive(bytes);
        assert!(bytes.is_empty() || !self.wants_input(), "bytes wait, and more are wanted");
    }
    fn receive_eof(&mut self) {
        self.receive_eof();
    }
    fn take_out(&mut self) -> Vec<u8> {
        let bytes = self.transmit().to_vec();
        self.transmitted(bytes.len());
        bytes
    }
    fn poll(&mut self) -> Option<Seen> {
        Some(match Exchange::poll(self)? {
            ExchangeEvent::Head { status, headers } => Seen::Head(status, headers),
            ExchangeEvent::Body(bytes) => Seen::Body(bytes.to_vec()),
            ExchangeEvent::End => Seen::End,
            ExchangeEvent::Failed(error) => Seen::Failed(error.to_string()),
        })
    }
}

// ---- moving bytes ----

/// Where streams are cut: the sizes are used in turn, over and over.
#[derive(Debug, Clone)]
pub struct Cuts {
    sizes: Vec<usize>,
    next: usize,
}

impl Cuts {
    pub fn whole() -> Self {
        Self::of(vec![RECEIVE_PENDING_MAX])
    }

    pub fn bytewise() -> Self {
        Self::of(vec![1])
    }

    pub fn of(sizes: Vec<usize>) -> Self {
        Self { sizes, next: 0 }
    }

    fn pieces(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let size = self.sizes[self.next % self.sizes.len()].clamp(1, bytes.len());
            self.next += 1;
            let (piece, rest) = bytes.split_at(size);
            take(piece);
            bytes = rest;
        }
    }
}

/// What the server does at the end of its script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Keeps the connection open.
    Stay,
    /// Ends it as it should be ended: `close_notify` where there is TLS, then TCP.
    Clean,
    /// Ends TCP alone.
    Cut,
}

/// Moves bytes between machine and peer until nothing moves any more. `act` sees the peer after each
/// round and the events so far; it returns true to end the connection as `finish` says.
pub fn converse<M: Machine>(
    machine: &mut M,
    peer: &mut Peer,
    cuts: &mut Cuts,
    finish: Finish,
    mut act: impl FnMut(&mut M, &mut Peer, &[Seen]) -> bool,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut finished = false;
    loop {
        let sent = machine.take_out();
        cuts.pieces(&sent, |piece| peer.receive(piece));
        if !finished && act(machine, peer, &seen) {
            finished = true;
            if finish == Finish::Clean {
                peer.close_notify();
            }
        }
        let received = peer.take_out();
        cuts.pieces(&received, |piece| {
            machine.receive(piece);
            drain(machine, &mut seen);
        });
        drain(machine, &mut seen);
        let more = machine.take_out();
        cuts.pieces(&more, |piece| peer.receive(piece));
        if sent.is_empty() && received.is_empty() && more.is_empty() {
            break;
        }
    }
    if finished && finish != Finish::Stay {
        machine.receive_eof();
        drain(machine, &mut seen);
        let last = machine.take_out();
        peer.receive(&last);
    }
    seen
}

pub fn drain<M: Machine>(machine: &mut M, seen: &mut Vec<Seen>) {
    while let Some(event) = machine.poll() {
        match (seen.last_mut(), event) {
            (Some(Seen::Body(whole)), Seen::Body(piece)) => whole.extend(piece),
            (_, event) => seen.push(event),
        }
    }
}

/// Sends `answer` once the request head is in, then ends as `finish` says.
pub fn answer<M: Machine>(
    machine: &mut M,
    link: Link,
    cuts: &mut Cuts,
    answer: &[u8],
    finish: Finish,
) -> (Vec<Seen>, Peer) {
    let mut peer = link.peer();
    let mut answered = false;
    let seen = converse(machine, &mut peer, cuts, finish, |_, peer, _| {
        if !answered && find(&peer.inbox, b"\r\n\r\n").is_some() {
            answered = true;
            peer.send(answer);
            return true;
        }
        false
    });
    (seen, peer)
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

pub fn socket(link: Link) -> Socket {
    let url = link.url(true);
    let tls = Some(client_tls());
    Socket::new(&SocketRequest { url: &url, headers: &[], tls }, RANDOM).unwrap()
}

/// A server frame, unmasked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(u8::try_from(short).unwrap()),
        middle @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

/// Client frames, unmasked: (first byte, payload).
pub fn client_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_ne!(second & 0x80, 0, "a client frame must be masked");
        let (length, rest) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (usize::try_from(u64::from_be_bytes(rest[..8].try_into().unwrap())).unwrap(), &rest[8..]),
            short => (usize::from(short), rest),
        };
        let (mask, rest) = rest.split_at(4);
        let payload =
            rest[..length].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        frames.push((*first, payload));
        bytes = &rest[length..];
    }
    frames
}

/// Frames the client sent after its request head.
pub fn frames_sent(peer: &Peer) -> Vec<(u8, Vec<u8>)> {
    let head = find(&peer.inbox, b"\r\n\r\n").unwrap() + 4;
    client_frames(&peer.inbox[head..])
}
