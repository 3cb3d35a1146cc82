//! SYN cookies (RFC 4987 section 3.6; Bernstein, 1996): when the backlog is full, a SYN is answered without
//! keeping anything. What a record would hold is in the numbers of the SYN-ACK, which the peer's ACK brings
//! back, under a keyed hash that nobody else can make:
//!
//! ```text
//!   ISS   | 5 bits: time slot | 3 bits: MSS | 24 bits: hash of pair, ISN of the peer, slot, MSS |
//!   TSval | our clock but for its low 6 bits | 1 bit: SACK | 1 bit: scaled | 4 bits: the peer's window scale |
//! ```
//!
//! Without timestamps there is no room for window scale and SACK, and the connection does without.

use runtime::time::Instant;

use crate::tcp::Config;
use crate::tcp::isn::Secret;
use crate::tcp::pcb::{Agreed, syn_window, window_scale};
use crate::tcp::segment::{Outgoing, Segment};
use crate::tcp::seq::SeqNumber;
use crate::tcp::state::syn_sent::{MIN_MSS, effective_mss};
use crate::tuple::FourTuple;
use crate::wire::tcp::{Flags, Options, SackBlocks, Timestamps};

/// Segment sizes that a cookie can name; the greatest that is not above the peer's counts.
const MSS: [u16; 8] = [MIN_MSS, 536, 1024, 1300, 1400, 1440, 1460, 8960];

/// A cookie is good for this slot of time and the next: one to two minutes.
const SLOT_SECONDS: u64 = 64;

/// Keeps cookies' hashes apart from the other uses of the secret.
const DOMAIN: u32 = 0x5c00_0000;

/// How long after the last cookie was sent one may come back.
pub(crate) const LIFETIME: std::time::Duration = std::time::Duration::from_secs(2 * SLOT_SECONDS);

/// The SYN-ACK that carries the cookie.
pub(crate) fn syn_ack(
    now: Instant,
    secret: &Secret,
    tuple: &FourTuple,
    segment: &Segment<'_>,
    link_mss: u16,
    config: &Config,
) -> Outgoing {
    let offered = &segment.options;
    let mss = effective_mss(offered.mss).min(link_mss);
    let index = MSS.iter().rposition(|&size| size <= mss).unwrap_or(0) as u32;
    let slot = slot(now);
    let iss = (slot & 31) << 27 | index << 24 | hash(secret, tuple, segment.seq, slot, index);
    let timestamps = offered.timestamps.filter(|_| config.timestamps).map(|theirs| {
        let clock = (now.as_millis() as u32).wrapping_add(secret.timestamp_offset(tuple));
        let scale = offered.window_scale.map_or(0, |scale| 16 | u32::from(scale));
        let sack = u32::from(offered.sack_permitted && config.sack) << 5;
        // Rounded down: the clock must not seem to run back when the connection's own segments follow.
        let value = (clock.wrapping_sub(63) & !63) | sack | scale;
        Timestamps { value, echo_reply: theirs.value }
    });
    let carries = timestamps.is_some();
    Outgoing {
        options: Options {
            mss: Some(link_mss),
            window_scale: offered.window_scale.filter(|_| carries).map(|_| window_scale(config)),
            sack_permitted: offered.sack_permitted && config.sack && carries,
            sack: SackBlocks::NONE,
            fast_open: None,
            timestamps,
        },
        window: syn_window(config),
        ..Outgoing::bare(SeqNumber(iss), segment.seq + 1, Flags::SYN.with(Flags::ACK))
    }
}

/// What was agreed on, if the ACK brings a cookie of ours back.
pub(crate) fn check(
    now: Instant,
    secret: &Secret,
    tuple: &FourTuple,
    segment: &Segment<'_>,
    link_mss: u16,
    config: &Config,
) -> Option<Agreed> {
    let flags = segment.flags;
    if !flags.ack() || flags.intersects(Flags::SYN.with(Flags::RST)) {
        return None;
    }
    let (iss, irs) = (segment.ack - 1, segment.seq - 1);
    let index = iss.0 >> 24 & 7;
    let current = slot(now);
    let made = [current, current.wrapping_sub(1)].into_iter().find(|slot| slot & 31 == iss.0 >> 27)?;
    if iss.0 & 0xff_ffff != hash(secret, tuple, irs, made, index) {
        return None;
    }
    let ts_offset = secret.timestamp_offset(tuple);
    let timestamps = segment.options.timestamps.filter(|_| config.timestamps);
    let bits = timestamps.map_or(0, |timestamps| timestamps.echo_reply);
    let scale = (bits & 16 != 0).then_some((bits & 15).min(14) as u8);
    Some(Agreed {
        iss,
        irs,
        snd_wnd: u32::from(segment.window) << scale.unwrap_or(0),
        mss: MSS[index as usize].min(link_mss),
        snd_scale: scale.unwrap_or(0),
        rcv_scale: if scale.is_some() { window_scale(config) } else { 0 },
        sack_permitted: bits & 32 != 0 && config.sack,
        timestamps: timestamps.is_some(),
        ts_recent: timestamps.map_or(0, |timestamps| timestamps.value),
        ts_offset,
        // There is no bit left to remember it by.
        ecn: false,
        syn_was_lost: false,
        rtt: None,
    })
}

