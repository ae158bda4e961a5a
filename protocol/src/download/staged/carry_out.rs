//! What follows from what happened: requests, commits, the end.

use alloc::format;
use alloc::string::String;

use sha2::{Digest as _, Sha256};

use super::super::{Failure, Verdict};
use super::run::Run;
use super::{Desk, Loss, Outcome, Stage, Staged, drop_fetch};
use crate::fault::Fault;
use crate::ids::FetchId;
use crate::limits::{FRESH_STARTS, MAX_COMMITS, STORE_STALL};
use crate::output::Output;

impl Staged {
    /// A part turned out wrong.
    pub(super) fn wrong(&mut self, desk: &mut Desk<'_>, at: usize, part: u32) {
        desk.out.push(Output::DropPart { store: self.store, part });
        let failures = self.failures.entry(part).or_insert(0);
        *failures = failures.saturating_add(1);
        let failures = *failures;
        let what = match self.plan.count() {
            1 => String::from("the file"),
            parts => format!("part {part} of {parts}, counted from 0,"),
        };
        if failures >= self.attempts.per_part {
            let times = crate::text::count(failures.into(), "time");
            let reason = format!("{what} did not match the announced checksum, {times} in a row");
            return self.fail(desk, Loss::Bytes(reason));
        }
        let start = self.plan.start(part);
        let Some(run) = self.runs.get_mut(at) else {
            return self.fault(desk, "a part of no run is wrong");
        };
        run.hash = Sha256::new();
        drop_fetch(desk, run.transfer.rewind(desk.now, start));
        let reason = format!("{what} does not match the announced checksum");
        self.news.push_back(Outcome::Interrupted { reason, delay: core::time::Duration::ZERO });
    }

    /// Carries out what a transfer wants.
    pub(super) fn follow(&mut self, desk: &mut Desk<'_>, fetch: FetchId, verdict: Verdict) {
        match verdict {
            Verdict::Continue | Verdict::Complete => self.learn(desk, fetch),
            Verdict::Changed { reason, abort } => {
                drop_fetch(desk, abort);
                self.start_over(desk, fetch, reason);
            }
            Verdict::Started { offset, total } => {
                self.share(desk, fetch);
                self.absorb(desk, fetch);
                self.news.push_back(Outcome::Started { offset, total });
            }
            Verdict::Request { fetch, abort } => {
                drop_fetch(desk, abort);
                desk.out.push(Output::Fetch(fetch));
            }
            Verdict::Retry { reason, delay, abort } => {
                drop_fetch(desk, abort);
                self.news.push_back(Outcome::Interrupted { reason, delay });
                self.absorb(desk, fetch);
            }
            Verdict::Fail { failure, abort } => {
                drop_fetch(desk, abort);
                match failure {
                    Failure::Download(reason) => self.fail(desk, Loss::Download(reason)),
                    Failure::Absent(reason) => self.fail(desk, Loss::Absent(reason)),
                    Failure::Stalled => self.stalled(desk),
                }
            }
        }
    }

    /// The file is another one than before: begins again, as with bytes that are wrong. Only a file that is one part, of a
    /// size nobody announced, comes here; the checksums of others judge each part.
    fn start_over(&mut self, desk: &mut Desk<'_>, fetch: FetchId, reason: String) {
        let newest = |run: &&mut Run| run.transfer.newest == Some(fetch);
        let Some(run) = self.runs.iter_mut().find(newest) else {
            return self.fault(desk, "a request of no run has brought another file");
        };
        let part = run.first;
        let failures = self.failures.entry(part).or_insert(0);
        *failures = failures.saturating_add(1);
        if *failures > FRESH_STARTS {
            return self.fail(desk, Loss::Download(reason));
        }
        desk.out.push(Output::DropPart { store: self.store, part });
        let start = self.plan.start(part);
        run.hash = Sha256::new();
        run.part = part;
        let abort = run.transfer.start_over(desk.now, start);
        self.plan.size = run.transfer.announced;
        drop_fetch(desk, abort);
        self.mixed = false;
        self.news.push_back(Outcome::Interrupted { reason, delay: core::time::Duration::ZERO });
    }

    /// If a request brings the whole file, runs that follow without a gap and have nothing yet go along with it.
    fn absorb(&mut self, desk: &mut Desk<'_>, fetch: FetchId) {
        let newest = |run: &Run| run.transfer.newest == Some(fetch);
        let Some(at) = self.runs.iter().position(newest) else {
            return self.fault(desk, "a request of no run has got further");
        };
        while let Some(run) = self.runs.get(at)
            && run.transfer.takes_all()
            && let Some(next) = self.runs.get(at + 1)
            && next.first == run.end
            && next.seeded
            && next.part == next.first
            && next.transfer.received == self.plan.start(next.first)
            && !next.transfer.is_storing()
        {
            let next = self.runs.remove(at + 1);
            let (Some(mut next), Some(run)) = (next, self.runs.get_mut(at)) else {
                return self.fault(desk, "a run went along with none");
            };
            drop_fetch(desk, next.transfer.take_fetch());
            run.end = next.end;
            run.transfer.extend(desk.config, next.transfer.until);
        }
    }

