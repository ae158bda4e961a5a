//! Adding up the work of a task, and refusing what cannot be done, before anything is written (fw-format §10).

use crate::action::{self, Action, ActionError, PlanContext, Run};
use crate::error::Error;
use crate::manifest::{CallList, FileResource, ListKind, Manifest, Task};

/// The work of a task in units of progress. Unknown functions, functions this version lacks and calls with
/// too few arguments are found here.
pub(crate) fn total_units(manifest: &Manifest, task: &Task, unsafe_allowed: bool) -> Result<u64, Error> {
    let plan = Planner { manifest, unsafe_allowed };
    let mut total = plan.units(&task.on_init, None)?;
    for event in &task.on_resource {
        // A resource that is not there is told when the task has begun, as in fwup.
        let missing = FileResource::default();
        let resource = manifest.resource(&event.resource).unwrap_or(&missing);
        total = total.saturating_add(plan.units(&event.calls, Some(resource))?);
    }
    total = total.saturating_add(plan.units(&task.on_finish, None)?);
    plan.check_available(&task.on_error)?;
    Ok(total)
}

struct Planner<'a> {
    manifest: &'a Manifest,
    unsafe_allowed: bool,
}

impl Planner<'_> {
    fn units(&self, list: &CallList, resource: Option<&FileResource>) -> Result<u64, Error> {
        let mut total: u64 = 0;
        for call in list.calls(ListKind::Functions)? {
            let Some(action) = action::find(call.name) else {
                return Err(ActionError::UnknownFunction { function: call.name.to_owned() }.into());
            };
            self.available(action)?;
            let (function, needed, given) = (action.name, action.min_args, call.args.len());
            if given < needed {
                return Err(ActionError::Arguments { function, needed, given }.into());
            }
            if resource.is_none() && matches!(action.run, Run::Data(_)) {
                return Err(ActionError::NotInResource { function }.into());
            }
            let context = PlanContext { function, manifest: self.manifest, resource };
            total = total.saturating_add((action.units)(&context, &call)?);
        }
        Ok(total)
    }

    /// What on-error does is not counted, and an unknown function there matters only when it is used. What
    /// only this version lacks would leave a device half cleaned up, so that is told in time.
    fn check_available(&self, list: &CallList) -> Result<(), Error> {
        let calls = list.each(ListKind::Functions).map_while(Result::ok);
        calls.filter_map(|call| action::find(call.name)).try_for_each(|action| self.available(action))
    }

    fn available(&self, action: &Action) -> Result<(), Error> {
        // Without --unsafe the refusal of fwup comes when the function runs.
        let refused_anyway = action.needs_unsafe && !self.unsafe_allowed;
        if matches!(action.run, Run::Missing) && !refused_anyway {
            return Err(ActionError::Unsupported { what: action.name.to_owned() }.into());
        }
        Ok(())
    }
}
