//! Programs that answer for some paths: requests go to them, and what they say comes back as a body that
//! grows.
//!
//! Everything happens in the event loop that serves the clients, on sockets that do not block. A program is
//! read no faster than its client takes: what waits between them is bounded ([`crate::live`]), and a
//! program's fault is the fault of one response (502, or 504 if it is silent), never of the server.
//!
//! ```text
//!   Conn ── Ask ──▶ Programs::begin ──▶ a link that is free, or a new one, or the queue of the route
//!    ▲                                      │  encode, write; read, decode
//!    └──── live::Receiver ◀── Output ◀──────┘
//! ```

mod ask;
mod caching;
mod cgi_link;
mod fastcgi;
mod fastcgi_link;
mod kept;
mod link;
mod link_socket;
mod native_link;
mod origin;
mod origin_link;
mod output;
pub mod route;

use std::collections::VecDeque;
use std::io;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use runtime::buffer::Pool;
use runtime::event_loop::Waker;
use runtime::poller::{Event, Interest, Registrar, Token, Trigger};
use runtime::time::Instant;
use slab::Slab;

pub use ask::{Ask, Asked, Params};
pub use origin::Origin;
pub use route::{Address, Config, Limits, Route, Start, Target};

use crate::accelerator::Snapshot;
use crate::http::response::Status;
use crate::http::target;
use crate::live::{Receiver, Wakes};
use caching::Follower;
use cgi_link::CgiLink;
use fastcgi_link::FastCgiLink;
use link::{Exchange, Fate, Link, Tools};
use native_link::NativeLink;
use origin_link::OriginLink;
use output::Output;

/// Tokens of links: this, and their number.
const TOKENS: u64 = 0x7067 << 32;

/// A connection that is free is closed if another one has waited so long for its first byte: the program may
/// take one connection at a time, and cannot get to the other before this one ends.
const STARVED: Duration = Duration::from_millis(20);

/// A program is started at most this often.
const AGAIN: Duration = Duration::from_secs(1);

/// A process whose connection is over may take so long to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// When processes that are to end are looked after.
const REAP: Duration = Duration::from_millis(50);

/// When a full queue of a program, or a lack of buffers, is looked at again.
const RETRY: Duration = Duration::from_millis(10);

/// Memory for content of requests: of one loop together, 64 MiB.
const CONTENT_BYTES: usize = 16 * 1024;
const MAX_CONTENTS: usize = 4096;

/// Names of those who follow, for [`Wakes`]: this, and their number.
const FOLLOWERS: u32 = 1 << 31;

/// The programs of one loop.
#[derive(Debug)]
pub struct Programs {
    config: Arc<Config>,
    routes: Vec<Of>,
    links: Slab<Linked>,
    /// Links whose clients have taken something, or are gone.
    wakes: Wakes,
    registrar: Option<Registrar>,
    tools: Tools,
    contents: Pool,
    path_scratch: Vec<u8>,
    key_scratch: Vec<u8>,
    /// Requests that wait for what another one has asked for.
    followers: Slab<Follower>,
    /// Seconds since 1970.
    unix: u64,
    retry_at: Option<Instant>,
    /// A link has become free for requests that wait.
    again: bool,
    /// Processes that are to end, and when they are made to.
    ending: Vec<(Child, Instant)>,
    reap_at: Option<Instant>,
}

/// What there is of a route.
#[derive(Debug, Default)]
struct Of {
    links: Vec<usize>,
    /// Requests, and when they have waited long enough.
    waiting: VecDeque<(Instant, Exchange)>,
    /// When a program that ended may be started again.
    not_before: Option<Instant>,
}

#[derive(Debug)]
struct Linked {
    route: usize,
    link: Box<dyn Link>,
}

impl Programs {
    /// The programs of `config`.
    pub fn new(config: Arc<Config>) -> Programs {
        Programs {
            routes: config.routes.iter().map(|_| Of::default()).collect(),
            links: Slab::new(),
            wakes: Wakes::default(),
            registrar: None,
            tools: Tools::new(config.limits),
            contents: Pool::new(CONTENT_BYTES, MAX_CONTENTS),
            path_scratch: Vec::new(),
            key_scratch: Vec::new(),
            followers: Slab::new(),
            unix: 0,
            retry_at: None,
            again: false,
            ending: Vec::new(),
            reap_at: None,
            config,
        }
    }

