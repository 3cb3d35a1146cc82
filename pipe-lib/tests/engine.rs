//! Engines made from Rust, without text: known sums, refusals, overhead.

use pipe_lib::ir::builder::PipeBuilder;
use pipe_lib::ir::{BinaryOp, Endian, Gauge, Layout, Pipe, Stripe, Tail, Ty, UnaryOp};
use pipe_lib::{Backend, Composer, Engine, Library, Pipeline, RunError};
use std::num::NonZeroU64;
use std::sync::Arc;

fn inet_cksum() -> Arc<Pipe> {
    let mut b = PipeBuilder::new("inet_cksum", Gauge::new(Ty::U16, Endian::Big));
    b.tail(Tail::Zero);
    let sum = b.state("sum", Ty::U16, 0);
    let (x, old) = (b.input(), b.read(sum));
    let new = b.binary(BinaryOp::Addc, old, x);
    b.set(sum, new).export_state("sum", sum).at_end();
    let last = b.read(sum);
    let cksum = b.unary(UnaryOp::Not, last);
    b.export("cksum", cksum);
    Arc::new(b.finish().unwrap())
}

fn byteswap32() -> Arc<Pipe> {
    let mut b = PipeBuilder::new("byteswap32", Gauge::new(Ty::U32, Endian::Big));
    b.output_gauge(Gauge::new(Ty::U32, Endian::Little));
    let x = b.input();
    b.output(x);
    Arc::new(b.finish().unwrap())
}

fn xor32() -> Arc<Pipe> {
    let mut b = PipeBuilder::new("xor32", Gauge::new(Ty::U32, Endian::Big));
    b.tail(Tail::Partial);
    let key = b.param("key", Ty::U32, None);
    let (x, key) = (b.input(), b.arg(key));
    let y = b.binary(BinaryOp::Xor, x, key);
    b.output(y);
    Arc::new(b.finish().unwrap())
}

fn compile(composer: Composer) -> Engine {
    let pipeline = Pipeline::from_composition(composer.finish().unwrap()).unwrap();
    pipeline.compile_with(&Backend::Interp.into()).unwrap()
}

/// RFC 1071 section 3: the example's words sum to ddf2.
const RFC1071: [u8; 8] = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];

#[test]
fn rfc_1071_example() {
    let engine = compile(Composer::new().stage(&inet_cksum(), Some("sum"), &[], None).unwrap());
    let mut out = [0xaa; 9];
    let run = engine.run(&RFC1071, &mut out).unwrap();
    assert_eq!((run.read, run.written), (8, 8));
    assert_eq!(run.export("sum.sum").unwrap(), 0xddf2);
    assert_eq!(run.value(engine.export_id("sum.cksum").unwrap()), 0x220d);
    assert_eq!(
        out,
        [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7, 0xaa],
        "nothing is written behind the stream"
    );
    assert_eq!(run.export("sum.nothing"), Err(RunError::NoSuchExport { name: "sum.nothing".into() }));
}

#[test]
fn taps_before_and_after_a_stage_see_different_streams() {
    let composer = Composer::new().stage(&inet_cksum(), Some("plain"), &[], None).unwrap();
    let composer = composer.stage(&xor32(), None, &[("key", 0xffff_ffff)], None).unwrap();
    let engine = compile(composer.stage(&inet_cksum(), Some("cipher"), &[], None).unwrap());
    let mut out = [0; 8];
    let run = engine.run(&RFC1071, &mut out).unwrap();
    assert_eq!(out, RFC1071.map(|byte| !byte));
    assert_eq!(run.export("plain.sum").unwrap(), 0xddf2);
    // The one's complement of every word: 4 * 0xffff - sum, end-around.
    assert_eq!(run.export("cipher.sum").unwrap(), 0x220d);
}

