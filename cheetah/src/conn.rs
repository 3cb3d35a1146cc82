//! One HTTP connection as a sans-IO state machine: request bytes go in, a [`PayloadSource`] of responses
//! comes out.
//!
//! It knows neither sockets nor TCP: a transport feeds it ([`Conn::on_bytes`], [`Conn::on_end`],
//! [`Conn::on_timeout`]) and sends what it offers. Responses queue up in the order of their requests (RFC
//! 9112 section 9.3.2); when too many wait, the connection stops asking for bytes ([`Conn::window`]) until
//! the peer has taken some. Contents are never copied here: pieces point into the site's image, into blocks
//! that are held until they are acknowledged, and into shared texts. A connection that waits for a request
//! owns no memory but itself: what it had is with the [`Service`] for the next.
//!
//! ```text
//!        head complete, no content            refused, `Connection: close`, draining
//!   Head ────────────────────────▶ Head   Head ─────────────────────────▶ Discard ──▶ over
//!     │  head complete, content      ▲      │  peer's FIN
//!     └────────▶ Content ────────────┘      └────────────▶ Ended ──▶ over
//! ```
//!
//! [`PayloadSource`]: runtime::payload::PayloadSource

mod asking;
mod changes;
mod content;
mod sending;

use std::collections::VecDeque;

use runtime::time::Instant;

use crate::access_log::{Peer, Record};
use crate::answer::{self, Answer};
use crate::answerers::{self, Answering, Origin};
use crate::body::Body;
use crate::http::chunked::{ChunkedEnd, Fed};
use crate::http::date::Persistence;
use crate::http::parse::{self, HeadEnd, Parsed};
use crate::http::request::{Method, Request, Version};
use crate::http::response::Status;
use crate::live::End;
use crate::response::Response;
use crate::service::Service;
use content::Content;

/// Bytes that are read and thrown away after a refusal before the peer is cut off.
const MAX_DISCARDED: u32 = 256 * 1024;

/// A connection.
#[derive(Debug)]
pub struct Conn {
    peer: Peer,
    /// What the transport knows it by.
    key: u32,
    phase: Phase,
    /// Bytes not parsed yet: the beginning of a head, or requests that wait for room in the queue.
    input: Vec<u8>,
    head_end: HeadEnd,
    /// When the first byte of the head in `input` came.
    head_began: Instant,
    queue: VecDeque<Response>,
    /// Whether a queued response has blocks to read as the peer takes what there is.
    reads: bool,
    acknowledged: u64,
    end: u64,
    /// When the last response was queued or the peer last took something.
    last_progress: Instant,
    /// Whether the peer may still be sending what we will not read: wait for its FIN before closing, or it
    /// never sees our answer (RFC 9112 section 9.6).
    lingers: bool,
    discarded: u32,
    /// The peer's FIN has come.
    peer_ended: bool,
    aborted: bool,
    /// The low half of `acknowledged` when `last_progress` was last looked after.
    progress_mark: u32,
    /// Nothing behind this can be had any more; the connection ends there.
    broken_at: u64,
    content: Content,
    /// Whether the peer's bytes come by way of TLS.
    secured: bool,
    /// Blank lines have come, and so no preface of HTTP/2 can any more.
    has_skipped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for, or in, a request head.
    Head,
    /// Skipping content of which so many bytes are left.
    Content(u32),
    /// Skipping content in chunks.
    Chunks(ChunkedEnd),
    /// Taking content in: [`Content::upload`].
    Upload,
    /// It is all there; its answer comes from the disk.
    Waiting,
    /// The last response is queued; what still comes is thrown away.
    Discard,
    /// The peer has sent its last byte.
    Ended,
}

impl Conn {
    /// A connection from `peer` that has just been accepted.
    pub fn new(service: &mut Service, peer: Peer) -> Conn {
        service.stats.connections += 1;
        Conn {
            peer,
            key: u32::MAX,
            phase: Phase::Head,
            input: Vec::new(),
            head_end: HeadEnd::default(),
            head_began: service.now(),
            queue: VecDeque::new(),
            reads: false,
            acknowledged: 0,
            end: 0,
            last_progress: service.now(),
            lingers: false,
            discarded: 0,
            peer_ended: false,
            aborted: false,
            progress_mark: 0,
            broken_at: u64::MAX,
            content: Content::default(),
            secured: false,
            has_skipped: false,
        }
    }

