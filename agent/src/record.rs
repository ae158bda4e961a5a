//! What `run` says: one record per happening, for people or for programs.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nerves_hub_link_protocol::{Event, LogLevel};
use serde::{Deserialize, Serialize};

use crate::cli::Format;
use crate::extensions::{self, Outlet};
use crate::limits::LINE_CHARS_MAX;
use crate::output::Lines;
use crate::words::{Line, Words};

/// One happening.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since the program started.
    pub t: f64,
    /// A stable word for programs, such as `joined` or `progress`.
    pub kind: String,
    /// What happened, for a person.
    pub text: String,
    /// How far, 0 to 100, for `progress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// A figure that belongs to the kind: bytes for `download` and `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

/// Prints records. Never waits for whoever reads them.
pub struct Recorder {
    print: Printer,
    /// Where lines go beside the screen.
    outlet: Option<Outlet>,
    lines: Lines,
    words: Mutex<Words>,
}

/// Makes lines of records.
#[derive(Clone, Copy)]
struct Printer {
    format: Format,
    start: Instant,
}

impl Recorder {
    /// Starts the clock of the records.
    pub fn new(format: Format, outlet: Option<Outlet>) -> Self {
        let print = Printer { format, start: Instant::now() };
        let lost = move |count| {
            print.line(
                "lines-lost",
                format!("{count} lines were lost here: nobody read them"),
                None,
                Some(count),
            )
        };
        Self { print, outlet, lines: Lines::stdout(lost), words: Mutex::default() }
    }

    /// Waits until everything is printed, for so long at most.
    pub fn flush(&self, limit: Duration) {
        self.lines.flush(limit);
    }

    /// Returns where the lines go.
    #[cfg(feature = "demo")]
    pub const fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Prints an event of the machine, if there is something to say about it.
    pub fn event(&self, event: &Event) {
        let line = self.words.lock().unwrap_or_else(PoisonError::into_inner).describe(event);
        let Some(Line { kind, level, text, percent, number }) = line else { return };
        // Lines about extensions would cause more events of extensions.
        if let (Some(outlet), false) = (&self.outlet, matches!(event, Event::Extension(_))) {
            extensions::log(outlet, level, kind, &text);
        }
        self.print(kind, text, percent, number);
    }

    /// Prints a happening of the program's own.
    pub fn note(&self, kind: &str, text: impl Into<String>) {
        let text = text.into();
        // Notices report refused commands, some of which are log lines.
        if let (Some(outlet), false) = (&self.outlet, kind == "notice") {
            let failed = ["not-validated", "archive-unknown", "no-environment"].contains(&kind);
            let level = if failed { LogLevel::Warning } else { LogLevel::Info };
            extensions::log(outlet, level, kind, &text);
        }
        self.print(kind, text, None, None);
    }

    /// Prints a happening with a figure.
    pub fn figure(&self, kind: &str, text: impl Into<String>, number: u64) {
        self.print(kind, text.into(), None, Some(number));
    }

    fn print(&self, kind: &str, text: String, percent: Option<u8>, number: Option<u64>) {
        self.lines.line(self.print.line(kind, text, percent, number));
    }
}

impl Printer {
    fn line(self, kind: &str, mut text: String, percent: Option<u8>, number: Option<u64>) -> String {
        if let Some((end, _)) = text.char_indices().nth(LINE_CHARS_MAX) {
            text.truncate(end);
            text.push('…');
        }
        let t = (self.start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let record = Record { t, kind: kind.to_owned(), text, percent, number };
        match self.format {
            Format::Json => serde_json::to_string(&record).unwrap_or_else(|error| {
                // A struct of texts and numbers always can be.
                debug_assert!(false, "{error}");
                format!("{{\"t\":{t},\"kind\":\"internal\",\"text\":\"a record can't be written as JSON\"}}")
            }),
            Format::Plain => format!("{t:>9.3}  {}", record.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_server_are_cut() {
        let print = Printer { format: Format::Json, start: Instant::now() };
        let text = |length: usize| {
            let line = print.line("unknown", "ü".repeat(length), None, None);
            serde_json::from_str::<Record>(&line).unwrap().text
        };
        assert_eq!(text(LINE_CHARS_MAX), "ü".repeat(LINE_CHARS_MAX));
        assert_eq!(text(LINE_CHARS_MAX + 1), "ü".repeat(LINE_CHARS_MAX) + "…");
    }

    #[test]
    fn records_survive_the_wire() {
        let record = Record {
            t: 1.5,
            kind: "updating".into(),
            text: "wrote 42 %".into(),
            percent: Some(42),
            number: None,
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
