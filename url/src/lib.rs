//! Addresses of servers and files: parsing, percent-encoding and resolving redirects.
//!
//! The machine that decides where to connect (`protocol`) and the one that connects (`transport`) must read an
//! address alike, so both use this parser. It takes the absolute addresses of `http`, `https`, `ws` and `wss`, and what
//! browsers would take is taken:
//!
//! * Blanks and control characters at both ends are dropped. Tabs and line breaks are dropped everywhere.
//! * In path and query, these are percent-encoded: blanks, control characters, everything outside ASCII (as UTF-8),
//!   and ``" < > \ ^ ` { | }``. What is percent-encoded already stays as it is, and so does a `%` that encodes nothing.
//! * The fragment is dropped. The scheme and the host may be in either case.
//!
//! Where browsers guess, this parser refuses: an address without `//`, a backslash before the path, a user name, a host
//! with characters that no name has. Internationalised host names are taken in their ASCII form only (`xn--…`): the tables
//! that convert them are larger than all other code that connects, and servers send the ASCII form.
//!
//! This is not the `url` crate for the same reasons: its tables weigh several hundred kilobytes in a program of two
//! megabytes, and its guesses (`https:host`, `0x7f.1` for an address, backslashes for slashes) let an address lead elsewhere
//! than a person reads.

#![no_std]

extern crate alloc;

mod encode;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::Ipv6Addr;

/// Bytes of an address, before and after encoding. Signed addresses of files run to 2 KiB.
pub const MAX_URL_BYTES: usize = 8192;

/// An absolute address, with or without TLS. Whether it means HTTP or WebSocket is up to the use.
///
/// `Debug` shows neither path nor query: in signed addresses they are credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    tls: bool,
    /// A name in lower case or an address, without brackets, the interface behind `%`.
    host: String,
    port: Option<u16>,
    /// Path and query; begins with a slash.
    target: String,
}

/// Why a text is no address we can use. Holds nothing of the text, which may be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Longer than [`MAX_URL_BYTES`].
    #[error("the address is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
    /// Not `ws`, `wss`, `http` or `https`.
    #[error("the address must begin with https://, http://, wss:// or ws://")]
    Scheme,
    /// No host, or one with impossible characters.
    #[error("the address has no valid host name")]
    Host,
    /// An internationalised host name that is not in its ASCII form.
    #[error("the host name of the address has letters outside ASCII; give its ASCII form (xn--...)")]
    HostNotAscii,
    /// Brackets without an IPv6 address in them.
    #[error("what the address has in brackets is no IPv6 address")]
    Ipv6,
    /// An IPv6 address without brackets: where it ends and the port begins can't be told.
    #[error("an IPv6 address needs brackets around it, as in [::1] or [::1]:8080")]
    Brackets,
    /// Not a number from 1 to 65535.
    #[error("the port of the address is not a number from 1 to 65535")]
    Port,
    /// `user@host` is not supported.
    #[error("the address holds a user name; credentials belong in the configuration")]
    User,
}

