//! Plain words for a refused or closed connection: what, why, what to do.

use alloc::format;
use alloc::string::String;

use super::names;
use crate::config::Auth;
use crate::http;
use crate::input::HeaderRef;
use crate::limits::MAX_TEXT_CHARS;
use crate::refusal::Refusal;
use crate::text::cut;

/// What servers say when a request has no credentials at all.
const NO_CREDENTIALS: &str = "no certificate pair";

/// Returns what an HTTP status means with which the server answered the upgrade, before anything was learned from it.
/// A 403 can mean the version or the path; `redirected` says that the address came from another server.
pub(super) fn kind(status: u16, headers: &[HeaderRef<'_>], body: &[u8], redirected: bool) -> Refusal {
    match status {
        401 if said(headers, body).is_some_and(|said| said.contains(NO_CREDENTIALS)) => {
            Refusal::NoCredentials
        }
        401 => Refusal::Credentials,
        403 | 404 | 410 | 426 => Refusal::WrongPath,
        407 => Refusal::Proxy,
        429 => Refusal::Busy,
        408 | 500..=599 => Refusal::ServerTrouble,
        300..=399 => Refusal::Redirect,
        // A device endpoint sends a path it doesn't serve to the documentation (spec §1.13).
        _ if redirected => Refusal::WrongPath,
        200..=299 => Refusal::WrongPath,
        _ => Refusal::Other,
    }
}

/// Explains an HTTP status with which the server answered the upgrade (spec §1.13).
pub(super) fn refused(status: u16, headers: &[HeaderRef<'_>], body: &[u8], auth: &Auth) -> String {
    let said = said(headers, body);
    let meaning = match status {
        401 if said.as_deref().is_some_and(|said| said.contains(NO_CREDENTIALS)) => {
            "The server got no credentials: check that a key and secret or a client \
             certificate are configured, and that no proxy removes headers."
        }
        401 => match auth {
            Auth::SharedSecret(_) => {
                "The server refused the credentials. It never says which part is wrong: check the \
                 key, the secret and the identifier, that shared secrets are enabled, that the identifier is not used in \
                 another product, and the device's clock."
            }
            Auth::Certificate => {
                "The server refused the client certificate: check that the device or its certificate authority is \
                 registered, and that nothing between device and server ends TLS."
            }
        },
        403 => {
            "The server forbids the connection: it does not know this protocol version, or the path \
             belongs to another service. Check that the host is a NervesHub device endpoint."
        }
        400 => {
            "The server did not take the request for a WebSocket upgrade: a proxy may not support WebSockets."
        }
        404 => "The server has no device socket here: check that the host is a NervesHub device endpoint.",
        407 => "The proxy wants credentials: configure them.",
        408 | 504 => "The server or a proxy waited too long. It is tried again.",
        429 => "The server takes no more connections for now. It is tried again.",
        502 => "A proxy can't reach the server. It is tried again.",
        503 => {
            "The server can't authenticate devices for now; nothing is wrong with the device. It is tried again."
        }
        300..=399 => "The server sends the device elsewhere, but not to a usable address: check the host.",
        500..=599 => "The server failed. It is tried again.",
        _ => "The server did not switch to WebSocket: check that the host is a NervesHub device endpoint.",
    };
    match said {
        Some(said) => format!("HTTP {status}. {meaning} The server says: {said}"),
        None => format!("HTTP {status}. {meaning}"),
    }
}

/// Explains a close code (spec §1.12).
pub(super) fn closed(code: Option<u16>, reason: &str) -> String {
    let meaning = match code {
        None => "the connection broke",
        Some(1000) => "the server ended the connection",
        Some(1001) => {
            "the server ended the connection: an operator asked for it, or the device connected again"
        }
        Some(1002) => "the server heard nothing for too long, or saw a protocol error",
        Some(1007) => "the server got text that is not UTF-8",
        Some(1009) => "the server found a message too big",
        Some(1011) => "the server's side of the connection crashed",
        Some(1012) => "the server restarts",
        Some(_) => "the connection was closed",
    };
    let reason = cut(reason, MAX_TEXT_CHARS);
    match (code, reason.is_empty()) {
        (Some(code), true) => format!("{meaning} (code {code})"),
        (Some(code), false) => format!("{meaning} (code {code}): {reason}"),
        (None, true) => String::from(meaning),
        (None, false) => format!("{meaning}: {reason}"),
    }
}

/// Returns the server's own words: the header meant for it, or a body of plain text.
fn said(headers: &[HeaderRef<'_>], body: &[u8]) -> Option<String> {
    let header = http::header(headers, names::ERROR_REASON_HEADER).filter(|text| !text.is_empty());
    let body = core::str::from_utf8(body).ok().map(str::trim);
    let plain = |text: &&str| !text.is_empty() && !text.starts_with('<') && !text.chars().any(is_control);
    header.or_else(|| body.filter(plain)).map(|text| cut(text, MAX_TEXT_CHARS))
}

fn is_control(letter: char) -> bool {
    letter.is_control() && letter != '\n' && letter != '\t'
}
