//! A log against a plain map: whatever is done, in whatever order, with commits, reverts and openings
//! between.

mod begun;
mod by_example;
mod linked;

use begun::{Begun, Gate, Gated};
use fsstack::OpenOptions;
use fsstack::image::build::Mtime;
use fsstack::log::{ChangeError, Contents, Generation, Log, LogError, Posix, Special};
use proptest::prelude::*;
use runtime::buffer::{Shared, Slice};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, usize, u8),
    Stream(Vec<u8>, usize, u8),
    Write(Vec<u8>, u64, usize, u8),
    Append(Vec<u8>, usize, u8),
    Truncate(Vec<u8>, u64),
    Mkdir(Vec<u8>),
    Remove(Vec<u8>),
    RemoveAll(Vec<u8>),
    Rename(Vec<u8>, Vec<u8>),
    Link(Vec<u8>, Vec<u8>),
    Touch(Vec<u8>, u8),
    Symlink(Vec<u8>, Vec<u8>, u8),
    /// A mode, and perhaps a time of its last change; or nothing.
    Posix(Vec<u8>, Option<(u16, bool)>),
    Sync,
    /// Begins a sync, which goes on until it is waited for.
    Begin,
    Await,
    Revert,
    Compact,
    Reopen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Thing {
    /// Names of one file have one number.
    File {
        number: usize,
        bytes: Vec<u8>,
        mtime: i64,
        app: Vec<u8>,
        posix: Option<Posix>,
        /// A symbolic link: the bytes are its target.
        is_link: bool,
    },
    Folder(Option<Posix>),
}

impl Thing {
    fn posix(&mut self) -> &mut Option<Posix> {
        match self {
            Thing::File { posix, .. } | Thing::Folder(posix) => posix,
        }
    }

    /// Its contents were changed just now.
    fn changes(&mut self) {
        if let Some(posix) = self.posix() {
            posix.ctime = None;
        }
    }
}

type Model = BTreeMap<Vec<u8>, Thing>;

fn parent(path: &[u8]) -> Option<Vec<u8>> {
    path.iter().rposition(|&byte| byte == b'/').map(|slash| path[..slash].to_vec())
}

fn is_below(path: &[u8], above: &[u8]) -> bool {
    path.len() > above.len() && path.starts_with(above) && path[above.len()] == b'/'
}

fn has_children(model: &Model, path: &[u8]) -> bool {
    model.keys().any(|other| is_below(other, path))
}

fn fits(model: &Model, path: &[u8]) -> bool {
    parent(path).is_none_or(|parent| matches!(model.get(&parent), Some(Thing::Folder(_))))
}

fn bytes(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8).wrapping_add(salt)).collect()
}

fn new_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn number(model: &Model, path: &[u8]) -> Option<usize> {
    match model.get(path) {
        Some(Thing::File { number, .. }) => Some(*number),
        _ => None,
    }
}

/// What was done to a file by one name shows by all.
fn show_by_all_names(model: &mut Model, path: &[u8]) {
    let changed = model[path].clone();
    let number = number(model, path).unwrap();
    let same = |thing: &&mut Thing| matches!(thing, Thing::File { number: other, .. } if *other == number);
    model.values_mut().filter(same).for_each(|thing| *thing = changed.clone());
}

/// Each file's number is the place of its first name.
fn numbered(mut model: Model) -> Model {
    let mut places = BTreeMap::new();
    for (place, thing) in model.values_mut().enumerate() {
        if let Thing::File { number, .. } = thing {
            *number = *places.entry(*number).or_insert(place);
        }
    }
    model
}

fn time(seconds: i64) -> Mtime {
    Mtime { seconds, nanoseconds: 5 }
}

