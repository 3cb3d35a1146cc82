//! From a request to what is sent for it: which head, which bytes of what.
//!
//! A plain GET of a file decides everything by one look-up and writes nothing.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use runtime::buffer::{Aggregate, Shared, Slice};

use crate::body::{Body, Come, FileBody, LiveBody, PartsBody, parts};
use crate::http::accept;
use crate::http::coding::{Accepted, Coding};
use crate::http::conditional::Verdict;
use crate::http::date::Persistence;
use crate::http::headers::{self, Facts};
use crate::http::range::{self, Selection};
use crate::http::request::{Method, Request, Version};
use crate::http::response::{self, Status};
use crate::http::target;
use crate::rules::Outcome;
use crate::service::Service;
use crate::site::writable::ChangeMade;
use crate::store::{self, Document, Found, Growing, INDEX_NAME};

/// A decided response. On the wire: the ready-made head, then the text, which ends every head, then the body.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: Status,
    /// What is answered with, if it is a document.
    pub document: Option<Arc<dyn Document>>,
    /// Whether the document's ready-made head of this status begins the response. What was written to the text is all of
    /// the head otherwise.
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

/// Answers `request`, writing the head to `text`, which is empty, unless it is ready-made. If the reader of `service` is blocked
/// then, something that the answer depends on is being read, and this is none: ask again.
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
    let mut scratch = std::mem::take(&mut service.path_scratch);
    let answer = match target::resolve(request.target, &mut scratch) {
        Err(target::BadTarget) => page(service, Status::BadRequest, persistence, with_body, text),
        Ok(resource) => {
            let markdown = if service.options.markdown { markdown_of(service, resource) } else { None };
            service.negotiates = markdown.is_some();
            match markdown.filter(|_| accept::prefers_markdown(request.accept)) {
                Some((path, file)) => of_found(service, request, &path, file, persistence, text),
                None => of_resource(service, request, resource, persistence, text),
            }
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

/// The text in Markdown of the page that `resource` leads to, and where it lies.
fn markdown_of(service: &Service, resource: target::Resource<'_>) -> Option<(Vec<u8>, Arc<dyn Document>)> {
    let path = resource.path;
    let stem = match path {
        [.., b'/'] => [path, b"index"].concat(),
        _ => path.strip_suffix(b".html").unwrap_or(path).to_vec(),
    };
    let site = &service.site;
    if site.rules().redirects.forced(path, resource.query).is_some() {
        return None;
    }
    let is_page = match site.look_up(path, &service.reader) {
        Found::File(_) => path.ends_with(b"/") || path.ends_with(b".html"),
        Found::Nothing => {
            let page = [path, b".html"].concat();
            service.options.clean_urls && matches!(site.look_up(&page, &service.reader), Found::File(_))
        }
        _ => false,
    };
    if !is_page {
        return None;
    }
    let at = [&stem[..], b".md"].concat();
    match site.look_up(&at, &service.reader) {
        Found::File(file) => Some((at, file)),
        _ => None,
    }
}

fn of_found(
    service: &Service,
    request: &Request<'_>,
    path: &[u8],
    file: Arc<dyn Document>,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    match in_a_coding(service, request, path, file) {
        Some(file) => of_file(service, request, path, file, persistence, text),
        None => page(service, Status::NotAcceptable, persistence, request.method != Method::Head, text),
    }
}

fn of_resource(
    service: &Service,
    request: &Request<'_>,
    resource: target::Resource<'_>,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let with_body = request.method != Method::Head;
    let path = resource.path;
    if let Some(outcome) = service.site.rules().redirects.forced(path, resource.query) {
        return follow(service, request, path, outcome, persistence, text);
    }
    match service.site.look_up(path, &service.reader) {
        Found::Growing(growing) => of_growing(service, request, &*growing, persistence, text),
        Found::File(file) => of_found(service, request, path, file, persistence, text),
        Found::Directory => redirect(service, resource, persistence, with_body, text),
        Found::Nothing => nothing(service, request, resource, persistence, text),
        Found::Failed(status) => page(service, status, persistence, with_body, text),
        Found::Later => later(),
    }
}

/// No answer yet.
fn later() -> Answer {
    Answer::new(Status::ServiceUnavailable, Body::Empty)
}

/// What a line of the site's `_redirects` says.
fn follow(
    service: &Service,
    request: &Request<'_>,
    path: &[u8],
    outcome: Outcome,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let with_body = request.method != Method::Head;
    match outcome {
        Outcome::Location(status, address) => {
            page_with(service, status, persistence, with_body, text, |text| {
                response::field(text, "Location", &address);
                service.site.rules().headers.write(path, text);
            })
        }
        Outcome::File(status, at) => match service.site.look_up(&at, &service.reader) {
            Found::File(file) => match in_a_coding(service, request, &at, file) {
                Some(file) if status == Status::Ok => {
                    of_file(service, request, path, file, persistence, text)
                }
                Some(file) => own_page(service, status, path, file, with_body, persistence, text),
                None => page(service, Status::NotAcceptable, persistence, with_body, text),
            },
            Found::Failed(status) => page(service, status, persistence, with_body, text),
            Found::Later => later(),
            // Where it leads to is not there: no second rule is asked, or two could lead to each other.
            Found::Growing(_) | Found::Directory | Found::Nothing => {
                let status = if status == Status::Ok { Status::NotFound } else { status };
                page(service, status, persistence, with_body, text)
            }
        },
    }
}

/// What there is instead of what was asked for and is not there: the page whose address is written without its ending, the
/// one page of an application that makes all others, or the site's own page that says so.
fn nothing(
    service: &Service,
    request: &Request<'_>,
    resource: target::Resource<'_>,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let with_body = request.method != Method::Head;
    let file_at = |path: &[u8]| match service.site.look_up(path, &service.reader) {
        Found::File(file) => in_a_coding(service, request, path, file),
        _ => None,
    };
    let path = resource.path;
    if service.options.clean_urls
        && !path.ends_with(b"/")
        && let Some(file) = file_at(&[path, b".html"].concat())
    {
        return of_file(service, request, path, file, persistence, text);
    }
    if let Some(outcome) = service.site.rules().redirects.of_nothing(path, resource.query) {
        return follow(service, request, path, outcome, persistence, text);
    }
    let has_ending = path.rsplit(|&byte| byte == b'/').next().is_some_and(|name| name.contains(&b'.'));
    if service.options.single_page
        && !has_ending
        && let Some(file) = file_at(&[b"/", INDEX_NAME].concat())
    {
        return of_file(service, request, path, file, persistence, text);
    }
    match file_at(NOT_FOUND_PATH) {
        Some(file) => own_page(service, Status::NotFound, path, file, with_body, persistence, text),
        None => page(service, Status::NotFound, persistence, with_body, text),
    }
}

/// The page of a site that says that something is not there.
const NOT_FOUND_PATH: &[u8] = b"/404.html";

/// A page of the site's own that says what `status` means.
fn own_page(
    service: &Service,
    status: Status,
    path: &[u8],
    document: Arc<dyn Document>,
    with_body: bool,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let facts = document.facts();
    let body = match FileBody::new(&*document, 0..facts.size, &service.reader) {
        Ok(_) if !with_body || facts.size == 0 => Body::Empty,
        Ok(body) => Body::File(body),
        Err(error) => return unreadable(service, &error, persistence, text),
    };
    response::begin(text, status);
    response::field(text, "Content-Type", facts.content_type);
    response::line(text, format_args!("Content-Length: {}", facts.size));
    headers::write_coding(&facts, text);
    service.site.rules().headers.write(path, text);
    service.end_head(persistence, text);
    Answer { document: Some(document), ..Answer::new(status, body) }
}

/// The file as the client takes it: it, or what lies beside it with the suffix of a coding. `None` if the client takes
/// neither.
fn in_a_coding(
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
    let chosen = accepted.choose(|coding| {
        let Some(coding) = coding else { return Some(size) };
        let beside = [path, index, coding.suffix().as_bytes()].concat();
        let Found::File(document) = service.site.look_up(&beside, &service.reader) else { return None };
        let facts = document.facts();
        // By its name alone it might be anything.
        let size = (facts.coding == Some(coding)).then_some(facts.size);
        found[coding as usize] = Some(document);
        size
    })?;
    Some(chosen.and_then(|coding| found[coding as usize].take()).unwrap_or(file))
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
    response::line(text, format_args!("Server: {}", response::SERVER));
    text.extend_from_slice(&head.fields);
    match length {
        _ if !head.may_have_content() => {}
        Some(length) => response::line(text, format_args!("Content-Length: {length}")),
        None if asked.with_body && asked.may_chunk => {
            response::field(text, "Transfer-Encoding", b"chunked");
        }
        None => {}
    }
    service.end_head(asked.persistence, text);
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

fn of_file(
    service: &Service,
    request: &Request<'_>,
    path: &[u8],
    document: Arc<dyn Document>,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let with_body = request.method == Method::Get;
    let facts = document.facts();
    let len = facts.size;
    if !request.conditions.is_empty() {
        match request.conditions.evaluate(facts.validators) {
            Verdict::Proceed => {}
            Verdict::NotModified => {
                return of_document(
                    service,
                    Status::NotModified,
                    path,
                    document,
                    Body::Empty,
                    persistence,
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
            Selection::Part(part) => return partial(service, path, document, part, persistence, text),
            Selection::Parts(parts) => {
                return several_parts(service, path, document, &parts, persistence, text);
            }
            Selection::Unsatisfiable => {
                return page_with(service, Status::RangeNotSatisfiable, persistence, true, text, |text| {
                    response::line(text, format_args!("Content-Range: bytes */{len}"));
                });
            }
        }
    }
    if !with_body || len == 0 {
        return of_document(service, Status::Ok, path, document, Body::Empty, persistence, text);
    }
    match FileBody::new(&*document, 0..len, &service.reader) {
        Ok(body) => of_document(service, Status::Ok, path, document, Body::File(body), persistence, text),
        Err(error) => unreadable(service, &error, persistence, text),
    }
}

/// What grows while it is sent has no length: chunks, or to a client of HTTP/1.0 all until the connection ends.
fn of_growing(
    service: &Service,
    request: &Request<'_>,
    growing: &dyn Growing,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let chunked = request.version == Version::Http11;
    let with_body = request.method == Method::Get;
    response::begin(text, Status::Ok);
    response::field(text, "Content-Type", growing.content_type().as_bytes());
    response::field(text, "Cache-Control", b"no-store");
    if chunked {
        response::field(text, "Transfer-Encoding", b"chunked");
    }
    let closes = with_body && request.version == Version::Http10;
    service.end_head(if closes { Persistence::Close } else { persistence }, text);
    let body =
        if with_body { Body::Live(Box::new(LiveBody::new(growing.open(), chunked))) } else { Body::Empty };
    Answer { closes, ..Answer::new(Status::Ok, body) }
}

/// Uses the ready-made head, or writes the same one where there is none, or it is switched off.
fn of_document(
    service: &Service,
    status: Status,
    path: &[u8],
    document: Arc<dyn Document>,
    body: Body,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let fields = &service.site.rules().headers;
    let content_type = fields.content_type(path);
    let has_ready_head = content_type.is_none()
        && service.options.precomputed_headers
        && document.ready_head(status).is_some();
    if !has_ready_head {
        headers::write(status, &with_type(document.facts(), content_type), text);
    }
    write_fields(service, path, text);
    if !text.is_empty() {
        service.end_head(persistence, text);
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
    path: &[u8],
    document: Arc<dyn Document>,
    part: Range<u64>,
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let status = Status::PartialContent;
    let body = match FileBody::new(&*document, part.clone(), &service.reader) {
        Ok(body) => Body::File(body),
        Err(error) => return unreadable(service, &error, persistence, text),
    };
    let facts = with_type(document.facts(), service.site.rules().headers.content_type(path));
    response::begin(text, status);
    response::field(text, "Content-Type", facts.content_type);
    response::line(text, format_args!("Content-Length: {}", body.len()));
    response::content_range(text, &part, facts.size);
    headers::write_coding(&facts, text);
    headers::write_common(&facts, text);
    headers::write_accept_ranges(text);
    write_fields(service, path, text);
    service.end_head(persistence, text);
    Answer { document: Some(document), ..Answer::new(status, body) }
}

/// As [`partial`], of parts that lie apart: each has its `Content-Range` in its own head.
fn several_parts(
    service: &Service,
    path: &[u8],
    document: Arc<dyn Document>,
    parts: &[Range<u64>],
    persistence: Persistence,
    text: &mut Vec<u8>,
) -> Answer {
    let status = Status::PartialContent;
    let facts = document.facts();
    let boundary = parts::boundary(facts.validators.etag);
    let body = match PartsBody::new(&*document, parts, &boundary, &service.reader) {
        Ok(body) => Body::Parts(Box::new(body)),
        Err(error) => return unreadable(service, &error, persistence, text),
    };
    response::begin(text, status);
    response::line(text, format_args!("Content-Type: multipart/byteranges; boundary={boundary}"));
    response::line(text, format_args!("Content-Length: {}", body.len()));
    headers::write_coding(&facts, text);
    headers::write_common(&facts, text);
    headers::write_accept_ranges(text);
    write_fields(service, path, text);
    service.end_head(persistence, text);
    Answer { document: Some(document), ..Answer::new(status, body) }
}

/// The document was found, and its first bytes cannot be read.
fn unreadable(service: &Service, error: &io::Error, persistence: Persistence, text: &mut Vec<u8>) -> Answer {
    tracing::warn!("a file that was asked for cannot be read: {error}");
    page(service, store::status_of(error), persistence, true, text)
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
        write_query(resource.query, text);
    })
}
