//! A watch over all that a machine wants done: what must hold whatever the world does.

use std::fmt::Write as _;

use nerves_hub_link_protocol::limits::{
    MAX_OUTPUTS, MAX_REASON_CHARS, MAX_SCRIPT_OUTPUT_BYTES, MAX_SHELL_MESSAGE_BYTES, SEND_CREDIT,
};
use nerves_hub_link_protocol::{
    ArchiveId, Event, ExtensionEvent, FetchId, OfferId, Output, Sink, SocketId, StartApply, StoreId,
    StoreKind, UNTOLD_FAILURE,
};

use super::asked::Asked;
use super::firmware::{KEYS, URL_SECRET};
use super::message::Message;
use super::scripts::Scripts;
use super::sent_files::SentFiles;
use super::twins::Twins;
use super::violation::Broken;

/// The secret that devices share with the hub.
pub(super) const SHARED_SECRET: &str = "5hared-5ecret";
/// Outputs over [`MAX_OUTPUTS`] that one last call may add.
const ONE_CALL: usize = 64;
/// Longest message of a device: reasons are cut, nothing of a peer's is sent back.
const MESSAGE: usize = 8000;
/// The shortest back-off and the shortest wait between downloads, by default, in milliseconds.
const BACKOFF_MS: u64 = 1000;
const RETRY_MS: u64 = 15_000;
/// Answers to questions of the server.
pub(super) const ANSWERS: [&str; 3] = ["health:report", "geo:location:update", "network_identity:report"];
/// Requests in a row without a byte: ten attempts, each with five redirects, two side by side.
const BARREN: u32 = 120;

/// What a machine did so far in its life, as far as it binds what it may do next.
#[derive(Debug, Default)]
pub(super) struct Watch {
    socket: u64,
    fetch: u64,
    offer: u64,
    /// The socket dialled or up.
    live: Option<SocketId>,
    up: Option<SocketId>,
    flying: u32,
    /// The offer the application accepted, until its update ended. Its file may be fetched and applied again.
    accepted: Option<OfferId>,
    pub applying: Option<OfferId>,
    finishing: bool,
    store: Option<StoreId>,
    /// An archive the application wants, and the store for it.
    archive: Option<ArchiveId>,
    archive_store: Option<StoreId>,
    /// Answers to questions on their way to the server: when they were sent, and which.
    answers: Vec<(u64, &'static str)>,
    written: bool,
    pub reboot_wanted: bool,
    pub kept: u64,
    pub stored: u64,
    /// When the last connection ended.
    ended: Option<u64>,
    interrupted: Option<u64>,
    /// The number of the newest applier.
    applier: u64,
    barren: u32,
    /// Failures of updates that the server hasn't heard of: when, why, and how often that was sent.
    pub unreported: Vec<(u64, String, u8)>,
    /// What the device asked the server about its updates.
    pub asked: Asked,
    /// Scripts that operators have run.
    pub scripts: Scripts,
    /// A device with the same identity.
    pub twins: Twins,
    /// Files on the console.
    pub files: SentFiles,
    /// A mistake: pieces of files get lost between the machine and the application.
    pub lose_pieces: bool,
    /// Used again for every text.
    text: String,
}

impl Watch {
    /// The upgrade succeeded.
    pub fn came_up(&mut self, socket: SocketId) {
        if self.live == Some(socket) {
            self.up = Some(socket);
        }
    }

    /// The connection ended, or never was.
    pub fn went(&mut self, socket: SocketId) {
        if self.live == Some(socket) {
            (self.live, self.up) = (None, None);
            // Lost with the connection, as the server's question was.
            self.answers.clear();
        }
    }

    /// The adapter sent messages.
    pub fn sent(&mut self, frames: u32) {
        self.flying = self.flying.saturating_sub(frames);
    }

    /// The application accepted an offer.
    pub fn accepted(&mut self, offer: OfferId) {
        self.accepted = Some(offer);
    }

    /// The application wants an archive.
    pub fn wants_archive(&mut self, archive: ArchiveId) {
        self.archive = Some(archive);
    }

