//! The wheel against a sorted map, over random scripts.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Step {
    Schedule {
        delay_ns: u64,
    },
    Reschedule {
        pick: usize,
        delay_ns: u64,
    },
    Cancel {
        pick: usize,
    },
    Advance {
        by_ns: u64,
    },
    /// To just when the wheel says that something may happen.
    Sleep,
}

fn delay() -> impl Strategy<Value = u64> {
    // All magnitudes alike: within a tick, next wheel, far away.
    (0u32..50, any::<u64>()).prop_map(|(bits, x)| x & ((1 << bits) - 1))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => delay().prop_map(|delay_ns| Step::Schedule { delay_ns }),
        2 => (any::<usize>(), delay()).prop_map(|(pick, delay_ns)| Step::Reschedule { pick, delay_ns }),
        2 => any::<usize>().prop_map(|pick| Step::Cancel { pick }),
        3 => delay().prop_map(|by_ns| Step::Advance { by_ns }),
        2 => Just(Step::Sleep),
    ]
}

/// The same semantics by a sorted set: (tick, number of the timer).
struct Model {
    shift: u32,
    /// A timer set for the past is due at the tick of the last call of `expire`.
    current: u64,
    pending: BTreeSet<(u64, usize)>,
    ids: Vec<(TimerId, u64)>,
}

impl Model {
    fn tick(&self, at: Instant) -> u64 {
        at.as_nanos().div_ceil(1 << self.shift).max(self.current)
    }

    fn is_pending(&self, n: usize) -> bool {
        self.pending.contains(&(self.ids[n].1, n))
    }
}

fn run(shift: u32, start_ns: u64, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut now = Instant::from_nanos(start_ns);
    let mut wheel = TimerWheel::with_tick_shift(now, shift);
    let mut model = Model { shift, current: start_ns >> shift, pending: BTreeSet::new(), ids: Vec::new() };
    for step in steps {
        match *step {
            Step::Schedule { delay_ns } => {
                let at = now + Duration::from_nanos(delay_ns);
                let n = model.ids.len();
                let id = wheel.schedule(at, n);
                prop_assert_eq!(wheel.get(id), Some(&n));
                model.ids.push((id, model.tick(at)));
                model.pending.insert((model.tick(at), n));
            }
            Step::Reschedule { pick, delay_ns } if !model.ids.is_empty() => {
                let n = pick % model.ids.len();
                let at = now + Duration::from_nanos(delay_ns);
                let pending = model.is_pending(n);
                prop_assert_eq!(wheel.reschedule(model.ids[n].0, at), pending);
                if pending {
                    model.pending.remove(&(model.ids[n].1, n));
                    model.ids[n].1 = model.tick(at);
                    model.pending.insert((model.ids[n].1, n));
                }
            }
            Step::Cancel { pick } if !model.ids.is_empty() => {
                let n = pick % model.ids.len();
                let pending = model.pending.remove(&(model.ids[n].1, n));
                prop_assert_eq!(wheel.cancel(model.ids[n].0), pending.then_some(n));
            }
            Step::Reschedule { .. } | Step::Cancel { .. } => {}
            Step::Advance { by_ns } => now = now + Duration::from_nanos(by_ns),
            Step::Sleep => {
                if let Some(at) = wheel.next_expiry() {
                    now = now.max(at);
                }
            }
        }
        if matches!(step, Step::Advance { .. } | Step::Sleep) {
            let now_tick = now.as_nanos() >> shift;
            let mut last_tick = 0;
            while let Some((id, n)) = wheel.expire(now) {
                let (model_id, tick) = model.ids[n];
                prop_assert_eq!(id, model_id);
                prop_assert!(model.pending.remove(&(tick, n)), "timer {} fired twice", n);
                prop_assert!(tick <= now_tick, "timer {} fired before its time", n);
                prop_assert!(tick >= last_tick, "timers fire out of order");
                last_tick = tick;
            }
            model.current = now_tick;
            let first = model.pending.first().map(|&(tick, _)| tick);
            prop_assert!(first.is_none_or(|tick| tick > now_tick), "a timer is late");
            if let (Some(at), Some(first)) = (wheel.next_expiry(), first) {
                prop_assert!(
                    at.as_nanos() <= first << shift,
                    "the next expiry is later than the first timer"
                );
                prop_assert!(at.as_nanos() >> shift > now_tick, "the next expiry makes no progress");
            }
        }
        prop_assert_eq!(wheel.len(), model.pending.len());
        prop_assert_eq!(wheel.next_expiry().is_some(), !model.pending.is_empty());
    }
    Ok(())
}

