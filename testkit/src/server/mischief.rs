//! What the socket hub does wrong on purpose.

/// One way to misbehave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mischief {
    /// Accepts connections and never says a word, not even TLS.
    Silent,
    /// Answers upgrades with this status.
    RefuseUpgrade {
        /// For example 401, 503 or 404.
        status: u16,
        /// Seconds for a `Retry-After` header.
        retry_after: Option<u32>,
    },
    /// Redirects upgrades with 302.
    RedirectUpgrade {
        /// The `Location` header.
        location: String,
    },
    /// After the next messages to a device, sends pings for so long and reads nothing meanwhile, as a busy server does. A
    /// write that fails ends the connection, and what was not read by then is lost.
    BusySocket {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Opens the socket but answers nothing on it and reads nothing from it.
    MuteSocket,
    /// Leaves heartbeats without a reply.
    NoHeartbeatReplies,
    /// The hub's clock is off by so many seconds: its `Date` headers and what it thinks of signatures.
    ClockSkew {
        /// Positive is ahead.
        seconds: i64,
    },
    /// Answers downloads with this status and no firmware.
    RefuseDownload {
        /// For example 401, 404, 416 or 503.
        status: u16,
        /// Seconds for a `Retry-After` header.
        retry_after: Option<u32>,
    },
    /// Redirects downloads with 302.
    RedirectDownload {
        /// The `Location` header; `None` is the same file under another query.
        location: Option<String>,
    },
    /// Cuts the connection after so many bytes of a download's body.
    CutDownload {
        /// Bytes of the body that still go out.
        after: u64,
    },
    /// Answers range requests with 200 and the whole file.
    IgnoreRange,
    /// Sends a `Content-Range` that begins this many bytes later than what was asked for.
    WrongContentRange {
        /// Bytes that the header is off by.
        by: u64,
    },
    /// Sends a `Content-Length` that is too large or too small by so much.
    WrongLength {
        /// Positive is too large.
        by: i64,
    },
    /// Sends no length, and zeros behind the file for as long as anybody takes them.
    EndlessBody,
    /// Flips a bit of one byte of the file.
    CorruptByte {
        /// Where in the file.
        offset: u64,
    },
    /// Sends a download's body slowly.
    SlowBody {
        /// Bytes per tick.
        bytes: usize,
        /// Milliseconds per tick.
        every_ms: u64,
    },
}

impl Mischief {
    /// Whether a download gets an answer of which some part is wrong.
    pub(super) fn spoils_body(&self) -> bool {
        matches!(
            self,
            Self::CutDownload { .. }
                | Self::IgnoreRange
                | Self::WrongContentRange { .. }
                | Self::WrongLength { .. }
                | Self::EndlessBody
                | Self::CorruptByte { .. }
                | Self::SlowBody { .. }
        )
    }
}

/// How often a mischief happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next time only.
    Once,
    /// So many times.
    Count(u32),
    /// Until it is cleared.
    UntilCleared,
}

/// Frames no server would send.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Garbage {
    /// Text that is no JSON.
    InvalidJson,
    /// A JSON array of three.
    WrongArity,
    /// JSON that is no array.
    NotAnArray,
    /// A text frame that is not UTF-8.
    InvalidUtf8,
    /// A binary frame of noise.
    Binary,
    /// An event on the device channel that nobody knows.
    UnknownEvent,
    /// A known event whose payload is of the wrong type.
    WrongPayload,
    /// A message for a topic that was never joined.
    UnknownTopic,
    /// A text frame of so many bytes.
    Oversize(usize),
}

/// The mischief that is switched on.
#[derive(Debug, Default)]
pub(super) struct Armed {
    armed: Vec<(Mischief, Times)>,
}

impl Armed {
    pub fn add(&mut self, mischief: Mischief, times: Times) {
        if times != Times::Count(0) {
            self.armed.push((mischief, times));
        }
    }

    pub fn clear(&mut self) {
        self.armed.clear();
    }

    /// Uses up one turn of the first mischief for which `pick` returns something.
    pub fn take<T>(&mut self, mut pick: impl FnMut(&Mischief) -> Option<T>) -> Option<T> {
        let (index, taken) =
            self.armed.iter().enumerate().find_map(|(index, (m, _))| pick(m).map(|taken| (index, taken)))?;
        let times = self.armed.get_mut(index).map(|(_, times)| times)?;
        match times {
            Times::UntilCleared => {}
            Times::Count(left @ 2..) => *left -= 1,
            Times::Once | Times::Count(_) => {
                self.armed.remove(index);
            }
        }
        Some(taken)
    }

    /// As [`take`](Self::take), but only from what was armed before the first limited mischief that fits `behind`.
    pub fn take_before<T>(
        &mut self,
        behind: impl Fn(&Mischief) -> bool,
        pick: impl FnMut(&Mischief) -> Option<T>,
    ) -> Option<T> {
        let limit = self.armed.iter().position(|(m, times)| *times != Times::UntilCleared && behind(m));
        let later = self.armed.split_off(limit.unwrap_or(self.armed.len()));
        let taken = self.take(pick);
        self.armed.extend(later);
        taken
    }

    /// The clock's skew; looking does not use it up.
    pub fn skew_seconds(&self) -> i64 {
        self.armed
            .iter()
            .find_map(|(m, _)| if let Mischief::ClockSkew { seconds } = m { Some(*seconds) } else { None })
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mischief_is_used_up_as_often_as_asked() {
        let mut armed = Armed::default();
        armed.add(Mischief::IgnoreRange, Times::Count(2));
        armed.add(Mischief::Silent, Times::UntilCleared);
        let mut take = |what: Mischief| armed.take(|m| (*m == what).then_some(())).is_some();
        assert!(take(Mischief::IgnoreRange));
        assert!(take(Mischief::IgnoreRange));
        assert!(!take(Mischief::IgnoreRange));
        assert!(take(Mischief::Silent));
        assert!(take(Mischief::Silent));
        armed.clear();
        assert!(armed.take(|_| Some(())).is_none());
    }
}
