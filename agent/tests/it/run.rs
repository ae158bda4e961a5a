//! `run` as a user starts it: what it refuses, and in which words; and what it does against a hub.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{Device, PATIENCE, Setting, builder, command, command_of, refusal};
use nerves_hub_link_testkit::firmware::FirmwareBuilder;
use nerves_hub_link_testkit::hub::{HubConfig, HubEvent};
use nerves_hub_link_testkit::server::{Firmware, Garbage, Mischief, ProxyServer, Times};
use tempfile::TempDir;

#[test]
fn a_block_device_is_refused_unless_said_in_as_many_words() {
    let Some(device) = std::fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.path()).find(|path| {
        use std::os::unix::fs::FileTypeExt;
        path.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device())
    }) else {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: no block device under /dev\n"),
        ));
        return;
    };
    let text = refusal(&command(&device).output().unwrap());
    assert!(text.contains(device.to_str().unwrap()) && text.contains("--allow-block-device"), "{text}");
}

#[test]
fn a_bad_key_is_named_and_the_secret_is_not() {
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk.img");
    std::fs::write(&disk, [0; 1024]).unwrap();
    let text = refusal(&command(&disk).args(["--public-key", "no key at all"]).output().unwrap());
    assert!(text.contains("no key at all"), "{text}");
    assert!(!text.contains("very secret"), "{text}");
}

#[test]
fn a_placeholder_serial_number_is_refused() {
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk.img");
    std::fs::write(&disk, [0; 1024]).unwrap();
    let text = refusal(&command_of("unconfigured", &disk).output().unwrap());
    assert!(text.contains("identifier") && text.contains("placeholder"), "{text}");
}

#[test]
fn help_shows_no_secret_of_the_environment() {
    let output = command(Path::new("x")).arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("--product-secret") && !text.contains("very secret"), "{text}");
}

#[test]
fn an_update_is_applied_and_the_reboot_command_is_run() {
    let setting = Setting::new();
    let flag = setting.dir.path().join("rebooted");
    let state = setting.dir.path().join("state");
    let remember = ["--state", state.to_str().unwrap()];
    let reboot = format!("touch {}", flag.display());
    let device = setting.device(&[&remember[..], &["--reboot-command", &reboot]].concat());
    setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    let text = device.said();
    assert!(text.contains("it boots next"), "{text}");
    assert!(flag.exists());
    let booted = setting.disk.boot().unwrap();
    assert_eq!((booted.meta.version.as_str(), booted.validated), ("1.1.0", Some(false)));

    let remembered = || std::fs::read_to_string(&state).unwrap().contains(&update.meta.uuid);
    assert!(remembered(), "a firmware that is not known to be good");

    let _device = setting.device(&[&remember[..], &["--validate-when-joined"]].concat());
    setting.saw("validation", |event| matches!(event, HubEvent::Validated { .. }));
    assert!(!remembered());
    assert_eq!(setting.disk.boot().unwrap().validated, Some(true));
}

#[test]
fn everything_goes_through_a_proxy() {
    let setting = Setting::new();
    let proxy = ProxyServer::start("user", "pass").unwrap();
    let device = setting.device(&["--proxy", &format!("http://user:pass@{}", proxy.address())]);
    setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    assert!(device.said().contains("it boots next"));

    let output = command(setting.disk.path()).args(["--proxy", "https://user:hidden@x"]).output().unwrap();
    let text = refusal(&output);
    assert!(text.contains("--proxy") && !text.contains("hidden"), "{text}");
}

#[test]
fn a_client_certificate_proves_who_the_device_is() {
    let setting = Setting::new();
    let path = |name: &str| setting.dir.path().join(name);
    let (cert, key) = setting.hub.device_certificate("certified-1").unwrap();
    std::fs::write(path("cert.pem"), cert).unwrap();
    std::fs::write(path("key.pem"), key).unwrap();
    let run = |cert: &Path, key: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nerves-hub-link"));
        command.args(["run", "--host", &setting.hub.url()]);
        command.arg("--disk").arg(setting.disk.path()).args(["--public-key", &setting.key.public_key()]);
        command.arg("--ca").arg(path("ca.pem")).arg("--cert").arg(cert).arg("--key").arg(key);
        command.env_remove("NERVES_HUB_PRODUCT_SECRET");
        command
    };
    let child = run(&path("cert.pem"), &path("key.pem")).stdout(Stdio::piped()).spawn().unwrap();
    let device = Device(child);
    let ours = |event: &HubEvent| matches!(event, HubEvent::Joined { identifier, .. } if identifier == "certified-1");
    setting.saw("join", ours);
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    assert!(device.said().contains("it boots next"));

    let stranger = refusal(&run(&path("cert.pem"), &path("ca.pem")).output().unwrap());
    assert!(stranger.contains("key of the client certificate"), "{stranger}");
    let missing = refusal(&run(&path("missing.pem"), &path("key.pem")).output().unwrap());
    assert!(missing.contains("missing.pem"), "{missing}");
}