    /// Tells that the peer's bytes come by way of TLS.
    pub(crate) fn set_secured(&mut self) {
        self.secured = true;
    }

    /// The peer, what the transport knows it by, whether its bytes come by way of TLS.
    pub(crate) fn who(&self) -> (Peer, u32, bool) {
        (self.peer, self.key, self.secured)
    }

    /// What has come, if that is nothing or the beginning of the first request.
    pub(crate) fn beginning(&self) -> Option<&[u8]> {
        let is_first = self.end == 0 && self.queue.is_empty() && !self.has_skipped;
        (is_first && self.phase == Phase::Head).then_some(&self.input)
    }

    /// Keeps bytes of which cannot be said yet whether they are a request: the preface of HTTP/2 begins as
    /// some do.
    pub(crate) fn hold(&mut self, service: &mut Service, bytes: &[u8]) {
        if self.input.is_empty() {
            self.head_began = service.now();
        }
        self.keep(service, bytes);
        // Should they be a head of HTTP/1.1, it has begun.
        self.head_end.seen(&self.input);
    }

    /// Tells what its transport knows it by: it is woken under that name ([`Service::wakes`]).
    pub fn set_key(&mut self, key: u32) {
        self.key = key;
    }

    /// Makes it a fresh connection from `peer`: what a pool of connections wants.
    pub fn reset(&mut self, service: &mut Service, peer: Peer) {
        self.retire(service);
        *self = Conn::new(service, peer);
    }

    /// Gives back what an ended connection holds: a pool of such keeps no replaced site alive, and no memory.
    /// What it did not get is in the log then.
    pub fn retire(&mut self, service: &mut Service) {
        self.write_down(service, true);
        self.queue.clear();
        self.input.clear();
        self.content.clear();
        self.give_back(service);
    }

    /// Writes down the responses that the peer has taken, or all of them, with what it has taken.
    fn write_down(&mut self, service: &mut Service, all: bool) {
        while self.queue.front().is_some_and(|response| all || self.has_taken(response)) {
            let Some(response) = self.queue.pop_front() else { return };
            if let Some(began) = response.began
                && self.has_taken(&response)
                && !response.body.is_broken()
            {
                service.latency.note(began);
            }
            if let Some(line) = &response.line {
                let taken = self.acknowledged.clamp(response.body_start, response.end);
                service.write_down(line, taken - response.body_start);
            }
        }
    }

    /// Lets go of the responses that the peer has taken.
    fn let_go(&mut self, service: &mut Service) {
        self.write_down(service, false);
        match self.queue.front_mut() {
            None => self.reads = false,
            Some(Response { body, body_start, .. }) => {
                body.release(self.acknowledged.saturating_sub(*body_start));
            }
        }
    }

    /// Whether the peer has all of a response.
    fn has_taken(&self, response: &Response) -> bool {
        response.end <= self.acknowledged && !response.body.is_open()
    }

    /// Lets the next connection have the memory of what is empty.
    fn give_back(&mut self, service: &mut Service) {
        let pool = service.options.pcb_pool;
        if self.queue.is_empty() && self.queue.capacity() > 0 {
            let queue = std::mem::take(&mut self.queue);
            if pool {
                service.spare_queues.push(queue);
            }
        }
        if self.input.is_empty() && self.input.capacity() > 0 {
            let input = std::mem::take(&mut self.input);
            if pool {
                service.spare_inputs.push(input);
            }
        }
    }

    /// Bytes from the peer. Gives how many were taken: all, if no more than [`Conn::window`] said.
    pub fn on_bytes(&mut self, service: &mut Service, bytes: &[u8]) -> usize {
        if !self.is_reading() {
            self.discard(bytes.len());
            return bytes.len();
        }
        if !self.input.is_empty() || !service.options.in_place_parse {
            let room = service.options.max_input.saturating_sub(self.input.len());
            let taken = bytes.len().min(room);
            self.keep(service, &bytes[..taken]);
            self.resume(service);
            return taken;
        }
        // The usual case: whole requests, parsed where they lie.
        let parsed = self.run(service, bytes);
        let rest = &bytes[parsed..];
        if self.is_reading() {
            let kept = rest.len().min(service.options.max_input);
            self.keep(service, &rest[..kept]);
            parsed + kept
        } else {
            self.discard(rest.len());
            bytes.len()
        }
    }

