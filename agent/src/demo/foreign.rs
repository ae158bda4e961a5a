//! An archive of the user's, and the disk that its own task `complete` makes.

use std::fs::File;
use std::path::{Path, PathBuf};

use fwup_stream::archive::{ArchiveReader, ArchiveStart, Purpose, SignatureState, StartProgress};
use fwup_stream::disk::{FileTarget, OpenOptions};
use fwup_stream::manifest::Manifest;
use fwup_stream::{Applier, ApplyOptions};
use nerves_hub_link_platform::identity::FirmwareInfo;
use nerves_hub_link_platform::kv::{KeyValueStore, Pairs};
use nerves_hub_link_testkit::firmware::{SigningKey, Tamper, sign_archive, tamper};
use nerves_hub_link_testkit::meta::FirmwareMeta;
use nerves_hub_link_testkit::server::Firmware;

use super::Fault;
use super::screen::{Screen, Who};
use super::stage::Running;
use crate::cli::EnvLocation;
use crate::setup;

/// Variables that name the slot that boots, in the order in which they are looked for.
const SLOT_VARIABLES: [&str; 4] = ["nerves_fw_active", "active", "boot_slot", "slot"];

/// The identity of the firmware that the device pretends to run before the update.
const BEFORE: (&str, &str) = ("00000000-0000-5000-0000-000000000000", "0.0.0");

/// An archive and its disk.
pub struct Foreign {
    /// The key the device trusts.
    pub trusted: String,
    /// Where the disk's environment is.
    pub environment: EnvLocation,
    /// Whether the archive lacks what a server needs, so that its description is not what is signed.
    pub made_up: bool,
    archive: Vec<u8>,
    meta: FirmwareMeta,
    first_slot: String,
    first_resource: Option<String>,
}

impl Foreign {
    /// Reads the archive, makes the disk, and lets it say which key to trust.
    pub fn load(
        file: &Path,
        public_key: Option<&str>,
        throwaway: &SigningKey,
        disk: &Path,
        screen: &Screen,
    ) -> Result<Self, String> {
        let name = file.display();
        let mut archive = std::fs::read(file).map_err(|error| format!("can't read {name}: {error}"))?;
        let (manifest, signature) = open(&archive, file)?;
        let described = Firmware::from_file(file).map_err(|error| format!("can't read {name}: {error}"))?;
        let environment = environment(&manifest).map_err(|reason| format!("{name}: {reason}"))?;
        if !manifest.tasks.iter().any(|task| task.name.starts_with("complete")) {
            return Err(format!(
                "{name} has no task `complete`, which the demonstration makes its disk with"
            ));
        }
        let trusted = match (public_key, signature) {
            (Some(key), _) => setup::public_key(key)?,
            (None, state) => {
                let state = if state == SignatureState::Unsigned { "not signed" } else { "signed" };
                screen.line(
                    Who::Stage,
                    &format!(
                        "{name} is {state}; no --public-key given, so a copy is signed with a throw-away key"
                    ),
                );
                archive = sign_archive(&archive, throwaway)
                    .map_err(|error| format!("can't sign {name}: {error}"))?;
                throwaway.public_key()
            }
        };
        make_disk(&archive, disk).map_err(|reason| format!("{name}: can't make a disk with it: {reason}"))?;
        let (meta, made_up) = complete(described.meta, file, screen);
        let mut foreign = Self {
            trusted,
            environment,
            archive,
            meta,
            made_up,
            first_slot: String::new(),
            first_resource: manifest.resources.last().map(|resource| resource.name.clone()),
        };
        foreign.first_slot = foreign.pretend(disk)?;
        Ok(foreign)
    }

    /// Returns the firmware to deploy, spoilt as the fault asks.
    pub fn update(&self, fault: Option<Fault>) -> Result<Firmware, String> {
        let bytes = match (fault, &self.first_resource) {
            (Some(Fault::Tampered), Some(name)) => {
                tamper(&self.archive, &Tamper::Resource { name: name.clone(), offset: usize::MAX })
            }
            (Some(Fault::WrongKey), _) => sign_archive(&self.archive, &SigningKey::from_seed(7)),
            _ => Ok(self.archive.clone()),
        };
        let bytes = bytes.map_err(|error| format!("can't spoil the archive: {error}"))?;
        Firmware::from_bytes(bytes, self.meta.clone()).map_err(|error| error.to_string())
    }