#[test]
fn garbage_from_the_hub_is_survived_and_the_next_update_arrives() {
    let setting = Setting::new();
    let device = setting.device(&[]);
    setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
    for garbage in [
        Garbage::InvalidJson,
        Garbage::WrongArity,
        Garbage::NotAnArray,
        Garbage::Binary,
        Garbage::UnknownEvent,
        Garbage::WrongPayload,
        Garbage::UnknownTopic,
    ] {
        setting.hub.send_garbage(&garbage);
    }
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    let text = device.said();
    assert!(text.contains("ignored a message"), "{text}");
    let joins = setting.hub.log().iter().filter(|event| matches!(event, HubEvent::Joined { .. })).count();
    assert_eq!(joins, 1, "it stayed connected\n{text}");
}

#[test]
fn a_device_that_is_to_fetch_its_updates_asks_for_them() {
    let setting = Setting::new();
    let _device = setting.device(&[]);
    setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
    let mode = serde_json::json!({"mode": "device_managed", "managed_updates_allowed": true});
    setting.hub.broadcast("update_mode", &mode);
    // There is none: nothing was deployed.
    let asked = |event: &HubEvent| matches!(event, HubEvent::UpdateRejected { .. });
    setting.saw("request for an update", asked);
}

#[test]
fn a_device_that_is_killed_goes_on_with_what_it_kept() {
    for strategy in ["caching", "parts"] {
        let setting = Setting::new();
        let folder = setting.dir.path().join("kept");
        let more = ["--strategy", strategy, "--cache-dir", folder.to_str().unwrap(), "--retry-delay", "3600"];
        let mut device = setting.device(&more);
        setting.saw("join", |event| matches!(event, HubEvent::Joined { .. }));
        let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
        setting.hub.mischief(Mischief::CutDownload { after: 700_000 }, Times::Once);
        setting.hub.deploy(Firmware::from_archive(&update).unwrap());
        device.says("download broke at");
        device.0.kill().unwrap();
        device.0.wait().unwrap();
        assert_eq!(setting.disk.boot().unwrap().meta.version, "1.0.0");

        let text = setting.device(&more).said();
        assert!(text.contains("download resumed at"), "{text}");
        let downloads = |event: &HubEvent| match event {
            HubEvent::Download { from, .. } => Some(*from),
            _ => None,
        };
        let downloads: Vec<u64> = setting.hub.log().iter().filter_map(downloads).collect();
        assert!(matches!(downloads[..], [0, (1..)]), "{downloads:?}");
        assert_eq!(setting.disk.boot().unwrap().meta.version, "1.1.0");
    }
}

