//! `/etc/fw_env.config`: where the U-Boot environment lies (device-identity §1.2, boot-control §1).
//!
//! The columns are read as U-Boot's tools read them, so that both find the same bytes:
//!
//! | column | form |
//! | --- | --- |
//! | device or file | a path |
//! | offset | in bytes: decimal, hexadecimal behind `0x`, octal behind `0` |
//! | size | in bytes, **always hexadecimal**: `2000` and `0x2000` are 8,192 |
//! | sector size, number of sectors, more | may be missing; not used, as flash is not written directly |
//!
//! Offsets from the end of a device (negative ones) are not supported.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::limits::{ENV_CONFIG_MAX, ENV_SIZE_MAX, ENV_SIZE_MIN};

/// Where one copy of the environment lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The device or file.
    pub path: PathBuf,
    /// Where the block begins, in bytes.
    pub offset: u64,
    /// The length of the block, in bytes.
    pub size: usize,
}

/// The places of the environment: one, or two for a redundant one. Checked: they can be read and written safely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwEnvConfig {
    first: Location,
    second: Option<Location>,
}

/// Why `fw_env.config` could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file is longer than any such file.
    #[error("{path} is longer than {ENV_CONFIG_MAX} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file is in an encoding that no other tool reads.
    #[error("{path} is UTF-16 text; save it as plain text (UTF-8)")]
    Utf16 {
        /// The file.
        path: PathBuf,
    },
    /// A line lacks a field or has one that is no number.
    #[error("line {line}: {problem}; expected `DEVICE OFFSET SIZE [SECTOR-SIZE [SECTORS]]`")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A place at which no environment can be.
    #[error("{problem}")]
    Location {
        /// What is wrong with it.
        problem: String,
    },
    /// Not one or two locations.
    #[error("{count} locations; one (plain) or two (redundant) are possible")]
    Count {
        /// How many there are.
        count: usize,
    },
    /// Two copies that are not equally long, or lie over each other.
    #[error("the two locations {problem}")]
    Pair {
        /// What is wrong with them.
        problem: &'static str,
    },
}

impl FwEnvConfig {
    /// Builds the places of one copy, or of two.
    ///
    /// # Errors
    ///
    /// If a size is outside of [`ENV_SIZE_MIN`] and [`ENV_SIZE_MAX`], an offset beyond any medium, a path raw flash, or
    /// if the copies differ in size or overlap.
    pub fn new(first: Location, second: Option<Location>) -> Result<Self, ConfigError> {
        for location in [Some(&first), second.as_ref()].into_iter().flatten() {
            check(location).map_err(|problem| ConfigError::Location { problem })?;
        }
        let Some(second) = second else { return Ok(Self { first, second: None }) };
        if first.size != second.size {
            return Err(ConfigError::Pair { problem: "have different sizes" });
        }
        if first.offset.abs_diff(second.offset) < first.size as u64 && same_medium(&first.path, &second.path)
        {
            return Err(ConfigError::Pair { problem: "overlap" });
        }
        Ok(Self { first, second: Some(second) })
    }

    /// Returns where the first, or only, copy lies.
    pub const fn first(&self) -> &Location {
        &self.first
    }

    /// Returns where the second copy lies.
    pub const fn second(&self) -> Option<&Location> {
        self.second.as_ref()
    }

    /// Reads a file such as `/etc/fw_env.config`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = crate::read_limited(path, ENV_CONFIG_MAX).map_err(read)?;
        let text = text.ok_or_else(|| ConfigError::TooLong { path: path.to_owned() })?;
        if text.starts_with(b"\xFF\xFE") || text.starts_with(b"\xFE\xFF") {
            return Err(ConfigError::Utf16 { path: path.to_owned() });
        }
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// Parses the text of such a file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut locations = Vec::new();
        // Some editors begin files with a byte order mark.
        let text = text.trim_start_matches('\u{feff}');
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let location =
                    location(line).map_err(|problem| ConfigError::Line { line: index + 1, problem })?;
                locations.push(location);
            }
        }
        let count = locations.len();
        let mut locations = locations.into_iter();
        match (locations.next(), locations.next(), locations.next()) {
            (Some(first), second, None) => Self::new(first, second),
            _ => Err(ConfigError::Count { count }),
        }
    }
}

