//! What must hold on the console and in the local shell, whatever operators, shells, files and the network do.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
enum Step {
    /// The server says something about the console or the local shell.
    Console(usize),
    Local(usize),
    /// A piece of a file, of so many bytes.
    Piece(usize, usize),
    /// A shell writes, starts or ends; by its age.
    Output(usize, usize, u8),
    Shell(usize, u8),
    /// A file is stored or not; by its age.
    Stored(usize, usize),
    Failed(usize),
    /// A file to the operators.
    Send(u64),
    Data(usize),
    Cancel,
    Pass(u64),
    /// The network takes nothing, or everything again.
    Block(bool),
    Crash(bool),
    Down,
    Detach,
}

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "../f", ""];

fn console_messages() -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("dn", json!({"data": "x"})),
        ("dn", json!({"data": 1})),
        ("window_size", json!({"height": 1, "width": 2})),
        ("window_size", json!([])),
        ("restart", json!({})),
        ("restart", json!("now")),
        ("new", json!(null)),
    ];
    for name in NAMES {
        all.push(("file-data/start", json!({"filename": name})));
        all.push(("file-data/stop", json!({"filename": name})));
    }
    all
}

fn local_messages() -> Vec<(&'static str, Value)> {
    vec![
        ("local_shell:request_shell", json!({})),
        ("local_shell:shell_input", json!({"data": "x"})),
        ("local_shell:shell_input", json!({})),
        ("local_shell:window_size", json!({"rows": 1, "cols": 2})),
        ("local_shell:kill_shell", json!({"signal": 9})),
        ("local_shell:kill_shell", json!({"signal": "x"})),
        ("local_shell:new", json!(1)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let age = 0..3_usize;
    let length = prop_oneof![0..40_usize, 0..MAX_SHELL_BUFFER + 10];
    let step = prop_oneof![
        6 => (0..console_messages().len()).prop_map(Step::Console),
        4 => (0..local_messages().len()).prop_map(Step::Local),
        5 => (0..NAMES.len(), prop_oneof![0..2000_usize, Just(MAX_FILE_CHUNK_BYTES)]).prop_map(|(n, l)| Step::Piece(n, l)),
        9 => (age.clone(), length, any::<u8>()).prop_map(|(age, length, byte)| Step::Output(age, length, byte)),
        // The beginning and the end of the file "a".
        3 => prop::sample::select(vec![7_usize, 8]).prop_map(Step::Console),
        3 => Just(Step::Piece(0, 100)),
        3 => (age.clone(), 0..4_u8).prop_map(|(age, what)| Step::Shell(age, what)),
        3 => (age.clone(), 0..MAX_FILE_UNSTORED).prop_map(|(age, bytes)| Step::Stored(age, bytes)),
        1 => age.prop_map(Step::Failed),
        2 => prop_oneof![0..50_000_u64, Just(MAX_UPLOAD_BYTES)].prop_map(Step::Send),
        8 => (0..MAX_UPLOAD_BUFFER + 10).prop_map(Step::Data),
        1 => Just(Step::Cancel),
        5 => prop_oneof![3 => 0..50_u64, 1 => 0..120_000_u64].prop_map(Step::Pass),
        2 => prop::bool::weighted(0.3).prop_map(Step::Block),
        1 => any::<bool>().prop_map(Step::Crash),
        1 => Just(Step::Down),
        1 => Just(Step::Detach),
    ];
    prop::collection::vec(step, 0..100)
}

/// What must be true, told by the events alone.
#[derive(Default)]
struct Model {
    shells: BTreeMap<ShellId, (ShellKind2, usize)>,
    files: BTreeMap<FileId, usize>,
    upload: Option<(UploadId, usize)>,
    console_joined: bool,
    /// Everything that came out, for the comparison of two runs.
    trace: Vec<Output>,
}

/// A kind in an order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum ShellKind2 {
    Console,
    Local,
}

impl Model {
    fn look(&mut self, out: &[Output]) {
        for message in sent(out) {
            if message[2] == "console" && message[3] != "phx_join" && message[3] != "phx_leave" {
                let fields = message[4].as_object().unwrap();
                let texts = |names: &[&str]| names.iter().all(|name| fields[*name].is_string());
                let fine = match message[3].as_str().unwrap() {
                    "up" => {
                        texts(&["data"]) && fields["data"].as_str().unwrap().len() <= MAX_SHELL_MESSAGE_BYTES
                    }
                    "file-data/start" | "file-data/stop" => texts(&["filename"]),
                    "file-data" => texts(&["filename", "data"]) && fields["chunk"].is_u64(),
                    _ => false,
                };
                assert!(fine, "the server's channel would crash over {message}");
            }
        }
        for event in events(out) {
            self.event(event);
        }
        assert!(self.files.len() <= MAX_FILES);
        self.trace.extend_from_slice(out);
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::ConsoleJoined => self.console_joined = true,
            Event::ConsoleLost { .. } | Event::Disconnected { .. } => self.console_joined = false,
            Event::Shell(ShellEvent::Wanted { shell, kind, room, .. }) => {
                let kind = if kind == ShellKind::Console { ShellKind2::Console } else { ShellKind2::Local };
                assert!(self.shells.values().all(|(other, _)| *other != kind), "two shells of a kind");
                assert!(room <= MAX_SHELL_BUFFER);
                assert_eq!(self.shells.insert(shell, (kind, room)), None);
            }
            Event::Shell(ShellEvent::Ready { shell, bytes }) => {
                let (_, room) = self.shells.get_mut(&shell).expect("credit for a shell that is gone");
                *room += bytes;
                assert!(bytes > 0 && *room <= MAX_SHELL_BUFFER);
            }
            Event::Shell(ShellEvent::Stopped { shell, .. }) => {
                self.shells.remove(&shell).expect("stopped twice");
            }
            Event::Shell(ShellEvent::Input { shell, .. } | ShellEvent::Resized { shell, .. }) => {
                assert!(self.shells.contains_key(&shell));
            }
            Event::File(FileEvent::Started { file, name }) => {
                assert!(NAMES[..5].contains(&&*name));
                assert_eq!(self.files.insert(file, 0), None);
            }
            Event::File(FileEvent::Chunk { file, data }) => {
                let unstored = self.files.get_mut(&file).expect("a piece of no file");
                *unstored += data.0.len();
                assert!(*unstored <= MAX_FILE_UNSTORED && data.0.len() <= MAX_FILE_CHUNK_BYTES);
            }
            Event::File(FileEvent::Finished { file } | FileEvent::Discarded { file, .. }) => {
                self.files.remove(&file).expect("the end of no file");
            }
            Event::Upload(UploadEvent::Started { upload, .. }) => {
                assert_eq!(self.upload.replace((upload, 0)), None);
            }
            Event::Upload(UploadEvent::Ready { upload, bytes }) => {
                let (known, asked) = self.upload.as_mut().unwrap();
                *asked += bytes;
                assert!(*known == upload && *asked <= MAX_UPLOAD_BUFFER);
            }
            Event::Upload(UploadEvent::Finished { upload } | UploadEvent::Aborted { upload, .. }) => {
                assert_eq!(self.upload.take().map(|(known, _)| known), Some(upload));
            }
            _ => {}
        }
    }

    /// The shell so many from the newest.
    fn shell(&self, age: usize) -> Option<(ShellId, usize)> {
        self.shells.iter().rev().nth(age).map(|(shell, (_, room))| (*shell, *room))
    }

    fn file(&self, age: usize) -> Option<FileId> {
        self.files.keys().rev().nth(age).copied()
    }
}

