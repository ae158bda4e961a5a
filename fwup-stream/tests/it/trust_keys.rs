//! Keys, signatures and digests.

use crate::front_support::case;
use fwup_stream::trust::{Blake2b256, KeyError, PublicKey, is_digest, verify};
use proptest::prelude::*;

const TEXT: &str = "Es6D0YniUxp7Ac1S0XaQwxZoSa7piQWiHcmxjWbiKWQ=";

#[test]
fn key_files_in_the_forms_of_the_reference() {
    let Some(case) = case("signed") else { return };
    let key = PublicKey::from_text(TEXT).unwrap();
    for (file, accepted) in [
        ("k1.pub", true),
        ("k1.rawpub", true),
        ("k1.unpadded.pub", true),
        ("k1.newline.pub", true),
        ("k1.unpadded-newline.pub", true),
        ("k1.comment.pub", true),
        ("k1.space.pub", false),
        ("k1.hex.pub", false),
        ("k1.short.pub", false),
        ("k1.url.pub", false),
        ("empty.pub", false),
        ("raw33.pub", false),
    ] {
        let Some(bytes) = case.file(file) else { continue };
        let expected = if accepted { Ok(key.clone()) } else { Err(KeyError) };
        assert_eq!(PublicKey::from_file_bytes(&bytes), expected, "{file}");
        let exit = case.run(&format!("keyfile-{file}").replace("keyfile-k1.pub", "good"))["exit"].as_i64();
        assert_eq!(exit == Some(0), accepted, "{file}");
    }
}

#[test]
fn keys_as_text() {
    let key = PublicKey::from_text(TEXT).unwrap();
    assert_eq!(PublicKey::from_text(TEXT.trim_end_matches('=')), Ok(key.clone()));
    assert_eq!(PublicKey::from_text(&format!("{TEXT}\nsomething else")), Ok(key.clone()));
    assert_eq!(PublicKey::from_text("abc"), Err(KeyError));
    // Bits that encode nothing must be zero.
    assert_eq!(PublicKey::from_text(&TEXT.replace("WQ=", "WR=")), Err(KeyError));
    assert_eq!(PublicKey::from_text(&TEXT.replace("WQ=", "WQQ=")), Err(KeyError));
    assert_eq!(format!("{key:?}"), "PublicKey(12ce83d1…)");
}

#[test]
fn any_of_the_keys_verifies() {
    let Some(case) = case("signed") else { return };
    let archive = case.file("signed.fw").unwrap();
    let walk = crate::front_support::walk_whole(&archive);
    let signature = <[u8; 64]>::try_from(walk.entries[0].data.as_slice()).unwrap();
    let message = &walk.entries[1].data;
    let key = |file: &str| PublicKey::from_file_bytes(&case.file(file).unwrap()).unwrap();
    let (good, other) = (key("k1.pub"), key("k2.pub"));
    assert!(verify(std::slice::from_ref(&good), message, &signature));
    assert!(verify(&[other.clone(), good.clone()], message, &signature));
    assert!(!verify(&[other], message, &signature));
    assert!(!verify(&[], message, &signature));
    let mut changed = message.clone();
    changed.push(0);
    assert!(!verify(std::slice::from_ref(&good), &changed, &signature));
    for bit in [0, 255, 511] {
        let mut damaged = signature;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify(std::slice::from_ref(&good), message, &damaged));
    }
    // A key of small order would verify anything.
    let weak = PublicKey::from_file_bytes(&[0; 32]).unwrap();
    assert!(!verify(&[weak], message, &[0; 64]));
}

#[test]
fn digests_compare_as_text() {
    let mut digest = Blake2b256::new();
    digest.update(b"ab");
    digest.update(b"c");
    // RFC 7693's message; the value from `b2sum -l 256`.
    let expected = "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319";
    assert!(digest.matches(expected));
    assert!(!digest.matches(&expected.to_uppercase()));
    assert!(is_digest(expected) && !is_digest(&expected[1..]));
}

proptest! {
    #[test]
    fn any_bytes_are_a_key_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(key) = PublicKey::from_file_bytes(&bytes) {
            prop_assert!(!verify(&[key], b"message", &[7; 64]));
        }
    }
}
