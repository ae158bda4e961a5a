//! The hub on real sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::firmware::Firmware;
use super::listener::Listener;
use super::mischief::{Garbage, Mischief, Times};
use super::options::HubOptions;
use super::shared::{Shared, State};
use super::tls::Tls;
use crate::hub::{Archive, Delta, Hub, HubEvent, KeyPair, Release};

/// The first fwup that applies deltas of raw images.
const DELTAS_SINCE: (u64, u64, u64) = (1, 6, 0);

/// A NervesHub on a loopback port: device sockets and firmware downloads, over TLS unless told
/// otherwise. Every thread ends when it is dropped.
pub struct HubServer {
    shared: Arc<Shared>,
    listener: Option<Listener>,
    address: SocketAddr,
    tls: Option<Tls>,
    product: KeyPair,
}

impl HubServer {
    /// Starts a hub.
    pub fn start(options: HubOptions) -> io::Result<Self> {
        let tls = options.tls.then(|| Tls::generate(options.expired)).transpose()?;
        let shared = Arc::new(Shared::new(Hub::new(options.hub, options.product.clone())));
        let listener = Listener::start(options.port, tls.clone(), Arc::clone(&shared))?;
        let address = listener.address;
        Ok(Self { shared, listener: Some(listener), address, tls, product: options.product })
    }

