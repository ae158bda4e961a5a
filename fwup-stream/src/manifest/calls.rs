//! Cutting a flat list into calls (fw-format §3.5).

use super::model::CallList;
use crate::internal::Internal;
use crate::limits::CALL_ARGUMENTS;

/// A call: a function or requirement, and its arguments. Their number is not checked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// What is called.
    pub name: &'a str,
    /// The arguments, at most 9.
    pub args: &'a [String],
}

impl<'a> Call<'a> {
    /// An argument that the function needs. That it is there was counted before the function runs.
    pub(crate) fn text(&self, at: usize) -> Result<&'a str, Internal> {
        let text = self.args.get(at).map(String::as_str);
        text.ok_or_else(|| Internal::new("a function runs without an argument that it needs"))
    }
}

/// Which list it is; decides the wording of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// `funlist`.
    Functions,
    /// `reqlist`.
    Requirements,
}

impl ListKind {
    fn name(self) -> &'static str {
        match self {
            Self::Functions => "funlist",
            Self::Requirements => "reqlist",
        }
    }
}

/// Why a list is no list of calls. Displays as the reference does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallListError {
    /// A count is not a number from 1 to 10.
    #[error("Unexpected argc value in {}", .0.name())]
    Count(ListKind),
    /// The list ends before the call does.
    #[error("Unexpected error with {}", .0.name())]
    Short(ListKind),
}

impl CallList {
    /// Returns all calls, or the first error of the list.
    pub fn calls(&self, kind: ListKind) -> Result<Vec<Call<'_>>, CallListError> {
        self.each(kind).collect()
    }

    /// Walks over the calls; ends after the first error. For callers that stop early, like the requirements.
    pub fn each(&self, kind: ListKind) -> impl Iterator<Item = Result<Call<'_>, CallListError>> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (count, after) = rest.split_first()?;
            let call = split(count, after, kind);
            rest = match &call {
                Ok((_, after)) => after,
                Err(_) => &[],
            };
            Some(call.map(|(call, _)| call))
        })
    }
}

/// Cuts one call off the list.
fn split<'a>(
    count: &str,
    after: &'a [String],
    kind: ListKind,
) -> Result<(Call<'a>, &'a [String]), CallListError> {
    let count = usize::try_from(super::number::prefix(count)).unwrap_or(0);
    if count == 0 || count > CALL_ARGUMENTS + 1 {
        return Err(CallListError::Count(kind));
    }
    let (call, after) = after.split_at_checked(count).ok_or(CallListError::Short(kind))?;
    let (name, args) = call.split_first().ok_or(CallListError::Short(kind))?;
    Ok((Call { name, args }, after))
}
