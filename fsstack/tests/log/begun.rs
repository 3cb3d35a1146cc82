//! Syncs that wait for nothing, on a device that flushes when it is told to.

use super::*;
use fsstack::device::{Device, DeviceMut, FileDevice};
use fsstack::log::policy::{Held, Policies, WriteBack};
use fsstack::log::{NotSynced, Progress, Receipt, Syncing};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What flushes beside the log wait at.
pub(crate) struct Gate {
    /// How many may pass.
    room: Mutex<usize>,
    moved: Condvar,
    /// The next flush fails.
    fails: AtomicBool,
}

impl Gate {
    pub(crate) fn new() -> Arc<Gate> {
        Arc::new(Gate { room: Mutex::new(0), moved: Condvar::new(), fails: AtomicBool::new(false) })
    }

    pub(crate) fn open(&self) {
        self.let_pass(usize::MAX);
    }

    pub(crate) fn shut(&self) {
        self.let_pass(0);
    }

    /// Lets the two flushes of one commit pass.
    pub(crate) fn open_once(&self) {
        self.let_pass(2);
    }

    fn let_pass(&self, count: usize) {
        *self.room.lock().unwrap() = count;
        self.moved.notify_all();
    }

    fn pass(&self) -> io::Result<()> {
        // A test that fails lets go of its log with the gate shut.
        let patience = Duration::from_secs(60);
        let room = self.room.lock().unwrap();
        let (mut room, _) = self.moved.wait_timeout_while(room, patience, |room| *room == 0).unwrap();
        *room = room.saturating_sub(1);
        drop(room);
        match self.fails.swap(false, Ordering::Relaxed) {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => Ok(()),
        }
    }
}

/// A file that is flushed when the gate is open.
pub(crate) struct Gated {
    device: FileDevice,
    gate: Arc<Gate>,
    /// Flushes of the log itself do not wait.
    is_beside: bool,
}

impl Gated {
    pub(crate) fn open(path: &Path, gate: &Arc<Gate>) -> Log {
        let file = Arc::new(File::options().read(true).write(true).open(path).unwrap());
        let device = FileDevice::from(Arc::clone(&file));
        let device = Gated { device, gate: Arc::clone(gate), is_beside: false };
        Log::on(file, Box::new(device), &options()).unwrap()
    }
}

impl Device for Gated {
    fn len_bytes(&self) -> io::Result<u64> {
        self.device.len_bytes()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, buf)
    }
}

impl DeviceMut for Gated {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.device.write_at(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.is_beside { self.gate.pass() } else { Ok(()) }
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.device.discard(offset, len)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.device.cut(len)
    }

    fn again(&self) -> Option<Box<dyn DeviceMut + Send>> {
        let device = FileDevice::from(self.device.whole_file()?);
        Some(Box::new(Gated { device, gate: Arc::clone(&self.gate), is_beside: true }))
    }
}

/// Syncs of a log whose gate is shut but while they are waited for.
#[derive(Default)]
pub(crate) struct Begun {
    /// Each with its number.
    syncings: VecDeque<Syncing<usize>>,
    count: usize,
    /// Of the commit on its way: the last change, and what it makes durable.
    on_its_way: Option<(Receipt, Model)>,
}

impl Begun {
    pub(crate) fn begin(&mut self, log: &mut Log, now: &Model) {
        let syncing = log.begin_sync(self.count);
        self.count += 1;
        let syncing = match log.progress(syncing).unwrap() {
            Progress::Going(syncing) => syncing,
            Progress::Durable(..) => return assert!(self.on_its_way.is_none(), "nobody flushed"),
        };
        if self.on_its_way.is_none() {
            self.on_its_way = Some((syncing.up_to(), now.clone()));
        }
        self.syncings.push_back(syncing);
    }

    /// Waits for the first: what is durable then.
    pub(crate) fn wait(&mut self, log: &mut Log, now: &Model) -> Option<Model> {
        let first = self.syncings.pop_front()?;
        let number = *first.value();
        assert_eq!(log.wait_for(first).unwrap().1, number);
        let durable = self.on_its_way.take().map(|(_, model)| model);
        // Others of the same changes are there as well, and the rest is on its way now.
        for syncing in std::mem::take(&mut self.syncings) {
            match log.progress(syncing).unwrap() {
                Progress::Durable(..) => assert!(self.syncings.is_empty(), "in order"),
                Progress::Going(going) => self.syncings.push_back(going),
            }
        }
        if !self.syncings.is_empty() {
            self.on_its_way = Some((log.begin_sync(()).up_to(), now.clone()));
        }
        durable
    }

    /// What a commit on its way makes durable.
    pub(crate) fn base(self) -> Option<Model> {
        self.on_its_way.map(|(_, model)| model)
    }

    pub(crate) fn all_are_durable(&mut self, log: &mut Log) {
        for syncing in self.syncings.drain(..) {
            let number = *syncing.value();
            assert!(matches!(log.progress(syncing).unwrap(), Progress::Durable(_, value) if value == number));
        }
        self.on_its_way = None;
    }

