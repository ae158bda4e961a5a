//! A certificate authority for one run, and the streams it secures.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// The server's TLS settings and its CA.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub config: Arc<ServerConfig>,
    pub ca_pem: String,
    authority: Arc<Authority>,
}

/// The CA, and whose certificates it signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Identifiers by certificate, in DER.
    devices: Mutex<BTreeMap<Vec<u8>, String>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Signs a certificate for a device. Returns it and its key, in PEM.
    fn sign(&self, identifier: &str) -> io::Result<(String, String)> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, identifier);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.insert(certificate.der().to_vec(), identifier.to_owned());
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

impl Tls {
    /// Makes a CA and a certificate for `localhost` and the loopback addresses, one whose time is over if so wanted.
    pub fn generate(expired: bool) -> io::Result<Self> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "NervesHub testkit CA");
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(authority, key).map_err(io::Error::other)?;
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut leaf = CertificateParams::new(names).map_err(io::Error::other)?;
        if expired {
            leaf.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = leaf.signed_by(&key, &issuer).map_err(io::Error::other)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).map_err(io::Error::other)?;
        // As the real server: asked for, not demanded, and without a hint at who may sign.
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .clear_root_hint_subjects()
            .build()
            .map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], private)
            .map_err(io::Error::other)?;
        let ca_pem = issuer.pem();
        let authority = Arc::new(Authority { issuer, devices: Mutex::default() });
        Ok(Self { config: Arc::new(config), ca_pem, authority })
    }

    /// Makes a client certificate for a device. Returns it and its key, in PEM.
    pub fn device_certificate(&self, identifier: &str) -> io::Result<(String, String)> {
        self.authority.sign(identifier)
    }

    /// The device that a connection's client certificate belongs to.
    pub fn device(&self, stream: &Stream) -> Option<String> {
        let Stream::Secure(stream) = stream else { return None };
        let shown = stream.conn.peer_certificates()?.first()?;
        let devices = self.authority.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.get(shown.as_ref()).cloned()
    }
}

/// A connection, secured or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Secure(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    pub fn new(socket: TcpStream, tls: Option<&Tls>) -> io::Result<Self> {
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        let connection = ServerConnection::new(Arc::clone(&tls.config)).map_err(io::Error::other)?;
        Ok(Self::Secure(Box::new(StreamOwned::new(connection, socket))))
    }

    /// Says that nothing more will be sent, in the way of the protocol.
    pub fn finish(&mut self) {
        if let Self::Secure(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Ends the connection as a network failure would: no goodbye in TLS.
    pub fn cut(&mut self) {
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Secure(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Secure(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Secure(stream) => stream.flush(),
        }
    }
}
