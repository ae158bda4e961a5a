//! Files on the console, both ways: names that lead nowhere else, sizes that end somewhere, nothing kept over a
//! disconnection.

use std::time::Duration;

use crate::common::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

const BLINK: Duration = Duration::from_micros(1);

fn allowed() -> Config {
    let mut config = config();
    config.console = Some(ConsoleConfig::default());
    config.heartbeat = Duration::ZERO;
    config
}

/// A console with a shell, so that files don't open one.
fn console() -> Device {
    console_with(allowed())
}

fn console_with(config: Config) -> Device {
    let mut device = Device::with_console(config);
    device.console("dn", json!({"data": "\r"}));
    device.out.clear();
    device
}

fn start(device: &mut Device, name: &str) -> Vec<Output> {
    device.console("file-data/start", json!({"filename": name, "uploaded_by": 1}))
}

/// Starts a file; returns its number.
fn started(device: &mut Device, name: &str) -> FileId {
    let told = events(&start(device, name));
    match &told[..] {
        [Event::File(FileEvent::Started { file, name: told })] if told == name => *file,
        other => panic!("{name}: {other:?}"),
    }
}

fn chunk(device: &mut Device, name: &str, bytes: &[u8]) -> Vec<Output> {
    let data = STANDARD.encode(bytes);
    device.console("file-data", json!({"filename": name, "chunk": 0, "data": data}))
}

fn stop(device: &mut Device, name: &str) -> Vec<Event> {
    events(&device.console("file-data/stop", json!({"filename": name, "uploaded_by": 1})))
}

/// Why a file was discarded, as told to the application and shown to the operator.
fn discarded(device: &mut Device, out: &[Output], file: FileId) -> String {
    let reason = events(out).iter().find_map(|event| match event {
        Event::File(FileEvent::Discarded { file: gone, reason }) if *gone == file => Some(reason.clone()),
        _ => None,
    });
    let reason = reason.expect("not discarded");
    device.pass(SHELL_OUTPUT_PAUSE);
    let shown = shown(&device.out).concat();
    assert!(shown.contains(&format!("was not received: {reason} ***\r\n")), "{shown:?}");
    reason
}

#[test]
fn a_file_is_received_in_pieces() {
    let mut device = console();
    let file = started(&mut device, "hello.bin");
    for piece in [&[0_u8, 1, 255][..], b"second", b""] {
        let told = events(&chunk(&mut device, "hello.bin", piece));
        assert_eq!(told, [Event::File(FileEvent::Chunk { file, data: piece.into() })]);
        device.command(Command::File(FileCommand::Stored { file, bytes: piece.len() }));
    }
    assert_eq!(stop(&mut device, "hello.bin"), [Event::File(FileEvent::Finished { file })]);
    // The last pieces may be stored after the end.
    device.command(Command::File(FileCommand::Stored { file, bytes: 0 }));
    assert_eq!(device.sent(), [] as [Value; 0]);
    // What comes later belongs to nothing.
    assert_eq!(chunk(&mut device, "hello.bin", b"more"), []);
    assert_eq!(stop(&mut device, "hello.bin"), []);
    assert_eq!(device.link.status().counters.stale_messages, 2);
}

#[test]
fn only_plain_names_are_taken() {
    let long = "n".repeat(MAX_FILE_NAME_BYTES);
    for name in ["a", ".profile", "with space.txt", "größe", "..a", "...", long.as_str()] {
        started(&mut console(), name);
    }
    let longer = "é".repeat(MAX_FILE_NAME_BYTES / 2 + 1);
    let bad = [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "../x",
        "a/b",
        "a/",
        "..\\x",
        "a\0b",
        "a\n",
        "\u{1b}[2J",
        "a\u{85}",
        longer.as_str(),
    ];
    for name in bad {
        let mut device = console();
        let out = start(&mut device, name);
        assert!(matches!(events(&out)[..], [Event::Malformed { .. }]), "{name:?}: {:?}", events(&out));
        let shown = shown(&out).concat();
        assert!(shown.contains("was not received: "), "{shown:?}");
        assert!(!shown.trim().chars().any(char::is_control), "{shown:?}");
        assert_eq!(chunk(&mut device, name, b"x"), []);
        assert_eq!(stop(&mut device, name), []);
        assert_eq!(device.link.status().counters.malformed_messages, 1);
    }
}

