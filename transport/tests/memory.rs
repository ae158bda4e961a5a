//! Memory of a long download, measured on the process: a test program of its own, so that nothing runs beside it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[allow(dead_code, reason = "this program uses a part of it")]
#[path = "it/common/mod.rs"]
mod common;

use common::*;
use nerves_hub_link_transport::{Exchange, ExchangeEvent, ExchangeRequest};

fn peak_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Streams `total` bytes through an exchange, 64 KiB at a time; answers how many came out.
fn download(link: Link, total: usize) -> usize {
    let url = link.url(false);
    let mut exchange =
        Exchange::new(&ExchangeRequest { url: &url, headers: &[], tls: Some(client_tls()) }).unwrap();
    let mut peer = link.peer();
    let piece = vec![1; 64 * 1024];
    let (mut left, mut received) = (None, 0);
    loop {
        peer.receive(&Machine::take_out(&mut exchange));
        match &mut left {
            None if find(&peer.inbox, b"\r\n\r\n").is_some() => {
                peer.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {total}\r\n\r\n"));
                left = Some(total);
            }
            Some(left) => {
                peer.send(&piece[..piece.len().min(*left)]);
                *left -= piece.len().min(*left);
            }
            None => {}
        }
        for bytes in peer.take_out().chunks(64 * 1024) {
            assert!(exchange.wants_input());
            exchange.receive(bytes);
            while let Some(event) = exchange.poll() {
                match event {
                    ExchangeEvent::Head { .. } => {}
                    ExchangeEvent::Body(bytes) => received += bytes.len(),
                    ExchangeEvent::End => return received,
                    ExchangeEvent::Failed(error) => panic!("{error}"),
                }
            }
        }
    }
}

#[test]
fn a_long_download_needs_no_more_memory_than_a_short_one() {
    for link in LINKS {
        assert_eq!(download(link, 1 << 20), 1 << 20);
        let before = peak_kib();
        assert_eq!(download(link, 64 << 20), 64 << 20);
        let grown = peak_kib() - before;
        assert!(grown < 2048, "{link:?}: the peak grew by {grown} KiB");
    }
}
