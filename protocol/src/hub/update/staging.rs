//! Updates that are kept in a store before they are applied (device-protocol §6.5).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::offer::Offer;
use super::{Phase, Running, State, Updates};
use crate::config::DownloadConfig;
use crate::download::{Attempts, Checksum, Desk, Download, Keep, Loss, Outcome, Plan, Staged, from_hex};
use crate::event::{Event, Stage, UpdateInfo};
use crate::fault::Fault;
use crate::hub::payload::{self, Status};
use crate::hub::report::{Told, drop_fetch, status};
use crate::hub::{Context, names};
use crate::ids::{FetchId, OfferId, StoreId};
use crate::limits::APPLY_STALL;
use crate::number::{as_u64, at_most};
use crate::output::{Output, ReadStore, StartApply, StoreKind};
use crate::status::UpdateState;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};
use crate::update_strategy::PartsConfig;
use crate::update_tool::UpdateTool;

const OTHER_BYTES: &str = "these may not be the bytes that the server announced";

/// A file on its way into a store.
pub(super) struct Staging {
    staged: Box<Staged>,
    /// The keys when the offer arrived.
    keys: Vec<String>,
    info: UpdateInfo,
}

/// An open store.
#[derive(Clone, Copy)]
pub(super) struct Held {
    store: StoreId,
    /// Whether the server's checksums vouch for what is in it.
    pub(super) verified: bool,
}

/// A file on its way from a store to the applier.
pub(super) struct Feed {
    fetch: FetchId,
    size: u64,
    /// Bytes handed to the applier, and taken by it.
    fed: u64,
    taken: u64,
    /// Of the whole file, if only its parts were compared yet.
    checksum: Option<Checksum>,
    /// When bytes last moved, or the applier got further.
    moved: Instant,
}

/// Orders the store for an update to be opened.
pub(super) fn stage(
    cx: &mut Context<'_>,
    offer: Offer,
    parts: Option<&PartsConfig>,
) -> (Phase, Option<Held>) {
    let Offer { id, info, url, keys } = offer;
    let whole = info.checksum.as_deref().and_then(from_hex);
    let (mut plan, mut attempts) = (Plan::whole(info.size, whole), Attempts::WHOLE);
    if let Some(config) = parts {
        attempts = Attempts::of_parts(config);
        match Plan::parts(info.size, config.part_size, &info.part_checksums, whole) {
            Ok(parts) => plan = parts,
            Err(reason) => cx.out.event(Event::PartsUnavailable { offer: id, reason }),
        }
    }
    let verified = plan.is_verified();
    // Other tools take files of their own.
    let trusted = if cx.config.update_tool == UpdateTool::Fwup { keys.clone() } else { Vec::new() };
    let (mut desk, uuid) = (desk(cx), &info.firmware.uuid);
    let staged = Staged::open(&mut desk, StoreKind::Firmware, uuid, url, plan, attempts, trusted);
    let held = Held { store: staged.store(), verified };
    (Phase::Staging(Staging { staged: Box::new(staged), keys, info }), Some(held))
}

const fn desk<'a>(cx: &'a mut Context<'_>) -> Desk<'a> {
    Desk { now: cx.now, config: &cx.config.download, out: cx.out, ids: cx.ids }
}

impl Staging {
    pub(super) fn state(&self, offer: OfferId) -> UpdateState {
        let (received, percent) = (self.staged.received(), self.staged.percent());
        UpdateState::Downloading { offer, received, percent }
    }

    /// Returns the download that a request belongs to.
    pub(super) fn transfer(&mut self, fetch: FetchId) -> Option<&mut Download> {
        self.staged.transfer(fetch)
    }

    pub(super) fn deadlines(&self, config: &DownloadConfig, deadline: &mut Earliest) {
        self.staged.deadlines(config, deadline);
    }
}

impl Feed {
    pub(super) const fn moved(&mut self, now: Instant) {
        self.moved = now;
    }

    pub(super) fn stands_still(&self, now: Instant) -> bool {
        now >= self.moved + APPLY_STALL
    }

    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        deadline.after(Timer::Apply, self.moved, APPLY_STALL);
    }
}

impl Running {
    /// Tells the server, once, that bytes are coming.
    pub(super) fn start(&mut self, cx: &mut Context<'_>, interface: Option<&str>) {
        if !core::mem::replace(&mut self.started, true) {
            let interface = payload::interface_name(cx.config, interface);
            status(cx, &Status::Started { interface: interface.as_deref() });
        }
    }
}

impl Updates {
    /// A store is open. Returns whether anybody waited for it.
    pub(crate) fn store_opened(
        &mut self,
        cx: &mut Context<'_>,
        store: StoreId,
        parts: &[(u32, u64)],
    ) -> bool {
        let ours = self.holds(store);
        ours && self.stage_with(cx, None, |staged, desk| staged.opened(desk, parts)).is_some()
    }

