//! The place of a measurement: a private network, a server in a process of its own on one processor, the
//! client on another.
//!
//! On the kernel's sockets and on rings, a pair of virtual interfaces joins two network namespaces; a TAP
//! device's far end is the client's interface. What the server cost is read from outside: nanoseconds on a
//! processor from `/proc/PID/task/*/schedstat`, frames from the interface, calls and bytes from its own
//! counters (SIGUSR1). The work of the kernel that a send sets off, down to the other end's receiving half,
//! is done in the sender's time and counted as its: so the kernel's TCP answers requests in the client's
//! time, in part, and our own does not. What both ends took together tells.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use netstack::sys::{link, netns};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use super::load::Load;
use super::plan::{Kind, Server};
use super::program;
use super::sealed::{Dialler, Files};
use super::varied::ContentSource;
use crate::cmd::features::Net;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 84, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 84, 0, 2);
const PREFIX_LEN: u8 = 24;
const PORT: u16 = 8080;
const TLS_PORT: u16 = 443;

/// A quarter of what is asked for where nothing shall be there when it is.
const COLD_CACHE: &str = "16M";

/// The server's interface; on TAP it is the client's, too.
const SERVER_DEV: &str = "bench0";
const CLIENT_DEV: &str = "bench1";

/// Settings of the kernel's TCP at both ends. Not every kernel has all of them in a namespace; those are
/// left.
const SETTINGS: [(&str, &str); 8] = [
    // A pacing congestion control, often the default, costs small responses a factor of three.
    ("net/ipv4/tcp_congestion_control", "reno"),
    ("net/ipv4/ip_local_port_range", "1024 65535"),
    ("net/ipv4/tcp_tw_reuse", "1"),
    ("net/ipv4/tcp_no_metrics_save", "1"),
    ("net/ipv4/tcp_max_syn_backlog", "8192"),
    ("net/core/somaxconn", "8192"),
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

/// The networks, the files, and the processors.
pub(super) struct Lab {
    client: netns::Namespace,
    server: netns::Namespace,
    folder: Folder,
    /// How to connect, of HTTPS.
    pub(super) dialler: Option<Dialler>,
    server_cpu: CpuSet,
    client_cpu: CpuSet,
    /// Whether both have a processor of their own.
    pub(super) is_apart: bool,
}

/// Removed with all in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a server has done and cost so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Nanoseconds on a processor.
    pub(super) cpu_ns: u64,
    /// Frames over the server's interface, both ways.
    pub(super) frames: u64,
    /// Its own counters, where it has any: system calls, and bytes sent, copied and summed.
    pub(super) work: Option<Value>,
}

impl Lab {
    /// Takes this process, which must have one thread, into a private network; with a certificate if `tls`.
    pub(super) fn new(loads: &[Load], tls: bool) -> anyhow::Result<Lab> {
        netns::enter_private().context("no private network: user namespaces are needed, or root")?;
        let client = netns::Namespace::current()?;
        let server = netns::Namespace::new()?;
        for namespace in [&server, &client] {
            namespace.enter()?;
            link::set_up("lo").context("loopback")?;
            for (name, value) in SETTINGS {
                let _ = fs::write(Path::new("/proc/sys").join(name), value);
            }
        }
        let folder = Folder(std::env::temp_dir().join(format!("cheetah-bench-{}", std::process::id())));
        let files = folder.0.join("site");
        fs::create_dir_all(&files).with_context(|| files.display().to_string())?;
        for load in loads {
            for i in 0..load.files {
                fs::write(files.join(load.file(i)), load.contents(i))?;
            }
        }
        let mut lab = Lab::pin(client, server, folder)?;
        if tls {
            lab.secrets().make()?;
            lab.dialler = Some(Dialler::new(&lab.secrets())?);
        }
        let packed = Command::new("/proc/self/exe")
            .arg("pack")
            .arg(lab.files())
            .arg("-o")
            .arg(lab.image())
            .output()?;
        if !packed.status.success() {
            bail!("packing failed: {}", String::from_utf8_lossy(&packed.stderr));
        }
        Ok(lab)
    }

