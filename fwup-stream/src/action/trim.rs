//! `trim(BLOCK, COUNT)`: the content of a range no longer matters (fw-format §9.6).

// All functions of the table have the same face.
#![allow(clippy::unnecessary_wraps)]

use super::context::{Context, blocks, bytes};
use super::error::ActionError;
use super::table::PlanContext;
use crate::manifest::Call;

/// Discarding is this much cheaper than writing, says fwup's progress.
const CHEAPER: u64 = 256;

pub(super) fn units(_: &PlanContext<'_>, call: &Call<'_>) -> Result<u64, ActionError> {
    Ok(bytes(range(call).1) / CHEAPER)
}

pub(super) fn run(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let (first, count) = range(call);
    context.disk.trim(bytes(first), bytes(count))?;
    context.done(bytes(count) / CHEAPER);
    Ok(())
}

fn range(call: &Call<'_>) -> (u64, u64) {
    let mut numbers = call.args.iter().map(|text| blocks(text));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
