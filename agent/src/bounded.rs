//! Work that may hang with a disk, on a thread of its own, waited for within a limit.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Does `job` and returns its result, or why there is none: it takes longer than `limit`, say. A job that hangs keeps its
/// thread, and its result is lost.
///
/// # Errors
///
/// What kept the job from ending in time, for a person. `what` names it.
pub fn within<T: Send + 'static>(
    limit: Duration,
    what: &str,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (done, result) = channel();
    // Nobody listens any more after the limit.
    let started = thread::Builder::new().name(what.into()).spawn(move || drop(done.send(job())));
    started.map_err(|error| format!("{what}: can't start a thread for it: {error}"))?;
    result.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => {
            format!("{what} has not ended after {} s; a disk may be hanging", limit.as_secs())
        }
        // The panic hook has said what panicked.
        RecvTimeoutError::Disconnected => format!("{what} failed: this program has a bug"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_waited_for_within_the_limit_and_no_longer() {
        let long = Duration::from_secs(60);
        assert_eq!(within(long, "reading", || 7), Ok(7));
        let (release, hanging) = channel::<()>();
        let hangs = within(Duration::from_millis(1), "reading the state", move || hanging.recv().is_ok());
        let why = hangs.unwrap_err();
        assert!(why.contains("reading the state has not ended") && why.contains("hanging"), "{why}");
        drop(release);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let panicked = within(long, "reading", || panic!("a test"));
        std::panic::set_hook(before);
        assert!(panicked.is_err_and(|why: String| why.contains("bug")));
    }
}
