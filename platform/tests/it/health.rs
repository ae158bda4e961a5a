//! Numbers about a device, from a made-up `/proc` and `/sys` and from this machine's.
#![allow(clippy::float_cmp)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use nerves_hub_link_platform::health::{HealthSampler, Interface, InterfaceKind};
use nerves_hub_link_platform::limits::{INTERFACES_MAX, TRAFFIC_INTERFACES_MAX};
use tempfile::TempDir;

struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A machine as a Raspberry Pi shows itself.
    fn usual() -> Self {
        let machine = Self::new();
        machine.put("sys/class/thermal/thermal_zone0/temp", "48312\n");
        machine
            .put("proc/stat", "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 100 0 50 800 50 0 0 0 0 0\nintr 1 2 3\n");
        machine.put("proc/loadavg", "0.57 0.97 1.91 1/123 4567\n");
        machine.put(
            "proc/meminfo",
            "MemTotal:        1000500 kB\nMemFree:          100000 kB\nMemAvailable:     750300 kB\n",
        );
        machine.put(
            "proc/net/dev",
            "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
             lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  \
             eth0: 1234567 1 0 0 0 0 0 0 7654321 1 0 0 0 0 0 0\n \
             wlan0:18446744073709551615 1 0 0 0 0 0 0 0 1 0 0 0 0 0 0\n",
        );
        machine
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn interface(&self, name: &str, files: &[(&str, &str)]) {
        self.put(&format!("sys/class/net/{name}/type"), "1\n");
        for (file, text) in files {
            self.put(&format!("sys/class/net/{name}/{file}"), text);
        }
    }

    fn sampler(&self) -> HealthSampler {
        HealthSampler::new("/no such folder").root(self.0.path())
    }
}

fn numbers(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
}

#[test]
fn the_numbers_have_the_names_and_units_of_the_protocol() {
    let machine = Machine::usual();
    assert_eq!(
        machine.sampler().sample(),
        numbers(&[
            ("cpu_temp", 48.312),
            ("cpu_usage_percent", 15.0),
            ("load_1min", 0.57),
            ("load_5min", 0.97),
            ("load_15min", 1.91),
            ("mem_size_mb", 1001.0),
            ("mem_used_mb", 250.0),
            ("mem_used_percent", 25.0),
        ])
    );
}

#[test]
fn processors_are_measured_from_sample_to_sample() {
    let machine = Machine::usual();
    let mut sampler = machine.sampler();
    sampler.sample();
    let mut usage = |stat: &str| {
        machine.put("proc/stat", stat);
        sampler.sample().get("cpu_usage_percent").copied()
    };
    assert_eq!(usage("cpu  200 0 50 850 100 0 0 0 0 0\n"), Some(50.0));
    assert_eq!(usage("cpu  201 0 50 852 100 0 0 0 77 0\n"), Some(33.33), "guests count once");
    // No time passed: since the start, rather than nothing by nothing.
    assert_eq!(usage("cpu  201 0 50 852 100 0 0 0 77 0\n"), Some(20.86));
    // A counter that went back is a new start.
    assert_eq!(usage("cpu  1 0 0 1\n"), Some(50.0));
    for broken in
        ["", "cpu", "cpu  \n", "cpu  1 2 3\n", "cpu  0 0 0 0 0\n", "cpu0 1 2 3 4 5\n", "cpu  a b c d\n"]
    {
        assert_eq!(usage(broken), None, "{broken:?}");
    }
}

#[test]
fn what_is_not_known_is_left_out() {
    assert_eq!(Machine::new().sampler().sample(), BTreeMap::new());
    let machine = Machine::new();
    machine.put("proc/loadavg", "nan 0.97");
    machine.put("proc/meminfo", "MemTotal: 0 kB\nMemAvailable: 5 kB\n");
    machine.put("sys/class/thermal/thermal_zone0/temp", "broken");
    machine.put("sys/class/thermal/thermal_zone3/temp", "-5500\n");
    assert_eq!(machine.sampler().sample(), numbers(&[("load_5min", 0.97), ("cpu_temp", -5.5)]));
    // Old kernels don't say what is available.
    machine.put("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 50 kB\n");
    assert_eq!(machine.sampler().sample()["mem_used_percent"], 80.0);
    // More available than there is can't be.
    machine.put("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 2000 kB\n");
    assert_eq!(machine.sampler().sample()["mem_used_percent"], 0.0);
}

#[test]
fn a_hostile_proc_costs_nothing() {
    let machine = Machine::new();
    for path in
        ["proc/stat", "proc/loadavg", "proc/meminfo", "proc/net/dev", "sys/class/thermal/thermal_zone0/temp"]
    {
        for text in
            ["\u{fffd}\0\n:::: 99999999999999999999999", &"cpu  1 ".repeat(100_000), &":".repeat(100_000)]
        {
            machine.put(path, text);
            let sample = machine.sampler().network_traffic(true).sample();
            assert!(sample.values().all(|number| number.is_finite()), "{sample:?}");
        }
    }
}

