//! What handles of a device on a thread do and others can't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod adapter;
#[path = "../../testkit/tests/suite/bench.rs"]
mod bench;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bench::{Bench, LIMIT};
use nerves_hub_link_blocking::{Exit, Handle, Options, Runner};
use nerves_hub_link_platform::kv::{Change, KeyValueStore, KvError, Pairs};
use nerves_hub_link_protocol::Client;

#[test]
fn a_callback_may_stop_the_device_it_belongs_to() {
    struct Quitter(Receiver<Handle>);
    impl Client for Quitter {
        fn connected(&mut self) {
            self.0.recv_timeout(LIMIT).unwrap().stop();
        }
    }
    let bench = Bench::new();
    let (sender, handles) = channel();
    let runner =
        Runner::new(bench.config(), Options::new(bench.tls(), bench.installer(), Quitter(handles))).unwrap();
    sender.send(runner.handle()).unwrap();
    let handle = runner.handle();
    assert_eq!(runner.run(), Exit::Stopped);
    assert_eq!(handle.wait(), Exit::Stopped);
}

/// A store whose disk hangs until it is let go. Whoever holds it hears when it is given up.
struct Hanging {
    go: Receiver<()>,
    _given_up: Sender<()>,
}

impl KeyValueStore for Hanging {
    fn load(&self) -> Result<Pairs, KvError> {
        // An end that is gone lets it go, too.
        let _ = self.go.recv();
        Ok(Pairs::default())
    }

    fn update(&mut self, _: &[Change<'_>]) -> Result<(), KvError> {
        Ok(())
    }
}

struct Quiet;

impl Client for Quiet {}

/// Sets a device up with a store, and returns what was told and whether the store is still in use.
fn set_up(go: Receiver<()>, limit: Duration) -> (String, bool) {
    let bench = Bench::new();
    let told = Arc::new(Mutex::new(String::new()));
    let notices = Arc::clone(&told);
    let (given_up, in_use) = channel();
    let options = Options::new(bench.tls(), bench.installer(), Quiet)
        .remember_attempts(Hanging { go, _given_up: given_up })
        .attempts_limit(limit)
        .on_notice(move |text| *notices.lock().unwrap() += text);
    let runner = Runner::new(bench.config(), options).unwrap();
    let in_use = in_use.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty);
    drop(runner);
    let told = told.lock().unwrap().clone();
    (told, in_use)
}

#[test]
fn a_store_that_hangs_when_the_device_is_set_up_is_waited_for_within_a_limit() {
    let (let_go, hangs) = channel();
    let (told, _) = set_up(hangs, Duration::ZERO);
    assert!(told.contains("how often updates were tried is not known") && told.contains("hanging"), "{told}");
    drop(let_go);
    // One that answers in time is used, and nothing is told.
    let (let_go, waits) = channel();
    for _ in 0..3 {
        let_go.send(()).unwrap();
    }
    assert_eq!(set_up(waits, LIMIT), (String::new(), true));
}
