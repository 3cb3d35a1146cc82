//! What one core of this machine can do at all: instructions a cycle, by loops that do nothing else.
//!
//! A statement such as "two 512-bit operations a cycle allow at most two thirds of memcpy" is worth something
//! if the two were measured on the machine it is said of.

use core::arch::asm;
use std::hint::black_box;
use std::time::Instant;

/// Instructions a cycle with nothing else in the way; vectors are 512 bits wide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Core clock under this load, from a chain of dependent additions.
    pub clock_ghz: f64,
    /// `vpaddq`: what any of the vector units does.
    pub adds: f64,
    /// `vpaddq` with its operand from the first-level cache.
    pub adds_from_memory: f64,
    /// `vpshufb`.
    pub shuffles: f64,
    /// `vpdpbusd`.
    pub dot_products: f64,
    /// `vpclmulqdq`.
    pub multiplies: f64,
    /// Loads from the first-level cache.
    pub loads: f64,
    /// Stores to the first-level cache.
    pub stores: f64,
    /// Cycles a vector of a copy within the first-level cache that also adds each vector to so many others:
    /// units are shared, and the sum is more than the largest of its parts.
    pub copy_with_adds: [f64; 7],
}

/// Turns of a loop of sixteen instructions in one measurement.
const TURNS: u64 = 4_000;
/// Measurements; the best counts, since nothing but disturbance makes a loop slower than the machine allows.
const TRIES: u32 = 60;

/// A loop that runs `TURNS` turns of sixteen times the instruction, whose register operand takes 16 values.
macro_rules! sixteen {
    ($name:ident, $template:literal) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vnni,vpclmulqdq")]
        fn $name(turns: u64, buffer: &mut Buffer) {
            // SAFETY: only registers declared as clobbered change, and memory within the buffer.
            unsafe {
                asm!(
                    "vpxord zmm0, zmm0, zmm0 /* {buffer} */",
                    ".p2align 6",
                    "2:",
                    ".irp r, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                    $template,
                    ".endr",
                    "dec {turns}",
                    "jnz 2b",
                    turns = inout(reg) turns => _,
                    buffer = in(reg) buffer.0.as_mut_ptr(),
                    out("zmm0") _, out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
                    out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _, out("zmm24") _,
                    out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _,
                    out("zmm30") _, out("zmm31") _,
                    options(nostack)
                );
            }
        }
    };
}

/// 32 cache lines.
#[repr(align(64))]
struct Buffer([u8; 2048]);

sixteen!(adds, "vpaddq zmm\\r, zmm\\r, zmm0");
sixteen!(adds_from_memory, "vpaddq zmm\\r, zmm\\r, [{buffer} + 64*(\\r - 16)]");
sixteen!(shuffles, "vpshufb zmm\\r, zmm\\r, zmm0");
sixteen!(dot_products, "vpdpbusd zmm\\r, zmm0, zmm0");
sixteen!(multiplies, "vpclmulqdq zmm\\r, zmm\\r, zmm0, 0");
sixteen!(loads, "vmovdqu64 zmm\\r, [{buffer} + 64*(\\r - 16)]");
sixteen!(stores, "vmovdqu64 [{buffer} + 64*(\\r - 16)], zmm0");

/// A loop that runs `turns` turns of eight times: load, some additions to accumulators of their own, store.
macro_rules! copy_with {
    ($name:ident, $($add:literal),*) => {
        #[target_feature(enable = "avx512f")]
        fn $name(turns: u64, buffer: &mut Buffer) {
            // SAFETY: only registers declared as clobbered change, and memory within the buffer.
            unsafe {
                asm!(
                    ".p2align 6",
                    "2:",
                    ".irp r, 16,17,18,19,20,21,22,23",
                    "vmovdqu64 zmm\\r, [{buffer} + 64*(\\r - 16)]",
                    $($add,)*
                    "vmovdqu64 [{buffer} + 1024 + 64*(\\r - 16)], zmm\\r",
                    ".endr",
                    "dec {turns}",
                    "jnz 2b",
                    turns = inout(reg) turns => _,
                    buffer = in(reg) buffer.0.as_mut_ptr(),
                    out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
                    out("zmm20") _, out("zmm21") _, out("zmm22") _, out("zmm23") _, out("zmm24") _,
                    out("zmm25") _, out("zmm26") _, out("zmm27") _, out("zmm28") _, out("zmm29") _,
                    options(nostack)
                );
            }
        }
    };
}

