//! The life of the WebSocket: dialling, redirects, refusals, back-off, kicks by a twin.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::auth::clock::{Clock, Learned, Seen, Source};
use super::auth::shared_secret;
use super::payload::interface_name;
use super::twin::{Suspicion, Twin};
use super::{Context, explain, names, origin, redirect};
use crate::config::{Auth, Config};
use crate::event::Event;
use crate::http;
use crate::http::url::Url;
use crate::ids::{ProbeId, SocketId};
use crate::input::HeaderRef;
use crate::limits::{
    DIAL_GRACE, MAX_TEXT_CHARS, NETWORK_REMINDER, NETWORK_REMINDER_FIRST, PROBE_INTERVAL, PROBE_TIMEOUT,
    STABLE_CONNECTION, UNDRAINED_PAUSE,
};
use crate::output::{Dial, Output, Probe};
use crate::phoenix::backoff;
use crate::refusal::Refusal;
use crate::rng::Rng;
use crate::text::cut;
use crate::time::{Instant, UnixTime};
use crate::timer::{Earliest, Timer};

/// The close codes of the "disconnect" broadcast, which also ends a connection whose device connected again: of newer
/// and of older servers (device-protocol §12).
const KICKED: [u16; 2] = [1001, 1000];

/// The socket and everything that decides about the next one.
pub(crate) struct Connection {
    state: State,
    /// The configured address, where every attempt begins.
    home: Url,
    /// The application's own delays; none means those of the configuration.
    delays: Option<Vec<Duration>>,
    network: Network,
    /// Attempts or connections that failed in a row.
    failures: u32,
    /// Why there is no connection, if there is none.
    away: String,
    clock: Box<Clock>,
    twin: Twin,
    rng: Rng,
}

/// What is known about the network.
#[derive(PartialEq, Eq)]
enum Network {
    /// Nothing: it is to be looked for before the first connection.
    Unknown,
    /// It hasn't been there since then; `said` times the application was told.
    Missing { since: Instant, said: u32 },
    /// It was there once; from then on the back-off rules.
    Found,
}

enum State {
    /// Told to stay offline. Left by `connect`.
    Offline,
    /// Left by the timer or `reconnect`. The wait began at `since` and is `at_least` that long.
    Waiting { until: Instant, since: Instant, at_least: Duration },
    /// Looking for the network. Left by the answer, the timer or `reconnect`.
    Probing { probe: ProbeId, give_up: Instant },
    /// Between two looks. Left by the timer or `reconnect`.
    Resting { until: Instant },
    /// Left by up, refused, down or the timer.
    Dialing { socket: SocketId, give_up: Instant, url: Url, redirects: u8, signed: Option<UnixTime> },
    /// Left by down or a dead heartbeat.
    Up {
        socket: SocketId,
        since: Instant,
        joined_at: Option<Instant>,
        interface: Option<String>,
        /// Whether TLS proved who the server is, all the way from the configured address.
        encrypted: bool,
    },
}

impl Connection {
    pub(crate) fn new(home: Url, seed: u64) -> Self {
        Self {
            state: State::Offline,
            home,
            delays: None,
            network: Network::Unknown,
            failures: 0,
            away: String::from("not connected yet"),
            clock: Box::default(),
            twin: Twin::default(),
            rng: Rng::new(seed),
        }
    }

    pub(crate) const fn is_offline(&self) -> bool {
        matches!(self.state, State::Offline)
    }

    pub(crate) const fn is_dialing(&self) -> bool {
        matches!(self.state, State::Dialing { .. })
    }

    pub(crate) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Returns whether TLS proved who the server is that is connected.
    pub(crate) const fn is_encrypted(&self) -> bool {
        matches!(self.state, State::Up { encrypted: true, .. })
    }

    pub(crate) const fn is_joined(&self) -> bool {
        matches!(self.state, State::Up { joined_at: Some(_), .. })
    }

    /// Returns the socket dialled or up.
    pub(crate) const fn socket(&self) -> Option<SocketId> {
        match self.state {
            State::Dialing { socket, .. } | State::Up { socket, .. } => Some(socket),
            State::Offline | State::Waiting { .. } | State::Probing { .. } | State::Resting { .. } => None,
        }
    }

