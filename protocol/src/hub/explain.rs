//! Plain words for a refused or closed connection: what, why, what to do.

use alloc::format;
use alloc::string::String;

use super::auth::clock::Doubt;
use super::names;
use crate::config::Auth;
use crate::http;
use crate::input::HeaderRef;
use crate::limits::MAX_TEXT_CHARS;
use crate::refusal::Refusal;
use crate::text::cut;

/// What servers say when a request has no credentials at all.
const NO_CREDENTIALS: &str = "no certificate pair";

/// Explains why the `Date` of a refusal is not believed.
pub(super) const fn doubt(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Source => {
            "The answer's date differs from the device's clock, but without TLS from the configured server it proves \
             nothing: set the device's clock, or use wss://."
        }
        Doubt::Range => {
            "The server's date is not plausible and is not used: set the server's clock. If it is right, the software of \
             this device is too old to believe it; set the device's own clock."
        }
        Doubt::Drift => {
            "The server's date differs by more than 10 minutes from what it was a while ago, and is not used yet: check \
             the server's clock."
        }
    }
}

/// Explains why a server that a redirect led to got no credentials.
pub(super) const FOREIGN: &str = " The device proves who it is to the configured server and the trusted origins alone, and \
     this is neither: correct the host, or list this origin if it belongs to the server.";

/// Explains a refusal that the device's clock is to blame for.
pub(super) const CLOCK: &str =
    "The device's clock is wrong, so its signature was not valid. The next attempt uses the server's time.";

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
        511 => Refusal::LoginPage,
        408 | 500..=599 => Refusal::ServerTrouble,
        300..=399 => Refusal::Redirect,
        // A device endpoint sends a path it doesn't serve to the documentation (device-protocol §1.13).
        _ if redirected => Refusal::WrongPath,
        200..=299 if is_page(headers, body) => Refusal::LoginPage,
        200..=299 => Refusal::WrongPath,
        _ => Refusal::Other,
    }
}

/// Explains an HTTP status with which the server answered the upgrade (device-protocol §1.13), without repeating it.
pub(super) fn refused(status: u16, headers: &[HeaderRef<'_>], body: &[u8], auth: &Auth) -> String {
    let said = said(headers, body);
    let meaning = match status {
        401 if said.as_deref().is_some_and(|said| said.contains(NO_CREDENTIALS)) => {
            "The server got no credentials: check that a key and secret or a client \
             certificate are configured, and that no proxy removes headers."
        }
        401 => match auth {
            Auth::SharedSecret(_) => {
                "The server rejected the credentials. It never says which part is wrong. Check the key, the secret and \
                 the identifier; that shared secrets are enabled; that the identifier is not used in another product; \
                 that the device was not deleted on the server; and the device's clock."
            }
            Auth::Certificate => {
                "The server rejected the client certificate. Check that the device or its certificate authority is \
                 registered, that the device was not deleted on the server, and that nothing between device and server \
                 ends TLS."
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
        407 => {
            "A proxy on the way to the server wants credentials, and this device has none for it. Ask whoever runs the \
             network."
        }
        408 | 504 => "The server or a proxy waited too long. Nothing is wrong with the device.",
        410 | 426 => {
            "There is no device socket at this address any more. Check that the host is a NervesHub device endpoint."
        }
        429 => "The server takes no more connections for now. Nothing is wrong with the device.",
        502 => "A proxy before the server can't reach it. Nothing is wrong with the device.",
        503 => "The server can't authenticate devices for now. Nothing is wrong with the device.",
        511 => {
            "The network wants a login before it lets the device through: open a web page from this network and log in, \
             or ask whoever runs it to let the device pass. The device tries on."
        }
        300..=399 => {
            "The device is sent elsewhere, but not to a usable address: check the host, and whether the network has a \
             login page that it sends everybody to."
        }
        200..=299 if is_page(headers, body) => {
            "A web page came in place of a WebSocket. The network may have a login page: open a web page from this \
             network and log in, or ask whoever runs it to let the device pass. If there is none, check that the host is \
             a NervesHub device endpoint."
        }
        500..=599 => "The server failed. Nothing is wrong with the device: see the server's log.",
        _ => "The server did not switch to WebSocket: check that the host is a NervesHub device endpoint.",
    };
    match said {
        Some(said) => format!("{meaning} The server says: {said}"),
        None => String::from(meaning),
    }
}

/// Explains a close code (device-protocol §1.12).
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

/// Returns whether the answer is a web page, by its type or its first letters.
fn is_page(headers: &[HeaderRef<'_>], body: &[u8]) -> bool {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    http::is_page(headers) || text.starts_with(b"<")
}

/// Returns the server's own words: the header meant for it, or a body of plain text.
fn said(headers: &[HeaderRef<'_>], body: &[u8]) -> Option<String> {
    let header = http::header(headers, names::ERROR_REASON_HEADER).filter(|text| !text.is_empty());
    // A web page is not written for the log.
    let body = core::str::from_utf8(body).ok().map(str::trim).filter(|_| !http::is_page(headers));
    let plain = |text: &&str| !text.is_empty() && !text.starts_with('<') && !text.chars().any(is_control);
    header.or_else(|| body.filter(plain)).map(|text| cut(text, MAX_TEXT_CHARS))
}

fn is_control(letter: char) -> bool {
    letter.is_control() && letter != '\n' && letter != '\t'
}
