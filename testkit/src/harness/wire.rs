//! Messages of a server, to a device that is joined, in JSON and in MessagePack.

use nerves_hub_link_protocol::limits::MAX_OUTPUTS;
use nerves_hub_link_protocol::{
    Command, ConnectionState, Decision, Event, Input, Link, Output, Serializer, SocketId,
};

use super::input::Source;
use super::link_world::{config, start};

/// Divides the messages of an input.
const DIVIDER: u8 = 0x1e;
/// Marks a message as binary.
const BINARY: u8 = 0x1f;
/// Bytes of messages taken.
const TEXT_MAX: usize = 64 * 1024;

/// The answer to the join.
const JOINED: &str = r#"["1","1","device","phx_reply",{"status":"ok","response":{}}]"#;
const JOINED_MSGPACK: &[u8] = b"\x95\xa11\xa11\xa6device\xa9phx_reply\x82\xa6status\xa2ok\xa8response\x80";

/// Hands messages to a device that is joined, which takes every offer it is made.
///
/// # Panics
/// When a message costs the connection, more is wanted of the adapter than a message can cause, or the same
/// messages lead to something else the second time.
pub fn wire_json(data: &[u8]) {
    let data = data.get(..TEXT_MAX).unwrap_or(data);
    let messages: Vec<_> = data
        .split(|byte| *byte == DIVIDER)
        .map(|message| match message.split_first() {
            Some((&BINARY, data)) => Message::Binary(data),
            _ => Message::Text(String::from_utf8_lossy(message).into_owned()),
        })
        .collect();
    let run = || talk(Serializer::Json, &Message::Text(JOINED.to_owned()), &messages);
    assert_eq!(run(), run(), "a second run differs");
}

/// Hands messages to a device that is joined and speaks MessagePack: each its length in two bytes, then it.
///
/// # Panics
/// As [`wire_json`].
pub fn wire_msgpack(data: &[u8]) {
    let mut source = Source::new(data.get(..TEXT_MAX).unwrap_or(data));
    let mut messages = Vec::new();
    while !source.is_empty() {
        let length = usize::from(source.short());
        messages.push(Message::Binary(source.take(length)));
    }
    let run = || talk(Serializer::MsgPack, &Message::Binary(JOINED_MSGPACK), &messages);
    assert_eq!(run(), run(), "a second run differs");
}

enum Message<'a> {
    Text(String),
    Binary(&'a [u8]),
}

impl Message<'_> {
    fn input(&self, socket: SocketId) -> Input<'_> {
        match self {
            Self::Text(text) => Input::SocketText { socket, text },
            Self::Binary(data) => Input::SocketBinary { socket, data },
        }
    }
}

fn talk(serializer: Serializer, joined: &Message<'_>, messages: &[Message<'_>]) -> Vec<Output> {
    let now = start();
    let mut config = config(0);
    config.serializer = serializer;
    let made = Link::new(config, 1, now);
    assert!(made.is_ok(), "the configuration to begin with");
    let Ok(mut link) = made else { return Vec::new() };
    let connected = link.command(now, Command::Connect);
    assert_eq!(connected, Ok(()));
    let socket = SocketId(1);
    link.handle(now, Input::SocketUp { socket, interface: None });
    link.handle(now, joined.input(socket));
    let mut outputs = Vec::new();
    drain(&mut link, &mut outputs);
    assert_eq!(link.status().connection, ConnectionState::Joined, "joined to begin with: {outputs:?}");
    for message in messages {
        link.handle(now, message.input(socket));
        drain(&mut link, &mut outputs);
        let state = link.status().connection;
        assert!(state >= ConnectionState::Connected, "{state:?} after {:?}", message.input(socket));
        outputs.truncate(4 * MAX_OUTPUTS);
    }
    outputs
}

fn drain(link: &mut Link, outputs: &mut Vec<Output>) {
    let now = start();
    let mut new = 0;
    while let Some(output) = link.poll() {
        new += 1;
        match &output {
            Output::Send { socket, .. } | Output::SendBinary { socket, .. } => {
                link.handle(now, Input::SocketSent { socket: *socket, frames: 1 });
            }
            Output::Event(Event::UpdateOffered { offer, .. }) => {
                let taken = link.command(now, Command::Decide { offer: *offer, decision: Decision::Apply });
                assert_eq!(taken, Ok(()), "an offer that was just made");
            }
            _ => {}
        }
        outputs.push(output);
        assert!(new <= MAX_OUTPUTS, "{new} outputs from one message");
    }
}
