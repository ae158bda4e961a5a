//! Deployments, offers and the bookkeeping behind them (device-protocol §9.2 to §9.4).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::config::Release;
use super::event::{ConnId, DeviceId, HubEvent};
use super::machine::Hub;
use super::managed::UpdateMode;
use crate::limits::IN_FLIGHT_MS;
use crate::meta::FirmwareMeta;

/// What a device said when it joined.
#[derive(Debug)]
pub(super) struct JoinFacts {
    pub api_version: (u64, u64, u64),
    pub meta: FirmwareMeta,
    pub validated: Option<bool>,
    pub auto_revert_detected: bool,
    pub currently_downloading: Option<String>,
    pub fwup_version: Option<String>,
}

/// What the hub knows of a device.
#[derive(Debug, Default)]
pub(super) struct Device {
    identifier: String,
    meta: Option<FirmwareMeta>,
    pub validated: Option<bool>,
    /// What it announced last, with all that describes its firmware.
    pub fwup_version: Option<String>,
    in_flight: Option<InFlight>,
    /// Times of the attempts since the firmware last changed.
    pub attempts: Vec<u64>,
    blocked_until: Option<u64>,
    pub update_mode: UpdateMode,
    pub managed_updates_allowed: bool,
    pub connecting_code: Option<String>,
    pub extensions_off: BTreeSet<String>,
}

#[derive(Debug)]
struct InFlight {
    uuid: String,
    touched_ms: u64,
    counted: bool,
    manual: bool,
}

/// All devices, and the one deployment group they are in.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    devices: BTreeMap<DeviceId, Device>,
    names: BTreeMap<String, DeviceId>,
    open: BTreeMap<DeviceId, ConnId>,
    /// Devices to look at, and when: what changed since the last look, blocks and updates that end.
    due: BTreeSet<(u64, DeviceId)>,
    release: Option<Release>,
    deployment_id: u64,
    offered_ms: Option<u64>,
}

#[derive(Serialize)]
struct UpdatePayload<'a> {
    update_available: bool,
    firmware_url: &'a str,
    firmware_meta: &'a FirmwareMeta,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partials_checksums: Option<&'a [String]>,
    deployment_id: Option<u64>,
}

impl Device {
    /// Whether an update was offered and not heard the end of.
    pub fn is_updating(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The UUID of the firmware it runs.
    pub fn runs(&self) -> Option<&str> {
        self.meta.as_ref().map(|meta| meta.uuid.as_str())
    }

    /// Whether it is in the penalty box.
    pub fn is_blocked(&self, now_ms: u64) -> bool {
        self.blocked_until.is_some_and(|until| now_ms < until)
    }

    /// Whether it runs another firmware for the same kind of device.
    pub fn runs_other_than(&self, release: &Release) -> bool {
        self.meta.as_ref().is_some_and(|meta| {
            let fits =
                meta.platform == release.meta.platform && meta.architecture == release.meta.architecture;
            fits && meta.uuid != release.meta.uuid
        })
    }
}

impl Fleet {
    /// What the deployment group has for its devices.
    pub fn release(&self) -> Option<&Release> {
        self.release.as_ref()
    }

    pub fn named(&mut self, identifier: &str) -> Option<&mut Device> {
        let id = self.find(identifier)?;
        self.devices.get_mut(&id)
    }

    pub fn identifier(&self, id: DeviceId) -> Option<String> {
        self.devices.get(&id).map(|device| device.identifier.clone())
    }

    pub fn get_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.devices.get_mut(&id)
    }

    pub fn find(&self, identifier: &str) -> Option<DeviceId> {
        self.names.get(identifier).copied()
    }

    /// The open socket of a device.
    pub fn conn(&self, device: DeviceId) -> Option<ConnId> {
        self.open.get(&device).copied()
    }

    pub fn opened(&mut self, device: DeviceId, conn: ConnId) {
        self.open.insert(device, conn);
    }

    pub fn closed(&mut self, device: DeviceId, conn: ConnId) {
        if self.conn(device) == Some(conn) {
            self.open.remove(&device);
        }
    }

