//! Connecting: what is the same for every loop.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nerves_hub_link_protocol::AddressRules;
use nerves_hub_link_transport::{Address, Proxy, ProxyRules};

use crate::limits::{ADDRESS_TIMEOUT_MIN, ADDRESSES_MAX, CONNECTORS_MAX};
use crate::signal::Signals;
use crate::tcp::{Network, Tcp};

/// The number of one attempt to connect; never used twice in a device's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt(u64);

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct Dialled<T> {
    pub(crate) attempt: Attempt,
    pub(crate) result: Result<Connected<T>, String>,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connected<T> {
    pub(crate) tcp: T,
    /// The name of the interface it runs over, if that could be found out.
    pub(crate) interface: Option<String>,
    /// The address of the server, if it was reached directly.
    pub(crate) peer: Option<IpAddr>,
}

/// Which network addresses a host's name may lead to. It is asked at every connection, after the look-up: a name may lead
/// elsewhere each time.
#[derive(Clone, Debug)]
pub struct Guard {
    rules: AddressRules,
    hub: Option<IpAddr>,
}

impl Guard {
    /// Allows everything: for a proxy, which the configuration names.
    pub const fn none() -> Self {
        Self { rules: AddressRules::any(), hub: None }
    }

    fn refusals(&self, found: &[SocketAddr]) -> Vec<Option<&'static str>> {
        let own: Vec<IpAddr> = if self.rules.is_any() {
            Vec::new()
        } else {
            // Without a list, what the address itself says counts.
            let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
            interfaces.into_iter().map(|interface| interface.ip()).collect()
        };
        let judge = |target: &SocketAddr| self.rules.refusal(target.ip(), self.hub, |ip| own.contains(&ip));
        found.iter().map(judge).collect()
    }
}

/// An order to connect. Dropping it without [`finish`](Self::finish), by a panic say, ends the attempt too.
#[derive(Debug)]
pub struct DialOrder<T> {
    attempt: Attempt,
    /// Where to.
    pub address: Address,
    /// By way of this proxy, if there is one: see [`Tunnel`](nerves_hub_link_transport::Tunnel).
    pub proxy: Option<Proxy>,
    /// Which addresses the name may lead to, for [`Candidates::new`] where no proxy is used.
    pub guard: Guard,
    /// How long it may take, looking up the name and the proxy's answer included.
    pub timeout: Duration,
    /// Where the result goes, until it went.
    results: Option<Sender<Dialled<T>>>,
    signals: Arc<dyn Signals>,
    place: Place,
}

impl<T: Tcp> DialOrder<T> {
    /// Ends the attempt: with a connection and its own address, or with a reason for a person.
    pub fn finish(mut self, result: Result<(T, Option<SocketAddr>), String>) {
        let proxied = self.proxy.is_some();
        let named = self.address.host.parse().ok();
        self.tell(result.map(|(tcp, local)| {
            let peer = if proxied { named } else { tcp.peer() };
            Connected { tcp, interface: local.and_then(interface_of), peer }
        }));
    }
}

impl<T> DialOrder<T> {
    fn tell(&mut self, result: Result<Connected<T>, String>) {
        if let Some(results) = self.results.take() {
            // A loop that ended in the meantime no longer listens.
            let _ = results.send(Dialled { attempt: self.attempt, result });
            self.signals.wake();
        }
    }

    /// Returns what keeps this attempt counted for as long as it is held: by a look-up that can't be interrupted, say,
    /// after everyone else gave it up.
    pub fn place(&self) -> Place {
        self.place.clone()
    }
}

impl<T> Drop for DialOrder<T> {
    fn drop(&mut self) {
        self.tell(Err(format!("connecting to {} was given up", self.address.host)));
    }
}

/// A place among the attempts that run; there are at most [`CONNECTORS_MAX`].
#[derive(Clone, Debug)]
pub struct Place {
    _counted: Arc<Counted>,
}

