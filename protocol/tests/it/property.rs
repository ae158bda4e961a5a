//! What must hold whatever happens, in whatever order.

use std::time::Duration;

use crate::common::{KEY, NEW_UUID, URL, config};
use nerves_hub_link_protocol::limits::{MAX_OUTPUTS, MAX_REASON_CHARS, SEND_CREDIT};
use nerves_hub_link_protocol::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

/// One thing that happens. Numbers of sockets, fetches and offers are `back` from the newest.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Deadline,
    /// Don't poll during so many steps.
    Hoard(u32),
    /// Answer the last join.
    Join,
    Command(u8, u64),
    Up(u64),
    Refused(u64, u16, u8),
    Text(u64, String),
    Binary(u64, Vec<u8>),
    Sent(u64, u32),
    Down(u64, Option<u16>),
    Head(u64, u16, u8),
    Body(u64, usize),
    Stored(u64, usize),
    End(u64),
    Broke(u64),
    Apply(u64, u8, u8),
}

fn messages() -> impl Strategy<Value = String> {
    let known = vec![
        r#"["1","1","device","phx_reply",{"status":"ok","response":{}}]"#.to_owned(),
        r#"["1","1","device","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]"#
            .to_owned(),
        r#"[null,"2","device","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#
            .to_owned(),
        r#"[null,"3","phoenix","phx_reply",{"status":"ok","response":{}}]"#.to_owned(),
        r#"["1","1","device","phx_error",{"reason":"channel_crash"}]"#.to_owned(),
        r#"["1","1","device","phx_close",{}]"#.to_owned(),
        r#"[null,null,"device","reboot",{}]"#.to_owned(),
        r#"[null,null,"device","identify",{}]"#.to_owned(),
        r#"[null,null,"device","extensions:get",{}]"#.to_owned(),
        format!(r#"[null,null,"device","fwup_public_keys",{{"keys":["{KEY}"]}}]"#),
        r#"[null,null,"device","fwup_public_keys",{"keys":[]}]"#.to_owned(),
        r#"[null,null,"device","update",{"update_available":false}]"#.to_owned(),
        r#"[null,null,"device","update_mode",{"mode":"device_managed","managed_updates_allowed":true}]"#
            .to_owned(),
        r#"[null,null,"device","update_mode",{"mode":"automatic","error":"not_permitted"}]"#.to_owned(),
        r#"[null,null,"device","update_available",{"available":true,"firmware_meta":{}}]"#.to_owned(),
        r#"["1",null,"device","scripts/run",{"ref":"abc","text":"date","timeout":500}]"#.to_owned(),
        r#"[null,null,"device","update_rejected",{"reason":"busy","delay_for":1}]"#.to_owned(),
    ];
    let update = (0..3_u8, proptest::sample::select(vec![None, Some(1000_u64), Some(1000), Some(7)])).prop_map(|(uuid, size)| {
        let size = size.map_or("null".to_owned(), |size| size.to_string());
        format!(
            r#"[null,null,"device","update",{{"update_available":true,"firmware_url":"{URL}","firmware_meta":{{"uuid":"{NEW_UUID}{uuid}"}},"size":{size}}}]"#
        )
    });
    let whole = prop_oneof![4 => proptest::sample::select(known), 3 => update];
    prop_oneof![
        6 => whole.clone(),
        1 => (whole.clone(), any::<proptest::sample::Index>())
            .prop_map(|(text, at)| text.chars().take(at.index(text.len())).collect()),
        1 => (whole, any::<proptest::sample::Index>(), any::<char>()).prop_map(|(text, at, other)| {
            let at = at.index(text.len());
            text.chars().enumerate().map(|(index, letter)| if index == at { other } else { letter }).collect()
        }),
        1 => any::<String>(),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let back = 0..3_u64;
    let status = proptest::sample::select(vec![
        101, 200, 206, 301, 302, 307, 400, 401, 403, 404, 408, 416, 429, 500, 503, 599, 0, 65535,
    ]);
    let step = prop_oneof![
        2 => (0..200_000_u64).prop_map(Step::Pass),
        3 => Just(Step::Deadline),
        1 => proptest::sample::select(vec![1, 3, 10, 500]).prop_map(Step::Hoard),
        8 => Just(Step::Join),
        1 => (0..14_u8, back.clone()).prop_map(|(which, back)| Step::Command(which, back)),
        5 => Just(Step::Command(7, 0)),
        4 => proptest::sample::select(vec![8, 9, 10]).prop_map(|which| Step::Command(which, 0)),
        2 => proptest::sample::select(vec!["available", "rejected"])
            .prop_map(|kind| Step::Text(0, format!(r#"[null,null,"device","update_{kind}",{{}}]"#))),
        2 => back.clone().prop_map(Step::Up),
        6 => Just(Step::Up(0)),
        1 => (back.clone(), status.clone(), any::<u8>()).prop_map(|(b, s, h)| Step::Refused(b, s, h)),
        12 => (Just(0_u64), messages()).prop_map(|(back, text)| Step::Text(back, text)),
        1 => (back.clone(), any::<Vec<u8>>()).prop_map(|(back, data)| Step::Binary(back, data)),
        6 => (back.clone(), 0..20_u32).prop_map(|(back, frames)| Step::Sent(back / 2, frames)),
        1 => (back.clone(), proptest::option::of(999..1016_u16)).prop_map(|(b, code)| Step::Down(b, code)),
        3 => Just(Step::Head(0, 200, 1)),
        1 => Just(Step::Head(0, 200, 0)),
        3 => (back.clone(), status, any::<u8>()).prop_map(|(b, s, h)| Step::Head(b, s, h)),
        8 => proptest::sample::select(vec![0, 1, 6, 100, 300, 400, 600]).prop_map(|len| Step::Body(0, len)),
        1 => (back.clone(), 0..900_usize).prop_map(|(back, len)| Step::Body(back, len)),
        4 => (Just(0_u64), 0..900_usize).prop_map(|(back, len)| Step::Stored(back, len)),
        6 => Just(Step::Stored(0, 1000)),
        1 => Just(Step::Refused(0, 401, 0x80)),
        1 => back.clone().prop_map(Step::End),
        2 => back.clone().prop_map(Step::Broke),
        2 => (back, 0..8_u8, any::<u8>()).prop_map(|(b, kind, percent)| Step::Apply(b, kind, percent)),
    ];
    proptest::collection::vec(step, 0..500)
}

/// Headers picked by the bits of a number.
fn headers(bits: u8) -> Vec<HeaderRef<'static>> {
    let all = [
        ("Content-Length", "1000"),
        ("Content-Range", "bytes 400-999/1000"),
        ("Content-Range", "bytes 0-999/1000"),
        ("ETag", "\"a\""),
        ("Location", "https://elsewhere.example/x"),
        ("Location", "/y?z"),
        ("Retry-After", "70"),
        ("Date", "Mon, 23 Nov 2026 14:39:17 GMT"),
    ];
    all.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0).map(|(_, header)| *header).collect()
}

/// Runs the steps and checks every promise on the way. Returns all outputs.
fn run(seed: u64, steps: &[Step]) -> Vec<Output> {
    let mut config = quick();
    config.backoff.jitter = 0.5;
    config.scripts = true;
    let mut now = Now { mono: Instant::from_micros(5), wall: Some(UnixTime(1_795_444_000)) };
    let mut link = Link::new(config, seed, now).unwrap();
    link.command(now, Command::Connect).unwrap();
    let (mut outputs, mut hoard, mut join) = (Vec::new(), 0, 0);
    let (mut socket, mut fetch, mut offer, mut flying) = (0, 0, 0, 0_u32);
    let mut script = 0;
    let (mut kept, mut stored) = (0_u64, 0_u64);
    for step in steps {
        let ticked = matches!(step, Step::Pass(_) | Step::Deadline);
        match step {
            Step::Pass(millis) => {
                now.mono = now.mono + Duration::from_millis(*millis);
                link.handle(now, Input::Tick);
            }
            Step::Deadline => {
                if let Some(deadline) = link.deadline() {
                    now.mono = now.mono.max(deadline.at);
                }
                link.handle(now, Input::Tick);
            }
            Step::Hoard(steps) => hoard = *steps,
            Step::Join => {
                let text =
                    format!(r#"["{join}","{join}","device","phx_reply",{{"status":"ok","response":{{}}}}]"#);
                link.handle(now, Input::SocketText { socket: SocketId(socket), text: &text });
            }
            Step::Command(which, back) => {
                let offer = OfferId(u64::saturating_sub(offer, *back));
                let delay = Duration::from_secs(*back * 400);
                let command = match which {
                    0 => Command::Connect,
                    1 => Command::Reconnect,
                    2 => Command::FirmwareValidated,
                    3 if *back == 2 => Command::Disconnect,
                    4 => Command::Decide { offer, decision: Decision::Ignore { reason: "no".repeat(300) } },
                    5 => Command::Decide { offer, decision: Decision::Reschedule { delay, reason: None } },
                    8 => Command::CheckUpdate,
                    9 => Command::RequestUpdate,
                    10 => Command::SetUpdateMode { mode: UpdateMode::DeviceManaged },
                    11 => Command::SetUpdateMode { mode: UpdateMode::Automatic },
                    13 => Command::ScriptFinished {
                        id: ScriptId(script),
                        output: "äö".repeat(10),
                        result: Ok("0".to_owned()),
                    },
                    12 => Command::ConnectionTypes { types: vec!["wifi".repeat(30); 30] },
                    _ => Command::Decide { offer, decision: Decision::Apply },
                };
                let _ = link.command(now, command);
            }
            Step::Up(back) => {
                let socket = SocketId(u64::saturating_sub(socket, *back));
                link.handle(now, Input::SocketUp { socket, interface: Some("eth0") });
            }
            Step::Refused(back, status, bits) => {
                let socket = SocketId(u64::saturating_sub(socket, *back));
                let headers = headers(*bits);
                let input =
                    Input::SocketRefused { socket, status: *status, headers: &headers, body: &[0xff, *bits] };
                link.handle(now, input);
            }
            Step::Text(back, text) => {
                let socket = SocketId(u64::saturating_sub(socket, *back));
                link.handle(now, Input::SocketText { socket, text });
            }
            Step::Binary(back, data) => {
                let socket = SocketId(u64::saturating_sub(socket, *back));
                link.handle(now, Input::SocketBinary { socket, data });
            }
            Step::Sent(back, frames) => {
                let id = SocketId(u64::saturating_sub(socket, *back));
                // Nothing can be sent before it was polled.
                let frames = (*frames).min(flying);
                if id.0 == socket {
                    flying -= frames;
                }
                link.handle(now, Input::SocketSent { socket: id, frames });
            }
            Step::Down(back, code) => {
                let socket = SocketId(u64::saturating_sub(socket, *back));
                link.handle(now, Input::SocketDown { socket, code: *code, reason: "gone" });
            }
            Step::Head(back, status, bits) => {
                let fetch = FetchId(u64::saturating_sub(fetch, *back));
                let headers = headers(*bits);
                link.handle(
                    now,
                    Input::FetchHead { fetch, status: *status, headers: &headers, interface: None },
                );
            }
            Step::Body(back, len) => {
                let fetch = FetchId(u64::saturating_sub(fetch, *back));
                let keep = link.body(now, fetch, &vec![7; *len]);
                assert!(keep.range.end <= *len && keep.range.start <= keep.range.end);
                if !keep.range.is_empty() {
                    if keep.offset == 0 {
                        (kept, stored) = (0, 0);
                    }
                    assert_eq!(keep.offset, kept, "the file has no gap and no overlap");
                    kept += keep.range.len() as u64;
                }
            }
            Step::Stored(back, len) => {
                let fetch = FetchId(u64::saturating_sub(fetch, *back));
                let len = (*len).min(usize::try_from(kept - stored).unwrap());
                stored += len as u64;
                link.stored(now, fetch, len);
            }
            Step::End(back) => {
                link.handle(now, Input::FetchEnd { fetch: FetchId(u64::saturating_sub(fetch, *back)) });
            }
            Step::Broke(back) => {
                let fetch = FetchId(u64::saturating_sub(fetch, *back));
                link.handle(now, Input::FetchFailed { fetch, reason: "reset" });
            }
            Step::Apply(back, kind, percent) => {
                let offer = OfferId(u64::saturating_sub(offer, *back));
                let reason = "äö".repeat(usize::from(*percent));
                link.handle(
                    now,
                    match kind {
                        0 => Input::ApplyDone { offer },
                        1 => Input::ApplyFailed { offer, reason: &reason },
                        3 => Input::FileRefused { offer, reason: &reason },
                        4 => Input::DeltaFailed { offer, reason: &reason },
                        _ => Input::ApplyProgress { offer, percent: *percent },
                    },
                );
            }
        }
        if hoard > 0 {
            hoard -= 1;
            continue;
        }
        let mut new = 0;
        while let Some(output) = link.poll() {
            new += 1;
            match &output {
                Output::Dial(dial) => {
                    assert!(dial.socket.0 > socket, "numbers are never used twice");
                    (socket, flying) = (dial.socket.0, 0);
                }
                Output::Send { socket: on, text } => {
                    assert_eq!(on.0, socket);
                    assert!(text.len() < 8000);
                    flying += 1;
                    assert!(flying <= SEND_CREDIT);
                    if text.contains("phx_join") {
                        join = text.trim_start_matches("[\"").split('"').next().unwrap().parse().unwrap();
                    }
                }
                Output::Fetch(new) => {
                    assert!(new.fetch.0 > fetch);
                    fetch = new.fetch.0;
                }
                Output::StartApply(start) => {
                    assert!(!start.public_keys.is_empty());
                    (kept, stored) = (0, 0);
                }
                Output::Event(Event::UpdateOffered { offer: new, .. }) => {
                    assert!(new.0 > offer);
                    offer = new.0;
                }
                Output::Event(Event::ScriptRequested { id: new, .. }) => {
                    assert!(new.0 > script);
                    script = new.0;
                }
                Output::Event(Event::UpdateFailed { reason, .. } | Event::UpdateRefused { reason, .. }) => {
                    assert!(reason.chars().count() <= MAX_REASON_CHARS);
                    assert!(!reason.contains("TOPSECRET"));
                }
                _ => {}
            }
            outputs.push(output);
        }
        assert!(new <= MAX_OUTPUTS + 64, "{new} outputs waited");
        if ticked {
            let deadline = link.deadline();
            assert!(deadline.is_none_or(|deadline| deadline.at > now.mono), "{deadline:?} at {:?}", now.mono);
        }
    }
    outputs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_and_runs_repeat(seed in any::<u64>(), steps in steps()) {
        let first = run(seed, &steps);
        prop_assert_eq!(first, run(seed, &steps));
    }

    #[test]
    fn no_text_costs_the_connection(texts in proptest::collection::vec(any::<String>(), 0..20)) {
        let mut device = crate::common::Device::joined(config());
        let socket = device.socket();
        for text in &texts {
            device.input(Input::SocketText { socket, text });
            device.input(Input::SocketBinary { socket, data: text.as_bytes() });
        }
        prop_assert_eq!(device.link.status().connection, ConnectionState::Joined);
    }

    #[test]
    fn no_answer_to_a_dial_is_a_dead_end(
        answers in proptest::collection::vec((any::<u16>(), any::<u8>(), any::<String>(), any::<Vec<u8>>()), 1..20),
    ) {
        let mut device = crate::common::Device::new(quick());
        device.command(Command::Connect);
        for (status, bits, location, body) in &answers {
            let socket = device.socket();
            let mut headers = headers(*bits);
            headers.push(("location", location));
            headers.push(("date", location));
            headers.push(("retry-after", location));
            device.input(Input::SocketRefused { socket, status: *status, headers: &headers, body });
            let deadline = device.link.deadline();
            prop_assert!(deadline.is_some_and(|deadline| {
                matches!(deadline.why, Timer::Reconnect | Timer::Dial)
                    && deadline.at - device.now.mono <= Duration::from_secs(900)
            }), "{:?}", deadline);
            device.command(Command::Reconnect);
            prop_assert_eq!(device.dial().url, "wss://hub.example/device-socket/websocket?vsn=2.0.0");
        }
    }
}

/// A configuration whose signatures cost little, as there are thousands.
fn quick() -> Config {
    let mut config = config();
    if let Auth::SharedSecret(secret) = &mut config.auth {
        secret.iterations = 1;
    }
    config
}

#[test]
fn the_steps_reach_every_part_of_the_machine() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    for seed in 0..300 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        for output in run(seed, &steps) {
            let name = match &output {
                Output::HangUp { .. } => "hang up",
                Output::Abort { .. } => "abort",
                Output::FinishApply { .. } => "finish",
                Output::CancelApply { .. } => "cancel",
                Output::Reboot { .. } => "reboot",
                Output::Event(Event::Joined) => "joined",
                Output::Event(Event::UpdateCompleted { .. }) => "completed",
                Output::Event(Event::UpdateFailed { .. }) => "failed",
                Output::Event(Event::DownloadStarted { offset: 1.., .. }) => "resumed",
                Output::Event(Event::DownloadInterrupted { .. }) => "interrupted",
                Output::Event(Event::ChannelLost { .. }) => "lost",
                Output::Event(Event::ClockCorrected { .. }) => "clock",
                Output::Event(Event::UpdateModeChanged { .. }) => "mode",
                Output::Event(Event::UpdateAvailability { .. }) => "checked",
                Output::Event(Event::UpdateRejected { .. }) => "rejected",
                Output::Event(Event::RequestFailed { .. }) => "unanswered",
                Output::Event(Event::ScriptRequested { .. }) => "script",
                Output::Event(Event::ScriptTimedOut { .. }) => "late script",
                _ => continue,
            };
            *seen.entry(name).or_default() += 1;
        }
    }
    println!("{seen:?}");
    assert_eq!(seen.len(), 18, "{seen:?}");
}
