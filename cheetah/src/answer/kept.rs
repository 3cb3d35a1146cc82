//! Requests answered with what is kept of an origin's response: the head was made when it came, and says
//! nothing of time but what stands in the text behind it.

use std::ops::Range;
use std::sync::Arc;

use super::file::unreadable;
use super::{Answer, page_with};
use crate::accelerator::{Hit, Object};
use crate::body::{Body, FileBody};
use crate::http::conditional::Verdict;
use crate::http::date::Persistence;
use crate::http::range::{self, Selection};
use crate::http::request::{Method, Request};
use crate::http::response::{self, Status};
use crate::service::Service;
use crate::store::Document;

/// Answers `request` with `hit`.
pub(crate) fn of_hit(
    service: &Service,
    request: &Request<'_>,
    hit: &Hit,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let object = &hit.object;
    let facts = object.facts();
    let len = facts.size;
    let with_body = request.method == Method::Get;
    if object.status() == Status::Ok {
        if !request.conditions.is_empty()
            && request.conditions.evaluate(facts.validators) == Verdict::NotModified
        {
            return of_object(service, Status::NotModified, hit, Body::Empty, persistence, text);
        }
        // RFC 9110 section 13.1.5: a weak tag never matches.
        let applies = || {
            request.conditions.if_range.is_none()
                || object.is_strong()
                    && request.conditions.range_applies(facts.validators, service.tails().unix())
        };
        if let Some(field) = request.range
            && with_body
            && applies()
        {
            match range::select(field, len) {
                Selection::Part(part) => return partial(service, hit, part, persistence, text),
                Selection::Unsatisfiable => {
                    return page_with(
                        service,
                        Status::RangeNotSatisfiable,
                        persistence,
                        true,
                        text,
                        |text| {
                            response::line(text, format_args!("Content-Range: bytes */{len}"));
                        },
                    );
                }
                // Several parts may be answered by all (section 14.2).
                Selection::Whole | Selection::Parts(_) => {}
            }
        }
    }
    let body = if with_body && len > 0 {
        match FileBody::new(&**object, 0..len, &service.reader) {
            Ok(body) => Body::File(body),
            Err(error) => return unreadable(service, &error, persistence, text),
        }
    } else {
        Body::Empty
    };
    of_object(service, object.status(), hit, body, persistence, text)
}

fn of_object(
    service: &Service,
    status: Status,
    hit: &Hit,
    body: Body,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    hit.write_fields(text);
    service.end_signed_head(persistence, text);
    let document = Arc::clone(&hit.object) as Arc<dyn Document>;
    Answer { document: Some(document), has_ready_head: true, ..Answer::new(status, body) }
}

fn partial(
    service: &Service,
    hit: &Hit,
    part: Range<u64>,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let object: &Arc<Object> = &hit.object;
    let body = match FileBody::new(&**object, part.clone(), &service.reader) {
        Ok(body) => Body::File(body),
        Err(error) => return unreadable(service, &error, persistence, text),
    };
    let status = Status::PartialContent;
    response::line(text, format_args!("HTTP/1.1 {}", status.line()));
    object.write_fields(text);
    response::line(text, format_args!("Content-Length: {}", body.len()));
    response::content_range(text, &part, object.facts().size);
    hit.write_fields(text);
    service.end_signed_head(persistence, text);
    let document = Arc::clone(object) as Arc<dyn Document>;
    Answer { document: Some(document), ..Answer::new(status, body) }
}
