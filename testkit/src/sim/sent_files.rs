//! Files on the console, both ways: byte for byte what was sent, or reported as not, and never without bound.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nerves_hub_link_protocol::limits::{FILE_IDLE, MAX_FILE_UNSTORED, MAX_FILES, MAX_UPLOAD_BUFFER};
use nerves_hub_link_protocol::{Event, FileEvent, FileId, UploadEvent, UploadId};
use serde_json::Value;

use super::scenario::SECOND;
use super::violation::Broken;

/// How long the end of a file may be on its way to the server: longer than a dead connection lasts.
const ARRIVES: u64 = 110 * SECOND;

/// A byte of the file of this number.
pub(super) fn byte(number: u64, offset: u64) -> u8 {
    (number.wrapping_mul(83) ^ offset.wrapping_mul(31) ^ (offset / 251)).to_le_bytes()[0]
}

/// The bytes of a file from one offset to another.
pub(super) fn bytes(number: u64, from: u64, to: u64) -> Vec<u8> {
    (from..to).map(|offset| byte(number, offset)).collect()
}

/// What a file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sum {
    length: u64,
    crc: u32,
}

impl Sum {
    const NONE: Self = Self { length: 0, crc: 0 };

    fn add(&mut self, data: &[u8]) {
        let mut hasher = crc32fast::Hasher::new_with_initial_len(self.crc, self.length);
        hasher.update(data);
        self.length += data.len() as u64;
        self.crc = hasher.finalize();
    }
}

/// The files of a device, as both sides see them.
#[derive(Debug, Default)]
pub(super) struct SentFiles {
    /// What arrived of files from operators since each began, by name.
    arrived: Vec<(String, Sum)>,
    /// The same as the application got it.
    open: Vec<Receiving>,
    last: u64,
    /// The number and the size of the next file that goes to operators.
    next: Option<(u64, u64)>,
    upload: Option<Uploading>,
    last_upload: u64,
    /// Files whose end the application heard of, and what the server must get.
    ended: Vec<(u64, String, Sum)>,
    /// What the server got of the newest, and the number of the next piece.
    got: Option<(Sum, u64)>,
    wrong: Option<&'static str>,
}

#[derive(Debug)]
struct Receiving {
    file: FileId,
    name: String,
    sum: Sum,
    unstored: usize,
    at: u64,
}

/// A file on its way to operators.
#[derive(Debug, Clone)]
struct Uploading {
    upload: UploadId,
    name: String,
    /// The number that decides its bytes.
    number: u64,
    size: u64,
    /// Bytes that are wanted now.
    wanted: usize,
    /// What was handed over.
    sum: Sum,
}

impl SentFiles {
    /// A message of the console arrived.
    pub fn arrives(&mut self, event: &str, payload: &Value) {
        let text = |field: &str| payload.get(field).and_then(Value::as_str).unwrap_or_default();
        let name = text("filename");
        match event {
            "file-data/start" => {
                self.arrived.retain(|(open, _)| open != name);
                self.arrived.push((name.to_owned(), Sum::NONE));
                if self.arrived.len() > 32 {
                    self.arrived.remove(0);
                }
            }
            "file-data" => {
                if let Some((_, sum)) = self.arrived.iter_mut().find(|(open, _)| open == name) {
                    sum.add(&decoded(text("data")));
                }
            }
            _ => {}
        }
    }

    /// The application is told something. A mistake of it is to lose this piece.
    pub fn hears(&mut self, now: u64, event: &Event, lose: bool) -> Result<(), Broken> {
        match event {
            Event::File(event) => self.file(now, event, lose),
            Event::Upload(event) => self.uploads(now, event),
            Event::ConsoleLost { .. } => self.lost(),
            _ => Ok(()),
        }
    }

    /// The channel or the connection is gone, and all that was under way on it.
    fn lost(&mut self) -> Result<(), Broken> {
        self.ended.clear();
        self.got = None;
        if self.is_busy() { wrong("is held open though the channel is gone") } else { Ok(()) }
    }

    fn file(&mut self, now: u64, event: &FileEvent, lose: bool) -> Result<(), Broken> {
        match event {
            FileEvent::Started { file, name } => {
                if file.0 <= self.last || self.open.len() >= MAX_FILES {
                    return wrong("began twice, or is one too many");
                }
                self.last = file.0;
                let name = name.clone();
                self.open.push(Receiving { file: *file, name, sum: Sum::NONE, unstored: 0, at: now });
            }
            FileEvent::Chunk { file, data } => {
                let Some(open) = self.open.iter_mut().find(|open| open.file == *file) else {
                    return wrong("goes on that is not open");
                };
                open.at = now;
                open.unstored += data.0.len();
                if !lose {
                    open.sum.add(&data.0);
                }
                if open.unstored > MAX_FILE_UNSTORED {
                    return wrong("comes faster than it is stored");
                }
            }
            FileEvent::Finished { file } => {
                let Some(open) = self.remove(*file) else { return wrong("ends that is not open") };
                let arrived = self.arrived.iter().position(|(name, _)| *name == open.name);
                let arrived = arrived.map(|at| self.arrived.remove(at));
                if arrived.is_none_or(|(_, sum)| sum != open.sum) {
                    return wrong("ends, and is not what arrived");
                }
            }
            FileEvent::Discarded { file, .. } if !self.take(*file) => {
                return wrong("is discarded that is not open");
            }
            _ => {}
        }
        Ok(())
    }

