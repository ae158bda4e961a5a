//! Both ends of the WebSocket: our socket against tungstenite's server role, in memory.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use crate::common::*;
use proptest::prelude::*;
use tungstenite::protocol::{CloseFrame, Role, WebSocket};
use tungstenite::{Error, Message};

#[derive(Default)]
struct Memory {
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tungstenite server that sends each message back, then follows its script.
struct Echo {
    server: WebSocket<Memory>,
    upgraded: bool,
    got: Vec<Message>,
}

impl Echo {
    fn new() -> Self {
        Self {
            server: WebSocket::from_raw_socket(Memory::default(), Role::Server, None),
            upgraded: false,
            got: Vec::new(),
        }
    }

    fn turn(&mut self, peer: &mut Peer) {
        if !self.upgraded {
            let Some(end) = find(&peer.inbox, b"\r\n\r\n") else { return };
            peer.inbox.drain(..end + 4);
            peer.send(upgraded());
            self.upgraded = true;
        }
        self.server.get_mut().input.extend(peer.inbox.drain(..));
        loop {
            match self.server.read() {
                Ok(message) => {
                    if message.is_text() || message.is_binary() {
                        self.server.send(message.clone()).unwrap();
                    }
                    self.got.push(message);
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => break,
                Err(error) => panic!("the server refused what we sent: {error}"),
            }
        }
        let out = std::mem::take(&mut self.server.get_mut().output);
        peer.send(out);
    }
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let length = prop_oneof![0usize..200, 100usize..140, 65_000usize..66_000];
    let text = (length.clone(), "[a-zäö€𝄞]{1,4}")
        .prop_map(|(length, seed)| Message::text(seed.chars().cycle().take(length).collect::<String>()));
    let binary = (length, any::<u8>()).prop_map(|(length, first)| {
        Message::binary((first..=u8::MAX).cycle().take(length).collect::<Vec<_>>())
    });
    prop::collection::vec(prop_oneof![text, binary], 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_come_back_as_they_were_sent(
        messages in messages(),
        sizes in prop::collection::vec(1usize..5000, 1..8),
        link in prop::sample::select(LINKS.to_vec()),
    ) {
        let mut socket = socket(link);
        let mut peer = link.peer();
        let mut echo = Echo::new();
        let mut sent = false;
        let seen = converse(&mut socket, &mut peer, &mut Cuts::of(sizes), Finish::Stay, |socket, peer, seen| {
            echo.turn(peer);
            if !sent && seen == [Seen::Up] {
                sent = true;
                for message in &messages {
                    match message {
                        Message::Text(text) => socket.send_text(text).unwrap(),
                        Message::Binary(bytes) => socket.send_binary(bytes).unwrap(),
                        other => panic!("{other:?}"),
                    }
                }
            }
            false
        });
        prop_assert_eq!(&echo.got, &messages);
        let expected: Vec<Seen> = std::iter::once(Seen::Up)
            .chain(messages.iter().map(|message| match message {
                Message::Text(text) => Seen::Text(text.to_string()),
                other => Seen::Binary(other.clone().into_data().to_vec()),
            }))
            .collect();
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn pings_both_ways_and_a_close_from_each_side() {
    for link in LINKS {
        for cuts in [Cuts::whole(), Cuts::bytewise()] {
            for we_close in [true, false] {
                let mut socket = socket(link);
                let mut peer = link.peer();
                let mut echo = Echo::new();
                let mut step = 0;
                let seen = converse(
                    &mut socket,
                    &mut peer,
                    &mut cuts.clone(),
                    Finish::Stay,
                    |socket, peer, seen| {
                        match (step, seen.len()) {
                            (0, 1) => {
                                socket.ping().unwrap();
                                step = 1;
                            }
                            (1, 2) => {
                                echo.server.send(Message::Ping(b"are you there".to_vec().into())).unwrap();
                                step = 2;
                            }
                            (2, 3) if we_close => {
                                socket.close(1000, "done");
                                step = 3;
                            }
                            (2, 3) => {
                                let code = 1012.into();
                                echo.server
                                    .close(Some(CloseFrame { code, reason: "draining".into() }))
                                    .unwrap();
                                step = 3;
                            }
                            _ => {}
                        }
                        echo.turn(peer);
                        false
                    },
                );
                let (code, reason) = if we_close { (1000, "done") } else { (1012, "draining") };
                // Whoever closes first hears its own code back; tungstenite repeats the reason too.
                assert_eq!(
                    seen,
                    [Seen::Up, Seen::Alive, Seen::Alive, Seen::Closed(Some(code), reason.into())]
                );
                assert_eq!(echo.got[0], Message::Ping(Vec::new().into()));
                assert_eq!(echo.got[1], Message::Pong(b"are you there".to_vec().into()));
                assert!(matches!(&echo.got[2], Message::Close(Some(close)) if u16::from(close.code) == code));
            }
        }
    }
}
