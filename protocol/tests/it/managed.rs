//! Device-managed updates: the mode, and what the device may ask (device-protocol A2).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// A device the server told its mode.
fn told(mode: &str) -> Device {
    let mut device = Device::joined(config());
    device.push("update_mode", json!({"mode": mode, "managed_updates_allowed": true}));
    device.out.clear();
    device
}

trait Talk {
    fn push(&mut self, event: &str, payload: Value) -> Vec<Event>;
    fn refused(&mut self, command: Command) -> CommandError;
}

impl Talk for Device {
    /// A push of the channel: with the join's number, unlike a broadcast.
    fn push(&mut self, event: &str, payload: Value) -> Vec<Event> {
        events(&self.server(&json!(["1", null, "device", event, payload])))
    }

    /// A command that is refused and sends nothing.
    fn refused(&mut self, command: Command) -> CommandError {
        let error = self.link.command(self.now, command).unwrap_err();
        assert_eq!(self.drain(), [], "{error}");
        error
    }
}

fn set(mode: UpdateMode) -> Command {
    Command::SetUpdateMode { mode }
}

fn changed(mode: Option<UpdateMode>, managed_updates_allowed: bool) -> Event {
    Event::UpdateModeChanged { mode, managed_updates_allowed }
}

fn failed(request: Request, why: RequestFailure) -> Event {
    Event::RequestFailed { request, why }
}

const QUESTIONS: [(Command, Request, &str); 3] = [
    (Command::CheckUpdate, Request::CheckUpdate, "check_update"),
    (Command::RequestUpdate, Request::RequestUpdate, "request_update"),
    (Command::SetUpdateMode { mode: UpdateMode::DeviceManaged }, Request::SetUpdateMode, "set_update_mode"),
];

#[test]
fn the_mode_is_stored_and_changes_are_told() {
    let mut device = Device::joined(config());
    assert_eq!(device.link.status().update_mode, None);
    for (word, mode) in [
        ("automatic", UpdateMode::Automatic),
        ("device_managed", UpdateMode::DeviceManaged),
        ("off", UpdateMode::Off),
    ] {
        let told = device.push("update_mode", json!({"mode": word, "managed_updates_allowed": true}));
        assert_eq!(told, [changed(Some(mode), true)]);
        assert_eq!(device.link.status().update_mode, Some(mode));
        assert_eq!(mode.as_str(), word);
    }
    // The same again is no news.
    assert_eq!(device.push("update_mode", json!({"mode": "off", "managed_updates_allowed": true})), []);
    for grant in [json!("true"), json!(1), json!(null)] {
        let told = device.push("update_mode", json!({"mode": "off", "managed_updates_allowed": grant}));
        assert!(told.len() < 2);
    }
    assert_eq!(
        device.push("update_mode", json!({"mode": "automatic"})),
        [changed(Some(UpdateMode::Automatic), false)]
    );
}

#[test]
fn an_unknown_mode_is_none_and_warned_of() {
    for payload in [json!({"mode": "sometimes"}), json!({"mode": 5}), json!({}), json!([])] {
        let mut device = told("automatic");
        let told = device.push("update_mode", payload);
        assert!(
            matches!(&told[..], [Event::UpdateModeChanged { mode: None, .. }, Event::Malformed { .. }]),
            "{told:?}"
        );
        assert_eq!(device.link.status().update_mode, None);
    }
}

#[test]
fn the_mode_outlives_the_connection_and_is_told_anew() {
    let mut device = told("device_managed");
    device.down(None);
    assert_eq!(device.link.status().update_mode, Some(UpdateMode::DeviceManaged));
    device.come_back_after(1);
    let same = device.push("update_mode", json!({"mode": "device_managed", "managed_updates_allowed": true}));
    assert_eq!(same, [changed(Some(UpdateMode::DeviceManaged), true)]);
}

