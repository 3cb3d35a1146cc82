//! The pipelines that are measured.

use rivals::Step;

/// The key of every `xor32`.
pub const KEY: u32 = 0xdead_beef;

/// A pipeline in the language, and the same as steps for its rivals.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// For people, and to choose it by.
    pub name: &'static str,
    /// In the pipe language. Summing stages are named `s0` and `s1`.
    pub pipeline: &'static str,
    /// The same, for separate passes and loops fused by hand.
    pub steps: &'static [Step],
    /// The exports, in the order of the summing steps.
    pub exports: &'static [&'static str],
}

/// All of them.
pub const CASES: [Case; 8] = [
    Case { name: "checksum", pipeline: "inet_cksum as s0", steps: &[Step::Inet], exports: &["s0.sum"] },
    Case {
        name: "checksum+byteswap",
        pipeline: "inet_cksum as s0 | byteswap32",
        steps: &[Step::Inet, Step::Swap32],
        exports: &["s0.sum"],
    },
    Case {
        name: "checksum+xor",
        pipeline: "inet_cksum as s0 | xor32(key=0xdeadbeef)",
        steps: &[Step::Inet, Step::Xor32(KEY)],
        exports: &["s0.sum"],
    },
    Case {
        name: "checksum+byteswap+xor",
        pipeline: "inet_cksum as s0 | byteswap32 | xor32(key=0xdeadbeef)",
        steps: &[Step::Inet, Step::Swap32, Step::Xor32(KEY)],
        exports: &["s0.sum"],
    },
    Case {
        name: "byteswap+xor",
        pipeline: "byteswap32 | xor32(key=0xdeadbeef)",
        steps: &[Step::Swap32, Step::Xor32(KEY)],
        exports: &[],
    },
    Case {
        name: "checksum+xor+checksum",
        pipeline: "inet_cksum as s0 | xor32(key=0xdeadbeef) | inet_cksum as s1",
        steps: &[Step::Inet, Step::Xor32(KEY), Step::Inet],
        exports: &["s0.sum", "s1.sum"],
    },
    Case {
        name: "checksum+crc32c",
        pipeline: "inet_cksum as s0 | crc32c as s1",
        steps: &[Step::Inet, Step::Crc32c],
        exports: &["s0.sum", "s1.crc"],
    },
    Case {
        name: "checksum+byteswap+crc32c",
        pipeline: "inet_cksum as s0 | byteswap32 | crc32c as s1",
        steps: &[Step::Inet, Step::Swap32, Step::Crc32c],
        exports: &["s0.sum", "s1.crc"],
    },
];

/// Sizes from a small packet to what no cache holds.
pub const SIZES: [usize; 10] =
    [64, 256, 1460, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20, 64 << 20];
