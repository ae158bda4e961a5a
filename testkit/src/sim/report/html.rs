//! The page of a report: one file, nothing loaded, light or dark as the reader has it.

use std::fmt::Write as _;

use super::{Report, bytes, day, percent, span};
use crate::sim::fault::{Fault, Origin};
use crate::sim::report::plot::{Axis, Plot};

const STYLE: &str = include_str!("page.css");

pub(super) fn page(report: &Report) -> String {
    let stats = &report.stats;
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{} devices, {} days: a simulated fleet</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        stats.devices,
        report.days(),
    );
    let verdict = format!(
        "{} faults struck {} devices in {} days. No device was lost, no promise was broken. After the last fault, \
         every device was online with the newest firmware within {}.",
        group(stats.faults_met()),
        group(stats.devices.into()),
        report.days(),
        span(Some(report.healed_in())),
    );
    let _ =
        write!(page, "<header>\n<h1>A simulated fleet</h1>\n<p class=\"verdict\">{verdict}</p>\n</header>\n");
    tiles(&mut page, report);
    online(&mut page, report);
    newest(&mut page, report);
    releases(&mut page, report);
    durations(&mut page, report);
    faults(&mut page, report);
    failures(&mut page, report);
    let _ = write!(
        page,
        "<footer><p>The same run again:</p><pre>cargo run --release -p nerves-hub-link-testkit -- {}</pre>\
         <p>{} events in {:.1} s; all time on this page is virtual.</p></footer>\n</main>\n</body>\n</html>\n",
        escape(&report.command()),
        group(report.events),
        report.took.as_secs_f64(),
    );
    page
}

/// The figures to look at first.
fn tiles(page: &mut String, report: &Report) {
    let stats = &report.stats;
    let tiles = [
        (
            "Online",
            format!("{:.2} %", stats.availability() * 100.0),
            "of the time, all devices together".to_owned(),
        ),
        (
            "Updates",
            group(stats.written),
            format!("written; {} more failed and were reported", group(stats.failed_updates())),
        ),
        (
            "Half of the updates took",
            span(stats.duration(50)),
            format!("95 % took {} at most, from yes to running", span(stats.duration(95))),
        ),
        (
            "Fetched again",
            percent(stats.fetched_again(), stats.received),
            format!("of {} of firmware", bytes(stats.received)),
        ),
        (
            "Power cuts",
            group(stats.power_cuts),
            format!("every one booted whole firmware; {} fell back", group(stats.reverted)),
        ),
        ("Devices lost", "0".to_owned(), "the run would have ended with an error".to_owned()),
    ];
    page.push_str("<section class=\"tiles\">\n");
    for (name, value, more) in tiles {
        let _ = writeln!(
            page,
            "<div class=\"tile\"><div class=\"name\">{name}</div><div class=\"value\">{value}</div>\
             <div class=\"more\">{more}</div></div>"
        );
    }
    page.push_str("</section>\n");
}

/// The share of devices online, over time.
fn online(page: &mut String, report: &Report) {
    let stats = &report.stats;
    let shares = shares(report, &stats.online);
    let lowest = shares.iter().map(|(_, share)| *share).fold(100.0, f64::min);
    let floor = if lowest > 90.0 {
        90.0
    } else if lowest > 50.0 {
        50.0
    } else {
        0.0
    };
    let mut plot =
        Plot::new(days(report), Axis { from: floor, to: 100.0, step: (100.0 - floor) / 5.0, unit: " %" });
    plot.area(&shares, "online");
    plot.mark(day_of(stats.healed_at), "all faults end");
    section(
        page,
        "How many devices were online",
        "The share of all devices joined to the hub. What most dips have in common is a restart of the hub.",
        &plot.finish("day", "devices online"),
    );
}

/// The share of devices with the newest good firmware, over time.
fn newest(page: &mut String, report: &Report) {
    let stats = &report.stats;
    let mut plot = Plot::new(days(report), Axis { from: 0.0, to: 100.0, step: 20.0, unit: " %" });
    plot.area(&shares(report, &stats.newest), "newest");
    for release in &stats.releases {
        let label = if release.good { format!("{}", release.id) } else { format!("{} spoilt", release.id) };
        plot.mark(day_of(release.at), &label);
    }
    section(
        page,
        "How many ran the newest firmware",
        "Each line is a release, with its number. Spoilt ones are signed with a foreign key, or never prove good; \
         devices refuse them or fall back.",
        &plot.finish("day", "devices up to date"),
    );
}

fn releases(page: &mut String, report: &Report) {
    let stats = &report.stats;
    let mut table = String::from(
        "<table><thead><tr><th>Release</th><th>Made</th><th>50 % of the fleet</th><th>95 %</th><th>All</th></tr>\
         </thead><tbody>\n",
    );
    for release in &stats.releases {
        let reached = |percent| span(release.reached(percent, stats.devices));
        let cells = if release.good {
            format!("<td>{}</td><td>{}</td><td>{}</td>", reached(50), reached(95), reached(100))
        } else {
            let tried = match release.arrivals.len() {
                0 => "spoilt: no device took it".to_owned(),
                tried => format!("spoilt: tried {} times, never kept", group(tried as u64)),
            };
            format!("<td colspan=\"3\" class=\"spoilt\">{tried}</td>")
        };
        let _ = writeln!(table, "<tr><td>{}</td><td>{}</td>{cells}</tr>", release.id, day(release.at));
    }
    table.push_str("</tbody></table>");
    section(
        page,
        "How long each release took to arrive",
        "From the release until so many devices had booted it. A dash: the next release came first, or devices were \
         away, locked out by the hub for their failures, or may be updated at some times only.",
        &table,
    );
}

