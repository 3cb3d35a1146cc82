//! Images as directories, by the system's own tools.
//!
//! A longer run of the random operations: `MOUNT_OPERATIONS=1000000 cargo test -p fsstack-fuse --release --test mount random`.

mod support;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use fsstack::OpenOptions;
use fsstack::log::{Generation, Log, LogError};
use support::{Mount, fresh};

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Bytes that say where they are from.
fn bytes(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn the_systems_tools_work_on_it() {
    let (folder, image, dir) = fresh();
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("a/b c/d")).unwrap();
    for (i, name) in ["a/one", "a/b c/two", "a/b c/d/three", "empty", "\u{e9}t\u{e9}"].iter().enumerate() {
        fs::write(source.join(name), bytes((i + 1) * 70_001 % 200_000, i as u32)).unwrap();
    }
    fs::write(source.join("empty"), b"").unwrap();
    let Some(mount) = Mount::new(&image, &dir, &["--write"]) else { return };
    let (from, to) = (source.to_str().unwrap(), mount.path("copy"));
    let to = to.to_str().unwrap();
    run("cp", &["-r", from, to]);
    run("diff", &["-r", from, to]);
    assert_eq!(run("find", &[to]).lines().count(), run("find", &[from]).lines().count());

    // Names and numbers stay together.
    let number = fs::metadata(mount.path("copy/a/b c/two")).unwrap().ino();
    run("mv", &[&format!("{to}/a"), &format!("{to}/moved")]);
    assert_eq!(fs::metadata(mount.path("copy/moved/b c/two")).unwrap().ino(), number);
    run("mv", &[&format!("{to}/moved"), &format!("{to}/a")]);
    fs::write(mount.path("copy/new"), b"new").unwrap();
    run("mv", &[&format!("{to}/new"), &format!("{to}/empty")]);
    assert_eq!(fs::read(mount.path("copy/empty")).unwrap(), b"new");
    run("truncate", &["-s", "0", &format!("{to}/empty")]);
    run("touch", &["-d", "2001-02-03 04:05:06.789 UTC", &format!("{to}/empty")]);
    let metadata = fs::metadata(mount.path("copy/empty")).unwrap();
    assert_eq!((metadata.len(), metadata.mtime(), metadata.mtime_nsec()), (0, 981_173_106, 789_000_000));
    run(
        "dd",
        &[
            &format!("if={from}/a/one"),
            &format!("of={to}/a/one"),
            "bs=1000",
            "skip=3",
            "seek=3",
            "conv=notrunc",
        ],
    );
    let tar = folder.path().join("copy.tar");
    run("tar", &["-C", to, "-cf", tar.to_str().unwrap(), "."]);
    fs::create_dir(mount.path("again")).unwrap();
    run(
        "tar",
        &["-C", mount.path("again").to_str().unwrap(), "--no-same-permissions", "-xf", tar.to_str().unwrap()],
    );
    run("diff", &["-r", from, mount.path("again").to_str().unwrap()]);
    run("rm", &["-r", &format!("{to}/a/b c")]);
    let refused = |name: &str, arguments: &[&str], why: &str| {
        let output = Command::new(name).args(arguments).env("LC_ALL", "C").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(why), "{said}");
    };
    refused("rmdir", &[to], "not empty");
    refused("ln", &[&format!("{to}/empty"), &format!("{to}/new-name/link")], "No such file");
    refused("mkdir", &[to], "exists");
    refused("touch", &[mount.path(&"n".repeat(256)).to_str().unwrap()], "too long");
    refused("rm", &[mount.path(&"n".repeat(256)).to_str().unwrap()], "too long");
    assert!(run("df", &[to]).contains("site.img"));
    assert_eq!(mount.end(), "");

    // All of it is in the image, and served from it.
    let there = Generation::open(&image, &OpenOptions::default()).unwrap();
    assert!(there.find("copy/a/b c").is_none());
    assert_eq!(there.find("copy/empty").unwrap().size(), 0);
    assert_eq!(there.check(|_| {}).problems.len(), 0);
    let Some(mount) = Mount::new(&image, &dir, &[]) else { return };
    run("diff", &["-r", from, mount.path("again").to_str().unwrap()]);
    assert_eq!(fs::write(mount.path("copy/new"), b"x").unwrap_err().raw_os_error(), Some(30));
    assert_eq!(fs::remove_file(mount.path("copy/empty")).unwrap_err().raw_os_error(), Some(30));
}

