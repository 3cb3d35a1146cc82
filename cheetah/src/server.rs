//! A server as a whole: its threads, its signals, its site and how that is replaced.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::access_log::{AccessLog, Format};
use crate::service::{Options, Service, Stats};
use crate::site::Site;
use crate::transport::control::{self, Commander, Order, Shared};
use crate::transport::kernel;

/// How a server runs, whatever carries its connections.
#[derive(Clone, Debug)]
pub struct Config {
    /// The HTTP side.
    pub http: Options,
    /// Where and how requests are written down.
    pub access_log: Option<(String, Format)>,
    /// How long connections may take to finish once the server is told to end.
    pub drain_limit: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config { http: Options::default(), access_log: None, drain_limit: Duration::from_secs(10) }
    }
}

impl Config {
    /// What one loop shares among its connections.
    ///
    /// # Errors
    /// If the access log cannot be opened.
    pub fn service(&self, site: Arc<Site>) -> io::Result<Service> {
        let mut service = Service::new(site, self.http);
        if let Some((path, format)) = &self.access_log {
            service.log = Some(AccessLog::open(path, *format)?);
        }
        Ok(service)
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    commanders: Vec<Commander>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    addr: SocketAddr,
}

impl Server {
    /// Serves `site` on the kernel's sockets, `workers` threads sharing `addr`. When this returns, connections are
    /// accepted.
    ///
    /// # Errors
    /// If the address cannot be bound, or the log not opened.
    pub fn on_kernel(
        site: Arc<Site>,
        addr: SocketAddr,
        workers: usize,
        config: &Config,
    ) -> io::Result<Server> {
        let workers = workers.max(1);
        let shared = Arc::new(Shared::new(Arc::clone(&site)));
        let mut bound = addr;
        let mut prepared = Vec::with_capacity(workers);
        for _ in 0..workers {
            let listener = kernel::listener(bound, workers > 1)?;
            // Port 0 becomes a real one with the first socket; the others share it.
            bound = kernel::local_addr(&listener)?;
            let (commander, orders) = control::pair()?;
            let service = config.service(Arc::clone(&site))?;
            let worker =
                kernel::Worker::new(listener, orders, Arc::clone(&shared), service, config.drain_limit)?;
            prepared.push((commander, worker));
        }
        let mut server = Server { shared, commanders: Vec::new(), threads: Vec::new(), addr: bound };
        for (i, (commander, worker)) in prepared.into_iter().enumerate() {
            server.commanders.push(commander);
            server.spawn(&format!("kernel-{i}"), move || worker.run())?;
        }
        Ok(server)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        Ok(())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Replaces the site; responses under way are finished from the old one.
    pub fn replace_site(&self, site: Arc<Site>) {
        self.shared.set_site(site);
        self.give(Order::Reload);
    }

    /// Finishes what was begun and returns the counters.
    ///
    /// # Errors
    /// If a thread ended with an error.
    pub fn shut_down(mut self) -> io::Result<Stats> {
        self.give(Order::Drain);
        self.join()
    }

    /// Serves until SIGTERM or SIGINT; at SIGHUP takes up what `reload` gives. What `reload` cannot give is reported
    /// and the old site stays.
    ///
    /// # Errors
    /// If a thread ended with an error.
    pub fn run_until_signal(
        self,
        signals: Signals,
        mut reload: impl FnMut() -> Result<Arc<Site>, String>,
    ) -> io::Result<Stats> {
        loop {
            match signals.next()? {
                Signal::Reload => match reload() {
                    Ok(site) => {
                        self.replace_site(site);
                        tracing::info!("the replaced site is taken up");
                    }
                    Err(error) => tracing::error!("the old site stays: {error}"),
                },
                Signal::End => return self.shut_down(),
            }
        }
    }

    fn give(&self, order: Order) {
        for commander in &self.commanders {
            commander.give(order);
        }
    }

    fn join(&mut self) -> io::Result<Stats> {
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| io::Error::other("a serving thread panicked"))??;
        }
        Ok(self.shared.stats())
    }
}

enum Signal {
    End,
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP as something to read. Take them before the server is announced, so that none is lost.
#[derive(Debug)]
pub struct Signals {
    end: UnixStream,
    reload: UnixStream,
}

impl Signals {
    /// Takes the signals over from their defaults.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn take() -> io::Result<Signals> {
        let (end, end_writer) = UnixStream::pair()?;
        let (reload, reload_writer) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, end_writer.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, end_writer)?;
        signal_hook::low_level::pipe::register(SIGHUP, reload_writer)?;
        Ok(Signals { end, reload })
    }

    fn next(&self) -> io::Result<Signal> {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            let mut fds = [PollFd::new(&self.end, PollFlags::IN), PollFd::new(&self.reload, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let (ends, reloads) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if ends {
                return Ok(Signal::End);
            }
            if reloads {
                // Several in a row mean one reload.
                let mut bytes = [0; 64];
                let _ = (&self.reload).read(&mut bytes)?;
                return Ok(Signal::Reload);
            }
        }
    }
}
