//! The simulated world: nothing is broken in it, it is the same each time, and it notices mistakes.

use std::path::Path;

use nerves_hub_link_testkit::sim::{
    Broken, Fault, Faults, HOUR, MINUTE, Mutation, Outcome, Saved, Scenario, Step, What, World, replay_line,
    shrink,
};

/// Seeds that once failed, or lead far.
const FIXED: [u64; 8] = [1801, 3229, 20043, 0, 1, 2, 3, 4];
/// The bit of a variant in which messages and downloads are bytes.
const BYTES: u32 = 1 << 16;
/// Fresh ones in each run.
const FRESH: u64 = 150;

/// Runs a scenario; one that fails is made smaller and saved.
fn run(scenario: &Scenario) -> Outcome {
    World::new(scenario.clone()).run().unwrap_or_else(|violation| {
        println!("seed {}: {violation}", scenario.seed);
        // Fleets take long; the command makes them smaller.
        let shrunk = shrink(scenario, &violation, if scenario.steps.is_some() { 300 } else { 0 });
        let saved = Saved::of(&shrunk.scenario, &shrunk.violation);
        let path = saved.write_into(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        for line in saved.trace.iter().rev().take(40).rev() {
            println!("{line}");
        }
        panic!("seed {}: {violation}\nreplay: {}", scenario.seed, replay_line(&path));
    })
}

fn fresh() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_secs() << 16
}

#[test]
fn seeds_that_failed_once_and_fresh_ones_pass() {
    let from = fresh();
    println!("seeds {FIXED:?} and {from}..{}", from + FRESH);
    let mut written = 0;
    for seed in FIXED.into_iter().chain(from..from + FRESH) {
        written += run(&Scenario::short(seed)).stats.written;
    }
    assert!(written > FRESH, "{written} updates: next to nothing happened");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 100..140 {
        let first = run(&Scenario::short(seed));
        assert_eq!(run(&Scenario::short(seed)), first, "seed {seed}");
        assert_ne!(run(&Scenario::short(seed + 1000)).hash, first.hash, "seed {seed}");
    }
    let fleet = Scenario::fleet(20, 3.0, 9);
    assert_eq!(run(&fleet), run(&fleet));
}

#[test]
fn heartbeats_left_out_change_nothing_that_counts() {
    let mut fleet = Scenario::fleet(10, 2.0, 5);
    let short = run(&fleet);
    fleet.every_heartbeat = true;
    let whole = run(&fleet);
    assert!(whole.events > 5 * short.events, "{} {}", whole.events, short.events);
    let difference = (whole.stats.availability() - short.stats.availability()).abs();
    assert!(difference < 0.01, "{difference}");
}

#[test]
fn a_fleet_without_faults_is_online_and_up_to_date() {
    let mut fleet = Scenario::fleet(30, 10.0, 3);
    fleet.faults = Faults::NONE;
    let stats = run(&fleet).stats;
    assert!(stats.availability() > 0.999, "{}", stats.availability());
    assert_eq!((stats.failed_updates(), stats.fetched_again(), stats.faults_met()), (0, 0, 0));
    // Two releases of the calendar and the last one.
    assert_eq!(stats.written, 3 * 30);
}

#[test]
fn a_fleet_with_every_fault_gets_through() {
    let mut fleet = Scenario::fleet(40, 8.0, 11);
    fleet.rate = 3.0;
    let stats = run(&fleet).stats;
    let missing: Vec<_> = Fault::ALL.iter().zip(&stats.struck).filter(|(_, count)| **count == 0).collect();
    assert!(missing.len() < 6, "{missing:?}");
    assert!(stats.availability() > 0.8, "{}", stats.availability());
    assert!(stats.releases.last().unwrap().reached(100, 40).is_some());
}

