//! Which proxy is used for which address: by scheme, and with exceptions, as curl does it.

use std::net::IpAddr;

use crate::{Address, Proxy};

/// Proxies by scheme and hosts that are reached without one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyRules {
    with_tls: Option<Proxy>,
    without_tls: Option<Proxy>,
    exceptions: Vec<Exception>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    /// Every host.
    All,
    /// A name and all names below it, in lower case.
    Name(String),
    /// An address, or the first bits of one.
    Network { base: IpAddr, bits: u32 },
}

impl ProxyRules {
    /// Uses one proxy for everything.
    pub fn all(proxy: Proxy) -> Self {
        Self { with_tls: Some(proxy.clone()), without_tls: Some(proxy), exceptions: Vec::new() }
    }

    /// Uses one proxy for `https` and `wss`, one for `http` and `ws`, or none.
    pub const fn by_scheme(with_tls: Option<Proxy>, without_tls: Option<Proxy>) -> Self {
        Self { with_tls, without_tls, exceptions: Vec::new() }
    }

    /// Reaches these without a proxy: names, which stand for all names below them too, IP addresses, and networks such as
    /// `10.0.0.0/8`, separated by commas or blanks; `*` alone for all. As curl's `no_proxy`: a leading dot means nothing, and
    /// ports are not looked at. IPv6 addresses may stand in brackets. What is none of these excepts nothing, see
    /// [`unread`](Self::unread).
    #[must_use]
    pub fn except(mut self, list: &str) -> Self {
        self.exceptions = if list.trim() == "*" {
            vec![Exception::All]
        } else {
            entries(list).filter_map(exception).collect()
        };
        self
    }

    /// Returns the entries of such a list that except nothing, because they are neither names nor addresses nor networks:
    /// `*.example`, `host:80`, `http://host` or `10.0.0.0/33`, say.
    pub fn unread(list: &str) -> Vec<&str> {
        if list.trim() == "*" {
            Vec::new()
        } else {
            entries(list).filter(|entry| exception(entry).is_none()).collect()
        }
    }

    /// Returns the proxy for an address, if it is to be reached through one.
    pub fn proxy_for(&self, address: &Address) -> Option<&Proxy> {
        let proxy = if address.secure { &self.with_tls } else { &self.without_tls };
        proxy.as_ref().filter(|_| !self.is_excepted(&address.host))
    }

    /// Returns whether a host is reached without a proxy though there may be one.
    pub fn is_excepted(&self, host: &str) -> bool {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let ip = ip(&name);
        self.exceptions.iter().any(|exception| match (exception, ip) {
            (Exception::All, _) => true,
            (Exception::Network { base, bits }, Some(ip)) => is_within(ip, *base, *bits),
            (Exception::Name(known), None) => {
                name.strip_suffix(known.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Exception::Network { .. }, None) | (Exception::Name(_), Some(_)) => false,
        })
    }
}

fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty())
}

fn exception(entry: &str) -> Option<Exception> {
    if let Some((base, bits)) = entry.split_once('/') {
        let (base, bits) = (ip(base)?, bits.parse().ok()?);
        let all = if base.is_ipv4() { u32::BITS } else { u128::BITS };
        return (bits <= all).then_some(Exception::Network { base, bits });
    }
    if let Some(base) = ip(entry) {
        return Some(Exception::Network { base, bits: u128::BITS });
    }
    let name = entry.strip_prefix('.').unwrap_or(entry).trim_end_matches('.').to_ascii_lowercase();
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!name.is_empty() && name.bytes().all(letter)).then_some(Exception::Name(name))
}

/// Reads an IP address, with or without brackets and the name of an interface.
fn ip(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    inner.split('%').next()?.parse().ok()
}

/// Returns whether the first bits are the same; more bits than an address has mean all of them.
fn is_within(ip: IpAddr, base: IpAddr, bits: u32) -> bool {
    match (ip, base) {
        (IpAddr::V4(ip), IpAddr::V4(base)) => {
            let differ = ip.to_bits() ^ base.to_bits();
            differ.leading_zeros() >= bits.min(u32::BITS)
        }
        (IpAddr::V6(ip), IpAddr::V6(base)) => {
            let differ = ip.to_bits() ^ base.to_bits();
            differ.leading_zeros() >= bits.min(u128::BITS)
        }
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_read_as_curl_reads_them() {
        for (list, host, excepted) in [
            ("", "hub.example", false),
            ("*", "hub.example", true),
            ("*,x", "hub.example", false),
            ("hub.example", "HUB.example.", true),
            ("example", "hub.example", true),
            (".example", "hub.example", true),
            (".hub.example", "hub.example", true),
            ("ub.example", "hub.example", false),
            ("a, b.c\texample", "hub.example", true),
            ("hub.example.", "hub.example", true),
            ("hub.example:443", "hub.example", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "110.0.0.1", false),
            ("0.0.1", "10.0.0.1", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/0", "11.0.0.1", true),
            ("10.0.0.0/32", "10.0.0.0", true),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0.0/-1", "10.0.0.0", false),
            ("10.0.0.0/", "10.0.0.0", false),
            ("10.0.0.0/x", "10.0.0.0", false),
            ("10.0.0.0/8", "hub.example", false),
            ("::1", "::1", true),
            ("[::1]", "0:0:0:0:0:0:0:1", true),
            ("fd00::/8", "fd12::3", true),
            ("fd00::/8", "fe80::3", false),
            ("[fd00::]/8", "fd12::3", true),
            ("::1/128", "::1", true),
            ("::1/129", "::1", false),
            ("fe80::/10", "fe80::3%eth0", true),
            ("fe80::1%eth0", "fe80::1%eth0", true),
            ("[::1", "::1", false),
            ("::1", "127.0.0.1", false),
            ("*.example", "hub.example", false),
            ("http://hub.example", "hub.example", false),
            (",, ,hub.example,", "hub.example", true),
            ("localhost", "127.0.0.1", false),
        ] {
            assert_eq!(ProxyRules::default().except(list).is_excepted(host), excepted, "{list:?} {host}");
        }
    }

    #[test]
    fn entries_that_except_nothing_are_found() {
        let list = "a.b,.c 10.0.0.0/8\t[::1] * *.d e:80 http://f 10.0.0.0/33 ::1/129 10.0.0.0/x [::1 g/8 .";
        let unread =
            ["*", "*.d", "e:80", "http://f", "10.0.0.0/33", "::1/129", "10.0.0.0/x", "[::1", "g/8", "."];
        assert_eq!(ProxyRules::unread(list), unread);
        assert!(ProxyRules::unread(" * ").is_empty() && ProxyRules::unread(" , ").is_empty());
    }

    #[test]
    fn the_scheme_chooses_the_proxy() {
        let (one, other) = (Proxy::parse("http://one").unwrap(), Proxy::parse("http://other").unwrap());
        let rules = ProxyRules::by_scheme(Some(one.clone()), Some(other.clone())).except("local.example");
        let of = |url: &str| rules.proxy_for(&Address::parse(url).unwrap()).cloned();
        assert_eq!(of("wss://hub.example/"), Some(one.clone()));
        assert_eq!(of("http://hub.example/"), Some(other));
        assert_eq!(of("https://local.example/"), None);
        assert_eq!(
            ProxyRules::by_scheme(None, Some(one)).proxy_for(&Address::parse("https://x").unwrap()),
            None
        );
    }
}
