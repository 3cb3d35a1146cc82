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
            }
            Step::Adler32 => {
                let (mut a, mut b) = (1, 0);
                for &byte in &bytes {
                    a = (a + u32::from(byte)) % 65521;
                    b = (b + a) % 65521;
                }
                sums[n] = b << 16 | a;
            }
            Step::Swap32 => bytes.chunks_mut(4).for_each(<[u8]>::reverse),
            Step::Xor32(key) => {
                let key = key.to_be_bytes();
                bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= key[i % 4]);
            }
            Step::Stripe => {
                let mut striped = vec![0; striped_len(bytes.len())];
                for (piece, slot) in bytes.chunks(16).zip(striped.chunks_mut(32)) {
                    slot[..piece.len()].copy_from_slice(piece);
                }
                bytes = striped;
            }
        }
        n += usize::from(step.sums());
    }
    (bytes, sums)
}

fn source(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as u8).collect()
}

fn written_len(steps: &[Step], len: usize) -> usize {
    if steps.last() == Some(&Step::Stripe) { striped_len(len) } else { len }
}

const KEY: u32 = 0xdead_beef;
const XOR: Step = Step::Xor32(KEY);

/// Every length up to some turns of the widest loop, and some longer ones.
fn lengths() -> impl Iterator<Item = usize> {
    (0..1300).step_by(4).chain([1460, 2044, 4096, 40_000, 100_004])
}

/// What this machine allows, and less.
fn sets() -> impl Iterator<Item = Allowed> {
    let sets = [
        &["avx512", "vnni", "pclmul", "vpclmul"][..],
        &["avx2", "pclmul", "vpclmul"],
        &["avx2", "pclmul"],
        &[],
    ];
    sets.into_iter().map(|names| Allowed::only(names.iter().copied()))
}

#[test]
fn less_may_be_allowed_than_there_is() {
    let all = ["avx2", "avx512", "vnni", "pclmul", "vpclmul", "gfni"];
    assert_eq!(Allowed::only(all), Allowed::here());
    let none = Allowed::only([]);
    assert_eq!((none.isa, none.clmul, none.wide_clmul), (Isa::Portable, false, false));
    assert_eq!(none.is_limited, Allowed::here().isa > Isa::Portable);
    let narrow = Allowed::only(["avx2", "pclmul"]);
    assert!(narrow.isa <= Isa::Avx2 && !narrow.wide_clmul);
    assert!(by_hand(&[Step::Inet], Isa::Avx512, narrow).is_empty());
}

#[test]
fn separate_and_blocked_passes_do_what_they_are_measured_for() {
    let combinations: [&[Step]; 8] = [
        &[],
        &[Step::Inet],
        &[Step::Inet, Step::Swap32, Step::Crc32c],
        &[Step::Inet, Step::Swap32, XOR],
        &[XOR, Step::Swap32, Step::Inet],
        &[Step::Crc32c, XOR, Step::Crc32c],
        &[Step::Inet, XOR, Step::Swap32, Step::Crc32c, Step::Adler32],
        &[Step::Inet, Step::Stripe],
    ];
    for (steps, allowed) in combinations.into_iter().flat_map(|steps| sets().map(move |set| (steps, set))) {
        let separate = Separate::new(steps, allowed);
        for len in lengths() {
            let src = source(len);
            let expected = reference(steps, &src);
            for block in [MAX_LEN, 4096, 64] {
                let mut dst = vec![0; written_len(steps, len)];
                let found = separate.blocked(&src, &mut dst, block);
                assert!((dst, found) == expected, "{steps:?} of {len} bytes, in blocks of {block}");
            }
        }
    }
}

#[test]
fn fused_loops_do_what_they_are_measured_for() {
    let combinations: [&[Step]; 11] = [
        &[Step::Inet],
        &[Step::Inet, XOR, Step::Swap32, Step::Crc32c, Step::Adler32],
        &[Step::Inet, Step::Swap32],
        &[Step::Inet, XOR],
        &[Step::Swap32, XOR],
        &[Step::Inet, Step::Swap32, XOR],
        &[Step::Inet, XOR, Step::Inet],
        &[Step::Crc32c],
        &[Step::Inet, Step::Crc32c],
        &[Step::Inet, Step::Swap32, Step::Crc32c],
        &[Step::Inet, Step::Stripe],
    ];
    let allowed = Allowed::here();
    for steps in combinations {
        let mut loops = Vec::new();
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            let by_hand = by_hand(steps, isa, Allowed::here());
            let multiplies = if isa == Isa::Avx512 { allowed.wide_clmul } else { allowed.clmul };
            let has_loop =
                isa != Isa::Portable && isa <= allowed.isa && (multiplies || !steps.contains(&Step::Crc32c));
            assert_eq!(has_loop, !by_hand.is_empty(), "{steps:?}, {}", isa.name());
            loops.extend(by_hand.iter().map(|variant| (variant.name, variant.run)));
            loops.extend(by_rustc(steps, isa, Allowed::here()).map(|run| ("rustc", run)));
        }
        loops.extend(streaming(steps, Allowed::here()).map(|run| ("past the caches", run)));
        for len in lengths() {
            let src = source(len);
            let expected = reference(steps, &src);
            for (name, run) in &loops {
                // The destination aligned as vectors like it, and not.
                for skew in [0, 3] {
                    let mut buffer = vec![0; written_len(steps, len) + 128];
                    let start = buffer.as_ptr().align_offset(64) + skew;
                    let dst = &mut buffer[start..start + written_len(steps, len)];
                    let sums = run(&src, dst, KEY);
                    assert!((dst.to_vec(), sums) == expected, "{name} for {steps:?} of {len} bytes");
                    let around = buffer[..start].iter().chain(&buffer[start + written_len(steps, len)..]);
                    assert!(around.copied().all(|byte| byte == 0), "{name} for {steps:?} writes outside");
                }
            }
        }
    }
}

