//! Initial sequence numbers, RFC 6528: ISN = M + F(socket pair, secret), with M a clock of 4 microseconds and
//! F a keyed hash. Also gives each connection the offset of its timestamp clock (RFC 7323 section 5.4).
//!
//! The keyed hash is SipHash-2-4 (Aumasson and Bernstein, 2012).

use std::hash::Hasher as _;

use runtime::time::Instant;
use siphasher::sip::SipHasher24;

use crate::tcp::seq::SeqNumber;
use crate::tuple::FourTuple;

/// The secret that makes sequence numbers unpredictable from outside.
#[derive(Clone, Copy)]
pub(crate) struct Secret(SipHasher24);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// From sixteen random bytes.
    pub(crate) fn new(bytes: [u8; 16]) -> Secret {
        Secret(SipHasher24::new_with_key(&bytes))
    }

    /// The initial sequence number for a connection begun at `now`.
    pub(crate) fn initial_seq(&self, tuple: &FourTuple, now: Instant) -> SeqNumber {
        let clock = (now.as_nanos() / 4_000) as u32;
        SeqNumber(clock.wrapping_add(self.hash(tuple, 0) as u32))
    }

    /// What the connection's timestamp clock starts from, in milliseconds.
    pub(crate) fn timestamp_offset(&self, tuple: &FourTuple) -> u32 {
        self.hash(tuple, 1) as u32
    }

    /// A keyed hash of the socket pair; `domain` keeps uses apart.
    pub(crate) fn hash(&self, tuple: &FourTuple, domain: u32) -> u64 {
        let mut hasher = self.0;
        hasher.write_u32(domain);
        hasher.write(tuple.bytes().as_slice());
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    #[test]
    fn numbers_grow_with_the_clock_and_differ_between_peers() {
        let secret = Secret::new([7; 16]);
        let tuple = FourTuple::ipv4(
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5000),
        );
        let other = FourTuple::ipv4(
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5001),
        );
        let t = Instant::from_millis(1000);
        let isn = secret.initial_seq(&tuple, t);
        assert_eq!(secret.initial_seq(&tuple, Instant::from_millis(1001)) - isn, 250);
        assert_ne!(secret.initial_seq(&other, t), isn);
    }
}
