//! Signed metadata, compared with the offer and with the device before anything is written.

use crate::common::*;
use nerves_hub_link_protocol::limits::{MAX_META_CHARS, MAX_REASON_CHARS};
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

/// What the archive of the usual offer is signed to be.
fn signed() -> FirmwareMeta {
    FirmwareMeta { uuid: NEW_UUID.into(), version: "1.0.0".into(), ..firmware() }
}

/// Accepts an offer whose `firmware_meta` has other values, and has the applier report what it read.
fn run(config: Config, offered: &Value, signed: &FirmwareMeta) -> (Device, OfferId, Vec<Output>) {
    let mut device = Device::joined(config);
    let mut meta = update()["firmware_meta"].clone();
    for (key, value) in offered.as_object().unwrap() {
        meta[key] = value.clone();
    }
    let (offer, _) = device.start(json!({ "firmware_meta": meta }));
    device.head(200, &[("Content-Length", "1000")]);
    device.chunk(&[1; 400]);
    let out = device.input(Input::FirmwareSigned { offer, firmware: signed });
    (device, offer, out)
}

fn goes_on(config: Config, offered: &Value, signed: &FirmwareMeta) {
    let (device, offer, out) = run(config, offered, signed);
    assert!(out.contains(&Output::ContinueApply { offer }), "{offered} {signed:?}: {:?}", device.statuses());
    let told = out.iter().any(|output| {
        matches!(output, Output::Event(Event::FirmwareSigned { offer: told, firmware })
            if *told == offer && firmware.uuid == signed.uuid)
    });
    assert!(told, "{out:?}");
}

/// The update ends with a reason in which all words are found; nothing was written.
#[track_caller]
fn refused(config: Config, offered: &Value, signed: &FirmwareMeta, words: &[&str]) -> String {
    let (device, offer, out) = run(config, offered, signed);
    assert!(out.contains(&Output::CancelApply { offer }), "{offered} {signed:?}");
    assert!(out.iter().any(|output| matches!(output, Output::Abort { .. })), "the download goes on");
    assert!(!device.out.contains(&Output::ContinueApply { offer }));
    let reason = device.failure();
    for word in words {
        assert!(reason.contains(word), "{word:?} is not in {reason:?}");
    }
    assert!(reason.contains("nothing was written"), "{reason}");
    reason
}

#[test]
fn firmware_as_offered_and_for_this_device_is_written() {
    goes_on(config(), &json!({}), &signed());
}

#[test]
fn an_older_firmware_under_a_newer_name_is_refused_with_both_names() {
    let old = FirmwareMeta {
        uuid: "11111111-1111-5111-1111-111111111111".into(),
        version: "1.2.3".into(),
        ..signed()
    };
    refused(config(), &json!({"version": "9.9.9"}), &old, &["1.2.3", "9.9.9", &old.uuid, NEW_UUID]);
}

#[test]
fn every_field_of_an_offer_is_compared() {
    for (field, change) in [
        ("uuid", (|meta: &mut FirmwareMeta, value| meta.uuid = value) as fn(&mut FirmwareMeta, String)),
        ("version", |meta, value| meta.version = value),
        ("product", |meta, value| meta.product = value),
        ("platform", |meta, value| meta.platform = value),
        ("architecture", |meta, value| meta.architecture = value),
    ] {
        // Nothing of the device is in the way here.
        let mut config = config();
        config.firmware = FirmwareMeta::default();
        let right = update()["firmware_meta"][field].as_str().unwrap().to_owned();
        let near = [String::from("other"), format!("{right} "), format!("{right}\0"), String::new()];
        for other in near {
            let mut signed = signed();
            change(&mut signed, other.clone());
            refused(config.clone(), &json!({}), &signed, &[field, "the server offered"]);
            // A field that the server leaves out is not compared.
            for none in [json!(""), Value::Null, json!(17.5)] {
                goes_on(config.clone(), &json!({ field: none }), &signed);
            }
            config.allow_mismatch.offer = true;
            goes_on(config.clone(), &json!({}), &signed);
            config.allow_mismatch.offer = false;
        }
        // UUIDs are the same in any case; names are not.
        let mut signed = signed();
        change(&mut signed, right.to_uppercase());
        match field {
            "uuid" | "version" => goes_on(config, &json!({}), &signed),
            _ => drop(refused(config, &json!({}), &signed, &[field])),
        }
    }
}

#[test]
fn an_offer_that_says_nothing_is_compared_with_the_device_only() {
    let nothing =
        json!({"uuid": null, "version": null, "product": null, "platform": null, "architecture": null});
    goes_on(config(), &nothing, &signed());
    let foreign = FirmwareMeta { platform: "rpi4".into(), ..signed() };
    refused(config(), &nothing, &foreign, &["this device", "platform", "rpi4", "generic"]);
}