    fn pin(client: netns::Namespace, server: netns::Namespace, folder: Folder) -> anyhow::Result<Lab> {
        let all = sched_getaffinity(None)?;
        let one = |skipped: usize| {
            let mut set = CpuSet::new();
            let cpu = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).nth(skipped)?;
            set.set(cpu);
            Some(set)
        };
        let server_cpu = one(0).context("no processor")?;
        let client_cpu = one(1);
        let is_apart = client_cpu.is_some();
        let client_cpu = client_cpu.unwrap_or(server_cpu);
        Ok(Lab { client, server, folder, dialler: None, server_cpu, client_cpu, is_apart })
    }

    fn secrets(&self) -> Files {
        Files::of(&self.folder.0)
    }

    fn files(&self) -> PathBuf {
        self.folder.0.join("site")
    }

    fn image(&self) -> PathBuf {
        self.folder.0.join("site.img")
    }

    /// Where a program listens that is asked by FastCGI.
    fn socket(&self) -> PathBuf {
        self.folder.0.join("program.sock")
    }

    /// Starts that program, beside the server.
    fn start_program(&self) -> anyhow::Result<ProgramBehind> {
        let _ = fs::remove_file(self.socket());
        let mut command = Command::new("/proc/self/exe");
        command.args(["bench", "--program-behind"]).arg(self.socket());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut behind = ProgramBehind(child);
        let mut line = String::new();
        BufReader::new(behind.0.stdout.take().context("no output")?).read_line(&mut line)?;
        if !line.starts_with("listening") {
            bail!("the program behind the server does not start");
        }
        Ok(behind)
    }

    /// Starts a server and waits until it listens.
    pub(super) fn start(&self, server: &Server) -> anyhow::Result<Running> {
        // What is left of the last one, if anything; its other end goes with it.
        let _ = link::delete(CLIENT_DEV);
        if server.net != Net::Tap {
            self.lay_cable(server).context("a pair of virtual interfaces")?;
        }
        let mut command = self.command(server);
        command
            .env("CHEETAH_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A child is where its parent was.
        if server.net != Net::Tap {
            self.server.enter()?;
        }
        sched_setaffinity(None, &self.server_cpu)?;
        let behind = match server.kind {
            Kind::FastCgi(_) => self.start_program().map(Some),
            _ => Ok(None),
        };
        // Without its program no server is started: nobody would end it.
        let started = behind.and_then(|behind| Running::new(command.spawn()?, behind));
        self.client.enter()?;
        sched_setaffinity(None, &self.client_cpu)?;
        let mut running = started?;
        running.wait_until_it_listens(server)?;
        Ok(running)
    }

    /// A pair of interfaces: the server's, with an address if the kernel is to answer, and the client's.
    fn lay_cable(&self, server: &Server) -> anyhow::Result<()> {
        link::create_veth(SERVER_DEV, CLIENT_DEV)?;
        link::move_to(SERVER_DEV, rustix::fd::AsFd::as_fd(&self.server))?;
        self.server.enter()?;
        let at_server = set_end_up(SERVER_DEV, server, (server.net == Net::Kernel).then_some(SERVER));
        self.client.enter()?;
        at_server?;
        set_end_up(CLIENT_DEV, server, Some(CLIENT))
    }

    fn command(&self, server: &Server) -> Command {
        let mut command = Command::new("/proc/self/exe");
        let listen = format!("{SERVER}:{PORT}");
        let without = match &server.kind {
            Kind::Processes => {
                command.args(["bench", "--process-a-request"]).arg(self.files()).arg(listen);
                return command;
            }
            Kind::Folder(without) => {
                command.arg("serve").arg(self.files()).args(["--store", "folder"]);
                without
            }
            Kind::Image(without) | Kind::Unverified(without) => {
                command.arg("serve").arg(self.image());
                without
            }
            Kind::Shared(without) => {
                let program = format!("{}=/proc/self/exe bench --program-behind", program::PREFIX);
                command.arg("serve").arg(self.image()).args(["--program", &program]);
                without
            }
            Kind::FastCgi(without) => {
                let program = format!("{}=unix:{}", program::PREFIX, self.socket().display());
                command.arg("serve").arg(self.image()).args(["--fastcgi", &program]);
                without
            }
        };
        command.args(["--counters", "json", "--net", server.net.name(), "--listen", &listen]);
        if server.net != Net::Kernel {
            command.args(["--dev", SERVER_DEV, "--addr", &format!("{SERVER}/{PREFIX_LEN}")]);
        }
        if server.tls {
            let Files { cert, key } = self.secrets();
            command.args(["--tls-listen", &format!("{SERVER}:{TLS_PORT}"), "--tls-cert"]).arg(cert);
            command.arg("--tls-key").arg(key);
        }
        if server.content == ContentSource::Cold && !matches!(server.kind, Kind::Processes | Kind::Folder(_))
        {
            command.args(["--cache", COLD_CACHE]);
            if !matches!(server.kind, Kind::Unverified(_)) {
                command.arg("--verify");
            }
        }
        if server.net == Net::Tap {
            command.args(["--host-addr", &CLIENT.to_string(), "--mtu", &server.setting.mtu.to_string()]);
        }
        if !without.is_empty() {
            let names: Vec<&str> = without.iter().map(|feature| feature.name()).collect();
            command.arg("--without").arg(names.join(","));
        }
        command
    }
}

fn set_end_up(name: &str, server: &Server, addr: Option<Ipv4Addr>) -> anyhow::Result<()> {
    link::set_mtu(name, server.setting.mtu)?;
    link::set_tx_offload(name, server.setting.offload)?;
    if let Some(addr) = addr {
        link::add_address(name, addr, PREFIX_LEN)?;
    }
    Ok(link::set_up(name)?)
}

