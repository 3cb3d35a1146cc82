//! Of a document to the response with it: whole, in parts, or that the client has it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use fsstack::cache::{BlockPart, BlockReader};

use super::{Answer, Question, page, page_with};
use crate::body::{Body, FileBody, LiveBody, PartsBody, parts};
use crate::http::coding::{Accepted, Coding};
use crate::http::conditional::Verdict;
use crate::http::date::Persistence;
use crate::http::dictionary::{self, DictionaryUse};
use crate::http::headers::{self, Facts};
use crate::http::range::{self, Selection};
use crate::http::request::{Method, Request, Version};
use crate::http::response::{self, Status};
use crate::service::Service;
use crate::store::{self, Document, Found, Growing, INDEX_NAME};

/// The file as the client takes it: it, or what lies beside it with the suffix of a coding. `None` if the
/// client takes neither.
pub(super) fn in_a_coding(
    service: &Service,
    request: &Request<'_>,
    path: &[u8],
    file: Arc<dyn Document>,
) -> Option<Arc<dyn Document>> {
    let Facts { coding, varies, size, .. } = file.facts();
    // What is kept in a coding was asked for by the name of it. Without a parameter nothing is excluded.
    let excludes = || request.accept_encoding.iter().any(|line| line.contains(&b';'));
    if coding.is_some() || !(varies || excludes()) {
        return Some(file);
    }
    let accepted = Accepted::parse(&request.accept_encoding);
    if !varies {
        return accepted.takes_identity().then_some(file);
    }
    let mut found = [const { None }; Coding::ALL.len()];
    let index: &[u8] = if path.ends_with(b"/") { INDEX_NAME } else { b"" };
    let dictionary = dictionary::available(request.available_dictionary);
    let chosen = accepted.choose(|coding| {
        let Some(coding) = coding else { return Some(size) };
        let header = match coding {
            Coding::Brotli | Coding::Zstd | Coding::Gzip => None,
            Coding::Dcz | Coding::Dcb => Some(dictionary::header(coding, &dictionary?)),
        };
        let beside = [path, index, coding.suffix().as_bytes()].concat();
        let Found::File(document) = service.site.look_up(&beside, &service.reader) else { return None };
        let facts = document.facts();
        // By its name alone it might be anything.
        let is_it = facts.coding == Some(coding)
            && header.is_none_or(|header| begins_with(&*document, &header, &service.reader));
        let size = is_it.then_some(facts.size);
        found[coding as usize] = Some(document);
        size
    })?;
    Some(chosen.and_then(|coding| found[coding as usize].take()).unwrap_or(file))
}

/// Whether the document begins with `bytes`; not if that has to be read first.
fn begins_with(document: &dyn Document, bytes: &[u8], reader: &BlockReader) -> bool {
    match document.resident(0, bytes.len()) {
        Some(piece) => piece.bytes == bytes,
        None => match document.read(0, reader) {
            Ok(BlockPart::Here(block)) => block.bytes().starts_with(bytes),
            Ok(BlockPart::Coming(_)) | Err(_) => false,
        },
    }
}

/// A page of the site's own that says what `status` means.
pub(super) fn own_page(
    service: &Service,
    status: Status,
    question: &Question<'_, '_>,
    document: Arc<dyn Document>,
    text: &mut Vec<u8>,
) -> Answer {
    let facts = document.facts();
    let body = match FileBody::new(&*document, 0..facts.size, &service.reader) {
        Ok(_) if !question.with_body || facts.size == 0 => Body::Empty,
        Ok(body) => Body::File(body),
        Err(error) => return unreadable(service, &error, question.persistence, text),
    };
    response::begin(text, status);
    response::field(text, "Content-Type", facts.content_type);
    response::line(text, format_args!("Content-Length: {}", facts.size));
    headers::write_coding(&facts, text);
    service.site.rules().headers.write(question.resource.path, text);
    service.end_head(question.persistence, text);
    Answer { document: Some(document), ..Answer::new(status, body) }
}

/// A file, as far as it was asked for.
pub(super) fn of_file(
    service: &Service,
    question: &Question<'_, '_>,
    document: Arc<dyn Document>,
    text: &mut Vec<u8>,
) -> Answer {
    let &Question { request, persistence, with_body, .. } = question;
    let facts = document.facts();
    let (len, dictionary) = (facts.size, facts.dictionary);
    if !request.conditions.is_empty() {
        match request.conditions.evaluate(facts.validators) {
            Verdict::Proceed => {}
            Verdict::NotModified => {
                return of_document(
                    service,
                    Status::NotModified,
                    question,
                    (document, Body::Empty, dictionary),
                    text,
                );
            }
            Verdict::PreconditionFailed => {
                return page(service, Status::PreconditionFailed, persistence, with_body, text);
            }
        }
    }
    // RFC 9110 section 14.2: Range is defined for GET only.
    if let Some(field) = request.range
        && with_body
        && request.conditions.range_applies(facts.validators, service.tails().unix())
    {
        match range::select(field, len) {
            Selection::Whole => {}
            Selection::Part(part) => return partial(service, question, document, part, text),
            Selection::Parts(parts) => return several_parts(service, question, document, &parts, text),
            Selection::Unsatisfiable => {
                return page_with(service, Status::RangeNotSatisfiable, persistence, true, text, |text| {
                    response::line(text, format_args!("Content-Range: bytes */{len}"));
                });
            }
        }
    }
    if !with_body || len == 0 {
        return of_document(service, Status::Ok, question, (document, Body::Empty, dictionary), text);
    }
    match FileBody::new(&*document, 0..len, &service.reader) {
        Ok(body) => {
            of_document(service, Status::Ok, question, (document, Body::File(body), dictionary), text)
        }
        Err(error) => unreadable(service, &error, persistence, text),
    }
}

