//! The NervesHub device agent: over-the-air updates for any Linux device.
//!
//! | module | what is in it |
//! | --- | --- |
//! | `cli`, `setup` | the command line, and what becomes of it |
//! | `run`, `archives` | the device; which archives it had |
//! | `record`, `memory` | what it says |
//! | `demo` | one update end to end, for the eye (feature `demo`) |

mod archives;
mod booted;
mod cli;
#[cfg(feature = "demo")]
mod demo;
mod extensions;
mod memory;
mod record;
mod run;
mod setup;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Run(args) => run::run(&args),
        #[cfg(feature = "demo")]
        cli::Command::Demo(args) => demo::run(&args),
    }
}
