//! The types of the pipe language: integers and booleans, gauges (a word's size and byte order), tail rules.

use std::fmt;

/// Type of a value. All arithmetic is unsigned and wraps at the type's width; signed instructions say so
/// themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ty {
    /// One bit: what comparisons give and `sel` takes.
    Bool,
    /// 8 bits.
    U8,
    /// 16 bits.
    U16,
    /// 32 bits.
    U32,
    /// 64 bits.
    U64,
    /// 128 bits: words of the stream and values computed from them. Registers, parameters, tables and exports
    /// have at most 64: what the language calls a state of 128 bits is two of them, `name.low` and
    /// `name.high`.
    U128,
}

impl Ty {
    /// The integer types that registers have, narrowest first.
    pub const INTEGERS: [Ty; 4] = [Ty::U8, Ty::U16, Ty::U32, Ty::U64];

    /// The integer type of `bytes` bytes (1, 2, 4, 8 or 16).
    pub const fn from_bytes(bytes: usize) -> Option<Ty> {
        match bytes {
            1 => Some(Ty::U8),
            2 => Some(Ty::U16),
            4 => Some(Ty::U32),
            8 => Some(Ty::U64),
            16 => Some(Ty::U128),
            _ => None,
        }
    }

    /// Width in bits; 1 for `bool`.
    pub const fn bits(self) -> u32 {
        match self {
            Ty::Bool => 1,
            Ty::U8 => 8,
            Ty::U16 => 16,
            Ty::U32 => 32,
            Ty::U64 => 64,
            Ty::U128 => 128,
        }
    }

    /// Size in bytes; 1 for `bool`, which never stands in a stream.
    pub const fn bytes(self) -> usize {
        match self {
            Ty::Bool | Ty::U8 => 1,
            Ty::U16 => 2,
            Ty::U32 => 4,
            Ty::U64 => 8,
            Ty::U128 => 16,
        }
    }

    /// All ones at this width: the largest value of the type; of [`Ty::U128`], the largest literal.
    pub const fn mask(self) -> u64 {
        match self {
            Ty::U128 => u64::MAX,
            _ => u64::MAX >> (64 - self.bits()),
        }
    }

    /// Whether this is one of the integer types.
    pub const fn is_integer(self) -> bool {
        !matches!(self, Ty::Bool)
    }

    /// The type's name in the language.
    pub const fn name(self) -> &'static str {
        match self {
            Ty::Bool => "bool",
            Ty::U8 => "u8",
            Ty::U16 => "u16",
            Ty::U32 => "u32",
            Ty::U64 => "u64",
            Ty::U128 => "u128",
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Byte order of a word in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endian {
    /// Least significant byte first; also what `u8` bears, where order means nothing.
    Little,
    /// Most significant byte first: network order.
    Big,
}

/// How a pipe reads or writes the stream: the word's type and its byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gauge {
    /// An integer type.
    pub ty: Ty,
    /// Order of the word's bytes; `Little` for `u8`.
    pub endian: Endian,
}

impl Gauge {
    /// The gauge of single bytes.
    pub const U8: Gauge = Gauge { ty: Ty::U8, endian: Endian::Little };

    /// A gauge of `ty` words in `endian` order (normalised to `Little` for one-byte words).
    pub const fn new(ty: Ty, endian: Endian) -> Gauge {
        match ty {
            Ty::U8 => Gauge::U8,
            _ => Gauge { ty, endian },
        }
    }

    /// Bytes of one word: 1, 2, 4, 8 or 16.
    pub const fn bytes(self) -> usize {
        self.ty.bytes()
    }

    /// Reads one word from exactly `self.bytes()` bytes.
    ///
    /// # Panics
    /// If `bytes` is not one word long.
    pub fn read(self, bytes: &[u8]) -> u128 {
        assert_eq!(bytes.len(), self.bytes(), "a word is {} bytes", self.bytes());
        let fold = |acc: u128, byte: &u8| (acc << 8) | u128::from(*byte);
        match self.endian {
            Endian::Little => bytes.iter().rev().fold(0, fold),
            Endian::Big => bytes.iter().fold(0, fold),
        }
    }

    /// Writes one word to exactly `self.bytes()` bytes.
    ///
    /// # Panics
    /// If `bytes` is not one word long.
    pub fn write(self, word: u128, bytes: &mut [u8]) {
        let n = self.bytes();
        assert_eq!(bytes.len(), n, "a word is {n} bytes");
        match self.endian {
            Endian::Little => bytes.copy_from_slice(&word.to_le_bytes()[..n]),
            Endian::Big => bytes.copy_from_slice(&word.to_be_bytes()[16 - n..]),
        }
    }
}

impl fmt::Display for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ty, self.endian) {
            (Ty::U8, _) => f.write_str("u8"),
            (ty, Endian::Little) => write!(f, "{ty}le"),
            (ty, Endian::Big) => write!(f, "{ty}be"),
        }
    }
}

/// What happens to leftover bytes when a length is no multiple of the gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Tail {
    /// Refuse such a length, before anything is written (for a stream: at `finish`).
    #[default]
    Reject,
    /// Compute on a word padded with zero bytes after the leftover, pass the leftover bytes on as they were.
    Zero,
    /// Compute on a zero-padded word, write the real bytes of the result.
    Partial,
    /// Leftover bytes go through untouched and uncomputed.
    Pass,
}

impl Tail {
    /// The rule's name in the language (`tail NAME`).
    pub const fn name(self) -> &'static str {
        match self {
            Tail::Reject => "reject",
            Tail::Zero => "zero",
            Tail::Partial => "partial",
            Tail::Pass => "pass",
        }
    }
}
