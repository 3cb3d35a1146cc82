//! Sites as they are opened: when the server starts, and again at SIGHUP.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use cheetah::access_log::AccessLog;
use cheetah::depot::{self, Puller};
use cheetah::hosts::{Host, HostName, Hosts};
use cheetah::reading::Reading;
use cheetah::server::{Follow, NoSite};
use cheetah::store::{Dotfiles, Feed, Folder, Proofs, Store, WithChallenges, WithStatus};
use cheetah::tls::KeyFiles;
use fsstack::cache::FileCache;
use netstack::sys::tun::DEVICE_FILE as TUN;

use super::Usage;
use super::changes::Taking;
use super::config::Plan;
use super::network::unix_path;
use super::sandbox::Allowed;
use super::site::SiteOptions;
use super::values::is_canonical;
use crate::cmd::features::Feature;
use crate::cmd::source;

/// Sites that are served, by what was asked for.
pub(super) struct Sites {
    /// Those that take files, by where they lie: what is served of them is what is written, so they are never
    /// read anew.
    takings: HashMap<PathBuf, Taking>,
    /// Of each name that had programs when the server started, whose they are.
    scopes: HashMap<HostName, u32>,
    feed: Arc<Feed>,
    without: Vec<Feature>,
    reading: Reading,
    status: Option<String>,
    /// Where challenges of certificate authorities are put, for all hosts.
    challenges: Option<Arc<Folder>>,
    /// What the server itself shows them, if it asks for certificates.
    proofs: Option<Arc<Proofs>>,
}

/// What a server is made with.
pub(super) struct Opened {
    pub(super) first: Host,
    pub(super) serves_unknown: bool,
    pub(super) named: Vec<(Vec<HostName>, Host)>,
}

impl Sites {
    pub(super) fn new(plan: &Plan, feed: Arc<Feed>, reading: Reading) -> anyhow::Result<Sites> {
        let status = plan.arguments.status.clone();
        if let Some(path) = status.as_ref().filter(|path| !is_canonical(path)) {
            anyhow::bail!(Usage(format!("--status {path}: give a path as it is asked for, as in /status")));
        }
        let numbers = plan.named.iter().zip(1..);
        let scopes = numbers.flat_map(|(of, number)| of.names.iter().map(move |name| (name.clone(), number)));
        let without = plan.arguments.without.clone();
        let open = |path: &PathBuf| {
            let cache = FileCache::new(1 << 20);
            let folder = Folder::open_with(path, Dotfiles::default(), cache);
            folder.map(Arc::new).with_context(|| format!("--acme-challenges {}", path.display()))
        };
        let challenges = plan.arguments.acme_challenges.as_ref().map(open).transpose()?;
        Ok(Sites {
            challenges,
            proofs: plan.arguments.acme.is_given().then(Arc::default),
            reading,
            takings: HashMap::new(),
            scopes: scopes.collect(),
            feed,
            without,
            status,
        })
    }

    /// Opens all sites of `plan`.
    pub(super) fn open(&mut self, plan: &Plan) -> anyhow::Result<Opened> {
        let of_top = &plan.arguments.site;
        let serves_unknown = of_top.source.is_given() || !of_top.routes.is_empty();
        let mut first = Host {
            access_log: of_top.log(),
            ..if of_top.source.is_given() { self.open_one(of_top)? } else { Host::new(Arc::new(NoSite)) }
        };
        first.site = self.with_challenges(first.site);
        if let Some(path) = &self.status {
            first.site = Arc::new(WithStatus::new(first.site, path.clone(), Arc::clone(&self.feed)));
        }
        let mut named = Vec::new();
        for site in &plan.named {
            let scope = site.names.iter().find_map(|name| self.scopes.get(name)).copied();
            if scope.is_none() && !site.options.routes.is_empty() {
                tracing::warn!("{}: programs of a new host are started by a restart only", site.names[0]);
            }
            let host = Host {
                access_log: site.options.log(),
                // Nobody's.
                scope: scope.unwrap_or(u32::MAX),
                ..if site.options.source.is_given() || site.options.routes.is_empty() {
                    self.open_one(&site.options).with_context(|| site.names[0].to_string())?
                } else {
                    Host::new(Arc::new(NoSite))
                }
            };
            let host = Host { site: self.with_challenges(host.site), ..host };
            named.push((site.names.clone(), host));
        }
        Ok(Opened { first, serves_unknown, named })
    }

