//! The console's shell: opened by need, ended by time, its output bounded and in UTF-8 whatever it writes.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const RESTART: &str = "\r*** Restarting shell ***\r";
const ANY_KEY: &str = "\r\n*** Press any key to start another one ***\r\n";
const INACTIVE: &str = "\r\n****************************************\r\n*   Session timeout due to inactivity  *\r\n*                                      *\r\n*   Press any key to continue...       *\r\n****************************************\r\n";

fn allowed() -> Config {
    let mut config = config();
    config.console = Some(ConsoleConfig::default());
    config
}

fn console() -> Device {
    Device::with_console(allowed())
}

/// A console with a shell that has run for a while.
fn running() -> (Device, ShellId) {
    let mut device = console();
    device.console("dn", json!({"data": "\r"}));
    device.pass(SHELL_RESTART_MIN);
    let shell = device.shell();
    device.out.clear();
    (device, shell)
}

fn exited(shell: ShellId, code: i32) -> Command {
    Command::Shell(ShellCommand::Ended { shell, end: ShellEnd::Exited(code) })
}

#[test]
fn the_console_is_off_unless_allowed() {
    assert_eq!(config().console, None);
    let mut device = Device::joined(config());
    assert_eq!(device.pass(Duration::from_secs(5)), []);
    let told = events(&device.console("dn", json!({"data": "ls\r"})));
    assert_eq!(told, [Event::Unknown { topic: "console".into(), event: "dn".into() }]);
    assert!(!device.link.status().console_joined);
    let send = Command::Upload(UploadCommand::Send { name: "a".into(), size: 1 });
    assert_eq!(device.link.command(device.now, send), Err(CommandError::ConsoleNotJoined));
}

#[test]
fn it_is_joined_after_the_device_and_says_its_versions_only() {
    let mut device = Device::new(allowed());
    device.connect();
    assert_eq!(sent(&device.out).len(), 1);
    device.join();
    let join = device.last_sent("phx_join");
    let params = json!({"console_version": "2.0.0", "device_api_version": "2.4.0"});
    assert_eq!(join, json!(["2", "2", "console", "phx_join", params]));
    assert!(!device.link.status().console_joined);
    assert_eq!(events(&device.join_console()), [Event::ConsoleJoined]);
    let status = device.link.status();
    assert!(status.console_joined && !status.console_active);
}

#[test]
fn messages_of_any_kind_open_a_shell_and_what_they_say_comes_after() {
    let typed = |text: &str| Secret::new(text);
    let size = WindowSize { rows: 40, cols: 120 };
    for (event, payload, then) in [
        ("dn", json!({"data": "l"}), Some(typed("l"))),
        ("dn", json!({"data": 7}), None),
        ("file-data/start", json!({"filename": "a"}), None),
        ("something-new", json!({}), None),
    ] {
        let mut device = console();
        let told = events(&device.console(event, payload));
        let shell = device.shell();
        let room = MAX_SHELL_BUFFER;
        let wanted = Event::Shell(ShellEvent::Wanted {
            shell,
            kind: ShellKind::Console,
            size: WindowSize::default(),
            room,
        });
        assert_eq!(told[0], wanted, "{event}");
        if let Some(data) = then {
            assert_eq!(told[1], Event::Shell(ShellEvent::Input { shell, data }));
        }
        assert!(device.link.status().console_active);
    }
    let mut device = console();
    device.console("window_size", json!({"height": 40, "width": 120}));
    let shell = device.shell();
    assert!(device.events().contains(&Event::Shell(ShellEvent::Resized { shell, size })));
    // One is enough for all.
    let told = events(&device.console("dn", json!({"data": "s"})));
    assert_eq!(told, [Event::Shell(ShellEvent::Input { shell, data: typed("s") })]);
    // The next one begins with the size.
    device.command(exited(shell, 0));
    device.console("dn", json!({"data": "s"}));
    assert!(
        device
            .events()
            .iter()
            .any(|event| matches!(event, Event::Shell(ShellEvent::Wanted { size: s, .. }) if *s == size))
    );
}

