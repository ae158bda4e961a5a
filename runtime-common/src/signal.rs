//! Waking the loop from other threads, and telling who waits for the device.

/// How the engine's threads and the application's handles reach a loop that waits.
///
/// Both are called from any thread, often, and must neither block nor fail.
pub trait Signals: Send + Sync + std::fmt::Debug {
    /// Ends the loop's present wait, or the next one if it isn't waiting. Many calls may count as one.
    fn wake(&self);

    /// The [`Status`](crate::Status) changed: whoever waits for that looks at it again.
    fn changed(&self);
}
