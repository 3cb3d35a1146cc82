//! `cheetah serve DIR|SITE.img`: serves a site, over the kernel's sockets or over our own TCP/IP.

mod acme;
pub(super) mod addresses;
mod changes;
pub(super) mod config;
mod network;
mod privileges;
mod programs;
mod sandbox;
mod site;
mod sites;
mod supervision;
mod values;

use std::ffi::OsString;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use cheetah::accelerator::Archivist;
use cheetah::acme::Renewer;
use cheetah::admin::Admin;
use cheetah::hosts::Hosts;
use cheetah::reading::Reading;
use cheetah::report::Report;
use cheetah::server::{Config, Server, Signals, Tls};
use cheetah::store::Feed;
use cheetah::tls::{Acceptor, Preference, RecordSize};
use cheetah::transport::device::{DeviceOptions, FaultOptions, OpenDevice};
use cheetah::transport::kernel::SocketCalls;
use cheetah::transport::stack::StackOptions;
use netstack::device::vlan::VlanId;
use netstack::handler::xdp::XdpFilter;
use netstack::stack;
use netstack::sys::link;

use super::Usage;
use super::devices::open_devices;
use super::features::{Feature, Mode, Net};
use super::source::Bytes;
use addresses::{OwnAddress, OwnAddress6, further_addr};
use config::Plan;
use network::{device_options, kernel_addr, stack_options, tls_addr, unix_path};
use sandbox::{Confinement, Needs};
use site::SiteOptions;
use sites::Sites;
use supervision::Moment;
use values::{
    Congestion, CountersForm, Ecn, HandlersIn, Hsts, SocketsBy, Suite, at_least_one, hsts, on_or_off,
    record_size, vlan_id, workers,
};