    /// What one request learns about the file binds the others.
    fn share(&mut self, desk: &mut Desk<'_>, fetch: FetchId) {
        let Some(run) = self.run_of(fetch).and_then(|at| self.runs.get(at)) else {
            return self.fault(desk, "a request of no run was answered");
        };
        let (total, etag) = (run.transfer.total, run.transfer.etag.clone());
        self.plan.size = self.plan.size.or(total);
        self.mixed |= run.transfer.is_mixed();
        for run in &mut self.runs {
            run.transfer.total = run.transfer.total.or(total);
            if run.transfer.etag.is_none() {
                run.transfer.etag.clone_from(&etag);
            }
        }
    }

    /// A file whose size nobody announced may have come to its end.
    fn learn(&mut self, desk: &mut Desk<'_>, fetch: FetchId) {
        let mut runs = self.runs.iter_mut().enumerate();
        let Some((at, run)) = runs.find(|(_, run)| run.transfer.newest == Some(fetch)) else {
            return self.fault(desk, "a request of no run goes on");
        };
        if run.part >= run.end || !run.transfer.is_received() {
            return;
        }
        self.plan.size = run.transfer.total;
        let part = run.part;
        if run.matches(&self.plan) {
            run.part = run.part.saturating_add(1);
            self.have(desk, part);
        } else {
            self.wrong(desk, at, part);
        }
    }

    /// Orders everything that can be ordered now.
    pub(super) fn go_on(&mut self, desk: &mut Desk<'_>) {
        if self.stage != Stage::Fetching {
            return;
        }
        self.sweep(desk);
        for at in 0..self.runs.len().min(self.attempts.at_once) {
            // What one run brings may end others, or all.
            let Some(run) = self.runs.get_mut(at) else { break };
            if !run.seeded {
                if self.read.is_none() {
                    let (part, length) = (run.part, run.transfer.received);
                    let length = length.saturating_sub(self.plan.start(part));
                    self.read(desk, part, length);
                }
                continue;
            }
            let room = desk.out.has_room();
            let verdict = run.transfer.tick(desk.now, desk.config, desk.ids, room);
            if let (Some(fetch), false) = (run.transfer.newest, matches!(verdict, Verdict::Continue)) {
                self.follow(desk, fetch, verdict);
            }
        }
        if self.stage == Stage::Fetching && self.runs.is_empty() && self.committing == 0 {
            match (self.missing, self.plan.size) {
                (0, Some(size)) => {
                    self.stage = Stage::Over;
                    self.news.push_back(Outcome::Complete { size });
                }
                _ => self.fail(desk, Loss::Download(String::from("the download is incomplete"))),
            }
        }
    }

    /// Brings verified parts onto the disk and removes runs that are done.
    fn sweep(&mut self, desk: &mut Desk<'_>) {
        let Self { store, plan, runs, committing, settled, moved, .. } = self;
        for run in runs.iter_mut() {
            while *committing < MAX_COMMITS
                && run.commit < run.part
                && plan.end(run.commit).is_some_and(|end| end <= run.transfer.stored)
            {
                desk.out.push(Output::CommitPart { store: *store, part: run.commit });
                if *committing == 0 {
                    *moved = desk.now;
                }
                *committing += 1;
                run.commit = run.commit.saturating_add(1);
            }
        }
        runs.retain_mut(|run| {
            let done = run.commit == run.end && !run.transfer.is_storing();
            if done {
                // What it still has to say is of no use.
                drop_fetch(desk, run.transfer.take_fetch());
                *settled = settled.saturating_add(run.transfer.stored.saturating_sub(plan.start(run.first)));
            }
            !done
        });
    }

    pub(super) fn stalled(&mut self, desk: &mut Desk<'_>) {
        let minutes = STORE_STALL.as_secs() / 60;
        self.fail(desk, Loss::Bytes(format!("the disk for downloads stood still for {minutes} minutes")));
    }

    /// Ends the download for what its own logic rules out.
    pub(super) fn fault(&mut self, desk: &mut Desk<'_>, what: &'static str) {
        self.fail(desk, Loss::Download(Fault::new(what).into()));
    }

    pub(super) fn fail(&mut self, desk: &mut Desk<'_>, failure: Loss) {
        if self.stage != Stage::Over {
            self.stop(desk.out);
            self.news.push_back(Outcome::Failed { failure });
        }
    }
}
