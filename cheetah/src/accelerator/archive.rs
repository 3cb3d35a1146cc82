//! What is kept on the disk beside memory: an image that changes ([`fsstack::log`]), so that it is there
//! after a restart.
//!
//! ```text
//!   put, replace, invalidate ── Order ──▶ ArchiveWriter, a thread: one commit for all that came meanwhile
//!                                              │
//!   look_up, of what is not in memory ◀── Generation ──┘  and what is in memory gives its blocks up for the file
//! ```
//!
//! A resource is a folder, called by a hash of what it is asked for by; each of its variants is a file in it,
//! called by a hash of what selects it: the application area is its [`super::record`], the contents are the
//! content, with the sums that all files of an image have. What a 304 has made of a record lies beside it
//! (`.new`), in the area of an empty file. What of a resource is on its way to the disk is not looked for
//! there.

mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use fsstack::log::{Entry, Generation};
use runtime::buffer::Slice;

use super::object::{Content, Object, Selecting, StoredFile};

pub use writer::{ArchiveError, Archivist, MIN_IMAGE_BYTES};

/// Content that may wait to be written: what comes beyond that is kept in memory only.
const MAX_PENDING_BYTES: u64 = 32 << 20;

/// What is fresh for less than so many seconds, and cannot be asked about, is not worth being written.
const MIN_FRESH: u64 = 10;

/// Which image, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// Where it lies; it is made if nothing does.
    pub path: PathBuf,
    /// How long it gets, about.
    pub bytes: u64,
    /// Whose responses it has: with other ones it begins anew.
    pub origins: String,
}

/// A hash of what a resource is asked for by, that nobody can make another thing for.
pub(super) type Name = [u8; 16];

/// The name of what is asked for by `key`.
pub(super) fn name_of(key: &[u8]) -> Name {
    let mut name = Name::default();
    name.copy_from_slice(&blake3::hash(key).as_bytes()[..16]);
    name
}

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// This is kept, in place of what is selected by the same.
    Put(Name, Arc<Object>),
    /// This is known of it now.
    Renew(Name, Arc<Object>),
    /// A resource is gone.
    Remove(Name),
    /// What is selected by this is.
    Forget(Name, Selecting),
    /// Write what was ordered before, and end.
    Finish,
}

impl Order {
    fn name(&self) -> Option<&Name> {
        match self {
            Order::Put(name, _) | Order::Renew(name, _) | Order::Remove(name) | Order::Forget(name, _) => {
                Some(name)
            }
            Order::Finish => None,
        }
    }

    /// Bytes of content that wait with it.
    fn bytes(&self) -> u64 {
        match self {
            Order::Put(_, object) => object.bytes(),
            _ => 0,
        }
    }

    /// Whether something is sent that should not be any more until it is done and the server is started anew.
    fn is_urgent(&self) -> bool {
        matches!(self, Order::Remove(_) | Order::Forget(..) | Order::Finish)
    }
}

/// The image, for who looks things up in it.
#[derive(Debug)]
pub(super) struct Archive {
    generation: Generation,
    orders: Sender<Order>,
    /// How many orders are under way for a resource.
    pending: HashMap<Name, u32>,
    pending_bytes: u64,
}

impl Archive {
    fn new(generation: Generation, orders: Sender<Order>) -> Archive {
        Archive { generation, orders, pending: HashMap::new(), pending_bytes: 0 }
    }

    /// What there is of a resource, the newest first; nothing while something of it is on its way.
    pub(super) fn load(&self, name: &Name, key: &[u8]) -> Vec<Arc<Object>> {
        if self.pending.contains_key(name) {
            return Vec::new();
        }
        let folder = folder(name);
        let Some(folder) = self.generation.find(&folder) else { return Vec::new() };
        let files = folder.children().filter(|entry| !entry.name().ends_with(RENEWED));
        let objects = files.filter_map(|entry| load(&self.generation, entry.path()));
        let mut objects: Vec<_> = objects.filter(|object| object.key() == key).map(Arc::new).collect();
        objects.sort_by_key(|object| std::cmp::Reverse(object.freshness.came));
        objects
    }

