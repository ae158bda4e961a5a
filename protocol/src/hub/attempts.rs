//! Counting the starts of each firmware, and refusing one that was started too often.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::Context;
use crate::attempts::{Attempt, is_plain};
use crate::config::Config;
use crate::limits::MAX_ATTEMPTS_REMEMBERED;
use crate::output::Output;
use crate::outputs::Outputs;
use crate::text::count;
use crate::time::UnixTime;

/// The starts that did not end in their firmware, oldest first.
pub(crate) struct Attempts {
    list: Vec<Attempt>,
    /// A delta could not be applied, and no update succeeded since.
    no_deltas: bool,
}

/// Stands in the list that is saved while no deltas are wanted.
const NO_DELTAS: &str = "no-deltas";

impl Attempts {
    /// Takes up what was remembered before this start of the device.
    pub(crate) fn new(config: &Config, out: &mut Outputs) -> Self {
        let no_deltas = config.past_attempts.iter().any(|past| past.uuid == NO_DELTAS);
        let past = || config.past_attempts.iter().filter(|past| past.uuid != NO_DELTAS);
        let newest = past().count().saturating_sub(MAX_ATTEMPTS_REMEMBERED);
        let list = past().skip(newest).map(|past| Attempt { uuid: name(&past.uuid), ..past.clone() });
        let mut attempts = Self { list: list.collect(), no_deltas };
        // Running is not enough where it is known not to have proved good.
        if config.firmware_validated != Some(false) {
            attempts.succeeded(&config.firmware.uuid, out);
        }
        attempts
    }

    /// That firmware runs and is good.
    pub(crate) fn succeeded(&mut self, uuid: &str, out: &mut Outputs) {
        let tried = self.list.iter().any(|past| past.uuid == name(uuid));
        // Saved with the list, which loses that firmware.
        self.no_deltas &= !tried;
        self.change(out, |list| list.retain(|past| past.uuid != name(uuid)));
    }

    /// A delta could not be applied.
    pub(super) fn delta_failed(&mut self, out: &mut Outputs) {
        if !core::mem::replace(&mut self.no_deltas, true) {
            self.save(out);
        }
    }

    /// Returns whether deltas are wanted.
    pub(super) const fn takes_deltas(&self) -> bool {
        !self.no_deltas
    }

    fn save(&self, out: &mut Outputs) {
        let mut attempts = self.list.clone();
        if self.no_deltas {
            let marks = attempts.len().saturating_sub(MAX_ATTEMPTS_REMEMBERED - 1);
            attempts.drain(..marks);
            attempts.insert(0, Attempt { uuid: String::from(NO_DELTAS), starts: 1, last: None });
        }
        out.push(Output::SaveAttempts { attempts });
    }

    /// That firmware's applier is about to be opened.
    pub(super) fn started(&mut self, cx: &mut Context<'_>, uuid: &str) {
        let (uuid, last) = (name(uuid), cx.wall);
        self.change(cx.out, |list| {
            let past = list.iter().position(|past| past.uuid == uuid).map(|at| list.remove(at));
            let starts = past.map_or(0, |past| past.starts).saturating_add(1);
            if list.len() >= MAX_ATTEMPTS_REMEMBERED {
                list.remove(0);
            }
            list.push(Attempt { uuid, starts, last });
        });
    }

    /// The start just made was no fault of the firmware: its applier got nothing.
    pub(super) fn excuse(&mut self, cx: &mut Context<'_>, uuid: &str) {
        let uuid = name(uuid);
        self.change(cx.out, |list| {
            if let Some(past) = list.iter_mut().find(|past| past.uuid == uuid) {
                past.starts = past.starts.saturating_sub(1);
            }
            list.retain(|past| past.starts > 0);
        });
    }

    /// Returns why a firmware isn't started again, if so.
    pub(super) fn refusal(&mut self, cx: &mut Context<'_>, uuid: &str) -> Option<String> {
        let policy = cx.config.attempts;
        if let Some(wall) = cx.wall {
            let keep = i64::try_from(policy.forget_after.as_secs()).unwrap_or(i64::MAX);
            let fresh = |last: UnixTime| wall.0.saturating_sub(last.0) < keep;
            self.change(cx.out, |list| list.retain(|past| past.last.is_none_or(fresh)));
        }
        let past = self.list.iter().find(|past| past.uuid == name(uuid))?;
        (policy.limit > 0 && past.starts >= policy.limit).then(|| {
            format!(
                "this firmware was started {} on this device and never came up good; push it by hand to try again",
                count(past.starts.into(), "time")
            )
        })
    }

    /// Changes the list and has it saved, if it is another then.
    fn change(&mut self, out: &mut Outputs, change: impl FnOnce(&mut Vec<Attempt>)) {
        let before = self.list.clone();
        change(&mut self.list);
        if self.list != before {
            self.save(out);
        }
    }
}

/// Returns the name under which a firmware is remembered.
fn name(uuid: &str) -> String {
    if is_plain(uuid) && uuid != NO_DELTAS {
        return String::from(uuid);
    }
    let digest = Sha256::digest(uuid.as_bytes());
    digest.iter().take(16).fold(String::from("sha256-"), |name, byte| format!("{name}{byte:02x}"))
}
