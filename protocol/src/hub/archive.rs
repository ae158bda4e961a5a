//! The archive manager: offer, decision, download, verification (device-protocol §6.7). The server is told nothing of it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Context;
use super::keys::Keys;
use super::payload;
use super::report::usable;
use crate::archive::{ArchiveCommand, ArchiveDecision, ArchiveEvent, ArchiveInfo};
use crate::command::CommandError;
use crate::config::DownloadConfig;
use crate::download::{Attempts, Desk, Download, Keep, Loss, Outcome, Plan, Staged, is_key_of, key_of};
use crate::event::Event;
use crate::fault::Fault;
use crate::http::url::Url;
use crate::ids::{ArchiveId, FetchId, StoreId};
use crate::input::Input;
use crate::limits::{
    APPLY_STALL, FRESH_STARTS, MAX_KNOWN_ARCHIVES, MAX_META_CHARS, MAX_REASON_CHARS, MAX_RECENT_FETCHES,
    MAX_RESCHEDULE, MIN_ARCHIVE_RESCHEDULE, UNDRAINED_PAUSE,
};
use crate::output::{Output, StoreKind, VerifyArchive};
use crate::phoenix::Payload;
use crate::text::cut;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

/// The one archive at a time.
pub(crate) struct Archives {
    state: State,
    /// UUIDs of archives that the device has, the oldest first.
    known: VecDeque<String>,
    /// The numbers of the last requests, whose bytes may be reported late and are nobody else's.
    recent: VecDeque<FetchId>,
}

enum State {
    /// Left by an offer.
    Idle,
    /// The application thinks. Left by its decision, a better offer or the timer.
    Deciding { offer: Box<Offer>, until: Instant },
    /// The application wants to be asked again. Left by the timer or a better offer.
    Resting { offer: Box<Offer>, until: Instant },
    /// Left when the file is there, by failure, or by a better offer.
    Downloading { offer: Box<Offer>, staged: Box<Staged> },
    /// Left by the adapter's verdict, the timer or a better offer.
    Verifying { offer: Box<Offer>, store: StoreId, since: Instant },
}

struct Offer {
    id: ArchiveId,
    info: ArchiveInfo,
    url: Url,
    /// The keys when the offer arrived.
    keys: Vec<String>,
    /// How often the download may still start over.
    starts: u32,
    /// Whether what was received may be bytes of two files.
    mixed: bool,
}

impl Archives {
    pub(crate) fn new(known: &[String]) -> Self {
        let mut archives = Self { state: State::Idle, known: VecDeque::new(), recent: VecDeque::new() };
        for uuid in known {
            archives.remember(uuid);
        }
        archives
    }

    /// Returns the UUID of the archive that is being downloaded.
    pub(crate) fn uuid(&self) -> Option<&str> {
        match &self.state {
            State::Downloading { offer, .. } | State::Verifying { offer, .. } => Some(&offer.info.uuid),
            State::Idle | State::Deciding { .. } | State::Resting { .. } => None,
        }
        .map(String::as_str)
    }

    /// The server sent an `archive`. Returns what is wrong with the message, if it can't be read.
    pub(crate) fn offered(
        &mut self,
        cx: &mut Context<'_>,
        keys: &Keys,
        payload: Payload<'_>,
    ) -> Result<(), String> {
        let (info, size, url) = payload::archive(payload)?;
        if !info.uuid.is_empty() && self.known.contains(&info.uuid) {
            return Ok(());
        }
        if keys.list().is_empty() {
            refuse(cx, info, "no public key for archives is known, so none can be trusted");
            return Ok(());
        }
        let url = match usable(cx, &size, false, cx.config.download.max_archive_size, url) {
            Ok(url) => url,
            Err(reason) => {
                refuse(cx, info, &reason);
                return Ok(());
            }
        };
        let same = |offer: &Offer| offer.info.uuid == info.uuid;
        match &mut self.state {
            // Known already; only the address may be fresher.
            State::Deciding { offer, .. } | State::Resting { offer, .. } if same(offer) => {
                (offer.url, offer.info) = (url, info);
                return Ok(());
            }
            State::Downloading { offer, .. } | State::Verifying { offer, .. } if same(offer) => return Ok(()),
            _ => {}
        }
        self.replace(cx);
        let id = cx.ids.archive();
        let offer =
            Box::new(Offer { id, info, url, keys: keys.list().to_vec(), starts: FRESH_STARTS, mixed: false });
        self.ask(cx, offer);
        Ok(())
    }

