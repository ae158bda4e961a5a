//! What the kernel knows about the slot that runs: its command line and the partition mounted at `/`.

use std::fs;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::note::Mark;
use crate::limits::{MOUNTINFO_MAX, PROC_FILE_MAX, ROOT_DEPTH_MAX};
use crate::small_file::{open_disk, read_limited};

/// Names of the running slot on kernel command lines.
const SLOT_KEYS: [&str; 5] =
    ["nerves_fw_slot", "fw_slot", "rauc.slot", "bootstate.active", "androidboot.slot_suffix"];

/// What was found. Everything may be missing: containers, initramfs roots, odd kernels.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// The slot that the command line names.
    slot: Option<String>,
    /// The partition of the disk that is mounted at `/`, maybe under device-mapper.
    root: Option<Partition>,
    /// A digest of the kernel's name and build.
    kernel: Option<u32>,
    /// How long ago the system started.
    pub(super) uptime: Option<Duration>,
}

/// A partition as the kernel took it from the table at boot.
#[derive(Debug)]
struct Partition {
    number: u64,
    /// In units of 512 bytes.
    start: u64,
    name: Option<String>,
    /// Whether the table on the disk has it elsewhere by now.
    moved: bool,
}

/// What the evidence says about the slot that the environment names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opinion {
    /// It runs.
    For,
    /// It does not.
    Against {
        /// What runs, if known.
        running: Option<String>,
        /// Why, for a person.
        why: String,
    },
    /// Nothing.
    None,
}

impl Evidence {
    pub(super) fn gather(root: &Path, disk: &Path) -> Self {
        let text = |path: &str, limit| {
            let bytes = read_limited(&root.join(path), limit).ok().flatten()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let seconds = text("proc/uptime", PROC_FILE_MAX)
            .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
        Self {
            slot: text("proc/cmdline", PROC_FILE_MAX).and_then(|line| slot_of_command_line(&line)),
            root: text("proc/self/mountinfo", MOUNTINFO_MAX)
                .and_then(|mounts| mounted_root(&mounts))
                .and_then(|device| partition_of(root, &device, disk)),
            kernel: text("proc/version", PROC_FILE_MAX).map(|text| crc32fast::hash(text.as_bytes())),
            uptime: seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        }
    }

    /// Returns what tells this root and kernel from another slot's; `None` if the root is unknown.
    pub(super) fn fingerprint(&self) -> Option<String> {
        let root = self.root.as_ref()?;
        Some(format!("{}@{}/{:08x}", root.number, root.start, self.kernel?))
    }

    pub(super) fn opinion(
        &self,
        named: &str,
        slots: &[String],
        mark: Option<&Mark>,
        boot: Option<&str>,
    ) -> Opinion {
        let known = |name: &str| slots.iter().find(|slot| slot.eq_ignore_ascii_case(name));
        let of_partition = self.root.as_ref().and_then(|root| slot_of_name(root.name.as_deref()?, slots));
        let of_line = self.slot.as_deref().and_then(known);
        // Where both speak, the mounted root is what runs.
        let (running, source) = match (of_partition, of_line) {
            (Some(slot), _) => (Some(slot), "the partition mounted at / is named after it"),
            (None, Some(slot)) => (Some(slot), "the kernel command line says so"),
            (None, None) => (None, ""),
        };
        if let Some(running) = running.filter(|running| *running != named) {
            return Opinion::Against { running: Some(running.clone()), why: source.to_owned() };
        }
        if let (Some(slot), Some(line)) = (of_partition, of_line)
            && slot != line
        {
            let why = format!(
                "the kernel command line says slot {line} and the partition mounted at / is named after slot {slot}"
            );
            return Opinion::Against { running: None, why };
        }
        if self.root.as_ref().is_some_and(|root| root.moved) {
            let why =
                "the partition table was changed since the boot, as an update does that has not booted yet";
            return Opinion::Against { running: None, why: why.to_owned() };
        }
        if let (Some(mark), Some(boot), Some(now)) = (mark, boot, self.fingerprint())
            && !mark.is_of(boot)
            && mark.note.trusted
            && mark.note.slot != named
            && mark.root == now
        {
            let why = format!(
                "the kernel and the partition mounted at / are still those of slot {}, from before the update",
                mark.note.slot
            );
            return Opinion::Against { running: known(&mark.note.slot).cloned(), why };
        }
        if running.is_some() { Opinion::For } else { Opinion::None }
    }
}

/// Returns the slot that a kernel command line names: whole tokens, the last one counts, nothing behind `--`.
fn slot_of_command_line(line: &str) -> Option<String> {
    let tokens = tokens(line);
    let value = tokens.iter().take_while(|token| *token != "--").filter_map(|token| {
        let (key, value) = token.split_once('=')?;
        SLOT_KEYS.contains(&key).then_some(value)
    });
    let value = value.filter(|value| !value.is_empty()).last()?;
    Some(value.trim_start_matches('_').to_owned())
}

/// Splits a command line at blanks outside of double quotes, which are dropped.
fn tokens(line: &str) -> Vec<String> {
    let (mut tokens, mut token, mut quoted) = (Vec::new(), String::new(), false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            letter if letter.is_whitespace() && !quoted => tokens.push(std::mem::take(&mut token)),
            letter => token.push(letter),
        }
    }
    tokens.push(token);
    tokens.retain(|token| !token.is_empty());
    tokens
}

/// Returns the slot after which a partition is named: `rootfs-b`, `system_b`, `b`.
fn slot_of_name<'a>(name: &str, slots: &'a [String]) -> Option<&'a String> {
    let name = name.to_ascii_lowercase();
    slots.iter().find(|slot| {
        let front = name.strip_suffix(&slot.to_ascii_lowercase());
        front.is_some_and(|front| front.is_empty() || front.ends_with(['-', '_', '.', ' ', ':']))
    })
}

