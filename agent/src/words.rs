//! What `run` says about events of the machine: one line each, for a person.

use std::time::Duration;

use nerves_hub_link_protocol::{
    Alarm, ArchiveEvent, Event, FileEvent, LogLevel, ShellEvent, Stage, UpdateMode, UploadEvent,
};

use crate::extensions;

/// When a server offers firmware again that failed or was refused.
const PENALTY: &str =
    "The server decides when to offer it again, by default after a day; an operator can push it before";

/// A line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// A stable word for programs.
    pub kind: &'static str,
    /// How it is sent to the server.
    pub level: LogLevel,
    /// What happened, for a person.
    pub text: String,
    /// How far, 0 to 100.
    pub percent: Option<u8>,
    /// A figure that belongs to the kind.
    pub number: Option<u64>,
}

/// Finds the words. Remembers what it said last, so that a cause is printed once.
#[derive(Debug, Default)]
pub struct Words {
    /// The last line told of a refusal, with its cause and the next attempt.
    refused: bool,
    /// That the firmware is not marked good was said.
    unproven: bool,
    /// The last line said that the device connects. A redirect makes it connect again at once.
    connecting: bool,
}

impl Line {
    fn info(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, level: LogLevel::Info, text: text.into(), percent: None, number: None }
    }

    fn warning(kind: &'static str, text: impl Into<String>) -> Self {
        Self { level: LogLevel::Warning, ..Self::info(kind, text) }
    }

    fn percent(self, percent: u8) -> Self {
        Self { percent: Some(percent), ..self }
    }

    fn number(self, number: impl Into<Option<u64>>) -> Self {
        Self { number: number.into(), ..self }
    }
}

impl Words {
    /// Says what an event means. Nothing for events that come with every key an operator presses or every look at the
    /// device's health, and for what was said already.
    pub fn describe(&mut self, event: &Event) -> Option<Line> {
        let refused = std::mem::replace(&mut self.refused, matches!(event, Event::Refused { .. }));
        let begins = matches!(event, Event::Connecting { .. });
        let connecting = std::mem::replace(&mut self.connecting, begins);
        match event {
            Event::Disconnected { .. } if refused => None,
            Event::Connecting { .. } if connecting => None,
            Event::ValidationWanted if std::mem::replace(&mut self.unproven, true) => None,
            Event::Archive(event) => Some(archive(event)),
            Event::Extension(event) => {
                let (level, text) = extensions::describe(event)?;
                Some(Line { level, ..Line::info("extension", text) })
            }
            event => connection(event)
                .or_else(|| update(event))
                .or_else(|| console(event))
                .or_else(|| other(event)),
        }
    }
}

