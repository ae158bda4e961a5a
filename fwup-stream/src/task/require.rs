//! The requirements of tasks (fw-format §7). What cannot be evaluated is not met.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::action::{Context, blocks, shell, uboot};
use crate::disk::BLOCK;
use crate::manifest::Call;

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
            partition_start(Path::new(path)) == Some(blocks(block))
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
    start.is_some_and(|start| u64::from(u32::from_le_bytes(*start)) == block)
}

/// The number of a block device, as the kernel writes it.
fn device_name(device: u64) -> String {
    format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device))
}

fn is_on_device(path: &Path, device: &Path) -> bool {
    let (Ok(path), Ok(device)) = (fs::metadata(path), fs::metadata(device)) else { return false };
    let (path, device) = (device_name(path.dev()), device_name(device.rdev()));
    path == device || is_below(&path, &device, LAYERS)
}

/// Looks for the device among those the other is made of.
fn is_below(upper: &str, device: &str, layers: u32) -> bool {
    let Some(layers) = layers.checked_sub(1) else { return false };
    let Ok(slaves) = fs::read_dir(sys_path(upper, "slaves")) else { return false };
    slaves.flatten().any(|slave| {
        let Ok(lower) = fs::read_to_string(slave.path().join("dev")) else { return false };
        lower.trim_end() == device || is_below(lower.trim_end(), device, layers)
    })
}

/// The first block of the partition that holds the path.
fn partition_start(path: &Path) -> Option<u64> {
    let device = device_name(fs::metadata(path).ok()?.dev());
    fs::read_to_string(sys_path(&device, "start")).ok()?.trim_end().parse().ok()
}

fn sys_path(device: &str, name: &str) -> PathBuf {
    Path::new("/sys/dev/block").join(device).join(name)
}

fn succeeds(context: &Context<'_>, command: &str) -> bool {
    shell(context, command).status().is_ok_and(|status| status.success())
}
