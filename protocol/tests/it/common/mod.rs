//! A device under test: a `Link`, a clock, and shorthands for what adapters do.
#![allow(clippy::needless_pass_by_value, reason = "calls read better")]

pub mod recordings;

use std::time::Duration;

use nerves_hub_link_protocol::*;
use serde_json::{Value, json};

pub const UUID: &str = "8a8b902c-d1a9-58aa-6111-04ab57c2f2a8";
pub const NEW_UUID: &str = "e75a88c1-3245-5751-0c33-2b884ef5f37f";
pub const KEY: &str = "u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds=";
pub const WALL: i64 = 1_795_444_757;
pub const URL: &str = "https://files.example/fw/1.fw?signature=TOPSECRET";

pub fn firmware() -> FirmwareMeta {
    FirmwareMeta {
        uuid: UUID.into(),
        product: "TestProduct".into(),
        version: "0.1.0".into(),
        platform: "generic".into(),
        architecture: "x86_64".into(),
        author: Some("me".into()),
        description: Some("first".into()),
        vcs_identifier: Some(String::new()),
        misc: Some(String::new()),
    }
}

pub fn config() -> Config {
    let secret = SharedSecret::new("nhp_key", "secret", "device-1");
    let mut config = Config::new("hub.example", Auth::SharedSecret(secret), firmware());
    config.firmware_validated = Some(true);
    config.fwup_version = "1.16.0".into();
    config.public_keys = vec![KEY.into()];
    config.backoff.jitter = 0.0;
    config.wait_for_network = false;
    // `freeze` has the alarm, and the records that it needs.
    config.freeze_alarm = Duration::ZERO;
    // Tests let one update fail after the other; `bounds_updates` has what follows from that.
    config.bounds.failure_pause = Duration::ZERO;
    config
}

pub use nerves_hub_link_protocol::UNTOLD_FAILURE as UNTOLD;

pub struct Device {
    pub link: Link,
    pub now: Now,
    pub out: Vec<Output>,
    /// Alarms as they were told; they are left out elsewhere.
    pub alarms: Vec<Event>,
    /// Whether `Send`s are reported sent at once.
    pub sends: bool,
    /// Whether the device spoke MessagePack last, in which the server answers.
    pub binary: bool,
    /// Whether signed metadata were reported.
    pub signed: bool,
    dial: Option<Dial>,
    fetch: Option<Fetch>,
}

impl Device {
    pub fn new(config: Config) -> Self {
        let now = Now { mono: Instant::from_micros(1_000_000), wall: Some(UnixTime(WALL)) };
        Self {
            link: Link::new(config, 7, now).unwrap(),
            now,
            out: Vec::new(),
            alarms: Vec::new(),
            sends: true,
            binary: false,
            signed: false,
            dial: None,
            fetch: None,
        }
    }

    /// A device that is joined.
    pub fn joined(config: Config) -> Self {
        let mut device = Self::new(config);
        device.connect();
        device.join();
        device.out.clear();
        device
    }

    /// A device whose console is joined too.
    pub fn with_console(config: Config) -> Self {
        let mut device = Self::new(config);
        device.connect();
        device.join();
        device.join_console();
        device.out.clear();
        device
    }

    /// Accepts the join of the console.
    pub fn join_console(&mut self) -> Vec<Output> {
        let join = self.last_sent("phx_join");
        assert_eq!(join[2], "console");
        self.server(&json!([join[0], join[1], "console", "phx_reply", {"status": "ok", "response": {}}]))
    }

    /// The server says something on the console.
    pub fn console(&mut self, event: &str, payload: Value) -> Vec<Output> {
        self.server(&json!([null, null, "console", event, payload]))
    }

    /// The number of the last shell asked for.
    pub fn shell(&self) -> ShellId {
        let shells = self.events().into_iter().rev();
        let mut shells = shells.filter_map(|event| match event {
            Event::Shell(ShellEvent::Wanted { shell, .. }) => Some(shell),
            _ => None,
        });
        shells.next().expect("no shell asked for")
    }

    /// A shell writes something.
    pub fn output(&mut self, shell: ShellId, bytes: &[u8]) -> Result<Vec<Output>, CommandError> {
        self.link.command(self.now, Command::Shell(ShellCommand::Output { shell, data: bytes.into() }))?;
        Ok(self.drain())
    }

