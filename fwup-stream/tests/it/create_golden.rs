//! Every recorded creation, signature and key of fwup, made again by the built command.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::create_support::{Entry, copy_folder, entries, golden_folder, hex, run, say, unzip_accepts};
use fwup_stream::create::PrivateKey;
use fwup_stream::manifest::{Configuration, Manifest};
use fwup_stream::trust::PublicKey;
use serde_json::Value;

/// Runs where another outcome is right.
const DIFFERENT: &[(&str, &str, &str)] = &[
    ("create", "try negative", "fwup makes archives that write to a negative block, which is nowhere"),
    ("config-grammar", "title-dq-esc", "fwup writes a manifest it can't read; the name is refused here"),
    ("gpt-write", "try low-offset", "fwup lets a partition overwrite the table that it is in"),
    ("mbr-logical", "try inside-ebr", "fwup lets a partition overwrite its own boot record"),
];

/// Runs that cannot be made again here.
const SKIPPED: &[(&str, &str, &str)] = &[
    ("require-fwup-version", "create x.fw", "its text is not recorded"),
    ("zip64", "create input.fw", "needs a file of 4.3 GB; its headers are tested in create_archive.rs"),
];

fn listed(list: &'static [(&str, &str, &str)], case: &str, name: &str) -> Option<&'static str> {
    list.iter().find(|(of, which, _)| (*of, *which) == (case, name)).map(|(_, _, why)| *why)
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn pairs(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn makes_something(run: &Value) -> bool {
    let argv = strings(&run["argv"]);
    !run["try.conf"].is_null() || argv.iter().any(|word| ["-c", "-S", "-g"].contains(&word.as_str()))
}

fn argument(argv: &[String], option: &str) -> Option<String> {
    argv.iter().position(|word| word == option).and_then(|at| argv.get(at + 1)).cloned()
}

#[test]
fn recorded_creations_come_out_the_same() {
    let Some(folder) = golden_folder() else {
        say("SKIPPED: recorded creations: neither ../shared/golden/fw nor testkit/golden/fw is here");
        return;
    };
    say(&format!("recorded creations of {}", folder.display()));
    let (mut passed, mut total, mut unzipped) = (0, 0, 0);
    let mut failures = Vec::new();
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    for place in cases.iter().filter(|place| place.join("expected.json").exists()) {
        let case = place.file_name().unwrap().to_string_lossy().into_owned();
        let expected: Value =
            serde_json::from_slice(&fs::read(place.join("expected.json")).unwrap()).unwrap();
        let runs: Vec<&Value> = expected["runs"].as_array().unwrap().iter().collect();
        if !runs.iter().any(|run| makes_something(run)) {
            continue;
        }
        let work = tempfile::tempdir().unwrap();
        copy_folder(place, work.path());
        let (mut good, mut all) = (0, 0);
        for (index, run) in runs.iter().enumerate().filter(|(_, run)| makes_something(run)) {
            let name = run["name"].as_str().unwrap();
            if let Some(why) =
                listed(SKIPPED, &case, name).or_else(|| prepare(&case, run, place, work.path()))
            {
                say(&format!("SKIPPED: {case} | {name}: {why}"));
                continue;
            }
            all += 1;
            // What a later run writes again is recorded as that one left it.
            let output = argument(&strings(&run["argv"]), "-o");
            let is_last = !runs[index + 1..]
                .iter()
                .any(|later| later["exit"] == 0 && argument(&strings(&later["argv"]), "-o") == output);
            match replay(run, &expected, place, work.path(), is_last, &mut unzipped) {
                Ok(()) if listed(DIFFERENT, &case, name).is_some() => {
                    failures.push(format!("{case} | {name}: listed as different, and is not"));
                }
                Ok(()) => good += 1,
                Err(_) if listed(DIFFERENT, &case, name).is_some() => {
                    say(&format!("different: {case} | {name}: {}", listed(DIFFERENT, &case, name).unwrap()));
                    good += 1;
                }
                Err(what) => failures.push(format!("{case} | {name}: {what}")),
            }
        }
        say(&format!("{case}: {good}/{all}"));
        passed += good;
        total += all;
    }
    say(&format!("recorded creations: {passed}/{total}; unzip -t accepted {unzipped} archives"));
    if unzipped == 0 {
        say("SKIPPED: checks with unzip, which is not here");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(total > 0, "no recorded run was found");
}

/// Puts the files of a run in place; the reason when they cannot be had.
fn prepare(case: &str, run: &Value, place: &Path, work: &Path) -> Option<&'static str> {
    let argv = strings(&run["argv"]);
    if let Some(text) = run["try.conf"].as_str() {
        fs::write(work.join("try.conf"), text).unwrap();
    } else if case == "require-fwup-version" {
        let text = format!("require-fwup-version = \"{}\"\n", run["name"].as_str().unwrap());
        fs::write(work.join("try.conf"), text).unwrap();
    }
    let has_file = |name: &Option<String>| name.as_ref().is_none_or(|name| work.join(name).exists());
    if argv.iter().any(|word| word == "-S") {
        if case == "signed" && argument(&argv, "-i").as_deref() == Some("inplace.fw") {
            fs::copy(work.join("unsigned.fw"), work.join("inplace.fw")).unwrap();
        }
        let here = has_file(&argument(&argv, "-i")) && has_file(&argument(&argv, "-s"));
        return (!here).then_some("its files are not in this selection");
    }
    let is_missing = run["stdout"].as_str().is_some_and(|text| text.contains("Error opening configuration"));
    if !is_missing && !argv.iter().any(|word| word == "-g") && !has_file(&argument(&argv, "-f")) {
        return Some("its configuration is not in this selection");
    }
    if run["exit"] != 0 {
        return None;
    }
    // Files of the host that are not stored are in the archive that was made of them.
    let (Some(configuration), Some(output)) = (argument(&argv, "-f"), argument(&argv, "-o")) else {
        return None;
    };
    let env = pairs(&run["env"]);
    let variables = |name: &str| env.get(name).cloned();
    let configuration = Configuration::read(&work.join(configuration), &variables).ok()?;
    let Ok(archive) = fs::read(place.join(&output)) else {
        let paths = configuration.resources().into_iter().filter_map(|resource| resource.host_path);
        let here =
            paths.into_iter().flat_map(|paths| paths.split(';').map(str::to_owned).collect::<Vec<_>>());
        let missing = here.into_iter().any(|path| !Path::new(&path).exists());
        return missing.then_some("its files are not in this selection");
    };
    let recorded = entries(&archive);
    let text = entry(&recorded, "meta.conf").data(&archive);
    let manifest = Manifest::parse(&text, &|_| None).unwrap();
    for resource in configuration.resources() {
        let Some(path) = resource.host_path.filter(|path| !path.contains(';')) else { continue };
        let path = Path::new(&path);
        if path.exists() {
            continue;
        }
        let entry_name = match resource.name.strip_prefix('/') {
            Some(rooted) => rooted.to_owned(),
            None => format!("data/{}", resource.name),
        };
        let data = entry(&recorded, &entry_name).data(&archive);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::create(path).unwrap();
        let lengths = &manifest.resource(&resource.name).unwrap().length;
        file.set_len(lengths.iter().sum()).unwrap();
        let (mut from, mut at) = (0, 0);
        for (index, length) in lengths.iter().enumerate() {
            if index % 2 == 0 {
                let length = usize::try_from(*length).unwrap();
                file.seek(SeekFrom::Start(at)).unwrap();
                file.write_all(&data[from..from + length]).unwrap();
                from += length;
            }
            at += length;
        }
    }
    None
}

fn entry<'a>(entries: &'a [Entry], name: &str) -> &'a Entry {
    entries.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no {name}"))
}

fn compare<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}\n   is {got:?}\n want {want:?}")) }
}

