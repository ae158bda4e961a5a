//! Reading a manifest (fw-format §3.2 and §3.3).

use std::path::Path;

use super::call_check;
use super::configuration::Creation;
use super::error::ManifestError;
use super::lexer::{Lexer, NOT_UTF8, Token};
use super::metadata::Identity;
use super::model::Manifest;
use super::number;
use super::schema::{Kind, Schema, TOP};
use super::section::{Section, Value};
use super::variables::Variables;
use super::{build, version};
use crate::internal::Internal;

/// What is wrong, without its line.
pub(super) type Wrong = String;

impl Manifest {
    /// Reads a manifest as it stands in an archive. `variables` answers `${NAME}`; `FWUP_META_UUID` and
    /// `FWUP_META_NICKNAME` are answered from the text itself.
    ///
    /// Unknown options and calls are passed over, and those unknown sections that fwup can pass over; others are
    /// an error. `include` is refused: an archive has no business in the files of the device.
    pub fn parse(text: &[u8], variables: &dyn Fn(&str) -> Option<String>) -> Result<Self, ManifestError> {
        let identity = Identity::of(text);
        let mut own = Variables::new(variables);
        identity.define(&mut own);
        let mut parser = Parser::new(Lexer::new(text, own), None);
        let mut top = Section::default();
        let outcome = parser.top(&mut top);
        if let Err(wrong) = outcome.and(parser.swallowed.take().map_or(Ok(()), Err)) {
            return Err(ManifestError::Syntax { detail: format!("[buf]:{}: {wrong}", parser.lexer.line()) });
        }
        let manifest = build::manifest(&top);
        if identity.is_changed(&parser.lexer.variables, &manifest) {
            return Err(ManifestError::ChangesIdentity);
        }
        Ok(manifest)
    }
}

/// Reads a text: a manifest of an archive, or a configuration an archive is made from.
pub(super) struct Parser<'t, 'v> {
    pub(super) lexer: Lexer<'t, 'v>,
    /// What is only known, checked and allowed while an archive is made.
    pub(super) creation: Option<Creation>,
    /// What is wrong with an unknown section that took what stands behind it with it. Told when nothing else is
    /// wrong.
    pub(super) swallowed: Option<Wrong>,
}

/// Where a statement stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    schema: &'static Schema,
    /// The text that is read did not open the section, so it cannot close it.
    outermost: bool,
    /// In an `on-resource`.
    with_data: bool,
}

impl<'t, 'v> Parser<'t, 'v> {
    pub(super) fn new(lexer: Lexer<'t, 'v>, creation: Option<Creation>) -> Self {
        Self { lexer, creation, swallowed: None }
    }

    /// Reads the whole text.
    pub(super) fn top(&mut self, top: &mut Section) -> Result<(), Wrong> {
        self.section(Place { schema: &TOP, outermost: true, with_data: false }, top)
    }

    /// Reads statements up to the section's closing brace, or the end of the text, which closes everything.
    fn section(&mut self, place: Place, section: &mut Section) -> Result<(), Wrong> {
        loop {
            match self.lexer.next()? {
                Token::Comment(_) => {}
                Token::Mark(b'}') if place.outermost => return Err("unexpected closing brace".to_owned()),
                Token::Mark(b'}') | Token::End => return Ok(()),
                Token::Text(name) => match place.schema.option(&name) {
                    Some((name, Kind::Include)) => self.include(name, place, section)?,
                    Some((name, kind)) => self.statement(name, kind, section, place.with_data)?,
                    None => self.unknown(&name)?,
                },
                Token::Damaged(name) => self.unknown(&name)?,
                other @ Token::Mark(_) => return Err(unexpected(&other)),
            }
        }
    }

