//! Serves firmware with ranges, and spoils it when asked to.

use std::io::Read;
use std::time::Duration;

use super::firmware::Firmware;
use super::http::{Request, write_all, write_head, write_refusal};
use super::mischief::{Armed, Mischief};
use super::shared::Shared;
use super::tls::Stream;
use crate::hub::{HubEvent, Refusal};
use crate::limits::BODY_CHUNK;

/// What this one answer gets wrong.
#[derive(Debug, Default)]
struct Faults {
    /// Sent instead of any firmware.
    instead: Option<Refusal>,
    cut_after: Option<u64>,
    ignore_range: bool,
    range_by: u64,
    length_by: i64,
    endless: bool,
    corrupt: Option<u64>,
    slow: Option<(usize, u64)>,
}

impl Faults {
    fn take(armed: &mut Armed, path: &str) -> Self {
        // A refusal that was armed behind a fault of the body waits for its turn.
        let instead = armed.take_before(Mischief::spoils_body, |m| match m {
            Mischief::RefuseDownload { status, retry_after } => Some(refusal(*status, *retry_after)),
            Mischief::RedirectDownload { location } => {
                let location = location.clone().unwrap_or_else(|| format!("{path}?moved=1"));
                Some(Refusal::new(302, "").header("location", &location))
            }
            _ => None,
        });
        if instead.is_some() {
            return Self { instead, ..Self::default() };
        }
        let mut number = |pick: fn(&Mischief) -> Option<u64>| armed.take(pick);
        let cut_after = number(|m| if let Mischief::CutDownload { after } = m { Some(*after) } else { None });
        let range_by = number(|m| if let Mischief::WrongContentRange { by } = m { Some(*by) } else { None });
        let corrupt = number(|m| if let Mischief::CorruptByte { offset } = m { Some(*offset) } else { None });
        let length_by = armed.take(|m| if let Mischief::WrongLength { by } = m { Some(*by) } else { None });
        let slow = armed.take(|m| match m {
            Mischief::SlowBody { bytes, every_ms } => Some(((*bytes).max(1), *every_ms)),
            _ => None,
        });
        Self {
            instead: None,
            cut_after,
            ignore_range: armed.take(|m| (*m == Mischief::IgnoreRange).then_some(())).is_some(),
            range_by: range_by.unwrap_or(0),
            length_by: length_by.unwrap_or(0),
            endless: armed.take(|m| (*m == Mischief::EndlessBody).then_some(())).is_some(),
            corrupt,
            slow,
        }
    }
}

/// The part of the file that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Whole,
    Part { from: u64, end: u64 },
    Impossible,
}

/// Answers a firmware request. False when the connection is of no use afterwards.
pub(super) fn serve(stream: &mut Stream, request: &Request, shared: &Shared) -> bool {
    let path = request.path.clone();
    let (firmware, faults) =
        shared.with(|state, _| (state.files.get(&path).cloned(), Faults::take(&mut state.armed, &path)));
    let note = |status: u16, from: u64| {
        let path = path.clone();
        shared.with(|state, _| state.hub.note(HubEvent::Download { path, status, from }));
    };
    if let Some(refusal) = &faults.instead {
        note(refusal.status, 0);
        return write_refusal(stream, shared, refusal).is_ok();
    }
    let (Some(firmware), "GET") = (firmware, request.method.as_str()) else {
        note(404, 0);
        return write_refusal(stream, shared, &refusal(404, None)).is_ok();
    };
    let etag = format!("\"{}\"", firmware.checksum.get(..16).unwrap_or_default());
    let current = request.header("if-range").is_none_or(|tag| tag == etag);
    let wanted = match request.header("range") {
        Some(range) if current && !faults.ignore_range && !faults.endless => range_of(range, firmware.size),
        _ => Wanted::Whole,
    };
    let mut headers = vec![
        ("cache-control".to_owned(), "public".to_owned()),
        ("etag".to_owned(), etag),
        ("content-type".to_owned(), "application/fwup".to_owned()),
        ("accept-ranges".to_owned(), "bytes".to_owned()),
    ];
    let size = firmware.size;
    let (status, from, end) = match wanted {
        Wanted::Whole => (200, 0, size),
        Wanted::Part { from, end } => {
            let (first, last) = (from + faults.range_by, end - 1 + faults.range_by);
            headers.push(("content-range".to_owned(), format!("bytes {first}-{last}/{size}")));
            (206, from, end)
        }
        Wanted::Impossible => {
            note(416, 0);
            let refusal = Refusal::new(416, "").header("content-range", &format!("bytes */{size}"));
            return write_refusal(stream, shared, &refusal).is_ok();
        }
    };
    let length = (end - from).saturating_add_signed(faults.length_by);
    if !faults.endless {
        headers.push(("content-length".to_owned(), length.to_string()));
    }
    note(status, from);
    if write_head(stream, shared, status, &headers).is_err() {
        return false;
    }
    let whole = body(stream, shared, &firmware, from, end, &faults);
    if faults.endless {
        while whole && !shared.stopping() && write_all(stream, &[0; 4096], shared).is_ok() {}
        return false;
    }
    whole && faults.length_by == 0
}

