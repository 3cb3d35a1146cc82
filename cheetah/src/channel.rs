//! What a transport carries: a [`Conn`] (or [`Http2`]) as it is, or with TLS around it. The same calls for
//! both, and for both worlds.
//!
//! ```text
//!   transport ── sealed bytes ──▶ Session ── opened ──▶ Conn
//!       ▲                                                │
//!       └── records ◀── sealed from where they lie ◀── pieces
//! ```
//!
//! Of a secured connection the stream that the transport sends is that of the records. A transport that makes
//! frames has them sealed there ([`Maker`]), each time from the pieces, which [`Conn`] keeps until the peer
//! has acknowledged the record. For another, what of a response was sealed counts as taken for [`Conn`], and
//! the records are held.

use std::time::Duration;

use runtime::payload::{self, Maker, PayloadSource, Piece, Pieces};
use runtime::time::Instant;
use smallvec::SmallVec;

use crate::access_log::Peer;
#[cfg(doc)]
use crate::conn::Conn;
#[cfg(doc)]
use crate::http2::Http2;
use crate::protocol::Protocol;
use crate::service::Service;
use crate::tls::{Plain, Session, Sink, Workspace};

/// Sealed bytes beyond which a connection seals no more until its peer has taken some.
const SEAL_AHEAD: u64 = 128 * 1024;

/// The same for records that are sealed when they are sent, of which no byte is held: what a peer's window is
/// at most.
const PLAN_AHEAD: u64 = 4 << 20;

/// A connection that sent nothing for so long begins with short records again.
const IDLE: Duration = Duration::from_secs(1);

/// Bytes that are read and thrown away after TLS has failed.
const MAX_DISCARDED: u64 = 256 * 1024;

/// A connection, secured or not.
#[derive(Debug)]
pub struct Channel {
    conn: Protocol,
    secured: Option<Box<Secured>>,
}

/// What a secured connection has more.
#[derive(Debug)]
struct Secured {
    session: Session,
    /// Up to where in the stream of responses records are made, or planned.
    sealed_to: u64,
    /// When it was accepted.
    began: Instant,
    /// When something was last sealed, or the peer last took something.
    last_progress: Instant,
    /// Whether a byte has come.
    heard: bool,
    /// Where that was when it was last looked after.
    progress_mark: u64,
    /// The peer's end, of TLS or of the transport, was told to the connection.
    told_end: bool,
    /// The transport has told of it.
    transport_ended: bool,
    /// It must be cut.
    aborted: bool,
    discarded: u64,
}

/// A connection as the taker of what was opened.
struct Taker<'a> {
    conn: &'a mut Protocol,
    service: &'a mut Service,
}

impl Sink for Taker<'_> {
    fn has_room(&self) -> bool {
        self.conn.window(self.service) > 0
    }

    fn take(&mut self, bytes: &[u8]) -> usize {
        self.conn.on_bytes(self.service, bytes)
    }

    fn agree(&mut self, protocol: &[u8]) {
        if protocol == b"h2" {
            self.conn.turn_to_http2(self.service);
        }
    }
}

impl Channel {
    /// A connection from `peer` that has just been accepted; one that is to be secured, if the service can
    /// ([`Service::secure`]).
    pub fn new(service: &mut Service, peer: Peer, secured: bool) -> Channel {
        let mut channel = Channel { conn: Protocol::new(service, peer), secured: None };
        channel.secure(service, secured);
        channel
    }

    /// Makes it a fresh connection from `peer`: what a pool of connections wants.
    pub fn reset(&mut self, service: &mut Service, peer: Peer, secured: bool) {
        self.conn.reset(service, peer);
        self.secure(service, secured);
    }

    fn secure(&mut self, service: &Service, secured: bool) {
        let tools = service.tls.as_ref().filter(|_| secured);
        let session = tools.map(|tools| tools.new_session());
        if session.is_some()
            && let Some(conn) = self.conn.http1()
        {
            conn.set_secured();
        }
        self.secured = session.map(|session| {
            let now = service.now();
            Box::new(Secured {
                // Without random bytes there is no connection.
                aborted: session.is_over(),
                session,
                sealed_to: 0,
                began: now,
                last_progress: now,
                progress_mark: 0,
                heard: false,
                told_end: false,
                transport_ended: false,
                discarded: 0,
            })
        });
    }

    /// Gives back what an ended connection holds.
    pub fn retire(&mut self, service: &mut Service) {
        self.secured = None;
        self.conn.retire(service);
    }

    /// See [`Conn::set_key`].
    pub fn set_key(&mut self, key: u32) {
        self.conn.set_key(key);
    }

