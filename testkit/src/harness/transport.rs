//! A hostile server at the other end of an HTTP exchange or a WebSocket.

use std::sync::OnceLock;

use nerves_hub_link_transport::limits::{BODY_PIECE_MAX, MESSAGE_MAX, PONG_BACKLOG_MAX, REFUSED_BODY_MAX};
use nerves_hub_link_transport::{
    Exchange, ExchangeEvent, ExchangeRequest, Roots, Socket, SocketEvent, SocketRequest, Tls, TlsOptions,
};

use super::input::{Cuts, Passed, Source};

/// Bytes taken from a server.
const ANSWER_MAX: usize = 256 * 1024;
/// Bytes that a machine nobody sends for may hold: its request or handshake, the answers to pings up to
/// their limit, one more, and a close frame.
const UNSENT_MAX: usize = PONG_BACKLOG_MAX + 4096;
/// What a socket's handshake key and masks are made of.
const RANDOM: [u8; 32] = [7; 32];
/// The key of `RANDOM`, as it stands in the request.
const KEY: &[u8] = b"BwcHBwcHBwcHBwcHBwcHBw==";

/// How the other side and the loop behave.
struct Setting {
    tls: bool,
    /// Whether the stream ends at last.
    ends: bool,
    /// Whether anything the machine wants sent is sent.
    sends: bool,
    /// Whether the answer to the upgrade is given, so that the input begins behind it.
    upgraded: bool,
}

impl Setting {
    fn read(source: &mut Source<'_>) -> Self {
        let bits = source.byte();
        Self {
            // Nothing gets far into TLS by chance, and starting it costs time.
            tls: bits >> 4 == 15,
            ends: bits & 1 != 0,
            sends: bits & 2 == 0,
            upgraded: bits & 4 != 0,
        }
    }

    fn url(&self, plain: &'static str, secure: &'static str) -> &'static str {
        if self.tls { secure } else { plain }
    }
}

/// Feeds an HTTP exchange what a server might send.
///
/// # Panics
/// When the cuts show, a piece of body is too large, more input is wanted while some waits, something follows
/// the end, or what waits to be sent grows.
pub fn exchange(data: &[u8]) {
    let mut source = Source::new(data);
    let setting = Setting::read(&mut source);
    let cuts = source.cuts();
    let answer = source.rest(ANSWER_MAX);
    let (whole, cut) = (fetch(&setting, answer, Cuts::whole()), fetch(&setting, answer, cuts));
    assert_eq!(whole.said, cut.said, "cuts show");
    let (short, long) = if whole.body.len() < cut.body.len() { (&whole, &cut) } else { (&cut, &whole) };
    assert!(long.body.starts_with(&short.body), "cuts show in the body");
    // A breach of the chunked form is met before what came in one piece with it is handed out.
    assert!(long.body.len() == short.body.len() || whole.failed, "bytes are lost");
}

fn fetch(setting: &Setting, answer: &[u8], mut cuts: Cuts) -> Seen {
    let url = setting.url("http://files.test/1.fw?signature=x", "https://files.test/1.fw?signature=x");
    let request = ExchangeRequest { url, headers: &[], tls: tls() };
    let made = Exchange::new(&request);
    assert!(made.is_ok(), "{made:?}");
    let Ok(mut exchange) = made else { return Seen::default() };
    let mut seen = Seen::default();
    let mut input = answer;
    while exchange.wants_input() {
        match cuts.next(&mut input) {
            Some(piece) => {
                exchange.receive(piece);
                assert!(!exchange.wants_input(), "bytes wait, and more are wanted");
            }
            None if setting.ends => exchange.receive_eof(),
            None => break,
        }
        while let Some(event) = exchange.poll() {
            match event {
                ExchangeEvent::Head { status, headers } => seen.say(format!("head {status} {headers:?}")),
                ExchangeEvent::Body(bytes) => {
                    assert!((1..=BODY_PIECE_MAX).contains(&bytes.len()), "{} bytes of body", bytes.len());
                    seen.body.extend_from_slice(bytes);
                }
                ExchangeEvent::End => seen.last("end".to_owned()),
                ExchangeEvent::Failed(error) => {
                    seen.failed = true;
                    seen.last(error.to_string());
                }
            }
        }
        assert!(exchange.transmit().len() <= UNSENT_MAX, "{} bytes unsent", exchange.transmit().len());
        if setting.sends {
            exchange.transmitted(usize::MAX);
        }
    }
    assert!(exchange.poll().is_none(), "an event out of nothing");
    assert!(seen.over || !setting.ends, "the stream ended and nobody was told");
    seen
}

/// Feeds a WebSocket what a server might send, while the client sends, pings and closes after events that the
/// input says.
///
/// # Panics
/// When the cuts show in the events or in what is sent, a message is too large, something follows the end, or
/// what waits to be sent grows.
pub fn socket(data: &[u8]) {
    let mut source = Source::new(data);
    let setting = Setting::read(&mut source);
    let acts = source.block();
    let cuts = source.cuts();
    let answer = source.rest(ANSWER_MAX);
    let answer = if setting.upgraded { [upgraded().as_bytes(), answer].concat() } else { answer.to_vec() };
    let whole = talk(&setting, acts, &answer, Cuts::whole());
    assert_eq!(whole, talk(&setting, acts, &answer, cuts), "cuts show");
}

