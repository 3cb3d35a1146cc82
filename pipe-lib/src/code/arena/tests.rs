//! Thousands of pieces of code, made and dropped, by several threads, executed meanwhile.

use super::*;
use crate::testing::Rng;

fn arena() -> &'static Arena {
    Box::leak(Box::default())
}

impl Arena {
    /// A copy of `code` in sealed pages.
    fn store(&'static self, code: &[u8], publish: fn(&[u8])) -> io::Result<CodePages> {
        let mut draft = self.draft();
        let base = draft.room(code.len(), 1)?;
        // SAFETY: room for so many bytes.
        unsafe { base.copy_from_nonoverlapping(code.as_ptr(), code.len()) };
        let mut slots = draft.seal(publish)?;
        assert_eq!(slots.len(), 1);
        Ok(slots.pop().unwrap())
    }
}

fn bytes(slot: &CodePages, len: usize) -> &[u8] {
    // SAFETY: as many bytes were stored, and stay as long as the slot.
    unsafe { std::slice::from_raw_parts(slot.base, len) }
}

/// What the system says of the page at `address`: "r-xp", or nothing if it is not mapped.
fn rights(address: usize) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let range = usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?;
        range.contains(&address).then(|| rest[..4].to_owned())
    })
}

/// Chunks, and the taken and the stale pages in them.
fn census(arena: &Arena) -> (usize, usize, usize) {
    let chunks = arena.chunks();
    let stale = chunks.values().map(|chunk| chunk.slots.stale()).sum();
    let free = |slots: &Slots| {
        let mut slots = *slots;
        while let Some(range) = slots.stale_from(0) {
            slots.clean(&range);
        }
        std::iter::from_fn(|| slots.take(1)).count()
    };
    let taken = chunks.values().map(|chunk| CHUNK_PAGES - free(&chunk.slots)).sum();
    (chunks.len(), taken, stale)
}

#[test]
fn random_lives_keep_their_bytes_and_their_bounds() {
    let page = page_bytes();
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let arena = arena();
        let mut live: Vec<(CodePages, Vec<u8>)> = Vec::new();
        let (most_live, longest) = (*rng.pick(&[1, 40, 300]), *rng.pick(&[1, 3, CHUNK_PAGES + 4]));
        let mut peak = 0;
        for step in 0..2000 {
            if live.len() < most_live && rng.chance(2, 3) {
                // Not at random: that would take long for this many bytes.
                let len = rng.between(0, longest * page);
                let code: Vec<u8> = (0..len).map(|at| (at as u64 * 31 + step + seed) as u8).collect();
                live.push((arena.store(&code, |_| {}).unwrap(), code));
            } else if !live.is_empty() {
                live.swap_remove(rng.below(live.len()));
            }
            peak = peak.max(live.len());
            let pages = live.iter().filter(|(slot, _)| slot.own.is_none()).map(|(slot, _)| slot.pages);
            let (chunks, taken, stale) = census(arena);
            assert_eq!(taken, pages.sum::<usize>());
            // In each chunk but one there is code, and fewer stale pages than that.
            assert!(stale < MAX_STALE * chunks.max(1) && chunks <= live.len() + 1, "{chunks} {stale}");
            if step % 50 == 0 {
                for (slot, code) in &live {
                    assert_eq!(bytes(slot, code.len()), code);
                }
                if let Some((slot, _)) = live.first()
                    && let Some(rights) = rights(slot.base.addr())
                {
                    assert_eq!(rights, "r-xp");
                }
            }
        }
        assert!(peak > most_live / 2);
        let mut ranges: Vec<_> = live.iter().map(|(slot, _)| (slot.base.addr(), slot.pages * page)).collect();
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "two overlap");
        drop(live);
        let (chunks, taken, _) = census(arena);
        assert!(chunks <= 1 && taken == 0, "{chunks} {taken}");
    }
}

#[test]
fn pages_are_used_again() {
    let arena = arena();
    // As many as a chunk has pages, so that all are known.
    let first: Vec<CodePages> = (0..CHUNK_PAGES).map(|_| arena.store(&[1; 100], |_| {}).unwrap()).collect();
    let addresses: Vec<usize> = first.iter().map(|slot| slot.base.addr()).collect();
    drop(first);
    for round in 0..1000 {
        let slot = arena.store(&[round as u8; 100], |_| {}).unwrap();
        assert!(addresses.contains(&slot.base.addr()), "{round}");
        assert_eq!(bytes(&slot, 100), [round as u8; 100]);
    }
    assert_eq!(census(arena).0, 1);
}

#[test]
fn no_page_is_writable_and_executable() {
    let arena = arena();
    let slots: Vec<CodePages> = (0..200).map(|_| arena.store(&[0xc3; 5000], |_| {}).unwrap()).collect();
    let check = || {
        let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
        let mut rights = maps.lines().filter_map(|line| line.split(' ').nth(1));
        assert!(!rights.any(|rights| rights.contains("wx")));
    };
    check();
    for slot in &slots {
        assert!(rights(slot.base.addr()).is_none_or(|rights| rights.starts_with("r-x")));
    }
    // Then pages of either kind.
    let mut keep = false;
    let mut slots = slots;
    slots.retain(|_| {
        keep = !keep;
        keep
    });
    check();
    drop(slots);
    check();
}

