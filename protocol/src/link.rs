//! The machine's doors.

mod archive;
mod console;
mod extensions;
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
use crate::hub::{CONSOLE, Context, DEVICE, EXTENSIONS, TOPICS, device, payload};
use crate::ids::{FetchId, SocketId};
use crate::input::Input;
use crate::link::reboot::Planned;
use crate::output::Output;
use crate::outputs::{Ids, Outputs};
use crate::phoenix::{Frame, Phoenix, Received, TopicId};
use crate::status::{ConnectionState, Counters, Status, UpdateState};
use crate::time::{Instant, Now, UnixTime};
use crate::timer::{Deadline, Earliest, Timer};

/// One NervesHub device: facts in, orders out. See the [crate documentation](crate) for the loop.
pub struct Link {
    config: Box<Config>,
    now: Instant,
    wall: Option<UnixTime>,
    out: Outputs,
    ids: Ids,
    connection: Connection,
    wire: Phoenix,
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
            now: now.mono,
            wall: now.wall,
            updates: Updates::new(&config, &mut out, seed.rotate_left(48), now),
            out,
            ids: Ids::default(),
            connection: Connection::new(home, seed),
            wire,
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
            alarms: Alarms::default(),
            counters: Counters::default(),
            config: Box::new(config),
        };
        link.keep_newest();
        link.follow_alarms();
        Ok(link)
    }

    /// Takes a fact. Facts about numbers no longer in use are counted and dropped.
    pub fn handle(&mut self, now: Now, input: Input<'_>) {
        self.advance(now);
        let known = match input {
            Input::Tick => {
                self.tick();
                true
            }
            input if self.archives.owns(&input) => {
                self.archives_with(|archives, cx| archives.input(cx, input))
            }
            Input::Reachable { probe } => {
                let (mut cx, connection, _) = self.parts();
                connection.probed(&mut cx, probe, None)
            }
            Input::Unreachable { probe, reason } => {
                let (mut cx, connection, _) = self.parts();
                connection.probed(&mut cx, probe, Some(reason))
            }
            Input::SocketUp { socket, interface } => self.socket_up(socket, interface),
            Input::SocketRefused { socket, status, headers, body } => {
                let (mut cx, connection, _) = self.parts();
                connection.refused(&mut cx, socket, status, headers, body)
            }
            Input::SocketText { socket, text } => self.received(socket, Received::Text(text)),
            Input::SocketBinary { socket, data } => self.received(socket, Received::Binary(data)),
            Input::SocketSent { socket, frames } => {
                let current = self.connection.open_socket() == Some(socket);
                if current {
                    self.wire.sent(self.now, frames);
                }
                current
            }
            Input::SocketDown { socket, code, reason } => {
                let (mut cx, connection, _) = self.parts();
                connection.down(&mut cx, socket, code, reason)
            }
            Input::FetchHead { fetch, status, headers, interface } => {
                let (mut cx, _, updates) = self.parts();
                updates.head(&mut cx, fetch, status, headers, interface)
            }
            Input::FetchEnd { fetch } => {
                let (mut cx, _, updates) = self.parts();
                updates.ended(&mut cx, fetch)
            }
            Input::FetchFailed { fetch, reason } => {
                let (mut cx, _, updates) = self.parts();
                updates.broke(&mut cx, fetch, reason)
            }
            Input::StoreOpened { store, parts } => {
                let (mut cx, _, updates) = self.parts();
                updates.store_opened(&mut cx, store, parts)
            }
            Input::StoreFailed { store, reason } => {
                let (mut cx, _, updates) = self.parts();
                updates.store_failed(&mut cx, store, reason)
            }
            Input::StoreRefused { store, reason } => {
                let (mut cx, _, updates) = self.parts();
                updates.store_refused(&mut cx, store, reason)
            }
            Input::PartCommitted { store, part: _ } => {
                let (mut cx, _, updates) = self.parts();
                updates.part_committed(&mut cx, store)
            }
            // Those about an archive in use went elsewhere.
            Input::ArchiveVerified { .. } | Input::ArchiveRefused { .. } => false,
            Input::FirmwareSigned { offer, firmware } => {
                let (mut cx, _, updates) = self.parts();
                updates.signed(&mut cx, offer, firmware)
            }
            Input::ArchiveDropped { path } => {
                self.archives_with(|archives, cx| archives.dropped(cx, path));
                true
            }
            Input::ApplyProgress { offer, percent } => {
                let (mut cx, _, updates) = self.parts();
                updates.applying(&mut cx, offer, percent)
            }
            Input::ApplyDone { offer } => {
                let (mut cx, _, updates) = self.parts();
                let done = updates.applied(&mut cx, offer);
                if done {
                    self.plan_reboot("new firmware was written");
                }
                done
            }
            Input::DeltaFailed { offer, reason } => {
                let (mut cx, _, updates) = self.parts();
                let known = updates.delta_failed(&mut cx, offer, reason);
                self.plan_announcement();
                known
            }
            Input::FileRefused { offer, reason } => {
                let (mut cx, _, updates) = self.parts();
                updates.file_refused(&mut cx, offer, reason)
            }
            Input::ApplyFailed { offer, reason } => {
                let (mut cx, _, updates) = self.parts();
                updates.apply_failed(&mut cx, offer, reason)
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
        self.advance(now);
        if !self.out.has_room() {
            return Err(CommandError::Undrained);
        }
        let (mut cx, connection, updates) = self.parts();
        match command {
            Command::Connect => connection.connect(&mut cx),
            Command::Disconnect => connection.disconnect(&mut cx),
            Command::Reconnect if connection.is_offline() => return Err(CommandError::Offline),
            Command::Reconnect => connection.reconnect(&mut cx),
            Command::ReconnectAfter { delays } => {
                Backoff::validate_list(&delays).map_err(|_| CommandError::ReconnectAfter)?;
                connection.reconnect_after(&cx, delays);
            }
            Command::Reconfigure(config) => self.reconfigure(config)?,
            Command::Decide { offer, decision } => updates.decide(&mut cx, offer, &decision)?,
            Command::InstallObstacle { reason } => updates.obstruct(&mut cx, reason.as_deref()),
            Command::FirmwareValidated => self.firmware_validated(),
            Command::ForgetHistory => updates.forget_history(&mut cx),
            Command::CheckUpdate => self.managed_with(Managed::check)?,
            Command::RequestUpdate => {
                let updating = self.updates.state() != UpdateState::Idle;
                self.managed_with(|managed, cx| managed.request(cx, updating))?;
            }
            Command::SetUpdateMode { mode } => self.managed_with(|managed, cx| managed.set(cx, mode))?,
            Command::ScriptFinished { id, output, result } => {
                self.scripts_with(|scripts, cx| scripts.finished(cx, id, &output, &result))?;
            }
            Command::Shell(command) => self.shell(&command)?,
            Command::File(FileCommand::Stored { file, bytes }) => self.console.stored(file, bytes)?,
            Command::File(FileCommand::Failed { file, reason }) => self.console.file_failed(file, &reason)?,
            Command::Upload(UploadCommand::Send { name, size }) => {
                self.console_with(|console, cx| console.upload.send(cx, name, size))?;
            }
            Command::Upload(UploadCommand::Data { upload, data }) => {
                self.console_with(|console, cx| console.upload.data(cx, upload, &data.0))?;
            }
            Command::Upload(UploadCommand::Cancel { upload }) => self.console.upload.cancel(upload)?,
            Command::Extension(command) => self.extension_command(command)?,
            Command::Archive(command) => self.archives_with(|archives, cx| archives.command(cx, command))?,
            Command::ConnectionTypes { types } => self.connection_types(&types),
            Command::NetworkInterface { name } => self.network_interface(&name),
            Command::ReportUpdate { offer, report } => {
                if updates.reported(&mut cx, offer, &report)? {
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
        self.advance(now);
        let network = self.transfer(fetch).is_some();
        let keep = if self.archives.is_current(fetch) {
            self.archives_with(|archives, cx| archives.body(cx, fetch, chunk))
        } else {
            let (mut cx, _, updates) = self.parts();
            updates.body(&mut cx, fetch, chunk)
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
        self.advance(now);
        let archives = self.archives_with(|archives, cx| archives.stored(cx, fetch, len));
        let (mut cx, _, updates) = self.parts();
        let known = match archives {
            Some(known) => known,
            None => updates.stored(&mut cx, fetch, len),
        };
        if !known {
            count(&mut self.counters.stale_inputs);
        }
        self.settle();
    }

    /// Returns the next order or event. After each call into the machine, call this until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop()
    }

    /// Returns when to call [`Link::handle`] with [`Input::Tick`] at the latest, if ever. Never in
    /// the past once a tick was handled and everything polled.
    pub fn deadline(&self) -> Option<Deadline> {
        let mut deadline = Earliest::default();
        self.connection.deadlines(&mut deadline);
        self.wire.deadlines(&mut deadline);
        self.updates.deadlines(&self.config, &mut deadline);
        self.archives.deadlines(&self.config, &mut deadline);
        self.managed.deadlines(&mut deadline);
        self.scripts.deadlines(&mut deadline);
        self.extensions.deadlines(&self.wire, &mut deadline);
        self.console.deadlines(&self.wire, &mut deadline);
        if let Some(at) = self.ask_validated {
            deadline.at(Timer::Validation, at);
        }
        if let Some(at) = self.announce_at {
            deadline.at(Timer::Reconnect, at);
        }
        if let Some(at) = self.updates.ledger.deadline(self.wall) {
            deadline.at(Timer::History, at);
        }
        if let Some(planned) = &self.reboot {
            deadline.at(Timer::Reboot, planned.deadline(self.now));
        }
        deadline.get()
    }

    /// Returns whether the device may show who it is at an address: the server's own, or one of
    /// [`Config::trusted_origins`]. Everywhere else, connect without client certificate.
    pub fn trusts(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| self.connection.trusts(&self.config, &url))
    }

    /// Returns which network addresses a connection for a [`Dial`](crate::Dial) may lead to. The host of the address must
    /// be looked up first: what counts is where its name leads each time.
    pub fn dial_rules(&self, url: &str) -> AddressRules {
        if self.trusts(url) { AddressRules::any() } else { self.outside() }
    }

    /// Returns which network addresses a connection for a [`Fetch`](crate::Fetch) may lead to, as [`Link::dial_rules`].
    pub fn fetch_rules(&self, url: &str) -> AddressRules {
        match Url::parse(url) {
            Ok(url) if is_listed(&self.config, &url) => AddressRules::any(),
            Ok(url) if self.connection.has_host(&url) => self.outside().of_hub(),
            _ => self.outside(),
        }
    }

    fn outside(&self) -> AddressRules {
        AddressRules::outside(self.config.download.refuse_private_addresses)
    }

    /// Returns a snapshot for people and logs.
    pub fn status(&self) -> Status {
        Status {
            connection: self.connection_state(),
            update: self.update_state(),
            install_obstacle: self.updates.obstacle().map(String::from),
            update_mode: self.managed.mode(),
            console_joined: self.wire.has_joined(CONSOLE),
            console_active: self.console.is_active(),
            extensions_joined: self.wire.has_joined(EXTENSIONS),
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
            connection if connection.is_joined() && self.wire.is_joined() => ConnectionState::Joined,
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
        &self.config.firmware
    }

    fn advance(&mut self, now: Now) {
        self.now = self.now.max(now.mono);
        self.wall = now.wall;
    }

    fn parts(&mut self) -> (Context<'_>, &mut Connection, &mut Updates) {
        let cx = Context {
            now: self.now,
            wall: self.wall,
            config: &self.config,
            out: &mut self.out,
            wire: &mut self.wire,
            ids: &mut self.ids,
        };
        (cx, &mut self.connection, &mut self.updates)
    }

    fn managed_with<T>(&mut self, work: impl FnOnce(&mut Managed, &mut Context<'_>) -> T) -> T {
        let Self { now, wall, config, out, wire, ids, managed, .. } = self;
        work(managed, &mut Context { now: *now, wall: *wall, config, out, wire, ids })
    }

    fn scripts_with<T>(&mut self, work: impl FnOnce(&mut Scripts, &mut Context<'_>) -> T) -> T {
        let Self { now, wall, config, out, wire, ids, scripts, .. } = self;
        work(scripts, &mut Context { now: *now, wall: *wall, config, out, wire, ids })
    }

    fn tick(&mut self) {
        let now = self.now;
        let (mut cx, connection, updates) = self.parts();
        connection.tick(&mut cx);
        if let Some(dead) = cx.wire.tick(now) {
            connection.give_up(&mut cx, dead);
        }
        updates.tick(&mut cx);
        while let Some(unanswered) = self.wire.unanswered(now) {
            self.incoming(unanswered);
        }
        self.archives_with(Archives::tick);
        self.updates.ledger.tick(now, self.wall, &mut self.out);
        self.tick_validation();
        self.managed_with(Managed::tick);
        self.scripts_with(Scripts::tick);
        self.console_with(Console::tick);
    }

    fn socket_up(&mut self, socket: SocketId, interface: Option<&str>) -> bool {
        let (mut cx, connection, _) = self.parts();
        let up = connection.up(&mut cx, socket, interface);
        if up {
            let trusted = self.connection.is_encrypted() || self.config.insecure_plain_hub;
            self.wire.opened(self.now, trusted);
        }
        up
    }

    /// Returns the parameters of a join, made anew for each.
    fn join_params(&self, topic: TopicId) -> Value {
        match topic {
            DEVICE => {
                let (uuid, deltas) = (self.updates.uuid(), self.updates.takes_deltas());
                device::join_params(&self.config, uuid, deltas, self.wire.is_trusted())
            }
            EXTENSIONS => self.extensions.join_params(&self.config),
            CONSOLE => Console::join_params(),
            _ => payload::empty(),
        }
    }

    /// Tells which conditions began and ended.
    fn follow_alarms(&mut self) {
        self.forget_refused_reboots();
        let Self { now, config, out, connection, updates, alarms, extensions, reboot_refused, .. } = self;
        let reverted = "the device fell back from a firmware that did not prove good";
        let twin = "another device connects with this one's identity";
        for (alarm, is) in [
            (Alarm::Disconnected, connection.away()),
            (Alarm::UpdateInProgress, updates.in_progress()),
            (Alarm::FirmwareReverted, config.firmware_auto_revert_detected.then_some(reverted)),
            (Alarm::DuplicateIdentity, connection.has_twin().then_some(twin)),
            (Alarm::HealthCheckFailed, extensions.health_failure()),
            (Alarm::RebootsRefused, reboot_refused.as_deref()),
        ] {
            alarms.follow(out, *now, alarm, is);
        }
    }

    /// Hands out what may be sent now, and reboots when nothing is left to send.
    fn settle(&mut self) {
        self.announce_again();
        self.follow_alarms();
        self.follow_validation();
        self.managed_with(Managed::settle);
        self.settle_extensions();
        if let Some(socket) = self.connection.open_socket() {
            loop {
                self.console_with(Console::fill);
                self.extensions_with(Extensions::fill);
                let frame = if let Some(topic) = self.wire.wants_join(self.now) {
                    let params = self.join_params(topic);
                    if topic == DEVICE {
                        self.announced = self.announcement();
                        self.announce_at = None;
                    }
                    self.wire.join(self.now, topic, &params).map(Some)
                } else {
                    self.wire.transmit(self.now)
                };
                match frame {
                    Ok(Some(Frame::Text(text))) => self.out.push(Output::Send { socket, text }),
                    Ok(Some(Frame::Binary(data))) => self.out.push(Output::SendBinary { socket, data }),
                    Ok(None) => break,
                    Err(fault) => fault.report(&mut self.out),
                }
            }
        } else {
            self.console_with(Console::offline);
        }
        self.reboot_if_ready();
    }
}

fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