/// What happens between this device and the server.
fn connection(event: &Event) -> Option<Line> {
    Some(match event {
        Event::Connecting { attempt: 0 } => Line::info("connecting", "connecting"),
        Event::Connecting { attempt: 1 } => {
            Line::info("connecting", "connecting again after a failed attempt")
        }
        Event::Connecting { attempt } => {
            Line::info("connecting", format!("connecting again after {attempt} failed attempts"))
        }
        Event::NotEncrypted { trusted: true } => Line::warning(
            "not-encrypted",
            "the server is reached without TLS and trusted all the same (--insecure-plain-hub): anybody between this device \
             and the server can do what the server may",
        ),
        Event::NotEncrypted { trusted: false } => Line::warning(
            "not-encrypted",
            "the server is reached without TLS: its keys and its clock are not used, and shells, scripts and firmware over \
             http are refused; use a wss:// address",
        ),
        Event::WaitingForNetwork { reason, waited } if waited.is_zero() => {
            Line::warning("no-network", format!("waiting for the network: {reason}; looking every 3 s"))
        }
        Event::WaitingForNetwork { reason, waited } => Line::warning(
            "no-network",
            format!("still waiting for the network after {}: {reason}; looking every 3 s", time(*waited)),
        ),
        Event::Connected => Line::info("connected", "connected; joining"),
        Event::Joined => Line::info("joined", "the server accepted this device"),
        Event::JoinRefused { reason, retry_in } => Line::warning(
            "join-refused",
            format!("the server refused the join: {reason}; next attempt {}", within(*retry_in)),
        ),
        Event::Refused { status, explanation, retry_in, .. } => Line::warning(
            "refused",
            format!(
                "the server refused the connection (HTTP {status}). {explanation} Next attempt {}.",
                within(*retry_in)
            ),
        ),
        Event::Disconnected { reason, retry_in: None, .. } => {
            let text = reason.strip_prefix("disconnected ").unwrap_or(reason);
            Line::warning("disconnected", format!("disconnected: {text}"))
        }
        Event::Disconnected { reason, retry_in: Some(retry_in), .. } => Line::warning(
            "disconnected",
            format!("disconnected: {reason}; next attempt {}", within(*retry_in)),
        ),
        Event::ChannelLost { reason, retry_in } => {
            Line::warning("channel-lost", format!("{reason}; next attempt to join {}", within(*retry_in)))
        }
        Event::ClockCorrected { offset_seconds } => {
            let direction = if *offset_seconds > 0 { "behind" } else { "ahead of" };
            let off = time(Duration::from_secs(offset_seconds.unsigned_abs()));
            let text = format!(
                "this device's clock is {off} {direction} the server's; signing with the server's time"
            );
            Line::warning("clock", text)
        }
        Event::PublicKeysReceived { count: 1 } => {
            Line::info("keys", "the server sent firmware keys; this device trusts 1 key now")
        }
        Event::PublicKeysReceived { count } => {
            Line::info("keys", format!("the server sent firmware keys; this device trusts {count} keys now"))
        }
        Event::DuplicateIdentitySuspected => Line::warning(
            "duplicate",
            "another connection keeps replacing this device's: do two devices share its identifier?",
        ),
        Event::Unknown { topic, event } => {
            let text = format!("ignored the event {event:?} on {topic:?}, which this version doesn't know");
            Line::info("unknown", text)
        }
        Event::Malformed { reason } => Line::warning("malformed", format!("ignored a message: {reason}")),
        Event::InternalError { what } => Line::warning(
            "internal-error",
            format!("internal error: {what}. The device stays connected; please report this with the log."),
        ),
        _ => return None,
    })
}

