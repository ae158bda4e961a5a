//! How the device is doing: numbers from `/proc`, `/sys` and the data file system.
//!
//! Only what the kernel tells is returned; what it doesn't tell is left out, never made up or zero. Reading takes a
//! few small files and no other program.

mod network;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use network::{Interface, InterfaceKind};

use crate::limits::{PROC_FILE_MAX, THERMAL_ZONES_MAX};

/// Takes samples of a device's numbers.
///
/// ```
/// use nerves_hub_link_platform::health::HealthSampler;
///
/// let mut sampler = HealthSampler::new("/");
/// for (name, number) in sampler.sample() {
///     println!("{name}: {number}");
/// }
/// ```
#[derive(Debug)]
pub struct HealthSampler {
    root: PathBuf,
    data: PathBuf,
    traffic: bool,
    /// What the processors had done at the last sample.
    cpu: Option<Cpu>,
}

/// Ticks of all processors together.
#[derive(Clone, Copy, Debug)]
struct Cpu {
    busy: u64,
    total: u64,
}

impl HealthSampler {
    /// Builds a sampler for a device whose data is on the file system of this path.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { root: PathBuf::from("/"), data: data.into(), traffic: false, cpu: None }
    }

    /// Reads `proc` and `sys` under another folder than `/`.
    #[must_use]
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// Adds how many bytes went over the network interfaces. Off by default: servers keep only 20 numbers.
    #[must_use]
    pub const fn network_traffic(mut self, on: bool) -> Self {
        self.traffic = on;
        self
    }

    /// Takes a sample (device-protocol §5.2):
    ///
    /// | name | unit |
    /// | --- | --- |
    /// | `cpu_temp` | °C, of the first thermal zone that tells |
    /// | `cpu_usage_percent` | % since the last sample, or since the start; two decimals |
    /// | `load_1min`, `load_5min`, `load_15min` | processes that run or wait |
    /// | `mem_size_mb`, `mem_used_mb`, `mem_used_percent` | MB of 10^6 bytes, whole %; used is what is not available |
    /// | `disk_total_kb`, `disk_available_kb`, `disk_used_percentage` | KiB, whole % as `df` counts it |
    /// | `<interface>_bytes_received_total`, `<interface>_bytes_sent_total` | bytes, if asked for |
    pub fn sample(&mut self) -> BTreeMap<String, f64> {
        let mut numbers = BTreeMap::new();
        let mut put = |name: &str, number: f64| {
            numbers.insert(name.to_owned(), number);
        };
        if let Some(degrees) = self.temperature() {
            put("cpu_temp", degrees);
        }
        if let Some(percent) = self.cpu_usage() {
            put("cpu_usage_percent", percent);
        }
        // A container may hide any of these files; what is not there is not reported.
        let load = self.read("proc/loadavg").unwrap_or_default();
        for (name, number) in
            ["load_1min", "load_5min", "load_15min"].iter().zip(load.split_ascii_whitespace())
        {
            if let Some(number) = number.parse().ok().filter(|number: &f64| number.is_finite()) {
                put(name, number);
            }
        }
        if let Some((size, used)) = self.memory() {
            put("mem_size_mb", (size / 1000.0).round());
            put("mem_used_mb", (used / 1000.0).round());
            put("mem_used_percent", (100.0 * used / size).round());
        }
        if let Some(disk) = disk(&self.data) {
            put("disk_total_kb", disk.total);
            put("disk_available_kb", disk.available);
            put("disk_used_percentage", disk.used_percent);
        }
        if self.traffic {
            for (interface, [received, sent]) in network::traffic(&self.root) {
                put(&format!("{interface}_bytes_received_total"), received);
                put(&format!("{interface}_bytes_sent_total"), sent);
            }
        }
        numbers
    }

    /// Returns the network interfaces but the loopback, by name.
    pub fn interfaces(&self) -> BTreeMap<String, Interface> {
        network::interfaces(&self.root)
    }

    fn temperature(&self) -> Option<f64> {
        let zone = |number| self.read(&format!("sys/class/thermal/thermal_zone{number}/temp"));
        (0..THERMAL_ZONES_MAX).find_map(|number| {
            let thousandths: i32 = zone(number)?.trim().parse().ok()?;
            Some(f64::from(thousandths) / 1000.0)
        })
    }

    fn cpu_usage(&mut self) -> Option<f64> {
        let now = Cpu::parse(&self.read("proc/stat")?)?;
        let before = self.cpu.replace(now).filter(|before| before.total < now.total);
        let (busy, total) = before.map_or((now.busy, now.total), |before| {
            (now.busy.saturating_sub(before.busy), now.total.saturating_sub(before.total))
        });
        let percent = 100.0 * float(busy) / float(total);
        (total > 0).then(|| ((percent * 100.0).round() / 100.0).min(100.0))
    }

    /// Returns size and used memory in kB.
    fn memory(&self) -> Option<(f64, f64)> {
        let text = self.read("proc/meminfo")?;
        let field = |name: &str| -> Option<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(float)
        };
        let size = field("MemTotal").filter(|size| *size > 0.0)?;
        // Kernels before 3.14 don't say what is available.
        let old = || Some(field("MemFree")? + field("Buffers")? + field("Cached")?);
        let available = field("MemAvailable").or_else(old)?;
        Some((size, (size - available).max(0.0)))
    }

    fn read(&self, path: &str) -> Option<String> {
        read(&self.root.join(path))
    }
}