    /// See [`netstack::application::Stream::place`]: of content that is put here.
    pub fn place(&mut self, bytes: &[u8]) -> Option<u16> {
        if self.phase != Phase::Upload || !self.input.is_empty() {
            return None;
        }
        self.content.upload_mut()?.place(bytes)
    }

    /// See [`netstack::application::Stream::forget_placed`].
    pub fn forget_placed(&mut self) {
        if let Some(upload) = self.content.upload_mut() {
            upload.forget_placed();
        }
    }

    /// Goes on with requests that waited for room in the queue. Call it after `PayloadSource::acknowledged`.
    pub fn resume(&mut self, service: &mut Service) {
        if self.acknowledged as u32 != self.progress_mark {
            self.progress_mark = self.acknowledged as u32;
            self.last_progress = service.now();
        }
        self.fetch(service);
        self.grow(service);
        self.let_go(service);
        if self.phase == Phase::Waiting {
            self.answer_upload(service);
        }
        if !self.input.is_empty() && self.is_reading() {
            let mut input = std::mem::take(&mut self.input);
            let parsed = self.run(service, &input);
            if self.phase == Phase::Discard {
                self.discard(input.len() - parsed);
                input.clear();
            } else {
                input.drain(..parsed);
            }
            self.input = input;
        }
        // After the peer's end, what is left once there is room in the queue is no whole request and never
        // will be.
        if self.peer_ended
            && self.phase != Phase::Waiting
            && self.is_reading()
            && !self.is_open()
            && !self.content.is_parked()
            && self.queue.len() < service.options.max_queued
        {
            self.input.clear();
            self.content.clear();
            self.phase = Phase::Ended;
        }
        if service.draining {
            self.drain();
        }
        if self.acknowledged >= self.broken_at {
            self.aborted = true;
        }
        if self.queue.is_empty() {
            self.give_back(service);
        }
    }

    /// Takes what has come of a body that grows: the last response's, since nothing can be queued behind one.
    fn grow(&mut self, service: &mut Service) {
        let Some(response) = self.queue.back_mut() else { return };
        let Body::Live(live) = &mut response.body else { return };
        if live.awaits_head() {
            let Some(come) = live.take_head() else { return };
            self.last_progress = service.now();
            service.set_secured(self.secured);
            if !asking::on_head(service, response, come) {
                // Nothing else tells the end of the content.
                self.phase = Phase::Discard;
                self.lingers = !self.peer_ended;
            }
            self.end = response.end;
        }
        let Body::Live(live) = &mut response.body else { return };
        if live.ended().is_some() {
            return;
        }
        live.take(service.options.max_read_ahead);
        let ended = live.ended();
        let end = response.body_start + response.body.len();
        service.stats.bytes += end - self.end;
        if end > self.end && self.end == self.acknowledged {
            // The peer was not slow: there was nothing for it.
            self.last_progress = service.now();
        }
        (response.end, self.end) = (end, end);
        match ended {
            None => {}
            Some(End::Finished) => self.let_go(service),
            Some(End::Broken) => {
                self.broken_at = end;
                self.phase = Phase::Discard;
                self.lingers = false;
                self.input.clear();
            }
        }
    }

    /// Whether the last response's body may still grow.
    fn is_open(&self) -> bool {
        self.queue.back().is_some_and(|response| response.body.is_open())
    }

    /// Keeps bytes that cannot be parsed yet.
    fn keep(&mut self, service: &mut Service, bytes: &[u8]) {
        if self.input.capacity() == 0 && !bytes.is_empty() {
            self.input = service.spare_inputs.pop().unwrap_or_default();
        }
        self.input.extend_from_slice(bytes);
    }

    /// Reads what responses have to send next, as far ahead as allowed.
    fn fetch(&mut self, service: &Service) {
        if !self.reads {
            return;
        }
        service.reader.begin(self.key, Vec::new());
        let until = self.acknowledged.saturating_add(service.options.max_read_ahead);
        for response in self.queue.iter_mut().take_while(|response| response.start < until) {
            let Some(document) = &response.document else { continue };
            let Some(len) = until.checked_sub(response.body_start).filter(|&len| len > 0) else { continue };
            if let Err((fetched, error)) = response.body.fetch(&**document, len, &service.reader) {
                tracing::warn!("a response is cut short, for its file cannot be read: {error}");
                // What was had still goes out; then only the end of the connection tells that there is no
                // more.
                self.broken_at = response.body_start + fetched;
                self.phase = Phase::Discard;
                self.lingers = false;
                self.input.clear();
                self.content.clear();
                break;
            }
        }
        // What is being read is held by the bodies.
        drop(service.reader.end());
        if self.acknowledged >= self.broken_at {
            self.aborted = true;
        }
    }

