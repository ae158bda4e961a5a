//! A parsed section, before it becomes part of the model.

/// A section's content.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Section {
    /// The title; empty if the section has none.
    pub title: String,
    /// Options in the order of their first assignment.
    values: Vec<(&'static str, Value)>,
    /// Sections in the order of the text.
    sections: Vec<(&'static str, Section)>,
}

/// An option's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Texts(Vec<String>),
    Lengths(Vec<u64>),
}

impl Section {
    /// Makes an empty section with a title.
    pub(super) fn titled(title: String) -> Self {
        Self { title, ..Self::default() }
    }

    /// Sets an option, in place of an earlier value.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        match self.values.iter_mut().find(|(other, _)| *other == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name, value)),
        }
    }

    /// Returns an option's value.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Returns the list of strings of that name, to append to.
    pub(super) fn texts_mut(&mut self, name: &'static str) -> Option<&mut Vec<String>> {
        if self.get(name).is_none() {
            self.set(name, Value::Texts(Vec::new()));
        }
        self.values.iter_mut().find(|(other, _)| *other == name).and_then(|(_, value)| match value {
            Value::Texts(texts) => Some(texts),
            _ => None,
        })
    }

    /// Tells whether there is a section of that kind and title.
    pub(super) fn has(&self, kind: &str, title: &str) -> bool {
        self.all(kind).any(|section| section.title == title)
    }

    /// Adds a section.
    pub(super) fn add(&mut self, kind: &'static str, section: Section) {
        self.sections.push((kind, section));
    }

    /// Takes out the one section of that kind, or a new one.
    pub(super) fn take(&mut self, kind: &str) -> Section {
        match self.sections.iter().position(|(other, _)| *other == kind) {
            Some(index) => self.sections.remove(index).1,
            None => Section::default(),
        }
    }

    /// Returns all sections of a kind.
    pub(super) fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Section> {
        self.sections.iter().filter(move |(other, _)| *other == kind).map(|(_, section)| section)
    }

    /// Returns all sections of a kind, to change.
    pub(super) fn all_mut<'a>(&'a mut self, kind: &'a str) -> impl Iterator<Item = &'a mut Section> {
        self.sections.iter_mut().filter(move |(other, _)| *other == kind).map(|(_, section)| section)
    }

    /// Returns the section of that kind and title, to change.
    pub(super) fn find_mut(&mut self, kind: &str, title: &str) -> Option<&mut Section> {
        let sections = self.sections.iter_mut().filter(|(other, _)| *other == kind);
        sections.map(|(_, section)| section).find(|section| section.title == title)
    }

    /// Takes an option out.
    pub(super) fn unset(&mut self, name: &str) -> Option<Value> {
        let at = self.values.iter().position(|(other, _)| *other == name)?;
        Some(self.values.remove(at).1)
    }

    /// Returns all strings, in order.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().filter_map(|(name, value)| match value {
            Value::Text(text) => Some((*name, text.as_str())),
            _ => None,
        })
    }

    /// Returns a string.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// Returns an integer.
    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Value::Integer(value)) => Some(*value),
            _ => None,
        }
    }

    /// Returns a boolean, false if it is not set.
    pub(super) fn boolean(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Boolean(true)))
    }

    /// Returns a list of strings, empty if it is not set.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        match self.get(name) {
            Some(Value::Texts(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }

    /// Returns a list of lengths, empty if it is not set.
    pub(super) fn lengths(&self, name: &str) -> Vec<u64> {
        match self.get(name) {
            Some(Value::Lengths(lengths)) => lengths.clone(),
            _ => Vec::new(),
        }
    }
}
