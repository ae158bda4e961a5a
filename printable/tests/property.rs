//! No text comes out with a hidden character, longer than asked for, or changed by a second pass.

use nerves_hub_link_printable::{escape, escape_bytes, is_hidden, line};
use proptest::prelude::*;

/// Text with many of the characters that matter.
fn hostile() -> impl Strategy<Value = String> {
    let letter = prop_oneof![
        any::<char>(),
        prop::sample::select(
            &['\n', '\r', '\t', '\0', '\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2028}', 'a'][..]
        )
    ];
    prop::collection::vec(letter, 0..300).prop_map(String::from_iter)
}

proptest! {
    #[test]
    fn nothing_hidden_comes_out(text in hostile(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let escaped = escape(&text);
        prop_assert!(!escaped.contains(is_hidden), "{escaped:?}");
        prop_assert_eq!(escape(&escaped), escaped.clone());
        let escaped = escape_bytes(&bytes);
        prop_assert!(!escaped.contains(is_hidden), "{escaped:?}");
    }

    #[test]
    fn a_line_keeps_its_limit_its_beginning_and_its_end(text in hostile(), max in 64_usize..400) {
        let whole = escape(&text).into_owned();
        let cut = line(&text, max);
        prop_assert!(cut.len() <= max && !cut.contains(is_hidden));
        if whole.len() <= max {
            prop_assert_eq!(&*cut, whole);
        } else {
            let (head, rest) = cut.split_once("… (").unwrap();
            let (count, tail) = rest.split_once(" bytes left out) …").unwrap();
            prop_assert!(whole.starts_with(head) && whole.ends_with(tail));
            prop_assert!(count.parse::<usize>().unwrap() > 0);
        }
    }
}

#[test]
fn what_forges_reorders_or_hides_text_is_escaped() {
    let hidden = ('\0'..='\u{1f}')
        .chain('\u{7f}'..='\u{9f}')
        .chain('\u{202a}'..='\u{202e}')
        .chain('\u{2066}'..='\u{2069}')
        .chain("\u{200e}\u{200f}\u{61c}\u{2028}\u{2029}\u{200b}\u{feff}\u{ad}\u{e0041}".chars());
    for letter in hidden {
        let escaped = escape(&format!("a{letter}b")).into_owned();
        assert!(escaped.starts_with("a\\") && escaped.ends_with('b') && escaped.is_ascii(), "{escaped:?}");
    }
    for plain in ["", "Gerät", "日本語", "🚀", "a\\nb", "\u{fffd}", "\u{5d0}"] {
        assert_eq!(escape(plain), plain);
    }
}

#[test]
fn a_line_of_the_limit_stays_and_one_past_it_is_cut() {
    assert_eq!(line(&"ü".repeat(100), 200), "ü".repeat(100));
    let cut = line(&"ü".repeat(101), 200).into_owned();
    assert!(cut.len() <= 200 && cut.contains("bytes left out"), "{cut}");
    // It counts what comes out, not what goes in.
    assert_eq!(line(&"\n".repeat(100), 200), "\\n".repeat(100));
    assert!(line(&"\n".repeat(101), 200).contains("bytes left out"));
}
