//! Checking the signature of a download while it is stored.

use nerves_hub_link_platform::archive::{ArchiveError, SignatureCheck};
use nerves_hub_link_platform::store::StoredFile;
use nerves_hub_link_protocol::OpenStore;

use crate::limits::STORE_PIECE_MAX;

/// Follows what is written to a store until the signature is known to be good.
pub(crate) struct Trust {
    /// Nothing if nothing is to be checked.
    check: Option<SignatureCheck>,
}

impl Trust {
    /// Begins to follow a store.
    ///
    /// # Errors
    ///
    /// There are keys, and none can be used.
    pub(crate) fn new(order: &OpenStore) -> Result<Self, ArchiveError> {
        let keys = &order.public_keys;
        let check = if keys.is_empty() { None } else { Some(SignatureCheck::new(keys)?) };
        Ok(Self { check })
    }

    /// Checks what an earlier run left in a store.
    pub(crate) fn resume(&mut self, file: &mut StoredFile) -> Result<(), ArchiveError> {
        let Some(check) = &mut self.check else { return Ok(()) };
        check.restart();
        let mut piece = vec![0; STORE_PIECE_MAX];
        while !check.is_good() {
            // What isn't there, or can't be read, comes again.
            let Ok(count @ 1..) = file.read(check.position(), &mut piece) else { break };
            check.push(piece.get(..count).unwrap_or_default())?;
        }
        Ok(())
    }

    /// The store is empty.
    pub(crate) fn restart(&mut self) {
        if let Some(check) = &mut self.check {
            check.restart();
        }
    }

    /// Checks bytes before they are written. Parts that come before the first one is complete are not looked at: what
    /// applies or hands over the file checks all of it.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ArchiveError> {
        let Some(check) = &mut self.check else { return Ok(()) };
        if offset == 0 {
            // The first byte of a part replaces all that was there.
            check.restart();
        }
        if check.position() == offset { check.push(bytes) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nerves_hub_link_platform::store::{DownloadStore, StoreRequest};
    use nerves_hub_link_protocol::{StoreId, StoreKind};
    use nerves_hub_link_testkit::firmware::{FirmwareBuilder, SigningKey, Tamper, tamper};

    fn order(public_keys: Vec<String>) -> OpenStore {
        let (store, kind, key, manifest) = (StoreId(1), StoreKind::Archive, "key".to_owned(), "m".to_owned());
        OpenStore { store, kind, key, manifest, size: None, part_size: u64::MAX, parts: 1, public_keys }
    }

    #[test]
    fn the_first_kilobytes_decide() {
        let (key, stranger) = (SigningKey::from_seed(1), SigningKey::from_seed(2));
        let archive = FirmwareBuilder::new("a", "1.0.0").rootfs(300_000, 7).build(&key).unwrap();
        let good = archive.bytes().unwrap();
        let ours = || order(vec![key.public_key()]);
        let feed = |order: &OpenStore, bytes: &[u8], step: usize| {
            let mut trust = Trust::new(order).unwrap();
            let mut at = 0;
            for piece in bytes.chunks(step) {
                if let Err(error) = trust.write(at as u64, piece) {
                    return Err((at, error.to_string()));
                }
                at += piece.len();
            }
            Ok(trust.check.is_none_or(|check| check.is_good()))
        };
        for step in [1, 1000, good.len()] {
            assert_eq!(feed(&ours(), &good, step), Ok(true));
            for how in [Tamper::Unsigned, Tamper::Signature, Tamper::MetaConf] {
                let bad = tamper(&good, &how).unwrap();
                let (at, why) = feed(&ours(), &bad, step).unwrap_err();
                assert!(at < 20_000, "{how:?} at {at}: {why}");
            }
            let (at, _) = feed(&order(vec![stranger.public_key()]), &good, step).unwrap_err();
            assert!(at < 20_000, "a stranger's key at {at}");
            let (at, _) = feed(&ours(), &[7; 10_000], step).unwrap_err();
            assert!(at < 100, "no archive at all, at {at}");
            assert_eq!(feed(&order(Vec::new()), &[7; 10_000], step), Ok(true), "nothing to check with");
        }
        assert!(Trust::new(&order(vec!["no key".to_owned()])).is_err());
    }

    #[test]
    fn what_is_there_is_checked_and_what_replaces_it_too() {
        let key = SigningKey::from_seed(1);
        let archive = FirmwareBuilder::new("a", "1.0.0").rootfs(100_000, 7).build(&key).unwrap();
        let good = archive.bytes().unwrap();
        let dir = tempfile::TempDir::new().unwrap();
        let mut file =
            DownloadStore::new(dir.path()).open(&StoreRequest::new("a", "m").parts(64, 9999)).unwrap();
        let mut trust = Trust::new(&order(vec![key.public_key()])).unwrap();
        trust.resume(&mut file).unwrap();
        file.write(0, &good[..100]).unwrap();
        trust.resume(&mut file).unwrap();
        assert_eq!(trust.check.as_ref().map(SignatureCheck::position), Some(100));
        trust.write(100, &good[100..]).unwrap();
        assert!(trust.check.as_ref().is_some_and(SignatureCheck::is_good));
        trust.write(5000, b"behind the manifest, anything may come").unwrap();
        assert!(trust.write(0, b"no archive").is_err());
        file.write(0, b"no archive, sixty-four bytes long, so that it is a whole part....").unwrap();
        assert!(trust.resume(&mut file).is_err());
    }
}
