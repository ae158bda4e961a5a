//! Cuts power at every write and every sync of an application.

use std::fmt;
use std::io;

use fwup_stream::ApplyOptions;
use fwup_stream::disk::Target;

use super::super::image::Image;
use super::super::loss::{Losses, Pending};
use super::super::random::Random;
use super::case::{Case, State};
use super::record::{Op, Recorder};
use super::report::{Effort, Report};
use super::way::{WAYS, Way};

/// Puts something between the applier and the disk; see [`power_cuts_through`].
pub type Wrap<'a> = &'a dyn Fn(Recorder) -> Box<dyn Target + Send>;

/// Applies a case and cuts power at every write and every sync, each time with many losses. Each disk that comes
/// of it must boot the old or the new firmware, whole; then the upgrade is applied again from the start and must
/// end in the new one, also when power is cut in the middle of that.
pub fn power_cuts(case: &Case, way: Way, effort: &Effort) -> Report {
    power_cuts_through(case, way, effort, &|disk| Box::new(disk))
}

/// The same with a destination of one's own in front of the disk, such as one that breaks the rules: what is
/// tried is what comes through.
pub fn power_cuts_through(case: &Case, way: Way, effort: &Effort, wrap: Wrap<'_>) -> Report {
    let mut run = Run::new(case, way, effort, wrap);
    run.walk();
    if effort.faults && case.is_sound {
        run.faults();
    }
    run.report
}

/// When power was cut. Counted from 1.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Before,
    Write(u64),
    Sync(u64),
    After,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before => f.write_str("power cut before anything"),
            Self::Write(number) => write!(f, "power cut during write {number}"),
            Self::Sync(number) => write!(f, "power cut during sync {number}"),
            Self::After => f.write_str("power cut afterwards"),
        }
    }
}

pub(super) struct Run<'a> {
    pub case: &'a Case,
    pub way: Way,
    wrap: Wrap<'a>,
    pub report: Report,
    effort: &'a Effort,
    pub random: Random,
}

/// What came of applying the archive once.
pub(super) struct Applied {
    pub outcome: Result<String, String>,
    pub image: Image,
    pub ops: Vec<Op>,
    pub reads: u64,
}

impl<'a> Run<'a> {
    fn new(case: &'a Case, way: Way, effort: &'a Effort, wrap: Wrap<'a>) -> Self {
        let report = Report::new(&case.name, way.name);
        Self { case, way, wrap, report, effort, random: Random::new(effort.seed) }
    }

    fn walk(&mut self) {
        let mut start = self.case.before.clone();
        let state = (self.case.judge)(&mut start);
        if matches!(state, State::New | State::Bricked(_)) {
            return self.report.fail(&format!("before the upgrade the disk is {state:?}"));
        }
        let applied = self.apply(&self.case.before);
        match &applied.outcome {
            Err(error) if self.case.is_sound => {
                return self.report.fail(&format!("the upgrade does not go through: {error}"));
            }
            Ok(task) if !self.case.is_sound => {
                return self.report.fail(&format!("a bad archive is applied: {task}"));
            }
            _ => {}
        }
        let (mut disk, mut pending) = (self.case.before.clone(), Vec::new());
        self.cut(&disk, &pending, Moment::Before);
        for op in applied.ops {
            match op {
                Op::Change(change) => {
                    let is_write = matches!(change, Pending::Write { .. });
                    pending.push(change);
                    self.report.writes += u64::from(is_write);
                    if is_write {
                        self.cut(&disk, &pending, Moment::Write(self.report.writes));
                    }
                }
                Op::Sync => {
                    self.report.syncs += 1;
                    self.cut(&disk, &pending, Moment::Sync(self.report.syncs));
                    settle(&mut disk, &mut pending);
                }
            }
        }
        self.cut(&disk, &pending, Moment::After);
    }

    /// Cuts power now: `disk` is what is synced, `pending` what is not.
    fn cut(&mut self, disk: &Image, pending: &[Pending], moment: Moment) {
        self.report.cuts += 1;
        // Reading and writing memory does not fail.
        let Ok(losses) = Losses::new(disk, pending, self.way.sector) else { return };
        let all = losses.count(self.effort.all_up_to);
        for number in 0..all.unwrap_or(self.effort.samples) {
            let choice = match (all, number) {
                (Some(_), _) => losses.numbered(number),
                (None, 0 | 1) => losses.all_or_none(number == 1),
                (None, _) => losses.sampled(&mut self.random),
            };
            let mut disk = disk.clone();
            let _ = losses.keep(&choice, &mut disk);
            self.power_on(disk, moment, number);
        }
    }

