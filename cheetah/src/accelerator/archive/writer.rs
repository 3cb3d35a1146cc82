//! The thread that writes what is kept to the image.
//!
//! A commit has all that came since the last one: it waits half a second for more, but not with what is to be
//! taken away. What makes room is the oldest first; what was used since it was last looked at is passed over
//! once, as in memory.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fsstack::OpenOptions;
use fsstack::cache::FileCache;
use fsstack::image::build::Mtime;
use fsstack::log::{self, ChangeError, Contents, Entry, Generation, Log, LogError};
use runtime::buffer::Slice;

use super::super::cache::Cache;
use super::super::object::{Content, Object};
use super::{Archive, ArchiveOptions, Name, Order, RENEWED, file, folder, load};

/// How long a commit waits for more.
const WAIT: Duration = Duration::from_millis(500);

/// So much content is enough for one.
const BATCH_BYTES: u64 = 8 << 20;

/// Orders of one commit at most.
const MAX_BATCH: usize = 16 * 1024;

/// A file of the image that says what it is, and in its application area whose responses it has.
const MARK: &[u8] = b"accelerator";

/// The least that an image may get, in bytes.
pub const MIN_IMAGE_BYTES: u64 = 64 << 20;

/// Memory that the image takes of each resource, about: its place in the tree, and its record.
const MEMORY_BYTES: u64 = 2 << 10;

