//! Connecting, staying connected, and coming back.

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::bench::{Adapter as _, Bench, Device, LIMIT, SERIAL, UnderTest};
use nerves_hub_link_protocol::limits::SEND_CREDIT;
use nerves_hub_link_protocol::{Client, Command, Decision, Event, FirmwareMeta, UpdateInfo};
use nerves_hub_link_runtime::{Control, Exit, HandleError, Options, RunnerError, Status};
use nerves_hub_link_testkit::hub::HubEvent;
use nerves_hub_link_testkit::server::{Firmware, Garbage, HubOptions, HubServer, Mischief, Times};
use nerves_hub_link_transport::{Roots, Tls, TlsOptions};

#[test]
fn a_device_connects_and_joins_over_tls() {
    let bench = Bench::new();
    let device = bench.start();
    let event = bench.hub_saw("a join", |event| matches!(event, HubEvent::Joined { .. }));
    let HubEvent::Joined { identifier, version, validated, auto_revert_detected, .. } = event else {
        unreachable!()
    };
    assert_eq!((identifier.as_str(), version.as_str()), (SERIAL, "1.0.0"));
    assert_eq!((validated, auto_revert_detected), (Some(true), false));
    let status = device.status_when("joined", Status::joined);
    assert!(status.connected() && status.last_error.is_none() && status.exit.is_none());
    assert!(device.handle.connected() && device.handle.joined());
    bench.hub_saw(
        "the interface",
        |event| matches!(event, HubEvent::NetworkInterface { interface: Some(name), .. } if name == "lo"),
    );
    device.stop();
    bench.hub_saw("the device leave", |event| matches!(event, HubEvent::Disconnected { .. }));
}

