//! WebSocket frames after the upgrade: plain bytes in, messages out; messages in, masked frames out.
//!
//! Headers, opcodes and close codes are tungstenite's frame codec. Its `WebSocket` type is not used on
//! top: it reserves as much memory as a peer announces, draws masks from a generator of its own, and
//! refuses the reserved bit that permessage-deflate needs.

use std::io::Cursor;

use sha2::{Digest as _, Sha256};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::TransportError;
use crate::limits::{CLOSE_REASON_MAX, CONTROL_MAX, FRAME_MAX, MESSAGE_MAX, PLAINTEXT_TARGET};

/// The longest header: two bytes, eight of length, four of mask (RFC 6455 §5.2).
const HEADER_MAX: usize = 14;

/// A whole message or control frame.
pub(crate) enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close { code: Option<u16>, reason: String },
}

/// A breach of the protocol and the code to close with.
pub(crate) struct Breach {
    pub(crate) code: u16,
    pub(crate) why: String,
}

const PROTOCOL: u16 = 1002;
const INVALID: u16 = 1007;
const TOO_BIG: u16 = 1009;
/// Not a breach of the peer's, but a mistake of this library.
pub(crate) const INTERNAL: u16 = 1011;

/// Turns received bytes into messages.
#[derive(Default)]
pub(crate) struct Decoder {
    /// The frame being read, and how much of its payload is to come.
    frame: Option<(FrameHeader, usize)>,
    /// The kind of the unfinished message, and what came of it.
    kind: Option<Data>,
    message: Vec<u8>,
    control: Vec<u8>,
}

impl Decoder {
    /// Reads on from the front of `input`; answers how many bytes to drop, and a message when one is
    /// whole. Nothing dropped and no message: more input is needed.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<(usize, Option<Incoming>), Breach> {
        let (header, left, head) = match self.frame.take() {
            Some((header, left)) => (header, left, 0),
            None => match self.header(input)? {
                Some(found) => found,
                None => return Ok((0, None)),
            },
        };
        let body = input.get(head..).ok_or_else(|| internal("a header ends behind what was received"))?;
        // The rest of the payload may still be on its way.
        let part = body.get(..left).unwrap_or(body);
        let control = matches!(header.opcode, OpCode::Control(_));
        // Memory grows with what arrived, never with what was announced.
        if control {
            self.control.extend_from_slice(part);
        } else {
            self.message.extend_from_slice(part);
        }
        let (consumed, left) = (head + part.len(), left - part.len());
        if left > 0 {
            self.frame = Some((header, left));
            return Ok((consumed, None));
        }
        let incoming = match header.opcode {
            OpCode::Control(control) => Some(self.control(control)?),
            OpCode::Data(_) if header.is_final => Some(self.message()?),
            OpCode::Data(_) => None,
        };
        Ok((consumed, incoming))
    }

    /// Reads and judges a frame header: the header, the payload's length, the header's own length.
    fn header(&mut self, input: &[u8]) -> Result<Option<(FrameHeader, usize, usize)>, Breach> {
        let mut cursor = Cursor::new(input.get(..HEADER_MAX).unwrap_or(input));
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| breach("a frame with a reserved opcode"))?;
        let Some((header, length)) = parsed else { return Ok(None) };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(breach("a frame with reserved bits set, though no extension was agreed on"));
        }
        if header.mask.is_some() {
            return Err(breach("a masked frame, which only clients may send"));
        }
        match header.opcode {
            OpCode::Control(_) if !header.is_final => return Err(breach("a control frame in fragments")),
            OpCode::Control(_) if length > CONTROL_MAX as u64 => {
                return Err(breach("a control frame of more than 125 bytes"));
            }
            OpCode::Data(Data::Continue) if self.kind.is_none() => {
                return Err(breach("a continuation frame with nothing to continue"));
            }
            OpCode::Data(Data::Text | Data::Binary) if self.kind.is_some() => {
                return Err(breach("a new message inside a fragmented one"));
            }
            OpCode::Data(kind @ (Data::Text | Data::Binary)) => self.kind = Some(kind),
            _ => {}
        }
        debug_assert!(self.message.len() <= MESSAGE_MAX, "more of a message was kept than is allowed");
        let room = FRAME_MAX.min(MESSAGE_MAX.saturating_sub(self.message.len()));
        let length = match usize::try_from(length) {
            Ok(length) if length <= room || matches!(header.opcode, OpCode::Control(_)) => length,
            _ => {
                let why = format!("a message of more than {MESSAGE_MAX} bytes");
                return Err(Breach { code: TOO_BIG, why });
            }
        };
        let head = usize::try_from(cursor.position()).map_err(|_| internal("a header ends nowhere"))?;
        Ok(Some((header, length, head)))
    }

    fn message(&mut self) -> Result<Incoming, Breach> {
        let bytes = std::mem::take(&mut self.message);
        match self.kind.take() {
            Some(Data::Text) => String::from_utf8(bytes)
                .map(Incoming::Text)
                .map_err(|_| Breach { code: INVALID, why: "a text message that is not UTF-8".to_owned() }),
            Some(Data::Binary) => Ok(Incoming::Binary(bytes)),
            Some(Data::Continue | Data::Reserved(_)) | None => Err(internal("a message of no kind ended")),
        }
    }

    fn control(&mut self, control: Control) -> Result<Incoming, Breach> {
        let payload = std::mem::take(&mut self.control);
        match control {
            Control::Ping => Ok(Incoming::Ping(payload)),
            Control::Pong => Ok(Incoming::Pong),
            Control::Close => close_frame(&payload),
            // The codec refused these already.
            Control::Reserved(_) => Err(breach("a frame with a reserved opcode")),
        }
    }
}

