//! Moving what is left at the end of a stretch to the end of a vector.

use iced_x86::{Code, Register};

use super::isa::{Features, Isa};
use super::vcode::{Builder, Kind, Mem, Opd, VReg};

/// Start of the scratch area below the stack pointer, in bytes.
const SCRATCH: i32 = -128;

/// The last bytes, as many as a vector has, of `before` followed by the first rax bytes of `bytes`. Changes r9.
pub(super) fn slide(b: &mut Builder, before: VReg, bytes: VReg) -> VReg {
    let (vector, full) = (b.vector_bytes() as i32, b.full());
    if b.isa == Isa::Avx512 && b.features.has(Features::VBMI) {
        let numbers = b.table((0..128).collect());
        lea_pool(b, Register::R9, numbers);
        let from = Mem::Base { base: Register::R9, index: Register::RAX, scale: 1, disp: 0 };
        let load = Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512;
        let index = b.fresh(Kind::Vector, full, load, &[Opd::Mem(from)]);
        let operands = [Opd::Reg(before, full), Opd::Reg(bytes, full)];
        return b.tied(Code::EVEX_Vpermi2b_zmm_k1z_zmm_zmmm512, index, &operands);
    }
    // Through memory: the load waits until both stores have left the pipeline.
    let (store, load) = match b.isa {
        Isa::Avx512 => (Code::EVEX_Vmovdqu64_zmmm512_k1z_zmm, Code::EVEX_Vmovdqu64_zmm_k1z_zmmm512),
        Isa::Avx2 => (Code::VEX_Vmovdqu_ymmm256_ymm, Code::VEX_Vmovdqu_ymm_ymmm256),
    };
    let at = |disp, index| Opd::Mem(Mem::Base { base: Register::RSP, index, scale: 1, disp });
    for (disp, value) in [(SCRATCH, before), (SCRATCH + vector, bytes)] {
        let operands = [at(disp, Register::None), Opd::Reg(value, full)];
        b.push(store, &operands, None, None, None, false);
    }
    b.fresh(Kind::Vector, full, load, &[at(SCRATCH, Register::RAX)])
}

/// The address of a table of the pool.
pub(super) fn lea_pool(b: &mut Builder, register: Register, entry: u32) {
    let operands = [Opd::Gpr(register), Opd::Mem(Mem::Pool { entry, disp: 0 })];
    b.push(Code::Lea_r64_m, &operands, None, None, None, false);
}
