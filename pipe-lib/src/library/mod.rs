//! A library of pipes: the standard ones and those that the caller loads, and pipelines made of them.
//!
//! No IO is done here: texts are handed in, and what a `use` names is asked of the caller.

mod catalogue;
mod load;
mod resolve;
mod test_case;

pub use catalogue::{CatalogueCrc, catalogue};
pub use load::Fetched;
pub use test_case::{Expectation, TestBytes, TestCase};

use crate::check::Findings;
use crate::diagnostic::{Code, Diagnostics};
use crate::digest;
use crate::ir::{Frame, Layout, Pipe};
use crate::pipeline::Pipeline;
use crate::source::{Sources, Span};
use crate::syntax::{ast, parse};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

/// The standard pipes: name of the file and text, in the order in which they are listed. No path of a user's
/// is like these names, so that a file `std/crc.pipe` of his own is not taken for the standard one.
pub const STANDARD_FILES: &[(&str, &str)] = &[
    ("<std/checksum.pipe>", include_str!("../std/checksum.pipe")),
    ("<std/crc.pipe>", include_str!("../std/crc.pipe")),
    ("<std/cipher.pipe>", include_str!("../std/cipher.pipe")),
    ("<std/hash.pipe>", include_str!("../std/hash.pipe")),
    ("<std/order.pipe>", include_str!("../std/order.pipe")),
    ("<std/mask.pipe>", include_str!("../std/mask.pipe")),
    ("<std/scramble.pipe>", include_str!("../std/scramble.pipe")),
    ("<std/text.pipe>", include_str!("../std/text.pipe")),
    ("<std/count.pipe>", include_str!("../std/count.pipe")),
    ("<std/delta.pipe>", include_str!("../std/delta.pipe")),
    ("<std/frame.pipe>", include_str!("../std/frame.pipe")),
    ("<std/device.pipe>", include_str!("../std/device.pipe")),
    #[cfg(feature = "digests")]
    ("<std/digest.pipe>", include_str!("../std/digest.pipe")),
];

/// Pipes, layouts and pipelines by name. Cheap to clone; a clone that loads more leaves the other as it is.
///
/// ```
/// let mut lib = pipe_lib::Library::standard();
/// lib.load("mine.pipe", "pipe invert : u64le tail partial { in x; not y, x; out y }")?;
/// let pipeline = lib.pipeline("inet_cksum as plain | invert | inet_cksum as inverted")?;
/// assert_eq!(pipeline.composition().stages.len(), 3);
/// # Ok::<(), pipe_lib::Diagnostics>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Library {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    sources: Sources,
    /// Where each name is declared: pipes, layouts and pipelines share one space of names.
    names: BTreeMap<String, Span>,
    pipes: BTreeMap<String, Arc<Pipe>>,
    layouts: BTreeMap<String, Arc<Layout>>,
    frames: BTreeMap<String, Arc<Frame>>,
    pipelines: BTreeMap<String, Arc<NamedPipeline>>,
    /// Names of items with a mistake, while a text is loaded that has some: nothing is said of what names
    /// them.
    broken: HashSet<String>,
    /// Whether names that nothing declares may be of the catalogue of CRCs, and of the digests.
    has_catalogue: bool,
    tests: Vec<Arc<TestCase>>,
}

/// A `pipeline` item: resolved again wherever it is used, since its parameters differ.
#[derive(Clone, Debug)]
pub struct NamedPipeline {
    /// Its name.
    pub name: String,
    /// Documentation comment, without the slashes.
    pub doc: String,
    /// Its parameters.
    pub params: Vec<crate::ir::Param>,
    /// What follows the equals sign, as written.
    pub text: String,
    value: ast::Spanned<ast::PipelineExpr>,
}

impl Library {
    /// The standard pipes and layouts, which are parsed once in a process, and by name the CRCs of the
    /// [`catalogue()`] and the digests of other crates ([`DigestKind::ALL`](crate::digest::DigestKind::ALL)).
    pub fn standard() -> Library {
        static STANDARD: OnceLock<Library> = OnceLock::new();
        let make = || {
            let mut library = Library::published();
            for (name, text) in STANDARD_FILES {
                // A mistake in the library's own text is found by the tests; what loads is still of use.
                if let Err(diagnostics) = library.load(name, text) {
                    debug_assert!(false, "{diagnostics}");
                }
            }
            library
        };
        STANDARD.get_or_init(make).clone()
    }

    /// The catalogue of CRCs and the digests alone, which standard pipes may name.
    fn published() -> Library {
        Library { inner: Arc::new(Inner { has_catalogue: true, ..Inner::default() }) }
    }

    /// A library without anything in it.
    pub fn empty() -> Library {
        Library::default()
    }

