//! The little of HTTP the machine reads itself: headers, dates, addresses.

pub(crate) mod date;

pub(crate) use nerves_hub_link_url as url;

use core::time::Duration;

use crate::input::HeaderRef;
use crate::limits::MAX_RETRY_AFTER;
use crate::time::UnixTime;

/// Returns the first header of that name, without surrounding blanks.
pub(crate) fn header<'a>(headers: &[HeaderRef<'a>], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Whether a web page follows.
pub(crate) fn is_page(headers: &[HeaderRef<'_>]) -> bool {
    // A response may leave its type out.
    let kind = header(headers, "content-type").unwrap_or("");
    let kind = kind.split_once(';').map_or(kind, |(kind, _)| kind).trim();
    ["text/html", "application/xhtml+xml"].iter().any(|page| kind.eq_ignore_ascii_case(page))
}

/// Returns the server's time of a response.
pub(crate) fn date(headers: &[HeaderRef<'_>]) -> Option<UnixTime> {
    header(headers, "date").and_then(date::parse)
}

/// Returns how long the server asks to wait, at most [`MAX_RETRY_AFTER`] (RFC 9110 §10.2.3).
///
/// A date counts from the response's own `Date`; without one it is ignored, as the device's clock
/// may be wrong.
pub(crate) fn retry_after(headers: &[HeaderRef<'_>]) -> Option<Duration> {
    let value = header(headers, "retry-after")?;
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number too long for u64 is certainly past the limit.
        value.parse().unwrap_or(u64::MAX)
    } else {
        let wait = date::parse(value)?.0.saturating_sub(date(headers)?.0);
        // A date in the past means now.
        u64::try_from(wait).unwrap_or(0)
    };
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_reads_seconds_and_dates_and_is_bounded() {
        let seconds = |value| retry_after(&[("Retry-After", value)]).map(|wait| wait.as_secs());
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds(" 120 "), Some(120));
        assert_eq!(seconds("900"), Some(900));
        assert_eq!(seconds("901"), Some(900));
        assert_eq!(seconds("99999999999999999999999"), Some(900));
        assert_eq!(seconds("-1"), None);
        assert_eq!(seconds(""), None);
        assert_eq!(seconds("soon"), None);
        let date = ("date", "Mon, 23 Nov 2026 14:39:17 GMT");
        let after = ("retry-after", "Mon, 23 Nov 2026 14:40:17 GMT");
        assert_eq!(retry_after(&[date, after]), Some(Duration::from_secs(60)));
        assert_eq!(retry_after(&[after]), None);
        let before = ("retry-after", "Mon, 23 Nov 2026 14:30:17 GMT");
        assert_eq!(retry_after(&[date, before]), Some(Duration::ZERO));
    }
}
