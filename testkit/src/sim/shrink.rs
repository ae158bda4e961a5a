//! Makes a scenario that fails smaller, as long as it fails in the same way.

use std::mem::discriminant;

use super::fault::Faults;
use super::scenario::{MINUTE, Scenario, Step, What};
use super::violation::Violation;
use super::world::World;

/// A smaller scenario that fails, and how.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The scenario.
    pub scenario: Scenario,
    /// What it breaks.
    pub violation: Violation,
    /// Runs it took.
    pub runs: u32,
}

/// Makes a scenario smaller: fewer devices, then fewer classes of faults, then fewer steps, then an earlier end.
/// Returns the smallest found in so many runs that breaks the same promise; the scenario itself if none does.
pub fn shrink(scenario: &Scenario, violation: &Violation, runs: u32) -> Shrunk {
    let scenario = scenario.clone();
    let best = Shrunk { scenario, violation: violation.clone(), runs: 0 };
    let mut search = Search { best, most: runs };
    search.cut_off();
    search.devices();
    search.classes();
    // What could not be left out may be, once something behind it is.
    loop {
        let before = search.best.scenario.steps.as_ref().map(Vec::len);
        search.steps();
        if search.best.scenario.steps.as_ref().map(Vec::len) == before {
            break;
        }
    }
    search.classes();
    search.earlier();
    search.best
}

struct Search {
    best: Shrunk,
    most: u32,
}

impl Search {
    /// Runs a smaller scenario, and takes it if it fails in the same way.
    fn attempt(&mut self, smaller: Scenario) -> bool {
        if self.best.runs >= self.most || smaller == self.best.scenario {
            return false;
        }
        self.best.runs += 1;
        match World::new(smaller.clone()).run() {
            Err(violation)
                if discriminant(&violation.broken) == discriminant(&self.best.violation.broken) =>
            {
                self.best.scenario = smaller;
                self.best.violation = violation;
                true
            }
            _ => false,
        }
    }

    fn with(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut smaller = self.best.scenario.clone();
        change(&mut smaller);
        self.attempt(smaller)
    }

    /// Writes down what the seed would do, up to the failure, so that single things can be left out.
    fn cut_off(&mut self) {
        let (scenario, until) = (&self.best.scenario, self.best.violation.at);
        if scenario.steps.is_some() {
            return;
        }
        let mut steps = Vec::new();
        for device in 0..scenario.devices {
            let strikes = scenario.strikes(device).take_while(|(at, ..)| *at <= until);
            steps.extend(strikes.map(|(at, what, how)| Step { at, device, what, how }));
        }
        let strikes = scenario.global_strikes().take_while(|(at, ..)| *at <= until);
        steps.extend(strikes.map(|(at, what, how)| Step { at, device: 0, what, how }));
        let releases = scenario.calendar().into_iter();
        steps.extend(releases.map(|(at, what)| Step { at, device: 0, what, how: 0 }));
        steps.sort_by_key(|step| step.at);
        self.with(|smaller| {
            smaller.steps = Some(steps);
            smaller.releases = 0;
        });
    }

    /// First only the device that failed; then all others, one by one.
    fn devices(&mut self) {
        let failed = self.best.violation.device;
        let all: Vec<u32> = (0..self.best.scenario.devices).filter(|number| *number != failed).collect();
        if all.is_empty() || self.with(|smaller| smaller.absent.clone_from(&all)) {
            return;
        }
        for number in all {
            if !self.best.scenario.absent.contains(&number) {
                self.with(|smaller| smaller.absent.push(number));
            }
        }
    }

    fn classes(&mut self) {
        for fault in self.best.scenario.faults.iter().collect::<Vec<_>>() {
            self.with(|smaller| {
                smaller.faults = smaller.faults.without(fault);
                if let Some(steps) = &mut smaller.steps {
                    steps.retain(|step| step.what != What::Fault(fault));
                }
            });
        }
        if let Some(steps) = &self.best.scenario.steps {
            // Classes that no step names say nothing.
            let named: Faults = steps
                .iter()
                .filter_map(|step| match step.what {
                    What::Fault(fault) => Some(fault),
                    _ => None,
                })
                .collect();
            self.with(|smaller| smaller.faults = named);
        }
    }

    /// Leaves out steps: halves, quarters, and so on to single ones.
    fn steps(&mut self) {
        let Some(steps) = &self.best.scenario.steps else { return };
        let mut size = steps.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            loop {
                let count = self.best.scenario.steps.as_ref().map_or(0, Vec::len);
                if at >= count {
                    break;
                }
                let end = (at + size).min(count);
                let gone = self.with(|smaller| {
                    if let Some(steps) = &mut smaller.steps {
                        steps.drain(at..end);
                    }
                });
                if !gone {
                    at = end;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    /// Heals right after the last step.
    fn earlier(&mut self) {
        let last = self.best.scenario.steps.iter().flatten().map(|step| step.at).max().unwrap_or(0);
        self.with(|smaller| smaller.span = smaller.span.min(last + MINUTE));
    }
}
