//! The bodies of the fuzz targets, on every seed, every regression and some random inputs.
//!
//! `fuzz/seed` runs the ignored test, which makes the seeds from the golden data.

use crate::seeds;

use std::path::{Path, PathBuf};
use std::time::Instant;

use nerves_hub_link_testkit::harness::{self, Target};

/// Random inputs for each target, most of them short.
const RANDOM: u64 = 60;
/// Bytes of all seeds.
const SEEDS_MAX: u64 = 400 * 1024;

fn fuzz(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(part)
}

/// The files of a folder, sorted; without the README.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file() && path.file_name().is_some_and(|name| name != "README.md"));
    files.sort();
    files
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

pub fn random_bytes(state: &mut u64, length: usize) -> Vec<u8> {
    (0..length).map(|_| random(state).to_le_bytes()[0]).collect()
}

/// Runs a target; says on which input it failed, and how to make that a regression.
fn run(name: &str, target: Target, what: &str, input: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target(input));
    if outcome.is_err() {
        let hex = fwup_stream::trust::to_hex(&input[..input.len().min(400)]);
        panic!("{name} failed on {what}; the input of {} bytes begins with {hex}", input.len());
    }
}

fn replay(folder: &str, at_least: usize) {
    for (name, target) in harness::TARGETS {
        let started = Instant::now();
        let inputs = files(&fuzz(folder).join(name));
        for path in &inputs {
            run(name, target, &path.display().to_string(), &std::fs::read(path).unwrap());
        }
        println!("{name}: {} {folder} in {:?}", inputs.len(), started.elapsed());
        assert!(inputs.len() >= at_least, "{name} has no {folder}; run fuzz/seed");
    }
}

#[test]
fn every_regression_stays_fixed() {
    replay("regressions", 0);
    for entry in std::fs::read_dir(fuzz("regressions")).unwrap() {
        let path = entry.unwrap().path();
        let known = |name: &str| harness::TARGETS.iter().any(|(target, _)| *target == name);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(!path.is_dir() || known(name), "{name} is no target");
    }
}

#[test]
fn every_seed_passes() {
    replay("seeds", 1);
}

#[test]
fn random_inputs_pass() {
    for (name, target) in harness::TARGETS {
        let started = Instant::now();
        let mut state = name.bytes().fold(1_u64, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
        println!("{name}: random inputs from {state}");
        for number in 0..RANDOM {
            let length = usize::try_from(random(&mut state) % (8 << (number % 8))).unwrap();
            run(name, target, &format!("random input {number}"), &random_bytes(&mut state, length));
        }
        // What a fuzzer does first: a seed with some bytes changed, or the front of one.
        let seeds = files(&fuzz("seeds").join(name));
        for number in 0..RANDOM {
            let pick = usize::try_from(random(&mut state)).unwrap() % seeds.len().max(1);
            let Some(path) = seeds.get(pick) else { break };
            let mut input = std::fs::read(path).unwrap();
            for _ in 0..=number % 4 {
                let at = usize::try_from(random(&mut state)).unwrap() % input.len().max(1);
                match input.get_mut(at) {
                    Some(byte) if number % 3 > 0 => *byte ^= random(&mut state).to_le_bytes()[0],
                    _ => input.truncate(at.max(1)),
                }
            }
            run(name, target, &format!("changed seed {number} ({})", path.display()), &input);
        }
        println!("{name}: {:?}", started.elapsed());
    }
}

#[test]
fn the_fuzz_package_has_every_target() {
    let manifest = std::fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    for (name, _) in harness::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml lacks {name}");
        let program = std::fs::read_to_string(fuzz("targets").join(format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("harness::{name}(data)")), "fuzz/targets/{name}.rs");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), harness::TARGETS.len());
}

/// A harness that always passes finds nothing: a body that panics must be noticed.
#[test]
fn a_broken_promise_is_noticed() {
    let broken: Target = |data| assert!(data.is_empty(), "broken");
    assert!(std::panic::catch_unwind(|| run("broken", broken, "nothing", &[])).is_ok());
    assert!(std::panic::catch_unwind(|| run("broken", broken, "something", &[1])).is_err());
}

#[test]
#[ignore = "writes fuzz/seeds; see fuzz/seed"]
fn make_seeds() {
    let mut total = 0;
    for (name, inputs) in seeds::all() {
        let folder = fuzz("seeds").join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (title, input) in &inputs {
            total += input.len() as u64;
            std::fs::write(folder.join(title), input).unwrap();
        }
        println!("{name}: {} seeds", inputs.len());
        assert!(!inputs.is_empty(), "{name}");
    }
    println!("{total} bytes of seeds");
    assert!(total <= SEEDS_MAX, "{total} bytes of seeds");
}
