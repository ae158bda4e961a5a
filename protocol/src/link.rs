//! The machine's doors.

mod console;
mod extensions;
mod freeze;
mod pace;
mod reboot;
mod receive;
mod reconfigure;
mod report;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::Value;

use crate::address::AddressRules;
use crate::alarm::Alarm;
use crate::command::{Command, CommandError};
use crate::config::{Backoff, Config};
use crate::download::Keep;
use crate::error::ConfigError;
use crate::event::FirmwareMeta;
use crate::file::{FileCommand, UploadCommand};
use crate::http::url::Url;
use crate::hub::alarms::Alarms;
use crate::hub::archive::Archives;
use crate::hub::connection::Connection;
use crate::hub::console::Console;
use crate::hub::extensions::Extensions;
use crate::hub::keys::Keys;
use crate::hub::managed::Managed;
use crate::hub::origin::is_listed;
use crate::hub::pace::Pace;
use crate::hub::scripts::Scripts;
use crate::hub::update::Updates;
use crate::hub::{CONSOLE, Core, DEVICE, EXTENSIONS, TOPICS, device, payload};
use crate::ids::{FetchId, SocketId};
use crate::input::Input;
use crate::link::freeze::Freeze;
use crate::link::reboot::Planned;
use crate::output::Output;
use crate::outputs::{Ids, Outputs};
use crate::phoenix::{Frame, Phoenix, Received, TopicId};
use crate::status::{ConnectionState, Counters, Status, UpdateState};
use crate::time::{Instant, Now};
use crate::timer::{Deadline, Earliest, Timer};

/// One NervesHub device: facts in, orders out. See the [crate documentation](crate) for the loop.
pub struct Link {
    core: Core,
    connection: Connection,
    keys: Keys,
    updates: Updates,
    archive_keys: Keys,
    archives: Archives,
    pace: Pace,
    managed: Managed,
    scripts: Scripts,
    extensions: Extensions,
    console: Console,
    connection_types: Vec<String>,
    /// When to ask whether the running firmware proved good.
    ask_validated: Option<Instant>,
    /// What the last join of the device channel announced.
    announced: Option<String>,
    /// The device connects again to announce that it wants no deltas, at that time or when the server has seen
    /// everything.
    announce_at: Option<Instant>,
    reboot: Option<Planned>,
    /// Why the server's last order to reboot was refused.
    reboot_refused: Option<String>,
    freeze: Freeze,
    alarms: Alarms,
    counters: Counters,
}

