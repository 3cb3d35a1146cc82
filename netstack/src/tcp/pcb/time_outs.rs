//! What a connection does when its timers run out.

use std::time::Duration;

use runtime::time::Instant;

use super::Pcb;
use crate::tcp::retransmit::{Phase, Waiting};
use crate::tcp::state::{Disposition, State};
use crate::tcp::timers::Timer;
use crate::tcp::undo::Reduction;
use crate::tcp::{CloseReason, Config, Stream};

impl Pcb {
    /// Runs the timers that are due.
    pub(crate) fn handle_timeout<S: Stream>(
        &mut self,
        now: Instant,
        stream: &mut S,
        config: &Config,
    ) -> Disposition {
        for timer in Timer::ALL {
            if !self.timers.expire(timer, now) {
                continue;
            }
            let disposition = match timer {
                Timer::Retransmit => match self.outstanding.take_waiting() {
                    Waiting::TimeOut => self.retransmission_timed_out(now, stream, config),
                    Waiting::Reordering => self.reordering_window_is_over(now, config),
                    Waiting::Probe => self.probe_timed_out(now, config),
                },
                Timer::Persist => self.persist_timed_out(now, config),
                Timer::DelayedAck => {
                    self.due.ack_now |= self.due.ack_delayed;
                    Disposition::Continue
                }
                Timer::KeepAlive => self.keep_alive_timed_out(now, config),
                Timer::FinWait2 if self.state == State::TimeWait => {
                    Disposition::Closed(CloseReason::Finished)
                }
                // Nobody is left who would close: as all stacks do, forget it (no TIME-WAIT: the peer's FIN,
                // should it ever come, is answered by a reset).
                Timer::FinWait2 => Disposition::Closed(CloseReason::TimedOut),
                // What it was set for is asked for after each timer.
                Timer::Pacing => Disposition::Continue,
                // A deadline far off was set earlier than it is.
                Timer::Application if stream.deadline().is_some_and(|at| at > now) => Disposition::Continue,
                Timer::Application => {
                    stream.timeout(now);
                    Disposition::Continue
                }
            };
            if disposition != Disposition::Continue {
                self.close();
                return disposition;
            }
        }
        if self.snd.una == self.snd.max {
            self.outstanding.rest(self.snd.una);
        }
        Disposition::Continue
    }

    /// RFC 6298 rules 5.4 to 5.7, and RFC 9293 section 3.8.3 for giving up.
    fn retransmission_timed_out<S: Stream>(
        &mut self,
        now: Instant,
        stream: &S,
        config: &Config,
    ) -> Disposition {
        let opening = !self.state.is_synchronized();
        let unsent = !opening && self.snd.max == self.snd.una;
        if unsent && !self.due.probe && !self.has_data(stream) {
            // What could not be sent was an ACK: there is nothing to try again.
            return Disposition::Continue;
        }
        let limit = if opening { config.max_syn_retransmissions } else { config.max_retransmissions };
        // A peer that shrank its window to nothing but answers is not dead (RFC 9293 section 3.8.6.1).
        let stalled_by_window = !opening
            && self.snd.wnd == 0
            && now.saturating_since(self.last_received) < 2 * self.rtt.rto(config);
        if self.user_timed_out(now, config) {
            return Disposition::Closed(CloseReason::TimedOut);
        }
        if !stalled_by_window {
            self.unanswered = self.unanswered.saturating_add(1);
            if self.unanswered > limit {
                return Disposition::Closed(CloseReason::TimedOut);
            }
        }
        self.rtt.back_off();
        if opening {
            self.due.syn = true;
            self.congestion.syn_was_lost();
        } else if !unsent {
            let flight = self.flight();
            // Another one of what the last one sent again is no test (RFC 5682 section 2.1, step 1).
            let reduction = (self.outstanding.phase() != Phase::TimedOut)
                .then(|| Box::new(Reduction::new(&self.congestion, self.snd.una..self.snd.max, true)));
            self.suspect_the_size(now, flight);
            self.congestion.timed_out(flight, self.unanswered <= 1);
            self.ecn.reduced(self.snd.max);
            let view = self.view(now);
            if let Some(held) = self.outstanding.get_mut() {
                held.reduction = reduction;
                held.recovery.timed_out(&view);
            }
        }
        self.timers.set(
            now,
            Timer::Retransmit,
            self.within_user_timeout(now, now + self.rtt.rto(config), config),
        );
        Disposition::Continue
    }

