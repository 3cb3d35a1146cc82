//! `cheetah serve DIR|SITE.img`: serves a site, over the kernel's sockets or over our own TCP/IP.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use cheetah::access_log::Format;
use cheetah::server::{Config, Server, Signals};
use cheetah::site::Site;
use fsstack::device::{AtomicFile, MemoryDevice};

use super::{Usage, pack};

/// Folders with more than this go to an image in the cache folder; smaller ones are packed in memory.
const MAX_IN_MEMORY_BYTES: u64 = 256 << 20;

/// Serve a folder (packed first) or an image
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A folder, or an image made by `cheetah pack`
    #[arg(value_name = "DIR|SITE.img")]
    source: PathBuf,
    /// Where to listen on the kernel's sockets
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: String,
    /// What carries the connections
    #[arg(long, value_name = "NET", default_value = "kernel")]
    net: String,
    /// Event-driven threads, sharing the port
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Write requests down in FILE, or on standard output
    #[arg(long, value_name = "FILE|-")]
    access_log: Option<String>,
    /// What a line of the access log looks like
    #[arg(long, value_name = "FORMAT", default_value = "combined", value_enum)]
    log_format: LogFormat,
    /// Switch specialisations off, to measure what each is worth
    #[arg(long, value_name = "FEATURE,...", value_delimiter = ',')]
    without: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    Combined,
    Json,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.net != "kernel" {
        bail!(Usage(format!("--net {} is not there yet; use --net kernel", arguments.net)));
    }
    let mut config = Config::default();
    for feature in &arguments.without {
        match feature.as_str() {
            "precomputed-headers" => config.http.precomputed_headers = false,
            other => bail!(Usage(format!("--without {other}: no such specialisation with --net kernel"))),
        }
    }
    config.access_log = arguments.access_log.clone().map(|path| {
        let format = match arguments.log_format {
            LogFormat::Combined => Format::Combined,
            LogFormat::Json => Format::Json,
        };
        (path, format)
    });
    let addr = address(&arguments.listen)?;
    let site = Arc::new(load(&arguments.source)?);
    raise_descriptor_limit();
    let signals = Signals::take()?;
    let server = Server::on_kernel(site, addr, arguments.workers, &config)
        .with_context(|| format!("cannot listen on {addr}"))?;
    announce(server.addr());
    let source = arguments.source.clone();
    let reload = || load(&source).map(Arc::new).map_err(|error| format!("{error:#}"));
    let stats = server.run_until_signal(signals, reload)?;
    tracing::info!(
        "served {} responses, {} bytes, on {} connections",
        stats.total_responses(),
        stats.bytes,
        stats.connections
    );
    Ok(())
}

/// The line that tells whoever waits for it that requests are served now.
fn announce(addr: SocketAddr) {
    // A closed standard output is no reason not to serve.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "listening on http://{addr}/").and_then(|()| out.flush());
}

fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let mut found = text.to_socket_addrs().map_err(|error| {
        anyhow!(Usage(format!("--listen {text}: {error} (give an address and a port, as in 127.0.0.1:8080)")))
    })?;
    found.next().ok_or_else(|| anyhow!(Usage(format!("--listen {text}: no such address"))))
}

/// Opens an image, or packs a folder.
fn load(source: &Path) -> anyhow::Result<Site> {
    let meta = fs::metadata(source).with_context(|| source.display().to_string())?;
    if !meta.is_dir() {
        return Site::open(source).with_context(|| source.display().to_string());
    }
    let tree = pack::walk(source)?;
    if tree.content_bytes() <= MAX_IN_MEMORY_BYTES {
        let (device, _) = pack::pack_with_progress(&tree, MemoryDevice::new())?;
        return Ok(Site::from_bytes(device.into_bytes())?);
    }
    let image = cached_image_path(source)?;
    let file = AtomicFile::create(&image).with_context(|| format!("cannot write {}", image.display()))?;
    let (file, _) = pack::pack_with_progress(&tree, file)?;
    file.publish().with_context(|| format!("cannot write {}", image.display()))?;
    Site::open(&image).with_context(|| image.display().to_string())
}

/// Where the image of a big folder goes: one file a folder, so that serving it again replaces it.
fn cached_image_path(source: &Path) -> anyhow::Result<PathBuf> {
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(dir), _) if !dir.is_empty() => PathBuf::from(dir),
        (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".cache"),
        _ => std::env::temp_dir(),
    };
    let folder = cache.join("cheetah");
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

/// As many connections as the system lets us have without asking anyone.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Not getting it is no error: accepting pauses when descriptors run out.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