    /// Lives in a loop from now on, whose thread this is.
    pub fn attach(&mut self, registrar: Registrar, waker: Waker) {
        self.registrar = Some(registrar);
        self.wakes.set_loop(waker);
    }

    /// Tells the time of what happens next.
    pub fn set_time(&mut self, now: Instant, unix: u64) {
        (self.tools.now, self.tools.unix, self.unix) = (now, unix, unix);
    }

    /// What is kept of other servers' responses, of all loops.
    pub fn cache(&self) -> Option<Snapshot> {
        self.config.cache.as_ref().map(|cache| cache.snapshot())
    }

    /// Whether an event is for [`Programs::on_event`].
    pub fn owns(token: Token) -> bool {
        token.0 >> 32 == TOKENS >> 32
    }

    /// The request as it goes to the program that answers for its path, if one does. `CONNECT` and `TRACE`
    /// are for nobody.
    pub fn ask(&mut self, asked: &Asked<'_, '_>) -> Option<Ask> {
        if matches!(asked.request.method_name, "CONNECT" | "TRACE") {
            return None;
        }
        let mut scratch = std::mem::take(&mut self.path_scratch);
        let ask = target::resolve(asked.request.target, &mut scratch).ok().and_then(|resource| {
            let mine = |(_, route): &(usize, &Route)| route.scope() == asked.scope;
            let routes = self.config.routes.iter().enumerate().filter(mine);
            let found =
                routes.filter_map(|(number, route)| Some((number, route, route.rest(resource.path)?)));
            let (number, route, rest) = found.max_by_key(|(_, route, _)| route.prefix().len())?;
            let of = (number, route);
            Some(Ask::new(asked, of, (resource.path, rest), resource.query, &self.config))
        });
        scratch.clear();
        scratch.shrink_to(4096);
        self.path_scratch = scratch;
        ask
    }

    /// Content of a request.
    ///
    /// # Errors
    /// What the client is told if there is too much of it, or of everybody's together.
    pub fn add_content(&mut self, ask: &mut Ask, bytes: &[u8]) -> Result<(), Status> {
        ask.add_content(&self.contents, bytes)
    }

    /// Has a request answered, all of whose content has come.
    pub fn begin(&mut self, mut ask: Ask) -> Receiver {
        ask.finish();
        let (output, receiver) = Output::new(ask.is_head);
        if let (Some(caching), Some(cache)) = (ask.caching.take(), self.config.cache.clone()) {
            self.begin_cached(ask, *caching, output, &cache);
            return receiver;
        }
        self.place(Exchange { ask, output, retried: false });
        receiver
    }

    /// Gives the request to a link, or lets it wait for one.
    fn place(&mut self, exchange: Exchange) {
        let route = exchange.ask.route;
        let (limits, max_links) = (self.config.limits, self.max_links(route));
        let Some(of) = self.routes.get_mut(route) else { return };
        let links = of.links.iter().copied();
        // The one that was used last: its program is most likely to be in the caches.
        let free = links.rev().find(|&key| self.links.get(key).is_some_and(|linked| linked.link.room() > 0));
        if let Some(key) = free.filter(|_| of.waiting.is_empty()) {
            self.give(key, exchange);
        } else if of.waiting.is_empty() && of.links.len() < max_links {
            self.open(exchange);
        } else if of.waiting.len() < limits.max_waiting {
            of.waiting.push_back((self.tools.now + limits.timeout, exchange));
        } else {
            exchange.fail(Status::ServiceUnavailable, "too many requests wait for it");
        }
    }

    fn give(&mut self, key: usize, exchange: Exchange) {
        let Some(linked) = self.links.get_mut(key) else { return };
        exchange.output.wake_by(self.wakes.connection(key as u32));
        linked.link.give(exchange, self.tools.now);
        self.drive(key);
    }

