//! What went wrong with TLS, and what to do about it.

use rustls::{AlertDescription, CertificateError, Error as RustlsError};
use rustls_pki_types::UnixTime;

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
         the URL, or give the name to expect as server name"
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
    #[error("{host} refused the connection with the TLS alert {alert}: {meaning}")]
    Alert {
        /// The server.
        host: String,
        /// The alert's name (RFC 8446 §6).
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

    /// Puts what rustls says into words. `handshake` tells whether the handshake was still going on.
    pub(crate) fn explain(error: &RustlsError, host: &str, roots: &str, handshake: bool) -> Self {
        let host = host.to_owned();
        match error {
            RustlsError::InvalidCertificate(reason) => certificate(reason, host, roots),
            RustlsError::AlertReceived(alert) => {
                Self::Alert { host, alert: format!("{alert:?}"), meaning: meaning(*alert) }
            }
            RustlsError::FailedToGetCurrentTime => Self::NoTime { host },
            RustlsError::PeerIncompatible(why) => Self::Incompatible { host, why: format!("{why:?}") },
            RustlsError::InvalidMessage(why) if handshake => Self::NotTls { host, why: format!("{why:?}") },
            other => Self::Broken { host, why: other.to_string() },
        }
    }
}

fn certificate(reason: &CertificateError, host: String, roots: &str) -> TlsError {
    match reason {
        CertificateError::UnknownIssuer => TlsError::UnknownIssuer { host, roots: roots.to_owned() },
        CertificateError::ExpiredContext { time, not_after } => {
            TlsError::Expired { host, until: date(*not_after), now: date(*time) }
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            TlsError::NotYetValid { host, from: date(*not_before), now: date(*time) }
        }
        CertificateError::NotValidForNameContext { expected, presented } => TlsError::WrongName {
            host,
            wanted: expected.to_str().into_owned(),
            presented: if presented.is_empty() {
                "no name at all (its subject alternative names count, the common name does not)".to_owned()
            } else {
                names(presented)
            },
        },
        // The verifier's own error has no type here; its name is all there is.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => TlsError::BadCertificate {
            host,
            why: "it is a CA certificate; give the server a certificate of its own, signed by that CA"
                .to_owned(),
        },
        other => TlsError::BadCertificate { host, why: other.to_string() },
    }
}

/// Names from a certificate, at most five: the peer wrote them.
fn names(presented: &[String]) -> String {
    let mut shown: Vec<String> =
        presented.iter().take(5).map(|name| name.escape_default().take(100).collect()).collect();
    if presented.len() > shown.len() {
        shown.push(format!("{} more", presented.len() - shown.len()));
    }
    shown.join(", ")
}

/// What an alert means for a device. NervesHub answers `HandshakeFailure` to every certificate it
/// refuses (recording `tls_client_certificates`).
fn meaning(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::HandshakeFailure => {
            "the device's certificate was refused (device not registered or deleted, signer unknown, or certificate \
             expired), or no cipher is shared; check the device in NervesHub"
        }
        AlertDescription::CertificateRequired => {
            "the server wants a client certificate and this device gave none"
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => {
            "the server refused the device's certificate; check its signer and the device in NervesHub"
        }
        AlertDescription::ProtocolVersion => "no TLS version is shared; 1.2 and 1.3 are offered",
        AlertDescription::UnrecognisedName => {
            "the server does not serve this host name; check the host in the URL or the server name given"
        }
        AlertDescription::NoApplicationProtocol => "the server does not offer HTTP/1.1 on this port",
        AlertDescription::InternalError => "the server has a problem of its own; see its log",
        _ => "see RFC 8446 section 6 for the alert",
    }
}

/// A time as `2026-11-23 16:35 UTC`.
fn date(time: UnixTime) -> String {
    let seconds = time.as_secs();
    let (days, minutes) = (seconds / 86_400, seconds % 86_400 / 60);
    // Days to a civil date, counted in 400-year eras from 0000-03-01 (proleptic Gregorian calendar).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::date;
    use core::time::Duration;
    use rustls_pki_types::UnixTime;

    #[test]
    fn dates_are_civil() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_795_445_085, "2026-11-23 14:44 UTC"),
            (4_102_444_799, "2099-12-31 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(UnixTime::since_unix_epoch(Duration::from_secs(seconds))), expected);
        }
    }
}
