//! What happens to a device, in any order.

use std::time::Duration;

use nerves_hub_link_protocol::{
    Command, Decision, FetchId, FirmwareMeta, HeaderRef, Input, Instant, Link, Now, OfferId, Output, SocketId,
};

use super::input::Source;
use super::link_world::{KEY, SECRET, World, config, start};
use super::{link_more, link_rest};

/// Things that happen in one scenario at most.
const STEPS: usize = 1000;

const STATUSES: [u16; 19] =
    [200, 206, 101, 301, 302, 307, 400, 401, 403, 404, 408, 416, 429, 500, 503, 599, 0, 65_535, 204];

const HEADERS: [(&str, &str); 8] = [
    ("Content-Length", "1000"),
    ("Content-Range", "bytes 400-999/1000"),
    ("Content-Range", "bytes 0-999/1000"),
    ("ETag", "\"a\""),
    ("Location", "https://elsewhere.example/x"),
    ("Location", "/y?z"),
    ("Retry-After", "70"),
    ("Date", "Mon, 23 Nov 2026 14:39:17 GMT"),
];

const MESSAGES: [&str; 10] = [
    r#"["1","1","device","phx_reply",{"status":"error","response":{"reason":"join crashed"}}]"#,
    r#"[null,"2","device","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
    r#"["1","1","device","phx_error",{"reason":"channel_crash"}]"#,
    r#"["1","1","device","phx_close",{}]"#,
    r#"[null,null,"device","identify",{}]"#,
    r#"[null,null,"device","extensions:get",{}]"#,
    r#"[null,null,"device","fwup_public_keys",{"keys":[]}]"#,
    r#"[null,null,"device","fwup_public_keys",{"keys":["u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds="]}]"#,
    r#"[null,null,"device","update",{"update_available":false}]"#,
    r#"[null,null,"device","reboot",{}]"#,
];

/// Puts a device through a scenario: time, sockets, messages, downloads, an applier, an application; and, if the upper
/// half of the second byte says so, a console, extensions, archives, updates that are kept, and MessagePack; and if the byte
/// behind that isn't zero, scripts, settings that change, other update tools and more. An input is read step by step; one that
/// ends inside a step ends with zeros.
///
/// # Panics
/// When a promise of the machine is broken: the same scenario has the same outcome; no deadline has passed
/// once time was told and everything fetched; outputs are bounded; one socket lives at a time, and messages
/// go to one that is up; nothing is applied that the application did not take, and nothing after new firmware
/// was written; the bytes of a file have no gap; an applier finishes what it has; no reboot comes unasked.
pub fn link(data: &[u8]) {
    assert_eq!(scenario(data), scenario(data), "a second run differs");
}

/// A device in its world.
pub(super) struct Scenario {
    pub(super) link: Link,
    pub(super) now: Now,
    pub(super) world: World,
    /// Whether more happens than updates, and messages are MessagePack.
    more: bool,
    rest: bool,
    binary: bool,
    /// Steps during which nothing is fetched from the machine.
    hoard: u8,
}

fn scenario(data: &[u8]) -> Vec<Output> {
    let mut source = Source::new(data);
    let now = start();
    let (bits, seed) = (source.byte(), source.byte());
    let (mut config, more) = (config(bits), seed >> 4);
    link_more::config(&mut config, more);
    let rest = if more > 0 { source.byte() } else { 0 };
    link_rest::config(&mut config, rest);
    let made = Link::new(config, u64::from(seed), now);
    assert!(made.is_ok(), "the configuration to begin with");
    let Ok(link) = made else { return Vec::new() };
    let (more, rest, binary) = (more > 0, rest > 0, more & 8 != 0);
    let mut scenario = Scenario { link, now, world: World::default(), more, rest, binary, hoard: 0 };
    scenario.command(Command::Connect);
    scenario.world.drain(&mut scenario.link);
    for _ in 0..STEPS {
        if source.is_empty() {
            break;
        }
        let ticked = scenario.step(&mut source);
        if scenario.hoard > 0 {
            scenario.hoard -= 1;
            continue;
        }
        scenario.world.drain(&mut scenario.link);
        if ticked {
            let deadline = scenario.link.deadline();
            let future = deadline.is_none_or(|deadline| deadline.at > scenario.now.mono);
            assert!(future, "{deadline:?} at {:?}", scenario.now.mono);
        }
    }
    scenario.world.outputs
}

