//! What ends the program from outside: SIGTERM, SIGINT and SIGHUP.
//!
//! The first one lets the device close its connection and finish the write it is in; the second one, or the time limit, ends
//! the program at once. At any moment that is no worse than a loss of power: the slot that runs is never written.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nerves_hub_link_blocking::Handle;
use nerves_hub_link_protocol::UpdateState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::limits::{FLUSH_MAX, STOP_MAX};
use crate::output::Lines;
use crate::record::Recorder;

/// What the thread that hears signals shares with the device's.
#[derive(Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
}

struct Shared {
    recorder: Arc<Recorder>,
    errors: Lines,
    state: Mutex<State>,
    /// How long the device may take to stop.
    limit: Duration,
    /// Ends the process.
    end: Box<dyn Fn(Ending) + Send + Sync>,
}

#[derive(Default)]
struct State {
    /// The device to stop. Without one the program just ends.
    device: Option<Arc<dyn Stop>>,
    asked: bool,
}

/// How the process ends.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// With an exit status, once everything is printed.
    Status(i32),
    /// At once, as this signal ends a process that does not handle it.
    Signal(i32),
}

/// What can be told to stop.
pub trait Stop: Send + Sync {
    /// Begins to stop. Returns at once.
    fn stop(&self);
    /// Says what becomes of the work under way.
    fn work(&self) -> &'static str;
}

impl Stop for Handle {
    fn stop(&self) {
        self.request_stop();
    }

    fn work(&self) -> &'static str {
        update(self)
    }
}

impl Stopper {
    /// Listens from now on. What was ignored when the program was started stays so, as `nohup` and shells that start it in
    /// the background mean it; but not SIGTERM, by which supervisors stop it.
    pub fn listen(recorder: &Arc<Recorder>, errors: &Lines) -> Self {
        let (recorder, errors) = (Arc::clone(recorder), errors.clone());
        let end = {
            let (recorder, errors) = (Arc::clone(&recorder), errors.clone());
            move |ending| end(&recorder, &errors, &ending)
        };
        let stopper = Self::new(recorder, errors, STOP_MAX, end);
        // A log file at its limit (ulimit -f) is a write that fails, and no reason to end.
        let kept = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
        let ignored = ignored();
        let wanted = [SIGTERM, SIGINT, SIGHUP].into_iter();
        let wanted = wanted.filter(|signal| *signal == SIGTERM || ignored & (1 << (signal - 1)) == 0);
        let listening = Signals::new(wanted).and_then(|mut signals| {
            let shared = Arc::clone(&stopper.shared);
            thread::Builder::new().name("signals".into()).spawn(move || shared.hear(signals.forever()))
        });
        if let Err(error) = kept.map(drop).and(listening.map(drop)) {
            stopper.shared.recorder.note("no-signals", format!("signals end this program at once: {error}"));
        }
        stopper
    }

    fn new(
        recorder: Arc<Recorder>,
        errors: Lines,
        limit: Duration,
        end: impl Fn(Ending) + Send + Sync + 'static,
    ) -> Self {
        let (state, end) = (Mutex::default(), Box::new(end));
        Self { shared: Arc::new(Shared { recorder, errors, state, limit, end }) }
    }

    /// Says which device is to be stopped, or that there is none any more. Returns false if the program is to end and no
    /// device is to be started.
    pub fn attach(&self, device: Option<Handle>) -> bool {
        self.stops(device.map(|device| Arc::new(device) as Arc<dyn Stop>))
    }