#[test]
fn setting_the_mode_is_answered_by_the_wanted_mode_alone() {
    let mut device = told("automatic");
    let out = device.command(set(UpdateMode::DeviceManaged));
    assert_eq!(sent(&out), [json!(["1", "3", "device", "set_update_mode", {"mode": "device_managed"}])]);
    // Somebody else changes the grant meanwhile: no answer.
    let other = device.push("update_mode", json!({"mode": "automatic", "managed_updates_allowed": false}));
    assert_eq!(other, [changed(Some(UpdateMode::Automatic), false)]);
    assert_eq!(device.refused(set(UpdateMode::DeviceManaged)), CommandError::AlreadyInProgress);
    let answer =
        device.push("update_mode", json!({"mode": "device_managed", "managed_updates_allowed": true}));
    assert_eq!(answer, [changed(Some(UpdateMode::DeviceManaged), true)]);
    // What is so already is answered without the server, which would note it as a change.
    let out = device.command(set(UpdateMode::DeviceManaged));
    assert_eq!((sent(&out), events(&out)), (vec![], vec![changed(Some(UpdateMode::DeviceManaged), true)]));
    assert_eq!(device.pass(31 * SECOND).iter().filter(|out| matches!(out, Output::Event(_))).count(), 0);
}

#[test]
fn a_refused_mode_is_told_with_its_reason() {
    for (error, why) in [
        (json!("not_permitted"), RequestFailure::NotPermitted),
        (json!("unknown_mode"), RequestFailure::UnknownMode),
        (json!("error"), RequestFailure::Other("error".into())),
        (json!("else"), RequestFailure::Other("else".into())),
        (json!(7), RequestFailure::Other("error".into())),
    ] {
        let mut device = told("automatic");
        device.command(set(UpdateMode::DeviceManaged));
        let payload = json!({"mode": "automatic", "managed_updates_allowed": true, "error": error});
        assert_eq!(device.push("update_mode", payload.clone()), [failed(Request::SetUpdateMode, why)]);
        // The same without a question is no news.
        assert_eq!(device.push("update_mode", payload), []);
    }
}

#[test]
fn off_is_for_operators_who_may_still_push() {
    let mut device = told("off");
    assert_eq!(device.refused(set(UpdateMode::Automatic)), CommandError::NotPermitted);
    assert_eq!(told("automatic").refused(set(UpdateMode::Off)), CommandError::NotPermitted);
    device.start(json!({}));
    assert!(matches!(device.link.status().update, UpdateState::Downloading { .. }));
}

#[test]
fn checking_tells_what_waits() {
    let mut device = told("automatic");
    assert_eq!(
        sent(&device.command(Command::CheckUpdate)),
        [json!(["1", "3", "device", "check_update", {}])]
    );
    let meta = update()["firmware_meta"].clone();
    let answer = device.push("update_available", json!({"available": true, "firmware_meta": meta}));
    let [Event::UpdateAvailability { available: true, firmware: Some(firmware) }] = &answer[..] else {
        panic!("{answer:?}");
    };
    assert_eq!((&*firmware.uuid, &*firmware.version), (NEW_UUID, "1.0.0"));
    for (payload, available) in [
        (json!({"available": false, "firmware_meta": null}), false),
        (json!({"available": false, "firmware_meta": {"uuid": "x"}}), false),
        (json!({"available": true}), true),
        (json!({"available": "true"}), false),
        (json!({}), false),
        (json!(null), false),
    ] {
        device.command(Command::CheckUpdate);
        let answer = device.push("update_available", payload.clone());
        assert_eq!(answer, [Event::UpdateAvailability { available, firmware: None }], "{payload}");
    }
}

struct App;
impl Client for App {}

#[test]
fn a_request_is_answered_by_an_update_that_is_applied() {
    let mut device = told("device_managed");
    assert_eq!(
        sent(&device.command(Command::RequestUpdate)),
        [json!(["1", "3", "device", "request_update", {}])]
    );
    let out = device.broadcast("update", update());
    let told = events(&out);
    let [Event::UpdateOffered { info, .. }] = &told[..] else { panic!("{told:?}") };
    assert!(info.requested);
    // Even the same firmware: ignoring what was asked for costs a day.
    let mut info = info.clone();
    let running = firmware();
    info.firmware.uuid.clone_from(&running.uuid);
    assert_eq!(App.update_available(&running, &info), Some(Decision::Apply));
    info.requested = false;
    assert!(matches!(App.update_available(&running, &info), Some(Decision::Ignore { .. })));
    assert_eq!(device.refused(Command::RequestUpdate), CommandError::Updating);
    assert_eq!(events(&device.pass(31 * SECOND)), []);
}

