//! The variables of one copy of an environment, taken from its bytes as they are.
//!
//! An environment may have 32 MiB and 11 million variables, and both come from outside: each takes 4 bytes of
//! memory here, and only while a copy is written.

use std::cmp::Ordering;

use super::{UbootError, Variable};
use crate::internal::Internal;

/// The bytes of a copy that makes sense.
pub(super) struct Content {
    data: Vec<u8>,
    header: usize,
    pairs: usize,
}

/// One variable. Its name has at least one character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

impl Content {
    /// Takes a copy whose variables begin behind a header; nothing when they make no sense.
    pub(super) fn new(data: Vec<u8>, header: usize) -> Option<Self> {
        let pairs = count(data.get(header..)?)?;
        Some(Self { data, header, pairs })
    }

    /// The value of a variable; the last one, should it be there more than once.
    pub(super) fn value(&self, name: &[u8]) -> Option<&[u8]> {
        pairs(self.body()).flatten().filter(|(_, pair)| pair.name == name).last().map(|(_, pair)| pair.value)
    }

    /// All variables in the order of their names, one of them with another value or left out.
    pub(super) fn with<'a>(
        &'a self,
        name: &'a [u8],
        value: Option<&'a [u8]>,
    ) -> Result<impl Iterator<Item = Result<Variable<'a>, Internal>>, UbootError> {
        // An environment is below 32 MiB; what had no place in 32 bits would be found by its empty name.
        let mut starts = Vec::new();
        let full = |_| UbootError::NoMemory(self.pairs.saturating_mul(size_of::<u32>()));
        starts.try_reserve_exact(self.pairs).map_err(full)?;
        starts
            .extend(pairs(self.body()).flatten().map(|(start, _)| u32::try_from(start).unwrap_or(u32::MAX)));
        if starts.len() != self.pairs {
            return Err(Internal::new("an environment has other variables than were counted").into());
        }
        let at = |start: u32| self.pair(start).unwrap_or(Pair { name: &[], value: &[] });
        starts.sort_unstable_by(|one, other| at(*one).name.cmp(at(*other).name).then(one.cmp(other)));
        let mut old = starts.into_iter().map(at).peekable();
        let mut new = value.map(|value| Pair { name, value });
        let variables = std::iter::from_fn(move || {
            loop {
                let Some(next) = old.peek() else { return new.take() };
                let order = next.name.cmp(name);
                if order == Ordering::Greater && new.is_some() {
                    return new.take();
                }
                let pair = old.next()?;
                let again = old.peek().is_some_and(|following| following.name == pair.name);
                if !again && order != Ordering::Equal {
                    return Some(pair);
                }
            }
        })
        .map(|pair| match pair.name {
            [] => Err(Internal::new("a variable was lost from an environment")),
            name => Ok((name, pair.value)),
        });
        Ok(variables)
    }

    fn body(&self) -> &[u8] {
        self.data.split_at(self.header).1
    }

    fn pair(&self, start: u32) -> Option<Pair<'_>> {
        Pair::first_of(self.body().get(usize::try_from(start).ok()?..)?)
    }
}

impl<'a> Pair<'a> {
    fn first_of(rest: &'a [u8]) -> Option<Self> {
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (pair, _) = rest.split_at_checked(end)?;
        let equals = pair.iter().skip(1).position(|byte| *byte == b'=')? + 1;
        let (name, value) = pair.split_at_checked(equals)?;
        Some(Self { name, value: value.get(1..).unwrap_or_default() })
    }

    fn length(&self) -> usize {
        self.name.len() + 1 + self.value.len() + 1
    }
}

/// How many pairs there are; nothing when there is nonsense among them.
pub(super) fn count(body: &[u8]) -> Option<usize> {
    pairs(body).try_fold(0, |sum: usize, pair| pair.map(|_| sum + 1))
}

/// Takes the pairs apart, with where they begin, up to an empty name or the end. Ends with nothing at nonsense.
fn pairs(body: &[u8]) -> impl Iterator<Item = Option<(usize, Pair<'_>)>> {
    let mut at = Some(0);
    std::iter::from_fn(move || {
        let start = at?;
        let rest = body.get(start..).filter(|rest| rest.first().is_some_and(|byte| *byte != 0))?;
        let pair = Pair::first_of(rest);
        at = pair.map(|pair| start + pair.length());
        Some(pair.map(|pair| (start, pair)))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may.
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [&b"noequals\0\0"[..], b"=value\0\0", b"a=unterminated", b"a=b\0c\0"] {
            assert_eq!(count(nonsense), None);
        }
        assert_eq!(count(b"a=\0==b\0\0junk"), Some(2));
        assert_eq!(count(b""), Some(0));
        assert_eq!(count(b"a=b\0"), Some(1));
    }

    proptest! {
        /// Names sorted, each once, the last value of each; and one of them changed or gone.
        #[test]
        fn changes_are_those_of_a_map(
            list in proptest::collection::vec(("[a-c=]{0,1}[a-c]{1,2}", "[a-c=]{0,2}"), 0..20),
            name in "[a-c]{1,2}",
            value in proptest::option::of("[a-c=]{0,2}"),
        ) {
            let mut data = vec![1, 2, 3, 4, 5];
            let mut map = BTreeMap::new();
            for (name, text) in &list {
                let pair = format!("{name}={text}");
                let equals = pair.bytes().skip(1).position(|byte| byte == b'=').unwrap() + 1;
                map.insert(pair.as_bytes()[..equals].to_vec(), pair.as_bytes()[equals + 1..].to_vec());
                data.extend(pair.bytes().chain([0]));
            }
            data.extend([0, 0xff]);
            let content = Content::new(data, 5).unwrap();
            prop_assert_eq!(content.value(name.as_bytes()), map.get(name.as_bytes()).map(Vec::as_slice));
            match &value {
                Some(value) => map.insert(name.clone().into_bytes(), value.clone().into_bytes()),
                None => map.remove(name.as_bytes()),
            };
            let mine: Vec<_> = content
                .with(name.as_bytes(), value.as_deref().map(str::as_bytes))
                .unwrap()
                .map(|pair| pair.map(|(name, value)| (name.to_vec(), value.to_vec())).unwrap())
                .collect();
            prop_assert_eq!(mine, map.into_iter().collect::<Vec<_>>());
        }
    }
}
