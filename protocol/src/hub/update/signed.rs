//! What is being installed, as its signed metadata say.

use alloc::boxed::Box;
use alloc::format;

use super::{MIXTURE, Phase, State, Updates};
use crate::event::{Event, FirmwareMeta};
use crate::fault::Fault;
use crate::hub::report::Told;
use crate::hub::{Context, names};
use crate::ids::OfferId;
use crate::mismatch;
use crate::output::Output;

impl Updates {
    /// The applier read the metadata under a trusted signature, and waits. Returns whether anybody waited for them.
    pub(crate) fn signed(&mut self, cx: &mut Context<'_>, id: OfferId, firmware: &FirmwareMeta) -> bool {
        let Some(running) = self.applier_of(id).filter(|running| running.signed.is_none()) else {
            return false;
        };
        let Some(again) = &running.again else {
            Fault::new("an applier was opened for an update that the application carries out").report(cx.out);
            return true;
        };
        let firmware = mismatch::bounded(firmware);
        if let Err(mismatch) = mismatch::check(cx.config, &firmware, &again.offer.info.firmware) {
            let reason = format!("{} : nothing was written: {mismatch}", names::UPDATE_FAILED);
            let mixed = running.mixed
                || matches!(&running.phase, Phase::Downloading(download) if download.is_mixed());
            if !(mixed && self.start_over(cx, &reason, MIXTURE, true)) {
                self.refuse_file(cx, &reason);
            }
            return true;
        }
        let (offer, applier, offered) = (running.id, running.applier, running.uuid.clone());
        let by_hand = again.offer.info.by_hand;
        // Started over, after a mixture of two files: the start counts already, the overwriting counts again.
        let again = running.wrote;
        if !again
            && offered != firmware.uuid
            && !by_hand
            && let Some(reason) = self.attempts.refusal(cx, &firmware.uuid)
        {
            self.refuse_file(cx, &format!("{} : {reason}", names::UPDATE_FAILED));
            return true;
        }
        if again {
            self.ledger.writing(cx.now, cx.wall, cx.out);
        } else {
            self.attempts.renamed(cx, &offered, &firmware.uuid);
            self.writing(cx);
        }
        let Some(running) = self.applier_of(id) else {
            Fault::new("an update ended while it was allowed").report(cx.out);
            return true;
        };
        running.signed = Some(Box::new(firmware.clone()));
        cx.out.event(Event::FirmwareSigned { offer, firmware: Box::new(firmware) });
        cx.out.push(Output::ContinueApply { offer: applier });
        true
    }

    /// Ends an update whose file must not be served again, whatever the server's checksums say.
    fn refuse_file(&mut self, cx: &mut Context<'_>, reason: &str) {
        if let State::Running(running) = &mut self.state
            && let Some(held) = &mut running.held
        {
            held.verified = false;
        }
        self.cancel_as(cx, None, reason, true, Told::Reason);
    }
}
