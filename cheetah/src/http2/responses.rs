//! Responses on their way out: heads as blocks, bodies cut into frames as the windows allow, in the order of
//! the schedule.

use super::connection::Http2;
use super::outgoing::Part;
use super::stream::{Stream, Taker};
use crate::access_log::Record;
use crate::answer::{self, Answer, OfProgram};
use crate::body::{Body, LiveBody};
use crate::http::abuse::Abuse;
use crate::http::date::Persistence;
use crate::http::frame::{ErrorCode, FrameHeader, HEADER_BYTES, MAX_FRAME, flag, kind};
use crate::http::hpack;
use crate::http::response::Status;
use crate::live::End;
use crate::service::Service;

/// Bytes in frames that the transport has not asked for yet: few, so that what is urgent need not wait for
/// them.
const AHEAD: u64 = 128 * 1024;

/// Bytes in frames that are not acknowledged.
const MAX_HELD: u64 = 4 << 20;

/// Bytes of a file that is not in memory that are read beyond what is sent.
const READ_AHEAD: u64 = 128 * 1024;

/// So many bytes of content give reason for a `WINDOW_UPDATE`.
const BYTES_AN_UPDATE: u32 = 512;

/// What came of cutting a frame off a body.
enum Cut {
    /// There is more.
    More,
    /// There is nothing that could be sent now.
    Nothing,
    Broken,
}

impl Http2 {
    /// Queues a response; `text` is the service's scratch and goes back to it.
    pub(super) fn respond(
        &mut self,
        service: &mut Service,
        key: usize,
        text: Vec<u8>,
        answer: Answer,
        record: &Record<'_>,
    ) {
        let Answer { status, document, has_ready_head, body, closes: _ } = answer;
        let Some(stream) = self.streams.get_mut(key) else { return };
        (stream.document, stream.body) = (document, body);
        if let Body::Live(live) = &stream.body {
            live.wake_by(service.wakes.connection(self.key));
        }
        // What grows as long as anybody listens has no time that it takes.
        stream.began = (!matches!(stream.body, Body::Live(_))).then(|| service.now());
        let body_bytes = stream.body.len();
        let ends = !stream.body.is_open() && body_bytes == 0;
        let head_bytes = self.queue_head(service, key, has_ready_head.then_some(status), &text, ends);
        let mut text = text;
        text.clear();
        service.text_scratch = text;
        let line = service.record(head_bytes as u64 + body_bytes, record);
        if let Some(stream) = self.streams.get_mut(key)
            && line.is_some()
        {
            stream.line = line;
        }
        self.after_head(service, key, ends);
    }

    fn after_head(&mut self, service: &mut Service, key: usize, ends: bool) {
        self.last_progress = service.now();
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.has_head = true;
        // What still comes of the request is of no use.
        stream.content = Taker::Nobody;
        if ends {
            self.end_response(service, key);
        } else {
            self.schedule(key);
        }
    }

    /// Queues the head of a response: what lies ready of its document, if that is to be used, and `text`, or
    /// its end if that is empty. How many bytes that is.
    fn queue_head(
        &mut self,
        service: &mut Service,
        key: usize,
        ready: Option<Status>,
        text: &[u8],
        ends: bool,
    ) -> usize {
        let Some(stream) = self.streams.get_mut(key) else { return 0 };
        let tail = if text.is_empty() {
            service.block_tail()
        } else {
            let mut tail = std::mem::take(&mut service.block_scratch);
            hpack::of_head(text, &mut tail);
            let slice = service.pooled(&mut tail);
            service.block_scratch = tail;
            slice
        };
        let flags = flag::END_HEADERS | if ends { flag::END_STREAM } else { 0 };
        let table = usize::from(!self.has_sent_block);
        if let Some(status) = ready
            && let Some(block) = stream.ready_block(status)
        {
            let len = table + block.bytes.len() + tail.len();
            if len <= MAX_FRAME {
                let header = FrameHeader { len, kind: kind::HEADERS, flags, stream: stream.id };
                let mut start = [hpack::EMPTY_TABLE; HEADER_BYTES + 1];
                start[..HEADER_BYTES].copy_from_slice(&header.bytes());
                let start_len = (HEADER_BYTES + table) as u8;
                stream.parts += 1;
                self.has_sent_block = true;
                self.out.push(
                    Part::ReadyHead { start, start_len, stream: key, status, tail },
                    HEADER_BYTES + len,
                );
                return HEADER_BYTES + len;
            }
        }
        let mut block = Vec::with_capacity(256);
        if let Some(status) = ready
            && let Some(head) = stream.document.as_ref().and_then(|document| document.ready_head(status))
        {
            hpack::of_head(head.bytes, &mut block);
        }
        block.extend_from_slice(tail.bytes());
        let id = stream.id;
        self.queue_block(service, id, &block, ends)
    }

