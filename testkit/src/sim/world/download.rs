//! The file server, and downloads on their way.

use nerves_hub_link_protocol::{Fetch, FetchId, HeaderRef, Input, Sink};

use super::{CHUNK, World};
use crate::sim::device::{Device, Fetching};
use crate::sim::fault::Fault;
use crate::sim::files::Files;
use crate::sim::firmware::{ARCHIVES, FILES, FirmwareId, URL_SECRET};
use crate::sim::mutation::Mutation;
use crate::sim::net::Blocked;
use crate::sim::policy::has_speed;
use crate::sim::queue::DeviceDue;
use crate::sim::scenario::{SECOND, Variant};
use crate::sim::violation::Broken;

/// Bytes that may wait for the applier before the next are read.
const WAITING: u64 = 64 * 1024;
const STATUSES: [u16; 8] = [503, 404, 403, 500, 429, 416, 502, 410];

impl World {
    /// The machine wants firmware.
    pub(super) fn fetch(&mut self, device: &mut Device, fetch: &Fetch) -> Result<(), Broken> {
        self.stats.fetches += 1;
        let url = fetch.url.expose();
        let Asked { firmware, range, tag } = Asked::read(url, &fetch.headers);
        let (now, id) = (self.now, fetch.fetch);
        let fetching = Fetching {
            fetch: id,
            into: fetch.into,
            firmware,
            moved: !url.starts_with(FILES),
            range,
            tag,
            offset: 0,
            end: 0,
            short: false,
            changed: false,
            tampered: None,
            bytes_per_second: device.rng.within(20_000, 2_000_000),
            waiting: false,
            not_before: 0,
        };
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        life.fetches.push(fetching);
        let Some(net) = self.nets.get_mut(device.number as usize) else { return Ok(()) };
        let delay = net.delay(now, &mut device.rng);
        let timeout = u64::try_from(fetch.timeout.as_micros()).unwrap_or(u64::MAX);
        let failed = |reason| DeviceDue::FetchFailed { fetch: id, reason };
        let (after, what) = match net.blocked(now, delay) {
            Some(Blocked::Failed { after, reason }) => (after, failed(reason)),
            Some(Blocked::Hangs) => (timeout, failed("connecting took too long")),
            None if self.scenario.has(Variant::Bytes) => return self.fetch_line(device, fetch, 2 * delay),
            None => (4 * delay, DeviceDue::Head(id)),
        };
        self.later(device, after, what);
        Ok(())
    }

    /// The adapter tells of a request that broke.
    pub(super) fn fetch_failed(&mut self, device: &mut Device, fetch: FetchId, reason: &str) {
        let leak = self.mutated(Mutation::LeakAddress);
        let Some(life) = device.link.as_mut() else { return };
        let Some(at) = life.fetches.iter().position(|fetching| fetching.fetch == fetch) else { return };
        let fetching = life.fetches.remove(at);
        let leaked = format!(
            "{FILES}{}?signature={}: {reason}",
            fetching.firmware,
            super::super::firmware::URL_SECRET
        );
        let reason = if leak { &leaked } else { reason };
        life.input(self.now, device.wall, Input::FetchFailed { fetch, reason });
    }

    /// The server's answer to a request arrives.
    pub(super) fn head(&mut self, device: &mut Device, fetch: FetchId) {
        let Some(Answered { status, headers, body }) = self.answered(device, fetch) else { return };
        let interface = self.scenario.has(Variant::Interface).then_some("eth0");
        let borrowed: Vec<HeaderRef<'_>> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let Some(life) = device.link.as_mut() else { return };
        if body == Content::Nothing {
            life.fetches.retain(|fetching| fetching.fetch != fetch);
        }
        life.input(self.now, device.wall, Input::FetchHead { fetch, status, headers: &borrowed, interface });
        if body != Content::Nothing {
            self.later(device, 1000, DeviceDue::Body(fetch));
        }
    }

