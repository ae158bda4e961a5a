//! Extensions of the application's own: their events pass through as JSON text.

use alloc::format;
use alloc::string::String;

use serde_json::Value;

use super::super::{Context, EXTENSIONS, names};
use super::port::Port;
use super::tell;
use crate::command::CommandError;
use crate::extension::ExtensionEvent;
use crate::limits::{MAX_EXTENSION_PAYLOAD_BYTES, MAX_EXTENSION_PUSHES, MAX_NAME_CHARS};
use crate::phoenix::{Class, Payload};

/// Hands an event to the application.
pub(super) fn received(
    cx: &mut Context<'_>,
    name: &str,
    event: &str,
    payload: Payload<'_>,
) -> Result<(), String> {
    let payload = format!("{}", payload.value()?);
    if event.chars().count() > MAX_NAME_CHARS || payload.len() > MAX_EXTENSION_PAYLOAD_BYTES {
        return Err(format!(
            "an event of the extension {name} has a name of {} or a payload of {} bytes, which is too long",
            event.len(),
            payload.len()
        ));
    }
    tell(cx, ExtensionEvent::Received { name: String::from(name), event: String::from(event), payload });
    Ok(())
}

/// Sends an event of the application.
pub(super) fn push(
    cx: &mut Context<'_>,
    port: Port,
    name: &str,
    event: &str,
    payload: &str,
) -> Result<(), CommandError> {
    if !is_event(event) {
        return Err(CommandError::Unusable("the event's name must be 1 to 64 letters, digits and _ . : / -"));
    }
    if [names::ATTACHED, names::DETACHED, names::ERROR].contains(&event) {
        return Err(CommandError::Unusable("the link itself says what is attached; choose another name"));
    }
    if payload.len() > MAX_EXTENSION_PAYLOAD_BYTES {
        return Err(CommandError::Unusable("the payload has more than 65,536 bytes"));
    }
    let Ok(payload @ Value::Object(_)) = serde_json::from_str(payload) else {
        return Err(CommandError::Unusable("the payload is not a JSON object"));
    };
    port.require()?;
    if cx.wire.held(EXTENSIONS) >= MAX_EXTENSION_PUSHES {
        return Err(CommandError::Busy);
    }
    port.send(cx, format!("{name}:{event}"), payload, Class::Session);
    Ok(())
}

fn is_event(event: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/-".contains(&byte);
    (1..=MAX_NAME_CHARS).contains(&event.len()) && event.bytes().all(letter)
}