impl Cpu {
    /// Reads the first line of `/proc/stat` (proc_stat(5)).
    fn parse(text: &str) -> Option<Self> {
        let ticks = text.lines().next()?.strip_prefix("cpu ")?;
        // Guests, which come after these, are in the time of users already.
        let ticks: Vec<u64> =
            ticks.split_ascii_whitespace().take(8).map_while(|tick| tick.parse().ok()).collect();
        let total = ticks.iter().fold(0_u64, |sum, tick| sum.saturating_add(*tick));
        // Kernels before 2.6 don't count the wait for disks.
        let idle = ticks.get(3)?.saturating_add(ticks.get(4).copied().unwrap_or_default());
        Some(Self { busy: total.saturating_sub(idle), total })
    }
}

struct Disk {
    total: f64,
    available: f64,
    used_percent: f64,
}

fn disk(path: &Path) -> Option<Disk> {
    let stat = rustix::fs::statvfs(path).ok()?;
    (stat.f_blocks > 0).then(|| Disk::new(stat.f_frsize, stat.f_blocks, stat.f_bfree, stat.f_bavail))
}

impl Disk {
    /// Counts as `df` does: what only the administrator may use is neither used nor available.
    fn new(block: u64, blocks: u64, free: u64, available: u64) -> Self {
        let kib = |count: u64| (float(count) * float(block) / 1024.0).floor();
        let used = blocks.saturating_sub(free);
        let usable = float(used) + float(available);
        let used_percent = if usable > 0.0 { (100.0 * float(used) / usable).ceil() } else { 100.0 };
        Self { total: kib(blocks), available: kib(available), used_percent }
    }
}

/// Reads the beginning of a small file of the kernel's.
fn read(path: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(PROC_FILE_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[expect(clippy::cast_precision_loss, reason = "a number to be drawn; 53 bits are plenty")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_counted_as_df_does() {
        // 1000 blocks of 4 KiB: 300 used, 50 for the administrator.
        let disk = Disk::new(4096, 1000, 700, 650);
        assert_eq!((disk.total, disk.available, disk.used_percent), (4000.0, 2600.0, 32.0));
        let full = Disk::new(512, 1001, 0, 0);
        assert_eq!((full.total, full.available, full.used_percent), (500.0, 0.0, 100.0));
        let reserved = Disk::new(4096, 10, 10, 0);
        assert_eq!((reserved.available, reserved.used_percent), (0.0, 100.0));
    }
}
