//! Prints `meta.conf` the way fwup does (fw-format §3.4).

use std::fmt::Write as _;

/// A function call or requirement: its name, then its arguments.
pub type Call = Vec<String>;

/// A call from its words.
pub fn call(words: &[&str]) -> Call {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A task section.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// Its name, for example `upgrade.a`.
    pub name: String,
    /// What must hold for it to be chosen.
    pub requirements: Vec<Call>,
    /// Done before any resource.
    pub on_init: Vec<Call>,
    /// Done after the last resource.
    pub on_finish: Vec<Call>,
    /// Done when something failed.
    pub on_error: Vec<Call>,
    /// Done with each named resource.
    pub on_resource: Vec<(String, Vec<Call>)>,
    /// First block and number of blocks of where deltas of its resources find what they change.
    pub delta_source: Option<(u64, u64)>,
}

impl Task {
    /// An empty task.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

/// The text while it grows. Every statement ends with a line feed; nothing is indented.
#[derive(Debug, Default)]
pub(super) struct Printer {
    text: String,
}

impl Printer {
    /// `name=value`, left out when the value is empty.
    pub fn string(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.line(&format!("{name}={}", quoted(value)));
        }
    }

    /// `name=value` for numbers and booleans.
    pub fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        self.line(&format!("{name}={value}"));
    }

    /// Opens `name "title" {`.
    pub fn open(&mut self, name: &str, title: &str) {
        self.line(&format!("{name} \"{title}\" {{"));
    }

    /// Closes a section.
    pub fn close(&mut self) {
        self.line("}");
    }

    /// A task with its lists.
    pub fn task(&mut self, task: &Task) {
        self.open("task", &task.name);
        self.list("reqlist", &task.requirements);
        for (name, calls) in
            [("on-init", &task.on_init), ("on-finish", &task.on_finish), ("on-error", &task.on_error)]
        {
            if !calls.is_empty() {
                self.line(&format!("{name} {{"));
                self.list("funlist", calls);
                self.close();
            }
        }
        for (resource, calls) in &task.on_resource {
            self.open("on-resource", resource);
            if let Some((offset, count)) = task.delta_source {
                self.plain("delta-source-raw-offset", offset);
                self.plain("delta-source-raw-count", count);
            }
            self.list("funlist", calls);
            self.close();
        }
        self.close();
    }

    /// The whole text.
    pub fn finish(self) -> String {
        if self.text.is_empty() { "# Empty file\n".to_owned() } else { self.text }
    }

    /// A flat list: before each call the count of its words (fw-format §3.5). No call has no words.
    fn list(&mut self, name: &str, calls: &[Call]) {
        let mut words = Vec::new();
        for call in calls {
            words.push(call.len().to_string());
            words.extend(call.iter().map(|word| quoted(word)));
        }
        if !words.is_empty() {
            self.line(&format!("{name}={{{}}}", words.join(",")));
        }
    }

    fn line(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{text}");
    }
}

/// Bare when it is made only of ASCII letters, digits, `_` and `.`; else between quotes.
fn quoted(value: &str) -> String {
    let bare = !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
    if bare { value.to_owned() } else { format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")) }
}
