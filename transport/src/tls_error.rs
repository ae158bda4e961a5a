//! What went wrong with TLS, and what to do about it.

use rustls::Error as RustlsError;

use crate::tls_words::{certificate, incompatible, meaning, spaced};

/// Why TLS cannot be set up, or why a TLS connection ended, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The PEM text given as trust roots holds no certificate.
    #[error(
        "the {size} bytes given as PEM trust roots hold no certificate: a section \"-----BEGIN CERTIFICATE-----\" is needed"
    )]
    EmptyRootsPem {
        /// Bytes given.
        size: usize,
    },
    /// The PEM text given as trust roots is damaged.
    #[error("certificate {number} in the PEM trust roots cannot be read: {why}")]
    BadRootsPem {
        /// Its place, from 1.
        number: usize,
        /// The reason.
        why: String,
    },
    /// An empty list of trust roots was given.
    #[error(
        "the list of DER trust roots is empty, so no server could be trusted: give at least one certificate"
    )]
    EmptyRoots,
    /// A certificate given as trust root cannot be used as one.
    #[error("{form} certificate {number} of the trust roots cannot be used: {why}")]
    BadRoot {
        /// Its place, from 1.
        number: usize,
        /// `PEM` or `DER`.
        form: &'static str,
        /// The reason.
        why: String,
    },
    /// The certificate that the device is to show can't be used.
    #[error("the client certificate can't be used: {why}")]
    ClientCertificate {
        /// The reason.
        why: String,
    },
    /// The key of the certificate that the device is to show can't be used.
    #[error("the key of the client certificate can't be used: {why}")]
    ClientKey {
        /// The reason. Holds nothing of the key.
        why: String,
    },
    /// A name that no certificate could be checked against.
    #[error("{name:?} is neither a DNS name nor an IP address, so no certificate can be checked against it")]
    ServerName {
        /// The name.
        name: String,
    },
    /// The settings cannot be used.
    #[error("TLS cannot be set up: {why}")]
    Setup {
        /// The reason.
        why: String,
    },
    /// The server's certificate comes from an authority we do not trust.
    #[error(
        "the certificate of {host} was issued by an unknown authority, not by one of {roots}: give the \
         certificate (PEM or DER) of the CA that signed the server's certificate as trust root"
    )]
    UnknownIssuer {
        /// The server.
        host: String,
        /// Where our roots came from.
        roots: String,
    },
    /// The server's certificate is out of date, or our clock is ahead.
    #[error(
        "the certificate of {host} expired on {until}, and the clock of this device says {now}: check the clock \
         first; if it is right, the server's certificate must be renewed"
    )]
    Expired {
        /// The server.
        host: String,
        /// End of validity, UTC.
        until: String,
        /// What the clock said, UTC.
        now: String,
    },
    /// The server's certificate is not valid yet: our clock is behind, almost always.
    #[error(
        "the certificate of {host} is not valid before {from}, and the clock of this device says {now}: \
         the clock is probably behind, set it (NTP, battery)"
    )]
    NotYetValid {
        /// The server.
        host: String,
        /// Start of validity, UTC.
        from: String,
        /// What the clock said, UTC.
        now: String,
    },
    /// The server's certificate is for another name.
    #[error(
        "the certificate of {host} is not valid for the name {wanted}, it is for {presented}: check the host in \
         the URL"
    )]
    WrongName {
        /// The server.
        host: String,
        /// The name looked for.
        wanted: String,
        /// The names in the certificate.
        presented: String,
    },
    /// The server's certificate is bad in another way.
    #[error("the certificate of {host} cannot be trusted: {why}")]
    BadCertificate {
        /// The server.
        host: String,
        /// The reason.
        why: String,
    },
    /// The time is not known, so no certificate can be checked.
    #[error("the time is not known, so the certificate of {host} cannot be checked: set the clock")]
    NoTime {
        /// The server.
        host: String,
    },
    /// The server refused us with a TLS alert.
    #[error("{host} refused the connection with the TLS alert \"{alert}\": {meaning}")]
    Alert {
        /// The server.
        host: String,
        /// The alert's name (RFC 8446 §6), with spaces.
        alert: String,
        /// What it means for a device.
        meaning: &'static str,
    },
    /// What came is not TLS.
    #[error("{host} does not speak TLS on this port ({why}): check the port and the scheme of the URL")]
    NotTls {
        /// The server.
        host: String,
        /// The reason.
        why: String,
    },
    /// Server and client have no version or cipher in common.
    #[error("{host} and this device share no TLS version (1.2 and 1.3 are offered) or cipher: {why}")]
    Incompatible {
        /// The server.
        host: String,
        /// The reason.
        why: String,
    },
    /// Anything else: a damaged or hostile stream.
    #[error("the TLS connection to {host} failed: {why}")]
    Broken {
        /// The server.
        host: String,
        /// The reason.
        why: String,
    },
}

impl TlsError {
    /// Tells whether the same attempt may work later with nothing changed on our side.
    ///
    /// True for all that a server, a clock or a registration can cure; false for bad settings.
    pub fn is_retryable(&self) -> bool {
        !matches!(
            self,
            Self::EmptyRootsPem { .. }
                | Self::BadRootsPem { .. }
                | Self::EmptyRoots
                | Self::BadRoot { .. }
                | Self::ServerName { .. }
                | Self::Setup { .. }
        )
    }

    /// Puts what rustls says into words. `handshake` tells whether the handshake was still going on, `shown` whether the
    /// device showed a certificate of its own, `hub` whether the server is the hub.
    pub(crate) fn explain(
        error: &RustlsError,
        host: &str,
        roots: &str,
        handshake: bool,
        shown: bool,
        hub: bool,
    ) -> Self {
        let host = host.to_owned();
        match error {
            RustlsError::InvalidCertificate(reason) => certificate(reason, host, roots),
            RustlsError::AlertReceived(alert) => {
                let (alert, meaning) = (spaced(&format!("{alert:?}")), meaning(*alert, shown, hub));
                Self::Alert { host, alert, meaning }
            }
            RustlsError::FailedToGetCurrentTime => Self::NoTime { host },
            RustlsError::PeerIncompatible(why) => Self::Incompatible { host, why: incompatible(why) },
            RustlsError::InvalidMessage(_) if handshake => {
                Self::NotTls { host, why: "its answer is no TLS message".to_owned() }
            }
            RustlsError::InvalidMessage(_) => {
                Self::Broken { host, why: "a damaged TLS message came".to_owned() }
            }
            other => Self::Broken { host, why: other.to_string() },
        }
    }
}
