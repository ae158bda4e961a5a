//! Archives made of given parts, so that an input need not guess checksums.

use fwup_stream::trust::{Blake2b256, to_hex};

use crate::firmware::SigningKey;
use crate::firmware::zip::{ArchiveWriter, Head, META_CONF, SIGNATURE};

/// The key that harness archives are signed with.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_seed(7)
}

/// Makes an archive of a manifest and resources; signed when asked for.
pub(crate) fn archive(manifest: &[u8], resources: &[(&str, &[u8])], signed: bool) -> Vec<u8> {
    let mut writer = ArchiveWriter::new(Vec::new(), 0);
    let mut add = |name: &str, content: &[u8]| {
        // Writing into a vector cannot fail, and no part here comes near the limits of the format.
        let _ = writer.entry(&Head::new(name, 0), content.len() as u64, &mut &*content);
    };
    if signed {
        add(SIGNATURE, &key().sign(manifest));
    }
    add(META_CONF, manifest);
    for (name, content) in resources {
        add(&format!("data/{name}"), content);
    }
    writer.finish().unwrap_or_default()
}

/// The section of a manifest that describes a resource.
pub(crate) fn section(name: &str, content: &[u8]) -> String {
    let mut digest = Blake2b256::new();
    digest.update(content);
    let digest = to_hex(&digest.finalize());
    format!("file-resource \"{name}\" {{\nlength={}\nblake2b-256={digest}\n}}\n", content.len())
}
