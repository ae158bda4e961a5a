//! Which serial numbers identify nothing.
#![allow(missing_docs)]

use nerves_hub_link_serial::is_placeholder;

#[test]
fn what_many_devices_share_is_no_serial_number() {
    let texts = [
        "To Be Filled By O.E.M.",
        "Default string",
        "System Serial Number",
        "Chassis Serial Number",
        "Not Specified",
        "Not Available",
        "N/A",
        "none",
        "null",
        "unknown",
        "unconfigured",
        "0123456789",
        "123456789",
        "0123456789ABCDEF",
        "01234567",
        "12345678901234567890",
        "0123456789012",
        "0",
        "0000000000000000",
        "00:00:00:00:00:00",
        "00000000-0000-0000-0000-000000000000",
        "ffff",
        "FF:FF:FF:FF:FF:FF",
        "ffffffffffffffffffffffffffffffff",
        "xxxx",
        "XXX-XXX-XXX",
        "---",
        "",
    ];
    for text in texts {
        for variant in [
            text.to_owned(),
            text.to_uppercase(),
            text.to_lowercase(),
            format!("  {text}\t\r\n"),
            format!("\"{text}\""),
            format!("'{text}'"),
            format!("\u{feff}{text}\0"),
            text.replace(' ', "_"),
            text.replace(' ', ""),
            text.replace(' ', "  "),
        ] {
            assert!(is_placeholder(&variant), "{variant:?}");
        }
    }
}

#[test]
fn numbers_of_single_devices_are_taken() {
    for serial in [
        "1",
        "1234",
        "1234567",
        "12345679",
        "23456789",
        "0123456788",
        "00000001",
        "0000000019f2f468",
        "fff",
        "fff1",
        "f",
        "x",
        "xxx",
        "none-of-7",
        "unknown7",
        "system-1",
        "b8:27:eb:ff:ff:ff",
        "\u{435}\u{434}",
    ] {
        assert!(!is_placeholder(serial), "{serial:?}");
    }
}
