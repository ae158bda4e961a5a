//! Connections of bytes that carry downloads: the adapter's end, and the file server's.

use nerves_hub_link_protocol::{Fetch, FetchId, HeaderRef, Input};
use nerves_hub_link_transport::{Exchange, ExchangeEvent, ExchangeRequest, TransportError};

use super::World;
use super::download::{Answered, Asked, Content, Piece, produce, waits};
use super::wire::line_of;
use crate::server::http::parse;
use crate::sim::bytes::{
    End, Far, Framing, LineId, Near, Reply, Served, Way, broke, broken_answer, broken_chunk, plain,
};
use crate::sim::device::Device;
use crate::sim::fault::Fault;
use crate::sim::queue::{DeviceDue, WireDue};
use crate::sim::scenario::Variant;
use crate::sim::violation::Broken;

/// What a machine says of a download.
enum Told {
    Head(u16, Vec<(String, String)>),
    Body(Vec<u8>),
    End,
    Failed(TransportError),
}

impl World {
    /// The machine wants a file. TCP takes so long.
    pub(super) fn fetch_line(
        &mut self,
        device: &mut Device,
        fetch: &Fetch,
        after: u64,
    ) -> Result<(), Broken> {
        let url = plain(fetch.url.expose());
        let request = ExchangeRequest { url: &url, headers: &fetch.headers, tls: None };
        let exchange = Exchange::new(&request).map_err(|error| Broken::NoRequest(error.to_string()))?;
        let timeout = u64::try_from(fetch.timeout.as_micros()).ok();
        self.begin_line(device, Way::Fetch(fetch.fetch), Near::File(Box::new(exchange)), after, timeout);
        Ok(())
    }

    /// The adapter has room for bytes again.
    pub(super) fn read_on(&mut self, device: &Device, fetch: FetchId) {
        let wire = DeviceDue::Wire { way: Way::Fetch(fetch), what: WireDue::Reads };
        let bytes = self.scenario.has(Variant::Bytes);
        self.later(device, 0, if bytes { wire } else { DeviceDue::Body(fetch) });
    }

    /// Bytes of a request arrive at the file server.
    pub(super) fn file_serves(
        &mut self,
        device: &mut Device,
        id: LineId,
        fetch: FetchId,
    ) -> Result<(), Broken> {
        let nonsense = |why: &str| Broken::NotWebSocket(why.to_owned());
        let Some(line) = self.lines.all.get_mut(&id) else { return Ok(()) };
        line.up.arrive(self.now);
        let mut bytes = Vec::new();
        line.up.read(usize::MAX, &mut bytes);
        line.far.receive(&bytes);
        let asked = match &line.far {
            Far::Request(request) => match parse(request) {
                Ok(None) => None,
                Ok(Some((request, _))) => Some(Asked::read(&request.path, &request.headers)),
                Err(()) => return Err(nonsense("the request is not HTTP")),
            },
            _ => None,
        };
        self.plan_line(id);
        let fetching = device.link.as_mut().and_then(|life| life.fetching(fetch));
        let (Some(asked), Some(fetching)) = (asked, fetching) else {
            self.flush_line(device, id);
            return Ok(());
        };
        if (asked.firmware, asked.range, asked.tag)
            != (fetching.firmware, fetching.range, fetching.tag.clone())
        {
            return Err(nonsense("another file or range than the machine wants"));
        }
        if let Some(line) = self.lines.all.get_mut(&id) {
            line.far = Far::File;
            // Some strike in the middle of the body.
            if device.armed.waits(Fault::Hostile) && device.rng.one_in(2) {
                device.armed.strikes(Fault::Hostile);
                line.file.broken_head = true;
                line.pending.extend(broken_answer(device.armed.how));
                line.ends = true;
                self.pump_line(id);
                return Ok(());
            }
        }
        self.file_answers(device, id, fetch);
        Ok(())
    }

    fn file_answers(&mut self, device: &mut Device, id: LineId, fetch: FetchId) {
        let Some(Answered { status, headers, body }) = self.answered(device, fetch) else { return };
        let from = device.link.as_mut().and_then(|life| life.fetching(fetch)).map(|fetching| fetching.offset);
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        let reply = if let Content::File { length } = body {
            (line.file.is_file, line.file.at) = (true, from.unwrap_or(0));
            line.file.to = length.map(|length| line.file.at + length);
            Reply::head(status, &headers, length, &mut device.rng)
        } else {
            let sorry: &[u8] = if device.rng.one_in(2) { b"" } else { b"<html>sorry</html>" };
            line.file.body.extend(sorry);
            let mut reply = Reply::whole(status, &headers, sorry, &mut device.rng);
            // Some say no more, and never come to an end.
            line.ends = !device.rng.one_in(4);
            line.file.whole = line.ends || reply.cut_short(&mut device.rng);
            reply
        };
        line.file.head = Some((status, headers));
        line.file.framing = reply.framing;
        line.pending.extend(reply.bytes);
        self.pump_line(id);
        if body != Content::Nothing {
            self.later(device, 1000, DeviceDue::Body(fetch));
        }
    }

