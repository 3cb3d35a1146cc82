//! How emitted code finds out what the processor that it runs on has: by `cpuid` alone, without this library.

use crate::features::Features;

/// Words that [`WORDS_CODE`] writes.
pub(crate) const WORDS: usize = 5;

/// Places of the words: leaf 1 `ecx`, leaf 7 `ebx` and `ecx`, leaf 7.1 `eax`, and the register states that
/// the operating system keeps (XCR0); zeros where there is no such leaf.
const LEAF1_ECX: usize = 0;
const LEAF7_EBX: usize = 1;
const LEAF7_ECX: usize = 2;
const LEAF7_1_EAX: usize = 3;
const XCR0: usize = 4;

/// XMM and YMM.
const AVX_STATE: u32 = 0b110;

/// Those, mask registers, and what AVX-512 adds to the vectors.
const AVX512_STATE: u32 = 0b1110_0110;

/// The bits of each word that a feature takes (Intel's manual, volume 2, `CPUID`).
const BITS: &[(Features, &[(usize, u32)])] = &[
    (Features::AVX2, &[(LEAF7_EBX, 1 << 5 | 1 << 8), (LEAF1_ECX, 1 << 20 | 1 << 28), (XCR0, AVX_STATE)]),
    // F, DQ, CD, BW, VL.
    (Features::AVX512, &[(LEAF7_EBX, 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30 | 1 << 31), (XCR0, AVX512_STATE)]),
    (Features::VBMI, &[(LEAF7_ECX, 1 << 1), (XCR0, AVX512_STATE)]),
    (Features::BITALG, &[(LEAF7_ECX, 1 << 12), (XCR0, AVX512_STATE)]),
    (Features::VPOPCNTDQ, &[(LEAF7_ECX, 1 << 14), (XCR0, AVX512_STATE)]),
    (Features::GFNI, &[(LEAF7_ECX, 1 << 8)]),
    (Features::VNNI, &[(LEAF7_ECX, 1 << 11), (XCR0, AVX512_STATE)]),
    (Features::AVX_VNNI, &[(LEAF7_1_EAX, 1 << 4), (XCR0, AVX_STATE)]),
    (Features::PCLMUL, &[(LEAF1_ECX, 1 << 1)]),
    (Features::VPCLMUL, &[(LEAF7_ECX, 1 << 10), (XCR0, AVX_STATE)]),
    (Features::AES, &[(LEAF1_ECX, 1 << 25)]),
    (Features::VAES, &[(LEAF7_ECX, 1 << 9), (XCR0, AVX_STATE)]),
];

/// The bits that all of these features take, word by word.
pub(crate) fn needed(features: Features) -> [u32; WORDS] {
    let mut words = [0; WORDS];
    for (_, bits) in BITS.iter().filter(|(feature, _)| features.has(*feature)) {
        bits.iter().for_each(|(word, bits)| words[*word] |= bits);
    }
    words
}

/// `fn(words: *mut [u32; 5])` of the System V convention. Nothing in it depends on where it lies.
pub(crate) const WORDS_CODE: &[u8] = &[
    0x53, // push rbx
    0x49, 0x89, 0xf8, // mov r8, rdi
    0x31, 0xc0, // xor eax, eax
    0x31, 0xc9, // xor ecx, ecx
    0x49, 0x89, 0x00, // mov [r8], rax
    0x49, 0x89, 0x40, 0x08, // mov [r8+8], rax
    0x41, 0x89, 0x40, 0x10, // mov [r8+16], eax
    0x0f, 0xa2, // cpuid
    0x41, 0x89, 0xc1, // mov r9d, eax (the last leaf)
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
    0x31, 0xc9, // xor ecx, ecx
    0x0f, 0xa2, // cpuid
    0x41, 0x89, 0x08, // mov [r8], ecx
    0x0f, 0xba, 0xe1, 0x1b, // bt ecx, 27 (OSXSAVE)
    0x73, 0x09, // jnc +9
    0x31, 0xc9, // xor ecx, ecx
    0x0f, 0x01, 0xd0, // xgetbv
    0x41, 0x89, 0x40, 0x10, // mov [r8+16], eax
    0x41, 0x83, 0xf9, 0x07, // cmp r9d, 7
    0x72, 0x25, // jb end
    0xb8, 0x07, 0x00, 0x00, 0x00, // mov eax, 7
    0x31, 0xc9, // xor ecx, ecx
    0x0f, 0xa2, // cpuid
    0x41, 0x89, 0x58, 0x04, // mov [r8+4], ebx
    0x41, 0x89, 0x48, 0x08, // mov [r8+8], ecx
    0x85, 0xc0, // test eax, eax (the last subleaf)
    0x74, 0x10, // jz end
    0xb8, 0x07, 0x00, 0x00, 0x00, // mov eax, 7
    0xb9, 0x01, 0x00, 0x00, 0x00, // mov ecx, 1
    0x0f, 0xa2, // cpuid
    0x41, 0x89, 0x40, 0x0c, // mov [r8+12], eax
    0x5b, // end: pop rbx
    0xc3, // ret
];

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::{BITS, WORDS, WORDS_CODE, needed};
    use crate::code::CodeMemory;
    use crate::features::Features;

    /// What the emitted code will decide is what this process was told by the standard library.
    #[test]
    fn every_feature_is_found_as_the_standard_library_finds_it() {
        let code = CodeMemory::new(WORDS_CODE).unwrap();
        let mut words = [0x5555_5555u32; WORDS];
        // SAFETY: code of this signature, which writes the five words.
        unsafe {
            let ask = std::mem::transmute::<*const u8, unsafe extern "sysv64" fn(*mut u32)>(code.address(0));
            ask(words.as_mut_ptr());
        }
        let detected = Features::ask();
        for (feature, _) in BITS {
            let needed = needed(*feature);
            let found = words.iter().zip(needed).all(|(word, needed)| word & needed == needed);
            assert_eq!(found, detected.has(*feature), "{feature}: {words:x?}");
        }
        assert!(Features::of_machine("avx2").unwrap().names().all(|name| name == "avx2"));
    }

    #[test]
    fn no_feature_is_without_its_bits() {
        for name in Features::of_machine(
            "avx2,avx512,vbmi,bitalg,vpopcntdq,gfni,vnni,avxvnni,pclmul,vpclmul,aes,vaes",
        )
        .unwrap()
        .names()
        {
            // Not with what it implies: AVX-512 alone is more than AVX2.
            assert!(BITS.iter().any(|(feature, _)| feature.names().eq([name])), "{name}");
        }
        assert!(Features::of_machine("avx2,mmx").is_err());
    }
}
