//! What the device offers, what the server attaches, and extensions of the application's own (device-protocol §5.1, A3).

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

fn attached(name: &str, version: &str) -> ExtensionEvent {
    ExtensionEvent::Attached { name: name.into(), version: version.into() }
}

fn both() -> [Config; 2] {
    in_both(weather())
}

#[test]
fn nothing_is_joined_without_an_invitation() {
    let mut device = Device::joined(weather());
    device.pass(20 * SECOND);
    assert!(device.sent().iter().all(|message| message[2] != "extensions"));
    assert!(device.link.extensions().iter().all(|it| !it.attached && it.version.is_none()));
}

#[test]
fn the_best_common_version_of_each_extension_is_offered() {
    for (payload, params) in [
        (json!({"extensions": {"weather": ["0.2.0", "0.0.1"]}}), json!({"weather": "0.2.0"})),
        // The order of ours counts, not the server's.
        (json!({"extensions": {"weather": ["0.0.1", "0.1.0"]}}), json!({"weather": "0.1.0"})),
        (json!({"extensions": {"weather": ["0.0.1"], "health": ["0.0.1"]}}), json!({"weather": "0.0.1"})),
        (
            json!({"extensions": {"weather": ["0.2.0"], "tides": ["1.0.0"]}}),
            json!({"weather": "0.2.0", "tides": "1.0.0"}),
        ),
        // No version in common, or one that only looks alike.
        (json!({"extensions": {"weather": ["0.3.0"], "tides": ["1.0"]}}), json!({})),
        // A value that is no list only costs its own extension.
        (json!({"extensions": {"weather": "0.2.0", "tides": ["1.0.0", 7]}}), json!({"tides": "1.0.0"})),
        (json!({"extensions": {"weather": [2, null, {}]}}), json!({})),
        // Naming nothing is an answer.
        (json!({"extensions": {}}), json!({})),
        (json!({"extensions": []}), json!({})),
        (json!({"extensions": 3}), json!({})),
        (json!({"extensions": "weather"}), json!({})),
        // An older server lists nothing: the oldest of everything.
        (json!({}), json!({"weather": "0.0.1", "tides": "1.0.0"})),
        (json!({"else": 1}), json!({"weather": "0.0.1", "tides": "1.0.0"})),
        (json!([]), json!({"weather": "0.0.1", "tides": "1.0.0"})),
        (json!("get"), json!({"weather": "0.0.1", "tides": "1.0.0"})),
    ] {
        for config in both() {
            let mut device = Device::joined(config);
            assert_eq!(device.invite(payload.clone()), params, "{payload}");
        }
    }
}

#[test]
fn what_the_server_takes_is_attached_and_announced() {
    for config in both() {
        let mut device = Device::joined(config);
        device.invite(json!({"extensions": {"weather": ["0.2.0"], "tides": ["1.0.0"]}}));
        let out = device.accept(json!(["tides", "weather"]));
        let join = device.last_sent("phx_join")[0].clone();
        let announced: Vec<Value> = sent(&out);
        assert_eq!(announced[0], json!([join, "4", "extensions", "tides:attached", {}]));
        assert_eq!(announced[1], json!([join, "5", "extensions", "weather:attached", {}]));
        assert_eq!(extension_events(&out), [attached("tides", "1.0.0"), attached("weather", "0.2.0")]);
        let status = device.link.extensions();
        assert!(status.iter().all(|it| it.attached), "{status:?}");
        assert_eq!(device.link.status().extensions, status);
        assert!(device.link.status().extensions_joined);
        device.down(None);
        assert!(!device.link.status().extensions_joined, "attached, but nothing can be said");
        assert_eq!((status[0].name.as_str(), status[0].version.as_deref()), ("weather", Some("0.2.0")));
    }
}

#[test]
fn what_the_server_leaves_out_is_told() {
    let mut device = Device::joined(weather());
    device.invite(json!({}));
    let out = device.accept(json!(["tides"]));
    assert_eq!(event_names(&extension_messages(&out)), ["tides:attached"]);
    let left_out = ExtensionEvent::NotAccepted { name: "weather".into(), known: false };
    assert_eq!(extension_events(&out), [left_out, attached("tides", "1.0.0")]);
    assert_eq!(device.refusal(of_weather("report", "{}")), CommandError::NotAttached);
}

