//! From the command line to what the device needs, with errors that say what to do.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fwup_stream::trust::PublicKey;
use nerves_hub_link_blocking::device_config;
use nerves_hub_link_platform::identity::{Identity, is_placeholder_serial};
use nerves_hub_link_platform::install::{DiskPolicy, DiskRefused};
use nerves_hub_link_platform::kv::UbootStore;
use nerves_hub_link_platform::kv::fw_env_config::{FwEnvConfig, Location};
use nerves_hub_link_platform::small_file::read_limited;
use nerves_hub_link_protocol::{
    Auth, Config, ConsoleConfig, FirmwareMeta, PartsConfig, SharedSecret, UpdateStrategy,
};
use nerves_hub_link_transport::{ClientIdentity, Roots};

use crate::archives::Known;
use crate::bounded::within;
use crate::cli::{Difference, EnvLocation, FirmwareArgs, RunArgs, Strategy};
use crate::extensions;
use crate::limits::LOCAL_MAX;
use crate::record::Recorder;

/// Largest key or certificate file read. A file of roots is a few hundred KiB.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// Reads a public key: a file that `fwup -g` made, or the text itself. Returns it as base64.
pub fn public_key(given: &str) -> Result<String, String> {
    let path = Path::new(given);
    let key = if path.exists() {
        PublicKey::from_file_bytes(&read(path)?)
            .map_err(|error| format!("the file {given} holds no public key: {error}"))?
    } else {
        PublicKey::from_text(given).map_err(|error| {
            format!(
                "--public-key {given:?} is neither a file nor a public key (44 characters of base64): {error}"
            )
        })?
    };
    Ok(STANDARD.encode(key.as_bytes()))
}

/// Reads the certificate authorities to trust.
pub fn roots(ca: Option<&Path>) -> Result<Roots, String> {
    // Not given: the system's.
    let Some(path) = ca else { return Ok(Roots::System) };
    let bytes = read(path)?;
    let pem = bytes.windows(11).any(|window| window == b"-----BEGIN ");
    let roots = if pem { Roots::Pem(bytes) } else { Roots::Der(vec![bytes]) };
    roots.check().map_err(|error| format!("{} can't be used: {error}", path.display()))?;
    Ok(roots)
}

/// Reads the certificate authorities to trust for downloads: the system's, and all that were given. Those for downloads alone
/// don't keep the device from connecting if they can't be read.
pub fn download_roots(args: &RunArgs, recorder: &Recorder) -> Result<Roots, String> {
    let mut all = vec![Roots::System];
    if let Some(path) = &args.ca {
        all.push(roots(Some(path))?);
    }
    match args.download_ca.as_deref().map(|path| roots(Some(path))) {
        Some(Ok(roots)) => all.push(roots),
        Some(Err(error)) => recorder.note(
            "preflight",
            format!(
                "--download-ca: {error}; downloads trust the system's certificate authorities and those of --ca alone. \
                 Correct the option and restart"
            ),
        ),
        None => {}
    }
    Ok(Roots::All(all))
}

/// Reads the certificate to show to the server, if one is given.
pub fn client_identity(args: &RunArgs) -> Result<Option<ClientIdentity>, String> {
    // Either both are given or a shared secret is: the command line requires it.
    debug_assert_eq!(args.cert.is_some(), args.key.is_some(), "a certificate without its key");
    let (Some(cert), Some(key)) = (&args.cert, &args.key) else { return Ok(None) };
    Ok(Some(ClientIdentity::Pem { certificates: read(cert)?, key: read(key)? }))
}

/// Builds the policy of the disk. One that is missing or can't be written may be mended: the device connects, and updates are
/// put off meanwhile. A block device that was not allowed, or what can never be a disk, is a mistake on the command line.
///
/// Returns also whether it is missing or can't be written.
pub fn disk(args: &RunArgs) -> Result<(DiskPolicy, bool), String> {
    let disk = policy(args);
    match disk.check() {
        Err(error @ DiskRefused::BlockDevice { .. }) => {
            Err(format!("--disk: {error} (here: --allow-block-device)"))
        }
        Err(error @ DiskRefused::NotADisk { .. }) => Err(format!("--disk: {error}")),
        Ok(()) => Ok((disk, false)),
        Err(_) => Ok((disk, true)),
    }
}

