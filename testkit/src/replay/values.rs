//! The payloads of a recorded device, as the values that its program must have had.

use std::collections::BTreeMap;

use nerves_hub_link_protocol::{
    Connectivity, HealthCheck, HealthReport, InterfaceKind, Location, LocationError, NetworkIdentity, Reach,
    UnixMicros,
};
use serde_json::Value;

use super::recording::unix_micros;

/// What a text on the console is.
pub enum Notice<'a> {
    /// Output of the shell.
    None,
    /// Words of the link: it restarts the shell, or ends it as nobody uses it.
    OfTheLink,
    /// Words of the link: the shell stopped, and why.
    Stopped(&'a str),
}

/// Tells the link's words from a shell's.
pub fn notice(data: &str) -> Notice<'_> {
    if let Some(rest) = data.split_once("Remote IEx stopped: ").map(|(_, rest)| rest) {
        return Notice::Stopped(rest.trim_end_matches(['*', '\r', '\n', ' ']));
    }
    let link = data.contains("*** Restarting IEx ***") || is_idle_notice(data);
    if link { Notice::OfTheLink } else { Notice::None }
}

/// Returns whether a text says that the shell was stopped as nobody used it.
pub fn is_idle_notice(data: &str) -> bool {
    data.contains("Session timeout due to inactivity")
}

/// Reads the value of a health report. `None` if the device had none to tell.
pub fn health(value: &Value) -> Option<HealthReport> {
    let fields = value.as_object()?;
    let texts = |name: &str| text_map(fields.get(name));
    let check = |value: &Value| HealthCheck {
        pass: value.get("pass").and_then(Value::as_bool).unwrap_or_default(),
        note: text(value, "note"),
    };
    Some(HealthReport {
        timestamp: timestamp(fields.get("timestamp")),
        metadata: texts("metadata"),
        // The link's own are told by the machine.
        alarms: texts("alarms").into_iter().filter(|(name, _)| !name.starts_with("NervesHubLink.")).collect(),
        metrics: numbers(fields.get("metrics")),
        checks: map(fields.get("checks"), check),
        connectivity: map(fields.get("connectivity"), connectivity),
    })
}

/// Reads a location, or why there is none.
pub fn location(payload: &Value) -> Result<Location, LocationError> {
    let number = |name: &str| payload.get(name).and_then(Value::as_f64);
    match (number("latitude"), number("longitude")) {
        (Some(latitude), Some(longitude)) => Ok(Location {
            source: text(payload, "source"),
            latitude,
            longitude,
            accuracy: payload.get("accuracy").and_then(Value::as_u64).and_then(|a| u32::try_from(a).ok()),
        }),
        _ => Err(LocationError {
            code: text(payload, "error_code"),
            description: text(payload, "error_description"),
        }),
    }
}

/// Reads a list of network identities.
pub fn identities(payload: &Value) -> Vec<NetworkIdentity> {
    let list = payload.get("identities").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let identity = |value: &Value| NetworkIdentity {
        service: text(value, "service"),
        instance: value.get("instance").and_then(Value::as_str).map(str::to_owned),
        identifier: text(value, "identifier"),
        details: value.get("details").map_or_else(|| "{}".to_owned(), Value::to_string),
    };
    list.iter().map(identity).collect()
}

fn connectivity(value: &Value) -> Connectivity {
    let kind = match text(value, "type").as_str() {
        "ethernet" => InterfaceKind::Ethernet,
        "wifi" => InterfaceKind::Wifi,
        "mobile" => InterfaceKind::Mobile,
        "local" => InterfaceKind::Local,
        _ => InterfaceKind::Unknown,
    };
    let reach = match text(value, "connection_status").as_str() {
        "lan" => Reach::Lan,
        "internet" => Reach::Internet,
        _ => Reach::Disconnected,
    };
    Connectivity {
        kind,
        present: value.get("present").and_then(Value::as_bool).unwrap_or_default(),
        state: text(value, "state"),
        reach,
        metrics: numbers(value.get("metrics")),
        metadata: text_map(value.get("metadata")),
    }
}

/// A time as text, or as MessagePack has it.
fn timestamp(value: Option<&Value>) -> Option<UnixMicros> {
    let text = value?.as_str().or_else(|| value?.get("$msgpack_timestamp")?.as_str())?;
    unix_micros(text).map(UnixMicros)
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn map<T>(value: Option<&Value>, read: impl Fn(&Value) -> T) -> BTreeMap<String, T> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    fields.map(|(name, value)| (name.clone(), read(value))).collect()
}

fn text_map(value: Option<&Value>) -> BTreeMap<String, String> {
    map(value, |value| value.as_str().unwrap_or_default().to_owned())
}

fn numbers(value: Option<&Value>) -> BTreeMap<String, f64> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect()
}