struct World {
    device: Device,
    model: Model,
    /// How many outputs were looked at.
    seen: usize,
    /// The last connection that was opened.
    up: SocketId,
}

impl World {
    fn new() -> Self {
        let mut config = config();
        config.console = Some(ConsoleConfig { timeout: Duration::from_secs(100), max_file_size: 200_000 });
        config.heartbeat = Duration::ZERO;
        config.extensions = no_extensions();
        config.extensions.local_shell = true;
        let mut device = Device::new(config);
        let up = device.connect();
        let mut world = Self { device, model: Model::default(), seen: 0, up };
        world.look();
        world
    }

    /// Looks at what is new and plays the server: it accepts every join, and asks for extensions.
    fn look(&mut self) {
        while self.seen < self.device.out.len() {
            let new = self.device.out[self.seen..].to_vec();
            self.seen = self.device.out.len();
            self.model.look(&new);
            let socket = self.device.socket();
            if std::mem::replace(&mut self.up, socket) != socket {
                self.device.input(Input::SocketUp { socket, interface: None });
            }
            for join in sent(&new).into_iter().filter(|message| message[3] == "phx_join") {
                let response = if join[2] == "extensions" { json!(["local_shell"]) } else { json!({}) };
                let reply = json!({"status": "ok", "response": response});
                self.device.server(&json!([join[0], join[1], join[2], "phx_reply", reply]));
                if join[2] == "device" {
                    self.device.broadcast("extensions:get", json!({}));
                }
            }
        }
    }

