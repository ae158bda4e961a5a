//! What people do at the hub.

use serde_json::{Value, json};

use super::config::Archive;
use super::event::ConnId;
use super::machine::Hub;
use super::managed::UpdateMode;

impl Hub {
    /// Sends an event to a device's console, for example `dn` or `window_size`. False when it isn't joined.
    pub fn console(&mut self, identifier: &str, event: &str, payload: &Value) -> bool {
        self.say_to(identifier, "console", event, payload)
    }

    /// Sends an event to a device's extension, for example `local_shell:shell_input`. False when the channel isn't
    /// joined.
    pub fn extension(&mut self, identifier: &str, event: &str, payload: &Value) -> bool {
        self.say_to(identifier, "extensions", event, payload)
    }

    /// Sends any event on any channel to a device. False when the channel isn't joined.
    pub fn say(&mut self, identifier: &str, topic: &str, event: &str, payload: &Value) -> bool {
        self.say_to(identifier, topic, event, payload)
    }

    /// Runs a script on a device. Below level 2.1.0 its text is typed into the console. False when nobody listens.
    pub fn run_script(&mut self, identifier: &str, reference: &str, text: &str) -> bool {
        let Some(conn) = self.conn_named(identifier) else { return false };
        let new = self.conns.get(&conn).is_some_and(|connection| connection.api_version >= (2, 1, 0));
        if new {
            self.say_to(identifier, "device", "scripts/run", &json!({"ref": reference, "text": text}))
        } else {
            self.say_to(identifier, "console", "dn", &json!({"data": text}))
        }
    }

    /// Sets the script that a device runs after every join.
    pub fn set_connecting_code(&mut self, identifier: &str, code: Option<&str>) {
        if let Some(device) = self.fleet.named(identifier) {
            device.connecting_code = code.map(str::to_owned);
        }
    }

    /// Sets the archive of the deployment group: every device is told, now and at each join.
    pub fn set_archive(&mut self, archive: Option<Archive>) {
        self.archive = archive;
        for conn in self.joined() {
            self.send_archive(conn);
        }
    }

    /// Lets a device put itself into the device-managed mode, or no longer.
    pub fn allow_managed_updates(&mut self, identifier: &str, allowed: bool) {
        let Some(device) = self.fleet.named(identifier) else { return };
        if core::mem::replace(&mut device.managed_updates_allowed, allowed) != allowed
            && let Some(conn) = self.conn_named(identifier)
        {
            self.tell_mode(conn);
        }
    }

    /// Sets who decides about a device's updates.
    pub fn set_update_mode(&mut self, now_ms: u64, identifier: &str, mode: UpdateMode) {
        match self.conn_named(identifier) {
            Some(conn) => {
                self.change_mode(now_ms, conn, mode);
                self.tell_mode(conn);
            }
            None => {
                if let Some(device) = self.fleet.named(identifier) {
                    device.update_mode = mode;
                }
            }
        }
    }

    /// Who decides about a device's updates.
    pub fn update_mode(&mut self, identifier: &str) -> Option<UpdateMode> {
        self.fleet.named(identifier).map(|device| device.update_mode)
    }

    /// Switches an extension on or off for one device, which is told at once.
    pub fn set_device_extension(&mut self, identifier: &str, name: &str, on: bool) {
        let Some(device) = self.fleet.named(identifier) else { return };
        let changed = if on {
            device.extensions_off.remove(name)
        } else {
            device.extensions_off.insert(name.to_owned())
        };
        if changed && let Some(conn) = self.conn_named(identifier) {
            self.tell_extension(conn, name, on);
        }
    }

    /// Switches an extension on or off for the product; every device that offered it is told at once.
    pub fn set_product_extension(&mut self, name: &str, on: bool) {
        let has = self.config.extensions.iter().any(|known| known == name);
        if has == on {
            return;
        }
        if on {
            self.config.extensions.push(name.to_owned());
        } else {
            self.config.extensions.retain(|known| known != name);
        }
        for conn in self.joined() {
            self.tell_extension(conn, name, on);
        }
    }

    fn tell_extension(&mut self, conn: ConnId, name: &str, on: bool) {
        let offered = self.conns.get(&conn).is_some_and(|connection| connection.offered.contains_key(name));
        let wanted = !on || self.attachable(conn).iter().any(|allowed| allowed == name);
        if offered && wanted {
            if on && let Some(connection) = self.conns.get_mut(&conn) {
                connection.agreed.insert(name.to_owned());
            }
            let event = if on { "attach" } else { "detach" };
            self.push_to_topic(conn, "extensions", event, &json!({"extensions": [name]}));
        }
    }

    pub(super) fn send_archive(&mut self, conn: ConnId) {
        let Some(archive) = self.archive.clone() else { return };
        let off = self.device_of(conn).is_some_and(|device| device.update_mode == UpdateMode::Off);
        let new = self.conns.get(&conn).is_some_and(|connection| connection.api_version >= (2, 0, 0));
        if new && !off {
            self.send(conn, &Value::Null, &Value::Null, "device", "archive", &archive);
        }
    }

    /// Sends with the reference of the topic's join, as all but broadcasts are. False when it isn't joined.
    pub(super) fn push_to_topic(&mut self, conn: ConnId, topic: &str, event: &str, payload: &Value) -> bool {
        let join_ref = self.conns.get(&conn).and_then(|connection| connection.topics.get(topic).cloned());
        let Some(join_ref) = join_ref else { return false };
        self.send(conn, &join_ref, &Value::Null, topic, event, payload);
        true
    }

    fn say_to(&mut self, identifier: &str, topic: &str, event: &str, payload: &Value) -> bool {
        self.conn_named(identifier).is_some_and(|conn| self.push_to_topic(conn, topic, event, payload))
    }

    fn conn_named(&self, identifier: &str) -> Option<ConnId> {
        self.fleet.find(identifier).and_then(|device| self.fleet.conn(device))
    }
}
