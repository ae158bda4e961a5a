//! The one table of differences that are meant to be, each with its reason.

use super::difference::{Difference, Kind};

/// A difference that is meant to be.
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Which differences it explains.
    pub explains: fn(&Difference) -> bool,
    /// The rule that must explain something in the same life, or this one doesn't hold.
    pub only_with: Option<&'static str>,
    /// Why the machine does otherwise than the recorded device.
    pub reason: &'static str,
}

/// Finds the rules that explain the differences of one life.
pub fn explain(differences: Vec<Difference>) -> Vec<(Difference, Option<&'static Rule>)> {
    let plain = |difference: &Difference| {
        RULES.iter().find(|rule| rule.only_with.is_none() && (rule.explains)(difference))
    };
    let mut explained: Vec<_> =
        differences.into_iter().map(|d| (plain(&d), d)).map(|(rule, d)| (d, rule)).collect();
    let holding: Vec<&str> = explained.iter().filter_map(|(_, rule)| rule.map(|rule| rule.name)).collect();
    let holds = |rule: &Rule| rule.only_with.is_some_and(|other| holding.contains(&other));
    for (difference, rule) in explained.iter_mut().filter(|(_, rule)| rule.is_none()) {
        *rule = RULES.iter().find(|rule| holds(rule) && (rule.explains)(difference));
    }
    explained
}

