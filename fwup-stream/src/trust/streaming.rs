//! A digest that can be computed in a thread of its own.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use super::digest::Blake2b256;
use crate::internal::Internal;

/// Bytes handed over at once.
const PIECE: usize = 128 * 1024;
/// Pieces that may wait to be hashed.
const WAITING: usize = 4;
/// Data shorter than this are not worth a thread, nor finding out how to hash them best.
const WORTHWHILE: u64 = 1024 * 1024;

/// The digest of data that stream by.
#[derive(Debug)]
pub(crate) enum StreamingDigest {
    /// Computed by whoever brings the data.
    Here(Blake2b256),
    /// Computed in a thread.
    Thread(Hashing),
}

/// A thread that hashes what it is sent, and sends the memory back.
#[derive(Debug)]
pub(crate) struct Hashing {
    pieces: Sender<Vec<u8>>,
    back: Receiver<Vec<u8>>,
    thread: JoinHandle<Blake2b256>,
    filling: Vec<u8>,
    /// Pieces made so far.
    made: usize,
}

impl StreamingDigest {
    /// Begins a digest of about `length` bytes, in a thread if wanted and worth it.
    pub(crate) fn new(length: u64, threads: bool) -> Self {
        if length < WORTHWHILE {
            return Self::Here(Blake2b256::new());
        }
        // Without a thread it only takes longer.
        let thread = if threads { Hashing::start() } else { None };
        thread.map_or_else(|| Self::Here(Blake2b256::of_much()), Self::Thread)
    }

    /// Adds data.
    pub(crate) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Here(digest) => digest.update(data),
            Self::Thread(hashing) => hashing.update(data),
        }
    }

    /// Tells whether the digest of all data is `expected`; see [`Blake2b256::matches`].
    pub(crate) fn matches(self, expected: &str) -> Result<bool, Internal> {
        match self {
            Self::Here(digest) => Ok(digest.matches(expected)),
            // A thread that is gone says nothing about the data.
            Self::Thread(hashing) => match hashing.finish() {
                Some(digest) => Ok(digest.matches(expected)),
                None => Err(Internal::new("the thread that computes the digest is gone")),
            },
        }
    }
}

impl Hashing {
    fn start() -> Option<Self> {
        let (pieces, todo) = channel::<Vec<u8>>();
        let (give_back, back) = channel();
        let hash = move || {
            let mut digest = Blake2b256::of_much();
            while let Ok(piece) = todo.recv() {
                digest.update(&piece);
                // At the end nobody waits for the memory any more.
                let _ = give_back.send(piece);
            }
            digest
        };
        let thread = Builder::new().name("hash".to_owned()).spawn(hash).ok()?;
        Some(Self { pieces, back, thread, filling: Vec::with_capacity(PIECE), made: 1 })
    }

    fn update(&mut self, data: &[u8]) {
        let mut data = data;
        while !data.is_empty() {
            let (now, rest) = data.split_at(data.len().min(PIECE - self.filling.len()));
            self.filling.extend_from_slice(now);
            if self.filling.len() == PIECE {
                self.hand_over();
            }
            data = rest;
        }
    }

    fn hand_over(&mut self) {
        let mut next = if self.made < WAITING {
            self.made += 1;
            Vec::with_capacity(PIECE)
        } else {
            // Waits while everything is on its way; a thread that is gone shows at the end.
            self.back.recv().unwrap_or_default()
        };
        next.clear();
        let full = std::mem::replace(&mut self.filling, next);
        // That the thread is gone shows at the end.
        let _ = self.pieces.send(full);
    }

    fn finish(mut self) -> Option<Blake2b256> {
        self.hand_over();
        drop(self.pieces);
        self.thread.join().ok()
    }
}
