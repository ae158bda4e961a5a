//! Health reports.

use crate::bench::{Adapter as _, Bench, LIMIT, UnderTest};
use nerves_hub_link_platform::health::HealthSampler;
use nerves_hub_link_protocol::{Client, HealthReport};
use nerves_hub_link_runtime::Options;
use nerves_hub_link_testkit::hub::HubEvent;
use serde_json::Value;

/// An application that says one thing about the device's health.
struct App(Option<fn() -> HealthReport>);

impl Client for App {
    fn health_report(&mut self) -> Option<HealthReport> {
        self.0.map(|tell| tell())
    }
}

/// Runs a device until the hub got a health report. Returns what is in it.
fn reported(app: App, sampler: Option<HealthSampler>) -> Value {
    let bench = Bench::new();
    let options = Options::new(bench.tls(), bench.installer(), app).health(sampler);
    let handle = UnderTest::start(bench.config(), options).unwrap();
    let is_report =
        |event: &HubEvent| matches!(event, HubEvent::Extension { event, .. } if event == "health:report");
    let report = bench.hub.wait_for(LIMIT, is_report).expect("no report");
    handle.stop();
    let HubEvent::Extension { payload, .. } = report else { unreachable!() };
    payload["value"].clone()
}

#[test]
fn the_systems_numbers_are_reported_unless_the_application_tells() {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("proc")).unwrap();
    std::fs::write(folder.path().join("proc/loadavg"), "0.5 0.25 0.125 1/1 1").unwrap();
    let eth0 = folder.path().join("sys/class/net/eth0");
    std::fs::create_dir_all(eth0.join("device")).unwrap();
    std::fs::write(eth0.join("operstate"), "up\n").unwrap();
    let sampler = HealthSampler::new("/no such folder").root(folder.path());
    let value = reported(App(None), Some(sampler));
    assert_eq!(
        value["metrics"],
        serde_json::json!({"load_1min": 0.5, "load_5min": 0.25, "load_15min": 0.125})
    );
    assert_eq!(value["connectivity"]["eth0"]["type"], "ethernet");
    assert_eq!(value["connectivity"]["eth0"]["connection_status"], "lan");
    // The application's own word counts.
    let tell = || HealthReport { metrics: [("own".to_owned(), 7.0)].into(), ..HealthReport::default() };
    let value = reported(App(Some(tell)), Some(HealthSampler::new("/")));
    assert_eq!(value["metrics"], serde_json::json!({"own": 7}));
}

#[test]
fn an_application_that_panics_is_reported_as_an_alarm() {
    let value = reported(App(Some(|| panic!("no sensor"))), Some(HealthSampler::new("/")));
    assert_eq!(value["alarms"]["NervesHubLink.Extensions.Health.CheckFailed"], "no sensor");
    assert_eq!(value["metrics"], serde_json::json!({}));
}
