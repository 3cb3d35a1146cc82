//! Several requests and their answers at once on one connection: HTTP/2 (RFC 9113) as a client of files
//! speaks it, without a socket. The server pushes nothing, and what we send enters no table of its.

use std::collections::VecDeque;

use runtime::time::Instant;

use super::exchange::{Answer, Asked, FirstAnswers, Standing, Told, Verifier, judge};
use super::ledger::Failure;
use super::target::Targets;
use crate::http::frame::{
    ErrorCode, FrameHeader, HEADER_BYTES, MAX_FRAME, PREFACE, flag, kind, setting, u31, without_padding,
};
use crate::http::hpack::Decoder;

/// Given to each stream: more than a response has, as a rule.
const STREAM_WINDOW: u32 = 1 << 30;

/// Given to all of them together: the most there can be, and half of it again when that was taken.
const WINDOW: u32 = (1 << 31) - 1;

/// What holds for all of them until something is said (section 6.9.2).
const INITIAL_WINDOW: u32 = 65_535;

/// Longest head, coded.
const MAX_BLOCK: usize = 64 << 10;

/// What a server has us say (acknowledgements) and does not take, beyond this, is no HTTP.
const MAX_OUT: usize = 1 << 20;

/// Streams at once, until the server has said how many (section 6.5.2).
const FIRST_STREAMS: usize = 100;

/// The last number of a stream of ours (section 5.1.1).
const LAST_STREAM: u32 = (1 << 31) - 1;

/// One connection.
#[derive(Debug)]
pub(super) struct Multiplexed {
    /// What is to be sent, from `handed` on.
    out: Vec<u8>,
    handed: usize,
    /// What who carries it had not sent of what was handed over.
    held: usize,
    /// Bytes that the server has had us say, since all was sent.
    owed_answers: usize,
    /// The beginning of a frame.
    input: Vec<u8>,
    /// The server's settings came, which are the first that it says.
    has_begun: bool,
    /// Streams below were begun before.
    first_informed: u32,
    has_answered: bool,
    /// The server would not take a request.
    has_refused: bool,
    decoder: Decoder,
    scratch: Vec<u8>,
    /// A head that has begun: its stream, and whether it is that's end.
    head: Option<(u32, bool)>,
    /// What came of it.
    block: Vec<u8>,
    /// In the order in which they were asked for.
    open: Vec<Asking>,
    /// For which the server has no stream yet.
    waiting: VecDeque<(Asked, Instant)>,
    next_stream: u32,
    /// That the server allows.
    max_open: usize,
    /// Bytes of content that came and were not given back to the window of all streams.
    owed: u32,
    /// The server takes no more.
    is_ending: bool,
}

/// A request under way.
#[derive(Debug)]
struct Asking {
    stream: u32,
    asked: Asked,
    at: Instant,
    /// 0 until there is a head.
    status: u16,
    declared: Option<u64>,
    content_bytes: u64,
    crc: u32,
    owed: u32,
}

/// What has come of it is no HTTP/2, or not of this connection.
struct Wrong;

impl Multiplexed {
    pub(super) fn new() -> Multiplexed {
        let mut out = PREFACE.to_vec();
        let settings = [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW)];
        frame(&mut out, kind::SETTINGS, 0, 0, settings.len() * 6);
        for (name, value) in settings {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        give(&mut out, 0, WINDOW - INITIAL_WINDOW);
        Multiplexed {
            out,
            handed: 0,
            held: 0,
            owed_answers: 0,
            input: Vec::new(),
            has_begun: false,
            first_informed: 1,
            has_answered: false,
            has_refused: false,
            decoder: Decoder::default(),
            scratch: Vec::new(),
            head: None,
            block: Vec::new(),
            open: Vec::new(),
            waiting: VecDeque::new(),
            next_stream: 1,
            max_open: FIRST_STREAMS,
            owed: 0,
            is_ending: false,
        }
    }

    /// A request goes out, at once if the server has a stream for it.
    pub(super) fn ask(&mut self, now: Instant, asked: Asked, targets: &Targets) {
        self.waiting.push_back((asked, now));
        self.open_streams(targets);
    }

    fn open_streams(&mut self, targets: &Targets) {
        while self.open.len() < self.max_open
            && !self.is_ending
            && let Some((asked, at)) = self.waiting.pop_front()
        {
            let stream = self.next_stream;
            let begins_at = self.out.len();
            self.out.extend_from_slice(&targets.get(asked.target).request);
            // A whole frame but for the number of its stream.
            self.out[begins_at + HEADER_BYTES - 4..begins_at + HEADER_BYTES]
                .copy_from_slice(&stream.to_be_bytes());
            self.is_ending = stream == LAST_STREAM;
            self.next_stream = stream.saturating_add(2);
            let (declared, owed) = (None, 0);
            self.open.push(Asking { stream, asked, at, status: 0, declared, content_bytes: 0, crc: 0, owed });
        }
    }

