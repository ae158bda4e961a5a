//! The server's end of a WebSocket: the request, the answer to it, and frames both ways, by tungstenite's whole
//! WebSocket, which the device's machine does not use.

use std::io::{self, ErrorKind, Read, Write};

use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame as WireFrame};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::witness::Witness;
use crate::limits::MESSAGE;
use crate::sim::dice::Rng;
use crate::sim::message::Frame;

/// The server's end of a connection.
#[derive(Debug)]
pub(in crate::sim) enum Far {
    /// It reads the request: what came of it.
    Request(Vec<u8>),
    /// It speaks WebSocket.
    Open(Box<WebSocket<Tube>>),
    /// It answers a download.
    File,
    /// It has said its last word.
    Over,
}

/// What comes from a device.
#[derive(Debug)]
pub(in crate::sim) enum Heard {
    Message(Frame),
    Pong(Vec<u8>),
    /// The device ended, and was answered.
    Closed,
    /// Nothing a device should send.
    Nonsense(String),
}

/// The bytes below a WebSocket.
#[derive(Debug, Default)]
pub(in crate::sim) struct Tube {
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
}

impl Read for Tube {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut there = self.input.get(self.read..).unwrap_or_default();
        if there.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = there.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

impl Write for Tube {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Far {
    /// The upgrade was accepted.
    pub fn open() -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(2048)
            .write_buffer_size(0)
            .max_message_size(Some(MESSAGE))
            .max_frame_size(Some(MESSAGE));
        Self::Open(Box::new(WebSocket::from_raw_socket(Tube::default(), Role::Server, Some(config))))
    }

    /// Takes bytes of the device.
    pub fn receive(&mut self, bytes: &[u8]) {
        match self {
            Self::Request(request) => request.extend_from_slice(bytes),
            Self::Open(socket) => {
                let tube = socket.get_mut();
                tube.input.drain(..std::mem::take(&mut tube.read));
                tube.input.extend_from_slice(bytes);
            }
            Self::File | Self::Over => {}
        }
    }

    /// What those bytes say next.
    pub fn next(&mut self) -> Option<Heard> {
        let Self::Open(socket) = self else { return None };
        loop {
            return Some(match socket.read() {
                Ok(Message::Text(text)) => Heard::Message(Frame::Text(text.as_str().to_owned())),
                Ok(Message::Binary(data)) => Heard::Message(Frame::Binary(data.to_vec())),
                Ok(Message::Pong(payload)) => Heard::Pong(payload.to_vec()),
                // Answered inside.
                Ok(Message::Ping(_)) => continue,
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Heard::Closed,
                Ok(Message::Frame(_)) => Heard::Nonsense("a frame of a message".to_owned()),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => Heard::Nonsense(error.to_string()),
            });
        }
    }

    /// Says a message: at once, or in fragments cut anywhere, with pings between them.
    pub fn say(&mut self, frame: &Frame, witness: &mut Witness, rng: &mut Rng) {
        let Self::Open(socket) = self else { return };
        witness.says(frame);
        let kind = if matches!(frame, Frame::Text(_)) { Data::Text } else { Data::Binary };
        // Writing into memory can't fail, and the socket is open.
        let mut write = |message| drop(socket.send(message));
        let mut rest = frame.bytes();
        let mut first = true;
        let pieces = if rng.one_in(4) { rng.within(1, 4) } else { 0 };
        for _ in 0..pieces {
            let at = usize::try_from(rng.below(rest.len() as u64 + 1)).unwrap_or(0);
            let (piece, behind) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            let kind = if std::mem::take(&mut first) { kind } else { Data::Continue };
            write(Message::Frame(WireFrame::message(piece.to_vec(), OpCode::Data(kind), false)));
            rest = behind;
            if rng.one_in(2) {
                let payload = if rng.one_in(2) { rng.bits().to_le_bytes().to_vec() } else { Vec::new() };
                witness.pings(&payload);
                write(Message::Ping(payload.into()));
            } else if rng.one_in(4) {
                write(Message::Pong(Vec::new().into()));
            }
        }
        let kind = if first { kind } else { Data::Continue };
        write(Message::Frame(WireFrame::message(rest.to_vec(), OpCode::Data(kind), true)));
    }

    /// Says bytes that are no frame.
    pub fn say_bytes(&mut self, bytes: &[u8], witness: &mut Witness) {
        if let Self::Open(socket) = self {
            witness.garbage();
            socket.get_mut().output.extend_from_slice(bytes);
        }
    }

    /// Asks whether the device is there.
    pub fn ping(&mut self, witness: &mut Witness) {
        if let Self::Open(socket) = self {
            witness.pings(b"here?");
            drop(socket.send(Message::Ping(b"here?".to_vec().into())));
        }
    }

    /// Says goodbye, some without a code, and nothing behind it. Returns the code.
    pub fn close(&mut self, code: u16, rng: &mut Rng) -> Option<u16> {
        let Self::Open(socket) = self else { return None };
        let code = (!rng.one_in(8)).then_some(code);
        let reason = if rng.one_in(2) { "" } else { "tschüß" };
        let frame = code.map(|code| CloseFrame { code: CloseCode::from(code), reason: reason.into() });
        drop(socket.close(frame));
        code
    }

    /// The bytes for the device.
    pub fn take_output(&mut self) -> Vec<u8> {
        match self {
            Self::Open(socket) => std::mem::take(&mut socket.get_mut().output),
            _ => Vec::new(),
        }
    }
}
