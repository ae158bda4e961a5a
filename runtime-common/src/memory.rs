//! What a device remembers over restarts, beside its firmware: how often each update was tried, what it was made to do
//! lately, and the newest version that ran well.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use nerves_hub_link_platform::kv::KeyValueStore;
use nerves_hub_link_protocol::{Attempt, Config, History};

/// The key under which the attempts stand, one line of text.
const ATTEMPTS: &str = "nerves_hub_link_attempts";
/// The key under which the history stands, one line of text.
const HISTORY: &str = "nerves_hub_link_history";
/// The key under which the newest version that ran well stands.
const NEWEST: &str = "nerves_hub_link_newest_version";

/// What is to be remembered.
pub(crate) enum Memo {
    Attempts(Vec<Attempt>),
    History(History),
    Newest(String),
}

/// A place that survives a restart, if the application gave one.
pub(crate) struct Memory(Option<Box<dyn KeyValueStore>>);

impl Memory {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(store: impl KeyValueStore + 'static) -> Self {
        Self(Some(Box::new(store)))
    }

    /// Returns whether there is none.
    pub(crate) const fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Reads what was remembered before this start, on a thread of its own: a store may hang with its disk. One that has not
    /// answered within `limit` is not waited for and not used any more.
    pub(crate) fn read(self, limit: Duration) -> (Self, Past) {
        if self.is_none() {
            return (self, Past::nothing());
        }
        let (done, result) = channel();
        let job = move || {
            let past = self.past();
            // Nobody listens any more after the limit.
            let _ = done.send((self, past));
        };
        // It only reads, so that the end of the device need not wait for it.
        let why = match std::thread::Builder::new().name("nerves-hub-memory".to_owned()).spawn(job) {
            Ok(_) => match result.recv_timeout(limit) {
                Ok(read) => return read,
                Err(RecvTimeoutError::Timeout) => format!(
                    "its store has not answered after {} s; a disk may be hanging",
                    limit.as_secs_f64()
                ),
                Err(RecvTimeoutError::Disconnected) => "reading its store panicked".to_owned(),
            },
            Err(error) => format!("can't start a thread to read its store: {error}"),
        };
        (Self::none(), Past::lost(&why))
    }

    fn past(&self) -> Past {
        let Some(store) = &self.0 else { return Past::nothing() };
        // A store without an entry is that of a device to which nothing of the kind happened yet.
        let get = |key| store.get(key).map_err(|error| error.to_string());
        let text = |key| get(key).map(Option::unwrap_or_default);
        Past {
            attempts: text(ATTEMPTS).map(|text| Attempt::list_from_text(&text)),
            history: text(HISTORY).map(|text| History::from_text(&text)),
            newest: get(NEWEST),
        }
    }

    /// Keeps something; it is on the disk when this returns.
    pub(crate) fn keep(&mut self, memo: &Memo) -> Result<(), String> {
        let Some(store) = &mut self.0 else { return Ok(()) };
        let (key, text) = match memo {
            Memo::Attempts(attempts) => (ATTEMPTS, Attempt::list_to_text(attempts)),
            Memo::History(history) => (HISTORY, history.to_text()),
            Memo::Newest(version) => (NEWEST, version.clone()),
        };
        let change = (key, Some(text.as_str()).filter(|text| !text.is_empty()));
        store.update(&[change]).map_err(|error| memo.lost(&error.to_string()))
    }
}

/// What was remembered before this start, or why each part of it is not known.
pub(crate) struct Past {
    pub(crate) attempts: Result<Vec<Attempt>, String>,
    /// Where that can't be known, reboots are bounded by caution.
    pub(crate) history: Result<History, String>,
    /// The newest version that ran well.
    pub(crate) newest: Result<Option<String>, String>,
}

impl Past {
    fn nothing() -> Self {
        Self { attempts: Ok(Vec::new()), history: Ok(History::unknown()), newest: Ok(None) }
    }

    fn lost(why: &str) -> Self {
        Self { attempts: Err(why.to_owned()), history: Err(why.to_owned()), newest: Err(why.to_owned()) }
    }

    /// Puts it into the settings, and tells what is not known.
    pub(crate) fn recall(self, config: &mut Config, tell: &mut dyn FnMut(&str)) {
        match self.attempts {
            Ok(attempts) => config.past_attempts.extend(attempts),
            Err(why) => tell(&format!("how often updates were tried is not known and counts anew: {why}")),
        }
        match self.history {
            // An application may know it without a store.
            Ok(history) if config.history == History::default() => config.history = history,
            Ok(_) => {}
            Err(why) => {
                config.history = History::unknown();
                tell(&format!("how often the device was rebooted is not known: {why}"));
            }
        }
        match self.newest {
            Ok(newest) => config.newest_version = config.newest_version.take().or(newest),
            // Nothing else depends on it.
            Err(why) if config.refuse_older => {
                tell(&format!("which version was the newest that ran well is not known: {why}"));
            }
            Err(_) => {}
        }
    }
}

impl Memo {
    /// Says what follows where it can't be kept.
    pub(crate) fn lost(&self, reason: &str) -> String {
        let what = match self {
            Self::Attempts(_) => "how often updates were tried",
            Self::History(_) => "how often the device was rebooted",
            Self::Newest(_) => "which version was the newest that ran well",
        };
        format!("{what} is remembered only until the next restart: {reason}")
    }
}
