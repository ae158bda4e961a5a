//! The one table of differences that are meant to be, each with its reason.

use nerves_hub_link_protocol::UNTOLD_FAILURE;

use super::difference::{Difference, Kind};

/// A difference that is meant to be.
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Which differences it explains.
    pub explains: fn(&Difference) -> bool,
    /// Rules of which one must explain something in the same life, or this one doesn't hold. None means always.
    pub only_with: &'static [&'static str],
    /// Whether it is for what a recording may hold, though none at hand does.
    pub foreseen: bool,
    /// Why the machine does otherwise than the recorded device.
    pub reason: &'static str,
}

/// Finds the rules that explain the differences of one life.
pub fn explain(differences: Vec<Difference>) -> Vec<(Difference, Option<&'static Rule>)> {
    let plain = |difference: &Difference| {
        RULES.iter().find(|rule| rule.only_with.is_empty() && (rule.explains)(difference))
    };
    let mut explained: Vec<_> =
        differences.into_iter().map(|d| (plain(&d), d)).map(|(rule, d)| (d, rule)).collect();
    let holding: Vec<&str> = explained.iter().filter_map(|(_, rule)| rule.map(|rule| rule.name)).collect();
    let holds = |rule: &Rule| rule.only_with.iter().any(|other| holding.contains(other));
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
            let older =
                d.theirs.trim_matches('"').split('.').map(str::parse::<u32>).collect::<Result<Vec<_>, _>>();
            joins
                && d.path == "/device_api_version"
                && d.ours == "\"2.4.0\""
                && older.is_ok_and(|version| version < vec![2, 4, 0])
        },
        only_with: &[],
        foreseen: false,
        reason: "we speak 2.4.0, which adds device-managed updates; the recorded client speaks 2.3.0",
    },
    Rule {
        name: "topics-in-any-order",
        explains: |d| d.kind == Kind::OrderAcross,
        only_with: &[],
        foreseen: false,
        reason: "topics are independent; the recorded client's order across them differs between its recordings",
    },
    Rule {
        name: "stale-time",
        explains: |d| {
            let time = d.is(Kind::Payload, "dial", "x-nh-time");
            time && matches!((seconds(&d.ours), seconds(&d.theirs)), (Some(-2..=2), Some(..0)))
        },
        only_with: &[],
        foreseen: false,
        reason: "we sign when we dial; the recorded client signs before it waits, and again with the date of a refusal",
    },
    Rule {
        name: "clock-ahead",
        explains: |d| {
            let time = d.is(Kind::Payload, "dial", "x-nh-time");
            time && matches!((seconds(&d.ours), seconds(&d.theirs)), (Some(-2..=2), Some(1..)))
        },
        only_with: &[],
        foreseen: true,
        reason: "after a refusal we sign with the server's date; the recorded client only if its own clock is behind",
    },
    Rule {
        name: "wrong-secret",
        explains: |d| d.is(Kind::Payload, "dial", "x-nh-signature") && d.theirs == "does not verify",
        only_with: &[],
        foreseen: false,
        reason: "the recorded client was given a wrong secret on purpose; ours is the right one",
    },
    Rule {
        name: "redirect-at-once",
        explains: |d| {
            let asked =
                d.is(Kind::Delay, "dial", "after a redirect") || d.is(Kind::Delay, "dial", "on request");
            asked && d.ours == "0.000 s"
        },
        only_with: &[],
        foreseen: false,
        reason: "we follow a redirect, and reconnect on request, at once; the recorded client waits for its back-off",
    },
    Rule {
        name: "twin",
        explains: |d| d.is(Kind::Delay, "dial", "after the server ended three in a row"),
        only_with: &[],
        foreseen: true,
        reason: "another device with this one's identity is left in peace; the recorded clients would fight on",
    },
    Rule {
        name: "twin-alarm",
        explains: |d| {
            let alarm = "/value/alarms/NervesHubLink.DuplicateIdentity";
            d.is(Kind::Payload, "extensions health:report", alarm) && d.theirs == "absent"
        },
        only_with: &["twin"],
        foreseen: true,
        reason: "that another device has its identity is an alarm",
    },
    Rule {
        name: "stopped",
        explains: |d| d.is(Kind::Extra, "phoenix heartbeat", "at the end"),
        only_with: &[],
        foreseen: false,
        reason: "the recorded program was being stopped when its last heartbeat was due",
    },
    Rule {
        name: "waited",
        explains: |d| d.is(Kind::Extra, "phoenix heartbeat", "while it waited"),
        only_with: &[],
        foreseen: true,
        reason: "our delays before joining again are lengthened at random; heartbeats go on meanwhile",
    },
    Rule {
        name: "json-instead",
        explains: |d| {
            let json = d.is(Kind::Payload, "dial", "target") && d.ours.ends_with("vsn=2.0.0");
            json && d.theirs == d.ours.replace("vsn=2.0.0", "vsn=3.0.0")
        },
        only_with: &[],
        foreseen: true,
        reason: "a server that refuses MessagePack is spoken to in JSON; the recorded client asks again and again",
    },
    Rule {
        name: "cut",
        explains: |d| d.path == "when the recording ends",
        only_with: &[],
        foreseen: true,
        reason: "the recording ends while the device is connected; what was about to be said is missing on one side",
    },
    Rule {
        name: "get-has-no-content",
        explains: |d| d.is(Kind::Payload, "fetch", "content-type") && d.ours == "absent",
        only_with: &[],
        foreseen: false,
        reason: "a GET has no content, so we name no type of it",
    },
    Rule {
        name: "open-range",
        explains: |d| d.is(Kind::Payload, "fetch", "range") && same_beginning(&d.ours, &d.theirs),
        only_with: &[],
        foreseen: false,
        reason: "we ask for all from there on; the recorded client ends its range one byte past the file",
    },
    Rule {
        name: "if-range",
        explains: |d| {
            d.is(Kind::Payload, "fetch", "if-range") && d.theirs == "absent" && d.ours.starts_with('"')
        },
        only_with: &[],
        foreseen: false,
        reason: "we resume only the same file; the recorded client would mix two files",
    },
    Rule {
        name: "started",
        explains: |d| {
            let once = d.kind == Kind::Missing && d.path == "again";
            let after = d.kind == Kind::Order && d.ours.starts_with("after device fwup_progress ");
            d.what == "device status_update started" && (once || after)
        },
        only_with: &[],
        foreseen: false,
        reason: "we send `started` once an update, when the first bytes come; the recorded client at every request",
    },
    Rule {
        name: "no-start-no-progress",
        explains: |d| {
            let start = d.what == "device status_update started" && d.ours.starts_with("0 of ");
            d.kind == Kind::Missing && (start || d.what == "device fwup_progress updating")
        },
        only_with: &["untold", "patient"],
        foreseen: false,
        reason: "a download that never began was not started",
    },
    Rule {
        name: "untold",
        explains: |d| {
            let failed = d.is(Kind::Payload, "device status_update failed", "/reason");
            failed && d.ours.trim_matches('"') == UNTOLD_FAILURE
        },
        only_with: &[],
        foreseen: false,
        reason: "before a trusted signature was seen, the server hears the same of every failure; the recorded client gives the reason",
    },
    Rule {
        name: "downloaded-before-written",
        explains: |d| d.is(Kind::Extra, "device fwup_progress downloading", "value"),
        only_with: &[],
        foreseen: false,
        reason: "until the applier reports progress, we report how much was downloaded",
    },
    Rule {
        name: "milliseconds",
        explains: |d| {
            let numbers = d.ours.parse::<u64>().ok().zip(d.theirs.parse::<u64>().ok());
            let delay = d.is(Kind::Payload, "device status_update rescheduled", "/delay_for");
            delay && numbers.is_some_and(|(ours, theirs)| ours == theirs.saturating_mul(60_000))
        },
        only_with: &[],
        foreseen: false,
        reason: "servers read `delay_for` as milliseconds, so we send milliseconds; the recorded client sends minutes",
    },
    Rule {
        name: "held",
        explains: |d| {
            let reason = d.is(Kind::Payload, "device status_update rescheduled", "/reason");
            reason && d.ours == "\"the device asked for this update to wait\""
        },
        only_with: &[],
        foreseen: false,
        reason: "a firmware that was put off is put off again without asking, until the time is over",
    },
    Rule {
        name: "held-without-asking",
        explains: |d| {
            let delay = d.is(Kind::Payload, "device status_update rescheduled", "/delay_for");
            delay || d.is(Kind::Missing, "device status_update received", "put off")
        },
        only_with: &["held"],
        foreseen: false,
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
        only_with: &[],
        foreseen: false,
        reason: "a device says nothing for an extension that is detached or unknown; the recorded message was sent by hand",
    },
    Rule {
        name: "a-shell-not-iex",
        explains: |d| d.is(Kind::Payload, "console up", "notice"),
        only_with: &[],
        foreseen: false,
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
        only_with: &[],
        foreseen: false,
        reason: "times are ISO 8601 texts in MessagePack, too, as some servers read no other (device-protocol A11)",
    },
    Rule {
        name: "alarm-in-words",
        explains: |d| {
            let report = d.kind == Kind::Payload && d.what == "extensions health:report";
            let own = ["UpdateInProgress", "FirmwareReverted"];
            let alarm = d.path.strip_prefix("/value/alarms/NervesHubLink.");
            report
                && alarm.is_some_and(|alarm| own.contains(&alarm))
                && d.theirs == "\"[]\""
                && d.ours != "absent"
        },
        only_with: &[],
        foreseen: false,
        reason: "an alarm says what it is about; the recorded client shows an empty term",
    },
    Rule {
        name: "rhythm",
        explains: |d| d.kind == Kind::Rhythm,
        only_with: &[],
        foreseen: true,
        reason: "progress is told when it grew, and at most twice a second; both ended at the same percentage",
    },
    Rule {
        name: "no-report-of-nothing",
        explains: |d| {
            d.is(Kind::Missing, "extensions health:report", "") && d.theirs.contains("\"value\":null")
        },
        only_with: &[],
        foreseen: true,
        reason: "a device whose health is not told says nothing; the recorded client sends null",
    },
    Rule {
        name: "from-the-beginning",
        explains: |d| d.is(Kind::Payload, "dial", "host of the configuration"),
        only_with: &[],
        foreseen: true,
        reason: "every attempt after a failure begins at the configured address; the recorded client stays where a redirect led",
    },
    Rule {
        name: "patient",
        explains: |d| {
            let failed = d.is(Kind::Missing, "device status_update failed", "");
            failed && ["http_error, 5", "timeout", "max_disconnects"].iter().any(|why| d.theirs.contains(why))
        },
        only_with: &[],
        foreseen: true,
        reason: "what may pass (5xx, silence) is tried again, and progress forgives; the recorded client gave up",
    },
    Rule {
        name: "patient-again",
        explains: |d| d.is(Kind::Extra, "fetch", ""),
        only_with: &["patient"],
        foreseen: true,
        reason: "the attempts of a download that the recorded client had given up",
    },
    Rule {
        name: "sent-by-hand",
        explains: |d| {
            let event = d.what.strip_prefix("device ").and_then(|rest| rest.split(' ').next());
            d.kind == Kind::Missing && event.is_some_and(|event| !OF_THE_PROTOCOL.contains(&event))
        },
        only_with: &[],
        foreseen: true,
        reason: "no client of the protocol sends this event; whoever recorded sent it by hand",
    },
    Rule {
        name: "archive-once",
        explains: |d| d.is(Kind::Missing, "fetch", "an archive it has"),
        only_with: &[],
        foreseen: true,
        reason: "an archive that was fetched and verified is not fetched again when it is offered on the next connection",
    },
    Rule {
        name: "archive-is-no-firmware",
        explains: |d| d.is(Kind::Missing, "device status_update started", "without an offer"),
        only_with: &[],
        foreseen: false,
        reason: "the recorded client reports an archive as firmware that was started, and servers take it for an update",
    },
];

/// What devices say on their channel.
const OF_THE_PROTOCOL: [&str; 14] = [
    "phx_join",
    "phx_leave",
    "status_update",
    "fwup_progress",
    "update_progress",
    "firmware_validated",
    "rebooting",
    "report_network_interface",
    "connection_types",
    "scripts/run",
    "check_update",
    "request_update",
    "set_update_mode",
    "phx_close",
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
