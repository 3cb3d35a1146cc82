//! A writer that is killed at any system call: the image has the last commit, or the one that was under way.
#![allow(unsafe_code, reason = "ptrace")]

mod common;

use common::crash::{bytes, sound_state, state};
use common::script::{Op, apply, parse};
use fsstack::OpenOptions;
use fsstack::image::build::{BuildOptions, Builder, Mtime};
use fsstack::log::{Contents, Log, LogError, Progress, Syncing};
use rustix::event::{PollFd, PollFlags, poll};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

const WORKLOAD: &str = include_str!("workloads/killed.txt");

/// One test at a time: a writer's thread is waited for as any child of this process.
static ONE: Mutex<()> = Mutex::new(());

/// Where the writer finds its image.
const FOLDER: &str = "LOG_KILLED_FOLDER";

/// Whether it goes on while syncs are on their way.
const BEGUN: &str = "LOG_KILLED_BEGUN";

/// A packed image, which the writer makes one that changes.
fn packed() -> Vec<u8> {
    let mut builder = Builder::in_memory(&BuildOptions::default()).unwrap();
    for (path, len) in [("A/bar", 700), ("A/foo", 40_000), ("B/c", 0), ("foo", 5000)] {
        let contents = bytes(len, len as u8);
        builder.file(path.as_bytes(), Mtime::default(), &mut &contents[..], |_| b"head".to_vec()).unwrap();
    }
    builder.finish().unwrap().0.into_bytes()
}

fn open(image: &Path) -> Log {
    match Log::open(image, &OpenOptions::default()) {
        Err(LogError::NotALog) => Log::convert(image, &OpenOptions::default()).unwrap(),
        other => other.unwrap(),
    }
}

/// How the writer makes changes durable.
#[derive(Clone, Copy, PartialEq)]
enum Syncs {
    /// It waits.
    Waiting,
    /// It goes on while they are on their way, by io_uring where there is one.
    Begun,
}

/// Does the whole workload; `done` is told of each commit.
fn work(image: &Path, syncs: Syncs, mut done: impl FnMut(&Log)) {
    let mut log = open(image);
    let mut begun = None;
    for (salt, op) in parse(WORKLOAD).iter().enumerate() {
        if syncs == Syncs::Begun && matches!(op, Op::Sync | Op::Compact) {
            if let Some(before) = begun.take() {
                wait_at_the_bell(&mut log, before);
                done(&log);
            }
            if matches!(op, Op::Sync) {
                begun = Some(log.begin_sync(()));
                continue;
            }
        }
        if apply(&mut log, op, salt as u8).unwrap() {
            done(&log);
        }
    }
    if let Some(last) = begun {
        wait_at_the_bell(&mut log, last);
        done(&log);
    }
}

fn wait_at_the_bell(log: &mut Log, mut syncing: Syncing<()>) {
    while let Progress::Going(going) = log.progress(syncing).unwrap() {
        syncing = going;
        let bell = log.bell().unwrap();
        // Interrupted, it looks again.
        let _ = poll(&mut [PollFd::new(&bell, PollFlags::IN)], None);
    }
}

/// The writer, in a process of its own.
#[test]
#[ignore = "a part of the others"]
fn the_writer() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let mut done = File::create(folder.join("done")).unwrap();
    // What is made once a process is made before anybody counts.
    let warm = folder.join("warm.img");
    fs::write(&warm, packed()).unwrap();
    let syncs = if std::env::var_os(BEGUN).is_some() { Syncs::Begun } else { Syncs::Waiting };
    work(&warm, syncs, |_| {});
    fs::remove_file(&warm).unwrap();
    // SAFETY: of this thread alone; it stops, and its parent says when it goes on.
    unsafe {
        assert_eq!(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0), 0);
        libc::raise(libc::SIGSTOP);
    }
    work(&folder.join("site.img"), syncs, |_| done.write_all(b"x").unwrap());
    // SAFETY: ends the process, with nothing left to write.
    unsafe { libc::_exit(0) }
}

/// A writer that stands still before the first of its system calls.
struct TracedWriter {
    child: Child,
    thread: libc::pid_t,
}

