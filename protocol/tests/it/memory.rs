//! What an idle device costs: thousands fit in one process.

use crate::common::{Device, config};
use allocation_counter::measure;
use nerves_hub_link_protocol::*;

/// The most an idle joined device may keep on the heap, its configuration included.
const IDLE_HEAP: i64 = 4096;

#[test]
fn an_idle_joined_device_keeps_little() {
    for serializer in [Serializer::Json, Serializer::MsgPack] {
        let mut kept = None;
        let cost = measure(|| {
            let mut config = config();
            config.serializer = serializer;
            let mut device = Device::joined(config);
            // A burst: an update that is turned down after all.
            device.offer_and_ignore();
            (0..3).for_each(|_| device.beat());
            // The harness keeps orders and events; what remains is the machine.
            kept = Some(device.link);
        });
        assert!(matches!(kept.unwrap().status().connection, ConnectionState::Joined));
        assert!((1..=IDLE_HEAP).contains(&cost.bytes_current), "{} bytes", cost.bytes_current);
    }
}

#[test]
fn extensions_that_are_attached_and_idle_keep_little_too() {
    let mut kept = None;
    let cost = measure(|| {
        let mut device = Device::joined(config());
        device.invite(serde_json::json!({}));
        device.accept(serde_json::json!(["geo", "health", "network_identity"]));
        device.extension("health:check", serde_json::json!({}));
        device.command(ExtensionCommand::HealthReport(Box::default()).into());
        (0..3).for_each(|_| device.beat());
        kept = Some(device.link);
    });
    assert!(kept.unwrap().extensions().iter().all(|extension| extension.attached));
    println!("{} bytes", cost.bytes_current);
    assert!((1..=IDLE_HEAP).contains(&cost.bytes_current), "{} bytes", cost.bytes_current);
}

#[test]
fn a_heartbeat_allocates_its_frame_and_nothing_else() {
    let mut device = Device::joined(config());
    let beat = |device: &mut Device| {
        let at = device.link.deadline().unwrap();
        assert_eq!(at.why, Timer::Heartbeat);
        device.now.mono = at.at;
        let (now, socket) = (device.now, device.socket());
        let mut sent = None;
        let beat = measure(|| {
            device.link.handle(now, Input::Tick);
            sent = device.link.poll();
            assert!(device.link.poll().is_none());
            device.link.handle(now, Input::SocketSent { socket, frames: 1 });
        });
        let Some(Output::Send { text, .. }) = sent else { panic!("no heartbeat: {sent:?}") };
        let reference = text.split('"').nth(1).unwrap();
        let reply =
            format!(r#"[null,"{reference}","phoenix","phx_reply",{{"status":"ok","response":{{}}}}]"#);
        let answer = measure(|| {
            device.link.handle(now, Input::SocketText { socket, text: &reply });
            assert!(device.link.poll().is_none());
        });
        (beat.count_total, answer.count_total)
    };
    beat(&mut device);
    for _ in 0..10 {
        assert_eq!(beat(&mut device), (1, 0));
    }
}