/// Does it to the model, or says no.
fn model(model: &mut Model, op: &Op) -> bool {
    match op {
        Op::Put(path, len, salt) | Op::Stream(path, len, salt) => {
            if !fits(model, path) || matches!(model.get(path), Some(Thing::Folder(_))) {
                return false;
            }
            model.insert(
                path.clone(),
                Thing::File {
                    number: new_number(),
                    bytes: bytes(*len, *salt),
                    mtime: i64::from(*salt),
                    app: vec![*salt; 3],
                    posix: None,
                    is_link: false,
                },
            );
        }
        Op::Write(path, offset, len, salt) => {
            let Some(Thing::File { bytes: old, mtime, app, is_link: false, .. }) = model.get_mut(path) else {
                return false;
            };
            let at = *offset as usize;
            if *len > 0 {
                old.resize(old.len().max(at + len), 0);
            }
            old.get_mut(at..at + len)
                .into_iter()
                .for_each(|place| place.copy_from_slice(&bytes(*len, *salt)));
            (*mtime, *app) = (i64::from(*salt), Vec::new());
            model.get_mut(path).unwrap().changes();
            show_by_all_names(model, path);
        }
        Op::Append(path, len, salt) => {
            let Some(Thing::File { bytes: old, mtime, app, is_link: false, .. }) = model.get_mut(path) else {
                return false;
            };
            old.extend(bytes(*len, *salt));
            (*mtime, *app) = (i64::from(*salt), Vec::new());
            model.get_mut(path).unwrap().changes();
            show_by_all_names(model, path);
        }
        Op::Truncate(path, size) => {
            let Some(Thing::File { bytes, mtime, app, is_link: false, .. }) = model.get_mut(path) else {
                return false;
            };
            bytes.resize(*size as usize, 0);
            (*mtime, *app) = (9, Vec::new());
            model.get_mut(path).unwrap().changes();
            show_by_all_names(model, path);
        }
        Op::Link(existing, path) => {
            if model.contains_key(path) || !fits(model, path) || number(model, existing).is_none() {
                return false;
            }
            model.insert(path.clone(), model[existing].clone());
        }
        Op::Mkdir(path) => {
            if model.contains_key(path) || !fits(model, path) {
                return false;
            }
            model.insert(path.clone(), Thing::Folder(None));
        }
        Op::Remove(path) => return !has_children(model, path) && model.remove(path).is_some(),
        Op::RemoveAll(path) => {
            let before = model.len();
            model.retain(|other, _| other != path && !is_below(other, path));
            return model.len() < before;
        }
        Op::Rename(from, to) => {
            let Some(thing) = model.get(from) else { return false };
            if from == to || number(model, from).is_some_and(|it| number(model, to) == Some(it)) {
                return true;
            }
            let free = match (thing, model.get(to)) {
                (_, None) => true,
                (Thing::Folder(_), Some(Thing::Folder(_))) => !has_children(model, to),
                (Thing::File { .. }, Some(Thing::File { .. })) => true,
                _ => false,
            };
            if !free || is_below(to, from) || !fits(model, to) {
                return false;
            }
            model.remove(to);
            let moved: Vec<Vec<u8>> =
                model.keys().filter(|path| *path == from || is_below(path, from)).cloned().collect();
            for path in moved {
                let thing = model.remove(&path).unwrap();
                model.insert([to, &path[from.len()..]].concat(), thing);
            }
        }
        Op::Touch(path, salt) => {
            let Some(thing) = model.get_mut(path) else { return false };
            thing.changes();
            if let Thing::File { mtime, app, is_link, .. } = thing {
                *mtime = i64::from(*salt);
                *app = if *is_link { Vec::new() } else { vec![*salt; 7] };
                show_by_all_names(model, path);
            }
        }
        Op::Symlink(path, target, salt) => {
            if model.contains_key(path) || !fits(model, path) {
                return false;
            }
            let (number, bytes, app) = (new_number(), target.clone(), Vec::new());
            let mtime = i64::from(*salt);
            model.insert(path.clone(), Thing::File { number, bytes, mtime, app, posix: None, is_link: true });
        }
        Op::Posix(path, wanted) => {
            let Some(thing) = model.get_mut(path) else { return false };
            *thing.posix() = wanted.map(posix);
            if number(model, path).is_some() {
                show_by_all_names(model, path);
            }
        }
        Op::Sync | Op::Begin | Op::Await | Op::Revert | Op::Compact | Op::Reopen => {}
    }
    true
}

fn posix((mode, has_ctime): (u16, bool)) -> Posix {
    let ctime = has_ctime.then_some(time(77));
    Posix { mode, uid: 7, gid: mode.into(), ctime, atime: (mode % 3 == 0).then_some(time(3)) }
}

fn slice(len: usize, salt: u8) -> Slice {
    Slice::from(Shared::from(bytes(len, salt)))
}

