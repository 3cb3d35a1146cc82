//! A site with a folder for challenges of certificate authorities, which comes and goes beside it.

use std::io;
use std::sync::Arc;

use fsstack::cache::BlockReader;

use super::{Folder, Found, Listed, Store};
use crate::rules::Rules;

/// Where who asks for a certificate has the proof that a name is theirs (RFC 8555 section 8.3).
pub const CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

/// A store, but for what lies below [`CHALLENGES`]: that is looked for in a folder, as it is at that moment.
#[derive(Debug)]
pub struct WithChallenges {
    store: Arc<dyn Store>,
    folder: Arc<Folder>,
}

impl WithChallenges {
    /// `store` with the challenges of `folder`, which lie in it below the same path as in a site.
    pub fn new(store: Arc<dyn Store>, folder: Arc<Folder>) -> WithChallenges {
        WithChallenges { store, folder }
    }
}

impl Store for WithChallenges {
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        if path.starts_with(CHALLENGES) {
            self.folder.look_up(path, reader)
        } else {
            self.store.look_up(path, reader)
        }
    }

    fn list(&self, path: &[u8]) -> io::Result<Option<Vec<Listed>>> {
        // What lies among the challenges is nobody's business.
        if path.starts_with(CHALLENGES) { Ok(None) } else { self.store.list(path) }
    }

    fn rules(&self) -> &Rules {
        self.store.rules()
    }
}
