//! Who the device is in overlay networks (device-protocol §5.5): all of it when the server asks, and what changed when
//! the device looks itself.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::super::{Context, names};
use super::port::Port;
use super::problem;
use super::question::{Question, unanswered};
use crate::command::CommandError;
use crate::extension::{ExtensionEvent, NetworkIdentity};
use crate::limits::{
    MAX_DETAILS_BYTES, MAX_IDENTITIES, MAX_IDENTITIES_PER_MESSAGE, MAX_IDENTITY_CHARS, MIN_EXTENSION_INTERVAL,
};
use crate::phoenix::{Class, Payload};
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

/// Versions, the newest first.
pub(super) const VERSIONS: &[&str] = &["0.0.1"];

/// Asks the application and sends what is new.
#[derive(Default)]
pub(super) struct Identities {
    asked: Question,
    /// Whether the server asked, and wants all of it.
    everything: bool,
    /// When to look for changes.
    next: Option<Instant>,
    /// What the server knows.
    sent: Vec<Known>,
}

/// An identity as it was sent.
struct Known {
    /// Service and instance, by which servers tell identities apart.
    key: (String, String),
    digest: [u8; 32],
}

impl Identities {
    pub(super) fn started(&mut self, cx: &Context<'_>) {
        self.next = interval(cx).map(|interval| cx.now + interval);
    }

    pub(super) const fn stopped(&mut self) {
        self.asked.close();
        self.everything = false;
        self.next = None;
    }

    pub(super) fn received(
        &mut self,
        cx: &mut Context<'_>,
        event: &str,
        payload: Payload<'_>,
    ) -> Result<bool, String> {
        let known = event == names::REQUEST;
        if known {
            payload.ignore()?;
            self.everything = true;
            self.asked.ask(cx, ExtensionEvent::NetworkIdentitiesRequested);
        }
        Ok(known)
    }

    pub(super) fn settle(&mut self, cx: &mut Context<'_>, port: Port) {
        // A device without identities may be silent about it, except to a server that wants to know.
        if self.asked.expire(cx.now) && core::mem::take(&mut self.everything) {
            unanswered(cx, names::NETWORK_IDENTITY);
        }
        if self.next.is_some_and(|next| next <= cx.now) {
            self.started(cx);
            if port.is_open() {
                self.asked.ask(cx, ExtensionEvent::NetworkIdentitiesRequested);
            }
        }
    }

    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        self.asked.deadlines(deadline);
        if let Some(next) = self.next {
            deadline.at(Timer::NetworkIdentity, next);
        }
    }

    /// The application lists all identities. Unasked, all of them are sent.
    pub(super) fn list(
        &mut self,
        cx: &mut Context<'_>,
        port: Port,
        identities: &[NetworkIdentity],
    ) -> Result<(), CommandError> {
        port.require()?;
        let all = self.everything || !self.asked.is_open();
        self.asked.close();
        self.everything = false;
        let (mut snapshot, mut news): (Vec<Known>, Vec<Value>) = (Vec::new(), Vec::new());
        for (place, identity) in (1_usize..).zip(identities) {
            let wrong = match read(identity) {
                Err(wrong) => wrong,
                Ok((known, _)) if snapshot.iter().any(|other| other.key == known.key) => {
                    "another one has the same service and instance"
                }
                Ok(_) if snapshot.len() >= MAX_IDENTITIES => "there are too many",
                Ok((known, value)) => {
                    if all || !self.sent.iter().any(|sent| sent.same(&known)) {
                        news.push(value);
                    }
                    snapshot.push(known);
                    continue;
                }
            };
            problem(cx, names::NETWORK_IDENTITY, format!("identity {place} left out: {wrong}"));
            if place > MAX_IDENTITIES {
                break;
            }
        }
        // One that is missing is forgotten, and sent again when it returns.
        self.sent = snapshot;
        for some in news.chunks(MAX_IDENTITIES_PER_MESSAGE) {
            send(cx, port, some);
        }
        Ok(())
    }

    /// The application tells one identity, to be sent now.
    pub(super) fn one(
        &mut self,
        cx: &mut Context<'_>,
        port: Port,
        identity: &NetworkIdentity,
    ) -> Result<(), CommandError> {
        let (known, value) = read(identity).map_err(CommandError::Unusable)?;
        port.require()?;
        self.sent.retain(|sent| sent.key != known.key);
        if self.sent.len() < MAX_IDENTITIES {
            self.sent.push(known);
        }
        send(cx, port, &[value]);
        Ok(())
    }
}

impl Known {
    fn same(&self, other: &Self) -> bool {
        self.key == other.key && self.digest == other.digest
    }
}

fn send(cx: &mut Context<'_>, port: Port, identities: &[Value]) {
    port.send(cx, names::NETWORK_IDENTITY_REPORT, json!({"identities": identities}), Class::Session);
}

/// Returns an identity as it is sent, or what is wrong with it.
fn read(identity: &NetworkIdentity) -> Result<(Known, Value), &'static str> {
    let NetworkIdentity { service, instance, identifier, details } = identity;
    let fits = |text: &str| (1..=MAX_IDENTITY_CHARS).contains(&text.chars().count());
    if !fits(service) {
        return Err("the service must have 1 to 255 characters");
    }
    if identifier.trim().is_empty() || !fits(identifier) {
        return Err("the identifier must have 1 to 255 characters");
    }
    // A blank name is none, and must not be sent.
    let instance = instance.as_deref().filter(|instance| !instance.trim().is_empty());
    if instance.is_some_and(|instance| !fits(instance)) {
        return Err("the instance must have 1 to 255 characters");
    }
    if details.len() > MAX_DETAILS_BYTES {
        return Err("the details have more than 4,096 bytes");
    }
    let Ok(details @ Value::Object(_)) = serde_json::from_str(details) else {
        return Err("the details are not a JSON object");
    };
    if format!("{details}").len() > MAX_DETAILS_BYTES {
        return Err("the details have more than 4,096 bytes");
    }
    let mut value = json!({"service": service, "identifier": identifier, "details": details});
    if let (Some(instance), Some(fields)) = (instance, value.as_object_mut()) {
        fields.insert(String::from("instance"), Value::from(instance));
    }
    let digest = Sha256::digest(format!("{value}")).into();
    // A service without instances counts as its only one.
    let key = (service.clone(), String::from(instance.unwrap_or_default()));
    Ok((Known { key, digest }, value))
}

fn interval(cx: &Context<'_>) -> Option<Duration> {
    let interval = cx.config.extensions.network_identity.as_ref()?.interval;
    (!interval.is_zero()).then(|| interval.max(MIN_EXTENSION_INTERVAL))
}
