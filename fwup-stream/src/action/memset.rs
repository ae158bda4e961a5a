//! `raw_memset(BLOCK, COUNT, VALUE)`: fills blocks with one byte.

use super::context::{Context, blocks, bytes};
use super::error::ActionError;
use super::table::PlanContext;
use crate::disk::{BLOCK_BYTES, SEGMENT};
use crate::lengths::smaller;
use crate::manifest::{Call, number};

const NAME: &str = "raw_memset";

pub(super) fn units(_: &PlanContext<'_>, call: &Call<'_>) -> Result<u64, ActionError> {
    byte(call.text(2)?)?;
    Ok(bytes(blocks(call.text(1)?)))
}

pub(super) fn run(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let filled = vec![byte(call.text(2)?)?; SEGMENT];
    let (mut offset, mut left) = (bytes(blocks(call.text(0)?)), bytes(blocks(call.text(1)?)));
    while left > 0 {
        let (piece, _) = filled.split_at(smaller(left, SEGMENT));
        context.disk.write(offset, piece, true)?;
        // What lies behind the last byte that can be counted is refused when it is written.
        offset = offset.saturating_add(piece.len() as u64);
        left -= piece.len() as u64;
        for _ in 0..piece.len() as u64 / BLOCK_BYTES {
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
