//! Where a URL points: scheme, host, port and request target.

use core::fmt;

use nerves_hub_link_url::{Url, UrlError};

/// The parts of a `ws`, `wss`, `http` or `https` URL that a connection needs.
///
/// `Debug` and `Display` hide the query: in signed URLs it is a credential (device-protocol §6.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Whether TLS is spoken: `wss` and `https`.
    pub secure: bool,
    /// Host name or IP address to connect to; IPv6 without brackets.
    pub host: String,
    /// TCP port; 443 or 80 where the URL gives none.
    pub port: u16,
    /// Request target, from `/` on, the fragment dropped.
    pub path_and_query: String,
}

impl Address {
    /// Parses a URL, as [`nerves_hub_link_url`] does for all of the device: what browsers percent-encode in path and query is
    /// percent-encoded.
    ///
    /// # Errors
    /// [`AddressError`] when it is no URL, its scheme is another one, it has no host, or it carries a
    /// user name or password (which would end up in logs; credentials travel in headers here).
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let parsed = Url::parse(url).map_err(|why| AddressError::Unusable { url: shown(url), why })?;
        Ok(Self {
            secure: parsed.is_tls(),
            host: parsed.host().to_owned(),
            port: parsed.port(),
            path_and_query: parsed.target().to_owned(),
        })
    }

    /// Host as written in a URL or `Host` header: IPv6 in brackets, the port only where it is not the
    /// scheme's own.
    pub fn authority(&self) -> String {
        let default_port = if self.secure { 443 } else { 80 };
        let host = bracketed(&self.host);
        if self.port == default_port { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "tls" } else { "tcp" };
        let (path, query) = match self.path_and_query.split_once('?') {
            Some((path, _)) => (path, "?..."),
            None => (self.path_and_query.as_str(), ""),
        };
        write!(f, "{scheme}://{}{path}{query}", self.authority())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Brackets around an IPv6 address, as `Host` headers and `CONNECT` need them.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{}]", host.replacen('%', "%25", 1)) } else { host.to_owned() }
}

/// Why a URL cannot be used. User, password and query are never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// No URL, or not one of the four schemes.
    #[error("{url:?} is not a usable URL: {why}")]
    Unusable {
        /// The URL as far as it may be shown.
        url: String,
        /// The reason.
        why: UrlError,
    },
    /// A proxy of another scheme than `http`.
    #[error("the proxy {url:?} is to be reached over {scheme:?}; only http:// proxies are supported")]
    ProxyScheme {
        /// The URL as far as it may be shown.
        url: String,
        /// The scheme found.
        scheme: String,
    },
}

/// A URL cut down to what may be logged: no query, no user name, at most 120 characters.
fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or(url);
    // Without a scheme the text is taken for host and path.
    let (scheme, rest) = plain.split_once("://").unwrap_or(("", plain));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = match authority.rsplit_once('@') {
        Some((_, host)) => host,
        // A password with a question mark in it ends only behind it.
        None if path.is_empty() && url.contains('@') => "",
        // `user:password:host`, with a colon where the @ belongs. An IPv6 address without brackets holds no other letters.
        None if !authority.starts_with('[')
            && authority.matches(':').count() > 1
            && authority.contains(|c: char| !c.is_ascii_hexdigit() && !matches!(c, ':' | '.' | '%')) =>
        {
            "..."
        }
        None => authority,
    };
    // `user:password@https://host`, with the scheme behind them.
    let scheme = if scheme.contains([':', '@']) { "..." } else { scheme };
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}").chars().take(SHOWN_CHARS).collect()
}

/// Characters of an unusable URL that an error repeats: enough to recognise it.
const SHOWN_CHARS: usize = 120;