impl Link {
    /// Builds a machine, offline and idle. The same seed and the same calls give the same outputs;
    /// take the seed from the operating system's randomness, so that a fleet doesn't act in step.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn new(config: Config, seed: u64, now: Now) -> Result<Self, ConfigError> {
        let home = config.validate()?;
        // Halves swapped, so that channel and connection draw different numbers.
        let wire = Phoenix::new(&TOPICS, &config, seed.rotate_left(32));
        let mut out = Outputs::default();
        let mut link = Self {
            updates: Updates::new(&config, &mut out, seed.rotate_left(48), now),
            connection: Connection::new(home, seed),
            keys: Keys::new(config.public_keys.clone()),
            archive_keys: Keys::for_archives(&config),
            archives: Archives::new(&config.known_archives),
            pace: Pace::default(),
            managed: Managed::new(seed.rotate_left(16)),
            scripts: Scripts::default(),
            extensions: Extensions::new(&config, now.mono),
            console: Console::new(),
            connection_types: Vec::new(),
            ask_validated: None,
            announced: None,
            announce_at: None,
            reboot: None,
            reboot_refused: None,
            freeze: Freeze::default(),
            alarms: Alarms::default(),
            counters: Counters::default(),
            core: Core {
                now: now.mono,
                wall: now.wall,
                config: Box::new(config),
                out,
                wire,
                ids: Ids::default(),
            },
        };
        link.keep_newest();
        link.follow_alarms();
        Ok(link)
    }

    /// Takes a fact. Facts about numbers no longer in use are counted and dropped.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        self.core.advance(now);
        let known = match input {
            Input::Tick => {
                self.tick();
                true
            }
            input if self.archives.owns(&input) => self.archives.input(&mut self.core.cx(), input),
            Input::Reachable { probe } => self.connection.probed(&mut self.core.cx(), probe, None),
            Input::Unreachable { probe, reason } => {
                self.connection.probed(&mut self.core.cx(), probe, Some(reason))
            }
            Input::SocketUp { socket, interface } => self.socket_up(socket, interface),
            Input::SocketRefused { socket, status, headers, body } => {
                self.connection.refused(&mut self.core.cx(), socket, status, headers, body)
            }
            Input::SocketText { socket, text } => self.received(socket, Received::Text(text)),
            Input::SocketBinary { socket, data } => self.received(socket, Received::Binary(data)),
            Input::SocketSent { socket, frames } => {
                let current = self.connection.open_socket() == Some(socket);
                if current {
                    self.core.wire.sent(self.core.now, frames);
                }
                current
            }
            Input::SocketDown { socket, code, reason } => {
                self.connection.down(&mut self.core.cx(), socket, code, reason)
            }
            Input::FetchHead { fetch, status, headers, interface } => {
                self.updates.head(&mut self.core.cx(), fetch, status, headers, interface)
            }
            Input::FetchEnd { fetch } => self.updates.ended(&mut self.core.cx(), fetch),
            Input::FetchFailed { fetch, reason } => self.updates.broke(&mut self.core.cx(), fetch, reason),
            Input::StoreOpened { store, parts } => {
                self.updates.store_opened(&mut self.core.cx(), store, parts)
            }
            Input::StoreFailed { store, reason } => {
                self.updates.store_failed(&mut self.core.cx(), store, reason)
            }
            Input::StoreRefused { store, reason } => {
                self.updates.store_refused(&mut self.core.cx(), store, reason)
            }
            Input::PartCommitted { store, part: _ } => {
                self.updates.part_committed(&mut self.core.cx(), store)
            }
            // Those about an archive in use went elsewhere.
            Input::ArchiveVerified { .. } | Input::ArchiveRefused { .. } => false,
            Input::FirmwareSigned { offer, firmware } => {
                self.updates.signed(&mut self.core.cx(), offer, firmware)
            }
            Input::ArchiveDropped { path } => {
                self.archives.dropped(&mut self.core.cx(), path);
                true
            }
            Input::ApplyProgress { offer, percent } => {
                self.updates.applying(&mut self.core.cx(), offer, percent)
            }
            Input::ApplyDone { offer } => {
                let done = self.updates.applied(&mut self.core.cx(), offer);
                if done {
                    self.plan_reboot("new firmware was written");
                }
                done
            }
            Input::DeltaFailed { offer, reason } => {
                let known = self.updates.delta_failed(&mut self.core.cx(), offer, reason);
                self.plan_announcement();
                known
            }
            Input::FileRefused { offer, reason } => {
                self.updates.file_refused(&mut self.core.cx(), offer, reason)
            }
            Input::ApplyFailed { offer, reason } => {
                self.updates.apply_failed(&mut self.core.cx(), offer, reason)
            }
        };
        if !known {
            count(&mut self.counters.stale_inputs);
        }
        self.settle();
    }

    /// Takes an order.
    ///
    /// # Errors
    ///
    /// Why the order makes no sense now; nothing changed then.
    pub fn command(&mut self, now: Now, command: Command) -> Result<(), CommandError> {
        self.core.advance(now);
        if !self.core.out.has_room() {
            return Err(CommandError::Undrained);
        }
        match command {
            Command::Connect => self.connection.connect(&mut self.core.cx()),
            Command::Disconnect => self.connection.disconnect(&mut self.core.cx()),
            Command::Reconnect if self.connection.is_offline() => return Err(CommandError::Offline),
            Command::Reconnect => self.connection.reconnect(&mut self.core.cx()),
            Command::ReconnectAfter { delays } => {
                Backoff::validate_list(&delays).map_err(|_| CommandError::ReconnectAfter)?;
                self.connection.reconnect_after(&self.core.cx(), delays);
            }
            Command::Reconfigure(config) => self.reconfigure(config)?,
            Command::Decide { offer, decision } => {
                self.updates.decide(&mut self.core.cx(), offer, &decision)?;
            }
            Command::InstallObstacle { reason } => {
                self.updates.obstruct(&mut self.core.cx(), reason.as_deref());
            }
            Command::FirmwareValidated => self.firmware_validated(),
            Command::ForgetHistory => self.updates.forget_history(&mut self.core.cx()),
            Command::CheckUpdate => self.managed.check(&mut self.core.cx())?,
            Command::RequestUpdate => {
                let updating = self.updates.state() != UpdateState::Idle;
                self.managed.request(&mut self.core.cx(), updating)?;
            }
            Command::SetUpdateMode { mode } => self.managed.set(&mut self.core.cx(), mode)?,
            Command::ScriptFinished { id, output, result } => {
                self.scripts.finished(&mut self.core.cx(), id, &output, &result)?;
            }
            Command::Shell(command) => self.shell(&command)?,
            Command::File(FileCommand::Stored { file, bytes }) => self.console.stored(file, bytes)?,
            Command::File(FileCommand::Failed { file, reason }) => self.console.file_failed(file, &reason)?,
            Command::Upload(UploadCommand::Send { name, size }) => {
                self.console.upload.send(&mut self.core.cx(), name, size)?;
            }
            Command::Upload(UploadCommand::Data { upload, data }) => {
                self.console.upload.data(&mut self.core.cx(), upload, &data.0)?;
            }
            Command::Upload(UploadCommand::Cancel { upload }) => self.console.upload.cancel(upload)?,
            Command::Extension(command) => self.extension_command(command)?,
            Command::Archive(command) => self.archives.command(&mut self.core.cx(), command)?,
            Command::ConnectionTypes { types } => self.connection_types(&types),
            Command::NetworkInterface { name } => self.network_interface(&name),
            Command::ReportUpdate { offer, report } => {
                if self.updates.reported(&mut self.core.cx(), offer, &report)? {
                    self.plan_reboot("new firmware was installed");
                }
            }
        }
        self.settle();
        Ok(())
    }

    /// Shows a chunk of a download passing by. Returns which part of it to hand to the applier; report
    /// with [`Link::stored`] when the applier took it.
    pub fn body(&mut self, now: Now, fetch: FetchId, chunk: &[u8]) -> Keep {
        self.core.advance(now);
        let network = self.transfer(fetch).is_some();
        let keep = if self.archives.is_current(fetch) {
            self.archives.body(&mut self.core.cx(), fetch, chunk)
        } else {
            self.updates.body(&mut self.core.cx(), fetch, chunk)
        };
        if keep.is_none() {
            count(&mut self.counters.stale_inputs);
        }
        // Of a request that was given up, nothing is kept; it was counted above.
        let keep = keep.unwrap_or_default();
        let keep = if network { self.paced(fetch, chunk.len(), keep) } else { keep };
        self.settle();
        keep
    }

    /// Reports that the applier took bytes that [`Link::body`] said to keep. The number of the fetch
    /// they came with stays good while the download lasts.
    pub fn stored(&mut self, now: Now, fetch: FetchId, len: usize) {
        self.core.advance(now);
        let archives = self.archives.stored(&mut self.core.cx(), fetch, len);
        let known = match archives {
            Some(known) => known,
            None => self.updates.stored(&mut self.core.cx(), fetch, len),
        };
        if !known {
            count(&mut self.counters.stale_inputs);
        }
        self.settle();
    }

    /// Returns the next order or event. After each call into the machine, call this until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.core.out.pop()
    }

    /// Returns when to call [`Link::handle`] with [`Input::Tick`] at the latest, if ever. Never in
    /// the past once a tick was handled and everything polled.
    pub fn deadline(&self) -> Option<Deadline> {
        let mut deadline = Earliest::default();
        self.connection.deadlines(&mut deadline);
        self.core.wire.deadlines(&mut deadline);
        self.updates.deadlines(&self.core.config, &mut deadline);
        self.archives.deadlines(&self.core.config, &mut deadline);
        self.managed.deadlines(&mut deadline);
        self.scripts.deadlines(&mut deadline);
        self.extensions.deadlines(&self.core.wire, &mut deadline);
        self.console.deadlines(&self.core.wire, &mut deadline);
        if let Some(at) = self.ask_validated {
            deadline.at(Timer::Validation, at);
        }
        if let Some(at) = self.announce_at {
            deadline.at(Timer::Reconnect, at);
        }
        if let Some(at) = self.updates.ledger.deadline(self.core.wall) {
            deadline.at(Timer::History, at);
        }
        if let Some(at) = self.freeze_deadline() {
            deadline.at(Timer::Freeze, at);
        }
        if let Some(planned) = &self.reboot {
            deadline.at(Timer::Reboot, planned.deadline(self.core.now));
        }
        deadline.get()
    }

    /// Returns whether the device may show who it is at an address: the server's own, or one of
    /// [`Config::trusted_origins`]. Everywhere else, connect without client certificate.
    pub fn trusts(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| self.connection.trusts(&self.core.config, &url))
    }

    /// Returns which network addresses a connection for a [`Dial`](crate::Dial) may lead to. The host of the address must
    /// be looked up first: what counts is where its name leads each time.
    pub fn dial_rules(&self, url: &str) -> AddressRules {
        if self.trusts(url) { AddressRules::any() } else { self.outside() }
    }

    /// Returns which network addresses a connection for a [`Fetch`](crate::Fetch) may lead to, as [`Link::dial_rules`].
    pub fn fetch_rules(&self, url: &str) -> AddressRules {
        match Url::parse(url) {
            Ok(url) if is_listed(&self.core.config, &url) => AddressRules::any(),
            Ok(url) if self.connection.has_host(&url) => self.outside().of_hub(),
            _ => self.outside(),
        }
    }

    fn outside(&self) -> AddressRules {
        AddressRules::outside(self.core.config.download.refuse_private_addresses)
    }

    /// Returns a snapshot for people and logs.
    pub fn status(&self) -> Status {
        Status {
            connection: self.connection_state(),
            update: self.update_state(),
            install_obstacle: self.updates.obstacle().map(String::from),
            update_mode: self.managed.mode(),
            console_joined: self.core.wire.has_joined(CONSOLE),
            console_active: self.console.is_active(),
            extensions_joined: self.core.wire.has_joined(EXTENSIONS),
            extensions: self.extensions(),
            currently_downloading_uuid: self.updates.uuid().map(String::from),
            downloading_archive: self.archives.uuid().map(String::from),
            alarms: self.alarms.raised().to_vec(),
            counters: self.counted(),
        }
    }

    /// Returns [`Status::connection`] alone, for loops that look at it all the time.
    pub fn connection_state(&self) -> ConnectionState {
        match &self.connection {
            connection if connection.is_offline() => ConnectionState::Offline,
            connection if connection.is_dialing() => ConnectionState::Dialing,
            connection if connection.is_joined() && self.core.wire.is_joined() => ConnectionState::Joined,
            connection if connection.is_up() => ConnectionState::Connected,
            _ => ConnectionState::Waiting,
        }
    }

    /// Returns [`Status::update`] alone.
    pub fn update_state(&self) -> UpdateState {
        self.updates.state()
    }

    /// Returns the firmware that runs, as configured.
    pub const fn running(&self) -> &FirmwareMeta {
        &self.core.config.firmware
    }

    fn tick(&mut self) {
        let now = self.core.now;
        self.connection.tick(&mut self.core.cx());
        if let Some(dead) = self.core.wire.tick(now) {
            self.connection.give_up(&mut self.core.cx(), dead);
        }
        self.updates.tick(&mut self.core.cx());
        while let Some(unanswered) = self.core.wire.unanswered(now) {
            self.incoming(unanswered);
        }
        self.archives.tick(&mut self.core.cx());
        self.updates.ledger.tick(now, self.core.wall, &mut self.core.out);
        self.tick_freeze();
        self.tick_validation();
        self.managed.tick(&mut self.core.cx());
        self.scripts.tick(&mut self.core.cx());
        self.console.tick(&mut self.core.cx());
    }

    fn socket_up(&mut self, socket: SocketId, interface: Option<&str>) -> bool {
        let up = self.connection.up(&mut self.core.cx(), socket, interface);
        if up {
            let trusted = self.connection.is_encrypted() || self.core.config.insecure_plain_hub;
            self.core.wire.opened(self.core.now, trusted);
        }
        up
    }

    /// Returns the parameters of a join, made anew for each.
    fn join_params(&self, topic: TopicId) -> Value {
        match topic {
            DEVICE => {
                let (uuid, deltas) = (self.updates.uuid(), self.updates.takes_deltas());
                device::join_params(&self.core.config, uuid, deltas, self.core.wire.is_trusted())
            }
            EXTENSIONS => self.extensions.join_params(&self.core.config),
            CONSOLE => Console::join_params(),
            _ => payload::empty(),
        }
    }

    /// Tells which conditions began and ended.
    fn follow_alarms(&mut self) {
        self.forget_refused_reboots();
        self.follow_freeze();
        let Self { core, connection, updates, alarms, extensions, reboot_refused, freeze, .. } = self;
        let Core { now, config, out, .. } = core;
        let reverted = "the device fell back from a firmware that did not prove good";
        let twin = "another device connects with this one's identity";
        for (alarm, is) in [
            (Alarm::Disconnected, connection.away()),
            (Alarm::UpdateInProgress, updates.in_progress()),
            (Alarm::FirmwareReverted, config.firmware_auto_revert_detected.then_some(reverted)),
            (Alarm::DuplicateIdentity, connection.has_twin().then_some(twin)),
            (Alarm::HealthCheckFailed, extensions.health_failure()),
            (Alarm::RebootsRefused, reboot_refused.as_deref()),
            (Alarm::UpdatesFrozen, freeze.description()),
        ] {
            alarms.follow(out, *now, alarm, is);
        }
    }

    /// Hands out what may be sent now, and reboots when nothing is left to send.
    fn settle(&mut self) {
        self.announce_again();
        self.follow_alarms();
        self.follow_validation();
        self.managed.settle(&mut self.core.cx());
        self.settle_extensions();
        if let Some(socket) = self.connection.open_socket() {
            loop {
                self.console.fill(&mut self.core.cx());
                self.extensions.fill(&mut self.core.cx());
                let frame = if let Some(topic) = self.core.wire.wants_join(self.core.now) {
                    let params = self.join_params(topic);
                    if topic == DEVICE {
                        self.announced = self.announcement();
                        self.announce_at = None;
                    }
                    self.core.wire.join(self.core.now, topic, &params).map(Some)
                } else {
                    self.core.wire.transmit(self.core.now)
                };
                match frame {
                    Ok(Some(Frame::Text(text))) => self.core.out.push(Output::Send { socket, text }),
                    Ok(Some(Frame::Binary(data))) => self.core.out.push(Output::SendBinary { socket, data }),
                    Ok(None) => break,
                    Err(fault) => fault.report(&mut self.core.out),
                }
            }
        } else {
            self.console.offline(&mut self.core.cx());
        }
        self.reboot_if_ready();
    }
}

fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