/// Does it to the log, or gives the refusal.
fn apply(log: &mut Log, op: &Op) -> Result<(), LogError> {
    match op {
        Op::Put(path, len, salt) => {
            log.put(path, time((*salt).into()), Contents::from(bytes(*len, *salt)), &[*salt; 3]).map(drop)
        }
        Op::Stream(path, len, salt) => {
            let bytes = bytes(*len, *salt);
            log.put_from(path, time((*salt).into()), &mut &bytes[..], |_| vec![*salt; 3]).map(drop)
        }
        Op::Write(path, offset, len, salt) => {
            log.write(path, *offset, slice(*len, *salt), time((*salt).into())).map(drop)
        }
        Op::Append(path, len, salt) => log.append(path, slice(*len, *salt), time((*salt).into())).map(drop),
        Op::Truncate(path, size) => log.truncate(path, *size, time(9)).map(drop),
        Op::Mkdir(path) => log.mkdir(path, time(1)).map(drop),
        Op::Remove(path) => log.remove(path).map(drop),
        Op::RemoveAll(path) => log.remove_all(path).map(drop),
        Op::Rename(from, to) => log.rename(from, to).map(drop),
        Op::Link(existing, path) => log.link(existing, path).map(drop),
        Op::Touch(path, salt) => log.set_attributes(path, time((*salt).into()), &[*salt; 7]).map(drop),
        Op::Symlink(path, target, salt) => {
            log.make_special(path, time((*salt).into()), Special::symlink(target).unwrap()).map(drop)
        }
        Op::Posix(path, wanted) => log.set_posix(path, wanted.map(posix)).map(drop),
        Op::Sync => log.sync().map(drop),
        Op::Revert => {
            log.revert();
            Ok(())
        }
        Op::Compact => log.compact(&[]).map(drop),
        Op::Begin | Op::Await | Op::Reopen => Ok(()),
    }
}

fn dump(generation: &Generation) -> Model {
    let mut model = Model::new();
    for entry in generation.entries().filter(|entry| !entry.path().is_empty()) {
        let posix = entry.posix().copied();
        let thing = if entry.is_directory() {
            Thing::Folder(posix)
        } else {
            let target = entry.special().map(|special| match special {
                Special::Symlink(target) => target.to_vec(),
                other => panic!("{other:?}"),
            });
            let is_link = target.is_some();
            assert_eq!(entry.is_file(), !is_link);
            let mut bytes = target.unwrap_or_default();
            assert!(!is_link || bytes.len() as u64 == entry.size() && entry.fetch(0, 1).is_err());
            while (bytes.len() as u64) < entry.size() {
                let part = entry.fetch(bytes.len() as u64, 10_000).unwrap();
                assert!(!part.is_empty());
                bytes.extend_from_slice(part.bytes());
            }
            let names: Vec<_> = entry.names().collect();
            assert_eq!(names.len().max(1), entry.name_count());
            let first = names.into_iter().min().unwrap_or(entry.path());
            // The entries stand by their paths; the root first, which is not in the model.
            let number = generation.entries().position(|other| other.path() == first).unwrap() - 1;
            let app = entry.app().unwrap().to_vec();
            Thing::File { number, bytes, mtime: entry.mtime().seconds, app, posix, is_link }
        };
        model.insert(entry.path().to_vec(), thing);
    }
    // The listing of each folder is the same again.
    let listed: usize = generation.entries().map(|entry| entry.children().count()).sum();
    assert_eq!(listed, model.len());
    for entry in generation.entries() {
        let names: Vec<_> = entry.children().map(|child| child.path().to_vec()).collect();
        let mut expected: Vec<_> = (model.keys().filter(|path| {
            let above = parent(path).unwrap_or_default();
            above == entry.path()
        }))
        .cloned()
        .collect();
        expected.sort_by(|a, b| a[entry.path().len()..].cmp(&b[entry.path().len()..]));
        assert_eq!(names, expected);
    }
    model
}

fn options() -> OpenOptions {
    OpenOptions::default()
}

