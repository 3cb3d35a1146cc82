//! The connection: frames as they come, what they say of it, its windows, its times, its end.

use std::collections::VecDeque;

use runtime::payload::{self, PayloadSource, Piece, Pieces};
use runtime::time::Instant;
use slab::Slab;

use super::fields::Fields;
use super::outgoing::{Outgoing, Part, SHORT_BYTES};
use super::priority::{Priority, Schedule};
use super::requests::{Block, ContentFrame};
use super::stream::{Ending, Stream, Taker};
use super::{CONNECTION_WINDOW, INITIAL_WINDOW, MAX_STREAMS, MAX_WINDOW, STREAM_WINDOW};
use crate::access_log::Peer;
use crate::http::abuse::{Abuse, Allowances};
use crate::http::frame::{ErrorCode, FrameHeader, HEADER_BYTES, MAX_FRAME, PREFACE, flag, kind, setting};
use crate::http::hpack::Decoder;
use crate::service::Service;

/// Bytes that one call takes.
const MAX_INPUT: usize = 64 * 1024;

/// Parts of frames that may wait for the peer before no more is read.
const MAX_PARTS: usize = 4096;

/// Bytes that are read and thrown away after the end before the peer is cut off.
const MAX_DISCARDED: u64 = 1 << 20;

/// Streams that are over and remembered: what still comes of them is no error of the connection.
const REMEMBERED: usize = 64;

/// What the `PING` of a server that goes down holds.
pub(super) const LAST_PING: [u8; 8] = *b"draining";

/// An HTTP/2 connection.
#[derive(Debug)]
pub struct Http2 {
    pub(super) peer: Peer,
    /// What the transport knows it by.
    pub(super) key: u32,
    pub(super) secured: bool,
    pub(super) phase: Phase,
    /// The beginning of a frame.
    input: Vec<u8>,
    /// The frame of content that is being taken in, as it comes.
    pub(super) content: Option<ContentFrame>,
    /// The head that has begun, and whose end has not come.
    pub(super) block: Option<Block>,
    pub(super) decoder: Decoder,
    pub(super) fields: Fields,
    pub(super) streams: Slab<Stream>,
    /// Those that are kept, by number, and where.
    pub(super) keys: VecDeque<(u32, usize)>,
    /// How many of them count.
    pub(super) open: usize,
    /// The last number that the client has used.
    pub(super) last_stream: u32,
    /// Those that are over, the last ones: their numbers and ends.
    over: VecDeque<(u32, Ending)>,
    pub(super) foretold: Vec<(u32, Priority)>,
    pub(super) schedule: Schedule,
    pub(super) out: Outgoing,
    /// Whether the first block has said that the peer's table stays empty.
    pub(super) has_sent_block: bool,
    /// Of the peer's settings.
    pub(super) stream_window: i64,
    /// What may still be sent, and received, in all.
    pub(super) window: i64,
    pub(super) receive_window: i64,
    /// Received and not yet given back to the window.
    pub(super) owed: u32,
    pub(super) allowances: Allowances,
    /// When the first byte of a head that is not whole came, or the connection.
    pub(super) head_began: Instant,
    /// When something was last begun, sent or taken.
    pub(super) last_progress: Instant,
    progress_mark: u64,
    peer_ended: bool,
    aborted: bool,
    lingers: bool,
    discarded: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The preface is to come, then the client's settings.
    Preface,
    Settings,
    Open,
    /// The client was told that the server goes down, and was asked whether it has heard: so is it no longer
    /// in doubt which of its requests are answered.
    Draining(Instant),
    /// The last stream is named: others are not looked at.
    Last,
    /// Nothing more is read.
    Over,
}

/// What a frame may end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Connection(ErrorCode, &'static str),
    Excess(Abuse),
    Stream(u32, ErrorCode),
}

pub(super) const fn protocol(why: &'static str) -> Fault {
    Fault::Connection(ErrorCode::PROTOCOL_ERROR, why)
}

