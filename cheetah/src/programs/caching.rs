//! Requests to other servers by way of what is kept of their responses ([`crate::accelerator`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ask::{Ask, Asked, Caching, fields, has_preconditions};
use super::kept::{Keeping, send_kept};
use super::origin::{forwarded_host, write_forwarded_target};
use super::output::Output;
use super::route::{Route, Target};
use super::{Exchange, FOLLOWERS, Programs};
use crate::accelerator::{Asks, Begun, Cache, Decided, Fill, Found, Hit, Object, PSEUDONYM, begin_key};
use crate::http::foreign::ForeignHead;
use crate::http::request::Method;
use crate::http::response::Status;
use crate::http::target;

/// A request that waits for what another one has asked for.
#[derive(Debug)]
pub(super) struct Follower {
    ask: Ask,
    caching: Caching,
    output: Output,
    fill: Arc<Fill>,
}

impl Programs {
    /// What is kept and answers a request without content; what is stale, but may be used meanwhile, is asked
    /// for.
    pub fn hit(&mut self, asked: &Asked<'_, '_>) -> Option<Hit> {
        let cache = self.config.cache.clone()?;
        let request = asked.request;
        if !matches!(request.method, Method::Get | Method::Head) || has_preconditions(request) {
            return None;
        }
        let mut scratch = std::mem::take(&mut self.path_scratch);
        let mut key = std::mem::take(&mut self.key_scratch);
        key.clear();
        let is_origins = target::resolve(request.target, &mut scratch).is_ok_and(|resource| {
            let mine = |route: &&Route| route.scope() == asked.scope && route.rest(resource.path).is_some();
            let route = self.config.routes.iter().filter(mine).max_by_key(|route| route.prefix().len());
            let Some(Target::Origin(origin)) = route.map(Route::target) else { return false };
            begin_key(asked.secured, forwarded_host(asked, origin), &mut key);
            write_forwarded_target(request.target, resource.path, resource.query, &mut key);
            true
        });
        let found = if is_origins {
            cache.look_up(&key, fields(request.head), &Asks::of(fields(request.head)), self.unix)
        } else {
            Found::Nothing
        };
        scratch.clear();
        scratch.shrink_to(4096);
        (self.path_scratch, self.key_scratch) = (scratch, key);
        let hit = match found {
            Found::Fresh(hit) => hit,
            Found::Meanwhile(hit) => {
                self.validate_meanwhile(asked, &cache, &hit.object);
                hit
            }
            Found::Stale(_) | Found::Nothing => return None,
        };
        cache.counters.hits.fetch_add(1, Ordering::Relaxed);
        if hit.ttl <= 0 {
            cache.counters.stale.fetch_add(1, Ordering::Relaxed);
        }
        Some(hit)
    }

    /// Has the origin asked whether something is still right, for nobody in particular.
    fn validate_meanwhile(&mut self, asked: &Asked<'_, '_>, cache: &Arc<Cache>, object: &Arc<Object>) {
        if asked.request.method != Method::Get {
            return;
        }
        let Some(mut ask) = self.ask(asked) else { return };
        let Some(caching) = ask.caching.take().filter(|caching| !caching.is_partial) else { return };
        ask.finish();
        // Another one may have asked already.
        let Begun::Lead(lead) = cache.begin(&caching.key, self.unix) else { return };
        let (mut output, receiver) = Output::new(false);
        drop(receiver);
        ask.set_validators(&object.validators());
        cache.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        let keeping =
            Keeping::new(cache, *caching, self.unix).lead(lead).validate(Arc::clone(object)).detach();
        output.keep(keeping);
        self.place(Exchange { ask, output, retried: false });
    }

