//! `replay FILE…`

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nerves_hub_link_testkit::replay::{Credentials, Report, Verdict, replay};
use serde_json::Value;

/// Arguments of `replay`.
#[derive(Args)]
pub struct Arguments {
    /// Recordings (JSON lines), or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only name the files and how they ended
    #[arg(short, long)]
    quiet: bool,
}

/// Replays each file, prints what came of it and a summary. Fails if anything differs without a reason.
pub fn run(arguments: &Arguments) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let mut counts = [0_usize; 4];
    let mut unreadable = 0_usize;
    for file in arguments.files.iter().flat_map(|path| files(path)) {
        let name = file.display();
        let Ok(text) = std::fs::read_to_string(&file).inspect_err(|error| eprintln!("{name}: {error}"))
        else {
            unreadable += 1;
            continue;
        };
        let credentials = file.parent().and_then(credentials);
        let report = replay(&text, credentials.as_ref());
        let verdict = report.verdict();
        let slot = match verdict {
            Verdict::Same => 0,
            Verdict::Explained => 1,
            Verdict::Survives => 2,
            Verdict::Fails => 3,
        };
        if let Some(count) = counts.get_mut(slot) {
            *count += 1;
        }
        // A reader that goes away early, such as `head`, is no failure.
        let _ = write!(out, "{name}: {}", shown(&report, arguments.quiet && verdict != Verdict::Fails));
    }
    let [same, explained, survives, fails] = counts;
    let _ = writeln!(
        out,
        "{} files: {same} same, {explained} same but for what is meant to differ, {survives} survive, {fails} fail, \
         {unreadable} unreadable",
        same + explained + survives + fails + unreadable
    );
    if fails + unreadable == 0 && same + explained + survives > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn shown(report: &Report, short: bool) -> String {
    let text = report.to_string();
    match text.split_once('\n') {
        Some((first, _)) if short => format!("{first}\n"),
        _ => text,
    }
}

/// A file itself, or the recordings in a folder by name.
fn files(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
}

/// The key and secret of the recorded installation, if they lie beside the recording.
fn credentials(folder: &Path) -> Option<Credentials> {
    let text = std::fs::read_to_string(folder.join("credentials.json")).ok()?;
    let value: Value = serde_json::from_str(&text).ok()?;
    let field = |name: &str| value.get(name)?.as_str().map(str::to_owned);
    Some(Credentials { key: field("product_key")?, secret: field("product_secret")? })
}
