//! One download: requests, ranges, retries, limits. Bytes pass by and are never kept.

mod bytes;
mod digest;
mod head;
mod plan;
mod range;
mod retry;
mod runs;
mod staged;
mod timers;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::ops::Range;
use core::time::Duration;

use crate::config::DownloadConfig;
use crate::http::url::Url;
use crate::ids::FetchId;
use crate::input::HeaderRef;
use crate::limits::{MAX_TEXT_CHARS, RANGE_REFUSALS};
use crate::output::{Fetch, Sink};
use crate::outputs::Ids;
use crate::secret::Secret;
use crate::text::cut;
use crate::time::Instant;
use head::{Body, Head};
use retry::Retries;

pub(crate) use digest::{Checksum, Sha, from_hex};
pub(crate) use plan::{Attempts, Plan, is_key_of, key_of};
pub(crate) use staged::{Desk, Loss, Outcome, Staged};

/// Which part of a chunk to store, and where it belongs in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// The part of the chunk to hand over to where the fetch goes; empty when there is nothing to keep. What is
    /// kept must arrive there, even if the fetch fails afterwards.
    pub range: Range<usize>,
    /// The offset in the file of the first byte kept.
    pub offset: u64,
    /// Read no more of this fetch before that time, if there is one: bytes come faster than
    /// [`Config::rate`](crate::Config::rate) allows. Others wait for themselves.
    pub not_before: Option<Instant>,
}

/// What to do next. At most one thing follows from anything that happens.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Nothing.
    Continue,
    /// Bytes are coming, from this offset of a file of that size.
    Started { offset: u64, total: Option<u64> },
    /// Send this request, in place of the one to abort.
    Request { fetch: Fetch, abort: Option<FetchId> },
    /// An attempt failed; another follows.
    Retry { reason: String, delay: Duration, abort: Option<FetchId> },
    /// All bytes are stored.
    Complete,
    /// What was received is of no use: the file is another one now, or a mixture of two.
    Changed { reason: String, abort: Option<FetchId> },
    /// It is over.
    Fail { failure: Failure, abort: Option<FetchId> },
}

/// Why a download ended.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The fault of the network, the server or the file.
    Download(String),
    /// The file isn't there, isn't the one that was begun, or is too big.
    Absent(String),
    /// Whoever the bytes are for doesn't take them.
    Stalled,
}

/// A download under way.
pub(crate) struct Download {
    sink: Sink,
    original: Url,
    current: Url,
    redirects: u8,
    /// The size of the file as the hub announced it.
    announced: Option<u64>,
    /// The size of the file, once known.
    total: Option<u64>,
    etag: Option<String>,
    /// Whether bytes may be those of two files: the tag changed, and the length didn't.
    mixed: bool,
    /// Answers in a row with the whole file that ended before what is there already.
    short: u32,
    /// Requests for a range in a row whose answers were of no use.
    refused: u32,
    /// Whether the request under way is for a range.
    ranged: bool,
    /// The offset of the next byte to hand over.
    received: u64,
    /// One past the last byte wanted; `None` for all there are.
    until: Option<u64>,
    /// The offset of the next byte that the applier, or the store, has yet to take.
    stored: u64,
    /// Bytes that were handed over, and will be taken, for nothing.
    wasted: u64,
    checksum: Option<Checksum>,
    retries: Retries,
    /// The oldest request of this download: bytes of it may be stored late.
    first: Option<FetchId>,
    /// The newest request of this download, even if it is over.
    newest: Option<FetchId>,
    fetch: Option<FetchId>,
    stage: Stage,
    began: Instant,
    /// When bytes were last handed to the applier or taken by it.
    moved: Instant,
}

enum Stage {
    /// Between attempts. Left by the timer.
    Waiting { until: Instant },
    /// No answer yet. Left by the head, a failure or the timer.
    Requested { since: Instant },
    /// Left by the last byte, the end, a failure or the timers.
    Receiving {
        /// When the present wait for the network began.
        since: Instant,
        /// Bytes to skip, because the server began before the offset asked for.
        skip: u64,
        /// Whether the body goes to the end of the file, however long that is.
        to_end: bool,
        /// Whether the body may go past the last byte wanted.
        loose: bool,
        /// Network time left until the download counts as too slow.
        budget: Option<Duration>,
    },
    /// All bytes passed by; the last may have yet to be taken. Left by `stored` or the timer.
    Received {
        /// Whether the body under way, if there is one, is no part of the file.
        foreign: bool,
    },
}

