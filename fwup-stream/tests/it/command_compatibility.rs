//! The table of compatibility is held to the tests it names, and to what fwup knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn document() -> String {
    fs::read_to_string(root().join("../docs/fwup-compatibility.md")).unwrap()
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The rows of all tables: their cells.
fn rows(document: &str) -> Vec<Vec<&str>> {
    let lines = document.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| Tests |"));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let document = document();
    let golden = fs::read_to_string(root().join("tests/it/golden.rs")).unwrap();
    let manifest_golden = fs::read_to_string(root().join("tests/it/manifest_golden.rs")).unwrap();
    let shared = ["../../shared/golden/fw", "../testkit/golden/fw"].map(|place| root().join(place));
    let cases = shared.iter().find(|folder| folder.is_dir());
    let mut wrong = Vec::new();
    for name in quoted(&document) {
        if let Some((file, test)) = name.split_once("::") {
            let path = if file.contains('/') { file.to_owned() } else { format!("tests/it/{file}.rs") };
            let source = fs::read_to_string(root().join(&path)).unwrap_or_default();
            if name != "FILE::TEST" && !source.contains(&format!("fn {test}(")) {
                wrong.push(name);
            }
        } else if let Some(case) = name.strip_prefix("golden/").filter(|case| *case != "CASE") {
            if ![&golden, &manifest_golden].iter().any(|text| text.contains(&format!("\"{case}\""))) {
                wrong.push(name);
            }
        } else if let Some(case) = name.strip_prefix("create/").filter(|case| *case != "CASE") {
            // The selection that comes with the project has not all cases.
            let full = cases.filter(|folder| folder.join("INDEX.json").exists());
            if full.is_some_and(|folder| !folder.join(case).is_dir()) {
                wrong.push(name);
            }
        }
    }
    assert!(wrong.is_empty(), "no such tests: {wrong:#?}");
}

#[test]
fn every_row_names_a_test() {
    let document = document();
    let rows = rows(&document);
    assert!(rows.len() > 150, "{}", rows.len());
    for row in rows {
        let tests = quoted(row.last().unwrap());
        let is_test =
            |name: &&str| name.contains("::") || name.starts_with("golden/") || name.starts_with("create/");
        assert!(!tests.is_empty() && tests.iter().all(is_test), "{row:?}");
    }
}

/// The texts between quotes on lines that begin so.
fn names_in(source: &str, begin: &str) -> Vec<String> {
    let lines = source.lines().map(str::trim).filter_map(|line| line.strip_prefix(begin));
    lines.filter_map(|line| Some(line.split_once('"')?.0.to_owned())).collect()
}

#[test]
fn everything_the_command_knows_is_in_the_table() {
    let document = document();
    let first_cells: BTreeSet<String> = rows(&document)
        .iter()
        .flat_map(|row| row[0].split([' ', ',', '`']).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let check = read("src/manifest/call_check.rs");
    let mut wanted: Vec<String> = [names_in(&check, "rule(\""), names_in(&check, "data(\"")].concat();
    let schema = read("src/manifest/schema.rs");
    // Sections of several options, and of one on a line of its own.
    wanted.extend(schema.split("(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
    let options = read("src/bin/fwup-stream/options.rs");
    let long =
        options.split("Some(\"").skip(1).filter_map(|rest| Some(format!("--{}", rest.split_once('"')?.0)));
    wanted.extend(long);
    assert!(wanted.len() > 120, "{}", wanted.len());
    let missing: Vec<_> = wanted.iter().filter(|name| !first_cells.contains(*name)).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}
