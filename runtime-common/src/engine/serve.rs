//! Moving bytes and time: what connections bring and take.

use nerves_hub_link_protocol::{AddressRules, FetchId, Input, Instant, Probe, ProbeId};
use nerves_hub_link_transport::Address;
use nerves_hub_link_transport::limits::BODY_PIECE_MAX;

use super::Engine;
use super::stores::has_room;
use crate::connection::{Download, Step};
use crate::tcp::Network;

impl<N: Network> Engine<N> {
    pub(super) fn takes_more_of(&self, download: &Download<N::Tcp>, now: Instant) -> bool {
        let room = has_room(self.applier.as_ref(), &self.stores, download.into, BODY_PIECE_MAX);
        download.pause(now).is_none() && room
    }

    pub(super) fn serve_websocket(&mut self) {
        if let Some(websocket) = &mut self.websocket {
            websocket.wire.read(self.buffer.get());
        }
        loop {
            let now = self.now();
            let Some(websocket) = &mut self.websocket else { return };
            let step = websocket.step(&mut self.link, now);
            if let Some(hub) = websocket.hub.take() {
                self.connector.hub = Some(hub);
            }
            match step {
                // Only downloads keep or lose bytes.
                Step::More | Step::Keep(..) | Step::Lost(_) => self.drain(),
                Step::Idle => return,
                Step::Gone => {
                    self.hang_up();
                    self.drain();
                    return;
                }
            }
        }
    }

    pub(super) fn serve_downloads(&mut self) {
        let served: Vec<FetchId> = self.downloads.iter().map(|download| download.id).collect();
        for id in served {
            let (applier, stores) = (self.applier.as_ref(), &self.stores);
            let now = self.connector.network.now();
            if let Some(download) = self.downloads.iter_mut().find(|download| download.id == id)
                && download.pause(now).is_none()
                && has_room(applier, stores, download.into, BODY_PIECE_MAX)
                && download.wire.read(self.buffer.get()) > 0
            {
                // The first bytes mean that TCP and TLS are up; from here the machine's own timer runs.
                download.wire.settle();
            }
            self.serve_download(id);
        }
    }

    pub(super) fn serve_download(&mut self, id: FetchId) {
        loop {
            let now = self.now();
            let Some(download) = self.downloads.iter_mut().find(|download| download.id == id) else { return };
            let into = download.into;
            if download.pause(now.mono).is_some()
                || !has_room(self.applier.as_ref(), &self.stores, into, BODY_PIECE_MAX)
            {
                return;
            }
            match download.step(&mut self.link, now) {
                Step::Idle => return,
                Step::More => self.drain(),
                Step::Gone => {
                    self.downloads.retain(|download| download.id != id);
                    self.drain();
                    return;
                }
                Step::Lost(reason) => {
                    self.sink_failed(into, reason);
                    self.drain();
                }
                Step::Keep(offset, piece) => {
                    self.drain();
                    if !piece.is_empty() {
                        self.hand_over(id, into, offset, piece);
                    }
                }
            }
        }
    }

    pub(super) fn tick(&mut self) {
        let now = self.now();
        if let Some(websocket) = &mut self.websocket {
            websocket.wire.expire(now.mono);
        }
        for download in &mut self.downloads {
            download.wire.expire(now.mono);
        }
        if self.link.deadline().is_some_and(|deadline| deadline.at <= now.mono) {
            self.link.handle(now, Input::Tick);
        }
    }

    /// Writes what can be written; what that sets free is carried out and written too.
    pub(super) fn flush(&mut self) {
        for download in &mut self.downloads {
            download.wire.flush();
        }
        while let Some(websocket) = &mut self.websocket {
            let (socket, frames) = (websocket.id, websocket.flush());
            if frames == 0 {
                return;
            }
            self.link.handle(self.now(), Input::SocketSent { socket, frames });
            self.drain();
        }
    }

    pub(super) fn look_for_network(&mut self, probe: &Probe) {
        self.probe = None;
        let started = Address::parse(&probe.url).map_err(|error| error.to_string());
        match started.and_then(|address| self.connector.start(address, probe.timeout, AddressRules::any())) {
            Ok(attempt) => self.probe = Some((probe.probe, attempt)),
            Err(reason) => self.probed(probe.probe, Some(&reason)),
        }
    }

    pub(super) fn probed(&mut self, probe: ProbeId, error: Option<&str>) {
        let input = match error {
            None => Input::Reachable { probe },
            Some(reason) => Input::Unreachable { probe, reason },
        };
        self.link.handle(self.now(), input);
    }
}
