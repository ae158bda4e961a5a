//! Opening archives: what is checked before anything else happens.

use crate::front_support::{Case, case, none, open, strings};
use fwup_stream::archive::{Purpose, SignatureState};
use fwup_stream::trust::PublicKey;
use serde_json::Value;

/// Returns the keys a run is given; nothing if one of them is refused.
fn keys(case: &Case, argv: &[String]) -> Option<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for pair in argv.windows(2) {
        match pair[0].as_str() {
            "-p" | "--public-key-file" => keys.push(PublicKey::from_file_bytes(&case.file(&pair[1])?).ok()?),
            "--public-key" => keys.push(PublicKey::from_text(&pair[1]).ok()?),
            _ => {}
        }
    }
    keys.truncate(fwup_stream::limits::PUBLIC_KEYS);
    Some(keys)
}

fn archive_of(case: &Case, run: &Value, argv: &[String]) -> Option<(Option<String>, Vec<u8>)> {
    match argv.windows(2).find(|pair| pair[0] == "-i") {
        Some(pair) => Some((Some(pair[1].clone()), case.file(&pair[1])?)),
        None => Some((None, case.file(run["stdin"]["file"].as_str()?)?)),
    }
}

/// The text of a run's error, framed or not.
fn error_text(run: &Value) -> Option<String> {
    if run["exit"] == 0 {
        return None;
    }
    if let Some(frames) = run["stdout_frames"].as_array() {
        return Some(frames.last()?["text"].as_str()?.to_owned());
    }
    Some(run["stdout"].as_str()?.trim_end().rsplit("fwup: ").next()?.to_owned())
}

/// Errors that opening an archive can end with; other runs fail later.
fn is_opening_error(text: &str) -> bool {
    ["Expecting ", "Unexpected ", "Firmware archive's", "Unrecognized", "Corrupt archive", "meta.conf isn't"]
        .iter()
        .any(|start| text.starts_with(start))
        && !text.contains("list")
}

fn check_case(name: &str) {
    let Some(case) = case(name) else { return };
    let mut compared = 0;
    for run in case.runs() {
        let argv = strings(&run["argv"]);
        let purpose = match argv[0].as_str() {
            "-a" | "-V" => Purpose::Apply,
            "-m" | "-l" => Purpose::Inspect,
            _ => continue,
        };
        let Some((file, archive)) = archive_of(&case, run, &argv) else { continue };
        let expected = error_text(run).filter(|text| is_opening_error(text));
        let Some(keys) = keys(&case, &argv) else {
            let text = run["stdout"].as_str().unwrap();
            assert!(text.contains("key"), "{}: {text}", run["name"]);
            continue;
        };
        for piece in [1, usize::MAX] {
            let outcome = open(&archive, &keys, file.as_deref(), purpose, &none, piece);
            let text = outcome.as_ref().err().map(ToString::to_string);
            assert_eq!(text, expected, "{name} {}", run["name"]);
            if let (Ok(opened), "-V", Some(text)) = (&outcome, argv[0].as_str(), run["stdout"].as_str()) {
                let state = match opened.signature {
                    SignatureState::Good => "good signature",
                    SignatureState::Unverified => "unverified signature",
                    SignatureState::Unsigned => "without a signature",
                };
                assert!(run["exit"] == 1 || text.contains(state), "{name} {}: {text}", run["name"]);
            }
        }
        compared += 1;
    }
    assert!(compared > 0, "no run of {name} could be compared");
}

#[test]
fn signatures_and_keys() {
    check_case("signed");
}

#[test]
fn manifests_in_the_wrong_place_and_of_the_wrong_size() {
    check_case("corrupt");
}

#[test]
fn shapes_of_containers() {
    check_case("zip-forms");
}
