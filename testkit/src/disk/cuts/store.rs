//! Changes that the device itself makes to its boot environment.

use std::io;
use std::path::{Path, PathBuf};

use nerves_hub_link_platform::kv::fw_env_config::{FwEnvConfig, Location};
use nerves_hub_link_platform::kv::{Change, KeyValueStore, KvError, Pairs, UbootStore};

use super::super::environment::{encode, newest};
use super::super::image::Image;
use super::super::layout::{BLOCK, DiskLayout};
use super::super::loss::{Losses, Pending};
use super::super::medium::Medium;
use super::super::random::Random;
use super::report::{Effort, Report};

/// Changes made one after the other.
const ROUNDS: u64 = 24;
/// Blocks of each copy, and where they are.
const BLOCKS: u64 = 8;
const FIRST: u64 = 8;
const SECOND: u64 = 24;
const LENGTH: u64 = 40 * BLOCK;

/// Lets the device's store change an environment of one copy and of two, of one sector and of several, in a file in
/// `folder`, and makes each file that a loss of power during the change could leave: single changed sectors are
/// there or not. With two copies the store then reads the old or the new values. With one it may instead find no
/// environment, says so, and changes nothing until it is formatted; when all that changes is in one sector, it
/// reads the old or the new values.
pub fn store_cuts(folder: &Path, effort: &Effort) -> io::Result<Vec<Report>> {
    let mut reports = Vec::new();
    for redundant in [false, true] {
        for (size, long) in [("short", false), ("long", true)] {
            let copies = if redundant { "two copies" } else { "one copy" };
            let mut store = Store::new(folder, redundant, long, effort)?;
            let mut report = Report::new(&format!("the device's store, {copies}, {size}"), "update");
            for round in 0..ROUNDS {
                store.update(round, &mut report)?;
            }
            reports.push(report);
            let mut report = Report::new(&format!("the device's store, {copies}, {size}"), "format");
            store.format(&mut report)?;
            reports.push(report);
        }
    }
    Ok(reports)
}

struct Store<'a> {
    path: PathBuf,
    config: FwEnvConfig,
    redundant: bool,
    /// Whether what changes is in several sectors.
    long: bool,
    effort: &'a Effort,
    random: Random,
}

impl<'a> Store<'a> {
    fn new(folder: &Path, redundant: bool, long: bool, effort: &'a Effort) -> io::Result<Self> {
        let path = folder.join("environment.img");
        let size = usize::try_from(BLOCKS * BLOCK).map_err(io::Error::other)?;
        let place = |block: u64| Location { path: path.clone(), offset: block * BLOCK, size };
        let config = FwEnvConfig::new(place(FIRST), redundant.then(|| place(SECOND)));
        let config = config.map_err(io::Error::other)?;
        let mut image = Image::new();
        let block = encode(&pairs(long, "0"), size, redundant.then_some(250)).map_err(io::Error::other)?;
        image.write_at(FIRST * BLOCK, &block)?;
        let store = Self { path, config, redundant, long, effort, random: Random::new(effort.seed) };
        store.put(&image)?;
        Ok(store)
    }

    fn store(&self) -> UbootStore {
        UbootStore::new(self.config.clone())
    }

    fn put(&self, image: &Image) -> io::Result<()> {
        std::fs::write(&self.path, image.bytes(0, usize::try_from(LENGTH).map_err(io::Error::other)?))
    }

    fn get(&self) -> io::Result<Image> {
        let mut image = Image::new();
        image.write_at(0, &std::fs::read(&self.path)?)?;
        Ok(image)
    }

