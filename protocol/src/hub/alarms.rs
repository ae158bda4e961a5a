//! The alarms that are raised now.

use alloc::string::String;
use alloc::vec::Vec;

use crate::alarm::{Alarm, RaisedAlarm};
use crate::event::Event;
use crate::outputs::Outputs;
use crate::time::Instant;

/// Follows conditions and tells when they begin and end, each once.
#[derive(Default)]
pub(crate) struct Alarms {
    raised: Vec<RaisedAlarm>,
}

impl Alarms {
    /// Returns what is raised, oldest first.
    pub(crate) fn raised(&self) -> &[RaisedAlarm] {
        &self.raised
    }

    /// Takes a condition as it is now: its description, or `None` while all is well.
    pub(crate) fn follow(&mut self, out: &mut Outputs, now: Instant, alarm: Alarm, is: Option<&str>) {
        let at = self.raised.iter().position(|raised| raised.alarm == alarm);
        match (is, at.and_then(|at| self.raised.get_mut(at)), at) {
            (Some(text), Some(raised), _) => {
                if raised.description != text {
                    raised.description = String::from(text);
                }
            }
            (Some(text), None, _) => {
                let description = String::from(text);
                self.raised.push(RaisedAlarm { alarm, description: description.clone(), since: now });
                out.event(Event::AlarmRaised { alarm, description });
            }
            (None, _, Some(at)) => {
                self.raised.remove(at);
                // Most devices have no alarm most of the time.
                self.raised.shrink_to_fit();
                out.event(Event::AlarmCleared { alarm });
            }
            (None, _, None) => {}
        }
    }
}
