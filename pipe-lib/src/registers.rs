//! The registers of all stages of an engine, as machine code takes them: one `u64` each, in a row.

use zeroize::Zeroize as _;

/// Registers that need no memory of their own.
pub(crate) const INLINE: usize = 8;

/// Registers of an engine that a short transfer may call directly.
pub(crate) const FEW: usize = 4;

/// Registers of most of them: two stores and two loads fewer count in a transfer of a few nanoseconds.
pub(crate) const PAIR: usize = 2;

/// Registers in memory of their own. They may be keys: nobody is shown them, and they are overwritten when
/// they are given up.
#[derive(Clone, Default)]
pub(crate) struct StoredRegisters(Box<[u64]>);

impl std::fmt::Debug for StoredRegisters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} registers", self.0.len())
    }
}

impl Drop for StoredRegisters {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::ops::Deref for StoredRegisters {
    type Target = [u64];

    #[inline]
    fn deref(&self) -> &[u64] {
        &self.0
    }
}

/// One value for each register. Those of pipelines of ordinary size are held in place, so that a run
/// allocates nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registers {
    inline: [u64; INLINE],
    /// All values, if they are more than [`INLINE`] or some are secret; else nothing.
    many: StoredRegisters,
}

impl Registers {
    /// Those that are `secret`, or with such, are not held in place.
    pub(crate) fn new(values: Vec<u64>, secret: bool) -> Registers {
        match values.len() {
            0..=INLINE if !secret => {
                let mut inline = [0; INLINE];
                inline[..values.len()].copy_from_slice(&values);
                Registers { inline, many: StoredRegisters::default() }
            }
            _ => Registers { inline: [0; INLINE], many: StoredRegisters(values.into()) },
        }
    }

    /// Whether the registers are held in place.
    pub(crate) fn is_inline(&self) -> bool {
        self.many.is_empty()
    }

    /// The first `N` of those that are held in place.
    #[inline(always)]
    pub(crate) fn few<const N: usize>(&self) -> [u64; N] {
        const { assert!(N <= INLINE) };
        std::array::from_fn(|index| self.inline[index])
    }

    /// Those in place, and all if they are too many for that.
    pub(crate) fn into_parts(self) -> ([u64; INLINE], StoredRegisters) {
        (self.inline, self.many)
    }

    /// Where machine code finds them.
    #[inline]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u64 {
        if self.many.is_empty() { self.inline.as_mut_ptr() } else { self.many.0.as_mut_ptr() }
    }
}

impl std::ops::Deref for Registers {
    type Target = [u64];

    #[inline]
    fn deref(&self) -> &[u64] {
        if self.many.is_empty() { &self.inline } else { &self.many }
    }
}

impl std::ops::DerefMut for Registers {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u64] {
        if self.many.is_empty() { &mut self.inline } else { &mut self.many.0 }
    }
}
