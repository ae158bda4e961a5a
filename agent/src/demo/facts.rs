//! What the story has learned so far, from the device and from the hub.

use nerves_hub_link_testkit::hub::HubEvent;

use super::screen::{Bar, Screen, Who};
use crate::record::Record;
use crate::words::bytes;

/// What is known.
#[derive(Debug, Default)]
pub struct Facts {
    /// Joins of the device channel: firmware UUID and whether it was validated.
    pub joins: Vec<(String, Option<bool>)>,
    /// How far the download is.
    pub downloaded: u8,
    /// How far the writing is.
    pub written: u8,
    /// How often a download broke.
    pub interrupted: u32,
    /// The furthest byte a download was resumed at.
    pub resumed_at: u64,
    /// Why the device says the update failed.
    pub failed: Option<String>,
    /// Whether the hub heard of it. Only the device knows why.
    pub failed_at_hub: bool,
    /// The device was asked which one it is, over the connection it has.
    pub identified: bool,
    /// The device asked to be restarted.
    pub reboot: bool,
    /// The device's process has ended; what it complained of.
    pub ended: Option<String>,
    /// The hub counts the update as a success.
    pub succeeded: bool,
    /// The hub was told that the new firmware is good.
    pub validated: bool,
    /// Peak memory of the device above idle, in KiB.
    pub memory_kib: Option<u64>,
}

impl Facts {
    /// Forgets what was true of the last process of the device.
    pub fn device_starts(&mut self) {
        self.reboot = false;
        self.ended = None;
        self.downloaded = 0;
        self.written = 0;
    }

    /// Learns from the device, and shows it.
    pub fn device(&mut self, record: &Record, screen: &mut Screen) {
        let percent = record.percent.unwrap_or(0);
        match record.kind.as_str() {
            "downloading" => {
                self.downloaded = percent;
                return screen.progress(Bar::Download, percent);
            }
            "updating" => {
                self.written = percent;
                return screen.progress(Bar::Write, percent);
            }
            "interrupted" => self.interrupted += 1,
            // Other kinds of records have no figures.
            "download" => self.resumed_at = self.resumed_at.max(record.number.unwrap_or(0)),
            "failed" | "update-refused" => self.failed = Some(record.text.clone()),
            "identify" => self.identified = true,
            "reboot" => self.reboot = true,
            "memory" => self.memory_kib = self.memory_kib.max(record.number),
            // The hub offers extensions, which this version doesn't know; no news for an onlooker.
            "unknown" => return,
            _ => {}
        }
        screen.line(Who::Device, &record.text);
    }

    /// Learns from the hub, and shows what the device's own words don't say.
    pub fn hub(&mut self, event: &HubEvent, screen: &Screen) {
        let said = match event {
            HubEvent::Joined { uuid, version, validated, .. } => {
                self.joins.push((uuid.clone(), *validated));
                let trust = match validated {
                    Some(true) => "validated",
                    Some(false) => "not validated yet",
                    None => "validation unknown",
                };
                format!("device joined with firmware {version}, {trust}")
            }
            HubEvent::Offered { version, .. } => format!("offered firmware {version}"),
            HubEvent::Download { status, from, .. } => {
                format!("answered a download from {} with {status}", bytes(*from))
            }
            HubEvent::Status { status, reason, .. } => {
                if status == "failed" {
                    self.failed_at_hub = true;
                }
                let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                format!("told: {status}{reason}")
            }
            HubEvent::UpdateSucceeded { .. } => {
                self.succeeded = true;
                "counts the update as a success".to_owned()
            }
            HubEvent::UpdateAbandoned { .. } => "notes that the update was broken off".to_owned(),
            HubEvent::Validated { .. } => {
                self.validated = true;
                "told: the new firmware is good".to_owned()
            }
            HubEvent::ChannelCrashed { why, .. } => format!("channel crashed over a message: {why}"),
            HubEvent::Undecodable { .. } => "could not read a message of the device".to_owned(),
            _ => return,
        };
        screen.line(Who::Hub, &said);
    }
}
