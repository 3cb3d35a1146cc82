//! What a site says of itself beside its files: the fields of `_headers`, and where `_redirects` sends those who ask.
//!
//! Both are text files in the site's root, as static hosts know them (Netlify's and Cloudflare's documentations; where these
//! differ, or say what a server without their network cannot do, an error names the line). They are not served. Any store
//! has them: they are read when it is opened, and matched when a request comes.
//!
//! ```text
//!   /blog/*            a pattern that ends in `*` is for all that begins with what stands before
//!   /posts/:year/:id   `:name` stands for one segment
//! ```

mod header_fields;
mod pattern;
mod redirects;

use std::fmt;
use std::io;
use std::sync::Arc;

use runtime::payload::Piece;

pub use header_fields::HeaderFields;
pub use redirects::{Outcome, Redirects};

use crate::store::{Document, Found, Listed, Store};

/// Where a site's fields stand.
pub const HEADERS_PATH: &str = "/_headers";

/// Where a site's redirects stand.
pub const REDIRECTS_PATH: &str = "/_redirects";

/// Most bytes of either file.
const MAX_BYTES: u64 = 1 << 20;

/// All that a site says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Fields of responses.
    pub headers: HeaderFields,
    /// What is answered instead of what is asked for.
    pub redirects: Redirects,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The file's path in the site.
    pub path: &'static str,
    /// Counted from 1; 0 if it is the file as a whole.
    pub line: usize,
    /// What to write instead.
    pub message: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RuleError { path, line, message } = self;
        match line {
            0 => write!(f, "{path}: {message}"),
            _ => write!(f, "{path}, line {line}: {message}"),
        }
    }
}

impl core::error::Error for RuleError {}

impl Rules {
    /// The rules of these two texts.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn parse(headers: &str, redirects: &str) -> Result<Rules, RuleError> {
        let error = |path| move |(line, message)| RuleError { path, line, message };
        Ok(Rules {
            headers: HeaderFields::parse(headers).map_err(error(HEADERS_PATH))?,
            redirects: Redirects::parse(redirects).map_err(error(REDIRECTS_PATH))?,
        })
    }

    /// The rules that stand in `store`; none if it has none.
    ///
    /// # Errors
    /// If a file of them cannot be read or has a line that is no rule.
    pub fn of_store(store: &dyn Store) -> Result<Rules, RuleError> {
        Rules::parse(&text(store, HEADERS_PATH)?, &text(store, REDIRECTS_PATH)?)
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.redirects.is_empty()
    }

    /// No rules.
    pub fn none() -> &'static Rules {
        static NONE: Rules = Rules { headers: HeaderFields::NONE, redirects: Redirects::NONE };
        &NONE
    }
}

/// What stands at `path`; nothing if that is no file.
fn text(store: &dyn Store, path: &'static str) -> Result<String, RuleError> {
    let error = |message: String| RuleError { path, line: 0, message };
    let document = match store.find(path.as_bytes()) {
        Found::File(document) => document,
        Found::Failed(_) => return Err(error("it cannot be opened".to_owned())),
        Found::Growing(_) | Found::Directory | Found::Nothing => return Ok(String::new()),
    };
    let size = document.facts().size;
    if size > MAX_BYTES {
        return Err(error(format!("it has {size} bytes, but at most {MAX_BYTES} are read")));
    }
    let bytes = contents(&*document, size).map_err(|reason| error(reason.to_string()))?;
    String::from_utf8(bytes).map_err(|_| error("it is no UTF-8".to_owned()))
}

fn contents(document: &dyn Document, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let at = bytes.len() as u64;
        match document.resident(at, (size - at) as usize) {
            Some(Piece { bytes: more, .. }) => bytes.extend_from_slice(more),
            None => bytes.extend_from_slice(document.fetch(at)?.bytes()),
        }
    }
    bytes.truncate(size as usize);
    Ok(bytes)
}

/// A store with the rules that stand in it, whose files cannot be asked for.
#[derive(Debug)]
pub struct WithRules {
    store: Arc<dyn Store>,
    rules: Rules,
}

impl WithRules {
    /// `store` by its rules.
    ///
    /// # Errors
    /// As [`Rules::of_store`].
    pub fn new(store: Arc<dyn Store>) -> Result<WithRules, RuleError> {
        let rules = Rules::of_store(&*store)?;
        Ok(WithRules { store, rules })
    }
}

impl Store for WithRules {
    fn find(&self, path: &[u8]) -> Found {
        if path == HEADERS_PATH.as_bytes() || path == REDIRECTS_PATH.as_bytes() {
            return Found::Nothing;
        }
        self.store.find(path)
    }

    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        let mut listed = self.store.list(path)?;
        if path == b"/"
            && let Some(listed) = &mut listed
        {
            let hidden = [HEADERS_PATH, REDIRECTS_PATH].map(|path| &path.as_bytes()[1..]);
            listed.retain(|listed| !hidden.contains(&&listed.name[..]));
        }
        Ok(listed)
    }

    fn rules(&self) -> &Rules {
        &self.rules
    }
}
