//! What happens to one device's machine, and carrying out what it wants.

use nerves_hub_link_protocol::{
    Command, ConnectionState, Event, Input, Instant, Output, ShellKind, Timer, UpdateState,
};

use super::World;
use super::socket::Sent;
use crate::sim::applier::Applier;
use crate::sim::bytes::Way;
use crate::sim::device::Device;
use crate::sim::fault::Fault;
use crate::sim::message::Frame;
use crate::sim::mutation::Mutation;
use crate::sim::queue::{DeviceDue, Due};
use crate::sim::scenario::{SECOND, Variant};
use crate::sim::settings::manages;
use crate::sim::violation::{Broken, Violation};
use crate::sim::watch::drained;

/// How long a device may be joined without telling the server of a failure: longer than a dead connection lasts.
const REPORT: u64 = 100 * SECOND;

impl World {
    /// Something happens to a device.
    pub(super) fn device_due(&mut self, number: u32, life: u32, what: DeviceDue) -> Result<(), Violation> {
        self.with(number, |world, device| {
            if device.life != life {
                return Ok(());
            }
            let mut ticked = false;
            match what {
                DeviceDue::Start => world.start(device)?,
                DeviceDue::Tick => {
                    let now = world.now;
                    let stopped = world.mutated(Mutation::StopClock);
                    let Some(life) = device.link.as_mut() else { return Ok(()) };
                    if life.planned != now {
                        return Ok(());
                    }
                    life.planned = u64::MAX;
                    if life.wake > now {
                        world.plan(device);
                        return Ok(());
                    }
                    ticked = true;
                    let mut clock = life.clock(now, device.wall);
                    if stopped {
                        clock.mono = Instant::ZERO;
                    }
                    life.link.handle(clock, Input::Tick);
                    world.trace.note(now, number, "tick", "");
                }
                DeviceDue::Probed { probe, failure } => {
                    let now = world.now;
                    let Some(life) = device.link.as_mut() else { return Ok(()) };
                    let input = match failure {
                        None => Input::Reachable { probe },
                        Some(reason) => Input::Unreachable { probe, reason },
                    };
                    life.input(now, device.wall, input);
                }
                DeviceDue::Up { socket, conn } => {
                    world.trace.note(world.now, number, "socket up", "");
                    world.socket_up(device, socket, conn);
                }
                DeviceDue::Refused { socket, answer } => {
                    world.trace.note_number(world.now, number, "socket refused", answer.status.into());
                    world.socket_refused(device, socket, &answer);
                }
                DeviceDue::Down { socket, code, reason } => {
                    world.trace.note_number(world.now, number, "socket down", code.unwrap_or(0).into());
                    world.socket_down(device, socket, code, reason);
                }
                DeviceDue::Hears { socket, frame } => {
                    world.trace.frame(world.now, number, "receives", &frame);
                    world.socket_hears(device, socket, &frame);
                }
                DeviceDue::Wire { way, what } => world.wire(device, way, what)?,
                DeviceDue::Stale { socket, how } => world.stale(device, socket, how),
                DeviceDue::Head(fetch) => world.head(device, fetch),
                DeviceDue::Body(fetch) => world.body(device, fetch)?,
                DeviceDue::FetchFailed { fetch, reason } => world.fetch_failed(device, fetch, reason),
                DeviceDue::StoreOpened { store, parts } => world.store_opened(device, store, &parts),
                DeviceDue::StoreFailed { store, reason } => world.store_failed(device, store, reason),
                DeviceDue::PartCommitted { store, part } => world.part_committed(device, store, part),
                DeviceDue::ArchiveChecked { store, archive, keys } => {
                    world.archive_checked(device, store, archive, &keys)?;
                }
                DeviceDue::DecideArchive(archive) => world.decide_archive(device, archive),
                DeviceDue::Answer(question) => world.answer(device, question),
                DeviceDue::Shell { shell, act } => world.shell_acts(device, shell, act)?,
                DeviceDue::Read(fetch) => world.read(device, fetch)?,
                DeviceDue::Kept { fetch, length } => world.kept(device, fetch, length),
                DeviceDue::Stored { offer, fetch, length } => world.stored(device, offer, fetch, length),
                DeviceDue::Finish { offer, step } => world.finish(device, offer, step)?,
                DeviceDue::ApplyFailed { offer, reason } => world.apply_failed(device, offer, &reason),
                DeviceDue::Decide(offer) => world.decide(device, offer)?,
                DeviceDue::FileStored { file, bytes } => world.file_stored(device, file, bytes)?,
                DeviceDue::FileRead(upload) => world.file_read(device, upload)?,
                DeviceDue::Script(id) => world.script_ends(device, id)?,
                DeviceDue::Manage => world.manage(device)?,
                DeviceDue::Validate => world.validate(device)?,
                DeviceDue::Watchdog => {
                    if !device.booted.validated {
                        world.trace.note(world.now, number, "watchdog", "");
                        world.reboot(device, 20 * SECOND)?;
                    }
                }
            }
            world.settle(device, ticked)
        })
    }

