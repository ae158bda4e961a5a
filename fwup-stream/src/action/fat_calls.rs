//! The `fat_*` functions, on the file systems of [`super::fat`].

// All functions of the table have the same face.
#![allow(clippy::unnecessary_wraps)]

use super::context::{Context, blocks};
use super::data::Sink;
use super::error::ActionError;
use crate::disk::BLOCK_BYTES;
use crate::manifest::Call;
use crate::options::ApplyEvent;

/// The block and the texts of a call; what is missing is empty, since the plan has counted the arguments.
fn arguments<'a>(call: &Call<'a>) -> (u64, &'a str, &'a str) {
    let text = |at: usize| call.args.get(at).map_or("", String::as_str);
    (blocks(text(0)), text(1), text(2))
}

pub(super) fn mkfs(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let (block, count, _) = arguments(call);
    context.fats.mkfs(context.disk, block, blocks(count))?;
    context.done(BLOCK_BYTES);
    Ok(())
}

pub(super) fn copy(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let (block, from, third) = arguments(call);
    let (to_block, to) = call.args.get(3).map_or((block, third), |to| (blocks(third), to.as_str()));
    context.fats.copy(context.disk, block, from, to_block, to)?;
    context.done(BLOCK_BYTES);
    Ok(())
}

pub(super) fn rename(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    rename_either(context, call, false)
}

pub(super) fn rename_over(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    rename_either(context, call, true)
}

fn rename_either(context: &mut Context<'_>, call: &Call<'_>, force: bool) -> Result<(), ActionError> {
    let (block, from, to) = arguments(call);
    context.fats.rename(context.disk, block, from, to, force)?;
    context.done(BLOCK_BYTES);
    Ok(())
}

pub(super) fn remove(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    remove_either(context, call, false)
}

pub(super) fn remove_existing(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    remove_either(context, call, true)
}

fn remove_either(context: &mut Context<'_>, call: &Call<'_>, must_exist: bool) -> Result<(), ActionError> {
    let (block, name, _) = arguments(call);
    context.fats.remove(context.disk, block, name, must_exist)?;
    context.done(BLOCK_BYTES);
    Ok(())
}

pub(super) fn mkdir(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let (block, name, _) = arguments(call);
    context.fats.mkdir(context.disk, block, name)?;
    context.done(BLOCK_BYTES);
    Ok(())
}

pub(super) fn touch(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let (block, name, _) = arguments(call);
    context.fats.touch(context.disk, block, name)?;
    context.done(BLOCK_BYTES);
    Ok(())
}

pub(super) fn set_label(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let (block, label, _) = arguments(call);
    context.fats.set_label(context.disk, block, label)?;
    context.done(BLOCK_BYTES);
    Ok(())
}

/// `fat_attrib(BLOCK, NAME, LETTERS)`. fwup goes on when it fails, and firmware may count on that.
pub(super) fn set_attributes(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let (block, name, letters) = arguments(call);
    match context.fats.set_attributes(context.disk, block, name, letters) {
        Ok(()) => context.done(BLOCK_BYTES),
        Err(error) => (context.observer)(ApplyEvent::Detail(format!("ignored, as fwup does: {error}"))),
    }
    Ok(())
}

/// `fat_write(BLOCK, NAME)`.
pub(super) fn write(context: &mut Context<'_>, call: &Call<'_>) -> Result<Box<dyn Sink>, ActionError> {
    let (block, name, _) = arguments(call);
    context.fats.truncate(context.disk, block, name)?;
    Ok(Box::new(FatSink { block, name: name.to_owned() }))
}

/// A file being written; holes become zeros.
struct FatSink {
    block: u64,
    name: String,
}

impl Sink for FatSink {
    fn write(&mut self, context: &mut Context<'_>, offset: u64, data: &[u8]) -> Result<(), ActionError> {
        Ok(context.fats.write_at(context.disk, self.block, &self.name, offset, data)?)
    }

    fn finish(&mut self, context: &mut Context<'_>, length: u64, hole: u64) -> Result<(), ActionError> {
        // The gap in front of the last byte is filled with zeros.
        match length.checked_sub(1).filter(|_| hole > 0) {
            Some(last) => self.write(context, last, &[0]),
            None => Ok(()),
        }
    }

    fn writes_holes(&self) -> bool {
        true
    }
}
