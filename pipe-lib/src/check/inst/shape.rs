//! The instructions by name, and which operands each takes.

use crate::ir::{BinaryOp, CompareOp, ConvertOp, CrcOp, ModOp, UnaryOp, WideBinary};

/// What an instruction is, and so which operands it takes.
#[derive(Clone, Copy)]
pub(super) enum InstShape {
    In,
    Out,
    Pos,
    Mov,
    Unary(UnaryOp),
    Binary(BinaryOp),
    Compare(CompareOp),
    Select,
    Modular(ModOp),
    Convert(ConvertOp),
    Lookup,
    Crc(CrcOp),
    /// Of 128 bits alone.
    Wide(WideBinary),
    /// 128 bits of two halves.
    Pair,
    /// The upper half of 128 bits.
    High,
}

const SPECIAL: [(&str, InstShape); 8] = [
    ("in", InstShape::In),
    ("out", InstShape::Out),
    ("pos", InstShape::Pos),
    ("mov", InstShape::Mov),
    ("sel", InstShape::Select),
    ("lookup", InstShape::Lookup),
    ("pair", InstShape::Pair),
    ("high", InstShape::High),
];

impl InstShape {
    pub(super) fn of(name: &str) -> Option<InstShape> {
        let special = SPECIAL.iter().find(|(special, _)| *special == name).map(|(_, shape)| *shape);
        special
            .or_else(|| UnaryOp::from_name(name).map(InstShape::Unary))
            .or_else(|| BinaryOp::from_name(name).map(InstShape::Binary))
            .or_else(|| CompareOp::from_name(name).map(InstShape::Compare))
            .or_else(|| ModOp::from_name(name).map(InstShape::Modular))
            .or_else(|| ConvertOp::from_name(name).map(InstShape::Convert))
            .or_else(|| CrcOp::from_name(name).map(InstShape::Crc))
            .or_else(|| WideBinary::OWN.into_iter().find(|op| op.name() == name).map(InstShape::Wide))
    }

    /// Names of the operands, destination first.
    pub(super) fn operands(self) -> &'static [&'static str] {
        match self {
            InstShape::In | InstShape::Pos => &["d"],
            InstShape::Out => &["a"],
            InstShape::Mov | InstShape::Unary(_) | InstShape::Convert(_) | InstShape::High => &["d", "a"],
            InstShape::Binary(_) | InstShape::Compare(_) | InstShape::Wide(_) => &["d", "a", "b"],
            InstShape::Pair => &["d", "upper", "lower"],
            InstShape::Select => &["d", "cond", "a", "b"],
            InstShape::Modular(_) => &["d", "a", "b", "m"],
            InstShape::Lookup => &["d", "table", "i"],
            InstShape::Crc(_) => &["d", "acc", "x"],
        }
    }
}

/// All mnemonics, for suggestions.
pub(super) fn mnemonics() -> impl Iterator<Item = &'static str> {
    (SPECIAL.iter().map(|(name, _)| *name))
        .chain(UnaryOp::ALL.iter().map(|op| op.name()))
        .chain(BinaryOp::ALL.iter().map(|op| op.name()))
        .chain(CompareOp::ALL.iter().map(|op| op.name()))
        .chain(ModOp::ALL.iter().map(|op| op.name()))
        .chain(ConvertOp::ALL.iter().map(|op| op.name()))
        .chain(CrcOp::ALL.iter().map(|op| op.name()))
        .chain(WideBinary::OWN.iter().map(|op| op.name()))
}

/// What other assemblers call our instructions.
pub(super) fn foreign_mnemonic(name: &str) -> Option<String> {
    let ours = match name {
        "move" | "ld" | "ldi" | "li" | "set" | "let" | "const" => "mov",
        "adc" | "addcarry" | "add_c" => "addc",
        "addsat" | "uadd_sat" | "uqadd" | "paddus" => "adds",
        "subsat" | "usub_sat" | "uqsub" | "psubus" => "subs",
        "sadd_sat" | "sqadd" | "padds" => "sadds",
        "ssub_sat" | "sqsub" | "psubs" => "ssubs",
        "lsl" | "sll" | "shift_left" => "shl",
        "lsr" | "srl" => "shr",
        "asr" | "sra" => "sar",
        "rol" => "rotl",
        "ror" => "rotr",
        "eor" => "xor",
        "cmp" => return Some("comparisons are `eq ne ltu leu lts les` and give a `bool`".to_string()),
        "gtu" | "geu" | "gts" | "ges" | "gt" | "ge" | "lt" | "le" => {
            return Some(
                "write `ltu`, `leu` (unsigned), `lts` or `les` (signed), with the operands in that order"
                    .into(),
            );
        }
        "select" | "cmov" | "if" => "sel",
        "popcount" | "cnt" => "popcnt",
        "ctlz" | "lzcnt" => "clz",
        "cttz" | "tzcnt" => "ctz",
        "rbit" | "bitreverse" => "bitrev",
        "rev" | "byteswap" | "swap" => "bswap",
        "uxt" | "zx" | "uext" => "zext",
        "sxt" | "sx" => "sext",
        "pmul" | "pclmul" => "clmul",
        "read" | "input" | "get" => "in",
        "write" | "output" | "put" => "out",
        "div" | "mod" | "rem" => {
            return Some("there is no division; `addmod` and `mulmod` reduce by a modulus".to_string());
        }
        "load" | "store" | "jmp" | "br" | "call" | "loop" => {
            return Some(
                "a pipe has no memory operands, branches or calls; `lookup` reads a constant table"
                    .to_string(),
            );
        }
        _ => return None,
    };
    Some(format!("write `{ours}`"))
}
