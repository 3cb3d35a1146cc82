//! CRC-32 and CRC-32C of whole blocks by carry-less multiplication, for passes that consist of one CRC stage
//! and have no native code; wider registers than those of 128 bits are for native code alone.
//!
//! Not generated code: Cranelift has no carry-less product, and the tables that it can use are twenty times
//! slower. The method is Gopal et al., *Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
//! Instruction* (Intel, 2009). In pseudo-code, with `D` the distance in bits between registers that meet:
//!
//! ```text
//!     acc[0..n] = the first n registers of the stream, the state added to the first bytes
//!     while n more registers are there:
//!         acc[i] = (low(acc[i]) * (x^(D+32) mod P)  +  high(acc[i]) * (x^(D-32) mod P))  +  next register
//!     acc = sum over i of acc[i] times the power of x for the registers behind it      128 bits
//!     state = the remainder of acc, by tables
//! ```
//!
//! The constants are computed from the polynomial, so both CRCs share everything.
//!
//! The stage's copy happens in the same loop. This is one of the modules with `unsafe`: vector instructions
//! whose presence was checked, and raw pointers under the contract of [`PassCode`].

use super::PassCode;
use crate::analyse::Analysed;
use crate::features::Features;
use crate::ir::{CrcOp, Tail, Ty, eval};
use crate::outline::heading;
use crate::plan::schedule::plain_crc;
use std::sync::OnceLock;

/// `tables[k][byte]` is the remainder of `byte` followed by `k` zero bytes.
pub(crate) type Tables = [[u32; 256]; 8];

/// The slicing tables of a CRC, computed once in a process.
pub(crate) fn tables(op: CrcOp) -> &'static Tables {
    static TABLES: [OnceLock<Box<Tables>>; 2] = [OnceLock::new(), OnceLock::new()];
    let slot = match op {
        CrcOp::Crc32 => &TABLES[0],
        CrcOp::Crc32c => &TABLES[1],
    };
    slot.get_or_init(|| {
        let mut tables = Box::new([[0; 256]; 8]);
        for byte in 0..256u64 {
            tables[0][byte as usize] = eval::crc(op, Ty::U8, byte, 0) as u32;
        }
        for k in 1..8 {
            for byte in 0..256 {
                let before: u32 = tables[k - 1][byte];
                tables[k][byte] = (before >> 8) ^ tables[0][before as usize & 255];
            }
        }
        tables
    })
}

/// The register after `data`, by tables.
fn by_tables(op: CrcOp, crc: u32, data: &[u8]) -> u32 {
    let tables = tables(op);
    let (words, rest) = data.as_chunks::<8>();
    let crc = words.iter().fold(crc, |crc, word| {
        let mixed = u64::from_le_bytes(*word) ^ u64::from(crc);
        mixed
            .to_le_bytes()
            .iter()
            .enumerate()
            .fold(0, |sum, (i, byte)| sum ^ tables[7 - i][usize::from(*byte)])
    });
    rest.iter().fold(crc, |crc, byte| (crc >> 8) ^ tables[0][((crc ^ u32::from(*byte)) & 255) as usize])
}

/// A pass of one CRC stage.
#[derive(Clone, Copy)]
pub(crate) struct CrcCode {
    op: CrcOp,
    gauge: usize,
    tail: Tail,
    level: Level,
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "for carry-less products, which x86-64 alone uses")
    )]
    folds: &'static Folds,
}

/// Which instructions the block loop uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Tables only.
    Tables,
    /// 128-bit carry-less products.
    #[cfg(target_arch = "x86_64")]
    Clmul128,
}

impl Level {
    /// All levels that these features give, best last.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "tables serve everywhere else")
    )]
    fn among(features: Features) -> Vec<Level> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut levels = vec![Level::Tables];
        #[cfg(target_arch = "x86_64")]
        {
            if features.has(Features::PCLMUL) {
                levels.push(Level::Clmul128);
            }
        }
        levels
    }
}

#[cfg(target_arch = "x86_64")]
const FOLDED_128: &str =
    "four registers of 128 bits, multiplied without carry by x^512 mod P and added to the next 64 bytes";
#[cfg(target_arch = "x86_64")]
const FOLDED: &str = "registers folded into one of 128 bits, whose remainder comes from tables";

impl CrcCode {
    /// Code for the pass, if it is one plain CRC, with no other carry-less products than `features` has.
    pub(crate) fn new(stages: &[Analysed], features: Features) -> Option<CrcCode> {
        let level = *Level::among(features).last()?;
        CrcCode::at_level(stages, level)
    }

    pub(crate) fn at_level(stages: &[Analysed], level: Level) -> Option<CrcCode> {
        let [pipe] = stages else { return None };
        let op = plain_crc(pipe)?;
        // A run allocates nothing: what is computed once is computed here.
        tables(op);
        Some(CrcCode { op, gauge: pipe.word_bytes(), tail: pipe.tail, level, folds: folds(op) })
    }
}

