//! The most memory that any delta makes this process take. Each is applied in a process of its own.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

use crate::apply_support::{archive, resource, unsigned};
use crate::delta_support::{HEADER, Op, Raw, Window, encode, model, number};
use fwup_stream::disk::{FileTarget, OpenOptions};
use fwup_stream::limits::{DELTA_MEMORY, DELTA_OVERHEAD, DELTA_SOURCE_SHARE, DELTA_WINDOW};
use fwup_stream::{Applier, ApplyOptions, Error};

const MIB: usize = 1 << 20;
/// What nothing may exceed, above what the process had before.
const LIMIT: usize = 24 * MIB;
/// The largest window that xdelta3 makes unless told otherwise.
const USUAL: usize = 8 * MIB;

/// A number of `/proc/self/status`, in bytes.
fn status(name: &str) -> usize {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn stream(options: ApplyOptions, file: &Path, disk: &Path) -> Result<(), Error> {
    let target = FileTarget::open(disk, &OpenOptions::default()).unwrap();
    let mut applier = Applier::new(options, target)?;
    let (mut archive, mut piece) = (File::open(file).unwrap(), vec![0; 16 * 1024]);
    loop {
        match archive.read(&mut piece).unwrap() {
            0 => return applier.finish().map(drop),
            count => applier.push(&piece[..count])?,
        }
    }
}

fn manifest(length: usize) -> String {
    format!("file-resource \"r\" {{\nlength={length}\nblake2b-256={}\n}}\n{TASK}", "00".repeat(32))
}

const TASK: &str =
    "task \"go\" {\non-resource \"r\" {\ndelta-source-raw-offset=0\nfunlist={2,raw_write,65536}\n}\n}\n";

fn delta(window: &Raw) -> Vec<u8> {
    [HEADER.as_slice(), &window.bytes()].concat()
}

/// What each archive should come to: "good", or a part of the error's text.
fn cases(source: &[u8]) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let run = |target: usize| [vec![0], number(target as u64)].concat();
    let window = |target: usize, data: usize, instructions: Vec<u8>, addresses: usize| Raw {
        target: target as u64,
        data: vec![b'x'; data],
        instructions,
        addresses: vec![0; addresses],
        ..Raw::default()
    };
    let largest = window(DELTA_WINDOW, DELTA_WINDOW, run(DELTA_WINDOW), DELTA_OVERHEAD / 2);
    // As much of everything as just fits.
    let room = DELTA_MEMORY / DELTA_SOURCE_SHARE * (DELTA_SOURCE_SHARE - 1) - USUAL;
    let most = window(USUAL, 0, [1, 0].repeat((room - MIB / 2) / 2), MIB / 2);
    let surplus = window(USUAL, USUAL, run(USUAL), 16);
    // All of the window is new, or copied from all over a source of 20 MiB in turns, so that much of it is kept.
    let far = |at: usize| Op::Copy((at * 7 * MIB / 3 % (20 * MIB - 65536)) as u64, 4096);
    let honest = [
        Window { source: None, ops: vec![Op::Add(source[..USUAL].to_vec())], checksum: true, choice: 1 },
        Window { source: Some((0, 20 * MIB)), ops: (0..2048).map(far).collect(), checksum: true, choice: 1 },
        Window {
            source: None,
            ops: vec![Op::Add(source[MIB..MIB + USUAL].to_vec())],
            checksum: true,
            choice: 1,
        },
    ];
    let new: Vec<u8> = honest.iter().flat_map(|window| model(window, source)).collect();
    let good = honest.iter().fold(HEADER.to_vec(), |all, window| [all, encode(window, source)].concat());
    let manifest_of_good = resource("r", &new) + TASK;
    // Windows of many sizes, with sections of many sizes, around a source that is kept.
    let mut uneven = HEADER.to_vec();
    for (number, megabytes) in [8, 1, 10, 3, 14, 2, 9, 5, 12, 6, 13, 4].into_iter().enumerate() {
        let target = megabytes * MIB;
        if number % 2 == 0 {
            let ops = (0..2048).map(far).chain([Op::Run(b'r', target - 2048 * 4096)]).collect();
            let window = Window { source: Some((0, 20 * MIB)), ops, checksum: true, choice: number };
            uneven.extend(encode(&window, source));
        } else {
            let idle = [1, 0].repeat((14 * MIB - target).min(target) / 4);
            uneven.extend(window(target, 1, [idle, run(target)].concat(), 0).bytes());
        }
    }
    let hostile = |delta: Vec<u8>| archive(&manifest(100 * MIB), &[("r", &delta)]);
    vec![
        ("honest", archive(&manifest_of_good, &[("r", &good)]), "good"),
        ("largest window", hostile(delta(&largest)), "bytes of memory, but"),
        ("just what is allowed", hostile(delta(&most)), "the instructions make"),
        ("uneven windows", hostile(uneven), "should have written"),
        ("data for nothing", hostile(delta(&surplus)), "extra bytes"),
        ("for a small resource", archive(&manifest(MIB), &[("r", &delta(&largest))]), "are left to make"),
    ]
}

/// Names the file to apply, in a process of its own whose memory nothing else has used.
const CHILD: &str = "DELTA_MEMORY_FILE";

#[test]
fn no_delta_takes_more_memory_than_the_bound() {
    if let Some(file) = std::env::var_os(CHILD) {
        let file = Path::new(&file);
        let before = status("VmRSS");
        let outcome = stream(unsigned("go"), file, &file.with_file_name("disk.img"));
        let text = outcome.map_or_else(|error| error.to_string(), |()| "good".to_owned());
        println!("\npeak {} {text}", status("VmHWM").saturating_sub(before));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = crate::apply_support::data(3, 20 * MIB);
    let mut image = File::create(folder.path().join("disk.img")).unwrap();
    image.write_all(&source).unwrap();
    image.set_len(80 << 20).unwrap();
    for (name, bytes, expected) in cases(&source) {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "delta_memory::no_delta_takes_more_memory_than_the_bound", "--nocapture"])
            .env(CHILD, &file)
            .output()
            .unwrap();
        let text = String::from_utf8(child.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("peak ")).unwrap();
        let (peak, outcome) = line.split_once(' ').unwrap();
        let peak: usize = peak.parse().unwrap();
        println!("{name}: {} KiB above idle: {outcome}", peak / 1024);
        assert!(outcome.contains(expected), "{name}: {outcome}");
        assert!(peak <= LIMIT, "{name} took {peak} bytes");
    }
}
