//! `simulate`: a fleet in virtual time, many short scenarios, or a saved run again.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use clap::Args;
use nerves_hub_link_testkit::limits::SIM_DEVICES;
use nerves_hub_link_testkit::sim::{
    Fault, Faults, Outcome, Report, Saved, Scenario, Violation, What, World, replay_line, shrink,
};

/// Runs of a failing scenario to make it smaller.
const SHRINK: u32 = 2000;
/// The same for a fleet, whose runs take longer.
const SHRINK_FLEET: u32 = 150;

/// What means nothing for short scenarios and saved runs, which bring their own.
const FLEET_ONLY: [&str; 9] =
    ["devices", "days", "rates", "releases", "firmware_kib", "heartbeat", "every_heartbeat", "json", "html"];

#[derive(Args)]
pub struct Arguments {
    /// Devices
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(SIM_DEVICES)))]
    devices: u32,
    /// Days of virtual time, before everything heals
    #[arg(long, default_value_t = 10.0, value_parser = days)]
    days: f64,
    /// What decides everything; random and printed if absent
    #[arg(long)]
    seed: Option<u64>,
    /// Classes of faults: names and origins with commas between, `all`, `none`; a minus takes away. `list` lists them
    #[arg(long, default_value = "all", allow_hyphen_values = true)]
    faults: String,
    /// How often faults strike: a factor for all, such as 2, or for single classes, such as cut=5,dns=0.1
    #[arg(long, default_value = "1")]
    rates: String,
    /// Releases of firmware over the days
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1000))]
    releases: Option<u32>,
    /// Size of a firmware in KiB
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    firmware_kib: u64,
    /// Seconds between heartbeats
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(5..=120))]
    heartbeat: u64,
    /// Play every heartbeat, also of devices that nothing happens to
    #[arg(long)]
    every_heartbeat: bool,
    /// Run so many short scenarios instead of a fleet, from the seed on
    #[arg(long, value_name = "N", conflicts_with_all = FLEET_ONLY)]
    runs: Option<u64>,
    /// Run what a file holds, as a failed run left it
    #[arg(long, value_name = "FILE", conflicts_with_all = FLEET_ONLY, conflicts_with_all = ["runs", "seed", "faults"])]
    replay: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Write the report as one page for a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where a failing run is saved
    #[arg(long, value_name = "FOLDER", default_value = "target/sim")]
    save: PathBuf,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    if arguments.faults == "list" {
        for fault in Fault::ALL {
            println!("{:15} {:12} {}", fault.name(), fault.origin().name(), fault.about());
        }
        return ExitCode::SUCCESS;
    }
    let result = match (&arguments.replay, arguments.runs) {
        (Some(file), _) => replay(file),
        (None, Some(runs)) => many(arguments, runs),
        (None, None) => fleet(arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

/// Reads a number of days: an hour at least, a hundred years at most.
fn days(text: &str) -> Result<f64, String> {
    let days = text.parse().ok().filter(|days| (1.0 / 24.0..=36_500.0).contains(days));
    days.ok_or_else(|| "a number from 0.042 (an hour) to 36500 is needed".to_owned())
}

fn seed(arguments: &Arguments) -> u64 {
    arguments.seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Short enough to be typed; runs of one second don't meet.
        now.as_secs() % 1_000_000 * 1_000_000 + u64::from(now.subsec_micros())
    })
}

fn scenario(arguments: &Arguments) -> Result<Scenario, String> {
    let mut scenario = Scenario::fleet(arguments.devices, arguments.days, seed(arguments));
    scenario.faults = Faults::parse(&arguments.faults).map_err(|error| error.to_string())?;
    for word in arguments.rates.split(',') {
        let (name, factor) = word.split_once('=').map_or((None, word), |(name, factor)| (Some(name), factor));
        let factor: f64 = factor
            .trim()
            .parse()
            .ok()
            .filter(|factor| (0.0..=1e6).contains(factor))
            .ok_or_else(|| format!("--rates: {factor:?} is no factor from 0 to 1000000"))?;
        match name.map(str::trim) {
            None => scenario.rate = factor,
            Some(name) => {
                let fault = Fault::parse(name).ok_or_else(|| {
                    format!("--rates: no class of faults is called {name:?}; see --faults list")
                })?;
                scenario.rates.push((fault, factor));
            }
        }
    }
    scenario.releases = arguments.releases.unwrap_or(scenario.releases);
    scenario.firmware_bytes = arguments.firmware_kib * 1024;
    scenario.heartbeat = arguments.heartbeat;
    scenario.every_heartbeat = arguments.every_heartbeat;
    Ok(scenario)
}

