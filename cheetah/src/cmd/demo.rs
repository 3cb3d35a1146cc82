//! `cheetah demo`: the whole path in a private user and network namespace, without privileges.
//!
//! Our TCP/IP on one side of a device, the kernel's on the other as the client: every file of a site is
//! fetched and compared, each time over another kind of path. Where no namespace may be had, two of our own
//! stacks talk over a wire in memory, and a line says so.

mod measure;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cheetah::server::{Config, Server};
use cheetah::service::Options;
use cheetah::site::Site;
use cheetah::store::Document;
use cheetah::transport::device::{self, DeviceOptions, Interface};
use cheetah::transport::sim;
use cheetah::transport::stack::StackOptions;
use fsstack::cache::FileCache;
use netstack::device::wire;
use netstack::stack::Features;
use netstack::sys::{link, netns};

use super::source::{self, LoadOptions};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const KERNELS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const PREFIX_LEN: u8 = 24;

/// Show the whole path in a private namespace, without root
///
/// Fetches and compares every file of a site over our own TCP/IP, with the kernel's as the client, and prints
/// what went over the wire and what fusing the copy loops is worth.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A folder or an image; by default examples/site, or a few made-up files where that is not there
    #[arg(value_name = "DIR|SITE.img")]
    source: Option<PathBuf>,
    /// Where the capture goes
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Before there is a second thread: a process is moved as a whole or not at all.
    let private = netns::enter_private();
    let site = Arc::new(site(arguments.source.as_deref())?);
    let files: Vec<(Arc<dyn Document>, Vec<u8>)> = site.files().collect();
    let bytes: u64 = files.iter().map(|(file, _)| file.facts().size).sum();
    let ground = match private {
        Ok(()) => Ground::prepare().context("in the private namespace")?,
        Err(error) => Ground::Memory(format!("no private namespace here ({error})")),
    };
    println!("{}", ground.describe());
    println!("{} files, {bytes} bytes", files.len());
    println!();
    println!("{:<37} {:>7} {:>11} {:>8} {:>9} {:>9}", "path", "files", "bytes", "packets>", "<packets", "ms");
    let pcap = match &arguments.pcap {
        Some(path) => path.clone(),
        None => std::env::temp_dir().join(format!("cheetah-demo-{}.pcap", std::process::id())),
    };
    let all_good = match &ground {
        Ground::Memory(_) => in_memory(&site, &files)?,
        _ => on_devices(&ground, &site, &files, &pcap)?,
    };
    println!();
    measure::print()?;
    if !matches!(ground, Ground::Memory(_)) {
        println!();
        println!("capture: {} (the last path above; try `tshark -r` or wireshark)", pcap.display());
    }
    if !all_good {
        bail!("not every file arrived as it is in the image");
    }
    Ok(())
}