#[test]
fn what_makes_no_sense_is_told_and_changes_nothing() {
    let (mut device, _) = running();
    let bad = [
        ("dn", json!({})),
        ("dn", json!({"data": ["ls"]})),
        ("dn", json!("ls")),
        ("dn", json!(null)),
        ("window_size", json!({"height": 24})),
        ("window_size", json!({"height": 24, "width": 0})),
        ("window_size", json!({"height": 65_536, "width": 80})),
        ("window_size", json!({"height": "24", "width": 80.5})),
        ("file-data/start", json!({"filename": 7})),
        ("file-data", json!({"data": "AAAA"})),
        ("file-data/stop", json!([])),
    ];
    for (event, payload) in bad.clone() {
        let told = events(&device.console(event, payload.clone()));
        assert!(matches!(told[..], [Event::Malformed { .. }]), "{event} {payload}: {told:?}");
    }
    assert_eq!(device.link.status().counters.malformed_messages, u64::try_from(bad.len()).unwrap());
    let told = events(&device.console("paste-buffer", json!({"x": 1})));
    assert_eq!(told, [Event::Unknown { topic: "console".into(), event: "paste-buffer".into() }]);
    assert!(device.sent().is_empty());
    for size in [json!({"height": 1, "width": 65_535}), json!({"height": 65_535, "width": 1})] {
        let told = events(&device.console("window_size", size));
        assert!(matches!(told[..], [Event::Shell(ShellEvent::Resized { .. })]), "{told:?}");
    }
}

#[test]
fn a_restart_stops_the_shell_says_so_and_opens_another() {
    let (mut device, first) = running();
    device.output(first, b"last words").unwrap();
    let out = device.console("restart", json!({}));
    let second = device.shell();
    assert_ne!(first, second);
    let told = events(&out);
    assert_eq!(told[0], Event::Shell(ShellEvent::Stopped { shell: first, why: ShellStop::Restart }));
    assert!(matches!(told[1], Event::Shell(ShellEvent::Wanted { .. })));
    assert_eq!(device.output(first, b"late"), Err(CommandError::UnknownShell(first)));
    let late = exited(first, 0);
    assert_eq!(device.link.command(device.now, late), Err(CommandError::UnknownShell(first)));
    device.pass(SHELL_OUTPUT_PAUSE);
    assert_eq!(shown(&device.out).concat(), format!("last words{RESTART}"));
    // Without a shell there is nothing to stop, and the rest is the same.
    let mut device = console();
    let out = device.console("restart", json!({}));
    assert_eq!(shown(&out), [RESTART]);
    assert!(matches!(events(&out)[..], [Event::Shell(ShellEvent::Wanted { .. })]));
}

#[test]
fn a_shell_that_ends_is_followed_by_another() {
    for (end, words) in [
        (ShellEnd::Exited(0), "exit code 0"),
        (ShellEnd::Exited(-1), "exit code -1"),
        (ShellEnd::Signalled(9), "killed by signal 9"),
    ] {
        let (mut device, shell) = running();
        let out = device.command(Command::Shell(ShellCommand::Ended { shell, end }));
        assert_eq!(shown(&out), [format!("\r******* Remote shell stopped: {words} *******\r")]);
        assert!(matches!(events(&out)[..], [Event::Shell(ShellEvent::Wanted { .. })]), "{:?}", events(&out));
        assert!(device.link.status().console_active);
    }
}

#[test]
fn a_shell_that_ends_at_once_or_never_ran_waits_for_a_key() {
    let early = |device: &mut Device| {
        device.console("dn", json!({"data": "\r"}));
        device.shell()
    };
    let mut device = console();
    let shell = early(&mut device);
    device.pass(SHELL_RESTART_MIN.checked_sub(Duration::from_micros(1)).unwrap());
    let out = device.command(exited(shell, 1));
    assert_eq!(
        shown(&out).concat(),
        format!("\r******* Remote shell stopped: exit code 1 *******\r{ANY_KEY}")
    );
    assert_eq!(events(&out), []);
    assert!(!device.link.status().console_active);
    assert_ne!(early(&mut device), shell);

    let (mut device, shell) = running();
    let end = ShellEnd::Failed("there is no /bin/zsh".into());
    let out = device.command(Command::Shell(ShellCommand::Ended { shell, end }));
    let words = "\r******* Remote shell stopped: there is no /bin/zsh *******\r";
    assert_eq!(shown(&out).concat(), format!("{words}{ANY_KEY}"));
    assert!(!device.link.status().console_active);
}

/// Something that shows that the console is used.
type Use = fn(&mut Device, ShellId);

