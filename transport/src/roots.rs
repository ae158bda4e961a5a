//! Trust roots: which certificate authorities may vouch for a server.

use std::fmt;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::TlsError;
use crate::tls_words::defect;

/// Where the trusted certificate authorities come from.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Roots {
    /// The operating system's (`SSL_CERT_FILE` and `SSL_CERT_DIR` are obeyed), or Mozilla's list built
    /// in where the system has none.
    #[default]
    System,
    /// The certificates in a PEM text, and no others.
    Pem(Vec<u8>),
    /// These DER certificates, and no others.
    Der(Vec<Vec<u8>>),
    /// All of these together.
    All(Vec<Roots>),
}

impl Roots {
    /// Checks that they can be used.
    ///
    /// # Errors
    /// [`TlsError`] naming the certificate that cannot.
    pub fn check(&self) -> Result<(), TlsError> {
        load(self).map(drop)
    }

    /// These roots and the operating system's, as downloads need them: firmware is often kept by strangers, and is signed.
    #[must_use]
    pub fn and_system(&self) -> Self {
        match self {
            Self::System => Self::System,
            given => Self::All(vec![Self::System, given.clone()]),
        }
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => write!(f, "System"),
            Self::Pem(pem) => write!(f, "Pem({} bytes)", pem.len()),
            Self::Der(ders) => write!(f, "Der({} certificates)", ders.len()),
            Self::All(all) => f.debug_tuple("All").field(all).finish(),
        }
    }
}

/// Roots ready for use, and words for where they came from.
pub(crate) struct Loaded {
    pub(crate) store: RootCertStore,
    pub(crate) origin: String,
}

/// Loads roots. Of the system's own, unreadable ones are passed over; of given ones, none is.
pub(crate) fn load(roots: &Roots) -> Result<Loaded, TlsError> {
    match roots {
        Roots::System => Ok(system()),
        Roots::Pem(pem) => {
            let mut ders = Vec::new();
            let text = crate::pem::text(pem)
                .map_err(|why| TlsError::BadRootsPem { number: 1, why: why.to_owned() })?;
            for (index, item) in CertificateDer::pem_slice_iter(&text).enumerate() {
                let der = item
                    .map_err(|error| TlsError::BadRootsPem { number: index + 1, why: error.to_string() })?;
                ders.push(der);
            }
            if ders.is_empty() {
                return Err(TlsError::EmptyRootsPem { size: pem.len() });
            }
            given(ders, "PEM")
        }
        Roots::Der(ders) if ders.is_empty() => Err(TlsError::EmptyRoots),
        Roots::Der(ders) => given(ders.iter().map(|der| CertificateDer::from(der.clone())), "DER"),
        Roots::All(all) if all.is_empty() => Err(TlsError::EmptyRoots),
        Roots::All(all) => {
            let (mut store, mut origins) = (RootCertStore::empty(), Vec::new());
            for roots in all {
                let loaded = load(roots)?;
                store.extend(loaded.store.roots);
                origins.push(loaded.origin);
            }
            Ok(Loaded { store, origin: origins.join(" and ") })
        }
    }
}

fn given(
    ders: impl IntoIterator<Item = CertificateDer<'static>>,
    form: &'static str,
) -> Result<Loaded, TlsError> {
    let mut store = RootCertStore::empty();
    for (index, der) in ders.into_iter().enumerate() {
        store.add(der).map_err(|error| {
            let why = match &error {
                rustls::Error::InvalidCertificate(reason) => defect(reason),
                other => other.to_string(),
            };
            TlsError::BadRoot { number: index + 1, form, why }
        })?;
    }
    let origin = match store.len() {
        1 => format!("the 1 {form} certificate given as trust root"),
        count => format!("the {count} {form} certificates given as trust roots"),
    };
    Ok(Loaded { store, origin })
}

fn system() -> Loaded {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added > 0 {
        return Loaded { store, origin: format!("the {added} trust roots of the operating system") };
    }
    store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let origin = "Mozilla's built-in trust roots, as the operating system has none".to_owned();
    Loaded { store, origin }
}
