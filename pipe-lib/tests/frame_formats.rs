//! The standard frames against other hands: the crates `crc` and `flate2` make and take what ours take and
//! make.

use crc::{CRC_16_T10_DIF, CRC_32_ISCSI, CRC_32_ISO_HDLC, CRC_64_NVME, Crc};
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder, ZlibDecoder, ZlibEncoder};
use pipe_lib::{Engine, Library, RunError};
use std::io::Read as _;

const T10: Crc<u16> = Crc::<u16>::new(&CRC_16_T10_DIF);
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
const CRC64: Crc<u64> = Crc::<u64>::new(&CRC_64_NVME);

fn engine(pipeline: &str) -> Engine {
    let pipeline = Library::standard().pipeline(pipeline).unwrap_or_else(|errors| panic!("{errors}"));
    pipeline.compile().unwrap()
}

fn data(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 21) as u8).collect()
}

fn run(engine: &Engine, input: &[u8]) -> Result<Vec<u8>, RunError> {
    let mut out = vec![0; engine.out_len(input.len())?];
    let run = engine.run(input, &mut out)?;
    assert_eq!(run.written, out.len());
    Ok(out)
}

/// Ours puts in what the other hand does; takes it out again; and refuses it with any bit of a window's
/// fields or one of its data turned over.
fn agrees(put: &str, take: &str, plain: &[u8], framed: &[u8], window: usize, fields: usize) {
    assert!(run(&engine(put), plain).unwrap() == framed, "{put}");
    let take_out = engine(take);
    assert!(run(&take_out, framed).unwrap() == plain, "{take}");
    let mut places: Vec<usize> =
        (framed.len().min(window + fields) - fields..framed.len().min(window + fields)).collect();
    places.extend([0, window / 2].map(|at| at.min(framed.len() - 1)));
    for at in places {
        let mut bad = framed.to_vec();
        bad[at] ^= 0x40;
        let refused = run(&take_out, &bad);
        assert!(
            matches!(refused, Err(RunError::Mismatch(_))),
            "{take}: byte {at}: {:?}",
            refused.map(|out| out.len())
        );
    }
}

#[test]
fn t10_protection_information() {
    for size in [512, 4096] {
        let suffix = if size == 512 { "" } else { "_4k" };
        for kind in [1, 3] {
            let plain = data(size * 9);
            let mut framed = Vec::new();
            for (index, block) in plain.chunks(size).enumerate() {
                let counted = if kind == 1 { index as u32 } else { 0 };
                framed.extend_from_slice(block);
                framed.extend_from_slice(&T10.checksum(block).to_be_bytes());
                framed.extend_from_slice(&0x1234u16.to_be_bytes());
                framed.extend_from_slice(&0x00ff_fffdu32.wrapping_add(counted).to_be_bytes());
            }
            let tags =
                if kind == 1 { "app = 0x1234, lba = 0xfffffd" } else { "app = 0x1234, ref = 0xfffffd" };
            let (frame, crc) = (format!("t10_pi{kind}{suffix}({tags})"), format!("crc16_t10dif per {size}"));
            agrees(&format!("{crc} -> {frame}"), &format!("{frame} -> {crc}"), &plain, &framed, size, 8);
            // The guard alone.
            assert!(run(&engine(&format!("t10_guard{suffix} -> {crc}")), &framed).unwrap() == plain);
        }
    }
}

#[test]
fn nvme_protection_information_of_64_bits() {
    let plain = data(4096 * 5);
    let mut framed = Vec::new();
    for (index, block) in plain.chunks(4096).enumerate() {
        framed.extend_from_slice(block);
        framed.extend_from_slice(&CRC64.checksum(block).to_be_bytes());
        framed.extend_from_slice(&0xabcd_u16.to_be_bytes());
        framed.extend_from_slice(&(77 + index as u64).to_be_bytes()[2..]);
    }
    let frame = format!("nvme_pi64(tags = {:#x})", 0xabcd_0000_0000_0000_u64 + 77);
    let crc = "crc64_nvme per 4096";
    agrees(&format!("{crc} -> {frame}"), &format!("{frame} -> {crc}"), &plain, &framed, 4096, 16);
}