impl CrcCode {
    /// What the loop does, for people to read.
    pub(crate) fn outline(&self, names: &[String]) -> String {
        let name = names.first().map_or("the state", String::as_str);
        let (body, epilogue) = match self.level {
            Level::Tables => ("eight bytes at a time by eight tables", "the remainder as it is"),
            #[cfg(target_arch = "x86_64")]
            Level::Clmul128 => (FOLDED_128, FOLDED),
        };
        let lines = [
            ("head", format!("{name} is added to the first bytes")),
            ("body", body.to_owned()),
            ("", "stored as read (nothing, when reading only)".to_owned()),
            ("epilogue", epilogue.to_owned()),
            ("tail", "by table".to_owned()),
        ];
        let mut text = String::new();
        for (part, line) in lines {
            // Writing to a string does not fail.
            let _ = heading(&mut text, part, line);
        }
        text
    }
}

impl PassCode for CrcCode {
    unsafe fn run(&self, states: *mut u64, _pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        // The loop word is that of the one stage, so leftover bytes are its tail.
        let rest = len % self.gauge;
        let whole = len - rest;
        // SAFETY: the caller's contract, for both parts of the stretch; a null `dst` stays null.
        unsafe {
            if whole != 0 {
                self.words(states, src, dst, whole);
            }
            if rest != 0 {
                let to = if dst.is_null() { dst } else { dst.add(whole) };
                self.tail(states, src.add(whole), to, rest);
            }
        }
    }
}

impl CrcCode {
    /// Runs over whole words.
    ///
    /// # Safety
    /// The contract of [`PassCode::run`]; `len` is a multiple of the gauge.
    unsafe fn words(&self, states: *mut u64, src: *const u8, dst: *mut u8, len: usize) {
        let copy = !dst.is_null() && dst.cast_const() != src;
        // SAFETY: the trait's contract: one state; `len` bytes to read and, if `dst` is not null, to write,
        // that do not overlap in part. The level was found on this processor.
        unsafe {
            let state = &mut *states;
            let crc = *state as u32;
            let done = match self.level {
                Level::Tables => Done { crc, bytes: 0 },
                #[cfg(target_arch = "x86_64")]
                Level::Clmul128 if copy => x86::fold_128::<true>(self.op, self.folds, crc, src, dst, len),
                #[cfg(target_arch = "x86_64")]
                Level::Clmul128 => x86::fold_128::<false>(self.op, self.folds, crc, src, dst, len),
            };
            let rest = std::slice::from_raw_parts(src.add(done.bytes), len - done.bytes);
            *state = u64::from(by_tables(self.op, done.crc, rest));
            if copy {
                std::ptr::copy_nonoverlapping(rest.as_ptr(), dst.add(done.bytes), rest.len());
            }
        }
    }

    /// Takes the last bytes, less than a word, by the tail rule.
    ///
    /// # Safety
    /// The contract of [`PassCode::run`]; `len < gauge`.
    unsafe fn tail(&self, states: *mut u64, src: *const u8, dst: *mut u8, len: usize) {
        debug_assert!(len < self.gauge && self.gauge <= 8);
        let mut word = [0; 8];
        // SAFETY: the trait's contract: one state, `len < 8` bytes to read and, if `dst` is not null, to
        // write.
        unsafe {
            std::ptr::copy_nonoverlapping(src, word.as_mut_ptr(), len);
            if !dst.is_null() {
                std::ptr::copy_nonoverlapping(word.as_ptr(), dst, len);
            }
            if matches!(self.tail, Tail::Zero | Tail::Partial) {
                *states = u64::from(by_tables(self.op, *states as u32, &word[..self.gauge]));
            }
        }
    }
}

/// How far a block loop got.
struct Done {
    crc: u32,
    bytes: usize,
}

/// Multipliers that move 128 bits by a distance: `[x^(D+32), x^(D-32)] mod P`, reflected and shifted by one,
/// for distances `D` of 1 to 4 times 128 bits.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "for carry-less products, which x86-64 alone uses")
)]
struct Folds([[u64; 2]; 5]);

