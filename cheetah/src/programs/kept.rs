//! The response of an origin on its way to who asked, and into the cache.
//!
//! ```text
//!   head ─┬─ 304 to our question ──▶ what is kept, freshened        goes to the client and to who follows
//!         ├─ 5xx, or nothing     ──▶ what is kept, if it may be used then
//!         ├─ for others, too     ──▶ content goes on, into blocks, and to who follows
//!         └─ not for others      ──▶ content goes on
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use runtime::buffer::Aggregate;

use super::ask::{Caching, fields};
use super::output::Output;
use crate::accelerator::{Cache, Freshness, Hit, Lead, Object, PSEUDONYM, Selecting, may_store};
use crate::http::conditional::Verdict;
use crate::http::foreign::ForeignHead;
use crate::http::parse::{self, Parsed};
use crate::http::range::{self, Selection};
use crate::http::request::Method;
use crate::http::response::{self, Status};
use crate::live::{ConnectionWaker, Sender};
use crate::store::Document as _;

/// What is to be done with the response to a request.
#[derive(Debug)]
pub(super) struct Keeping {
    pub(super) cache: Arc<Cache>,
    caching: Caching,
    /// When it was asked for.
    asked_at: u64,
    /// Others follow.
    lead: Option<Lead>,
    /// What the origin is asked whether it is still right.
    validates: Option<Arc<Object>>,
    /// What is kept is forgotten if the origin did what was asked.
    invalidates: bool,
    /// It goes on though no client waits, until it is known what comes.
    is_detached: bool,
    has_head: bool,
    reason: &'static str,
    /// What is being kept.
    kept: Option<(ForeignHead, Freshness, Selecting)>,
}

/// What becomes of the response.
pub(super) enum Course {
    /// The head goes on, and the content.
    Forward(ForeignHead),
    /// This is sent instead.
    Instead(Arc<Object>, String),
}

impl Keeping {
    pub(super) fn new(cache: &Arc<Cache>, caching: Caching, now: u64) -> Keeping {
        Keeping {
            cache: Arc::clone(cache),
            caching,
            asked_at: now,
            lead: None,
            validates: None,
            invalidates: false,
            is_detached: false,
            has_head: false,
            reason: "bypass",
            kept: None,
        }
    }

    pub(super) fn lead(self, lead: Lead) -> Keeping {
        Keeping { lead: Some(lead), ..self }
    }

    pub(super) fn validate(self, object: Arc<Object>) -> Keeping {
        Keeping { validates: Some(object), ..self }
    }

    pub(super) fn invalidate(self) -> Keeping {
        Keeping { invalidates: true, ..self }
    }

    pub(super) fn detach(self) -> Keeping {
        Keeping { is_detached: true, ..self }
    }

    pub(super) fn because(self, reason: &'static str) -> Keeping {
        Keeping { reason, ..self }
    }

    /// The client's head.
    pub(super) fn client_head(&self) -> &[u8] {
        &self.caching.head
    }

    /// The head has come, at the second `now`.
    pub(super) fn on_head(&mut self, mut head: ForeignHead, now: u64) -> Course {
        let key = &self.caching.key.clone();
        self.has_head = true;
        if self.invalidates && (200..400).contains(&head.code) {
            self.cache.invalidate_all(key, Some(&head));
        }
        if let Some(object) = self.validates.take() {
            let freshened = (head.code == 304 && object.has_validators())
                .then(|| object.freshened(&head, self.asked_at, now))
                .flatten();
            if let Some(fresh) = freshened {
                self.cache.counters.validated.fetch_add(1, Ordering::Relaxed);
                let fresh = Arc::new(fresh);
                let mut lines = Vec::new();
                fresh.write_fields(&mut lines);
                // What this client alone was told with it (a cookie, `private`) is not for others.
                let is_for_others =
                    may_store(fresh.status().code(), &lines, &self.caching.asks, &fresh.freshness)
                        && self.cache.replace(key, &object, Arc::clone(&fresh));
                if let Some(lead) = self.lead.take() {
                    if is_for_others {
                        lead.fill.keep(Arc::clone(&fresh));
                    } else {
                        lead.fill.refuse();
                    }
                }
                return Course::Instead(fresh, format!("{PSEUDONYM}; fwd=stale; fwd-status=304"));
            }
            if let Some(course) = self.on_error(&object, head.code, now) {
                return course;
            }
        }
        let freshness = Freshness::of(head.code, &head.fields, self.asked_at, now);
        let mut note = format!("{PSEUDONYM}; fwd={}; fwd-status={}", self.reason, head.code);
        if let Some(lead) = &self.lead {
            let fits = head.length.is_none_or(|len| len <= self.cache.limits().object);
            if fits && may_store(head.code, &head.fields, &self.caching.asks, &freshness) {
                let selecting = Selecting::of(&head.fields, fields(&self.caching.head));
                lead.fill.share(head.clone(), selecting.clone());
                self.kept = Some((head.clone(), freshness, selecting));
                note += "; stored";
            } else {
                // A 304 is of one client's condition, and says nothing of who comes later; who waits asks by
                // itself, or one would wait for the other.
                if head.code != 304 {
                    self.cache.pass(key, now);
                }
                lead.fill.refuse();
                self.lead = None;
            }
        }
        head.push(b"Cache-Status", note.as_bytes());
        Course::Forward(head)
    }