    /// When the next device wants to be looked at.
    pub fn next_due(&self, interval: u64) -> Option<u64> {
        let (due, _) = self.due.first()?;
        Some(self.offered_ms.map_or(*due, |last| (*due).max(last.saturating_add(interval))))
    }

    /// All devices online are to be looked at.
    fn mark_all(&mut self, now_ms: u64) {
        self.due.extend(self.open.keys().map(|id| (now_ms, *id)));
    }

    /// Takes the devices whose time has come.
    fn take_due(&mut self, now_ms: u64) -> Vec<DeviceId> {
        let later = self.due.split_off(&(now_ms.saturating_add(1), DeviceId(0)));
        let due = std::mem::replace(&mut self.due, later);
        let mut now: Vec<DeviceId> = due.into_iter().map(|(_, id)| id).collect();
        // In the order of the connections, as a look at all of them would be.
        now.sort_by_key(|id| (self.conn(*id), *id));
        now.dedup();
        now
    }

    /// The device of that name, made if it is new. `None` when the hub is full.
    pub fn register(&mut self, identifier: &str, limit: usize) -> Option<DeviceId> {
        if let Some(id) = self.find(identifier) {
            return Some(id);
        }
        if self.devices.len() >= limit {
            return None;
        }
        let id = DeviceId(self.devices.len().try_into().unwrap_or(u64::MAX));
        self.devices.insert(id, Device { identifier: identifier.to_owned(), ..Device::default() });
        self.names.insert(identifier.to_owned(), id);
        Some(id)
    }
}

impl Hub {
    /// Makes this the current release of the deployment group: every device that qualifies is offered
    /// it, now or when it joins.
    pub fn deploy(&mut self, now_ms: u64, release: Release) {
        self.fleet.release = Some(release);
        self.fleet.deployment_id = self.fleet.deployment_id.saturating_add(1);
        self.look_again(now_ms);
    }

    /// Takes the deployment group out of use; updates in flight go on.
    pub fn undeploy(&mut self) {
        self.fleet.release = None;
    }

    /// Pushes a firmware to one device by hand: no conditions, no penalties, `deployment_id` null. A device in the
    /// automatic mode gets no more updates by itself then. False when no such device is there.
    pub fn push_update(&mut self, now_ms: u64, identifier: &str, release: &Release) -> bool {
        let conn = self.fleet.find(identifier).and_then(|id| self.fleet.conn(id));
        let Some(conn) = conn.filter(|conn| self.is_joined(*conn)) else { return false };
        if self.device_of(conn).is_some_and(|device| device.update_mode == UpdateMode::Automatic) {
            self.change_mode(now_ms, conn, UpdateMode::Off);
            self.tell_mode(conn);
        }
        self.send_update(now_ms, conn, release, None);
        true
    }

    /// Sends what a device asked for, or that it got none for its failures.
    pub(super) fn send_requested(&mut self, now_ms: u64, conn: ConnId) {
        let Some(release) = self.fleet.release.clone() else { return };
        if self.exhausted(now_ms, conn) {
            let nothing = json!({"update_available": false, "firmware_url": null, "firmware_meta": null});
            self.send(conn, &Value::Null, &Value::Null, "device", "update", &nothing);
        } else {
            let deployment = Some(self.fleet.deployment_id);
            self.send_update(now_ms, conn, &release, deployment);
        }
    }

    /// Whether another update of the group may be in flight.
    pub(super) fn has_slot(&self) -> bool {
        let in_flight = || self.fleet.devices.values().filter(|device| device.is_updating()).count();
        self.config.concurrent_updates == 0 || in_flight() < self.config.concurrent_updates
    }

    /// Lets the orchestrator look at once.
    pub(super) fn look_again(&mut self, now_ms: u64) {
        self.fleet.offered_ms = None;
        self.fleet.mark_all(now_ms);
        self.offer(now_ms);
    }

    /// Something about the device changed, or will by then.
    pub(super) fn mark(&mut self, at_ms: u64, conn: ConnId) {
        if let Some(connection) = self.conns.get(&conn) {
            self.fleet.due.insert((at_ms, connection.device));
        }
    }

