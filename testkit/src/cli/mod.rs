//! Arguments and which command they ask for.

mod power_cuts;
mod replay;
mod simulate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "nerves-hub-link-testkit",
    about = "Tests of NervesHubLink that are worth a command of their own"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Cut power at every write and every sync of an upgrade, and see what boots
    PowerCuts(power_cuts::Arguments),
    /// Replay recorded traffic against the device's machine and compare
    Replay(replay::Arguments),
    /// Run a fleet through bad networks, bad servers, full disks and pulled plugs, in virtual time
    Simulate(simulate::Arguments),
}

/// Runs what the arguments ask for.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::PowerCuts(arguments) => power_cuts::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
    }
}