    /// The program starts: after a boot, or after it crashed.
    fn start(&mut self, device: &mut Device) -> Result<(), Broken> {
        if device.disk.is_switched() {
            // It crashed when new firmware was written, and before that was told: only a boot is missing.
            return self.reboot(device, 10 * SECOND);
        }
        let Some(firmware) = self.files.firmware.get(device.booted.firmware as usize) else { return Ok(()) };
        self.trace.note(self.now, device.number, "starts", &firmware.meta.version);
        device.start(&self.scenario, self.now, firmware)?;
        if let Some(life) = device.link.as_mut() {
            life.watch.lose_pieces = self.scenario.mutation == Some(Mutation::LosePiece);
        }
        if !device.booted.validated {
            let what = if firmware.good { DeviceDue::Validate } else { DeviceDue::Watchdog };
            let after = if firmware.good { 20 } else { 600 };
            let after = (after + device.rng.below(60)) * SECOND;
            self.later(device, after, what);
        }
        self.order(device, Command::Connect);
        if manages(&self.scenario, device.number) {
            let after = device.rng.within(5 * SECOND, 60 * SECOND);
            self.manage_later(device, after);
        }
        Ok(())
    }

    /// Tells the machine what the application wants. Returns whether it agreed.
    pub(super) fn order(&mut self, device: &mut Device, command: Command) -> bool {
        let Some(life) = device.link.as_mut() else { return false };
        let clock = life.clock(self.now, device.wall);
        life.link.command(clock, command).is_ok()
    }

    /// Lets the machine have its way, compares it with the model, and notes when it wants a tick.
    pub(super) fn settle(&mut self, device: &mut Device, ticked: bool) -> Result<(), Broken> {
        self.drain(device)?;
        let (now, number) = (self.now, device.number);
        let Some(life) = device.link.as_mut() else {
            if let Some(since) = device.joined_since.take() {
                self.stats.online(since, now);
            }
            return Ok(());
        };
        let update = life.link.update_state();
        life.model.check(now - life.origin, ticked, (life.link.connection_state(), update))?;
        let joined = life.model.is_joined();
        life.watch.asked.check(now - life.origin, ticked, joined)?;
        life.watch.scripts.check(now - life.origin, ticked, joined)?;
        life.watch.twins.check()?;
        let up = life.link.connection_state() >= ConnectionState::Connected;
        life.watch.files.check(now - life.origin, ticked, up)?;
        match device.joined_since {
            None if joined => device.joined_since = Some(now),
            Some(since) if !joined => {
                self.stats.online(since, now);
                device.joined_since = None;
            }
            _ => {}
        }
        if let Some(since) = device.joined_since {
            let overdue = life.watch.unreported.iter().find(|(at, _, sends)| {
                let at = at + life.origin;
                now >= since + REPORT && now >= at + REPORT && *sends < 3
            });
            if let Some((at, ..)) = overdue {
                return Err(Broken::FailureNotReported { minutes: (now - life.origin - at) / 60 / SECOND });
            }
            if now >= since + REPORT {
                life.watch.answers_in_time(now, REPORT)?;
            }
        }
        let Some(deadline) = life.link.deadline() else {
            life.wake = u64::MAX;
            return Ok(());
        };
        let mut at = life.origin + deadline.at.as_micros();
        if ticked && at <= now {
            return Err(Broken::DeadlineStands { why: format!("{:?}", deadline.why) });
        }
        let every = self.scenario.heartbeat * SECOND;
        if at <= now
            && let Some(phase) = life.quiet
        {
            // Heartbeats were left out: the next one is due when it would have been.
            at = phase + (now - phase).div_ceil(every.max(1)) * every;
            at = at.max(now + 1);
        }
        let silent = self.nets.get(number as usize).is_some_and(|net| net.is_silent(now));
        let idle = !self.scenario.every_heartbeat
            && joined
            && !life.beating
            && !life.unconfirmed
            && life.unsent == 0
            && deadline.why == Timer::Heartbeat
            && life.applier.is_none()
            && life.fetches.is_empty()
            && life.stores == [None; 2]
            && life.archive.is_none()
            && life.shells.iter().all(|shell| shell.kind != ShellKind::Console)
            && life.watch.unreported.is_empty()
            && !life.watch.asked.waits()
            && !life.watch.scripts.is_busy()
            && !life.watch.files.is_busy()
            && update == UpdateState::Idle
            && !silent;
        if idle {
            life.quiet.get_or_insert(at);
            life.wake = u64::MAX;
        } else {
            life.quiet = None;
            life.wake = at.max(now);
            self.plan(device);
        }
        Ok(())
    }

