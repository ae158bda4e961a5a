//! What goes wrong: named classes, each of which a run may have or not.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The part of the world that a fault comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Between device and server.
    Network,
    /// The server, and what it says.
    Hub,
    /// Firmware on its way.
    Download,
    /// The device's disk and power.
    Device,
    /// The program around the machine, and the person who wrote it.
    Application,
    /// The device's clock.
    Clock,
}

impl Origin {
    /// Every origin.
    pub const ALL: [Self; 6] =
        [Self::Network, Self::Hub, Self::Download, Self::Device, Self::Application, Self::Clock];

    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Hub => "hub",
            Self::Download => "download",
            Self::Device => "device",
            Self::Application => "application",
            Self::Clock => "clock",
        }
    }
}

macro_rules! faults {
    ($($variant:ident $name:literal $origin:ident $per_week:literal $about:literal),+ $(,)?) => {
        /// A class of faults.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $(#[doc = concat!($about, ".")] $variant,)+
        }

        impl Fault {
            /// Every class.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name on the command line and in traces.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What happens, in a few words.
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),+ }
            }

            /// Where it comes from.
            pub fn origin(self) -> Origin {
                match self { $(Self::$variant => Origin::$origin),+ }
            }

            /// How often it strikes in a week by default: each device, or the hub for those that strike all at once.
            pub fn per_week(self) -> f64 {
                match self { $(Self::$variant => $per_week),+ }
            }
        }
    };
}

faults! {
    Latency "latency" Network 14.0 "the way to the server becomes slow, up to ten seconds",
    Cut "cut" Network 21.0 "all connections of a device break, in the middle of a message or a download",
    Silence "silence" Network 7.0 "nothing arrives any more, and no connection is reset",
    Dns "dns" Network 2.0 "names can't be resolved",
    Refused "refused" Network 2.0 "connections are refused",
    Hang "hang" Network 2.0 "connecting is never answered",
    Proxy "proxy" Network 1.0 "a proxy refuses the way to the server",
    Stall "stall" Network 1.0 "the system takes no messages to send",
    Reorder "reorder" Network 1.0 "what an ended connection had under way arrives behind the first of the next one",
    Kick "kick" Hub 2.0 "the server closes the connection of a device, politely or not",
    Crash "channel-crash" Hub 2.0 "the server's side of the channel crashes",
    Deaf "deaf" Hub 1.0 "heartbeats are not answered",
    Duplicate "duplicate" Hub 3.0 "messages arrive twice",
    Late "late" Hub 1.0 "messages arrive after their connection ended",
    Hostile "hostile" Hub 2.0 "messages no server should send",
    Refusal "refusal" Hub 2.0 "connections are refused with 401, 403, 429, 500 or 503, with and without Retry-After",
    Redirect "redirect" Hub 1.0 "connections are redirected, also in circles",
    Restart "restart" Hub 1.0 "the hub goes down without a word and comes back after a while",
    Drain "drain" Hub 1.0 "the hub closes every channel in order and restarts",
    SlowBody "slow-body" Download 3.0 "a download trickles",
    RangeIgnored "range-ignored" Download 3.0 "a request for the rest of a file is answered with all of it",
    ShortBody "short-body" Download 3.0 "a body ends early",
    FileError "file-error" Download 3.0 "a download is refused with 403, 404, 429, 500 or 503",
    FileRedirect "file-redirect" Download 1.0 "a download is redirected",
    FileChanged "file-changed" Download 0.2 "the file is replaced during a download",
    Tampered "tampered" Download 0.2 "a byte of a download is not what it was",
    PowerCut "power-cut" Device 3.0 "power goes, at any step; what was not synced is lost, or there after all",
    Torn "torn-sectors" Device 1.0 "power goes, at any step; of what was not synced some sectors are there, others not",
    DiskFull "disk-full" Device 0.3 "the disk is full",
    DiskError "disk-error" Device 0.3 "a write fails",
    ReadError "read-error" Device 0.5 "a read of the disk fails, once or for minutes",
    DiskSlow "disk-slow" Device 3.0 "the disk takes seconds for a write, or minutes",
    Exit "exit" Application 2.0 "the program crashes and is started again",
    SlowAnswer "slow-answer" Application 2.0 "the application decides late, or too late",
    NoAnswer "no-answer" Application 0.5 "the application never decides",
    Refuses "refuses" Application 0.5 "the application ignores or postpones an update",
    RebootAsked "reboot" Application 0.5 "an operator asks for a reboot",
    ClockJump "clock-jump" Clock 1.0 "the wall clock jumps by up to a year",
    ClockUnset "clock-unset" Clock 1.0 "the device has no wall clock after a reboot",
    BadRelease "bad-release" Hub 0.25 "a release whose firmware never proves good, so that devices fall back",
    Untrusted "untrusted" Hub 0.25 "a release signed with a key that no device trusts",
}

