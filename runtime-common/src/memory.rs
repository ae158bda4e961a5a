//! What a device remembers over restarts, beside its firmware: how often each update was tried.

use nerves_hub_link_platform::kv::KeyValueStore;
use nerves_hub_link_protocol::Attempt;

/// The key under which the attempts stand, one line of text.
const ATTEMPTS: &str = "nerves_hub_link_attempts";

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

    /// Keeps the attempts; they are on the disk when this returns.
    pub(crate) fn keep(&mut self, attempts: &[Attempt]) -> Result<(), String> {
        let Some(store) = &mut self.0 else { return Ok(()) };
        let text = Attempt::list_to_text(attempts);
        let change = (ATTEMPTS, Some(text.as_str()).filter(|text| !text.is_empty()));
        store.update(&[change]).map_err(|error| {
            format!("how often updates were tried is remembered only until the next restart: {error}")
        })
    }
}
