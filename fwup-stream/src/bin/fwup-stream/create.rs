//! `-c`: making an archive from a configuration.

use std::io::{self, Read};
use std::path::Path;

use fwup_stream::create::{Builder, CreateError};
use fwup_stream::limits::CONFIGURATION_BYTES;
use fwup_stream::manifest::{Configuration, ConfigurationError};

use crate::Failure;
use crate::input::{is_stdin, reason};
use crate::options::{Options, environment};
use crate::output::complain;

/// The configuration when none is named.
const DEFAULT: &str = "fwupdate.conf";

/// `-c`. Says nothing when it is done, with `--framing` neither.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let variables = environment();
    let configuration = match &options.configuration {
        Some(path) if is_stdin(path) => {
            let mut text = Vec::new();
            // One byte more than allowed, so that too much is told from just enough.
            let read = io::stdin().lock().take(CONFIGURATION_BYTES as u64 + 1).read_to_end(&mut text);
            read.map_err(|error| {
                Failure::new(format!("reading the configuration failed: {}", reason(&error)))
            })?;
            Configuration::parse(&text, &*variables)
        }
        path => {
            let path = path.as_deref().map_or(Path::new(DEFAULT), Path::new);
            Configuration::read(path, &*variables)
        }
    };
    let configuration = configuration.map_err(|error| tell(&error))?;
    let mut builder = Builder::new().level(options.level).variables(variables);
    if let Some(key) = &options.private_key {
        builder = builder.signing_key(key.clone());
    }
    let made = match &options.output {
        Some(path) if path != "-" => builder.create_file(configuration, Path::new(path)),
        _ => builder.create(configuration, io::stdout().lock()).map(|_| ()),
    };
    made.map_err(|error| match &error {
        CreateError::Configuration(error) => tell(error),
        error => Failure::new(error),
    })
}

/// The failure for an error; what fwup's parser prints besides goes to standard error.
fn tell(error: &ConfigurationError) -> Failure {
    if let Some(detail) = error.detail() {
        complain(detail);
    }
    Failure::new(error)
}
