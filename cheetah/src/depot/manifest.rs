//! Which parts an image has: text, a line each.
//!
//! ```text
//!   cheetah-image 1
//!   5f1c…(64 digits) 270336      the BLAKE3 of a part, its bytes
//! ```

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;

use blake3::Hash;
use fastcdc::v2020::StreamCDC;

use super::invalid;

const MAGIC: &str = "cheetah-image 1";

/// Bytes of a part: where contents say no end within them, there is one.
const PART_BYTES: (usize, usize, usize) = (64 << 10, 256 << 10, 1 << 20);

/// Most bytes of the longest part.
pub(super) const MAX_PART_BYTES: u64 = PART_BYTES.2 as u64;

/// Most bytes of a manifest: of an image of some 200 GB.
pub(super) const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// A stretch of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it holds.
    pub hash: Hash,
    /// Where it begins.
    pub offset: u64,
    /// Its bytes.
    pub len: u64,
}

impl Part {
    /// Its bytes, from `image`.
    ///
    /// # Errors
    /// If they cannot be read, or are others.
    pub(super) fn read(&self, image: &File) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.len as usize];
        image.read_exact_at(&mut bytes, self.offset)?;
        self.check(&bytes)?;
        Ok(bytes)
    }

    pub(super) fn check(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 == self.len && blake3::hash(bytes) == self.hash {
            return Ok(());
        }
        Err(invalid(format!("{} has another hash than its name", super::part_name(&self.hash))))
    }
}

/// The parts of an image, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    parts: Vec<Part>,
}

impl Manifest {
    /// Cuts `image` into parts.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(image: &File) -> io::Result<Manifest> {
        let (min, mean, max) = PART_BYTES;
        let mut parts = Vec::new();
        for cut in StreamCDC::new(image, min, mean, max) {
            let cut = cut.map_err(io::Error::other)?;
            parts.push(Part { hash: blake3::hash(&cut.data), offset: cut.offset, len: cut.length as u64 });
        }
        Ok(Manifest { parts })
    }

    /// The parts: they lie one behind the other.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Bytes of the image.
    pub fn bytes(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.offset + part.len)
    }

    /// What the image is called: the BLAKE3 of its manifest, in hexadecimal digits.
    pub fn name(&self) -> String {
        blake3::hash(self.to_string().as_bytes()).to_hex().to_string()
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC}")?;
        self.parts.iter().try_for_each(|part| writeln!(f, "{} {}", part.hash.to_hex(), part.len))
    }
}

/// The text is no manifest: its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestError(pub usize);

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of an image's parts is none that cheetah writes", self.0)
    }
}

impl core::error::Error for ManifestError {}

impl FromStr for Manifest {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Manifest, ManifestError> {
        let mut lines = text.strip_suffix('\n').ok_or(ManifestError(0))?.split('\n').zip(1..);
        if lines.next().map(|(line, _)| line) != Some(MAGIC) {
            return Err(ManifestError(1));
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut offset = 0_u64;
        for (line, number) in lines {
            let part = line.split_once(' ').and_then(|(hash, len)| {
                // As written: no sign, no zero in front.
                let value: u64 = len.parse().ok().filter(|value: &u64| value.to_string() == len)?;
                let hash = Hash::from_hex(hash).ok().filter(|value| value.to_hex().as_str() == hash)?;
                (1..=MAX_PART_BYTES).contains(&value).then_some(Part { hash, offset, len: value })
            });
            let part = part.ok_or(ManifestError(number))?;
            offset += part.len;
            parts.push(part);
        }
        Ok(Manifest { parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn noise(len: usize, seed: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    }

    #[test]
    fn a_byte_more_in_front_leaves_most_parts_as_they_are() {
        let bytes = noise(4 << 20, b"a");
        let before = Manifest::of(&file(&bytes)).unwrap();
        let after = Manifest::of(&file(&[b"x", &bytes[..]].concat())).unwrap();
        assert_eq!((before.bytes(), after.bytes()), (4 << 20, (4 << 20) + 1));
        let known = |part: &&Part| before.parts().iter().any(|other| other.hash == part.hash);
        let kept = after.parts().iter().filter(known).count();
        assert!(kept + 2 >= after.parts().len() && kept > 8, "{kept} of {}", after.parts().len());
    }

    #[test]
    fn parts_are_the_image() {
        let bytes = noise(3_000_000, b"b");
        let image = file(&bytes);
        let manifest = Manifest::of(&image).unwrap();
        let read: Vec<Vec<u8>> = manifest.parts().iter().map(|part| part.read(&image).unwrap()).collect();
        assert_eq!(read.concat(), bytes);
        assert_eq!(manifest.to_string().parse(), Ok(manifest.clone()));
        let other = Part { hash: blake3::hash(b"other"), ..manifest.parts()[0] };
        assert!(other.read(&image).unwrap_err().to_string().contains("another hash"));
    }

    #[test]
    fn what_is_no_manifest_is_told_by_its_line() {
        let hash = blake3::hash(b"").to_hex().to_string();
        for (text, line) in [
            (String::new(), 0),
            ("cheetah-image 2\n".to_owned(), 1),
            (format!("{MAGIC}\n{hash} 1"), 0),
            (format!("{MAGIC}\n{hash} 0\n"), 2),
            (format!("{MAGIC}\n{hash} 1\n{hash} 1048577\n"), 3),
            (format!("{MAGIC}\n{hash} +1\n"), 2),
            (format!("{MAGIC}\n{} 1\n", hash.to_uppercase()), 2),
            (format!("{MAGIC}\n\n"), 2),
        ] {
            assert_eq!(text.parse::<Manifest>(), Err(ManifestError(line)), "{text}");
        }
        assert_eq!(format!("{MAGIC}\n").parse(), Ok(Manifest::default()));
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_would_be_written(text in "(cheetah-image 1\n)?([0-9a-f]{64} [0-9]{1,7}\n){0,3}\\PC{0,5}") {
            if let Ok(manifest) = text.parse::<Manifest>() {
                prop_assert_eq!(manifest.to_string(), text);
            }
        }
    }
}
