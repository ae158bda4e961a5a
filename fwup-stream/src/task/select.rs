//! Choosing the task (fw-format §6.1).

use super::require;
use crate::action::Context;
use crate::manifest::{ListKind, Task};
use crate::options::ApplyEvent;

/// The first task whose name begins with `prefix` and whose requirements hold. Requirements of
/// the tasks after it are not looked at.
pub(crate) fn select<'a>(context: &mut Context<'a>, prefix: &str) -> Option<&'a Task> {
    let manifest = context.manifest;
    manifest.tasks.iter().find(|task| task.name.starts_with(prefix) && applies(context, task))
}

fn applies(context: &mut Context<'_>, task: &Task) -> bool {
    if !require::partition1_starts_at(context, task.require_partition1_offset) {
        return false;
    }
    for call in task.requirements.each(ListKind::Requirements) {
        // A malformed list cannot be evaluated, so it is not met.
        let Ok(call) = call else { return false };
        let met = require::is_met(context, &call);
        let shown: Vec<_> = call.args.iter().take(2).map(String::as_str).collect();
        let verdict = if met { "met" } else { "not met" };
        (context.observer)(ApplyEvent::Detail(format!("{}({}) -> {verdict}", call.name, shown.join(", "))));
        if !met {
            return false;
        }
    }
    true
}