impl Http2 {
    /// A connection from `peer` that is about to send its preface; our settings come first.
    pub fn new(service: &mut Service, peer: Peer, key: u32, secured: bool) -> Http2 {
        service.stats.http2.connections += 1;
        let now = service.now();
        let mut connection = Http2 {
            peer,
            key,
            secured,
            phase: Phase::Preface,
            input: Vec::new(),
            content: None,
            block: None,
            decoder: Decoder::default(),
            fields: Fields::default(),
            streams: Slab::new(),
            keys: VecDeque::new(),
            open: 0,
            last_stream: 0,
            over: VecDeque::new(),
            foretold: Vec::new(),
            schedule: Schedule::default(),
            out: Outgoing::default(),
            has_sent_block: false,
            stream_window: INITIAL_WINDOW,
            window: INITIAL_WINDOW,
            receive_window: i64::from(CONNECTION_WINDOW),
            owed: 0,
            allowances: Allowances::new(now),
            head_began: now,
            last_progress: now,
            progress_mark: 0,
            peer_ended: false,
            aborted: false,
            lingers: false,
            discarded: 0,
        };
        connection.send_settings(service);
        connection
    }

    /// As [`crate::conn::Conn::set_key`].
    pub fn set_key(&mut self, key: u32) {
        self.key = key;
    }