#[test]
fn a_plain_connection_works_too() {
    let bench = Bench::new();
    let hub = HubServer::start(HubOptions { tls: false, ..HubOptions::default() }).unwrap();
    let mut config = bench.config();
    config.host = hub.url();
    let device = bench.start_with(config, bench.installer());
    device.until_joined();
    device.stop();
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_talked_to() {
    let bench = Bench::new();
    let other = HubServer::start(HubOptions::default()).unwrap();
    let tls = Tls::new(&TlsOptions::new(Roots::Pem(other.ca_pem().as_bytes().to_vec()))).unwrap();
    let device = Device::start(bench.config(), tls, bench.installer(), |_| Decision::Apply);
    let event = device.until("disconnected", |event| matches!(event, Event::Disconnected { .. }));
    let Event::Disconnected { reason, .. } = event else { unreachable!() };
    assert!(reason.contains("localhost"), "{reason}");
    assert!(device.handle.status().last_error.is_some());
    device.stop();
    assert!(!bench.hub.log().iter().any(|event| matches!(event, HubEvent::Connected { .. })));
}

#[test]
fn a_hub_that_is_away_is_waited_for() {
    let mut bench = Bench::new();
    bench.hub.down();
    let device = bench.start();
    for _ in 0..3 {
        let event = device.until("refused", |event| matches!(event, Event::Disconnected { .. }));
        let Event::Disconnected { reason, retry_at, .. } = event else { unreachable!() };
        assert!(reason.contains("localhost") && reason.contains("refused"), "{reason}");
        assert!(retry_at.is_some());
    }
    bench.hub.up().unwrap();
    device.until_joined();
    device.stop();
}

#[test]
fn the_network_is_looked_for_before_the_first_connection() {
    let mut bench = Bench::new();
    let mut config = bench.config();
    config.wait_for_network = true;
    bench.hub.down();
    let device = bench.start_with(config.clone(), bench.installer());
    let event = device.until("a look that failed", |event| matches!(event, Event::WaitingForNetwork { .. }));
    let Event::WaitingForNetwork { reason, .. } = event else { unreachable!() };
    assert!(reason.contains("localhost") && reason.contains("refused"), "{reason}");
    device.status_when("told why", |status| status.last_error.as_ref() == Some(&reason));
    bench.hub.up().unwrap();
    device.handle.reconnect().unwrap();
    device.until_joined();
    device.stop();
    // Where there is one, the look costs next to nothing.
    let device = bench.start_with(config.clone(), bench.installer());
    device.until_joined();
    device.stop();
    // A name that can't even be looked at is told like one that can't be reached.
    config.host = "no-such-host.invalid".to_owned();
    let device = bench.start_with(config, bench.installer());
    device.until("a look that failed", |event| matches!(event, Event::WaitingForNetwork { .. }));
    device.stop();
}

#[test]
fn a_device_told_not_to_connect_stays_offline_until_asked() {
    struct Quiet;
    impl Client for Quiet {}
    let bench = Bench::new();
    let options = Options::new(bench.tls(), bench.installer(), Quiet).connect(false);
    let handle = UnderTest::start(bench.config(), options).unwrap();
    // Everything that needs a server fails cleanly, and the device lives on.
    handle.firmware_validated().unwrap();
    handle.reconnect().unwrap();
    assert!(!handle.connected() && handle.status().exit.is_none());
    handle.connect().unwrap();
    let (_, joined) = handle.wait_until(LIMIT, Status::joined);
    assert!(joined);
    let connections = bench.hub.log().iter().filter(|e| matches!(e, HubEvent::Connected { .. })).count();
    assert_eq!(connections, 1);
    handle.stop();
}

#[test]
fn a_restarted_hub_is_joined_again() {
    let mut bench = Bench::new();
    let device = bench.start();
    device.until_joined();
    bench.hub.restart().unwrap();
    device.until_joined();
    device.answers(&bench.hub);
    device.stop();
}

#[test]
fn a_hub_that_never_says_a_word_is_given_up_and_tried_again() {
    let bench = Bench::new();
    bench.hub.mischief(Mischief::Silent, Times::Once);
    let mut config = bench.config();
    config.connect_timeout = Duration::from_millis(200);
    let device = bench.start_with(config, bench.installer());
    let event = device.until("given up", |event| matches!(event, Event::Disconnected { .. }));
    assert!(matches!(&event, Event::Disconnected { reason, .. } if reason.contains("too long")), "{event:?}");
    device.until_joined();
    device.stop();
}

#[test]
fn a_socket_that_goes_mute_is_given_up_by_its_heartbeat() {
    let bench = Bench::new();
    bench.hub.mischief(Mischief::NoHeartbeatReplies, Times::UntilCleared);
    let mut config = bench.config();
    config.heartbeat = Duration::from_millis(100);
    let device = bench.start_with(config, bench.installer());
    device.until_joined();
    device.until("gone", |event| matches!(event, Event::Disconnected { .. }));
    bench.hub.clear_mischief();
    device.until_joined();
    device.stop();
}

#[test]
fn messages_keep_flowing_on_one_connection() {
    let bench = Bench::new();
    let device = bench.start();
    device.until_joined();
    // Many more answers than may be unacknowledged at a time. Scripts are not allowed, which takes no time.
    let count = 2 * SEND_CREDIT;
    for number in 0..count {
        assert!(bench.hub.with_hub(|hub, _| hub.run_script(SERIAL, &format!("s{number}"), "ls")));
    }
    let mut answers = 0;
    bench.hub_saw("all answers", |event| {
        answers += u32::from(matches!(event, HubEvent::ScriptAnswered { .. }));
        answers == count
    });
    let connected = |event: &&HubEvent| matches!(event, HubEvent::Connected { .. });
    assert_eq!(bench.hub.log().iter().filter(connected).count(), 1, "it stayed connected");
    device.stop();
}

#[test]
fn a_device_that_leaves_says_so_in_a_close_frame() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bench = Bench::new();
    let mut config = bench.config();
    config.host = format!("ws://{}", listener.local_addr().unwrap());
    let device = bench.start_with(config, bench.installer());
    let (tcp, _) = listener.accept().unwrap();
    tcp.set_read_timeout(Some(LIMIT)).unwrap();
    let mut socket = tungstenite::accept(tcp).unwrap();
    // Words it will not read before it leaves.
    socket.send(tungstenite::Message::text("not for you")).unwrap();
    device.until("connected", |event| *event == Event::Connected);
    device.stop();
    let code = loop {
        match socket.read().unwrap() {
            tungstenite::Message::Close(frame) => break frame.map(|frame| u16::from(frame.code)),
            other => assert!(other.is_text(), "{other:?}"),
        }
    };
    assert_eq!(code, Some(1000));
}

#[test]
fn a_refusal_is_explained_and_tried_again() {
    let bench = Bench::new();
    let refusal = Mischief::RefuseUpgrade { status: 503, retry_after: None };
    bench.hub.mischief(refusal, Times::Once);
    let device = bench.start();
    device.until("refused", |event| matches!(event, Event::Refused { status: 503, .. }));
    device.until_joined();
    device.stop();
}

#[test]
fn a_refusal_that_never_ends_is_one_all_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bench = Bench::new();
    let mut config = bench.config();
    config.host = format!("ws://{}", listener.local_addr().unwrap());
    config.connect_timeout = Duration::from_millis(300);
    let device = bench.start_with(config, bench.installer());
    let (mut tcp, _) = listener.accept().unwrap();
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 100\r\n\r\nbusy";
    tcp.write_all(answer).unwrap();
    let wait = Some(Duration::from_secs(7));
    device.until(
        "refused",
        |event| matches!(event, Event::Refused { status: 503, retry_after, .. } if *retry_after == wait),
    );
    device.stop();
}

