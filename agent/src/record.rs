//! What `run` says: one record per happening, for people or for programs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nerves_hub_link_protocol::printable::line;
use nerves_hub_link_protocol::{Event, LogLevel};
use serde::{Deserialize, Serialize};

use crate::cli::Format;
use crate::extensions::{self, Outlet};
use crate::flood::{Flood, More};
use crate::limits::LINE_TEXT_MAX;
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
    /// This line stands for so many of its kind that were not printed: there were too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
}

/// Prints records. Never waits for whoever reads them. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    print: Printer,
    /// Where lines go beside the screen.
    outlet: Option<Outlet>,
    lines: Lines,
    words: Mutex<Words>,
    flood: Mutex<Counting>,
}

#[derive(Default)]
struct Counting {
    flood: Flood,
    /// A thread prints what was held back when its time has come.
    attended: bool,
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
            let text = format!("{count} lines were lost here: nobody read them");
            print.line(Record { number: Some(count), ..Record::new("lines-lost", &text) })
        };
        let (words, flood) = (Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { print, outlet, lines: Lines::stdout(lost), words, flood }) }
    }

    /// Reports what was held back, and waits until everything is printed, for so long at most.
    pub fn flush(&self, limit: Duration) {
        let held = self.shared.counting().flood.all();
        self.shared.report(&held);
        self.shared.lines.flush(limit);
    }

    /// Returns where the lines go.
    #[cfg(feature = "demo")]
    pub fn lines(&self) -> &Lines {
        &self.shared.lines
    }

    /// Prints an event of the machine, if there is something to say about it.
    pub fn event(&self, event: &Event) {
        let line = self.shared.words.lock().unwrap_or_else(PoisonError::into_inner).describe(event);
        let Some(Line { kind, level, text, percent, number }) = line else { return };
        // Lines about extensions would cause more events of extensions.
        let level = (!matches!(event, Event::Extension(_))).then_some(level);
        self.print(level, Record { percent, number, ..Record::new(kind, &text) });
    }

    /// Prints a happening of the program's own.
    pub fn note(&self, kind: &str, text: impl AsRef<str>) {
        let failed = ["not-validated", "archive-unknown", "no-environment"].contains(&kind);
        let level = if failed { LogLevel::Warning } else { LogLevel::Info };
        // Notices report refused commands, some of which are log lines.
        self.print((kind != "notice").then_some(level), Record::new(kind, text.as_ref()));
    }

    /// Prints a happening with a figure.
    pub fn figure(&self, kind: &str, text: impl AsRef<str>, number: u64) {
        self.print(None, Record { number: Some(number), ..Record::new(kind, text.as_ref()) });
    }

    /// Prints a record, unless there were too many of its kind; and sends it to the server if it has a level.
    fn print(&self, level: Option<LogLevel>, record: Record) {
        let now = Instant::now();
        let (kind, text) = (record.kind.clone(), record.text.clone());
        let line = self.shared.print.line(record);
        let mut counting = self.shared.counting();
        let ended = counting.flood.ended(now);
        let admitted = counting.flood.admit(now, &kind, &text, line.len());
        if !admitted && !counting.attended {
            let shared = Arc::clone(&self.shared);
            // Without a thread the next line of the kind, or the end of the program, reports them.
            counting.attended =
                thread::Builder::new().name("held lines".into()).spawn(move || shared.attend()).is_ok();
        }
        drop(counting);
        self.shared.report(&ended);
        if !admitted {
            return;
        }
        if let (Some(outlet), Some(level)) = (&self.shared.outlet, level) {
            extensions::log(outlet, level, &kind, &text);
        }
        self.shared.lines.line(line);
    }
}

impl Shared {
    fn counting(&self) -> MutexGuard<'_, Counting> {
        // Nothing panics while it holds the lock.
        self.flood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports lines that were held back when their time has come, until there are none.
    fn attend(&self) {
        loop {
            let now = Instant::now();
            let mut counting = self.counting();
            let ended = counting.flood.ended(now);
            let next = counting.flood.next();
            counting.attended = next.is_some();
            drop(counting);
            self.report(&ended);
            let Some(next) = next else { return };
            thread::sleep(next.saturating_duration_since(now));
        }
    }

    fn report(&self, held: &[More]) {
        for more in held {
            let record = Record { more: Some(more.count), ..Record::new(&more.last.kind, &more.text()) };
            self.lines.line(self.print.line(record));
        }
    }
}

impl Record {
    /// The only way from a text of a peer to a record: it becomes one line, of a bounded length.
    fn new(kind: &str, text: &str) -> Self {
        let text = line(text, LINE_TEXT_MAX).into_owned();
        Self { t: 0.0, kind: kind.to_owned(), text, percent: None, number: None, more: None }
    }
}

impl Printer {
    fn line(self, mut record: Record) -> String {
        record.t = (self.start.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        match self.format {
            Format::Json => serde_json::to_string(&record).unwrap_or_else(|error| {
                // A struct of texts and numbers always can be.
                debug_assert!(false, "{error}");
                let t = record.t;
                format!("{{\"t\":{t},\"kind\":\"internal\",\"text\":\"a record can't be written as JSON\"}}")
            }),
            Format::Plain => format!("{:>9.3}  {}", record.t, record.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nerves_hub_link_protocol::printable::{escape, is_hidden};

    #[test]
    fn texts_of_a_server_are_cut() {
        let print = Printer { format: Format::Json, start: Instant::now() };
        let text = |length: usize| {
            let line = print.line(Record::new("unknown", &"ü".repeat(length)));
            serde_json::from_str::<Record>(&line).unwrap().text
        };
        assert_eq!(text(LINE_TEXT_MAX / 2), "ü".repeat(LINE_TEXT_MAX / 2));
        let cut = text(LINE_TEXT_MAX / 2 + 1);
        assert!(cut.len() <= LINE_TEXT_MAX && cut.contains("bytes left out"), "{cut}");
    }

    #[test]
    fn a_record_is_one_line_that_says_what_it_said_in_both_formats() {
        let words = "1.0\n    0.000  update failed\u{1b}[2J\u{9b}\u{202e}\u{2028}\"\\";
        for format in [Format::Plain, Format::Json] {
            let line = Printer { format, start: Instant::now() }.line(Record::new("offered", words));
            assert!(!line.contains(is_hidden), "{line:?}");
            // What writes the line finds nothing left to escape: JSON stays JSON.
            assert_eq!(escape(&line), line);
        }
    }

    #[test]
    fn records_survive_the_wire() {
        let record = Record {
            t: 1.5,
            kind: "updating".into(),
            text: "wrote 42 %".into(),
            percent: Some(42),
            number: None,
            more: None,
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