fn close_frame(payload: &[u8]) -> Result<Incoming, Breach> {
    let (code, reason) = match payload {
        [] => return Ok(Incoming::Close { code: None, reason: String::new() }),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(breach("a close frame with half a code")),
    };
    if !CloseCode::from(code).is_allowed() {
        return Err(breach(&format!("the close code {code}, which must not be sent")));
    }
    match String::from_utf8(reason.to_vec()) {
        Ok(reason) => Ok(Incoming::Close { code: Some(code), reason }),
        Err(_) => Err(Breach { code: INVALID, why: "a close reason that is not UTF-8".to_owned() }),
    }
}

fn breach(why: &str) -> Breach {
    Breach { code: PROTOCOL, why: why.to_owned() }
}

fn internal(what: &str) -> Breach {
    debug_assert!(false, "internal error: {what}");
    Breach { code: INTERNAL, why: what.to_owned() }
}

/// Turns messages into masked frames.
pub(crate) struct Encoder {
    masks: Masks,
}

impl Encoder {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        Self { masks: Masks { seed, count: 0 } }
    }

    /// Writes one unfragmented frame, piece by piece.
    pub(crate) fn frame(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        mut write: impl FnMut(&[u8]),
    ) -> Result<(), TransportError> {
        let mask = self.masks.next();
        let header = FrameHeader { is_final: true, opcode, mask: Some(mask), ..FrameHeader::default() };
        let mut piece = Vec::with_capacity(HEADER_MAX + payload.len().min(PLAINTEXT_TARGET));
        if header.format(payload.len() as u64, &mut piece).is_err() {
            return Err(TransportError::internal("the header of a frame could not be written to memory"));
        }
        // Pieces are a multiple of four long, so that each starts with the mask's first byte.
        let mut chunks = payload.chunks(PLAINTEXT_TARGET - PLAINTEXT_TARGET % 4);
        loop {
            let chunk = chunks.next();
            // The first piece is the header, the last one may be empty.
            piece.extend(
                chunk.unwrap_or_default().iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask),
            );
            if !piece.is_empty() {
                write(&piece);
            }
            piece.clear();
            if chunk.is_none() {
                return Ok(());
            }
        }
    }

    pub(crate) fn close(
        &mut self,
        code: Option<u16>,
        reason: &str,
        write: impl FnMut(&[u8]),
    ) -> Result<(), TransportError> {
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend(code.to_be_bytes());
            payload.extend(cut(reason).as_bytes());
        }
        self.frame(OpCode::Control(Control::Close), &payload, write)
    }
}

/// A code that may be sent in a close frame: `code`, or 1000 in place of one that may not.
pub(crate) fn sendable(code: u16) -> u16 {
    if CloseCode::from(code).is_allowed() { code } else { 1000 }
}

/// The longest front of `reason` that fits a close frame.
fn cut(reason: &str) -> &str {
    let mut end = reason.len().min(CLOSE_REASON_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    // Found to be a boundary.
    reason.get(..end).unwrap_or_default()
}

/// Masking keys: SHA-256 over a secret seed and a counter, so that nobody outside can foretell them
/// (RFC 6455 §10.3) and a simulation with the same seed sends the same bytes.
struct Masks {
    seed: [u8; 16],
    count: u64,
}

impl Masks {
    fn next(&mut self) -> [u8; 4] {
        self.count = self.count.wrapping_add(1);
        let digest = Sha256::new().chain_update(self.seed).chain_update(self.count.to_be_bytes()).finalize();
        let [a, b, c, d, ..]: [u8; 32] = digest.into();
        [a, b, c, d]
    }
}