/// Serve a folder or an image
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Read options from this file, too, and further sites for other names (docs/configuration.md); what is
    /// said here takes the place of what it says. SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    site: SiteOptions,
    /// Where to listen: by default 127.0.0.1:8080 on the kernel's sockets, port 80 of --addr on our own TCP/IP; unix:/PATH is a
    /// socket of the file system. A socket that a supervisor hands over (systemd's socket units) takes the
    /// place of it
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Where to listen for HTTPS: by default 127.0.0.1:8443 on the kernel's sockets, port 443 of --addr on our own TCP/IP
    #[arg(long, value_name = "ADDR:PORT")]
    tls_listen: Option<String>,
    /// Content of a TLS record: `adaptive` (the default: what fits in a segment first, then 16 KB), or so
    /// many bytes, 512 to 16384
    #[arg(long, value_name = "SIZE", value_parser = record_size)]
    tls_record: Option<RecordSize>,
    /// Whose suite of TLS is taken: the fastest that the client speaks (aes128, the default), aes256 where it
    /// speaks that, or what the client would have first
    #[arg(long, value_name = "SUITE", value_enum)]
    tls_prefer: Option<Suite>,
    /// Send who asks by HTTP to the same address by HTTPS (308), but for /.well-known/acme-challenge/
    #[arg(long)]
    redirect_http: bool,
    /// Have clients of HTTPS ask by it alone for so many seconds (Strict-Transport-Security), as in 31536000;
    /// with `,subdomains` also for all names below, with `,preload` for lists that browsers come with
    #[arg(long, value_name = "SECONDS", value_parser = hsts)]
    hsts: Option<Hsts>,
    /// Serve what lies below .well-known/acme-challenge/ in this folder, where an ACME client puts it, for
    /// all hosts
    #[arg(long, value_name = "DIR")]
    acme_challenges: Option<PathBuf>,
    /// Whether to speak HTTP/2 with clients that want it: over TLS those that offer `h2`, in the clear those
    /// that begin with its preface
    #[arg(long, value_name = "on|off", default_value = "on", action = clap::ArgAction::Set, value_parser = on_or_off)]
    http2: bool,
    /// What carries the connections: kernel (its sockets), or our own TCP/IP on tap, ring, xdp or packet
    #[arg(long, value_name = "NET", default_value = "kernel")]
    net: Net,
    /// How the calls of the kernel's sockets are made: one by one, where epoll (the default) says that
    /// something can be done; or those of many connections as one, by io-uring, from Linux 6.1 on
    #[arg(long, value_name = "HOW", value_enum)]
    sockets: Option<SocketsBy>,
    /// The interface: a TAP device's name (made if missing), or any Ethernet interface for ring, xdp and
    /// packet
    #[arg(long, value_name = "NAME")]
    dev: Option<String>,
    /// Our own address, which the kernel must not have; or dhcp, to get one, with its gateway, from a server
    /// of the network
    #[arg(long, value_name = "IP/PREFIX|dhcp")]
    addr: Option<OwnAddress>,
    /// Our own address in IPv6, served beside the other; or auto, to make it of what a router of the network
    /// tells
    #[arg(long, value_name = "IP/PREFIX|auto")]
    addr6: Option<OwnAddress6>,
    /// A further address of ours, of either family, served beside the others; may be given several times
    #[arg(long, value_name = "IP/PREFIX", value_parser = further_addr)]
    also_addr: Vec<(IpAddr, u8)>,
    /// The way out of that network
    #[arg(long, value_name = "IP", requires = "addr6")]
    gateway6: Option<Ipv6Addr>,
    /// Ask for 5 to 7 seconds whether another host has the address, before it is used (RFC 5227)
    #[arg(long)]
    probe_addr: bool,
    /// The way out of that network
    #[arg(long, value_name = "IP")]
    gateway: Option<Ipv4Addr>,
    /// Give the kernel's end of the TAP device this address, and set it up
    #[arg(long, value_name = "IP")]
    host_addr: Option<Ipv4Addr>,
    /// Congestion control on our own TCP/IP; the kernel's sockets have net.ipv4.tcp_congestion_control
    #[arg(long, value_name = "ALGORITHM", value_enum)]
    congestion: Option<Congestion>,
    /// Explicit congestion notification on our own TCP/IP (RFC 3168): on where a client asks for it, or off;
    /// the kernel's sockets have net.ipv4.tcp_ecn
    #[arg(long, value_name = "USE", value_enum)]
    ecn: Option<Ecn>,
    /// Pacing on our own TCP/IP: what the window allows leaves over the round trip, where that is a
    /// millisecond and more (on), or at once; the kernel's sockets have their queueing discipline
    #[arg(long, value_name = "on|off", value_parser = on_or_off)]
    pacing: Option<bool>,
    /// TCP Fast Open on our own TCP/IP (RFC 7413): clients that were here before are answered with the
    /// SYN-ACK, so many at once before their handshakes are complete. A request may come twice then
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    fast_open: Option<u32>,
    /// Let a program see each frame before our own TCP/IP does: closed_ports, foreign, echo, healthz,
    /// count_prefix(prefix=N), or a pipe of a file (FILE.pipe, FILE.pipe:NAME); may be given several times,
    /// asked in that order (docs/handlers.md)
    #[arg(long, value_name = "NAME|FILE.pipe")]
    handler: Vec<String>,
    /// Where handlers run: in the stack, or in the kernel as an XDP program of the interface
    #[arg(long, value_name = "PLACE", default_value = "stack", value_enum, requires = "handler")]
    handlers_in: HandlersIn,
    /// The VLAN on the interface that we are in (802.1Q): frames of other ids, and without a tag, are not
    /// ours; on tap, ring or packet
    #[arg(long, value_name = "ID", value_parser = vlan_id)]
    vlan: Option<VlanId>,
    /// Longest packet of the TAP device in bytes, at both ends; 9000 makes jumbo frames
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(576..=65_521))]
    mtu: Option<u16>,
    /// Put an emulated adapter with that buffer layout in front of the device (as `lance`)
    #[arg(long, value_name = "LAYOUT")]
    nic: Option<String>,
    /// Damage on the wire, for tests: drop, duplicate, corrupt, reorder, seed, as in drop=2%,seed=7
    #[arg(long, value_name = "FAULT=P,...")]
    fault: Option<FaultOptions>,
    /// Write every frame to a capture file
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Event-driven threads, sharing the port; on our own TCP/IP each with a stack and a queue of the
    /// interface of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = workers)]
    workers: usize,
    /// Connections at once, of all threads together: on the kernel's sockets those beyond wait, on our own
    /// TCP/IP they are reset
    #[arg(long, value_name = "N", default_value_t = 65536, value_parser = at_least_one)]
    max_connections: usize,
    /// How long connections may take to finish once the server is told to end; told a second time, it ends at
    /// once
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain_limit: u64,
    /// What SIGUSR1 prints on standard error: counters of connections, bytes, frames and system calls
    #[arg(long, value_name = "FORM", default_value = "table", value_enum)]
    counters: CountersForm,
    /// Serve the counters at this path, as a stream of server-sent events, one a second: for whoever can
    /// reach the server
    #[arg(long, value_name = "/PATH")]
    status: Option<String>,
    /// Answer at this address of the kernel's, for whoever runs the server: /metrics for Prometheus,
    /// /healthz, /readyz, and a page that draws the counters; whoever can reach it sees them
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<SocketAddr>,
    /// Compare what images have on the disk with its checksums while they are served, so many bytes a second,
    /// as in 4M, again and again; what is damaged is logged with its files, and counted
    #[arg(long, value_name = "BYTES")]
    scrub: Option<Bytes>,
    /// Become this account once everything is open, with no other groups; what is opened later (a replaced
    /// site, the log at SIGHUP) is opened by it
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Once everything is open, allow the server only what it still needs, as far as the kernel can (auto),
    /// or not to serve without it (require): files by landlock, system calls by seccomp. Programs that it
    /// starts itself are confined as it is, so with them files are not
    #[arg(long, value_name = "HOW", default_value = "auto", value_enum)]
    sandbox: Confinement,
    /// Switch specialisations off, to measure what each is worth: in-place-parse, date-cache,
    /// precomputed-headers, pinning, async-reads, grouping, header-merging, packet-merging, pcb-pool, on the
    /// kernel's sockets also deferred-accept and zero-copy, on our own TCP/IP time-wait-records, offload,
    /// fused-loops, stored-sums, cached-sums, placed-input
    #[arg(long, value_name = "FEATURE,...", value_delimiter = ',')]
    without: Vec<Feature>,
    #[command(flatten)]
    programs: programs::ProgramOptions,
    #[command(flatten)]
    acme: acme::AcmeArguments,
}

