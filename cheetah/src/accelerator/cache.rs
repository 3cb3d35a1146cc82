//! All that is kept, by what was asked for. Shared by the loops of a server.
//!
//! ```text
//!   key = s or p, host, NUL, target  ──▶  variants: the newest first, each for the requests that it selects
//! ```
//!
//! One lock for all: a look-up holds it for a look into a table. What has to go makes room in the order in which it came,
//! but what was used since is passed over once (the clock algorithm).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::control::Asks;
use super::fill::Fill;
use super::freshness::Use;
use super::object::Object;
use crate::http::foreign::ForeignHead;
use crate::http::response::Status;

/// Variants of one resource that are kept: more are other requests' doing than the site's.
const MAX_VARIANTS: usize = 16;

/// Resources that are remembered as not for others.
const MAX_PASSED: usize = 4096;

/// How long they are, in seconds.
const PASSED_SECONDS: u64 = 10;

/// Bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Memory for what is kept, heads and about what tables take included.
    pub bytes: u64,
    /// Content of one response that is kept.
    pub object: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 256 << 20, object: 16 << 20 }
    }
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests answered from memory, without asking.
    pub hits: AtomicU64,
    /// Of them, with what is stale.
    pub stale: AtomicU64,
    /// Requests for which the origin was asked.
    pub forwarded: AtomicU64,
    /// Requests that got what another one had asked for.
    pub collapsed: AtomicU64,
    /// Answers of the origin that what is kept is still right.
    pub validated: AtomicU64,
    /// Responses taken in.
    pub stored: AtomicU64,
    /// Responses that made room for others.
    pub evicted: AtomicU64,
    /// Resources forgotten because something was changed, or it was asked for.
    pub invalidated: AtomicU64,
}

/// The same at one moment, and what is kept then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Name, what it counts, and the count.
    pub counts: [(&'static str, &'static str, u64); 8],
    /// Addresses of which something is kept.
    pub resources: u64,
    /// Memory that it takes.
    pub bytes: u64,
}

/// What is kept.
#[derive(Debug)]
pub struct Cache {
    limits: Limits,
    table: Mutex<Table>,
    /// Counters.
    pub counters: Counters,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Arc<[u8]>, Entry>,
    /// Keys in the order in which they came.
    order: VecDeque<Arc<[u8]>>,
    bytes: u64,
    fills: HashMap<Box<[u8]>, Arc<Fill>>,
    passed: HashMap<Box<[u8]>, u64>,
}

#[derive(Debug)]
struct Entry {
    variants: Vec<Arc<Object>>,
    used: bool,
}

/// What there is for a request.
#[derive(Debug)]
pub enum Found {
    /// It is answered with this.
    Fresh(Hit),
    /// It is answered with this, and the origin is asked.
    Meanwhile(Hit),
    /// This may be right: the origin is asked.
    Stale(Arc<Object>),
    /// Nothing.
    Nothing,
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub struct Hit {
    /// It.
    pub object: Arc<Object>,
    /// Its age in seconds.
    pub age: u64,
    /// How long it is fresh yet; negative if it is not.
    pub ttl: i64,
}

impl Hit {
    /// Of something that is kept, at the second `now`.
    pub fn new(object: Arc<Object>, now: u64) -> Hit {
        let age = object.freshness.age(now);
        let ttl = i64::try_from(object.freshness.lifetime).unwrap_or(i64::MAX).saturating_sub_unsigned(age);
        Hit { object, age, ttl }
    }

    /// What `Cache-Status` says of it (RFC 9211).
    pub fn note(&self) -> String {
        format!("{}; hit; ttl={}", super::PSEUDONYM, self.ttl)
    }
}

/// How a request goes on for which there is nothing to use at once.
#[derive(Debug)]
pub enum Begun {
    /// It asks the origin, for all that follow.
    Lead(Lead),
    /// Another one has asked already.
    Follow(Arc<Fill>),
    /// It asks for itself.
    Pass,
}

/// Who asks the origin for a resource that others may want. Dropping it ends that.
#[derive(Debug)]
pub struct Lead {
    cache: Arc<Cache>,
    /// What comes.
    pub fill: Arc<Fill>,
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.cache.forget_fill(&self.fill);
        self.fill.fail(Status::BadGateway);
    }
}

