//! What a run must not cost: allocations; and what a second compile must not: more than a look-up.

use pipe_lib::aead::{AesGcm, Nonce};
use pipe_lib::{Backend, EngineCache, Library};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

/// The system's allocator, counting calls by thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `f`.
fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
}

#[test]
fn a_run_without_windows_allocates_nothing() {
    let library = Library::standard();
    for text in [
        "inet_cksum as a | byteswap32 | crc32c | inet_cksum as b -> lance",
        "inet_cksum | byteswap32 | crc32c",
    ] {
        let engine = library.pipeline(text).unwrap().compile().unwrap();
        let src = vec![7; 6000];
        let mut dst = vec![0; engine.written_len(src.len()).unwrap()];
        let mut imports = engine.imports();
        imports.set("crc32c.crc", 5).unwrap();
        let pieces: [&[u8]; 3] = [&src[..54], &src[54..1001], &src[1001..]];
        let runs = allocations(|| {
            let run = engine.run(&src, &mut dst).unwrap();
            assert!(run.export("crc32c.crc").is_ok());
            let run = engine.run_with(&imports, &src, &mut dst).unwrap();
            assert_ne!(run.value(engine.export_id("crc32c.crc").unwrap()), 0);
            engine.run_read_only(&src).unwrap();
            engine.run_vectored(&pieces, &mut [&mut dst]).unwrap();
        });
        assert_eq!(runs, 0, "{text}");
    }
    for (text, export) in [("inet_cksum | byteswap32", "inet_cksum.cksum"), ("adler32", "adler32.adler")] {
        let engine = library.pipeline(text).unwrap().compile().unwrap();
        let (src, mut dst) = ([7; 64], [0; 64]);
        let index = engine.export_id(export).unwrap();
        let short = || assert_ne!(engine.run(&src, &mut dst).unwrap().value(index), 0);
        assert_eq!(allocations(short), 0, "{text}");
    }
    // A linear recurrence in lanes of 128 bits is put together at the end of each run.
    let hash =
        "pipe hash : u8 { state h: u32 = 1; in x; zext.u32 w, x; mul h, h, 31; add h, h, w; export h }";
    let mut own = Library::standard();
    own.load("hash.pipe", hash).unwrap();
    let engine = own.pipeline("hash").unwrap().compile_with(&Backend::Cranelift.into()).unwrap();
    assert_eq!(engine.backend(), Backend::Cranelift);
    assert_eq!(allocations(|| drop(engine.run_read_only(&[7; 6000]).unwrap())), 0);
    let engine = library.pipeline("inet_cksum | byteswap32").unwrap().compile().unwrap();
    let mut buffer = vec![7; 6000];
    assert_eq!(allocations(|| drop(engine.run_in_place(&mut buffer).unwrap())), 0);
    // More than any cache is taken to hold: the first such transfer, too.
    let (src, mut dst) = (vec![7; 40 << 20], vec![0; 40 << 20]);
    assert_eq!(allocations(|| drop(engine.run(&src, &mut dst).unwrap())), 0);
}