#[test]
fn a_file_has_the_configured_size_at_most() {
    assert_eq!(ConsoleConfig::default().max_file_size, 10 * 1024 * 1024);
    let mut config = allowed();
    config.console = Some(ConsoleConfig { max_file_size: 10, ..ConsoleConfig::default() });
    let mut device = console_with(config);
    let file = started(&mut device, "ten");
    chunk(&mut device, "ten", b"12345");
    assert!(matches!(
        events(&chunk(&mut device, "ten", b"67890"))[..],
        [Event::File(FileEvent::Chunk { .. })]
    ));
    let out = chunk(&mut device, "ten", b"!");
    assert!(discarded(&mut device, &out, file).contains("larger than the 10 bytes"));
    assert_eq!(stop(&mut device, "ten"), []);
}

#[test]
fn a_piece_has_a_bounded_size_and_must_be_base64() {
    let mut device = console();
    let file = started(&mut device, "a");
    let most = vec![7; MAX_FILE_CHUNK_BYTES];
    assert_eq!(
        events(&chunk(&mut device, "a", &most)),
        [Event::File(FileEvent::Chunk { file, data: most.clone().into() })]
    );
    let out = chunk(&mut device, "a", &[&most[..], b"!"].concat());
    assert!(discarded(&mut device, &out, file).contains("65536"));
    for bad in [json!("AAA"), json!("no base64"), json!("QUFB\n"), json!(7), json!(null)] {
        let mut device = console();
        let file = started(&mut device, "a");
        let out = device.console("file-data", json!({"filename": "a", "chunk": 0, "data": bad}));
        assert!(discarded(&mut device, &out, file).starts_with("a piece of it "));
    }
}

#[test]
fn a_slow_device_is_not_overrun() {
    let mut device = console();
    let file = started(&mut device, "a");
    let piece = vec![7; MAX_FILE_CHUNK_BYTES];
    let most = MAX_FILE_UNSTORED / MAX_FILE_CHUNK_BYTES;
    for _ in 0..most {
        chunk(&mut device, "a", &piece);
    }
    device.command(Command::File(FileCommand::Stored { file, bytes: 1 }));
    assert!(matches!(events(&chunk(&mut device, "a", b"x"))[..], [Event::File(FileEvent::Chunk { .. })]));
    let out = chunk(&mut device, "a", b"x");
    assert!(discarded(&mut device, &out, file).contains("faster than"));
    // Reports about pieces that were on their way before are no mistake.
    for _ in 0..most {
        assert_eq!(device.command(Command::File(FileCommand::Stored { file, bytes: 1 })), []);
    }
    let reason = "the disk is full".into();
    let out = device.command(Command::File(FileCommand::Failed { file, reason }));
    assert_eq!(shown(&out), [""; 0], "the operator has a reason already");
}

#[test]
fn a_few_files_come_at_once_and_no_more() {
    let mut device = console();
    let names: Vec<String> = (0..MAX_FILES).map(|number| format!("file {number}")).collect();
    let files: Vec<FileId> = names.iter().map(|name| started(&mut device, name)).collect();
    let out = start(&mut device, "one too many");
    assert!(matches!(events(&out)[..], [Event::Malformed { .. }]));
    assert!(shown(&out).concat().contains("\"one too many\" was not received: too many files"));
    for (name, file) in names.iter().zip(files) {
        chunk(&mut device, name, name.as_bytes());
        assert_eq!(stop(&mut device, name), [Event::File(FileEvent::Finished { file })]);
    }
    started(&mut device, "one too many");
}

