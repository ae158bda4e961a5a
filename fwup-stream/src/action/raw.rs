//! `raw_write(BLOCK, OPTION...)`: a resource onto blocks (fw-format §11).

use super::context::{Context, blocks, bytes};
use super::data::Sink;
use super::error::ActionError;
use crate::disk::cipher::BlockCipher;
use crate::disk::{BLOCK, BLOCK_BYTES, DiskError};
use crate::internal::Internal;
use crate::lengths::smaller;
use crate::manifest::Call;

/// Characters of an option's value that count, as in fwup.
const CIPHER_LENGTH: usize = 32;
const SECRET_LENGTH: usize = 128;

pub(super) fn begin(_: &mut Context<'_>, call: &Call<'_>) -> Result<Box<dyn Sink>, ActionError> {
    let cipher = cipher(call.args.iter().skip(1).flat_map(|argument| argument.split(',')))?;
    let start = bytes(blocks(call.text(0)?));
    Ok(Box::new(RawSink { start, cipher, block: [0; BLOCK], pending: None, scratch: Vec::new() }))
}

/// The cipher that options like `cipher=NAME` and `secret=KEY` ask for, if any.
pub(crate) fn cipher<'a>(options: impl Iterator<Item = &'a str>) -> Result<Option<BlockCipher>, ActionError> {
    let (mut cipher, mut secret) = (None, None);
    for option in options {
        let (key, value) =
            option.split_once('=').ok_or_else(|| ActionError::ParameterValue(option.to_owned()))?;
        match key {
            "cipher" => cipher = Some(value.chars().take(CIPHER_LENGTH).collect::<String>()),
            "secret" => secret = Some(value.chars().take(SECRET_LENGTH).collect::<String>()),
            _ => return Err(ActionError::Parameter(option.to_owned())),
        }
    }
    match (cipher, secret) {
        (None, None) => Ok(None),
        (Some(cipher), Some(secret)) if cipher.is_empty() == secret.is_empty() => {
            Ok(Some(BlockCipher::new(&cipher, &secret)?))
        }
        _ => Err(ActionError::CipherAndSecret),
    }
}

/// Brings data to whole blocks: what a block lacks is zeros.
struct RawSink {
    start: u64,
    cipher: Option<BlockCipher>,
    block: [u8; BLOCK],
    /// The offset in the resource of the block being filled.
    pending: Option<u64>,
    /// Room for encrypting.
    scratch: Vec<u8>,
}

impl RawSink {
    fn flush(&mut self, context: &mut Context<'_>) -> Result<(), ActionError> {
        if let Some(offset) = self.pending.take() {
            let block = std::mem::replace(&mut self.block, [0; BLOCK]);
            self.write_blocks(context, offset, &block)?;
        }
        Ok(())
    }

    /// Writes whole blocks. They are numbered from the start of the resource for the cipher.
    fn write_blocks(
        &mut self,
        context: &mut Context<'_>,
        offset: u64,
        data: &[u8],
    ) -> Result<(), ActionError> {
        // What lies behind the last byte that can be counted is refused when it is written.
        let place = self.start.saturating_add(offset);
        let Some(cipher) = &self.cipher else {
            return Ok(context.disk.write(place, data, true)?);
        };
        if !offset.is_multiple_of(BLOCK_BYTES) || !data.len().is_multiple_of(BLOCK) {
            // The rest would go to the disk in the clear.
            return Err(DiskError::internal(place, "a part of a block was to be encrypted").into());
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(data);
        cipher.encrypt(offset / BLOCK_BYTES, &mut self.scratch);
        Ok(context.disk.write(place, &self.scratch, true)?)
    }
}

impl Sink for RawSink {
    fn write(&mut self, context: &mut Context<'_>, offset: u64, data: &[u8]) -> Result<(), ActionError> {
        let (mut offset, mut data) = (offset, data);
        while !data.is_empty() {
            let inside = smaller(offset % BLOCK_BYTES, BLOCK);
            let block = offset - inside as u64;
            if self.pending != Some(block) {
                self.flush(context)?;
            }
            let whole = data.len() - data.len() % BLOCK;
            if inside == 0 && whole > 0 {
                let (now, rest) = data.split_at(whole);
                self.write_blocks(context, offset, now)?;
                (offset, data) = (offset.saturating_add(whole as u64), rest);
                continue;
            }
            let (now, rest) = data.split_at(data.len().min(BLOCK - inside));
            let place = self.block.get_mut(inside..inside + now.len());
            place
                .ok_or_else(|| Internal::new("data reach over the end of their block"))?
                .copy_from_slice(now);
            self.pending = Some(block);
            if inside + now.len() == BLOCK {
                self.flush(context)?;
            }
            (offset, data) = (offset.saturating_add(now.len() as u64), rest);
        }
        Ok(())
    }

    fn finish(&mut self, context: &mut Context<'_>, length: u64, hole: u64) -> Result<(), ActionError> {
        // A final hole gives a regular file its length by its last bytes.
        let zeros = [0; BLOCK];
        let (tail, _) = zeros.split_at(smaller(hole, BLOCK));
        self.write(context, length - tail.len() as u64, tail)?;
        self.flush(context)
    }
}
