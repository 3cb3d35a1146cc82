//! Files with several names, of which some go while segments that hold them are copied together.

use super::begun::{Gate, Gated};
use super::*;
use std::sync::{Arc, OnceLock};

/// So many segments that a few commits more have them copied together: each of one file, bigger than what
/// the tests put, so that theirs are among the segments that go.
const FILLERS: usize = 90;
const COMMITS: usize = 6;

/// Such a log, and what is in it.
fn filled() -> (&'static [u8], Model) {
    static FILLED: OnceLock<(Vec<u8>, Model)> = OnceLock::new();
    let (bytes, model) = FILLED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.img");
        let mut log = log_at(&path);
        let mut now = Model::new();
        done(&mut log, &mut now, &Op::Mkdir(b"d".to_vec()));
        for i in 0..FILLERS {
            done(&mut log, &mut now, &Op::Put(format!("z{i}").into_bytes(), 6000, 1));
            log.sync().unwrap();
        }
        drop(log);
        (fs::read(&path).unwrap(), now)
    });
    (bytes, model.clone())
}

fn done(log: &mut Log, now: &mut Model, op: &Op) {
    let before = now.clone();
    let expected = model(now, op);
    let is_done = apply(log, op);
    assert_eq!(is_done.is_ok(), expected, "{op:?}: {is_done:?}");
    if !expected {
        *now = before;
    }
}

struct Lab {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    gate: Arc<Gate>,
    log: Log,
    now: Model,
}

impl Lab {
    fn new() -> Lab {
        let (bytes, now) = filled();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.img");
        fs::write(&path, bytes).unwrap();
        let gate = Gate::new();
        let log = Gated::open(&path, &gate);
        Lab { _folder: folder, path, gate, log, now }
    }

    fn all(&mut self, ops: &[Op]) {
        ops.iter().for_each(|op| done(&mut self.log, &mut self.now, op));
    }

    /// Does these in commits of their own, with which there are so many segments that the next is one that
    /// copies.
    fn commits(&mut self, ops: &[Vec<Op>]) {
        for i in 0..COMMITS {
            self.all(ops.get(i).map_or(&[], |ops| ops));
            self.all(&[Op::Put(format!("y{i}").into_bytes(), 3000, 1)]);
            self.log.sync().unwrap();
        }
    }

    /// Has segments copied together while these are done; with `again` all of them are to be durable, too.
    fn gathers_meanwhile(&mut self, ops: &[Op], again: bool) {
        self.gate.shut();
        let dropped = self.log.dropped_segments();
        self.all(&[Op::Put(b"begins".to_vec(), 10, 2)]);
        let first = self.log.begin_sync(());
        let on_its_way = self.now.clone();
        self.all(ops);
        let second = again.then(|| self.log.begin_sync(()));
        self.gate.open();
        self.log.wait_for(first).unwrap();
        assert!(self.log.dropped_segments() > dropped, "no segments were copied together");
        if let Some(second) = second {
            self.log.wait_for(second).unwrap();
        } else {
            assert_eq!(dump(&self.log.snapshot()), numbered(on_its_way));
        }
        assert_eq!(dump(&self.log.latest()), numbered(self.now.clone()));
    }

    /// What is durable can be opened, and is what is there.
    fn is_there(&self) {
        let opened = Generation::open(&self.path, &options()).unwrap();
        assert_eq!(dump(&opened), numbered(self.now.clone()));
        assert!(opened.check(|_| {}).problems.is_empty());
    }

    fn syncs(&mut self) {
        self.log.sync().unwrap();
        self.is_there();
    }

    /// All is said again.
    fn syncs_whole(&mut self) {
        let dropped = self.log.dropped_segments();
        self.log.sync_within(1).unwrap();
        assert!(self.log.dropped_segments() > dropped, "nothing was left out");
        self.is_there();
    }
}

fn name(name: &str) -> Vec<u8> {
    name.as_bytes().to_vec()
}