/// Why the image cannot be had.
#[derive(Debug)]
pub enum ArchiveError {
    /// It cannot be read or written, or another process writes it.
    Log(LogError),
    /// It is something else: that is not written over.
    Foreign(&'static str),
    /// The system has no more threads, or the file cannot be looked at.
    System(io::Error),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchiveError::Log(error) => error.fmt(f),
            ArchiveError::Foreign(what) => write!(f, "it is {what}, and not written over: name another file"),
            ArchiveError::System(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ArchiveError {}

impl<E: Into<LogError>> From<E> for ArchiveError {
    fn from(error: E) -> ArchiveError {
        ArchiveError::Log(error.into())
    }
}

/// The thread, for who ends it.
#[derive(Debug)]
pub struct Archivist {
    /// What is still to be written is of a cache that is there.
    cache: Arc<Cache>,
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

impl Archivist {
    /// Opens the image, or makes it, and starts the thread: from then on `cache` keeps there what it keeps.
    ///
    /// # Errors
    /// See [`ArchiveError`]. An image that is damaged is no error: it is put aside, as `NAME.damaged`.
    pub fn start(cache: &Arc<Cache>, options: &ArchiveOptions) -> Result<Archivist, ArchiveError> {
        let writer = ArchiveWriter::open(cache, options)?;
        let (orders, received) = mpsc::channel();
        cache.set_archive(Archive::new(writer.log.snapshot(), orders.clone()));
        let started = thread::Builder::new().name("archive".to_owned()).spawn(move || writer.run(&received));
        let thread = started.map_err(ArchiveError::System)?;
        Ok(Archivist { cache: Arc::clone(cache), orders, thread })
    }

    /// Waits until all that was kept is on the disk.
    ///
    /// # Errors
    /// If the thread panicked.
    pub fn finish(self) -> io::Result<()> {
        // It hears this, or has ended.
        let _ = self.orders.send(Order::Finish);
        let ended =
            self.thread.join().map_err(|_| io::Error::other("the thread that keeps responses panicked"));
        drop(self.cache);
        ended
    }
}

struct ArchiveWriter {
    log: Log,
    cache: Weak<Cache>,
    path: PathBuf,
    bytes: u64,
    /// Resources beyond that make room, too.
    max_resources: usize,
    room: Room,
    /// [`Log::dropped_segments`] when it was last looked at.
    dropped: u64,
}

/// What takes how much room, and what goes first.
#[derive(Debug, Default)]
struct Room {
    bytes: u64,
    /// With the number of its turn; one that has another now is not there any more.
    order: VecDeque<(Name, u64)>,
    turns: HashMap<Name, u64>,
    next: u64,
}

impl Room {
    /// Of all that is in `generation`, the oldest first.
    fn of(generation: &Generation) -> Room {
        let mut room = Room::default();
        let mut found: Vec<(i64, Name)> = Vec::new();
        for entry in generation.entries() {
            if entry.is_file() {
                room.bytes += cost(entry);
            } else if let Some(name) = name_of_folder(entry.path()) {
                found.push((entry.children().map(|file| file.mtime().seconds).max().unwrap_or(0), name));
            }
        }
        found.sort_unstable();
        found.into_iter().for_each(|(_, name)| room.queue(name));
        room
    }

    /// Gives a resource the last turn.
    fn queue(&mut self, name: Name) {
        self.next += 1;
        self.turns.insert(name, self.next);
        self.order.push_back((name, self.next));
        if self.order.len() > 2 * self.turns.len() + 64 {
            let turns = &self.turns;
            self.order.retain(|(name, turn)| turns.get(name) == Some(turn));
        }
    }
}

/// What a file takes of a segment, about.
fn cost(entry: Entry<'_>) -> u64 {
    let area = entry.app().map_or(0, |app| app.len() as u64);
    entry.size() + entry.size() / 128 + area + 512
}

fn name_of_folder(path: &[u8]) -> Option<Name> {
    let mut name = Name::default();
    if path.len() != 2 * name.len() {
        return None;
    }
    for (byte, digits) in name.iter_mut().zip(path.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(name)
}

impl ArchiveWriter {
    fn open(cache: &Arc<Cache>, options: &ArchiveOptions) -> Result<ArchiveWriter, ArchiveError> {
        // Half of the memory is for blocks that were read. Every page is compared with its checksum the first
        // time.
        let blocks = FileCache::new(cache.limits().bytes / 2);
        let open = OpenOptions { verify: true, cache: Some(Arc::new(blocks)), ..OpenOptions::default() };
        let mut log = open_log(&options.path, &open)?;
        let latest = log.latest();
        let origins = options.origins.as_bytes();
        let now = Mtime::default();
        match latest.find(MARK) {
            Some(mark) if mark.app().is_ok_and(|area| area == origins) => {}
            None if latest.len() > 1 => return Err(ArchiveError::Foreign("the image of a site")),
            mark => {
                if mark.is_some() {
                    tracing::info!("{} has other origins' responses: they go", options.path.display());
                }
                let all: Vec<Vec<u8>> = latest
                    .entries()
                    .filter_map(|entry| name_of_folder(entry.path()).map(|_| entry.path().to_vec()))
                    .collect();
                for path in all {
                    log.remove_all(&path)?;
                }
                log.put(MARK, now, Contents::new(), origins)?;
                log.sync_within(options.bytes)?;
            }
        }
        let room = Room::of(&log.snapshot());
        let resources = room.turns.len();
        tracing::info!("{} has the responses of {resources} addresses", options.path.display());
        Ok(ArchiveWriter {
            dropped: log.dropped_segments(),
            log,
            cache: Arc::downgrade(cache),
            path: options.path.clone(),
            bytes: options.bytes.max(MIN_IMAGE_BYTES),
            max_resources: usize::try_from(cache.limits().bytes / MEMORY_BYTES)
                .unwrap_or(usize::MAX)
                .max(1024),
            room,
        })
    }

    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let Ok(first) = orders.recv() else { return };
            let batch = gather(first, orders);
            let is_over = batch.iter().any(|order| matches!(order, Order::Finish));
            if let Err(error) = self.commit(batch) {
                return self.give_up(&error);
            }
            if is_over {
                return;
            }
        }
    }

    /// Writes what was ordered. What there is no room for is not kept; an error is one after which nothing
    /// more can be.
    fn commit(&mut self, batch: Vec<Order>) -> Result<(), LogError> {
        let Some(cache) = self.cache.upgrade() else { return Ok(()) };
        let evicted = match self.write(&batch, &cache) {
            Ok(evicted) => evicted,
            Err(LogError::Lost) => return Err(LogError::Lost),
            Err(error) => {
                tracing::warn!("responses are not kept in {}: {error}", self.path.display());
                self.log.revert();
                self.room = Room::of(&self.log.latest());
                // At least what is not right any more has to go.
                let without = batch.iter().filter_map(|order| match order {
                    Order::Put(name, object) | Order::Renew(name, object) => {
                        Some(Order::Forget(*name, object.selecting.clone()))
                    }
                    Order::Remove(name) => Some(Order::Remove(*name)),
                    Order::Forget(name, selecting) => Some(Order::Forget(*name, selecting.clone())),
                    Order::Finish => None,
                });
                self.write(&without.collect::<Vec<_>>(), &cache)?
            }
        };
        let snapshot = self.log.snapshot();
        cache.show(|archive| archive.show(snapshot.clone(), &batch));
        for order in &batch {
            if let Order::Put(name, object) = order
                && let Some(stored) = load(&snapshot, &file(name, &object.selecting))
            {
                cache.settle(object, stored);
            }
        }
        // Blocks of what was written are free now.
        drop(batch);
        evicted.iter().for_each(|name| cache.drop_stored(name));
        if self.log.dropped_segments() != self.dropped {
            self.dropped = self.log.dropped_segments();
            cache.move_stored(|object| match object.place() {
                Content::File(stored) if !snapshot.has_segment(&stored.image) => {
                    let path = file(&super::name_of(object.key()), &object.selecting);
                    Some(load(&snapshot, &path))
                }
                _ => None,
            });
            // What is not given back now is at the next commit.
            let _ = self.log.reclaim();
        }
        Ok(())
    }

    /// Makes changes and waits for the disk. Which resources had to make room.
    fn write(&mut self, batch: &[Order], cache: &Cache) -> Result<Vec<Name>, LogError> {
        let before = self.room.next;
        for order in batch {
            match order {
                Order::Put(name, object) => self.put(name, object)?,
                Order::Renew(name, object) => self.renew(name, object)?,
                Order::Remove(name) => self.remove_folder(name)?,
                Order::Forget(name, selecting) => self.forget(&file(name, selecting))?,
                Order::Finish => {}
            }
        }
        let evicted = self.make_room(cache, before)?;
        self.log.sync_within(self.bytes)?;
        Ok(evicted)
    }

    fn put(&mut self, name: &Name, object: &Object) -> Result<(), LogError> {
        let Content::Blocks(blocks) = object.place() else { return Ok(()) };
        let mut contents = Contents::new();
        blocks.iter().for_each(|block| contents.push(Slice::from(block.clone())));
        let path = file(name, &object.selecting);
        self.forget(&path)?;
        match self.log.mkdir(&folder(name), Mtime::default()) {
            Ok(_) | Err(LogError::Change(ChangeError::Exists)) => {}
            Err(error) => return Err(error),
        }
        self.put_file(&path, object, contents)?;
        self.room.queue(*name);
        Ok(())
    }

    fn renew(&mut self, name: &Name, object: &Object) -> Result<(), LogError> {
        let path = file(name, &object.selecting);
        // It may have made room meanwhile.
        if self.log.latest().find(&path).is_none() {
            return Ok(());
        }
        let path = [&path[..], RENEWED].concat();
        self.take_away(&path)?;
        self.put_file(&path, object, Contents::new())
    }

    fn put_file(&mut self, path: &[u8], object: &Object, contents: Contents) -> Result<(), LogError> {
        let seconds = i64::try_from(object.freshness.came).unwrap_or(i64::MAX);
        self.log.put(path, Mtime { seconds, nanoseconds: 0 }, contents, object.record().bytes())?;
        self.room.bytes += self.log.latest().find(path).map_or(0, cost);
        Ok(())
    }

    /// Takes a variant away.
    fn forget(&mut self, path: &[u8]) -> Result<(), LogError> {
        self.take_away(path)?;
        self.take_away(&[path, RENEWED].concat())
    }

    fn take_away(&mut self, path: &[u8]) -> Result<(), LogError> {
        let Some(bytes) = self.log.latest().find(path).map(cost) else { return Ok(()) };
        self.room.bytes = self.room.bytes.saturating_sub(bytes);
        self.log.remove(path).map(drop)
    }

    fn remove_folder(&mut self, name: &Name) -> Result<(), LogError> {
        let path = folder(name);
        let latest = self.log.latest();
        let Some(entry) = latest.find(&path) else { return Ok(()) };
        let bytes: u64 = entry.children().map(cost).sum();
        self.room.bytes = self.room.bytes.saturating_sub(bytes);
        self.room.turns.remove(name);
        self.log.remove_all(&path).map(drop)
    }

    /// Takes the oldest away until three quarters of the room are enough, so that what is left of segments
    /// can be copied together. What has its turn since `before` has just come, and goes after all that was
    /// there.
    fn make_room(&mut self, cache: &Cache, before: u64) -> Result<Vec<Name>, LogError> {
        let mut evicted = Vec::new();
        let most = self.bytes - self.bytes / 4;
        let mut passed = self.room.order.len();
        while self.room.bytes > most || self.room.turns.len() > self.max_resources {
            let Some((name, turn)) = self.room.order.pop_front() else { break };
            if self.room.turns.get(&name) != Some(&turn) {
                continue;
            }
            if passed > 0 && (turn > before || cache.was_used(&name)) {
                self.room.queue(name);
            } else {
                self.remove_folder(&name)?;
                evicted.push(name);
            }
            passed = passed.saturating_sub(1);
        }
        Ok(evicted)
    }

    /// The disk fails: what it has would be wrong after the next change.
    fn give_up(self, error: &LogError) {
        tracing::error!("{}: nothing is kept there any more: {error}", self.path.display());
        if let Some(cache) = self.cache.upgrade() {
            cache.close_archive();
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::error!("{}: take it away before the next start: {error}", self.path.display());
        }
    }
}

/// All that comes for a while, or until it is enough.
fn gather(first: Order, orders: &Receiver<Order>) -> Vec<Order> {
    let until = Instant::now() + WAIT;
    let mut bytes = first.bytes();
    let mut is_urgent = first.is_urgent();
    let mut batch = vec![first];
    while batch.len() < MAX_BATCH && bytes < BATCH_BYTES {
        let wait = if is_urgent { Duration::ZERO } else { until.saturating_duration_since(Instant::now()) };
        match orders.recv_timeout(wait) {
            Ok(order) => {
                bytes += order.bytes();
                is_urgent |= order.is_urgent();
                batch.push(order);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    batch
}

fn open_log(path: &Path, options: &OpenOptions) -> Result<Log, ArchiveError> {
    let is_log = match fs::File::open(path) {
        Ok(file) => {
            let mut first = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, 8), &mut first).map_err(ArchiveError::System)?;
            Some(log::is_log(&first))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(ArchiveError::System(error)),
    };
    match is_log {
        None => {}
        Some(false) => return Err(ArchiveError::Foreign("no image of responses")),
        Some(true) => match Log::open(path, options) {
            Err(LogError::Open(fsstack::OpenError::Bad(bad))) => {
                let mut aside = path.as_os_str().to_owned();
                aside.push(".damaged");
                let aside = PathBuf::from(aside);
                fs::rename(path, &aside).map_err(ArchiveError::System)?;
                tracing::error!("{}: {bad}; it is {} now", path.display(), aside.display());
            }
            other => return Ok(other?),
        },
    }
    let log = Log::create(path, options)?;
    // What is kept is for all who ask the server, but not for all on this machine.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(ArchiveError::System)?;
    Ok(log)
}

#[cfg(test)]
mod tests;
