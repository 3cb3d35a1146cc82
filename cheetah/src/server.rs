//! A server as a whole: its threads, its signals, its site and how that is replaced.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fsstack::cache::BlockReader;
use netstack::device::Device;
use netstack::sharing::Sharing;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;

use crate::access_log::Format;
use crate::hosts::{Host, HostName, Hosts, NameTaken};
use crate::programs::{self, Programs};
use crate::reading::Reading;
use crate::report::Report;
use crate::scrub;
use crate::service::{Options, Service, Stats};
use crate::store::{Feed, Found, Store};
use crate::tls::Acceptor;
use crate::transport::control::{self, Commander, Order, Shared};
use crate::transport::kernel::{self, SocketCalls};
use crate::transport::stack;
use crate::upload::Uploads;

/// How a server runs, whatever carries its connections.
#[derive(Clone, Debug)]
pub struct Config {
    /// The HTTP side.
    pub http: Options,
    /// Where and how requests of the first site are written down.
    pub access_log: Option<(String, Format)>,
    /// Further sites, for requests that ask for their names.
    pub named: Vec<(Vec<HostName>, Host)>,
    /// Requests for other names than those are for the first site; off, they are refused (421).
    pub serves_unknown: bool,
    /// Lines of the heads that go to clients of HTTPS alone, each ended by CR LF:
    /// `Strict-Transport-Security`.
    pub secured_lines: String,
    /// How long connections may take to finish once the server is told to end.
    pub drain_limit: Duration,
    /// How the system calls of connections on the kernel's sockets are made.
    pub calls: SocketCalls,
    /// Sockets that listen already, in place of those that would be made: each loop takes from them.
    pub sockets: Sockets,
    /// Certificates, where connections are secured.
    pub tls: Option<Tls>,
    /// Who takes files that clients of the first site put, if anybody does.
    pub uploads: Option<Arc<Uploads>>,
    /// Programs that answer for some paths.
    pub programs: Arc<programs::Config>,
    /// How what is not in memory is read.
    pub reading: Reading,
}

/// Listening sockets that another has made: a supervisor, or who listens in the file system.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// For HTTP.
    pub http: Option<Arc<OwnedFd>>,
    /// For HTTPS.
    pub https: Option<Arc<OwnedFd>>,
}

/// Secured connections: with which certificates, and where they come in.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Accepts them.
    pub acceptor: Arc<Acceptor>,
    /// Where, on the kernel's sockets; of our own TCP/IP the port counts ([`stack::StackOptions::tls_port`]).
    pub addr: SocketAddr,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            http: Options::default(),
            access_log: None,
            named: Vec::new(),
            serves_unknown: true,
            secured_lines: String::new(),
            drain_limit: Duration::from_secs(10),
            calls: SocketCalls::Epoll,
            sockets: Sockets::default(),
            tls: None,
            uploads: None,
            programs: Arc::default(),
            reading: Reading::best(),
        }
    }
}

impl Config {
    /// All sites, with `site` as the first.
    ///
    /// # Errors
    /// If two have the same name.
    pub fn hosts(&self, site: Arc<dyn Store>) -> Result<Hosts, NameTaken> {
        let first = Host {
            uploads: self.uploads.clone(),
            access_log: self.access_log.clone(),
            clean_urls: self.http.clean_urls,
            single_page: self.http.single_page,
            markdown: self.http.markdown,
            ..Host::new(site)
        };
        Hosts::new(first, self.serves_unknown, self.named.iter().cloned())
    }

    /// What one loop shares among its connections.
    ///
    /// # Errors
    /// If an access log cannot be opened.
    pub fn service(&self, hosts: &Arc<Hosts>) -> io::Result<Service> {
        let mut service = Service::new(Arc::clone(&hosts.first().site), self.http);
        service.take_up(Arc::clone(hosts))?;
        service.reading = self.reading.clone();
        if !self.secured_lines.is_empty() {
            service.say_when_secured(self.secured_lines.as_bytes().into());
        }
        if let Some(tls) = &self.tls {
            service.secure(Arc::clone(&tls.acceptor));
        }
        if !self.programs.routes.is_empty() {
            service.programs = Some(Box::new(Programs::new(Arc::clone(&self.programs))));
        }
        Ok(service)
    }
}

/// A site without files: of a server whose sites all have names.
#[derive(Debug)]
pub struct NoSite;

