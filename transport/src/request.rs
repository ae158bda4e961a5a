//! Request headers: which the caller may give, and how a request becomes bytes.

use http::{HeaderName, HeaderValue, Request};
use ureq_proto::client::state::RecvResponse;
use ureq_proto::client::{Call, SendRequestResult};

use crate::limits::REQUEST_MAX;
use crate::{Address, TransportError};

/// Headers this crate writes itself, or must never send: framing, `Host` and the upgrade.
/// `Origin` makes Phoenix refuse a device with 403 (device-protocol §1.2).
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "origin",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const RESERVED_PREFIX: &str = "sec-websocket-";

/// Writes a GET request. `own` are headers of this crate; one is left out where the caller gave it.
pub(crate) fn write(
    address: &Address,
    own: &[(&'static str, &str)],
    given: &[(String, String)],
) -> Result<(Call<RecvResponse>, Vec<u8>), TransportError> {
    // ureq-proto takes the request target and the `Host` from the URI.
    let scheme = if address.secure { "https" } else { "http" };
    let uri = format!("{scheme}://{}{}", address.authority(), address.path_and_query);
    let mut request = Request::get(uri)
        .body(())
        // `http`'s errors name the kind of fault only, never the text.
        .map_err(|error| TransportError::Request { why: error.to_string() })?;
    let headers = request.headers_mut();
    // Refuse early: a header map of `http` cannot hold more than 32,768 entries.
    let size: usize = given.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    if size > REQUEST_MAX {
        return Err(TransportError::RequestTooLarge { limit: REQUEST_MAX });
    }
    for (name, value) in given {
        let refuse = |why| TransportError::Header { name: name.chars().take(80).collect(), why };
        let lower = name.to_ascii_lowercase();
        if RESERVED.contains(&lower.as_str()) || lower.starts_with(RESERVED_PREFIX) {
            return Err(refuse("is written by the connection itself and cannot be given"));
        }
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| refuse("has a name that HTTP does not allow"))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_| refuse("has a value with a line break, control or non-ASCII character"))?;
        headers.append(key, value);
    }
    for (name, value) in own {
        if !headers.contains_key(*name) {
            let value = HeaderValue::from_str(value)
                .map_err(|error| TransportError::Request { why: error.to_string() })?;
            headers.insert(*name, value);
        }
    }
    encode(request)
}

fn encode(request: Request<()>) -> Result<(Call<RecvResponse>, Vec<u8>), TransportError> {
    let refuse = |error: ureq_proto::Error| match error {
        ureq_proto::Error::OutputOverflow => TransportError::RequestTooLarge { limit: REQUEST_MAX },
        other => TransportError::Request { why: other.to_string() },
    };
    let mut call = Call::new(request).map_err(refuse)?.proceed();
    let mut bytes = vec![0; REQUEST_MAX];
    let mut used = 0;
    while !call.can_proceed() {
        let room = bytes.get_mut(used..);
        let room = room.ok_or_else(|| TransportError::internal("more of a request was written than fits"))?;
        let written = call.write(room).map_err(refuse)?;
        if written == 0 {
            return Err(TransportError::RequestTooLarge { limit: REQUEST_MAX });
        }
        used += written;
    }
    bytes.truncate(used);
    match call.proceed().map_err(refuse)? {
        Some(SendRequestResult::RecvResponse(call)) => Ok((call, bytes)),
        // A GET with no body headers has nothing more to send.
        _ => Err(TransportError::Request { why: "a GET request was taken for one with a body".to_owned() }),
    }
}