/// Scenarios in which a mistake can show: updates, and the faults that it takes.
fn suited(mutation: Mutation, seed: u64) -> Scenario {
    let mut scenario = match mutation {
        Mutation::SkipSync => only(Fault::PowerCut, seed),
        Mutation::WriteBothCopies => only(Fault::Torn, seed),
        Mutation::MixSockets => only(Fault::Reorder, seed),
        _ => Scenario::short(seed),
    };
    scenario.mutation = Some(mutation);
    if matches!(mutation, Mutation::KeepPartial | Mutation::SaySentEarly | Mutation::ReadWholeBuffer) {
        scenario.variant |= BYTES;
    }
    if mutation == Mutation::SkipDigest {
        // Without the checksum of the server, only the applier's own is left.
        scenario.variant &= !0b10;
    }
    scenario
}

/// What notices each mistake. `docs/testing.md` has the same list.
fn expected(mutation: Mutation, broken: &Broken) -> bool {
    match mutation {
        Mutation::SkipSignature => matches!(broken, Broken::UntrustedFirmwareRuns(_)),
        Mutation::SkipDigest => matches!(broken, Broken::OtherBytesThanPublished { .. }),
        Mutation::SkipSync => matches!(broken, Broken::TornFirmwareBooted { .. }),
        Mutation::SwitchFirst => {
            // A reboot runs half of it; or nothing goes on, as other firmware seems to wait for the reboot.
            let halves =
                matches!(broken, Broken::TornFirmwareBooted { .. } | Broken::OtherBytesThanPublished { .. });
            halves || matches!(broken, Broken::Stuck { .. })
        }
        Mutation::WriteRunning => matches!(broken, Broken::RunningSlotWritten { .. }),
        Mutation::ForgetRange | Mutation::LoseBytes => {
            matches!(broken, Broken::FinishedEarly { .. } | Broken::Gap { .. })
        }
        Mutation::ReuseNumber => matches!(broken, Broken::NumberReused { .. }),
        Mutation::ApplyUndecided => {
            matches!(broken, Broken::AppliedWithoutDecision(_) | Broken::UpdateDiffers { .. })
        }
        Mutation::LoseFailure => matches!(broken, Broken::FailureNotReported { .. }),
        Mutation::LeakAddress => matches!(broken, Broken::SecretTold(_)),
        Mutation::KeepSocket => {
            matches!(broken, Broken::TwoSockets { .. } | Broken::ConnectionDiffers { .. })
        }
        Mutation::StopClock => matches!(broken, Broken::DeadlineStands { .. }),
        Mutation::ForgetBackoff => matches!(broken, Broken::TooSoon { .. }),
        Mutation::ForgetAttempts => matches!(broken, Broken::TriedTooOften { .. }),
        Mutation::LoseTimer => matches!(broken, Broken::Stuck { .. }),
        Mutation::WriteBothCopies => matches!(broken, Broken::NoEnvironment),
        Mutation::MixSockets => {
            matches!(broken, Broken::TwoSockets { .. } | Broken::ConnectionDiffers { .. })
        }
        Mutation::BinaryAsText => matches!(broken, Broken::ConnectionDiffers { .. }),
        Mutation::SkipArchiveCheck => matches!(broken, Broken::BadArchive(_)),
        Mutation::ForgetRoom => matches!(broken, Broken::Shell { .. }),
        Mutation::LoseAnswer => matches!(broken, Broken::AnswerLost { .. }),
        Mutation::LoseScript => matches!(broken, Broken::Script { .. }),
        Mutation::LosePiece | Mutation::LoseUpload => matches!(broken, Broken::File { .. }),
        Mutation::ForgetCode => matches!(broken, Broken::TwinUnnoticed),
        Mutation::IgnoreWindow => matches!(broken, Broken::OutsideWindow(_)),
        Mutation::IgnorePause => matches!(broken, Broken::TooFast { .. }),
        Mutation::ApplyUnasked => matches!(broken, Broken::AppliedUnasked(_)),
        Mutation::KeepPartial => {
            matches!(broken, Broken::GoodBytesRefused(_) | Broken::OtherMessage(_) | Broken::OtherBytes(_))
        }
        Mutation::SaySentEarly => matches!(broken, Broken::SaidUnsent { .. }),
        Mutation::ReadWholeBuffer => matches!(broken, Broken::OtherBytes(_) | Broken::GoodBytesRefused(_)),
        _ => false,
    }
}

