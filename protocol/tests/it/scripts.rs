//! Support scripts: refused unless allowed, answered whatever happens, bounded.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

fn allowed() -> Device {
    let mut config = config();
    config.scripts = true;
    Device::joined(config)
}

#[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
fn run(device: &mut Device, payload: Value) -> Vec<Output> {
    device.server(&json!(["1", null, "device", "scripts/run", payload]))
}

/// Runs a script; returns its number.
fn start(device: &mut Device, reference: &str) -> ScriptId {
    let out = run(device, json!({"ref": reference, "text": "date"}));
    match &events(&out)[..] {
        [Event::ScriptRequested { id, .. }] => *id,
        other => panic!("{other:?}"),
    }
}

fn finish(device: &mut Device, id: ScriptId, output: &str, result: Result<&str, &str>) -> Value {
    let result = result.map(str::to_owned).map_err(str::to_owned);
    let out = device.command(Command::ScriptFinished { id, output: output.to_owned(), result });
    let answer = sent(&out).pop().expect("no answer");
    assert_eq!(answer[3], "scripts/run");
    answer[4].clone()
}

/// The reason of an answer that a script failed.
fn refusal(out: &[Output]) -> String {
    let told = events(out);
    let [Event::ScriptRefused { reason: told }] = &told[..] else { panic!("{told:?}") };
    let messages = sent(out);
    assert_eq!(messages.len(), 1);
    let answer = &messages[0][4];
    let reason = answer["reason"].as_str().unwrap();
    let output = format!("Error running script: {reason}");
    assert_eq!(
        *answer,
        json!({"ref": "Igjg1Q", "result": "error", "reason": reason, "output": output, "return": ""})
    );
    assert_eq!(told, reason);
    reason.to_owned()
}

#[test]
fn scripts_are_refused_unless_allowed() {
    assert!(!config().scripts);
    let mut device = Device::joined(config());
    let out = run(&mut device, json!({"ref": "Igjg1Q", "text": "rm -rf /"}));
    assert_eq!(refusal(&out), "scripts are not enabled on this device");
}

#[test]
fn a_script_is_handed_over_and_its_result_sent() {
    let mut device = allowed();
    let out = run(&mut device, json!({"ref": "Igjg1Q", "text": "6 * 7", "timeout": 2500}));
    let told = events(&out);
    let [Event::ScriptRequested { id, text, timeout }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&**text, *timeout), ("6 * 7", Duration::from_millis(2500)));
    let answer = finish(&mut device, *id, "hello\n", Ok("42"));
    assert_eq!(answer, json!({"ref": "Igjg1Q", "result": "completed", "output": "hello\n", "return": "42"}));
    let again = Command::ScriptFinished { id: *id, output: String::new(), result: Ok(String::new()) };
    assert_eq!(device.link.command(device.now, again), Err(CommandError::UnknownScript(*id)));
    assert_eq!(events(&device.pass(Duration::from_secs(20))), []);
}

#[test]
fn a_failure_comes_after_what_was_written() {
    let mut device = allowed();
    let id = start(&mut device, "Igjg1Q");
    let answer = finish(&mut device, id, "half", Err("no shell"));
    assert_eq!(
        answer,
        json!({"ref": "Igjg1Q", "result": "error", "reason": "no shell",
            "output": "half\nError running script: no shell", "return": ""})
    );
}

#[test]
fn a_script_that_runs_too_long_is_ended() {
    for (timeout, seconds) in
        [(json!(null), 10), (json!(0), 10), (json!("5"), 10), (json!(3000), 3), (json!(u64::MAX), 60)]
    {
        let mut device = allowed();
        device.now.mono = device.now.mono + Duration::from_millis(1);
        let out = run(&mut device, json!({"ref": "rY18Qg", "text": "sleep", "timeout": timeout}));
        let told = events(&out);
        let [Event::ScriptRequested { id, timeout, .. }] = &told[..] else { panic!("{told:?}") };
        assert_eq!(*timeout, Duration::from_secs(seconds));
        let mut left = seconds;
        while left > 20 {
            device.beat();
            left = seconds - (device.now.mono.as_micros() / 1_000_000 - 1);
        }
        let out = device.pass(Duration::from_secs(left) + Duration::from_millis(1));
        assert!(events(&out).contains(&Event::ScriptTimedOut { id: *id }), "{out:?}");
        // As recorded from the reference client.
        assert_eq!(
            device.last_sent("scripts/run")[4],
            json!({"return": "", "output": "Error running script: timeout exceeded", "reason": "timeout",
                "result": "error", "ref": "rY18Qg"})
        );
        let late = Command::ScriptFinished { id: *id, output: String::new(), result: Ok(String::new()) };
        assert_eq!(device.link.command(device.now, late), Err(CommandError::UnknownScript(*id)));
    }
}

