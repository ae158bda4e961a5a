//! What a device remembers over restarts, beside its firmware: how often each update was tried, what it was made to do
//! lately, and the newest version that ran well.

use nerves_hub_link_platform::kv::KeyValueStore;
use nerves_hub_link_protocol::{Attempt, History};

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

    /// Returns the attempts before this start. Without any, or when they can't be read, the count begins anew.
    pub(crate) fn attempts(&self) -> Result<Vec<Attempt>, String> {
        let Some(store) = &self.0 else { return Ok(Vec::new()) };
        match store.get(ATTEMPTS) {
            // A store without the entry is that of a device that never updated.
            Ok(text) => Ok(Attempt::list_from_text(&text.unwrap_or_default())),
            Err(error) => Err(format!("how often updates were tried is not known and counts anew: {error}")),
        }
    }

    /// Returns what the device was made to do before this start. Where that can't be known, it is bounded by caution.
    pub(crate) fn history(&self) -> Result<History, String> {
        let Some(store) = &self.0 else { return Ok(History::unknown()) };
        match store.get(HISTORY) {
            Ok(text) => Ok(History::from_text(&text.unwrap_or_default())), // Nothing happened yet.
            Err(error) => Err(format!("how often the device was rebooted is not known: {error}")),
        }
    }

    /// Returns the newest version that ran well before this start, if one is known.
    pub(crate) fn newest(&self) -> Result<Option<String>, String> {
        let Some(store) = &self.0 else { return Ok(None) };
        store
            .get(NEWEST)
            .map_err(|error| format!("which version was the newest that ran well is not known: {error}"))
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
