//! Addresses: just enough of RFC 3986 for a server, a redirect and a download.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv6Addr;

use crate::limits::MAX_URL_BYTES;

/// An absolute address, with or without TLS. Whether it means HTTP or WebSocket is up to the use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// `https` or `wss`.
    pub(crate) tls: bool,
    /// The host in lower case; an IPv6 address in brackets.
    host: String,
    port: Option<u16>,
    /// Path and query; begins with a slash.
    target: String,
}

/// Why a text is no address we can use. Holds nothing of the text, which may be secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// Not a number from 1 to 65535.
    #[error("the port of the address is not a number from 1 to 65535")]
    Port,
    /// `user@host` is not supported.
    #[error("the address holds a user name; credentials belong in the configuration")]
    User,
    /// Blanks, control characters or characters outside ASCII.
    #[error("the address holds a blank or another character that must be percent-encoded")]
    Character,
}

impl Url {
    /// Reads an absolute address. A fragment is dropped.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(UrlError::TooLong);
        }
        // Not `all`: without a way out in the middle, many bytes are looked at in one step.
        if text.bytes().fold(false, |found, byte| found | !byte.is_ascii_graphic()) {
            return Err(UrlError::Character);
        }
        let colon = text.bytes().position(|byte| byte == b':');
        let (scheme, rest) = colon.and_then(|colon| text.split_at_checked(colon)).ok_or(UrlError::Scheme)?;
        let rest = rest.strip_prefix("://").ok_or(UrlError::Scheme)?;
        let is = |names: [&str; 2]| names.iter().any(|name| scheme.eq_ignore_ascii_case(name));
        let tls = is(["https", "wss"]);
        if !tls && !is(["http", "ws"]) {
            return Err(UrlError::Scheme);
        }
        let rest = rest.split_once('#').map_or(rest, |(address, _)| address);
        let end = rest.bytes().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (host, port) = split_authority(authority)?;
        let target = match target {
            "" => String::from("/"),
            query if query.starts_with('?') => format!("/{query}"),
            path => String::from(path),
        };
        Ok(Self { tls, host: host.to_ascii_lowercase(), port, target })
    }

    /// Resolves the `Location` of a response to this address (RFC 3986 §5.2).
    pub(crate) fn resolve(&self, location: &str) -> Result<Self, UrlError> {
        let location = location.split('#').next().unwrap_or_default();
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
                let folder = path.rfind('/').and_then(|slash| path.get(..=slash)).unwrap_or("/");
                Cow::Owned(format!("{folder}{new}"))
            };
            format!("{}{new_query}", without_dots(&merged))
        };
        Self::parse(&format!("{scheme}://{}{target}", self.authority()))
    }

    /// Returns the address of another path on the same server.
    pub(crate) fn with_target(&self, target: &str) -> Self {
        Self { target: String::from(target), ..self.clone() }
    }

    /// Returns the address with `name=value` in its query, in place of any such name there; the rest is kept.
    pub(crate) fn with_query(mut self, name: &str, value: &str) -> Self {
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

    /// Returns the path, without the query.
    pub(crate) fn path(&self) -> &str {
        split_target(&self.target).0
    }

    /// Returns the address with another path and the same query.
    pub(crate) fn with_path(&self, path: &str) -> Self {
        self.with_target(&format!("{path}{}", split_target(&self.target).1))
    }

    /// Returns host and port as written; the part that may be shown to anybody.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// Returns whether both have the same host, whatever the port.
    pub(crate) fn same_host(&self, other: &Self) -> bool {
        self.host == other.host
    }

    /// Returns the whole address with a scheme of WebSocket.
    pub(crate) fn to_websocket(&self) -> String {
        format!("{}://{}{}", if self.tls { "wss" } else { "ws" }, self.authority(), self.target)
    }

    /// Returns the whole address with a scheme of HTTP. May be secret.
    pub(crate) fn to_http(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.target)
    }
}

