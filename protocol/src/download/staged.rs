//! A download that is kept in a store until all of it is there and verified (device-protocol §6.5). Parts that are there
//! already are checked and kept; missing ones are requested in runs, several at a time if so configured.

mod carry_out;
mod check;
mod run;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::plan::{Attempts, Plan};
use super::{Download, Keep};
use crate::config::DownloadConfig;
use crate::fault::Fault;
use crate::http::url::Url;
use crate::ids::{FetchId, StoreId};
use crate::input::HeaderRef;
use crate::limits::{MAX_TEXT_CHARS, STORE_STALL};
use crate::number::{as_u64, as_usize};
use crate::output::{OpenStore, Output, StoreKind};
use crate::outputs::{Ids, Outputs};
use crate::text::cut;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};
use run::Run;

/// What the parts of a download share for the length of one call.
pub(crate) struct Desk<'a> {
    pub(crate) now: Instant,
    pub(crate) config: &'a DownloadConfig,
    pub(crate) out: &'a mut Outputs,
    pub(crate) ids: &'a mut Ids,
}

/// What whoever wants the file should know.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Bytes are coming, from this offset of a file of that size.
    Started { offset: u64, total: Option<u64> },
    /// An attempt failed; another follows.
    Interrupted { reason: String, delay: core::time::Duration },
    /// Everything is there, verified and on the disk.
    Complete { size: u64 },
    /// It is over. Nothing is under way any more.
    Failed { failure: Loss },
}

/// Why a staged download ended.
#[derive(Debug)]
pub(crate) enum Loss {
    /// The fault of the network or the server.
    Download(String),
    /// The file isn't there any more, so that what is kept of it is of no use.
    Absent(String),
    /// The fault of the store or of the bytes.
    Bytes(String),
}

/// A download under way.
pub(crate) struct Staged {
    store: StoreId,
    url: Url,
    plan: Plan,
    attempts: Attempts,
    stage: Stage,
    verified: Vec<bool>,
    missing: u32,
    /// Lengths of unfinished parts in the store, until their run begins.
    leftovers: BTreeMap<u32, u64>,
    /// How often parts were wrong.
    failures: BTreeMap<u32, u32>,
    runs: VecDeque<Run>,
    read: Option<Read>,
    /// Parts on their way onto the disk.
    committing: u32,
    /// Bytes of parts that no run deals with any more.
    settled: u64,
    news: VecDeque<Outcome>,
    /// Whether bytes came under different tags, or from an attempt of which no tag is known.
    mixed: bool,
    began: Instant,
    /// When the store last did something.
    moved: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Left by the store's answer or the timer.
    Opening,
    /// Parts from `next` on are still to be checked. Left after the last, or by the timer.
    Checking { next: u32 },
    /// Left when nothing is missing and everything is on the disk, or by failure.
    Fetching,
    /// The owner knows, or will be told.
    Over,
}

/// A part being read back.
struct Read {
    fetch: FetchId,
    part: u32,
    left: u64,
    hash: Sha256,
}

impl Staged {
    /// Orders the store for a file to be opened.
    pub(crate) fn open(
        desk: &mut Desk<'_>,
        kind: StoreKind,
        uuid: &str,
        url: Url,
        plan: Plan,
        attempts: Attempts,
        public_keys: Vec<String>,
    ) -> Self {
        let store = desk.ids.store();
        let parts = plan.count();
        desk.out.push(Output::OpenStore(OpenStore {
            store,
            kind,
            key: plan.key(uuid),
            manifest: plan.manifest(),
            size: plan.size,
            part_size: plan.part_size,
            parts,
            public_keys,
        }));
        Self {
            store,
            url,
            attempts,
            stage: Stage::Opening,
            verified: vec![false; as_usize(parts)],
            missing: parts,
            leftovers: BTreeMap::new(),
            failures: BTreeMap::new(),
            runs: VecDeque::new(),
            read: None,
            committing: 0,
            settled: 0,
            news: VecDeque::new(),
            mixed: false,
            began: desk.now,
            moved: desk.now,
            plan,
        }
    }

    /// Returns the store.
    pub(crate) const fn store(&self) -> StoreId {
        self.store
    }

    /// Returns the newest request of the first run.
    pub(crate) fn newest(&self) -> Option<FetchId> {
        self.runs.front().and_then(|run| run.transfer.newest)
    }

    /// Returns the plan.
    pub(crate) const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the next news. Ask after every call until there are none.
    pub(crate) fn news(&mut self) -> Option<Outcome> {
        self.news.pop_front()
    }

