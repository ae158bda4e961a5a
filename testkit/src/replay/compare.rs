//! The machine's side against the recorded device's.

use std::collections::BTreeMap;

use serde_json::Value;

use super::connections;
use super::difference::{Difference, Kind};
use super::drive::{MOMENT, Sent, Transcript};
use super::plot::{Credentials, Plot, said};
use super::recording::{Envelope, Kind as Happened, Line};
use super::refs::key;

/// What was compared, and what differs.
#[derive(Default)]
pub struct Comparison {
    /// Connections on both sides.
    pub sockets: usize,
    /// Messages on both sides.
    pub messages: usize,
    /// Requests on both sides.
    pub fetches: usize,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// Compares one life.
pub fn compare(plot: &Plot<'_>, transcript: &Transcript, credentials: Option<&Credentials>) -> Comparison {
    let mut result = Comparison::default();
    for broken in &transcript.broken {
        result.differences.push(Difference::new(Kind::Broken, "machine").ours(broken));
    }
    connections::dials(plot, transcript, credentials, &mut result);
    connections::fetches(plot, transcript, &mut result);
    for conn in &plot.life.sockets {
        if transcript.undialled.contains(conn) {
            continue;
        }
        let sent: Vec<&Sent> = transcript.frames.iter().filter(|sent| sent.conn == *conn).collect();
        let ours: Vec<&Envelope> = sent.iter().map(|sent| &sent.envelope).collect();
        let mut found = Vec::new();
        let mut theirs: Vec<&Envelope> = Vec::new();
        for (index, line) in plot.lines(0).enumerate().filter(|(_, line)| line.conn == Some(*conn)) {
            match (said(line), transcript.refused.get(&index)) {
                (Some(envelope), None) => theirs.push(envelope),
                (Some(envelope), Some(why)) => {
                    found
                        .push(Difference::new(Kind::Missing, &key(envelope)).ours(format!("refused: {why}")));
                }
                (None, _) => {}
            }
        }
        result.messages += socket(&ours, &theirs, &mut found);
        at_the_end(plot, *conn, &sent, &mut found);
        if let (Some(cut), true) = (transcript.cut_at, plot.life.sockets.last() == Some(conn)) {
            when_it_ends(plot, *conn, &sent, cut, &mut found);
        }
        result.differences.extend(found.into_iter().map(|difference| difference.on(*conn)));
    }
    started(plot, transcript, &mut result.differences);
    held(plot, transcript, &mut result.differences);
    result
}

const STARTED: &str = "device status_update started";

/// Tells apart what the recorded device said of a start that the machine didn't: of one that was told before, of none
/// that an offer asked for (so of an archive), or of one that the machine owes.
fn started(plot: &Plot<'_>, transcript: &Transcript, found: &mut [Difference]) {
    let theirs = |status: &str| {
        let name = format!("device status_update {status}");
        plot.lines(0).filter_map(said).filter(|envelope| key(envelope) == name).count()
    };
    let ours = transcript.frames.iter().filter(|sent| key(&sent.envelope) == STARTED).count();
    let declined = theirs("ignored") + theirs("rescheduled");
    let requests = plot.life.fetches.len();
    let path = match theirs("received") {
        _ if theirs("started") > requests => return,
        0 if theirs("completed") + theirs("failed") == 0 => "without an offer",
        offers if ours >= offers.saturating_sub(declined).max(1) => "again",
        _ => return,
    };
    let missing = |d: &&mut Difference| d.kind == Kind::Missing && d.what == STARTED && d.path.is_empty();
    for difference in found.iter_mut().filter(missing) {
        path.clone_into(&mut difference.path);
    }
}

/// How nothing is shown.
const NOTHING: &str = "\"\"";

/// Marks what one side said and the other did not, in the moment in which the recording ends.
fn when_it_ends(plot: &Plot<'_>, conn: u64, sent: &[&Sent], cut: u64, found: &mut [Difference]) {
    for difference in found.iter_mut().filter(|d| ["", "value", "text"].contains(&d.path.as_str())) {
        let ours = sent.iter().filter(|sent| key(&sent.envelope) == difference.what).map(|sent| sent.at);
        let of_conn = plot.lines(0).filter(|line| line.conn == Some(conn));
        let same = of_conn.filter(|line| said(line).is_some_and(|envelope| key(envelope) == difference.what));
        let (ours, theirs): (Vec<u64>, Vec<u64>) = (ours.collect(), same.map(|line| line.at).collect());
        let first = match (difference.path.as_str(), difference.theirs == NOTHING, difference.ours == NOTHING)
        {
            // Of texts, one is the beginning of the other, however they are cut into messages.
            ("text", true, _) => ours.last(),
            ("text", _, true) => theirs.last(),
            ("text", ..) => None,
            _ if ours.len() > theirs.len() => ours.get(theirs.len()),
            _ => theirs.get(ours.len()),
        };
        if first.is_some_and(|at| at.saturating_add(MOMENT) >= cut) {
            "when the recording ends".clone_into(&mut difference.path);
        }
    }
}

/// Marks a heartbeat that one side sent and the other did not, in the last second of a connection: it depends on
/// moments, and a device that is stopped takes up to a second to go and says nothing more.
fn at_the_end(plot: &Plot<'_>, conn: u64, sent: &[&Sent], found: &mut [Difference]) {
    let is_end =
        |line: &&Line| matches!(line.kind, Happened::Eof(_) | Happened::Close(..) | Happened::Closed);
    let Some(ended) = plot.lines(0).filter(|line| line.conn == Some(conn)).find(is_end) else { return };
    let beat = |envelope: &Envelope| envelope.topic == "phoenix" && envelope.event == "heartbeat";
    let ours = sent.iter().rev().find(|sent| beat(&sent.envelope)).map(|sent| sent.at);
    let lines = plot.lines(0).filter(|line| line.conn == Some(conn) && said(line).is_some_and(beat));
    let theirs = lines.last().map(|line| line.at);
    // Where the machine waited longer than the recorded device, it went on beating.
    let stretch = sent.last().zip(sent.first()).map_or(0, |(last, first)| last.stretch - first.stretch);
    let interval = u64::try_from(plot.config.heartbeat.as_micros()).unwrap_or(u64::MAX).max(1);
    let waited = usize::try_from(stretch.div_ceil(interval)).unwrap_or(usize::MAX);
    let extra =
        |d: &&mut Difference| d.kind == Kind::Extra && d.what == "phoenix heartbeat" && d.times <= waited;
    for difference in found.iter_mut().filter(extra) {
        "while it waited".clone_into(&mut difference.path);
    }
    for difference in found.iter_mut().filter(|d| d.what == "phoenix heartbeat" && d.times == 1) {
        let at = match difference.kind {
            Kind::Extra => ours,
            Kind::Missing => theirs,
            _ => None,
        };
        if at.is_some_and(|at| at.saturating_add(1_000_000) >= ended.at) {
            "at the end".clone_into(&mut difference.path);
        }
    }
}

/// Marks offers that the machine put off without saying that it received them: each of those not said must be one that
/// it put off so.
fn held(plot: &Plot<'_>, transcript: &Transcript, found: &mut [Difference]) {
    let count = |name: &str| transcript.frames.iter().filter(|sent| key(&sent.envelope) == name).count();
    let said = plot.lines(0).filter_map(said).filter(|envelope| key(envelope) == RECEIVED).count();
    if said <= count(RECEIVED) + count("device status_update rescheduled") {
        let missing =
            |d: &&mut Difference| d.kind == Kind::Missing && d.what == RECEIVED && d.path.is_empty();
        for difference in found.iter_mut().filter(missing) {
            "put off".clone_into(&mut difference.path);
        }
    }
}

const RECEIVED: &str = "device status_update received";

/// Compares the messages of a connection. Returns how many were compared.
fn socket(ours: &[&Envelope], theirs: &[&Envelope], found: &mut Vec<Difference>) -> usize {
    let mut messages = 0;
    let (mine, other) = (by_key(ours), by_key(theirs));
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let keys: std::collections::BTreeSet<&String> = mine.keys().chain(other.keys()).collect();
    for name in keys {
        let a = mine.get(name).map(Vec::as_slice).unwrap_or_default();
        let b = other.get(name).map(Vec::as_slice).unwrap_or_default();
        if name == "console up" || name == "extensions local_shell:shell_output" {
            found.extend(stream(name, a, b));
            beside("data", name, a, b, found);
            messages += a.len().min(b.len());
            pairs.extend(a.first().zip(b.first()).map(indexes));
            continue;
        }
        if name.contains("_progress") {
            found.extend(progress(name, a, b));
            beside("value", name, a, b, found);
            messages += a.len().min(b.len());
            // The order of the first and the last still counts.
            pairs.extend(
                [a.first().zip(b.first()), a.last().zip(b.last())].into_iter().flatten().map(indexes),
            );
            continue;
        }
        for (x, y) in a.iter().zip(b) {
            pairs.push((x.0, y.0));
            payload(name, "", &x.1.payload, &y.1.payload, found);
            if x.1.join_ref.is_some() != y.1.join_ref.is_some() {
                let show = |envelope: &Envelope| format!("join_ref {:?}", envelope.join_ref);
                found.push(Difference::new(Kind::Numbers, name).ours(show(x.1)).theirs(show(y.1)));
            }
        }
        messages += a.len().min(b.len());
        if b.len() > a.len() {
            let sent = format!("{} of {}", a.len(), b.len());
            let wanted = b.get(a.len()).map_or(&Value::Null, |(_, envelope)| &envelope.payload);
            let missing = Difference::new(Kind::Missing, name).times(b.len() - a.len());
            found.push(missing.ours(sent).theirs(short(wanted)));
        }
        if a.len() > b.len() {
            let extra = a.get(b.len()).map_or(&Value::Null, |(_, envelope)| &envelope.payload);
            found.push(Difference::new(Kind::Extra, name).times(a.len() - b.len()).ours(short(extra)));
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    order(&pairs, ours, found);
    numbers(ours, found);
    messages
}

type Indexed<'e> = (usize, &'e Envelope);

fn indexes((a, b): (&Indexed<'_>, &Indexed<'_>)) -> (usize, usize) {
    (a.0, b.0)
}

fn by_key<'e>(frames: &[&'e Envelope]) -> BTreeMap<String, Vec<Indexed<'e>>> {
    let mut map: BTreeMap<String, Vec<Indexed<'e>>> = BTreeMap::new();
    for (index, envelope) in frames.iter().enumerate() {
        map.entry(key(envelope)).or_default().push((index, envelope));
    }
    map
}

