//! From a segment's four numbers to the connection they name.
//!
//! The peer chooses two of the numbers (with many addresses, three), so the hash is keyed (SipHash-1-3 with a
//! secret from the configuration): nobody outside can aim for one bucket and turn a lookup into a walk.

use std::collections::HashMap;
use std::hash::BuildHasher;

use siphasher::sip::SipHasher13;

use crate::tuple::{Bytes, FourTuple, TupleBytes};

/// A map from connections to whatever is kept of them. One of each family, so that an entry of IPv4's is
/// small.
#[derive(Clone, Debug)]
pub struct Demux<V> {
    v4: HashMap<Bytes<12>, V, Keyed>,
    v6: HashMap<Bytes<36>, V, Keyed>,
}

impl<V> Demux<V> {
    /// An empty map, keyed with `secret`.
    pub fn new(secret: [u8; 16]) -> Demux<V> {
        let keyed = Keyed::new(secret);
        Demux { v4: HashMap::with_hasher(keyed), v6: HashMap::with_hasher(keyed) }
    }

    /// What is kept under `tuple`.
    #[inline]
    pub fn get(&self, tuple: &FourTuple) -> Option<&V> {
        match tuple.bytes() {
            TupleBytes::V4(key) => self.v4.get(&key),
            TupleBytes::V6(key) => self.v6.get(&key),
        }
    }

    /// What is kept under `tuple`, to change it.
    #[inline]
    pub fn get_mut(&mut self, tuple: &FourTuple) -> Option<&mut V> {
        match tuple.bytes() {
            TupleBytes::V4(key) => self.v4.get_mut(&key),
            TupleBytes::V6(key) => self.v6.get_mut(&key),
        }
    }

    /// Whether something is kept under `tuple`.
    pub fn contains(&self, tuple: &FourTuple) -> bool {
        self.get(tuple).is_some()
    }

    /// Keeps `value` under `tuple`, giving back what was there.
    pub fn insert(&mut self, tuple: FourTuple, value: V) -> Option<V> {
        match tuple.bytes() {
            TupleBytes::V4(key) => self.v4.insert(key, value),
            TupleBytes::V6(key) => self.v6.insert(key, value),
        }
    }

    /// Forgets `tuple`, giving back what was there.
    pub fn remove(&mut self, tuple: &FourTuple) -> Option<V> {
        match tuple.bytes() {
            TupleBytes::V4(key) => self.v4.remove(&key),
            TupleBytes::V6(key) => self.v6.remove(&key),
        }
    }

    /// What is kept under pairs of IPv4, or of IPv6, in no order.
    pub fn values(&self, of_ipv4: bool) -> impl Iterator<Item = &V> {
        let v4 = of_ipv4.then(|| self.v4.values()).into_iter().flatten();
        v4.chain((!of_ipv4).then(|| self.v6.values()).into_iter().flatten())
    }

    /// Forgets all pairs of IPv4, or of IPv6, giving back what was there, in no order.
    pub fn take(&mut self, of_ipv4: bool) -> Vec<V> {
        if of_ipv4 {
            self.v4.drain().map(|(_, value)| value).collect()
        } else {
            self.v6.drain().map(|(_, value)| value).collect()
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
        let tuple = FourTuple::ipv4(
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5000),
        );
        let TupleBytes::V4(key) = tuple.bytes() else { panic!("{tuple:?} is of IPv4") };
        let with = |at: usize| {
            let mut secret = [0; 16];
            secret[at] = 1;
            Keyed::new(secret).hash_one(key)
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
        let wide = FourTuple::new("[::1]:80".parse().unwrap(), "[::2]:78".parse().unwrap());
        assert_eq!(demux.get(&wide), None);
        assert_eq!(demux.insert(wide, 1), None);
        assert_eq!((demux.get(&wide), demux.get(&tuple(78)), demux.len()), (Some(&1), Some(&78), 65_535));
        assert_eq!(demux.remove(&wide), Some(1));
    }
}