    /// Takes an order.
    pub(crate) fn command(
        &mut self,
        cx: &mut Context<'_>,
        command: ArchiveCommand,
    ) -> Result<(), CommandError> {
        match command {
            ArchiveCommand::Decide { archive, decision } => self.decide(cx, archive, decision)?,
            ArchiveCommand::Known { uuid } => self.remember(&uuid),
            ArchiveCommand::Forget { uuid } => {
                self.known.retain(|known| *known != cut(&uuid, MAX_META_CHARS));
            }
        }
        Ok(())
    }

    fn decide(
        &mut self,
        cx: &mut Context<'_>,
        id: ArchiveId,
        decision: ArchiveDecision,
    ) -> Result<(), CommandError> {
        let offer = match core::mem::replace(&mut self.state, State::Idle) {
            State::Deciding { offer, .. } if offer.id == id => offer,
            other => {
                self.state = other;
                return Err(CommandError::UnknownArchive(id));
            }
        };
        match decision {
            ArchiveDecision::Ignore => {}
            ArchiveDecision::Reschedule { delay } => {
                let delay = delay.clamp(MIN_ARCHIVE_RESCHEDULE, MAX_RESCHEDULE);
                self.state = State::Resting { offer, until: cx.now + delay };
            }
            ArchiveDecision::Download => self.download(cx, offer),
        }
        Ok(())
    }

    fn download(&mut self, cx: &mut Context<'_>, offer: Box<Offer>) {
        let plan = Plan::whole(offer.info.size, None);
        let (uuid, url) = (offer.info.uuid.clone(), offer.url.clone());
        let (attempts, keys) = (Attempts::WHOLE, offer.keys.clone());
        let rules = rules(cx);
        let staged =
            Staged::open(&mut desk(cx, &rules), StoreKind::Archive, &uuid, url, plan, attempts, keys);
        self.state = State::Downloading { offer, staged: Box::new(staged) };
    }

    /// Returns whether a fact is about an archive.
    pub(crate) fn owns(&self, input: &Input<'_>) -> bool {
        match input {
            Input::FetchHead { fetch, .. } | Input::FetchEnd { fetch } | Input::FetchFailed { fetch, .. } => {
                self.is_current(*fetch)
            }
            Input::StoreOpened { store, .. }
            | Input::StoreFailed { store, .. }
            | Input::StoreRefused { store, .. }
            | Input::PartCommitted { store, .. }
            | Input::ArchiveVerified { store, .. }
            | Input::ArchiveRefused { store, .. } => self.holds(*store),
            _ => false,
        }
    }

    /// Returns whether a number is one of a request or reading for an archive.
    pub(crate) fn is_current(&self, fetch: FetchId) -> bool {
        matches!(&self.state, State::Downloading { staged, .. } if staged.is_current(fetch))
    }

    fn holds(&self, wanted: StoreId) -> bool {
        match &self.state {
            State::Downloading { staged, .. } => staged.store() == wanted,
            State::Verifying { store, .. } => *store == wanted,
            _ => false,
        }
    }

