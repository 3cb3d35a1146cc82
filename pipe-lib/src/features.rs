//! Which instructions there are: asked of the processor once, at run time, and overridable for tests and
//! reports.
//!
//! A name alone ("AVX-512") says too little: each group of instructions that the native backend can do
//! without is a flag of its own, so that a machine with part of them still gets code, and a test can take one
//! away.
//!
//! With the environment variable `PIPE_LIB_FEATURES` set, a process keeps to the features it names, separated
//! by commas (`avx2,pclmul`; `none` for the least; empty is as good as not set), and every loop of every
//! backend is what a machine without the others would run. That is how whole test suites run as on another
//! machine.

use std::fmt;
use std::sync::OnceLock;

/// Groups of instructions that the native backend can use or do without, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Features(u32);

macro_rules! features {
    ($($(#[$meta:meta])* $name:ident = $bit:literal, $text:literal, $detected:expr;)+) => {
        impl Features {
            $($(#[$meta])* pub(crate) const $name: Features = Features(1 << $bit);)+

            /// Every flag with its name.
            const NAMES: &[(Features, &str)] = &[$((Features::$name, $text),)+];

            #[cfg(target_arch = "x86_64")]
            pub(crate) fn ask() -> Features {
                let mut found = Features(0);
                $(if $detected { found.0 |= Features::$name.0; })+
                found
            }

            #[cfg(not(target_arch = "x86_64"))]
            pub(crate) fn ask() -> Features {
                Features(0)
            }
        }
    };
}

features! {
    /// 256-bit integer vectors, BMI2 for masks and SSE4.2 for its `crc32`: the least the backend runs on.
    AVX2 = 0, "avx2", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("sse4.2");
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
    /// Dot products of bytes, of 512 bits.
    VNNI = 8, "vnni", is_x86_feature_detected!("avx512vnni");
    /// Dot products of bytes, of 256 bits in the shorter encoding: not every processor that has the longer
    /// one has it.
    AVX_VNNI = 9, "avxvnni", is_x86_feature_detected!("avxvnni");
    /// Carry-less multiplication of 128-bit registers.
    PCLMUL = 6, "pclmul", is_x86_feature_detected!("pclmulqdq");
    /// Carry-less multiplication of every 128-bit lane.
    VPCLMUL = 7, "vpclmul", is_x86_feature_detected!("vpclmulqdq");
    /// Rounds of AES on 128-bit registers.
    AES = 11, "aes", is_x86_feature_detected!("aes");
    /// Rounds of AES on every 128-bit lane.
    VAES = 10, "vaes", is_x86_feature_detected!("vaes");
}

impl Features {
    /// None of them.
    #[cfg(feature = "cranelift")]
    pub(crate) const NONE: Features = Features(0);

    /// What this processor (and its operating system) has, of what [`Features::CAP`] allows.
    pub fn detected() -> Features {
        static FOUND: OnceLock<Features> = OnceLock::new();
        *FOUND.get_or_init(|| match Features::cap() {
            Some(names) => Features(Features::ask().0 & Features::among(&names).0),
            None => Features::ask(),
        })
    }

    /// The environment variable that keeps a process to the features it names. Names that are not known count
    /// for nothing; [`Features::check_cap`] tells of them.
    pub const CAP: &str = "PIPE_LIB_FEATURES";

    /// Looks at [`Features::CAP`].
    ///
    /// # Errors
    /// A name in it that is not known, or that this processor does not have.
    pub fn check_cap() -> Result<(), FeatureError> {
        Features::cap().map_or(Ok(()), |names| Features::named(&names).map(drop))
    }

    /// What [`Features::CAP`] names; nothing if it is not set, or empty.
    fn cap() -> Option<String> {
        std::env::var(Features::CAP).ok().filter(|names| !names.trim().is_empty())
    }

    /// Whether [`Features::CAP`] names features, or `none`.
    #[cfg(all(feature = "cranelift", target_arch = "x86_64"))]
    pub(crate) fn is_capped() -> bool {
        Features::cap().is_some()
    }

    /// Those of the features named that are known.
    fn among(names: &str) -> Features {
        let names: Vec<&str> = names.split(',').map(str::trim).collect();
        let known = Features::NAMES.iter().filter(|(_, text)| names.contains(text));
        known.fold(Features(0), |all, (flag, _)| all | *flag).with_implied()
    }

    /// With what every processor has that has these: AVX-512 contains AVX2.
    const fn with_implied(self) -> Features {
        if self.has(Features::AVX512) { Features(self.0 | Features::AVX2.0) } else { self }
    }

    /// The features named, separated by commas, and no others: `avx2` keeps to 256-bit vectors; `avx512` has
    /// those of `avx2` in it. `none` is none.
    ///
    /// # Errors
    /// A name that is not known, or that this processor does not have.
    pub fn named(names: &str) -> Result<Features, FeatureError> {
        let mut chosen = Features(0);
        for name in names.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "none")) {
            let flag = Features::NAMES.iter().find(|(_, text)| *text == name).map(|(flag, _)| *flag);
            match flag {
                Some(flag) if Features::detected().has(flag) => chosen = chosen | flag,
                _ => return Err(FeatureError { name: name.to_owned(), known: flag.is_some() }),
            }
        }
        Ok(chosen.with_implied())
    }

    /// The features named, separated by commas, whether this processor has them or not: those of a machine
    /// that code is made for ahead of time.
    ///
    /// # Errors
    /// A name that is not known.
    #[cfg(any(feature = "emit", test))]
    pub fn of_machine(names: &str) -> Result<Features, FeatureError> {
        let unknown = |name: &&str| !Features::NAMES.iter().any(|(_, text)| text == name);
        let mut given = names.split(',').map(str::trim).filter(|name| !matches!(*name, "" | "none"));
        match given.find(unknown) {
            Some(name) => Err(FeatureError { name: name.to_owned(), known: false }),
            None => Ok(Features::among(names)),
        }
    }

    /// The names of these features.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Features::NAMES.iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| *name)
    }

    /// Whether every flag of `other` is here.
    pub(crate) const fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// Without the flags of `other`.
    pub(crate) const fn without(self, other: Features) -> Features {
        Features(self.0 & !other.0)
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
        write!(f, "Features({self})")
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names().enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// A feature that cannot be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureError {
    /// The name asked for.
    pub name: String,
    /// Whether there is such a feature at all.
    pub known: bool,
}

impl fmt::Display for FeatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let have = Features::detected();
        if self.known {
            write!(f, "this processor has no {}; ", self.name)?;
        } else {
            write!(f, "there is no feature `{}`; ", self.name)?;
        }
        if have == Features(0) {
            f.write_str("there is none to choose")
        } else {
            write!(f, "it is any of {have}")
        }
    }
}

