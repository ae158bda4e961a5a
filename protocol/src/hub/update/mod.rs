//! The update manager: offer, decision, download, apply, report (device-protocol §6.2).

mod foreign;
mod obstacle;
mod offer;
mod signed;
mod staging;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use crate::config::Config;
use crate::download::{Download, Failure, Keep, Staged, Verdict};
use crate::event::{Event, FirmwareMeta, Stage};
use crate::fault::Fault;
use crate::hub::attempts::Attempts;
use crate::hub::ledger::Ledger;
use crate::hub::payload::Status;
use crate::hub::progress::Progress;
use crate::hub::report::{Told, drop_fetch, push_progress, status};
use crate::hub::{Context, names};
use crate::ids::{FetchId, OfferId};
use crate::input::HeaderRef;
use crate::limits::{APPLY_STALL, MAX_REASON_CHARS, MIN_RESCHEDULE};
use crate::output::Output;
use crate::outputs::Outputs;
use crate::rng::Rng;
use crate::status::UpdateState;
use crate::text::cut;
use crate::time::{Instant, Now};
use crate::timer::{Earliest, Timer};
use crate::update_strategy::UpdateStrategy;

use obstacle::Obstacle;
use offer::{Hold, Offer, begin};
use staging::{Feed, Held, Staging};

const MIXTURE: &str = "this may be a mixture of two files";

/// The one update at a time.
pub(crate) struct Updates {
    state: State,
    hold: Option<Hold>,
    obstacle: Option<Obstacle>,
    attempts: Box<Attempts>,
    rng: Rng,
    /// What the device was made to do lately.
    pub(crate) ledger: Box<Ledger>,
}

enum State {
    /// Left by an offer.
    Idle,
    /// The application thinks. Left by its decision, a better offer or the timer.
    Deciding { offer: Box<Offer>, until: Instant },
    /// Left by completion or failure.
    Running(Box<Running>),
    /// The firmware is written and the next boot runs it. No further update may touch the disk
    /// before that boot, so there is no way out but the reboot.
    Written { uuid: String },
}

struct Running {
    id: OfferId,
    /// The number its applier goes by: a new one when it starts over, so that a late report of the applier before is
    /// nobody's.
    applier: OfferId,
    uuid: String,
    phase: Phase,
    progress: Progress,
    started: bool,
    /// What the signed metadata say is being installed, once they were read and allowed.
    signed: Option<Box<FirmwareMeta>>,
    /// The store that holds the file, with a strategy that has one.
    held: Option<Held>,
    /// What it takes to start over.
    again: Option<Box<Again>>,
    /// Whether the applier may have got bytes of two files.
    mixed: bool,
    /// Whether the other slot counts as overwritten.
    wrote: bool,
}

/// What it takes to start an update over.
struct Again {
    offer: Offer,
    /// As it was when the update began.
    strategy: UpdateStrategy,
    /// How often it may still be done.
    left: u32,
}

impl Running {
    /// Returns what the server learns about a failure now.
    const fn told(&self) -> Told {
        Told::after(self.signed.is_some())
    }

    /// Returns the UUID under which the start counts: that of the signed metadata, once they are known.
    fn tried(&self) -> &str {
        let signed = self.signed.as_ref().map(|firmware| firmware.uuid.as_str());
        signed.filter(|uuid| !uuid.is_empty()).unwrap_or(&self.uuid)
    }
}

enum Phase {
    /// Left when all bytes are stored, or by failure.
    Downloading(Download),
    /// The file comes into a store. Left when all of it is there, or by failure.
    Staging(Staging),
    /// The file goes from the store to the applier. Left when all of it went, by failure or the timer.
    Feeding(Feed),
    /// The applier has all bytes. Left by its answer or the timer.
    Finishing { since: Instant },
    /// The application does it all. Left by its report or the timer.
    HandedOver { since: Instant },
}