impl Scenario {
    /// One thing happens. Tells whether the machine was told the time.
    fn step(&mut self, source: &mut Source<'_>) -> bool {
        let kinds = match (self.more, self.rest) {
            (_, true) => 40,
            (true, false) => 32,
            (false, false) => 24,
        };
        let step = source.byte() % kinds;
        // Whoever reports the end of something has seen the orders about it.
        if matches!(step, 8 | 14 | 15 | 18) {
            self.world.drain(&mut self.link);
        }
        match step {
            0 => {
                if let Some(deadline) = self.link.deadline() {
                    self.now.mono = self.now.mono.max(deadline.at);
                }
                self.input(Input::Tick);
                return true;
            }
            1 => {
                self.now.mono = self.now.mono + Duration::from_millis(u64::from(source.short()) * 5);
                self.input(Input::Tick);
                return true;
            }
            2 => {
                let (socket, ok) = (self.socket(source), source.byte());
                self.world.came_up(socket);
                self.input(Input::SocketUp { socket, interface: (ok & 1 == 0).then_some("eth0") });
            }
            3 => self.reply(self.world.join),
            4 => self.offer(source),
            5 => self.decide(source, Decision::Apply),
            6 => self.other_command(source),
            7 => {
                let fetch = self.fetch(source);
                let (status, headers) = (source.pick(&[200, 206]), headers(source.byte()));
                self.input(Input::FetchHead { fetch, status, headers: &headers, interface: Some("wlan0") });
            }
            8 => self.body(source),
            9 => self.stored(usize::from(source.short())),
            10 => self.stored(usize::MAX),
            11 => {
                let count = u32::from(source.byte() % 20).min(self.world.flying);
                self.world.flying -= count;
                self.input(Input::SocketSent { socket: SocketId(self.world.socket), frames: count });
            }
            12 => {
                let text = String::from_utf8_lossy(source.block());
                self.text(&text);
            }
            13 => {
                let message = source.pick(&MESSAGES);
                self.text(message);
            }
            14 => self.refused(source),
            15 => {
                let (socket, code) = (self.socket(source), 999 + u16::from(source.byte() % 16));
                self.input(Input::SocketDown { socket, code: (code > 999).then_some(code), reason: "gone" });
                self.world.went(socket);
            }
            16 => {
                let fetch = self.fetch(source);
                self.input(Input::FetchEnd { fetch });
            }
            17 => {
                let fetch = self.fetch(source);
                self.input(Input::FetchFailed { fetch, reason: "reset" });
            }
            18 => self.applier(source),
            19 => {
                let (socket, data) = (self.socket(source), source.block());
                self.input(Input::SocketBinary { socket, data });
            }
            20 => self.hoard = source.byte(),
            21 => {
                let (fetch, status) = (self.fetch(source), source.pick(&STATUSES));
                let headers = headers(source.byte());
                self.input(Input::FetchHead { fetch, status, headers: &headers, interface: None });
            }
            22 => {
                let reference = self.world.heartbeat.max(self.world.push);
                let text = format!(
                    r#"[null,"{reference}","phoenix","phx_reply",{{"status":"ok","response":{{}}}}]"#
                );
                self.text(&text);
            }
            32.. => self.rest(step, source),
            24.. => self.more(step, source),
            _ => {
                // Clocks jump, and the monotonic one may be told late.
                let back = Duration::from_millis(u64::from(source.short()));
                let mono = Instant::from_micros(
                    self.now.mono.as_micros().saturating_sub(u64::try_from(back.as_micros()).unwrap_or(0)),
                );
                self.link.handle(Now { mono, wall: None }, Input::Tick);
            }
        }
        false
    }

    pub(super) fn input(&mut self, input: Input<'_>) {
        self.link.handle(self.now, input);
    }

