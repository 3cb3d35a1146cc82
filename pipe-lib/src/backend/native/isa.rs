//! Which instructions there are: asked of the processor once, at run time, and overridable for tests and reports.
//!
//! A name alone ("AVX-512") says too little: each group of instructions that the code generator can do without is a
//! flag of its own, so that a machine with part of them still gets code, and a test can take one away.

use std::fmt;
use std::sync::OnceLock;

/// Groups of instructions, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Features(u32);

macro_rules! features {
    ($($(#[$meta:meta])* $name:ident = $bit:literal, $text:literal, $detected:expr;)+) => {
        impl Features {
            $($(#[$meta])* pub(crate) const $name: Features = Features(1 << $bit);)+

            /// Every flag with its name.
            const NAMES: &[(Features, &str)] = &[$((Features::$name, $text),)+];

            fn ask() -> Features {
                let mut found = Features(0);
                $(if $detected { found.0 |= Features::$name.0; })+
                found
            }
        }
    };
}

features! {
    /// 256-bit integer vectors, and BMI2 for masks: the least the backend runs on.
    AVX2 = 0, "avx2", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2");
    /// 512-bit vectors with masks (F, BW, DQ, VL, CD).
    AVX512 = 1, "avx512", is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512cd");
    /// Byte permutations across the register.
    VBMI = 2, "vbmi", is_x86_feature_detected!("avx512vbmi");
    /// Population counts of bytes and 16-bit words.
    BITALG = 3, "bitalg", is_x86_feature_detected!("avx512bitalg");
    /// Population counts of 32-bit and 64-bit words.
    VPOPCNTDQ = 4, "vpopcntdq", is_x86_feature_detected!("avx512vpopcntdq");
    /// Affine maps of bytes over GF(2).
    GFNI = 5, "gfni", is_x86_feature_detected!("gfni");
    /// Dot products of bytes, at either width.
    VNNI = 8, "vnni", if is_x86_feature_detected!("avx512f") {
        is_x86_feature_detected!("avx512vnni")
    } else {
        is_x86_feature_detected!("avxvnni")
    };
    /// Carry-less multiplication of 128-bit registers.
    PCLMUL = 6, "pclmul", is_x86_feature_detected!("pclmulqdq");
    /// Carry-less multiplication of every 128-bit lane.
    VPCLMUL = 7, "vpclmul", is_x86_feature_detected!("vpclmulqdq");
}

impl Features {
    /// What this processor (and its operating system) has.
    pub(crate) fn detected() -> Features {
        static FOUND: OnceLock<Features> = OnceLock::new();
        *FOUND.get_or_init(Features::ask)
    }

    /// The detected features as far as `names` (separated by commas) allow: `avx2` keeps to 256 bits. `Err` gives the
    /// name that is not known.
    pub(crate) fn restricted_to(names: &str) -> Result<Features, String> {
        let mut allowed = Features(0);
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let (flag, _) =
                Features::NAMES.iter().find(|(_, text)| *text == name).ok_or_else(|| name.to_owned())?;
            allowed = allowed | *flag;
        }
        Ok(Features(allowed.0 & Features::detected().0))
    }

    /// Whether every flag of `other` is here.
    pub(crate) const fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// Without the flags of `other`.
    pub(crate) const fn without(self, other: Features) -> Features {
        Features(self.0 & !other.0)
    }

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

impl std::ops::BitOr for Features {
    type Output = Features;

    fn bitor(self, other: Features) -> Features {
        Features(self.0 | other.0)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Features(")?;
        for (i, (_, name)) in Features::NAMES.iter().filter(|(flag, _)| self.has(*flag)).enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { "," })?;
        }
        f.write_str(")")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restriction_never_adds_what_the_processor_lacks() {
        let all = Features::detected();
        assert!(all.has(Features::restricted_to("avx2,gfni").unwrap()));
        assert_eq!(Features::restricted_to("avx2, sse9"), Err("sse9".to_owned()));
        assert!(!Features::restricted_to("avx2").unwrap().has(Features::AVX512));
    }
}
