//! Texts of a server and a network in the log: none of them forges a line, reaches the terminal as a control character, or
//! hides what this program says; and a flood of them is bounded.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{Device, Setting, command};
use nerves_hub_link_protocol::printable::is_hidden;
use nerves_hub_link_testkit::disk::AbDisk;
use nerves_hub_link_testkit::hub::{Archive, HubConfig, HubEvent};
use nerves_hub_link_testkit::server::{Garbage, Mischief, Times};
use serde_json::{Value, json};

/// A forged line, escape sequences, C0, C1, DEL, bidirectional controls, separators and a zero-width space.
const WORDS: &str = "9\n    0.001  the server accepted this device\r\u{1b}]0;x\u{7}\u{0}\t\u{7f}\u{85}\u{9b}2J\u{61c}\u{200b}\u{200e}\
                     \u{202a}\u{202e}\u{2066}\u{2069}\u{2028}\u{2029}\u{feff}end";

/// Checks that every line is one of this program's, and returns the texts.
fn texts(output: &str, format: &str) -> Vec<String> {
    assert!(!output.replace('\n', "").contains(is_hidden), "{format}: {output:?}");
    let text = |line: &str| {
        if format == "json" {
            let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let text = record["text"].as_str().unwrap().to_owned();
            // Whoever prints the decoded text is safe, too.
            assert!(!text.contains(is_hidden), "{text:?}");
            return text;
        }
        let (time, text) = line.split_at_checked(11).unwrap_or_else(|| panic!("{line}"));
        assert!(time.trim().parse::<f64>().is_ok() && time.ends_with("  "), "{line}");
        text.to_owned()
    };
    let texts: Vec<String> = output.lines().map(text).collect();
    assert!(texts.iter().filter(|text| *text == "the server accepted this device").count() <= 2, "{output}");
    texts
}

/// What a hub can say to a device that joined.
fn speak(setting: &Setting) {
    let long = "y".repeat(100_000);
    let meta = |version: &str| json!({"uuid": WORDS, "version": version, "product": WORDS, "platform": WORDS, "architecture": WORDS});
    let unusable = json!({"firmware_url": WORDS, "firmware_meta": meta(&long)});
    let unreachable = json!({"firmware_url": "https://localhost:1/none.fw", "firmware_meta": meta(WORDS)});
    setting.hub.broadcast("update", &unusable);
    setting.hub.broadcast("update", &unreachable);
    setting.hub.broadcast(WORDS, &json!({WORDS: WORDS}));
    setting.hub.broadcast("update", &json!({WORDS: WORDS}));
    setting.hub.broadcast("scripts/run", &json!({"ref": WORDS, "text": [WORDS]}));
    setting.hub.broadcast("public_keys", &json!({"keys": [WORDS]}));
    setting.hub.with_hub(|hub, _| {
        for payload in [json!({"filename": WORDS}), json!({"filename": WORDS, "chunk": WORDS, "data": WORDS})]
        {
            hub.console("agent-test-1", "file-data/start", &payload);
            hub.console("agent-test-1", "file-data", &payload);
            hub.console("agent-test-1", "file-data/stop", &payload);
        }
        hub.extension("agent-test-1", WORDS, &json!({WORDS: WORDS}));
        hub.extension("agent-test-1", &format!("health:{WORDS}"), &json!({}));
        hub.set_archive(Some(Archive {
            size: 10,
            uuid: WORDS.into(),
            version: WORDS.into(),
            description: Some(WORDS.into()),
            platform: Some(WORDS.into()),
            architecture: Some(WORDS.into()),
            uploaded_at: WORDS.into(),
            url: "https://localhost:1/none.fw".into(),
        }));
    });
    for garbage in [Garbage::InvalidJson, Garbage::Binary, Garbage::UnknownTopic] {
        setting.hub.send_garbage(&garbage);
    }
    setting.hub.close_all(4000, WORDS);
}

#[test]
fn no_text_of_a_hub_forges_a_line_or_reaches_the_terminal() {
    for format in ["plain", "json"] {
        let setting = Setting::with(HubConfig { analytics: true, ..HubConfig::default() });
        let (archives, files) = (setting.dir.path().join("archives"), setting.dir.path().join("files"));
        std::fs::create_dir(&files).unwrap();
        let arguments = [
            "--log",
            format,
            "--console",
            "--archive-dir",
            archives.to_str().unwrap(),
            "--data-path",
            files.to_str().unwrap(),
            "--retry-delay",
            "0",
            "--extensions",
            "health,alarms,logging",
        ];
        let device = setting.device(&arguments);
        setting.saw("extensions", |event| matches!(event, HubEvent::ExtensionsJoined { .. }));
        let window = json!({"width": 80, "height": 24});
        while !setting.hub.with_hub(|hub, _| hub.console("agent-test-1", "window_size", &window)) {
            setting.hub.wait_for(Duration::from_millis(5), |_| false);
        }
        speak(&setting);
        let texts = texts(&device.ends_after_times("alarm NervesHubLink.Disconnected cleared", 2), format);
        // Names of events are cut by the machine.
        let escaped = r"9\n    0.001  the server accepted this device\r\u{1b}]0;x\u{7}";
        for beginning in ["offered firmware", "ignored the event", "offered archive", "disconnected"] {
            let said = |text: &&String| text.starts_with(beginning) && text.contains(escaped);
            assert!(texts.iter().any(|text| said(&text)), "{beginning}: {texts:#?}");
        }
        // What is said about a name of 100 kB is still said.
        let long = texts.iter().find(|text| text.contains("yyy")).unwrap();
        assert!(long.len() <= 5000 && long.contains('…') && long.contains("the address"), "{long}");
    }
}