fn replay(
    recorded: &Value,
    expected: &Value,
    place: &Path,
    work: &Path,
    is_last: bool,
    unzipped: &mut u32,
) -> Result<(), String> {
    let argv = strings(&recorded["argv"]);
    let words: Vec<&str> = argv.iter().map(String::as_str).collect();
    let env = pairs(&recorded["env"]);
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let outcome = run(work, &words, &env, b"");
    compare("exit", &outcome.status.code().map(i64::from), &recorded["exit"].as_i64())?;
    compare(
        "stderr",
        &String::from_utf8_lossy(&outcome.stderr).as_ref(),
        &recorded["stderr"].as_str().unwrap(),
    )?;
    if let Some(text) = recorded["stdout"].as_str() {
        compare("stdout", &String::from_utf8_lossy(&outcome.stdout).as_ref(), &text)?;
    } else {
        compare("frames", &hex(&outcome.stdout), &recorded["stdout_hex"].as_str().unwrap().to_owned())?;
    }
    for (file, facts) in recorded["key_files"].as_object().into_iter().flatten() {
        check_key(&work.join(file), facts);
    }
    let Some(output) = argument(&argv, "-o").filter(|_| recorded["exit"] == 0) else { return Ok(()) };
    let Ok(archive) = fs::read(work.join(&output)) else { return Ok(()) };
    let made = entries(&archive);
    let text = String::from_utf8(entry(&made, "meta.conf").data(&archive)).unwrap();
    if unzip_accepts(&work.join(&output)) {
        *unzipped += 1;
    }
    if let Some(want) = recorded["meta_conf"].as_str() {
        return compare("meta.conf", &text.as_str(), &want);
    }
    let facts = &expected["archives"][&output];
    if !is_last || facts.is_null() {
        return Ok(());
    }
    let want = facts["meta_conf"].as_str().unwrap();
    if want.ends_with("...") {
        // Recorded only in part.
        let archive = fs::read(place.join(&output)).map_err(|error| error.to_string())?;
        let want = String::from_utf8(entry(&entries(&archive), "meta.conf").data(&archive)).unwrap();
        compare("meta.conf", &text, &want)?;
    } else {
        compare("meta.conf", &text.as_str(), &want)?;
    }
    let want: Vec<Value> = facts["entries"].as_array().unwrap().iter().map(lasting).collect();
    let got: Vec<Value> = made.iter().map(described).collect();
    compare("entries", &got, &want)?;
    for entry in &made {
        let data = entry.data(&archive);
        if let Ok(theirs) = fs::read(place.join(&output)) {
            let their_entries = entries(&theirs);
            let their_entry = self::entry(&their_entries, &entry.name);
            compare(&entry.name, &data, &their_entry.data(&theirs))?;
        }
    }
    Ok(())
}

