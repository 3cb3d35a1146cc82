//! From a segment's four numbers to the connection they name.
//!
//! The peer chooses two of the numbers (with many addresses, three), so the hash is keyed (SipHash-1-3 with a secret from
//! the configuration): nobody outside can aim for one bucket and turn a lookup into a walk.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

use crate::tuple::FourTuple;

/// A map from connections to whatever is kept of them.
#[derive(Clone, Debug)]
pub struct Demux<V> {
    map: HashMap<TupleKey, V, Keyed>,
}

impl<V> Demux<V> {
    /// An empty map, keyed with `secret`.
    pub fn new(secret: [u8; 16]) -> Demux<V> {
        Demux { map: HashMap::with_hasher(Keyed::new(secret)) }
    }

    /// What is kept under `tuple`.
    #[inline]
    pub fn get(&self, tuple: &FourTuple) -> Option<&V> {
        self.map.get(&TupleKey(*tuple))
    }

    /// What is kept under `tuple`, to change it.
    #[inline]
    pub fn get_mut(&mut self, tuple: &FourTuple) -> Option<&mut V> {
        self.map.get_mut(&TupleKey(*tuple))
    }

    /// Whether something is kept under `tuple`.
    pub fn contains(&self, tuple: &FourTuple) -> bool {
        self.map.contains_key(&TupleKey(*tuple))
    }

    /// Keeps `value` under `tuple`, giving back what was there.
    pub fn insert(&mut self, tuple: FourTuple, value: V) -> Option<V> {
        self.map.insert(TupleKey(tuple), value)
    }

    /// Forgets `tuple`, giving back what was there.
    pub fn remove(&mut self, tuple: &FourTuple) -> Option<V> {
        self.map.remove(&TupleKey(*tuple))
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// All connections, in no useful order.
    pub fn iter(&self) -> impl Iterator<Item = (&FourTuple, &V)> {
        self.map.iter().map(|(key, value)| (&key.0, value))
    }
}

/// A four-tuple that hashes as one run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TupleKey(FourTuple);

impl Hash for TupleKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.to_bytes());
    }
}

/// Makes SipHash-1-3 hashers of one key.
#[derive(Clone, Copy)]
struct Keyed {
    k0: u64,
    k1: u64,
}

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed(..)") // the secret stays out of logs
    }
}

impl Keyed {
    fn new(secret: [u8; 16]) -> Keyed {
        let value = u128::from_le_bytes(secret);
        Keyed { k0: value as u64, k1: (value >> 64) as u64 }
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    #[inline]
    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { key: *self, hash: 0 }
    }
}

/// Hashes a single `write`.
#[derive(Clone, Copy)]
struct KeyedHasher {
    key: Keyed,
    hash: u64,
}

impl Hasher for KeyedHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.hash = siphash13(self.key.k0, self.key.k1, bytes);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
}

/// SipHash-1-3 (Aumasson and Bernstein 2012): one round a word, three to finish.
#[inline]
pub fn siphash13(k0: u64, k1: u64, bytes: &[u8]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let m = u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]);
        v[3] ^= m;
        sip_round(&mut v);
        v[0] ^= m;
    }
    let mut last = (bytes.len() as u64) << 56;
    for (i, byte) in words.remainder().iter().enumerate() {
        last |= u64::from(*byte) << (8 * i);
    }
    v[3] ^= last;
    sip_round(&mut v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for _ in 0..3 {
        sip_round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline]
fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn hash_is_siphash_1_3() {
        // The standard library's DefaultHasher is SipHash-1-3 with a zero key; `write` adds no length of its own.
        for len in 0..40u8 {
            let bytes: Vec<u8> = (0..len).collect();
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(&bytes);
            assert_eq!(siphash13(0, 0, &bytes), theirs.finish(), "{len}");
        }
        let hashes = [(1, 2), (2, 1), (0, 2), (1, 0)].map(|(k0, k1)| siphash13(k0, k1, &[0; 12]));
        for (i, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..i].contains(hash), "both halves of the key count");
        }
    }

    #[test]
    fn tuples_are_told_apart() {
        let mut demux = Demux::new([7; 16]);
        let tuple = |port| FourTuple {
            local_addr: Ipv4Addr::new(10, 0, 0, 1),
            remote_addr: Ipv4Addr::new(10, 0, 0, 2),
            local_port: 80,
            remote_port: port,
        };
        for port in 0..u16::MAX {
            assert_eq!(demux.insert(tuple(port), u32::from(port)), None);
        }
        assert_eq!(demux.len(), 65_535);
        assert_eq!(demux.get(&tuple(77)), Some(&77));
        assert_eq!(demux.remove(&tuple(77)), Some(77));
        assert_eq!(demux.get(&tuple(77)), None);
        assert_eq!(demux.get(&tuple(78)), Some(&78));
    }
}
