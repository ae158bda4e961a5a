//! Upgrades of devices with two slots, built here: selected by a boot environment or a partition table.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use fwup_stream::ApplyOptions;
use fwup_stream::trust::PublicKey;

use super::super::ab::format_disk;
use super::super::boot::{BootError, boot};
use super::super::environment::{EnvironmentError, encode, read_environment, readers_agree};
use super::super::image::Image;
use super::super::layout::{BLOCK, DiskLayout, Slot};
use super::super::medium::Medium;
use super::case::{Case, Judge, State};
use super::run::applied;
use crate::firmware::{FirmwareBuilder, SigningKey, Tamper, tamper};
use crate::harness::container;
use crate::meta::FirmwareMeta;

/// Bytes of a root file system: two segments and a part.
const ROOTFS: u64 = 300_000;
const OLD: &str = "1.0.0";
const NEW: &str = "1.1.0";

/// Devices of the kind the official systems are: an environment of one copy, of two copies far apart, and of two
/// copies side by side; and with the end of one slot, both environments and the start of the other slot in one
/// segment of 128 KiB, which is what `fwup` writes together.
pub fn ab_cases() -> io::Result<Vec<Case>> {
    let layout = DiskLayout::with_slots_of(1);
    let side_by_side = |layout: DiskLayout| DiskLayout {
        environment_redundant: Some(layout.environment + layout.environment_blocks),
        ..layout
    };
    let (slot_a, environment, slot_b) = (2112, 4176, 4208);
    let close = DiskLayout { slot_a, environment, slot_b, application: 6400, ..layout };
    Ok(vec![
        ab_case("A/B, one environment", &layout, 1)?,
        ab_case("A/B, two environments", &layout.redundant(), 1)?,
        ab_case("A/B, two environments side by side", &side_by_side(layout), 1)?,
        ab_case("A/B, two environments, generations wrap", &layout.redundant(), 252)?,
        ab_case("A/B, one environment close to the slots", &close, 1)?,
        ab_case("A/B, two environments close to the slots", &side_by_side(close), 1)?,
    ])
}

/// The same with archives that prove bad only when most of it is written: a wrong byte near the end of the root
/// file system, and the end cut off.
pub fn bad_cases() -> io::Result<Vec<Case>> {
    let layout = DiskLayout::with_slots_of(1).redundant();
    let case = ab_case("A/B", &layout, 1)?;
    let wrong = Tamper::Resource { name: "rootfs.img".to_owned(), offset: 290_000 };
    let cut = Tamper::Truncated(case.archive.len() - 20_000);
    [("a wrong byte", wrong), ("cut off", cut)]
        .into_iter()
        .map(|(what, how)| {
            let archive = tamper(&case.archive, &how).map_err(io::Error::other)?.into();
            Ok(Case { name: format!("A/B, {what}"), archive, is_sound: false, ..case.clone() })
        })
        .collect()
}

/// An upgrade from slot A to slot B on a disk of this layout, whose slots have at least 1 MiB, and whose newer
/// environment, if there are two, has this generation.
pub fn ab_case(name: &str, layout: &DiskLayout, generation: u8) -> io::Result<Case> {
    let key = SigningKey::from_seed(1);
    let old = FirmwareMeta {
        version: OLD.to_owned(),
        product: "gadget".to_owned(),
        uuid: "00000000-0000-5000-0000-000000000001".to_owned(),
        platform: "testkit".to_owned(),
        architecture: "generic".to_owned(),
        ..FirmwareMeta::default()
    };
    let mut before = Image::new();
    format_disk(&mut before, layout, &old, ROOTFS, 1)?;
    if let Some(second) = layout.environment_redundant {
        let variables = read_environment(&before, layout).map_err(io::Error::other)?;
        let size = usize::try_from(layout.environment_blocks * BLOCK).map_err(io::Error::other)?;
        for (block, generation) in [(layout.environment, generation), (second, generation.wrapping_sub(1))] {
            let copy = encode(&variables, size, Some(generation)).map_err(io::Error::other)?;
            before.write_at(block * BLOCK, &copy)?;
        }
    }
    before.settle();
    let builder = FirmwareBuilder::new("gadget", NEW).rootfs(ROOTFS, 2).ab_layout(layout).level(1);
    let archive = builder.build(&key).map_err(io::Error::other)?;
    Ok(Case {
        name: name.to_owned(),
        before,
        length: layout.disk_len(),
        options: options("upgrade", &key.public_key())?,
        judge: ab_judge(*layout, archive.uuid().to_owned()),
        archive: archive.bytes()?,
        is_sound: true,
        may_be_damaged: layout.environment_redundant.is_none(),
        protected: vec![blocks(layout.slot(Slot::A), layout.slot_blocks)],
    })
}

/// Boots once, without a watchdog's help: no slot is ever selected before it is whole.
fn ab_judge(layout: DiskLayout, uuid: String) -> Judge {
    Arc::new(move |disk| {
        if !readers_agree(disk, &layout).unwrap_or(true) {
            return State::Bricked(DIFFERENT_COPIES.to_owned());
        }
        match boot(disk, &layout) {
            Ok(up) if up.slot == Slot::A && up.rootfs.version == OLD => State::Old,
            Ok(up) if up.slot == Slot::B && up.rootfs.version == NEW && up.meta.uuid == uuid => State::New,
            Ok(up) => State::Bricked(format!("a firmware of unknown origin runs: {up:?}")),
            Err(BootError::Environment(error @ EnvironmentError::Checksum { copies: 1, .. })) => {
                State::Damaged(error.to_string())
            }
            Err(error) => State::Bricked(error.to_string()),
        }
    })
}

