//! Where the archive comes from: a file, or standard input, framed or not.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};

use fwup_stream::framing::{FrameInput, FrameReader};

use crate::Failure;
use crate::options::Options;

/// Bytes read at once: what fwup hands to its reader, so that pieces of data end where they end there.
const PIECE: usize = 16 * 1024;

/// What is told when whoever should send frames goes away at once; the beginning is fwup's.
const NOTHING_FRAMED: &str = "Error reading stdin: it ended before the first byte of an archive. With --framing the \
    archive comes in frames, each behind its length in 4 bytes, and a frame of length 0 ends it.";

/// An archive being read.
pub(crate) struct Input {
    source: Box<dyn Read>,
    frames: Option<FrameReader>,
    name: Option<String>,
}

/// How an archive ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It came to its end, or nobody wanted more.
    Complete,
    /// The framed input broke off.
    BrokeOff,
}

impl Input {
    /// Opens the archive the options name.
    pub(crate) fn open(options: &Options) -> Result<Self, Failure> {
        match &options.input {
            Some(path) if !is_stdin(path) => {
                let name = path.to_string_lossy().into_owned();
                let file = File::open(path).map_err(|_| Failure::new(format!("Failed to open '{name}'")))?;
                Ok(Self { source: Box::new(file), frames: None, name: Some(name) })
            }
            _ => {
                let frames = options.framing.then(FrameReader::new);
                Ok(Self { source: Box::new(io::stdin().lock()), frames, name: None })
            }
        }
    }

    /// The name of the archive for errors.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Hands the archive over piece by piece until `take` wants no more.
    pub(crate) fn feed(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<bool, Failure>,
    ) -> Result<End, Failure> {
        let mut buffer = vec![0; PIECE];
        let mut came = false;
        loop {
            let count = match self.source.read(&mut buffer) {
                Ok(0) => {
                    let cut = self.frames.as_ref().is_some_and(|frames| frames.finish().is_err());
                    if cut && !came {
                        return Err(Failure::new(NOTHING_FRAMED));
                    }
                    return Ok(if cut { End::BrokeOff } else { End::Complete });
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let name = self.name.as_deref().unwrap_or("standard input");
                    let reason = reason(&error);
                    return Err(Failure::new(format!("reading the archive from {name} failed: {reason}")));
                }
            };
            debug_assert!(count <= buffer.len(), "{count} bytes were read into {PIECE}");
            let (mut piece, _) = buffer.split_at(count.min(PIECE));
            let Some(frames) = &mut self.frames else {
                if !take(piece)? {
                    return Ok(End::Complete);
                }
                continue;
            };
            loop {
                match frames.next(&mut piece) {
                    FrameInput::NeedInput => break,
                    FrameInput::End => return Ok(End::Complete),
                    FrameInput::Data(data) => {
                        came = true;
                        if !take(data)? {
                            return Ok(End::Complete);
                        }
                    }
                }
            }
        }
    }
}

/// The system's words for an error, without Rust's number at the end.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Says whether threads can run side by side.
pub(crate) fn several_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
}

/// Says whether the name means standard input.
pub(crate) fn is_stdin(path: &OsString) -> bool {
    path == "-"
}