fn folds(op: CrcOp) -> &'static Folds {
    static FOLDS: [OnceLock<Folds>; 2] = [OnceLock::new(), OnceLock::new()];
    let slot = match op {
        CrcOp::Crc32 => &FOLDS[0],
        CrcOp::Crc32c => &FOLDS[1],
    };
    slot.get_or_init(|| {
        let poly = op.reflected_poly();
        // Reflected: bit 31 is x^0, and multiplying by x shifts right.
        let times_x = |value: u32| (value >> 1) ^ if value & 1 == 1 { poly } else { 0 };
        let mut powers = vec![0x8000_0000u32];
        for n in 1..=4 * 128 + 32 {
            powers.push(times_x(powers[n - 1]));
        }
        let mut folds = [[0; 2]; 5];
        for (k, fold) in folds.iter_mut().enumerate().skip(1) {
            *fold = [u64::from(powers[k * 128 + 32]) << 1, u64::from(powers[k * 128 - 32]) << 1];
        }
        Folds(folds)
    })
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CrcOp, Done, Folds, by_tables};
    use std::arch::x86_64::*;

    /// The register that 128 bits of folded stream stand for.
    fn reduced(op: CrcOp, bits: [u8; 16]) -> u32 {
        by_tables(op, 0, &bits)
    }

    #[target_feature(enable = "pclmulqdq,sse2")]
    fn step_128(x: __m128i, k: __m128i, y: __m128i) -> __m128i {
        let low = _mm_clmulepi64_si128::<0x00>(x, k);
        let high = _mm_clmulepi64_si128::<0x11>(x, k);
        _mm_xor_si128(_mm_xor_si128(low, high), y)
    }

    #[target_feature(enable = "sse2")]
    fn multipliers(folds: &Folds, distance: usize) -> __m128i {
        let [low, high] = folds.0[distance];
        _mm_set_epi64x(high as i64, low as i64)
    }

    /// Four accumulators of 128 bits.
    ///
    /// # Safety
    /// `len` bytes are readable at `src` and, with `COPY`, writable at `dst`.
    #[target_feature(enable = "pclmulqdq,sse2")]
    pub(super) unsafe fn fold_128<const COPY: bool>(
        op: CrcOp,
        folds: &Folds,
        crc: u32,
        src: *const u8,
        dst: *mut u8,
        len: usize,
    ) -> Done {
        if len < 64 {
            return Done { crc, bytes: 0 };
        }
        // SAFETY: every access is at an offset below `len / 64 * 64`.
        unsafe {
            let take = |at: usize| {
                let value = _mm_loadu_si128(src.add(at).cast());
                if COPY {
                    _mm_storeu_si128(dst.add(at).cast(), value);
                }
                value
            };
            let mut acc = [take(0), take(16), take(32), take(48)];
            acc[0] = _mm_xor_si128(acc[0], _mm_cvtsi32_si128(crc as i32));
            let k = multipliers(folds, 4);
            let mut at = 64;
            while at + 64 <= len {
                for (i, acc) in acc.iter_mut().enumerate() {
                    *acc = step_128(*acc, k, take(at + 16 * i));
                }
                at += 64;
            }
            let k = multipliers(folds, 1);
            let one = step_128(step_128(step_128(acc[0], k, acc[1]), k, acc[2]), k, acc[3]);
            let mut bits = [0; 16];
            _mm_storeu_si128(bits.as_mut_ptr().cast(), one);
            Done { crc: reduced(op, bits), bytes: at }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CrcCode, Features, Level};
    use crate::analyse::Analysed;
    use crate::backend::testing::{Use, Xorshift, compare, compare_many, initial, listing};
    use crate::ir::builder::PipeBuilder;
    use crate::ir::{CrcOp, Endian, Gauge, Pipe, Tail, Ty};

    fn crc(op: CrcOp, gauge: Gauge, tail: Tail) -> Pipe {
        let mut b = PipeBuilder::new("crc", gauge);
        b.tail(tail);
        let acc = b.state("crc", Ty::U32, 0xffff_ffff);
        let (x, old) = (b.input(), b.read(acc));
        let new = b.crc(op, old, x);
        b.set(acc, new);
        b.finish().unwrap()
    }

    #[test]
    fn every_level_agrees_with_the_oracle() {
        let mut rng = Xorshift::new(1);
        for op in [CrcOp::Crc32, CrcOp::Crc32c] {
            for ty in Ty::INTEGERS {
                for tail in [Tail::Reject, Tail::Zero, Tail::Partial, Tail::Pass] {
                    let pipe = crc(op, Gauge::new(ty, Endian::Little), tail);
                    for level in Level::among(Features::detected()) {
                        let code = CrcCode::at_level(&[Analysed::new(pipe.clone().into())], level).unwrap();
                        compare_many(&code, &[&pipe], &mut rng, 40);
                        for len in [512, 1456, 4096, 5000, 10_008] {
                            let data = rng.bytes(len);
                            let start = initial(&[&pipe]);
                            let how = rng.pick(&[Use::Copy, Use::InPlace, Use::ReadOnly]);
                            compare(&code, &[&pipe], &start, 0, &data, [3, 9], how, &|| listing(&[&pipe]));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_in_network_order_are_another_remainder() {
        let pipe = crc(CrcOp::Crc32c, Gauge::new(Ty::U32, Endian::Big), Tail::Zero);
        assert!(CrcCode::new(&[Analysed::new(pipe.into())], Features::detected()).is_none());
    }
}
