//! The trials with power cuts find what they look for: each rule broken here leaves a device that does not boot,
//! and is reported.

use std::io;
use std::sync::Arc;

use fwup_stream::disk::{Extent, Target};
use nerves_hub_link_testkit::disk::cuts::{
    Case, Effort, Recorder, Report, State, WAYS, Way, ab_cases, power_cuts, power_cuts_through,
};
use nerves_hub_link_testkit::disk::{BLOCK, DiskLayout};
use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey, Tamper, Task, call, tamper};

/// How a destination breaks the rules.
#[derive(Clone)]
enum Rule {
    /// This sync, counted from 1, is answered and not done.
    SkipSync(u64),
    /// No sync is done.
    SkipSyncs,
    /// Writes outside these bytes wait until the first sync after one inside.
    SwitchFirst(std::ops::Range<u64>),
    /// This write, counted from 1, is answered and not done.
    DropWrite(u64),
    /// One bit of this write is wrong.
    FlipBit(u64),
    /// What is written to the first place goes to the second.
    Elsewhere(std::ops::Range<u64>, u64),
}

struct Broken {
    disk: Recorder,
    rule: Rule,
    writes: u64,
    syncs: u64,
    waiting: Vec<(u64, Vec<u8>)>,
    switched: bool,
}

impl Broken {
    fn new(disk: Recorder, rule: Rule) -> Self {
        Self { disk, rule, writes: 0, syncs: 0, waiting: Vec::new(), switched: false }
    }
}

impl Target for Broken {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.disk.read_at(offset, buffer)?;
        for (at, data) in &self.waiting {
            for (number, byte) in data.iter().enumerate() {
                let place = (at + number as u64).checked_sub(offset).and_then(|at| usize::try_from(at).ok());
                if let Some(to) = place.and_then(|place| buffer.get_mut(place)) {
                    *to = *byte;
                }
            }
        }
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writes += 1;
        match &self.rule {
            Rule::DropWrite(number) if *number == self.writes => return Ok(()),
            Rule::FlipBit(number) if *number == self.writes => {
                let mut data = data.to_vec();
                data[0] ^= 1;
                return self.disk.write_at(offset, &data);
            }
            Rule::SwitchFirst(range) if !range.contains(&offset) => {
                self.waiting.push((offset, data.to_vec()));
                return Ok(());
            }
            Rule::SwitchFirst(_) => self.switched = true,
            Rule::Elsewhere(from, to) if from.contains(&offset) => {
                return self.disk.write_at(offset - from.start + to, data);
            }
            _ => {}
        }
        self.disk.write_at(offset, data)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.syncs += 1;
        let skipped = match self.rule {
            Rule::SkipSyncs => true,
            Rule::SkipSync(number) => number == self.syncs,
            _ => false,
        };
        if skipped {
            return Ok(());
        }
        self.disk.sync()?;
        if self.switched {
            for (offset, data) in std::mem::take(&mut self.waiting) {
                self.disk.write_at(offset, &data)?;
            }
            self.disk.sync()?;
        }
        Ok(())
    }

    fn trim(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.trim(offset, length)
    }

    fn extent(&self) -> Extent {
        self.disk.extent()
    }
}

/// One environment, two, and two side by side.
fn cases() -> Vec<Case> {
    ab_cases().unwrap().into_iter().take(3).collect()
}

fn effort() -> Effort {
    Effort { all_up_to: 64, samples: 40, ..Effort::bounded(1) }
}

fn way(name: &str) -> Way {
    WAYS.into_iter().find(|way| way.name == name).unwrap()
}

fn broken(case: &Case, way: Way, rule: &Rule) -> Report {
    let report = power_cuts_through(case, way, &effort(), &|disk| Box::new(Broken::new(disk, rule.clone())));
    println!("{}: {} of {} disks: {:?}", case.name, report.failed, report.disks, report.failures.first());
    report
}

fn fails_with(report: &Report, part: &str) {
    assert!(
        report.failures.iter().any(|failure| failure.contains(part)),
        "no {part:?} in {:#?}",
        report.failures
    );
}

#[test]
fn a_destination_that_keeps_the_rules_is_fine() {
    for case in cases() {
        let report = broken(&case, way("whole"), &Rule::SkipSync(0));
        assert!(report.is_good(), "{:#?}", report.failures);
    }
}

/// Every sync is needed: those before what selects the slot, and the one after it. Only where two copies of the
/// environment were written is the last one for the older of them, which nobody reads then.
#[test]
fn a_skipped_sync_is_caught_whichever_it_is() {
    for case in cases() {
        let syncs = power_cuts(&case, way("whole"), &effort()).syncs;
        for number in 1..=syncs {
            let report = broken(&case, way("whole"), &Rule::SkipSync(number));
            match (number == syncs, case.may_be_damaged) {
                (true, true) => fails_with(&report, "called done, and the disk is Old"),
                (true, false) => assert!(report.is_good(), "{:#?}", report.failures),
                (false, _) => assert!(report.failed > 0, "sync {number} of {syncs}"),
            }
        }
    }
}

