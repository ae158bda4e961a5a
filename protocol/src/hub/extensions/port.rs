//! The way out of an extension: shut unless the server attached it.

use alloc::borrow::Cow;

use serde_json::Value;

use super::super::{Context, EXTENSIONS};
use crate::command::CommandError;
use crate::phoenix::{Class, Tag};

/// An extension's way to the server, good for the length of one call.
#[derive(Clone, Copy)]
pub(super) struct Port {
    tag: Tag,
    open: bool,
}

impl Port {
    pub(super) const fn new(tag: Tag, open: bool) -> Self {
        Self { tag, open }
    }

    /// Returns what goes with everything the extension sends.
    pub(super) const fn tag(self) -> Tag {
        self.tag
    }

    /// Returns whether the extension is attached and its channel joined.
    pub(super) const fn is_open(self) -> bool {
        self.open
    }

    /// Returns an error unless the port is open.
    pub(super) const fn require(self) -> Result<(), CommandError> {
        if self.open { Ok(()) } else { Err(CommandError::NotAttached) }
    }

    /// Sends an event with its whole name, if the port is open.
    pub(super) fn send(
        self,
        cx: &mut Context<'_>,
        event: impl Into<Cow<'static, str>>,
        payload: Value,
        class: Class,
    ) {
        if self.open {
            cx.wire.push_to(EXTENSIONS, self.tag, event.into(), payload, class);
        }
    }
}