/// Builds the policy without looking at the disk.
pub fn policy(args: &RunArgs) -> DiskPolicy {
    DiskPolicy::new(&args.disk).allow_block_device(args.allow_block_device)
}

/// Builds the store of the disk's U-Boot environment.
pub fn environment(disk: &Path, at: EnvLocation) -> Result<UbootStore, String> {
    let refused = |problem: &dyn std::fmt::Display| format!("--uboot-env {at}: {problem}");
    // What does not fit into memory is larger than any environment.
    let size = usize::try_from(at.size).unwrap_or(usize::MAX);
    let place = |offset| Location { path: disk.to_owned(), offset, size };
    let config = FwEnvConfig::new(place(at.offset), at.second.map(place));
    Ok(UbootStore::new(config.map_err(|error| refused(&error))?))
}

/// Builds the machine's settings.
pub fn config(args: &RunArgs, identity: &Identity, recorder: &Arc<Recorder>) -> Result<Config, String> {
    let auth = match (&args.cert, &args.serial, &args.product_key, &args.secret) {
        (Some(_), ..) => Auth::Certificate,
        (None, Some(serial), ..) if is_placeholder_serial(serial) => {
            return Err(format!(
                "--serial {serial:?} is a placeholder, no identifier: devices that share it would all be one device on the \
                 server; give this device a serial number of its own (NERVES_HUB_SERIAL or --serial)"
            ));
        }
        (None, Some(serial), Some(key), Some(secret)) => {
            Auth::SharedSecret(SharedSecret::new(key.clone(), secret.expose(), serial.clone()))
        }
        _ => return Err("give --serial, --product-key and the secret (--product-secret-file, NERVES_HUB_PRODUCT_SECRET), or --cert and --key".into()),
    };
    let mut config = device_config(args.host.clone(), auth, identity);
    let given = &args.firmware;
    fill(&mut config.firmware.uuid, given.uuid.as_ref());
    fill(&mut config.firmware.product, given.product.as_ref());
    fill(&mut config.firmware.version, given.version.as_ref());
    fill(&mut config.firmware.platform, given.platform.as_ref());
    fill(&mut config.firmware.architecture, given.architecture.as_ref());
    config.public_keys = args.public_key.iter().map(|key| public_key(key)).collect::<Result<_, _>>()?;
    config.insecure_plain_hub = args.insecure_plain_hub;
    config.accept_server_keys = args.accept_server_keys || config.public_keys.is_empty();
    config.request_public_keys = args.accept_server_keys;
    config.download.refuse_private_addresses = args.refuse_private_addresses;
    config.trusted_origins.clone_from(&args.trusted_origin);
    for difference in &args.allow_mismatch {
        *match difference {
            Difference::Offer => &mut config.allow_mismatch.offer,
            Difference::Product => &mut config.allow_mismatch.product,
            Difference::Platform => &mut config.allow_mismatch.platform,
            Difference::Architecture => &mut config.allow_mismatch.architecture,
        } = true;
    }
    config.refuse_older = args.refuse_older;
    // Deltas come only to those who say that they can apply them.
    config.fwup_version = fwup_stream::manifest::FWUP_VERSION.into();
    config.extensions = extensions::config(&args.extensions);
    config.bounds.reboots_per_hour = args.reboots_per_hour;
    config.bounds.overwrites_per_day = args.overwrites_per_day;
    config.bounds.failure_pause = args.failure_pause;
    config.freeze_alarm = args.freeze_alarm;
    config.download.retry_delay = args.retry_delay;
    config.download.max_size = args.max_firmware_size;
    config.download.max_archive_size = args.max_archive_size;
    config.heartbeat = args.heartbeat_interval;
    config.join_timeout = args.join_timeout;
    if let Some(dir) = &args.archive_dir {
        let (known, say) = (Known::new(dir), Arc::clone(recorder));
        let list = move || known.list_or_say(|text| say.note("archives", text));
        config.known_archives =
            within(LOCAL_MAX, "reading the list of archives", list).unwrap_or_else(|error| {
                recorder.note("archives", format!("--archive-dir {}: {error}", dir.display()));
                Vec::new()
            });
    }
    config.strategy = match args.strategy {
        Strategy::Streaming => UpdateStrategy::Streaming,
        Strategy::Caching => UpdateStrategy::Caching,
        Strategy::Parts => UpdateStrategy::Parts(PartsConfig {
            max_concurrent_parts: args.concurrent_parts,
            ..PartsConfig::default()
        }),
    };
    config.extensions.local_shell = args.local_shell;
    config.console =
        args.console.then(|| ConsoleConfig { timeout: args.console_timeout, ..ConsoleConfig::default() });
    Ok(config)
}

