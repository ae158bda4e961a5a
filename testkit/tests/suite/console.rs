//! Operators on the device: a real shell in a real terminal, and real files, against the hub.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::bench::{Adapter as _, Bench, Device, LIMIT, SERIAL, UnderTest};
use nerves_hub_link_platform::limits::SHELL_GRACE;
use nerves_hub_link_platform::pty::ShellCommand as Program;
use nerves_hub_link_protocol::*;
use nerves_hub_link_runtime::{Options, SendFileError};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::Events;
use serde_json::{Value, json};

fn config(bench: &Bench) -> Config {
    let mut config = bench.config();
    config.console = Some(ConsoleConfig::default());
    config
}

fn sh() -> Program {
    Program::new("/bin/sh").set("PS1", "").set("ENV", "").unset("HISTFILE")
}

fn inbox(bench: &Bench) -> PathBuf {
    bench.path("inbox")
}

/// A device with a shell and a folder for files, and what the operator sees.
fn start(bench: &Bench) -> (Device, Operator) {
    let folder = inbox(bench);
    start_with(bench, config(bench), |options| options.shell(sh()).data_path(folder))
}

fn start_with(bench: &Bench, config: Config, more: impl FnOnce(Options) -> Options) -> (Device, Operator) {
    let device = Device::start_as(config, bench.tls(), bench.installer(), |_| Decision::Apply, more);
    device.status_when("the console is joined", |status| status.link.console_joined);
    (device, Operator { events: bench.hub.events(), seen: String::new() })
}

/// An operator's page: what the device sent to the console.
struct Operator {
    events: Events,
    seen: String,
}

impl Operator {
    fn says(bench: &Bench, event: &str, payload: &Value) {
        assert!(bench.hub.with_hub(|hub, _| hub.console(SERIAL, event, payload)), "nobody listens");
    }

    fn types(bench: &Bench, text: &str) {
        Self::says(bench, "dn", &json!({"data": text}));
    }

    /// The next message of the device on the console.
    fn next(&mut self) -> (String, Value) {
        let console =
            |event: &HubEvent| matches!(event, HubEvent::Console { .. } | HubEvent::ChannelCrashed { .. });
        match self.events.wait_for(LIMIT, console) {
            Some(HubEvent::Console { event, payload, .. }) => (event, payload),
            other => panic!("instead of console output: {other:?}; seen: {:?}", self.seen),
        }
    }

    fn until(&mut self, wanted: &str) {
        while !self.seen.contains(wanted) {
            let (event, payload) = self.next();
            if event == "up" {
                self.seen.push_str(payload["data"].as_str().unwrap());
            }
        }
    }
}

#[test]
fn an_operator_works_in_a_shell() {
    let bench = Bench::new();
    let (device, mut operator) = start(&bench);
    assert!(!device.handle.console_active());
    Operator::says(&bench, "window_size", &json!({"height": 40, "width": 120}));
    Operator::types(&bench, "stty size; echo is-$((6*7))-$TERM\r");
    operator.until("40 120\r\n");
    operator.until("is-42-");
    assert!(device.handle.console_active());
    Operator::says(&bench, "window_size", &json!({"height": 24, "width": 80}));
    Operator::types(&bench, "stty size\r");
    operator.until("24 80\r\n");
    // Not ASCII, and not even text.
    Operator::types(&bench, "echo 'grüße ☃' | tr a-z A-Z; printf 'a\\377b\\n'\r");
    operator.until("GR");
    operator.until("☃");
    operator.until("a\u{fffd}b\r\n");
    device.stop();
}

