//! Updates that devices ask for (device-protocol A2): the device picks when, the deployment group what.

use serde_json::{Value, json};

use super::config::AlreadyUpdating;
use super::event::{ConnId, HubEvent};
use super::machine::Hub;

/// Minutes a device is to wait when all slots are taken: a constant of the server.
const BUSY_MINUTES: u64 = 5;

/// The level of the protocol from which on devices are told the mode unasked.
const LEVEL: (u64, u64, u64) = (2, 4, 0);

/// Who decides about a device's updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpdateMode {
    /// The group pushes.
    #[default]
    Automatic,
    /// The device asks.
    DeviceManaged,
    /// Operators push by hand.
    Off,
}

impl UpdateMode {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::DeviceManaged => "device_managed",
            Self::Off => "off",
        }
    }
}

impl Hub {
    /// Tells the mode after a join, as the last message of it. A device too old to ask is put back on automatic.
    pub(super) fn tell_mode_on_join(&mut self, now_ms: u64, conn: ConnId, join_ref: &Value) {
        if !self.config.managed_updates {
            return;
        }
        let Some(old) = self.conns.get(&conn).map(|connection| connection.api_version < LEVEL) else {
            return;
        };
        if !old {
            let payload = self.mode_payload(conn, None);
            return self.send(conn, join_ref, &Value::Null, "device", "update_mode", &payload);
        }
        let stored = self.device_of(conn).map(|device| device.update_mode);
        if stored == Some(UpdateMode::DeviceManaged) {
            self.change_mode(now_ms, conn, UpdateMode::Automatic);
        }
    }

    /// Handles a request of a device. False when the hub knows no such thing.
    pub(super) fn managed_message(
        &mut self,
        now_ms: u64,
        conn: ConnId,
        event: &str,
        payload: &Value,
    ) -> bool {
        if !self.config.managed_updates {
            return false;
        }
        match event {
            "check_update" => {
                let meta = self.waiting(now_ms, conn);
                let answer = json!({"available": meta.is_some(), "firmware_meta": meta});
                self.push_to_topic(conn, "device", "update_available", &answer);
            }
            "request_update" => self.update_requested(now_ms, conn),
            // Without a mode it is an event the server doesn't handle.
            "set_update_mode" => {
                let Some(mode) = payload.get("mode") else { return false };
                let error = self.mode_wanted(now_ms, conn, mode);
                let answer = self.mode_payload(conn, error);
                self.push_to_topic(conn, "device", "update_mode", &answer);
            }
            _ => return false,
        }
        true
    }

    fn mode_wanted(&mut self, now_ms: u64, conn: ConnId, wanted: &Value) -> Option<&'static str> {
        let allowed = self.device_of(conn).is_some_and(|device| device.managed_updates_allowed);
        match wanted.as_str() {
            Some("automatic") => self.change_mode(now_ms, conn, UpdateMode::Automatic),
            Some("device_managed") if allowed => self.change_mode(now_ms, conn, UpdateMode::DeviceManaged),
            Some("device_managed" | "off") => return Some("not_permitted"),
            _ => return Some("unknown_mode"),
        }
        None
    }

    fn update_requested(&mut self, now_ms: u64, conn: ConnId) {
        let reason = match () {
            () if self.fleet.release().is_none() => "no_deployment_group",
            () if self.device_of(conn).is_some_and(|device| device.is_updating()) => {
                if self.config.already_updating == AlreadyUpdating::Crash {
                    return self.crash(conn, "device", "a second update in flight");
                }
                "already_updating"
            }
            () if self.waiting(now_ms, conn).is_none() => "no_update",
            () if !self.has_slot() => "busy",
            () => return self.send_requested(now_ms, conn),
        };
        let answer = match reason {
            "busy" => json!({"reason": reason, "delay_for": BUSY_MINUTES}),
            _ => json!({"reason": reason}),
        };
        self.push_to_topic(conn, "device", "update_rejected", &answer);
        if let Some(identifier) = self.conns.get(&conn).map(|connection| connection.identifier.clone()) {
            self.log.push(HubEvent::UpdateRejected { identifier, reason });
        }
    }

    /// The firmware that waits for a device, if it may have it.
    fn waiting(&mut self, now_ms: u64, conn: ConnId) -> Option<Value> {
        let release = self.fleet.release().cloned()?;
        let device = self.device_of(conn)?;
        let wants = device.runs_other_than(&release) && !device.is_blocked(now_ms);
        (wants && device.update_mode != UpdateMode::Off).then(|| json!(release.meta))
    }

    /// Sets who decides about a device's updates, and tells the device if it listens.
    pub(super) fn change_mode(&mut self, now_ms: u64, conn: ConnId, mode: UpdateMode) {
        let Some(device) = self.device_of(conn) else { return };
        if core::mem::replace(&mut device.update_mode, mode) == mode {
            return;
        }
        if mode == UpdateMode::Automatic {
            device.attempts.clear();
        }
        if let Some(identifier) = self.conns.get(&conn).map(|connection| connection.identifier.clone()) {
            self.log.push(HubEvent::UpdateMode { identifier, mode });
        }
        self.look_again(now_ms);
    }

    /// Tells a device its mode unasked, if it is new enough.
    pub(super) fn tell_mode(&mut self, conn: ConnId) {
        let listens = self.conns.get(&conn).is_some_and(|connection| connection.api_version >= LEVEL);
        if self.config.managed_updates && listens {
            let payload = self.mode_payload(conn, None);
            self.push_to_topic(conn, "device", "update_mode", &payload);
        }
    }

    fn mode_payload(&mut self, conn: ConnId, error: Option<&str>) -> Value {
        let (mode, allowed) = self
            .device_of(conn)
            .map(|device| (device.update_mode, device.managed_updates_allowed))
            .unwrap_or_default();
        let mut payload = json!({"mode": mode.as_str(), "managed_updates_allowed": allowed});
        if let (Some(error), Some(fields)) = (error, payload.as_object_mut()) {
            fields.insert("error".to_owned(), Value::from(error));
        }
        payload
    }
}
