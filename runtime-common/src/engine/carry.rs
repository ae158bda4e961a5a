//! Carrying out what the machine orders, and telling it what came of that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use nerves_hub_link_protocol::{Command, FetchId, Input, Output, Sink, StartApply};
use nerves_hub_link_transport::Tls;

use super::Engine;
use crate::applier::{Applier, Failure, FailureKind, Report};
use crate::connection::{Download, Websocket};
use crate::control::{Exit, Order};
use crate::dial::Dialled;
use crate::limits::FETCHES_MAX;
use crate::memory::{Memo, Memory};
use crate::tasks::Done;
use crate::tcp::Network;
use crate::time_limit::TimeLimit;
use crate::worker::panic_text;

/// The machine wants something of an applier that is not there.
const NO_APPLIER: &str = "an internal error: the update is not being applied; please report it";

impl<N: Network> Engine<N> {
    /// Goes on without a store that takes too long: what it holds counts again once it is back.
    pub(super) fn miss_memory(&mut self) {
        let now = self.connector.network.now();
        if self.memory.is_none() && !self.closing && self.lent.as_mut().is_some_and(|lent| lent.is_over(now))
        {
            self.memory = Some(Memory::none());
            (self.notice)(&format!(
                "how often updates were tried is not remembered: writing it has not ended for {} s; a disk may be hanging",
                self.lend_max.as_secs()
            ));
        }
    }

    /// Takes the outcomes of tasks.
    pub(super) fn take_outcomes(&mut self) {
        while let Some(done) = self.tasks.next_outcome().or_else(|| self.remembering.next_outcome()) {
            match done {
                Done::Remembered(memory, result) => {
                    self.memory = Some(memory);
                    if let Err(reason) = result {
                        (self.notice)(&reason);
                    }
                }
                Done::Sampled(sampler, answer) => {
                    self.health = Some(*sampler);
                    self.order(Command::Extension(answer));
                }
                Done::Read(upload, file, piece) => self.read(upload, file, piece),
                Done::Checked(_) => debug_assert!(false, "checks have a thread of their own"),
                Done::Panicked(text) => {
                    // Whatever it needed is lost, and the device goes on without.
                    (self.notice)(&format!("a task of the device panicked: {text}"));
                }
            }
        }
    }

    /// Keeps what the machine wants kept. Nothing else is done until it is on the disk, as the machine wants it.
    pub(super) fn remember(&mut self, memo: Memo) {
        let Some(mut memory) = self.memory.take_if(|memory| !memory.is_none()) else { return };
        let lost = memo.lost("");
        let work = move || {
            // The device waits for this one, whatever the application's store does.
            let kept = catch_unwind(AssertUnwindSafe(|| memory.keep(&memo)));
            let panicked = |panic: Box<dyn std::any::Any + Send>| {
                Err(format!("the store of what is remembered panicked: {}", panic_text(&*panic)))
            };
            Done::Remembered(memory, kept.unwrap_or_else(panicked))
        };
        self.lent = Some(TimeLimit::new(self.connector.network.now(), self.lend_max));
        if let Err(reason) = self.remembering.start(work) {
            (self.notice)(&format!("{lost}{reason}"));
            self.memory = Some(Memory::none());
        }
    }