#[test]
fn a_file_whose_first_name_goes_while_it_is_copied_lies_where_it_was_copied_to() {
    let goes = [
        vec![Op::Remove(name("d/p"))],
        vec![Op::Put(name("d/p"), 30, 5)],
        vec![Op::Rename(name("x"), name("d/p"))],
        vec![Op::RemoveAll(name("d"))],
        vec![Op::Rename(name("d/p"), name("w"))],
        vec![Op::Rename(name("d"), name("e")), Op::Remove(name("e/p"))],
        vec![Op::Link(name("q"), name("c")), Op::Remove(name("d/p")), Op::Remove(name("q"))],
    ];
    let goes_on = [
        vec![Op::Rename(name("q"), name("r"))],
        vec![Op::Write(name("q"), 3, 4, 6)],
        vec![Op::Link(name("q"), name("r"))],
        vec![],
    ];
    // Where it lies whole, and where it lies in runs.
    for patch in [None, Some(Op::Write(name("q"), 100, 50, 4))] {
        for (meanwhile, later) in goes.iter().flat_map(|goes| goes_on.iter().map(move |on| (goes, on))) {
            let mut lab = Lab::new();
            let begins =
                [Op::Put(name("d/p"), 700, 3), Op::Link(name("d/p"), name("q")), Op::Put(name("x"), 20, 3)];
            lab.commits(&[begins.to_vec(), patch.iter().cloned().collect()]);
            lab.gathers_meanwhile(meanwhile, false);
            lab.all(later);
            lab.syncs();
            lab.all(&[Op::Put(name("more"), 10, 3)]);
            lab.syncs_whole();
            lab.all(&[Op::Put(name("more"), 20, 3)]);
            lab.syncs();
        }
    }
}

#[test]
fn contents_leave_memory_though_their_first_name_went_meanwhile() {
    let mut lab = Lab::new();
    lab.all(&[Op::Put(name("p"), 1 << 20, 3), Op::Link(name("p"), name("q"))]);
    let syncing = lab.log.begin_sync(());
    lab.all(&[Op::Remove(name("p"))]);
    lab.gate.open();
    lab.log.wait_for(syncing).unwrap();
    assert_eq!(lab.log.held().bytes, 0);
    let written = lab.log.written_bytes();
    lab.all(&[Op::Rename(name("q"), name("r"))]);
    lab.syncs();
    let written = lab.log.written_bytes() - written;
    assert!(written < 100_000, "{written}: the contents were written again");
}

#[test]
fn contents_are_in_memory_once_whatever_names_they_have() {
    let mut lab = Lab::new();
    lab.all(&[Op::Put(name("a"), 10, 3)]);
    let syncing = lab.log.begin_sync(());
    lab.all(&[Op::Put(name("p"), 5000, 3), Op::Link(name("p"), name("q")), Op::Link(name("q"), name("r"))]);
    assert_eq!(lab.log.held().bytes, 5000);
    lab.gate.open();
    lab.log.wait_for(syncing).unwrap();
    assert_eq!(lab.log.held().bytes, 5000, "as before what was begun ended");
    lab.all(&[Op::Remove(name("p")), Op::Remove(name("q"))]);
    assert_eq!(lab.log.held().bytes, 5000, "one name is left");
    lab.all(&[Op::Remove(name("r"))]);
    assert_eq!(lab.log.held().bytes, 0);
}

/// Few names in two folders, so that they meet.
fn few() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec!["a", "b", "c", "d/a", "d/b"]).prop_map(name)
}

fn ops(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (few(), 0usize..300, any::<u8>()).prop_map(|(path, len, salt)| Op::Put(path, len, salt)),
        3 => (few(), 0u64..300, 0usize..200, any::<u8>()).prop_map(|(p, at, len, salt)| Op::Write(p, at, len, salt)),
        1 => (few(), 0u64..300).prop_map(|(path, size)| Op::Truncate(path, size)),
        5 => (few(), few()).prop_map(|(existing, path)| Op::Link(existing, path)),
        4 => few().prop_map(Op::Remove),
        3 => (few(), few()).prop_map(|(from, to)| Op::Rename(from, to)),
        1 => Just(Op::RemoveAll(name("d"))),
        1 => Just(Op::Mkdir(name("d"))),
        1 => (few(), any::<u8>()).prop_map(|(path, salt)| Op::Touch(path, salt)),
    ];
    prop::collection::vec(op, count)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn names_come_and_go_while_segments_are_copied_together(
        before in prop::collection::vec(ops(0..6), COMMITS), meanwhile in ops(1..8), again: bool, after in ops(0..6),
    ) {
        let mut lab = Lab::new();
        lab.commits(&before);
        lab.gathers_meanwhile(&meanwhile, again);
        lab.all(&after);
        lab.syncs();
        lab.all(&[Op::Put(name("more"), 10, 3)]);
        lab.syncs_whole();
        lab.all(&[Op::Put(name("more"), 20, 3)]);
        lab.syncs();
    }
}