/// What becomes of updates.
fn update(event: &Event) -> Option<Line> {
    Some(match event {
        Event::UpdateOffered { info, .. } => {
            // Older servers send no size.
            let size = info.size.map(|size| format!(", {}", bytes(size))).unwrap_or_default();
            let text = format!("offered firmware {} ({}{size})", info.firmware.version, info.firmware.uuid);
            Line::info("offered", text).number(info.size)
        }
        Event::UpdateRefused { info, reason, retry_in: Some(retry_in) } => Line::warning(
            "update-refused",
            format!(
                "put off firmware {}: {}; the server is asked to offer it again {}",
                info.firmware.version,
                open(reason),
                within(*retry_in)
            ),
        ),
        Event::UpdateRefused { info, reason, retry_in: None } => Line::warning(
            "update-refused",
            format!("refused firmware {}: {}. {PENALTY}", info.firmware.version, open(reason)),
        ),
        Event::InstallObstacle { reason: Some(reason) } => {
            let text = format!("updates are put off, as they can't be installed: {reason}");
            Line::warning("cannot-install", text)
        }
        Event::InstallObstacle { reason: None } => {
            Line::info("can-install", "updates can be installed again")
        }
        Event::UpdateHandedOver { info, .. } => {
            Line::info("handed-over", format!("the application installs firmware {}", info.firmware.version))
        }
        Event::FirmwareSigned { firmware, .. } => {
            let (version, uuid) = (firmware.version.escape_debug(), firmware.uuid.escape_debug());
            Line::info("signed", format!("a trusted key signed firmware {version} (uuid {uuid}); writing it"))
        }
        Event::DownloadStarted { offset, total, received, .. } => {
            Line::info("download", download("download", *offset, *received, *total)).number(*received)
        }
        Event::DownloadInterrupted { reason, received, retry_in, .. } => {
            let text =
                format!("download broke at {}: {reason}; again {}", bytes(*received), within(*retry_in));
            Line::warning("interrupted", text).number(*received)
        }
        Event::PartsUnavailable { reason, .. } => {
            Line::info("one-part", format!("keeping the update in one part: {reason}"))
        }
        Event::UpdateProgress { stage: Stage::Downloading, percent, .. } => {
            Line::info("downloading", format!("downloaded {percent} %")).percent(*percent)
        }
        Event::UpdateProgress { stage: Stage::Updating, percent, .. } => {
            Line::info("updating", format!("wrote {percent} %")).percent(*percent)
        }
        Event::UpdateCompleted { .. } => {
            Line::info("completed", "the new firmware is written and checked; it boots next")
        }
        Event::UpdateFailed { reason, retry_in: Some(retry_in), .. } => Line::warning(
            "failed",
            format!(
                "update failed, the running firmware is untouched: {}; the server is asked to offer it again {}",
                open(reason),
                within(*retry_in)
            ),
        ),
        Event::UpdateFailed { reason, retry_in: None, .. } => Line::warning(
            "failed",
            format!("update failed, the running firmware is untouched: {}. {PENALTY}", open(reason)),
        ),
        Event::UpdateModeChanged { mode, .. } => Line::info(
            "update-mode",
            match mode {
                Some(UpdateMode::Automatic) => "the server pushes updates",
                Some(UpdateMode::DeviceManaged) => "the server leaves it to this device to ask for updates",
                Some(UpdateMode::Off) => "updates are switched off for this device",
                _ => "the server changed the update mode to one that this version doesn't know",
            },
        ),
        Event::UpdateAvailability { available: true, firmware } => {
            // The server may leave out what it has.
            let version = firmware.as_ref().map(|firmware| format!(": {}", firmware.version));
            Line::info("update-available", format!("an update is available{}", version.unwrap_or_default()))
        }
        Event::UpdateAvailability { available: false, .. } => {
            Line::info("update-available", "no update is available")
        }
        Event::UpdateRejected { reason, retry_in } => Line::info(
            "no-update",
            format!("asked for an update and got none: {reason}; not asking again for {}", time(*retry_in)),
        ),
        Event::RequestFailed { request, why } => {
            Line::warning("request-failed", format!("asked the server {request}, without success: {why}"))
        }
        Event::ValidationWanted => Line::warning(
            "unproven",
            "this firmware is not marked good yet: a restart may bring back the firmware before it. Options of `run` \
             such as --validate-when-joined mark it good",
        ),
        _ => return None,
    })
}

fn archive(event: &ArchiveEvent) -> Line {
    match event {
        ArchiveEvent::Offered { info, .. } => {
            Line::info("archive-offered", format!("offered archive {} ({})", info.version, info.uuid))
        }
        ArchiveEvent::Refused { info, reason } => {
            Line::warning("archive-refused", format!("refused archive {}: {reason}", info.version))
        }
        ArchiveEvent::DownloadStarted { offset, total, received, .. } => {
            Line::info("archive", download("download of the archive", *offset, *received, *total))
        }
        ArchiveEvent::DownloadInterrupted { reason, retry_in, received, .. } => Line::warning(
            "archive-interrupted",
            format!(
                "download of the archive broke at {}: {reason}; again {}",
                bytes(*received),
                within(*retry_in)
            ),
        ),
        ArchiveEvent::Ready { info, path, .. } => {
            Line::info("archive-ready", format!("archive {} is checked and stored in {path}", info.version))
        }
        ArchiveEvent::Failed { reason, .. } => Line::warning(
            "archive-failed",
            format!("the archive failed: {reason}; it is offered again after the next join"),
        ),
        ArchiveEvent::Dropped { uuid, path } => Line::info(
            "archive-dropped",
            format!("the oldest archive, {uuid}, was deleted to make room: {path}"),
        ),
        ArchiveEvent::Replaced { .. } => Line::info("archive-replaced", "another archive replaces this one"),
        _ => Line::info("archive", "news about an archive that this program doesn't know"),
    }
}