#[test]
fn a_shell_nobody_uses_is_stopped_and_the_next_key_opens_another() {
    assert_eq!(ConsoleConfig::default().timeout, Duration::from_secs(300));
    let timeout = Duration::from_secs(300);
    let blink = Duration::from_micros(1);
    let uses: [(&str, Use); 5] = [
        ("opening", |_, _| {}),
        ("typing", |device, _| drop(device.console("dn", json!({"data": "l"})))),
        ("resizing", |device, _| drop(device.console("window_size", json!({"height": 9, "width": 9})))),
        ("output", |device, shell| drop(device.output(shell, b"."))),
        ("a file", |device, _| drop(device.console("file-data/stop", json!({"filename": "a"})))),
    ];
    for (what, using) in uses {
        let mut config = allowed();
        config.heartbeat = Duration::ZERO;
        let mut device = Device::with_console(config);
        device.console("dn", json!({"data": "\r"}));
        if what != "opening" {
            device.pass(Duration::from_secs(200));
        }
        let shell = device.shell();
        using(&mut device, shell);
        device.pass(timeout.checked_sub(blink).unwrap());
        assert!(device.link.status().console_active, "{what}");
        assert_eq!(device.link.deadline().unwrap().why, Timer::ConsoleIdle, "{what}");
        let out = device.pass(blink);
        assert_eq!(shown(&out), [INACTIVE], "{what}");
        assert_eq!(
            events(&out),
            [Event::Shell(ShellEvent::Stopped { shell, why: ShellStop::Inactive })],
            "{what}"
        );
        assert!(!device.link.status().console_active, "{what}");
        device.console("dn", json!({"data": "\r"}));
        assert_ne!(device.shell(), shell, "{what}");
    }
}

#[test]
fn a_timeout_of_zero_never_comes() {
    let mut config = allowed();
    config.console = Some(ConsoleConfig { timeout: Duration::ZERO, ..ConsoleConfig::default() });
    config.heartbeat = Duration::ZERO;
    let mut device = Device::with_console(config);
    device.console("dn", json!({"data": "\r"}));
    assert_eq!(events(&device.pass(Duration::from_secs(100_000))), []);
    assert!(device.link.status().console_active);
    assert_eq!(device.link.deadline(), None);
}

#[test]
fn output_goes_out_at_once_and_then_gathers() {
    let (mut device, shell) = running();
    assert_eq!(shown(&device.output(shell, b"a").unwrap()), ["a"]);
    // What follows at once waits for its company.
    assert_eq!(shown(&device.output(shell, b"b").unwrap()), [""; 0]);
    assert_eq!(shown(&device.output(shell, b"c").unwrap()), [""; 0]);
    let deadline = device.link.deadline().unwrap();
    assert_eq!((deadline.why, deadline.at), (Timer::ShellOutput, device.now.mono + SHELL_OUTPUT_PAUSE));
    assert_eq!(shown(&device.pass(SHELL_OUTPUT_PAUSE)), ["bc"]);
    // Nothing is sent for nothing.
    assert_eq!(device.output(shell, b"").unwrap(), []);
    assert_eq!(device.pass(Duration::from_secs(1)), []);
}

#[test]
fn full_messages_do_not_wait_and_none_is_longer() {
    let (mut device, shell) = running();
    let text = "é".repeat(MAX_SHELL_BUFFER / 2);
    let out = device.output(shell, text.as_bytes()).unwrap();
    let full = shown(&out);
    assert_eq!(full.iter().map(String::len).collect::<Vec<_>>(), [MAX_SHELL_MESSAGE_BYTES; 2]);
    assert_eq!(full.concat(), text);
    // Cut between characters, though that is one byte earlier.
    device.pass(SHELL_OUTPUT_PAUSE);
    let text = format!("x{}", "é".repeat(MAX_SHELL_MESSAGE_BYTES / 2));
    let lengths: Vec<usize> =
        shown(&device.output(shell, text.as_bytes()).unwrap()).iter().map(String::len).collect();
    assert_eq!(lengths, [MAX_SHELL_MESSAGE_BYTES - 1]);
}

