//! The thread that stores the files operators send. Disks may block; the loop must not.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nerves_hub_link_platform::files::{FileError, Inbox, Incoming};
use nerves_hub_link_protocol::{FileCommand, FileEvent, FileId};

use crate::crew::Crew;

/// The loop's end of the thread. Dropping it lets the thread finish what is complete.
pub(crate) struct Files {
    folder: Option<PathBuf>,
    crew: Crew,
    worker: Option<Arc<Shared>>,
}

/// What is to be done, and what was. What waits is bounded by what the machine hands over before it is stored.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    news: Vec<FileCommand>,
    closed: bool,
}

enum Job {
    Begin(FileId, String),
    Piece(FileId, Vec<u8>),
    Finish(FileId),
    Discard(FileId),
}

impl Files {
    pub(crate) const fn new(folder: Option<PathBuf>, crew: Crew) -> Self {
        Self { folder, crew, worker: None }
    }

    /// Returns whether files are stored here, and not by the application.
    pub(crate) const fn are_ours(&self) -> bool {
        self.folder.is_some()
    }

    /// Does what the machine wants, by and by. Returns what to tell it at once.
    pub(crate) fn event(&mut self, event: &FileEvent) -> Option<FileCommand> {
        let job = match event {
            FileEvent::Started { file, name } => {
                if let Err(error) = self.start() {
                    let reason = format!("cannot start a thread for it: {error}");
                    return Some(FileCommand::Failed { file: *file, reason });
                }
                Job::Begin(*file, name.clone())
            }
            FileEvent::Chunk { file, data } => Job::Piece(*file, data.0.clone()),
            FileEvent::Finished { file } => Job::Finish(*file),
            FileEvent::Discarded { file, .. } => Job::Discard(*file),
            _ => return None,
        };
        // Without one, the file could not be begun, which the machine is being told.
        if let Some(shared) = &self.worker {
            shared.add(job);
        }
        None
    }

    /// Returns what was done since the last call.
    pub(crate) fn news(&self) -> Vec<FileCommand> {
        let news = self.worker.as_ref().map(|shared| std::mem::take(&mut shared.lock().news));
        // A device that keeps no files has no thread for them, and no news.
        news.unwrap_or_default()
    }

    /// Lets the thread finish what is complete, and end.
    pub(crate) fn close(&mut self) {
        if let Some(shared) = self.worker.take() {
            shared.lock().closed = true;
            shared.changed.notify_all();
        }
    }

    /// Starts the thread with the first file.
    fn start(&mut self) -> std::io::Result<()> {
        if let (None, Some(folder)) = (&self.worker, &self.folder) {
            let shared = Arc::new(Shared::default());
            let (theirs, folder, crew) = (Arc::clone(&shared), folder.clone(), self.crew.clone());
            let job = move || Worker { folder, inbox: None, open: BTreeMap::new() }.run(&theirs, &crew);
            self.crew.start("nerves-hub-files", job)?;
            self.worker = Some(shared);
        }
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, job: Job) {
        let mut state = self.lock();
        match (state.jobs.back_mut(), job) {
            // Pieces may be small and many.
            (Some(Job::Piece(last, waiting)), Job::Piece(file, piece)) if *last == file => {
                waiting.extend_from_slice(&piece);
            }
            (_, job) => state.jobs.push_back(job),
        }
        self.changed.notify_all();
    }

    /// Waits for something to do. `None` when nothing more comes.
    fn take(&self) -> Option<Job> {
        let idle = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let state = self.changed.wait_while(self.lock(), idle);
        state.unwrap_or_else(PoisonError::into_inner).jobs.pop_front()
    }
}

/// The thread's own: the folder once it is needed, and the files that are not complete.
struct Worker {
    folder: PathBuf,
    inbox: Option<Inbox>,
    open: BTreeMap<FileId, Incoming>,
}

impl Worker {
    fn run(mut self, shared: &Shared, crew: &Crew) {
        while let Some(job) = shared.take() {
            if let Some(news) = self.work(job) {
                shared.lock().news.push(news);
                crew.wake();
            }
        }
    }

    fn work(&mut self, job: Job) -> Option<FileCommand> {
        let (file, done) = match job {
            Job::Begin(file, name) => (file, self.begin(file, &name).map(|()| None)),
            Job::Piece(file, piece) => {
                let done = self.open.get_mut(&file)?.write(&piece);
                (file, done.map(|()| Some(FileCommand::Stored { file, bytes: piece.len() })))
            }
            Job::Finish(file) => (file, self.open.remove(&file)?.finish().map(|_| None)),
            Job::Discard(file) => {
                self.open.remove(&file);
                return None;
            }
        };
        done.unwrap_or_else(|error| {
            self.open.remove(&file);
            Some(FileCommand::Failed { file, reason: error.to_string() })
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
