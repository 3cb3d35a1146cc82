//! Initial sequence numbers, RFC 6528: ISN = M + F(socket pair, secret), with M a clock of 4 microseconds and F a keyed
//! hash. Also gives each connection the offset of its timestamp clock (RFC 7323 section 5.4).
//!
//! The keyed hash is SipHash-2-4 (Aumasson and Bernstein, 2012).

use runtime::time::Instant;

use crate::tcp::seq::SeqNumber;
use crate::tuple::FourTuple;

/// The secret that makes sequence numbers unpredictable from outside.
#[derive(Clone, Copy, Debug)]
pub struct Secret {
    k0: u64,
    k1: u64,
}

impl Secret {
    /// From sixteen random bytes.
    pub fn new(bytes: [u8; 16]) -> Secret {
        let half = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Secret { k0: half(0), k1: half(8) }
    }

    /// The initial sequence number for a connection begun at `now`.
    pub fn initial_seq(&self, tuple: &FourTuple, now: Instant) -> SeqNumber {
        let clock = (now.as_nanos() / 4_000) as u32;
        SeqNumber(clock.wrapping_add(self.hash(tuple, 0) as u32))
    }

    /// What the connection's timestamp clock starts from, in milliseconds.
    pub fn timestamp_offset(&self, tuple: &FourTuple) -> u32 {
        self.hash(tuple, 1) as u32
    }

    /// A keyed hash of the socket pair; `domain` keeps uses apart.
    pub fn hash(&self, tuple: &FourTuple, domain: u32) -> u64 {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&tuple.to_bytes());
        bytes[12..].copy_from_slice(&domain.to_le_bytes());
        self.siphash(&bytes)
    }

    fn siphash(&self, bytes: &[u8]) -> u64 {
        let mut v = [
            self.k0 ^ 0x736f_6d65_7073_6575,
            self.k1 ^ 0x646f_7261_6e64_6f6d,
            self.k0 ^ 0x6c79_6765_6e65_7261,
            self.k1 ^ 0x7465_6462_7974_6573,
        ];
        let mut compress = |word: u64| {
            v[3] ^= word;
            round(&mut v);
            round(&mut v);
            v[0] ^= word;
        };
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut le = [0; 8];
            le.copy_from_slice(word);
            compress(u64::from_le_bytes(le));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        last[7] = bytes.len() as u8;
        compress(u64::from_le_bytes(last));
        v[2] ^= 0xff;
        for _ in 0..4 {
            round(&mut v);
        }
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

fn round(v: &mut [u64; 4]) {
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
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn siphash_matches_the_papers_vectors() {
        let key: [u8; 16] = std::array::from_fn(|i| i as u8);
        let secret = Secret::new(key);
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(secret.siphash(&input), 0xa129_ca61_49be_45e5, "appendix A of the paper");
        assert_eq!(secret.siphash(&[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(secret.siphash(&input[..8]), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn numbers_grow_with_the_clock_and_differ_between_peers() {
        let secret = Secret::new([7; 16]);
        let tuple = FourTuple {
            local_addr: Ipv4Addr::new(10, 0, 0, 1),
            remote_addr: Ipv4Addr::new(10, 0, 0, 2),
            local_port: 80,
            remote_port: 5000,
        };
        let other = FourTuple { remote_port: 5001, ..tuple };
        let t = Instant::from_millis(1000);
        let isn = secret.initial_seq(&tuple, t);
        assert_eq!(secret.initial_seq(&tuple, Instant::from_millis(1001)) - isn, 250);
        assert_ne!(secret.initial_seq(&other, t), isn);
    }
}
