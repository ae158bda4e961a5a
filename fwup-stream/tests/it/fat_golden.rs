//! The recorded runs of the reference on FAT file systems, played straight on `Mounts`.

use crate::fat_support::case::{Case, golden};

/// Plays all runs of a case and reports every one that differs.
fn play(name: &str, takes_part: impl Fn(&str) -> bool) {
    let Some(golden) = golden() else { return };
    let Some(case) = Case::load(&golden, name) else { return };
    let mut failures = Vec::new();
    let mut played = 0;
    for run in case.runs() {
        let run_name = run["name"].as_str().unwrap();
        if !takes_part(run_name) {
            continue;
        }
        played += 1;
        if let Err(reason) = case.check(run) {
            failures.push(format!("{run_name}: {reason}"));
        }
    }
    assert!(
        failures.is_empty(),
        "{name}: {} of {played} runs differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(played > 0, "{name} has no runs");
    println!("{name}: {played} runs are the same");
}

#[test]
fn sizes_of_new_file_systems() {
    play("fat-mkfs-sizes", |_| true);
}

#[test]
fn a_new_file_system_over_old_bytes() {
    // `a-max-size` needs a destination with a hard end.
    play("fat-mkfs-existing", |run| run != "a-max-size");
}

#[test]
fn every_function_on_fat12() {
    play("fat-files-fat12", |_| true);
}

#[test]
fn every_function_on_fat16() {
    play("fat-files-fat16", |_| true);
}

#[test]
fn every_function_on_fat32() {
    play("fat-files-fat32", |_| true);
}

#[test]
fn failing_functions() {
    play("fat-errors", |_| true);
}

#[test]
fn several_file_systems() {
    play("fat-several", |_| true);
}

#[test]
fn file_systems_made_by_other_tools() {
    play("fat-foreign", |_| true);
}

#[test]
fn searching_long_files() {
    play("fat-file-match-long", |_| true);
}

#[test]
fn holes_in_files() {
    play("sparse", |run| run.starts_with("fat"));
}