#[test]
fn a_pushed_update_was_not_requested() {
    let mut device = told("automatic");
    let out = device.broadcast("update", update());
    assert!(matches!(&events(&out)[..], [Event::UpdateOffered { info, .. }] if !info.requested));
}

#[test]
fn a_request_ends_the_wait_the_device_asked_for() {
    let mut device = told("automatic");
    let offer = device.offer(json!({}));
    let decision = Decision::Reschedule { delay: 3600 * SECOND, reason: None };
    device.command(Command::Decide { offer, decision });
    assert!(matches!(&events(&device.broadcast("update", update()))[..], [Event::UpdateRefused { .. }]));
    device.command(Command::RequestUpdate);
    assert!(matches!(&events(&device.broadcast("update", update()))[..], [Event::UpdateOffered { .. }]));
}

#[test]
fn rejections_say_why_and_how_long() {
    let minutes = |n: u32| 60 * n * SECOND;
    for (payload, reason, retry_in, locked) in [
        (json!({"reason": "busy", "delay_for": 7}), RejectReason::Busy, minutes(7), true),
        (json!({"reason": "busy"}), RejectReason::Other("busy".into()), minutes(5), false),
        (json!({"reason": "busy", "delay_for": 1.5}), RejectReason::Other("busy".into()), minutes(5), false),
        (json!({"reason": "busy", "delay_for": -1}), RejectReason::Other("busy".into()), minutes(5), false),
        (json!({"reason": "busy", "delay_for": u64::MAX}), RejectReason::Busy, MAX_REJECT_DELAY, true),
        (json!({"reason": "no_update"}), RejectReason::NoUpdate, minutes(5), false),
        (json!({"reason": "no_update", "delay_for": 9}), RejectReason::NoUpdate, minutes(9), true),
        (json!({"reason": "no_deployment_group"}), RejectReason::NoDeploymentGroup, minutes(5), false),
        (json!({"reason": "already_updating"}), RejectReason::AlreadyUpdating, minutes(5), false),
        (json!({"reason": "not_permitted"}), RejectReason::NotPermitted, minutes(5), false),
        (json!({"reason": "moon"}), RejectReason::Other("moon".into()), minutes(5), false),
        (json!({}), RejectReason::Other("error".into()), minutes(5), false),
    ] {
        let mut device = told("automatic");
        device.command(Command::RequestUpdate);
        assert_eq!(
            device.push("update_rejected", payload.clone()),
            [Event::UpdateRejected { reason, retry_in }]
        );
        if locked {
            assert_eq!(device.refused(Command::RequestUpdate), CommandError::TooEarly { retry_in });
        } else {
            device.command(Command::RequestUpdate);
        }
    }
}

#[test]
fn no_request_is_sent_before_the_server_s_delay_not_even_on_another_connection() {
    let mut device = told("automatic");
    device.command(Command::RequestUpdate);
    device.push("update_rejected", json!({"reason": "busy", "delay_for": 1}));
    device.down(None);
    device.come_back_after(1);
    device.push("update_mode", json!({"mode": "automatic"}));
    let left = CommandError::TooEarly { retry_in: 59 * SECOND };
    assert_eq!(device.refused(Command::RequestUpdate), left);
    assert!(left.is_retryable());
    // Updates that are pushed and questions of other kinds have nothing to do with it.
    device.command(Command::CheckUpdate);
    device.pass(29 * SECOND);
    device.beat();
    device.pass(29 * SECOND);
    device.out.clear();
    device.pass(SECOND);
    device.command(Command::RequestUpdate);
    assert_eq!(device.last_sent("request_update")[4], json!({}));
}

