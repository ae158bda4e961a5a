//! `run`: this device, connected to a server.

use std::process::{Command, ExitCode};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use nerves_hub_link_blocking::{Exit, Handle, Options, Runner};
use nerves_hub_link_platform::health::HealthSampler;
use nerves_hub_link_platform::identity::{self, Identity};
use nerves_hub_link_platform::install::{DiskPolicy, FwupStreamInstaller, Installer};
use nerves_hub_link_platform::kv::{FileStore, UbootStore};
use nerves_hub_link_platform::pty::ShellCommand;
use nerves_hub_link_platform::store::DownloadStore;
use nerves_hub_link_protocol::{ArchiveDecision, ArchiveInfo, Client, Command as Order, Event, UpdateMode};
use nerves_hub_link_transport::{Proxy, Tls, TlsOptions};

use crate::archives::Known;
use crate::booted;
use crate::cli::RunArgs;
use crate::extensions::{self, Extension, Outlet};
use crate::memory::resident_kib;
use crate::record::Recorder;
use crate::setup;

/// How often a device that is to fetch its updates itself asks for one (device-protocol-additions A2).
const ASK_EVERY: Duration = Duration::from_secs(3600);

/// Runs the device until it must restart. Exit status 0 after a reboot was asked for, 1 for a failure.
pub fn run(args: &RunArgs) -> ExitCode {
    let outlet = Outlet::default();
    let logged = args.extensions.contains(&Extension::Logging).then(|| Arc::clone(&outlet));
    if args.extensions.contains(&Extension::ErrorReports) {
        extensions::report_panics(&outlet);
    }
    let recorder = Arc::new(Recorder::new(args.log, logged));
    match device(args, &recorder, &outlet) {
        Ok(Exit::Reboot { reason }) => restart(args, &recorder, &reason),
        Ok(Exit::Stopped) => ExitCode::SUCCESS,
        Ok(Exit::Failed { reason }) | Err(reason) => {
            eprintln!("nerves-hub-link: {reason}");
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::FAILURE,
    }
}

fn device(args: &RunArgs, recorder: &Arc<Recorder>, outlet: &Outlet) -> Result<Exit, String> {
    let disk = DiskPolicy::new(&args.disk).allow_block_device(args.allow_block_device);
    disk.check().map_err(|error| {
        let hint = if args.allow_block_device { "" } else { " (here: --allow-block-device)" };
        format!("--disk: {error}{}", if error.to_string().contains("allow_block_device") { hint } else { "" })
    })?;
    let store = setup::environment(&args.disk, args.uboot_env)?;
    let identity = Identity::load(&store).unwrap_or_else(|error| {
        recorder.note(
            "no-environment",
            format!("no U-Boot environment at {} of {}: {error}", args.uboot_env, args.disk.display()),
        );
        Identity::default()
    });
    if let Some(reason) = booted::due_restart(args, &identity, recorder)? {
        return Ok(Exit::Reboot { reason });
    }
    let config = setup::config(args, &identity)?;
    recorder.note(
        "firmware",
        match (config.firmware.version.as_str(), config.firmware.uuid.as_str()) {
            ("", "") => "the running firmware is unknown; the server can't offer updates that fit".to_owned(),
            (version, uuid) if identity.firmware.uuid.is_empty() => {
                format!("running firmware {version} ({uuid}), as told on the command line")
            }
            (version, uuid) => {
                format!("running firmware {version} ({uuid}) from slot {}", identity.active_slot)
            }
        },
    );
    if config.public_keys.is_empty() {
        recorder.note("no-keys", "no --public-key given: trusting the keys the server sends");
    }
    let mut tls_options = TlsOptions::new(setup::roots(args.ca.as_deref())?);
    // Firmware may lie anywhere, and who keeps it has no business with the device's certificate.
    let download_tls = Tls::new(&tls_options).map_err(|error| error.to_string())?;
    tls_options.identity = setup::client_identity(args)?;
    let tls = Tls::new(&tls_options).map_err(|error| error.to_string())?;

    let (joined, validations) = channel();
    let (managed, modes) = channel();
    let application = Application {
        recorder: Arc::clone(recorder),
        managed,
        joined: (args.validate_when_joined && identity.validated == Some(false)).then_some(joined),
        archives: args.archive_dir.as_deref().map(Known::new),
    };
    let notices = Arc::clone(recorder);
    let mut options = Options::new(tls, installer(args, disk), application)
        .download_tls(download_tls)
        .firmware_store(DownloadStore::new(&args.cache_dir))
        .health(Some(HealthSampler::new(extensions::data_path(args.data_path.as_deref()))))
        .on_notice(move |text| notices.note("notice", text));
    if let Some(url) = &args.proxy {
        options = options.proxy(Proxy::parse(url).map_err(|error| format!("--proxy: {error}"))?);
    }
    if let Some(dir) = &args.archive_dir {
        options = options.archive_store(DownloadStore::new(dir));
    }
    if args.console || args.local_shell {
        recorder.note("console", format!("operators may work in {} here", args.shell.display()));
        // The device's secret is none of the operator's business.
        let shell = ShellCommand::new(&args.shell).unset("NERVES_HUB_PRODUCT_SECRET");
        options = options.shell(shell);
    }
    if let Some(file) = &args.state {
        options = options.remember_attempts(FileStore::new(file));
    }
    if let Some(folder) = &args.data_path {
        options = options.data_path(folder);
    }
    let runner = Runner::new(config, options).map_err(|error| error.to_string())?;

    let handle = runner.handle();
    // Nobody else sets it.
    let _ = outlet.set(handle.clone());
    let asking = handle.clone();
    thread::Builder::new()
        .name("update requests".into())
        .spawn(move || ask_for_updates(&modes, &asking))
        .map_err(|error| format!("can't start a thread: {error}"))?;
    let recorder = Arc::clone(recorder);
    thread::Builder::new()
        .name("validation".into())
        .spawn(move || {
            // Ends without a word when nothing is to be validated.
            if validations.recv().is_ok() {
                validate(store, &handle, &recorder);
            }
        })
        .map_err(|error| format!("can't start a thread: {error}"))?;
    Ok(runner.run())
}

#[cfg(feature = "demo")]
fn installer(args: &RunArgs, disk: DiskPolicy) -> Box<dyn Installer> {
    match args.fail_power_after {
        Some(bytes) => Box::new(crate::demo::power::FailingInstaller::new(disk, &args.task, bytes)),
        None => Box::new(FwupStreamInstaller::new(disk).task(&args.task)),
    }
}

#[cfg(not(feature = "demo"))]
fn installer(args: &RunArgs, disk: DiskPolicy) -> Box<dyn Installer> {
    Box::new(FwupStreamInstaller::new(disk).task(&args.task))
}

/// Asks for updates while the server leaves that to the device; else it pushes them.
fn ask_for_updates(modes: &Receiver<bool>, handle: &Handle) {
    let mut managed = false;
    loop {
        let news = if managed {
            modes.recv_timeout(ASK_EVERY)
        } else {
            modes.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match news {
            Ok(mode) => managed = mode,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if managed {
            // A refusal (an update runs, the server said when to come back) is told by the notice hook.
            let _ = handle.command(Order::RequestUpdate);
        }
    }
}

fn validate(mut store: UbootStore, handle: &Handle, recorder: &Recorder) {
    match identity::mark_validated(&mut store) {
        Ok(true) => {
            recorder.note("validated", "this firmware reached the server: marked it good");
            // Fails only when the device is stopping; the environment already says so for the next join.
            let _ = handle.firmware_validated();
        }
        Ok(false) => {
            recorder.note("not-validated", "the U-Boot environment still doesn't call this firmware good");
        }
        Err(error) => recorder.note("not-validated", format!("can't mark this firmware good: {error}")),
    }
}

fn restart(args: &RunArgs, recorder: &Recorder, reason: &str) -> ExitCode {
    recorder.note("reboot", format!("restarting: {reason}"));
    let Some(command) = &args.reboot_command else { return ExitCode::SUCCESS };
    match Command::new("/bin/sh").arg("-c").arg(command).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("nerves-hub-link: the reboot command {command:?} failed: {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("nerves-hub-link: can't run the reboot command {command:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Says what happens, and when the firmware has proved itself.
struct Application {
    recorder: Arc<Recorder>,
    managed: Sender<bool>,
    joined: Option<Sender<()>>,
    /// Which archives were had, if any are wanted.
    archives: Option<Known>,
}

impl Application {
    fn memory(&self, kind: &str) {
        static IDLE: OnceLock<u64> = OnceLock::new();
        let Some((now, peak)) = resident_kib() else { return };
        let idle = *IDLE.get_or_init(|| now);
        if kind == "peak" {
            let text = format!("memory: {peak} KiB at most, {} KiB above idle", peak.saturating_sub(idle));
            self.recorder.figure("memory", text, peak.saturating_sub(idle));
        }
    }
}

impl Client for Application {
    fn archive_available(&mut self, _: &ArchiveInfo) -> Option<ArchiveDecision> {
        Some(if self.archives.is_some() { ArchiveDecision::Download } else { ArchiveDecision::Ignore })
    }

    fn archive_ready(&mut self, archive: &ArchiveInfo, _: &str) {
        if let Some(Err(error)) = self.archives.as_ref().map(|known| known.add(&archive.uuid)) {
            self.recorder.note("archive-unknown", format!("this archive will be downloaded again: {error}"));
        }
    }

    fn connected(&mut self) {
        self.memory("idle");
        if let Some(joined) = self.joined.take() {
            // The other end is gone only when the program ends.
            let _ = joined.send(());
        }
    }

    fn event(&mut self, event: &Event) {
        self.recorder.event(event);
        if let Event::UpdateModeChanged { mode, .. } = event {
            // The other end is gone only when the program ends.
            let _ = self.managed.send(*mode == Some(UpdateMode::DeviceManaged));
        }
        if matches!(event, Event::UpdateCompleted { .. } | Event::UpdateFailed { .. }) {
            self.memory("peak");
        }
    }
}