/// What grows while it is sent has no length: chunks, or to a client of HTTP/1.0 all until the connection
/// ends.
pub(super) fn of_growing(
    service: &Service,
    question: &Question<'_, '_>,
    growing: &dyn Growing,
    text: &mut Vec<u8>,
) -> Answer {
    let chunked = question.request.version == Version::Http11;
    let with_body = question.request.method == Method::Get;
    response::begin(text, Status::Ok);
    response::field(text, "Content-Type", growing.content_type().as_bytes());
    response::field(text, "Cache-Control", b"no-store");
    if chunked {
        response::field(text, "Transfer-Encoding", b"chunked");
    }
    let closes = with_body && question.request.version == Version::Http10;
    service.end_head(if closes { Persistence::Close } else { question.persistence }, text);
    let body =
        if with_body { Body::Live(Box::new(LiveBody::new(growing.open(), chunked))) } else { Body::Empty };
    Answer { closes, ..Answer::new(Status::Ok, body) }
}

/// Uses the ready-made head, or writes the same one where there is none, or it is switched off. Facts are
/// looked up: what of them the caller has comes along.
fn of_document(
    service: &Service,
    status: Status,
    question: &Question<'_, '_>,
    (document, body, dictionary): (Arc<dyn Document>, Body, DictionaryUse),
    text: &mut Vec<u8>,
) -> Answer {
    let path = question.resource.path;
    let content_type = service.site.rules().headers.content_type(path);
    let has_ready_head = content_type.is_none()
        && service.options.precomputed_headers
        && document.ready_head(status).is_some();
    if !has_ready_head {
        headers::write(status, &with_type(document.facts(), content_type), text);
    }
    write_fields(service, path, text);
    if status == Status::Ok && dictionary != DictionaryUse::None {
        dictionary::write_use_as(path, text);
    }
    if !text.is_empty() {
        service.end_head(question.persistence, text);
    }
    Answer { document: Some(document), has_ready_head, ..Answer::new(status, body) }
}

/// What the site says that responses bear, and what else stands behind a head that was made beforehand.
fn write_fields(service: &Service, path: &[u8], text: &mut Vec<u8>) {
    service.site.rules().headers.write(path, text);
    if service.negotiates {
        response::field(text, "Vary", b"Accept");
    }
}

/// `facts`, but the media type if another is said.
fn with_type<'a>(facts: Facts<'a>, content_type: Option<&'a [u8]>) -> Facts<'a> {
    Facts { content_type: content_type.unwrap_or(facts.content_type), ..facts }
}

fn partial(
    service: &Service,
    question: &Question<'_, '_>,
    document: Arc<dyn Document>,
    part: Range<u64>,
    text: &mut Vec<u8>,
) -> Answer {
    let body = match FileBody::new(&*document, part.clone(), &service.reader) {
        Ok(body) => Body::File(body),
        Err(error) => return unreadable(service, &error, question.persistence, text),
    };
    let content_type = service.site.rules().headers.content_type(question.resource.path);
    let facts = with_type(document.facts(), content_type);
    response::begin(text, Status::PartialContent);
    response::field(text, "Content-Type", facts.content_type);
    response::line(text, format_args!("Content-Length: {}", body.len()));
    response::content_range(text, &part, facts.size);
    in_parts(service, question, (body, &document, &facts), text)
}

/// As [`partial`], of parts that lie apart: each has its `Content-Range` in its own head.
fn several_parts(
    service: &Service,
    question: &Question<'_, '_>,
    document: Arc<dyn Document>,
    parts: &[Range<u64>],
    text: &mut Vec<u8>,
) -> Answer {
    let facts = document.facts();
    let boundary = parts::boundary(facts.validators.etag);
    let body = match PartsBody::new(&*document, parts, &boundary, &service.reader) {
        Ok(body) => Body::Parts(Box::new(body)),
        Err(error) => return unreadable(service, &error, question.persistence, text),
    };
    response::begin(text, Status::PartialContent);
    response::line(text, format_args!("Content-Type: multipart/byteranges; boundary={boundary}"));
    response::line(text, format_args!("Content-Length: {}", body.len()));
    in_parts(service, question, (body, &document, &facts), text)
}

/// The rest of the head of a response that has less than all.
fn in_parts(
    service: &Service,
    question: &Question<'_, '_>,
    (body, document, facts): (Body, &Arc<dyn Document>, &Facts<'_>),
    text: &mut Vec<u8>,
) -> Answer {
    headers::write_coding(facts, text);
    headers::write_common(facts, text);
    headers::write_accept_ranges(text);
    write_fields(service, question.resource.path, text);
    service.end_head(question.persistence, text);
    Answer { document: Some(Arc::clone(document)), ..Answer::new(Status::PartialContent, body) }
}

/// The document was found, and its first bytes cannot be read.
pub(super) fn unreadable(
    service: &Service,
    error: &io::Error,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    tracing::warn!("a file that was asked for cannot be read: {error}");
    page(service, store::status_of(error), persistence, true, text)
}
