//! The default code table (RFC 3284 §5.6).

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NoOp,
    Add,
    Run,
    Copy,
}

/// Half of an instruction code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) kind: Kind,
    /// Bytes it makes; 0 when the number follows.
    pub(super) size: u8,
    /// How the address of a copy is written.
    pub(super) mode: u8,
}

/// The two halves of an instruction code.
pub(super) fn codes(byte: u8) -> [Code; 2] {
    TABLE.get(usize::from(byte)).copied().unwrap_or([NOTHING; 2])
}

const NOTHING: Code = Code { kind: Kind::NoOp, size: 0, mode: 0 };
const MODES: u8 = 9;

static TABLE: [[Code; 2]; 256] = build();

const fn add(size: u8) -> Code {
    Code { kind: Kind::Add, size, mode: 0 }
}

const fn copy(size: u8, mode: u8) -> Code {
    Code { kind: Kind::Copy, size, mode }
}

// Runs when this is compiled: an index out of range could not get past the compiler.
#[allow(clippy::indexing_slicing)]
const fn build() -> [[Code; 2]; 256] {
    let mut table = [[NOTHING; 2]; 256];
    table[0][0] = Code { kind: Kind::Run, size: 0, mode: 0 };
    let mut at = 1;
    let mut size = 0;
    while size <= 17 {
        table[at][0] = add(size);
        (at, size) = (at + 1, size + 1);
    }
    let mut mode = 0;
    while mode < MODES {
        table[at][0] = copy(0, mode);
        at += 1;
        let mut size = 4;
        while size <= 18 {
            table[at][0] = copy(size, mode);
            (at, size) = (at + 1, size + 1);
        }
        mode += 1;
    }
    let mut mode = 0;
    while mode < MODES {
        let longest = if mode < 6 { 6 } else { 4 };
        let mut first = 1;
        while first <= 4 {
            let mut size = 4;
            while size <= longest {
                table[at] = [add(first), copy(size, mode)];
                (at, size) = (at + 1, size + 1);
            }
            first += 1;
        }
        mode += 1;
    }
    let mut mode = 0;
    while mode < MODES {
        table[at] = [copy(4, mode), add(1)];
        (at, mode) = (at + 1, mode + 1);
    }
    assert!(at == 256, "the table is full");
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corners_of_the_table_are_as_the_standard_lists_them() {
        let single = |code| [code, NOTHING];
        assert_eq!(codes(0), single(Code { kind: Kind::Run, size: 0, mode: 0 }));
        assert_eq!((codes(1), codes(18)), (single(add(0)), single(add(17))));
        assert_eq!((codes(19), codes(34)), (single(copy(0, 0)), single(copy(18, 0))));
        assert_eq!((codes(35), codes(162)), (single(copy(0, 1)), single(copy(18, 8))));
        assert_eq!((codes(163), codes(174)), ([add(1), copy(4, 0)], [add(4), copy(6, 0)]));
        assert_eq!((codes(175), codes(234)), ([add(1), copy(4, 1)], [add(4), copy(6, 5)]));
        assert_eq!((codes(235), codes(246)), ([add(1), copy(4, 6)], [add(4), copy(4, 8)]));
        assert_eq!((codes(247), codes(255)), ([copy(4, 0), add(1)], [copy(4, 8), add(1)]));
    }
}
