//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};
use nerves_hub_link_platform::limits::{ARCHIVE_BYTES_MAX, ARCHIVES_MAX};
use nerves_hub_link_protocol::limits::{
    MAX_BOUND, MAX_CONCURRENT_PARTS, MAX_FREEZE_ALARM, OVERWRITES_PER_DAY, REBOOTS_PER_HOUR,
};
use nerves_hub_link_protocol::{DownloadConfig, Secret};

use crate::extensions::Extension;
use crate::secrets::is_withheld;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Over-the-air updates from NervesHub, for any Linux device.
#[derive(Debug, Parser)]
#[command(name = "nerves-hub-link", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect this device to a NervesHub server and apply the updates it sends.
    Run(Box<RunArgs>),
    /// Show one update end to end, on this machine, with a stand-in for the server.
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArgs),
}

/// The settings of `run`.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("operators").args(["console", "local_shell"]).multiple(true))]
pub struct RunArgs {
    /// The server: a name, name:port, or URL (wss://, or ws:// without TLS).
    #[arg(long, value_name = "URL", env = "NERVES_HUB_HOST")]
    pub host: String,
    /// Trust a server that is reached without TLS (ws://) like one that proved who it is: use its keys and its clock, allow
    /// shells, and firmware over http without a checksum. For tests and closed networks.
    #[arg(long)]
    pub insecure_plain_hub: bool,
    /// This device's identifier (serial number). With a client certificate its common name counts instead.
    #[arg(long, value_name = "ID", env = "NERVES_HUB_SERIAL", required_unless_present = "cert")]
    pub serial: Option<String>,
    /// The key of the product's shared secret (nhp_...), or of this device's (nhd_...).
    #[arg(long, value_name = "K", env = "NERVES_HUB_PRODUCT_KEY", required_unless_present = "cert")]
    pub product_key: Option<String>,
    /// The secret that belongs to the key. Every program on the device can read it here; better give it in the environment or
    /// in a file.
    #[arg(long, value_name = "S", env = "NERVES_HUB_PRODUCT_SECRET", hide_env_values = true)]
    pub product_secret: Option<String>,
    /// A file whose one line is the secret that belongs to the key. Without it, the environment and systemd's credential
    /// nerves-hub-product-secret count.
    #[arg(long, value_name = "FILE", env = "NERVES_HUB_PRODUCT_SECRET_FILE", conflicts_with = "cert")]
    pub product_secret_file: Option<PathBuf>,
    /// The secret, wherever it came from.
    #[arg(skip)]
    pub secret: Option<Secret>,
    /// Pass this variable of the environment on to shells and to the reboot command, too. They get PATH, HOME, LANG, LANGUAGE,
    /// LC_*, LOGNAME, SHELL, TERM, TZ and USER, and never the secret. Repeatable.
    #[arg(long, value_name = "NAME", value_parser = passed)]
    pub pass_env: Vec<String>,
    /// Prove who the device is with the client certificate in this PEM file, instead of a shared secret.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The private key of the certificate, in a PEM file. Only this program should be able to read it.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// The disk that updates are written to: an image file, or a block device with --allow-block-device.
    #[arg(long, value_name = "FILE")]
    pub disk: PathBuf,
    /// Allow --disk to be a block device. An update overwrites parts of it.
    #[arg(long)]
    pub allow_block_device: bool,
    /// A public key that firmware must be signed with: the text, or a file that fwup -g made. Repeatable.
    #[arg(long, value_name = "KEY")]
    pub public_key: Vec<String>,
    /// Trust the keys the server sends instead of those given here, too.
    #[arg(long)]
    pub accept_server_keys: bool,
    /// Trust the certificate authorities in this PEM or DER file instead of the system's. For downloads they are trusted
    /// beside the system's, as firmware is often kept on public storage.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Also trust the certificate authorities in this PEM or DER file for downloads, beside the system's and those of --ca.
    /// A file that can't be read is logged, and the device connects without it.
    #[arg(long, value_name = "FILE")]
    pub download_ca: Option<PathBuf>,
    /// Also prove who the device is to this server, as `https://other.example:8443`, if a redirect leads there, and take files
    /// from it though it is inside the device's network. Repeatable. Everybody else gets no credentials.
    #[arg(long, value_name = "URL")]
    pub trusted_origin: Vec<String>,
    /// Take no firmware or archives from addresses of private networks (10.0.0.0/8, fc00::/7 and the like), unless the server
    /// itself has that address. Addresses of this device and of its link are always refused, unless the server is there.
    #[arg(long)]
    pub refuse_private_addresses: bool,
    /// Connect through this HTTP proxy. Its URL may hold user and password (user:password@host:port). Without it, the
    /// environment's https_proxy, http_proxy, all_proxy and no_proxy count, in lower or upper case, as curl reads them, but with
    /// port 80 where none is given; an empty one means no proxy.
    #[arg(long, value_name = "URL", env = "NERVES_HUB_PROXY", hide_env_values = true)]
    pub proxy: Option<String>,
    /// Install firmware whose signed metadata differ from the server's offer (offer), or from this device's product, platform
    /// or architecture; several are separated by commas. Otherwise such firmware is refused before anything is written.
    #[arg(long, value_enum, value_name = "KIND,...", value_delimiter = ',')]
    pub allow_mismatch: Vec<Difference>,
    /// Refuse firmware that is older than what runs, or than the newest that ran well here, which --state remembers. Versions
    /// are compared by the rules of SemVer; a version that does not follow them is refused.
    #[arg(long)]
    pub refuse_older: bool,
    /// The archive's task to apply: the first of this name or prefix whose requirements hold.
    #[arg(long, value_name = "NAME", default_value = "upgrade")]
    pub task: String,
    /// Where the U-Boot environment is on the disk, in bytes.
    #[arg(long, value_name = "OFFSET:SIZE[:OFFSET2]", default_value = "0x2000:0x2000")]
    pub uboot_env: EnvLocation,
    /// The identity of the running firmware, where the U-Boot environment has none.
    #[command(flatten)]
    pub firmware: FirmwareArgs,
    /// A file in which to remember how often each firmware was tried, so that one that falls back again and again is
    /// refused in the end, and what ran at boot where /run cannot be written. Best on a data partition that all slots
    /// share.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// A file whose content changes at every boot. Default for a block device: /proc/sys/kernel/random/boot_id. Default
    /// for an image file: none; every start of this program counts as a boot.
    #[arg(long, value_name = "FILE")]
    pub boot_id: Option<PathBuf>,
    /// Mark a firmware that isn't validated yet as good once the server has accepted the device.
    #[arg(long)]
    pub validate_when_joined: bool,
    /// What to tell the server beside updates, separated by commas. An operator must have switched it on for the
    /// product, too.
    #[arg(
        long, value_enum, value_name = "NAME,...", value_delimiter = ',', default_values_t = [Extension::Health]
    )]
    pub extensions: Vec<Extension>,
    /// Let operators work in a shell on this device, with this program's rights, from their browser.
    #[arg(long)]
    pub console: bool,
    /// Let operators work in a shell on this device by the local_shell extension, too.
    #[arg(long)]
    pub local_shell: bool,
    /// The shell of --console and --local-shell.
    #[arg(long, value_name = "PROGRAM", default_value = "/bin/sh", requires = "operators")]
    pub shell: PathBuf,
    /// Seconds after which a console that nobody uses is closed; 0 is never.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds, requires = "console")]
    pub console_timeout: Duration,
    /// Take files that operators send to the console into this folder.
    #[arg(long, value_name = "FOLDER", requires = "console")]
    pub data_path: Option<PathBuf>,
    /// Run this with /bin/sh to restart the device after an update, instead of only ending.
    #[arg(long, value_name = "COMMAND")]
    pub reboot_command: Option<String>,
    /// How updates get to the disk: as they come; first into a file that is resumed after a restart; or first into
    /// parts that are verified one by one and resumed after the last verified one.
    #[arg(long, value_enum, default_value_t = Strategy::Streaming)]
    pub strategy: Strategy,
    /// The folder in which --strategy caching and parts keep an update.
    #[arg(long, value_name = "DIR", default_value = "/data/nerves_hub_link/firmware")]
    pub cache_dir: PathBuf,
    /// Requests at a time with --strategy parts.
    #[arg(
        long, value_name = "COUNT", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONCURRENT_PARTS))
    )]
    pub concurrent_parts: u32,
    /// Download the archives that come with a deployment to this folder, each once. Without it they are ignored.
    #[arg(long, value_name = "DIR")]
    pub archive_dir: Option<PathBuf>,
    /// Archives kept in --archive-dir. When there are more, the oldest are deleted, but never the newest.
    #[arg(long, value_name = "COUNT", default_value_t = ARCHIVES_MAX, requires = "archive_dir")]
    pub archives_max: usize,
    /// Bytes of all archives kept in --archive-dir.
    #[arg(long, value_name = "BYTES", default_value_t = ARCHIVE_BYTES_MAX, requires = "archive_dir")]
    pub archives_max_bytes: u64,
    /// Bytes that downloads leave free on the partition of --cache-dir and --archive-dir. Default: 5 % of the partition, at
    /// least 16 MiB (a quarter of partitions smaller than 64 MiB) and at most 512 MiB.
    #[arg(long, value_name = "BYTES")]
    pub keep_free: Option<u64>,
    /// Largest firmware that is downloaded, in bytes, whether the server announces its size or not.
    #[arg(long, value_name = "BYTES", default_value_t = DownloadConfig::default().max_size)]
    pub max_firmware_size: u64,
    /// Largest archive that is downloaded, in bytes, whether the server announces its size or not.
    #[arg(long, value_name = "BYTES", default_value_t = DownloadConfig::default().max_archive_size)]
    pub max_archive_size: u64,
    /// Restarts within an hour that the server can cause: those it orders are refused beyond that, those after an update
    /// wait. 0 means no limit. Counted over restarts only with --state; without it, orders are also refused for a while
    /// after the start.
    #[arg(long, value_name = "COUNT", default_value_t = REBOOTS_PER_HOUR,
        value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_BOUND)))]
    pub reboots_per_hour: u32,
    /// Updates within 24 hours that may begin to overwrite the other slot, whether they succeed or fail, whatever the server
    /// sends; more are put off. 0 means no limit. Counted over restarts only with --state.
    #[arg(long, value_name = "COUNT", default_value_t = OVERWRITES_PER_DAY,
        value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_BOUND)))]
    pub overwrites_per_day: u32,
    /// Seconds for which all updates are put off after one that failed on this device, whatever firmware it was; doubled
    /// with each that follows, up to six hours, until a firmware proves good. 0 means no pause. Six hours at most.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub failure_pause: Duration,
    /// Days without an answer of an update service until the device raises an alarm: in the log, again every day, and on the
    /// server once it is back. 0 means never. Counted over restarts only with --state.
    #[arg(long, value_name = "DAYS", default_value = "7", value_parser = days)]
    pub freeze_alarm: Duration,
    /// Seconds to wait before a broken download is tried again.
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub retry_delay: Duration,
    /// Seconds between checks whether updates can be installed, while they can't, for example because the disk is missing,
    /// full or read-only. Ten times as long while they can.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub check_interval: Duration,
    /// Seconds between heartbeats.
    #[arg(long, hide = true, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub heartbeat_interval: Duration,
    /// Seconds until a join that the server does not answer is given up.
    #[arg(long, hide = true, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub join_timeout: Duration,
    /// Seconds between looks whether another program marked the firmware good.
    #[arg(long, hide = true, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub validation_interval: Duration,
    /// How to print what happens.
    #[arg(long, value_enum, default_value_t = Format::Plain)]
    pub log: Format,
    /// Where the demonstration lets the power fail.
    #[cfg(feature = "demo")]
    #[arg(long, hide = true, value_name = "BYTES")]
    pub fail_power_after: Option<u64>,
}