/// What operators do on the console.
fn console(event: &Event) -> Option<Line> {
    let info = |text: String| Line::info("console", text);
    Some(match event {
        Event::ConsoleJoined => info("operators can reach the console".into()),
        Event::ConsoleLost { reason, retry_in } => Line::warning(
            "console",
            format!(
                "operators can't reach the console: {reason}; next attempt to join {}",
                within(*retry_in)
            ),
        ),
        Event::Shell(ShellEvent::Wanted { kind, .. }) => info(format!("an operator opened a shell ({kind})")),
        Event::Shell(ShellEvent::Stopped { why, .. }) => info(format!("a shell was closed: {why}")),
        Event::File(FileEvent::Started { name, .. }) => info(format!("an operator sends the file {name:?}")),
        Event::File(FileEvent::Finished { file }) => {
            info(format!("file {file} from an operator is complete"))
        }
        Event::File(FileEvent::Discarded { file, reason }) => {
            Line::warning("console", format!("file {file} from an operator was dropped: {reason}"))
        }
        Event::Upload(UploadEvent::Started { name, .. }) => {
            info(format!("sending the file {name:?} to operators"))
        }
        Event::Upload(UploadEvent::Finished { upload }) => {
            info(format!("file {upload} was sent to operators"))
        }
        Event::Upload(UploadEvent::Aborted { upload, reason }) => {
            Line::warning("console", format!("file {upload} was not sent to operators: {reason}"))
        }
        _ => return None,
    })
}

fn other(event: &Event) -> Option<Line> {
    Some(match event {
        Event::AlarmRaised { alarm, description } => {
            let name = alarm.name();
            match alarm {
                // The lines about them say why.
                Alarm::Disconnected | Alarm::UpdateInProgress => {
                    Line::info("alarm", format!("alarm {name} raised"))
                }
                _ => Line::warning("alarm", format!("alarm {name} raised: {description}")),
            }
        }
        Event::AlarmCleared { alarm } => Line::info("alarm", format!("alarm {} cleared", alarm.name())),
        Event::Identify => Line::info("identify", "an operator asks which device this is"),
        Event::RebootRequested => Line::info("reboot-requested", "an operator asks for a restart"),
        Event::RebootRefused { reason, retry_in } => Line::warning(
            "reboot-refused",
            format!(
                "an operator's restart was refused: {reason}; the next is possible in {} (--reboots-per-hour)",
                time(*retry_in)
            ),
        ),
        Event::RebootDelayed { reason, retry_in } => Line::warning(
            "reboot-delayed",
            format!(
                "the restart into the new firmware waits for {}: {reason} (--reboots-per-hour)",
                time(*retry_in)
            ),
        ),
        Event::UpdatesFrozen { description } => Line::warning(
            "updates-frozen",
            format!(
                "{description}: look at its network, clock and credentials, and at the server (--freeze-alarm)"
            ),
        ),
        Event::ScriptRequested { timeout, .. } => {
            Line::info("script", format!("an operator's script is run for {} at most", time(*timeout)))
        }
        Event::ScriptRefused { reason } => Line::warning(
            "script",
            format!("a script or connecting code of an operator's was not run: {reason}"),
        ),
        Event::ScriptTimedOut { .. } => {
            Line::warning("script", "an operator's script ran too long and was given up")
        }
        // Traffic of the console, and events of a newer machine.
        _ => return None,
    })
}

/// Says that a download began, went on, or fetches a further part.
fn download(what: &str, offset: u64, received: u64, total: Option<u64>) -> String {
    // Unknown until the first response, and for ever if that has no length.
    let size = total.map(|total| format!(" of {}", bytes(total))).unwrap_or_default();
    match (offset, received) {
        (_, 1..) => format!("{what} resumed at {}{size}", bytes(received)),
        (0, 0) => format!("{what}{size} started"),
        (offset, 0) => format!("{what}{size} started a further part at {}", bytes(offset)),
    }
}

/// Takes the full stop off a text that goes on: fwup's messages have one.
fn open(text: &str) -> &str {
    text.trim_end_matches(['.', ' '])
}

/// Formats when something happens from now.
pub fn within(wait: Duration) -> String {
    if wait.is_zero() { "now".into() } else { format!("in {}", time(wait)) }
}

/// Formats a time for people.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let unit = |size: u64, small: u64, names: [&str; 2]| match (seconds / size, seconds % size / small) {
        (whole, 0) => format!("{whole} {}", names[0]),
        (whole, rest) => format!("{whole} {} {rest} {}", names[0], names[1]),
    };
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7200 => unit(60, 1, ["min", "s"]),
        7200..172_800 => unit(3600, 60, ["h", "min"]),
        _ => unit(86_400, 3600, ["days", "h"]),
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
mod tests;
