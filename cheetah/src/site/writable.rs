//! A site that changes while it is served: files are put and deleted by one writer, and seen by all readers
//! once they are on the disk.
//!
//! ```text
//!   SiteWriter::begin ── changes that have come: in memory ── one commit on its way to the disk, with the next
//!        │                                                   all that came meanwhile ──▶ log
//!        └── once they are there, at once for all of them ──▶ WritableSite ◀── find, by every loop
//! ```
//!
//! Who has a document keeps what it had. The one lock is taken for a look-up, and for giving changed paths
//! their new documents, which are ready then.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use fsstack::cache::BlockReader;
use fsstack::log::policy::Policies;
use fsstack::log::{ChangeError, Generation, Log, LogError, Progress, Syncing};
use fsstack::{OpenOptions, ReadError};

use super::changed::{self, ChangedSite};
use super::entry::etag_of;
use super::{change, pack};
use crate::http::coding::Coding;
use crate::store::{ChangeMade, ChangeWriter, Found, Listed, NotMade, Outcome, Store, WantedChange, Wish};

/// What every loop looks files up in.
#[derive(Debug)]
pub struct WritableSite {
    site: RwLock<ChangedSite>,
}

impl Store for WritableSite {
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        self.site.read().unwrap_or_else(PoisonError::into_inner).look_up(path, reader)
    }

    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        self.site.read().unwrap_or_else(PoisonError::into_inner).list(path)
    }
}

impl WritableSite {
    fn change(&self, change: impl FnOnce(&mut ChangedSite)) {
        change(&mut self.site.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The one who changes a site.
pub struct SiteWriter {
    /// `None` while it is opened anew.
    log: Option<Log>,
    site: Arc<WritableSite>,
    path: PathBuf,
    options: OpenOptions,
    policies: Policies,
    /// [`Log::dropped_segments`] when all documents were last taken from the newest generation; `None` if
    /// some may be of an older one.
    dropped: Option<u64>,
    /// What is on its way to the disk, in the order in which it was made.
    begun: VecDeque<Syncing<Begun>>,
    /// What is over and was not asked for yet.
    over: Vec<Vec<Outcome>>,
}

/// Changes that are made in memory, and what they come to if they get to the disk.
#[derive(Debug)]
struct Begun {
    changes: Vec<WantedChange>,
    outcomes: Vec<Outcome>,
}

impl fmt::Debug for SiteWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SiteWriter").field("path", &self.path).field("log", &self.log).finish_non_exhaustive()
    }
}

impl SiteWriter {
    /// Opens the image at `path` for changes: a packed one is made one that changes, and where none is an
    /// empty one is made. Nobody else can write it then.
    ///
    /// # Errors
    /// If it cannot be read or is not sound, cannot be written, or another process writes it.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<SiteWriter, LogError> {
        SiteWriter::open_with(path, options, Policies::default())
    }

    /// As [`SiteWriter::open`], written as the application says.
    ///
    /// # Errors
    /// As [`SiteWriter::open`].
    pub fn open_with(path: &Path, options: &OpenOptions, policies: Policies) -> Result<SiteWriter, LogError> {
        let mut log = open(path, options, &policies)?;
        change::make_missing_heads(&mut log)?;
        log.sync()?;
        let site = ChangedSite::of(&log.snapshot())?;
        let site = Arc::new(WritableSite { site: RwLock::new(site) });
        let dropped = Some(log.dropped_segments());
        Ok(SiteWriter {
            log: Some(log),
            site,
            path: path.into(),
            options: options.clone(),
            policies,
            dropped,
            begun: VecDeque::new(),
            over: Vec::new(),
        })
    }

    /// What it changes.
    pub fn site(&self) -> Arc<WritableSite> {
        Arc::clone(&self.site)
    }

