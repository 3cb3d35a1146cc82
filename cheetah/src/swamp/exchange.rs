//! A request and its answer on a connection of HTTP/1.1, without a socket; what an answer is held against.

use std::sync::Arc;

use pipe_lib::{Engine, Library};
use runtime::time::Instant;

use super::ledger::Failure;
use super::reply::{Progress, Reply};
use super::target::Targets;

/// What the content of answers is compared by: CRC32C, by a loop that only reads.
#[derive(Clone, Debug)]
pub(super) struct Verifier(Arc<Engine>);

impl Verifier {
    /// Makes the loop.
    pub(super) fn new() -> Verifier {
        let pipeline = Library::standard().pipeline("crc32c").expect("a standard pipe");
        Verifier(Arc::new(pipeline.compile().expect("the interpreter takes every pipe")))
    }

    pub(super) fn update(&self, crc: u32, bytes: &[u8]) -> u32 {
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
    pub(super) status: u16,
    /// Bytes of content; `None` if it came in chunks, since framing differs from one time to another.
    pub(super) content_bytes: Option<u64>,
    /// The content's CRC32C, if it is compared.
    pub(super) crc: Option<u32>,
}

/// The first answer to each of the targets.
pub(super) type FirstAnswers = Box<[Option<Answer>]>;

/// Something to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Which of the targets.
    pub(super) target: usize,
    /// When it is, or was, to be asked for: latency counts from here.
    pub(super) due: Instant,
    /// How often that came to nothing without anybody having looked at it.
    pub(super) tries: u8,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// It is over: bytes of content, or what was wrong.
    Over(Asked, Result<u64, Failure>),
    /// The server has not looked at it: it is to be asked for again, elsewhere.
    Again(Asked),
}

/// How it stands with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether more may be asked for.
    pub(super) takes_more: bool,
    /// Whether nothing will come.
    pub(super) is_over: bool,
}

/// Whether an answer is what it should be: as the first to the same request.
pub(super) fn judge(first: &mut FirstAnswers, target: usize, answer: Answer) -> Result<(), Failure> {
    let first = first[target].get_or_insert(answer);
    if answer.status >= 400 || first.status != answer.status {
        Err(Failure::Status)
    } else if *first != answer {
        Err(Failure::Contents)
    } else {
        Ok(())
    }
}

/// The one request under way on a connection of HTTP/1.1.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    asked: Option<(Asked, Instant)>,
    reply: Reply,
    crc: u32,
    /// Bytes of the request that need no more keeping.
    handed: usize,
    /// There were answers on the connection.
    has_answered: bool,
}

impl Exchange {
    /// A request goes out.
    pub(super) fn ask(&mut self, now: Instant, asked: Asked) {
        self.reply.reset();
        (self.asked, self.crc, self.handed) = (Some((asked, now)), 0, 0);
    }

    /// What is to be sent.
    pub(super) fn unsent<'a>(&self, targets: &'a Targets) -> &'a [u8] {
        self.asked.map_or(&[], |(asked, _)| &targets.get(asked.target).request[self.handed..])
    }

    /// So much of it needs no keeping.
    pub(super) fn handed_over(&mut self, bytes: usize) {
        self.handed += bytes;
    }

    /// What was asked for, if something is under way.
    pub(super) fn target(&self) -> Option<usize> {
        self.asked.map(|(asked, _)| asked.target)
    }

    /// Since when the request under way waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.asked.map(|(_, at)| at)
    }

    /// The request under way, and since when; it is no more.
    pub(super) fn give_up(&mut self) -> Option<(Asked, Instant)> {
        self.asked.take()
    }

    /// Bytes have come; what became of the request goes to `told`.
    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        first: &mut FirstAnswers,
        verifier: Option<&Verifier>,
        told: &mut Vec<Told>,
    ) -> Standing {
        if self.asked.is_none() {
            // Nobody asked: it is of no use any more.
            return Standing { takes_more: false, is_over: true };
        }
        let crc = &mut self.crc;
        let progress = self.reply.feed(bytes, |bytes| {
            if let Some(verifier) = verifier {
                *crc = verifier.update(*crc, bytes);
            }
        });
        self.conclude(progress, first, verifier.is_some(), told)
    }

    /// No byte will follow.
    pub(super) fn on_end(&mut self, first: &mut FirstAnswers, verifies: bool, told: &mut Vec<Told>) {
        if let Progress::Whole { .. } = self.reply.end() {
            self.conclude(Progress::Whole { keeps: false }, first, verifies, told);
        }
        let Some((asked, _)) = self.asked.take() else { return };
        // The server may end a kept connection at any time, so also just when it is asked again.
        let is_unlucky = self.has_answered && self.reply.is_untouched();
        told.push(if is_unlucky { Told::Again(asked) } else { Told::Over(asked, Err(Failure::Cut)) });
    }

    fn conclude(
        &mut self,
        progress: Progress,
        first: &mut FirstAnswers,
        verifies: bool,
        told: &mut Vec<Told>,
    ) -> Standing {
        if progress == Progress::More {
            return Standing { takes_more: true, is_over: false };
        }
        let keeps = progress == Progress::Whole { keeps: true };
        if let Some((asked, _)) = self.asked.take() {
            let result = if progress == Progress::Bad {
                Err(Failure::Malformed)
            } else {
                let Reply { status, content_bytes, .. } = self.reply;
                let is_plain = self.reply.is_plain();
                let answer = Answer {
                    status,
                    content_bytes: is_plain.then_some(content_bytes),
                    crc: (verifies && is_plain).then_some(self.crc),
                };
                judge(first, asked.target, answer).map(|()| content_bytes)
            };
            told.push(Told::Over(asked, result));
            self.has_answered = true;
        }
        Standing { takes_more: keeps, is_over: !keeps }
    }
}