#[test]
fn garbage_never_ends_a_device() {
    let bench = Bench::new();
    let device = bench.start();
    device.until_joined();
    for garbage in [
        Garbage::InvalidJson,
        Garbage::WrongArity,
        Garbage::NotAnArray,
        Garbage::InvalidUtf8,
        Garbage::Binary,
        Garbage::UnknownEvent,
        Garbage::WrongPayload,
        Garbage::UnknownTopic,
        Garbage::Oversize(8_000_001),
    ] {
        println!("{garbage:?}");
        bench.hub.send_garbage(&garbage);
        device.answers(&bench.hub);
        assert!(device.handle.status().exit.is_none());
    }
    bench.hub.crash_channels();
    device.answers(&bench.hub);
    device.stop();
}

#[test]
fn the_handle_goes_offline_and_back_and_reconnects() {
    let bench = Bench::new();
    let device = bench.start();
    device.until_joined();
    device.handle.reconnect().unwrap();
    device.until("left", |event| matches!(event, Event::Disconnected { .. }));
    device.until_joined();
    device.handle.disconnect().unwrap();
    device.status_when("offline", |status| !status.connected());
    device.handle.connect().unwrap();
    device.until_joined();
    let clone = device.handle.clone();
    device.stop();
    assert_eq!(clone.wait(), Exit::Stopped);
    assert_eq!(clone.reconnect(), Err(HandleError::Stopped));
}

#[test]
fn a_refused_command_is_told_and_changes_nothing() {
    let bench = Bench::new();
    let device = bench.start();
    device.until_joined();
    let nobody = nerves_hub_link_protocol::OfferId(99);
    device.handle.decide(nobody, Decision::Apply).unwrap();
    let notice = device.notices.recv_timeout(LIMIT).unwrap();
    assert!(notice.contains("offer 99"), "{notice}");
    device.answers(&bench.hub);
    device.stop();
}

#[test]
fn validation_is_reported_once_the_application_says_so() {
    let bench = Bench::new();
    let mut config = bench.config();
    config.firmware_validated = Some(false);
    let device = bench.start_with(config, bench.installer());
    device.until_joined();
    device.handle.firmware_validated().unwrap();
    bench.hub_saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
    device.stop();
}

#[test]
fn a_reboot_request_ends_the_run_after_the_application_was_asked() {
    let bench = Bench::new();
    let device = bench.start();
    device.until_joined();
    bench.hub.broadcast("reboot", &serde_json::json!({}));
    let Exit::Reboot { reason } = device.exit() else { panic!("{:?}", device.handle.status()) };
    assert_eq!(device.reboots.recv_timeout(LIMIT).unwrap(), reason);
    bench.hub_saw("the farewell", |event| matches!(event, HubEvent::Rebooting { .. }));
    assert_eq!(device.handle.stop(), Exit::Reboot { reason }, "a second end changes nothing");
}

#[test]
fn a_busy_server_reads_what_was_sent_before_the_device_left() {
    for reboot in [true, false] {
        let bench = Bench::new();
        let device = bench.start();
        device.until_joined();
        // It goes on writing when the device is gone, and reads only then.
        bench.hub.mischief(Mischief::BusySocket { ms: 500 }, Times::Once);
        if reboot {
            bench.hub.broadcast("reboot", &serde_json::json!({}));
            assert!(matches!(device.exit(), Exit::Reboot { .. }));
            bench.hub_saw("the farewell", |event| matches!(event, HubEvent::Rebooting { .. }));
        } else {
            bench.hub.broadcast("identify", &serde_json::json!({}));
            device.until("asked", |event| *event == Event::Identify);
            device.handle.command(Command::ConnectionTypes { types: vec!["wifi".to_owned()] }).unwrap();
            device.stop();
            bench.hub_saw("the last message", |event| matches!(event, HubEvent::ConnectionTypes { .. }));
        }
    }
}

#[test]
fn a_server_that_never_closes_its_side_holds_the_end_up_for_a_moment_only() {
    let bench = Bench::new();
    let device = bench.start();
    device.until_joined();
    bench.hub.mischief(Mischief::BusySocket { ms: 600_000 }, Times::Once);
    bench.hub.broadcast("identify", &serde_json::json!({}));
    device.until("asked", |event| *event == Event::Identify);
    device.stop();
}