    /// Makes a link for a request.
    fn open(&mut self, exchange: Exchange) {
        let number = exchange.ask.route;
        let Some(route) = self.config.routes.get(number) else { return };
        let now = self.tools.now;
        if self.routes[number].not_before.is_some_and(|at| now < at) {
            return exchange.fail(Status::BadGateway, "it ended soon after it began");
        }
        let key = self.links.vacant_key();
        let made: io::Result<Box<dyn Link>> = match route.target() {
            Target::FastCgi(address) => link::begin_connect(address)
                .map(|begun| Box::new(FastCgiLink::new(begun, now)) as Box<dyn Link>)
                .map_err(io::Error::from),
            Target::Shared(start) => NativeLink::start(start, now).map(|link| {
                link.wake_by(self.wakes.connection(key as u32));
                self.routes[number].not_before = Some(now + AGAIN);
                Box::new(link) as Box<dyn Link>
            }),
            Target::Cgi(dir) => CgiLink::start(dir, route.prefix(), &exchange.ask, now)
                .map(|link| Box::new(link) as Box<dyn Link>),
            Target::Origin(origin) => link::begin_connect(&Address::Tcp(origin.addr))
                .map(|begun| Box::new(OriginLink::new(begun, now)) as Box<dyn Link>)
                .map_err(io::Error::from),
        };
        let link = match made {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.put_off(exchange),
            Err(error) => {
                let is_missing = error.kind() == io::ErrorKind::NotFound;
                let is_cgi = matches!(route.target(), Target::Cgi(_));
                let status = if is_missing && is_cgi { Status::NotFound } else { Status::BadGateway };
                let why = format!("it cannot be reached: {error}");
                return exchange.output.fail_at(status, &why, Some(self.unix));
            }
        };
        let entry = self.links.vacant_entry();
        let token = Token(TOKENS | key as u64);
        if let Some(registrar) = &self.registrar
            && let Err(error) = registrar.add(link.descriptor(), token, Interest::BOTH, Trigger::Edge)
        {
            return exchange.fail(Status::ServiceUnavailable, &format!("it cannot be waited for: {error}"));
        }
        entry.insert(Linked { route: number, link });
        self.routes[number].links.push(key);
        self.give(key, exchange);
    }

    fn max_links(&self, route: usize) -> usize {
        match self.config.routes.get(route).map(Route::target) {
            // It takes many requests at once.
            Some(Target::Shared(_)) => 1,
            _ => self.config.limits.max_links,
        }
    }

    /// The program's own queue is full: the request waits at the front of ours.
    fn put_off(&mut self, exchange: Exchange) {
        self.retry_at = Some(self.tools.now + RETRY);
        let until = self.tools.now + self.config.limits.timeout;
        if let Some(of) = self.routes.get_mut(exchange.ask.route) {
            of.waiting.push_front((until, exchange));
        }
    }

    /// A descriptor of a link has become ready.
    pub fn on_event(&mut self, event: &Event) {
        let key = (event.token.0 & u64::from(u32::MAX)) as usize;
        // One may be left over from a link that is over; then a look at what has its number now does no harm.
        if let Some(linked) = self.links.get_mut(key) {
            linked.link.on_ready(event.readable || event.closed, event.writable);
            self.drive(key);
        }
    }

    /// Does what has become possible or due. Call it when clients have taken what there was for them.
    pub fn turn(&mut self) {
        let now = self.tools.now;
        self.again = false;
        for key in self.wakes.take() {
            match key.checked_sub(FOLLOWERS) {
                Some(number) => self.look_after(number as usize),
                None => self.drive(key as usize),
            }
        }
        let due = self.retry_at.is_some_and(|at| now >= at);
        if due {
            self.retry_at = None;
        }
        let end = self.links.iter().next_back().map_or(0, |(key, _)| key + 1);
        for key in 0..end {
            let is_due = |linked: &Linked| {
                due || linked.link.deadline(&self.config.limits).is_some_and(|deadline| now >= deadline)
            };
            if self.links.get(key).is_some_and(is_due) {
                self.drive(key);
            }
        }
        self.reap();
        for number in 0..self.routes.len() {
            while self.routes[number].waiting.front().is_some_and(|(until, _)| now >= *until) {
                if let Some((_, exchange)) = self.routes[number].waiting.pop_front() {
                    exchange.fail(Status::GatewayTimeout, "no connection to it became free");
                }
            }
            self.relieve(number);
            self.serve_waiting(number);
        }
    }