    pub(super) fn command(&mut self, command: Command) -> bool {
        self.link.command(self.now, command).is_ok()
    }

    pub(super) fn text(&mut self, text: &str) {
        self.world.reboot_wanted |= text.contains("reboot") || text.contains('\\');
        let socket = SocketId(self.world.socket);
        if self.binary
            && let Ok(value) = serde_json::from_str(text)
        {
            return self.input(Input::SocketBinary { socket, data: &crate::msgpack::encode(&value) });
        }
        self.input(Input::SocketText { socket, text });
    }

    fn reply(&mut self, reference: u64) {
        let text = format!(
            r#"["{reference}","{reference}","device","phx_reply",{{"status":"ok","response":{{}}}}]"#
        );
        self.text(&text);
    }

    /// The newest socket, or one before it.
    fn socket(&self, source: &mut Source<'_>) -> SocketId {
        SocketId(self.world.socket.saturating_sub(back(source)))
    }

    /// The newest request, or one before it.
    fn fetch(&self, source: &mut Source<'_>) -> FetchId {
        FetchId(self.world.fetch.saturating_sub(back(source)))
    }

    /// The newest offer, or one before it.
    fn offered(&self, source: &mut Source<'_>) -> OfferId {
        OfferId(self.world.offer.saturating_sub(back(source)))
    }

    fn offer(&mut self, source: &mut Source<'_>) {
        let (uuid, extra) = (source.byte() % 4, source.byte());
        let size = source.pick(&["1000", "null", "7", "0", "18446744073709551615", "-1", "\"1000\""]);
        let url = source
            .pick(&["https://files.example/1.fw?signature=", "http://files.example:81/1.fw?signature="]);
        let checksum = if extra & 1 == 1 { format!(r#","checksum":"{KEY}""#) } else { String::new() };
        let keys = if extra & 2 == 2 { ",\"update_available\":true" } else { "" };
        let text = format!(
            r#"[null,null,"device","update",{{"firmware_url":"{url}{SECRET}","firmware_meta":{{"uuid":"{uuid}"}},"size":{size}{checksum}{keys}}}]"#
        );
        self.text(&text);
    }

    fn decide(&mut self, source: &mut Source<'_>, decision: Decision) {
        let offer = self.offered(source);
        let apply = decision == Decision::Apply;
        if self.command(Command::Decide { offer, decision }) && apply {
            self.world.took(offer);
        }
    }

    fn other_command(&mut self, source: &mut Source<'_>) {
        let delay = Duration::from_secs(u64::from(source.byte()) * 10);
        match source.byte() % 6 {
            0 => drop(self.command(Command::Connect)),
            1 => drop(self.command(Command::Reconnect)),
            2 => drop(self.command(Command::FirmwareValidated)),
            3 => drop(self.command(Command::Disconnect)),
            4 => self.decide(source, Decision::Ignore { reason: "no ".repeat(200) }),
            _ => self.decide(source, Decision::Reschedule { delay, reason: Some("later".to_owned()) }),
        }
    }

    fn body(&mut self, source: &mut Source<'_>) {
        let fetch = self.fetch(source);
        let length = usize::from(source.short() % 1100);
        let keep = self.link.body(self.now, fetch, &vec![7; length]);
        assert!(keep.range.start <= keep.range.end && keep.range.end <= length, "{keep:?} of {length}");
        // What was ordered before comes first.
        if !keep.range.is_empty() {
            self.world.drain(&mut self.link);
        }
        if self.goes_to_store(fetch) {
            self.world.store_kept(fetch, keep.range.len());
        } else {
            self.world.keep(keep.offset, keep.range.len());
        }
    }

    fn stored(&mut self, most: usize) {
        while let Some((fetch, length)) = self.world.in_store.pop_front() {
            self.link.stored(self.now, fetch, length);
        }
        let waiting = self.world.kept - self.world.stored;
        let length = usize::try_from(waiting).unwrap_or(usize::MAX).min(most);
        self.world.stored += length as u64;
        self.link.stored(self.now, FetchId(self.world.newest), length);
    }

    fn refused(&mut self, source: &mut Source<'_>) {
        let (socket, status) = (self.socket(source), source.pick(&STATUSES));
        let headers = headers(source.byte());
        let body = source.block();
        self.input(Input::SocketRefused { socket, status, headers: &headers, body });
        // No answer to an upgrade comes after it succeeded.
        if !self.world.is_up(socket) {
            self.world.went(socket);
        }
    }

    fn applier(&mut self, source: &mut Source<'_>) {
        let offer = self.offered(source);
        let percent = source.byte();
        match source.byte() % 5 {
            0 => {
                self.input(Input::ApplyDone { offer });
                self.world.applier_ended(offer, true);
            }
            failure @ (1 | 3 | 4) => {
                let reason = &*"\u{e4}\u{f6}".repeat(usize::from(percent));
                self.input(match failure {
                    1 => Input::ApplyFailed { offer, reason },
                    3 => Input::FileRefused { offer, reason },
                    _ => Input::DeltaFailed { offer, reason },
                });
                self.world.applier_ended(offer, false);
            }
            _ if percent > 100 => {
                let firmware = FirmwareMeta { uuid: (percent % 4).to_string(), ..FirmwareMeta::default() };
                self.world.read_metadata(offer, &firmware.uuid);
                self.input(Input::FirmwareSigned { offer, firmware: &firmware });
            }
            _ => self.input(Input::ApplyProgress { offer, percent }),
        }
    }
}

/// How far back from the newest number: mostly not at all.
fn back(source: &mut Source<'_>) -> u64 {
    match source.byte() {
        250.. => 2,
        230.. => 1,
        _ => 0,
    }
}

/// Headers picked by the bits of a number.
fn headers(bits: u8) -> Vec<HeaderRef<'static>> {
    HEADERS.iter().zip(0_u32..).filter(|(_, at)| bits >> at & 1 == 1).map(|(header, _)| *header).collect()
}

#[cfg(test)]
mod tests {
    use nerves_hub_link_protocol::Event;

