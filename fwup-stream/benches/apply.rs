//! The parts of an update: inflating, hashing and applying to memory, files on a FAT, and the manifest.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs)]

use std::hint::black_box;
use std::io::Write as _;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use fwup_stream::archive::{ArchiveEvent, ArchiveReader};
use fwup_stream::disk::{Extent, MemoryTarget, Target};
use fwup_stream::manifest::Manifest;
use fwup_stream::trust::{Blake2b256, to_hex};
use fwup_stream::{Applier, ApplyOptions};

const MIB: usize = 1 << 20;
/// What the command reads at once.
const PIECE: usize = 16 * 1024;

/// Text-like data: words repeat, numbers do not.
fn content(length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(length + 64);
    let mut state = 1_u64;
    while out.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        writeln!(out, "the value of {:x} is {} in section .text of /usr/lib", state >> 44, state >> 33)
            .unwrap();
    }
    out.truncate(length);
    out
}

fn entry(out: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut packer = DeflateEncoder::new(Vec::new(), Compression::default());
    packer.write_all(data).unwrap();
    let packed = packer.finish().unwrap();
    out.extend(b"PK\x03\x04\x14\0\0\0\x08\0\0\0\x21\0");
    out.extend(crc32fast::hash(data).to_le_bytes());
    for size in [packed.len(), data.len()] {
        out.extend(u32::try_from(size).unwrap().to_le_bytes());
    }
    out.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    out.extend([0, 0]);
    out.extend(name.as_bytes());
    out.extend(packed);
}

fn archive(manifest: &str, name: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    entry(&mut out, "meta.conf", manifest.as_bytes());
    entry(&mut out, &format!("data/{name}"), data);
    out.extend(b"PK\x01\x02");
    out.extend([0; 42]);
    out
}

fn resource(name: &str, data: &[u8]) -> String {
    let mut digest = Blake2b256::of_much();
    digest.update(data);
    let digest = to_hex(&digest.finalize());
    format!("file-resource \"{name}\" {{\nlength={}\nblake2b-256={digest}\n}}\n", data.len())
}

/// Takes everything and keeps nothing.
struct Nothing;

impl Target for Nothing {
    fn read_at(&mut self, _: u64, _: &mut [u8]) -> std::io::Result<usize> {
        Ok(0)
    }

    fn write_at(&mut self, _: u64, data: &[u8]) -> std::io::Result<()> {
        black_box(data);
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn trim(&mut self, _: u64, _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn extent(&self) -> Extent {
        Extent::Unknown
    }
}

fn apply(archive: &[u8], threads: bool, target: impl Target) {
    let mut options = ApplyOptions::default();
    "complete".clone_into(&mut options.task);
    options.require_signature = false;
    options.threads = threads;
    let mut applier = Applier::new(options, target).unwrap();
    archive.chunks(PIECE).for_each(|piece| applier.push(piece).unwrap());
    applier.finish().unwrap();
}

fn raw(c: &mut Criterion) {
    let data = content(16 * MIB);
    let task = "task \"complete\" {\non-resource \"x\" {\nfunlist={2,raw_write,2048}\n}\n}\n";
    let archive = archive(&(resource("x", &data) + task), "x", &data);
    let mut group = c.benchmark_group("16 MiB");
    group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(10);
    group.bench_function("read and inflate", |b| {
        b.iter(|| {
            let mut reader = ArchiveReader::new();
            for mut piece in archive.chunks(PIECE) {
                while !matches!(reader.next(&mut piece).unwrap(), ArchiveEvent::NeedInput | ArchiveEvent::End)
                {
                }
            }
        });
    });
    group.bench_function("hash", |b| {
        b.iter(|| {
            let mut digest = Blake2b256::of_much();
            data.chunks(PIECE).for_each(|piece| digest.update(piece));
            digest.finalize()
        });
    });
    group.bench_function("apply to nothing", |b| b.iter(|| apply(&archive, false, Nothing)));
    group.bench_function("apply to nothing, threads", |b| b.iter(|| apply(&archive, true, Nothing)));
    group.bench_function("apply to memory", |b| b.iter(|| apply(&archive, false, MemoryTarget::new())));
    group.finish();
}

fn fat(c: &mut Criterion) {
    let data = content(4096);
    let copies: Vec<_> = (0..500).map(|number| format!("4,fat_cp,0,a,{number}")).collect();
    let manifest = format!(
        "{}task \"complete\" {{\non-init {{\nfunlist={{3,fat_mkfs,0,140000}}\n}}\n\
         on-resource \"a\" {{\nfunlist={{3,fat_write,0,a}}\n}}\non-finish {{\nfunlist={{{}}}\n}}\n}}\n",
        resource("a", &data),
        copies.join(",")
    );
    let archive = archive(&manifest, "a", &data);
    c.bench_function("500 FAT files", |b| b.iter(|| apply(&archive, false, Nothing)));
}

fn manifest(c: &mut Criterion) {
    let text: String = (0..200).map(|number| resource(&format!("r{number}"), &[0])).collect();
    c.bench_function("manifest of 200 resources", |b| {
        b.iter(|| Manifest::parse(text.as_bytes(), &|_| None).unwrap());
    });
}

criterion_group!(benches, raw, fat, manifest);
criterion_main!(benches);