    /// Whether [`Programs::turn`] has something to do at once.
    pub fn has_work(&self) -> bool {
        self.again || !self.wakes.is_empty()
    }

    /// When [`Programs::turn`] wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let limits = &self.config.limits;
        let links = self.links.iter().filter_map(|(_, linked)| linked.link.deadline(limits));
        let waiting = self.routes.iter().filter_map(|of| Some(of.waiting.front()?.0));
        let starved = self.routes.iter().filter_map(|of| self.starved_at(of));
        links.chain(waiting).chain(starved).chain(self.retry_at).chain(self.reap_at).min()
    }

    /// When a free link of a route has to make room for one that waits for its first byte.
    fn starved_at(&self, of: &Of) -> Option<Instant> {
        let links = || of.links.iter().filter_map(|&key| self.links.get(key));
        links().find(|linked| linked.link.room() > 0)?;
        let since = links().filter_map(|linked| linked.link.silent_since()).min()?;
        Some(since + STARVED)
    }

    fn relieve(&mut self, number: usize) {
        if self.starved_at(&self.routes[number]).is_none_or(|at| self.tools.now < at) {
            return;
        }
        let free = |key: &usize| self.links.get(*key).is_some_and(|linked| linked.link.room() > 0);
        let keys: Vec<usize> = self.routes[number].links.iter().copied().filter(free).collect();
        keys.into_iter().for_each(|key| self.close(key));
    }

    /// Gives requests that wait to links that are free, or new.
    fn serve_waiting(&mut self, number: usize) {
        while self.retry_at.is_none() {
            let of = &self.routes[number];
            let links = of.links.iter().copied();
            let free =
                links.rev().find(|&key| self.links.get(key).is_some_and(|linked| linked.link.room() > 0));
            let links = of.links.len();
            if free.is_none() && links >= self.max_links(number) {
                return;
            }
            let Some((_, exchange)) = self.routes[number].waiting.pop_front() else { return };
            if exchange.output.is_gone() {
                continue;
            }
            match free {
                Some(key) => self.give(key, exchange),
                None => self.open(exchange),
            }
        }
    }

    /// Lets a link go on; it may be over then.
    fn drive(&mut self, key: usize) {
        let Some(linked) = self.links.get_mut(key) else { return };
        let route = linked.route;
        let fate = linked.link.turn(&mut self.tools);
        if std::mem::take(&mut self.tools.short) {
            self.retry_at = Some(self.tools.now + RETRY);
        }
        if std::mem::take(&mut self.tools.again) {
            self.wakes.connection(key as u32).wake();
        }
        match fate {
            Fate::Keep => {}
            Fate::Close => self.close(key),
            Fate::Retry(exchange) => {
                self.close(key);
                self.open(*exchange);
            }
        }
        let has_room = self.links.get(key).is_none_or(|linked| linked.link.room() > 0);
        if has_room && self.retry_at.is_none() && !self.routes[route].waiting.is_empty() {
            // In the next turn, which is at once: doing it here would nest as deep as requests come and go.
            self.again = true;
        }
    }

    fn close(&mut self, key: usize) {
        if let Some(Linked { route, mut link }) = self.links.try_remove(key) {
            self.routes[route].links.retain(|&other| other != key);
            if let Some(child) = link.take_child() {
                self.ending.push((child, self.tools.now + GRACE));
                self.reap_at = Some(self.tools.now);
            }
            link.give_up();
        }
    }

    /// Looks after processes that are to end.
    fn reap(&mut self) {
        let now = self.tools.now;
        if self.reap_at.is_none_or(|at| now < at) {
            return;
        }
        self.ending.retain_mut(|(child, until)| {
            if now >= *until {
                let _ = child.kill();
            }
            matches!(child.try_wait(), Ok(None))
        });
        self.reap_at = (!self.ending.is_empty()).then_some(now + REAP);
    }
}

impl Drop for Programs {
    /// Processes see the end of their connection, and have half a second.
    fn drop(&mut self) {
        let keys: Vec<usize> = self.links.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.close(key));
        for _ in 0..50 {
            self.ending.retain_mut(|(child, _)| matches!(child.try_wait(), Ok(None)));
            if self.ending.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for (child, _) in &mut self.ending {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
