//! Comments and documents cite the specifications in `docs/spec`. Every section that is cited exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::documents::root;

/// The sections of each specification, by its name.
fn sections() -> BTreeMap<String, BTreeSet<String>> {
    let folder = root().join("docs/spec");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let specs = files.filter(|path| path.file_stem().is_some_and(|name| name != "README"));
    specs
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), headings(&text))
        })
        .collect()
}

/// The numbers of all headings: `1`, `1.1`, `A2.3`, `D`.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
    let numbers = titles.filter_map(|title| title.split_whitespace().next());
    numbers.map(|number| number.trim_end_matches('.').replace("A.", "A")).collect()
}

/// The citations in a text: the specification, the section, and whether `§` was written. Comments may break a line anywhere.
fn citations(text: &str, names: &BTreeSet<&str>) -> Vec<(String, String)> {
    let joined = text.lines().map(|line| {
        let line = line.trim_start();
        ["///", "//!", "//"].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line)
    });
    let words: Vec<String> = joined.flat_map(str::split_whitespace).map(str::to_owned).collect();
    let mut found = Vec::new();
    let mut current: Option<&str> = None;
    for word in &words {
        let bare = word.trim_start_matches(['(', '`', '[']);
        let name = names.iter().find(|name| {
            bare.strip_prefix(**name).is_some_and(|rest| matches!(rest, "" | "," | ".md" | ".md`" | "`"))
        });
        if let Some(name) = name {
            current = Some(name);
            continue;
        }
        let Some(spec) = current else { continue };
        let connects = matches!(word.as_str(), "and" | "to");
        match section(word) {
            Some(section) => {
                found.push((spec.to_owned(), section));
                // `§5.1, A3` goes on; `§5.1)` does not.
                if !word.ends_with(',') {
                    current = None;
                }
            }
            None if connects => {}
            None => current = None,
        }
    }
    found
}

/// The section that a word names: `§6.2`, `A14` or `§A.3`, whatever stands behind.
fn section(word: &str) -> Option<String> {
    let bare = word.trim_start_matches('(');
    let number = bare.strip_prefix('§').or_else(|| {
        let digits = bare.strip_prefix(['A', 'B'])?;
        digits.starts_with(|c: char| c.is_ascii_digit()).then_some(bare)
    })?;
    let end = number.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')).unwrap_or(number.len());
    Some(number.get(..end)?.trim_end_matches('.').replace("A.", "A"))
}

fn texts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if path.is_dir() {
            if !matches!(name, "target" | ".git" | "golden" | "spec") {
                texts(&path, found);
            }
        } else if path.extension().is_some_and(|it| it == "rs" || it == "md") && name != "citations.rs" {
            found.push(path);
        }
    }
}

#[test]
fn every_section_that_is_cited_exists() {
    let sections = sections();
    assert!(sections.len() >= 7, "{:?}", sections.keys());
    let names: BTreeSet<&str> = sections.keys().map(String::as_str).collect();
    let mut files = Vec::new();
    texts(&root(), &mut files);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        for (spec, section) in citations(&text, &names) {
            count += 1;
            if !sections[&spec].contains(&section) {
                wrong.push(format!("{}: {spec} §{section}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "no such sections: {wrong:#?}");
    assert!(count > 150, "only {count} citations were found");
}

#[test]
fn every_file_that_the_architecture_names_exists() {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let named = text.split('`').skip(1).step_by(2).filter(|name| name.contains('/') && !name.contains(' '));
    let named: Vec<_> = named.collect();
    assert!(named.len() > 25, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !root().join(name).exists()).collect();
    assert!(missing.is_empty(), "docs/architecture.md names files that do not exist: {missing:?}");
}

#[test]
fn every_specification_is_in_the_index() {
    let index = fs::read_to_string(root().join("docs/spec/README.md")).unwrap();
    for name in sections().keys() {
        assert!(index.contains(&format!("[{name}.md]({name}.md)")), "{name} is not in docs/spec/README.md");
    }
}

#[test]
fn citations_are_found_in_every_form() {
    let names = BTreeSet::from(["device-protocol", "fw-format"]);
    let text = "//! Offers (device-protocol §6.2, A14), and fw-format\n/// §13.5. See `device-protocol.md` §1.3; not §9.\n// device-protocol A2 to A8";
    let found: Vec<_> = citations(text, &names);
    let expected = [
        ("device-protocol", "6.2"),
        ("device-protocol", "A14"),
        ("fw-format", "13.5"),
        ("device-protocol", "1.3"),
        ("device-protocol", "A2"),
    ];
    assert_eq!(found, expected.map(|(spec, section)| (spec.to_owned(), section.to_owned())));
    assert!(
        headings("## 1.1 A\n# A2. B\n### A.3 C")
            .is_superset(&BTreeSet::from(["1.1", "A2", "A3"].map(str::to_owned)))
    );
}
