//! The outcome of a replay, in words.

use std::fmt;

use super::compare::Comparison;
use super::difference::Difference;
use super::probe::Survived;
use super::rules::{Rule, explain};

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The machine did exactly what the recorded device did.
    Same,
    /// It did, but for differences that are meant to be.
    Explained,
    /// The recording holds no device, only scripts; the machine survived what they provoked.
    Survives,
    /// Something differs without a reason, or a promise was broken.
    Fails,
}

/// What came of one recording.
#[derive(Default)]
pub struct Report {
    /// Lives of devices that were compared.
    pub lives: usize,
    /// Connections compared.
    pub sockets: usize,
    /// Messages of the machine compared with the recorded device's.
    pub messages: usize,
    /// Messages of the server handed over.
    pub delivered: usize,
    /// Requests compared.
    pub fetches: usize,
    /// Connections of scripts whose server's side the machine survived.
    pub probes: usize,
    /// Differences, and the rules that explain them.
    pub differences: Vec<(Difference, Option<&'static Rule>)>,
    /// What broke beyond differences.
    pub failures: Vec<String>,
    /// What was passed over, and what probes were checked for.
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn new(warnings: &[String]) -> Self {
        Self { notes: warnings.to_vec(), ..Self::default() }
    }

    pub(super) fn note(&mut self, note: &str) {
        if !self.notes.iter().any(|have| have == note) {
            self.notes.push(note.to_owned());
        }
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failures.push(why);
    }

    pub(super) fn life(&mut self, comparison: Comparison, delivered: usize) {
        self.lives += 1;
        self.sockets += comparison.sockets;
        self.messages += comparison.messages;
        self.fetches += comparison.fetches;
        self.delivered += delivered;
        self.differences.extend(explain(comparison.differences));
    }

    pub(super) fn probe(&mut self, survived: Survived) {
        self.probes += 1;
        self.delivered += survived.delivered;
        self.failures.extend(survived.failures);
        self.note(survived.checked);
    }

    /// Returns the differences without a reason.
    pub fn unexplained(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|(_, rule)| rule.is_none()).map(|(difference, _)| difference)
    }

    /// Returns how it ended.
    pub fn verdict(&self) -> Verdict {
        let nothing = self.lives == 0 && self.probes == 0;
        if nothing || !self.failures.is_empty() || self.unexplained().next().is_some() {
            Verdict::Fails
        } else if self.lives == 0 {
            Verdict::Survives
        } else if self.differences.is_empty() {
            Verdict::Same
        } else {
            Verdict::Explained
        }
    }

    fn grouped(&self) -> Vec<(&'static Rule, Vec<&Difference>)> {
        let mut groups: Vec<(&'static Rule, Vec<&Difference>)> = Vec::new();
        for (difference, rule) in &self.differences {
            let Some(rule) = rule else { continue };
            match groups.iter_mut().find(|(known, _)| known.name == rule.name) {
                Some((_, list)) => list.push(difference),
                None => groups.push((rule, vec![difference])),
            }
        }
        groups
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unexplained = self.unexplained().count();
        match self.verdict() {
            Verdict::Same => write!(f, "same")?,
            Verdict::Explained => write!(f, "same, but for what is meant to differ")?,
            Verdict::Survives => write!(f, "survives")?,
            Verdict::Fails if self.lives == 0 && self.probes == 0 => {
                write!(f, "FAILS: no device and no script in it")?;
            }
            Verdict::Fails => {
                write!(
                    f,
                    "FAILS: {unexplained} unexplained differences, {} broken promises",
                    self.failures.len()
                )?;
            }
        }
        write!(f, " (")?;
        if self.lives > 0 {
            write!(
                f,
                "{} lives, {} connections, {} messages, {} requests compared; ",
                self.lives, self.sockets, self.messages, self.fetches
            )?;
        }
        if self.probes > 0 {
            write!(f, "{} connections of scripts; ", self.probes)?;
        }
        writeln!(f, "{} messages of the server)", self.delivered)?;
        for difference in self.unexplained() {
            writeln!(f, "  UNEXPLAINED {difference}")?;
        }
        for failure in &self.failures {
            writeln!(f, "  BROKEN {failure}")?;
        }
        for (rule, list) in self.grouped() {
            writeln!(f, "  {}: {}", rule.name, rule.reason)?;
            let mut shown: Vec<String> = Vec::new();
            for difference in list {
                let mut plain = (*difference).clone();
                plain.conn = None;
                let text = plain.to_string();
                if !shown.contains(&text) {
                    writeln!(f, "    {text}")?;
                    shown.push(text);
                }
            }
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        Ok(())
    }
}
