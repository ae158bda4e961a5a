//! One device: the real machine, and what it runs on.

use nerves_hub_link_protocol::{
    ArchiveId, Attempt, ConnectionState, FetchId, History, Input, Instant, Link, Now, OfferId, ShellId,
    ShellKind, Sink, SocketId, StoreId, StoreKind, UnixTime, UpdateState,
};

use super::applier::Applier;
use super::armed::Armed;
use super::asked::Managing;
use super::dice::{Rng, mix};
use super::disk::{Booted, Disk};
use super::firmware::{Firmware, FirmwareId};
use super::model::Model;
use super::policy::{Bucket, first};
use super::scenario::{DAY, SECOND, Scenario, Strikes, Variant};
use super::settings::{config, kept};
use super::store::Folder;
use super::violation::Broken;
use super::watch::Watch;

/// Unix time when a run begins.
pub(super) const BEGIN: i64 = 1_795_444_000;
/// The key that goes with [`SHARED_SECRET`].
pub(super) const PRODUCT_KEY: &str = "nhp_sim";

/// A device and everything it has.
pub(super) struct Device {
    pub number: u32,
    /// Absent while it is off or its program is being started.
    pub link: Option<Box<Life>>,
    /// Counts starts. What happens to an earlier life is dropped.
    pub life: u32,
    pub disk: Disk,
    /// Where downloads are kept: firmware and archives, in the order of [`place`].
    pub folders: [Folder; 2],
    /// Archives that the application has.
    pub archives: Vec<String>,
    pub booted: Booted,
    pub wall: Wall,
    pub armed: Armed,
    pub rng: Rng,
    pub strikes: Option<Strikes>,
    pub cut: Option<Cut>,
    /// Since when it is joined, if it is.
    pub joined_since: Option<u64>,
    /// What the machine wants remembered of the updates it tried.
    pub attempts: Vec<Attempt>,
    pub history: History,
    /// Firmware that was booted and not proved good since: how often, and when last.
    tried: Vec<(FirmwareId, u32, u64)>,
    /// Firmware that a person pushed to this device: that may be tried as often as people like.
    pub pushed: Vec<FirmwareId>,
    /// Nothing can be said about what is forgotten when: the wall clock was wrong once, or validation is unknown.
    pub uncounted: bool,
    /// Switched off for good.
    pub retired: bool,
    /// When it may be updated, and how fast.
    pub policy: u32,
    /// How far it is ahead of that.
    pub bucket: Bucket,
    /// When the newest offer was accepted.
    pub accepted_at: u64,
    /// Bytes fetched since the last update, or archive, was done.
    pub fetched: [u64; 2],
    /// The second of the last thing that happened, and how many did in it.
    heat: (u64, u32),
}

/// The program's life: gone when it ends.
pub(super) struct Life {
    pub link: Link,
    /// The world's time at this life's origin of time.
    pub origin: u64,
    pub watch: Watch,
    pub model: Model,
    pub socket: Option<SocketId>,
    pub fetches: Vec<Fetching>,
    pub applier: Option<Applier>,
    /// The stores that are open, in the order of [`place`].
    pub stores: [Option<StoreId>; 2],
    /// The archive that the application decided to have, or has to decide about.
    pub archive: Option<ArchiveId>,
    pub shells: Vec<Shell>,
    pub readings: Vec<Reading>,
    pub managing: Managing,
    /// Messages taken from the machine and not reported sent.
    pub unsent: u32,
    /// When the machine wants a tick, and when the queue holds one.
    pub wake: u64,
    pub planned: u64,
    /// Nothing happens but heartbeats, which are left out: the time of one of them.
    pub quiet: Option<u64>,
    /// A heartbeat waits for its answer.
    pub beating: bool,
    /// A message since the last answer to a heartbeat.
    pub unconfirmed: bool,
    /// For [`super::Mutation::ReuseNumber`].
    pub reused: Option<SocketId>,
}

/// The wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wall {
    pub offset: i64,
    pub unset: bool,
    /// When it is set right again.
    pub until: u64,
}

