//! Syncs that wait for nothing: each bears a value of its caller's, and says what became of it.

use super::super::error::LogError;
use super::{Log, Receipt};
use crate::device::Sealer;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

/// What became of a sync, once that is known: the generation that has the changes, or one behind it.
type Fate = Arc<OnceLock<Result<u64, Arc<LogError>>>>;

/// A sync that was begun; see [`Log::begin_sync`].
#[derive(Debug)]
#[must_use = "tells when changes are durable"]
pub struct Syncing<T> {
    value: T,
    upto: u64,
    fate: Fate,
}

/// How far a sync is.
#[derive(Debug)]
pub enum Progress<T> {
    /// On its way.
    Going(Syncing<T>),
    /// The changes are durable: in the generation of this number, or in one before.
    Durable(u64, T),
}

/// A sync that failed.
#[derive(Debug)]
pub struct NotSynced<T> {
    /// What the caller gave along.
    pub value: T,
    /// Why; told to all that were on their way.
    pub error: Arc<LogError>,
}

impl<T> Syncing<T> {
    /// The last change that it is about.
    pub fn up_to(&self) -> Receipt {
        Receipt(self.upto)
    }

    /// What the caller gave along.
    pub fn value(&self) -> &T {
        &self.value
    }

    fn settled(self) -> Result<Progress<T>, NotSynced<T>> {
        match self.fate.get() {
            Some(Ok(generation)) => Ok(Progress::Durable(*generation, self.value)),
            Some(Err(error)) => Err(NotSynced { error: Arc::clone(error), value: self.value }),
            None => Ok(Progress::Going(self)),
        }
    }
}

impl<T> fmt::Display for NotSynced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> core::error::Error for NotSynced<T> {}

/// Syncs whose fate is not known yet, by the last change that each is about, in its order.
#[derive(Debug, Default)]
pub(super) struct Wanted(Vec<(u64, Fate)>);

impl Wanted {
    fn add(&mut self, upto: u64) -> Fate {
        match self.0.last() {
            Some((last, fate)) if *last == upto => Arc::clone(fate),
            _ => {
                let fate = Fate::default();
                self.0.push((upto, Arc::clone(&fate)));
                fate
            }
        }
    }

    /// Changes up to this one are durable.
    pub(super) fn durable(&mut self, upto: u64, generation: u64) {
        let count = self.0.partition_point(|(wanted, _)| *wanted <= upto);
        for (_, fate) in self.0.drain(..count) {
            // Nobody else says it.
            let _ = fate.set(Ok(generation));
        }
    }

    /// No more is, for now.
    pub(super) fn fail(&mut self, error: LogError) {
        self.fail_behind(0, error);
    }

    /// Of later changes than this one no more is.
    pub(super) fn fail_behind(&mut self, upto: u64, error: LogError) {
        let error = Arc::new(error);
        let count = self.0.partition_point(|(wanted, _)| *wanted <= upto);
        for (_, fate) in self.0.drain(count..) {
            let _ = fate.set(Err(Arc::clone(&error)));
        }
    }
}

impl Log {
    /// Begins to make all changes so far durable, at once or not at all, and waits for nothing: `value` comes
    /// back with what became of them, by [`Log::progress`]. One commit is on its way at a time; what is
    /// changed meanwhile, and begun to be synced, goes together with the next.
    ///
    /// The changes' segment is handed to the system here, which keeps it in memory until then. Where a log
    /// has many small segments, files in them are read for that, as by [`Log::sync`].
    pub fn begin_sync<T>(&mut self, value: T) -> Syncing<T> {
        let (upto, fate) = (self.change, self.wanted.add(self.change));
        self.look();
        Syncing { value, upto, fate }
    }

    /// How far a sync is. Waits for nothing.
    ///
    /// # Errors
    /// If it failed, or the one before it did while it waited. The changes of all are in memory still, to be
    /// tried again or reverted, unless [`LogError::Lost`]; nothing is on its way then.
    pub fn progress<T>(&mut self, syncing: Syncing<T>) -> Result<Progress<T>, NotSynced<T>> {
        self.look();
        syncing.settled()
    }

    /// Waits for a sync. The number of the generation that has its changes, or of one behind it.
    ///
    /// # Errors
    /// As [`Log::progress`].
    pub fn wait_for<T>(&mut self, mut syncing: Syncing<T>) -> Result<(u64, T), NotSynced<T>> {
        loop {
            match self.progress(syncing)? {
                Progress::Durable(generation, value) => return Ok((generation, value)),
                Progress::Going(going) => syncing = going,
            }
            self.settle();
        }
    }

    /// Becomes readable when a sync has come further, until somebody asks how far. `None` if none was begun,
    /// or the system has no descriptors.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.sealer.as_ref().map(Sealer::bell)
    }

    /// Waits for the commit that is on its way.
    pub(super) fn settle(&mut self) {
        match self.wait_for_flight() {
            Ok(()) => self.tell_durable(),
            Err(error) => self.wanted.fail(error),
        }
    }

    /// Says to whom it is news that changes are durable.
    pub(super) fn tell_durable(&mut self) {
        self.wanted.durable(self.durable, self.superblock.generation);
    }

    /// Ends the commit on its way, if it is over, and begins the one that is wanted.
    fn look(&mut self) {
        if let Some(sealer) = &self.sealer {
            sealer.hear();
        }
        if let Err(error) = self.look_at_flight() {
            return self.wanted.fail(error);
        }
        self.tell_durable();
        if self.flight.is_some() || self.wanted.0.is_empty() {
            return;
        }
        if self.is_lost {
            return self.wanted.fail(LogError::Lost);
        }
        if self.has_nothing_to_commit() {
            self.durable = self.change;
            return self.tell_durable();
        }
        let gathered = self.choose_to_gather();
        match self.begin_commit(gathered) {
            Ok(()) => self.tell_durable(),
            Err(error) => self.wanted.fail(error),
        }
    }
}
