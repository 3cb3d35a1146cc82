//! Inode numbers: the system knows files by these, an image by their paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// The root's.
pub(crate) const ROOT: u64 = 1;

/// Numbers of the paths that were asked for. A number stays with what it names when that moves, and is not
/// given again. All paths of one file have one number.
#[derive(Debug)]
pub(crate) struct Names {
    paths: HashMap<u64, BTreeSet<Arc<[u8]>>>,
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
        self.insert(path, number);
        number
    }

    /// Says that what is at a path is what has that number, too.
    pub(crate) fn link(&mut self, path: &[u8], number: u64) {
        self.insert(path.into(), number);
    }

    fn insert(&mut self, path: Arc<[u8]>, number: u64) {
        self.numbers.insert(Arc::clone(&path), number);
        self.paths.entry(number).or_default().insert(path);
    }

    /// The number of what is at a path, if it has one.
    pub(crate) fn known(&self, path: &[u8]) -> Option<u64> {
        self.numbers.get(path).copied()
    }

    /// Where it is, by one of its names; `None` if it is nowhere any more.
    pub(crate) fn path(&self, number: u64) -> Option<Arc<[u8]>> {
        self.paths.get(&number)?.first().cloned()
    }

    /// What was at a path is gone from there. Gives its number.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Option<u64> {
        let number = self.numbers.remove(path)?;
        if let Some(paths) = self.paths.get_mut(&number) {
            paths.remove(path);
            if paths.is_empty() {
                self.paths.remove(&number);
            }
        }
        Some(number)
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
            let Some(number) = self.remove(&path) else { continue };
            self.insert([to, &path[from.len()..]].concat().into(), number);
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

    #[test]
    fn a_number_may_have_several_paths() {
        let mut names = Names::new();
        let a = names.number(b"a");
        names.link(b"d/b", a);
        names.number(b"d");
        names.rename(b"d", b"e");
        assert_eq!((names.known(b"e/b"), names.known(b"d/b")), (Some(a), None));
        names.remove(b"a");
        assert_eq!(names.path(a).as_deref(), Some(&b"e/b"[..]));
        names.remove(b"e/b");
        assert_eq!(names.path(a), None);
    }
}
