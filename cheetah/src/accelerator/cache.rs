//! All that is kept, by what was asked for. Shared by the loops of a server.
//!
//! ```text
//!   key = s or p, host, NUL, target  ──▶  variants: the newest first, each for the requests that it selects
//! ```
//!
//! One lock for all: a look-up holds it for a look into a table. What has to go makes room in the order in
//! which it came, but what was used since is passed over once (the clock algorithm). Where there is an
//! [`Archive`], what is not in memory may be there; orders for it are given under the same lock, so that they
//! are in the order of what was done here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::archive::{Archive, Name, name_of};
use super::control::Asks;
use super::fill::Fill;
use super::freshness::Use;
use super::object::{Content, Object};
use crate::http::foreign::ForeignHead;
use crate::http::response::{self, Status};

/// Variants of one resource that are kept: more are other requests' doing than the site's.
const MAX_VARIANTS: usize = 16;

/// Resources that are remembered as not for others.
const MAX_PASSED: usize = 4096;

/// How long they are, in seconds.
const PASSED_SECONDS: u64 = 10;

/// So many resources are looked at before others may have a look.
const LOOKED_AT: usize = 256;

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
    /// Responses found in the image.
    pub restored: AtomicU64,
}

/// The same at one moment, and what is kept then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Name, what it counts, and the count.
    pub counts: [(&'static str, &'static str, u64); 9],
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
    archive: Option<Archive>,
    /// Keys of `entries`, by their names there.
    named: HashMap<Name, Arc<[u8]>>,
}

#[derive(Debug)]
struct Entry {
    variants: Vec<Arc<Object>>,
    used: bool,
    /// The same, for who makes room in the image.
    used_lately: bool,
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
        let mut note = Vec::new();
        self.write_note(&mut note);
        String::from_utf8(note).unwrap_or_default()
    }

    fn write_note(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(super::PSEUDONYM.as_bytes());
        out.extend_from_slice(b"; hit; ttl=");
        if self.ttl < 0 {
            out.push(b'-');
        }
        response::decimal(out, self.ttl.unsigned_abs());
    }

    /// Writes `Age`, and the same as a field.
    pub(crate) fn write_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Age: ");
        response::decimal(out, self.age);
        out.extend_from_slice(b"\r\nCache-Status: ");
        self.write_note(out);
        out.extend_from_slice(b"\r\n");
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
    begin_key(secured, host, key);
    key.extend_from_slice(target);
}

