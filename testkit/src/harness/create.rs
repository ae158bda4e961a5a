//! Making and signing archives.

use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use fwup_stream::Verifier;
use fwup_stream::archive::{ArchiveEvent, ArchiveReader};
use fwup_stream::create::{Builder, CreateError, KeyPair, Signer};
use fwup_stream::manifest::{Configuration, Manifest};

use super::container;
use super::input::{Passed, Source};

/// Bytes of a configuration taken: what is made of them is compressed twice.
const TEXT_MAX: usize = 32 * 1024;
/// Bytes of an archive taken.
const ARCHIVE_MAX: usize = 64 * 1024;
/// What reads files of this system. Nothing here may.
const READS_FILES: [&[u8]; 2] = [b"include", b"host-path"];

/// Reads a configuration and makes an archive of it. Configurations that name files are passed over.
///
/// # Panics
/// When doing it twice differs, or when the archive that was made cannot be read: its manifest is not one, or it
/// does not verify.
pub fn configuration(data: &[u8]) {
    let mut source = Source::new(data);
    let set = source.byte();
    let text = source.rest(TEXT_MAX);
    let names_files = |word: &&[u8]| text.windows(word.len()).any(|part| part == *word);
    if READS_FILES.iter().any(names_files) {
        return;
    }
    let variables = move |name: &str| match name {
        "SOURCE_DATE_EPOCH" => Some("1700000000".to_owned()),
        "TZ" => Some("UTC0".to_owned()),
        _ => (usize::from(set) > name.len()).then(|| format!("{name}$")),
    };
    let parsed = Configuration::parse(text, &variables);
    let again = Configuration::parse(text, &variables);
    let (configuration, again) = match (parsed, again) {
        (Ok(configuration), Ok(again)) => (configuration, again),
        (parsed, again) => {
            assert_eq!(parsed.err(), again.err(), "read twice");
            return;
        }
    };
    let builder = Builder::new().level(1).variables(Arc::new(variables));
    let made = builder.create(configuration, Vec::new());
    let again = builder.create(again, Vec::new());
    let (archive, again) = match (made, again) {
        (Ok(archive), Ok(again)) => (archive, again),
        (made, again) => {
            let text = |made: Result<_, CreateError>| made.err().map(|error| error.to_string());
            assert_eq!(text(made.map(|_| ())), text(again.map(|_| ())), "made twice");
            return;
        }
    };
    assert!(archive == again, "made twice");
    let manifest = manifest(&archive).unwrap_or_default();
    // What is only known on the device may be anything: names that are alike, a version nobody has.
    if manifest.windows(2).any(|word| word == b"${") {
        return;
    }
    let read = Manifest::parse(&manifest, &|_| None);
    assert!(read.is_ok(), "{read:?} in {:?}", String::from_utf8_lossy(&manifest));
    let verified = verify(&archive, false);
    assert_eq!(verified.as_deref(), Ok("Valid archive without a signature"));
}

/// Signs an archive: one of the input's, or a good one with some bytes changed.
///
/// # Panics
/// When doing it twice differs, when what was signed has no good signature over the same manifest, when data of
/// resources were lost or changed, or when an archive that verified does not any more.
pub fn signer(data: &[u8]) {
    let mut source = Source::new(data);
    let archive = match source.byte() % 2 {
        0 => source.rest(ARCHIVE_MAX).to_vec(),
        _ => changed(&mut source),
    };
    let Some(key) = private_key() else { return };
    let signer = Signer::new(key.private.clone()).variables(Arc::new(|_| Some("1700000000".to_owned())));
    let sign = |archive: &[u8]| {
        signer.sign(&mut Cursor::new(archive), Vec::new()).map_err(|error| error.to_string())
    };
    let signed = sign(&archive);
    assert_eq!(signed, sign(&archive), "signed twice");
    let Ok(signed) = signed else { return };
    // A manifest that cannot be read can be signed; whoever reads it looks at the signature first.
    if let (Some(before), Some(after)) = (manifest(&archive), manifest(&signed)) {
        assert!(before == after, "another manifest was signed");
    }
    let (before, after) = (contents(&archive), contents(&signed));
    if let (Ok(before), Ok(after)) = (&before, &after) {
        let kept = before.iter().filter(|(name, _)| !name.ends_with('/') && name != "meta.conf.ed25519");
        let after: Vec<_> = after.iter().skip(1).collect();
        assert_eq!(kept.collect::<Vec<_>>(), after, "the entries");
    }
    // An empty delta passes only as long as its header says that it is empty, which new headers do not.
    let empty = |contents: &[Content]| contents.iter().any(|(_, (length, _))| *length == 0);
    if verify(&archive, false).is_ok() && !before.is_ok_and(|contents| empty(&contents)) {
        assert_eq!(verify(&signed, true).as_deref(), Ok("Valid archive with a good signature"));
    }
}

