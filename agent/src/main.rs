//! The NervesHub device agent: over-the-air updates for any Linux device.
//!
//! | module | what is in it |
//! | --- | --- |
//! | `cli`, `setup`, `preflight`, `proxy` | the command line, what becomes of it, and what is wrong with it |
//! | `secrets` | the secrets of the environment, kept from others |
//! | `bounded` | work that may hang with a disk |
//! | `bookkeeping` | files in which the program remembers things, and what if they are damaged |
//! | `run`, `application`, `archives`, `booted` | the device; which archives it had; what really runs |
//! | `stop`, `reboot` | how it ends: by signals, with a restart of the system |
//! | `record`, `words`, `flood`, `memory`, `output` | what it says, how much of it, and how that is written without waiting for a reader |
//! | `limits` | every bound, with its reason |
//! | `demo` | one update end to end, for the eye (feature `demo`) |

mod application;
mod archives;
mod bookkeeping;
mod booted;
mod bounded;
mod cli;
#[cfg(feature = "demo")]
mod demo;
mod extensions;
mod flood;
mod limits;
mod memory;
mod output;
mod preflight;
mod proxy;
mod reboot;
mod record;
mod run;
mod secrets;
mod setup;
mod stop;
mod validation;
mod words;

use std::process::ExitCode;

use clap::Parser;

use secrets::Secrets;

fn main() -> ExitCode {
    // Before anything else: no thread may run yet, and no child may be started.
    let secrets = Secrets::take();
    match cli::Cli::parse().command {
        cli::Command::Run(mut args) => match secrets.complete(&mut args) {
            Ok(()) => run::run(&args, &secrets),
            Err(reason) => {
                let errors = output::Lines::stderr();
                errors.line(format!("nerves-hub-link: {reason}"));
                errors.flush(limits::FLUSH_MAX);
                ExitCode::FAILURE
            }
        },
        #[cfg(feature = "demo")]
        cli::Command::Demo(args) => demo::run(&args),
    }
}
