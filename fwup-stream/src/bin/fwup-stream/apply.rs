//! `-a`: writing firmware to the destination.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fwup_stream::disk::{FileTarget, OpenOptions, Target, WriteBehind, unmount_all};
use fwup_stream::{Applier, ApplyOptions};

use crate::Failure;
use crate::detect;
use crate::input::{End, Input, several_cores};
use crate::inspect::tell_detail;
use crate::options::{Options, environment};
use crate::output::{Manner, Output};

/// Applies the archive.
pub(crate) fn run(options: &Options, output: &mut Output) -> Result<(), Failure> {
    let Some(task) = &options.task else {
        return Err(Failure::new("specify a task (-t)"));
    };
    let destination = match &options.destination {
        Some(path) => PathBuf::from(path),
        None => detect::destination(options)?,
    };
    let manner = match (options.framing, options.quiet, options.numeric) {
        (_, true, _) => Manner::Off,
        (true, false, _) => Manner::Frames,
        (false, false, true) => Manner::Numbers,
        (false, false, false) => Manner::Bar,
    };
    output.begin(manner, options.progress_low);
    if options.input.as_ref().is_some_and(|input| is_same(Path::new(input), &destination)) {
        let text = format!("the destination {} is the archive itself", destination.display());
        return Err(Failure::new(text).line_before(true));
    }
    let target = open_destination(&destination, options, output)?;
    let applied = apply(target, task, options, output);
    applied.map_err(|failure| failure.line_before(!options.quiet))
}

/// Says whether two names are of one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let number = |path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    number(one).is_some_and(|number_of_one| number(other) == Some(number_of_one))
}

/// Opens the destination, with what is mounted from it unmounted.
fn open_destination(path: &Path, options: &Options, output: &mut Output) -> Result<FileTarget, Failure> {
    let is_block = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device());
    if options.unmount && is_block {
        unmount_all(path).map_err(|error| Failure::new(error).line_before(true))?;
    }
    let mut target =
        FileTarget::open(path, &OpenOptions { max_blocks: options.max_blocks }).map_err(|error| {
            error.warnings().iter().for_each(|warning| output.message(warning));
            Failure::new(error).line_before(true)
        })?;
    target.take_warnings().iter().for_each(|warning| output.message(warning));
    if options.enable_trim && target.is_regular() {
        output.message("ignoring --enable-trim since operating on a regular file");
    }
    Ok(target)
}

fn apply(target: FileTarget, task: &str, options: &Options, output: &mut Output) -> Result<(), Failure> {
    let mut input = Input::open(options)?;
    let verify = options.verify_writes.unwrap_or(target.is_device());
    let threads = several_cores();
    let apply = {
        let mut apply = ApplyOptions::default();
        task.clone_into(&mut apply.task);
        apply.public_keys.clone_from(&options.public_keys);
        // As fwup does: without a key any firmware is taken.
        apply.require_signature = false;
        apply.progress_low = options.progress_low;
        apply.progress_high = options.progress_high;
        apply.variables = environment();
        // The thread that writes reads back too.
        apply.verify_writes = verify && !threads;
        apply.threads = threads;
        apply.minimize_writes = options.minimize_writes;
        apply.enable_trim = options.enable_trim && target.is_device();
        apply.unsafe_allowed = options.unsafe_allowed;
        apply.reboot_param_path = options.reboot_param_path.clone().map(Into::into);
        // What fwup decodes is decoded: windows of 64 MiB, where the resource is that large.
        apply.delta_memory = usize::MAX;
        apply.archive_name = input.name().map(str::to_owned);
        apply
    };
    let shared = Arc::new(Mutex::new(output.clone()));
    let screen = Arc::clone(&shared);
    let observer = move |event: fwup_stream::ApplyEvent| {
        screen.lock().unwrap_or_else(PoisonError::into_inner).event(&event);
    };
    let target: Box<dyn Target> = if threads {
        let behind = WriteBehind::new(target, verify);
        Box::new(behind.map_err(|error| Failure::new(format!("cannot start a thread to write: {error}")))?)
    } else {
        Box::new(target)
    };
    let outcome = work(apply, target, &mut input, observer);
    *output = shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
    output.applied(outcome?);
    Ok(())
}

/// Streams the archive to the target; says whether there was anything to count.
fn work(
    options: ApplyOptions,
    target: Box<dyn Target>,
    input: &mut Input,
    observer: impl FnMut(fwup_stream::ApplyEvent) + Send + 'static,
) -> Result<bool, Failure> {
    let mut applier =
        Applier::with_observer(options, target, observer).map_err(|error| tell_detail(&error))?;
    let end = input.feed(|piece| {
        applier.push(piece).map_err(|error| tell_detail(&error))?;
        Ok(applier.wants_more())
    });
    match end {
        Ok(End::Complete) => {
            let report = applier.finish().map_err(|error| tell_detail(&error))?;
            Ok(report.units_done > 0)
        }
        Ok(End::BrokeOff) => Err(tell_detail(&applier.abort())),
        Err(failure) => {
            // When reading failed, the task still gets to clean up; after an error of its own it has.
            applier.abort();
            Err(failure)
        }
    }
}
