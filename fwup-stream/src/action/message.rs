//! `info` and `error`.

use super::context::Context;
use super::error::ActionError;
use crate::manifest::Call;
use crate::options::ApplyEvent;

/// `info(TEXT)`: tells TEXT.
pub(super) fn info(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    (context.observer)(ApplyEvent::Info(call.text(0)?.to_owned()));
    Ok(())
}

/// `error(TEXT)`: fails with TEXT.
pub(super) fn error(_: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    Err(ActionError::Scripted(call.text(0)?.to_owned()))
}