#[test]
fn a_shell_is_restarted_and_followed_by_another() {
    let bench = Bench::new();
    let (device, mut operator) = start(&bench);
    Operator::types(&bench, "X=first; echo up-$((1+1))\r");
    operator.until("up-2");
    Operator::says(&bench, "restart", &json!({}));
    operator.until("\r*** Restarting shell ***\r");
    Operator::types(&bench, "echo [$X]-$((2+2)); exit 3\r");
    operator.until("[]-4");
    operator.until("\r******* Remote shell stopped: exit code 3 *******\r");
    Operator::types(&bench, "kill -9 $$\r");
    operator.until("\r******* Remote shell stopped: killed by signal 9 *******\r");
    Operator::types(&bench, "echo again-$((1+1))\r");
    operator.until("again-2");
    device.stop();
}

#[test]
fn a_shell_that_cannot_start_is_explained() {
    let bench = Bench::new();
    let (device, mut operator) =
        start_with(&bench, config(&bench), |options| options.shell(Program::new("/bin/no-such-shell")));
    Operator::types(&bench, "\r");
    operator.until("cannot start /bin/no-such-shell");
    assert!(!device.handle.console_active());
    device.stop();
}

#[test]
fn an_endless_writer_starves_nobody_and_hears_the_keys() {
    let bench = Bench::new();
    let (device, mut operator) = start(&bench);
    // Not with Ctrl-C: whoever starts the tests may have had them ignore it, and so would all they start.
    let writer = "yes abcdefghijklmnopqrstuvwxyz & read key; kill $!; echo done-$((1+1))";
    Operator::types(&bench, &format!("{writer}\r"));
    let mut bytes = 0;
    while bytes < 2_000_000 {
        let (_, payload) = operator.next();
        bytes += payload["data"].as_str().unwrap().len();
    }
    device.answers(&bench.hub);
    Operator::types(&bench, "\r");
    // Only the end matters, and there may be much before it.
    let mut end = String::new();
    while !end.contains("done-2\r\n") {
        let (_, payload) = operator.next();
        end = end.chars().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect();
        end.push_str(payload["data"].as_str().unwrap());
    }
    assert_eq!(device.handle.status().link.counters.dropped_pushes, 0);
    device.stop();
}

#[test]
fn a_lost_connection_leaves_the_shell_running() {
    let bench = Bench::new();
    let (device, mut operator) = start(&bench);
    Operator::types(&bench, "X=kept; echo up-$((1+1))\r");
    operator.until("up-2");
    bench.hub.close_all(1001, "");
    device.until("disconnected", |event| matches!(event, Event::Disconnected { .. }));
    device.status_when("the console is joined again", |status| status.link.console_joined);
    Operator::types(&bench, "echo [$X]-$((2+2))\r");
    operator.until("[kept]-4");
    device.stop();
}

#[test]
fn stopping_the_device_ends_the_shell() {
    let bench = Bench::new();
    let (device, mut operator) = start(&bench);
    Operator::types(&bench, "echo pid-$$-$((1+1))\r");
    operator.until("-2\r\n");
    let pid = operator.seen.rsplit("pid-").next().unwrap().split('-').next().unwrap();
    let process = PathBuf::from(format!("/proc/{pid}"));
    assert!(process.exists());
    device.stop();
    gone(&process);
}

#[test]
fn a_session_nobody_uses_ends() {
    let bench = Bench::new();
    let mut config = config(&bench);
    config.console = Some(ConsoleConfig { timeout: Duration::from_millis(300), ..ConsoleConfig::default() });
    let (device, mut operator) = start_with(&bench, config, |options| options.shell(sh()));
    Operator::types(&bench, "echo up-$((1+1))\r");
    operator.until("up-2");
    operator.until("Session timeout due to inactivity");
    device.status_when("no shell", |status| !status.link.console_active);
    device.stop();
}

