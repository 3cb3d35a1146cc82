//! The superblock: the first block of an image, copied into its last.
//!
//! Reading one is a typestate: bytes become an [`Unchecked`] superblock, which gives nothing away before
//! [`Unchecked::check`] has compared magic, checksum, version, features and sizes.

use super::BadImage;
use super::layout::{BLOCK_BYTES, get_u32, get_u64, put_u32, put_u64};
use super::page_sums;
use super::sums::crc32c;
use super::{extent, index, inode};

/// First bytes of an image. Not text: a transfer that rewrites line ends or strips the eighth bit shows at
/// once.
pub const MAGIC: [u8; 8] = *b"\x89CHIMG\r\n";

/// Version of the format that this crate writes.
pub const VERSION: u32 = 3;

/// The oldest version that it reads: without sums of pages.
pub const OLDEST_VERSION: u32 = 1;

/// Of `features`: inodes say what is wanted together.
pub const GROUPS: u64 = 1;

/// Of `features`: files may have several names.
pub const LINKS: u64 = 2;

/// Bits of `features` that this crate understands. An unknown bit means that the image cannot be read.
pub const KNOWN_FEATURES: u64 = GROUPS | LINKS;

/// Size of a superblock.
pub const BYTES: usize = BLOCK_BYTES as usize;

/// Bounds of `sum_block_bytes`, a power of two: below, sums cost more than they save; above, they fit no
/// segment.
pub const SUM_BLOCK_BYTES: std::ops::RangeInclusive<u32> = 64..=65_536;

// Offsets within the superblock.
const OFF_MAGIC: usize = 0;
const OFF_VERSION: usize = OFF_MAGIC + MAGIC.len();
const OFF_CRC: usize = OFF_VERSION + size_of::<u32>();
const OFF_FEATURES: usize = OFF_CRC + size_of::<u32>();
const OFF_IMAGE_ID: usize = OFF_FEATURES + size_of::<u64>();
const OFF_GENERATION: usize = OFF_IMAGE_ID + size_of::<[u8; 16]>();
const OFF_IMAGE_BYTES: usize = OFF_GENERATION + size_of::<u64>();
const OFF_CONTENT_BYTES: usize = OFF_IMAGE_BYTES + size_of::<u64>();
const OFF_HASH_SEED: usize = OFF_CONTENT_BYTES + size_of::<u64>();
const OFF_BLOCK_BYTES: usize = OFF_HASH_SEED + size_of::<u64>();
const OFF_SUM_BLOCK_BYTES: usize = OFF_BLOCK_BYTES + size_of::<u32>();
const OFF_MAX_PROBE: usize = OFF_SUM_BLOCK_BYTES + size_of::<u32>();
const OFF_RESERVED: usize = OFF_MAX_PROBE + size_of::<u32>();
const OFF_SECTIONS: usize = 128;

// Offsets within a section descriptor.
const SECTION_OFFSET: usize = 0;
const SECTION_LEN: usize = SECTION_OFFSET + size_of::<u64>();
const SECTION_ENTRY: usize = SECTION_LEN + size_of::<u64>();
const SECTION_CRC: usize = SECTION_ENTRY + size_of::<u32>();
const SECTION_BYTES: usize = SECTION_CRC + size_of::<u32>();

const _: () = assert!(OFF_RESERVED <= OFF_SECTIONS);
/// The tables that make up the metadata, in the order in which they stand in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// Fixed-size records, one a file or directory.
    Inodes,
    /// Where the contents lie.
    Extents,
    /// Every path, in the order of the inodes.
    Paths,
    /// Hash table from path to inode.
    Index,
    /// A checksum of each page of the data region, since version 2; and of the tables before this one, since
    /// version 3.
    PageSums,
}

impl SectionKind {
    /// Every section, in order.
    pub const ALL: [SectionKind; 5] = [
        SectionKind::Inodes,
        SectionKind::Extents,
        SectionKind::Paths,
        SectionKind::Index,
        SectionKind::PageSums,
    ];

    /// Those of an image of that version, in order.
    pub const fn of(version: u32) -> &'static [SectionKind] {
        match version {
            0..2 => Self::ALL.split_at(4).0,
            _ => &Self::ALL,
        }
    }

    /// Name for people.
    pub const fn name(self) -> &'static str {
        match self {
            SectionKind::Inodes => "inode table",
            SectionKind::Extents => "extent table",
            SectionKind::Paths => "path heap",
            SectionKind::Index => "path index",
            SectionKind::PageSums => "page sums",
        }
    }

    /// Bytes of one entry.
    pub const fn entry_bytes(self) -> u32 {
        match self {
            SectionKind::Inodes => inode::BYTES as u32,
            SectionKind::Extents => extent::BYTES as u32,
            SectionKind::Paths => 1,
            SectionKind::Index => index::SLOT_BYTES as u32,
            SectionKind::PageSums => page_sums::BYTES as u32,
        }
    }
}