impl Download {
    /// Builds a download of a file. `size` and `checksum` are what the server announced.
    pub(crate) fn new(sink: Sink, url: Url, size: Option<u64>, checksum: Option<Sha>, now: Instant) -> Self {
        Self {
            sink,
            current: url.clone(),
            original: url,
            redirects: 0,
            announced: size,
            total: size,
            etag: None,
            mixed: false,
            short: 0,
            refused: 0,
            ranged: false,
            received: 0,
            until: None,
            stored: 0,
            wasted: 0,
            checksum: checksum.map(Checksum::new),
            retries: Retries::default(),
            first: None,
            newest: None,
            fetch: None,
            stage: Stage::Waiting { until: now },
            began: now,
            moved: now,
        }
    }

    /// Builds a download of a range of a file for a store. The bytes are judged elsewhere.
    fn of_range(
        sink: Sink,
        url: Url,
        size: Option<u64>,
        from: u64,
        until: Option<u64>,
        now: Instant,
    ) -> Self {
        Self { received: from, stored: from, until, ..Self::new(sink, url, size, None, now) }
    }

    /// Returns the bytes handed to the applier.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// Returns the bytes the applier took.
    pub(crate) const fn safe(&self) -> u64 {
        self.stored
    }

    /// Returns how much of the file was received, if its size is known.
    pub(crate) fn percent(&self) -> Option<u8> {
        let total = self.total.filter(|total| *total > 0)?;
        let percent = u128::from(self.received) * 100 / u128::from(total);
        Some(u8::try_from(percent).unwrap_or(100).min(100))
    }

    /// Returns whether a request is the present one.
    pub(crate) fn is_current(&self, fetch: FetchId) -> bool {
        self.fetch == Some(fetch)
    }

    /// Returns whether a request is or was one of this download.
    pub(crate) fn is_ours(&self, fetch: FetchId) -> bool {
        self.first.is_some_and(|first| fetch >= first)
    }

    /// The network isn't read before that time; it is not to blame meanwhile.
    pub(crate) fn paused(&mut self, until: Instant) {
        if let Stage::Receiving { since, .. } = &mut self.stage {
            *since = until.max(*since);
        }
    }

    /// Takes the request under way, to abort it.
    pub(crate) const fn take_fetch(&mut self) -> Option<FetchId> {
        self.fetch.take()
    }

    /// Makes the next request.
    pub(crate) fn request(&mut self, now: Instant, config: &DownloadConfig, ids: &mut Ids) -> Fetch {
        let fetch = ids.fetch();
        self.first.get_or_insert(fetch);
        self.newest = Some(fetch);
        self.fetch = Some(fetch);
        self.stage = Stage::Requested { since: now };
        let mut headers = vec![
            (String::from("User-Agent"), format!("NervesHubLink-rs/{}", env!("CARGO_PKG_VERSION"))),
            // Offsets, sizes and checksums are those of the file as it is.
            (String::from("Accept-Encoding"), String::from("identity")),
            (String::from("X-Retry-Number"), self.retries.attempt.to_string()),
        ];
        self.ranged = (self.received > 0 || self.until.is_some()) && self.refused < RANGE_REFUSALS;
        if self.ranged {
            let last = self.until.map_or_else(String::new, |until| until.saturating_sub(1).to_string());
            headers.push((String::from("Range"), format!("bytes={}-{last}", self.received)));
            // Tags that change while the file stays as long are those of mirrors. They would never agree.
            if let Some(etag) = self.etag.as_ref().filter(|_| !self.mixed) {
                headers.push((String::from("If-Range"), etag.clone()));
            }
        }
        let url = Secret::new(self.current.to_http());
        Fetch { fetch, into: self.sink, url, headers, timeout: config.connect_timeout }
    }