    /// What is sent of what is kept where the origin fails, if that may be.
    fn on_error(&mut self, object: &Arc<Object>, code: u16, now: u64) -> Option<Course> {
        let failed = matches!(code, 500 | 502 | 503 | 504);
        if !failed || !object.freshness.usable_on_error(&self.caching.asks.control, now) {
            return None;
        }
        if let Some(lead) = self.lead.take() {
            lead.fill.keep(Arc::clone(object));
        }
        self.cache.counters.stale.fetch_add(1, Ordering::Relaxed);
        let hit = Hit::new(Arc::clone(object), now);
        Some(Course::Instead(
            hit.object,
            format!("{PSEUDONYM}; hit; ttl={}; fwd=stale; fwd-status={code}", hit.ttl),
        ))
    }

    /// The origin gives no response. What is sent instead, if not an error.
    pub(super) fn on_failure(&mut self, status: Status, now: u64) -> Option<(Arc<Object>, String)> {
        let object = self.validates.take()?;
        match self.on_error(&object, status.code(), now)? {
            Course::Instead(object, note) => Some((object, note)),
            Course::Forward(_) => None,
        }
    }

    /// Content has come.
    pub(super) fn on_content(&mut self, bytes: &Aggregate) {
        if let Some(lead) = &self.lead
            && !lead.fill.push(bytes, self.cache.limits().object)
            && self.kept.take().is_some()
        {
            // Too much of it: nobody follows any more.
            self.cache.forget_fill(&lead.fill);
        }
    }

    /// All has come.
    pub(super) fn on_end(&mut self) {
        let Some(lead) = self.lead.take() else { return };
        let blocks = lead.fill.finish();
        if let (Some(blocks), Some((head, freshness, selecting))) = (blocks, self.kept.take())
            && let Some(object) = Object::new(&self.caching.key, &head, blocks, freshness, selecting)
        {
            let object = Arc::new(object);
            self.cache.put(&self.caching.key, Arc::clone(&object));
            self.cache.counters.stored.fetch_add(1, Ordering::Relaxed);
            lead.fill.settle(object);
        }
    }

    /// There is no more of it, and why.
    pub(super) fn on_fault(&mut self, status: Status) {
        if let Some(lead) = self.lead.take() {
            lead.fill.fail(status);
        }
    }

    /// Whether the origin may be read on, whatever the client takes.
    pub(super) fn has_room(&self) -> Option<bool> {
        self.lead.as_ref().map(|lead| lead.fill.has_room())
    }

    /// Whether all who follow have taken what came before.
    pub(super) fn is_at_pace(&self) -> bool {
        self.lead.as_ref().is_none_or(|lead| lead.fill.is_at_pace())
    }

    /// Whom to wake when who follows can take more, or is gone.
    pub(super) fn wake_by(&self, waker: ConnectionWaker) {
        if let Some(lead) = &self.lead {
            lead.fill.wake_leader_by(waker);
        }
    }

    /// Whether it is kept whatever the client's pace.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether it goes on without its client.
    pub(super) fn is_wanted(&self) -> bool {
        let asks = self.is_detached && !self.has_head;
        asks || self.lead.as_ref().is_some_and(|lead| lead.fill.is_wanted())
    }

    /// Whether somebody else waits for it.
    pub(super) fn is_followed(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.fill.is_followed())
    }
}

/// Sends what is kept to who waits for a head, and has asked with `asked`.
pub(super) fn send_kept(output: Output, object: &Object, asked: &[u8], now: u64, note: &str) {
    send(output.sender(), object, asked, now, note);
    output.end();
}

/// The same, but for the end.
pub(super) fn send(sender: &Sender, object: &Object, asked: &[u8], now: u64, note: &str) {
    let (mut head, range) = chosen(object, asked);
    let content = match object.content(range) {
        Ok(content) => content,
        Err(error) => {
            tracing::warn!("a response that is kept cannot be read: {error}");
            let status = Status::InternalServerError;
            head = ForeignHead::new(status.code(), status.line()[4..].to_owned());
            head.length = Some(0);
            Aggregate::new()
        }
    };
    head.push(b"Age", object.freshness.age(now).to_string().as_bytes());
    head.push(b"Cache-Status", note.as_bytes());
    sender.send_head(head);
    sender.push(content);
}

/// The head, and the part of its content, that who has asked with `asked` gets.
fn chosen(object: &Object, asked: &[u8]) -> (ForeignHead, Range<u64>) {
    let whole = (object.to_head(object.status()), 0..object.facts().size);
    // What was parsed once is parsed again.
    let limits = parse::Limits { request_line: usize::MAX, head: usize::MAX };
    let Parsed::Complete { request, .. } = parse::parse(asked, &limits) else { return whole };
    let is_head = request.method == Method::Head;
    let whole = if is_head { (whole.0, 0..0) } else { whole };
    if object.status() != Status::Ok {
        return whole;
    }
    let facts = object.facts();
    if request.conditions.evaluate(facts.validators) == Verdict::NotModified {
        return (object.to_head(Status::NotModified), 0..0);
    }
    if let Some(field) = request.range
        && !is_head
        && request.conditions.if_range.is_none()
        && let Selection::Part(part) = range::select(field, facts.size)
    {
        let mut head = object.to_head(Status::Ok);
        let status = Status::PartialContent;
        (head.code, head.reason) = (status.code(), status.line()[4..].to_owned());
        head.length = Some(part.end - part.start);
        response::content_range(&mut head.fields, &part, facts.size);
        return (head, part);
    }
    whole
}
