//! How a file is cut into parts, and what each should be (device-protocol §6.5).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::digest::{Sha, to_hex};
use crate::limits::{MAX_PARTS, MAX_STORE_KEY, WHOLE_FILE_ATTEMPTS};
use crate::number::{as_u64, as_usize};
use crate::text::count;
use crate::update_strategy::PartsConfig;

/// The parts of a file.
pub(crate) struct Plan {
    /// The size of the file, announced or learned.
    pub(super) size: Option<u64>,
    /// `u64::MAX` when the file is one part.
    pub(super) part_size: u64,
    /// One per part, or none at all.
    checksums: Vec<Sha>,
    /// Of the whole file.
    pub(super) whole: Option<Sha>,
}

/// How often and how much at a time is tried.
#[derive(Clone, Copy)]
pub(crate) struct Attempts {
    /// How often a part may be wrong.
    pub(super) per_part: u32,
    /// Requests at a time.
    pub(super) at_once: usize,
}

impl Attempts {
    /// The rules for a file that is one part.
    pub(crate) const WHOLE: Self = Self { per_part: WHOLE_FILE_ATTEMPTS, at_once: 1 };

    pub(crate) fn of_parts(config: &PartsConfig) -> Self {
        Self { per_part: config.max_part_attempts, at_once: as_usize(config.max_concurrent_parts) }
    }
}

impl Plan {
    /// The file is one part.
    pub(crate) const fn whole(size: Option<u64>, checksum: Option<Sha>) -> Self {
        Self { size, part_size: u64::MAX, checksums: Vec::new(), whole: checksum }
    }

    /// The file is many parts. Returns why not, if what the server said doesn't allow for that.
    pub(crate) fn parts(
        size: Option<u64>,
        part_size: u32,
        checksums: &[Sha],
        whole: Option<Sha>,
    ) -> Result<Self, String> {
        let size = size.ok_or("the server did not say how big the file is")?;
        let part_size = u64::from(part_size);
        let parts = size.div_ceil(part_size);
        let given = as_u64(checksums.len());
        if given == 0 {
            return Err(String::from("the server sent no usable checksums of parts"));
        }
        if parts != given {
            let parts = count(parts, "part");
            return Err(format!(
                "{size} bytes are {parts} of {part_size} bytes, but there are {given} checksums"
            ));
        }
        if checksums.len() > MAX_PARTS {
            return Err(format!("{given} parts are more than the {MAX_PARTS} allowed"));
        }
        Ok(Self { size: Some(size), part_size, checksums: checksums.to_vec(), whole })
    }

    /// How many parts there are.
    pub(super) fn count(&self) -> u32 {
        const { assert!(MAX_PARTS <= 0xffff, "parts are counted in 32 bits") };
        // Bounded when the plan was made.
        u32::try_from(self.checksums.len()).unwrap_or(u32::MAX).max(1)
    }

    /// The offset of a part's first byte.
    pub(super) const fn start(&self, part: u32) -> u64 {
        if part == 0 { 0 } else { self.part_size.saturating_mul(part as u64) }
    }

    /// The offset past a part's last byte, if known.
    pub(super) fn end(&self, part: u32) -> Option<u64> {
        let size = self.size?;
        Some(self.start(part).saturating_add(self.part_size).min(size))
    }

    /// The length of a part, if known.
    pub(super) fn len(&self, part: u32) -> Option<u64> {
        self.end(part).map(|end| end.saturating_sub(self.start(part)))
    }

    /// What a part should be, if known.
    pub(super) fn checksum(&self, part: u32) -> Option<Sha> {
        if self.checksums.is_empty() {
            return self.whole;
        }
        self.checksums.get(as_usize(part)).copied()
    }

    /// Whether the parts were checked against the server's word, so that what is kept can be trusted later.
    pub(crate) fn is_verified(&self) -> bool {
        self.whole.is_some() || !self.checksums.is_empty()
    }

    /// The checksum that is still to be compared when all parts are there.
    pub(crate) fn unchecked(&self) -> Option<Sha> {
        self.whole.filter(|_| !self.checksums.is_empty())
    }

    /// The name of the folder to keep the file in: nothing of a peer's that could lead elsewhere.
    pub(super) fn key(&self, uuid: &str) -> String {
        let tail = match (self.whole.as_ref().or(self.checksums.first()), self.size) {
            (Some(sum), _) => to_hex(sum).chars().take(16).collect(),
            (None, Some(size)) => format!("{size}"),
            (None, None) => String::from("any"),
        };
        let room = MAX_STORE_KEY.saturating_sub(tail.len() + 1);
        let key: String = folder_name(uuid).take(room).collect();
        if key.is_empty() { format!("file_{tail}") } else { format!("{key}_{tail}") }
    }