    /// The head of the response arrived.
    pub(crate) fn head(
        &mut self,
        now: Instant,
        config: &DownloadConfig,
        ids: &mut Ids,
        status: u16,
        headers: &[HeaderRef<'_>],
    ) -> Verdict {
        if !matches!(self.stage, Stage::Requested { .. }) {
            return Verdict::Continue;
        }
        let known = head::Known {
            received: self.received,
            until: self.until,
            ranged: self.ranged,
            total: self.total,
            announced: self.announced.is_some(),
            etag: self.etag.as_deref(),
            staged: self.is_staged(),
        };
        match head::read(&known, status, headers) {
            Head::Body(body) => self.begin(now, config, body),
            Head::Complete => {
                self.total = Some(self.received);
                // The request goes on with words about the refusal, until it ends or is aborted.
                self.finish(true)
            }
            Head::Redirect { location } => match self.redirect(config, location.as_deref()) {
                Ok(next) => {
                    self.current = next;
                    self.redirects = self.redirects.saturating_add(1);
                    let abort = self.fetch.take();
                    Verdict::Request { fetch: self.request(now, config, ids), abort }
                }
                Err(why) => {
                    let reason = format!("HTTP {status}, a redirect that is not followed: {why}");
                    // Without TLS it may come from a network that wants a login.
                    if self.original.is_tls() {
                        self.fail(reason)
                    } else {
                        self.interrupted(now, config, reason, None)
                    }
                }
            },
            Head::Retry { reason, after } => self.interrupted(now, config, reason, after),
            Head::Refused { reason, after, passing } => {
                self.range_refused(now, config, reason, after, passing)
            }
            Head::Changed(reason) => Verdict::Changed { reason, abort: self.fetch.take() },
            Head::Fail(reason) => self.fail(reason),
            Head::Absent(reason) => {
                Verdict::Fail { failure: Failure::Absent(reason), abort: self.fetch.take() }
            }
        }
    }

    /// The body ended as HTTP says it should.
    pub(crate) fn ended(&mut self, now: Instant, config: &DownloadConfig) -> Verdict {
        let short = self.announced.is_none() && self.is_short();
        match (&self.stage, self.total) {
            (Stage::Received { .. }, _) => {
                self.fetch = None;
                Verdict::Continue
            }
            (Stage::Waiting { .. }, _) => Verdict::Continue,
            (Stage::Receiving { skip: 0, to_end: true, .. }, None) if self.received > 0 => {
                self.total = Some(self.received);
                self.fetch = None;
                self.finish(false)
            }
            // All was there before, and a server that ignores ranges sent it again.
            (Stage::Receiving { skip: 0, .. }, Some(total)) if self.received == total => {
                self.fetch = None;
                self.finish(false)
            }
            // It may have been cut, where nothing said how long it is; not twice.
            (Stage::Receiving { to_end: true, .. }, _) if short => {
                let reason = String::from("the file on the server is shorter than what was received");
                self.fetch = None;
                Verdict::Changed { reason, abort: None }
            }
            (_, total) => {
                let of = total.map_or_else(String::new, |total| format!(" of {total}"));
                let reason = format!("the body ended after {}{of} bytes", self.received);
                self.fetch = None;
                self.interrupted(now, config, reason, None)
            }
        }
    }

    /// Counts a whole file that ended before what is there already. Returns whether it was not the first.
    fn is_short(&mut self) -> bool {
        if !matches!(self.stage, Stage::Receiving { skip: 1.., to_end: true, .. }) {
            return false;
        }
        self.short = self.short.saturating_add(1);
        self.short > 1
    }

    /// The request failed.
    pub(crate) fn broke(&mut self, now: Instant, config: &DownloadConfig, reason: &str) -> Verdict {
        if matches!(self.stage, Stage::Waiting { .. }) {
            return Verdict::Continue;
        }
        self.fetch = None;
        if self.is_received() {
            return Verdict::Continue;
        }
        self.interrupted(now, config, cut(reason, MAX_TEXT_CHARS), None)
    }

    /// Whether there are bytes yet to be taken. The network isn't to blame meanwhile.
    const fn is_storing(&self) -> bool {
        self.received > self.stored || self.wasted > 0
    }

    /// Whether the bytes go into a store.
    const fn is_staged(&self) -> bool {
        matches!(self.sink, Sink::Store(_))
    }

    /// Whether all bytes wanted passed by.
    const fn is_received(&self) -> bool {
        matches!(self.stage, Stage::Received { .. })
    }

    /// Goes back to an offset: what came from there on is wrong. Returns the request to abort.
    fn rewind(&mut self, now: Instant, to: u64) -> Option<FetchId> {
        let to = to.min(self.received);
        self.wasted = self.wasted.saturating_add(self.received.saturating_sub(to.max(self.stored)));
        self.received = to;
        self.stored = self.stored.min(to);
        self.retries.again();
        self.stage = Stage::Waiting { until: now };
        self.fetch.take()
    }

    fn begin(&mut self, now: Instant, config: &DownloadConfig, body: Body) -> Verdict {
        let Body { skip, total, etag, to_end, loose, mixed } = body;
        self.total = total.or(self.total);
        self.mixed |= mixed;
        if self.ranged && !to_end {
            self.refused = 0;
        }
        if self.total.is_some_and(|total| total > config.max_size) {
            return self.too_big(config.max_size);
        }
        self.etag = etag.or_else(|| self.etag.take());
        let budget = self.budget(config, skip);
        self.stage = Stage::Receiving { since: now, skip, to_end, loose, budget };
        Verdict::Started { offset: self.received, total: self.total }
    }

    /// How long the bytes that are wanted may take, if there is a slowest speed and their number is known.
    fn budget(&self, config: &DownloadConfig, skip: u64) -> Option<Duration> {
        let last = self.until.or(self.total)?;
        let rest = last.saturating_sub(self.received).saturating_add(skip);
        retry::speed_budget(rest, config.min_bits_per_second)
    }

    /// The answer to a request is of no use. If it was for a range, the whole file may be had all the same: it is asked
    /// for after [`RANGE_REFUSALS`] answers that may pass, and at once after one that won't.
    fn range_refused(
        &mut self,
        now: Instant,
        config: &DownloadConfig,
        mut reason: String,
        after: Option<Duration>,
        passing: bool,
    ) -> Verdict {
        if !self.ranged {
            return self.interrupted(now, config, reason, after);
        }
        self.refused = if passing { self.refused.saturating_add(1) } else { RANGE_REFUSALS };
        if self.refused >= RANGE_REFUSALS {
            reason.push_str("; the whole file is asked for next");
        }
        if passing {
            return self.interrupted(now, config, reason, after);
        }
        // Not counted as a failure: the request that follows is, if it fails.
        self.retries.again();
        self.stage = Stage::Waiting { until: now };
        Verdict::Retry { reason, delay: Duration::ZERO, abort: self.fetch.take() }
    }

    /// Returns whether what comes is, or what is asked for next will be, the whole file though only a part is wanted.
    fn takes_all(&self) -> bool {
        self.refused >= RANGE_REFUSALS || matches!(self.stage, Stage::Receiving { to_end: true, .. })
    }

    /// More is wanted than before.
    fn extend(&mut self, config: &DownloadConfig, until: Option<u64>) {
        self.until = until;
        let Stage::Receiving { skip, .. } = self.stage else { return };
        let more = self.budget(config, skip);
        if let Stage::Receiving { budget, .. } = &mut self.stage {
            *budget = more;
        }
    }

    /// Begins again at an offset, as what was received is of no use. Returns the request to abort.
    fn start_over(&mut self, now: Instant, at: u64) -> Option<FetchId> {
        let abort = self.rewind(now, at);
        (self.total, self.etag, self.mixed, self.short) = (self.announced, None, false, 0);
        abort
    }

    /// Returns whether the bytes may be those of two files.
    pub(crate) const fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Counts the time of a download that this one replaces.
    pub(crate) const fn ages_from(&mut self, other: &Self) {
        self.began = other.began;
    }

    /// No more bytes come; the file is as long as it is.
    fn finish(&mut self, foreign: bool) -> Verdict {
        if let Some(reason) = self.mismatch() {
            return self.wrong(reason);
        }
        self.stage = Stage::Received { foreign };
        self.settled()
    }

    fn settled(&self) -> Verdict {
        match self.stage {
            Stage::Received { .. } if !self.is_storing() => Verdict::Complete,
            _ => Verdict::Continue,
        }
    }

    fn redirect(&self, config: &DownloadConfig, location: Option<&str>) -> Result<Url, String> {
        if self.redirects >= config.max_redirects {
            return Err(format!("there were {} in a row already", self.redirects));
        }
        let location = location.ok_or_else(|| String::from("it names no address"))?;
        let next = self.current.resolve(location).map_err(|error| error.to_string())?;
        if self.current.is_tls() && !next.is_tls() {
            return Err(String::from("it leads from https to http"));
        }
        Ok(next)
    }

    fn interrupted(
        &mut self,
        now: Instant,
        config: &DownloadConfig,
        reason: String,
        after: Option<Duration>,
    ) -> Verdict {
        let abort = self.fetch.take();
        if !self.ranged {
            // The whole doesn't work either, so ranges are worth another try.
            self.refused = 0;
        }
        match self.retries.failed(config.max_disconnects) {
            Ok(()) => {
                let delay = config.retry_delay.max(after.unwrap_or_default());
                self.stage = Stage::Waiting { until: now + delay };
                Verdict::Retry { reason, delay, abort }
            }
            Err(given_up) => {
                let failure = Failure::Download(format!("{given_up}; the last time: {reason}"));
                Verdict::Fail { failure, abort }
            }
        }
    }

    /// The bytes are wrong. If they may be those of two files, a single one may be right.
    fn wrong(&mut self, reason: String) -> Verdict {
        if self.mixed {
            return Verdict::Changed { reason, abort: self.fetch.take() };
        }
        self.fail(reason)
    }

    fn fail(&mut self, reason: String) -> Verdict {
        Verdict::Fail { failure: Failure::Download(reason), abort: self.fetch.take() }
    }

    /// What was received of the file is of no use.
    fn too_big(&mut self, limit: u64) -> Verdict {
        let failure = Failure::Absent(format!("the file is bigger than the {limit} bytes allowed"));
        Verdict::Fail { failure, abort: self.fetch.take() }
    }

    fn mismatch(&self) -> Option<String> {
        self.checksum.as_ref().and_then(Checksum::mismatch)
    }

    fn excess(&self) -> String {
        if let Some(until) = self.until {
            return format!("the server sent more than the bytes up to {until} that were asked for");
        }
        format!("the server sent more than the {} bytes of the file", self.total.unwrap_or(self.received))
    }
}
