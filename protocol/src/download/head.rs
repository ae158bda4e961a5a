//! What the head of a response means for a download (spec §6.4).

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::range::{ContentRange, content_range, number, strong_etag};
use crate::http;
use crate::input::HeaderRef;

/// What is known before the response.
pub(super) struct Known<'a> {
    /// The offset the next byte belongs to; a range was asked for unless it is 0.
    pub(super) received: u64,
    /// One past the last byte asked for; `None` for all there are.
    pub(super) until: Option<u64>,
    /// The size of the file, announced or learned.
    pub(super) total: Option<u64>,
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
}

/// Reads the head of a response.
pub(super) fn read(known: &Known<'_>, status: u16, headers: &[HeaderRef<'_>]) -> Head {
    match status {
        200 => whole(known, headers),
        206 => part(known, headers),
        301 | 302 | 303 | 307 | 308 => {
            Head::Redirect { location: http::header(headers, "location").map(String::from) }
        }
        404 | 410 => Head::Absent(format!("HTTP {status}, {}", meaning(status))),
        416 => outside(known, headers),
        408 | 425 | 429 | 500..=599 => Head::Retry {
            reason: format!("HTTP {status}, {}", meaning(status)),
            after: http::retry_after(headers),
        },
        _ => Head::Fail(format!("HTTP {status}, {}", meaning(status))),
    }
}

fn whole(known: &Known<'_>, headers: &[HeaderRef<'_>]) -> Head {
    if let Some(failure) = encoded(headers) {
        return failure;
    }
    let length = http::header(headers, "content-length").and_then(number);
    let etag = http::header(headers, "etag").and_then(strong_etag);
    if let Some(failure) = changed(known, length, etag) {
        return failure;
    }
    // A server that ignores ranges begins at the beginning; what is stored already is skipped.
    Head::Body(Body { skip: known.received, total: length, etag: etag.map(String::from), to_end: true })
}

fn part(known: &Known<'_>, headers: &[HeaderRef<'_>]) -> Head {
    if let Some(failure) = encoded(headers) {
        return failure;
    }
    let retry = |reason| Head::Retry { reason, after: None };
    let range = http::header(headers, "content-range");
    let Some(ContentRange::Part { start, end, total }) = range.and_then(content_range) else {
        return retry(String::from("HTTP 206 without a valid Content-Range"));
    };
    if start != known.received {
        return retry(format!("the server sent bytes from {start} on instead of {}", known.received));
    }
    if known.until.is_some_and(|until| end > until) {
        return retry(String::from("the server sent more than the bytes asked for"));
    }
    let length = http::header(headers, "content-length").and_then(number);
    if length.is_some_and(|length| length != end - start) {
        return retry(String::from("Content-Range and Content-Length contradict each other"));
    }
    let etag = http::header(headers, "etag").and_then(strong_etag);
    if let Some(failure) = changed(known, total, etag) {
        return failure;
    }
    Head::Body(Body { skip: 0, total, etag: etag.map(String::from), to_end: false })
}

fn outside(known: &Known<'_>, headers: &[HeaderRef<'_>]) -> Head {
    match http::header(headers, "content-range").and_then(content_range) {
        Some(ContentRange::Outside { total })
            if known.received > 0
                && total == known.received
                && !(known.staged && known.total.is_some_and(|known| known != total)) =>
        {
            Head::Complete
        }
        _ => Head::Absent(format!("HTTP 416, {}", meaning(416))),
    }
}

/// The file must stay the same from the first byte to the last, as the applier is a stream.
fn changed(known: &Known<'_>, total: Option<u64>, etag: Option<&str>) -> Option<Head> {
    if let (Some(before), Some(total)) = (known.total, total)
        && before != total
    {
        return Some(Head::Fail(format!("the file has {total} bytes instead of the expected {before}")));
    }
    match (known.etag, etag) {
        (Some(before), Some(etag)) if (known.received > 0 || known.staged) && before != etag => {
            Some(Head::Fail(String::from("the file changed on the server during the download")))
        }
        _ => None,
    }
}

fn encoded(headers: &[HeaderRef<'_>]) -> Option<Head> {
    let encoding = http::header(headers, "content-encoding")?;
    (!encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity"))
        .then(|| Head::Fail(String::from("the server sent the file in another encoding than asked for")))
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "the server did not understand the request",
        401 | 403 => "the address expired or is not allowed",
        404 => "the file is not on the server",
        408 => "the server waited too long for the request",
        410 => "the file was removed from the server",
        416 => "the file on the server is shorter than what was received",
        425 => "too early",
        429 => "too many requests",
        502 => "a proxy could not reach the server",
        503 => "the server is not available",
        504 => "a proxy waited too long for the server",
        500..=599 => "the server failed",
        _ => "which is no answer to a download",
    }
}
