//! Running a function on the data of a resource: holes, length and digest, the same for all of them.

use super::context::Context;
use super::error::ActionError;
use crate::internal::Internal;
use crate::lengths::smaller;
use crate::manifest::FileResource;
use crate::trust::{StreamingDigest, is_digest};

/// Where a function puts the data.
pub(crate) trait Sink: Send {
    /// Hears how long the resource is, holes included, before its data come.
    fn expect(&mut self, _length: u64) -> Result<(), ActionError> {
        Ok(())
    }

    /// Takes data that belong at `offset` of the resource. Offsets rise; what is left out is a hole.
    fn write(&mut self, context: &mut Context<'_>, offset: u64, data: &[u8]) -> Result<(), ActionError>;

    /// Ends the resource, `length` bytes long, of which the last `hole` are a hole.
    fn finish(&mut self, context: &mut Context<'_>, length: u64, hole: u64) -> Result<(), ActionError>;

    /// Whether holes are written out, so that they count as work.
    fn writes_holes(&self) -> bool {
        false
    }
}

/// A function at work on a resource.
pub(crate) struct DataRun {
    function: &'static str,
    resource: FileResource,
    sink: Box<dyn Sink>,
    digest: StreamingDigest,
    /// Bytes of data there should be.
    expected: u64,
    /// Bytes that came.
    received: u64,
    /// Pieces of the sparse map that are done, each of data and of the hole behind it.
    pieces_done: usize,
    /// Bytes left of the present piece of data.
    piece_left: u64,
    /// Where the next byte belongs.
    offset: u64,
}

impl DataRun {
    /// Begins; refuses a resource whose data could not be checked.
    pub(crate) fn new(
        function: &'static str,
        resource: &FileResource,
        mut sink: Box<dyn Sink>,
        threads: bool,
    ) -> Result<Self, ActionError> {
        if !resource.blake2b_256.as_deref().is_some_and(is_digest) {
            return Err(ActionError::NoDigest { resource: resource.name.clone() });
        }
        sink.expect(resource.full_length())?;
        Ok(Self {
            function,
            resource: resource.clone(),
            sink,
            digest: StreamingDigest::new(resource.data_length(), threads),
            expected: resource.data_length(),
            received: 0,
            pieces_done: 0,
            // No length at all is a length of 0.
            piece_left: resource.length.first().copied().unwrap_or(0),
            offset: 0,
        })
    }

    /// Takes the next data. Nothing beyond the resource's length is written, whatever the archive holds.
    pub(crate) fn write(&mut self, context: &mut Context<'_>, data: &[u8]) -> Result<(), ActionError> {
        let received = self.received.saturating_add(data.len() as u64);
        if received > self.expected {
            return Err(self.wrong_length(received));
        }
        self.digest.update(data);
        let mut rest = data;
        while !rest.is_empty() {
            self.pass_holes(context);
            let here = smaller(self.piece_left, rest.len());
            if here == 0 {
                return Err(self.wrong_length(received));
            }
            let (now, after) = rest.split_at(here);
            self.sink.write(context, self.offset, now)?;
            self.offset = self.offset.saturating_add(now.len() as u64);
            self.piece_left -= now.len() as u64;
            self.received += now.len() as u64;
            context.done(now.len() as u64);
            rest = after;
        }
        Ok(())
    }

    /// Ends the data: all must have come, and be what the manifest says.
    pub(crate) fn finish(mut self, context: &mut Context<'_>) -> Result<(), ActionError> {
        if self.received != self.expected {
            return Err(if self.received == 0 {
                ActionError::NoData { function: self.function, resource: self.resource.name }
            } else {
                self.wrong_length(self.received)
            });
        }
        let length = self.resource.full_length();
        let hole = length.checked_sub(self.offset);
        let hole = hole.ok_or_else(|| Internal::new("data were written behind the end of their resource"))?;
        self.sink.finish(context, length, hole)?;
        if self.sink.writes_holes() {
            context.done(hole);
        }
        let digest = self.resource.blake2b_256.as_deref();
        let digest = digest.ok_or_else(|| Internal::new("a resource without a digest was written"))?;
        if !self.digest.matches(digest)? {
            return Err(ActionError::Digest { function: self.function, resource: self.resource.name });
        }
        Ok(())
    }

    /// Moves over holes to where the next byte belongs.
    fn pass_holes(&mut self, context: &mut Context<'_>) {
        while self.piece_left == 0 {
            let pieces = self.resource.length.get(self.pieces_done * 2..).unwrap_or_default();
            // Behind the last data nothing is left to move to.
            let [_, hole, next, ..] = *pieces else { return };
            self.pieces_done += 1;
            self.offset = self.offset.saturating_add(hole);
            self.piece_left = next;
            if self.sink.writes_holes() {
                context.done(hole);
            }
        }
    }

    fn wrong_length(&self, wrote: u64) -> ActionError {
        let (function, resource) = (self.function, self.resource.name.clone());
        ActionError::Length { function, resource, wrote, expected: self.expected }
    }
}
