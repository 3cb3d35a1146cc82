//! Requests as they come: heads in one frame or several, contents frame by frame.

use std::time::Duration;

use fsstack::cache::reads::BlockRead;

use super::connection::{Fault, Http2, protocol, too_short};
use super::fields::BadFields;
use super::priority::Priority;
use super::stream::{Ending, Stream, Taker};
use super::{CONNECTION_WINDOW, MAX_STREAMS, STREAM_WINDOW};
use crate::access_log::{Line, Record};
use crate::answer;
use crate::answerers::{self, Answering, Origin};
use crate::body::Awaited;
use crate::http::abuse::Abuse;
use crate::http::date::Persistence;
use crate::http::frame::{ErrorCode, FrameHeader, flag, u31, without_padding};
use crate::http::parse::{self, Parsed};
use crate::http::request::{Method, Request, Version};
use crate::http::response::Status;
use crate::programs::Ask;
use crate::service::Service;

/// A head that comes in several frames.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    ends_stream: bool,
    priority_is_bad: bool,
    bytes: Vec<u8>,
    frames: u32,
}

/// A frame of content, as far as it has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContentFrame {
    stream: u32,
    /// Bytes to come, of content and of padding.
    left: usize,
    padding: usize,
    /// All that counts for the windows.
    len: u32,
    ends_stream: bool,
}

