//! What the hub orders and what it notes down.

use std::collections::VecDeque;

use crate::limits::EVENT_LOG;

/// Number of one WebSocket connection; the caller's to give, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// Number of one device in the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceId(pub u64);

/// An order to whoever moves the hub's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubOutput {
    /// Send this text message.
    Send {
        /// Where to.
        conn: ConnId,
        /// The message.
        text: String,
    },
    /// Send this binary message, to a connection that speaks MessagePack.
    SendBinary {
        /// Where to.
        conn: ConnId,
        /// The message.
        data: Vec<u8>,
    },
    /// Send a close frame and end the connection at once. The hub has forgotten it already.
    Close {
        /// Which one.
        conn: ConnId,
        /// The close code.
        code: u16,
        /// The reason; the real server always leaves it empty.
        reason: String,
    },
}

/// Something that happened at the hub, in the order it happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum HubEvent {
    /// An upgrade was refused.
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// A device's socket is open.
    Connected {
        /// Which connection.
        conn: ConnId,
        /// Which device.
        identifier: String,
    },
    /// A device's socket is gone.
    Disconnected {
        /// Which connection.
        conn: ConnId,
        /// Which device.
        identifier: String,
        /// The close code when the hub closed it, absent when the device or the network did.
        code: Option<u16>,
    },
    /// The device channel was joined.
    Joined {
        /// Which device.
        identifier: String,
        /// `nerves_fw_uuid`, empty when it sent none.
        uuid: String,
        /// `nerves_fw_version`, empty when it sent none.
        version: String,
        /// `meta.firmware_validated`; `None` is unknown.
        validated: Option<bool>,
        /// `meta.firmware_auto_revert_detected`.
        auto_revert_detected: bool,
        /// `currently_downloading_uuid`, when it is a text that is not empty.
        currently_downloading: Option<String>,
        /// `fwup_version`, when it is a text that is not empty.
        fwup_version: Option<String>,
    },
    /// A join was refused.
    JoinRefused {
        /// Which device.
        identifier: String,
        /// The topic asked for.
        topic: String,
        /// The reason in the reply.
        reason: String,
    },
    /// The extensions channel was joined.
    ExtensionsJoined {
        /// Which device.
        identifier: String,
        /// The names in the reply.
        attached: Vec<String>,
    },
    /// An extension sent something.
    Extension {
        /// Which device.
        identifier: String,
        /// The event, for example `health:report`.
        event: String,
        /// What came with it.
        payload: serde_json::Value,
    },
    /// What an extension sent was dropped, in whole or in part.
    ExtensionDropped {
        /// Which device.
        identifier: String,
        /// The event, for example `logging:send`.
        event: String,
        /// Entries dropped; 0 for the whole message.
        entries: usize,
        /// Why.
        why: &'static str,
    },
    /// The device's console said something: `up`, or a part of a file.
    Console {
        /// Which device.
        identifier: String,
        /// The event.
        event: String,
        /// What came with it.
        payload: serde_json::Value,
    },
    /// The answer to a script.
    ScriptAnswered {
        /// Which device.
        identifier: String,
        /// The answer: `ref`, `result`, `output`, `return` or `reason`.
        payload: serde_json::Value,
    },
    /// The device named the kinds of its connection.
    ConnectionTypes {
        /// Which device.
        identifier: String,
        /// The kinds, as they came.
        values: serde_json::Value,
    },
    /// Who decides about a device's updates changed.
    UpdateMode {
        /// Which device.
        identifier: String,
        /// The mode now.
        mode: super::UpdateMode,
    },
    /// A device asked for an update and got none.
    UpdateRejected {
        /// Which device.
        identifier: String,
        /// The reason it was given.
        reason: &'static str,
    },
    /// An update was offered.
    Offered {
        /// Which device.
        identifier: String,
        /// The firmware's UUID.
        uuid: String,
        /// The firmware's version.
        version: String,
    },
    /// A `status_update`.
    Status {
        /// Which device.
        identifier: String,
        /// One of the names of device-protocol §3.5.
        status: String,
        /// The reason, when one was given.
        reason: Option<String>,
        /// `delay_for` of a reschedule, in milliseconds as the server reads it.
        delay_for: Option<i64>,
        /// `downloader_network_interface` of `started`.
        interface: Option<String>,
    },
    /// A `fwup_progress` or `update_progress`.
    Progress {
        /// Which device.
        identifier: String,
        /// `downloading` or `updating`, absent in the old form.
        stage: Option<String>,
        /// Percent.
        value: i64,
    },
    /// A device that an update was offered to joined with the offered firmware.
    UpdateSucceeded {
        /// Which device.
        identifier: String,
        /// The UUID it ran before.
        from: String,
        /// The UUID it runs now.
        to: String,
    },
    /// A device joined with its old firmware and without saying that it still downloads
    /// (device-protocol A14).
    UpdateAbandoned {
        /// Which device.
        identifier: String,
        /// The UUID that was offered.
        uuid: String,
    },
    /// An offer was not heard of for thirty minutes.
    UpdateExpired {
        /// Which device.
        identifier: String,
        /// The UUID that was offered.
        uuid: String,
    },
    /// The device gets no offers until then.
    Blocked {
        /// Which device.
        identifier: String,
        /// The hub's time in milliseconds.
        until_ms: u64,
        /// Why: `failed`, `ignored`, `rescheduled` or `attempts`.
        why: &'static str,
    },
    /// The running firmware was validated.
    Validated {
        /// Which device.
        identifier: String,
    },
    /// The device is about to reboot because it was asked to.
    Rebooting {
        /// Which device.
        identifier: String,
    },
    /// The device named the network interface it uses.
    NetworkInterface {
        /// Which device.
        identifier: String,
        /// Its name, when it was a text.
        interface: Option<String>,
    },
    /// A channel crashed over a message and was closed with `phx_error`.
    ChannelCrashed {
        /// Which device.
        identifier: String,
        /// The channel.
        topic: String,
        /// What it crashed over.
        why: String,
    },
    /// A message that the real server ignores as well.
    Ignored {
        /// Which device.
        identifier: String,
        /// The topic.
        topic: String,
        /// The event.
        event: String,
    },
    /// A message that could not be read; the socket was closed with 1011.
    Undecodable {
        /// Which device.
        identifier: String,
    },
    /// A heartbeat.
    Heartbeat {
        /// Which device.
        identifier: String,
    },
    /// A firmware request was answered; the body may follow.
    Download {
        /// The path asked for, without the query.
        path: String,
        /// The status of the answer.
        status: u16,
        /// The first byte asked for.
        from: u64,
    },
}

