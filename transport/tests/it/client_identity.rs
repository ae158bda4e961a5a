//! Client certificates: shown whatever the server hints at, and refused in words when they can't be used.

use std::sync::Arc;

use crate::common::*;
use nerves_hub_link_transport::{
    ClientIdentity, Exchange, ExchangeEvent, ExchangeRequest, Tls, TlsError, TransportError,
};
use rcgen::KeyPair;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::PrivateKeyDer;

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Shows an identity to a server that wants one. Returns what the server saw and how the request ended.
fn show(
    version: &'static rustls::SupportedProtocolVersion,
    identity: Option<ClientIdentity>,
) -> (Vec<rustls_pki_types::CertificateDer<'static>>, Option<TransportError>) {
    let mut peer = Peer::mutual(version);
    let mut options = options();
    options.identity = identity;
    let tls = Tls::new(&options).unwrap();
    let url = Link::Tls12.url(false);
    let mut exchange = Exchange::new(&ExchangeRequest { url: &url, headers: &[], tls: Some(&tls) }).unwrap();
    let mut failure = None;
    for _ in 0..10 {
        peer.receive(&Machine::take_out(&mut exchange));
        exchange.receive(&peer.take_out());
        while let Some(event) = exchange.poll() {
            if let ExchangeEvent::Failed(error) = event {
                failure = Some(error);
            }
        }
    }
    (peer.shown(), failure)
}

/// Settings for everybody but the device's own server show nothing, also after the others were used.
#[test]
fn settings_without_identity_show_no_certificate() {
    let device = device();
    let mut options = options();
    let (certificates, key) = (vec![device.chain[0].to_vec()], device.key.clone());
    options.identity = Some(ClientIdentity::Der { certificates, key });
    let tls = Tls::new(&options).unwrap();
    for version in VERSIONS {
        for (tls, expected) in [(tls.clone(), 1), (tls.without_identity(), 0)] {
            let mut peer = Peer::mutual(version);
            let url = Link::Tls12.url(false);
            let request = ExchangeRequest { url: &url, headers: &[], tls: Some(&tls) };
            let mut exchange = Exchange::new(&request).unwrap();
            for _ in 0..10 {
                peer.receive(&Machine::take_out(&mut exchange));
                exchange.receive(&peer.take_out());
                while exchange.poll().is_some() {}
            }
            assert_eq!(peer.shown().len(), expected);
        }
    }
}

fn device() -> Identity {
    authority().server(&["device-1"])
}

#[test]
fn a_certificate_is_shown_whatever_authorities_the_server_hints_at() {
    let device = device();
    let certificate = pem("CERTIFICATE", &device.chain[0]);
    let key = pem("PRIVATE KEY", &device.key);
    let provider = rustls::crypto::ring::default_provider();
    let signer =
        provider.key_provider.load_private_key(PrivateKeyDer::try_from(device.key.clone()).unwrap()).unwrap();
    let signer = SingleCertAndKey::from(CertifiedKey::new(device.chain.clone(), signer));
    let both = format!("{key}{certificate}").into_bytes();
    for identity in [
        ClientIdentity::Pem { certificates: certificate.clone().into_bytes(), key: key.into_bytes() },
        ClientIdentity::Pem { certificates: both.clone(), key: both },
        ClientIdentity::Der { certificates: vec![device.chain[0].to_vec()], key: device.key.clone() },
        ClientIdentity::Signer(Arc::new(signer)),
    ] {
        for version in VERSIONS {
            assert_eq!(show(version, Some(identity.clone())), (device.chain.clone(), None), "{identity:?}");
        }
    }
}

#[test]
fn without_one_the_server_refuses() {
    for version in VERSIONS {
        let (shown, failure) = show(version, None);
        assert!(shown.is_empty());
        assert!(matches!(failure, Some(TransportError::Tls(_))), "{failure:?}");
    }
}