/// What was said, and what was sent where that does not depend on chance.
fn talk(setting: &Setting, acts: &[u8], answer: &[u8], mut cuts: Cuts) -> (Vec<String>, (u64, u32)) {
    let url = setting.url("ws://hub.test/socket", "wss://hub.test/socket");
    let made = Socket::new(&SocketRequest { url, headers: &[], tls: tls() }, RANDOM);
    assert!(made.is_ok(), "{made:?}");
    let Ok(mut socket) = made else { return Default::default() };
    let mut seen = Seen::default();
    let mut sent = Passed::default();
    let mut acts = acts.iter().copied();
    let mut own = 0;
    let mut input = answer;
    let mut open = true;
    while open {
        let piece = cuts.next(&mut input);
        open = piece.is_some();
        match piece {
            Some(piece) => socket.receive(piece),
            None if setting.ends => socket.receive_eof(),
            None => {}
        }
        while let Some(event) = socket.poll() {
            hear(&mut seen, event);
            own += act(&mut socket, acts.next().unwrap_or_default());
            flush(&mut socket, setting, &mut sent);
        }
        flush(&mut socket, setting, &mut sent);
        let unsent = socket.transmit().len();
        assert!(unsent <= UNSENT_MAX + own, "{unsent} bytes unsent, {own} of them our own");
    }
    assert!(socket.poll().is_none(), "an event out of nothing");
    assert!(seen.over || !setting.ends, "the stream ended and nobody was told");
    (seen.said, sent.sum())
}

/// Notes an event.
fn hear(seen: &mut Seen, event: SocketEvent) {
    match event {
        SocketEvent::Up => seen.say("up".to_owned()),
        SocketEvent::Refused { status, headers, body } => {
            assert!(body.len() <= REFUSED_BODY_MAX, "{} bytes of refusal", body.len());
            seen.last(format!("refused {status} {headers:?} {body:?}"));
        }
        SocketEvent::Text(text) => {
            assert!(text.len() <= MESSAGE_MAX, "a text of {} bytes", text.len());
            seen.say(format!("text {text:?}"));
        }
        SocketEvent::Binary(bytes) => {
            assert!(bytes.len() <= MESSAGE_MAX, "{} bytes in a message", bytes.len());
            seen.say(format!("binary {bytes:?}"));
        }
        SocketEvent::Alive => seen.say("alive".to_owned()),
        SocketEvent::Closed { code, reason } => seen.last(format!("closed {code:?} {reason:?}")),
        SocketEvent::Failed(error) => seen.last(error.to_string()),
    }
}

/// Does something to the socket; returns the most bytes that can have come of it.
fn act(socket: &mut Socket, act: u8) -> usize {
    match act {
        1..=99 => {
            let text = "x".repeat(usize::from(act) * 10);
            socket.send_text(&text).map_or(0, |()| text.len() + 64)
        }
        100..=199 => socket.send_binary(&[act; 20]).map_or(0, |()| 84),
        200..=229 => socket.ping().map_or(0, |()| 64),
        230..=239 => {
            socket.close(1000 + u16::from(act - 230), &"why ".repeat(usize::from(act - 229) * 5));
            256
        }
        _ => 0,
    }
}

fn flush(socket: &mut Socket, setting: &Setting, sent: &mut Passed) {
    if setting.sends {
        let bytes = socket.transmit();
        // What TLS makes of it is new each time.
        if !setting.tls {
            sent.add(bytes);
        }
        let count = bytes.len();
        socket.transmitted(count);
    }
}

/// The answer to the upgrade of `RANDOM`.
pub(super) fn upgraded() -> String {
    let accept = tungstenite::handshake::derive_accept_key(KEY);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    )
}

/// TLS that trusts an authority made up for it.
fn tls() -> Option<&'static Tls> {
    static TLS: OnceLock<Option<Tls>> = OnceLock::new();
    let make = || {
        let authority = rcgen::generate_simple_self_signed(vec!["hub.test".to_owned()]).ok()?;
        Tls::new(&TlsOptions::new(Roots::Der(vec![authority.cert.der().to_vec()]))).ok()
    };
    TLS.get_or_init(make).as_ref()
}

/// What a machine said, bodies joined, so that the cuts of the bytes cannot be seen.
#[derive(Default)]
struct Seen {
    said: Vec<String>,
    body: Vec<u8>,
    failed: bool,
    over: bool,
}

impl Seen {
    fn say(&mut self, what: String) {
        assert!(!self.over, "{what} after the end");
        self.said.push(what);
    }

    fn last(&mut self, what: String) {
        self.say(what);
        self.over = true;
    }
}