copy_with!(copy_with_0,);
copy_with!(copy_with_1, "vpaddq zmm24, zmm24, zmm\\r");
copy_with!(copy_with_2, "vpaddq zmm24, zmm24, zmm\\r", "vpaddq zmm25, zmm25, zmm\\r");
copy_with!(
    copy_with_3,
    "vpaddq zmm24, zmm24, zmm\\r",
    "vpaddq zmm25, zmm25, zmm\\r",
    "vpaddq zmm26, zmm26, zmm\\r"
);
copy_with!(
    copy_with_4,
    "vpaddq zmm24, zmm24, zmm\\r",
    "vpaddq zmm25, zmm25, zmm\\r",
    "vpaddq zmm26, zmm26, zmm\\r",
    "vpaddq zmm27, zmm27, zmm\\r"
);
copy_with!(
    copy_with_5,
    "vpaddq zmm24, zmm24, zmm\\r",
    "vpaddq zmm25, zmm25, zmm\\r",
    "vpaddq zmm26, zmm26, zmm\\r",
    "vpaddq zmm27, zmm27, zmm\\r",
    "vpaddq zmm28, zmm28, zmm\\r"
);
copy_with!(
    copy_with_6,
    "vpaddq zmm24, zmm24, zmm\\r",
    "vpaddq zmm25, zmm25, zmm\\r",
    "vpaddq zmm26, zmm26, zmm\\r",
    "vpaddq zmm27, zmm27, zmm\\r",
    "vpaddq zmm28, zmm28, zmm\\r",
    "vpaddq zmm29, zmm29, zmm\\r"
);

/// Sixteen additions of which each needs the one before: a cycle each.
fn chain(turns: u64) {
    // SAFETY: only declared registers change.
    unsafe {
        asm!(
            ".p2align 6",
            "2:",
            ".rept 16",
            "add {sum}, {one}",
            ".endr",
            "dec {turns}",
            "jnz 2b",
            turns = inout(reg) turns => _,
            sum = inout(reg) 0u64 => _,
            one = in(reg) black_box(1u64),
            options(nomem, nostack)
        );
    }
}

/// The same with nothing but AVX2 and PCLMULQDQ: vectors are 256 bits wide, products 128.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NarrowLimits {
    /// Core clock under this load, from a chain of dependent additions.
    pub clock_ghz: f64,
    /// `vpaddq`: what any of the vector units does.
    pub adds: f64,
    /// `vpshufb`.
    pub shuffles: f64,
    /// `vpclmulqdq`.
    pub products: f64,
    /// `vpaddq` that could have been done instead of one `vpclmulqdq`, where six of them stand beside each.
    pub adds_a_product: f64,
    /// `crc32` of 8 bytes.
    pub crcs: f64,
    /// Stores to the first-level cache.
    pub stores: f64,
}

/// A loop that runs `turns` turns of sixteen times the instructions, whose register operand takes 8 values.
macro_rules! narrow {
    ($name:ident, $($template:literal),*) => {
        #[target_feature(enable = "avx2,pclmulqdq,sse4.2")]
        fn $name(turns: u64, buffer: &mut Buffer) {
            // SAFETY: only registers declared as clobbered change, and memory within the buffer.
            unsafe {
                asm!(
                    "vpxor xmm0, xmm0, xmm0 /* {buffer} */",
                    ".p2align 6",
                    "2:",
                    ".rept 2",
                    ".irp r, 8,9,10,11,12,13,14,15",
                    $($template,)*
                    ".endr",
                    ".endr",
                    "dec {turns}",
                    "jnz 2b",
                    turns = inout(reg) turns => _,
                    buffer = in(reg) buffer.0.as_mut_ptr(),
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                    out("r12") _, out("r13") _, out("r14") _, out("r15") _,
                    out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _,
                    out("ymm5") _, out("ymm6") _, out("ymm8") _, out("ymm9") _, out("ymm10") _,
                    out("ymm11") _, out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
                    options(nostack)
                );
            }
        }
    };
}

