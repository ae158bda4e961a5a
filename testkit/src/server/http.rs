//! Just enough HTTP/1.1: request heads in, answers out.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use super::shared::Shared;
use super::tls::Stream;
use crate::date::http_date;
use crate::hub::Refusal;
use crate::limits::{REQUEST_HEAD, REQUEST_HEADERS};

/// How long a connection may stand without a complete request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a peer may take no bytes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Request {
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.as_str())
    }
}

/// Reads one request head; `buffer` holds what came too early. `None` when the peer is done, says
/// nothing sensible, or the hub stops.
pub(super) fn read_request(stream: &mut Stream, buffer: &mut Vec<u8>, shared: &Shared) -> Option<Request> {
    let since = Instant::now();
    let mut chunk = [0; 4096];
    loop {
        match parse(buffer) {
            Ok(Some((request, used))) => {
                buffer.drain(..used);
                return Some(request);
            }
            Ok(None) if buffer.len() < REQUEST_HEAD => {}
            Ok(None) | Err(()) => {
                let _ = write_refusal(stream, shared, &Refusal::new(400, ""));
                return None;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) => return None,
            Ok(n) => buffer.extend(chunk.get(..n).unwrap_or_default()),
            Err(error) if waits(&error) && !shared.stopping() && since.elapsed() < REQUEST_TIMEOUT => {}
            Err(_) => return None,
        }
    }
}

/// Writes all bytes, waiting for a slow peer but not past the stop.
pub(super) fn write_all(stream: &mut Stream, mut bytes: &[u8], shared: &Shared) -> io::Result<()> {
    let mut since = Instant::now();
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                since = Instant::now();
            }
            Err(error) if waits(&error) && !shared.stopping() && since.elapsed() < WRITE_TIMEOUT => {}
            Err(error) => return Err(error),
        }
    }
    loop {
        match stream.flush() {
            Err(error) if waits(&error) && !shared.stopping() && since.elapsed() < WRITE_TIMEOUT => {}
            other => return other,
        }
    }
}

/// Writes the head of an answer.
pub(super) fn write_head(
    stream: &mut Stream,
    shared: &Shared,
    status: u16,
    headers: &[(String, String)],
) -> io::Result<()> {
    let date = ("date".to_owned(), http_date(shared.unix_ms() / 1000));
    let head = head(status, std::iter::once(&date).chain(headers));
    write_all(stream, head.as_bytes(), shared)
}

/// The head of an answer, with these headers and no others.
pub(crate) fn head<'a>(status: u16, headers: impl IntoIterator<Item = &'a (String, String)>) -> String {
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    for (name, value) in headers {
        // Writing to a String cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head
}

/// Writes a refusal with its body.
pub(super) fn write_refusal(stream: &mut Stream, shared: &Shared, refusal: &Refusal) -> io::Result<()> {
    let mut headers = vec![("content-length".to_owned(), refusal.body.len().to_string())];
    headers.extend(refusal.headers.iter().cloned());
    write_head(stream, shared, refusal.status, &headers)?;
    write_all(stream, refusal.body.as_bytes(), shared)
}

/// Whether an error only says that nothing came or went in this tick.
pub(super) fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Reads the head of a request off the front, if it is whole, and tells how long it is.
pub(crate) fn parse(buffer: &[u8]) -> Result<Option<(Request, usize)>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; REQUEST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let used = match request.parse(buffer) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(()),
    };
    let target = request.path.unwrap_or("/");
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q.to_owned())));
    let headers = request
        .headers
        .iter()
        .map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).trim().to_owned()))
        .collect();
    let method = request.method.unwrap_or_default().to_owned();
    Ok(Some((Request { method, path: path.to_owned(), query, headers }, used)))
}

fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}
