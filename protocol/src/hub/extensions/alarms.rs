//! The alarms of the device: the link's own and the application's.

use alloc::string::String;
use alloc::vec::Vec;

use crate::alarm::RaisedAlarm;
use crate::command::CommandError;
use crate::limits::{MAX_ALARM_NAME_BYTES, MAX_ALARMS, MAX_HEALTH_TEXT_CHARS};
use crate::text::cut;
use crate::time::Instant;

/// An alarm that is raised.
#[derive(Clone, Copy)]
pub(super) struct Raised<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) since: Instant,
}

/// The application's alarms.
#[derive(Default)]
pub(super) struct OwnAlarms {
    raised: Vec<Own>,
}

struct Own {
    name: String,
    description: String,
    since: Instant,
}

impl OwnAlarms {
    /// Raises an alarm, or describes it anew.
    pub(super) fn raise(&mut self, now: Instant, name: &str, description: &str) -> Result<(), CommandError> {
        let name = bare(name);
        if name.trim().is_empty() || name.len() > MAX_ALARM_NAME_BYTES {
            return Err(CommandError::Unusable("the name of an alarm has 1 to 255 bytes"));
        }
        if name.starts_with("NervesHubLink.") {
            return Err(CommandError::Unusable("alarms that begin with NervesHubLink. are the link's own"));
        }
        let description = cut(description, MAX_HEALTH_TEXT_CHARS);
        if let Some(known) = self.raised.iter_mut().find(|own| own.name == name) {
            known.description = description;
        } else if self.raised.len() < MAX_ALARMS {
            self.raised.push(Own { name: String::from(name), description, since: now });
        } else {
            return Err(CommandError::Unusable("64 alarms are raised already"));
        }
        Ok(())
    }

    /// Clears an alarm, if it is raised.
    pub(super) fn clear(&mut self, name: &str) {
        let name = bare(name);
        self.raised.retain(|own| own.name != name);
    }

    /// Returns all alarms, the link's own among them.
    pub(super) fn all<'a>(&'a self, link: &'a [RaisedAlarm]) -> Vec<Raised<'a>> {
        let link = link.iter().map(|raised| Raised {
            name: raised.alarm.name(),
            description: &raised.description,
            since: raised.since,
        });
        let own = self.raised.iter().map(|own| Raised {
            name: &own.name,
            description: &own.description,
            since: own.since,
        });
        link.chain(own).collect()
    }
}

/// Returns the name as servers keep it.
fn bare(name: &str) -> &str {
    name.strip_prefix("Elixir.").unwrap_or(name)
}
