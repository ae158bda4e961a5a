//! The update manager: offer, decision, download, apply, report (spec §6.2).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::value::RawValue;

use super::keys::Keys;
use super::payload::{self, Status, Update};
use super::progress::Progress;
use super::{Context, names};
use crate::command::{CommandError, Decision};
use crate::download::{Download, Failure, Keep, Verdict};
use crate::event::{Event, Stage, UpdateInfo};
use crate::http::url::{Url, UrlError};
use crate::ids::{FetchId, OfferId};
use crate::input::HeaderRef;
use crate::limits::{APPLY_STALL, MAX_REASON_CHARS, MAX_RESCHEDULE, MIN_RESCHEDULE};
use crate::output::{Output, StartApply};
use crate::phoenix::Class;
use crate::status::UpdateState;
use crate::text::cut;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

/// The one update at a time.
pub(crate) struct Updates {
    state: State,
    hold: Option<Hold>,
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

struct Offer {
    id: OfferId,
    info: UpdateInfo,
    url: Url,
    /// The keys when the offer arrived.
    keys: Vec<String>,
}

struct Running {
    id: OfferId,
    uuid: String,
    phase: Phase,
    progress: Progress,
    started: bool,
}

#[expect(clippy::large_enum_variant, reason = "only one exists, and it is boxed already")]
enum Phase {
    /// Left when all bytes are stored, or by failure.
    Downloading(Download),
    /// The applier has all bytes. Left by its answer or the timer.
    Finishing { since: Instant },
}

/// A rescheduled firmware, which isn't offered to the application again too early (spec §12.1).
struct Hold {
    uuid: String,
    until: Instant,
}

impl Updates {
    pub(crate) const fn new() -> Self {
        Self { state: State::Idle, hold: None }
    }

