//! What the head of a response means for a download (device-protocol §6.4).

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::range::{ContentRange, content_range, number, strong_etag};
use crate::http;
use crate::input::HeaderRef;
use crate::limits::MAX_NAME_CHARS;
use crate::text::cut;

/// What is known before the response.
pub(super) struct Known<'a> {
    /// The offset the next byte belongs to.
    pub(super) received: u64,
    /// One past the last byte wanted; `None` for all there are.
    pub(super) until: Option<u64>,
    /// Whether a range was asked for.
    pub(super) ranged: bool,
    /// The size of the file, announced or learned.
    pub(super) total: Option<u64>,
    /// Whether the hub announced the size, so that a server that says otherwise has another file.
    pub(super) announced: bool,
    /// The strong tag of earlier responses.
    pub(super) etag: Option<&'a str>,
    /// Whether the file is received in several pieces that belong together.
    pub(super) staged: bool,
}

/// The meaning of a head.
pub(super) enum Head {
    /// Bytes follow.
    Body(Body),
    /// There is nothing left to fetch.
    Complete,
    /// Look elsewhere.
    Redirect { location: Option<String> },
    /// Try again, not sooner than `after`.
    Retry { reason: String, after: Option<Duration> },
    /// The answer to a range is of no use. The whole file may be had all the same.
    Refused {
        reason: String,
        /// How long the server asks to wait.
        after: Option<Duration>,
        /// Whether the server may just have a bad moment, so that the range is worth another try.
        passing: bool,
    },
    /// The file is another one than before. What was received is of no use.
    Changed(String),
    /// Trying again won't help.
    Fail(String),
    /// The file, or what was asked for of it, isn't there.
    Absent(String),
}

/// The body that follows a head.
pub(super) struct Body {
    /// How many of its first bytes are known already.
    pub(super) skip: u64,
    /// The size of the file.
    pub(super) total: Option<u64>,
    /// The file's strong tag.
    pub(super) etag: Option<String>,
    /// Whether it goes to the end of the file. A part whose file's size is unknown may not.
    pub(super) to_end: bool,
    /// Whether it may go past the last byte wanted.
    pub(super) loose: bool,
    /// Whether the file bears another tag than what was received before, though it is as long.
    pub(super) mixed: bool,
}

/// Reads the head of a response.
pub(super) fn read(known: &Known<'_>, status: u16, headers: &[HeaderRef<'_>]) -> Head {
    let reason = || format!("HTTP {status}, {}", meaning(status));
    match status {
        200 => whole(known, headers),
        206 => part(known, headers),
        301 | 302 | 303 | 307 | 308 => {
            Head::Redirect { location: http::header(headers, "location").map(String::from) }
        }
        416 if is_complete(known, headers) => Head::Complete,
        408 | 425 | 429 | 500..=599 => {
            let (reason, after) = (reason(), http::retry_after(headers));
            if known.ranged {
                Head::Refused { reason, after, passing: true }
            } else {
                Head::Retry { reason, after }
            }
        }
        _ if known.ranged => refused(reason()),
        404 | 410 | 416 => Head::Absent(reason()),
        _ => Head::Fail(reason()),
    }
}

fn refused(reason: String) -> Head {
    Head::Refused { reason, after: None, passing: false }
}

fn whole(known: &Known<'_>, headers: &[HeaderRef<'_>]) -> Head {
    if let Some(failure) = encoded(headers) {
        return failure;
    }
    let length = match length(headers) {
        Ok(length) => length,
        Err(reason) => return Head::Retry { reason, after: http::retry_after(headers) },
    };
    if http::is_page(headers) && (length.is_none() || length != known.total) {
        // Nothing keeps firmware as a web page. Networks that want a login, and stores in trouble, answer like this.
        let reason =
            String::from("the server sent a web page instead of the file; the network may want a login");
        return Head::Retry { reason, after: http::retry_after(headers) };
    }
    let etag = http::header(headers, "etag").and_then(strong_etag);
    let mixed = match compare(known, length, etag) {
        Compared::Same => false,
        Compared::Mixed => true,
        Compared::Other(reason) if known.announced => return Head::Retry { reason, after: None },
        Compared::Other(reason) => return Head::Changed(reason),
    };
    // A server that ignores ranges begins at the beginning; what is stored already is skipped.
    let etag = etag.map(String::from);
    Head::Body(Body { skip: known.received, total: length, etag, to_end: true, loose: true, mixed })
}

