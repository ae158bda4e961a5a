//! A loss of power at any moment leaves a device that boots.

use crate::apply_support::{
    Done, Recorder, SLOT_B, TWINS, apply, boots, data, device, installed, options, redundant_boots,
    redundant_device, resource, signed,
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

type Boots<'a> = &'a dyn Fn(&MemoryTarget) -> Option<(char, u8)>;

/// Tries every moment with many losses; the first disk that does not boot.
fn find_brick(before: &MemoryTarget, log: &[Done], boots: Boots<'_>) -> Option<String> {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for done in 0..=log.len() {
        for attempt in 0..25 {
            let disk = after_power_loss(before, log, done, &mut dice);
            let up = boots(&disk);
            if !matches!(up, Some(('a', 1) | ('b', 2))) {
                return Some(format!("after step {done}, attempt {attempt}: boots {up:?}"));
            }
        }
    }
    None
}

#[test]
fn whatever_is_lost_with_the_power_one_slot_boots() {
    let (before, log) = upgrade();
    assert_eq!(find_brick(&before, &log, &boots), None);
}

/// The simulation must be able to find the fault it looks for.
#[test]
fn without_syncs_the_simulation_finds_a_brick() {
    let (before, log) = upgrade();
    let unsynced: Vec<_> = log.into_iter().filter(|step| *step != Done::Sync).collect();
    assert!(find_brick(&before, &unsynced, &boots).is_some());
}

#[test]
fn what_selects_the_slot_is_written_last_between_two_syncs() {
    let (_, log) = upgrade();
    let count = log.len();
    // The boot record, then the environment, each alone.
    let [Done::Sync, Done::Write(0, record), Done::Sync, Done::Write(8192, environment), Done::Sync] =
        &log[count - 5..]
    else {
        panic!("the end was {:?}", log[count - 5..].iter().map(std::mem::discriminant).collect::<Vec<_>>());
    };
    assert_eq!((record.len(), environment.len()), (SECTOR, SECTOR));
    let touches_start = |step: &&Done| matches!(step, Done::Write(0..131_072, _));
    assert_eq!(log.iter().filter(touches_start).count(), 2);
}

/// A disk with version 1 in slot A and a redundant environment.
fn installed_redundant(steps: usize) -> MemoryTarget {
    let mut disk = MemoryTarget::with_hard_size(4 << 20);
    apply(options("complete"), &redundant_device(1, 0, steps), &mut disk).unwrap();
    disk
}

/// However many variables are changed, before and after: old or new firmware, complete, at any moment.
#[test]
fn copies_of_an_environment_side_by_side_are_never_torn_together() {
    for (unset, steps) in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 3)] {
        for (verify, minimize) in [(false, false), (true, true)] {
            let before = installed_redundant(steps);
            assert_eq!(redundant_boots(&before, steps), Some(('a', 1)));
            let mut target = Recorder::new(before.clone());
            let mut how = options("upgrade");
            (how.verify_writes, how.minimize_writes) = (verify, minimize);
            apply(how, &redundant_device(2, unset, steps), &mut target).unwrap();
            let boots = |disk: &MemoryTarget| redundant_boots(disk, steps);
            assert_eq!(boots(&target.disk), Some(('b', 2)));
            assert_eq!(find_brick(&before, &target.log, &boots), None, "{unset} unset, {steps} set");
            let unsynced: Vec<_> = target.log.iter().filter(|step| **step != Done::Sync).cloned().collect();
            assert!(find_brick(&before, &unsynced, &boots).is_some());
        }
    }
}

