//! From a segment's four numbers to the connection they name.
//!
//! The peer chooses two of the numbers (with many addresses, three), so the hash is keyed (SipHash-1-3 with a secret from
//! the configuration): nobody outside can aim for one bucket and turn a lookup into a walk.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};

use siphasher::sip::SipHasher13;

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
        self.0.hashed(|bytes| state.write(bytes));
    }
}

/// Makes SipHash-1-3 hashers (Aumasson and Bernstein 2012) of one key.
#[derive(Clone, Copy)]
struct Keyed(SipHasher13);

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed(..)") // the secret stays out of logs
    }
}

impl Keyed {
    fn new(secret: [u8; 16]) -> Keyed {
        Keyed(SipHasher13::new_with_key(&secret))
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;

    #[inline]
    fn build_hasher(&self) -> SipHasher13 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;

    #[test]
    fn the_whole_secret_counts() {
        let tuple = TupleKey(FourTuple::ipv4(
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5000),
        ));
        let with = |at: usize| {
            let mut secret = [0; 16];
            secret[at] = 1;
            Keyed::new(secret).hash_one(tuple)
        };
        let hashes: Vec<u64> = (0..16).map(with).collect();
        for (i, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..i].contains(hash), "byte {i}");
        }
    }

    #[test]
    fn tuples_are_told_apart() {
        let mut demux = Demux::new([7; 16]);
        let tuple = |port| {
            FourTuple::ipv4(
                SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
                SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), port),
            )
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