#[test]
fn what_a_tail_rule_rejects_is_refused_before_the_first_byte() {
    let engine = compile(Composer::new().stage(&byteswap32(), None, &[], None).unwrap());
    let mut out = [7; 16];
    let error = engine.run(&[1; 6], &mut out).unwrap_err();
    let expected = RunError::Leftover { instance: "byteswap32".into(), word: 4, leftover: 2, window: None };
    assert_eq!(error, expected);
    assert_eq!(out, [7; 16]);
    assert_eq!(
        error.to_string(),
        "`byteswap32` takes whole words of 4 bytes only; this length leaves 2 over"
    );
    let error = engine.run(&[1; 8], &mut out[..7]).unwrap_err();
    assert_eq!(error, RunError::ShortDestination { needed: 8, have: 7 });
    assert_eq!(out, [7; 16]);
    // In a window of 6 bytes as well, but only when there is a whole one.
    let composer = Composer::new().stage(&byteswap32(), None, &[], NonZeroU64::new(6)).unwrap();
    let engine = compile(composer);
    assert!(engine.run(&[1; 4], &mut out).is_ok());
    assert!(matches!(
        engine.run(&[1; 12], &mut out),
        Err(RunError::Leftover { leftover: 2, window: Some(6), .. })
    ));
}

#[test]
fn partial_overlap_is_refused_and_the_same_buffer_is_not() {
    let engine = compile(Composer::new().stage(&byteswap32(), None, &[], None).unwrap());
    let mut buf = *b"abcdefgh....";
    let ptr = buf.as_mut_ptr();
    // SAFETY: all of it lies within `buf`.
    let error = unsafe { engine.run_raw(ptr, 8, ptr.add(4)) }.unwrap_err();
    assert_eq!(error, RunError::Overlap);
    assert_eq!(&buf, b"abcdefgh....");
    let ptr = buf.as_mut_ptr();
    // SAFETY: as above.
    unsafe { engine.run_raw(ptr, 8, ptr) }.unwrap();
    assert_eq!(&buf, b"dcbahgfe....");
    let ptr = buf.as_mut_ptr();
    // SAFETY: as above; the two halves only touch.
    unsafe { engine.run_raw(ptr, 4, ptr.add(4)) }.unwrap();
    assert_eq!(&buf, b"dcbaabcd....");
}

/// A layout's buffer is longer than the stream: what overlaps is the buffers.
#[test]
fn overlap_of_device_buffers_is_refused() {
    let mut library = pipe_lib::Library::standard();
    library.load("gapped.pipe", "layout gapped { data 4 gap 4 }").unwrap();
    let compiled = |text: &str| library.pipeline(text).unwrap().compile().unwrap();
    let mut buf = [0u8; 64];
    let ptr = buf.as_mut_ptr();
    let (from, to) = (compiled("gapped -> byteswap32"), compiled("byteswap32 -> gapped"));
    // Eight bytes of the stream are twelve of the buffer.
    assert_eq!((from.source_len(8), to.written_len(8).unwrap()), (Some(12), 12));
    for at in [0, 4, 8, 11] {
        // SAFETY: all of it lies within `buf`.
        assert_eq!(unsafe { from.run_raw(ptr, 8, ptr.add(at)) }.unwrap_err(), RunError::Overlap, "{at}");
        // SAFETY: as above.
        let before = unsafe { from.run_raw(ptr.add(7), 8, ptr) }.unwrap_err();
        assert_eq!(before, RunError::Overlap);
        // SAFETY: as above.
        assert_eq!(unsafe { to.run_raw(ptr.add(at), 8, ptr) }.unwrap_err(), RunError::Overlap, "{at}");
    }
    assert_eq!(buf, [0; 64]);
    // SAFETY: as above; the buffers only touch.
    unsafe { from.run_raw(ptr, 8, ptr.add(12)) }.unwrap();
    // SAFETY: as above.
    unsafe { to.run_raw(ptr.add(12), 8, ptr) }.unwrap();
}

#[test]
fn windows_export_lists() {
    let window = NonZeroU64::new(3);
    let engine = compile(Composer::new().stage(&inet_cksum(), Some("sum"), &[], window).unwrap());
    let mut out = [0; 7];
    let run = engine.run(&[0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07], &mut out).unwrap();
    assert_eq!(run.windows("sum.sum").unwrap(), [0x0102 + 0x0300, 0x0405 + 0x0600, 0x0700]);
    assert_eq!(run.export("sum.sum"), Err(RunError::Windowed { name: "sum.sum".into() }));
    assert!(engine.run(&[], &mut []).unwrap().windows("sum.sum").unwrap().is_empty());
}

