//! Memory cards: finding them, printing them, and asking before one is overwritten (fw-format §18).
//!
//! What the running system stands on is never offered: neither the disk of `/` nor that of another place
//! the system needs, also when there are device-mapper or RAID layers in between.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::input::is_stdin;
use crate::options::Options;
use crate::output::{Output, amount};

/// Bytes in a block of `/sys/block/NAME/size`.
const BLOCK: u64 = 512;
/// A reader without a card has a size of 0; nothing useful is smaller than this.
const SMALLEST: u64 = 1 << 20;
/// The major number of MMC and SD cards, which the kernel does not call removable.
const MMC_MAJOR: &str = "179:";
/// Highest number of an MMC device that is looked at.
const MMC_LAST: u32 = 15;
/// How deep device-mapper and RAID layers are followed down to disks.
const LAYERS: u32 = 8;
/// Where the system is; the disks that hold these are not offered.
const SYSTEM: [&str; 7] = ["/", "/boot", "/boot/efi", "/usr", "/var", "/etc", "/home"];

/// A memory card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// Where the kernel tells about devices, and which devices the system stands on.
struct Machine {
    sys: PathBuf,
    /// Devices by number, as `MAJOR:MINOR`.
    in_use: BTreeSet<String>,
}

/// `-D`: prints the cards.
pub(crate) fn print_all(output: &mut Output) {
    let cards = Machine::this().cards();
    output.result(cards.iter().map(|card| format!("{},{}", card.path.display(), card.bytes)));
}

/// `-z`: prints the card that would be written to.
pub(crate) fn print_one(output: &mut Output) -> Result<(), Failure> {
    let card = only_one(Machine::this().cards())?;
    output.result([card.path.display().to_string()]);
    Ok(())
}

/// The card to write to when no destination was given, once the user agrees.
pub(crate) fn destination(options: &Options) -> Result<PathBuf, Failure> {
    let card = only_one(Machine::this().cards())?;
    if options.yes {
        return Ok(card.path);
    }
    if options.input.as_ref().is_none_or(is_stdin) {
        return Err(Failure::new(format!(
            "can't ask whether {} may be overwritten, since the firmware comes from standard input; give -y if it may",
            card.path.display()
        )));
    }
    confirm(&card, &mut io::stdin().lock(), &mut io::stderr())?;
    Ok(card.path)
}

/// Asks whether the card may be overwritten.
fn confirm(card: &Card, answers: &mut impl BufRead, questions: &mut impl Write) -> Result<(), Failure> {
    let (size, path) = (amount(card.bytes), card.path.display());
    // Nobody there to read the question cannot answer it either.
    let _ =
        write!(questions, "Use {size} memory card found at {path}? [y/N] ").and_then(|()| questions.flush());
    let mut answer = String::new();
    let read = answers.read_line(&mut answer);
    match answer.trim_start().chars().next() {
        Some('y' | 'Y') if read.is_ok() => Ok(()),
        _ => Err(Failure::new(format!("{path} was not confirmed; nothing was written"))),
    }
}

fn only_one(cards: Vec<Card>) -> Result<Card, Failure> {
    match <[Card; 1]>::try_from(cards) {
        Ok([card]) => Ok(card),
        Err(cards) if cards.is_empty() => {
            Err(Failure::new("No memory cards found. Try reinserting the card."))
        }
        Err(cards) => {
            let paths: Vec<_> = cards.iter().map(|card| card.path.display().to_string()).collect();
            Err(Failure::new(format!(
                "Too many memory cards found: {}. Say which one with -d.",
                paths.join(", ")
            )))
        }
    }
}

impl Machine {
    /// The machine this runs on.
    fn this() -> Self {
        let places: Vec<String> = SYSTEM
            .iter()
            .filter_map(|place| fs::metadata(place).ok())
            .map(|place| number(place.dev()))
            .collect();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let device = |path: &str| {
            let metadata = fs::metadata(path).ok()?;
            metadata.file_type().is_block_device().then(|| number(metadata.rdev()))
        };
        Self::with("/sys".into(), &places, &mounts, device)
    }

    /// A machine whose system is on devices with these numbers. `device` returns the number of a block device.
    fn with(sys: PathBuf, places: &[String], mounts: &str, device: impl Fn(&str) -> Option<String>) -> Self {
        let mut in_use: BTreeSet<String> = places.iter().cloned().collect();
        // An overlay, btrfs or a RAM disk has a number of its own, which leads to no disk. Any disk that is mounted may be
        // under it.
        if places.iter().any(|number| !sys.join("dev/block").join(number).exists()) {
            in_use.extend(mounts.lines().filter_map(|line| device(line.split(' ').next()?)));
        }
        Self { sys, in_use }
    }

