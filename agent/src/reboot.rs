//! Restarting the system after an update.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nerves_hub_link_platform::child_env;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::limits::{REBOOT_AGAIN, REBOOT_COMMAND_MAX, REBOOT_OUTPUT_MAX};
use crate::record::Recorder;

/// Runs the reboot command.
///
/// # Errors
///
/// What became of it, for a person.
pub fn run(command: &str, passed: &[String], recorder: &Recorder) -> Result<(), String> {
    within(command, passed, recorder, REBOOT_COMMAND_MAX)
}

/// Runs the reboot command now and then, for the rest of the process's life: a device that was updated and does not restart
/// runs old firmware for ever.
pub fn keep_trying(command: &str, passed: &[String], recorder: &Recorder) -> ! {
    loop {
        thread::sleep(REBOOT_AGAIN);
        recorder.note("reboot", "running the reboot command again");
        match run(command, passed, recorder) {
            Ok(()) => recorder.note("reboot", "the reboot command succeeded"),
            Err(error) => recorder.note("reboot-failed", again(&error)),
        }
    }
}

/// Says what becomes of a device that could not be restarted.
pub fn again(error: &str) -> String {
    format!(
        "{error}; the device stays connected, and the command is run again in {} min. \
         Restart the system by hand, or correct --reboot-command",
        REBOOT_AGAIN.as_secs() / 60
    )
}

fn within(command: &str, passed: &[String], recorder: &Recorder, limit: Duration) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null());
    let passed: Vec<OsString> = passed.iter().map(OsString::from).collect();
    shell.env_clear().envs(child_env::environment(&passed));
    let output = Output::new();
    let (out, err) = output.as_ref().map_or_else(|_| (Stdio::null(), Stdio::null()), Output::ends);
    let mut child = shell
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(|error| format!("can't run the reboot command {command:?} with /bin/sh: {error}"))?;
    let (ended, end) = channel();
    thread::Builder::new()
        .name("reboot command".into())
        // Nobody listens any more after the limit.
        .spawn(move || drop(ended.send(child.wait())))
        .map_err(|error| format!("can't start a thread to wait for the reboot command: {error}"))?;
    let status = end.recv_timeout(limit);
    let said = output.ok().map(Output::text).unwrap_or_default(); // Without one it could say nothing.
    if !said.is_empty() {
        recorder.note("reboot", format!("the reboot command says: {said}"));
    }
    match status {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("the reboot command {command:?} failed: {status}")),
        Ok(Err(error)) => Err(format!("can't wait for the reboot command {command:?}: {error}")),
        Err(_) => Err(format!(
            "the reboot command {command:?} has not ended after {} s, and the system still runs",
            limit.as_secs()
        )),
    }
}

/// Where the command writes to: memory of a fixed size. It never waits for a reader, and lives on when this program has
/// ended before the system has.
struct Output(File);

impl Output {
    fn new() -> io::Result<Self> {
        let file = File::from(memfd_create("reboot", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.set_len(REBOOT_OUTPUT_MAX)?;
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK)?;
        Ok(Self(file))
    }

    /// Both ends write to one place, one after the other.
    fn ends(&self) -> (Stdio, Stdio) {
        let end = || self.0.try_clone().map_or_else(|_| Stdio::null(), Stdio::from);
        (end(), end())
    }

    fn text(mut self) -> String {
        // A position in memory is always known, and the limit fits into any address. Text is not worth more than the reboot.
        let length = self.0.stream_position().map(|length| length.min(REBOOT_OUTPUT_MAX));
        let length = length.ok().and_then(|length| usize::try_from(length).ok());
        debug_assert!(length.is_some(), "memory without a position");
        let Some(length) = length else { return String::from("(its output is lost: an internal error)") };
        let mut bytes = vec![0; length];
        // What can't be read is not worth more than the reboot.
        let _ = self.0.read_exact_at(&mut bytes, 0);
        String::from_utf8_lossy(&bytes).replace('\0', "").trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;

    #[test]
    fn a_command_that_writes_without_end_or_never_ends_holds_nobody_up() {
        let recorder = Recorder::new(Format::Plain, None);
        let limit = Duration::from_secs(60);
        assert_eq!(within("head -c 100000 /dev/zero; exit 0", &[], &recorder, limit), Ok(()));
        let failed = within("echo no power >&2; exit 3", &[], &recorder, limit).unwrap_err();
        assert!(failed.contains("exit status: 3") || failed.contains("exit code: 3"), "{failed}");
        let hangs = within("exec sleep 1", &[], &recorder, Duration::from_millis(1)).unwrap_err();
        assert!(hangs.contains("has not ended"), "{hangs}");
        // Cargo sets it for tests.
        let test = "test -z \"$CARGO_PKG_NAME\" && test -n \"$PATH\"";
        assert_eq!(within(test, &[], &recorder, limit), Ok(()));
        assert!(within(test, &["CARGO_PKG_NAME".into()], &recorder, limit).is_err());
    }

    #[test]
    fn what_it_says_is_kept_to_a_bound() {
        let mut output = Output::new().unwrap();
        let text = "x".repeat(usize::try_from(REBOOT_OUTPUT_MAX).unwrap());
        std::io::Write::write_all(&mut output.0, text.as_bytes()).unwrap();
        assert!(std::io::Write::write_all(&mut output.0, b"y").is_err());
        assert_eq!(output.text(), text);
    }
}