/// Whether machine code is made on this processor by this build.
fn compiles_loops() -> bool {
    cfg!(any(feature = "cranelift", not(target_arch = "x86_64")))
        || pipe_lib::Features::detected().names().any(|name| name == "avx2")
}

/// What a server needs but its sites, checked.
struct Prepared {
    config: Config,
    acceptor: Option<Arc<Acceptor>>,
    place: Place,
}

fn prepare(plan: &Plan) -> anyhow::Result<Prepared> {
    let arguments = &plan.arguments;
    if !arguments.site.source.is_given() && arguments.site.routes.is_empty() && plan.named.is_empty() {
        bail!(Usage(
            "nothing to serve: give a folder or an image, or --config FILE with `site = \"/srv/www\"` in it"
                .to_owned()
        ));
    }
    if let Some(Bytes(rate)) = arguments.scrub {
        sites::images(plan)?;
        if rate == 0 {
            bail!(Usage("--scrub: give how many bytes a second, as in 4M".to_owned()));
        }
    }
    let acceptor = acceptor(plan)?;
    let mode = Mode {
        net: arguments.net,
        nic: arguments.nic.is_some(),
        folder: arguments.site.source.is_folder(),
        // Known when it is open: `Source::open` refuses, too.
        in_memory: false,
        tls: acceptor.is_some(),
        writable: sites::all(plan).any(|site| site.changes.takes_files()),
    };
    let refusal = |feature: &Feature| feature.refusal(mode, &arguments.without);
    if let Some(why) = arguments.without.iter().find_map(refusal) {
        bail!(Usage(why));
    }
    let mut config = config(arguments);
    let mut routes = arguments.site.routes.routes(0)?;
    for (named, scope) in plan.named.iter().zip(1..) {
        routes.extend(named.options.routes.routes(scope)?);
    }
    config.programs = arguments.programs.config(routes)?;
    config.tls = match &acceptor {
        Some(acceptor) => Some(Tls { acceptor: Arc::clone(acceptor), addr: tls_addr(arguments)? }),
        None => None,
    };
    if arguments.net != Net::Kernel && arguments.sockets.is_some() {
        bail!(Usage("--sockets is for those of the kernel: leave it out, or --net".to_owned()));
    }
    let place = match arguments.net {
        Net::Kernel => Place::Kernel(kernel_addr(arguments)?),
        Net::Tap | Net::Ring | Net::Xdp | Net::Packet => {
            let mut stack = stack_options(arguments, acceptor.is_some())?;
            let device = device_options(arguments, &mut stack)?;
            Place::Device(Box::new((stack, device)))
        }
    };
    Ok(Prepared { config, acceptor, place })
}