    /// What the server answers.
    pub(super) fn answered(&mut self, device: &mut Device, fetch: FetchId) -> Option<Answered> {
        let unix = self.unix();
        let (tags, chunked) = (self.scenario.has(Variant::Tag), self.scenario.has(Variant::Chunked));
        let asked =
            device.link.as_mut().and_then(|life| life.fetching(fetch).map(|fetching| fetching.firmware));
        let size = asked.and_then(|id| self.files.get(id)).map(|file| file.size);
        let (armed, rng) = (&mut device.armed, &mut device.rng);
        let fetching = device.link.as_mut()?.fetching(fetch)?;
        let size = size.unwrap_or(0);
        let mut headers = vec![("Date".to_owned(), crate::date::http_date(unix))];
        let mut status = 200;
        let mut body = Content::Nothing;
        if armed.strikes(Fault::FileError) {
            status =
                usize::try_from(armed.how % 8).ok().and_then(|at| STATUSES.get(at)).copied().unwrap_or(503);
            if armed.how / 8 % 2 == 0 {
                headers.push(("Retry-After".to_owned(), (armed.how / 16 % 600).to_string()));
            }
        } else if fetching.range.is_some_and(|from| from >= size) && !armed.strikes(Fault::RangeIgnored) {
            status = 416;
            headers.push(("Content-Range".to_owned(), format!("bytes */{size}")));
        } else if !fetching.moved && armed.strikes(Fault::FileRedirect) {
            status = 307;
            let place = ["https://cdn.sim", "", "//cdn.sim", "HTTPS://CDN.sim:443"];
            let place = place.get((armed.how / 4 % 4) as usize).copied().unwrap_or_default();
            let location = format!("{place}/fw/{}?signature={URL_SECRET}", fetching.firmware);
            headers.push(("Location".to_owned(), location));
        } else {
            fetching.changed = fetching.range.is_some() && armed.strikes(Fault::FileChanged);
            let tag = format!("\"{}-{}\"", fetching.firmware, u8::from(fetching.changed));
            let ignored = fetching.range.is_some() && armed.strikes(Fault::RangeIgnored);
            let same = fetching.tag.as_ref().is_none_or(|ours| *ours == tag);
            let from = fetching.range.filter(|from| !ignored && same && *from < size);
            fetching.offset = from.unwrap_or(0);
            fetching.end = size;
            if let Some(from) = from {
                status = 206;
                headers.push(("Content-Range".to_owned(), format!("bytes {from}-{}/{size}", size - 1)));
            }
            if tags {
                headers.push(("ETag".to_owned(), tag));
            }
            let left = size - fetching.offset;
            body = Content::File { length: (!chunked).then_some(left) };
            if let Content::File { length: Some(length) } = body
                && !self.scenario.has(Variant::Bytes)
            {
                headers.push(("Content-Length".to_owned(), length.to_string()));
            }
            if armed.strikes(Fault::ShortBody) {
                fetching.short = true;
                fetching.end = fetching.offset + rng.below(left);
            }
            if armed.strikes(Fault::Tampered) {
                fetching.tampered = Some(fetching.offset + rng.below(left));
            }
            if armed.strikes(Fault::SlowBody) {
                fetching.bytes_per_second = 500 + u64::from(armed.how % 8000);
            }
        }
        Some(Answered { status, headers, body })
    }

