//! Partitions that are in each other's way are refused when an archive is made and when one is applied, in the
//! same words; those that are not are taken, and end where fwup's end.

use crate::apply_support::{apply, archive, data, resource, unsigned};
use fwup_stream::Error;
use fwup_stream::disk::MemoryTarget;
use fwup_stream::manifest::Configuration;

const GUID: &str = "b443fbeb-2c93-481b-88b3-0ecb0aeba911";

/// A partition as `NUMBER START COUNT [TYPE] [grows]`.
fn partition(kind: &str, line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    let (number, start, count) = (words[0], words[1], words[2]);
    let grows = if words.contains(&"grows") { "expand=true\n" } else { "" };
    let count = if count == "-" { String::new() } else { format!("block-count={count}\n") };
    let more = if kind == "gpt" {
        format!("type={GUID}\nguid={GUID}\n")
    } else {
        format!("type={}\n", words.get(3).filter(|word| **word != "grows").unwrap_or(&"0x83"))
    };
    format!("partition \"{number}\" {{\nblock-offset={start}\n{count}{more}{grows}}}\n")
}

/// A table of such partitions.
fn table(kind: &str, lines: &[&str]) -> String {
    let head = if kind == "gpt" { format!("guid={GUID}\n") } else { String::new() };
    let partitions: String = lines.iter().map(|line| partition(kind, line)).collect();
    format!("{kind} \"s\" {{\n{head}{partitions}}}\n")
}

/// What making an archive with a table comes to.
fn made(kind: &str, lines: &[&str]) -> Result<(), String> {
    let text = format!("{}task t {{ on-init {{ {kind}_write(s) }} }}", table(kind, lines));
    let outcome = Configuration::parse(text.as_bytes(), &|_| None);
    outcome.map(|_| ()).map_err(|error| error.detail().unwrap().split_once(": ").unwrap().1.to_owned())
}

/// What applying a hand-made archive with it comes to, and the disk.
fn applied(kind: &str, lines: &[&str], mut disk: MemoryTarget) -> (Result<(), String>, MemoryTarget) {
    let manifest =
        format!("{}task \"t\" {{\non-init {{\nfunlist={{2,{kind}_write,s}}\n}}\n}}\n", table(kind, lines));
    let outcome = apply(unsigned("t"), &archive(&manifest, &[]), &mut disk);
    (outcome.map(|_| ()).map_err(|error| error.to_string()), disk)
}

fn refused(kind: &str, lines: &[&str], why: &str) {
    let made = made(kind, lines).expect_err("was made");
    assert!(made.contains(why), "{lines:?}: {made}");
    // On a disk that is new, large, small, or just as large as the table.
    let new = MemoryTarget::new;
    for disk in [new(), MemoryTarget::with_hard_size(64 << 20), MemoryTarget::with_hard_size(40 * 1024)] {
        let before = disk.bytes(0, 512);
        let (outcome, disk) = applied(kind, lines, disk);
        let told = outcome.expect_err("was applied");
        // What grows in an MBR is told as large as it is there.
        let grows = kind == "mbr" && lines.iter().any(|line| line.contains("grows") || line.contains("0x0f"));
        assert!(
            told == made || grows && (told.contains(why) || told.ends_with("overlap")),
            "{lines:?}: {told}, not {made}"
        );
        assert_eq!(disk.bytes(0, 512), before, "nothing may be written");
    }
}

fn taken(kind: &str, lines: &[&str]) {
    assert_eq!(made(kind, lines), Ok(()), "{lines:?}");
    for size in [0, 64 << 20] {
        let disk = if size == 0 { MemoryTarget::new() } else { MemoryTarget::with_hard_size(size) };
        assert_eq!(applied(kind, lines, disk).0, Ok(()), "{lines:?}");
    }
}

