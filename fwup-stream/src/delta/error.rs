//! Why a delta cannot be used.

use std::fmt;

use crate::limits::{DELTA_OVERHEAD, DELTA_WINDOW};

/// Why decoding stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError<E> {
    /// The delta is malformed, or does not belong to this source.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The source could not be read.
    #[error("{0}")]
    Source(E),
}

/// What is wrong with a delta, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaError {
    fault: DeltaFault,
    window: u64,
    at: u64,
}

impl DeltaError {
    pub(super) fn new(fault: DeltaFault, window: u64, at: u64) -> Self {
        Self { fault, window, at }
    }

    /// What is wrong.
    pub fn fault(&self) -> &DeltaFault {
        &self.fault
    }

    /// The window it is in, counted from 1; 0 is the header of the delta.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// Bytes of the delta that had been taken by then.
    pub fn at(&self) -> u64 {
        self.at
    }
}

impl fmt::Display for DeltaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.window {
            0 => write!(f, "{} (in the header, within its first {} bytes)", self.fault, self.at),
            window => write!(f, "{} (in window {window}, within the first {} bytes)", self.fault, self.at),
        }
    }
}

impl std::error::Error for DeltaError {}

impl DeltaFault {
    /// The fault for what should never be; in tests it is a panic.
    pub(super) fn internal(what: &'static str) -> Self {
        debug_assert!(false, "{what}");
        Self::Internal(what)
    }
}

/// What can be wrong with a delta. Where `xdelta3` has a text, it is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaFault {
    /// A mistake of this program's: it stops before it does harm.
    #[error("internal error: {0}. Please report this with the delta and its source.")]
    Internal(&'static str),
    /// The first bytes are others.
    #[error("not a VCDIFF input: it does not begin with d6 c3 c4")]
    Magic,
    /// The version is not 0.
    #[error("VCDIFF input version {0} is not supported, only 0")]
    Version(u8),
    /// The header has bits that mean nothing.
    #[error("unrecognized header indicator bits set: {0:#04x}")]
    HeaderBits(u8),
    /// A secondary compressor is used, by this name.
    #[error("unavailable secondary compressor: {0}; make the delta with xdelta3 -S none")]
    Compressor(Compressor),
    /// The delta brings its own code table.
    #[error("a code table of its own is not supported")]
    CodeTable,
    /// A window has bits that mean nothing.
    #[error("unrecognized window indicator bits set: {0:#04x}")]
    WindowBits(u8),
    /// A window refers to what earlier windows produced.
    #[error("VCD_TARGET not implemented: a window copies from earlier windows")]
    TargetSource,
    /// A section is compressed though no compressor was named.
    #[error("a section of the window is compressed, but no compressor was named (delta indicator {0:#04x})")]
    DeltaIndicator(u8),
    /// A number does not fit into 64 bits.
    #[error("a number is larger than 64 bits")]
    Number,
    /// The source segment reaches beyond what 64 bits can count.
    #[error("the source segment of {length} bytes at {offset} ends beyond 64 bits")]
    SourceSegment {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// The target window is too large.
    #[error("hard window size exceeded: the window makes {0} bytes, at most {DELTA_WINDOW} are allowed")]
    WindowSize(u64),
    /// The window makes more than the resource holds.
    #[error("the window makes {target} bytes, but only {left} bytes of the resource are left to make")]
    ResultSize {
        /// Bytes the window makes.
        target: u64,
        /// Bytes that all windows from this one on may make.
        left: u64,
    },
    /// The window takes more memory than is allowed.
    #[error(
        "the window takes {needed} bytes of memory, but {allowed} are allowed; make the delta with smaller windows (xdelta3 -W 8388608)"
    )]
    Memory {
        /// Bytes of the window and its sections.
        needed: u64,
        /// Bytes allowed.
        allowed: usize,
    },
    /// The system has no memory for the window.
    #[error("this system has no {0} bytes of memory left for the window")]
    NoMemory(usize),
    /// The sections are far longer than what they make.
    #[error(
        "the window takes {sections} bytes to make {target}, at most {DELTA_OVERHEAD} more than it makes are allowed"
    )]
    Sections {
        /// Bytes of its sections.
        sections: u64,
        /// Bytes it makes.
        target: u64,
    },
    /// The announced length of the window is not that of its parts.
    #[error("incorrect encoding length: {announced} bytes are announced, the parts have {parts}")]
    EncodingLength {
        /// What the window says.
        announced: u64,
        /// What its parts add up to.
        parts: u64,
    },
    /// Instructions ask for more data than there are.
    #[error("data underflow: the instructions want more data than the window has")]
    Data,
    /// There are more data than bytes that are still to be made.
    #[error("extra bytes: {data} bytes of data are left to make {room} bytes of the window")]
    Surplus {
        /// Bytes of data left.
        data: usize,
        /// Bytes of the window left to make.
        room: usize,
    },
    /// An instruction breaks off.
    #[error("instruction underflow: the last instruction of the window is cut")]
    Instructions,
    /// Instructions ask for more addresses than there are.
    #[error("address underflow: the instructions want more addresses than the window has")]
    Addresses,
    /// A copy begins at or behind where it would be put.
    #[error("invalid address {address}: only {here} bytes can be copied from here")]
    Address {
        /// Where it begins.
        address: u64,
        /// The end of what is there.
        here: u64,
    },
    /// The instructions make more than the window holds.
    #[error("size overflows target window: an instruction makes {size} bytes, {room} are left of the window")]
    TargetOverflow {
        /// Bytes the instruction makes.
        size: u64,
        /// Bytes left.
        room: usize,
    },
    /// The instructions make less than the window should have.
    #[error("wrong window length: the instructions make {made} bytes of {expected}")]
    TargetLength {
        /// Bytes made.
        made: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// Data or addresses are left when all instructions are done.
    #[error("extra bytes: {data} of data and {addresses} of addresses are left at the window's end")]
    LeftOver {
        /// Bytes of data left.
        data: usize,
        /// Bytes of addresses left.
        addresses: usize,
    },
    /// The source ends before what is to be copied from it.
    #[error("source file too short: nothing at byte {0}; the source is not what the delta was made from")]
    SourceEnd(u64),
    /// The target window has another checksum.
    #[error(
        "target window checksum mismatch; the source is not what the delta was made from, or it is damaged"
    )]
    Checksum,
    /// The delta ends in the middle.
    #[error("the delta broke off")]
    BrokeOff,
    /// It had failed before, with the source.
    #[error("the source could not be read before; start again")]
    Ended,
}

/// A secondary compressor by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressor(pub u8);

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("DJW Static Huffman"),
            2 => f.write_str("LZMA"),
            16 => f.write_str("FGK Adaptive Huffman"),
            number => write!(f, "number {number}"),
        }
    }
}
