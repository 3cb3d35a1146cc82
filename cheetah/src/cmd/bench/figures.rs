//! Figures of servers, round by round, and what is made of them: medians, and ratios within a round.

use serde_json::Value;

use super::lab::Counts;
use super::load::Outcome;
use super::plan::Index;

/// One measurement: what a server did for one load in one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figure {
    /// Requests answered, those under way at the end by the share of theirs that came.
    pub(super) requests: f64,
    /// Bytes that the client got.
    pub(super) bytes: f64,
    /// How long it took.
    pub(super) seconds: f64,
    /// Seconds of a processor.
    pub(super) cpu_s: f64,
    /// Seconds of a processor, the client's included.
    pub(super) both_cpu_s: f64,
    /// Frames both ways.
    pub(super) frames: f64,
    /// System calls; `None` where nobody counts them.
    pub(super) calls: Option<f64>,
    /// Of the payload sent, the share that was touched by us, and the share that was copied.
    pub(super) touched: Option<f64>,
    pub(super) copied: Option<f64>,
}

impl Figure {
    /// Of what the client got and what the server counted before and after.
    pub(super) fn new(outcome: &Outcome, response_len: usize, before: &Counts, after: &Counts) -> Figure {
        let work = |names: &[&str]| {
            let sum = |counts: &Counts| -> Option<u64> {
                let work = counts.work.as_ref()?;
                names.iter().map(|name| work.get(name).and_then(Value::as_u64)).sum()
            };
            Some((sum(after)? - sum(before)?) as f64)
        };
        let cpu_s = (after.cpu_ns - before.cpu_ns) as f64 * 1e-9;
        let sent = work(&["bytes_sent"]).filter(|&sent| sent > 0.0);
        Figure {
            requests: outcome.bytes as f64 / response_len as f64,
            bytes: outcome.bytes as f64,
            seconds: outcome.seconds,
            cpu_s,
            both_cpu_s: cpu_s + outcome.cpu_s,
            frames: (after.frames - before.frames) as f64,
            calls: work(&["calls_to_wait", "calls_to_receive", "calls_to_send", "other_calls"]),
            touched: work(&["bytes_touched"]).zip(sent).map(|(touched, sent)| touched / sent),
            copied: work(&["bytes_copied"]).zip(sent).map(|(copied, sent)| copied / sent),
        }
    }

    /// Microseconds of a processor for a request.
    pub(super) fn us_a_request(&self) -> f64 {
        self.cpu_s * 1e6 / self.requests
    }

    /// The same of both ends together.
    pub(super) fn both_us_a_request(&self) -> f64 {
        self.both_cpu_s * 1e6 / self.requests
    }

    /// Seconds of a processor for 10^9 bytes.
    pub(super) fn s_a_gb(&self) -> f64 {
        self.cpu_s * 1e9 / self.bytes
    }

    /// The same of both ends together.
    pub(super) fn both_s_a_gb(&self) -> f64 {
        self.both_cpu_s * 1e9 / self.bytes
    }

    /// Requests answered in a second.
    pub(super) fn rate(&self) -> f64 {
        self.requests / self.seconds
    }
}

/// All figures, by server and load; a round each.
#[derive(Debug)]
pub(super) struct Figures {
    loads: usize,
    rounds: Vec<Vec<Option<Figure>>>,
}

/// A median with the least and the largest value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) largest: f64,
}

impl Spread {
    /// Of these values, if there are any.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (least, largest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Spread { median, least, largest })
    }
}

impl Figures {
    /// None yet, of so many servers and loads.
    pub(super) fn new(servers: usize, loads: usize) -> Figures {
        Figures { loads, rounds: vec![Vec::new(); servers * loads] }
    }

    /// Adds a round's figure, or that there is none.
    pub(super) fn push(&mut self, server: Index, load: usize, figure: Option<Figure>) {
        self.rounds[server * self.loads + load].push(figure);
    }

    /// Of every round, in order.
    pub(super) fn rounds(&self, server: Index, load: usize) -> &[Option<Figure>] {
        &self.rounds[server * self.loads + load]
    }

    /// Of one quantity, over the rounds.
    pub(super) fn spread(
        &self,
        server: Index,
        load: usize,
        quantity: impl Fn(&Figure) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.rounds(server, load).iter().flatten().filter_map(quantity))
    }

    /// Processor time of `one` for a request, relative to `other`'s in the same round.
    pub(super) fn cpu_ratio(&self, one: Index, other: Index, load: usize) -> Option<Spread> {
        let pairs = self.rounds(one, load).iter().zip(self.rounds(other, load));
        Spread::of(
            pairs.filter_map(|(one, other)| {
                Some(one.as_ref()?.us_a_request() / other.as_ref()?.us_a_request())
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn figure(cpu_s: f64) -> Figure {
        let outcome = Outcome { bytes: 1_000_000, seconds: 0.5, cpu_s: 0.1 };
        let counts = |cpu_ns, frames, calls| Counts {
            cpu_ns,
            frames,
            work: Some(json!({
                "bytes_sent": calls * 100, "bytes_touched": calls * 50, "bytes_copied": 0,
                "calls_to_wait": calls, "calls_to_receive": calls, "calls_to_send": calls, "other_calls": 0
            })),
        };
        Figure::new(&outcome, 1000, &counts(10, 20, 1), &counts(10 + (cpu_s * 1e9) as u64, 8020, 1001))
    }

    #[test]
    fn a_figure_is_of_what_lies_between() {
        let figure = figure(0.25);
        assert!((figure.us_a_request() - 250.0).abs() < 1e-6);
        assert!((figure.s_a_gb() - 250.0).abs() < 1e-6);
        assert!((figure.both_us_a_request() - 350.0).abs() < 1e-6);
        assert_eq!(figure.rate(), 2000.0);
        assert_eq!((figure.frames, figure.calls, figure.touched), (8000.0, Some(3000.0), Some(0.5)));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut figures = Figures::new(2, 1);
        for (one, other) in [(0.2, 0.1), (0.8, 0.4), (0.3, 0.1)] {
            figures.push(0, 0, Some(figure(one)));
            figures.push(1, 0, Some(figure(other)));
        }
        figures.push(0, 0, None);
        figures.push(1, 0, Some(figure(9.0)));
        let ratio = figures.cpu_ratio(0, 1, 0).unwrap();
        assert!((ratio.median - 2.0).abs() < 1e-6 && (ratio.largest - 3.0).abs() < 1e-6, "{ratio:?}");
        assert_eq!(Spread::of([]), None);
    }
}
