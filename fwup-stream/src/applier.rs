//! Applying firmware: an archive's bytes in, a written destination out.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::archive::{
    ArchiveEvent, ArchiveReader, ArchiveStart, EntryInfo, OpenedArchive, Purpose, SignatureState,
    StartProgress,
};
use crate::delta::Delta;
use crate::disk::{CacheOptions, Target};
use crate::error::Error;
use crate::internal::Internal;
use crate::manifest::{Manifest, Metadata, Task};
use crate::names::resource_name;
use crate::options::{ApplyEvent, ApplyOptions};
use crate::progress::Progress;
use crate::task;
use crate::work::{Current, Observer, Work};

/// Applies one archive to one destination.
///
/// Nothing is written before the signature over the manifest holds. Each resource's digest is checked as
/// it streams by, and a mismatch stops the work before what selects the new firmware. That is written last,
/// after everything before it is synced. Dropping an applier writes nothing more.
///
/// However the archive is cut into pieces, an update that succeeds gives the same disk. One that breaks off
/// leaves as much written as had come by then.
///
/// From a file to a file or device, telling what happens:
///
/// ```
/// use std::fs::File;
/// use std::io::Read;
///
/// use fwup_stream::disk::{FileTarget, OpenOptions};
/// use fwup_stream::{Applier, ApplyEvent, ApplyOptions};
/// # use fwup_stream::create::{Builder, KeyPair};
/// # use fwup_stream::manifest::Configuration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let (firmware, disk) = (folder.path().join("lamp.fw"), folder.path().join("disk.img"));
/// # let text = br#"file-resource hello { contents = "Hello!" }
/// #     task upgrade { on-resource hello { raw_write(1) } }"#;
/// # let keys = KeyPair::generate()?;
/// # let builder = Builder::new().signing_key(keys.private);
/// # builder.create_file(Configuration::parse(text, &|_| None)?, &firmware)?;
/// # let key = keys.public;
///
/// let mut options = ApplyOptions::default(); // an unsigned archive is refused
/// options.task = "upgrade".to_owned();
/// options.public_keys = vec![key];
///
/// let target = FileTarget::open(&disk, &OpenOptions::default())?;
/// let mut applier = Applier::with_observer(options, target, |event| {
///     if let ApplyEvent::Progress(report) = event {
///         println!("{} %", report.value);
///     }
/// })?;
/// let (mut archive, mut piece) = (File::open(&firmware)?, vec![0; 16 * 1024]);
/// loop {
///     match archive.read(&mut piece)? {
///         0 => break,
///         count => applier.push(&piece[..count])?,
///     }
/// }
/// applier.finish()?; // an archive that breaks off is an error here
/// assert_eq!(std::fs::read(&disk)?[512..518], *b"Hello!");
/// # Ok(())
/// # }
/// ```
pub struct Applier<T> {
    options: ApplyOptions,
    reader: ArchiveReader,
    state: State,
    work: Work<T>,
}

enum State {
    /// Reading the manifest.
    Starting(ArchiveStart),
    /// The manifest is trusted, and nothing goes on before somebody says so.
    Held(Box<Held>),
    /// The task is running.
    Running(Box<Running>),
    /// Something failed, and on-error has run.
    Failed,
}

struct Held {
    archive: OpenedArchive,
    /// What came of the archive after the manifest.
    rest: Vec<u8>,
}

struct Running {
    manifest: Arc<Manifest>,
    task: Arc<Task>,
    /// The resources whose `on-resource` sections have run.
    seen: BTreeSet<String>,
    current: Option<Current>,
    /// No more entries come.
    ended: bool,
    report: ApplyReport,
}

/// What was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApplyReport {
    /// The task that ran.
    pub task: String,
    /// The firmware's UUID.
    pub uuid: String,
    /// Whether the firmware was signed, and by a known key.
    pub signature: SignatureState,
    /// Bytes of the archive that were given.
    pub bytes_in: u64,
    /// Work done, in bytes written or their equivalent.
    pub units_done: u64,
}

impl<T: Target> Applier<T> {
    /// Begins to apply an archive to `target`.
    pub fn new(options: ApplyOptions, target: T) -> Result<Self, Error> {
        Self::with_observer(options, target, |_| ())
    }

    /// Begins to apply an archive to `target` and tells `observer` what happens; the first progress at once.
    pub fn with_observer(
        options: ApplyOptions,
        target: T,
        observer: impl FnMut(ApplyEvent) + Send + 'static,
    ) -> Result<Self, Error> {
        if options.require_signature && options.public_keys.is_empty() {
            return Err(Error::NoKey);
        }
        let start =
            ArchiveStart::new(options.public_keys.clone(), options.archive_name.as_deref(), Purpose::Apply);
        let cache = CacheOptions {
            verify_writes: options.verify_writes,
            minimize_writes: options.minimize_writes,
            enable_trim: options.enable_trim,
        };
        let progress = Progress::new(options.progress_low, options.progress_high);
        let observer: Observer = Box::new(observer);
        let mut work = Work::new(target, cache, progress, observer);
        let report = work.progress.begin();
        work.tell_progress(report);
        Ok(Self { options, reader: ArchiveReader::new(), state: State::Starting(start), work })
    }