    /// Drains the machine; answers sends if told so. Returns what came out now.
    pub fn drain(&mut self) -> Vec<Output> {
        let mut new = Vec::new();
        while let Some(output) = self.link.poll() {
            if let (Output::Send { socket, .. } | Output::SendBinary { socket, .. }, true) =
                (&output, self.sends)
            {
                self.link.handle(self.now, Input::SocketSent { socket: *socket, frames: 1 });
            }
            match &output {
                Output::Send { .. } => self.binary = false,
                Output::SendBinary { .. } => self.binary = true,
                Output::Dial(dial) => self.dial = Some(dial.clone()),
                Output::Fetch(fetch) => self.fetch = Some(fetch.clone()),
                Output::Event(event @ (Event::AlarmRaised { .. } | Event::AlarmCleared { .. })) => {
                    self.alarms.push(event.clone());
                    continue;
                }
                _ => {}
            }
            new.push(output);
        }
        self.out.extend(new.clone());
        new
    }

    pub fn input(&mut self, input: Input<'_>) -> Vec<Output> {
        self.signed |= matches!(input, Input::FirmwareSigned { .. });
        self.link.handle(self.now, input);
        self.drain()
    }

    /// Takes a fact, and leaves what follows in the machine.
    pub fn input_quietly(&mut self, input: Input<'_>) {
        self.link.handle(self.now, input);
    }

    pub fn command(&mut self, command: Command) -> Vec<Output> {
        self.link.command(self.now, command).unwrap();
        self.drain()
    }

    /// Moves the clocks and ticks at every deadline on the way.
    pub fn pass(&mut self, time: Duration) -> Vec<Output> {
        let mut new = self.drain();
        let end = self.now.mono + time;
        let start = self.now;
        loop {
            let next = self.link.deadline().map_or(end, |deadline| deadline.at.min(end));
            let at = next.max(self.now.mono);
            // The wall clock's seconds begin with the monotonic ones.
            let seconds = at.as_micros() / 1_000_000 - start.mono.as_micros() / 1_000_000;
            self.now = Now {
                mono: at,
                wall: start.wall.map(|wall| UnixTime(wall.0 + i64::try_from(seconds).unwrap())),
            };
            new.extend(self.input(Input::Tick));
            let deadline = self.link.deadline();
            assert!(deadline.is_none_or(|deadline| deadline.at > at), "a deadline in the past: {deadline:?}");
            if at == end {
                return new;
            }
        }
    }

    pub fn connect(&mut self) -> SocketId {
        let dial = self.dialled(Command::Connect);
        self.input(Input::SocketUp { socket: dial, interface: Some("eth0") });
        dial
    }

    pub fn dialled(&mut self, command: Command) -> SocketId {
        self.command(command);
        self.dial().socket
    }

    /// The last dial.
    pub fn dial(&self) -> Dial {
        self.dial.clone().expect("no dial")
    }

    pub fn socket(&self) -> SocketId {
        self.dial().socket
    }

    /// The last message with that event.
    pub fn last_sent(&self, event: &str) -> Value {
        self.sent().into_iter().rev().find(|message| message[3] == event).expect("no such message")
    }

    pub fn join(&mut self) -> Vec<Output> {
        let ours = |message: &Value| message[2] == "device" && message[3] == "phx_join";
        let join = self.sent().into_iter().rev().find(ours).expect("no join of the device channel");
        let reply = json!([join[0], join[1], "device", "phx_reply", {"status": "ok", "response": {}}]);
        self.server(&reply)
    }

    pub fn server(&mut self, message: &Value) -> Vec<Output> {
        let socket = self.socket();
        if self.binary {
            return self.input(Input::SocketBinary { socket, data: &rmp_serde::to_vec(message).unwrap() });
        }
        self.input(Input::SocketText { socket, text: &message.to_string() })
    }

    pub fn broadcast(&mut self, event: &str, payload: Value) -> Vec<Output> {
        self.server(&json!([null, null, "device", event, payload]))
    }

    /// The server asks for extensions. Returns the parameters of the join that follows.
    pub fn invite(&mut self, payload: Value) -> Value {
        let out = self.broadcast("extensions:get", payload);
        sent(&out).into_iter().find(|message| message[3] == "phx_join").expect("no join")[4].clone()
    }

    /// The server answers the last join of the extensions.
    pub fn accept(&mut self, names: Value) -> Vec<Output> {
        let join = self.last_sent("phx_join");
        assert_eq!(join[2], "extensions");
        let reply = json!({"status": "ok", "response": names});
        self.server(&json!([join[0], join[1], "extensions", "phx_reply", reply]))
    }

