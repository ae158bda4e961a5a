//! `${NAME}` and `${NAME:-default}` (fw-format §3.1).

use crate::limits::EXPANDED_MAX;

/// What answers `${NAME}`: the caller's variables under those the text defines.
pub(super) struct Variables<'a> {
    outer: &'a dyn Fn(&str) -> Option<String>,
    defined: Vec<(String, String)>,
    /// Bytes put in for variables so far.
    expanded: usize,
}

/// Answers nothing.
pub(super) fn none(_: &str) -> Option<String> {
    None
}

impl<'a> Variables<'a> {
    pub(super) fn new(outer: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { outer, defined: Vec::new(), expanded: 0 }
    }

    /// Returns a variable's value; `None` when it is not set.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        match self.defined.iter().find(|(defined, _)| defined == name) {
            Some((_, value)) => Some(value.clone()),
            None => (self.outer)(name),
        }
    }

    /// Returns what the text defined.
    pub(super) fn into_defined(self) -> Vec<(String, String)> {
        self.defined
    }

    /// Sets a variable.
    pub(super) fn set(&mut self, name: &str, value: String) {
        match self.defined.iter_mut().find(|(defined, _)| defined == name) {
            Some((_, old)) => *old = value,
            None => self.defined.push((name.to_owned(), value)),
        }
    }

    /// Returns what stands for `${BODY}`. The value is not expanded again. An error when all that was put in
    /// becomes too long: definitions that double themselves must not fill the memory.
    pub(super) fn expand(&mut self, body: &str) -> Result<String, String> {
        let (name, default) = match body.split_once(':') {
            Some((name, rest)) => (name, rest.strip_prefix('-')),
            None => (body, None),
        };
        let value = self.get(name).unwrap_or_else(|| default.unwrap_or_default().to_owned());
        self.expanded = self.expanded.saturating_add(value.len());
        if self.expanded > EXPANDED_MAX {
            return Err(format!("variables expand to more than {EXPANDED_MAX} bytes"));
        }
        Ok(value)
    }
}
