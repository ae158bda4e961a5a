//! Makes reads, writes and syncs of an application fail.

use super::super::fault::{Fault, FaultTarget};
use super::super::loss::{Losses, Pending};
use super::case::State;
use super::record::Op;
use super::run::{Applied, Run, settle};

/// Places at which the disk is made to end, spread over it.
const ENDS: u64 = 16;

impl Run<'_> {
    /// Each read, write and sync fails once or from then on, and the disk is full at several places. Whatever
    /// the applier says, the device boots, with and without a loss of power after it; what it calls done stays;
    /// and on a healthy disk the upgrade goes through.
    pub(super) fn faults(&mut self) {
        let applied = self.apply_through(&self.case.before, |disk| disk);
        if applied.outcome.is_err() {
            return;
        }
        let [writes, syncs] = [false, true].map(|sync| {
            let is_wanted = |op: &&Op| match op {
                Op::Change(change) => !sync && matches!(change, Pending::Write { .. }),
                Op::Sync => sync,
            };
            applied.ops.iter().filter(is_wanted).count() as u64
        });
        let mut faults = Vec::new();
        for n in 1..=applied.reads {
            faults.extend([Fault::BadRead(n), Fault::BadFromRead(n)]);
        }
        for n in 1..=writes {
            faults.extend([Fault::BadWrite(n), Fault::BadFromWrite(n)]);
        }
        for n in 1..=syncs {
            faults.extend([Fault::BadSync(n), Fault::BadFromSync(n)]);
        }
        faults.extend((0..ENDS).map(|n| Fault::FullAt(self.case.length / ENDS * n)));
        for fault in faults {
            self.fault(fault);
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.report.faults += 1;
        let before = self.case.before.clone();
        let Applied { outcome, image, ops, .. } =
            self.apply_through(&before, move |disk| FaultTarget::new(disk, fault));
        let what = format!("{fault:?}, which gave {outcome:?}");
        let mut cut = before;
        let mut pending = Vec::new();
        for op in ops {
            match op {
                Op::Change(change) => pending.push(change),
                Op::Sync => settle(&mut cut, &mut pending),
            }
        }
        let Ok(losses) = Losses::new(&cut, &pending, self.way.sector) else { return };
        let _ = losses.keep(&losses.sampled(&mut self.random), &mut cut);
        for (mut disk, how) in [(image, "kept power"), (cut, "lost power")] {
            let state = (self.case.judge)(&mut disk);
            let what = format!("{what}, {how}");
            match &state {
                State::Old | State::Damaged(_) if outcome.is_ok() => {
                    self.report.fail(&format!("{what}: called done, and the disk is {state:?}"));
                }
                State::New => {}
                State::Damaged(_) if self.case.may_be_damaged => {}
                State::Old => self.again(&disk, &state, &what),
                State::Damaged(_) | State::Bricked(_) => {
                    self.report.fail(&format!("{what}: the disk is {state:?}"));
                }
            }
        }
    }
}
