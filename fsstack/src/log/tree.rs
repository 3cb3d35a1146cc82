//! The tree of one generation: nodes by path. A clone shares everything that is not changed afterwards.

use super::error::ChangeError;
use super::node::Node;
use crate::image::build::Mtime;
use crate::path;
use rpds::RedBlackTreeMapSync;
use std::ops::Bound;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// By whole path; the root is there always. A directory stands before what is in it, though not all of that next to it:
    /// `a`, `a-b`, `a/c`.
    nodes: RedBlackTreeMapSync<Arc<[u8]>, Node>,
}

impl Tree {
    pub(super) fn new() -> Tree {
        let mut nodes = RedBlackTreeMapSync::new_sync();
        nodes.insert_mut(Arc::from(&[][..]), Node::Directory(Mtime::default()));
        Tree { nodes }
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<(&Arc<[u8]>, &Node)> {
        self.nodes.get_key_value(path)
    }

    pub(super) fn node(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(path)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<[u8]>, &Node)> {
        self.nodes.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.size()
    }

    /// Puts a node at a path, in place of what may be there, but not a file in place of a directory with something in it.
    pub(super) fn insert(&mut self, path: Arc<[u8]>, node: Node) -> Result<(), ChangeError> {
        path::check_path(&path)?;
        match path::split_parent(&path).map(|(parent, _)| self.node(parent)) {
            None if node.is_directory() => {}
            None => return Err(ChangeError::IsDirectory),
            Some(Some(Node::Directory(_))) => {}
            Some(Some(_)) => return Err(ChangeError::NotDirectory),
            Some(None) => return Err(self.missing_parent(&path)),
        }
        if !node.is_directory() && self.has_children(&path) {
            return Err(ChangeError::NotEmpty);
        }
        self.nodes.insert_mut(path, node);
        Ok(())
    }

    /// Whether the nearest thing above that is there is no directory, or nothing is wrong but that some are missing.
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
    pub(super) fn remove(&mut self, path: &[u8]) -> Vec<(Arc<[u8]>, Node)> {
        let mut gone = self.below(path);
        if let Some((path, node)) = self.get(path) {
            gone.insert(0, (Arc::clone(path), node.clone()));
        }
        for (path, _) in &gone {
            self.nodes.remove_mut(&**path);
        }
        gone
    }

    /// Everything below a directory, directories before what is in them.
    pub(super) fn below(&self, path: &[u8]) -> Vec<(Arc<[u8]>, Node)> {
        let (from, to) = range_below(path);
        let range = (Bound::Excluded(&from[..]), to.as_deref().map_or(Bound::Unbounded, Bound::Excluded));
        self.nodes.range::<[u8], _>(range).map(|(path, node)| (Arc::clone(path), node.clone())).collect()
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
        self.nodes.range::<[u8], _>((from.as_ref().map(|from| &from[..]), end)).next()
    }
}

/// Bounds of everything below a directory: `path/` to `path0`, since `0` comes next after `/`.
fn range_below(path: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    if path.is_empty() {
        return (Vec::new(), None);
    }
    ([path, b"/"].concat(), Some([path, b"0"].concat()))
}
