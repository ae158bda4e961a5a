//! Every attack, and one blow of each.

use serde_json::{Value, json};

use super::{Victim, archives};
use crate::firmware::FirmwareArchive;
use crate::hub::Release;
use crate::meta::FirmwareMeta;
use crate::server::{Firmware, Garbage, HubServer, Mischief, Times};

/// The version that every disguised offer announces.
pub const ANNOUNCED: &str = "9.9.9";

/// Frames of one blow of [`Attack::LogFlood`].
const FLOOD: usize = 2_000;

/// Sizes that no file has: 2^64, a negative one, a fraction of infinity, none at all.
const SIZES: [&str; 5] = ["18446744073709551616", "-1", "1e300", "0", "0.5"];

/// Newline with a false line, ANSI colours, C1, bidirectional override, line separator, backspaces.
const CONTROLS: &str =
    "9.9.9\n2026-01-01 marked good\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m\u{202e}evil\u{2028}\u{8}\u{8}\0";

/// What a hostile server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attack {
    /// Offers an old archive of this device as a new version.
    Rollback,
    /// The same, padded to the announced size with an entry that the manifest does not list, without a checksum.
    PaddedRollback,
    /// Offers an archive of another product as this device's.
    OtherProduct,
    /// Offers an archive of another platform as this device's.
    OtherPlatform,
    /// Offers an archive of another architecture as this device's.
    OtherArchitecture,
    /// Pushes an archive of another platform by hand, and says so.
    PushedOtherPlatform,
    /// Offers one broken archive again and again, each time under a UUID of its own.
    NewUuids,
    /// Offers broken archives whose offers are true, each another.
    BrokenArchives,
    /// Orders a reboot after every join.
    Reboots,
    /// Sends a firmware that never ends.
    EndlessFirmware,
    /// Sends an archive of the deployment that never ends.
    EndlessArchive,
    /// Announces sizes that no file has.
    Sizes,
    /// Offers one archive of the deployment after another.
    ManyArchives,
    /// Sends messages that no device understands.
    LogFlood,
    /// Puts control characters into everything that has a name.
    Controls,
    /// Sends firmware addresses inside the device's own network.
    InsideAddresses,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Rollback,
        Self::PaddedRollback,
        Self::OtherProduct,
        Self::OtherPlatform,
        Self::OtherArchitecture,
        Self::PushedOtherPlatform,
        Self::NewUuids,
        Self::BrokenArchives,
        Self::Reboots,
        Self::EndlessFirmware,
        Self::EndlessArchive,
        Self::Sizes,
        Self::ManyArchives,
        Self::LogFlood,
        Self::Controls,
        Self::InsideAddresses,
    ];

    /// Whether an update of this attack can get as far as the spare slot: its manifest is genuine and fits its offer.
    pub fn may_write(self) -> bool {
        matches!(self, Self::BrokenArchives | Self::EndlessFirmware)
    }

    /// Whether each blow is an update, which ends with a report of the device.
    pub(super) fn is_update(self) -> bool {
        !self.is_repeated()
    }

    /// Whether a blow needs no answer before the next.
    pub(super) fn is_repeated(self) -> bool {
        matches!(self, Self::Reboots | Self::EndlessArchive | Self::ManyArchives | Self::LogFlood)
    }

    /// What goes wrong all the time.
    pub(super) fn prepare(self, hub: &HubServer) {
        if matches!(self, Self::EndlessFirmware | Self::EndlessArchive) {
            hub.mischief(Mischief::EndlessBody, Times::UntilCleared);
        }
    }

    /// Strikes once. A device that left meanwhile is spared.
    pub(super) fn strike(self, hub: &HubServer, victim: &Victim, round: u32) {
        let _ = self.blow(hub, victim, round);
    }

    fn blow(self, hub: &HubServer, victim: &Victim, round: u32) -> Option<()> {
        let own = |version: &str| archives::genuine(victim, version);
        match self {
            Self::Rollback => disguise(hub, victim, &own("0.9.0")?, round),
            Self::PaddedRollback => {
                let old = own("0.9.0")?;
                let size = old.bytes().ok()?.len() + 10_000;
                let bytes = archives::padded(&old, size)?;
                let release = hub.host(Firmware::from_bytes(bytes, disguise_of(victim, round)).ok()?);
                let mut offer = offer(&release);
                offer.as_object_mut()?.remove("checksum");
                update(hub, victim, &offer)
            }
            Self::OtherProduct => {
                let other =
                    archives::of(victim, "other-product", &victim.platform, &victim.architecture, "1.5.0")?;
                disguise(hub, victim, &other, round)
            }
            Self::OtherPlatform => {
                let other =
                    archives::of(victim, &victim.product, "other-board", &victim.architecture, "1.5.0")?;
                disguise(hub, victim, &other, round)
            }
            Self::OtherArchitecture => {
                let other = archives::of(victim, &victim.product, &victim.platform, "other-cpu", "1.5.0")?;
                disguise(hub, victim, &other, round)
            }
            Self::PushedOtherPlatform => {
                let other =
                    archives::of(victim, &victim.product, "other-board", &victim.architecture, "1.5.0")?;
                let firmware = Firmware::from_archive(&other).ok()?.without_public_keys();
                hub.push_update(&victim.identifier, firmware).then_some(())
            }
            Self::NewUuids => {
                let bytes = archives::broken(&own("1.5.0")?)?;
                let release = hub.host(Firmware::from_bytes(bytes, disguise_of(victim, round)).ok()?);
                update(hub, victim, &offer(&release))
            }
            Self::BrokenArchives => {
                let archive = own(&format!("1.5.{round}"))?;
                let bytes = archives::broken(&archive)?;
                let release = hub.host(Firmware::from_bytes(bytes, archive.meta).ok()?);
                update(hub, victim, &offer(&release))
            }
            Self::Reboots => hub
                .with_hub(|hub, _| hub.say(&victim.identifier, "device", "reboot", &json!({})))
                .then_some(()),
            Self::EndlessFirmware => {
                let release = hub.host(Firmware::from_archive(&own("1.5.0")?).ok()?.without_public_keys());
                let mut offer = offer(&release);
                for name in ["size", "checksum", "partials_checksums"] {
                    offer.as_object_mut()?.remove(name);
                }
                update(hub, victim, &offer)
            }
            Self::Sizes => {
                let release = hub.host(Firmware::from_archive(&own("1.5.0")?).ok()?.without_public_keys());
                let mut offer = offer(&release);
                let size = SIZES.get(usize::try_from(round).ok()? % SIZES.len())?;
                *offer.get_mut("size")? = serde_json::from_str(size).ok()?;
                update(hub, victim, &offer)
            }
            Self::EndlessArchive | Self::ManyArchives => {
                let archive = own(&format!("1.5.{round}"))?;
                hub.offer_archive(Firmware::from_archive(&archive).ok()?);
                Some(())
            }
            Self::LogFlood => {
                for _ in 0..FLOOD / 4 {
                    hub.send_garbage(&Garbage::UnknownEvent);
                    hub.send_garbage(&Garbage::WrongPayload);
                    hub.send_garbage(&Garbage::UnknownTopic);
                    hub.send_garbage(&Garbage::InvalidJson);
                }
                Some(())
            }
            Self::Controls => controls(hub, victim, round),
            Self::InsideAddresses => {
                const INSIDE: [&str; 6] = [
                    "https://169.254.169.254/latest/meta-data",
                    "https://[fe80::1]/f.fw",
                    "https://[::ffff:169.254.169.254]/f.fw",
                    "https://0.0.0.0/f.fw",
                    "https://224.0.0.1/f.fw",
                    "https://255.255.255.255/f.fw",
                ];
                let release = hub.host(Firmware::from_archive(&own("1.5.0")?).ok()?.without_public_keys());
                let mut offer = offer(&release);
                *offer.get_mut("firmware_url")? =
                    json!(INSIDE.get(usize::try_from(round).ok()? % INSIDE.len())?);
                update(hub, victim, &offer)
            }
        }
    }
}

