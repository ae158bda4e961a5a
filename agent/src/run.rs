//! `run`: this device, connected to a server.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::thread;

use nerves_hub_link_blocking::{Exit, Options, Runner};
use nerves_hub_link_platform::boot::BootCheck;
use nerves_hub_link_platform::health::HealthSampler;
use nerves_hub_link_platform::identity::Identity;
use nerves_hub_link_platform::install::{DiskPolicy, FwupStreamInstaller, Installer};
use nerves_hub_link_platform::kv::{FileStore, KeyValueStore as _, UbootStore};
use nerves_hub_link_platform::pty::ShellCommand;
use nerves_hub_link_platform::store::{DownloadStore, Reserve};
use nerves_hub_link_protocol::Command;
use nerves_hub_link_protocol::limits::MAX_KNOWN_ARCHIVES;
use nerves_hub_link_protocol::printable::line;
use nerves_hub_link_transport::{Tls, TlsOptions};

use crate::application::{ASK_EVERY, Application, ArchiveNews, ask_for_updates, modes, remember_archives};
use crate::archives::Known;
use crate::bookkeeping;
use crate::booted;
use crate::bounded::within;
use crate::cli::RunArgs;
use crate::extensions::{self, Extension, Outlet};
use crate::limits::{FLUSH_MAX, LINE_TEXT_MAX, LOCAL_MAX};
use crate::output::Lines;
use crate::preflight;
use crate::proxy;
use crate::reboot;
use crate::record::Recorder;
use crate::secrets::Secrets;
use crate::setup;
use crate::stop::Stopper;
use crate::validation::Validation;

/// Runs the device until it must restart. Exit status 0 after a reboot was asked for or a signal ended it, 1 for a failure.
pub fn run(args: &RunArgs, secrets: &Secrets) -> ExitCode {
    let outlet = Outlet::default();
    let wanted = |extension| args.extensions.contains(&extension).then_some(&outlet);
    let errors = Lines::stderr();
    extensions::report_panics(&errors, wanted(Extension::ErrorReports));
    let recorder = Arc::new(Recorder::new(args.log, wanted(Extension::Logging).cloned()));
    for remark in secrets.remarks() {
        recorder.note("secrets", remark.clone());
    }
    let stopper = Stopper::listen(&recorder, &errors);
    let around = Around { recorder: &recorder, outlet: &outlet, stopper: &stopper };
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let found = Arc::new(AtomicBool::new(false));
        let mut stuck = None;
        loop {
            // A check that has seen the old firmware run still knows it.
            let boot = stuck.clone().unwrap_or_else(|| boot_check(args, &recorder));
            let exit = device(args, secrets, around, &found, &boot, stuck.is_some());
            // From here on a signal need not wait for the device.
            let goes_on = stopper.attach(None);
            match exit {
                Ok(Exit::Stopped) if found.swap(false, Ordering::AcqRel) && goes_on => {}
                Ok(Exit::Reboot { reason }) => {
                    recorder.note("reboot", format!("restarting: {reason}"));
                    let Some(command) = &args.reboot_command else { break Ok(()) };
                    let Err(error) = reboot::run(command, &args.pass_env, &recorder) else { break Ok(()) };
                    // A device that can't restart by itself is reached by people only while it is connected.
                    recorder.note("reboot-failed", reboot::again(&error));
                    if stuck.replace(boot).is_none() {
                        let (command, recorder) = (command.clone(), Arc::clone(&recorder));
                        let passed = args.pass_env.clone();
                        start("reboots", move || reboot::keep_trying(&command, &passed, &recorder))?;
                    }
                }
                exit => break end(&recorder, exit),
            }
        }
    }));
    // The hook has said what panicked.
    let ended = ended.unwrap_or_else(|_| Err(String::from("this program has a bug and can't go on")));
    let status = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            errors.line(line(&format!("nerves-hub-link: {reason}"), LINE_TEXT_MAX));
            ExitCode::FAILURE
        }
    };
    // Neither waits for readers that have stopped.
    recorder.flush(FLUSH_MAX);
    errors.flush(FLUSH_MAX);
    status
}

/// Says how the device has ended.
fn end(recorder: &Recorder, exit: Result<Exit, String>) -> Result<(), String> {
    match exit? {
        Exit::Stopped => {
            recorder.note("stopped", "stopped");
            Ok(())
        }
        Exit::Failed { reason } => Err(reason),
        _ => Err(String::from("the device ended in a way that this program doesn't know")),
    }
}

