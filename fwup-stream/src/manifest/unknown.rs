//! Passing over what a manifest says that this version does not know (fw-format §3.3).
//!
//! Options, lists and calls are passed over wherever they stand. Of sections, the reference manages those that
//! begin with a list, a call, or a section of that kind; in others it loses its way and refuses the archive, or
//! takes what follows for a part of the section. Here exactly those that it manages are passed over, and the
//! others are refused: nobody would miss a requirement that was swallowed.

use super::lexer::Token;
use super::parser::{Parser, Wrong, unexpected};

impl Parser<'_, '_> {
    /// Passes over an unknown option, call or section, whose name was read. Making an archive, it is an error.
    pub(super) fn unknown(&mut self, name: &str) -> Result<(), Wrong> {
        if self.creation.is_some() {
            return Err(format!("no such option '{name}'"));
        }
        match self.token()? {
            Token::Mark(b'=') => self.unknown_value(),
            // The reference goes on at the next equal sign, wherever that is.
            Token::Mark(b'+') => {
                self.pass(b'=')?;
                self.unknown_value()
            }
            Token::Mark(b'(') => self.pass(b')'),
            Token::Mark(b'{') => self.unknown_section(name),
            Token::Text(_) | Token::Damaged(_) => match self.token()? {
                Token::Mark(b'{') => self.unknown_section(name),
                other => Err(unexpected(&other)),
            },
            other => Err(unexpected(&other)),
        }
    }

    fn unknown_value(&mut self) -> Result<(), Wrong> {
        match self.token()? {
            Token::Mark(b'{') => self.pass(b'}'),
            Token::Text(_) | Token::Damaged(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Passes over everything up to a mark.
    fn pass(&mut self, mark: u8) -> Result<(), Wrong> {
        while self.token()? != Token::Mark(mark) {}
        Ok(())
    }

    /// Passes over an unknown section whose brace was read, the way the reference does, so that what it refuses
    /// is refused in its words.
    fn unknown_section(&mut self, name: &str) -> Result<(), Wrong> {
        let line = self.lexer.line();
        let mut section = Passing { parser: self, open: 1, passed_end: false };
        let mut levels = 1_usize;
        // Whatever comes first is taken for a name.
        section.token()?;
        loop {
            match section.token()? {
                Token::Mark(b'}') => break,
                Token::Mark(b'(') => {
                    section.pass(b')')?;
                    break;
                }
                mark @ Token::Mark(b'=' | b'+') => {
                    if mark == Token::Mark(b'+') {
                        section.pass(b'=')?;
                    }
                    match section.token()? {
                        Token::Mark(b'{') => {
                            section.pass(b'}')?;
                            break;
                        }
                        // What follows a single value is taken for a name, even the end of the section.
                        Token::Text(_) | Token::Damaged(_) => section.token()?,
                        other => return Err(unexpected(&other)),
                    };
                }
                title => {
                    let brace = match title {
                        Token::Text(_) | Token::Damaged(_) => section.token()?,
                        other => other,
                    };
                    if brace != Token::Mark(b'{') {
                        return Err(unexpected(&brace));
                    }
                    levels += 1;
                    section.token()?;
                }
            }
        }
        for _ in 0..levels {
            section.pass(b'}')?;
        }
        if (section.open > 0 || section.passed_end) && self.swallowed.is_none() {
            self.swallowed =
                Some(format!("the unknown section '{name}' on line {line} cannot be passed over"));
        }
        Ok(())
    }
}

/// Tokens of an unknown section, with its braces counted.
struct Passing<'p, 't, 'v> {
    parser: &'p mut Parser<'t, 'v>,
    /// Braces that are open, the section's own among them.
    open: usize,
    /// Tokens were taken behind the section's end.
    passed_end: bool,
}

impl Passing<'_, '_, '_> {
    fn token(&mut self) -> Result<Token, Wrong> {
        let token = self.parser.token()?;
        self.passed_end |= self.open == 0;
        match token {
            Token::Mark(b'{') => self.open += 1,
            Token::Mark(b'}') => self.open = self.open.saturating_sub(1),
            _ => {}
        }
        Ok(token)
    }

    fn pass(&mut self, mark: u8) -> Result<(), Wrong> {
        while self.token()? != Token::Mark(mark) {}
        Ok(())
    }
}
