//! One WebSocket: upgrade, then messages both ways until either side ends it.

use std::io::Read;
use std::time::Duration;

use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::download::refusal;
use super::http::{Request, waits, write_head, write_refusal};
use super::mischief::{Garbage, Mischief};
use super::shared::{Outgoing, Shared};
use super::tls::Stream;
use crate::hub::{ConnId, HubEvent, Refusal};
use crate::limits::MESSAGE;

/// How a socket's end goes on.
enum Turn {
    Again,
    Close(u16, String),
    End,
}

/// Answers an upgrade request and serves the socket. `certified` is the device whose client certificate TLS took. Gives the stream back when it was refused and may
/// carry another request.
pub(super) fn serve(
    mut stream: Stream,
    request: &Request,
    early: Vec<u8>,
    shared: &Shared,
    certified: Option<&str>,
) -> Option<Stream> {
    let refused = shared.with(|state, _| {
        let refused = state.armed.take(|m| match m {
            Mischief::RefuseUpgrade { status, retry_after } => Some(refusal(*status, *retry_after)),
            Mischief::RedirectUpgrade { location } => {
                Some(Refusal::new(302, "").header("location", location))
            }
            _ => None,
        });
        if let Some(Refusal { status, .. }) = refused {
            state.hub.note(HubEvent::Refused { status });
        }
        refused
    });
    let unix_ms = shared.unix_ms();
    let device = refused.map_or_else(
        || {
            shared.with(|state, _| {
                let query = request.query.as_deref();
                let Some(name) = certified else {
                    return state.hub.authenticate(unix_ms, &request.path, query, &request.headers);
                };
                // Shared secrets aren't looked at where there is a certificate.
                let speaks = state.hub.serializer(query).ok_or_else(|| Refusal::new(403, ""));
                speaks.and_then(|_| {
                    state.hub.authenticate_certificate(name).ok_or_else(|| Refusal::new(401, ""))
                })
            })
        },
        Err,
    );
    let accepted = device.and_then(|device| Ok((device, accept_key(request)?)));
    let (device, accept) = match accepted {
        Ok(accepted) => accepted,
        Err(refusal) => return write_refusal(&mut stream, shared, &refusal).ok().map(|()| stream),
    };
    let headers = upgraded(&accept);
    let mute = shared.with(|state, _| state.armed.take(|m| (*m == Mischief::MuteSocket).then_some(())));
    if mute.is_some() {
        write_head(&mut stream, shared, 101, &headers).ok()?;
        while !shared.stopping() {
            shared.pause(Duration::from_secs(1));
        }
        return None;
    }
    // Known to the hub before the device learns of it, so that nothing is sent past it.
    let conn = shared.with(|state, now| {
        let speaks = state.hub.serializer(request.query.as_deref()).unwrap_or_default();
        state.open(now, device, speaks)
    });
    if write_head(&mut stream, shared, 101, &headers).is_err() {
        shared.with(|state, _| state.close(conn));
        return None;
    }
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
    let mut socket = WebSocket::from_partially_read(stream, early, Role::Server, Some(config));
    loop {
        match turn(&mut socket, conn, shared) {
            Turn::Again => {}
            Turn::Close(code, reason) => {
                close(&mut socket, code, &reason);
                break;
            }
            Turn::End => break,
        }
    }
    shared.with(|state, _| state.close(conn));
    None
}

/// Sends what waits, reads at most one message.
fn turn(socket: &mut WebSocket<Stream>, conn: ConnId, shared: &Shared) -> Turn {
    // Looked at first: what was put into the outbox before the stop still goes out.
    let stopping = shared.stopping();
    let mut sent = false;
    while let Some(outgoing) = shared.with(|state, now| {
        state.hub.tick(now);
        state.outgoing(conn)
    }) {
        let message = match outgoing {
            Outgoing::Text(text) => Message::text(text),
            Outgoing::Binary(data) => Message::binary(data),
            Outgoing::Garbage(garbage) => message_of(&garbage),
            Outgoing::Close(code, reason) => return Turn::Close(code, reason),
        };
        match socket.send(message) {
            Ok(()) => {}
            Err(Error::Io(error)) if waits(&error) => {}
            Err(_) => return Turn::End,
        }
        sent = true;
    }
    if sent && !stays_through_busy_time(socket, shared) {
        return Turn::End;
    }
    if stopping {
        return Turn::Close(1012, String::new());
    }
    match socket.read() {
        Ok(Message::Text(text)) => shared.with(|state, now| {
            if text.contains("\"heartbeat\"") {
                let silent = state.armed.take(|m| (*m == Mischief::NoHeartbeatReplies).then_some(()));
                state.hub.config_mut().heartbeat_replies = silent.is_none();
            }
            state.hub.text(now, conn, &text);
        }),
        Ok(Message::Binary(bytes)) => shared.with(|state, now| state.hub.binary(now, conn, &bytes)),
        Ok(_) => shared.with(|state, now| state.hub.alive(now, conn)),
        Err(Error::Io(error)) if waits(&error) => {}
        Err(Error::Utf8(_)) => return Turn::Close(1007, String::new()),
        Err(Error::Protocol(_)) => return Turn::Close(1002, String::new()),
        // Closed, cut, or too large: the real server ends those without a word.
        Err(_) => return Turn::End,
    }
    Turn::Again
}