    /// Takes the next bytes of the archive. After an error nothing more can be done but to drop the applier;
    /// what on-error asks for has then been done.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.work.progress.add_input(chunk.len() as u64);
        let outcome = self.advance(chunk);
        outcome.map_err(|error| self.fail(error))
    }

    /// Says whether more bytes of the archive can change anything. When not, it is time to finish.
    pub fn wants_more(&self) -> bool {
        match &self.state {
            State::Starting(_) | State::Held(_) => true,
            State::Running(running) => !running.ended,
            State::Failed => false,
        }
    }

    /// Returns the metadata of the archive while it waits for [`Self::proceed`]: with [`ApplyOptions::hold`], from the
    /// moment the signature holds. Nothing has been written then.
    pub fn held(&self) -> Option<&Metadata> {
        match &self.state {
            State::Held(held) => Some(&held.archive.metadata),
            State::Starting(_) | State::Running(_) | State::Failed => None,
        }
    }

    /// Goes on with an archive that was [`held`](Self::held); does nothing for another.
    pub fn proceed(&mut self) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Held(held) => {
                let Held { archive, rest } = *held;
                let outcome = self.begin(archive).and_then(|()| self.read(&rest));
                outcome.map_err(|error| self.fail(error))
            }
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    /// Ends the archive: runs on-finish, brings everything to the destination and syncs it.
    pub fn finish(mut self) -> Result<ApplyReport, Error> {
        if let Err(error) = self.complete() {
            return Err(self.fail(error));
        }
        // From here on the switch may have been written: on-error, which may wipe the new slot, must not
        // run any more.
        self.work.flush()?;
        let report = self.work.progress.end();
        self.work.tell_progress(report);
        let State::Running(running) = self.state else {
            return Err(Internal::new("an update was completed that had not begun").into());
        };
        let (bytes_in, units_done) = (self.work.progress.bytes_in(), self.work.progress.units_done());
        Ok(ApplyReport { bytes_in, units_done, ..running.report })
    }

    /// Ends the work because the archive broke off: does what the task wants done after an error and returns
    /// what is missing. Dropping the applier instead leaves the destination as it is.
    pub fn abort(mut self) -> Error {
        let error = match &mut self.state {
            State::Starting(start) => start.finish(&mut self.reader).into(),
            State::Held(_) => Error::BrokeOff,
            State::Running(_) => self.reader.finish().map_or_else(Error::from, |()| Error::BrokeOff),
            State::Failed => Error::Ended,
        };
        self.fail(error)
    }

    fn advance(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let mut input = chunk;
        if let State::Starting(start) = &mut self.state {
            match start.step(&mut self.reader, &mut input, &*self.options.variables)? {
                StartProgress::NeedInput => return Ok(()),
                StartProgress::Opened(archive) if self.options.hold => {
                    self.state = State::Held(Box::new(Held { archive: *archive, rest: input.to_vec() }));
                    return Ok(());
                }
                StartProgress::Opened(archive) => self.begin(*archive)?,
            }
        }
        if matches!(self.state, State::Held(_)) {
            return Err(Error::Held);
        }
        self.read(input)
    }

    /// Takes bytes that follow the manifest.
    fn read(&mut self, mut input: &[u8]) -> Result<(), Error> {
        let State::Running(running) = &mut self.state else { return Err(Error::Ended) };
        while !running.ended {
            match self.reader.next(&mut input) {
                Ok(ArchiveEvent::NeedInput) => return Ok(()),
                Ok(ArchiveEvent::Entry(info)) => {
                    if !running.entry(&mut self.work, &info, self.options.delta_memory)? {
                        self.reader.skip_entry();
                    }
                }
                Ok(ArchiveEvent::Data(data)) => {
                    let current = running.current.as_mut();
                    let current = current.ok_or_else(|| Internal::new("data of a skipped entry came"))?;
                    self.work.data(current, data)?;
                }
                Ok(ArchiveEvent::EntryEnd) => running.entry_end(&mut self.work)?,
                Err(error) if error.in_data() => return Err(error.into()),
                // As in fwup: what is damaged between entries ends them, and what is then missing is told.
                Ok(ArchiveEvent::End) | Err(_) => running.ended = true,
            }
        }
        Ok(())
    }

    /// The manifest is there and trusted: chooses the task, plans it and runs on-init.
    fn begin(&mut self, archive: OpenedArchive) -> Result<(), Error> {
        if archive.signature == SignatureState::Unverified {
            let text = "Firmware archive is signed, but signature verification is off.";
            self.work.tell(ApplyEvent::Detail(text.to_owned()));
        }
        let manifest = Arc::new(archive.manifest);
        let uuid = archive.metadata.uuid().to_owned();
        self.work.manifest = Arc::clone(&manifest);
        self.work.cache.set_megabytes(manifest.block_cache_size_mb);
        self.work.settings.unsafe_allowed = self.options.unsafe_allowed;
        self.work.settings.threads = self.options.threads;
        self.work.settings.reboot_param_path.clone_from(&self.options.reboot_param_path);
        self.work.settings.child_environment = vec![
            ("FWUP_META_UUID".to_owned(), uuid.clone()),
            ("FWUP_META_NICKNAME".to_owned(), archive.metadata.nickname().to_owned()),
        ];
        let prefix = &self.options.task;
        let chosen = self.work.with(|context| task::select(context, prefix).cloned());
        let task = Arc::new(chosen.ok_or_else(|| Error::NoTask(prefix.clone()))?);
        self.work.progress.set_total(task::total_units(&manifest, &task)?);
        let report = ApplyReport {
            task: task.name.clone(),
            uuid,
            signature: archive.signature,
            bytes_in: 0,
            units_done: 0,
        };
        let resources = check_resources(&manifest, &task);
        let running = Running {
            manifest,
            task: Arc::clone(&task),
            seen: BTreeSet::new(),
            current: None,
            ended: false,
            report,
        };
        // From here on a failure runs on-error.
        self.state = State::Running(Box::new(running));
        resources?;
        self.work.run(&task.on_init)
    }

    /// Everything up to and including on-finish.
    fn complete(&mut self) -> Result<(), Error> {
        if let State::Starting(start) = &mut self.state {
            return Err(start.finish(&mut self.reader).into());
        }
        if matches!(self.state, State::Held(_)) {
            return Err(Error::Held);
        }
        let State::Running(running) = &mut self.state else { return Err(Error::Ended) };
        if !running.ended {
            match self.reader.finish() {
                Err(error) if error.in_data() => return Err(error.into()),
                _ => running.ended = true,
            }
        }
        running.check_seen()?;
        self.work.close_fats()?;
        self.work.cache.begin_last_act();
        self.work.run(&running.task.on_finish)?;
        self.work.close_fats()
    }

    /// Drops what has not reached the destination and does what the task wants done after an error.
    fn fail(&mut self, error: Error) -> Error {
        let State::Running(running) = std::mem::replace(&mut self.state, State::Failed) else {
            return error;
        };
        self.work.discard();
        let cleanup = self.work.run(&running.task.on_error).and_then(|()| self.work.close_fats());
        let outcome = cleanup.and_then(|()| Ok(self.work.flush()?));
        match outcome {
            Ok(()) => error,
            // As in fwup, what fails last is what is told.
            Err(later) => {
                self.work.discard();
                later
            }
        }
    }
}