    /// The adapter closed the store of an archive, checked.
    pub fn archive_closed(&mut self, store: StoreId) {
        self.archive_store.take_if(|open| *open == store);
    }

    /// The machine sent an answer.
    pub fn answers(&mut self, at: u64, event: &str) {
        if let Some(event) = ANSWERS.into_iter().find(|known| *known == event) {
            self.answers.push((at, event));
        }
    }

    /// An answer reached the server.
    pub fn answer_arrived(&mut self, event: &str) {
        if let Some(at) = self.answers.iter().position(|(_, sent)| *sent == event) {
            self.answers.remove(at);
        }
    }

    /// Whether every answer reached the server by now, if the connection lives long enough.
    pub fn answers_in_time(&self, now: u64, most: u64) -> Result<(), Broken> {
        match self.answers.first() {
            Some((at, event)) if now >= at + most => {
                Err(Broken::AnswerLost { event: (*event).to_owned(), minutes: (now - at) / 60_000_000 })
            }
            _ => Ok(()),
        }
    }

    /// Bytes went into a store.
    pub fn stored_some(&mut self) {
        self.barren = 0;
    }

    /// Bytes were to be kept: they must go on where the last ended.
    pub fn keep(&mut self, offset: u64, length: u64) -> Result<(), Broken> {
        if length == 0 {
            return Ok(());
        }
        if self.applying.is_none() || self.finishing || offset != self.kept {
            return Err(Broken::Gap { offset, kept: self.kept });
        }
        self.kept += length;
        self.barren = 0;
        Ok(())
    }

    /// The applier ended by itself.
    pub fn applier_ended(&mut self, offer: OfferId, well: bool) {
        if self.applying == Some(offer) {
            self.applying = None;
            self.written |= well;
            if well {
                self.accepted = None;
            }
            self.reboot_wanted |= well;
        }
    }

    /// The server heard of a failure.
    pub fn reported(&mut self, reason: &str) {
        if let Some(at) = self.unreported.iter().position(|(_, ours, _)| is_report_of(reason, ours)) {
            self.unreported.remove(at);
        }
    }

    /// The machine wants something done at `now`, in microseconds.
    pub fn output(&mut self, now: u64, output: &Output) -> Result<(), Broken> {
        match output {
            Output::Dial(dial) => {
                self.twins.dials(now)?;
                self.dial(now, dial.socket)
            }
            Output::HangUp { socket, reason, .. } => {
                self.went(*socket);
                told(reason)
            }
            Output::Fetch(fetch) => self.fetch(now, fetch.fetch, fetch.into),
            Output::Probe(_) => match self.live {
                Some(old) => Err(Broken::ProbeBesideSocket(old)),
                None => Ok(()),
            },
            Output::OpenStore(order) if order.kind == StoreKind::Archive => {
                if self.archive.is_none() || self.archive_store.is_some() {
                    return Err(Broken::StoreOutOfTurn);
                }
                self.archive_store = Some(order.store);
                Ok(())
            }
            Output::OpenStore(order) => {
                if self.accepted.is_none() || self.store.is_some() {
                    return Err(Broken::StoreOutOfTurn);
                }
                self.store = Some(order.store);
                (self.barren, self.interrupted) = (0, None);
                Ok(())
            }
            Output::ReadStore(order) => {
                newer("request", order.fetch.0, &mut self.fetch)?;
                self.holds(order.store)
            }
            Output::CommitPart { store, .. } | Output::DropPart { store, .. } => self.holds(*store),
            Output::CloseStore { store, .. } => {
                self.holds(*store)?;
                for open in [&mut self.store, &mut self.archive_store] {
                    open.take_if(|open| *open == *store);
                }
                Ok(())
            }
            Output::VerifyArchive(order) => {
                if order.public_keys != KEYS.get(..1).unwrap_or_default() {
                    return Err(Broken::WrongKeys);
                }
                if self.archive_store == Some(order.store) { Ok(()) } else { Err(Broken::StoreOutOfTurn) }
            }
            Output::StartApply(start) => self.start(start),
            Output::ContinueApply { offer } => {
                if self.applying != Some(*offer) || self.finishing {
                    return Err(Broken::NoApplier { what: "go on", offer: *offer });
                }
                Ok(())
            }
            Output::FinishApply { offer } => {
                if self.applying != Some(*offer) || self.finishing {
                    return Err(Broken::NoApplier { what: "finish", offer: *offer });
                }
                if self.stored != self.kept {
                    let (stored, kept) = (self.stored, self.kept);
                    return Err(Broken::FinishedEarly { offer: *offer, stored, kept });
                }
                self.finishing = true;
                Ok(())
            }
            Output::CancelApply { offer } => {
                if self.applying.take() != Some(*offer) {
                    return Err(Broken::NoApplier { what: "cancel", offer: *offer });
                }
                Ok(())
            }
            Output::Reboot { reason } => {
                if !self.reboot_wanted {
                    return Err(Broken::RebootUnasked);
                }
                told(reason)
            }
            Output::Abort { fetch } => {
                if fetch.0 > self.fetch {
                    let (number, last) = (fetch.0, self.fetch);
                    return Err(Broken::NumberReused { what: "aborted request", number, last });
                }
                Ok(())
            }
            // Messages are looked at by themselves.
            Output::SaveAttempts { .. }
            | Output::SaveHistory { .. }
            | Output::SaveNewest { .. }
            | Output::Send { .. }
            | Output::SendBinary { .. } => Ok(()),
            Output::Event(event) => self.hear(now, event),
        }
    }

