//! What the loop does for downloads that are kept on disk.

use std::sync::Arc;

use nerves_hub_link_protocol::{Input, OfferId, OpenStore, Sink, StoreId, StoreKind};

use super::Engine;
use crate::applier::Applier;
use crate::connection::NOT_THERE;
use crate::keeper::{Keeper, News, Reading, SharedStore};
use crate::limits::STORE_PIECE_MAX;
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
        match Keeper::start(order, folder, &self.crew) {
            Ok(keeper) => self.keepers.push(keeper),
            Err(error) => {
                self.keeper_failed(kind, store, &format!("cannot start a thread for the store: {error}"));
            }
        }
    }

    pub(super) fn close_store(&mut self, store: StoreId, clear: bool) {
        // One that could not be opened, or is over, has no thread.
        let at = self.keepers.iter().position(|keeper| keeper.store == store);
        if let Some(at) = at {
            self.keepers.remove(at).close(clear);
        }
    }

    pub(super) fn with_keeper(&mut self, store: StoreId, work: impl FnOnce(&mut Keeper)) {
        let keeper = self.keepers.iter_mut().find(|keeper| keeper.store == store);
        debug_assert!(keeper.is_some(), "{store:?} is not open");
        match keeper {
            Some(keeper) => work(keeper),
            None => self.store_failed(store, "an internal error: the store is not open; please report it"),
        }
    }

    /// Takes what the stores have to say.
    pub(super) fn take_store_news(&mut self) {
        let stores: Vec<StoreId> = self.keepers.iter().map(|keeper| keeper.store).collect();
        for store in stores {
            let Some(keeper) = self.keepers.iter().find(|keeper| keeper.store == store) else { continue };
            let kind = keeper.kind;
            for news in keeper.news() {
                let now = self.now();
                match news {
                    News::Opened(parts) => self.link.handle(now, Input::StoreOpened { store, parts: &parts }),
                    News::Stored(fetch, len) => self.link.stored(now, fetch, len),
                    News::Committed(part) => self.link.handle(now, Input::PartCommitted { store, part }),
                    News::Verified(path) => {
                        self.link.handle(now, Input::ArchiveVerified { store, path: &path });
                        self.close_store(store, false);
                    }
                    News::Dropped(path) => {
                        self.link.handle(now, Input::ArchiveDropped { path: &path });
                    }
                    News::Untrusted(reason) => {
                        self.link.handle(now, Input::StoreRefused { store, reason: &reason });
                        self.close_store(store, false);
                    }
                    News::Refused(reason) => {
                        self.link.handle(now, Input::ArchiveRefused { store, reason: &reason });
                        self.close_store(store, false);
                    }
                    News::Failed(reason) => self.keeper_failed(kind, store, &reason),
                }
                self.drain();
            }
            self.take_reading(store);
        }
    }

    /// Shows the machine what was read, and hands the applier what it keeps, as far as there is room.
    fn take_reading(&mut self, store: StoreId) {
        loop {
            let Some(keeper) = self.keepers.iter().find(|keeper| keeper.store == store) else { return };
            let applier = self.applier.as_ref();
            let fed = |offer: OfferId| applier.filter(|applier| applier.offer == offer);
            let next =
                keeper.next_read(|offer| fed(offer).is_none_or(|applier| applier.has_room(STORE_PIECE_MAX)));
            let Some((reading, feeds)) = next else { return };
            let now = self.now();
            match reading {
                Reading::Piece(fetch, mut piece) => {
                    let keep = self.link.body(now, fetch, &piece);
                    let there = keep.range.start <= keep.range.end && keep.range.end <= piece.len();
                    debug_assert!(there, "{:?} of {} bytes", keep.range, piece.len());
                    if !there {
                        let into = feeds.map_or(Sink::Store(store), Sink::Applier);
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
                Reading::End(fetch, Ok(())) => self.link.handle(now, Input::FetchEnd { fetch }),
                Reading::End(fetch, Err(reason)) => {
                    self.link.handle(now, Input::FetchFailed { fetch, reason: &reason });
                }
            }
            self.drain();
        }
    }

    /// A folder could not be used, or no longer. No firmware is to blame: the update is put off until the next check.
    fn keeper_failed(&mut self, kind: StoreKind, store: StoreId, reason: &str) {
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
pub(super) fn has_room(applier: Option<&Applier>, keepers: &[Keeper], into: Sink, len: usize) -> bool {
    match into {
        Sink::Applier(offer) => {
            applier.filter(|applier| applier.offer == offer).is_none_or(|applier| applier.has_room(len))
        }
        Sink::Store(store) => {
            keepers.iter().find(|keeper| keeper.store == store).is_none_or(|keeper| keeper.has_room(len))
        }
    }
}
