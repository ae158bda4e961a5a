//! Where a URL points: scheme, host, port and request target.

use core::fmt;
use core::net::Ipv6Addr;

use http::Uri;

/// The parts of a `ws`, `wss`, `http` or `https` URL that a connection needs.
///
/// `Debug` and `Display` hide the query: in signed URLs it is a credential (device protocol §6.4).
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
    /// Reads a URL.
    ///
    /// # Errors
    /// [`AddressError`] when it is no URL, its scheme is another one, it has no host, or it carries a
    /// user name or password (which would end up in logs; credentials travel in headers here).
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| AddressError::Malformed {
            url: shown(url),
            why: error.to_string(),
        })?;
        let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
        let (secure, default_port) = match scheme.as_str() {
            "wss" | "https" => (true, 443),
            "ws" | "http" => (false, 80),
            _ => return Err(AddressError::Scheme { url: shown(url), scheme }),
        };
        let authority = uri.authority().ok_or_else(|| AddressError::NoHost { url: shown(url) })?;
        if authority.as_str().contains('@') {
            return Err(AddressError::Credentials { host: authority.host().to_owned() });
        }
        let host = authority.host();
        let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        // RFC 3986 §3.2.2; behind `%` the name of an interface may stand (RFC 6874).
        let is_address = |text: &str| text.split('%').next().is_some_and(|it| it.parse::<Ipv6Addr>().is_ok());
        if in_brackets.is_some_and(|text| !is_address(text)) {
            let why = "what stands in brackets is no IPv6 address".to_owned();
            return Err(AddressError::Malformed { url: shown(url), why });
        }
        let bare = in_brackets.unwrap_or(host);
        if bare.is_empty() {
            return Err(AddressError::NoHost { url: shown(url) });
        }
        // `http` leaves a port it cannot read (above 65535, or empty) out of `port_u16`.
        let after_host = authority.as_str().strip_prefix(host).unwrap_or_default();
        let port = match after_host.strip_prefix(':') {
            None | Some("") => default_port,
            Some(digits) => match digits.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(AddressError::Port { url: shown(url), port: digits.to_owned() }),
            },
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let path_and_query = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { secure, host: bare.to_owned(), port, path_and_query })
    }

    /// Host as written in a URL or `Host` header: IPv6 in brackets, the port only where it is not the
    /// scheme's own.
    pub fn authority(&self) -> String {
        let default_port = if self.secure { 443 } else { 80 };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
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

/// Why a URL cannot be used. The query is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Not a URL.
    #[error("{url:?} is not a usable URL: {why}")]
    Malformed {
        /// The URL without its query.
        url: String,
        /// The reason.
        why: String,
    },
    /// Another scheme than the four.
    #[error("{url:?} has the scheme {scheme:?}; ws, wss, http and https are possible")]
    Scheme {
        /// The URL without its query.
        url: String,
        /// The scheme found.
        scheme: String,
    },
    /// No host.
    #[error("{url:?} names no host")]
    NoHost {
        /// The URL without its query.
        url: String,
    },
    /// A port outside 1 to 65535.
    #[error("{url:?} has the port {port:?}; 1 to 65535 are possible")]
    Port {
        /// The URL without its query.
        url: String,
        /// The port found.
        port: String,
    },
    /// A user name or password before the host.
    #[error("the URL for {host} carries a user name or password; give credentials in headers instead")]
    Credentials {
        /// The host of the URL.
        host: String,
    },
}

/// A URL cut down to what may be logged: no query, no user name, at most 120 characters.
fn shown(url: &str) -> String {
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = plain.split_once("://").unwrap_or(("", plain));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}").chars().take(120).collect()
}
