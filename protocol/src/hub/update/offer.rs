//! From the offer to the decision.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::staging::{Held, stage};
use super::{Again, Phase, Running, State, Updates};
use crate::command::{CommandError, Decision};
use crate::download::{Download, from_hex};
use crate::event::{Event, UpdateInfo};
use crate::http::url::Url;
use crate::hub::keys::Keys;
use crate::hub::payload::{self, Status};
use crate::hub::progress::Progress;
use crate::hub::report::{put_off, refuse, reschedule, status, usable};
use crate::hub::{Context, names, window};
use crate::ids::OfferId;
use crate::limits::{FRESH_STARTS, MAX_RESCHEDULE, MIN_RESCHEDULE};
use crate::mismatch;
use crate::output::{Output, Sink, StartApply};
use crate::phoenix::Payload;
use crate::time::Instant;
use crate::update_strategy::UpdateStrategy;

/// An update the application is asked about.
#[derive(Clone)]
pub(super) struct Offer {
    pub(super) id: OfferId,
    pub(super) info: UpdateInfo,
    pub(super) url: Url,
    /// The keys when the offer arrived.
    pub(super) keys: Vec<String>,
}

/// A rescheduled firmware, which isn't offered to the application again too early (device-protocol §12, item 1).
pub(super) struct Hold {
    pub(super) uuid: String,
    pub(super) until: Instant,
}

impl Updates {
    /// Returns whether offers are ignored, as one is being followed.
    pub(crate) const fn is_busy(&self) -> bool {
        matches!(self.state, State::Running(_) | State::Written { .. })
    }

    /// The server sent an `update`, asked by the device or not. Returns whether it holds one, or what is wrong with
    /// the message, if it can't be read.
    pub(crate) fn offered(
        &mut self,
        cx: &mut Context<'_>,
        keys: &Keys,
        payload: Payload<'_>,
        requested: bool,
    ) -> Result<bool, String> {
        if self.is_busy() {
            return Ok(true);
        }
        let Some((mut info, size, url)) = payload::update(payload)? else { return Ok(false) };
        info.requested = requested;
        if let State::Deciding { offer, .. } = &mut self.state {
            if offer.info.firmware.uuid == info.firmware.uuid {
                // The application has the question already; only the address may be fresher.
                if let Ok(url) = url {
                    // What the device asked for stays that, though the server says it twice.
                    info.requested |= offer.info.requested;
                    offer.url = url;
                    offer.info = info;
                }
                return Ok(true);
            }
            self.state = State::Idle;
        }
        if keys.list().is_empty() {
            refuse(cx, info, names::NO_KEYS);
            return Ok(true);
        }
        let url = match usable(cx, &size, info.checksum.is_some(), cx.config.download.max_size, url) {
            Ok(url) => url,
            Err(reason) => {
                refuse(cx, info, &format!("{} : {reason}", names::DOWNLOAD_FAILED));
                return Ok(true);
            }
        };
        if requested {
            // Whoever asks doesn't want to wait any more.
            self.hold = None;
        }
        if let Some(left) = self.held(cx.now, &info.firmware.uuid) {
            put_off(cx, info, left, "the device asked for this update to wait");
            return Ok(true);
        }
        if let Some((wait, reason)) = self.ledger.update_wait(&cx.config.bounds, cx.now, cx.wall) {
            put_off(cx, info, wait.max(MIN_RESCHEDULE), &reason);
            return Ok(true);
        }
        if let Some((wait, reason)) = self.obstructed().or_else(|| window::wait(cx, &info, &mut self.rng)) {
            put_off(cx, info, wait, &reason);
            return Ok(true);
        }
        if !info.by_hand
            && let Some(reason) = self.attempts.refusal(cx, &info.firmware.uuid)
        {
            // Never `received`; the server leaves the device alone for a day then (device-protocol §9.4).
            status(cx, &Status::Ignored { reason: &reason });
            cx.out.event(Event::UpdateRefused { info, reason, retry_in: None });
            return Ok(true);
        }
        // Nothing vouches for this version, but what even the server calls older need not be fetched.
        if !info.firmware.version.is_empty()
            && let Err(mismatch) = mismatch::check_age(cx.config, &info.firmware.version)
        {
            refuse(cx, info, &format!("{} : {mismatch}", names::UPDATE_FAILED));
            return Ok(true);
        }
        status(cx, &Status::Received);
        let id = cx.ids.offer();
        cx.out.event(Event::UpdateOffered { offer: id, info: info.clone() });
        let offer = Box::new(Offer { id, info, url, keys: keys.list().to_vec() });
        self.state = State::Deciding { offer, until: cx.now + cx.config.decision_timeout };
        Ok(true)
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
        if matches!(decision, Decision::Apply | Decision::TakeOver)
            && let Some((wait, reason)) = self.obstructed()
        {
            put_off(cx, offer.info, wait, &reason);
            return Ok(());
        }
        match decision {
            Decision::Apply => self.apply(cx, *offer),
            Decision::TakeOver => self.hand_over(cx, *offer),
            Decision::Ignore { reason } => status(cx, &Status::Ignored { reason }),
            Decision::Reschedule { delay, reason } => {
                self.postpone(cx, &offer, *delay, reason.as_deref());
            }
        }
        Ok(())
    }