    /// Answers a request with what is kept, or asks the origin, or follows who does.
    pub(super) fn begin_cached(&mut self, ask: Ask, caching: Caching, output: Output, cache: &Arc<Cache>) {
        if caching.is_purge && self.config.purgers.is_some() {
            return self.purge(&caching, output, cache);
        }
        let is_read = ask.is_safe && ask.content.is_empty() && (caching.is_get || ask.is_head);
        if !is_read {
            let invalidates = !ask.is_safe;
            let keeping = Keeping::new(cache, caching, self.unix);
            return self.forward(
                ask,
                if invalidates { keeping.invalidate() } else { keeping },
                output,
                "method",
            );
        }
        let found = cache.look_up(&caching.key, fields(&caching.head), &caching.asks, self.unix);
        let stale = match found {
            // It has come since it was looked for.
            Found::Fresh(hit) | Found::Meanwhile(hit) if !caching.is_partial => {
                cache.counters.hits.fetch_add(1, Ordering::Relaxed);
                let note = hit.note();
                return send_kept(output, &hit.object, &caching.head, self.unix, &note);
            }
            Found::Stale(object) if !caching.is_partial => Some(object),
            _ => None,
        };
        if caching.asks.control.only_if_cached {
            return output
                .fail(Status::GatewayTimeout, "it is not kept, and the client does not want it otherwise");
        }
        let reason = if stale.is_some() { "stale" } else { "uri-miss" };
        let mut ask = ask;
        if !caching.is_get || caching.is_partial || caching.asks.control.no_store {
            let mut keeping = Keeping::new(cache, caching, self.unix);
            if let Some(object) = stale.filter(|object| object.has_validators()) {
                ask.set_validators(&object.validators());
                keeping = keeping.validate(object);
            }
            return self.forward(ask, keeping, output, reason);
        }
        match cache.begin(&caching.key, self.unix) {
            Begun::Follow(fill) => self.follow(Follower { ask, caching, output, fill }),
            begun => {
                let mut keeping = Keeping::new(cache, caching, self.unix);
                if let Some(object) = stale {
                    if object.has_validators() {
                        ask.set_validators(&object.validators());
                    }
                    keeping = keeping.validate(object);
                }
                let keeping = match begun {
                    Begun::Lead(lead) => keeping.lead(lead),
                    Begun::Follow(_) | Begun::Pass => keeping,
                };
                self.forward(ask, keeping, output, reason);
            }
        }
    }

    fn forward(&mut self, ask: Ask, keeping: Keeping, mut output: Output, reason: &'static str) {
        keeping.cache.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        output.keep(keeping.because(reason));
        self.place(Exchange { ask, output, retried: false });
    }

    fn follow(&mut self, follower: Follower) {
        let fill = Arc::clone(&follower.fill);
        let number = self.followers.insert(follower);
        fill.wake(self.wakes.connection(FOLLOWERS | number as u32));
    }

    /// Looks what has become of what a request waits for.
    pub(super) fn look_after(&mut self, number: usize) {
        let Some(follower) = self.followers.get(number) else { return };
        let decided = follower.fill.decided(fields(&follower.caching.head));
        if matches!(decided, Decided::NotYet) {
            return;
        }
        let Follower { ask, caching, output, fill } = self.followers.remove(number);
        let Some(cache) = self.config.cache.clone() else { return };
        if output.is_gone() {
            return;
        }
        let collapsed = || cache.counters.collapsed.fetch_add(1, Ordering::Relaxed);
        match decided {
            Decided::NotYet => {}
            Decided::Join => {
                collapsed();
                let note = format!("{PSEUDONYM}; fwd=uri-miss; collapsed");
                if let Err(output) = output.join(&fill, &note) {
                    self.begin_cached(ask, caching, output, &cache);
                }
            }
            Decided::Kept(object) => {
                collapsed();
                let note = format!("{PSEUDONYM}; fwd=stale; collapsed");
                send_kept(output, &object, &caching.head, self.unix, &note);
            }
            Decided::Failed(status) => output.fail(status, "who asked first got nothing"),
            Decided::Again => self.begin_cached(ask, caching, output, &cache),
            // What it got was not for others: what this one gets is not, either.
            Decided::Alone => self.forward(ask, Keeping::new(&cache, caching, self.unix), output, "uri-miss"),
        }
    }

    /// Forgets a resource, for who may have it forgotten.
    fn purge(&self, caching: &Caching, output: Output, cache: &Arc<Cache>) {
        let own = fields(&caching.head).filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization"));
        let said: Vec<&[u8]> = own.map(|(_, value)| value).collect();
        let allowed = match (&said[..], &self.config.purgers) {
            ([one], Some(purgers)) => purgers.allow(one),
            _ => false,
        };
        let status = match allowed {
            false => Status::Unauthorized,
            true if cache.invalidate_all(&caching.key, None) => Status::NoContent,
            true => Status::NotFound,
        };
        let mut head = ForeignHead::new(status.code(), status.line()[4..].to_owned());
        if status == Status::Unauthorized {
            head.push(b"WWW-Authenticate", b"Bearer realm=\"cheetah\"");
        }
        head.length = (status != Status::NoContent).then_some(0);
        output.answer(head);
    }
}