    fn dial(&mut self, now: u64, socket: SocketId) -> Result<(), Broken> {
        newer("socket", socket.0, &mut self.socket)?;
        if let Some(old) = self.live {
            return Err(Broken::TwoSockets { old, new: socket });
        }
        (self.live, self.up, self.flying) = (Some(socket), None, 0);
        apart("dialled", now, &mut self.ended, BACKOFF_MS)
    }

    fn fly(&mut self, socket: SocketId, length: usize, most: usize) -> Result<(), Broken> {
        if self.up != Some(socket) {
            return Err(Broken::SentOnDeadSocket(socket));
        }
        if length > most {
            return Err(Broken::LongMessage(length));
        }
        self.flying += 1;
        if self.flying > SEND_CREDIT { Err(Broken::CreditExceeded(self.flying)) } else { Ok(()) }
    }

    /// The machine sends a message of so many bytes.
    pub fn sends(
        &mut self,
        now: u64,
        socket: SocketId,
        message: &Message<'_>,
        length: usize,
    ) -> Result<(), Broken> {
        // What a shell writes goes in messages of its own, and so does what a script wrote.
        let shell = message.topic == "console" || message.event.starts_with("local_shell:");
        let script = message.event == "scripts/run";
        let more = if shell {
            MAX_SHELL_MESSAGE_BYTES
        } else if script {
            4 * MAX_SCRIPT_OUTPUT_BYTES
        } else {
            0
        };
        self.fly(socket, length, MESSAGE + more)?;
        if script {
            self.scripts.answers(now, &message.payload().unwrap_or_default())?;
        }
        self.asked.sends(message.event)?;
        if message.tells_failure() {
            let payload = message.payload().unwrap_or_default();
            let reason = payload.get("reason").and_then(|reason| reason.as_str()).unwrap_or_default();
            if let Some((.., sent)) =
                self.unreported.iter_mut().find(|(_, ours, _)| is_report_of(reason, ours))
            {
                *sent = sent.saturating_add(1);
            }
        }
        Ok(())
    }

    fn fetch(&mut self, now: u64, fetch: FetchId, into: Sink) -> Result<(), Broken> {
        newer("request", fetch.0, &mut self.fetch)?;
        let wanted = [
            self.applying.map(Sink::Applier),
            self.store.map(Sink::Store),
            self.archive_store.map(Sink::Store),
        ];
        if !wanted.contains(&Some(into)) {
            return Err(Broken::FetchWithoutApplier(fetch));
        }
        self.barren += 1;
        if self.barren > BARREN {
            return Err(Broken::EndlessAttempts { count: self.barren });
        }
        if matches!(into, Sink::Store(_)) {
            // Several requests go side by side; one may begin while another waits.
            return Ok(());
        }
        apart("firmware requested", now, &mut self.interrupted, RETRY_MS)
    }

