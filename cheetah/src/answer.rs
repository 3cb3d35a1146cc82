//! From a request to what is sent for it: which head, which bytes of what.
//!
//! A plain GET of a file decides everything by one look-up and writes nothing.

mod file;
mod kept;
mod resource;

use std::sync::Arc;

use runtime::buffer::{Aggregate, Shared, Slice};

use crate::body::{Body, Come};
use crate::http::date::Persistence;
use crate::http::request::{Method, Request};
use crate::http::response::{self, Status};
use crate::http::target;
use crate::service::Service;
use crate::store::{self, ChangeMade, Document, Found};
pub(crate) use kept::of_hit;

/// A decided response. On the wire: the ready-made head, then the text, which ends every head, then the body.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: Status,
    /// What is answered with, if it is a document.
    pub document: Option<Arc<dyn Document>>,
    /// Whether the document's ready-made head of this status begins the response. What was written to the
    /// text is all of the head otherwise.
    pub has_ready_head: bool,
    /// What follows the head.
    pub body: Body,
    /// Whether only the end of the connection ends the body.
    pub closes: bool,
}

impl Answer {
    fn new(status: Status, body: Body) -> Answer {
        Answer { status, document: None, has_ready_head: false, body, closes: false }
    }
}

/// A request by GET or HEAD, and what it is for.
#[derive(Clone, Copy)]
struct Question<'a, 'b> {
    request: &'a Request<'b>,
    resource: target::Resource<'a>,
    persistence: Persistence,
    with_body: bool,
}

impl<'a, 'b> Question<'a, 'b> {
    /// The same for what lies at another path.
    fn at(self, path: &'a [u8]) -> Question<'a, 'b> {
        Question { resource: target::Resource { path, ..self.resource }, ..self }
    }
}

/// Answers `request`, writing the head to `text`, which is empty, unless it is ready-made. If the reader of
/// `service` is blocked then, something that the answer depends on is being read, and this is none: ask
/// again.
pub fn answer(
    service: &mut Service,
    request: &Request<'_>,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let with_body = request.method != Method::Head;
    if let Some(port) = service.sends_to()
        && request.target != "*"
        && let Some(answer) = to_https(service, request, port, persistence, text)
    {
        return answer;
    }
    match request.method {
        Method::Get | Method::Head => {}
        Method::Options => return options(service, request, persistence, text),
        Method::NotAllowed | Method::Put | Method::Delete => {
            return page(service, Status::MethodNotAllowed, persistence, true, text);
        }
        Method::Unknown => return page(service, Status::NotImplemented, persistence, true, text),
    }
    service.negotiates = false;
    let mut scratch = std::mem::take(&mut service.path_scratch);
    let answer = match target::resolve(request.target, &mut scratch) {
        Err(target::BadTarget) => page(service, Status::BadRequest, persistence, with_body, text),
        Ok(resource) => {
            let question = Question { request, resource, persistence, with_body };
            resource::of_resource(service, &question, text)
        }
    };
    give_back(service, scratch);
    answer
}

