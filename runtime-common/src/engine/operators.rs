//! What operators do on the console: shells, and files both ways.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nerves_hub_link_platform::files::Outgoing;
use nerves_hub_link_protocol::{Command, Event, UploadCommand, UploadEvent, UploadId};

use super::Engine;
use crate::tasks::Done;
use crate::tcp::Network;

/// The file that is sent, if one is.
#[derive(Default)]
pub(super) enum Upload {
    /// None of ours.
    #[default]
    None,
    /// The machine was told, and has not said its number.
    Announced(Outgoing),
    /// Under way.
    Sending(UploadId, Outgoing),
    /// Under way; its next bytes are being read. Its name, and how many bytes more were asked for since.
    Reading(UploadId, String, usize),
}

impl<N: Network> Engine<N> {
    /// Does what an event asks of this adapter. Returns whether it is thereby done, so that the application is told and
    /// not asked.
    pub(super) fn operate(&mut self, event: &Event) -> bool {
        match event {
            Event::Shell(event) if self.shells.are_ours() => match self.shells.event(event) {
                Ok(Some(command)) => self.order(Command::Shell(command)),
                Ok(None) => {}
                Err(lost) => (self.notice)(&lost),
            },
            Event::File(event) if self.files.are_ours() => {
                if let Some(command) = self.files.event(event) {
                    self.order(Command::File(command));
                }
            }
            Event::Upload(event) => return self.uploading(event),
            _ => return false,
        }
        true
    }

    /// Takes what shells wrote, how they ended, and what was stored.
    pub(super) fn serve_operators(&mut self) {
        while let Some(command) = self.shells.next(self.buffer.get()) {
            self.order(Command::Shell(command));
            self.drain();
        }
        while let Some(command) = self.files.next_command() {
            self.order(Command::File(command));
        }
        self.drain();
    }

    /// Sends a file of the application.
    pub(super) fn send_file(&mut self, file: Outgoing) {
        let (name, size) = (file.name().to_owned(), file.size());
        let announced = UploadCommand::Send { name: name.clone(), size };
        match self.link.command(self.now(), Command::Upload(announced)) {
            Ok(()) => self.upload = Upload::Announced(file),
            Err(error) => (self.notice)(&format!("{name:?} was not sent: {error}")),
        }
        self.drain();
    }

    /// Stops sending the file of the application, if one is sent.
    pub(super) fn cancel_upload(&mut self) {
        if let Upload::Sending(upload, _) | Upload::Reading(upload, ..) = std::mem::take(&mut self.upload) {
            self.order(Command::Upload(UploadCommand::Cancel { upload }));
        }
    }

    /// Calls the application's callback for every event and no other.
    pub(super) fn show(&mut self, event: &Event) {
        let client = &mut self.client;
        let called = catch_unwind(AssertUnwindSafe(|| client.event(event)));
        self.tell_panic("event", called);
    }

    /// Takes what was read of the file that is sent.
    pub(super) fn read(&mut self, upload: UploadId, file: Outgoing, piece: Result<Vec<u8>, String>) {
        let more = match self.upload {
            Upload::Reading(ours, _, more) if ours == upload => more,
            // It was given up while this was being read.
            _ => return,
        };
        match piece {
            Ok(piece) => {
                self.upload = Upload::Sending(upload, file);
                self.order(Command::Upload(UploadCommand::Data { upload, data: piece.into() }));
                self.read_on(more);
            }
            Err(reason) => self.give_up_sending(upload, file.name(), &reason),
        }
    }

    /// Has the next bytes of the file that is sent read.
    fn read_on(&mut self, bytes: usize) {
        match std::mem::take(&mut self.upload) {
            Upload::Sending(upload, mut file) if bytes > 0 => {
                let name = file.name().to_owned();
                self.upload = Upload::Reading(upload, name.clone(), 0);
                let work = move || {
                    let piece = file.read(bytes).map_err(|error| error.to_string());
                    Done::Read(upload, file, piece)
                };
                if let Err(reason) = self.tasks.start(work) {
                    self.give_up_sending(upload, &name, &reason);
                }
            }
            other => self.upload = other,
        }
    }

    fn give_up_sending(&mut self, upload: UploadId, name: &str, reason: &str) {
        self.upload = Upload::None;
        self.order(Command::Upload(UploadCommand::Cancel { upload }));
        (self.notice)(&format!("{name:?} was not sent: {reason}"));
    }

    /// Feeds the file that is sent. Returns whether the event is about one of ours.
    fn uploading(&mut self, event: &UploadEvent) -> bool {
        match (std::mem::take(&mut self.upload), event) {
            (Upload::Announced(file), UploadEvent::Started { upload, .. }) => {
                self.upload = Upload::Sending(*upload, file);
            }
            (Upload::Sending(ours, file), UploadEvent::Ready { upload, bytes }) if ours == *upload => {
                self.upload = Upload::Sending(ours, file);
                self.read_on(*bytes);
            }
            (Upload::Reading(ours, name, more), UploadEvent::Ready { upload, bytes }) if ours == *upload => {
                self.upload = Upload::Reading(ours, name, more.saturating_add(*bytes));
            }
            (upload, UploadEvent::Finished { upload: ended }) if upload.is(*ended) => {}
            (upload, UploadEvent::Aborted { upload: ended, reason }) if upload.is(*ended) => {
                (self.notice)(&format!("{:?} was not sent: {reason}", upload.name()));
            }
            (other, _) => {
                self.upload = other;
                return false;
            }
        }
        true
    }
}

impl Upload {
    fn is(&self, upload: UploadId) -> bool {
        matches!(self, Self::Sending(ours, _) | Self::Reading(ours, ..) if *ours == upload)
    }

    fn name(&self) -> &str {
        match self {
            Self::None => "",
            Self::Announced(file) | Self::Sending(_, file) => file.name(),
            Self::Reading(_, name, _) => name,
        }
    }
}