    /// Returns the socket that is up.
    pub(crate) const fn open_socket(&self) -> Option<SocketId> {
        match self.state {
            State::Up { socket, .. } => Some(socket),
            _ => None,
        }
    }

    /// Returns why there is no connection, if there is none.
    pub(crate) fn away(&self) -> Option<&str> {
        (!self.is_up()).then_some(self.away.as_str())
    }

    /// Returns whether another device seems to have the same identity.
    pub(crate) const fn has_twin(&self) -> bool {
        self.twin.suspected()
    }

    /// Returns whether credentials may be sent to an address.
    pub(crate) fn trusts(&self, config: &Config, url: &Url) -> bool {
        origin::is_trusted(&self.home, config, url)
    }

    /// Returns whether an address has the configured host.
    pub(crate) fn has_host(&self, url: &Url) -> bool {
        self.home.same_host(url)
    }

    /// The next attempt begins at another address.
    pub(crate) fn set_home(&mut self, home: Url) {
        self.home = home;
    }

    /// Goes online, if offline.
    pub(crate) fn connect(&mut self, cx: &mut Context<'_>) {
        if self.is_offline() {
            if !self.home.is_tls() {
                cx.out.event(Event::NotEncrypted { trusted: cx.config.insecure_plain_hub });
            }
            self.begin(cx);
        }
    }

    /// Goes offline.
    pub(crate) fn disconnect(&mut self, cx: &mut Context<'_>) {
        if self.is_offline() {
            return;
        }
        self.drop_socket(cx, "the device goes offline");
        self.state = State::Offline;
        self.failures = 0;
        let reason = String::from("disconnected on request");
        self.away.clone_from(&reason);
        cx.out.event(Event::Disconnected { reason, retry_at: None, retry_in: None });
    }

    /// A look for the network ended, without or with an error. Returns whether it was the one waited for.
    pub(crate) fn probed(&mut self, cx: &mut Context<'_>, id: ProbeId, error: Option<&str>) -> bool {
        match self.state {
            State::Probing { probe, .. } if probe == id => {}
            _ => return false,
        }
        match error {
            None => self.dial_home(cx),
            Some(reason) => self.rest(cx, reason),
        }
        true
    }

    /// Drops what there is and dials at once.
    pub(crate) fn reconnect(&mut self, cx: &mut Context<'_>) {
        if self.drop_socket(cx, "the device reconnects") {
            let reason = String::from("reconnecting on request");
            self.away.clone_from(&reason);
            let (retry_at, retry_in) = (Some(cx.now), Some(Duration::ZERO));
            cx.out.event(Event::Disconnected { reason, retry_at, retry_in });
        }
        self.dial_home(cx);
    }

    /// The application has its own delays, from the present wait on; none means those of the configuration.
    pub(crate) fn reconnect_after(&mut self, cx: &Context<'_>, delays: Vec<Duration>) {
        self.delays = (!delays.is_empty()).then_some(delays);
        if let State::Waiting { since, at_least, .. } = self.state {
            self.wait_since(cx, since, at_least);
        }
    }

    /// The upgrade succeeded. Returns whether it was the one waited for.
    pub(crate) fn up(&mut self, cx: &mut Context<'_>, id: SocketId, interface: Option<&str>) -> bool {
        let (encrypted, signed) = match &self.state {
            State::Dialing { socket, url, signed, .. } if *socket == id => {
                // A redirect without TLS may lead anywhere.
                (self.home.is_tls() && url.is_tls(), *signed)
            }
            _ => return false,
        };
        let interface = interface_name(cx.config, interface);
        if let Some(signed) = signed.filter(|_| encrypted || cx.config.insecure_plain_hub) {
            self.clock.accepted(signed, cx.now);
        }
        self.state = State::Up { socket: id, since: cx.now, joined_at: None, interface, encrypted };
        self.away = String::new();
        cx.out.event(Event::Connected);
        true
    }

    /// The device channel is joined. Returns the interface to report.
    pub(crate) fn joined(&mut self, now: Instant) -> Option<String> {
        self.failures = 0;
        match &mut self.state {
            State::Up { joined_at, interface, .. } => {
                joined_at.get_or_insert(now);
                interface.clone()
            }
            _ => None,
        }
    }