#[test]
fn kept_addresses_are_not_used_again_and_hold_nothing() {
    let arena = arena();
    arena.keeps_addresses.store(true, Ordering::Relaxed);
    let mut seen = std::collections::HashSet::new();
    let long = CHUNK_PAGES * page_bytes() + 1;
    for round in 0..500 {
        let len = if round % 100 == 99 { long } else { 1 + round % 3 * page_bytes() };
        let slot = arena.store(&vec![0xc3; len], |_| {}).unwrap();
        let base = slot.base.addr();
        for page in 0..slot.pages {
            assert!(seen.insert(base + page * page_bytes()));
        }
        drop(slot);
        if round % 50 == 49
            && let Some(rights) = rights(base)
        {
            assert_eq!(rights, "---p");
        }
    }
}

/// Drafts of many pieces, several at a time, some of them given up.
#[test]
fn pieces_keep_their_bytes_and_share_pages() {
    let page = page_bytes();
    let (mut shared, mut split) = (0, 0);
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let arena = arena();
        let mut sealed = Vec::new();
        for _ in 0..30 {
            let mut drafts =
                [const { Vec::<(usize, usize, u8)>::new() }; 3].map(|pieces| (arena.draft(), pieces));
            for step in 0..rng.between(1, 24) {
                let (draft, pieces) = &mut drafts[rng.below(3)];
                let longest = *rng.pick(&[60, 60, 900, page, 3 * page, (CHUNK_PAGES + 2) * page]);
                let (len, align) = (rng.between(0, longest), 1 << rng.below(8));
                let base = draft.room(len, align).unwrap();
                assert_eq!(base.addr() % align, 0);
                // SAFETY: room for so many bytes.
                unsafe { base.write_bytes(step as u8, len) };
                pieces.push((base.addr(), len, step as u8));
            }
            for (draft, mut pieces) in drafts {
                if rng.chance(1, 4) {
                    continue;
                }
                let slots = draft.seal(|_| {}).unwrap();
                let bytes: usize = slots.iter().map(|slot| slot.pages * page).sum();
                // What is lost: less than an alignment between two pieces, a page at the end, or where there
                // was no room to grow.
                let asked: usize = pieces.iter().map(|piece| piece.1).sum();
                assert!(bytes <= asked + 128 * pieces.len() + slots.len().max(1) * 2 * page);
                shared += usize::from(slots.len() < pieces.len());
                split += usize::from(slots.len() > 1);
                let within = |at: usize, len: usize| {
                    let holds = |slot: &&CodePages| {
                        (slot.base.addr()..=slot.base.addr() + slot.pages * page - len).contains(&at)
                    };
                    slots.iter().filter(|slot| slot.pages * page >= len).any(|slot| holds(&slot))
                };
                assert!(pieces.iter().all(|&(at, len, _)| within(at, len)));
                pieces.sort_unstable();
                assert!(pieces.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "two overlap");
                sealed.push((slots, pieces));
            }
            if rng.chance(1, 3) {
                sealed.clear();
            }
            for (_, pieces) in &sealed {
                for &(at, len, byte) in pieces {
                    // SAFETY: bytes that were stored, in pages that are still there.
                    let bytes = unsafe { std::slice::from_raw_parts(at as *const u8, len) };
                    assert!(bytes.iter().all(|found| *found == byte));
                }
            }
            if let Some((slots, _)) = sealed.last()
                && let Some(rights) = slots.first().and_then(|slot| rights(slot.base.addr()))
            {
                assert_eq!(rights, "r-xp");
            }
        }
        drop(sealed);
        let (chunks, taken, _) = census(arena);
        assert!(chunks <= 1 && taken == 0, "{chunks} {taken}");
    }
    assert!(shared > 300 && split > 50, "{shared} {split}");
}

#[test]
fn an_alignment_that_no_page_has_is_refused() {
    let mut draft = arena().draft();
    for align in [0, 3, 2 * page_bytes()] {
        assert_eq!(draft.room(1, align).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(draft.room(usize::MAX, 1).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
}

/// A function that returns a number.
#[cfg(target_arch = "x86_64")]
fn answering(number: u32) -> Vec<u8> {
    [&[0xb8][..], &number.to_le_bytes(), &[0xc3]].concat()
}

/// `mov w0, low; movk w0, high, lsl 16; ret`.
#[cfg(target_arch = "aarch64")]
fn answering(number: u32) -> Vec<u8> {
    let words = [0x5280_0000 | (number & 0xffff) << 5, 0x72a0_0000 | number >> 16 << 5, 0xd65f_03c0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[test]
fn code_runs_while_its_neighbours_come_and_go() {
    let arena = arena();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            scope.spawn(move || {
                let mut rng = Rng::new(u64::from(thread));
                let mut live: Vec<(CodePages, u32)> = Vec::new();
                for step in 0..2500 {
                    let number = thread << 24 | step;
                    live.push((arena.store(&answering(number), super::super::publish).unwrap(), number));
                    if live.len() > 30 || rng.chance(1, 4) {
                        live.swap_remove(rng.below(live.len()));
                    }
                    for (slot, number) in &live {
                        // SAFETY: a function of this signature was stored there.
                        let answer =
                            unsafe { std::mem::transmute::<*const u8, extern "C" fn() -> u32>(slot.base)() };
                        assert_eq!(answer, *number);
                    }
                }
            });
        }
    });
    let (chunks, taken, _) = census(arena);
    assert!(chunks <= 1 && taken == 0, "{chunks} {taken}");
}