/// The identity of the running firmware.
#[derive(Debug, Clone, Default, Args)]
pub struct FirmwareArgs {
    /// UUID of the running firmware, as `fwup -m` prints it.
    #[arg(id = "firmware-uuid", long = "firmware-uuid", value_name = "UUID")]
    pub uuid: Option<String>,
    /// Product of the running firmware.
    #[arg(id = "firmware-product", long = "firmware-product", value_name = "NAME")]
    pub product: Option<String>,
    /// Version of the running firmware.
    #[arg(id = "firmware-version", long = "firmware-version", value_name = "SEMVER")]
    pub version: Option<String>,
    /// Platform of the running firmware.
    #[arg(id = "firmware-platform", long = "firmware-platform", value_name = "NAME")]
    pub platform: Option<String>,
    /// Architecture of the running firmware.
    #[arg(id = "firmware-architecture", long = "firmware-architecture", value_name = "NAME")]
    pub architecture: Option<String>,
}

/// A difference between firmware's signed metadata and what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Difference {
    /// From the server's offer.
    Offer,
    /// From the device's product.
    Product,
    /// From the device's platform.
    Platform,
    /// From the device's architecture.
    Architecture,
}

/// How updates get to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Strategy {
    /// As they come.
    Streaming,
    /// First into a file.
    Caching,
    /// First into verified parts.
    Parts,
}

