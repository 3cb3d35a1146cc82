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

use crate::access_log::{AccessLog, Line, Record};
use crate::http::date::{self, HeadTails, Persistence};
use crate::http::parse::Limits;
use crate::http::response::{self, Status};
use crate::live::Wakes;
use crate::programs::Programs;
use crate::reading::Reading;
use crate::response::Response;
use crate::store::Store;
use crate::tls::{Acceptor, Workspace};
use crate::upload::Uploads;

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
    /// Connections at once of one loop. Those beyond are reset on our own TCP/IP; on the kernel's sockets they wait in
    /// the listener's queue.
    pub max_connections: usize,
    /// Pipelined responses that may wait on one connection before its requests are no longer read.
    pub max_queued: usize,
    /// Unparsed bytes kept for one connection.
    pub max_input: usize,
    /// Content of a request that is skipped to keep its connection; more of it is refused.
    pub max_skipped: u32,
    /// Bytes beyond what the peer has acknowledged that are read for one connection, of files that are not in memory.
    pub max_read_ahead: u64,
    /// Answer `/about`, if there is no such file, with `/about.html`.
    pub clean_urls: bool,
    /// Answer what is not there, and has no ending that a file would have, with `/index.html`: an application that draws all
    /// pages in the browser.
    pub single_page: bool,
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
    /// On the kernel's sockets: have the FIN ride on the last data, and the first request be acknowledged by its answer; off
    /// (`--without packet-merging`), each goes alone. (Our own TCP/IP has a switch of its own,
    /// [`netstack::stack::Features::packet_merging`].)
    pub packet_merging: bool,
    /// On the kernel's sockets: take a connection when its first request is there, and read that at once; off (`--without
    /// deferred-accept`), when its handshake is over. On by default; who connects and asks nothing is taken after a second.
    pub deferred_accept: bool,
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
            precomputed_headers: true,
            date_cache: true,
            in_place_parse: true,
            pcb_pool: true,
            header_merging: true,
            packet_merging: true,
            deferred_accept: true,
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
        for (sum, count) in self.responses.iter_mut().zip(other.responses) {
            *sum += count;
        }
    }
}

/// The shared state of one thread's connections.
#[derive(Debug)]
pub struct Service {
    /// What is served now. Responses under way keep the site that they began with.
    pub site: Arc<dyn Store>,
    /// Bounds and switches.
    pub options: Options,
    /// Counters.
    pub stats: Stats,
    /// Whether the server is going down: each connection closes after its next response.
    pub draining: bool,
    /// Who takes files that clients put, if anybody does.
    pub uploads: Option<Arc<Uploads>>,
    /// Where requests are written down, if anywhere.
    pub log: Option<AccessLog>,
    /// How what is not in memory is read.
    pub reading: Reading,
    /// By whom: waits until the service lives in a loop.
    pub(crate) reader: BlockReader,
    now: Instant,
    tails: HeadTails,
    /// For a path that had to be rewritten; kept for its capacity.
    pub(crate) path_scratch: Vec<u8>,
    /// Connections whose bodies have grown.
    pub wakes: Wakes,
    /// Programs that answer some paths, if any do.
    pub programs: Option<Box<Programs>>,
    /// For a head that had to be written.
    pub(crate) text_scratch: Vec<u8>,
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
    /// A service of `site`, at the origin of time.
    pub fn new(site: Arc<dyn Store>, options: Options) -> Service {
        Service {
            site,
            options,
            stats: Stats::default(),
            draining: false,
            uploads: None,
            log: None,
            reading: Reading::InPlace,
            reader: BlockReader::in_place(),
            now: Instant::ZERO,
            tails: HeadTails::new(0),
            path_scratch: Vec::new(),
            wakes: Wakes::default(),
            programs: None,
            text_scratch: Vec::new(),
            texts: Pool::new(TEXT_BYTES, MAX_TEXTS),
            tls: None,
            spare_queues: Spare::new(),
            spare_inputs: Spare::new(),
        }
    }

    /// Lives in a loop from now on, whose thread this is: it is woken by `waker`, and descriptors of programs are waited for.
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

    /// Begins reads that were asked for, and ends those that are done. Who waits for them is with [`Service::wakes`] then.
    pub fn turn_reads(&mut self) {
        self.reader.turn();
    }

    /// Lets programs go on. What they have said is with [`Service::wakes`] then.
    pub fn turn_programs(&mut self) {
        if let Some(programs) = &mut self.programs {
            programs.turn();
        }
    }

    /// Whether the loop may not wait: a connection, or a program, has something to look at, or a read is done.
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

    /// Tells the time: monotonic for time-outs, seconds since 1970 for the `Date` field. Call it before handing over
    /// what happened.
    pub fn set_time(&mut self, now: Instant, unix: u64) {
        self.now = now;
        self.tails.set_time(unix);
        if let Some(programs) = &mut self.programs {
            programs.set_time(now);
        }
    }

    /// The time last told.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The ends of heads for the second last told.
    pub fn tails(&self) -> &HeadTails {
        &self.tails
    }

    /// Writes what every head ends with.
    pub(crate) fn end_head(&self, persistence: Persistence, text: &mut Vec<u8>) {
        if self.options.date_cache {
            text.extend_from_slice(self.tails.get(persistence));
        } else {
            date::write_tail(self.tails.unix(), persistence, text);
        }
    }

    /// What stands between the ready-made head, if there is one, and the body: what was written, or the shared end of a head
    /// if nothing was.
    pub(crate) fn head_text(&mut self, mut written: Vec<u8>, persistence: Persistence) -> Slice {
        if written.is_empty() && self.options.date_cache {
            self.text_scratch = written;
            return Slice::from(self.tails.get(persistence).clone());
        }
        if written.is_empty() {
            self.end_head(persistence, &mut written);
        }
        let buffer = if written.len() <= TEXT_BYTES { self.texts.take() } else { None };
        let Some(mut buffer) = buffer else { return Slice::from(Shared::from(written)) };
        buffer[..written.len()].copy_from_slice(&written);
        let mut slice = Slice::from(buffer.freeze());
        slice.truncate(written.len());
        written.clear();
        self.text_scratch = written;
        slice
    }

    /// Goes on in the file that has the access log's name now.
    pub fn reopen_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.reopen();
        }
    }

    /// Counts a response of so many bytes as it is queued, unless its status is not known yet, and gives its line for the
    /// log.
    pub(crate) fn record(&mut self, bytes: u64, record: &Record<'_>) -> Option<Box<Line>> {
        if let Some(status) = record.status {
            self.stats.responses[status as usize] += 1;
            self.stats.bytes += bytes;
        }
        self.log.as_ref().map(|log| Box::new(log.line(self.tails.unix(), record)))
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
        if let Some(log) = &mut self.log {
            log.write(line, body_bytes);
        }
    }
}