/// Sends bytes `from` to `end` of the file; false when the connection ended before them.
fn body(
    stream: &mut Stream,
    shared: &Shared,
    firmware: &Firmware,
    from: u64,
    end: u64,
    faults: &Faults,
) -> bool {
    let Ok(mut file) = firmware.open_at(from) else { return false };
    let chunk = faults.slow.map_or(BODY_CHUNK, |(bytes, _)| bytes.min(BODY_CHUNK));
    let mut buffer = vec![0; chunk];
    let mut at = from;
    let stop = faults.cut_after.map_or(end, |after| end.min(from.saturating_add(after)));
    while at < stop && !shared.stopping() {
        let room = usize::try_from(stop - at).unwrap_or(chunk).min(chunk);
        let Ok(n @ 1..) = file.read(buffer.get_mut(..room).unwrap_or_default()) else { return false };
        let piece = buffer.get_mut(..n).unwrap_or_default();
        let bad = faults.corrupt.and_then(|offset| usize::try_from(offset.checked_sub(at)?).ok());
        if let Some(byte) = bad.and_then(|index| piece.get_mut(index)) {
            *byte ^= 1;
        }
        if write_all(stream, piece, shared).is_err() {
            return false;
        }
        at += n as u64;
        if let Some((_, every_ms)) = faults.slow {
            shared.pause(Duration::from_millis(every_ms));
        }
    }
    if stop < end {
        stream.cut();
    }
    at == end
}

fn range_of(header: &str, size: u64) -> Wanted {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Wanted::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    let number = |text: &str| text.parse::<u64>().ok();
    let (from, end) = match (number(first), number(last)) {
        (Some(from), Some(last)) if last >= from => (from, last.saturating_add(1).min(size)),
        (Some(from), None) if last.is_empty() => (from, size),
        (None, Some(count)) if first.is_empty() => (size.saturating_sub(count), size),
        // Several ranges, or nonsense: as if nothing had been asked.
        _ => return Wanted::Whole,
    };
    if from < end { Wanted::Part { from, end } } else { Wanted::Impossible }
}

pub(super) fn refusal(status: u16, retry_after: Option<u32>) -> Refusal {
    let refusal = Refusal::new(status, "");
    match retry_after {
        Some(seconds) => refusal.header("retry-after", &seconds.to_string()),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::super::mischief::Times;
    use super::*;

    #[test]
    fn faults_of_one_download_after_the_other_come_in_the_order_they_were_armed() {
        let mut armed = Armed::default();
        armed.add(Mischief::CutDownload { after: 7 }, Times::Count(2));
        armed.add(Mischief::RefuseDownload { status: 404, retry_after: None }, Times::UntilCleared);
        armed.add(Mischief::CorruptByte { offset: 3 }, Times::Once);
        let mut take = || Faults::take(&mut armed, "/f");
        for corrupt in [Some(3), None] {
            let cut = take();
            assert_eq!((cut.cut_after, cut.corrupt, cut.instead.is_none()), (Some(7), corrupt, true));
        }
        assert_eq!(take().instead.map(|refusal| refusal.status), Some(404));
        assert_eq!(take().instead.map(|refusal| refusal.status), Some(404));
    }

    #[test]
    fn ranges_as_the_recorded_server_reads_them() {
        // The recorded client asks for one byte too many and is given what there is.
        let part = |from, end| Wanted::Part { from, end };
        assert_eq!(range_of("bytes=1048576-2098493", 2_098_493), part(1_048_576, 2_098_493));
        assert_eq!(range_of("bytes=0-", 10), part(0, 10));
        assert_eq!(range_of("bytes=3-3", 10), part(3, 4));
        assert_eq!(range_of("bytes=-4", 10), part(6, 10));
        assert_eq!(range_of("bytes=10-", 10), Wanted::Impossible);
        assert_eq!(range_of("bytes=5-2", 10), Wanted::Whole);
        assert_eq!(range_of("bytes=0-1,4-5", 10), Wanted::Whole);
        assert_eq!(range_of("lines=1-2", 10), Wanted::Whole);
    }
}