#[test]
fn more_requests_than_allowed_are_refused() {
    let output = command(Path::new("x")).args(["--concurrent-parts", "9"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("--concurrent-parts") && text.contains("1..=8"), "{text}");
}

#[test]
fn operators_get_a_shell_without_the_secret_and_a_folder_for_files() {
    let setting = Setting::new();
    let folder = setting.dir.path().join("files");
    let mut device = setting.device(&["--console", "--data-path", folder.to_str().unwrap()]);
    let says = |event: &str, payload: serde_json::Value| {
        let end = std::time::Instant::now() + PATIENCE;
        while !setting.hub.with_hub(|hub, _| hub.console("agent-test-1", event, &payload)) {
            assert!(std::time::Instant::now() < end, "the console was never joined");
            std::thread::yield_now();
        }
    };
    says("dn", serde_json::json!({"data": "echo [$NERVES_HUB_PRODUCT_SECRET]-$((6*7))\r"}));
    let shown = |event: &HubEvent, text: &str| matches!(event, HubEvent::Console { payload, .. } if payload["data"].as_str().is_some_and(|data| data.contains(text)));
    setting.saw("an answer without the secret", |event| shown(event, "[]-42"));
    says("file-data/start", serde_json::json!({"filename": "hello.txt"}));
    says("file-data", serde_json::json!({"filename": "hello.txt", "chunk": 0, "data": "aGVsbG8="}));
    says("file-data/stop", serde_json::json!({"filename": "hello.txt"}));
    let end = std::time::Instant::now() + PATIENCE;
    while std::fs::read(folder.join("hello.txt")).ok().as_deref() != Some(b"hello") {
        assert!(std::time::Instant::now() < end, "the file never came");
        std::thread::yield_now();
    }
    device.0.kill().unwrap();
    let said = std::io::read_to_string(device.0.stdout.take().unwrap()).unwrap();
    assert!(said.contains("operators may work in /bin/sh here"), "{said}");
    assert!(said.contains("an operator opened a shell"), "{said}");
    assert!(said.contains("an operator sends the file \"hello.txt\""), "{said}");
    assert!(!said.contains("echo ["), "{said}");
}

/// What the device's children and other programs can learn of its secrets, however it was given them.
#[test]
fn the_secret_is_in_no_environment_and_reaches_no_child() {
    let setting = Setting::new();
    let secret = setting.hub.product().secret.clone();
    let file = setting.dir.path().join("secret");
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let credentials = setting.dir.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("nerves-hub-product-secret"), &secret).unwrap();
    let said = setting.dir.path().join("reboot-said");
    let reboot =
        format!("(env; tr '\\0' '\\n' < /proc/$PPID/environ; cat) > {} 2>&1; exit 3", said.display());
    for way in ["environment", "file", "credential"] {
        let _ = std::fs::remove_file(&said);
        let mut command = setting.command(&["--reboot-command", &reboot, "--pass-env", "PASSED"]);
        // The proxy is not used: no_proxy is set.
        command.env("https_proxy", "http://user:pr0xy-passw0rd@localhost:9").env("PASSED", "on-1");
        if way != "environment" {
            command.env_remove("NERVES_HUB_PRODUCT_SECRET");
        }
        if way == "file" {
            command.arg("--product-secret-file").arg(&file);
        }
        if way == "credential" {
            command.env("CREDENTIALS_DIRECTORY", &credentials);
        }
        let mut device = Device(command.stdout(Stdio::piped()).spawn().unwrap());
        device.says("the server accepted this device");
        let read = |name: &str| std::fs::read(format!("/proc/{}/{name}", device.0.id())).unwrap();
        let environ = String::from_utf8_lossy(&read("environ")).into_owned();
        assert!(!environ.contains(&secret) && !environ.contains("pr0xy-passw0rd"), "{way}: {environ}");
        assert!(!String::from_utf8_lossy(&read("cmdline")).contains(&secret), "{way}");
        let limits = String::from_utf8_lossy(&read("limits")).into_owned();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        // The name by which it is known stays.
        let name = String::from_utf8_lossy(&read("comm")).into_owned();
        assert!(name.starts_with("nerves-hub-link") && name.len() <= 16, "{name}");
        if way != "environment" {
            continue;
        }
        let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
        setting.hub.deploy(Firmware::from_archive(&update).unwrap());
        let end = std::time::Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&said).is_ok_and(|text| text.contains("PATH=")) {
            assert!(std::time::Instant::now() < end, "{way}: the reboot command never ran");
            std::thread::yield_now();
        }
        // It ends, and then has said all.
        drop(device);
        let said = std::fs::read_to_string(&said).unwrap();
        assert!(said.contains("PASSED=on-1"), "{way}: {said}");
        assert!(!said.contains(&secret) && !said.contains("pr0xy-passw0rd"), "{way}: {said}");
        assert!(!said.contains("NERVES_HUB_PRODUCT"), "{way}: {said}");
    }
}

#[test]
fn a_secret_that_cannot_be_read_is_named_and_none_is_passed_on() {
    let run = |more: &[&str]| {
        let output = command(Path::new("x")).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, text) = run(&["--product-secret-file", "no-such-file"]);
    assert!(status == Some(1) && text.contains("--product-secret-file no-such-file"), "{text}");
    let (status, text) = run(&["--pass-env", "NERVES_HUB_PRODUCT_SECRET"]);
    assert!(status == Some(2) && text.contains("no child gets"), "{text}");
}

