//! All connections of a thread together: when what is asked for, and what came of it.

use std::time::Duration;

use fastrand::Rng;
use runtime::time::Instant;

use super::Options;
use super::conversation::Conversation;
use super::exchange::{Asked, FirstAnswers, Standing, Told, Verifier};
use super::ledger::{Failure, Ledger};
use super::timetable::Timetable;

/// After a connection could not be had, the next is tried so much later.
const REST: Duration = Duration::from_millis(50);

/// As often a request is believed not to have been looked at. A server that ends connections after eight
/// requests has half of what is under way asked for again, so few would not do.
const MAX_TRIES: u8 = 16;

/// When requests fall due in an open loop.
#[derive(Clone, Debug)]
enum Schedule {
    AtRate {
        /// Nanoseconds from one to the next, on average.
        interval: f64,
        is_random: bool,
        /// Nanoseconds since the beginning at which the next falls due.
        next: f64,
    },
    As(Timetable),
}

impl Schedule {
    /// Nanoseconds since the beginning at which the next falls due.
    fn next(&self) -> u64 {
        match self {
            Schedule::AtRate { next, .. } => *next as u64,
            Schedule::As(table) => table.next(),
        }
    }

    fn advance(&mut self, rng: &mut Rng) {
        match self {
            Schedule::AtRate { interval, is_random, next } => {
                // Exponentially distributed gaps make a Poisson process.
                let gap = if *is_random { -(1.0 - rng.f64()).ln() } else { 1.0 };
                *next += *interval * gap;
            }
            Schedule::As(table) => table.advance(),
        }
    }
}

/// What the connections of a thread have in common.
#[derive(Debug)]
pub(super) struct Herd {
    pub(super) options: Options,
    pub(super) verifier: Option<Verifier>,
    pub(super) ledger: Ledger,
    first: FirstAnswers,
    rng: Rng,
    schedule: Option<Schedule>,
    began: Instant,
    /// Connections that wait for something to ask for, by whatever their owner calls them; of several streams
    /// once for each.
    idle: Vec<u32>,
    /// To be asked for again, since a server has not looked at it.
    again: Vec<Asked>,
    /// What a call has told.
    told: Vec<Told>,
    /// Connections that may be made.
    vacant: usize,
    /// No connection is tried before.
    rests_until: Instant,
}

/// Who is to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Idle(u32),
    New,
}

impl Herd {
    pub(super) fn new(options: Options, now: Instant) -> Herd {
        let mut rng = Rng::with_seed(options.seed);
        let at_rate = |rate| Schedule::AtRate {
            interval: 1e9 / rate,
            is_random: options.random_arrivals,
            // Threads that begin at once do not ask at once.
            next: rng.f64() * 1e9 / rate,
        };
        let schedule = match &options.timetable {
            Some(table) => Some(Schedule::As(table.clone())),
            None => options.rate.map(at_rate),
        };
        Herd {
            verifier: options.verify.then(Verifier::new),
            ledger: Ledger::default(),
            first: vec![None; options.targets.len()].into(),
            rng,
            schedule,
            began: now,
            idle: Vec::new(),
            again: Vec::new(),
            told: Vec::new(),
            vacant: options.connections,
            rests_until: Instant::ZERO,
            options,
        }
    }

    /// When counting begins.
    pub(super) fn counts_from(&self) -> Instant {
        self.began + self.options.warm_up
    }

    /// When nothing more falls due.
    pub(super) fn until(&self) -> Instant {
        self.counts_from() + self.options.duration
    }