    /// Nothing more may come of what was sent before what arrived: what did not arrive is lost (RFC 8985
    /// section 6.2).
    fn reordering_window_is_over(&mut self, now: Instant, config: &Config) -> Disposition {
        let wait_us = self.detect_losses(now, self.flight());
        self.arm_after_ack(now, false, wait_us, config);
        if !self.timers.is_set(Timer::Retransmit) {
            self.await_time_out(now, self.time_out_at(now, config), config);
        }
        Disposition::Continue
    }

    /// Two round trips without an ACK: the tail may be lost, and nothing after it will tell (RFC 8985 section
    /// 7.3).
    fn probe_timed_out(&mut self, now: Instant, config: &Config) -> Disposition {
        self.due.loss_probe = true;
        self.await_time_out(now, now + self.rtt.rto(config), config);
        Disposition::Continue
    }

    /// The window is closed, or silly, and nothing in flight would bring news of it.
    fn persist_timed_out(&mut self, now: Instant, config: &Config) -> Disposition {
        if self.user_timed_out(now, config) {
            return Disposition::Closed(CloseReason::TimedOut);
        }
        self.persist_backoff = self.persist_backoff.saturating_add(1);
        if self.snd.wnd > 0 {
            self.due.override_sws = true;
            self.snd.usual_wnd = self.snd.wnd;
            return Disposition::Continue;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        if self.unanswered > config.max_retransmissions {
            return Disposition::Closed(CloseReason::TimedOut);
        }
        self.due.probe = true;
        Disposition::Continue
    }

    /// RFC 9293 section 3.8.4. The timer is not moved by each segment; it looks at the time of the last one
    /// instead.
    fn keep_alive_timed_out(&mut self, now: Instant, config: &Config) -> Disposition {
        let Some(idle) = config.keep_alive else { return Disposition::Continue };
        let silent_until = self.last_received + idle;
        if silent_until > now {
            self.timers.set(now, Timer::KeepAlive, silent_until);
            return Disposition::Continue;
        }
        if self.snd.max != self.snd.una {
            // Retransmissions probe the peer already.
            self.timers.set(now, Timer::KeepAlive, now + idle);
            return Disposition::Continue;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        if self.unanswered > config.keep_alive_probes {
            return Disposition::Closed(CloseReason::TimedOut);
        }
        self.due.probe = true;
        self.timers.set(now, Timer::KeepAlive, now + config.keep_alive_interval.min(idle));
        Disposition::Continue
    }

    /// Whether the peer has made no progress for as long as the application waits (RFC 9293 section 3.8.3,
    /// RFC 5482).
    fn user_timed_out(&self, now: Instant, config: &Config) -> bool {
        config.user_timeout.is_some_and(|limit| self.owed_for(now) >= limit)
    }

    /// `at`, or when [`Pcb::user_timed_out`] turns true if that is earlier.
    pub(crate) fn within_user_timeout(&self, now: Instant, at: Instant, config: &Config) -> Instant {
        match config.user_timeout {
            Some(limit) => at.min(now + limit.saturating_sub(self.owed_for(now))),
            None => at,
        }
    }

    fn owed_for(&self, now: Instant) -> Duration {
        Duration::from_millis((now.as_millis() as u32).wrapping_sub(self.snd.owed_since_ms).into())
    }
}