/// Progress is compared as a series: what each device reports depends on when its bytes came.
fn progress(name: &str, ours: &[Indexed<'_>], theirs: &[Indexed<'_>]) -> Vec<Difference> {
    let values = |list: &[Indexed<'_>]| -> Vec<Option<u64>> {
        list.iter().map(|(_, m)| m.payload.get("value").and_then(Value::as_u64)).collect()
    };
    let (a, b) = (values(ours), values(theirs));
    let mut found = Vec::new();
    let sane = a.iter().all(|v| v.is_some_and(|v| v <= 100)) && a.is_sorted();
    if !sane {
        found.push(Difference::new(Kind::Broken, name).ours(format!("{a:?}")));
    }
    if a == b {
        return found;
    }
    let show = |list: &[Option<u64>]| {
        list.iter().map(|v| v.map_or("?".to_owned(), |v| v.to_string())).collect::<Vec<_>>().join(" ")
    };
    // Ending elsewhere is more than another rhythm.
    let kind = match (a.last(), b.last()) {
        (None, _) => Kind::Missing,
        (_, None) => Kind::Extra,
        (x, y) if x == y => Kind::Rhythm,
        _ => Kind::Payload,
    };
    found.push(Difference::new(kind, name).at("value").ours(show(&a)).theirs(show(&b)));
    found
}

