//! Comparing how connections are opened and files requested.

use std::collections::BTreeSet;

use nerves_hub_link_protocol::{Fetch, Secret};

use super::compare::Comparison;
use super::difference::{Difference, Kind};
use super::drive::{Dialled, MOMENT, Transcript};
use super::plot::{Credentials, Plot};
use super::recording::{Kind as Line, Request, Side};
use super::token;
use crate::hub::sign;

/// Headers that belong to HTTP and WebSocket, not to the device.
const PLUMBING: [&str; 6] = ["host", "user-agent", "upgrade", "connection", "accept", "accept-encoding"];

/// Compares the dials with the recorded upgrade requests and attempts.
pub fn dials(
    plot: &Plot<'_>,
    transcript: &Transcript,
    credentials: Option<&Credentials>,
    result: &mut Comparison,
) {
    let found = &mut result.differences;
    for conn in &transcript.undialled {
        found.push(Difference::new(Kind::Missing, "dial").on(*conn));
    }
    let last_bound = transcript.dials.iter().rposition(|dialled| dialled.conn.is_some());
    let unbound =
        transcript.dials.iter().take(last_bound.unwrap_or_default()).filter(|d| d.conn.is_none()).count();
    if unbound > 0 {
        found.push(Difference::new(Kind::Extra, "dial").times(unbound));
    }
    for dialled in &transcript.dials {
        let Some(conn) = dialled.conn else { continue };
        result.sockets += 1;
        if let Some((request, unix)) = request(plot, conn) {
            let found = dial(dialled, request, unix, plot, credentials);
            result.differences.extend(found.into_iter().map(|difference| difference.on(conn)));
        }
        result.differences.extend(delay(plot, dialled, conn));
    }
    for (conn, reason) in &transcript.hang_ups {
        // The recorded device ended that connection, too.
        let too = |line: &super::recording::Line| {
            line.conn == *conn && matches!(line.kind, Line::Eof(Side::Device) | Line::Close(Side::Device, _))
        };
        let first = plot
            .lines(0)
            .filter(|line| line.conn == *conn)
            .find(|line| matches!(line.kind, Line::Eof(_) | Line::Close(..)));
        if conn.is_some() && first.is_some_and(too) {
            continue;
        }
        let mut difference = Difference::new(Kind::HangUp, "dial").ours(reason);
        difference.conn = *conn;
        result.differences.push(difference);
    }
}

fn request<'r>(plot: &Plot<'r>, conn: u64) -> Option<(&'r Request, Option<i64>)> {
    plot.lines(0).find_map(|line| match &line.kind {
        Line::Request(request) if line.conn == Some(conn) => Some((request, line.unix_micros)),
        _ => None,
    })
}

fn dial(
    dialled: &Dialled,
    request: &Request,
    unix: Option<i64>,
    plot: &Plot<'_>,
    credentials: Option<&Credentials>,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |path: &str, ours: &str, theirs: &str| {
        if ours != theirs {
            found.push(Difference::new(Kind::Payload, "dial").at(path).ours(ours).theirs(theirs));
        }
    };
    let rest = dialled.dial.url.split_once("://").map_or("", |(_, rest)| rest);
    let (host, target) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    differ("target", target, &request.target);
    // An attempt that begins anew, where the recorded client may stay with the address of a redirect.
    let path =
        if plot.config.host.ends_with(&format!("//{host}")) { "host of the configuration" } else { "host" };
    differ(path, host, request.header("host").unwrap_or_default());
    let own = |name: &String| !PLUMBING.contains(&name.as_str()) && !name.starts_with("sec-websocket-");
    let names = |list: &mut dyn Iterator<Item = &String>| {
        let names: BTreeSet<String> = list.map(|name| name.to_ascii_lowercase()).filter(own).collect();
        names.into_iter().collect::<Vec<_>>().join(" ")
    };
    let ours = names(&mut dialled.dial.headers.iter().map(|(name, _)| name));
    differ("headers", &ours, &names(&mut request.headers.iter().map(|(name, _)| name)));
    let header = |name: &str| {
        let found = dialled.dial.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, value): &(String, Secret)| value.expose())
    };
    for name in ["x-nh-alg", "x-nh-key"] {
        differ(name, header(name).unwrap_or_default(), request.header(name).unwrap_or_default());
    }
    let times = (header("x-nh-time"), request.header("x-nh-time"));
    if let ((Some(ours), Some(theirs)), Some(unix)) = (times, unix) {
        // How far each is from the true time; the machine's may be stretched.
        let off = |time: &str, truth: i64| time.parse::<i64>().map_or(i64::MAX, |t| t.saturating_sub(truth));
        let ours = off(ours, dialled.unix_seconds.saturating_sub(plot.clock_error.div_euclid(1_000_000)));
        let theirs = off(theirs, unix.div_euclid(1_000_000));
        if ours.abs_diff(theirs) > 2 {
            // By the device's own clock, or by the server's once it was learned.
            let error = plot.clock_error.div_euclid(1_000_000);
            let base = if ours.abs_diff(error) <= 2 { error } else { 0 };
            let show = |off: i64| format!("{:+} s", off.saturating_sub(base));
            differ("x-nh-time", &show(ours), &show(theirs));
        }
    }
    found.extend(signature(&header, request, credentials));
    found
}