/// Where the demonstration takes place.
enum Ground {
    /// A TAP device can be opened.
    Tap,
    /// It cannot, but the two ends of this pair can be used.
    Veth { ours: &'static str },
    /// Neither; why.
    Memory(String),
}

impl Ground {
    /// Finds out, inside the private namespace, what there is, and sets it up.
    fn prepare() -> anyhow::Result<Ground> {
        link::set_up("lo").context("loopback")?;
        let tap = device::open(&tap(true));
        let tap_error = match tap {
            Ok(_) => return Ok(Ground::Tap),
            Err(error) => error,
        };
        let (ours, kernels) = ("cheetah0", "cheetah1");
        let veth = link::create_veth(ours, kernels)
            .and_then(|()| link::add_address(kernels, KERNELS, PREFIX_LEN))
            // Nothing behind a veth fills in checksums that its sender left out.
            .and_then(|()| link::set_tx_offload(kernels, false))
            .and_then(|()| link::set_up(ours))
            .and_then(|()| link::set_up(kernels));
        match veth {
            Ok(()) => Ok(Ground::Veth { ours }),
            Err(error) => {
                Ok(Ground::Memory(format!("no TAP device ({tap_error}) and no veth pair ({error}) here")))
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Ground::Tap => "private user and network namespace, a real TAP device, \
                            the kernel's TCP as the client"
                .to_owned(),
            Ground::Veth { .. } => {
                "private user and network namespace, a veth pair with the packet device (no \
                                    TAP device may be opened), the kernel's TCP as the client"
                    .to_owned()
            }
            Ground::Memory(why) => {
                format!("{why}: two of our own stacks on a wire in memory, in simulated time")
            }
        }
    }
}

fn tap(offload: bool) -> DeviceOptions {
    let host_addr = Some((KERNELS, PREFIX_LEN));
    DeviceOptions {
        offload,
        ..DeviceOptions::new(Interface::Tap { name: Some("cheetah0".to_owned()), host_addr, mtu: None })
    }
}

/// Every file over each kind of path; whether all arrived as they are in the image.
fn on_devices(
    ground: &Ground,
    site: &Arc<Site>,
    files: &[(Arc<dyn Document>, Vec<u8>)],
    pcap: &Path,
) -> anyhow::Result<bool> {
    let plain = match ground {
        Ground::Tap => tap(false),
        Ground::Veth { ours } => DeviceOptions::new(Interface::Packet { name: (*ours).to_owned() }),
        Ground::Memory(_) => return Ok(true),
    };
    let mut paths = Vec::new();
    if matches!(ground, Ground::Tap) {
        paths.push(("offloads: one write a super-segment", tap(true)));
    }
    paths.push((
        "copy and checksum in separate passes",
        DeviceOptions { fused_loops: false, ..plain.clone() },
    ));
    paths.push(("copy and checksum in one loop", plain.clone()));
    let lance = DeviceOptions { nic: Some("lance".to_owned()), ..plain.clone() };
    paths.push(("the same, striped for a LANCE", lance.clone()));
    paths.push(("the same, with the capture", DeviceOptions { pcap: Some(pcap.into()), ..lance }));
    let mut all_good = true;
    for (name, options) in paths {
        let device = device::open(&options)?.device;
        // It is the loop that is shown, so no sum may be known without it.
        let (stored_sums, cached_sums) = (false, false);
        let features = Features { offload: options.offload, stored_sums, cached_sums, ..Features::default() };
        let stack = StackOptions { features, ..StackOptions::new((OURS, PREFIX_LEN), 80) };
        let server = Server::on_device(site.clone(), device, &stack, &Config::default())?;
        let began = Instant::now();
        let fetched = fetch_all(server.addr(), files).with_context(|| name.to_owned());
        let elapsed = began.elapsed();
        let device = server.finish()?.device;
        let good = fetched?;
        row(name, good, files.len(), device, elapsed);
        all_good &= good == files.len();
    }
    Ok(all_good)
}

fn row(name: &str, good: usize, all: usize, device: netstack::device::Stats, elapsed: Duration) {
    println!(
        "{name:<37} {:>7} {:>11} {:>8} {:>9} {:>9.1}",
        format!("{good}/{all}"),
        device.tx_bytes,
        device.tx_frames,
        device.rx_frames,
        elapsed.as_secs_f64() * 1e3
    );
}

/// Fetches every file on one kept connection; how many arrived as they are in the image.
fn fetch_all(addr: SocketAddr, files: &[(Arc<dyn Document>, Vec<u8>)]) -> anyhow::Result<usize> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    let mut good = 0;
    let mut received = Vec::new();
    for (file, path) in files {
        stream.write_all(&request(addr, path))?;
        received.clear();
        let head_len = loop {
            if let Some(head_len) = whole_response(&received)? {
                break head_len;
            }
            let from = received.len();
            received.resize(from + (256 << 10), 0);
            let n = stream.read(&mut received[from..])?;
            received.truncate(from + n);
            if n == 0 {
                bail!("the connection ended inside {}", String::from_utf8_lossy(path));
            }
        };
        good += usize::from(is_file(&**file, &received[head_len..]));
    }
    Ok(good)
}

fn request(addr: impl std::fmt::Display, path: &[u8]) -> Vec<u8> {
    let mut request = b"GET ".to_vec();
    cheetah::http::target::escape(path, &mut request);
    request.extend_from_slice(format!(" HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes());
    request
}

/// Length of the head of the response that `received` is all of; `None` if it is not all there.
fn whole_response(received: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = received.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head_len = head + 4;
    let head = String::from_utf8_lossy(&received[..head_len]);
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("unexpected response: {}", head.lines().next().unwrap_or_default());
    }
    let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
    let len = len.context("a response without a length")?;
    Ok((received.len() >= head_len + len).then_some(head_len))
}

fn is_file(file: &dyn Document, body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = Some((body.len() - rest.len()) as u64).filter(|&at| at < file.facts().size) {
        let same = match file.resident(at, usize::MAX) {
            Some(piece) => rest.strip_prefix(piece.bytes),
            None => file.fetch(at).ok().and_then(|block| rest.strip_prefix(block.bytes())),
        };
        match same {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// The same between two of our own stacks.
fn in_memory(site: &Arc<Site>, files: &[(Arc<dyn Document>, Vec<u8>)]) -> anyhow::Result<bool> {
    let mut requests: Vec<u8> = files.iter().flat_map(|(_, path)| request(OURS, path)).collect();
    // Asking for nothing that exists, and for the connection to be closed.
    requests.extend_from_slice(b"HEAD /. HTTP/1.0\r\n\r\n");
    let limit = Duration::from_secs(3600);
    let outcome = sim::exchange(
        site.clone(),
        Options::default(),
        requests,
        wire::Config::default(),
        1,
        Features::default(),
        limit,
    )?;
    let (mut rest, mut good) = (&outcome.received[..], 0);
    for (file, _) in files {
        let head =
            rest.windows(4).position(|window| window == b"\r\n\r\n").context("a response is missing")? + 4;
        let len = usize::try_from(file.facts().size)?;
        let body = rest.get(head..head + len).context("a response is cut short")?;
        good += usize::from(is_file(&**file, body));
        rest = &rest[head + len..];
    }
    row("a wire in memory", good, files.len(), outcome.device, outcome.elapsed);
    Ok(good == files.len())
}

fn site(source: Option<&Path>) -> anyhow::Result<Site> {
    let default = Path::new("examples/site");
    match source {
        Some(source) => source::load(source, LoadOptions::default(), FileCache::new(source::CACHE_BYTES)),
        None if default.is_dir() => {
            source::load(default, LoadOptions::default(), FileCache::new(source::CACHE_BYTES))
        }
        None => made_up_site(),
    }
}

/// Files of sizes that matter to packets, where there is no site at hand.
fn made_up_site() -> anyhow::Result<Site> {
    let mut builder = fsstack::Builder::in_memory(&fsstack::BuildOptions::default())?;
    for size in [0u32, 1, 100, 1460, 1461, 10_000, 65_536, 1_000_000] {
        let contents: Vec<u8> = (0..size).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let path = format!("{size}.bin");
        cheetah::site::pack::add(&mut builder, path.as_bytes(), Default::default(), &contents[..])?;
    }
    let (device, _) = builder.finish()?;
    Ok(Site::from_bytes(device.into_bytes())?)
}
