//! Files that operators send to devices by the console, and those that devices send to them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nerves_hub_link_protocol::{
    Chunk, Command, CommandError, Event, FileCommand, FileEvent, FileId, UploadCommand, UploadEvent, UploadId,
};
use serde_json::json;

use super::World;
use crate::sim::device::{Device, identifier};
use crate::sim::queue::DeviceDue;
use crate::sim::scenario::Variant;
use crate::sim::sent_files::bytes;
use crate::sim::violation::{Broken, Violation};

/// Sizes of files; the last is more than a device takes.
const SIZES: [u64; 8] = [5_000, 0, 1, 1_024, 20_000, 63_000, 180_000, 300_000];
/// Sizes of pieces; the last is more than a device takes.
const PIECES: [u64; 8] = [4_096, 1_024, 1_000, 30_000, 16_384, 60_000, 65_536, 70_000];

impl World {
    /// An operator sends a file to a device, or wants one of it.
    pub(super) fn file_step(&mut self, number: u32, how: u32) -> Result<(), Violation> {
        if !self.scenario.has(Variant::Console) {
            return Ok(());
        }
        let pick = |shift: u32, from: [u64; 8]| {
            from.get((how >> shift & 7) as usize).copied().filter(|_| !self.scenario.fleet).unwrap_or(from[0])
        };
        let (size, piece) = (pick(1, SIZES), pick(4, PIECES));
        self.stats.files += 1;
        let file = self.stats.files;
        if how & 1 == 0 {
            self.send_file(number, how, size, piece);
            return Ok(());
        }
        self.with(number, |world, device| {
            let (now, wall) = (world.now, device.wall);
            world.rouse(device);
            let Some(life) = device.link.as_mut() else { return Ok(()) };
            let busy = life.watch.files.is_sending();
            let clock = life.clock(now, wall);
            let order = UploadCommand::Send { name: format!("file-{file}"), size };
            match life.link.command(clock, Command::Upload(order)) {
                Ok(()) if !busy => life.watch.files.sends(file, size),
                Err(CommandError::UploadInProgress) if busy => {}
                Err(CommandError::ConsoleNotJoined) if !busy => {}
                _ => return Err(Broken::File { what: "is taken or refused without a reason" }),
            }
            world.settle(device, false)
        })
    }

    /// An operator sends a file; some never send the end, some not the beginning.
    fn send_file(&mut self, number: u32, how: u32, size: u64, piece: u64) {
        let name = identifier(number);
        let file = self.stats.files;
        // Two names only: a second file may begin before the first ends.
        let called = format!("file-{}", how >> 7 & 1);
        let (begins, ends) = (how >> 8 & 15 != 0, how >> 12 & 7 != 0);
        if begins {
            self.server.hub.console(&name, "file-data/start", &json!({"filename": called}));
        }
        let mut from = 0;
        let mut count = 0;
        while from < size {
            let to = size.min(from + piece);
            let data = STANDARD.encode(bytes(file, from, to));
            let part = json!({"filename": called, "chunk": count, "data": data});
            self.server.hub.console(&name, "file-data", &part);
            (from, count) = (to, count + 1);
        }
        if ends {
            self.server.hub.console(&name, "file-data/stop", &json!({"filename": called}));
        }
        self.serve();
    }

    /// The application hears of files.
    pub(super) fn file_news(&mut self, device: &mut Device, event: &Event) {
        match event {
            Event::File(FileEvent::Chunk { file, data }) => {
                let after = device.rng.within(1_000, 50_000) + device.armed.slowness();
                self.later(device, after, DeviceDue::FileStored { file: *file, bytes: data.0.len() });
            }
            Event::File(FileEvent::Finished { .. }) => self.stats.files_received += 1,
            Event::Upload(UploadEvent::Ready { upload, .. }) => {
                let after = device.rng.within(500, 20_000);
                self.later(device, after, DeviceDue::FileRead(*upload));
            }
            Event::Upload(UploadEvent::Finished { .. }) => self.stats.files_sent += 1,
            _ => {}
        }
    }

    /// The application stored a piece of a file, or can't.
    pub(super) fn file_stored(
        &mut self,
        device: &mut Device,
        file: FileId,
        bytes: usize,
    ) -> Result<(), Broken> {
        let (now, wall) = (self.now, device.wall);
        let fails = device.rng.one_in(60);
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let open = life.watch.files.stored(file, bytes);
        let command = if fails {
            FileCommand::Failed { file, reason: "the disk is full".to_owned() }
        } else {
            FileCommand::Stored { file, bytes }
        };
        let clock = life.clock(now, wall);
        let taken = life.link.command(clock, Command::File(command));
        match taken {
            Ok(()) => {
                if fails {
                    life.watch.files.take(file);
                }
                Ok(())
            }
            Err(_) if !open => Ok(()),
            Err(_) => Err(Broken::File { what: "is open, and the machine does not know it" }),
        }
    }

    /// The application read what the machine wants of a file.
    pub(super) fn file_read(&mut self, device: &mut Device, upload: UploadId) -> Result<(), Broken> {
        let (now, wall) = (self.now, device.wall);
        let gives_up = device.rng.one_in(60);
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let Some(data) = life.watch.files.hand_over(upload) else { return Ok(()) };
        let clock = life.clock(now, wall);
        let order = if gives_up {
            life.watch.files.cancels();
            UploadCommand::Cancel { upload }
        } else {
            UploadCommand::Data { upload, data: Chunk(data) }
        };
        let taken = life.link.command(clock, Command::Upload(order)).is_ok();
        let what = "is sent, and the machine does not know it";
        if taken { Ok(()) } else { Err(Broken::File { what }) }
    }
}