    fn try_commit(&mut self, changes: &[WantedChange]) -> Result<Vec<Outcome>, LogError> {
        let log = self.log()?;
        let done: Result<Vec<_>, _> = changes.iter().map(|change| make(log, change)).collect();
        let done = done.and_then(|outcomes| log.sync().map(|_| outcomes));
        let outcomes = match done {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.forget(&error);
                return Err(error);
            }
        };
        self.show([(changes, &outcomes[..])])?;
        Ok(outcomes)
    }

    /// The log, opened anew after a failure that left open what is on the disk.
    fn log(&mut self) -> Result<&mut Log, LogError> {
        let log = match self.log.take() {
            Some(log) => log,
            None => self.open_anew()?,
        };
        Ok(self.log.insert(log))
    }

    /// Takes back what is in memory only, after this.
    fn forget(&mut self, error: &LogError) {
        match (&mut self.log, error) {
            (Some(log), error) if !matches!(error, LogError::Lost) => log.revert(),
            _ => self.log = None,
        }
    }

    /// Shows what is durable now, of these changes if no more has to be shown.
    fn show<'a>(
        &mut self,
        done: impl IntoIterator<Item = (&'a [WantedChange], &'a [Outcome])>,
    ) -> Result<(), LogError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let snapshot = log.snapshot();
        let dropped = log.dropped_segments();
        // What cannot be read now is shown with all else the next time.
        if self.dropped.take() == Some(dropped) {
            for (changes, outcomes) in done {
                show(&self.site, &snapshot, changes, outcomes)?;
            }
        } else {
            // Documents of segments that are no more would keep their space.
            let whole = ChangedSite::of(&snapshot)?;
            self.site.change(|site| *site = whole);
            // What is not given back now is at the next commit.
            let _ = log.reclaim();
        }
        self.dropped = Some(dropped);
        Ok(())
    }

    /// Makes changes in memory, and begins to make them durable.
    fn try_begin(&mut self, changes: Vec<WantedChange>) -> Result<(), (Vec<WantedChange>, LogError)> {
        let log = match self.log() {
            Ok(log) => log,
            Err(error) => return Err((changes, error)),
        };
        match changes.iter().map(|change| make(log, change)).collect() {
            Ok(outcomes) => {
                let syncing = log.begin_sync(Begun { changes, outcomes });
                self.begun.push_back(syncing);
                Ok(())
            }
            Err(error) => Err((changes, error)),
        }
    }

    /// Looks at what is on its way; with `waits` until nothing is.
    fn look(&mut self, waits: bool) {
        let (mut durable, mut failed) = (Vec::new(), Vec::new());
        while let Some(syncing) = self.begun.pop_front() {
            let Some(log) = &mut self.log else {
                // Let go of since: nobody knows what of it is on the disk.
                let over = self.all_failed(syncing.value().changes.len(), &LogError::Lost);
                self.over.push(over);
                continue;
            };
            let looked = match waits {
                true => log.wait_for(syncing).map(|(generation, begun)| Progress::Durable(generation, begun)),
                false => log.progress(syncing),
            };
            match looked {
                Ok(Progress::Going(syncing)) => {
                    self.begun.push_front(syncing);
                    break;
                }
                Ok(Progress::Durable(_, begun)) => durable.push(begun),
                // All behind it failed, too.
                Err(not) => failed.push(not),
            }
        }
        let shown = self.show(durable.iter().map(|begun| (&begun.changes[..], &begun.outcomes[..])));
        for begun in durable {
            self.over.push(match &shown {
                Ok(()) => begun.outcomes,
                Err(error) => self.all_failed(begun.changes.len(), error),
            });
        }
        if let Some(first) = failed.first() {
            self.forget(&first.error);
        }
        for not in failed {
            let over = self.again(&not.value.changes, &not.error);
            self.over.push(over);
        }
    }

    /// Makes changes again that failed with others, and waits for the disk: one that has no room must not
    /// cost the others theirs.
    fn again(&mut self, changes: &[WantedChange], error: &LogError) -> Vec<Outcome> {
        match error.is_full() || matches!(error, LogError::Reverted) {
            true => self.commit(changes),
            false => self.all_failed(changes.len(), error),
        }
    }

    fn all_failed(&self, count: usize, error: &LogError) -> Vec<Outcome> {
        tracing::error!("changes of {} are not made: {error}", self.path.display());
        let why = if error.is_full() { NotMade::Full } else { NotMade::Failed };
        vec![Err(why); count]
    }

    /// Opens the log again, and shows what it holds: it may be less than was thought, or more.
    fn open_anew(&mut self) -> Result<Log, LogError> {
        let log = open(&self.path, &self.options, &self.policies)?;
        let whole = ChangedSite::of(&log.snapshot())?;
        self.dropped = Some(log.dropped_segments());
        self.site.change(|site| *site = whole);
        Ok(log)
    }
}