impl Http2 {
    pub(super) fn on_headers(
        &mut self,
        service: &mut Service,
        header: FrameHeader,
        content: &[u8],
    ) -> Result<(), Fault> {
        let id = header.stream;
        if id.is_multiple_of(2) {
            return Err(protocol("a request of an even stream, or of none"));
        }
        let mut block = without_padding(header, content).ok_or(protocol("more padding than frame"))?;
        let mut priority_is_bad = false;
        if header.has(flag::PRIORITY) {
            // What RFC 7540 said of it is not followed (RFC 9113 section 5.3.2).
            let (parent, _) = block.split_first_chunk::<4>().ok_or(too_short())?;
            priority_is_bad = u31(*parent) == id;
            block = block.get(5..).ok_or(too_short())?;
        }
        let ends_stream = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.on_block(service, id, block, ends_stream, priority_is_bad);
        }
        self.head_began = service.now();
        self.block =
            Some(Block { stream: id, ends_stream, priority_is_bad, bytes: block.to_vec(), frames: 0 });
        Ok(())
    }

    pub(super) fn on_continuation(
        &mut self,
        service: &mut Service,
        header: FrameHeader,
        content: &[u8],
    ) -> Result<(), Fault> {
        let Some(block) = &mut self.block else { return Err(protocol("nothing to continue")) };
        block.frames += 1;
        block.bytes.extend_from_slice(content);
        // Huffman's code makes eight bytes of five at best.
        if block.frames > Abuse::Continuations.burst() || block.bytes.len() > 2 * service.options.limits.head
        {
            return Err(Fault::Excess(Abuse::Continuations));
        }
        if header.has(flag::END_HEADERS)
            && let Some(block) = self.block.take()
        {
            let Block { stream, ends_stream, priority_is_bad, bytes, .. } = block;
            return self.on_block(service, stream, &bytes, ends_stream, priority_is_bad);
        }
        Ok(())
    }

    /// A whole head, of a new stream or behind the content of one. Whatever becomes of it, it is decoded: the
    /// next one may refer to it.
    fn on_block(
        &mut self,
        service: &mut Service,
        id: u32,
        block: &[u8],
        ends_stream: bool,
        priority_is_bad: bool,
    ) -> Result<(), Fault> {
        let mut fields = std::mem::take(&mut self.fields).reuse();
        let mut scratch = std::mem::take(&mut service.path_scratch);
        let limit = service.options.limits.head;
        let decoded = self.decoder.decode(block, &mut scratch, |name, value| fields.take(name, value, limit));
        scratch.clear();
        service.path_scratch = scratch;
        self.fields = fields;
        if decoded.is_err() {
            return Err(Fault::Connection(ErrorCode::COMPRESSION_ERROR, "a head that cannot be decoded"));
        }
        if id <= self.last_stream {
            return self.on_trailers(service, id, ends_stream);
        }
        if !self.takes_requests() {
            // The client knows which of its requests are answered.
            return Ok(());
        }
        self.last_stream = id;
        let priority = self.take_foretold(id);
        if self.open >= MAX_STREAMS {
            service.stats.http2.refused += 1;
            return Err(Fault::Stream(id, ErrorCode::REFUSED_STREAM));
        }
        let priority = priority.or(self.fields.priority).unwrap_or_default();
        let mut head = std::mem::take(&mut service.head_scratch);
        head.clear();
        let written = self.fields.write_head(&mut head);
        let result = if priority_is_bad {
            Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR))
        } else {
            self.on_head(service, id, &head, written, ends_stream, priority)
        };
        service.head_scratch = head;
        result
    }

    /// Fields behind the content: they say nothing here.
    fn on_trailers(&mut self, service: &mut Service, id: u32, ends_stream: bool) -> Result<(), Fault> {
        let Some(key) = self.find(id)? else { return self.on_late(service, id) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if stream.peer_ended {
            return Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED));
        }
        if !ends_stream || !self.fields.are_trailers() {
            return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR));
        }
        self.on_content_end(service, key)
    }

    /// A head or content of a stream that is over.
    fn on_late(&mut self, service: &mut Service, id: u32) -> Result<(), Fault> {
        self.spend(service, Abuse::Useless)?;
        match self.ending_of(id) {
            None => Err(protocol("a number below that of the last stream")),
            Some(Ending::Whole) => {
                Err(Fault::Connection(ErrorCode::STREAM_CLOSED, "a stream goes on that both had ended"))
            }
            Some(Ending::PeerReset) => {
                self.send_reset(id, ErrorCode::STREAM_CLOSED);
                Ok(())
            }
            Some(Ending::Reset) => Ok(()),
        }
    }

    fn on_head(
        &mut self,
        service: &mut Service,
        id: u32,
        head: &[u8],
        written: Result<(), BadFields>,
        ends_stream: bool,
        priority: Priority,
    ) -> Result<(), Fault> {
        let malformed = Fault::Stream(id, ErrorCode::PROTOCOL_ERROR);
        let parsed = match written {
            Err(BadFields::Malformed) => return Err(malformed),
            Err(BadFields::TooLarge) => Parsed::Refused(Status::FieldsTooLarge),
            Ok(()) => parse::parse(head, &service.options.limits),
        };
        if let Parsed::Complete { request, .. } = &parsed
            && ends_stream
            && request.content_length > 0
        {
            return Err(malformed);
        }
        service.stats.http2.streams += 1;
        let mut stream = Stream::new(id, priority, self.stream_window, STREAM_WINDOW.into());
        stream.peer_ended = ends_stream;
        if let Parsed::Complete { request, .. } = &parsed {
            stream.content_left = self.fields.has_length.then_some(request.content_length);
        }
        let key = self.streams.insert(stream);
        self.keys.push_back((id, key));
        self.open += 1;
        self.last_progress = service.now();
        match parsed {
            Parsed::Complete { request, .. } => {
                let is_chunked = !ends_stream && !self.fields.has_length;
                let request = Request { version: Version::Http2, keep_alive: true, is_chunked, ..request };
                self.on_request(service, key, &request, !ends_stream);
            }
            Parsed::Refused(status) => self.refuse(service, key, status, head),
            // It has its end.
            Parsed::Partial => self.refuse(service, key, Status::BadRequest, head),
        }
        Ok(())
    }

    fn on_request(&mut self, service: &mut Service, key: usize, request: &Request<'_>, has_content: bool) {
        let origin = Origin { peer: self.peer, secured: self.secured };
        match answerers::find(service, origin, request) {
            Answering::Here => self.answer(service, key, request, Vec::new()),
            Answering::Kept(hit) => {
                let mut text = std::mem::take(&mut service.text_scratch);
                let answer = answer::of_hit(service, request, &hit, Persistence::Implicit, &mut text);
                let record = self.record_of(request).with(answer.status);
                self.respond(service, key, text, answer, &record);
            }
            Answering::Program(ask) => self.on_program_request(service, key, request, ask, has_content),
            Answering::Upload(upload) => {
                let Some(stream) = self.streams.get_mut(key) else { return };
                stream.content = Taker::Upload(upload);
                if !has_content {
                    self.submit(service, key);
                } else if request.expects_continue {
                    self.send_interim(key);
                }
            }
            Answering::Refused(status) => {
                let mut text = std::mem::take(&mut service.text_scratch);
                let with_body = request.method != Method::Head;
                let answer = answer::page(service, status, Persistence::Implicit, with_body, &mut text);
                let record = self.record_of(request).with(status);
                self.respond(service, key, text, answer, &record);
            }
        }
    }

    /// Answers a request, or has it wait for the disk; `held` is what was read for it before.
    fn answer(&mut self, service: &mut Service, key: usize, request: &Request<'_>, held: Vec<BlockRead>) {
        let mut text = std::mem::take(&mut service.text_scratch);
        service.reader.begin(self.key, held);
        let answer = answer::answer(service, request, Persistence::Implicit, &mut text);
        let is_blocked = service.reader.is_blocked();
        let held = service.reader.end();
        if is_blocked {
            text.clear();
            service.text_scratch = text;
            if let Some(stream) = self.streams.get_mut(key) {
                stream.content = Taker::Parked(Box::new((request.head.to_vec(), held)));
            }
            return;
        }
        let record = self.record_of(request).with(answer.status);
        self.respond(service, key, text, answer, &record);
    }

    /// Answers a request that waited for the disk, from the beginning.
    pub(super) fn answer_parked(
        &mut self,
        service: &mut Service,
        key: usize,
        head: &[u8],
        held: Vec<BlockRead>,
    ) {
        if let Parsed::Complete { request, .. } = parse::parse(head, &service.options.limits) {
            let request = Request { version: Version::Http2, keep_alive: true, ..request };
            service.set_secured(self.secured);
            service.choose(&request);
            self.answer(service, key, &request, held);
        }
    }

    pub(super) fn record_of<'a>(&self, request: &Request<'a>) -> Record<'a> {
        Record { version: Some(Version::Http2), ..Record::of_request(self.peer, request) }
    }

    /// Answers a head that is no request.
    fn refuse(&mut self, service: &mut Service, key: usize, status: Status, head: &[u8]) {
        let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
        let line = &line[..line.len().min(service.options.limits.request_line)];
        let record = Record::of_none(self.peer, line).with(status);
        service.set_secured(self.secured);
        service.choose_first();
        let mut text = std::mem::take(&mut service.text_scratch);
        let answer = answer::page(service, status, Persistence::Implicit, true, &mut text);
        self.respond(service, key, text, answer, &record);
    }

    /// A request that a program answers.
    fn on_program_request(
        &mut self,
        service: &mut Service,
        key: usize,
        request: &Request<'_>,
        ask: Ask,
        has_content: bool,
    ) {
        let awaited = Awaited {
            persistence: Persistence::Implicit,
            with_body: request.method != Method::Head,
            may_chunk: false,
        };
        let is_too_large = request.content_length > ask.max_content();
        let line: Option<Box<Line>> = service.record(0, &self.record_of(request));
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.line = line;
        stream.content = Taker::Program(Box::new((ask, awaited)));
        if !has_content {
            self.ask(service, key);
        } else if is_too_large {
            self.refuse_content(service, key, Status::ContentTooLarge);
        } else if request.expects_continue {
            self.send_interim(key);
        }
    }

    pub(super) fn on_content_frame(
        &mut self,
        service: &mut Service,
        header: FrameHeader,
        begun: &[u8],
    ) -> Result<(), Fault> {
        let id = header.stream;
        if id == 0 {
            return Err(protocol("content of no stream"));
        }
        let padding =
            if header.has(flag::PADDED) { usize::from(*begun.first().ok_or(too_short())?) } else { 0 };
        let Some(left) = (header.len - begun.len()).checked_sub(padding) else {
            return Err(protocol("more padding than frame"));
        };
        let ends_stream = header.has(flag::END_STREAM);
        if left == 0 && !ends_stream {
            self.spend(service, Abuse::EmptyFrames)?;
        }
        let len = header.len as u32;
        self.receive_window -= i64::from(len);
        if self.receive_window < 0 {
            return Err(Fault::Connection(ErrorCode::FLOW_CONTROL_ERROR, "more content than the window has"));
        }
        let frame = ContentFrame { stream: id, left, padding, len, ends_stream };
        let begin = self.begin_content(service, &frame);
        if let Err(fault) = begin {
            // Its bytes are skipped, and count for the connection all the same.
            self.on_fault(service, fault);
        }
        self.content = Some(frame);
        if left + padding == 0 { self.end_content_frame(service) } else { Ok(()) }
    }

    fn begin_content(&mut self, service: &mut Service, frame: &ContentFrame) -> Result<(), Fault> {
        let id = frame.stream;
        let Some(key) = self.find(id)? else { return self.on_late(service, id) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if stream.peer_ended {
            return Err(Fault::Stream(id, ErrorCode::STREAM_CLOSED));
        }
        stream.receive_window -= i64::from(frame.len);
        if stream.receive_window < 0 {
            return Err(Fault::Stream(id, ErrorCode::FLOW_CONTROL_ERROR));
        }
        if let Some(left) = &mut stream.content_left {
            match left.checked_sub(frame.left as u64) {
                Some(rest) => *left = rest,
                None => return Err(Fault::Stream(id, ErrorCode::PROTOCOL_ERROR)),
            }
        }
        Ok(())
    }

    /// Takes what belongs to the frame of content off the front of `bytes`; how much that is.
    pub(super) fn take_content(&mut self, service: &mut Service, bytes: &[u8]) -> usize {
        let Some(frame) = &mut self.content else { return 0 };
        let content = bytes.len().min(frame.left);
        let padding = (bytes.len() - content).min(frame.padding);
        frame.left -= content;
        frame.padding -= padding;
        let (is_whole, id) = (frame.left + frame.padding == 0, frame.stream);
        if let Ok(Some(key)) = self.find(id) {
            self.take_in(service, key, &bytes[..content]);
        }
        if is_whole && let Err(fault) = self.end_content_frame(service) {
            self.on_fault(service, fault);
        }
        content + padding
    }

    fn take_in(&mut self, service: &mut Service, key: usize, bytes: &[u8]) {
        let now = service.now();
        let Some(stream) = self.streams.get_mut(key) else { return };
        let refused = match &mut stream.content {
            Taker::Nobody | Taker::Parked(_) => return,
            Taker::Upload(upload) => upload.take(bytes, now).err(),
            Taker::Program(asking) => {
                let Some(programs) = &mut service.programs else { return };
                // Who sends a thousand bytes a second or more may take its time.
                let earned = Duration::from_millis(bytes.len() as u64);
                self.last_progress = now.min(self.last_progress + earned);
                programs.add_content(&mut asking.0, bytes).err()
            }
        };
        if let Some(status) = refused {
            self.refuse_content(service, key, status);
        }
    }

    /// The frame of content is over: the windows are opened again.
    fn end_content_frame(&mut self, service: &mut Service) -> Result<(), Fault> {
        let Some(frame) = self.content.take() else { return Ok(()) };
        self.owed += frame.len;
        if self.owed >= CONNECTION_WINDOW / 2 {
            let owed = std::mem::take(&mut self.owed);
            self.receive_window += i64::from(owed);
            self.give_back(0, owed);
        }
        let Ok(Some(key)) = self.find(frame.stream) else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if stream.peer_ended {
            return Ok(());
        }
        if frame.ends_stream {
            return self.on_content_end(service, key);
        }
        // Of content that nobody wants no more than a window comes.
        stream.owed += frame.len;
        if stream.owed >= STREAM_WINDOW / 2 && matches!(stream.content, Taker::Upload(_) | Taker::Program(_))
        {
            let owed = std::mem::take(&mut stream.owed);
            stream.receive_window += i64::from(owed);
            self.give_back(frame.stream, owed);
        }
        Ok(())
    }

    /// All of a request has come.
    fn on_content_end(&mut self, service: &mut Service, key: usize) -> Result<(), Fault> {
        let Some(stream) = self.streams.get_mut(key) else { return Ok(()) };
        if stream.content_left.is_some_and(|left| left > 0) {
            return Err(Fault::Stream(stream.id, ErrorCode::PROTOCOL_ERROR));
        }
        stream.peer_ended = true;
        match stream.content {
            Taker::Nobody | Taker::Parked(_) => {}
            Taker::Upload(_) => self.submit(service, key),
            Taker::Program(_) => self.ask(service, key),
        }
        self.close_stream(service, key);
        Ok(())
    }

    fn submit(&mut self, service: &mut Service, key: usize) {
        let waker = service.wakes.connection(self.key);
        if let Some(Taker::Upload(upload)) = self.streams.get_mut(key).map(|stream| &mut stream.content) {
            upload.submit(waker);
        }
    }
}