    /// Changes something and cuts power meanwhile. Leaves the change made.
    fn update(&mut self, round: u64, report: &mut Report) -> io::Result<()> {
        let text = round.to_string();
        let long = if round.is_multiple_of(3) { "x".repeat(700) } else { text.clone() };
        let gone = format!("name{}", round.saturating_sub(1));
        let name = format!("name{round}");
        let mut changes: Vec<Change<'_>> = vec![("n", Some(&text)), (&name, Some(&text)), (&gone, None)];
        if self.long {
            changes.push(("long", Some(&long)));
        }
        let before = self.get()?;
        let old = self.store().load().map_err(io::Error::other)?;
        self.store().update(&changes).map_err(io::Error::other)?;
        let after = self.get()?;
        let new = self.store().load().map_err(io::Error::other)?;
        (report.writes, report.syncs) = (report.writes + 1, report.syncs + 1);
        self.cut(&before, &after, [&old, &new], report, |store| store.update(&changes))?;
        self.put(&after)
    }

    /// Formats and cuts power meanwhile: the copies are written one after the other, the one in use last, each
    /// synced.
    fn format(&mut self, report: &mut Report) -> io::Result<()> {
        let before = self.get()?;
        let old = self.store().load().map_err(io::Error::other)?;
        let new = pairs(self.long, "formatted");
        self.store().format(&new).map_err(io::Error::other)?;
        let after = self.get()?;
        let layout = DiskLayout {
            environment: FIRST,
            environment_blocks: BLOCKS,
            environment_redundant: self.redundant.then_some(SECOND),
            ..DiskLayout::with_slots_of(1)
        };
        let in_use = newest(&before, &layout).map_err(io::Error::other)?.1;
        let first = if self.redundant && in_use == FIRST { SECOND } else { FIRST };
        let mut half = before.clone();
        let size = usize::try_from(BLOCKS * BLOCK).map_err(io::Error::other)?;
        half.write_at(first * BLOCK, &after.bytes(first * BLOCK, size))?;
        report.writes += 1 + u64::from(self.redundant);
        report.syncs = report.writes;
        self.cut(&before, &half, [&old, &new], report, |store| store.format(&new))?;
        if self.redundant {
            self.cut(&half, &after, [&old, &new], report, |store| store.format(&new))?;
        }
        self.put(&after)
    }

    fn cut(
        &mut self,
        before: &Image,
        after: &Image,
        [old, new]: [&Pairs; 2],
        report: &mut Report,
        again: impl Fn(&mut UbootStore) -> Result<(), KvError>,
    ) -> io::Result<()> {
        let written = after.bytes(0, usize::try_from(LENGTH).map_err(io::Error::other)?);
        let losses = Losses::new(before, &[Pending::Write { offset: 0, data: written }], BLOCK)?;
        let all = losses.count(self.effort.all_up_to);
        report.cuts += 1;
        for number in 0..all.unwrap_or(self.effort.samples) {
            let choice = match all {
                Some(_) => losses.numbered(number),
                None => losses.sampled(&mut self.random),
            };
            let mut disk = before.clone();
            losses.keep(&choice, &mut disk)?;
            self.put(&disk)?;
            report.disks += 1;
            match self.store().load() {
                Ok(pairs) if pairs == *new => report.new += 1,
                Ok(pairs) if pairs == *old => report.old += 1,
                Ok(pairs) => report.fail(&format!("neither old nor new: {pairs:?}")),
                Err(KvError::NoEnvironment { .. }) if !self.redundant && losses.sectors() > 1 => {
                    report.damaged += 1;
                    if self.store().put("a", "1").is_ok() || !self.get()?.same(&disk, 0, LENGTH) {
                        report.fail("a damaged environment was changed");
                    }
                    self.store().format(new).map_err(io::Error::other)?;
                }
                Err(error) => report.fail(&error.to_string()),
            }
            if self.store().load().is_ok_and(|pairs| pairs == *old) {
                again(&mut self.store()).map_err(io::Error::other)?;
            }
            match self.store().load() {
                Ok(pairs) if pairs == *new => report.resumed += 1,
                other => report.fail(&format!("changed again, it is {other:?}")),
            }
        }
        Ok(())
    }
}

fn pairs(long: bool, text: &str) -> Pairs {
    let mut pairs =
        Pairs::from([("n".to_owned(), text.to_owned()), ("serial".to_owned(), "1234".to_owned())]);
    if long {
        pairs.extend((0..16).map(|number| (format!("variable{number}"), format!("{number}").repeat(60))));
    }
    pairs
}