/// Sends who asks to the same address by HTTPS; `None` if it is a challenge that is asked for.
fn to_https(
    service: &mut Service,
    request: &Request<'_>,
    port: u16,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Option<Answer> {
    let with_body = request.method != Method::Head;
    let mut scratch = std::mem::take(&mut service.path_scratch);
    let resource = target::resolve(request.target, &mut scratch);
    let answer = match resource {
        Ok(resource) if resource.path.starts_with(store::CHALLENGES) => None,
        Ok(resource) => Some(match request.host_name() {
            Some(name) => {
                page_with(service, Status::PermanentRedirect, persistence, with_body, text, |text| {
                    text.extend_from_slice(b"Location: https://");
                    text.extend_from_slice(name);
                    if port != 443 {
                        text.extend_from_slice(format!(":{port}").as_bytes());
                    }
                    target::escape(resource.path, text);
                    write_query(resource.query, text);
                })
            }
            // Nobody knows where to.
            None => page(service, Status::BadRequest, persistence, with_body, text),
        }),
        Err(target::BadTarget) => Some(page(service, Status::BadRequest, persistence, with_body, text)),
    };
    give_back(service, scratch);
    answer
}

/// A query as it can stand in a field, and the field's end.
fn write_query(query: Option<&str>, text: &mut Vec<u8>) {
    if let Some(query) = query {
        text.push(b'?');
        // As sent, but for bytes that could not stand in a field.
        target::escape_query(query.as_bytes(), text);
    }
    text.extend_from_slice(b"\r\n");
}

/// No answer yet.
fn later() -> Answer {
    Answer::new(Status::ServiceUnavailable, Body::Empty)
}

/// Gives the buffer back for its capacity, unless one long target made it big for good.
fn give_back(service: &mut Service, scratch: Vec<u8>) {
    if scratch.capacity() <= 4096 {
        service.path_scratch = scratch;
    }
}

/// A short page that says what `status` means.
pub fn page(
    service: &Service,
    status: Status,
    persistence: Persistence,
    with_body: bool,
    text: &mut Vec<u8>,
) -> Answer {
    page_with(service, status, persistence, with_body, text, |_| {})
}

fn page_with(
    service: &Service,
    status: Status,
    persistence: Persistence,
    with_body: bool,
    text: &mut Vec<u8>,
    more_fields: impl FnOnce(&mut Vec<u8>),
) -> Answer {
    let page = response::page(status);
    response::page_head(text, status, page.len(), service.allow());
    more_fields(text);
    service.end_head(persistence, text);
    let mut body = Aggregate::new();
    if with_body {
        body.push(Slice::from(page.clone()));
    }
    Answer::new(status, Body::Shared(body))
}

/// The head of a response that a program makes, as it was written.
pub(crate) struct OfProgram {
    /// Its status.
    pub(crate) code: u16,
    /// What is sent instead of what the program makes.
    pub(crate) instead: Option<Body>,
    /// Whether something in HTTP/1.1 tells where the content ends, beside the end of the connection.
    pub(crate) is_delimited: bool,
}

/// Writes the head of a response of a program whose own has come, or failed to.
pub(crate) fn of_program(service: &Service, come: Come, text: &mut Vec<u8>) -> OfProgram {
    let Come { head, asked, length } = come;
    let head = match head {
        Ok(head) => head,
        Err(status) => {
            let answer = page(service, status, asked.persistence, asked.with_body, text);
            return OfProgram { code: status.code(), instead: Some(answer.body), is_delimited: true };
        }
    };
    response::line(text, format_args!("HTTP/1.1 {} {}", head.code, head.reason));
    if !head.is_signed {
        response::line(text, format_args!("Server: {}", response::SERVER));
    }
    text.extend_from_slice(&head.fields);
    match length {
        _ if !head.may_have_content() => {}
        Some(length) => response::line(text, format_args!("Content-Length: {length}")),
        None if asked.with_body && asked.may_chunk => {
            response::field(text, "Transfer-Encoding", b"chunked");
        }
        None => {}
    }
    if head.is_signed {
        service.end_signed_head(asked.persistence, text);
    } else {
        service.end_head(asked.persistence, text);
    }
    let is_delimited = !asked.with_body || asked.may_chunk || length.is_some();
    OfProgram { code: head.code, instead: None, is_delimited }
}

/// To who sends a request where a TLS handshake is awaited.
pub fn speaks_tls(service: &Service, text: &mut Vec<u8>) -> Answer {
    const PAGE: &[u8] = b"This port speaks HTTPS: write https:// in front of its address.\n";
    response::begin(text, Status::BadRequest);
    response::line(text, format_args!("Content-Type: text/plain; charset=utf-8"));
    response::line(text, format_args!("Content-Length: {}", PAGE.len()));
    service.end_head(Persistence::Close, text);
    let mut body = Aggregate::new();
    body.push(Slice::from(Shared::from(PAGE.to_vec())));
    Answer::new(Status::BadRequest, Body::Shared(body))
}

/// To who has put or deleted a file: it is on the disk.
pub fn changed(service: &Service, made: &ChangeMade, persistence: Persistence, text: &mut Vec<u8>) -> Answer {
    let status = if made.is_new && !made.etag.is_empty() { Status::Created } else { Status::NoContent };
    response::begin(text, status);
    if status == Status::Created {
        response::line(text, format_args!("Content-Length: 0"));
    }
    if !made.etag.is_empty() {
        response::field(text, "ETag", &made.etag);
    }
    service.end_head(persistence, text);
    Answer::new(status, Body::Empty)
}

/// What may be asked of the resource, or of the server if the target is `*` (RFC 9110 section 9.3.7).
fn options(
    service: &mut Service,
    request: &Request<'_>,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    if request.target != "*" {
        let mut scratch = std::mem::take(&mut service.path_scratch);
        let refusal = match target::resolve(request.target, &mut scratch) {
            Err(target::BadTarget) => Some(Status::BadRequest),
            Ok(resource) => match service.site.look_up(resource.path, &service.reader) {
                Found::File(_) | Found::Growing(_) | Found::Directory => None,
                // Asked again when it is known.
                Found::Nothing | Found::Later => Some(Status::NotFound),
                Found::Failed(status) => Some(status),
            },
        };
        give_back(service, scratch);
        if let Some(status) = refusal {
            return page(service, status, persistence, true, text);
        }
    }
    response::begin(text, Status::NoContent);
    response::line(text, format_args!("Allow: {}", service.allow()));
    service.end_head(persistence, text);
    Answer::new(Status::NoContent, Body::Empty)
}