#[test]
fn the_local_shell_starts_when_it_is_attached_and_ends_when_it_is_detached() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.extensions.local_shell = true;
    let device =
        Device::start_as(config, bench.tls(), bench.installer(), |_| Decision::Apply, |it| it.shell(sh()));
    let says = |event: &str, payload: &Value| {
        assert!(bench.hub.with_hub(|hub, _| hub.extension(SERIAL, event, payload)), "nobody listens");
    };
    let told = |wanted: &str, text: &str| {
        bench.hub_saw(wanted, |event| {
            let HubEvent::Extension { event, payload, .. } = event else { return false };
            event == wanted && payload.to_string().contains(text)
        })
    };
    told("local_shell:request_status", "started");
    says("local_shell:window_size", &json!({"rows": 30, "cols": 100}));
    says("local_shell:shell_input", &json!({"data": "stty size; echo is-$((6*7)); exit 5\r"}));
    told("local_shell:shell_output", "30 100");
    told("local_shell:shell_output", "is-42");
    told("local_shell:shell_exited", "5");
    says("local_shell:shell_input", &json!({"data": "echo pid-$$-$((1+1))\r"}));
    let HubEvent::Extension { payload, .. } = told("local_shell:shell_output", "-2\\r\\n") else {
        unreachable!()
    };
    let output = payload["data"].as_str().unwrap();
    let pid = output.rsplit("pid-").next().unwrap().split('-').next().unwrap();
    let process = PathBuf::from(format!("/proc/{pid}"));
    assert!(process.exists(), "{output:?}");
    bench.hub.with_hub(|hub, _| hub.set_device_extension(SERIAL, "local_shell", false));
    told("local_shell:detached", "");
    gone(&process);
    device.stop();
}

#[test]
fn a_local_shell_is_killed_without_a_word_about_its_end() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.extensions.local_shell = true;
    let stubborn = sh().argument("-c").argument("trap '' HUP TERM; echo pid-$$-; while :; do sleep 1; done");
    let device = Device::start_as(
        config,
        bench.tls(),
        bench.installer(),
        |_| Decision::Apply,
        |it| it.shell(stubborn),
    );
    let output = bench.hub_saw("the shell's number", |event| {
        matches!(event, HubEvent::Extension { payload, .. } if payload.to_string().contains("-\\r\\n"))
    });
    let HubEvent::Extension { payload, .. } = output else { unreachable!() };
    let pid = payload["data"].as_str().unwrap().split('-').nth(1).unwrap().to_owned();
    let before = Instant::now();
    bench.hub.with_hub(|hub, _| hub.extension(SERIAL, "local_shell:kill_shell", &json!({"signal": 9})));
    gone(&PathBuf::from(format!("/proc/{pid}")));
    assert!(before.elapsed() < SHELL_GRACE, "the signal did not reach it");
    device.answers(&bench.hub);
    let exited = |event: &HubEvent| matches!(event, HubEvent::Extension { event, .. } if event.ends_with("shell_exited"));
    assert!(!bench.hub.log().iter().any(exited));
    device.stop();
}

/// Waits until a process is gone.
fn gone(process: &Path) {
    let end = Instant::now() + LIMIT;
    while process.exists() {
        assert!(Instant::now() < end, "the shell is still there");
        std::thread::yield_now();
    }
}

fn send(bench: &Bench, name: &str, content: &[u8]) {
    Operator::says(bench, "file-data/start", &json!({"filename": name, "uploaded_by": 1}));
    for (chunk, number) in content.chunks(1024).zip(0..) {
        let data = base64(chunk);
        Operator::says(bench, "file-data", &json!({"filename": name, "chunk": number, "data": data}));
    }
}

