//! Time as an argument: protocols and timers never read a clock, so the same code runs in the simulator.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in monotonic time, in nanoseconds from an origin that only the driver knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    ns: u64,
}

impl Instant {
    /// The origin.
    pub const ZERO: Instant = Instant { ns: 0 };

    /// The instant `ns` nanoseconds after the origin.
    pub const fn from_nanos(ns: u64) -> Instant {
        Instant { ns }
    }

    /// The instant `ms` milliseconds after the origin.
    pub const fn from_millis(ms: u64) -> Instant {
        Instant { ns: ms * 1_000_000 }
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.ns
    }

    /// Milliseconds since the origin, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.ns / 1_000_000
    }

    /// Time since `earlier`; zero if that is in the future.
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        Instant { ns: self.ns.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)) }
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, rhs: Duration) -> Instant {
        Instant { ns: self.ns.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)) }
    }
}

/// The machine's monotonic clock. Only drivers read it; its origin is when it was made, so that no instant is
/// before [`Instant::ZERO`].
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock that starts now at [`Instant::ZERO`].
    #[expect(clippy::new_without_default, reason = "two clocks are not equal, so there is no default one")]
    pub fn new() -> Clock {
        Clock { origin: std::time::Instant::now() }
    }

    /// The time now.
    pub fn now(self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
