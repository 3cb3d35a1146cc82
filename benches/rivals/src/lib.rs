//! What composed loops are measured against: the best separate passes, and loops fused by hand.
//!
//! A comparison is worth what its rivals are worth. Each step here is the fastest known way for the machine
//! it runs on (AVX-512 with VNNI, AVX2, or what rustc makes of portable code), chosen once; the steps are run
//! one after the other over the whole buffer, over blocks that stay in the first-level cache, or fused by
//! hand into one loop. A crate of its own, so that what the rivals depend on stays out of everything else.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::sync::LazyLock;

/// A step of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Internet checksum (RFC 1071) of the stream at this point.
    Inet,
    /// CRC32C of the stream at this point.
    Crc32c,
    /// Reverses the bytes of 32-bit words.
    Swap32,
    /// Exclusive or of big-endian 32-bit words with a key.
    Xor32(u32),
}

impl Step {
    /// Whether the step changes the stream.
    pub fn modifies(self) -> bool {
        matches!(self, Step::Swap32 | Step::Xor32(_))
    }
}

/// What the summing steps came to, in their order: the folded sum, not complemented, or the CRC.
pub type Sums = [u32; MAX_SUMS];

/// Most summing steps in a pipeline.
pub const MAX_SUMS: usize = 2;

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
    /// The best that this machine has.
    pub fn best() -> Isa {
        static BEST: LazyLock<Isa> = LazyLock::new(|| {
            #[cfg(target_arch = "x86_64")]
            {
                let has_avx512 = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vnni");
                if has_avx512 {
                    return Isa::Avx512;
                }
                if is_x86_feature_detected!("avx2") {
                    return Isa::Avx2;
                }
            }
            Isa::Portable
        });
        *BEST
    }

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "AVX2",
            Isa::Avx512 => "AVX-512 + VNNI",
        }
    }
}

/// The single steps, each as fast as it gets.
#[derive(Clone, Copy, Debug)]
struct Passes {
    /// Plain sum of big-endian 16-bit words, at most 1 GiB at once.
    inet: fn(&[u8]) -> u64,
    /// `dst` is as long as `src`.
    swap32: fn(&[u8], &mut [u8]),
    swap32_in_place: fn(&mut [u8]),
    xor32: fn(&[u8], &mut [u8], u32),
    xor32_in_place: fn(&mut [u8], u32),
}

/// Steps run one after the other.
#[derive(Clone, Debug)]
pub struct Separate {
    steps: Vec<Step>,
    passes: Passes,
}

impl Separate {
    /// These steps, with the best instructions this machine has.
    ///
    /// # Panics
    /// If there are more than [`MAX_SUMS`] summing steps.
    pub fn new(steps: &[Step]) -> Separate {
        let sums = steps.iter().filter(|step| !step.modifies()).count();
        assert!(sums <= MAX_SUMS, "at most {MAX_SUMS} sums");
        let passes = match Isa::best() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::PASSES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::PASSES,
            _ => portable::PASSES,
        };
        Separate { steps: steps.to_vec(), passes }
    }

    /// A pass over the whole buffer for each step. The first step that changes the stream does the copy; sums
    /// before it read the source. Both are of the same length, a multiple of 4.
    pub fn whole(&self, src: &[u8], dst: &mut [u8]) -> Sums {
        self.blocked(src, dst, usize::MAX)
    }

    /// The same over blocks of `block` bytes, a multiple of 4: all steps for one block before the next.
    pub fn blocked(&self, src: &[u8], dst: &mut [u8], block: usize) -> Sums {
        let mut state = State::default();
        for (src, dst) in src.chunks(block.min(1 << 30)).zip(dst.chunks_mut(block.min(1 << 30))) {
            self.block(src, dst, &mut state);
        }
        state.sums()
    }

    fn block(&self, src: &[u8], dst: &mut [u8], state: &mut State) {
        let (mut copied, mut sum) = (false, 0);
        for &step in &self.steps {
            match step {
                Step::Inet => {
                    let bytes: &[u8] = if copied { dst } else { src };
                    state.inet[sum] += (self.passes.inet)(bytes);
                    state.kind[sum] = Some(Step::Inet);
                    sum += 1;
                }
                Step::Crc32c => {
                    let bytes: &[u8] = if copied { dst } else { src };
                    state.crc[sum] = Some(crc32c_more(state.crc[sum], bytes));
                    state.kind[sum] = Some(Step::Crc32c);
                    sum += 1;
                }
                Step::Swap32 if copied => (self.passes.swap32_in_place)(dst),
                Step::Swap32 => (self.passes.swap32)(src, dst),
                Step::Xor32(key) if copied => (self.passes.xor32_in_place)(dst, key),
                Step::Xor32(key) => (self.passes.xor32)(src, dst, key),
            }
            copied |= step.modifies();
        }
        if !copied {
            dst.copy_from_slice(src);
        }
    }
}