    /// A quiet device beats its heart again, in the rhythm it had.
    pub(super) fn rouse(&mut self, device: &mut Device) {
        let every = (self.scenario.heartbeat * SECOND).max(1);
        let now = self.now;
        if let Some(life) = device.link.as_mut()
            && let Some(phase) = life.quiet
        {
            let at = if phase >= now { phase } else { phase + (now - phase).div_ceil(every) * every };
            life.quiet = None;
            life.unconfirmed = true;
            life.wake = at.max(now);
            self.plan(device);
        }
    }

    /// Puts the tick a device waits for into the queue, unless an earlier one is there.
    fn plan(&mut self, device: &mut Device) {
        let (number, generation) = (device.number, device.life);
        let Some(life) = device.link.as_mut() else { return };
        if life.wake < life.planned {
            life.planned = life.wake;
            self.queue
                .push(life.wake, Due::Device { device: number, life: generation, what: DeviceDue::Tick });
        }
    }

    /// Carries out everything the machine wants.
    pub(super) fn drain(&mut self, device: &mut Device) -> Result<(), Broken> {
        let mut count = 0;
        loop {
            let Some(life) = device.link.as_mut() else { return Ok(()) };
            let Some(mut output) = life.link.poll() else {
                drained(count)?;
                count = 0;
                let frames = self.taken(device)?;
                let Some(life) = device.link.as_mut().filter(|_| frames > 0) else { return Ok(()) };
                life.watch.sent(frames);
                if let Some(socket) = life.socket {
                    life.input(self.now, device.wall, Input::SocketSent { socket, frames });
                }
                continue;
            };
            count += 1;
            if self.scenario.mutation == Some(Mutation::ReuseNumber)
                && let Output::Dial(dial) = &mut output
            {
                // The first number again.
                let first = *life.reused.get_or_insert(dial.socket);
                dial.socket = first;
            }
            let since = self.now - life.origin;
            // A message is read once, by rules of our own.
            let (socket, frame) = match output {
                Output::Send { socket, text } => (socket, Frame::Text(text)),
                Output::SendBinary { socket, data } => (socket, Frame::Binary(data)),
                other => {
                    self.trace.output(self.now, device.number, &other);
                    life.watch.output(since, &other)?;
                    if matches!(other, Output::Event(_)) {
                        self.trace.note(self.now, device.number, "tells", life.watch.heard());
                    }
                    life.model.output(since, &other)?;
                    self.carry_out(device, other)?;
                    continue;
                }
            };
            self.trace.frame(self.now, device.number, "sends", &frame);
            let message = frame.message().ok_or_else(|| Broken::NoMessage(frame.shown()))?;
            life.watch.sends(since, socket, &message, frame.bytes().len())?;
            life.model.sends(since, &message)?;
            let kind = Sent::of(&message);
            self.send(device, socket, frame, kind);
        }
    }

