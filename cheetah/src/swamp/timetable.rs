//! When requests of a log fell due.

use std::sync::Arc;
use std::time::Duration;

/// Moments since the first request of a log. At its end it begins again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timetable {
    /// Nanoseconds, in no falling order.
    moments: Arc<[u64]>,
    /// From one beginning to the next.
    length: u64,
    /// The next, counted on from one turn to the next.
    at: u64,
    /// It is ours, and so many later the next that is.
    step: u64,
}

impl Timetable {
    /// Of the seconds that a log says, `speed` times as fast. What fell into one second, which is all that
    /// logs say, is spread over it evenly; what a log has behind something later is as late as that. `None`
    /// without any.
    pub fn new(seconds: &[u64], speed: f64) -> Option<Timetable> {
        let first = *seconds.first()?;
        let mut moments = Vec::with_capacity(seconds.len());
        let mut latest = first;
        let rising: Vec<u64> = seconds
            .iter()
            .map(|&second| {
                latest = latest.max(second);
                latest - first
            })
            .collect();
        let scale = 1e9 / speed;
        for same in rising.chunk_by(|a, b| a == b) {
            let share = 1.0 / same.len() as f64;
            moments.extend(
                same.iter()
                    .enumerate()
                    .map(|(i, &second)| ((second as f64 + i as f64 * share) * scale) as u64),
            );
        }
        let length = ((latest - first).saturating_add(1) as f64 * scale) as u64;
        Some(Timetable { moments: moments.into(), length: length.max(1), at: 0, step: 1 })
    }

    /// Every `threads`th, for one of so many threads.
    #[must_use]
    pub fn share(&self, thread: usize, threads: usize) -> Timetable {
        Timetable { at: thread as u64, step: threads as u64, ..self.clone() }
    }

    /// Nanoseconds from the beginning to the next.
    pub(super) fn next(&self) -> u64 {
        let len = self.moments.len() as u64;
        let turns = (self.at / len).saturating_mul(self.length);
        turns.saturating_add(self.moments[(self.at % len) as usize])
    }

    /// Goes on to the one behind it.
    pub(super) fn advance(&mut self) {
        self.at += self.step;
    }

    /// How long one turn takes.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(mut table: Timetable, n: usize) -> Vec<u64> {
        let mut next = || {
            let moment = table.next();
            table.advance();
            moment / 1_000_000
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn requests_fall_due_as_the_log_says_and_again() {
        let table = Timetable::new(&[100, 100, 102, 101, 103], 1.0).unwrap();
        assert_eq!(table.length(), Duration::from_secs(4));
        assert_eq!(first(table.clone(), 7), [0, 500, 2000, 2500, 3000, 4000, 4500]);
        assert_eq!(first(table.share(1, 2), 3), [500, 2500, 4000]);
        let fast = Timetable::new(&[100, 100, 102, 101, 103], 10.0).unwrap();
        assert_eq!(first(fast, 4), [0, 50, 200, 250]);
        assert_eq!(Timetable::new(&[], 1.0), None);
        // However long or short it is.
        let odd = Timetable::new(&[0, u64::MAX], 1e-6).unwrap();
        assert_eq!(odd.next(), 0);
        assert_eq!(Timetable::new(&[7], 1000.0).unwrap().length(), Duration::from_millis(1));
    }
}
