//! Streams longer than 4 GiB: offsets and lengths of 32 bits would show.

use pipe_lib::{Backend, Library};

/// A file of 64 MiB, again and again: 4 GiB and 5 bytes.
#[test]
fn more_than_4_gib() {
    let engine = Library::standard()
        .pipeline("inet_cksum as sum | count_byte(b=7) as sevens")
        .unwrap()
        .compile()
        .unwrap();
    if engine.backend() == Backend::Interp {
        println!("skipped: interpreting 4 GiB takes minutes; no code generator takes this pipeline here");
        return;
    }
    let mut piece = vec![0; 64 << 20];
    piece[1] = 1;
    piece[1000] = 7;
    let rest = [7, 0, 0, 0, 9];
    let mut pieces = vec![&piece[..]; 64];
    pieces.push(&rest);
    let run = engine.run_vectored_read_only(&pieces).unwrap();
    assert_eq!(run.read as u64, (4 << 30) + 5);
    // Each file sums to 0x0001 + 0x0700; the rest, its odd byte padded, to 0x0700 + 0x0900.
    let sum = (64 * 0x0701 + 0x1000) as u64;
    assert_eq!(run.export("sum.sum").unwrap(), (sum & 0xffff) + (sum >> 16));
    assert_eq!(run.export("sevens.count").unwrap(), 65);
    let mut stream = engine.stream();
    for piece in &pieces {
        stream.push_read_only(piece).unwrap();
    }
    let end = stream.finish().unwrap();
    assert_eq!(end.export("sum.sum").unwrap(), run.export("sum.sum").unwrap());
    assert_eq!(end.export("sevens.count").unwrap(), 65);
}

/// The same with stores, windows and the place in the stream, which needs more than 32 bits.
#[test]
fn more_than_4_gib_written_in_chunks() {
    let mut library = Library::standard();
    let stamp = "pipe stamp : u64le { in x; pos p; shr high, p, 32; xor y, x, high; out y }";
    library.load("stamp.pipe", stamp).unwrap();
    let pipeline = library.pipeline("stamp | count_byte(b=1) as ones per 1073741824").unwrap();
    let engine = pipeline.compile().unwrap();
    if engine.backend() == Backend::Interp {
        println!("skipped: interpreting 4 GiB takes minutes; no code generator takes this pipeline here");
        return;
    }
    let chunk = vec![0; 64 << 20];
    let mut out = vec![9; chunk.len() + 8];
    let mut stream = engine.stream();
    for at in 0..65 {
        out[..8].fill(9);
        out[chunk.len() - 8..].fill(9);
        let written = stream.push(&chunk, &mut out).unwrap();
        assert_eq!(written, chunk.len());
        let word = u64::from(at >= 64).to_le_bytes();
        assert_eq!((&out[..8], &out[written - 8..written]), (&word[..], &word[..]), "chunk {at}");
    }
    let end = stream.finish().unwrap();
    assert_eq!(end.run.written as u64, 65 << 26);
    assert_eq!(end.run.windows("ones.count").unwrap(), [0, 0, 0, 0, (64 << 20) / 8]);
}