/// Power is to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// Operations of the disk left until then.
    pub after: u32,
    /// Sectors tear.
    pub tear: bool,
}

/// A reading of a store.
#[derive(Debug)]
pub(super) struct Reading {
    pub fetch: FetchId,
    /// The place of the folder.
    pub place: usize,
    pub at: u64,
    pub to: u64,
    pub into: Option<OfferId>,
}

/// A download on its way.
#[derive(Debug)]
pub(super) struct Fetching {
    pub fetch: FetchId,
    pub into: Sink,
    pub firmware: FirmwareId,
    /// Redirected already.
    pub moved: bool,
    /// The first byte asked for, if not the first of the file.
    pub range: Option<u64>,
    pub tag: Option<String>,
    /// The next byte, and the end of the body.
    pub offset: u64,
    pub end: u64,
    pub short: bool,
    pub changed: bool,
    pub tampered: Option<u64>,
    pub bytes_per_second: u64,
    /// Waits for the applier.
    pub waiting: bool,
    /// No more of it is to be read before.
    pub not_before: u64,
}

impl Device {
    pub fn new(scenario: &Scenario, number: u32, factory: &Firmware) -> Self {
        let strikes = scenario.steps.is_none().then(|| scenario.strikes(number));
        Self {
            number,
            link: None,
            life: 0,
            disk: Disk::new(factory),
            folders: Default::default(),
            archives: Vec::new(),
            booted: Booted { firmware: factory.id, validated: true, reverted: false },
            wall: Wall::default(),
            armed: Armed::default(),
            rng: Rng::of(scenario.seed, 4, number.into()),
            strikes,
            cut: None,
            joined_since: None,
            attempts: Vec::new(),
            history: History::default(),
            tried: Vec::new(),
            pushed: Vec::new(),
            // A device that can't tell whether its firmware is good takes all that boots for good.
            uncounted: scenario.has(Variant::ValidationUnknown),
            retired: false,
            policy: first(scenario, number),
            bucket: Bucket::default(),
            accepted_at: 0,
            fetched: [0; 2],
            heat: (0, 0),
        }
    }

    /// Starts the program, offline.
    pub fn start(&mut self, scenario: &Scenario, now: u64, firmware: &Firmware) -> Result<(), Broken> {
        let mut config = config(scenario, self.number, firmware, self.booted, self.policy);
        config.past_attempts.clone_from(&self.attempts);
        // On the disk it is a line of text.
        config.history = History::from_text(&self.history.to_text());
        config.known_archives.clone_from(&self.archives);
        let seed = mix(mix(scenario.seed, u64::from(self.number)), u64::from(self.life));
        // Clocks that count from the boot begin anywhere.
        let origin = now.saturating_sub(u64::from(self.life % 7) * SECOND);
        let mono = Instant::from_micros(now - origin);
        let link = Link::new(config, seed, Now { mono, wall: self.wall.at(now) })
            .map_err(|error| Broken::Config(error.to_string()))?;
        self.link = Some(Box::new(Life {
            link,
            origin,
            watch: Watch::default(),
            model: Model::new(kept(scenario, self.number).is_some()),
            socket: None,
            fetches: Vec::new(),
            applier: None,
            stores: [None; 2],
            archive: None,
            shells: Vec::new(),
            readings: Vec::new(),
            managing: Managing::default(),
            unsent: 0,
            wake: u64::MAX,
            planned: u64::MAX,
            quiet: None,
            beating: false,
            unconfirmed: false,
            reused: None,
        }));
        Ok(())
    }

    /// Ends the program. What it had under way is gone.
    pub fn end(&mut self) {
        self.link = None;
        self.life += 1;
    }

