//! Internal errors.

use alloc::string::String;

use crate::event::Event;
use crate::outputs::Outputs;

/// A state that the program's own logic rules out. It ends the operation concerned, never the connection.
#[derive(Debug)]
pub(crate) struct Fault(&'static str);

impl Fault {
    /// Returns an error that names what was inconsistent. Panics where debug assertions are on, as in tests, in
    /// fuzzing and in the simulation.
    pub(crate) fn new(what: &'static str) -> Self {
        debug_assert!(false, "internal error: {what}");
        Self(what)
    }

    /// Reports the error to the application.
    pub(crate) fn report(self, out: &mut Outputs) {
        out.fault(Event::InternalError { what: String::from(self.0) });
    }
}

impl From<Fault> for String {
    /// Returns the error as the reason why a message or an operation failed.
    fn from(fault: Fault) -> Self {
        alloc::format!("internal error: {}; please report it", fault.0)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::limits::MAX_OUTPUTS;
    use crate::output::Output;

    /// Release builds have no assertions: the application hears of the fault all the same.
    #[test]
    fn a_fault_reaches_the_application_without_assertions() {
        let mut out = Outputs::default();
        Fault("a message could not be written").report(&mut out);
        let Some(Output::Event(Event::InternalError { what })) = out.pop() else {
            panic!("nothing was said")
        };
        assert_eq!(what, "a message could not be written");
        assert_eq!(String::from(Fault("no end")), "internal error: no end; please report it");
    }

    /// The application may be slow just when something is wrong.
    #[test]
    fn a_fault_is_heard_of_though_the_queue_is_full() {
        for waiting in [MAX_OUTPUTS - 1, MAX_OUTPUTS, MAX_OUTPUTS + 1] {
            let mut out = Outputs::default();
            for _ in 0..waiting {
                out.event(Event::Connected);
            }
            for what in ["the cause", "what followed from it"] {
                Fault(what).report(&mut out);
            }
            let mut heard = Vec::new();
            while let Some(output) = out.pop() {
                if let Output::Event(Event::InternalError { what }) = output {
                    heard.push(what);
                }
            }
            let all = if waiting < MAX_OUTPUTS { 2 } else { 1 };
            assert_eq!(heard, ["the cause", "what followed from it"][..all], "{waiting}");
            assert!(out.pop().is_none(), "{waiting}");
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "internal error: x")]
    fn a_fault_panics_with_assertions() {
        let _ = Fault::new("x");
    }
}
