//! `cheetah swamp URL`: asks a server for as much as it can give, or at a rate, and tells how long the
//! answers took.

use std::fs;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cheetah::swamp::{
    self, Addresses, Failure, Ledger, Mix, Options, Replay, Secrecy, Targets, Tell, Timetable, Trust, Url,
};
use cheetah::transport::device::{DeviceOptions, Interface};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::Usage;
use super::devices::open_devices;
use super::features::Net;
use super::serve::addresses::Network;

/// Ask a server for files over many connections, and tell how long the answers took
///
/// Without --rate each connection asks again as soon as it is answered: as much as the server can do. With it requests fall due
/// at that rate whoever waits, and an answer's time counts from when its request was due, so a server that
/// stalls does not make itself look better by being asked less.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to ask for, as in http://127.0.0.1:8080/index.html
    #[arg(value_name = "URL")]
    url: Url,
    /// Other paths of the same server, each as often as the URL's unless --zipf is given
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
    /// Paths of the same server from a file, a line each, as well
    #[arg(long, value_name = "FILE")]
    urls: Option<PathBuf>,
    /// Ask for what an access log (combined or JSON) has, in its order and from its beginning again at its
    /// end: its GETs that had an answer of less than 400
    #[arg(long, value_name = "LOG", conflicts_with_all = ["paths", "urls", "zipf"])]
    replay: Option<PathBuf>,
    /// Of --replay: ask when the log says it was asked, X times as fast (1 for as it was), as an open loop
    /// does
    #[arg(long, value_name = "X", requires = "replay", conflicts_with_all = ["rate", "random"], value_parser = speed)]
    speed: Option<f64>,
    /// The i-th path in proportion to 1/i^S: 0.7 to 1 is what sites see
    #[arg(long, value_name = "S", value_parser = exponent)]
    zipf: Option<f64>,
    /// Connections at once
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = count)]
    connections: usize,
    /// Threads; each has its share of connections and rate
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = count)]
    threads: usize,
    /// Requests a second, of all connections together
    #[arg(short, long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Requests fall due at random, as from people who know nothing of each other, not evenly
    #[arg(long, requires = "rate")]
    random: bool,
    /// A connection for each request
    #[arg(long)]
    close: bool,
    /// Ask by HTTP/2: of https:// as the handshake says, of http:// without asking whether the server speaks
    /// it
    #[arg(long)]
    http2: bool,
    /// Of --http2: so many requests at once on each connection, as far as the server allows
    #[arg(short = 'm', long, value_name = "N", default_value = "1", requires = "http2", value_parser = streams)]
    streams: NonZeroUsize,
    /// How long to count; 10 if it is not given, and with --speed as long as the log is
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<f64>,
    /// How long to ask before that, uncounted
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    warm_up: f64,
    /// An answer that takes longer is a failure
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    patience: f64,
    /// Compare the bytes of every answer with those that came first, by their CRC
    #[arg(long)]
    check: bool,
    /// What random choices begin with
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Of HTTPS: take certificates that those in this file, in PEM, vouch for; by default the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Of HTTPS: take any certificate
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// Of HTTPS: a whole handshake for each connection, though the server gives tickets
    #[arg(long)]
    no_resumption: bool,
    /// What carries the connections: kernel (its sockets), or our own TCP/IP on tap, ring, xdp or packet
    #[arg(long, value_name = "NET", default_value = "kernel")]
    net: Net,
    /// The interface: a TAP device's name (made if missing), or any Ethernet interface for ring, xdp and
    /// packet
    #[arg(long, value_name = "NAME")]
    dev: Option<String>,
    /// Our own address, which the kernel must not have
    #[arg(long, value_name = "IP/PREFIX")]
    addr: Option<Network>,
    /// Give the kernel's end of the TAP device this address, and set it up
    #[arg(long, value_name = "IP")]
    host_addr: Option<Ipv4Addr>,
    /// The way out of that network
    #[arg(long, value_name = "IP")]
    gateway: Option<Ipv4Addr>,
    /// Print figures as JSON
    #[arg(long)]
    json: bool,
    /// Draw latency by percentile, and rate and latency by second
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=1 << 20).contains(count)).ok_or_else(|| "1 to 1048576".to_owned())
}