#[test]
fn every_mistake_is_noticed() {
    for mutation in Mutation::ALL {
        let found = (0..1000).find_map(|seed| {
            let scenario = suited(mutation, seed);
            World::new(scenario.clone()).run().err().map(|violation| (seed, scenario, violation))
        });
        let (seed, scenario, violation) = found.unwrap_or_else(|| panic!("{mutation:?} goes unnoticed"));
        println!("{mutation:?}: seed {seed}: {violation}");
        assert!(expected(mutation, &violation.broken), "{mutation:?} is noticed as {:?}", violation.broken);
        // Without the mistake, the same scenario passes.
        run(&Scenario { mutation: None, ..scenario });
    }
}

/// The same scenario, with every fault of one class.
fn only(fault: Fault, seed: u64) -> Scenario {
    let mut scenario = Scenario::short(seed);
    scenario.faults = [fault].into_iter().collect();
    for step in scenario.steps.iter_mut().flatten() {
        if let What::Fault(class) = &mut step.what {
            *class = fault;
        }
    }
    scenario
}

#[test]
fn every_class_of_faults_makes_a_difference() {
    for fault in Fault::ALL {
        let reached = (0..200).find(|seed| run(&only(*fault, *seed)).stats.felt[fault.index()] > 0);
        println!("{fault}: seed {}", reached.unwrap_or_else(|| panic!("{fault} is never felt")));
    }
}

#[test]
fn with_bytes_nothing_is_broken_either_and_the_same_seed_gives_the_same_run() {
    let from = fresh();
    println!("seeds {from}..{}", from + FRESH / 3);
    let (mut written, mut with, mut without) = (0, 0, 0);
    let (mut torn, mut pongs) = (0, 0);
    for seed in from..from + FRESH / 3 {
        let mut scenario = Scenario::short(seed);
        scenario.variant &= !BYTES;
        without += run(&scenario).events;
        scenario.variant |= BYTES;
        let outcome = run(&scenario);
        assert_eq!(run(&scenario), outcome, "seed {seed}");
        (written, with) = (written + outcome.stats.written, with + outcome.events);
        (torn, pongs) = (torn + outcome.stats.bytes.torn, pongs + outcome.stats.bytes.pongs);
    }
    assert!(torn > 0 && pongs > 0, "{torn} {pongs}");
    assert!(written > FRESH / 3, "{written} updates: next to nothing happened");
    assert!(4 * with > 5 * without, "{with} {without}: there are no bytes");
}

#[test]
fn every_class_of_faults_makes_a_difference_with_bytes() {
    for fault in Fault::ALL {
        let with_bytes = |seed: &u64| {
            let mut scenario = only(*fault, *seed);
            scenario.variant |= BYTES;
            run(&scenario).stats.felt[fault.index()] > 0
        };
        let reached = (0..200).find(with_bytes);
        println!("{fault}: seed {}", reached.unwrap_or_else(|| panic!("{fault} is never felt")));
    }
}

/// Heartbeats of a device that can't send went on being left out, so that nothing noticed.
#[test]
fn a_device_whose_answer_waits_for_the_system_is_not_at_rest() {
    let mut scenario = Scenario::short(77415);
    let step = |at, what, how| Step { at, device: 0, what, how };
    let begin = 3 * HOUR + 50 * MINUTE;
    scenario.steps = Some(vec![
        step(begin, What::Fault(Fault::Latency), 474_332_448),
        step(begin + 2_250, What::Script, 1_845_398_389),
        step(begin + 4_500, What::Fault(Fault::Stall), 235_592_623),
    ]);
    (scenario.devices, scenario.span, scenario.variant) = (1, begin + HOUR, 2_463_085_061);
    scenario.faults = Faults::parse("latency,stall").unwrap();
    let stats = run(&scenario).stats;
    assert!(stats.felt[Fault::Stall.index()] > 0 && stats.disconnected > 0, "{stats:?}");
}

