//! Taking the command line apart as `getopt_long` does: options and operands in any order, short options in
//! clusters, long options abbreviated. Scripts rely on all of it, and no argument crate abbreviates.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// An option.
#[derive(Debug)]
pub(crate) struct Spec<T> {
    pub(crate) short: Option<u8>,
    pub(crate) long: Option<&'static str>,
    pub(crate) argument: bool,
    pub(crate) meaning: T,
}

/// What comes next on the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item<T> {
    /// An option, with its argument if it takes one.
    Option(T, OsString),
    /// Something that is no option.
    Operand(OsString),
}

/// The command line being read.
pub(crate) struct Getopt<'a, T> {
    specs: &'a [Spec<T>],
    rest: VecDeque<OsString>,
    /// What is left of a cluster of short options.
    cluster: Vec<u8>,
    /// `--` was seen: no more options.
    operands_only: bool,
}

impl<'a, T: Copy> Getopt<'a, T> {
    pub(crate) fn new(specs: &'a [Spec<T>], arguments: &[OsString]) -> Self {
        Self { specs, rest: arguments.iter().cloned().collect(), cluster: Vec::new(), operands_only: false }
    }

    /// The next option or operand, or what is wrong with it as `getopt` words it.
    pub(crate) fn next(&mut self) -> Option<Result<Item<T>, String>> {
        if !self.cluster.is_empty() {
            return Some(self.short());
        }
        let word = self.rest.pop_front()?;
        let bytes = word.as_bytes();
        let cluster = bytes.strip_prefix(b"-").filter(|rest| !self.operands_only && !rest.is_empty());
        let Some(cluster) = cluster.map(<[u8]>::to_vec) else { return Some(Ok(Item::Operand(word))) };
        if bytes == b"--" {
            self.operands_only = true;
            return self.next();
        }
        if let Some(long) = bytes.strip_prefix(b"--") {
            return Some(self.long(long));
        }
        self.cluster = cluster;
        Some(self.short())
    }

    fn short(&mut self) -> Result<Item<T>, String> {
        let letter = self.cluster.remove(0);
        let shown = char::from(letter);
        let Some(spec) = self.specs.iter().find(|spec| spec.short == Some(letter)) else {
            return Err(format!("invalid option -- '{shown}'"));
        };
        let mut value = OsString::new();
        if spec.argument {
            let attached = std::mem::take(&mut self.cluster);
            value = if attached.is_empty() {
                self.rest.pop_front().ok_or_else(|| format!("option requires an argument -- '{shown}'"))?
            } else {
                OsString::from_vec(attached)
            };
        }
        Ok(Item::Option(spec.meaning, value))
    }

    fn long(&mut self, word: &[u8]) -> Result<Item<T>, String> {
        let (name, rest) = word.split_at(word.iter().position(|byte| *byte == b'=').unwrap_or(word.len()));
        let attached = rest.strip_prefix(b"=").map(|value| OsStr::from_bytes(value).to_owned());
        let shown = String::from_utf8_lossy(name);
        let (spec, long) = self.find_long(name)?;
        let value = match (spec.argument, attached) {
            (true, Some(value)) => value,
            (true, None) => {
                self.rest.pop_front().ok_or_else(|| format!("option '--{long}' requires an argument"))?
            }
            (false, None) => OsString::new(),
            (false, Some(_)) => return Err(format!("option '--{shown}' doesn't allow an argument")),
        };
        Ok(Item::Option(spec.meaning, value))
    }

    /// The option of that name, or the only one whose name begins so.
    fn find_long(&self, name: &[u8]) -> Result<(&'a Spec<T>, &'static str), String> {
        let named = self.specs.iter().filter_map(|spec| Some((spec, spec.long?)));
        let matching: Vec<_> = named.filter(|(_, long)| long.as_bytes().starts_with(name)).collect();
        if let Some(exact) = matching.iter().find(|(_, long)| long.as_bytes() == name) {
            return Ok(*exact);
        }
        let shown = String::from_utf8_lossy(name);
        match matching.as_slice() {
            [] => Err(format!("unrecognized option '--{shown}'")),
            [one] => Ok(*one),
            several => {
                let names: Vec<_> = several.iter().map(|(_, long)| format!("'--{long}'")).collect();
                Err(format!("option '--{shown}' is ambiguous; possibilities: {}", names.join(" ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[Spec<u8>] = &[
        Spec { short: Some(b'a'), long: Some("apply"), argument: false, meaning: 1 },
        Spec { short: Some(b'd'), long: None, argument: true, meaning: 2 },
        Spec { short: None, long: Some("metadata-key"), argument: true, meaning: 3 },
        Spec { short: Some(b'm'), long: Some("metadata"), argument: false, meaning: 4 },
    ];

    fn all(words: &[&str]) -> Vec<Result<Item<u8>, String>> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let mut getopt = Getopt::new(SPECS, &words);
        std::iter::from_fn(|| getopt.next()).collect()
    }

    fn option(meaning: u8, value: &str) -> Item<u8> {
        Item::Option(meaning, value.into())
    }

    #[test]
    fn clusters_abbreviations_and_operands_in_any_order() {
        let got = all(&["x.fw", "-amdout", "--metadata-k=v", "--met", "--ap", "-d", "o", "-", "--", "-a"]);
        let operand = |text: &str| Ok(Item::Operand(text.into()));
        let ambiguous = "option '--met' is ambiguous; possibilities: '--metadata-key' '--metadata'";
        let want = [
            operand("x.fw"),
            Ok(option(1, "")),
            Ok(option(4, "")),
            Ok(option(2, "out")),
            Ok(option(3, "v")),
            Err(ambiguous.to_owned()),
            Ok(option(1, "")),
            Ok(option(2, "o")),
            operand("-"),
            operand("-a"),
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn says_what_getopt_says() {
        assert_eq!(all(&["-x"]), [Err("invalid option -- 'x'".to_owned())]);
        assert_eq!(all(&["-d"]), [Err("option requires an argument -- 'd'".to_owned())]);
        assert_eq!(all(&["--nosuch"]), [Err("unrecognized option '--nosuch'".to_owned())]);
        assert_eq!(
            all(&["--metadata-key"]),
            [Err("option '--metadata-key' requires an argument".to_owned())]
        );
        assert_eq!(all(&["--apply=1"]), [Err("option '--apply' doesn't allow an argument".to_owned())]);
    }
}
