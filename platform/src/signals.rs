//! Signals that this process ignores and what it starts must hear.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU};
use signal_hook::flag;

/// What a terminal or a person at one sends.
const OF_TERMINALS: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU];

/// Catches what is ignored now, and goes on doing nothing about it.
///
/// What is ignored is ignored by all that is started, too (POSIX, `exec`), and shells start what ends in `&` with
/// interrupts ignored: in a shell on a device whose start-up script does that, Ctrl-C would do nothing. What is caught is
/// not inherited.
pub(crate) fn catch_ignored() {
    // Without /proc nothing is known, and nothing changes.
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return };
    let ignored = ignored(&status);
    for signal in OF_TERMINALS.into_iter().filter(|signal| ignored & 1 << (signal - 1) != 0) {
        // It fails for signals that cannot be caught alone.
        let _ = flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
}

/// The ignored signals of a `/proc/PID/status` (proc_pid_status(5)): bit N − 1 for signal N.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::ignored;

    #[test]
    fn ignored_signals_are_read() {
        assert_eq!(ignored("Name:\tx\nSigBlk:\tffff\nSigIgn:\t0000000080000007\nSigCgt:\t1\n"), 0x8000_0007);
        assert_eq!(ignored("Name:\tx\n"), 0);
        assert_eq!(ignored("SigIgn:\tzz\n"), 0);
    }
}
