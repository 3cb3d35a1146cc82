//! eBPF instructions: their encoding, and their text (RFC 9669).

use std::fmt;

/// A register: `r0` to `r10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BpfRegister(pub(crate) u8);

/// What `r10` is: the end of 512 bytes of stack.
pub(crate) const FRAME: BpfRegister = BpfRegister(10);

/// Operations on 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BpfAlu {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Or = 0x40,
    And = 0x50,
    Lsh = 0x60,
    Rsh = 0x70,
    Neg = 0x80,
    Mod = 0x90,
    Xor = 0xa0,
    Mov = 0xb0,
    Arsh = 0xc0,
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BpfOperand {
    Register(BpfRegister),
    /// Sign-extended to 64 bits.
    Immediate(i32),
}

/// When a jump is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BpfJump {
    Always = 0x00,
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    NotEqual = 0x50,
    Less = 0xa0,
}

/// An instruction: one slot of 8 bytes, those that load 64 bits or a map two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BpfInsn {
    /// `to = to op from`, of 64 bits; `neg` takes no operand.
    Alu64(BpfAlu, BpfRegister, BpfOperand),
    /// `to = (u32) from`.
    Truncate32(BpfRegister, BpfRegister),
    /// The lowest 16, 32 or 64 bits in big endian order, the rest zero.
    ToBigEndian(BpfRegister, u8),
    Load64(BpfRegister, u64),
    /// The address of a byte of the value of the map of counters, which the loader fills in.
    MapValue(BpfRegister, u32),
    /// The map of sockets itself, which the loader fills in.
    SocketMap(BpfRegister),
    /// `to = *(u8|u16|u32|u64 *)(base + offset)`; the width in bytes.
    Load(u8, BpfRegister, BpfRegister, i16),
    /// `*(..)(base + offset) = from`.
    Store(u8, BpfRegister, i16, BpfRegister),
    /// `lock *(u64 *)(base + offset) += from`.
    AtomicAdd(BpfRegister, i16, BpfRegister),
    /// Over so many slots, forward.
    Jump(BpfJump, BpfRegister, BpfOperand, i16),
    /// A function of the kernel, by number: takes `r1` to `r5`, gives `r0`.
    Call(i32),
    Exit,
}

impl BpfInsn {
    /// Slots of 8 bytes.
    pub(crate) fn slots(self) -> usize {
        match self {
            BpfInsn::Load64(..) | BpfInsn::MapValue(..) | BpfInsn::SocketMap(..) => 2,
            _ => 1,
        }
    }

    pub(crate) fn encode(self, code: &mut Vec<u8>) {
        let mut slot = |opcode: u8, to: u8, from: u8, offset: i16, immediate: i32| {
            code.extend([opcode, to | from << 4]);
            code.extend(offset.to_le_bytes());
            code.extend(immediate.to_le_bytes());
        };
        match self {
            BpfInsn::Alu64(op, to, BpfOperand::Register(from)) => slot(op as u8 | 0x0f, to.0, from.0, 0, 0),
            BpfInsn::Alu64(BpfAlu::Neg, to, _) => slot(BpfAlu::Neg as u8 | 0x07, to.0, 0, 0, 0),
            BpfInsn::Alu64(op, to, BpfOperand::Immediate(value)) => slot(op as u8 | 0x07, to.0, 0, 0, value),
            BpfInsn::Truncate32(to, from) => slot(0xbc, to.0, from.0, 0, 0),
            BpfInsn::ToBigEndian(to, bits) => slot(0xdc, to.0, 0, 0, i32::from(bits)),
            BpfInsn::Load64(to, value) => {
                slot(0x18, to.0, 0, 0, value as u32 as i32);
                slot(0, 0, 0, 0, (value >> 32) as i32);
            }
            // BPF_PSEUDO_MAP_VALUE: the map's descriptor, then an offset into its value.
            BpfInsn::MapValue(to, offset) => {
                slot(0x18, to.0, 2, 0, 0);
                slot(0, 0, 0, 0, offset as i32);
            }
            // BPF_PSEUDO_MAP_FD: the map's descriptor.
            BpfInsn::SocketMap(to) => {
                slot(0x18, to.0, 1, 0, 0);
                slot(0, 0, 0, 0, 0);
            }
            BpfInsn::Load(bytes, to, base, offset) => slot(0x61 | width(bytes), to.0, base.0, offset, 0),
            BpfInsn::Store(bytes, base, offset, from) => slot(0x63 | width(bytes), base.0, from.0, offset, 0),
            BpfInsn::AtomicAdd(base, offset, from) => slot(0xdb, base.0, from.0, offset, 0),
            BpfInsn::Jump(BpfJump::Always, _, _, over) => slot(0x05, 0, 0, over, 0),
            BpfInsn::Jump(when, a, BpfOperand::Register(b), over) => {
                slot(when as u8 | 0x0d, a.0, b.0, over, 0)
            }
            BpfInsn::Jump(when, a, BpfOperand::Immediate(b), over) => {
                slot(when as u8 | 0x05, a.0, 0, over, b)
            }
            BpfInsn::Call(function) => slot(0x85, 0, 0, 0, function),
            BpfInsn::Exit => slot(0x95, 0, 0, 0, 0),
        }
    }
}