#[test]
fn a_shell_faster_than_the_network_is_stopped_by_credit() {
    let (mut device, shell) = running();
    device.sends = false;
    let (mut room, mut taken) = (MAX_SHELL_BUFFER, 0);
    let yes = b"y\n".repeat(512);
    loop {
        let piece = &yes[..room.min(yes.len())];
        if piece.is_empty() {
            break;
        }
        let out = device.output(shell, piece).unwrap();
        (taken, room) = (taken + piece.len(), room - piece.len());
        room += ready(&out);
        assert!(taken < 10 * MAX_SHELL_BUFFER, "it never ends");
    }
    // What is with the adapter, what waits for it, and the buffer.
    let most = MAX_SHELL_BUFFER + (usize::try_from(BULK_CREDIT).unwrap() + 1) * MAX_SHELL_MESSAGE_BYTES;
    assert!((MAX_SHELL_BUFFER..=most).contains(&taken), "{taken}");
    assert_eq!(device.output(shell, b"!"), Err(CommandError::NoRoom { room: 0 }));
    assert_eq!(sent(&device.out).len(), usize::try_from(BULK_CREDIT).unwrap());

    // What matters is not behind it.
    let types = device.command(Command::ConnectionTypes { types: vec!["wifi".into()] });
    assert_eq!(sent(&types)[0][3], "connection_types");

    // The network takes everything: nothing was lost, and the shell may go on.
    device.sends = true;
    let socket = device.socket();
    device.input(Input::SocketSent { socket, frames: 3 });
    device.pass(Duration::from_secs(1));
    assert_eq!(shown(&device.out).concat().len(), taken);
    assert!(ready(&device.out) >= MAX_SHELL_BUFFER - MAX_SHELL_BUFFER / 4);
}

/// The credit an adapter got.
fn ready(out: &[Output]) -> usize {
    let credit = |event: &Event| match event {
        Event::Shell(ShellEvent::Ready { bytes, .. }) => *bytes,
        _ => 0,
    };
    events(out).iter().map(credit).sum()
}

#[test]
fn credit_is_exact_and_comes_back_however_small_the_pieces() {
    let (mut device, shell) = running();
    assert!(device.output(shell, &vec![b'.'; MAX_SHELL_BUFFER + 1]).is_err());
    let mut room = MAX_SHELL_BUFFER;
    for _ in 0..3 * MAX_SHELL_BUFFER {
        room += ready(&device.output(shell, b".").unwrap());
        room -= 1;
        assert!(room > 0);
    }
    room += ready(&device.pass(Duration::from_secs(1)));
    assert!(room <= MAX_SHELL_BUFFER, "{room}");
    assert!(device.output(shell, &vec![b'.'; room]).is_ok());
}

#[test]
fn invalid_bytes_take_no_more_memory_than_said() {
    let (mut device, shell) = running();
    device.sends = false;
    device.output(shell, &vec![0xff; MAX_SHELL_BUFFER]).unwrap();
    device.sends = true;
    let socket = device.socket();
    device.input(Input::SocketSent { socket, frames: BULK_CREDIT });
    device.pass(Duration::from_secs(1));
    let text = shown(&device.out).concat();
    assert_eq!(text, "\u{fffd}".repeat(MAX_SHELL_BUFFER));
    assert!(ready(&device.out) > MAX_SHELL_BUFFER / 2);
}

#[test]
fn notices_are_bounded_while_the_network_takes_none() {
    let (mut device, _) = running();
    device.sends = false;
    for _ in 0..2 * 3 * MAX_SHELL_BUFFER / RESTART.len() {
        device.console("restart", json!({}));
    }
    device.out.clear();
    device.sends = true;
    let socket = device.socket();
    device.input(Input::SocketSent { socket, frames: BULK_CREDIT });
    device.pass(Duration::from_secs(10));
    let length = shown(&device.out).concat().len();
    // What waits, and the message that was handed over before.
    let most = 3 * MAX_SHELL_BUFFER + MAX_SHELL_MESSAGE_BYTES + RESTART.len();
    assert!((3 * MAX_SHELL_BUFFER..=most).contains(&length), "{length}");
}

#[test]
fn a_lost_connection_keeps_the_shell_and_what_it_wrote() {
    let (mut device, shell) = running();
    device.down(None);
    assert!(!device.link.status().console_joined);
    device.output(shell, b"still here").unwrap();
    assert_eq!(shown(&device.out), [""; 0]);
    device.come_back_after(2);
    assert_eq!(shown(&device.join_console()), ["still here"]);
    assert!(device.link.status().console_active);
    // Ended while nobody could see it: no other one until somebody is there.
    device.down(None);
    device.out.clear();
    device.command(exited(shell, 0));
    assert!(!device.events().iter().any(|event| matches!(event, Event::Shell(ShellEvent::Wanted { .. }))));
    assert!(!device.link.status().console_active);
}