    /// Lifts a device's block and forgets its attempts, as an operator can.
    pub fn clear_penalty(&mut self, identifier: &str) {
        let Some(id) = self.fleet.find(identifier) else { return };
        if let Some(device) = self.fleet.devices.get_mut(&id) {
            device.blocked_until = None;
            device.attempts.clear();
            self.fleet.due.insert((0, id));
        }
    }

    pub(super) fn record_join(&mut self, now_ms: u64, conn: ConnId, facts: JoinFacts) {
        let Some(device) = self.device_of(conn) else { return };
        device.validated = facts.validated;
        let fwup_version = facts.fwup_version;
        let identifier = device.identifier.clone();
        // All five must be there; else nothing is recorded and the stored description stays.
        let complete = [
            &facts.meta.uuid,
            &facts.meta.product,
            &facts.meta.version,
            &facts.meta.platform,
            &facts.meta.architecture,
        ]
        .iter()
        .all(|field| !field.is_empty());
        let before = device.meta.as_ref().map(|meta| meta.uuid.clone());
        let changed = complete && before.as_deref() != Some(facts.meta.uuid.as_str());
        let mut event = None;
        if changed {
            let to = facts.meta.uuid.clone();
            let in_flight = device.in_flight.take();
            device.attempts.clear();
            device.blocked_until = None;
            if let (Some(from), Some(true)) = (before, in_flight.map(|update| update.uuid == to)) {
                event = Some(HubEvent::UpdateSucceeded { identifier, from, to });
            }
        } else if facts.currently_downloading.is_none() {
            event = device
                .in_flight
                .take()
                .map(|update| HubEvent::UpdateAbandoned { identifier, uuid: update.uuid });
        } else if let Some(update) = &mut device.in_flight {
            update.touched_ms = now_ms;
        }
        // Forgotten with what else describes the firmware, if that is not complete.
        device.fwup_version = fwup_version.filter(|_| complete);
        if complete {
            device.meta = Some(facts.meta);
        }
        if let Some(event) = event {
            self.log.push(event);
        }
        // A device that comes online makes the orchestrator look at once.
        self.fleet.offered_ms = None;
        self.mark(now_ms, conn);
    }

    /// The first sign of life after an offer counts as an attempt, whatever comes of it.
    pub(super) fn record_attempt(&mut self, now_ms: u64, conn: ConnId) {
        let Some(device) = self.device_of(conn) else { return };
        let Some(update) = &mut device.in_flight else { return };
        update.touched_ms = now_ms;
        if !update.counted {
            update.counted = true;
            device.attempts.push(now_ms);
        }
    }

    pub(super) fn record_status(&mut self, now_ms: u64, conn: ConnId, status: &str, delay: Option<i64>) {
        self.record_attempt(now_ms, conn);
        let penalty = self.penalty_ms();
        let Some(device) = self.device_of(conn) else { return };
        let (until, why) = match (status, delay) {
            ("failed", _) => (now_ms.saturating_add(penalty), "failed"),
            ("ignored", _) => (now_ms.saturating_add(penalty), "ignored"),
            ("rescheduled", Some(delay)) => {
                (now_ms.saturating_add(u64::try_from(delay).unwrap_or(0)), "rescheduled")
            }
            _ => return,
        };
        // Only an update of the deployment group has consequences.
        let automatic = device.in_flight.take().is_some_and(|update| !update.manual);
        if automatic {
            device.blocked_until = Some(until);
            let identifier = device.identifier.clone();
            self.log.push(HubEvent::Blocked { identifier, until_ms: until, why });
        }
        self.mark(if automatic { until } else { now_ms }, conn);
    }

    /// Forgets updates of these devices not heard of for thirty minutes.
    fn expire(&mut self, now_ms: u64, devices: &[DeviceId]) {
        for id in devices {
            let Some(device) = self.fleet.devices.get_mut(id) else { continue };
            let end = |update: &InFlight| update.touched_ms.saturating_add(IN_FLIGHT_MS);
            if let Some(update) = device.in_flight.take_if(|update| end(update) <= now_ms) {
                let identifier = device.identifier.clone();
                self.log.push(HubEvent::UpdateExpired { identifier, uuid: update.uuid });
            } else if let Some(update) = &device.in_flight {
                self.fleet.due.insert((end(update), *id));
            }
        }
    }

