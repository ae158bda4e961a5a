//! What `run` says when something fails: one cause once, in words for a person, with the time of the next attempt.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use crate::common::{Device, PATIENCE, Setting, builder};
use nerves_hub_link_testkit::firmware::{Tamper, describe, tamper};
use nerves_hub_link_testkit::hub::{HubConfig, HubEvent, Joins};
use nerves_hub_link_testkit::server::{Firmware, HubOptions, HubServer, Mischief, ProxyServer, Times};
use serde_json::json;
use tempfile::TempDir;

/// Checks what was printed: each of the sentences stands in one line, and none of the other words anywhere. `*` in a sentence
/// stands for anything within the line.
fn check(name: &str, text: &str, says: &[&str], never: &[&str]) {
    for wanted in says {
        let count = text.lines().filter(|line| fits(line, wanted)).count();
        assert_eq!(count, 1, "{name}: {wanted:?} in\n{text}");
    }
    for word in never {
        assert!(!text.contains(word), "{name}: {word:?} in\n{text}");
    }
    for line in text.lines() {
        no_debug_text(name, line);
        real_options(name, line);
        let doubled = ["..", "; ;", ": :", "HTTP HTTP"].into_iter().find(|sign| line.contains(sign));
        assert_eq!(doubled, None, "{name}: {line:?}");
        // A status, too, is said once.
        assert!(line.matches("HTTP 4").count() + line.matches("HTTP 5").count() <= 1, "{name}: {line:?}");
    }
}

/// Returns whether a line contains a text in which `*` stands for anything.
fn fits(line: &str, wanted: &str) -> bool {
    let mut rest = line;
    wanted.split('*').all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

/// Nothing that only a Rust programmer reads: `Name("x")`, `Name { x: 1 }`, `Some(1)`, `path::to::item`.
fn no_debug_text(case: &str, line: &str) {
    let is_name = |word: &str| {
        let inner = word.chars().skip(1);
        word.starts_with(|letter: char| letter.is_ascii_uppercase())
            && inner.clone().any(|letter| letter.is_ascii_lowercase())
            && inner.clone().all(|letter| letter.is_ascii_alphanumeric())
    };
    // A path of items; `::1` is an address.
    let mut paths = line.split("::").skip(1).filter(|rest| rest.starts_with(|c: char| c.is_alphabetic()));
    assert_eq!(paths.next(), None, "{case}: a path in {line:?}");
    for (at, open) in line.match_indices(['(', '{']) {
        let before = if open == "{" { line[..at].strip_suffix(' ') } else { Some(&line[..at]) };
        let word = before.and_then(|text| text.rsplit([' ', '(', '[', '{', ',', ':', '&']).next());
        assert!(!word.is_some_and(is_name), "{case}: a debug text in {line:?}");
    }
    for sign in ["None", "Os {", "kind:", "\\\"", "unwrap", "panicked"] {
        assert!(!line.contains(sign), "{case}: {sign:?} in {line:?}");
    }
}

/// Whatever is named as an option is one.
fn real_options(case: &str, line: &str) {
    static HELP: OnceLock<String> = OnceLock::new();
    let help = HELP.get_or_init(|| {
        let output = Command::new(env!("CARGO_BIN_EXE_nerves-hub-link")).args(["run", "--help"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    });
    for (at, _) in line.match_indices("--") {
        let name: String =
            line[at + 2..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        let named = help.split_whitespace().any(|word| word == format!("--{name}"));
        assert!(named, "{case}: --{name} does not exist, in {line:?}");
    }
}

/// A device that is started otherwise than usual.
struct Start<'a> {
    host: String,
    secret: &'a str,
    ca: &'a str,
    more: Vec<String>,
}

impl Start<'_> {
    fn at(host: impl Into<String>) -> Self {
        Self { host: host.into(), secret: "very secret indeed", ca: "ca.pem", more: Vec::new() }
    }

    fn with(mut self, more: &[&str]) -> Self {
        self.more.extend(more.iter().map(|word| (*word).to_owned()));
        self
    }

    fn on(&self, setting: &Setting) -> Device {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nerves-hub-link"));
        command.args(["run", "--host", &self.host]).arg("--disk").arg(setting.disk.path());
        command.args(["--public-key", &setting.key.public_key()]);
        command.arg("--ca").arg(setting.dir.path().join(self.ca)).args(&self.more);
        if !self.more.iter().any(|word| word == "--cert") {
            command.args(["--serial", "agent-test-1", "--product-key", &setting.hub.product().key]);
            command.env("NERVES_HUB_PRODUCT_SECRET", self.secret);
        }
        command.env("no_proxy", "*").stdout(Stdio::piped());
        Device(command.spawn().unwrap())
    }

    /// Returns what it prints of its first attempt.
    fn first_attempt(&self, setting: &Setting, until: &str) -> String {
        let text = self.on(setting).ends_after(until);
        text.split("connecting again").next().unwrap().to_owned()
    }
}

/// Answers every request with this, whatever it is.
fn answering(response: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, response));
        }
    });
    address
}