/// Looks at all that can be looked at of a configuration without serving it. Gives the number of its hosts.
pub(super) fn check(path: &Path) -> anyhow::Result<usize> {
    let plan = Plan::of_file(path)?;
    prepare(&plan)?;
    if let Some(name) = &plan.arguments.user {
        privileges::find(name)?;
    }
    let sites = Sites::new(&plan, Arc::default(), Reading::InPlace)?;
    let opened = sites.check(&plan)?;
    Ok(opened)
}

pub(super) fn run(words: &[OsString]) -> anyhow::Result<()> {
    let mut plan = Plan::of_words(words)?;
    let account = plan.arguments.user.as_deref().map(privileges::account).transpose()?;
    plan.arguments.acme.make(account)?;
    let Prepared { mut config, acceptor, place } = prepare(&plan)?;
    let mut file = None;
    let handed_over = supervision::handed_over()?;
    if matches!(place, Place::Device(_)) && handed_over.http.is_some() {
        bail!(Usage("sockets that are handed over are the kernel's: leave --net out".to_owned()));
    }
    config.sockets.http = handed_over.http.map(Arc::new);
    config.sockets.https = handed_over.https.map(Arc::new);
    let handed_over = config.sockets.http.is_some() || config.sockets.https.is_some();
    if let (Place::Kernel(_), Some(path), None) = (&place, unix_path(&plan.arguments), &config.sockets.http) {
        let (kept, socket) = supervision::SocketFile::listen(path)?;
        file = Some(kept);
        config.sockets.http = Some(Arc::new(socket));
    }
    let programs = sites::all(&plan).any(|site| site.routes.start_programs());
    let confinement = plan.arguments.sandbox;
    let files = if programs {
        if confinement == Confinement::Require {
            bail!(Usage(
                "--sandbox require: programs that the server starts would be confined with it; have them listen \
                 (unix:/PATH), or leave it out"
                    .to_owned()
            ));
        }
        "files are not, for programs are started".to_owned()
    } else {
        sandbox::confine_files(&sites::allowed(&plan), confinement)?
    };
    let feed = Arc::new(Feed::default());
    let pullers = sites::pull(&plan)?;
    let follow = sites::follow(&plan)?;
    let mut sites = Sites::new(&plan, Arc::clone(&feed), config.reading.clone())?;
    let opened = sites.open(&plan)?;
    let logs = opened.open_logs()?;
    let arguments = &plan.arguments;
    config.access_log = opened.first.access_log.clone();
    config.uploads = opened.first.uploads.clone();
    config.named = opened.named;
    config.serves_unknown = opened.serves_unknown;
    let site = opened.first.site;
    let archivist = arguments.programs.open_image(&config.programs)?;
    let signals = Signals::take()?;
    let mut server = match place {
        Place::Kernel(addr) => {
            raise_descriptor_limit();
            Server::on_kernel(site, addr, arguments.workers, &config).with_context(|| match handed_over {
                true => "cannot listen on the socket that was handed over".to_owned(),
                false => format!("cannot listen on {addr}"),
            })?
        }
        Place::Device(both) => {
            let (mut stack_options, options) = *both;
            let without = |feature| arguments.without.contains(&feature);
            // An adapter's loop goes over every byte anyhow and sums in passing.
            let use_sums = options.nic.is_none();
            stack_options.features = stack::Features {
                offload: options.offload,
                packet_merging: !without(Feature::PacketMerging),
                header_merging: !without(Feature::HeaderMerging),
                time_wait_records: !without(Feature::TimeWaitRecords),
                stored_sums: use_sums && !without(Feature::StoredSums),
                cached_sums: use_sums && !without(Feature::CachedSums),
                placed_input: !without(Feature::PlacedInput),
            };
            if !compiles_loops() {
                tracing::warn!(
                    "loops are interpreted: this processor has no AVX2; build with `--features cranelift` instead"
                );
            }
            let opened = open_devices(&options, arguments.workers)?;
            let name = opened.first().map(|(first, _)| first.name.clone()).unwrap_or_default();
            stack_options.filter = opened.first().and_then(|(first, _)| first.filter.clone());
            let devices =
                opened.into_iter().map(|(OpenDevice { device, .. }, sharing)| (device, sharing)).collect();
            if arguments.handlers_in == HandlersIn::Xdp && stack_options.filter.is_none() {
                let mut filter = XdpFilter::new(&stack_options.handlers)?;
                filter.attach(&name).with_context(|| format!("no handlers on {name}"))?;
                stack_options.handlers.clear();
                stack_options.filter = Some(Arc::new(filter));
            }
            if !link::get(&name).is_ok_and(|link| link.is_up) {
                tracing::warn!(
                    "{name} is not up: give it an address and `ip link set {name} up`, or use --host-addr"
                );
            }
            Server::on_devices(site, devices, &stack_options, &config)
                .with_context(|| format!("cannot serve on {name}"))?
        }
    };
    drop(logs);
    if arguments.status.is_some() || arguments.admin.is_some() {
        server.tell_status(Arc::clone(&feed)).context("the status cannot be told")?;
    }
    if let Some(Bytes(rate)) = arguments.scrub {
        server.scrub(sites::images(&plan)?, rate).context("nobody can scrub")?;
    }
    let admin = arguments.admin.map(|addr| admin(addr, &server, &feed)).transpose()?;
    if let Some(account) = account {
        account.assume()?;
    }
    let bpf = arguments.handlers_in == HandlersIn::Xdp || arguments.net == Net::Xdp;
    let needs = Needs { programs, bpf };
    let calls = sandbox::confine_calls(needs, confinement)?;
    tracing::info!("confined: {files}; {calls}");
    let proofs = sites.proofs().unwrap_or_default();
    let renewer = arguments.acme.start(proofs, acceptor.as_ref())?;
    announce(&server, arguments);
    supervision::notify(Moment::Ready);
    let counters = arguments.counters;
    let mut take_up = || -> anyhow::Result<Hosts> {
        let fresh = Plan::of_words(words)?;
        let unheeded = fresh.unheeded(&plan);
        if !unheeded.is_empty() {
            tracing::warn!("taken up by a restart only: {}", unheeded.join(", "));
        }
        if sites::pulled(&fresh) != sites::pulled(&plan) {
            tracing::warn!("taken up by a restart only: from");
        }
        let opened = sites.open(&fresh)?;
        opened.open_logs()?;
        let hosts = opened.hosts()?;
        let files = sites::key_files(&fresh)?;
        match &acceptor {
            Some(_) if files.is_empty() => tracing::warn!("HTTPS ends by a restart only"),
            None if !files.is_empty() => tracing::warn!("HTTPS begins by a restart only"),
            None => {}
            Some(acceptor) => match acceptor.show(&files) {
                Ok(()) => tracing::info!("the certificates are read again"),
                Err(error) => tracing::error!("the old certificates stay: {error}"),
            },
        }
        sites.reload_tokens();
        plan = fresh;
        Ok(hosts)
    };
    let reload = || {
        supervision::notify(Moment::Reloading);
        let hosts = take_up().map_err(|error| {
            let text = format!("{error:#}");
            let is_confined = confinement != Confinement::Off && text.contains("Permission denied");
            let hint = if is_confined {
                ": the server is confined to what it was started with; restart it"
            } else {
                ""
            };
            text + hint
        });
        supervision::notify(Moment::Ready);
        hosts
    };
    let report = |report: &Report| print_report(report, counters);
    server.serve_until_signal(&signals, follow, reload, report)?;
    supervision::notify(Moment::Stopping);
    renewer.into_iter().for_each(Renewer::finish);
    let stats = server.shut_down()?;
    drop((config, file, pullers));
    if let Some(admin) = admin {
        admin.shut_down()?;
    }
    sites.finish()?;
    archivist.map_or(Ok(()), Archivist::finish)?;
    tracing::info!(
        "served {} responses, {} bytes, on {} connections",
        stats.total_responses(),
        stats.bytes,
        stats.connections
    );
    Ok(())
}

