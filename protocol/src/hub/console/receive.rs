//! Files on their way to the device.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::Context;
use super::Heard;
use crate::chunk::Chunk;
use crate::command::CommandError;
use crate::event::Event;
use crate::fault::Fault;
use crate::file::FileEvent;
use crate::ids::FileId;
use crate::limits::{
    FILE_IDLE, MAX_ENDED_FILES, MAX_FILE_CHUNK_BYTES, MAX_FILE_NAME_BYTES, MAX_FILE_UNSTORED, MAX_FILES,
};
use crate::number::as_u64;
use crate::time::Instant;
use crate::timer::{Earliest, Timer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Why a file ends that its sender does not end.
pub(super) const LATE: &str = "the rest did not come";

/// Why a file is not, or no longer, received.
pub(super) struct Refused {
    /// The file's name, as its sender wrote it.
    pub(super) name: String,
    /// For a person.
    pub(super) reason: String,
    /// Whether the application was told.
    pub(super) told: bool,
}

/// The files that are being received, and those that just were.
#[derive(Default)]
pub(super) struct Receiving {
    open: Vec<File>,
    /// Those that ended: with their name if they are complete, but perhaps not stored. The oldest makes room.
    ended: VecDeque<(FileId, Option<String>)>,
}

struct File {
    id: FileId,
    name: String,
    size: u64,
    /// Bytes handed over and not reported stored.
    unstored: usize,
    /// When it is given up unless more comes.
    idle: Instant,
}

impl Receiving {
    /// A file begins.
    pub(super) fn started(&mut self, cx: &mut Context<'_>, name: &str) -> Result<Heard, Refused> {
        // A second beginning means that the first has no end.
        if let Some(at) = self.find(name) {
            self.drop_at(cx, at, "its sender began again");
        }
        let refusal = if self.open.len() >= MAX_FILES {
            Some("too many files are being received already")
        } else {
            check(name).err()
        };
        if let Some(reason) = refusal {
            return Err(Refused { name: String::from(name), reason: String::from(reason), told: false });
        }
        let id = cx.ids.file();
        let name = String::from(name);
        cx.out.event(Event::File(FileEvent::Started { file: id, name: name.clone() }));
        self.open.push(File { id, name, size: 0, unstored: 0, idle: cx.now + FILE_IDLE });
        Ok(Heard::Known)
    }

    /// A file goes on.
    pub(super) fn chunk(
        &mut self,
        cx: &mut Context<'_>,
        name: &str,
        data: Option<&str>,
    ) -> Result<Heard, Refused> {
        let mut open = self.open.iter_mut().enumerate();
        let Some((at, file)) = open.find(|(_, file)| file.name == name) else { return Ok(Heard::Stale) };
        file.idle = cx.now + FILE_IDLE;
        // What `chunk` counts differs between senders: pieces belong in the order in which they come.
        match file.take(cx, data) {
            Ok(()) => Ok(Heard::Known),
            Err(reason) => {
                self.drop_at(cx, at, &reason);
                Err(Refused { name: String::from(name), reason, told: true })
            }
        }
    }

    /// A file is complete.
    pub(super) fn stopped(&mut self, cx: &mut Context<'_>, name: &str) -> Heard {
        let Some(at) = self.find(name) else { return Heard::Stale };
        let file = self.open.swap_remove(at);
        cx.out.event(Event::File(FileEvent::Finished { file: file.id }));
        self.remember(file.id, Some(file.name));
        Heard::Known
    }

    fn remember(&mut self, id: FileId, name: Option<String>) {
        if self.ended.len() >= MAX_ENDED_FILES {
            self.ended.pop_front();
        }
        self.ended.push_back((id, name));
    }

    /// Bytes of a file were stored.
    pub(super) fn stored(&mut self, id: FileId, bytes: usize) -> Result<(), CommandError> {
        if let Some(file) = self.open.iter_mut().find(|file| file.id == id) {
            // An application that counts too much gets more, up to its own limits.
            file.unstored = file.unstored.saturating_sub(bytes);
        } else if !self.ended.iter().any(|(ended, _)| *ended == id) {
            return Err(CommandError::UnknownFile(id));
        }
        Ok(())
    }

    /// A file can't be stored. Returns its name, unless its sender knows already that it was not received.
    pub(super) fn failed(&mut self, id: FileId) -> Result<Option<String>, CommandError> {
        if let Some(at) = self.open.iter().position(|file| file.id == id) {
            let file = self.open.swap_remove(at);
            self.remember(id, None);
            return Ok(Some(file.name));
        }
        let ended = self.ended.iter_mut().find(|(ended, _)| *ended == id);
        ended.map(|(_, name)| name.take()).ok_or(CommandError::UnknownFile(id))
    }

    /// Gives up all files that are not complete.
    pub(super) fn discard(&mut self, cx: &mut Context<'_>, reason: &str) {
        for file in core::mem::take(&mut self.open) {
            self.remember(file.id, None);
            cx.out.event(Event::File(FileEvent::Discarded { file: file.id, reason: String::from(reason) }));
        }
    }

    /// Gives up files of which nothing came for long. Returns their names.
    pub(super) fn late(&mut self, cx: &mut Context<'_>) -> Vec<String> {
        let now = cx.now;
        let late: Vec<File> = self.open.extract_if(.., |file| file.idle <= now).collect();
        let name = |file: File| {
            self.remember(file.id, None);
            cx.out.event(Event::File(FileEvent::Discarded { file: file.id, reason: String::from(LATE) }));
            file.name
        };
        late.into_iter().map(name).collect()
    }

    /// Adds the timer to a deadline.
    pub(super) fn deadlines(&self, deadline: &mut Earliest) {
        if let Some(idle) = self.open.iter().map(|file| file.idle).min() {
            deadline.at(Timer::FileIdle, idle);
        }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.open.iter().position(|file| file.name == name)
    }

    fn drop_at(&mut self, cx: &mut Context<'_>, at: usize, reason: &str) {
        let file = self.open.swap_remove(at);
        self.remember(file.id, None);
        cx.out.event(Event::File(FileEvent::Discarded { file: file.id, reason: String::from(reason) }));
    }
}

impl File {
    /// Takes a piece, or says why the file ends here.
    fn take(&mut self, cx: &mut Context<'_>, data: Option<&str>) -> Result<(), String> {
        let data = decode(data.ok_or("a piece of it holds no text")?)?;
        self.size = self.size.saturating_add(as_u64(data.len()));
        self.unstored = self.unstored.saturating_add(data.len());
        let console =
            cx.config.console.as_ref().ok_or_else(|| Fault::new("a file came to a console that is off"))?;
        let max = console.max_file_size;
        if self.size > max {
            return Err(format!("it is larger than the {max} bytes allowed on this device"));
        }
        if self.unstored > MAX_FILE_UNSTORED {
            return Err(String::from("it comes faster than the device stores it"));
        }
        cx.out.event(Event::File(FileEvent::Chunk { file: self.id, data: Chunk(data) }));
        Ok(())
    }
}

/// Says what is wrong with the name of a file. It must not lead out of its folder, and be fit for a terminal.
pub(super) fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("a file needs a name")
    } else if name.len() > MAX_FILE_NAME_BYTES {
        Err("its name is too long")
    } else if name == "." || name == ".." || name.contains(['/', '\\']) {
        Err("its name leads to another folder")
    } else if name.chars().any(char::is_control) {
        Err("its name holds control characters")
    } else {
        Ok(())
    }
}

fn decode(data: &str) -> Result<Vec<u8>, String> {
    let too_long = || format!("a piece of it has more than the {MAX_FILE_CHUNK_BYTES} bytes allowed");
    // Longer base64 is not even decoded.
    if data.len() > MAX_FILE_CHUNK_BYTES.div_ceil(3) * 4 {
        return Err(too_long());
    }
    let bytes = STANDARD.decode(data).map_err(|error| format!("a piece of it is not base64: {error}"))?;
    if bytes.len() > MAX_FILE_CHUNK_BYTES { Err(too_long()) } else { Ok(bytes) }
}
