//! Comparing images, also those with terabytes of holes.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const BLOCK: u64 = 512;
/// Images up to this size are also compared as a whole.
const WHOLE: u64 = 64 << 20;

/// Unpacks a stored image.
pub fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut image = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(packed).unwrap().read_to_end(&mut image).unwrap();
    image
}

pub fn sha256(bytes: &[u8]) -> String {
    fwup_stream::trust::to_hex(&Sha256::digest(bytes))
}

/// Compares an image with its record; what differs, in words.
pub fn compare(path: &Path, recorded: &Value) -> Option<String> {
    let Ok(file) = File::open(path) else { return Some("no destination".to_owned()) };
    let size = file.metadata().unwrap().len();
    if size != recorded["size"].as_u64().unwrap() {
        return Some(format!("size {size}, recorded {}", recorded["size"]));
    }
    if recorded["fat_slack"].is_array() {
        let mut image = std::fs::read(path).unwrap();
        if sha256(&image) == recorded["sha256"].as_str().unwrap() {
            return None;
        }
        for slack in recorded["fat_slack"].as_array().unwrap() {
            let at = |index: usize| usize::try_from(slack[index].as_u64().unwrap()).unwrap();
            image[at(0)..at(0) + at(1)].fill(0);
        }
        let same = sha256(&image) == recorded["sha256_with_fat_slack_zeroed"].as_str().unwrap();
        return (!same).then(|| "the image differs, slack aside".to_owned());
    }
    let extents = nonzero_extents(&file, size);
    let (count, wanted) = match &recorded["nonzero_extents"] {
        Value::Array(all) => (all.len(), all.as_slice()),
        some => {
            let first = some["first"].as_array().unwrap().as_slice();
            (usize::try_from(some["count"].as_u64().unwrap()).unwrap(), first)
        }
    };
    if extents.len() != count {
        return Some(format!("{} ranges that are not zero, recorded {count}", extents.len()));
    }
    for ((offset, length), want) in extents.iter().zip(wanted) {
        let mut bytes = vec![0; usize::try_from(*length).unwrap()];
        file.read_exact_at(&mut bytes, *offset).unwrap();
        let same = want["offset"] == *offset
            && want["length"] == *length
            && want["sha256"].as_str() == Some(&sha256(&bytes));
        if !same {
            return Some(format!("bytes {offset} to {} differ, recorded {want}", offset + length));
        }
    }
    let whole = (size <= WHOLE).then(|| sha256(&std::fs::read(path).unwrap()));
    match (whole, recorded["sha256"].as_str()) {
        (Some(got), Some(want)) if got != want => Some("the image differs".to_owned()),
        _ => None,
    }
}

/// Ranges of blocks that are not all zero.
fn nonzero_extents(file: &File, size: u64) -> Vec<(u64, u64)> {
    let mut extents: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while let Ok(data) = seek(file, SeekFrom::Data(at)) {
        let end = seek(file, SeekFrom::Hole(data)).unwrap();
        let mut offset = data - data % BLOCK;
        while offset < end {
            let mut piece =
                vec![0; usize::try_from((end.next_multiple_of(BLOCK) - offset).min(1 << 20)).unwrap()];
            let length =
                usize::try_from(piece.len() as u64).unwrap().min(usize::try_from(size - offset).unwrap());
            file.read_exact_at(&mut piece[..length], offset).unwrap();
            for (number, block) in piece[..length].chunks(512).enumerate() {
                if block.iter().all(|byte| *byte == 0) {
                    continue;
                }
                let (start, length) = (offset + number as u64 * BLOCK, block.len() as u64);
                match extents.last_mut() {
                    Some((first, long)) if *first + *long == start => *long += length,
                    Some((first, long)) if *first + *long > start => {}
                    _ => extents.push((start, length)),
                }
            }
            offset += piece.len() as u64;
        }
        at = end;
    }
    extents
}