    /// Reads another file as if it stood here.
    fn include(&mut self, name: &str, place: Place, section: &mut Section) -> Result<(), Wrong> {
        let args = self.arguments(name)?;
        let line = self.lexer.line();
        let Some(mut creation) = self.creation.take() else {
            let path = args.join(", ");
            let why =
                if Path::new(&path).exists() { "archives may not read files" } else { "File not found" };
            return Err(format!("Cannot include '{path}': {why}"));
        };
        let opened = creation.enter(&args, line);
        let text = match opened {
            Ok(text) => text,
            Err(wrong) => {
                self.creation = Some(creation);
                return Err(wrong);
            }
        };
        let variables = std::mem::replace(&mut self.lexer.variables, Variables::new(&super::variables::none));
        let mut inner = Parser::new(Lexer::new(&text, variables), Some(creation));
        let outcome = inner.section(Place { outermost: true, ..place }, section);
        let Parser { lexer, creation, .. } = inner;
        self.creation = creation.map(|mut creation| {
            creation.leave(lexer.line(), outcome.is_err());
            creation
        });
        self.lexer.variables = lexer.variables;
        outcome
    }

    fn statement(
        &mut self,
        name: &'static str,
        kind: Kind,
        section: &mut Section,
        with_data: bool,
    ) -> Result<(), Wrong> {
        match kind {
            Kind::Text | Kind::Integer | Kind::Boolean => {
                self.assign(name, kind, section)?;
                match section.get(name) {
                    Some(Value::Text(required)) if name == "require-fwup-version" => version::check(required),
                    _ => Ok(()),
                }
            }
            Kind::Texts | Kind::Floats => self.list(name, kind, section),
            Kind::Titled(schema) => {
                let title = match self.token()? {
                    Token::Text(title) => title,
                    Token::Damaged(_) => return Err(NOT_UTF8.to_owned()),
                    _ => return Err(format!("missing title for section '{name}'")),
                };
                self.opening_brace(name)?;
                if section.has(name, &title) {
                    return Err(format!("found duplicate title '{title}'"));
                }
                let mut inner = Section::titled(title);
                let place = Place { schema, outermost: false, with_data: name == "on-resource" };
                self.section(place, &mut inner)?;
                if let Some(creation) = &mut self.creation {
                    creation.finish_section(name, &mut inner, &mut self.lexer.variables)?;
                }
                section.add(name, inner);
                Ok(())
            }
            Kind::Untitled(schema) => {
                self.opening_brace(name)?;
                let mut inner = section.take(name);
                self.section(Place { schema, outermost: false, with_data: false }, &mut inner)?;
                section.add(name, inner);
                Ok(())
            }
            Kind::Define { always, evaluate } => self.define(name, always, evaluate),
            // Handled where the section is at hand.
            Kind::Include => Ok(()),
            Kind::Call(list) => {
                let mut args = self.arguments(name)?;
                call_check::check(name, &args, with_data)?;
                if let Some(creation) = &self.creation {
                    creation.check_call(name, &mut args, &section.title)?;
                }
                // A call that is dropped would be one that never runs.
                let list = section.texts_mut(list);
                let list = list.ok_or_else(|| Internal::new("calls are kept in no list").to_string())?;
                list.push((args.len() + 1).to_string());
                list.push(name.to_owned());
                list.extend(args);
                Ok(())
            }
        }
    }

    fn assign(&mut self, name: &'static str, kind: Kind, section: &mut Section) -> Result<(), Wrong> {
        match self.token()? {
            Token::Mark(b'=') => {}
            Token::Mark(b'+') => return Err(format!("attempt to append to non-list option '{name}'")),
            _ => return Err(missing_equal_sign(name)),
        }
        let text = match self.token()? {
            Token::Text(text) => text,
            // Only printed, so a text of another encoding does no harm.
            Token::Damaged(text) if name.starts_with("meta-") && self.creation.is_none() => text,
            other => return Err(unexpected(&other)),
        };
        let value = match kind {
            Kind::Integer => Value::Integer(integer(name, &text)?),
            Kind::Boolean => Value::Boolean(boolean(name, &text)?),
            _ => Value::Text(text),
        };
        section.set(name, value);
        Ok(())
    }

