//! Extensions that the server speaks of and the device doesn't have.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use serde_json::json;

use super::super::{Context, EXTENSIONS, names};
use super::NOBODY;
use crate::extension::is_name;
use crate::limits::MAX_UNKNOWN_EXTENSIONS;
use crate::phoenix::Class;

/// The extensions of one message that the device doesn't know.
#[derive(Default)]
pub(super) struct Strangers {
    answered: usize,
    unusable: bool,
}

impl Strangers {
    /// Answers for one.
    pub(super) fn refuse(&mut self, cx: &mut Context<'_>, name: &str) {
        // The name goes into a message as it is.
        if !is_name(name) || self.answered >= MAX_UNKNOWN_EXTENSIONS {
            self.unusable = true;
            return;
        }
        self.answered += 1;
        let event = Cow::Owned(format!("{name}:{}", names::ERROR));
        let reason = json!({"reason": "unknown_extension"});
        cx.wire.push_to(EXTENSIONS, NOBODY, event, reason, Class::Session);
    }

    /// Returns what was wrong with those that got no answer.
    pub(super) fn result(self) -> Result<(), String> {
        if self.unusable {
            return Err(String::from(
                "extensions with impossible names, or too many the device doesn't know",
            ));
        }
        Ok(())
    }
}
