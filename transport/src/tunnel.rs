//! A way through an HTTP proxy: `CONNECT` (RFC 9110 §9.3.6) as a byte machine.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use nerves_hub_link_url::UrlError;

use crate::head::{Head, HeadReader};
use crate::url::bracketed;
use crate::{Address, AddressError, TransportError};

/// An HTTP proxy. Connections with and without TLS go through it alike, by `CONNECT`.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    address: Address,
    /// The value of `Proxy-Authorization`. Secret.
    authorization: Option<String>,
}

impl Proxy {
    /// Reads `http://[user:password@]host[:port]`. The connection to the proxy itself is not encrypted; what goes
    /// through it is, if its own scheme says so.
    ///
    /// # Errors
    /// [`AddressError`] when it is no such URL. No error repeats user or password.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        // A password must not be taken for a scheme, nor slashes for a user.
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.bytes().all(is_scheme) || rest.starts_with('/') {
            return Err(AddressError::Unusable { url: String::new(), why: UrlError::Scheme });
        }
        let (credentials, host) = match rest.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, rest),
        };
        let address = Address::parse(&format!("{scheme}://{host}"))?;
        if address.secure || !scheme.eq_ignore_ascii_case("http") {
            return Err(AddressError::ProxyScheme { url: address.authority(), scheme: scheme.to_owned() });
        }
        let authorization = credentials.map(|text| format!("Basic {}", STANDARD.encode(decoded(text))));
        Ok(Self { address, authorization })
    }

    /// Where to connect to.
    pub const fn address(&self) -> &Address {
        &self.address
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address.authority()).finish_non_exhaustive()
    }
}

/// The way to one address through a proxy: send what [`Tunnel::transmit`] has, hand in what comes.
pub struct Tunnel {
    proxy: String,
    target: String,
    /// Whether a user and a password were sent.
    credentials: bool,
    out: Vec<u8>,
    /// What the proxy sent of an answer that is not whole yet.
    answer: Vec<u8>,
    heads: HeadReader,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("proxy", &self.proxy)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl Tunnel {
    /// Asks `proxy` for a connection to `target`.
    pub fn new(proxy: &Proxy, target: &Address) -> Self {
        let place = format!("{}:{}", bracketed(&target.host), target.port);
        let mut out = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
        if let Some(authorization) = &proxy.authorization {
            out.push_str("Proxy-Authorization: ");
            out.push_str(authorization);
            out.push_str("\r\n");
        }
        out.push_str("\r\n");
        Self {
            proxy: proxy.address.authority(),
            target: place,
            credentials: proxy.authorization.is_some(),
            out: out.into_bytes(),
            answer: Vec::new(),
            heads: HeadReader::default(),
        }
    }

    /// Returns what is to be sent to the proxy. Secret.
    pub fn transmit(&self) -> &[u8] {
        &self.out
    }

    /// Bytes of it were sent.
    pub fn transmitted(&mut self, count: usize) {
        self.out.drain(..count.min(self.out.len()));
    }

    /// Takes bytes of the proxy. Returns whether the way is open: what comes and goes next is the target's. Interim (1xx)
    /// answers are skipped.
    ///
    /// # Errors
    /// The proxy refused, answered in no HTTP, or said more before anybody asked.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        self.answer.extend_from_slice(bytes);
        loop {
            let (consumed, head) = self.heads.read(&self.answer).map_err(|error| error.of(&self.proxy))?;
            self.answer.drain(..consumed);
            match head {
                Some(head) => return self.judge(&head).map(|()| true),
                None if consumed == 0 => return Ok(false),
                None => {}
            }
        }
    }

    /// Judges the final answer.
    fn judge(&self, head: &Head) -> Result<(), TransportError> {
        let (proxy, target, status) = (self.proxy.clone(), self.target.clone(), head.status);
        if !(200..=299).contains(&status) {
            let credentials = self.credentials;
            return Err(TransportError::Proxy { proxy, target, status, credentials });
        }
        let header =
            |wanted: &str| head.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let is_page = header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().contains("html"));
        let has_body = header("content-length")
            .is_some_and(|length| !length.trim_start_matches('0').is_empty())
            || header("transfer-encoding").is_some();
        if is_page && has_body {
            let why = "it answered CONNECT with a web page; is it the login page of the network?".to_owned();
            return Err(TransportError::Http { host: proxy, why });
        }
        if !self.answer.is_empty() {
            let why = "it sent more than the answer to CONNECT".to_owned();
            return Err(TransportError::Http { host: proxy, why });
        }
        Ok(())
    }

    /// The proxy ended the connection before the way was open.
    pub fn ended(&self) -> TransportError {
        let why = "it ended the connection before it answered CONNECT".to_owned();
        TransportError::Http { host: self.proxy.clone(), why }
    }
}

/// Decodes `%40` and the like (RFC 3986 §2.1); anything else stays as it is.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, later)) = rest.split_first() {
        let digits = later.split_first_chunk::<2>().filter(|_| *first == b'%');
        let value = digits.and_then(|(digits, _)| {
            u8::from_str_radix(core::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?, 16)
                .ok()
        });
        out.push(value.unwrap_or(*first));
        rest = match (value, digits) {
            (Some(_), Some((_, after))) => after,
            _ => later,
        };
    }
    out
}
