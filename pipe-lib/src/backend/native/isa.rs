//! The width of the vectors.

pub(crate) use crate::features::Features;

impl Features {
    /// The vector width that these features give; `None` if the backend cannot run at all.
    pub(crate) fn isa(self) -> Option<Isa> {
        if self.has(Features::AVX512) {
            Some(Isa::Avx512)
        } else if self.has(Features::AVX2) {
            Some(Isa::Avx2)
        } else {
            None
        }
    }
}

/// The width of the vectors, and with it the form of masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Isa {
    /// 32 registers of 64 bytes; conditions are mask registers.
    Avx512,
    /// 16 registers of 32 bytes; conditions are vectors of all ones and zeros.
    Avx2,
}

impl Isa {
    /// Bytes of a vector.
    pub(crate) const fn vector_bytes(self) -> usize {
        match self {
            Isa::Avx512 => 64,
            Isa::Avx2 => 32,
        }
    }

    /// Vector registers.
    pub(crate) const fn registers(self) -> usize {
        match self {
            Isa::Avx512 => 32,
            Isa::Avx2 => 16,
        }
    }
}
