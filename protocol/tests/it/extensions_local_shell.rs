//! The local shell (device-protocol §5.4): opened by being attached, told how it runs, ended by being detached.

use std::time::Duration;

use crate::common::recordings::{from_server, recordings};
use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

fn allowed() -> Config {
    let mut config = config();
    config.extensions = no_extensions();
    config.extensions.local_shell = true;
    config
}

/// A device whose server attached the extension and asked for a shell.
fn asked(config: Config) -> (Device, ShellId) {
    let mut device = Device::attached(config, json!(["local_shell"]));
    device.out.clear_but_joins();
    let told = events(&device.extension("local_shell:request_shell", json!({})));
    match told[..] {
        [Event::Shell(ShellEvent::Wanted { shell, kind: ShellKind::Local, .. })] => (device, shell),
        ref other => panic!("{other:?}"),
    }
}

/// Keeps the outputs that later messages refer to.
trait ClearButJoins {
    fn clear_but_joins(&mut self);
}

impl ClearButJoins for Vec<Output> {
    fn clear_but_joins(&mut self) {
        self.retain(|output| {
            sent(std::slice::from_ref(output)).iter().any(|message| message[3] == "phx_join")
        });
    }
}

/// What was said about the extension.
fn said(out: &[Output]) -> Vec<(String, Value)> {
    extension_messages(out).into_iter().filter(|(event, _)| event.starts_with("local_shell:")).collect()
}

/// One whose shell runs.
fn running(config: Config) -> (Device, ShellId) {
    let (mut device, shell) = asked(config);
    device.command(ShellCommand::Started { shell }.into());
    device.pass(Duration::from_secs(1));
    device.out.clear_but_joins();
    (device, shell)
}

fn status(status: &str) -> (String, Value) {
    ("local_shell:request_status".to_owned(), json!({"status": status}))
}

fn output(data: &str) -> (String, Value) {
    ("local_shell:shell_output".to_owned(), json!({"data": data}))
}

fn exited(code: i32) -> (String, Value) {
    ("local_shell:shell_exited".to_owned(), json!({"exit_code": code}))
}

#[test]
fn it_is_offered_only_if_allowed() {
    assert!(!ExtensionsConfig::default().local_shell);
    let offered = Device::joined(config()).invite(json!({}));
    assert_eq!(offered.get("local_shell"), None);
    assert_eq!(Device::joined(allowed()).invite(json!({})), json!({"local_shell": "0.0.1"}));
}

#[test]
fn the_server_is_told_whether_it_runs() {
    for config in in_both(allowed()) {
        let (mut device, shell) = asked(config.clone());
        let out = device.command(ShellCommand::Started { shell }.into());
        assert_eq!(said(&out), [status("started")]);
        // Once, and not again with what it writes.
        assert_eq!(device.command(ShellCommand::Started { shell }.into()), []);
        assert_eq!(extension_messages(&device.output(shell, b"# ").unwrap()), [output("# ")]);
        // A second request while it runs changes nothing.
        assert_eq!(device.extension("local_shell:request_shell", json!({})), []);

        // What writes runs.
        let (mut device, shell) = asked(config.clone());
        let out = device.output(shell, b"# ").unwrap();
        assert_eq!(said(&out), [status("started"), output("# ")]);

        let (mut device, shell) = asked(config);
        let end = ShellEnd::Failed("there is no /bin/zsh".into());
        let out = device.command(ShellCommand::Ended { shell, end }.into());
        let failed = json!({"status": "failed", "reason": "there is no /bin/zsh"});
        assert_eq!(said(&out), [("local_shell:request_status".to_owned(), failed)]);
    }
}

#[test]
fn input_size_and_signals_reach_it() {
    for config in in_both(allowed()) {
        let (mut device, shell) = running(config);
        let mut say = |event: &str, payload| events(&device.extension(event, payload));
        let data = Secret::new("grüße\n");
        let told = say("local_shell:shell_input", json!({"data": "grüße\n"}));
        assert_eq!(told, [Event::Shell(ShellEvent::Input { shell, data })]);
        let size = WindowSize { rows: 30, cols: 100 };
        let told = say("local_shell:window_size", json!({"rows": 30, "cols": 100}));
        assert_eq!(told, [Event::Shell(ShellEvent::Resized { shell, size })]);
        let told = say("local_shell:kill_shell", json!({"signal": 9}));
        let why = ShellStop::Killed { signal: 9 };
        assert_eq!(told, [Event::Shell(ShellEvent::Stopped { shell, why })]);
        // It is gone: nothing to kill, and nothing it says counts.
        assert_eq!(say("local_shell:kill_shell", json!({})), []);
        assert_eq!(device.output(shell, b"late"), Err(CommandError::UnknownShell(shell)));
    }
    let (mut device, shell) = running(allowed());
    let told = events(&device.extension("local_shell:kill_shell", json!({"signal": null})));
    let why = ShellStop::Killed { signal: 15 };
    assert_eq!(told, [Event::Shell(ShellEvent::Stopped { shell, why })]);
}