    /// A part is on the disk. Returns whether anybody waited for it.
    pub(crate) fn part_committed(&mut self, cx: &mut Context<'_>, store: StoreId) -> bool {
        let ours = self.holds(store);
        ours && self.stage_with(cx, None, Staged::committed).is_some()
    }

    /// A store failed. Returns whether it is in use.
    pub(crate) fn store_failed(&mut self, cx: &mut Context<'_>, store: StoreId, reason: &str) -> bool {
        if !self.holds(store) {
            return false;
        }
        if self.stage_with(cx, None, |staged, desk| staged.store_failed(desk, reason)).is_none() {
            self.feed_ended(cx, reason);
        }
        true
    }

    /// The first bytes of what comes into a store say that it is not to be trusted. The store is gone. Returns whether it is
    /// in use.
    pub(crate) fn store_refused(&mut self, cx: &mut Context<'_>, store: StoreId, reason: &str) -> bool {
        if !self.holds(store) {
            return false;
        }
        let State::Running(running) = &mut self.state else { return false };
        running.held = None;
        let (id, uuid) = (running.id, running.uuid.clone());
        // The server announced what the bytes are, so what came may be the network's: as with parts that are wrong.
        let announced = running.again.as_ref().is_some_and(|again| again.offer.info.checksum.is_some());
        if announced && self.start_over(cx, reason, OTHER_BYTES, false) {
            return true;
        }
        // As if the applier had got the bytes.
        self.attempts.started(cx, &uuid);
        self.stop(cx, true);
        self.state = State::Idle;
        self.fail(cx, id, &uuid, &format!("{} : {reason}", names::FWUP_ERROR), true, Told::Failure);
        true
    }

    fn holds(&self, store: StoreId) -> bool {
        matches!(&self.state, State::Running(running) if running.held.is_some_and(|held| held.store == store))
    }

    /// Returns whether a number is one of a request or reading for the store.
    pub(super) fn is_staging(&self, fetch: FetchId) -> bool {
        matches!(&self.state, State::Running(running)
            if matches!(&running.phase, Phase::Staging(staging) if staging.staged.is_current(fetch)))
    }

    /// Returns whether a number is the one of the reading for the applier.
    pub(super) fn is_feeding(&self, fetch: FetchId) -> bool {
        matches!(&self.state, State::Running(running)
            if matches!(&running.phase, Phase::Feeding(feed) if feed.fetch == fetch))
    }

    /// Does something with the file that comes into a store, if one does, and tells the news.
    pub(super) fn stage_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        interface: Option<&str>,
        work: impl FnOnce(&mut Staged, &mut Desk<'_>) -> T,
    ) -> Option<T> {
        let State::Running(running) = &mut self.state else { return None };
        let Phase::Staging(staging) = &mut running.phase else { return None };
        let before = staging.staged.received();
        let answer = work(&mut staging.staged, &mut desk(cx));
        let (received, percent) = (staging.staged.received(), staging.staged.percent());
        if let Some(percent) = percent.filter(|_| received > before) {
            self.report(cx, Stage::Downloading, percent, false);
        }
        while let Some(news) = self.staging().and_then(|staging| staging.staged.news()) {
            self.staged_news(cx, news, interface);
        }
        Some(answer)
    }

    fn staging(&mut self) -> Option<&mut Staging> {
        match &mut self.state {
            State::Running(running) => match &mut running.phase {
                Phase::Staging(staging) => Some(staging),
                _ => None,
            },
            _ => None,
        }
    }