fn location(line: &str) -> Result<Location, String> {
    let mut fields = line.split_whitespace();
    // An empty line has no location.
    let device = fields.next().ok_or("the device is missing")?;
    let offset = offset(fields.next())?;
    // The size of sectors and their number only matter for flash, and what follows is ignored by all readers.
    let size = size(fields.next())?;
    let size = usize::try_from(size).map_err(|_| size_problem(size))?;
    let location = Location { path: device.into(), offset, size };
    check(&location)?;
    Ok(location)
}

fn size_problem(size: u64) -> String {
    format!(
        "size {size:#x} is not between {ENV_SIZE_MIN:#x} and {ENV_SIZE_MAX:#x} (sizes in fw_env.config are hexadecimal, with or \
         without 0x)"
    )
}

fn check(at: &Location) -> Result<(), String> {
    let (offset, size) = (at.offset, at.size as u64);
    let device = at.path.to_string_lossy();
    let raw_flash = device.starts_with("/dev/ubi")
        || (device.starts_with("/dev/mtd") && !device.starts_with("/dev/mtdblock"));
    if raw_flash {
        return Err(format!("{device} is raw flash, which needs erasing and cannot be written directly"));
    }
    if !(ENV_SIZE_MIN..=ENV_SIZE_MAX).contains(&size) {
        return Err(size_problem(size));
    }
    if offset.checked_add(size).is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(format!("offset {offset} is beyond any medium"));
    }
    Ok(())
}

/// Returns whether two paths lead to the same device or file: `/dev/rootdisk0` is a link on Nerves.
fn same_medium(first: &Path, second: &Path) -> bool {
    let identity = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        let device = found.file_type().is_block_device();
        Some(if device { (true, found.rdev(), 0) } else { (false, found.dev(), found.ino()) })
    };
    // What is not there yet has only its name.
    first == second || identity(first).is_some_and(|one| identity(second) == Some(one))
}

/// Reads an offset as C does with `%lli`: decimal, hexadecimal behind `0x`, octal behind `0`.
fn offset(field: Option<&str>) -> Result<u64, String> {
    let field = field.ok_or("offset is missing")?;
    if field.starts_with('-') {
        return Err(format!("offset {field:?} counts from the end of the device, which is not supported"));
    }
    let parsed = match (hexadecimal(field), field.strip_prefix('0')) {
        (Some(digits), _) => digits_of(digits, 16),
        (None, Some(digits)) if !digits.is_empty() => digits_of(digits, 8),
        _ => digits_of(field, 10),
    };
    parsed.ok_or_else(|| format!("offset {field:?} is not a number"))
}

/// Reads a size as C does with `%lx`: hexadecimal, with or without `0x`.
fn size(field: Option<&str>) -> Result<u64, String> {
    let field = field.ok_or("size is missing")?;
    digits_of(hexadecimal(field).unwrap_or(field), 16)
        .ok_or_else(|| format!("size {field:?} is not a hexadecimal number"))
}

fn hexadecimal(field: &str) -> Option<&str> {
    field.strip_prefix("0x").or_else(|| field.strip_prefix("0X"))
}