#[test]
fn traffic_is_told_in_numbers_if_asked_for() {
    let machine = Machine::usual();
    let sample = machine.sampler().network_traffic(true).sample();
    let traffic: Vec<(&str, f64)> = sample
        .iter()
        .filter(|(name, _)| name.contains("_bytes_"))
        .map(|(name, number)| (name.as_str(), *number))
        .collect();
    assert_eq!(
        traffic,
        [
            ("eth0_bytes_received_total", 1_234_567.0),
            ("eth0_bytes_sent_total", 7_654_321.0),
            ("wlan0_bytes_received_total", 18_446_744_073_709_551_615.0),
            ("wlan0_bytes_sent_total", 0.0),
        ]
    );
}

#[test]
fn traffic_of_hardware_comes_before_that_of_containers() {
    let machine = Machine::new();
    let mut text = String::new();
    for number in 0..20 {
        text.push_str(&["veth", &number.to_string(), ": 1 0 0 0 0 0 0 0 2\n"].concat());
        machine.interface(&format!("veth{number}"), &[]);
    }
    text += "wlan0: 3 0 0 0 0 0 0 0 4\n";
    machine.interface("wlan0", &[("wireless/x", "")]);
    machine.put("proc/net/dev", &text);
    let sample = machine.sampler().network_traffic(true).sample();
    assert_eq!(sample.len(), 2 * TRAFFIC_INTERFACES_MAX);
    assert_eq!((sample["wlan0_bytes_received_total"], sample["wlan0_bytes_sent_total"]), (3.0, 4.0));
}

#[test]
fn interfaces_are_told_apart() {
    let machine = Machine::new();
    machine.interface("lo", &[]);
    machine.put("sys/class/net/loop1/type", "772\n");
    machine.put("sys/class/net/bonding_masters", "");
    machine.interface("eth0", &[("operstate", "up\n"), ("device/x", "")]);
    machine.interface("wlan0", &[("operstate", "down\n"), ("phy80211/x", ""), ("device/x", "")]);
    machine.interface("wwan0", &[("operstate", "dormant\n")]);
    machine.interface("usb0", &[("uevent", "DEVTYPE=wwan\nINTERFACE=usb0\n"), ("device/x", "")]);
    machine.interface("br0", &[]);
    let interface = |kind, state: &str| Interface { kind, state: state.to_owned() };
    assert_eq!(
        machine.sampler().interfaces().into_iter().collect::<Vec<_>>(),
        [
            ("br0".to_owned(), interface(InterfaceKind::Virtual, "unknown")),
            ("eth0".to_owned(), interface(InterfaceKind::Ethernet, "up")),
            ("usb0".to_owned(), interface(InterfaceKind::Mobile, "unknown")),
            ("wlan0".to_owned(), interface(InterfaceKind::Wifi, "down")),
            ("wwan0".to_owned(), interface(InterfaceKind::Mobile, "dormant")),
        ]
    );
    for number in 0..INTERFACES_MAX {
        machine.interface(&format!("a{number}"), &[]);
    }
    let interfaces = machine.sampler().interfaces();
    assert_eq!(interfaces.len(), INTERFACES_MAX);
    assert!(["eth0", "usb0", "wlan0", "wwan0"].iter().all(|name| interfaces.contains_key(*name)));
}

#[test]
fn the_disk_is_that_of_the_data() {
    let folder = TempDir::new().unwrap();
    let sample = HealthSampler::new(folder.path()).root("/no such folder").sample();
    let names: Vec<&str> = sample.keys().map(String::as_str).collect();
    assert_eq!(names, ["disk_available_kb", "disk_total_kb", "disk_used_percentage"]);
    let (total, available) = (sample["disk_total_kb"], sample["disk_available_kb"]);
    assert!(available > 0.0 && available < total, "{sample:?}");
    assert!((0.0..=100.0).contains(&sample["disk_used_percentage"]));
    // The same file system as the system's own tool sees, within what others write meanwhile.
    let Ok(df) = std::process::Command::new("df").args(["-kP"]).arg(folder.path()).output() else {
        println!("SKIPPED: no df here");
        return;
    };
    let df = String::from_utf8_lossy(&df.stdout).into_owned();
    let fields: Vec<f64> = df
        .lines()
        .nth(1)
        .unwrap()
        .split_ascii_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    assert!((fields[0] - total).abs() <= 1.0, "{df} {sample:?}");
    assert!((fields[2] - available).abs() < total / 10.0, "{df} {sample:?}");
}

#[test]
fn this_machine_tells_the_usual_numbers() {
    let sample = HealthSampler::new("/").network_traffic(true).sample();
    if !Path::new("/proc/stat").exists() {
        println!("SKIPPED: no /proc here");
        return;
    }
    for name in
        ["cpu_usage_percent", "load_1min", "load_15min", "mem_size_mb", "mem_used_mb", "disk_total_kb"]
    {
        assert!(sample[name] >= 0.0, "{sample:?}");
    }
    assert!(
        sample["mem_used_mb"] <= sample["mem_size_mb"] && sample["cpu_usage_percent"] <= 100.0,
        "{sample:?}"
    );
}
