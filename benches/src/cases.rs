//! The pipelines that are measured.

use rivals::Step;
use rivals::Step::{Adler32, Crc32c, Inet, Stripe, Swap32};

/// The key of every `xor32`.
pub const KEY: u32 = 0xdead_beef;
const XOR: Step = Step::Xor32(KEY);

/// A pipeline in the language, and the same as steps for its rivals.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// For people, and to choose it by.
    pub name: &'static str,
    /// In the pipe language. Summing stages are named `s0`, `s1` and `s2`.
    pub pipeline: &'static str,
    /// The same, for separate passes and loops fused by hand.
    pub steps: &'static [Step],
    /// The exports, in the order of the summing steps.
    pub exports: &'static [&'static str],
}

impl Case {
    /// Bytes written for `len` bytes read.
    pub fn written_len(&self, len: usize) -> usize {
        if self.steps.last() == Some(&Stripe) { rivals::striped_len(len) } else { len }
    }

    /// The case of this name.
    pub fn named(name: &str) -> Option<&'static Case> {
        CASES.iter().find(|case| case.name == name)
    }
}

/// All of them.
pub const CASES: [Case; 10] = [
    Case { name: "checksum", pipeline: "inet_cksum as s0", steps: &[Inet], exports: &["s0.sum"] },
    Case {
        name: "checksum+byteswap",
        pipeline: "inet_cksum as s0 | byteswap32",
        steps: &[Inet, Swap32],
        exports: &["s0.sum"],
    },
    Case {
        name: "checksum+xor",
        pipeline: "inet_cksum as s0 | xor32(key=0xdeadbeef)",
        steps: &[Inet, XOR],
        exports: &["s0.sum"],
    },
    Case {
        name: "byteswap+xor",
        pipeline: "byteswap32 | xor32(key=0xdeadbeef)",
        steps: &[Swap32, XOR],
        exports: &[],
    },
    Case {
        name: "checksum+byteswap+xor",
        pipeline: "inet_cksum as s0 | byteswap32 | xor32(key=0xdeadbeef)",
        steps: &[Inet, Swap32, XOR],
        exports: &["s0.sum"],
    },
    Case {
        name: "checksum+xor+checksum",
        pipeline: "inet_cksum as s0 | xor32(key=0xdeadbeef) | inet_cksum as s1",
        steps: &[Inet, XOR, Inet],
        exports: &["s0.sum", "s1.sum"],
    },
    Case { name: "crc32c", pipeline: "crc32c as s0", steps: &[Crc32c], exports: &["s0.crc"] },
    Case {
        name: "checksum+byteswap+crc32c",
        pipeline: "inet_cksum as s0 | byteswap32 | crc32c as s1",
        steps: &[Inet, Swap32, Crc32c],
        exports: &["s0.sum", "s1.crc"],
    },
    Case {
        name: "five pipes",
        pipeline: "inet_cksum as s0 | xor32(key=0xdeadbeef) | byteswap32 | crc32c as s1 | adler32 as s2",
        steps: &[Inet, XOR, Swap32, Crc32c, Adler32],
        exports: &["s0.sum", "s1.crc", "s2.adler"],
    },
    Case {
        name: "checksum to lance",
        pipeline: "inet_cksum as s0 -> lance",
        steps: &[Inet, Stripe],
        exports: &["s0.sum"],
    },
];

/// The combinations for which there are loops by hand and a promise about them.
pub const SIX: [&str; 6] = [
    "checksum",
    "checksum+byteswap",
    "checksum+xor",
    "byteswap+xor",
    "checksum+byteswap+xor",
    "checksum+xor+checksum",
];

/// Sizes from a small packet to what no cache holds.
pub const SIZES: [usize; 11] =
    [64, 256, 1460, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20, 64 << 20, 256 << 20];

/// Sizes of headers and small packets, where the cost of a call shows.
pub const SHORT: [usize; 10] = [0, 4, 16, 40, 64, 100, 128, 192, 252, 256];
