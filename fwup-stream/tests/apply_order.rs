#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]
//! A loss of power at any moment leaves a device that boots.

mod apply_support;

use apply_support::{
    Done, Recorder, SLOT_B, apply, boots, data, device, installed, options, resource, selected, signed,
};
use fwup_stream::disk::{MemoryTarget, Target as _};

const SECTOR: usize = 512;

/// Numbers without pattern, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// An upgrade with all that was done to the disk.
fn upgrade() -> (MemoryTarget, Vec<Done>) {
    let before = installed();
    let mut target = Recorder::new(before.clone());
    apply(options("upgrade"), &device(2), &mut target).unwrap();
    assert_eq!(boots(&target.disk), Some(('b', 2)));
    (before, target.log)
}

/// The disk after a loss of power following the first `done` steps: what was synced is there, of the rest
/// any sector may be there or not.
fn after_power_loss(before: &MemoryTarget, log: &[Done], done: usize, dice: &mut Dice) -> MemoryTarget {
    let mut disk = before.clone();
    let steps = &log[..done];
    let synced = steps.iter().rposition(|step| *step == Done::Sync).unwrap_or(0);
    let mood = dice.roll() % 5;
    for (number, step) in steps.iter().enumerate() {
        let Done::Write(offset, data) = step else { continue };
        if number < synced {
            disk.write_at(*offset, data).unwrap();
            continue;
        }
        // Whole writes are lost or kept, or single sectors.
        let keep_write = dice.roll().is_multiple_of(2);
        for (sector, bytes) in data.chunks(SECTOR).enumerate() {
            let keep = match mood {
                0 | 1 => keep_write,
                2 => dice.roll().is_multiple_of(2),
                3 => dice.roll().is_multiple_of(16),
                _ => !dice.roll().is_multiple_of(16),
            };
            if keep {
                disk.write_at(offset + (sector * SECTOR) as u64, bytes).unwrap();
            }
        }
    }
    disk
}

/// Tries every moment with many losses; the first disk that does not boot.
fn find_brick(before: &MemoryTarget, log: &[Done]) -> Option<String> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for done in 0..=log.len() {
        for attempt in 0..40 {
            let disk = after_power_loss(before, log, done, &mut dice);
            if !matches!(boots(&disk), Some(('a', 1) | ('b', 2))) {
                return Some(format!("after step {done}, attempt {attempt}: selected {:?}", selected(&disk)));
            }
        }
    }
    None
}

#[test]
fn whatever_is_lost_with_the_power_one_slot_boots() {
    let (before, log) = upgrade();
    assert_eq!(find_brick(&before, &log), None);
}

/// The simulation must be able to find the fault it looks for.
#[test]
fn without_syncs_the_simulation_finds_a_brick() {
    let (before, log) = upgrade();
    let unsynced: Vec<_> = log.into_iter().filter(|step| *step != Done::Sync).collect();
    assert!(find_brick(&before, &unsynced).is_some());
}

#[test]
fn what_selects_the_slot_is_written_last_between_two_syncs() {
    let (_, log) = upgrade();
    let count = log.len();
    let [Done::Sync, Done::Write(0, _), Done::Sync] = &log[count - 3..] else {
        panic!("the end was {:?}", log[count - 3..].iter().map(std::mem::discriminant).collect::<Vec<_>>());
    };
    let touches_start = |step: &&Done| matches!(step, Done::Write(0, _));
    assert_eq!(log.iter().filter(touches_start).count(), 1);
}

#[test]
fn a_sync_that_fails_stops_before_the_switch() {
    let before = installed();
    let mut target = Recorder::new(before);
    target.sync_fails_from = 0;
    let error = apply(options("upgrade"), &device(2), &mut target).unwrap_err();
    assert!(error.to_string().contains("the medium is gone"), "{error}");
    assert_eq!(boots(&target.disk), Some(('a', 1)));
}

/// When only the last sync fails the switch may be on the medium: on-error must not wipe the new slot.
#[test]
fn a_sync_that_fails_after_the_switch_leaves_the_new_slot_alone() {
    let mut target = Recorder::new(installed());
    target.sync_fails_from = 1;
    apply(options("upgrade"), &device(2), &mut target).unwrap_err();
    assert_eq!(boots(&target.disk), Some(('b', 2)));
}

/// What on-finish fills is no less a switch than an environment: not even whole segments go early, also when
/// they do not fit into the cache.
#[test]
fn nothing_of_on_finish_is_written_before_the_data_are_safe() {
    for segments in [1_u64, 20] {
        let image = data(3, 300_000);
        let manifest = format!(
            "block-cache-size-mb=1\n{}task \"t\" {{\non-resource \"x\" {{\nfunlist={{2,raw_write,{SLOT_B}}}\n}}\n\
             on-finish {{\nfunlist={{4,raw_memset,8192,{},7}}\n}}\n}}\n",
            resource("x", &image),
            segments * 256,
        );
        let mut target = Recorder::new(MemoryTarget::new());
        apply(options("t"), &signed(&manifest, &[("x", &image)]), &mut target).unwrap();
        let is_last_act = |step: &Done| matches!(step, Done::Write(offset, _) if *offset >= 8192 * 512);
        let first = target.log.iter().position(is_last_act).unwrap();
        let (before, after) = target.log.split_at(first);
        assert_eq!(before.last(), Some(&Done::Sync), "{segments} segments");
        let data_writes = before.iter().filter(|step| matches!(step, Done::Write(..))).count();
        assert_eq!(data_writes, 3, "{segments} segments");
        assert!(after.iter().all(|step| *step == Done::Sync || is_last_act(step)));
        assert_eq!(after.last(), Some(&Done::Sync));
        assert_eq!(target.disk.bytes(SLOT_B * 512, image.len()), image);
        assert!(target.disk.bytes(8192 * 512, 1 << 17).iter().all(|byte| *byte == 7));
    }
}