#[test]
fn what_the_server_does_not_know_is_told_at_once() {
    let mut device = Device::joined(weather());
    let event = json!({"extensions": {"weather": ["0.2.0"]}});
    let out = device.broadcast("extensions:get", event);
    let unknown = ExtensionEvent::NotAccepted { name: "tides".into(), known: false };
    assert_eq!(extension_events(&out), [unknown]);
    // One whose versions are all others is as good as unknown.
    let out =
        device.broadcast("extensions:get", json!({"extensions": {"weather": ["9.9.9"], "tides": ["1.0.0"]}}));
    let unknown = ExtensionEvent::NotAccepted { name: "weather".into(), known: false };
    assert_eq!(extension_events(&out), [unknown]);
}

#[test]
fn an_extension_nobody_offered_is_answered_as_unknown() {
    let mut device = Device::joined(weather());
    device.invite(json!({"extensions": {"weather": ["0.2.0"]}}));
    let out = device.accept(json!(["shiny", "tides", "weather"]));
    let unknown = json!({"reason": "unknown_extension"});
    assert_eq!(
        extension_messages(&out),
        [
            ("shiny:error".to_owned(), unknown.clone()),
            ("tides:error".to_owned(), unknown),
            ("weather:attached".to_owned(), json!({}))
        ]
    );
    // One refused later detaches nothing.
    let error = device.last_sent("shiny:error")[1].clone();
    let join = device.last_sent("phx_join")[0].clone();
    let reply = json!({"status": "error", "response": "detach"});
    device.server(&json!([join, error, "extensions", "phx_reply", reply]));
    assert_eq!(device.link.status().counters.stale_messages, 1);
    assert!(device.link.extensions()[0].attached);
}

#[test]
fn an_answer_that_names_nothing_usable_is_told_and_ignored() {
    for answer in [json!({}), json!("weather"), json!([1]), json!(["weather", null]), json!(null), json!(7)] {
        for config in both() {
            let mut device = Device::joined(config);
            device.invite(json!({}));
            let out = device.accept(answer.clone());
            assert!(matches!(&events(&out)[..], [Event::Malformed { .. }]), "{answer}: {out:?}");
            assert_eq!(device.link.status().connection, ConnectionState::Joined);
            assert_eq!(device.refusal(of_weather("report", "{}")), CommandError::NotAttached);
            // The channel is joined, so an operator can still attach.
            device.extension("attach", json!({"extensions": ["weather"]}));
            device.command(of_weather("report", "{}").into());
        }
    }
}

#[test]
fn names_that_would_break_a_message_are_never_written_into_one() {
    let mut device = Device::joined(weather());
    device.invite(json!({}));
    let bad = ["a\"b", "", "a\\", "a b", "ä", "a:b", "\n"];
    let long = "x".repeat(MAX_NAME_CHARS + 1);
    let mut all: Vec<&str> = bad.to_vec();
    all.extend([long.as_str(), "weather"]);
    let out = device.accept(json!(all));
    assert_eq!(event_names(&extension_messages(&out)), ["weather:attached"]);
    assert!(events(&out).iter().any(|event| matches!(event, Event::Malformed { .. })));
    let out = device.extension("attach", json!({"extensions": all}));
    assert_eq!(event_names(&extension_messages(&out)), ["weather:attached"]);
}

#[test]
fn only_so_many_unknown_names_are_answered() {
    for (count, complaints) in [(MAX_UNKNOWN_EXTENSIONS, 0), (MAX_UNKNOWN_EXTENSIONS + 1, 1)] {
        let mut device = Device::joined(weather());
        device.invite(json!({}));
        let unknown: Vec<String> = (0..count).map(|number| format!("x{number}")).collect();
        let out = device.accept(json!(unknown));
        assert_eq!(extension_messages(&out).len(), MAX_UNKNOWN_EXTENSIONS);
        assert_eq!(
            events(&out).iter().filter(|it| matches!(it, Event::Malformed { .. })).count(),
            complaints
        );
    }
    for (count, attached) in [(MAX_EXTENSION_NAMES, true), (MAX_EXTENSION_NAMES + 1, false)] {
        let mut device = Device::joined(weather());
        device.invite(json!({}));
        device.accept(json!(vec!["weather"; count]));
        assert_eq!(device.link.extensions()[0].attached, attached);
    }
}