fn slot(now: Instant) -> u32 {
    (now.as_millis() / 1000 / SLOT_SECONDS) as u32
}

/// 24 bits.
fn hash(secret: &Secret, tuple: &FourTuple, irs: SeqNumber, slot: u32, index: u32) -> u32 {
    let mixed = secret.hash(tuple, irs.0) ^ u64::from(slot << 3 | index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    secret.hash(tuple, DOMAIN ^ mixed as u32 ^ (mixed >> 32) as u32) as u32 & 0xff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    const TUPLE: FourTuple = FourTuple::ipv4(
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5000),
    );

    fn syn(options: Options) -> Segment<'static> {
        Segment {
            seq: SeqNumber(u32::MAX),
            ack: SeqNumber(0),
            flags: Flags::SYN,
            window: 1000,
            urgent: 0,
            options,
            payload: &[],
            is_congested: false,
        }
    }

    fn reply(syn_ack: &Outgoing, now: u32) -> Segment<'static> {
        let timestamps =
            syn_ack.options.timestamps.map(|ours| Timestamps { value: now, echo_reply: ours.value });
        Segment {
            seq: syn_ack.ack,
            ack: syn_ack.seq + 1,
            flags: Flags::ACK,
            window: 1000,
            urgent: 0,
            options: Options { timestamps, ..Options::NONE },
            payload: &[],
            is_congested: false,
        }
    }

    #[test]
    fn what_was_offered_comes_back() {
        let (secret, config) = (Secret::new([5; 16]), Config::default());
        for (mss, expected) in
            [(None, 536), (Some(1460), 1460), (Some(1459), 1440), (Some(9000), 1460), (Some(1), MIN_MSS)]
        {
            for timestamps in [None, Some(Timestamps { value: 77, echo_reply: 0 })] {
                for (window_scale, sack_permitted) in
                    [(None, false), (Some(7), true), (Some(0), false), (Some(14), true)]
                {
                    let offer = Options { mss, window_scale, sack_permitted, timestamps, ..Options::NONE };
                    let sent = Instant::from_millis(60_000_000);
                    let syn_ack = syn_ack(sent, &secret, &TUPLE, &syn(offer), 1460, &config);
                    for later in [0, 64_000] {
                        let now = sent + std::time::Duration::from_millis(later);
                        let ack = reply(&syn_ack, 78);
                        let agreed = check(now, &secret, &TUPLE, &ack, 1460, &config).expect("our cookie");
                        assert_eq!((agreed.irs, agreed.mss), (SeqNumber(u32::MAX), expected));
                        let carried = timestamps.is_some();
                        assert_eq!(agreed.timestamps, carried);
                        assert_eq!(agreed.sack_permitted, sack_permitted && carried);
                        assert_eq!(agreed.snd_scale, window_scale.filter(|_| carried).unwrap_or(0));
                        assert_eq!(agreed.rcv_scale > 0, window_scale.is_some() && carried);
                        assert_eq!(syn_ack.options.window_scale.is_some(), window_scale.is_some() && carried);
                    }
                }
            }
        }
    }

    #[test]
    fn forged_stolen_and_stale_ones_do_not_count() {
        let (secret, config) = (Secret::new([5; 16]), Config::default());
        let sent = Instant::from_millis(60_000_000);
        let syn_ack = syn_ack(sent, &secret, &TUPLE, &syn(Options::NONE), 1460, &config);
        let ack = reply(&syn_ack, 0);
        let accepts = |now, secret: &Secret, tuple: &FourTuple, segment: &Segment<'_>| {
            check(now, secret, tuple, segment, 1460, &config).is_some()
        };
        assert!(accepts(sent, &secret, &TUPLE, &ack));
        assert!(!accepts(sent + 3 * LIFETIME, &secret, &TUPLE, &ack));
        assert!(!accepts(sent, &Secret::new([6; 16]), &TUPLE, &ack));
        assert!(!accepts(
            sent,
            &secret,
            &FourTuple::ipv4(
                SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80),
                SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5001)
            ),
            &ack
        ));
        assert!(!accepts(sent, &secret, &TUPLE, &Segment { seq: ack.seq + 1, ..ack }));
        for bit in 0..32 {
            let forged = Segment { ack: SeqNumber(ack.ack.0 ^ 1 << bit), ..ack };
            assert!(!accepts(sent, &secret, &TUPLE, &forged), "bit {bit}");
        }
    }
}
