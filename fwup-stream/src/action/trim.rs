//! `trim(BLOCK, COUNT)`: the content of a range no longer matters (fw-format §9.6).

// All functions of the table have the same face.
#![allow(clippy::unnecessary_wraps)]

use super::context::{Context, blocks, bytes};
use super::error::ActionError;
use super::table::PlanContext;
use crate::manifest::Call;

/// Blocks that count as one byte of work, says fwup's progress: a segment of them.
const BLOCKS_OF_UNIT: u64 = 256;

pub(super) fn units(_: &PlanContext<'_>, call: &Call<'_>) -> Result<u64, ActionError> {
    Ok(range(call).1 / BLOCKS_OF_UNIT)
}

pub(super) fn run(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let (first, count) = range(call);
    context.disk.trim(bytes(first), bytes(count))?;
    context.done(count / BLOCKS_OF_UNIT);
    Ok(())
}

fn range(call: &Call<'_>) -> (u64, u64) {
    // The plan has counted the arguments.
    let mut numbers = call.args.iter().map(|text| blocks(text));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
