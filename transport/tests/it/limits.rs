//! Every limit: what happens at it and one past it.

use crate::common::*;
use nerves_hub_link_transport::limits::*;
use nerves_hub_link_transport::{
    Exchange, ExchangeEvent, ExchangeRequest, Socket, SocketEvent, SocketRequest, TransportError,
};

fn fetch(answered: &[u8]) -> Vec<Seen> {
    let mut exchange =
        Exchange::new(&ExchangeRequest { url: "http://hub.test/", headers: &[], tls: None }).unwrap();
    answer(&mut exchange, Link::Plain, &mut Cuts::whole(), answered, Finish::Stay).0
}

fn open() -> Socket {
    let mut socket =
        Socket::new(&SocketRequest { url: "ws://hub.test/", headers: &[], tls: None }, RANDOM).unwrap();
    Machine::take_out(&mut socket);
    socket.receive(upgraded().as_bytes());
    assert_eq!(socket.poll(), Some(SocketEvent::Up));
    socket
}

/// Feeds `bytes` in pieces, polling after each.
fn feed(socket: &mut Socket, bytes: &[u8]) -> Vec<SocketEvent> {
    let mut events = Vec::new();
    for piece in bytes.chunks(64 * 1024) {
        socket.receive(piece);
        while let Some(event) = socket.poll() {
            events.push(event);
        }
    }
    events
}

#[test]
fn response_head() {
    let head = |size: usize| {
        let frame = "HTTP/1.1 204 No Content\r\nx: \r\n\r\n";
        frame.replace("x: ", &format!("x: {}", "y".repeat(size - frame.len()))).into_bytes()
    };
    assert_eq!(head(HEAD_MAX).len(), HEAD_MAX);
    assert!(matches!(fetch(&head(HEAD_MAX)).as_slice(), [Seen::Head(204, _), Seen::End]));
    let over = TransportError::HeadTooLarge { host: HOST.into(), limit: HEAD_MAX }.to_string();
    assert_eq!(fetch(&head(HEAD_MAX + 1)), [Seen::Failed(over.clone())]);
    // An endless head fails as soon as the limit is reached.
    let endless = &head(2 * HEAD_MAX)[..HEAD_MAX];
    assert_eq!(fetch(endless), [Seen::Failed(over)]);
    assert_eq!(fetch(&endless[..HEAD_MAX - 1]), []);
}

#[test]
fn response_headers() {
    let head =
        |count: usize| format!("HTTP/1.1 204 No Content\r\n{}\r\n", "x: y\r\n".repeat(count)).into_bytes();
    assert!(
        matches!(fetch(&head(HEADERS_MAX)).as_slice(), [Seen::Head(204, headers), Seen::End] if headers.len() == HEADERS_MAX)
    );
    let over = TransportError::TooManyHeaders { host: HOST.into(), limit: HEADERS_MAX }.to_string();
    assert_eq!(fetch(&head(HEADERS_MAX + 1)), [Seen::Failed(over)]);
}

#[test]
fn interim_responses() {
    let with = |count| {
        format!("{}HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(count))
    };
    assert!(matches!(fetch(with(INTERIM_MAX).as_bytes()).as_slice(), [Seen::Head(204, _), Seen::End]));
    let seen = fetch(with(INTERIM_MAX + 1).as_bytes());
    assert!(matches!(seen.as_slice(), [Seen::Failed(why)] if why.contains("too many interim")), "{seen:?}");
}

#[test]
fn trailers() {
    let with =
        |trailer: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{trailer}\r\n");
    // The last chunk's own line may be counted with its trailers, depending on the cut: 3 bytes.
    let line = "a: b\r\n";
    let most = line.repeat((TRAILER_MAX - 8) / line.len());
    assert!(matches!(fetch(with(&most).as_bytes()).as_slice(), [Seen::Head(..), Seen::End]));
    let over = with(&line.repeat(TRAILER_MAX / line.len() + 1));
    for cuts in [Cuts::whole(), Cuts::bytewise(), Cuts::of(vec![7, 100])] {
        let mut exchange =
            Exchange::new(&ExchangeRequest { url: "http://hub.test/", headers: &[], tls: None }).unwrap();
        let (seen, _) = answer(&mut exchange, Link::Plain, &mut cuts.clone(), over.as_bytes(), Finish::Stay);
        assert!(
            matches!(seen.as_slice(), [_, Seen::Failed(why)] if why.contains("trailers")),
            "{cuts:?} {seen:?}"
        );
    }
}

#[test]
fn lines_of_chunked_framing() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let waiting = fetch(format!("{head}{}", "1".repeat(HEAD_MAX - 1)).as_bytes());
    assert!(matches!(waiting.as_slice(), [Seen::Head(..)]), "{waiting:?}");
    let over = fetch(format!("{head}{}", "1".repeat(HEAD_MAX)).as_bytes());
    assert!(
        matches!(over.as_slice(), [_, Seen::Failed(why)] if why.contains("line of the chunked framing")),
        "{over:?}"
    );
}

