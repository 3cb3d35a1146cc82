//! CUBIC (RFC 9438): between losses the window follows a cubic of time, steep far below the window of the
//! last loss, flat near it, steep beyond; on paths where Reno would be faster it does as Reno.
//!
//! ```text
//!   W_cubic(t) = C (t - K)^3 + W_max        C = 0.4 segments/s^3, K = cbrt((W_max - cwnd_epoch) / C)
//! ```
//!
//! Windows are in bytes, times in milliseconds, all in integers. Sections are RFC 9438's.

use crate::tcp::congestion::hystart::{self, Growth, HyStart};
use crate::tcp::congestion::{Acked, CongestionControl, MAX_CWND, initial_window, window_is_used};

/// BETA (section 4.6), as a fraction: 0.7.
const BETA: (u32, u32) = (7, 10);

/// ALPHA (section 4.3), 3 (1 - BETA) / (1 + BETA): what makes it as fast as Reno with that BETA.
const ALPHA: (u64, u64) = (9, 17);

/// More than 17 minutes from the plateau, the cubic has no more to say; keeps products in 64 bits.
const MAX_OFFSET_MS: i64 = 1 << 20;

/// The state of one connection. What a stage alone needs is in the stage: there are many connections.
#[derive(Clone, Debug)]
pub(crate) struct Cubic {
    cwnd: u32,
    ssthresh: u32,
    smss: u16,
    /// Of the byte that cwnd has not grown by yet: parts of 2^-16.
    fraction: u16,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The first slow start: RFC 9406 section 4.2 has HyStart++ for no other.
    First(HyStart),
    /// Congestion avoidance, and slow start towards it.
    Avoidance(Avoidance),
}

#[derive(Clone, Debug, Default)]
struct Avoidance {
    /// W_max: where the plateau lies.
    w_max: u32,
    /// cwnd_prior: the window before it was last reduced.
    cwnd_prior: u32,
    /// t_epoch, in milliseconds modulo 2^32.
    start_ms: u32,
    /// K.
    k_ms: u32,
    /// W_est, and parts of 2^-16 of its next byte.
    w_est: u32,
    w_est_fraction: u16,
    /// When the window last grew.
    grown_ms: u32,
    /// The three before are set.
    has_begun: bool,
    /// The last ACK left the window unused: time that passes so does not count (section 5.8).
    is_paused: bool,
}

impl Avoidance {
    /// The plateau is where it begins (sections 4.8 and 4.10).
    fn at(cwnd: u32) -> Avoidance {
        Avoidance { w_max: cwnd, cwnd_prior: cwnd, ..Avoidance::default() }
    }

    /// Section 4.2: it begins with its first ACK.
    fn begin(&mut self, now_ms: u32, cwnd: u32, smss: u16) {
        self.w_max = self.w_max.max(cwnd);
        self.k_ms = cube_root(u64::from(self.w_max - cwnd) * 2_500_000_000 / u64::from(smss));
        (self.start_ms, self.grown_ms, self.has_begun) = (now_ms, now_ms, true);
        (self.w_est, self.w_est_fraction) = (cwnd, 0);
    }

    /// `bytes` more were acknowledged: section 4.3. Once it is where the window was, as fast as Reno itself.
    fn grow_estimate(&mut self, bytes: u64, cwnd: u32, smss: u16) {
        let (up, down) = if self.w_est < self.cwnd_prior { ALPHA } else { (1, 1) };
        let growth = ((((up * bytes * u64::from(smss)) / down) << 8) / u64::from(cwnd)) << 8;
        let growth = growth + u64::from(self.w_est_fraction);
        self.w_est = (u64::from(self.w_est) + (growth >> 16)).min(u64::from(MAX_CWND)) as u32;
        self.w_est_fraction = growth as u16;
    }

