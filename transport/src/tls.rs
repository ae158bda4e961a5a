//! TLS settings shared by all connections to servers of one kind.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::{ServerName, UnixTime};

use crate::client_identity::Shown;
use crate::{ClientIdentity, Roots, TlsError, client_identity, roots};

/// What a TLS client may be told. Start from [`TlsOptions::default`] or [`TlsOptions::new`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TlsOptions {
    /// Who may vouch for the server. Default: the operating system's roots.
    pub roots: Roots,
    /// Name to ask for (SNI) and to find in the server's certificate, instead of the URL's host.
    pub server_name: Option<String>,
    /// The wall clock certificates are checked against. Default: the system's.
    pub clock: Clock,
    /// What to show to prove who the device is. Default: nothing. Not for downloads from strangers' servers, which
    /// could ask for it, too.
    pub identity: Option<ClientIdentity>,
}

impl TlsOptions {
    /// Options with these roots and all else by default.
    pub fn new(roots: Roots) -> Self {
        Self { roots, ..Self::default() }
    }

    /// The options for downloads of a device whose socket has these: the operating system's roots are trusted beside the
    /// given ones, and neither the device's identity nor another name for the server goes along.
    #[must_use]
    pub fn for_downloads(&self) -> Self {
        Self { roots: self.roots.and_system(), server_name: None, identity: None, clock: self.clock.clone() }
    }
}

/// The wall clock that certificates are checked against.
///
/// Nothing else in this crate asks for the time. A device without a battery-backed clock can pass one
/// that never answers a time before its firmware was built; a simulation passes its own.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Clock {
    /// The system's clock, read by rustls.
    #[default]
    System,
    /// Seconds since 1970-01-01 UTC, or `None` when the time is not known, which refuses every server.
    Custom(Arc<dyn Fn() -> Option<u64> + Send + Sync>),
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Custom(_) => "Custom",
        })
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        match self {
            Self::System => DefaultTimeProvider.current_time(),
            Self::Custom(now) => {
                now().map(|seconds| UnixTime::since_unix_epoch(core::time::Duration::from_secs(seconds)))
            }
        }
    }
}

/// TLS settings, checked and ready; cheap to clone.
///
/// TLS 1.2 and 1.3 are offered (device endpoints speak 1.2 alone by default, device-protocol §2.1),
/// HTTP/1.1 is named by ALPN, and sessions are resumed between connections that share one `Tls`.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    /// Words for where the roots came from, for the one error that needs them.
    roots: Arc<str>,
    downloads: Arc<Downloads>,
    shown: Shown,
    /// The same without the device's identity, if there is one.
    anonymous: Option<Arc<ClientConfig>>,
}

/// The settings for downloads that go with others, made when they are asked for.
enum Downloads {
    /// They are the same.
    Same,
    Other {
        options: Box<TlsOptions>,
        made: OnceLock<Tls>,
    },
}

impl Tls {
    /// Checks the options and loads the roots. [`Roots::System`] reads files here, and only here.
    ///
    /// # Errors
    /// [`TlsError`] naming the certificate, the key or the name that cannot be used.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let roots = roots::load(&options.roots)?;
        let server_name = options.server_name.as_deref().map(server_name).transpose()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clock: Arc<dyn TimeProvider> = Arc::new(options.clock.clone());
        let store = Arc::new(roots.store);
        let shown = Shown::default();
        let make = |identity| {
            let builder = ClientConfig::builder_with_details(Arc::clone(&provider), clock.clone())
                .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
                .map_err(|error| TlsError::Setup { why: error.to_string() })?
                .with_root_certificates(Arc::clone(&store));
            let mut config = client_identity::present(builder, identity, &shown)?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok::<_, TlsError>(Arc::new(config))
        };
        let config = make(options.identity.as_ref())?;
        // Made apart, so that no session of the one is resumed by the other.
        let anonymous = options.identity.as_ref().map(|_| make(None)).transpose()?;
        let same = options.roots == Roots::System && server_name.is_none() && options.identity.is_none();
        let downloads = if same {
            Downloads::Same
        } else {
            Downloads::Other { options: Box::new(options.for_downloads()), made: OnceLock::new() }
        };
        let downloads = Arc::new(downloads);
        Ok(Self { config, server_name, roots: roots.origin.into(), downloads, shown, anonymous })
    }

    /// The same settings for servers that must not learn who the device is: no certificate is shown to them.
    #[must_use]
    pub fn without_identity(&self) -> Self {
        match &self.anonymous {
            Some(config) => {
                Self { config: Arc::clone(config), anonymous: None, shown: Shown::default(), ..self.clone() }
            }
            None => self.clone(),
        }
    }

    /// The settings for downloads that go with these: see [`TlsOptions::for_downloads`]. Made once, with the first call.
    ///
    /// # Errors
    /// [`TlsError`], if they cannot be made.
    pub fn for_downloads(&self) -> Result<Self, TlsError> {
        match &*self.downloads {
            Downloads::Same => Ok(self.clone()),
            Downloads::Other { options, made } => {
                if let Some(tls) = made.get() {
                    return Ok(tls.clone());
                }
                let tls = Self::new(options)?;
                Ok(made.get_or_init(|| tls).clone())
            }
        }
    }

    /// Words for where the trust roots came from.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// Returns how often the device's certificate was shown.
    pub(crate) const fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Starts a connection to `host`.
    pub(crate) fn connect(&self, host: &str) -> Result<ClientConnection, TlsError> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        ClientConnection::new(Arc::clone(&self.config), name)
            .map_err(|error| TlsError::Setup { why: error.to_string() })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("roots", &self.roots)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName { name: name.to_owned() })
}
