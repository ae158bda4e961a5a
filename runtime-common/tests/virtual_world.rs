//! The engine through bad networks, bad servers and bad disks, in virtual time: it comes through, loses no byte, never spins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod world;

use world::World;

#[test]
fn it_comes_through_and_loses_no_byte() {
    let count = std::env::var("WORLD_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let from = std::env::var("WORLD_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let (mut faults, mut starts, mut failed, mut turns, mut seconds) = (0, 0, 0, 0, 0);
    for seed in from..from + count {
        let began = std::time::Instant::now();
        let outcome = World::new(seed).run();
        println!("seed {seed}: {outcome:?} in {:?}", began.elapsed());
        faults += outcome.faults;
        starts += outcome.starts;
        turns += outcome.turns;
        seconds += outcome.seconds;
        failed += outcome.statuses.iter().filter(|status| *status == "failed").count();
    }
    println!(
        "{count} scenarios: {faults} faults, {starts} starts, {failed} failed updates, {turns} turns in {seconds} s"
    );
    assert!(faults > 10 * count && u64::from(starts) > count, "next to nothing happened");
}

#[test]
fn a_store_of_attempts_that_hangs_stops_neither_the_connection_nor_updates() {
    let mut hung = 0;
    for seed in 1..=5 {
        let outcome = World::with_hanging_attempts(seed).run();
        println!("seed {seed}: {outcome:?}");
        // The scenario ends only when the newest firmware runs and the device stays connected.
        hung += outcome.hung;
    }
    assert!(hung > 0, "no store hung");
}
