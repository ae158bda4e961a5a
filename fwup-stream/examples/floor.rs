//! What an archive costs at least: inflating its data, hashing them, and writing as many bytes, each alone and without
//! anything around it. `benches/compare` prints these beside the times of programs.
//!
//! ```console
//! cargo run --release -p fwup-stream --example floor -- b.fw /dev/shm/floor.img
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // A tool for developers.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use flate2::{Decompress, FlushDecompress, Status};
use fwup_stream::trust::Blake2b256;

/// What programs read at once, and hand on at once.
const INPUT: usize = 16 * 1024;
const OUTPUT: usize = 128 * 1024;
/// Bytes of a local header before the name, and of what follows the data.
const HEADER: usize = 30;
const DESCRIPTOR: usize = 16;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let (archive, output) = (arguments.next().expect("an archive"), arguments.next());
    let mut best = [f64::MAX; 3];
    let mut bytes = 0;
    for _ in 0..5 {
        let mut time = |at: usize, work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            best[at] = best[at].min(start.elapsed().as_secs_f64());
        };
        time(0, &mut || bytes = inflate(&archive));
        time(1, &mut || hash(bytes));
        if let Some(output) = &output {
            let _ = std::fs::remove_file(output);
            time(2, &mut || write(output, bytes));
            let _ = std::fs::remove_file(output);
        }
    }
    print!("{bytes} bytes: inflating {:.3} s, hashing {:.3} s", best[0], best[1]);
    if output.is_some() {
        print!(", writing {:.3} s", best[2]);
    }
    println!();
}

/// Inflates all entries of an archive from the disk; returns the length of the longest.
fn inflate(archive: &std::ffi::OsStr) -> u64 {
    let mut file = File::open(archive).unwrap();
    let mut input = Vec::with_capacity(2 * INPUT);
    let mut read = |input: &mut Vec<u8>| {
        let mut piece = [0; INPUT];
        let count = file.read(&mut piece).unwrap();
        input.extend_from_slice(&piece[..count]);
        count > 0
    };
    let (mut output, mut longest) = (vec![0; OUTPUT], 0);
    loop {
        while input.len() < HEADER && read(&mut input) {}
        if !input.starts_with(b"PK\x03\x04") {
            return longest;
        }
        let word = |at: usize| usize::from(u16::from_le_bytes([input[at], input[at + 1]]));
        assert_eq!(word(8), 8, "an entry is not deflated");
        let data = HEADER + word(26) + word(28);
        while input.len() < data && read(&mut input) {}
        input.drain(..data);
        let mut machine = Decompress::new(false);
        loop {
            let before = machine.total_in();
            let status = machine.decompress(&input, &mut output, FlushDecompress::None).unwrap();
            input.drain(..usize::try_from(machine.total_in() - before).unwrap());
            if status == Status::StreamEnd {
                break;
            }
            if input.is_empty() {
                assert!(read(&mut input), "the archive ends in an entry");
            }
        }
        longest = longest.max(machine.total_out());
        while input.len() < DESCRIPTOR && read(&mut input) {}
        input.drain(..DESCRIPTOR);
    }
}

fn hash(bytes: u64) {
    let piece = vec![0xA5; OUTPUT];
    let mut digest = Blake2b256::of_much();
    for _ in 0..bytes / OUTPUT as u64 {
        digest.update(&piece);
    }
    std::hint::black_box(digest.finalize());
}

fn write(output: &std::ffi::OsStr, bytes: u64) {
    let piece = vec![0xA5; OUTPUT];
    let file = File::create(output).unwrap();
    for number in 0..bytes / OUTPUT as u64 {
        file.write_all_at(&piece, number * OUTPUT as u64).unwrap();
    }
}