fn part(known: &Known<'_>, headers: &[HeaderRef<'_>]) -> Head {
    if let Some(failure) = encoded(headers) {
        return failure;
    }
    let length = match length(headers) {
        Ok(length) => length,
        Err(reason) => return refused(reason),
    };
    let etag = http::header(headers, "etag").and_then(strong_etag);
    let several = http::header(headers, "content-type")
        .is_some_and(|kind| kind.get(..10).is_some_and(|kind| kind.eq_ignore_ascii_case("multipart/")));
    if several {
        return refused(String::from("the server sent several ranges at once"));
    }
    let range = http::header(headers, "content-range").and_then(content_range);
    let (start, end, total, guessed) = match range {
        Some(ContentRange::Part { start, end, total }) => (start, Some(end), total, false),
        // What has the length of the range asked for is that range; what has the length of the file is the file.
        None if known.ranged && length.is_some() && length == wanted(known) => {
            (known.received, length.map(|length| known.received.saturating_add(length)), None, true)
        }
        None if length.is_some() && length == known.total => (0, length, None, true),
        _ => return refused(String::from("HTTP 206 without a valid Content-Range")),
    };
    if start > known.received || end.is_some_and(|end| end <= known.received) {
        return refused(format!("the server sent bytes from {start} on instead of {}", known.received));
    }
    if length.zip(end).is_some_and(|(length, end)| length != end - start) {
        return refused(String::from("Content-Range and Content-Length contradict each other"));
    }
    let mixed = match compare(known, total, etag) {
        // A wrong guess is noticed at the end, as a mixture of two files is.
        Compared::Same => guessed,
        Compared::Mixed => true,
        Compared::Other(reason) if known.announced => return refused(reason),
        Compared::Other(reason) => return Head::Changed(reason),
    };
    let loose = known.until.zip(end).is_some_and(|(until, end)| end > until);
    let etag = etag.map(String::from);
    Head::Body(Body { skip: known.received - start, total, etag, to_end: false, loose, mixed })
}

/// How long the body is, if the server says so, or why no body that is of use is as long.
fn length(headers: &[HeaderRef<'_>]) -> Result<Option<u64>, String> {
    let Some(text) = http::header(headers, "content-length") else { return Ok(None) };
    match number(text.trim()) {
        Some(0) => Err(String::from("the server sent an empty file (Content-Length: 0)")),
        Some(length) => Ok(Some(length)),
        None => {
            let text = cut(text, MAX_NAME_CHARS);
            Err(format!("the server sent a Content-Length that is no number of bytes: {text}"))
        }
    }
}

/// How many bytes are wanted, if that is known.
fn wanted(known: &Known<'_>) -> Option<u64> {
    known.until.or(known.total)?.checked_sub(known.received)
}

/// Whether a 416 says that there is nothing behind what was received.
fn is_complete(known: &Known<'_>, headers: &[HeaderRef<'_>]) -> bool {
    let range = http::header(headers, "content-range").and_then(content_range);
    matches!(range, Some(ContentRange::Outside { total })
        if known.received > 0
            && total == known.received
            && !(known.staged && known.total.is_some_and(|known| known != total)))
}

enum Compared {
    /// Nothing says that it is another file.
    Same,
    /// Another tag for as many bytes: mirrors do so with the same file. The content is judged at the end.
    Mixed,
    /// Another file.
    Other(String),
}

/// Compares the file on the server with what is known of it.
fn compare(known: &Known<'_>, total: Option<u64>, etag: Option<&str>) -> Compared {
    let nothing = known.received == 0;
    if let (Some(before), Some(total)) = (known.total, total)
        && before != total
        && (known.announced || !nothing)
    {
        return Compared::Other(format!("the file has {total} bytes instead of the expected {before}"));
    }
    if let Some(total) = total.filter(|total| *total < known.received) {
        let received = known.received;
        return Compared::Other(format!(
            "the file has {total} bytes, fewer than the {received} there are already"
        ));
    }
    match (known.etag, etag) {
        (Some(before), Some(etag)) if !nothing && before != etag => {
            // An announced size is compared with what comes, whether the server says it or not.
            if known.announced || (known.total.is_some() && total.is_some()) {
                Compared::Mixed
            } else {
                Compared::Other(String::from("the file changed on the server during the download"))
            }
        }
        _ => Compared::Same,
    }
}

/// Encodings that change the bytes. Stores leave others in the header, such as `aws-chunked`, that say nothing about them.
const COMPRESSIONS: [&str; 9] =
    ["gzip", "x-gzip", "compress", "x-compress", "deflate", "br", "zstd", "dcb", "dcz"];

fn encoded(headers: &[HeaderRef<'_>]) -> Option<Head> {
    let lists = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-encoding"));
    let mut codings = lists.flat_map(|(_, value)| value.split(',')).map(str::trim);
    let is_compression = |coding: &str| COMPRESSIONS.iter().any(|known| coding.eq_ignore_ascii_case(known));
    codings
        .any(is_compression)
        .then(|| Head::Fail(String::from("the server sent the file in another encoding than asked for")))
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "the server did not understand the request",
        401 | 403 => "the address expired or is not allowed",
        404 => "the file is not on the server",
        408 => "the server waited too long for the request",
        410 => "the file was removed from the server",
        416 => "the server has no such range of the file",
        425 => "too early",
        429 => "too many requests",
        502 => "a proxy could not reach the server",
        503 => "the server is not available",
        504 => "a proxy waited too long for the server",
        500..=599 => "the server failed",
        _ => "which is no answer to a download",
    }
}