    /// The file server writes the next bytes of a body, or ends it.
    pub(super) fn serve_body(&mut self, device: &mut Device, fetch: FetchId) {
        let id = line_of(device, Way::Fetch(fetch));
        let Some(line) = self.lines.all.get_mut(&id).filter(|line| !line.ends) else { return };
        if !line.pending.is_empty() {
            line.file.waits = true;
            return;
        }
        let Some(fetching) = device.link.as_mut().and_then(|life| life.fetching(fetch)) else { return };
        let framing = line.file.framing;
        let mut framed = Vec::new();
        if fetching.offset >= fetching.end {
            line.ends = true;
            if fetching.short {
                return self.end_short(device, id, fetch);
            }
            framing.end(&mut framed);
            line.file.whole = true;
            if framing != Framing::Close {
                // Some bodies are longer than they say, and some servers leave the end to the device.
                if device.rng.one_in(16) {
                    framed.extend_from_slice(b"HTTP/1.1 and more");
                }
                line.ends = device.rng.one_in(2);
            }
            line.pending.extend(framed);
            return self.pump_line(id);
        }
        if framing == Framing::Chunked && device.armed.strikes(Fault::Hostile) {
            (line.file.broken_body, line.ends) = (true, true);
            line.pending.extend(broken_chunk(device.armed.how));
            return self.pump_line(id);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let Piece { length, after, .. } = produce(&mut self.files, fetching, &mut buffer);
        let piece = buffer.get(..length).unwrap_or_default();
        line.file.body.extend(piece);
        framing.frame(piece, &mut framed, &mut device.rng);
        line.pending.extend(framed);
        self.buffer = buffer;
        self.pump_line(id);
        self.later(device, after, DeviceDue::Body(fetch));
    }

    /// A body ends too early: in order, or with the connection.
    fn end_short(&mut self, device: &mut Device, id: LineId, fetch: FetchId) {
        let odd = device.link.as_mut().and_then(|life| life.fetching(fetch));
        let odd = odd.is_some_and(|fetching| fetching.end % 2 == 1);
        if let Some(line) = self.lines.all.get_mut(&id)
            && odd
        {
            line.down.cut(self.now, End::Reset, &mut device.rng);
        }
        self.pump_line(id);
    }

    /// The adapter reads a download as far as there is room for it.
    pub(super) fn file_reads(
        &mut self,
        device: &mut Device,
        id: LineId,
        fetch: FetchId,
    ) -> Result<(), Broken> {
        loop {
            if waits(device, fetch) {
                return Ok(());
            }
            let Some(line) = self.lines.all.get_mut(&id) else { return Ok(()) };
            let Some(Near::File(near)) = &mut line.near else { return Ok(()) };
            let told = near.poll().map(|event| match event {
                ExchangeEvent::Head { status, headers } => Told::Head(status, headers),
                ExchangeEvent::Body(piece) => Told::Body(piece.to_vec()),
                ExchangeEvent::End => Told::End,
                ExchangeEvent::Failed(error) => Told::Failed(error),
            });
            if let Some(told) = told {
                self.file_told(device, id, fetch, told)?;
                self.drain(device)?;
                continue;
            }
            if let Some(reason) = line.broken.take() {
                self.lines.all.remove(&id);
                self.fetch_failed(device, fetch, &reason);
                return self.drain(device);
            }
            if !self.read_line(id) {
                return Ok(());
            }
            if let Some(line) = self.lines.all.get_mut(&id) {
                // The first bytes mean that TCP is up; from here the machine's own timer runs.
                line.settled = true;
            }
            self.pump_line(id);
        }
    }

    fn file_told(
        &mut self,
        device: &mut Device,
        id: LineId,
        fetch: FetchId,
        told: Told,
    ) -> Result<(), Broken> {
        let (now, wall) = (self.now, device.wall);
        let interface = self.scenario.has(Variant::Interface).then_some("eth0");
        let Some(line) = self.lines.all.get_mut(&id) else { return Ok(()) };
        let Some(life) = device.link.as_mut() else { return Ok(()) };
        match told {
            Told::Head(status, headers) => {
                if line.file.broken_head {
                    return Err(Broken::BadBytesTaken("an answer"));
                }
                if !line.file.is_head(status, &headers) {
                    return Err(Broken::OtherBytes("another head"));
                }
                let borrowed: Vec<HeaderRef<'_>> =
                    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                life.input(now, wall, Input::FetchHead { fetch, status, headers: &borrowed, interface });
            }
            Told::Body(piece) => {
                let sent = line.file.body.drain(..piece.len().min(line.file.body.len()));
                if !sent.eq(piece.iter().copied()) {
                    return Err(Broken::OtherBytes("other bytes of the body"));
                }
                let (at, is_file) = (line.file.at, line.file.is_file);
                line.file.at += piece.len() as u64;
                let published = if is_file { self.is_published(device, fetch, at, &piece) } else { None };
                return self.take_body(device, fetch, &piece, published);
            }
            Told::End => {
                let Served { framing, body, whole, at, to, .. } = &line.file;
                if line.file.broken_body {
                    return Err(Broken::BadBytesTaken("a body"));
                }
                let by_end = *framing == Framing::Close && line.read_ended;
                if !by_end && (!whole || !body.is_empty()) && *to != Some(*at) {
                    return Err(Broken::OtherBytes("an end"));
                }
                self.lines.all.remove(&id);
                life.fetches.retain(|fetching| fetching.fetch != fetch);
                life.input(now, wall, Input::FetchEnd { fetch });
            }
            Told::Failed(error) => {
                line.may_fail(&error)?;
                self.stats.bytes.refused += u64::from(broke(&error));
                self.stats.bytes.torn += u64::from(!broke(&error));
                self.lines.all.remove(&id);
                self.fetch_failed(device, fetch, &error.to_string());
            }
        }
        Ok(())
    }

    /// Of which file bytes are, and from where, if they are as published.
    fn is_published(
        &mut self,
        device: &mut Device,
        fetch: FetchId,
        at: u64,
        piece: &[u8],
    ) -> Option<(u32, u64)> {
        let id = device.link.as_mut()?.fetching(fetch)?.firmware;
        let mut published = std::mem::take(&mut self.scratch);
        published.clear();
        published.resize(piece.len(), 0);
        self.files.read(id, at, &mut published);
        let same = published == piece;
        self.scratch = published;
        same.then_some((id, at))
    }
}