impl Store for NoSite {
    fn look_up(&self, _path: &[u8], _reader: &BlockReader) -> Found {
        Found::Nothing
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    commanders: Vec<Commander>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Threads beside the loops: who tells the counters, who scrubs.
    beside: Vec<Beside>,
    addr: SocketAddr,
    tls_addr: Option<SocketAddr>,
    /// Becomes readable when a loop has ended, told or not.
    ended: UnixStream,
    end_teller: UnixStream,
}

impl Server {
    /// Serves `site` on the kernel's sockets, `workers` threads sharing `addr`. When this returns,
    /// connections are accepted.
    ///
    /// # Errors
    /// If the address cannot be bound, or the log not opened.
    pub fn on_kernel(
        site: Arc<dyn Store>,
        addr: SocketAddr,
        workers: usize,
        config: &Config,
    ) -> io::Result<Server> {
        let workers = workers.max(1);
        let hosts = Arc::new(config.hosts(site).map_err(io::Error::other)?);
        let shared = Arc::new(Shared::new(Arc::clone(&hosts)));
        let listen = |given: &Option<Arc<OwnedFd>>, addr| match given {
            Some(socket) => kernel::adopt(socket, &config.http),
            None => kernel::listener(addr, workers > 1, &config.http),
        };
        let mut bound = addr;
        let mut tls_bound = config.tls.as_ref().map(|tls| tls.addr);
        let mut server = Server::new(&shared, addr)?;
        for i in 0..workers {
            let listener = listen(&config.sockets.http, bound)?;
            // Port 0 becomes a real one with the first socket; the others share it.
            bound = kernel::local_addr(&listener)?;
            let listen_tls = |addr| listen(&config.sockets.https, addr);
            let tls_listener = tls_bound.map(listen_tls).transpose()?;
            tls_bound = tls_listener.as_ref().map(kernel::local_addr).transpose()?;
            let (commander, orders) = control::pair()?;
            let mut service = config.service(&hosts)?;
            service.https_port = tls_bound.map(|addr| addr.port());
            // The kernel spreads connections evenly over the sockets of a port, so each loop gets its share
            // of them.
            service.options.max_connections = service.options.max_connections.div_ceil(workers);
            let (shared, limit, calls) = (Arc::clone(&shared), config.drain_limit, config.calls);
            server.commanders.push(commander);
            server.start(&format!("kernel-{i}"), move || {
                let mut worker = kernel::Worker::new(calls, listener, orders, shared, service, limit)?;
                tls_listener.map_or(Ok(()), |listener| worker.listen_tls(listener))?;
                Ok(move || worker.run())
            })?;
        }
        server.addr = bound;
        server.tls_addr = tls_bound;
        Ok(server)
    }

    /// Serves `site` on `device` by our own TCP/IP. When this returns, the loop is about to run.
    ///
    /// # Errors
    /// If the system has no more descriptors or random bytes, or the log cannot be opened.
    pub fn on_device<D: Device + Send + 'static>(
        site: Arc<dyn Store>,
        device: D,
        options: &stack::StackOptions,
        config: &Config,
    ) -> io::Result<Server> {
        Server::on_devices(site, vec![(device, None)], options, config)
    }

