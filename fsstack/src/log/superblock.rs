//! The two blocks that take turns in naming a log's segments.

use super::segment::SegmentKind;
use crate::device::Device;
use crate::format::BadImage;
use crate::format::layout::{BLOCK_BYTES, get_u32, get_u64, put_u32, put_u64};
use crate::format::sums::crc32c;
use crate::fs::OpenError;

/// First bytes of a log.
pub(super) const MAGIC: [u8; 8] = *b"\x89CHLOG\r\n";

const VERSION: u32 = 1;

/// Room for a superblock, of which only what is used is written.
const SLOT_BYTES: u64 = 64 << 10;

/// Where segments may begin: behind both superblocks.
pub(super) const FIRST_SEGMENT: u64 = 2 * SLOT_BYTES;

/// Segments that one superblock can name.
pub(super) const MAX_SEGMENTS: usize = (SLOT_BYTES as usize - OFF_SEGMENTS) / SEGMENT_BYTES;

const OFF_VERSION: usize = 8;
const OFF_CRC: usize = OFF_VERSION + size_of::<u32>();
const OFF_GENERATION: usize = OFF_CRC + size_of::<u32>();
const OFF_NEXT_SEGMENT: usize = OFF_GENERATION + size_of::<u64>();
const OFF_COUNT: usize = OFF_NEXT_SEGMENT + size_of::<u64>();
const OFF_RESERVED: usize = OFF_COUNT + size_of::<u32>();
const OFF_SEGMENTS: usize = 64;

const SEGMENT_NUMBER: usize = 0;
const SEGMENT_OFFSET: usize = SEGMENT_NUMBER + size_of::<u64>();
const SEGMENT_LEN: usize = SEGMENT_OFFSET + size_of::<u64>();
const SEGMENT_KIND: usize = SEGMENT_LEN + size_of::<u64>();
const SEGMENT_CRC: usize = SEGMENT_KIND + size_of::<u32>();
const SEGMENT_BYTES: usize = SEGMENT_CRC + size_of::<u32>();

/// Where a segment lies, as a superblock says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// No other segment of the log ever has it.
    pub(super) number: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) kind: SegmentKind,
    /// CRC32C of its first block.
    pub(super) crc: u32,
}

impl Place {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// A superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) generation: u64,
    pub(super) next_segment: u64,
    /// Oldest first.
    pub(super) segments: Vec<Place>,
}

impl Superblock {
    /// Where it stands in the log.
    pub(super) fn offset(&self) -> u64 {
        self.generation % 2 * SLOT_BYTES
    }

    /// Whether the segment at `place` is among them.
    pub(super) fn names(&self, place: &Place) -> bool {
        self.segments.iter().any(|named| named.number == place.number)
    }

    /// Whether the oldest segment is a packed one.
    pub(super) fn begins_packed(&self) -> bool {
        self.segments.first().is_some_and(|place| place.kind == SegmentKind::Packed)
    }

    /// Bytes of all segments.
    pub(super) fn total_bytes(&self) -> u64 {
        self.segments.iter().map(|place| place.len).sum()
    }

    /// How many bytes it has.
    pub(super) fn encoded_bytes(&self) -> u64 {
        (OFF_SEGMENTS + self.segments.len() * SEGMENT_BYTES) as u64
    }

