//! What the device tells about updates, to the server and the application alike.

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use super::payload::{self, Size, Status};
use super::{Context, names};
use crate::event::{Event, Stage, UpdateInfo};
use crate::http::url::{Url, UrlError};
use crate::ids::{FetchId, OfferId};
use crate::limits::MAX_REASON_CHARS;
use crate::output::Output;
use crate::phoenix::Class;
use crate::text::cut;

/// Returns the address if the file may be fetched at all, or else why not. `limit` is the largest size allowed.
///
/// `checksum` says whether the server named a checksum of the file. Without TLS nothing else shows that a signed file is the
/// one that was offered.
pub(super) fn usable(
    cx: &Context<'_>,
    size: &Size,
    checksum: bool,
    limit: u64,
    url: Result<Url, UrlError>,
) -> Result<Url, String> {
    let download = &cx.config.download;
    let size = size.clone().map_err(|error| error.to_string())?;
    let url = url.map_err(|error| error.to_string())?;
    if !url.is_tls() && !download.allow_http {
        return Err(String::from("the address is http, and only https is allowed here"));
    }
    let vouched = checksum && cx.wire.is_trusted();
    if !(url.is_tls() || vouched || cx.config.insecure_plain_hub) {
        return Err(String::from(
            "the address is http, which is allowed only with a checksum from a server that is reached by TLS",
        ));
    }
    match size {
        Some(size) if size > limit => {
            Err(format!("the file has {size} bytes, more than the {limit} allowed"))
        }
        _ => Ok(url),
    }
}

/// Aborts a request, if one is under way.
pub(super) fn drop_fetch(cx: &mut Context<'_>, abort: Option<FetchId>) {
    if let Some(fetch) = abort {
        cx.out.push(Output::Abort { fetch });
    }
}

/// Turns an offer down, on the machine's own account.
pub(super) fn refuse(cx: &mut Context<'_>, info: UpdateInfo, reason: &str) {
    let reason = cut(reason, MAX_REASON_CHARS);
    status(cx, &Status::Failed { reason: &reason });
    cx.out.event(Event::UpdateRefused { info, reason, retry_in: None });
}

/// Asks the server to offer again later.
pub(super) fn reschedule(cx: &mut Context<'_>, delay: Duration, reason: Option<&str>) {
    status(cx, &Status::Rescheduled { delay, unit: cx.config.delay_unit, reason });
}

/// Asks the server to offer again later, on the machine's own account.
pub(super) fn put_off(cx: &mut Context<'_>, info: UpdateInfo, delay: Duration, reason: &str) {
    reschedule(cx, delay, Some(reason));
    cx.out.event(Event::UpdateRefused { info, reason: String::from(reason), retry_in: Some(delay) });
}

/// What the server learns about a failure.
///
/// The server chooses the address of the firmware. It must not learn from the reason whether that address was refused,
/// does not answer, or answers with something else: it could look around in the device's network. The application and the
/// log always get the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The reason: the file was signed with a trusted key, or the application reports about it.
    Reason,
    /// That the update failed.
    Failure,
}

impl Told {
    /// Returns what the server learns once the signature is known to hold, or isn't.
    pub(super) const fn after(signed: bool) -> Self {
        if signed { Self::Reason } else { Self::Failure }
    }
}

/// Reports an update that failed.
pub(super) fn failed(cx: &mut Context<'_>, offer: OfferId, reason: &str, told: Told) {
    let reason = cut(reason, MAX_REASON_CHARS);
    cx.wire.discard(Class::Latest(names::FWUP_PROGRESS));
    let public = match told {
        Told::Reason => &reason,
        Told::Failure => names::UNTOLD,
    };
    status(cx, &Status::Failed { reason: public });
    cx.out.event(Event::UpdateFailed { offer, reason, retry_in: None });
}

/// Reports progress to the server.
pub(super) fn push_progress(cx: &mut Context<'_>, stage: Stage, percent: u8) {
    let report = payload::progress(stage, percent);
    cx.wire.push(payload::progress_event(cx.config), report, Class::Latest(names::FWUP_PROGRESS));
}

/// Sends a status. Those that end an update survive reconnects.
pub(super) fn status(cx: &mut Context<'_>, status: &Status<'_>) {
    let class = match status {
        Status::Received | Status::Started { .. } => Class::Session,
        Status::Completed | Status::Ignored { .. } | Status::Rescheduled { .. } | Status::Failed { .. } => {
            Class::Keep
        }
    };
    cx.wire.push(names::STATUS_UPDATE, status.to_json(), class);
}