/// Compares what messages of a series say beside the field that is compared as a series.
fn beside(
    field: &str,
    name: &str,
    ours: &[Indexed<'_>],
    theirs: &[Indexed<'_>],
    found: &mut Vec<Difference>,
) {
    let rest = |envelope: &Envelope| {
        let mut payload = envelope.payload.clone();
        payload.as_object_mut().map(|fields| fields.remove(field));
        payload
    };
    let Some(first) = ours.first().map(|(_, envelope)| rest(envelope)) else { return };
    for (_, envelope) in ours.iter().chain(theirs) {
        payload(name, "", &first, &rest(envelope), found);
    }
}

/// Output of a terminal is compared as one text: how it is cut into messages is each device's own.
fn stream(name: &str, ours: &[Indexed<'_>], theirs: &[Indexed<'_>]) -> Option<Difference> {
    let text = |list: &[Indexed<'_>]| -> String {
        list.iter().filter_map(|(_, m)| m.payload.get("data").and_then(Value::as_str)).collect()
    };
    let (a, b) = (text(ours), text(theirs));
    if a == b {
        return None;
    }
    if a == b.replace("Restarting IEx", "Restarting shell").replace("Remote IEx", "Remote shell") {
        return Some(Difference::new(Kind::Payload, name).at("notice"));
    }
    let same = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).count();
    let rest = |text: &str| short(&Value::from(text.chars().skip(same).collect::<String>()));
    let kind = match (a.is_empty(), b.is_empty()) {
        (true, _) => Kind::Missing,
        (_, true) => Kind::Extra,
        _ => Kind::Payload,
    };
    Some(Difference::new(kind, name).at("text").ours(rest(&a)).theirs(rest(&b)))
}

/// Compares two payloads in depth.
fn payload(name: &str, path: &str, ours: &Value, theirs: &Value, found: &mut Vec<Difference>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for field in names {
                let path = format!("{path}/{field}");
                match (a.get(field), b.get(field)) {
                    (Some(x), Some(y)) => payload(name, &path, x, y, found),
                    (x, y) => {
                        let show = |value: Option<&Value>| value.map_or("absent".to_owned(), short);
                        let difference = Difference::new(Kind::Payload, name).at(&path);
                        found.push(difference.ours(show(x)).theirs(show(y)));
                    }
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (x, y)) in a.iter().zip(b).enumerate() {
                payload(name, &format!("{path}/{index}"), x, y, found);
            }
        }
        // 12 and 12.0 are one number.
        (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
        (a, b) if a == b => {}
        (a, b) => {
            found.push(Difference::new(Kind::Payload, name).at(path).ours(short(a)).theirs(short(b)));
        }
    }
}

/// Compares the order: within each topic, and across topics as a whole.
fn order(pairs: &[(usize, usize)], ours: &[&Envelope], found: &mut Vec<Difference>) {
    let mut last_of_topic: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    let mut last: Option<(usize, String)> = None;
    let mut across = Vec::new();
    for (mine, theirs) in pairs {
        let Some(envelope) = ours.get(*mine) else { continue };
        let name = key(envelope);
        let topic = envelope.topic.as_str();
        if let Some((before, other)) = last_of_topic.get(topic)
            && before > theirs
        {
            found
                .push(Difference::new(Kind::Order, &name).ours(format!("after {other}")).theirs("before it"));
        } else if let Some((before, other)) = &last
            && before > theirs
        {
            across.push(format!("{name} after {other}"));
        }
        let further = last_of_topic.get(topic).is_none_or(|(before, _)| before < theirs);
        if further {
            last_of_topic.insert(topic, (*theirs, name.clone()));
        }
        if last.as_ref().is_none_or(|(before, _)| before < theirs) {
            last = Some((*theirs, name));
        }
    }
    if !across.is_empty() {
        found.push(Difference::new(Kind::OrderAcross, "topics").ours(across.join(", ")));
    }
}

/// Checks the machine's numbers: each message its own, one after the other; each topic its join's.
fn numbers(ours: &[&Envelope], found: &mut Vec<Difference>) {
    let mut joins: BTreeMap<&str, &Option<String>> = BTreeMap::new();
    for (expected, envelope) in (1_u64..).zip(ours) {
        if envelope.reference != Some(expected.to_string()) {
            let have = format!("{:?} instead of {expected}", envelope.reference);
            found.push(Difference::new(Kind::Broken, &key(envelope)).at("ref").ours(have));
        }
        if envelope.event == "phx_join" {
            joins.insert(&envelope.topic, &envelope.reference);
        }
        let wanted = joins.get(envelope.topic.as_str()).copied().unwrap_or(&None);
        if envelope.join_ref != *wanted {
            let have = format!("{:?} instead of {wanted:?}", envelope.join_ref);
            found.push(Difference::new(Kind::Broken, &key(envelope)).at("join_ref").ours(have));
        }
    }
}

/// A value as short text.
pub fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 {
        return text;
    }
    text.chars().take(77).chain("...".chars()).collect()
}
