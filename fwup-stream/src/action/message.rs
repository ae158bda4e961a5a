//! `info` and `error`.

// All functions of the table have the same face.
#![allow(clippy::unnecessary_wraps)]

use super::context::Context;
use super::error::ActionError;
use crate::manifest::Call;
use crate::options::ApplyEvent;

/// `info(TEXT)`: tells TEXT.
pub(super) fn info(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    (context.observer)(ApplyEvent::Info(text(call)));
    Ok(())
}

/// `error(TEXT)`: fails with TEXT.
pub(super) fn error(_: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    Err(ActionError::Scripted(text(call)))
}

fn text(call: &Call<'_>) -> String {
    call.args.first().cloned().unwrap_or_default()
}