#[test]
fn only_the_last_partition_on_the_disk_may_grow() {
    let over = "would grow over partition";
    refused(
        "gpt",
        &["0 40 10 grows", "1 1000 10"],
        "partition 0 (from block 40, expand = true) would grow over partition 1 (blocks 1000 to 1010)",
    );
    // fwup looks at the numbers only, and makes tables that overlap themselves.
    refused("gpt", &["0 1000 10", "1 40 10 grows"], over);
    refused("gpt", &["15 40 10 grows", "2 50 10"], over);
    refused("gpt", &["0 40 10 grows", "1 1000 10 grows"], over);
    refused("gpt", &["0 40 0 grows", "1 40 0 grows"], over);
    refused("gpt", &["0 40 10", "1 60 0 grows", "2 60 5"], over);
    taken("gpt", &["0 40 10", "1 1000 10 grows"]);
    taken("gpt", &["0 40 10 grows"]);
    // Parts of no length are in nobody's way.
    taken("gpt", &["0 40 10", "1 45 0"]);
    refused("mbr", &["0 40 10 grows", "1 1000 10"], "and 1 (blocks 1000 to 1010) overlap");
    refused("mbr", &["0 1000 10", "1 40 10 grows"], "overlap");
    refused("mbr", &["0 100 0 grows", "1 100 0 grows"], over);
    refused("mbr", &["0 100 0 grows", "3 100 - 0x0f"], "overlap");
    // An extended partition grows, and so may the last of those in it.
    refused("mbr", &["0 2000 10", "3 100 - 0x0f", "4 200 10"], "overlap");
    refused("mbr", &["3 100 - 0x0f", "4 200 10 grows", "5 300 10"], "overlap");
    refused("mbr", &["3 100 - 0x0f", "4 300 0 grows", "5 300 0 grows"], over);
    taken("mbr", &["0 10 20", "3 100 - 0x0f", "4 200 10", "5 300 10 grows"]);
    // Type 0 marks numbers that are no partition.
    taken("mbr", &["0 40 10 grows", "1 1000 10 0"]);
}

/// fwup refuses by the numbers what would be in nobody's way; so does making an archive here, but not applying one.
#[test]
fn a_table_that_is_only_out_of_order_is_applied() {
    let lines = ["0 1000 10 grows", "1 40 10"];
    assert_eq!(
        made("gpt", &lines),
        Err("a partition can't be specified after the one with \"expand = true\"".to_owned())
    );
    assert_eq!(applied("gpt", &lines, MemoryTarget::with_hard_size(1 << 20)).0, Ok(()));
}

#[test]
fn partitions_that_overlap_are_refused() {
    for kind in ["mbr", "gpt"] {
        refused(
            kind,
            &["0 100 10", "1 109 10"],
            "partitions 0 (blocks 100 to 110) and 1 (blocks 109 to 119) overlap",
        );
        refused(
            kind,
            &["2 100 100", "1 120 10"],
            "partitions 1 (blocks 120 to 130) and 2 (blocks 100 to 200) overlap",
        );
        refused(kind, &["0 100 10", "0x0 200 10"], "invalid or duplicate partition number found for 0");
        taken(kind, &["0 100 10", "1 110 10"]);
    }
}

#[test]
fn a_partition_on_the_table_itself_is_refused() {
    for first in ["0", "1", "33"] {
        let line = format!("0 {first} 10");
        refused("gpt", &[&line], "overlaps the partition table itself (blocks 0 to 34)");
    }
    refused("gpt", &["0 33 0 grows"], "overlaps the partition table itself");
    taken("gpt", &["0 34 10"]);
    // As in images that are a disk and an ISO 9660 file system at once, and for fwup.
    taken("mbr", &["0 0 10"]);
    refused("mbr", &["3 0 - 0x0f", "4 50 10"], "would replace the MBR");
}