fn digits_of(text: &str, radix: u32) -> Option<u64> {
    // Rust takes a sign, too.
    u64::from_str_radix(text, radix).ok().filter(|_| !text.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str, offset: u64, size: usize) -> Location {
        Location { path: path.into(), offset, size }
    }

    #[test]
    fn known_boards_parse() {
        let rpi = FwEnvConfig::parse("# comment\n\n/dev/mmcblk0\t0x2000  0x2000  0x200  16\n").unwrap();
        assert_eq!(rpi, FwEnvConfig { first: at("/dev/mmcblk0", 0x2000, 0x2000), second: None });
        let two = FwEnvConfig::parse("/dev/a 8192 1000\n/dev/a 0x3000 0x1000").unwrap();
        assert_eq!(two.second, Some(at("/dev/a", 0x3000, 4096)));
        let far = FwEnvConfig::parse("/dev/a 0x180000000 0x2000").unwrap();
        assert_eq!(far.first.offset, 0x1_8000_0000);
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, word) in [
            ("", "0 locations"),
            ("/dev/a 0 40\n/dev/b 0 40\n/dev/c 0 40", "3 locations"),
            ("/dev/a", "offset is missing"),
            ("/dev/a 0", "size is missing"),
            ("\n/dev/a x 64", "line 2: offset \"x\""),
            ("/dev/a -1 64", "from the end"),
            ("/dev/a +1 64", "not a number"),
            ("/dev/a 08 64", "not a number"),
            ("/dev/a 0x 64", "not a number"),
            ("/dev/a 2000h 64", "not a number"),
            ("/dev/a 0 8K", "not a hexadecimal number"),
            ("/dev/a 0 0x", "not a hexadecimal number"),
            ("/dev/a 0 -40", "not a hexadecimal number"),
            ("/dev/a 0 f", "size 0xf is not"),
            ("/dev/a 0 1fffc01", "size 0x1fffc01 is not"),
            ("/dev/a 0 33553408", "hexadecimal"),
            ("/dev/a 0xffffffffffffffff 64", "beyond"),
            ("/dev/mtd0 0 64", "raw flash"),
            ("/dev/a 0 64\n/dev/b 0 128", "different sizes"),
            ("/dev/a 0 64\n/dev/a 99 64", "overlap"),
        ] {
            let error = FwEnvConfig::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text:?}: {error}");
        }
        assert!(FwEnvConfig::parse("\u{feff}/dev/a 0 10").is_ok());
        assert!(FwEnvConfig::parse("/dev/a 0 10").is_ok());
        assert!(FwEnvConfig::parse("/dev/a 0 1fffc00").is_ok());
        assert!(FwEnvConfig::parse("/dev/a 0 64\n/dev/a 100 64").is_ok());
    }

    #[test]
    fn columns_are_read_as_u_boot_s_tools_read_them() {
        for (text, offset, size) in [
            ("/dev/a 0x2000 0x2000 0x200 16", 0x2000, 0x2000),
            ("/dev/a 0X2000 0X2000 200 10 1", 0x2000, 0x2000),
            ("/dev/a 8192 2000 200", 8192, 0x2000),
            ("/dev/a 8192 4096", 8192, 0x4096),
            ("/dev/a 010 010", 8, 0x10),
            ("/dev/a 0 0x1FfC 512 x", 0, 0x1ffc),
            ("/dev/a 00 aBc # text", 0, 0xabc),
            ("/dev/a\t0x180000000\t20000\t\t\r", 0x1_8000_0000, 0x2_0000),
        ] {
            let config = FwEnvConfig::parse(text).unwrap();
            assert_eq!(config.first(), &at("/dev/a", offset, size), "{text}");
        }
    }

    #[test]
    fn one_set_of_checks_is_behind_every_way_to_build_one() {
        let most = usize::try_from(ENV_SIZE_MAX).unwrap();
        for (first, second, word) in [
            (at("/a", 0, usize::MAX >> 1), None, "size"),
            (at("/a", 0, most + 1), None, "size"),
            (at("/a", 0, 15), None, "size"),
            (at("/a", u64::MAX, 64), None, "beyond"),
            (at("/a", 0, 64), Some(at("/a", 63, 64)), "overlap"),
            (at("/a", 0, 64), Some(at("/a", 0, 64)), "overlap"),
            (at("/a", 64, 64), Some(at("/a", 0, 65)), "sizes"),
            (at("/dev/ubi0_1", 0, 64), None, "raw flash"),
        ] {
            let error = FwEnvConfig::new(first, second).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(FwEnvConfig::new(at("/a", 0, most), Some(at("/a", ENV_SIZE_MAX, most))).is_ok());
    }

    #[test]
    fn copies_that_overlap_under_another_name_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("disk"), folder.path().join("rootdisk0"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let place = |path: &Path, offset| Location { path: path.to_owned(), offset, size: 64 };
        assert!(FwEnvConfig::new(place(&file, 0), Some(place(&link, 32))).is_err());
        assert!(FwEnvConfig::new(place(&file, 0), Some(place(&link, 64))).is_ok());
    }

    #[test]
    fn a_file_with_a_byte_order_mark_is_read_and_utf_16_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fw_env.config");
        std::fs::write(&file, "\u{feff}/dev/a 0x0 0x40\r\n").unwrap();
        assert_eq!(FwEnvConfig::read(&file).unwrap().first().path, Path::new("/dev/a"));
        std::fs::write(&file, b"\xFF\xFE/\0d\0").unwrap();
        assert!(FwEnvConfig::read(&file).unwrap_err().to_string().contains("UTF-16"));
    }
}
