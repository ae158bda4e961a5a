//! Device-managed updates (device-protocol A2): the mode, and the three questions of the device.
//!
//! Answers carry no number, so one question of each kind may wait at a time.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use serde_json::{Value, json};

use super::{Context, names, payload};
use crate::command::CommandError;
use crate::event::Event;
use crate::limits::{ANSWER_TIMEOUT, MAX_REJECT_DELAY, MAX_TEXT_CHARS, MIN_RESCHEDULE};
use crate::phoenix::{Class, Payload, backoff};
use crate::rng::Rng;
use crate::text::cut;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};
use crate::update_mode::{RejectReason, Request, RequestFailure, UpdateMode};

/// What the server said about the mode, and what it was asked.
pub(crate) struct Managed {
    mode: Option<UpdateMode>,
    allowed: bool,
    /// Since when the channel is joined, if it is.
    joined: Option<Instant>,
    /// Whether the server told the mode since.
    told: bool,
    /// When to give up each question that waits.
    check: Option<Instant>,
    request: Option<Instant>,
    set: Option<(UpdateMode, Instant)>,
    /// Until when the server wants no further request.
    not_before: Option<Instant>,
    rng: Rng,
}

impl Managed {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            mode: None,
            allowed: false,
            joined: None,
            told: false,
            check: None,
            request: None,
            set: None,
            not_before: None,
            rng: Rng::new(seed),
        }
    }

    /// Returns the mode the server told last.
    pub(crate) const fn mode(&self) -> Option<UpdateMode> {
        self.mode
    }

    /// Returns whether an update was asked for and hasn't come.
    pub(crate) const fn is_requested(&self) -> bool {
        self.request.is_some()
    }

    /// The channel was joined.
    pub(crate) const fn joined(&mut self, now: Instant) {
        self.joined = Some(now);
    }

    /// Asks whether there is an update.
    pub(crate) fn check(&mut self, cx: &mut Context<'_>) -> Result<(), CommandError> {
        self.may_ask(cx, self.check.is_some())?;
        self.check = Some(ask(cx, names::CHECK_UPDATE, payload::empty()));
        Ok(())
    }

    /// Asks for the update.
    pub(crate) fn request(&mut self, cx: &mut Context<'_>, updating: bool) -> Result<(), CommandError> {
        if updating {
            return Err(CommandError::Updating);
        }
        self.may_ask(cx, self.request.is_some())?;
        if let Some(at) = self.not_before.filter(|at| *at > cx.now) {
            return Err(CommandError::TooEarly { retry_in: at - cx.now });
        }
        self.request = Some(ask(cx, names::REQUEST_UPDATE, payload::empty()));
        Ok(())
    }

    /// Asks for another mode.
    pub(crate) fn set(&mut self, cx: &mut Context<'_>, wanted: UpdateMode) -> Result<(), CommandError> {
        // Only operators set `off`, and only they end it.
        if wanted == UpdateMode::Off || self.mode == Some(UpdateMode::Off) {
            return Err(CommandError::NotPermitted);
        }
        self.may_ask(cx, self.set.is_some())?;
        if self.told && self.mode == Some(wanted) {
            // The server would note it as a change.
            self.tell(cx);
        } else {
            let until = ask(cx, names::SET_UPDATE_MODE, json!({"mode": wanted.as_str()}));
            self.set = Some((wanted, until));
        }
        Ok(())
    }

    /// The server told the mode, asked or not.
    pub(crate) fn mode_told(&mut self, cx: &mut Context<'_>, payload: Payload<'_>) -> Result<(), String> {
        let payload = payload.value()?;
        let word = payload.get("mode").and_then(Value::as_str);
        let mode = word.and_then(UpdateMode::parse);
        let allowed = payload.get("managed_updates_allowed") == Some(&Value::Bool(true));
        let news = !self.told || (mode, allowed) != (self.mode, self.allowed);
        (self.mode, self.allowed, self.told) = (mode, allowed, true);
        let error = payload.get("error").filter(|error| !error.is_null());
        // Without error, only the wanted mode is the answer; another one was a change by somebody else.
        let answered = self.set.is_some_and(|(wanted, _)| error.is_some() || mode == Some(wanted));
        if answered {
            self.set = None;
            cx.wire.discard(Class::Latest(names::SET_UPDATE_MODE));
        }
        if news || (answered && error.is_none()) {
            self.tell(cx);
        }
        if let (Some(error), true) = (error, answered) {
            let why = match error.as_str() {
                Some("not_permitted") => RequestFailure::NotPermitted,
                Some("unknown_mode") => RequestFailure::UnknownMode,
                Some(other) => RequestFailure::Other(cut(other, MAX_TEXT_CHARS)),
                None => RequestFailure::Other(String::from("error")),
            };
            cx.out.event(Event::RequestFailed { request: Request::SetUpdateMode, why });
        }
        match (mode, word) {
            (Some(_), _) => Ok(()),
            (None, Some(word)) => Err(format!("an update mode this version doesn't know: {word:?}")),
            (None, None) => Err(String::from("update_mode without a mode")),
        }
    }

    /// The server answered whether there is an update. Returns whether it was asked.
    pub(crate) fn available(&mut self, cx: &mut Context<'_>, payload: Payload<'_>) -> Result<bool, String> {
        let (available, firmware) = payload::update_available(payload)?;
        if self.check.take().is_none() {
            return Ok(false);
        }
        cx.wire.discard(Class::Latest(names::CHECK_UPDATE));
        cx.out.event(Event::UpdateAvailability { available, firmware });
        Ok(true)
    }

    /// The server gives no update now. Returns whether it was asked.
    pub(crate) fn rejected(&mut self, cx: &mut Context<'_>, payload: Payload<'_>) -> Result<bool, String> {
        let payload = payload.value()?;
        if self.request.is_none() {
            return Ok(false);
        }
        let minutes = payload.get("delay_for").and_then(Value::as_u64);
        // Minutes here, though `status_update` has milliseconds (A2.3).
        let delay = minutes.map(|minutes| Duration::from_secs(minutes.saturating_mul(60)));
        let reason = match payload.get("reason").and_then(Value::as_str) {
            Some("busy") if delay.is_some() => RejectReason::Busy,
            Some("no_update") => RejectReason::NoUpdate,
            Some("no_deployment_group") => RejectReason::NoDeploymentGroup,
            Some("already_updating") => RejectReason::AlreadyUpdating,
            Some("not_permitted") => RejectReason::NotPermitted,
            Some(other) => RejectReason::Other(cut(other, MAX_TEXT_CHARS)),
            None => RejectReason::Other(String::from("error")),
        };
        self.reject(cx, reason, delay);
        Ok(true)
    }

    /// An `update` arrived. Without an offer in it, it says that there is none.
    pub(crate) fn update(&mut self, cx: &mut Context<'_>, offered: bool) {
        if offered {
            self.end_request(cx);
        } else if self.request.is_some() {
            self.reject(cx, RejectReason::NoUpdate, None);
        }
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        self.fail(cx, &RequestFailure::Timeout, |until| until <= now);
    }

    /// Gives up what can't be answered any more.
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>) {
        if self.joined.is_some() && !cx.wire.is_joined() {
            (self.joined, self.told) = (None, false);
            self.fail(cx, &RequestFailure::Disconnected, |_| true);
        }
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, deadline: &mut Earliest) {
        let waiting = [self.check, self.request, self.set.map(|(_, until)| until)];
        for until in waiting.into_iter().flatten() {
            deadline.at(Timer::Answer, until);
        }
    }

    fn may_ask(&self, cx: &Context<'_>, waiting: bool) -> Result<(), CommandError> {
        let Some(joined) = self.joined.filter(|_| cx.wire.is_joined()) else {
            return Err(CommandError::NotJoined);
        };
        if waiting {
            return Err(CommandError::AlreadyInProgress);
        }
        // Servers that know these questions tell the mode right after the join (A2.5).
        if !self.told && cx.now >= joined + ANSWER_TIMEOUT {
            return Err(CommandError::Unsupported);
        }
        Ok(())
    }

    fn tell(&self, cx: &mut Context<'_>) {
        let (mode, managed_updates_allowed) = (self.mode, self.allowed);
        cx.out.event(Event::UpdateModeChanged { mode, managed_updates_allowed });
    }

    /// The request has its answer, and need not be sent any more if it waits behind a network that is stuck.
    fn end_request(&mut self, cx: &mut Context<'_>) {
        if self.request.take().is_some() {
            cx.wire.discard(Class::Latest(names::REQUEST_UPDATE));
        }
    }

    fn reject(&mut self, cx: &mut Context<'_>, reason: RejectReason, delay: Option<Duration>) {
        self.end_request(cx);
        let delay = delay.map(|delay| delay.min(MAX_REJECT_DELAY));
        self.not_before = delay.map(|delay| cx.now + delay);
        let wait = delay.unwrap_or(MIN_RESCHEDULE);
        let retry_in = backoff::lengthen(wait, cx.config.backoff.jitter, &mut self.rng);
        cx.out.event(Event::UpdateRejected { reason, retry_in });
    }

    /// Tells of questions that get no answer. None of them is sent later.
    fn fail(&mut self, cx: &mut Context<'_>, why: &RequestFailure, over: impl Fn(Instant) -> bool) {
        let mut failed = |request, name| {
            cx.wire.discard(Class::Latest(name));
            cx.out.event(Event::RequestFailed { request, why: why.clone() });
        };
        if self.check.take_if(|until| over(*until)).is_some() {
            failed(Request::CheckUpdate, names::CHECK_UPDATE);
        }
        if self.request.take_if(|until| over(*until)).is_some() {
            failed(Request::RequestUpdate, names::REQUEST_UPDATE);
        }
        if self.set.take_if(|(_, until)| over(*until)).is_some() {
            failed(Request::SetUpdateMode, names::SET_UPDATE_MODE);
        }
    }
}

/// Sends a question. Returns when to give it up.
fn ask(cx: &mut Context<'_>, event: &'static str, payload: Value) -> Instant {
    cx.wire.push(event, payload, Class::Latest(event));
    cx.now + ANSWER_TIMEOUT
}
