//! Events as something to await, for applications that rather do that than implement callbacks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nerves_hub_link_protocol::{
    ArchiveDecision, ArchiveInfo, Client, Decision, Event, FirmwareMeta, UpdateInfo,
};
use tokio::sync::Notify;

use crate::limits::EVENTS_MAX;

/// Makes a client that hands on every event, and the end where they come out.
///
/// The client decides as the default callbacks do, unless it is told to [leave that to you](EventSender::decide_later).
pub fn events() -> (EventSender, Events) {
    let shared = Arc::new(Shared::default());
    (EventSender { shared: Arc::clone(&shared), decides: true }, Events { shared })
}

/// Hands events on: a [`Client`], or a part of one of your own.
#[derive(Debug)]
pub struct EventSender {
    shared: Arc<Shared>,
    decides: bool,
}

/// Where events come out.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    lost: u64,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSender {
    /// Leaves offers of updates and archives open; answer with
    /// [`Control::decide`](nerves_hub_link_runtime::Control::decide) and
    /// [`ArchiveCommand::Decide`](nerves_hub_link_protocol::ArchiveCommand::Decide), within
    /// [`Config::decision_timeout`](nerves_hub_link_protocol::Config::decision_timeout).
    #[must_use]
    pub const fn decide_later(mut self) -> Self {
        self.decides = false;
        self
    }

    /// Hands an event on. When [`EVENTS_MAX`] wait already, the oldest is lost: the device waits for nobody, since a
    /// connection that isn't served dies.
    pub fn send(&self, event: &Event) {
        let mut queue = self.shared.lock();
        let same_progress = |last: &Event| {
            matches!(
                (last, event),
                (Event::UpdateProgress { offer: last, stage: before, .. }, Event::UpdateProgress { offer, stage, .. })
                    if last == offer && before == stage
            )
        };
        if queue.events.back().is_some_and(same_progress) {
            // The newest says it all.
            queue.events.pop_back();
        } else if queue.events.len() >= EVENTS_MAX {
            queue.events.pop_front();
            queue.lost = queue.lost.saturating_add(1);
        }
        queue.events.push_back(event.clone());
        drop(queue);
        self.shared.changed.notify_one();
    }
}

impl Client for EventSender {
    fn event(&mut self, event: &Event) {
        self.send(event);
    }

    fn update_available(&mut self, running: &FirmwareMeta, update: &UpdateInfo) -> Option<Decision> {
        struct Defaults;
        impl Client for Defaults {}
        if self.decides { Defaults.update_available(running, update) } else { None }
    }

    fn archive_available(&mut self, _: &ArchiveInfo) -> Option<ArchiveDecision> {
        self.decides.then_some(ArchiveDecision::Ignore)
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
    }
}

impl Events {
    /// Returns the next event; `None` after the last, when the device has ended.
    ///
    /// Cancel safe: an event is either returned or still there.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            {
                let mut queue = self.shared.lock();
                if let Some(event) = queue.events.pop_front() {
                    return Some(event);
                }
                if queue.ended {
                    return None;
                }
            }
            self.shared.changed.notified().await;
        }
    }

    /// Returns how many events were lost so far, because they were not taken in time.
    pub fn lost(&self) -> u64 {
        self.shared.lock().lost
    }
}
