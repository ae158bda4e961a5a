//! `-m`, `-l` and `-V`: reading an archive without writing anything.

use fwup_stream::archive::{ArchiveReader, ArchiveStart, OpenedArchive, Purpose, StartError, StartProgress};
use fwup_stream::{Error, Verifier};

use crate::Failure;
use crate::input::{Input, is_stdin, several_cores};
use crate::options::{Options, environment};
use crate::output::{Output, complain};

/// What fwup prints for a value that is not set.
const NO_VALUE: &str = "(null)";

/// `-m`: prints what the firmware says about itself.
pub(crate) fn metadata(options: &Options, output: &mut Output) -> Result<(), Failure> {
    let archive = open(options)?;
    match &options.metadata_key {
        Some(key) => output.result([archive.metadata.value(key).unwrap_or(NO_VALUE)]),
        None => output.result(archive.metadata.lines()),
    }
    Ok(())
}

/// `-l`: prints the names of the tasks.
pub(crate) fn list(options: &Options, output: &mut Output) -> Result<(), Failure> {
    let archive = open(options)?;
    let mut names: Vec<_> = archive.manifest.tasks.iter().map(|task| task.name.as_str()).collect();
    names.sort_unstable();
    output.result(names);
    Ok(())
}

/// `-V`: checks the whole archive.
pub(crate) fn verify(options: &Options, output: &mut Output) -> Result<(), Failure> {
    if options.input.as_ref().is_none_or(is_stdin) {
        return Err(Failure::new("Specify an input firmware file"));
    }
    let mut input = Input::open(options)?;
    let mut verifier = Verifier::new(options.public_keys.clone(), environment(), input.name())
        .threads(several_cores())
        .delta_memory(usize::MAX);
    if options.as_fwup {
        verifier = verifier
            .tell_broken_deltas(|error| complain(&format!("{error}; fwup takes such an archive for valid")));
    }
    input.feed(|piece| {
        verifier.push(piece).map_err(|error| tell_detail(&error))?;
        Ok(true)
    })?;
    let verdict = verifier.finish().map_err(|error| tell_detail(&error))?;
    output.result([verdict.to_string()]);
    Ok(())
}

/// Reads the beginning of the archive.
fn open(options: &Options) -> Result<OpenedArchive, Failure> {
    let mut input = Input::open(options)?;
    let mut start = ArchiveStart::new(options.public_keys.clone(), input.name(), Purpose::Inspect);
    let mut reader = ArchiveReader::new();
    let mut opened = None;
    let variables = environment();
    input.feed(|mut piece| {
        match start.step(&mut reader, &mut piece, &*variables) {
            Ok(StartProgress::NeedInput) => {}
            Ok(StartProgress::Opened(archive)) => opened = Some(archive),
            Err(error) => return Err(tell_detail(&error.into())),
        }
        Ok(opened.is_none())
    })?;
    match opened {
        Some(archive) => Ok(*archive),
        None => Err(tell_detail(&start.finish(&mut reader).into())),
    }
}

/// The failure for an error; what fwup's parser prints besides goes to standard error.
pub(crate) fn tell_detail(error: &Error) -> Failure {
    if let Error::Start(StartError::Manifest(error)) = error
        && let Some(detail) = error.detail()
    {
        complain(detail);
    }
    Failure::new(error)
}
