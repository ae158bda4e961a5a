//! What must hold for extensions whatever the server, the application and the network do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::common::*;
use nerves_hub_link_protocol::limits::*;
use nerves_hub_link_protocol::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const NAMES: [&str; 9] = [
    "health",
    "geo",
    "network_identity",
    "logging",
    "error_reports",
    "metrics",
    "alarms",
    "weather",
    "local_shell",
];
const EVENTS: [&str; 12] = [
    "check",
    "location:request",
    "request",
    "sync",
    "report",
    "send",
    "update",
    "attached",
    "detached",
    "error",
    "",
    "a:b:c",
];

#[derive(Clone, Debug)]
enum Step {
    /// `extensions:get`, and whether it is an offer by version.
    Invite(Value),
    /// The server answers the join with these names.
    Accept(Value),
    Server(String, Value),
    /// The server answers one of the last pushes with an error.
    Reject(usize, Value),
    Command(ExtensionCommand),
    Pass(u64),
    /// The network takes messages, or not.
    Sends(bool),
    Lose,
    Clock(Option<i64>),
}

/// Numbers that JSON keeps exactly, and some that it can't hold.
fn floats() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => any::<i32>().prop_map(|eighths| f64::from(eighths) / 8.0),
        1 => proptest::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 1e300]),
    ]
}

fn payloads() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        floats().prop_map(Value::from),
        ".*".prop_map(Value::from),
        proptest::sample::select(NAMES.to_vec()).prop_map(Value::from),
        Just(json!("all")),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{0,4}|extensions", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn names() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => proptest::sample::subsequence(NAMES.to_vec(), 0..=9).prop_map(|names| json!(names)),
        2 => Just(json!(NAMES)),
        1 => payloads(),
    ]
}

fn invitations() -> impl Strategy<Value = Value> {
    let listed = |version: &'static str| {
        let all: BTreeMap<&str, Vec<&str>> =
            NAMES.iter().map(|name| (*name, vec![version, "0.0.1"])).collect();
        json!({"extensions": all})
    };
    prop_oneof![Just(listed("0.1.0")), Just(listed("0.0.1")), Just(json!({})), payloads()]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,20}", (0..20_000_usize).prop_map(|length| "ä".repeat(length))]
}

