//! Requests for programs: their content is gathered, within bounds, before the program hears of them, so that
//! a slow client costs no connection to it; their responses are queued before their heads are made.

use std::time::Duration;

use runtime::buffer::{Shared, Slice};

use super::{Conn, Phase};
use crate::access_log::{Line, Record};
use crate::answer::{self, OfProgram};
use crate::body::{Awaited, Body, Come, LiveBody};
use crate::http::chunked::{ChunkedEnd, Fed};
use crate::http::date::Persistence;
use crate::http::request::{Method, Request, Version};
use crate::http::response::Status;
use crate::programs::Ask;
use crate::response::Response;
use crate::service::Service;

/// A request for a program, until it is given to it.
#[derive(Debug)]
pub(super) struct Asking {
    ask: Ask,
    awaited: Awaited,
    line: Option<Box<Line>>,
    keep: bool,
}

impl Conn {
    /// A request that a program answers.
    pub(super) fn on_program_request(
        &mut self,
        service: &mut Service,
        request: &Request<'_>,
        ask: Ask,
        has_content: bool,
    ) {
        let keep = request.keep_alive && !service.draining && request.version > Version::Http10;
        let awaited = Awaited {
            persistence: if keep { Persistence::Implicit } else { Persistence::Close },
            with_body: request.method != Method::Head,
            may_chunk: request.version > Version::Http10,
        };
        let line = service.record(0, &Record::of_request(self.peer, request));
        let max_content = ask.max_content();
        self.content.set_asking(Asking { ask, awaited, line, keep });
        if !has_content {
            self.ask(service);
        } else if request.content_length > max_content {
            self.refuse_asked(service, Status::ContentTooLarge);
        } else {
            if request.expects_continue {
                self.go_on(service);
            }
            self.phase = if request.is_chunked {
                // Framing counts, too: chunks of one byte are six.
                Phase::Chunks(ChunkedEnd::new(max_content.saturating_mul(6)))
            } else {
                // No more than allowed.
                Phase::Content(request.content_length as u32)
            };
            self.head_began = service.now();
        }
    }

    /// Content of a request for a program, if that is what comes.
    pub(super) fn gather(&mut self, service: &mut Service, bytes: &[u8]) {
        let Some(asking) = self.content.asking_mut() else { return };
        let Some(programs) = &mut service.programs else { return };
        match programs.add_content(&mut asking.ask, bytes) {
            Ok(()) => {
                // Who sends a thousand bytes a second or more may take its time.
                let earned = Duration::from_millis(bytes.len() as u64);
                self.head_began = service.now().min(self.head_began + earned);
            }
            Err(status) => self.refuse_asked(service, status),
        }
    }

    /// Chunks of content: kept for a program, or skipped.
    pub(super) fn feed(&mut self, service: &mut Service, chunks: &mut ChunkedEnd, bytes: &[u8]) -> Fed {
        if !self.content.is_asking() {
            return chunks.feed(bytes);
        }
        let fed = chunks.feed_to(bytes, |content| self.gather(service, content));
        if self.phase == Phase::Discard { Fed::More } else { fed }
    }

    /// Refuses a request for a program before it is given to it.
    fn refuse_asked(&mut self, service: &mut Service, status: Status) {
        let Some(asking) = self.content.take_asking() else { return };
        service.set_secured(self.secured);
        let mut text = std::mem::take(&mut service.text_scratch);
        let with_body = asking.awaited.with_body;
        let answer = answer::page(service, status, Persistence::Close, with_body, &mut text);
        let text = service.head_text(text, Persistence::Close);
        service.count(status.code(), (text.len() as u64) + answer.body.len());
        let mut line = asking.line;
        if let Some(line) = &mut line {
            line.set_status(status.code());
        }
        self.queue_up(service, text, answer.body, line);
        self.phase = Phase::Discard;
        self.lingers = !self.peer_ended;
    }

    /// Gives a request to its program, now that all of it has come.
    pub(super) fn ask(&mut self, service: &mut Service) {
        let Some(asking) = self.content.take_asking() else { return };
        let Some(programs) = &mut service.programs else { return };
        let Asking { ask, awaited, line, keep } = asking;
        let receiver = programs.begin(ask);
        receiver.wake_by(service.wakes.connection(self.key));
        let body = Body::Live(Box::new(LiveBody::with_head(receiver, awaited)));
        self.queue_up(service, Slice::from(Shared::from(Vec::new())), body, line);
        if !keep {
            self.phase = Phase::Discard;
            self.lingers = !self.peer_ended;
        }
        self.grow(service);
    }

    /// Queues a response whose head is `text`.
    fn queue_up(&mut self, service: &mut Service, text: Slice, body: Body, line: Option<Box<Line>>) {
        let body_start = self.end + text.len() as u64;
        let end = body_start + body.len();
        if self.queue.capacity() == 0 {
            self.queue = service.spare_queues.pop().unwrap_or_default();
        }
        let start = self.end;
        self.queue.push_back(Response {
            document: None,
            ready_head: None,
            began: Some(service.now()),
            text,
            line,
            body,
            start,
            body_start,
            end,
        });
        self.end = end;
        self.last_progress = service.now();
    }
}

/// Makes the head of a response of a program whose own has come, or failed to. Whether the connection can go
/// on after it.
pub(super) fn on_head(service: &mut Service, response: &mut Response, come: Come) -> bool {
    let asked = come.asked;
    let mut text = std::mem::take(&mut service.text_scratch);
    let OfProgram { code, instead, is_delimited } = answer::of_program(service, come, &mut text);
    if let Some(page) = instead {
        response.body = page;
    }
    response.text = service.head_text(text, asked.persistence);
    response.body_start = response.start + response.text.len() as u64;
    response.end = response.body_start + response.body.len();
    if let Some(line) = &mut response.line {
        line.set_status(code);
    }
    service.count(code, response.end - response.start);
    is_delimited
}
