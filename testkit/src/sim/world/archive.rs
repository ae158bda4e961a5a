//! Archives: published, decided about, kept, checked, and handed to the application.

use std::time::Duration;

use nerves_hub_link_protocol::{
    ArchiveCommand, ArchiveDecision, ArchiveEvent, ArchiveId, Command, Input, StoreId, VerifyArchive,
};

use super::World;
use crate::hub::Archive;
use crate::sim::device::Device;
use crate::sim::fault::Fault;
use crate::sim::firmware::{ARCHIVES, Firmware, believe, verify};
use crate::sim::mutation::Mutation;
use crate::sim::queue::DeviceDue;
use crate::sim::scenario::{SECOND, Variant};
use crate::sim::violation::Broken;

/// Bytes of an archive.
const SIZE: u64 = 24 * 1024;
/// Archives that an application remembers.
const REMEMBERED: usize = 8;

impl World {
    /// An archive for all devices, if this world has any.
    pub(super) fn archive(&mut self, trusted: bool) {
        if !self.scenario.has(Variant::Archives) {
            return;
        }
        let number = u32::try_from(self.files.archives.len()).unwrap_or(u32::MAX);
        let file = Firmware::new(self.scenario.seed, ARCHIVES + number, SIZE, trusted, true);
        self.trace.note_number(self.now, u32::MAX, "archive", number.into());
        let archive = Archive {
            size: file.size,
            uuid: file.meta.uuid.clone(),
            version: file.meta.version.clone(),
            description: None,
            platform: None,
            architecture: None,
            uploaded_at: "2026-11-23T14:39:17".to_owned(),
            url: file.release.url.clone(),
        };
        self.files.archives.push(file);
        self.server.hub.set_archive(Some(archive));
        self.serve();
    }

    /// The application hears of archives.
    pub(super) fn archive_news(&mut self, device: &mut Device, event: ArchiveEvent) {
        let Some(life) = device.link.as_mut() else { return };
        match event {
            ArchiveEvent::Offered { archive, .. } => {
                life.archive = Some(archive);
                if let Some(after) = self.thinks(device) {
                    self.later(device, after, DeviceDue::DecideArchive(archive));
                }
            }
            ArchiveEvent::Ready { info, .. } => {
                life.archive = None;
                self.stats.archives += 1;
                let [_, fetched] = &mut device.fetched;
                self.stats.applied(info.size.unwrap_or(0), fetched);
                device.archives.push(info.uuid);
                if device.archives.len() > REMEMBERED {
                    device.archives.remove(0);
                }
            }
            ArchiveEvent::Failed { archive, .. } | ArchiveEvent::Replaced { archive } => {
                life.archive.take_if(|ours| *ours == archive);
            }
            // Nobody decided in time, or it never was offered.
            ArchiveEvent::Refused { .. } => life.archive = None,
            _ => {}
        }
    }

    /// The application decides.
    pub(super) fn decide_archive(&mut self, device: &mut Device, archive: ArchiveId) {
        let decision = if !device.armed.strikes(Fault::Refuses) {
            ArchiveDecision::Download
        } else if device.rng.one_in(2) {
            ArchiveDecision::Ignore
        } else {
            ArchiveDecision::Reschedule { delay: Duration::from_secs(device.rng.below(1800)) }
        };
        let agreed = self.order(device, Command::Archive(ArchiveCommand::Decide { archive, decision }));
        let Some(life) = device.link.as_mut().filter(|_| agreed) else { return };
        match decision {
            ArchiveDecision::Download => life.watch.wants_archive(archive),
            ArchiveDecision::Ignore => life.archive = None,
            _ => {}
        }
    }

    /// The machine wants an archive checked.
    pub(super) fn verify_archive(&mut self, device: &mut Device, order: VerifyArchive) -> Result<(), Broken> {
        let VerifyArchive { store, archive, public_keys, .. } = order;
        let after = device.rng.within(1_000, SECOND) + device.armed.slowness();
        self.later(device, after, DeviceDue::ArchiveChecked { store, archive, keys: public_keys });
        self.operation(device)
    }

    /// It was checked: it is the application's now, or deleted.
    pub(super) fn archive_checked(
        &mut self,
        device: &mut Device,
        store: StoreId,
        archive: ArchiveId,
        keys: &[String],
    ) -> Result<(), Broken> {
        let bytes = device.folder_of(store).map(|folder| folder.whole(&mut self.files, 0));
        // Another archive took its place meanwhile.
        let Some(bytes) = bytes else { return Ok(()) };
        let careless = self.mutated(Mutation::SkipArchiveCheck);
        let read = if careless { believe(&bytes) } else { verify(&bytes, keys) };
        let whole = read.and_then(|header| {
            let body = bytes.get(crate::sim::firmware::HEADER..).unwrap_or_default();
            let right = header.size == bytes.len() as u64 && header.body_crc == crc32fast::hash(body);
            if right || careless { Ok(header.id) } else { Err("the archive is not what its signature says") }
        });
        let whole = if device.armed.strikes(Fault::ReadError) {
            Err("what is kept can't be read: input/output error of the disk")
        } else {
            whole
        };
        if let Ok(id) = whole {
            let published = self.files.get(id).filter(|file| file.trusted && id >= ARCHIVES);
            if published.is_none_or(|file| file.crc != crc32fast::hash(&bytes)) {
                return Err(Broken::BadArchive(id % ARCHIVES));
            }
        }
        device.close_store(store, true);
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        life.watch.archive_closed(store);
        self.trace.note_number(self.now, device.number, "archive checked", archive.0);
        let input = match whole {
            Ok(_) => Input::ArchiveVerified { store, path: "/data/archives/archive.fw" },
            Err(reason) => Input::ArchiveRefused { store, reason },
        };
        life.input(self.now, device.wall, input);
        Ok(())
    }
}