#[test]
fn a_crashed_or_closed_channel_is_joined_again() {
    for (event, payload) in [("phx_error", json!({"reason": "channel_crash"})), ("phx_close", json!({}))] {
        let (mut device, shell) = running();
        let out = device.server(&json!(["2", "2", "console", event, payload]));
        assert!(matches!(events(&out)[..], [Event::ConsoleLost { .. }]), "{:?}", events(&out));
        assert_eq!(device.link.status().connection, ConnectionState::Joined);
        device.output(shell, b"kept").unwrap();
        device.pass(Duration::from_secs(5));
        assert_eq!(shown(&device.join_console()), ["kept"]);
        // Messages to the earlier join are dropped.
        let before = device.link.status().counters.stale_messages;
        device.server(&json!(["2", null, "console", "dn", {"data": "x"}]));
        assert_eq!(device.link.status().counters.stale_messages, before + 1);
    }
}

#[test]
fn a_refused_join_is_told_and_tried_again() {
    let mut device = Device::new(allowed());
    device.connect();
    device.join();
    let join = device.last_sent("phx_join");
    let refusal = json!({"status": "error", "response": {"reason": "join crashed"}});
    let out = device.server(&json!([join[0], join[1], "console", "phx_reply", refusal]));
    assert_eq!(
        events(&out),
        [Event::ConsoleLost { reason: "join crashed".into(), retry_in: Duration::from_secs(5) }]
    );
    device.pass(Duration::from_secs(5));
    device.join_console();
    assert!(device.link.status().console_joined);
}

#[test]
fn a_device_channel_that_comes_back_leaves_the_console_alone() {
    let mut device = console();
    device.server(&json!(["1", "1", "device", "phx_error", {}]));
    device.pass(Duration::from_secs(5));
    let out = device.join();
    assert!(sent(&out).iter().all(|message| message[2] == "device"), "{:?}", sent(&out));
    assert!(device.link.status().console_joined);
}

#[test]
fn the_same_in_messagepack() {
    let mut config = allowed();
    config.serializer = Serializer::MsgPack;
    let mut device = Device::with_console(config);
    device.console("dn", json!({"data": "größer\r"}));
    let shell = device.shell();
    assert!(
        device.events().contains(&Event::Shell(ShellEvent::Input { shell, data: Secret::new("größer\r") }))
    );
    assert_eq!(shown(&device.output(shell, "größer\r\n".as_bytes()).unwrap()), ["größer\r\n"]);
}

#[test]
fn what_is_typed_and_written_never_shows() {
    let (mut device, shell) = running();
    let out = device.console("dn", json!({"data": "hunter2\r"}));
    assert!(!format!("{out:?}").contains("hunter2"));
    let output = Command::Shell(ShellCommand::Output { shell, data: b"hunter2".as_slice().into() });
    assert_eq!(format!("{output:?}"), format!("Shell(Output {{ shell: {shell:?}, data: Chunk(7 bytes) }})"));
}

#[test]
fn an_application_without_a_shell_says_so() {
    struct Plain;
    impl Client for Plain {}
    let mut device = console();
    let told = events(&device.console("dn", json!({"data": "\r"})));
    let answer =
        nerves_hub_link_protocol::client::deliver(&mut Plain, device.link.running(), &told[0]).unwrap();
    let out = device.command(answer);
    assert!(shown(&out).concat().contains("this device has no shell for operators"), "{:?}", shown(&out));
    assert!(!device.link.status().console_active);
}

#[test]
fn the_payload_is_what_the_server_takes() {
    // A push without a text in data crashes the server's channel (device-protocol §4).
    let (mut device, shell) = running();
    let out = device.output(shell, b"\x1b[2J\x00\xc3").unwrap();
    let message = sent(&out).pop().unwrap();
    assert_eq!(message, json!(["2", message[1], "console", "up", {"data": "\u{1b}[2J\u{0}"}]));
    let Value::Object(fields) = &message[4] else { panic!() };
    assert_eq!(fields.len(), 1);
}
