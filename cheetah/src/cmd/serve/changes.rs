//! What `serve` does about changes: takes files that clients put, and follows what other processes write.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use cheetah::depot::{self, Pulled, Puller};
use cheetah::server::Follow;
use cheetah::store::{FolderWriter, Store};
use cheetah::upload::{Committer, Tokens, UploadLimits, Uploads};

use super::super::Usage;
use super::super::source::{Bytes, Source};

/// Options of it.
#[derive(Debug, clap::Args)]
pub(super) struct Changes {
    /// Let clients with a token put and delete files of the image, which is made if it is not there, or of
    /// the folder with
    /// --store folder: done is what is on the disk, and then at once seen by all
    #[arg(long, requires = "token_file")]
    writable: bool,
    /// Who may: one token a line, to be sent as `Authorization: Bearer TOKEN`; read again at SIGHUP
    #[arg(long, value_name = "FILE", requires = "writable")]
    token_file: Option<PathBuf>,
    /// The largest file that is taken, as in 64M (the default)
    #[arg(long, value_name = "BYTES", requires = "writable")]
    max_upload: Option<Bytes>,
    /// Memory for files on their way to the disk, as in 256M (the default); clients are told to come again
    /// when it is full
    #[arg(long, value_name = "BYTES", requires = "writable")]
    upload_memory: Option<Bytes>,
    /// Look every so many seconds whether another process has changed or replaced the image, and take it up
    /// as at SIGHUP
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400), conflicts_with = "writable")]
    follow: Option<u64>,
    /// Keep the image as it is published there (`cheetah publish`): pull what it lacks when the server
    /// starts, and whenever
    /// another is published, which is looked for every --follow seconds (5)
    #[arg(long, value_name = "URL", conflicts_with = "writable")]
    from: Option<String>,
}

/// How often is looked for what is published, unless said otherwise.
const PULL_SECONDS: u64 = 5;

/// A site that takes files.
pub(super) struct Taking {
    pub(super) site: Arc<dyn Store>,
    pub(super) uploads: Arc<Uploads>,
    committer: Committer,
    token_file: PathBuf,
}

impl Changes {
    /// Where the tokens of those are who may.
    pub(super) fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    /// Whether clients may put files.
    pub(super) fn takes_files(&self) -> bool {
        self.writable
    }

    /// Opens what is to be changed, if it is.
    pub(super) fn open(&self, source: &Source) -> anyhow::Result<Option<Taking>> {
        let Some(token_file) = self.token_file.as_ref().filter(|_| self.writable) else { return Ok(None) };
        let tokens = load(token_file)?;
        let mut limits = UploadLimits { dotfiles: source.dotfiles(), ..UploadLimits::default() };
        if let Some(Bytes(bytes)) = self.upload_memory {
            limits.memory_bytes = bytes;
            limits.file_bytes = limits.file_bytes.min(bytes);
        }
        if let Some(Bytes(bytes)) = self.max_upload {
            limits.file_bytes = bytes;
        }
        if limits.file_bytes > limits.memory_bytes {
            bail!(Usage(
                "--max-upload is more than --upload-memory, which has to hold a file: give that more"
                    .to_owned()
            ));
        }
        let (site, committer): (Arc<dyn Store>, Committer) = if source.is_folder() {
            let folder = source.open_folder()?;
            let writer = FolderWriter::new(Arc::clone(&folder))
                .with_context(|| format!("{} cannot be changed", source.path().display()))?;
            (folder, Committer::start(writer)?)
        } else {
            let writer = source.open_to_write()?;
            (writer.site(), Committer::start(writer)?)
        };
        let uploads = Arc::new(Uploads::new(&committer, tokens, limits));
        Ok(Some(Taking { site, uploads, committer, token_file: token_file.clone() }))
    }

    /// Where the image is published, if it is pulled.
    pub(super) fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// Pulls the image that is published, and goes on doing so. What cannot be pulled is no error if there is
    /// an older one.
    pub(super) fn pull(&self, source: &Source) -> anyhow::Result<Option<Puller>> {
        let Some(url) = &self.from else { return Ok(None) };
        let path = source.path();
        if !source.is_given() || source.is_folder() || source.is_directory() {
            bail!(Usage(
                "--from keeps an image as it is published: name the file, as in `cheetah serve /var/lib/site.img --from URL`"
                    .to_owned()
            ));
        }
        let depot = depot::open(url).with_context(|| format!("--from {url}"))?;
        let has = match depot::pull(&*depot, path, &AtomicBool::new(false)) {
            Ok(Pulled { image, bytes, fetched_bytes, .. }) => {
                tracing::info!(
                    "{} is {image} now, {bytes} bytes, {fetched_bytes} of them fetched",
                    path.display()
                );
                Some(image)
            }
            Err(error) if path.is_file() => {
                tracing::warn!("{} is served as it is: {url}: {error}", path.display());
                None
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("--from {url}: {} cannot be pulled", path.display()));
            }
        };
        let period = Duration::from_secs(self.follow.unwrap_or(PULL_SECONDS));
        Ok(Some(Puller::start(depot, path.to_path_buf(), period, has)?))
    }

    /// How the image is followed, if it is.
    pub(super) fn follow(&self, source: &Source) -> anyhow::Result<Option<Follow>> {
        let seconds = match (&self.from, self.follow) {
            // What is pulled is taken up at once.
            (Some(_), _) => 1,
            (None, Some(seconds)) => seconds,
            (None, None) => return Ok(None),
        };
        if source.is_folder() || source.is_directory() {
            bail!(Usage(
                "--follow is for images: a folder is packed once, and with --store folder always seen as it is".to_owned()
            ));
        }
        let path = source.path().to_path_buf();
        let mut seen = fsstack::log::stamp(&path).ok();
        let look = move || match fsstack::log::stamp(&path) {
            // What is half written, or gone for a moment, is looked at again.
            Err(_) => false,
            Ok(now) => seen.replace(now) != Some(now),
        };
        Ok(Some(Follow { period: Duration::from_secs(seconds), look: Box::new(look) }))
    }
}

impl Taking {
    /// Reads the tokens again.
    pub(super) fn reload(&self) {
        match load(&self.token_file) {
            Ok(tokens) => self.uploads.set_tokens(tokens),
            Err(error) => tracing::error!("the old tokens stay: {error:#}"),
        }
    }

    /// Waits until everything that came is on the disk.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        Ok(self.committer.finish()?)
    }
}

fn load(file: &Path) -> anyhow::Result<Tokens> {
    use std::os::unix::fs::PermissionsExt;
    let tokens = Tokens::load(file).with_context(|| format!("--token-file {}", file.display()))?;
    if std::fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
        tracing::warn!("others than its owner can read {}: `chmod 600` it", file.display());
    }
    Ok(tokens)
}
