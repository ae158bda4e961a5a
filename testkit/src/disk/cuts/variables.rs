//! Changes of boot environments alone.

use std::io;
use std::path::Path;
use std::sync::Arc;

use fwup_stream::ApplyOptions;
use nerves_hub_link_platform::kv::uboot_env::{Copy, Environment, Layout, newer};

use super::super::environment::{Variables, encode, read_environment, readers_agree};
use super::super::image::Image;
use super::super::layout::{BLOCK, DiskLayout};
use super::super::medium::Medium;
use super::built::{DIFFERENT_COPIES, blocks};
use super::case::{Case, Judge, State};
use super::run::applied;

/// Bytes of the disk: the environments and room behind them.
const LENGTH: u64 = 1 << 20;
/// Blocks of each copy of the recorded environments, and where they begin.
const BLOCKS: u64 = 4;
const FIRST: u64 = 16;
const SECOND: u64 = 32;
/// Blocks of the largest sector.
const SECTOR: u64 = 8;

/// Every change the recorded archives make to an environment of one copy (`uboot-env`) and of two
/// (`uboot-env-redundant`), the latter for generations around each border and with either copy damaged; and what
/// is not there. An environment of two copies has the old or the new values at any moment. One of one copy may be
/// damaged instead, which its checksum shows.
pub fn environment_cases(folder: &Path) -> io::Result<(Vec<Case>, Vec<String>)> {
    let (mut cases, mut missing) = (Vec::new(), Vec::new());
    match std::fs::read(folder.join("uboot-env/input.fw")) {
        Ok(archive) => cases.extend(plain(&archive.into())?),
        Err(_) => missing.push("uboot-env".to_owned()),
    }
    match std::fs::read(folder.join("uboot-env-redundant/input.fw")) {
        Ok(archive) => cases.extend(redundant(&archive.into())?),
        Err(_) => missing.push("uboot-env-redundant".to_owned()),
    }
    Ok((cases, missing))
}