    /// Whether it is over: the time, and in an open loop all that fell due in it, though not beyond the
    /// patience for it.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        if now < self.until() {
            return false;
        }
        let streams = self.options.streams();
        let unused = self.idle.len() + self.vacant * streams;
        let all_answered = self.again.is_empty() && unused == self.options.connections * streams;
        self.schedule.is_none()
            || (all_answered && self.next_due().is_none())
            || now >= self.until() + self.options.patience
    }

    /// When the next request of an open loop falls due, if one still does.
    fn next_due(&self) -> Option<Instant> {
        let due = self.began + Duration::from_nanos(self.schedule.as_ref()?.next());
        (due < self.until()).then_some(due)
    }

    /// When there is something to do without a byte having come.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        let due = if self.idle.is_empty() && self.vacant == 0 { None } else { self.next_due() };
        let rest = (self.vacant > 0 && self.rests_until > now).then_some(self.rests_until);
        [due, rest].into_iter().flatten().min().unwrap_or(Instant::from_nanos(u64::MAX))
    }

    /// What is to be asked for now, and by whom.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Asker, Asked)> {
        let asker = match self.idle.last() {
            Some(&key) => Asker::Idle(key),
            None if self.vacant > 0 && now >= self.rests_until => Asker::New,
            None => return None,
        };
        let asked = self.take(now)?;
        match asker {
            Asker::Idle(_) => drop(self.idle.pop()),
            Asker::New => self.vacant -= 1,
        }
        Some((asker, asked))
    }

    fn take(&mut self, now: Instant) -> Option<Asked> {
        if (self.schedule.is_some() || now < self.until())
            && let Some(asked) = self.again.pop()
        {
            return Some(asked);
        }
        let due = match &mut self.schedule {
            None if now < self.began + self.options.warm_up + self.options.duration => now,
            None => return None,
            Some(_) => {
                let due = self.next_due().filter(|&due| due <= now)?;
                self.schedule.as_mut()?.advance(&mut self.rng);
                due
            }
        };
        Some(Asked { target: self.options.mix.next(&mut self.rng), due, tries: 0 })
    }

    /// What a new connection says, which has been asked for one thing; it may be asked for more at once.
    pub(super) fn greet(&mut self, now: Instant, key: u32, asked: Asked) -> Conversation {
        let mut conversation = Conversation::new(self.options.http2.is_some());
        conversation.ask(now, asked, &self.options.targets);
        self.idle.extend(std::iter::repeat_n(key, self.options.streams() - 1));
        conversation
    }

    /// A connection takes no more requests.
    pub(super) fn withdraw(&mut self, key: u32) {
        self.idle.retain(|&other| other != key);
    }

    /// A connection is gone; if it was idle it was this one.
    pub(super) fn gone(&mut self, key: u32) {
        self.withdraw(key);
        self.vacant += 1;
    }

    /// One could not be had, or was of no use.
    pub(super) fn rest(&mut self, now: Instant) {
        self.rests_until = now + REST;
    }

    /// Writes down what became of a request.
    pub(super) fn record(&mut self, now: Instant, asked: Asked, result: Result<u64, Failure>) {
        // What a stall of the open loop delays beyond the end counts as well.
        let counts = match self.schedule {
            Some(_) => asked.due >= self.counts_from(),
            None => now >= self.counts_from() && now < self.until(),
        };
        if counts {
            // What comes after the end belongs to the last second, or a part of one would look like a slow
            // one.
            let last = self.options.duration.saturating_sub(Duration::from_nanos(1));
            let at = now.saturating_since(self.counts_from()).min(last);
            self.ledger.record(at, now.saturating_since(asked.due), result);
        }
    }

    /// Takes in bytes of a connection, writes down what came of it, and asks for more if that can be; how
    /// many answers there were, and how it stands with the connection, which is `key`.
    pub(super) fn on_bytes(
        &mut self,
        now: Instant,
        key: u32,
        conversation: &mut Conversation,
        bytes: &[u8],
    ) -> (usize, Standing) {
        let mut told = std::mem::take(&mut self.told);
        let (targets, verifier) = (&self.options.targets, self.verifier.as_ref());
        let mut standing = conversation.on_bytes(bytes, targets, &mut self.first, verifier, &mut told);
        let answers = told.len();
        self.write_down(now, &mut told);
        self.told = told;
        if answers > 0 && !self.options.keep {
            standing = Standing { takes_more: false, is_over: true };
        }
        if standing.is_over && conversation.is_turned_away() {
            self.rest(now);
        }
        if standing.takes_more {
            for _ in 0..answers {
                match self.take(now) {
                    Some(asked) => conversation.ask(now, asked, &self.options.targets),
                    None => self.idle.push(key),
                }
            }
        } else {
            self.withdraw(key);
        }
        (answers, standing)
    }

    /// A connection has ended, or is given up.
    pub(super) fn on_end(&mut self, now: Instant, conversation: &mut Conversation, failure: Option<Failure>) {
        let mut told = std::mem::take(&mut self.told);
        match failure {
            Some(failure) => conversation.fail(failure, |at| self.is_late(now, at), &mut told),
            None => conversation.on_end(&mut self.first, self.verifier.is_some(), &mut told),
        }
        if conversation.is_turned_away() {
            self.rest(now);
        }
        self.write_down(now, &mut told);
        self.told = told;
    }

    fn write_down(&mut self, now: Instant, told: &mut Vec<Told>) {
        for told in told.drain(..) {
            match told {
                Told::Over(asked, result) => self.record(now, asked, result),
                Told::Again(asked) if asked.tries == MAX_TRIES => {
                    self.record(now, asked, Err(Failure::Cut));
                }
                Told::Again(asked) => self.again.push(Asked { tries: asked.tries + 1, ..asked }),
            }
        }
    }

    /// Whether a connection has taken too long for what it was asked.
    pub(super) fn has_late(&self, now: Instant, conversation: &Conversation) -> bool {
        conversation.waits_since().is_some_and(|at| self.is_late(now, at))
    }

    fn is_late(&self, now: Instant, asked_at: Instant) -> bool {
        now.saturating_since(asked_at) > self.options.patience
    }

    /// Writes down what fell due and was never asked for, or not answered.
    pub(super) fn finish(mut self, now: Instant) -> Ledger {
        while self.schedule.is_some()
            && let Some(asked) = self.take(now)
        {
            self.record(now, asked, Err(Failure::Late));
        }
        self.ledger
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Targets, Url};
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    fn options(rate: Option<f64>) -> Options {
        let url: Url = "http://127.0.0.1/".parse().unwrap();
        let targets = Arc::new(Targets::new(&url, &["/".into()], true).unwrap());
        Options {
            rate,
            connections: 4,
            warm_up: Duration::ZERO,
            duration: Duration::from_secs(10),
            ..Options::new("127.0.0.1:80".parse().unwrap(), targets)
        }
    }

    /// A server that answers within a millisecond, but for a second in which it does not, asked for ten
    /// seconds of simulated time.
    fn with_a_stall(rate: Option<f64>) -> Ledger {
        let mut herd = Herd::new(options(rate), Instant::ZERO);
        let mut conversations: Vec<Conversation> = Vec::new();
        let mut busy: Vec<u32> = Vec::new();
        let mut ms = 0;
        loop {
            let now = Instant::from_millis(ms);
            if herd.is_over(now) {
                return herd.finish(now);
            }
            let stalls = (5000..6000).contains(&ms);
            for key in std::mem::take(&mut busy) {
                if stalls {
                    busy.push(key);
                    continue;
                }
                let conversation = &mut conversations[key as usize];
                let (answers, standing) = herd.on_bytes(now, key, conversation, ANSWER);
                assert_eq!((answers, standing), (1, Standing { takes_more: true, is_over: false }));
                if conversation.waits_since().is_some() {
                    busy.push(key);
                }
            }
            while let Some((asker, asked)) = herd.next(now) {
                match asker {
                    Asker::Idle(key) => {
                        conversations[key as usize].ask(now, asked, &herd.options.targets);
                        busy.push(key);
                    }
                    Asker::New => {
                        let key = conversations.len() as u32;
                        conversations.push(herd.greet(now, key, asked));
                        busy.push(key);
                    }
                }
            }
            ms += 1;
        }
    }

    #[test]
    fn an_open_loop_counts_the_stall_for_all_who_would_have_come() {
        let ledger = with_a_stall(Some(1000.0));
        assert_eq!(ledger.answers(), 10_000);
        // A thousand came in that second, and waited half of it on average; then there was a queue.
        assert!(ledger.percentile(95.0) > Duration::from_millis(200), "{:?}", ledger.percentile(95.0));
        assert!(ledger.percentile(50.0) < Duration::from_millis(5));
    }

    #[test]
    fn a_closed_loop_asks_less_while_the_server_stalls() {
        let ledger = with_a_stall(None);
        assert!(ledger.percentile(99.9) < Duration::from_millis(5));
        assert_eq!(ledger.latency.max() / 10_000_000, 100, "four waited a second");
        assert!(ledger.answers() > 30_000);
    }

    /// A connection that could not be had once is no reason to look again and again later.
    #[test]
    fn a_rest_that_is_over_wakes_nobody() {
        let mut herd = Herd::new(options(Some(10.0)), Instant::ZERO);
        herd.rest(Instant::from_millis(10));
        assert_eq!(
            herd.deadline(Instant::from_millis(20)),
            (Instant::from_millis(10) + REST).min(herd.next_due().unwrap())
        );
        let later = Instant::from_millis(500);
        while herd.take(later).is_some() {}
        assert!(herd.deadline(later) > later);
    }

    /// A server that goes at once, and in friendship, each time that it is asked by HTTP/2.
    #[test]
    fn what_nobody_looks_at_fails_at_last() {
        let url: Url = "http://127.0.0.1/".parse().unwrap();
        let targets = Arc::new(Targets::over_http2(&url, &["/".into()]).unwrap());
        let http2 = std::num::NonZeroUsize::new(1);
        let options = Options { http2, targets, connections: 1, ..options(None) };
        let settings_and_goaway = [&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7][..], &[0; 14]].concat();
        let mut herd = Herd::new(options, Instant::ZERO);
        let mut connections = 0;
        for ms in 0..10_000 {
            let now = Instant::from_millis(ms);
            if let Some((asker, asked)) = herd.next(now) {
                assert_eq!(asker, Asker::New);
                let mut conversation = herd.greet(now, 0, asked);
                let over = Standing { takes_more: false, is_over: true };
                let (_, standing) = herd.on_bytes(now, 0, &mut conversation, &settings_and_goaway);
                assert_eq!(standing, over);
                herd.gone(0);
                connections += 1;
            }
        }
        let ledger = herd.finish(Instant::from_millis(10_000));
        assert_eq!(connections, 200, "one each 50 ms");
        let failed = connections / (u64::from(MAX_TRIES) + 1);
        assert_eq!((ledger.answers(), ledger.failed()), (0, failed));
        assert_eq!(ledger.failures[Failure::Cut as usize], failed);
    }

    #[test]
    fn requests_fall_due_at_the_rate() {
        for random_arrivals in [false, true] {
            let mut herd = Herd::new(Options { random_arrivals, ..options(Some(500.0)) }, Instant::ZERO);
            let end = Instant::from_millis(20_000);
            let mut due = Vec::new();
            while let Some(asked) = herd.take(end) {
                due.push(asked.due);
            }
            let count = due.len() as f64;
            assert!((count - 5000.0).abs() < if random_arrivals { 300.0 } else { 1.5 }, "{count}");
            assert!(due.is_sorted() && *due.last().unwrap() < herd.until());
        }
    }

    #[test]
    fn what_was_never_asked_for_is_late() {
        let mut herd = Herd::new(options(Some(10.0)), Instant::ZERO);
        let now = Instant::from_millis(30_000);
        let (asker, asked) = herd.next(now).unwrap();
        assert_eq!(asker, Asker::New);
        let mut conversation = herd.greet(now, 0, asked);
        herd.on_end(now, &mut conversation, Some(Failure::Connect));
        let ledger = herd.finish(now);
        assert_eq!(ledger.failures[Failure::Connect as usize], 1);
        assert!((99..=100).contains(&ledger.failed()), "{:?}", ledger.failures);
        assert_eq!(ledger.answers(), 0);
    }
}