#[test]
fn a_striped_sink_leaves_its_holes_alone() {
    let lance = Layout {
        name: "lance".into(),
        doc: String::new(),
        stripe: Some(Stripe { data: 4, gap: 2 }),
        store: None,
        fixed: false,
        pad: 10,
    };
    let composer = Composer::new().stage(&byteswap32(), None, &[], None).unwrap().sink(Arc::new(lance));
    let engine = compile(composer);
    assert_eq!(engine.written_len(8), Some(14));
    let mut out = [0xee; 16];
    let run = engine.run(b"abcdefgh", &mut out).unwrap();
    assert_eq!(run.written, 14);
    assert_eq!(&out, b"dcba\xee\xeehgfe\xee\xee\0\0\xee\xee");
}

/// Short transfers are called with less before and after: what they give is what longer ways give.
#[test]
fn reading_gives_what_copying_gives_for_few_registers_and_many() {
    let library = Library::standard();
    for text in [
        "inet_cksum",
        "inet_cksum as a | inet_cksum as b",
        "crc32c",
        "inet_cksum as a | crc32c | xor8(key=3) | inet_cksum as b",
        "inet_cksum | adler32 | crc32 | fletcher32 | newline_count | parity | min_max_u8",
        "fnv1a64 | delta8",
        "byteswap32 | crc32c",
    ] {
        let engine = library.pipeline(text).unwrap().compile().unwrap();
        let ids: Vec<_> = engine.exports().iter().map(|export| (export.id(), export.name.clone())).collect();
        for len in (0..200).chain([256, 1460, 5000]) {
            let src: Vec<u8> = (0..len).map(|i| ((i * 37) ^ (i >> 5)) as u8 | 1).collect();
            let mut dst = vec![0; len];
            let (copied, read) = match (engine.run(&src, &mut dst), engine.run_read_only(&src)) {
                (Ok(copied), Ok(read)) => (copied, read),
                (copied, read) => {
                    assert_eq!(copied.unwrap_err(), read.unwrap_err(), "{text}, {len}");
                    assert!(len % 4 > 0, "{text}, {len}");
                    continue;
                }
            };
            assert_eq!((copied.read, copied.written, read.read, read.written), (len, len, len, 0), "{text}");
            for (id, name) in &ids {
                assert_eq!(copied.value(*id), copied.export(name).unwrap(), "{text}, {len}: {name}");
                assert_eq!(read.value(*id), copied.value(*id), "{text}, {len}: {name}");
            }
        }
    }
}

#[test]
fn imports_continue_a_run() {
    let engine = compile(Composer::new().stage(&inet_cksum(), None, &[], None).unwrap());
    let first = engine.run_read_only(&RFC1071[..4]).unwrap();
    let mut imports = engine.imports();
    imports.set("inet_cksum.sum", first.register("inet_cksum.sum").unwrap()).unwrap();
    let second = engine.with(&imports).unwrap().run_read_only(&RFC1071[4..]).unwrap();
    assert_eq!(second.export("inet_cksum.sum").unwrap(), 0xddf2);
    assert!(matches!(imports.set("inet_cksum.sum", 0x1_0000), Err(RunError::ValueTooWide { .. })));
    assert!(matches!(imports.set("inet_cksum.x", 0), Err(RunError::NoSuchRegister { .. })));
    let other = compile(Composer::new().stage(&inet_cksum(), Some("other"), &[], None).unwrap());
    assert_eq!(other.with(&imports).unwrap_err(), RunError::ForeignImports);
}

#[test]
fn a_stream_is_resumable_at_any_byte() {
    let composer = Composer::new().stage(&inet_cksum(), None, &[], None).unwrap();
    let engine = compile(composer.stage(&byteswap32(), None, &[], None).unwrap());
    let mut out = Vec::new();
    let mut stream = engine.stream();
    for byte in RFC1071 {
        stream.push_to(&[byte], &mut out).unwrap();
    }
    let end = stream.finish().unwrap();
    out.extend_from_slice(end.rest());
    assert_eq!(out, [0x03, 0xf2, 0x01, 0x00, 0xf7, 0xf6, 0xf5, 0xf4]);
    assert_eq!(end.export("inet_cksum.sum").unwrap(), 0xddf2);
    let mut stream = engine.stream();
    stream.push(&[1, 2, 3], &mut [0; 3]).unwrap();
    assert!(matches!(stream.finish(), Err(RunError::Leftover { .. })));
}

