//! The page of a report.

use super::Report;

pub(super) fn page(report: &Report) -> String {
    format!("<pre>{}</pre>", report.to_text())
}