#[test]
fn a_destination_without_syncs_bricks() {
    for case in cases() {
        let report = broken(&case, way("whole"), &Rule::SkipSyncs);
        fails_with(&report, "slot b cannot run");
    }
}

#[test]
fn a_switch_before_the_data_bricks() {
    for case in cases() {
        // Everything in front of the slots.
        let report = broken(&case, way("whole"), &Rule::SwitchFirst(0..2048 * BLOCK));
        fails_with(&report, "slot b cannot run");
    }
}

#[test]
fn a_write_that_is_lost_or_wrong_bricks_and_verification_finds_it_before() {
    let [_, case, ..] = &cases()[..] else { panic!("no case") };
    for rule in [Rule::DropWrite(1), Rule::FlipBit(2)] {
        fails_with(&broken(case, way("whole"), &rule), "slot b cannot run");
        fails_with(&broken(case, way("verify"), &rule), "does not go through: write verification failed");
    }
}

#[test]
fn a_write_to_the_slot_that_runs_is_caught() {
    let layout = DiskLayout::with_slots_of(1);
    let slot = |block: u64| block * BLOCK..(block + layout.slot_blocks) * BLOCK;
    let [case, ..] = &cases()[..] else { panic!("no case") };
    let report = broken(case, way("whole"), &Rule::Elsewhere(slot(layout.slot_b), layout.slot_a * BLOCK));
    fails_with(&report, "where the running firmware is");
    fails_with(&report, "slot a cannot run");
}

/// Both copies in one place are no two copies.
#[test]
fn a_redundant_environment_written_in_one_place_is_caught() {
    let layout = DiskLayout::with_slots_of(1).redundant();
    let [_, case, ..] = &cases()[..] else { panic!("no case") };
    let second = layout.environment_redundant.unwrap() * BLOCK;
    let rule =
        Rule::Elsewhere(second..second + layout.environment_blocks * BLOCK, layout.environment * BLOCK);
    assert!(broken(case, way("whole"), &rule).failed > 0);
}

/// Without the check of the signature anybody's firmware would run.
#[test]
fn a_dropped_signature_check_is_caught() {
    let [_, good, ..] = &cases()[..] else { panic!("no case") };
    let layout = DiskLayout::with_slots_of(1).redundant();
    let stranger = FirmwareBuilder::new("gadget", "6.6.6").rootfs(200_000, 9).ab_layout(&layout).level(1);
    let stranger = stranger.build(&SigningKey::from_seed(9)).unwrap().bytes().unwrap();
    let unsigned = tamper(&good.archive, &Tamper::Unsigned).unwrap();
    for archive in [stranger, unsigned.into()] {
        let case = Case { archive, ..good.clone() };
        let report = power_cuts(&case, way("whole"), &effort());
        fails_with(&report, "does not go through");
        assert_eq!(report.writes, 0);
    }
    let mut case = good.clone();
    let stranger = FirmwareBuilder::new("gadget", "6.6.6").rootfs(200_000, 9).ab_layout(&layout).level(1);
    case.archive = stranger.build(&SigningKey::from_seed(9)).unwrap().bytes().unwrap();
    case.options.public_keys.clear();
    case.options.require_signature = false;
    fails_with(&power_cuts(&case, way("whole"), &effort()), "a firmware of unknown origin runs");
}

/// A firmware that selects its slot before the data are there is wrong, whoever signed it.
#[test]
fn a_firmware_that_switches_in_on_init_bricks() {
    let image: Vec<u8> = (0..=250_u8).cycle().take(300_000).collect();
    let build = |early: bool| {
        let mark = vec![call(&["raw_memset", "0", "1", "1"])];
        let mut task = Task::new("upgrade");
        if early {
            task.on_init = mark;
        } else {
            task.on_finish = mark;
        }
        task.on_resource = vec![("image".to_owned(), vec![call(&["raw_write", "2048"])])];
        let builder = FirmwareBuilder::new("gadget", "1").resource("image", image.clone()).task(task);
        builder.build(&SigningKey::from_seed(1)).unwrap().bytes().unwrap()
    };
    let [good, ..] = &cases()[..] else { panic!("no case") };
    for early in [false, true] {
        let image = image.clone();
        let case = Case {
            name: format!("a mark, early: {early}"),
            before: nerves_hub_link_testkit::disk::Image::new(),
            length: 4 << 20,
            archive: build(early),
            judge: Arc::new(move |disk| match disk.bytes(0, 1)[0] {
                0 => State::Old,
                _ if disk.bytes(2048 * BLOCK, image.len()) == image => State::New,
                _ => State::Bricked("selected and not whole".to_owned()),
            }),
            is_sound: true,
            may_be_damaged: false,
            protected: Vec::new(),
            options: good.options.clone(),
        };
        let report = power_cuts(&case, way("whole"), &effort());
        assert_eq!(report.is_good(), !early, "{:#?}", report.failures);
    }
}