#[test]
fn what_makes_no_sense_is_told_and_changes_nothing() {
    for config in in_both(allowed()) {
        let (mut device, shell) = running(config);
        let bad = [
            ("local_shell:shell_input", json!({})),
            ("local_shell:shell_input", json!({"data": 7})),
            ("local_shell:window_size", json!({"rows": 0, "cols": 80})),
            ("local_shell:window_size", json!({"height": 24, "width": 80})),
            ("local_shell:window_size", json!({"rows": 24, "cols": 65_536})),
            ("local_shell:kill_shell", json!({"signal": 0})),
            ("local_shell:kill_shell", json!({"signal": 65})),
            ("local_shell:kill_shell", json!({"signal": -9})),
            ("local_shell:kill_shell", json!({"signal": "TERM"})),
        ];
        for (event, payload) in bad {
            let told = events(&device.extension(event, payload.clone()));
            assert!(matches!(told[..], [Event::Malformed { .. }]), "{event} {payload}: {told:?}");
        }
        let told = events(&device.extension("local_shell:sing", json!({})));
        assert!(matches!(told[..], [Event::Unknown { .. }]), "{told:?}");
        assert!(device.output(shell, b"still here").is_ok());
    }
}

#[test]
fn its_end_is_told_after_its_last_words_and_input_starts_another() {
    for (end, code) in [
        (ShellEnd::Exited(3), 3),
        (ShellEnd::Signalled(9), 137),
        (ShellEnd::Failed("the terminal broke".into()), 127),
    ] {
        let (mut device, first) = running(allowed());
        device.output(first, b"a").unwrap();
        device.output(first, b"last words \xe2\x82").unwrap();
        device.command(ShellCommand::Ended { shell: first, end }.into());
        device.extension("local_shell:shell_input", json!({"data": "ls\n"}));
        let second = device.shell();
        assert_ne!(first, second);
        assert!(
            device.events().iter().any(
                |event| matches!(event, Event::Shell(ShellEvent::Input { shell, .. }) if *shell == second)
            )
        );
        device.output(second, b"# ").unwrap();
        device.pass(Duration::from_secs(1));
        assert_eq!(
            said(&device.out),
            [output("a"), output("last words \u{fffd}"), exited(code), status("started"), output("# ")]
        );
    }
}

#[test]
fn a_detached_shell_is_stopped_and_what_it_wrote_is_dropped() {
    for config in in_both(allowed()) {
        let (mut device, shell) = running(config);
        device.sends = false;
        for _ in 0..4 {
            device.output(shell, &vec![b'.'; MAX_SHELL_BUFFER / 8]).unwrap();
        }
        device.out.clear_but_joins();
        device.sends = true;
        let out = device.extension("detach", json!({"extensions": ["local_shell"]}));
        let stopped = Event::Shell(ShellEvent::Stopped { shell, why: ShellStop::Detached });
        assert!(events(&out).contains(&stopped), "{:?}", events(&out));
        let socket = device.socket();
        device.input(Input::SocketSent { socket, frames: BULK_CREDIT });
        device.pass(Duration::from_secs(1));
        let messages = said(&device.out);
        assert_eq!(messages, [("local_shell:detached".to_owned(), json!({}))]);
        // Attached again it begins anew.
        device.extension("attach", json!({"extensions": ["local_shell"]}));
        device.extension("local_shell:request_shell", json!({}));
        assert_ne!(device.shell(), shell);
    }
}

#[test]
fn a_lost_connection_keeps_the_shell_and_what_it_wrote() {
    let (mut device, shell) = running(allowed());
    device.down(None);
    device.output(shell, b"still here").unwrap();
    device.come_back_after(2);
    device.invite(json!({}));
    let out = device.accept(json!(["local_shell"]));
    assert!(said(&out).contains(&output("still here")), "{:?}", said(&out));
    assert_eq!(device.extension("local_shell:request_shell", json!({})), []);
    // Not wanted any more, once the server says so.
    device.down(None);
    device.come_back_after(4);
    device.invite(json!({}));
    let out = device.accept(json!([]));
    let stopped = Event::Shell(ShellEvent::Stopped { shell, why: ShellStop::Detached });
    assert!(events(&out).contains(&stopped), "{:?}", events(&out));
}

#[test]
fn what_it_wrote_waits_without_a_timer_while_the_server_has_not_attached_it_again() {
    for config in in_both(allowed()) {
        let (mut device, shell) = running(config);
        device.down(None);
        device.output(shell, b"still here").unwrap();
        device.come_back_after(2);
        device.invite(json!({}));
        // The channel is joined, and nothing is known of the extension.
        device.accept(json!("no list"));
        device.pass(Duration::from_secs(1));
        let deadline = device.link.deadline().unwrap();
        assert!(deadline.at > device.now.mono, "{deadline:?}");
        device.out.clear_but_joins();
        let out = device.extension("attach", json!({"extensions": ["local_shell"]}));
        assert!(said(&out).contains(&output("still here")), "{:?}", said(&out));
    }
}

