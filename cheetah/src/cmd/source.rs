//! What is served: a folder as it lies, a folder packed first, or an image.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail};
use cheetah::reading::Reading;
use cheetah::rules::MediaType;
use cheetah::site::pack::PackOptions;
use cheetah::site::writable::SiteWriter;
use cheetah::site::{ChangedSite, LazySite, Site, SiteError};
use cheetah::store::Dotfiles;
use cheetah::store::WithRules;
use cheetah::store::{Copied, Folder, Store, WithListings};
use fsstack::OpenOptions;
use fsstack::cache::FileCache;
use fsstack::cache::misses::ReadAhead;
use fsstack::cache::policy::PolicyName;
use fsstack::device::{AtomicFile, MemoryDevice};

use super::features::Feature;
use super::{Usage, image, pack};

/// Folders with more than this go to an image in the cache folder; smaller ones are packed in memory.
const MAX_IN_MEMORY_BYTES: u64 = 256 << 20;

/// What is kept in memory of what is read as it is asked for, unless said otherwise.
pub(super) const CACHE_BYTES: u64 = 64 << 20;

/// Where files come from, as options say.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// A folder, or an image made by `cheetah pack`
    #[arg(value_name = "DIR|SITE.img")]
    path: Option<PathBuf>,
    /// How a folder is served: as an image that it is packed into first, or as the folder that it is, with
    /// each file opened when it is asked for
    #[arg(long, value_name = "STORE", default_value = "image", value_enum)]
    store: StoreKind,
    /// How much is kept in memory of what is read when it is asked for, as in 64M (the default): of a
    /// folder's files, or of an image of more than 64 MiB; smaller ones are in memory whole
    #[arg(long, value_name = "BYTES")]
    cache: Option<Bytes>,
    /// What of that is given up when something else is read: s3-fifo (the default), sieve, clock, lru or gdsf
    #[arg(long, value_name = "NAME", value_parser = policy)]
    cache_policy: Option<PolicyName>,
    /// Of what is not in memory, read so much more of the same file at once, as in 256K; what a page embeds
    /// is read with it anyway, if it was packed so
    #[arg(long, value_name = "BYTES")]
    read_ahead: Option<Bytes>,
    /// Compare each page of an image with its checksum when it is read, once for as long as it is kept; a
    /// damaged one is never sent, and the log names its file
    #[arg(long)]
    verify: bool,
    /// Read what is not in memory of an image past the kernel's cache, which would keep it a second time
    /// (O_DIRECT)
    #[arg(long)]
    direct: bool,
    /// Of a folder, serve names that begin with a dot, too; without it only `.well-known` is
    #[arg(long)]
    dotfiles: bool,
    /// Of a folder, make Brotli, Zstandard and gzip versions of what gets shorter by it before serving, for
    /// clients that take them
    #[arg(long)]
    compress: bool,
    /// The media type of files whose names end so, as .gltf=model/gltf+json; may be given several times
    #[arg(long, value_name = ".ENDING=TYPE")]
    mime: Vec<MediaType>,
    /// Answer for a folder without an index.html with a list of what it holds; `/_listing.css`, if it is
    /// there, is its style
    #[arg(long)]
    listings: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum StoreKind {
    Image,
    Folder,
}

/// A number of bytes: digits, and K, M or G for multiples of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
            Some(digits) if text.ends_with('K') => (digits, 10),
            Some(digits) if text.ends_with('M') => (digits, 20),
            Some(digits) => (digits, 30),
            None => (text, 0),
        };
        let number: Option<u64> = digits.parse().ok();
        let bytes = number.and_then(|number| number.checked_mul(1 << shift));
        bytes.map(Bytes).ok_or_else(|| "give a number of bytes, as in 64M".to_owned())
    }
}

fn policy(text: &str) -> Result<PolicyName, String> {
    let found = PolicyName::ALL.into_iter().find(|policy| policy.as_str() == text);
    found.ok_or_else(|| "there are s3-fifo, sieve, clock, lru and gdsf".to_owned())
}

impl Source {
    /// Whether a folder is served as it lies.
    pub(super) fn is_folder(&self) -> bool {
        self.store == StoreKind::Folder
    }

    /// Whether what lies at its path is a folder.
    pub(super) fn is_directory(&self) -> bool {
        fs::metadata(self.path()).is_ok_and(|meta| meta.is_dir())
    }

