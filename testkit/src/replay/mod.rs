//! Recorded traffic of the real server and its devices, replayed against the device's machine in virtual time.
//!
//! The server's side of a recording is fed to [`nerves_hub_link_protocol::Link`]; what the machine opens, sends and
//! requests is compared with what the recorded device did. Each difference is either explained by the one table
//! in [`RULES`] or a failure. Where a script did wrong things on purpose, the machine gets the server's answers and
//! must survive them.
//!
//! | file | its job |
//! | --- | --- |
//! | `recording`, `token` | reading a recording |
//! | `cast` | who is who in it: lives of devices, probes, strangers |
//! | `plot`, `before` | the device's configuration, clock, decisions and what it had on disk, from what it did |
//! | `rig`, `drive`, `refs` | the machine on stage: its time, its sockets, whose answer is whose |
//! | `world`, `body`, `store` | what an adapter does: downloads, a store, an applier |
//! | `actor`, `values` | what the recorded device's program does: decisions, shells, measurements |
//! | `compare`, `connections`, `difference` | what differs |
//! | `rules` | why it may |
//! | `probe` | what scripts provoked, survived |
//! | `report` | the outcome, in words |

mod actor;
mod before;
mod body;
mod cast;
mod compare;
mod connections;
mod difference;
mod drive;
mod plot;
mod probe;
mod recording;
mod refs;
mod report;
mod rig;
mod rules;
mod store;
mod token;
mod values;
mod world;

pub use difference::{Difference, Kind};
pub use plot::Credentials;
pub use recording::Recording;
pub use report::{Report, Verdict};
pub use rules::{RULES, Rule};

use cast::Cast;
use plot::Plot;

/// Replays a recording, given as its text. `credentials` allow signatures to be checked.
pub fn replay(text: &str, credentials: Option<&Credentials>) -> Report {
    let recording = Recording::parse(text);
    let cast = Cast::of(&recording);
    let mut report = Report::new(&recording.warnings);
    for life in &cast.lives {
        let Some(plot) = Plot::of(&recording, life, credentials) else {
            report.note("a device that never asked for a WebSocket was passed over");
            continue;
        };
        match drive::Drive::play(&plot) {
            Ok(transcript) => {
                let comparison = compare::compare(&plot, &transcript, credentials);
                report.life(comparison, transcript.delivered);
                if !transcript.undelivered.is_empty() {
                    let count = transcript.undelivered.len();
                    report.note(&format!(
                        "messages of the server that answer what was not sent passed over: {count}"
                    ));
                }
            }
            Err(error) => report.fail(format!("no machine can be built as the recorded device was: {error}")),
        }
    }
    for survived in probe::run(&recording, &cast) {
        report.probe(survived);
    }
    if !cast.strangers.is_empty() {
        let count = cast.strangers.len();
        report.note(&format!("connections that are no device's passed over: {count}"));
    }
    report
}
