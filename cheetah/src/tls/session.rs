//! The TLS of one connection: what state it is in, sealed bytes that came and sealed bytes to send.

use std::fmt;
use std::sync::Arc;

use runtime::buffer::{Pool, Shared, Slice};
use runtime::payload::Piece;
use runtime::stats::work::{Quantity, count};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CipherSuite, ProtocolVersion};

use super::certificates::Acceptor;
use super::outgoing::Outgoing;
use super::planned::Plain;
use super::record::{Alert, ContentType, Keys, MAX_CONTENT, MAX_OVERHEAD, Version, whole_record};

/// Sealed bytes that are kept until they can be opened: the longest handshake message that `rustls` takes, or four records.
const MAX_INPUT: usize = 68 * 1024;

/// Bytes of a whole handshake, a client's part; more is no handshake.
const MAX_HANDSHAKE: u64 = 128 * 1024;

/// So many records wait for their acknowledgement in pooled memory; others have their own.
const MAX_POOLED: usize = 4096;

/// Handshake bytes of a record that is one `KeyUpdate` (RFC 8446 section 4.6.3), but for the last.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

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

    /// For a transport that asks for the bytes of each frame ([`runtime::payload::PayloadSource::maker`]): content is sealed
    /// there, if loops are fused.
    pub fn seal_into_frames(&mut self) {
        self.seals_into_frames = self.acceptor.fused && self.acceptor.into_frames;
    }

    /// The TLS of a connection that has just been accepted. It is over at once if the system has no random bytes.
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

/// One connection's TLS.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// Sealed bytes not opened yet.
    input: Vec<u8>,
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

/// What `rustls` is to do once it can.
#[derive(Clone, Copy)]
enum Job<'a> {
    None,
    /// Seal a record.
    Seal(&'a [u8]),
    /// Say that no more follow.
    Close,
}