impl Fault {
    /// Returns the class of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.name() == name)
    }

    /// Whether it strikes every device at once.
    pub fn is_global(self) -> bool {
        matches!(self, Self::Restart | Self::Drain | Self::BadRelease | Self::Untrusted)
    }

    /// Whether it waits for its moment, so that the connection of a device has nothing to do with it.
    pub(super) fn waits(self) -> bool {
        let disk = matches!(self, Self::DiskFull | Self::DiskError | Self::ReadError | Self::DiskSlow);
        let person = matches!(self, Self::SlowAnswer | Self::NoAnswer | Self::Refuses);
        self.origin() == Origin::Download || disk || person
    }

    const fn bit(self) -> u64 {
        1 << (self as u8)
    }

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| serde::de::Error::custom(UnknownFault(name)))
    }
}

/// A name that no class has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no class of faults is called {0:?}; there are all, none, {origins}, and {names}", origins = origins(), names = names())]
pub struct UnknownFault(pub String);

fn origins() -> String {
    Origin::ALL.map(Origin::name).join(", ")
}

fn names() -> String {
    Fault::ALL.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(", ")
}

/// Classes of faults that a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults(u64);

impl Faults {
    /// None at all.
    pub const NONE: Self = Self(0);

    /// Every class.
    pub fn all() -> Self {
        Fault::ALL.iter().copied().collect()
    }

    /// Those whose bits are set.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits & Self::all().0)
    }

    /// Reads names separated by commas, `all` and `none` among them, and origins such as `network`. A name with a
    /// minus in front is taken away.
    pub fn parse(text: &str) -> Result<Self, UnknownFault> {
        let mut set = Self::NONE;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, away) = word.strip_prefix('-').map_or((word, false), |name| (name, true));
            let origin = Origin::ALL.into_iter().find(|origin| origin.name() == name);
            let named = match name {
                "all" => Self::all(),
                "none" => Self::NONE,
                _ => match (origin, Fault::parse(name)) {
                    (Some(origin), _) => {
                        Fault::ALL.iter().copied().filter(|fault| fault.origin() == origin).collect()
                    }
                    (None, Some(fault)) => std::iter::once(fault).collect(),
                    (None, None) => return Err(UnknownFault(name.to_owned())),
                },
            };
            set.0 = if away { set.0 & !named.0 } else { set.0 | named.0 };
        }
        Ok(set)
    }

    /// Whether a class is in.
    pub const fn contains(self, fault: Fault) -> bool {
        self.0 & fault.bit() != 0
    }

    /// Adds a class.
    pub const fn insert(&mut self, fault: Fault) {
        self.0 |= fault.bit();
    }

    /// The same without a class.
    #[must_use]
    pub const fn without(self, fault: Fault) -> Self {
        Self(self.0 & !fault.bit())
    }

    /// The classes.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(move |fault| self.contains(*fault))
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<T: IntoIterator<Item = Fault>>(faults: T) -> Self {
        Self(faults.into_iter().fold(0, |bits, fault| bits | fault.bit()))
    }
}

impl Serialize for Faults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Faults {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Fault>::deserialize(deserializer)?.into_iter().collect())
    }
}