/// The server about `server`.
fn admin(addr: SocketAddr, server: &Server, feed: &Arc<Feed>) -> anyhow::Result<Server> {
    let pages = Admin::new(server.monitor()?, Arc::clone(feed));
    let config = Config { drain_limit: Duration::from_secs(1), ..Config::default() };
    let admin = Server::on_kernel(Arc::new(pages), addr, 1, &config);
    let admin = admin.with_context(|| format!("--admin: cannot listen on {addr}"))?;
    tracing::info!("counters and health at http://{}/", admin.addr());
    Ok(admin)
}

/// Where connections come in.
enum Place {
    Kernel(SocketAddr),
    Device(Box<(StackOptions, DeviceOptions)>),
}

fn config(arguments: &Arguments) -> Config {
    let mut config = Config::default();
    let with = |feature| !arguments.without.contains(&feature);
    config.http.precomputed_headers = with(Feature::PrecomputedHeaders);
    config.http.date_cache = with(Feature::DateCache);
    config.http.in_place_parse = with(Feature::InPlaceParse);
    config.http.pcb_pool = with(Feature::PcbPool);
    config.http.header_merging = with(Feature::HeaderMerging);
    config.http.packet_merging = with(Feature::PacketMerging);
    config.http.deferred_accept = with(Feature::DeferredAccept);
    config.http.zero_copy = with(Feature::ZeroCopy);
    if arguments.sockets == Some(SocketsBy::IoUring) {
        config.calls = SocketCalls::best();
    }
    if !with(Feature::AsyncReads) {
        config.reading = Reading::InPlace;
    }
    config.http.http2 = arguments.http2;
    config.http.max_connections = arguments.max_connections;
    config.http.clean_urls = arguments.site.clean_urls;
    config.http.single_page = arguments.site.single_page;
    config.http.markdown = arguments.site.markdown;
    config.http.redirect_http = arguments.redirect_http;
    if let Some(Hsts(value)) = &arguments.hsts {
        config.secured_lines = format!("Strict-Transport-Security: {value}\r\n");
    }
    config.drain_limit = Duration::from_secs(arguments.drain_limit);
    config
}