#[test]
fn a_partition_on_a_boot_record_is_told_with_its_blocks() {
    refused(
        "mbr",
        &["3 1000 - 0x0f", "4 1000 100"],
        "partition 4 (blocks 1000 to 1100) overlaps the EBR at 1000 for partition 4",
    );
    refused(
        "mbr",
        &["3 1000 - 0x0f", "4 1200 100", "5 1001 10"],
        "partition 5 (blocks 1001 to 1011) overlaps the EBR at 1001 for partition 5",
    );
}

#[test]
fn offsets_that_no_table_holds_are_told_as_such() {
    refused("gpt", &["0 -1 10"], "partition 0's block_offset must be positive and less than 2^32 - 1: '-1'");
    refused(
        "gpt",
        &["0 4294967295 10"],
        "block_offset must be positive and less than 2^32 - 1: '4294967295'",
    );
    refused("mbr", &["0 -1 10"], "block_offset must be positive and less than 2^32 - 1: '-1'");
    for kind in ["mbr", "gpt"] {
        refused(kind, &["0 10x 10"], "error parsing partition 0's block offset");
    }
}

/// Where a growing partition of a table ends after a task on an existing file of `size` bytes.
fn end(size: usize, init: &str, before: &str) -> Result<u64, Error> {
    let image = data(1, 700_000);
    let manifest = format!(
        "{}{}uboot-environment \"u\" {{\nblock-offset=2000\nblock-count=16\nblock-offset-redund=3000\n}}\n\
         task \"t\" {{\n{before}on-init {{\nfunlist={{{init}}}\n}}\non-resource \"r\" {{\nfunlist={{2,raw_write,256}}\n}}\n\
         on-finish {{\nfunlist={{2,mbr_write,s}}\n}}\n}}\n\
         task \"u\" {{\non-init {{\nfunlist={{{init},2,mbr_write,s}}\n}}\n}}\n",
        table("mbr", &["0 10 20 grows"]),
        resource("r", &image),
    );
    let task = if before == "no resource" { "u" } else { "t" };
    let manifest = manifest.replace("no resource", "");
    let mut disk = MemoryTarget::with_content(&vec![0x55; size]);
    apply(unsigned(task), &archive(&manifest, &[("r", &image)]), &mut disk)?;
    let entry = disk.bytes(446, 16);
    let word = |at: usize| u64::from(u32::from_le_bytes(entry[at..at + 4].try_into().unwrap()));
    Ok(word(8) + word(12))
}

/// The end of a file moves with every segment of 128 KiB that is read or written, not with what waits in memory.
/// Each of these was seen with fwup 1.16.0.
#[test]
fn in_a_file_that_is_too_small_partitions_grow_as_far_as_with_fwup() {
    let none = "no resource";
    for (size, init, want) in [
        (1000, "2,info,x", 30),
        (100_000, "2,info,x", 195),
        (100_000, "4,raw_memset,1000,1,5", 195),
        // A whole segment is written at once.
        (1000, "4,raw_memset,256,256,5", 512),
        (300_001, "4,raw_memset,256,256,5", 585),
        // Reading an environment reads the segments around it.
        (1000, "2,uboot_recover,u", 3072),
        (1000, "2,uboot_clearenv,u", 30),
        (1000, "2,uboot_clearenv,u,4,uboot_setenv,u,a,b", 3072),
        // What was trimmed is not read.
        (1000, "3,trim,0,4096,4,raw_memset,256,1,5", 30),
        (0, "4,raw_memset,256,256,5", 30),
    ] {
        assert_eq!(end(size, init, none).unwrap(), want, "{size} bytes, {init}");
    }
    // A requirement reads block 0; of the resource, the last part waits in memory.
    let requirement = "reqlist={3,require-partition-offset,0,1431655765}\n";
    assert!(matches!(end(1000, "2,info,x", requirement), Err(Error::NoTask(_))));
    assert_eq!(end(1000, "2,info,x", "").unwrap(), 1536);
    assert_eq!(end(2_000_000, "2,info,x", "").unwrap(), 3906);
}
