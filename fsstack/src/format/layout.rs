//! Sizes that the whole image obeys, and little-endian access to fields.

/// Size of a superblock, and alignment of the regions and of large files: what direct IO asks for.
pub const BLOCK_BYTES: u64 = 4096;

/// Alignment of small files that are packed together: a cache line, which is also the widest vector.
pub const SMALL_ALIGN_BYTES: u64 = 64;

/// Files of at least this many bytes start on a block of their own.
pub const LARGE_FILE_BYTES: u64 = 16 * 1024;

/// `offset` rounded up to a multiple of `align`, a power of two; `None` past the end of 64 bits.
pub const fn align_up(offset: u64, align: u64) -> Option<u64> {
    match offset.checked_add(align - 1) {
        Some(sum) => Some(sum & !(align - 1)),
        None => None,
    }
}

macro_rules! fields {
    ($($get:ident $put:ident $ty:ty;)+) => { $(
        #[doc = concat!("The `", stringify!($ty), "` at `offset`, little-endian.\n\n# Panics\nIf the record is shorter: records are fixed in size, so that is a slip in this crate.")]
        pub fn $get(record: &[u8], offset: usize) -> $ty {
            let mut bytes = [0; size_of::<$ty>()];
            bytes.copy_from_slice(&record[offset..offset + size_of::<$ty>()]);
            <$ty>::from_le_bytes(bytes)
        }

        #[doc = concat!("Writes a `", stringify!($ty), "` at `offset`, little-endian.\n\n# Panics\nIf the record is shorter.")]
        pub fn $put(record: &mut [u8], offset: usize, value: $ty) {
            record[offset..offset + size_of::<$ty>()].copy_from_slice(&value.to_le_bytes());
        }
    )+ };
}

fields! {
    get_u16 put_u16 u16;
    get_u32 put_u32 u32;
    get_u64 put_u64 u64;
    get_i64 put_i64 i64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_up_never_wraps() {
        assert_eq!(align_up(0, 64), Some(0));
        assert_eq!(align_up(1, 64), Some(64));
        assert_eq!(align_up(64, 64), Some(64));
        assert_eq!(align_up(u64::MAX - 10, 64), None);
    }

    #[test]
    fn fields_are_little_endian() {
        let mut record = [0; 16];
        put_u32(&mut record, 2, 0x0102_0304);
        assert_eq!(record[2..6], [4, 3, 2, 1]);
        assert_eq!(get_u16(&record, 2), 0x0304);
        put_i64(&mut record, 8, -2);
        assert_eq!(get_u64(&record, 8), u64::MAX - 1);
    }
}