    /// How many messages the system took of those it was not known to have.
    fn taken(&mut self, device: &mut Device) -> Result<u32, Broken> {
        let Some(life) = device.link.as_mut().filter(|life| life.unsent > 0) else { return Ok(0) };
        if self.scenario.has(Variant::Bytes) {
            return self.flush_socket(device);
        }
        if let Some(net) = self.nets.get_mut(device.number as usize)
            && net.stall_until > self.now
        {
            net.felt.insert(Fault::Stall);
            return Ok(0);
        }
        Ok(std::mem::take(&mut life.unsent))
    }

    fn carry_out(&mut self, device: &mut Device, output: Output) -> Result<(), Broken> {
        match output {
            Output::Dial(dial) => self.dial(device, dial)?,
            Output::Probe(probe) => self.probe(device, probe.probe),
            Output::OpenStore(order) => self.open_store(device, &order),
            Output::ReadStore(order) => self.read_store(device, &order),
            Output::CommitPart { store, part } => self.commit_part(device, store, part)?,
            Output::DropPart { store, part } => {
                if let Some(folder) = device.folder_of(store) {
                    folder.drop_part(part);
                }
            }
            Output::CloseStore { store, clear } => device.close_store(store, clear),
            Output::VerifyArchive(order) => self.verify_archive(device, order)?,
            // Sent before. No applier here waits, and no device refuses what is older.
            Output::Send { .. }
            | Output::SendBinary { .. }
            | Output::ContinueApply { .. }
            | Output::SaveNewest { .. } => {}
            Output::HangUp { socket, code, reason } => self.hang_up(device, socket, code, &reason),
            Output::Fetch(fetch) => self.fetch(device, &fetch)?,
            Output::Abort { fetch } => {
                self.drop_line(device, Way::Fetch(fetch));
                if let Some(life) = device.link.as_mut() {
                    life.fetches.retain(|fetching| fetching.fetch != fetch);
                    life.readings.retain(|reading| reading.fetch != fetch);
                }
            }
            Output::StartApply(start) => {
                let slot = if self.mutated(Mutation::WriteRunning) {
                    device.disk.running()
                } else {
                    device.disk.spare()
                };
                let mutation = self.scenario.mutation;
                if let Some(life) = device.link.as_mut() {
                    life.applier = Some(Applier::new(start.offer, start.public_keys, slot, mutation));
                }
            }
            Output::FinishApply { offer } => self.finish_apply(device, offer)?,
            Output::CancelApply { offer } => {
                if let Some(life) = device.link.as_mut() {
                    life.applier.take_if(|applier| applier.offer == offer);
                }
            }
            Output::Reboot { .. } => {
                let after = (10 + device.rng.below(30)) * SECOND;
                self.reboot(device, after)?;
            }
            Output::SaveAttempts { attempts } => {
                if !self.mutated(Mutation::ForgetAttempts) {
                    device.attempts = attempts;
                }
                self.operation(device)?;
            }
            Output::SaveHistory { history } => {
                device.history = history;
                self.operation(device)?;
            }
            Output::Event(event) => self.hear(device, event)?,
        }
        Ok(())
    }

    /// The application hears the news.
    fn hear(&mut self, device: &mut Device, event: Event) -> Result<(), Broken> {
        self.timely(device, &event)?;
        self.managed_news(device, &event);
        self.script_news(device, &event);
        self.file_news(device, &event);
        match event {
            Event::Archive(event) => self.archive_news(device, event),
            Event::Extension(event) => self.extension_news(device, &event),
            Event::Shell(event) => self.shell_news(device, event)?,
            Event::UpdateOffered { offer, .. } => self.offered(device, offer),
            Event::UpdateFailed { reason, .. } => self.stats.failed(&reason),
            Event::UpdateCompleted { .. } => self.stats.written += 1,
            Event::DuplicateIdentitySuspected => self.stats.twins += 1,
            Event::DownloadInterrupted { .. } => self.stats.interrupted += 1,
            Event::Refused { .. } => self.stats.refused += 1,
            Event::Disconnected { .. } => {
                self.stats.disconnected += 1;
                if self.mutated(Mutation::ForgetBackoff) {
                    self.order(device, Command::Reconnect);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
