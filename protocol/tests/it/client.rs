//! The callbacks' defaults, and what an application puts in their place.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::client::{deliver, fallback};
use nerves_hub_link_protocol::*;
use serde_json::json;

struct Defaults;

impl Client for Defaults {}

/// An application that puts everything off.
struct Busy;

impl Client for Busy {
    fn update_available(&mut self, _: &FirmwareMeta, _: &UpdateInfo) -> Option<Decision> {
        Some(Decision::Reschedule { delay: Duration::from_secs(600), reason: None })
    }
}

/// What the defaults or `client` answer to an offer of a firmware, and what comes of it.
fn decided(client: &mut dyn Client, uuid: &str) -> (Device, Option<Command>) {
    let mut device = Device::joined(config());
    let mut update = update();
    update["firmware_meta"]["uuid"] = json!(uuid);
    let out = device.broadcast("update", update);
    let event = events(&out).into_iter().find(|event| matches!(event, Event::UpdateOffered { .. })).unwrap();
    let answer = deliver(client, device.link.running(), &event);
    if let Some(command) = answer.clone() {
        device.command(command);
    }
    (device, answer)
}

#[test]
fn by_default_updates_are_applied_and_the_firmware_that_runs_is_ignored() {
    let (_, answer) = decided(&mut Defaults, "another");
    assert!(matches!(answer, Some(Command::Decide { decision: Decision::Apply, .. })), "{answer:?}");
    let (device, answer) = decided(&mut Defaults, UUID);
    assert!(matches!(answer, Some(Command::Decide { decision: Decision::Ignore { .. }, .. })), "{answer:?}");
    let reason = "already running this firmware";
    assert_eq!(device.statuses().last().unwrap(), &json!({"status": "ignored", "reason": reason}));
    assert_eq!(device.link.status().update, UpdateState::Idle);
}

#[test]
fn what_an_application_overrides_decides_and_the_rest_stays_default() {
    let (device, _) = decided(&mut Busy, UUID);
    assert_eq!(device.statuses().last().unwrap(), &json!({"status": "rescheduled", "delay_for": 600_000}));
    let payload = json!({"uuid": "one", "size": 1, "url": "https://files.example/a.fw"});
    let out = Device::joined(config()).broadcast("archive", payload);
    let offered = |event: &Event| matches!(event, Event::Archive(ArchiveEvent::Offered { .. }));
    let event = events(&out).into_iter().find(offered).unwrap();
    let Event::Archive(ArchiveEvent::Offered { archive, .. }) = event else { panic!() };
    let answer = deliver(&mut Busy, &firmware(), &event);
    let ignored = ArchiveCommand::Decide { archive, decision: ArchiveDecision::Ignore };
    assert_eq!(answer, Some(Command::Archive(ignored)));
}

#[test]
fn events_of_every_kind_are_taken_by_the_defaults() {
    let reason = String::from("x");
    for event in [
        Event::Joined,
        Event::Identify,
        Event::UpdateProgress { offer: OfferId(1), stage: Stage::Updating, percent: 100 },
        Event::UpdateFailed { offer: OfferId(1), reason: reason.clone(), retry_in: None },
        Event::UpdateCompleted { offer: OfferId(1) },
        Event::JoinRefused { reason: reason.clone(), retry_in: Duration::ZERO },
        Event::ChannelLost { reason: reason.clone(), retry_in: Duration::ZERO },
        Event::Disconnected { reason, retry_at: None, retry_in: None },
        Event::RebootRequested,
    ] {
        assert_eq!(deliver(&mut Defaults, &firmware(), &event), None, "{event:?}");
        assert_eq!(fallback(&firmware(), &event), None);
    }
}
