//! One thing the machine does otherwise than the recorded device.

use std::fmt;

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The recorded device sent or opened it, the machine did not.
    Missing,
    /// The machine sent or opened it, the recorded device did not.
    Extra,
    /// A field has another value.
    Payload,
    /// Other values on the way to the same end.
    Rhythm,
    /// Two messages of a topic come in the other order.
    Order,
    /// Messages of different topics come in another order.
    OrderAcross,
    /// One side names a join, the other does not.
    Numbers,
    /// The next attempt to connect comes much sooner or later.
    Delay,
    /// The machine hung up.
    HangUp,
    /// The machine broke a promise, whatever the recorded device did.
    Broken,
}

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub kind: Kind,
    /// In which message (topic, event and what tells it apart), or `dial`, `fetch`, `machine`.
    pub what: String,
    /// In which field, if in one.
    pub path: String,
    /// The machine's side, in words.
    pub ours: String,
    /// The recorded device's side, in words.
    pub theirs: String,
    /// How often.
    pub times: usize,
    /// On which recorded connection.
    pub conn: Option<u64>,
}

impl Difference {
    pub(super) fn new(kind: Kind, what: &str) -> Self {
        Self {
            kind,
            what: what.to_owned(),
            path: String::new(),
            ours: String::new(),
            theirs: String::new(),
            times: 1,
            conn: None,
        }
    }

    pub(super) fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub(super) fn ours(mut self, text: impl Into<String>) -> Self {
        self.ours = text.into();
        self
    }

    pub(super) fn theirs(mut self, text: impl Into<String>) -> Self {
        self.theirs = text.into();
        self
    }

    pub(super) const fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    pub(super) const fn on(mut self, conn: u64) -> Self {
        self.conn = Some(conn);
        self
    }

    /// Returns whether it is that kind, in that message, in that field.
    pub fn is(&self, kind: Kind, what: &str, path: &str) -> bool {
        self.kind == kind && self.what == what && self.path == path
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.kind {
            Kind::Missing => "not sent",
            Kind::Extra => "sent in addition",
            Kind::Payload => "another value",
            Kind::Rhythm => "another rhythm",
            Kind::Order => "another order",
            Kind::OrderAcross => "another order across",
            Kind::Numbers => "another form",
            Kind::Delay => "another delay",
            Kind::HangUp => "hung up",
            Kind::Broken => "broken promise",
        };
        write!(f, "{words}: {}", self.what)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        if self.times > 1 {
            write!(f, " ({} times)", self.times)?;
        }
        if !self.ours.is_empty() {
            write!(f, "; ours {}", self.ours)?;
        }
        if !self.theirs.is_empty() {
            write!(f, "; theirs {}", self.theirs)?;
        }
        if let Some(conn) = self.conn {
            write!(f, " [connection {conn}]")?;
        }
        Ok(())
    }
}
