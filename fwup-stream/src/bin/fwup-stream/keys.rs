//! `-g`: making keys to sign with.

use std::path::Path;

use fwup_stream::create::KeyPair;

use crate::Failure;
use crate::options::Options;
use crate::output::Output;

/// The beginning of the key files' names when none is given.
const PREFIX: &str = "fwup-key";

/// `-g`.
pub(crate) fn generate(options: &Options, output: &mut Output) -> Result<(), Failure> {
    let prefix = options.output.as_deref().map_or(Path::new(PREFIX), Path::new);
    let keys = KeyPair::generate().map_err(Failure::new)?;
    keys.write(prefix).map_err(Failure::new)?;
    let [public, private] = KeyPair::paths(prefix).map(|path| {
        let path = path.to_string_lossy().into_owned();
        path.strip_prefix("./").map(str::to_owned).unwrap_or(path)
    });
    output.result(&format!(
        "Firmware signing keys created and saved to '{public}' and '{private}'\n\nDistribute '{public}' with your \
         system so that firmware updates can be\nauthenticated. Keep '{private}' in a safe location.\n"
    ));
    Ok(())
}
