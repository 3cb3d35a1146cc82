//! What all connections of one thread share: the site, the time, the limits, the counters.
//!
//! It owns no socket and reads no clock: the transport sets the time once a turn of its loop.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use fsstack::cache::BlockReader;
use runtime::buffer::{Pool, Shared, Slice};
use runtime::event_loop::Waker;
use runtime::poller::{Event, Registrar};
use runtime::time::Instant;

use crate::access_log::{AccessLogs, Line, Record};
use crate::hosts::{Host, Hosts};
use crate::http::abuse::Abuse;
use crate::http::date::{self, HeadTails, Persistence};
use crate::http::parse::Limits;
use crate::http::request::{Method, Request};
use crate::http::response::{self, Status};
use crate::http::target;
use crate::latency::Latency;
use crate::live::Wakes;
use crate::programs::Programs;
use crate::reading::Reading;
use crate::response::Response;
use crate::store::Store;
use crate::tls::{Acceptor, Workspace};
use crate::upload::{Upload, Uploads};

/// How long a connection may take for what. All are measured from the last event of their kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Without a request, before the first one and between two.
    pub idle: Duration,
    /// From the first byte of a head to its last (and through content that is skipped).
    pub head: Duration,
    /// Without the peer taking a byte while there are bytes for it.
    pub send: Duration,
    /// After a refusal, for the peer to read it and close.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            idle: Duration::from_secs(30),
            head: Duration::from_secs(10),
            send: Duration::from_secs(60),
            linger: Duration::from_secs(2),
        }
    }
}

/// Bounds and switches of the HTTP side.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sizes of heads.
    pub limits: Limits,
    /// Times.
    pub timeouts: Timeouts,
    /// Connections at once of one loop. Those beyond are reset on our own TCP/IP; on the kernel's sockets
    /// they wait in the listener's queue.
    pub max_connections: usize,
    /// Pipelined responses that may wait on one connection before its requests are no longer read.
    pub max_queued: usize,
    /// Unparsed bytes kept for one connection.
    pub max_input: usize,
    /// Content of a request that is skipped to keep its connection; more of it is refused.
    pub max_skipped: u32,
    /// Bytes beyond what the peer has acknowledged that are read for one connection, of files that are not in
    /// memory.
    pub max_read_ahead: u64,
    /// Answer `/about`, if there is no such file, with `/about.html`.
    pub clean_urls: bool,
    /// Answer what is not there, and has no ending that a file would have, with `/index.html`: an application
    /// that draws all pages in the browser.
    pub single_page: bool,
    /// Answer who would rather have Markdown with `x.md`, if that lies beside `x.html`.
    pub markdown: bool,
    /// Send who is not secured to the same address by HTTPS, where that is served.
    pub redirect_http: bool,
    /// Send the heads made at packing time; off (`--without precomputed-headers`), each is written anew.
    pub precomputed_headers: bool,
    /// Format the date of heads once a second; off (`--without date-cache`), for each response.
    pub date_cache: bool,
    /// Parse requests in the buffer that they arrived in; off (`--without in-place-parse`), in a copy of the connection's.
    pub in_place_parse: bool,
    /// Use the block of an ended connection, and its buffers, for the next one; off (`--without pcb-pool`), each gets a fresh
    /// one.
    pub pcb_pool: bool,
    /// On the kernel's sockets: a head and its body in one call; off (`--without header-merging`), one each. (Our own TCP/IP
    /// has a switch of its own, [`netstack::stack::Features::header_merging`].)
    pub header_merging: bool,
    /// On the kernel's sockets: have the FIN ride on the last data, and the first request be acknowledged by
    /// its answer; off
    /// (`--without packet-merging`), each goes alone. (Our own TCP/IP has a switch of its own,
    /// [`netstack::stack::Features::packet_merging`].)
    pub packet_merging: bool,
    /// On the kernel's sockets: take a connection when its first request is there, and read that at once; off (`--without
    /// deferred-accept`), when its handshake is over. On by default; who connects and asks nothing is taken
    /// after a second.
    pub deferred_accept: bool,
    /// Speak HTTP/2 with who wants it (`--http2`).
    pub http2: bool,
    /// On the kernel's sockets: pass long stretches of an image in memory by reference (`sendfile`); off (`--without
    /// zero-copy`), the kernel copies all.
    pub zero_copy: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            max_connections: 1 << 16,
            max_queued: 32,
            max_input: 64 * 1024,
            max_skipped: 64 * 1024,
            max_read_ahead: 256 * 1024,
            clean_urls: false,
            single_page: false,
            markdown: false,
            redirect_http: false,
            precomputed_headers: true,
            date_cache: true,
            in_place_parse: true,
            pcb_pool: true,
            header_merging: true,
            packet_merging: true,
            deferred_accept: true,
            http2: true,
            zero_copy: true,
        }
    }
}

