//! What is checked only while an archive is made: references, and sections when they are complete
//! (fw-format §8, §13, §14, §16 and §19.4).

use std::fs::File;
use std::io::Read;

use super::build;
use super::configuration::{Creation, whole_number};
use super::section::{Section, Value};
use crate::action::{check_gpt, check_mbr};
use crate::trust::to_hex;

/// Bytes of boot code in block 0.
const BOOTSTRAP: usize = 440;
/// The bit of a GPT partition's flags that marks it bootable.
const FLAG_BOOT: u64 = 4;
/// Blocks whose bytes can still be counted, less an environment.
const BLOCKS_MAX: i64 = i64::MAX / 512 - ENVIRONMENT_BLOCKS_END;
/// What the blocks of a U-Boot environment must stay below.
const ENVIRONMENT_BLOCKS_END: i64 = 65_535;

/// Checks a call's reference to another section, which must stand before it.
pub(super) fn references(creation: &Creation, name: &str, args: &[String]) -> Result<(), String> {
    let Some(reference) = args.first() else { return Ok(()) };
    let (kind, shown) = match name {
        "mbr_write" => ("mbr", String::new()),
        "gpt_write" => ("gpt", String::new()),
        "require-uboot-variable" => ("uboot-environment", String::new()),
        _ if name.starts_with("uboot_") => ("uboot-environment", format!(" {reference}")),
        _ => return Ok(()),
    };
    if creation.knows(kind, reference) {
        return Ok(());
    }
    Err(format!("{name} can't find {kind} reference{shown}"))
}

/// Checks a complete section.
pub(super) fn section(creation: &Creation, kind: &str, section: &mut Section) -> Result<(), String> {
    match kind {
        "file-resource" => resource(section),
        "on-resource" if !creation.knows("file-resource", &section.title) => {
            Err(format!("unknown resource: {}", section.title))
        }
        "mbr" => mbr(section),
        "gpt" => gpt(section),
        "uboot-environment" => environment(section),
        _ => Ok(()),
    }
}

fn resource(section: &Section) -> Result<(), String> {
    let title = &section.title;
    match (section.get("host-path"), section.get("contents")) {
        (None, None) => Err(format!("host-path or contents must be set for file-resource '{title}'")),
        (Some(_), Some(_)) => {
            Err(format!("only one of host-path or contents should be set for file-resource '{title}'"))
        }
        _ => Ok(()),
    }
}

fn mbr(section: &mut Section) -> Result<(), String> {
    if let Some(path) = section.text("bootstrap-code-host-path")
        && section.get("bootstrap-code").is_none()
    {
        section.set("bootstrap-code", Value::Text(boot_code(&path)?));
    }
    for partition in section.all("partition") {
        let number = partition_number(partition, 11)?;
        check_offset(partition, number)?;
    }
    if section.text("signature").is_some_and(|text| text.contains("${")) {
        // Known only when it is applied.
        section_without_signature(section)
    } else {
        check_mbr(&build::mbr(section)).map_err(|error| error.to_string())
    }
}

fn section_without_signature(section: &Section) -> Result<(), String> {
    let mut mbr = build::mbr(section);
    mbr.signature = None;
    check_mbr(&mbr).map_err(|error| error.to_string())
}

/// Reads boot code from a file and returns it as hex digits.
fn boot_code(path: &str) -> Result<String, String> {
    let file = File::open(path)
        .map_err(|_| format!("mbr bootstrap code path '{path}' required, but can't be read"))?;
    let mut code = [0; BOOTSTRAP];
    let mut file = file;
    file.read_exact(&mut code)
        .map_err(|_| format!("mbr bootstrap code in '{path}' should be {BOOTSTRAP} bytes"))?;
    Ok(to_hex(&code))
}

fn gpt(section: &mut Section) -> Result<(), String> {
    for partition in section.all("partition") {
        let number = partition_number(partition, 15)?;
        check_offset(partition, number)?;
    }
    check_gpt(&build::gpt(section)).map_err(|error| error.to_string())?;
    for partition in section.all_mut("partition") {
        if partition.unset("boot") == Some(Value::Boolean(true)) {
            // Flags that are no number were refused above; those that are not given are 0.
            let flags = partition.text("flags").map_or(Some(0), |flags| super::number::unsigned(&flags));
            let flags = flags.unwrap_or(0);
            partition.set("flags", Value::Text(format!("0x{:x}", flags | FLAG_BOOT)));
        }
    }
    Ok(())
}

fn partition_number(partition: &Section, last: u64) -> Result<u64, String> {
    let number = super::number::unsigned(&partition.title).filter(|number| *number <= last);
    number.ok_or_else(|| format!("partition must be numbered 0 through {last}"))
}

fn check_offset(partition: &Section, number: u64) -> Result<(), String> {
    match partition.text("block-offset") {
        None => Err(format!("partition {number}'s block_offset is required")),
        Some(text) if whole_number(&text).is_none() => {
            Err(format!("error parsing partition {number}'s block offset"))
        }
        Some(_) => Ok(()),
    }
}

fn environment(section: &Section) -> Result<(), String> {
    let offset = section.text("block-offset").ok_or("block-offset must be specified")?;
    let number = |text: &str| whole_number(text).filter(|number| (0..=BLOCKS_MAX).contains(number));
    let offset = number(&offset).ok_or("block-offset must be a non-negative number")?;
    let count = section.integer("block-count").filter(|count| *count > 0 && *count < ENVIRONMENT_BLOCKS_END);
    let count = count.ok_or("block-count must be specified, greater than 0 and less than 2^16 - 1")?;
    let Some(second) = section.text("block-offset-redund") else { return Ok(()) };
    let second = number(&second).ok_or("block-offset-redund must be a non-negative number")?;
    if second < offset.saturating_add(count) && offset < second.saturating_add(count) {
        return Err("block-offset-redund can't overlap primary U-Boot environment".to_owned());
    }
    Ok(())
}