#[test]
fn console_and_local_shell_live_side_by_side() {
    let mut config = allowed();
    config.console = Some(ConsoleConfig::default());
    let mut device = Device::with_console(config);
    device.invite(json!({}));
    device.accept(json!(["local_shell"]));
    device.console("dn", json!({"data": "a"}));
    let console = device.shell();
    device.extension("local_shell:request_shell", json!({}));
    let local = device.shell();
    assert_ne!(console, local);
    device.output(console, b"console").unwrap();
    device.output(local, b"local").unwrap();
    assert_eq!(shown(&device.out), ["console"]);
    assert!(said(&device.out).contains(&output("local")));
    // Both writers get their turn, whoever writes more.
    device.sends = false;
    for _ in 0..8 {
        device.output(console, &[b'c'; 2000]).unwrap();
        device.output(local, &[b'l'; 2000]).unwrap();
    }
    device.out.clear_but_joins();
    device.sends = true;
    let socket = device.socket();
    device.input(Input::SocketSent { socket, frames: BULK_CREDIT });
    device.pass(Duration::from_secs(1));
    let written = |event: &str| -> usize {
        let of = device.sent().into_iter().filter(|message| message[3] == event);
        of.map(|message| message[4]["data"].as_str().unwrap().len()).sum()
    };
    assert!(written("up") >= 12_000 && written("local_shell:shell_output") >= 12_000);
}

#[test]
fn words_about_shells_are_bounded_while_the_network_takes_none() {
    let (mut device, mut shell) = running(allowed());
    device.sends = false;
    for _ in 0..50 {
        device.output(shell, b"x").unwrap();
        device.command(ShellCommand::Ended { shell, end: ShellEnd::Exited(0) }.into());
        device.extension("local_shell:shell_input", json!({"data": "x"}));
        shell = device.shell();
    }
    device.sends = true;
    let socket = device.socket();
    device.input(Input::SocketSent { socket, frames: BULK_CREDIT });
    device.pass(Duration::from_secs(10));
    let words =
        said(&device.out).into_iter().filter(|(event, _)| event != "local_shell:shell_output").count();
    // Those that wait in the end, and those handed over before.
    assert!((MAX_SHELL_NOTES..=MAX_SHELL_NOTES + 4).contains(&words), "{words}");
}

#[test]
fn commands_about_shells_that_are_not_there_are_refused() {
    let shell = ShellId(4711);
    for config in [config(), allowed()] {
        let mut device = Device::joined(config);
        let orders = [
            ShellCommand::Started { shell },
            ShellCommand::Output { shell, data: Chunk::default() },
            ShellCommand::Ended { shell, end: ShellEnd::Exited(0) },
        ];
        for order in orders {
            assert_eq!(device.refusal(order), CommandError::UnknownShell(shell));
        }
    }
}

#[test]
fn the_recorded_session_is_the_same_from_our_machine() {
    let Some(recordings) = recordings() else { return };
    let Some(lines) = recordings.get("local_shell") else {
        println!("SKIPPED: no recording of the local shell");
        return;
    };
    // The second connection, after the recorded client fell over.
    let last = lines.last().unwrap()["conn"].clone();
    let lines: Vec<Value> = lines.iter().filter(|line| line["conn"] == last).cloned().collect();
    let is_ours = |event: &str| event.starts_with("local_shell:") && !event.ends_with("attached");
    let mut device = Device::attached(allowed(), json!(["local_shell"]));
    device.out.clear_but_joins();
    for line in &lines {
        let event = line["event"].as_str().unwrap_or_default();
        if !is_ours(event) {
            continue;
        }
        if line["dir"] == "server_to_client" {
            device.extension(event, line["payload"].clone());
            continue;
        }
        // What the recorded shell did, ours does.
        let shell = device.shell();
        let payload = &line["payload"];
        match event {
            "local_shell:request_status" => device.command(ShellCommand::Started { shell }.into()),
            "local_shell:shell_output" => {
                device.output(shell, payload["data"].as_str().unwrap().as_bytes()).unwrap()
            }
            _ => {
                let end = ShellEnd::Exited(i32::try_from(payload["exit_code"].as_i64().unwrap()).unwrap());
                device.command(ShellCommand::Ended { shell, end }.into())
            }
        };
        device.pass(SHELL_OUTPUT_PAUSE);
    }
    let recorded: Vec<(String, Value)> = lines
        .iter()
        .filter(|line| {
            line["dir"] == "client_to_server" && is_ours(line["event"].as_str().unwrap_or_default())
        })
        .map(|line| (line["event"].as_str().unwrap().to_owned(), line["payload"].clone()))
        .collect();
    assert!(recorded.len() > 15);
    assert_eq!(said(&device.out), recorded);
    assert_eq!(device.link.status().counters.malformed_messages, 0);
    assert!(!from_server(&lines, "text").is_empty());
    // The server killed the last one.
    let killed = ShellStop::Killed { signal: 15 };
    assert!(
        device
            .events()
            .iter()
            .any(|event| matches!(event, Event::Shell(ShellEvent::Stopped { why, .. }) if *why == killed))
    );
}