    use super::*;

    /// The seeds must lead into the depths of the machine, or fuzzing stays at its surface.
    #[test]
    fn the_seeds_lead_to_a_reboot_into_new_firmware() {
        let seed = |name: &str| {
            let path = format!("{}/../fuzz/seeds/link/{name}", env!("CARGO_MANIFEST_DIR"));
            scenario(&std::fs::read(path).unwrap())
        };
        for name in ["updated", "resumed"] {
            let outputs = seed(name);
            let completed = |output: &Output| matches!(output, Output::Event(Event::UpdateCompleted { .. }));
            assert!(outputs.iter().any(completed), "{name}: {outputs:#?}");
            assert!(outputs.iter().any(|output| matches!(output, Output::Reboot { .. })), "{name}");
        }
        let again =
            |output: &Output| matches!(output, Output::Event(Event::DownloadStarted { offset: 400, .. }));
        assert!(seed("resumed").iter().any(again));
        let tells = |name: &str, what: &str| {
            let outputs = seed(name);
            assert!(
                outputs.iter().any(|output| format!("{output:?}").contains(what)),
                "{name}: {outputs:#?}"
            );
        };
        tells("packed", "UpdateCompleted");
        tells("visited", "Shell(Wanted");
        tells("visited", "health:report");
        tells("kept", "UpdateCompleted");
        tells("archived", "VerifyArchive");
        tells("archived", "Ready");
        for what in [
            "ScriptRequested",
            "scripts/run",
            "UpdateAvailability",
            "UpdateRejected",
            "UpdateModeChanged",
            "Upload(Finished",
            "logging:send",
            "lift:moved",
            "UpdateHandedOver",
            "Reboot",
        ] {
            tells("asked", what);
        }
        tells("set_anew", "Probe(");
        let dials =
            |outputs: &[Output]| outputs.iter().filter(|output| matches!(output, Output::Dial(_))).count();
        assert_eq!((dials(&seed("redirected")), dials(&seed("kicked"))), (3, 4));
    }
}
