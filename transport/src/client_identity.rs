//! What a device shows to prove who it is (mutual TLS, device-protocol §2.1).

use std::fmt;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::{ClientConfig, ConfigBuilder};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::TlsError;

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

/// Completes TLS settings with an identity, or without one.
pub(crate) fn present(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, TlsError> {
    let (chain, key) = match identity {
        None => return Ok(builder.with_no_client_auth()),
        Some(ClientIdentity::Signer(signer)) => {
            return Ok(builder.with_client_cert_resolver(Arc::clone(signer)));
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
    builder.with_client_auth_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::ClientKey { why: "it does not belong to the certificate".to_owned() }
        }
        rustls::Error::InvalidCertificate(why) => TlsError::ClientCertificate { why: format!("{why:?}") },
        other => TlsError::ClientKey { why: other.to_string() },
    })
}

fn from_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::ClientCertificate { why: error.to_string() })
}

fn key_from_pem(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    if text.windows(9).any(|window| window == b"ENCRYPTED") {
        let why = "it is encrypted; give it without a passphrase, readable by this program alone".to_owned();
        return Err(TlsError::ClientKey { why });
    }
    PrivateKeyDer::from_pem_slice(text).map_err(unusable_key)
}

fn unusable_key(error: impl fmt::Display) -> TlsError {
    TlsError::ClientKey { why: error.to_string() }
}
