//! The table of extensions. A new one is a variant of [`Part`] and a line in each of its methods.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::{Context, EXTENSIONS, names};
use super::alarm_messages::{self, AlarmMessages};
use super::alarms::OwnAlarms;
use super::error_reports::{self, ErrorReports};
use super::geo::{self, Geo};
use super::health::{self, Health};
use super::local_shell::{self, LocalShell};
use super::logging::{self, Logging};
use super::metrics::{self, Metrics};
use super::network_identity::{self, Identities};
use super::port::Port;
use super::times::Times;
use super::{tag, third_party};
use crate::alarm::RaisedAlarm;
use crate::config::Config;
use crate::extension::ThirdPartyExtension;
use crate::fault::Fault;
use crate::phoenix::{Payload, Phoenix};
use crate::time::Instant;
use crate::timer::Earliest;

/// An extension the device has, and what was agreed about it. Versions are named by their place in its list, the
/// newest first.
pub(super) struct Entry {
    pub(super) part: Part,
    /// The version offered on this connection.
    pub(super) offered: Option<usize>,
    /// The version to offer once the device knows the time.
    pub(super) withheld: Option<usize>,
    /// The version that runs. It goes on over lost connections, until the next agreement says otherwise.
    pub(super) attached: Option<usize>,
    /// Whether the server was told so since the last join.
    pub(super) announced: bool,
}

/// What runs behind an extension's name.
pub(super) enum Part {
    Health(Box<Health>),
    Geo(Geo),
    NetworkIdentity(Box<Identities>),
    Logging(Box<Logging>),
    ErrorReports(Box<ErrorReports>),
    Metrics(Box<Metrics>),
    Alarms(Box<AlarmMessages>),
    LocalShell(Box<LocalShell>),
    /// The application, by the place in its list.
    ThirdParty(usize),
}

/// What all extensions may need to know.
pub(super) struct Around<'a> {
    pub(super) times: Times,
    /// The application's alarms.
    pub(super) own: &'a OwnAlarms,
    /// The link's own.
    pub(super) link: &'a [RaisedAlarm],
}

/// Returns all extensions that the configuration allows.
pub(super) fn all(config: &Config, now: Instant) -> Vec<Entry> {
    let on = &config.extensions;
    let built_in = [
        on.health.is_some().then(|| Part::Health(Box::default())),
        on.geo.then(|| Part::Geo(Geo::default())),
        on.network_identity.is_some().then(|| Part::NetworkIdentity(Box::default())),
        on.logging.as_ref().map(|logging| Part::Logging(Box::new(Logging::new(logging)))),
        on.error_reports.as_ref().map(|it| Part::ErrorReports(Box::new(ErrorReports::new(it, now)))),
        on.metrics.then(|| Part::Metrics(Box::new(Metrics::new()))),
        on.alarms.then(|| Part::Alarms(Box::new(AlarmMessages::new()))),
        on.local_shell.then(|| Part::LocalShell(Box::new(LocalShell::new()))),
    ];
    let third_party = (0..on.third_party.len()).map(Part::ThirdParty);
    let parts = built_in.into_iter().flatten().chain(third_party);
    parts
        .map(|part| Entry { part, offered: None, withheld: None, attached: None, announced: false })
        .collect()
}

