//! `/etc/fw_env.config`: where the U-Boot environment lies (device-identity §1.2).

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

/// The places of the environment: one, or two for a redundant one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwEnvConfig {
    /// The first, or only, copy.
    pub first: Location,
    /// The second copy.
    pub second: Option<Location>,
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
    /// A line lacks a field or has one that is no number.
    #[error("line {line}: {problem}; expected `DEVICE OFFSET SIZE [SECTOR-SIZE [SECTORS]]`")]
    Line {
        /// The line, counted from 1.
        line: usize,
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
    /// Reads a file such as `/etc/fw_env.config`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = crate::read_limited(path, ENV_CONFIG_MAX).map_err(read)?;
        let text = text.ok_or_else(|| ConfigError::TooLong { path: path.to_owned() })?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// Parses the text of such a file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut locations = Vec::new();
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
            (Some(first), None, None) => Ok(Self { first, second: None }),
            (Some(first), Some(second), None) => pair(first, second),
            _ => Err(ConfigError::Count { count }),
        }
    }
}

fn location(line: &str) -> Result<Location, String> {
    let mut fields = line.split_whitespace();
    let device = fields.next().unwrap_or_default();
    let offset = number("offset", fields.next())?;
    let size = number("size", fields.next())?;
    let raw_flash = device.starts_with("/dev/ubi")
        || (device.starts_with("/dev/mtd") && !device.starts_with("/dev/mtdblock"));
    if raw_flash {
        return Err(format!("{device} is raw flash, which needs erasing and cannot be written directly"));
    }
    if !(ENV_SIZE_MIN..=ENV_SIZE_MAX).contains(&size) {
        return Err(format!("size {size} is not between {ENV_SIZE_MIN} and {ENV_SIZE_MAX}"));
    }
    if offset.checked_add(size).is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(format!("offset {offset} is beyond any medium"));
    }
    let size = usize::try_from(size).map_err(|_| format!("size {size} is too large for this machine"))?;
    Ok(Location { path: device.into(), offset, size })
}

fn number(name: &str, field: Option<&str>) -> Result<u64, String> {
    let field = field.ok_or_else(|| format!("{name} is missing"))?;
    let parsed = match field.strip_prefix("0x").or_else(|| field.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => field.parse(),
    };
    parsed.map_err(|_| format!("{name} {field:?} is not a number"))
}

fn pair(first: Location, second: Location) -> Result<FwEnvConfig, ConfigError> {
    if first.size != second.size {
        return Err(ConfigError::Pair { problem: "have different sizes" });
    }
    if first.path == second.path && first.offset.abs_diff(second.offset) < first.size as u64 {
        return Err(ConfigError::Pair { problem: "overlap" });
    }
    Ok(FwEnvConfig { first, second: Some(second) })
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
        let two = FwEnvConfig::parse("/dev/a 8192 4096\n/dev/a 0x3000 0x1000").unwrap();
        assert_eq!(two.second, Some(at("/dev/a", 0x3000, 4096)));
        let far = FwEnvConfig::parse("/dev/a 0x180000000 0x2000").unwrap();
        assert_eq!(far.first.offset, 0x1_8000_0000);
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, word) in [
            ("", "0 locations"),
            ("/dev/a 0 64\n/dev/b 0 64\n/dev/c 0 64", "3 locations"),
            ("/dev/a", "offset is missing"),
            ("/dev/a 0", "size is missing"),
            ("\n/dev/a x 64", "line 2: offset \"x\""),
            ("/dev/a -1 64", "not a number"),
            ("/dev/a 0 15", "size 15"),
            ("/dev/a 0 33553409", "size 33553409"),
            ("/dev/a 0xffffffffffffffff 64", "beyond"),
            ("/dev/mtd0 0 64", "raw flash"),
            ("/dev/a 0 64\n/dev/b 0 128", "different sizes"),
            ("/dev/a 0 64\n/dev/a 63 64", "overlap"),
        ] {
            let error = FwEnvConfig::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text:?}: {error}");
        }
        assert!(FwEnvConfig::parse("/dev/a 0 16").is_ok());
        assert!(FwEnvConfig::parse("/dev/a 0 33553408").is_ok());
        assert!(FwEnvConfig::parse("/dev/a 0 64\n/dev/a 64 64").is_ok());
    }
}