    /// What is to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.out[self.handed..]
    }

    /// So much of it needs no keeping.
    pub(super) fn handed_over(&mut self, bytes: usize) {
        self.handed += bytes;
        if self.handed == self.out.len() {
            self.out.clear();
            self.handed = 0;
        } else if self.handed > self.out.len() / 2 {
            self.out.drain(..self.handed);
            self.handed = 0;
        }
    }

    /// So much of what was handed over is not sent yet.
    pub(super) fn still_held(&mut self, bytes: usize) {
        self.held = bytes;
        if bytes == 0 && self.out.is_empty() {
            self.owed_answers = 0;
        }
    }

    /// Whether the server would have none of it: it has answered nothing, and refused something.
    pub(super) fn is_turned_away(&self) -> bool {
        self.has_refused && !self.has_answered
    }

    /// Since when the first of those under way waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        // What was refused and is asked again here has waited since it was asked first.
        let waiting = self.waiting.iter().map(|(_, at)| *at);
        self.open.iter().map(|asking| asking.at).chain(waiting).min()
    }

    /// All that are under way, and since when; they are no more.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = (Asked, Instant)> {
        self.is_ending = true;
        let open = std::mem::take(&mut self.open).into_iter().map(|asking| (asking.asked, asking.at));
        open.chain(std::mem::take(&mut self.waiting))
    }

    /// The connection is no more, which for what was sent is this failure.
    pub(super) fn end(&mut self, failure: Failure, told: &mut Vec<Told>) {
        self.is_ending = true;
        told.extend(self.open.drain(..).map(|asking| Told::Over(asking.asked, Err(failure))));
        self.give_back_waiting(told);
    }

    /// What was never sent is nobody's failure.
    fn give_back_waiting(&mut self, told: &mut Vec<Told>) {
        self.has_refused |= !self.waiting.is_empty();
        told.extend(self.waiting.drain(..).map(|(asked, _)| Told::Again(asked)));
    }

    /// Bytes have come; what became of requests goes to `told`.
    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        targets: &Targets,
        first: &mut FirstAnswers,
        verifier: Option<&Verifier>,
        told: &mut Vec<Told>,
    ) -> Standing {
        let mut context = Context { first, verifier, told };
        if self.take(bytes, &mut context).is_err() {
            self.end(Failure::Malformed, told);
            return Standing { takes_more: false, is_over: true };
        }
        self.open_streams(targets);
        if self.is_ending {
            self.give_back_waiting(told);
        }
        Standing { takes_more: !self.is_ending, is_over: self.is_ending && self.open.is_empty() }
    }

    /// Frame by frame; of those that came whole nothing is copied.
    fn take(&mut self, mut bytes: &[u8], context: &mut Context<'_>) -> Result<(), Wrong> {
        while !self.input.is_empty() {
            let wanted = match FrameHeader::parse(&self.input) {
                Some(header) => HEADER_BYTES + len_of(header)?,
                None => HEADER_BYTES,
            };
            let (now, later) = bytes.split_at(bytes.len().min(wanted - self.input.len()));
            self.input.extend_from_slice(now);
            bytes = later;
            if self.input.len() < wanted {
                return Ok(());
            }
            let header = FrameHeader::parse(&self.input).ok_or(Wrong)?;
            if self.input.len() < HEADER_BYTES + len_of(header)? {
                continue;
            }
            let whole = std::mem::take(&mut self.input);
            self.on_frame(header, &whole[HEADER_BYTES..], context)?;
            self.input = whole;
            self.input.clear();
        }
        while let Some(header) = FrameHeader::parse(bytes)
            && let Some(payload) = bytes[HEADER_BYTES..].get(..len_of(header)?)
        {
            bytes = &bytes[HEADER_BYTES + payload.len()..];
            self.on_frame(header, payload, context)?;
        }
        self.input.extend_from_slice(bytes);
        Ok(())
    }

    fn on_frame(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), Wrong> {
        if !std::mem::replace(&mut self.has_begun, true) {
            if header.kind != kind::SETTINGS || header.has(flag::ACK) {
                return Err(Wrong);
            }
            self.first_informed = self.next_stream;
        }
        // Nothing may come between the parts of a head (section 6.10).
        if let Some((stream, _)) = self.head
            && (header.kind != kind::CONTINUATION || header.stream != stream)
        {
            return Err(Wrong);
        }
        match header.kind {
            kind::DATA => self.on_content(header, payload, context)?,
            kind::HEADERS => {
                let stream = self.ours(header)?;
                let mut block = without_padding(header, payload).ok_or(Wrong)?;
                if header.has(flag::PRIORITY) {
                    block = block.get(5..).ok_or(Wrong)?;
                }
                self.head = Some((stream, header.has(flag::END_STREAM)));
                self.block.clear();
                self.on_block(header, block, context)?;
            }
            kind::CONTINUATION if self.head.is_some() => self.on_block(header, payload, context)?,
            kind::RST_STREAM => {
                let &code = payload.as_array().ok_or(Wrong)?;
                let stream = self.ours(header)?;
                let is_refused = u32::from_be_bytes(code) == ErrorCode::REFUSED_STREAM.0;
                if let Some(at) = self.find(stream) {
                    let Asking { asked, at, .. } = self.open.remove(at);
                    if is_refused && stream < self.first_informed {
                        // It may have been one too many, when nobody had said yet how many there can be.
                        self.waiting.push_front((asked, at));
                    } else if is_refused {
                        // Here it would be refused again.
                        self.is_ending = true;
                        self.refused(asked, false, context);
                    } else {
                        context.told.push(Told::Over(asked, Err(Failure::Cut)));
                    }
                }
            }
            kind::SETTINGS => self.on_settings(header, payload)?,
            kind::PING => {
                if payload.len() != 8 || header.stream != 0 {
                    return Err(Wrong);
                }
                if !header.has(flag::ACK) {
                    frame(&mut self.out, kind::PING, flag::ACK, 0, 8);
                    self.out.extend_from_slice(payload);
                    self.owed_answers += HEADER_BYTES + 8;
                }
            }
            kind::GOAWAY => {
                let &[l0, l1, l2, l3, c0, c1, c2, c3] = payload.first_chunk().ok_or(Wrong)?;
                let last = u31([l0, l1, l2, l3]);
                let is_friendly = u32::from_be_bytes([c0, c1, c2, c3]) == ErrorCode::NO_ERROR.0;
                self.is_ending = true;
                self.has_refused = true;
                // What is behind it was not looked at, and may be asked for elsewhere (section 6.8).
                let is_refused = |asking: &mut Asking| asking.stream > last;
                let refused: Vec<Asking> = self.open.extract_if(.., is_refused).collect();
                for asking in refused {
                    self.refused(asking.asked, is_friendly, context);
                }
            }
            kind::WINDOW_UPDATE => {
                let &by = payload.as_array().ok_or(Wrong)?;
                if header.stream == 0 && u31(by) == 0 {
                    return Err(Wrong);
                }
            }
            // Of what we have refused, and of parts of nothing.
            kind::PUSH_PROMISE | kind::CONTINUATION => return Err(Wrong),
            // Nothing that is known, or of use to us (section 4.1).
            _ => {}
        }
        // Requests may be long, and what was sent is no burden.
        let not_taken = self.owed_answers.min(self.unsent().len() + self.held);
        if not_taken > MAX_OUT { Err(Wrong) } else { Ok(()) }
    }

    /// A request that the server says it has not looked at. Who has answered nothing is not believed, unless
    /// it goes in friendship: the same would come of the next connection.
    fn refused(&mut self, asked: Asked, is_friendly: bool, context: &mut Context<'_>) {
        self.has_refused = true;
        let is_believed = is_friendly || self.has_answered;
        let over = Told::Over(asked, Err(Failure::Cut));
        context.told.push(if is_believed { Told::Again(asked) } else { over });
    }

    fn on_settings(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Wrong> {
        let (values, rest) = payload.as_chunks::<6>();
        if header.stream != 0 || !rest.is_empty() || (header.has(flag::ACK) && !payload.is_empty()) {
            return Err(Wrong);
        }
        if header.has(flag::ACK) {
            return Ok(());
        }
        for &[n0, n1, v0, v1, v2, v3] in values {
            if u16::from_be_bytes([n0, n1]) == setting::MAX_CONCURRENT_STREAMS {
                self.max_open = u32::from_be_bytes([v0, v1, v2, v3]) as usize;
            }
        }
        frame(&mut self.out, kind::SETTINGS, flag::ACK, 0, 0);
        self.owed_answers += HEADER_BYTES;
        Ok(())
    }

    fn on_content(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
        context: &mut Context<'_>,
    ) -> Result<(), Wrong> {
        let stream = self.ours(header)?;
        let content = without_padding(header, payload).ok_or(Wrong)?;
        if take_back(&mut self.owed, payload.len(), WINDOW) {
            give(&mut self.out, 0, std::mem::take(&mut self.owed));
        }
        // What was given up may still come.
        let Some(at) = self.find(stream) else { return Ok(()) };
        let asking = &mut self.open[at];
        if asking.status == 0 {
            return Err(Wrong);
        }
        if take_back(&mut asking.owed, payload.len(), STREAM_WINDOW) {
            give(&mut self.out, stream, std::mem::take(&mut asking.owed));
        }
        asking.content_bytes += content.len() as u64;
        if let Some(verifier) = context.verifier {
            asking.crc = verifier.update(asking.crc, content);
        }
        if header.has(flag::END_STREAM) {
            self.conclude(at, context);
        }
        Ok(())
    }

    /// A part of the head that has begun.
    fn on_block(&mut self, header: FrameHeader, part: &[u8], context: &mut Context<'_>) -> Result<(), Wrong> {
        if self.block.len() + part.len() > MAX_BLOCK {
            return Err(Wrong);
        }
        self.block.extend_from_slice(part);
        if !header.has(flag::END_HEADERS) {
            return Ok(());
        }
        let (stream, is_end) = self.head.take().ok_or(Wrong)?;
        let (mut status, mut declared, mut is_wrong) = (None, None, false);
        let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        // For the table's sake, of those that were given up as well.
        let decoded = self.decoder.decode(&self.block, &mut self.scratch, |name, value| match name {
            b":status" => {
                is_wrong |= status.is_some() || value.len() != 3;
                status = number(value);
            }
            b"content-length" => {
                declared = number(value);
                is_wrong |= declared.is_none();
            }
            _ => {}
        });
        if decoded.is_err() || is_wrong {
            return Err(Wrong);
        }
        let Some(at) = self.find(stream) else { return Ok(()) };
        let asking = &mut self.open[at];
        match (asking.status, status) {
            // An interim answer (RFC 9110 section 15.2).
            (0, Some(100..200)) if !is_end => {}
            (0, Some(status @ 200..)) => (asking.status, asking.declared) = (status as u16, declared),
            // Fields behind the content.
            (200.., None) if is_end => {}
            _ => return Err(Wrong),
        }
        if is_end {
            self.conclude(at, context);
        }
        Ok(())
    }

    /// The answer is whole.
    fn conclude(&mut self, at: usize, context: &mut Context<'_>) {
        let Asking { asked, status, declared, content_bytes, crc, .. } = self.open.remove(at);
        self.has_answered = true;
        // A 304 says how long what it does not send is (RFC 9110 section 8.6).
        let is_short = declared.is_some_and(|declared| declared != content_bytes) && status != 304;
        let result = if is_short {
            Err(Failure::Malformed)
        } else {
            let crc = context.verifier.is_some().then_some(crc);
            judge(context.first, asked.target, Answer { status, content_bytes: Some(content_bytes), crc })
                .map(|()| content_bytes)
        };
        context.told.push(Told::Over(asked, result));
    }

    /// The number of a stream that we have begun.
    fn ours(&self, header: FrameHeader) -> Result<u32, Wrong> {
        let is_ours = header.stream % 2 == 1 && header.stream < self.next_stream;
        if is_ours { Ok(header.stream) } else { Err(Wrong) }
    }

    /// Few, and those that were asked for first are answered first.
    fn find(&self, stream: u32) -> Option<usize> {
        self.open.iter().position(|asking| asking.stream == stream)
    }
}

/// What all connections have in common, and where it is told what became of requests.
struct Context<'a> {
    first: &'a mut FirstAnswers,
    verifier: Option<&'a Verifier>,
    told: &'a mut Vec<Told>,
}

/// The length of a frame's content, which is no longer than we have said that we take.
fn len_of(header: FrameHeader) -> Result<usize, Wrong> {
    if header.len <= MAX_FRAME { Ok(header.len) } else { Err(Wrong) }
}

/// Begins a frame of `len` bytes.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, len: usize) {
    out.extend_from_slice(&FrameHeader { len, kind, flags, stream }.bytes());
}

/// Lets a stream (or all, which is 0) send so much more.
fn give(out: &mut Vec<u8>, stream: u32, by: u32) {
    frame(out, kind::WINDOW_UPDATE, 0, stream, 4);
    out.extend_from_slice(&by.to_be_bytes());
}

/// Counts what has come of a window; whether half of it is used.
fn take_back(owed: &mut u32, bytes: usize, window: u32) -> bool {
    *owed += bytes as u32;
    *owed >= window / 2
}

#[cfg(test)]
mod tests;
