//! Bytes no server should send. A reader must give the connection up at each of them.

use std::fmt::Write as _;

/// Frames that break the WebSocket protocol.
pub(in crate::sim) fn broken_frames(how: u32) -> Vec<u8> {
    let all: [&[u8]; 16] = [
        // Reserved bits, reserved opcodes.
        &[0xc1, 0x02, b'[', b']'],
        &[0xa1, 0x00],
        &[0x91, 0x00],
        &[0x83, 0x00],
        &[0x8b, 0x01, 0x00],
        // Masked, which only clients may do.
        &[0x81, 0x82, 1, 2, 3, 4, b'[' ^ 1, b']' ^ 2],
        // Too long: 9,000,000 bytes announced, and as many as can be.
        &[0x81, 0x7f, 0, 0, 0, 0, 0x00, 0x89, 0x54, 0x40, b'['],
        &[0x82, 0x7f, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        // A text that is not UTF-8: in one frame, and cut off inside a character.
        &[0x81, 0x03, 0xff, 0xfe, 0x80],
        &[0x01, 0x01, 0xc3, 0x80, 0x01, b'x'],
        // Control frames too long, or in fragments.
        &[0x89, 0x7e, 0x00, 0x7e],
        &[0x09, 0x00],
        // A continuation of nothing, a message inside another.
        &[0x80, 0x01, b'x'],
        &[0x01, 0x01, b'[', 0x81, 0x01, b']'],
        // Close frames with half a code, and with one that must not be sent.
        &[0x88, 0x01, 0x03],
        &[0x88, 0x02, 0x03, 0xed],
    ];
    all.get((how % 16) as usize).copied().unwrap_or_default().to_vec()
}

/// Answers that are not HTTP as it should be.
pub(in crate::sim) fn broken_answer(how: u32) -> Vec<u8> {
    let long = |count: usize| "x".repeat(count);
    let text = match how % 9 {
        0 => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!".to_owned(),
        1 => "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello".to_owned(),
        2 => "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
        3 => format!("HTTP/1.1 200 OK\r\nX: {}\r\n", long(17 * 1024)),
        4 => {
            let mut text = "HTTP/1.1 200 OK\r\n".to_owned();
            for number in 0..120 {
                // Writing to a String cannot fail.
                let _ = write!(text, "X-{number}: y\r\n");
            }
            text + "\r\n"
        }
        5 => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(),
        6 => "HTTP/1.1 100 Continue\r\n\r\n".repeat(12),
        7 => "HTTP/1.1 two hundred\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_owned(),
    };
    text.into_bytes()
}

/// What stands where a chunk of a body should.
pub(in crate::sim) fn broken_chunk(how: u32) -> Vec<u8> {
    let text = match how % 5 {
        0 => "zz\r\n".to_owned(),
        1 => "-5\r\nhello\r\n".to_owned(),
        2 => "fffffffffffffffff\r\n".to_owned(),
        3 => format!("5;{}", "x".repeat(17 * 1024)),
        _ => format!("0\r\n{}", "X-Trailer: 123456789\r\n".repeat(600)),
    };
    text.into_bytes()
}

/// Answers to an upgrade that are none, with the headers of a right one at hand.
pub(in crate::sim) fn broken_upgrade(how: u32, right: &[(String, String)]) -> Vec<u8> {
    use crate::server::http::head;
    let mut headers = right.to_vec();
    let mut change = |name: &str, value: &str| {
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        if !value.is_empty() {
            headers.push((name.to_owned(), value.to_owned()));
        }
    };
    match how % 6 {
        0 => change("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        1 => change("sec-websocket-accept", ""),
        2 => change("sec-websocket-extensions", "permessage-deflate"),
        3 => change("sec-websocket-protocol", "chat"),
        4 => change("upgrade", "h2c"),
        _ => return broken_answer(how / 6),
    }
    head(101, &headers).into_bytes()
}