    fn order(&mut self, command: impl Into<Command>) -> Result<(), CommandError> {
        let result = self.device.link.command(self.device.now, command.into());
        self.device.drain();
        result
    }

    fn step(&mut self, step: &Step) {
        let extensions = |message: &Value| message[3] == "phx_join" && message[2] == "extensions";
        match *step {
            Step::Console(which) => {
                let (event, payload) = console_messages().swap_remove(which);
                self.device.console(event, payload);
            }
            Step::Local(which) => {
                let (event, payload) = local_messages().swap_remove(which);
                self.device.server(&json!([null, null, "extensions", event, payload]));
            }
            Step::Piece(name, length) => {
                use base64::Engine as _;
                let data = base64::engine::general_purpose::STANDARD.encode(vec![7; length]);
                self.device.console("file-data", json!({"filename": NAMES[name], "chunk": 0, "data": data}));
            }
            Step::Output(age, length, byte) => {
                let Some((shell, room)) = self.model.shell(age) else { return };
                let taken = self.order(ShellCommand::Output { shell, data: Chunk(vec![byte; length]) });
                if length <= room {
                    assert_eq!(taken, Ok(()));
                    self.model.shells.get_mut(&shell).unwrap().1 -= length;
                } else {
                    assert_eq!(taken, Err(CommandError::NoRoom { room }));
                }
            }
            Step::Shell(age, what) => {
                let Some((shell, _)) = self.model.shell(age) else { return };
                let end = match what {
                    0 => return assert_eq!(self.order(ShellCommand::Started { shell }), Ok(())),
                    1 => ShellEnd::Exited(1),
                    2 => ShellEnd::Signalled(9),
                    _ => ShellEnd::Failed("broke".into()),
                };
                // Before the order, which may open the next one.
                self.model.shells.remove(&shell);
                assert_eq!(self.order(ShellCommand::Ended { shell, end }), Ok(()));
            }
            Step::Stored(age, bytes) => {
                let Some(file) = self.model.file(age) else { return };
                assert_eq!(self.order(FileCommand::Stored { file, bytes }), Ok(()));
                let unstored = self.model.files.get_mut(&file).unwrap();
                *unstored = unstored.saturating_sub(bytes);
            }
            Step::Failed(age) => {
                let Some(file) = self.model.file(age) else { return };
                assert_eq!(self.order(FileCommand::Failed { file, reason: "full".into() }), Ok(()));
                self.model.files.remove(&file);
            }
            Step::Send(size) => {
                let expected = match () {
                    () if self.model.upload.is_some() => Err(CommandError::UploadInProgress),
                    () if size >= MAX_UPLOAD_BYTES => Err(CommandError::FileTooLarge { size }),
                    () if !self.model.console_joined => Err(CommandError::ConsoleNotJoined),
                    () => Ok(()),
                };
                assert_eq!(self.order(UploadCommand::Send { name: "up".into(), size }), expected);
            }
            Step::Data(length) => {
                let Some((upload, asked)) = self.model.upload else { return };
                // Mostly what was asked for, or the end is never reached.
                let length = if length % 4 == 0 { length } else { asked };
                if length <= asked {
                    self.model.upload = Some((upload, asked - length));
                }
                let taken = self.order(UploadCommand::Data { upload, data: Chunk(vec![1; length]) });
                let expected =
                    if length <= asked { Ok(()) } else { Err(CommandError::NoRoom { room: asked }) };
                assert_eq!(taken, expected);
            }
            Step::Cancel => {
                let Some((upload, _)) = self.model.upload.take() else { return };
                assert_eq!(self.order(UploadCommand::Cancel { upload }), Ok(()));
            }
            Step::Pass(millis) => drop(self.device.pass(Duration::from_millis(millis))),
            Step::Block(blocked) => {
                self.device.sends = !blocked;
                let socket = self.device.socket();
                if !blocked {
                    self.device.input(Input::SocketSent { socket, frames: SEND_CREDIT });
                }
            }
            Step::Crash(console) => {
                let topic = if console { "console" } else { "extensions" };
                self.device.server(&json!([null, null, topic, "phx_error", {}]));
            }
            Step::Down => drop(self.device.down(None)),
            Step::Detach => {
                if self.device.sent().iter().any(extensions) {
                    self.device.server(
                        &json!([null, null, "extensions", "detach", {"extensions": ["local_shell"]}]),
                    );
                }
            }
        }
    }
}