/// Where a table of the metadata lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Byte offset in the image.
    pub offset: u64,
    /// Length in bytes, a multiple of the entry's size.
    pub len: u64,
    /// CRC32C of those bytes.
    pub crc: u32,
}

/// A superblock whose every field has been checked against the image's length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Version of the format, from [`OLDEST_VERSION`] to [`VERSION`].
    pub version: u32,
    /// Feature bits; see [`KNOWN_FEATURES`].
    pub features: u64,
    /// Derived from the metadata: equal trees have equal ids, on any machine.
    pub image_id: [u8; 16],
    /// Chosen by who built the image; larger is newer.
    pub generation: u64,
    /// Length of the whole image.
    pub image_bytes: u64,
    /// Sum of the sizes of all files.
    pub content_bytes: u64,
    /// Seed of [`crate::path::hash`].
    pub hash_seed: u64,
    /// Bytes of content for each partial Internet checksum; 0 when the image has none.
    pub sum_block_bytes: u32,
    /// Most slots that a look-up in the path index has to visit.
    pub max_probe: u32,
    /// The tables, indexed by [`SectionKind`]; those that the version does not have are empty.
    pub sections: [Section; 5],
}

impl Superblock {
    /// The descriptor of one table.
    pub fn section(&self, kind: SectionKind) -> Section {
        self.sections[kind as usize]
    }

    /// Whether files may have several names.
    pub fn has_links(&self) -> bool {
        self.features & LINKS != 0
    }

    /// Whether inodes say what is wanted together.
    pub fn has_groups(&self) -> bool {
        self.features & GROUPS != 0
    }

    /// Whether the page sums are of the metadata, too: since version 3.
    pub fn sums_cover_metadata(&self) -> bool {
        self.version >= 3
    }

    /// Offset just past the pages that have sums.
    pub fn summed_end(&self) -> u64 {
        if self.sums_cover_metadata() { self.section(SectionKind::PageSums).offset } else { self.data_end() }
    }

    /// Offset just past the data region: where the metadata begins.
    pub fn data_end(&self) -> u64 {
        self.section(SectionKind::Inodes).offset
    }

    /// The block as it stands in the image, checksum included.
    pub fn encode(&self) -> Box<[u8; BYTES]> {
        let mut block = Box::new([0; BYTES]);
        let b = &mut block[..];
        b[OFF_MAGIC..OFF_VERSION].copy_from_slice(&MAGIC);
        put_u32(b, OFF_VERSION, self.version);
        put_u64(b, OFF_FEATURES, self.features);
        b[OFF_IMAGE_ID..OFF_GENERATION].copy_from_slice(&self.image_id);
        put_u64(b, OFF_GENERATION, self.generation);
        put_u64(b, OFF_IMAGE_BYTES, self.image_bytes);
        put_u64(b, OFF_CONTENT_BYTES, self.content_bytes);
        put_u64(b, OFF_HASH_SEED, self.hash_seed);
        put_u32(b, OFF_BLOCK_BYTES, BLOCK_BYTES as u32);
        put_u32(b, OFF_SUM_BLOCK_BYTES, self.sum_block_bytes);
        put_u32(b, OFF_MAX_PROBE, self.max_probe);
        for &kind in SectionKind::of(self.version) {
            let section = self.section(kind);
            let at = OFF_SECTIONS + SECTION_BYTES * kind as usize;
            put_u64(b, at + SECTION_OFFSET, section.offset);
            put_u64(b, at + SECTION_LEN, section.len);
            put_u32(b, at + SECTION_ENTRY, kind.entry_bytes());
            put_u32(b, at + SECTION_CRC, section.crc);
        }
        let crc = crc32c(0, b);
        put_u32(b, OFF_CRC, crc);
        block
    }
}

/// A block that claims to be a superblock.
#[derive(Debug)]
pub struct Unchecked<'a> {
    bytes: &'a [u8; BYTES],
    at: u64,
}