    /// One round of the orchestrator.
    pub(super) fn offer(&mut self, now_ms: u64) {
        let interval = self.config.offer_interval_ms;
        if self.fleet.offered_ms.is_some_and(|last| now_ms.saturating_sub(last) < interval) {
            return;
        }
        if self.fleet.due.first().is_none_or(|(due, _)| *due > now_ms) {
            return;
        }
        let devices = self.fleet.take_due(now_ms);
        self.expire(now_ms, &devices);
        let Some(release) = self.fleet.release.clone() else { return };
        self.fleet.offered_ms = Some(now_ms);
        let deployment = Some(self.fleet.deployment_id);
        for id in devices {
            let Some(conn) = self.fleet.conn(id).filter(|conn| self.is_joined(*conn)) else { continue };
            if !self.has_slot() {
                // One may be free at any round to come.
                self.mark(now_ms.saturating_add(interval.max(1)), conn);
            } else if self.qualifies(now_ms, conn, &release) {
                self.send_update(now_ms, conn, &release, deployment);
            }
        }
    }

    fn qualifies(&mut self, now_ms: u64, conn: ConnId, release: &Release) -> bool {
        let Some(device) = self.device_of(conn) else { return false };
        if !device.runs_other_than(release)
            || device.validated == Some(false)
            || device.is_updating()
            || device.update_mode != UpdateMode::Automatic
        {
            return false;
        }
        if let Some(until) = device.blocked_until.filter(|until| now_ms < *until) {
            self.mark(until, conn);
            return false;
        }
        !self.exhausted(now_ms, conn)
    }

    /// Whether a device had its attempts; it is blocked then.
    fn exhausted(&mut self, now_ms: u64, conn: ConnId) -> bool {
        let penalty = self.penalty_ms();
        let (threshold, amount) = (self.config.failure_threshold, self.config.failure_rate_amount);
        let window = self.config.failure_rate_seconds.saturating_mul(1000);
        let Some(device) = self.device_of(conn) else { return false };
        let recent = device.attempts.iter().filter(|at| now_ms.saturating_sub(**at) <= window).count();
        if device.attempts.len() < threshold && recent < amount {
            return false;
        }
        // The list stays: after the block the device is blocked again at its next turn, as it is at
        // the real server.
        let until = now_ms.saturating_add(penalty);
        device.blocked_until = Some(until);
        let identifier = device.identifier.clone();
        self.log.push(HubEvent::Blocked { identifier, until_ms: until, why: "attempts" });
        self.mark(until, conn);
        true
    }

    fn send_update(&mut self, now_ms: u64, conn: ConnId, release: &Release, deployment: Option<u64>) {
        // What a person pushes is the whole firmware.
        let for_device = deployment.map(|_| self.for_device(conn, release));
        let release = for_device.as_ref().unwrap_or(release);
        let fields = self.config.update_fields;
        let payload = UpdatePayload {
            update_available: true,
            firmware_url: &release.url,
            firmware_meta: &release.meta,
            size: fields.size.then_some(release.size),
            checksum: fields.checksum.then_some(release.checksum.as_str()),
            partials_checksums: fields.partials.then_some(release.partials.as_slice()),
            deployment_id: deployment,
        };
        self.send(conn, &Value::Null, &Value::Null, "device", "update", &payload);
        let Some(device) = self.device_of(conn) else { return };
        let uuid = release.meta.uuid.clone();
        device.in_flight = Some(InFlight {
            uuid: uuid.clone(),
            touched_ms: now_ms,
            counted: false,
            manual: deployment.is_none(),
        });
        let identifier = device.identifier.clone();
        let version = release.meta.version.clone();
        self.log.push(HubEvent::Offered { identifier, uuid, version });
        self.mark(now_ms.saturating_add(IN_FLIGHT_MS), conn);
    }

    fn penalty_ms(&self) -> u64 {
        self.config.penalty_timeout_minutes.saturating_mul(60_000)
    }
}
