//! Values that are always there.

/// A value whose absence is a fault of this crate.
pub(crate) trait Sure<T> {
    /// Returns the value. Without one, it panics where debug assertions are on, as in tests, in fuzzing and in the
    /// simulation; elsewhere it is the default, and the device goes on.
    fn sure(self, why: &str) -> T;
}

impl<T: Default> Sure<T> for Option<T> {
    fn sure(self, why: &str) -> T {
        debug_assert!(self.is_some(), "not so: {why}");
        self.unwrap_or_default()
    }
}