    /// Returns how many bytes are there, on their way into the store included.
    pub(crate) fn received(&self) -> u64 {
        self.sum(|run| run.transfer.received)
    }

    /// Returns how many bytes the store took.
    pub(crate) fn safe(&self) -> u64 {
        self.sum(|run| run.transfer.stored)
    }

    fn sum(&self, at: impl Fn(&Run) -> u64) -> u64 {
        let run = |run| {
            let (at, start) = (at(run), self.plan.start(run.first));
            debug_assert!(at >= start, "a run is before its first byte: {at}, {start}");
            at.saturating_sub(start)
        };
        self.runs.iter().map(run).fold(self.settled, u64::saturating_add)
    }

    /// Returns how much of the file is there, if its size is known.
    pub(crate) fn percent(&self) -> Option<u8> {
        let size = self.plan.size.filter(|size| *size > 0)?;
        let percent = u128::from(self.received()) * 100 / u128::from(size);
        Some(u8::try_from(percent).unwrap_or(100).min(100))
    }

    /// Returns whether a number is one of a request or reading under way.
    pub(crate) fn is_current(&self, fetch: FetchId) -> bool {
        self.is_reading(fetch) || self.run_of(fetch).is_some()
    }

    fn is_reading(&self, fetch: FetchId) -> bool {
        self.read.as_ref().is_some_and(|read| read.fetch == fetch)
    }

    fn run_of(&self, fetch: FetchId) -> Option<usize> {
        self.runs.iter().position(|run| run.transfer.is_current(fetch))
    }

    /// Returns the download that a request belongs to.
    pub(crate) fn transfer(&mut self, fetch: FetchId) -> Option<&mut Download> {
        let at = self.run_of(fetch)?;
        self.runs.get_mut(at).map(|run| &mut run.transfer)
    }

    /// The store is open and holds these parts.
    pub(crate) fn opened(&mut self, desk: &mut Desk<'_>, parts: &[(u32, u64)]) {
        if self.stage != Stage::Opening {
            return;
        }
        self.moved = desk.now;
        for (part, length) in parts {
            let fits = self.plan.len(*part).is_none_or(|full| *length <= full);
            if *part < self.plan.count() && *length > 0 && fits {
                self.leftovers.insert(*part, *length);
            }
        }
        self.check(desk, 0);
        self.go_on(desk);
    }

    /// The store failed.
    pub(crate) fn store_failed(&mut self, desk: &mut Desk<'_>, reason: &str) {
        self.fail(desk, Loss::Bytes(cut(reason, MAX_TEXT_CHARS)));
    }

    /// A part is on the disk for good.
    pub(crate) fn committed(&mut self, desk: &mut Desk<'_>) {
        // A store that reports more than was asked of it changes nothing.
        self.committing = self.committing.saturating_sub(1);
        self.moved = desk.now;
        self.go_on(desk);
    }

