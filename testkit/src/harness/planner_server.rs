//! A file server that may send anything, and the little of a hub that an update needs.

use nerves_hub_link_protocol::{Fetch, FetchId, SocketId};

/// A request.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) fetch: FetchId,
    /// The bytes asked for: from, and one past the last if that was said.
    from: usize,
    until: Option<usize>,
    /// Whether the whole file is asked for, no range of it.
    whole: bool,
    /// The offset of the next byte of the answer, once its head is sent.
    pub(super) at: Option<usize>,
}

impl Asked {
    /// One past the last byte an honest server sends.
    pub(super) fn end(&self, size: usize) -> usize {
        self.until.unwrap_or(size).min(size)
    }
}

/// What was asked and isn't over.
#[derive(Default)]
pub(super) struct Server {
    pub(super) socket: Option<SocketId>,
    /// Whether an honest server answers any range with an error.
    pub(super) refuses_ranges: bool,
    asked: Vec<Asked>,
}

impl Server {
    /// Takes a request, which must be for bytes that nobody else is asked for.
    pub(super) fn ask(&mut self, fetch: &Fetch, at_once: usize, size: usize) {
        let range = fetch.headers.iter().find(|(name, _)| name == "Range").map(|(_, value)| value);
        let (from, until) = range.map_or((0, None), |range| {
            let (from, last) = range.trim_start_matches("bytes=").split_once('-').unwrap_or_default();
            (from.parse().unwrap_or(0), last.parse().ok().map(|last: usize| last + 1))
        });
        let new = Asked { fetch: fetch.fetch, from, until, whole: range.is_none(), at: None };
        // Where ranges don't work, the whole file is asked for whatever of it is wanted.
        for other in self.asked.iter().filter(|other| !other.whole && !new.whole) {
            let (start, end) = (other.from.max(other.at.unwrap_or(0)), other.end(size));
            assert!(
                new.end(size) <= start || end <= from || start >= end,
                "bytes {from} to {:?} while {start} to {end} are on their way",
                new.until
            );
        }
        self.asked.push(new);
        assert!(self.asked.len() <= at_once, "{} requests at a time", self.asked.len());
    }

    /// One of the requests.
    pub(super) fn pick(&self, which: u8) -> Option<Asked> {
        let place = usize::from(which).checked_rem(self.asked.len())?;
        self.asked.get(place).cloned()
    }

    /// The next request comes first.
    pub(super) fn turn(&mut self) {
        if !self.asked.is_empty() {
            self.asked.rotate_left(1);
        }
    }

    pub(super) fn forget(&mut self, fetch: FetchId) {
        self.asked.retain(|asked| asked.fetch != fetch);
    }

    pub(super) fn sent(&mut self, fetch: FetchId, length: usize) {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.fetch == fetch) {
            asked.at = asked.at.map(|at| at + length);
        }
    }

    /// The status and range of an answer; 0 is an honest one.
    pub(super) fn answer(&mut self, asked: &Asked, how: u8, size: usize) -> (u16, Option<String>) {
        let refuses = self.refuses_ranges;
        let Some(open) = self.asked.iter_mut().find(|open| open.fetch == asked.fetch) else {
            return (500, None);
        };
        let (from, last) = (asked.from, asked.end(size).saturating_sub(1));
        let whole = asked.whole;

        let (status, range, at) = match how % 16 {
            // Ranges ignored.
            1 | 2 => (200, None, 0),
            // Another range, another size.
            3 => (206, Some(format!("bytes {}-{last}/{size}", from + 1)), from + 1),
            4 => (206, Some(format!("bytes {from}-{last}/{}", size + 1)), from),
            5 => (404, None, 0),
            6 => (416, None, 0),
            7 => (503, None, 0),
            8 => (403, None, 0),
            // More than was asked for; the range alone, without saying which; ranges refused.
            9 => (206, Some(format!("bytes 0-{}/{size}", size - 1)), 0),
            10 => (206, None, from),
            11 => (400, None, 0),
            _ if whole => (200, None, 0),
            _ if refuses => (400, None, 0),
            // Nothing is there.
            _ if from >= size => (416, Some(format!("bytes */{size}")), size),
            _ => (206, Some(format!("bytes {from}-{last}/{size}")), from),
        };
        open.at = Some(at);
        (status, range)
    }

    /// The hub's answer to a message that wants one.
    pub(super) fn reply(text: &str) -> Option<String> {
        let message: serde_json::Value = serde_json::from_str(text).ok()?;
        let (topic, event) = (message.get(2)?.as_str()?, message.get(3)?.as_str()?);
        matches!(event, "phx_join" | "heartbeat").then(|| {
            let answer = serde_json::json!({"status": "ok", "response": {}});
            serde_json::json!([message.get(0), message.get(1), topic, "phx_reply", answer]).to_string()
        })
    }
}