/// Copies too large to be held back are written one at a time.
#[test]
fn copies_of_an_environment_larger_than_the_cache_are_never_torn_together() {
    // One block more than a quarter of the smallest cache, as it is asked for below.
    const COPIES: [u64; 2] = [1024, 4096];
    const BLOCKS: u64 = 513;
    let firmware = |version: u8| {
        // What changes in a copy has to fill many sectors to be torn.
        let (one, two) = ("abcdefg".repeat(2000), "hijklmn".repeat(2000));
        let manifest = format!(
            "block-cache-size-mb=1\nuboot-environment \"env\" {{\nblock-offset={}\nblock-count={BLOCKS}\n\
             block-offset-redund={}\n}}\ntask \"complete\" {{\non-init {{\nfunlist={{2,uboot_clearenv,env,4,\
             uboot_setenv,env,active,a{version}}}\n}}\n}}\ntask \"upgrade\" {{\non-finish {{\nfunlist={{4,\
             uboot_setenv,env,s1,{one},4,uboot_setenv,env,active,b{version},4,uboot_setenv,env,s1,{two}}}\n}}\n}}\n",
            COPIES[0], COPIES[1],
        );
        signed(&manifest, &[])
    };
    let boots = |disk: &MemoryTarget| {
        let copies = COPIES.map(|block| disk.bytes(block * 512, 512 * 513));
        let sound = |copy: &Vec<u8>| crc32fast::hash(&copy[5..]).to_le_bytes() == copy[..4];
        let newer = (1..128).contains(&copies[1][4].wrapping_sub(copies[0][4]));
        let order = if newer { [&copies[1], &copies[0]] } else { [&copies[0], &copies[1]] };
        let text = String::from_utf8_lossy(&order.into_iter().find(|copy| sound(copy))?[5..64]).into_owned();
        let active = text.split('\0').find_map(|pair| pair.strip_prefix("active="))?;
        Some((active.chars().next()?, active[1..].parse().ok()?))
    };
    let mut before = MemoryTarget::with_hard_size(4 << 20);
    apply(options("complete"), &firmware(1), &mut before).unwrap();
    assert_eq!(boots(&before), Some(('a', 1)));
    let mut target = Recorder::new(before.clone());
    apply(options("upgrade"), &firmware(2), &mut target).unwrap();
    assert_eq!(boots(&target.disk), Some(('b', 2)));
    assert_eq!(find_brick(&before, &target.log, &boots), None);
    let unsynced: Vec<_> = target.log.iter().filter(|step| **step != Done::Sync).cloned().collect();
    assert!(find_brick(&before, &unsynced, &boots).is_some());
}

/// The result is the same as if every call had written at once.
#[test]
fn the_copies_end_as_if_written_call_by_call() {
    for (unset, steps) in [(0, 1), (0, 2), (1, 2), (2, 3), (1, 4)] {
        let mut disk = installed_redundant(steps);
        let flags = |disk: &MemoryTarget| TWINS.map(|block| disk.bytes(block * 512 + 4, 1)[0]);
        let before = flags(&disk);
        apply(options("upgrade"), &redundant_device(2, unset, steps), &mut disk).unwrap();
        let newest = before.into_iter().max().unwrap();
        let changes = u8::try_from(unset + steps).unwrap();
        let after = flags(&disk);
        assert_eq!(after.into_iter().max().unwrap(), newest + changes);
        if changes > 1 {
            assert_eq!(after.into_iter().min().unwrap(), newest + changes - 1);
        }
    }
}

/// What a medium with large sectors writes together keeps the neighbours as they are on the medium.
#[test]
fn large_sectors_are_written_whole_and_only_those() {
    let image = data(3, 3000);
    let manifest = format!(
        "{}task \"t\" {{\non-init {{\nfunlist={{4,raw_memset,9,1,7}}\n}}\n\
         on-resource \"x\" {{\nfunlist={{2,raw_write,301}}\n}}\n\
         on-finish {{\nfunlist={{4,raw_memset,10,1,8}}\n}}\n}}\n",
        resource("x", &image)
    );
    let old = data(9, 2 << 20);
    let mut target = Recorder::new(MemoryTarget::with_content(&old));
    target.granularity = 4096;
    apply(options("t"), &signed(&manifest, &[("x", &image)]), &mut target).unwrap();
    let writes: Vec<_> = target
        .log
        .iter()
        .filter_map(|step| match step {
            Done::Write(offset, data) => Some((*offset, data.len())),
            Done::Sync => None,
        })
        .collect();
    assert_eq!(writes, [(37 * 4096, 2 * 4096), (4096, 4096), (4096, 4096)]);
    let mut want = old;
    want[9 * 512..10 * 512].fill(7);
    want[10 * 512..11 * 512].fill(8);
    want[301 * 512..301 * 512 + 3000].copy_from_slice(&image);
    want[301 * 512 + 3000..307 * 512].fill(0);
    assert!(target.disk.image() == want);
    // When block 9 was written, block 10 was still the old one.
    let is_first = |step: &&Done| matches!(step, Done::Write(4096, _));
    let Some(Done::Write(_, first)) = target.log.iter().find(is_first) else { panic!("no write") };
    assert_eq!(first[1024..1536], data(9, 2 << 20)[10 * 512..11 * 512]);
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
    target.sync_fails_from = 2;
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
