//! In which order files go into an image: what is given together lies together, and may be read together.
//!
//! ```text
//!   ByName     a.html  b.html  logo.png  x.png          every image lies with its neighbours in the alphabet
//!   HtmlGroups a.html  logo.png  x.png │ b.html          a page, and what a browser asks for when it has it
//! ```
//!
//! One of one's own is [`Layout::groups`].

mod html;
mod log;
mod size;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

pub use html::HtmlGroups;
pub use log::ByLog;
pub use size::BySize;

use rustc_hash::FxHashMap;

use super::pack::Tree;
use crate::http::coding::Coding;

/// Files that are to lie together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Their places in [`Tree::items`], in order.
    pub files: Vec<usize>,
    /// Who asks for the first will ask for the others: when it is read, all are, up to the end of the last.
    pub is_wanted_together: bool,
}

/// Decides what lies together.
pub trait Layout: fmt::Debug + Send + Sync {
    /// The groups, in the order in which they lie. A file that is in none follows behind them, by name; of
    /// one that is in several the first counts.
    ///
    /// # Errors
    /// If something that this depends on cannot be read.
    fn groups(&self, tree: &Tree) -> io::Result<Vec<Group>>;
}

/// By name: folder by folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByName;

impl Layout for ByName {
    fn groups(&self, _tree: &Tree) -> io::Result<Vec<Group>> {
        Ok(Vec::new())
    }
}

/// A layout chosen when the program runs.
#[derive(Clone, Debug, Default)]
pub enum LayoutName {
    /// [`ByName`].
    #[default]
    Name,
    /// [`HtmlGroups`].
    Html,
    /// [`BySize`].
    Size,
    /// [`ByLog`].
    Log(PathBuf),
    /// The application's own.
    Own(Arc<dyn Layout>),
}

impl LayoutName {
    /// The layout.
    pub fn layout(&self) -> Arc<dyn Layout> {
        match self {
            LayoutName::Name => Arc::new(ByName),
            LayoutName::Html => Arc::new(HtmlGroups),
            LayoutName::Size => Arc::new(BySize),
            LayoutName::Log(path) => Arc::new(ByLog::new(path)),
            LayoutName::Own(layout) => Arc::clone(layout),
        }
    }
}

impl FromStr for LayoutName {
    type Err = String;

    fn from_str(text: &str) -> Result<LayoutName, String> {
        match text.split_once('=') {
            Some(("log", path)) if !path.is_empty() => Ok(LayoutName::Log(path.into())),
            None if text == "name" => Ok(LayoutName::Name),
            None if text == "html" => Ok(LayoutName::Html),
            None if text == "size" => Ok(LayoutName::Size),
            _ => Err("there are name, html, size and log=FILE, an access log".to_owned()),
        }
    }
}

/// Every item of a tree once, in the order in which they go into the image; with a group's first file, where
/// the group ends. A file comes before what it is in other codings, which are typed by it.
pub(super) fn order(tree: &Tree, groups: Vec<Group>) -> Vec<Placed> {
    let places = if groups.is_empty() { FxHashMap::default() } else { tree.places() };
    let plain_of = |item: usize| {
        let path = &tree.items[item].path[..];
        Coding::ALL
            .into_iter()
            .find_map(|coding| places.get(path.strip_suffix(coding.suffix().as_bytes())?).copied())
    };
    let mut is_placed = vec![false; tree.items.len()];
    let mut order = Vec::with_capacity(tree.items.len());
    for Group { files, is_wanted_together } in groups {
        let mut first = None;
        for item in files {
            if tree.items.get(item).is_none_or(|item| item.is_directory) {
                continue;
            }
            for item in plain_of(item).into_iter().chain([item]) {
                if !std::mem::replace(&mut is_placed[item], true) {
                    order.push(Placed { item, ends_group_of: None });
                    first.get_or_insert(item);
                }
            }
        }
        if is_wanted_together && let (Some(first), Some(last)) = (first, order.last_mut()) {
            last.ends_group_of = Some(first);
        }
    }
    let rest = (0..tree.items.len()).filter(|&item| !is_placed[item]);
    order.extend(rest.map(|item| Placed { item, ends_group_of: None }));
    order
}

/// An item in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its place in [`Tree::items`].
    pub(super) item: usize,
    /// Who asks for that one is given all to the end of this one.
    pub(super) ends_group_of: Option<usize>,
}