/// Both directions' keys, and the secrets that further ones come from.
struct Records {
    sealing: Keys,
    opening: Keys,
    kernel: KernelConnection<ServerConnectionData>,
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
            opened: Vec::new(),
            out: Outgoing::default(),
            handshake_bytes: 0,
            sealed: 0,
            peer_closed: false,
            closed: false,
            owes_key_update: false,
        }
    }

    /// Sealed bytes from the peer. Gives how many were taken: all, if no more than [`Session::window`] said.
    pub fn receive(&mut self, tools: &mut Workspace, bytes: &[u8], sink: &mut impl Sink) -> usize {
        let mut taken = 0;
        if self.input.is_empty() {
            // The usual case: whole records, opened where they lie.
            while let State::Ours(_) = self.state
                && self.opened.is_empty()
                && sink.has_room()
                && !self.peer_closed
            {
                match whole_record(&bytes[taken..]) {
                    Ok(Some(len)) => {
                        self.open(tools, &bytes[taken..taken + len], sink);
                        taken += len;
                    }
                    Ok(None) => break,
                    Err(alert) => self.fail(tools, alert),
                }
            }
        }
        if self.is_deaf() {
            return bytes.len();
        }
        let rest = &bytes[taken..];
        let kept = rest.len().min(MAX_INPUT.saturating_sub(self.input.len()));
        self.input.extend_from_slice(&rest[..kept]);
        if self.is_handshaking() {
            self.handshake_bytes += kept as u64;
        }
        self.resume(tools, sink);
        taken + kept
    }

    /// Goes on with what waited for room in the sink.
    pub fn resume(&mut self, tools: &mut Workspace, sink: &mut impl Sink) {
        self.deliver(sink);
        if matches!(self.state, State::Rustls(_)) && self.opened.is_empty() && sink.has_room() {
            let was_handshaking = self.is_handshaking();
            self.run_rustls(Job::None);
            if was_handshaking
                && let State::Rustls(connection) = &self.state
                && !connection.is_handshaking()
                && let Some(protocol) = connection.alpn_protocol()
            {
                sink.agree(protocol);
            }
            self.deliver(sink);
            self.take_over(tools);
        }
        if let State::Ours(_) = self.state
            && !self.input.is_empty()
        {
            let input = std::mem::take(&mut self.input);
            let mut at = 0;
            while let State::Ours(_) = self.state
                && self.opened.is_empty()
                && sink.has_room()
                && !self.peer_closed
            {
                match whole_record(&input[at..]) {
                    Ok(Some(len)) => {
                        self.open(tools, &input[at..at + len], sink);
                        at += len;
                    }
                    Ok(None) => break,
                    Err(alert) => self.fail(tools, alert),
                }
            }
            self.input = input;
            self.input.drain(..at);
        }
        if self.is_deaf() {
            self.input.clear();
        }
        if self.input.is_empty() {
            // A connection that waits owns as little as can be.
            self.input = Vec::new();
        }
    }

    /// Gives on what the sink had no room for.
    fn deliver(&mut self, sink: &mut impl Sink) {
        if !self.opened.is_empty() && sink.has_room() {
            let taken = sink.take(&self.opened);
            self.opened.drain(..taken);
            if self.opened.is_empty() {
                self.opened = Vec::new();
            }
        }
    }

    /// Lets `rustls` do what can be done with what has come, and `job` if it gets that far; whether it did.
    fn run_rustls(&mut self, job: Job<'_>) -> bool {
        let mut flight = Vec::new();
        let mut failure = None;
        let mut done = false;
        while let State::Rustls(connection) = &mut self.state {
            // After an error only what was made of it, which comes before anything is looked at: the same bytes would be taken
            // for an error again.
            if failure.is_some() && !connection.wants_write() {
                break;
            }
            let UnbufferedStatus { discard, state } = connection.process_tls_records(&mut self.input);
            let mut goes_on = true;
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    if let Err(EncodeError::InsufficientSize(needs)) = data.encode(&mut []) {
                        let from = flight.len();
                        flight.resize(from + needs.required_size, 0);
                        // It has what it said it needs.
                        let _ = data.encode(&mut flight[from..]);
                    }
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        self.opened.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    goes_on = false;
                    let from = flight.len();
                    let sealed = match job {
                        Job::None => Ok(0),
                        Job::Seal(content) => {
                            // It adds what we would, and now and then a key update before that.
                            flight.resize(from + content.len() + 3 * MAX_OVERHEAD, 0);
                            traffic.encrypt(content, &mut flight[from..])
                        }
                        Job::Close => {
                            flight.resize(from + 2 + MAX_OVERHEAD, 0);
                            traffic.queue_close_notify(&mut flight[from..])
                        }
                    };
                    done = sealed.is_ok();
                    flight.truncate(from + sealed.unwrap_or(0));
                }
                Ok(_) => goes_on = false,
                Err(error) => failure = Some(error),
            }
            self.input.drain(..discard);
            if !goes_on {
                break;
            }
        }
        if failure.is_some() && flight.is_empty() && self.out.end() == 0 {
            // Of what is no message at all `rustls` makes no alert.
            flight.extend_from_slice(&[ContentType::ALERT.0, 3, 3, 0, 2, 2, Alert::DECODE_ERROR.0]);
        }
        if !flight.is_empty() {
            self.out.push(Slice::from(Shared::from(flight)));
        }
        if let Some(error) = failure {
            tracing::debug!("TLS ends: {error}");
            self.end();
        } else if self.is_handshaking() && self.handshake_bytes > MAX_HANDSHAKE {
            tracing::debug!("TLS ends: a handshake of more than {MAX_HANDSHAKE} bytes");
            self.end();
        }
        done
    }

    /// Takes the secrets over from `rustls` when the handshake is done, if records are to be ours.
    fn take_over(&mut self, tools: &Workspace) {
        let acceptor = &tools.acceptor;
        let State::Rustls(connection) = &self.state else { return };
        if !acceptor.own_records || connection.is_handshaking() || self.peer_closed {
            return;
        }
        let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
        if !suite.is_some_and(is_aes_gcm) {
            return;
        }
        let State::Rustls(connection) = std::mem::replace(&mut self.state, State::Over) else { return };
        match Records::new(*connection, acceptor.fused) {
            Ok(records) => self.state = State::Ours(Box::new(records)),
            Err(error) => {
                tracing::warn!("a connection ends, for its secrets cannot be had: {error}");
                self.end();
            }
        }
    }

    /// Opens one record.
    fn open(&mut self, tools: &mut Workspace, record: &[u8], sink: &mut impl Sink) {
        let State::Ours(records) = &mut self.state else { return };
        let kind = match records.opening.open(record, &mut tools.plain) {
            Ok(kind) => kind,
            Err(alert) => return self.fail(tools, alert),
        };
        match kind {
            ContentType::DATA => {
                if !tools.plain.is_empty() {
                    let taken = sink.take(&tools.plain);
                    self.opened.extend_from_slice(&tools.plain[taken..]);
                }
            }
            ContentType::ALERT => match *tools.plain {
                [_, 0] => self.peer_closed = true,
                [_, code] if Alert(code) == Alert::USER_CANCELED => {}
                // It goes on no further, and does not want an answer.
                [_, _] => self.end(),
                _ => self.fail(tools, Alert::DECODE_ERROR),
            },
            ContentType::HANDSHAKE => self.on_handshake(tools),
            _ => self.fail(tools, Alert::UNEXPECTED_MESSAGE),
        }
    }

    /// A handshake message behind the handshake: another key, or an attempt to begin anew, which is refused.
    fn on_handshake(&mut self, tools: &mut Workspace) {
        let State::Ours(records) = &mut self.state else { return };
        if records.opening.version() == Version::Tls12 {
            return self.fail(tools, Alert::HANDSHAKE_FAILURE);
        }
        let asks = match tools.plain.split_last() {
            Some((asks @ (0 | 1), head)) if *head == KEY_UPDATE => *asks == 1,
            _ => return self.fail(tools, Alert::UNEXPECTED_MESSAGE),
        };
        let fused = tools.acceptor.fused;
        let keys = records.kernel.update_rx_secret().ok();
        match keys.and_then(|(first, secrets)| Keys::new(Version::Tls13, first, &secrets, fused).ok()) {
            Some(keys) => records.opening = keys,
            None => return self.fail(tools, Alert::INTERNAL_ERROR),
        }
        // However often it is asked for before we send something, once is enough (RFC 8446 section 4.6.3).
        self.owes_key_update |= asks;
    }

    /// Takes `len` bytes of responses from `plain` on for a record that is sealed when it is sent. Only where
    /// [`Session::plans`].
    pub fn plan(&mut self, tools: &Workspace, plain: u64, len: usize) {
        self.sealed += len as u64;
        if self.renew_key(tools)
            && let State::Ours(records) = &mut self.state
        {
            self.out.plan(records.sealing.plan(plain, len));
        }
    }

    /// Whether records are sealed when they are sent, by [`Session::make`].
    pub fn plans(&self, tools: &Workspace) -> bool {
        tools.seals_into_frames && matches!(self.state, State::Ours(_))
    }

    /// Sees to it that the key may seal another record; whether it may.
    fn renew_key(&mut self, tools: &Workspace) -> bool {
        let State::Ours(records) = &mut self.state else { return false };
        if self.owes_key_update || records.sealing.sequence() >= tools.acceptor.records_per_key {
            if records.sealing.version() == Version::Tls12 {
                // Its key cannot be replaced.
                self.close(tools);
                return false;
            }
            self.update_key(tools);
        }
        true
    }

    /// Seals a record of `pieces`, `len` bytes of content, now. `plain_end` is where they end in the stream of responses, if
    /// that is to be told when the record is acknowledged.
    pub fn seal(&mut self, tools: &mut Workspace, pieces: &[&[u8]], len: usize, plain_end: Option<u64>) {
        self.sealed += len as u64;
        match &mut self.state {
            State::Ours(_) => {
                if self.renew_key(tools) {
                    self.seal_ours(tools, ContentType::DATA, pieces, len);
                    self.out.last_ends_at(plain_end);
                }
            }
            State::Rustls(_) => {
                let mut content = std::mem::take(&mut tools.gathered);
                content.clear();
                pieces.iter().for_each(|piece| content.extend_from_slice(piece));
                if self.run_rustls(Job::Seal(&content)) {
                    // Gathered here, then copied there twice; encrypted and hashed in between.
                    count(Quantity::BytesCopied, 3 * len);
                    count(Quantity::BytesTouched, 4 * len);
                    count(Quantity::BytesSealed, len);
                } else {
                    self.end();
                }
                tools.gathered = content;
            }
            State::Over => {}
        }
    }

    fn seal_ours(&mut self, tools: &Workspace, kind: ContentType, pieces: &[&[u8]], len: usize) {
        let State::Ours(records) = &mut self.state else { return };
        let needed = len + MAX_OVERHEAD;
        // What is short, as most of what is not a response, takes memory of its own: pooled buffers are of a whole record.
        let pooled = if needed > 2048 { tools.records.take() } else { None };
        let sealed = match pooled {
            Some(mut buffer) => records.sealing.seal(kind, pieces, len, &mut buffer).map(|sealed| {
                let mut slice = Slice::from(buffer.freeze());
                slice.truncate(sealed);
                slice
            }),
            None => {
                let mut buffer = vec![0; needed];
                records.sealing.seal(kind, pieces, len, &mut buffer).map(|sealed| {
                    buffer.truncate(sealed);
                    Slice::from(Shared::from(buffer))
                })
            }
        };
        match sealed {
            Ok(slice) => self.out.push(slice),
            Err(error) => {
                tracing::error!("a record cannot be sealed: {error}");
                self.end();
            }
        }
    }

    /// Tells the peer that the next records are under the next key, and takes it.
    fn update_key(&mut self, tools: &Workspace) {
        self.owes_key_update = false;
        let [a, b, c, d] = KEY_UPDATE;
        self.seal_ours(tools, ContentType::HANDSHAKE, &[&[a, b, c, d, 0]], 5);
        let State::Ours(records) = &mut self.state else { return };
        let keys = records.kernel.update_tx_secret().ok();
        let fused = tools.acceptor.fused;
        match keys.and_then(|(first, secrets)| Keys::new(Version::Tls13, first, &secrets, fused).ok()) {
            Some(keys) => records.sealing = keys,
            None => self.end(),
        }
    }

    /// Says that nothing more will be sent.
    pub fn close(&mut self, tools: &Workspace) {
        if self.closed {
            return;
        }
        match &mut self.state {
            State::Ours(_) => self.alert(tools, Alert::CLOSE_NOTIFY),
            State::Rustls(_) => {
                self.run_rustls(Job::Close);
            }
            State::Over => {}
        }
        self.closed = true;
    }

    /// Tells the peer why nothing goes on.
    fn fail(&mut self, tools: &Workspace, alert: Alert) {
        self.alert(tools, alert);
        self.end();
    }

    fn alert(&mut self, tools: &Workspace, alert: Alert) {
        let level = if alert == Alert::CLOSE_NOTIFY { 1 } else { 2 };
        self.seal_ours(tools, ContentType::ALERT, &[&[level, alert.0]], 2);
    }

    /// Nothing is opened or sealed from now on.
    fn end(&mut self) {
        self.state = State::Over;
        self.closed = true;
        self.opened = Vec::new();
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

    /// Everything before `offset` has reached the peer. Gives up to where it needs no more of the stream of responses, if that
    /// has changed.
    pub fn acknowledged(&mut self, offset: u64) -> Option<u64> {
        self.out.acknowledged(offset)
    }

    /// Writes the bytes from `offset` on over all of `to`, sealed there and then of `plain`; gives their sum, if that is
    /// wanted.
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

impl Records {
    fn new(connection: UnbufferedServerConnection, fused: bool) -> Result<Records, rustls::Error> {
        let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
        let version = match kernel.protocol_version() {
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            _ => Version::Tls13,
        };
        let keys = |(first, secrets): &(u64, _)| {
            let what = || rustls::Error::General("no AES-GCM of ours for this suite".to_owned());
            Keys::new(version, *first, secrets, fused).map_err(|_| what())
        };
        Ok(Records { sealing: keys(&secrets.tx)?, opening: keys(&secrets.rx)?, kernel })
    }
}

/// The suites whose records are ours.
fn is_aes_gcm(suite: CipherSuite) -> bool {
    use CipherSuite as Suite;
    matches!(
        suite,
        Suite::TLS13_AES_128_GCM_SHA256
            | Suite::TLS13_AES_256_GCM_SHA384
            | Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | Suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | Suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            | Suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    )
}
