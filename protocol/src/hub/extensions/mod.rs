//! The extensions channel (device-protocol §5.1, A3): what is offered, attached and detached, and the way
//! of messages to and from each extension.

mod alarm_messages;
mod alarms;
mod backlog;
mod bucket;
mod commands;
mod error_reports;
mod geo;
mod health;
mod local_shell;
mod logging;
mod measure;
mod metrics;
mod negotiation;
mod network_identity;
mod pace;
mod part;
mod port;
mod question;
mod strangers;
mod third_party;
mod times;

use crate::fault::Fault;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Map, Value, json};

use super::{Context, EXTENSIONS, names, payload};
use crate::alarm::RaisedAlarm;
use crate::config::Config;
use crate::event::Event;
use crate::extension::{ExtensionEvent, ExtensionStatus};
use crate::ids::SocketId;
use crate::limits::{MAX_THIRD_PARTY_EXTENSIONS, UNINVITED_WAIT};
use crate::phoenix::{Class, Payload, Phoenix, Tag};
use crate::time::Instant;
use crate::timer::{Earliest, Timer};
use alarms::OwnAlarms;
use negotiation::{Invitation, Names};
use part::{Around, Entry, Part};
use port::Port;
use strangers::Strangers;
use times::Times;

/// The server's word for an extension it doesn't want to hear of.
const DETACH: &str = "detach";
/// The tag of what is said about extensions the device doesn't know.
const NOBODY: Tag = Tag::MAX;

/// All extensions of a device.
pub(crate) struct Extensions {
    entries: Vec<Entry>,
    /// The connection that the present offer belongs to.
    socket: Option<SocketId>,
    /// Whether the server asked for an offer on this connection.
    invited: bool,
    /// Whether it listed what it knows: then nothing else is offered.
    listed: bool,
    /// When to offer without being asked.
    fallback: Option<Instant>,
    times: Times,
    own_alarms: OwnAlarms,
    dropped: Dropped,
}

/// What was dropped so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Dropped {
    pub(crate) log_lines: u64,
    pub(crate) error_reports: u64,
    pub(crate) samples: u64,
}

