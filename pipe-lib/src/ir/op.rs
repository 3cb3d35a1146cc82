//! Instructions of the typed IR: straight-line SSA, one value an instruction.
//!
//! A [`Value`] is the index of the instruction that defines it, so an operand's index is always smaller than
//! that of its user; [`super::verify`] checks it. There are no branches, loops, loads, stores or calls: that
//! is what makes a pipe safe by construction.

use super::types::Ty;

/// Names the result of an instruction within its [`super::pipe::Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u32);

/// Index into [`super::pipe::Pipe::states`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(pub u32);

/// Index into [`super::pipe::Pipe::params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub u32);

/// Index into [`super::pipe::Pipe::tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

macro_rules! mnemonics {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every operation of the kind, in the order of the reference.
            pub const ALL: &[$name] = &[$($name::$variant,)+];

            /// The mnemonic in the language.
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// The operation of that mnemonic.
            pub fn from_name(name: &str) -> Option<$name> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

mnemonics! {
    /// `op d, a`: operand and result have the same integer type (`not` also takes `bool`).
    UnaryOp {
        /// Two's complement negation.
        Neg = "neg",
        /// Bitwise complement; logical for `bool`.
        Not = "not",
        /// Reverses the order of the bytes.
        Bswap = "bswap",
        /// Reverses the order of the bits.
        Bitrev = "bitrev",
        /// Number of one bits.
        Popcnt = "popcnt",
        /// Leading zero bits; the width for zero.
        Clz = "clz",
        /// Trailing zero bits; the width for zero.
        Ctz = "ctz",
    }
}

mnemonics! {
    /// `op d, a, b`: operands and result have the same integer type (`and`, `or`, `xor` also take `bool`).
    /// Counts of shifts and rotates are taken modulo the width.
    BinaryOp {
        /// Wrapping addition.
        Add = "add",
        /// Wrapping subtraction.
        Sub = "sub",
        /// Low half of the product.
        Mul = "mul",
        /// Bitwise and.
        And = "and",
        /// Bitwise or.
        Or = "or",
        /// Bitwise exclusive or.
        Xor = "xor",
        /// Shift left, zeros enter.
        Shl = "shl",
        /// Logical shift right, zeros enter.
        Shr = "shr",
        /// Arithmetic shift right, copies of the sign bit enter.
        Sar = "sar",
        /// Rotate left.
        Rotl = "rotl",
        /// Rotate right.
        Rotr = "rotr",
        /// Unsigned minimum.
        Min = "min",
        /// Unsigned maximum.
        Max = "max",
        /// Signed minimum.
        Smin = "smin",
        /// Signed maximum.
        Smax = "smax",
        /// One's complement addition: the carry out is added back in (RFC 1071). `a + b + (a + b >= 2^w)`, so
        /// the sum is zero only when both operands are.
        Addc = "addc",
        /// Unsigned addition that stops at the type's largest number: `min(a + b, 2^w - 1)`.
        Adds = "adds",
        /// Unsigned subtraction that stops at zero: `max(a - b, 0)`.
        Subs = "subs",
        /// Signed addition that stops at the type's smallest and largest numbers, `-2^(w-1)` and
        /// `2^(w-1) - 1`.
        Sadds = "sadds",
        /// Signed subtraction that stops there.
        Ssubs = "ssubs",
        /// Low half of the carry-less product (polynomials over GF(2)).
        Clmul = "clmul",
        /// High half of the carry-less product: bits `w ..= 2w - 2`, shifted down by `w`.
        Clmulh = "clmulh",
    }
}

mnemonics! {
    /// `op d, a, b`: operands of one type, result `bool`.
    CompareOp {
        /// Equal; also for `bool`.
        Eq = "eq",
        /// Not equal; also for `bool`.
        Ne = "ne",
        /// Unsigned less than.
        Ltu = "ltu",
        /// Unsigned less than or equal.
        Leu = "leu",
        /// Signed less than.
        Lts = "lts",
        /// Signed less than or equal.
        Les = "les",
    }
}

mnemonics! {
    /// `op d, a, b, m`: arithmetic modulo `m` on operands of one integer type. Exact: no intermediate
    /// overflow. The operands need not be reduced; `m = 0` stands for 2^width (that is, plain wrapping
    /// arithmetic).
    ModOp {
        /// `(a + b) mod m`.
        Addmod = "addmod",
        /// `(a * b) mod m`.
        Mulmod = "mulmod",
    }
}

mnemonics! {
    /// `op d, a` with a result of another integer type.
    ConvertOp {
        /// Zero extension to a wider type; from `bool`, 0 or 1.
        Zext = "zext",
        /// Sign extension to a wider type; from `bool`, 0 or all ones.
        Sext = "sext",
        /// The low bits, as a narrower type; to `bool`, the lowest bit.
        Trunc = "trunc",
    }
}

mnemonics! {
    /// Reflected 32-bit CRC step `op d, acc, x`: the bytes of `x` (8 to 64 bits) from least to most
    /// significant. No initial or final complement: a pipe writes those itself.
    CrcOp {
        /// Polynomial 0x04c11db7 (reflected 0xedb88320): zlib, Ethernet.
        Crc32 = "crc32",
        /// Polynomial 0x1edc6f41 (reflected 0x82f63b78): Castagnoli, iSCSI.
        Crc32c = "crc32c",
    }
}

mnemonics! {
    /// `op d, a` that reads or makes 128 bits.
    WideUnary {
        /// From a narrower integer type, zeros above.
        Zext = "zext",
        /// The low bits, as a narrower integer type.
        Trunc = "trunc",
        /// The upper 64 bits.
        High = "high",
        /// Bitwise complement.
        Not = "not",
        /// Reverses the order of the bytes.
        Bswap = "bswap",
    }
}

mnemonics! {
    /// `op d, a, b` that makes 128 bits, of as many, but for [`WideBinary::Pair`].
    WideBinary {
        /// `a` above `b`, both of 64 bits.
        Pair = "pair",
        /// Bitwise and.
        And = "and",
        /// Bitwise or.
        Or = "or",
        /// Bitwise exclusive or.
        Xor = "xor",
        /// Wrapping addition.
        Add = "add",
        /// Wrapping subtraction.
        Sub = "sub",
        /// Shift left by `b mod 128`, zeros enter.
        Shl = "shl",
        /// Logical shift right by `b mod 128`, zeros enter.
        Shr = "shr",
        /// Low half of the carry-less product: of operands below 2^64, all of it.
        Clmul = "clmul",
        /// A round of AES's cipher (FIPS 197): `SubBytes`, `ShiftRows`, `MixColumns` of the block `a`, whose
        /// first byte is the least significant one, then the round key `b` added.
        Aesenc = "aesenc",
        /// Its last round, without `MixColumns`.
        Aesenclast = "aesenclast",
        /// A round of the equivalent inverse cipher.
        Aesdec = "aesdec",
        /// Its last round.
        Aesdeclast = "aesdeclast",
        /// Multiplication in GF(2^128) as GHASH has it (NIST SP 800-38D, 6.3): the most significant bit is
        /// the coefficient of `x^0`, and `x^128 = x^7 + x^2 + x + 1`.
        Gfmul128 = "gfmul128",
    }
}

impl WideUnary {
    /// The operation on 128 bits that goes by a mnemonic of narrower ones, too.
    pub(crate) fn of(op: UnaryOp) -> Option<WideUnary> {
        WideUnary::from_name(op.name())
    }
}

impl WideBinary {
    /// The operation on 128 bits that goes by a mnemonic of narrower ones, too.
    pub(crate) fn of(op: BinaryOp) -> Option<WideBinary> {
        WideBinary::from_name(op.name())
    }

    /// Those of 128 bits alone.
    pub(crate) const OWN: [WideBinary; 5] = [
        WideBinary::Aesenc,
        WideBinary::Aesenclast,
        WideBinary::Aesdec,
        WideBinary::Aesdeclast,
        WideBinary::Gfmul128,
    ];
}

impl CrcOp {
    /// The polynomial, reflected.
    pub const fn reflected_poly(self) -> u32 {
        match self {
            CrcOp::Crc32 => 0xedb8_8320,
            CrcOp::Crc32c => 0x82f6_3b78,
        }
    }
}

/// What an instruction computes. The type of the result stands in [`Inst::ty`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// The word just read, as a number. At most one in a body; none in an export block.
    In,
    /// The state's value when the block starts.
    State(StateId),
    /// A parameter. Gone once a pipeline is composed: binding replaces it by [`Op::Const`].
    Param(ParamId),
    /// A literal, already masked to the type (0 or 1 for `bool`).
    Const(u64),
    /// `u64`: byte offset of this word from the start of the stream (of the window, for a windowed stage).
    Pos,
    /// One operand.
    Unary(UnaryOp, Value),
    /// Two operands of the result's type.
    Binary(BinaryOp, Value, Value),
    /// Two operands of one type; the result is `bool`.
    Compare(CompareOp, Value, Value),
    /// `cond ? then : otherwise`; `cond` is `bool`.
    Select {
        /// The condition.
        cond: Value,
        /// The result where `cond` is true.
        then: Value,
        /// The result where it is false.
        otherwise: Value,
    },
    /// Modular arithmetic; the third operand is the modulus.
    Modular(ModOp, Value, Value, Value),
    /// A change of width to the result's type.
    Convert(ConvertOp, Value),
    /// `table[index mod table.len()]`; table lengths are powers of two, so every index is in bounds.
    Lookup(TableId, Value),
    /// A CRC step: `u32` accumulator and an integer of any width up to 64 bits.
    Crc(CrcOp, Value, Value),
    /// An operation of one operand on 128 bits. Kept apart from narrower ones, so that what is known of
    /// numbers of a machine word is not taken to hold of these.
    WideUnary(WideUnary, Value),
    /// An operation of two operands on 128 bits.
    WideBinary(WideBinary, Value, Value),
}