/// The events so far. Holds the newest [`EVENT_LOG`]; positions count from the first ever.
#[derive(Debug, Default)]
pub(crate) struct EventLog {
    events: VecDeque<HubEvent>,
    dropped: u64,
}

impl EventLog {
    pub fn push(&mut self, event: HubEvent) {
        if self.events.len() >= EVENT_LOG {
            self.events.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.events.push_back(event);
    }

    /// The event at `position` or the first one still held after it, and its position.
    pub fn at(&self, position: u64) -> Option<(u64, &HubEvent)> {
        let position = position.max(self.dropped);
        let index = usize::try_from(position.saturating_sub(self.dropped)).ok()?;
        self.events.get(index).map(|event| (position, event))
    }

    /// Takes the oldest event out.
    pub fn take(&mut self) -> Option<HubEvent> {
        let event = self.events.pop_front()?;
        self.dropped = self.dropped.saturating_add(1);
        Some(event)
    }

    pub fn iter(&self) -> impl Iterator<Item = &HubEvent> {
        self.events.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_keeps_the_newest_at_and_past_its_limit() {
        let mut log = EventLog::default();
        for n in 0..EVENT_LOG {
            log.push(HubEvent::Refused { status: u16::try_from(n % 600).unwrap() });
        }
        assert_eq!(log.at(0).unwrap().0, 0);
        log.push(HubEvent::Refused { status: 999 });
        assert_eq!(log.at(0).unwrap().0, 1);
        assert_eq!(log.iter().count(), EVENT_LOG);
        assert_eq!(log.at(EVENT_LOG as u64).unwrap().1, &HubEvent::Refused { status: 999 });
    }
}
