//! Where the device is (device-protocol §5.3).

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::json;

fn geo() -> Config {
    let mut config = config();
    config.extensions = no_extensions();
    config.extensions.geo = true;
    config
}

fn asked(config: Config) -> Device {
    let mut device = Device::attached(config, json!(["geo"]));
    let out = device.extension("geo:location:request", json!({}));
    assert_eq!(extension_events(&out), [ExtensionEvent::LocationRequested]);
    device
}

fn berlin() -> Location {
    Location { source: "gps".into(), latitude: 52.52, longitude: 13.405, accuracy: Some(12) }
}

fn answer(location: Location) -> ExtensionCommand {
    ExtensionCommand::Location(Ok(location))
}

#[test]
fn a_request_is_answered_with_the_location() {
    for config in in_both(geo()) {
        let mut device = asked(config);
        let out = device.command(answer(berlin()).into());
        assert_eq!(
            extension_messages(&out),
            [(
                "geo:location:update".to_owned(),
                json!({"source": "gps", "latitude": 52.52, "longitude": 13.405, "accuracy": 12})
            )]
        );
        let unsure = Location { accuracy: None, latitude: -90.0, longitude: 180.0, ..berlin() };
        let out = device.command(answer(unsure).into());
        assert_eq!(
            extension_messages(&out)[0].1,
            json!({"source": "gps", "latitude": -90, "longitude": 180})
        );
        assert_eq!(extension_events(&device.pass(2 * EXTENSION_ANSWER_TIMEOUT)), []);
    }
}

#[test]
fn a_location_that_can_not_be_told_is_an_error_on_the_wire() {
    let mut device = asked(geo());
    let error = LocationError { code: "HTTP_ERROR".into(), description: "é".repeat(1000) };
    let out = device.command(ExtensionCommand::Location(Err(error)).into());
    let payload = &extension_messages(&out)[0].1;
    assert_eq!(payload["error_code"], "HTTP_ERROR");
    assert_eq!(payload["error_description"].as_str().unwrap().chars().count(), MAX_TEXT_CHARS);
    assert_eq!(payload.as_object().unwrap().len(), 2);
}

#[test]
fn impossible_locations_are_refused() {
    let mut device = asked(geo());
    for (latitude, longitude) in
        [(90.1, 0.0), (-90.1, 0.0), (0.0, 180.1), (0.0, -180.1), (f64::NAN, 0.0), (0.0, f64::INFINITY)]
    {
        let refusal = device.refusal(answer(Location { latitude, longitude, ..berlin() }));
        assert!(matches!(refusal, CommandError::Unusable(_)));
    }
    // The question still waits.
    let out = device.pass(EXTENSION_ANSWER_TIMEOUT);
    assert_eq!(extension_events(&out), [ExtensionEvent::Unanswered { name: "geo".into() }]);
}

#[test]
fn an_application_that_knows_no_place_costs_nothing() {
    let mut device = asked(geo());
    assert_eq!(device.extension("geo:location:request", json!({})), [], "one question at a time");
    let out = device.pass(EXTENSION_ANSWER_TIMEOUT);
    assert_eq!(extension_messages(&out), []);
    let out = device.extension("geo:location:request", json!(null));
    assert_eq!(extension_events(&out), [ExtensionEvent::LocationRequested]);
}

#[test]
fn a_detached_device_keeps_its_place_to_itself() {
    let mut device = asked(geo());
    device.extension("detach", json!({"extensions": ["geo"]}));
    assert_eq!(device.refusal(answer(berlin())), CommandError::NotAttached);
    assert_eq!(extension_events(&device.pass(2 * EXTENSION_ANSWER_TIMEOUT)), []);
}

#[test]
fn long_words_are_cut() {
    let mut device = asked(geo());
    let out = device.command(answer(Location { source: "ä".repeat(100), ..berlin() }).into());
    let source = extension_messages(&out)[0].1["source"].clone();
    assert_eq!(source.as_str().unwrap().chars().count(), MAX_NAME_CHARS);
}
