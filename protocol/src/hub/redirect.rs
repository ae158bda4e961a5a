//! Redirects of the upgrade request (device-protocol §1.14).

use alloc::format;
use alloc::string::String;

use super::{Context, names};
use crate::http::url::Url;

/// Returns where a redirect leads, or why it isn't followed. Where it leads may be shown only by
/// [`Url::authority`].
pub(super) fn follow(current: &Url, location: Option<&str>, cx: &Context<'_>) -> Result<Url, String> {
    let location = location.ok_or_else(|| String::from("the redirect names no address"))?;
    let next = current.resolve(location).map_err(|error| format!("the redirect is not usable: {error}"))?;
    let forbidden = !cx.config.allow_redirect_downgrade;
    if current.is_tls() && !next.is_tls() && forbidden {
        return Err(format!("the redirect to {} would give up encryption", next.authority()));
    }
    // Without TLS anybody could send the device's credentials anywhere.
    if !next.is_tls() && !next.same_host(current) && forbidden {
        return Err(format!("the redirect leads to another host, {}, without encryption", next.authority()));
    }
    Ok(next.with_query(names::VSN, cx.wire.version()))
}
