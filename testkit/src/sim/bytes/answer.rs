//! Answers in HTTP: a head, and a body whose end shows in one of three ways.

use crate::server::http::head;
use crate::sim::dice::Rng;

/// How the end of a body shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::sim) enum Framing {
    /// By its length.
    #[default]
    Length,
    /// By a last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// An answer as bytes.
#[derive(Debug)]
pub(in crate::sim) struct Reply {
    pub bytes: Vec<u8>,
    pub framing: Framing,
    /// Where its body begins.
    body: usize,
}

impl Reply {
    /// The head of an answer whose body of so many bytes follows; the length may be a secret.
    pub fn head(status: u16, headers: &[(String, String)], length: Option<u64>, rng: &mut Rng) -> Self {
        let framing = match length {
            Some(_) => Framing::Length,
            None if rng.one_in(2) => Framing::Chunked,
            None => Framing::Close,
        };
        let mut headers = headers.to_vec();
        match (framing, length) {
            (Framing::Length, Some(length)) => {
                headers.push(("Content-Length".to_owned(), length.to_string()));
            }
            (Framing::Chunked, _) => headers.push(("Transfer-Encoding".to_owned(), "chunked".to_owned())),
            _ => {}
        }
        let mut bytes = Vec::new();
        if rng.one_in(16) {
            bytes.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n");
        }
        let head = accented(head(status, &headers), framing, rng);
        bytes.extend_from_slice(head.as_bytes());
        Self { body: bytes.len(), bytes, framing }
    }

    /// A whole answer.
    pub fn whole(status: u16, headers: &[(String, String)], body: &[u8], rng: &mut Rng) -> Self {
        let length = (!rng.one_in(4)).then_some(body.len() as u64);
        let mut reply = Self::head(status, headers, length, rng);
        reply.framing.frame(body, &mut reply.bytes, rng);
        reply.framing.end(&mut reply.bytes);
        reply
    }

    /// Leaves last bytes of the body out, if there are any. Returns whether it is whole still.
    pub fn cut_short(&mut self, rng: &mut Rng) -> bool {
        let length = (self.bytes.len() - self.body) as u64;
        let gone = usize::try_from(rng.below(length + 1)).unwrap_or(0);
        self.bytes.truncate(self.bytes.len() - gone);
        gone == 0
    }
}

/// The same head as other servers and proxies write it.
fn accented(head: String, framing: Framing, rng: &mut Rng) -> String {
    match rng.below(32) {
        0 => head.replace("\r\n", "\n"),
        1 => head.replace(": ", ":"),
        2 => head.replace(": ", ":  \t").replace("\r\n", " \r\n").replace("\r\n \r\n", "\r\n\r\n"),
        3 if framing != Framing::Chunked => head.replacen("HTTP/1.1", "HTTP/1.0", 1),
        4 => {
            // Without a reason; the space in front of it may be gone, too.
            let (line, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
            let status = line.get(..if rng.one_in(2) { 12 } else { 13 }).unwrap_or(line);
            format!("{status}\r\n{rest}")
        }
        _ => head,
    }
}

impl Framing {
    /// Writes bytes of the body.
    pub fn frame(self, mut bytes: &[u8], into: &mut Vec<u8>, rng: &mut Rng) {
        if self != Self::Chunked {
            return into.extend_from_slice(bytes);
        }
        while !bytes.is_empty() {
            let most = if rng.one_in(4) { rng.within(1, 300) } else { 64 * 1024 };
            let (chunk, rest) =
                bytes.split_at_checked(usize::try_from(most).unwrap_or(1)).unwrap_or((bytes, &[]));
            let extension = if rng.one_in(8) { ";x=1" } else { "" };
            into.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            into.extend_from_slice(chunk);
            into.extend_from_slice(b"\r\n");
            bytes = rest;
        }
    }

    /// Writes the end of the body.
    pub fn end(self, into: &mut Vec<u8>) {
        if self == Self::Chunked {
            into.extend_from_slice(b"0\r\n\r\n");
        }
    }
}