    /// Whether something to serve is there, without reading it.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let meta = fs::metadata(self.path()).with_context(|| self.path().display().to_string())?;
        if meta.is_dir() {
            fs::read_dir(self.path()).with_context(|| self.path().display().to_string())?;
        } else {
            fs::File::open(self.path()).with_context(|| self.path().display().to_string())?;
        }
        Ok(())
    }

    /// Whether there is one.
    pub(super) fn is_given(&self) -> bool {
        self.path.is_some()
    }

    /// Where it lies; empty if none is given.
    pub(super) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// Whether names that begin with a dot are served.
    pub(super) fn dotfiles(&self) -> Dotfiles {
        pack::dotfiles(self.dotfiles)
    }

    /// Opens an image to be changed while it is served.
    pub(super) fn open_to_write(&self) -> anyhow::Result<SiteWriter> {
        if self.is_directory() {
            bail!(Usage(
                "--writable: this folder would be packed; serve it with --store folder, or pack it first"
                    .to_owned()
            ));
        }
        if self.compress {
            bail!(no_compress());
        }
        let cache = Some(Arc::new(self.cache()?));
        let options =
            OpenOptions { cache, verify: self.verify, direct: self.direct, ..OpenOptions::default() };
        SiteWriter::open(self.path(), &options).with_context(|| self.path().display().to_string())
    }

    /// Opens the folder as it lies.
    pub(super) fn open_folder(&self) -> anyhow::Result<Arc<Folder>> {
        if self.compress {
            bail!(Usage("--compress is done when a folder is packed: leave --store folder out".to_owned()));
        }
        if self.verify {
            bail!(Usage("--verify is for images: leave --store folder out".to_owned()));
        }
        if self.direct {
            bail!(Usage("--direct is for images: leave --store folder out".to_owned()));
        }
        if fs::metadata(self.path()).is_ok_and(|meta| !meta.is_dir()) {
            bail!(Usage(format!("{} is no folder: leave --store folder out", self.path().display())));
        }
        let folder = Folder::open_with(self.path(), self.dotfiles(), self.cache()?);
        Ok(Arc::new(folder.with_context(|| self.path().display().to_string())?))
    }

    /// What is kept in memory of what is read.
    fn cache(&self) -> anyhow::Result<FileCache> {
        let Bytes(bytes) = self.cache.unwrap_or(Bytes(CACHE_BYTES));
        let policy = self.cache_policy.unwrap_or_default();
        let cache = if self.direct {
            FileCache::aligned(bytes, policy).context("no memory for --direct")?
        } else {
            FileCache::with_policy(bytes, policy)
        };
        let Some(Bytes(ahead)) = self.read_ahead else { return Ok(cache) };
        let blocks = ahead.div_ceil(cache.block_bytes() as u64);
        Ok(cache.with_misses(ReadAhead(blocks)))
    }

    /// Opens it, or packs it, to be served by who has what is not in memory read like that, without these
    /// features.
    pub(super) fn open(&self, without: &[Feature], reading: &Reading) -> anyhow::Result<Arc<dyn Store>> {
        let (store, is_resident) = self.open_pinned(without)?;
        if !is_resident {
            tracing::info!("what is not in memory is read {reading}");
        }
        self.ruled(store, without)
    }

    /// A store by the rules that it has; copied if that is how it is to be measured.
    pub(super) fn ruled(&self, store: Arc<dyn Store>, without: &[Feature]) -> anyhow::Result<Arc<dyn Store>> {
        let store = WithRules::new(store).with_context(|| self.path().display().to_string())?;
        let mut store: Arc<dyn Store> = Arc::new(store.with_types(&self.mime));
        if self.listings {
            store = Arc::new(WithListings::new(store));
        }
        Ok(if without.contains(&Feature::Pinning) { Arc::new(Copied::new(store)) } else { store })
    }

    fn open_pinned(&self, without: &[Feature]) -> anyhow::Result<(Arc<dyn Store>, bool)> {
        if self.store == StoreKind::Image {
            let cache = self.cache()?;
            if self.verify && fs::metadata(self.path()).is_ok_and(|meta| meta.is_dir()) {
                bail!(Usage("--verify is for images: `cheetah pack` the folder first".to_owned()));
            }
            let options = LoadOptions {
                dotfiles: self.dotfiles(),
                verify: self.verify,
                compress: self.compress,
                direct: self.direct,
                ungrouped: without.contains(&Feature::Grouping),
            };
            let (site, Opened { is_resident, has_groups }) = open_image(self.path(), options, cache)?;
            let given = [
                ("--cache", self.cache.is_some()),
                ("--cache-policy", self.cache_policy.is_some()),
                ("--read-ahead", self.read_ahead.is_some()),
                ("--direct", self.direct),
                ("--without async-reads", without.contains(&Feature::AsyncReads)),
                ("--without grouping", without.contains(&Feature::Grouping)),
            ];
            if let Some((option, _)) = given.iter().find(|(_, given)| *given && is_resident) {
                bail!(Usage(format!(
                    "{option} does nothing here: the image is small and in memory. Leave it out, or take --store folder"
                )));
            }
            if !has_groups && without.contains(&Feature::Grouping) {
                bail!(Usage(format!(
                    "--without grouping does nothing here: {} has no groups. Make it by `cheetah pack --layout html`",
                    self.path().display()
                )));
            }
            return Ok((site, is_resident));
        }
        Ok((self.open_folder()?, false))
    }
}

