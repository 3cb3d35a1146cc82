//! How large segments may be on their path: what routers say of it, and what is found where none says
//! anything.

use runtime::time::Instant;

use super::Pcb;
use crate::tcp::Config;
use crate::wire::ipv6;

/// How long a report of a smaller path is believed (RFC 1191 section 6.3: 10 minutes).
const PATH_MTU_LIFETIME_S: u32 = 600;

/// What all current stacks take for the least.
const MIN_PATH_MTU: u16 = 552;

/// So many time-outs in a row, of full segments, make the path suspect; so many the next size, too.
const BLACK_HOLE_TIME_OUTS: u8 = 2;
const SMALLER_BLACK_HOLE_TIME_OUTS: u8 = 4;

impl Pcb {
    /// A router says that packets above `mtu` do not get through (RFC 1191 section 4). What is in flight is
    /// sent again in smaller segments; the loss is no sign of congestion. Whether it was news. Segments get
    /// no smaller than packets of 552 bytes, or reports would make us send headers, mostly: beyond, routers
    /// may cut them, as on Linux.
    pub(crate) fn path_mtu_is(&mut self, now: Instant, mtu: u16, config: &Config) -> bool {
        let headers_len = self.tuple.headers_len();
        let is_ipv4 = self.tuple.ipv4_addrs().is_some();
        let least = if is_ipv4 { MIN_PATH_MTU } else { ipv6::MIN_MTU };
        let mss = (mtu.max(least) - headers_len).min(self.snd.mss);
        // RFC 8201 section 4: of IPv6 nothing is less than the least.
        let may_fragment = is_ipv4 && mtu < mss + headers_len;
        let is_news = mss < self.snd.mss || (may_fragment && !self.snd.may_fragment);
        if !is_news || !self.state.is_synchronized() {
            return false;
        }
        self.shrink_segments(now, mss);
        self.snd.may_fragment |= may_fragment;
        if self.snd.max != self.snd.una {
            let view = self.view(now);
            if let Some(held) = self.outstanding.get_mut() {
                held.reduction = None;
                held.recovery.all_lost(&view);
            }
            self.await_time_out(now, now + self.rtt.rto(config), config);
        }
        true
    }

    /// Full segments do not arrive, again and again, and no router says why: the path may swallow what is too
    /// large for it (RFC 2923 section 2.1). RFC 4821 would probe for the size; here what every path is known
    /// to carry is tried, of IPv6 or, where that does not help either, of IPv4. If that was not the reason,
    /// it costs some headers for ten minutes.
    pub(super) fn suspect_the_size(&mut self, now: Instant, flight: u32) {
        let is_ipv4 = self.tuple.ipv4_addrs().is_some();
        let mtu = match self.unanswered {
            BLACK_HOLE_TIME_OUTS => ipv6::MIN_MTU,
            SMALLER_BLACK_HOLE_TIME_OUTS if is_ipv4 => MIN_PATH_MTU,
            _ => return,
        };
        let mss = mtu - self.tuple.headers_len();
        if mss < self.snd.mss && flight >= u32::from(self.snd.mss) {
            self.shrink_segments(now, mss);
        }
    }

    /// Segments carry `mss` bytes at most from now on, until the path is tried anew.
    fn shrink_segments(&mut self, now: Instant, mss: u16) {
        let before = self.snd.mss_before_path.as_ref().map_or(self.snd.mss, |before| before.0);
        self.snd.mss_before_path = Some(Box::new((before, seconds(now))));
        self.snd.mss = mss;
        self.congestion.set_smss(self.timestamps.smss(mss));
    }

    /// Paths change: some time after the last report the largest segments are tried again, and a path that is
    /// still small says so (RFC 1191 section 6.3).
    pub(crate) fn try_larger_path(&mut self, now: Instant) {
        if let Some(&(before, reported_at)) = self.snd.mss_before_path.as_deref()
            && seconds(now).wrapping_sub(reported_at) >= PATH_MTU_LIFETIME_S
        {
            self.snd.mss_before_path = None;
            self.snd.mss = before;
            self.snd.may_fragment = false;
            self.congestion.set_smss(self.timestamps.smss(before));
        }
    }
}

fn seconds(now: Instant) -> u32 {
    (now.as_millis() / 1000) as u32
}
