//! What the TLS library says, in words for people.

use rustls::{AlertDescription, CertificateError, PeerIncompatible};
use rustls_pki_types::UnixTime;

use crate::tls_error::TlsError;

/// Explains why a server's certificate is refused.
pub(crate) fn certificate(reason: &CertificateError, host: String, roots: &str) -> TlsError {
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
        other => TlsError::BadCertificate { host, why: defect(other) },
    }
}

/// Says what is wrong with a certificate.
pub(crate) fn defect(reason: &CertificateError) -> String {
    let text = match reason {
        CertificateError::BadEncoding => "it is damaged",
        CertificateError::Expired => "it expired",
        CertificateError::NotValidYet => "it is not valid yet",
        CertificateError::Revoked => "its authority revoked it",
        CertificateError::UnhandledCriticalExtension => {
            "it has a critical extension that this TLS library does not support"
        }
        CertificateError::BadSignature => {
            "its signature is not that of the authority it names, which may have been made anew under the same name: give \
             the present certificate of that authority as trust root"
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it, or the certificate of an authority above it, has a key or signature that this TLS library does not \
             support; it supports ECDSA on P-256 and P-384, Ed25519, and RSA with 2048 to 8192 bits, with SHA-256 or \
             better, but not P-521, Ed448, shorter RSA keys or SHA-1"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not meant for TLS servers (extended key usage)"
        }
        CertificateError::InvalidOcspResponse => "the proof that it is not revoked is wrong",
        CertificateError::Other(other) => {
            // The verifier's own error has no type here; its name is all there is.
            let name = format!("{other:?}");
            return if name.contains("CaUsedAsEndEntity") {
                "it is a CA certificate; give the server a certificate of its own, signed by that CA"
                    .to_owned()
            } else if name.contains("UnsupportedCertVersion") {
                "it is an X.509 v1 or v2 certificate, and this TLS library supports v3 alone".to_owned()
            } else {
                let name = name.rsplit('(').next().unwrap_or_default().trim_end_matches(')');
                format!("the TLS library says: {}", spaced(name))
            };
        }
        other => return format!("the TLS library says: {other}"),
    };
    text.to_owned()
}

/// Says why client and server do not fit.
pub(crate) fn incompatible(why: &PeerIncompatible) -> String {
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "it speaks older versions only".to_owned()
        }
        PeerIncompatible::ExtendedMasterSecretExtensionRequired => {
            "it lacks the extended master secret".to_owned()
        }
        PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "it wants a client certificate with a kind of signature that this TLS library does not support"
                .to_owned()
        }
        other => spaced(&format!("{other:?}")),
    }
}

/// Makes words of a name of the library's: `HandshakeFailure` becomes `handshake failure`.
pub(crate) fn spaced(name: &str) -> String {
    let mut words = String::new();
    let mut last = ' ';
    for letter in name.chars() {
        if letter.is_uppercase() && last.is_lowercase() {
            words.push(' ');
        }
        last = letter;
        words.extend(letter.to_lowercase());
    }
    words
}

/// Takes a name out of the library's `DnsName("x")` or `IpAddress(x)`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.map_or(name, |inner| inner.trim_matches('"'))
}

/// Returns an address in its usual form: the library writes `0::1`.
fn address(name: &str) -> String {
    name.parse().map_or_else(|_| name.to_owned(), |address: core::net::IpAddr| address.to_string())
}

/// Names from a certificate, at most five: the peer wrote them.
fn names(presented: &[String]) -> String {
    let mut shown: Vec<String> = presented
        .iter()
        .take(5)
        .map(|name| address(bare(name)).escape_default().take(100).collect())
        .collect();
    if presented.len() > shown.len() {
        shown.push(format!("{} more", presented.len() - shown.len()));
    }
    shown.join(", ")
}

/// What an alert means for a device that did or did not show a certificate. NervesHub answers `HandshakeFailure` to every
/// certificate it refuses (recording `tls_client_certificates`).
pub(crate) fn meaning(alert: AlertDescription, shown: bool, hub: bool) -> &'static str {
    match alert {
        AlertDescription::HandshakeFailure if !shown && !hub => {
            "this file server, which is not the hub, shares no TLS version, cipher or curve with this device, or wants a client \
             certificate, which file servers don't get; ask who runs it"
        }
        AlertDescription::HandshakeFailure if !shown => {
            "no TLS version, cipher or curve is shared, or the hub wants a client certificate; this device showed none"
        }
        AlertDescription::HandshakeFailure if !hub => {
            "this file server, which is not the hub, refused the device's certificate, or shares no cipher; ask who runs it"
        }
        AlertDescription::HandshakeFailure => {
            "the device's certificate was refused (device not registered or deleted, signer unknown, or certificate \
             expired), or no cipher is shared; check the device in NervesHub"
        }
        AlertDescription::DecryptError if shown && hub => {
            "the server found a signature wrong: the device's certificate comes from another authority of the same name, or \
             its key belongs to another certificate; check both, and the signer in NervesHub"
        }
        AlertDescription::DecryptError if shown => {
            "this file server, which is not the hub, refused the device's certificate; ask who runs it"
        }
        AlertDescription::CertificateRequired if !hub => {
            "this file server, which is not the hub, wants a client certificate, which file servers don't get; ask who runs it"
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
        | AlertDescription::AccessDenied => match (shown, hub) {
            (false, _) => {
                "the server complains about a certificate, and this device showed none; see the server's log"
            }
            (true, false) => {
                "this file server, which is not the hub, refused the device's certificate; ask who runs it"
            }
            (true, true) => {
                "the server refused the device's certificate; check its signer and the device in NervesHub"
            }
        },
        AlertDescription::ProtocolVersion => "no TLS version is shared; 1.2 and 1.3 are offered",
        AlertDescription::UnrecognisedName => {
            "the server does not serve this host name; check the host in the URL"
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
    use super::{address, bare, date, meaning, spaced};
    use core::time::Duration;
    use rustls::AlertDescription;
    use rustls_pki_types::UnixTime;

    #[test]
    fn names_of_the_library_become_words() {
        assert_eq!(spaced("HandshakeFailure"), "handshake failure");
        assert_eq!(spaced("UnknownCA"), "unknown ca");
        assert_eq!((bare("DnsName(\"x.test\")"), bare("IpAddress(127.0.0.1)")), ("x.test", "127.0.0.1"));
        assert_eq!(bare("x.test"), "x.test");
        assert_eq!(
            (address("0::1"), address("127.0.0.1"), address("x.test")),
            ("::1".into(), "127.0.0.1".into(), "x.test".into())
        );
    }

    /// A certificate is blamed only if the server saw it.
    #[test]
    fn the_certificate_is_not_blamed_unless_it_was_shown() {
        let said = |shown| meaning(AlertDescription::HandshakeFailure, shown, true);
        let file = meaning(AlertDescription::HandshakeFailure, true, false);
        assert!(file.contains("file server") && !file.contains("NervesHub"), "{file}");
        assert!(said(true).contains("device not registered") && !said(true).contains("none"));
        let signature = |shown| meaning(AlertDescription::DecryptError, shown, true);
        assert!(signature(true).contains("another authority") && !signature(false).contains("certificate"));
        assert!(said(false).contains("this device showed none") && !said(false).contains("registered"));
        for alert in [AlertDescription::HandshakeFailure, AlertDescription::CertificateRequired] {
            let file = meaning(alert, false, false);
            assert!(
                file.contains("file server, which is not the hub") && !file.contains("NervesHub"),
                "{file}"
            );
            assert!(!meaning(alert, false, true).contains("file server"));
        }
    }

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