/// How an image is opened, and a folder packed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LoadOptions {
    pub(super) dotfiles: Dotfiles,
    pub(super) verify: bool,
    pub(super) compress: bool,
    /// Read past the kernel's cache; `cache` must be able to.
    pub(super) direct: bool,
    /// Read nothing but what is asked for.
    pub(super) ungrouped: bool,
}

/// What an image turned out to be.
#[derive(Clone, Copy, Debug)]
struct Opened {
    /// All of it is in memory.
    is_resident: bool,
    /// It says what is wanted together.
    has_groups: bool,
}

/// As [`load`], also an image that was changed since it was packed; and what it is like.
fn open_image(
    path: &Path,
    options: LoadOptions,
    cache: FileCache,
) -> anyhow::Result<(Arc<dyn Store>, Opened)> {
    if !image::is_log(path) {
        let open = |image: &Path, options: &OpenOptions| -> Result<(Arc<dyn Store>, Opened), SiteError> {
            if let Some(site) = LazySite::open(image, options)? {
                let has_groups = site.has_groups();
                return Ok((Arc::new(site), Opened { is_resident: false, has_groups }));
            }
            let site = Site::open_with(image, options)?;
            let has_groups = site.image().superblock().has_groups();
            let is_resident = site.image().is_resident();
            Ok((Arc::new(site), Opened { is_resident, has_groups }))
        };
        let in_memory = |site: Site| -> (Arc<dyn Store>, Opened) {
            (Arc::new(site), Opened { is_resident: true, has_groups: false })
        };
        let image = || cached_image_path(path);
        return load_with(path, options, cache, (MAX_IN_MEMORY_BYTES, image), (open, in_memory));
    }
    if options.compress {
        bail!(no_compress());
    }
    let cache = Some(Arc::new(cache));
    let LoadOptions { verify, direct, ungrouped, .. } = options;
    let options = OpenOptions { cache, verify, direct, groups: !ungrouped, ..OpenOptions::default() };
    let site = ChangedSite::open_with(path, &options).with_context(|| path.display().to_string())?;
    let is_resident = site.is_resident();
    // Of its segments some may.
    Ok((Arc::new(site), Opened { is_resident, has_groups: true }))
}

fn no_compress() -> Usage {
    Usage("--compress is for folders: give it to `cheetah pack` when the image is made".to_owned())
}

/// Opens an image, or packs a folder; what is read of a big one, or of one that is verified, is kept in
/// `cache`.
pub(super) fn load(source: &Path, options: LoadOptions, cache: FileCache) -> anyhow::Result<Site> {
    let image = || cached_image_path(source);
    load_with(source, options, cache, (MAX_IN_MEMORY_BYTES, image), (Site::open_with, |site| site))
}