fn streams(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= 1000).ok_or_else(|| "1 to 1000".to_owned())
}

fn positive(text: &str, most: f64) -> Option<f64> {
    text.parse().ok().filter(|number| *number > 0.0 && *number <= most)
}

fn rate(text: &str) -> Result<f64, String> {
    positive(text, 1e8).ok_or_else(|| "give a number of requests a second".to_owned())
}

fn exponent(text: &str) -> Result<f64, String> {
    positive(text, 10.0).ok_or_else(|| "give a number like 0.8".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    positive(text, 1000.0).ok_or_else(|| "give a number like 1 or 10, 1000 at most".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let is_zero = text.parse() == Ok(0.0);
    positive(text, 86_400.0)
        .or(is_zero.then_some(0.0))
        .ok_or_else(|| "give a number of seconds, a day at most".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = options(arguments)?;
    let total = options.warm_up + options.duration;
    let bar = ProgressBar::new(total.as_millis() as u64);
    let style = "{bar:40} {elapsed} of ";
    bar.set_style(ProgressStyle::with_template(&format!("{style}{}", seconds_text(total)))?);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }
    let ledger = match arguments.net {
        Net::Kernel => on_kernel(&options, arguments.threads, &bar)?,
        Net::Tap | Net::Ring | Net::Xdp | Net::Packet => on_device(arguments, &options, &bar)?,
    };
    bar.finish_and_clear();
    let heading = heading(arguments, &options);
    if arguments.json {
        println!("{}", to_json(&heading, &options, &ledger));
    } else {
        print!("{heading}\n{}", table(&options, &ledger));
    }
    if let Some(path) = &arguments.svg {
        fs::write(path, swamp::svg(&heading, &ledger))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    ensure!(ledger.answers() > 0, "no answer was right");
    Ok(())
}

fn options(arguments: &Arguments) -> anyhow::Result<Options> {
    let Arguments { url, paths, urls, threads, connections, .. } = arguments;
    if connections < threads {
        bail!(Usage(format!("--connections {connections} do not suffice for --threads {threads}")));
    }
    if arguments.close && arguments.streams.get() > 1 {
        bail!(Usage("with --close a connection has one request, so --streams can be 1 alone".to_owned()));
    }
    let mut all = vec![url.path.clone()];
    all.extend(paths.iter().cloned());
    if let Some(file) = urls {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        all.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    let (mut order, mut timetable) = (Vec::new(), None);
    if let Some(file) = &arguments.replay {
        let text = fs::read(file).with_context(|| file.display().to_string())?;
        let replay = Replay::of_log(&String::from_utf8_lossy(&text));
        if replay.order.is_empty() {
            bail!("{}: there is no GET with an answer of less than 400 in it", file.display());
        }
        if replay.skipped > 0 {
            let (skipped, kept) = (replay.skipped, replay.order.len());
            tracing::info!("{}: {skipped} lines are left out, {kept} are asked for", file.display());
        }
        if let Some(speed) = arguments.speed {
            let table = replay.seconds.and_then(|seconds| Timetable::new(&seconds, speed));
            timetable = Some(table.with_context(|| {
                format!("{}: it does not say when the first was asked for; leave --speed out", file.display())
            })?);
        }
        (all, order) = (replay.targets, replay.order);
    }
    let targets = if arguments.http2 {
        Targets::over_http2(url, &all)
    } else {
        Targets::new(url, &all, !arguments.close)
    };
    let targets = targets.map_err(Usage)?;
    let secrecy = if url.secured { Some(secrecy(arguments)?) } else { None };
    let addr = resolve(url, arguments.net)?;
    let duration = match (arguments.duration, &timetable) {
        (Some(seconds), _) => Duration::from_secs_f64(seconds.max(0.001)),
        (None, Some(table)) => table.length().min(MAX_REPLAY),
        (None, None) => Duration::from_secs(10),
    };
    Ok(Options {
        mix: match arguments.zipf {
            _ if !order.is_empty() => Mix::in_order(&order),
            Some(exponent) => Mix::zipf(targets.len(), exponent),
            None => Mix::even(targets.len()),
        },
        secrecy,
        http2: arguments.http2.then_some(arguments.streams),
        connections: *connections,
        rate: arguments.rate,
        random_arrivals: arguments.random,
        timetable,
        keep: !arguments.close,
        verify: arguments.check,
        warm_up: Duration::from_secs_f64(arguments.warm_up),
        duration,
        patience: Duration::from_secs_f64(arguments.patience.max(0.001)),
        seed: arguments.seed,
        ..Options::new(addr, Arc::new(targets))
    })
}

/// However slowly a log is to be asked for.
const MAX_REPLAY: Duration = Duration::from_secs(24 * 3600);

/// Where systems keep the certificates of authorities.
const SYSTEMS_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

fn secrecy(arguments: &Arguments) -> anyhow::Result<Secrecy> {
    let file = arguments.ca.clone().unwrap_or_else(|| SYSTEMS_AUTHORITIES.into());
    let trust = if arguments.insecure { Trust::Anybody } else { Trust::Authorities(&file) };
    let secrecy = Secrecy::new(&arguments.url.host, trust, !arguments.no_resumption);
    let secrecy = secrecy.map_err(|why| Usage(format!("{why}; give --ca FILE, or --insecure")))?;
    Ok(if arguments.http2 { secrecy.over_http2() } else { secrecy })
}

fn resolve(url: &Url, net: Net) -> anyhow::Result<SocketAddr> {
    let found = (url.host.as_str(), url.port).to_socket_addrs().with_context(|| url.host.clone())?;
    let of_v4 = |addr: &SocketAddr| net == Net::Kernel || addr.is_ipv4();
    found.into_iter().find(of_v4).with_context(|| format!("{} has no address for this --net", url.host))
}

/// Measures over the kernel's sockets.
fn on_kernel(options: &Options, threads: usize, bar: &ProgressBar) -> anyhow::Result<Ledger> {
    by_threads(vec![(); threads], options, bar, |(), options, tell| swamp::run_on_kernel(options, tell))
}

/// Measures by as many threads as there are `means`, one for each; the first tells how far they are.
fn by_threads<M: Send>(
    means: Vec<M>,
    options: &Options,
    bar: &ProgressBar,
    run: impl Fn(M, &Options, Tell<'_>) -> std::io::Result<Ledger> + Sync,
) -> anyhow::Result<Ledger> {
    let count = means.len();
    let run = &run;
    let ledgers: Vec<std::io::Result<Ledger>> = std::thread::scope(|scope| {
        let mut means = means.into_iter().enumerate();
        let first = means.next();
        let others: Vec<_> = means
            .map(|(thread, means)| {
                let options = options.share(thread, count);
                scope.spawn(move || run(means, &options, &mut |_| {}))
            })
            .collect();
        let tell = &mut |elapsed: Duration| bar.set_position(elapsed.as_millis() as u64);
        let first = first.map(|(thread, means)| run(means, &options.share(thread, count), tell));
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        first.into_iter().chain(others.into_iter().map(join)).collect()
    });
    let mut all = Ledger::default();
    for ledger in ledgers {
        all.add(&ledger?);
    }
    Ok(all)
}

/// Measures over our own TCP/IP.
fn on_device(arguments: &Arguments, options: &Options, bar: &ProgressBar) -> anyhow::Result<Ledger> {
    let name = arguments.net.name();
    let Some(Network(addr, prefix_len)) = arguments.addr else {
        bail!(Usage(format!("--net {name} needs an address of its own: --addr IP/PREFIX")));
    };
    let interface = match (arguments.net, arguments.dev.clone()) {
        (Net::Tap, name) => {
            let host_addr = arguments.host_addr.map(|host| (host, prefix_len));
            Interface::Tap { name, host_addr, mtu: None }
        }
        (Net::Ring, Some(name)) => Interface::Ring { name },
        (Net::Xdp, Some(name)) => Interface::Xdp { name, addr, addr6: None, handlers: Vec::new() },
        (Net::Packet, Some(name)) => Interface::Packet { name },
        _ => bail!(Usage(format!("--net {name} needs an interface: --dev NAME"))),
    };
    let addresses = Addresses { addr: (addr, prefix_len), gateway: arguments.gateway };
    let options_of_device = DeviceOptions { addrs: vec![addr.into()], ..DeviceOptions::new(interface) };
    let devices = open_devices(&options_of_device, arguments.threads)?;
    by_threads(devices, options, bar, |(opened, sharing), options, tell| {
        swamp::run_on_stack(opened.device, sharing, addresses, options, tell)
    })
}

fn heading(arguments: &Arguments, options: &Options) -> String {
    let Options { connections, rate, keep, duration, .. } = options;
    let others = match options.targets.len() {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let how = match (rate, arguments.random) {
        (None, _) if arguments.speed.is_some_and(|speed| speed != 1.0) => {
            format!("when the log says, {} times as fast", arguments.speed.unwrap_or(1.0))
        }
        (None, _) if arguments.speed.is_some() => "when the log says".to_owned(),
        (None, _) => "asking again when answered".to_owned(),
        (Some(rate), false) => format!("{rate} requests a second"),
        (Some(rate), true) => format!("{rate} requests a second at random"),
    };
    let kept = if *keep { "kept" } else { "for one request each" };
    let streams = match options.http2.map_or(0, NonZeroUsize::get) {
        0 => String::new(),
        1 => " by HTTP/2".to_owned(),
        n => format!(" by HTTP/2 with {n} requests at once"),
    };
    format!(
        "{}{others}: {connections} connections {kept}{streams}, {how}, {}, over {}",
        arguments.url,
        seconds_text(*duration),
        arguments.net.name()
    )
}

fn seconds_text(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 100.0];

fn table(options: &Options, ledger: &Ledger) -> String {
    let seconds = options.duration.as_secs_f64();
    let answers = ledger.answers();
    let rate = answers as f64 / seconds;
    let mut out = format!("answers      {answers:>12}  {rate:.1} a second\n");
    out += &format!(
        "bytes        {:>12}  {:.1} MB a second of contents\n",
        ledger.bytes,
        ledger.bytes as f64 / 1e6 / seconds
    );
    for percent in PERCENTILES {
        let name = if percent == 100.0 { "longest".to_owned() } else { format!("{percent} %") };
        out += &format!("latency      {:>12}  {name}\n", format!("{:.1?}", ledger.percentile(percent)));
    }
    let failures: Vec<String> = Failure::ALL
        .into_iter()
        .map(|failure| (ledger.failures[failure as usize], failure.name()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let failures = if failures.is_empty() { "none".to_owned() } else { failures.join(", ") };
    out += &format!("failed       {:>12}  {failures}\n", ledger.failed());
    out += &format!("connections  {:>12}  made while it was counted\n", ledger.connections);
    if answers > 0 {
        let cpu = ledger.cpu.as_secs_f64();
        let each = cpu * 1e6 / answers as f64;
        out += &format!("own CPU      {:>12}  {each:.2} us an answer\n", format!("{cpu:.2} s"));
    }
    out
}

fn to_json(heading: &str, options: &Options, ledger: &Ledger) -> Value {
    let percentiles: serde_json::Map<String, Value> = PERCENTILES
        .into_iter()
        .map(|percent| (format!("{percent}"), json!(ledger.percentile(percent).as_nanos() as u64)))
        .collect();
    let failures: serde_json::Map<String, Value> = Failure::ALL
        .into_iter()
        .map(|failure| (failure.name().replace(' ', "_"), json!(ledger.failures[failure as usize])))
        .collect();
    let seconds: Vec<Value> = ledger
        .seconds
        .iter()
        .map(
            |second| json!({ "answers": second.answers, "p99_ns": second.latency.value_at_percentile(99.0) }),
        )
        .collect();
    json!({
        "what": heading,
        "seconds": options.duration.as_secs_f64(),
        "answers": ledger.answers(),
        "answers_per_s": ledger.answers() as f64 / options.duration.as_secs_f64(),
        "bytes": ledger.bytes,
        "latency_ns": percentiles,
        "failures": failures,
        "connections": ledger.connections,
        "cpu_s": ledger.cpu.as_secs_f64(),
        "each_second": seconds,
    })
}
