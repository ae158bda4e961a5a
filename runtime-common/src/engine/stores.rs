//! What the loop does for downloads that are kept on disk.

use std::sync::Arc;

use nerves_hub_link_protocol::{Input, OfferId, OpenStore, Sink, StoreId, StoreKind};

use super::Engine;
use crate::applier::Applier;
use crate::connection::NOT_THERE;
use crate::limits::STORE_PIECE_MAX;
use crate::store::{Read, Report, SharedStore, Store};
use crate::tcp::Network;

/// The folders that downloads are kept in.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    pub(crate) firmware: Option<SharedStore>,
    pub(crate) archives: Option<SharedStore>,
}

impl Folders {
    fn of(&self, kind: StoreKind) -> Option<&SharedStore> {
        match kind {
            StoreKind::Firmware => self.firmware.as_ref(),
            StoreKind::Archive => self.archives.as_ref(),
        }
    }
}

impl<N: Network> Engine<N> {
    pub(super) fn open_store(&mut self, order: OpenStore) {
        let (store, kind) = (order.store, order.kind);
        let Some(folder) = self.folders.of(kind).map(Arc::clone) else {
            let reason = match kind {
                StoreKind::Firmware => {
                    "no folder for downloads is configured, which this way of updating needs"
                }
                StoreKind::Archive => "no folder for archives is configured",
            };
            return self.store_failed(store, reason);
        };
        match Store::start(order, folder, &self.threads) {
            Ok(store) => self.stores.push(store),
            Err(error) => {
                self.open_failed(kind, store, &format!("cannot start a thread for the store: {error}"));
            }
        }
    }

    pub(super) fn close_store(&mut self, id: StoreId, clear: bool) {
        // One that could not be opened, or is over, has no thread.
        let at = self.stores.iter().position(|store| store.id == id);
        if let Some(at) = at {
            self.stores.remove(at).close(clear);
        }
    }

    pub(super) fn with_store(&mut self, id: StoreId, work: impl FnOnce(&mut Store)) {
        let store = self.stores.iter_mut().find(|store| store.id == id);
        debug_assert!(store.is_some(), "{id:?} is not open");
        match store {
            Some(store) => work(store),
            None => self.store_failed(id, "an internal error: the store is not open; please report it"),
        }
    }

    /// Takes the reports of the stores.
    pub(super) fn take_store_reports(&mut self) {
        let stores: Vec<StoreId> = self.stores.iter().map(|store| store.id).collect();
        for id in stores {
            while let Some(store) = self.store(id)
                && let Some(report) = store.next_report()
            {
                let kind = store.kind;
                self.take_store_report(id, kind, report);
                self.drain();
            }
            self.take_reads(id);
        }
    }

    fn store(&self, id: StoreId) -> Option<&Store> {
        self.stores.iter().find(|store| store.id == id)
    }

    fn take_store_report(&mut self, store: StoreId, kind: StoreKind, report: Report) {
        let now = self.now();
        match report {
            Report::Opened(parts) => self.link.handle(now, Input::StoreOpened { store, parts: &parts }),
            Report::Stored(fetch, len) => self.link.stored(now, fetch, len),
            Report::Committed(part) => self.link.handle(now, Input::PartCommitted { store, part }),
            Report::Dropped(path) => self.link.handle(now, Input::ArchiveDropped { path: &path }),
            Report::Verified(path) => {
                self.link.handle(now, Input::ArchiveVerified { store, path: &path });
                self.close_store(store, false);
            }
            Report::Untrusted(reason) => {
                self.link.handle(now, Input::StoreRefused { store, reason: &reason });
                self.close_store(store, false);
            }
            Report::Refused(reason) => {
                self.link.handle(now, Input::ArchiveRefused { store, reason: &reason });
                self.close_store(store, false);
            }
            Report::Failed(reason) => self.open_failed(kind, store, &reason),
            Report::Read(..) => debug_assert!(false, "reads are taken by themselves"),
        }
    }

    /// Shows the machine what was read, and hands the applier what it keeps, as far as there is room.
    fn take_reads(&mut self, id: StoreId) {
        loop {
            let Some(store) = self.store(id) else { return };
            let applier = self.applier.as_ref();
            let fed = |offer: OfferId| applier.filter(|applier| applier.offer == offer);
            let next =
                store.next_read(|offer| fed(offer).is_none_or(|applier| applier.has_room(STORE_PIECE_MAX)));
            let Some((fetch, read, feeds)) = next else { return };
            let now = self.now();
            match read {
                Read::Chunk(mut piece) => {
                    let keep = self.link.body(now, fetch, &piece);
                    let there = keep.range.start <= keep.range.end && keep.range.end <= piece.len();
                    debug_assert!(there, "{:?} of {} bytes", keep.range, piece.len());
                    if !there {
                        let into = feeds.map_or(Sink::Store(id), Sink::Applier);
                        self.sink_failed(into, NOT_THERE);
                        self.drain();
                        continue;
                    }
                    piece.truncate(keep.range.end);
                    piece.drain(..keep.range.start.min(piece.len()));
                    self.drain();
                    // Without one, the reading is for the machine alone, or the update was given up just now.
                    let applier = self.applier.as_ref().filter(|applier| Some(applier.offer) == feeds);
                    if let Some(applier) = applier.filter(|_| !piece.is_empty()) {
                        applier.push(fetch, piece);
                    }
                }
                Read::End(Ok(())) => self.link.handle(now, Input::FetchEnd { fetch }),
                Read::End(Err(reason)) => {
                    self.link.handle(now, Input::FetchFailed { fetch, reason: &reason });
                }
            }
            self.drain();
        }
    }

    /// A folder could not be used, or no longer. No firmware is to blame: the update is put off until the next check.
    fn open_failed(&mut self, kind: StoreKind, store: StoreId, reason: &str) {
        if kind == StoreKind::Firmware {
            self.obstacle(Some(format!("updates can't be kept: {reason}")));
        }
        self.store_failed(store, reason);
    }

    fn store_failed(&mut self, store: StoreId, reason: &str) {
        self.link.handle(self.now(), Input::StoreFailed { store, reason });
    }
}

/// Returns whether whoever gets the bytes has room for a piece.
pub(super) fn has_room(applier: Option<&Applier>, stores: &[Store], into: Sink, len: usize) -> bool {
    match into {
        Sink::Applier(offer) => {
            applier.filter(|applier| applier.offer == offer).is_none_or(|applier| applier.has_room(len))
        }
        Sink::Store(store) => stores.iter().find(|it| it.id == store).is_none_or(|store| store.has_room(len)),
    }
}