/// What HTTPS is served with, if it is.
fn acceptor(plan: &Plan) -> anyhow::Result<Option<Arc<Acceptor>>> {
    let arguments = &plan.arguments;
    let files = sites::key_files(plan)?;
    arguments.acme.options()?;
    if files.is_empty() && !arguments.acme.is_given() {
        let https_only = [
            ("--tls-listen", arguments.tls_listen.is_some()),
            ("--tls-record", arguments.tls_record.is_some()),
            ("--tls-prefer", arguments.tls_prefer.is_some()),
            ("--redirect-http", arguments.redirect_http),
            ("--hsts", arguments.hsts.is_some()),
        ];
        if let Some((option, _)) = https_only.iter().find(|(_, given)| *given) {
            bail!(Usage(format!(
                "{option} is for HTTPS: add --tls-cert FILE and --tls-key FILE, or --acme NAME"
            )));
        }
        return Ok(None);
    }
    let preference = match arguments.tls_prefer {
        None | Some(Suite::Aes128) => Preference::Aes128,
        Some(Suite::Aes256) => Preference::Aes256,
        Some(Suite::Client) => Preference::Client,
    };
    let mut acceptor = Acceptor::with(files, preference).context("HTTPS cannot be served")?;
    acceptor.offer_http2(arguments.http2);
    if arguments.acme.proves_by_tls() {
        acceptor.offer_proofs();
    }
    acceptor.record_size = arguments.tls_record.unwrap_or_default();
    acceptor.fused = !arguments.without.contains(&Feature::FusedLoops);
    acceptor.into_frames = !arguments.without.contains(&Feature::FrameSealing);
    if !acceptor.own_records {
        tracing::warn!(
            "records are sealed by rustls: this processor has no AVX2, AES-NI and PCLMULQDQ for our loop"
        );
    }
    Ok(Some(Arc::new(acceptor)))
}

/// The line, or with HTTPS the two, that tell whoever waits for it that requests are served now.
fn announce(server: &Server, arguments: &Arguments) {
    let mut text = match unix_path(arguments) {
        _ if server.addr().port() != 0 => format!("listening on http://{}/\n", server.addr()),
        Some(path) => format!("listening on unix:{}\n", path.display()),
        None => "listening on a socket that was handed over\n".to_owned(),
    };
    if let Some(addr) = server.tls_addr() {
        text += &format!("listening on https://{addr}/\n");
    }
    // A closed standard output is no reason not to serve.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn print_report(report: &Report, form: CountersForm) {
    let text = match form {
        CountersForm::Table => report.to_string(),
        CountersForm::Json => format!("{}\n", report.to_json()),
    };
    // In one write, so that nothing of the log gets between its lines; a closed standard error is no reason
    // to end.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
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
