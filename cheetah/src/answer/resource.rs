//! What a path leads to: answerers, asked in order; the first that has something says it.
//!
//! ```text
//!   ruled ▸ in_markdown ▸ found ▸ without_its_ending ▸ ruled_instead ▸ the_one_page ▸ not_found
//! ```

use std::sync::Arc;

use super::file::{in_a_coding, of_file, of_growing, own_page};
use super::{Answer, Question, later, page, page_with, write_query};
use crate::http::accept;
use crate::http::response::{self, Status};
use crate::http::target;
use crate::rules::Outcome;
use crate::service::Service;
use crate::store::{Document, Found, INDEX_NAME};

type Answerer = fn(&mut Service, &Question<'_, '_>, &mut Vec<u8>) -> Option<Answer>;

const ANSWERERS: [Answerer; 6] = [ruled, in_markdown, found, without_its_ending, ruled_instead, the_one_page];

/// Answers for a resource that was asked for by GET or HEAD.
pub(super) fn of_resource(service: &mut Service, question: &Question<'_, '_>, text: &mut Vec<u8>) -> Answer {
    let mut answerers = ANSWERERS.iter();
    let answer = answerers.find_map(|answerer| answerer(service, question, text));
    answer.unwrap_or_else(|| not_found(service, question, text))
}

/// By a line of the site's `_redirects` that counts whatever lies at the path.
fn ruled(service: &mut Service, question: &Question<'_, '_>, text: &mut Vec<u8>) -> Option<Answer> {
    let resource = question.resource;
    let outcome = service.site.rules().redirects.forced(resource.path, resource.query)?;
    Some(follow(service, question, outcome, text))
}

/// With the text in Markdown of the page that the path leads to, if that is what the client would rather
/// have.
fn in_markdown(service: &mut Service, question: &Question<'_, '_>, text: &mut Vec<u8>) -> Option<Answer> {
    if !service.options.markdown {
        return None;
    }
    let (path, file) = markdown_of(service, question.resource.path)?;
    service.negotiates = true;
    let is_preferred = accept::prefers_markdown(question.request.accept);
    is_preferred.then(|| of_found(service, &question.at(&path), file, text))
}

/// The text in Markdown of the page at `path`, and where it lies.
fn markdown_of(service: &Service, path: &[u8]) -> Option<(Vec<u8>, Arc<dyn Document>)> {
    let stem = match path {
        [.., b'/'] => [path, b"index"].concat(),
        _ => path.strip_suffix(b".html").unwrap_or(path).to_vec(),
    };
    let look_up = |path: &[u8]| service.site.look_up(path, &service.reader);
    let is_page = match look_up(path) {
        Found::File(_) => path.ends_with(b"/") || path.ends_with(b".html"),
        Found::Nothing => {
            service.options.clean_urls && matches!(look_up(&[path, b".html"].concat()), Found::File(_))
        }
        _ => false,
    };
    if !is_page {
        return None;
    }
    let at = [&stem[..], b".md"].concat();
    match look_up(&at) {
        Found::File(file) => Some((at, file)),
        _ => None,
    }
}

/// With what lies there.
fn found(service: &mut Service, question: &Question<'_, '_>, text: &mut Vec<u8>) -> Option<Answer> {
    Some(match service.site.look_up(question.resource.path, &service.reader) {
        Found::Growing(growing) => of_growing(service, question, &*growing, text),
        Found::File(file) => of_found(service, question, file, text),
        Found::Directory => to_its_slash(service, question, text),
        Found::Failed(status) => page(service, status, question.persistence, question.with_body, text),
        Found::Later => later(),
        Found::Nothing => return None,
    })
}

fn of_found(
    service: &Service,
    question: &Question<'_, '_>,
    file: Arc<dyn Document>,
    text: &mut Vec<u8>,
) -> Answer {
    match in_a_coding(service, question.request, question.resource.path, file) {
        Some(file) => of_file(service, question, file, text),
        None => page(service, Status::NotAcceptable, question.persistence, question.with_body, text),
    }
}

/// With the page whose address is written without its ending.
fn without_its_ending(
    service: &mut Service,
    question: &Question<'_, '_>,
    text: &mut Vec<u8>,
) -> Option<Answer> {
    let path = question.resource.path;
    if !service.options.clean_urls || path.ends_with(b"/") {
        return None;
    }
    let file = file_at(service, question, &[path, b".html"].concat())?;
    Some(of_file(service, question, file, text))
}

/// By a line of the site's `_redirects` for what is not there.
fn ruled_instead(service: &mut Service, question: &Question<'_, '_>, text: &mut Vec<u8>) -> Option<Answer> {
    let resource = question.resource;
    let outcome = service.site.rules().redirects.of_nothing(resource.path, resource.query)?;
    Some(follow(service, question, outcome, text))
}

/// With the one page of an application that makes all others.
fn the_one_page(service: &mut Service, question: &Question<'_, '_>, text: &mut Vec<u8>) -> Option<Answer> {
    let name = question.resource.path.rsplit(|&byte| byte == b'/').next();
    let has_ending = name.is_some_and(|name| name.contains(&b'.'));
    if !service.options.single_page || has_ending {
        return None;
    }
    let file = file_at(service, question, &[b"/", INDEX_NAME].concat())?;
    Some(of_file(service, question, file, text))
}

/// With the site's own page that says so, or ours.
fn not_found(service: &Service, question: &Question<'_, '_>, text: &mut Vec<u8>) -> Answer {
    match file_at(service, question, NOT_FOUND_PATH) {
        Some(file) => own_page(service, Status::NotFound, question, file, text),
        None => page(service, Status::NotFound, question.persistence, question.with_body, text),
    }
}

/// The page of a site that says that something is not there.
const NOT_FOUND_PATH: &[u8] = b"/404.html";

/// What lies at `path`, as the client takes it.
fn file_at(service: &Service, question: &Question<'_, '_>, path: &[u8]) -> Option<Arc<dyn Document>> {
    match service.site.look_up(path, &service.reader) {
        Found::File(file) => in_a_coding(service, question.request, path, file),
        _ => None,
    }
}

/// What a line of the site's `_redirects` says.
fn follow(service: &Service, question: &Question<'_, '_>, outcome: Outcome, text: &mut Vec<u8>) -> Answer {
    let &Question { request, resource, persistence, with_body } = question;
    match outcome {
        Outcome::Location(status, address) => {
            page_with(service, status, persistence, with_body, text, |text| {
                response::field(text, "Location", &address);
                service.site.rules().headers.write(resource.path, text);
            })
        }
        Outcome::File(status, at) => match service.site.look_up(&at, &service.reader) {
            Found::File(file) => match in_a_coding(service, request, &at, file) {
                Some(file) if status == Status::Ok => of_file(service, question, file, text),
                Some(file) => own_page(service, status, question, file, text),
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

/// To a folder that was named without its slash.
fn to_its_slash(service: &Service, question: &Question<'_, '_>, text: &mut Vec<u8>) -> Answer {
    let &Question { resource, persistence, with_body, .. } = question;
    page_with(service, Status::MovedPermanently, persistence, with_body, text, |text| {
        text.extend_from_slice(b"Location: ");
        target::escape(resource.path, text);
        text.push(b'/');
        write_query(resource.query, text);
    })
}