impl ChangeWriter for SiteWriter {
    fn commit(&mut self, changes: &[WantedChange]) -> Vec<Outcome> {
        match self.try_commit(changes) {
            Ok(outcomes) => outcomes,
            // One that has no room must not cost the others theirs.
            Err(error) if error.is_full() && changes.len() > 1 => {
                changes.iter().flat_map(|change| self.commit(std::slice::from_ref(change))).collect()
            }
            Err(error) => self.all_failed(changes.len(), &error),
        }
    }

    fn begin(&mut self, changes: Vec<WantedChange>) -> Option<Vec<Outcome>> {
        let (changes, error) = self.try_begin(changes).err()?;
        // What is in memory of them goes, with all that is not on its way yet; that is made again.
        self.forget(&error);
        self.look(true);
        Some(self.again(&changes, &error))
    }

    fn finished(&mut self) -> Vec<Vec<Outcome>> {
        self.look(false);
        std::mem::take(&mut self.over)
    }

    fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.log.as_ref()?.bell()
    }
}

fn open(path: &Path, options: &OpenOptions, policies: &Policies) -> Result<Log, LogError> {
    let mut log = if path.try_exists()? {
        match Log::open(path, options) {
            Err(LogError::NotALog) => Log::convert(path, options),
            other => other,
        }
    } else {
        Log::create(path, options)
    }?;
    log.set_policies(policies.clone());
    Ok(log)
}

/// Makes one change in memory. The outer error is one of the log, after which nothing is known of it.
fn make(log: &mut Log, change: &WantedChange) -> Result<Result<ChangeMade, NotMade>, LogError> {
    let WantedChange { path, wish, conditions } = change;
    let latest = log.latest();
    let current = latest.find(path);
    let is_new = current.is_none();
    if let Some(conditions) = conditions {
        let document = match current.map(changed::document).transpose() {
            Ok(document) => document.flatten(),
            Err(error) => return Ok(Err(unreadable(&error))),
        };
        if !conditions.allow_change(document.as_ref().map(|document| document.facts().validators)) {
            return Ok(Err(NotMade::Precondition));
        }
    }
    let now = pack::mtime(SystemTime::now());
    let made = match wish {
        Wish::Put(contents) => {
            log.make_parents(path, now).and_then(|()| change::put_contents(log, path, now, contents.clone()))
        }
        Wish::Delete => log.remove(path),
    };
    match made {
        Ok(_) => {
            // Of this change: when it is durable, another may be, too, and the path show that one.
            let etag = match wish {
                Wish::Put(_) => etag_at(log, path)?,
                Wish::Delete => Vec::new(),
            };
            Ok(Ok(ChangeMade { is_new, etag }))
        }
        Err(LogError::Change(error)) => Ok(Err(match error {
            ChangeError::NotFound => NotMade::Nothing,
            ChangeError::Path(_) | ChangeError::Impossible | ChangeError::BadTarget => NotMade::Name,
            ChangeError::TooLarge | ChangeError::TooManyNames => NotMade::Full,
            ChangeError::NoParent
            | ChangeError::NotDirectory
            | ChangeError::IsDirectory
            | ChangeError::NotEmpty
            | ChangeError::NoContents
            | ChangeError::Exists => NotMade::Conflict,
        })),
        Err(error) => Err(error),
    }
}

/// The tag of the file that was put at a path.
fn etag_at(log: &Log, path: &[u8]) -> Result<Vec<u8>, LogError> {
    let latest = log.latest();
    let Some(entry) = latest.find(path) else { return Ok(Vec::new()) };
    Ok(etag_of(entry.app()?, entry.size()).unwrap_or_default().to_vec())
}

fn unreadable(error: &ReadError) -> NotMade {
    tracing::error!("a file that is to be changed cannot be read: {error}");
    NotMade::Failed
}

/// Gives the paths of changes that were made the documents that are there now.
fn show(
    site: &WritableSite,
    snapshot: &Generation,
    changes: &[WantedChange],
    outcomes: &[Outcome],
) -> Result<(), ReadError> {
    let mut shown = Vec::new();
    for (change, _) in changes.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok()) {
        // With a file go its versions in codings.
        let suffixes = Coding::ALL.into_iter().map(Coding::suffix);
        for suffix in std::iter::once("").chain(suffixes) {
            let path = [&change.path, suffix.as_bytes()].concat();
            let found = snapshot.find(&path);
            shown.push((found.map(changed::document).transpose()?, path));
        }
    }
    site.change(|site| shown.into_iter().for_each(|(found, path)| site.set(&path, found)));
    Ok(())
}

#[cfg(test)]
mod tests;