    /// Queues a block as one frame or several. How many bytes that is.
    fn queue_block(&mut self, service: &mut Service, id: u32, block: &[u8], ends: bool) -> usize {
        let mut bytes = std::mem::take(&mut service.block_scratch);
        if !std::mem::replace(&mut self.has_sent_block, true) {
            bytes.push(hpack::EMPTY_TABLE);
        }
        bytes.extend_from_slice(block);
        let mut frames = Vec::with_capacity(bytes.len() + 2 * HEADER_BYTES);
        let last = bytes.len().div_ceil(MAX_FRAME).max(1) - 1;
        for (number, part) in bytes.chunks(MAX_FRAME).enumerate() {
            let (kind, mut flags) = match number {
                0 => (kind::HEADERS, if ends { flag::END_STREAM } else { 0 }),
                _ => (kind::CONTINUATION, 0),
            };
            if number == last {
                flags |= flag::END_HEADERS;
            }
            frames.extend_from_slice(&FrameHeader { len: part.len(), kind, flags, stream: id }.bytes());
            frames.extend_from_slice(part);
        }
        bytes.clear();
        service.block_scratch = bytes;
        let slice = service.pooled(&mut frames);
        let len = slice.len();
        self.out.push(Part::Made(slice), len);
        len
    }

    /// `100 Continue`: no answer yet.
    pub(super) fn send_interim(&mut self, key: usize) {
        let Some(stream) = self.streams.get(key) else { return };
        let mut block = Vec::with_capacity(8);
        if !std::mem::replace(&mut self.has_sent_block, true) {
            block.push(hpack::EMPTY_TABLE);
        }
        hpack::status(b"100", &mut block);
        // Seven bytes at most.
        self.send_short(kind::HEADERS, flag::END_HEADERS, stream.id, &block);
    }

    pub(super) fn send_reset(&mut self, id: u32, code: ErrorCode) {
        self.send_short(kind::RST_STREAM, 0, id, &code.0.to_be_bytes());
    }

    /// Gives a request to its program, now that all of it has come.
    pub(super) fn ask(&mut self, service: &mut Service, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Taker::Program(asking) = std::mem::replace(&mut stream.content, Taker::Nobody) else { return };
        let Some(programs) = &mut service.programs else { return };
        let (ask, awaited) = *asking;
        let receiver = programs.begin(ask);
        receiver.wake_by(service.wakes.connection(self.key));
        stream.body = Body::Live(Box::new(LiveBody::with_head(receiver, awaited)));
        stream.began = Some(service.now());
    }

