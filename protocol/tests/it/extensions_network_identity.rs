//! Names in overlay networks (device-protocol §5.5, A10).

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_secs(300);

fn network() -> Config {
    let mut config = config();
    config.extensions = no_extensions();
    config.extensions.network_identity = Some(NetworkIdentityConfig::default());
    config.heartbeat = Duration::ZERO;
    config
}

fn attached() -> Device {
    Device::attached(network(), json!(["network_identity"]))
}

fn iroh() -> NetworkIdentity {
    NetworkIdentity {
        instance: Some("console".into()),
        details: r#"{"relay": "https://relay.example.org/", "ports": [1, 2]}"#.into(),
        ..NetworkIdentity::new("iroh", "ae58")
    }
}

fn wireguard() -> NetworkIdentity {
    NetworkIdentity::new("wireguard", "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=")
}

fn list(identities: &[NetworkIdentity]) -> Command {
    ExtensionCommand::NetworkIdentities(identities.to_vec()).into()
}

/// The services in the reports among some outputs, a list per message.
fn reported(out: &[Output]) -> Vec<Vec<String>> {
    let services = |(event, payload): &(String, Value)| {
        assert_eq!(event, "network_identity:report");
        let identities = payload["identities"].as_array().unwrap();
        identities.iter().map(|identity| identity["service"].as_str().unwrap().to_owned()).collect()
    };
    extension_messages(out).iter().map(services).collect()
}

fn problems(out: &[Output]) -> Vec<String> {
    let text = |event| match event {
        ExtensionEvent::Problem { problem, .. } => Some(problem),
        _ => None,
    };
    extension_events(out).into_iter().filter_map(text).collect()
}

/// Asks as the server does.
fn request(device: &mut Device) {
    let out = device.extension("network_identity:request", json!({}));
    assert_eq!(extension_events(&out), [ExtensionEvent::NetworkIdentitiesRequested]);
}

/// Waits until the device looks itself.
fn poll(device: &mut Device) {
    let out = device.pass(POLL);
    assert_eq!(extension_events(&out), [ExtensionEvent::NetworkIdentitiesRequested]);
}

#[test]
fn a_request_is_answered_with_all_identities() {
    for config in in_both(network()) {
        let mut device = Device::attached(config, json!(["network_identity"]));
        request(&mut device);
        let out = device.command(list(&[iroh(), wireguard()]));
        // As recorded.
        assert_eq!(
            extension_messages(&out),
            [(
                "network_identity:report".to_owned(),
                json!({"identities": [
                    {"instance": "console", "service": "iroh", "identifier": "ae58",
                        "details": {"relay": "https://relay.example.org/", "ports": [1, 2]}},
                    {"service": "wireguard", "identifier": "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
                        "details": {}},
                ]})
            )]
        );
        // Also what the server knows already.
        request(&mut device);
        assert_eq!(reported(&device.command(list(&[iroh(), wireguard()]))), [["iroh", "wireguard"]]);
    }
}

#[test]
fn the_list_is_told_unasked_and_one_by_one() {
    let mut device = attached();
    assert_eq!(reported(&device.command(list(&[iroh()]))), [["iroh"]]);
    assert_eq!(reported(&device.command(list(&[iroh()]))), [["iroh"]], "unasked, all of it");
    let one = ExtensionCommand::NetworkIdentity(NetworkIdentity::new("zerotier", "abc"));
    // The server may not know the service; that is its own affair.
    assert_eq!(reported(&device.command(one.into())), [["zerotier"]]);
    let nothing = ExtensionCommand::NetworkIdentity(NetworkIdentity::new("iroh", ""));
    assert!(matches!(device.refusal(nothing), CommandError::Unusable(_)));
}

#[test]
fn a_device_without_identities_says_nothing() {
    let mut device = attached();
    request(&mut device);
    assert_eq!(device.command(list(&[])), []);
    request(&mut device);
    let out = device.pass(EXTENSION_ANSWER_TIMEOUT);
    assert_eq!(extension_events(&out), [ExtensionEvent::Unanswered { name: "network_identity".into() }]);
    assert_eq!(extension_messages(&out), []);
}

