//! Output of shells: bytes cut anywhere become text, the same as all of them at once.

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use proptest::prelude::*;
use serde_json::json;

/// Feeds pieces to a console's shell, ends it, and returns the messages but for the notice at the end.
fn texts(serializer: Serializer, pieces: &[&[u8]]) -> Vec<String> {
    let mut config = config();
    config.console = Some(ConsoleConfig::default());
    config.serializer = serializer;
    let mut device = Device::with_console(config);
    device.console("dn", json!({"data": "\r"}));
    let shell = device.shell();
    for piece in pieces {
        for part in piece.chunks(MAX_SHELL_BUFFER) {
            device.output(shell, part).unwrap();
            device.pass(SHELL_OUTPUT_PAUSE * 8);
        }
    }
    device.command(Command::Shell(ShellCommand::Ended { shell, end: ShellEnd::Failed("END".into()) }));
    device.pass(Duration::from_secs(1));
    let texts = shown(&device.out);
    assert!(texts.iter().all(|text| !text.is_empty() && text.len() <= MAX_SHELL_MESSAGE_BYTES));
    texts
}

fn joined(serializer: Serializer, pieces: &[&[u8]]) -> String {
    let text = texts(serializer, pieces).concat();
    let (output, _) = text.split_once("\r******* Remote shell stopped: END").expect("no end");
    output.to_owned()
}

/// Bytes with many beginnings of characters among them.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        any::<char>().prop_map(|character| character.to_string().into_bytes()),
        Just("é€😀".as_bytes().to_vec()),
        prop::sample::select(vec![
            b"\xf0\x9f\x98".to_vec(),
            b"\xe2\x82".to_vec(),
            b"\xed\xa0\x80".to_vec(),
            b"\xc0\xaf".to_vec(),
            b"\xf4\x90\x80\x80".to_vec(),
            b"\xff".to_vec(),
        ]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_cut_anywhere_are_the_same_text(
        bytes in bytes(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        msgpack in any::<bool>(),
    ) {
        let serializer = if msgpack { Serializer::MsgPack } else { Serializer::Json };
        let whole = String::from_utf8_lossy(&bytes).into_owned();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(joined(serializer, &pieces), &*whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(joined(serializer, &single), &*whole);
    }
}

#[test]
fn long_output_is_cut_between_characters_only() {
    let text = "aé€😀".repeat(MAX_SHELL_BUFFER / 10);
    for shift in 0..4 {
        let bytes = [&b"...."[..shift], text.as_bytes()].concat();
        assert_eq!(joined(Serializer::Json, &[&bytes]).as_bytes(), bytes);
    }
}

#[test]
fn a_character_that_never_comes_is_replaced_at_the_end_and_not_before() {
    let mut config = config();
    config.console = Some(ConsoleConfig::default());
    let mut device = Device::with_console(config);
    device.console("dn", json!({"data": "\r"}));
    let shell = device.shell();
    assert_eq!(shown(&device.output(shell, b"10 \xe2\x82").unwrap()), ["10 "]);
    assert_eq!(shown(&device.pass(Duration::from_secs(10))), [""; 0]);
    assert_eq!(shown(&device.output(shell, b"\xac!").unwrap()), ["€!"]);
    device.output(shell, b"\xe2\x82").unwrap();
    device.console("restart", json!({}));
    let text = shown(&device.pass(Duration::from_secs(1))).concat();
    assert!(text.starts_with("\u{fffd}\r*** Restarting"), "{text:?}");
}
