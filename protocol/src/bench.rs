//! The codec by itself, for benchmarks. Not part of the public interface.

use alloc::string::String;

use crate::config::Serializer;
use crate::event::{Stage, UpdateInfo};
use crate::hub::{names, payload};
use crate::phoenix::{Bench, Frame, Received};

/// Reads an `update` message from its text or bytes to what the application is told.
pub fn read_update(message: &Message<'_>) -> Result<UpdateInfo, String> {
    let (serializer, received) = match message {
        Message::Text(text) => (Serializer::Json, Received::Text(text)),
        Message::Binary(data) => (Serializer::MsgPack, Received::Binary(data)),
    };
    let offer = payload::update(Bench::read(serializer, received)?)?;
    offer.map(|(info, ..)| info).ok_or_else(|| String::from("no update"))
}

/// Writes a progress report. Returns the length of the message.
pub fn write_progress(serializer: Serializer, percent: u8) -> Result<usize, String> {
    let report = payload::progress(Stage::Downloading, percent);
    let frame = Bench::write(serializer, names::DEVICE, names::FWUP_PROGRESS, &report);
    Ok(match frame.map_err(String::from)? {
        Frame::Text(text) => text.len(),
        Frame::Binary(data) => data.len(),
    })
}

/// A message as it arrives.
pub enum Message<'a> {
    /// JSON.
    Text(&'a str),
    /// MessagePack.
    Binary(&'a [u8]),
}