#[test]
fn the_advised_waits_of_a_fleet_differ() {
    let mut waits = BTreeSet::new();
    for seed in 0..50 {
        let mut config = config();
        config.backoff.jitter = 0.5;
        let mut device = Device::new(config.clone());
        device.link = Link::new(config, seed, device.now).unwrap();
        device.connect();
        device.join();
        device.command(Command::RequestUpdate);
        let told = device.push("update_rejected", json!({"reason": "busy", "delay_for": 5}));
        let [Event::UpdateRejected { retry_in, .. }] = &told[..] else { panic!("{told:?}") };
        assert!((300 * SECOND..=450 * SECOND).contains(retry_in));
        waits.insert(*retry_in);
    }
    assert!(waits.len() > 40, "{waits:?}");
}

#[test]
fn an_update_that_is_none_answers_the_request() {
    let mut device = told("automatic");
    device.command(Command::RequestUpdate);
    let out = device
        .broadcast("update", json!({"update_available": false, "firmware_url": null, "firmware_meta": null}));
    assert_eq!(
        events(&out),
        [Event::UpdateRejected { reason: RejectReason::NoUpdate, retry_in: 300 * SECOND }]
    );
    // Unasked it is nothing at all.
    let out = device.broadcast("update", json!({"update_available": false}));
    assert_eq!(events(&out), []);
}

#[test]
fn one_question_of_a_kind_waits_at_a_time() {
    let mut device = told("automatic");
    for (command, _, event) in QUESTIONS {
        assert_eq!(sent(&device.command(command.clone())).len(), 1);
        assert_eq!(device.refused(command), CommandError::AlreadyInProgress, "{event}");
    }
    assert_eq!(device.sent().len(), 3);
}

#[test]
fn a_question_nobody_answers_is_given_up_and_a_late_answer_is_harmless() {
    for (command, request, event) in QUESTIONS {
        let mut device = told("automatic");
        device.command(command.clone());
        assert_eq!(device.sent()[0][3], event);
        device.pass(29 * SECOND);
        assert_eq!(device.events(), []);
        assert_eq!(events(&device.pass(SECOND)), [failed(request, RequestFailure::Timeout)], "{event}");
        let before = device.link.status().counters.stale_messages;
        let late = match request {
            Request::CheckUpdate => device.push("update_available", json!({"available": true})),
            Request::RequestUpdate => {
                device.push("update_rejected", json!({"reason": "busy", "delay_for": 5}))
            }
            _ => {
                device.push("update_mode", json!({"mode": "device_managed", "managed_updates_allowed": true}))
            }
        };
        if request == Request::SetUpdateMode {
            assert_eq!(late, [changed(Some(UpdateMode::DeviceManaged), true)]);
        } else {
            assert_eq!((late, device.link.status().counters.stale_messages), (vec![], before + 1));
            // It may be asked again.
            device.command(command);
        }
    }
    let mut device = told("automatic");
    device.command(Command::RequestUpdate);
    device.pass(30 * SECOND);
    assert!(matches!(&events(&device.broadcast("update", update()))[..], [Event::UpdateOffered { .. }]));
}

#[test]
fn questions_end_with_the_connection_and_are_not_sent_later() {
    for (command, request, event) in QUESTIONS {
        let endings: [fn(&mut Device) -> Vec<Output>; 3] = [
            |device| device.down(None),
            |device| device.command(Command::Disconnect),
            |device| device.server(&json!(["1", "1", "device", "phx_error", {}])),
        ];
        for (number, end) in endings.iter().enumerate() {
            let mut device = told("automatic");
            // The network is stuck: the question waits behind what was sent before.
            device.sends = false;
            for _ in 0..=SEND_CREDIT {
                device.offer_and_ignore();
            }
            device.command(command.clone());
            assert!(!device.sent().iter().any(|message| message[3] == event));
            let told = events(&end(&mut device));
            assert!(told.contains(&failed(request, RequestFailure::Disconnected)), "{told:?}");
            assert_eq!(device.refused(command.clone()), CommandError::NotJoined);
            device.sends = true;
            if number == 0 {
                device.come_back_after(1);
            } else if number == 2 {
                let socket = device.socket();
                device.input(Input::SocketSent { socket, frames: SEND_CREDIT });
                device.pass(5 * SECOND);
                device.join();
            }
            assert!(!device.sent().iter().any(|message| message[3] == event), "{event} {number}");
        }
    }
}

