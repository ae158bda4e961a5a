//! The examples of the specification, the bounds, and another implementation of the format.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::limits::{MAX_PAYLOAD_DEPTH, MAX_PAYLOAD_VALUES};

fn value(data: &[u8]) -> Result<Value, de::Error> {
    read(data)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

type Example = (Option<u64>, Option<u64>, &'static str, &'static str, Value, &'static str);

/// Appendix A: the parts of a message and its bytes, whose maps have one key at most or the order of ours.
fn examples() -> Vec<Example> {
    vec![
        (None, Some(3), "phoenix", "heartbeat", json!({}), "95c0a133a770686f656e6978a968656172746265617480"),
        (
            Some(1),
            Some(1),
            "device",
            "phx_join",
            json!({"device_api_version": "2.3.0"}),
            "95a131a131a6646576696365a87068785f6a6f696e81b26465766963655f6170695f76657273696f6ea5322e332e30",
        ),
        (
            None,
            Some(3),
            "phoenix",
            "phx_reply",
            json!({"status": "ok", "response": {}}),
            "95c0a133a770686f656e6978a97068785f7265706c7982a6737461747573a26f6ba8726573706f6e736580",
        ),
        (
            Some(1),
            Some(1),
            "device",
            "phx_reply",
            json!({"status": "ok", "response": {}}),
            "95a131a131a6646576696365a97068785f7265706c7982a6737461747573a26f6ba8726573706f6e736580",
        ),
        (None, None, "device", "identify", json!({}), "95c0c0a6646576696365a86964656e7469667980"),
        (
            Some(5),
            Some(5),
            "extensions",
            "phx_reply",
            json!({"status": "ok", "response": ["geo", "health"]}),
            "95a135a135aa657874656e73696f6e73a97068785f7265706c7982a6737461747573a26f6ba8726573706f6e736592a367656fa66865616c7468",
        ),
        (
            Some(1),
            Some(7),
            "device",
            "fwup_progress",
            json!({"value": 42, "stage": "downloading"}),
            "95a131a137a6646576696365ad667775705f70726f677265737382a576616c75652aa57374616765ab646f776e6c6f6164696e67",
        ),
    ]
}

#[test]
fn the_examples_of_the_specification_are_read_and_written() {
    let mut exact = 0;
    for (join_ref, reference, topic, event, payload, bytes) in examples() {
        let bytes = hex(bytes);
        let message = decode(&bytes).unwrap();
        assert_eq!((&*message.topic, &*message.event), (topic, event));
        assert_eq!((message.join_ref(), message.reference()), (join_ref, reference), "{event}");
        assert_eq!(message.payload.value().unwrap(), payload);
        let Some(reference) = reference else { continue };
        let written = encode(&Outgoing { join_ref, reference, topic, event, payload: &payload }).unwrap();
        // The order of keys is free; ours is the alphabet's.
        assert_eq!(written.len(), bytes.len());
        assert_eq!(decode(&written).unwrap().payload.value().unwrap(), payload);
        if payload.as_object().unwrap().len() < 2 {
            assert_eq!(written, bytes);
            exact += 1;
        }
    }
    assert_eq!(exact, 2);
}

#[test]
fn the_values_of_the_specification_are_read_and_written() {
    assert_eq!(value(&hex("d6ff6a7bc60b")).unwrap(), "2026-08-12T01:02:03Z");
    assert_eq!(value(&hex("d7ff6ce830206a7bc60b")).unwrap(), "2026-08-12T01:02:03.456789Z");
    assert_eq!(value(&hex("c70cff1b3a0c08000000006a7bc60b")).unwrap(), "2026-08-12T01:02:03.456789Z");
    assert_eq!(value(&hex("cb4029000000000000")).unwrap(), 12.5);
    let mut out = Vec::new();
    write::value(&mut out, &json!(12.5)).unwrap();
    assert_eq!(out, hex("cb4029000000000000"));
}

#[test]
fn what_json_does_not_have_becomes_its_nearest() {
    for (bytes, expected) in [
        ("c40161", json!("a")),
        ("81010a", json!({"1": 10})),
        ("81ff0a", json!({"-1": 10})),
        ("ca3f800000", json!(1.0)),
        ("cb7ff8000000000000", Value::Null),
        ("d40500", Value::Null),
        ("d5ff0000", Value::Null),
        ("d30000000000000001", json!(1)),
    ] {
        assert_eq!(value(&hex(bytes)).unwrap(), expected, "{bytes}");
    }
    for bad in ["c1", "a1ff", "c401ff", "81c001", "8190c0", "c0c0", ""] {
        assert!(value(&hex(bad)).is_err(), "{bad}");
    }
}

/// Whether a message can be read and its payload passed over. What can't be passed over can't be read either.
fn is_whole(data: &[u8]) -> bool {
    let Ok(message) = decode(data) else { return false };
    let whole = message.payload.ignore().is_ok();
    assert!(whole || message.payload.value().is_err());
    assert!(whole || message.payload.reply().is_err());
    whole
}

#[test]
fn a_message_has_five_parts_of_the_right_kinds_and_nothing_behind() {
    for good in [
        "95c0c0a161a162c0",
        "95010203a162c0",
        "95c0c0c40161c40162c0",
        "95a130a0a0a090",
        "95ffcac0000000a161a16280",
    ] {
        let ok = is_whole(&hex(good));
        assert_eq!(ok, good != "95010203a162c0", "{good}");
    }
    for bad in [
        "94c0c0a161a162",
        "96c0c0a161a162c0c0",
        "95c0c0a161a162c0c0",
        "95c2c0a161a162c0",
        "95c0c0a1ffa162c0",
        "80",
        "c0",
        "",
    ] {
        assert!(!is_whole(&hex(bad)), "{bad}");
    }
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    for (.., bytes) in examples() {
        let bytes = hex(bytes);
        for end in 0..bytes.len() {
            assert!(!is_whole(&bytes[..end]), "cut at {end}");
        }
    }
}

#[test]
fn announced_lengths_decide_nothing() {
    // Four billion texts, maps, bytes, extensions and list items in a few bytes.
    for bad in ["dbffffffff", "dfffffffff", "c6ffffffff", "c9ffffffffff", "ddffffffff", "ddffffffffc0c0"] {
        let mut message = hex("95c0c0a161a162");
        message.extend(hex(bad));
        assert!(!is_whole(&message), "{bad}");
        assert!(value(&hex(bad)).is_err(), "{bad}");
    }
}

#[test]
fn depth_is_bounded_as_in_json_and_passing_costs_nothing() {
    for (depth, readable) in [(MAX_PAYLOAD_DEPTH, true), (MAX_PAYLOAD_DEPTH + 1, false), (1_000_000, false)] {
        let mut message = hex("95c0c0a161a162");
        message.resize(message.len() + depth - 1, 0x91);
        message.push(0x90);
        let payload = decode(&message).unwrap().payload;
        assert_eq!(payload.value().is_ok(), readable, "{depth}");
        let json = alloc::format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(serde_json::from_str::<Value>(&json).is_ok(), readable, "{depth}");
    }
}

#[test]
fn the_number_of_values_is_bounded() {
    for (more, readable) in [(0, true), (1, false)] {
        let items = MAX_PAYLOAD_VALUES - 1 + more;
        let mut list = vec![0xdd];
        list.extend(u32::try_from(items).unwrap().to_be_bytes());
        list.resize(list.len() + items, 0xc0);
        assert_eq!(value(&list).is_ok(), readable, "{items}");
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_u32..64, any::<u64>()).prop_map(|(shift, number)| Value::from(number >> shift)),
        (0_u32..64, any::<i64>()).prop_map(|(shift, number)| Value::from(number >> shift)),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        (0_usize..70_000).prop_map(|length| Value::from("x".repeat(length))),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..20)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read_and_others_agree(payload in values()) {
        let mut ours = Vec::new();
        write::value(&mut ours, &payload).unwrap();
        prop_assert_eq!(&value(&ours).unwrap(), &payload);
        let theirs = rmp_serde::to_vec(&payload).unwrap();
        prop_assert_eq!(&value(&theirs).unwrap(), &payload);
        prop_assert_eq!(&rmp_serde::from_slice::<Value>(&ours).unwrap(), &payload);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn whatever_others_read_is_read_alike(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let ours = value(&bytes);
        let mut rest = &bytes[..];
        let theirs: Result<Value, _> = rmp_serde::decode::from_read(&mut rest);
        // They read bytes and extensions in other ways; what is neither is the same to both.
        let special = |byte: &u8| (0xc4..=0xc9).contains(byte) || (0xd4..=0xd8).contains(byte);
        if let (Ok(ours), Ok(theirs), false) = (&ours, theirs, bytes.iter().any(special)) {
            prop_assert_eq!(ours, &theirs);
        }
        let _ = decode(&bytes);
        let _ = reply(&bytes);
    }
}
