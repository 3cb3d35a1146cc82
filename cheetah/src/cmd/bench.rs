//! `cheetah bench --ablate`: what each specialisation is worth, on this machine. [`hits`]: what a cache would have found.
//!
//! Every server is this program, started anew, with one thing switched off; they take turns in rounds, and
//! what counts are processor time a request and a byte, relative within a round. See [`plan`] for what is
//! compared, and [`lab`] for how it is counted.

mod bounds;
mod figures;
mod hits;
mod lab;
mod load;
mod plan;
mod plot;
mod process;
mod program;
mod sealed;
mod table;
mod varied;

use std::fs;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use self::figures::{Figure, Figures};
use self::lab::Lab;
use self::load::Load;
use self::plan::{Plan, Server, Setting};
use self::varied::{ContentSource, Varied};
use super::Usage;
use super::features::Net;

/// Kept connections to one file.
const KEPT: Load =
    Load { name: "100 B, kept connections", folder: "/", size: 101, files: 1, keep: true, clients: 6 };

/// What is asked for: a connection each, as in the papers; kept connections, where what a request costs
/// shows; and bytes.
const LOADS: [Load; 3] = [
    Load { name: "100 B, a connection each", size: 100, keep: false, ..KEPT },
    KEPT,
    Load { name: "1 MB, kept connections", size: 1_000_000, clients: 4, ..KEPT },
];

/// The same of what is not in the cache when it is asked for: files in turn, four times as much as it holds.
const COLD_LOADS: [Load; 2] = [
    Load { name: "100 KB, cold, kept connections", size: 100_000, files: 640, ..KEPT },
    Load { name: "1 MB, cold, kept connections", size: 1_000_000, files: 64, clients: 4, ..KEPT },
];

/// The same of a program's output, as long as in the second paper.
const PROGRAM_LOADS: [Load; 2] = [
    Load { name: "50 KB of a program, made anew", folder: "/program/fresh/", size: 50_000, ..KEPT },
    Load { name: "50 KB of a program, kept by it", folder: "/program/kept/", size: 50_000, ..KEPT },
];

/// What the columns are.
const LEGEND: &str = "Medians; in parentheses the range of the rounds. CPU is the server's processor time, \"both ends\" the client's \
with it. A frame is\nwhat goes over the interface, both ways, a super-segment as one; \"touched\" the share of what was sent that was read or \
written by us.";

/// Before each measurement, unmeasured, and no longer than it.
const WARM_UP: Duration = Duration::from_millis(60);

