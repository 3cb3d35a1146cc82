//! What composed loops are measured against: the best separate passes, loops fused by hand, and libraries.
//!
//! A comparison is worth what its rivals are worth. Each step here is the fastest known way for the machine
//! it runs on, chosen once; the steps are run one after the other over the whole buffer, over blocks that
//! stay in the first-level cache, or fused by hand into one loop. Where it is not clear which way of writing
//! a loop by hand is the fastest there are several, and the measurement takes the best. A crate of its own,
//! so that what the rivals depend on stays out of everything else.
//!
//! `simd` holds loops over any width of vectors, `avx2` and `avx512` the widths, `tables` compiles the ones
//! for the others; `crc` has the loops with CRC32C, `stripe` those for a device's buffer, `portable` what
//! rustc makes of plain Rust. [`libraries`] wraps crates and ISA-L, [`orc`] GStreamer's Orc, [`sealing`]
//! AES-GCM of others, and [`limits`] measures what the core can do at all.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod crc;
#[cfg(target_arch = "x86_64")]
mod crc_avx2;
pub mod libraries;
#[cfg(target_arch = "x86_64")]
pub mod limits;
pub mod orc;
mod portable;
pub mod sealing;
mod separate;
#[cfg(target_arch = "x86_64")]
mod simd;
mod stripe;
#[cfg(target_arch = "x86_64")]
mod tables;
#[cfg(test)]
mod tests;

pub use separate::Separate;
use std::sync::LazyLock;
pub use stripe::striped_len;

/// A step of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Internet checksum (RFC 1071) of the stream at this point.
    Inet,
    /// CRC32C of the stream at this point.
    Crc32c,
    /// Adler-32 (RFC 1950) of the stream at this point.
    Adler32,
    /// Reverses the bytes of 32-bit words.
    Swap32,
    /// Exclusive or of big-endian 32-bit words with a key.
    Xor32(u32),
    /// Last: stores in the layout of a LANCE's buffer, see [`striped_len`].
    Stripe,
}

impl Step {
    /// Whether the step sums, and leaves the stream as it is.
    pub fn sums(self) -> bool {
        matches!(self, Step::Inet | Step::Crc32c | Step::Adler32)
    }
}

/// What the summing steps came to, in their order: the folded sum, not complemented, the CRC, or Adler-32.
pub type Sums = [u32; MAX_SUMS];

/// Most summing steps in a pipeline.
pub const MAX_SUMS: usize = 3;

/// Most bytes that a loop here takes at once: accumulators of VNNI hold no more.
pub const MAX_LEN: usize = 512 << 20;

/// The instruction set that the rivals use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Whatever rustc makes of portable code for the build's target.
    Portable,
    /// 256-bit vectors.
    Avx2,
    /// 512-bit vectors with byte shuffles, masks and VNNI.
    Avx512,
}

impl Isa {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "AVX2",
            Isa::Avx512 => "AVX-512 + VNNI",
        }
    }
}

/// The instructions that rivals may use: all that the machine has, or fewer, to measure as on a lesser
/// machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The widest vectors.
    pub isa: Isa,
    /// Carry-less multiplication of 128 bits.
    pub clmul: bool,
    /// Carry-less multiplication of every 128-bit lane.
    pub wide_clmul: bool,
    /// Whether the machine has more. Libraries, which ask the processor themselves, would use it.
    pub is_limited: bool,
}

impl Allowed {
    /// All that this machine has.
    pub fn here() -> Allowed {
        static HERE: LazyLock<Allowed> = LazyLock::new(|| {
            let mut here = Allowed { isa: Isa::Portable, clmul: false, wide_clmul: false, is_limited: false };
            #[cfg(target_arch = "x86_64")]
            {
                let has_avx512 = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vnni");
                let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("sse4.2");
                here.isa = match () {
                    () if has_avx512 && has_avx2 => Isa::Avx512,
                    () if has_avx2 => Isa::Avx2,
                    () => Isa::Portable,
                };
                here.clmul = has_avx2 && is_x86_feature_detected!("pclmulqdq");
                here.wide_clmul = here.clmul && is_x86_feature_detected!("vpclmulqdq");
            }
            here
        });
        *HERE
    }

    /// Of what this machine has only what goes by these names: `avx2`, `avx512`, `vnni`, `pclmul` and
    /// `vpclmul`; others name nothing that a rival uses.
    pub fn only<'a>(names: impl IntoIterator<Item = &'a str>) -> Allowed {
        let names: Vec<&str> = names.into_iter().collect();
        let (here, has) = (Allowed::here(), |name| names.contains(&name));
        let isa = match () {
            () if has("avx512") && has("vnni") => Isa::Avx512,
            () if has("avx512") || has("avx2") => Isa::Avx2,
            () => Isa::Portable,
        };
        let isa = isa.min(here.isa);
        let clmul = here.clmul && isa > Isa::Portable && has("pclmul");
        let only = Allowed { isa, clmul, wide_clmul: here.wide_clmul && clmul && has("vpclmul"), ..here };
        Allowed { is_limited: only != here, ..only }
    }
}

