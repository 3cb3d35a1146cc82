//! Who answers a request: asked in order, the first that takes it does, whichever version of HTTP it came by.
//!
//! ```text
//!   misdirected ▸ elsewhere ▸ challenges ▸ kept of origins ▸ programs and origins ▸ uploads ▸ what is served (its own list: `answer::resource`)
//! ```

use crate::accelerator::Hit;
use crate::access_log::Peer;
use crate::http::request::Request;
use crate::http::response::Status;
use crate::programs::{Ask, Asked};
use crate::service::Service;
use crate::store::{CHALLENGES, Found};
use crate::upload::Upload;

/// What becomes of a request.
pub(crate) enum Answering {
    /// [`crate::answer::answer`] says it.
    Here,
    /// Nobody answers it.
    Refused(Status),
    /// What was kept of an origin's response does.
    Kept(Hit),
    /// A program does, when all of it has come.
    Program(Ask),
    /// The disk does, likewise.
    Upload(Box<Upload>),
}

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) peer: Peer,
    pub(crate) secured: bool,
}

type Answerer = fn(&mut Service, Origin, &Request<'_>) -> Option<Answering>;

const ANSWERERS: [Answerer; 6] = [misdirected, elsewhere, challenge, kept, program, upload];

/// Turns to the host that `request` is for, and finds who answers it.
pub(crate) fn find(service: &mut Service, origin: Origin, request: &Request<'_>) -> Answering {
    service.set_secured(origin.secured);
    let mut answerers = ANSWERERS.iter();
    answerers.find_map(|answerer| answerer(service, origin, request)).unwrap_or(Answering::Here)
}

/// It is for a host that is not served.
fn misdirected(service: &mut Service, _: Origin, request: &Request<'_>) -> Option<Answering> {
    (!service.choose(request)).then_some(Answering::Refused(Status::MisdirectedRequest))
}

/// Who is sent elsewhere changes nothing here, and no program hears of it.
fn elsewhere(service: &mut Service, _: Origin, _: &Request<'_>) -> Option<Answering> {
    service.sends_to().map(|_| Answering::Here)
}

/// An authority asks for what was put here for it, whoever answers for the path otherwise.
fn challenge(service: &mut Service, _: Origin, request: &Request<'_>) -> Option<Answering> {
    let asks = request.target.as_bytes().starts_with(CHALLENGES);
    let is_there =
        || matches!(service.site.look_up(request.target.as_bytes(), &service.reader), Found::File(_));
    (asks && is_there()).then_some(Answering::Here)
}

fn kept(service: &mut Service, origin: Origin, request: &Request<'_>) -> Option<Answering> {
    if request.content_length > 0 || request.is_chunked {
        return None;
    }
    let scope = service.scope;
    let asked = Asked { request, peer: origin.peer, secured: origin.secured, scope };
    service.programs.as_mut()?.hit(&asked).map(Answering::Kept)
}

fn program(service: &mut Service, origin: Origin, request: &Request<'_>) -> Option<Answering> {
    let scope = service.scope;
    let programs = service.programs.as_mut()?;
    let asked = Asked { request, peer: origin.peer, secured: origin.secured, scope };
    programs.ask(&asked).map(Answering::Program)
}

fn upload(service: &mut Service, _: Origin, request: &Request<'_>) -> Option<Answering> {
    Some(match service.begin_upload(request)? {
        Ok(upload) => Answering::Upload(Box::new(upload)),
        Err(status) => Answering::Refused(status),
    })
}