/// Every rule.
pub const RULES: &[Rule] = &[
    Rule {
        name: "device-api-version",
        explains: |d| {
            let joins = d.what.ends_with(" phx_join") && d.kind == Kind::Payload;
            joins && d.path == "/device_api_version" && d.ours == "\"2.4.0\""
        },
        only_with: None,
        reason: "we speak 2.4.0, which adds device-managed updates; the recorded client speaks 2.3.0",
    },
    Rule {
        name: "topics-in-any-order",
        explains: |d| d.kind == Kind::OrderAcross,
        only_with: None,
        reason: "topics are independent; the recorded client's order across them differs between its recordings",
    },
    Rule {
        name: "stale-time",
        explains: |d| d.is(Kind::Payload, "dial", "x-nh-time") && matches!(seconds(&d.ours), Some(-2..=2)),
        only_with: None,
        reason: "we sign when we dial; the recorded client signs before it waits, and again with the date of a refusal",
    },
    Rule {
        name: "wrong-secret",
        explains: |d| d.is(Kind::Payload, "dial", "x-nh-signature") && d.theirs == "does not verify",
        only_with: None,
        reason: "the recorded client was given a wrong secret on purpose; ours is the right one",
    },
    Rule {
        name: "redirect-at-once",
        explains: |d| d.is(Kind::Delay, "dial", "") && d.ours == "0.000 s",
        only_with: None,
        reason: "we follow a redirect, and reconnect on request, at once; the recorded client waits for its back-off",
    },
    Rule {
        name: "stopped",
        explains: |d| d.is(Kind::Extra, "phoenix heartbeat", "at the end"),
        only_with: None,
        reason: "the recorded program was being stopped when its last heartbeat was due",
    },
    Rule {
        name: "get-has-no-content",
        explains: |d| d.is(Kind::Payload, "fetch", "content-type") && d.ours == "absent",
        only_with: None,
        reason: "a GET has no content, so we name no type of it",
    },
    Rule {
        name: "open-range",
        explains: |d| d.is(Kind::Payload, "fetch", "range") && same_beginning(&d.ours, &d.theirs),
        only_with: None,
        reason: "we ask for all from there on; the recorded client ends its range one byte past the file",
    },
    Rule {
        name: "if-range",
        explains: |d| d.is(Kind::Payload, "fetch", "if-range") && d.theirs == "absent",
        only_with: None,
        reason: "we resume only the same file; the recorded client would mix two files",
    },
    Rule {
        name: "started",
        explains: |d| {
            let once = d.kind == Kind::Missing && d.ours.starts_with("1 of ");
            let after = d.kind == Kind::Order && d.ours.ends_with("fwup_progress updating");
            d.what == "device status_update started" && (once || after)
        },
        only_with: None,
        reason: "we send `started` once an update, when the first bytes come; the recorded client at every request",
    },
    Rule {
        name: "no-start-no-progress",
        explains: |d| {
            let start = d.what == "device status_update started" && d.ours.starts_with("0 of ");
            d.kind == Kind::Missing && (start || d.what == "device fwup_progress updating")
        },
        only_with: Some("reason-in-words"),
        reason: "a download that never began was not started",
    },
    Rule {
        name: "reason-in-words",
        explains: |d| {
            let phrase = "\"Download failed : ";
            let failed = d.is(Kind::Payload, "device status_update failed", "/reason");
            failed && d.ours.starts_with(phrase) && d.theirs.starts_with(phrase)
        },
        only_with: None,
        reason: "after the phrase that dashboards look for, we say why in words; the recorded client shows a term",
    },
    Rule {
        name: "downloaded-before-written",
        explains: |d| d.is(Kind::Extra, "device fwup_progress downloading", "value"),
        only_with: None,
        reason: "until the applier reports progress, we report how much was downloaded",
    },
    Rule {
        name: "milliseconds",
        explains: |d| {
            let numbers = d.ours.parse::<u64>().ok().zip(d.theirs.parse::<u64>().ok());
            let delay = d.is(Kind::Payload, "device status_update rescheduled", "/delay_for");
            delay && numbers.is_some_and(|(ours, theirs)| ours == theirs.saturating_mul(60_000))
        },
        only_with: None,
        reason: "servers read `delay_for` as milliseconds, so we send milliseconds; the recorded client sends minutes",
    },
    Rule {
        name: "held",
        explains: |d| {
            let reason = d.is(Kind::Payload, "device status_update rescheduled", "/reason");
            reason && d.ours == "\"the device asked for this update to wait\""
        },
        only_with: None,
        reason: "a firmware that was put off is put off again without asking, until the time is over",
    },
    Rule {
        name: "held-without-asking",
        explains: |d| {
            let delay = d.is(Kind::Payload, "device status_update rescheduled", "/delay_for");
            delay || d.is(Kind::Missing, "device status_update received", "")
        },
        only_with: Some("held"),
        reason: "what is put off without asking waits for the rest of the time, and was not received",
    },
    Rule {
        name: "detached-stays-silent",
        explains: |d| {
            let extension = d.kind == Kind::Missing && d.what.starts_with("extensions ");
            extension
                && (d.ours.starts_with("refused: the extension is not attached")
                    || unknown_extension(&d.ours))
        },
        only_with: None,
        reason: "a device says nothing for an extension that is detached or unknown; the recorded message was sent by hand",
    },
    Rule {
        name: "a-shell-not-iex",
        explains: |d| d.is(Kind::Payload, "console up", "notice"),
        only_with: None,
        reason: "the shell that is restarted or stopped is not called IEx",
    },
    Rule {
        name: "times-as-text",
        explains: |d| {
            let text = d.ours.trim_matches('"').trim_end_matches('Z');
            d.path.ends_with("/timestamp")
                && d.theirs.contains("$msgpack_timestamp")
                && d.theirs.contains(text)
        },
        only_with: None,
        reason: "times are ISO 8601 texts in MessagePack, too, as some servers read no other (additions A11)",
    },
    Rule {
        name: "which-update",
        explains: |d| {
            d.is(Kind::Payload, "extensions health:report", "/value/alarms/NervesHubLink.UpdateInProgress")
        },
        only_with: None,
        reason: "the alarm says which firmware is being installed; the recorded client shows an empty term",
    },
    Rule {
        name: "not-built-yet",
        explains: |d| {
            let foreign = d.what.starts_with("extensions local_shell:") || d.what == "extensions phx_join";
            let refused = d.kind == Kind::Extra && d.ours.contains("unknown_extension");
            let offered = d.path == "/local_shell" && d.ours == "absent";
            foreign && (d.kind == Kind::Missing || refused || offered)
        },
        only_with: None,
        reason: "local shells are being built",
    },
    Rule {
        name: "archive-is-no-firmware",
        explains: |d| d.is(Kind::Missing, "device status_update started", ""),
        only_with: Some("not-built-yet"),
        reason: "the recorded client reports an archive as firmware that was started, and servers take it for an update",
    },
];

fn unknown_extension(ours: &str) -> bool {
    ours.starts_with("refused: the configuration has no such extension")
}

/// Reads `-3 s`.
fn seconds(text: &str) -> Option<i64> {
    text.strip_suffix(" s")?.parse().ok()
}

/// Returns whether two ranges begin at the same byte, the first without an end.
fn same_beginning(ours: &str, theirs: &str) -> bool {
    ours.ends_with('-') && theirs.starts_with(ours)
}
