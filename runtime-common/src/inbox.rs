//! The worker that stores the files operators send.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nerves_hub_link_platform::files::{FileError, Inbox, Incoming};
use nerves_hub_link_protocol::{FileCommand, FileEvent, FileId};

use crate::threads::Threads;
use crate::worker::{self, Jobs, Worker};

/// The files operators send. Dropping it lets the worker finish the files that are complete.
pub(crate) struct Files {
    folder: Option<PathBuf>,
    worker: Worker<Job, Report>,
    /// Files begun and not ended. They fail if the thread panics.
    open: Vec<FileId>,
    /// What the machine has yet to hear about them.
    failed: Vec<FileCommand>,
}

/// Bounded by what the machine hands over before it is stored.
enum Job {
    Begin(FileId, String),
    Chunk(FileId, Vec<u8>),
    Finish(FileId),
    Discard(FileId),
}

enum Report {
    /// What the machine must hear.
    Command(FileCommand),
    /// The file is stored, or was discarded.
    Ended(FileId),
    Panicked(String),
}

impl worker::Job for Job {
    fn append(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            // Chunks may be small and many.
            (Self::Chunk(last, waiting), Self::Chunk(file, chunk)) if *last == file => {
                waiting.extend_from_slice(&chunk);
                None
            }
            (_, next) => Some(next),
        }
    }
}

impl worker::Report for Report {
    fn panicked(message: &str) -> Self {
        Self::Panicked(message.to_owned())
    }
}

impl Files {
    pub(crate) fn new(folder: Option<PathBuf>, threads: &Threads) -> Self {
        Self { folder, worker: Worker::new(threads), open: Vec::new(), failed: Vec::new() }
    }

    /// Returns whether files are stored here, and not by the application.
    pub(crate) const fn are_ours(&self) -> bool {
        self.folder.is_some()
    }

    /// Queues the job for an event of the machine. Returns what the machine must hear at once.
    pub(crate) fn event(&mut self, event: &FileEvent) -> Option<FileCommand> {
        let job = match event {
            FileEvent::Started { file, name } => {
                if let Err(error) = self.start() {
                    let reason = format!("cannot start a thread for it: {error}");
                    return Some(FileCommand::Failed { file: *file, reason });
                }
                self.open.push(*file);
                Job::Begin(*file, name.clone())
            }
            FileEvent::Chunk { file, data } => Job::Chunk(*file, data.0.clone()),
            FileEvent::Finished { file } => Job::Finish(*file),
            FileEvent::Discarded { file, .. } => Job::Discard(*file),
            _ => return None,
        };
        // Without a thread, the file could not be begun, and the machine has heard so.
        if self.worker.is_running() {
            self.worker.send(job);
        }
        None
    }

    /// Takes the next command for the machine.
    pub(crate) fn next_command(&mut self) -> Option<FileCommand> {
        loop {
            if let Some(command) = self.failed.pop() {
                return Some(command);
            }
            match self.worker.next_report()? {
                Report::Command(command) => {
                    if let FileCommand::Failed { file, .. } = &command {
                        self.ended(*file);
                    }
                    return Some(command);
                }
                Report::Ended(file) => self.ended(file),
                Report::Panicked(message) => {
                    let reason = format!("storing it panicked: {message}");
                    let failed = |file| FileCommand::Failed { file, reason: reason.clone() };
                    self.failed = std::mem::take(&mut self.open).into_iter().map(failed).collect();
                }
            }
        }
    }

    fn ended(&mut self, file: FileId) {
        self.open.retain(|open| *open != file);
    }

    /// Lets the thread store the files that are complete, and end.
    pub(crate) fn close(&mut self) {
        self.worker.close();
    }

    fn start(&mut self) -> std::io::Result<()> {
        let Some(folder) = self.folder.clone().filter(|_| !self.worker.is_running()) else { return Ok(()) };
        let run =
            move |jobs: &Jobs<Job, Report>| Thread { folder, inbox: None, open: BTreeMap::new() }.run(jobs);
        self.worker.start("nerves-hub-files", run)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.close();
    }
}

/// The thread's state: the folder once it is needed, and the files that are not complete.
struct Thread {
    folder: PathBuf,
    inbox: Option<Inbox>,
    open: BTreeMap<FileId, Incoming>,
}

impl Thread {
    fn run(mut self, jobs: &Jobs<Job, Report>) {
        while let Some(job) = jobs.next() {
            if let Some(report) = self.work(job) {
                jobs.report(report);
            }
        }
    }

    fn work(&mut self, job: Job) -> Option<Report> {
        let (file, done) = match job {
            Job::Begin(file, name) => (file, self.begin(file, &name).map(|()| None)),
            Job::Chunk(file, chunk) => {
                let stored = Report::Command(FileCommand::Stored { file, bytes: chunk.len() });
                (file, self.open.get_mut(&file)?.write(&chunk).map(|()| Some(stored)))
            }
            Job::Finish(file) => {
                let finished = self.open.remove(&file)?.finish();
                (file, finished.map(|_| Some(Report::Ended(file))))
            }
            Job::Discard(file) => {
                self.open.remove(&file);
                return Some(Report::Ended(file));
            }
        };
        done.unwrap_or_else(|error| {
            self.open.remove(&file);
            Some(Report::Command(FileCommand::Failed { file, reason: error.to_string() }))
        })
    }

    fn begin(&mut self, file: FileId, name: &str) -> Result<(), FileError> {
        let inbox = match self.inbox.take() {
            Some(inbox) => inbox,
            // Again with every file: its disk may be mounted by now.
            None => Inbox::open(&self.folder)?,
        };
        let incoming = self.inbox.insert(inbox).begin(name)?;
        self.open.insert(file, incoming);
        Ok(())
    }
}