/// An engine of one pipeline with these layouts.
fn with_layouts(source: &str, pipeline: &str) -> Engine {
    let mut library = pipe_lib::Library::standard();
    library.load("devices", source).unwrap();
    library.pipeline(pipeline).unwrap().compile().unwrap()
}

#[test]
fn a_stream_stores_whole_accesses_to_a_register() {
    let engine = with_layouts("layout port { store 4 fixed pad 13 }", "byteswap16 -> port");
    let mut register = [0u64; 1];
    // SAFETY: 8 bytes, of which any is a valid value.
    let register = unsafe { std::slice::from_raw_parts_mut(register.as_mut_ptr().cast::<u8>(), 8) };
    let mut stream = engine.stream();
    let mut seen = Vec::new();
    for byte in 1..=10 {
        register.fill(0xee);
        assert_eq!(stream.push(&[byte], register), Ok(0), "a register is never behind");
        seen.push(register[..4].to_vec());
    }
    let kept = vec![0xee; 4];
    let mut expected = vec![kept.clone(); 10];
    (expected[3], expected[7]) = (vec![2, 1, 4, 3], vec![6, 5, 8, 7]);
    assert_eq!((seen, &register[4..]), (expected, &kept[..]));
    assert_eq!((stream.held(), stream.room_at_end()), (2, Some(4)));
    assert!(matches!(stream.clone().finish(), Err(RunError::Layout { .. })));
    assert!(matches!(stream.push_to(&[1], &mut Vec::new()), Err(RunError::Layout { .. })));
    assert!(matches!(
        stream.push(&[1, 2], &mut register[..3]),
        Err(RunError::ShortDestination { needed: 4, have: 3 })
    ));
    assert!(matches!(stream.push(&[1, 2], &mut register[1..]), Err(RunError::Misaligned { .. })));
    assert!(matches!(stream.push_read_only(&[1]), Err(RunError::Layout { .. })), "some of it was written");
    let end = stream.finish_into(register).unwrap();
    assert_eq!((end.read, end.written, end.rest()), (10, 4, &[][..]));
    // The last of four accesses is padding alone.
    assert_eq!(register[..4], [0; 4]);
}

#[test]
fn a_stream_reads_a_register_by_whole_accesses() {
    let engine = with_layouts("layout port { store 4 fixed }", "port -> delta8 | byteswap16");
    let plain = pipe_lib::Library::standard().pipeline("delta8 | byteswap16").unwrap().compile().unwrap();
    // What the register shows changes after every access that was made.
    let shown: Vec<u8> = (0..24u8).map(|i| i.wrapping_mul(37)).collect();
    let mut stream = engine.stream();
    let (mut out, mut accesses, mut taken, mut at) = ([0; 32], 0, 0usize, 0);
    assert!(matches!(stream.push(&[0; 4], &mut out), Err(RunError::Layout { .. })));
    for n in [3, 1, 2, 4, 4, 2, 1, 3] {
        taken += n;
        // No chunk here takes more than one access.
        let is_accessed = accesses < taken.div_ceil(4);
        let mut register = 0xeeee_eeeeu32;
        if is_accessed {
            register = u32::from_ne_bytes(shown[4 * accesses..][..4].try_into().unwrap());
            accesses += 1;
        }
        // SAFETY: one access reads the register, and `out` has room for the stream.
        at += unsafe { stream.push_raw((&raw const register).cast(), n, out[at..].as_mut_ptr()) }.unwrap();
        assert_eq!((stream.read(), stream.source_offset()), (taken as u64, 0));
    }
    let end = stream.finish_into(&mut out[at..]).unwrap();
    let mut expected = [0; 20];
    plain.run(&shown[..20], &mut expected).unwrap();
    assert_eq!((end.read, end.written, &out[..20]), (20, 20, &expected[..]));
}

