//! What is printed, in the four manners of fwup: bar, numbers, quiet and framed (fw-format §10 and §17).
//!
//! Scripts and golden files get the bytes of fwup. A terminal gets every foreign text escaped: names, messages and values
//! of an archive may hold escape sequences.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Read, Write};
use std::time::Instant;

use fwup_stream::framing::Frame;
use fwup_stream::{ApplyEvent, ProgressReport};
use nerves_hub_link_printable::escape;

/// The name in front of messages, which scripts look for.
const NAME: &str = "fwup";
/// Columns of the bar.
const COLUMNS: i32 = 36;
/// Clears the line the bar is on.
const CLEAR: &str = "\r\x1b[K";
/// Printed before the exit code by `--exit-handshake`.
const HANDSHAKE: u8 = 0x1a;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    #[default]
    Off,
    Bar,
    Numbers,
    Frames,
}

/// Standard output, and what was asked of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) framing: bool,
    pub(crate) verbose: bool,
    pub(crate) exit_handshake: bool,
    manner: Manner,
    last: Option<i32>,
    began: Option<Instant>,
    at_exit: &'static str,
}

impl Output {
    /// Begins to show progress, with `low` as the first value.
    pub(crate) fn begin(&mut self, manner: Manner, low: i32) {
        self.manner = manner;
        self.began = Some(Instant::now());
        self.progress(ProgressReport { value: low, bytes_in: 0, units_done: 0, units_total: 0 });
    }

    /// Shows what happened.
    pub(crate) fn event(&mut self, event: &ApplyEvent) {
        match event {
            ApplyEvent::Progress(report) => self.progress(*report),
            ApplyEvent::Detail(text) if self.verbose => self.message(text),
            ApplyEvent::Info(text) | ApplyEvent::Warning(text) => self.message(text),
            _ => {}
        }
    }

    /// Tells something that is no error.
    pub(crate) fn message(&mut self, text: &str) {
        if self.framing {
            print(&Frame::Warning(text).to_bytes());
        } else {
            self.line(text);
        }
    }

    /// Tells why the command fails.
    pub(crate) fn error(&mut self, text: &str, line_before: bool) {
        if line_before {
            // Nobody left to tell if this fails.
            let _ = io::stderr().write_all(b"\n");
        }
        if self.framing {
            print(&Frame::Error(text).to_bytes());
        } else {
            self.line(text);
        }
    }

    /// Prints the result of a command, line by line.
    pub(crate) fn result<T: AsRef<str>>(&mut self, lines: impl IntoIterator<Item = T>) {
        let lines = lines.into_iter();
        if self.framing {
            let text: String = lines.map(|line| line.as_ref().to_owned() + "\n").collect();
            print(&Frame::Success(&text).to_bytes());
        } else {
            let terminal = io::stdout().is_terminal();
            let text: String = lines.map(|line| shown(line.as_ref(), terminal).into_owned() + "\n").collect();
            print(text.as_bytes());
        }
    }

    /// Tells that firmware was applied.
    pub(crate) fn applied(&mut self, counted: bool) {
        if self.framing {
            print(&Frame::Success("").to_bytes());
        } else if self.manner == Manner::Bar {
            let mut text = "\nSuccess!\n".to_owned();
            if let Some(began) = self.began.filter(|_| counted) {
                text.push_str(&elapsed(began.elapsed().as_millis()));
            }
            print(text.as_bytes());
        }
    }

    /// Prints text when the command ends, as C's buffered output does.
    pub(crate) fn at_exit(&mut self, text: &'static str) {
        self.at_exit = text;
    }

    /// Ends the command: the handshake if wanted, then what is left to print.
    pub(crate) fn end(&mut self, failed: bool) {
        if self.exit_handshake {
            print(&[HANDSHAKE, u8::from(failed)]);
            // Waits for the other side to close our input; what it still sends no longer matters.
            let _ = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());
        }
        print(self.at_exit.as_bytes());
    }

    fn progress(&mut self, report: ProgressReport) {
        if report.value <= self.last.unwrap_or(-1) {
            return;
        }
        self.last = Some(report.value);
        match self.manner {
            Manner::Off => {}
            Manner::Bar => print(bar(report).as_bytes()),
            Manner::Numbers => print(format!("{}\n", report.value).as_bytes()),
            Manner::Frames => {
                // A range of one's own choice may lie beyond what a frame can say.
                let percent = u16::try_from(report.value).unwrap_or(u16::MAX);
                print(&Frame::Progress(percent).to_bytes());
            }
        }
    }

    fn line(&mut self, text: &str) {
        let clear = if self.manner == Manner::Bar { CLEAR } else { "" };
        let text = shown(text, io::stdout().is_terminal());
        print(format!("{clear}{NAME}: {text}\n").as_bytes());
    }
}

/// Prints a line to standard error.
pub(crate) fn complain(text: &str) {
    let line = shown(text, io::stderr().is_terminal()).into_owned() + "\n";
    // Nobody left to tell if this fails.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Returns a foreign text as it is shown.
pub(crate) fn shown(text: &str, terminal: bool) -> Cow<'_, str> {
    if terminal { escape(text) } else { Cow::Borrowed(text) }
}

fn print(bytes: &[u8]) {
    // An update goes on when nobody listens any more.
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// The progress bar.
fn bar(report: ProgressReport) -> String {
    let filled =
        usize::try_from((i64::from(report.value) * i64::from(COLUMNS) / 100).clamp(0, 36)).unwrap_or(0);
    let text = format!("\r{:3}% [{:36}]", report.value, "=".repeat(filled));
    if report.units_total == 0 {
        return text;
    }
    let (taken, done) = (amount(report.bytes_in), amount(report.units_done));
    format!("{text} {taken} in / {done} out     \x08\x08\x08\x08\x08")
}

/// An amount with two decimals, in the unit that fits.
pub(crate) fn amount(bytes: u64) -> String {
    let units = [("TB", 1_000_000_000_000_u128), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000)];
    let (unit, size) = units.into_iter().find(|(_, size)| u128::from(bytes) >= *size).unwrap_or(("bytes", 1));
    let hundredths = (u128::from(bytes) * 200 / size).div_ceil(2);
    format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100)
}

fn elapsed(milliseconds: u128) -> String {
    let (minutes, seconds) = (milliseconds / 60_000, milliseconds / 1000 % 60);
    if minutes > 0 {
        format!("Elapsed time: {minutes} min {seconds:02} s\n")
    } else {
        format!("Elapsed time: {seconds}.{:03} s\n", milliseconds % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_that_of_fwup() {
        let start = ProgressReport { value: 0, bytes_in: 0, units_done: 0, units_total: 0 };
        assert_eq!(bar(start), "\r  0% [                                    ]");
        let middle = ProgressReport { value: 56, bytes_in: 16384, units_done: 512, units_total: 4096 };
        let want = "\r 56% [====================                ] 16.38 KB in / 512.00 bytes out     \
                    \x08\x08\x08\x08\x08";
        assert_eq!(bar(middle), want);
    }

    #[test]
    fn amounts_and_times_round_as_fwup_does() {
        assert_eq!(amount(301_390), "301.39 KB");
        assert_eq!(amount(999), "999.00 bytes");
        assert_eq!(amount(2_500_000_000), "2.50 GB");
        assert_eq!(elapsed(1234), "Elapsed time: 1.234 s\n");
        assert_eq!(elapsed(61_234), "Elapsed time: 1 min 01 s\n");
    }
}