fn split_authority(authority: &str) -> Result<(&str, Option<u16>), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::User);
    }
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']').ok_or(UrlError::Host)? + 1;
        let (host, rest) = authority.split_at(end);
        let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
        if inner.parse::<Ipv6Addr>().is_err() {
            return Err(UrlError::Host);
        }
        (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(UrlError::Host)?) })
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%[]:".contains(&byte);
    if host.is_empty() || !host.bytes().all(allowed) {
        return Err(UrlError::Host);
    }
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port)?)
        }
        Some(_) => return Err(UrlError::Port),
    };
    Ok((host, port))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses() {
        let url = |text| Url::parse(text).unwrap().to_http();
        assert_eq!(url("HTTPS://Hub.Example"), "https://hub.example/");
        assert_eq!(url("wss://hub:4001/a/b?c=d#e"), "https://hub:4001/a/b?c=d");
        assert_eq!(url("ws://[::1]:80?x"), "http://[::1]:80/?x");
        assert_eq!(url("http://h:"), "http://h/");
    }

    #[test]
    fn refuses_what_is_no_address() {
        let error = |text: &str| Url::parse(text).unwrap_err();
        assert_eq!(error("hub.example"), UrlError::Scheme);
        assert_eq!(error("ftp://hub.example"), UrlError::Scheme);
        assert_eq!(error("http://"), UrlError::Host);
        assert_eq!(error("http:///x"), UrlError::Host);
        assert_eq!(error("http://[::1"), UrlError::Host);
        assert_eq!(error("http://[::1]x"), UrlError::Host);
        assert_eq!(error("http://[]"), UrlError::Host);
        assert_eq!(error("http://[abcd]"), UrlError::Host);
        assert_eq!(error("http://[1.2.3.4]"), UrlError::Host);
        assert_eq!(error("http://[[::1]]"), UrlError::Host);
        assert_eq!(error("http://h:0"), UrlError::Port);
        assert_eq!(error("http://h:65536"), UrlError::Port);
        assert_eq!(error("http://h:+1"), UrlError::Port);
        assert_eq!(error("http://u:p@h"), UrlError::User);
        assert_eq!(error("http://h/a b"), UrlError::Character);
        assert_eq!(error("http://h/\r\nx"), UrlError::Character);
        assert_eq!(error("http://hüb/"), UrlError::Character);
    }

    #[test]
    fn bounds_the_length() {
        let at = format!("http://h/{}", "a".repeat(MAX_URL_BYTES - 9));
        assert!(Url::parse(&at).is_ok());
        assert_eq!(Url::parse(&format!("{at}a")), Err(UrlError::TooLong));
    }

    #[test]
    fn resolves_locations() {
        let base = Url::parse("https://h:1/a/b/c?q=1").unwrap();
        let resolve = |location| base.resolve(location).unwrap().to_http();
        assert_eq!(resolve("http://other/x"), "http://other/x");
        assert_eq!(resolve("//other/x"), "https://other/x");
        assert_eq!(resolve("/x?y"), "https://h:1/x?y");
        assert_eq!(resolve("x"), "https://h:1/a/b/x");
        assert_eq!(resolve("../x"), "https://h:1/a/x");
        assert_eq!(resolve("../../../../x"), "https://h:1/x");
        assert_eq!(resolve("./"), "https://h:1/a/b/");
        assert_eq!(resolve("?z"), "https://h:1/a/b/c?z");
        assert_eq!(resolve(""), "https://h:1/a/b/c?q=1");
        assert_eq!(resolve("#top"), "https://h:1/a/b/c?q=1");
        assert_eq!(base.resolve("mailto:a"), Err(UrlError::Scheme));
    }

    #[test]
    fn adds_a_query_once() {
        let add = |text: &str| Url::parse(text).unwrap().with_query("vsn", "2.0.0").to_websocket();
        assert_eq!(add("wss://h/x"), "wss://h/x?vsn=2.0.0");
        assert_eq!(add("wss://h/x?"), "wss://h/x?vsn=2.0.0");
        assert_eq!(add("wss://h/x?a=b"), "wss://h/x?a=b&vsn=2.0.0");
        assert_eq!(add("ws://h/x?vsn=9"), "ws://h/x?vsn=2.0.0");
        assert_eq!(add("ws://h/x?a&vsn=9&b=c=d&&vsn"), "ws://h/x?a&b=c=d&vsn=2.0.0");
    }
}