    /// Whether there is, or may soon be, something of a resource.
    fn may_have(&self, name: &Name) -> bool {
        self.pending.contains_key(name) || self.generation.find(folder(name)).is_some()
    }

    fn order(&mut self, order: Order) {
        let Some(name) = order.name().copied() else { return };
        let bytes = order.bytes();
        if self.orders.send(order).is_ok() {
            *self.pending.entry(name).or_insert(0) += 1;
            self.pending_bytes += bytes;
        }
    }

    /// Has something that came written, if that is worth it.
    pub(super) fn put(&mut self, name: Name, object: &Arc<Object>) {
        let left = object.freshness.lifetime.saturating_sub(object.freshness.initial_age);
        let is_worth_it = left >= MIN_FRESH || object.has_validators();
        if is_worth_it && self.pending_bytes + object.bytes() <= MAX_PENDING_BYTES {
            self.order(Order::Put(name, Arc::clone(object)));
        } else {
            self.forget(name, &object.selecting);
        }
    }

    /// Has it written what is known now of something that is kept, in place of `old`.
    pub(super) fn renew(&mut self, name: Name, old: &Object, fresh: &Arc<Object>) {
        let now = fresh.freshness.came;
        let left = fresh.freshness.lifetime.saturating_sub(fresh.freshness.age(now));
        // What is to be asked about at once again need not be written each time, unless the old record would
        // say otherwise.
        let asks = super::control::Directives::default();
        let was_usable = old.freshness.usable(&asks, now) != super::freshness::Use::Validated;
        if left >= MIN_FRESH || was_usable {
            self.order(Order::Renew(name, Arc::clone(fresh)));
        }
    }

    /// Has all of a resource taken away. Whether there may have been something.
    pub(super) fn remove(&mut self, name: Name) -> bool {
        let may_have = self.may_have(&name);
        if may_have {
            self.order(Order::Remove(name));
        }
        may_have
    }

    /// Has one of its variants taken away.
    pub(super) fn forget(&mut self, name: Name, selecting: &Selecting) {
        if self.may_have(&name) {
            self.order(Order::Forget(name, selecting.clone()));
        }
    }

    /// These orders are done, and this is what there is now.
    fn show(&mut self, generation: Generation, done: &[Order]) {
        self.generation = generation;
        for order in done {
            let Some(name) = order.name() else { continue };
            self.pending_bytes = self.pending_bytes.saturating_sub(order.bytes());
            if let Some(count) = self.pending.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.pending.remove(name);
                }
            }
        }
    }
}

/// Behind the name of a variant: what a 304 has made of its record.
const RENEWED: &[u8] = b".new";

fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
}

/// Where a resource lies.
fn folder(name: &Name) -> Vec<u8> {
    hex(name)
}

/// Where one of its variants does.
fn file(name: &Name, selecting: &Selecting) -> Vec<u8> {
    let variant = blake3::hash(&selecting.encode());
    [&folder(name)[..], b"/", &hex(&variant.as_bytes()[..16])].concat()
}

/// What lies there; `None` if it is not sound.
fn load(generation: &Generation, path: &[u8]) -> Option<Object> {
    let entry = generation.find(path)?;
    let (image, inode) = entry.packed()?;
    let content = Content::File(StoredFile { image: Arc::clone(image), id: inode.id() });
    let renewed = generation.find([path, RENEWED].concat());
    Object::of(record(renewed.unwrap_or(entry))?, content)
}

/// The application area of a file, held by what has it in memory.
fn record(entry: Entry<'_>) -> Option<Slice> {
    let (_, inode) = entry.packed()?;
    let len = inode.app().ok()?.len();
    let piece = inode.app_piece(0..len).ok()?;
    let hold = piece.hold?;
    let at = hold.offset_of(piece.bytes)?;
    Slice::new(hold.clone(), at..at + len)
}
