//! Power is cut at every write and every sync of an upgrade: whatever is lost, the device boots.
//!
//! A selection; the command `power-cuts` of this crate tries everything.

use crate::common;

use nerves_hub_link_testkit::disk::DiskLayout;
use nerves_hub_link_testkit::disk::cuts::{
    Case, Effort, Report, WAYS, Way, ab_case, ab_cases, bad_cases, environment_cases, golden_cases,
    power_cuts, store_cuts, table_cases,
};

use proptest::prelude::*;

fn ways(names: &[&str]) -> Vec<Way> {
    let ways: Vec<_> = WAYS.into_iter().filter(|way| names.contains(&way.name)).collect();
    assert_eq!(ways.len(), names.len());
    ways
}

fn try_all(cases: &[Case], ways: &[Way], effort: &Effort) -> Report {
    let mut all = Report::default();
    println!("{}", Report::columns());
    for case in cases {
        for way in ways {
            let report = power_cuts(case, *way, effort);
            println!("{report}");
            assert!(report.is_good(), "{:#?}", report.failures);
            // Nothing before the first write, the new firmware after the last sync.
            assert!(report.old + report.damaged > 0, "{report}");
            assert_eq!(report.new > 0, case.is_sound, "{report}");
            assert_eq!(report.cuts, report.writes + report.syncs + 2, "{report}");
            assert_eq!(report.disks, report.old + report.new + report.damaged, "{report}");
            all.add(&report);
        }
    }
    all
}

fn skipped(missing: &[String]) {
    for name in missing {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no golden archives {name}\n"),
        ));
    }
}

#[test]
fn a_device_of_two_slots_boots_whatever_is_lost() {
    let cases = ab_cases().unwrap();
    let [one, two, ..] = &cases[..] else { panic!("too few") };
    let mut all = try_all(&cases, &ways(&["whole", "sectors of 4096"]), &Effort::bounded(1));
    all.add(&try_all(std::slice::from_ref(two), &WAYS, &Effort::bounded(2)));
    assert!(all.resumed > 0 && all.cut_again > 0, "{all}");
    // Only a single environment can be damaged; two, even side by side, never are.
    assert!(one.may_be_damaged && !two.may_be_damaged && all.damaged > 0, "{all}");
    assert_eq!(cases.iter().filter(|case| case.may_be_damaged).count(), 2);
}

#[test]
fn a_device_that_boots_by_partition_table_boots_whatever_is_lost() {
    let all = try_all(
        &table_cases().unwrap(),
        &ways(&["whole", "minimize", "sectors of 4096"]),
        &Effort::bounded(1),
    );
    assert!(all.resumed > 0 && all.damaged == 0, "{all}");
}

#[test]
fn a_bad_archive_leaves_the_old_firmware_whatever_is_lost() {
    let all = try_all(&bad_cases().unwrap(), &ways(&["whole", "threads"]), &Effort::bounded(1));
    assert!(all.writes > 0 && all.new == 0, "{all}");
}

#[test]
fn recorded_upgrades_boot_whatever_is_lost() {
    let Some(folder) = common::golden("fw") else { return };
    let (cases, missing) = golden_cases(&folder).unwrap();
    skipped(&missing);
    let effort = Effort { samples: 4, repeat_every: 23, ..Effort::bounded(1) };
    assert!(try_all(&cases, &ways(&["odd pieces"]), &effort).resumed > 0);
}

#[test]
fn changes_of_an_environment_are_made_or_not() {
    let Some(folder) = common::golden("fw") else { return };
    let (cases, missing) = environment_cases(&folder).unwrap();
    skipped(&missing);
    let all = try_all(
        &cases,
        &ways(&["whole", "minimize", "verify, minimize, trim, threads"]),
        &Effort::bounded(1),
    );
    assert!(all.damaged > 0, "what one copy risks was seen: {all}");
}

#[test]
fn the_devices_own_changes_of_its_environment_are_made_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let reports = store_cuts(folder.path(), &Effort::bounded(1)).unwrap();
    println!("{}", Report::columns());
    for report in &reports {
        println!("{report}");
        assert!(report.is_good(), "{:#?}", report.failures);
        assert!(report.old > 0 && report.new > 0, "{report}");
        let at_risk = report.case.contains("one copy") && report.case.contains("long");
        assert_eq!(report.damaged > 0, at_risk, "{report}");
    }
    assert_eq!(reports.len(), 8);
}

#[test]
fn reads_writes_and_syncs_that_fail_leave_a_device_that_boots() {
    let [_, case, ..] = &ab_cases().unwrap()[..] else { panic!("no case") };
    let effort = Effort { faults: true, samples: 1, all_up_to: 1, ..Effort::bounded(1) };
    for way in ways(&["whole", "verify, minimize, trim, threads"]) {
        let report = power_cuts(case, way, &effort);
        println!("{report}");
        assert!(report.is_good() && report.faults > 30, "{:#?}", report.failures);
    }
}

#[test]
fn the_same_seed_tries_the_same() {
    let [case, ..] = &ab_cases().unwrap()[..] else { panic!("no case") };
    let [way, ..] = WAYS;
    // Too few for all that can come of a cut, so that all is sampled.
    let run = |seed| power_cuts(case, way, &Effort { all_up_to: 1, ..Effort::bounded(seed) });
    assert_eq!(run(3), run(3));
    let others: Vec<_> = (4..14).map(|seed| run(seed).damaged).collect();
    assert!(others.iter().any(|damaged| *damaged != others[0]), "seeds choose: {others:?}");
}

/// Few, unless `PROPTEST_CASES` says otherwise.
fn layouts_to_try() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|number| number.parse().ok()).unwrap_or(8)
}

/// A disk whose parts come in any order, close together or apart, with environments of any size.
fn layouts() -> impl Strategy<Value = DiskLayout> {
    let size = prop_oneof![Just(3_u64), 4..20_u64, Just(256), 257..400_u64];
    let order = Just(vec![0_usize, 1, 2, 3]).prop_shuffle();
    let gap = prop_oneof![3 => 0..4_u64, 1 => 0..600_u64];
    (size, order, proptest::collection::vec(gap, 4), any::<bool>()).prop_map(
        |(size, order, gaps, redundant)| {
            let mut places = [0; 4];
            // Behind the boot record.
            let mut end = 1;
            for (part, gap) in order.into_iter().zip(gaps) {
                places[part] = end + gap;
                end = places[part] + if part < 2 { size } else { 2048 };
            }
            let [environment, second, slot_a, slot_b] = places;
            DiskLayout {
                environment,
                environment_blocks: size,
                environment_redundant: redundant.then_some(second),
                slot_a,
                slot_b,
                application: end,
                ..DiskLayout::with_slots_of(1)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(layouts_to_try()))]

    #[test]
    fn a_disk_of_any_layout_boots_whatever_is_lost(
        layout in layouts(),
        generation in any::<u8>(),
        way in 0..7_usize,
        seed in any::<u64>(),
    ) {
        let case = ab_case("A/B", &layout, generation).unwrap();
        // Pieces of one byte are slow, and tried elsewhere.
        let way = if WAYS[way].name == "byte by byte" { WAYS[0] } else { WAYS[way] };
        let effort = Effort { samples: 12, repeat_every: 29, ..Effort::bounded(seed) };
        let report = power_cuts(&case, way, &effort);
        prop_assert!(report.is_good() && report.new > 0, "{:#?}", report.failures);
    }
}