/// As [`load`], with the size from which on a folder goes to an image in a file, and where that is; and with
/// what becomes of an image in a file, and of one in memory.
fn load_with<S>(
    source: &Path,
    options: LoadOptions,
    cache: FileCache,
    (max_in_memory, image): (u64, impl FnOnce() -> anyhow::Result<PathBuf>),
    (in_file, in_memory): (impl Fn(&Path, &OpenOptions) -> Result<S, SiteError>, impl FnOnce(Site) -> S),
) -> anyhow::Result<S> {
    let LoadOptions { dotfiles, verify, compress, direct, ungrouped } = options;
    let cache = Arc::new(cache);
    let open = |image: &Path| {
        let cache = Some(Arc::clone(&cache));
        let options = OpenOptions { cache, verify, direct, groups: !ungrouped, ..OpenOptions::default() };
        in_file(image, &options).with_context(|| image.display().to_string())
    };
    let meta = fs::metadata(source).with_context(|| source.display().to_string())?;
    if !meta.is_dir() {
        if compress {
            bail!(no_compress());
        }
        anyhow::ensure!(
            !image::is_log(source),
            "{}: it was changed since it was packed; `cheetah compact -o` makes a packed image of it",
            source.display()
        );
        return open(source);
    }
    let tree = pack::walk(source, dotfiles)?;
    let options = PackOptions { compress, ..PackOptions::default() };
    if tree.content_bytes() <= max_in_memory {
        let (device, _) = pack::pack_with_progress(&tree, MemoryDevice::new(), &options)?;
        return Ok(in_memory(Site::from_bytes(device.into_bytes())?));
    }
    let image = image()?;
    // Taken before a byte is read: what changes later has another one next time.
    let fingerprint = tree.fingerprint(&options, SystemTime::now());
    let known = image.with_extension("fingerprint");
    if fingerprint.is_some() && fs::read_to_string(&known).ok() == fingerprint && fs::exists(&image)? {
        tracing::info!("{} is as it was: {} is served again", source.display(), image.display());
        return open(&image);
    }
    // Until the new image is there, nothing is said of the old one.
    match fs::remove_file(&known) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| known.display().to_string());
        }
        _ => {}
    }
    let file = AtomicFile::create(&image).with_context(|| format!("cannot write {}", image.display()))?;
    let (file, _) = pack::pack_with_progress(&tree, file, &options)?;
    file.publish().with_context(|| format!("cannot write {}", image.display()))?;
    if let Some(fingerprint) = fingerprint {
        fs::write(&known, fingerprint).with_context(|| known.display().to_string())?;
    }
    open(&image)
}

/// Where the image of a big folder goes: one file a folder, so that serving it again replaces it.
fn cached_image_path(source: &Path) -> anyhow::Result<PathBuf> {
    let folder = cache_folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let full = fs::canonicalize(source)?;
    let name: String = full
        .to_string_lossy()
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '%' })
        .collect();
    // The end of a long path tells more than its beginning.
    let tail: String = name.chars().rev().take(120).collect::<Vec<_>>().into_iter().rev().collect();
    Ok(folder.join(format!("{tail}.img")))
}

/// The folder of such images.
pub(super) fn cache_folder() -> PathBuf {
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(dir), _) if !dir.is_empty() => PathBuf::from(dir),
        (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".cache"),
        _ => std::env::temp_dir(),
    };
    cache.join("cheetah")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_of_a_big_folder_is_used_again_as_long_as_nothing_changed() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let (site, image) = (dir.path().join("site"), dir.path().join("image"));
        fs::create_dir(&site).unwrap();
        fs::write(site.join("a.txt"), "one").unwrap();
        let load = |compress: bool| {
            let options = LoadOptions { compress, ..LoadOptions::default() };
            let image_path = || Ok(image.clone());
            let open = (Site::open_with, |site| site);
            let cache = FileCache::new(CACHE_BYTES);
            let site = load_with(&site, options, cache, (2, image_path), open).unwrap();
            assert_eq!(site.files().count(), 1);
            fs::metadata(&image).unwrap().ino()
        };
        // Of what changed just now nobody knows whether it will change again.
        let first = load(false);
        let second = load(false);
        assert_ne!(first, second);
        std::thread::sleep(std::time::Duration::from_millis(3100));
        let third = load(false);
        assert_eq!(load(false), third, "nothing changed");
        assert_ne!(load(true), third, "made in another way");
        let fourth = load(false);
        assert_eq!(load(false), fourth);
        fs::write(site.join("a.txt"), "two").unwrap();
        assert_ne!(load(false), fourth, "same size, other contents");
    }

    #[test]
    fn bytes_are_read() {
        for (text, bytes) in [("0", 0), ("17", 17), ("3K", 3072), ("64M", 64 << 20), ("2G", 2 << 30)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)));
        }
        for text in ["", "K", "-1", "1T", "1.5M", "99999999999G", "64MB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }
}