#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Place {
    fn take(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::AcqRel);
        Self { _counted: Arc::new(Counted(Arc::clone(running))) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Starts attempts and counts them.
#[derive(Debug)]
pub(crate) struct Connector<N: Network> {
    pub(crate) network: N,
    results: Sender<Dialled<N::Tcp>>,
    dialled: Receiver<Dialled<N::Tcp>>,
    signals: Arc<dyn Signals>,
    running: Arc<AtomicUsize>,
    proxy: ProxyRules,
    /// Where the server was reached last.
    pub(crate) hub: Option<IpAddr>,
    last: u64,
}

impl<N: Network> Connector<N> {
    pub(crate) fn new(network: N, signals: Arc<dyn Signals>, proxy: ProxyRules) -> Self {
        let (results, dialled) = channel();
        Self { network, results, dialled, signals, running: Arc::default(), proxy, hub: None, last: 0 }
    }

    /// Returns what an address is reached through, if not directly.
    pub(crate) fn proxy_for(&self, address: &Address) -> Option<Proxy> {
        self.proxy.proxy_for(address).cloned()
    }

    /// Starts an attempt. Its result comes over the channel, in time or late.
    pub(crate) fn start(
        &mut self,
        address: Address,
        timeout: Duration,
        rules: AddressRules,
    ) -> Result<Attempt, String> {
        let proxy = self.proxy_for(&address);
        if proxy.is_some()
            && let Some(why) = rules.refusal_by_name(&address.host, self.hub)
        {
            return Err(format!("refused to have the proxy connect to {}: {why}", address.host));
        }
        self.last += 1;
        let attempt = Attempt(self.last);
        if self.running.load(Ordering::Acquire) >= CONNECTORS_MAX {
            return Err(format!(
                "{CONNECTORS_MAX} earlier attempts to connect have not ended; the name service may be hanging"
            ));
        }
        let order = DialOrder {
            attempt,
            proxy,
            address,
            guard: Guard { rules, hub: self.hub },
            timeout,
            results: Some(self.results.clone()),
            signals: Arc::clone(&self.signals),
            place: Place::take(&self.running),
        };
        self.network.dial(order).map(|()| attempt)
    }

    /// Returns the end of an attempt, if one ended.
    pub(crate) fn ended(&self) -> Option<Dialled<N::Tcp>> {
        // It never closes: this end keeps a sender.
        self.dialled.try_recv().ok()
    }
}

/// The addresses of a host, to be tried one after the other, and what became of it.
#[derive(Debug)]
pub struct Candidates {
    name: String,
    rest: Vec<SocketAddr>,
    failures: Vec<String>,
}

impl Candidates {
    /// Takes what a look-up found, in the system's order. What the guard refuses is not tried.
    ///
    /// # Errors
    ///
    /// If it found nothing, in words.
    pub fn new(
        address: &Address,
        found: std::io::Result<impl Iterator<Item = SocketAddr>>,
        guard: &Guard,
    ) -> Result<Self, String> {
        let host = &address.host;
        let found = found.map_err(|error| format!("cannot look up {host}: {error}"))?;
        let found = alternate(found);
        if found.is_empty() {
            return Err(format!("{host} has no address"));
        }
        let (mut rest, mut failures) = (Vec::new(), Vec::new());
        for (target, refused) in found.iter().zip(guard.refusals(&found)) {
            match refused {
                Some(why) => failures.push(format!("{target}: refused, as {why}")),
                None => rest.push(*target),
            }
        }
        let name = format!("{host} port {}", address.port);
        if rest.is_empty() {
            return Err(Self { name, rest, failures }.into_reason());
        }
        rest.reverse();
        Ok(Self { name, rest, failures })
    }

    /// Returns the next address and how long to wait for it, of the time that is left for all.
    pub fn next(&mut self, left: Duration) -> Option<(SocketAddr, Duration)> {
        // At most ADDRESSES_MAX of them.
        let share = left.checked_div(u32::try_from(self.rest.len()).ok()?)?;
        self.rest.pop().map(|target| (target, share.max(ADDRESS_TIMEOUT_MIN)))
    }

    /// Notes why an address could not be reached.
    pub fn failed(&mut self, target: SocketAddr, why: impl std::fmt::Display) {
        self.failures.push(format!("{target}: {why}"));
    }

    /// Says why none could be reached.
    pub fn into_reason(self) -> String {
        format!("cannot connect to {} ({})", self.name, self.failures.join("; "))
    }
}

/// Takes turns between IPv6 and IPv4, beginning with the system's favourite, so that a network that
/// swallows one of them costs one share of the time and not all of it.
fn alternate(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut rest: Vec<SocketAddr> = found.collect();
    let mut ordered: Vec<SocketAddr> = Vec::new();
    while !rest.is_empty() && ordered.len() < ADDRESSES_MAX {
        let other_family =
            |candidate: &SocketAddr| ordered.last().is_some_and(|last| last.is_ipv4() != candidate.is_ipv4());
        // The first when none is of the other family.
        let next = rest.iter().position(other_family).unwrap_or(0);
        ordered.push(rest.remove(next));
    }
    ordered
}

fn interface_of(local: SocketAddr) -> Option<String> {
    // Where the system does not list them, the server is not told.
    let interfaces = if_addrs::get_if_addrs().ok()?;
    interfaces.into_iter().find(|interface| interface.ip() == local.ip()).map(|interface| interface.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestSignals;
    use nerves_hub_link_protocol::Instant;
    use std::net::{TcpListener, TcpStream};

    /// A network that only collects orders.
    #[derive(Default)]
    struct Slow(Vec<DialOrder<TcpStream>>);

    impl Network for Slow {
        type Tcp = TcpStream;

        fn dial(&mut self, order: DialOrder<TcpStream>) -> Result<(), String> {
            self.0.push(order);
            Ok(())
        }

        fn now(&self) -> Instant {
            Instant::ZERO
        }
    }

    fn at(port: u16) -> Address {
        Address::parse(&format!("http://127.0.0.1:{port}/")).unwrap()
    }

    #[test]
    fn attempts_are_bounded_and_held_by_look_ups_that_hang() {
        let mut connector = Connector::new(Slow::default(), TestSignals::new(), ProxyRules::default());
        let second = Duration::from_secs(1);
        for _ in 0..CONNECTORS_MAX {
            connector.start(at(1), second, AddressRules::any()).unwrap();
        }
        assert!(connector.start(at(1), second, AddressRules::any()).unwrap_err().contains("name service"));
        let hanging = connector.network.0.last().unwrap().place();
        connector.network.0.pop().unwrap().finish(Err("no".to_owned()));
        assert!(connector.start(at(1), second, AddressRules::any()).is_err(), "its look-up still hangs");
        drop(hanging);
        let attempt = connector.start(at(1), second, AddressRules::any()).unwrap();
        assert_ne!(connector.ended().unwrap().attempt, attempt);
        assert!(connector.ended().is_none());
    }

    #[test]
    fn an_order_that_is_dropped_ends_its_attempt() {
        let mut connector = Connector::new(Slow::default(), TestSignals::new(), ProxyRules::default());
        let attempt = connector.start(at(1), Duration::from_secs(1), AddressRules::any()).unwrap();
        connector.network.0.clear();
        let ended = connector.ended().unwrap();
        assert_eq!(ended.attempt, attempt);
        assert_eq!(ended.result.unwrap_err(), "connecting to 127.0.0.1 was given up");
        assert!(connector.ended().is_none(), "told once");
    }

    #[test]
    fn the_interface_of_a_connection_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connector = Connector::new(Slow::default(), TestSignals::new(), ProxyRules::default());
        let place = listener.local_addr().unwrap();
        let attempt = connector.start(at(place.port()), Duration::from_secs(5), AddressRules::any()).unwrap();
        let tcp = TcpStream::connect(place).unwrap();
        let local = tcp.local_addr().ok();
        connector.network.0.remove(0).finish(Ok((tcp, local)));
        let Dialled { attempt: ended, result } = connector.ended().unwrap();
        assert_eq!(ended, attempt);
        assert_eq!(result.unwrap().interface.as_deref(), Some("lo"));
        // An address of no interface is told as none.
        connector.start(at(place.port()), Duration::from_secs(5), AddressRules::any()).unwrap();
        let tcp = TcpStream::connect(place).unwrap();
        connector.network.0.remove(0).finish(Ok((tcp, "192.0.2.1:1".parse().ok())));
        assert_eq!(connector.ended().unwrap().result.unwrap().interface, None);
    }

    #[test]
    fn the_time_is_shared_among_the_addresses_and_every_failure_is_told() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let found = [parse("[::1]:9"), parse("1.0.0.1:9")];
        let mut candidates = Candidates::new(&at(9), Ok(found.into_iter()), &Guard::none()).unwrap();
        let (first, share) = candidates.next(Duration::from_secs(10)).unwrap();
        assert_eq!((first, share), (found[0], Duration::from_secs(5)));
        candidates.failed(first, "refused");
        let (second, share) = candidates.next(Duration::from_millis(1)).unwrap();
        assert_eq!((second, share), (found[1], ADDRESS_TIMEOUT_MIN));
        candidates.failed(second, "timed out");
        assert_eq!(candidates.next(Duration::from_secs(1)), None);
        let reason = candidates.into_reason();
        assert_eq!(reason, "cannot connect to 127.0.0.1 port 9 ([::1]:9: refused; 1.0.0.1:9: timed out)");
        let none = Candidates::new(&at(9), Ok(std::iter::empty()), &Guard::none()).unwrap_err();
        assert_eq!(none, "127.0.0.1 has no address");
        let unknown: std::io::Result<std::iter::Empty<SocketAddr>> =
            Err(std::io::Error::other("no such name"));
        let reason = Candidates::new(&at(9), unknown, &Guard::none()).unwrap_err();
        assert_eq!(reason, "cannot look up 127.0.0.1: no such name");
    }

    #[test]
    fn families_take_turns_and_the_number_is_bounded() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let six = ["[::1]:1", "[::2]:1", "[::3]:1"].map(parse);
        let four = ["1.0.0.1:1", "1.0.0.2:1"].map(parse);
        let ordered = alternate(six.into_iter().chain(four));
        assert_eq!(ordered, [six[0], four[0], six[1], four[1], six[2]]);
        let many = (1..=ADDRESSES_MAX + 1).map(|n| parse(&format!("1.0.0.{n}:1")));
        assert_eq!(alternate(many).len(), ADDRESSES_MAX);
        assert_eq!(alternate(std::iter::empty()), []);
    }

    /// A name may lead to some addresses that are refused and some that are not, and to others each time.
    #[test]
    fn what_a_name_leads_to_is_judged_at_each_connection() {
        let guard = |hub: Option<&str>| Guard {
            rules: AddressRules::outside(false),
            hub: hub.map(|hub| hub.parse().unwrap()),
        };
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let found = ["127.0.0.1:9", "203.0.113.1:9", "[::1]:9", "169.254.169.254:9"].map(parse);
        let mut candidates =
            Candidates::new(&at(9), Ok(found.into_iter()), &guard(Some("198.51.100.1"))).unwrap();
        assert_eq!(candidates.next(Duration::from_secs(1)).map(|(target, _)| target), Some(found[1]));
        assert_eq!(candidates.next(Duration::from_secs(1)), None);
        let reason = candidates.into_reason();
        assert!(reason.contains("127.0.0.1:9: refused") && reason.contains("local link"), "{reason}");
        let inside = || Ok(["127.0.0.2:9", "[::ffff:127.0.0.1]:9"].map(parse).into_iter());
        let reason = Candidates::new(&at(9), inside(), &guard(None)).unwrap_err();
        assert!(reason.contains("this device itself"), "{reason}");
        assert!(Candidates::new(&at(9), inside(), &guard(Some("127.0.0.1"))).is_ok());
        assert!(Candidates::new(&at(9), inside(), &Guard::none()).is_ok());
    }

    #[test]
    fn a_proxy_is_not_asked_for_what_is_inside() {
        let proxy = Proxy::parse("http://proxy.example:3128").unwrap();
        let mut connector = Connector::new(Slow::default(), TestSignals::new(), ProxyRules::all(proxy));
        let second = Duration::from_secs(1);
        let mut start = |url: &str, rules| connector.start(Address::parse(url).unwrap(), second, rules);
        for url in ["http://127.0.0.1/", "http://localhost/", "http://127.1/", "https://[fe80::1]/"] {
            assert!(start(url, AddressRules::outside(false)).unwrap_err().contains("proxy"), "{url}");
            start(url, AddressRules::any()).unwrap();
        }
        start("http://files.example/", AddressRules::outside(false)).unwrap();
    }
}