/// The same up to the target, which is to follow.
pub fn begin_key(secured: bool, host: &[u8], key: &mut Vec<u8>) {
    key.push(if secured { b's' } else { b'p' });
    key.extend(host.iter().map(u8::to_ascii_lowercase));
    key.push(0);
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
                ("restored", "Responses found on the disk", of(&all.restored)),
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
        self.restore(&mut table, key);
        let Some(entry) = table.entries.get_mut(key) else { return Found::Nothing };
        let Some(object) = entry.variants.iter().find(|object| object.selecting.selects(asked.clone()))
        else {
            return Found::Nothing;
        };
        (entry.used, entry.used_lately) = (true, true);
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

    /// Takes into memory what the image has of a resource.
    fn restore(&self, table: &mut Table, key: &[u8]) {
        let Some(archive) = &table.archive else { return };
        if table.entries.contains_key(key) {
            return;
        }
        let objects = archive.load(&name_of(key), key);
        // The newest last: each goes before what is there.
        let most = self.limits.memory(table);
        for object in objects.into_iter().rev() {
            self.counters.restored.fetch_add(1, Ordering::Relaxed);
            self.count_evicted(table.put(key, object, most).evicted);
        }
    }

    fn count_evicted(&self, evicted: u64) {
        self.counters.evicted.fetch_add(evicted, Ordering::Relaxed);
    }

    /// Keeps a response to a request for `key`, unless it is too big for it.
    pub fn put(&self, key: &[u8], object: Arc<Object>) {
        let mut table = self.lock();
        self.restore(&mut table, key);
        let most = self.limits.memory(&table);
        let done = table.put(key, Arc::clone(&object), most);
        self.count_evicted(done.evicted);
        if let Some(archive) = &mut table.archive {
            let name = name_of(key);
            archive.put(name, &object);
            if let Some(surplus) = done.surplus {
                archive.forget(name, &surplus.selecting);
            }
        }
    }

    /// Puts `fresh` in the place of `old` if that is still there: nothing that was forgotten or replaced
    /// meanwhile comes back. Whether it was.
    pub fn replace(&self, key: &[u8], old: &Arc<Object>, fresh: Arc<Object>) -> bool {
        let mut table = self.lock();
        let variants = table.entries.get(key).map(|entry| &entry.variants[..]).unwrap_or_default();
        let Some(there) = variants.iter().find(|other| other.is(old)) else { return false };
        // It may have gone to the image meanwhile.
        let moved = (!there.place().is(fresh.place())).then(|| fresh.with_content(there.place().clone()));
        let fresh = moved.flatten().map_or(fresh, Arc::new);
        let most = self.limits.memory(&table);
        self.count_evicted(table.put(key, Arc::clone(&fresh), most).evicted);
        if let Some(archive) = &mut table.archive {
            archive.renew(name_of(key), old, &fresh);
        }
        true
    }

    /// Forgets what is at `key`, and does not keep what is on its way there. Whether there was something.
    pub fn invalidate(&self, key: &[u8]) -> bool {
        let mut table = self.lock();
        // Who asks from now on does not follow it.
        if let Some(fill) = table.fills.remove(key) {
            fill.cancel();
        }
        let in_memory = table.remove(key);
        let in_image = table.archive.as_mut().is_some_and(|archive| archive.remove(name_of(key)));
        let found = in_memory || in_image;
        if found {
            self.counters.invalidated.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// The same of a resource however it is asked for, and of those that the response `head` to a request
    /// that changed it names (RFC 9111 section 4.4).
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

/// What is done with an image beside ([`super::archive`]).
impl Cache {
    /// What is kept is kept there, too, from now on.
    pub(super) fn set_archive(&self, archive: Archive) {
        self.lock().archive = Some(archive);
    }

    /// Nothing is any more; what lies there is not looked at.
    pub(super) fn close_archive(&self) {
        self.lock().archive = None;
    }

    /// Shows what is there now.
    pub(super) fn show(&self, show: impl FnOnce(&mut Archive)) {
        if let Some(archive) = &mut self.lock().archive {
            show(archive);
        }
    }

    /// What has the content of `object` has it in a file from now on, as `stored` does.
    pub(super) fn settle(&self, object: &Arc<Object>, stored: Object) {
        let mut table = self.lock();
        let Some(entry) = table.entries.get(object.key()) else { return };
        let Some(at) = entry.variants.iter().position(|other| other.place().is(object.place())) else {
            return;
        };
        // It may have been freshened meanwhile: then what is written of that comes later.
        let is_same = Arc::ptr_eq(&entry.variants[at], object);
        let moved = if is_same {
            Some(stored.known_as(object))
        } else {
            entry.variants[at].with_content(stored.place().clone())
        };
        if let Some(moved) = moved {
            table.set_variant(object.key(), at, Some(Arc::new(moved)));
        }
    }

    /// Whether a resource in the image was used since this was asked last.
    pub(super) fn was_used(&self, name: &Name) -> bool {
        let mut table = self.lock();
        let Table { named, entries, .. } = &mut *table;
        let entry = named.get(name).and_then(|key| entries.get_mut(key));
        entry.is_some_and(|entry| std::mem::take(&mut entry.used_lately))
    }

    /// Gives up what memory has of a resource that the image has no more.
    pub(super) fn drop_stored(&self, name: &Name) {
        let mut table = self.lock();
        let Some(key) = table.named.get(name).cloned() else { return };
        table.change_variants(&key, |object| matches!(object.place(), Content::File(_)).then_some(None));
    }

    /// Has each response take the place of what `change` gives for it: `Some(None)` has it given up.
    pub(super) fn move_stored(&self, change: impl Fn(&Object) -> Option<Option<Object>>) {
        let keys: Vec<Arc<[u8]>> = self.lock().entries.keys().cloned().collect();
        for keys in keys.chunks(LOOKED_AT) {
            let mut table = self.lock();
            keys.iter().for_each(|key| table.change_variants(key, &change));
        }
    }
}

impl Limits {
    /// Memory for what is kept: with an image, half of it is for blocks that are read.
    fn memory(&self, table: &Table) -> u64 {
        if table.archive.is_some() { self.bytes / 2 } else { self.bytes }
    }
}

/// What became of others when something was taken in.
#[derive(Debug, Default)]
struct TakenIn {
    /// Resources given up.
    evicted: u64,
    /// A variant given up.
    surplus: Option<Arc<Object>>,
}

impl Table {
    /// Keeps a response if it is no more than `most` bytes, and gives others up until all are.
    fn put(&mut self, key: &[u8], object: Arc<Object>, most: u64) -> TakenIn {
        let bytes = object.bytes() + key.len() as u64;
        self.passed.remove(key);
        self.take_variant(key, &object);
        if bytes > most {
            return TakenIn::default();
        }
        let key: Arc<[u8]> = key.into();
        if !self.entries.contains_key(&key) {
            let entry = Entry { variants: Vec::new(), used: true, used_lately: false };
            self.entries.insert(Arc::clone(&key), entry);
            if self.archive.is_some() {
                self.named.insert(name_of(&key), Arc::clone(&key));
            }
            self.queue(&key);
        }
        let Some(entry) = self.entries.get_mut(&key) else { return TakenIn::default() };
        entry.variants.insert(0, object);
        let surplus = if entry.variants.len() > MAX_VARIANTS { entry.variants.pop() } else { None };
        self.bytes += bytes;
        if let Some(surplus) = &surplus {
            self.bytes -= surplus.bytes() + key.len() as u64;
        }
        let mut evicted = 0;
        while self.bytes > most && self.evict() {
            evicted += 1;
        }
        TakenIn { evicted, surplus }
    }

    /// Takes out what a new response takes the place of.
    fn take_variant(&mut self, key: &[u8], object: &Object) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Some(at) = entry.variants.iter().position(|other| other.selecting == object.selecting) else {
            return;
        };
        self.set_variant(key, at, None);
    }

    /// Puts something in the place of a variant, or takes it away.
    fn set_variant(&mut self, key: &[u8], at: usize, object: Option<Arc<Object>>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Some(old) = entry.variants.get_mut(at) else { return };
        self.bytes -= old.bytes() + key.len() as u64;
        match object {
            Some(object) => {
                self.bytes += object.bytes() + key.len() as u64;
                *old = object;
            }
            None => drop(entry.variants.remove(at)),
        }
        if entry.variants.is_empty() {
            self.remove(key);
        }
    }

    /// As [`Cache::move_stored`], of one resource.
    fn change_variants(&mut self, key: &[u8], change: impl Fn(&Object) -> Option<Option<Object>>) {
        let count = self.entries.get(key).map_or(0, |entry| entry.variants.len());
        for at in (0..count).rev() {
            let object = self.entries.get(key).and_then(|entry| entry.variants.get(at));
            let changed = object.and_then(|object| {
                let changed = change(object)?;
                Some(changed.map(|other| Arc::new(other.known_as(object))))
            });
            if let Some(changed) = changed {
                self.set_variant(key, at, changed);
            }
        }
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        if self.archive.is_some() {
            self.named.remove(&name_of(key));
        }
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