    /// The peer will send no more. Responses to what it has asked for still go out.
    pub fn on_end(&mut self, service: &mut Service) {
        self.peer_ended = true;
        self.lingers = false;
        self.resume(service);
    }

    /// Whether a time-out is due and was acted upon: look at `PayloadSource::is_finished` and
    /// [`Conn::is_aborted`] again.
    pub fn on_timeout(&mut self, service: &mut Service) -> bool {
        if self.deadline(service).is_none_or(|deadline| service.now() < deadline) {
            return false;
        }
        service.stats.timed_out += 1;
        if self.end > self.acknowledged || !self.is_reading() {
            self.aborted = true;
        } else if self.is_idle() {
            // Nothing was asked, nothing is said.
            self.phase = Phase::Ended;
        } else {
            drop(self.content.take_upload());
            let input = std::mem::take(&mut self.input);
            self.refuse(service, Status::RequestTimeout, &input);
        }
        true
    }

    /// The server goes down: an idle connection ends now. A busy one ends with what it has to send, or with
    /// the response to the request that is on its way, as [`Service::draining`] says.
    pub fn drain(&mut self) {
        if self.is_idle() {
            self.phase = Phase::Ended;
        }
    }

    /// When [`Conn::on_timeout`] wants to be called.
    pub fn deadline(&self, service: &Service) -> Option<Instant> {
        let timeouts = &service.options.timeouts;
        if self.aborted {
            None
        } else if self.end > self.acknowledged {
            Some(self.last_progress + timeouts.send)
        } else if self.is_open() {
            // Everything was taken, and more will come when it comes.
            None
        } else if self.is_idle() {
            Some(self.last_progress + timeouts.idle)
        } else if self.phase == Phase::Waiting || self.content.is_parked() {
            // The disk, too, says when it has failed.
            None
        } else if let Some(upload) = self.content.upload() {
            Some(upload.deadline())
        } else if self.is_reading() {
            Some(self.head_began + timeouts.head)
        } else if self.lingers {
            Some(self.last_progress + timeouts.linger)
        } else {
            // Only our end of the stream is left; a peer with a shut window could put it off for ever.
            Some(self.last_progress + timeouts.send)
        }
    }

    /// How many bytes [`Conn::on_bytes`] would take now; 0 while too many responses wait.
    pub fn window(&self, service: &Service) -> usize {
        if !self.is_reading() {
            service.options.max_input
        } else if self.queue.len() >= service.options.max_queued {
            0
        } else {
            service.options.max_input.saturating_sub(self.input.len()) + self.content_room()
        }
    }

    /// How many bytes more than usual would be taken, as they are content that goes to where it stays:
    /// without that a peer that is far away would send as much as is kept of heads in a round trip.
    pub fn content_room(&self) -> usize {
        match self.phase {
            Phase::Upload if self.input.is_empty() => self.content.upload().map_or(0, |upload| upload.room()),
            _ => 0,
        }
    }

    /// Whether the connection must be cut without ceremony.
    pub fn is_aborted(&self) -> bool {
        self.aborted
    }

    /// Whether, once everything is sent, the peer's end should be awaited before closing (until
    /// [`Conn::deadline`]).
    pub fn lingers(&self) -> bool {
        self.lingers
    }

    /// Whether requests are still read.
    fn is_reading(&self) -> bool {
        !matches!(self.phase, Phase::Discard | Phase::Ended)
    }

    /// Whether there is nothing to do until the next request begins.
    fn is_idle(&self) -> bool {
        self.phase == Phase::Head && self.input.is_empty() && self.queue.is_empty()
    }