impl Entry {
    /// Returns the name on the wire. It needs no escaping.
    pub(super) fn name<'a>(&self, config: &'a Config) -> &'a str {
        match self.part {
            Part::Health(_) => names::HEALTH,
            Part::Geo(_) => names::GEO,
            Part::NetworkIdentity(_) => names::NETWORK_IDENTITY,
            Part::Logging(_) => names::LOGGING,
            Part::ErrorReports(_) => names::ERROR_REPORTS,
            Part::Metrics(_) => names::METRICS,
            Part::Alarms(_) => names::ALARMS,
            Part::LocalShell(_) => names::LOCAL_SHELL,
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

    /// Returns whether the extension is attached, and the server knows.
    pub(super) const fn is_running(&self) -> bool {
        self.attached.is_some() && self.announced
    }

    /// Returns the way out of the extension, at this place of the table.
    pub(super) fn port(&self, wire: &Phoenix, at: usize) -> Port {
        Port::new(tag(at), self.is_running() && wire.has_joined(EXTENSIONS))
    }

    const fn built_in_versions(&self) -> &'static [&'static str] {
        match self.part {
            Part::Health(_) => health::VERSIONS,
            Part::Geo(_) => geo::VERSIONS,
            Part::NetworkIdentity(_) => network_identity::VERSIONS,
            Part::Logging(_) => logging::VERSIONS,
            Part::ErrorReports(_) => error_reports::VERSIONS,
            Part::Metrics(_) => metrics::VERSIONS,
            Part::Alarms(_) => alarm_messages::VERSIONS,
            Part::LocalShell(_) => local_shell::VERSIONS,
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

    pub(super) fn as_logging(&mut self) -> Option<&mut Logging> {
        if let Self::Logging(logging) = self { Some(logging) } else { None }
    }

    pub(super) fn as_error_reports(&mut self) -> Option<&mut ErrorReports> {
        if let Self::ErrorReports(reports) = self { Some(reports) } else { None }
    }

    pub(super) fn as_metrics(&mut self) -> Option<&mut Metrics> {
        if let Self::Metrics(metrics) = self { Some(metrics) } else { None }
    }

    pub(super) fn as_local_shell(&mut self) -> Option<&mut LocalShell> {
        if let Self::LocalShell(shell) = self { Some(shell) } else { None }
    }

    /// Returns whether the extension can be of use now.
    pub(super) const fn can_start(&self, times: Times) -> bool {
        match self {
            // Servers take the time of a sample as it is told.
            Self::Metrics(_) => times.are_known(),
            _ => true,
        }
    }

    /// The server attached the extension, in one of its versions.
    pub(super) fn started(&mut self, cx: &Context<'_>, version: usize) {
        match self {
            Self::Health(health) => health.started(cx),
            Self::NetworkIdentity(identities) => identities.started(cx),
            Self::Logging(logging) => logging.started(cx.now, version),
            Self::ErrorReports(reports) => reports.started(cx.now),
            Self::Metrics(metrics) => metrics.started(),
            // Its clock starts when the server asks.
            Self::Alarms(_) | Self::Geo(_) | Self::LocalShell(_) | Self::ThirdParty(_) => {}
        }
    }

    /// The extension was detached.
    pub(super) fn stopped(&mut self) {
        match self {
            Self::Health(health) => health.stopped(),
            Self::Geo(geo) => geo.stopped(),
            Self::NetworkIdentity(identities) => identities.stopped(),
            Self::Logging(logging) => logging.stopped(),
            Self::ErrorReports(reports) => reports.stopped(),
            Self::Metrics(metrics) => metrics.stopped(),
            Self::Alarms(alarms) => alarms.stopped(),
            Self::LocalShell(shell) => shell.stopped(),
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
            Self::Metrics(metrics) => metrics.received(cx, event, payload),
            Self::Alarms(alarms) => alarms.received(event, payload),
            Self::LocalShell(shell) => shell.received(cx, event, payload),
            // Servers never say anything to these.
            Self::Logging(_) | Self::ErrorReports(_) => Ok(false),
            Self::ThirdParty(place) => {
                let extension = third_party(cx.config, *place)
                    .ok_or_else(|| Fault::new("a message came to an extension that is not configured"))?;
                third_party::received(cx, &extension.name, event, payload)?;
                Ok(true)
            }
        }
    }

    /// Lets time pass and sends what is due.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>, port: Port, around: &Around<'_>) {
        match self {
            Self::Health(health) => health.settle(cx, port),
            Self::Geo(geo) => geo.settle(cx),
            Self::NetworkIdentity(identities) => identities.settle(cx, port),
            Self::Logging(logging) => logging.settle(cx, port, around.times),
            Self::ErrorReports(reports) => reports.settle(cx, port, around.times),
            Self::Metrics(metrics) => metrics.settle(cx, port, around.times),
            Self::Alarms(alarms) if port.is_open() => {
                alarms.settle(cx, port, around.times, &around.own.all(around.link));
            }
            Self::Alarms(alarms) => alarms.settle(cx, port, around.times, &[]),
            Self::LocalShell(shell) => shell.settle(cx),
            Self::ThirdParty(_) => {}
        }
    }

    /// Adds the timers to a deadline.
    pub(super) fn deadlines(&self, wire: &Phoenix, port: Port, deadline: &mut Earliest) {
        match self {
            Self::Health(health) => health.deadlines(deadline),
            Self::Geo(geo) => geo.deadlines(deadline),
            Self::NetworkIdentity(identities) => identities.deadlines(deadline),
            Self::Logging(logging) => logging.deadlines(deadline),
            Self::ErrorReports(reports) => reports.deadlines(deadline),
            Self::Metrics(metrics) => metrics.deadlines(deadline),
            Self::Alarms(alarms) => alarms.deadlines(deadline),
            Self::LocalShell(shell) => shell.deadlines(wire, port, deadline),
            Self::ThirdParty(_) => {}
        }
    }
}

fn third_party(config: &Config, place: usize) -> Option<&ThirdPartyExtension> {
    let found = config.extensions.third_party.get(place);
    debug_assert!(found.is_some(), "an extension of the application's has left the configuration");
    found
}
