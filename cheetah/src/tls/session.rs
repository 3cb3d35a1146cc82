//! The TLS of one connection: what state it is in, sealed bytes that came and sealed bytes to send.

mod opening;
mod records;
mod rustls_part;
mod sealing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use runtime::buffer::Pool;
use runtime::payload::Piece;
use runtime::wiping::without_trace;
use rustls::server::UnbufferedServerConnection;

use self::records::Records;
use super::certificates::Acceptor;
use super::outgoing::Outgoing;
use super::planned::Plain;
use super::record::{MAX_CONTENT, MAX_OVERHEAD};

/// Sealed bytes that are kept until they can be opened: the longest handshake message that `rustls` takes, or
/// four records.
const MAX_INPUT: usize = 68 * 1024;

/// So many records wait for their acknowledgement in pooled memory; others have their own.
const MAX_POOLED: usize = 4096;

/// What all connections of a thread use in turn.
#[derive(Debug)]
pub struct Workspace {
    acceptor: Arc<Acceptor>,
    /// Records of content are sealed when they are sent, straight into the frame.
    seals_into_frames: bool,
    /// Buffers of a record each.
    records: Pool,
    /// The content of the record that is being opened.
    plain: Vec<u8>,
    /// What `rustls` is to seal, gathered.
    gathered: Vec<u8>,
}

impl Workspace {
    /// For connections that `acceptor` is to accept.
    pub fn new(acceptor: Arc<Acceptor>) -> Workspace {
        let records = Pool::new(MAX_CONTENT + MAX_OVERHEAD, MAX_POOLED);
        Workspace { acceptor, seals_into_frames: false, records, plain: Vec::new(), gathered: Vec::new() }
    }

    /// For a transport that asks for the bytes of each frame ([`runtime::payload::PayloadSource::maker`]):
    /// content is sealed there, if loops are fused.
    pub fn seal_into_frames(&mut self) {
        self.seals_into_frames = self.acceptor.fused && self.acceptor.into_frames;
    }

    /// The TLS of a connection that has just been accepted. It is over at once if the system has no random
    /// bytes.
    pub fn new_session(&self) -> Session {
        let state = match UnbufferedServerConnection::new(Arc::clone(&self.acceptor.config)) {
            Ok(connection) => State::Rustls(Box::new(connection)),
            Err(error) => {
                tracing::error!("TLS cannot begin: {error}");
                State::Over
            }
        };
        Session::new(state)
    }
}

/// Who takes what was opened.
pub trait Sink {
    /// Whether it takes anything now.
    fn has_room(&self) -> bool;

    /// Takes bytes, in order; gives how many.
    fn take(&mut self, bytes: &[u8]) -> usize;

    /// Both sides agreed on what the bytes are to be (ALPN), before there are any.
    fn agree(&mut self, protocol: &[u8]) {
        let _ = protocol;
    }
}

impl Sink for Vec<u8> {
    fn has_room(&self) -> bool {
        true
    }

    fn take(&mut self, bytes: &[u8]) -> usize {
        self.extend_from_slice(bytes);
        bytes.len()
    }
}

/// One connection's TLS.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// Sealed bytes not opened yet.
    input: Vec<u8>,
    /// Of them, so many are whole records that `rustls` was shown and is not done with.
    shown: usize,
    /// Opened bytes that the sink had no room for.
    opened: Vec<u8>,
    out: Outgoing,
    /// Bytes received while the handshake was not done.
    handshake_bytes: u64,
    /// Content sealed since the connection was new or idle.
    sealed: u64,
    /// The peer has said that it sends no more.
    peer_closed: bool,
    /// We have.
    closed: bool,
    /// The peer wants our next records under another key.
    owes_key_update: bool,
}

enum State {
    /// `rustls` has it: during the handshake, and after it where records are not ours.
    Rustls(Box<UnbufferedServerConnection>),
    Ours(Box<Records>),
    /// Nothing can be opened or sealed any more.
    Over,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Rustls(_) => "Rustls",
            State::Ours(_) => "Ours",
            State::Over => "Over",
        })
    }
}