#[test]
fn what_is_no_script_is_answered_if_it_can_be() {
    let mut device = allowed();
    for payload in [json!({"ref": "Igjg1Q"}), json!({"ref": "Igjg1Q", "text": 5})] {
        assert_eq!(refusal(&run(&mut device, payload)), "the message holds no script");
    }
    let long = "x".repeat(MAX_NAME_CHARS + 1);
    for payload in
        [json!({}), json!([]), json!({"ref": ""}), json!({"ref": 1}), json!({"ref": long, "text": "x"})]
    {
        let out = run(&mut device, payload);
        assert!(matches!(&events(&out)[..], [Event::Malformed { .. }]));
        assert!(sent(&out).is_empty());
    }
    let id = start(&mut device, &"x".repeat(MAX_NAME_CHARS));
    assert_eq!(finish(&mut device, id, "", Ok(""))["ref"].as_str().unwrap().len(), MAX_NAME_CHARS);
}

#[test]
fn a_script_may_be_as_long_as_the_limit() {
    let mut device = allowed();
    let mut text = "x".repeat(MAX_SCRIPT_BYTES);
    let out = run(&mut device, json!({"ref": "Igjg1Q", "text": text}));
    assert!(matches!(&events(&out)[..], [Event::ScriptRequested { text: whole, .. }] if *whole == text));
    text.push('x');
    assert!(refusal(&run(&mut device, json!({"ref": "Igjg1Q", "text": text}))).contains("more than"));
}

#[test]
fn only_so_many_scripts_run_at_a_time() {
    let mut device = allowed();
    let ids: Vec<ScriptId> = (0..MAX_SCRIPTS).map(|n| start(&mut device, &n.to_string())).collect();
    assert!(refusal(&run(&mut device, json!({"ref": "Igjg1Q", "text": "x"}))).contains("run already"));
    assert_eq!(finish(&mut device, ids[3], "", Ok(""))["ref"], "3");
    start(&mut device, "next");
    // All end, each under its own name.
    let out = device.pass(Duration::from_secs(10));
    let ended = events(&out).iter().filter(|event| matches!(event, Event::ScriptTimedOut { .. })).count();
    assert_eq!(ended, MAX_SCRIPTS);
}

#[test]
fn output_is_cut_at_the_limit_between_characters() {
    let mut device = allowed();
    for (output, kept, more) in [
        ("x".repeat(MAX_SCRIPT_OUTPUT_BYTES), MAX_SCRIPT_OUTPUT_BYTES, None),
        ("x".repeat(MAX_SCRIPT_OUTPUT_BYTES + 1), MAX_SCRIPT_OUTPUT_BYTES, Some("\n[1 more bytes]")),
        (
            format!("x{}", "ä".repeat(MAX_SCRIPT_OUTPUT_BYTES / 2)),
            MAX_SCRIPT_OUTPUT_BYTES - 1,
            Some("\n[2 more bytes]"),
        ),
    ] {
        let id = start(&mut device, "Igjg1Q");
        let answer = finish(&mut device, id, &output, Ok(&output));
        let expected = format!("{}{}", &output[..kept], more.unwrap_or_default());
        assert_eq!(answer["output"], expected);
        assert_eq!(answer["return"], expected);
        let id = start(&mut device, "Igjg1Q");
        let answer = finish(&mut device, id, &output, Err(&output));
        assert!(answer["output"].as_str().unwrap().starts_with(&expected));
        assert_eq!(answer["reason"].as_str().unwrap().chars().count(), MAX_REASON_CHARS);
    }
}

#[test]
fn a_script_goes_on_when_the_connection_is_lost() {
    let mut device = allowed();
    let id = start(&mut device, "Igjg1Q");
    device.down(None);
    device.out.clear();
    device.come_back_after(1);
    assert_eq!(finish(&mut device, id, "", Ok("0"))["return"], "0");
}

#[test]
fn long_results_leave_room_for_what_matters_more() {
    let mut device = allowed();
    let ids: Vec<ScriptId> = (0..4).map(|n| start(&mut device, &n.to_string())).collect();
    device.sends = false;
    let mut sent = 0;
    let results = |device: &Device| device.sent().iter().filter(|m| m[3] == "scripts/run").count();
    for id in ids {
        let output = "x".repeat(MAX_SCRIPT_OUTPUT_BYTES);
        let result = Ok("0".to_owned());
        device.command(Command::ScriptFinished { id, output, result });
        sent = results(&device);
    }
    assert_eq!(sent, usize::try_from(BULK_CREDIT).unwrap());
    // What people wait for goes past those that wait.
    let out = device.command(Command::ConnectionTypes { types: vec!["wifi".to_owned()] });
    assert_eq!(
        crate::common::sent(&out).iter().map(|m| m[3].clone()).collect::<Vec<_>>(),
        ["connection_types"]
    );
    let socket = device.socket();
    device.input(Input::SocketSent { socket, frames: 2 });
    assert_eq!(results(&device), sent + 1, "one more, behind the message that is on its way");
    device.input(Input::SocketSent { socket, frames: 2 });
    assert_eq!(results(&device), sent + 2);
}