impl Url {
    /// Parses an absolute address.
    ///
    /// # Errors
    ///
    /// [`UrlError`], if it is none or not of the four schemes.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(UrlError::TooLong);
        }
        let text = encode::without_breaks(text);
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let is = |names: [&str; 2]| names.iter().any(|name| scheme.eq_ignore_ascii_case(name));
        let tls = is(["https", "wss"]);
        if !tls && !is(["http", "ws"]) {
            return Err(UrlError::Scheme);
        }
        let rest = without_fragment(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = split_authority(authority)?;
        let encoded = encode::target(target);
        let target = if encoded.starts_with('/') { encoded.into_owned() } else { format!("/{encoded}") };
        let url = Self { tls, host, port, target };
        if url.to_http().len() > MAX_URL_BYTES { Err(UrlError::TooLong) } else { Ok(url) }
    }

    /// Resolves the `Location` of a response to this address (RFC 3986 §5.2).
    ///
    /// # Errors
    ///
    /// [`UrlError`], if it leads to no address.
    pub fn resolve(&self, location: &str) -> Result<Self, UrlError> {
        if location.len() > MAX_URL_BYTES {
            return Err(UrlError::TooLong);
        }
        let location = encode::without_breaks(location);
        let location = without_fragment(&location);
        if has_scheme(location) {
            return Self::parse(location);
        }
        let scheme = if self.tls { "https" } else { "http" };
        if location.starts_with("//") {
            return Self::parse(&format!("{scheme}:{location}"));
        }
        let (path, _) = split_target(&self.target);
        let target = if location.is_empty() {
            self.target.clone()
        } else if location.starts_with('?') {
            format!("{path}{location}")
        } else {
            let (new, new_query) = split_target(location);
            let merged = if new.starts_with('/') {
                Cow::Borrowed(new)
            } else {
                // A path begins with a slash, so there is one.
                let folder = path.rfind('/').and_then(|slash| path.get(..=slash)).unwrap_or("/");
                Cow::Owned(format!("{folder}{new}"))
            };
            format!("{}{new_query}", without_dots(&merged))
        };
        Self::parse(&format!("{scheme}://{}{target}", self.authority()))
    }

    /// Returns the address of another path and query on the same server. `target` begins with a slash.
    #[must_use]
    pub fn with_target(&self, target: &str) -> Self {
        debug_assert!(target.starts_with('/'), "a target begins with a slash");
        Self { target: encode::target(target).into_owned(), ..self.clone() }
    }

    /// Returns the address with `name=value` in its query, in place of any such name there; the rest is kept.
    #[must_use]
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        let (path, query) = split_target(&self.target);
        let query = query.trim_start_matches('?');
        let others = query.split('&').filter(|pair| !pair.is_empty() && pair.split('=').next() != Some(name));
        let mut target = format!("{path}?");
        for pair in others {
            target.push_str(pair);
            target.push('&');
        }
        self.target = format!("{target}{name}={value}");
        self
    }

    /// Returns the address with another path, which begins with a slash, and the same query.
    #[must_use]
    pub fn with_path(&self, path: &str) -> Self {
        self.with_target(&format!("{path}{}", split_target(&self.target).1))
    }

    /// Returns whether TLS is spoken: `https` and `wss`.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns the host as name services take it: a name in lower case or an address, IPv6 without brackets and with its
    /// interface, if any, behind `%`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port, the scheme's own if none was given.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.tls { 443 } else { 80 })
    }

    /// Returns path and query, percent-encoded. Begins with a slash. May be secret.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the path, without the query.
    pub fn path(&self) -> &str {
        split_target(&self.target).0
    }

    /// Returns host and port as given; the part that may be shown to anybody.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            Cow::Owned(format!("[{}]", self.host.replacen('%', "%25", 1)))
        } else {
            Cow::Borrowed(&self.host)
        };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host.into_owned(),
        }
    }

    /// Returns whether both have the same host, whatever the port.
    pub fn same_host(&self, other: &Self) -> bool {
        self.host == other.host
    }

    /// Returns whether both have the same origin: TLS or not, host and port. A name with a dot at its end is another host.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.tls == other.tls && self.host == other.host && self.port() == other.port()
    }

    /// Returns the whole address with a scheme of WebSocket. May be secret.
    pub fn to_websocket(&self) -> String {
        format!("{}://{}{}", if self.tls { "wss" } else { "ws" }, self.authority(), self.target)
    }

    /// Returns the whole address with a scheme of HTTP. May be secret.
    pub fn to_http(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.target)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({}://{}/...)", if self.tls { "tls" } else { "tcp" }, self.authority())
    }
}

/// Splits host and port.
fn split_authority(authority: &str) -> Result<(String, Option<u16>), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::User);
    }
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let (inner, rest) = inner.split_once(']').ok_or(UrlError::Ipv6)?;
        (
            ipv6(inner)?,
            if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(UrlError::Host)?) },
        )
    } else {
        if is_bare_ipv6(authority) {
            return Err(UrlError::Brackets);
        }
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        if !host.is_ascii() {
            return Err(UrlError::HostNotAscii);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if host.is_empty() || !host.bytes().all(allowed) {
            return Err(UrlError::Host);
        }
        (host.to_ascii_lowercase(), port)
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port)?)
        }
        Some(_) => return Err(UrlError::Port),
    };
    Ok((host, port))
}

/// Returns whether this is an IPv6 address without brackets, perhaps with a port behind it.
fn is_bare_ipv6(authority: &str) -> bool {
    let address = authority.split('%').next().unwrap_or_default(); // The first of the pieces is always there.
    address.matches(':').count() > 1
        && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.')
}

/// Checks what brackets hold: an IPv6 address, with the name of an interface behind `%` or `%25` (RFC 6874).
fn ipv6(inner: &str) -> Result<String, UrlError> {
    let (address, zone) = match inner.split_once('%') {
        Some((address, zone)) => {
            (address, Some(zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone)))
        }
        None => (inner, None),
    };
    let named = |zone: &str| {
        !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    if address.parse::<Ipv6Addr>().is_err() || zone.is_some_and(|zone| !named(zone)) {
        return Err(UrlError::Ipv6);
    }
    let address = address.to_ascii_lowercase();
    // Interfaces' names tell upper from lower case.
    Ok(zone.map_or_else(|| address.clone(), |zone| format!("{address}%{zone}")))
}

fn without_fragment(text: &str) -> &str {
    text.split_once('#').map_or(text, |(address, _)| address)
}

/// Returns whether a reference begins with a scheme (RFC 3986 §3.1).
fn has_scheme(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once(':') else { return false };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn split_target(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// Removes `.` and `..` segments (RFC 3986 §5.2.4). Never climbs above the root.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}
