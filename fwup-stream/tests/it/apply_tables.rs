//! Partition tables that make no sense: refused, or written where tables belong.

use crate::apply_support::{apply, archive, unsigned};
use fwup_stream::Error;
use fwup_stream::disk::MemoryTarget;

/// Bytes of the disk.
const DISK: u64 = 1 << 20;

fn run(manifest: &str) -> Result<(), Error> {
    let mut disk = MemoryTarget::with_hard_size(DISK);
    apply(unsigned("t"), &archive(manifest, &[]), &mut disk).map(|_| ())
}

fn task_that_writes(section: &str, function: &str) -> String {
    format!("{section}task \"t\" {{\non-init {{\nfunlist={{2,{function},s}}\n}}\n}}\n")
}

#[test]
fn absurd_partition_tables_are_refused_or_written_within_block_0() {
    let values = ["0", "1", "4294967294", "4294967295", "-1", "9223372036854775807", "x"];
    for number in ["0", "3", "4", "11", "12", "4294967295", "4294967296", "x"] {
        for offset in values {
            for count in ["0", "1", "2147483646", "2147483647", "-1"] {
                for kind in ["0", "5", "15", "131", "255", "256", "-1"] {
                    let section = format!(
                        "mbr \"s\" {{\npartition \"{number}\" {{\nblock-offset={offset}\nblock-count={count}\n\
                         type={kind}\nexpand=true\n}}\n}}\n"
                    );
                    let outcome = run(&task_that_writes(&section, "mbr_write"));
                    let has_number = number.parse().is_ok_and(|number: u32| number < 12);
                    assert!(has_number || outcome.is_err(), "{section}");
                }
            }
        }
    }
}

#[test]
fn boot_records_never_replace_the_table() {
    let table = |start: u32, with: &str| {
        let extended =
            format!("partition \"3\" {{\nblock-offset={start}\nblock-count=100\ntype=0x0f\n}}\n{with}");
        run(&task_that_writes(&format!("mbr \"s\" {{\n{extended}}}\n"), "mbr_write"))
    };
    let logical = "partition \"4\" {\nblock-offset=50\nblock-count=10\ntype=0x83\n}\n";
    assert!(table(1, logical).is_ok());
    assert!(table(0, "").is_ok());
    assert!(table(0, logical).unwrap_err().to_string().contains("would replace the MBR"));
}

#[test]
fn absurd_osip_numbers_are_refused() {
    for (image, good) in
        [("0", true), ("14", true), ("15", false), ("255", false), ("4294967295", false), ("x", false)]
    {
        let section = format!("mbr \"s\" {{\ninclude-osip=true\nosii \"{image}\" {{\nos-major=1\n}}\n}}\n");
        assert_eq!(run(&task_that_writes(&section, "mbr_write")).is_ok(), good, "{image}");
    }
    let table = |images: &str| {
        run(&task_that_writes(&format!("mbr \"s\" {{\ninclude-osip=true\n{images}}}\n"), "mbr_write"))
    };
    assert_eq!(table("").unwrap_err().to_string(), "need to specify one or more osii");
    let twice = "osii \"1\" {\nos-major=1\n}\nosii \"0x1\" {\nos-major=2\n}\n";
    assert_eq!(table(twice).unwrap_err().to_string(), "invalid or duplicate osii number found for 1");
    for option in ["osip-major", "osip-minor", "osip-num-pointers"] {
        for (value, good) in [("255", true), ("256", false), ("-1", false)] {
            let section = format!(
                "mbr \"s\" {{\ninclude-osip=true\n{option}={value}\nosii \"0\" {{\nos-major=1\n}}\n}}\n"
            );
            assert_eq!(run(&task_that_writes(&section, "mbr_write")).is_ok(), good, "{option} {value}");
        }
    }
}

#[test]
fn absurd_guid_tables_are_refused() {
    let good = "b443fbeb-2c93-481b-88b3-0ecb0aeba911";
    let table = |disk: &str, number: &str, offset: &str, count: &str, kind: &str, flags: &str| {
        let section = format!(
            "gpt \"s\" {{\nguid=\"{disk}\"\npartition \"{number}\" {{\nblock-offset=\"{offset}\"\nblock-count={count}\n\
             type=\"{kind}\"\nguid=\"{good}\"\nflags=\"{flags}\"\nexpand=true\n}}\n}}\n"
        );
        run(&task_that_writes(&section, "gpt_write"))
    };
    assert!(table(good, "0", "40", "10", good, "0").is_ok());
    for guid in ["", "x", "+443fbeb-2c93-481b-88b3-0ecb0aeba911", "größe---------------------------------"]
    {
        assert!(table(guid, "0", "40", "10", good, "0").is_err(), "{guid}");
        assert!(table(good, "0", "40", "10", guid, "0").is_err(), "{guid}");
    }
    for (number, is_good) in [("15", true), ("16", false), ("4294967295", false), ("x", false)] {
        assert_eq!(table(good, number, "40", "10", good, "0").is_ok(), is_good, "{number}");
    }
    for offset in ["4294967295", "-1", "9223372036854775808", "x"] {
        assert!(table(good, "0", offset, "10", good, "0").is_err(), "{offset}");
    }
    for count in ["2147483647", "-1"] {
        assert!(table(good, "0", "40", count, good, "0").is_err(), "{count}");
    }
    assert!(table(good, "0", "40", "10", good, "flag").is_err());
    // The largest numbers a table can hold do not overflow, though no disk here has them.
    assert!(table(good, "0", "4294967294", "2147483646", good, "0").is_ok());
}
