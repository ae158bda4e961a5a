//! What a device asks the server about its updates: each question gets one answer, in time, and none is asked later.

use nerves_hub_link_protocol::limits::ANSWER_TIMEOUT;
use nerves_hub_link_protocol::{Event, OfferId, Request, UpdateMode};

use super::violation::Broken;

/// The questions, with the messages that ask them.
const KINDS: [(Request, &str); 3] = [
    (Request::CheckUpdate, "check_update"),
    (Request::RequestUpdate, "request_update"),
    (Request::SetUpdateMode, "set_update_mode"),
];

/// The messages that ask.
pub(super) fn is_question(event: &str) -> bool {
    KINDS.iter().any(|(_, name)| *name == event)
}

/// What was asked and not answered, and what the server told.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// In the order of [`KINDS`].
    waiting: [Option<Question>; 3],
    /// The mode that was asked for last.
    wanted: Option<UpdateMode>,
    mode: Option<UpdateMode>,
    /// The newest offer, and whether the device or a person wanted it.
    offer: Option<(OfferId, bool)>,
}

/// What the application of a device that manages its updates means to do.
#[derive(Debug, Default)]
pub(super) struct Managing {
    /// When it looks after its updates next.
    pub at: u64,
    /// The operator lets it.
    pub allowed: bool,
    /// There is an update, it was told.
    pub wanted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    at: u64,
    sent: bool,
}

impl Asked {
    /// The machine took a question.
    pub fn asks(&mut self, now: u64, request: Request, wanted: Option<UpdateMode>) {
        if let Some(place) = place(request).and_then(|at| self.waiting.get_mut(at)) {
            *place = Some(Question { at: now, sent: false });
        }
        self.wanted = wanted.or(self.wanted);
    }

    /// The machine sends a question.
    pub fn sends(&mut self, event: &str) -> Result<(), Broken> {
        let asked = KINDS.iter().zip(&mut self.waiting).find(|((_, name), _)| *name == event);
        match asked {
            Some((_, Some(question))) if !question.sent => question.sent = true,
            Some(((request, _), _)) => return wrong(*request, "was sent though it does not wait"),
            None => {}
        }
        Ok(())
    }

    /// The application is told something.
    pub fn hears(&mut self, event: &Event) -> Result<(), Broken> {
        match event {
            Event::UpdateModeChanged { mode, .. } => {
                self.mode = *mode;
                if self.waits_for(Request::SetUpdateMode) && *mode == self.wanted {
                    self.answered(Request::SetUpdateMode)?;
                }
            }
            Event::UpdateAvailability { .. } => self.answered(Request::CheckUpdate)?,
            Event::UpdateRejected { .. } => self.answered(Request::RequestUpdate)?,
            Event::RequestFailed { request, .. } => self.answered(*request)?,
            Event::UpdateOffered { offer, info } => {
                self.offer = Some((*offer, info.requested || info.by_hand));
                if info.requested != self.waits_for(Request::RequestUpdate) {
                    return wrong(Request::RequestUpdate, "is not what the offer says about it");
                }
                self.forget(Request::RequestUpdate);
            }
            Event::UpdateRefused { .. } => self.forget(Request::RequestUpdate),
            _ => {}
        }
        Ok(())
    }

    /// The application of a device that manages its updates accepted an offer.
    pub fn accepts(&self, offer: OfferId) -> Result<(), Broken> {
        if self.is_unwanted(offer) { Err(Broken::AppliedUnasked(offer)) } else { Ok(()) }
    }

    /// Whether the device decides by itself what it takes, and neither it nor a person wanted this.
    pub fn is_unwanted(&self, offer: OfferId) -> bool {
        self.mode == Some(UpdateMode::DeviceManaged) && self.offer == Some((offer, false))
    }

    /// The mode the server told last.
    pub fn mode(&self) -> Option<UpdateMode> {
        self.mode
    }

    /// Whether an answer is to come.
    pub fn waits(&self) -> bool {
        self.waiting.iter().any(Option::is_some)
    }

    /// Whether the answer to this one is to come.
    pub fn waits_for(&self, request: Request) -> bool {
        place(request).and_then(|at| self.waiting.get(at)).is_some_and(Option::is_some)
    }

    /// Looks whether questions wait that should not, once everything the machine wants was done.
    pub fn check(&self, now: u64, ticked: bool, joined: bool) -> Result<(), Broken> {
        let most = u64::try_from(ANSWER_TIMEOUT.as_micros()).unwrap_or(u64::MAX);
        for ((request, _), waiting) in KINDS.iter().zip(&self.waiting) {
            match waiting {
                Some(_) if !joined => return wrong(*request, "waits though nobody can answer it"),
                Some(question) if ticked && now >= question.at + most => {
                    return wrong(*request, "was neither answered nor given up in time");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn answered(&mut self, request: Request) -> Result<(), Broken> {
        if !self.waits_for(request) {
            return wrong(request, "was answered and not asked");
        }
        self.forget(request);
        Ok(())
    }

    fn forget(&mut self, request: Request) {
        if let Some(waiting) = place(request).and_then(|at| self.waiting.get_mut(at)) {
            *waiting = None;
        }
    }
}

fn place(request: Request) -> Option<usize> {
    KINDS.iter().position(|(kind, _)| *kind == request)
}

fn wrong(request: Request, what: &'static str) -> Result<(), Broken> {
    Err(Broken::Question { request, what })
}
