//! Reading what the server says about extensions: its invitation, its answer, and names (device-protocol A3.2).

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value};

use super::part::Entry;
use crate::config::Config;
use crate::limits::MAX_EXTENSION_NAMES;
use crate::phoenix::Payload;

/// What the server wants to be offered.
pub(super) enum Invitation {
    /// Of each extension the best version it lists.
    These(Map<String, Value>),
    /// A server that lists nothing is an old one: of each extension the oldest version.
    Lowest,
}

/// Which extensions are meant.
pub(super) enum Names {
    All,
    These(Vec<String>),
}

/// Reads an `extensions:get`.
pub(super) fn read(payload: Payload<'_>) -> Result<Invitation, String> {
    let Value::Object(mut payload) = payload.value()? else { return Ok(Invitation::Lowest) };
    Ok(match payload.get_mut("extensions").map(Value::take) {
        None | Some(Value::Null) => Invitation::Lowest,
        Some(Value::Object(listed)) => Invitation::These(listed),
        // An answer, though not one that names anything.
        Some(_) => Invitation::These(Map::new()),
    })
}

impl Invitation {
    /// Returns which of an extension's versions to offer, if any.
    pub(super) fn choose(&self, entry: &Entry, config: &Config) -> Option<usize> {
        match self {
            Self::Lowest => entry.lowest(config),
            Self::These(listed) => {
                let listed = listed.get(entry.name(config))?.as_array()?;
                let is_listed = |version: &str| listed.iter().any(|other| other.as_str() == Some(version));
                (0..entry.count(config)).find(|which| entry.version(config, *which).is_some_and(is_listed))
            }
        }
    }
}

/// Reads the answer to the join: the names of the extensions to attach.
pub(super) fn accepted(response: Option<Payload<'_>>) -> Result<Vec<String>, String> {
    let value = response.map_or(Ok(Value::Null), Payload::value)?;
    let names = value.as_array().map(|names| names.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    match names {
        Some(Some(names)) if names.len() <= MAX_EXTENSION_NAMES => {
            Ok(names.into_iter().map(String::from).collect())
        }
        Some(Some(_)) => Err(String::from("the answer to the join of extensions names too many")),
        _ => Err(String::from("the answer to the join of extensions is no list of names")),
    }
}

/// Reads the names of an `attach` or `detach`.
pub(super) fn named(payload: Payload<'_>) -> Result<Names, String> {
    let value = payload.value()?;
    match value.get("extensions") {
        Some(Value::String(all)) if all == "all" => Ok(Names::All),
        Some(Value::String(one)) => Ok(Names::These(alloc::vec![one.clone()])),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str).take(MAX_EXTENSION_NAMES);
            Ok(Names::These(names.map(String::from).collect()))
        }
        _ => Err(String::from("attach or detach without names of extensions")),
    }
}