    /// Bytes from the peer. Gives how many were taken: all, if no more than [`Channel::window`] said.
    pub fn on_bytes(&mut self, service: &mut Service, bytes: &[u8]) -> usize {
        let Some(secured) = &mut self.secured else { return self.conn.on_bytes(service, bytes) };
        if secured.session.is_over() {
            secured.discarded += bytes.len() as u64;
            secured.aborted |= secured.discarded > MAX_DISCARDED;
            return bytes.len();
        }
        if !std::mem::replace(&mut secured.heard, true) && bytes.first().is_some_and(u8::is_ascii_uppercase) {
            // No record begins so, but every request does: the answer is one that a person can read.
            self.secured = None;
            if let Some(conn) = self.conn.http1() {
                conn.refuse_plain(service, bytes);
            }
            return self.conn.on_bytes(service, bytes);
        }
        let taken = self.with_session(service, |session, tools, taker| session.receive(tools, bytes, taker));
        self.after_session(service);
        taken.unwrap_or(bytes.len())
    }

    /// Calls the session with what it needs.
    fn with_session<R>(
        &mut self,
        service: &mut Service,
        call: impl FnOnce(&mut Session, &mut Workspace, &mut Taker<'_>) -> R,
    ) -> Option<R> {
        let secured = self.secured.as_mut()?;
        let mut tools = service.tls.take()?;
        let mut taker = Taker { conn: &mut self.conn, service };
        let result = call(&mut secured.session, &mut tools, &mut taker);
        service.tls = Some(tools);
        Some(result)
    }

    /// Does what has become possible: tells the connection of its peer's end, seals, says good-bye.
    fn after_session(&mut self, service: &mut Service) {
        let Some(secured) = &mut self.secured else { return };
        let is_read_out = secured.session.is_read_out() || secured.session.is_over();
        if is_read_out && !std::mem::replace(&mut secured.told_end, true) {
            self.conn.on_end(service);
        }
        self.seal(service);
    }

    /// Seals what the connection has to send, as far ahead as allowed.
    fn seal(&mut self, service: &mut Service) {
        let Some(mut tools) = service.tls.take() else { return };
        let Channel { conn, secured } = self;
        if let Some(secured) = secured {
            secured.seal(conn, service, &mut tools);
        }
        service.tls = Some(tools);
    }

    /// Goes on with what waited. Call it after [`Channel::acknowledged`].
    pub fn resume(&mut self, service: &mut Service) {
        if let Some(secured) = &mut self.secured {
            let acknowledged = secured.session.acknowledged_end();
            if secured.progress_mark != acknowledged {
                secured.progress_mark = acknowledged;
                secured.last_progress = service.now();
                self.conn.touch(service);
            }
        }
        self.conn.resume(service);
        if self.secured.is_some() {
            self.with_session(service, |session, tools, taker| session.resume(tools, taker));
            self.after_session(service);
        }
    }

    /// The peer will send no more. Responses to what it has asked for still go out.
    pub fn on_end(&mut self, service: &mut Service) {
        match &mut self.secured {
            None => self.conn.on_end(service),
            Some(secured) => {
                if secured.session.is_handshaking() {
                    // Nobody is left to shake hands with.
                    secured.aborted = true;
                }
                secured.transport_ended = true;
                if !std::mem::replace(&mut secured.told_end, true) {
                    self.conn.on_end(service);
                }
                self.seal(service);
            }
        }
    }

    /// As [`Conn::on_timeout`].
    pub fn on_timeout(&mut self, service: &mut Service) -> bool {
        let Some(secured) = &mut self.secured else { return self.conn.on_timeout(service) };
        if let Some(deadline) = secured.own_deadline(service) {
            if service.now() < deadline {
                return false;
            }
            service.stats.timed_out += 1;
            secured.aborted = true;
            return true;
        }
        let was_due = self.conn.on_timeout(service);
        if was_due {
            secured.aborted |= self.conn.is_aborted();
            self.seal(service);
        }
        was_due
    }

    /// The server goes down, see [`Conn::drain`].
    pub fn drain(&mut self, service: &mut Service) {
        self.conn.drain(service);
        if let Some(secured) = &mut self.secured {
            // One that has not got as far as a request is let go of.
            secured.aborted |= secured.session.is_handshaking();
            self.seal(service);
        }
    }

    /// When [`Channel::on_timeout`] wants to be called.
    pub fn deadline(&self, service: &Service) -> Option<Instant> {
        let own = self.secured.as_ref().and_then(|secured| secured.own_deadline(service));
        own.or_else(|| self.conn.deadline(service))
    }

    /// As [`Conn::place`]. What is sealed has to be opened first.
    pub fn place(&mut self, bytes: &[u8]) -> Option<u16> {
        if self.secured.is_some() { None } else { self.conn.place(bytes) }
    }

    /// As [`Conn::forget_placed`].
    pub fn forget_placed(&mut self) {
        self.conn.forget_placed();
    }

    /// How many bytes [`Channel::on_bytes`] would take now.
    pub fn window(&self, service: &Service) -> usize {
        match &self.secured {
            None => self.conn.window(service),
            // Records of content have at least its length.
            Some(secured) => secured.session.window() + self.conn.content_room(),
        }
    }

    /// Whether the connection must be cut without ceremony.
    pub fn is_aborted(&self) -> bool {
        match &self.secured {
            None => self.conn.is_aborted(),
            // What was sealed before still goes out.
            Some(secured) => secured.aborted || self.conn.is_aborted() && secured.session.held() == 0,
        }
    }

    /// As [`Conn::lingers`].
    pub fn lingers(&self) -> bool {
        match &self.secured {
            Some(secured) if secured.session.is_over() => !secured.transport_ended,
            _ => self.conn.lingers(),
        }
    }

    /// Offset of the first byte that the peer has not taken yet.
    pub fn acknowledged_end(&self) -> u64 {
        match &self.secured {
            None => self.conn.acknowledged_end(),
            Some(secured) => secured.session.acknowledged_end(),
        }
    }

    /// As [`Conn::for_each_piece`].
    pub fn for_each_piece<'a>(&'a self, offset: u64, len: usize, visit: impl FnMut(Piece<'a>) -> bool) {
        match &self.secured {
            None => self.conn.for_each_piece(offset, len, visit),
            Some(secured) => secured.session.for_each_piece(offset, len, visit),
        }
    }

    /// As [`Conn::part_end`]; a part of a secured connection is a record.
    pub fn part_end(&self, offset: u64) -> Option<u64> {
        match &self.secured {
            None => self.conn.part_end(offset),
            Some(secured) => secured.session.part_end(offset),
        }
    }
}

impl Secured {
    /// The deadline of the handshake, of the peer's taking something, of its going after a failure; `None`
    /// where the connection's own counts.
    fn own_deadline(&self, service: &Service) -> Option<Instant> {
        let timeouts = &service.options.timeouts;
        if self.aborted {
            None
        } else if self.session.is_handshaking() {
            Some(self.began + timeouts.head)
        } else if self.session.is_over() {
            Some(self.last_progress + timeouts.linger)
        } else if self.session.held() > 0 {
            Some(self.last_progress + timeouts.send)
        } else {
            None
        }
    }