    fn holds(&self, store: StoreId) -> Result<(), Broken> {
        let open = [self.store, self.archive_store].contains(&Some(store));
        if open { Ok(()) } else { Err(Broken::StoreOutOfTurn) }
    }

    fn start(&mut self, start: &StartApply) -> Result<(), Broken> {
        let offer = start.offer;
        if self.accepted != Some(start.accepted) {
            return Err(Broken::AppliedWithoutDecision(offer));
        }
        newer("applier", offer.0, &mut self.applier)?;
        if start.public_keys != KEYS.get(..1).unwrap_or_default() {
            return Err(Broken::WrongKeys);
        }
        if self.applying.is_some() || self.written {
            return Err(Broken::DiskInUse(offer));
        }
        self.applying = Some(offer);
        (self.kept, self.stored, self.finishing) = (0, 0, false);
        (self.barren, self.interrupted) = (0, None);
        Ok(())
    }

    /// The newest event, for a person.
    pub fn heard(&self) -> &str {
        &self.text
    }

    fn hear(&mut self, now: u64, event: &Event) -> Result<(), Broken> {
        self.asked.hears(event)?;
        self.scripts.hears(now, event)?;
        self.twins.hears(now, event);
        self.files.hears(now, event, self.lose_pieces)?;
        match event {
            // There are many, and no text of anybody else's is in them.
            Event::UpdateProgress { .. }
            | Event::Extension(
                ExtensionEvent::Attached { .. }
                | ExtensionEvent::NotAccepted { .. }
                | ExtensionEvent::HealthRequested
                | ExtensionEvent::LocationRequested
                | ExtensionEvent::NetworkIdentitiesRequested,
            ) => {
                self.text.clear();
                return Ok(());
            }
            Event::UpdateOffered { offer, .. } => newer("offer", offer.0, &mut self.offer)?,
            Event::Disconnected { retry_at, .. } => self.ended = retry_at.map(|_| now),
            // Without a wait the next request asks in another way; too many of them are found by `BARREN`.
            Event::DownloadInterrupted { retry_in, .. } => {
                self.interrupted = (!retry_in.is_zero()).then_some(now);
            }
            Event::RebootRequested => self.reboot_wanted = true,
            Event::UpdateFailed { reason, .. } => {
                self.accepted = None;
                if reason.chars().count() > MAX_REASON_CHARS {
                    return Err(Broken::LongMessage(reason.len()));
                }
                self.unreported.push((now, reason.clone(), 0));
            }
            _ => {}
        }
        self.text.clear();
        // Writing to a string can't fail.
        let _ = write!(self.text, "{event:?}");
        told(&self.text)
    }
}

/// So many outputs waited at once.
pub(super) fn drained(outputs: usize) -> Result<(), Broken> {
    if outputs > MAX_OUTPUTS + ONE_CALL { Err(Broken::QueueUnbounded(outputs)) } else { Ok(()) }
}

fn newer(what: &'static str, number: u64, last: &mut u64) -> Result<(), Broken> {
    if number <= *last {
        return Err(Broken::NumberReused { what, number, last: *last });
    }
    *last = number;
    Ok(())
}

fn apart(what: &'static str, now: u64, before: &mut Option<u64>, least_ms: u64) -> Result<(), Broken> {
    let gap_ms = before.take().map_or(u64::MAX, |before| now.saturating_sub(before) / 1000);
    if gap_ms < least_ms { Err(Broken::TooSoon { what, gap_ms, least_ms }) } else { Ok(()) }
}

fn told(text: &str) -> Result<(), Broken> {
    if text.contains(URL_SECRET) || text.contains(SHARED_SECRET) {
        return Err(Broken::SecretTold(text.to_owned()));
    }
    Ok(())
}

/// Returns whether the server hears that of a failure: its reason, or that it has one.
fn is_report_of(heard: &str, reason: &str) -> bool {
    heard == reason || heard == UNTOLD_FAILURE
}
