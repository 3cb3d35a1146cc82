//! What came of it: how many answers, how long they took, what failed.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What can go wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection.
    Connect,
    /// The connection ended before the answer did.
    Cut,
    /// No whole answer in time.
    Late,
    /// Not HTTP.
    Malformed,
    /// A status of 400 or more, or another than the first time.
    Status,
    /// Other contents than the first time.
    Contents,
}

impl Failure {
    /// All of them.
    pub const ALL: [Failure; 6] = [
        Failure::Connect,
        Failure::Cut,
        Failure::Late,
        Failure::Malformed,
        Failure::Status,
        Failure::Contents,
    ];

    /// For people and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Failure::Connect => "no connection",
            Failure::Cut => "cut short",
            Failure::Late => "too late",
            Failure::Malformed => "no HTTP",
            Failure::Status => "wrong status",
            Failure::Contents => "other contents",
        }
    }
}

/// A second of it.
#[derive(Clone, Debug)]
pub struct Second {
    /// Answers.
    pub answers: u64,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
}

/// All of it. Latencies are in nanoseconds, to three digits.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Of all answers that were right.
    pub latency: Histogram<u64>,
    /// Bytes of their contents.
    pub bytes: u64,
    /// Requests that failed, in the order of [`Failure::ALL`].
    pub failures: [u64; Failure::ALL.len()],
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Processor time of the thread while it was counted.
    pub cpu: Duration,
    /// Connections made while it was counted.
    pub connections: u64,
}

/// Shortest and longest latency that is told from others, in nanoseconds.
const RANGE: (u64, u64) = (100, 3_600_000_000_000);

/// Most seconds that are kept apart.
const MAX_SECONDS: usize = 3600;

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(RANGE.0, RANGE.1, digits).expect("the bounds are in order")
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            latency: histogram(3),
            bytes: 0,
            failures: [0; Failure::ALL.len()],
            seconds: Vec::new(),
            cpu: Duration::ZERO,
            connections: 0,
        }
    }
}

impl Ledger {
    /// An answer, or that there was none, `at` so long after counting began, which took so long.
    pub fn record(&mut self, at: Duration, took: Duration, result: Result<u64, Failure>) {
        match result {
            Ok(bytes) => {
                let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
                self.latency.saturating_record(took);
                self.bytes += bytes;
                let second = usize::try_from(at.as_secs()).unwrap_or(MAX_SECONDS).min(MAX_SECONDS - 1);
                while self.seconds.len() <= second {
                    self.seconds.push(Second { answers: 0, latency: histogram(2) });
                }
                self.seconds[second].answers += 1;
                self.seconds[second].latency.saturating_record(took);
            }
            Err(failure) => self.failures[failure as usize] += 1,
        }
    }

    /// Answers that were right.
    pub fn answers(&self) -> u64 {
        self.latency.len()
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// The latency that so many per cent of the answers did not exceed.
    pub fn percentile(&self, percent: f64) -> Duration {
        Duration::from_nanos(self.latency.value_at_percentile(percent))
    }

    /// Another thread's share of the same.
    pub fn add(&mut self, other: &Ledger) {
        self.latency.add(&other.latency).expect("the same bounds");
        self.bytes += other.bytes;
        self.failures.iter_mut().zip(other.failures).for_each(|(sum, count)| *sum += count);
        for (i, second) in other.seconds.iter().enumerate() {
            match self.seconds.get_mut(i) {
                Some(own) => {
                    own.answers += second.answers;
                    own.latency.add(&second.latency).expect("the same bounds");
                }
                None => self.seconds.push(second.clone()),
            }
        }
        self.cpu += other.cpu;
        self.connections += other.connections;
    }
}