/// As long as the windows' results have room behind the registers; and they are those of a run that has
/// lists.
#[test]
fn few_windows_between_frames_allocate_nothing() {
    let library = Library::standard();
    let engine = |text: &str| library.pipeline(text).unwrap().compile().unwrap();
    let insert = engine("crc16_t10dif per 4096 -> t10_pi1_4k");
    let strip = engine("t10_pi1_4k -> crc16_t10dif per 4096");
    let src: Vec<u8> = (0..8 * 4096).map(|at: u32| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let whole = insert.run(&src, &mut vec![0; 8 * 4104]).unwrap();
    let whole = whole.windows("crc16_t10dif.crc").unwrap();
    assert_eq!(whole.len(), 8);
    let mut imports = insert.imports();
    imports.set("t10_pi1_4k.lba", 7).unwrap();
    for blocks in 1..=8 {
        let (mut framed, mut plain) = (vec![0; blocks * 4104], vec![0; blocks * 4096]);
        let src = &src[..blocks * 4096];
        let count = allocations(|| {
            let run = insert.run_with(&imports, src, &mut framed).unwrap();
            assert_eq!(run.windows("crc16_t10dif.crc").unwrap(), &whole[..blocks]);
            assert_eq!(run.register("t10_pi1_4k.lba").unwrap(), 7);
            let run = insert.run(src, &mut framed).unwrap();
            assert_eq!(run.windows("crc16_t10dif.crc").unwrap(), &whole[..blocks]);
            let run = strip.run(&framed, &mut plain).unwrap();
            assert_eq!(run.windows("crc16_t10dif.crc").unwrap(), &whole[..blocks]);
            let run = strip.run_read_only(&framed).unwrap();
            assert_eq!(run.exports().count(), 1);
        });
        assert_eq!(plain, src);
        // A register for the sum and two for what the frame is told, of eight.
        assert_eq!(count > 0, blocks > 5, "{blocks} blocks: {count}");
    }
    // One that outlives the call has them, too.
    let mut framed = vec![0; 2 * 4104];
    let run = insert.keep(insert.run(&src[..2 * 4096], &mut framed).unwrap());
    assert_eq!(run.windows("crc16_t10dif.crc").unwrap(), &whole[..2]);
    assert!(run.export("crc16_t10dif.crc").is_err(), "a list");
}

#[test]
fn a_sealed_record_allocates_nothing() {
    let key = AesGcm::new(&[7; 16]).unwrap();
    // Where it takes several passes, or is interpreted, it does.
    if !key.is_compiled() || key.engine().passes() > 1 {
        return;
    }
    let (plain, mut sealed) = (vec![1; 1400], vec![0; 1400]);
    let records = allocations(|| {
        for number in 0..3 {
            let nonce = [number; 12];
            let tag = key.seal(Nonce::unique(nonce), b"header", &plain, &mut sealed).unwrap();
            key.open_in_place(&nonce, b"header", &mut sealed, &tag).unwrap();
            key.seal_in_place(Nonce::unique([100 + number; 12]), b"header", &mut sealed).unwrap();
        }
    });
    assert_eq!(records, 0);
}

#[test]
fn a_second_compile_is_a_look_up() {
    let library = Library::standard();
    let text = "inet_cksum as first | byteswap32 | crc32c as cache_test";
    let pipeline = library.pipeline(text).unwrap();
    let first = pipeline.compile().unwrap();
    // No copy of the composition, no compiler: nothing is allocated at all.
    assert_eq!(allocations(|| drop(pipeline.compile().unwrap())), 0);
    // What is composed anew, but the same, is found as well: exports are the same objects.
    let again = library.pipeline(text).unwrap().compile().unwrap();
    assert!(std::ptr::eq(first.exports(), again.exports()));
    let other = library.pipeline("inet_cksum as second | byteswap32 | crc32c as cache_test").unwrap();
    assert!(!std::ptr::eq(first.exports(), other.compile().unwrap().exports()));
}

#[test]
fn the_cache_is_bounded_and_forgets_the_oldest() {
    let library = Library::standard();
    let cache = EngineCache::new(3);
    let key = |number: u32| {
        let pipeline = library.pipeline(&format!("crc32c as c{number}")).unwrap();
        pipe_lib::cache::Key::new(Arc::new(pipeline.composition().clone()))
    };
    let options = pipe_lib::Backend::Interp.into();
    let first = cache.get(&key(0), &options).unwrap();
    for number in 1..10 {
        cache.get(&key(number), &options).unwrap();
        assert!(cache.len() <= 3);
        // Asked for again and again, the first one stays.
        assert!(std::ptr::eq(first.exports(), cache.get(&key(0), &options).unwrap().exports()));
    }
    let third = cache.get(&key(3), &options).unwrap();
    assert!(!std::ptr::eq(first.exports(), third.exports()));
    cache.clear();
    assert!(cache.is_empty());
    assert!(!std::ptr::eq(first.exports(), cache.get(&key(0), &options).unwrap().exports()));
    let run = first.run_read_only(b"123456789").unwrap();
    assert_eq!(
        run.export("c0.crc").unwrap(),
        0xe306_9283,
        "an engine that is held elsewhere goes on working"
    );
}

#[test]
fn engines_are_shared_between_threads() {
    let engine = Library::standard().pipeline("crc32c").unwrap().compile().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let engine = engine.clone();
            scope.spawn(move || {
                for _ in 0..200 {
                    let run = engine.run_read_only(b"123456789").unwrap();
                    assert_eq!(run.export("crc32c.crc").unwrap(), 0xe306_9283);
                }
            });
        }
    });
}