#[test]
fn operators_attach_and_detach_at_any_time() {
    for config in both() {
        let mut device = Device::attached(config, json!(["weather"]));
        let out = device.extension("detach", json!({"extensions": ["weather"]}));
        assert_eq!(extension_messages(&out), [("weather:detached".to_owned(), json!({}))]);
        assert!(
            matches!(&extension_events(&out)[..], [ExtensionEvent::Detached { name, .. }] if name == "weather")
        );
        assert_eq!(device.refusal(of_weather("report", "{}")), CommandError::NotAttached);

        let out = device.extension("attach", json!({"extensions": ["weather", 5, "tides"]}));
        assert_eq!(event_names(&extension_messages(&out)), ["weather:attached", "tides:attached"]);
        assert_eq!(extension_events(&out), [attached("weather", "0.0.1"), attached("tides", "1.0.0")]);

        // A single name, and all of them.
        let out = device.extension("detach", json!({"extensions": "tides"}));
        assert_eq!(event_names(&extension_messages(&out)), ["tides:detached"]);
        let out = device.extension("detach", json!({"extensions": "all"}));
        assert_eq!(event_names(&extension_messages(&out)), ["weather:detached"]);
        let out = device.extension("attach", json!({"extensions": "all"}));
        assert_eq!(event_names(&extension_messages(&out)), ["weather:attached", "tides:attached"]);
        // Attaching again only says so.
        let out = device.extension("attach", json!({"extensions": "weather"}));
        assert_eq!(
            (event_names(&extension_messages(&out)), extension_events(&out)),
            (vec!["weather:attached"], vec![])
        );
        // One that is not known is answered, and costs the others nothing.
        let out = device.extension("attach", json!({"extensions": ["shiny", "tides"]}));
        assert_eq!(event_names(&extension_messages(&out)), ["shiny:error", "tides:attached"]);
        assert_eq!(extension_messages(&device.extension("detach", json!({"extensions": ["shiny"]}))), []);
    }
}

#[test]
fn attach_and_detach_without_names_are_warned_of() {
    let mut device = Device::attached(weather(), json!(["weather"]));
    for event in ["attach", "detach"] {
        for payload in
            [json!({}), json!({"extensions": {}}), json!({"extensions": 1}), json!([]), json!(null)]
        {
            let out = device.extension(event, payload);
            assert!(matches!(&events(&out)[..], [Event::Malformed { .. }]), "{out:?}");
            assert_eq!(sent(&out), [] as [Value; 0]);
        }
    }
    assert!(device.link.extensions()[0].attached);
}

#[test]
fn the_application_attaches_and_detaches_by_hand() {
    let mut device = Device::joined(weather());
    let attach = |name: &str| ExtensionCommand::Attach { name: name.into() };
    let detach = |name: &str| ExtensionCommand::Detach { name: name.into() };
    assert_eq!(device.refusal(attach("weather")), CommandError::NotJoined);
    assert_eq!(device.refusal(attach("shiny")), CommandError::UnknownExtension);
    assert_eq!(device.refusal(detach("shiny")), CommandError::UnknownExtension);
    device.invite(json!({"extensions": {"tides": ["1.0.0"]}}));
    device.accept(json!(["tides"]));
    // Not negotiated: the oldest version.
    let out = device.command(attach("weather").into());
    assert_eq!(extension_events(&out), [attached("weather", "0.0.1")]);
    assert_eq!(device.command(attach("weather").into()), []);
    let out = device.command(detach("tides").into());
    assert_eq!(event_names(&extension_messages(&out)), ["tides:detached"]);
    assert_eq!(device.command(detach("tides").into()), []);
}