/// Writes what a resource is known by.
pub fn write_key(secured: bool, host: &[u8], target: &[u8], key: &mut Vec<u8>) {
    key.push(if secured { b's' } else { b'p' });
    key.extend(host.iter().map(u8::to_ascii_lowercase));
    key.push(0);
    key.extend_from_slice(target);
}

impl Cache {
    /// An empty one.
    pub fn new(limits: Limits) -> Cache {
        Cache { limits, table: Mutex::default(), counters: Counters::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its bounds.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What has happened so far, and what is kept now.
    pub fn snapshot(&self) -> Snapshot {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let all = &self.counters;
        let (resources, bytes) = self.size();
        Snapshot {
            counts: [
                ("hits", "Requests answered with what was kept", of(&all.hits)),
                ("stale", "Of them, with what was stale", of(&all.stale)),
                ("forwarded", "Requests to origins", of(&all.forwarded)),
                ("collapsed", "Requests answered with what another had asked for", of(&all.collapsed)),
                ("validated", "Answers of origins that what was kept is right", of(&all.validated)),
                ("stored", "Responses taken in", of(&all.stored)),
                ("evicted", "Addresses given up for others", of(&all.evicted)),
                ("invalidated", "Addresses forgotten for a change or a PURGE", of(&all.invalidated)),
            ],
            resources: resources as u64,
            bytes,
        }
    }

    /// Resources and bytes that are kept.
    pub fn size(&self) -> (usize, u64) {
        let table = self.lock();
        (table.entries.len(), table.bytes)
    }

    /// What there is at `key` for a request that has the fields `asked`, at the second `now`.
    pub fn look_up<'a>(
        &self,
        key: &[u8],
        asked: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
        asks: &Asks,
        now: u64,
    ) -> Found {
        let mut table = self.lock();
        let Some(entry) = table.entries.get_mut(key) else { return Found::Nothing };
        let Some(object) = entry.variants.iter().find(|object| object.selecting.selects(asked.clone()))
        else {
            return Found::Nothing;
        };
        entry.used = true;
        match object.freshness.usable(&asks.control, now) {
            Use::Now => Found::Fresh(Hit::new(Arc::clone(object), now)),
            Use::Meanwhile => Found::Meanwhile(Hit::new(Arc::clone(object), now)),
            Use::Validated => Found::Stale(Arc::clone(object)),
        }
    }

    /// Begins to get what is at `key`, or finds that another has begun.
    pub fn begin(self: &Arc<Self>, key: &[u8], now: u64) -> Begun {
        let mut table = self.lock();
        if table.passed.get(key).is_some_and(|&until| now < until) {
            return Begun::Pass;
        }
        if let Some(fill) = table.fills.get(key) {
            return Begun::Follow(Arc::clone(fill));
        }
        let fill = Arc::new(Fill::new(key.into()));
        table.fills.insert(key.into(), Arc::clone(&fill));
        Begun::Lead(Lead { cache: Arc::clone(self), fill })
    }

    /// Nobody follows that one any more.
    pub fn forget_fill(&self, fill: &Arc<Fill>) {
        let mut table = self.lock();
        if table.fills.get(&fill.key).is_some_and(|other| Arc::ptr_eq(other, fill)) {
            table.fills.remove(&fill.key);
        }
    }

    /// What is at `key` is not for others: for some time nobody waits for it.
    pub fn pass(&self, key: &[u8], now: u64) {
        let mut table = self.lock();
        if table.passed.len() >= MAX_PASSED {
            table.passed.retain(|_, until| now < *until);
            if table.passed.len() >= MAX_PASSED {
                table.passed.clear();
            }
        }
        table.passed.insert(key.into(), now + PASSED_SECONDS);
    }

    /// Keeps a response to a request for `key`, unless it is too big for it.
    pub fn put(&self, key: &[u8], object: Arc<Object>) {
        let evicted = self.lock().put(key, object, self.limits.bytes);
        self.counters.evicted.fetch_add(evicted, Ordering::Relaxed);
    }

    /// Puts `fresh` in the place of `old` if that is still there: nothing that was forgotten or replaced meanwhile comes
    /// back. Whether it was.
    pub fn replace(&self, key: &[u8], old: &Arc<Object>, fresh: Arc<Object>) -> bool {
        let mut table = self.lock();
        let is_old = |other: &Arc<Object>| Arc::ptr_eq(other, old);
        if !table.entries.get(key).is_some_and(|entry| entry.variants.iter().any(is_old)) {
            return false;
        }
        let evicted = table.put(key, fresh, self.limits.bytes);
        self.counters.evicted.fetch_add(evicted, Ordering::Relaxed);
        true
    }

    /// Forgets what is at `key`, and does not keep what is on its way there. Whether there was something.
    pub fn invalidate(&self, key: &[u8]) -> bool {
        let mut table = self.lock();
        // Who asks from now on does not follow it.
        if let Some(fill) = table.fills.remove(key) {
            fill.cancel();
        }
        let found = table.remove(key);
        if found {
            self.counters.invalidated.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// The same of a resource however it is asked for, and of those that the response `head` to a request that changed it
    /// names (RFC 9111 section 4.4).
    pub fn invalidate_all(&self, key: &[u8], head: Option<&ForeignHead>) -> bool {
        let Some((_, rest)) = key.split_first() else { return false };
        let mut found = false;
        let mut forget = |rest: &[u8]| {
            for way in [&b"p"[..], b"s"] {
                found |= self.invalidate(&[way, rest].concat());
            }
        };
        forget(rest);
        let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
        let host = &rest[..end];
        for (name, value) in head.iter().flat_map(|head| super::freshness::fields_of(&head.fields)) {
            let names =
                name.eq_ignore_ascii_case(b"location") || name.eq_ignore_ascii_case(b"content-location");
            let own = match value.windows(3).position(|part| part == b"://") {
                Some(at) => {
                    let after = &value[at + 3..];
                    let slash = after.iter().position(|&b| b == b'/').unwrap_or(after.len());
                    after[..slash].eq_ignore_ascii_case(host).then(|| &after[slash..])
                }
                None => value.starts_with(b"/").then_some(value),
            };
            if let Some(own) = own.filter(|_| names) {
                forget(&[host, b"\0", own].concat());
            }
        }
        found
    }
}

impl Table {
    /// Keeps a response if it is no more than `most` bytes, and gives others up until all are; how many.
    fn put(&mut self, key: &[u8], object: Arc<Object>, most: u64) -> u64 {
        let bytes = object.bytes() + key.len() as u64;
        self.passed.remove(key);
        self.take_variant(key, &object);
        if bytes > most {
            return 0;
        }
        let key: Arc<[u8]> = key.into();
        if !self.entries.contains_key(&key) {
            self.entries.insert(Arc::clone(&key), Entry { variants: Vec::new(), used: true });
            self.queue(&key);
        }
        let Some(entry) = self.entries.get_mut(&key) else { return 0 };
        entry.variants.insert(0, object);
        let surplus = if entry.variants.len() > MAX_VARIANTS { entry.variants.pop() } else { None };
        self.bytes += bytes;
        if let Some(surplus) = surplus {
            self.bytes -= surplus.bytes() + key.len() as u64;
        }
        let mut evicted = 0;
        while self.bytes > most && self.evict() {
            evicted += 1;
        }
        evicted
    }

    /// Takes out what a new response takes the place of.
    fn take_variant(&mut self, key: &[u8], object: &Object) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Some(at) = entry.variants.iter().position(|other| other.selecting == object.selecting) else {
            return;
        };
        let old = entry.variants.remove(at);
        self.bytes -= old.bytes() + key.len() as u64;
        if entry.variants.is_empty() {
            self.entries.remove(key);
        }
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        // Its place in the order is found to be nobody's in its turn.
        self.bytes -= entry.variants.iter().map(|object| object.bytes() + key.len() as u64).sum::<u64>();
        true
    }

    /// Gives a new resource its place, and takes away those that are nobody's before they become many.
    fn queue(&mut self, key: &Arc<[u8]>) {
        self.order.push_back(Arc::clone(key));
        if self.order.len() > 2 * self.entries.len() + 64 {
            let Table { order, entries, .. } = self;
            let mut seen = HashSet::new();
            order.retain(|key| entries.contains_key(key) && seen.insert(Arc::clone(key)));
        }
    }

    /// Makes room by one resource. Whether there was one.
    fn evict(&mut self) -> bool {
        while let Some(key) = self.order.pop_front() {
            match self.entries.get_mut(&key) {
                None => {}
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.order.push_back(key);
                }
                Some(_) => return self.remove(&key),
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