#[test]
fn what_cannot_be_used_is_said_in_words_and_no_key_is() {
    let device = device();
    let certificate = pem("CERTIFICATE", &device.chain[0]).into_bytes();
    let key = pem("PRIVATE KEY", &device.key).into_bytes();
    let stranger = KeyPair::generate().unwrap().serialize_der();
    let secret = String::from_utf8(key.clone()).unwrap().lines().nth(1).unwrap().to_owned();
    let why = |certificates: &[u8], key: &[u8]| {
        let mut options = options();
        let identity = ClientIdentity::Pem { certificates: certificates.to_vec(), key: key.to_vec() };
        assert!(!format!("{identity:?}").contains(&secret));
        options.identity = Some(identity);
        let error = Tls::new(&options).unwrap_err();
        let text = error.to_string();
        assert!(!text.contains(&secret), "{text}");
        (error, text)
    };
    let (error, text) = why(b"nothing", &key);
    assert!(
        matches!(error, TlsError::ClientCertificate { .. }) && text.contains("BEGIN CERTIFICATE"),
        "{text}"
    );
    let (error, text) = why(&certificate, b"nothing");
    assert!(matches!(error, TlsError::ClientKey { .. }), "{text}");
    let (error, text) = why(&certificate, pem("PRIVATE KEY", &stranger).as_bytes());
    assert!(matches!(error, TlsError::ClientKey { .. }) && text.contains("does not belong"), "{text}");
    let (error, text) = why(&certificate, pem("ENCRYPTED PRIVATE KEY", &device.key).as_bytes());
    assert!(matches!(error, TlsError::ClientKey { .. }) && text.contains("encrypted"), "{text}");
    let (error, text) = why(pem("CERTIFICATE", b"garbage").as_bytes(), &key);
    assert!(matches!(error, TlsError::ClientCertificate { .. } | TlsError::ClientKey { .. }), "{text}");
    let cut = [&certificate[..certificate.len() / 2], b"\n"].concat();
    assert!(matches!(why(&cut, &key).0, TlsError::ClientCertificate { .. }));
    let mut options = options();
    options.identity = Some(ClientIdentity::Der { certificates: Vec::new(), key: device.key });
    assert!(matches!(Tls::new(&options).unwrap_err(), TlsError::ClientCertificate { .. }));
}

/// The NervesHub takes expired certificates that it knows, so whether one is good is the server's to say.
#[test]
fn an_expired_certificate_is_shown_and_what_the_server_says_is_explained() {
    let expired = authority().until(&["device-1"], 2021);
    for version in VERSIONS {
        let certificates = expired.chain.iter().map(|der| der.to_vec()).collect();
        let identity = ClientIdentity::Der { certificates, key: expired.key.clone() };
        let (_, failure) = show(version, Some(identity));
        // This server refuses it, which it could not do had it not seen it.
        let text = failure.unwrap().to_string();
        assert!(
            text.contains("\"certificate expired\": this file server")
                && text.contains("refused the device's certificate"),
            "{text}"
        );
    }
}

/// Runs openssl in a folder; `None` if there is none.
fn openssl(dir: &std::path::Path, arguments: &str) -> Option<()> {
    let mut command = std::process::Command::new("openssl");
    let output = command.current_dir(dir).args(arguments.split(' ')).output().ok()?;
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

#[test]
fn keys_and_certificates_that_openssl_makes_work_or_are_refused_in_words() {
    let dir = std::env::temp_dir().join(format!("client-identity-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let kinds = [
        ("EC -pkeyopt ec_paramgen_curve:P-256", true),
        ("EC -pkeyopt ec_paramgen_curve:P-384", true),
        ("ED25519", true),
        ("RSA -pkeyopt rsa_keygen_bits:2048", true),
        ("RSA -pkeyopt rsa_keygen_bits:3072", true),
        ("EC -pkeyopt ec_paramgen_curve:P-521", false),
        ("ED448", false),
        ("RSA -pkeyopt rsa_keygen_bits:1024", false),
    ];
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    for (kind, supported) in kinds {
        if openssl(&dir, &format!("genpkey -algorithm {kind} -out key")).is_none() {
            drop(std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: no openssl here\n"));
            return;
        }
        openssl(&dir, "req -x509 -new -key key -subj /CN=device-1 -out certificate");
        let mut options = options();
        options.identity = Some(ClientIdentity::Pem { certificates: read("certificate"), key: read("key") });
        match Tls::new(&options) {
            Ok(_) => assert!(supported, "{kind}"),
            Err(error) => {
                let text = error.to_string();
                assert!(
                    !supported && text.contains("P-256 and P-384, Ed25519, and RSA with 2048"),
                    "{kind}: {text}"
                );
            }
        }
    }
    // What is wrong with these is for the server to judge: it sees them.
    openssl(&dir, "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key");
    openssl(&dir, "req -new -key key -subj /CN=device-1 -out request");
    openssl(&dir, "x509 -req -in request -signkey key -out v1");
    openssl(&dir, "req -x509 -new -sha1 -key key -subj /CN=device-1 -out sha1");
    for certificate in ["v1", "sha1"] {
        let identity = ClientIdentity::Pem { certificates: read(certificate), key: read("key") };
        let (_, failure) = show(&rustls::version::TLS12, Some(identity));
        let text = failure.unwrap().to_string();
        assert!(text.contains("refused the device's certificate"), "{certificate}: {text}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