/// A loop from source to destination, of the same length unless it stripes, a multiple of 4 and at most
/// [`MAX_LEN`]. Its last argument is the key of the `Xor32` step.
pub type Fused = fn(&[u8], &mut [u8], u32) -> Sums;

/// A way of writing a loop.
#[derive(Clone, Copy, Debug)]
pub struct Variant {
    /// What is particular about it.
    pub name: &'static str,
    /// The loop.
    pub run: Fused,
}

/// The single steps, each as fast as it gets.
#[derive(Clone, Copy, Debug)]
struct Passes {
    /// The folded sum of big-endian 16-bit words.
    inet: fn(&[u8]) -> u16,
    /// `dst` is as long as `src`.
    swap32: fn(&[u8], &mut [u8]),
    swap32_in_place: fn(&mut [u8]),
    xor32: fn(&[u8], &mut [u8], u32),
    xor32_in_place: fn(&mut [u8], u32),
    /// The register of CRC32C after more bytes.
    crc32c: fn(u32, &[u8]) -> u32,
    /// Adler-32 after more bytes.
    adler32: fn(u32, &[u8]) -> u32,
}

impl Passes {
    /// With the best instructions that are allowed.
    fn best(allowed: Allowed) -> Passes {
        let mut passes = match allowed.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => const { tables::passes::<avx512::Avx512>() },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => const { tables::passes::<avx2::Avx2>() },
            _ => portable::PASSES,
        };
        // A library would use what is not allowed.
        if allowed.is_limited {
            (passes.crc32c, passes.adler32) = (portable::crc32c, portable::adler32);
            #[cfg(target_arch = "x86_64")]
            if allowed.isa > Isa::Portable {
                (passes.crc32c, passes.adler32) = (crc_avx2::crc_pass(allowed), crc_avx2::adler_pass());
            }
        }
        passes
    }
}

/// The loops fused by hand for these steps with these instructions, the usual best first; empty where there
/// is none for the steps or the machine.
#[cfg(target_arch = "x86_64")]
pub fn by_hand(steps: &[Step], isa: Isa, allowed: Allowed) -> Vec<Variant> {
    if isa > allowed.isa {
        return Vec::new();
    }
    let striped = steps == [Step::Inet, Step::Stripe];
    let shape = tables::shape(steps);
    match isa {
        Isa::Portable => Vec::new(),
        Isa::Avx2 if striped => vec![Variant { name: "", run: tables::striped::<avx2::Avx2>() }],
        Isa::Avx512 if striped => vec![Variant { name: "", run: tables::striped::<avx512::Avx512>() }],
        Isa::Avx2 => shape.map_or_else(|| crc_avx2::loops(steps, allowed), avx2::fused),
        Isa::Avx512 => shape.map_or_else(|| crc::avx512(steps, allowed), avx512::fused),
    }
}

/// No loops by hand for other processors.
#[cfg(not(target_arch = "x86_64"))]
pub fn by_hand(_: &[Step], _: Isa, _: Allowed) -> Vec<Variant> {
    Vec::new()
}

/// The AVX-512 loop by hand whose stores go past the caches, for transfers that no cache holds. Only
/// destinations aligned to 64 bytes get such stores.
#[cfg(target_arch = "x86_64")]
pub fn streaming(steps: &[Step], allowed: Allowed) -> Option<Fused> {
    use avx512::{Avx512, Vnni};
    let shape = tables::shape(steps).filter(|_| allowed.isa == Isa::Avx512)?;
    tables::fused::<Avx512, Vnni, 4>(shape | simd::shape::STREAM)
}

/// No loops by hand for other processors.
#[cfg(not(target_arch = "x86_64"))]
pub fn streaming(_: &[Step], _: Allowed) -> Option<Fused> {
    None
}

/// The fused loop in plain Rust, as rustc vectorises it when these instructions are enabled.
pub fn by_rustc(steps: &[Step], isa: Isa, allowed: Allowed) -> Option<Fused> {
    portable::fused(tables::shape(steps)?, isa.min(allowed.isa)).filter(|_| isa <= allowed.isa)
}

/// Folds a plain sum of 16-bit words with end-around carry.
#[inline(always)]
fn fold(sum: u64) -> u16 {
    // Each step leaves at most: 33 bits, 18 bits, 17 bits of which the upper is 1 only with small lower ones.
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}
