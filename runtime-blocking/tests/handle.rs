//! What handles of a device on a thread do and others can't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod adapter;
#[path = "../../testkit/tests/suite/bench.rs"]
mod bench;

use std::sync::mpsc::{Receiver, channel};

use bench::{Bench, LIMIT};
use nerves_hub_link_blocking::{Exit, Handle, Options, Runner};
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
