//! Extensions of `run`: which are offered, and what this program feeds them.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use nerves_hub_link_blocking::Handle;
use nerves_hub_link_protocol::printable::line;
use nerves_hub_link_protocol::{
    ErrorFrame, ErrorReport, ErrorReportsConfig, ErrorSource, ExtensionCommand, ExtensionEvent,
    ExtensionsConfig, HealthConfig, LogLevel, LogLine, LoggingConfig,
};

use crate::limits::LINE_TEXT_MAX;
use crate::output::Lines;
use crate::words::within;

/// An extension that this program can feed. Location and network identities need an application of one's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Extension {
    /// How the device is doing: temperature, load, memory, disk, network interfaces.
    Health,
    /// The same numbers with the time they are of.
    Metrics,
    /// Alarms as they come and go.
    Alarms,
    /// What this program prints.
    Logging,
    /// Panics of this program.
    ErrorReports,
    /// None at all.
    None,
}

/// Where log lines and errors go once the device runs.
pub type Outlet = Arc<RwLock<Option<Handle>>>;

/// Returns the device that runs, if one does. Never waits: it is asked by whatever panics, too.
pub fn device(outlet: &Outlet) -> Option<Handle> {
    // Locked while a device starts or ends, and then none runs.
    outlet.try_read().ok()?.clone()
}

/// Returns the settings for these extensions alone.
pub fn config(wanted: &[Extension]) -> ExtensionsConfig {
    let on = |extension| wanted.contains(&extension) && !wanted.contains(&Extension::None);
    let mut config = ExtensionsConfig::default();
    (config.geo, config.network_identity) = (false, None);
    config.health = on(Extension::Health).then(HealthConfig::default);
    config.metrics = on(Extension::Metrics);
    config.alarms = on(Extension::Alarms);
    config.logging = on(Extension::Logging).then(LoggingConfig::default);
    config.error_reports = on(Extension::ErrorReports).then(ErrorReportsConfig::default);
    config
}

/// Returns the path whose file system is watched: where a device keeps its data.
pub fn data_path(given: Option<&Path>) -> PathBuf {
    let usual = [Path::new("/data"), Path::new("/")];
    let found = given.into_iter().chain(usual).find(|path| path.is_dir());
    // Not even `/` is a folder to a process without access to its root.
    found.unwrap_or(Path::new("/")).to_owned()
}

/// Sends a line of this program's to the server, if the device runs. It may be lost: what is said is worth less than
/// what is done.
pub fn log(outlet: &Outlet, level: LogLevel, kind: &str, text: &str) {
    // Lines from before the first device and after the last are only printed.
    let Some(handle) = device(outlet) else { return };
    let mut line = LogLine::new(level, text);
    line.meta.insert("kind".to_owned(), kind.to_owned());
    let _ = handle.command(ExtensionCommand::Log(line).into());
}

/// Says on standard error what panicked, without waiting for whoever reads that; and reports it to the server, if wanted.
pub fn report_panics(errors: &Lines, outlet: Option<&Outlet>) {
    let (errors, outlet) = (errors.clone(), outlet.cloned());
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current();
        let trace = Backtrace::capture();
        // Libraries start threads without one.
        let name = thread.name().unwrap_or("without a name");
        let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
        let text = format!("nerves-hub-link: a bug: the thread {name} panicked{place}: {}", panicked(info));
        errors.line(line(&text, LINE_TEXT_MAX));
        if trace.status() == BacktraceStatus::Captured {
            trace.to_string().lines().for_each(|frame| errors.line(frame));
        }
        if let Some(handle) = outlet.as_ref().and_then(device) {
            // It may be lost: a device that has stopped can report nothing.
            let _ = handle.command(ExtensionCommand::ReportError(Box::new(report(info))).into());
        }
    }));
}

/// Returns the text of a panic.
fn panicked<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    // A panic may carry any value (`panic_any`).
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

fn report(info: &PanicHookInfo<'_>) -> ErrorReport {
    let text = panicked(info);
    let frame = info.location().map(|location| ErrorFrame {
        file: Some(location.file().to_owned()),
        line: Some(location.line()),
        ..ErrorFrame::default()
    });
    ErrorReport {
        message: Some(info.to_string()),
        source: ErrorSource::Logger,
        frames: frame.into_iter().collect(),
        ..ErrorReport::new("panic", text)
    }
}

/// Says what happens with extensions. Questions of the server are nothing to mention: one comes every few minutes.
pub fn describe(event: &ExtensionEvent) -> Option<(LogLevel, String)> {
    let info = |text: String| Some((LogLevel::Info, text));
    let warning = |text: String| Some((LogLevel::Warning, text));
    match event {
        ExtensionEvent::Attached { name, version } => {
            info(format!("the server uses the extension {name} {version}"))
        }
        ExtensionEvent::Detached { name, reason } => info(format!("the extension {name} ended: {reason}")),
        ExtensionEvent::NotAccepted { name, known: true } => info(format!(
            "the server does not use the extension {name}; an operator can switch it on for the product or the device"
        )),
        ExtensionEvent::NotAccepted { name, known: false } => info(format!(
            "the server does not use the extension {name}: it is switched off there, or this server does not know it"
        )),
        ExtensionEvent::ChannelLost { reason, retry_in } => warning(format!(
            "extensions can't be reached: {reason}; next attempt to join {}",
            within(*retry_in)
        )),
        ExtensionEvent::Received { name, event, .. } => {
            info(format!("the extension {name} received {event:?}, which this program doesn't know"))
        }
        ExtensionEvent::Unanswered { name } => warning(format!(
            "the server asked the extension {name} something, and this program had no answer"
        )),
        ExtensionEvent::Problem { name, problem } => warning(format!("extension {name}: {problem}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_is_offered() {
        let health = config(&[Extension::Health]);
        assert!(health.health.is_some() && !health.geo && health.network_identity.is_none());
        assert!(
            !health.metrics && !health.alarms && health.logging.is_none() && health.error_reports.is_none()
        );
        let all =
            config(&[Extension::Metrics, Extension::Alarms, Extension::Logging, Extension::ErrorReports]);
        assert!(all.health.is_none() && all.metrics && all.alarms);
        assert!(all.logging.is_some() && all.error_reports.is_some());
        assert!(config(&[Extension::Health, Extension::None]).health.is_none());
    }

    #[test]
    fn a_panic_is_reported_with_its_place() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| drop(sender.send(report(info)))));
        let panicked = std::thread::spawn(|| panic!("no sensor {}", 7)).join();
        std::panic::set_hook(before);
        assert!(panicked.is_err());
        let report = receiver.iter().find(|report| report.reason == "no sensor 7").unwrap();
        assert_eq!((report.kind.as_str(), report.source), ("panic", ErrorSource::Logger));
        assert!(report.frames[0].file.as_deref().unwrap().ends_with("extensions.rs"));
        assert!(report.message.unwrap().contains("no sensor 7"));
    }

    #[test]
    fn the_watched_disk_is_that_of_the_data() {
        let folder = tempfile::TempDir::new().unwrap();
        assert_eq!(data_path(Some(folder.path())), folder.path());
        assert!(data_path(Some(&folder.path().join("none"))).is_dir());
        assert!(data_path(None).is_dir());
    }
}