    /// W_cubic, `elapsed_ms` after it began.
    fn w_cubic(&self, elapsed_ms: u32, smss: u16) -> u32 {
        let offset_ms = (i64::from(elapsed_ms) - i64::from(self.k_ms)).clamp(-MAX_OFFSET_MS, MAX_OFFSET_MS);
        let cube = offset_ms * offset_ms * offset_ms / 1_000_000;
        let w = i64::from(self.w_max) + cube * (4 * i64::from(smss)) / 10_000;
        w.clamp(0, i64::from(MAX_CWND)) as u32
    }
}

impl Cubic {
    pub(crate) fn new(smss: u16, initial_segments: u32) -> Cubic {
        Cubic {
            cwnd: initial_window(smss, initial_segments),
            ssthresh: MAX_CWND,
            smss,
            fraction: 0,
            stage: Stage::First(HyStart::new()),
        }
    }

    fn slow_start(&mut self, ack: &Acked) {
        let growth = match &mut self.stage {
            Stage::First(hystart) => hystart.acknowledged(ack, self.smss),
            Stage::Avoidance(_) => Growth::Bytes(hystart::plain_growth(ack.bytes, self.smss)),
        };
        match growth {
            Growth::Bytes(bytes) => self.cwnd = (self.cwnd + bytes).min(MAX_CWND),
            Growth::Over => {
                self.ssthresh = self.cwnd;
                self.stage = Stage::Avoidance(Avoidance::at(self.cwnd));
            }
        }
    }

    fn avoid_congestion(&mut self, ack: &Acked) {
        let (now_ms, cwnd, smss) = (ack.now.as_millis() as u32, self.cwnd, self.smss);
        if matches!(self.stage, Stage::First(_)) {
            self.stage = Stage::Avoidance(Avoidance::at(cwnd));
        }
        let Stage::Avoidance(stage) = &mut self.stage else { return };
        if !stage.has_begun {
            stage.begin(now_ms, cwnd, smss);
        }
        if std::mem::take(&mut stage.is_paused) {
            stage.start_ms = stage.start_ms.wrapping_add(now_ms.wrapping_sub(stage.grown_ms));
        }
        stage.grown_ms = now_ms;
        let bytes = u64::from(ack.bytes.min(cwnd));
        stage.grow_estimate(bytes, cwnd, smss);
        let elapsed_ms = now_ms.wrapping_sub(stage.start_ms);
        if stage.w_cubic(elapsed_ms, smss) < stage.w_est {
            self.cwnd = cwnd.max(stage.w_est);
            return;
        }
        // Sections 4.4 and 4.5: a round trip later the window shall be what the cubic says it is then; no
        // more than half as much again.
        let target =
            stage.w_cubic(elapsed_ms.wrapping_add(ack.srtt_us / 1000), smss).clamp(cwnd, cwnd + cwnd / 2);
        let growth = (((u64::from(target - cwnd) * bytes) << 4) / u64::from(cwnd)) << 12;
        let growth = growth + u64::from(self.fraction);
        self.cwnd = (cwnd + (growth >> 16) as u32).min(MAX_CWND);
        self.fraction = growth as u16;
    }

    /// Sections 4.6 and 4.7: what all kinds of congestion do.
    fn reduce(&mut self, flight: u32) {
        let (up, down) = BETA;
        let last = match &self.stage {
            Stage::First(_) => 0,
            Stage::Avoidance(stage) => stage.w_max,
        };
        // Fast convergence: a plateau lower than the last one is a new flow's doing; make room for it.
        let gives_way = self.cwnd < last;
        let w_max = if gives_way { (u64::from(self.cwnd) * 17 / 20) as u32 } else { self.cwnd };
        self.stage = Stage::Avoidance(Avoidance { w_max, cwnd_prior: self.cwnd, ..Avoidance::default() });
        let ssthresh = (u64::from(flight) * u64::from(up) / u64::from(down)) as u32;
        self.ssthresh = ssthresh.max(2 * u32::from(self.smss));
        self.fraction = 0;
    }

    fn smss(&self) -> u32 {
        u32::from(self.smss)
    }
}

impl CongestionControl for Cubic {
    fn window(&self) -> u32 {
        self.cwnd
    }

    fn is_used(&self, flight: u32) -> bool {
        window_is_used(self.cwnd, self.ssthresh, flight, self.smss())
    }