    fn staged_news(&mut self, cx: &mut Context<'_>, news: Outcome, interface: Option<&str>) {
        let State::Running(running) = &mut self.state else {
            return Fault::new("a store had news of an update that does not run").report(cx.out);
        };
        let Phase::Staging(staging) = &mut running.phase else {
            return Fault::new("a store had news of an update that is past it").report(cx.out);
        };
        let offer = running.id;
        match news {
            Outcome::Started { offset, total } => {
                let received = staging.staged.safe();
                running.start(cx, interface);
                cx.out.event(Event::DownloadStarted { offer, offset, total, received });
            }
            Outcome::Interrupted { reason, delay } => {
                let received = staging.staged.safe();
                cx.out.event(Event::DownloadInterrupted { offer, reason, received, retry_in: delay });
            }
            Outcome::Complete { size } => {
                let applier = running.applier;
                let start = StartApply::of(
                    applier,
                    offer,
                    core::mem::take(&mut staging.keys),
                    core::mem::take(&mut staging.info),
                );
                let store = staging.staged.store();
                let checksum = staging.staged.plan().unchecked().map(Checksum::new);
                running.mixed = staging.staged.is_mixed();
                let uuid = running.uuid.clone();
                self.attempts.started(cx, &uuid);
                self.report(cx, Stage::Downloading, 100, true);
                cx.out.push(Output::StartApply(start));
                let fetch = cx.ids.fetch();
                let read = ReadStore { fetch, store, from: 0, to: size, into: Some(applier) };
                cx.out.push(Output::ReadStore(read));
                if let State::Running(running) = &mut self.state {
                    let feed = Feed { fetch, size, fed: 0, taken: 0, checksum, moved: cx.now };
                    running.phase = Phase::Feeding(feed);
                }
            }
            Outcome::Failed { failure } => {
                let (phrase, reason) = match failure {
                    Loss::Download(reason) => (names::DOWNLOAD_FAILED, reason),
                    Loss::Absent(reason) => {
                        self.close(cx, true);
                        (names::DOWNLOAD_FAILED, reason)
                    }
                    Loss::Bytes(reason) => (names::UPDATE_FAILED, reason),
                };
                self.cancel(cx, None, &format!("{phrase} : {reason}"));
            }
        }
    }

    /// Bytes of the store pass by on their way to the applier.
    pub(super) fn feed(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Keep {
        let Some(feed) = self.feeding() else {
            Fault::new("a store was read for an applier that is not waiting").report(cx.out);
            return Keep::default();
        };
        let offset = feed.fed;
        debug_assert!(offset <= feed.size, "the applier got more than there is");
        // A store may hold more than the file.
        let (bytes, _) = bytes.split_at(at_most(feed.size.saturating_sub(offset), bytes.len()));
        feed.fed = offset.saturating_add(as_u64(bytes.len()));
        feed.moved = cx.now;
        let last = feed.fed == feed.size;
        let wrong = feed.checksum.as_mut().and_then(|checksum| {
            checksum.update(bytes);
            // Judged before the applier gets the last bytes, with which it might finish by itself.
            if last { checksum.mismatch() } else { None }
        });
        if let Some(reason) = wrong {
            self.close(cx, true);
            self.cancel(cx, None, &format!("{} : {reason}", names::UPDATE_FAILED));
            return Keep::default();
        }
        Keep { range: 0..bytes.len(), offset, not_before: None }
    }

    /// The applier took bytes of the store.
    pub(super) fn fed(&mut self, cx: &mut Context<'_>, len: usize) {
        let Some(feed) = self.feeding() else {
            return Fault::new("an applier took bytes of a store that is not being read").report(cx.out);
        };
        let taken = feed.taken.saturating_add(as_u64(len));
        // An application that counts too much must not end the file early.
        feed.taken = taken.min(feed.fed);
        feed.moved = cx.now;
        if feed.taken == feed.size
            && let State::Running(running) = &mut self.state
        {
            running.phase = Phase::Finishing { since: cx.now };
            cx.out.push(Output::FinishApply { offer: running.applier });
        }
    }

    /// No more bytes of the store come.
    pub(super) fn feed_ended(&mut self, cx: &mut Context<'_>, reason: &str) {
        if self.feeding().is_some_and(|feed| feed.fed < feed.size) {
            let reason = format!("{} : what was kept can't be read: {reason}", names::UPDATE_FAILED);
            self.cancel(cx, None, &reason);
        }
    }

    fn feeding(&mut self) -> Option<&mut Feed> {
        match &mut self.state {
            State::Running(running) => match &mut running.phase {
                Phase::Feeding(feed) => Some(feed),
                _ => None,
            },
            _ => None,
        }
    }

    /// Drops the requests and readings of the running update, and its store. If the applier refused what nothing but
    /// itself vouched for, the store must not serve it again.
    pub(super) fn stop(&mut self, cx: &mut Context<'_>, refused: bool) {
        let State::Running(running) = &mut self.state else {
            return Fault::new("an update that does not run was stopped").report(cx.out);
        };
        match &mut running.phase {
            Phase::Downloading(download) => drop_fetch(cx, download.take_fetch()),
            Phase::Staging(staging) => staging.staged.stop(cx.out),
            Phase::Feeding(feed) => drop_fetch(cx, Some(feed.fetch)),
            Phase::Finishing { .. } | Phase::HandedOver { .. } => {}
        }
        let clear = refused && running.held.is_some_and(|held| !held.verified);
        self.close(cx, clear);
    }

    fn close(&mut self, cx: &mut Context<'_>, clear: bool) {
        if let State::Running(running) = &mut self.state
            && let Some(Held { store, .. }) = running.held.take()
        {
            cx.out.push(Output::CloseStore { store, clear });
        }
    }
}
