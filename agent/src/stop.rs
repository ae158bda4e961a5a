//! What ends the program from outside: SIGTERM, SIGINT and SIGHUP.
//!
//! The first one lets the device close its connection and finish the write it is in; the second one, or the time limit, ends
//! the program at once. At any moment that is no worse than a loss of power: the slot that runs is never written.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

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
}

#[derive(Default)]
struct State {
    /// The device to stop. Without one the program just ends.
    device: Option<Handle>,
    asked: bool,
}

impl Stopper {
    /// Listens from now on. What was ignored when the program was started stays so, as `nohup` and shells that start it in
    /// the background mean it; but not SIGTERM, by which supervisors stop it.
    pub fn listen(recorder: &Arc<Recorder>, errors: &Lines) -> Self {
        let (recorder, errors) = (Arc::clone(recorder), errors.clone());
        let stopper = Self { shared: Arc::new(Shared { recorder, errors, state: Mutex::default() }) };
        // A log file at its limit (ulimit -f) is a write that fails, and no reason to end.
        let kept = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
        let ignored = ignored();
        let wanted = [SIGTERM, SIGINT, SIGHUP].into_iter();
        let wanted = wanted.filter(|signal| *signal == SIGTERM || ignored & (1 << (signal - 1)) == 0);
        let listening = Signals::new(wanted).and_then(|signals| {
            let shared = Arc::clone(&stopper.shared);
            thread::Builder::new().name("signals".into()).spawn(move || shared.hear(signals))
        });
        if let Err(error) = kept.map(drop).and(listening.map(drop)) {
            stopper.shared.recorder.note("no-signals", format!("signals end this program at once: {error}"));
        }
        stopper
    }

    /// Says which device is to be stopped, or that there is none any more. Returns false if the program is to end and no
    /// device is to be started.
    pub fn attach(&self, device: Option<Handle>) -> bool {
        let mut state = self.shared.lock();
        state.device = device;
        !state.asked
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, mut signals: Signals) {
        let mut heard = signals.forever();
        // `forever` ends only when its handle is closed, and nobody has it.
        let Some(first) = heard.next() else { return };
        let mut state = self.lock();
        state.asked = true;
        let device = state.device.clone();
        drop(state);
        let name = name(first);
        let Some(device) = device else {
            self.recorder.note("stopping", format!("{name}: ending"));
            self.end(0);
        };
        self.recorder.note("stopping", format!("{name}: closing the connection{}", update(&device)));
        device.request_stop();
        let timer = thread::Builder::new().name("stop limit".into()).spawn({
            let (recorder, errors) = (Arc::clone(&self.recorder), self.errors.clone());
            move || {
                thread::sleep(STOP_MAX);
                let seconds = STOP_MAX.as_secs();
                errors.line(format!(
                    "nerves-hub-link: ending {seconds} s after {name} though the device has not stopped; a disk may be hanging"
                ));
                end(&recorder, &errors, 1);
            }
        });
        if timer.is_err() {
            // Then nothing bounds the wait but the second signal.
            self.recorder
                .note("stopping", "there is no thread for a time limit; a second signal ends at once");
        }
        if let Some(second) = heard.next() {
            // Ends the process as this signal does where nobody hears it.
            let _ = emulate_default_handler(second);
            self.end(1);
        }
    }

    fn end(&self, status: i32) -> ! {
        end(&self.recorder, &self.errors, status)
    }
}

fn end(recorder: &Recorder, errors: &Lines, status: i32) -> ! {
    recorder.flush(FLUSH_MAX);
    errors.flush(FLUSH_MAX);
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
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