/// Where it listens.
pub(super) fn addr(server: &Server) -> SocketAddr {
    SocketAddr::from((SERVER, if server.tls { TLS_PORT } else { PORT }))
}

/// A program behind a server that was not started by that; it ends with this.
struct ProgramBehind(Child);

impl Drop for ProgramBehind {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server that runs; it ends with this.
pub(super) struct Running {
    child: Child,
    behind: Option<ProgramBehind>,
    lines: Receiver<String>,
}

impl Running {
    fn new(mut child: Child, behind: Option<ProgramBehind>) -> anyhow::Result<Running> {
        let (teller, lines) = channel();
        let (out, errors) =
            (child.stdout.take().context("no output")?, child.stderr.take().context("no output")?);
        let teller_of_errors = teller.clone();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| teller.send(line))
        });
        std::thread::spawn(move || {
            BufReader::new(errors)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| teller_of_errors.send(line))
        });
        Ok(Running { child, behind, lines })
    }

    /// The next line that `wanted` likes. The server's complaint if it ends or keeps silent instead.
    fn line(&self, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(10)) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(line) => said.push(line),
                Err(_) => bail!("the server does not answer: {}", said.join("; ")),
            }
        }
    }

    fn wait_until_it_listens(&mut self, server: &Server) -> anyhow::Result<()> {
        let scheme = if server.tls { "https" } else { "http" };
        let sign = format!("listening on {scheme}://");
        self.line(|line| line.starts_with(&sign)).map(drop)
    }

    /// What it has done and cost so far.
    pub(super) fn counts(&self, kind: &Kind) -> anyhow::Result<Counts> {
        // What was under way when the client let go; asleep, all its time is accounted for.
        std::thread::sleep(Duration::from_millis(3));
        let pid = self.child.id();
        let work = match kind {
            Kind::Processes => None,
            _ => {
                kill_process(Pid::from_child(&self.child), Signal::USR1)?;
                let report = self.line(|line| line.starts_with('{'))?;
                std::thread::sleep(Duration::from_millis(1));
                Some(serde_json::from_str::<Value>(&report)?["work"].take())
            }
        };
        let mut ns = cpu_ns(pid)?;
        ns += match kind {
            Kind::Shared(_) => children(pid)?.into_iter().map(cpu_ns).sum::<anyhow::Result<u64>>()?,
            _ => self.behind.as_ref().map_or(Ok(0), |behind| cpu_ns(behind.0.id()))?,
        };
        Ok(Counts { cpu_ns: ns, frames: frames(pid, SERVER_DEV)?, work })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nanoseconds that a process, its threads and those children that it has waited for were on a processor.
fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let mut ns = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text =
            fs::read_to_string(thread?.path().join("schedstat")).context("the kernel keeps no schedstat")?;
        ns += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).context("schedstat")?;
    }
    Ok(ns + children_ns(&fs::read_to_string(format!("/proc/{pid}/stat"))?).context("stat")?)
}

/// The processes that a process has started and not yet waited for.
fn children(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(other) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may have ended meanwhile.
        let stat = fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_ascii_whitespace().nth(1));
        if parent.and_then(|parent| parent.parse().ok()) == Some(pid) {
            found.push(other);
        }
    }
    Ok(found)
}

/// Of `/proc/PID/stat`: the time of children, which it gives in hundredths of a second (`proc_pid_stat(5)`).
fn children_ns(stat: &str) -> Option<u64> {
    const NS_A_TICK: u64 = 10_000_000;
    // The name in parentheses may hold anything. Behind it, fields 16 and 17 counted from 1.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(16 - 3);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) * NS_A_TICK)
}

/// Frames over an interface of the process's network, both ways; a super-segment counts as one.
fn frames(pid: u32, name: &str) -> anyhow::Result<u64> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    interface_frames(&table, name).with_context(|| format!("no interface {name}"))
}

fn interface_frames(table: &str, name: &str) -> Option<u64> {
    let numbers = table.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))?;
    let number = |at| numbers.split_ascii_whitespace().nth(at)?.parse::<u64>().ok();
    Some(number(1)? + number(9)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_found() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let found = children(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()), "{found:?}");
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let stat = "77 (a ) b) S 1 77 77 0 -1 4194560 100 200 0 0 5 6 70 8 20 0 1 0 100 0 0";
        assert_eq!(children_ns(stat), Some(780_000_000));
        let table = "Inter-|   Receive\n face |bytes packets\n    lo: 1 2 3 4 5 6 7 8 9 10 11\nbench0: 10 20 0 0 0 0 0 0 5 6 0\n";
        assert_eq!(interface_frames(table, "bench0"), Some(26));
        assert_eq!(interface_frames(table, "bench"), None);
    }
}