/// Returns `major:minor` of what is mounted last at `/` (proc_pid_mountinfo(5)).
fn mounted_root(mounts: &str) -> Option<String> {
    let roots = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point) = (fields.nth(2)?, fields.nth(1)?);
        (point == "/").then_some(device)
    });
    // Major number 0 is no block device.
    roots.fold(None, |_, device| Some(device)).filter(|device| !device.starts_with("0:")).map(str::to_owned)
}

/// Finds the partition behind a block device: itself, or below device-mapper the only one of the disk.
fn partition_of(root: &Path, device: &str, disk: &Path) -> Option<Partition> {
    let disk_number = device_number(root, disk)?;
    let mut level = vec![root.join("sys/dev/block").join(device)];
    for _ in 0..ROOT_DEPTH_MAX {
        let mut found = level.iter().filter_map(|node| partition(node, &disk_number, disk));
        match (found.next(), found.next()) {
            (Some(partition), None) => return Some(partition),
            (Some(_), Some(_)) => return None,
            (None, _) => {}
        }
        level = level
            .iter()
            .filter_map(|node| fs::read_dir(node.join("slaves")).ok())
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        if level.is_empty() {
            return None;
        }
    }
    None
}

/// Returns `major:minor` of the disk. In a tree for tests the number is in a regular file of the disk's name.
fn device_number(root: &Path, disk: &Path) -> Option<String> {
    let found = fs::metadata(disk).ok()?;
    if found.file_type().is_block_device() {
        return Some(format!("{}:{}", rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev())));
    }
    let text = fs::read_to_string(root.join("sys/block").join(disk.file_name()?).join("dev")).ok()?;
    Some(text.trim().to_owned())
}

fn partition(node: &Path, disk_number: &str, disk: &Path) -> Option<Partition> {
    let number = number_in(&node.join("partition"))?;
    let start = number_in(&node.join("start"))?;
    // Its folder is in that of its disk.
    let parent: PathBuf = fs::canonicalize(node).ok()?.parent()?.to_owned();
    if fs::read_to_string(parent.join("dev")).ok()?.trim() != disk_number {
        return None;
    }
    // Only a hint: the name of a partition may be unknown.
    let uevent = read_limited(&node.join("uevent"), PROC_FILE_MAX).ok().flatten().unwrap_or_default();
    let uevent = String::from_utf8_lossy(&uevent).into_owned();
    let name = uevent.lines().find_map(|line| line.strip_prefix("PARTNAME=")).map(str::to_owned);
    // The table counts in the disk's blocks, the kernel in 512 bytes.
    // Without a size of its own, a disk has the blocks of almost all others.
    let block = number_in(&parent.join("queue/logical_block_size")).unwrap_or(512);
    let now = start_in_table(disk, number).map(|start| start.saturating_mul(block / 512));
    Some(Partition { number, start, name, moved: now.is_some_and(|now| now != start) })
}

fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Returns where a primary partition of an MBR begins by now, in the disk's blocks. `None` for a GPT.
fn start_in_table(disk: &Path, number: u64) -> Option<u64> {
    let mut sector = [0; 512];
    open_disk(disk).ok()?.read_exact_at(&mut sector, 0).ok()?;
    let table = sector.get(446..510)?;
    let entries: Vec<&[u8]> = table.chunks_exact(16).collect();
    // 0xEE guards a GPT.
    if sector.get(510..)? != [0x55, 0xAA] || entries.iter().any(|entry| entry.get(4) == Some(&0xEE)) {
        return None;
    }
    let entry = entries.get(usize::try_from(number.checked_sub(1)?).ok()?)?;
    if entry.get(4) == Some(&0) {
        // Deleted: it is elsewhere at any rate.
        return Some(u64::MAX);
    }
    Some(u64::from(u32::from_le_bytes(entry.get(8..12)?.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_slot_on_the_command_line_counts() {
        for (line, slot) in [
            ("root=/dev/mmcblk0p2 nerves_fw_slot=a quiet\n", Some("a")),
            ("fw_slot=a fw_slot=b", Some("b")),
            ("x_fw_slot=b", None),
            ("androidboot.slot_suffix=_b", Some("b")),
            ("quiet -- fw_slot=a", None),
            ("note=\"fw_slot=a fw_slot=b\" \"rauc.slot=A\"", Some("A")),
            ("fw_slot=", None),
            ("", None),
        ] {
            assert_eq!(slot_of_command_line(line).as_deref(), slot, "{line}");
        }
    }

    #[test]
    fn the_last_mount_at_the_root_counts() {
        let mounts = "1 0 0:2 / / rw - rootfs rootfs rw\n30 1 179:2 / / ro - squashfs /dev/root ro\n31 30 0:21 / /proc rw - proc proc rw\n";
        assert_eq!(mounted_root(mounts).as_deref(), Some("179:2"));
        assert_eq!(mounted_root("1 0 0:30 / / rw - overlay overlay rw\n"), None);
        assert_eq!(mounted_root("odd"), None);
    }

    #[test]
    fn partitions_are_named_after_slots() {
        let slots = ["a".to_owned(), "b".to_owned()];
        for (name, slot) in [
            ("rootfs-b", Some("b")),
            ("System_A", Some("a")),
            ("B", Some("b")),
            ("data", None),
            ("esp", None),
        ] {
            assert_eq!(slot_of_name(name, &slots).map(String::as_str), slot, "{name}");
        }
    }
}
