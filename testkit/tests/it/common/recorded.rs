//! Recordings of the real server, as they are and changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nerves_hub_link_testkit::replay::{Credentials, Report, replay};
use serde_json::{Value, json};

use super::golden;

/// All recordings, by name.
pub fn recordings() -> Vec<PathBuf> {
    let Some(folder) = golden("wire") else { return Vec::new() };
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect();
    files.sort();
    files
}

fn credentials() -> Option<Credentials> {
    let text = std::fs::read_to_string(golden("wire/credentials.json")?).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let field = |name: &str| value[name].as_str().unwrap().to_owned();
    Some(Credentials { key: field("product_key"), secret: field("product_secret") })
}

/// The text of a recording.
pub fn text(name: &str) -> Option<String> {
    Some(std::fs::read_to_string(golden(&format!("wire/{name}.jsonl"))?).unwrap())
}

/// The lines of a recording.
pub fn lines(name: &str) -> Option<Vec<Value>> {
    Some(text(name)?.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Replays a text.
pub fn run(text: &str) -> Report {
    replay(text, credentials().as_ref())
}

/// Replays lines, in the order of their times.
pub fn run_lines(mut lines: Vec<Value>) -> Report {
    lines.sort_by(|a, b| time(a).total_cmp(&time(b)));
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    run(&text.join("\n"))
}

/// Replays a recording after something in it was changed.
pub fn changed(name: &str, change: impl Fn(&mut Vec<Value>)) -> Option<Report> {
    let mut lines = lines(name)?;
    change(&mut lines);
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    Some(run(&text.join("\n")))
}

/// Whether the device said that event.
pub fn said(line: &Value, event: &str) -> bool {
    line["dir"] == "client_to_server" && line["event"] == event
}

/// The names of the rules that explained something.
pub fn rules(report: &Report) -> Vec<&'static str> {
    report.differences.iter().filter_map(|(_, rule)| rule.map(|rule| rule.name)).collect()
}

/// When a line happened, in seconds.
pub fn time(line: &Value) -> f64 {
    line["t"].as_f64().unwrap()
}

/// Moves a line in time.
pub fn shift(line: &mut Value, seconds: f64) {
    line["t"] = (time(line) + seconds).into();
    let text = line["at"].as_str().unwrap().to_owned();
    let (head, clock) = text.trim_end_matches('Z').split_once('T').unwrap();
    let clock: Vec<f64> = clock.split(':').map(|word| word.parse().unwrap()).collect();
    let of_day = clock[0] * 3600.0 + clock[1] * 60.0 + clock[2] + seconds;
    assert!((0.0..86_400.0).contains(&of_day), "another day");
    let (hours, rest) = ((of_day / 3600.0).floor(), of_day % 3600.0);
    line["at"] = format!("{head}T{hours:02}:{:02}:{:09.6}Z", (rest / 60.0).floor(), rest % 60.0).into();
}

/// A line like another one, at another time and with other fields.
pub fn like(line: &Value, at: f64, fields: &Value) -> Value {
    let mut new = line.clone();
    shift(&mut new, at - time(line));
    for (name, value) in fields.as_object().unwrap() {
        new[name] = value.clone();
    }
    new
}

/// A message of the device or the server on the connection of another message. [`renumber`] gives it its number.
pub fn message(like_this: &Value, at: f64, device: bool, topic: &str, event: &str, payload: &Value) -> Value {
    let side = if device { "client_to_server" } else { "server_to_client" };
    let fields = json!({
        "dir": side, "kind": "text", "text": null, "join_ref": null, "ref": null,
        "topic": topic, "event": event, "payload": payload,
    });
    like(like_this, at, &fields)
}

/// Ends a connection.
pub fn end(like_this: &Value, at: f64, conn: u64, by: &str) -> [Value; 2] {
    let line = |kind: &str| {
        let mut line = like(like_this, at, &json!({"conn": conn, "kind": kind, "by": by}));
        line.as_object_mut()
            .unwrap()
            .retain(|name, _| ["t", "at", "conn", "kind", "by"].contains(&name.as_str()));
        line
    };
    [line("tcp_eof"), line("tcp_closed")]
}

/// Numbers the device's messages anew, one after the other on each connection, and the server's answers with them.
/// Those without a number get one. Texts are written anew.
pub fn renumber(lines: &mut [Value]) {
    lines.sort_by(|a, b| time(a).total_cmp(&time(b)));
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let mut new: BTreeMap<(u64, String), String> = BTreeMap::new();
    let mut joins: BTreeMap<(u64, String), String> = BTreeMap::new();
    for line in lines.iter_mut().filter(|line| line["topic"].is_string()) {
        let conn = line["conn"].as_u64().unwrap();
        let topic = line["topic"].as_str().unwrap().to_owned();
        if line["dir"] == "client_to_server" {
            let count = counts.entry(conn).or_default();
            *count += 1;
            let number = count.to_string();
            if let Some(old) = line["ref"].as_str() {
                new.insert((conn, old.to_owned()), number.clone());
            }
            if line["event"] == "phx_join" {
                joins.insert((conn, topic.clone()), number.clone());
            }
            line["ref"] = number.into();
            line["join_ref"] = joins.get(&(conn, topic)).map_or(Value::Null, |join| join.as_str().into());
        } else {
            for field in ["ref", "join_ref"] {
                if let Some(number) = line[field].as_str().and_then(|old| new.get(&(conn, old.to_owned()))) {
                    line[field] = number.as_str().into();
                }
            }
        }
        let message = json!([line["join_ref"], line["ref"], line["topic"], line["event"], line["payload"]]);
        line["text"] = message.to_string().into();
    }
}
