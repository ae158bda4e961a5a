//! Which archives are trusted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use nerves_hub_link_platform::archive::{ArchiveError, verify};
use nerves_hub_link_platform::store::{DownloadStore, StoreRequest};
use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey, Tamper, tamper};
use tempfile::TempDir;

fn check(bytes: &[u8], keys: &[String]) -> Result<(), ArchiveError> {
    let dir = TempDir::new().unwrap();
    let mut file = DownloadStore::new(dir.path()).open(&StoreRequest::new("a", "m")).unwrap();
    if !bytes.is_empty() {
        file.write(0, bytes).unwrap();
    }
    verify(&mut file, keys)
}

#[test]
fn only_a_sound_archive_of_a_trusted_key_passes() {
    let (key, stranger) = (SigningKey::from_seed(1), SigningKey::from_seed(2));
    let archive = FirmwareBuilder::new("archive", "1.0.0").rootfs(300_000, 7).build(&key).unwrap();
    let bytes = archive.bytes().unwrap();
    let (ours, theirs) = (vec![key.public_key()], vec![stranger.public_key()]);
    check(&bytes, &ours).unwrap();
    check(&bytes, &[theirs[0].clone(), "no key".to_owned(), ours[0].clone()]).unwrap();
    let why = |bytes: &[u8], keys: &[String]| check(bytes, keys).unwrap_err().to_string();
    assert!(why(&bytes, &theirs).contains("signature"), "{}", why(&bytes, &theirs));
    assert!(matches!(check(&bytes, &[]), Err(ArchiveError::NoKeys)));
    assert!(matches!(check(&bytes, &["no key".to_owned()]), Err(ArchiveError::BadKeys { count: 1 })));
    for how in [
        Tamper::Unsigned,
        Tamper::Signature,
        Tamper::MetaConf,
        Tamper::Resource { name: "rootfs.img".to_owned(), offset: 100_000 },
        Tamper::Truncated(100_000),
    ] {
        let error = check(&tamper(&bytes, &how).unwrap(), &ours).unwrap_err();
        assert!(matches!(error, ArchiveError::Refused(_)), "{how:?}: {error:?}");
    }
}