    /// Takes a fact that is about an archive. Returns whether anybody waited for it.
    pub(crate) fn input(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> bool {
        match input {
            Input::FetchHead { fetch, status, headers, .. } => {
                self.with(cx, |staged, desk| staged.head(desk, fetch, status, headers)).is_some()
            }
            Input::FetchEnd { fetch } => self.with(cx, |staged, desk| staged.ended(desk, fetch)).is_some(),
            Input::FetchFailed { fetch, reason } => {
                self.with(cx, |staged, desk| staged.broke(desk, fetch, reason)).is_some()
            }
            Input::StoreOpened { parts, .. } => {
                self.with(cx, |staged, desk| staged.opened(desk, parts)).is_some()
            }
            Input::PartCommitted { .. } => self.with(cx, Staged::committed).is_some(),
            Input::StoreFailed { reason, .. } => {
                if self.with(cx, |staged, desk| staged.store_failed(desk, reason)).is_none() {
                    self.fail(cx, reason, false);
                }
                true
            }
            Input::StoreRefused { reason, .. } => self.untrusted(cx, reason),
            Input::ArchiveVerified { path, .. } => self.verified(cx, path),
            Input::ArchiveRefused { reason, .. } => self.refused(cx, reason),
            _ => false,
        }
    }

    /// A chunk passes by. `None` if no archive is being downloaded.
    pub(crate) fn body(&mut self, cx: &mut Context<'_>, fetch: FetchId, chunk: &[u8]) -> Option<Keep> {
        self.with(cx, |staged, desk| staged.body(desk, fetch, chunk))
    }

    /// Returns the download that a request of the network belongs to.
    pub(crate) fn transfer(&mut self, fetch: FetchId) -> Option<&mut Download> {
        match &mut self.state {
            State::Downloading { staged, .. } => staged.transfer(fetch),
            _ => None,
        }
    }

    /// The store took bytes. Returns whether they were an archive's, and whether of one that is under way; `None` if
    /// they were nobody's in here.
    pub(crate) fn stored(&mut self, cx: &mut Context<'_>, fetch: FetchId, len: usize) -> Option<bool> {
        if !self.recent.contains(&fetch) {
            return None;
        }
        Some(self.with(cx, |staged, desk| staged.stored(desk, fetch, len)).unwrap_or(false))
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        match &mut self.state {
            State::Deciding { until, .. } if cx.now >= *until => {
                if let State::Deciding { offer, .. } = core::mem::replace(&mut self.state, State::Idle) {
                    refuse(cx, offer.info, "the application did not decide in time");
                }
            }
            State::Resting { until, .. } if cx.now >= *until => {
                if !cx.out.has_room() {
                    *until = cx.now + UNDRAINED_PAUSE;
                } else if let State::Resting { offer, .. } = core::mem::replace(&mut self.state, State::Idle)
                {
                    self.ask(cx, offer);
                }
            }
            State::Downloading { .. } => drop(self.with(cx, Staged::tick)),
            State::Verifying { since, .. } if cx.now >= *since + APPLY_STALL => {
                let minutes = APPLY_STALL.as_secs() / 60;
                self.fail(cx, &format!("checking it took longer than {minutes} minutes"), true);
            }
            _ => {}
        }
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, config: &crate::config::Config, deadline: &mut Earliest) {
        match &self.state {
            State::Idle => {}
            State::Deciding { until, .. } => deadline.at(Timer::Decision, *until),
            State::Resting { until, .. } => deadline.at(Timer::Archive, *until),
            State::Downloading { staged, .. } => staged.deadlines(&config.download, deadline),
            State::Verifying { since, .. } => deadline.after(Timer::Archive, *since, APPLY_STALL),
        }
    }

    fn ask(&mut self, cx: &mut Context<'_>, offer: Box<Offer>) {
        let (archive, info) = (offer.id, offer.info.clone());
        tell(cx, ArchiveEvent::Offered { archive, info });
        self.state = State::Deciding { offer, until: cx.now + cx.config.decision_timeout };
    }

    /// Drops what is under way, for another archive.
    fn replace(&mut self, cx: &mut Context<'_>) {
        let old = match core::mem::replace(&mut self.state, State::Idle) {
            State::Idle => return,
            State::Deciding { offer, .. } | State::Resting { offer, .. } => offer,
            State::Downloading { offer, mut staged } => {
                staged.stop(cx.out);
                cx.out.push(Output::CloseStore { store: staged.store(), clear: true });
                offer
            }
            State::Verifying { offer, store, .. } => {
                cx.out.push(Output::CloseStore { store, clear: true });
                offer
            }
        };
        tell(cx, ArchiveEvent::Replaced { archive: old.id });
    }

    /// An archive that was handed over earlier was deleted: the device doesn't have it any more.
    pub(crate) fn dropped(&mut self, cx: &mut Context<'_>, path: &str) {
        let key = key_of(path).unwrap_or_default();
        let at = self.known.iter().position(|uuid| is_key_of(key, uuid));
        let uuid = at.and_then(|at| self.known.remove(at)).unwrap_or_else(|| cut(key, MAX_META_CHARS));
        tell(cx, ArchiveEvent::Dropped { uuid, path: path.to_string() });
    }

    fn remember(&mut self, uuid: &str) {
        let uuid = cut(uuid, MAX_META_CHARS);
        if !uuid.is_empty() && !self.known.contains(&uuid) {
            if self.known.len() >= MAX_KNOWN_ARCHIVES {
                self.known.pop_front();
            }
            self.known.push_back(uuid);
        }
    }

    /// Does something with the download, if there is one, and tells the news.
    fn with<T>(
        &mut self,
        cx: &mut Context<'_>,
        work: impl FnOnce(&mut Staged, &mut Desk<'_>) -> T,
    ) -> Option<T> {
        let State::Downloading { staged, .. } = &mut self.state else { return None };
        let rules = rules(cx);
        let answer = work(staged, &mut desk(cx, &rules));
        if let Some(fetch) = staged.newest()
            && !self.recent.contains(&fetch)
        {
            if self.recent.len() >= MAX_RECENT_FETCHES {
                self.recent.pop_front();
            }
            self.recent.push_back(fetch);
        }
        while let State::Downloading { staged, .. } = &mut self.state
            && let Some(news) = staged.news()
        {
            self.heard(cx, news);
        }
        Some(answer)
    }

    fn heard(&mut self, cx: &mut Context<'_>, news: Outcome) {
        let State::Downloading { offer, staged } = &mut self.state else {
            return Fault::new("a store had news of an archive that is not being downloaded").report(cx.out);
        };
        let archive = offer.id;
        match news {
            Outcome::Started { offset, total } => {
                let received = staged.safe();
                tell(cx, ArchiveEvent::DownloadStarted { archive, offset, total, received });
            }
            Outcome::Interrupted { reason, delay } => {
                let received = staged.safe();
                tell(cx, ArchiveEvent::DownloadInterrupted { archive, reason, received, retry_in: delay });
            }
            Outcome::Complete { .. } => {
                let store = staged.store();
                let mixed = staged.is_mixed();
                let State::Downloading { mut offer, .. } = core::mem::replace(&mut self.state, State::Idle)
                else {
                    return Fault::new("an archive is complete that is not being downloaded").report(cx.out);
                };
                let public_keys = offer.keys.clone();
                offer.mixed = mixed;
                let (offered, allow_mismatch) = (offer.info.clone(), cx.config.allow_mismatch);
                let verify = VerifyArchive { store, archive, public_keys, offered, allow_mismatch };
                cx.out.push(Output::VerifyArchive(verify));
                self.state = State::Verifying { offer, store, since: cx.now };
            }
            Outcome::Failed { failure: Loss::Absent(reason) } => self.fail(cx, &reason, true),
            Outcome::Failed { failure: Loss::Download(reason) | Loss::Bytes(reason) } => {
                self.fail(cx, &reason, false);
            }
        }
    }

    fn verified(&mut self, cx: &mut Context<'_>, path: &str) -> bool {
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Verifying { offer, .. } => {
                let Offer { id, info, .. } = *offer;
                self.remember(&info.uuid);
                let path = path.to_string();
                tell(cx, ArchiveEvent::Ready { archive: id, info, path });
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    fn refused(&mut self, cx: &mut Context<'_>, reason: &str) -> bool {
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Verifying { mut offer, .. } if offer.mixed && offer.starts > 0 => {
                offer.starts -= 1;
                let archive = offer.id;
                let reason = format!(
                    "{reason}; this may be a mixture of two files, so it is downloaded from the start"
                );
                let (reason, retry_in) = (cut(&reason, MAX_REASON_CHARS), core::time::Duration::ZERO);
                tell(cx, ArchiveEvent::DownloadInterrupted { archive, reason, received: 0, retry_in });
                self.download(cx, offer);
                true
            }
            State::Verifying { offer, .. } => {
                distrust(cx, offer.id, reason);
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    /// Its first bytes say that the archive is not to be trusted. The store is gone.
    fn untrusted(&mut self, cx: &mut Context<'_>, reason: &str) -> bool {
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Downloading { offer, mut staged } => {
                staged.stop(cx.out);
                distrust(cx, offer.id, reason);
                true
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    /// Ends it from our side.
    fn fail(&mut self, cx: &mut Context<'_>, reason: &str, clear: bool) {
        let (offer, store) = match core::mem::replace(&mut self.state, State::Idle) {
            State::Downloading { offer, mut staged } => {
                staged.stop(cx.out);
                (offer, staged.store())
            }
            State::Verifying { offer, store, .. } => (offer, store),
            other => {
                self.state = other;
                return;
            }
        };
        cx.out.push(Output::CloseStore { store, clear });
        let reason = cut(reason, MAX_REASON_CHARS);
        tell(cx, ArchiveEvent::Failed { archive: offer.id, reason });
    }
}

/// The rules of downloads, with the limit for archives.
fn rules(cx: &Context<'_>) -> DownloadConfig {
    let download = &cx.config.download;
    DownloadConfig { max_size: download.max_archive_size, ..download.clone() }
}

const fn desk<'a>(cx: &'a mut Context<'_>, rules: &'a DownloadConfig) -> Desk<'a> {
    Desk { now: cx.now, config: rules, out: cx.out, ids: cx.ids }
}

fn distrust(cx: &mut Context<'_>, archive: ArchiveId, reason: &str) {
    let reason = cut(&format!("it is not to be trusted, and was deleted: {reason}"), MAX_REASON_CHARS);
    tell(cx, ArchiveEvent::Failed { archive, reason });
}

fn tell(cx: &mut Context<'_>, event: ArchiveEvent) {
    cx.out.event(Event::Archive(event));
}

fn refuse(cx: &mut Context<'_>, info: ArchiveInfo, reason: &str) {
    tell(cx, ArchiveEvent::Refused { info, reason: cut(reason, MAX_REASON_CHARS) });
}
