//! `fwup-stream`: applies, verifies and reads firmware archives with the options, texts and exit codes of
//! `fwup`, so that what drives `fwup` can drive it unchanged.

mod apply;
mod create;
mod detect;
mod getopt;
mod input;
mod inspect;
mod keys;
mod options;
mod output;
mod sign;
mod sparse;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

use options::{Command, Parsed};
use output::Output;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default().to_string_lossy().into_owned();
    let arguments: Vec<OsString> = arguments.collect();
    let mut output = Output::default();
    let failed = match run(&name, &arguments, &mut output) {
        Ok(()) => false,
        Err(Failure { text, line_before }) => {
            if let Some(text) = text {
                output.error(&text, line_before);
            }
            true
        }
    };
    output.end(failed);
    ExitCode::from(u8::from(failed))
}

/// Why the command ends with exit code 1.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What is told; nothing when all was told already.
    text: Option<String>,
    /// A line end goes to standard error first, as in fwup.
    line_before: bool,
}

impl Failure {
    /// A failure to be told.
    pub(crate) fn new(text: impl std::fmt::Display) -> Self {
        Self { text: Some(text.to_string()), line_before: false }
    }

    /// A failure that was told already.
    pub(crate) fn told() -> Self {
        Self { text: None, line_before: false }
    }

    /// The same, with a line end on standard error first if `on`.
    pub(crate) fn line_before(self, on: bool) -> Self {
        Self { line_before: on, ..self }
    }
}

fn run(name: &str, arguments: &[OsString], output: &mut Output) -> Result<(), Failure> {
    if arguments.is_empty() {
        output.at_exit(usage::text(options::is_original(name)));
        return Err(Failure::told());
    }
    let options = match options::parse(name, arguments, output)? {
        Parsed::Run(options) => *options,
        Parsed::Done => return Ok(()),
    };
    match options.command {
        Command::Apply => apply::run(&options, output),
        Command::Metadata => inspect::metadata(&options, output),
        Command::List => inspect::list(&options, output),
        Command::Verify => inspect::verify(&options, output),
        Command::Create => create::run(&options),
        Command::Sign => sign::run(&options, output),
        Command::GenKeys => keys::generate(&options, output),
        Command::SparseCheck => {
            let path = options.sparse_check.as_deref();
            let path =
                path.ok_or_else(|| Failure::new("internal error: --sparse-check has lost its path"))?;
            sparse::run(path, options.sparse_check_size, output)
        }
    }
}