    /// The server pushes an event on the extensions channel.
    pub fn extension(&mut self, event: &str, payload: Value) -> Vec<Output> {
        let join = self.sent().into_iter().rev().find(|m| m[3] == "phx_join" && m[2] == "extensions");
        let reference = join.expect("no join of extensions")[0].clone();
        self.server(&json!([reference, null, "extensions", event, payload]))
    }

    /// A device whose server attached these extensions, as an old server does.
    pub fn attached(config: Config, names: Value) -> Self {
        let mut device = Self::joined(config);
        device.invite(json!({}));
        device.accept(names);
        device
    }

    /// A command that is refused and sends nothing.
    pub fn refusal(&mut self, command: impl Into<Command>) -> CommandError {
        let error = self.link.command(self.now, command.into()).unwrap_err();
        assert_eq!(self.drain(), [], "{error}");
        error
    }

    /// All messages sent so far.
    pub fn sent(&self) -> Vec<Value> {
        sent(&self.out)
    }

    pub fn statuses(&self) -> Vec<Value> {
        self.sent().iter().filter(|message| message[3] == "status_update").map(|m| m[4].clone()).collect()
    }

    pub fn events(&self) -> Vec<Event> {
        events(&self.out)
    }

    pub fn down(&mut self, code: Option<u16>) -> Vec<Output> {
        let socket = self.socket();
        self.input(Input::SocketDown { socket, code, reason: "" })
    }

    /// Waits so many seconds for the back-off, connects and joins.
    pub fn come_back_after(&mut self, seconds: u64) {
        let before = self.socket();
        self.pass(Duration::from_secs(seconds));
        assert_ne!(self.socket(), before, "no dial");
        let socket = self.socket();
        self.input(Input::SocketUp { socket, interface: Some("eth0") });
        self.join();
    }

