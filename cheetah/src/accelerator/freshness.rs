//! How old a response is, how long it is fresh, and whether it may be kept at all (RFC 9111 sections 3 and
//! 4.2).

use super::control::{Asks, Directives, MAX_SECONDS, seconds};
use crate::http::date;
use crate::http::reply::list;
use crate::http::response::Status;

/// Longest time that is guessed from `Last-Modified`: a day.
const MAX_HEURISTIC: u64 = 86_400;

/// Times of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// When it came, in seconds since 1970.
    pub came: u64,
    /// How old it was then.
    pub initial_age: u64,
    /// How old it may become.
    pub lifetime: u64,
    /// What it says of it.
    pub control: Directives,
}

/// What may be done with something that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Use it.
    Now,
    /// Use it, and ask the origin meanwhile.
    Meanwhile,
    /// Ask the origin first.
    Validated,
}

/// The fields of a response that matter here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts<'a> {
    date: Option<u64>,
    age: u64,
    expires: Option<Option<u64>>,
    control: Directives,
    pub(super) etag: Option<&'a [u8]>,
    pub(super) last_modified: Option<&'a [u8]>,
    pub(super) content_type: Option<&'a [u8]>,
    varies_by_all: bool,
    sets_cookie: bool,
}

/// Name and value of each line of a head that was checked.
pub(super) fn fields_of(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines.split(|&b| b == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|&b| b == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    })
}

impl<'a> Facts<'a> {
    pub(super) fn of(fields: &'a [u8]) -> Facts<'a> {
        let mut facts = Facts::default();
        let mut has_age = false;
        let mut targeted: Option<Directives> = None;
        for (name, value) in fields_of(fields) {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            match name.len() {
                3 if is("age") && !has_age => {
                    has_age = true;
                    facts.age = list(value).next().and_then(seconds).unwrap_or(0);
                }
                4 if is("date") => facts.date = date::parse(value),
                4 if is("etag") => facts.etag = Some(value),
                4 if is("vary") => facts.varies_by_all |= list(value).any(|name| name == b"*"),
                7 if is("expires") => {
                    // One that is no date, or that differs from another, is past.
                    let date = date::parse(value);
                    let differs = facts.expires.is_some_and(|earlier| earlier != date);
                    facts.expires = Some(date.filter(|_| !differs));
                }
                10 if is("set-cookie") => facts.sets_cookie = true,
                12 if is("content-type") => facts.content_type = Some(value),
                13 if is("cache-control") => facts.control.add(value),
                13 if is("last-modified") => facts.last_modified = Some(value),
                17 if is("cdn-cache-control") => targeted.get_or_insert_default().add(value),
                _ => {}
            }
        }
        if let Some(targeted) = targeted {
            // Said to caches like this one, it takes the place of what is said to all (RFC 9213 section 2.1).
            (facts.control, facts.expires) = (targeted, None);
        }
        facts
    }

    /// What it says of keeping it.
    pub(super) fn control(&self) -> Directives {
        self.control
    }

    /// Times of a response that was asked for at the second `asked` and came at `came`.
    pub(super) fn freshness(&self, code: u16, asked: u64, came: u64) -> Freshness {
        let date = self.date.unwrap_or(came);
        let corrected = self.age.saturating_add(came.saturating_sub(asked));
        let initial_age = came.saturating_sub(date).max(corrected);
        let control = self.control;
        let lifetime = if let Some(explicit) = control.s_maxage.or(control.max_age) {
            explicit
        } else if let Some(expires) = self.expires {
            expires.map_or(0, |expires| expires.saturating_sub(date)).min(MAX_SECONDS)
        } else {
            let modified = self.last_modified.and_then(date::parse);
            let may_guess = is_heuristic(code) || control.public;
            modified.filter(|_| may_guess).map_or(0, |at| (date.saturating_sub(at) / 10).min(MAX_HEURISTIC))
        };
        Freshness { came, initial_age, lifetime, control }
    }
}

/// Whether its lifetime may be guessed (RFC 9110 section 15.1).
fn is_heuristic(code: u16) -> bool {
    matches!(code, 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

impl Freshness {
    /// Of a response with such fields.
    pub fn of(code: u16, fields: &[u8], asked: u64, came: u64) -> Freshness {
        Facts::of(fields).freshness(code, asked, came)
    }

    /// How old it is at the second `now`.
    pub fn age(&self, now: u64) -> u64 {
        self.initial_age.saturating_add(now.saturating_sub(self.came)).min(MAX_SECONDS)
    }

    /// How long it has been stale; 0 if it is fresh.
    fn staleness(&self, now: u64) -> u64 {
        // At the end of its life it is not fresh any more.
        (self.age(now) + 1).saturating_sub(self.lifetime)
    }

    /// What may be done with it for who `asks`.
    pub fn usable(&self, asks: &Directives, now: u64) -> Use {
        let age = self.age(now);
        let left = self.lifetime.saturating_sub(age);
        if self.control.no_cache
            || asks.no_cache
            || asks.max_age.is_some_and(|max| age > max && asks.max_stale.is_none())
            || asks.min_fresh.is_some_and(|min| left < min)
        {
            return Use::Validated;
        }
        let staleness = self.staleness(now);
        if staleness == 0 {
            return Use::Now;
        }
        if self.forbids_stale() {
            return Use::Validated;
        }
        if asks.max_stale.is_some_and(|max| staleness <= max) {
            return Use::Now;
        }
        let meanwhile = self.control.stale_while_revalidate.is_some_and(|time| staleness <= time);
        if meanwhile && asks.max_age.is_none() { Use::Meanwhile } else { Use::Validated }
    }

    /// Whether it may be used where the origin cannot be asked, or fails.
    pub fn usable_on_error(&self, asks: &Directives, now: u64) -> bool {
        let allowed = self.control.stale_if_error.into_iter().chain(asks.stale_if_error).max();
        !self.forbids_stale()
            && !self.control.no_cache
            && allowed.is_some_and(|time| self.staleness(now) <= time)
    }

    /// `s-maxage` says so, too (RFC 9111 section 5.2.2.10).
    fn forbids_stale(&self) -> bool {
        self.control.must_revalidate || self.control.s_maxage.is_some()
    }
}

/// Whether a response with these fields to a GET may be kept for others (RFC 9111 section 3), and it is of
/// use: that it sets a cookie is taken for a sign that it is one client's, unless it says that it is
/// everybody's.
pub fn may_store(code: u16, fields: &[u8], asks: &Asks, freshness: &Freshness) -> bool {
    let facts = Facts::of(fields);
    let control = freshness.control;
    let is_understood = !matches!(code, 206 | 304) && Status::of_code(code).is_some();
    let is_for_all = control.public || control.s_maxage.is_some();
    let no_store = control.no_store && !control.must_understand;
    let may = is_understood
        && !no_store
        && !asks.control.no_store
        && !control.private
        && !facts.varies_by_all
        && (!asks.has_authorization || is_for_all || control.must_revalidate)
        && (!facts.sets_cookie || is_for_all);
    // Without a lifetime, said or to be guessed, only some codes may be kept (section 3, last point).
    let has_lifetime = control.max_age.is_some() || facts.expires.is_some() || is_for_all;
    let can_be_validated = facts.etag.is_some() || facts.last_modified.is_some();
    let is_stale_of_use = control.stale_while_revalidate.is_some() || control.stale_if_error.is_some();
    may && (has_lifetime || is_heuristic(code))
        && (freshness.lifetime > 0 || can_be_validated || is_stale_of_use)
}

#[cfg(test)]
mod tests;