    fn apply(&mut self, cx: &mut Context<'_>, offer: Offer) {
        self.hold = None;
        let (id, uuid) = (offer.id, offer.info.firmware.uuid.clone());
        if matches!(cx.config.strategy, UpdateStrategy::Streaming) {
            self.attempts.started(cx, &uuid);
        }
        let again =
            Some(Box::new(Again { offer: offer.clone(), strategy: cx.config.strategy, left: FRESH_STARTS }));
        let (phase, held) = begin(cx, offer, id, cx.config.strategy);
        let progress = Progress::new(cx.now);
        let (started, signed, mixed, wrote) = (false, None, false, false);
        let applier = id;
        let running =
            Running { id, applier, uuid, phase, progress, started, signed, held, again, mixed, wrote };
        self.state = State::Running(Box::new(running));
    }

    pub(super) fn postpone(
        &mut self,
        cx: &mut Context<'_>,
        offer: &Offer,
        delay: Duration,
        reason: Option<&str>,
    ) {
        let delay = delay.clamp(MIN_RESCHEDULE, MAX_RESCHEDULE);
        self.hold = Some(Hold { uuid: offer.info.firmware.uuid.clone(), until: cx.now + delay });
        reschedule(cx, delay, reason);
    }

    /// Returns how long a firmware is still held back.
    fn held(&self, now: Instant, uuid: &str) -> Option<Duration> {
        let hold = self.hold.as_ref().filter(|hold| hold.uuid == uuid)?;
        Some(hold.until.saturating_since(now)).filter(|left| !left.is_zero())
    }
}

/// Begins to fetch the file.
pub(super) fn begin(
    cx: &mut Context<'_>,
    offer: Offer,
    applier: OfferId,
    strategy: UpdateStrategy,
) -> (Phase, Option<Held>) {
    match strategy {
        UpdateStrategy::Streaming => (stream(cx, offer, applier), None),
        UpdateStrategy::Caching => stage(cx, offer, None),
        UpdateStrategy::Parts(parts) => stage(cx, offer, Some(&parts)),
    }
}

/// Opens the applier and the download that feeds it.
fn stream(cx: &mut Context<'_>, offer: Offer, applier: OfferId) -> Phase {
    let Offer { id, info, url, keys } = offer;
    let (checksum, size) = (info.checksum.as_deref().and_then(from_hex), info.size);
    cx.out.push(Output::StartApply(StartApply::of(applier, id, keys, info)));
    let mut download = Download::new(Sink::Applier(applier), url, size, checksum, cx.now);
    cx.out.push(Output::Fetch(download.request(cx.now, &cx.config.download, cx.ids)));
    Phase::Downloading(download)
}
