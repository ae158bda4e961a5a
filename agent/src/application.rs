//! The application of this program: what it says and does when something happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nerves_hub_link_protocol::{ArchiveDecision, ArchiveEvent, ArchiveInfo, Client, Event, UpdateMode};

use crate::archives::Known;
use crate::extensions::{self, Outlet};
use crate::memory::resident_kib;
use crate::record::Recorder;

/// How often a device that is to fetch its updates itself asks for one (device-protocol A2).
pub const ASK_EVERY: Duration = Duration::from_secs(3600);

/// Says what happens, and when the firmware has proved itself. Its callbacks never wait: what may take time has a thread.
pub struct Application {
    /// Where it says so.
    pub recorder: Arc<Recorder>,
    /// Told when the server leaves updates to the device, and when not.
    pub managed: ModeTeller,
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
            self.managed.tell(*mode == Some(UpdateMode::DeviceManaged));
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

/// Whether the server leaves updates to the device. The newest word counts: a server that changes its mind a thousand times
/// while nobody listens leaves one.
pub fn modes() -> (ModeTeller, Modes) {
    let (news, told) = sync_channel(1);
    let managed = Arc::<AtomicBool>::default();
    (ModeTeller { managed: Arc::clone(&managed), news }, Modes { managed, told })
}

/// The end of [`modes`] that tells.
pub struct ModeTeller {
    managed: Arc<AtomicBool>,
    news: SyncSender<()>,
}

impl ModeTeller {
    /// Says what holds from now on. Never waits.
    pub fn tell(&self, managed: bool) {
        self.managed.store(managed, Ordering::Release);
        // Full: the listener has not looked yet, and then sees this. Disconnected: the program ends.
        let _ = self.news.try_send(());
    }
}

/// The end of [`modes`] that listens.
pub struct Modes {
    managed: Arc<AtomicBool>,
    told: Receiver<()>,
}

/// Calls `ask` at once when updates are left to the device, and again and again while they are; returns when the other end
/// is gone.
pub fn ask_for_updates(modes: &Modes, every: Duration, mut ask: impl FnMut()) {
    loop {
        let managed = modes.managed.load(Ordering::Acquire);
        let news = if managed {
            modes.told.recv_timeout(every)
        } else {
            modes.told.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        if news == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        if modes.managed.load(Ordering::Acquire) {
            ask();
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_server_that_changes_its_mind_leaves_one_word_however_long_nobody_listens() {
        let (teller, modes) = modes();
        for round in 0..100_000 {
            teller.tell(round % 2 == 0);
        }
        teller.tell(true);
        assert!(modes.told.try_recv().is_ok());
        assert!(modes.told.try_recv().is_err(), "one word waits, and no more");
        teller.tell(true);
        drop(teller);
        let mut asked = 0;
        ask_for_updates(&modes, LONG, || asked += 1);
        assert_eq!(asked, 1, "the newest word is that updates are left to the device");
    }

    #[test]
    fn updates_are_asked_for_while_they_are_left_to_the_device_and_not_otherwise() {
        let (teller, modes) = modes();
        let (asked, asks) = channel();
        let asking = std::thread::spawn(move || {
            ask_for_updates(&modes, Duration::from_millis(1), || {
                // Nobody listens any more when enough was asked.
                let _ = asked.send(());
            });
        });
        teller.tell(true);
        for _ in 0..3 {
            asks.recv_timeout(LONG).unwrap();
        }
        drop(teller);
        asking.join().unwrap();
        let (teller, modes) = super::modes();
        teller.tell(true);
        teller.tell(false);
        drop(teller);
        ask_for_updates(&modes, LONG, || panic!("the server pushes its updates"));
    }
}