fn stop(bench: &Bench, name: &str) {
    Operator::says(bench, "file-data/stop", &json!({"filename": name, "uploaded_by": 1}));
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Waits for a file with that content.
fn arrives(path: &Path, content: &[u8]) {
    let end = Instant::now() + LIMIT;
    while fs::read(path).ok().as_deref() != Some(content) {
        assert!(Instant::now() < end, "{} never came", path.display());
        std::thread::yield_now();
    }
}

fn content(size: u32) -> Vec<u8> {
    (0..size).map(|byte| u8::try_from(byte % 251).unwrap()).collect()
}

#[test]
fn files_arrive_whole_and_in_their_folder_only() {
    let bench = Bench::new();
    let (device, mut operator) = start(&bench);
    for (name, size) in [("empty", 0), ("hello.bin", 2500), ("large", 1_000_000)] {
        send(&bench, name, &content(size));
        stop(&bench, name);
        arrives(&inbox(&bench).join(name), &content(size));
    }
    for name in ["../outside", "/etc/passwd", "..", "a/b"] {
        send(&bench, name, b"evil");
        stop(&bench, name);
        operator.until(&format!("{name:?} was not received: its name leads to another folder"));
    }
    assert!(!bench.path("outside").exists());
    // What can't be stored is told.
    fs::create_dir_all(inbox(&bench).join("logs/old")).unwrap();
    send(&bench, "logs", b"x");
    stop(&bench, "logs");
    operator.until("\"logs\" was not received: cannot store");
    device.stop();
}

#[test]
fn an_unfinished_file_is_gone_after_a_disconnection_and_at_the_end() {
    let bench = Bench::new();
    let (device, _) = start(&bench);
    let names = || fs::read_dir(inbox(&bench)).unwrap().count();
    send(&bench, "first", b"whole");
    stop(&bench, "first");
    arrives(&inbox(&bench).join("first"), b"whole");
    send(&bench, "half", b"half");
    let end = Instant::now() + LIMIT;
    while names() != 2 {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    bench.hub.close_all(1001, "");
    while names() != 1 {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    device.status_when("the console is joined again", |status| status.link.console_joined);
    send(&bench, "half", b"half");
    device.until("the file", |event| matches!(event, Event::File(FileEvent::Chunk { .. })));
    device.stop();
    assert_eq!(names(), 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_explained() {
    let bench = Bench::new();
    fs::write(bench.path("file"), "in the way").unwrap();
    let folder = bench.path("file/inbox");
    let (device, mut operator) = start_with(&bench, config(&bench), |options| options.data_path(folder));
    send(&bench, "a", b"x");
    operator.until("\"a\" was not received: cannot create the folder");
    device.stop();
}

#[test]
fn files_are_sent_to_the_operator() {
    let bench = Bench::new();
    let (device, mut operator) = start(&bench);
    for size in [0, 1, 2500, 300_000] {
        let path = bench.path("report.txt");
        fs::write(&path, content(size)).unwrap();
        device.handle.send_file(&path).unwrap();
        let mut received = Vec::new();
        let mut next = || loop {
            let (event, payload) = operator.next();
            if event != "up" {
                assert_eq!(payload["filename"], "report.txt");
                return (event, payload);
            }
        };
        assert_eq!(next().0, "file-data/start");
        for number in 0.. {
            let (event, payload) = next();
            if event == "file-data/stop" {
                break;
            }
            assert_eq!((event.as_str(), &payload["chunk"]), ("file-data", &json!(number)));
            received.extend(decode(payload["data"].as_str().unwrap()));
        }
        assert_eq!(received, content(size));
        device.until("the end", |event| matches!(event, Event::Upload(UploadEvent::Finished { .. })));
    }
    device.stop();
}

#[test]
fn a_file_that_became_shorter_is_given_up_and_the_next_one_sent() {
    let bench = Bench::new();
    let (device, mut operator) = start(&bench);
    let path = bench.path("growing.log");
    fs::write(&path, content(3_000_000)).unwrap();
    device.handle.send_file(&path).unwrap();
    assert_eq!(operator.next().0, "file-data/start");
    fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    let told = device.notices.recv_timeout(LIMIT).unwrap();
    assert!(told.contains("\"growing.log\" was not sent") && told.contains("cannot read"), "{told}");
    fs::write(bench.path("small"), "x").unwrap();
    let small = |device: &Device| {
        device.handle.send_file(bench.path("small")).unwrap();
        device.until("the end", |event| matches!(event, Event::Upload(UploadEvent::Finished { .. })));
    };
    small(&device);
    // One that is called back ends too.
    fs::write(&path, content(9_000_000)).unwrap();
    device.handle.send_file(&path).unwrap();
    device.until("the start", |event| matches!(event, Event::Upload(UploadEvent::Started { .. })));
    device.handle.cancel_upload().unwrap();
    small(&device);
    device.stop();
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn what_cannot_be_sent_is_refused_with_its_reason() {
    let bench = Bench::new();
    let (device, _) = start(&bench);
    let path = bench.path("big");
    fs::File::create(&path).unwrap().set_len(10_485_760).unwrap();
    assert!(matches!(device.handle.send_file(&path), Err(SendFileError::TooLarge { size: 10_485_760 })));
    let missing = device.handle.send_file(bench.path("missing")).unwrap_err();
    assert!(missing.to_string().contains("missing"), "{missing}");
    assert!(matches!(device.handle.send_file(bench.path("")), Err(SendFileError::File(_))));
    device.handle.cancel_upload().unwrap();
    device.stop();

    let device = bench.start();
    device.until_joined();
    fs::write(bench.path("small"), "x").unwrap();
    assert!(matches!(device.handle.send_file(bench.path("small")), Err(SendFileError::NotJoined)));
    device.stop();
}

/// An application with a shell and files of its own.
struct Own {
    told: Sender<String>,
    commands: Sender<Command>,
}

impl Client for Own {
    fn shell_wanted(
        &mut self,
        shell: ShellId,
        kind: ShellKind,
        _: WindowSize,
        _: usize,
    ) -> Result<(), String> {
        assert_eq!(kind, ShellKind::Console);
        let data = b"welcome> ".as_slice().into();
        let _ = self.commands.send(Command::Shell(ShellCommand::Output { shell, data }));
        Ok(())
    }

    fn shell_input(&mut self, shell: ShellId, data: &str) {
        let data = data.to_uppercase().into_bytes().into();
        let _ = self.commands.send(Command::Shell(ShellCommand::Output { shell, data }));
    }

    fn file_started(&mut self, _: FileId, name: &str) -> Result<(), String> {
        let _ = self.told.send(format!("start {name}"));
        if name == "refused" { Err("not today".to_owned()) } else { Ok(()) }
    }

    fn file_chunk(&mut self, _: FileId, data: &[u8]) -> Result<(), String> {
        let _ = self.told.send(String::from_utf8_lossy(data).into_owned());
        Ok(())
    }

    fn file_finished(&mut self, _: FileId) -> Result<(), String> {
        let _ = self.told.send("end".to_owned());
        Ok(())
    }
}

#[test]
fn an_application_brings_its_own_shell_and_stores_files_itself() {
    let bench = Bench::new();
    let (told, heard): (_, Receiver<String>) = channel();
    let (commands, orders) = channel();
    let options = Options::new(bench.tls(), bench.installer(), Own { told, commands }).seed(1);
    let handle = UnderTest::start(config(&bench), options).unwrap();
    let forward = handle.clone();
    std::thread::spawn(move || orders.into_iter().for_each(|order| forward.command(order).unwrap()));
    assert!(handle.wait_until(LIMIT, |status| status.link.console_joined).1);
    let mut operator = Operator { events: bench.hub.events(), seen: String::new() };
    Operator::types(&bench, "abc");
    operator.until("welcome> ABC");
    send(&bench, "a", b"content");
    stop(&bench, "a");
    for expected in ["start a", "content", "end"] {
        assert_eq!(heard.recv_timeout(LIMIT).unwrap(), expected);
    }
    send(&bench, "refused", b"content");
    operator.until("\"refused\" was not received: not today");
    handle.stop();
}

#[test]
fn without_a_shell_and_a_folder_operators_are_told() {
    let bench = Bench::new();
    let (device, mut operator) = start_with(&bench, config(&bench), |options| options);
    send(&bench, "a", b"x");
    operator.until("this device has no shell for operators");
    operator.until("\"a\" was not received: this device takes no files");
    device.stop();
}
