//! Functions that reach this system rather than the destination: `path_write`, `pipe_write`, `execute` and
//! `reboot_param` (fw-format §8). All but the last are for firmware that is trusted with everything.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::context::Context;
use super::data::Sink;
use super::error::ActionError;
use super::feed::Feed;
use crate::disk::BLOCK_BYTES;
use crate::manifest::Call;

/// Where the parameter for the next reboot goes when nothing else is set, in the order tried.
const REBOOT_PARAM: [&str; 2] = ["/run/systemd/reboot-param", "/run/reboot-param"];

/// `sh -c`, with the firmware's identity in its environment.
pub(crate) fn shell(context: &Context<'_>, command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]);
    shell.envs(context.settings.child_environment.iter().map(|(name, value)| (name, value)));
    // The archive may be coming in on our standard input: a command must not eat from it.
    shell.stdin(Stdio::null());
    shell
}

/// `execute(CMD)`.
pub(super) fn execute(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let command = call.text(0)?;
    let status = shell(context, command).status().map_err(|error| ActionError::Shell(error.to_string()))?;
    if !status.success() {
        return Err(ActionError::Execute { command: command.to_owned(), status: status.into_raw() });
    }
    context.done(BLOCK_BYTES);
    Ok(())
}

/// `reboot_param(TEXT)`.
pub(super) fn reboot_param(context: &mut Context<'_>, call: &Call<'_>) -> Result<(), ActionError> {
    let usual = || REBOOT_PARAM.iter().map(PathBuf::from).collect();
    let places: Vec<PathBuf> =
        context.settings.reboot_param_path.as_ref().map_or_else(usual, |path| vec![path.clone()]);
    let text = call.text(0)?;
    let written = |path: &Path| File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    if !places.iter().any(|path| written(path).is_ok()) {
        // The last of them is told, as by fwup; there always is one.
        let path = places.last().map(|path| path.display().to_string()).unwrap_or_default();
        return Err(ActionError::CannotOpen { function: "reboot-param", path });
    }
    context.done(BLOCK_BYTES);
    Ok(())
}

/// `path_write(PATH)`.
pub(super) fn path(_: &mut Context<'_>, call: &Call<'_>) -> Result<Box<dyn Sink>, ActionError> {
    let path = call.text(0)?.to_owned();
    match File::create(&path) {
        Ok(file) => Ok(Box::new(PathSink { path, file })),
        Err(_) => Err(ActionError::CannotOpen { function: "path_write", path }),
    }
}

/// A file of this system; holes stay holes.
struct PathSink {
    path: String,
    file: File,
}

impl Sink for PathSink {
    fn write(&mut self, _: &mut Context<'_>, offset: u64, data: &[u8]) -> Result<(), ActionError> {
        let written = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(data));
        written.map_err(|error| ActionError::HostWrite {
            function: "path_write",
            to: self.path.clone(),
            reason: crate::disk::reason(&error),
        })
    }

    fn finish(&mut self, context: &mut Context<'_>, length: u64, hole: u64) -> Result<(), ActionError> {
        // The last byte of a final hole gives the file its length.
        match length.checked_sub(1).filter(|_| hole > 0) {
            Some(last) => self.write(context, last, &[0]),
            None => Ok(()),
        }
    }
}

/// `pipe_write(CMD)`.
pub(super) fn pipe(context: &mut Context<'_>, call: &Call<'_>) -> Result<Box<dyn Sink>, ActionError> {
    let command = call.text(0)?.to_owned();
    let feed = Feed::start(&mut shell(context, &command));
    let feed = feed.map_err(|error| ActionError::Shell(error.to_string()))?;
    Ok(Box::new(PipeSink { command, feed }))
}

/// A command being fed; holes are zeros.
struct PipeSink {
    command: String,
    feed: Feed,
}

impl Sink for PipeSink {
    fn write(&mut self, _: &mut Context<'_>, offset: u64, data: &[u8]) -> Result<(), ActionError> {
        self.feed.write(offset, data).map_err(|_| ActionError::Pipe(self.command.clone()))
    }

    fn finish(&mut self, _: &mut Context<'_>, length: u64, _: u64) -> Result<(), ActionError> {
        match self.feed.finish(length) {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(ActionError::PipeStatus(self.command.clone())),
            Err(_) => Err(ActionError::Pipe(self.command.clone())),
        }
    }

    fn writes_holes(&self) -> bool {
        true
    }
}