impl Op {
    /// The operands, in order.
    pub fn operands(&self) -> impl Iterator<Item = Value> + use<> {
        let (a, b, c) = match *self {
            Op::In | Op::State(_) | Op::Param(_) | Op::Const(_) | Op::Pos => (None, None, None),
            Op::Unary(_, a) | Op::Convert(_, a) | Op::Lookup(_, a) | Op::WideUnary(_, a) => {
                (Some(a), None, None)
            }
            Op::Binary(_, a, b) | Op::Compare(_, a, b) | Op::Crc(_, a, b) | Op::WideBinary(_, a, b) => {
                (Some(a), Some(b), None)
            }
            Op::Select { cond, then, otherwise } => (Some(cond), Some(then), Some(otherwise)),
            Op::Modular(_, a, b, m) => (Some(a), Some(b), Some(m)),
        };
        [a, b, c].into_iter().flatten()
    }

    /// The same operation with every operand replaced by `f(operand)`.
    #[must_use]
    pub fn map_operands(self, mut f: impl FnMut(Value) -> Value) -> Op {
        match self {
            Op::In | Op::State(_) | Op::Param(_) | Op::Const(_) | Op::Pos => self,
            Op::Unary(op, a) => Op::Unary(op, f(a)),
            Op::Convert(op, a) => Op::Convert(op, f(a)),
            Op::Lookup(table, a) => Op::Lookup(table, f(a)),
            Op::Binary(op, a, b) => Op::Binary(op, f(a), f(b)),
            Op::Compare(op, a, b) => Op::Compare(op, f(a), f(b)),
            Op::Crc(op, a, b) => Op::Crc(op, f(a), f(b)),
            Op::WideUnary(op, a) => Op::WideUnary(op, f(a)),
            Op::WideBinary(op, a, b) => Op::WideBinary(op, f(a), f(b)),
            Op::Select { cond, then, otherwise } => {
                Op::Select { cond: f(cond), then: f(then), otherwise: f(otherwise) }
            }
            Op::Modular(op, a, b, m) => Op::Modular(op, f(a), f(b), f(m)),
        }
    }
}

/// One instruction: an operation and the type of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Inst {
    /// What is computed.
    pub op: Op,
    /// The type of the value.
    pub ty: Ty,
}