/// How long updates took.
fn durations(page: &mut String, report: &Report) {
    const BINS: [(u64, &str); 9] = [
        (2, "2 s"),
        (5, "5 s"),
        (10, "10 s"),
        (30, "30 s"),
        (60, "1 min"),
        (300, "5 min"),
        (900, "15 min"),
        (3600, "1 h"),
        (u64::MAX, "longer"),
    ];
    let mut bars: Vec<(String, f64)> = BINS.iter().map(|(_, name)| ((*name).to_owned(), 0.0)).collect();
    for duration in &report.stats.durations {
        let seconds = duration / 1_000_000;
        let bin = BINS.iter().position(|(most, _)| seconds < *most).unwrap_or(BINS.len() - 1);
        if let Some((_, count)) = bars.get_mut(bin) {
            *count += 1.0;
        }
    }
    section(
        page,
        "How long an update took",
        "From the application's yes to the boot into the new firmware; updates by their longest time.",
        &super::plot::columns(&bars, "less than", "updates"),
    );
}

/// Which faults struck, and how often.
fn faults(page: &mut String, report: &Report) {
    let stats = &report.stats;
    let mut text = String::from("<div class=\"faults\">\n");
    let most = stats.struck.iter().copied().max().unwrap_or(1).max(1);
    for origin in Origin::ALL {
        let of: Vec<(Fault, u64)> = Fault::ALL
            .iter()
            .map(|fault| (*fault, stats.struck.get(fault.index()).copied().unwrap_or(0)))
            .filter(|(fault, count)| fault.origin() == origin && *count > 0)
            .collect();
        if of.is_empty() {
            continue;
        }
        let _ = writeln!(text, "<div class=\"origin\"><h3>{}</h3><ul>", origin.name());
        for (fault, count) in of {
            let width = (count * 100).div_ceil(most);
            let _ = writeln!(
                text,
                "<li><span class=\"what\">{}</span><span class=\"bar\"><i style=\"width:{width}%\"></i></span>\
                 <span class=\"count\">{}</span></li>",
                escape(fault.about()),
                group(count),
            );
        }
        text.push_str("</ul></div>\n");
    }
    text.push_str("</div>");
    section(
        page,
        "What went wrong, and how often",
        "Every one of these was survived by every device it struck.",
        &text,
    );
}

fn failures(page: &mut String, report: &Report) {
    let stats = &report.stats;
    if stats.failures.is_empty() {
        return;
    }
    let mut sorted: Vec<_> = stats.failures.iter().collect();
    sorted.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), reason.as_str()));
    let mut table = String::from(
        "<table><thead><tr><th>Updates</th><th>What the server was told</th></tr></thead><tbody>\n",
    );
    for (reason, count) in sorted.iter().take(12) {
        let _ = writeln!(table, "<tr><td>{}</td><td>{}</td></tr>", group(**count), escape(reason));
    }
    table.push_str("</tbody></table>");
    section(
        page,
        "Why updates failed",
        "A failed update leaves the running firmware as it was. The words are those of the report, without numbers.",
        &table,
    );
}

fn section(page: &mut String, title: &str, about: &str, body: &str) {
    let _ = write!(page, "<section>\n<h2>{title}</h2>\n<p>{about}</p>\n{body}\n</section>\n");
}

/// The time axis.
fn days(report: &Report) -> Axis<'static> {
    let to = day_of(report.stats.ended_at);
    let step = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0]
        .into_iter()
        .find(|step| to / step <= 11.0)
        .unwrap_or(1000.0);
    Axis { from: 0.0, to, step, unit: "" }
}

#[expect(clippy::cast_precision_loss, reason = "points of a plot")]
fn day_of(micros: u64) -> f64 {
    micros as f64 / crate::sim::scenario::DAY as f64
}

/// A series of times summed over devices, as shares of all devices in percent.
#[expect(clippy::cast_precision_loss, reason = "points of a plot")]
fn shares(report: &Report, series: &[u64]) -> Vec<(f64, f64)> {
    let stats = &report.stats;
    let mut points = Vec::new();
    let count = stats.ended_at.div_ceil(stats.point.max(1));
    for index in 0..count {
        let from = index * stats.point;
        let length = stats.point.min(stats.ended_at - from);
        // A last piece too short to say anything.
        if length * 4 < stats.point && index > 0 {
            break;
        }
        let sum = usize::try_from(index).ok().and_then(|index| series.get(index)).copied().unwrap_or(0);
        let share = sum as f64 / (length as f64 * f64::from(stats.devices.max(1))) * 100.0;
        points.push((day_of(from + length / 2), share.min(100.0)));
    }
    points
}

/// A number with spaces between thousands.
fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
