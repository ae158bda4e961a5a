//! What the documents say about tests is so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nerves_hub_link_testkit::replay::RULES;

/// The documents whose tables name tests, and how many rows each has at least.
const DOCUMENTS: [(&str, usize); 2] = [("conformance.md", 250), ("differences.md", 120)];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// What stands between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A name of a test: the crate, the file, the function. `None` for other words.
fn test(name: &str) -> Option<(&str, &str, &str)> {
    let (path, function) = name.split_once("::")?;
    let (package, file) = path.split_once('/')?;
    (name != "CRATE/FILE::TEST").then_some((package, file, function))
}

/// The rows of all tables, but for those over the line.
fn rows(document: &str) -> Vec<&str> {
    let lines: Vec<&str> = document.lines().collect();
    let is_head = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("|-"));
    let row = |(at, line): (usize, &&str)| line.starts_with("| ") && !is_head(at);
    lines.iter().enumerate().filter(|(at, line)| row((*at, *line))).map(|(_, line)| *line).collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let mut sources: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    let tables = DOCUMENTS.map(|(name, _)| name);
    for name in tables.into_iter().chain(["security.md"]) {
        let document = document(name);
        for quoted in quoted(&document) {
            let Some((package, file, function)) = test(quoted) else { continue };
            let folder = root().join(package);
            let path = if file.starts_with("src/") {
                folder.join(file)
            } else {
                let places = [
                    format!("tests/it/{file}.rs"),
                    format!("tests/it/{file}/mod.rs"),
                    format!("tests/{file}.rs"),
                ];
                let found = places.iter().map(|place| folder.join(place)).find(|path| path.is_file());
                // A file that doesn't exist has no tests.
                found.unwrap_or_default()
            };
            let source =
                sources.entry(path.clone()).or_insert_with(|| fs::read_to_string(&path).unwrap_or_default());
            // Tests of the whole workspace are plain ones or `proptest`s, each a function behind an attribute.
            let is_test = source.split("#[test]").skip(1).any(|rest| {
                let head = rest.split_once('{').map_or(rest, |(head, _)| head);
                head.contains(&format!("fn {function}("))
            });
            if !is_test {
                wrong.push(format!("{name}: {quoted}"));
            }
        }
    }
    assert!(wrong.is_empty(), "no such tests: {wrong:#?}");
}

#[test]
fn every_row_names_a_test_or_says_why_there_is_none() {
    let mut open = Vec::new();
    for (name, least) in DOCUMENTS {
        let document = document(name);
        let rows = rows(&document);
        assert!(rows.len() >= least, "{name} has {} rows", rows.len());
        for row in rows {
            let last = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
            if last.starts_with("Open: ") {
                open.push(format!("{name}: {row}"));
                continue;
            }
            let declined = last.strip_prefix("Declined: ").is_some_and(|reason| reason.len() > 20);
            let tested = quoted(last).iter().any(|quoted| test(quoted).is_some());
            assert!(declined || tested, "{name}: {row}");
        }
    }
    println!("not done yet:\n{}", open.join("\n"));
}

#[test]
fn every_rule_of_the_replay_is_told() {
    let document = document("differences.md");
    let missing: Vec<_> = RULES
        .iter()
        .filter(|rule| !document.contains(&format!("| `{}` | {} |", rule.name, rule.reason)))
        .map(|rule| rule.name)
        .collect();
    assert!(missing.is_empty(), "not in differences.md, or with another reason: {missing:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let file = link.split('#').next().unwrap();
            let local = !file.is_empty() && !file.contains("://");
            assert!(!local || path.parent().unwrap().join(file).exists(), "{}: {link}", path.display());
        }
    }
}

#[test]
fn every_setting_is_told() {
    let document = document("configuration.md");
    let told: Vec<&str> = quoted(&document)
        .into_iter()
        .flat_map(|words| words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .collect();
    let mut missing = Vec::new();
    for (file, begin, name) in [
        ("protocol/src/config.rs", "pub struct Config {", "    pub "),
        ("protocol/src/config.rs", "pub struct ConsoleConfig {", "    pub "),
        ("protocol/src/config.rs", "pub struct DownloadConfig {", "    pub "),
        ("protocol/src/config.rs", "pub struct SharedSecret {", "    pub "),
        ("protocol/src/extension/config.rs", "pub struct ExtensionsConfig {", "    pub "),
        ("protocol/src/update_strategy.rs", "pub struct PartsConfig {", "    pub "),
        ("runtime-common/src/options.rs", "impl Options {", "    pub fn "),
    ] {
        let source = fs::read_to_string(root().join(file)).unwrap();
        let (_, body) = source.split_once(begin).unwrap_or_else(|| panic!("no {begin} in {file}"));
        let body = body.split("\n}").next().unwrap();
        let words = body.lines().filter_map(|line| line.strip_prefix(name));
        let names = words.filter_map(|rest| rest.split([':', '(']).next()).filter(|name| *name != "new");
        missing.extend(names.filter(|name| !told.contains(name)).map(|name| format!("{begin} {name}")));
    }
    assert!(missing.is_empty(), "not in configuration.md: {missing:#?}");
}

#[test]
fn every_limit_of_the_machine_is_told() {
    let document = document("conformance.md");
    let limits = fs::read_to_string(root().join("protocol/src/limits.rs")).unwrap();
    let names = limits.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let missing: Vec<&str> = names.filter(|name| !document.contains(&format!("| `{name}` | "))).collect();
    assert!(missing.is_empty(), "not in conformance.md: {missing:#?}");
}