    fn send_settings(&mut self, service: &Service) {
        let mut content = Vec::with_capacity(24);
        for (parameter, value) in [
            (setting::MAX_CONCURRENT_STREAMS, MAX_STREAMS as u32),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (setting::MAX_HEADER_LIST_SIZE, service.options.limits.head as u32),
            (setting::NO_RFC7540_PRIORITIES, 1),
        ] {
            content.extend_from_slice(&parameter.to_be_bytes());
            content.extend_from_slice(&value.to_be_bytes());
        }
        self.send_long(service, kind::SETTINGS, &content);
        let more = CONNECTION_WINDOW - INITIAL_WINDOW as u32;
        self.send_short(kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
    }

    /// Queues a frame of at most eight bytes.
    pub(super) fn send_short(&mut self, kind: u8, flags: u8, stream: u32, content: &[u8]) {
        let mut bytes = [0; SHORT_BYTES];
        let len = HEADER_BYTES + content.len();
        bytes[..HEADER_BYTES]
            .copy_from_slice(&FrameHeader { len: content.len(), kind, flags, stream }.bytes());
        bytes[HEADER_BYTES..len].copy_from_slice(content);
        self.out.push(Part::Short(bytes, len as u8), len);
    }

    /// Queues a frame of the connection.
    fn send_long(&mut self, service: &Service, kind: u8, content: &[u8]) {
        let header = FrameHeader { len: content.len(), kind, flags: 0, stream: 0 }.bytes();
        let mut bytes = [&header, content].concat();
        let slice = service.pooled(&mut bytes);
        let len = slice.len();
        self.out.push(Part::Made(slice), len);
    }

    /// Gives back what an ended connection holds. What it did not get is in the log then.
    pub fn retire(&mut self, service: &mut Service) {
        for (_, stream) in std::mem::take(&mut self.streams) {
            if let Some(line) = &stream.line {
                service.write_down(line, stream.taken);
            }
        }
    }

    /// Bytes from the peer. All are taken; no more should come than [`Http2::window`] says.
    pub fn on_bytes(&mut self, service: &mut Service, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() && self.is_reading() {
            let taken = match self.content {
                Some(_) => self.take_content(service, rest),
                None => self.take_frame(service, rest),
            };
            rest = &rest[taken..];
        }
        self.discard(rest.len());
        self.go_on(service);
        bytes.len()
    }

    /// Takes what belongs to a frame off the front of `bytes`; how much that is.
    fn take_frame(&mut self, service: &mut Service, bytes: &[u8]) -> usize {
        if self.input.is_empty() {
            // The usual case: whole frames, looked at where they lie.
            let len = self.frame_len(bytes);
            if len <= bytes.len() {
                self.on_frame(service, &bytes[..len]);
                return len;
            }
        }
        let mut taken = 0;
        loop {
            let missing = self.frame_len(&self.input).saturating_sub(self.input.len());
            if missing == 0 {
                break;
            }
            let part = missing.min(bytes.len() - taken);
            self.input.extend_from_slice(&bytes[taken..taken + part]);
            taken += part;
            if part < missing {
                return taken;
            }
        }
        let frame = std::mem::take(&mut self.input);
        self.on_frame(service, &frame);
        taken
    }

    /// How many bytes of a frame, whose first ones are `bytes`, are needed at once: as far as can be told.
    fn frame_len(&self, bytes: &[u8]) -> usize {
        if self.phase == Phase::Preface {
            // What cannot become one is not waited for.
            let is_one = bytes.iter().zip(PREFACE).all(|(byte, expected)| byte == expected);
            return if is_one { PREFACE.len() } else { bytes.len().min(PREFACE.len()) };
        }
        match FrameHeader::parse(bytes) {
            None => HEADER_BYTES,
            // It is refused for its header.
            Some(header) if header.len > MAX_FRAME => HEADER_BYTES,
            Some(header) if header.kind == kind::DATA => {
                // Of content the length of the padding is enough to begin with.
                HEADER_BYTES + usize::from(header.has(flag::PADDED)).min(header.len)
            }
            Some(header) => HEADER_BYTES + header.len,
        }
    }

    fn on_frame(&mut self, service: &mut Service, frame: &[u8]) {
        let result = if self.phase == Phase::Preface {
            self.phase = Phase::Settings;
            if frame == PREFACE { Ok(()) } else { Err(protocol("no preface of HTTP/2")) }
        } else {
            let Some(header) = FrameHeader::parse(frame) else { return };
            self.dispatch(service, header, &frame[HEADER_BYTES..])
        };
        if let Err(fault) = result {
            self.on_fault(service, fault);
        }
    }

    pub(super) fn on_fault(&mut self, service: &mut Service, fault: Fault) {
        match fault {
            Fault::Connection(code, why) => self.fail(service, code, why),
            Fault::Excess(abuse) => {
                service.stats.http2.abuses[abuse as usize] += 1;
                self.fail(service, ErrorCode::ENHANCE_YOUR_CALM, abuse.name());
            }
            Fault::Stream(id, code) => self.reset(service, id, code),
        }
    }

    fn dispatch(&mut self, service: &mut Service, header: FrameHeader, content: &[u8]) -> Result<(), Fault> {
        if header.len > MAX_FRAME {
            return Err(Fault::Connection(ErrorCode::FRAME_SIZE_ERROR, "a frame of more than 16384 bytes"));
        }
        if self.phase == Phase::Settings {
            if header.kind != kind::SETTINGS || header.has(flag::ACK) {
                return Err(protocol("settings come first"));
            }
            self.phase = Phase::Open;
            self.last_progress = service.now();
        }
        if self
            .block
            .as_ref()
            .is_some_and(|block| header.kind != kind::CONTINUATION || header.stream != block.stream)
        {
            return Err(protocol("a head is not whole"));
        }
        match header.kind {
            kind::DATA => self.on_content_frame(service, header, content),
            kind::HEADERS => self.on_headers(service, header, content),
            kind::CONTINUATION => self.on_continuation(service, header, content),
            kind::SETTINGS => self.on_settings(service, header, content),
            kind::PING => self.on_ping(service, header, content),
            kind::WINDOW_UPDATE => self.on_window_update(service, header, content),
            kind::RST_STREAM => self.on_reset(service, header, content),
            kind::PRIORITY => self.on_priority(service, header, content),
            kind::PRIORITY_UPDATE => self.on_priority_update(service, header, content),
            kind::GOAWAY if header.stream != 0 => Err(protocol("GOAWAY of a stream")),
            kind::GOAWAY if content.len() < 8 => Err(too_short()),
            // It speaks of streams that we never begin.
            kind::GOAWAY => self.spend(service, Abuse::Useless),
            kind::PUSH_PROMISE => Err(protocol("a client pushes nothing")),
            _ => self.spend(service, Abuse::Useless),
        }
    }

    pub(super) fn spend(&mut self, service: &Service, abuse: Abuse) -> Result<(), Fault> {
        if self.allowances.spend(abuse, service.now()) { Ok(()) } else { Err(Fault::Excess(abuse)) }
    }

    /// Where the stream `id` is kept; `None` if it is over.
    ///
    /// # Errors
    /// If it was never begun.
    pub(super) fn find(&self, id: u32) -> Result<Option<usize>, Fault> {
        if id > self.last_stream || id.is_multiple_of(2) {
            return Err(protocol("a stream that was not begun"));
        }
        let at = self.keys.binary_search_by_key(&id, |&(other, _)| other);
        let key = at.ok().and_then(|at| self.keys.get(at)).map(|&(_, key)| key);
        Ok(key.filter(|&key| self.streams.get(key).is_some_and(|stream| stream.is_open)))
    }

    /// How a stream that is over came to its end, as far as is remembered; `None` if it may never have been
    /// begun.
    pub(super) fn ending_of(&self, id: u32) -> Option<Ending> {
        let at = self.keys.binary_search_by_key(&id, |&(other, _)| other);
        let kept = at.ok().and_then(|at| self.keys.get(at)).and_then(|&(_, key)| self.streams.get(key));
        let forgotten = || self.over.iter().find(|(other, _)| *other == id).map(|&(_, ending)| ending);
        kept.map(|stream| stream.ending).or_else(forgotten)
    }

    /// Ends a stream by an error.
    pub(super) fn reset(&mut self, service: &mut Service, id: u32, code: ErrorCode) {
        self.send_reset(id, code);
        service.stats.http2.resets += 1;
        // Who has us reset its streams has them reset.
        if let Err(fault) = self.spend(service, Abuse::Resets) {
            return self.on_fault(service, fault);
        }
        match self.find(id) {
            Ok(Some(key)) => self.end_by_us(service, key),
            // Nothing came of its head.
            Ok(None) if self.ending_of(id).is_none() => self.remember(id, Ending::Reset),
            _ => {}
        }
    }

    /// The peer is told of it.
    fn end_by_us(&mut self, service: &mut Service, key: usize) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.ending = Ending::Reset;
        }
        self.end_stream(service, key);
    }

    /// Tells the peer to send no more of requests that have been answered for long; whether there were any.
    fn give_up_requests(&mut self, service: &mut Service) -> bool {
        let (now, linger) = (service.now(), service.options.timeouts.linger);
        let is_due = |stream: &Stream| stream.gives_up_at(linger).is_some_and(|at| now >= at);
        let due = self.streams.iter().filter(|(_, stream)| is_due(stream));
        let due: Vec<(usize, u32)> = due.map(|(key, stream)| (key, stream.id)).collect();
        for &(key, id) in &due {
            self.send_reset(id, ErrorCode::NO_ERROR);
            self.end_by_us(service, key);
        }
        !due.is_empty()
    }

    /// Neither side sends anything more of it.
    pub(super) fn end_stream(&mut self, service: &mut Service, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        (stream.is_ended, stream.peer_ended) = (true, true);
        stream.content = Taker::Nobody;
        if std::mem::take(&mut stream.is_scheduled) {
            self.schedule.remove((stream.id, key), stream.priority);
        }
        self.close_stream(service, key);
    }

    /// Forgets a stream of which both halves are over, once nothing of it is on its way.
    pub(super) fn close_stream(&mut self, service: &mut Service, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if !(stream.is_ended && stream.peer_ended) {
            return;
        }
        if std::mem::take(&mut stream.is_open) {
            self.open -= 1;
        }
        if stream.parts > 0 {
            return;
        }
        let stream = self.streams.remove(key);
        if let Some(began) = stream.began
            && stream.has_head
            && !(stream.body.is_open() || stream.body.is_broken())
            && stream.taken == stream.body.len()
        {
            service.latency.note(began);
        }
        if let Some(line) = &stream.line {
            service.write_down(line, stream.taken);
        }
        if let Ok(at) = self.keys.binary_search_by_key(&stream.id, |&(other, _)| other) {
            self.keys.remove(at);
        }
        self.remember(stream.id, stream.ending);
    }

    fn remember(&mut self, id: u32, ending: Ending) {
        if self.over.len() >= REMEMBERED {
            self.over.pop_front();
        }
        self.over.push_back((id, ending));
    }

    /// Says why nothing goes on, and ends.
    fn fail(&mut self, service: &mut Service, code: ErrorCode, why: &'static str) {
        if !self.is_reading() {
            return;
        }
        tracing::debug!("HTTP/2 ends: {code:?}, {why}");
        service.stats.http2.errors += 1;
        self.say_goodbye(service, self.last_stream, code, why);
        self.end_all(service);
    }

    fn say_goodbye(&mut self, service: &Service, last: u32, code: ErrorCode, why: &str) {
        let content = [&last.to_be_bytes(), &code.0.to_be_bytes(), why.as_bytes()].concat();
        self.send_long(service, kind::GOAWAY, &content);
    }

    /// Reads no more, and sends but what is queued.
    fn end_all(&mut self, service: &mut Service) {
        let keys: Vec<usize> = self.keys.iter().map(|&(_, key)| key).collect();
        keys.into_iter().for_each(|key| self.end_stream(service, key));
        self.phase = Phase::Over;
        self.lingers = !self.peer_ended;
        (self.input, self.block, self.content) = (Vec::new(), None, None);
        self.last_progress = service.now();
    }

    /// The server goes down, or the connection was idle for long: which requests are answered is about to be
    /// said.
    pub fn drain(&mut self, service: &mut Service) {
        match self.phase {
            Phase::Open => {
                self.say_goodbye(service, MAX_WINDOW as u32, ErrorCode::NO_ERROR, "");
                self.send_short(kind::PING, 0, 0, &LAST_PING);
                self.phase = Phase::Draining(service.now());
            }
            Phase::Preface | Phase::Settings => {
                self.say_goodbye(service, 0, ErrorCode::NO_ERROR, "");
                self.end_all(service);
            }
            Phase::Draining(_) | Phase::Last | Phase::Over => {}
        }
    }

    pub(super) fn name_last(&mut self, service: &Service) {
        self.phase = Phase::Last;
        self.say_goodbye(service, self.last_stream, ErrorCode::NO_ERROR, "");
    }

    /// Whether requests that begin now are answered.
    pub(super) fn takes_requests(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Draining(_))
    }

    /// Goes on with what waited. Call it after [`Http2::acknowledged`].
    pub fn resume(&mut self, service: &mut Service) {
        if self.progress_mark != self.out.acknowledged_end() {
            self.progress_mark = self.out.acknowledged_end();
            self.last_progress = service.now();
            self.forget_acknowledged(service);
        }
        self.go_on(service);
    }

    fn go_on(&mut self, service: &mut Service) {
        if service.draining {
            self.drain(service);
        }
        self.look_after_waiting(service);
        self.fill(service);
        let is_last = self.phase == Phase::Last || (self.peer_ended && self.is_reading());
        if is_last && self.open == 0 {
            self.end_all(service);
        }
    }

    /// The peer will send no more. Responses to what it has asked for still go out.
    pub fn on_end(&mut self, service: &mut Service) {
        (self.peer_ended, self.lingers) = (true, false);
        let unfinished = |stream: &Stream| !stream.peer_ended;
        let keys: Vec<usize> =
            self.streams.iter().filter(|(_, stream)| unfinished(stream)).map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.end_stream(service, key));
        self.resume(service);
    }

    /// Whether a time-out is due and was acted upon.
    pub fn on_timeout(&mut self, service: &mut Service) -> bool {
        if self.deadline(service).is_none_or(|deadline| service.now() < deadline) {
            return false;
        }
        if let Phase::Draining(_) = self.phase
            && self.out.held() == 0
        {
            // It does not answer; what it has begun is still there.
            self.name_last(service);
            self.go_on(service);
            return true;
        }
        if self.give_up_requests(service) {
            self.go_on(service);
            return true;
        }
        service.stats.timed_out += 1;
        if self.out.held() > 0 || !self.is_reading() || self.phase == Phase::Preface {
            self.aborted = true;
        } else if self.open == 0 && self.block.is_none() {
            self.say_goodbye(service, self.last_stream, ErrorCode::NO_ERROR, "");
            self.end_all(service);
        } else if self.streams.iter().any(|(_, stream)| stream.unsent() > 0) {
            // It gives no window.
            self.fail(service, ErrorCode::ENHANCE_YOUR_CALM, "nothing is taken");
        } else {
            self.fail(service, ErrorCode::NO_ERROR, "the rest of a request did not come");
        }
        true
    }

    /// When [`Http2::on_timeout`] wants to be called.
    pub fn deadline(&self, service: &Service) -> Option<Instant> {
        let timeouts = &service.options.timeouts;
        if self.aborted {
            return None;
        }
        if self.out.held() > 0 {
            return Some(self.last_progress + timeouts.send);
        }
        if !self.is_reading() {
            return Some(self.last_progress + timeouts.linger);
        }
        if matches!(self.phase, Phase::Preface | Phase::Settings) || self.block.is_some() {
            return Some(self.head_began + timeouts.head);
        }
        if let Phase::Draining(since) = self.phase {
            return Some(since + timeouts.linger);
        }
        if self.open == 0 {
            return Some(self.last_progress + timeouts.idle);
        }
        let of_streams = self.streams.iter().filter_map(|(_, stream)| match &stream.content {
            // The disk, too, says when it has failed.
            _ if stream.awaits_disk => None,
            _ if stream.unsent() > 0 => Some(self.last_progress + timeouts.send),
            Taker::Upload(upload) if !stream.peer_ended => Some(upload.deadline()),
            _ if stream.answered_early.is_some() => stream.gives_up_at(timeouts.linger),
            _ if !stream.peer_ended => Some(self.last_progress + timeouts.send),
            _ => None,
        });
        of_streams.min()
    }

    /// How many bytes [`Http2::on_bytes`] would take now; 0 while too much waits for the peer.
    pub fn window(&self) -> usize {
        if self.is_reading() && self.out.parts() > MAX_PARTS { 0 } else { MAX_INPUT + self.content_room() }
    }

    /// Content that may come by the window of the connection, which goes to where it stays at once.
    pub fn content_room(&self) -> usize {
        usize::try_from(self.receive_window).unwrap_or(0)
    }

    /// Whether the connection must be cut without ceremony.
    pub fn is_aborted(&self) -> bool {
        self.aborted
    }

    /// Whether, once everything is sent, the peer's end should be awaited before closing.
    pub fn lingers(&self) -> bool {
        self.lingers
    }

    /// Offset of the first byte that the peer has not taken yet.
    pub fn acknowledged_end(&self) -> u64 {
        self.out.acknowledged_end()
    }

    /// Visits the bytes `[offset, offset + len)` piece by piece, as far as they are at hand, until `visit`
    /// says no.
    pub fn for_each_piece<'a>(&'a self, offset: u64, len: usize, visit: impl FnMut(Piece<'a>) -> bool) {
        self.out.for_each_piece(&self.streams, offset, len, visit);
    }

    /// The end of the frame that the byte at `offset` belongs to, if there is that byte.
    pub fn part_end(&self, offset: u64) -> Option<u64> {
        self.out.part_end(offset)
    }

    /// The peer has taken something that is not counted here: it is not idle.
    pub(crate) fn touch(&mut self, service: &Service) {
        self.last_progress = service.now();
    }

    /// Whether frames are still read.
    pub(super) fn is_reading(&self) -> bool {
        self.phase != Phase::Over
    }

    fn discard(&mut self, len: usize) {
        self.discarded += len as u64;
        self.aborted |= self.discarded > MAX_DISCARDED;
    }

    /// Gives a window back what was taken in.
    pub(super) fn give_back(&mut self, stream: u32, len: u32) {
        self.send_short(kind::WINDOW_UPDATE, 0, stream, &len.to_be_bytes());
    }
}

/// A frame of a length that it cannot have, of the connection.
pub(super) const fn too_short() -> Fault {
    Fault::Connection(ErrorCode::FRAME_SIZE_ERROR, "a frame of another length")
}

impl PayloadSource for Http2 {
    fn end(&self) -> u64 {
        self.out.end()
    }

    fn is_finished(&self) -> bool {
        !self.is_reading()
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        payload::gather(out, |visit| self.for_each_piece(offset, len, visit))
    }

    fn acknowledged(&mut self, offset: u64) {
        self.out.acknowledged(offset);
    }
}