fn private_key() -> Option<&'static KeyPair> {
    static KEY: OnceLock<Option<KeyPair>> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate().ok()).as_ref()
}

/// An archive of three entries with changes: each a place and up to 255 bytes.
fn changed(source: &mut Source<'_>) -> Vec<u8> {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    let good = GOOD.get_or_init(|| {
        let (a, b) = ([7; 3000], *b"some text");
        let manifest = container::section("a", &a) + &container::section("b", &b);
        container::archive(manifest.as_bytes(), &[("a", &a), ("b", &b)], false)
    });
    let mut archive = good.clone();
    while !source.is_empty() {
        let at = usize::from(source.short()) % archive.len();
        let bytes = source.block();
        let end = (at + bytes.len()).min(archive.len());
        drop(archive.splice(at..end, bytes.iter().copied()));
    }
    archive
}

/// The text of an archive's manifest, if it can be read.
fn manifest(archive: &[u8]) -> Option<Vec<u8>> {
    let (mut reader, mut input) = (ArchiveReader::new(), archive);
    let (mut text, mut wanted) = (Vec::new(), false);
    loop {
        match reader.next(&mut input).ok()? {
            ArchiveEvent::Entry(info) => wanted = info.name == "meta.conf",
            ArchiveEvent::Data(data) if wanted => text.extend_from_slice(data),
            ArchiveEvent::EntryEnd if wanted => return Some(text),
            ArchiveEvent::Data(_) | ArchiveEvent::EntryEnd => {}
            ArchiveEvent::End | ArchiveEvent::NeedInput => return None,
        }
    }
}

/// An entry's name, and length and checksum of its data.
type Content = (String, (u64, u32));

/// The names of the entries, and what is in them.
fn contents(archive: &[u8]) -> Result<Vec<Content>, String> {
    let (mut reader, mut input) = (ArchiveReader::new(), archive);
    let (mut all, mut passed) = (Vec::new(), Passed::default());
    loop {
        match reader.next(&mut input).map_err(|error| error.to_string())? {
            ArchiveEvent::Entry(info) => {
                passed = Passed::default();
                all.push((info.name, (0, 0)));
            }
            ArchiveEvent::Data(data) => passed.add(data),
            ArchiveEvent::EntryEnd => {
                if let Some((_, sum)) = all.last_mut() {
                    *sum = passed.sum();
                }
            }
            ArchiveEvent::End => return Ok(all),
            ArchiveEvent::NeedInput => return Err("cut".to_owned()),
        }
    }
}

fn verify(archive: &[u8], keyed: bool) -> Result<String, String> {
    let keys = private_key().filter(|_| keyed).map(|key| key.public.clone());
    let mut verifier = Verifier::new(keys.into_iter().collect(), Verifier::no_variables(), None);
    verifier.push(archive).map_err(|error| error.to_string())?;
    verifier.finish().map(|verdict| verdict.to_string()).map_err(|error| error.to_string())
}