/// How `run` prints what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people.
    Plain,
    /// One JSON object a line, for programs.
    Json,
}

/// Where a U-Boot environment is on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvLocation {
    /// The first byte.
    pub offset: u64,
    /// Bytes of one copy.
    pub size: u64,
    /// The first byte of the second copy.
    pub second: Option<u64>,
}

impl std::str::FromStr for EnvLocation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected OFFSET:SIZE or OFFSET:SIZE:OFFSET2 in bytes, got {text:?}");
        let mut parts = text.split(':').map(number);
        let mut next = || parts.next().transpose().map_err(|()| expected());
        let (Some(offset), Some(size), second) = (next()?, next()?, next()?) else {
            return Err(expected());
        };
        if next()?.is_some() || size < 16 {
            return Err(expected());
        }
        Ok(Self { offset, size, second })
    }
}

impl std::fmt::Display for EnvLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}:{:#x}", self.offset, self.size)?;
        self.second.map_or(Ok(()), |second| write!(f, ":{second:#x}"))
    }
}

fn number(text: &str) -> Result<u64, ()> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .map_err(drop)
}

fn passed(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("expected the name of a variable".to_owned());
    }
    if is_withheld(name) {
        return Err("it holds a secret, which no child gets".to_owned());
    }
    Ok(name.to_owned())
}