/// What `ls -l` says of a path: mode, owner and group, size or device, links, and a link's target.
fn listed(path: &Path) -> String {
    let metadata = fs::symlink_metadata(path).unwrap();
    let target =
        fs::read_link(path).map_or_else(|_| String::new(), |target| format!(" -> {}", target.display()));
    format!(
        "{:o} {}:{} {} {} x{}{target}",
        metadata.mode(),
        metadata.uid(),
        metadata.gid(),
        metadata.len(),
        metadata.rdev(),
        metadata.nlink()
    )
}

/// Modes, owners, times and what is neither file nor directory are there after a remount, and when the image
/// is packed again.
#[test]
fn what_the_system_keeps_of_files_is_kept() {
    let (folder, image, dir) = fresh();
    let Some(mut mount) = Mount::new(&image, &dir, &["--write"]) else { return };
    let (uid, gid) = (own_uid(), fs::metadata(folder.path()).unwrap().gid());
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    for (name, mode) in [("d/private", 0o600), ("d/program", 0o755), ("plain", 0o644)] {
        fs::write(mount.path(name), bytes(10_000, mode)).unwrap();
        set_mode(&mount.path(name), mode);
    }
    let owner = if uid == 0 { (1234, 4321) } else { (uid, gid) };
    if uid == 0 {
        std::os::unix::fs::chown(mount.path("d/program"), Some(1234), Some(4321)).unwrap();
    }
    // What is made in a folder of a group is of the group.
    set_mode(&mount.path("d"), 0o2770);
    fs::create_dir(mount.path("d/inner")).unwrap();
    symlink("../plain", mount.path("d/link")).unwrap();
    fs::hard_link(mount.path("d/link"), mount.path("second")).unwrap();
    run("mkfifo", &["-m", "620", mount.path("d/fifo").to_str().unwrap()]);
    let socket = UnixListener::bind(mount.path("d/socket")).unwrap();
    drop(socket);
    run("touch", &["-a", "-d", "2001-02-03 04:05:06 UTC", mount.path("plain").to_str().unwrap()]);
    let names = ["d", "d/private", "d/program", "plain", "d/inner", "d/link", "second", "d/fifo", "d/socket"];
    let all = |mount: &Mount| names.map(|name| listed(&mount.path(name)));
    let before = all(&mount);
    assert_eq!(before[0], format!("42770 {uid}:{gid} 0 0 x3"));
    assert_eq!(before[1], format!("100600 {uid}:{gid} 10000 0 x1"));
    assert_eq!(before[2], format!("100755 {}:{} 10000 0 x1", owner.0, owner.1));
    assert_eq!(before[4], format!("42755 {uid}:{gid} 0 0 x2"), "of its folder's group");
    assert_eq!(before[5], format!("120777 {uid}:{gid} 8 0 x2 -> ../plain"));
    assert!(before[7].starts_with("10620 ") && before[8].starts_with("140"), "{before:?}");
    let times = |mount: &Mount, name: &str| {
        let metadata = fs::metadata(mount.path(name)).unwrap();
        (metadata.ctime(), metadata.ctime_nsec(), metadata.atime())
    };
    let plain = times(&mount, "plain");
    assert_eq!(plain.2, 981_173_106);
    assert!(plain.0 > 1_700_000_000);
    assert_eq!(fs::read(mount.path("second")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(fs::read(mount.path("d/link")).unwrap(), bytes(10_000, 0o644));

    for round in 0..2 {
        assert_eq!(mount.end(), "");
        if round == 1 {
            let mut log = Log::open(&image, &OpenOptions::default()).unwrap();
            log.compact(&[]).unwrap();
        }
        mount = Mount::new(&image, &dir, &["--write"]).unwrap();
        assert_eq!(all(&mount), before, "round {round}");
        assert_eq!(times(&mount, "plain"), plain);
    }
    // Each change moves the time, and what is not said stays.
    File::options().append(true).open(mount.path("d/private")).unwrap().write_all(b"more").unwrap();
    assert_eq!(listed(&mount.path("d/private")), format!("100600 {uid}:{gid} 10004 0 x1"));
    let before = times(&mount, "plain");
    fs::hard_link(mount.path("plain"), mount.path("other")).unwrap();
    assert!(times(&mount, "plain") > before);
    fs::rename(mount.path("d/inner"), mount.path("outer")).unwrap();
    assert!(listed(&mount.path("d")).ends_with(" x2") && listed(&mount.path("outer")).ends_with(" x2"));
    fs::remove_dir(mount.path("outer")).unwrap();
    assert_eq!(fs::metadata(mount.path("")).unwrap().nlink(), 3);
    fs::remove_file(mount.path("d/link")).unwrap();
    fs::rename(mount.path("second"), mount.path("d/again")).unwrap();
    assert_eq!(listed(&mount.path("d/again")), format!("120777 {uid}:{gid} 8 0 x1 -> ../plain"));
    assert_eq!(mount.end(), "");
    let there = Generation::open(&image, &OpenOptions::default()).unwrap();
    assert_eq!(there.check(|_| {}).problems.len(), 0);
}

/// What was made is of who made it, whoever mounts the image next, though it is as what nothing is said of.
#[test]
fn what_is_made_is_who_made_its() {
    let (folder, image, dir) = fresh();
    let Some(mount) = Mount::new(&image, &dir, &["--write"]) else { return };
    let (uid, gid) = (own_uid(), fs::metadata(folder.path()).unwrap().gid());
    run(
        "sh",
        &["-c", "umask 022; cd \"$0\"; mkdir d; echo 1 > d/file; ln -s file d/link", &dir.to_string_lossy()],
    );
    assert_eq!(mount.end(), "");
    let there = Generation::open(&image, &OpenOptions::default()).unwrap();
    for (name, mode) in [("d", 0o755), ("d/file", 0o644), ("d/link", 0o777)] {
        let posix = *there.find(name).unwrap().posix().unwrap();
        assert_eq!((posix.mode, posix.uid, posix.gid), (mode, uid, gid), "{name}");
    }
}

/// A time of access that was set to that of the contents stays when these change.
#[test]
fn a_time_of_access_that_was_set_stays() {
    let (_folder, image, dir) = fresh();
    let Some(mut mount) = Mount::new(&image, &dir, &["--write"]) else { return };
    fs::write(mount.path("a"), b"before").unwrap();
    run("touch", &["-d", "2001-02-03 04:05:06 UTC", mount.path("a").to_str().unwrap()]);
    File::options().append(true).open(mount.path("a")).unwrap().write_all(b"more").unwrap();
    for _ in 0..2 {
        let metadata = fs::metadata(mount.path("a")).unwrap();
        assert_eq!(metadata.atime(), 981_173_106);
        assert!(metadata.mtime() > 1_700_000_000 && metadata.ctime() > 1_700_000_000);
        assert_eq!(mount.end(), "");
        mount = Mount::new(&image, &dir, &["--write"]).unwrap();
    }
}

fn own_uid() -> u32 {
    // A file of ours says whose we are.
    tempfile::tempfile().unwrap().metadata().unwrap().uid()
}

/// Files live until they are closed, as temporary files of programs want.
#[test]
fn a_file_without_a_name_lives_until_it_is_closed() {
    let (_folder, image, dir) = fresh();
    let Some(mount) = Mount::new(&image, &dir, &["--write"]) else { return };
    let mut gone =
        File::options().read(true).write(true).create(true).truncate(true).open(mount.path("gone")).unwrap();
    gone.write_all(&bytes(100_000, 1)).unwrap();
    let replaced = File::open(mount.path("gone")).unwrap();
    fs::remove_file(mount.path("gone")).unwrap();
    assert_eq!(gone.metadata().unwrap().nlink(), 0);
    let before = gone.metadata().unwrap().mtime_nsec();
    gone.set_permissions(fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(gone.metadata().unwrap().mtime_nsec(), before);
    gone.write_all_at(b"here", 50_000).unwrap();
    gone.set_len(200_000).unwrap();
    let mut wanted = bytes(100_000, 1);
    wanted[50_000..50_004].copy_from_slice(b"here");
    wanted.resize(200_000, 0);
    for mut file in [gone, replaced] {
        let mut all = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut all).unwrap();
        assert!(all == wanted);
    }
    // The same of one that another takes the place of.
    fs::write(mount.path("old"), b"old").unwrap();
    fs::write(mount.path("new"), b"new").unwrap();
    let mut old = File::open(mount.path("old")).unwrap();
    fs::rename(mount.path("new"), mount.path("old")).unwrap();
    let mut all = String::new();
    old.read_to_string(&mut all).unwrap();
    assert_eq!((all.as_str(), fs::read(mount.path("old")).unwrap()), ("old", b"new".to_vec()));
    drop(old);
    mount.end();
    let there = Generation::open(&image, &OpenOptions::default()).unwrap();
    assert_eq!(there.entries().filter(|entry| entry.is_file()).count(), 1);
}

/// Who asks for the end while a file is open gets it when the file is closed, without asking again.
#[test]
fn it_ends_when_nothing_is_open_any_more() {
    let (_folder, image, dir) = fresh();
    let Some(mut mount) = Mount::new(&image, &dir, &["--write"]) else { return };
    let open = File::create(mount.path("open")).unwrap();
    Command::new("kill").arg(mount.child.id().to_string()).status().unwrap();
    let mut said = String::new();
    BufReader::new(mount.child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("is in use") && said.contains("it ends when it can"), "{said}");
    assert_eq!(fs::metadata(mount.path("open")).unwrap().len(), 0);
    assert!(mount.child.try_wait().unwrap().is_none());
    drop(open);
    assert!(mount.child.wait().unwrap().success());
    assert!(fs::read_dir(&dir).unwrap().next().is_none(), "it is still mounted");
}

/// What others have mounted on the same directory, before or after, stays.
#[test]
fn what_is_mounted_beneath_or_above_stays() {
    let (_folder, image, dir) = fresh();
    let tmpfs = |done: &str| {
        Command::new("mount").args(["-t", "tmpfs", done]).arg(&dir).status().is_ok_and(|s| s.success())
    };
    if !tmpfs("below") {
        return eprintln!("skipped: mounting a tmpfs needs root");
    }
    fs::write(dir.join("below"), b"").unwrap();
    let unmount = || assert!(Command::new("umount").arg(&dir).status().unwrap().success());
    let Some(mut mount) = Mount::new(&image, &dir, &["--write"]) else { return unmount() };
    assert!(!dir.join("below").exists());
    assert!(tmpfs("above"));
    fs::write(dir.join("above"), b"").unwrap();
    Command::new("kill").arg(mount.child.id().to_string()).status().unwrap();
    let mut said = String::new();
    BufReader::new(mount.child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("something else is mounted"), "{said}");
    assert!(dir.join("above").exists());
    unmount();
    assert!(mount.child.wait().unwrap().success());
    assert!(dir.join("below").exists(), "what was there before is gone");
    unmount();
}

/// As the system has it: names of one file are one, whichever is used, renamed or removed.
#[test]
fn a_file_may_have_several_names() {
    let (_folder, image, dir) = fresh();
    let Some(mut mount) = Mount::new(&image, &dir, &["--write"]) else { return };
    let facts = |mount: &Mount, name: &str| {
        let metadata = fs::metadata(mount.path(name)).unwrap();
        (metadata.ino(), metadata.nlink())
    };
    fs::write(mount.path("one"), bytes(100_000, 1)).unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    fs::hard_link(mount.path("one"), mount.path("two")).unwrap();
    fs::hard_link(mount.path("two"), mount.path("d/three")).unwrap();
    let number = facts(&mount, "one").0;
    for name in ["one", "two", "d/three"] {
        assert_eq!(facts(&mount, name), (number, 3));
    }
    File::options().write(true).open(mount.path("two")).unwrap().write_all_at(b"here", 50_000).unwrap();
    let mut wanted = bytes(100_000, 1);
    wanted[50_000..50_004].copy_from_slice(b"here");
    assert!(fs::read(mount.path("one")).unwrap() == wanted);
    // Nothing happens when one is to take the place of the other.
    fs::rename(mount.path("one"), mount.path("two")).unwrap();
    assert_eq!(facts(&mount, "one"), (number, 3));
    let refused = |result: std::io::Result<()>| result.unwrap_err().raw_os_error().unwrap();
    assert_eq!(refused(fs::hard_link(mount.path("one"), mount.path("d/three"))), libc::EEXIST);
    assert_eq!(refused(fs::hard_link(mount.path("d"), mount.path("e"))), libc::EPERM);
    assert_eq!(refused(fs::hard_link(mount.path("none"), mount.path("e"))), libc::ENOENT);

    // Known by names that were never asked for: after a new mount one is opened, and goes.
    assert_eq!(mount.end(), "");
    mount = Mount::new(&image, &dir, &["--write"]).unwrap();
    let open = File::open(mount.path("one")).unwrap();
    fs::remove_file(mount.path("one")).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 2);
    assert_eq!(facts(&mount, "d/three"), (open.metadata().unwrap().ino(), 2));
    fs::write(mount.path("other"), b"other").unwrap();
    fs::rename(mount.path("other"), mount.path("two")).unwrap();
    assert_eq!(facts(&mount, "d/three").1, 1);
    let mut all = vec![0; wanted.len()];
    open.read_exact_at(&mut all, 0).unwrap();
    assert!(all == wanted);
    fs::remove_file(mount.path("d/three")).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    open.read_exact_at(&mut all, 10_000).unwrap_err();
    open.read_exact_at(&mut all[..5], 49_999).unwrap();
    assert_eq!(&all[1..5], b"here");
    drop(open);
    assert_eq!(mount.end(), "");
    let there = Generation::open(&image, &OpenOptions::default()).unwrap();
    assert_eq!(there.entries().filter(|entry| entry.is_file()).count(), 1);
    assert_eq!(there.check(|_| {}).problems.len(), 0);
}

/// The process dies without a word; what `fsync` promised is there.
#[test]
fn what_was_synced_outlives_the_process() {
    let (_folder, image, dir) = fresh();
    let Some(mut mount) = Mount::new(&image, &dir, &["--write", "--sync-every", "3600"]) else { return };
    for i in 0..20_u32 {
        let file = File::create(mount.path(&format!("{i}"))).unwrap();
        file.write_all_at(&bytes(10_000, i), 0).unwrap();
        if i == 10 {
            file.sync_all().unwrap();
            // Other processes read it at once, and none writes.
            assert!(Generation::open(&image, &OpenOptions::default()).unwrap().find("10").is_some());
            let other = Log::open(&image, &OpenOptions::default());
            assert!(matches!(other, Err(LogError::Busy)), "{other:?}");
        }
    }
    mount.child.kill().unwrap();
    mount.child.wait().unwrap();
    drop(mount);
    let there = Generation::open(&image, &OpenOptions::default()).unwrap();
    for i in 0..=10_u32 {
        let entry = there.find(format!("{i}")).unwrap();
        assert_eq!(entry.fetch(0, 10_000).unwrap().bytes(), bytes(10_000, i));
    }
    assert!(there.find("11").is_none());
}

/// One file, by what a program can do to a file, against one that lies elsewhere: as `fsx` does.
#[test]
fn random_operations_do_what_they_do_elsewhere() {
    const MAX: u64 = 300_000;
    let operations = std::env::var("MOUNT_OPERATIONS").map_or(2_000, |count| count.parse().unwrap());
    let seed = std::env::var("MOUNT_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("MOUNT_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (folder, image, dir) = fresh();
    let Some(mut mount) = Mount::new(&image, &dir, &["--write", "--sync-every", "1"]) else { return };
    let model_path = folder.path().join("model");
    let open =
        |path: &Path| File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    let mut name = "file".to_owned();
    let (mut file, mut model) = (open(&mount.path(&name)), open(&model_path));
    for operation in 0..operations {
        let size = model.metadata().unwrap().len();
        let at = random.u64(0..=size.min(MAX));
        let longest = if random.u8(..) < 230 { 5_000 } else { 70_000 };
        let len = random.usize(0..=longest);
        match random.u8(0..100) {
            0..40 => {
                let new = bytes(len, random.u32(..));
                // Sometimes behind the end, so that there is a hole.
                let at = if random.u8(0..10) == 0 { at + random.u64(0..20_000) } else { at };
                file.write_all_at(&new, at).unwrap();
                model.write_all_at(&new, at).unwrap();
            }
            40..75 => {
                let (mut one, mut other) = (vec![0; len], vec![0; len]);
                let (a, b) = (read_at(&file, &mut one, at), read_at(&model, &mut other, at));
                assert!(a == b && one[..a] == other[..b], "operation {operation}, {len} bytes at {at}");
            }
            75..85 => {
                let size = random.u64(0..MAX);
                file.set_len(size).unwrap();
                model.set_len(size).unwrap();
            }
            85..90 => file.sync_data().unwrap(),
            90..94 => file = open(&mount.path(&name)),
            94..97 => {
                let new = format!("{operation}");
                fs::rename(mount.path(&name), mount.path(&new)).unwrap();
                name = new;
            }
            97 => {
                // Another file in its place; the old one goes on in this hand.
                fs::write(mount.path("other"), bytes(len, 7)).unwrap();
                fs::rename(mount.path("other"), mount.path(&name)).unwrap();
                model = open(&model_path);
                model.set_len(0).unwrap();
                model.write_all_at(&bytes(len, 7), 0).unwrap();
                file = open(&mount.path(&name));
            }
            98 => {
                fs::remove_file(mount.path(&name)).unwrap();
                model.set_len(0).unwrap();
                file = open(&mount.path(&name));
            }
            _ if random.u8(0..4) == 0 => {
                drop(file);
                assert_eq!(mount.end(), "");
                mount = Mount::new(&image, &dir, &["--write", "--sync-every", "1"]).unwrap();
                file = open(&mount.path(&name));
            }
            _ => assert_eq!(file.metadata().unwrap().len(), size),
        }
    }
    assert!(fs::read(mount.path(&name)).unwrap() == fs::read(&model_path).unwrap());
    drop(file);
    assert_eq!(mount.end(), "");
    let there = Generation::open(&image, &OpenOptions::default()).unwrap();
    assert_eq!(there.check(|_| {}).problems.len(), 0);
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> usize {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], at + got as u64).unwrap() {
            0 => break,
            n => got += n,
        }
    }
    got
}
