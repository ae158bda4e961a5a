//! The commands, as people call them: what they print, and what they say to arguments that make no sense.

use std::process::{Command, Output};

fn called(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nerves-hub-link-testkit")).args(words).output().unwrap()
}

/// What a call that succeeds prints.
fn printed(words: &[&str]) -> String {
    let output = called(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a call that fails says, which has this in it.
fn refused(words: &[&str], why: &str) {
    let output = called(words);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{words:?}");
    assert!(said.contains(why), "{words:?}: {said}");
}

#[test]
fn a_fleet_is_reported_as_text_json_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("fleet.html");
    let fleet = ["simulate", "--devices", "5", "--days", "1", "--seed", "3"];
    let text = printed(&fleet);
    assert!(text.contains("availability") && text.contains("the run"), "{text}");
    let more = [&fleet[..], &["--json", "--html", page.to_str().unwrap()]].concat();
    let json: serde_json::Value = serde_json::from_str(&printed(&more)).unwrap();
    assert_eq!(json["scenario"]["devices"], 5, "{json}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && page.ends_with("</html>\n"));
    // One page: nothing is fetched from anywhere.
    assert!(!page.contains("src=") && !page.contains("<link") && !page.contains("@import"));
}

#[test]
fn short_scenarios_are_counted() {
    let text = printed(&["simulate", "--runs", "5", "--seed", "8"]);
    assert!(text.contains("5 runs passed"), "{text}");
    assert!(printed(&["simulate", "--faults", "list"]).lines().count() > 30);
}

#[test]
fn arguments_of_simulate_that_make_no_sense_are_refused_before_anything_runs() {
    for (words, why) in [
        (&["--devices", "0"][..], "1..=100000"),
        (&["--devices", "100001"], "1..=100000"),
        (&["--days", "0"], "0.042"),
        (&["--days", "nan"], "0.042"),
        (&["--days", "40000"], "36500"),
        (&["--heartbeat", "3"], "5..=120"),
        (&["--firmware-kib", "0"], "1..=65536"),
        (&["--releases", "1001"], "0..=1000"),
        (&["--faults", "earthquake"], "\"earthquake\"; there are all, none, network"),
        (&["--rates", "cut=often"], "\"often\" is no factor"),
        (&["--rates", "earthquake=2"], "--faults list"),
        (&["--runs", "5", "--days", "2"], "cannot be used with"),
        (&["--runs", "5", "--html", "x.html"], "cannot be used with"),
        (&["--replay", "x.json", "--seed", "2"], "cannot be used with"),
        (&["--replay", "/nowhere/x.json"], "/nowhere/x.json: No such file"),
        (&["--html", "/nowhere/x.html"], "can't be written to /nowhere/x.html"),
    ] {
        refused(&[&["simulate"], words].concat(), why);
    }
}

#[test]
fn a_file_that_is_no_saved_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    for (text, why) in [("", "EOF"), ("no json", "expected"), (r#"{"scenario":{}}"#, "missing field `seed`")]
    {
        std::fs::write(&file, text).unwrap();
        refused(&["simulate", "--replay", file.to_str().unwrap()], why);
    }
}

#[test]
fn a_page_that_is_there_is_kept_when_the_arguments_make_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("fleet.html");
    std::fs::write(&page, "older").unwrap();
    let words = ["simulate", "--html", page.to_str().unwrap(), "--faults", "earthquake"];
    refused(&words, "earthquake");
    assert_eq!(std::fs::read_to_string(&page).unwrap(), "older");
}

#[test]
fn power_cuts_that_select_nothing_are_refused() {
    refused(&["power-cuts", "--golden", "/nowhere"], "/nowhere is no folder");
    refused(&["power-cuts", "--quick", "--samples", "1", "--only", "no such case"], "\"no such case\"");
}