    /// The application gives up a file from an operator, or it is complete.
    pub fn take(&mut self, file: FileId) -> bool {
        self.remove(file).is_some()
    }

    fn remove(&mut self, file: FileId) -> Option<Receiving> {
        let at = self.open.iter().position(|open| open.file == file)?;
        Some(self.open.swap_remove(at))
    }

    /// The application stored bytes. Returns whether the file is still open.
    pub fn stored(&mut self, file: FileId, bytes: usize) -> bool {
        let open = self.open.iter_mut().find(|open| open.file == file);
        open.map(|open| open.unstored = open.unstored.saturating_sub(bytes)).is_some()
    }

    /// The application wants the file of this number sent, and the machine agreed.
    pub fn sends(&mut self, number: u64, size: u64) {
        self.next = Some((number, size));
    }

    fn uploads(&mut self, now: u64, event: &UploadEvent) -> Result<(), Broken> {
        match event {
            UploadEvent::Started { upload, name } => {
                let Some((number, size)) = self.next.take() else {
                    return wrong("is sent and nobody wants it");
                };
                if upload.0 <= self.last_upload || self.upload.is_some() {
                    return wrong("is sent twice, or beside another");
                }
                self.last_upload = upload.0;
                let sum = Sum::NONE;
                let name = name.clone();
                self.upload = Some(Uploading { upload: *upload, name, number, size, wanted: 0, sum });
            }
            UploadEvent::Ready { upload, bytes } => {
                let Some(open) = self.upload.as_mut().filter(|open| open.upload == *upload) else {
                    return wrong("is to go on that is not sent");
                };
                open.wanted += bytes;
                let left = usize::try_from(open.size - open.sum.length).unwrap_or(usize::MAX);
                if open.wanted > MAX_UPLOAD_BUFFER.min(left) {
                    return wrong("is wanted faster than it can go, or more of it than there is");
                }
            }
            UploadEvent::Finished { upload } => {
                let Some(open) = self.upload.take_if(|open| open.upload == *upload) else {
                    return wrong("ends that is not sent");
                };
                if open.sum.length != open.size {
                    return wrong("ends before all of it was handed over");
                }
                self.ended.push((now, open.name, open.sum));
            }
            UploadEvent::Aborted { upload, .. }
                if self.upload.take_if(|open| open.upload == *upload).is_none() =>
            {
                return wrong("is aborted that is not sent");
            }
            _ => {}
        }
        Ok(())
    }

    /// Bytes that the application hands over next.
    pub fn hand_over(&mut self, upload: UploadId) -> Option<Vec<u8>> {
        let open = self.upload.as_mut().filter(|open| open.upload == upload && open.wanted > 0)?;
        let from = open.sum.length;
        let data = bytes(open.number, from, from + open.wanted as u64);
        open.sum.add(&data);
        open.wanted = 0;
        Some(data)
    }

    /// The application gives up what it sends.
    pub fn cancels(&mut self) {
        self.upload = None;
    }

    /// Whether a file is being sent.
    pub fn is_sending(&self) -> bool {
        self.upload.is_some()
    }

    /// A message of the console reached the server.
    pub fn got(&mut self, event: &str, payload: &Value) {
        match event {
            "file-data/start" => self.got = Some((Sum::NONE, 0)),
            "file-data" => {
                let piece = payload.get("chunk").and_then(Value::as_u64);
                if let Some((sum, next)) = &mut self.got {
                    if piece != Some(*next) {
                        self.wrong = Some("reaches the server with a piece missing, or twice");
                    }
                    *next += 1;
                    sum.add(&decoded(payload.get("data").and_then(Value::as_str).unwrap_or_default()));
                }
            }
            "file-data/stop" => {
                let got = self.got.take().map(|(sum, _)| sum);
                let name = payload.get("filename").and_then(Value::as_str).unwrap_or_default();
                let sent = self.ended.iter().position(|(_, sent, _)| sent == name);
                let sent = sent.map(|at| self.ended.remove(at).2);
                if got.is_some() && sent.is_some() && got != sent {
                    self.wrong = Some("reaches the server, and is not what was sent");
                }
            }
            _ => {}
        }
    }

    /// Whether something is on its way.
    pub fn is_busy(&self) -> bool {
        !self.open.is_empty() || self.upload.is_some()
    }

    /// Looks whether something takes too long, once everything the machine wants was done.
    pub fn check(&mut self, now: u64, ticked: bool, connected: bool) -> Result<(), Broken> {
        if let Some(what) = self.wrong {
            return wrong(what);
        }
        let idle = u64::try_from(FILE_IDLE.as_micros()).unwrap_or(u64::MAX);
        if ticked && self.open.iter().any(|open| now >= open.at + idle) {
            return wrong("is held open though nothing comes");
        }
        if !connected {
            self.lost()?;
        }
        if self.ended.first().is_some_and(|(at, ..)| now >= at + ARRIVES) {
            return wrong("was sent, and the server did not get its end though the connection lives");
        }
        Ok(())
    }
}

fn decoded(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap_or_default()
}

fn wrong(what: &'static str) -> Result<(), Broken> {
    Err(Broken::File { what })
}
