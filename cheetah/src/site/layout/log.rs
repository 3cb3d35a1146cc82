//! What was asked for most, first.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use rustc_hash::FxHashMap;

use super::{Group, Layout};
use crate::http::target;
use crate::site::pack::Tree;
use crate::store::INDEX_NAME;

/// By an access log (`--access-log`, `combined` or `json`): what was asked for most lies first, so that what is asked for
/// lies in few blocks.
#[derive(Clone, Debug)]
pub struct ByLog {
    log: PathBuf,
}

impl ByLog {
    /// By the log at `path`.
    pub fn new(path: &Path) -> ByLog {
        ByLog { log: path.into() }
    }
}

impl Layout for ByLog {
    fn groups(&self, tree: &Tree) -> io::Result<Vec<Group>> {
        let places = tree.places();
        let mut counts: FxHashMap<usize, u64> = FxHashMap::default();
        let mut scratch = Vec::new();
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.log.display()));
        for line in BufReader::new(File::open(&self.log).map_err(named)?).split(b'\n') {
            let line = line.map_err(named)?;
            let Some(target) = target_of(&line) else { continue };
            let Ok(resource) = target::resolve(&target, &mut scratch) else { continue };
            let path = resource.path.strip_prefix(b"/").unwrap_or(resource.path);
            let index = if path.is_empty() || path.ends_with(b"/") { INDEX_NAME } else { b"" };
            if let Some(&item) = places.get(&[path, index].concat()[..]) {
                *counts.entry(item).or_default() += 1;
            }
        }
        let mut files: Vec<(usize, u64)> = counts.into_iter().collect();
        files.sort_by_key(|&(item, count)| (std::cmp::Reverse(count), item));
        let files = files.into_iter().map(|(item, _)| item).collect();
        Ok(vec![Group { files, is_wanted_together: false }])
    }
}

/// What a line says was asked for: in JSON a field, else the second word of what stands in the first quotes.
fn target_of(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    if line.starts_with('{') {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        return line.get("target")?.as_str().map(str::to_owned);
    }
    line.split('"').nth(1)?.split(' ').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_kinds_are_read() {
        let combined =
            br#"::1 - - [01/Jan/2026:00:00:00 +0000] "GET /a%20b.html?x HTTP/1.1" 200 5 "-" "curl""#;
        assert_eq!(target_of(combined), Some("/a%20b.html?x".to_owned()));
        assert_eq!(target_of(br#"{"time":"x","target":"/a\"b"}"#), Some("/a\"b".to_owned()));
        for nothing in [&b""[..], b"no quotes", b"{}", b"\"GET\"", b"\xff\"GET /a\""] {
            assert_eq!(target_of(nothing), None);
        }
    }
}