/// Every resource of the task must be described.
fn check_resources(manifest: &Manifest, task: &Task) -> Result<(), Error> {
    let mut names = task.on_resource.iter().map(|event| &event.resource);
    match names.find(|name| manifest.resource(name).is_none()) {
        Some(name) => Err(Error::NoMetadata(name.clone())),
        None => Ok(()),
    }
}

impl Running {
    /// Begins an entry; says whether its data are wanted.
    fn entry<T: Target>(
        &mut self,
        work: &mut Work<T>,
        info: &EntryInfo,
        delta_memory: usize,
    ) -> Result<bool, Error> {
        // Folders and resources of other tasks pass by.
        let Some(name) = resource_name(&info.name) else { return Ok(false) };
        let events = self.task.on_resource.iter().enumerate();
        let Some((at, event)) = events.clone().find(|(_, event)| event.resource == name) else {
            return Ok(false);
        };
        let resource = self.manifest.resource(&name);
        let resource = resource.ok_or_else(|| Internal::new("a resource was not looked for at the start"))?;
        let expected = resource.full_length();
        let mut delta = None;
        if let Some(entry) = info.uncompressed_size
            && resource.length.len() <= 1
            && entry != expected
        {
            delta = Delta::new(event, self.manifest.block_cache_size_mb, expected, delta_memory)?;
            if delta.is_none() {
                return Err(Error::UnexpectedSize { resource: name, entry, expected });
            }
        }
        let current = work.begin(at, &event.calls, resource, delta)?;
        let wanted = current.wants_data();
        self.current = Some(current);
        Ok(wanted)
    }

    fn entry_end<T: Target>(&mut self, work: &mut Work<T>) -> Result<(), Error> {
        // An entry that passes by ends, too.
        let Some(current) = self.current.take() else { return Ok(()) };
        let event = self.task.on_resource.get(current.event);
        let (event, resource) = event
            .and_then(|event| Some((event, self.manifest.resource(&event.resource)?)))
            .ok_or_else(|| Internal::new("an entry ended that did not begin"))?;
        work.end(current, &event.calls, resource)?;
        self.seen.insert(event.resource.clone());
        Ok(())
    }

    /// Every resource of the task must have come by.
    fn check_seen(&self) -> Result<(), Error> {
        match self.task.on_resource.iter().rev().find(|event| !self.seen.contains(&event.resource)) {
            Some(event) => Err(Error::NoResource(event.resource.clone())),
            None => Ok(()),
        }
    }
}