/// Sums between blocks.
#[derive(Default)]
struct State {
    kind: [Option<Step>; MAX_SUMS],
    inet: [u64; MAX_SUMS],
    /// The register of the CRC between blocks, before the final complement.
    crc: [Option<u64>; MAX_SUMS],
}

impl State {
    fn sums(&self) -> Sums {
        std::array::from_fn(|i| match self.kind[i] {
            Some(Step::Inet) => u32::from(fold(self.inet[i])),
            Some(Step::Crc32c) => self.crc[i].map_or(0, |state| !(state as u32)),
            _ => 0,
        })
    }
}

/// The CRC register after more bytes, by the `crc-fast` crate.
fn crc32c_more(state: Option<u64>, bytes: &[u8]) -> u64 {
    use crc_fast::{CrcAlgorithm::Crc32Iscsi, Digest};
    let mut digest = match state {
        None => Digest::new(Crc32Iscsi),
        Some(state) => Digest::new_with_init_state(Crc32Iscsi, state),
    };
    digest.update(bytes);
    digest.get_state()
}

/// CRC32C by the `crc-fast` crate alone: what a loop with a CRC can at best reach.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The Internet checksum by the `internet-checksum` crate, not complemented.
pub fn internet_checksum_crate(bytes: &[u8]) -> u16 {
    !u16::from_be_bytes(internet_checksum::checksum(bytes))
}

/// The best separate pass for the Internet checksum, not complemented.
pub fn inet_sum(bytes: &[u8]) -> u16 {
    let passes = Separate::new(&[]).passes;
    fold(bytes.chunks(1 << 30).map(passes.inet).sum())
}

/// A loop fused by hand, from source to destination of the same length; `None` where there is none for the
/// steps or the machine.
pub type Fused = fn(&[u8], &mut [u8], u32) -> Sums;

/// The loop fused by hand for these steps with these instructions. Its last argument is the key of the
/// `Xor32` step.
pub fn fused(steps: &[Step], isa: Isa) -> Option<Fused> {
    if isa > Isa::best() {
        return None;
    }
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => avx512::fused(steps),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::fused(steps),
        _ => portable::fused(steps),
    }
}

/// The steps for which there are loops fused by hand, with a name.
pub const HAND_FUSED: [(&str, &[Step]); 6] = [
    ("copy + checksum", &[Step::Inet]),
    ("checksum + byteswap", &[Step::Inet, Step::Swap32]),
    ("checksum + xor", &[Step::Inet, Step::Xor32(0)]),
    ("checksum + byteswap + xor", &[Step::Inet, Step::Swap32, Step::Xor32(0)]),
    ("byteswap + xor", &[Step::Swap32, Step::Xor32(0)]),
    ("checksum of both sides of xor", &[Step::Inet, Step::Xor32(0), Step::Inet]),
];

