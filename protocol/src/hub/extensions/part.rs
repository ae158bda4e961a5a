//! The table of extensions. A new one is a variant of [`Part`] and a line in each of its methods.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::{Context, EXTENSIONS, names};
use super::geo::{self, Geo};
use super::health::{self, Health};
use super::network_identity::{self, Identities};
use super::port::Port;
use super::{tag, third_party};
use crate::config::Config;
use crate::extension::ThirdPartyExtension;
use crate::phoenix::{Payload, Phoenix};
use crate::timer::Earliest;

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
    Health(Box<Health>),
    Geo(Geo),
    NetworkIdentity(Box<Identities>),
    /// The application, by the place in its list.
    ThirdParty(usize),
}

/// Returns all extensions that the configuration allows.
pub(super) fn all(config: &Config) -> Vec<Entry> {
    let on = &config.extensions;
    let built_in = [
        on.health.is_some().then(|| Part::Health(Box::default())),
        on.geo.then(|| Part::Geo(Geo::default())),
        on.network_identity.is_some().then(|| Part::NetworkIdentity(Box::default())),
    ];
    let third_party = (0..on.third_party.len()).map(Part::ThirdParty);
    let parts = built_in.into_iter().flatten().chain(third_party);
    parts.map(|part| Entry { part, offered: None, attached: None }).collect()
}

impl Entry {
    /// Returns the name on the wire. It needs no escaping.
    pub(super) fn name<'a>(&self, config: &'a Config) -> &'a str {
        match self.part {
            Part::Health(_) => names::HEALTH,
            Part::Geo(_) => names::GEO,
            Part::NetworkIdentity(_) => names::NETWORK_IDENTITY,
            Part::ThirdParty(place) => third_party(config, place).map_or("", |it| it.name.as_str()),
        }
    }

    /// Returns a version by its place.
    pub(super) fn version<'a>(&self, config: &'a Config, which: usize) -> Option<&'a str> {
        match self.part {
            Part::ThirdParty(place) => third_party(config, place)?.versions.get(which).map(String::as_str),
            _ => self.built_in_versions().get(which).copied(),
        }
    }

    /// Returns how many versions there are.
    pub(super) fn count(&self, config: &Config) -> usize {
        match self.part {
            Part::ThirdParty(place) => third_party(config, place).map_or(0, |it| it.versions.len()),
            _ => self.built_in_versions().len(),
        }
    }

    /// Returns the oldest version.
    pub(super) fn lowest(&self, config: &Config) -> Option<usize> {
        self.count(config).checked_sub(1)
    }

    /// Returns the way out of the extension, at this place of the table.
    pub(super) fn port(&self, wire: &Phoenix, at: usize) -> Port {
        Port::new(tag(at), self.attached.is_some() && wire.has_joined(EXTENSIONS))
    }

    const fn built_in_versions(&self) -> &'static [&'static str] {
        match self.part {
            Part::Health(_) => health::VERSIONS,
            Part::Geo(_) => geo::VERSIONS,
            Part::NetworkIdentity(_) => network_identity::VERSIONS,
            Part::ThirdParty(_) => &[],
        }
    }
}

impl Part {
    pub(super) fn as_health(&mut self) -> Option<&mut Health> {
        if let Self::Health(health) = self { Some(health) } else { None }
    }

    pub(super) const fn as_geo(&mut self) -> Option<&mut Geo> {
        if let Self::Geo(geo) = self { Some(geo) } else { None }
    }

    pub(super) fn as_identities(&mut self) -> Option<&mut Identities> {
        if let Self::NetworkIdentity(identities) = self { Some(identities) } else { None }
    }

    /// The server attached the extension.
    pub(super) fn started(&mut self, cx: &Context<'_>) {
        match self {
            Self::Health(health) => health.started(cx),
            Self::NetworkIdentity(identities) => identities.started(cx),
            Self::Geo(_) | Self::ThirdParty(_) => {}
        }
    }

    /// The extension was detached.
    pub(super) const fn stopped(&mut self) {
        match self {
            Self::Health(health) => health.stopped(),
            Self::Geo(geo) => geo.stopped(),
            Self::NetworkIdentity(identities) => identities.stopped(),
            Self::ThirdParty(_) => {}
        }
    }

    /// An event arrived while the extension is attached. Returns whether it is known, or what is wrong with it.
    pub(super) fn received(
        &mut self,
        cx: &mut Context<'_>,
        event: &str,
        payload: Payload<'_>,
    ) -> Result<bool, String> {
        match self {
            Self::Health(health) => health.received(cx, event, payload),
            Self::Geo(geo) => geo.received(cx, event, payload),
            Self::NetworkIdentity(identities) => identities.received(cx, event, payload),
            Self::ThirdParty(place) => {
                let Some(extension) = third_party(cx.config, *place) else { return Ok(false) };
                third_party::received(cx, &extension.name, event, payload)?;
                Ok(true)
            }
        }
    }

    /// Lets time pass and sends what is due.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>, port: Port) {
        match self {
            Self::Health(health) => health.settle(cx, port),
            Self::Geo(geo) => geo.settle(cx),
            Self::NetworkIdentity(identities) => identities.settle(cx, port),
            Self::ThirdParty(_) => {}
        }
    }

    /// Adds the timers to a deadline.
    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        match self {
            Self::Health(health) => health.deadlines(deadline),
            Self::Geo(geo) => geo.deadlines(deadline),
            Self::NetworkIdentity(identities) => identities.deadlines(deadline),
            Self::ThirdParty(_) => {}
        }
    }
}

fn third_party(config: &Config, place: usize) -> Option<&ThirdPartyExtension> {
    config.extensions.third_party.get(place)
}