/// A device whose network is stuck, with the question behind what was sent before.
fn stuck(command: Command) -> Device {
    let mut device = told("automatic");
    device.sends = false;
    for _ in 0..=SEND_CREDIT {
        device.offer_and_ignore();
    }
    device.command(command);
    device
}

/// What a device sends once its network works again.
fn unstuck(mut device: Device) -> Vec<Value> {
    device.sends = true;
    let socket = device.socket();
    let mut out = device.input(Input::SocketSent { socket, frames: SEND_CREDIT });
    out.extend(device.pass(SECOND));
    sent(&out)
}

#[test]
fn a_question_that_was_given_up_or_answered_is_not_sent_later() {
    for (command, request, event) in QUESTIONS {
        let asks = |message: &Value| message[3] == event;
        assert!(unstuck(stuck(command.clone())).iter().any(asks), "{event}");

        let mut device = stuck(command.clone());
        assert!(events(&device.pass(30 * SECOND)).contains(&failed(request, RequestFailure::Timeout)));
        assert!(!unstuck(device).iter().any(asks), "{event}");

        // The server did by itself what was to be asked for.
        let mut device = stuck(command);
        let told = match request {
            Request::CheckUpdate => device.push("update_available", json!({"available": true})),
            Request::RequestUpdate => events(&device.broadcast("update", update())),
            _ => {
                device.push("update_mode", json!({"mode": "device_managed", "managed_updates_allowed": true}))
            }
        };
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(!unstuck(device).iter().any(asks), "{event}");
    }
}

#[test]
fn an_offer_that_was_asked_for_stays_so_when_it_comes_twice() {
    let mut device = told("device_managed");
    device.command(Command::RequestUpdate);
    let out = device.broadcast("update", update());
    let told = events(&out);
    let [Event::UpdateOffered { offer, info }] = &told[..] else { panic!("{told:?}") };
    assert!(info.requested);
    assert_eq!(events(&device.broadcast("update", update())), []);
    let out = device.command(Command::Decide { offer: *offer, decision: Decision::TakeOver });
    let handed = events(&out).into_iter().find_map(|event| match event {
        Event::UpdateHandedOver { info, .. } => Some(info),
        _ => None,
    });
    assert!(handed.unwrap().requested);
}

#[test]
fn what_is_not_joined_is_not_asked() {
    let mut device = Device::new(config());
    for (command, ..) in QUESTIONS {
        assert_eq!(device.refused(command.clone()), CommandError::NotJoined);
    }
    device.connect();
    for (command, ..) in QUESTIONS {
        assert_eq!(device.refused(command), CommandError::NotJoined);
    }
}

#[test]
fn an_old_server_is_recognised_by_its_silence_and_still_pushes() {
    let mut device = Device::joined(config());
    device.pass(29 * SECOND);
    device.command(Command::CheckUpdate);
    device.beat();
    for (command, ..) in QUESTIONS.into_iter().skip(1) {
        assert_eq!(device.refused(command), CommandError::Unsupported);
    }
    let later = events(&device.pass(29 * SECOND));
    assert_eq!(later, [failed(Request::CheckUpdate, RequestFailure::Timeout)]);
    device.start(json!({}));
}

struct Wishing(Option<UpdateMode>);

impl Client for Wishing {
    fn update_mode(&mut self, _: Option<UpdateMode>, _: bool) -> Option<UpdateMode> {
        self.0
    }
}

#[test]
fn a_client_s_wish_is_asked_for_once_and_never_against_an_operator() {
    let wish = |wish, mode| client::deliver(&mut Wishing(wish), &firmware(), &changed(mode, true));
    let managed = Some(UpdateMode::DeviceManaged);
    assert_eq!(wish(managed, Some(UpdateMode::Automatic)), Some(set(UpdateMode::DeviceManaged)));
    assert_eq!(wish(managed, None), Some(set(UpdateMode::DeviceManaged)));
    assert_eq!(wish(managed, managed), None);
    assert_eq!(wish(managed, Some(UpdateMode::Off)), None);
    assert_eq!(wish(Some(UpdateMode::Off), managed), None);
    assert_eq!(wish(None, managed), None);
}