    fn stops(&self, device: Option<Arc<dyn Stop>>) -> bool {
        let mut state = self.shared.lock();
        state.device = device;
        !state.asked
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(self: Arc<Self>, mut signals: impl Iterator<Item = i32>) {
        // The signals end only when their handle is closed, and nobody has it.
        let Some(first) = signals.next() else {
            debug_assert!(false, "the signals were closed");
            return self.recorder.note("internal-error", "internal error: signals are no longer heard");
        };
        let mut state = self.lock();
        state.asked = true;
        let device = state.device.clone();
        drop(state);
        let name = name(first);
        let Some(device) = device else {
            self.recorder.note("stopping", format!("{name}: ending"));
            return (self.end)(Ending::Status(0));
        };
        self.recorder.note("stopping", format!("{name}: closing the connection{}", device.work()));
        device.stop();
        let shared = Arc::clone(&self);
        let timer = thread::Builder::new().name("stop limit".into()).spawn(move || {
            thread::sleep(shared.limit);
            shared.errors.line(format!(
                "nerves-hub-link: ending {} s after {name} though the device has not stopped; a disk may be hanging",
                shared.limit.as_secs()
            ));
            (shared.end)(Ending::Status(1));
        });
        if timer.is_err() {
            // Then nothing bounds the wait but the second signal.
            self.recorder
                .note("stopping", "there is no thread for a time limit; a second signal ends at once");
        }
        // None: the signals were closed, and the limit ends the program.
        if let Some(second) = signals.next() {
            (self.end)(Ending::Signal(second));
        }
    }
}

fn end(recorder: &Recorder, errors: &Lines, ending: &Ending) {
    let status = match ending {
        Ending::Status(status) => {
            recorder.flush(FLUSH_MAX);
            errors.flush(FLUSH_MAX);
            *status
        }
        Ending::Signal(signal) => {
            // Does not return unless this signal ends no process, which none of those heard is.
            let _ = emulate_default_handler(*signal);
            1
        }
    };
    std::process::exit(status)
}

/// Says what becomes of an update.
fn update(device: &Handle) -> &'static str {
    match device.status().link.update {
        UpdateState::Idle | UpdateState::Deciding { .. } => "",
        UpdateState::Written => "; the new firmware is written and boots next",
        UpdateState::Finishing { .. } => {
            "; an update is being finished: the next start of this program tells what runs"
        }
        _ => "; the update under way is broken off, and the running firmware stays",
    }
}

const fn name(signal: i32) -> &'static str {
    match signal {
        SIGTERM => "SIGTERM",
        SIGINT => "SIGINT",
        _ => "SIGHUP",
    }
}

/// The signals that this process ignores (proc_pid_status(5)): bit N − 1 for signal N. Without /proc none is known.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default(); // A container may have no /proc.
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A device that was told to stop and does not.
    struct Hanging(Sender<()>);

    impl Stop for Hanging {
        fn stop(&self) {
            self.0.send(()).unwrap();
        }

        fn work(&self) -> &'static str {
            "; work"
        }
    }

    /// What a process with a device would do.
    struct Bench {
        stopper: Stopper,
        signals: Sender<i32>,
        ended: Receiver<Ending>,
        stopped: Receiver<()>,
    }

    impl Bench {
        fn new(limit: Duration, attached: bool) -> Self {
            let (signals, heard) = channel();
            let (end, ended) = channel();
            let (stop, stopped) = channel();
            let recorder = Arc::new(Recorder::new(Format::Plain, None));
            let errors = Lines::new(std::io::sink(), |_| String::new());
            let end = move |ending| drop(end.send(ending));
            let stopper = Stopper::new(recorder, errors, limit, end);
            if attached {
                assert!(stopper.stops(Some(Arc::new(Hanging(stop)))));
            }
            let shared = Arc::clone(&stopper.shared);
            thread::spawn(move || shared.hear(heard.into_iter()));
            Self { stopper, signals, ended, stopped }
        }

        fn ended(&self) -> Ending {
            self.ended.recv_timeout(PATIENCE).unwrap()
        }
    }

    #[test]
    fn a_device_that_hangs_is_ended_at_the_limit() {
        let bench = Bench::new(Duration::from_millis(1), true);
        bench.signals.send(SIGTERM).unwrap();
        assert_eq!(bench.ended(), Ending::Status(1));
        bench.stopped.recv_timeout(PATIENCE).unwrap();
        assert!(!bench.stopper.stops(None), "no other device is started");
    }

    #[test]
    fn a_second_signal_ends_at_once_whatever_hangs() {
        for second in [SIGTERM, SIGINT, SIGHUP] {
            let bench = Bench::new(Duration::from_secs(3600), true);
            bench.signals.send(SIGTERM).unwrap();
            bench.stopped.recv_timeout(PATIENCE).unwrap();
            assert!(bench.ended.try_recv().is_err(), "one signal lets the device finish");
            bench.signals.send(second).unwrap();
            assert_eq!(bench.ended(), Ending::Signal(second));
        }
    }

    #[test]
    fn without_a_device_one_signal_ends_the_program() {
        let bench = Bench::new(Duration::from_secs(3600), false);
        bench.signals.send(SIGINT).unwrap();
        assert_eq!(bench.ended(), Ending::Status(0));
    }
}
