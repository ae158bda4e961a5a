//! What beside updates happens to a device: shells and files of operators, extensions, stores, archives.

use std::collections::{BTreeMap, VecDeque};

use nerves_hub_link_protocol::{
    ArchiveCommand, ArchiveDecision, ArchiveEvent, ArchiveId, Chunk, Command, CommandError, Config,
    ConsoleConfig, Event, ExtensionCommand, FetchId, FileCommand, FileEvent, FileId, Input, LocationError,
    NetworkIdentity, Output, PartsConfig, ReadStore, Serializer, ShellCommand, ShellEnd, ShellEvent, ShellId,
    StoreId, StoreKind, UpdateStrategy,
};

use super::input::Source;
use super::link::Scenario;
use super::link_world::{KEY, SECRET};

const CONSOLE: [&str; 8] = [
    r#""dn",{"data":"ls\r"}"#,
    r#""dn",{"data":7}"#,
    r#""restart",{}"#,
    r#""window_size",{"height":40,"width":132}"#,
    r#""window_size",{"height":-1}"#,
    r#""file-data/start",{"filename":"a"}"#,
    r#""file-data",{"filename":"a","chunk":0,"data":"eHh4"}"#,
    r#""file-data/stop",{"filename":"a"}"#,
];

const EXTENSIONS: [&str; 12] = [
    r#""health:check",{}"#,
    r#""geo:location:request",{}"#,
    r#""network_identity:request",{}"#,
    r#""metrics:check",{}"#,
    r#""alarms:sync",{}"#,
    r#""local_shell:request_shell",{}"#,
    r#""local_shell:shell_input",{"data":"ls\r"}"#,
    r#""local_shell:window_size",{"rows":40,"cols":132}"#,
    r#""local_shell:kill_shell",{"signal":9}"#,
    r#""attach",{"extensions":["health","local_shell","nobody"]}"#,
    r#""detach",{"extensions":["geo","local_shell"]}"#,
    r#""health:check",[1]"#,
];

/// Changes a configuration by more bits.
pub(super) fn config(config: &mut Config, bits: u8) {
    let bit = |at: u8| bits >> at & 1 == 1;
    if bit(0) {
        config.console = Some(ConsoleConfig::default());
        config.extensions.local_shell = true;
        config.extensions.metrics = true;
        config.extensions.alarms = true;
    }
    if bit(1) {
        config.strategy = UpdateStrategy::Caching;
    }
    if bit(2) {
        config.strategy =
            UpdateStrategy::Parts(PartsConfig { max_concurrent_parts: 2, ..PartsConfig::default() });
    }
    if bit(3) {
        config.serializer = Serializer::MsgPack;
    }
}

/// What the device did beside updates, as far as it binds what it may do next.
#[derive(Default)]
pub(super) struct More {
    /// Bytes that each running shell may write.
    rooms: BTreeMap<ShellId, usize>,
    shell: u64,
    files: Vec<FileId>,
    /// The stores that are open.
    stores: BTreeMap<StoreId, StoreKind>,
    opened: VecDeque<StoreId>,
    commits: VecDeque<(StoreId, u32)>,
    reading: Option<ReadStore>,
    archive: Option<ArchiveId>,
    verifying: Option<StoreId>,
}

impl More {
    /// The newest store of a kind.
    pub(super) fn has(&self, store: StoreId) -> bool {
        self.stores.contains_key(&store)
    }

    /// Looks at an order.
    pub(super) fn check(&mut self, output: &Output) {
        match output {
            Output::OpenStore(order) => {
                assert!(!self.stores.values().any(|kind| *kind == order.kind), "two stores of a kind");
                assert!(order.parts > 0 && !order.key.is_empty(), "{order:?}");
                self.stores.insert(order.store, order.kind);
                self.opened.push_back(order.store);
            }
            Output::CloseStore { store, .. } => {
                assert!(self.stores.remove(store).is_some(), "a store that is not open is closed");
                self.commits.retain(|(its, _)| its != store);
                self.opened.retain(|its| its != store);
                self.reading.take_if(|reading| reading.store == *store);
                self.verifying.take_if(|its| *its == *store);
            }
            Output::ReadStore(order) => {
                assert!(self.has(order.store) && order.from < order.to, "{order:?}");
                self.reading = Some(order.clone());
            }
            Output::CommitPart { store, part } => {
                assert!(self.has(*store), "a part of a store that is not open");
                self.commits.push_back((*store, *part));
            }
            Output::DropPart { store, .. } => assert!(self.has(*store), "a part of a store that is not open"),
            Output::VerifyArchive(order) => {
                let kind = self.stores.get(&order.store);
                assert!(kind == Some(&StoreKind::Archive) && !order.public_keys.is_empty(), "{order:?}");
                self.verifying = Some(order.store);
            }
            Output::Event(event) => self.hear(event),
            _ => {}
        }
    }

