//! The names of the machine's timers.

use core::time::Duration;

use crate::time::Instant;

/// The next time at which [`Link::handle`](crate::Link::handle) wants
/// [`Input::Tick`](crate::Input::Tick), and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// The timer that will fire.
    pub why: Timer,
}

/// What a timer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timer {
    /// The next attempt to connect.
    Reconnect,
    /// No longer suspecting that another device has the same identity.
    Duplicate,
    /// Looking again whether the network is there, or giving up a look the adapter never answered.
    Probe,
    /// Giving up a dial the adapter never answered.
    Dial,
    /// The next heartbeat, or giving up the connection because the last went unanswered.
    Heartbeat,
    /// Giving up a join that went unanswered.
    Join,
    /// The next attempt to join.
    Rejoin,
    /// Giving up a connection that takes no messages.
    Send,
    /// Rescheduling an offer the application didn't answer.
    Decision,
    /// Giving up a question the server didn't answer.
    Answer,
    /// Offering extensions to a server that doesn't ask.
    Extensions,
    /// Giving up an answer of the application to an extension's question.
    ExtensionAnswer,
    /// The next health report that nobody asked for.
    Health,
    /// Looking for changed network identities.
    NetworkIdentity,
    /// Sending log lines.
    Logs,
    /// Sending error reports.
    ErrorReports,
    /// Sending metrics.
    Metrics,
    /// Sending that alarms came or went.
    AlarmMessages,
    /// Raising the alarm that no update service answers, or reporting that it lasts.
    Freeze,
    /// Ending a script that runs too long.
    Script,
    /// Sending what a shell has written since the last message.
    ShellOutput,
    /// Ending a console that nobody uses.
    ConsoleIdle,
    /// Giving up a file whose next piece doesn't come.
    FileIdle,
    /// The next attempt to download.
    DownloadRetry,
    /// Giving up a request that stays silent.
    DownloadIdle,
    /// Giving up a download that is too slow.
    DownloadSpeed,
    /// Giving up a download that takes too long altogether.
    DownloadDuration,
    /// Asking about an archive again, or giving up checking one.
    Archive,
    /// Giving up a store that doesn't answer.
    Store,
    /// Giving up an applier that neither takes bytes nor reports progress.
    Apply,
    /// Telling the server that a slow update lives.
    Progress,
    /// Asking whether the running firmware proved good.
    Validation,
    /// Keeping how long ago the device was made to reboot, where no clock says so later.
    History,
    /// Rebooting although the last messages didn't reach the wire.
    Reboot,
}

/// The earliest of several deadlines.
#[derive(Default)]
pub(crate) struct Earliest(Option<Deadline>);

impl Earliest {
    /// Adds a deadline at a time.
    pub(crate) fn at(&mut self, why: Timer, at: Instant) {
        self.add(Some(Deadline { at, why }));
    }

    /// Adds a deadline some time after a moment.
    pub(crate) fn after(&mut self, why: Timer, since: Instant, wait: Duration) {
        self.at(why, since + wait);
    }

    /// Adds a deadline, if there is one.
    pub(crate) fn add(&mut self, other: Option<Deadline>) {
        if let Some(other) = other
            && self.0.is_none_or(|best| other.at < best.at)
        {
            self.0 = Some(other);
        }
    }

    /// Returns the earliest.
    pub(crate) const fn get(self) -> Option<Deadline> {
        self.0
    }
}