fn commands() -> impl Strategy<Value = ExtensionCommand> {
    let texts = || proptest::collection::btree_map(text(), text(), 0..3);
    let time = || proptest::option::of(any::<i64>().prop_map(UnixMicros));
    let metrics = || proptest::collection::btree_map(".{0,70}", floats(), 0..25);
    let name = || proptest::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
    prop_oneof![
        1 => name().prop_map(|name| ExtensionCommand::Attach { name }),
        1 => name().prop_map(|name| ExtensionCommand::Detach { name }),
        2 => (".{0,5}|report", payloads()).prop_map(|(event, payload)| ExtensionCommand::Push {
            name: "weather".into(), event, payload: payload.to_string(),
        }),
        3 => (texts(), texts(), metrics(), time()).prop_map(|(metadata, alarms, metrics, timestamp)| {
            let report = HealthReport { timestamp, metadata, alarms, metrics, ..HealthReport::default() };
            ExtensionCommand::HealthReport(Box::new(report))
        }),
        1 => text().prop_map(|reason| ExtensionCommand::HealthFailed { reason }),
        2 => (floats(), (-1600..1600_i32).prop_map(|eighths| f64::from(eighths) / 8.0), text()).prop_map(|(latitude, longitude, source)| {
            ExtensionCommand::Location(Ok(Location { source, latitude, longitude, accuracy: None }))
        }),
        2 => proptest::collection::vec((text(), text(), payloads()), 0..40).prop_map(|identities| {
            let identity = |(service, identifier, details): (String, String, Value)| NetworkIdentity {
                details: details.to_string(),
                ..NetworkIdentity::new(service, identifier)
            };
            ExtensionCommand::NetworkIdentities(identities.into_iter().map(identity).collect())
        }),
        6 => (text(), texts(), time()).prop_map(|(message, meta, time)| {
            ExtensionCommand::Log(LogLine { level: LogLevel::Error, message, meta, time })
        }),
        1 => Just(ExtensionCommand::FlushLogs),
        6 => (text(), text(), texts(), time()).prop_map(|(kind, reason, context, time)| {
            let report = ErrorReport { context, time, ..ErrorReport::new(kind, reason) };
            ExtensionCommand::ReportError(Box::new(report))
        }),
        1 => Just(ExtensionCommand::FlushErrorReports),
        1 => texts().prop_map(ExtensionCommand::ErrorContext),
        6 => (metrics(), time()).prop_map(|(metrics, time)| ExtensionCommand::Metrics(MetricSample { time, metrics })),
        6 => ("[a-d]{1,2}", text())
            .prop_map(|(name, description)| ExtensionCommand::RaiseAlarm { name, description }),
        3 => "[a-d]{1,2}".prop_map(|name| ExtensionCommand::ClearAlarm { name }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = proptest::sample::select(NAMES.to_vec());
    let event = proptest::sample::select(EVENTS.to_vec());
    let step = prop_oneof![
        2 => invitations().prop_map(Step::Invite),
        4 => names().prop_map(Step::Accept),
        6 => (name, event, payloads()).prop_map(|(name, event, payload)| Step::Server(format!("{name}:{event}"), payload)),
        2 => (any::<bool>(), names()).prop_map(|(attach, names)| {
            Step::Server(if attach { "attach" } else { "detach" }.into(), json!({"extensions": names}))
        }),
        1 => (".*", payloads()).prop_map(|(event, payload)| Step::Server(event, payload)),
        1 => (0..8_usize, prop_oneof![Just(json!("detach")), payloads()]).prop_map(|(back, why)| Step::Reject(back, why)),
        20 => commands().prop_map(Step::Command),
        4 => (0..90_000_u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Sends),
        1 => Just(Step::Lose),
        1 => proptest::option::of(1_700_000_000..1_900_000_000_i64).prop_map(Step::Clock),
    ];
    proptest::collection::vec(step, 0..120)
}

fn everything() -> Config {
    let mut config = config();
    if let Auth::SharedSecret(secret) = &mut config.auth {
        secret.iterations = 1;
    }
    config.heartbeat = Duration::ZERO;
    config.join_timeout = Duration::from_secs(1_000_000);
    config.extensions.health = Some(HealthConfig { interval: Some(Duration::from_secs(60)) });
    config.extensions.logging = Some(LoggingConfig::default());
    config.extensions.error_reports = Some(ErrorReportsConfig::default());
    config.extensions.metrics = true;
    config.extensions.alarms = true;
    config.extensions.third_party =
        vec![ThirdPartyExtension { name: "weather".into(), versions: vec!["0.1.0".into(), "0.0.1".into()] }];
    config
}

/// The server's side of what extensions may do.
#[derive(Default)]
struct Model {
    attached: BTreeSet<String>,
    /// Tokens left, and when they were counted, per event.
    buckets: BTreeMap<String, (f64, Instant)>,
}

impl Model {
    /// Looks at what the device sent. The clock of messages is that of the step's end, unless time passes in it.
    fn look(&mut self, out: &[Output], now: Instant, passes: bool) {
        for message in sent(out) {
            if message[2] != "extensions" {
                continue;
            }
            let event = message[3].as_str().unwrap();
            if event == "phx_join" || event == "phx_leave" {
                self.attached.clear();
                continue;
            }
            let (name, what) = event.split_once(':').unwrap();
            match what {
                "attached" => drop(self.attached.insert(name.to_owned())),
                "detached" => drop(self.attached.remove(name)),
                "error" => {}
                _ => {
                    assert!(self.attached.contains(name), "{event} while detached");
                    Self::bounds(name, &message[4]);
                    if !passes {
                        self.charge(event, now);
                    }
                }
            }
        }
        if passes {
            // Each deadline on the way had its own time: the buckets are checked in `deadlines_and_rates`.
            self.buckets.clear();
        }
    }

    fn bounds(name: &str, payload: &Value) {
        let count = |key: &str| payload[key].as_array().map_or(0, Vec::len);
        assert!(count("lines") <= MAX_LOG_BATCH && count("identities") <= MAX_IDENTITIES_PER_MESSAGE);
        let reports = if name == "metrics" { MAX_METRIC_BATCH } else { MAX_ERROR_BATCH };
        assert!(count("reports") <= reports && count("alarms") <= MAX_ALARMS + 8);
        assert!(payload.is_object());
        assert!(payload.to_string().len() < 4_000_000, "half of what servers take");
        for line in payload["lines"].as_array().into_iter().flatten() {
            assert!(line["message"].as_str().unwrap().len() <= MAX_LOG_BYTES);
            let time = line["meta"]["time"].as_str().unwrap();
            assert!(time.parse::<i64>().is_ok(), "{time}");
        }
        for report in payload["reports"].as_array().into_iter().flatten() {
            assert_eq!(report["timestamp"].as_str().unwrap().len(), 27);
        }
    }

    fn charge(&mut self, event: &str, now: Instant) {
        let (burst, period) = match event.split_once(':').unwrap().0 {
            "logging" => (LOG_BURST, LOG_PERIOD),
            "error_reports" | "metrics" => (REPORT_BURST, REPORT_PERIOD),
            "alarms" => (ALARM_BURST, ALARM_PERIOD),
            _ => return,
        };
        let name = event.split_once(':').unwrap().0.to_owned();
        let (tokens, at) = self.buckets.entry(name).or_insert((f64::from(burst), now));
        *tokens = (*tokens + (now - *at).as_secs_f64() / period.as_secs_f64()).min(f64::from(burst)) - 1.0;
        *at = now;
        assert!(*tokens > -0.001, "{event}: the server's bucket is empty");
    }
}

/// Runs the steps; returns what came out of each.
fn run(config: Config, steps: &[Step]) -> Vec<Vec<Output>> {
    let mut device = Device::joined(config);
    let mut model = Model::default();
    let mut pushes: Vec<Value> = Vec::new();
    let mut outs = Vec::new();
    for step in steps {
        device.out.clear();
        let joined = |device: &Device| device.link.status().connection == ConnectionState::Joined;
        let mut passes = false;
        match step {
            Step::Invite(payload) => drop(device.broadcast("extensions:get", payload.clone())),
            Step::Accept(names) => {
                if let Some(join) = pushes.iter().rev().find(|push| push[3] == "phx_join") {
                    let reply = json!({"status": "ok", "response": names});
                    device.server(&json!([join[0], join[1], "extensions", "phx_reply", reply]));
                }
            }
            Step::Server(event, payload) => {
                let join = pushes.iter().rev().find(|push| push[3] == "phx_join").map(|join| join[0].clone());
                device.server(&json!([join, null, "extensions", event, payload]));
            }
            Step::Reject(back, why) => {
                if let Some(push) =
                    pushes.iter().rev().filter(|push| push[3] != "phx_join").nth(*back).cloned()
                {
                    let reply = json!({"status": "error", "response": why});
                    device.server(&json!([push[0], push[1], "extensions", "phx_reply", reply]));
                }
            }
            Step::Command(command) => {
                let _ = device.link.command(device.now, command.clone().into());
                device.drain();
            }
            Step::Pass(millis) => {
                passes = true;
                device.pass(Duration::from_millis(*millis));
            }
            Step::Sends(sends) => {
                device.sends = *sends;
                let socket = device.socket();
                device.input(Input::SocketSent { socket, frames: 1000 });
            }
            Step::Lose => {
                device.sends = true;
                passes = true;
                device.down(None);
                while device.link.status().connection != ConnectionState::Dialing {
                    device.pass(Duration::from_secs(1));
                }
                let socket = device.socket();
                device.input(Input::SocketUp { socket, interface: None });
                let join = device.last_sent("phx_join");
                let reply = json!({"status": "ok", "response": {}});
                device.server(&json!([join[0], join[1], "device", "phx_reply", reply]));
                pushes.clear();
                model.attached.clear();
            }
            Step::Clock(wall) => {
                device.now.wall = wall.map(UnixTime);
                device.input(Input::Tick);
            }
        }
        // A network that takes nothing for a minute is given up; nothing else costs the connection.
        if !joined(&device) {
            assert!(!device.sends, "{step:?} cost the connection");
            return outs;
        }
        model.look(&device.out, device.now.mono, passes);
        pushes.extend(device.sent().into_iter().filter(|message| message[2] == "extensions"));
        for push in device.sent() {
            if let Step::Reject(..) = step {
                assert_ne!(push[3], "phx_join");
            }
        }
        if let Step::Reject(_, why) = step
            && *why == json!("detach")
        {
            model.attached = device
                .link
                .extensions()
                .into_iter()
                .filter(|extension| extension.attached && model.attached.contains(&extension.name))
                .map(|extension| extension.name)
                .collect();
        }
        outs.push(std::mem::take(&mut device.out));
    }
    outs
}

/// Messages and events, without the way they are written.
fn meaning(outs: &[Vec<Output>]) -> Vec<(Vec<Value>, Vec<Event>)> {
    outs.iter().map(|out| (sent(out), events(out))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_disturbs_the_socket_and_both_encodings_mean_the_same(steps in steps()) {
        let [json, binary] = in_both(everything()).map(|config| run(config, &steps));
        prop_assert_eq!(meaning(&json), meaning(&binary));
    }

    /// Floods of everything that is rate-limited, at random times.
    #[test]
    fn deadlines_and_rates_hold_in_any_flood(
        steps in proptest::collection::vec((0..5_u8, 0..40_u32, 0..3000_u64), 1..40),
        version in proptest::sample::select(vec!["0.0.1", "0.1.0"]),
    ) {
        let mut device = Device::joined(everything());
        let all: BTreeMap<&str, Vec<&str>> = NAMES.iter().map(|name| (*name, vec![version, "0.1.0"])).collect();
        device.invite(json!({"extensions": all}));
        device.accept(json!(NAMES));
        device.extension("alarms:sync", json!({}));
        let mut model = Model { attached: NAMES.map(str::to_owned).into(), ..Model::default() };
        for (kind, count, millis) in steps {
            device.out.clear();
            for number in 0..count {
                let name = format!("{number}");
                let command = match kind {
                    0 => ExtensionCommand::Log(LogLine::new(LogLevel::Alert, name)),
                    1 => ExtensionCommand::ReportError(Box::new(ErrorReport::new("error", name))),
                    2 => ExtensionCommand::Metrics(MetricSample::default()),
                    3 => ExtensionCommand::RaiseAlarm { name, description: String::new() },
                    _ => ExtensionCommand::ClearAlarm { name },
                };
                device.command(command.into());
            }
            device.command(ExtensionCommand::FlushLogs.into());
            device.command(ExtensionCommand::FlushErrorReports.into());
            model.look(&device.out, device.now.mono, false);
            // Deadline by deadline, each with its own time.
            let end = device.now.mono + Duration::from_millis(millis);
            while device.now.mono < end {
                let next = device.link.deadline().map_or(end, |deadline| deadline.at.min(end));
                prop_assert!(next > device.now.mono, "{:?}", device.link.deadline());
                device.out.clear();
                device.now.mono = next;
                device.input(Input::Tick);
                model.look(&device.out, next, false);
            }
        }
    }
}