/// Runs the steps and returns everything that came out.
fn run(steps: &[Step]) -> Vec<Output> {
    let mut world = World::new();
    for step in steps {
        world.step(step);
        world.look();
        // The deadline is never in the past.
        world.device.pass(Duration::ZERO);
        world.look();
        let status = world.device.link.status();
        let console = world.model.shells.values().any(|(kind, _)| *kind == ShellKind2::Console);
        assert_eq!((status.console_active, status.console_joined), (console, world.model.console_joined));
    }
    // When everything is well again, a full buffer is sent and credit comes back.
    world.step(&Step::Block(false));
    for _ in 0..10 {
        world.look();
        world.device.pass(Duration::from_secs(10));
    }
    world.look();
    for (kind, room) in world.model.shells.values() {
        assert!(*room > MAX_SHELL_BUFFER / 2, "a {kind:?} shell that waits for ever, with room for {room}");
    }
    assert!(world.model.files.is_empty(), "files that never end");
    assert_eq!(world.model.upload, None, "a file that is never sent");
    world.model.trace
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_and_runs_repeat(steps in steps()) {
        prop_assert!(run(&steps) == run(&steps), "two runs differ");
    }
}

#[test]
fn the_steps_reach_every_part() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..40 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        for output in run(&steps) {
            let name = match output {
                Output::Event(Event::Shell(ShellEvent::Stopped { why, .. })) => format!("{why:?}"),
                Output::Event(event) => {
                    format!("{event:?}").split([' ', '{', ')']).next().unwrap().to_owned()
                }
                _ => continue,
            };
            *seen.entry(name).or_default() += 1;
        }
    }
    println!("{seen:?}");
    for wanted in [
        "ConsoleLost",
        "Shell(Wanted",
        "Shell(Input",
        "Shell(Resized",
        "Shell(Ready",
        "Restart",
        "Inactive",
        "Killed",
        "Detached",
        "File(Started",
        "File(Chunk",
        "File(Finished",
        "File(Discarded",
        "Upload(Started",
        "Upload(Ready",
        "Upload(Finished",
        "Upload(Aborted",
        "Unknown",
        "Malformed",
    ] {
        assert!(seen.keys().any(|key| key.starts_with(wanted)), "{wanted} never happened");
    }
}