    fn list(&mut self, name: &'static str, kind: Kind, section: &mut Section) -> Result<(), Wrong> {
        let append = match self.token()? {
            Token::Mark(b'=') => false,
            Token::Mark(b'+') => true,
            _ => return Err(missing_equal_sign(name)),
        };
        let mut texts = Vec::new();
        match self.token()? {
            Token::Text(text) => texts.push(text),
            Token::Mark(b'{') => loop {
                match self.token()? {
                    Token::Text(text) => texts.push(text),
                    Token::Mark(b'}') => break,
                    other => return Err(unexpected(&other)),
                }
                match self.token()? {
                    Token::Mark(b',') => {}
                    Token::Mark(b'}') => break,
                    other => return Err(unexpected(&other)),
                }
            },
            other => return Err(unexpected(&other)),
        }
        let value = if matches!(kind, Kind::Floats) {
            let mut lengths = if append { section.lengths(name) } else { Vec::new() };
            for text in texts {
                let length = number::length(&text)
                    .ok_or_else(|| format!("invalid floating point value for option '{name}'"))?;
                lengths.push(length);
            }
            Value::Lengths(lengths)
        } else {
            let mut list = if append { section.list(name) } else { Vec::new() };
            list.extend(texts);
            Value::Texts(list)
        };
        section.set(name, value);
        Ok(())
    }

    fn define(&mut self, name: &str, always: bool, evaluate: bool) -> Result<(), Wrong> {
        let args = self.arguments(name)?;
        let [variable, value] = args.as_slice() else {
            return Err(format!("'{name}' requires 2 parameters"));
        };
        let value = if evaluate { super::evaluate::evaluate(value)?.to_string() } else { value.clone() };
        if always || self.lexer.variables.get(variable).is_none() {
            self.lexer.variables.set(variable, value);
        }
        Ok(())
    }

    /// Reads `(ARGUMENT, ...)`.
    fn arguments(&mut self, name: &str) -> Result<Vec<String>, Wrong> {
        if self.token()? != Token::Mark(b'(') {
            return Err(format!("missing parenthesis for function '{name}'"));
        }
        let wrong = || format!("syntax error in call of function '{name}'");
        let mut args = Vec::new();
        loop {
            match self.token()? {
                Token::Text(text) => args.push(text),
                Token::Mark(b')') => return Ok(args),
                Token::Damaged(_) => return Err(NOT_UTF8.to_owned()),
                _ => return Err(wrong()),
            }
            match self.token()? {
                Token::Mark(b',') => {}
                Token::Mark(b')') => return Ok(args),
                _ => return Err(wrong()),
            }
        }
    }

    fn opening_brace(&mut self, name: &str) -> Result<(), Wrong> {
        match self.token()? {
            Token::Mark(b'{') => Ok(()),
            _ => Err(format!("missing opening brace for section '{name}'")),
        }
    }

    /// Returns the next token inside a statement, where the text may not end.
    pub(super) fn token(&mut self) -> Result<Token, Wrong> {
        match self.lexer.next()? {
            Token::End => Err("premature end of file".to_owned()),
            token => Ok(token),
        }
    }
}

pub(super) fn unexpected(token: &Token) -> Wrong {
    match token {
        Token::Damaged(_) => NOT_UTF8.to_owned(),
        token => format!("unexpected token '{}'", token.shown()),
    }
}

fn missing_equal_sign(name: &str) -> Wrong {
    format!("missing equal sign after option '{name}'")
}

fn integer(name: &str, text: &str) -> Result<i64, Wrong> {
    match number::parse(text) {
        (_, rest, _) if !rest.is_empty() => Err(format!("invalid integer value for option '{name}'")),
        (_, _, false) => Err(format!("integer value for option '{name}' is out of range")),
        (value, _, true) => Ok(value),
    }
}

fn boolean(name: &str, text: &str) -> Result<bool, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" => Ok(true),
        "false" | "off" | "no" => Ok(false),
        _ => Err(format!("invalid boolean value for option '{name}'")),
    }
}
