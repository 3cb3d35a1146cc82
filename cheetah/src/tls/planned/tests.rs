//! However a record is asked for, it is the one that sealing it at once gives.

use proptest::prelude::*;
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::cipher::{AeadKey, Iv};

use super::super::record::{Keys, MAX_OVERHEAD, Version};
use super::*;

/// Bytes, in pieces of so many, of which some may be missing.
struct Pages {
    bytes: Vec<u8>,
    page: usize,
    missing_from: usize,
}

impl Plain for Pages {
    fn visit(&self, offset: u64, len: usize, take: &mut dyn FnMut(&[u8])) {
        let (mut at, end) = (offset as usize, (offset as usize + len).min(self.missing_from));
        while at < end {
            let until = (at / self.page * self.page + self.page).min(end);
            take(&self.bytes[at..until]);
            at = until;
        }
    }
}

fn keys(version: Version) -> Keys {
    let secrets = ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from([7; 32]), iv: Iv::from([9; 12]) };
    Keys::new(version, 3, &secrets, true).unwrap()
}

fn pages(len: usize, page: usize) -> Pages {
    Pages { bytes: (0..len).map(|i| (i * i / 7) as u8).collect(), page, missing_from: len }
}

/// The record, by the way that holds it.
fn whole(version: Version, content: &[u8]) -> Vec<u8> {
    let mut record = vec![0; content.len() + MAX_OVERHEAD];
    let len = keys(version).seal(ContentType::DATA, &[content], content.len(), &mut record).unwrap();
    record.truncate(len);
    record
}

proptest! {
    /// Parts come in order, or once more, or after one that was never made.
    #[test]
    fn whatever_is_asked_for_is_a_part_of_the_record(
        len in 1usize..5000,
        start in 0usize..40,
        page in 1usize..3000,
        tls13 in any::<bool>(),
        asks in prop::collection::vec((any::<prop::sample::Index>(), 1usize..2000, 0u8..4), 1..20),
    ) {
        let version = if tls13 { Version::Tls13 } else { Version::Tls12 };
        let plain = pages(start + len, page);
        let expected = whole(version, &plain.bytes[start..]);
        let planned = keys(version).plan(start as u64, len);
        prop_assert_eq!(planned.sealed_len(), expected.len());
        prop_assert_eq!(planned.plain_end(), (start + len) as u64);
        let mut next = 0;
        for (anywhere, most, what) in asks {
            let from = if what == 0 { anywhere.index(expected.len()) } else { next };
            let until = (from + most).min(expected.len());
            if what != 0 {
                next = until;
            }
            if what == 1 {
                // It was asked for, but the device never made it.
                continue;
            }
            let (mut made, mut sum) = (vec![0xee; until - from], OnesSum::new());
            planned.make(from, &mut made, Some(&mut sum), &plain);
            prop_assert!(made == expected[from..until], "{}..{} of {}", from, until, expected.len());
            prop_assert_eq!(sum.value(), checksum::sum(&made));
        }
        let mut made = vec![0; expected.len()];
        planned.make(0, &mut made, None, &plain);
        prop_assert!(made == expected);
        prop_assert!(!planned.is_spoilt());
    }

    /// Where bytes are missing, zeros are sent, never the key's stream, and no tag.
    #[test]
    fn what_is_missing_is_never_sealed(len in 1usize..3000, missing in any::<prop::sample::Index>(), cut in 1usize..4000) {
        let mut plain = pages(len, 1000);
        let record = whole(Version::Tls13, &plain.bytes);
        plain.missing_from = missing.index(len);
        let planned = keys(Version::Tls13).plan(0, len);
        let mut made = vec![0xee; record.len()];
        let cut = cut.min(made.len());
        let (first, second) = made.split_at_mut(cut);
        planned.make(0, first, None, &plain);
        planned.make(cut, second, None, &plain);
        prop_assert!(planned.is_spoilt());
        let zeros_from = record.iter().zip(&made).position(|(right, made)| right != made).unwrap_or(record.len());
        prop_assert!(zeros_from <= 5 + plain.missing_from || made[zeros_from..].iter().all(|byte| *byte == 0));
        prop_assert!(made[5 + plain.missing_from..].iter().all(|byte| *byte == 0));
        prop_assert_ne!(&made[len + 6..], &record[len + 6..], "the tag");
        // Nor is it ever, when the bytes are there again.
        plain.missing_from = len;
        planned.make(0, &mut made, None, &plain);
        prop_assert_ne!(&made[len + 6..], &record[len + 6..]);
    }
}

#[test]
fn keys_are_not_told() {
    let planned = keys(Version::Tls13).plan(0, 5);
    let told = format!("{planned:?} {:?}", keys(Version::Tls12));
    assert!(told.contains("sequence") && !told.contains("iv") && !told.contains("9, 9"), "{told}");
}
