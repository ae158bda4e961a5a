//! Whose message answers whose: numbers in a recording are the recorded device's, not the machine's.

use std::collections::BTreeMap;

use super::recording::Envelope;

/// The messages of both devices, by connection and meaning.
#[derive(Default)]
pub struct Refs {
    theirs: BTreeMap<u64, Vec<(String, Numbers)>>,
    ours: BTreeMap<u64, BTreeMap<String, Vec<Numbers>>>,
}

#[derive(Clone, PartialEq)]
struct Numbers {
    join_ref: Option<String>,
    reference: Option<String>,
}

/// Which of the device's messages a message of the server belongs to.
#[derive(Debug, PartialEq)]
pub enum Address {
    /// To none.
    Nobody,
    /// To one: its meaning, and how many of that meaning came before it on the connection.
    Awaited {
        /// The meaning.
        key: String,
        /// How many came before.
        nth: usize,
    },
}

/// Returns what a device's message means: messages of the same meaning are compared with each other.
pub fn key(envelope: &Envelope) -> String {
    let word = |name: &str| envelope.payload.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let more = match envelope.event.as_str() {
        "status_update" => word("status"),
        "fwup_progress" | "update_progress" => word("stage"),
        "scripts/run" => word("ref"),
        _ => "",
    };
    format!("{} {} {more}", envelope.topic, envelope.event).trim_end().to_owned()
}

impl Refs {
    /// The recorded device said something.
    pub fn theirs(&mut self, conn: u64, envelope: &Envelope) {
        self.theirs.entry(conn).or_default().push((key(envelope), Numbers::of(envelope)));
    }

    /// The machine said something.
    pub fn ours(&mut self, conn: u64, envelope: &Envelope) {
        self.ours.entry(conn).or_default().entry(key(envelope)).or_default().push(Numbers::of(envelope));
    }

    /// Returns whether the machine said something of that meaning so often and once more.
    pub fn have(&self, conn: u64, key: &str, nth: usize) -> bool {
        self.our(conn, key, nth).is_some()
    }

    /// Returns which message of the recorded device a message of the server belongs to.
    pub fn address(&self, conn: u64, envelope: &Envelope) -> Address {
        let theirs = self.theirs.get(&conn).map(Vec::as_slice).unwrap_or_default();
        let wanted = |(_, numbers): &(String, Numbers)| match (&envelope.reference, &envelope.join_ref) {
            (Some(reference), _) => numbers.reference.as_ref() == Some(reference),
            // What the server sends by itself names the join.
            (None, Some(join)) => numbers.reference.as_ref() == Some(join),
            (None, None) => false,
        };
        let Some(at) = theirs.iter().rposition(wanted) else { return Address::Nobody };
        let Some(((key, _), before)) = theirs.get(at).zip(theirs.get(..at)) else { return Address::Nobody };
        Address::Awaited { key: key.clone(), nth: before.iter().filter(|(other, _)| other == key).count() }
    }

    /// Returns the message with the machine's numbers; `None` if it belongs to what the machine did not say.
    pub fn translate(&self, conn: u64, envelope: &Envelope) -> Option<Envelope> {
        let Address::Awaited { key, nth } = self.address(conn, envelope) else {
            return Some(envelope.clone());
        };
        let ours = self.our(conn, &key, nth)?;
        let mut translated = envelope.clone();
        if envelope.reference.is_some() {
            translated.reference.clone_from(&ours.reference);
        }
        if envelope.join_ref.is_some() {
            translated.join_ref = ours.join_ref.clone().or_else(|| ours.reference.clone());
        }
        Some(translated)
    }

    fn our(&self, conn: u64, key: &str, nth: usize) -> Option<&Numbers> {
        self.ours.get(&conn)?.get(key)?.get(nth)
    }
}

impl Numbers {
    fn of(envelope: &Envelope) -> Self {
        Self { join_ref: envelope.join_ref.clone(), reference: envelope.reference.clone() }
    }
}