#[test]
fn firmware_for_another_device_is_refused_unless_that_is_allowed() {
    for (field, mine, allow) in [
        (
            "product",
            "TestProduct",
            (|allow: &mut AllowMismatch| allow.product = true) as fn(&mut AllowMismatch),
        ),
        ("platform", "generic", |allow| allow.platform = true),
        ("architecture", "x86_64", |allow| allow.architecture = true),
    ] {
        for other in ["other", "", &mine.to_uppercase(), &format!(" {mine}")] {
            let mut signed = signed();
            match field {
                "product" => signed.product = other.into(),
                "platform" => signed.platform = other.into(),
                _ => signed.architecture = other.into(),
            }
            // The server says the same, so the archive is what was offered.
            let offered = json!({ field: other });
            let mut config = config();
            refused(config.clone(), &offered, &signed, &["this device", field, mine, other]);
            // By hand as well.
            let mut by_hand = Device::joined(config.clone());
            let mut meta = update()["firmware_meta"].clone();
            meta[field] = json!(other);
            let (offer, _) = by_hand.start(json!({"firmware_meta": meta, "deployment_id": null}));
            by_hand.input(Input::FirmwareSigned { offer, firmware: &signed });
            assert!(by_hand.failure().contains("this device"));

            let mut others = config.clone();
            others.allow_mismatch.offer = true;
            refused(others, &offered, &signed, &["this device"]);
            allow(&mut config.allow_mismatch);
            goes_on(config.clone(), &offered, &signed);
            // What the device doesn't know can't differ.
            config.allow_mismatch = AllowMismatch::default();
            match field {
                "product" => config.firmware.product.clear(),
                "platform" => config.firmware.platform.clear(),
                _ => config.firmware.architecture.clear(),
            }
            goes_on(config, &offered, &signed);
        }
    }
}

#[test]
fn the_server_s_reading_of_quotes_is_no_mismatch() {
    let mut config = config();
    config.firmware = FirmwareMeta::default();
    let signed = FirmwareMeta { product: r#"Lift "A\B""#.into(), ..signed() };
    goes_on(config.clone(), &json!({"product": r#"Lift "A\B""#}), &signed);
    goes_on(config.clone(), &json!({"product": r#"Lift \"A\\B\""#}), &signed);
    refused(config, &json!({"product": "Lift A\\B"}), &signed, &["product"]);
}

#[test]
fn names_of_any_length_and_of_any_characters_are_compared_and_told_safely() {
    let mut config = config();
    config.firmware = FirmwareMeta::default();
    let long = "x".repeat(MAX_META_CHARS);
    for extra in ["", "y", &"z".repeat(100_000)] {
        let signed = FirmwareMeta { product: format!("{long}{extra}"), ..signed() };
        goes_on(config.clone(), &json!({ "product": format!("{long}{extra}") }), &signed);
    }
    let signed = FirmwareMeta { product: "y".repeat(100_000), ..signed() };
    let reason = refused(config.clone(), &json!({ "product": long }), &signed, &["yyy", "xxx"]);
    assert!(
        reason.chars().count() <= MAX_REASON_CHARS && reason.ends_with("(see allow_mismatch)"),
        "{reason}"
    );
    let hostile = "a\u{1b}[2J\n2026 info: all is well\u{202e}\u{9b}0m\u{7f}";
    let signed = FirmwareMeta { product: hostile.into(), ..signed };
    for reason in [
        refused(config.clone(), &json!({ "product": "b" }), &signed, &[]),
        refused(config, &json!({ "product": format!("{hostile}!") }), &signed, &[]),
    ] {
        let raw = |c: char| {
            c.is_control() || ('\u{200b}'..='\u{200f}').contains(&c) || ('\u{202a}'..='\u{202e}').contains(&c)
        };
        assert!(!reason.contains(raw), "{reason:?}");
    }
}

#[test]
fn the_verdict_is_given_once_and_to_nobody_else() {
    let (mut device, offer, _) = run(config(), &json!({}), &signed());
    for late in [offer, OfferId(offer.0 + 1), OfferId(0)] {
        let other = FirmwareMeta { uuid: "late".into(), ..signed() };
        assert_eq!(device.input(Input::FirmwareSigned { offer: late, firmware: &other }), []);
    }
    device.chunk(&[2; 600]);
    device.end();
    device.input(Input::ApplyDone { offer });
    assert!(device.events().contains(&Event::UpdateCompleted { offer }));
    assert_eq!(device.input(Input::FirmwareSigned { offer, firmware: &signed() }), []);
}

#[test]
fn a_refusal_counts_as_an_attempt() {
    let mut device = Device::joined(config());
    let other = FirmwareMeta { version: "0.0.1".into(), ..signed() };
    for starts in 1..=5 {
        let (offer, _) = device.start(json!({}));
        device.head(200, &[("Content-Length", "1000")]);
        device.chunk(&[1; 400]);
        device.input(Input::FirmwareSigned { offer, firmware: &other });
        assert_eq!(saved(&device.out).last().unwrap()[0].starts, starts);
    }
    let out = device.broadcast("update", update());
    assert!(refusal(&out).unwrap().contains("5 times"));
}

#[test]
fn other_update_tools_speak_of_the_device_in_their_own_words() {
    let mut config = config();
    config.firmware = FirmwareMeta { platform: "of fwup".into(), ..firmware() };
    config.update_tool = UpdateTool::Rauc {
        uuid: UUID.into(),
        version: "0.1.0".into(),
        platform: None,
        product: None,
        compatible: "lift".into(),
        tool_version: "1.13".into(),
    };
    goes_on(config.clone(), &json!({}), &signed());
    refused(config, &json!({"version": "2.0.0"}), &signed(), &["2.0.0"]);
}
