//! Firmware that is older than what runs, or than what ran well here.

use crate::common::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

/// A device that runs a version, and kept another as the newest.
fn strict(running: &str, kept: Option<&str>) -> Config {
    let mut config = config();
    config.refuse_older = true;
    config.firmware.version = running.into();
    config.newest_version = kept.map(Into::into);
    config
}

fn lax(mut config: Config) -> Config {
    config.refuse_older = false;
    config
}

/// The reason why a version is not written, if so, though the server calls it another.
fn verdict(config: Config, version: &str) -> Option<String> {
    let mut device = Device::joined(config);
    let meta = json!({"uuid": NEW_UUID});
    let (offer, _) = device.start(json!({ "firmware_meta": meta }));
    device.head(200, &[]);
    device.chunk(&[1; 400]);
    let signed = FirmwareMeta { uuid: NEW_UUID.into(), version: version.into(), ..firmware() };
    let out = device.input(Input::FirmwareSigned { offer, firmware: &signed });
    if out.contains(&Output::ContinueApply { offer }) {
        return None;
    }
    assert!(out.contains(&Output::CancelApply { offer }));
    Some(device.failure())
}

fn newest(out: &[Output]) -> Vec<&str> {
    out.iter()
        .filter_map(|output| match output {
            Output::SaveNewest { version } => Some(version.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn versions_are_ordered_as_the_server_orders_them() {
    for (running, older, newer) in [
        ("1.2.3", "1.2.2", "1.2.3"),
        ("1.2.3", "0.99.99", "1.2.4-rc.1"),
        ("1.10.0", "1.9.0", "1.11.0"),
        ("1.0.0", "1.0.0-rc.1", "1.0.0"),
        ("1.0.0-rc.2", "1.0.0-rc.1", "1.0.0-rc.10"),
        ("1.0.0-beta", "1.0.0-alpha", "1.0.0-beta.1"),
        // What comes behind a plus doesn't count.
        ("1.0.0+5", "0.9.9+9", "1.0.0+1"),
    ] {
        let reason =
            verdict(strict(running, None), older).unwrap_or_else(|| panic!("{older} after {running}"));
        assert!(
            reason.contains(older) && reason.contains(running) && reason.contains("refuse_older"),
            "{reason}"
        );
        assert_eq!(verdict(strict(running, None), newer), None, "{newer} after {running}");
        // Off by default.
        let config = lax(strict(running, None));
        assert_eq!(verdict(config, older), None);
    }
}

#[test]
fn what_can_not_be_ordered_is_refused() {
    let long = format!("1.0.{}", "9".repeat(2000));
    for version in [
        "",
        "2",
        "2.0",
        "v2.0.0",
        "2.0.0.0",
        " 2.0.0",
        "2.0.0\n",
        "02.0.0",
        "99999999999999999999.0.0",
        &long,
    ] {
        let reason = verdict(strict("1.0.0", None), version).unwrap_or_else(|| panic!("{version:?}"));
        assert!(reason.contains("can't be ordered"), "{reason}");
        assert!(!reason.contains(char::is_control));
    }
}

#[test]
fn the_newest_that_ran_well_counts_even_when_something_older_runs() {
    assert!(verdict(strict("1.0.0", Some("2.0.0")), "1.5.0").unwrap().contains("2.0.0"));
    assert_eq!(verdict(strict("1.0.0", Some("2.0.0")), "2.0.0"), None);
    assert!(verdict(strict("3.0.0", Some("2.0.0")), "2.5.0").unwrap().contains("3.0.0"));
    // What can't be read counts for nothing, and what runs may have no version.
    for kept in [Some("nonsense"), Some(""), None] {
        assert_eq!(verdict(strict("1.0.0", kept), "1.0.0"), None);
        assert_eq!(verdict(strict("", kept), "0.0.1"), None);
    }
    assert!(verdict(strict("", Some("2.0.0")), "1.0.0").is_some());
}

#[test]
fn an_offer_of_something_older_is_refused_before_it_is_fetched_by_hand_too() {
    for by_hand in [false, true] {
        let mut device = Device::joined(strict("1.2.3", None));
        let mut update = update();
        update["firmware_meta"]["version"] = json!("1.2.2");
        if by_hand {
            update["deployment_id"] = json!(null);
        }
        let out = device.broadcast("update", update);
        assert!(refusal(&out).unwrap().contains("older"), "{out:?}");
        assert!(!out.iter().any(|output| matches!(output, Output::Fetch(_))));
        let status = device.statuses().pop().unwrap();
        assert_eq!(status["status"], "failed");
    }
}

#[test]
fn the_newest_is_kept_when_it_proved_good_and_never_lowered() {
    // Known good at the start.
    for (running, kept, saved) in [
        ("1.2.3", None, Some("1.2.3")),
        ("1.2.3", Some("1.2.2"), Some("1.2.3")),
        ("1.2.3", Some("damaged"), Some("1.2.3")),
        ("1.2.3", Some("1.2.3"), None),
        ("1.2.3", Some("1.2.3+other"), None),
        ("1.2.3", Some("2.0.0"), None),
        ("no version", None, None),
    ] {
        let out = Device::new(strict(running, kept)).drain();
        assert_eq!(newest(&out), saved.into_iter().collect::<Vec<_>>(), "{running} {kept:?}");
    }
    assert_eq!(newest(&Device::new(lax(strict("1.2.3", None))).drain()), [""; 0]);

    // On trial: not before it proved good.
    let mut trial = strict("1.2.3", Some("1.0.0"));
    trial.firmware_validated = Some(false);
    let mut device = Device::joined(trial);
    assert_eq!(newest(&device.out), [""; 0]);
    let out = device.command(Command::FirmwareValidated);
    assert_eq!(newest(&out), ["1.2.3"]);
    assert_eq!(newest(&device.command(Command::FirmwareValidated)), [""; 0]);
}

#[test]
fn the_policy_can_be_switched_on_while_the_device_runs() {
    let mut device = Device::joined(lax(strict("1.2.3", None)));
    let out = device.command(Command::Reconfigure(Box::new(strict("9.0.0", Some("8.0.0")))));
    assert_eq!(newest(&out), ["1.2.3"], "what runs and what was kept don't change by settings");
}