    /// Those that were begun behind the commit on its way are over; what is left of the changes, if that is
    /// not what is durable.
    pub(crate) fn revert(&mut self, log: &mut Log) -> Option<&Model> {
        let upto = self.on_its_way.as_ref().map(|(upto, _)| *upto);
        for syncing in std::mem::take(&mut self.syncings) {
            if upto.is_some_and(|upto| syncing.up_to() <= upto) {
                self.syncings.push_back(syncing);
            } else {
                let (number, failed) = (*syncing.value(), log.progress(syncing).unwrap_err());
                assert!(matches!(*failed.error, LogError::Reverted) && failed.value == number);
            }
        }
        self.on_its_way.as_ref().map(|(_, model)| model)
    }
}

fn write(log: &mut Log, path: &str, offset: u64, len: usize, salt: u8) {
    log.write(path.as_bytes(), offset, slice(len, salt), time(2)).unwrap();
}

/// A log on a device that is flushed when the gate is open, which it is not.
fn gated() -> (tempfile::TempDir, Arc<Gate>, Log) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    drop(log_at(&path));
    let gate = Gate::new();
    let log = Gated::open(&path, &gate);
    (folder, gate, log)
}

fn reopened(folder: &tempfile::TempDir) -> Model {
    dump(&Generation::open(&folder.path().join("a.img"), &options()).unwrap())
}

#[test]
fn changes_go_on_while_a_commit_is_on_its_way_and_go_with_the_next() {
    let (folder, gate, mut log) = gated();
    put(&mut log, "a", 50_000, 1);
    // Would not come back if it waited.
    let first = log.begin_sync("first");
    assert!(log.durable() < first.up_to() && log.snapshot().find("a").is_none());
    let first = match log.progress(first).unwrap() {
        Progress::Going(first) => first,
        Progress::Durable(..) => panic!("nobody flushed"),
    };
    write(&mut log, "a", 10_000, 100, 2);
    let more: Vec<_> = (0..50)
        .map(|i| {
            put(&mut log, &format!("b{i}"), 10, i);
            log.begin_sync(i)
        })
        .collect();
    let before = reopened(&folder);
    assert!(before.is_empty(), "nothing is on the disk yet");
    gate.open();
    let (generation, value) = log.wait_for(first).unwrap();
    assert_eq!(value, "first");
    let snapshot = log.snapshot();
    assert_eq!((snapshot.number(), read(&snapshot, "a")), (generation, bytes(50_000, 1)));
    for (i, syncing) in more.into_iter().enumerate() {
        let (with, value) = log.wait_for(syncing).unwrap();
        assert_eq!((with, usize::from(value)), (generation + 1, i), "they share one commit");
    }
    assert_eq!(reopened(&folder), dump(&log.latest()));
}

#[test]
fn a_bell_rings_when_a_sync_has_come_further() {
    use rustix::event::{PollFd, PollFlags, poll};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    // By io_uring, where there is one.
    let mut log = log_at(&path);
    assert!(log.bell().is_none());
    for round in 0..20 {
        put(&mut log, "a", 5000, round);
        let mut syncing = log.begin_sync(round);
        loop {
            let bell = log.bell().unwrap();
            let mut wait = [PollFd::new(&bell, PollFlags::IN)];
            let deadline = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
            assert_eq!(poll(&mut wait, Some(&deadline)).unwrap(), 1, "it rings");
            match log.progress(syncing).unwrap() {
                Progress::Going(going) => syncing = going,
                Progress::Durable(_, value) => break assert_eq!(value, round),
            }
        }
        assert_eq!(read(&Generation::open(&path, &options()).unwrap(), "a"), bytes(5000, round));
    }
    // Let go of on its way, it is waited for.
    put(&mut log, "a", 5000, 77);
    let _ = log.begin_sync(());
    drop(log);
    assert_eq!(read(&Generation::open(&path, &options()).unwrap(), "a"), bytes(5000, 77));
}

#[test]
fn what_a_failed_sync_was_for_is_there_still_and_goes_with_the_next() {
    let (folder, gate, mut log) = gated();
    put(&mut log, "a", 30_000, 1);
    put(&mut log, "gone", 30_000, 1);
    log.sync().unwrap();
    write(&mut log, "a", 5, 5000, 2);
    log.remove(b"gone").unwrap();
    let first = log.begin_sync(1);
    write(&mut log, "a", 20_000, 5000, 3);
    put(&mut log, "b", 10, 3);
    log.truncate(b"a", 22_000, time(3)).unwrap();
    let second = log.begin_sync(2);
    gate.fails.store(true, Ordering::Relaxed);
    gate.open();
    let NotSynced { value, error } = log.wait_for(first).unwrap_err();
    assert!(
        value == 1 && matches!(&*error, LogError::Device(error) if error.raw_os_error() == Some(libc::EIO))
    );
    assert_eq!(log.wait_for(second).unwrap_err().value, 2, "it was to be on top of that");
    let wanted = dump(&log.latest());
    assert_ne!(reopened(&folder), wanted);
    log.sync().unwrap();
    assert_eq!((reopened(&folder), dump(&log.latest())), (wanted.clone(), wanted));
    drop(log);
    assert!(
        Generation::open(&folder.path().join("a.img"), &options()).unwrap().check(|_| {}).problems.is_empty()
    );
}

