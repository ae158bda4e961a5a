//! The tokens of the configuration language (fw-format §3.1).

use std::borrow::Cow;

use super::variables::Variables;
use crate::internal::Internal;

/// What is wrong with text of another encoding.
pub(super) const NOT_UTF8: &str = "text is not UTF-8";

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare or quoted string, or a variable.
    Text(String),
    /// A string that is not UTF-8, made printable. The reference takes any bytes; here they may stand only
    /// where they are not used, rather than change on their way to a boot loader's variables.
    Damaged(String),
    /// `{`, `}`, `(`, `)`, `=`, `,`, or `+` for `+=`.
    Mark(u8),
    /// A comment; legal only where an option's name could stand.
    Comment(String),
    /// The end of the text.
    End,
}

impl Token {
    /// Returns the token as it stands in error texts.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Text(text) | Self::Damaged(text) | Self::Comment(text) => text.clone(),
            Self::Mark(b'+') => "+=".to_owned(),
            Self::Mark(mark) => char::from(*mark).to_string(),
            Self::End => String::new(),
        }
    }
}

/// Cuts a text into tokens.
pub(super) struct Lexer<'t, 'v> {
    rest: &'t [u8],
    line: usize,
    pub variables: Variables<'v>,
}

impl<'t, 'v> Lexer<'t, 'v> {
    /// Makes a lexer at the start of `text`, which ends at its first NUL.
    pub(super) fn new(text: &'t [u8], variables: Variables<'v>) -> Self {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let (rest, _) = text.split_at(end);
        Self { rest, line: 1, variables }
    }

    /// Returns the number of the present line as the reference counts, from 1.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Returns the next token, or what is wrong with it.
    pub(super) fn next(&mut self) -> Result<Token, String> {
        loop {
            let Some((byte, after)) = self.rest.split_first() else {
                return Ok(Token::End);
            };
            match (*byte, after.first()) {
                (b'#', _) | (b'/', Some(b'/')) => return Ok(self.line_comment()),
                (b'/', Some(b'*')) => return Ok(self.block_comment()),
                (b'{' | b'}' | b'(' | b')' | b'=' | b',', _) => {
                    self.skip(1);
                    return Ok(Token::Mark(*byte));
                }
                (b'+', Some(b'=')) => {
                    self.skip(2);
                    return Ok(Token::Mark(b'+'));
                }
                // The reference drops these two marks without a word.
                (b' ' | b'\t' | b'\r' | b'\n' | b'+' | b'*', _) => self.skip(1),
                (b'"', _) => return self.double_quoted(),
                (b'\'', _) => return self.single_quoted(),
                (b'$', Some(b'{')) => {
                    if let Some(value) = self.variable()? {
                        return Ok(Token::Text(value));
                    }
                    return Ok(self.bare());
                }
                _ => return Ok(self.bare()),
            }
        }
    }

    fn line_comment(&mut self) -> Token {
        let length = self.rest.iter().position(|byte| *byte == b'\n').unwrap_or(self.rest.len());
        let comment = String::from_utf8_lossy(self.take(length));
        // The reference counts such a comment as two lines, besides its line end.
        self.line += 2;
        Token::Comment(comment.trim_start_matches(['#', '/']).trim().to_owned())
    }

    fn block_comment(&mut self) -> Token {
        let Some(length) = self.rest.windows(2).skip(2).position(|end| end == b"*/") else {
            self.skip(self.rest.len());
            return Token::End;
        };
        let comment = String::from_utf8_lossy(self.take(length + 4));
        // The reference counts one line too many.
        self.line += 1;
        Token::Comment(comment.trim_matches(['*', '/']).trim().to_owned())
    }

    fn bare(&mut self) -> Token {
        let length = self.rest.iter().position(|byte| !is_bare(*byte)).unwrap_or(self.rest.len());
        text(self.take(length))
    }

    fn single_quoted(&mut self) -> Result<Token, String> {
        self.skip(1);
        let mut content = Vec::new();
        loop {
            match self.rest {
                [] => return Err("unterminated string constant".to_owned()),
                [b'\'', ..] => {
                    self.skip(1);
                    return Ok(text(&content));
                }
                [b'\\', b'\n', ..] => self.skip(2),
                [b'\\', byte @ (b'\\' | b'\''), ..] => {
                    content.push(*byte);
                    self.skip(2);
                }
                [byte, ..] => {
                    content.push(*byte);
                    self.skip(1);
                }
            }
        }
    }