/// Where the device's words go, and what ends it.
#[derive(Clone, Copy)]
struct Around<'a> {
    recorder: &'a Arc<Recorder>,
    outlet: &'a Outlet,
    stopper: &'a Stopper,
}

fn device(
    args: &RunArgs,
    secrets: &Secrets,
    around: Around<'_>,
    found: &Arc<AtomicBool>,
    boot: &BootCheck,
    stuck: bool,
) -> Result<Exit, String> {
    let Around { recorder, outlet, stopper } = around;
    // What hangs costs what it holds, and the device connects without.
    let local = |what: &str, error: String| recorder.note("preflight", format!("{what}: {error}"));
    let (disk, mut missing) = match aside(args, recorder, "examining the disk", |args, _| setup::disk(args)) {
        Ok(found) => found?,
        Err(error) => {
            local("--disk", error);
            (setup::policy(args), true)
        }
    };
    if let Err(error) = aside(args, recorder, "examining files and folders", preflight::check) {
        local("some of what the command line names was not examined", error);
    }
    let state = match aside(args, recorder, "examining the state file", bookkeeping::state) {
        Ok(state) => state?,
        Err(error) => {
            local("--state", format!("{error}; {}", bookkeeping::LOST));
            None
        }
    };
    let store = setup::environment(&args.disk, args.uboot_env)?;
    let read = {
        let (store, boot) = (store.clone(), boot.clone());
        aside(args, recorder, "reading the boot environment", move |args, recorder| {
            environment(args, recorder, &store, &boot, stuck)
        })
    };
    let identity = match read {
        Ok(Ok(identity)) => identity,
        Ok(Err(reason)) => return Ok(Exit::Reboot { reason }),
        Err(error) => {
            local("the running firmware is not known", error);
            // Read again once the disk answers.
            missing = true;
            Identity::default()
        }
    };
    let config = setup::config(args, &identity, recorder)?;
    recorder.note("firmware", setup::running(&config.firmware, &identity, &args.firmware));
    if let Some(text) = setup::missing(&config.firmware) {
        recorder.note("firmware-incomplete", text);
    }
    if config.public_keys.is_empty() {
        recorder.note("no-keys", "no --public-key given: trusting the keys the server sends");
    }
    let mut tls_options = TlsOptions::new(setup::roots(args.ca.as_deref())?);
    // Firmware may be kept anywhere, and its server has no business with the device's certificate.
    let mut download_options = tls_options.for_downloads();
    download_options.roots = setup::download_roots(args, recorder)?;
    let download_tls = Tls::new(&download_options).map_err(|error| error.to_string())?;
    tls_options.identity = setup::client_identity(args)?;
    let tls = Tls::new(&tls_options).map_err(|error| error.to_string())?;

    let unvalidated = identity.validated == Some(false);
    let (joined, validations) = sync_channel(1);
    let (managed, modes) = modes();
    let application = Application {
        recorder: Arc::clone(recorder),
        managed,
        joined: unvalidated.then_some(joined),
        found: missing.then(|| (Arc::clone(found), Arc::clone(outlet))),
        archives: args.archive_dir.as_deref().map(|dir| archives(dir, recorder)).transpose()?,
    };
    let notices = Arc::clone(recorder);
    let watched = aside(args, recorder, "examining the data folder", |args, _| {
        extensions::data_path(args.data_path.as_deref())
    });
    let watched = watched.unwrap_or_else(|error| {
        local("--data-path", format!("{error}; the health report shows the disk of / instead"));
        Path::new("/").to_owned()
    });
    let mut options =
        Options::new(tls, boot.guard(installer(args, disk, recorder), store.clone()), application)
            .download_tls(download_tls)
            .install_checks(args.check_interval)
            .firmware_store(folder(&args.cache_dir, args))
            .health(Some(HealthSampler::new(watched)))
            .on_notice(move |text| notices.note("notice", text));
    let chosen = proxy::choose(args.proxy.as_deref(), |name| secrets.variable(name))?;
    for remark in chosen.remarks {
        recorder.note("proxy", remark);
    }
    options = options.proxy_rules(chosen.rules);
    if let Some(dir) = &args.archive_dir {
        let kept = (args.archives_max, args.archives_max_bytes);
        options = options.archive_store(folder(dir, args).keep_at_most(kept.0, kept.1));
    }
    if args.console || args.local_shell {
        recorder.note("console", format!("operators may work in {} here", args.shell.display()));
        // The device's secrets are none of the operator's business.
        let shell = ShellCommand::new(&args.shell);
        let shell = args.pass_env.iter().fold(shell, ShellCommand::pass);
        options = options.shell(shell);
    }
    if let Some(file) = &state {
        options = options.remember_attempts(FileStore::new(file));
    }
    if let Some(folder) = &args.data_path {
        options = options.data_path(folder);
    }
    let runner = Runner::new(config, options).map_err(|error| error.to_string())?;

    let handle = runner.handle();
    *outlet.write().unwrap_or_else(PoisonError::into_inner) = Some(handle.clone());
    if !stopper.attach(Some(handle.clone())) {
        return Ok(Exit::Stopped);
    }
    let asking = handle.clone();
    start("update requests", move || {
        ask_for_updates(&modes, ASK_EVERY, || {
            // A refusal (an update runs, the server said when to come back) is told by the notice hook.
            let _ = asking.command(Command::RequestUpdate);
        });
    })?;
    let recorder = Arc::clone(recorder);
    if unvalidated {
        let validation = Validation {
            store,
            boot: boot.clone(),
            handle,
            every: args.validation_interval,
            mark: args.validate_when_joined,
        };
        start("validation", move || validation.watch(&validations, &recorder))?;
    }
    Ok(runner.run())
}

