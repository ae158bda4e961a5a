//! What a person reads, event by event.

use std::time::Duration;

use nerves_hub_link_protocol::{
    Alarm, ArchiveEvent, ArchiveId, ArchiveInfo, Event, ExtensionEvent, FileEvent, FileId, FirmwareMeta,
    LogLevel, OfferId, Refusal, RejectReason, Request, RequestFailure, ScriptId, Secret, ShellEvent, ShellId,
    ShellKind, ShellStop, Stage, UpdateInfo, UpdateMode, UploadEvent, UploadId, WindowSize,
};

use super::{Words, bytes, time, within};

const OFFER: OfferId = OfferId(3);
const MIB: u64 = 1 << 20;

/// What is printed for events that come one after the other.
fn said(events: &[Event]) -> Vec<(&'static str, LogLevel, String)> {
    let mut words = Words::default();
    let lines = events.iter().filter_map(|event| words.describe(event));
    lines.map(|line| (line.kind, line.level, line.text)).collect()
}

fn text(event: Event) -> String {
    let lines = said(&[event]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].2.clone()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn info() -> UpdateInfo {
    let firmware = FirmwareMeta { uuid: "u-1".into(), version: "1.2.0".into(), ..FirmwareMeta::default() };
    UpdateInfo { firmware, size: Some(3 * MIB), ..UpdateInfo::default() }
}

fn archive() -> ArchiveInfo {
    ArchiveInfo { uuid: "a-1".into(), version: "7".into(), ..ArchiveInfo::default() }
}

#[test]
fn every_event_has_a_sentence() {
    let archive_id = ArchiveId(1);
    let (shell, file, upload) = (ShellId(1), FileId(7), UploadId(8));
    let reason = || String::from("x broke");
    let table = vec![
        (Event::Connecting { attempt: 0 }, "connecting"),
        (Event::Connecting { attempt: 1 }, "connecting again after a failed attempt"),
        (Event::Connecting { attempt: 5 }, "connecting again after 5 failed attempts"),
        (
            Event::NotEncrypted { trusted: true },
            "the server is reached without TLS and trusted all the same (--insecure-plain-hub): anybody between this device and \
             the server can do what the server may",
        ),
        (
            Event::NotEncrypted { trusted: false },
            "the server is reached without TLS: its keys and its clock are not used, and shells, scripts and firmware over http \
             are refused; use a wss:// address",
        ),
        (
            Event::WaitingForNetwork { reason: reason(), waited: Duration::ZERO },
            "waiting for the network: x broke; looking every 3 s",
        ),
        (
            Event::WaitingForNetwork { reason: reason(), waited: seconds(3660) },
            "still waiting for the network after 61 min: x broke; looking every 3 s",
        ),
        (Event::Connected, "connected; joining"),
        (Event::Joined, "the server accepted this device"),
        (
            Event::JoinRefused { reason: reason(), retry_in: seconds(5) },
            "the server refused the join: x broke; next attempt in 5.0 s",
        ),
        (
            Event::ChannelLost { reason: reason(), retry_in: seconds(90) },
            "x broke; next attempt to join in 90 s",
        ),
        (
            Event::Disconnected { reason: reason(), retry_at: None, retry_in: Some(seconds(600)) },
            "disconnected: x broke; next attempt in 10 min",
        ),
        (
            Event::Disconnected { reason: reason(), retry_at: None, retry_in: Some(Duration::ZERO) },
            "disconnected: x broke; next attempt now",
        ),
        (Event::Disconnected { reason: reason(), retry_at: None, retry_in: None }, "disconnected: x broke"),
        (
            Event::ClockCorrected { offset_seconds: 100 },
            "this device's clock is 100 s behind the server's; signing with the server's time",
        ),
        (
            Event::ClockCorrected { offset_seconds: -7260 },
            "this device's clock is 2 h 1 min ahead of the server's; signing with the server's time",
        ),
        (
            Event::PublicKeysReceived { count: 1 },
            "the server sent firmware keys; this device trusts 1 key now",
        ),
        (
            Event::DuplicateIdentitySuspected,
            "another connection keeps replacing this device's: do two devices share its identifier?",
        ),
        (Event::UpdateOffered { offer: OFFER, info: info() }, "offered firmware 1.2.0 (u-1, 3.0 MiB)"),
        (
            Event::UpdateRefused { info: info(), reason: reason(), retry_in: Some(seconds(3600)) },
            "put off firmware 1.2.0: x broke; the server is asked to offer it again in 60 min",
        ),
        (
            Event::UpdateRefused { info: info(), reason: reason(), retry_in: None },
            "refused firmware 1.2.0: x broke. The server decides when to offer it again, by default after a day; an \
             operator can push it before",
        ),
        (
            Event::UpdateHandedOver {
                offer: OFFER,
                info: Box::new(info()),
                url: Secret::new("https://secret"),
                public_keys: vec![],
            },
            "the application installs firmware 1.2.0",
        ),
        (
            Event::DownloadStarted { offer: OFFER, offset: 0, total: Some(3 * MIB), received: 0 },
            "download of 3.0 MiB started",
        ),
        (
            Event::DownloadStarted { offer: OFFER, offset: 2 * MIB, total: Some(3 * MIB), received: 2 * MIB },
            "download resumed at 2.0 MiB of 3.0 MiB",
        ),
        (
            Event::DownloadStarted { offer: OFFER, offset: 64 * MIB, total: Some(96 * MIB), received: 0 },
            "download of 96.0 MiB started a further part at 64.0 MiB",
        ),
        (
            Event::DownloadInterrupted {
                offer: OFFER,
                reason: reason(),
                received: 512,
                retry_in: Duration::from_millis(1500),
            },
            "download broke at 512 bytes: x broke; again in 1.5 s",
        ),
        (
            Event::PartsUnavailable { offer: OFFER, reason: reason() },
            "keeping the update in one part: x broke",
        ),
        (Event::UpdateProgress { offer: OFFER, stage: Stage::Downloading, percent: 5 }, "downloaded 5 %"),
        (Event::UpdateProgress { offer: OFFER, stage: Stage::Updating, percent: 5 }, "wrote 5 %"),
        (Event::UpdateCompleted { offer: OFFER }, "the new firmware is written and checked; it boots next"),
        (
            Event::UpdateFailed { offer: OFFER, reason: reason(), retry_in: Some(seconds(3600)) },
            "update failed, the running firmware is untouched: x broke; the server is asked to offer it again in 60 min",
        ),
        (
            Event::UpdateFailed { offer: OFFER, reason: reason(), retry_in: None },
            "update failed, the running firmware is untouched: x broke. The server decides when to offer it again, by \
             default after a day; an operator can push it before",
        ),
        (
            Event::UpdateModeChanged { mode: Some(UpdateMode::Automatic), managed_updates_allowed: true },
            "the server pushes updates",
        ),
        (
            Event::UpdateModeChanged { mode: None, managed_updates_allowed: true },
            "the server changed the update mode to one that this version doesn't know",
        ),
        (
            Event::UpdateAvailability { available: true, firmware: Some(info().firmware) },
            "an update is available: 1.2.0",
        ),
        (Event::UpdateAvailability { available: false, firmware: None }, "no update is available"),
        (
            Event::UpdateRejected { reason: RejectReason::NoUpdate, retry_in: seconds(300) },
            "asked for an update and got none: there is no newer firmware for this device now; not asking again for \
             5 min",
        ),
        (
            Event::RequestFailed { request: Request::RequestUpdate, why: RequestFailure::NotPermitted },
            "asked the server for an update, without success: an operator has not allowed it for this device",
        ),
        (
            Event::ScriptRequested { id: ScriptId(1), text: "rm".into(), timeout: seconds(10) },
            "an operator's script is run for 10 s at most",
        ),
        (
            Event::ScriptRefused { reason: "scripts are not enabled on this device".into() },
            "a script or connecting code of an operator's was not run: scripts are not enabled on this device",
        ),
        (Event::ScriptTimedOut { id: ScriptId(1) }, "an operator's script ran too long and was given up"),
        (
            Event::AlarmRaised { alarm: Alarm::HealthCheckFailed, description: reason() },
            "alarm NervesHubLink.Extensions.Health.CheckFailed raised: x broke",
        ),
        (Event::AlarmCleared { alarm: Alarm::Disconnected }, "alarm NervesHubLink.Disconnected cleared"),
        (Event::ConsoleJoined, "operators can reach the console"),
        (
            Event::ConsoleLost { reason: reason(), retry_in: seconds(5) },
            "operators can't reach the console: x broke; next attempt to join in 5.0 s",
        ),
        (
            Event::Shell(ShellEvent::Wanted {
                shell,
                kind: ShellKind::Local,
                size: WindowSize::default(),
                room: 1,
            }),
            "an operator opened a shell (local shell)",
        ),
        (
            Event::Shell(ShellEvent::Stopped { shell, why: ShellStop::Killed { signal: 15 } }),
            "a shell was closed: an operator ended it with signal 15",
        ),
        (Event::File(FileEvent::Started { file, name: "a b".into() }), "an operator sends the file \"a b\""),
        (Event::File(FileEvent::Finished { file }), "file 7 from an operator is complete"),
        (
            Event::File(FileEvent::Discarded { file, reason: reason() }),
            "file 7 from an operator was dropped: x broke",
        ),
        (
            Event::Upload(UploadEvent::Started { upload, name: "a".into() }),
            "sending the file \"a\" to operators",
        ),
        (Event::Upload(UploadEvent::Finished { upload }), "file 8 was sent to operators"),
        (
            Event::Upload(UploadEvent::Aborted { upload, reason: reason() }),
            "file 8 was not sent to operators: x broke",
        ),
        (
            Event::Archive(ArchiveEvent::Offered { archive: archive_id, info: archive() }),
            "offered archive 7 (a-1)",
        ),
        (
            Event::Archive(ArchiveEvent::Refused { info: archive(), reason: reason() }),
            "refused archive 7: x broke",
        ),
        (
            Event::Archive(ArchiveEvent::DownloadStarted {
                archive: archive_id,
                offset: 0,
                total: None,
                received: 0,
            }),
            "download of the archive started",
        ),
        (
            Event::Archive(ArchiveEvent::DownloadStarted {
                archive: archive_id,
                offset: 5,
                total: None,
                received: 5,
            }),
            "download of the archive resumed at 5 bytes",
        ),
        (
            Event::Archive(ArchiveEvent::Failed { archive: archive_id, reason: reason() }),
            "the archive failed: x broke; it is offered again after the next join",
        ),
        (Event::Archive(ArchiveEvent::Replaced { archive: archive_id }), "another archive replaces this one"),
        (
            Event::Extension(ExtensionEvent::NotAccepted { name: "metrics".into(), known: false }),
            "the server does not use the extension metrics: it is switched off there, or this server does not know it",
        ),
        (
            Event::Extension(ExtensionEvent::NotAccepted { name: "health".into(), known: true }),
            "the server does not use the extension health; an operator can switch it on for the product or the device",
        ),
        (
            Event::Extension(ExtensionEvent::ChannelLost { reason: reason(), retry_in: seconds(5) }),
            "extensions can't be reached: x broke; next attempt to join in 5.0 s",
        ),
        (
            Event::Extension(ExtensionEvent::Received {
                name: "a".into(),
                event: "b".into(),
                payload: "{}".into(),
            }),
            "the extension a received \"b\", which this program doesn't know",
        ),
        (Event::Identify, "an operator asks which device this is"),
        (Event::RebootRequested, "an operator asks for a restart"),
        (
            Event::RebootRefused { reason: reason(), retry_in: Duration::from_secs(90) },
            "an operator's restart was refused: x broke; the next is possible in 90 s (--reboots-per-hour)",
        ),
        (
            Event::RebootDelayed { reason: reason(), retry_in: Duration::from_secs(90) },
            "the restart into the new firmware waits for 90 s: x broke (--reboots-per-hour)",
        ),
        (
            Event::UpdatesFrozen { description: "no answer for 7 days".into() },
            "no answer for 7 days: look at its network, clock and credentials, and at the server (--freeze-alarm)",
        ),
        (
            Event::Unknown { topic: "device".into(), event: "e".into() },
            "ignored the event \"e\" on \"device\", which this version doesn't know",
        ),
        (Event::Malformed { reason: reason() }, "ignored a message: x broke"),
        (
            Event::InternalError { what: reason() },
            "internal error: x broke. The device stays connected; please report this with the log.",
        ),
    ];
    for (event, expected) in table {
        assert_eq!(text(event), expected);
    }
}

#[test]
fn a_refusal_is_one_line_with_its_status_once_and_the_next_attempt() {
    let refused = Event::Refused {
        status: 401,
        kind: Refusal::Credentials,
        retry_after: None,
        explanation: "The server rejected the credentials.".into(),
        retry_in: seconds(45),
    };
    let reason = String::from("the server refused the connection with HTTP 401: …");
    let gone = || Event::Disconnected { reason: reason.clone(), retry_at: None, retry_in: Some(seconds(45)) };
    let description = String::from("the server refused the connection with HTTP 401");
    let alarm = Event::AlarmRaised { alarm: Alarm::Disconnected, description };
    let lines = said(&[refused, gone(), alarm]);
    assert_eq!(
        lines,
        [
            (
                "refused",
                LogLevel::Warning,
                "the server refused the connection (HTTP 401). The server rejected the credentials. Next attempt in 45 s."
                    .to_owned()
            ),
            ("alarm", LogLevel::Info, "alarm NervesHubLink.Disconnected raised".to_owned()),
        ]
    );
    // A disconnection that follows nothing is printed.
    assert_eq!(said(&[Event::Connected, gone()]).len(), 2);
}

#[test]
fn what_comes_again_and_again_is_said_once_or_never() {
    let mut events = vec![Event::ValidationWanted; 50];
    events.extend([
        Event::Extension(ExtensionEvent::HealthRequested),
        Event::Extension(ExtensionEvent::MetricsRequested),
        Event::Extension(ExtensionEvent::LocationRequested),
        Event::Extension(ExtensionEvent::NetworkIdentitiesRequested),
        Event::Shell(ShellEvent::Input { shell: ShellId(1), data: Secret::new("password") }),
        Event::Shell(ShellEvent::Ready { shell: ShellId(1), bytes: 5 }),
        Event::Shell(ShellEvent::Resized { shell: ShellId(1), size: WindowSize::default() }),
        Event::File(FileEvent::Chunk { file: FileId(1), data: vec![1].into() }),
        Event::Upload(UploadEvent::Ready { upload: UploadId(1), bytes: 5 }),
    ]);
    let lines = said(&events);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].2.starts_with("this firmware is not marked good yet"), "{lines:?}");
}