    fn hear(&mut self, event: &Event) {
        match event {
            Event::Shell(ShellEvent::Wanted { shell, room, .. }) => {
                assert!(shell.0 > self.shell, "a number is used twice");
                self.shell = shell.0;
                self.rooms.insert(*shell, *room);
                assert!(self.rooms.len() <= 2, "{} shells", self.rooms.len());
            }
            Event::Shell(ShellEvent::Input { shell, .. } | ShellEvent::Resized { shell, .. }) => {
                assert!(self.rooms.contains_key(shell), "a shell that does not run");
            }
            Event::Shell(ShellEvent::Ready { shell, bytes }) => {
                let room = self.rooms.get_mut(shell).map(|room| *room += bytes);
                assert!(room.is_some(), "room for a shell that does not run");
            }
            Event::Shell(ShellEvent::Stopped { shell, .. }) => {
                assert!(self.rooms.remove(shell).is_some(), "a shell that does not run is stopped");
            }
            Event::File(FileEvent::Started { file, .. }) => self.files.push(*file),
            Event::File(FileEvent::Chunk { file, .. } | FileEvent::Finished { file }) => {
                assert!(self.files.contains(file), "a file that was not begun");
            }
            Event::File(FileEvent::Discarded { file, .. }) => self.files.retain(|its| its != file),
            Event::Archive(ArchiveEvent::Offered { archive, .. }) => self.archive = Some(*archive),
            Event::Archive(ArchiveEvent::Failed { reason, .. } | ArchiveEvent::Refused { reason, .. }) => {
                assert!(!reason.contains(SECRET), "{reason}");
            }
            _ => {}
        }
    }
}