    /// Bytes arrive, or the end.
    pub(super) fn body(&mut self, device: &mut Device, fetch: FetchId) -> Result<(), Broken> {
        let silent = self.nets.get(device.number as usize).filter(|net| net.is_silent(self.now));
        if let Some(net) = silent {
            let until = net.silent_until() - self.now + 200_000;
            self.later(device, until, DeviceDue::Body(fetch));
            return Ok(());
        }
        if self.scenario.has(Variant::Bytes) {
            self.serve_body(device, fetch);
            return Ok(());
        }
        let now = self.now;
        if waits(device, fetch) {
            return Ok(());
        }
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let Some(fetching) = life.fetching(fetch) else { return Ok(()) };
        let left = fetching.end.saturating_sub(fetching.offset);
        if left == 0 {
            let (short, odd) = (fetching.short, fetching.end % 2 == 1);
            if short && odd {
                self.fetch_failed(device, fetch, "connection reset by peer");
            } else {
                life.fetches.retain(|fetching| fetching.fetch != fetch);
                life.input(now, device.wall, Input::FetchEnd { fetch });
            }
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let Piece { length, after, published } = produce(&mut self.files, fetching, &mut buffer);
        let result = self.take_body(device, fetch, buffer.get(..length).unwrap_or_default(), published);
        self.buffer = buffer;
        // What comes too fast waits.
        let hurried = self.mutated(Mutation::IgnorePause);
        let fetching = device.link.as_mut().filter(|_| !hurried).and_then(|life| life.fetching(fetch));
        let pause = fetching.map_or(0, |fetching| fetching.not_before.saturating_sub(now));
        self.later(device, after.max(pause), DeviceDue::Body(fetch));
        result
    }

    /// Bytes of a body reach the machine, and what it wants of them the disk. `published` says of which file they are
    /// and from where, if they are as published.
    pub(super) fn take_body(
        &mut self,
        device: &mut Device,
        fetch: FetchId,
        chunk: &[u8],
        published: Option<(FirmwareId, u64)>,
    ) -> Result<(), Broken> {
        let (now, length) = (self.now, chunk.len());
        let forget = self.mutated(Mutation::ForgetRange);
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        let clock = life.clock(now, device.wall);
        let Some(fetching) = life.fetching(fetch) else { return Ok(()) };
        let (into, id) = (fetching.into, fetching.firmware);
        self.stats.received += length as u64;
        if let Some(fetched) = device.fetched.get_mut(usize::from(id >= ARCHIVES)) {
            *fetched += length as u64;
        }
        if has_speed(&self.scenario, device.number) {
            device.bucket.came(now, device.policy, length as u64)?;
        }
        let keep = life.link.body(clock, fetch, chunk);
        let pause = keep.not_before.map_or(0, |at| life.origin + at.as_micros());
        if let Some(fetching) = life.fetching(fetch) {
            fetching.not_before = pause;
        }
        let kept = keep.range.len() as u64;
        if let Sink::Store(_) = into {
            if kept > 0 {
                life.watch.stored_some();
            }
        } else {
            life.watch.keep(keep.offset, kept)?;
            life.model.kept(kept);
        }
        self.trace.note_number(now, device.number, "bytes kept", kept);
        let piece = if forget && kept > 0 { 0..length } else { keep.range };
        // What was ordered before comes first.
        let offset = keep.offset;
        let published = published.map(|(id, begin)| (id, begin + piece.start as u64));
        self.drain(device)?;
        match chunk.get(piece) {
            Some(piece) if !piece.is_empty() => match into {
                Sink::Store(store) => self.keep_piece(device, fetch, store, offset, piece, published),
                Sink::Applier(_) => self.apply_piece(device, fetch, piece, kept),
            },
            _ => Ok(()),
        }
    }
}

/// Whether the adapter has to wait for the applier before it reads on.
pub(super) fn waits(device: &mut Device, fetch: FetchId) -> bool {
    let Some(life) = device.link.as_mut() else { return false };
    let waiting = life.applier.as_ref().is_some_and(|applier| applier.outstanding > WAITING);
    if let Some(fetching) = life.fetching(fetch) {
        fetching.waiting = waiting;
    }
    waiting
}

/// What a request asks for.
pub(super) struct Asked {
    pub firmware: FirmwareId,
    pub range: Option<u64>,
    pub tag: Option<String>,
}

impl Asked {
    /// Reads it off an address and headers.
    pub fn read(url: &str, headers: &[(String, String)]) -> Self {
        let header = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                .map(|(_, value)| value.as_str())
        };
        let range =
            header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let firmware = url.split_once("/fw/").and_then(|(_, rest)| rest.split('?').next()?.parse().ok());
        Self { firmware: firmware.unwrap_or_default(), range, tag: header("if-range").map(str::to_owned) }
    }
}

/// An answer of the file server.
pub(super) struct Answered {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Content,
}

/// What follows the head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// No file.
    Nothing,
    /// A file, or the rest of one, of which the head tells the length or not.
    File { length: Option<u64> },
}

/// Bytes of a file on their way.
pub(super) struct Piece {
    pub length: usize,
    /// How long they take.
    pub after: u64,
    /// Of which file they are, and from where, if they are as published.
    pub published: Option<(FirmwareId, u64)>,
}

/// Makes the next bytes of a body.
pub(super) fn produce(files: &mut Files, fetching: &mut Fetching, buffer: &mut [u8]) -> Piece {
    let left = fetching.end.saturating_sub(fetching.offset);
    let most = usize::try_from(fetching.bytes_per_second / 8).unwrap_or(CHUNK).clamp(200, CHUNK);
    let length = usize::try_from(left).unwrap_or(CHUNK).min(most);
    let (id, offset) = (fetching.firmware, fetching.offset);
    fetching.offset += length as u64;
    let chunk = buffer.get_mut(..length).unwrap_or_default();
    if fetching.changed {
        files.read_changed(id, offset, chunk);
    } else {
        files.read(id, offset, chunk);
    }
    let hit = fetching.tampered.and_then(|at| usize::try_from(at.checked_sub(offset)?).ok());
    let hit = hit.and_then(|at| chunk.get_mut(at)).map(|byte| *byte ^= 0x10).is_some();
    Piece {
        length,
        after: length as u64 * SECOND / fetching.bytes_per_second.max(1),
        published: (!fetching.changed && !hit).then_some((id, offset)),
    }
}