fn answer(mut stream: TcpStream, response: &str) {
    let (mut asked, mut byte) = (Vec::new(), [0]);
    while !asked.ends_with(b"\r\n\r\n") {
        // A look whether the network is there asks nothing.
        let Ok(1) = stream.read(&mut byte) else { return };
        asked.push(byte[0]);
    }
    let _ = stream.write_all(response.as_bytes());
}

const AGAIN: &str =
    "The server decides when to offer it again, by default after a day; an operator can push it before";

#[test]
fn a_server_that_cannot_be_reached() {
    let setting = Setting::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hosts = [
        (format!("wss://{closed}"), "cannot connect to 127.0.0.1 port * (*: Connection refused *)"),
        ("wss://no-such-host.invalid".to_owned(), "cannot look up no-such-host.invalid: "),
    ];
    for (host, why) in hosts {
        let text = Start::at(&host).on(&setting).ends_after("waiting for the network");
        let says = format!("waiting for the network: {why}*; looking every 3 s");
        check(&host, &text, &[&says, "disconnected: on request"], &[]);
    }
}

#[test]
fn a_server_that_is_not_trusted() {
    let setting = Setting::new();
    let other = HubServer::start(HubOptions::default()).unwrap();
    let expired = HubServer::start(HubOptions { expired: true, ..HubOptions::default() }).unwrap();
    let path = |name: &str| setting.dir.path().join(name);
    std::fs::write(path("expired.pem"), expired.ca_pem()).unwrap();
    // An authority of another name: only a device's certificate is at hand that could be one.
    let (stranger, _) = other.device_certificate("another authority").unwrap();
    std::fs::write(path("stranger.pem"), stranger).unwrap();
    let proxy = ProxyServer::start("user", "pass").unwrap();
    let proxy = format!("http://user:pass@{}", proxy.address());
    let named = format!("wss://other.example:{}", setting.hub.address().port());
    let table = [
        (
            "unknown authority",
            Start { ca: "stranger.pem", ..Start::at(other.url()) },
            "the certificate of localhost was issued by an unknown authority, *: give the certificate * of the CA that signed \
             the server's certificate as trust root",
        ),
        (
            "an authority of the same name",
            Start::at(other.url()),
            "the certificate of localhost cannot be trusted: its signature is not that of the authority it names, *: give the \
             present certificate of that authority as trust root",
        ),
        (
            "expired",
            Start { ca: "expired.pem", ..Start::at(expired.url()) },
            "the certificate of localhost expired on 2001-01-01 00:00 UTC, and the clock of this device says *: check the \
             clock first; if it is right, the server's certificate must be renewed",
        ),
        (
            "another host's",
            Start::at(named).with(&["--proxy", &proxy]),
            "behind the proxy 127.0.0.1:* (if it inspects TLS, the certificate is its own: exempt this host there, or trust its \
             authority): the certificate of other.example is not valid for the name other.example, it is for localhost, \
             127.0.0.1, ::1: check the host in the URL",
        ),
    ];
    for (name, start, why) in table {
        let text = start.first_attempt(&setting, "next attempt");
        check(name, &text, &[&format!("disconnected: {why}; next attempt in ")], &["device's certificate"]);
        assert_eq!(text.matches("the certificate of ").count(), 1, "{name}: {text}");
    }
}

