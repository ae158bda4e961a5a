//! U-Boot environments as the reference tool reads and writes them: the same copy is read, the same
//! copy is written, byte for byte.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use nerves_hub_link_platform::kv::fw_env_config::{FwEnvConfig, Location};
use nerves_hub_link_platform::kv::{KeyValueStore, UbootStore};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

type Changes = Vec<Vec<(&'static str, Option<&'static str>)>>;

const FIRST: usize = 16 * 512;
const SECOND: usize = 32 * 512;
const SIZE: usize = 4 * 512;

fn case(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let places = [root.join("../shared/golden/fw").join(name), root.join("testkit/golden/fw").join(name)];
    let found = places.into_iter().find(|place| place.join("expected.json").exists());
    match &found {
        Some(place) => println!("golden data: {}", place.display()),
        None => drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!(
                "SKIPPED: golden case {name} is neither in ../shared/golden nor in testkit/golden\n"
            ),
        )),
    }
    found
}

fn unpack(path: &Path) -> Vec<u8> {
    let mut image = Vec::new();
    let file = fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    ruzstd::decoding::StreamingDecoder::new(file).unwrap().read_to_end(&mut image).unwrap();
    image
}

/// The recorded image is zeros but for some extents, of which the digests are known.
fn assert_extents(image: &[u8], recorded: &Value, what: &str) {
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let extents = recorded["nonzero_extents"].as_array().unwrap();
    assert!(!extents.is_empty());
    for extent in extents {
        let (offset, length) = (number(&extent["offset"]), number(&extent["length"]));
        let digest = format!("{:x}", Sha256::digest(&image[offset..offset + length]));
        assert_eq!(digest, extent["sha256"].as_str().unwrap(), "{what}: {length} bytes at {offset}");
    }
}

/// What each task of the case's manifest does, one write of the environment per entry.
fn changes(task: &str) -> Option<Changes> {
    Some(match task {
        "set" => vec![
            vec![("active", Some("a"))],
            vec![("bootcmd", Some("run x; run y=z"))],
            vec![("aaa", Some(""))],
        ],
        "unset" => vec![vec![("active", None)]],
        "redundant set" => vec![vec![("n", Some("new"))]],
        "redundant set2" => vec![vec![("n", Some("one"))], vec![("m", Some("two"))]],
        "redundant unset" => vec![vec![("n", None)]],
        _ => return None,
    })
}

/// Replays every recorded run that begins with an image and does nothing but set and unset.
fn replay(name: &str, redundant: bool) -> usize {
    let Some(case) = case(name) else { return 0 };
    let recorded: Value = serde_json::from_slice(&fs::read(case.join("expected.json")).unwrap()).unwrap();
    let dir = TempDir::new().unwrap();
    let mut replayed = 0;
    for run in recorded["runs"].as_array().unwrap() {
        let run_name = run["name"].as_str().unwrap();
        let Some(image) = run["before"]["file"].as_str() else { continue };
        let argv: Vec<&str> =
            run["argv"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let task = argv.iter().skip_while(|word| **word != "-t").nth(1).unwrap();
        let task = if redundant { format!("redundant {task}") } else { (*task).to_owned() };

        let disk = dir.path().join("disk.img");
        fs::write(&disk, unpack(&case.join(image))).unwrap();
        let at = |offset: usize| Location { path: disk.clone(), offset: offset as u64, size: SIZE };
        let second = redundant.then(|| at(SECOND));
        let mut store = UbootStore::new(FwEnvConfig::new(at(FIRST), second).unwrap());

        if task == "redundant is" {
            let expected = match run["stdout"].as_str().unwrap().trim() {
                "fwup: first copy" => Some("first"),
                "fwup: second copy" => Some("second"),
                _ => None,
            };
            let found = store.get("n").ok().flatten();
            assert_eq!(found.as_deref(), expected, "{name}: {run_name}");
            replayed += 1;
            continue;
        }
        let Some(changes) = changes(&task) else { continue };
        // Foreign to this store on purpose: it reads what it can of an entry without `=`.
        if image.starts_with("no-equals") {
            continue;
        }
        let outcome: Result<(), _> = changes.iter().try_for_each(|change| store.update(change));
        assert_eq!(outcome.is_ok(), run["exit"] == 0, "{name}: {run_name}: {outcome:?}");
        if outcome.is_ok() {
            let written = fs::read(&disk).unwrap();
            assert_extents(&written, &run["destination"]["out.img"], &format!("{name}: {run_name}"));
        }
        replayed += 1;
    }
    println!("{name}: {replayed} recorded runs replayed");
    replayed
}

#[test]
fn plain_environments_are_written_as_fwup_writes_them() {
    if case("uboot-env").is_some() {
        assert_eq!(replay("uboot-env", false), 6);
    }
}

#[test]
fn redundant_environments_are_read_and_written_as_fwup_does() {
    if case("uboot-env-redundant").is_some() {
        assert!(replay("uboot-env-redundant", true) >= 30);
    }
}
