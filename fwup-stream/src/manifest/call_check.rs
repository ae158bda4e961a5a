//! Calls written as calls are checked while parsing, as the reference does (fw-format §8).
//!
//! References to other sections are not looked up here; that happens when the function runs.

/// What a function or requirement takes.
struct Rule {
    name: &'static str,
    min: usize,
    max: usize,
    /// Which arguments are whole numbers.
    numbers: &'static [usize],
    /// Only usable in `on-resource`.
    data: bool,
    /// What it needs, for errors.
    needs: &'static str,
}

const fn rule(
    name: &'static str,
    min: usize,
    max: usize,
    numbers: &'static [usize],
    needs: &'static str,
) -> Rule {
    Rule { name, min, max, numbers, data: false, needs }
}

const fn data(
    name: &'static str,
    min: usize,
    max: usize,
    numbers: &'static [usize],
    needs: &'static str,
) -> Rule {
    Rule { name, min, max, numbers, data: true, needs }
}

const ANY: usize = crate::limits::CALL_ARGUMENTS;
/// Blocks whose bytes can still be counted with a sign. No disk has more, and what lies behind cannot be written.
const BLOCKS_MAX: u64 = i64::MAX.unsigned_abs() / 512;

static FUNCTIONS: &[Rule] = &[
    data("raw_write", 1, ANY, &[0], "a block offset"),
    rule("raw_memset", 3, 3, &[0, 1, 2], "a block offset, count, and value"),
    rule("fat_mkfs", 2, 2, &[0, 1], "a block offset and block count"),
    data("fat_write", 1, 2, &[0], "a block offset and destination filename"),
    rule("fat_cp", 3, 4, &[0], "either 3 or 4 arguments"),
    rule("fat_mv", 3, 3, &[0], "a block offset, old filename, and new filename"),
    rule("fat_mv!", 3, 3, &[0], "a block offset, old filename, and new filename"),
    rule("fat_rm", 2, 2, &[0], "a block offset and filename"),
    rule("fat_rm!", 2, 2, &[0], "a block offset and filename"),
    rule("fat_mkdir", 2, 2, &[0], "a block offset and directory name"),
    rule("fat_touch", 2, 2, &[0], "a block offset and filename"),
    rule("fat_setlabel", 2, 2, &[0], "a block offset and volume label"),
    rule("fat_attrib", 3, 3, &[0], "a block offset, filename, and attributes"),
    rule("mbr_write", 1, 1, &[], "an mbr reference"),
    rule("gpt_write", 1, 1, &[], "a gpt reference"),
    rule("trim", 2, 2, &[0, 1], "a block offset and count"),
    rule("uboot_clearenv", 1, 1, &[], "a uboot-environment reference"),
    rule("uboot_setenv", 3, 3, &[], "a uboot-environment reference, variable name and value"),
    rule("uboot_unsetenv", 2, 2, &[], "a uboot-environment reference and a variable name"),
    rule("uboot_recover", 1, 1, &[], "a uboot-environment reference"),
    rule("info", 1, 1, &[], "a message to print"),
    rule("error", 1, 1, &[], "a message to print"),
    data("path_write", 1, 1, &[], "a path to write to"),
    data("pipe_write", 1, 1, &[], "a command to execute"),
    data("ubi_volume_write", 1, 1, &[], "a UBI volume device path"),
    rule("execute", 1, 1, &[], "a command to execute"),
    rule("reboot_param", 1, 1, &[], "a parameter"),
];

static REQUIREMENTS: &[Rule] = &[
    rule("require-partition-offset", 2, 2, &[0, 1], "a partition number and a block offset"),
    rule("require-fat-file-exists", 2, 2, &[0], "a FAT block offset and a filename"),
    rule("require-fat-file-match", 3, 3, &[0], "a FAT block offset, a filename, and a pattern"),
    rule("require-uboot-variable", 3, 3, &[], "a uboot-environment reference, variable name, and value"),
    rule("require-path-on-device", 2, 2, &[], "a path and a device"),
    rule("require-path-at-offset", 2, 2, &[1], "a path and a block offset"),
    rule("require-execute", 1, 1, &[], "a command"),
];

/// Returns the function of that name.
pub(super) fn function(name: &str) -> Option<&'static str> {
    FUNCTIONS.iter().map(|rule| rule.name).find(|other| *other == name)
}

/// Returns the requirement of that name.
pub(super) fn requirement(name: &str) -> Option<&'static str> {
    REQUIREMENTS.iter().map(|rule| rule.name).find(|other| *other == name)
}

/// What a function takes, for errors.
pub(crate) fn needs(name: &str) -> &'static str {
    FUNCTIONS.iter().find(|rule| rule.name == name).map_or("more arguments", |rule| rule.needs)
}

/// Tells what is wrong with a call. `with_data` says that it stands in an `on-resource`.
pub(super) fn check(name: &str, args: &[String], with_data: bool) -> Result<(), String> {
    let Some(rule) = FUNCTIONS.iter().chain(REQUIREMENTS).find(|rule| rule.name == name) else {
        return Ok(());
    };
    if args.len() > ANY {
        return Err(format!("Too many arguments passed to '{name}'"));
    }
    if rule.data && !with_data {
        return Err(format!("{name} only usable in on-resource"));
    }
    if args.len() < rule.min || args.len() > rule.max {
        return Err(format!("{name} requires {}", rule.needs));
    }
    // The third argument of `fat_cp` is a block only when there is a fourth.
    let numbers = if name == "fat_cp" && args.len() == 4 { &[0, 2][..] } else { rule.numbers };
    for index in numbers {
        // `strtoull`, which fwup reads them with, turns negative numbers into large ones.
        let number = args.get(*index).map_or(Some(0), |text| super::number::unsigned(text));
        let number = number.filter(|number| *number <= BLOCKS_MAX);
        let wanted = match (name, index, number) {
            ("require-partition-offset", 0, number) if number.is_none_or(|number| number > 3) => {
                "the partition number to be 0-3"
            }
            ("raw_memset", 2, number) if number.is_none_or(|number| number > 255) => {
                "value to be between 0 and 255"
            }
            ("raw_memset", 1, None | Some(0)) => "a positive integer block count",
            ("trim", 1, None | Some(0)) => "a block count >1",
            (_, _, None) => "a non-negative integer block offset",
            _ => continue,
        };
        return Err(format!("{name} requires {wanted}"));
    }
    if let ("raw_memset" | "trim" | "fat_mkfs", [first, count, ..]) = (name, args) {
        let end = super::number::unsigned(first).zip(super::number::unsigned(count));
        if end.and_then(|(first, count)| first.checked_add(count)).is_none_or(|end| end > BLOCKS_MAX) {
            return Err(format!("{name} requires blocks that a disk can have, not {count} from {first} on"));
        }
    }
    if name == "fat_attrib" && !args.get(2).is_some_and(|letters| letters.chars().all(is_attribute)) {
        return Err("fat_attrib only supports R, H, and S attributes".to_owned());
    }
    Ok(())
}

fn is_attribute(letter: char) -> bool {
    matches!(letter.to_ascii_uppercase(), 'R' | 'H' | 'S')
}