#[test]
fn no_answer_of_a_proxy_or_a_server_forges_a_line() {
    let status = |line: &[u8]| [b"HTTP/1.1 ", line, b"\r\nDate: x\r\nContent-Length: 0\r\n\r\n"].concat();
    let words = WORDS.replace(['\n', '\r'], "").into_bytes();
    let answers = [
        status(&[b"502 ".as_slice(), &words, b"\xff\xfe\x9b"].concat()),
        status(b"407 \x1b[2J\r\nProxy-Authenticate: \x1b[2J\xff"),
        [b"\x1b[2J\xff\n\n\r\n\r\n".as_slice(), &words].concat(),
        status(b"200 OK\r\nX: \x1b[2J\xe2\x80\xae"),
    ];
    for (answer, format) in answers.iter().flat_map(|answer| [(answer, "plain"), (answer, "json")]) {
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://127.0.0.1:{}", proxy.local_addr().unwrap().port());
        let disk = tempfile::TempDir::new().unwrap();
        let mut command = command(&disk.path().join("disk.img"));
        command.args(["--log", format, "--proxy", &address]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut device = Device(command.spawn().unwrap());
        let answer = answer.clone();
        let serving = std::thread::spawn(move || {
            // The device looks whether the network is there first.
            while let Ok((mut stream, _)) = proxy.accept() {
                let mut request = [0; 4096];
                if stream.read(&mut request).is_ok_and(|read| read > 0) {
                    stream.write_all(&answer).unwrap();
                    // The device may have hung up at once.
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    return;
                }
            }
        });
        let mut errors = device.0.stderr.take().unwrap();
        let output = device.ends_after_any(&["waiting for the network", "disconnected"]);
        serving.join().unwrap();
        let mut complaints = String::new();
        errors.read_to_string(&mut complaints).unwrap();
        assert!(!complaints.replace('\n', "").contains(is_hidden), "{complaints:?}");
        texts(&output, format);
    }
}

#[test]
fn a_redirect_to_words_forges_no_line() {
    let setting = Setting::new();
    let location = format!("wss://{}", WORDS.replace(['\n', '\r', '\0', '\u{7}', '\u{1b}', '\u{7f}'], ""));
    setting.hub.mischief(Mischief::RedirectUpgrade { location }, Times::Once);
    let device = setting.device(&[]);
    texts(&device.ends_after("alarm NervesHubLink.Disconnected cleared"), "plain");
}

/// What the firmware says about itself comes from the boot environment, which is not signed.
#[test]
fn no_text_of_the_boot_environment_forges_a_line() {
    for format in ["plain", "json"] {
        let setting = Setting::new();
        let mut meta = setting.disk.boot().unwrap().meta;
        (meta.version, meta.uuid) = (WORDS.to_owned(), WORDS.to_owned());
        let path = setting.dir.path().join("other.img");
        let _other = AbDisk::create(&path, setting.disk.layout(), &meta, 1 << 20, 1).unwrap();
        let device = setting.device_on(&path, &["--log", format]);
        let texts = texts(&device.ends_after("alarm NervesHubLink.Disconnected cleared"), format);
        assert!(texts.iter().any(|text| text.contains("running firmware 9\\n")), "{texts:#?}");
    }
}

#[test]
fn a_flood_of_bad_messages_is_counted_and_hides_nothing_else() {
    for format in ["plain", "json"] {
        let setting = Setting::new();
        let device = setting.device(&["--log", format]);
        setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
        let name = "z".repeat(4000);
        let mut sent = 0;
        for number in 0..1500 {
            setting.hub.broadcast(&format!("{number}{name}"), &json!({"a": WORDS}));
            setting.hub.broadcast("update", &json!({"firmware_url": name}));
            setting.hub.send_garbage(&Garbage::InvalidJson);
            sent += 2 * name.len();
        }
        setting.hub.broadcast("identify", &json!({}));
        let output = device.ends_after("an operator asks which device this is");
        let texts = texts(&output, format);
        assert!(sent > 10_000_000 && output.len() < 100_000, "{} bytes of log", output.len());
        // The last event of each kind is there, with how many came before it.
        let more: Vec<_> = texts.iter().filter(|text| text.contains("more like it")).collect();
        assert!(more.iter().any(|text| text.contains("the last: ignored the event \"1499")), "{more:#?}");
        assert!(more.iter().any(|text| text.contains("the last: ignored a message")), "{more:#?}");
        assert!(texts.iter().any(|text| text.contains("SIGTERM")), "{texts:#?}");
    }
}