#[test]
fn the_device_looks_itself_and_sends_only_what_changed() {
    let mut device = attached();
    // The first look comes one interval after the start, and finds everything new.
    assert_eq!(extension_events(&device.pass(299 * SECOND)), []);
    let out = device.pass(SECOND);
    assert_eq!(extension_events(&out), [ExtensionEvent::NetworkIdentitiesRequested]);
    assert_eq!(reported(&device.command(list(&[iroh(), wireguard()]))), [["iroh", "wireguard"]]);
    poll(&mut device);
    assert_eq!(device.command(list(&[iroh(), wireguard()])), [], "nothing changed, nothing sent");
    // A detail changed though the key is the same.
    let moved = NetworkIdentity { details: r#"{"relay": "https://other.example.org/"}"#.into(), ..iroh() };
    poll(&mut device);
    assert_eq!(reported(&device.command(list(&[moved.clone(), wireguard()]))), [["iroh"]]);
    // Written in another way, but the same.
    let same = NetworkIdentity { details: r#"  {"relay":"https://other.example.org/"}"#.into(), ..iroh() };
    poll(&mut device);
    assert_eq!(device.command(list(&[same, wireguard()])), []);
    // One that is silent is forgotten, and told again when it returns.
    poll(&mut device);
    assert_eq!(device.command(list(std::slice::from_ref(&moved))), []);
    poll(&mut device);
    assert_eq!(reported(&device.command(list(&[moved, wireguard()]))), [["wireguard"]]);
}

#[test]
fn a_look_that_finds_nothing_is_no_news() {
    let mut device = attached();
    poll(&mut device);
    assert_eq!(device.pass(EXTENSION_ANSWER_TIMEOUT), []);
    // Asked by the server meanwhile, it is one.
    device.pass(270 * SECOND);
    device.extension("network_identity:request", json!({}));
    let out = device.pass(EXTENSION_ANSWER_TIMEOUT);
    assert_eq!(extension_events(&out), [ExtensionEvent::Unanswered { name: "network_identity".into() }]);
}

#[test]
fn one_told_at_once_is_not_repeated_by_the_next_look() {
    let mut device = attached();
    device.command(ExtensionCommand::NetworkIdentity(iroh()).into());
    poll(&mut device);
    assert_eq!(reported(&device.command(list(&[iroh(), wireguard()]))), [["wireguard"]]);
}

#[test]
fn a_request_meanwhile_makes_the_answer_whole() {
    let mut device = attached();
    device.command(list(&[iroh()]));
    poll(&mut device);
    assert_eq!(device.extension("network_identity:request", json!({})), [], "asked already");
    assert_eq!(reported(&device.command(list(&[iroh()]))), [["iroh"]]);
    // Only that once.
    poll(&mut device);
    assert_eq!(device.command(list(&[iroh()])), []);
}

#[test]
fn what_was_sent_is_remembered_only_if_it_was_sent() {
    let mut device = attached();
    device.down(None);
    assert_eq!(device.refusal(list(&[iroh()])), CommandError::NotAttached);
    device.come_back_after(1);
    device.invite(json!({}));
    device.accept(json!(["network_identity"]));
    poll(&mut device);
    assert_eq!(reported(&device.command(list(&[iroh()]))), [["iroh"]]);
}

#[test]
fn the_interval_is_five_minutes_or_configured_and_may_be_off() {
    assert_eq!(NetworkIdentityConfig::default().interval, POLL);
    for (interval, first) in [(1, Some(60)), (61, Some(61)), (0, None)] {
        let mut config = network();
        config.extensions.network_identity = Some(NetworkIdentityConfig { interval: interval * SECOND });
        let mut device = Device::attached(config, json!(["network_identity"]));
        let Some(first) = first else {
            assert_eq!(device.link.deadline(), None);
            continue;
        };
        assert_eq!(device.link.deadline().unwrap().why, Timer::NetworkIdentity);
        assert_eq!(extension_events(&device.pass((first - 1) * SECOND)), []);
        assert_eq!(extension_events(&device.pass(SECOND)).len(), 1);
    }
}

#[test]
fn a_bad_identity_costs_the_others_nothing() {
    let mut device = attached();
    let longest = "ä".repeat(MAX_IDENTITY_CHARS);
    let long = format!("{longest}ä");
    let with = |change: fn(&mut NetworkIdentity, &str), text: &str| {
        let mut identity = NetworkIdentity::new("tailscale", "id");
        change(&mut identity, text);
        identity
    };
    let service: fn(&mut NetworkIdentity, &str) = |identity, text| identity.service = text.into();
    let identifier: fn(&mut NetworkIdentity, &str) = |identity, text| identity.identifier = text.into();
    let instance: fn(&mut NetworkIdentity, &str) = |identity, text| identity.instance = Some(text.into());
    let details: fn(&mut NetworkIdentity, &str) = |identity, text| identity.details = text.into();
    let object = |length: usize| format!(r#"{{"k":"{}"}}"#, "x".repeat(length - 8));
    for bad in [
        with(service, ""),
        with(service, &long),
        with(identifier, ""),
        with(identifier, "  "),
        with(identifier, &long),
        with(instance, &long),
        with(details, ""),
        with(details, "[]"),
        with(details, "{"),
        with(details, &object(MAX_DETAILS_BYTES + 1)),
    ] {
        let out = device.command(list(&[bad.clone(), wireguard()]));
        assert_eq!(reported(&out), [["wireguard"]], "{bad:?}");
        let problems = problems(&out);
        assert!(problems.len() == 1 && problems[0].starts_with("identity 1 left out"), "{problems:?}");
        let one = ExtensionCommand::NetworkIdentity(bad);
        assert!(matches!(device.refusal(one), CommandError::Unusable(_)));
    }
    for good in
        [with(identifier, &longest), with(instance, &longest), with(details, &object(MAX_DETAILS_BYTES))]
    {
        assert_eq!(problems(&device.command(list(&[good]))), [] as [&str; 0]);
    }
    // A blank instance is none, and is never sent.
    let out = device.command(list(&[with(instance, " ")]));
    assert_eq!(extension_messages(&out)[0].1["identities"][0].get("instance"), None);
    // Two with one name: the first counts.
    let out = device.command(list(&[wireguard(), NetworkIdentity::new("wireguard", "other")]));
    assert_eq!((reported(&out), problems(&out).len()), (vec![vec!["wireguard".to_owned()]], 1));
}

#[test]
fn messages_hold_ten_and_devices_thirty_two() {
    let many = |count: usize| -> Vec<NetworkIdentity> {
        let instance = |number: usize| NetworkIdentity {
            instance: Some(format!("i{number}")),
            ..NetworkIdentity::new("iroh", format!("id{number}"))
        };
        (0..count).map(instance).collect()
    };
    for (count, sizes) in [(10, vec![10]), (11, vec![10, 1]), (MAX_IDENTITIES, vec![10, 10, 10, 2])] {
        let mut device = attached();
        let out = device.command(list(&many(count)));
        assert_eq!(reported(&out).iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        assert_eq!(problems(&out), [] as [&str; 0]);
    }
    let out = attached().command(list(&many(MAX_IDENTITIES + 1)));
    assert_eq!((reported(&out).concat().len(), problems(&out).len()), (MAX_IDENTITIES, 1));
    assert_eq!(problems(&attached().command(list(&many(1000)))).len(), 1);
}
