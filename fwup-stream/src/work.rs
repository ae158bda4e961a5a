//! Carrying out the functions of a task on the destination.

use std::sync::Arc;

use crate::action::fat::Mounts;
use crate::action::{self, Action, ActionError, Context, DataRun, Run, Settings};
use crate::delta::Delta;
use crate::disk::{CacheOptions, DiskError, SegmentCache, Target};
use crate::error::Error;
use crate::internal::Internal;
use crate::manifest::{Call, CallList, FileResource, ListKind, Manifest};
use crate::options::ApplyEvent;
use crate::progress::{Progress, ProgressReport};

/// Whoever is told what happens.
pub(crate) type Observer = Box<dyn FnMut(ApplyEvent) + Send>;

/// The destination with all that functions need.
pub(crate) struct Work<T> {
    pub(crate) cache: SegmentCache<T>,
    fats: Mounts,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) settings: Settings,
    pub(crate) progress: Progress,
    observer: Observer,
}

/// A resource of the archive whose data stream by.
pub(crate) struct Current {
    /// Its place among the task's `on-resource` sections.
    pub(crate) event: usize,
    /// The call that comes after the one at work.
    next: usize,
    data: Option<DataRun>,
    /// What turns the bytes of the archive into the data, when they are a delta.
    delta: Option<Box<Delta>>,
}

impl Current {
    /// Whether a function waits for data.
    pub(crate) fn wants_data(&self) -> bool {
        self.data.is_some()
    }
}

impl<T: Target> Work<T> {
    pub(crate) fn new(target: T, options: CacheOptions, progress: Progress, observer: Observer) -> Self {
        Self {
            cache: SegmentCache::new(target, options),
            fats: Mounts::new(),
            manifest: Arc::default(),
            settings: Settings::default(),
            progress,
            observer,
        }
    }

    /// Tells whoever watches.
    pub(crate) fn tell(&mut self, event: ApplyEvent) {
        (self.observer)(event);
    }

    /// Passes a progress report on, if there is one.
    pub(crate) fn tell_progress(&mut self, report: Option<ProgressReport>) {
        if let Some(report) = report {
            self.tell(ApplyEvent::Progress(report));
        }
    }

    /// Lends everything to a function.
    pub(crate) fn with<R>(&mut self, run: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let manifest = Arc::clone(&self.manifest);
        let result = run(&mut Context {
            disk: &mut self.cache,
            fats: &mut self.fats,
            manifest: &manifest,
            settings: &self.settings,
            progress: &mut self.progress,
            observer: &mut *self.observer,
        });
        for warning in self.cache.take_warnings() {
            self.tell(ApplyEvent::Warning(warning));
        }
        result
    }

    /// Runs a list of functions that take no data.
    pub(crate) fn run(&mut self, list: &CallList) -> Result<(), Error> {
        for call in list.calls(ListKind::Functions)? {
            let action = self.find(&call)?;
            let Run::Now(run) = action.run else {
                return Err(ActionError::NotInResource { function: action.name }.into());
            };
            self.with(|context| run(context, &call))?;
        }
        Ok(())
    }

    /// Runs the calls for a resource up to the first that takes its data.
    pub(crate) fn begin(
        &mut self,
        event: usize,
        list: &CallList,
        resource: &FileResource,
        delta: Option<Delta>,
    ) -> Result<Current, Error> {
        let mut current = Current { event, next: 0, data: None, delta: delta.map(Box::new) };
        self.step(&mut current, list, resource)?;
        Ok(current)
    }

    /// Hands data to the function that waits for them.
    pub(crate) fn data(&mut self, current: &mut Current, data: &[u8]) -> Result<(), Error> {
        let run = current.data.as_mut().ok_or_else(|| Internal::new("data came that no function takes"))?;
        match &mut current.delta {
            Some(delta) => self.with(|context| delta.apply(context, data, run)).map_err(of_delta),
            None => Ok(self.with(|context| run.write(context, data))?),
        }
    }

    /// Ends the data and runs the rest of the calls. A second function that takes data gets none.
    pub(crate) fn end(
        &mut self,
        mut current: Current,
        list: &CallList,
        resource: &FileResource,
    ) -> Result<(), Error> {
        while let Some(run) = current.data.take() {
            let ended = self.with(|context| run.finish(context));
            if current.delta.is_some() {
                ended.map_err(of_delta)?;
            } else {
                ended?;
            }
            self.step(&mut current, list, resource)?;
        }
        Ok(())
    }

    /// Finishes the file that is being written and forgets the FAT file systems.
    pub(crate) fn close_fats(&mut self) -> Result<(), Error> {
        Ok(self.with(|context| context.fats.close(context.disk)).map_err(ActionError::from)?)
    }

    /// Drops everything that has not reached the medium.
    pub(crate) fn discard(&mut self) {
        self.fats = Mounts::new();
        self.cache.discard();
    }

    /// Brings everything to the medium.
    pub(crate) fn flush(&mut self) -> Result<(), DiskError> {
        self.cache.flush()
    }

    fn step(&mut self, current: &mut Current, list: &CallList, resource: &FileResource) -> Result<(), Error> {
        for call in list.calls(ListKind::Functions)?.iter().skip(current.next) {
            current.next += 1;
            let action = self.find(call)?;
            match action.run {
                Run::Now(run) => self.with(|context| run(context, call))?,
                Run::Data(begin) => {
                    let sink = self.with(|context| begin(context, call))?;
                    current.data = Some(DataRun::new(action.name, resource, sink, self.settings.threads)?);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The function of a call. That its arguments suffice is checked here again, since on-error is not looked
    /// through when the work is planned.
    fn find(&self, call: &Call<'_>) -> Result<&'static Action, ActionError> {
        let unknown = || ActionError::UnknownFunction { function: call.name.to_owned() };
        let action = action::find(call.name).ok_or_else(unknown)?;
        let (function, needed, given) = (action.name, action.min_args, call.args.len());
        if action.needs_unsafe && !self.settings.unsafe_allowed {
            return Err(ActionError::Unsafe { function });
        }
        if given < needed {
            return Err(ActionError::Arguments { function, needed, given });
        }
        Ok(action)
    }
}

/// What a delta makes of another source than its own has another digest or length.
fn of_delta(error: ActionError) -> Error {
    match error {
        ActionError::Digest { .. } | ActionError::Length { .. } | ActionError::NoData { .. } => {
            Error::DeltaResult(error)
        }
        other => other.into(),
    }
}
