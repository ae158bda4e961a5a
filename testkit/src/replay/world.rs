//! What an adapter does for the machine: sockets, downloads, a store, an applier.

use nerves_hub_link_protocol::{Fetch, FetchId, Input, Keep, Output, ReadStore, Sink, SocketId, UpdateState};

use super::body::range_start;
use super::drive::{Dialled, Drive, LONG_WAIT, Sent, Socket};
use super::plot::target;
use super::recording::{Envelope, Kind, Line, header};

/// Bytes of a store that are shown at a time.
const READ: u64 = 1024 * 1024;

impl Drive<'_> {
    pub(super) fn output(&mut self, output: Output) {
        match output {
            Output::Dial(dial) => {
                self.socket = Some(Socket { id: dial.socket, conn: None, up: false });
                let at = self.rig.clock();
                self.transcript.dials.push(Dialled {
                    dial,
                    unix_seconds: self.rig.now().wall.map_or(0, |wall| wall.0),
                    after: self.ended_at.map(|ended| at.saturating_sub(ended)),
                    conn: None,
                });
            }
            Output::Send { socket, text } => self.sent(socket, Envelope::from_text(&text)),
            Output::SendBinary { socket, data } => self.sent(socket, Envelope::from_msgpack(&data)),
            Output::HangUp { socket, reason, .. } => {
                if let Some(gone) = self.socket.take_if(|present| present.id == socket) {
                    self.ended_at = Some(self.rig.clock());
                    self.transcript.hang_ups.push((gone.conn, reason));
                }
            }
            Output::Fetch(fetch) => {
                self.transcript.fetches.push(fetch.clone());
                self.transcript.fetched_last = self.rig.clock().saturating_sub(self.stretch);
                self.waiting.push_back(fetch);
            }
            Output::Abort { fetch } => {
                self.downloads.abort(fetch);
                self.store.abort(fetch);
                self.waiting.retain(|waiting| waiting.fetch != fetch);
            }
            Output::OpenStore(order) => {
                let held = self.plot.held(self.position, &order);
                let (store, parts) = (order.store, self.store.open(order, &held));
                self.handle(Input::StoreOpened { store, parts: &parts });
            }
            Output::ReadStore(order) => self.read_store(&order),
            Output::CommitPart { store, part } => self.handle(Input::PartCommitted { store, part }),
            Output::DropPart { store, part } => self.store.drop_part(store, part),
            Output::CloseStore { store, clear } => self.store.close(store, clear),
            Output::VerifyArchive(order) => {
                let store = order.store;
                self.store.close(store, true);
                self.handle(Input::ArchiveVerified { store, path: "/archive.fw" });
            }
            Output::StartApply(start) => self.apply_started(start.offer),
            Output::FinishApply { offer } => self.apply_complete(offer),
            Output::CancelApply { .. } => self.actor.offer = None,
            // The recorded network is there; whoever looks for it leaves no trace.
            Output::Probe(probe) => self.handle(Input::Reachable { probe: probe.probe }),
            // Kept nowhere: a recording is one run of a device.
            // The recorded appliers said nothing of what was signed, so none waits.
            Output::ContinueApply { .. }
            | Output::SaveAttempts { .. }
            | Output::SaveHistory { .. }
            | Output::SaveNewest { .. }
            | Output::Reboot { .. } => {}
            Output::Event(event) => self.event(&event),
        }
    }

    fn sent(&mut self, socket: SocketId, envelope: Option<Envelope>) {
        self.rig.handle(Input::SocketSent { socket, frames: 1 });
        let conn = self.socket.as_ref().filter(|s| s.id == socket).and_then(|s| s.conn);
        let (Some(envelope), Some(conn)) = (envelope, conn) else {
            self.transcript
                .broken
                .push("it sent something that is no message, or where nothing is open".to_owned());
            return;
        };
        self.refs.ours(conn, &envelope);
        let at = self.rig.clock().saturating_sub(self.stretch);
        self.transcript.frames.push(Sent { conn, envelope, at, stretch: self.stretch });
    }

    pub(super) fn download_line(&mut self, conn: u64, line: &Line) {
        match &line.kind {
            Kind::Request(request) => {
                // Only a download that is to be tried again is worth waiting for.
                let status = self.rig.link.status();
                let idle = status.update == UpdateState::Idle && status.downloading_archive.is_none();
                let most = if idle { 0 } else { LONG_WAIT };
                self.wait_for(most, |drive| !drive.waiting.is_empty());
                // Of several at a time, the one for the same bytes.
                let from = |range: Option<&str>| range.and_then(range_start).unwrap_or_default();
                let theirs = from(request.header("range"));
                let same = self.waiting.iter().position(|w| from(header(&w.headers, "range")) == theirs);
                if let Some(fetch) = self.waiting.remove(same.unwrap_or_default()) {
                    self.transcript.fetched.insert(conn, fetch.fetch);
                    self.downloads.begin(conn, &fetch, request);
                } else {
                    let range = request.header("range").unwrap_or("whole");
                    let what = format!("{} ({range})", request.target);
                    let earlier = |fetch: &Fetch| target(fetch.url.expose()) == Some(request.target.as_str());
                    let known =
                        self.plot.is_archive(&request.target) && self.transcript.fetches.iter().any(earlier);
                    if known {
                        self.transcript.kept.push(what);
                    } else {
                        self.transcript.unfetched.push(what);
                    }
                }
            }
            Kind::Response { status, headers } => {
                let Some(fetch) = self.downloads.head(conn, *status, headers, self.plot, self.position)
                else {
                    return;
                };
                let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let interface = self.plot.download_interface.as_deref();
                self.handle(Input::FetchHead { fetch, status: *status, headers: &headers, interface });
            }
            Kind::Body { .. } => self.deliver_body(conn, u64::MAX, true),
            Kind::Failed(why) if !self.downloads.knows(conn) => {
                if self.wait_for(LONG_WAIT, |drive| !drive.waiting.is_empty())
                    && let Some(fetch) = self.waiting.pop_front()
                {
                    self.downloads.unreached(conn);
                    self.transcript.unreached.insert(fetch.fetch);
                    self.handle(Input::FetchFailed { fetch: fetch.fetch, reason: why });
                }
            }
            Kind::Eof(_) | Kind::Closed | Kind::Failed(_) => {
                let Some(download) = self.downloads.get(conn) else { return };
                let (cut, fetch) = (download.cut, download.fetch);
                self.deliver_body(conn, cut, false);
                if self.downloads.end(conn) {
                    self.handle(Input::FetchFailed { fetch, reason: "the connection ended" });
                }
            }
            _ => {}
        }
    }

    /// Hands over a download's bytes up to a position within its response.
    pub(super) fn deliver_body(&mut self, conn: u64, up_to: u64, end: bool) {
        while let Some((fetch, into, chunk)) = self.downloads.next_chunk(conn, up_to) {
            let now = self.rig.now();
            let keep = self.rig.link.body(now, fetch, &chunk);
            if let Sink::Store(store) = into {
                let kept = chunk.get(keep.range.clone()).unwrap_or_default();
                self.store.write(store, keep.offset, kept);
            }
            self.kept(fetch, &keep);
        }
        let fetch = self.downloads.get(conn).map(|download| download.fetch);
        if let Some(fetch) = fetch.filter(|_| end && self.downloads.end(conn)) {
            self.handle(Input::FetchEnd { fetch });
        }
    }

    fn kept(&mut self, fetch: FetchId, keep: &Keep) {
        self.drain();
        let now = self.rig.now();
        self.rig.link.stored(now, fetch, keep.range.len());
        self.drain();
    }

    /// Shows the bytes of a store to the machine, as long as it wants to see them.
    fn read_store(&mut self, order: &ReadStore) {
        let fetch = order.fetch;
        self.store.reading(fetch);
        let mut from = order.from;
        while from < order.to && self.store.is_reading(fetch) {
            let to = order.to.min(from.saturating_add(READ));
            let Some(chunk) = self.store.read(order.store, from, to) else {
                return self.handle(Input::FetchFailed { fetch, reason: "the store has no such bytes" });
            };
            let now = self.rig.now();
            let keep = self.rig.link.body(now, fetch, &chunk);
            self.kept(fetch, &keep);
            from = to;
        }
        if self.store.is_reading(fetch) {
            self.store.abort(fetch);
            self.handle(Input::FetchEnd { fetch });
        }
    }
}