impl Updates {
    pub(crate) fn new(config: &Config, out: &mut Outputs, seed: u64, now: Now) -> Self {
        let mut ledger = Box::new(Ledger::new(&config.history, now.mono, now.wall, out));
        let (attempts, proved) = Attempts::new(config, out);
        let attempts = Box::new(attempts);
        if proved {
            ledger.forgive(true, now.mono, now.wall, out);
        }
        Self { state: State::Idle, hold: None, obstacle: None, attempts, rng: Rng::new(seed), ledger }
    }

    /// The running firmware proved good.
    pub(crate) fn validated(&mut self, cx: &mut Context<'_>) {
        if self.attempts.succeeded(&cx.config.firmware.uuid, cx.out) {
            self.ledger.forgive(true, cx.now, cx.wall, cx.out);
        }
    }

    /// A person at the device wants everything to count from here.
    pub(crate) fn forget_history(&mut self, cx: &mut Context<'_>) {
        self.ledger.forget(cx.now, cx.wall, cx.out);
    }

    /// Returns what to report as being downloaded.
    pub(crate) fn uuid(&self) -> Option<&str> {
        match &self.state {
            State::Idle => None,
            // A rejoin without it would end the offer, and be held against the device (device-protocol A14).
            State::Deciding { offer, .. } => Some(&offer.info.firmware.uuid),
            State::Running(running) => Some(&running.uuid),
            State::Written { uuid } => Some(uuid),
        }
        .map(String::as_str)
        .filter(|uuid| !uuid.is_empty())
    }

    /// Returns the firmware that is being downloaded or written.
    pub(crate) fn in_progress(&self) -> Option<&str> {
        match &self.state {
            State::Running(running) => Some(&running.uuid),
            State::Idle | State::Deciding { .. } | State::Written { .. } => None,
        }
    }

    /// Returns the state for people.
    pub(crate) fn state(&self) -> UpdateState {
        match &self.state {
            State::Idle => UpdateState::Idle,
            State::Deciding { offer, .. } => UpdateState::Deciding { offer: offer.id },
            State::Running(running) => match &running.phase {
                Phase::Downloading(download) => UpdateState::Downloading {
                    offer: running.id,
                    received: download.received(),
                    percent: download.percent(),
                },
                Phase::Staging(staging) => staging.state(running.id),
                Phase::Feeding(_) | Phase::Finishing { .. } => UpdateState::Finishing { offer: running.id },
                Phase::HandedOver { .. } => UpdateState::HandedOver { offer: running.id },
            },
            State::Written { .. } => UpdateState::Written,
        }
    }

