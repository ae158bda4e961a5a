//! Bodies of downloads. Recordings keep only small ones; for the others zeros are made up, and the checksums in
//! what the server announced are made to fit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use nerves_hub_link_protocol::{Fetch, FetchId, Sink};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::plot::{Plot, target};
use super::recording::{Envelope, Kind, Request, header};
use crate::limits::{PART, REPLAY_BODY};

/// The requests under way, by recorded connection.
#[derive(Default)]
pub struct Downloads {
    all: BTreeMap<u64, Download>,
    checksums: BTreeMap<u64, (String, Vec<String>)>,
    unreached: BTreeSet<u64>,
}

/// A request and what is left of its answer.
pub struct Download {
    /// The machine's number for it.
    pub fetch: FetchId,
    /// Where the bytes go.
    into: Sink,
    /// How much of the body came before the connection broke, if it did.
    pub cut: u64,
    target: String,
    /// Where in the file the answer begins.
    start: u64,
    /// Bytes of the answer, and of the file.
    length: u64,
    size: u64,
    data: Option<Vec<u8>>,
    delivered: u64,
    /// When the last bytes of an answer came that then stood still, in microseconds of the recording's time.
    stalled_at: Option<u64>,
    ended: bool,
}

impl Downloads {
    /// A recorded request is taken for one of the machine's.
    pub fn begin(&mut self, conn: u64, fetch: &Fetch, request: &Request) {
        let download = Download {
            fetch: fetch.fetch,
            into: fetch.into,
            cut: 0,
            target: request.target.clone(),
            start: 0,
            length: 0,
            size: 0,
            data: None,
            delivered: 0,
            stalled_at: None,
            ended: false,
        };
        self.all.insert(conn, download);
    }

    /// A recorded connection found no server.
    pub fn unreached(&mut self, conn: u64) {
        self.unreached.insert(conn);
    }

    /// Returns whether a recorded connection was taken for one of the machine's requests.
    pub fn knows(&self, conn: u64) -> bool {
        self.all.contains_key(&conn) || self.unreached.contains(&conn)
    }

    /// The head of the answer came. Returns the machine's number, if it still waits.
    pub fn head(
        &mut self,
        conn: u64,
        status: u16,
        headers: &[(String, String)],
        plot: &Plot<'_>,
        position: usize,
    ) -> Option<FetchId> {
        let download = self.all.get_mut(&conn).filter(|download| !download.ended)?;
        let range = header(headers, "content-range").and_then(content_range).filter(|_| status == 206);
        let announced = header(headers, "content-length").and_then(|length| length.parse().ok());
        let mut body = None;
        let mut next_start = None;
        let mut end = None;
        let answered = plot.lines(position.saturating_sub(1)).next().map_or(0, |line| line.at);
        for line in plot.lines(position) {
            match &line.kind {
                Kind::Body { bytes, data } if line.conn == Some(conn) && body.is_none() => {
                    body = Some((*bytes, data.clone()));
                }
                // The next request tells how much of this answer had come.
                Kind::Request(next) if next.target == download.target && next_start.is_none() => {
                    next_start = next.header("range").and_then(range_start);
                }
                Kind::Eof(_) | Kind::Closed | Kind::Failed(_) if line.conn == Some(conn) => {
                    end.get_or_insert(line.at);
                }
                _ => {}
            }
        }
        download.start = range.map_or(0, |(start, _)| start);
        download.length = body.as_ref().map(|(bytes, _)| *bytes).or(announced).unwrap_or_default();
        download.size = range.map_or(download.length, |(_, size)| size);
        download.cut = match body {
            Some(_) => download.length,
            None => next_start.unwrap_or_default().saturating_sub(download.start).min(download.length),
        };
        // A device gives up on a connection that has been silent for so long: that is when its last bytes came.
        let silent = end.and_then(|end| end.checked_sub(silence(plot))).filter(|at| *at >= answered);
        download.stalled_at = silent.filter(|_| body.is_none());
        download.data = body.and_then(|(_, data)| data);
        Some(download.fetch)
    }

    /// Returns a request under way.
    pub fn get(&self, conn: u64) -> Option<&Download> {
        self.all.get(&conn).filter(|download| !download.ended)
    }

    /// Returns the connections of all requests under way.
    pub fn open(&self) -> Vec<u64> {
        self.all.iter().filter(|(_, download)| !download.ended).map(|(conn, _)| *conn).collect()
    }

    /// Returns the download that stands still from a time up to another on, and when. It is told once.
    pub fn stalls(&mut self, by: u64) -> Option<(u64, u64)> {
        let open = self.all.iter_mut().filter(|(_, download)| !download.ended);
        let next = open.filter_map(|(conn, download)| Some((download.stalled_at?, *conn, download)));
        let (at, conn, download) = next.min_by_key(|(at, ..)| *at).filter(|(at, ..)| *at <= by)?;
        download.stalled_at = None;
        Some((conn, at))
    }

