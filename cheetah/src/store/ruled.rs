//! What a site says of itself, read from its store: files that are not served.

use std::io;
use std::sync::Arc;

use fsstack::cache::BlockReader;
use runtime::payload::Piece;

use super::{Document, Found, Listed, Store};
use crate::rules::{HEADERS_PATH, MediaType, REDIRECTS_PATH, RuleError, Rules};

/// Most bytes of either file.
const MAX_BYTES: u64 = 1 << 20;

impl Rules {
    /// The rules that stand in `store`; none if it has none.
    ///
    /// # Errors
    /// If a file of them cannot be read or has a line that is no rule.
    pub fn of_store(store: &dyn Store) -> Result<Rules, RuleError> {
        Rules::parse(&text(store, HEADERS_PATH)?, &text(store, REDIRECTS_PATH)?)
    }
}

/// What stands at `path`; nothing if that is no file.
fn text(store: &dyn Store, path: &'static str) -> Result<String, RuleError> {
    let error = |message: String| RuleError { path, line: 0, message };
    let document = match store.find(path.as_bytes()) {
        Found::File(document) => document,
        Found::Failed(_) => return Err(error("it cannot be opened".to_owned())),
        Found::Growing(_) | Found::Directory | Found::Nothing | Found::Later => return Ok(String::new()),
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

    /// The same with media types by endings, where `_headers` says nothing.
    #[must_use]
    pub fn with_types(mut self, types: &[MediaType]) -> WithRules {
        self.rules.headers.set_types(types);
        self
    }
}

impl Store for WithRules {
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        if path == HEADERS_PATH.as_bytes() || path == REDIRECTS_PATH.as_bytes() {
            return Found::Nothing;
        }
        self.store.look_up(path, reader)
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