    /// Waits for the next heartbeat and answers it.
    pub fn beat(&mut self) {
        let wait = self.link.deadline().unwrap().at - self.now.mono;
        let beat = sent(&self.pass(wait)).pop().expect("no heartbeat");
        self.server(&json!([null, beat[1], "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    }

    /// Offers an update of some bytes; returns the offer.
    pub fn offer(&mut self, extra: Value) -> OfferId {
        let mut update = update();
        for (key, value) in extra.as_object().unwrap() {
            update[key] = value.clone();
        }
        let out = self.broadcast("update", update);
        events(&out)
            .iter()
            .find_map(|event| match event {
                Event::UpdateOffered { offer, .. } => Some(*offer),
                _ => None,
            })
            .expect("no offer")
    }

    pub fn offer_and_ignore(&mut self) {
        let offer = self.offer(json!({}));
        self.command(Command::Decide { offer, decision: Decision::Ignore { reason: String::new() } });
    }

    /// Offers and accepts an update; returns the offer and the request.
    pub fn start(&mut self, extra: Value) -> (OfferId, Fetch) {
        let offer = self.offer(extra);
        self.command(Command::Decide { offer, decision: Decision::Apply });
        (offer, self.fetch())
    }

    /// The last request.
    pub fn fetch(&self) -> Fetch {
        self.fetch.clone().expect("no fetch")
    }

    pub fn head(&mut self, status: u16, headers: &[(&str, &str)]) -> Vec<Output> {
        let fetch = self.fetch().fetch;
        self.input(Input::FetchHead { fetch, status, headers, interface: Some("wlan0") })
    }

    /// A chunk arrives and is stored.
    pub fn chunk(&mut self, bytes: &[u8]) -> Keep {
        let fetch = self.fetch().fetch;
        let keep = self.link.body(self.now, fetch, bytes);
        self.drain();
        self.link.stored(self.now, fetch, keep.range.len());
        self.drain();
        keep
    }

    pub fn end(&mut self) -> Vec<Output> {
        let fetch = self.fetch().fetch;
        self.input(Input::FetchEnd { fetch })
    }

    /// The reason of the update's failure, which the server hears only once a trusted signature was seen.
    pub fn failure(&self) -> String {
        let told = self
            .events()
            .iter()
            .rev()
            .find_map(|event| match event {
                Event::UpdateFailed { reason, .. } => Some(reason.clone()),
                _ => None,
            })
            .expect("no failure");
        let status = self.statuses().pop().expect("no status");
        let public = if self.signed { &told } else { UNTOLD };
        assert_eq!(status, json!({"status": "failed", "reason": public}));
        assert_eq!(self.link.status().update, UpdateState::Idle);
        told
    }
}

pub fn update() -> Value {
    json!({
        "update_available": true,
        "firmware_url": URL,
        "firmware_meta": {
            "uuid": NEW_UUID, "product": "TestProduct", "version": "1.0.0", "platform": "generic",
            "architecture": "x86_64", "author": "me", "description": null, "misc": null, "vcs_identifier": null
        },
        "size": 1000,
        "checksum": null,
        "partials_checksums": [],
        "deployment_id": 7,
    })
}

pub fn sent(out: &[Output]) -> Vec<Value> {
    out.iter()
        .filter_map(|output| match output {
            Output::Send { text, .. } => Some(serde_json::from_str(text).unwrap()),
            Output::SendBinary { data, .. } => Some(rmp_serde::from_slice(data).unwrap()),
            _ => None,
        })
        .collect()
}

pub fn events(out: &[Output]) -> Vec<Event> {
    out.iter()
        .filter_map(|output| match output {
            Output::Event(event) => Some(event.clone()),
            _ => None,
        })
        .collect()
}

/// No extensions at all.
pub fn no_extensions() -> ExtensionsConfig {
    let mut none = ExtensionsConfig::default();
    (none.health, none.geo, none.network_identity) = (None, false, None);
    none
}

/// The configuration, speaking JSON and MessagePack.
pub fn in_both(config: Config) -> [Config; 2] {
    let mut binary = config.clone();
    binary.serializer = Serializer::MsgPack;
    [config, binary]
}

/// The messages of extensions in some outputs: event and payload.
pub fn extension_messages(out: &[Output]) -> Vec<(String, Value)> {
    let of_extensions = |message: &Value| message[2] == "extensions";
    let pair = |message: Value| (message[3].as_str().unwrap().to_owned(), message[4].clone());
    sent(out).into_iter().filter(of_extensions).map(pair).collect()
}

/// The news about extensions in some outputs.
pub fn extension_events(out: &[Output]) -> Vec<ExtensionEvent> {
    let news = |event| match event {
        Event::Extension(event) => Some(event),
        _ => None,
    };
    events(out).into_iter().filter_map(news).collect()
}

/// The texts that were sent to the console.
pub fn shown(out: &[Output]) -> Vec<String> {
    let ups = sent(out).into_iter().filter(|message| message[2] == "console" && message[3] == "up");
    ups.map(|message| message[4]["data"].as_str().unwrap().to_owned()).collect()
}

pub fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The offer whose applier gets what a request brings.
pub fn offer_of(fetch: &Fetch) -> OfferId {
    match fetch.into {
        Sink::Applier(offer) => offer,
        Sink::Store(store) => panic!("for store {store}"),
    }
}

/// An extension of the application's own.
pub fn third_party(name: &str, versions: &[&str]) -> ThirdPartyExtension {
    ThirdPartyExtension { name: name.into(), versions: versions.iter().map(ToString::to_string).collect() }
}

/// A device with two extensions of its own, and no others.
pub fn weather() -> Config {
    let mut config = config();
    config.extensions = no_extensions();
    config.extensions.third_party =
        vec![third_party("weather", &["0.2.0", "0.1.0", "0.0.1"]), third_party("tides", &["1.0.0"])];
    config
}

/// An event of one of those of [`weather`].
pub fn of_weather(event: &str, payload: &str) -> ExtensionCommand {
    ExtensionCommand::Push { name: "weather".into(), event: event.into(), payload: payload.into() }
}

/// The names of messages of extensions.
pub fn event_names(messages: &[(String, Value)]) -> Vec<&str> {
    messages.iter().map(|(event, _)| event.as_str()).collect()
}

/// The attempts as they were to be saved, one after the other.
pub fn saved(out: &[Output]) -> Vec<Vec<Attempt>> {
    out.iter()
        .filter_map(|output| match output {
            Output::SaveAttempts { attempts } => Some(attempts.clone()),
            _ => None,
        })
        .collect()
}

/// Why an update was refused, if one was.
pub fn refusal(out: &[Output]) -> Option<String> {
    events(out).into_iter().find_map(|event| match event {
        Event::UpdateRefused { reason, .. } => Some(reason),
        _ => None,
    })
}
