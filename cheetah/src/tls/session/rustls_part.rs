//! What `rustls` does of a connection's TLS: the handshake, all of it where records are not ours, and handing
//! its secrets over.

use runtime::buffer::{Shared, Slice};
use runtime::wiping::{with_freed_wiped, without_trace};
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{Error, HandshakeKind, PeerMisbehaved, ProtocolVersion};

use super::super::record::{Alert, ContentType, MAX_OVERHEAD, whole_record};
use super::records::{Records, is_aes_gcm};
use super::{Session, State, Workspace};

/// Bytes of a whole handshake, a client's part; more is no handshake.
const MAX_HANDSHAKE: u64 = 128 * 1024;

/// What `rustls` is to do once it can.
#[derive(Clone, Copy)]
pub(super) enum Job<'a> {
    None,
    /// Seal a record.
    Seal(&'a [u8]),
    /// Say that no more follow.
    Close,
}

/// What a client is told of an error that `rustls` has no alert for (RFC 8446 section 6.2).
fn alert_of(error: &Error) -> Alert {
    match error {
        Error::PeerMisbehaved(PeerMisbehaved::MessageInterleavedWithHandshakeMessage)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => Alert::UNEXPECTED_MESSAGE,
        Error::PeerSentOversizedRecord => Alert::RECORD_OVERFLOW,
        _ => Alert::DECODE_ERROR,
    }
}

impl Session {
    /// Lets `rustls` do what can be done with what has come, and `job` if it gets that far; whether it did.
    pub(super) fn run_rustls(&mut self, tools: &Workspace, job: Job<'_>) -> bool {
        // Its keys may change, and it does not overwrite those of before.
        with_freed_wiped(|| self.run_rustls_on(tools, job))
    }

    fn run_rustls_on(&mut self, tools: &Workspace, job: Job<'_>) -> bool {
        // Record by record: those behind the handshake are not for it, if they are to be ours. It would take
        // a `KeyUpdate`, and keep its answer to itself.
        let mut shown = if let Job::None = job { self.show_record() } else { self.shown };
        let mut flight = Vec::new();
        let mut failure = None;
        let mut done = false;
        while let State::Rustls(connection) = &mut self.state {
            // After an error only what was made of it, which comes before anything is looked at: the same
            // bytes would be taken for an error again.
            if failure.is_some() && !connection.wants_write() {
                break;
            }
            let UnbufferedStatus { discard, state } =
                connection.process_tls_records(&mut self.input[..shown]);
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
            self.shown = self.shown.saturating_sub(discard);
            shown -= discard;
            if !goes_on {
                let is_all = shown == self.input.len() || matches!(job, Job::Seal(_) | Job::Close);
                if is_all || failure.is_some() || self.will_be_ours(tools) {
                    break;
                }
                shown = self.show_record();
            }
        }
        if let Some(error) = &failure
            && flight.is_empty()
            && self.speaks_in_clear()
        {
            // Of what is no message at all, or between the parts of one, `rustls` makes no alert.
            flight.extend_from_slice(&[ContentType::ALERT.0, 3, 3, 0, 2, 2, alert_of(error).0]);
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

    /// Whether what the server says next is not sealed: at first, and with TLS 1.2 (RFC 5246 section 7.3)
    /// until it has heard all of the handshake, but where a ticket makes it short.
    fn speaks_in_clear(&self) -> bool {
        let State::Rustls(connection) = &self.state else { return false };
        self.out.end() == 0
            || connection.is_handshaking()
                && connection.protocol_version() == Some(ProtocolVersion::TLSv1_2)
                && connection.handshake_kind() != Some(HandshakeKind::Resumed)
    }

    /// How much of the input `rustls` may look at next: a record more than before, or all, if what follows is
    /// none, or not yet. It remembers how far it has come, so what it was shown once it is shown until it is
    /// done with it.
    fn show_record(&mut self) -> usize {
        match whole_record(&self.input[self.shown..]) {
            Ok(Some(len)) => {
                self.shown += len;
                self.shown
            }
            Ok(None) | Err(_) => self.input.len(),
        }
    }

    /// Whether the handshake is done and records are to be ours.
    fn will_be_ours(&self, tools: &Workspace) -> bool {
        let State::Rustls(connection) = &self.state else { return false };
        let suite = || connection.negotiated_cipher_suite().map(|suite| suite.suite());
        tools.acceptor.own_records && !connection.is_handshaking() && suite().is_some_and(is_aes_gcm)
    }

    /// Takes the secrets over from `rustls`, if records are to be ours now.
    pub(super) fn take_over(&mut self, tools: &Workspace) {
        if !self.will_be_ours(tools) || self.peer_closed {
            return;
        }
        without_trace(|| {
            let State::Rustls(connection) = std::mem::replace(&mut self.state, State::Over) else { return };
            match Records::new(*connection, tools.acceptor.fused) {
                Ok(records) => self.state = State::Ours(Box::new(records)),
                Err(error) => {
                    tracing::warn!("a connection ends, for its secrets cannot be had: {error}");
                    self.end();
                }
            }
        });
    }
}