/// What must be the same in every implementation.
fn lasting(entry: &Value) -> Value {
    let mut entry = entry.clone();
    for name in ["compressed", "local_header_at"] {
        entry.as_object_mut().unwrap().remove(name);
    }
    entry
}

/// The same of an entry of ours.
fn described(entry: &Entry) -> Value {
    let (time, date) = (entry.time, entry.date);
    serde_json::json!({
        "name": entry.name,
        "method": entry.method,
        "flags": entry.flags,
        "crc32": format!("{:08x}", entry.crc),
        "size": entry.size,
        "dos_time": [1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, (time & 31) * 2],
        "version_needed": entry.version,
        "made_by": entry.made_by,
        "external_attr": format!("{:08x}", entry.attributes),
        "local_sizes": entry.local_sizes,
        "local_extra_hex": entry.local_extra,
        "central_extra_hex": entry.central_extra,
    })
}

fn check_key(path: &Path, facts: &Value) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(Some(bytes.len() as u64), facts["bytes"].as_u64());
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    if path.extension().is_some_and(|end| end == "priv") {
        let private = PrivateKey::from_file_bytes(&bytes).unwrap();
        let public = fs::read(path.with_extension("pub")).unwrap();
        assert_eq!(private.public_key(), PublicKey::from_file_bytes(&public).ok());
    }
}

#[test]
fn configuration_from_stdin_and_archive_to_stdout() {
    let Some(place) = golden_folder().map(|folder| folder.join("create")).filter(|place| place.is_dir())
    else {
        say("SKIPPED: the recorded case 'create' is not here");
        return;
    };
    let work = tempfile::tempdir().unwrap();
    fs::copy(place.join("near.bin"), work.path().join("near.bin")).unwrap();
    let text = b"meta-product = \"from stdin\"\nfile-resource x { host-path = near.bin }\n";
    let env = [("SOURCE_DATE_EPOCH", "1700000000")];
    let outcome = run(work.path(), &["-c", "-f", "-", "-o", "-"], &env, text);
    assert!(outcome.status.success());
    let recorded = fs::read(place.join("piped.fw")).unwrap();
    let (ours, theirs) = (entries(&outcome.stdout), entries(&recorded));
    assert_eq!(ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(described(our), described(their));
        assert_eq!(our.data(&outcome.stdout), their.data(&recorded));
    }
    let wrong = run(work.path(), &["-c", "-f", "-"], &env, b"meta-product\n");
    assert_eq!(String::from_utf8_lossy(&wrong.stdout), "fwup: Error parsing configuration from stdin\n");
    assert_eq!(String::from_utf8_lossy(&wrong.stderr), "FILE:2: premature end of file\n");
}
