//! One request and its answer, without a socket.

use std::sync::Arc;

use pipe_lib::{Engine, Library};
use runtime::time::Instant;

use super::herd::Asked;
use super::ledger::Failure;
use super::reply::{Progress, Reply};

/// What the content of answers is compared by: CRC32C, by a loop that only reads.
#[derive(Clone, Debug)]
pub(super) struct Verifier(Arc<Engine>);

impl Verifier {
    /// Makes the loop.
    pub(super) fn new() -> Verifier {
        let pipeline = Library::standard().pipeline("crc32c").expect("a standard pipe");
        Verifier(Arc::new(pipeline.compile().expect("the interpreter takes every pipe")))
    }

    fn update(&self, crc: u32, bytes: &[u8]) -> u32 {
        let mut imports = self.0.imports();
        imports.set("crc32c.crc", u64::from(!crc)).expect("its register");
        let prepared = self.0.with(&imports).expect("the engine's own imports");
        let run = prepared.run_read_only(bytes).expect("single bytes are whole words");
        run.value(self.0.exports()[0].id()) as u32
    }
}

/// What an answer was like. All to the same request should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: u16,
    /// Bytes of content; `None` if it came in chunks, since framing differs from one time to another.
    content_bytes: Option<u64>,
    /// The content's CRC32C, if it is compared.
    crc: Option<u32>,
}

/// The first answer to each of the targets.
pub(super) type FirstAnswers = Box<[Option<Answer>]>;

/// A connection's request under way.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    asked: Option<Asked>,
    reply: Reply,
    crc: u32,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It goes on.
    More,
    /// It is over.
    Over {
        asked: Asked,
        /// Bytes of content, or what was wrong.
        result: Result<u64, Failure>,
        /// Whether another may be asked for on the connection.
        keeps: bool,
    },
}

impl Exchange {
    /// A request goes out.
    pub(super) fn ask(&mut self, asked: Asked) {
        self.reply.reset();
        (self.asked, self.crc) = (Some(asked), 0);
    }

    /// What was asked for, if something is under way.
    pub(super) fn asked(&self) -> Option<Asked> {
        self.asked
    }

    /// Bytes have come.
    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        first: &mut FirstAnswers,
        verifier: Option<&Verifier>,
    ) -> Outcome {
        let Some(asked) = self.asked else {
            // Nobody asked: it is of no use any more.
            let asked = Asked { target: 0, due: Instant::ZERO };
            return Outcome::Over { asked, result: Err(Failure::Malformed), keeps: false };
        };
        let crc = &mut self.crc;
        let progress = self.reply.feed(bytes, |bytes| {
            if let Some(verifier) = verifier {
                *crc = verifier.update(*crc, bytes);
            }
        });
        self.conclude(asked, progress, first, verifier.is_some())
    }

    /// No byte will follow. `None` if nothing was under way, which is no failure.
    pub(super) fn on_end(&mut self, first: &mut FirstAnswers, verifies: bool) -> Option<Outcome> {
        let asked = self.asked?;
        Some(match self.reply.end() {
            Progress::Whole { .. } => self.conclude(asked, Progress::Whole { keeps: false }, first, verifies),
            _ => self.fail(Failure::Cut)?,
        })
    }

    /// It has failed. `None` if nothing was under way.
    pub(super) fn fail(&mut self, failure: Failure) -> Option<Outcome> {
        Some(Outcome::Over { asked: self.asked.take()?, result: Err(failure), keeps: false })
    }

    /// Whether nothing has come for what was asked.
    pub(super) fn is_unanswered(&self) -> bool {
        self.reply.is_untouched()
    }

    fn conclude(
        &mut self,
        asked: Asked,
        progress: Progress,
        first: &mut FirstAnswers,
        verifies: bool,
    ) -> Outcome {
        let keeps = match progress {
            Progress::More => return Outcome::More,
            Progress::Bad => {
                self.asked = None;
                return Outcome::Over { asked, result: Err(Failure::Malformed), keeps: false };
            }
            Progress::Whole { keeps } => keeps,
        };
        self.asked = None;
        let Reply { status, content_bytes, .. } = self.reply;
        let is_plain = self.reply.is_plain();
        let answer = Answer {
            status,
            content_bytes: is_plain.then_some(content_bytes),
            crc: (verifies && is_plain).then_some(self.crc),
        };
        let first = first[asked.target].get_or_insert(answer);
        let result = if status >= 400 || first.status != status {
            Err(Failure::Status)
        } else if *first != answer {
            Err(Failure::Contents)
        } else {
            Ok(content_bytes)
        };
        Outcome::Over { asked, result, keeps }
    }
}
