//! Small files first.

use std::io;

use super::{Group, Layout};
use crate::site::pack::Tree;

/// By size, small ones first: more files that are asked for lie in as many blocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct BySize;

impl Layout for BySize {
    fn groups(&self, tree: &Tree) -> io::Result<Vec<Group>> {
        let mut files: Vec<usize> = tree.files().map(|(place, _)| place).collect();
        files.sort_by_key(|&item| tree.items[item].size);
        Ok(vec![Group { files, is_wanted_together: false }])
    }
}