/// Says what runs, and where each fact that the boot environment lacks comes from.
pub fn running(firmware: &FirmwareMeta, identity: &Identity, given: &FirmwareArgs) -> String {
    let known = &identity.firmware;
    let facts = [
        ("UUID", &known.uuid, &given.uuid),
        ("product", &known.product, &given.product),
        ("version", &known.version, &given.version),
        ("platform", &known.platform, &given.platform),
        ("architecture", &known.architecture, &given.architecture),
    ];
    let supplied: Vec<&str> = facts
        .iter()
        .filter(|(_, known, given)| known.is_empty() && given.as_ref().is_some_and(|text| !text.is_empty()))
        .map(|(name, ..)| *name)
        .collect();
    let what = match (firmware.version.as_str(), firmware.uuid.as_str()) {
        ("", "") => {
            return "the running firmware is unknown; the server can't offer updates that fit".to_owned();
        }
        ("", uuid) => format!("running firmware {uuid} of an unknown version"),
        (version, "") => format!("running firmware {version} without a known UUID"),
        (version, uuid) => format!("running firmware {version} ({uuid})"),
    };
    // Without an environment no slot is known.
    let slot = match identity.active_slot.as_str() {
        "" => String::new(),
        slot => format!(" from slot {slot}"),
    };
    let source = match supplied[..] {
        [] => String::new(),
        _ => format!("; {} as given on the command line", supplied.join(", ")),
    };
    format!("{what}{slot}{source}")
}

/// Says what is not known about the running firmware, and what that costs. `None` if nothing is known, or everything.
pub fn missing(firmware: &FirmwareMeta) -> Option<String> {
    let facts = [
        ("product", &firmware.product),
        ("version", &firmware.version),
        ("platform", &firmware.platform),
        ("architecture", &firmware.architecture),
    ];
    let missing: Vec<&str> =
        facts.iter().filter(|(_, text)| text.is_empty()).map(|(name, _)| *name).collect();
    if missing.is_empty() || (firmware.version.is_empty() && firmware.uuid.is_empty()) {
        return None;
    }
    Some(format!(
        "the boot environment does not say the {} of the running firmware: the server offers no deltas, and may find no \
         update that fits; set it in the firmware's update task, or give --firmware-{}",
        missing.join(", "),
        missing.join(", --firmware-")
    ))
}

