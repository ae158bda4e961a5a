//! The table of extensions. A new one is a variant of [`Part`] and a line in each of its methods.

use alloc::string::String;
use alloc::vec::Vec;

use super::port::Port;
use super::{Context, third_party};
use crate::config::Config;
use crate::extension::ThirdPartyExtension;
use crate::phoenix::Payload;

/// An extension the device has, and what was agreed about it. Versions are named by their place in its list, the
/// newest first.
pub(super) struct Entry {
    pub(super) part: Part,
    /// The version offered on this connection.
    pub(super) offered: Option<usize>,
    /// The version that runs. It goes on over lost connections, until the next agreement says otherwise.
    pub(super) attached: Option<usize>,
}

/// What runs behind an extension's name.
pub(super) enum Part {
    /// The application, by the place in its list.
    ThirdParty(usize),
}

/// Returns all extensions that the configuration allows.
pub(super) fn all(config: &Config) -> Vec<Entry> {
    let third_party = (0..config.extensions.third_party.len()).map(Part::ThirdParty);
    third_party.map(|part| Entry { part, offered: None, attached: None }).collect()
}

impl Entry {
    /// Returns the name on the wire. It needs no escaping.
    pub(super) fn name<'a>(&self, config: &'a Config) -> &'a str {
        match self.part {
            Part::ThirdParty(place) => third_party(config, place).map_or("", |it| it.name.as_str()),
        }
    }

    /// Returns a version by its place.
    pub(super) fn version<'a>(&self, config: &'a Config, which: usize) -> Option<&'a str> {
        match self.part {
            Part::ThirdParty(place) => third_party(config, place)?.versions.get(which).map(String::as_str),
        }
    }

    /// Returns how many versions there are.
    pub(super) fn count(&self, config: &Config) -> usize {
        match self.part {
            Part::ThirdParty(place) => third_party(config, place).map_or(0, |it| it.versions.len()),
        }
    }

    /// Returns the oldest version.
    pub(super) fn lowest(&self, config: &Config) -> Option<usize> {
        self.count(config).checked_sub(1)
    }
}

impl Part {
    /// An event arrived while the extension is attached. Returns whether it is known, or what is wrong with it.
    pub(super) fn received(
        &mut self,
        cx: &mut Context<'_>,
        _port: Port,
        event: &str,
        payload: Payload<'_>,
    ) -> Result<bool, String> {
        match self {
            Self::ThirdParty(place) => {
                let Some(extension) = third_party(cx.config, *place) else { return Ok(false) };
                third_party::received(cx, &extension.name, event, payload)?;
                Ok(true)
            }
        }
    }
}

fn third_party(config: &Config, place: usize) -> Option<&ThirdPartyExtension> {
    config.extensions.third_party.get(place)
}