#[test]
fn holes_of_a_striped_buffer_keep_what_they_had() {
    for isa in [Isa::Avx2, Isa::Avx512] {
        for variant in by_hand(&[Step::Inet, Step::Stripe], isa, Allowed::here()) {
            let src = source(1000);
            let mut dst = vec![0xaa; striped_len(1000)];
            (variant.run)(&src, &mut dst, 0);
            assert!(dst.chunks(32).flat_map(|slot| slot.iter().skip(16)).all(|&byte| byte == 0xaa));
        }
    }
}

#[test]
fn libraries_agree_with_the_definition() {
    for len in lengths() {
        let src = source(len);
        let expected = |step| reference(&[step], &src).1[0];
        for (step, libraries) in [
            (Step::Crc32c, libraries::crc32c()),
            (Step::Adler32, libraries::adler32()),
            (Step::Inet, libraries::inet()),
        ] {
            for library in libraries {
                assert_eq!((library.run)(&src), expected(step), "{}, {len} bytes", library.name);
            }
        }
        let crcs: Vec<u32> = libraries::crc32().iter().map(|library| (library.run)(&src)).collect();
        assert!(crcs.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn sums_of_all_ones_do_not_overflow() {
    let ones = vec![0xff; 1 << 22];
    for steps in [&[Step::Inet][..], &[Step::Inet, XOR, Step::Inet]] {
        let expected = reference(steps, &ones).1;
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512] {
            for run in by_hand(steps, isa, Allowed::here()).iter().map(|v| v.run).chain(by_rustc(
                steps,
                isa,
                Allowed::here(),
            )) {
                let mut dst = vec![0; ones.len()];
                assert_eq!(run(&ones, &mut dst, KEY), expected, "{steps:?}, {}", isa.name());
            }
        }
    }
    assert_eq!((libraries::crc32c()[0].run)(b"123456789"), 0xe306_9283);
}

#[test]
fn orc_does_what_it_is_measured_for() {
    for steps in [&[Step::Inet][..], &[Step::Inet, Step::Swap32, XOR], &[Step::Swap32, XOR]] {
        let Some(orc) = orc::Orc::new(steps) else {
            println!("skipped: liborc-0.4 is not installed, or cannot say {steps:?}");
            continue;
        };
        for len in lengths().chain([1 << 20]) {
            let src = source(len);
            let mut dst = vec![0; len];
            let sums = orc.run(&src, &mut dst, KEY);
            assert!((dst, sums) == reference(steps, &src), "{steps:?} of {len} bytes");
        }
    }
    assert!(orc::Orc::new(&[Step::Crc32c]).is_none(), "Orc has no CRC");
}

/// Kept to fewer instructions, no pass is a library's: these ask the processor themselves.
#[test]
fn separate_passes_keep_to_what_is_allowed() {
    let steps = [Step::Inet, XOR, Step::Crc32c, Step::Adler32];
    for names in [&["avx512", "vnni", "pclmul"][..], &["avx2", "pclmul"], &["avx2"], &[]] {
        let allowed = Allowed::only(names.iter().copied());
        let passes = Passes::best(allowed);
        let other = !std::ptr::fn_addr_eq(passes.crc32c, libraries::crc32c_more as fn(u32, &[u8]) -> u32)
            && !std::ptr::fn_addr_eq(passes.adler32, libraries::adler32_more as fn(u32, &[u8]) -> u32);
        assert!(other || !allowed.is_limited, "{names:?}");
        let separate = Separate::new(&steps, allowed);
        for len in lengths().chain([1 << 20]) {
            let src = source(len);
            for block in [MAX_LEN, 4096] {
                let mut dst = vec![0; len];
                let sums = separate.blocked(&src, &mut dst, block);
                assert!((dst, sums) == reference(&steps, &src), "{names:?}, {len} bytes");
            }
        }
    }
}