#[test]
fn a_device_that_is_not_trusted() {
    let setting = Setting::new();
    let other = HubServer::start(HubOptions::default()).unwrap();
    let (cert, key) = other.device_certificate("agent-test-1").unwrap();
    let path = |name: &str| setting.dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert.pem"), cert).unwrap();
    std::fs::write(path("key.pem"), key).unwrap();
    let files = ["--cert", &path("cert.pem"), "--key", &path("key.pem")];
    let text = Start::at(setting.hub.url()).with(&files).first_attempt(&setting, "next attempt");
    let says = [
        "disconnected: localhost refused the connection with the TLS alert \"decrypt error\": *the device's certificate \
                 comes from another authority of the same name*; next attempt in ",
        "chmod 600",
    ];
    check("client certificate", &text, &says, &["RFC"]);

    let text = Start::at(setting.hub.url()).first_attempt(&setting, "Next attempt");
    let says = [
        "the server refused the connection (HTTP 401). The server rejected the credentials. *the device was not deleted \
                 on the server; and the device's clock. Next attempt in ",
    ];
    check("wrong secret", &text, &says, &["clock is", "disconnected: the server", "very secret"]);

    for (name, seconds) in [("behind the server's", 3600), ("ahead of the server's", -3600)] {
        setting.hub.mischief(Mischief::ClockSkew { seconds }, Times::UntilCleared);
        let text = setting.device(&[]).ends_after("accepted this device");
        setting.hub.clear_mischief();
        let clock = format!("this device's clock is 60 min {name}; signing with the server's time");
        let says = [
            clock.as_str(),
            "the server refused the connection (HTTP 401). The device's clock is wrong, *. Next attempt in ",
            "connecting again after a failed attempt",
        ];
        check(name, &text, &says, &["rejected the credentials"]);
    }
}

#[test]
fn a_server_that_refuses() {
    let setting = Setting::new();
    let table = [
        (403, None, "The server forbids the connection: *", " s."),
        (
            404,
            None,
            "The server has no device socket here: check that the host is a NervesHub device endpoint.",
            " s.",
        ),
        (
            429,
            Some(77),
            "The server takes no more connections for now. Nothing is wrong with the device.",
            "77 s.",
        ),
        (
            503,
            Some(77),
            "The server can't authenticate devices for now. Nothing is wrong with the device.",
            "77 s.",
        ),
    ];
    for (status, retry_after, why, wait) in table {
        setting.hub.mischief(Mischief::RefuseUpgrade { status, retry_after }, Times::UntilCleared);
        let text = setting.device(&[]).ends_after("Next attempt");
        setting.hub.clear_mischief();
        let text = text.split("connecting again").next().unwrap();
        let says =
            format!("the server refused the connection (HTTP {status}). {why} Next attempt in *{wait}");
        check(why, text, &[&says], &["disconnected: the server"]);
    }
    // Device endpoints send paths that they don't serve elsewhere.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    setting
        .hub
        .mischief(Mischief::RedirectUpgrade { location: format!("https://{closed}/") }, Times::UntilCleared);
    let text = setting.device(&[]).ends_after("next attempt");
    let says = format!(
        "disconnected: the server redirected the device to {closed}, which failed: cannot connect to *; check the host \
                        and its path; next attempt in "
    );
    check("redirect", text.split("connecting again").next().unwrap(), &[&says], &[]);
}

#[test]
fn a_network_in_between() {
    let setting = Setting::new();
    let table = [
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>Welcome</html>",
            "(HTTP 200). A web page came in place of a WebSocket. The network may have a login page: ",
        ),
        (
            "HTTP/1.1 511 Network Authentication Required\r\nContent-Length: 0\r\n\r\n",
            "(HTTP 511). The network wants a login before it lets the device through: ",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n",
            "(HTTP 302). The device is sent elsewhere, but not to a usable address: *login.example",
        ),
    ];
    for (response, why) in table {
        let start = Start::at(format!("ws://{}", answering(response)));
        let text = start.first_attempt(&setting, "Next attempt");
        let says = format!("the server refused the connection {why}*. Next attempt in ");
        check(why, &text, &[&says], &["disconnected: the server"]);
    }

    let asks = answering("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    let broken = answering("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    let table = [
        (format!("http://{asks}"), "HTTP 407: it wants a user and a password (*)", "rejected"),
        (
            format!("http://user:hidden@{asks}"),
            "HTTP 407: it rejects the user and the password given",
            "it wants a user",
        ),
        (format!("http://{broken}"), "HTTP 502: it can't reach the server", "password"),
    ];
    for (proxy, why, never) in table {
        let start = Start::at(setting.hub.url()).with(&["--proxy", &proxy]);
        let text = start.on(&setting).ends_after("waiting for the network");
        let says = format!(
            "waiting for the network: the proxy 127.0.0.1:* refused a connection to localhost:* with {why}*; \
                            looking every 3 s"
        );
        check(why, &text, &[&says], &[never, "hidden"]);
    }
}

