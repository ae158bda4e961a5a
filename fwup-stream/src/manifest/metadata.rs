//! What identifies a firmware: its metadata, UUID and nickname (fw-format §5 and §19.2).

use super::model::Manifest;
use super::variables::Variables;
use crate::trust::{Blake2b256, to_hex};

/// What every UUID is derived from besides the manifest.
const UUID_NAMESPACE: [u8; 16] =
    [0x20, 0x53, 0xdf, 0xfb, 0xd5, 0x1e, 0x43, 0x10, 0xb9, 0x3b, 0x95, 0x6d, 0xa8, 0x9f, 0x9f, 0x34];

/// The word for each byte of a nickname.
static NICKNAME_WORDS: &str = include_str!("nicknames.txt");

const UUID: &str = "meta-uuid";
const NICKNAME: &str = "meta-nickname";
pub(super) const UUID_VARIABLE: &str = "FWUP_META_UUID";
pub(super) const NICKNAME_VARIABLE: &str = "FWUP_META_NICKNAME";
const CREATION_DATE: &str = "meta-creation-date";
const REQUIRED_VERSION: &str = "require-fwup-version";

/// What is printed, in this order.
const PRINTED: [&str; 12] = [
    "meta-product",
    "meta-description",
    "meta-version",
    "meta-author",
    "meta-platform",
    "meta-architecture",
    CREATION_DATE,
    "meta-fwup-version",
    "meta-misc",
    "meta-vcs-identifier",
    UUID,
    NICKNAME,
];

/// What follows from the bytes of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    uuid: String,
    nickname: String,
}

impl Identity {
    /// Computes the identity of a manifest.
    pub(super) fn of(text: &[u8]) -> Self {
        let mut digest = Blake2b256::new();
        digest.update(&UUID_NAMESPACE);
        digest.update(text);
        let digest = digest.finalize();
        let (bytes, _) = digest.split_at(16);
        let digits: Vec<char> = to_hex(bytes).chars().collect();
        // Where a group ends, and where the version of the UUID stands; the variant's bits stay as they come.
        let mut uuid = String::new();
        for (at, digit) in digits.into_iter().enumerate() {
            if [8, 12, 16, 20].contains(&at) {
                uuid.push('-');
            }
            uuid.push(if at == 12 { '5' } else { digit });
        }
        // There are 256 words, as a test makes sure.
        let word = |byte: u8| NICKNAME_WORDS.lines().nth(usize::from(byte)).unwrap_or_default();
        let [first, second, ..] = digest;
        Self { uuid, nickname: format!("{}-{}", word(first), word(second)) }
    }

    /// Sets the variables a manifest can use.
    pub(super) fn define(&self, variables: &mut Variables<'_>) {
        variables.set(UUID_VARIABLE, self.uuid.clone());
        variables.set(NICKNAME_VARIABLE, self.nickname.clone());
    }

    /// Tells whether reading the manifest changed any of it.
    pub(super) fn is_changed(&self, variables: &Variables<'_>, manifest: &Manifest) -> bool {
        let differs = |value: Option<&str>, own: &str| value.is_some_and(|value| value != own);
        variables.get(UUID_VARIABLE).as_ref() != Some(&self.uuid)
            || variables.get(NICKNAME_VARIABLE).as_ref() != Some(&self.nickname)
            || differs(manifest.string(UUID), &self.uuid)
            || differs(manifest.string(NICKNAME), &self.nickname)
    }
}

impl Manifest {
    /// Returns a string option of the top level.
    pub fn string(&self, name: &str) -> Option<&str> {
        self.strings.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// What `fwup -m` prints about an archive. The archive's first entries are enough to know it.
///
/// ```
/// use fwup_stream::archive::{ArchiveReader, ArchiveStart, Purpose, StartProgress};
/// # use fwup_stream::create::Builder;
/// # use fwup_stream::manifest::Configuration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let configuration = Configuration::parse(b"meta-product = Lamp meta-version = \"1.0.0\"", &|_| None)?;
/// # let archive = Builder::new().create(configuration, Vec::new())?;
/// // With keys instead of the empty list, only what one of them signed is believed.
/// let mut start = ArchiveStart::new(Vec::new(), Some("lamp.fw"), Purpose::Inspect);
/// let mut reader = ArchiveReader::new();
/// for mut piece in archive.chunks(100) {
///     if let StartProgress::Opened(opened) = start.step(&mut reader, &mut piece, &|_| None)? {
///         assert_eq!(opened.metadata.value("meta-product"), Some("Lamp"));
///         assert!(opened.metadata.to_text().contains("meta-version=1.0.0\n"));
///         return Ok(());
///     }
/// }
/// Err(start.finish(&mut reader).into())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    values: Vec<(String, String)>,
}

impl Metadata {
    /// Collects the metadata of a manifest; `text` is what it was parsed from, `mtime` the time of its entry
    /// in seconds since 1970.
    pub fn of(text: &[u8], manifest: &Manifest, mtime: Option<i64>) -> Self {
        let identity = Identity::of(text);
        let mut values = manifest.strings.clone();
        let mut add = |name: &str, value: String| {
            if !values.iter().any(|(other, _)| other == name) {
                values.push((name.to_owned(), value));
            }
        };
        // Old archives have a creation date of their own, which wins.
        // An entry without a time is of 1970, as in fwup.
        add(CREATION_DATE, date(mtime.unwrap_or_default()));
        add(UUID, identity.uuid);
        add(NICKNAME, identity.nickname);
        // The one string option that has a default.
        add(REQUIRED_VERSION, "0".to_owned());
        Self { values }
    }

    /// Returns the value `--metadata-key` prints: any string option of the top level that is set. (For
    /// others the reference prints `(null)`.)
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns the UUID, lower case with hyphens (`FWUP_META_UUID`).
    pub fn uuid(&self) -> &str {
        self.own(UUID)
    }

    /// Returns the nickname (`FWUP_META_NICKNAME`).
    pub fn nickname(&self) -> &str {
        self.own(NICKNAME)
    }

    /// Returns a value that was set when this was made.
    fn own(&self, name: &str) -> &str {
        let value = self.value(name);
        debug_assert!(value.is_some(), "{name} was not set");
        value.unwrap_or_default()
    }

    /// Returns the lines `fwup -m` prints, each with its line end. As in fwup, values are not escaped: on a terminal, show
    /// [`Metadata::lines`] through the crate `nerves-hub-link-printable`.
    pub fn to_text(&self) -> String {
        self.lines().map(|line| line + "\n").collect()
    }

    /// Returns the lines `fwup -m` prints, without their line ends. A value may hold line breaks of its own.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        PRINTED.iter().filter_map(|name| {
            let value = self.value(name).filter(|value| !value.is_empty())?;
            Some(format!("{name}={}", quoted(value)))
        })
    }
}

/// Writes a string as it stands in a manifest: bare if it can be, else in quotes with `"` and `\` escaped.
pub(super) fn quoted(value: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if !value.is_empty() && value.chars().all(bare) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Writes a time as `YYYY-MM-DDTHH:MM:SSZ`.
fn date(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin in March, so that the leap day comes last; eras are 400 years.
    let day = days + 719_468;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::NICKNAME_WORDS;

    #[test]
    fn every_byte_has_a_word() {
        assert_eq!(NICKNAME_WORDS.lines().count(), 256);
        assert!(NICKNAME_WORDS.lines().all(|word| !word.is_empty()));
    }
}