/// Counters since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Connections begun.
    pub connections: u64,
    /// Connections over.
    pub closed: u64,
    /// Responses by status, in the order of [`Status::ALL`].
    pub responses: [u64; Status::ALL.len()],
    /// Responses of programs with a status that this server itself never gives.
    pub other_responses: u64,
    /// Bytes of heads and bodies queued.
    pub bytes: u64,
    /// Connections cut because the peer was too slow or silent.
    pub timed_out: u64,
    /// What is of HTTP/2 alone.
    pub http2: Http2Stats,
}

/// Counters of HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http2Stats {
    /// Connections that spoke it.
    pub connections: u64,
    /// Streams begun.
    pub streams: u64,
    /// Streams beyond what a client may have at once.
    pub refused: u64,
    /// Streams ended early, by the client or by us.
    pub resets: u64,
    /// Connections that ended by an error of the client's.
    pub errors: u64,
    /// Of them, for too much of something, in the order of [`Abuse::ALL`].
    pub abuses: [u64; Abuse::ALL.len()],
}

impl Http2Stats {
    fn add(&mut self, other: &Http2Stats) {
        self.connections += other.connections;
        self.streams += other.streams;
        self.refused += other.refused;
        self.resets += other.resets;
        self.errors += other.errors;
        for (sum, count) in self.abuses.iter_mut().zip(other.abuses) {
            *sum += count;
        }
    }
}

impl Default for Stats {
    /// Nothing yet.
    fn default() -> Stats {
        Stats {
            connections: 0,
            closed: 0,
            responses: [0; Status::ALL.len()],
            other_responses: 0,
            bytes: 0,
            timed_out: 0,
            http2: Http2Stats::default(),
        }
    }
}

impl Stats {
    /// All responses together.
    pub fn total_responses(&self) -> u64 {
        self.responses.iter().sum::<u64>() + self.other_responses
    }

    /// Adds another thread's counters.
    pub fn add(&mut self, other: &Stats) {
        self.connections += other.connections;
        self.closed += other.closed;
        self.bytes += other.bytes;
        self.other_responses += other.other_responses;
        self.timed_out += other.timed_out;
        self.http2.add(&other.http2);
        for (sum, count) in self.responses.iter_mut().zip(other.responses) {
            *sum += count;
        }
    }
}