    /// The interface is another than the adapter said. Returns whether there is a connection and this is news.
    pub(crate) fn set_interface(&mut self, name: Option<String>) -> bool {
        match &mut self.state {
            State::Up { interface, .. } if *interface != name => {
                *interface = name;
                true
            }
            _ => false,
        }
    }

    /// The server answered the upgrade with a refusal. Returns whether it was the one waited for.
    pub(crate) fn refused(
        &mut self,
        cx: &mut Context<'_>,
        id: SocketId,
        status: u16,
        headers: &[HeaderRef<'_>],
        body: &[u8],
    ) -> bool {
        let (url, redirects, signed) = match &self.state {
            State::Dialing { socket, url, redirects, signed, .. } if *socket == id => {
                (url.clone(), *redirects, *signed)
            }
            _ => return false,
        };
        let mut explanation = explain::refused(status, headers, body, &cx.config.auth);
        let mut kind = explain::kind(status, headers, body, redirects > 0);
        if matches!(status, 301 | 302 | 303 | 307 | 308) {
            let followed = if redirects < cx.config.max_redirects {
                redirect::follow(&url, http::header(headers, "location"), cx)
            } else {
                Err(format!("there were {redirects} redirects in a row already"))
            };
            match followed {
                Ok(next) => {
                    self.dial(cx, next, redirects.saturating_add(1));
                    return true;
                }
                Err(why) => explanation = format!("{explanation} Not followed: {why}."),
            }
        }
        match self.learn(cx, status, headers, signed, &url) {
            Learned::Nothing => {}
            Learned::Offset(offset) => {
                cx.out.event(Event::ClockCorrected { offset_seconds: offset });
                if status == 401 {
                    explanation = String::from(explain::CLOCK);
                    kind = Refusal::Clock;
                }
            }
            Learned::Doubt(doubt) => explanation = format!("{explanation} {}", explain::doubt(doubt)),
        }
        if status == 403 && cx.wire.fall_back() {
            explanation.push_str(" It may not speak MessagePack; from now on the device speaks JSON.");
            kind = Refusal::Version;
        }
        if redirects > 0 {
            explanation = format!("{explanation} A redirect led to {}.", url.authority());
            if matches!(status, 401 | 403) && !origin::is_trusted(&self.home, cx.config, &url) {
                explanation.push_str(explain::FOREIGN);
            }
        }
        let retry_after = http::retry_after(headers).filter(|_| matches!(status, 429 | 503));
        let short = format!("the server refused the connection with HTTP {status}");
        let reason = format!("{short}: {explanation}");
        let until = self.fail(cx, retry_after);
        self.away = short;
        let retry_in = until.saturating_since(cx.now);
        cx.out.event(Event::Refused { status, kind, retry_after, explanation, retry_in });
        cx.out.event(Event::Disconnected { reason, retry_at: Some(until), retry_in: Some(retry_in) });
        true
    }

    /// The connection ended. Returns whether it was the present one.
    pub(crate) fn down(
        &mut self,
        cx: &mut Context<'_>,
        id: SocketId,
        code: Option<u16>,
        reason: &str,
    ) -> bool {
        if self.socket() != Some(id) {
            return false;
        }
        let kicked = self.kicked(cx, code);
        let reason = match self.state {
            State::Dialing { .. } if reason.is_empty() => String::from("the server could not be reached"),
            State::Dialing { .. } => self.on_the_way(cut(reason, MAX_TEXT_CHARS)),
            _ => explain::closed(code, reason),
        };
        self.wait(cx, reason, kicked);
        true
    }

    /// Closes the connection for a reason of ours and tries again later.
    pub(crate) fn give_up(&mut self, cx: &mut Context<'_>, reason: &str) {
        let explained = self.on_the_way(String::from(reason));
        if self.drop_socket(cx, reason) {
            self.wait(cx, explained, None);
        }
    }

    /// Names the redirect, if there was one: the address that failed is none that anybody configured.
    fn on_the_way(&self, reason: String) -> String {
        match &self.state {
            State::Dialing { redirects: 1.., url, .. } => {
                let place = url.authority();
                format!(
                    "the server redirected the device to {place}, which failed: {reason}; check the host and its path"
                )
            }
            _ => reason,
        }
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        match &mut self.state {
            State::Waiting { until, .. } if *until <= cx.now => {
                if cx.out.has_room() {
                    self.dial_home(cx);
                } else {
                    *until = cx.now + UNDRAINED_PAUSE;
                }
            }
            State::Resting { until } if *until <= cx.now => {
                if cx.out.has_room() {
                    self.probe(cx);
                } else {
                    *until = cx.now + UNDRAINED_PAUSE;
                }
            }
            State::Probing { give_up, .. } if *give_up <= cx.now => {
                self.rest(cx, "looking for the server was never answered");
            }
            State::Dialing { give_up, .. } if *give_up <= cx.now => {
                self.give_up(cx, "the attempt to connect was never answered");
            }
            State::Up { since, joined_at, .. } => {
                if cx.now >= *since + STABLE_CONNECTION {
                    self.failures = 0;
                }
                if let Some(joined) = *joined_at {
                    self.twin.tick(cx.now, joined);
                }
            }
            _ => {}
        }
    }

    /// Adds the timers to a deadline.
    pub(crate) fn deadlines(&self, deadline: &mut Earliest) {
        match self.state {
            State::Waiting { until, .. } => deadline.at(Timer::Reconnect, until),
            State::Probing { give_up: at, .. } | State::Resting { until: at } => {
                deadline.at(Timer::Probe, at);
            }
            State::Dialing { give_up, .. } => deadline.at(Timer::Dial, give_up),
            State::Up { joined_at: Some(joined), .. } => {
                if let Some(at) = self.twin.peace(joined) {
                    deadline.at(Timer::Duplicate, at);
                }
            }
            State::Offline | State::Up { joined_at: None, .. } => {}
        }
    }

    /// Begins to connect, once the network is there.
    fn begin(&mut self, cx: &mut Context<'_>) {
        if cx.config.wait_for_network && self.network != Network::Found {
            self.probe(cx);
        } else {
            self.dial_home(cx);
        }
    }

    fn probe(&mut self, cx: &mut Context<'_>) {
        let (probe, timeout) = (cx.ids.probe(), PROBE_TIMEOUT);
        let url = self.home.to_websocket();
        cx.out.push(Output::Probe(Probe { probe, url, timeout }));
        self.state = State::Probing { probe, give_up: cx.now + timeout.saturating_add(DIAL_GRACE) };
    }

    fn rest(&mut self, cx: &mut Context<'_>, reason: &str) {
        self.state = State::Resting { until: cx.now + PROBE_INTERVAL };
        let (since, said) = match self.network {
            Network::Missing { since, said } => (since, said),
            Network::Unknown | Network::Found => (cx.now, 0),
        };
        let due = match said {
            0 => Duration::ZERO,
            hours => NETWORK_REMINDER_FIRST.saturating_add(NETWORK_REMINDER.saturating_mul(hours - 1)),
        };
        let waited = cx.now.saturating_since(since);
        let told = waited >= due;
        self.network = Network::Missing { since, said: if told { said.saturating_add(1) } else { said } };
        let reason = cut(reason, MAX_TEXT_CHARS);
        self.away.clone_from(&reason);
        if told {
            cx.out.event(Event::WaitingForNetwork { reason, waited });
        }
    }

    fn dial_home(&mut self, cx: &mut Context<'_>) {
        self.network = Network::Found;
        let home = self.home.clone().with_query(names::VSN, cx.wire.version());
        self.dial(cx, home, 0);
    }

    fn dial(&mut self, cx: &mut Context<'_>, url: Url, redirects: u8) {
        let mut headers = Vec::new();
        let mut signed = None;
        // Wherever a redirect leads: a signature serves whoever gets it.
        if origin::is_trusted(&self.home, cx.config, &url) {
            if let Auth::SharedSecret(secret) = &cx.config.auth {
                // Signed at the last moment: a signature is good for 90 seconds only.
                let time = self.clock.time(cx.now, cx.wall);
                match shared_secret::headers(secret, time) {
                    Ok(proof) => (headers, signed) = (proof, Some(time)),
                    // The server refuses the device, which tries again.
                    Err(fault) => fault.report(cx.out),
                }
            }
            headers.extend(cx.config.headers.iter().cloned());
        }
        let socket = cx.ids.socket();
        let timeout = cx.config.connect_timeout;
        cx.out.event(Event::Connecting { attempt: self.failures });
        cx.out.push(Output::Dial(Dial { socket, url: url.to_websocket(), headers, timeout }));
        let give_up = cx.now + timeout.saturating_add(DIAL_GRACE);
        self.state = State::Dialing { socket, give_up, url, redirects, signed };
    }

    /// Hangs up, if there is something to hang up.
    fn drop_socket(&mut self, cx: &mut Context<'_>, reason: &str) -> bool {
        let Some(socket) = self.socket() else { return false };
        cx.out.push(Output::HangUp { socket, code: 1000, reason: String::from(reason) });
        cx.wire.closed();
        true
    }

    /// Waits for the next attempt: the back-off, or longer if asked to.
    fn wait(&mut self, cx: &mut Context<'_>, reason: String, at_least: Option<Duration>) {
        let until = self.fail(cx, at_least);
        self.away.clone_from(&reason);
        let retry_in = Some(until.saturating_since(cx.now));
        cx.out.event(Event::Disconnected { reason, retry_at: Some(until), retry_in });
    }

    /// Counts a failure and waits. Returns when the next attempt starts.
    fn fail(&mut self, cx: &mut Context<'_>, at_least: Option<Duration>) -> Instant {
        if let State::Up { since, .. } = self.state
            && cx.now >= since + STABLE_CONNECTION
        {
            self.failures = 0;
        }
        cx.wire.closed();
        self.failures = self.failures.saturating_add(1);
        // Without a wish of the server's, the back-off alone decides.
        self.wait_since(cx, cx.now, at_least.unwrap_or_default())
    }

    /// Sets the wait after the last failure. Returns its end.
    fn wait_since(&mut self, cx: &Context<'_>, since: Instant, at_least: Duration) -> Instant {
        let before = self.failures.saturating_sub(1);
        let listed = self.delays.as_ref().unwrap_or(&cx.config.reconnect_after);
        let delay = match backoff::listed(listed, before) {
            Some(delay) => backoff::lengthen(delay, cx.config.backoff.jitter, &mut self.rng),
            None => backoff::delay(&cx.config.backoff, before, &mut self.rng),
        };
        let until = since + delay.max(at_least);
        self.state = State::Waiting { until, since, at_least };
        until
    }

    /// Returns the longest back-off if another device keeps taking this one's place.
    fn kicked(&mut self, cx: &mut Context<'_>, code: Option<u16>) -> Option<Duration> {
        let State::Up { joined_at: Some(joined), .. } = self.state else { return None };
        let kicked = code.is_some_and(|code| KICKED.contains(&code));
        match self.twin.closed(cx.now, joined, kicked) {
            Suspicion::None => return None,
            Suspicion::New => cx.out.event(Event::DuplicateIdentitySuspected),
            Suspicion::Old => {}
        }
        let wait = self.twin.wait(cx.config.backoff.max);
        Some(backoff::lengthen(wait, cx.config.backoff.jitter, &mut self.rng))
    }

    fn learn(
        &mut self,
        cx: &Context<'_>,
        status: u16,
        headers: &[HeaderRef<'_>],
        signed: Option<UnixTime>,
        url: &Url,
    ) -> Learned {
        // Only a 401 may be the clock's fault; a device without clock takes any date it can get.
        if status != 401 && cx.wall.is_some() {
            return Learned::Nothing;
        }
        let (Some(date), Some(signed)) = (http::date(headers), signed) else { return Learned::Nothing };
        // Whoever else answers may want a signature for a time to come.
        let known = self.home.is_tls() && url.is_tls() && url.authority() == self.home.authority();
        let source = if known || cx.config.insecure_plain_hub { Source::Known } else { Source::Unknown };
        self.clock.refused(
            date,
            signed,
            Seen { now: cx.now, wall: cx.wall, source, horizon: cx.config.clock_horizon },
        )
    }
}