#[test]
fn what_was_written_ahead_is_not_believed_after_a_failed_flush() {
    #[derive(Debug)]
    struct AtOnce;
    impl WriteBack for AtOnce {
        fn is_due(&self, _held: &Held) -> bool {
            true
        }
    }
    let (folder, gate, mut log) = gated();
    let policies = || Policies { write_back: Arc::new(AtOnce), ..Policies::default() };
    log.set_policies(policies());
    put(&mut log, "a", 30_000, 1);
    assert_eq!(log.held().bytes, 0, "it is on the disk, as far as anybody knows");
    let syncing = log.begin_sync(());
    gate.fails.store(true, Ordering::Relaxed);
    gate.open();
    assert!(matches!(*log.wait_for(syncing).unwrap_err().error, LogError::Lost));
    assert!(matches!(log.sync(), Err(LogError::Lost)));
    drop(log);
    assert!(reopened(&folder).is_empty());
}

/// Contents in many segments are copied together while they are changed, renamed and removed.
#[test]
fn segments_are_copied_together_under_changes() {
    let (folder, gate, mut log) = gated();
    let mut gathered = 0;
    for round in 0..260_u32 {
        let (name, salt) = (format!("f{}", round % 40), round as u8);
        match round % 5 {
            0 => put(&mut log, &name, 9000, salt),
            _ if !log.latest().find(&name).is_some_and(|entry| entry.is_file()) => {
                put(&mut log, &name, 50, salt)
            }
            1 | 2 => write(&mut log, &name, u64::from(round) * 31 % 8000, 700, salt),
            3 => drop(log.rename(name.as_bytes(), format!("g{}", round % 7).as_bytes()).unwrap()),
            _ => drop(log.link(name.as_bytes(), format!("l{round}").as_bytes()).unwrap()),
        }
        gate.shut();
        let dropped = log.dropped_segments();
        let syncing = log.begin_sync(round);
        // On top of what is on its way: whole files, parts, names.
        let on_its_way = dump(&log.latest());
        for other in 0..40 {
            let name = format!("f{other}");
            if !log.latest().find(&name).is_some_and(|entry| entry.is_file()) {
                continue;
            }
            match (other + round) % 11 {
                0 => write(&mut log, &name, 3000, 40, salt),
                1 => drop(log.truncate(name.as_bytes(), 5000, time(1)).unwrap()),
                2 => drop(log.rename(name.as_bytes(), format!("m{other}").as_bytes()).unwrap()),
                3 => drop(log.remove(name.as_bytes()).unwrap()),
                4 => drop(log.set_attributes(name.as_bytes(), time(4), b"area").unwrap()),
                _ => {}
            }
        }
        let now = dump(&log.latest());
        gate.open();
        log.wait_for(syncing).unwrap();
        gathered += usize::from(log.dropped_segments() > dropped);
        assert!(dump(&log.snapshot()) == on_its_way && dump(&log.latest()) == now, "round {round}");
        if round % 9 == 0 {
            assert!(reopened(&folder) == on_its_way, "round {round}");
        }
        log.sync().unwrap();
        if round % 9 == 0 {
            assert!(reopened(&folder) == now, "round {round}");
        }
    }
    assert!(gathered > 1, "{gathered}: none was on its way that copied segments together");
    drop(log);
    assert!(
        Generation::open(&folder.path().join("a.img"), &options()).unwrap().check(|_| {}).problems.is_empty()
    );
}

/// What is written all the time is in memory no longer than until its commit is there.
#[test]
fn contents_leave_memory_though_the_file_changed_meanwhile() {
    let (folder, gate, mut log) = gated();
    put(&mut log, "a", 1 << 20, 1);
    let mut syncing = log.begin_sync(0);
    for round in 1..50 {
        write(&mut log, "a", u64::from(round) * 20_000, 4096, round);
        gate.open();
        log.wait_for(syncing).unwrap();
        gate.shut();
        assert!(log.held().bytes <= 4096, "{:?}", log.held());
        write(&mut log, "a", u64::from(round) * 20_000 + 5000, 4096, round);
        syncing = log.begin_sync(round);
    }
    gate.open();
    log.wait_for(syncing).unwrap();
    assert_eq!(reopened(&folder), dump(&log.latest()));
    assert!(log.written_bytes() < (1 << 20) + 50 * 30_000, "{}", log.written_bytes());
}