/// The shared state of one thread's connections.
#[derive(Debug)]
pub struct Service {
    /// What is served now, to who sent the request that is looked at ([`Service::choose`]). Responses under
    /// way keep the site that they began with.
    pub site: Arc<dyn Store>,
    /// Bounds and switches.
    pub options: Options,
    /// Counters.
    pub stats: Stats,
    /// How long responses take.
    pub latency: Latency,
    /// Whether the server is going down: each connection closes after its next response.
    pub draining: bool,
    /// Who takes files that clients of that site put, if anybody does.
    pub uploads: Option<Arc<Uploads>>,
    /// All sites.
    hosts: Arc<Hosts>,
    /// The number of the one that is chosen.
    host: usize,
    /// Whose programs answer its paths.
    pub(crate) scope: u32,
    /// Whether the connection that is looked at is secured.
    secured: bool,
    /// Whether the response that is made would be another to another `Accept`.
    pub(crate) negotiates: bool,
    /// Where those are that are.
    pub https_port: Option<u16>,
    /// Where requests are written down, if anywhere.
    pub logs: AccessLogs,
    /// Of each host the number of its log.
    log_numbers: Vec<Option<usize>>,
    /// How what is not in memory is read.
    pub reading: Reading,
    /// By whom: waits until the service lives in a loop.
    pub(crate) reader: BlockReader,
    now: Instant,
    tails: HeadTails,
    /// The same with what is said to clients of HTTPS alone.
    secured_tails: Option<Box<HeadTails>>,
    /// For a path that had to be rewritten; kept for its capacity.
    pub(crate) path_scratch: Vec<u8>,
    /// Connections whose bodies have grown.
    pub wakes: Wakes,
    /// Programs that answer some paths, if any do.
    pub programs: Option<Box<Programs>>,
    /// For a head that had to be written, in lines or as HTTP/2 has it; for a request's, as HTTP/1.1 has it.
    pub(crate) text_scratch: Vec<u8>,
    pub(crate) block_scratch: Vec<u8>,
    pub(crate) head_scratch: Vec<u8>,
    /// Where such heads are until they are acknowledged.
    texts: Pool,
    /// What secured connections use in turn; `None` while one does, and where there are none.
    pub(crate) tls: Option<Box<Workspace>>,
    /// Memory of connections that do not need it now.
    pub(crate) spare_queues: Spare<VecDeque<Response>>,
    pub(crate) spare_inputs: Spare<Vec<u8>>,
}

/// Empty containers that keep their memory for who needs it next: few, and none that has become big.
#[derive(Debug)]
pub(crate) struct Spare<T> {
    kept: Vec<T>,
}

/// How many are kept.
const MAX_SPARE: usize = 64;

impl Spare<Vec<u8>> {
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        if self.kept.len() < MAX_SPARE && bytes.capacity() <= 4096 {
            self.kept.push(bytes);
        }
    }
}

impl Spare<VecDeque<Response>> {
    pub(crate) fn push(&mut self, queue: VecDeque<Response>) {
        if self.kept.len() < MAX_SPARE && queue.capacity() <= 32 {
            self.kept.push(queue);
        }
    }
}

impl<T> Spare<T> {
    fn new() -> Spare<T> {
        Spare { kept: Vec::new() }
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.kept.pop()
    }
}

/// A head that is written takes one buffer; a longer one (a redirect to a long path) memory of its own.
const TEXT_BYTES: usize = 512;

/// So many of them wait for their acknowledgement in pooled memory.
const MAX_TEXTS: usize = 4096;

impl Service {
    /// Begins what a PUT or DELETE asks for, or says what its client is told instead; `None` for other
    /// requests, and where nothing can be changed.
    pub(crate) fn begin_upload(&mut self, request: &Request<'_>) -> Option<Result<Upload, Status>> {
        let uploads = self.uploads.as_ref()?;
        if !matches!(request.method, Method::Put | Method::Delete) {
            return None;
        }
        let mut scratch = std::mem::take(&mut self.path_scratch);
        let begun = match target::resolve(request.target, &mut scratch) {
            Ok(resource) => uploads.begin(&*self.site, request, resource.path, self.now()),
            Err(target::BadTarget) => Err(Status::BadRequest),
        };
        self.path_scratch = scratch;
        Some(begun.map(|mut upload| {
            upload.host = self.host();
            upload
        }))
    }

    /// A service of `site`, at the origin of time.
    pub fn new(site: Arc<dyn Store>, options: Options) -> Service {
        let hosts = Arc::new(Hosts::one(Host::new(Arc::clone(&site))));
        Service {
            site,
            options,
            stats: Stats::default(),
            latency: Latency::default(),
            draining: false,
            uploads: None,
            hosts,
            host: 0,
            scope: 0,
            secured: false,
            negotiates: false,
            https_port: None,
            logs: AccessLogs::default(),
            log_numbers: Vec::new(),
            reading: Reading::InPlace,
            reader: BlockReader::in_place(),
            now: Instant::ZERO,
            tails: HeadTails::new(0),
            secured_tails: None,
            path_scratch: Vec::new(),
            wakes: Wakes::default(),
            programs: None,
            text_scratch: Vec::new(),
            block_scratch: Vec::new(),
            head_scratch: Vec::new(),
            texts: Pool::new(TEXT_BYTES, MAX_TEXTS),
            tls: None,
            spare_queues: Spare::new(),
            spare_inputs: Spare::new(),
        }
    }