/// Reads nothing for a while, if that was asked for. Returns false if the connection ended meanwhile.
fn stays_through_busy_time(socket: &mut WebSocket<Stream>, shared: &Shared) -> bool {
    let busy = shared.with(|state, _| {
        state.armed.take(|m| if let Mischief::BusySocket { ms } = m { Some(*ms) } else { None })
    });
    let until = shared.now_ms() + busy.unwrap_or_default();
    while shared.now_ms() < until && !shared.stopping() {
        match socket.send(Message::Ping(Vec::new().into())) {
            Ok(()) => {}
            Err(Error::Io(error)) if waits(&error) => {}
            Err(_) => return false,
        }
        shared.pause(Duration::from_millis(10));
    }
    true
}

/// Sends a close frame and ends TCP at once, as the real server does; what the peer still sends is
/// read for a moment so that no reset overtakes the frame.
fn close(socket: &mut WebSocket<Stream>, code: u16, reason: &str) {
    let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
    let _ = socket.close(Some(frame));
    let _ = socket.flush();
    let stream = socket.get_mut();
    stream.finish();
    let mut sink = [0; 4096];
    for _ in 0..LINGER_TURNS {
        match stream.read(&mut sink) {
            Ok(1..) => {}
            Err(error) if waits(&error) => {}
            _ => break,
        }
    }
}

/// Reads of at most one tick each before a closed connection is dropped.
const LINGER_TURNS: usize = 50;

/// The headers of an accepted upgrade.
pub(crate) fn upgraded(accept: &str) -> [(String, String); 4] {
    [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", accept),
        ("cache-control", "max-age=0, private, must-revalidate"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// What the key of an upgrade request is answered with; why it is refused if it is none.
pub(crate) fn accept_key(request: &Request) -> Result<String, Refusal> {
    let bad = |body: String| Refusal { status: 400, headers: Refusal::new(400, "").headers, body };
    if request.method != "GET" {
        return Err(bad(format!("'method' must equal 'GET', got {:?}", request.method)));
    }
    if !request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Err(bad("'upgrade' header must contain 'websocket', got []".to_owned()));
    }
    let version = request.header("sec-websocket-version");
    if version != Some("13") {
        let got = version.map(|v| format!("{v:?}")).unwrap_or_default();
        return Err(bad(format!("'sec-websocket-version' header must equal '13', got [{got}]")));
    }
    let key = request.header("sec-websocket-key");
    let key = key.ok_or_else(|| bad("'sec-websocket-key' header must be present".to_owned()))?;
    Ok(tungstenite::handshake::derive_accept_key(key.as_bytes()))
}

fn message_of(garbage: &Garbage) -> Message {
    match garbage {
        Garbage::InvalidJson => Message::text("{\"this is\": no JSON"),
        Garbage::WrongArity => Message::text("[null,null,\"device\"]"),
        Garbage::NotAnArray => Message::text("{\"event\":\"update\"}"),
        Garbage::InvalidUtf8 => {
            let frame = Frame::message(vec![0xff, 0xfe, 0x80], OpCode::Data(Data::Text), true);
            Message::Frame(frame)
        }
        Garbage::Binary => Message::binary(vec![0xff, 0xfe, 0xfd, 0, 1, 2]),
        Garbage::UnknownEvent => Message::text("[null,null,\"device\",\"dance\",{\"with\":[1,null]}]"),
        Garbage::WrongPayload => Message::text("[null,null,\"device\",\"update\",[\"firmware_url\",7]]"),
        Garbage::UnknownTopic => Message::text("[\"77\",\"78\",\"weather\",\"rain\",{}]"),
        Garbage::Oversize(length) => Message::text("x".repeat(*length)),
    }
}
