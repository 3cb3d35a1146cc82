//! From loops over any width of vectors to functions that a machine with its features can call.

use crate::simd::shape::{AFTER, OVERLAP, STREAM, SUM, SWAP, XOR};
use crate::simd::{Acc, Simd};
use crate::{Fused, Passes, Step, Sums};

/// A width whose loops are compiled with its features enabled.
pub(crate) trait Enabled: Simd {
    /// The accumulator of its single passes.
    type Best: Acc<Self>;

    /// # Safety
    /// The machine has the features.
    unsafe fn inet(bytes: &[u8]) -> u16;
    /// # Safety
    /// The machine has the features; see [`crate::simd::map`].
    unsafe fn map<const SWAP: bool>(src: *const u8, dst: *mut u8, len: usize, key: u32);
    /// # Safety
    /// The machine has the features.
    unsafe fn fused<A: Acc<Self>, const SHAPE: u8, const U: usize>(
        src: &[u8],
        dst: &mut [u8],
        key: u32,
    ) -> Sums;
    /// # Safety
    /// The machine has the features.
    unsafe fn striped(src: &[u8], dst: &mut [u8]) -> Sums;
}

/// Implements [`Enabled`].
macro_rules! enable {
    ($feature:literal, $simd:ty, $best:ty, $unroll:literal) => {
        const _: () = {
            use crate::simd::{self, Acc};
            use crate::{Sums, stripe};

            #[target_feature(enable = $feature)]
            unsafe fn inet(bytes: &[u8]) -> u16 {
                // SAFETY: the features are enabled.
                unsafe { simd::inet::<$simd, $best, $unroll>(bytes) }
            }

            #[target_feature(enable = $feature)]
            unsafe fn map<const SWAP: bool>(src: *const u8, dst: *mut u8, len: usize, key: u32) {
                // SAFETY: the features are enabled; the caller answers for the pointers.
                unsafe { simd::map::<$simd, SWAP>(src, dst, len, key) }
            }

            #[target_feature(enable = $feature)]
            unsafe fn fused<A: Acc<$simd>, const SHAPE: u8, const U: usize>(
                src: &[u8],
                dst: &mut [u8],
                key: u32,
            ) -> Sums {
                // SAFETY: the features are enabled.
                unsafe { simd::fused::<$simd, A, SHAPE, U>(src, dst, key) }
            }

            #[target_feature(enable = $feature)]
            unsafe fn striped(src: &[u8], dst: &mut [u8]) -> Sums {
                // SAFETY: the features are enabled.
                unsafe { stripe::fused::<$simd, $best>(src, dst) }
            }

            impl crate::tables::Enabled for $simd {
                type Best = $best;

                #[inline(always)]
                unsafe fn inet(bytes: &[u8]) -> u16 {
                    // SAFETY: the caller's.
                    unsafe { inet(bytes) }
                }

                #[inline(always)]
                unsafe fn map<const SWAP: bool>(src: *const u8, dst: *mut u8, len: usize, key: u32) {
                    // SAFETY: the caller's.
                    unsafe { map::<SWAP>(src, dst, len, key) }
                }

                #[inline(always)]
                unsafe fn fused<A: Acc<$simd>, const SHAPE: u8, const U: usize>(
                    src: &[u8],
                    dst: &mut [u8],
                    key: u32,
                ) -> Sums {
                    // SAFETY: the caller's.
                    unsafe { fused::<A, SHAPE, U>(src, dst, key) }
                }

                #[inline(always)]
                unsafe fn striped(src: &[u8], dst: &mut [u8]) -> Sums {
                    // SAFETY: the caller's.
                    unsafe { striped(src, dst) }
                }
            }
        };
    };
}
pub(crate) use enable;

/// Calls what the table's owner hands out only on machines that have the features.
macro_rules! trusted {
    ($call:expr) => {
        // SAFETY: the features were found; slices are readable or writable for their lengths and do not
        // overlap in part.
        unsafe { $call }
    };
}

/// The single passes of a width.
pub(crate) const fn passes<S: Enabled>() -> Passes {
    Passes {
        inet: |bytes| trusted!(S::inet(bytes)),
        swap32: |src, dst| {
            trusted!(S::map::<true>(src.as_ptr(), dst.as_mut_ptr(), src.len().min(dst.len()), 0))
        },
        swap32_in_place: |dst| trusted!(S::map::<true>(dst.as_ptr(), dst.as_mut_ptr(), dst.len(), 0)),
        xor32: |src, dst, key| {
            trusted!(S::map::<false>(src.as_ptr(), dst.as_mut_ptr(), src.len().min(dst.len()), key))
        },
        xor32_in_place: |dst, key| trusted!(S::map::<false>(dst.as_ptr(), dst.as_mut_ptr(), dst.len(), key)),
        crc32c: crate::libraries::crc32c_more,
        adler32: crate::libraries::adler32_more,
    }
}

/// The shape of a fused loop for these steps, if sum, swap, xor and sum come in this order.
pub(crate) fn shape(steps: &[Step]) -> Option<u8> {
    let order = [(SUM, Step::Inet), (SWAP, Step::Swap32), (XOR, Step::Xor32(0)), (AFTER, Step::Inet)];
    let mut order = order.iter();
    let mut shape = 0;
    for step in steps {
        let same = |a: &Step| matches!((a, step), (Step::Xor32(_), Step::Xor32(_))) || a == step;
        shape |= order.find(|(_, known)| same(known))?.0;
    }
    Some(shape)
}

/// The fused loop of a shape, if it is one of those that are measured.
pub(crate) fn fused<S: Enabled, A: Acc<S>, const U: usize>(shape: u8) -> Option<Fused> {
    macro_rules! choose {
        ($($shape:expr),+) => {
            match shape {
                $(s if s == $shape => Some(|src, dst, key| trusted!(S::fused::<A, { $shape }, U>(src, dst, key))),)+
                _ => None,
            }
        };
    }
    choose!(
        0,
        SUM,
        SUM | SWAP,
        SUM | XOR,
        SWAP | XOR,
        SUM | SWAP | XOR,
        SUM | XOR | AFTER,
        OVERLAP,
        OVERLAP | SUM,
        OVERLAP | SUM | SWAP,
        OVERLAP | SUM | XOR,
        OVERLAP | SWAP | XOR,
        OVERLAP | SUM | SWAP | XOR,
        OVERLAP | SUM | XOR | AFTER,
        STREAM,
        STREAM | SUM,
        STREAM | SUM | SWAP,
        STREAM | SUM | XOR,
        STREAM | SWAP | XOR,
        STREAM | SUM | SWAP | XOR,
        STREAM | SUM | XOR | AFTER
    )
}

/// Sum and stripe.
pub(crate) fn striped<S: Enabled>() -> Fused {
    |src, dst, _| trusted!(S::striped(src, dst))
}