    /// Its bytes. There are no more than [`MAX_SEGMENTS`] segments.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; OFF_SEGMENTS + self.segments.len() * SEGMENT_BYTES];
        let b = &mut block[..];
        b[..OFF_VERSION].copy_from_slice(&MAGIC);
        put_u32(b, OFF_VERSION, VERSION);
        put_u64(b, OFF_GENERATION, self.generation);
        put_u64(b, OFF_NEXT_SEGMENT, self.next_segment);
        put_u32(b, OFF_COUNT, self.segments.len() as u32);
        for (record, place) in b[OFF_SEGMENTS..].chunks_exact_mut(SEGMENT_BYTES).zip(&self.segments) {
            put_u64(record, SEGMENT_NUMBER, place.number);
            put_u64(record, SEGMENT_OFFSET, place.offset);
            put_u64(record, SEGMENT_LEN, place.len);
            put_u32(record, SEGMENT_KIND, place.kind.code());
            put_u32(record, SEGMENT_CRC, place.crc);
        }
        let crc = crc32c(0, b);
        put_u32(b, OFF_CRC, crc);
        block
    }

    /// The newer of the two that are sound.
    ///
    /// # Errors
    /// If neither is, what is wrong with the first.
    pub(super) fn load(device: &dyn Device) -> Result<Superblock, OpenError> {
        let len = device.len_bytes()?;
        let read = |at: u64| -> Result<Superblock, OpenError> {
            let rest = len.saturating_sub(at).min(SLOT_BYTES);
            let mut block = vec![0; rest as usize];
            device.read_at(at, &mut block)?;
            Ok(Superblock::decode(&block, at, len)?)
        };
        match (read(0), read(SLOT_BYTES)) {
            (Ok(a), Ok(b)) => Ok(if b.generation > a.generation { b } else { a }),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            (Err(error), Err(_)) => Err(error),
        }
    }

    /// Checks all that can be checked without the segments, given the length of the log.
    fn decode(slot: &[u8], at: u64, log_bytes: u64) -> Result<Superblock, BadImage> {
        let bad = |field: usize, what: &str, expected: String, found: String| {
            Err(BadImage::new(at + field as u64, format!("log's superblock, {what}"), expected, found))
        };
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let Some(head) = slot.get(..OFF_SEGMENTS).filter(|head| head.starts_with(&MAGIC)) else {
            return bad(0, "magic", text(&MAGIC), text(slot.get(..OFF_VERSION).unwrap_or_default()));
        };
        let count = get_u32(head, OFF_COUNT) as usize;
        // What lies behind the last segment is left from another generation.
        let Some(b) = slot.get(..OFF_SEGMENTS + count.min(MAX_SEGMENTS) * SEGMENT_BYTES) else {
            return bad(OFF_COUNT, "segments", "as many as there are".into(), count.to_string());
        };
        let version = get_u32(b, OFF_VERSION);
        if version != VERSION {
            return bad(OFF_VERSION, "version", VERSION.to_string(), version.to_string());
        }
        let (crc, found) =
            (get_u32(b, OFF_CRC), crc32c(crc32c(crc32c(0, &b[..OFF_CRC]), &[0; 4]), &b[OFF_GENERATION..]));
        if crc != found {
            return bad(OFF_CRC, "CRC32C of the block", format!("{found:#010x}"), format!("{crc:#010x}"));
        }
        let generation = get_u64(b, OFF_GENERATION);
        if generation % 2 * SLOT_BYTES != at || generation >= u64::MAX - 1 {
            let expected = "one that stands in this block".into();
            return bad(OFF_GENERATION, "generation", expected, generation.to_string());
        }
        let next_segment = get_u64(b, OFF_NEXT_SEGMENT);
        if count > MAX_SEGMENTS {
            return bad(OFF_COUNT, "segments", format!("at most {MAX_SEGMENTS}"), count.to_string());
        }
        if let Some(i) = (OFF_RESERVED..OFF_SEGMENTS).find(|&i| b[i] != 0) {
            return bad(i, "reserved byte", "0".into(), b[i].to_string());
        }
        let mut segments: Vec<Place> = Vec::with_capacity(count);
        for (i, record) in b[OFF_SEGMENTS..].chunks_exact(SEGMENT_BYTES).enumerate() {
            let field = OFF_SEGMENTS + i * SEGMENT_BYTES;
            let (number, offset, len) = (
                get_u64(record, SEGMENT_NUMBER),
                get_u64(record, SEGMENT_OFFSET),
                get_u64(record, SEGMENT_LEN),
            );
            let known = segments.iter().any(|other| other.number == number);
            if known || number >= next_segment {
                let expected = format!("one of its own, below {next_segment}");
                return bad(field, "number of a segment", expected, number.to_string());
            }
            let fits = offset.checked_add(len).is_some_and(|end| end <= log_bytes);
            if offset < FIRST_SEGMENT || !offset.is_multiple_of(BLOCK_BYTES) || !fits {
                let expected = format!("whole blocks within {FIRST_SEGMENT} to {log_bytes}");
                return bad(
                    field + SEGMENT_OFFSET,
                    "place of a segment",
                    expected,
                    format!("{offset} + {len}"),
                );
            }
            let code = get_u32(record, SEGMENT_KIND);
            let kind = SegmentKind::of(code).filter(|&kind| kind != SegmentKind::Packed || i == 0);
            let Some(kind) = kind else {
                let expected = "2 or 3, or 1 for the oldest".into();
                return bad(field + SEGMENT_KIND, "kind of a segment", expected, code.to_string());
            };
            segments.push(Place { number, offset, len, kind, crc: get_u32(record, SEGMENT_CRC) });
        }
        let mut by_place = segments.clone();
        by_place.sort_by_key(|place| place.offset);
        if let Some([one, two]) = by_place.array_windows().find(|[one, two]| one.end() > two.offset) {
            let found = format!("{} and {}", one.number, two.number);
            return bad(OFF_SEGMENTS, "segments", "no overlap".into(), found);
        }
        Ok(Superblock { generation, next_segment, segments })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceMut, MemoryDevice};
    use proptest::prelude::*;

    fn sample(generation: u64) -> Superblock {
        let place = |number, offset, kind| Place { number, offset, len: 4096, kind, crc: 7 };
        let segments = vec![
            place(3, FIRST_SEGMENT + 4096, SegmentKind::Packed),
            place(9, FIRST_SEGMENT, SegmentKind::Changes),
        ];
        Superblock { generation, next_segment: 10, segments }
    }

    fn device(blocks: &[&Superblock]) -> MemoryDevice {
        let mut device = MemoryDevice::new();
        device.write_at(FIRST_SEGMENT + 8191, &[0]).unwrap();
        for block in blocks {
            device.write_at(block.offset(), &block.encode()[..]).unwrap();
        }
        device
    }

    #[test]
    fn the_newer_sound_block_counts() {
        let (old, new) = (sample(4), sample(5));
        assert_eq!(Superblock::load(&device(&[&old, &new])).unwrap(), new);
        assert_eq!(Superblock::load(&device(&[&old])).unwrap(), old);
        let mut torn = device(&[&old, &new]);
        torn.write_at(SLOT_BYTES + 70, &[1]).unwrap();
        assert_eq!(Superblock::load(&torn).unwrap(), old);
        assert!(Superblock::load(&device(&[])).is_err());
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let refused = |change: &dyn Fn(&mut Superblock)| {
            let mut block = sample(4);
            change(&mut block);
            Superblock::load(&device(&[&block])).unwrap_err().to_string()
        };
        assert!(refused(&|b| b.segments[1].offset = FIRST_SEGMENT + 4096).contains("no overlap"));
        assert!(refused(&|b| b.segments[1].offset = 8000).contains("place"));
        assert!(refused(&|b| b.segments[1].len = u64::MAX).contains("place"));
        assert!(refused(&|b| b.segments[1].number = 3).contains("number"));
        assert!(refused(&|b| b.segments[1].number = 10).contains("number"));
        assert!(refused(&|b| b.segments.swap(0, 1)).contains("kind"));
        assert!(refused(&|b| b.generation = u64::MAX - 1).contains("generation"));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_found(at in 0usize..128, bit in 0u8..8) {
            let mut block = sample(4).encode();
            block[at] ^= 1 << bit;
            prop_assert!(Superblock::decode(&block, 0, 1 << 20).is_err());
        }
    }
}