impl Session {
    fn new(state: State) -> Session {
        Session {
            state,
            input: Vec::new(),
            shown: 0,
            opened: Vec::new(),
            out: Outgoing::default(),
            handshake_bytes: 0,
            sealed: 0,
            peer_closed: false,
            closed: false,
            owes_key_update: false,
        }
    }

    /// Nothing is opened or sealed from now on.
    fn end(&mut self) {
        self.let_go();
        self.closed = true;
        self.opened = Vec::new();
    }

    /// What is known of keys is gone.
    fn let_go(&mut self) {
        if !matches!(self.state, State::Over) {
            without_trace(|| self.state = State::Over);
        }
    }

    /// The peer was silent for a while: what comes next is to be of use at once.
    pub fn was_idle(&mut self) {
        self.sealed = 0;
    }

    /// How many bytes [`Session::receive`] would take now.
    pub fn window(&self) -> usize {
        if self.is_deaf() { MAX_INPUT } else { MAX_INPUT.saturating_sub(self.input.len()) }
    }

    /// Content of the next record, at most.
    pub fn record_content(&self, tools: &Workspace) -> usize {
        tools.acceptor.record_size.content(self.sealed)
    }

    /// Whether responses can be sealed.
    pub fn may_seal(&self) -> bool {
        !self.closed && !self.is_handshaking()
    }

    /// Whether the handshake goes on.
    pub fn is_handshaking(&self) -> bool {
        matches!(&self.state, State::Rustls(connection) if connection.is_handshaking())
    }

    /// Whether it ended because of what the peer sent, or did not understand.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether nothing more will be sealed: the end of the stream is [`Session::end_of_stream`].
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the peer has said that it sends no more, and all before that was taken.
    pub fn is_read_out(&self) -> bool {
        self.peer_closed && self.opened.is_empty()
    }

    /// Whether what comes is of no use to anybody.
    fn is_deaf(&self) -> bool {
        self.is_over() || self.peer_closed
    }

    /// Offset just behind the last sealed byte.
    pub fn end_of_stream(&self) -> u64 {
        self.out.end()
    }

    /// Offset of the first byte that the peer has not taken yet.
    pub fn acknowledged_end(&self) -> u64 {
        self.out.acknowledged_end()
    }

    /// Everything before `offset` has reached the peer. Gives up to where it needs no more of the stream of
    /// responses, if that has changed.
    pub fn acknowledged(&mut self, offset: u64) -> Option<u64> {
        self.out.acknowledged(offset)
    }

    /// Writes the bytes from `offset` on over all of `to`, sealed there and then of `plain`; gives their sum,
    /// if that is wanted.
    pub fn make(&self, offset: u64, to: &mut [u8], wants_sum: bool, plain: &dyn Plain) -> Option<u16> {
        self.out.make(offset, to, wants_sum, plain)
    }

    /// Whether sealed bytes are to be had by [`Session::make`] alone.
    pub fn is_made(&self) -> bool {
        self.out.is_made()
    }

    /// Whether something that is on its way can never be accepted.
    pub fn is_spoilt(&self) -> bool {
        self.out.is_spoilt()
    }

    /// Sealed bytes that the peer has not taken.
    pub fn held(&self) -> u64 {
        self.out.held()
    }

    /// Visits the sealed bytes `[offset, offset + len)` piece by piece until `visit` says no.
    pub fn for_each_piece<'a>(&'a self, offset: u64, len: usize, visit: impl FnMut(Piece<'a>) -> bool) {
        self.out.for_each_piece(offset, len, visit);
    }

    /// Where the record that the byte at `offset` lies in ends.
    pub fn part_end(&self, offset: u64) -> Option<u64> {
        self.out.part_end(offset)
    }
}
