//! What a device shows to prove who it is (mutual TLS, device-protocol §2.1).

use std::fmt;
use std::sync::Arc;

use core::sync::atomic::{AtomicUsize, Ordering};

use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, ConfigBuilder, InconsistentKeys, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::{TlsError, pem, tls_words};

/// A client certificate with its key.
///
/// It is shown whatever authorities the server hints at: NervesHub's hints don't name the organisation's own.
#[derive(Clone)]
#[non_exhaustive]
pub enum ClientIdentity {
    /// PEM texts; both may be the same.
    Pem {
        /// The device's certificate, then those of its signers, if any.
        certificates: Vec<u8>,
        /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
        key: Vec<u8>,
    },
    /// DER.
    Der {
        /// The device's certificate, then those of its signers, if any.
        certificates: Vec<Vec<u8>>,
        /// Its private key: PKCS#8, PKCS#1 or SEC1, not encrypted.
        key: Vec<u8>,
    },
    /// A signer of the caller's, for keys that hardware holds.
    Signer(Arc<dyn ResolvesClientCert>),
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pem { .. } => "Pem",
            Self::Der { .. } => "Der",
            Self::Signer(_) => "Signer",
        })
    }
}

/// How often a certificate was shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown(Arc<AtomicUsize>);

impl Shown {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts how often a certificate is shown, so that a refusal is not blamed on one that the server never saw.
#[derive(Debug)]
struct Counting {
    signer: Arc<dyn ResolvesClientCert>,
    shown: Shown,
}

impl ResolvesClientCert for Counting {
    fn resolve(&self, hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.signer.resolve(hints, schemes)?;
        // Without a scheme in common nothing is sent.
        if key.key.choose_scheme(schemes).is_some() {
            self.shown.0.fetch_add(1, Ordering::Relaxed);
        }
        Some(key)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.signer.only_raw_public_keys()
    }

    fn has_certs(&self) -> bool {
        self.signer.has_certs()
    }
}

/// Completes TLS settings with an identity, or without one.
pub(crate) fn present(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<&ClientIdentity>,
    shown: &Shown,
) -> Result<ClientConfig, TlsError> {
    let counted = |signer| Arc::new(Counting { signer, shown: shown.clone() });
    let (chain, key) = match identity {
        None => return Ok(builder.with_no_client_auth()),
        Some(ClientIdentity::Signer(signer)) => {
            return Ok(builder.with_client_cert_resolver(counted(Arc::clone(signer))));
        }
        Some(ClientIdentity::Pem { certificates, key }) => (from_pem(certificates)?, key_from_pem(key)?),
        Some(ClientIdentity::Der { certificates, key }) => {
            let key = PrivateKeyDer::try_from(key.clone()).map_err(unusable_key)?;
            (certificates.iter().map(|der| CertificateDer::from(der.clone())).collect(), key)
        }
    };
    if chain.is_empty() {
        let why = "there is none; a section \"-----BEGIN CERTIFICATE-----\" is needed".to_owned();
        return Err(TlsError::ClientCertificate { why });
    }
    let key = builder
        .crypto_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| TlsError::ClientKey { why: UNSUPPORTED_KEY.to_owned() })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Whether it accepts a certificate that this library can't read, such as X.509 v1, is for the server to judge.
        Ok(())
        | Err(
            rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)
            | rustls::Error::InvalidCertificate(CertificateError::Other(_)),
        ) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(TlsError::ClientKey { why: "it does not belong to the certificate".to_owned() });
        }
        Err(rustls::Error::InvalidCertificate(why)) => {
            return Err(TlsError::ClientCertificate { why: tls_words::defect(&why) });
        }
        Err(other) => return Err(TlsError::ClientCertificate { why: other.to_string() }),
    }
    let signer: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(certified));
    Ok(builder.with_client_cert_resolver(counted(signer)))
}

/// Which keys can sign: what `ring` knows.
const UNSUPPORTED_KEY: &str = "it is damaged, or of a kind that this TLS library does not support; it supports ECDSA on \
    P-256 and P-384, Ed25519, and RSA with 2048 to 4096 bits, but not P-521, Ed448 or shorter RSA keys";

fn from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = pem::text(text).map_err(|why| TlsError::ClientCertificate { why: why.to_owned() })?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::ClientCertificate { why: error.to_string() })
}

fn key_from_pem(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = &*pem::text(text).map_err(|why| TlsError::ClientKey { why: why.to_owned() })?;
    if text.windows(9).any(|window| window == b"ENCRYPTED") {
        let why = "it is encrypted; give it without a passphrase, readable by this program alone".to_owned();
        return Err(TlsError::ClientKey { why });
    }
    PrivateKeyDer::from_pem_slice(text).map_err(unusable_key)
}

fn unusable_key(error: impl fmt::Display) -> TlsError {
    TlsError::ClientKey { why: error.to_string() }
}