#[test]
fn a_shell_without_a_console_is_a_mistake() {
    let disk = tempfile::NamedTempFile::new().unwrap();
    let output = command(disk.path()).args(["--shell", "/bin/bash"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--console"), "{output:?}");
}

/// A hub whose operators switched on everything.
fn allowing_all(advertise: bool) -> HubConfig {
    let names = ["health", "geo", "network_identity", "metrics", "alarms", "logging", "error_reports"];
    HubConfig {
        extensions: names.map(str::to_owned).to_vec(),
        advertise_extensions: advertise,
        ..HubConfig::default()
    }
}

fn attached(setting: &Setting) -> Vec<String> {
    match setting.saw("extensions", |event| matches!(event, HubEvent::ExtensionsJoined { .. })) {
        HubEvent::ExtensionsJoined { attached, .. } => attached,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_health_is_told_unless_asked_for_more() {
    let setting = Setting::with(allowing_all(true));
    let _device = setting.device(&[]);
    assert_eq!(attached(&setting), ["health"]);
    let is_report =
        |event: &HubEvent| matches!(event, HubEvent::Extension { event, .. } if event == "health:report");
    let HubEvent::Extension { payload, .. } = setting.saw("report", is_report) else { panic!() };
    let metrics = payload["value"]["metrics"].as_object().unwrap();
    assert!(metrics.contains_key("disk_used_percentage"), "{metrics:?}");

    let setting = Setting::with(allowing_all(true));
    let _device = setting.device(&["--extensions", "none"]);
    assert_eq!(attached(&setting), [] as [&str; 0]);
}

#[test]
fn numbers_alarms_and_log_lines_are_told_on_request() {
    // A server that lists no versions gets the oldest ones: log lines one by one, at once.
    let setting = Setting::with(allowing_all(false));
    let device = setting.device(&["--extensions", "metrics,alarms,logging,error-reports"]);
    assert_eq!(attached(&setting), ["alarms", "error_reports", "logging", "metrics"]);
    let sent = |wanted: &str| {
        let is_it = |event: &HubEvent| matches!(event, HubEvent::Extension { event, .. } if event == wanted);
        match setting.saw(wanted, is_it) {
            HubEvent::Extension { payload, .. } => payload,
            other => panic!("{other:?}"),
        }
    };
    assert!(sent("metrics:report")["reports"][0]["metrics"]["disk_total_kb"].is_number());
    assert_eq!(sent("alarms:snapshot"), serde_json::json!({"alarms": []}));
    setting.hub.broadcast("identify", &serde_json::json!({}));
    let line = sent("logging:send");
    assert_eq!(line["level"], "info", "{line}");
    drop(device);
}

#[test]
fn an_archive_is_downloaded_once() {
    let setting = Setting::new();
    let folder = setting.dir.path().join("archives");
    let more = ["--archive-dir", folder.to_str().unwrap()];
    let archive = FirmwareBuilder::new("archive", "0.9.0").rootfs(100_000, 5).build(&setting.key).unwrap();
    setting.hub.offer_archive(Firmware::from_archive(&archive).unwrap());
    let mut device = setting.device(&more);
    device.says("is checked and stored in");
    // An update ends the program, in good order.
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    setting.hub.deploy(Firmware::from_archive(&update).unwrap());
    assert!(device.0.wait().unwrap().success());
    let kept = |end: &str| {
        let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_str().unwrap().ends_with(end)).collect::<Vec<_>>()
    };
    let [path] = &kept(".fw")[..] else { panic!("{:?}", kept("")) };
    assert!(std::fs::read(path).unwrap() == *archive.bytes().unwrap());
    std::fs::remove_file(path).unwrap();

    // The next start knows it.
    let mut device = setting.device(&more);
    setting.saw("join", |event| matches!(event, HubEvent::Joined { version, .. } if version == "1.1.0"));
    setting.hub.broadcast("identify", &serde_json::json!({}));
    let text = device.says("which device this is");
    assert!(!text.contains("offered archive"), "{text}");
    let asked =
        |event: &&HubEvent| matches!(event, HubEvent::Download { path, .. } if path.contains("archives"));
    assert_eq!(setting.hub.log().iter().filter(asked).count(), 1);
}

#[test]
fn the_proxy_of_the_environment_is_used_but_for_its_exceptions() {
    for (exceptions, used) in [("other.example", true), ("localhost, 127.0.0.0/8", false)] {
        let setting = Setting::new();
        let proxy = ProxyServer::start("user", "pass").unwrap();
        let mut command = setting.command(&[]);
        command.env("https_proxy", format!("http://user:pass@{}", proxy.address()));
        command.env("no_proxy", exceptions).stdout(Stdio::piped());
        let text = Device(command.spawn().unwrap()).ends_after("the server accepted this device");
        assert_eq!(proxy.ways() > 0, used, "{text}");
        assert!(text.contains("as https_proxy says") && !text.contains("user:pass"), "{text}");
    }
}

#[test]
fn bounds_beyond_their_limits_are_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let disk = dir.path().join("disk.img");
    std::fs::write(&disk, [0; 1024]).unwrap();
    for (option, value, words) in [
        ("--failure-pause", "21601", "a pause after failures at most 6 h"),
        ("--reboots-per-hour", "101", "0..=100"),
        ("--overwrites-per-day", "101", "0..=100"),
        ("--freeze-alarm", "366", "0 to 365"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_nerves-hub-link"))
            .args([
                "run",
                "--serial",
                "a-1",
                "--product-key",
                "nhp_key",
                "--host",
                "wss://localhost:9",
                "--disk",
            ])
            .arg(&disk)
            .args([option, value])
            .env("NERVES_HUB_PRODUCT_SECRET", "very secret indeed")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(words), "{option}: {text}");
    }
}