/// Bits of an opcode for an access of that many bytes.
fn width(bytes: u8) -> u8 {
    match bytes {
        1 => 0x10,
        2 => 0x08,
        4 => 0x00,
        _ => 0x18,
    }
}

impl fmt::Display for BpfRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Display for BpfOperand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BpfOperand::Register(register) => register.fmt(f),
            BpfOperand::Immediate(value) => value.fmt(f),
        }
    }
}

/// As the kernel's verifier prints it.
impl fmt::Display for BpfInsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = |offset: i16| if offset < 0 { '-' } else { '+' };
        match self {
            BpfInsn::Alu64(BpfAlu::Neg, to, _) => write!(f, "{to} = -{to}"),
            BpfInsn::Alu64(op, to, from) => {
                let symbol = match op {
                    BpfAlu::Add => "+=",
                    BpfAlu::Sub => "-=",
                    BpfAlu::Mul => "*=",
                    BpfAlu::Or => "|=",
                    BpfAlu::And => "&=",
                    BpfAlu::Lsh => "<<=",
                    BpfAlu::Rsh => ">>=",
                    BpfAlu::Mod => "%=",
                    BpfAlu::Xor => "^=",
                    BpfAlu::Mov | BpfAlu::Neg => "=",
                    BpfAlu::Arsh => "s>>=",
                };
                write!(f, "{to} {symbol} {from}")
            }
            BpfInsn::Truncate32(to, from) => write!(f, "w{} = w{}", to.0, from.0),
            BpfInsn::ToBigEndian(to, bits) => write!(f, "{to} = be{bits} {to}"),
            BpfInsn::Load64(to, value) => write!(f, "{to} = {value:#x} ll"),
            BpfInsn::MapValue(to, offset) => write!(f, "{to} = counters + {offset} ll"),
            BpfInsn::SocketMap(to) => write!(f, "{to} = sockets ll"),
            BpfInsn::Load(bytes, to, base, offset) => {
                write!(f, "{to} = *(u{} *)({base} {}{})", 8 * bytes, sign(*offset), offset.unsigned_abs())
            }
            BpfInsn::Store(bytes, base, offset, from) => {
                write!(f, "*(u{} *)({base} {}{}) = {from}", 8 * bytes, sign(*offset), offset.unsigned_abs())
            }
            BpfInsn::AtomicAdd(base, offset, from) => {
                write!(f, "lock *(u64 *)({base} {}{}) += {from}", sign(*offset), offset.unsigned_abs())
            }
            BpfInsn::Jump(BpfJump::Always, _, _, over) => write!(f, "goto pc+{over}"),
            BpfInsn::Jump(when, a, b, over) => {
                let symbol = match when {
                    BpfJump::Equal => "==",
                    BpfJump::Greater => ">",
                    BpfJump::GreaterOrEqual => ">=",
                    BpfJump::NotEqual => "!=",
                    BpfJump::Less | BpfJump::Always => "<",
                };
                write!(f, "if {a} {symbol} {b} goto pc+{over}")
            }
            BpfInsn::Call(function) => write!(f, "call {function}"),
            BpfInsn::Exit => write!(f, "exit"),
        }
    }
}
