//! Adding up the work of a task, and refusing what cannot be done, before anything is written (fw-format §10).

use crate::action::{self, ActionError, PlanContext, Run};
use crate::error::Error;
use crate::manifest::{CallList, FileResource, ListKind, Manifest, Task};

/// The work of a task in units of progress. Unknown functions and calls with too few arguments are found
/// here; those of on-error, whose work is not counted, only when they are used, as in fwup.
pub(crate) fn total_units(manifest: &Manifest, task: &Task) -> Result<u64, Error> {
    let plan = Planner { manifest };
    let mut total = plan.units(&task.on_init, None)?;
    for event in &task.on_resource {
        // A resource that is not there is told when the task has begun, as in fwup.
        let missing = FileResource::default();
        let resource = manifest.resource(&event.resource).unwrap_or(&missing);
        // Work that cannot be counted is more than anyone will see the end of.
        total = total.saturating_add(plan.units(&event.calls, Some(resource))?);
    }
    Ok(total.saturating_add(plan.units(&task.on_finish, None)?))
}

/// Refuses a task that nobody can run, while an archive is made: what is found out before anything is written, in
/// every list of the task.
pub(crate) fn check(manifest: &Manifest, task: &Task) -> Result<(), Error> {
    total_units(manifest, task)?;
    if let Some(event) = task.on_resource.iter().find(|event| manifest.resource(&event.resource).is_none()) {
        return Err(Error::NoMetadata(event.resource.clone()));
    }
    Planner { manifest }.units(&task.on_error, None).map(|_| ())
}

struct Planner<'a> {
    manifest: &'a Manifest,
}

impl Planner<'_> {
    fn units(&self, list: &CallList, resource: Option<&FileResource>) -> Result<u64, Error> {
        let mut total: u64 = 0;
        for call in list.calls(ListKind::Functions)? {
            let Some(action) = action::find(call.name) else {
                return Err(ActionError::UnknownFunction { function: call.name.to_owned() }.into());
            };
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
}
