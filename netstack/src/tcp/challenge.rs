//! How many ACKs a stack sends a second in answer to segments that may be forged (RFC 5961 section 10), over
//! all connections: each has a bound of its own (section 7), but a flood that aims at many would still be
//! answered packet by packet.
//!
//! A bound that all share, and that everybody knows, tells an attacker who counts his own challenges whether
//! another connection got some (CVE-2016-5696). So nobody knows it: each second has another, at random from
//! half to one and a half of what is configured, as on Linux.

use std::time::Duration;

use runtime::time::Instant;

use crate::tcp::isn::Secret;
use crate::tuple::FourTuple;

/// Keeps this use of the secret apart from others.
const DOMAIN: u32 = 5;

const SECOND: Duration = Duration::from_secs(1);

/// What is left of this second's.
#[derive(Debug)]
pub(crate) struct Challenges {
    per_second: u32,
    left: u32,
    until: Instant,
}

impl Challenges {
    /// About `per_second` of them; zero: none at all.
    pub(crate) fn new(per_second: u32) -> Challenges {
        Challenges { per_second, left: 0, until: Instant::ZERO }
    }

    /// Whether one more may be sent, about `tuple`; it counts as sent.
    pub(crate) fn may_send(&mut self, now: Instant, secret: &Secret, tuple: &FourTuple) -> bool {
        if now >= self.until {
            self.until = now + SECOND;
            // What nobody knows: which connection is challenged first, and when exactly.
            let random = secret.hash(tuple, DOMAIN ^ (now.as_nanos() as u32).rotate_left(8));
            let half = self.per_second / 2;
            self.left = half + (random % (u64::from(self.per_second) + 1)) as u32;
        }
        let may = self.left > 0;
        self.left -= u32::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    #[test]
    fn each_second_has_another_bound_around_the_one_configured() {
        let tuple = FourTuple::ipv4(
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5000),
        );
        let secret = Secret::new([3; 16]);
        let mut challenges = Challenges::new(100);
        let counts: Vec<_> = (1..40)
            .map(|second| {
                let now = Instant::from_millis(1000 * second);
                (0..1000).filter(|_| challenges.may_send(now, &secret, &tuple)).count()
            })
            .collect();
        assert!(counts.iter().all(|count| (50..=150).contains(count)), "{counts:?}");
        let mean = counts.iter().sum::<usize>() / counts.len();
        assert!((80..=120).contains(&mean), "{counts:?}");
        assert!(counts.windows(2).filter(|pair| pair[0] != pair[1]).count() > 30, "{counts:?}");
        let mut none = Challenges::new(0);
        assert!(!none.may_send(Instant::from_millis(1), &secret, &tuple));
    }
}