    /// The same on several devices, a thread each, which are queues of one interface and share the address.
    ///
    /// # Errors
    /// As [`Server::on_device`].
    pub fn on_devices<D: Device + Send + 'static>(
        site: Arc<dyn Store>,
        devices: Vec<(D, Option<Sharing>)>,
        options: &stack::StackOptions,
        config: &Config,
    ) -> io::Result<Server> {
        let hosts = Arc::new(config.hosts(site).map_err(io::Error::other)?);
        let shared = Arc::new(Shared::new(Arc::clone(&hosts)));
        let mut server = Server::new(&shared, stack::listen_addr(options))?;
        server.tls_addr = options.tls_port.map(|port| SocketAddr::new(server.addr.ip(), port));
        let (workers, mut options) = (devices.len(), options.clone());
        for (i, (device, sharing)) in devices.into_iter().enumerate() {
            let (commander, orders) = control::pair()?;
            let mut service = config.service(&hosts)?;
            service.https_port = options.tls_port;
            // Flows are spread evenly by a hash.
            service.options.max_connections = service.options.max_connections.div_ceil(workers);
            let (shared, limit, own) = (Arc::clone(&shared), config.drain_limit, options.clone());
            server.commanders.push(commander);
            let (addr, tell_addr) = std::sync::mpsc::sync_channel(1);
            server.start(&format!("stack-{i}"), move || {
                let worker = stack::Worker::new(device, sharing, &own, orders, shared, service, limit)?;
                // There is room for it.
                let _ = addr.send(worker.addr());
                Ok(move || worker.run().map(drop))
            })?;
            if let Ok(addr) = tell_addr.try_recv() {
                // One by DHCP is known only now.
                server.addr.set_ip(addr.into());
                server.tls_addr = server.tls_addr.map(|tls| SocketAddr::new(addr.into(), tls.port()));
            }
            // Its counters are told once.
            options.filter = None;
        }
        Ok(server)
    }

    fn new(shared: &Arc<Shared>, addr: SocketAddr) -> io::Result<Server> {
        let (ended, end_teller) = UnixStream::pair()?;
        let (commanders, threads) = (Vec::new(), Vec::new());
        Ok(Server {
            shared: Arc::clone(shared),
            commanders,
            threads,
            beside: Vec::new(),
            addr,
            tls_addr: None,
            ended,
            end_teller,
        })
    }

    /// Starts a thread that makes a loop and runs it; returns when it is made, or with the reason why not. (A
    /// loop cannot be moved from thread to thread, so it is made where it runs.)
    fn start<R: FnOnce() -> io::Result<()>>(
        &mut self,
        name: &str,
        make: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> io::Result<()> {
        let (made, wait_made) = std::sync::mpsc::sync_channel(1);
        let teller = EndTeller(self.end_teller.try_clone()?);
        let run = move || {
            let _teller = teller;
            match make() {
                Ok(run) => {
                    let _ = made.send(Ok(()));
                    run()
                }
                Err(error) => {
                    let _ = made.send(Err(error));
                    Ok(())
                }
            }
        };
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        wait_made.recv().unwrap_or_else(|_| Err(io::Error::other("a serving thread panicked")))
    }

    /// Where it listens; 0.0.0.0:0 if that is a socket of the file system.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where secured connections come in.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_addr
    }

    /// Replaces the first site; responses under way are finished from the old one.
    pub fn replace_site(&self, site: Arc<dyn Store>) {
        self.replace_hosts(self.shared.hosts().with_site(site));
    }

    /// Replaces all sites.
    pub fn replace_hosts(&self, hosts: Hosts) {
        self.shared.set_hosts(Arc::new(hosts));
        self.give(Order::Reload);
    }

    /// Tells `feed` the counters once a second, where anybody listens, until the server ends.
    ///
    /// # Errors
    /// If the system has no more descriptors or threads.
    pub fn tell_status(&mut self, feed: Arc<Feed>) -> io::Result<()> {
        let monitor = self.monitor()?;
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let tell = move || {
            while stopped.recv_timeout(STATUS_PERIOD) == Err(RecvTimeoutError::Timeout) {
                if feed.is_heard() {
                    feed.tell(&monitor.report().to_json().to_string());
                }
            }
            feed.finish();
        };
        let thread = thread::Builder::new().name("status".to_owned()).spawn(tell)?;
        self.beside.push(Beside { stop, thread });
        Ok(())
    }

    /// Compares the pages of the images at `paths` with their checksums, again and again, `rate` bytes a
    /// second, until the server ends. What is found is logged and counted.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn scrub(&mut self, paths: Vec<PathBuf>, rate: u64) -> io::Result<()> {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let shared = Arc::clone(&self.shared);
        let tell = move |work| shared.end(&Report { work, ..Report::default() });
        let run = move || scrub::run(&paths, rate, &stopped, tell);
        let thread = thread::Builder::new().name("scrub".to_owned()).spawn(run)?;
        self.beside.push(Beside { stop, thread });
        Ok(())
    }

    /// The counters so far.
    pub fn report(&self) -> Report {
        report(&self.shared, &self.commanders)
    }

    /// Who watches it, from any thread.
    ///
    /// # Errors
    /// If the system has no more descriptors.
    pub fn monitor(&self) -> io::Result<Monitor> {
        let commanders = self.commanders.iter().map(Commander::try_clone).collect::<Result<_, _>>()?;
        Ok(Monitor { shared: Arc::clone(&self.shared), commanders })
    }

    /// Finishes what was begun and returns the counters of connections and responses.
    ///
    /// # Errors
    /// If a thread ended with an error.
    pub fn shut_down(self) -> io::Result<Stats> {
        Ok(self.finish()?.stats)
    }

    /// As [`Server::shut_down`], and returns all counters.
    ///
    /// # Errors
    /// If a thread ended with an error.
    pub fn finish(mut self) -> io::Result<Report> {
        // First of all the streams that would never end.
        for Beside { stop, thread } in self.beside.drain(..) {
            drop(stop);
            let _ = thread.join();
        }
        self.shared.drain();
        self.give(Order::Drain);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| io::Error::other("a serving thread panicked"))??;
        }
        Ok(self.shared.ended())
    }

    /// Serves until SIGTERM or SIGINT, or until a loop has ended: [`Server::shut_down`] is for what follows.
    /// At SIGHUP opens the log again and takes up what `reload` gives, at SIGUSR1 hands the counters to
    /// `report`. What `reload` cannot give is reported and the old site stays. Where something is followed,
    /// its change is taken up like that, too.
    ///
    /// # Errors
    /// If signals cannot be waited for.
    pub fn serve_until_signal(
        &self,
        signals: &Signals,
        mut follow: Option<Follow>,
        mut reload: impl FnMut() -> Result<Hosts, String>,
        mut report: impl FnMut(&Report),
    ) -> io::Result<()> {
        let mut take_up = |server: &Server| match reload() {
            Ok(hosts) => {
                let what = if hosts.all().len() == 1 { "site is" } else { "sites are" };
                server.replace_hosts(hosts);
                tracing::info!("the replaced {what} taken up");
            }
            Err(error) => tracing::error!("what was served stays: {error}"),
        };
        loop {
            let period = follow.as_ref().map(|follow| follow.period);
            match signals.next(&self.ended, period)? {
                Signal::Reload => {
                    self.give(Order::ReopenLog);
                    take_up(self);
                }
                Signal::Time => {
                    if follow.as_mut().is_some_and(|follow| (follow.look)()) {
                        take_up(self);
                    }
                }
                Signal::Report => report(&self.report()),
                Signal::End => return Ok(()),
            }
        }
    }

    fn give(&self, order: Order) {
        for commander in &self.commanders {
            commander.give(order);
        }
    }
}

