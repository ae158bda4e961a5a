//! Dialling, refusals, redirects, back-off, heartbeats and joins.

mod refusals;

use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::DUPLICATE_WINDOW;
use nerves_hub_link_protocol::*;
use serde_json::json;

fn url(host: &str, auth: Auth) -> String {
    let mut config = Config::new(host, auth, firmware());
    config.wait_for_network = false;
    let mut device = Device::new(config);
    device.command(Command::Connect);
    device.dial().url
}

#[test]
fn the_address_follows_the_host_and_the_kind_of_credentials() {
    let secret = || Auth::SharedSecret(SharedSecret::new("nhp_k", "s", "id"));
    let path = "/device-socket/websocket?vsn=2.0.0";
    assert_eq!(url("hub.example", secret()), format!("wss://hub.example{path}"));
    assert_eq!(url("hub.example:4001", secret()), format!("wss://hub.example:4001{path}"));
    assert_eq!(url("localhost:4000", secret()), format!("wss://localhost:4000{path}"));
    // A reverse proxy may have put the server below a path of its own.
    assert_eq!(
        url("ws://hub:80/a/b/?c=d", secret()),
        "ws://hub:80/a/b/device-socket/websocket?c=d&vsn=2.0.0"
    );
    assert_eq!(url("hub.example/nh", secret()), format!("wss://hub.example/nh{path}"));
    for given in ["/", "/device-socket", "/socket/", "/device-socket/websocket", "/socket/websocket"] {
        assert_eq!(url(&format!("wss://hub{given}"), secret()), format!("wss://hub{path}"));
        assert_eq!(url(&format!("wss://hub/x{given}"), secret()), format!("wss://hub/x{path}"));
    }
    for given in ["::1", "wss://::1", "[::1]"] {
        assert_eq!(url(given, secret()), format!("wss://[::1]{path}"));
    }
    assert_eq!(url("https://hub/", secret()), format!("wss://hub{path}"));
    assert_eq!(url(" http://[::1]:4 ", secret()), format!("ws://[::1]:4{path}"));
    assert_eq!(url("hub.example", Auth::Certificate), "wss://hub.example/socket/websocket?vsn=2.0.0");
}

fn secret(config: &mut Config) -> &mut SharedSecret {
    match &mut config.auth {
        Auth::SharedSecret(secret) => secret,
        _ => unreachable!(),
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let error = |change: &dyn Fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        Link::new(config, 0, Now::default()).map(|_| ()).unwrap_err()
    };
    assert_eq!(error(&|c| c.host = String::new()), ConfigError::Host(UrlError::Host));
    assert_eq!(error(&|c| c.host = "ftp://hub".into()), ConfigError::Host(UrlError::Scheme));
    assert_eq!(error(&|c| c.host = "hub example".into()), ConfigError::Host(UrlError::Host));
    for bad in ["", " ", "a\nb", &"x".repeat(256)] {
        assert_eq!(error(&|c| secret(c).identifier = bad.into()), ConfigError::Identifier, "{bad}");
    }
    for bad in
        ["unconfigured", "Unconfigured ", "00000000", "To Be Filled By O.E.M.", "\"None\"", "0123456789"]
    {
        let refused = error(&|c| secret(c).identifier = bad.into());
        assert_eq!(refused, ConfigError::Placeholder(bad.into()));
        assert!(refused.to_string().contains("a serial number of its own"), "{refused}");
    }
    assert_eq!(error(&|c| secret(c).key = String::new()), ConfigError::Key);
    assert_eq!(error(&|c| secret(c).key = "nhp_\r\nx: y".into()), ConfigError::Key);
    assert_eq!(error(&|c| secret(c).secret = Secret::default()), ConfigError::Secret);
    assert_eq!(error(&|c| secret(c).iterations = 0), ConfigError::KeyDerivation);
    assert_eq!(error(&|c| secret(c).iterations = 1_000_001), ConfigError::KeyDerivation);
    assert_eq!(error(&|c| secret(c).key_length = 1025), ConfigError::KeyDerivation);
    assert_eq!(error(&|c| c.public_keys = vec![KEY.into(), "AAAA".into()]), ConfigError::PublicKey(2));
    assert_eq!(error(&|c| c.public_keys = vec![KEY.into(); 65]), ConfigError::TooManyKeys(64));
    assert_eq!(
        error(&|c| c.headers = vec![("a:b".into(), Secret::new("c"))]),
        ConfigError::Header("a:b".into())
    );
    assert_eq!(
        error(&|c| c.headers = vec![("a".into(), Secret::new("c\n"))]),
        ConfigError::Header("a".into())
    );
    assert_eq!(error(&|c| c.backoff.min = Duration::ZERO), ConfigError::Backoff);
    assert_eq!(error(&|c| c.backoff.jitter = f64::NAN), ConfigError::Backoff);
    assert_eq!(error(&|c| c.backoff.jitter = -0.1), ConfigError::Backoff);
    assert_eq!(error(&|c| c.backoff.max = Duration::from_millis(1)), ConfigError::Backoff);
    assert_eq!(error(&|c| c.join_timeout = Duration::ZERO), ConfigError::Zero("join_timeout"));
    let mut at = config();
    secret(&mut at).identifier = "y".repeat(255);
    at.public_keys = vec![KEY.into(); 64];
    assert!(Link::new(at, 0, Now::default()).is_ok());
}