impl Scenario {
    /// One thing beside updates happens.
    pub(super) fn more(&mut self, step: u8, source: &mut Source<'_>) {
        match step {
            24 => {
                let (console, list) = (source.byte() & 1 == 0, source.byte());
                let topic = if console { "console" } else { "extensions" };
                let reference = self.world.joins.get(topic).copied().unwrap_or_default();
                let response = match list % 4 {
                    0 => r#"["health","geo","network_identity","local_shell","alarms"]"#,
                    2 => r#"["health","logging","error_reports","metrics","lift"]"#,
                    _ => "{}",
                };
                self.text(&format!(
                    r#"["{reference}","{reference}","{topic}","phx_reply",{{"status":"ok","response":{response}}}]"#
                ));
            }
            25 => {
                let message = source.pick(&CONSOLE);
                self.text(&format!(r#"[null,null,"console",{message}]"#));
            }
            26 => {
                let message = source.pick(&EXTENSIONS);
                self.text(&format!(r#"[null,null,"extensions",{message}]"#));
            }
            27 => self.extension(source),
            28 => self.shell(source),
            29 => self.store(source),
            30 => self.reading(source),
            _ => self.archive(source),
        }
    }

    fn extension(&mut self, source: &mut Source<'_>) {
        let name = || "health".to_owned();
        let command = match source.byte() % 8 {
            0 => ExtensionCommand::HealthReport(Box::default()),
            1 => ExtensionCommand::HealthFailed { reason: "\u{e4} ".repeat(400) },
            2 => ExtensionCommand::Location(Err(LocationError {
                code: "X".repeat(100),
                description: String::new(),
            })),
            3 => ExtensionCommand::NetworkIdentities(vec![NetworkIdentity::new("wireguard", "a"); 12]),
            4 => ExtensionCommand::Attach { name: name() },
            5 => ExtensionCommand::Detach { name: name() },
            6 => ExtensionCommand::RaiseAlarm { name: "Hot".to_owned(), description: "\"".repeat(2000) },
            _ => ExtensionCommand::ClearAlarm { name: "Hot".to_owned() },
        };
        let _ = self.command(Command::Extension(command));
    }

    fn shell(&mut self, source: &mut Source<'_>) {
        let (pick, length) = (source.byte(), usize::from(source.short()));
        if pick >= 200 {
            let file = self.world.more.files.last().copied().unwrap_or(FileId(0));
            let command = match pick & 1 {
                0 => FileCommand::Stored { file, bytes: length },
                _ => FileCommand::Failed { file, reason: "the disk is full".to_owned() },
            };
            let _ = self.command(Command::File(command));
            return;
        }
        let newest = self.world.more.rooms.keys().nth(usize::from(pick / 4 % 2)).copied();
        let Some(shell) = newest else { return };
        let command = match pick % 4 {
            0 => ShellCommand::Started { shell },
            3 => ShellCommand::Ended { shell, end: ShellEnd::Exited(i32::from(pick)) },
            _ => ShellCommand::Output { shell, data: Chunk(vec![source.pick(b"x\"\xc3\n"); length]) },
        };
        let ended = matches!(command, ShellCommand::Ended { .. });
        // What the machine wanted to say before concerns shells that may not run any more.
        self.world.drain(&mut self.link);
        if !self.world.more.rooms.contains_key(&shell) {
            return;
        }
        let result = self.link.command(self.now, Command::Shell(command));
        if ended && result.is_ok() {
            self.world.more.rooms.remove(&shell);
        }
        // There may be more room than was told before, if something was sent on the same occasion.
        self.world.drain(&mut self.link);
        let room = self.world.more.rooms.get_mut(&shell);
        match result {
            Ok(()) if matches!(pick % 4, 1 | 2) => {
                if let Some(room) = room {
                    assert!(length <= *room, "{length} bytes were taken, of {room}");
                    *room -= length;
                }
            }
            Ok(()) | Err(CommandError::Undrained) => {}
            Err(CommandError::NoRoom { room: said }) => {
                assert!(length > said, "{length} bytes were refused, of {said}");
                assert!(
                    room.is_none_or(|room| said <= *room),
                    "{said} bytes of room that nobody was told of"
                );
            }
            Err(error) => assert!(!self.world.more.rooms.contains_key(&shell), "shell {shell}: {error}"),
        }
    }

    fn store(&mut self, source: &mut Source<'_>) {
        let (how, part, length) = (source.byte(), source.byte(), source.short());
        self.world.drain(&mut self.link);
        let more = &mut self.world.more;
        if how >= 230 {
            let Some((store, _)) = more.stores.last_key_value() else { return };
            let store = *store;
            return self.input(Input::StoreFailed { store, reason: "the disk is full" });
        }
        if let Some(store) = more.opened.pop_front() {
            let parts = [(u32::from(part), u64::from(length))];
            let parts = if how & 1 == 0 { &[][..] } else { &parts };
            self.input(Input::StoreOpened { store, parts });
        } else if let Some((store, part)) = more.commits.pop_front() {
            self.input(Input::PartCommitted { store, part });
        }
    }

    /// Bytes are read back, or the end of them.
    fn reading(&mut self, source: &mut Source<'_>) {
        let (how, length) = (source.byte(), usize::from(source.short() % 3000));
        self.world.drain(&mut self.link);
        let Some(reading) = self.world.more.reading.clone() else { return };
        let ReadStore { fetch, into, .. } = reading;
        if how < 128 {
            let keep = self.link.body(self.now, fetch, &vec![7; length]);
            self.world.drain(&mut self.link);
            if into.is_some() {
                self.world.keep(keep.offset, keep.range.len());
            } else {
                assert!(keep.range.is_empty(), "bytes kept of what was only looked at");
            }
            return;
        }
        self.world.more.reading = None;
        if how < 230 {
            self.input(Input::FetchEnd { fetch });
        } else {
            self.input(Input::FetchFailed { fetch, reason: "input/output error" });
        }
    }

    fn archive(&mut self, source: &mut Source<'_>) {
        let (how, uuid) = (source.byte(), source.byte() % 4);
        let decide = |archive, decision| Command::Archive(ArchiveCommand::Decide { archive, decision });
        self.world.drain(&mut self.link);
        let archive = self.world.more.archive.unwrap_or(ArchiveId(0));
        match how % 8 {
            0..=2 => self.text(&format!(
                r#"[null,null,"device","archive",{{"size":1000,"uuid":"{uuid}","version":"1.0.0","description":null,"platform":null,"architecture":null,"uploaded_at":"2026-11-23T14:39:17","url":"https://files.example/{uuid}.fw?signature={SECRET}"}}]"#
            )),
            3 | 4 => drop(self.command(decide(archive, ArchiveDecision::Download))),
            5 => drop(self.command(decide(archive, ArchiveDecision::Ignore))),
            6 => {
                let text = format!(r#"[null,null,"device","archive_public_keys",{{"keys":["{KEY}"]}}]"#);
                self.text(&text);
            }
            _ => {
                let Some(store) = self.world.more.verifying.take() else { return };
                self.world.more.stores.remove(&store);
                if uuid & 1 == 0 {
                    self.input(Input::ArchiveVerified { store, path: "/data/a.fw" });
                } else {
                    self.input(Input::ArchiveRefused { store, reason: "nobody trusted signed it" });
                }
            }
        }
    }

    /// The number of the request that bytes come for, and whether a store takes them.
    pub(super) fn goes_to_store(&self, fetch: FetchId) -> bool {
        self.world.to_store.contains(&fetch)
    }
}
