//! Firmware applied with a loss of power at every write and every sync.
//!
//! A [`Case`] is a disk, an archive and a judge that says what the disk boots. [`power_cuts`] applies it in one of
//! the [`WAYS`], notes every write and sync, and then makes each disk that a loss of power in the middle of it could
//! leave: what was synced is there; of what was not, single sectors may be lost or be there, in any order. Where
//! few different disks can come of a cut all of them are tried, else a sample. Each must boot the old or the new
//! firmware, whole; then the upgrade is applied again and must end in the new one.
//!
//! ```no_run
//! use nerves_hub_link_testkit::disk::cuts::{Effort, Report, WAYS, ab_cases, power_cuts};
//!
//! # fn main() -> std::io::Result<()> {
//! println!("{}", Report::columns());
//! for case in ab_cases()? {
//!     for way in WAYS {
//!         let report = power_cuts(&case, way, &Effort::full(1));
//!         println!("{report}");
//!         assert!(report.is_good(), "{:?}", report.failures);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod built;
mod case;
mod faults;
mod golden;
mod record;
mod report;
mod run;
mod store;
mod variables;
mod way;

pub use built::{ab_case, ab_cases, bad_cases, table_cases};
pub use case::{Case, Judge, State};
pub use golden::golden_cases;
pub use record::Recorder;
pub use report::{Effort, Report};
pub use run::{Wrap, power_cuts, power_cuts_through};
pub use store::store_cuts;
pub use variables::environment_cases;
pub use way::{WAYS, Way};
