//! A file on its way from the device to operators (device-protocol §4), one at a time.

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::{CONSOLE, Context, names};
use super::{FILE, receive};
use crate::command::CommandError;
use crate::event::Event;
use crate::fault::Fault;
use crate::file::UploadEvent;
use crate::ids::UploadId;
use crate::limits::{FILE_IDLE, MAX_UPLOAD_BUFFER, MAX_UPLOAD_BYTES, UPLOAD_CHUNK_BYTES};
use crate::number::{as_u64, at_most};
use crate::phoenix::Class;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};

/// The file that is sent, if one is.
#[derive(Default)]
pub(crate) struct Uploading {
    file: Option<File>,
}

struct File {
    id: UploadId,
    name: String,
    /// Bytes still to come from the application.
    left: u64,
    /// Bytes of those that were asked for.
    asked: usize,
    /// What waits to be sent.
    buffer: Vec<u8>,
    /// The number of the next piece.
    piece: u64,
    stage: Stage,
    /// When it is given up unless it gets on.
    idle: Instant,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// The beginning is to be said.
    Start,
    /// Pieces.
    Data,
    /// The end was said, and waits to be sent.
    Stop,
}

impl Uploading {
    /// The application wants a file sent.
    pub(crate) fn send(&mut self, cx: &mut Context<'_>, name: String, size: u64) -> Result<(), CommandError> {
        if self.file.is_some() {
            return Err(CommandError::UploadInProgress);
        }
        receive::check(&name).map_err(|_| CommandError::FileName)?;
        if size >= MAX_UPLOAD_BYTES {
            return Err(CommandError::FileTooLarge { size });
        }
        if !cx.wire.has_joined(CONSOLE) {
            return Err(CommandError::ConsoleNotJoined);
        }
        let id = cx.ids.upload();
        cx.out.event(Event::Upload(UploadEvent::Started { upload: id, name: name.clone() }));
        let idle = cx.now + FILE_IDLE;
        let mut file =
            File { id, name, left: size, asked: 0, buffer: Vec::new(), piece: 0, stage: Stage::Start, idle };
        file.ask(cx);
        self.file = Some(file);
        Ok(())
    }

    /// The application read some of the file.
    pub(crate) fn data(
        &mut self,
        cx: &mut Context<'_>,
        id: UploadId,
        bytes: &[u8],
    ) -> Result<(), CommandError> {
        let file = self.file.as_mut().filter(|file| file.id == id).ok_or(CommandError::UnknownUpload(id))?;
        let asked = file.asked.checked_sub(bytes.len());
        file.asked = asked.ok_or(CommandError::NoRoom { room: file.asked })?;
        let Some(left) = file.left.checked_sub(as_u64(bytes.len())) else {
            Fault::new("more of a file was asked for than is left of it").report(cx.out);
            self.abort(cx, "internal error");
            return Ok(());
        };
        file.left = left;
        file.buffer.extend_from_slice(bytes);
        file.idle = cx.now + FILE_IDLE;
        Ok(())
    }

    /// The application wants no more of it. Operators see the beginning.
    pub(crate) fn cancel(&mut self, id: UploadId) -> Result<(), CommandError> {
        let file = self.file.take_if(|file| file.id == id);
        file.map(drop).ok_or(CommandError::UnknownUpload(id))
    }

    /// Gives up what is sent.
    pub(super) fn abort(&mut self, cx: &mut Context<'_>, reason: &str) {
        if let Some(file) = self.file.take() {
            cx.out
                .event(Event::Upload(UploadEvent::Aborted { upload: file.id, reason: String::from(reason) }));
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        if self.file.as_ref().is_some_and(|file| file.idle <= cx.now) {
            self.abort(cx, "it did not get on");
        }
    }

    /// Adds the timer to a deadline.
    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        if let Some(file) = &self.file {
            deadline.at(Timer::FileIdle, file.idle);
        }
    }

    /// Hands the next part to the wire, if it is its turn.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>) {
        let Some(file) = &mut self.file else { return };
        if !cx.wire.has_joined(CONSOLE) || cx.wire.waits(CONSOLE, FILE) {
            return;
        }
        if file.stage == Stage::Stop {
            let id = file.id;
            self.file = None;
            cx.out.event(Event::Upload(UploadEvent::Finished { upload: id }));
            return;
        }
        if let Some((event, part)) = file.next() {
            file.idle = cx.now + FILE_IDLE;
            cx.wire.push_to(CONSOLE, FILE, event.into(), part, Class::Bulk);
            file.ask(cx);
        }
    }
}

impl File {
    /// Returns the next part, if it is there.
    fn next(&mut self) -> Option<(&'static str, Value)> {
        let name = self.name.as_str();
        if self.stage == Stage::Start {
            self.stage = Stage::Data;
            return Some((names::FILE_START, json!({"filename": name})));
        }
        let length = self.buffer.len().min(UPLOAD_CHUNK_BYTES);
        if length == 0 && self.left == 0 {
            self.stage = Stage::Stop;
            return Some((names::FILE_STOP, json!({"filename": name})));
        }
        if length == 0 || (length < UPLOAD_CHUNK_BYTES && self.left > 0) {
            return None;
        }
        let bytes: Vec<u8> = self.buffer.drain(..length).collect();
        let part = json!({"filename": name, "chunk": self.piece, "data": STANDARD.encode(bytes)});
        self.piece = self.piece.saturating_add(1);
        Some((names::FILE_DATA, part))
    }

    /// Asks for more, in pieces worth an event.
    fn ask(&mut self, cx: &mut Context<'_>) {
        let room = MAX_UPLOAD_BUFFER.saturating_sub(self.buffer.len().saturating_add(self.asked));
        debug_assert!(as_u64(self.asked) <= self.left, "more of a file was asked for than is left of it");
        let left = self.left.saturating_sub(as_u64(self.asked));
        let more = at_most(left, room);
        if more > 0 && (as_u64(more) == left || more >= MAX_UPLOAD_BUFFER / 2) {
            self.asked = self.asked.saturating_add(more);
            cx.out.event(Event::Upload(UploadEvent::Ready { upload: self.id, bytes: more }));
        }
    }
}