#[test]
fn digests_check_sequences_and_blocks() {
    for len in [1, 48, 512, 1460, 8191] {
        let plain = data(len);
        let with = |foot: [u8; 4]| [&plain[..], &foot[..]].concat();
        let digest = with(CRC32C.checksum(&plain).to_le_bytes());
        agrees("crc32c -> crc32c_digest", "crc32c_digest -> crc32c", &plain, &digest, len, 4);
        let fcs = with(CRC32.checksum(&plain).to_le_bytes());
        agrees("crc32 -> ethernet_fcs", "ethernet_fcs -> crc32", &plain, &fcs, len, 4);
    }
    let plain = data(16352 * 3);
    let block = |data: &[u8]| [&CRC32C.checksum(data).to_le_bytes()[..], &[0; 28], data].concat();
    let framed: Vec<u8> = plain.chunks(16352).flat_map(block).collect();
    let crc = "crc32c per 16352";
    agrees(&format!("{crc} -> btrfs_block"), &format!("btrfs_block -> {crc}"), &plain, &framed, 0, 32);
    // ext4 complements at neither end, and starts from the inode's seed.
    let seed = 0x1234_5678_u32;
    let chained = CRC32C.digest_with_initial(seed.reverse_bits());
    let plain = data(4084 * 2);
    let tail = |data: &[u8]| {
        let mut digest = chained.clone();
        digest.update(data);
        [data, &[0, 0, 0, 0, 12, 0, 0, 0xde], &(!digest.finalize()).to_le_bytes()].concat()
    };
    let framed: Vec<u8> = plain.chunks(4084).flat_map(tail).collect();
    let crc = "crc32c_from(seed = 0x12345678) per 4084";
    agrees(
        &format!("{crc} -> ext4_dir_block"),
        &format!("ext4_dir_block -> {crc}"),
        &plain,
        &framed,
        4084,
        12,
    );
}

#[test]
fn trailers_of_gzip_and_zlib() {
    for len in [0, 1, 100, 70_000] {
        let plain = data(len);
        let (mut gzip, mut zlib) = (Vec::new(), Vec::new());
        GzEncoder::new(&plain[..], Compression::fast()).read_to_end(&mut gzip).unwrap();
        ZlibEncoder::new(&plain[..], Compression::fast()).read_to_end(&mut zlib).unwrap();
        // Theirs is taken by ours.
        let of = |stream: &[u8], bytes: usize| [&plain[..], &stream[stream.len() - bytes..]].concat();
        let (theirs_gzip, theirs_zlib) = (of(&gzip, 8), of(&zlib, 4));
        assert!(run(&engine("gzip_trailer -> crc32"), &theirs_gzip).unwrap() == plain);
        assert!(run(&engine("zlib_trailer -> adler32"), &theirs_zlib).unwrap() == plain);
        // Ours is taken by theirs.
        let ours = run(&engine("crc32 -> gzip_trailer"), &plain).unwrap();
        let at = gzip.len() - 8;
        gzip[at..].copy_from_slice(&ours[len..]);
        let ours = run(&engine("adler32 -> zlib_trailer"), &plain).unwrap();
        let at = zlib.len() - 4;
        zlib[at..].copy_from_slice(&ours[len..]);
        let mut back = Vec::new();
        GzDecoder::new(&gzip[..]).read_to_end(&mut back).unwrap();
        assert!(back == plain);
        back.clear();
        ZlibDecoder::new(&zlib[..]).read_to_end(&mut back).unwrap();
        assert!(back == plain);
    }
    let bad = engine("gzip_trailer -> crc32").run_read_only(b"abc1234").unwrap_err();
    assert!(matches!(bad, RunError::FrameLength { .. }), "{bad}");
}

#[test]
fn digests_of_other_crates_are_as_published() {
    let library = Library::standard();
    let is_digest = |test: &&pipe_lib::library::TestCase| {
        test.pipeline.composition().stages.iter().any(|stage| stage.pipe.digest.is_some())
    };
    let mut count = 0;
    for test in library.tests().filter(is_digest) {
        let engine = test.pipeline.compile().unwrap();
        assert_eq!(test.run(&engine), Ok(()), "{}", test.title);
        count += 1;
    }
    assert!(count > 18, "{count}");
}