/// Measure what each specialisation is worth here
///
/// Serves with all specialisations and without each, and in stages from a process a request on, over the
/// kernel's sockets and over our own TCP/IP, in a private network; prints processor time, frames, system
/// calls and rates. Takes some minutes and two processors; on a busy machine believe ratios only.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Compare with each specialisation switched off, and in stages
    #[arg(long)]
    ablate: bool,
    /// Count what each `--cache-policy` would have found of what an access log asks for, or a file with a line for each
    /// request: what, and of how many blocks it is; or of objects asked for by Zipf's law
    #[arg(long, value_name = "zipf|FILE", exclusive = true)]
    cache: Option<String>,
    /// Transports: kernel, tap, ring, packet
    #[arg(long, value_name = "NET,...", value_delimiter = ',', default_value = "kernel,tap")]
    net: Vec<Net>,
    /// Longest packets, in bytes; with `+offload` the interfaces sum and cut
    #[arg(
        long,
        value_name = "BYTES[+offload],...",
        value_delimiter = ',',
        default_value = "1500+offload,1500,9000"
    )]
    mtu: Vec<Setting>,
    /// Switch off only these, and leave the stages out. Beside what --without takes there are, with --cold, verify (--verify,
    /// which is on), and with --programs shared-output (memory that a program shares; without, FastCGI)
    #[arg(long, value_name = "FEATURE,...", value_delimiter = ',')]
    only: Vec<Varied>,
    /// Ask over HTTPS: TLS 1.3, AES-128-GCM
    #[arg(long)]
    tls: bool,
    /// Ask for what is in the file, not in the cache; pages are checked (`--verify`) as they are read. The system has them in
    /// memory, so a disk's speed is not in it
    #[arg(long)]
    cold: bool,
    /// Ask for what a program behind the server makes anew for each answer, and what it keeps; its processor
    /// time counts as the server's
    #[arg(long, conflicts_with = "cold")]
    programs: bool,
    /// How often each server has its turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long each is measured a turn, for each kind of requests
    #[arg(long, value_name = "SECONDS", default_value_t = 0.4)]
    seconds: f64,
    /// Write all figures of all rounds
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw them
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The stage that others are compared with, started by the measurement itself
    #[arg(long, num_args = 2, value_names = ["DIR", "ADDR:PORT"], hide = true, exclusive = true)]
    process_a_request: Option<Vec<String>>,
    /// A program behind a server: of shared memory, or by FastCGI at that socket
    #[arg(long, num_args = 0..=1, value_name = "SOCKET", hide = true, exclusive = true)]
    program_behind: Option<Option<PathBuf>>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some([dir, addr]) = arguments.process_a_request.as_deref() {
        let addr: SocketAddr = addr.parse().map_err(|_| Usage(format!("`{addr}` is no address and port")))?;
        return process::serve(dir.as_ref(), addr);
    }
    if let Some(socket) = &arguments.program_behind {
        return Ok(match socket {
            None => program::by_shared_memory(),
            Some(socket) => program::by_fastcgi(socket),
        }?);
    }
    if let Some(trace) = &arguments.cache {
        return hits::run(trace);
    }
    if !arguments.ablate {
        bail!(Usage("say what to measure: --ablate, or --cache zipf".to_owned()));
    }
    if !(0.01..=60.0).contains(&arguments.seconds) {
        bail!(Usage("--seconds: give 0.01 to 60".to_owned()));
    }
    let content = match (arguments.cold, arguments.programs) {
        (true, _) => ContentSource::Cold,
        (_, true) => ContentSource::Program,
        _ => ContentSource::Memory,
    };
    let with_stages = arguments.only.is_empty() && content == ContentSource::Memory;
    let varied = if arguments.only.is_empty() { Varied::of(content) } else { arguments.only.clone() };
    let loads: &[Load] = match content {
        ContentSource::Memory => &LOADS,
        ContentSource::Cold => &COLD_LOADS,
        ContentSource::Program => &PROGRAM_LOADS,
    };
    let plan = Plan::new(&arguments.net, &arguments.mtu, &varied, with_stages, arguments.tls, content);
    // Moves the process, so before there is a second thread.
    let lab = Lab::new(loads, arguments.tls)?;
    let machine = machine();
    let duration = Duration::from_secs_f64(arguments.seconds);
    let (figures, failures) = measure(&lab, &plan, loads, arguments.rounds, duration);
    let over = if arguments.tls { "; HTTPS, AES-128-GCM" } else { "" };
    let of = match content {
        ContentSource::Memory => "",
        ContentSource::Cold => "; cold, checked",
        ContentSource::Program => "; output of programs",
    };
    let heading = format!("{machine}; {} rounds of {} s{over}{of}", arguments.rounds, arguments.seconds);
    println!("{heading}");
    println!("{LEGEND}");
    let bounds = bounds::measure(content, arguments.tls);
    let no_bounds = bounds.as_ref().err().map(|error| format!("no loops to compare with: {error:#}"));
    for warning in warnings(&lab, &failures).into_iter().chain(no_bounds) {
        println!("warning: {warning}");
    }
    println!();
    print!("{}", table::all(&plan, loads, &figures, &bounds.unwrap_or_default()));
    if let Some(path) = &arguments.json {
        fs::write(path, to_json(&heading, &plan, loads, &figures, &failures))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &arguments.svg {
        let text = plot::svg(&heading, &plan, loads, &figures);
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !failures.is_empty() {
        bail!("{} measurements failed; the first: {}", failures.len(), failures[0]);
    }
    Ok(())
}

/// All servers in turn, round by round; and what went wrong.
fn measure(
    lab: &Lab,
    plan: &Plan,
    loads: &[Load],
    rounds: u32,
    duration: Duration,
) -> (Figures, Vec<String>) {
    let mut figures = Figures::new(plan.servers.len(), loads.len());
    let mut failures = Vec::new();
    let bar = bar(u64::from(rounds) * plan.servers.len() as u64);
    for round in 1..=rounds {
        for (i, server) in plan.servers.iter().enumerate() {
            let name = format!("{} {}: {}", server.net.name(), server.setting, table::describe(&server.kind));
            bar.set_message(format!("round {round}: {name}"));
            let results = measure_one(lab, server, loads, duration);
            for (load, result) in results.into_iter().enumerate() {
                let figure =
                    result.map_err(|error| failures.push(format!("{name}, {}: {error:#}", loads[load].name)));
                figures.push(i, load, figure.ok());
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    (figures, failures)
}

/// One server for all loads.
fn measure_one(
    lab: &Lab,
    server: &Server,
    loads: &[Load],
    duration: Duration,
) -> Vec<anyhow::Result<Figure>> {
    let running = match lab.start(server) {
        Ok(running) => running,
        Err(error) => return loads.iter().map(|_| Err(anyhow::anyhow!("{error:#}"))).collect(),
    };
    let of_load = |load: &Load| {
        let (addr, dialler) = (lab::addr(server), lab.dialler.as_ref());
        let response_len = load::check(addr, dialler, load)?;
        load::run(addr, dialler, load, response_len, WARM_UP.min(duration))?;
        let before = running.counts(&server.kind)?;
        let outcome = load::run(addr, dialler, load, response_len, duration)?;
        let after = running.counts(&server.kind)?;
        Ok(Figure::new(&outcome, response_len, &before, &after))
    };
    loads.iter().map(of_load).collect()
}

fn bar(len: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(len);
    match ProgressStyle::with_template("[{bar:30}] {pos}/{len} {eta} {wide_msg}") {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}

/// The machine that it was measured on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or(std::env::consts::ARCH, |(_, name)| name);
    let virtual_machine = if cpuinfo.contains(" hypervisor") { ", virtual" } else { "" };
    format!(
        "Linux {}, {cpu}{virtual_machine}, {} processors, load {} at the start",
        read("/proc/sys/kernel/osrelease").trim(),
        std::thread::available_parallelism().map_or(1, usize::from),
        load_average()
    )
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// What a reader of the figures must be told.
fn warnings(lab: &Lab, failures: &[String]) -> Vec<String> {
    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push("not an optimised build: use cargo run --release".to_owned());
    }
    if !lab.is_apart {
        warnings.push("one processor for server and client: rates mean nothing".to_owned());
    }
    warnings.extend(failures.iter().take(5).map(|failure| format!("no figure: {failure}")));
    warnings
}

/// One object, with a measurement a line.
fn to_json(heading: &str, plan: &Plan, loads: &[Load], figures: &Figures, failures: &[String]) -> String {
    let mut rows: Vec<String> = Vec::new();
    for i in 0..plan.servers.len() {
        for (j, load) in loads.iter().enumerate() {
            for (round, figure) in figures.rounds(i, j).iter().enumerate() {
                let Some(figure) = figure else { continue };
                let row = json!({
                    "server": i, "load": load.name, "round": round + 1,
                    "requests": figure.requests, "bytes": figure.bytes, "seconds": figure.seconds,
                    "cpu_s": figure.cpu_s, "both_cpu_s": figure.both_cpu_s, "frames": figure.frames, "calls": figure.calls,
                    "touched": figure.touched, "copied": figure.copied,
                });
                rows.push(row.to_string());
            }
        }
    }
    let servers: Vec<Value> = plan
        .servers
        .iter()
        .map(|server| {
            json!({
                "net": server.net.name(), "mtu": server.setting.mtu, "offload": server.setting.offload,
                "what": table::describe(&server.kind),
            })
        })
        .collect();
    let worlds: Vec<Value> = plan.worlds.iter().map(world_json).collect();
    let lines = |values: &[Value]| values.iter().map(Value::to_string).collect::<Vec<_>>().join(",\n");
    format!(
        "{{\"machine\": {}, \"failures\": {},\n\"servers\": [\n{}\n],\n\"worlds\": [\n{}\n],\n\"rows\": [\n{}\n]}}\n",
        json!(heading),
        json!(failures),
        lines(&servers),
        lines(&worlds),
        rows.join(",\n")
    )
}

fn world_json(world: &plan::World) -> Value {
    let switches: Vec<Value> = world
        .switches
        .iter()
        .map(|switch| match &switch.comparison {
            Ok(pair) => json!({ "off": switch.varied.name(), "with": pair.with, "without": pair.without }),
            Err(why) => json!({ "off": switch.varied.name(), "refused": why }),
        })
        .collect();
    let stages: Vec<Value> =
        world.stages.iter().map(|stage| json!({ "adds": stage.adds, "server": stage.server })).collect();
    json!({
        "net": world.net.name(), "mtu": world.setting.mtu, "offload": world.setting.offload,
        "switches": switches, "stages": stages,
    })
}
