//! Counting the starts of each firmware, and refusing one that was started too often.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest as _, Sha256};

use super::Context;
use crate::attempts::{Attempt, is_plain};
use crate::config::Config;
use crate::limits::{MAX_ATTEMPTS_REMEMBERED, MAX_DELTA_FAILURES};
use crate::output::Output;
use crate::outputs::Outputs;
use crate::text::count;
use crate::time::UnixTime;

/// The starts that did not end in their firmware, oldest first.
pub(crate) struct Attempts {
    list: Vec<Attempt>,
    /// Deltas that could not be applied since an update succeeded. While there are any, the device wants no more.
    delta_failures: u32,
}

/// The name under which failed deltas are counted in the list that is saved.
const NO_DELTAS: &str = "no-deltas";

impl Attempts {
    /// Takes up what was remembered before this start of the device.
    ///
    /// Also returns whether a firmware that was tried runs now and is good.
    pub(crate) fn new(config: &Config, out: &mut Outputs) -> (Self, bool) {
        let mark = config.past_attempts.iter().find(|past| past.uuid == NO_DELTAS);
        let delta_failures = mark.map_or(0, |mark| mark.starts);
        let past = || config.past_attempts.iter().filter(|past| past.uuid != NO_DELTAS);
        let newest = past().count().saturating_sub(MAX_ATTEMPTS_REMEMBERED);
        let list = past().skip(newest).map(|past| Attempt { uuid: name(&past.uuid), ..past.clone() });
        let mut attempts = Self { list: list.collect(), delta_failures };
        // Running is not enough where it is known not to have proved good.
        let proved =
            config.firmware_validated != Some(false) && attempts.succeeded(&config.firmware.uuid, out);
        (attempts, proved)
    }

    /// That firmware runs and is good. Returns whether it was tried.
    pub(crate) fn succeeded(&mut self, uuid: &str, out: &mut Outputs) -> bool {
        let tried = self.list.iter().any(|past| past.uuid == name(uuid));
        // Saved with the list, which loses that firmware.
        if tried {
            self.delta_failures = 0;
        }
        self.change(out, |list| list.retain(|past| past.uuid != name(uuid)));
        tried
    }

    /// A delta to that firmware could not be applied. A full image of it may still work, so the start does not count
    /// against the firmware, unless the server keeps sending deltas.
    /// Returns whether it doesn't count.
    pub(super) fn delta_failed(&mut self, cx: &mut Context<'_>, uuid: &str) -> bool {
        self.delta_failures = self.delta_failures.saturating_add(1);
        if self.delta_failures <= MAX_DELTA_FAILURES {
            let uuid = name(uuid);
            take_back(&mut self.list, &uuid);
        }
        self.save(cx.out);
        self.delta_failures <= MAX_DELTA_FAILURES
    }

    /// Returns whether deltas are wanted.
    pub(super) const fn takes_deltas(&self) -> bool {
        self.delta_failures == 0
    }

    fn save(&self, out: &mut Outputs) {
        let mut attempts = self.list.clone();
        if self.delta_failures > 0 {
            let marks = attempts.len().saturating_sub(MAX_ATTEMPTS_REMEMBERED - 1);
            attempts.drain(..marks);
            attempts.insert(
                0,
                Attempt { uuid: String::from(NO_DELTAS), starts: self.delta_failures, last: None },
            );
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
                // The oldest of those tried least often: new names must not make the device forget a bad image.
                let least = list.iter().map(|past| past.starts).min();
                if let Some(at) = list.iter().position(|past| Some(past.starts) == least) {
                    list.remove(at);
                }
            }
            list.push(Attempt { uuid, starts, last });
        });
    }

    /// The start just made turns out to be that of another firmware, as the signed metadata say.
    pub(super) fn renamed(&mut self, cx: &mut Context<'_>, offered: &str, signed: &str) {
        if name(offered) != name(signed) && !signed.is_empty() {
            self.excuse(cx, offered);
            self.started(cx, signed);
        }
    }

    /// The start just made was no fault of the firmware: its applier got nothing.
    pub(super) fn excuse(&mut self, cx: &mut Context<'_>, uuid: &str) {
        let uuid = name(uuid);
        self.change(cx.out, |list| take_back(list, &uuid));
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

/// Removes one start of a firmware.
fn take_back(list: &mut Vec<Attempt>, uuid: &str) {
    if let Some(past) = list.iter_mut().find(|past| past.uuid == uuid) {
        past.starts = past.starts.saturating_sub(1);
    }
    list.retain(|past| past.starts > 0);
}

/// Returns the name under which a firmware is remembered.
fn name(uuid: &str) -> String {
    if is_plain(uuid) && uuid != NO_DELTAS {
        return String::from(uuid);
    }
    let digest = Sha256::digest(uuid.as_bytes());
    digest.iter().take(16).fold(String::from("sha256-"), |name, byte| format!("{name}{byte:02x}"))
}
