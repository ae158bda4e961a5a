//! The binary frames of Phoenix V2 (device-protocol §1.5). No present server sends them; they belong to the serializer.

use crate::fault::Fault;
use alloc::borrow::Cow;
use alloc::format;

use super::codec::Malformed;
use super::envelope::{Message, Reference};
use super::payload::Payload;

/// Reads a push, a reply or a broadcast. The data at its end stays as it is.
pub(super) fn decode(frame: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut parts = Parts { frame, at: 1 };
    match frame.first() {
        // A push from the server has no ref.
        Some(0) => {
            let lengths = [parts.length()?, parts.length()?, parts.length()?];
            let [join_ref, topic, event] = parts.texts(lengths)?;
            let payload = Payload::Data(parts.rest()?);
            Ok(message(join_ref, Reference::None, topic, event, payload))
        }
        Some(1) => {
            let lengths = [parts.length()?, parts.length()?, parts.length()?, parts.length()?];
            let [join_ref, reference, topic, status] = parts.texts(lengths)?;
            let payload = Payload::DataReply { status, data: parts.rest()? };
            Ok(message(join_ref, Reference::from_text(reference), topic, "phx_reply", payload))
        }
        Some(2) => {
            let lengths = [parts.length()?, parts.length()?];
            let [topic, event] = parts.texts(lengths)?;
            Ok(message("", Reference::None, topic, event, Payload::Data(parts.rest()?)))
        }
        Some(_) => Err(parts.bad("is of a kind Phoenix doesn't have")),
        None => Err(parts.bad("is empty")),
    }
}

fn message<'a>(
    join_ref: &str,
    reference: Reference,
    topic: &'a str,
    event: &'a str,
    payload: Payload<'a>,
) -> Message<'a> {
    // The frame has no null; the server writes nothing where it has none.
    let join_ref = if join_ref.is_empty() { Reference::None } else { Reference::from_text(join_ref) };
    Message { join_ref, reference, topic: Cow::Borrowed(topic), event: Cow::Borrowed(event), payload }
}

/// A frame and how far it was read.
struct Parts<'a> {
    frame: &'a [u8],
    at: usize,
}

impl<'a> Parts<'a> {
    fn length(&mut self) -> Result<usize, Malformed> {
        let length = self.frame.get(self.at).ok_or_else(|| self.bad("ends too early"))?;
        self.at += 1;
        Ok(usize::from(*length))
    }

    /// Reads texts of these lengths, which are a byte each.
    fn texts<const N: usize>(&mut self, lengths: [usize; N]) -> Result<[&'a str; N], Malformed> {
        let mut texts = [""; N];
        for (text, length) in texts.iter_mut().zip(lengths) {
            let bytes =
                self.frame.get(self.at..self.at + length).ok_or_else(|| self.bad("ends too early"))?;
            *text = core::str::from_utf8(bytes).map_err(|_| self.bad("holds a name that is not UTF-8"))?;
            self.at += length;
        }
        Ok(texts)
    }

    fn rest(&self) -> Result<&'a [u8], Malformed> {
        let rest = self.frame.get(self.at..);
        rest.ok_or_else(|| Malformed(Fault::new("the names of a frame ended behind it").into()))
    }

    fn bad(&self, what: &str) -> Malformed {
        Malformed(format!("a binary message of {} bytes {what}", self.frame.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> alloc::vec::Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    const PUSH: &str = "0001060431646576696365626c6f620102";
    const REPLY: &str = "010101060231346465766963656f6b0102";
    const BROADCAST: &str = "020604646576696365626c6f620102";

    #[test]
    fn reads_the_examples_of_the_specification() {
        let frame = hex(PUSH);
        let push = decode(&frame).unwrap();
        assert_eq!((&*push.topic, &*push.event), ("device", "blob"));
        assert_eq!((push.join_ref(), push.reference()), (Some(1), None));
        assert!(matches!(push.payload, Payload::Data([1, 2])));

        let frame = hex(REPLY);
        let reply = decode(&frame).unwrap();
        assert_eq!((&*reply.topic, &*reply.event), ("device", "phx_reply"));
        assert_eq!((reply.join_ref(), reply.reference()), (Some(1), Some(4)));
        assert!(matches!(reply.payload, Payload::DataReply { status: "ok", data: [1, 2] }));

        let frame = hex(BROADCAST);
        let broadcast = decode(&frame).unwrap();
        assert_eq!((&*broadcast.topic, &*broadcast.event), ("device", "blob"));
        assert_eq!((broadcast.join_ref(), broadcast.reference()), (None, None));
        assert!(matches!(broadcast.payload, Payload::Data([1, 2])));
    }

    #[test]
    fn a_frame_cut_anywhere_in_its_names_is_refused() {
        for whole in [PUSH, REPLY, BROADCAST] {
            let frame = hex(whole);
            let names = frame.len() - 2;
            for end in 0..frame.len() {
                assert_eq!(decode(&frame[..end]).is_ok(), end >= names, "{whole} cut at {end}");
            }
        }
        assert!(decode(&[3, 0, 0]).is_err());
        assert!(decode(&[2, 1, 1, 0xff, b'x']).is_err());
    }
}