#[test]
fn a_join_that_fails() {
    let table = [
        (
            Joins::Refused("no_such_product".into()),
            "the server refused the join: no_such_product; next attempt in ",
        ),
        (
            Joins::Unanswered,
            "the server did not answer the join of device within 1 s; next attempt to join in ",
        ),
    ];
    for (joins, says) in table {
        let setting = Setting::with(HubConfig { joins, ..HubConfig::default() });
        let text = setting.device(&["--join-timeout", "1"]).ends_after("next attempt");
        check(says, &text, &[says], &["accepted"]);
    }
}

#[test]
fn a_download_that_fails() {
    let table = [
        (403, "update failed, the running firmware is untouched: Download failed : HTTP 403, *", AGAIN),
        (404, "update failed, the running firmware is untouched: Download failed : HTTP 404, *", AGAIN),
        (416, "update failed, the running firmware is untouched: Download failed : HTTP 416, *", AGAIN),
        (503, "download broke at 0 bytes: HTTP 503*; again in ", ""),
    ];
    for (status, says, next) in table {
        let setting = Setting::new();
        setting.hub.mischief(Mischief::RefuseDownload { status, retry_after: None }, Times::UntilCleared);
        deploy(&setting, |bytes| bytes);
        let until = if next.is_empty() { "download broke" } else { "update failed" };
        let text = setting.device(&["--retry-delay", "3600"]).ends_after(until);
        check(says, &text, &[&format!("{says}{next}")], &["resumed", "the download goes on"]);
        assert_eq!(text.matches(&format!("HTTP {status}")).count(), 1, "{text}");
    }
    let setting = Setting::new();
    setting.hub.mischief(Mischief::CutDownload { after: 600_000 }, Times::Once);
    deploy(&setting, |bytes| bytes);
    let text = setting.device(&["--retry-delay", "0.01"]).said();
    let says = [
        "download of 1.0 MiB started",
        "download broke at *: *; again in ",
        "download resumed at * of 1.0 MiB",
    ];
    check("cut", &text, &says, &[]);
}

/// Deploys firmware with changed bytes.
fn deploy(setting: &Setting, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let update = builder("1.1.0", setting.disk.layout()).build(&setting.key).unwrap();
    let bytes = change(update.bytes().unwrap().to_vec());
    let mut meta = update.meta;
    // The server reads the UUID from what it serves, if that can be read.
    if let Ok(found) = describe(std::io::Cursor::new(&bytes)) {
        meta.uuid = found.uuid;
    }
    setting.hub.deploy(Firmware::from_bytes(bytes, meta).unwrap());
}

/// What is done to an archive.
type Spoil<'a> = &'a dyn Fn(&Setting, Vec<u8>) -> Vec<u8>;