    /// One line that says what the folder holds.
    pub(super) fn manifest(&self) -> String {
        let size = self.size.map_or_else(|| String::from("unknown"), |size| format!("{size}"));
        let sum = self.whole.map_or_else(|| String::from("unknown"), |sum| to_hex(&sum));
        match self.count() {
            1 => format!("size={size} sha256={sum} whole"),
            parts => format!("size={size} sha256={sum} parts={parts}x{}", self.part_size),
        }
    }
}

/// Returns what the folder of a file is named by, uncut.
fn folder_name(uuid: &str) -> impl Iterator<Item = char> {
    let safe = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    uuid.chars().map(safe)
}

/// Returns the part of a kept file's path that its UUID made.
pub(crate) fn key_of(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    let key = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    key.rsplit_once('_').map(|(uuid, _)| uuid)
}

/// Returns whether the UUID made this part of a path.
pub(crate) fn is_key_of(key: &str, uuid: &str) -> bool {
    // Longer ones are cut, and so are those that only begin alike.
    let cut = key.len() + 1 >= MAX_STORE_KEY.saturating_sub(MAX_KEY_TAIL);
    folder_name(uuid).take(key.len()).eq(key.chars()) && (cut || uuid.chars().count() == key.len())
}

/// Characters of the longest end of a key: of a size of 64 bits.
const MAX_KEY_TAIL: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const SUM: Sha = [0xab; 32];

    #[test]
    fn parts_cover_the_file_without_gap_or_overlap() {
        let plan = Plan::parts(Some(2050), 1024, &[SUM; 3], None).unwrap();
        let ranges: Vec<_> =
            (0..plan.count()).map(|part| (plan.start(part), plan.end(part).unwrap())).collect();
        assert_eq!(ranges, [(0, 1024), (1024, 2048), (2048, 2050)]);
        assert_eq!(plan.len(2), Some(2));
        assert_eq!(plan.checksum(3), None);
        let whole = Plan::whole(Some(7), Some(SUM));
        assert_eq!(
            (whole.count(), whole.start(0), whole.end(0), whole.checksum(0)),
            (1, 0, Some(7), Some(SUM))
        );
        assert_eq!(Plan::whole(None, None).end(0), None);
    }

    #[test]
    fn what_does_not_fit_is_said_in_words() {
        for (size, sums, word) in [
            (None, 1, "how big"),
            (Some(1025), 1, "2 parts"),
            (Some(1024), 2, "1 part"),
            (Some(9), 0, "no usable"),
        ] {
            let why = Plan::parts(size, 1024, &vec![SUM; sums], None).err().unwrap();
            assert!(why.contains(word), "{why}");
        }
        let most = u64::try_from(MAX_PARTS).unwrap();
        assert!(Plan::parts(Some(most * 1024), 1024, &vec![SUM; MAX_PARTS], None).is_ok());
        let why = Plan::parts(Some(most * 1024 + 1), 1024, &vec![SUM; MAX_PARTS + 1], None).err().unwrap();
        assert!(why.contains("8193"), "{why}");
    }

    #[test]
    fn keys_lead_nowhere_else() {
        let plan = Plan::whole(Some(7), None);
        assert_eq!(plan.key("8a8b-1"), "8a8b-1_7");
        assert_eq!(plan.key("../../etc/passwd\0\n"), "______etc_passwd___7");
        assert_eq!(plan.key(""), "file_7");
        let sum = Plan::whole(Some(7), Some(SUM));
        assert_eq!(sum.key("ü"), "__abababababababab");
        assert_eq!(sum.key(&"x".repeat(5000)).len(), MAX_STORE_KEY);
        assert_eq!(Plan::whole(None, None).key("a"), "a_any");
    }

    #[test]
    fn the_uuid_is_found_again_in_the_path_of_what_was_kept() {
        let long = "ü".repeat(MAX_STORE_KEY + 9);
        for uuid in ["8a8b-1", "a_b", "../x", &long] {
            for plan in
                [Plan::whole(None, None), Plan::whole(Some(u64::MAX), None), Plan::whole(Some(7), Some(SUM))]
            {
                let path = format!("/data/my_archives.d/{}.fw", plan.key(uuid));
                let key = key_of(&path).unwrap();
                assert!(is_key_of(key, uuid), "{path}");
                assert!(!is_key_of(key, "8a8b-12") && !is_key_of(key, "8a8b") && !is_key_of(key, ""));
            }
        }
        assert_eq!((key_of("photo.jpg"), key_of("")), (None, None));
    }

    #[test]
    fn another_cut_of_the_same_file_has_another_manifest() {
        let one = Plan::parts(Some(2048), 1024, &[SUM; 2], Some(SUM)).unwrap().manifest();
        let two = Plan::parts(Some(2048), 2048, &[SUM; 1], Some(SUM)).unwrap().manifest();
        assert_ne!(one, two);
        assert!(one.ends_with("parts=2x1024") && two.ends_with("whole"), "{one} {two}");
    }
}
