//! What can be made can be applied: calls that no device could carry out are refused while an archive is made.

use crate::apply_support::{apply, archive, unsigned};
use fwup_stream::create::Builder;
use fwup_stream::disk::MemoryTarget;
use fwup_stream::manifest::Configuration;

/// Makes an archive, or says why not.
fn make(text: &str) -> Result<Vec<u8>, String> {
    let configuration = Configuration::parse(text.as_bytes(), &|_| None)
        .map_err(|error| error.detail().unwrap_or_default().to_owned())?;
    Builder::new().create(configuration, Vec::new()).map_err(|error| error.to_string())
}

fn call(call: &str) -> Result<Vec<u8>, String> {
    let place = if call.starts_with("raw_write") || call.starts_with("fat_write") {
        "on-resource x"
    } else {
        "on-init"
    };
    make(&format!("file-resource x {{ contents = \"hello\" }} task t {{ {place} {{ {call} }} }}"))
}

#[test]
fn blocks_that_no_disk_has_are_refused() {
    let last = u64::try_from(i64::MAX / 512).unwrap();
    let offset = "requires a non-negative integer block offset";
    for (text, why) in [
        ("trim(0, -1)", "trim requires a block count >1"),
        ("trim(0, 0)", "trim requires a block count >1"),
        ("trim(-1, 1)", offset),
        ("raw_memset(0, -1, 0)", "raw_memset requires a positive integer block count"),
        ("raw_memset(-5, 1, 0)", offset),
        ("raw_write(-1)", offset),
        ("raw_write(18446744073709551615)", offset),
        ("fat_write(-1, a)", offset),
        ("fat_mkfs(-1, 1000)", offset),
        ("fat_mkfs(0, -1)", offset),
        ("fat_cp(0, a, -1, b)", offset),
        ("fat_cp(0, a, x, b)", offset),
        ("fat_attrib(-1, a, R)", offset),
    ] {
        let told = call(text).expect_err(text);
        assert!(told.contains(why), "{text}: {told}");
    }
    for (function, more) in [("trim", ""), ("raw_memset", ", 0"), ("fat_mkfs", "")] {
        let at = |first: u64, count: u64| call(&format!("{function}({first}, {count}{more})"));
        assert!(at(last - 10, 10).is_ok(), "{function}");
        assert!(at(last - 10, 11).unwrap_err().contains("blocks that a disk can have"), "{function}");
        assert!(at(last, last).is_err(), "{function}");
    }
    // Three names are no block.
    assert!(call("fat_cp(0, a, -1)").is_ok());
    let environment = |offset: &str, second: &str| {
        make(&format!("uboot-environment u {{ block-offset = {offset} block-count = 1 {second} }}"))
    };
    assert!(environment("100", "").is_ok());
    for far in ["-1", "18014398509481984", "9223372036854775807"] {
        assert!(environment(far, "").is_err(), "{far}");
        assert!(environment("100", &format!("block-offset-redund = {far}")).is_err(), "{far}");
    }
}

/// As with fwup, it makes a boot record without partitions.
#[test]
fn an_empty_table_is_applied_as_one() {
    for inside in ["", "include-osip = false", "signature = \"\""] {
        let archive = make(&format!("mbr m {{ {inside} }} task t {{ on-init {{ mbr_write(m) }} }}")).unwrap();
        let mut disk = MemoryTarget::with_content(&[7; 1024]);
        apply(unsigned("t"), &archive, &mut disk).unwrap();
        let block = disk.bytes(0, 512);
        assert!(block[..510].iter().all(|byte| *byte == 0) && block[510..] == [0x55, 0xaa], "{inside}");
    }
}

#[test]
fn lists_that_could_never_run_are_refused() {
    let task = |event: &str, list: &str| make(&format!("task t {{ {event} {{ funlist = {{{list}}} }} }}"));
    for event in ["on-init", "on-finish", "on-error"] {
        assert!(task(event, "2,info,hello").is_ok());
        for (list, why) in [
            ("2,nosuch,1", "Unknown function"),
            ("1,raw_memset", "raw_memset requires a block offset, count, and value"),
            ("2,raw_write,0", "raw_write only usable in on-resource"),
            ("2,mbr_write,m", "mbr_write can't find mbr reference m"),
            ("2,gpt_write,g", "gpt_write can't find gpt reference g"),
            ("2,uboot_clearenv,u", "uboot_clearenv can't find uboot-environment reference u"),
            ("4,raw_memset,0,1,256", "not a byte value"),
            ("3,info,hello", "Unexpected error with funlist"),
            ("x,info", "Unexpected argc value in funlist"),
        ] {
            let told = task(event, list).expect_err(list);
            assert!(told.starts_with("the task 't' could never be applied: "), "{told}");
            assert!(told.contains(why), "{event} {list}: {told}");
        }
    }
    // What a variable of the device decides is known there.
    assert!(task("on-init", "4,raw_memset,\"\\${AT}\",1,\"\\${VALUE}\"").is_ok());
}

/// fwup writes it, and neither fwup nor U-Boot can read that environment any more.
#[test]
fn a_variable_without_a_name_never_reaches_an_environment() {
    let section = "uboot-environment u { block-offset = 1 block-count = 1 } ";
    let told = make(&format!("{section} task t {{ on-init {{ uboot_setenv(u, \"\", x) }} }}")).unwrap_err();
    assert!(told.contains("uboot_setenv needs the name of a variable"), "{told}");
    let section = "uboot-environment \"u\" {\nblock-offset=1\nblock-count=1\n}\n";
    for (init, error) in [("2,uboot_clearenv,u", ""), ("2,error,x", "4,uboot_setenv,u,\"\",x")] {
        let late = if error.is_empty() { "4,uboot_setenv,u,\"\",x" } else { "2,info,x" };
        let error = if error.is_empty() { "2,info,x" } else { error };
        let manifest = format!(
            "{section}task \"t\" {{\non-init {{\nfunlist={{{init},{late}}}\n}}\non-error {{\nfunlist={{{error}}}\n}}\n}}\n"
        );
        let mut disk = MemoryTarget::with_content(&[7; 2048]);
        let told = apply(unsigned("t"), &archive(&manifest, &[]), &mut disk).unwrap_err().to_string();
        // On-error has no environment to read here, and says so first.
        assert!(told.contains("needs the name of a variable"), "{told}");
        assert_eq!(disk.bytes(0, 2048), [7; 2048]);
    }
    // Taking it out is nothing.
    let section = "uboot-environment u { block-offset = 1 block-count = 1 } ";
    assert!(make(&format!("{section} task t {{ on-init {{ uboot_unsetenv(u, \"\") }} }}")).is_ok());
}
