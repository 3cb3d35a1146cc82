//! What POSIX says of paths and their errors, through a mount (`rules.txt`).

mod support;

use std::ffi::CString;
use std::io;
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, FileType, Mode, OFlags};
use support::{Mount, fresh};

const RULES: &str = include_str!("rules.txt");

/// Deep enough that no system takes it.
const LONG_PATH_BYTES: usize = 4200;

fn name(short: &str) -> String {
    match short {
        "N255" => "n".repeat(255),
        "N256" => "n".repeat(256),
        "P" => "d/".repeat(LONG_PATH_BYTES / 2) + "x",
        other => other.to_owned(),
    }
}

/// Does an operation in a directory.
fn operate(at: &Path, words: &[&str]) -> io::Result<()> {
    let path = |short: &str| CString::new(at.join(name(short)).to_str().unwrap()).unwrap();
    let mode = |text: &str| Mode::from_raw_mode(u32::from_str_radix(text, 8).unwrap());
    let open = |short, flags| fs::open(path(short), flags | OFlags::CLOEXEC, mode("644")).map(drop);
    let facts = |short| fs::stat(path(short));
    let wanted = |is: &dyn ToString, text: &str| assert_eq!(is.to_string(), text, "{words:?}");
    match *words {
        ["create", file] => open(file, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY),
        ["open", file] => open(file, OFlags::RDONLY),
        ["open", file, "for", "writing"] => open(file, OFlags::WRONLY),
        ["mkdir", dir] => fs::mkdir(path(dir), mode("755")),
        ["rmdir", dir] => fs::unlinkat(CWD, path(dir), AtFlags::REMOVEDIR),
        ["unlink", file] => fs::unlinkat(CWD, path(file), AtFlags::empty()),
        ["rename", from, to] => fs::rename(path(from), path(to)),
        ["link", existing, new] => fs::link(path(existing), path(new)),
        ["symlink", to, new] => fs::symlink(path(to), path(new)),
        ["mkfifo", new] => fs::mknodat(CWD, path(new), FileType::Fifo, mode("644"), 0),
        ["stat", file] => facts(file).map(drop),
        ["size", file, size] => facts(file).map(|facts| wanted(&facts.st_size, size)),
        ["names", file, count] => facts(file).map(|facts| wanted(&facts.st_nlink, count)),
        ["mode", file, bits] => fs::chmod(path(file), mode(bits)),
        ["owner", file, owner] => {
            let owner = fs::Uid::from_raw(owner.parse().unwrap());
            fs::chownat(CWD, path(file), Some(owner), None, AtFlags::empty())
        }
        // The system's own call: the library's has a sign.
        ["truncate", file, size] => {
            let size = size.parse::<i64>().unwrap();
            return match std::fs::OpenOptions::new().write(true).open(at.join(name(file))) {
                Ok(file) => match u64::try_from(size) {
                    Ok(size) => file.set_len(size),
                    Err(_) => fs::ftruncate(&file, size as u64).map_err(io::Error::from),
                },
                Err(error) => Err(error),
            };
        }
        _ => panic!("{words:?}: no such operation"),
    }
    .map_err(io::Error::from)
}

fn error_name(error: &io::Error) -> String {
    let code = error.raw_os_error().unwrap();
    let known = [
        (libc::ENOENT, "ENOENT"),
        (libc::ENOTDIR, "ENOTDIR"),
        (libc::EISDIR, "EISDIR"),
        (libc::EEXIST, "EEXIST"),
        (libc::ENOTEMPTY, "ENOTEMPTY"),
        (libc::ENAMETOOLONG, "ENAMETOOLONG"),
        (libc::EINVAL, "EINVAL"),
        (libc::EPERM, "EPERM"),
        (libc::EFBIG, "EFBIG"),
        (libc::EBUSY, "EBUSY"),
        (libc::EMLINK, "EMLINK"),
    ];
    let name = known.iter().find(|(known, _)| *known == code);
    name.map_or_else(|| format!("error {code}"), |(_, name)| (*name).to_owned())
}

#[test]
fn paths_and_errors_are_as_posix_has_them() {
    let (_folder, image, dir) = fresh();
    let Some(mount) = Mount::new(&image, &dir, &["--write"]) else { return };
    let mut round = 0;
    let mut begin = || {
        round += 1;
        let at = mount.path(&format!("round-{round}"));
        std::fs::create_dir(&at).unwrap();
        let start = RULES.lines().find_map(|line| line.strip_prefix("at the start: ")).unwrap();
        for operation in start.split(';') {
            operate(&at, &operation.split_whitespace().collect::<Vec<_>>()).unwrap();
        }
        at
    };
    let mut at = begin();
    let (mut done, mut wrong) = (0, Vec::new());
    for (number, line) in (1..).zip(RULES.lines()) {
        if line == "fresh" {
            at = begin();
        }
        let Some(line) = line.strip_prefix("do ") else { continue };
        let (operation, expected) = line.rsplit_once(": ").unwrap();
        let result = operate(&at, &operation.split_whitespace().collect::<Vec<_>>());
        let found = result.map_or_else(|error| error_name(&error), |()| "ok".to_owned());
        done += 1;
        if found != expected {
            wrong.push(format!("rules.txt:{number}: {operation}: {expected} was expected, {found} came"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(done > 90, "{done}");
    assert_eq!(mount.end(), "");
    let there = fsstack::log::Generation::open(&image, &fsstack::OpenOptions::default()).unwrap();
    assert!(there.check(|_| {}).problems.is_empty());
}