    /// Other firmware than before was booted. A machine lets one that never proves good be tried five times a week.
    pub fn tried(&mut self, now: u64, firmware: FirmwareId) -> Result<(), Broken> {
        if self.booted.validated {
            return Ok(());
        }
        let past =
            self.tried.iter().position(|(which, ..)| *which == firmware).map(|at| self.tried.remove(at));
        let recent = past.filter(|(.., last)| now - last < 7 * DAY).map_or(0, |(_, times, _)| times);
        let times = recent + 1;
        self.tried.push((firmware, times, now));
        if self.tried.len() > 8 {
            self.tried.remove(0);
        }
        let counted = !self.uncounted && !self.pushed.contains(&firmware);
        if times > 5 && counted { Err(Broken::TriedTooOften { firmware, times }) } else { Ok(()) }
    }

    /// The folder of a store that is open.
    pub fn folder_of(&mut self, store: StoreId) -> Option<&mut Folder> {
        let place = self.link.as_ref()?.open_at(store)?;
        self.folders.get_mut(place)
    }

    /// A store is no longer in use.
    pub fn close_store(&mut self, store: StoreId, clear: bool) {
        if clear && let Some(folder) = self.folder_of(store) {
            folder.clear();
        }
        if let Some(life) = self.link.as_mut()
            && let Some(open) = life.stores.iter_mut().find(|open| **open == Some(store))
        {
            *open = None;
        }
    }

    /// What runs proved good.
    pub fn proved(&mut self) {
        let firmware = self.booted.firmware;
        self.booted.validated = true;
        self.tried.retain(|(which, ..)| *which != firmware);
    }

    /// Counts something that happens; an error if that is far too much.
    pub fn warm(&mut self, now: u64) -> Result<(), Broken> {
        /// More than any device does in a second: a download at full speed has some hundred pieces, and some thousand where
        /// bytes come in the smallest packets.
        const MOST: u32 = 50_000;
        let second = now / SECOND;
        self.heat = if self.heat.0 == second { (second, self.heat.1 + 1) } else { (second, 1) };
        if self.heat.1 > MOST { Err(Broken::Hot(self.heat.1.into())) } else { Ok(()) }
    }

    /// Whether the machine says it is joined and nothing is under way.
    pub fn is_settled(&self) -> bool {
        self.link.as_ref().is_some_and(|life| {
            life.link.connection_state() == ConnectionState::Joined
                && life.link.update_state() == UpdateState::Idle
                && life.watch.unreported.is_empty()
        })
    }
}

/// The place of a kind of store among [`Device::folders`].
pub(super) const fn place(kind: StoreKind) -> usize {
    match kind {
        StoreKind::Firmware => 0,
        StoreKind::Archive => 1,
    }
}

/// A shell that the application runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shell {
    pub id: ShellId,
    pub kind: ShellKind,
    /// Bytes that the machine takes.
    pub room: usize,
    /// Bytes yet to be written.
    pub backlog: usize,
}

impl Life {
    /// The clocks for a call into the machine.
    pub fn clock(&self, now: u64, wall: Wall) -> Now {
        Now { mono: Instant::from_micros(now.saturating_sub(self.origin)), wall: wall.at(now) }
    }

    /// Tells the machine something.
    pub fn input(&mut self, now: u64, wall: Wall, input: Input<'_>) {
        let clock = self.clock(now, wall);
        self.link.handle(clock, input);
    }

    /// The place of a store that is open.
    pub fn open_at(&self, store: StoreId) -> Option<usize> {
        self.stores.iter().position(|open| *open == Some(store))
    }

    pub fn fetching(&mut self, fetch: FetchId) -> Option<&mut Fetching> {
        self.fetches.iter_mut().find(|fetching| fetching.fetch == fetch)
    }
}

impl Wall {
    pub fn at(self, now: u64) -> Option<UnixTime> {
        let seconds = BEGIN + i64::try_from(now / SECOND).unwrap_or(i64::MAX);
        if now >= self.until {
            return Some(UnixTime(seconds));
        }
        (!self.unset).then(|| UnixTime(seconds.saturating_add(self.offset)))
    }
}

/// The name a device has at the hub.
pub(super) fn identifier(number: u32) -> String {
    format!("sim-{number}")
}

/// The number of a device.
pub(super) fn number(identifier: &str) -> Option<u32> {
    identifier.strip_prefix("sim-")?.parse().ok()
}
