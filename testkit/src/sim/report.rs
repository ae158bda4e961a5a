//! What a run of a fleet came to, for people and programs.

mod html;
mod plot;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::fault::{Fault, Origin};
use super::scenario::{DAY, MINUTE, SECOND, Scenario};
use super::stats::Stats;
use super::world::Outcome;

/// A report.
#[derive(Debug, Clone)]
pub struct Report {
    scenario: Scenario,
    stats: Stats,
    events: u64,
    hash: u64,
    ended: u64,
    took: Duration,
}

impl Report {
    /// Builds a report of a run that took so long.
    pub fn new(scenario: &Scenario, outcome: Outcome, took: Duration) -> Self {
        let Outcome { hash, events, ended, stats } = outcome;
        Self { scenario: scenario.clone(), stats, events, hash, ended, took }
    }

    /// The command that makes the same report.
    fn command(&self) -> String {
        let Scenario { devices, seed, faults, rate, rates, .. } = &self.scenario;
        let mut text = format!("simulate --devices {devices} --days {} --seed {seed}", self.days());
        if faults.iter().count() < Fault::ALL.len() {
            let names: Vec<_> = faults.iter().map(Fault::name).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(",") };
            let _ = write!(text, " --faults {names}");
        }
        if (*rate - 1.0).abs() > 1e-9 || !rates.is_empty() {
            let list =
                rates.iter().fold(rate.to_string(), |list, (fault, rate)| format!("{list},{fault}={rate}"));
            let _ = write!(text, " --rates {list}");
        }
        text
    }

    #[expect(clippy::cast_precision_loss, reason = "days for people")]
    fn days(&self) -> f64 {
        (self.scenario.span as f64 / DAY as f64 * 100.0).round() / 100.0
    }

    /// The time from the last release, with which everything healed, until all devices ran it.
    fn healed_in(&self) -> u64 {
        self.ended.saturating_sub(self.stats.healed_at)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn device_days_per_second(&self) -> f64 {
        self.ended as f64 / DAY as f64 * f64::from(self.stats.devices) / self.took.as_secs_f64().max(1e-6)
    }

    /// Text for a terminal.
    pub fn to_text(&self) -> String {
        let stats = &self.stats;
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:22} {value}");
        };
        line("availability", format!("{:.2} % of the time joined", stats.availability() * 100.0));
        line(
            "updates",
            format!(
                "{} offered, {} accepted, {} written, {} failed and reported, {} fell back",
                stats.offers,
                stats.accepted,
                stats.written,
                stats.failed_updates(),
                stats.reverted
            ),
        );
        line(
            "time of an update",
            format!(
                "half in {}, 95 % in {}, the longest {}",
                span(stats.duration(50)),
                span(stats.duration(95)),
                span(stats.duration(100))
            ),
        );
        for release in &stats.releases {
            let reached = if release.good {
                format!(
                    "50 % of the fleet after {}, 95 % after {}, all after {}",
                    span(release.reached(50, stats.devices)),
                    span(release.reached(95, stats.devices)),
                    span(release.reached(100, stats.devices))
                )
            } else {
                format!("spoilt on purpose; tried {} times, never kept", release.arrivals.len())
            };
            line(&format!("release {} ({})", release.id, day(release.at)), reached);
        }
        line(
            "firmware fetched",
            format!(
                "{} in {} requests, {} of it again or for nothing ({})",
                bytes(stats.received),
                stats.fetches,
                bytes(stats.fetched_again()),
                percent(stats.fetched_again(), stats.received)
            ),
        );
        line(
            "beside updates",
            format!(
                "{} archives, {} of {} questions answered, {} visits to {} shells with {} of output",
                stats.archives,
                stats.answers,
                stats.questions,
                stats.visits,
                stats.shells,
                bytes(stats.shell_bytes)
            ),
        );
        line(
            "asked for",
            format!("{} updates by devices, {} of them not given", stats.requests, stats.rejected),
        );
        line("scripts", format!("{} sent by operators, {} answers", stats.scripts, stats.script_answers));
        line(
            "files on consoles",
            format!(
                "{} sent, {} got whole by devices, {} sent whole by devices",
                stats.files, stats.files_received, stats.files_sent
            ),
        );
        line("connections", format!("{} attempts, {} refused by the server", stats.dials, stats.refused));
        line("faults", format!("{} met, all survived", stats.faults_met()));
        for origin in Origin::ALL {
            let of = |fault: &&Fault| fault.origin() == origin;
            let struck: Vec<_> = Fault::ALL
                .iter()
                .filter(of)
                .map(|fault| (fault, stats.struck.get(fault.index()).copied().unwrap_or(0)))
                .filter(|(_, count)| *count > 0)
                .map(|(fault, count)| format!("{fault} {count}"))
                .collect();
            if !struck.is_empty() {
                line(&format!("  {}", origin.name()), struck.join(", "));
            }
        }
        line(
            "after all healed",
            format!("every device online and up to date within {}", span(Some(self.healed_in()))),
        );
        line(
            "the run",
            format!(
                "{} events in {:.1} s, {:.0} device-days a second, hash {:016x}",
                self.events,
                self.took.as_secs_f64(),
                self.device_days_per_second(),
                self.hash
            ),
        );
        text
    }

    /// One JSON object. Times are seconds of virtual time.
    pub fn to_json(&self) -> String {
        let stats = &self.stats;
        let seconds = |micros: Option<u64>| micros.map(|micros| micros / SECOND);
        let faults: serde_json::Map<_, _> = Fault::ALL
            .iter()
            .zip(&stats.struck)
            .map(|(fault, count)| (fault.name().to_owned(), json!(count)))
            .collect();
        let releases: Vec<_> = stats
            .releases
            .iter()
            .map(|release| {
                json!({
                    "number": release.id,
                    "at": release.at / SECOND,
                    "good": release.good,
                    "devices": release.arrivals.len(),
                    "half_after": seconds(release.reached(50, stats.devices)),
                    "most_after": seconds(release.reached(95, stats.devices)),
                    "all_after": seconds(release.reached(100, stats.devices)),
                })
            })
            .collect();
        let report = json!({
            "scenario": self.scenario,
            "availability": stats.availability(),
            "updates": {
                "offered": stats.offers,
                "accepted": stats.accepted,
                "declined": stats.declined,
                "written": stats.written,
                "failed": stats.failed_updates(),
                "failures": stats.failures,
                "fell_back": stats.reverted,
                "seconds": {
                    "half": seconds(stats.duration(50)),
                    "most": seconds(stats.duration(95)),
                    "longest": seconds(stats.duration(100)),
                },
            },
            "releases": releases,
            "bytes": { "received": stats.received, "again": stats.fetched_again() },
            "requests": stats.fetches,
            "archives": stats.archives,
            "requests_for_updates": { "made": stats.requests, "rejected": stats.rejected },
            "questions": { "asked": stats.questions, "answered": stats.answers },
            "scripts": { "sent": stats.scripts, "answers": stats.script_answers },
            "files": { "sent": stats.files, "received": stats.files_received, "uploaded": stats.files_sent },
            "consoles": {
                "visits": stats.visits,
                "shells": stats.shells,
                "bytes": stats.shell_bytes,
                "messages": stats.console_messages,
            },
            "interrupted_downloads": stats.interrupted,
            "dials": stats.dials,
            "refused": stats.refused,
            "faults": faults,
            "power_cuts": stats.power_cuts,
            "blocked": stats.blocked,
            "statuses": stats.statuses,
            "healed_after": self.healed_in() / SECOND,
            "events": self.events,
            "hash": format!("{:016x}", self.hash),
            "took_seconds": self.took.as_secs_f64(),
            "device_days_per_second": self.device_days_per_second(),
        });
        serde_json::to_string_pretty(&report).unwrap_or_default()
    }

    /// One page for a browser, with plots; needs nothing else.
    pub fn to_html(&self) -> String {
        html::page(self)
    }
}

/// A length of time for people.
fn span(micros: Option<u64>) -> String {
    let Some(micros) = micros else { return "–".to_owned() };
    let seconds = micros / SECOND;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", (micros + MINUTE / 2) / MINUTE),
        3600..172_800 => format!("{}.{} h", seconds / 3600, seconds % 3600 / 360),
        _ => format!("{}.{} d", seconds / 86_400, seconds % 86_400 / 8640),
    }
}

/// A point in time for people.
fn day(micros: u64) -> String {
    format!("day {}.{}", micros / DAY, micros % DAY / (DAY / 10))
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", count / 1_000_000),
        _ => format!("{} GB", count / 1_000_000_000),
    }
}

fn percent(part: u64, whole: u64) -> String {
    let permille = (u128::from(part) * 1000).checked_div(u128::from(whole)).unwrap_or(0);
    format!("{}.{} %", permille / 10, permille % 10)
}