    /// Refuses a request of whose content something is still to come.
    pub(super) fn refuse_content(&mut self, service: &mut Service, key: usize, status: Status) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let taker = std::mem::replace(&mut stream.content, Taker::Nobody);
        service.set_secured(self.secured);
        if let Taker::Upload(upload) = &taker {
            service.enter(upload.host);
        }
        let mut text = std::mem::take(&mut service.text_scratch);
        let with_body = !matches!(&taker, Taker::Program(asking) if !asking.1.with_body);
        let answer = answer::page(service, status, Persistence::Implicit, with_body, &mut text);
        match taker {
            Taker::Upload(upload) => self.respond_to_upload(service, key, text, answer, &upload.asked),
            Taker::Nobody | Taker::Parked(_) | Taker::Program(_) => {
                self.respond_late(service, key, text, answer)
            }
        }
    }

    /// A response to a request whose line for the log is made already.
    fn respond_late(&mut self, service: &mut Service, key: usize, text: Vec<u8>, answer: Answer) {
        let code = answer.status.code();
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.body = answer.body;
        stream.began = Some(service.now());
        if let Some(line) = &mut stream.line {
            line.set_status(code);
        }
        let body_bytes = stream.body.len();
        let ends = body_bytes == 0;
        let head_bytes = self.queue_head(service, key, None, &text, ends);
        let mut text = text;
        text.clear();
        service.text_scratch = text;
        service.count(code, head_bytes as u64 + body_bytes);
        self.after_head(service, key, ends);
    }

    fn respond_to_upload(
        &mut self,
        service: &mut Service,
        key: usize,
        text: Vec<u8>,
        answer: Answer,
        asked: &crate::upload::Asked,
    ) {
        let record = asked.record(self.peer).with(answer.status);
        self.respond(service, key, text, answer, &record);
    }

    /// Takes what has come of what others make: outcomes of uploads, heads of programs, bodies that grow.
    pub(super) fn look_after_waiting(&mut self, service: &mut Service) {
        let waiting = self.streams.iter().filter(|(_, stream)| stream.waits());
        let keys: smallvec::SmallVec<[usize; 16]> = waiting.map(|(key, _)| key).collect();
        for key in keys {
            self.look_after(service, key);
        }
    }

    fn look_after(&mut self, service: &mut Service, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if let Taker::Upload(upload) = &stream.content {
            let Some(outcome) = upload.outcome() else { return };
            let Taker::Upload(upload) = std::mem::replace(&mut stream.content, Taker::Nobody) else { return };
            service.set_secured(self.secured);
            service.enter(upload.host);
            let mut text = std::mem::take(&mut service.text_scratch);
            let answer = match outcome {
                Ok(made) => answer::changed(service, &made, Persistence::Implicit, &mut text),
                Err(status) => answer::page(service, status, Persistence::Implicit, true, &mut text),
            };
            return self.respond_to_upload(service, key, text, answer, &upload.asked);
        }
        if let Taker::Parked(parked) = &stream.content {
            if parked.1.iter().any(|read| read.outcome().is_none()) {
                return;
            }
            let Taker::Parked(parked) = std::mem::replace(&mut stream.content, Taker::Nobody) else { return };
            let (head, held) = *parked;
            return self.answer_parked(service, key, &head, held);
        }
        if std::mem::take(&mut stream.awaits_disk) {
            return self.schedule(key);
        }
        let Body::Live(live) = &mut stream.body else { return };
        if live.awaits_head() {
            let Some(come) = live.take_head() else { return };
            service.set_secured(self.secured);
            let mut text = std::mem::take(&mut service.text_scratch);
            let OfProgram { code, instead, is_delimited: _ } = answer::of_program(service, come, &mut text);
            if let Some(page) = instead {
                stream.body = page;
            }
            if let Some(line) = &mut stream.line {
                line.set_status(code);
            }
            let ends = !stream.body.is_open() && stream.body.is_empty();
            let head_bytes = self.queue_head(service, key, None, &text, ends);
            text.clear();
            service.text_scratch = text;
            service.count(code, head_bytes as u64);
            self.after_head(service, key, ends);
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Body::Live(live) = &mut stream.body else { return };
        let before = live.len();
        live.take(service.options.max_read_ahead);
        let (after, ended) = (live.len(), live.ended());
        service.stats.bytes += after - before;
        if after > before && stream.sent == before {
            // The peer was not slow: there was nothing for it.
            self.last_progress = service.now();
        }
        let (is_sent, id) = (stream.sent == after, stream.id);
        match ended {
            Some(End::Broken) if is_sent => self.reset(service, id, ErrorCode::INTERNAL_ERROR),
            Some(End::Finished) if is_sent => {
                self.queue_content(key, 0, true);
                self.end_response(service, key);
            }
            _ => self.schedule(key),
        }
    }

    /// Gives a stream its place among those that could send, if it has something to send and its window
    /// allows it.
    pub(super) fn schedule(&mut self, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.unsent() > 0 && stream.window > 0 && !stream.is_scheduled {
            stream.is_scheduled = true;
            self.schedule.add((stream.id, key), stream.priority);
        }
    }

    /// Cuts bodies into frames, as far ahead as is of use.
    pub(super) fn fill(&mut self, service: &mut Service) {
        while self.window > 0 && self.out.ahead() < AHEAD && self.out.held() < MAX_HELD {
            let Some((id, key)) = self.schedule.next() else { return };
            let Some(stream) = self.streams.get_mut(key) else { continue };
            stream.is_scheduled = false;
            match self.cut(service, key) {
                Cut::More => self.schedule(key),
                Cut::Nothing => {}
                Cut::Broken => self.reset(service, id, ErrorCode::INTERNAL_ERROR),
            }
        }
    }

    fn cut(&mut self, service: &mut Service, key: usize) -> Cut {
        let window = self.window;
        let Some(stream) = self.streams.get_mut(key) else { return Cut::Nothing };
        let room = window.min(stream.window).clamp(0, MAX_FRAME as i64) as u64;
        let mut len = stream.unsent().min(room);
        if len == 0 {
            return Cut::Nothing;
        }
        let Stream { document, body, sent, .. } = stream;
        if body.is_read()
            && let Some(document) = document
        {
            service.reader.begin(self.key, Vec::new());
            let fetched = body.fetch(&**document, *sent + len + READ_AHEAD, &service.reader);
            // What is being read is held by the body.
            drop(service.reader.end());
            // What lies before an error is still sent.
            let had = body.fetched();
            if let Err((_, error)) = fetched
                && had <= *sent
            {
                tracing::warn!("a response is cut short, for its file cannot be read: {error}");
                return Cut::Broken;
            }
            len = len.min(had.saturating_sub(*sent));
            if len == 0 {
                stream.awaits_disk = true;
                return Cut::Nothing;
            }
        }
        let is_last = *sent + len == body.len() && !body.is_open();
        // What a program has not finished, and never will, ends by an error.
        let ends = is_last && !body.is_broken();
        self.queue_content(key, len as u32, ends);
        self.allowances.earn(Abuse::WindowUpdates, len as u32 / BYTES_AN_UPDATE);
        if ends {
            self.end_response(service, key);
            Cut::Nothing
        } else if is_last {
            Cut::Broken
        } else {
            Cut::More
        }
    }

    /// Queues a frame of the next `len` bytes of a body.
    fn queue_content(&mut self, key: usize, len: u32, ends: bool) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let flags = if ends { flag::END_STREAM } else { 0 };
        let header = FrameHeader { len: len as usize, kind: kind::DATA, flags, stream: stream.id }.bytes();
        let from = stream.sent;
        stream.sent += u64::from(len);
        stream.window -= i64::from(len);
        self.window -= i64::from(len);
        stream.parts += 1;
        self.out.push(Part::Content { header, stream: key, from, len }, HEADER_BYTES + len as usize);
    }

    /// All of a response is queued.
    fn end_response(&mut self, service: &mut Service, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.is_ended = true;
        // The rest of the request is not wanted (RFC 9113 section 8.1). A client that is told so together
        // with the response may lose that (curl 7.88 does), so it gets time to see for itself.
        stream.answered_early = (!stream.peer_ended).then(|| service.now());
        self.close_stream(service, key);
    }

    /// Lets go of what the peer has.
    pub(super) fn forget_acknowledged(&mut self, service: &mut Service) {
        while let Some(part) = self.out.pop_acknowledged() {
            let key = match part {
                Part::Short(..) | Part::Made(_) => continue,
                Part::ReadyHead { stream, .. } => stream,
                Part::Content { stream: key, from, len, .. } => {
                    if let Some(stream) = self.streams.get_mut(key) {
                        stream.taken = from + u64::from(len);
                        stream.body.release(stream.taken);
                    }
                    key
                }
            };
            if let Some(stream) = self.streams.get_mut(key) {
                stream.parts -= 1;
                self.close_stream(service, key);
            }
        }
    }

    /// As [`crate::conn::Conn::are_settled`].
    pub fn are_settled(&self, offset: u64, len: usize) -> bool {
        let mut those = self.out.streams_of(offset, offset.saturating_add(len as u64));
        those.all(|key| !self.streams.get(key).is_some_and(|stream| matches!(stream.body, Body::Live(_))))
    }
}
