//! What operators do on the console: shells, and files both ways.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nerves_hub_link_platform::files::Outgoing;
use nerves_hub_link_protocol::{Command, Event, UploadCommand, UploadEvent, UploadId};

use super::Engine;

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
}

impl Engine {
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
        while let Some(command) = self.shells.next(&mut self.buffer) {
            self.order(Command::Shell(command));
            self.drain();
        }
        for news in self.files.news() {
            self.order(Command::File(news));
        }
        self.drain();
    }

    /// Sends a file of the application.
    pub(super) fn send_file(&mut self, file: Outgoing) {
        let (name, size) = (file.name().to_owned(), file.size());
        let announced = UploadCommand::Send { name: name.clone(), size };
        match self.link.command(self.clock.now(), Command::Upload(announced)) {
            Ok(()) => self.upload = Upload::Announced(file),
            Err(error) => (self.notice)(&format!("{name:?} was not sent: {error}")),
        }
        self.drain();
    }

    /// Stops sending the file of the application, if one is sent.
    pub(super) fn cancel_upload(&mut self) {
        if let Upload::Sending(upload, _) = std::mem::take(&mut self.upload) {
            self.order(Command::Upload(UploadCommand::Cancel { upload }));
        }
    }

    /// Calls the application's callback for every event and no other.
    pub(super) fn show(&mut self, event: &Event) {
        let client = &mut self.client;
        let called = catch_unwind(AssertUnwindSafe(|| client.event(event)));
        self.tell_panic("event", called);
    }

    /// Feeds the file that is sent. Returns whether the event is about one of ours.
    fn uploading(&mut self, event: &UploadEvent) -> bool {
        self.upload = match (std::mem::take(&mut self.upload), event) {
            (Upload::Announced(file), UploadEvent::Started { upload, .. }) => Upload::Sending(*upload, file),
            (Upload::Sending(ours, mut file), UploadEvent::Ready { upload, bytes }) if ours == *upload => {
                match file.read(*bytes) {
                    Ok(piece) => {
                        let data = UploadCommand::Data { upload: ours, data: piece.into() };
                        self.order(Command::Upload(data));
                        Upload::Sending(ours, file)
                    }
                    Err(error) => {
                        self.order(Command::Upload(UploadCommand::Cancel { upload: ours }));
                        (self.notice)(&format!("{:?} was not sent: {error}", file.name()));
                        Upload::None
                    }
                }
            }
            (Upload::Sending(ours, _), UploadEvent::Finished { upload }) if ours == *upload => Upload::None,
            (Upload::Sending(ours, file), UploadEvent::Aborted { upload, reason }) if ours == *upload => {
                (self.notice)(&format!("{:?} was not sent: {reason}", file.name()));
                Upload::None
            }
            (other, _) => {
                self.upload = other;
                return false;
            }
        };
        true
    }
}