    /// Looks whether each site is there, and whether their names are their own; gives how many there are.
    pub(super) fn check(&self, plan: &Plan) -> anyhow::Result<usize> {
        let mut named = Vec::new();
        let mut count = 0;
        for options in all(plan).filter(|options| options.source.is_given()) {
            match options.changes.from() {
                Some(url) => drop(depot::open(url).with_context(|| format!("--from {url}"))?),
                None => options.source.check()?,
            }
            count += 1;
        }
        for site in &plan.named {
            named.push((site.names.clone(), Host::new(Arc::new(NoSite))));
        }
        Hosts::new(Host::new(Arc::new(NoSite)), true, named)?;
        Ok(count)
    }

    fn with_challenges(&self, site: Arc<dyn Store>) -> Arc<dyn Store> {
        if self.challenges.is_none() && self.proofs.is_none() {
            return site;
        }
        let proofs = self.proofs.clone().unwrap_or_default();
        Arc::new(WithChallenges::new(site, self.challenges.clone(), proofs))
    }

    /// What is shown to authorities.
    pub(super) fn proofs(&self) -> Option<Arc<Proofs>> {
        self.proofs.clone()
    }

    fn open_one(&mut self, options: &SiteOptions) -> anyhow::Result<Host> {
        let (source, path) = (&options.source, options.source.path().to_path_buf());
        if !self.takings.contains_key(&path)
            && let Some(taking) = options.changes.open(source)?
        {
            self.takings.insert(path.clone(), taking);
        }
        let taking = self.takings.get(&path).filter(|_| options.changes.takes_files());
        let site: Arc<dyn Store> = match taking {
            Some(taking) => source.ruled(taking.site.clone(), &self.without)?,
            None => source.open(&self.without, &self.reading)?,
        };
        Ok(Host {
            uploads: taking.map(|taking| Arc::clone(&taking.uploads)),
            clean_urls: options.clean_urls,
            single_page: options.single_page,
            markdown: options.markdown,
            ..Host::new(site)
        })
    }

    /// Reads the tokens of those who may put files again.
    pub(super) fn reload_tokens(&self) {
        self.takings.values().for_each(Taking::reload);
    }

    /// Waits until everything that clients have put is on the disk.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.takings.into_values().try_for_each(Taking::finish)
    }
}

impl Opened {
    /// Opens each log: an error now is better than a host without one. Held until the server has its own, for
    /// the reader of a FIFO takes the last writer's end for the end.
    pub(super) fn open_logs(&self) -> anyhow::Result<Vec<AccessLog>> {
        let hosts = self.named.iter().map(|(_, host)| host);
        let logs = std::iter::once(&self.first).chain(hosts).filter_map(|host| host.access_log.as_ref());
        logs.map(|(path, format)| {
            AccessLog::open(path, *format).with_context(|| format!("cannot write the access log {path}"))
        })
        .collect()
    }

    /// All of them by name.
    pub(super) fn hosts(self) -> anyhow::Result<Hosts> {
        Ok(Hosts::new(self.first, self.serves_unknown, self.named)?)
    }
}

