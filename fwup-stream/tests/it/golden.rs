//! Every recorded run of fwup that this version can do, replayed through the built command.

use crate::golden_support::{Case, folder, say, strings};
use serde_json::Value;

/// The cases replayed.
const CASES: &[&str] = &[
    "ab-upgrade",
    "command-line",
    "concatenated",
    "corrupt",
    "delta-encrypted",
    "delta-fat",
    "delta-raw",
    "deploy-variables",
    "events-order",
    "fat-errors",
    "fat-file-match-long",
    "fat-files-fat12",
    "fat-files-fat16",
    "fat-files-fat32",
    "fat-foreign",
    "fat-mkfs-existing",
    "fat-mkfs-sizes",
    "fat-several",
    "gpt-write",
    "keys",
    "mbr-expand",
    "mbr-logical",
    "mbr-write",
    "metadata",
    "on-error",
    "progress",
    "raw-memset",
    "raw-write",
    "raw-write-encrypted",
    "raw-write-far",
    "signed",
    "sparse",
    "string-resources",
    "task-selection",
    "trim",
    "truncated",
    "uboot-env",
    "uboot-env-far",
    "uboot-env-redundant",
    "unknown-calls",
    "unknown-things",
    "unsafe",
    "zip-forms",
    "zip64",
];

/// Runs where another outcome is right, by case and name (or its beginning and a star).
const DIFFERENT: &[(&str, &str, &str)] = &[
    ("delta-encrypted", "unaligned-upgrade*", "an encrypted source may begin inside a segment"),
    ("delta-raw", "verify-patch-cut", BROKEN),
    ("delta-raw", "verify-patch-empty", BROKEN),
    ("sparse", "pipe-mid", HOLES),
    ("sparse", "pipe-lead", HOLES),
    ("sparse", "pipe-tail", HOLES),
    ("unknown-calls", "apply-section-in-mbr", SECTION),
    ("unknown-things", "apply-negative-offset", "a negative block is refused before anything is written"),
];

/// fwup looks at the headers of deltas only. What this says of a broken one goes to standard error when called as fwup.
const BROKEN: &str = "a broken delta is told on standard error";
/// fwup fails to pipe a resource with holes.
const HOLES: &str = "holes are piped as zeros";
/// fwup takes what follows an unknown section for a part of it.
const SECTION: &str = "an unknown section that swallows others is refused";

fn listed<'a>(list: &'a [(&str, &str, &str)], case: &str, name: &str) -> Option<&'a str> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => name == pattern,
    };
    list.iter().find(|(of, pattern, _)| *of == case && fits(pattern)).map(|(_, _, why)| *why)
}

/// Whether a run makes an archive, which `create_golden.rs` compares entry by entry.
fn creates(run: &Value) -> bool {
    !run["try.conf"].is_null() || strings(&run["argv"]).iter().any(|word| word == "-c")
}

#[test]
fn recorded_runs_come_out_the_same() {
    let Some(folder) = folder() else {
        say("SKIPPED: recorded runs: neither ../shared/golden/fw nor testkit/golden/fw is here");
        return;
    };
    say(&format!("recorded runs from {}", folder.display()));
    let mut failures = Vec::new();
    let (mut passed, mut total) = (0, 0);
    for name in CASES {
        let Some(mut case) = Case::open(&folder, name) else {
            say(&format!("SKIPPED: case {name} is not here"));
            continue;
        };
        let mut tally = Tally::default();
        for run in case.expected["runs"].as_array().unwrap().clone() {
            replay(&mut case, &run, &mut tally);
        }
        say(&format!(
            "{name}: {}/{} passed{}",
            tally.passed,
            tally.passed + tally.failures.len(),
            tally.asides()
        ));
        passed += tally.passed;
        total += tally.passed + tally.failures.len();
        failures.append(&mut tally.failures);
    }
    say(&format!("recorded runs: {passed}/{total} passed"));
    assert!(failures.is_empty(), "{} runs differ:\n{}", failures.len(), failures.join("\n"));
}

/// How the runs of a case went.
#[derive(Default)]
struct Tally {
    passed: usize,
    failures: Vec<String>,
    skipped: Vec<(String, String)>,
    different: Vec<(String, String)>,
}

impl Tally {
    /// The runs that were not compared, with the reasons.
    fn asides(&self) -> String {
        let list = |kind: &str, runs: &[(String, String)]| {
            let mut text = String::new();
            let mut reasons: Vec<_> = runs.iter().map(|(_, why)| why).collect();
            reasons.sort();
            reasons.dedup();
            for why in reasons {
                let names: Vec<_> =
                    runs.iter().filter(|(_, of)| of == why).map(|(name, _)| name.as_str()).collect();
                text.extend(["\n    ", kind, " (", why, "): ", &names.join(", ")]);
            }
            text
        };
        list("SKIPPED", &self.skipped) + &list("DIFFERENT", &self.different)
    }
}

fn replay(case: &mut Case, run: &Value, tally: &mut Tally) {
    let name = run["name"].as_str().unwrap();
    if creates(run) {
        tally.skipped.push((name.to_owned(), "replayed by create_golden.rs".to_owned()));
        return;
    }
    let stdin = match case.prepare(run) {
        Ok(stdin) => stdin,
        Err(why) => {
            tally.skipped.push((name.to_owned(), why));
            return;
        }
    };
    let outcome = case.execute(run, stdin);
    let wrong = case.compare(run, &outcome);
    match (wrong.is_empty(), listed(DIFFERENT, &case.name, name)) {
        (true, None) => tally.passed += 1,
        (false, Some(why)) => tally.different.push((name.to_owned(), why.to_owned())),
        // The list must not outlive its reasons.
        (true, Some(_)) => tally.failures.push(format!("{} {name}: no longer different", case.name)),
        (false, None) => tally.failures.push(format!("{} {name}: {}", case.name, wrong.join("; "))),
    }
}
