//! The one writer of a log.

mod changes;
mod flight;
mod room;
mod segments;
mod syncing;

use super::commit::{self, Changes, LinkTeller, SegmentBuilder};
use super::error::LogError;
use super::generation::{self, Generation};
use super::node::Node;
use super::pack::packed_bytes;
use super::policy::{Held, Policies};
use super::segment::{Segment, SegmentKind};
use super::superblock::{FIRST_SEGMENT, MAX_SEGMENTS, Place, Superblock};
use super::tree::Tree;
use super::usage::{Usage, usage};
use crate::device::{AtomicFile, Device, DeviceMut, FileDevice, Going, RangeLock, Sealer};
use crate::format::layout::BLOCK_BYTES;
use crate::format::sums::crc32c;
use crate::fs::{Image, OpenOptions};
use crate::image::build::Summary;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use flight::Flight;
use syncing::Wanted;
pub use syncing::{NotSynced, Progress, Syncing};

/// With more segments than this, small ones are copied together.
const MANY_SEGMENTS: usize = 96;

/// Bytes of files that are copied together at once.
const MAX_GATHERED_BYTES: u64 = 32 << 20;

/// Bytes of dead segments that are worth a journal that says everything again.
const MIN_DEAD_BYTES: u64 = 8 << 20;

/// How long another writer's lock is waited for: that of a process that was killed with a superblock on its
/// way to the disk goes when that is there, which may be after the process.
const MAX_PATIENCE: Duration = Duration::from_secs(1);

/// How far a change went: it is in memory, and durable once [`Log::durable`] is as high.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt(u64);

/// A log that is open for changes, by this process alone. See [`crate::log`].
pub struct Log {
    /// A commit that is on its way. Before the rest: let go of, it is waited for.
    flight: Option<(Going, Flight)>,
    file: Arc<File>,
    device: Box<dyn DeviceMut + Send>,
    /// Keeps other writers out, for as long as a superblock may be on its way.
    writer: Option<Arc<RangeLock>>,
    options: OpenOptions,
    policies: Policies,
    superblock: Superblock,
    /// As the superblock has it.
    committed: Generation,
    /// As changes have made it.
    tree: Tree,
    changes: Changes,
    /// Segments of contents that are written and that no superblock names yet.
    staged: Vec<(Place, Arc<Segment>)>,
    /// Segments that the superblock names no more, with who may still read them.
    retired: Vec<(Place, Weak<Image>)>,
    /// Bytes of contents that are in memory only.
    memory_bytes: u64,
    next_segment: u64,
    change: u64,
    durable: u64,
    written_bytes: u64,
    unchecked_bytes: u64,
    dropped_segments: u64,
    is_lost: bool,
    /// Who writes superblocks, once somebody asked for that without waiting.
    sealer: Option<Sealer>,
    wanted: Wanted,
    /// The next commit says everything: `changes` are not all since the last generation.
    tells_all: bool,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let segments = self.superblock.segments.len();
        f.debug_struct("Log")
            .field("generation", &self.superblock.generation)
            .field("segments", &segments)
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Makes an empty log at `path`, where nothing may be; appears whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written, or is there.
    pub fn create(path: &Path, options: &OpenOptions) -> Result<Log, LogError> {
        if path.try_exists()? {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
        }
        let mut file = AtomicFile::create(path)?;
        format(&mut file, Vec::new(), 0)?;
        file.publish()?;
        Log::open(path, options)
    }

    /// Turns the plain image at `path` into a log that begins with it: copies it once, into a file that takes
    /// its name.
    ///
    /// # Errors
    /// If it is no sound image, or a file cannot be written.
    pub fn convert(path: &Path, options: &OpenOptions) -> Result<Log, LogError> {
        let image = Image::open(path, options)?;
        let len = image.superblock().image_bytes;
        let mut source = File::open(path)?;
        let mut first = [0; BLOCK_BYTES as usize];
        FileDevice::new(source.try_clone()?).read_at(0, &mut first)?;
        let place = Place {
            number: 0,
            offset: FIRST_SEGMENT,
            len,
            kind: SegmentKind::Packed,
            crc: crc32c(0, &first),
        };
        let mut file = AtomicFile::create(path)?;
        {
            use std::io::{Seek, SeekFrom};
            let mut target: &File = file.file();
            target.seek(SeekFrom::Start(FIRST_SEGMENT))?;
            let copied = io::copy(&mut Read::by_ref(&mut source).take(len), &mut target)?;
            if copied != len {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            target.flush()?;
        }
        file.sync()?;
        format(&mut file, vec![place], 1)?;
        file.publish()?;
        Log::open(path, options)
    }

    /// Opens the log at `path`.
    ///
    /// # Errors
    /// If it cannot be read or is not sound, is a plain image, or another process writes it.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Log, LogError> {
        let file = Arc::new(File::options().read(true).write(true).open(path)?);
        let device = FileDevice::from(Arc::clone(&file));
        Log::on(file, Box::new(device), options)
    }

