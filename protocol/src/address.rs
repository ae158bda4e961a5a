//! Which network addresses a server may send the device to.
//!
//! The address of a file, and of a redirect, is the server's choice. Connecting to it from inside the device's network shows
//! the server what is there, so addresses of the device itself and of its neighbours are refused.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressKind {
    /// Anywhere in the world.
    Public,
    /// A private network: `10/8`, `172.16/12`, `192.168/16`, `100.64/10`, `fc00::/7` and the like.
    Private,
    /// The neighbours on one link: `169.254/16`, `fe80::/10`.
    LinkLocal,
    /// The device itself.
    Loopback,
    /// No one host: unspecified, multicast, broadcast, reserved.
    Unusable,
}

impl AddressKind {
    /// Returns the kind of an address. IPv4 addresses that IPv6 ones hold (mapped, compatible, NAT64, 6to4) count.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }
}

fn of_v4(v4: Ipv4Addr) -> AddressKind {
    match v4.octets() {
        [0 | 224..=255, ..] => AddressKind::Unusable,
        [127, ..] => AddressKind::Loopback,
        [169, 254, ..] => AddressKind::LinkLocal,
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0, _]
        | [198, 18 | 19, ..] => AddressKind::Private,
        _ => AddressKind::Public,
    }
}

fn of_v6(v6: Ipv6Addr) -> AddressKind {
    if v6 == Ipv6Addr::LOCALHOST {
        return AddressKind::Loopback;
    }
    let v4 = |high: u16, low: u16| of_v4(Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)));
    match v6.segments() {
        // Teredo: the client's address is written with every bit inverted.
        [0x2001, 0, _, _, _, _, high, low] => v4(!high, !low),
        // NAT64 with a prefix of the network's own (RFC 8215). Where the IPv4 address stands depends on the network: if
        // the usual place holds none that is refused anyway, the address counts as private.
        [0x64, 0xff9b, 1, .., high, low] => match v4(high, low) {
            AddressKind::Public => AddressKind::Private,
            inside => inside,
        },
        // Unspecified, compatible and mapped; translated by SIIT and by NAT64; 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, .., high, low]
        | [0x2002, high, low, ..] => v4(high, low),
        [0xfe80..=0xfebf, ..] => AddressKind::LinkLocal,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => AddressKind::Private,
        [0xff00..=0xffff, ..] => AddressKind::Unusable,
        _ => AddressKind::Public,
    }
}

/// Says where a connection must not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRules(Rules);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Any,
    Outside {
        refuse_private: bool,
        /// Whether the host has the server's name.
        hub: bool,
    },
}

impl AddressRules {
    /// Allows everything: for addresses of the configuration.
    pub const fn any() -> Self {
        Self(Rules::Any)
    }

    /// Refuses the device itself and its link, and on request private networks.
    pub const fn outside(refuse_private: bool) -> Self {
        Self(Rules::Outside { refuse_private, hub: false })
    }

    /// The same for a host that has the server's name: a proxy that finds the server by it may be asked for it again.
    #[must_use]
    pub const fn of_hub(self) -> Self {
        match self.0 {
            Rules::Outside { refuse_private, .. } => Self(Rules::Outside { refuse_private, hub: true }),
            Rules::Any => self,
        }
    }

    /// Returns whether anything is refused.
    pub const fn is_any(self) -> bool {
        matches!(self.0, Rules::Any)
    }

    /// Returns why an address must not be connected to, if it must not. `hub` is the address at which the server was reached,
    /// if it was reached directly: a server on the device may name addresses of the device, one on the link such of the link.
    /// `is_own` says whether an address is that of an interface of the device.
    pub fn refusal(
        self,
        address: IpAddr,
        hub: Option<IpAddr>,
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Option<&'static str> {
        let Rules::Outside { refuse_private, .. } = self.0 else { return None };
        let kind = |address: IpAddr| {
            if is_own(address.to_canonical()) { AddressKind::Loopback } else { AddressKind::of(address) }
        };
        let found = kind(address);
        match found {
            AddressKind::Public => None,
            AddressKind::Private if !refuse_private => None,
            AddressKind::Unusable => Some("it is no address of one host"),
            _ if hub.is_some_and(|hub| hub.to_canonical() == address.to_canonical()) => None,
            AddressKind::Private => Some("it is inside a private network"),
            _ if hub.map(kind) == Some(found) => None,
            AddressKind::Loopback => Some("it is this device itself, where the server is not"),
            AddressKind::LinkLocal => Some("it is on the local link, where the server is not"),
        }
    }

    /// Returns why a host must not be asked for from a proxy, which looks up names itself: what the name says without a look-up
    /// counts.
    pub fn refusal_by_name(self, host: &str, hub: Option<IpAddr>) -> Option<&'static str> {
        if matches!(self.0, Rules::Any | Rules::Outside { hub: true, .. }) {
            return None;
        }
        let host = host.trim_end_matches('.');
        let plain = host.split('%').next().unwrap_or(host);
        if let Ok(address) = plain.parse() {
            return self.refusal(address, hub, |_| false);
        }
        let last = host.rsplit('.').next().unwrap_or(host);
        if matches!(last, "localhost" | "localdomain" | "ip6-localhost" | "ip6-loopback") {
            return self.refusal(IpAddr::V4(Ipv4Addr::LOCALHOST), hub, |_| false);
        }
        let hex = last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        (hex || last.bytes().all(|byte| byte.is_ascii_digit()))
            .then_some("it is an address in an unusual form, which may be any")
    }
}