#[test]
fn a_stream_through_a_device_refuses_before_it_writes() {
    let engine =
        with_layouts("layout bank { store 8 data 8 gap 8 }\nlayout lane { store 2 }", "lane -> bank");
    let mut memory = [u64::from_ne_bytes([7; 8]); 8];
    // SAFETY: 64 bytes, of which any is a valid value.
    let buffer = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast::<u8>(), 64) };
    let mut stream = engine.stream();
    // The first byte of an access waits for the second.
    assert_eq!(stream.push(&[1], buffer), Ok(0));
    assert_eq!((stream.read(), stream.source_offset(), stream.sink_offset()), (0, 1, 0));
    let chunk: Vec<u16> = (0..16).collect();
    // SAFETY: 32 bytes.
    let chunk = unsafe { std::slice::from_raw_parts(chunk.as_ptr().cast::<u8>(), 32) };
    // The rest of an access first: so the next one is one byte further.
    assert!(matches!(stream.push(&chunk[..20], buffer), Err(RunError::Misaligned { .. })));
    assert!(matches!(stream.push(&chunk[1..20], &mut buffer[1..]), Err(RunError::Misaligned { .. })));
    assert!(matches!(
        stream.push(&chunk[1..20], &mut buffer[..23]),
        Err(RunError::ShortDestination { needed: 24, have: 23 })
    ));
    // SAFETY: the chunk is readable, and nothing is written when it is refused.
    let refused = unsafe { stream.push_raw(chunk.as_ptr(), 4, buffer.as_mut_ptr()) };
    assert!(matches!(refused, Err(RunError::Misaligned { .. })), "an access was begun");
    assert!(buffer.iter().all(|&byte| byte == 7));
    assert_eq!(stream.room(19), Some(24));
    assert_eq!(stream.push(&chunk[1..20], buffer), Ok(24));
    assert_eq!((stream.read(), stream.source_offset(), stream.sink_offset(), stream.held()), (20, 20, 24, 4));
    assert_eq!(stream.room_at_end(), Some(16));
    // SAFETY: within the buffer; the two are the same, which is refused.
    let refused = unsafe { stream.push_raw(buffer[32..].as_ptr(), 8, buffer[24..].as_mut_ptr()) };
    assert_eq!(refused.unwrap_err(), RunError::Overlap);
    let end = stream.finish_into(&mut buffer[24..]).unwrap();
    assert_eq!((end.read, end.written), (20, 40));
    let mut expected = [7; 64];
    expected[0] = 1;
    expected[1..8].copy_from_slice(&chunk[1..8]);
    expected[16..24].copy_from_slice(&chunk[8..16]);
    expected[32..36].copy_from_slice(&chunk[16..20]);
    expected[36..40].fill(0);
    assert_eq!(buffer, expected);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn instructions_can_be_chosen() {
    use pipe_lib::Features;
    use pipe_lib::{CompileOptions, Library};
    let pipeline = Library::standard().pipeline("inet_cksum | byteswap32 | crc32c").unwrap();
    let all = CompileOptions::new();
    let src: Vec<u8> = (0..1460u32).map(|i| (i * 7) as u8).collect();
    let (mut wide, mut narrow) = (vec![0; src.len()], vec![0; src.len()]);
    let engine = pipeline.compile_with(&all).unwrap();
    let expected = engine.run(&src, &mut wide).unwrap().export("crc32c.crc").unwrap();
    for names in ["avx2", "avx2,pclmul", "avx512"] {
        let Ok(features) = Features::named(names) else { continue };
        let options = all.clone().features(features);
        let engine = pipeline.compile_with(&options).unwrap();
        let crc = engine.run(&src, &mut narrow).unwrap().export("crc32c.crc").unwrap();
        assert_eq!((crc, &narrow), (expected, &wide), "{names}");
        // The cache keeps engines of different instructions apart.
        assert_ne!(options, all);
    }
    // Without any instruction the native backend refuses.
    let none = Features::named("").unwrap();
    let options = all.backend(Backend::Native).features(none);
    assert!(pipeline.compile_with(&options).is_err());
}
