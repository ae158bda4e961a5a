//! TLS: versions, trust roots, and the words an error has for the person who reads it.

use crate::common::*;
use nerves_hub_link_transport::{
    Clock, Exchange, ExchangeEvent, ExchangeRequest, Proxy, Roots, Socket, SocketEvent, SocketRequest, Stage,
    Tls, TlsError, TlsOptions, TransportError,
};
use proptest::prelude::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// Fetches from `peer` and answers how it ended.
fn fetch(url: &str, options: &TlsOptions, peer: &mut Peer) -> Result<(), TransportError> {
    let mut outcomes = Vec::new();
    let tls = Tls::new(options).unwrap();
    let mut exchange = Exchange::new(&ExchangeRequest { url, headers: &[], tls: Some(&tls) }).unwrap();
    let mut answered = false;
    for _ in 0..10 {
        let sent = Machine::take_out(&mut exchange);
        peer.receive(&sent);
        if !answered && find(&peer.inbox, b"\r\n\r\n").is_some() {
            answered = true;
            peer.send(OK);
        }
        let received = peer.take_out();
        exchange.receive(&received);
        while let Some(event) = exchange.poll() {
            match event {
                ExchangeEvent::Failed(error) => outcomes.push(Err(error)),
                ExchangeEvent::End => outcomes.push(Ok(())),
                ExchangeEvent::Head { .. } | ExchangeEvent::Body(_) => {}
            }
        }
    }
    // The alert that tells the server goes out after a failure.
    let last = Machine::take_out(&mut exchange);
    peer.receive(&last);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes.remove(0)
}