/// Watches a server.
#[derive(Debug)]
pub struct Monitor {
    shared: Arc<Shared>,
    commanders: Vec<Commander>,
}

impl Monitor {
    /// The counters so far. Waits for the loops to answer, 2 s at most.
    pub fn report(&self) -> Report {
        report(&self.shared, &self.commanders)
    }

    /// Whether it finishes what it has begun, and takes nothing new.
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }
}

fn report(shared: &Shared, commanders: &[Commander]) -> Report {
    let ask = || commanders.iter().for_each(|commander| commander.give(Order::Report));
    shared.collect(commanders.len(), Duration::from_secs(2), ask)
}

/// A thread beside the loops.
#[derive(Debug)]
struct Beside {
    /// Dropped, it ends.
    stop: std::sync::mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// How often the counters are told.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// Tells that its thread has ended, by a panic too.
struct EndTeller(UnixStream);

impl Drop for EndTeller {
    fn drop(&mut self) {
        let _ = self.0.write_all(&[0]);
    }
}

/// Something that may change beside the server.
pub struct Follow {
    /// How often to look.
    pub period: Duration,
    /// Whether it has changed since the last look.
    pub look: Box<dyn FnMut() -> bool>,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("period", &self.period).finish_non_exhaustive()
    }
}

enum Signal {
    End,
    /// No signal, for so long.
    Time,
    Reload,
    Report,
}

/// SIGTERM, SIGINT, SIGHUP and SIGUSR1 as something to read. Take them before the server is announced, so
/// that none is lost.
#[derive(Debug)]
pub struct Signals {
    end: UnixStream,
    reload: UnixStream,
    report: UnixStream,
}

impl Signals {
    /// Takes the signals over from their defaults. Asked to end a second time, the process ends at once.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn take() -> io::Result<Signals> {
        let ending = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first one finds the flag unset.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&ending))?;
            flag::register(signal, Arc::clone(&ending))?;
        }
        let (end, end_writer) = UnixStream::pair()?;
        let (reload, reload_writer) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, end_writer.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, end_writer)?;
        signal_hook::low_level::pipe::register(SIGHUP, reload_writer)?;
        let (report, report_writer) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGUSR1, report_writer)?;
        Ok(Signals { end, reload, report })
    }

    /// The next signal; the end of a loop counts as one, and so does that `period` has gone by.
    fn next(&self, ended: &UnixStream, period: Option<Duration>) -> io::Result<Signal> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let until = period.map(|period| Instant::now() + period);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut fds =
                [&self.end, ended, &self.reload, &self.report].map(|fd| PollFd::new(fd, PollFlags::IN));
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Ok(Signal::Time),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let [ends, over, reloads, reports] = fds.map(|fd| !fd.revents().is_empty());
            if ends || over {
                return Ok(Signal::End);
            }
            // Several in a row mean one.
            for (asked, stream, signal) in
                [(reloads, &self.reload, Signal::Reload), (reports, &self.report, Signal::Report)]
            {
                if asked {
                    let _ = (&mut &*stream).read(&mut [0; 64])?;
                    return Ok(signal);
                }
            }
        }
    }
}
