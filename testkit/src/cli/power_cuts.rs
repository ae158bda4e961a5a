//! `power-cuts`

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use nerves_hub_link_testkit::disk::cuts::{
    Case, Effort, Report, WAYS, ab_cases, bad_cases, environment_cases, golden_cases, power_cuts, store_cuts,
    table_cases,
};

/// Arguments of `power-cuts`.
#[derive(Args)]
pub struct Arguments {
    /// Folder of recorded archives; without it the ones beside or in the source are taken
    #[arg(long)]
    golden: Option<PathBuf>,
    /// Decides what is sampled where not everything can be tried
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Disks to sample for each cut of which more than 1024 different ones can come
    #[arg(long, default_value_t = 100)]
    samples: usize,
    /// Only cases and ways (together `CASE: WAY`) whose names have this in them
    #[arg(long, default_value = "")]
    only: String,
    /// A small selection, as the tests try
    #[arg(long)]
    quick: bool,
}

/// Tries every case in every way, prints a line for each and a sum. Fails if a device did not boot.
pub fn run(arguments: &Arguments) -> ExitCode {
    match try_all(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("power-cuts: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_all(arguments: &Arguments) -> std::io::Result<bool> {
    let effort = if arguments.quick {
        Effort::bounded(arguments.seed)
    } else {
        Effort { samples: arguments.samples, ..Effort::full(arguments.seed) }
    };
    if let Some(folder) = arguments.golden.as_deref().filter(|folder| !folder.is_dir()) {
        return Err(std::io::Error::other(format!("--golden: {} is no folder", folder.display())));
    }
    let (cases, missing) = cases(arguments.golden.as_deref())?;
    let begun = Instant::now();
    let mut all = Report { case: "all".to_owned(), ..Report::default() };
    // A reader that goes away early, such as `head`, is no failure.
    let print = |line: String| drop(writeln!(std::io::stdout(), "{line}"));
    print(Report::columns());
    let mut done = |report: Report| {
        print(report.to_string());
        for failure in &report.failures {
            print(format!("  FAILED {failure}"));
        }
        if report.failed > 0 {
            print(format!(
                "  again: power-cuts --seed {} --samples {}{} --only {:?}",
                arguments.seed,
                arguments.samples,
                if arguments.quick { " --quick" } else { "" },
                format!("{}: {}", report.case, report.way)
            ));
        }
        all.add(&report);
    };
    let wanted = |case: &str, way: &str| format!("{case}: {way}").contains(&arguments.only);
    for case in &cases {
        for way in WAYS.into_iter().filter(|way| wanted(&case.name, way.name)) {
            done(power_cuts(case, way, &effort));
        }
    }
    let folder = std::env::temp_dir().join(format!("power-cuts-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let stores = store_cuts(&folder, &effort);
    std::fs::remove_dir_all(&folder)?;
    stores?.into_iter().filter(|report| wanted(&report.case, &report.way)).for_each(&mut done);
    if all.cuts == 0 {
        let only = &arguments.only;
        return Err(std::io::Error::other(format!("--only: no case and way have {only:?} in their name")));
    }
    print(all.to_string());
    for name in missing {
        print(format!("SKIPPED: no recorded archives {name}"));
    }
    print(format!("{:.0} s, seed {}", begun.elapsed().as_secs_f64(), arguments.seed));
    Ok(all.is_good())
}

fn cases(golden: Option<&Path>) -> std::io::Result<(Vec<Case>, Vec<String>)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [here.join("../../shared/golden/fw"), here.join("golden/fw")];
    let found = golden.or_else(|| places.iter().find(|place| place.is_dir()).map(PathBuf::as_path));
    let mut cases = ab_cases()?;
    cases.extend(table_cases()?);
    cases.extend(bad_cases()?);
    let mut missing = Vec::new();
    match found {
        None => missing.push("at all".to_owned()),
        Some(folder) => {
            for (more, without) in [golden_cases(folder)?, environment_cases(folder)?] {
                cases.extend(more);
                missing.extend(without);
            }
        }
    }
    Ok((cases, missing))
}
