//! CRC-32C by the `crc32` instruction beside carry-less multiplication, where vectors are narrow: two units
//! work at once. It works for one state of a loop, with its sum in one register.
//!
//! The instruction, starting from zero over some bytes, gives 32 bits that may be added to the four bytes
//! behind these, by the definition of a CRC. So an iteration consists of groups: vectors whose bytes the
//! instruction takes from memory, then one that is folded, with those 32 bits added to its first four bytes.
//! The multiplier has fewer vectors, and the groups do not wait for each other.
//!
//! ```text
//!     copy     0        1        2           3 ...
//!              crc32    crc32    fold        crc32 ...
//!                └────────┴──32 bits──┘
//! ```

use iced_x86::{Code, Register};

use crate::backend::native::abi::{DST, REMAINDER, SRC};
use crate::backend::native::asm;
use crate::backend::native::vcode::{Builder, Operand, RegKind, VReg, Width};

/// Where the bytes that a stage reads lie in memory when a few vectors more have gone by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::native) enum Memory {
    /// In the source: no stage changes them.
    Source,
    /// In the destination: no stage from this one on changes them.
    Destination,
}

/// How the copies of an iteration are shared out.
#[derive(Clone, Copy, Debug)]
pub(in crate::backend::native) struct Beside {
    pub(in crate::backend::native) memory: Memory,
    /// Vectors of a group, of which the last one is folded.
    pub(in crate::backend::native) group: usize,
}

/// Where the sum of a group is kept from copy to copy: what is left is not counted before the loops are over.
const SUM: Register = REMAINDER;

/// Bytes that one instruction takes.
const WORD: usize = 8;

impl Beside {
    /// Whether the instruction takes its bytes from the destination.
    pub(super) fn reads_back(self) -> bool {
        self.memory == Memory::Destination
    }

    /// Whether a copy is folded.
    pub(super) const fn folds(self, copy: usize) -> bool {
        copy % self.group == self.group - 1
    }

    /// The instruction's part of a copy: it takes the vector before this one in its group, which is in memory
    /// by now, so that the chain of a group begins as early as can be and other work comes between. Where the
    /// copy is folded, what is to be added to its vector: the CRC of the vectors before it.
    pub(super) fn before(self, b: &mut Builder, copy: usize) -> Option<VReg> {
        let vector = b.vector_bytes();
        let index = match self.memory {
            Memory::Source => Register::None,
            Memory::Destination => DST,
        };
        if copy.is_multiple_of(self.group) {
            b.raw(asm::rr(Code::Xor_r32_rm32, SUM.full_register32(), SUM.full_register32()));
            return None;
        }
        for at in (vector * (copy - 1)..vector * copy).step_by(WORD) {
            b.raw(asm::rm(Code::Crc32_r64_rm64, SUM, SRC, index, at as i32));
        }
        let move_sum = |b: &mut Builder| {
            b.fresh(RegKind::Vector, Width::X, Code::VEX_Vmovq_xmm_rm64, &[Operand::Gpr(SUM)])
        };
        self.folds(copy).then(|| move_sum(b))
    }
}