/// What the attacker says about an archive: this device's next version, under a UUID that was never seen.
fn disguise_of(victim: &Victim, round: u32) -> FirmwareMeta {
    FirmwareMeta {
        version: ANNOUNCED.to_owned(),
        product: victim.product.clone(),
        platform: victim.platform.clone(),
        architecture: victim.architecture.clone(),
        uuid: format!("0000{round:04}-1111-2222-3333-444444444444"),
        ..FirmwareMeta::default()
    }
}

fn disguise(hub: &HubServer, victim: &Victim, archive: &FirmwareArchive, round: u32) -> Option<()> {
    let bytes = archive.bytes().ok()?;
    let release = hub.host(Firmware::from_bytes(bytes, disguise_of(victim, round)).ok()?);
    update(hub, victim, &offer(&release))
}

/// The payload of `update` (device-protocol §6.1).
fn offer(release: &Release) -> Value {
    json!({
        "update_available": true,
        "firmware_url": release.url,
        "firmware_meta": release.meta,
        "size": release.size,
        "checksum": release.checksum,
        "partials_checksums": release.partials,
        "deployment_id": 1,
    })
}

fn update(hub: &HubServer, victim: &Victim, offer: &Value) -> Option<()> {
    hub.with_hub(|hub, _| hub.say(&victim.identifier, "device", "update", offer)).then_some(())
}

fn controls(hub: &HubServer, victim: &Victim, round: u32) -> Option<()> {
    let archive = archives::genuine(victim, "0.9.0")?;
    let meta = FirmwareMeta {
        version: CONTROLS.to_owned(),
        uuid: format!("{CONTROLS}{round}"),
        description: Some(CONTROLS.to_owned()),
        ..disguise_of(victim, round)
    };
    let release = hub.host(Firmware::from_bytes(archive.bytes().ok()?, meta).ok()?);
    let mut offer = offer(&release);
    // The path of a served file has its UUID in it, which is no address here.
    *offer.get_mut("firmware_url")? = json!(hub.http_url("/nothing/here.fw"));
    hub.with_hub(|hub, _| {
        let name = &victim.identifier;
        hub.say(name, "device", &format!("dance{CONTROLS}"), &json!({"with": CONTROLS}));
        hub.say(name, "extensions", "attach", &json!({"extensions": [CONTROLS]}));
        hub.say(name, "device", "archive", &json!({"uuid": CONTROLS, "version": CONTROLS, "url": CONTROLS}));
    });
    update(hub, victim, &offer)?;
    if round % 3 == 2 {
        hub.close_all(4000, "bye\u{1b}[2J\n2026-01-01 marked good\u{202e}");
    }
    Some(())
}
