//! What time does to a download.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::{Download, Failure, Stage, Verdict};
use crate::config::DownloadConfig;
use crate::limits::{APPLY_STALL, STORE_STALL, UNDRAINED_PAUSE};
use crate::outputs::Ids;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

impl Download {
    /// Lets time pass. `room` is false when no more requests may be made for now.
    pub(crate) fn tick(
        &mut self,
        now: Instant,
        config: &DownloadConfig,
        ids: &mut Ids,
        room: bool,
    ) -> Verdict {
        if now >= self.began + config.max_duration {
            let limit = config.max_duration.as_secs();
            return self.fail(format!("not complete after {limit} seconds, the longest a download may take"));
        }
        let (storing, staged) = (self.is_storing(), self.is_staged());
        if storing && now >= self.moved + self.stall() {
            return Verdict::Fail { failure: Failure::Stalled, abort: self.fetch.take() };
        }
        match &mut self.stage {
            // A store takes bytes in order: it must have those of the last request before those of the next.
            Stage::Waiting { .. } if storing && staged => {}
            Stage::Waiting { until } if now >= *until => {
                if room {
                    // Signed redirect targets expire: begin where the server said.
                    self.current = self.original.clone();
                    self.redirects = 0;
                    return Verdict::Request { fetch: self.request(now, config, ids), abort: None };
                }
                *until = now + UNDRAINED_PAUSE;
            }
            Stage::Requested { since } if now >= *since + head_timeout(config) => {
                return self.interrupted(now, config, String::from("the server did not answer"), None);
            }
            Stage::Receiving { since, budget, .. } if !storing => {
                let waited = now.saturating_since(*since);
                if budget.is_some_and(|budget| waited >= budget) {
                    let slowest = config.min_bits_per_second;
                    return self.fail(format!("slower than {slowest} bits per second"));
                }
                if waited >= config.idle_timeout {
                    let idle = config.idle_timeout.as_secs();
                    return self.interrupted(now, config, format!("no byte for {idle} seconds"), None);
                }
            }
            _ => {}
        }
        Verdict::Continue
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, config: &DownloadConfig, deadline: &mut Earliest) {
        deadline.after(Timer::DownloadDuration, self.began, config.max_duration);
        let storing = self.is_storing();
        if storing {
            let why = if self.is_staged() { Timer::Store } else { Timer::Apply };
            deadline.after(why, self.moved, self.stall());
        }
        match self.stage {
            Stage::Waiting { .. } if storing && self.is_staged() => {}
            Stage::Waiting { until } => deadline.at(Timer::DownloadRetry, until),
            Stage::Requested { since } => deadline.after(Timer::DownloadIdle, since, head_timeout(config)),
            Stage::Receiving { since, budget, .. } if !storing => {
                deadline.after(Timer::DownloadIdle, since, config.idle_timeout);
                if let Some(budget) = budget {
                    deadline.after(Timer::DownloadSpeed, since, budget);
                }
            }
            Stage::Receiving { .. } | Stage::Received { .. } => {}
        }
    }

    /// How long whoever takes the bytes may stand still.
    const fn stall(&self) -> Duration {
        if self.is_staged() { STORE_STALL } else { APPLY_STALL }
    }
}

fn head_timeout(config: &DownloadConfig) -> Duration {
    config.connect_timeout.saturating_add(config.idle_timeout)
}