    /// The head of a response arrived. Returns whether anybody waited for it.
    pub(crate) fn head(
        &mut self,
        cx: &mut Context<'_>,
        fetch: FetchId,
        code: u16,
        headers: &[HeaderRef<'_>],
        interface: Option<&str>,
    ) -> bool {
        if self.is_staging(fetch) {
            self.stage_with(cx, interface, |staged, desk| staged.head(desk, fetch, code, headers));
            return true;
        }
        let Some(download) = self.current(fetch) else { return false };
        let verdict = download.head(cx.now, &cx.config.download, cx.ids, code, headers);
        self.follow(cx, verdict, interface);
        true
    }

    /// A chunk passes by.
    pub(crate) fn body(&mut self, cx: &mut Context<'_>, fetch: FetchId, chunk: &[u8]) -> Option<Keep> {
        if self.is_feeding(fetch) {
            return Some(self.feed(cx, chunk));
        }
        if self.is_staging(fetch) {
            return self.stage_with(cx, None, |staged, desk| staged.body(desk, fetch, chunk));
        }
        let download = self.current(fetch)?;
        let (keep, verdict) = download.body(cx.now, &cx.config.download, chunk);
        if let Some(percent) = download.percent() {
            self.report(cx, Stage::Downloading, percent, false);
        }
        self.follow(cx, verdict, None);
        Some(keep)
    }

    /// Returns the download that a request of the network belongs to.
    pub(crate) fn transfer(&mut self, fetch: FetchId) -> Option<&mut Download> {
        match &mut self.state {
            State::Running(running) => match &mut running.phase {
                Phase::Downloading(download) => Some(download).filter(|download| download.is_current(fetch)),
                Phase::Staging(staging) => staging.transfer(fetch),
                _ => None,
            },
            _ => None,
        }
    }

    /// The applier took bytes.
    pub(crate) fn stored(&mut self, cx: &mut Context<'_>, fetch: FetchId, len: usize) -> bool {
        if let Some(ours) = self.stage_with(cx, None, |staged, desk| staged.stored(desk, fetch, len)) {
            return ours;
        }
        if self.is_feeding(fetch) {
            self.fed(cx, len);
            return true;
        }
        let Some(download) = self.download().filter(|download| download.is_ours(fetch)) else { return false };
        let verdict = download.stored(cx.now, len);
        self.follow(cx, verdict, None);
        true
    }

    /// A body ended.
    pub(crate) fn ended(&mut self, cx: &mut Context<'_>, fetch: FetchId) -> bool {
        if self.is_staging(fetch) {
            self.stage_with(cx, None, |staged, desk| staged.ended(desk, fetch));
            return true;
        }
        if self.is_feeding(fetch) {
            self.feed_ended(cx, "there is less than there was");
            return true;
        }
        let Some(download) = self.current(fetch) else { return false };
        let verdict = download.ended(cx.now, &cx.config.download);
        self.follow(cx, verdict, None);
        true
    }

    /// A request failed.
    pub(crate) fn broke(&mut self, cx: &mut Context<'_>, fetch: FetchId, reason: &str) -> bool {
        if self.is_staging(fetch) {
            self.stage_with(cx, None, |staged, desk| staged.broke(desk, fetch, reason));
            return true;
        }
        if self.is_feeding(fetch) {
            self.feed_ended(cx, reason);
            return true;
        }
        let Some(download) = self.current(fetch) else { return false };
        let verdict = download.broke(cx.now, &cx.config.download, reason);
        self.follow(cx, verdict, None);
        true
    }

    /// The applier got further.
    pub(crate) fn applying(&mut self, cx: &mut Context<'_>, id: OfferId, percent: u8) -> bool {
        let now = cx.now;
        let Some(running) = self.applier_of(id) else { return false };
        match &mut running.phase {
            Phase::Finishing { since } => *since = now,
            Phase::Feeding(feed) => feed.moved(now),
            Phase::Downloading(_) | Phase::Staging(_) | Phase::HandedOver { .. } => {}
        }
        if percent > 0 {
            self.writing(cx);
        }
        self.report(cx, Stage::Updating, percent.min(100), false);
        true
    }

    /// The applier finished. Returns whether anybody waited for it.
    pub(crate) fn applied(&mut self, cx: &mut Context<'_>, id: OfferId) -> bool {
        let Some(running) = self.applier_of(id) else { return false };
        let id = running.id;
        self.writing(cx);
        self.complete(cx, id);
        true
    }

    fn complete(&mut self, cx: &mut Context<'_>, id: OfferId) {
        // An applier may finish before the file's last bytes, which hold only the directory of the
        // archive. What it wrote is verified, and the next boot runs it.
        self.stop(cx, false);
        self.report(cx, Stage::Updating, 100, true);
        let State::Running(running) = core::mem::replace(&mut self.state, State::Idle) else {
            return Fault::new("an update that does not run was completed").report(cx.out);
        };
        self.state = State::Written { uuid: running.uuid };
        status(cx, &Status::Completed);
        cx.out.event(Event::UpdateCompleted { offer: id });
    }

    /// The applier gave up, as the bytes are not right. Those of two files are fetched again.
    pub(crate) fn file_refused(&mut self, cx: &mut Context<'_>, id: OfferId, reason: &str) -> bool {
        let Some(running) = self.applier_of(id) else { return false };
        let mixed =
            running.mixed || matches!(&running.phase, Phase::Downloading(download) if download.is_mixed());
        mixed && self.start_over(cx, reason, MIXTURE, false) || self.apply_failed(cx, id, reason)
    }

    /// The applier gave up.
    pub(crate) fn apply_failed(&mut self, cx: &mut Context<'_>, id: OfferId, reason: &str) -> bool {
        let Some(running) = self.applier_of(id) else { return false };
        let (id, uuid, told) = (running.id, String::from(running.tried()), running.told());
        self.stop(cx, true);
        self.state = State::Idle;
        self.fail(cx, id, &uuid, &format!("{} : {reason}", names::FWUP_ERROR), true, told);
        true
    }

    /// The other slot is about to be overwritten, which counts once per update. An applier that doesn't say so beforehand
    /// has done it when it got further.
    fn writing(&mut self, cx: &mut Context<'_>) {
        if let State::Running(running) = &mut self.state
            && !core::mem::replace(&mut running.wrote, true)
        {
            self.ledger.writing(cx.now, cx.wall, cx.out);
        }
    }

    /// Begins an update again, as what was received may be other bytes than those of the file: `guess` says which. Returns
    /// false if that was done often enough. `applying` says whether there is an applier to stop.
    fn start_over(&mut self, cx: &mut Context<'_>, reason: &str, guess: &str, applying: bool) -> bool {
        let State::Running(running) = &mut self.state else {
            Fault::new("an update that does not run was started over").report(cx.out);
            return false;
        };
        let Some(again) = running.again.as_mut().filter(|again| again.left > 0) else { return false };
        again.left -= 1;
        let (offer, id, strategy) = (again.offer.clone(), running.id, again.strategy);
        let before = core::mem::replace(&mut running.applier, cx.ids.offer());
        let applier = running.applier;
        // Nothing vouched for the bytes, so the store must not serve them again.
        self.stop(cx, true);
        if applying {
            cx.out.push(Output::CancelApply { offer: before });
        }
        let reason = cut(&format!("{reason}; {guess}, so it is downloaded from the start"), MAX_REASON_CHARS);
        cx.out.event(Event::DownloadInterrupted { offer: id, reason, received: 0, retry_in: Duration::ZERO });
        let (phase, held) = begin(cx, offer, applier, strategy);
        if let State::Running(running) = &mut self.state {
            let before = core::mem::replace(&mut running.phase, phase);
            if let (Phase::Downloading(new), Phase::Downloading(old)) = (&mut running.phase, &before) {
                new.ages_from(old);
            }
            (running.held, running.mixed, running.signed) = (held, false, None);
            running.progress.rejoined();
        }
        true
    }

    /// The applier gave up on a delta: only a full image helps.
    pub(crate) fn delta_failed(&mut self, cx: &mut Context<'_>, id: OfferId, reason: &str) -> bool {
        let uuid = self.applier_of(id).map(|running| String::from(running.tried()));
        let known = self.file_refused(cx, id, reason);
        // Unless the bytes were a mixture and are fetched again.
        if let Some(uuid) = uuid.filter(|_| matches!(self.state, State::Idle)) {
            // A full image may come at once.
            if self.attempts.delta_failed(cx, &uuid) && self.obstacle.is_none() {
                self.ledger.forgive(false, cx.now, cx.wall, cx.out);
            }
        }
        known
    }

    /// Returns whether the server may send deltas.
    pub(crate) const fn takes_deltas(&self) -> bool {
        self.attempts.takes_deltas()
    }

    /// The device channel was joined (again): reports start over.
    pub(crate) fn rejoined(&mut self) {
        if let State::Running(running) = &mut self.state {
            running.progress.rejoined();
        }
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        if self.hold.as_ref().is_some_and(|hold| now >= hold.until) {
            self.hold = None;
        }
        match &mut self.state {
            State::Deciding { until, .. } if now >= *until => {
                if let State::Deciding { offer, .. } = core::mem::replace(&mut self.state, State::Idle) {
                    let reason = "the application did not decide in time";
                    self.postpone(cx, &offer, MIN_RESCHEDULE, Some(reason));
                    let (reason, retry_in) = (String::from(reason), Some(MIN_RESCHEDULE));
                    cx.out.event(Event::UpdateRefused { info: offer.info, reason, retry_in });
                }
            }
            State::Running(running) => match &mut running.phase {
                Phase::Downloading(download) => {
                    let room = cx.out.has_room();
                    let verdict = download.tick(now, &cx.config.download, cx.ids, room);
                    self.follow(cx, verdict, None);
                }
                Phase::Staging(_) => drop(self.stage_with(cx, None, Staged::tick)),
                Phase::Feeding(feed) if feed.stands_still(now) => self.stalled(cx, None),
                Phase::Finishing { since } if now >= *since + APPLY_STALL => self.stalled(cx, None),
                Phase::HandedOver { since } if now >= *since + APPLY_STALL => {
                    let id = running.id;
                    self.forsaken(cx, id);
                }
                Phase::Feeding(_) | Phase::Finishing { .. } | Phase::HandedOver { .. } => {}
            },
            State::Deciding { .. } | State::Idle | State::Written { .. } => {}
        }
        self.keep_alive(cx);
    }

    /// Tells the server that an update lives, if it didn't hear of it for long.
    fn keep_alive(&mut self, cx: &mut Context<'_>) {
        let State::Running(running) = &mut self.state else { return };
        if cx.now >= running.progress.due() {
            let (stage, percent) = running.progress.alive(cx.now);
            push_progress(cx, stage, percent);
        }
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, config: &Config, deadline: &mut Earliest) {
        match &self.state {
            State::Idle | State::Written { .. } => {}
            State::Deciding { until, .. } => deadline.at(Timer::Decision, *until),
            State::Running(running) => {
                deadline.at(Timer::Progress, running.progress.due());
                match &running.phase {
                    Phase::Downloading(download) => download.deadlines(&config.download, deadline),
                    Phase::Staging(staging) => staging.deadlines(&config.download, deadline),
                    Phase::Feeding(feed) => feed.deadlines(deadline),
                    Phase::Finishing { since } | Phase::HandedOver { since } => {
                        deadline.after(Timer::Apply, *since, APPLY_STALL);
                    }
                }
            }
        }
    }

    /// Carries out what a download wants.
    fn follow(&mut self, cx: &mut Context<'_>, verdict: Verdict, interface: Option<&str>) {
        let State::Running(running) = &mut self.state else {
            return Fault::new("a download went on for an update that does not run").report(cx.out);
        };
        let offer = running.id;
        match verdict {
            Verdict::Continue => {}
            Verdict::Started { offset, total } => {
                running.start(cx, interface);
                let received = self.download().map_or(0, |download| download.safe());
                cx.out.event(Event::DownloadStarted { offer, offset, total, received });
            }
            Verdict::Request { fetch, abort } => {
                drop_fetch(cx, abort);
                cx.out.push(Output::Fetch(fetch));
            }
            Verdict::Retry { reason, delay, abort } => {
                drop_fetch(cx, abort);
                let received = self.download().map_or(0, |download| download.safe());
                cx.out.event(Event::DownloadInterrupted { offer, reason, received, retry_in: delay });
            }
            Verdict::Changed { reason, abort } => {
                drop_fetch(cx, abort);
                if !self.start_over(cx, &reason, MIXTURE, true) {
                    self.cancel(cx, None, &format!("{} : {reason}", names::DOWNLOAD_FAILED));
                }
            }
            Verdict::Complete => {
                running.mixed |=
                    matches!(&running.phase, Phase::Downloading(download) if download.is_mixed());
                running.phase = Phase::Finishing { since: cx.now };
                let applier = running.applier;
                self.report(cx, Stage::Downloading, 100, true);
                cx.out.push(Output::FinishApply { offer: applier });
            }
            Verdict::Fail { failure: Failure::Stalled, abort } => self.stalled(cx, abort),
            Verdict::Fail { failure: Failure::Download(reason) | Failure::Absent(reason), abort } => {
                self.cancel(cx, abort, &format!("{} : {reason}", names::DOWNLOAD_FAILED));
            }
        }
    }

    fn stalled(&mut self, cx: &mut Context<'_>, abort: Option<FetchId>) {
        let minutes = APPLY_STALL.as_secs() / 60;
        let reason = format!("{} : the applier stood still for {minutes} minutes", names::UPDATE_FAILED);
        self.cancel(cx, abort, &reason);
    }

    /// Ends a running update from our side.
    fn cancel(&mut self, cx: &mut Context<'_>, abort: Option<FetchId>, reason: &str) {
        let told = match &self.state {
            State::Running(running) => running.told(),
            // Reported by `cancel_as`.
            _ => Told::Failure,
        };
        self.cancel_as(cx, abort, reason, false, told);
    }

    /// Ends a running update from our side; `refused` says whether its bytes are at fault, see [`Self::stop`].
    fn cancel_as(
        &mut self,
        cx: &mut Context<'_>,
        abort: Option<FetchId>,
        reason: &str,
        refused: bool,
        told: Told,
    ) {
        drop_fetch(cx, abort);
        self.stop(cx, refused);
        let State::Running(running) = core::mem::replace(&mut self.state, State::Idle) else {
            return Fault::new("an update that does not run was cancelled").report(cx.out);
        };
        if matches!(&running.phase, Phase::Downloading(download) if download.received() == 0) {
            self.attempts.excuse(cx, running.tried());
        }
        if !matches!(running.phase, Phase::Staging(_)) {
            cx.out.push(Output::CancelApply { offer: running.applier });
        }
        self.fail(cx, running.id, running.tried(), reason, refused || running.wrote, told);
    }

    fn report(&mut self, cx: &mut Context<'_>, stage: Stage, percent: u8, last: bool) {
        let State::Running(running) = &mut self.state else {
            return Fault::new("an update that does not run got further").report(cx.out);
        };
        if !running.progress.passes(cx.now, stage, percent, last) {
            return;
        }
        cx.out.event_if_room(Event::UpdateProgress { offer: running.id, stage, percent });
        // The server knows one stage at a time. Once the applier reports, that is the one, as with
        // the reference client's streaming updater.
        if stage == Stage::Updating || !running.progress.is_updating() {
            push_progress(cx, stage, percent);
        }
    }

    fn running(&mut self, id: OfferId) -> Option<&mut Running> {
        match &mut self.state {
            State::Running(running) if running.id == id => Some(running),
            _ => None,
        }
    }

    /// Returns the update whose applier has that number, if the applier was ordered.
    fn applier_of(&mut self, applier: OfferId) -> Option<&mut Running> {
        match &mut self.state {
            State::Running(running) if running.applier == applier => Some(running.as_mut()),
            _ => None,
        }
        .filter(|running| !matches!(running.phase, Phase::Staging(_) | Phase::HandedOver { .. }))
    }

    fn download(&mut self) -> Option<&mut Download> {
        match &mut self.state {
            State::Running(running) => match &mut running.phase {
                Phase::Downloading(download) => Some(download),
                Phase::Staging(_)
                | Phase::Feeding(_)
                | Phase::Finishing { .. }
                | Phase::HandedOver { .. } => None,
            },
            _ => None,
        }
    }

    fn current(&mut self, fetch: FetchId) -> Option<&mut Download> {
        self.download().filter(|download| download.is_current(fetch))
    }
}
