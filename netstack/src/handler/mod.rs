//! Arrival handlers (ASH of *Server Operating Systems*, 2.3): small programs that see a frame before the
//! stack does, and say what becomes of it. They are pipes ([`pipe_lib::handler`]), so that one from a
//! stranger can neither loop nor look elsewhere; `docs/handlers.md` is the reference.
//!
//! ```text
//!   device -> XdpFilter: in the kernel, eBPF      -> device's queue
//!          -> Handlers:  in the driver's turn     -> Stack::handle_frame
//! ```
//!
//! The same handlers run in either place: [`Handlers`] where the driver takes frames in, [`xdp::XdpFilter`]
//! on the interface.

mod load;
pub mod xdp;

pub use load::{Binding, LoadError, load};

use pipe_lib::handler::{Handler, Verdict};

/// A handler by the name that its counters are shown by.
#[derive(Clone, Debug)]
pub struct NamedHandler {
    /// As it was asked for.
    pub name: String,
    /// What it does.
    pub handler: Handler,
}

/// What a handler has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerStats {
    /// The handler's name.
    pub name: String,
    /// Frames by verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; Verdict::ALL.len()],
    /// Its own counters by name; they wrap.
    pub counters: Vec<(String, u64)>,
}

impl HandlerStats {
    fn new(handler: &NamedHandler) -> HandlerStats {
        HandlerStats {
            name: handler.name.clone(),
            verdicts: [0; Verdict::ALL.len()],
            counters: handler.handler.counters().map(|name| (name.to_owned(), 0)).collect(),
        }
    }

    /// Adds what the same handler has counted elsewhere.
    pub fn add(&mut self, other: &HandlerStats) {
        self.verdicts.iter_mut().zip(other.verdicts).for_each(|(sum, count)| *sum += count);
        for ((_, sum), (_, count)) in self.counters.iter_mut().zip(&other.counters) {
            *sum = sum.wrapping_add(*count);
        }
    }
}

/// Handlers one behind the other: each is asked until one says more than "pass".
#[derive(Debug, Default)]
pub struct Handlers {
    list: Vec<(Handler, HandlerStats)>,
    values: Vec<u64>,
    answer: Vec<u8>,
    core: u32,
}

impl Handlers {
    /// In the order in which they are asked.
    pub fn new(list: &[NamedHandler]) -> Handlers {
        let list = list.iter().map(|named| (named.handler.clone(), HandlerStats::new(named)));
        Handlers { list: list.collect(), ..Handlers::default() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What is to become of a frame that has arrived. After [`Verdict::Answer`], [`Handlers::answer`] goes
    /// back; after [`Verdict::Steer`], [`Handlers::core`] gets it.
    pub fn arrived(&mut self, frame: &[u8]) -> Verdict {
        for (handler, stats) in &mut self.list {
            let verdict = handler.judge(frame, &mut self.values);
            stats.verdicts[verdict as usize] += 1;
            for ((_, counter), count) in stats.counters.iter_mut().zip(handler.counted(&self.values)) {
                *counter = counter.wrapping_add(count);
            }
            if verdict == Verdict::Answer {
                handler.write_answer(frame, &self.values, &mut self.answer);
            }
            if verdict == Verdict::Steer {
                self.core = handler.core(&self.values);
            }
            if verdict != Verdict::Pass {
                return verdict;
            }
        }
        Verdict::Pass
    }

    /// Whether one of them may steer frames to cores.
    pub fn steer(&self) -> bool {
        self.list.iter().any(|(handler, _)| handler.steers())
    }

    /// The core that the frame goes to that was steered last.
    pub fn core(&self) -> u32 {
        self.core
    }

    /// The answer that was made last: a whole frame.
    pub fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// What each has counted.
    pub fn stats(&self) -> impl Iterator<Item = &HandlerStats> {
        self.list.iter().map(|(_, stats)| stats)
    }
}
