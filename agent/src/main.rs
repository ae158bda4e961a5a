//! The NervesHub device agent: over-the-air updates for any Linux device.
//!
//! | module | what is in it |
//! | --- | --- |
//! | `cli`, `setup`, `preflight`, `proxy` | the command line, what becomes of it, and what is wrong with it |
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
mod setup;
mod stop;
mod validation;
mod words;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Run(args) => run::run(&args),
        #[cfg(feature = "demo")]
        cli::Command::Demo(args) => demo::run(&args),
    }
}