impl<'a> Unchecked<'a> {
    /// The block that stands at offset `at` of the image; not looked at yet.
    pub fn new(bytes: &'a [u8; BYTES], at: u64) -> Unchecked<'a> {
        Unchecked { bytes, at }
    }

    /// Checks everything that can be checked without the tables themselves, given the length of the image.
    ///
    /// # Errors
    /// The first field that does not hold, with its offset.
    pub fn check(self, image_bytes: u64) -> Result<Superblock, BadImage> {
        let b = &self.bytes[..];
        let bad = |field: usize, what: &str, expected: String, found: String| {
            Err(BadImage::new(self.at + field as u64, format!("superblock, {what}"), expected, found))
        };
        if b[OFF_MAGIC..OFF_VERSION] != MAGIC {
            return bad(OFF_MAGIC, "magic", hex(&MAGIC), hex(&b[OFF_MAGIC..OFF_VERSION]));
        }
        // Version before checksum: a later version may compute its checksum over something else.
        let version = get_u32(b, OFF_VERSION);
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            let expected = format!("{OLDEST_VERSION} to {VERSION}");
            return bad(OFF_VERSION, "version", expected, version.to_string());
        }
        let crc = get_u32(b, OFF_CRC);
        let actual = crc32c(crc32c(crc32c(0, &b[..OFF_CRC]), &[0; 4]), &b[OFF_FEATURES..]);
        if crc != actual {
            return bad(OFF_CRC, "CRC32C of the block", format!("{actual:#010x}"), format!("{crc:#010x}"));
        }
        let features = get_u64(b, OFF_FEATURES);
        if features & !KNOWN_FEATURES != 0 {
            let known = format!("only bits of {KNOWN_FEATURES:#x}");
            return bad(OFF_FEATURES, "features", known, format!("{features:#x}"));
        }
        let claimed = get_u64(b, OFF_IMAGE_BYTES);
        if claimed != image_bytes {
            let what = "length of the image";
            return bad(
                OFF_IMAGE_BYTES,
                what,
                format!("{image_bytes}, the length of the file"),
                claimed.to_string(),
            );
        }
        let block_bytes = get_u32(b, OFF_BLOCK_BYTES);
        if u64::from(block_bytes) != BLOCK_BYTES {
            return bad(OFF_BLOCK_BYTES, "block size", BLOCK_BYTES.to_string(), block_bytes.to_string());
        }
        let sum_block_bytes = get_u32(b, OFF_SUM_BLOCK_BYTES);
        let sums_fine = SUM_BLOCK_BYTES.contains(&sum_block_bytes) && sum_block_bytes.is_power_of_two();
        if sum_block_bytes != 0 && !sums_fine {
            let expected = "0 or a power of two from 64 to 65536".into();
            return bad(
                OFF_SUM_BLOCK_BYTES,
                "bytes for each partial sum",
                expected,
                sum_block_bytes.to_string(),
            );
        }
        let max_probe = get_u32(b, OFF_MAX_PROBE);
        if max_probe > index::MAX_PROBE {
            let expected = format!("at most {}", index::MAX_PROBE);
            return bad(OFF_MAX_PROBE, "longest probe", expected, max_probe.to_string());
        }
        let end = OFF_SECTIONS + SECTION_BYTES * SectionKind::of(version).len();
        if let Some(i) = (OFF_RESERVED..OFF_SECTIONS).chain(end..BYTES).find(|&i| b[i] != 0) {
            return bad(i, "reserved byte", "0".into(), b[i].to_string());
        }
        let mut image_id = [0; 16];
        image_id.copy_from_slice(&b[OFF_IMAGE_ID..OFF_GENERATION]);
        Ok(Superblock {
            version,
            features,
            image_id,
            generation: get_u64(b, OFF_GENERATION),
            image_bytes,
            content_bytes: get_u64(b, OFF_CONTENT_BYTES),
            hash_seed: get_u64(b, OFF_HASH_SEED),
            sum_block_bytes,
            max_probe,
            sections: self.sections(version, image_bytes)?,
        })
    }

    /// The tables lie in order, without overlap, between the first block and the superblock's copy in the
    /// last one.
    fn sections(&self, version: u32, image_bytes: u64) -> Result<[Section; 5], BadImage> {
        let b = &self.bytes[..];
        let mut sections = [Section::default(); 5];
        let limit = image_bytes.saturating_sub(BLOCK_BYTES);
        let mut least = BLOCK_BYTES;
        for &kind in SectionKind::of(version) {
            let at = OFF_SECTIONS + SECTION_BYTES * kind as usize;
            let bad = |field: usize, what: &str, expected: String, found: u64| {
                let what = format!("superblock, {what} of the {}", kind.name());
                BadImage::new(self.at + (at + field) as u64, what, expected, found.to_string())
            };
            let offset = get_u64(b, at + SECTION_OFFSET);
            let len = get_u64(b, at + SECTION_LEN);
            let entry = get_u32(b, at + SECTION_ENTRY);
            if entry != kind.entry_bytes() {
                return Err(bad(SECTION_ENTRY, "entry size", kind.entry_bytes().to_string(), entry.into()));
            }
            if offset < least || offset > limit {
                return Err(bad(SECTION_OFFSET, "offset", format!("{least} to {limit}"), offset));
            }
            if len > limit - offset {
                return Err(bad(SECTION_LEN, "length", format!("at most {}", limit - offset), len));
            }
            if !len.is_multiple_of(u64::from(entry)) {
                return Err(bad(SECTION_LEN, "length", format!("a multiple of {entry}"), len));
            }
            sections[kind as usize] = Section { offset, len, crc: get_u32(b, at + SECTION_CRC) };
            least = offset + len;
        }
        Ok(sections)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