/// Then one slot runs, and the next upgrade goes by the other one being active.
pub(super) const DIFFERENT_COPIES: &str =
    "the boot loader and the device find different values in the environment";

/// The bytes of these blocks.
pub(super) fn blocks(first: u64, count: u64) -> Range<u64> {
    first * BLOCK..(first + count) * BLOCK
}

/// Keys and task of an application.
pub(super) fn options(task: &str, key: &str) -> io::Result<ApplyOptions> {
    let mut options = ApplyOptions::default();
    task.clone_into(&mut options.task);
    options.public_keys = vec![PublicKey::from_text(key).map_err(io::Error::other)?];
    Ok(options)
}

/// Bytes of what the devices below run, and where their slots are.
const IMAGE: usize = 200_000;
const SLOT_A: u64 = 2048;
const SLOT_B: u64 = 4096;
const SLOT_BLOCKS: u64 = 1024;
const BLOCKS: u64 = 8192;

/// Devices that boot what the first entry of a partition table names: an MBR, and a GPT with its backup.
pub fn table_cases() -> io::Result<Vec<Case>> {
    Ok(vec![table_case("MBR", false)?, table_case("GPT", true)?])
}

fn table_case(name: &str, gpt: bool) -> io::Result<Case> {
    let content = |seed: u8| {
        let bytes: Vec<u8> = (0_u8..=250).cycle().map(|byte| byte ^ seed).take(IMAGE).collect();
        bytes
    };
    let manifest = |image: &[u8], running: u64| {
        let write = if gpt { "gpt_write" } else { "mbr_write" };
        let task = |name: &str, slot: u64, table: &str| {
            format!(
                "task \"{name}\" {{\non-resource \"rootfs\" {{\nfunlist={{2,raw_write,{slot}}}\n}}\n\
                 on-finish {{\nfunlist={{2,{write},{table}}}\n}}\n}}\n"
            )
        };
        let tables: String = [("a", SLOT_A, SLOT_B), ("b", SLOT_B, SLOT_A)]
            .map(|(name, first, second)| table(gpt, name, first, second))
            .concat();
        let section = container::section("rootfs", image);
        let tasks = [task("complete", running, "a"), task("upgrade", SLOT_B, "b")].concat();
        let manifest = [section, tables, tasks].concat();
        container::archive(manifest.as_bytes(), &[("rootfs", image)], true)
    };
    let (old, new) = (content(0x11), content(0x22));
    let key = container::key().public_key();
    let mut before =
        applied(&Image::new(), BLOCKS * BLOCK, &manifest(&old, SLOT_A), &options("complete", &key)?)?;
    before.settle();
    let judge: Judge = Arc::new(move |disk| {
        let first = if gpt { first_of_gpt(disk) } else { first_of_mbr(disk) };
        let whole = |slot: u64, image: &[u8]| disk.bytes(slot * BLOCK, image.len()) == image;
        match first {
            Some(SLOT_A) if whole(SLOT_A, &old) => State::Old,
            Some(SLOT_B) if whole(SLOT_B, &new) => State::New,
            Some(slot) => State::Bricked(format!("what is at block {slot} is not whole")),
            None => State::Bricked("no partition table is sound".to_owned()),
        }
    });
    Ok(Case {
        name: format!("{name} selects the slot"),
        before,
        length: BLOCKS * BLOCK,
        archive: manifest(&content(0x22), SLOT_A).into(),
        options: options("upgrade", &key)?,
        judge,
        is_sound: true,
        may_be_damaged: false,
        protected: vec![blocks(SLOT_A, SLOT_BLOCKS)],
    })
}

fn table(gpt: bool, name: &str, first: u64, second: u64) -> String {
    let partition = |number: u32, offset: u64| {
        let kind = if gpt {
            format!(
                "type=\"0fc63daf-8483-4772-8e79-3d69d8477de4\"\nguid=\"22222222-1001-4001-8001-{offset:012}\"\n"
            )
        } else {
            "type=131\n".to_owned()
        };
        format!("partition \"{number}\" {{\nblock-offset={offset}\nblock-count={SLOT_BLOCKS}\n{kind}}}\n")
    };
    let (kind, guid) =
        if gpt { ("gpt", "guid=\"b443fbeb-2c93-481b-88b3-0ecb0aeba911\"\n") } else { ("mbr", "") };
    format!("{kind} \"{name}\" {{\n{guid}{}{}}}\n", partition(0, first), partition(1, second))
}

/// Where the first partition of a boot record begins.
fn first_of_mbr(disk: &Image) -> Option<u64> {
    let record = disk.bytes(0, 512);
    let start = record.get(454..458)?.first_chunk::<4>()?;
    record.ends_with(&[0x55, 0xaa]).then(|| u64::from(u32::from_le_bytes(*start)))
}

/// Where the first partition of a GPT begins: of the backup, when the checksums of the first are wrong
/// (UEFI 2.10 §5.3.2).
fn first_of_gpt(disk: &Image) -> Option<u64> {
    [1, BLOCKS - 1].into_iter().find_map(|block| {
        let header = disk.bytes(block * BLOCK, 92);
        let number = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk::<4>()?));
        let mut sealed = header.clone();
        sealed.get_mut(16..20)?.fill(0);
        let entries_at = u64::from(number(72)?);
        let entries = disk.bytes(entries_at * BLOCK, 128 * 128);
        let sound = header.starts_with(b"EFI PART")
            && u64::from(number(24)?) == block
            && number(16)? == crc32fast::hash(&sealed)
            && number(88)? == crc32fast::hash(&entries);
        let first = entries.get(32..40)?.first_chunk::<8>()?;
        sound.then(|| u64::from_le_bytes(*first))
    })
}