/// Few names, some of them traps: `-` and `.` sort before the slash.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec!["a", "b", "a-b", "a.", "a0", "c"]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/").into_bytes())
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![4 => 0usize..40, 1 => 0usize..9000];
    let at = prop_oneof![3 => 0u64..60, 1 => 0u64..20_000];
    prop_oneof![
        6 => (path(), len.clone(), any::<u8>()).prop_map(|(path, len, salt)| Op::Put(path, len, salt)),
        1 => (path(), len.clone(), any::<u8>()).prop_map(|(path, len, salt)| Op::Stream(path, len, salt)),
        6 => (path(), at.clone(), len.clone(), any::<u8>()).prop_map(|(p, at, len, salt)| Op::Write(p, at, len, salt)),
        2 => (path(), len, any::<u8>()).prop_map(|(path, len, salt)| Op::Append(path, len, salt)),
        3 => (path(), at).prop_map(|(path, size)| Op::Truncate(path, size)),
        6 => path().prop_map(Op::Mkdir),
        2 => path().prop_map(Op::Remove),
        1 => path().prop_map(Op::RemoveAll),
        5 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        5 => (path(), path()).prop_map(|(existing, path)| Op::Link(existing, path)),
        2 => (path(), any::<u8>()).prop_map(|(path, salt)| Op::Touch(path, salt)),
        2 => (path(), path(), any::<u8>()).prop_map(|(path, to, salt)| Op::Symlink(path, to, salt)),
        4 => (path(), prop::option::weighted(0.8, (0u16..0o10000, any::<bool>()))).prop_map(|(p, posix)| Op::Posix(p, posix)),
        4 => Just(Op::Sync),
        6 => Just(Op::Begin),
        3 => Just(Op::Await),
        1 => Just(Op::Revert),
        1 => Just(Op::Compact),
        2 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_map_of_files(ops in prop::collection::vec(op(), 1..80)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.img");
        drop(Log::create(&path, &options()).unwrap());
        let gate = Gate::new();
        let mut log = Gated::open(&path, &gate);
        let (mut now, mut durable) = (Model::new(), Model::new());
        let mut begun = Begun::default();
        let mut snapshots: Vec<(Generation, Model)> = Vec::new();
        for op in &ops {
            let before = now.clone();
            let expected = model(&mut now, op);
            if matches!(op, Op::Sync | Op::Compact | Op::Reopen) {
                // They wait for what is on its way.
                gate.open();
            }
            let done = apply(&mut log, op);
            prop_assert_eq!(done.is_ok(), expected, "{:?}: {:?}", op, done);
            if !expected {
                prop_assert!(matches!(done, Err(LogError::Change(_))));
                now = before;
            }
            match op {
                Op::Begin => begun.begin(&mut log, &now),
                Op::Await => {
                    gate.open_once();
                    if let Some(is_there) = begun.wait(&mut log, &now) {
                        durable = is_there;
                        snapshots.push((log.snapshot(), numbered(durable.clone())));
                    }
                }
                Op::Sync | Op::Compact => {
                    durable = now.clone();
                    let opened = Generation::open(&path, &options()).unwrap();
                    prop_assert_eq!(dump(&opened), numbered(durable.clone()), "after {:?}", ops);
                    snapshots.push((log.snapshot(), numbered(durable.clone())));
                    begun.all_are_durable(&mut log);
                }
                Op::Revert => now = begun.revert(&mut log).unwrap_or(&durable).clone(),
                Op::Reopen => {
                    drop(log);
                    durable = std::mem::take(&mut begun).base().unwrap_or(durable);
                    log = Gated::open(&path, &gate);
                    now = durable.clone();
                }
                _ => {}
            }
            gate.shut();
            prop_assert_eq!(dump(&log.latest()), numbered(now.clone()), "after {:?}", op);
        }
        gate.open();
        prop_assert_eq!(dump(&log.snapshot()), numbered(durable));
        drop(log);
        for (generation, model) in snapshots {
            prop_assert!(dump(&generation) == model, "generation {} changed", generation.number());
        }
        let checked = Generation::open(&path, &options()).unwrap().check(|_| {});
        prop_assert!(checked.problems.is_empty());
    }
}

fn put(log: &mut Log, path: &str, len: usize, salt: u8) {
    log.put(path.as_bytes(), time(1), Contents::from(bytes(len, salt)), b"head").unwrap();
}

fn read(generation: &Generation, path: &str) -> Vec<u8> {
    match &dump(generation)[path.as_bytes()] {
        Thing::File { bytes, .. } => bytes.clone(),
        Thing::Folder(_) => panic!("a folder"),
    }
}

fn log_at(path: &Path) -> Log {
    Log::create(path, &options()).unwrap()
}
