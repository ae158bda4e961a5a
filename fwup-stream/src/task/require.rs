//! The requirements of tasks (fw-format §7). What cannot be evaluated is not met.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::action::{Context, blocks, shell, uboot};
use crate::disk::BLOCK;
use crate::manifest::Call;

/// What the kernel tells about block devices, by number.
const SYS: &str = "/sys/dev/block";
/// How deep device-mapper layers are followed.
const LAYERS: u32 = 3;
/// Where the partition table and its signature are in block 0, and how long an entry is.
const TABLE: usize = 446;
const ENTRY: usize = 16;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// What [`crate::manifest::Task::require_partition1_offset`] is when it is not used.
const UNUSED: i64 = -1;

/// Says whether the requirement holds.
pub(super) fn is_met(context: &mut Context<'_>, call: &Call<'_>) -> bool {
    match (call.name, call.args) {
        ("require-partition-offset", [number, block, ..]) => {
            partition_starts_at(context, blocks(number), blocks(block))
        }
        ("require-uboot-variable", [environment, name, value, ..]) => {
            let Some(environment) = context.manifest.environment(environment) else { return false };
            uboot::value(context.disk, environment, name).is_some_and(|is| is == value.as_bytes())
        }
        ("require-fat-file-exists", [block, name, ..]) => {
            context.fats.exists(context.disk, blocks(block), name)
        }
        ("require-fat-file-match", [block, name, pattern, ..]) => {
            context.fats.file_contains(context.disk, blocks(block), name, pattern.as_bytes())
        }
        ("require-path-on-device", [path, device, ..]) => is_on_device(Path::new(path), Path::new(device)),
        ("require-path-at-offset", [path, block, ..]) => {
            let start = fs::metadata(path)
                .ok()
                .and_then(|path| first_block(Path::new(SYS), &device_name(path.dev())));
            start == Some(blocks(block))
        }
        ("require-execute", [command, ..]) => {
            context.settings.unsafe_allowed && !command.is_empty() && succeeds(context, command)
        }
        _ => false,
    }
}

/// The older form of `require-partition-offset` for partition 1.
pub(super) fn partition1_starts_at(context: &mut Context<'_>, block: i64) -> bool {
    block == UNUSED || u64::try_from(block).is_ok_and(|block| partition_starts_at(context, 1, block))
}

fn partition_starts_at(context: &mut Context<'_>, number: u64, block: u64) -> bool {
    let mut table = [0; BLOCK];
    if context.disk.read(0, &mut table).is_err() || !table.ends_with(&SIGNATURE) {
        return false;
    }
    let Some(number) = usize::try_from(number).ok().filter(|number| *number < 4) else { return false };
    let start = table.get(TABLE + number * ENTRY + 8..).and_then(|rest| rest.first_chunk());
    debug_assert!(start.is_some(), "an entry of the partition table lies outside its block");
    start.is_some_and(|start| u64::from(u32::from_le_bytes(*start)) == block)
}

/// The number of a block device, as the kernel writes it.
fn device_name(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

fn is_on_device(path: &Path, device: &Path) -> bool {
    let (Ok(path), Ok(device)) = (fs::metadata(path), fs::metadata(device)) else { return false };
    let (path, device) = (device_name(path.dev()), device_name(device.rdev()));
    path == device || is_below(Path::new(SYS), &path, &device, LAYERS)
}

/// Looks for the device among those the other is made of.
fn is_below(sys: &Path, upper: &str, device: &str, layers: u32) -> bool {
    let Some(layers) = layers.checked_sub(1) else { return false };
    let Ok(slaves) = fs::read_dir(sys.join(upper).join("slaves")) else { return false };
    slaves.flatten().any(|slave| {
        let Ok(lower) = fs::read_to_string(slave.path().join("dev")) else { return false };
        lower.trim_end() == device || is_below(sys, lower.trim_end(), device, layers)
    })
}

/// The first block of a partition.
fn first_block(sys: &Path, device: &str) -> Option<u64> {
    fs::read_to_string(sys.join(device).join("start")).ok()?.trim_end().parse().ok()
}

fn succeeds(context: &Context<'_>, command: &str) -> bool {
    shell(context, command).status().is_ok_and(|status| status.success())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may.
mod tests {
    use super::*;

    /// A made-up machine where every device lies on the next: 253:0 on 253:1 and so on.
    fn tower(height: u32) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        for floor in 0..height {
            let slave = sys.path().join(format!("253:{floor}/slaves/below"));
            fs::create_dir_all(&slave).unwrap();
            fs::write(slave.join("dev"), format!("253:{}\n", floor + 1)).unwrap();
        }
        sys
    }

    #[test]
    fn three_layers_are_followed_and_not_a_fourth() {
        let sys = tower(4);
        let found = |device: &str| is_below(sys.path(), "253:0", device, LAYERS);
        assert!(found("253:1") && found("253:2") && found("253:3"));
        assert!(!found("253:4") && !found("253:0") && !found("8:0"));
    }

    #[test]
    fn layers_that_go_round_in_circles_end() {
        let sys = tower(1);
        fs::write(sys.path().join("253:0/slaves/below/dev"), "253:0\n").unwrap();
        assert!(!is_below(sys.path(), "253:0", "8:0", LAYERS));
    }

    #[test]
    fn a_partition_begins_where_the_kernel_says() {
        let sys = tempfile::tempdir().unwrap();
        for (device, text) in [("8:1", "2048\n"), ("8:2", ""), ("8:3", "-1"), ("8:0", "")] {
            fs::create_dir_all(sys.path().join(device)).unwrap();
            fs::write(sys.path().join(device).join("start"), text).unwrap();
        }
        assert_eq!(first_block(sys.path(), "8:1"), Some(2048));
        for device in ["8:0", "8:2", "8:3", "8:4"] {
            assert_eq!(first_block(sys.path(), device), None, "{device}");
        }
    }

    #[test]
    fn a_device_holds_what_is_on_it() {
        // Whatever /dev is made of, no file system is on /dev/null.
        assert!(!is_on_device(Path::new("/"), Path::new("/dev/null")));
        assert!(!is_on_device(Path::new("/nonexistent"), Path::new("/nonexistent")));
    }
}