    /// The address for devices, for example `wss://localhost:43127`.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://localhost:{}", self.address.port())
    }

    /// The address of a served file or any other path.
    pub fn http_url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }

    /// The listening address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate to trust, in PEM; empty without TLS.
    pub fn ca_pem(&self) -> &str {
        self.tls.as_ref().map_or("", |tls| tls.ca_pem.as_str())
    }

    /// Makes a client certificate for a device, and takes it for that device from then on. Returns it and its key, in PEM.
    ///
    /// # Errors
    ///
    /// Without TLS, or if no certificate can be made.
    pub fn device_certificate(&self, identifier: &str) -> io::Result<(String, String)> {
        let tls = self.tls.as_ref().ok_or_else(|| io::Error::other("the hub was started without TLS"))?;
        tls.device_certificate(identifier)
    }

    /// The product's key and secret.
    pub fn product(&self) -> &KeyPair {
        &self.product
    }

    /// Gives one device a key of its own.
    pub fn add_device_key(&self, pair: KeyPair, identifier: &str) {
        self.shared.with(|state, _| state.hub.add_device_key(pair, identifier));
    }

    /// Adds a key to those sent to devices that ask.
    pub fn add_public_key(&self, key: &str) {
        self.shared.with(|state, _| state.hub.add_public_key(key));
    }

    /// Serves a firmware, hands out its keys and offers it to every device that qualifies, now or when
    /// it joins.
    pub fn deploy(&self, firmware: Firmware) {
        self.shared.with(|state, now| {
            let release = self.serve(state, firmware);
            state.hub.deploy(now, release);
        });
    }

    /// Serves a file without offering it to anyone. Returns what an offer of it would say.
    pub fn host(&self, firmware: Firmware) -> Release {
        self.shared.with(|state, _| self.serve(state, firmware))
    }

    /// Serves a firmware and pushes it to one device by hand. False when that device is not there.
    pub fn push_update(&self, identifier: &str, firmware: Firmware) -> bool {
        self.shared.with(|state, now| {
            let release = self.serve(state, firmware);
            state.hub.push_update(now, identifier, &release)
        })
    }

    /// Does anything to the hub itself; time in milliseconds comes along.
    pub fn with_hub<T>(&self, act: impl FnOnce(&mut Hub, u64) -> T) -> T {
        self.shared.with(|state, now| act(&mut state.hub, now))
    }

    /// Broadcasts an event on the device channel, for example `reboot`.
    pub fn broadcast(&self, event: &str, payload: &Value) {
        self.shared.with(|state, _| state.hub.broadcast(event, payload));
    }

    /// Switches a mischief on.
    pub fn mischief(&self, mischief: Mischief, times: Times) {
        self.shared.with(|state, _| state.armed.add(mischief, times));
    }

    /// Switches every mischief off.
    pub fn clear_mischief(&self) {
        self.shared.with(|state, _| {
            state.armed.clear();
            state.hub.config_mut().heartbeat_replies = true;
        });
    }

    /// Sends a frame no server would send to every connected device.
    pub fn send_garbage(&self, garbage: &Garbage) {
        self.shared.with(|state, _| state.garbage(garbage));
    }

    /// Crashes every device channel; the sockets stay.
    pub fn crash_channels(&self) {
        self.shared.with(|state, _| state.hub.crash_channels());
    }

    /// Closes every socket with this code.
    pub fn close_all(&self, code: u16, reason: &str) {
        self.shared.with(|state, _| state.hub.close_all(code, reason));
    }

    /// Lets a second connection of this device appear, so that its socket is closed with 1001. False
    /// when the hub does not know the device.
    pub fn duplicate(&self, identifier: &str) -> bool {
        self.shared.with(|state, now| {
            let Some(device) = state.hub.device_named(identifier) else { return false };
            let conn = state.number();
            state.hub.connected(now, conn, device);
            true
        })
    }

    /// Goes down in an orderly way: `phx_close`, 1012, no listening socket. Waits for its threads.
    pub fn down(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        self.shared.with(|state, _| state.hub.drain());
        self.shared.set_stopping(true);
        listener.join();
    }

    /// Comes back on the same port.
    pub fn up(&mut self) -> io::Result<()> {
        if self.listener.is_none() {
            self.shared.set_stopping(false);
            let port = self.address.port();
            self.listener = Some(Listener::start(port, self.tls.clone(), Arc::clone(&self.shared))?);
        }
        Ok(())
    }

    /// Goes down and comes back.
    pub fn restart(&mut self) -> io::Result<()> {
        self.down();
        self.up()
    }

    /// The first event ever that `wanted` accepts; waits for it at most so long.
    pub fn wait_for(&self, timeout: Duration, wanted: impl FnMut(&HubEvent) -> bool) -> Option<HubEvent> {
        self.shared.wait_for(0, timeout, wanted).1
    }

    /// All events so far.
    pub fn log(&self) -> Vec<HubEvent> {
        self.shared.with(|state, _| state.hub.events().cloned().collect())
    }

    /// Reads events one after the other, from the first.
    pub fn events(&self) -> Events {
        Events { shared: Arc::clone(&self.shared), position: 0 }
    }

    /// Offers an archive to every device that is there or comes, instead of the one before. Returns where it lies.
    pub fn offer_archive(&self, firmware: Firmware) -> String {
        let path = format!("/uploads/archives/{}.fw", firmware.meta.uuid);
        let archive = Archive {
            size: firmware.size,
            uuid: firmware.meta.uuid.clone(),
            version: firmware.meta.version.clone(),
            description: firmware.meta.description.clone(),
            platform: Some(firmware.meta.platform.clone()),
            architecture: Some(firmware.meta.architecture.clone()),
            uploaded_at: "2026-11-23T14:39:56".to_owned(),
            url: self.http_url(&path),
        };
        self.shared.with(|state, _| {
            for key in &firmware.public_keys {
                state.hub.add_public_key(key);
            }
            state.files.insert(path.clone(), firmware);
            state.hub.set_archive(Some(archive));
        });
        path
    }

    /// Serves a delta that makes this firmware of the one with the UUID `source`. Devices that run that one and announce
    /// a fwup that knows deltas get it in place of the whole.
    pub fn add_delta(&self, source: &str, delta: Firmware) {
        let path = format!("/firmware/1/{source}/{}.delta.fw", delta.meta.uuid);
        self.shared.with(|state, _| {
            let release = self.serve_at(state, path, delta);
            state.hub.add_delta(Delta { source: source.to_owned(), fwup_version: DELTAS_SINCE, release });
        });
    }

    fn serve(&self, state: &mut State, firmware: Firmware) -> Release {
        let path = format!("/firmware/1/{}.fw", firmware.meta.uuid);
        self.serve_at(state, path, firmware)
    }

    fn serve_at(&self, state: &mut State, path: String, firmware: Firmware) -> Release {
        for key in &firmware.public_keys {
            state.hub.add_public_key(key);
        }
        let release = Release {
            meta: firmware.meta.clone(),
            url: self.http_url(&path),
            size: firmware.size,
            checksum: firmware.checksum.clone(),
            partials: firmware.partials.clone(),
        };
        state.files.insert(path, firmware);
        release
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.down();
    }
}

/// A reader of the hub's events. Outlives the server.
pub struct Events {
    shared: Arc<Shared>,
    position: u64,
}

impl Events {
    /// The next event; waits for it at most so long.
    pub fn next(&mut self, timeout: Duration) -> Option<HubEvent> {
        self.wait_for(timeout, |_| true)
    }

    /// The next event that `wanted` accepts; those before it are passed over.
    pub fn wait_for(&mut self, timeout: Duration, wanted: impl FnMut(&HubEvent) -> bool) -> Option<HubEvent> {
        let (position, event) = self.shared.wait_for(self.position, timeout, wanted);
        self.position = position;
        event
    }
}