impl Extensions {
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        Self {
            entries: part::all(config, now),
            socket: None,
            invited: false,
            listed: false,
            fallback: None,
            times: Times::default(),
            own_alarms: OwnAlarms::default(),
            dropped: Dropped::default(),
        }
    }

    /// The device channel was joined.
    pub(crate) fn device_joined(&mut self, cx: &Context<'_>) {
        if cx.config.extensions.join_uninvited && !self.invited {
            self.fallback = Some(cx.now + UNINVITED_WAIT);
        }
    }

    /// The server asks what the device can do.
    pub(crate) fn invited(&mut self, cx: &mut Context<'_>, payload: Payload<'_>) -> Result<(), String> {
        let invitation = negotiation::read(payload)?;
        self.offer(cx, &invitation);
        Ok(())
    }

    /// Returns the parameters of the join: the version of each extension that is offered.
    pub(crate) fn join_params(&self, config: &Config) -> Value {
        let offered = self.entries.iter().filter_map(|entry| {
            let version = entry.version(config, entry.offered?)?;
            Some((String::from(entry.name(config)), Value::from(version)))
        });
        Value::Object(offered.collect::<Map<_, _>>())
    }

    /// The server took the offer, or a part of it.
    pub(crate) fn joined(
        &mut self,
        cx: &mut Context<'_>,
        response: Option<Payload<'_>>,
    ) -> Result<(), String> {
        let names = negotiation::accepted(response)?;
        for at in 0..self.entries.len() {
            let Some(entry) = self.entries.get(at).filter(|entry| entry.offered.is_some()) else {
                self.stop(cx, at, "it is not offered any more");
                continue;
            };
            let name = entry.name(cx.config);
            if !names.iter().any(|accepted| accepted == name) {
                let (name, known) = (String::from(name), self.listed);
                self.stop(cx, at, "the server left it out");
                tell(cx, ExtensionEvent::NotAccepted { name, known });
            }
        }
        let mut strangers = Strangers::default();
        for name in &names {
            match self.find(cx.config, name).filter(|at| self.is_offered(*at)) {
                Some(at) => self.attach(cx, at),
                None => strangers.refuse(cx, name),
            }
        }
        strangers.result()
    }

    /// The channel was refused or lost; it is joined again with the same offer.
    pub(crate) fn lost(&mut self, cx: &mut Context<'_>, reason: String, retry_in: Duration) {
        // What waits was meant for the join that is gone.
        cx.wire.discard_topic(EXTENSIONS);
        self.forget_announcements();
        tell(cx, ExtensionEvent::ChannelLost { reason, retry_in });
    }

    /// An event arrived. Returns whether it is known, or what is wrong with it.
    pub(crate) fn received(
        &mut self,
        cx: &mut Context<'_>,
        event: &str,
        payload: Payload<'_>,
    ) -> Result<bool, String> {
        match event {
            names::ATTACH => self.attach_named(cx, &negotiation::named(payload)?)?,
            names::DETACH => self.detach_named(cx, &negotiation::named(payload)?),
            _ => {
                // The rest may hold colons of its own.
                let Some((name, event)) = event.split_once(':') else { return Ok(false) };
                let Some(at) = self.find(cx.config, name) else { return Ok(false) };
                let port = self.port(cx.wire, at);
                // The server may not have heard yet that it is detached.
                let Some(entry) = self.entries.get_mut(at).filter(|_| port.is_open()) else {
                    return Ok(false);
                };
                return entry.part.received(cx, event, payload);
            }
        }
        Ok(true)
    }

    /// The server answered a push with an error. Returns whether that push is known.
    pub(crate) fn rejected(&mut self, cx: &mut Context<'_>, tag: Option<Tag>, reason: &str) -> bool {
        let Some(at) = tag.map(usize::from).filter(|at| *at < self.entries.len()) else { return false };
        if reason == DETACH {
            self.stop(cx, at, "the server does not want to hear of it");
        } else if let Some(entry) = self.entries.get(at) {
            let name = entry.name(cx.config);
            problem(cx, name, format!("the server answered with an error: {reason}"));
        }
        true
    }

    /// Returns why the last health report failed, if it did.
    pub(crate) fn health_failure(&self) -> Option<&str> {
        self.entries.iter().find_map(|entry| match &entry.part {
            Part::Health(health) => health.failure(),
            _ => None,
        })
    }

    /// Lets time pass and sends what is due. `socket` is the connection that is up.
    /// `link` are the link's own alarms.
    pub(crate) fn settle(&mut self, cx: &mut Context<'_>, socket: Option<SocketId>, link: &[RaisedAlarm]) {
        if self.socket != socket {
            // Every connection has its own offer, and none is made before the server asked.
            self.socket = socket;
            (self.invited, self.fallback) = (false, None);
            self.forget_announcements();
            cx.wire.unwant(EXTENSIONS);
        }
        self.times.look(cx.now, cx.wall);
        if self.fallback.take_if(|at| *at <= cx.now).is_some() {
            self.offer(cx, &Invitation::Lowest);
        }
        if self.invited && self.times.are_known() && self.entries.iter().any(|it| it.withheld.is_some()) {
            for entry in &mut self.entries {
                entry.offered = entry.withheld.take().or(entry.offered);
            }
            self.join(cx);
        }
        let around = Around { times: self.times, own: &self.own_alarms, link };
        for (at, entry) in self.entries.iter_mut().enumerate() {
            let port = entry.port(cx.wire, at);
            entry.part.settle(cx, port, &around);
            if let Part::Metrics(metrics) = &mut entry.part {
                self.dropped.samples = self.dropped.samples.saturating_add(metrics.take_stale());
            }
        }
    }

    /// Hands what a shell wrote to the wire, as far as it may be sent now.
    pub(crate) fn fill(&mut self, cx: &mut Context<'_>) {
        for (at, entry) in self.entries.iter_mut().enumerate() {
            let port = entry.port(cx.wire, at);
            if let Some(shell) = entry.part.as_local_shell() {
                shell.fill(cx, port);
            }
        }
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, wire: &Phoenix, deadline: &mut Earliest) {
        if let Some(at) = self.fallback {
            deadline.at(Timer::Extensions, at);
        }
        for (at, entry) in self.entries.iter().enumerate() {
            entry.part.deadlines(wire, entry.port(wire, at), deadline);
        }
    }

    /// Returns what became of each extension.
    pub(crate) fn status(&self, config: &Config) -> Vec<ExtensionStatus> {
        let status = |entry: &Entry| ExtensionStatus {
            name: String::from(entry.name(config)),
            version: entry
                .attached
                .or(entry.offered)
                .and_then(|which| entry.version(config, which))
                .map(String::from),
            attached: entry.attached.is_some(),
        };
        self.entries.iter().map(status).collect()
    }

    /// Chooses the versions and joins with them.
    fn offer(&mut self, cx: &mut Context<'_>, invitation: &Invitation) {
        (self.invited, self.fallback) = (true, None);
        self.listed = matches!(invitation, Invitation::These(_));
        for entry in &mut self.entries {
            // A shell is for a server that proved who it is.
            let allowed = cx.wire.is_trusted() || entry.part.as_local_shell().is_none();
            let chosen = invitation.choose(entry, cx.config).filter(|_| allowed);
            if allowed && chosen.is_none() && self.listed {
                let name = String::from(entry.name(cx.config));
                tell(cx, ExtensionEvent::NotAccepted { name, known: false });
            }
            let now = entry.part.can_start(self.times);
            (entry.offered, entry.withheld) = if now { (chosen, None) } else { (None, chosen) };
        }
        self.join(cx);
    }

    /// Joins, once more if need be. What is offered is asked for when the join is sent.
    fn join(&mut self, cx: &mut Context<'_>) {
        self.forget_announcements();
        cx.wire.discard_topic(EXTENSIONS);
        cx.wire.want(cx.now, EXTENSIONS);
    }

    /// With a join ends what the server was told; extensions go on, but say nothing until it is told anew.
    fn forget_announcements(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.announced = false);
    }

    fn attach_named(&mut self, cx: &mut Context<'_>, names: &Names) -> Result<(), String> {
        match names {
            Names::All => {
                for at in 0..self.entries.len() {
                    if self.is_offered(at) {
                        self.attach(cx, at);
                    }
                }
            }
            Names::These(names) => {
                let mut strangers = Strangers::default();
                for name in names {
                    match self.find(cx.config, name) {
                        Some(at) => self.attach(cx, at),
                        None => strangers.refuse(cx, name),
                    }
                }
                return strangers.result();
            }
        }
        Ok(())
    }

    fn detach_named(&mut self, cx: &mut Context<'_>, names: &Names) {
        for at in 0..self.entries.len() {
            let Some(entry) = self.entry(at) else { return };
            let attached = entry.attached.is_some();
            let meant = match names {
                Names::All => attached,
                Names::These(names) => names.iter().any(|name| name == entry.name(cx.config)),
            };
            if meant {
                self.stop(cx, at, "the server wants it so");
                // Also for one that was detached: the server seems not to know.
                self.announce(cx, at, names::DETACHED);
            }
        }
    }

    /// Starts an extension, or goes on with it, and says so.
    fn attach(&mut self, cx: &mut Context<'_>, at: usize) {
        if !cx.wire.has_joined(EXTENSIONS) {
            return;
        }
        let Some(entry) = self.entry(at) else { return };
        // By hand, and not negotiated: the oldest version, which every server knows.
        let version = entry.offered.or_else(|| entry.lowest(cx.config));
        let named = version.and_then(|version| Some((version, entry.version(cx.config, version)?)));
        let Some((version, version_name)) = named else {
            Fault::new("a version of an extension was agreed on that does not exist").report(cx.out);
            return self.announce_error(cx, at, "internal error");
        };
        if !entry.part.can_start(self.times) {
            self.announce_error(cx, at, "the device doesn't know the time");
            return;
        }
        let running = entry.attached;
        if running.is_some_and(|running| running != version) {
            self.stop(cx, at, "another version of it was agreed on");
        }
        self.announce(cx, at, names::ATTACHED);
        let Some(entry) = self.entry_mut(at) else { return };
        (entry.attached, entry.announced) = (Some(version), true);
        if running != Some(version) {
            entry.part.started(cx, version);
            let name = String::from(entry.name(cx.config));
            let version = String::from(version_name);
            tell(cx, ExtensionEvent::Attached { name, version });
        }
    }

    /// Stops an extension without a word to the server. Returns whether it was attached.
    fn stop(&mut self, cx: &mut Context<'_>, at: usize, reason: &str) -> bool {
        let Some(entry) = self.entry_mut(at) else { return false };
        let attached = entry.attached.take().is_some();
        if attached {
            entry.part.stopped();
            cx.wire.discard_tag(EXTENSIONS, tag(at));
            let name = String::from(entry.name(cx.config));
            tell(cx, ExtensionEvent::Detached { name, reason: String::from(reason) });
        }
        attached
    }

    /// Tells the server what became of an extension.
    fn announce(&self, cx: &mut Context<'_>, at: usize, what: &str) {
        if let Some(entry) = self.entry(at)
            && cx.wire.has_joined(EXTENSIONS)
        {
            let event = Cow::Owned(format!("{}:{what}", entry.name(cx.config)));
            cx.wire.push_to(EXTENSIONS, tag(at), event, payload::empty(), Class::Session);
        }
    }

    /// Tells the server that an extension could not be started.
    fn announce_error(&self, cx: &mut Context<'_>, at: usize, why: &str) {
        if let Some(entry) = self.entry(at) {
            let name = entry.name(cx.config);
            let event = Cow::Owned(format!("{name}:{}", names::ERROR));
            problem(cx, name, format!("it could not be started: {why}"));
            cx.wire.push_to(EXTENSIONS, tag(at), event, json!({"reason": "start_failure"}), Class::Session);
        }
    }

    /// Returns whether alarms have a way of their own.
    fn tells_alarms(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.part, Part::Alarms(_)) && entry.is_running())
    }

    /// Returns what was dropped so far.
    pub(crate) const fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn port(&self, wire: &Phoenix, at: usize) -> Port {
        self.entry(at).map_or(Port::new(NOBODY, false), |entry| entry.port(wire, at))
    }

    fn is_offered(&self, at: usize) -> bool {
        self.entry(at).is_some_and(|entry| entry.offered.is_some())
    }

    /// Returns an extension by a place that was found in the table, which never changes.
    fn entry(&self, at: usize) -> Option<&Entry> {
        let entry = self.entries.get(at);
        debug_assert!(entry.is_some(), "no extension is at place {at}");
        entry
    }

    fn entry_mut(&mut self, at: usize) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(at);
        debug_assert!(entry.is_some(), "no extension is at place {at}");
        entry
    }

    fn find(&self, config: &Config, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name(config) == name)
    }
}

/// Tells the application.
fn tell(cx: &mut Context<'_>, event: ExtensionEvent) {
    cx.out.event_if_room(Event::Extension(event));
}

/// Tells the application what went wrong.
fn problem(cx: &mut Context<'_>, name: &str, problem: impl Into<String>) {
    tell(cx, ExtensionEvent::Problem { name: String::from(name), problem: problem.into() });
}

/// The tag of an extension's pushes: its place.
fn tag(at: usize) -> Tag {
    const { assert!(names::BUILT_IN_EXTENSIONS.len() + MAX_THIRD_PARTY_EXTENSIONS < 0xff, "each has a tag") };
    // The configuration bounds the table.
    Tag::try_from(at).unwrap_or(NOBODY)
}