#[test]
fn firmware_that_is_wrong() {
    let other_platform = |setting: &Setting| {
        let builder = builder("1.1.0", setting.disk.layout()).platform("other");
        builder.build(&setting.key).unwrap().bytes().unwrap().to_vec()
    };
    let tampered = |how: Tamper| move |_: &Setting, bytes: Vec<u8>| tamper(&bytes, &how).unwrap();
    let digest = Tamper::Resource { name: "rootfs.img".into(), offset: 7 };
    let table: [(&str, Spoil<'_>); 6] = [
        ("Firmware archive's meta.conf fails digital signature verification", &tampered(Tamper::Signature)),
        ("Expecting signed firmware archive", &tampered(Tamper::Unsigned)),
        ("raw_write detected blake2b mismatch on 'rootfs.img'", &tampered(digest)),
        ("*the archive ends too early in 'data/rootfs.img'", &tampered(Tamper::Truncated(9000))),
        ("Unrecognized archive format", &|_, _| vec![b'x'; 100_000]),
        ("nothing was written: the archive *the server offered *", &|setting, _| other_platform(setting)),
    ];
    for (why, spoil) in table {
        let setting = Setting::new();
        deploy(&setting, |bytes| spoil(&setting, bytes));
        let text = setting.device(&["--retry-delay", "3600"]).ends_after("update failed");
        let says = format!("update failed, the running firmware is untouched: *{why}*. {AGAIN}");
        check(why, &text, &[&says], &["it boots next"]);
        assert_eq!(setting.disk.boot().unwrap().meta.version, "1.0.0", "{why}");
    }
}

#[test]
fn an_update_that_is_put_off() {
    let setting = Setting::new();
    std::fs::rename(setting.disk.path(), setting.dir.path().join("later.img")).unwrap();
    deploy(&setting, |bytes| bytes);
    let identity =
        ["--firmware-product", "agent", "--firmware-version", "0.9.0", "--firmware-platform", "board"];
    let more = ["--firmware-architecture", "any", "--firmware-uuid", "11111111-2222-3333-4444-555555555555"];
    let text = setting.device(&[&identity[..], &more].concat()).ends_after("put off firmware");
    let says = [
        "updates are put off, as they can't be installed: the disk *",
        "put off firmware 1.1.0: the disk *; the server is asked to offer it again in 60 min",
    ];
    check("no disk", &text, &says, &["update failed"]);
}

#[test]
fn an_update_onto_a_full_file_system() {
    let mounted = TempDir::new().unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=1500k", "tmpfs"]).arg(mounted.path());
    if !mount.output().is_ok_and(|output| output.status.success()) {
        drop(std::io::stderr().write_all(b"SKIPPED: this user cannot mount a tmpfs\n"));
        return;
    }
    let setting = Setting::new();
    // The image has holes where nothing was written yet.
    let disk = mounted.path().join("disk.img");
    let copied = Command::new("cp").arg("--sparse=always").arg(setting.disk.path()).arg(&disk).status();
    assert!(copied.unwrap().success());
    deploy(&setting, |bytes| bytes);
    let text = setting.device_on(&disk, &[]).ends_after("untouched");
    drop(Command::new("umount").arg("-l").arg(mounted.path()).status());
    check(
        "full",
        &text,
        &["update failed, the running firmware is untouched: *No space left on device*"],
        &[],
    );
}

#[test]
fn what_operators_and_extensions_do() {
    // A server that has neither the extension nor the database behind it.
    let setting = Setting::with(HubConfig { analytics: false, ..HubConfig::default() });
    let folder = setting.dir.path().join("files");
    let more = ["--console", "--data-path", folder.to_str().unwrap(), "--extensions", "metrics,health"];
    let device = setting.device(&more);
    let says = |event: &str, payload: serde_json::Value| {
        let end = std::time::Instant::now() + PATIENCE;
        while !setting.hub.with_hub(|hub, _| hub.console("agent-test-1", event, &payload)) {
            assert!(std::time::Instant::now() < end, "the console was never joined");
            std::thread::yield_now();
        }
    };
    says("file-data/start", json!({"filename": "big"}));
    // A limit of 10 MiB, in pieces of 48 KiB.
    let chunk = "A".repeat(1 << 16);
    for number in 0..240 {
        says("file-data", json!({"filename": "big", "chunk": number, "data": chunk}));
    }
    says("file-data/stop", json!({"filename": "big"}));
    setting.hub.with_hub(|hub, _| hub.run_script("agent-test-1", "s1", "ls"));
    setting.saw("script", |event| matches!(event, HubEvent::ScriptAnswered { .. }));
    let told = |event: &HubEvent| matches!(event, HubEvent::Console { payload, .. } if payload.to_string().contains("big"));
    setting.saw("a word to the operator", told);
    setting.hub.broadcast("identify", &json!({}));
    let text = device.ends_after("which device this is");
    let lines = [
        "an operator sends the file \"big\"",
        "file * from an operator was dropped: *",
        "a script or connecting code of an operator's was not run: scripts are not enabled on this device",
        "the server does not use the extension metrics: it is switched off there, or this server does not know it",
        "the server uses the extension health *",
        "alarm NervesHubLink.Disconnected cleared",
    ];
    check(
        "operators",
        &text,
        &lines,
        &["is not being received", "is complete", "the server asked the extension"],
    );
}
