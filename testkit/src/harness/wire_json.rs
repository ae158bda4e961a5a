//! Messages of a server, to a device that is joined.

use nerves_hub_link_protocol::limits::MAX_OUTPUTS;
use nerves_hub_link_protocol::{Command, ConnectionState, Decision, Event, Input, Link, Output, SocketId};

use super::link_world::{config, start};

/// Divides the messages of an input.
const DIVIDER: u8 = 0x1e;
/// Marks a message as binary.
const BINARY: u8 = 0x1f;
/// Bytes of messages taken.
const TEXT_MAX: usize = 64 * 1024;

/// Hands messages to a device that is joined, which takes every offer it is made.
///
/// # Panics
/// When a message costs the connection, more is wanted of the adapter than a message can cause, or the same
/// messages lead to something else the second time.
pub fn wire_json(data: &[u8]) {
    let data = data.get(..TEXT_MAX).unwrap_or(data);
    assert_eq!(talk(data), talk(data), "a second run differs");
}

fn talk(data: &[u8]) -> Vec<Output> {
    let now = start();
    let made = Link::new(config(0), 1, now);
    assert!(made.is_ok(), "the configuration to begin with");
    let Ok(mut link) = made else { return Vec::new() };
    let connected = link.command(now, Command::Connect);
    assert_eq!(connected, Ok(()));
    let socket = SocketId(1);
    link.handle(now, Input::SocketUp { socket, interface: None });
    let join = r#"["1","1","device","phx_reply",{"status":"ok","response":{}}]"#;
    link.handle(now, Input::SocketText { socket, text: join });
    let mut outputs = Vec::new();
    drain(&mut link, &mut outputs);
    assert_eq!(link.status().connection, ConnectionState::Joined, "joined to begin with: {outputs:?}");
    for message in data.split(|byte| *byte == DIVIDER) {
        if let Some((&BINARY, data)) = message.split_first() {
            link.handle(now, Input::SocketBinary { socket, data });
        } else {
            let text = String::from_utf8_lossy(message);
            link.handle(now, Input::SocketText { socket, text: &text });
        }
        drain(&mut link, &mut outputs);
        let state = link.status().connection;
        assert!(state >= ConnectionState::Connected, "{state:?} after {message:?}");
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
            Output::Send { socket, .. } => {
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