    /// Adds the items of a source text. On an error nothing is added.
    ///
    /// # Errors
    /// What is wrong with the text. A `use` of a file that is not loaded yet is an error here: see
    /// [`Library::load_with`].
    pub fn load(&mut self, name: &str, text: &str) -> Result<(), Diagnostics> {
        let known: Vec<String> = self.sources().iter().map(|(_, source)| source.name.clone()).collect();
        let nowhere = |_: &str, path: &str| match known.iter().any(|name| name == path) {
            true => Ok(Fetched { name: path.to_string(), text: String::new() }),
            false => Err("this program does not open files".to_string()),
        };
        self.load_with(name, text, nowhere).map(|_| ())
    }

    /// Adds the items of a source text and of the files that it uses, directly or not; gives the warnings.
    ///
    /// `fetch(from, path)` is asked for what `use "path"` in the file `from` names. Files are known by the
    /// name that it gives and are loaded once, so files may use each other; of a name that is loaded already
    /// the text is not looked at.
    ///
    /// # Errors
    /// What is wrong with the texts; then nothing is added.
    pub fn load_with(
        &mut self,
        name: &str,
        text: &str,
        mut fetch: impl FnMut(&str, &str) -> Result<Fetched, String>,
    ) -> Result<Diagnostics, Diagnostics> {
        let mut inner = Inner::clone(&self.inner);
        let findings = load::load(&mut inner, name, text, &mut fetch);
        let wrong = findings.has_errors();
        let diagnostics = Diagnostics::new(findings.into_list(), inner.sources.clone());
        if wrong {
            return Err(diagnostics);
        }
        self.inner = Arc::new(inner);
        Ok(diagnostics)
    }

    /// Composes a pipeline: `"inet_cksum as sum | xor32(key=0x1) | crc32c -> lance"`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn pipeline(&self, text: &str) -> Result<Pipeline, Diagnostics> {
        let mut sources = self.inner.sources.clone();
        let file = sources.add("<pipeline>", text);
        let parsed = parse::parse_pipeline(file, text);
        let mut findings = Findings::new(parsed.errors);
        let mut pipeline = None;
        if !findings.has_errors() {
            let span = Span::new(file, 0, text.len() as u32);
            pipeline = resolve::resolve(&self.inner, &parsed.tree, span, &mut findings);
        }
        match pipeline {
            Some(pipeline) if !findings.has_errors() => Ok(pipeline),
            _ => Err(Diagnostics::new(findings.into_list(), sources)),
        }
    }

    /// The pipe of that name: one that was loaded, or else a CRC of the [`catalogue()`] or a digest of
    /// another crate.
    pub fn pipe(&self, name: &str) -> Option<&Arc<Pipe>> {
        self.inner.pipe(name)
    }

    /// The layout of that name.
    pub fn layout(&self, name: &str) -> Option<&Arc<Layout>> {
        self.inner.layouts.get(name)
    }

    /// All pipes that were loaded, in the order of their names.
    pub fn pipes(&self) -> impl Iterator<Item = &Arc<Pipe>> {
        self.inner.pipes.values()
    }

    /// All layouts in the order of their names.
    pub fn layouts(&self) -> impl Iterator<Item = &Arc<Layout>> {
        self.inner.layouts.values()
    }

    /// The frame of that name.
    pub fn frame(&self, name: &str) -> Option<&Arc<Frame>> {
        self.inner.frames.get(name)
    }

    /// All frames in the order of their names.
    pub fn frames(&self) -> impl Iterator<Item = &Arc<Frame>> {
        self.inner.frames.values()
    }

    /// All named pipelines in the order of their names.
    pub fn pipelines(&self) -> impl Iterator<Item = &NamedPipeline> {
        self.inner.pipelines.values().map(|pipeline| &**pipeline)
    }

    /// All `test` items in the order of the sources.
    pub fn tests(&self) -> impl Iterator<Item = &TestCase> {
        self.inner.tests.iter().map(|test| &**test)
    }

    /// The texts that were loaded.
    pub fn sources(&self) -> &Sources {
        &self.inner.sources
    }
}

impl Inner {
    fn pipe(&self, name: &str) -> Option<&Arc<Pipe>> {
        let loaded = self.pipes.get(name);
        // What has a mistake is not taken for another.
        let published = || {
            (self.has_catalogue && !self.names.contains_key(name))
                .then(|| catalogue::pipe(name).or_else(|| digest::pipe(name)))
        };
        loaded.or_else(|| published().flatten())
    }
}

/// A diagnostic of the pipeline on `Code::UnknownStage` says this of names that the library has.
fn kind_of(inner: &Inner, name: &str) -> Option<&'static str> {
    if inner.pipes.contains_key(name) {
        Some("pipe")
    } else if inner.pipelines.contains_key(name) {
        Some("pipeline")
    } else if inner.layouts.contains_key(name) {
        Some("layout")
    } else if inner.frames.contains_key(name) {
        Some("frame")
    } else {
        None
    }
}

/// Shown where a name is declared twice.
const DUPLICATE: Code = Code::DuplicateItem;

#[cfg(test)]
mod tests;
