//! Timers in constant time: a hierarchical timing wheel (Varghese and Lauck, *Hashed and Hierarchical Timing
//! Wheels*, 1987, scheme 7).
//!
//! Time is cut into ticks and a tick's number into digits of six bits. A timer waits in the wheel of the
//! highest digit in which its tick differs from the current one, in the slot of that digit; when the wheel's
//! hand reaches the slot, the slot's timers move to lower wheels, and from the lowest one they fire. A timer
//! therefore moves at most ten times in its life, whatever the distance. Eleven wheels cover all 64 bits, so
//! there is no overflow list.
//!
//! Scheduling, cancelling and rescheduling are constant-time and allocate nothing once the wheel has held as
//! many timers at once as it does now. The wheel reads no clock: time is an argument.

#[cfg(test)]
mod tests;

use crate::time::Instant;
use std::time::Duration;

/// Bits of a digit: a wheel has 64 slots, whose occupancy fits one word.
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 64usize.div_ceil(DIGIT_BITS as usize);

/// A tick of 2^20 ns, a little over a millisecond: enough for what waits for people and peers.
const DEFAULT_TICK_SHIFT: u32 = 20;

/// Ends a list.
const NIL: u32 = u32::MAX;

/// Names a scheduled timer. Stays dead once the timer has fired or was cancelled, even when its place is used
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

/// A set of timers, each with a value that is given back when it fires.
#[derive(Debug)]
pub struct TimerWheel<T> {
    tick_shift: u32,
    /// Everything before this tick has fired, and so may some timers of the tick itself.
    current: u64,
    len: usize,
    nodes: Vec<Node<T>>,
    /// First free node; free nodes are linked by `next`.
    free: u32,
    /// One bit for each slot that holds timers.
    occupied: [u64; LEVELS],
    /// First timer of each slot's list.
    heads: Box<[[u32; SLOTS]; LEVELS]>,
}

#[derive(Debug)]
struct Node<T> {
    tick: u64,
    next: u32,
    prev: u32,
    generation: u32,
    level: u8,
    slot: u8,
    /// `None` in a free node.
    value: Option<T>,
}

impl<T> TimerWheel<T> {
    /// An empty wheel at time `now`, with ticks of 2^20 ns.
    pub fn new(now: Instant) -> TimerWheel<T> {
        TimerWheel::with_tick_shift(now, DEFAULT_TICK_SHIFT)
    }

    /// An empty wheel at time `now`, with ticks of `2^tick_shift` ns.
    ///
    /// # Panics
    /// If `tick_shift` is 64 or more.
    pub fn with_tick_shift(now: Instant, tick_shift: u32) -> TimerWheel<T> {
        assert!(tick_shift < u64::BITS, "a tick of 2^{tick_shift} ns never ends");
        TimerWheel {
            tick_shift,
            current: now.as_nanos() >> tick_shift,
            len: 0,
            nodes: Vec::new(),
            free: NIL,
            occupied: [0; LEVELS],
            heads: Box::new([[NIL; SLOTS]; LEVELS]),
        }
    }

    /// Starts a timer that fires at `at`, or up to a tick later, never before. A time that has passed fires
    /// at the next [`TimerWheel::expire`].
    pub fn schedule(&mut self, at: Instant, value: T) -> TimerId {
        let tick = self.tick_at_or_after(at);
        let index = if self.free == NIL {
            let index = u32::try_from(self.nodes.len()).ok().filter(|&index| index != NIL);
            let index = index.expect("fewer than 2^32 timers at once");
            self.nodes.push(Node {
                tick,
                next: NIL,
                prev: NIL,
                generation: 0,
                level: 0,
                slot: 0,
                value: Some(value),
            });
            index
        } else {
            let index = self.free;
            let node = &mut self.nodes[index as usize];
            self.free = node.next;
            node.tick = tick;
            node.value = Some(value);
            index
        };
        self.len += 1;
        self.link(index);
        TimerId { index, generation: self.nodes[index as usize].generation }
    }

    /// Moves a timer to another time. Gives false, and does nothing, if it has fired or was cancelled.
    pub fn reschedule(&mut self, id: TimerId, at: Instant) -> bool {
        if !self.is_scheduled(id) {
            return false;
        }
        let tick = self.tick_at_or_after(at);
        if self.nodes[id.index as usize].tick != tick {
            self.unlink(id.index);
            self.nodes[id.index as usize].tick = tick;
            self.link(id.index);
        }
        true
    }

