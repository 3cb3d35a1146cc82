//! Changes of a log as text: `put A/foo 5000; rename A/foo bar; sync`.

use super::crash::bytes;
use fsstack::image::build::Mtime;
use fsstack::log::{Contents, Log, LogError, Posix, Special};
use runtime::buffer::{Shared, Slice};

/// One change, or what makes changes durable.
#[derive(Clone, Debug)]
pub enum Op {
    Put(String, usize),
    Write(String, u64, usize),
    Append(String, usize),
    Truncate(String, u64),
    Touch(String),
    Mkdir(String),
    Symlink(String, String),
    Chmod(String, u16),
    Rename(String, String),
    Link(String, String),
    Remove(String),
    RemoveAll(String),
    Sync,
    Compact,
}

/// The changes of a text: one a line, or several with `;` between. What follows `#` is a remark.
pub fn parse(text: &str) -> Vec<Op> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words = lines.flat_map(|line| line.split(';')).map(|op| op.split_whitespace().collect::<Vec<_>>());
    words.filter(|words| !words.is_empty()).map(|words| one(&words)).collect()
}

fn one(words: &[&str]) -> Op {
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{words:?}: a number"));
    let [path, more @ ..] = &words[1..] else {
        return match words {
            ["sync"] => Op::Sync,
            ["compact"] => Op::Compact,
            other => panic!("{other:?}: no such change"),
        };
    };
    let path = (*path).to_owned();
    match (words[0], more) {
        ("put", [len]) => Op::Put(path, number(len) as usize),
        ("write", [offset, len]) => Op::Write(path, number(offset), number(len) as usize),
        ("append", [len]) => Op::Append(path, number(len) as usize),
        ("truncate", [size]) => Op::Truncate(path, number(size)),
        ("touch", []) => Op::Touch(path),
        ("mkdir", []) => Op::Mkdir(path),
        ("symlink", [target]) => Op::Symlink(path, (*target).to_owned()),
        ("chmod", [mode]) => Op::Chmod(path, u16::from_str_radix(mode, 8).unwrap()),
        ("rename", [to]) => Op::Rename(path, (*to).to_owned()),
        ("link", [to]) => Op::Link(path, (*to).to_owned()),
        ("rm", []) => Op::Remove(path),
        ("rmtree", []) => Op::RemoveAll(path),
        _ => panic!("{words:?}: no such change"),
    }
}

/// Does it; what is new of contents follows from `salt`. Says whether what was changed so far is durable now.
pub fn apply(log: &mut Log, op: &Op, salt: u8) -> Result<bool, LogError> {
    let time = Mtime { seconds: salt.into(), nanoseconds: 0 };
    let slice = |len| Slice::from(Shared::from(bytes(len, salt)));
    match op {
        Op::Put(path, len) => {
            log.put(path.as_bytes(), time, Contents::from(bytes(*len, salt)), b"head")?;
        }
        Op::Write(path, offset, len) => {
            log.write(path.as_bytes(), *offset, slice(*len), time)?;
        }
        Op::Append(path, len) => {
            log.append(path.as_bytes(), slice(*len), time)?;
        }
        Op::Truncate(path, size) => {
            log.truncate(path.as_bytes(), *size, time)?;
        }
        Op::Touch(path) => {
            log.set_attributes(path.as_bytes(), time, &[salt; 5])?;
        }
        Op::Mkdir(path) => {
            log.mkdir(path.as_bytes(), time)?;
        }
        Op::Symlink(path, target) => {
            log.make_special(path.as_bytes(), time, Special::symlink(target.as_bytes())?)?;
        }
        Op::Chmod(path, mode) => {
            let (uid, gid) = (salt.into(), 0);
            let posix = Posix { mode: *mode, uid, gid, ctime: Some(time), atime: None };
            log.set_posix(path.as_bytes(), Some(posix))?;
        }
        Op::Rename(from, to) => {
            log.rename(from.as_bytes(), to.as_bytes())?;
        }
        Op::Link(existing, path) => {
            log.link(existing.as_bytes(), path.as_bytes())?;
        }
        Op::Remove(path) => {
            log.remove(path.as_bytes())?;
        }
        Op::RemoveAll(path) => {
            log.remove_all(path.as_bytes())?;
        }
        Op::Sync => {
            log.sync()?;
        }
        Op::Compact => {
            log.compact(&[])?;
        }
    }
    Ok(matches!(op, Op::Sync | Op::Compact))
}
