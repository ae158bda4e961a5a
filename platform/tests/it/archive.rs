//! Which archives are trusted.

use nerves_hub_link_platform::archive::{ArchiveError, SignatureCheck, verify};
use nerves_hub_link_platform::limits::ARCHIVE_START_MAX;
use nerves_hub_link_platform::store::{DownloadStore, StoreRequest};
use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey, Tamper, tamper};
use tempfile::TempDir;

fn check(bytes: &[u8], keys: &[String]) -> Result<(), ArchiveError> {
    let dir = TempDir::new().unwrap();
    let mut file = DownloadStore::new(dir.path()).open(&StoreRequest::new("a", "m")).unwrap();
    if !bytes.is_empty() {
        file.write(0, bytes).unwrap();
    }
    verify(&mut file, keys).map(drop)
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

#[test]
fn an_archive_whose_beginning_never_ends_is_refused() {
    let key = SigningKey::from_seed(1);
    let mut check = SignatureCheck::new(&[key.public_key()]).unwrap();
    // The entry of the signature, packed, its sizes to follow: empty blocks make nothing of any number of bytes.
    let name = b"meta.conf.ed25519";
    let mut header = b"PK\x03\x04\x14\0\x08\0\x08\0\0\0\x21\0".to_vec();
    header.extend([0; 12]);
    header.extend([u8::try_from(name.len()).unwrap(), 0, 0, 0]);
    header.extend(name);
    check.push(&header).unwrap();
    let empty = [0, 0, 0, 0xff, 0xff];
    let mut at = header.len() as u64;
    let error = loop {
        match check.push(&empty) {
            Ok(()) => at += empty.len() as u64,
            Err(error) => break error,
        }
        assert!(at <= ARCHIVE_START_MAX, "it would go on for ever");
    };
    assert!(at + empty.len() as u64 > ARCHIVE_START_MAX, "{at}: {error}");
    assert!(error.to_string().contains("within the first 262144 bytes"), "{error}");
    // From its first byte on, it may be another file.
    check.restart();
    assert_eq!((check.position(), check.is_good()), (0, false));
    let archive = FirmwareBuilder::new("archive", "1.0.0").rootfs(1000, 7).build(&key).unwrap();
    check.push(&archive.bytes().unwrap()).unwrap();
    assert!(check.is_good());
}
