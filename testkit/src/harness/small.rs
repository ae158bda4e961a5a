//! Public keys, and the frames of `--framing`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use fwup_stream::framing::{Frame, FrameInput, FrameReader};
use fwup_stream::trust::PublicKey;

use super::input::{Cuts, Source};

/// Reads a public key given as a file and as text.
///
/// # Panics
/// When a key that was taken is not the same in every form it can be written in.
pub fn keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for key in [PublicKey::from_file_bytes(data), PublicKey::from_text(&text)].into_iter().flatten() {
        let bytes = key.as_bytes();
        assert!(PublicKey::from_file_bytes(bytes).as_ref() == Ok(&key), "the bytes of {key:?}");
        for text in [STANDARD.encode(bytes), STANDARD_NO_PAD.encode(bytes)] {
            for text in [format!("{text}\n"), format!("{text} comment"), text] {
                assert!(PublicKey::from_text(&text).as_ref() == Ok(&key), "{text:?} as text");
                assert!(
                    PublicKey::from_file_bytes(text.as_bytes()).as_ref() == Ok(&key),
                    "{text:?} as a file"
                );
            }
        }
    }
}

/// Takes framed input apart, whole and cut.
///
/// # Panics
/// When the cuts show, or a frame that was written is not read back.
pub fn frames(data: &[u8]) {
    let mut source = Source::new(data);
    let cuts = source.cuts();
    let input = source.rest(usize::MAX);
    assert_eq!(unframed(input, Cuts::whole()), unframed(input, cuts), "cuts show");

    let text = String::from_utf8_lossy(input);
    for frame in [Frame::Warning(&text), Frame::Error(&text), Frame::Success(&text), Frame::Progress(99)] {
        let mut bytes = frame.to_bytes();
        bytes.extend([0; 4]);
        let (payload, _, ended) = unframed(&bytes, Cuts::whole());
        assert!(ended && payload.get(..) == bytes.get(4..bytes.len() - 4), "{frame:?} read back");
    }
}

/// The payload, the bytes behind its end, and whether there was an end.
fn unframed(input: &[u8], mut cuts: Cuts) -> (Vec<u8>, usize, bool) {
    let mut reader = FrameReader::new();
    let (mut payload, mut left, mut input) = (Vec::new(), 0, input);
    while let Some(mut piece) = cuts.next(&mut input) {
        loop {
            match reader.next(&mut piece) {
                FrameInput::Data(data) => {
                    assert!(!data.is_empty(), "empty data");
                    payload.extend_from_slice(data);
                }
                FrameInput::NeedInput => {
                    assert!(piece.is_empty(), "more input is wanted while there is some");
                    break;
                }
                FrameInput::End => {
                    left += piece.len();
                    break;
                }
            }
        }
    }
    (payload, left, reader.finish().is_ok())
}