    /// Takes the orders of the application, the connections that were dialled, and the applier's reports.
    pub(super) fn take_reports(&mut self) {
        // Looked at first: what the application ordered before it stopped the device is still done.
        let stopping = self.shared.stopping();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Command(command) => self.order(command),
                Order::SendFile(file) => self.send_file(file),
                Order::CancelUpload => self.cancel_upload(),
            }
        }
        if stopping && self.exit.is_none() {
            self.order(Command::Disconnect);
            self.exit = Some(Exit::Stopped);
        }
        while let Some(Dialled { attempt, result }) = self.connector.ended() {
            if let Some((probe, _)) = self.probe.take_if(|(_, ours)| *ours == attempt) {
                let reason = result.err();
                self.probed(probe, reason.as_deref());
                continue;
            }
            // A connection nobody waits for any more is closed by being dropped.
            let socket = self.websocket.as_mut().map(|websocket| &mut websocket.wire);
            if let Some(wire) = socket.filter(|wire| wire.awaits(attempt)) {
                wire.dialled(result);
            } else if let Some(download) = self.downloads.iter_mut().find(|d| d.wire.awaits(attempt)) {
                download.wire.dialled(result);
            }
        }
        self.take_applier_reports();
    }

    fn take_applier_reports(&mut self) {
        while let Some(applier) = &self.applier
            && let Some(report) = applier.next_report()
        {
            let (offer, now) = (applier.offer, self.now());
            match report {
                Report::Stored(fetch, len) => self.link.stored(now, fetch, len),
                Report::Remark(text) => (self.notice)(&text),
                Report::Signed(firmware) => {
                    self.link.handle(now, Input::FirmwareSigned { offer, firmware: &firmware });
                }
                Report::Progress(percent) => self.link.handle(now, Input::ApplyProgress { offer, percent }),
                Report::Obstacle(reason) => self.obstacle(Some(reason)),
                Report::Ended(Ok(())) => {
                    self.applier = None;
                    self.link.handle(now, Input::ApplyDone { offer });
                }
                Report::Ended(Err(Failure { reason, kind })) => {
                    self.applier = None;
                    let reason = &reason;
                    let failed = match kind {
                        FailureKind::Delta => Input::DeltaFailed { offer, reason },
                        FailureKind::File => Input::FileRefused { offer, reason },
                        FailureKind::Other => Input::ApplyFailed { offer, reason },
                    };
                    self.link.handle(now, failed);
                }
            }
            self.drain();
        }
    }

    pub(super) fn drain(&mut self) {
        // Not past what has to be on the disk first.
        while self.memory.is_some()
            && let Some(output) = self.link.poll()
        {
            self.carry_out(output);
        }
    }

    pub(super) fn carry_out(&mut self, output: Output) {
        let now = self.now();
        match output {
            Output::Probe(probe) => self.look_for_network(&probe),
            Output::Dial(dial) => {
                self.probe = None;
                let (tls, rules) =
                    (self.tls_for(&dial.url, &self.socket_tls), self.link.dial_rules(&dial.url));
                match Websocket::dial(&dial, &tls, &mut self.connector, now.mono, rules) {
                    Ok(websocket) => self.websocket = Some(websocket),
                    Err(reason) => {
                        let down = Input::SocketDown { socket: dial.socket, code: None, reason: &reason };
                        self.link.handle(now, down);
                    }
                }
            }
            // The connection may have ended while this waited for attempts to be on the disk.
            Output::Send { socket, text } => {
                if let Some(websocket) = self.websocket.as_mut().filter(|it| it.id == socket) {
                    websocket.send(&text);
                }
            }
            Output::SendBinary { socket, data } => {
                if let Some(websocket) = self.websocket.as_mut().filter(|it| it.id == socket) {
                    websocket.send_binary(&data);
                }
            }
            Output::HangUp { socket, code, reason } => {
                if let Some(websocket) = self.websocket.as_mut().filter(|it| it.id == socket) {
                    websocket.wire.machine.close(code, &reason);
                    self.hang_up();
                }
            }
            Output::Fetch(fetch) => {
                let tls = self.tls_for(fetch.url.expose(), &self.download_tls);
                let rules = self.link.fetch_rules(fetch.url.expose());
                let started = if self.downloads.len() < FETCHES_MAX {
                    Download::start(&fetch, &tls, &mut self.connector, now.mono, rules)
                } else {
                    Err(format!("{FETCHES_MAX} requests for firmware are open already"))
                };
                match started {
                    Ok(download) => self.downloads.push(download),
                    Err(reason) => {
                        self.link.handle(now, Input::FetchFailed { fetch: fetch.fetch, reason: &reason });
                    }
                }
            }
            Output::OpenStore(open) => self.open_store(open),
            Output::ReadStore(read) => self.with_store(read.store, |store| store.read(read)),
            Output::VerifyArchive(verify) => {
                self.with_store(verify.store, |store| store.verify(verify));
            }
            Output::CommitPart { store, part } => self.with_store(store, |store| store.commit(part)),
            Output::DropPart { store, part } => self.with_store(store, |store| store.drop_part(part)),
            Output::CloseStore { store, clear } => self.close_store(store, clear),
            Output::Abort { fetch } => {
                self.downloads.retain(|download| download.id != fetch);
                self.stores.iter().for_each(|store| store.abort(fetch));
            }
            Output::StartApply(start) => self.start_apply(start),
            Output::ContinueApply { offer } => {
                // It may have ended by itself.
                if let Some(applier) = self.applier.as_ref().filter(|it| it.offer == offer) {
                    applier.proceed();
                }
            }
            Output::FinishApply { offer } => {
                let applier = self.applier.as_ref().filter(|it| it.offer == offer);
                debug_assert!(applier.is_some(), "{offer:?} has no applier");
                match applier {
                    Some(applier) => applier.finish(),
                    None => self.sink_failed(Sink::Applier(offer), NO_APPLIER),
                }
            }
            Output::CancelApply { offer } => {
                // It may have ended by itself.
                if self.applier.as_ref().is_some_and(|it| it.offer == offer) {
                    self.applier = None;
                }
            }
            Output::SaveAttempts { attempts } => self.remember(Memo::Attempts(attempts)),
            Output::SaveHistory { history } => self.remember(Memo::History(history)),
            Output::SaveNewest { version } => self.remember(Memo::Newest(version)),
            Output::Reboot { reason } => {
                let client = &mut self.client;
                let called = catch_unwind(AssertUnwindSafe(|| client.reboot(&reason)));
                self.tell_panic("reboot", called);
                self.exit.get_or_insert(Exit::Reboot { reason });
            }
            Output::Event(event) => self.tell(&event),
        }
    }

    /// Returns the settings for a connection to that address: a certificate is shown only where the machine says so.
    fn tls_for(&self, url: &str, tls: &Tls) -> Tls {
        if self.link.trusts(url) { tls.clone() } else { tls.without_identity() }
    }

    /// Hands bytes of a download over to where it goes.
    pub(super) fn hand_over(&mut self, fetch: FetchId, into: Sink, offset: u64, piece: Vec<u8>) {
        let there = match into {
            Sink::Applier(offer) => self.applier.as_ref().is_some_and(|applier| applier.offer == offer),
            Sink::Store(id) => self.stores.iter().any(|store| store.id == id),
        };
        if !there && !self.downloads.iter().any(|download| download.id == fetch) {
            // The machine gave the update or the archive up when it saw these bytes.
            return;
        }
        match into {
            Sink::Applier(offer) => {
                let applier = self.applier.as_ref().filter(|applier| applier.offer == offer);
                debug_assert!(applier.is_some(), "{fetch:?} for {offer:?} has no applier");
                match applier {
                    Some(applier) => applier.push(fetch, piece),
                    None => self.sink_failed(into, NO_APPLIER),
                }
            }
            Sink::Store(store) => self.with_store(store, |store| store.write(fetch, offset, piece)),
        }
    }

    /// Has whoever gets a file give up, as bytes of it were lost here.
    pub(super) fn sink_failed(&mut self, into: Sink, reason: &str) {
        let now = self.now();
        match into {
            Sink::Applier(offer) => {
                self.applier.take_if(|applier| applier.offer == offer);
                self.link.handle(now, Input::ApplyFailed { offer, reason });
            }
            Sink::Store(store) => self.link.handle(now, Input::StoreFailed { store, reason }),
        }
    }

    pub(super) fn start_apply(&mut self, start: StartApply) {
        self.applier = None;
        let installer = Arc::clone(&self.installer);
        let offer = start.offer;
        match Applier::start(start, installer, &self.threads) {
            Ok(applier) => self.applier = Some(applier),
            Err(error) => {
                let reason = format!("cannot start a thread to apply the update: {error}");
                let failed = Input::ApplyFailed { offer, reason: &reason };
                self.link.handle(self.now(), failed);
            }
        }
    }
}
