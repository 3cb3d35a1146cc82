//! A depot in a bucket of S3 or what speaks like it. Who we are comes from the environment, as other programs
//! of S3 have it (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, ..).

use std::fmt;
use std::io;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig, UpdateVersion,
};
use tokio::runtime::Runtime;

use super::{Depot, MAX_POINTER_BYTES, Pointer, Stored};

/// Objects below a prefix of a bucket.
pub(super) struct S3Depot {
    store: AmazonS3,
    prefix: Path,
    /// Carries its calls, which our threads wait for.
    runtime: Runtime,
}

impl fmt::Debug for S3Depot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Depot").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl S3Depot {
    /// The depot at `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// If the address or the environment says nothing sensible.
    pub(super) fn open(url: &str) -> io::Result<S3Depot> {
        // Its client takes the process's.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let prefix = url.trim_start_matches("s3://").split_once('/').map_or("", |(_, prefix)| prefix);
        // A server that has an image waits no longer than this for a bucket that is away; it asks again by
        // itself.
        let retry =
            RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() };
        let store = AmazonS3Builder::from_env().with_url(url).with_retry(retry).build();
        let store = store.map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(S3Depot { store, prefix: Path::from(prefix), runtime })
    }

    fn at(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// The object and its version.
    fn read(&self, name: &str, max_bytes: u64) -> io::Result<Option<(Vec<u8>, Option<String>)>> {
        self.runtime.block_on(async {
            let got = match self.store.get(&self.at(name)).await {
                Err(Error::NotFound { .. }) => return Ok(None),
                other => other.map_err(io::Error::other)?,
            };
            if got.meta.size > max_bytes {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let version = got.meta.e_tag.clone();
            let bytes = got.bytes().await.map_err(io::Error::other)?;
            Ok(Some((bytes.to_vec(), version)))
        })
    }
}

impl Depot for S3Depot {
    fn get(&self, name: &str, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.read(name, max_bytes)?.map(|(bytes, _)| bytes))
    }

    fn has(&self, name: &str) -> io::Result<bool> {
        match self.runtime.block_on(self.store.head(&self.at(name))) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.at(name);
        let put = self.store.put(&path, bytes.to_vec().into());
        self.runtime.block_on(put).map(drop).map_err(io::Error::other)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<Stored>> {
        let listed = self.runtime.block_on(self.store.list_with_delimiter(Some(&self.at(folder))));
        let objects = listed.map_err(io::Error::other)?.objects;
        let stored = objects.into_iter().filter_map(|object| {
            let name = object.location.filename()?.to_owned();
            Some(Stored { name, modified: object.last_modified.into(), bytes: object.size })
        });
        Ok(stored.collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match self.runtime.block_on(self.store.delete(&self.at(name))) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn pointer(&self) -> io::Result<Option<Pointer>> {
        let read = self.read("current", MAX_POINTER_BYTES)?;
        Ok(read.map(|(bytes, version)| Pointer { bytes, version }))
    }

    fn set_pointer(&self, bytes: &[u8], old: Option<&Pointer>) -> io::Result<bool> {
        let mode = match old {
            None => PutMode::Create,
            Some(old) => PutMode::Update(UpdateVersion { e_tag: old.version.clone(), version: None }),
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        let path = self.at("current");
        let put = self.store.put_opts(&path, bytes.to_vec().into(), options);
        match self.runtime.block_on(put) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}