#[test]
fn bytes_no_server_should_send_are_refused() {
    let refused = |seed| {
        let mut scenario = only(Fault::Hostile, seed);
        scenario.variant |= BYTES;
        run(&scenario).stats.bytes.refused
    };
    let refused: u64 = (0..100).map(refused).sum();
    assert!(refused > 100, "{refused}");
}

#[test]
fn some_scenarios_have_bytes_and_fleets_have_none_unless_asked() {
    let with = (0..4000).filter(|seed| Scenario::short(*seed).variant & BYTES > 0).count();
    assert!((900..1100).contains(&with), "{with}");
    let mut fleet = Scenario::fleet(6, 2.0, 8);
    fleet.faults = Faults::NONE;
    assert_eq!(fleet.variant & BYTES, 0);
    let written = run(&fleet).stats.written;
    fleet.variant |= BYTES;
    let stats = run(&fleet).stats;
    assert_eq!(stats.written, written);
    assert!(stats.bytes.read > stats.received, "{:?}", stats.bytes);
}

#[test]
fn a_read_that_fails_is_reported_or_made_up_for() {
    let (mut failed, mut again) = (0, 0);
    for seed in 0..300 {
        let stats = run(&only(Fault::ReadError, seed)).stats;
        if stats.felt[Fault::ReadError.index()] > 0 {
            failed += stats.failures.iter().filter(|(why, _)| why.contains("read")).count();
            again += usize::from(stats.fetched_again() > 0);
        }
    }
    assert!(failed > 0 && again > 0, "{failed} {again}");
}

#[test]
fn what_operators_and_the_server_want_is_done() {
    let mut fleet = Scenario::fleet(24, 6.0, 4);
    fleet.faults = Faults::NONE;
    let stats = run(&fleet).stats;
    // Two archives: one of the calendar, and the last.
    assert_eq!(stats.archives, 2 * 24);
    assert!(stats.questions > 24 * 6 * 4 && stats.answers == stats.questions, "{stats:?}");
    assert!(stats.visits > 5 && stats.shells > stats.visits, "{stats:?}");
    assert!(stats.scripts > 3 && stats.script_answers >= stats.scripts, "{stats:?}");
    let files = stats.files_received + stats.files_sent;
    assert!(stats.files > 2 && files > 1 && files <= stats.files, "{stats:?}");
    assert!(stats.shell_bytes > 10_000 && stats.console_messages > 20, "{stats:?}");
}

#[test]
fn devices_that_manage_their_updates_get_what_they_ask_for() {
    // One of ten does. It asks every two hours, and has been told no at most as often as there was nothing.
    let mut fleet = Scenario::fleet(30, 10.0, 6);
    fleet.faults = Faults::NONE;
    let stats = run(&fleet).stats;
    assert_eq!((stats.written, stats.failed_updates()), (3 * 30, 0));
    assert!(stats.requests > 3 * 3 && stats.rejected > 0, "{} {}", stats.requests, stats.rejected);
    assert!(stats.rejected < stats.requests, "{} {}", stats.requests, stats.rejected);
}

