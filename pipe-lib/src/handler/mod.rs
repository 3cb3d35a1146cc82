//! Arrival handlers: pipelines over the first bytes of a frame that say what is to become of it.
//!
//! A handler is a pipeline whose stages only look. It exports `verdict`, and numbers that are added to
//! counters of those names for each frame; if it ends in a frame (`-> reply`), the fields of that are what it
//! answers with; if it exports `core`, it may steer. It has no loop and no branch: `unroll` writes out what
//! it does with each of the first [`MAX_PREFIX_BYTES`] bytes, where the place of every word is known, and
//! what is left is some dozens of steps, which on x86-64 are machine code. `docs/handlers.md` is the
//! reference.
//!
//! What a handler says of a frame, exactly: the results of its pipeline over the frame's first
//! `MAX_PREFIX_BYTES` bytes, zeros in place of those that the frame does not have.

mod straight;
mod unroll;

#[cfg(test)]
mod tests;

pub use crate::backend::ebpf::XdpProgram;
#[cfg(native)]
use crate::backend::ebpf::direct::HandlerCode;
pub(crate) use straight::{FrameSource, FrameStep, StraightLine, name};

use crate::compose::Composition;
use crate::ir::{Gauge, Value};
use std::fmt;
#[cfg(native)]
use std::sync::Arc;

/// Bytes of a frame that a handler may look at.
pub const MAX_PREFIX_BYTES: usize = 128;

/// What is to become of a frame; the numbers are those of the export `verdict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whoever is asked next decides: another handler, or the stack. Also all numbers that mean nothing.
    Pass = 0,
    /// It is gone.
    Drop = 1,
    /// It is left to the kernel; no other handler is asked.
    Kernel = 2,
    /// The handler's answer goes back where it came from.
    Answer = 3,
    /// The stack of another core gets it, as the export `core` says, and no other handler is asked.
    Steer = 4,
}

impl Verdict {
    /// Every verdict, in the order of their numbers.
    pub const ALL: [Verdict; 5] =
        [Verdict::Pass, Verdict::Drop, Verdict::Kernel, Verdict::Answer, Verdict::Steer];

    /// A word for people.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Drop => "drop",
            Verdict::Kernel => "kernel",
            Verdict::Answer => "answer",
            Verdict::Steer => "steer",
        }
    }
}

/// Why a pipeline is no handler, or not one for a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerError {
    what: String,
}

impl HandlerError {
    pub(crate) fn new(what: impl Into<String>) -> HandlerError {
        HandlerError { what: what.into() }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no handler: {}", self.what)
    }
}

impl core::error::Error for HandlerError {}

/// What an answer is made of.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// From the first byte on.
    pub(crate) fields: Vec<AnswerField>,
    /// Bytes of all of them.
    pub(crate) head_bytes: usize,
    /// Bytes of the answer, where it is not as long as the frame that it answers.
    pub(crate) length: Option<Value>,
}

/// Some bytes of an answer.
#[derive(Clone, Debug)]
pub(crate) enum AnswerField {
    /// Those of the frame that is answered.
    Keep(usize),
    Bytes(Vec<u8>),
    Number {
        gauge: Gauge,
        value: Value,
    },
}

/// A handler, ready to be asked.
///
/// ```
/// let mut library = pipe_lib::Library::standard();
/// library.load("arp.pipe", "pipe no_arp : u16be tail zero {
///     state kind: u16
///     in x
///     pos p
///     eq here, p, 12
///     sel kind, here, x, kind
///     finish { eq.u16 arp, kind, 0x0806; zext.u8 verdict, arp; export verdict; export arp }
/// }")?;
/// let handler = pipe_lib::handler::Handler::new(library.pipeline("no_arp")?.composition())?;
/// let mut frame = [0; 60];
/// frame[12..14].copy_from_slice(&[8, 6]);
/// let mut values = Vec::new();
/// assert_eq!(handler.judge(&frame, &mut values), pipe_lib::handler::Verdict::Drop);
/// assert_eq!(handler.counted(&values).collect::<Vec<_>>(), [1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Handler {
    line: StraightLine,
    verdict: Value,
    counters: Vec<(String, Value)>,
    answer: Option<Answer>,
    core: Option<Value>,
    prefix_bytes: usize,
    #[cfg(native)]
    code: Option<Arc<HandlerCode>>,
}

impl Handler {
    /// The handler that a pipeline is.
    ///
    /// # Errors If it writes words, has windows, no export `verdict`, or does what takes memory; the message
    /// says what to write instead.
    pub fn new(composition: &Composition) -> Result<Handler, HandlerError> {
        let unroll::Unrolled { line, verdict, counters, answer, core } = unroll::unroll(composition)?;
        let prefix_bytes = line.prefix_bytes();
        #[cfg_attr(not(native), allow(unused_mut))]
        let mut handler = Handler {
            line,
            verdict,
            counters,
            answer,
            core,
            prefix_bytes,
            #[cfg(native)]
            code: None,
        };
        #[cfg(native)]
        {
            handler.code = HandlerCode::new(&handler.line, &handler.results()).map(Arc::new);
        }
        Ok(handler)
    }