#[test]
fn a_file_that_begins_again_replaces_what_came() {
    let mut device = console();
    let first = started(&mut device, "a");
    let told = events(&start(&mut device, "a"));
    let [
        Event::File(FileEvent::Discarded { file, .. }),
        Event::File(FileEvent::Started { file: second, .. }),
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(*file, first);
    assert_eq!(stop(&mut device, "a"), [Event::File(FileEvent::Finished { file: *second })]);
}

#[test]
fn a_file_that_does_not_go_on_is_given_up() {
    let mut device = console();
    let file = started(&mut device, "a");
    device.pass(FILE_IDLE.checked_sub(BLINK).unwrap());
    chunk(&mut device, "a", b"x");
    let deadline = device.link.deadline().unwrap();
    assert_eq!((deadline.why, deadline.at), (Timer::FileIdle, device.now.mono + FILE_IDLE));
    device.pass(FILE_IDLE.checked_sub(BLINK).unwrap());
    device.out.clear();
    let out = device.pass(BLINK);
    assert_eq!(discarded(&mut device, &out, file), "the rest did not come");
}

#[test]
fn unfinished_files_end_with_the_connection_the_channel_and_the_session() {
    let gone = |told: &[Event]| {
        told.iter().filter(|event| matches!(event, Event::File(FileEvent::Discarded { .. }))).count()
    };
    let mut device = console();
    started(&mut device, "a");
    started(&mut device, "b");
    assert_eq!(gone(&events(&device.down(None))), 2);
    device.come_back_after(2);
    device.join_console();
    assert_eq!(chunk(&mut device, "a", b"x"), []);

    let mut device = console();
    started(&mut device, "a");
    assert_eq!(gone(&events(&device.server(&json!(["2", "2", "console", "phx_close", {}])))), 1);

    let mut config = allowed();
    let timeout = Duration::from_secs(20);
    config.console = Some(ConsoleConfig { timeout, ..ConsoleConfig::default() });
    let mut device = console_with(config);
    started(&mut device, "a");
    assert_eq!(gone(&events(&device.pass(timeout))), 1);

    let mut device = console();
    started(&mut device, "a");
    assert_eq!(gone(&events(&device.command(Command::Disconnect))), 1);
}

#[test]
fn what_cannot_be_stored_is_told_to_the_operator() {
    let mut device = console();
    let file = started(&mut device, "a");
    let failed =
        |file| Command::File(FileCommand::Failed { file, reason: "no space left on the disk".into() });
    let out = device.command(failed(file));
    assert_eq!(shown(&out), ["\r\n*** \"a\" was not received: no space left on the disk ***\r\n"]);
    assert_eq!(shown(&device.command(failed(file))), [""; 0], "said once");
    assert_eq!(chunk(&mut device, "a", b"x"), []);
    // Also after the end, for the last few files.
    let files: Vec<FileId> = (0..=MAX_ENDED_FILES)
        .map(|_| {
            let file = started(&mut device, "a");
            stop(&mut device, "a");
            file
        })
        .collect();
    assert_eq!(device.link.command(device.now, failed(files[0])), Err(CommandError::UnknownFile(files[0])));
    device.pass(SHELL_OUTPUT_PAUSE);
    assert!(shown(&device.command(failed(files[1]))).concat().contains("no space left"));
}

#[test]
fn an_application_that_takes_no_files_says_so() {
    struct Plain;
    impl Client for Plain {}
    let mut device = console();
    let told = events(&start(&mut device, "a"));
    let answer =
        nerves_hub_link_protocol::client::deliver(&mut Plain, device.link.running(), &told[0]).unwrap();
    let shown = shown(&device.command(answer)).concat();
    assert!(shown.contains("\"a\" was not received: this device takes no files"), "{shown:?}");
}

#[test]
fn pieces_of_files_never_show() {
    let mut device = console();
    started(&mut device, "a");
    let told = events(&chunk(&mut device, "a", b"hunter2"));
    assert!(format!("{told:?}").contains("Chunk(7 bytes)"), "{told:?}");
}

/// Sends a file and feeds it as asked. Returns the messages.
fn upload(device: &mut Device, name: &str, content: &[u8]) -> Vec<Value> {
    let size = u64::try_from(content.len()).unwrap();
    let mut told = events(&device.command(Command::Upload(UploadCommand::Send { name: name.into(), size })));
    let Event::Upload(UploadEvent::Started { upload, name: told_name }) = told.remove(0) else {
        panic!("{told:?}")
    };
    assert_eq!(told_name, name);
    let mut at = 0;
    while !told.contains(&Event::Upload(UploadEvent::Finished { upload })) {
        let Some(Event::Upload(UploadEvent::Ready { bytes, .. })) = told.pop() else {
            panic!("stuck at {at}: {told:?}")
        };
        assert!(bytes > 0 && bytes <= MAX_UPLOAD_BUFFER);
        let data = content[at..at + bytes].into();
        at += bytes;
        told.extend(events(&device.command(Command::Upload(UploadCommand::Data { upload, data }))));
    }
    assert_eq!(at, content.len());
    let messages = device.sent();
    messages.into_iter().filter(|message| message[3].as_str().unwrap().starts_with("file-data")).collect()
}

#[test]
fn a_file_is_sent_in_pieces_of_1024_bytes_numbered_from_0() {
    for size in [0, 1, 1023, 1024, 1025, 2500, 100_000] {
        let content: Vec<u8> = (0..size).map(|byte: u32| u8::try_from(byte % 251).unwrap()).collect();
        let messages = upload(&mut console(), "report.txt", &content);
        let (first, rest) = messages.split_first().unwrap();
        let (last, pieces) = rest.split_last().unwrap();
        assert_eq!((&first[3], &first[4]), (&json!("file-data/start"), &json!({"filename": "report.txt"})));
        assert_eq!((&last[3], &last[4]), (&json!("file-data/stop"), &json!({"filename": "report.txt"})));
        let mut chunks = content.chunks(1024).zip(0..);
        for piece in pieces {
            let (chunk, number) = chunks.next().unwrap();
            let data = STANDARD.encode(chunk);
            assert_eq!(piece[4], json!({"filename": "report.txt", "chunk": number, "data": data}));
            assert_eq!(
                (&piece[0], &piece[2], &piece[3]),
                (&json!("2"), &json!("console"), &json!("file-data"))
            );
        }
        assert!(chunks.next().is_none());
    }
}

#[test]
fn bytes_of_a_file_may_come_in_any_pieces() {
    let content: Vec<u8> = (0..3000_u32).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
    let whole = upload(&mut console(), "a", &content);
    let mut device = console();
    let told = events(&device.command(Command::Upload(UploadCommand::Send { name: "a".into(), size: 3000 })));
    let Event::Upload(UploadEvent::Started { upload, .. }) = told[0] else { panic!("{told:?}") };
    for byte in &content {
        device.command(Command::Upload(UploadCommand::Data { upload, data: Chunk(vec![*byte]) }));
    }
    let messages = device.sent();
    let payloads = |messages: &[Value]| messages.iter().map(|message| message[4].clone()).collect::<Vec<_>>();
    assert_eq!(payloads(&messages), payloads(&whole));
}

#[test]
fn a_file_to_send_is_smaller_than_10_mib_and_has_a_plain_name() {
    let mut device = console();
    let mut send = |name: &str, size| {
        let result =
            device.link.command(device.now, Command::Upload(UploadCommand::Send { name: name.into(), size }));
        device.drain();
        result
    };
    let size = MAX_UPLOAD_BYTES;
    assert_eq!(size, 10_485_760);
    assert_eq!(send("a", size), Err(CommandError::FileTooLarge { size }));
    assert_eq!(send("", 1), Err(CommandError::FileName));
    assert_eq!(send("/etc/passwd", 1), Err(CommandError::FileName));
    assert_eq!(send("a", size - 1), Ok(()));
    assert_eq!(send("b", 1), Err(CommandError::UploadInProgress));
}

#[test]
fn no_more_is_taken_than_was_asked_for() {
    let mut device = console();
    let told =
        events(&device.command(Command::Upload(UploadCommand::Send { name: "a".into(), size: 100_000 })));
    let [Event::Upload(UploadEvent::Started { upload, .. }), Event::Upload(UploadEvent::Ready { bytes, .. })] =
        told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(bytes, MAX_UPLOAD_BUFFER);
    let data = Chunk(vec![0; bytes + 1]);
    let refused = device.link.command(device.now, Command::Upload(UploadCommand::Data { upload, data }));
    assert_eq!(refused, Err(CommandError::NoRoom { room: bytes }));
    let other = UploadId(upload.0 + 1);
    let data = Chunk::default();
    let refused =
        device.link.command(device.now, Command::Upload(UploadCommand::Data { upload: other, data }));
    assert_eq!(refused, Err(CommandError::UnknownUpload(other)));
}

#[test]
fn a_slow_network_slows_the_file_and_not_the_rest() {
    let mut device = console();
    device.sends = false;
    let told =
        events(&device.command(Command::Upload(UploadCommand::Send { name: "a".into(), size: 1_000_000 })));
    let Event::Upload(UploadEvent::Started { upload, .. }) = told[0] else { panic!("{told:?}") };
    let out = device
        .command(Command::Upload(UploadCommand::Data { upload, data: Chunk(vec![0; MAX_UPLOAD_BUFFER]) }));
    assert!(!events(&out).iter().any(|event| matches!(event, Event::Upload(UploadEvent::Ready { .. }))));
    assert_eq!(device.sent().len(), usize::try_from(BULK_CREDIT).unwrap());
    let types = device.command(Command::ConnectionTypes { types: vec!["wifi".into()] });
    assert_eq!(sent(&types)[0][3], "connection_types");
    // Shell and file take turns.
    let shell = ShellId(upload.0 - 1);
    device.output(shell, b"prompt").unwrap();
    device.sends = true;
    let socket = device.socket();
    device.input(Input::SocketSent { socket, frames: 1 });
    device.input(Input::SocketSent { socket, frames: 1 });
    let next: Vec<Value> = device.sent().iter().skip(3).take(2).map(|message| message[3].clone()).collect();
    assert!(next.contains(&json!("up")), "{next:?}");
}

#[test]
fn sending_can_be_cancelled_and_ends_with_the_connection() {
    let send = |device: &mut Device| {
        let told =
            events(&device.command(Command::Upload(UploadCommand::Send { name: "a".into(), size: 5000 })));
        let Event::Upload(UploadEvent::Started { upload, .. }) = told[0] else { panic!("{told:?}") };
        upload
    };
    let mut device = console();
    let first = send(&mut device);
    device.command(Command::Upload(UploadCommand::Cancel { upload: first }));
    let again = device.link.command(device.now, Command::Upload(UploadCommand::Cancel { upload: first }));
    assert_eq!(again, Err(CommandError::UnknownUpload(first)));
    assert!(!device.sent().iter().any(|message| message[3] == "file-data/stop"));
    let second = send(&mut device);
    let reason = "the connection was lost".to_owned();
    assert!(
        events(&device.down(None)).contains(&Event::Upload(UploadEvent::Aborted { upload: second, reason }))
    );
    let late = Command::Upload(UploadCommand::Data { upload: second, data: Chunk(vec![1]) });
    assert_eq!(device.link.command(device.now, late), Err(CommandError::UnknownUpload(second)));
    device.come_back_after(2);
    let out = device.join_console();
    assert_eq!(sent(&out), [] as [Value; 0], "nothing of the old file");
    let third = send(&mut device);
    let out = device.server(&json!(["2", "2", "console", "phx_error", {}]));
    assert!(events(&out).iter().any(
        |event| matches!(event, Event::Upload(UploadEvent::Aborted { upload, .. }) if *upload == third)
    ));
}

#[test]
fn a_file_whose_bytes_do_not_come_is_given_up() {
    let mut device = console();
    let told = events(&device.command(Command::Upload(UploadCommand::Send { name: "a".into(), size: 5000 })));
    let Event::Upload(UploadEvent::Started { upload, .. }) = told[0] else { panic!("{told:?}") };
    device.pass(FILE_IDLE.checked_sub(BLINK).unwrap());
    device.command(Command::Upload(UploadCommand::Data { upload, data: Chunk(vec![1; 100]) }));
    device.pass(FILE_IDLE.checked_sub(BLINK).unwrap());
    let told = events(&device.pass(BLINK));
    assert_eq!(told, [Event::Upload(UploadEvent::Aborted { upload, reason: "it did not get on".into() })]);
}