#[test]
fn two_devices_with_one_identity_notice_it_and_the_one_that_stays_gets_on() {
    /// Twins, and a hub that lets all devices be updated.
    const TWINS: (u32, u32) = (1 << 25, 1 << 21);
    for seed in 0..8 {
        let mut scenario = Scenario::short(seed);
        scenario.devices = 2;
        scenario.variant = (scenario.variant | TWINS.0) & !TWINS.1;
        scenario.faults = Faults::NONE;
        scenario.steps = Some(Vec::new());
        scenario.span = 3_600_000_000;
        let stats = run(&scenario).stats;
        assert!(stats.twins >= 1, "seed {seed}: {}", stats.twins);
        // Without the waits it would be a connection every other second or so, and here also the first and last ones.
        assert!(stats.dials < 100, "seed {seed}: {}", stats.dials);
        assert!(stats.written >= 1, "seed {seed}");
    }
}

#[test]
fn a_failure_shrinks_to_what_it_takes_and_replays_from_its_file() {
    let (scenario, violation) = (0..500)
        .find_map(|seed| {
            // Of devices that don't know of each other: no twins, and no updates one after the other.
            let mut scenario = suited(Mutation::SkipSync, seed);
            scenario.variant &= 0xffff;
            let violation = World::new(scenario.clone()).run().err()?;
            (scenario.devices > 1).then_some((scenario, violation))
        })
        .unwrap();
    let shrunk = shrink(&scenario, &violation, 300);
    let steps = shrunk.scenario.steps.clone().unwrap();
    println!("{} runs to {steps:?}", shrunk.runs);
    // A release and the power cut, and what brings the device to where that counts.
    assert!(steps.len() <= 6, "{steps:?}");
    assert!(steps.iter().any(|step| step.what == What::Fault(Fault::PowerCut)), "{steps:?}");
    assert_eq!(shrunk.scenario.absent.len() + 1, usize::try_from(shrunk.scenario.devices).unwrap());

    let folder = tempfile::tempdir().unwrap();
    let path = Saved::of(&shrunk.scenario, &shrunk.violation).write_into(folder.path()).unwrap();
    let saved = Saved::read(&path).unwrap();
    assert_eq!(saved.scenario, shrunk.scenario);
    assert!(saved.trace.last().unwrap().contains("BROKEN"), "{:?}", saved.trace.last());
    let again = World::new(saved.scenario).run().unwrap_err();
    assert_eq!(again, shrunk.violation);
    assert!(replay_line(&path).contains("simulate --replay"));
}

#[test]
fn a_fleet_that_fails_shrinks_too() {
    let mut fleet = Scenario::fleet(12, 3.0, 1);
    fleet.mutation = Some(Mutation::ForgetBackoff);
    let violation = World::new(fleet.clone()).run().unwrap_err();
    let shrunk = shrink(&fleet, &violation, 300);
    assert_eq!(shrunk.scenario.absent.len(), 11);
    assert!(shrunk.scenario.steps.unwrap().len() <= 4);
}

#[test]
fn a_smaller_fleet_keeps_its_releases() {
    let mut fleet = Scenario::fleet(6, 20.0, 3);
    fleet.mutation = Some(Mutation::ForgetAttempts);
    fleet.faults = [Fault::BadRelease, Fault::Exit].into_iter().collect();
    fleet.rates = vec![(Fault::BadRelease, 10.0)];
    let violation = World::new(fleet.clone()).run().unwrap_err();
    assert!(matches!(violation.broken, Broken::TriedTooOften { .. }), "{violation}");
    // One run writes down what the seed would do.
    let written = shrink(&fleet, &violation, 1);
    assert_eq!(written.violation, violation);
    let shrunk = shrink(&fleet, &violation, 100).scenario;
    let steps = shrunk.steps.unwrap();
    assert!(steps.iter().any(|step| step.what == What::Fault(Fault::BadRelease)), "{steps:?}");
    assert!(steps.len() <= 3, "{steps:?}");
}

#[test]
fn a_thousand_devices_fit() {
    let mut fleet = Scenario::fleet(1000, 0.1, 2);
    fleet.releases = 1;
    let stats = run(&fleet).stats;
    assert!(stats.written >= 1000, "{}", stats.written);
}