/// Checks the machine's signature with an independent program, and against the recorded one of the same second.
fn signature<'d>(
    header: &impl Fn(&str) -> Option<&'d str>,
    request: &Request,
    credentials: Option<&Credentials>,
) -> Option<Difference> {
    let known = credentials.filter(|known| header("x-nh-key") == Some(known.key.as_str()))?;
    let (ours, alg) = (header("x-nh-signature")?, header("x-nh-alg")?);
    let (identifier, _) = token::read(ours)?;
    let time: u64 = header("x-nh-time")?.parse().ok()?;
    let of = |time: u64| {
        let headers = sign(alg, &known.key, &known.secret, &identifier, time)?;
        headers.into_iter().find(|(name, _)| name == "x-nh-signature").map(|(_, value)| value)
    };
    if of(time).as_deref() != Some(ours) {
        return Some(Difference::new(Kind::Broken, "dial").at("x-nh-signature").ours("does not verify"));
    }
    let theirs = request.header("x-nh-signature")?;
    let their_time: u64 = request.header("x-nh-time")?.parse().ok()?;
    let verifies = of(their_time).as_deref() == Some(theirs);
    (!verifies).then(|| {
        Difference::new(Kind::Payload, "dial").at("x-nh-signature").ours("verifies").theirs("does not verify")
    })
}

/// A connection that the server ends so soon looks like that of a device that another one replaces, in microseconds.
const SOON: u64 = 60_000_000;

/// Compares how long each waited before this attempt.
fn delay(plot: &Plot<'_>, dialled: &Dialled, conn: u64) -> Option<Difference> {
    let ours = dialled.after?;
    let mut ended = None;
    let mut opened = None;
    // Why the connection before ended, and how often in a row the server ended one soon.
    let (mut why, mut kicks, mut up) = ("", 0, 0);
    for line in plot.lines(0) {
        let of_socket = line.conn.is_some_and(|c| plot.life.sockets.contains(&c));
        match &line.kind {
            Line::Response { status, .. } if of_socket => {
                why = if (300..400).contains(status) { "after a redirect" } else { "" };
                up = line.at;
            }
            Line::Close(Side::Server, Some(1001)) if of_socket && ended.is_none() => {
                kicks = if line.at.saturating_sub(up) <= SOON { kicks + 1 } else { 0 };
                ended = Some(line.at);
            }
            Line::Close(Side::Device, _) if of_socket && ended.is_none() => why = "on request",
            Line::Open(_) if line.conn == Some(conn) => {
                opened = Some(line.at);
                break;
            }
            Line::Close(Side::Server, _) | Line::Eof(_) | Line::Failed(_) if of_socket => {
                ended.get_or_insert(line.at);
            }
            Line::Open(_) if of_socket => (ended, why) = (None, ""),
            _ => {}
        }
    }
    let theirs = opened?.saturating_sub(ended?);
    // Both draw from 1 s doubled up to 60 s, each up to half longer.
    let close = ours <= theirs.saturating_mul(2).saturating_add(1_000_000)
        && theirs <= ours.saturating_mul(2).saturating_add(1_000_000);
    let show = |micros: u64| format!("{}.{:03} s", micros / 1_000_000, micros / 1000 % 1000);
    if kicks >= 3 && ours > theirs {
        why = "after the server ended three in a row";
    }
    (!close)
        .then(|| Difference::new(Kind::Delay, "dial").at(why).ours(show(ours)).theirs(show(theirs)).on(conn))
}

/// Compares the requests for files.
pub fn fetches(plot: &Plot<'_>, transcript: &Transcript, result: &mut Comparison) {
    for what in &transcript.unfetched {
        result.differences.push(Difference::new(Kind::Missing, "fetch").theirs(what));
    }
    for what in &transcript.kept {
        result.differences.push(Difference::new(Kind::Missing, "fetch").at("an archive it has").theirs(what));
    }
    let known = |fetch: &Fetch| {
        let id = fetch.fetch;
        transcript.unreached.contains(&id) || transcript.fetched.values().any(|taken| *taken == id)
    };
    let extra = transcript.fetches.iter().filter(|fetch| !known(fetch)).count();
    if extra > 0 {
        let cut = transcript.cut_at.is_some_and(|cut| transcript.fetched_last.saturating_add(MOMENT) >= cut);
        let path = if cut && extra == 1 { "when the recording ends" } else { "" };
        result.differences.push(Difference::new(Kind::Extra, "fetch").at(path).times(extra));
    }
    for (conn, id) in &transcript.fetched {
        let theirs = request(plot, *conn).map(|(request, _)| request);
        let ours = transcript.fetches.iter().find(|fetch| fetch.fetch == *id);
        if let (Some(fetch), Some(request)) = (ours, theirs) {
            result.fetches += 1;
            result.differences.extend(fetch_headers(fetch, request));
        }
    }
}

fn fetch_headers(fetch: &Fetch, request: &Request) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differ = |path: &str, ours: String, theirs: String| {
        if ours != theirs {
            found.push(Difference::new(Kind::Payload, "fetch").at(path).ours(ours).theirs(theirs));
        }
    };
    let rest = fetch.url.expose().split_once("://").map_or("", |(_, rest)| rest);
    let (host, target) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    differ("target", target.to_owned(), request.target.clone());
    differ("host", host.to_owned(), request.header("host").unwrap_or_default().to_owned());
    let ours = |name: &str| super::recording::header(&fetch.headers, name).unwrap_or("absent").to_owned();
    let theirs = |name: &str| request.header(name).unwrap_or("absent").to_owned();
    let mut names: BTreeSet<String> = BTreeSet::new();
    names.extend(fetch.headers.iter().map(|(name, _)| name.to_ascii_lowercase()));
    names.extend(request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()));
    for name in names.iter().filter(|name| !PLUMBING.contains(&name.as_str())) {
        differ(name, ours(name), theirs(name));
    }
    found
}