/// Takes what was given on the command line where the device's store says nothing.
fn fill(known: &mut String, given: Option<&String>) {
    if let (true, Some(given)) = (known.is_empty(), given) {
        known.clone_from(given);
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let complain = |error: std::io::Error| format!("can't read {}: {error}", path.display());
    // Read again when the device starts anew, so a pipe, which can be read once, is refused.
    let bytes = read_limited(path, FILE_MAX).map_err(complain)?.ok_or_else(|| {
        format!("{} is larger than {FILE_MAX} bytes; no key or certificate file is", path.display())
    })?;
    // A raw key of 32 bytes may begin so, too.
    if bytes.len() > 64 && (bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF")) {
        return Err(format!("{} is UTF-16 text; save it as plain text (UTF-8)", path.display()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const KEY: &str = "u1dJgAcnFUqREJB0shvP+bwDx8wOrVtoRlj7XsvF6Ds=";

    #[test]
    fn a_public_key_is_text_or_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), KEY).unwrap();
        assert_eq!(public_key(KEY).unwrap(), KEY);
        assert_eq!(public_key(file.path().to_str().unwrap()).unwrap(), KEY);
    }

    #[test]
    fn a_bad_public_key_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "short").unwrap();
        let path = file.path().to_str().unwrap();
        assert!(public_key(path).unwrap_err().contains(path));
        assert!(public_key("missing.pub").unwrap_err().contains("missing.pub"));
    }

    #[test]
    fn byte_order_marks_hide_no_key() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("\u{feff}{KEY}\n")).unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(public_key(path).unwrap(), KEY);
        assert_eq!(public_key(&format!("\u{feff}{KEY}")).unwrap(), KEY);
        let wide: Vec<u8> = format!("\u{feff}{KEY}\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(file.path(), wide).unwrap();
        assert!(public_key(path).unwrap_err().contains("UTF-16"));
        let mut raw = [7; 32];
        for mark in [&b"\xEF\xBB\xBF"[..], b"\xFF\xFE"] {
            raw[..mark.len()].copy_from_slice(mark);
            fs::write(file.path(), raw).unwrap();
            assert_eq!(public_key(path).unwrap(), STANDARD.encode(raw));
        }
    }

    #[test]
    fn the_environment_is_checked_as_in_fw_env_config() {
        for (text, word) in [
            ("0x2000:0x7fffffffffffffff", "size"),
            ("0:33553409", "size"),
            ("0x2000:0x2000:0x3000", "overlap"),
            ("0x2000:0x2000:0x2000", "overlap"),
            ("0xfffffffffffffff0:0x2000", "beyond"),
            ("0x2000:0x2000:0xfffffffffffffff0", "beyond"),
        ] {
            let error = environment(Path::new("disk.img"), text.parse().unwrap()).unwrap_err();
            assert!(error.contains(word) && error.contains("--uboot-env"), "{text}: {error}");
        }
        assert!(environment(Path::new("disk.img"), "0x2000:0x2000:0x4000".parse().unwrap()).is_ok());
    }

    #[test]
    fn only_what_the_command_line_supplied_is_said_to_come_from_it() {
        let mut identity = Identity { active_slot: "a".into(), ..Identity::default() };
        identity.firmware.version = "1.0.0".into();
        identity.firmware.uuid = "u".into();
        let mut given = FirmwareArgs::default();
        let mut firmware =
            FirmwareMeta { version: "1.0.0".into(), uuid: "u".into(), ..FirmwareMeta::default() };
        let plain = "running firmware 1.0.0 (u) from slot a";
        assert_eq!(running(&firmware, &identity, &given), plain);
        // The environment knows better.
        (given.version, given.uuid) = (Some("0.9.0".into()), Some("other".into()));
        assert_eq!(running(&firmware, &identity, &given), plain);
        (given.platform, given.product) = (Some("board".into()), Some("lift".into()));
        let text = running(&firmware, &identity, &given);
        assert_eq!(text, format!("{plain}; product, platform as given on the command line"));
        // Without an environment there is no slot, and everything that was given counts.
        let text = running(&firmware, &Identity::default(), &given);
        assert!(
            text.starts_with("running firmware 1.0.0 (u); UUID, product, version, platform as"),
            "{text}"
        );
        given.uuid = Some(String::new());
        firmware.uuid.clear();
        let text = running(&firmware, &Identity::default(), &given);
        assert!(text.contains("without a known UUID; product"), "{text}");
        firmware.version.clear();
        assert!(running(&firmware, &identity, &given).contains("unknown"));
    }

    #[test]
    fn what_the_environment_does_not_say_about_the_firmware_is_named() {
        let mut firmware = FirmwareMeta::default();
        // The line on the running firmware already says that nothing is known.
        assert_eq!(missing(&firmware), None);
        firmware.uuid = "u".into();
        firmware.product = "p".into();
        firmware.architecture = "arm".into();
        let text = missing(&firmware).unwrap();
        assert!(text.contains("version, platform") && text.contains("no deltas"), "{text}");
        assert!(text.contains("--firmware-version, --firmware-platform"), "{text}");
        firmware.version = "1.0.0".into();
        firmware.platform = "board".into();
        assert_eq!(missing(&firmware), None);
    }

    #[test]
    fn a_missing_certificate_file_is_named() {
        assert!(roots(Some(Path::new("no-such-ca.pem"))).unwrap_err().contains("no-such-ca.pem"));
    }

    #[test]
    fn a_root_certificate_that_cannot_be_used_is_named_with_its_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for damaged in [
            &b"\x30\x03not a certificate"[..],
            b"-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE REQUEST-----\nMAMCAQE=\n-----END CERTIFICATE REQUEST-----\n",
        ] {
            fs::write(file.path(), damaged).unwrap();
            let error = roots(Some(file.path())).unwrap_err();
            assert!(error.contains(path), "{error}");
            assert!(!error.contains("BadEncoding") && !error.contains("Other("), "{error}");
        }
    }
}