    /// Returns what to report as being downloaded.
    pub(crate) fn uuid(&self) -> Option<&str> {
        match &self.state {
            State::Idle | State::Deciding { .. } => None,
            State::Running(running) => Some(&running.uuid),
            State::Written { uuid } => Some(uuid),
        }
        .map(String::as_str)
        .filter(|uuid| !uuid.is_empty())
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
                Phase::Finishing { .. } => UpdateState::Finishing { offer: running.id },
            },
            State::Written { .. } => UpdateState::Written,
        }
    }

    /// The server sent an `update`. Returns what is wrong with the message, if it can't be read.
    pub(crate) fn offered(
        &mut self,
        cx: &mut Context<'_>,
        keys: &Keys,
        payload: &RawValue,
    ) -> Result<(), String> {
        if matches!(self.state, State::Running(_) | State::Written { .. }) {
            return Ok(());
        }
        let (info, url) = match payload::update(payload)? {
            Update::NotAvailable => return Ok(()),
            Update::Offer(offer) => *offer,
        };
        if let State::Deciding { offer, .. } = &mut self.state {
            if offer.info.firmware.uuid == info.firmware.uuid {
                // The application has the question already; only the address may be fresher.
                if let Ok(url) = url {
                    offer.url = url;
                    offer.info = info;
                }
                return Ok(());
            }
            self.state = State::Idle;
        }
        if keys.list().is_empty() {
            refuse(cx, info, names::NO_KEYS);
            return Ok(());
        }
        let url = match usable(cx, &info, url) {
            Ok(url) => url,
            Err(reason) => {
                refuse(cx, info, &format!("{} : {reason}", names::DOWNLOAD_FAILED));
                return Ok(());
            }
        };
        if let Some(left) = self.held(cx.now, &info.firmware.uuid) {
            let reason = "the device asked for this update to wait";
            reschedule(cx, left, Some(reason));
            cx.out.event(Event::UpdateRefused { info, reason: String::from(reason) });
            return Ok(());
        }
        status(cx, &Status::Received);
        let id = cx.ids.offer();
        cx.out.event(Event::UpdateOffered { offer: id, info: info.clone() });
        let offer = Box::new(Offer { id, info, url, keys: keys.list().to_vec() });
        self.state = State::Deciding { offer, until: cx.now + cx.config.decision_timeout };
        Ok(())
    }

    /// The application decided.
    pub(crate) fn decide(
        &mut self,
        cx: &mut Context<'_>,
        id: OfferId,
        decision: &Decision,
    ) -> Result<(), CommandError> {
        let offer = match core::mem::replace(&mut self.state, State::Idle) {
            State::Deciding { offer, .. } if offer.id == id => offer,
            other => {
                self.state = other;
                return Err(CommandError::UnknownOffer(id));
            }
        };
        match decision {
            Decision::Apply => self.apply(cx, *offer),
            Decision::Ignore { reason } => status(cx, &Status::Ignored { reason }),
            Decision::Reschedule { delay, reason } => {
                self.postpone(cx, &offer, *delay, reason.as_deref());
            }
        }
        Ok(())
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
        let Some(download) = self.current(fetch) else { return false };
        let verdict = download.head(cx.now, &cx.config.download, cx.ids, code, headers);
        self.follow(cx, verdict, interface);
        true
    }

    /// A chunk passes by.
    pub(crate) fn body(&mut self, cx: &mut Context<'_>, fetch: FetchId, chunk: &[u8]) -> Option<Keep> {
        let download = self.current(fetch)?;
        let (keep, verdict) = download.body(cx.now, &cx.config.download, chunk);
        if let Some(percent) = download.percent() {
            self.report(cx, Stage::Downloading, percent, false);
        }
        self.follow(cx, verdict, None);
        Some(keep)
    }

    /// The applier took bytes.
    pub(crate) fn stored(&mut self, cx: &mut Context<'_>, fetch: FetchId, len: usize) -> bool {
        let Some(download) = self.download().filter(|download| download.is_ours(fetch)) else { return false };
        let verdict = download.stored(cx.now, len);
        self.follow(cx, verdict, None);
        true
    }

    /// A body ended.
    pub(crate) fn ended(&mut self, cx: &mut Context<'_>, fetch: FetchId) -> bool {
        let Some(download) = self.current(fetch) else { return false };
        let verdict = download.ended(cx.now, &cx.config.download);
        self.follow(cx, verdict, None);
        true
    }

    /// A request failed.
    pub(crate) fn broke(&mut self, cx: &mut Context<'_>, fetch: FetchId, reason: &str) -> bool {
        let Some(download) = self.current(fetch) else { return false };
        let verdict = download.broke(cx.now, &cx.config.download, reason);
        self.follow(cx, verdict, None);
        true
    }

    /// The applier got further.
    pub(crate) fn applying(&mut self, cx: &mut Context<'_>, id: OfferId, percent: u8) -> bool {
        let now = cx.now;
        let Some(running) = self.running(id) else { return false };
        if let Phase::Finishing { since } = &mut running.phase {
            *since = now;
        }
        self.report(cx, Stage::Updating, percent.min(100), false);
        true
    }

    /// The applier finished. Returns whether anybody waited for it.
    pub(crate) fn applied(&mut self, cx: &mut Context<'_>, id: OfferId) -> bool {
        if self.running(id).is_none() {
            return false;
        }
        // An applier may finish before the file's last bytes, which hold only the directory of the
        // archive. What it wrote is verified, and the next boot runs it.
        let abort = self.download().and_then(Download::take_fetch);
        if let Some(fetch) = abort {
            cx.out.push(Output::Abort { fetch });
        }
        self.report(cx, Stage::Updating, 100, true);
        if let State::Running(running) = core::mem::replace(&mut self.state, State::Idle) {
            self.state = State::Written { uuid: running.uuid };
        }
        status(cx, &Status::Completed);
        cx.out.event(Event::UpdateCompleted { offer: id });
        true
    }

    /// The applier gave up.
    pub(crate) fn apply_failed(&mut self, cx: &mut Context<'_>, id: OfferId, reason: &str) -> bool {
        if self.running(id).is_none() {
            return false;
        }
        if let Some(fetch) = self.download().and_then(Download::take_fetch) {
            cx.out.push(Output::Abort { fetch });
        }
        self.state = State::Idle;
        failed(cx, id, &format!("{} : {reason}", names::FWUP_ERROR));
        true
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
                    let reason = String::from(reason);
                    cx.out.event(Event::UpdateRefused { info: offer.info, reason });
                }
            }
            State::Running(running) => match &mut running.phase {
                Phase::Downloading(download) => {
                    let room = cx.out.has_room();
                    let verdict = download.tick(now, &cx.config.download, cx.ids, room);
                    self.follow(cx, verdict, None);
                }
                Phase::Finishing { since } if now >= *since + APPLY_STALL => self.stalled(cx, None),
                Phase::Finishing { .. } => {}
            },
            State::Deciding { .. } | State::Idle | State::Written { .. } => {}
        }
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, config: &crate::config::Config, deadline: &mut Earliest) {
        match &self.state {
            State::Idle | State::Written { .. } => {}
            State::Deciding { until, .. } => deadline.at(Timer::Decision, *until),
            State::Running(running) => match &running.phase {
                Phase::Downloading(download) => download.deadlines(&config.download, deadline),
                Phase::Finishing { since } => deadline.after(Timer::Apply, *since, APPLY_STALL),
            },
        }
    }

    fn apply(&mut self, cx: &mut Context<'_>, offer: Offer) {
        self.hold = None;
        let Offer { id, info, url, keys } = offer;
        cx.out.push(Output::StartApply(StartApply { offer: id, public_keys: keys }));
        let mut download = Download::new(id, url, info.size, info.checksum, cx.now);
        cx.out.push(Output::Fetch(download.request(cx.now, &cx.config.download, cx.ids)));
        let phase = Phase::Downloading(download);
        let uuid = info.firmware.uuid;
        let progress = Progress::default();
        self.state = State::Running(Box::new(Running { id, uuid, phase, progress, started: false }));
    }

    fn postpone(&mut self, cx: &mut Context<'_>, offer: &Offer, delay: Duration, reason: Option<&str>) {
        let delay = delay.clamp(MIN_RESCHEDULE, MAX_RESCHEDULE);
        self.hold = Some(Hold { uuid: offer.info.firmware.uuid.clone(), until: cx.now + delay });
        reschedule(cx, delay, reason);
    }

    /// Returns how long a firmware is still held back.
    fn held(&self, now: Instant, uuid: &str) -> Option<Duration> {
        let hold = self.hold.as_ref().filter(|hold| hold.uuid == uuid)?;
        Some(hold.until.saturating_since(now)).filter(|left| !left.is_zero())
    }

    /// Carries out what a download wants.
    fn follow(&mut self, cx: &mut Context<'_>, verdict: Verdict, interface: Option<&str>) {
        let State::Running(running) = &mut self.state else { return };
        let offer = running.id;
        match verdict {
            Verdict::Continue => {}
            Verdict::Started { offset, total } => {
                if !running.started {
                    running.started = true;
                    let interface = payload::interface_name(interface);
                    status(cx, &Status::Started { interface: interface.as_deref() });
                }
                cx.out.event(Event::DownloadStarted { offer, offset, total });
            }
            Verdict::Request { fetch, abort } => {
                drop_fetch(cx, abort);
                cx.out.push(Output::Fetch(fetch));
            }
            Verdict::Retry { reason, delay, abort } => {
                drop_fetch(cx, abort);
                let received = self.download().map_or(0, |download| download.received());
                cx.out.event(Event::DownloadInterrupted { offer, reason, received, retry_in: delay });
            }
            Verdict::Complete => {
                running.phase = Phase::Finishing { since: cx.now };
                self.report(cx, Stage::Downloading, 100, true);
                cx.out.push(Output::FinishApply { offer });
            }
            Verdict::Fail { failure: Failure::Applier, abort } => self.stalled(cx, abort),
            Verdict::Fail { failure: Failure::Download(reason), abort } => {
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
        let State::Running(running) = core::mem::replace(&mut self.state, State::Idle) else { return };
        drop_fetch(cx, abort);
        cx.out.push(Output::CancelApply { offer: running.id });
        failed(cx, running.id, reason);
    }

    fn report(&mut self, cx: &mut Context<'_>, stage: Stage, percent: u8, last: bool) {
        let State::Running(running) = &mut self.state else { return };
        if !running.progress.passes(cx.now, stage, percent, last) {
            return;
        }
        cx.out.event_if_room(Event::UpdateProgress { offer: running.id, stage, percent });
        // The server knows one stage at a time. Once the applier reports, that is the one, as with
        // the reference client's streaming updater.
        if stage == Stage::Updating || !running.progress.is_updating() {
            let report = payload::progress(stage, percent);
            cx.wire.push(names::FWUP_PROGRESS, &report, Class::Latest(names::FWUP_PROGRESS));
        }
    }

    fn running(&mut self, id: OfferId) -> Option<&mut Running> {
        match &mut self.state {
            State::Running(running) if running.id == id => Some(running),
            _ => None,
        }
    }

    fn download(&mut self) -> Option<&mut Download> {
        match &mut self.state {
            State::Running(running) => match &mut running.phase {
                Phase::Downloading(download) => Some(download),
                Phase::Finishing { .. } => None,
            },
            _ => None,
        }
    }

    fn current(&mut self, fetch: FetchId) -> Option<&mut Download> {
        self.download().filter(|download| download.is_current(fetch))
    }
}

fn usable(cx: &Context<'_>, info: &UpdateInfo, url: Result<Url, UrlError>) -> Result<Url, String> {
    let download = &cx.config.download;
    let url = url.map_err(|error| error.to_string())?;
    if !url.tls && !download.allow_http {
        return Err(String::from("the address is http, and only https is allowed here"));
    }
    match info.size {
        Some(size) if size > download.max_size => {
            Err(format!("the file has {size} bytes, more than the {} allowed", download.max_size))
        }
        _ => Ok(url),
    }
}

fn drop_fetch(cx: &mut Context<'_>, abort: Option<FetchId>) {
    if let Some(fetch) = abort {
        cx.out.push(Output::Abort { fetch });
    }
}

fn refuse(cx: &mut Context<'_>, info: UpdateInfo, reason: &str) {
    let reason = cut(reason, MAX_REASON_CHARS);
    status(cx, &Status::Failed { reason: &reason });
    cx.out.event(Event::UpdateRefused { info, reason });
}

fn reschedule(cx: &mut Context<'_>, delay: Duration, reason: Option<&str>) {
    status(cx, &Status::Rescheduled { delay, unit: cx.config.delay_unit, reason });
}

fn failed(cx: &mut Context<'_>, offer: OfferId, reason: &str) {
    let reason = cut(reason, MAX_REASON_CHARS);
    cx.wire.discard(Class::Latest(names::FWUP_PROGRESS));
    status(cx, &Status::Failed { reason: &reason });
    cx.out.event(Event::UpdateFailed { offer, reason });
}

fn status(cx: &mut Context<'_>, status: &Status<'_>) {
    let class = match status {
        Status::Received | Status::Started { .. } => Class::Session,
        Status::Completed | Status::Ignored { .. } | Status::Rescheduled { .. } | Status::Failed { .. } => {
            Class::Keep
        }
    };
    cx.wire.push(names::STATUS_UPDATE, &status.to_json(), class);
}
