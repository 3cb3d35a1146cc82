//! What a site says of itself beside its files: the fields of `_headers`, and where `_redirects` sends those
//! who ask.
//!
//! Both are text files in the site's root, as static hosts know them (Netlify's and Cloudflare's
//! documentations; where these differ, or say what a server without their network cannot do, an error names
//! the line). They are not served. Any store has them: they are read when it is opened, and matched when a
//! request comes.
//!
//! ```text
//!   /blog/*            a pattern that ends in `*` is for all that begins with what stands before
//!   /posts/:year/:id   `:name` stands for one segment
//! ```

mod header_fields;
mod pattern;
mod redirects;

use std::fmt;

pub use header_fields::{HeaderFields, MediaType};
pub use redirects::{Outcome, Redirects};

/// Where a site's fields stand.
pub const HEADERS_PATH: &str = "/_headers";

/// Where a site's redirects stand.
pub const REDIRECTS_PATH: &str = "/_redirects";

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