    /// The head of a response arrived.
    pub(crate) fn head(
        &mut self,
        desk: &mut Desk<'_>,
        fetch: FetchId,
        status: u16,
        headers: &[HeaderRef<'_>],
    ) {
        let Some(run) = self.run_of(fetch).and_then(|at| self.runs.get_mut(at)) else {
            // A store that is read has no head; only a confused adapter reports one.
            return;
        };
        let verdict = run.transfer.head(desk.now, desk.config, desk.ids, status, headers);
        self.follow(desk, fetch, verdict);
        self.go_on(desk);
    }

    /// A chunk passes by: of a response, or of what is read back.
    pub(crate) fn body(&mut self, desk: &mut Desk<'_>, fetch: FetchId, chunk: &[u8]) -> Keep {
        if let Some(read) = self.read.as_mut().filter(|read| read.fetch == fetch) {
            read.hash.update(chunk);
            // More than asked for is as wrong as less.
            read.left = read.left.checked_sub(as_u64(chunk.len())).unwrap_or(u64::MAX);
            self.moved = desk.now;
            return Keep::default();
        }
        let Self { plan, runs, .. } = self;
        let mut found = runs.iter_mut().enumerate();
        let Some((at, run)) = found.find(|(_, run)| run.transfer.is_current(fetch)) else {
            self.fault(desk, "bytes came to a request of no run");
            return Keep::default();
        };
        let goes_on = matches!(run.transfer.stage, super::Stage::Receiving { loose: true, .. });
        let new = match run.transfer.admit(desk.now, desk.config, chunk) {
            Ok(new) => new,
            Err(verdict) => {
                self.follow(desk, fetch, verdict);
                return Keep::default();
            }
        };
        let bytes = chunk.get(new.clone()).ok_or_else(|| Fault::new("more of a chunk is new than there is"));
        let (good, bad) = match bytes.and_then(|bytes| run.judge(plan, bytes)) {
            Ok(judged) => judged,
            Err(fault) => {
                self.fail(desk, Loss::Download(fault.into()));
                return Keep::default();
            }
        };
        let keep = run.transfer.accept(desk.now, new.start..new.start + good);
        let (first, last) = (run.commit, run.part);
        for part in first..last {
            self.have(desk, part);
        }
        if let Some(part) = bad {
            self.wrong(desk, at, part);
        } else if let Some(run) = self.runs.get_mut(at)
            && goes_on
            && run.transfer.is_received()
            && run.transfer.until.is_some()
        {
            // A server that ignores ranges sends the rest of the file too.
            drop_fetch(desk, run.transfer.take_fetch());
        }
        self.go_on(desk);
        keep
    }

    /// The store took bytes. Returns whether they were ours.
    pub(crate) fn stored(&mut self, desk: &mut Desk<'_>, fetch: FetchId, len: usize) -> bool {
        let Some(run) = self.runs.iter_mut().find(|run| run.transfer.newest == Some(fetch)) else {
            return false;
        };
        // What a transfer wants now it also wants at the tick that follows.
        let _ = run.transfer.stored(desk.now, len);
        self.go_on(desk);
        true
    }

    /// A response, or what was read back, ended.
    pub(crate) fn ended(&mut self, desk: &mut Desk<'_>, fetch: FetchId) {
        if self.is_reading(fetch) {
            self.read_back(desk, true);
        } else if let Some(run) = self.run_of(fetch).and_then(|at| self.runs.get_mut(at)) {
            let verdict = run.transfer.ended(desk.now, desk.config);
            self.follow(desk, fetch, verdict);
        } else {
            self.fault(desk, "a response to a request of no run ended");
        }
        self.go_on(desk);
    }

    /// A request, or the reading back, failed.
    pub(crate) fn broke(&mut self, desk: &mut Desk<'_>, fetch: FetchId, reason: &str) {
        if self.is_reading(fetch) {
            self.read_back(desk, false);
        } else if let Some(run) = self.run_of(fetch).and_then(|at| self.runs.get_mut(at)) {
            let verdict = run.transfer.broke(desk.now, desk.config, reason);
            self.follow(desk, fetch, verdict);
        } else {
            self.fault(desk, "a request of no run failed");
        }
        self.go_on(desk);
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, desk: &mut Desk<'_>) {
        if self.stage == Stage::Over {
            return;
        }
        if desk.now >= self.began + desk.config.max_duration {
            let limit = desk.config.max_duration.as_secs();
            let reason = format!("not complete after {limit} seconds, the longest a download may take");
            return self.fail(desk, Loss::Download(reason));
        }
        if self.waits_for_store() && desk.now >= self.moved + STORE_STALL {
            return self.stalled(desk);
        }
        self.go_on(desk);
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, config: &DownloadConfig, deadline: &mut Earliest) {
        if self.stage == Stage::Over {
            return;
        }
        deadline.after(Timer::DownloadDuration, self.began, config.max_duration);
        if self.waits_for_store() {
            deadline.after(Timer::Store, self.moved, STORE_STALL);
        }
        for run in self.active().filter(|run| run.seeded) {
            run.transfer.deadlines(config, deadline);
        }
    }

    /// Returns whether the bytes may be those of two files, with no checksum to tell.
    pub(crate) fn is_mixed(&self) -> bool {
        self.mixed && !self.plan.is_verified()
    }

    /// Drops what is under way. The store stays open.
    pub(crate) fn stop(&mut self, out: &mut Outputs) {
        let read = self.read.take().map(|read| read.fetch);
        let fetches = self.runs.iter_mut().filter_map(|run| run.transfer.take_fetch());
        for fetch in fetches.chain(read) {
            out.push(Output::Abort { fetch });
        }
        self.runs.clear();
        self.stage = Stage::Over;
    }

    fn waits_for_store(&self) -> bool {
        self.stage == Stage::Opening || self.read.is_some() || self.committing > 0
    }

    fn active(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().take(self.attempts.at_once)
    }
}

fn drop_fetch(desk: &mut Desk<'_>, abort: Option<FetchId>) {
    if let Some(fetch) = abort {
        desk.out.push(Output::Abort { fetch });
    }
}
