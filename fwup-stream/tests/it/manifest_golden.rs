//! The manifest's language and the metadata against the reference.

use crate::front_support::{case, check_metadata_run, none, strings, walk_whole};
use fwup_stream::manifest::{ListKind, Manifest, ManifestError, Metadata};
use serde_json::Value;

fn variables(run: &Value) -> impl Fn(&str) -> Option<String> {
    let environment = run["env"].clone();
    move |name: &str| environment[name].as_str().map(str::to_owned)
}

/// Unknown sections are passed over here, the reference fails on most of them (fw-format §3.3).
fn is_more_tolerant(archive: &str) -> bool {
    archive.starts_with("unknown-section")
        || archive.starts_with("unknown-titled-section")
        || archive.starts_with("section-")
        // With the mark the first section's name is an unknown one.
        || archive == "utf8-bom.fw"
}

#[test]
fn unknown_and_odd_things_in_manifests() {
    for name in ["unknown-things", "unknown-calls"] {
        let Some(case) = case(name) else { return };
        let mut compared = 0;
        for run in case.runs() {
            let argv = strings(&run["argv"]);
            let Some(at) = argv.iter().position(|arg| arg == "-i") else { continue };
            let archive = &argv[at + 1];
            // The recorded output of the long text is shortened.
            if is_more_tolerant(archive) || archive == "long-string.fw" {
                continue;
            }
            let text = match case.file(archive) {
                Some(bytes) => String::from_utf8(walk_whole(&bytes).entries.remove(0).data).unwrap(),
                None => case.expected["archives"][archive]["meta_conf"].as_str().unwrap().to_owned(),
            };
            let parsed = Manifest::parse(text.as_bytes(), &variables(run));
            let stdout = run["stdout"].as_str().unwrap();
            let fails =
                stdout.contains("Unexpected error parsing meta.conf") || stdout.contains("isn't allowed");
            match parsed {
                Ok(manifest) => {
                    assert!(!fails, "{name} {archive}");
                    if argv[0] == "-m" {
                        let metadata = Metadata::of(text.as_bytes(), &manifest, Some(315_532_800));
                        assert_eq!(metadata.to_text(), stdout, "{name} {archive}");
                    }
                }
                Err(error) => {
                    assert!(fails, "{name} {archive}: {error} {:?}", error.detail());
                    assert_eq!(format!("fwup: {error}\n"), stdout, "{name} {archive}");
                    let stderr = run["stderr"].as_str().unwrap().trim_end();
                    if archive != "include.fw" {
                        assert_eq!(error.detail().unwrap_or_default(), stderr, "{name} {archive}");
                    }
                }
            }
            compared += 1;
        }
        assert!(compared > 5, "{name}: {compared}");
    }
}

/// Texts that the reference only ever compiled: what they mean is seen in the manifest it wrote, which must
/// say the same as the text when both are read here.
#[test]
fn the_grammar() {
    for name in ["config-grammar", "config-comments"] {
        let Some(case) = case(name) else { return };
        let mut compared = 0;
        for run in case.runs() {
            let (Some(text), name) = (run["try.conf"].as_str(), run["name"].as_str().unwrap()) else {
                continue;
            };
            let parsed = Manifest::parse(text.as_bytes(), &variables(run));
            let stderr = run["stderr"].as_str().unwrap();
            compared += 1;
            if let Some(written) = run["meta_conf"].as_str() {
                let nothing = |_: &str| None;
                let mut written = Manifest::parse(written.as_bytes(), &nothing).unwrap_or_else(|error| {
                    // Titles are written without escapes; and values may hold variables, see below.
                    assert_eq!(name, "title-dq-esc", "{error} {:?}", error.detail());
                    Manifest::default()
                });
                if name == "title-dq-esc" {
                    assert_eq!(parsed.unwrap().tasks[0].name, "a\"b");
                    continue;
                }
                let mut parsed = parsed.unwrap_or_else(|error| panic!("{name}: {:?}", error.detail()));
                // Empty strings are not written, and a literal `${` would be expanded when read again.
                parsed.strings.retain(|(_, text)| !text.is_empty());
                if ["sq", "env-with-env", "dollar-only"].contains(&name) {
                    written.strings.clone_from(&expanded_only_once(name));
                }
                if name == "int-neg" {
                    assert_eq!(parsed.block_cache_size_mb, 0);
                }
                assert_eq!(
                    parsed.strings.iter().collect::<Vec<_>>(),
                    written.strings.iter().collect::<Vec<_>>()
                );
                assert_eq!(parsed, written, "{name}");
            } else if run["exit"] == 1 && !stderr.contains("no such option") {
                let error = parsed.expect_err(name);
                let (_, expected) = stderr.trim_end().split_once(": ").unwrap();
                let detail = error.detail().unwrap();
                let (_, found) = detail.split_once(": ").unwrap();
                // After a comment's line the numbers differ, so only the words are compared.
                assert_eq!(found, expected, "{name}");
            } else if run["exit"] == 0 {
                assert!(parsed.is_ok(), "{name}");
            }
        }
        assert!(compared >= 10, "{name}");
    }
}