#[test]
fn refused_body() {
    for (size, kept) in [
        (REFUSED_BODY_MAX - 1, REFUSED_BODY_MAX - 1),
        (REFUSED_BODY_MAX, REFUSED_BODY_MAX),
        (REFUSED_BODY_MAX + 1, REFUSED_BODY_MAX),
    ] {
        let bytes = format!("HTTP/1.1 401 No\r\ncontent-length: {size}\r\n\r\n{}", "x".repeat(size));
        let (seen, _) =
            answer(&mut socket(Link::Plain), Link::Plain, &mut Cuts::whole(), bytes.as_bytes(), Finish::Stay);
        assert!(matches!(seen.as_slice(), [Seen::Refused(401, _, body)] if body.len() == kept), "{size}");
    }
}

#[test]
fn request_head() {
    let new = |size: usize| {
        let headers = [("x".to_owned(), "y".repeat(size))];
        let request = ExchangeRequest { url: "http://hub.test/", headers: &headers, tls: None };
        Exchange::new(&request).map(|mut exchange| exchange.transmit().len())
    };
    let rest = new(0).unwrap();
    assert_eq!(new(REQUEST_MAX - rest), Ok(REQUEST_MAX));
    assert_eq!(new(REQUEST_MAX - rest + 1), Err(TransportError::RequestTooLarge { limit: REQUEST_MAX }));
    assert_eq!(new(10 * REQUEST_MAX), Err(TransportError::RequestTooLarge { limit: REQUEST_MAX }));
    let many = vec![(String::from("x"), String::new()); 100_000];
    let request = ExchangeRequest { url: "http://hub.test/", headers: &many, tls: None };
    assert_eq!(Exchange::new(&request).unwrap_err(), TransportError::RequestTooLarge { limit: REQUEST_MAX });
}

#[test]
fn messages_received() {
    let most = vec![b'x'; MESSAGE_MAX];
    assert_eq!(FRAME_MAX, MESSAGE_MAX);
    let whole = frame(0x82, &most);
    assert!(feed(&mut open(), &whole) == [SocketEvent::Binary(most.clone())]);
    // In two fragments, at the limit and one past it; the second is refused by its header alone.
    let (front, back) = most.split_at(MESSAGE_MAX / 2);
    let fragments = [frame(0x01, front), frame(0x80, back)].concat();
    assert!(
        matches!(feed(&mut open(), &fragments).as_slice(), [SocketEvent::Text(text)] if text.len() == MESSAGE_MAX)
    );
    let mut socket = open();
    assert_eq!(feed(&mut socket, &frame(0x01, front)), []);
    let header = &frame(0x80, &vec![0; MESSAGE_MAX / 2 + 1])[..10];
    let events = feed(&mut socket, header);
    assert!(
        matches!(events.as_slice(), [SocketEvent::Failed(TransportError::WebSocket { code: 1009, .. })]),
        "{events:?}"
    );
    let events = feed(&mut open(), &frame(0x82, &vec![0; FRAME_MAX + 1])[..10]);
    assert!(
        matches!(events.as_slice(), [SocketEvent::Failed(TransportError::WebSocket { code: 1009, .. })]),
        "{events:?}"
    );
}