#[test]
fn a_redirect_and_a_request_are_said_once() {
    let gone = |reason: &str| Event::Disconnected { reason: reason.into(), retry_at: None, retry_in: None };
    let events =
        [Event::Connecting { attempt: 0 }, Event::Connecting { attempt: 0 }, gone("disconnected on request")];
    let lines: Vec<String> = said(&events).into_iter().map(|(.., text)| text).collect();
    assert_eq!(lines, ["connecting", "disconnected: on request"]);
    let text = text(Event::UpdateFailed { offer: OFFER, reason: "FWUP error : no..".into(), retry_in: None });
    assert!(text.contains("FWUP error : no. The server"), "{text}");
}

#[test]
fn an_alarm_that_ends_is_no_warning() {
    let levels = |event| said(&[event])[0].1;
    let description = String::from("x");
    assert_eq!(levels(Event::AlarmRaised { alarm: Alarm::FirmwareReverted, description }), LogLevel::Warning);
    assert_eq!(levels(Event::AlarmCleared { alarm: Alarm::FirmwareReverted }), LogLevel::Info);
    let failed = Event::UpdateFailed { offer: OFFER, reason: "x".into(), retry_in: None };
    assert_eq!(levels(failed), LogLevel::Warning);
}

#[test]
fn sizes_are_said_in_the_fitting_unit() {
    let said = [0, 1023, 1024, 1536, 0x10_0000, 0x4000_0000].map(bytes);
    assert_eq!(said, ["0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 GiB"]);
}

#[test]
fn times_are_said_in_the_fitting_unit() {
    let said = [0, 9, 10, 119, 120, 125, 7200, 7260, 172_800, 180_000].map(|s| time(seconds(s)));
    assert_eq!(
        said,
        ["0.0 s", "9.0 s", "10 s", "119 s", "2 min", "2 min 5 s", "2 h", "2 h 1 min", "2 days", "2 days 2 h"]
    );
    assert_eq!((within(Duration::ZERO), within(seconds(3))), ("now".into(), "in 3.0 s".into()));
}
