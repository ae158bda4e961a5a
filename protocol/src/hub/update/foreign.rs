//! Updates the application carries out itself, reported as if the machine did.

use alloc::boxed::Box;
use alloc::format;

use super::offer::Offer;
use super::{Phase, Running, State, Updates};
use crate::command::{CommandError, UpdateReport};
use crate::event::{Event, Stage};
use crate::hub::progress::Progress;
use crate::hub::report::{Told, failed};
use crate::hub::{Context, names};
use crate::ids::OfferId;
use crate::limits::APPLY_STALL;
use crate::secret::Secret;

impl Updates {
    /// The application takes an update over.
    pub(super) fn hand_over(&mut self, cx: &mut Context<'_>, offer: Offer) {
        self.hold = None;
        let Offer { id, info, url, keys } = offer;
        let uuid = info.firmware.uuid.clone();
        self.attempts.started(cx, &uuid);
        // Only the application knows when it writes.
        self.ledger.writing(cx.now, cx.wall, cx.out);
        let (info, url) = (Box::new(info), Secret::new(url.to_http()));
        cx.out.event(Event::UpdateHandedOver { offer: id, info, url, public_keys: keys });
        let phase = Phase::HandedOver { since: cx.now };
        let progress = Progress::new(cx.now);
        let (started, mixed, signed, held, again) = (false, false, None, None, None);
        self.state = State::Running(Box::new(Running {
            id,
            applier: id,
            uuid,
            phase,
            progress,
            started,
            signed,
            held,
            again,
            mixed,
            wrote: true,
        }));
    }

    /// The application tells how far an update is that it took over. Returns whether it is complete.
    pub(crate) fn reported(
        &mut self,
        cx: &mut Context<'_>,
        id: OfferId,
        report: &UpdateReport,
    ) -> Result<bool, CommandError> {
        let now = cx.now;
        match self.running(id).map(|running| &mut running.phase) {
            Some(Phase::HandedOver { since }) => *since = now,
            _ => return Err(CommandError::UnknownOffer(id)),
        }
        match report {
            UpdateReport::Started { interface } => {
                if let Some(running) = self.running(id) {
                    running.start(cx, interface.as_deref());
                }
            }
            UpdateReport::Progress { stage, percent } => {
                let percent = (*percent).min(100);
                self.report(cx, *stage, percent, *stage == Stage::Downloading && percent == 100);
            }
            UpdateReport::Completed => {
                self.complete(cx, id);
                return Ok(true);
            }
            UpdateReport::Failed { reason } => {
                self.state = State::Idle;
                self.ledger.failed(cx.now, cx.wall, cx.out);
                failed(cx, id, &format!("{} : {reason}", names::UPDATE_FAILED), Told::Reason);
            }
        }
        Ok(false)
    }

    /// The application said nothing for too long. Whatever it does, the server is no longer told.
    pub(super) fn forsaken(&mut self, cx: &mut Context<'_>, id: OfferId) {
        self.state = State::Idle;
        self.ledger.failed(cx.now, cx.wall, cx.out);
        let minutes = APPLY_STALL.as_secs() / 60;
        let reason =
            format!("{} : the application reported nothing for {minutes} minutes", names::UPDATE_FAILED);
        failed(cx, id, &reason, Told::Reason);
    }
}