/// Does something with local files on a thread of its own, which may hang.
fn aside<T: Send + 'static>(
    args: &RunArgs,
    recorder: &Arc<Recorder>,
    what: &str,
    work: impl FnOnce(&RunArgs, &Recorder) -> T + Send + 'static,
) -> Result<T, String> {
    let (args, recorder) = (args.clone(), Arc::clone(recorder));
    within(LOCAL_MAX, what, move || work(&args, &recorder))
}

fn boot_check(args: &RunArgs, recorder: &Arc<Recorder>) -> BootCheck {
    aside(args, recorder, "examining the disk for its boots", |args, _| booted::check(args)).unwrap_or_else(
        |error| {
            recorder.note("preflight", format!("--disk: {error}"));
            // Its kind is unknown: nothing is marked good without evidence.
            BootCheck::of_system(&args.disk)
        },
    )
}

/// Reads who the device is.
///
/// # Errors
///
/// Why the system must be restarted first.
fn environment(
    args: &RunArgs,
    recorder: &Recorder,
    store: &UbootStore,
    boot: &BootCheck,
    stuck: bool,
) -> Result<Identity, String> {
    let pairs = match store.load() {
        Ok(pairs) => pairs,
        Err(error) => {
            recorder.note(
                "no-environment",
                format!("no U-Boot environment at {} of {}: {error}", args.uboot_env, args.disk.display()),
            );
            return Ok(Identity::default());
        }
    };
    let identity = booted::identity(boot, &pairs, stuck, recorder)?;
    // One that can't be read any more is reported by what needs it.
    if let Ok(Some(damage)) = store.damage() {
        let text = format!("one copy of the U-Boot environment is bad, the other one is used: {damage}");
        recorder.note("environment-damaged", text);
    }
    Ok(identity)
}

/// Returns a folder of downloads.
fn folder(dir: &Path, args: &RunArgs) -> DownloadStore {
    DownloadStore::new(dir).reserve(args.keep_free.map_or(Reserve::Share, Reserve::Bytes))
}

/// Starts the thread that remembers which archives were handed over, and returns where to say so.
fn archives(dir: &Path, recorder: &Arc<Recorder>) -> Result<SyncSender<ArchiveNews>, String> {
    let (archives, ready) = sync_channel(MAX_KNOWN_ARCHIVES);
    let (known, recorder) = (Known::new(dir), Arc::clone(recorder));
    start("archives", move || remember_archives(&ready, &known, &recorder))?;
    Ok(archives)
}

fn start(name: &str, job: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = thread::Builder::new().name(name.into()).spawn(job);
    started.map(drop).map_err(|error| format!("can't start a thread for {name}: {error}"))
}

#[cfg(feature = "demo")]
fn installer(args: &RunArgs, disk: DiskPolicy, recorder: &Recorder) -> Box<dyn Installer> {
    match args.fail_power_after {
        Some(bytes) => {
            let lines = recorder.lines().clone();
            Box::new(crate::demo::power::FailingInstaller::new(disk, &args.task, bytes, lines))
        }
        None => Box::new(FwupStreamInstaller::new(disk).task(&args.task)),
    }
}

#[cfg(not(feature = "demo"))]
fn installer(args: &RunArgs, disk: DiskPolicy, _: &Recorder) -> Box<dyn Installer> {
    Box::new(FwupStreamInstaller::new(disk).task(&args.task))
}