/// Which of [`HAND_FUSED`] these steps are; the key of an xor does not matter.
fn hand_fused_index(steps: &[Step]) -> Option<usize> {
    let same = |a: &Step, b: &Step| matches!((a, b), (Step::Xor32(_), Step::Xor32(_))) || a == b;
    HAND_FUSED
        .iter()
        .position(|(_, known)| known.len() == steps.len() && known.iter().zip(steps).all(|(a, b)| same(a, b)))
}

/// Folds a plain sum of 16-bit words with end-around carry.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word by word.
    fn reference(steps: &[Step], src: &[u8]) -> (Vec<u8>, Sums) {
        let (mut bytes, mut sums, mut n) = (src.to_vec(), [0; MAX_SUMS], 0);
        for &step in steps {
            match step {
                Step::Inet => {
                    let words =
                        bytes.chunks(2).map(|w| u64::from(w[0]) << 8 | w.get(1).map_or(0, |&b| u64::from(b)));
                    sums[n] = u32::from(fold(words.sum()));
                    n += 1;
                }
                Step::Crc32c => {
                    let mut crc = u32::MAX;
                    for &byte in &bytes {
                        crc ^= u32::from(byte);
                        for _ in 0..8 {
                            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
                        }
                    }
                    sums[n] = !crc;
                    n += 1;
                }
                Step::Swap32 => bytes.chunks_mut(4).for_each(<[u8]>::reverse),
                Step::Xor32(key) => {
                    let key = key.to_be_bytes();
                    bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= key[i % 4]);
                }
            }
        }
        (bytes, sums)
    }

    fn source(len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as u8).collect()
    }

    const KEY: u32 = 0xdead_beef;

    #[test]
    fn separate_and_blocked_passes_do_what_they_are_measured_for() {
        let combinations: [&[Step]; 6] = [
            &[],
            &[Step::Inet],
            &[Step::Inet, Step::Swap32, Step::Crc32c],
            &[Step::Inet, Step::Swap32, Step::Xor32(KEY)],
            &[Step::Xor32(KEY), Step::Swap32, Step::Inet],
            &[Step::Crc32c, Step::Xor32(KEY), Step::Crc32c],
        ];
        for steps in combinations {
            let separate = Separate::new(steps);
            for len in (0..600).step_by(4).chain([1460, 4096, 40_000, 100_004]) {
                let src = source(len);
                let (bytes, sums) = reference(steps, &src);
                for block in [usize::MAX, 4096, 64] {
                    let mut dst = vec![0; len];
                    // Sums of nothing are not reported.
                    let found = separate.blocked(&src, &mut dst, block);
                    assert_eq!(dst, bytes, "{steps:?} of {len} bytes");
                    assert!(len == 0 || found == sums, "{steps:?} of {len} bytes: {found:x?}, not {sums:x?}");
                }
            }
        }
    }

    #[test]
    fn loops_fused_by_hand_do_what_they_are_measured_for() {
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            for (name, steps) in HAND_FUSED {
                let steps: Vec<Step> = steps
                    .iter()
                    .map(|&s| if let Step::Xor32(_) = s { Step::Xor32(KEY) } else { s })
                    .collect();
                let Some(fused) = fused(&steps, isa) else {
                    assert!(isa > Isa::best(), "{name} has no {} loop", isa.name());
                    continue;
                };
                for len in (0..1200).step_by(4).chain([1460, 4096, 100_004]) {
                    let src = source(len);
                    let mut dst = vec![0; len];
                    let sums = fused(&src, &mut dst, KEY);
                    assert_eq!((dst, sums), reference(&steps, &src), "{name}, {}, {len} bytes", isa.name());
                }
            }
        }
    }

    #[test]
    fn sums_of_all_ones_do_not_overflow() {
        let ones = vec![0xff; 1 << 22];
        assert_eq!(inet_sum(&ones), 0xffff);
        assert_eq!(internet_checksum_crate(&ones), 0xffff);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
