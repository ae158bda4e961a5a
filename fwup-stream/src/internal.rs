//! What cannot happen, should it happen.

/// Two things this library relies on contradict each other: a mistake in it, neither in the firmware nor in the
/// destination. The operation ends, as after any error; in tests it panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "internal error: {what}. This is a mistake in this program, not in the firmware or the destination. Please report \
     it with the archive"
)]
pub struct Internal {
    what: &'static str,
}

impl Internal {
    /// Names what was inconsistent.
    #[track_caller]
    pub(crate) fn new(what: &'static str) -> Self {
        debug_assert!(false, "internal error: {what}");
        Self { what }
    }
}
