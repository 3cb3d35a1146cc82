//! Inode numbers: the system knows files by these, an image by their paths.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// The root's.
pub(crate) const ROOT: u64 = 1;

/// Numbers of the paths that were asked for. A number stays with what it names when that moves, and is not given again.
#[derive(Debug)]
pub(crate) struct Names {
    paths: HashMap<u64, Arc<[u8]>>,
    numbers: BTreeMap<Arc<[u8]>, u64>,
    next: u64,
}

impl Names {
    pub(crate) fn new() -> Names {
        let mut names = Names { paths: HashMap::new(), numbers: BTreeMap::new(), next: ROOT };
        names.number(b"");
        names
    }

    /// The number of what is at a path.
    pub(crate) fn number(&mut self, path: &[u8]) -> u64 {
        if let Some(&number) = self.numbers.get(path) {
            return number;
        }
        let (path, number) = (Arc::<[u8]>::from(path), self.next);
        self.next += 1;
        self.numbers.insert(Arc::clone(&path), number);
        self.paths.insert(number, path);
        number
    }

    /// The number of what is at a path, if it has one.
    pub(crate) fn known(&self, path: &[u8]) -> Option<u64> {
        self.numbers.get(path).copied()
    }

    /// Where it is; `None` if it is nowhere any more.
    pub(crate) fn path(&self, number: u64) -> Option<Arc<[u8]>> {
        self.paths.get(&number).cloned()
    }

    /// What was at a path is gone from there.
    pub(crate) fn remove(&mut self, path: &[u8]) {
        if let Some(number) = self.numbers.remove(path) {
            self.paths.remove(&number);
        }
    }

    /// What was at `from` is at `to`, with all below it; what was at `to` is gone.
    pub(crate) fn rename(&mut self, from: &[u8], to: &[u8]) {
        self.remove(to);
        let start: Arc<[u8]> = [from, b"/"].concat().into();
        let below = self.numbers.range((Bound::Included(start.clone()), Bound::Unbounded));
        let mut moved: Vec<Arc<[u8]>> =
            below.map(|(path, _)| Arc::clone(path)).take_while(|path| path.starts_with(&start)).collect();
        moved.push(from.into());
        for path in moved {
            let Some(number) = self.numbers.remove(&path) else { continue };
            let path: Arc<[u8]> = [to, &path[from.len()..]].concat().into();
            self.paths.insert(number, Arc::clone(&path));
            self.numbers.insert(path, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_with_what_moves() {
        let mut names = Names::new();
        assert_eq!(names.number(b""), ROOT);
        let [a, file, other, near] =
            ["a", "a/b/file", "c", "a.txt"].map(|path| names.number(path.as_bytes()));
        names.rename(b"a", b"c/d");
        assert_eq!(names.path(a).as_deref(), Some(&b"c/d"[..]));
        assert_eq!(names.path(file).as_deref(), Some(&b"c/d/b/file"[..]));
        assert_eq!(names.path(near).as_deref(), Some(&b"a.txt"[..]));
        assert_eq!((names.known(b"a"), names.known(b"c")), (None, Some(other)));
        // What is replaced is nowhere, and its number is not given again.
        names.rename(b"a.txt", b"c/d/b/file");
        assert_eq!(names.path(file), None);
        assert!(names.number(b"a.txt") > near);
        names.remove(b"c/d/b/file");
        assert_eq!(names.path(near), None);
    }
}