    /// Parses and answers as much of `bytes` as there is room for; gives how many bytes that was.
    fn run(&mut self, service: &mut Service, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.phase {
                _ if rest.is_empty() => break,
                Phase::Discard | Phase::Ended | Phase::Waiting => break,
                Phase::Upload => at += self.take_content(service, rest),
                Phase::Content(left) => {
                    let skipped = left.min(u32::try_from(rest.len()).unwrap_or(u32::MAX));
                    at += skipped as usize;
                    self.phase = if skipped == left { Phase::Head } else { Phase::Content(left - skipped) };
                    self.gather(service, &rest[..skipped as usize]);
                    if skipped == left {
                        self.ask(service);
                    }
                }
                Phase::Chunks(mut chunks) => match self.feed(service, &mut chunks, rest) {
                    Fed::More => {
                        at = bytes.len();
                        if self.phase != Phase::Discard {
                            self.phase = Phase::Chunks(chunks);
                        }
                    }
                    Fed::End(len) => {
                        at += len;
                        self.phase = Phase::Head;
                        self.ask(service);
                    }
                    Fed::Bad if self.content.is_asking() => {
                        self.refuse(service, Status::BadRequest, &[]);
                    }
                    Fed::Bad => {
                        // The request is answered; only the next one cannot be found.
                        self.phase = Phase::Discard;
                        self.lingers = !self.peer_ended;
                    }
                },
                Phase::Head if self.queue.len() >= service.options.max_queued || self.is_open() => break,
                Phase::Head if self.content.is_blocked() => break,
                Phase::Head => {
                    if self.head_end.is_fresh() {
                        let blank = blank_lines(rest);
                        if blank > 0 {
                            at += blank;
                            self.has_skipped = true;
                            continue;
                        }
                    }
                    match self.take_head(service, rest) {
                        Some(len) => at += len,
                        None => break,
                    }
                }
            }
        }
        at
    }

    /// Looks for a request head at the front of `bytes` and answers it; its length, or `None` if it is not
    /// all there, was refused, or waits for the disk: then it is answered from the beginning when it is
    /// woken.
    fn take_head(&mut self, service: &mut Service, bytes: &[u8]) -> Option<usize> {
        let limits = service.options.limits;
        let is_first_look = self.head_end.is_fresh();
        // The first time just parse: almost always the head is all there. Later, only when its end has come.
        if !is_first_look && !self.head_end.seen(bytes) && bytes.len() < limits.head {
            if bytes.len() > limits.request_line && !bytes[..limits.request_line].contains(&b'\n') {
                self.refuse(service, Status::UriTooLong, bytes);
            }
            return None;
        }
        match parse::parse(bytes, &limits) {
            Parsed::Complete { request, len } => {
                self.head_end = HeadEnd::default();
                self.on_request(service, &request).then_some(len)
            }
            Parsed::Partial => {
                if is_first_look {
                    self.head_began = service.now();
                    self.head_end.seen(bytes);
                }
                None
            }
            Parsed::Refused(status) => {
                self.refuse(service, status, bytes);
                None
            }
        }
    }

    /// Answers a request; false if that has to wait for the disk.
    fn on_request(&mut self, service: &mut Service, request: &Request<'_>) -> bool {
        let has_content = request.content_length > 0 || request.is_chunked;
        let origin = Origin { peer: self.peer, secured: self.secured };
        let (mut refusal, mut kept) = (None, None);
        match answerers::find(service, origin, request) {
            Answering::Program(ask) => {
                self.on_program_request(service, request, ask, has_content);
                return true;
            }
            Answering::Upload(upload) => {
                self.receive(service, upload, has_content && request.expects_continue);
                return true;
            }
            Answering::Refused(status) => refusal = Some(status),
            Answering::Kept(hit) => kept = Some(hit),
            Answering::Here => {}
        }
        let too_large = request.content_length > u64::from(service.options.max_skipped);
        // With `Expect: 100-continue` nobody can say whether the content still comes after our final answer.
        let content_unclear = has_content && request.expects_continue;
        let keep = request.keep_alive && !service.draining && !too_large && !content_unclear;
        let persistence = match (keep, request.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::KeepAlive,
            (true, _) => Persistence::Implicit,
        };
        service.reader.begin(self.key, self.content.take_parked());
        let mut text = std::mem::take(&mut service.text_scratch);
        let is_file_request = matches!(request.method, Method::Get | Method::Head);
        let refusal = refusal.or((too_large && is_file_request).then_some(Status::ContentTooLarge));
        let answer = match (refusal, &kept) {
            (Some(status), _) => {
                let with_body = request.method != Method::Head;
                answer::page(service, status, persistence, with_body, &mut text)
            }
            (None, Some(hit)) => answer::of_hit(service, request, hit, persistence, &mut text),
            (None, None) => answer::answer(service, request, persistence, &mut text),
        };
        let is_blocked = service.reader.is_blocked();
        let held = service.reader.end();
        if is_blocked {
            text.clear();
            service.text_scratch = text;
            self.content.set_parked(held);
            return false;
        }
        let record = Record::of_request(self.peer, request).with(answer.status);
        let keep = keep && !answer.closes;
        self.push(service, text, answer, persistence, record);
        if !keep {
            self.phase = Phase::Discard;
            // Closing on a client that may have sent more would reset the connection under the response (RFC
            // 9112 section 9.6): its content, or the next request when it is we who want to close.
            self.lingers = has_content || (request.keep_alive && !self.peer_ended);
        } else if has_content {
            self.phase = if request.is_chunked {
                Phase::Chunks(ChunkedEnd::new(service.options.max_skipped.into()))
            } else {
                // Few enough to be skipped.
                Phase::Content(request.content_length as u32)
            };
            self.head_began = service.now();
        }
        true
    }

    /// The peer has taken something that is not counted here, or was not asked to: it is not idle.
    pub(crate) fn touch(&mut self, service: &Service) {
        self.last_progress = service.now();
    }

    /// Answers `bytes`, which were to be a TLS handshake and are not.
    pub(crate) fn refuse_plain(&mut self, service: &mut Service, bytes: &[u8]) {
        let mut text = std::mem::take(&mut service.text_scratch);
        service.set_secured(false);
        let answer = answer::speaks_tls(service, &mut text);
        self.refuse_with(service, text, answer, bytes);
    }

    /// Answers `bytes`, which are no request, with `status`, and reads no further.
    fn refuse(&mut self, service: &mut Service, status: Status, bytes: &[u8]) {
        let mut text = std::mem::take(&mut service.text_scratch);
        service.set_secured(self.secured);
        let answer = answer::page(service, status, Persistence::Close, true, &mut text);
        self.refuse_with(service, text, answer, bytes);
    }

    fn refuse_with(&mut self, service: &mut Service, text: Vec<u8>, answer: Answer, bytes: &[u8]) {
        drop(self.content.take_asking());
        service.choose_first();
        let bytes = &bytes[blank_lines(bytes)..];
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii_end();
        let line = &line[..line.len().min(service.options.limits.request_line)];
        let record = Record::of_none(self.peer, line).with(answer.status);
        self.push(service, text, answer, Persistence::Close, record);
        self.phase = Phase::Discard;
        self.lingers = !self.peer_ended;
    }

    /// Queues a response; `text` is the service's scratch and goes back to it.
    fn push(
        &mut self,
        service: &mut Service,
        text: Vec<u8>,
        answer: Answer,
        persistence: Persistence,
        record: Record<'_>,
    ) {
        let Answer { status, document, has_ready_head, body, closes: _ } = answer;
        // What grows as long as anybody listens has no time that it takes.
        let began = (!matches!(body, Body::Live(_))).then(|| service.now());
        let mut response = Response {
            document,
            ready_head: has_ready_head.then_some(status),
            text: service.head_text(text, persistence),
            began,
            line: None,
            body,
            start: self.end,
            body_start: 0,
            end: 0,
        };
        let head_bytes =
            (response.ready_head().map_or(0, |piece| piece.bytes.len()) + response.text.len()) as u64;
        let body_bytes = response.body.len();
        response.body_start = response.start + head_bytes;
        response.end = response.body_start + body_bytes;
        self.end = response.end;
        self.last_progress = service.now();
        self.reads |= response.body.is_read();
        if self.queue.capacity() == 0 {
            self.queue = service.spare_queues.pop().unwrap_or_default();
        }
        if let Body::Live(live) = &response.body {
            live.wake_by(service.wakes.connection(self.key));
        }
        response.line = service.record(head_bytes + body_bytes, &record);
        self.queue.push_back(response);
        self.fetch(service);
        self.grow(service);
    }

    fn discard(&mut self, len: usize) {
        self.lingers |= len > 0 && !self.peer_ended;
        self.discarded = self.discarded.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        self.aborted |= self.discarded > MAX_DISCARDED;
    }
}

/// Length of the blank lines that `bytes` begins with (RFC 9112 section 2.2: ignore them ahead of a request).
fn blank_lines(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match &bytes[at..] {
            [b'\n', ..] => at += 1,
            [b'\r', b'\n', ..] => at += 2,
            _ => return at,
        }
    }
}
