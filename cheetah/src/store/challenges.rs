//! A site with challenges of certificate authorities beside it: in a folder, where an ACME client puts them,
//! or in memory, where our own does.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use fsstack::cache::BlockReader;

use super::{Document, Folder, Found, Listed, Made, Store};
use crate::rules::Rules;

/// Where who asks for a certificate has the proof that a name is theirs (RFC 8555 section 8.3).
pub const CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

/// Proofs that are asked for now, by the last part of their path. Shared by all sites and who asks for
/// certificates.
#[derive(Debug, Default)]
pub struct Proofs {
    by_token: RwLock<HashMap<Vec<u8>, Arc<dyn Document>>>,
}

impl Proofs {
    /// Shows `proof` to who asks for `token`, from the second `now` on.
    pub fn show(&self, token: &str, proof: &str, now: u64) {
        let made = Made::new("application/octet-stream", proof.as_bytes().to_vec(), now);
        let mut by_token = self.by_token.write().unwrap_or_else(PoisonError::into_inner);
        by_token.insert(token.as_bytes().to_vec(), Arc::new(made));
    }

    /// Shows none any more.
    pub fn clear(&self) {
        self.by_token.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn find(&self, token: &[u8]) -> Option<Arc<dyn Document>> {
        self.by_token.read().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }
}

/// A store, but for what lies below [`CHALLENGES`]: that is looked for among proofs and in a folder, as they
/// are at that moment, and in the store only if there is no folder.
#[derive(Debug)]
pub struct WithChallenges {
    store: Arc<dyn Store>,
    folder: Option<Arc<Folder>>,
    proofs: Arc<Proofs>,
}

impl WithChallenges {
    /// `store` with the challenges of `folder`, which lie in it below the same path as in a site, and with
    /// `proofs`.
    pub fn new(store: Arc<dyn Store>, folder: Option<Arc<Folder>>, proofs: Arc<Proofs>) -> WithChallenges {
        WithChallenges { store, folder, proofs }
    }
}

impl Store for WithChallenges {
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        let Some(token) = path.strip_prefix(CHALLENGES) else { return self.store.look_up(path, reader) };
        if let Some(proof) = self.proofs.find(token) {
            return Found::File(proof);
        }
        match &self.folder {
            Some(folder) => folder.look_up(path, reader),
            None => self.store.look_up(path, reader),
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