    /// Stops a timer and gives its value back, unless it has fired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        if !self.is_scheduled(id) {
            return None;
        }
        self.unlink(id.index);
        self.release(id.index)
    }

    /// Takes one timer that is due at `now`; call again until there is none. They come in the order of their
    /// ticks; within a tick the order is not defined. A time before that of an earlier call counts as that
    /// time.
    ///
    /// A timer that the caller schedules meanwhile for `now` or before is due at once: a handler that always
    /// does so never gets out of the loop.
    pub fn expire(&mut self, now: Instant) -> Option<(TimerId, T)> {
        let now_tick = now.as_nanos() >> self.tick_shift;
        while let Some((level, slot, tick)) = self.first_slot() {
            if tick > now_tick.max(self.current) {
                break;
            }
            self.current = tick;
            let index = self.heads[level][slot];
            if level == 0 {
                self.unlink(index);
                let id = TimerId { index, generation: self.nodes[index as usize].generation };
                return self.release(index).map(|value| (id, value));
            }
            self.cascade(level, slot);
        }
        self.current = self.current.max(now_tick);
        None
    }

    /// Whether the timer has neither fired nor been cancelled.
    pub fn is_scheduled(&self, id: TimerId) -> bool {
        let node = self.nodes.get(id.index as usize);
        node.is_some_and(|node| node.generation == id.generation && node.value.is_some())
    }

    /// The value of a scheduled timer.
    pub fn get(&self, id: TimerId) -> Option<&T> {
        self.nodes.get(id.index as usize).filter(|node| node.generation == id.generation)?.value.as_ref()
    }

    /// When to call [`TimerWheel::expire`] next: never later than the first timer is due. It may be earlier
    /// by up to the span of a slot, for a distant timer; then nothing fires, and the answer after that is
    /// nearer.
    pub fn next_expiry(&self) -> Option<Instant> {
        let (_, _, tick) = self.first_slot()?;
        Some(Instant::from_nanos(
            tick.checked_shl(self.tick_shift).filter(|at| at >> self.tick_shift == tick)?,
        ))
    }

    /// Length of a tick: how late a timer may fire even when asked in time.
    pub fn tick(&self) -> Duration {
        Duration::from_nanos(1 << self.tick_shift)
    }

    /// Number of timers that are scheduled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is scheduled.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first tick that begins at or after `at`.
    fn tick_at_or_after(&self, at: Instant) -> u64 {
        let ns = at.as_nanos();
        let down = ns >> self.tick_shift;
        // Cannot overflow: a tick of more than one nanosecond leaves room above.
        if down << self.tick_shift == ns { down } else { down + 1 }
    }

    /// The occupied slot that the hands reach first: wheel, slot, and the tick at which that is. All timers
    /// of a wheel come before those of the next one.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        // Slots behind the hand are empty, so the lowest bit is the nearest slot.
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = level as u32 * DIGIT_BITS;
        let higher_digits = self.current.checked_shr(shift + DIGIT_BITS).unwrap_or(0);
        let tick = higher_digits.checked_shl(shift + DIGIT_BITS).unwrap_or(0) | (slot as u64) << shift;
        // On the lowest wheel a slot may be the current one.
        Some((level, slot, tick.max(self.current)))
    }

    /// Moves the timers of a slot, whose first tick is now the current one, to lower wheels.
    fn cascade(&mut self, level: usize, slot: usize) {
        let mut index = self.heads[level][slot];
        self.heads[level][slot] = NIL;
        self.occupied[level] &= !(1 << slot);
        while index != NIL {
            let next = self.nodes[index as usize].next;
            self.link(index);
            index = next;
        }
    }

    /// Puts a node, whose tick is set, at the front of the list where it belongs.
    fn link(&mut self, index: u32) {
        let tick = self.nodes[index as usize].tick.max(self.current);
        let highest_difference =
            (u64::BITS - 1) - ((self.current ^ tick) | (SLOTS as u64 - 1)).leading_zeros();
        let level = (highest_difference / DIGIT_BITS) as usize;
        let slot = (tick >> (level as u32 * DIGIT_BITS)) as usize % SLOTS;
        let head = self.heads[level][slot];
        let node = &mut self.nodes[index as usize];
        (node.level, node.slot) = (level as u8, slot as u8);
        (node.prev, node.next) = (NIL, head);
        if head != NIL {
            self.nodes[head as usize].prev = index;
        }
        self.heads[level][slot] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let Node { next, prev, level, slot, .. } = self.nodes[index as usize];
        if next != NIL {
            self.nodes[next as usize].prev = prev;
        }
        if prev != NIL {
            self.nodes[prev as usize].next = next;
            return;
        }
        let (level, slot) = (usize::from(level), usize::from(slot));
        self.heads[level][slot] = next;
        if next == NIL {
            self.occupied[level] &= !(1 << slot);
        }
    }

    /// Frees an unlinked node and takes its value.
    fn release(&mut self, index: u32) -> Option<T> {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.wrapping_add(1);
        node.next = self.free;
        self.free = index;
        self.len -= 1;
        node.value.take()
    }
}
