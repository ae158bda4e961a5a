//! The plot: what is done, and what must have come of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nerves_hub_link_testkit::server::{Events, Mischief, Times};

use super::device::Device;
use super::facts::Facts;
use super::screen::{Screen, Who};
use super::stage::{Running, Stage};
use super::{DemoArgs, Fault, News};
use crate::words::bytes;

/// How long any one thing may take; a gigabyte at the followable pace needs a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// Plays the story and returns one line of summary, or what was not as it should be.
pub fn play(stage: Stage, screen: &mut Screen, args: &DemoArgs) -> Result<String, String> {
    let (sender, news) = channel();
    let _listener = Listener::start(stage.hub.events(), sender.clone())?;
    let mut story = Story {
        stage,
        screen,
        news,
        sender,
        life: 0,
        device: None,
        facts: Facts::default(),
        must_succeed: true,
    };
    let before = story.boot()?;
    let summary = match args.fault {
        Some(fault @ (Fault::Tampered | Fault::WrongKey)) => story.refused(&before, fault)?,
        fault => story.updated(&before, fault)?,
    };
    story.device = None;
    story.stage.strike()?;
    Ok(summary)
}

struct Story<'a> {
    stage: Stage,
    screen: &'a mut Screen,
    news: Receiver<News>,
    sender: Sender<News>,
    life: u32,
    device: Option<Device>,
    facts: Facts,
    must_succeed: bool,
}

