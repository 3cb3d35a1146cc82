//! The clocks of a transport's loop: the only place where time is read.

use std::time::{SystemTime, UNIX_EPOCH};

use runtime::time::Instant;

/// Monotonic time since the loop began, and the time of day.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Clock {
        Clock { origin: std::time::Instant::now() }
    }

    /// Monotonic time.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Seconds since 1970; 0 before.
    pub fn unix(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}