    /// Serves `hosts` from now on; responses under way are finished as they began.
    ///
    /// # Errors
    /// If a log cannot be opened; such a host has none then.
    pub fn take_up(&mut self, hosts: Arc<Hosts>) -> io::Result<()> {
        let mut failed = None;
        self.log_numbers.clear();
        for host in hosts.all() {
            let number = host.access_log.as_ref().map(|(path, format)| self.logs.open(path, *format));
            self.log_numbers.push(match number.transpose() {
                Ok(number) => number,
                Err(error) => {
                    failed = Some(error);
                    None
                }
            });
        }
        self.hosts = hosts;
        self.enter(0);
        failed.map_or(Ok(()), Err)
    }

    /// Sees to it that what is looked at now is a request of a secured connection, or of another.
    pub(crate) fn set_secured(&mut self, secured: bool) {
        self.secured = secured;
    }

    /// The port of HTTPS, if who sent the request that is looked at is to ask there instead.
    pub(crate) fn sends_to(&self) -> Option<u16> {
        self.https_port.filter(|_| self.options.redirect_http && !self.secured)
    }

    /// Turns to the host that `request` is for; `false` if it is for none, and to be refused.
    pub fn choose(&mut self, request: &Request<'_>) -> bool {
        if self.hosts.is_one() {
            return true;
        }
        let found = self.hosts.find(request.authority());
        let number = found.unwrap_or(0);
        if number != self.host {
            self.enter(number);
        }
        found.is_some()
    }

    /// Turns to what is nobody's request: the first host's log has it.
    pub(crate) fn choose_first(&mut self) {
        if self.host != 0 {
            self.enter(0);
        }
    }

    /// The number of the host that is chosen, for [`Service::enter`].
    pub(crate) fn host(&self) -> usize {
        self.host
    }

    /// Turns to the host of that number, if there is one.
    pub(crate) fn enter(&mut self, number: usize) {
        let Some(host) = self.hosts.all().get(number) else { return };
        self.site = Arc::clone(&host.site);
        self.uploads.clone_from(&host.uploads);
        (self.options.clean_urls, self.options.single_page) = (host.clean_urls, host.single_page);
        self.options.markdown = host.markdown;
        (self.host, self.scope) = (number, host.scope);
    }

    /// Says lines to clients of HTTPS alone, each ended by CR LF.
    pub fn say_when_secured(&mut self, lines: Box<[u8]>) {
        self.secured_tails = Some(Box::new(HeadTails::with_lines(self.tails.unix(), lines)));
    }

    /// Lives in a loop from now on, whose thread this is: it is woken by `waker`, and descriptors of programs
    /// are waited for.
    ///
    /// # Errors
    /// If what is not in memory cannot be read as [`Service::reading`] says.
    pub fn attach(&mut self, registrar: Registrar, waker: Waker) -> io::Result<()> {
        self.wakes.set_loop(waker.clone());
        self.reader = self.reading.reader(&self.wakes, &waker)?;
        if let Some(programs) = &mut self.programs {
            programs.attach(registrar, waker);
        }
        Ok(())
    }

    /// A descriptor of a program has become ready.
    pub fn on_program(&mut self, event: &Event) {
        if let Some(programs) = &mut self.programs {
            programs.on_event(event);
        }
    }

    /// Begins reads that were asked for, and ends those that are done. Who waits for them is with
    /// [`Service::wakes`] then.
    pub fn turn_reads(&mut self) {
        self.reader.turn();
    }

    /// Lets programs go on. What they have said is with [`Service::wakes`] then.
    pub fn turn_programs(&mut self) {
        if let Some(programs) = &mut self.programs {
            programs.turn();
        }
    }

    /// Whether the loop may not wait: a connection, or a program, has something to look at, or a read is
    /// done.
    pub fn has_work(&self) -> bool {
        !self.wakes.is_empty()
            || self.reader.has_work()
            || self.programs.as_ref().is_some_and(|programs| programs.has_work())
    }

    /// When programs want their turn.
    pub fn programs_deadline(&self) -> Option<Instant> {
        self.programs.as_ref()?.deadline()
    }

