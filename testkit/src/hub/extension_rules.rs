//! What the server demands of extensions: versions (device-protocol A3), pace and shape (A4 to A8).

use serde_json::Value;

use super::device::version;

/// An extension the server implements.
pub(super) struct Row {
    pub name: &'static str,
    /// Newest first. Each stands for a requirement: `~> 0.0.1` or `~> 0.1.0`.
    pub versions: &'static [&'static str],
    pub analytics: bool,
    /// What is asked of the device when the extension is attached.
    pub request: Option<&'static str>,
    /// Messages a second, and at once.
    pub pace: Option<(u64, u64)>,
}

/// Every extension of the server.
pub(super) const ROWS: [Row; 8] = [
    row("alarms", &["0.1.0"], false, Some("alarms:sync"), Some((1, 10))),
    row("error_reports", &["0.1.0"], true, None, Some((1, 5))),
    row("geo", &["0.0.1"], false, Some("geo:location:request"), None),
    row("health", &["0.0.1"], false, Some("health:check"), None),
    row("local_shell", &["0.0.1"], false, Some("local_shell:request_shell"), None),
    row("logging", &["0.1.0", "0.0.1"], true, None, Some((5, 10))),
    row("metrics", &["0.1.0"], true, Some("metrics:check"), Some((1, 5))),
    row("network_identity", &["0.0.1"], false, Some("network_identity:request"), None),
];

const fn row(
    name: &'static str,
    versions: &'static [&'static str],
    analytics: bool,
    request: Option<&'static str>,
    pace: Option<(u64, u64)>,
) -> Row {
    Row { name, versions, analytics, request, pace }
}

/// The row of an extension.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Whether the server implements this version of an extension.
pub(super) fn implements(name: &str, offered: &str, analytics: bool) -> bool {
    let Some(offered) = version(offered) else { return false };
    let (versions, needs) =
        find(name).map_or((["0.0.1"].as_slice(), false), |row| (row.versions, row.analytics));
    let fits = |requirement: &&str| match (version(requirement), offered) {
        // `~> 0.0.1` and `~> 0.1.0`: at least that, and the same middle number.
        (Some((0, minor, patch)), (0, theirs, least)) => theirs == minor && least >= patch,
        _ => false,
    };
    (analytics || !needs) && versions.iter().any(fits)
}

/// Tokens of one extension of one device.
#[derive(Debug)]
pub(super) struct Bucket {
    /// In thousandths.
    tokens: u64,
    at_ms: u64,
}

impl Bucket {
    pub const fn full(now_ms: u64, burst: u64) -> Self {
        Self { tokens: burst * 1000, at_ms: now_ms }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now_ms: u64, per_second: u64, burst: u64) -> bool {
        let grown = now_ms.saturating_sub(self.at_ms).saturating_mul(per_second);
        self.tokens = self.tokens.saturating_add(grown).min(burst * 1000);
        self.at_ms = now_ms;
        let left = self.tokens.checked_sub(1000);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }
}

/// What the server does with a message of an extension.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Takes it; so many entries past the limit are dropped.
    Taken { dropped: usize },
    /// Takes it without asking for a token: there is nothing in it.
    Empty,
    /// Drops it without charging a token.
    Refused(&'static str),
}

/// Judges the shape of a message.
pub(super) fn judge(name: &str, running: &str, event: &str, payload: &Value) -> Judgement {
    let list = |field: &str| payload.get(field).and_then(Value::as_array);
    let bounded = |field: &str, most: usize| match list(field) {
        Some(list) if list.is_empty() => Judgement::Empty,
        Some(list) => Judgement::Taken { dropped: list.len().saturating_sub(most) },
        None => Judgement::Refused("it is no list"),
    };
    match (name, event) {
        ("logging", "send") if running == "0.0.1" => match (time_of(payload), text(payload, "message")) {
            (true, true) => Judgement::Taken { dropped: 0 },
            (true, false) => Judgement::Refused("a line without message"),
            (false, _) => Judgement::Refused("a line without time"),
        },
        ("logging", "send") => bounded("lines", 100),
        ("error_reports", "report") => bounded("reports", 25),
        ("metrics", "report") => bounded("reports", 60),
        ("alarms", "snapshot") => match list("alarms") {
            Some(alarms) if alarms.iter().all(|alarm| text(alarm, "alarm")) => {
                Judgement::Taken { dropped: 0 }
            }
            _ => Judgement::Refused("not every alarm has a name"),
        },
        ("alarms", "raised" | "cleared") if !text(payload, "alarm") => {
            Judgement::Refused("an alarm without name")
        }
        ("network_identity", "report") => bounded("identities", 10),
        ("geo", "location:update") if !payload.is_object() => Judgement::Refused("no location"),
        _ => Judgement::Taken { dropped: 0 },
    }
}

fn text(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(Value::is_string)
}

fn time_of(line: &Value) -> bool {
    let micros = line.get("meta").and_then(|meta| meta.get("time")).and_then(Value::as_str);
    text(line, "timestamp") || micros.is_some_and(|micros| micros.parse::<u64>().is_ok())
}