impl Story<'_> {
    /// The update must fail for its reason, touch nothing that boots, and leave the device connected.
    fn refused(&mut self, before: &Running, fault: Fault) -> Result<String, String> {
        self.must_succeed = false;
        let digest = self.stage.disk_digest()?;
        self.start(before, &[])?;
        self.until("the device joins", |facts| !facts.joins.is_empty())?;
        self.deploy();
        self.until("the update is refused", |facts| facts.failed.is_some() && facts.failed_at_hub)?;
        self.stage.hub.broadcast("identify", &serde_json::json!({}));
        self.until("the device answers on the connection it has", |facts| facts.identified)?;
        self.device = None;
        let after = self.boot()?;
        if (&after.slot, &after.meta) != (&before.slot, &before.meta) {
            return Err(format!(
                "{} boots from slot {} after a refused update",
                after.meta.version, after.slot
            ));
        }
        let unchanged = self.stage.disk_digest()? == digest;
        if fault == Fault::WrongKey && !unchanged {
            return Err("the disk was written before the signature was checked".into());
        }
        if self.facts.joins.len() != 1 {
            return Err(format!("the device joined {} times; it should have stayed", self.facts.joins.len()));
        }
        // Without a reason the check below fails.
        let reason = self.facts.failed.clone().unwrap_or_default();
        let wanted = if fault == Fault::WrongKey { "signature" } else { "mismatch" };
        if !reason.contains(wanted) {
            return Err(format!("the device says {reason:?}, which doesn't speak of a {wanted}"));
        }
        let disk =
            if unchanged { "not a byte of the disk changed" } else { "only the spare slot was written" };
        Ok(format!(
            "the update was refused ({reason}); {disk}, {} still boots from slot {}, the device stayed connected",
            after.meta.version, after.slot
        ))
    }

    /// The update must arrive, whatever happens on the way.
    fn updated(&mut self, before: &Running, fault: Option<Fault>) -> Result<String, String> {
        let size = self.stage.update.size();
        let power = format!("--fail-power-after={}", size / 2);
        let power = (fault == Some(Fault::PowerCut)).then_some(power.as_str());
        self.start(before, power.as_slice())?;
        self.until("the device joins", |facts| !facts.joins.is_empty())?;
        if fault == Some(Fault::Cut) {
            self.stage.hub.mischief(Mischief::CutDownload { after: size / 3 }, Times::Count(2));
        }
        self.deploy();
        match fault {
            Some(Fault::PowerCut) => {
                self.until("power fails", |facts| facts.ended.is_some())?;
                if self.facts.reboot {
                    return Err("the update was through before power failed".into());
                }
                self.screen.line(Who::Stage, "power is back");
                let after = self.boot()?;
                if (&after.slot, &after.meta) != (&before.slot, &before.meta) {
                    return Err(format!(
                        "after the power cut {} boots, not {}",
                        after.meta.version, before.meta.version
                    ));
                }
                self.start(&after, &[])?;
            }
            Some(Fault::ServerRestart) => {
                self.until("a third is downloaded", |facts| facts.downloaded >= 33 || facts.reboot)?;
                self.screen.line(Who::Hub, "going down");
                self.stage.hub.restart().map_err(|error| format!("the hub doesn't come back: {error}"))?;
                self.screen.line(Who::Hub, "back");
            }
            _ => {}
        }
        self.until("the device has the update and wants to restart", |facts| {
            facts.reboot && facts.ended.is_some()
        })?;
        self.check_way(fault)?;

        self.screen.line(Who::Device, "restarts");
        let after = self.boot()?;
        let wanted = &self.stage.update.meta;
        if after.slot == before.slot || after.meta.uuid != wanted.uuid {
            return Err(format!(
                "{} boots from slot {}; it should be {} from the other slot",
                after.meta.version, after.slot, wanted.version
            ));
        }
        let validates = after.validated == Some(false);
        self.start(&after, &["--validate-when-joined"])?;
        self.until("the hub confirms the update", |facts| {
            facts.succeeded && (facts.validated || !validates)
        })?;
        self.device = None;
        let again = self.boot()?;
        if again.slot != after.slot || again.validated == Some(false) {
            return Err(format!(
                "the next boot went to slot {}, validated: {:?}",
                again.slot, again.validated
            ));
        }
        let memory = self.facts.memory_kib.map(|kib| format!(", {} above idle at most", bytes(kib * 1024)));
        Ok(format!(
            "{} (slot {}) -> {} (slot {}), {} streamed{}",
            before.meta.version,
            before.slot,
            after.meta.version,
            after.slot,
            bytes(size),
            memory.unwrap_or_default()
        ))
    }

    /// What must have happened on the way for the fault to have been one.
    fn check_way(&self, fault: Option<Fault>) -> Result<(), String> {
        let Facts { interrupted, resumed_at, joins, .. } = &self.facts;
        match fault {
            Some(Fault::Cut) if *interrupted < 2 || *resumed_at == 0 => {
                Err(format!("the download broke {interrupted} times and was resumed at byte {resumed_at}"))
            }
            Some(Fault::ServerRestart) if joins.len() < 2 => Err("the device never had to join again".into()),
            _ => Ok(()),
        }
    }

    fn deploy(&mut self) {
        self.screen.line(Who::Hub, &format!("deploying {}", self.stage.update.meta.version));
        self.stage.hub.deploy(self.stage.update.clone());
    }

    fn boot(&mut self) -> Result<Running, String> {
        let running = self.stage.boot()?;
        let text = format!("boots {} from slot {}", running.meta.version, running.slot);
        self.screen.line(Who::Disk, &text);
        Ok(running)
    }

    fn start(&mut self, running: &Running, more: &[&str]) -> Result<(), String> {
        self.device = None;
        self.life += 1;
        self.facts.device_starts();
        let mut arguments = self.stage.arguments(running);
        arguments.extend(more.iter().map(Into::into));
        let secret = &self.stage.hub.product().secret;
        let device = Device::start(self.life, &arguments, secret, self.sender.clone());
        self.device = Some(device.map_err(|error| format!("can't start the device: {error}"))?);
        Ok(())
    }

    fn until(&mut self, what: &str, done: impl Fn(&Facts) -> bool) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while !done(&self.facts) {
            if let (true, Some(reason)) = (self.must_succeed, &self.facts.failed) {
                return Err(format!("waiting until {what}: {reason}"));
            }
            match self.news.recv_timeout(end.saturating_duration_since(Instant::now())) {
                // What an earlier life still has to say belongs to the past.
                Ok(News::Device { life, .. } | News::DeviceEnded { life, .. }) if life != self.life => {}
                Ok(News::Device { record, .. }) => self.facts.device(&record, self.screen),
                Ok(News::Hub(event)) => self.facts.hub(&event, self.screen),
                Ok(News::DeviceEnded { complaints, .. }) => {
                    if let Some(device) = &mut self.device {
                        // It closed its output; its status says no more than what follows from that.
                        let _ = device.wait();
                    }
                    self.facts.ended = Some(complaints);
                    if !done(&self.facts) && !self.facts.reboot {
                        let complaints = self.facts.ended.as_deref().unwrap_or("it said nothing");
                        return Err(format!("waiting until {what}, the device ended: {complaints}"));
                    }
                }
                Err(_) => return Err(format!("waited {} s in vain until {what}", PATIENCE.as_secs())),
            }
        }
        Ok(())
    }
}

/// Passes the hub's events on, until dropped.
struct Listener {
    stop: Arc<AtomicBool>,
}

impl Listener {
    fn start(mut events: Events, news: Sender<News>) -> Result<Self, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new()
            .name("hub events".into())
            .spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    let Some(event) = events.next(Duration::from_millis(100)) else { continue };
                    if news.send(News::Hub(event)).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| format!("can't start a thread: {error}"))?;
        Ok(Self { stop })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}