    /// The same, to be interpreted: what its machine code is compared with.
    #[must_use]
    pub fn interpreted(self) -> Handler {
        #[cfg(native)]
        return Handler { code: None, ..self };
        #[cfg(not(native))]
        self
    }

    /// Whether it is machine code in this process; else it is interpreted, step by step.
    pub fn is_compiled(&self) -> bool {
        #[cfg(native)]
        return self.code.is_some();
        #[cfg(not(native))]
        false
    }

    /// Whether it may steer frames to cores.
    pub fn steers(&self) -> bool {
        self.core.is_some()
    }

    /// The core that the frame judged last goes to, if it is steered.
    ///
    /// # Panics
    /// If `values` are not of [`Handler::judge`].
    pub fn core(&self, values: &[u64]) -> u32 {
        self.core.map_or(0, |core| values[core.0 as usize] as u32)
    }

    /// Values that are of use when the steps are done.
    pub(crate) fn results(&self) -> Vec<Value> {
        let mut results: Vec<Value> = self.counter_values().chain([self.verdict]).chain(self.core).collect();
        results.extend(self.answer.iter().flat_map(Answer::values));
        results
    }

    /// All results for a frame that has as many bytes as are looked at.
    fn evaluate(&self, frame: &[u8], values: &mut Vec<u64>) {
        #[cfg(native)]
        if let Some(code) = &self.code {
            return code.run(frame, values);
        }
        self.line.evaluate(frame, values);
    }

    /// Bytes of a frame that some result depends on.
    pub fn prefix_bytes(&self) -> usize {
        self.prefix_bytes
    }

    /// The names of its counters.
    pub fn counters(&self) -> impl Iterator<Item = &str> {
        self.counters.iter().map(|(name, _)| name.as_str())
    }

    /// Whether it may answer.
    pub fn answers(&self) -> bool {
        self.answer.is_some()
    }

    /// What is to become of `frame`. `values` is of use to [`Handler::counted`] and
    /// [`Handler::write_answer`], and to be used again.
    pub fn judge(&self, frame: &[u8], values: &mut Vec<u64>) -> Verdict {
        if frame.len() >= self.prefix_bytes {
            self.evaluate(frame, values);
        } else {
            let mut padded = [0; MAX_PREFIX_BYTES];
            padded[..frame.len()].copy_from_slice(frame);
            self.evaluate(&padded, values);
        }
        let number = values[self.verdict.0 as usize] as usize;
        Verdict::ALL.get(number).copied().unwrap_or(Verdict::Pass)
    }

    /// By how much each counter grows for the frame judged last.
    ///
    /// # Panics
    /// If `values` are not of [`Handler::judge`].
    pub fn counted(&self, values: &[u64]) -> impl Iterator<Item = u64> {
        self.counters.iter().map(|(_, value)| values[value.0 as usize])
    }

    /// The answer to `frame`, which was judged last.
    ///
    /// # Panics
    /// If `values` are not of [`Handler::judge`].
    pub fn write_answer(&self, frame: &[u8], values: &[u64], answer: &mut Vec<u8>) {
        answer.clear();
        let Some(plan) = &self.answer else { return };
        for field in &plan.fields {
            match field {
                AnswerField::Keep(bytes) => {
                    let at = answer.len();
                    let kept = frame.get(at..).unwrap_or_default();
                    answer.extend(kept.iter().copied().chain(std::iter::repeat(0)).take(*bytes));
                }
                AnswerField::Bytes(bytes) => answer.extend_from_slice(bytes),
                AnswerField::Number { gauge, value } => {
                    let at = answer.len();
                    answer.resize(at + gauge.bytes(), 0);
                    gauge.write(values[value.0 as usize].into(), &mut answer[at..]);
                }
            }
        }
        let length = match plan.length {
            Some(length) => (values[length.0 as usize] as usize).min(frame.len().max(plan.head_bytes)),
            None => frame.len(),
        };
        let rest = frame.get(answer.len()..).unwrap_or_default();
        answer.extend_from_slice(rest);
        answer.truncate(length);
    }

    pub(crate) fn answer(&self) -> Option<&Answer> {
        self.answer.as_ref()
    }

    pub(crate) fn line(&self) -> &StraightLine {
        &self.line
    }

    pub(crate) fn verdict(&self) -> Value {
        self.verdict
    }

    pub(crate) fn counter_values(&self) -> impl Iterator<Item = Value> + '_ {
        self.counters.iter().map(|(_, value)| *value)
    }
}

/// The steps, and what they give.
impl fmt::Display for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "looks at {} bytes", self.prefix_bytes)?;
        write!(f, "{}", self.line)?;
        writeln!(f, "verdict = v{}", self.verdict.0)?;
        for (name, value) in &self.counters {
            writeln!(f, "count {name} += v{}", value.0)?;
        }
        Ok(())
    }
}
