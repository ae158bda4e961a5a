//! `raw_write(BLOCK, OPTION...)`: a resource onto blocks (fw-format §11).

use super::context::{Context, blocks, bytes};
use super::data::Sink;
use super::error::ActionError;
use super::table::PlanContext;
use crate::disk::{BLOCK, BLOCK_BYTES};
use crate::manifest::Call;

/// Characters of an option's value that count, as in fwup.
const CIPHER_LENGTH: usize = 32;
/// Ciphers fwup knows.
const CIPHERS: [&str; 2] = ["aes-cbc-plain", "aes-xts-plain64"];

pub(super) fn units(plan: &PlanContext<'_>, call: &Call<'_>) -> Result<u64, ActionError> {
    // What fwup refuses when the function runs is left to that moment; what only we lack is said now.
    match cipher(call) {
        Ok(Some(name)) if CIPHERS.contains(&name.as_str()) => {
            Err(ActionError::Unsupported { what: format!("raw_write with cipher={name}") })
        }
        _ => Ok(plan.data_length()),
    }
}

pub(super) fn begin(_: &mut Context<'_>, call: &Call<'_>) -> Result<Box<dyn Sink>, ActionError> {
    if let Some(name) = cipher(call)? {
        return Err(ActionError::Cipher(name));
    }
    let start = bytes(call.args.first().map_or(0, |text| blocks(text)));
    Ok(Box::new(RawSink { start, block: [0; BLOCK], pending: None }))
}

/// The name of the cipher the options ask for, if any.
fn cipher(call: &Call<'_>) -> Result<Option<String>, ActionError> {
    let (mut cipher, mut secret) = (None, None);
    for option in call.args.iter().skip(1).flat_map(|argument| argument.split(',')) {
        let (key, value) =
            option.split_once('=').ok_or_else(|| ActionError::ParameterValue(option.to_owned()))?;
        match key {
            "cipher" => cipher = Some(value.chars().take(CIPHER_LENGTH).collect::<String>()),
            "secret" => secret = Some(value),
            _ => return Err(ActionError::Parameter(option.to_owned())),
        }
    }
    match (cipher, secret) {
        (None, None) => Ok(None),
        (Some(cipher), Some(secret)) if cipher.is_empty() == secret.is_empty() => Ok(Some(cipher)),
        _ => Err(ActionError::CipherAndSecret),
    }
}

/// Brings data to whole blocks: what a block lacks is zeros.
struct RawSink {
    start: u64,
    block: [u8; BLOCK],
    /// The offset in the resource of the block being filled.
    pending: Option<u64>,
}

impl RawSink {
    fn flush(&mut self, context: &mut Context<'_>) -> Result<(), ActionError> {
        if let Some(offset) = self.pending.take() {
            context.disk.write(self.start.saturating_add(offset), &self.block, true)?;
            self.block = [0; BLOCK];
        }
        Ok(())
    }
}

impl Sink for RawSink {
    fn write(&mut self, context: &mut Context<'_>, offset: u64, data: &[u8]) -> Result<(), ActionError> {
        let (mut offset, mut data) = (offset, data);
        while !data.is_empty() {
            let inside = usize::try_from(offset % BLOCK_BYTES).unwrap_or_default();
            let block = offset - inside as u64;
            if self.pending != Some(block) {
                self.flush(context)?;
            }
            let whole = data.len() - data.len() % BLOCK;
            if inside == 0 && whole > 0 {
                let (now, rest) = data.split_at(whole);
                context.disk.write(self.start.saturating_add(offset), now, true)?;
                (offset, data) = (offset.saturating_add(whole as u64), rest);
                continue;
            }
            let (now, rest) = data.split_at(data.len().min(BLOCK - inside));
            if let Some(place) = self.block.get_mut(inside..inside + now.len()) {
                place.copy_from_slice(now);
            }
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
        let tail = usize::try_from(hole.min(BLOCK_BYTES)).unwrap_or(BLOCK);
        self.write(context, length - tail as u64, zeros.get(..tail).unwrap_or_default())?;
        self.flush(context)
    }
}
