//! The codec against serde_json's own tree of the whole message: both accept, with the same values, or both refuse.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::codec::Outgoing;
use super::super::envelope::Reference;
use super::{decode, encode};

type Parts = (Reference, Reference, String, String, Value);

fn ours(text: &str) -> Option<Parts> {
    let message = decode(text).ok()?;
    let (join_ref, reference) = (message.join_ref, message.reference);
    Some((
        join_ref,
        reference,
        message.topic.into_owned(),
        message.event.into_owned(),
        message.payload.value().ok()?,
    ))
}

fn theirs(text: &str) -> Option<Parts> {
    let Value::Array(parts) = serde_json::from_str(text).ok()? else { return None };
    let reference = |value: &Value| match value {
        Value::Null => Some(Reference::None),
        Value::Number(number) => Some(number.as_u64().map_or(Reference::Other, Reference::Number)),
        Value::String(text) => {
            let number = text.parse().ok().filter(|number: &u64| number.to_string() == *text);
            Some(number.map_or(Reference::Other, Reference::Number))
        }
        _ => None,
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let [join_ref, own, topic, event, payload, ..] = &parts[..] else { return None };
    Some((reference(join_ref)?, reference(own)?, text(topic)?, text(event)?, payload.clone()))
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Quarters: serde_json reads longer fractions to the nearest but one.
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        any::<String>().prop_map(Value::from),
        "[0-9]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// What may be wrong with a text: something put in, taken out or changed at a place.
fn damage(text: &str, at: usize, with: char, how: u8) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = at % chars.len().max(1);
    match how {
        0 => chars.insert(at, with),
        1 => drop(chars.remove(at)),
        2 => chars[at] = with,
        _ => chars.truncate(at),
    }
    chars.into_iter().collect()
}

proptest! {
    #[test]
    fn a_message_is_what_a_tree_of_it_says(
        parts in proptest::collection::vec(values(), 0..8),
        topic in any::<String>(),
        pretty in any::<bool>(),
        damaged in proptest::option::of((any::<usize>(), "[ \\[\\]{},:\"0-9a\\\\\\x0c-]", 0_u8..4)),
    ) {
        let mut parts = parts;
        // Mostly messages: two names in the middle.
        if parts.len() > 4 {
            parts[2] = Value::from(topic);
            parts[3] = json!("phx_reply");
            if !matches!(parts[0], Value::Null | Value::String(_)) { parts[0] = Value::Null; }
            if !matches!(parts[1], Value::Null | Value::String(_)) { parts[1] = json!("12"); }
        }
        let whole = Value::from(parts);
        let mut text = if pretty { format!("{whole:#}") } else { whole.to_string() };
        if let Some((at, with, how)) = damaged {
            text = damage(&text, at, with.chars().next().unwrap_or(' '), how);
        }
        prop_assert_eq!(ours(&text), theirs(&text), "{}", text);
    }

    #[test]
    fn what_was_written_is_read(
        join_ref in any::<Option<u64>>(),
        reference in any::<u64>(),
        topic in any::<String>(),
        event in any::<String>(),
        payload in values(),
    ) {
        let text = encode(&Outgoing { join_ref, reference, topic: &topic, event: &event, payload: &payload }).unwrap();
        let join_ref = join_ref.map_or(Reference::None, Reference::Number);
        let expected = (join_ref, Reference::Number(reference), topic, event, payload);
        prop_assert_eq!(ours(&text), Some(expected.clone()));
        prop_assert_eq!(theirs(&text), Some(expected));
    }

    #[test]
    fn any_text_is_read_alike(text in any::<String>()) {
        prop_assert_eq!(ours(&text), theirs(&text));
    }
}
