//! `-S`: signing an archive.

use std::path::Path;

use fwup_stream::create::Signer;

use crate::Failure;
use crate::options::{Options, environment};
use crate::output::Output;

/// `-S`.
pub(crate) fn run(options: &Options, output: &mut Output) -> Result<(), Failure> {
    let file = |path: &Option<std::ffi::OsString>, what: &str| {
        path.clone().filter(|path| path != "-").ok_or_else(|| Failure::new(format!("Specify {what}")))
    };
    let from = file(&options.input, "an input firmware file")?;
    let to = file(&options.output, "an output firmware file")?;
    let key = options.private_key.clone().ok_or_else(|| Failure::new("Specify a signing key"))?;
    let signer = Signer::new(key).variables(environment());
    signer.sign_file(Path::new(&from), Path::new(&to)).map_err(Failure::new)?;
    output.result::<&str>([]);
    Ok(())
}
