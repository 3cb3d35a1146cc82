//! TCP Fast Open at the server (RFC 7413): what a client asks in its SYN is answered before the handshake is
//! complete, if the SYN brings a cookie that we gave this address before, which proves that nobody forged it.
//!
//! A cookie is a keyed hash of the client's address and of the hour, good for that hour and the next; the
//! server keeps nothing. Connections whose handshake is not complete are bounded (section 5.1), since who got
//! a cookie may still flood: beyond, a SYN is treated as any other, and its text comes again.
//!
//! A network may double a SYN, and a client may send it again after the connection is over: a server that
//! turns this on takes text in SYNs more than once now and then (section 6.1).

use std::net::SocketAddr;

use runtime::time::Instant;

use crate::tcp::isn::Secret;
use crate::tuple::FourTuple;
use crate::wire::tcp::FAST_OPEN_COOKIE_LEN;

/// Keeps cookies apart from the other uses of the secret, which hash ports too.
const DOMAIN: u32 = 6 << 28;

/// How long a cookie is the current one.
const SLOT_S: u64 = 3600;

/// The cookie of the client of `tuple` at `now`.
pub(crate) fn cookie(secret: &Secret, now: Instant, tuple: &FourTuple) -> [u8; FAST_OPEN_COOKIE_LEN] {
    made(secret, slot(now), tuple)
}

/// Whether we gave this cookie to the client of `tuple`, and whether it will be good for long.
pub(crate) fn check(
    secret: &Secret,
    now: Instant,
    tuple: &FourTuple,
    cookie: [u8; FAST_OPEN_COOKIE_LEN],
) -> Option<CookieLifetime> {
    let slot = slot(now);
    if cookie == made(secret, slot, tuple) {
        Some(CookieLifetime::Current)
    } else if cookie == made(secret, slot.wrapping_sub(1), tuple) {
        Some(CookieLifetime::Ending)
    } else {
        None
    }
}

/// How much longer a cookie is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieLifetime {
    /// For this hour and the next.
    Current,
    /// For this hour: the client gets another.
    Ending,
}

fn slot(now: Instant) -> u32 {
    (now.as_millis() / 1000 / SLOT_S) as u32
}

fn made(secret: &Secret, slot: u32, tuple: &FourTuple) -> [u8; FAST_OPEN_COOKIE_LEN] {
    let addresses =
        FourTuple::new(SocketAddr::new(tuple.local_addr(), 0), SocketAddr::new(tuple.remote_addr(), 0));
    secret.hash(&addresses, DOMAIN | slot & (DOMAIN - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn tuple(host: u8, port: u16) -> FourTuple {
        FourTuple::ipv4(
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, host), port),
        )
    }

    #[test]
    fn a_cookie_is_its_address_s_for_two_hours() {
        let secret = Secret::new([9; 16]);
        let at = |minutes: u64| Instant::from_millis(minutes * 60_000);
        let given = cookie(&secret, at(30), &tuple(2, 5000));
        assert_eq!(check(&secret, at(59), &tuple(2, 6000), given), Some(CookieLifetime::Current));
        assert_eq!(check(&secret, at(61), &tuple(2, 6000), given), Some(CookieLifetime::Ending));
        assert_eq!(check(&secret, at(121), &tuple(2, 6000), given), None);
        assert_eq!(check(&secret, at(31), &tuple(3, 5000), given), None);
        assert_eq!(check(&Secret::new([8; 16]), at(31), &tuple(2, 5000), given), None);
        assert_ne!(given, [0; 8]);
    }
}