impl TracedWriter {
    /// To be called, as all else, by the thread that is then its tracer.
    fn start(folder: &Path, syncs: Syncs) -> TracedWriter {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["the_writer", "--exact", "--ignored", "--nocapture"]).env(FOLDER, folder);
        if syncs == Syncs::Begun {
            command.env(BEGUN, "1");
        }
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let mut status = 0;
        // SAFETY: fills `status`.
        let thread = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        assert!(libc::WIFSTOPPED(status), "the writer ended with {status:#x} before it began");
        // SAFETY: of a thread that this one traces and that has stopped.
        let set = unsafe {
            libc::ptrace(
                libc::PTRACE_SETOPTIONS,
                thread,
                0,
                libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD,
            )
        };
        assert_eq!(set, 0);
        TracedWriter { child, thread }
    }

    /// On to where a system call begins or ends; `false` if there is no more.
    fn step(&self) -> bool {
        let mut status = 0;
        loop {
            // SAFETY: of a thread that this one traces and that has stopped; fills `status`.
            unsafe {
                assert_eq!(libc::ptrace(libc::PTRACE_SYSCALL, self.thread, 0, 0), 0);
                assert_eq!(libc::waitpid(self.thread, &raw mut status, libc::__WALL), self.thread);
            }
            if !libc::WIFSTOPPED(status) {
                assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "{status:#x}");
                return false;
            }
            if libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 {
                return true;
            }
        }
    }

    /// Lets it do `calls` system calls and kills it where the next begins, before that does anything. Gives
    /// how many it did: fewer, if it came to its end.
    fn kill_after(mut self, calls: usize) -> usize {
        for at in 0..=calls {
            if !self.step() {
                self.child.wait().unwrap();
                return at;
            }
            if at < calls && !self.step() {
                self.child.wait().unwrap();
                return at + 1;
            }
        }
        self.child.kill().unwrap();
        let mut status = 0;
        // SAFETY: fills `status`. The traced thread is waited for before the process can be.
        unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL) };
        self.child.wait().unwrap();
        calls
    }
}

/// Kills a writer at one system call of so many, and looks at what is there.
fn killed_at_each(every: usize, first: usize, syncs: Syncs) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("site.img");
    fs::write(&image, packed()).unwrap();
    let mut states = vec![sound_state(&image, "packed")];
    work(&image, syncs, |log| states.push(state(&log.snapshot())));
    let (mut before, mut after, mut calls) = (0, 0, first);
    loop {
        // Anew, in a folder with nothing else in it.
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("site.img");
        fs::write(&image, packed()).unwrap();
        let did = TracedWriter::start(folder.path(), syncs).kill_after(calls);
        let done = fs::metadata(folder.path().join("done")).unwrap().len() as usize;
        let place = format!("killed after {did} system calls and {done} commits");
        let found = sound_state(&image, &place);
        if found == states[done] {
            before += 1;
        } else {
            assert!(Some(&found) == states.get(done + 1), "{place}: neither that state nor the next");
            after += 1;
        }
        for name in fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()) {
            let name = name.to_str().unwrap().to_owned();
            // Between its first name and its last a new file has one that nobody asks for.
            let is_between = name.starts_with(".site.img.") && name.ends_with(".tmp");
            assert!(["done", "site.img"].contains(&&*name) || is_between, "{place}: {name} is left");
        }
        // It can be gone on with at once: the lock went with the process.
        let mut log = open(&image);
        log.put(b"again", Mtime::default(), Contents::from(vec![1; 20_000]), b"").unwrap();
        log.sync().unwrap();
        let latest = state(&log.latest());
        assert!(sound_state(&image, &place) == latest, "{place}, and gone on with");
        if did < calls {
            assert_eq!(done, states.len() - 1, "it came to its end");
            break;
        }
        calls += every;
    }
    println!("{before} times the state before, {after} times that after; about {calls} system calls");
    assert!(before > 5, "{before}");
}

#[test]
fn a_writer_killed_now_and_then_leaves_the_state_before_or_after() {
    // Another few each time.
    let first = fastrand::usize(..23);
    println!("at every 23rd from {first} on");
    killed_at_each(23, first, Syncs::Waiting);
}

#[test]
fn a_writer_killed_while_syncs_are_on_their_way_leaves_the_state_before_or_after() {
    let first = fastrand::usize(..23);
    println!("at every 23rd from {first} on");
    killed_at_each(23, first, Syncs::Begun);
}

#[test]
#[ignore = "one process for each of some hundred system calls"]
fn a_writer_killed_at_any_system_call_leaves_the_state_before_or_after() {
    killed_at_each(1, 0, Syncs::Waiting);
    killed_at_each(1, 0, Syncs::Begun);
}