    /// The cards, by name.
    fn cards(&self) -> Vec<Card> {
        let system = self.system_disks();
        let Ok(entries) = fs::read_dir(self.sys.join("block")) else { return Vec::new() };
        let mut cards: Vec<Card> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_card_name(name) && !system.contains(name))
            .filter_map(|name| self.card(&name))
            .collect();
        cards.sort_by(|one, other| one.path.cmp(&other.path));
        cards
    }

    fn card(&self, name: &str) -> Option<Card> {
        let number = self.attribute(name, "dev")?;
        let removable = self.attribute(name, "removable").is_some_and(|text| text == "1");
        if !removable && !number.starts_with(MMC_MAJOR) {
            return None;
        }
        let bytes = self.attribute(name, "size")?.parse::<u64>().ok()?.checked_mul(BLOCK)?;
        (bytes >= SMALLEST).then(|| Card { path: Path::new("/dev").join(name), bytes })
    }

    fn attribute(&self, disk: &str, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.sys.join("block").join(disk).join(name)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The names of the disks under what is in use.
    fn system_disks(&self) -> BTreeSet<String> {
        let mut disks = BTreeSet::new();
        for number in &self.in_use {
            self.add_disks(number, LAYERS, &mut disks);
        }
        disks
    }

    /// Adds the disk of a device, or the disks of those it is made of.
    fn add_disks(&self, number: &str, layers: u32, disks: &mut BTreeSet<String>) {
        let Some(layers) = layers.checked_sub(1) else { return };
        // The link leads to .../block/DISK or .../block/DISK/PARTITION.
        let Ok(device) = fs::canonicalize(self.sys.join("dev/block").join(number)) else { return };
        let is_partition = device.join("partition").exists();
        let disk = if is_partition { device.parent() } else { Some(device.as_path()) };
        if let Some(name) = disk.and_then(Path::file_name).and_then(|name| name.to_str()) {
            disks.insert(name.to_owned());
        }
        let slaves = fs::read_dir(device.join("slaves")).into_iter().flatten().flatten();
        for slave in slaves {
            if let Ok(number) = fs::read_to_string(slave.path().join("dev")) {
                self.add_disks(number.trim(), layers, disks);
            }
        }
    }
}