fn tls_error(result: Result<(), TransportError>) -> TlsError {
    match result {
        Err(TransportError::Tls(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn assert_words(error: &TlsError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[test]
fn downloads_trust_the_systems_authorities_and_the_given_ones() {
    let mut socket = options();
    socket.server_name = Some("elsewhere.test".to_owned());
    let tls = Tls::new(&socket).unwrap();
    let downloads = tls.for_downloads().unwrap();
    let roots = downloads.roots().to_owned();
    assert!(roots.contains("operating system") && roots.contains("given as trust root"), "{roots}");
    assert!(!tls.roots().contains("trust roots of the operating system"), "{}", tls.roots());
    // The given authority vouches for a download's server, under the server's own name.
    let mut peer = Link::Tls13.peer();
    fetch(&Link::Tls13.url(false), &socket.for_downloads(), &mut peer).unwrap();
    assert!(
        tls_error(fetch(&Link::Tls13.url(false), &socket, &mut Link::Tls13.peer()))
            .to_string()
            .contains("elsewhere")
    );
    // Settings of the system alone serve both.
    let system = Tls::new(&TlsOptions::default()).unwrap();
    assert_eq!(system.for_downloads().unwrap().roots(), system.roots());
    assert!(matches!(Tls::new(&TlsOptions::new(Roots::All(vec![]))), Err(TlsError::EmptyRoots)));
    assert!(
        Tls::new(&TlsOptions::new(Roots::All(vec![Roots::System, Roots::Pem(b"none".to_vec())]))).is_err()
    );
}

#[test]
fn both_versions_are_spoken() {
    for (link, version) in
        [(Link::Tls12, rustls::ProtocolVersion::TLSv1_2), (Link::Tls13, rustls::ProtocolVersion::TLSv1_3)]
    {
        let mut peer = link.peer();
        assert_eq!(fetch(&link.url(false), &options(), &mut peer), Ok(()));
        assert_eq!(peer.tls_version(), Some(version));
        assert!(peer.got_close_notify);
    }
}

#[test]
fn roots_may_be_pem_or_der_and_the_host_an_ip_address() {
    let authority = authority();
    let other = Authority::new("Another CA");
    let bundle = format!("# comment\n{}\n{}", other.pem, authority.pem).into_bytes();
    for roots in [
        Roots::Pem(bundle),
        Roots::Der(vec![authority.der.to_vec()]),
        Roots::Der(vec![other.der.to_vec(), authority.der.to_vec()]),
    ] {
        let mut options = TlsOptions::new(roots);
        options.clock = at(NOW);
        for url in ["https://hub.test/", "https://192.0.2.1/"] {
            assert_eq!(fetch(url, &options, &mut Link::Tls13.peer()), Ok(()));
        }
    }
}

#[test]
fn a_server_name_may_replace_the_host() {
    let mut options = options();
    options.server_name = Some(HOST.to_owned());
    assert_eq!(fetch("https://10.0.0.7:8443/", &options, &mut Link::Tls12.peer()), Ok(()));
}

#[test]
fn an_unknown_authority_is_explained() {
    let mut options = TlsOptions::new(Roots::Pem(Authority::new("Another CA").pem.into_bytes()));
    options.clock = at(NOW);
    for link in [Link::Tls12, Link::Tls13] {
        let error = tls_error(fetch(&link.url(false), &options, &mut link.peer()));
        assert!(matches!(error, TlsError::UnknownIssuer { .. }), "{error:?}");
        assert_words(&error, &[HOST, "unknown authority", "the 1 PEM certificate given", "as trust root"]);
        assert!(error.is_retryable());
    }
    // The system's roots do not vouch for a private hub either.
    let mut options = TlsOptions::default();
    options.clock = at(NOW);
    let error = tls_error(fetch("https://hub.test/", &options, &mut Link::Tls13.peer()));
    assert_words(&error, &["unknown authority", "trust roots"]);
}

#[test]
fn an_expired_or_early_certificate_points_to_the_clock() {
    let mut options = options();
    options.clock = at(1_924_992_000);
    let error = tls_error(fetch("https://hub.test/", &options, &mut Link::Tls12.peer()));
    assert_words(
        &error,
        &[HOST, "expired on 2030-01-01 00:00 UTC", "says 2031-01-01 00:00 UTC", "check the clock"],
    );
    options.clock = at(60);
    let error = tls_error(fetch("https://hub.test/", &options, &mut Link::Tls13.peer()));
    assert_words(
        &error,
        &["not valid before 2020-01-01 00:00 UTC", "says 1970-01-01 00:01 UTC", "clock is probably behind"],
    );
    options.clock = Clock::Custom(std::sync::Arc::new(|| None));
    let error = tls_error(fetch("https://hub.test/", &options, &mut Link::Tls13.peer()));
    assert_words(&error, &["time is not known", "set the clock"]);
}

#[test]
fn a_wrong_name_shows_both_names() {
    let mut peer = Peer::tls(&authority().server(&["a.test", "b.test"]), &[&rustls::version::TLS13]);
    let error = tls_error(fetch("https://hub.test/", &options(), &mut peer));
    assert_words(&error, &["not valid for the name hub.test", "a.test", "b.test", "check the host"]);
}

#[test]
fn certificates_people_make_by_mistake_are_explained() {
    // A common name alone, and a CA certificate used by the server itself.
    let mut peer = Peer::tls(&authority().server(&[]), &[&rustls::version::TLS13]);
    let error = tls_error(fetch("https://hub.test/", &options(), &mut peer));
    assert_words(&error, &["no name at all", "subject alternative names"]);
    let (own, der) = Identity::self_signed_authority();
    let mut options = TlsOptions::new(Roots::Der(vec![der]));
    options.clock = at(NOW);
    let error =
        tls_error(fetch("https://hub.test/", &options, &mut Peer::tls(&own, &[&rustls::version::TLS12])));
    assert_words(&error, &["it is a CA certificate", "signed by that CA"]);
}

#[test]
fn many_names_are_cut() {
    let names: Vec<String> = (0..50).map(|number| format!("n{number}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut peer = Peer::tls(&authority().server(&names), &[&rustls::version::TLS13]);
    let error = tls_error(fetch("https://hub.test/", &options(), &mut peer));
    assert_words(&error, &["n0.test", "45 more"]);
}

/// The device endpoint's answer to every certificate it refuses (recording `tls_client_certificates`).
#[test]
fn alerts_are_explained() {
    for (alert, words) in [
        (40, &["\"handshake failure\"", "no TLS version, cipher or curve", "this device showed none"][..]),
        (42, &["\"bad certificate\"", "this device showed none"]),
        (46, &["\"certificate unknown\"", "this device showed none"]),
        (48, &["\"unknown ca\"", "this device showed none"]),
        (70, &["\"protocol version\"", "1.2 and 1.3"]),
        (80, &["\"internal error\"", "problem of its own"]),
        (112, &["\"unrecognised name\"", "host name"]),
        (116, &["\"certificate required\"", "wants a client certificate"]),
        (120, &["\"no application protocol\"", "HTTP/1.1"]),
        (22, &["\"record overflow\"", "RFC 8446"]),
    ] {
        for bytewise in [false, true] {
            let mut socket = socket(Link::Tls13);
            let record = [21, 3, 3, 0, 2, 2, alert];
            let mut seen = Vec::new();
            for piece in record.chunks(if bytewise { 1 } else { record.len() }) {
                socket.receive(piece);
                drain(&mut socket, &mut seen);
            }
            let [Seen::Failed(text)] = seen.as_slice() else { panic!("{alert}: {seen:?}") };
            for word in words {
                assert!(text.contains(word), "{word:?} is not in: {text}");
            }
        }
    }
}

/// A proxy may inspect TLS, answer in place of the server, or end the way: it is named, and what the server may have done stays.
#[test]
fn what_fails_behind_a_proxy_names_the_proxy() {
    let proxy = Proxy::parse("http://user:s3cret@proxy.example:3128").unwrap();
    let mut strangers = TlsOptions::new(Roots::Pem(Authority::new("x").pem.into_bytes()));
    strangers.clock = at(NOW);
    let strangers = Tls::new(&strangers).unwrap();
    let request = ExchangeRequest { url: "https://hub.test/", headers: &[], tls: Some(&strangers) };
    let alert = |number| Some(vec![21, 3, 3, 0, 2, 2, number]);
    let exempt = "exempt this host there";
    for (hub, what, words) in [
        (
            false,
            // The server's own answer.
            None,
            &["unknown authority", "if it inspects TLS, the certificate is its own", exempt][..],
        ),
        (true, alert(40), &["or the hub wants a client certificate", "without client certificates", exempt]),
        (
            false,
            alert(40),
            &["this file server, which is not the hub", "answers in place of the server", exempt],
        ),
        (true, alert(116), &["wants a client certificate", "without client certificates"]),
        (
            true,
            Some(b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec()),
            &["does not speak TLS", "answers in place of the server"],
        ),
        (
            true,
            Some(Vec::new()),
            &["ended the connection during the TLS handshake", "which may have ended the connection"],
        ),
        (
            false,
            Some(Vec::new()),
            &["ended the connection during the TLS handshake", "which may have ended the connection"],
        ),
    ] {
        for through in [true, false] {
            let (mut socket, mut exchange) = (socket(Link::Tls12), Exchange::new(&request).unwrap());
            let mut peer = Link::Tls12.peer();
            peer.receive(&Machine::take_out(&mut exchange));
            let what = what.clone().unwrap_or_else(|| peer.take_out());
            let error = if hub {
                if through {
                    socket.through(&proxy);
                }
                socket.receive(&what);
                socket.receive_eof();
                match socket.poll() {
                    Some(SocketEvent::Failed(error)) => error,
                    other => panic!("{other:?}"),
                }
            } else {
                if through {
                    exchange.through(&proxy);
                }
                exchange.receive(&what);
                exchange.receive_eof();
                match exchange.poll() {
                    Some(ExchangeEvent::Failed(error)) => error,
                    other => panic!("{other:?}"),
                }
            };
            let text = error.to_string();
            assert!(error.is_retryable() && !text.contains("s3cret") && text.len() < 400, "{text}");
            assert_eq!(text.starts_with("behind the proxy proxy.example:3128 ("), through, "{text}");
            assert_eq!(matches!(error, TransportError::Proxied { .. }), through, "{text}");
            for word in words.iter().filter(|_| through) {
                assert!(text.contains(word), "{word:?} is not in: {text}");
            }
        }
    }
}

#[test]
fn a_server_that_speaks_no_tls_is_named_so() {
    let mut socket = socket(Link::Tls13);
    socket.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let Some(SocketEvent::Failed(TransportError::Tls(error))) = socket.poll() else { panic!() };
    assert_words(&error, &["does not speak TLS on this port", "check the port and the scheme"]);
    assert_eq!(socket.poll(), None);
}

#[test]
fn an_end_during_the_handshake_is_told_from_a_later_one() {
    let host = HOST.to_owned();
    let ended = |during| TransportError::Ended { host: host.clone(), during };
    let mut nothing = socket(Link::Tls13);
    nothing.receive_eof();
    assert_eq!(nothing.poll(), Some(SocketEvent::Failed(ended(Stage::TlsHandshake))));

    // After half of the server's first flight.
    let (mut half, mut peer) = (socket(Link::Tls12), Link::Tls12.peer());
    peer.receive(&Machine::take_out(&mut half));
    let flight = peer.take_out();
    half.receive(&flight[..flight.len() / 2]);
    assert_eq!(half.poll(), None);
    half.receive_eof();
    assert_eq!(half.poll(), Some(SocketEvent::Failed(ended(Stage::TlsHandshake))));

    for link in [Link::Tls12, Link::Tls13] {
        for finish in [Finish::Clean, Finish::Cut] {
            let (seen, _) = answer(&mut socket(link), link, &mut Cuts::whole(), b"", finish);
            assert_eq!(seen, [Seen::Failed(ended(Stage::Answer).to_string())]);
        }
    }
}

#[test]
fn a_changed_byte_fails_the_connection() {
    let (mut socket, mut peer) = (socket(Link::Tls13), Link::Tls13.peer());
    let seen = converse(&mut socket, &mut peer, &mut Cuts::whole(), Finish::Stay, |_, peer, seen| {
        if seen.is_empty() && find(&peer.inbox, b"\r\n\r\n").is_some() {
            peer.send(upgraded());
            let mut bytes = peer.take_out();
            *bytes.last_mut().unwrap() ^= 1;
            peer.send_raw(&bytes);
        }
        false
    });
    let [Seen::Failed(text)] = seen.as_slice() else { panic!("{seen:?}") };
    assert!(text.contains("the TLS connection to hub.test failed"), "{text}");
}

#[test]
fn unusable_settings_are_named() {
    let new = |roots| Tls::new(&TlsOptions::new(roots)).unwrap_err();
    assert_eq!(new(Roots::Pem(Vec::new())), TlsError::EmptyRootsPem { size: 0 });
    assert_eq!(new(Roots::Pem(b"garbage".to_vec())), TlsError::EmptyRootsPem { size: 7 });
    // A key is no certificate, and a DER file is no PEM file.
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes();
    assert!(matches!(new(Roots::Pem(key)), TlsError::EmptyRootsPem { .. }));
    assert!(matches!(new(Roots::Pem(authority().der.to_vec())), TlsError::EmptyRootsPem { .. }));
    assert_words(&new(Roots::Pem(Vec::new())), &["PEM", "hold no certificate", "BEGIN CERTIFICATE"]);

    let cut = authority().pem.lines().take(3).collect::<Vec<_>>().join("\n").into_bytes();
    let error = new(Roots::Pem(cut));
    assert!(matches!(error, TlsError::BadRootsPem { number: 1, .. }), "{error:?}");
    let damaged = format!("{}{}", authority().pem, authority().pem.replacen('M', "!", 1)).into_bytes();
    let error = new(Roots::Pem(damaged));
    assert!(matches!(error, TlsError::BadRootsPem { number: 2, .. }), "{error:?}");

    assert_eq!(new(Roots::Der(Vec::new())), TlsError::EmptyRoots);
    let error = new(Roots::Der(vec![authority().der.to_vec(), vec![1, 2, 3]]));
    assert!(matches!(error, TlsError::BadRoot { number: 2, form: "DER", .. }), "{error:?}");

    let mut options = options();
    options.server_name = Some("no name".to_owned());
    let error = Tls::new(&options).unwrap_err();
    assert_words(&error, &["\"no name\"", "neither a DNS name nor an IP address"]);
    assert!(!error.is_retryable());
}

#[test]
fn a_host_no_certificate_could_name_is_refused_at_once() {
    let request = SocketRequest { url: "wss://under_score-.test./", headers: &[], tls: Some(client_tls()) };
    // Underscores occur in host names; a label must not end in a hyphen.
    let error = Socket::new(&request, RANDOM).unwrap_err();
    assert!(matches!(error, TransportError::Tls(TlsError::ServerName { .. })), "{error:?}");
}

#[test]
fn the_system_roots_are_never_empty() {
    let tls = Tls::new(&TlsOptions::default()).unwrap();
    assert!(tls.roots().contains("trust roots"), "{}", tls.roots());
    assert!(format!("{tls:?}").contains("trust roots"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes in place of TLS, or after half a handshake: an event or silence, never a panic, and the
    /// same however they are cut.
    #[test]
    fn any_bytes_in_place_of_tls(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        first in prop::sample::select(vec![&[][..], &[22, 3, 3], &[21, 3, 3, 0, 2], &[20, 3, 3, 0, 1, 1], &[23, 3, 3]]),
        half in any::<bool>(),
    ) {
        let outcome = |bytewise: bool| {
            let (mut socket, mut peer) = (socket(Link::Tls12), Link::Tls12.peer());
            if half {
                peer.receive(&Machine::take_out(&mut socket));
                socket.receive(&peer.take_out());
            }
            let all = [first, &bytes].concat();
            let mut seen = Vec::new();
            for piece in all.chunks(if bytewise { 1 } else { 1000 }) {
                socket.receive(piece);
                drain(&mut socket, &mut seen);
            }
            socket.receive_eof();
            drain(&mut socket, &mut seen);
            seen
        };
        let whole = outcome(false);
        prop_assert_eq!(&whole, &outcome(true));
        prop_assert!(matches!(whole.as_slice(), [Seen::Failed(_)]), "{:?}", whole);
    }
}