    fn seal(&mut self, conn: &mut Protocol, service: &mut Service, tools: &mut Workspace) {
        let now = service.now();
        let plans = self.session.plans(tools);
        let ahead = if plans { PLAN_AHEAD } else { SEAL_AHEAD };
        while self.session.may_seal() && self.session.held() < ahead {
            let from = self.sealed_to;
            if conn.end() > from && self.session.held() == 0 && now >= self.last_progress + IDLE {
                self.session.was_idle();
            }
            let mut most = self.session.record_content(tools);
            if !service.options.header_merging
                && let Some(end) = conn.part_end(from)
            {
                most = most.min(usize::try_from(end - from).unwrap_or(usize::MAX));
            }
            let mut pieces: SmallVec<[&[u8]; 16]> = SmallVec::new();
            let mut len = 0;
            conn.for_each_piece(from, most, |piece| {
                len += piece.bytes.len();
                pieces.push(piece.bytes);
                true
            });
            if len == 0 {
                break;
            }
            let is_planned = plans && conn.are_settled(from, len);
            if plans && !is_planned && self.session.held() >= SEAL_AHEAD {
                break;
            }
            self.last_progress = now;
            self.sealed_to += len as u64;
            if is_planned {
                self.session.plan(tools, from, len);
            } else if plans {
                // What is not settled is sealed once: two ciphertexts under one number would tell of both
                // plain ones. It is acknowledged in its turn.
                self.session.seal(tools, &pieces, len, Some(self.sealed_to));
            } else {
                self.session.seal(tools, &pieces, len, None);
                drop(pieces);
                conn.acknowledged(self.sealed_to);
                conn.resume(service);
            }
        }
        let all_sealed = conn.is_finished() && conn.end() == self.sealed_to;
        if all_sealed && self.session.may_seal() {
            self.session.close(tools);
        }
    }
}

impl PayloadSource for Channel {
    fn end(&self) -> u64 {
        match &self.secured {
            None => self.conn.end(),
            Some(secured) => secured.session.end_of_stream(),
        }
    }

    fn is_finished(&self) -> bool {
        match &self.secured {
            None => self.conn.is_finished(),
            Some(secured) => secured.session.is_closed(),
        }
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        payload::gather(out, |visit| self.for_each_piece(offset, len, visit))
    }

    fn acknowledged(&mut self, offset: u64) {
        let Some(secured) = &mut self.secured else { return self.conn.acknowledged(offset) };
        if let Some(plain) = secured.session.acknowledged(offset) {
            self.conn.acknowledged(plain);
        }
        secured.aborted |= secured.session.is_spoilt();
    }

    fn maker(&self) -> Option<&dyn Maker> {
        self.secured.as_ref().is_some_and(|secured| secured.session.is_made()).then_some(self)
    }
}

impl Maker for Channel {
    fn make(&self, offset: u64, to: &mut [u8], wants_sum: bool) -> Option<u16> {
        self.secured.as_ref()?.session.make(offset, to, wants_sum, &self.conn)
    }
}

impl Plain for Protocol {
    fn visit(&self, offset: u64, len: usize, take: &mut dyn FnMut(&[u8])) {
        self.for_each_piece(offset, len, |piece| {
            take(piece.bytes);
            true
        });
    }
}