fn fleet(arguments: &Arguments) -> Result<ExitCode, String> {
    let scenario = scenario(arguments)?;
    if let Some(file) = &arguments.html {
        // Before the work, and without losing a page that is there.
        let opened = OpenOptions::new().append(true).create(true).open(file);
        opened.map_err(|error| cannot_write(file, &error))?;
    }
    if !arguments.json {
        println!("seed {}: {} devices, {} days", scenario.seed, scenario.devices, arguments.days);
    }
    let began = Instant::now();
    // Taking a large fleet apart takes long, and the process ends soon.
    let mut world = std::mem::ManuallyDrop::new(World::new(scenario.clone()));
    match world.run() {
        Ok(outcome) => {
            let report = Report::new(&scenario, outcome, began.elapsed());
            show(arguments, &report)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(violation) => failed(arguments, &scenario, &violation, SHRINK_FLEET),
    }
}

fn show(arguments: &Arguments, report: &Report) -> Result<(), String> {
    if arguments.json {
        println!("{}", report.to_json());
    } else {
        print!("{}", report.to_text());
    }
    if let Some(file) = &arguments.html {
        std::fs::write(file, report.to_html()).map_err(|error| cannot_write(file, &error))?;
        if !arguments.json {
            println!("\nThe page is in {}.", file.display());
        }
    }
    Ok(())
}

fn cannot_write(file: &Path, error: &io::Error) -> String {
    format!("the page can't be written to {}: {error}", file.display())
}

fn many(arguments: &Arguments, runs: u64) -> Result<ExitCode, String> {
    let from = seed(arguments);
    let faults = Faults::parse(&arguments.faults).map_err(|error| error.to_string())?;
    println!("{runs} short scenarios from seed {from} on");
    let began = Instant::now();
    let (mut events, mut devices, mut written, mut failed_updates, mut struck) =
        (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    let mut virtual_time = 0_u64;
    for run in 0..runs {
        let mut scenario = Scenario::short(from.wrapping_add(run));
        if let Some(steps) = &mut scenario.steps {
            steps.retain(|step| match step.what {
                What::Fault(fault) => faults.contains(fault),
                _ => true,
            });
        }
        match World::new(scenario.clone()).run() {
            Ok(Outcome { events: these, ended, stats, .. }) => {
                events += these;
                virtual_time += ended / 1_000_000 * u64::from(stats.devices);
                devices += u64::from(stats.devices);
                written += stats.written;
                failed_updates += stats.failed_updates();
                struck += stats.faults_met();
            }
            Err(violation) => return failed(arguments, &scenario, &violation, SHRINK),
        }
        if (run + 1) % 100_000 == 0 {
            println!("{} runs, {:.0} s", run + 1, began.elapsed().as_secs_f64());
        }
    }
    println!(
        "{runs} runs passed in {:.1} s: {devices} devices, {} device-days, {events} events, {struck} faults, \
         {written} updates written, {failed_updates} failed and reported",
        began.elapsed().as_secs_f64(),
        virtual_time / 86_400,
    );
    Ok(ExitCode::SUCCESS)
}

fn replay(file: &Path) -> Result<ExitCode, String> {
    let saved = Saved::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut world = World::new(saved.scenario).recording(200);
    let result = world.run();
    for line in world.lines() {
        println!("{line}");
    }
    match result {
        Ok(outcome) => {
            println!("nothing was broken; {} events, hash {:016x}", outcome.events, outcome.hash);
            Ok(ExitCode::SUCCESS)
        }
        Err(violation) => {
            println!("broken: {violation}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn failed(
    arguments: &Arguments,
    scenario: &Scenario,
    violation: &Violation,
    runs: u32,
) -> Result<ExitCode, String> {
    eprintln!("broken with seed {}: {violation}", scenario.seed);
    eprintln!("making it smaller …");
    let shrunk = shrink(scenario, violation, runs);
    let saved = Saved::of(&shrunk.scenario, &shrunk.violation);
    let file = saved
        .write_into(&arguments.save)
        .map_err(|error| format!("the run can't be saved in {}: {error}", arguments.save.display()))?;
    let steps =
        shrunk.scenario.steps.as_ref().map_or_else(|| "all".to_owned(), |steps| steps.len().to_string());
    let devices = shrunk.scenario.devices as usize - shrunk.scenario.absent.len();
    eprintln!("after {} runs: {steps} steps with {devices} devices: {}", shrunk.runs, shrunk.violation);
    for line in saved.trace.iter().rev().take(25).rev() {
        eprintln!("  {line}");
    }
    eprintln!("run it again: {}", replay_line(&file));
    Ok(ExitCode::FAILURE)
}