    /// A log that is read from `file`, and written by `device`, which must write there.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn on(
        file: Arc<File>,
        device: Box<dyn DeviceMut + Send>,
        options: &OpenOptions,
    ) -> Result<Log, LogError> {
        let mut first = [0; 8];
        let reader = FileDevice::from(Arc::clone(&file));
        if reader.len_bytes()? >= first.len() as u64 {
            reader.read_at(0, &mut first)?;
            if first == crate::format::superblock::MAGIC {
                return Err(LogError::NotALog);
            }
        }
        let writer = writers_lock(&file)?.map(Arc::new);
        let options = &generation::with_cache(options);
        let (superblock, committed) = Generation::of_log(&file, options)?;
        Ok(Log {
            options: options.clone(),
            policies: Policies::default(),
            file,
            device,
            writer,
            tree: committed.tree.clone(),
            next_segment: superblock.next_segment,
            superblock,
            committed,
            changes: Changes::default(),
            staged: Vec::new(),
            retired: Vec::new(),
            memory_bytes: 0,
            change: 0,
            durable: 0,
            written_bytes: 0,
            unchecked_bytes: 0,
            dropped_segments: 0,
            is_lost: false,
            flight: None,
            sealer: None,
            wanted: Wanted::default(),
            tells_all: false,
        })
    }

    /// Has the owner decide how it is written.
    pub fn set_policies(&mut self, policies: Policies) {
        self.policies = policies;
    }

    /// What is in memory only.
    pub fn held(&self) -> Held {
        Held {
            bytes: self.memory_bytes,
            changes: self.changes.changed.len() + self.changes.removed.len() + self.changes.posix.len(),
        }
    }

    /// The last generation that is durable: a snapshot, for as long as anybody holds it.
    pub fn snapshot(&self) -> Generation {
        self.committed.clone()
    }

    /// The tree with the changes that are in memory only, for who made them.
    pub fn latest(&self) -> Generation {
        Generation { tree: self.tree.clone(), ..self.committed.clone() }
    }

    /// Changes up to this one are durable.
    pub fn durable(&self) -> Receipt {
        Receipt(self.durable)
    }

    /// Bytes that commits have written since the log was opened.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// How many segments commits have left out since the log was opened. Their space is free once nobody has
    /// a generation, or a file, that they are in: who keeps one for long should look at this, and take it
    /// from a newer one.
    pub fn dropped_segments(&self) -> u64 {
        self.dropped_segments
    }

    /// Forgets all changes since the last commit, or since the one that is on its way was begun. Syncs of
    /// what is forgotten fail.
    pub fn revert(&mut self) {
        self.tree = self.base().clone();
        self.changes = Changes::default();
        self.memory_bytes = 0;
        self.retire_staged(|_| true);
        if let Some((_, flight)) = &self.flight {
            self.wanted.fail_behind(flight.change(), LogError::Reverted);
        } else {
            self.tells_all = false;
            self.durable = self.change;
            self.wanted.fail(LogError::Reverted);
        }
    }

    /// Makes all changes durable, at once or not at all, and gives the number of the generation that has
    /// them. Waits for the device.
    ///
    /// # Errors
    /// What the device says. The changes are in memory still, to be tried again or reverted, unless
    /// [`LogError::Lost`].
    pub fn sync(&mut self) -> Result<u64, LogError> {
        self.settle();
        if self.is_lost {
            return Err(LogError::Lost);
        }
        if self.has_nothing_to_commit() {
            self.durable = self.change;
        } else {
            let going = self.choose_to_gather();
            self.commit(going)?;
        }
        self.tell_durable();
        Ok(self.superblock.generation)
    }

    fn has_nothing_to_commit(&self) -> bool {
        self.changes.is_empty() && self.staged.is_empty() && !self.tells_all
    }

    /// Packs the tree into one segment (modes, owners and what is no file into another), and gives back the
    /// space of all others: in the order of `paths`, then in the one that it was packed in before, what is
    /// wanted together included; what is new comes last, by name. Waits for the device.
    ///
    /// # Errors
    /// What the device says, or whoever's contents cannot be read.
    pub fn compact(&mut self, paths: &[Vec<u8>]) -> Result<Summary, LogError> {
        self.settle();
        if self.is_lost {
            return Err(LogError::Lost);
        }
        // With no segment left for a commit, what was changed is packed with all else, and durable then.
        if self.superblock.segments.len() + self.staged.len() < MAX_SEGMENTS {
            self.sync()?;
        }
        let latest = self.latest();
        let room = packed_bytes(&latest.tree)?;
        let (segment, summary) =
            self.stream(SegmentKind::Packed, room, |builder| latest.pack(paths, builder))?;
        let beside = match self.write_beside_packed() {
            Ok(beside) => beside,
            Err(error) => {
                // A commit with it in the midst of others could not be read.
                let packed = self.staged.last().map(|(place, _)| place.number);
                self.retire_staged(|place| Some(place.number) == packed);
                return Err(error);
            }
        };
        drop(latest);
        let Some((place, _)) = self.staged.pop() else { return Err(LogError::Lost) };
        let (mut named, mut there) = (vec![place], vec![segment]);
        if let Some((place, segment)) = beside {
            named.push(place);
            there.push(segment);
        }
        let places = self.superblock.segments.clone();
        self.flip(named)?;
        self.next_generation(places, |superblock| {
            Generation::of_segments(superblock.generation, superblock, there)
        })?;
        self.tree = self.committed.tree.clone();
        self.changes = Changes::default();
        self.tells_all = false;
        (self.memory_bytes, self.durable) = (0, self.change);
        self.tell_durable();
        self.retire_staged(|_| true);
        self.reclaim()?;
        Ok(summary)
    }

    /// Writes what the tree has that no packed image has, if there is such.
    fn write_beside_packed(&mut self) -> Result<Option<(Place, Arc<Segment>)>, LogError> {
        let changes = Changes::beside_packed(&self.tree);
        if changes.is_empty() {
            return Ok(None);
        }
        let mut builder = SegmentBuilder::new(self.next_segment, self.superblock.generation + 1)?;
        let none = HashSet::new();
        let journal = commit::tell((&self.tree, &changes), &mut builder, &none, &none)?;
        let (bytes, _) = builder.finish(Some(journal))?;
        self.write_segment(&bytes, SegmentKind::Changes).map(Some)
    }

    /// Where the space is.
    ///
    /// # Errors
    /// If the file's length cannot be read.
    pub fn usage(&self) -> Result<Usage, LogError> {
        Ok(usage(&self.committed, &self.superblock, generation::len_of(&self.file)?))
    }

    /// Gives back the space of segments that nobody reads any more: holes, and the end of the file.
    ///
    /// # Errors
    /// What the device says.
    pub fn reclaim(&mut self) -> Result<(), LogError> {
        if self.is_lost {
            return Err(LogError::Lost);
        }
        let (mut kept, mut discarded) = (Vec::new(), Ok(()));
        for (place, image) in std::mem::take(&mut self.retired) {
            let held = image.strong_count() > 0
                || RangeLock::held_by_others(&self.file, place.offset, place.len).unwrap_or(None).is_some();
            if held {
                kept.push((place, image));
            } else {
                discarded = discarded.and(self.device.discard(place.offset, place.len));
            }
        }
        self.retired = kept;
        discarded?;
        let end = self.taken().iter().map(|&(_, end)| end).max().unwrap_or(0).max(FIRST_SEGMENT);
        if RangeLock::held_by_others(&self.file, end, i64::MAX as u64 - end).unwrap_or(None).is_none() {
            self.device.cut(end)?;
        }
        Ok(())
    }

    /// A node that is in the tree no more.
    fn forget(&mut self, node: Option<&Node>) {
        if let Some(Node::Runs(runs)) = node {
            self.memory_bytes = self.memory_bytes.saturating_sub(runs.memory_bytes());
        }
    }

    /// Writes contents that are in memory to a segment of their own, if the owner says so and the log can
    /// have one more.
    fn write_ahead(&mut self) -> Result<(), LogError> {
        let is_due = self.memory_bytes > 0 && self.policies.write_back.is_due(&self.held());
        if !is_due || !self.has_room_to_stage() {
            return Ok(());
        }
        let mut builder = SegmentBuilder::new(self.next_segment, self.superblock.generation + 1)?;
        let (kept, mut links) = (self.segment_numbers(), LinkTeller::default());
        for path in self.changes.changed.keys() {
            if let Some(node) = self.tree.node(path)
                && links.tells(&self.tree, &self.changes, path)
            {
                builder.take(path, node, &kept)?;
            }
        }
        if !builder.is_empty() {
            let (bytes, replacements) = builder.finish(None)?;
            let (place, segment) = self.write_segment(&bytes, SegmentKind::Contents)?;
            replacements.apply(&segment, &mut self.tree)?;
            self.staged.push((place, segment));
        }
        self.memory_bytes = 0;
        Ok(())
    }

    /// Whether the next commit may have one more segment of contents beside its own.
    fn has_room_to_stage(&self) -> bool {
        let begun = self.flight.as_ref().map_or(0, |(_, flight)| flight.places().count());
        self.superblock.segments.len() + begun + self.staged.len() + 2 <= MAX_SEGMENTS
    }

    /// What the next commit's changes are changes of.
    fn base(&self) -> &Tree {
        self.flight.as_ref().map_or(&self.committed.tree, |(_, flight)| flight.tree())
    }

    /// Leaves out the segments of contents that no superblock names yet and of which nothing is in the tree.
    fn drop_dead_staged(&mut self) {
        let live = commit::live_bytes(&self.tree);
        self.retire_staged(|place| !live.contains_key(&place.number));
    }

    /// Leaves out such of them; their space is free once nobody has them.
    fn retire_staged(&mut self, goes: impl Fn(&Place) -> bool) {
        let gone = self.staged.extract_if(.., |(place, _)| goes(place));
        self.retired.extend(gone.map(|(place, segment)| (place, Arc::downgrade(&segment.image))));
    }

    /// Which segments are to be copied together in the next commit, or `None` if its journal says only what
    /// is new.
    fn choose_to_gather(&mut self) -> Option<HashSet<u64>> {
        if self.staged.len() >= MANY_SEGMENTS {
            self.drop_dead_staged();
        }
        let many = self.superblock.segments.len() + self.staged.len() >= MANY_SEGMENTS;
        let total = self.superblock.total_bytes();
        if !many && self.unchecked_bytes < MIN_DEAD_BYTES.max(total / 4) {
            return None;
        }
        self.unchecked_bytes = 0;
        let live = commit::live_bytes(&self.tree);
        let live_of = |place: &Place| live.get(&place.number).copied().unwrap_or(0);
        let dead = self.superblock.segments.iter().filter(|place| live_of(place) == 0);
        let dead_bytes: u64 = dead.map(|place| place.len).sum();
        if !many {
            return (dead_bytes >= MIN_DEAD_BYTES.max(total / 4)).then(HashSet::new);
        }
        let mut small: Vec<(u64, u64)> = (self.superblock.segments.iter())
            .filter(|place| place.kind != SegmentKind::Packed)
            .map(|place| (live_of(place), place.number))
            .collect();
        small.sort_unstable();
        small.truncate(small.len() / 2);
        let mut room = MAX_GATHERED_BYTES;
        let going: HashSet<u64> = (small.into_iter())
            .take_while(|&(bytes, _)| {
                let fits = bytes <= room;
                room = room.saturating_sub(bytes);
                fits
            })
            .map(|(_, number)| number)
            .collect();
        // Nothing gained by copying one into another.
        (going.len() > 1).then_some(going)
    }
}

/// Keeps others from writing; `None` where the file system has no locks.
fn writers_lock(file: &Arc<File>) -> Result<Option<RangeLock>, LogError> {
    let began = Instant::now();
    loop {
        match RangeLock::exclusive(file, 0, FIRST_SEGMENT) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            Ok(None) if began.elapsed() < MAX_PATIENCE => thread::sleep(Duration::from_millis(2)),
            Ok(None) => return Err(LogError::Busy),
            Err(error) if error.raw_os_error() == Some(libc::ENOLCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes the superblock of a new log whose segments are there.
fn format(device: &mut dyn DeviceMut, segments: Vec<Place>, next_segment: u64) -> io::Result<()> {
    let end = segments.iter().map(Place::end).max().unwrap_or(FIRST_SEGMENT);
    if device.len_bytes()? < end {
        device.write_at(end - 1, &[0])?;
    }
    let superblock = Superblock { generation: 2, next_segment, segments };
    device.write_at(superblock.offset(), &superblock.encode())
}
