//! Names and paths inside an image, and the hash by which a whole path is found.
//!
//! A path is the names from the root joined by `/`, without a leading or trailing slash; the root's path is
//! empty. Names are bytes, not necessarily UTF-8. Nothing here knows of percent encoding or of the host's
//! paths.

use std::fmt;

/// Longest name of a file or directory, in bytes.
pub const NAME_MAX_BYTES: usize = 255;

/// Longest path, in bytes. Also bounds the depth of the tree.
pub const PATH_MAX_BYTES: usize = 4096;

/// Why a path cannot stand in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// An empty name: a leading, trailing or doubled slash.
    EmptyName,
    /// A name of more than [`NAME_MAX_BYTES`] bytes.
    NameTooLong,
    /// A path of more than [`PATH_MAX_BYTES`] bytes.
    PathTooLong,
    /// The name `.` or `..`, which would mean another place.
    DotName,
    /// A zero byte in a name.
    ZeroByte,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathError::EmptyName => f.write_str("a name is empty"),
            PathError::NameTooLong => write!(f, "a name is longer than {NAME_MAX_BYTES} bytes"),
            PathError::PathTooLong => write!(f, "the path is longer than {PATH_MAX_BYTES} bytes"),
            PathError::DotName => f.write_str("a name is `.` or `..`"),
            PathError::ZeroByte => f.write_str("a name holds a zero byte"),
        }
    }
}

impl core::error::Error for PathError {}

/// Checks one name: not empty, not `.` or `..`, no slash, no zero byte, not too long.
///
/// # Errors
/// The first rule that the name breaks. A slash counts as [`PathError::EmptyName`], since it would end a name
/// there.
pub fn check_name(name: &[u8]) -> Result<(), PathError> {
    if name.is_empty() || name.contains(&b'/') {
        Err(PathError::EmptyName)
    } else if name.len() > NAME_MAX_BYTES {
        Err(PathError::NameTooLong)
    } else if name == b"." || name == b".." {
        Err(PathError::DotName)
    } else if name.contains(&0) {
        Err(PathError::ZeroByte)
    } else {
        Ok(())
    }
}

/// Checks a whole path; the empty path (the root) is fine.
///
/// # Errors
/// The first rule that the path breaks.
pub fn check_path(path: &[u8]) -> Result<(), PathError> {
    if path.len() > PATH_MAX_BYTES {
        return Err(PathError::PathTooLong);
    }
    if path.is_empty() {
        return Ok(());
    }
    path.split(|&byte| byte == b'/').try_for_each(check_name)
}

/// The path of the directory that holds `path`, and the last name; `None` for the root.
pub fn split_parent(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None => Some((&[], path)),
    }
}

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a path in an image's path index: eight bytes at a time, little-endian, the last word padded by
/// zeros.
///
/// Part of the format (`docs/image-format.md`, path index). The seed is chosen by the builder so that no
/// probe is long; a client that asks for paths can therefore not make look-ups slow, whatever it knows about
/// the hash.
pub fn hash(seed: u64, path: &[u8]) -> u64 {
    let mix = |h: u64, word: u64| {
        let product = (h ^ word).wrapping_mul(MULTIPLIER);
        product ^ (product >> 32)
    };
    let mut h = mix(seed, path.len() as u64);
    let (words, rest) = path.as_chunks::<8>();
    for word in words {
        h = mix(h, u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        h = mix(h, u64::from_le_bytes(last));
    }
    mix(h, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_other_places_are_refused() {
        assert_eq!(check_path(b""), Ok(()));
        assert_eq!(check_path(b"a/b.c/...d"), Ok(()));
        assert_eq!(check_path(b"/a"), Err(PathError::EmptyName));
        assert_eq!(check_path(b"a/"), Err(PathError::EmptyName));
        assert_eq!(check_path(b"a//b"), Err(PathError::EmptyName));
        assert_eq!(check_path(b"a/../b"), Err(PathError::DotName));
        assert_eq!(check_path(b"./b"), Err(PathError::DotName));
        assert_eq!(check_path(b"a\0"), Err(PathError::ZeroByte));
        assert_eq!(check_path(&[b'x'; NAME_MAX_BYTES]), Ok(()));
        assert_eq!(check_path(&[b'x'; NAME_MAX_BYTES + 1]), Err(PathError::NameTooLong));
        assert_eq!(check_path(&b"x/".repeat(3000)), Err(PathError::PathTooLong));
        assert_eq!(check_name(b"a/b"), Err(PathError::EmptyName));
    }

    #[test]
    fn parents_are_split_off_at_the_last_slash() {
        assert_eq!(split_parent(b""), None);
        assert_eq!(split_parent(b"a"), Some((&b""[..], &b"a"[..])));
        assert_eq!(split_parent(b"a/b/c"), Some((&b"a/b"[..], &b"c"[..])));
    }

    #[test]
    fn the_hash_is_part_of_the_format() {
        // Worked out by hand from the definition: mix(mix(0, 0), 0) with mix(0, 0) = 0.
        assert_eq!(hash(0, b""), 0);
        // One byte: h = mix(0, 1); h = mix(h, 0x61); h = mix(h, 0).
        let mix = |h: u64, w: u64| {
            let p = u128::from(h ^ w) * 0x9e37_79b9_7f4a_7c15 % (1 << 64);
            (p as u64) ^ (p >> 32) as u64
        };
        assert_eq!(hash(0, b"a"), mix(mix(mix(0, 1), 0x61), 0));
        assert_ne!(hash(0, b"a\0"), hash(0, b"a"));
        assert_ne!(hash(1, b"a"), hash(0, b"a"));
    }
}