/// The number of a device, as `MAJOR:MINOR`.
fn number(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

/// `sda` to `sdy` and `mmcblk0` to `mmcblk15`: whole disks, not the boot areas of an eMMC.
fn is_card_name(name: &str) -> bool {
    if let Some(letter) = name.strip_prefix("sd") {
        return matches!(letter.as_bytes(), [b'a'..=b'y']);
    }
    let number = name.strip_prefix("mmcblk").filter(|number| number.bytes().all(|c| c.is_ascii_digit()));
    number.and_then(|number| number.parse().ok()).is_some_and(|number: u32| number <= MMC_LAST)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // A test may.
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A made-up machine: disks as name, number, removable, blocks.
    fn machine(disks: &[(&str, &str, bool, u64)], in_use: &[&str]) -> (tempfile::TempDir, Machine) {
        let sys = tempfile::tempdir().unwrap();
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        fs::create_dir_all(sys.path().join("dev/block")).unwrap();
        for (name, number, removable, blocks) in disks {
            let disk = sys.path().join("block").join(name);
            write(disk.join("dev"), &format!("{number}\n"));
            write(disk.join("removable"), if *removable { "1\n" } else { "0\n" });
            write(disk.join("size"), &format!("{blocks}\n"));
            symlink(&disk, sys.path().join("dev/block").join(number)).unwrap();
        }
        let machine = Machine {
            sys: sys.path().to_owned(),
            in_use: in_use.iter().map(|text| (*text).to_owned()).collect(),
        };
        (sys, machine)
    }

    fn add_partition(sys: &Path, disk: &str, name: &str, number: &str) {
        let place = sys.join("block").join(disk).join(name);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("partition"), "1\n").unwrap();
        fs::write(place.join("dev"), number).unwrap();
        symlink(&place, sys.join("dev/block").join(number)).unwrap();
    }

    fn paths(machine: &Machine) -> Vec<String> {
        machine.cards().iter().map(|card| card.path.display().to_string()).collect()
    }

    #[test]
    fn cards_are_removable_disks_and_mmc_of_a_size() {
        let blocks = SMALLEST / BLOCK;
        let disks = [
            ("sda", "8:0", false, 1_000_000),
            ("sdb", "8:16", true, blocks),
            ("sdc", "8:32", true, blocks - 1),
            ("sdd", "8:48", true, 0),
            ("sdz", "65:144", true, 1_000_000),
            ("sdaa", "65:160", true, 1_000_000),
            ("sr0", "11:0", true, 1_000_000),
            ("mmcblk0", "179:0", false, 1_000_000),
            ("mmcblk0boot0", "179:8", false, 1_000_000),
            ("mmcblk15", "179:240", false, 1_000_000),
            ("mmcblk16", "179:248", false, 1_000_000),
            ("mmcblk", "179:250", false, 1_000_000),
        ];
        let (_sys, machine) = machine(&disks, &[]);
        assert_eq!(paths(&machine), ["/dev/mmcblk0", "/dev/mmcblk15", "/dev/sdb"]);
        assert_eq!(machine.cards().last().map(|card| card.bytes), Some(SMALLEST));
    }

    #[test]
    fn the_disk_of_the_system_is_never_offered() {
        let disks = [("sda", "8:0", true, 1_000_000), ("mmcblk0", "179:0", false, 1_000_000)];
        // On the whole disk, on a partition, and on a layer above a partition.
        let (_sys, on_disk) = machine(&disks, &["8:0"]);
        assert_eq!(paths(&on_disk), ["/dev/mmcblk0"]);
        let (sys, on_partition) = machine(&disks, &["179:2"]);
        add_partition(sys.path(), "mmcblk0", "mmcblk0p2", "179:2");
        assert_eq!(paths(&on_partition), ["/dev/sda"]);
        let (sys, on_layer) = machine(&disks, &["253:0"]);
        add_partition(sys.path(), "sda", "sda1", "8:1");
        let slaves = sys.path().join("block/dm-0/slaves");
        fs::create_dir_all(&slaves).unwrap();
        symlink(sys.path().join("block/sda/sda1"), slaves.join("sda1")).unwrap();
        symlink(sys.path().join("block/dm-0"), sys.path().join("dev/block/253:0")).unwrap();
        assert_eq!(paths(&on_layer), ["/dev/mmcblk0"]);
    }

    #[test]
    fn disks_that_are_mounted_count_where_the_number_of_the_root_leads_to_none() {
        let disks = [("sda", "8:0", true, 1_000_000), ("sdb", "8:16", true, 1_000_000)];
        let mounts =
            "overlay / overlay rw,lowerdir=/ro 0 0\n/dev/sda1 /ro squashfs ro 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        let device = |path: &str| (path == "/dev/sda1").then(|| "8:1".to_owned());
        let (sys, _) = machine(&disks, &[]);
        add_partition(sys.path(), "sda", "sda1", "8:1");
        let with = |places: &[&str]| {
            let places: Vec<String> = places.iter().map(|text| (*text).to_owned()).collect();
            paths(&Machine::with(sys.path().to_owned(), &places, mounts, device))
        };
        assert_eq!(with(&["0:42"]), ["/dev/sdb"]);
        // A card that is only mounted may be written, once it is unmounted.
        assert_eq!(with(&["8:16"]), ["/dev/sda"]);
    }

    #[test]
    fn layers_that_go_round_in_circles_end() {
        let (sys, machine) = machine(&[("sda", "8:0", true, 1_000_000)], &["253:0"]);
        let slaves = sys.path().join("block/dm-0/slaves");
        fs::create_dir_all(&slaves).unwrap();
        fs::write(sys.path().join("block/dm-0/dev"), "253:0").unwrap();
        symlink(sys.path().join("block/dm-0"), slaves.join("dm-0")).unwrap();
        symlink(sys.path().join("block/dm-0"), sys.path().join("dev/block/253:0")).unwrap();
        assert_eq!(paths(&machine), ["/dev/sda"]);
    }

    #[test]
    fn a_machine_without_sysfs_has_no_cards() {
        let machine = Machine { sys: "/nonexistent".into(), in_use: BTreeSet::new() };
        assert!(machine.cards().is_empty());
    }

    #[test]
    fn exactly_one_card_will_do() {
        let card = |path: &str| Card { path: path.into(), bytes: SMALLEST };
        let text = |cards| only_one(cards).unwrap_err().text.unwrap();
        assert_eq!(only_one(vec![card("/dev/sdb")]).unwrap(), card("/dev/sdb"));
        assert_eq!(text(Vec::new()), "No memory cards found. Try reinserting the card.");
        assert!(text(vec![card("/dev/sdb"), card("/dev/sdc")]).contains("/dev/sdb, /dev/sdc"));
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        let card = Card { path: "/dev/sdb".into(), bytes: 31_914_983_424 };
        for (answer, agreed) in [
            ("y\n", true),
            ("Y\n", true),
            ("yes", true),
            ("n\n", false),
            ("\n", false),
            ("", false),
            ("ok y\n", false),
        ] {
            let mut asked = Vec::new();
            let outcome = confirm(&card, &mut answer.as_bytes(), &mut asked);
            assert_eq!(outcome.is_ok(), agreed, "{answer:?}");
            assert_eq!(asked, b"Use 31.91 GB memory card found at /dev/sdb? [y/N] ");
        }
    }
}