    fn is_in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh / 2
    }

    fn acknowledged(&mut self, ack: &Acked) {
        if self.cwnd < self.ssthresh { self.slow_start(ack) } else { self.avoid_congestion(ack) }
    }

    fn unused(&mut self) {
        if let Stage::Avoidance(stage) = &mut self.stage {
            stage.is_paused = true;
        }
    }

    fn enter_recovery(&mut self, flight: u32) {
        self.reduce(flight);
        self.cwnd = self.ssthresh;
    }

    fn leave_recovery(&mut self, flight: u32) {
        self.cwnd = self.ssthresh.min(flight.max(self.smss()) + self.smss());
    }

    /// Section 4.8. The first stage after a time-out has its plateau where it begins.
    fn timed_out(&mut self, flight: u32, first: bool) {
        if first {
            self.reduce(flight);
        }
        self.cwnd = self.smss();
        self.stage = Stage::Avoidance(Avoidance::default());
    }

    fn syn_was_lost(&mut self) {
        self.cwnd = self.smss();
    }

    fn restart_after_idle(&mut self, initial_segments: u32) {
        self.cwnd = self.cwnd.min(initial_window(self.smss, initial_segments));
        self.unused();
    }

    fn set_smss(&mut self, smss: u16) {
        self.smss = smss;
    }
}

