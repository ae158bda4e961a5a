//! One update end to end, on this machine: a stand-in for the server, a disk image, and a device.
//!
//! The hub and the disk's boot loader are testkit's; the device is this program again, as a process of
//! its own that runs `run`. So what is shown, and measured, is the device a user would install.

mod device;
mod facts;
mod foreign;
pub mod power;
mod screen;
mod stage;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::record::Record;
use nerves_hub_link_testkit::hub::HubEvent;
use screen::Screen;
use stage::Stage;

/// The settings of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// What goes wrong on the way.
    #[arg(long, value_enum)]
    pub fault: Option<Fault>,
    /// Update to this archive instead of a made-up one. Its task `complete` makes the disk.
    #[arg(long, value_name = "FILE")]
    pub firmware: Option<PathBuf>,
    /// The key that archive must be signed with: the text, or a file that fwup -g made. Without it, a
    /// copy of the archive is signed with a throw-away key.
    #[arg(long, value_name = "KEY", requires = "firmware")]
    pub public_key: Option<String>,
    /// Size of the made-up firmware in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=2048))]
    pub size: u32,
    /// Download at full speed instead of one the eye can follow.
    #[arg(long)]
    pub fast: bool,
    /// Print plain lines even on a terminal.
    #[arg(long)]
    pub plain: bool,
}

/// What can go wrong in the demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// The network breaks in mid-download, twice.
    Cut,
    /// A byte of the firmware was changed after it was signed.
    Tampered,
    /// The firmware is signed with a key the device doesn't trust.
    WrongKey,
    /// Power fails while the firmware is written.
    PowerCut,
    /// The server goes away in mid-download and comes back.
    ServerRestart,
}

/// What the story hears.
#[derive(Debug)]
pub enum News {
    /// The device said something.
    Device {
        /// Which process of the device, counted from 1.
        life: u32,
        /// What it said.
        record: Record,
    },
    /// The device's process closed its output.
    DeviceEnded {
        /// Which process of the device.
        life: u32,
        /// What it printed on stderr.
        complaints: String,
    },
    /// Something happened at the hub.
    Hub(HubEvent),
}

/// Shows an update. Exit status 0 if the outcome was the right one, 1 if not.
pub fn run(args: &DemoArgs) -> ExitCode {
    let mut screen = Screen::new(args.plain);
    let outcome = Stage::set(args, &mut screen).and_then(|stage| story::play(stage, &mut screen, args));
    let seconds = screen.seconds();
    match outcome {
        Ok(summary) => {
            screen.end(&format!("demo: as it should be, in {seconds:.1} s: {summary}"));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            screen.end(&format!("demo: NOT as it should be, after {seconds:.1} s: {reason}"));
            ExitCode::FAILURE
        }
    }
}
