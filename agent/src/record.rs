//! What `run` says: one record per happening, for people or for programs.

use std::time::{Duration, Instant};

use nerves_hub_link_protocol::{ArchiveEvent, Event, FileEvent, ShellEvent, Stage, UpdateMode, UploadEvent};
use serde::{Deserialize, Serialize};

use crate::cli::Format;
use crate::extensions::{self, Outlet};
use crate::limits::LINE_CHARS_MAX;
use crate::output::Lines;

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
        Self { print, outlet, lines: Lines::stdout(lost) }
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

    /// Prints an event of the machine, unless it is one of those that come with every key an operator presses.
    pub fn event(&self, event: &Event) {
        if is_traffic(event) {
            return;
        }
        let (kind, text, percent, number) = describe(event);
        // What is said about extensions would bring forth more to say about them.
        if let (Some(outlet), false) = (&self.outlet, matches!(event, Event::Extension(_))) {
            extensions::log(outlet, kind, &text);
        }
        self.print(kind, text, percent, number);
    }

    /// Prints a happening of the program's own.
    pub fn note(&self, kind: &str, text: impl Into<String>) {
        let text = text.into();
        // Notices tell of refused commands, of which log lines are some.
        if let (Some(outlet), false) = (&self.outlet, kind == "notice") {
            extensions::log(outlet, kind, &text);
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

/// Returns whether an event only carries what goes to and fro on the console.
fn is_traffic(event: &Event) -> bool {
    match event {
        Event::Shell(event) => !matches!(event, ShellEvent::Wanted { .. } | ShellEvent::Stopped { .. }),
        Event::File(event) => matches!(event, FileEvent::Chunk { .. }),
        Event::Upload(event) => matches!(event, UploadEvent::Ready { .. }),
        _ => false,
    }
}

/// Says what operators do on the console.
fn describe_console(event: &Event) -> Option<String> {
    Some(match event {
        Event::ConsoleJoined => "operators can reach the console".into(),
        Event::ConsoleLost { reason } => format!("the console can't be reached: {reason}; will join again"),
        Event::Shell(ShellEvent::Wanted { kind, .. }) => {
            format!("a shell was opened for an operator ({kind:?})")
        }
        Event::Shell(ShellEvent::Stopped { why, .. }) => format!("a shell was closed ({why:?})"),
        Event::File(FileEvent::Started { name, .. }) => format!("an operator sends the file {name:?}"),
        Event::File(FileEvent::Finished { file }) => format!("file {file} from an operator is complete"),
        Event::File(FileEvent::Discarded { file, reason }) => {
            format!("file {file} from an operator was dropped: {reason}")
        }
        Event::Upload(UploadEvent::Started { name, .. }) => format!("sending the file {name:?} to operators"),
        Event::Upload(UploadEvent::Finished { upload }) => format!("file {upload} was sent to operators"),
        Event::Upload(UploadEvent::Aborted { upload, reason }) => {
            format!("file {upload} was not sent to operators: {reason}")
        }
        _ => return None,
    })
}

fn describe_archive(event: &ArchiveEvent) -> (&'static str, String, Option<u8>, Option<u64>) {
    let (kind, text) = match event {
        ArchiveEvent::Offered { info, .. } => {
            ("archive-offered", format!("offered archive {} ({})", info.version, info.uuid))
        }
        ArchiveEvent::Refused { info, reason } => {
            ("archive-refused", format!("refused archive {}: {reason}", info.version))
        }
        ArchiveEvent::DownloadStarted { offset, .. } => {
            ("archive", format!("download of the archive goes on from {}", bytes(*offset)))
        }
        ArchiveEvent::DownloadInterrupted { reason, retry_in, .. } => (
            "archive-interrupted",
            format!("download of the archive broke: {reason}; again in {:.1} s", retry_in.as_secs_f64()),
        ),
        ArchiveEvent::Ready { info, path, .. } => {
            ("archive-ready", format!("archive {} is checked, and in {path}", info.version))
        }
        ArchiveEvent::Failed { reason, .. } => ("archive-failed", format!("the archive failed: {reason}")),
        ArchiveEvent::Replaced { .. } => ("archive-replaced", "another archive takes its place".into()),
        _ => ("archive", "something happened to an archive that this program has no words for".into()),
    };
    (kind, text, None, None)
}

fn describe(event: &Event) -> (&'static str, String, Option<u8>, Option<u64>) {
    let plain = |kind, text: String| (kind, text, None, None);
    match event {
        Event::Connecting { attempt: 0 } => plain("connecting", "connecting".into()),
        Event::Connecting { attempt } => plain("connecting", format!("connecting again, attempt {attempt}")),
        Event::WaitingForNetwork { reason } => {
            plain("no-network", format!("waiting for the network: {reason}"))
        }
        Event::Connected => plain("connected", "connected; joining".into()),
        Event::Joined => plain("joined", "the server accepted this device".into()),
        Event::JoinRefused { reason } => {
            plain("join-refused", format!("the server refused the join: {reason}"))
        }
        Event::Refused { status, explanation, .. } => {
            plain("refused", format!("the server refused the connection (HTTP {status}): {explanation}"))
        }
        Event::Disconnected { reason, retry_at } => plain(
            "disconnected",
            format!("disconnected: {reason}{}", if retry_at.is_some() { "; will try again" } else { "" }),
        ),
        Event::ChannelLost { reason } => plain("channel-lost", format!("{reason}; will join again")),
        Event::ClockCorrected { offset_seconds } => plain(
            "clock",
            format!(
                "this device's clock is {offset_seconds} s off the server's; signing with the server's time"
            ),
        ),
        Event::PublicKeysReceived { count } => {
            plain("keys", format!("the server sent firmware keys; {count} are trusted now"))
        }
        Event::DuplicateIdentitySuspected => plain(
            "duplicate",
            "another connection keeps taking this device's place: do two devices share its identifier?"
                .into(),
        ),
        Event::AlarmRaised { alarm, description } => {
            plain("alarm", format!("alarm {} raised: {description}", alarm.name()))
        }
        Event::AlarmCleared { alarm } => plain("alarm", format!("alarm {} cleared", alarm.name())),
        Event::UpdateOffered { info, .. } => {
            let size = info.size.map(|size| format!(", {}", bytes(size))).unwrap_or_default();
            let text = format!("offered firmware {} ({}{size})", info.firmware.version, info.firmware.uuid);
            ("offered", text, None, info.size)
        }
        Event::InstallObstacle { reason: Some(reason) } => {
            plain("cannot-install", format!("updates are put off, as they can't be installed: {reason}"))
        }
        Event::InstallObstacle { reason: None } => {
            plain("can-install", "updates can be installed again".into())
        }
        Event::UpdateRefused { info, reason } => {
            plain("update-refused", format!("refused firmware {}: {reason}", info.firmware.version))
        }
        Event::DownloadStarted { offset: 0, total, .. } => {
            let size = total.map(|total| format!(" of {}", bytes(total))).unwrap_or_default();
            ("download", format!("download{size} started"), None, Some(0))
        }
        Event::DownloadStarted { offset, .. } => {
            ("download", format!("download resumed at {}", bytes(*offset)), None, Some(*offset))
        }
        Event::DownloadInterrupted { reason, received, retry_in, .. } => (
            "interrupted",
            format!(
                "download broke at {}: {reason}; again in {:.1} s",
                bytes(*received),
                retry_in.as_secs_f64()
            ),
            None,
            Some(*received),
        ),
        Event::Archive(event) => describe_archive(event),
        Event::PartsUnavailable { reason, .. } => {
            plain("one-part", format!("keeping the update in one part: {reason}"))
        }
        Event::UpdateProgress { stage, percent, .. } => match stage {
            Stage::Downloading => ("downloading", format!("downloaded {percent} %"), Some(*percent), None),
            Stage::Updating => ("updating", format!("wrote {percent} %"), Some(*percent), None),
        },
        Event::UpdateCompleted { .. } => {
            plain("completed", "the new firmware is written and checked; it boots next".into())
        }
        Event::UpdateFailed { reason, .. } => {
            plain("failed", format!("update failed, the running firmware is untouched: {reason}"))
        }
        Event::Identify => plain("identify", "an operator asks which device this is".into()),
        Event::RebootRequested => plain("reboot-requested", "an operator asks for a restart".into()),
        Event::UpdateModeChanged { mode, .. } => plain(
            "update-mode",
            match mode {
                Some(UpdateMode::DeviceManaged) => {
                    "the server leaves it to this device to ask for updates".into()
                }
                Some(UpdateMode::Off) => "updates are switched off for this device".into(),
                _ => "the server pushes updates".into(),
            },
        ),
        Event::UpdateRejected { reason, .. } => {
            plain("no-update", format!("asked for an update, and got none: {reason:?}"))
        }
        Event::Unknown { topic, event } => {
            plain("unknown", format!("ignored {event:?} on {topic:?}, which this version doesn't know"))
        }
        Event::Malformed { reason } => plain("malformed", format!("ignored a message: {reason}")),
        other => match describe_console(other) {
            Some(text) => plain("console", text),
            None => match extensions::describe(other) {
                Some(text) => plain("extension", text),
                None => plain("event", format!("{other:?}")),
            },
        },
    }
}

/// Formats a number of bytes for people, in powers of 1024.
pub fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} bytes");
    }
    let whole = |unit: u64| (count / unit, (count % unit) * 10 / unit);
    let ((whole, tenth), name) = match count {
        0..0x10_0000 => (whole(1 << 10), "KiB"),
        0x10_0000..0x4000_0000 => (whole(1 << 20), "MiB"),
        _ => (whole(1 << 30), "GiB"),
    };
    format!("{whole}.{tenth} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_in_the_fitting_unit() {
        let said = [0, 1023, 1024, 1536, 0x10_0000, 0x4000_0000].map(bytes);
        assert_eq!(said, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 GiB"]);
    }

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