/// The largest integer whose cube is not above `n`.
fn cube_root(n: u64) -> u32 {
    let mut root = 0u64;
    for bit in (0..22).rev() {
        let next = root | (1 << bit);
        // (2^22)^3 = 2^66 is too much for 64 bits.
        if next.checked_pow(3).is_some_and(|cube| cube <= n) {
            root = next;
        }
    }
    root as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::seq::SeqNumber;
    use runtime::time::Instant;

    fn ack(at_ms: u64, bytes: u32, rtt_ms: u32) -> Acked {
        Acked {
            now: Instant::from_millis(at_ms),
            bytes,
            rtt_us: Some(rtt_ms * 1000),
            srtt_us: rtt_ms * 1000,
            una: SeqNumber(0),
            max: SeqNumber(0),
        }
    }

    /// A window's worth of ACKs, spread over the round trip that begins at `at_ms`.
    fn round(cubic: &mut Cubic, at_ms: u64, rtt_ms: u32) {
        let acks = cubic.cwnd / cubic.smss();
        for i in 0..acks {
            let within = u64::from(rtt_ms) * u64::from(i) / u64::from(acks);
            let smss = cubic.smss();
            cubic.acknowledged(&ack(at_ms + within, smss, rtt_ms));
        }
    }

    fn avoidance(cubic: &Cubic) -> &Avoidance {
        match &cubic.stage {
            Stage::Avoidance(stage) => stage,
            Stage::First(_) => panic!("it has not begun"),
        }
    }

    fn w_max(cubic: &Cubic) -> u32 {
        avoidance(cubic).w_max
    }

    #[test]
    fn cube_roots_are_exact() {
        for root in [0u64, 1, 2, 3, 10, 1000, 4191, 1_000_000, 2_642_245] {
            let cube = root * root * root;
            assert_eq!(u64::from(cube_root(cube)), root);
            if root > 0 {
                assert_eq!(u64::from(cube_root(cube - 1)), root - 1);
            }
        }
        assert_eq!(cube_root(u64::MAX), 2_642_245);
    }

    /// Against the RFC's formulas in floating point, round by round: the plateau is reached at K, passed
    /// after it.
    #[test]
    fn the_window_follows_the_cubic_of_time() {
        let rtt_ms = 100;
        let mut cubic = Cubic::new(1000, 10);
        cubic.cwnd = 1_000_000;
        cubic.enter_recovery(1_000_000);
        assert_eq!((cubic.cwnd, w_max(&cubic)), (700_000, 1_000_000));
        let k = (300f64 / 0.4).cbrt();
        for i in 0..200 {
            let at_ms = u64::from(i * rtt_ms);
            round(&mut cubic, at_ms, rtt_ms);
            let t = f64::from((i + 1) * rtt_ms) / 1000.0;
            let expected = 0.4 * (t - k).powi(3) + 1000.0;
            let got = f64::from(cubic.cwnd) / 1000.0;
            // The window lags by what it can do in a round trip.
            assert!((got - expected).abs() <= 0.02 * expected, "at {t} s: {got}, the RFC says {expected}");
        }
    }

    /// Section 4.3: with short round trips Reno would be faster, so it grows by Reno's rule; and from where
    /// it was before the loss on by a segment a round trip.
    #[test]
    fn short_round_trips_grow_as_reno() {
        let mut cubic = Cubic::new(1000, 10);
        cubic.cwnd = 100_000;
        cubic.enter_recovery(100_000);
        let start = cubic.cwnd;
        for i in 0..20 {
            round(&mut cubic, i, 1);
        }
        // 20 round trips at 9/17 segments.
        let grown = f64::from(cubic.cwnd - start) / 1000.0;
        assert!((grown - 20.0 * 9.0 / 17.0).abs() < 1.0, "{grown}");
        let mut at = 20;
        while cubic.cwnd < 100_000 {
            round(&mut cubic, at, 1);
            at += 1;
        }
        let before = cubic.cwnd;
        for i in 0..10 {
            round(&mut cubic, at + i, 1);
        }
        assert!((9_000..=11_000).contains(&(cubic.cwnd - before)), "{}", cubic.cwnd - before);
    }

    #[test]
    fn a_lower_plateau_gives_way_faster() {
        let mut cubic = Cubic::new(1000, 10);
        cubic.cwnd = 100_000;
        cubic.enter_recovery(100_000);
        assert_eq!((cubic.cwnd, cubic.ssthresh, w_max(&cubic)), (70_000, 70_000, 100_000));
        cubic.enter_recovery(70_000);
        assert_eq!((cubic.cwnd, w_max(&cubic)), (49_000, 59_500));
    }

    #[test]
    fn a_time_out_goes_back_to_one_segment_and_forgets_the_plateau() {
        let mut cubic = Cubic::new(1000, 10);
        cubic.cwnd = 100_000;
        cubic.timed_out(100_000, true);
        assert_eq!((cubic.cwnd, cubic.ssthresh), (1_000, 70_000));
        cubic.timed_out(1_000, false);
        assert_eq!((cubic.cwnd, cubic.ssthresh), (1_000, 70_000));
        while cubic.cwnd < cubic.ssthresh {
            let bytes = cubic.cwnd;
            cubic.acknowledged(&ack(0, bytes, 100));
        }
        let plateau = cubic.cwnd;
        cubic.acknowledged(&ack(1000, 1000, 100));
        assert_eq!((avoidance(&cubic).k_ms, w_max(&cubic)), (0, plateau));
    }

    /// Section 5.8: a pause of the application's is no time in which the window would have grown.
    #[test]
    fn time_without_use_does_not_count() {
        let run = |pause_ms: u64| {
            let mut cubic = Cubic::new(1000, 10);
            cubic.cwnd = 1_000_000;
            cubic.enter_recovery(1_000_000);
            for i in 0..20 {
                round(&mut cubic, i * 100, 100);
            }
            cubic.unused();
            for i in 20..40 {
                round(&mut cubic, pause_ms + i * 100, 100);
            }
            cubic.cwnd
        };
        let (without, with) = (run(0), run(3_600_000));
        assert!(with.abs_diff(without) < without / 100, "{with} {without}");
    }

    #[test]
    fn absurd_times_and_windows_stay_in_bounds() {
        let mut cubic = Cubic::new(65_000, 10);
        cubic.cwnd = MAX_CWND;
        cubic.enter_recovery(u32::MAX);
        cubic.cwnd = 130_000;
        for at_ms in [0, 1, u64::from(u32::MAX), u64::MAX / 2_000_000] {
            cubic.acknowledged(&ack(at_ms, u32::MAX, u32::MAX / 1000));
            assert!(cubic.cwnd <= MAX_CWND && cubic.cwnd >= 130_000);
        }
    }
}