    fn double_quoted(&mut self) -> Result<Token, String> {
        self.skip(1);
        let mut content = Vec::new();
        loop {
            match self.rest {
                // The reference takes the end of the text here as the end, not as an error.
                [] => return Ok(Token::End),
                [b'"', ..] => {
                    self.skip(1);
                    content.truncate(content.iter().position(|byte| *byte == 0).unwrap_or(content.len()));
                    return Ok(text(&content));
                }
                [b'\\', ..] => self.escape(&mut content)?,
                [b'$', b'{', ..] => {
                    if let Some(value) = self.variable()? {
                        content.extend_from_slice(value.as_bytes());
                    } else {
                        content.push(b'$');
                        self.skip(1);
                    }
                }
                [byte, ..] => {
                    content.push(*byte);
                    self.skip(1);
                }
            }
        }
    }

    /// Reads an escape sequence of a double-quoted string.
    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), String> {
        let [_, byte, after @ ..] = self.rest else {
            // The text ends in a backslash.
            self.skip(1);
            return Ok(());
        };
        let simple = match byte {
            b'n' => b'\n',
            b't' => b'\t',
            b'b' => 8,
            b'r' => b'\r',
            b'f' => 12,
            b'a' => 7,
            b'v' => 11,
            b'e' => 27,
            b'0'..=b'9' => return self.octal(text),
            b'x' if after.first().is_some_and(u8::is_ascii_hexdigit) => {
                let digits = after.iter().take(2).map_while(|byte| char::from(*byte).to_digit(16));
                // Two digits are one byte.
                let [.., value] =
                    digits.clone().fold(0, |value: u32, digit| value << 4 | digit).to_be_bytes();
                text.push(value);
                self.skip(2 + digits.count());
                return Ok(());
            }
            b'\n' => {
                self.skip(2);
                return Ok(());
            }
            other => *other,
        };
        text.push(simple);
        self.skip(2);
        Ok(())
    }

    /// Reads `\ooo`. Digits that go on or are not octal make the whole run an error.
    fn octal(&mut self, text: &mut Vec<u8>) -> Result<(), String> {
        let digits = self.rest.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
        let sequence = String::from_utf8_lossy(self.take(1 + digits));
        let number = sequence.trim_start_matches('\\');
        match u16::from_str_radix(number, 8) {
            Ok(value) if digits <= 3 => {
                let byte = u8::try_from(value).map_err(|_| format!("invalid octal number '{sequence}'"))?;
                text.push(byte);
                Ok(())
            }
            _ => Err(format!("bad escape sequence '{sequence}'")),
        }
    }

    /// Reads `${...}`, up to the first `}` whatever lies between; nothing when there is none.
    fn variable(&mut self) -> Result<Option<String>, String> {
        let Some(end) = self.rest.iter().position(|byte| *byte == b'}') else {
            return Ok(None);
        };
        let body = self.rest.get(2..end);
        let body = body.ok_or_else(|| Internal::new("a variable ends before it begins").to_string())?;
        self.skip(end + 1);
        let body = std::str::from_utf8(body).map_err(|_| NOT_UTF8.to_owned())?;
        self.variables.expand(body).map(Some)
    }

    /// Takes bytes off the text and counts their lines.
    fn skip(&mut self, length: usize) {
        debug_assert!(length <= self.rest.len(), "more of a text was taken than there is");
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        // The part behind the last line end is no line yet.
        self.line += taken.split(|byte| *byte == b'\n').count().saturating_sub(1);
        self.rest = rest;
    }

    fn take(&mut self, length: usize) -> &'t [u8] {
        debug_assert!(length <= self.rest.len(), "more of a text was taken than there is");
        let (taken, _) = self.rest.split_at(length.min(self.rest.len()));
        self.skip(length);
        taken
    }
}

fn is_bare(byte: u8) -> bool {
    !matches!(
        byte,
        b' ' | b'\t'
            | b'\r'
            | b'\n'
            | b'"'
            | b'\''
            | b'#'
            | b'*'
            | b'{'
            | b'}'
            | b'('
            | b')'
            | b'='
            | b'+'
            | b','
    )
}

fn text(bytes: &[u8]) -> Token {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => Token::Text(text.to_owned()),
        Cow::Owned(text) => Token::Damaged(text),
    }
}