/// What the server may open while it serves these.
pub(super) fn allowed(plan: &Plan) -> Allowed {
    let arguments = &plan.arguments;
    let mut allowed = Allowed::default();
    arguments.config.iter().for_each(|path| allowed.add_read(path));
    for site in all(plan).filter(|site| site.source.is_given()) {
        let path = site.source.path();
        if site.changes.takes_files() && site.source.is_folder() {
            allowed.write.push(path.to_owned());
        } else if site.changes.takes_files() || site.changes.from().is_some() {
            allowed.add_write(path);
        } else {
            allowed.add_site(path);
        }
        if site.source.is_directory() && !site.source.is_folder() {
            // Where a big one is packed.
            let folder = source::cache_folder();
            let _ = std::fs::create_dir_all(&folder);
            allowed.write.push(folder);
        }
    }
    for url in all(plan).filter_map(|site| site.changes.from()) {
        match url.strip_prefix("file://") {
            Some(folder) => allowed.add_read(Path::new(folder)),
            None => allowed.read.extend(REMOTE.map(PathBuf::from)),
        }
    }
    for site in all(plan) {
        site.changes.token_file().into_iter().for_each(|path| allowed.add_read(path));
        for files in site.key_files().unwrap_or_default() {
            allowed.add_read(&files.cert);
            allowed.add_read(&files.key);
            files.ocsp.iter().for_each(|path| allowed.add_read(path));
        }
        if let Some((path, _)) = site.log().filter(|(path, _)| path != "-") {
            allowed.add_write(Path::new(&path));
        }
    }
    arguments.acme.allow(&mut allowed);
    arguments.acme_challenges.iter().for_each(|path| allowed.add_site(path));
    arguments.programs.image().into_iter().for_each(|path| allowed.add_write(path));
    arguments.pcap.iter().for_each(|path| allowed.add_write(path));
    unix_path(arguments).into_iter().for_each(|path| allowed.add_remove(path));
    // How big the caches are decides how long transfers are stored.
    allowed.read.push("/sys/devices/system/cpu".into());
    if std::env::var_os("PIPE_LIB_PERF_MAP").is_some() {
        // Names of loops, for `perf report`.
        allowed.write.push("/tmp".into());
    }
    allowed.devices.extend([TUN, "/dev/null"].map(PathBuf::from));
    allowed
}

/// What names of hosts, and certificates of theirs, are looked up in.
pub(super) const REMOTE: [&str; 10] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/ssl",
    "/etc/pki",
    "/usr/share/ca-certificates",
    "/run/systemd/resolve",
    "/var/run/secrets",
];

/// Pulls all images that are published elsewhere, and goes on doing so.
pub(super) fn pull(plan: &Plan) -> anyhow::Result<Vec<Puller>> {
    all(plan).filter_map(|site| site.changes.pull(&site.source).transpose()).collect()
}

/// Which images are pulled from where.
pub(super) fn pulled(plan: &Plan) -> Vec<(&Path, &str)> {
    all(plan).filter_map(|site| Some((site.source.path(), site.changes.from()?))).collect()
}

/// The images that are served where they lie.
pub(super) fn images(plan: &Plan) -> anyhow::Result<Vec<PathBuf>> {
    let given = all(plan).filter(|site| site.source.is_given() && !site.source.is_directory());
    let images: Vec<PathBuf> = given.map(|site| site.source.path().to_path_buf()).collect();
    anyhow::ensure!(
        !images.is_empty(),
        Usage("--scrub is for images: `cheetah pack` the folder first".to_owned())
    );
    Ok(images)
}

/// The options of all sites.
pub(super) fn all(plan: &Plan) -> impl Iterator<Item = &SiteOptions> {
    std::iter::once(&plan.arguments.site).chain(plan.named.iter().map(|named| &named.options))
}

/// All certificates: those of the top first, last the one that the server gets itself.
pub(super) fn key_files(plan: &Plan) -> anyhow::Result<Vec<KeyFiles>> {
    let mut files: Vec<Vec<KeyFiles>> = all(plan).map(SiteOptions::key_files).collect::<Result<_, _>>()?;
    files.extend(plan.arguments.acme.files().map(|files| vec![files]));
    Ok(files.concat())
}

/// How changed images are found, if any are looked after.
pub(super) fn follow(plan: &Plan) -> anyhow::Result<Option<Follow>> {
    let mut followed: Vec<Follow> = Vec::new();
    for site in all(plan) {
        followed.extend(site.changes.follow(&site.source)?);
    }
    let Some(period) = followed.iter().map(|follow| follow.period).min() else { return Ok(None) };
    // Each has a look, so that none finds the same change again.
    let look = move || followed.iter_mut().fold(false, |changed, follow| (follow.look)() | changed);
    Ok(Some(Follow { period, look: Box::new(look) }))
}