impl core::error::Error for FeatureError {}

/// Machines by what they have, for which code is made on every machine and run where it can be.
#[cfg(test)]
pub(crate) mod machines {
    use super::Features;

    const AVX2: u32 = Features::AVX2.0 | Features::PCLMUL.0 | Features::AES.0;
    const AVX512: u32 = AVX2 | Features::AVX512.0 | Features::VNNI.0;

    /// Everything: Ice Lake, Zen 4 and what came after.
    pub(crate) const AVX512_VPCLMUL: Features = Features(
        AVX512
            | Features::VPCLMUL.0
            | Features::VAES.0
            | Features::VBMI.0
            | Features::BITALG.0
            | Features::VPOPCNTDQ.0
            | Features::GFNI.0,
    );
    /// Cascade Lake.
    pub(crate) const AVX512_PCLMUL: Features = Features(AVX512);
    /// Alder Lake.
    pub(crate) const AVX2_VPCLMUL: Features =
        Features(AVX2 | Features::VPCLMUL.0 | Features::VAES.0 | Features::GFNI.0 | Features::AVX_VNNI.0);
    /// Haswell.
    pub(crate) const AVX2_PCLMUL: Features = Features(AVX2);
    /// No vectors that the native backend could use, but carry-less products: Westmere.
    pub(crate) const SSE42_PCLMUL: Features = Features(Features::PCLMUL.0);

    /// Those that the native backend runs on, by name.
    pub(crate) const NATIVE: [(&str, Features); 4] = [
        ("avx512", AVX512_VPCLMUL),
        ("avx512 without vpclmul", AVX512_PCLMUL),
        ("avx2 with vpclmul", AVX2_VPCLMUL),
        ("avx2 without vpclmul", AVX2_PCLMUL),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_processor_has_can_be_chosen() {
        let all = Features::detected();
        assert_eq!(Features::named(&all.to_string()), Ok(all));
        assert_eq!(Features::named(""), Ok(Features(0)));
        assert_eq!(Features::named("none"), Ok(Features(0)));
        assert_eq!(Features::named("sse9"), Err(FeatureError { name: "sse9".to_owned(), known: false }));
        if all.has(Features::AVX512) {
            assert!(Features::named("avx512").unwrap().has(Features::AVX2));
        }
        if all.has(Features::AVX2) {
            assert_eq!(Features::named(" avx2 ,"), Ok(Features::AVX2));
            let error = Features::named("avx2,sse9").unwrap_err().to_string();
            assert!(error.contains("`sse9`") && error.contains("avx2"), "{error}");
        }
        for (flag, name) in Features::NAMES.iter().filter(|(flag, _)| !all.has(*flag)) {
            let error = Features::named(name).unwrap_err();
            assert!(error.known && error.to_string().contains(name), "{flag:?}");
        }
    }
}
