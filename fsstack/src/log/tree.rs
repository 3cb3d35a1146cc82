//! The tree of one generation: nodes by path. A clone shares everything that is not changed afterwards.
//!
//! Most files have one name, and stand at it. One with several (hard links) stands beside the paths, which
//! have its number; with its last but one name that goes.

use super::error::ChangeError;
use super::node::Node;
use super::posix::Posix;
use crate::image::build::Mtime;
use crate::path;
use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};
use std::ops::Bound;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// By whole path; the root is there always. A directory stands before what is in it, though not all of
    /// that next to it: `a`, `a-b`, `a/c`.
    places: RedBlackTreeMapSync<Arc<[u8]>, Standing>,
    several: RedBlackTreeMapSync<SeveralId, Several>,
    next: u64,
}

/// Number of a file with several names, in this tree and those that come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SeveralId(u64);

/// What stands at a path.
#[derive(Clone, Debug)]
enum Standing {
    Own(Node, Option<Arc<Posix>>),
    /// A file that has other paths, too.
    Several(SeveralId),
}

/// A file with two names or more.
#[derive(Clone, Debug)]
struct Several {
    node: Node,
    posix: Option<Arc<Posix>>,
    names: RedBlackTreeSetSync<Arc<[u8]>>,
}

/// What was taken out of a tree.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) path: Arc<[u8]>,
    /// Nothing of a file that has other names still.
    pub(super) node: Option<Node>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        let mut places = RedBlackTreeMapSync::new_sync();
        places.insert_mut(Arc::from(&[][..]), Standing::Own(Node::Directory(Mtime::default()), None));
        Tree { places, several: RedBlackTreeMapSync::new_sync(), next: 0 }
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<(&Arc<[u8]>, &Node)> {
        let (path, place) = self.places.get_key_value(path)?;
        Some((path, self.at(place)?))
    }

    pub(super) fn node(&self, path: &[u8]) -> Option<&Node> {
        self.at(self.places.get(path)?)
    }

    /// What stands at a place: there always is something.
    fn at<'a>(&'a self, place: &'a Standing) -> Option<&'a Node> {
        match place {
            Standing::Own(node, _) => Some(node),
            Standing::Several(id) => self.several.get(id).map(|several| &several.node),
        }
    }

    /// What the system keeps of what is at a path, if it is not as of all others.
    pub(super) fn posix(&self, path: &[u8]) -> Option<&Posix> {
        match self.places.get(path)? {
            Standing::Own(_, posix) => posix.as_deref(),
            Standing::Several(id) => self.several.get(id)?.posix.as_deref(),
        }
    }

    /// Says it, whether it is there or not; under all names. Whether something is there.
    pub(super) fn set_posix(&mut self, path: &[u8], posix: Option<Posix>) -> bool {
        let posix = posix.map(Arc::new);
        match self.places.get_mut(path) {
            None => return false,
            Some(Standing::Own(_, own)) => *own = posix,
            Some(Standing::Several(id)) => {
                let id = *id;
                if let Some(several) = self.several.get_mut(&id) {
                    several.posix = posix;
                }
            }
        }
        true
    }

    /// By path; a file with several names by each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<[u8]>, &Node)> {
        self.places.iter().filter_map(|(path, place)| Some((path, self.at(place)?)))
    }

    /// Each directory and each file once, with one of its paths, by none in particular.
    pub(super) fn each_once(&self) -> impl Iterator<Item = (&Arc<[u8]>, &Node)> {
        let own = self.places.iter().filter_map(|(path, place)| match place {
            Standing::Own(node, _) => Some((path, node)),
            Standing::Several(_) => None,
        });
        own.chain(self.several.values().filter_map(|several| Some((several.names.first()?, &several.node))))
    }

    /// The number of the file at a path, if it has several names.
    pub(super) fn several(&self, path: &[u8]) -> Option<SeveralId> {
        match self.places.get(path)? {
            Standing::Own(..) => None,
            Standing::Several(id) => Some(*id),
        }
    }

    /// All names of such a file.
    pub(super) fn names(&self, id: SeveralId) -> impl Iterator<Item = &Arc<[u8]>> {
        self.several.get(&id).into_iter().flat_map(|several| several.names.iter())
    }

    /// All paths of what stands at a path, which it is of.
    pub(super) fn all_paths<'a>(&'a self, path: &'a Arc<[u8]>) -> impl Iterator<Item = &'a Arc<[u8]>> {
        let several = self.several(path);
        let own = several.is_none().then_some(path);
        own.into_iter().chain(several.into_iter().flat_map(|id| self.names(id)))
    }

    /// How many names what stands at a path has.
    pub(super) fn name_count(&self, path: &[u8]) -> usize {
        match self.several(path).and_then(|id| self.several.get(&id)) {
            Some(several) => several.names.size(),
            None => usize::from(self.places.contains_key(path)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.size()
    }

    /// Puts a node at a path, in place of what may be there, but not a file in place of a directory with
    /// something in it. What was there goes on under other names that it has. Gives what is gone, if all of
    /// it is.
    pub(super) fn insert(&mut self, path: Arc<[u8]>, node: Node) -> Result<Option<Node>, ChangeError> {
        self.check_place(&path, node.is_directory())?;
        let gone = self.take(&path);
        self.places.insert_mut(path, Standing::Own(node, None));
        Ok(gone)
    }

    /// Puts a node in place of the one at a path, under all names that this has. What the system keeps of it
    /// stays.
    pub(super) fn update(&mut self, path: Arc<[u8]>, node: Node) -> Result<(), ChangeError> {
        let Some(id) = self.several(&path) else {
            let posix = self.posix(&path).copied();
            self.insert(Arc::clone(&path), node)?;
            if posix.is_some() {
                self.set_posix(&path, posix);
            }
            return Ok(());
        };
        if let Some(several) = self.several.get_mut(&id) {
            several.node = node;
        }
        Ok(())
    }

    /// Gives the file at a path another name, in place of a file that may be there. Gives what is gone, if
    /// all of it is.
    pub(super) fn link(&mut self, existing: &[u8], path: Arc<[u8]>) -> Result<Option<Node>, ChangeError> {
        let (first, place) = self.places.get_key_value(existing).ok_or(ChangeError::NotFound)?;
        let (first, place) = (Arc::clone(first), place.clone());
        if self.at(&place).is_none_or(Node::is_directory) {
            return Err(ChangeError::IsDirectory);
        }
        self.check_place(&path, false)?;
        if first == path || self.several(existing).is_some_and(|id| self.several(&path) == Some(id)) {
            return Ok(None);
        }
        let gone = self.take(&path);
        let id = match place {
            Standing::Several(id) => id,
            Standing::Own(node, posix) => {
                let id = SeveralId(self.next);
                self.next += 1;
                let names = RedBlackTreeSetSync::new_sync().insert(Arc::clone(&first));
                self.several.insert_mut(id, Several { node, posix, names });
                self.places.insert_mut(first, Standing::Several(id));
                id
            }
        };
        if let Some(several) = self.several.get_mut(&id) {
            several.names.insert_mut(Arc::clone(&path));
        }
        self.places.insert_mut(path, Standing::Several(id));
        Ok(gone)
    }

    /// Takes out what is at a path, and that alone; gives it, unless it has other names.
    fn take(&mut self, path: &[u8]) -> Option<Node> {
        let place = self.places.get(path)?.clone();
        self.places.remove_mut(path);
        let id = match place {
            Standing::Own(node, _) => return Some(node),
            Standing::Several(id) => id,
        };
        let several = self.several.get_mut(&id)?;
        several.names.remove_mut(path);
        if several.names.size() > 1 {
            return None;
        }
        // With one name it stands there.
        let (last, node) = (several.names.first().cloned(), several.node.clone());
        let posix = several.posix.take();
        self.several.remove_mut(&id);
        match last {
            Some(last) => {
                self.places.insert_mut(last, Standing::Own(node, posix));
                None
            }
            None => Some(node),
        }
    }

    /// Whether something can stand at a path, in place of what may be there.
    fn check_place(&self, path: &[u8], is_directory: bool) -> Result<(), ChangeError> {
        path::check_path(path)?;
        match path::split_parent(path).map(|(parent, _)| self.node(parent)) {
            None if is_directory => {}
            None => return Err(ChangeError::IsDirectory),
            Some(Some(Node::Directory(_))) => {}
            Some(Some(_)) => return Err(ChangeError::NotDirectory),
            Some(None) => return Err(self.missing_parent(path)),
        }
        if !is_directory && self.has_children(path) {
            return Err(ChangeError::NotEmpty);
        }
        Ok(())
    }

    /// Whether the nearest thing above that is there is no directory, or nothing is wrong but that some are
    /// missing.
    fn missing_parent(&self, path: &[u8]) -> ChangeError {
        let mut at = path;
        while let Some((parent, _)) = path::split_parent(at) {
            match self.node(parent) {
                Some(Node::Directory(_)) => break,
                Some(_) => return ChangeError::NotDirectory,
                None => at = parent,
            }
        }
        ChangeError::NoParent
    }

    /// Takes away a path and all below; gives what that was.
    pub(super) fn remove(&mut self, path: &[u8]) -> Vec<Gone> {
        let gone = self.from(path).into_iter();
        gone.map(|path| Gone { node: self.take(&path), path }).collect()
    }

    /// Moves what is at a path, and all below, to where nothing is and what is above is a directory; gives
    /// the paths that there are now.
    pub(super) fn move_all(&mut self, from: &[u8], to: &[u8]) -> Vec<Arc<[u8]>> {
        let mut moved = Vec::new();
        for path in self.from(from) {
            let Some(place) = self.places.get(&path).cloned() else { continue };
            let new: Arc<[u8]> = [to, &path[from.len()..]].concat().into();
            self.places.remove_mut(&path);
            if let Standing::Several(id) = place
                && let Some(several) = self.several.get_mut(&id)
            {
                several.names.remove_mut(&path);
                several.names.insert_mut(Arc::clone(&new));
            }
            self.places.insert_mut(Arc::clone(&new), place);
            moved.push(new);
        }
        moved
    }

    /// A path, if something is there, and all below.
    fn from(&self, path: &[u8]) -> Vec<Arc<[u8]>> {
        let here = self.places.get_key_value(path).map(|(path, _)| Arc::clone(path));
        here.into_iter().chain(self.below(path)).collect()
    }

    /// Everything below a directory, directories before what is in them.
    pub(super) fn below(&self, path: &[u8]) -> Vec<Arc<[u8]>> {
        let (from, to) = range_below(path);
        let range = (Bound::Excluded(&from[..]), to.as_deref().map_or(Bound::Unbounded, Bound::Excluded));
        self.places.range::<[u8], _>(range).map(|(path, _)| Arc::clone(path)).collect()
    }

    pub(super) fn has_children(&self, path: &[u8]) -> bool {
        self.first_below(path, Bound::Excluded(&Vec::new())).is_some()
    }

    /// The entries of a directory, by name.
    pub(super) fn children<'a>(
        &'a self,
        path: &'a [u8],
    ) -> impl Iterator<Item = (&'a Arc<[u8]>, &'a Node)> + 'a {
        let prefix_bytes = if path.is_empty() { 0 } else { path.len() + 1 };
        let mut from = Bound::Excluded(Vec::new());
        std::iter::from_fn(move || {
            loop {
                let (key, node) = self.first_below(path, from.as_ref())?;
                let rest = &key[prefix_bytes..];
                match rest.iter().position(|&byte| byte == b'/') {
                    None => {
                        from = Bound::Excluded(rest.to_vec());
                        return Some((key, node));
                    }
                    // Below a directory that was given already. `0` comes next after `/`.
                    Some(slash) => from = Bound::Included([&rest[..slash], b"0"].concat()),
                }
            }
        })
    }

    /// The first path below `path` whose rest lies in the bound.
    fn first_below(&self, path: &[u8], from: Bound<&Vec<u8>>) -> Option<(&Arc<[u8]>, &Node)> {
        let (start, end) = range_below(path);
        let from = from.map(|rest| [&start, &rest[..]].concat());
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let first = self.places.range::<[u8], _>((from.as_ref().map(|from| &from[..]), end)).next();
        first.and_then(|(path, place)| Some((path, self.at(place)?)))
    }
}

/// Bounds of everything below a directory: `path/` to `path0`, since `0` comes next after `/`.
fn range_below(path: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    if path.is_empty() {
        return (Vec::new(), None);
    }
    ([path, b"/"].concat(), Some([path, b"0"].concat()))
}