#[test]
fn messages_sent() {
    let mut socket = open();
    let text = "x".repeat(MESSAGE_MAX + 1);
    assert_eq!(
        socket.send_text(&text),
        Err(TransportError::MessageTooLarge { size: MESSAGE_MAX + 1, limit: MESSAGE_MAX })
    );
    assert_eq!(socket.transmit(), b"", "nothing of a refused message is sent");
    assert_eq!(socket.send_text(&text[1..]), Ok(()));
    assert!(socket.transmit().len() <= TRANSMIT_MAX);
}

#[test]
fn bytes_queued() {
    for link in LINKS {
        let (mut socket, mut peer) = (socket(link), link.peer());
        let mut done = false;
        converse(&mut socket, &mut peer, &mut Cuts::whole(), Finish::Stay, |socket, peer, seen| {
            if seen.is_empty() && find(&peer.inbox, b"\r\n\r\n").is_some() {
                peer.send(upgraded());
            } else if !done && seen == [Seen::Up] {
                done = true;
                // One largest message always fits an empty queue; then small ones, until it is full.
                socket.send_binary(&vec![0; MESSAGE_MAX]).unwrap();
                let full = loop {
                    match socket.send_binary(&[0; 1000]) {
                        Ok(()) => {}
                        Err(error) => break error,
                    }
                };
                let queued = socket.transmit().len();
                assert_eq!(full, TransportError::TransmitFull { queued, limit: TRANSMIT_MAX });
                // What the connection itself has to say still fits.
                socket.close(1000, &"x".repeat(CLOSE_REASON_MAX));
                assert!((TRANSMIT_MAX - 5000..=TRANSMIT_MAX).contains(&socket.transmit().len()));
                let sent = Machine::take_out(socket);
                peer.receive(&sent);
                assert_eq!(socket.transmit(), b"");
            }
            false
        });
        assert!(done);
        let frames = frames_sent(&peer);
        assert_eq!((frames[0].0, frames[0].1.len()), (0x82, MESSAGE_MAX));
        assert_eq!(frames.last().unwrap().0, 0x88);
    }
}

#[test]
fn received_and_not_polled() {
    let mut socket = open();
    socket.receive(&frame(0x8a, b"").repeat(RECEIVE_PENDING_MAX / 2));
    let mut alive = 0;
    while let Some(event) = socket.poll() {
        assert_eq!(event, SocketEvent::Alive);
        alive += 1;
    }
    assert_eq!(alive, RECEIVE_PENDING_MAX / 2);

    let mut exchange =
        Exchange::new(&ExchangeRequest { url: "http://hub.test/", headers: &[], tls: None }).unwrap();
    let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    bytes.resize(RECEIVE_PENDING_MAX, b'x');
    exchange.receive(&bytes);
    exchange.receive(b"y");
    // What was taken is still good; the failure comes where the missing bytes would have been.
    let mut received = 0;
    let last = loop {
        match exchange.poll() {
            Some(ExchangeEvent::Body(piece)) => received += piece.len(),
            Some(ExchangeEvent::Head { .. }) => {}
            other => break other,
        }
    };
    assert_eq!(
        last,
        Some(ExchangeEvent::Failed(TransportError::ReceiveOverrun { limit: RECEIVE_PENDING_MAX }))
    );
    assert_eq!(received, RECEIVE_PENDING_MAX - 19);
}

#[test]
fn pings_without_end_and_a_network_that_takes_nothing() {
    let mut socket = open();
    let ping = |payload: &[u8]| frame(0x89, payload);
    for number in 0..10_000u32 {
        socket.receive(&ping(&[&number.to_be_bytes()[..], &[0; CONTROL_MAX - 4]].concat()));
        assert_eq!(socket.poll(), Some(SocketEvent::Alive));
    }
    let queued = socket.transmit().len();
    assert!(queued <= PONG_BACKLOG_MAX + CONTROL_MAX + 14, "{queued}");
    let mut sent = Machine::take_out(&mut socket);
    sent.extend(Machine::take_out(&mut socket));
    let pongs = client_frames(&sent);
    let numbers: Vec<u32> =
        pongs.iter().map(|(_, payload)| u32::from_be_bytes(payload[..4].try_into().unwrap())).collect();
    // The first ones while there was room, and the newest in the end.
    assert_eq!(numbers.last(), Some(&9_999));
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]) && numbers.len() < 200, "{}", numbers.len());
}
