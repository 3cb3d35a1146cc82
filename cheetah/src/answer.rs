//! From a request to what is sent for it: which head, which bytes of which file.
//!
//! A plain GET of a file decides everything by one look-up and copies nothing but the head's last lines.

use std::ops::Range;

use crate::http::conditional::Verdict;
use crate::http::date::Persistence;
use crate::http::range::{self, Selection};
use crate::http::request::{Method, Request};
use crate::http::response::{self, Status};
use crate::http::target;
use crate::service::Service;
use crate::site::{FileId, Found, Site};

/// Which of a file's ready-made heads begins the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadyHead {
    /// The one for the whole file: 200.
    Whole(FileId),
    /// The one for 304.
    NotModified(FileId),
}

/// A decided response. On the wire: the ready-made head, then the text that was appended, then the file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: Status,
    /// The ready-made head, if one fits.
    pub ready_head: Option<ReadyHead>,
    /// The file and its bytes that make the body.
    pub body: Option<(FileId, Range<u64>)>,
    /// How many bytes of the appended text are body (a page that explains a status), for the log.
    pub page_bytes: usize,
}

impl Answer {
    fn text(status: Status, page_bytes: usize) -> Answer {
        Answer { status, ready_head: None, body: None, page_bytes }
    }
}

/// Answers `request`, appending to `text` the part of the response that is not ready-made.
pub fn answer(
    service: &mut Service,
    request: &Request<'_>,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let with_body = request.method != Method::Head;
    match request.method {
        Method::Get | Method::Head => {}
        Method::Options => return options(service, request, persistence, text),
        Method::NotAllowed => return page(service, Status::MethodNotAllowed, persistence, true, text),
        Method::Unknown => return page(service, Status::NotImplemented, persistence, true, text),
    }
    let mut scratch = std::mem::take(&mut service.path_scratch);
    let answer = match target::resolve(request.target, &mut scratch) {
        Err(target::BadTarget) => page(service, Status::BadRequest, persistence, with_body, text),
        Ok(resource) => match service.site.find(resource.path) {
            Found::File(file) => of_file(service, request, file, persistence, text),
            Found::Directory => redirect(service, resource, persistence, with_body, text),
            Found::Nothing => page(service, Status::NotFound, persistence, with_body, text),
        },
    };
    give_back(service, scratch);
    answer
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
    let body_len = response::page_body_len(status);
    response::page_head(text, status, body_len);
    more_fields(text);
    text.extend_from_slice(service.tails().get(persistence));
    if with_body {
        response::page_body(text, status);
    }
    Answer::text(status, if with_body { body_len } else { 0 })
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
            Ok(resource) => {
                matches!(service.site.find(resource.path), Found::Nothing).then_some(Status::NotFound)
            }
        };
        give_back(service, scratch);
        if let Some(status) = refusal {
            return page(service, status, persistence, true, text);
        }
    }
    response::begin(text, Status::NoContent);
    response::line(text, format_args!("Allow: {}", response::ALLOW));
    text.extend_from_slice(service.tails().get(persistence));
    Answer::text(Status::NoContent, 0)
}

fn of_file(
    service: &Service,
    request: &Request<'_>,
    file: FileId,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let site = &*service.site;
    let with_body = request.method == Method::Get;
    let len = site.len(file);
    if !request.conditions.is_empty() {
        match request.conditions.evaluate(site.validators(file)) {
            Verdict::Proceed => {}
            Verdict::NotModified => {
                let ready_head = ready(service, ReadyHead::NotModified(file), text);
                text.extend_from_slice(service.tails().get(persistence));
                return Answer { status: Status::NotModified, ready_head, body: None, page_bytes: 0 };
            }
            Verdict::PreconditionFailed => {
                return page(service, Status::PreconditionFailed, persistence, with_body, text);
            }
        }
    }
    // RFC 9110 section 14.2: Range is defined for GET only.
    if let Some(field) = request.range
        && with_body
        && request.conditions.range_applies(site.validators(file), service.tails().unix())
    {
        match range::select(field, len) {
            Selection::Whole => {}
            Selection::Part(part) => return partial(service, site, file, part, persistence, text),
            Selection::Unsatisfiable => {
                return page_with(service, Status::RangeNotSatisfiable, persistence, true, text, |text| {
                    response::line(text, format_args!("Content-Range: bytes */{len}"));
                });
            }
        }
    }
    let ready_head = ready(service, ReadyHead::Whole(file), text);
    text.extend_from_slice(service.tails().get(persistence));
    let body = (with_body && len > 0).then_some((file, 0..len));
    Answer { status: Status::Ok, ready_head, body, page_bytes: 0 }
}

/// Uses the ready-made head, or writes the same one anew when that specialisation is switched off.
fn ready(service: &Service, head: ReadyHead, text: &mut Vec<u8>) -> Option<ReadyHead> {
    if service.options.precomputed_headers {
        return Some(head);
    }
    let (status, file) = match head {
        ReadyHead::Whole(file) => (Status::Ok, file),
        ReadyHead::NotModified(file) => (Status::NotModified, file),
    };
    service.site.write_head(status, file, text);
    None
}

fn partial(
    service: &Service,
    site: &Site,
    file: FileId,
    part: Range<u64>,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    response::begin(text, Status::PartialContent);
    response::field(text, "Content-Type", site.content_type(file));
    response::line(text, format_args!("Content-Length: {}", part.end - part.start));
    let last = part.end - 1;
    response::line(text, format_args!("Content-Range: bytes {}-{last}/{}", part.start, site.len(file)));
    site.write_validators(file, text);
    text.extend_from_slice(service.tails().get(persistence));
    Answer { status: Status::PartialContent, ready_head: None, body: Some((file, part)), page_bytes: 0 }
}

fn redirect(
    service: &Service,
    resource: target::Resource<'_>,
    persistence: Persistence,
    with_body: bool,
    text: &mut Vec<u8>,
) -> Answer {
    page_with(service, Status::MovedPermanently, persistence, with_body, text, |text| {
        text.extend_from_slice(b"Location: ");
        target::escape(resource.path, text);
        text.push(b'/');
        if let Some(query) = resource.query {
            text.push(b'?');
            // As sent, but for bytes that could not stand in a field.
            target::escape_query(query.as_bytes(), text);
        }
        text.extend_from_slice(b"\r\n");
    })
}