proptest! {
    #[test]
    fn the_wheel_agrees_with_a_sorted_set(
        shift in 0u32..24,
        start_ns in (0u32..60, any::<u64>()).prop_map(|(bits, x)| x & ((1 << bits) - 1)),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(shift, start_ns, &steps)?;
    }
}

#[test]
fn timers_fire_in_the_order_of_their_ticks() {
    let mut wheel = TimerWheel::with_tick_shift(Instant::ZERO, 0);
    for ns in [5000u64, 3, 70, 64, 4096, 1, 1 << 40, 63, 65] {
        wheel.schedule(Instant::from_nanos(ns), ns);
    }
    let fired: Vec<u64> =
        std::iter::from_fn(|| wheel.expire(Instant::from_nanos(u64::MAX))).map(|(_, ns)| ns).collect();
    assert_eq!(fired, [1, 3, 63, 64, 65, 70, 4096, 5000, 1 << 40]);
}

#[test]
fn the_last_tick_of_time_is_reached() {
    let mut wheel = TimerWheel::with_tick_shift(Instant::ZERO, 0);
    wheel.schedule(Instant::from_nanos(u64::MAX), "end");
    assert_eq!(wheel.expire(Instant::from_nanos(u64::MAX - 1)), None);
    assert_eq!(wheel.expire(Instant::from_nanos(u64::MAX)).map(|(_, value)| value), Some("end"));
}

#[test]
fn a_dead_id_does_not_touch_the_timer_that_took_its_place() {
    let mut wheel = TimerWheel::new(Instant::ZERO);
    let old = wheel.schedule(Instant::from_millis(5), 'a');
    assert_eq!(wheel.cancel(old), Some('a'));
    let new = wheel.schedule(Instant::from_millis(5), 'b');
    assert_eq!(wheel.cancel(old), None);
    assert!(!wheel.reschedule(old, Instant::from_millis(9)));
    assert_eq!(wheel.get(old), None);
    assert!(wheel.is_scheduled(new));
}

#[test]
fn places_are_used_again() {
    let mut wheel = TimerWheel::new(Instant::ZERO);
    for round in 0..1000u64 {
        let a = wheel.schedule(Instant::from_millis(round + 10), ());
        wheel.schedule(Instant::from_millis(round + 1), ());
        wheel.cancel(a);
        while wheel.expire(Instant::from_millis(round + 3)).is_some() {}
    }
    assert!(wheel.is_empty());
    assert_eq!(wheel.nodes.len(), 2);
}

#[test]
fn a_clock_that_steps_back_changes_nothing() {
    let mut wheel = TimerWheel::with_tick_shift(Instant::from_nanos(1000), 0);
    wheel.schedule(Instant::from_nanos(1100), ());
    assert!(wheel.expire(Instant::from_nanos(1099)).is_none());
    assert!(wheel.expire(Instant::from_nanos(10)).is_none());
    wheel.schedule(Instant::from_nanos(10), ());
    assert!(wheel.expire(Instant::from_nanos(10)).is_some(), "a time that has passed is due at once");
    assert!(wheel.expire(Instant::from_nanos(1099)).is_none());
    assert!(wheel.expire(Instant::from_nanos(1100)).is_some());
}