#[test]
fn an_error_that_says_detach_detaches_whose_push_it_answers() {
    for config in both() {
        let mut device = Device::attached(config, json!(["tides", "weather"]));
        device.command(of_weather("report", r#"{"rain":true}"#).into());
        let report = device.last_sent("weather:report");
        let error = json!({"status": "error", "response": "detach"});
        let out = device.server(&json!([report[0], report[1], "extensions", "phx_reply", error]));
        assert!(
            matches!(&extension_events(&out)[..], [ExtensionEvent::Detached { name, .. }] if name == "weather")
        );
        // The server knows.
        assert_eq!(sent(&out), [] as [Value; 0]);
        assert_eq!(device.refusal(of_weather("report", "{}")), CommandError::NotAttached);
        assert!(device.link.extensions()[1].attached);

        // Any other error is only told.
        let announced = device.last_sent("tides:attached");
        let error = json!({"status": "error", "response": {"reason": "no"}});
        let out = device.server(&json!([announced[0], announced[1], "extensions", "phx_reply", error]));
        assert!(
            matches!(&extension_events(&out)[..], [ExtensionEvent::Problem { name, problem }] if name == "tides" && problem.ends_with("no"))
        );
        assert!(device.link.extensions()[1].attached);
    }
}

#[test]
fn every_connection_has_its_own_offer() {
    let mut device = Device::joined(weather());
    device.invite(json!({"extensions": {"weather": ["0.2.0"], "tides": ["1.0.0"]}}));
    device.accept(json!(["weather", "tides"]));
    device.down(None);
    // They go on, but nothing can be sent.
    assert!(device.link.extensions()[0].attached);
    assert_eq!(device.refusal(of_weather("report", "{}")), CommandError::NotAttached);
    device.out.clear();
    device.come_back_after(1);
    device.pass(10 * SECOND);
    assert!(device.sent().iter().all(|message| message[2] != "extensions"), "joined without invitation");

    // Another version now: the old one stops first.
    assert_eq!(
        device.invite(json!({"extensions": {"weather": ["0.1.0"], "tides": ["1.0.0"]}}))["weather"],
        "0.1.0"
    );
    let out = device.accept(json!(["weather", "tides"]));
    assert_eq!(event_names(&extension_messages(&out)), ["weather:attached", "tides:attached"]);
    let news = extension_events(&out);
    // The one that stayed the same is announced to the server and no news.
    assert!(
        matches!(&news[..], [ExtensionEvent::Detached { .. }, ExtensionEvent::Attached { version, .. }] if version == "0.1.0"),
        "{news:?}"
    );

    // Left out this time: it stops without a word to the server.
    device.down(None);
    device.come_back_after(2);
    device.invite(json!({"extensions": {"tides": ["1.0.0"]}}));
    let out = device.accept(json!(["tides"]));
    assert_eq!(event_names(&extension_messages(&out)), ["tides:attached"]);
    assert!(
        matches!(&extension_events(&out)[..], [ExtensionEvent::Detached { name, .. }] if name == "weather")
    );
}

#[test]
fn a_second_invitation_on_a_connection_joins_anew() {
    let mut device = Device::attached(weather(), json!(["weather"]));
    let first = device.last_sent("phx_join")[0].clone();
    let out = device.broadcast("extensions:get", json!({"extensions": {"weather": ["0.2.0"]}}));
    let messages = sent(&out);
    assert_eq!(messages[0][3], "phx_leave");
    assert_eq!(messages[0][0], first);
    assert_eq!((&messages[1][3], &messages[1][4]), (&json!("phx_join"), &json!({"weather": "0.2.0"})));
    assert_eq!(device.refusal(of_weather("report", "{}")), CommandError::NotAttached);
    let out = device.accept(json!(["weather"]));
    assert_eq!(event_names(&extension_messages(&out)), ["weather:attached"]);
    device.command(of_weather("report", "{}").into());
}

#[test]
fn what_the_server_does_not_name_again_says_nothing() {
    let mut device = Device::attached(weather(), json!(["weather"]));
    device.invite(json!({}));
    // It runs on, but this server can't know.
    device.accept(json!("nonsense"));
    assert!(device.link.extensions()[0].attached);
    assert_eq!(device.refusal(of_weather("report", "{}")), CommandError::NotAttached);
    device.extension("attach", json!({"extensions": ["weather"]}));
    device.command(of_weather("report", "{}").into());
}

#[test]
fn a_lost_channel_is_joined_again_with_the_same_offer() {
    let mut device = Device::joined(weather());
    let offered = device.invite(json!({"extensions": {"weather": ["0.1.0"]}}));
    device.accept(json!(["weather"]));
    for (event, payload) in [("phx_error", json!({"reason": "channel_crash"})), ("phx_close", json!({}))] {
        let join = device.last_sent("phx_join")[0].clone();
        let out = device.server(&json!([join, join, "extensions", event, payload]));
        assert!(matches!(&extension_events(&out)[..], [ExtensionEvent::ChannelLost { .. }]), "{out:?}");
        assert_eq!(device.link.status().connection, ConnectionState::Joined);
        assert_eq!(device.refusal(of_weather("report", "{}")), CommandError::NotAttached);
        let out = device.pass(5 * SECOND);
        assert_eq!(extension_messages(&out), [("phx_join".to_owned(), offered.clone())]);
        let out = device.accept(json!(["weather"]));
        assert_eq!(
            (event_names(&extension_messages(&out)), extension_events(&out)),
            (vec!["weather:attached"], vec![])
        );
        device.command(of_weather("report", "{}").into());
    }
}

#[test]
fn a_refused_join_is_tried_again() {
    let mut device = Device::joined(weather());
    device.invite(json!({}));
    let join = device.last_sent("phx_join");
    let reply = json!({"status": "error", "response": {"reason": "join crashed"}});
    let out = device.server(&json!([join[0], join[1], "extensions", "phx_reply", reply]));
    assert!(
        matches!(&extension_events(&out)[..], [ExtensionEvent::ChannelLost { reason, .. }] if reason.ends_with("join crashed"))
    );
    assert_eq!(event_names(&extension_messages(&device.pass(5 * SECOND))), ["phx_join"]);
}

#[test]
fn an_unanswered_join_is_left_and_tried_again() {
    let mut device = Device::joined(weather());
    device.invite(json!({}));
    let out = device.pass(15 * SECOND);
    assert_eq!(event_names(&extension_messages(&out)), ["phx_leave", "phx_join"]);
}

#[test]
fn an_uninvited_join_is_an_option() {
    let mut config = weather();
    config.extensions.join_uninvited = true;
    let mut device = Device::joined(config.clone());
    assert_eq!(extension_messages(&device.pass(Duration::from_millis(4999))), []);
    assert_eq!(device.link.deadline().unwrap().why, Timer::Extensions);
    let out = device.pass(Duration::from_millis(1));
    assert_eq!(
        extension_messages(&out),
        [("phx_join".to_owned(), json!({"weather": "0.0.1", "tides": "1.0.0"}))]
    );
    // An invitation in time makes it needless, a lost connection pointless.
    let mut device = Device::joined(config.clone());
    device.invite(json!({"extensions": {}}));
    device.accept(json!([]));
    assert_eq!(extension_messages(&device.pass(10 * SECOND)), []);
    let mut device = Device::joined(config);
    device.down(None);
    assert_eq!(extension_messages(&device.pass(10 * SECOND)), []);
}

#[test]
fn impossible_extensions_are_refused_with_their_name() {
    let link = |extensions: Vec<ThirdPartyExtension>| {
        let mut config = config();
        config.extensions.third_party = extensions;
        Link::new(config, 0, Now::default()).err()
    };
    let many = |count: usize| (0..count).map(|number| third_party(&format!("x{number}"), &["1"])).collect();
    assert_eq!(link(many(MAX_THIRD_PARTY_EXTENSIONS)), None);
    assert!(link(many(MAX_THIRD_PARTY_EXTENSIONS + 1)).is_some());
    assert_eq!(link(vec![third_party(&"x".repeat(MAX_NAME_CHARS), &["1"; MAX_EXTENSION_VERSIONS])]), None);
    let long = "x".repeat(MAX_NAME_CHARS + 1);
    for bad in [
        third_party("", &["1"]),
        third_party("a:b", &["1"]),
        third_party("a\"b", &["1"]),
        third_party("ä", &["1"]),
        third_party("health", &["1"]),
        third_party("components", &["1"]),
        third_party(&long, &["1"]),
        third_party("weather", &[]),
        third_party("weather", &[""]),
        third_party("weather", &["1 "]),
        third_party("weather", &["1"; MAX_EXTENSION_VERSIONS + 1]),
    ] {
        let error = link(vec![bad.clone()]);
        assert!(matches!(&error, Some(ConfigError::Extension { .. })), "{bad:?}: {error:?}");
    }
    let twice = vec![third_party("weather", &["1"]), third_party("weather", &["2"])];
    assert!(link(twice).unwrap().to_string().contains("weather"));
}
