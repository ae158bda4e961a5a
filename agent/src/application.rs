//! The application of this program: what it says and does when something happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nerves_hub_link_blocking::Handle;
use nerves_hub_link_protocol::{
    ArchiveDecision, ArchiveEvent, ArchiveInfo, Client, Command, Event, UpdateMode,
};

use crate::archives::Known;
use crate::extensions::{self, Outlet};
use crate::memory::resident_kib;
use crate::record::Recorder;

/// How often a device that is to fetch its updates itself asks for one (device-protocol A2).
const ASK_EVERY: Duration = Duration::from_secs(3600);

/// Says what happens, and when the firmware has proved itself. Its callbacks never wait: what may take time has a thread.
pub struct Application {
    /// Where it says so.
    pub recorder: Arc<Recorder>,
    /// Told when the server leaves updates to the device, and when not.
    pub managed: Sender<bool>,
    /// Told whenever the server accepted the device, while its firmware isn't validated.
    pub joined: Option<SyncSender<()>>,
    /// Told of archives that were handed over or dropped, if any are wanted.
    pub archives: Option<SyncSender<ArchiveNews>>,
    /// Set when the disk that was missing at the start is there, so that the device can start anew and read who it is. The
    /// device is in the outlet.
    pub found: Option<(Arc<AtomicBool>, Outlet)>,
}

impl Application {
    fn memory(&self, kind: &str) {
        static IDLE: OnceLock<u64> = OnceLock::new();
        // Without /proc there is no figure to print.
        let Some((now, peak)) = resident_kib() else { return };
        let idle = *IDLE.get_or_init(|| now);
        if kind == "peak" {
            let text = format!("memory: {peak} KiB at most, {} KiB above idle", peak.saturating_sub(idle));
            self.recorder.figure("memory", text, peak.saturating_sub(idle));
        }
    }
}

impl Client for Application {
    fn archive_available(&mut self, _: &ArchiveInfo) -> Option<ArchiveDecision> {
        Some(if self.archives.is_some() { ArchiveDecision::Download } else { ArchiveDecision::Ignore })
    }

    fn archive_ready(&mut self, archive: &ArchiveInfo, _: &str) {
        let Some(archives) = &self.archives else {
            debug_assert!(false, "an archive came although none are wanted");
            return self
                .recorder
                .note("internal-error", "internal error: an archive came although none are wanted");
        };
        let why = match archives.try_send(ArchiveNews::Ready(archive.uuid.clone())) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => "the disk is slow, or hanging",
            Err(TrySendError::Disconnected(_)) => "the thread that remembers archives has ended",
        };
        self.recorder.note("archive-unknown", format!("this archive will be downloaded again: {why}"));
    }

    fn connected(&mut self) {
        self.memory("idle");
        if let Some(joined) = &self.joined {
            // Full: it is about to look anyway. Disconnected: the firmware is validated.
            let _ = joined.try_send(());
        }
    }

    fn event(&mut self, event: &Event) {
        self.recorder.event(event);
        if let (Event::Archive(ArchiveEvent::Dropped { uuid, .. }), Some(archives)) = (event, &self.archives)
        {
            // If the disk hangs, the archive stays known until it is pushed out by others.
            let _ = archives.try_send(ArchiveNews::Dropped(uuid.clone()));
        }
        if let Event::UpdateModeChanged { mode, .. } = event {
            // The other end is gone only when the program ends.
            let _ = self.managed.send(*mode == Some(UpdateMode::DeviceManaged));
        }
        if let (Event::InstallObstacle { reason: None }, Some((found, outlet))) = (event, &self.found) {
            self.recorder.note("disk", "the disk is there: starting anew, to read which firmware runs");
            found.store(true, Ordering::Release);
            if let Some(device) = extensions::device(outlet) {
                device.request_stop();
            }
        }
        if matches!(event, Event::UpdateCompleted { .. } | Event::UpdateFailed { .. }) {
            self.memory("peak");
        }
    }
}

/// Asks for updates while the server leaves that to the device; else it pushes them.
pub fn ask_for_updates(modes: &Receiver<bool>, handle: &Handle) {
    let mut managed = false;
    loop {
        let news = if managed {
            modes.recv_timeout(ASK_EVERY)
        } else {
            modes.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match news {
            Ok(mode) => managed = mode,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if managed {
            // A refusal (an update runs, the server said when to come back) is told by the notice hook.
            let _ = handle.command(Command::RequestUpdate);
        }
    }
}

/// What is to be remembered of an archive, by its UUID.
#[derive(Debug)]
pub enum ArchiveNews {
    /// It was handed over.
    Ready(String),
    /// It was deleted.
    Dropped(String),
}

/// Remembers archives that were handed over.
pub fn remember_archives(archives: &Receiver<ArchiveNews>, known: &Known, recorder: &Recorder) {
    for news in archives {
        let (outcome, cost) = match news {
            ArchiveNews::Ready(uuid) => (known.add(&uuid), "this archive will be downloaded again"),
            ArchiveNews::Dropped(uuid) => {
                (known.remove(&uuid), "the archive that was deleted is not downloaded again")
            }
        };
        if let Err(error) = outcome {
            recorder.note("archive-unknown", format!("{cost}: {error}"));
        }
    }
}
