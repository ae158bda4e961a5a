//! Which short name and which flags a long name gets, as bytes in the root folder.

use crate::fat_support::Disk;
use fwup_stream::action::fat::Mounts;

/// Makes the files in one folder and returns for each entry the short name, byte 12 and how many long entries
/// came before it.
fn entries(names: &[&str]) -> Vec<(String, u8, usize)> {
    let mut disk = Disk::default();
    let mut mounts = Mounts::new();
    mounts.mkfs(&mut disk, 0, 1024).unwrap();
    for name in names {
        mounts.touch(&mut disk, 0, name).unwrap();
    }
    mounts.close(&mut disk).unwrap();
    let image = disk.finish();
    let root = &image[9 * 512..41 * 512];
    let mut found = Vec::new();
    let mut long = 0;
    for entry in root.chunks(32).take_while(|entry| entry[0] != 0) {
        if entry[11] == 0x0F {
            long += 1;
        } else {
            let short: String = entry[..11].iter().map(|byte| char::from(*byte)).collect();
            found.push((short, entry[12], std::mem::take(&mut long)));
        }
    }
    found
}

#[test]
fn a_name_gets_its_short_name() {
    for (name, short, flags, long) in [
        ("README.TXT", "README  TXT", 0, 0),
        ("readme.txt", "README  TXT", 0x18, 0),
        ("readme.TXT", "README  TXT", 0x08, 0),
        ("README.txt", "README  TXT", 0x10, 0),
        ("Readme.txt", "README  TXT", 0, 1),
        ("zImage", "ZIMAGE     ", 0, 1),
        ("kernel8.img", "KERNEL8 IMG", 0x18, 0),
        ("12345678.123", "12345678123", 0, 0),
        ("123456789.123", "123456~1123", 0, 1),
        ("a.html", "A~1     HTM", 0, 1),
        ("bcm2710-rpi-3-b.dtb", "BCM271~1DTB", 0, 2),
        (".profile", "~1      PRO", 0, 1),
        ("a b", "AB~1       ", 0, 1),
        (" ab", "AB~1       ", 0, 1),
        ("a.b.c", "AB~1    C  ", 0, 1),
        ("a+b=[c]", "A_B__C~1   ", 0, 1),
        ("+.txt", "_~1     TXT", 0, 1),
        ("ends. .", "ENDS       ", 0x08, 0),
        ("thirteen.char", "THIRTE~1CHA", 0, 1),
        ("fourteen.chars", "FOURTE~1CHA", 0, 2),
        // The two bytes of an e with acute accent are a box drawing and a sign in code page 850.
        ("caf\u{e9}.txt", "CAF\u{c3}\u{a9}   TXT", 0, 1),
    ] {
        assert_eq!(entries(&[name]), [(short.to_owned(), flags, long)], "{name}");
    }
}

#[test]
fn tails_count_to_five_and_then_depend_on_the_name() {
    let names: Vec<String> = (0..9).map(|number| format!("a long name {number}.txt")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let short: Vec<String> = entries(&names).into_iter().map(|(short, ..)| short).collect();
    for (number, short) in short.iter().take(5).enumerate() {
        assert_eq!(*short, format!("ALONGN~{}TXT", number + 1));
    }
    for short in &short[5..] {
        let (base, tail) = short[..8].trim_end().split_once('~').unwrap();
        assert!("ALONGN".starts_with(base) && tail.len() >= 3, "{short}");
        assert!(tail.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)), "{short}");
    }
    let all: std::collections::BTreeSet<_> = short.iter().collect();
    assert_eq!(all.len(), short.len(), "every short name is there once");
}

#[test]
fn a_short_name_in_use_is_not_given_again() {
    let found = entries(&[
        "ALONGN~1.TXT",
        "ALONGN~3.TXT",
        "a long name.txt",
        "a long name 2.txt",
        "a long name 3.txt",
    ]);
    let short: Vec<_> = found.iter().map(|(short, ..)| short.as_str()).collect();
    assert_eq!(short, ["ALONGN~1TXT", "ALONGN~3TXT", "ALONGN~2TXT", "ALONGN~4TXT", "ALONGN~5TXT"]);
}