fn expanded_only_once(name: &str) -> Vec<(String, String)> {
    let value = match name {
        "sq" => r#"a\n\ ' "x" ${HOME} $X"#,
        "env-with-env" => "${V}",
        _ => "$ $$ $V val ${V} $V",
    };
    vec![("meta-product".to_owned(), value.to_owned())]
}

#[test]
fn required_versions() {
    let Some(case) = case("require-fwup-version") else { return };
    for run in case.runs() {
        let version = run["name"].as_str().unwrap();
        if version.starts_with("create") {
            continue;
        }
        let text = format!("require-fwup-version=\"{version}\"\n");
        let parsed = Manifest::parse(text.as_bytes(), &none);
        let detail = parsed.as_ref().err().and_then(ManifestError::detail).unwrap_or_default();
        let expected = run["stderr"].as_str().unwrap().trim_end().replace("try.conf:", "[buf]:");
        assert_eq!(detail, expected, "{version}");
    }
    assert!(Manifest::parse(b"require-fwup-version=\"\"\n", &none).is_ok());
}

#[test]
fn numbers_and_booleans_of_partitions() {
    let text =
        b"mbr m { partition 0 { block-offset = 010 block-count = 0x10 type = 010 boot = Yes expand = off } }";
    let manifest = Manifest::parse(text, &none).unwrap();
    let partition = &manifest.mbrs[0].partitions[0];
    assert_eq!((partition.block_offset.as_str(), partition.block_count, partition.kind), ("010", 16, 8));
    assert!(partition.boot && !partition.expand);
}

#[test]
fn deploy_variables() {
    let Some(case) = case("deploy-variables") else { return };
    let text = case.expected["archives"]["input.fw"]["meta_conf"].as_str().unwrap();
    for name in ["late", "late-unset", "late-quotes", "uuid-override"] {
        let run = case.run(name);
        let manifest = Manifest::parse(text.as_bytes(), &variables(run)).unwrap();
        let task = manifest.tasks.iter().find(|task| task.name == "late").unwrap();
        let calls = task.on_init.calls(ListKind::Functions).unwrap();
        let printed: Vec<_> = calls.iter().map(|call| format!("fwup: {}\n", call.args[0])).collect();
        assert_eq!(printed.concat(), run["stdout"].as_str().unwrap(), "{name}");
    }
    let run = case.run("metadata");
    let archive = case.file("input.fw").unwrap();
    check_metadata_run(run, &archive, &[]);
}

#[test]
fn metadata_is_printed_as_the_reference_prints_it() {
    let Some(case) = case("metadata") else { return };
    let mut compared = 0;
    for run in case.runs() {
        let argv = strings(&run["argv"]);
        let is_metadata = argv.iter().any(|arg| arg == "-m" || arg == "--metadata");
        let name = match argv.iter().position(|arg| arg == "-i") {
            Some(at) => argv[at + 1].clone(),
            None => "input.fw".to_owned(),
        };
        if !is_metadata {
            continue;
        }
        let Some(mut archive) = case.file(&name) else { continue };
        if run["name"] == "first-bytes" {
            let second =
                case.expected["archives"]["input.fw"]["entries"][1]["local_header_at"].as_u64().unwrap();
            archive.truncate(usize::try_from(second).unwrap() + 40);
        }
        check_metadata_run(run, &archive, &[]);
        compared += 1;
    }
    assert!(compared > 15);
}

#[test]
fn nicknames_and_uuids() {
    let Some(case) = case("nicknames") else { return };
    let vectors = case.expected["vectors"].as_array().unwrap();
    for vector in vectors {
        let text = vector["meta_conf"].as_str().unwrap();
        let metadata = Metadata::of(text.as_bytes(), &Manifest::default(), None);
        assert_eq!(metadata.uuid(), vector["uuid"].as_str().unwrap());
        assert_eq!(metadata.nickname(), vector["nickname"].as_str().unwrap());
    }
    assert!(vectors.len() > 10);
}

#[test]
fn identity_cannot_be_changed() {
    for text in ["meta-uuid=x\n", "meta-nickname=x\n", "define!(FWUP_META_NICKNAME, x)\n"] {
        assert_eq!(Manifest::parse(text.as_bytes(), &none), Err(ManifestError::ChangesIdentity));
    }
}
