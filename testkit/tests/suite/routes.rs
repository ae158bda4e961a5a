//! Ways to the server: through a proxy, and with a certificate in the place of a secret.

use std::sync::mpsc::{Sender, channel};

use nerves_hub_link_protocol::{Auth, Client, Config, Event};
use nerves_hub_link_runtime::{Exit, Options, Status};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::ProxyServer;
use nerves_hub_link_transport::{ClientIdentity, Proxy, Roots, Tls, TlsOptions};

use crate::bench::{Adapter as _, Bench, Device, LIMIT, UnderTest};

struct Quiet;

impl Client for Quiet {}

struct Ear(Sender<Event>);

impl Client for Ear {
    fn event(&mut self, event: &Event) {
        let _ = self.0.send(event.clone());
    }
}

fn through(bench: &Bench, proxy: &str, change: impl FnOnce(&mut Config)) -> Device {
    let mut config = bench.config();
    change(&mut config);
    let proxy = Proxy::parse(proxy).unwrap();
    Device::start_as(
        config,
        bench.tls(),
        bench.installer(),
        |_| nerves_hub_link_protocol::Decision::Apply,
        |options| options.proxy(proxy),
    )
}

#[test]
fn the_look_for_the_network_the_socket_and_the_download_go_through_the_proxy() {
    let bench = Bench::new();
    let proxy = ProxyServer::start("user", "pass").unwrap();
    bench.deploy("1.1.0");
    let url = format!("http://user:pass@{}", proxy.address());
    let device = through(&bench, &url, |config| config.wait_for_network = true);
    bench.assert_updated(&device);
    assert!(proxy.ways() >= 3, "{} ways", proxy.ways());
}

#[test]
fn a_proxy_that_refuses_is_named_without_its_password() {
    let bench = Bench::new();
    let proxy = ProxyServer::start("user", "pass").unwrap();
    let device = through(&bench, &format!("http://user:s3cret@{}", proxy.address()), |_| {});
    let event = device.until("refused", |event| matches!(event, Event::Disconnected { .. }));
    let Event::Disconnected { reason, .. } = event else { unreachable!() };
    assert!(
        reason.contains("the proxy 127.0.0.1") && reason.contains("rejects the user and the password"),
        "{reason}"
    );
    assert!(!reason.contains("s3cret"), "{reason}");
    device.stop();
    assert_eq!(proxy.ways(), 0);
    assert!(!bench.hub.log().iter().any(|event| matches!(event, HubEvent::Connected { .. })));
}

#[test]
fn a_proxy_that_is_away_or_keeps_silent_is_named_and_tried_again() {
    let bench = Bench::new();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    // It listens, and never answers.
    let device = through(&bench, &format!("http://{address}"), |config| {
        config.connect_timeout = std::time::Duration::from_millis(200);
    });
    let reason = |what: &str| {
        let event = device.until(
            what,
            |event| matches!(event, Event::Disconnected { reason, .. } if reason.contains(what)),
        );
        let Event::Disconnected { reason, .. } = event else { unreachable!() };
        reason
    };
    reason("took too long");
    drop(gone);
    let refused = reason("refused");
    assert!(refused.contains("the proxy") && refused.contains(&address.port().to_string()), "{refused}");
    device.stop();
}

#[test]
fn a_client_certificate_proves_who_the_device_is() {
    let bench = Bench::new();
    let (certificates, key) = bench.hub.device_certificate("certified-1").unwrap();
    let mut options = TlsOptions::new(Roots::Pem(bench.hub.ca_pem().as_bytes().to_vec()));
    let (certificates, key) = (certificates.into_bytes(), key.into_bytes());
    options.identity = Some(ClientIdentity::Pem { certificates, key });
    let mut config = bench.config();
    config.auth = Auth::Certificate;
    let options = Options::new(Tls::new(&options).unwrap(), bench.installer(), Quiet);
    let handle = UnderTest::start(config, options).unwrap();
    bench.hub_saw(
        "the device of the certificate",
        |event| matches!(event, HubEvent::Joined { identifier, .. } if identifier == "certified-1"),
    );
    assert!(handle.wait_until(LIMIT, Status::joined).1);
    assert_eq!(handle.stop(), Exit::Stopped);
}

#[test]
fn without_the_certificate_the_server_lets_nobody_in() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.auth = Auth::Certificate;
    let (tell, told) = channel();
    let options = Options::new(bench.tls(), bench.installer(), Ear(tell));
    let handle = UnderTest::start(config, options).unwrap();
    let refused = |event: &Event| matches!(event, Event::Disconnected { .. } | Event::Refused { .. });
    while !refused(&told.recv_timeout(LIMIT).unwrap()) {}
    assert!(!handle.joined());
    handle.stop();
    assert!(!bench.hub.log().iter().any(|event| matches!(event, HubEvent::Joined { .. })));
}
