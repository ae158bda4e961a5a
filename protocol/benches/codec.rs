//! Reading an `update` and writing a progress report, beside what serde_json takes for the same by itself.
//!
//! `cargo bench -p nerves-hub-link-protocol --features bench`
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use nerves_hub_link_protocol::Serializer;
use nerves_hub_link_protocol::bench::{Message, read_update, write_progress};
use serde::{Deserialize, Serialize};

/// As the real server sent it (recording `update_manual_complete`), with one part.
const UPDATE: &str = r#"[null,null,"device","update",{"size":41215,"checksum":"C6D9EE2F77ABEE5B9C0C7D3C5A4E8D9D6B1F0D9F3E6F0CBB9F8A5B0E1D2C3B4A","deployment_id":null,"firmware_url":"http://localhost:5000/firmware/1/e75a88c1-3245-5751-0c33-2b884ef5f37f.fw?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=86400&X-Amz-Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","firmware_meta":{"version":"0.2.0","description":"second","platform":"generic","architecture":"x86_64","product":"TestProduct","author":"me","uuid":"e75a88c1-3245-5751-0c33-2b884ef5f37f","misc":"","vcs_identifier":""},"partials_checksums":["C6D9EE2F77ABEE5B9C0C7D3C5A4E8D9D6B1F0D9F3E6F0CBB9F8A5B0E1D2C3B4A"],"update_available":true}]"#;

/// The same, as a program would declare it that trusts its server.
#[derive(Deserialize)]
#[allow(dead_code, reason = "only read, as the machine reads it")]
struct Plain {
    update_available: bool,
    firmware_url: String,
    size: Option<u64>,
    checksum: Option<String>,
    deployment_id: Option<i64>,
    firmware_meta: Meta,
    partials_checksums: Vec<String>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "only read, as the machine reads it")]
struct Meta {
    uuid: String,
    product: String,
    version: String,
    platform: String,
    architecture: String,
    author: Option<String>,
    description: Option<String>,
    vcs_identifier: Option<String>,
    misc: Option<String>,
}

type Envelope<'a> = (Option<String>, Option<String>, &'a str, &'a str, Plain);

#[derive(Serialize)]
struct Progress<'a> {
    stage: &'a str,
    value: u8,
}

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("update");
    let tree: serde_json::Value = serde_json::from_str(UPDATE).unwrap();
    let binary = rmp_serde::to_vec(&tree).unwrap();
    group.bench_function("machine, JSON", |b| {
        b.iter(|| read_update(&Message::Text(black_box(UPDATE))).unwrap());
    });
    group.bench_function("machine, MessagePack", |b| {
        b.iter(|| read_update(&Message::Binary(black_box(&binary))).unwrap());
    });
    group.bench_function("serde_json, typed", |b| {
        b.iter(|| serde_json::from_str::<Envelope<'_>>(black_box(UPDATE)).unwrap());
    });
    group.finish();

    let mut group = c.benchmark_group("progress");
    for (name, serializer) in
        [("machine, JSON", Serializer::Json), ("machine, MessagePack", Serializer::MsgPack)]
    {
        group.bench_function(name, |b| b.iter(|| write_progress(serializer, black_box(42))));
    }
    group.bench_function("serde_json, typed", |b| {
        b.iter(|| {
            let report = Progress { stage: "downloading", value: black_box(42) };
            serde_json::to_string(&("1", "12", "device", "fwup_progress", report)).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
