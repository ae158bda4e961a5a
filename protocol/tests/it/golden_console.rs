//! The console as recorded between the real server and the real client: the same messages, from our machine.

use crate::common::recordings::{from_server, recordings};
use crate::common::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nerves_hub_link_protocol::*;
use serde_json::Value;

/// The messages of the device on a topic, as event and payload.
fn from_device(lines: &[Value], topic: &str) -> Vec<(String, Value)> {
    let lines = lines.iter().filter(|line| line["dir"] == "client_to_server" && line["topic"] == topic);
    lines.map(|line| (line["event"].as_str().unwrap().to_owned(), line["payload"].clone())).collect()
}

#[test]
fn the_recorded_console_session() {
    let Some(recordings) = recordings() else { return };
    let Some(lines) = recordings.get("console") else {
        println!("SKIPPED: no recording of the console");
        return;
    };
    let mut config = config();
    config.console = Some(ConsoleConfig::default());
    let mut device = Device::with_console(config);
    for line in from_server(lines, "text").iter().filter(|line| line["topic"] == "console") {
        if line["event"] != "phx_reply" {
            device.console(line["event"].as_str().unwrap(), line["payload"].clone());
        }
    }
    let counters = device.link.status().counters;
    assert_eq!((counters.malformed_messages, counters.unknown_events, counters.stale_messages), (0, 0, 0));

    // What was typed arrived, key by key.
    let events = device.events();
    let typed: String = events
        .iter()
        .filter_map(|event| match event {
            Event::Shell(ShellEvent::Input { data, .. }) => Some(data.expose()),
            _ => None,
        })
        .collect();
    assert!(typed.starts_with("1+1\r\"grüße ☃\"\r") && typed.ends_with("2+2\r"), "{typed:?}");
    let sizes: Vec<WindowSize> = events
        .iter()
        .filter_map(|event| match event {
            Event::Shell(ShellEvent::Resized { size, .. }) => Some(*size),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [WindowSize { rows: 40, cols: 120 }, WindowSize { rows: 24, cols: 80 }]);
    let shells =
        events.iter().filter(|event| matches!(event, Event::Shell(ShellEvent::Wanted { .. }))).count();
    assert_eq!(shells, 2, "one, and one after the restart");

    // The file has the 2500 bytes that were dropped.
    let file: Vec<u8> = events
        .iter()
        .filter_map(|event| match event {
            Event::File(FileEvent::Chunk { data, .. }) => Some(&data.0[..]),
            _ => None,
        })
        .collect::<Vec<_>>()
        .concat();
    assert!((0..2500).map(|byte| u8::try_from(byte % 251).unwrap()).eq(file), "another content");
    let named =
        |event: &Event| matches!(event, Event::File(FileEvent::Started { name, .. }) if name == "hello.bin");
    assert!(
        events.iter().any(named)
            && events.iter().any(|event| matches!(event, Event::File(FileEvent::Finished { .. })))
    );

    // The notice has the recorded frame around our own word for the shell.
    let recorded = from_device(lines, "console");
    let notice = recorded.iter().filter_map(|(_, payload)| payload["data"].as_str());
    let notice = notice.filter(|text| text.contains("***")).collect::<Vec<_>>();
    assert_eq!(shown(&device.out), [notice[0].replace("IEx", "shell")]);

    // The file the other way is sent in the recorded messages.
    let parts: Vec<(String, Value)> =
        recorded.into_iter().filter(|(event, _)| event.starts_with("file-data")).collect();
    let pieces = parts.iter().filter_map(|(_, payload)| payload["data"].as_str());
    let content: Vec<u8> = pieces.flat_map(|piece| STANDARD.decode(piece).unwrap()).collect();
    device.out.clear();
    let size = u64::try_from(content.len()).unwrap();
    let told = crate::common::events(
        &device.command(Command::Upload(UploadCommand::Send { name: "report.txt".into(), size })),
    );
    let Event::Upload(UploadEvent::Started { upload, .. }) = told[0] else { panic!("{told:?}") };
    device.command(Command::Upload(UploadCommand::Data { upload, data: content.into() }));
    let ours = sent(&device.out).into_iter().map(|message| {
        let event = message[3].as_str().unwrap().to_owned();
        (event, message[4].clone())
    });
    assert_eq!(ours.collect::<Vec<_>>(), parts);
}