/// Milliseconds between a disconnection and the next attempt.
fn waits(device: &mut Device, times: usize) -> Vec<u64> {
    (0..times)
        .map(|_| {
            let at = device.now.mono;
            let retry = events(&device.down(None)).iter().find_map(|event| match event {
                Event::Disconnected { retry_at, .. } => *retry_at,
                _ => None,
            });
            let wait = retry.unwrap() - at;
            let out = device.pass(wait);
            assert!(matches!(out.last(), Some(Output::Dial(_))));
            u64::try_from(wait.as_millis()).unwrap()
        })
        .collect()
}

#[test]
fn the_back_off_doubles_to_its_maximum() {
    let mut device = Device::new(config());
    device.command(Command::Connect);
    assert_eq!(waits(&mut device, 9), [1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
}

#[test]
fn jitter_only_adds_and_differs_between_devices() {
    let mut all = Vec::new();
    for seed in 0..50 {
        let mut config = config();
        config.backoff.jitter = 0.5;
        let mut device = Device::new(config.clone());
        device.link = Link::new(config, seed, device.now).unwrap();
        device.command(Command::Connect);
        let waits = waits(&mut device, 7);
        for (wait, base) in waits.iter().zip([1000, 2000, 4000, 8000, 16000, 32000, 60000]) {
            assert!((base..=base * 3 / 2).contains(wait), "{waits:?}");
        }
        all.push(waits[6]);
    }
    let average = all.iter().sum::<u64>() / 50;
    assert!((72_000..78_000).contains(&average), "{average}");
    all.sort_unstable();
    all.dedup();
    assert!(all.len() > 45);
}

#[test]
fn the_back_off_starts_over_after_a_join_or_a_good_while() {
    let mut device = Device::new(config());
    device.command(Command::Connect);
    waits(&mut device, 3);
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    // Up is not enough: a server that accepts and drops at once must not be hammered.
    assert_eq!(waits(&mut device, 1), [8000]);
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    device.join();
    assert_eq!(waits(&mut device, 2), [1000, 2000]);
    let socket = device.socket();
    device.input(Input::SocketUp { socket, interface: None });
    device.pass(Duration::from_secs(30));
    assert_eq!(waits(&mut device, 1), [1000]);
}

fn refuse(device: &mut Device, status: u16, headers: &[HeaderRef<'_>], body: &[u8]) -> Vec<Output> {
    let socket = device.socket();
    device.input(Input::SocketRefused { socket, status, headers, body })
}

fn explanation(out: &[Output]) -> String {
    events(out)
        .iter()
        .find_map(|event| match event {
            Event::Refused { explanation, .. } => Some(explanation.clone()),
            _ => None,
        })
        .expect("not refused")
}

#[test]
fn the_application_s_own_delays_replace_the_back_off() {
    let delays = |seconds: &[u64]| seconds.iter().copied().map(Duration::from_secs).collect::<Vec<_>>();
    let mut config = config();
    config.reconnect_after = delays(&[2, 7]);
    let mut device = Device::new(config.clone());
    device.command(Command::Connect);
    assert_eq!(waits(&mut device, 3), [2000, 7000, 7000]);
    // From the present wait on.
    let at = device.now.mono;
    device.down(None);
    device.command(Command::ReconnectAfter { delays: delays(&[1, 2, 3, 4]) });
    assert_eq!(device.link.deadline().unwrap().at - at, Duration::from_secs(4));
    device.pass(Duration::from_secs(4));
    assert_eq!(waits(&mut device, 1), [4000]);
    device.command(Command::ReconnectAfter { delays: Vec::new() });
    assert_eq!(waits(&mut device, 1), [7000]);
    // A server's wish to be left alone still counts.
    refuse(&mut device, 429, &[("retry-after", "60")], b"");
    device.command(Command::ReconnectAfter { delays: delays(&[1]) });
    assert_eq!(device.link.deadline().unwrap().at - device.now.mono, Duration::from_secs(60));
    for bad in [vec![Duration::ZERO], delays(&[86_401]), delays(&[1; 65])] {
        let refused = device.link.command(device.now, Command::ReconnectAfter { delays: bad.clone() });
        assert_eq!(refused, Err(CommandError::ReconnectAfter));
        config.reconnect_after = bad;
        assert_eq!(Link::new(config.clone(), 0, Now::default()).err(), Some(ConfigError::ReconnectAfter));
    }
    config.reconnect_after = delays(&[86_400; 64]);
    assert!(Link::new(config, 0, Now::default()).is_ok());
}

#[test]
fn the_client_is_asked_for_delays_at_every_disconnection() {
    struct Impatient;
    impl Client for Impatient {
        fn reconnect_backoff(&mut self) -> Option<Vec<Duration>> {
            Some(vec![Duration::from_millis(500)])
        }
    }
    let mut device = Device::new(config());
    device.command(Command::Connect);
    let event = events(&device.down(None)).pop().unwrap();
    let answer = client::deliver(&mut Impatient, device.link.running(), &event).unwrap();
    device.command(answer);
    assert_eq!(device.link.deadline().unwrap().at - device.now.mono, Duration::from_millis(500));
    let offline = Event::Disconnected { reason: String::new(), retry_at: None, retry_in: None };
    assert_eq!(client::deliver(&mut Impatient, device.link.running(), &offline), None);
}

#[test]
fn a_socket_url_keeps_its_path_and_query() {
    let url = |url: &str, auth: Auth| {
        let mut config = config();
        (config.socket_url, config.auth) = (Some(url.into()), auth);
        let mut device = Device::new(config);
        device.command(Command::Connect);
        device.dial().url
    };
    let secret = || Auth::SharedSecret(SharedSecret::new("nhp_key", "secret", "device-1"));
    assert_eq!(url("wss://h:1/x/y?a=b&vsn=9", secret()), "wss://h:1/x/y?a=b&vsn=2.0.0");
    assert_eq!(url("ws://h?a=b", secret()), "ws://h/device-socket/websocket?a=b&vsn=2.0.0");
    assert_eq!(url("wss://h/socket/websocket", secret()), "wss://h/device-socket/websocket?vsn=2.0.0");
    assert_eq!(url("wss://h/socket/websocket", Auth::Certificate), "wss://h/socket/websocket?vsn=2.0.0");
    let mut bad = config();
    bad.socket_url = Some("mailto:x".into());
    assert_eq!(Link::new(bad, 0, Now::default()).err(), Some(ConfigError::Host(UrlError::Scheme)));
}

fn retry_in(device: &Device, out: &[Output]) -> u64 {
    events(out)
        .iter()
        .find_map(|event| match event {
            Event::Disconnected { retry_at: Some(at), .. } => Some((*at - device.now.mono).as_secs()),
            _ => None,
        })
        .expect("no retry")
}

#[test]
fn a_dial_nobody_answers_is_given_up() {
    let mut device = Device::new(config());
    let socket = device.dialled(Command::Connect);
    assert_eq!(device.link.deadline().unwrap().why, Timer::Dial);
    let out = device.pass(Duration::from_secs(40));
    assert!(out.contains(&Output::HangUp {
        socket,
        code: 1000,
        reason: "the attempt to connect was never answered".into()
    }));
    // Its late success is stale.
    let out = device.input(Input::SocketUp { socket, interface: None });
    assert_eq!(out, []);
    assert_eq!(device.link.status().counters.stale_inputs, 1);
}

/// Kicks the device off. Returns whether a twin was suspected then, and the seconds until it returns.
fn kick(device: &mut Device, code: u16) -> (bool, u64) {
    let out = device.down(Some(code));
    (events(&out).contains(&Event::DuplicateIdentitySuspected), retry_in(device, &out))
}

/// Lets a joined device live for a time, with its heartbeats answered.
fn live(device: &mut Device, seconds: u64) {
    let end = device.now.mono + Duration::from_secs(seconds);
    while device.link.deadline().is_some_and(|deadline| deadline.at <= end) {
        if device.link.deadline().unwrap().why == Timer::Heartbeat {
            device.beat();
        } else {
            let wait = device.link.deadline().unwrap().at - device.now.mono;
            device.pass(wait);
        }
    }
    device.pass(end - device.now.mono);
}

#[test]
fn three_quick_kicks_mean_a_twin_and_longer_and_longer_waits() {
    for code in [1001, 1000] {
        let mut device = Device::joined(config());
        for _ in 0..2 {
            assert_eq!(kick(&mut device, code), (false, 1));
            device.come_back_after(1);
        }
        assert_eq!(kick(&mut device, code), (true, 60));
        device.come_back_after(60);
        let mut wait = 60;
        for expected in [120, 240, 480, 900, 900] {
            // A minute or so of peace is what the twin's own wait gives; it proves nothing.
            live(&mut device, wait);
            assert_eq!(kick(&mut device, code), (false, expected), "still suspected, told once");
            device.come_back_after(expected);
            wait = expected.min(500);
        }
        live(&mut device, 599);
        assert_eq!(kick(&mut device, code), (false, 900));
        device.come_back_after(900);
        live(&mut device, 600);
        assert_eq!(kick(&mut device, code), (false, 1), "left in peace for ten minutes");
    }
}

#[test]
fn kicks_count_towards_a_twin_for_a_minute() {
    // The first and the third of three kicks lie so far apart.
    for (apart, twin) in [(DUPLICATE_WINDOW.as_secs() - 1, true), (DUPLICATE_WINDOW.as_secs(), false)] {
        let mut device = Device::joined(config());
        assert_eq!(kick(&mut device, 1001), (false, 1));
        device.come_back_after(1);
        live(&mut device, 28);
        assert_eq!(kick(&mut device, 1001), (false, 1));
        device.come_back_after(1);
        live(&mut device, apart - 30);
        assert_eq!(kick(&mut device, 1001).0, twin, "{apart} s");
    }
}

#[test]
fn two_devices_with_one_identity_leave_the_server_alone() {
    let mut twins = [1, 2].map(|seed| {
        let mut config = config();
        config.backoff.jitter = 0.5;
        let mut device = Device::new(config.clone());
        device.link = Link::new(config, seed, device.now).unwrap();
        device.command(Command::Connect);
        device
    });
    // A server on which the newest connection wins, for six hours in steps of a second.
    let (mut dials, mut last_hour) = (0, 0);
    let mut on: Option<usize> = None;
    let mut seen = [SocketId(0); 2];
    for second in 0..6 * 3600 {
        for at in 0..2 {
            if on == Some(at) && second % 30 == 0 {
                let beat = twins[at].sent().iter().rfind(|message| message[3] == "heartbeat").cloned();
                if let Some(beat) = beat {
                    twins[at].server(
                        &json!([null, beat[1], "phoenix", "phx_reply", {"status": "ok", "response": {}}]),
                    );
                }
            }
            twins[at].pass(Duration::from_secs(1));
            let socket = twins[at].socket();
            if socket == seen[at] {
                continue;
            }
            seen[at] = socket;
            dials += 1;
            last_hour += u32::from(second >= 5 * 3600);
            if let Some(other) = on.filter(|other| *other != at) {
                twins[other].down(Some(1001));
            }
            on = Some(at);
            twins[at].input(Input::SocketUp { socket, interface: None });
            twins[at].join();
        }
    }
    assert!(dials < 80, "{dials} connections in six hours");
    assert!(last_hour <= 10, "{last_hour} connections in the last hour");
}

#[test]
fn other_closes_do_not_mean_a_twin() {
    let mut device = Device::joined(config());
    for code in [1012, 1000, 1011, 1012, 1002] {
        let out = device.down(Some(code));
        assert!(!events(&out).contains(&Event::DuplicateIdentitySuspected));
        device.come_back_after(1);
    }
}

#[test]
fn commands_go_online_offline_and_around() {
    let mut device = Device::new(config());
    assert_eq!(device.link.deadline(), None);
    assert_eq!(device.link.command(device.now, Command::Reconnect), Err(CommandError::Offline));
    device.command(Command::Disconnect);
    let first = device.connect();
    assert_eq!(device.command(Command::Connect), [], "already");
    let out = device.command(Command::Reconnect);
    assert!(matches!(out[0], Output::HangUp { socket, .. } if socket == first));
    assert_ne!(device.socket(), first);
    let second = device.socket();
    let out = device.command(Command::Disconnect);
    assert!(matches!(out[0], Output::HangUp { socket, .. } if socket == second));
    assert!(matches!(&events(&out)[..], [Event::Disconnected { retry_at: None, .. }]));
    assert_eq!(device.pass(Duration::from_secs(1000)), []);
    assert_eq!(device.link.status().connection, ConnectionState::Offline);
    device.command(Command::Connect);
    device.down(None);
    device.command(Command::Reconnect);
    assert_eq!(device.link.status().connection, ConnectionState::Dialing, "without waiting");
}

#[test]
fn time_never_goes_back() {
    let mut device = Device::new(config());
    let socket = device.dialled(Command::Connect);
    let earlier = Now { mono: Instant::ZERO, wall: device.now.wall };
    device.link.handle(earlier, Input::SocketDown { socket, code: None, reason: "" });
    let deadline = device.link.deadline().unwrap();
    assert_eq!((deadline.at, deadline.why), (device.now.mono + Duration::from_secs(1), Timer::Reconnect));
}

fn probes(out: &[Output]) -> Vec<Probe> {
    out.iter()
        .filter_map(|output| if let Output::Probe(probe) = output { Some(probe.clone()) } else { None })
        .collect()
}

#[test]
fn the_network_is_looked_for_before_the_first_connection_alone() {
    let mut config = config();
    config.wait_for_network = true;
    let mut device = Device::new(config);
    let out = device.command(Command::Connect);
    let [Output::Probe(probe)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(
        (probe.url.as_str(), probe.timeout),
        ("wss://hub.example/device-socket/websocket", Duration::from_secs(2))
    );
    assert_eq!(device.link.status().connection, ConnectionState::Waiting);
    let first = probe.probe;
    let out = device.input(Input::Unreachable { probe: first, reason: "no route" });
    assert_eq!(
        events(&out),
        [Event::WaitingForNetwork { reason: "no route".into(), waited: Duration::ZERO }]
    );
    assert_eq!(device.link.deadline().unwrap().why, Timer::Probe);
    // Every three seconds for ever; told again after a minute, and then every hour with the newest reason.
    let mut told = Vec::new();
    for look in 1..=3 * 1200 + 30 {
        let out = device.pass(Duration::from_secs(3));
        let [Output::Probe(probe)] = &out[..] else { panic!("{out:?}") };
        let (probe, reason) = (probe.probe, format!("no route {look}"));
        for event in events(&device.input(Input::Unreachable { probe, reason: &reason })) {
            let Event::WaitingForNetwork { reason: newest, waited } = event else { panic!("{event:?}") };
            assert_eq!(newest, reason);
            told.push(waited.as_secs());
        }
    }
    assert_eq!(told, [60, 3660, 7260, 10_860]);
    // One that is never answered is given up.
    let probe = probes(&device.pass(Duration::from_secs(3)))[0].probe;
    assert_eq!(probes(&device.pass(Duration::from_secs(2 + 10 + 3))).len(), 1);
    assert_eq!(device.input(Input::Reachable { probe }), [], "its late answer is stale");
    let probe = probes(&device.out).last().unwrap().probe;
    let out = device.input(Input::Reachable { probe });
    assert!(
        matches!(&out[..], [Output::Event(Event::Connecting { attempt: 0 }), Output::Dial(_)]),
        "{out:?}"
    );
    // Never again.
    device.down(None);
    assert_eq!(probes(&device.pass(Duration::from_secs(1))), []);
    device.command(Command::Disconnect);
    assert!(matches!(&device.command(Command::Connect)[..], [_, Output::Dial(_)]));
}

#[test]
fn going_offline_or_dialling_at_once_ends_the_look_for_the_network() {
    let mut config = config();
    config.wait_for_network = true;
    let mut device = Device::new(config);
    let probe = probes(&device.command(Command::Connect))[0].probe;
    device.command(Command::Disconnect);
    assert_eq!(device.input(Input::Reachable { probe }), []);
    assert_eq!(device.link.deadline(), None);
    let probe = probes(&device.command(Command::Connect))[0].probe;
    assert!(matches!(&device.command(Command::Reconnect)[..], [_, Output::Dial(_)]));
    assert_eq!(device.input(Input::Unreachable { probe, reason: "x" }), []);
    assert_eq!(device.link.status().counters.stale_inputs, 2);
}

#[test]
fn a_machine_starts_offline_and_everything_fails_cleanly() {
    let mut device = Device::new(config());
    assert_eq!(device.link.status().connection, ConnectionState::Offline);
    device.command(Command::FirmwareValidated);
    device.command(Command::ConnectionTypes { types: vec!["wifi".into()] });
    for command in
        [Command::CheckUpdate, Command::RequestUpdate, Command::SetUpdateMode { mode: UpdateMode::Automatic }]
    {
        assert_eq!(device.link.command(device.now, command), Err(CommandError::NotJoined));
    }
    assert_eq!(device.drain(), []);
    assert_eq!(device.link.deadline(), None);
    device.connect();
    device.join();
    assert_eq!(device.last_sent("phx_join")[4]["meta"]["firmware_validated"], true);
    assert_eq!(device.last_sent("connection_types")[4], json!({"values": ["wifi"]}));
}