fn days(text: &str) -> Result<Duration, String> {
    let max = MAX_FREEZE_ALARM.as_secs() / DAY.as_secs();
    let days = text.parse().ok().filter(|days| u64::from(*days) <= max);
    days.map(|days: u32| DAY * days).ok_or_else(|| format!("days must be a number from 0 to {max}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|delay| *delay <= Duration::from_secs(86_400))
        .ok_or_else(|| format!("expected seconds from 0 to 86400, got {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::fmt::Write as _;

    #[test]
    fn days_are_whole_and_at_most_a_year() {
        assert_eq!(days("0"), Ok(Duration::ZERO));
        assert_eq!(days("365"), Ok(MAX_FREEZE_ALARM));
        for wrong in ["366", "-1", "1.5", "", "99999999999", "week"] {
            assert_eq!(days(wrong), Err("days must be a number from 0 to 365".to_owned()), "{wrong:?}");
        }
    }

    const BEGIN: &str = "<!-- options of run: begin -->\n";
    const END: &str = "<!-- options of run: end -->\n";

    /// The options of `run` as a table: name, variable of the environment, default, meaning.
    fn options_table() -> String {
        let mut command = Cli::command();
        command.build();
        let run = command.find_subcommand("run").unwrap();
        let mut table =
            String::from("| Option | Environment | Default | Meaning |\n| --- | --- | --- | --- |\n");
        for argument in run.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let Some(long) = argument.get_long().filter(|long| !matches!(*long, "help" | "version")) else {
                continue;
            };
            let values = argument.get_value_names().unwrap_or_default();
            let takes = argument.get_action().takes_values();
            let name = values
                .iter()
                .filter(|_| takes)
                .fold(format!("--{long}"), |name, value| format!("{name} {value}"));
            let variable =
                argument.get_env().map_or(String::new(), |name| format!("`{}`", name.to_str().unwrap()));
            let defaults = argument.get_default_values().iter().filter(|_| takes);
            let default =
                defaults.map(|value| format!("`{}`", value.to_str().unwrap())).collect::<Vec<_>>().join(" ");
            let help = argument.get_long_help().or_else(|| argument.get_help()).unwrap().to_string();
            let help = help
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .replace('|', "\\|")
                .replace('<', "&lt;");
            writeln!(table, "| `{name}` | {variable} | {default} | {help} |").unwrap();
        }
        table
    }

    #[test]
    fn the_documentation_has_every_option_as_it_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) =
            text.split_once(BEGIN).expect("docs/configuration.md has no mark for the options");
        let (table, after) = rest.split_once(END).expect("docs/configuration.md has no mark for their end");
        let wanted = options_table();
        if table != wanted && std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
            return;
        }
        assert!(
            table == wanted,
            "the options in docs/configuration.md are not those of the program: run `UPDATE_DOCS=1 cargo test -p nerves-hub-link --bins the_documentation`"
        );
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn environment_locations_are_read_in_decimal_and_hex() {
        assert_eq!(
            "0x2000:8192:0x4000".parse(),
            Ok(EnvLocation { offset: 0x2000, size: 8192, second: Some(0x4000) })
        );
        for bad in ["", "1", "1:2:3:4", "x:8192", "0:8", "-1:8192"] {
            assert!(bad.parse::<EnvLocation>().is_err(), "{bad}");
        }
    }

    #[test]
    fn absurd_delays_are_refused() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["-1", "NaN", "inf", "86401", "soon"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