fn layout(redundant: bool) -> DiskLayout {
    DiskLayout {
        environment: FIRST,
        environment_blocks: BLOCKS,
        environment_redundant: redundant.then_some(SECOND),
        ..DiskLayout::with_slots_of(1)
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Variables {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// An environment long enough to fill several sectors.
fn long(active: &str) -> Variables {
    let mut variables = pairs(&[("active", active), ("zeta", "1")]);
    for number in 0..12 {
        variables.insert(format!("variable{number}"), format!("{number}").repeat(80));
    }
    variables
}

fn put(disk: &mut Image, block: u64, variables: &Variables, generation: Option<u8>) -> io::Result<()> {
    let size = usize::try_from(BLOCKS * BLOCK).map_err(io::Error::other)?;
    disk.write_at(block * BLOCK, &encode(variables, size, generation).map_err(io::Error::other)?)
}

fn plain(archive: &Arc<[u8]>) -> io::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (size, variables) in [("short", pairs(&[("active", "a"), ("zeta", "1")])), ("long", long("a"))] {
        for task in ["clear", "set", "clear-set", "unset", "up", "from-env"] {
            let mut before = Image::new();
            put(&mut before, FIRST, &variables, None)?;
            let name = format!("uboot-env, {size}, {task}");
            cases.push(case(name, before, archive, task, false)?);
        }
    }
    // Nothing but to clear it helps when it is damaged.
    let mut before = Image::new();
    before.write_at(FIRST * BLOCK, &[0x55; 2048])?;
    cases.push(case("uboot-env, damaged, recover".to_owned(), before, archive, "recover", false)?);
    Ok(cases)
}

fn redundant(archive: &Arc<[u8]>) -> io::Result<Vec<Case>> {
    let generations = [
        (0, 0),
        (0, 1),
        (1, 0),
        (255, 0),
        (0, 255),
        (127, 128),
        (128, 127),
        (254, 255),
        (255, 255),
        (127, 255),
    ];
    let long = |text: &str| {
        let mut variables = long(text);
        variables.insert("n".to_owned(), text.to_owned());
        variables
    };
    let mut cases = Vec::new();
    for task in ["set", "set2", "unset", "clear"] {
        for (first, second) in generations {
            let mut before = Image::new();
            put(&mut before, FIRST, &long("first"), Some(first))?;
            put(&mut before, SECOND, &long("second"), Some(second))?;
            let name = format!("uboot-env-redundant, {first} and {second}, {task}");
            cases.push(case(name, before, archive, task, true)?);
        }
        for damaged in [FIRST, SECOND] {
            let mut before = Image::new();
            put(&mut before, FIRST, &long("first"), Some(1))?;
            put(&mut before, SECOND, &long("second"), Some(2))?;
            before.write_at(damaged * BLOCK + 700, b"torn")?;
            let which = if damaged == FIRST { "first" } else { "second" };
            let name = format!("uboot-env-redundant, {which} damaged, {task}");
            cases.push(case(name, before, archive, task, true)?);
        }
    }
    let mut before = Image::new();
    for block in [FIRST, SECOND] {
        before.write_at(block * BLOCK, &[0x55; 2048])?;
    }
    cases.push(case(
        "uboot-env-redundant, both damaged, recover".to_owned(),
        before,
        archive,
        "recover",
        true,
    )?);
    Ok(cases)
}

fn case(name: String, before: Image, archive: &Arc<[u8]>, task: &str, redundant: bool) -> io::Result<Case> {
    let mut options = ApplyOptions::default();
    task.clone_into(&mut options.task);
    options.require_signature = false;
    options.variables = Arc::new(|name| (name == "SERIAL").then(|| "1234".to_owned()));
    let after = applied(&before, LENGTH, archive, &options)?;
    let layout = layout(redundant);
    let old = read_environment(&before, &layout).ok();
    let new = read_environment(&after, &layout).map_err(io::Error::other)?;
    let starts_damaged = old.is_none();
    let agreed = readers_agree(&before, &layout).map_err(io::Error::other)?;
    let judge: Judge = Arc::new(move |disk| {
        let read = read_environment(disk, &layout);
        let platform = by_platform(disk, &layout);
        if read.as_ref().ok() != platform.as_ref() {
            return State::Bricked(format!("two readers differ: {read:?} and {platform:?}"));
        }
        if agreed && !readers_agree(disk, &layout).unwrap_or(true) {
            return State::Bricked(DIFFERENT_COPIES.to_owned());
        }
        match read {
            Ok(variables) if variables == new => State::New,
            Ok(variables) if Some(&variables) == old.as_ref() => State::Old,
            Ok(variables) => State::Bricked(format!("neither old nor new: {variables:?}")),
            Err(error) => State::Damaged(error.to_string()),
        }
    });
    Ok(Case {
        name,
        before,
        length: LENGTH,
        archive: Arc::clone(archive),
        options,
        judge,
        is_sound: true,
        may_be_damaged: !redundant || starts_damaged,
        // Up to the next sector of the largest kind that is tried.
        protected: vec![blocks(0, FIRST), blocks(FIRST + SECTOR, SECOND - FIRST - SECTOR)],
    })
}

/// What the device's own reader makes of it.
fn by_platform(disk: &Image, layout: &DiskLayout) -> Option<Variables> {
    let size = usize::try_from(layout.environment_blocks * BLOCK).ok()?;
    let kind = if layout.environment_redundant.is_some() { Layout::Redundant } else { Layout::Plain };
    let copy = |block: u64| Environment::decode(&disk.bytes(block * BLOCK, size), kind).ok();
    let (first, second) = (copy(layout.environment), layout.environment_redundant.and_then(copy));
    let env = match (first, second) {
        (Some((first, a)), Some((second, b))) => match newer(a, b) {
            Copy::First => first,
            Copy::Second => second,
        },
        (Some((env, _)), None) | (None, Some((env, _))) => env,
        (None, None) => return None,
    };
    Some(env.pairs())
}