    /// Reads which firmware boots from the disk's environment.
    pub fn boot(&self, disk: &Path) -> Result<Running, String> {
        let pairs = self.pairs(disk)?;
        let slot = slot(&pairs)?;
        let known = FirmwareInfo::of_slot(&pairs, &slot);
        // An archive that doesn't describe its slots: what is in the first one is the pretended firmware.
        let (uuid, version) = if slot == self.first_slot {
            BEFORE
        } else {
            (self.meta.uuid.as_str(), self.meta.version.as_str())
        };
        let or = |known: String, other: &str| if known.is_empty() { other.to_owned() } else { known };
        let identity = nerves_hub_link_platform::identity::Identity::from_pairs(&pairs);
        Ok(Running {
            slot,
            validated: identity.validated,
            meta: FirmwareMeta {
                uuid: or(known.uuid, uuid),
                version: or(known.version, version),
                product: or(known.product, &self.meta.product),
                platform: or(known.platform, &self.meta.platform),
                architecture: or(known.architecture, &self.meta.architecture),
                ..FirmwareMeta::default()
            },
        })
    }

    /// Makes the first slot look like an older firmware than the one to come.
    fn pretend(&self, disk: &Path) -> Result<String, String> {
        let pairs = self.pairs(disk)?;
        let slot = slot(&pairs)?;
        let [uuid, version] = ["uuid", "version"].map(|name| format!("{slot}.nerves_fw_{name}"));
        if pairs.contains_key(&uuid) {
            let mut store = setup::environment(disk, self.environment)?;
            store
                .update(&[(&uuid, Some(BEFORE.0)), (&version, Some(BEFORE.1))])
                .map_err(|error| format!("can't change the disk's environment: {error}"))?;
        }
        Ok(slot)
    }

    fn pairs(&self, disk: &Path) -> Result<Pairs, String> {
        setup::environment(disk, self.environment)?
            .load()
            .map_err(|error| format!("the disk doesn't boot: {error}"))
    }
}

/// Fills in what a server needs to know before it offers a firmware at all; says whether anything was missing.
fn complete(mut meta: FirmwareMeta, file: &Path, screen: &Screen) -> (FirmwareMeta, bool) {
    let FirmwareMeta { product, version, platform, architecture, .. } = &mut meta;
    let mut missing = Vec::new();
    for (name, value, filler) in [
        ("meta-product", product, "unnamed"),
        ("meta-version", version, "1.0.0"),
        ("meta-platform", platform, "unnamed"),
        ("meta-architecture", architecture, "unnamed"),
    ] {
        if value.is_empty() {
            missing.push(name);
            filler.clone_into(value);
        }
    }
    if !missing.is_empty() {
        let text = format!(
            "{} lacks {}: a NervesHub would not take it; playing on with made-up values",
            file.display(),
            missing.join(", ")
        );
        screen.line(Who::Stage, &text);
    }
    (meta, !missing.is_empty())
}

fn slot(pairs: &Pairs) -> Result<String, String> {
    SLOT_VARIABLES.iter().find_map(|name| pairs.get(*name).cloned()).ok_or_else(|| {
        format!(
            "the disk's environment has none of {}, so no one knows which slot boots",
            SLOT_VARIABLES.join(", ")
        )
    })
}

fn open(archive: &[u8], file: &Path) -> Result<(Manifest, SignatureState), String> {
    let mut reader = ArchiveReader::new();
    let mut start = ArchiveStart::new(Vec::new(), file.to_str(), Purpose::Inspect);
    let mut input = archive;
    match start.step(&mut reader, &mut input, &|_| None) {
        Ok(StartProgress::Opened(opened)) => Ok((opened.manifest, opened.signature)),
        Ok(StartProgress::NeedInput) => Err(start.finish(&mut reader).to_string()),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

fn environment(manifest: &Manifest) -> Result<EnvLocation, String> {
    let Some(environment) = manifest.environments.first() else {
        return Err("it has no uboot-environment, so its disk doesn't say which slot boots".into());
    };
    let bytes = |text: &str| text.trim().parse::<u64>().ok()?.checked_mul(512);
    let second = environment.block_offset_redund.as_deref().map(|text| bytes(text).ok_or(text));
    let (Some(offset), Ok(size), Ok(second)) =
        (bytes(&environment.block_offset), u64::try_from(environment.block_count), second.transpose())
    else {
        return Err("the place of its uboot-environment can't be read".into());
    };
    Ok(EnvLocation { offset, size: size.saturating_mul(512), second })
}

fn make_disk(archive: &[u8], disk: &Path) -> Result<(), String> {
    File::create(disk).map_err(|error| error.to_string())?;
    let mut options = ApplyOptions::default();
    options.task = "complete".into();
    // The factory trusts its own archive; what the device trusts is the point of the update.
    options.require_signature = false;
    let disk: PathBuf = disk.to_owned();
    let target = FileTarget::open(&disk, &OpenOptions::default()).map_err(|error| error.to_string())?;
    let mut applier = Applier::new(options, target).map_err(|error| error.to_string())?;
    applier.push(archive).map_err(|error| error.to_string())?;
    applier.finish().map(drop).map_err(|error| error.to_string())
}