#[test]
fn stopping_is_quick_at_any_moment() {
    let bench = Bench::new();
    // At once, perhaps before the first connection.
    bench.start().stop();
    // While the hub keeps silent.
    bench.hub.mischief(Mischief::Silent, Times::UntilCleared);
    let device = bench.start();
    device.until("dialling", |event| matches!(event, Event::Connecting { .. }));
    device.stop();
    bench.hub.clear_mischief();
    // While waiting for the next attempt.
    let mut config = bench.config();
    config.backoff.min = Duration::from_secs(600);
    config.backoff.max = Duration::from_secs(600);
    bench.hub.mischief(Mischief::RefuseUpgrade { status: 401, retry_after: None }, Times::UntilCleared);
    let device = bench.start_with(config, bench.installer());
    device.until("refused", |event| matches!(event, Event::Disconnected { .. }));
    device.stop();
}

#[test]
fn a_panicking_callback_is_told_and_the_device_goes_on() {
    struct Clumsy(Sender<Event>);
    impl Client for Clumsy {
        fn event(&mut self, event: &Event) {
            let _ = self.0.send(event.clone());
        }
        fn connected(&mut self) {
            panic!("no thought given to this");
        }
        fn update_available(&mut self, _: &FirmwareMeta, _: &UpdateInfo) -> Option<Decision> {
            panic!("nor to this");
        }
    }
    let bench = Bench::new();
    let (sender, events) = channel();
    let (notice, notices) = channel();
    let options = Options::new(bench.tls(), bench.installer(), Clumsy(sender))
        .on_notice(move |text| drop(notice.send(text.to_owned())));
    let handle = UnderTest::start(bench.config(), options).unwrap();
    assert!(notices.recv_timeout(LIMIT).unwrap().contains("no thought given to this"));
    bench.hub.deploy(Firmware::from_archive(&bench.firmware("1.1.0")).unwrap());
    assert!(notices.recv_timeout(LIMIT).unwrap().contains("nor to this"));
    // The default callback decides: else a firmware whose application always panics could never be replaced.
    let device = Device { handle, events, notices, reboots: channel().1 };
    assert!(matches!(device.exit(), Exit::Reboot { .. }));
    assert_eq!(bench.disk.boot().unwrap().meta.version, "1.1.0");
}

#[test]
fn a_decision_may_come_later_through_the_handle() {
    struct Thoughtful(Sender<Event>);
    impl Client for Thoughtful {
        fn event(&mut self, event: &Event) {
            let _ = self.0.send(event.clone());
        }
        fn update_available(&mut self, _: &FirmwareMeta, _: &UpdateInfo) -> Option<Decision> {
            None
        }
    }
    let bench = Bench::new();
    let (sender, events) = channel();
    let options = Options::new(bench.tls(), bench.installer(), Thoughtful(sender));
    let handle = UnderTest::start(bench.config(), options).unwrap();
    bench.hub.deploy(Firmware::from_archive(&bench.firmware("1.1.0")).unwrap());
    let offer = loop {
        if let Event::UpdateOffered { offer, .. } = events.recv_timeout(LIMIT).unwrap() {
            break offer;
        }
    };
    handle.decide(offer, Decision::Ignore { reason: "not on a Monday".into() }).unwrap();
    bench.hub_saw_status("ignored");
    assert_eq!(handle.stop(), Exit::Stopped);
}

#[test]
fn a_callback_that_asks_the_handle_gets_the_news_it_was_called_for() {
    struct Asker(Receiver<Control>, Sender<(bool, bool)>);
    impl Client for Asker {
        fn connected(&mut self) {
            let handle = self.0.recv_timeout(LIMIT).unwrap();
            self.1.send((handle.connected(), handle.joined())).unwrap();
        }
    }
    let bench = Bench::new();
    let ((give, take), (tell, hear)) = (channel(), channel());
    let options = Options::new(bench.tls(), bench.installer(), Asker(take, tell));
    let handle = UnderTest::start(bench.config(), options).unwrap();
    give.send(Control::clone(&handle)).unwrap();
    assert_eq!(hear.recv_timeout(LIMIT).unwrap(), (true, true));
    assert_eq!(handle.stop(), Exit::Stopped);
}

#[test]
fn settings_that_make_no_sense_are_refused_at_once() {
    struct Quiet;
    impl Client for Quiet {}
    let bench = Bench::new();
    let mut config = bench.config();
    config.host = "not a host".to_owned();
    let error = UnderTest::start(config, Options::new(bench.tls(), bench.installer(), Quiet)).err().unwrap();
    assert!(matches!(error, RunnerError::Config(_)), "{error}");
}