narrow!(narrow_adds, "vpaddq ymm\\r, ymm0, ymm0");
narrow!(narrow_shuffles, "vpshufb ymm\\r, ymm0, ymm0");
narrow!(narrow_products, "vpclmulqdq xmm\\r, xmm0, xmm0, 0");
narrow!(
    products_among_adds,
    "vpclmulqdq xmm\\r, xmm0, xmm0, 0",
    "vpaddq ymm1, ymm0, ymm0",
    "vpaddq ymm2, ymm0, ymm0",
    "vpaddq ymm3, ymm0, ymm0",
    "vpaddq ymm4, ymm0, ymm0",
    "vpaddq ymm5, ymm0, ymm0",
    "vpaddq ymm6, ymm0, ymm0"
);
narrow!(crcs, "crc32 r\\r, {turns}");
narrow!(narrow_stores, "vmovdqu [{buffer} + 64*(\\r - 8)], ymm0");

impl NarrowLimits {
    /// Measures, in some 10 ms; `None` without AVX2 and PCLMULQDQ.
    pub fn measure() -> Option<NarrowLimits> {
        let has_all = crate::Allowed::here().isa >= crate::Isa::Avx2
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("sse4.2");
        if !has_all {
            return None;
        }
        let clock_ghz = rate(&mut |_| chain(TURNS));
        // SAFETY: the features were found.
        let per_cycle =
            |run: unsafe fn(u64, &mut Buffer)| rate(&mut |b| unsafe { run(TURNS, b) }) / clock_ghz;
        let adds = per_cycle(narrow_adds);
        Some(NarrowLimits {
            clock_ghz,
            adds,
            shuffles: per_cycle(narrow_shuffles),
            products: per_cycle(narrow_products),
            adds_a_product: (adds / per_cycle(products_among_adds) - 6.0).max(0.0),
            crcs: per_cycle(crcs),
            stores: per_cycle(narrow_stores),
        })
    }
}

/// How often a nanosecond what a loop does sixteen times a turn.
fn rate(run: &mut dyn FnMut(&mut Buffer)) -> f64 {
    let mut buffer = Buffer([0; 2048]);
    let mut best = f64::MAX;
    for _ in 0..TRIES {
        let start = Instant::now();
        run(&mut buffer);
        best = best.min(start.elapsed().as_nanos() as f64);
    }
    16.0 * TURNS as f64 / best
}

impl Limits {
    /// Measures, in some 10 ms; `None` without AVX-512.
    pub fn measure() -> Option<Limits> {
        let has_all =
            crate::Allowed::here().isa == crate::Isa::Avx512 && is_x86_feature_detected!("vpclmulqdq");
        if !has_all {
            return None;
        }
        let clock_ghz = rate(&mut |_| chain(TURNS));
        // SAFETY: the features were found.
        let per_cycle =
            |run: unsafe fn(u64, &mut Buffer)| rate(&mut |b| unsafe { run(TURNS, b) }) / clock_ghz;
        Some(Limits {
            clock_ghz,
            adds: per_cycle(adds),
            adds_from_memory: per_cycle(adds_from_memory),
            shuffles: per_cycle(shuffles),
            dot_products: per_cycle(dot_products),
            multiplies: per_cycle(multiplies),
            loads: per_cycle(loads),
            stores: per_cycle(stores),
            // Eight vectors a turn, not sixteen instructions.
            copy_with_adds: [
                copy_with_0,
                copy_with_1,
                copy_with_2,
                copy_with_3,
                copy_with_4,
                copy_with_5,
                copy_with_6,
            ]
            .map(|run| 2.0 / per_cycle(run)),
        })
    }
}
