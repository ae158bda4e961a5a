//! `raw_memset(BLOCK, COUNT, VALUE)`: fills blocks with one byte.

use super::context::{Context, blocks, bytes};
use super::error::ActionError;
use super::table::PlanContext;
use crate::disk::{BLOCK_BYTES, SEGMENT};
use crate::manifest::{Call, number};

const NAME: &str = "raw_memset";

pub(super) fn units(_: &PlanContext<'_>, call: &Call<'_>) -> Result<u64, ActionError> {
    let [_, count, value] = call.args else {
        return Ok(call.args.get(1).map_or(0, |count| bytes(blocks(count))));
    };
    byte(value)?;
    Ok(bytes(blocks(count)))
}

pub(super) fn run(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let [first, count, value, ..] = call.args else {
        return Err(ActionError::Arguments { function: NAME, needed: 3, given: call.args.len() });
    };
    let piece = vec![byte(value)?; SEGMENT];
    let (mut offset, mut left) = (bytes(blocks(first)), bytes(blocks(count)));
    while left > 0 {
        let here = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let data = piece.get(..here).unwrap_or_default();
        context.disk.write(offset, data, true)?;
        offset = offset.saturating_add(here as u64);
        left -= here as u64;
        for _ in 0..here as u64 / BLOCK_BYTES {
            context.done(BLOCK_BYTES);
        }
    }
    Ok(())
}

fn byte(text: &str) -> Result<u8, ActionError> {
    u8::try_from(number::prefix(text)).map_err(|_| ActionError::Argument {
        function: NAME,
        value: text.to_owned(),
        expected: "a byte value from 0 to 255",
    })
}