    /// Lets connections be secured.
    pub fn secure(&mut self, acceptor: Arc<Acceptor>) {
        self.tls = Some(Box::new(Workspace::new(acceptor)));
    }

    /// The methods that resources allow.
    pub(crate) fn allow(&self) -> &'static str {
        if self.uploads.is_some() { response::ALLOW_CHANGES } else { response::ALLOW }
    }

    /// Tells the time: monotonic for time-outs, seconds since 1970 for the `Date` field. Call it before
    /// handing over what happened.
    pub fn set_time(&mut self, now: Instant, unix: u64) {
        self.now = now;
        self.tails.set_time(unix);
        if let Some(tails) = &mut self.secured_tails {
            tails.set_time(unix);
        }
        if let Some(programs) = &mut self.programs {
            programs.set_time(now, unix);
        }
    }

    /// The time last told.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The ends of heads for the second last told.
    pub fn tails(&self) -> &HeadTails {
        match &self.secured_tails {
            Some(tails) if self.secured => tails,
            _ => &self.tails,
        }
    }

    /// Writes what every head ends with.
    pub(crate) fn end_head(&self, persistence: Persistence, text: &mut Vec<u8>) {
        if self.options.date_cache {
            text.extend_from_slice(self.tails().get(persistence));
        } else {
            text.extend_from_slice(self.tails().lines());
            date::write_tail(self.tails.unix(), persistence, text);
        }
    }

    /// Writes what a head ends with that says itself when it was made.
    pub(crate) fn end_signed_head(&self, persistence: Persistence, text: &mut Vec<u8>) {
        text.extend_from_slice(self.tails().lines());
        text.extend_from_slice(persistence.line());
        text.extend_from_slice(b"\r\n");
    }

    /// What stands between the ready-made head, if there is one, and the body: what was written, or the
    /// shared end of a head if nothing was.
    pub(crate) fn head_text(&mut self, mut written: Vec<u8>, persistence: Persistence) -> Slice {
        if written.is_empty() && self.options.date_cache {
            self.text_scratch = written;
            return Slice::from(self.tails().get(persistence).clone());
        }
        if written.is_empty() {
            self.end_head(persistence, &mut written);
        }
        let slice = self.pooled(&mut written);
        self.text_scratch = written;
        slice
    }

    /// The end of a head as HTTP/2 has it.
    pub(crate) fn block_tail(&self) -> Slice {
        if self.options.date_cache {
            return Slice::from(self.tails().block().clone());
        }
        Slice::from(Shared::from(date::tail_block(self.tails.unix(), self.tails().lines())))
    }

    /// Bytes in pooled memory, if they are few and there is some; `scratch` is empty then.
    pub(crate) fn pooled(&self, scratch: &mut Vec<u8>) -> Slice {
        let buffer = if scratch.len() <= TEXT_BYTES { self.texts.take() } else { None };
        let Some(mut buffer) = buffer else { return Slice::from(Shared::from(std::mem::take(scratch))) };
        buffer[..scratch.len()].copy_from_slice(scratch);
        let mut slice = Slice::from(buffer.freeze());
        slice.truncate(scratch.len());
        scratch.clear();
        slice
    }

    /// Counts a response of so many bytes as it is queued, unless its status is not known yet, and gives its
    /// line for the log.
    pub(crate) fn record(&mut self, bytes: u64, record: &Record<'_>) -> Option<Box<Line>> {
        if let Some(status) = record.status {
            self.stats.responses[status as usize] += 1;
            self.stats.bytes += bytes;
        }
        let number = self.log_numbers.get(self.host).copied().flatten()?;
        self.logs.line(number, self.tails.unix(), record).map(Box::new)
    }

    /// Counts a response of a status that was not known when it was queued.
    pub(crate) fn count(&mut self, code: u16, bytes: u64) {
        match Status::of_code(code) {
            Some(status) => self.stats.responses[status as usize] += 1,
            None => self.stats.other_responses += 1,
        }
        self.stats.bytes += bytes;
    }

    /// Writes down that `body_bytes` of a response went out.
    pub(crate) fn write_down(&mut self, line: &Line, body_bytes: u64) {
        self.logs.write(line, body_bytes);
    }
}
