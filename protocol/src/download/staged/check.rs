//! What is in the store already: checking it, and planning for the rest.

use sha2::{Digest as _, Sha256};

use super::run::Run;
use super::{Desk, Read, Stage, Staged};
use crate::download::digest::Sha;
use crate::download::{Download, runs};
use crate::number::as_usize;
use crate::output::{Output, ReadStore, Sink};

impl Staged {
    /// A part is verified.
    pub(super) fn have(&mut self, desk: &mut Desk<'_>, part: u32) {
        let Some(verified) = self.verified.get_mut(as_usize(part)) else {
            return self.fault(desk, "a part is verified that the file does not have");
        };
        // Known already, if more came after it in the same run.
        if !core::mem::replace(verified, true) {
            debug_assert!(self.missing > 0, "more parts are verified than there are");
            self.missing = self.missing.saturating_sub(1);
        }
    }

    /// Checks the complete parts from `next` on, one after the other; then plans for those that are missing.
    pub(super) fn check(&mut self, desk: &mut Desk<'_>, mut next: u32) {
        while let Some((part, length)) =
            self.leftovers.range(next..).next().map(|(part, length)| (*part, *length))
        {
            next = part.saturating_add(1);
            if self.plan.len(part) != Some(length) {
                continue;
            }
            if self.plan.checksum(part).is_some() {
                self.stage = Stage::Checking { next };
                self.read(desk, part, length);
                return;
            }
            self.leftovers.remove(&part);
            self.mixed = true;
            self.have(desk, part);
            self.settled = self.settled.saturating_add(length);
        }
        self.stage = Stage::Fetching;
        let missing = (0_u32..).zip(&self.verified).filter(|(_, there)| !**there).map(|(part, _)| part);
        for run in runs::split(missing, self.attempts.at_once) {
            // Most parts have nothing left of them.
            let left = self.leftovers.remove(&run.start).unwrap_or(0);
            self.mixed |= left > 0;
            let until = (run.end < self.plan.count()).then(|| self.plan.start(run.end));
            let from = self.plan.start(run.start).saturating_add(left);
            let sink = Sink::Store(self.store);
            let mut transfer =
                Download::of_range(sink, self.url.clone(), self.plan.size, from, until, desk.now);
            transfer.began = self.began;
            self.runs.push_back(Run {
                first: run.start,
                part: run.start,
                commit: run.start,
                end: run.end,
                hash: Sha256::new(),
                seeded: left == 0 || self.plan.checksum(run.start).is_none(),
                transfer,
            });
        }
        self.leftovers.clear();
    }

    pub(super) fn read(&mut self, desk: &mut Desk<'_>, part: u32, length: u64) {
        let fetch = desk.ids.fetch();
        let from = self.plan.start(part);
        let to = from.saturating_add(length);
        desk.out.push(Output::ReadStore(ReadStore { fetch, store: self.store, from, to, into: None }));
        self.read = Some(Read { fetch, part, left: length, hash: Sha256::new() });
        self.moved = desk.now;
    }

    /// A part was read back, or what there is of it.
    pub(super) fn read_back(&mut self, desk: &mut Desk<'_>, whole: bool) {
        let Some(Read { part, left, hash, .. }) = self.read.take() else {
            return self.fault(desk, "what nobody reads was read");
        };
        self.moved = desk.now;
        let whole = whole && left == 0;
        let Stage::Checking { next } = self.stage else {
            let start = self.plan.start(part);
            let Some(run) = self.runs.iter_mut().find(|run| run.part == part && !run.seeded) else {
                return self.fault(desk, "a part was read that no run waits for");
            };
            run.seeded = true;
            if whole {
                run.hash = hash;
            } else {
                (run.transfer.received, run.transfer.stored) = (start, start);
            }
            return;
        };
        let Some(length) = self.leftovers.remove(&part) else {
            return self.fault(desk, "a part was checked of which nothing was there");
        };
        let found: Sha = hash.finalize().into();
        if whole && self.plan.checksum(part) == Some(found) {
            self.have(desk, part);
            self.settled = self.settled.saturating_add(length);
        } else {
            desk.out.push(Output::DropPart { store: self.store, part });
        }
        self.check(desk, next);
    }
}