    /// Power is back.
    fn power_on(&mut self, mut disk: Image, moment: Moment, number: usize) {
        self.report.disks += 1;
        let state = (self.case.judge)(&mut disk);
        let what = format!("{moment}, loss {number}");
        if !self.count(&state, &what) {
            return;
        }
        if !self.case.is_sound {
            if state != State::Old {
                self.report.fail(&format!("{what}: of a bad archive the disk is {state:?}"));
            }
            return;
        }
        match (moment, &state) {
            (Moment::After, State::Old | State::Damaged(_)) => {
                self.report.fail(&format!("{what}: the upgrade was called done, and the disk is {state:?}"));
            }
            (_, State::Old | State::Damaged(_))
                if self.report.disks.is_multiple_of(self.effort.repeat_every) =>
            {
                self.again(&disk, &state, &what);
            }
            _ => {}
        }
    }

    /// Counts a state; says whether it may be.
    pub fn count(&mut self, state: &State, what: &str) -> bool {
        match state {
            State::Old => self.report.old += 1,
            State::New => self.report.new += 1,
            State::Damaged(_) if self.case.may_be_damaged => self.report.damaged += 1,
            State::Damaged(reason) | State::Bricked(reason) => {
                self.report.fail(&format!("{what}: {reason}"));
                return false;
            }
        }
        true
    }

    /// Applies the upgrade once more, from the start, and cuts power in the middle of that, too.
    pub fn again(&mut self, disk: &Image, state: &State, what: &str) {
        let Applied { outcome, image: mut end, ops, .. } = self.apply(disk);
        if let (State::Damaged(_), Err(_)) = (state, &outcome) {
            // Nobody knows which slot runs: then nothing may be written.
            if ops.iter().any(|op| matches!(op, Op::Change(_))) {
                self.report.fail(&format!("{what}: refused for a damaged environment, and wrote"));
            }
            return;
        }
        if let Err(error) = outcome {
            return self.report.fail(&format!("{what}: applied again, it fails: {error}"));
        }
        match (self.case.judge)(&mut end) {
            State::New => self.report.resumed += 1,
            state => return self.report.fail(&format!("{what}: applied again, the disk is {state:?}")),
        }
        let cut = self.random.below(ops.len() + 1);
        let (mut disk, mut pending) = (disk.clone(), Vec::new());
        for op in ops.into_iter().take(cut) {
            match op {
                Op::Change(change) => pending.push(change),
                Op::Sync => settle(&mut disk, &mut pending),
            }
        }
        let Ok(losses) = Losses::new(&disk, &pending, self.way.sector) else { return };
        let _ = losses.keep(&losses.sampled(&mut self.random), &mut disk);
        let what = format!("{what}, applied again and cut after step {cut}");
        match (self.case.judge)(&mut disk) {
            State::New => self.report.cut_again += 1,
            State::Damaged(_) if self.case.may_be_damaged => self.report.cut_again += 1,
            State::Old => self.once_more(&disk, &what),
            state => self.report.fail(&format!("{what}: the disk is {state:?}")),
        }
    }

    fn once_more(&mut self, disk: &Image, what: &str) {
        let Applied { outcome, image: mut end, .. } = self.apply(disk);
        let state = (self.case.judge)(&mut end);
        match (outcome, state) {
            (Ok(_), State::New) => self.report.cut_again += 1,
            (outcome, state) => self.report.fail(&format!("{what}: {outcome:?}, and the disk is {state:?}")),
        }
    }

    fn apply(&mut self, disk: &Image) -> Applied {
        self.apply_through(disk, |disk| disk)
    }

    /// Applies the archive, with something more in front of the disk.
    pub fn apply_through<T: Target + Send + 'static>(
        &mut self,
        disk: &Image,
        front: impl FnOnce(Box<dyn Target + Send>) -> T,
    ) -> Applied {
        let recorder = Recorder::new(disk.clone(), self.case.length, self.way.sector);
        let target = front((self.wrap)(recorder.clone()));
        let outcome = self.way.apply(&self.case.archive, &self.case.options, target);
        let (image, ops, reads) = recorder.take();
        let protected = |offset: u64, end: u64| {
            self.case.protected.iter().any(|range| offset < range.end && range.start < end)
        };
        let touched = ops.iter().find_map(|op| match op {
            Op::Change(change) => Some(change.range()).filter(|(from, to)| protected(*from, *to)),
            Op::Sync => None,
        });
        if let Some((from, to)) = touched {
            self.report.fail(&format!("bytes {from} to {to} were written, where the running firmware is"));
        }
        Applied { outcome, image, ops, reads }
    }
}

/// The disk after an archive was applied whole and without trouble.
pub(super) fn applied(
    disk: &Image,
    length: u64,
    archive: &[u8],
    options: &ApplyOptions,
) -> io::Result<Image> {
    let [way, ..] = WAYS;
    let recorder = Recorder::new(disk.clone(), length, way.sector);
    way.apply(archive, options, recorder.clone()).map_err(io::Error::other)?;
    Ok(recorder.take().0)
}

/// Everything pending is safe.
pub(super) fn settle(disk: &mut Image, pending: &mut Vec<Pending>) {
    for change in pending.drain(..) {
        // Writing memory does not fail.
        let _ = change.apply(disk);
    }
}