    /// Returns the next bytes of an answer, up to a position in it.
    pub fn next_chunk(&mut self, conn: u64, up_to: u64) -> Option<(FetchId, Sink, Vec<u8>)> {
        let download = self.all.get_mut(&conn).filter(|download| !download.ended)?;
        let left = up_to.min(download.length).saturating_sub(download.delivered).min(REPLAY_BODY);
        if left == 0 {
            return None;
        }
        let from = usize::try_from(download.delivered).ok()?;
        let count = usize::try_from(left).ok()?;
        let known = download.data.as_ref().and_then(|data| data.get(from..from.checked_add(count)?));
        let chunk = known.map_or_else(|| vec![0; count], <[u8]>::to_vec);
        download.delivered += left;
        Some((download.fetch, download.into, chunk))
    }

    /// Ends a request. Returns whether it was under way.
    pub fn end(&mut self, conn: u64) -> bool {
        let Some(download) = self.all.get_mut(&conn) else { return false };
        !core::mem::replace(&mut download.ended, true)
    }

    /// The machine dropped a request.
    pub fn abort(&mut self, fetch: FetchId) {
        self.all.values_mut().filter(|download| download.fetch == fetch).for_each(|d| d.ended = true);
    }

    /// Returns how far each answer had come when the device reported a percentage.
    pub fn positions(&self, percent: u64, updating: bool) -> Vec<(u64, u64)> {
        let position = |download: &Download| {
            let of_file = download.size.saturating_mul(percent).div_ceil(100);
            // Whoever reports the beginning of a download has the first byte.
            of_file.max(u64::from(!updating)).saturating_sub(download.start)
        };
        let open = self.all.iter().filter(|(_, download)| !download.ended && download.length > 0);
        open.map(|(conn, download)| (*conn, position(download))).collect()
    }

    /// Makes the checksums of an announced file fit the bytes that will be handed over.
    pub fn adjust(&mut self, message: &mut Envelope, plot: &Plot<'_>) {
        if !matches!(message.event.as_str(), "update" | "archive") {
            return;
        }
        let Some(fields) = message.payload.as_object_mut() else { return };
        let url = fields.get("firmware_url").or_else(|| fields.get("url")).and_then(Value::as_str);
        let target = url.and_then(target);
        let (Some(target), Some(size)) = (target, fields.get("size").and_then(Value::as_u64)) else { return };
        if is_recorded(plot, target, size) {
            return;
        }
        if size > MADE_UP_MOST {
            fields.remove("checksum");
            fields.remove("partials_checksums");
            return;
        }
        let (whole, parts) = self.checksums.entry(size).or_insert_with(|| checksums(size));
        if fields.get("checksum").is_some_and(Value::is_string) {
            fields.insert("checksum".to_owned(), Value::from(whole.as_str()));
        }
        if fields.get("partials_checksums").is_some_and(Value::is_array) {
            fields.insert("partials_checksums".to_owned(), Value::from(parts.as_slice()));
        }
    }
}

/// Largest file whose checksums are made up, in bytes; a larger one is announced without.
const MADE_UP_MOST: u64 = 256 * 1024 * 1024;

/// How long a download may be silent, in microseconds.
fn silence(plot: &Plot<'_>) -> u64 {
    u64::try_from(plot.config.download.idle_timeout.as_micros()).unwrap_or(u64::MAX)
}

/// Returns whether the recording has the whole body of a file.
fn is_recorded(plot: &Plot<'_>, target: &str, size: u64) -> bool {
    let mut conns = Vec::new();
    plot.lines(0).any(|line| match &line.kind {
        Kind::Request(request) if request.target == target => {
            conns.push(line.conn);
            false
        }
        Kind::Body { bytes, data: Some(_) } => *bytes == size && conns.contains(&line.conn),
        _ => false,
    })
}

/// SHA-256 of that many zeros, whole and in parts, as servers write it.
fn checksums(size: u64) -> (String, Vec<String>) {
    let part = vec![0; PART];
    let mut whole = Sha256::new();
    let mut parts = Vec::new();
    let mut left = size;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(PART).min(PART);
        let zeros = part.get(..count).unwrap_or_default();
        whole.update(zeros);
        parts.push(hex(&Sha256::digest(zeros)));
        left -= count as u64;
    }
    (hex(&whole.finalize()), parts)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// Reads `bytes 1048576-2098492/2098493`: the first byte, and the size of the file.
fn content_range(value: &str) -> Option<(u64, u64)> {
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()?))
}

/// Reads the first byte of `bytes=1048576-…`.
pub fn range_start(value: &str) -> Option<u64> {
    value.strip_prefix("bytes=")?.split_once('-')?.0.parse().ok()
}

/// Reads the last byte of `bytes=…-2098493`, if it is named.
pub fn range_end(value: &str) -> Option<u64> {
    value.strip_prefix("bytes=")?.split_once('-')?.1.parse().ok()
}
