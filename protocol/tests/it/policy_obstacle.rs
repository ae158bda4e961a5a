//! A device that knows that it can't install anything puts updates off, and says why.

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const HOUR: u64 = 3_600_000;

fn obstacle(reason: &str) -> Command {
    Command::InstallObstacle { reason: Some(reason.into()) }
}

const GONE: Command = Command::InstallObstacle { reason: None };

fn put_off(reason: &str, hours: u64) -> Value {
    json!({"status": "rescheduled", "delay_for": hours * HOUR, "reason": reason})
}

#[test]
fn offers_are_put_off_for_longer_and_longer_until_the_obstacle_is_gone() {
    let mut device = Device::joined(config());
    let out = device.command(obstacle("the disk is read-only"));
    assert_eq!(events(&out), [Event::InstallObstacle { reason: Some("the disk is read-only".into()) }]);
    assert_eq!(device.link.status().install_obstacle.as_deref(), Some("the disk is read-only"));
    assert_eq!(events(&device.command(obstacle("the disk is read-only"))), [], "told once");
    for (time, hours) in [1, 2, 4, 8, 16, 24, 24].into_iter().enumerate() {
        let mut offered = update();
        if time % 2 == 1 {
            // A person can't change it either.
            offered["deployment_id"] = Value::Null;
        }
        let out = device.broadcast("update", offered);
        assert_eq!(refusal(&out).as_deref(), Some("the disk is read-only"));
        assert_eq!(device.statuses()[time..], [put_off("the disk is read-only", hours)]);
    }
    // Another reason is no reason to be asked more often.
    device.command(obstacle("the disk is missing"));
    device.broadcast("update", update());
    assert_eq!(device.statuses().pop(), Some(put_off("the disk is missing", 24)));

    let out = device.command(GONE);
    assert_eq!(events(&out), [Event::InstallObstacle { reason: None }]);
    assert_eq!(device.link.status().install_obstacle, None);
    // The same firmware isn't held back any longer.
    let out = device.broadcast("update", update());
    assert!(matches!(&events(&out)[..], [Event::UpdateOffered { .. }]), "{out:?}");
    device.command(obstacle("again"));
    let Some(Event::UpdateOffered { offer, .. }) =
        device.events().into_iter().rfind(|event| matches!(event, Event::UpdateOffered { .. }))
    else {
        panic!()
    };
    // It came up while the application thought.
    let out = device.command(Command::Decide { offer, decision: Decision::Apply });
    assert_eq!(refusal(&out).as_deref(), Some("again"));
    assert!(!out.iter().any(|output| matches!(output, Output::StartApply(_) | Output::Fetch(_))));
    assert_eq!(device.statuses().pop(), Some(put_off("again", 1)));
}

#[test]
fn an_update_that_fails_because_of_it_is_put_off_and_no_firmware_is_blamed() {
    let mut device = Device::joined(config());
    let (offer, _) = device.start(json!({}));
    device.command(obstacle("the disk is gone"));
    let out = device.input(Input::ApplyFailed { offer, reason: "cannot write" });
    assert!(
        matches!(&events(&out)[..], [Event::UpdateFailed { reason, .. }] if reason.contains("cannot write"))
    );
    assert_eq!(device.statuses().pop(), Some(put_off("the disk is gone", 1)));
    assert_eq!(saved(&out), [vec![]], "the start does not count");
    // Without one a failure is a failure.
    device.command(GONE);
    let (offer, _) = device.start(json!({}));
    device.input(Input::ApplyFailed { offer, reason: "bad image" });
    assert_eq!(device.statuses().pop().unwrap()["status"], "failed");
}

#[test]
fn the_reason_is_bounded() {
    for (length, kept) in [(MAX_REASON_CHARS, MAX_REASON_CHARS), (MAX_REASON_CHARS + 1, MAX_REASON_CHARS)] {
        let mut device = Device::joined(config());
        device.command(obstacle(&"x".repeat(length)));
        assert_eq!(device.link.status().install_obstacle.unwrap().chars().count(), kept);
    }
}
