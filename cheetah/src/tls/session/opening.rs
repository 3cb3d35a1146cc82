//! Sealed bytes as they come, and what is in them.

use runtime::wiping::without_trace;

use super::super::certificates::PROOF_PROTOCOL;
use super::super::record::{Alert, ContentType, Version, whole_record};
use super::records::Records;
use super::rustls_part::Job;
use super::{MAX_INPUT, Session, Sink, State, Workspace};

impl Session {
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
        // Behind a part of a record; what is more than is kept goes on as the sink takes what is opened.
        loop {
            let rest = &bytes[taken..];
            let kept = rest.len().min(MAX_INPUT.saturating_sub(self.input.len()));
            self.input.extend_from_slice(&rest[..kept]);
            if self.is_handshaking() {
                self.handshake_bytes += kept as u64;
            }
            self.resume(tools, sink);
            taken += kept;
            if self.is_deaf() {
                return bytes.len();
            }
            if taken == bytes.len() || kept == 0 {
                return taken;
            }
        }
    }

    /// Goes on with what waited for room in the sink.
    pub fn resume(&mut self, tools: &mut Workspace, sink: &mut impl Sink) {
        self.deliver(sink);
        if matches!(self.state, State::Rustls(_)) && self.opened.is_empty() && sink.has_room() {
            let was_handshaking = self.is_handshaking();
            // Nothing has come if only room was made.
            if was_handshaking && !self.input.is_empty() {
                without_trace(|| self.run_rustls(tools, Job::None));
            } else {
                self.run_rustls(tools, Job::None);
            }
            if was_handshaking
                && let State::Rustls(connection) = &self.state
                && !connection.is_handshaking()
                && let Some(protocol) = connection.alpn_protocol()
            {
                if protocol == PROOF_PROTOCOL {
                    // The certificate was all that was asked for; nothing is spoken here (RFC 8737 section
                    // 3).
                    self.opened = Vec::new();
                    self.close(tools);
                    self.end();
                } else {
                    sink.agree(protocol);
                }
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
            (self.input, self.shown) = (Vec::new(), 0);
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

    /// Opens one record.
    fn open(&mut self, tools: &mut Workspace, record: &[u8], sink: &mut impl Sink) {
        let State::Ours(records) = &mut self.state else { return };
        let kind = match records.opening.open(record, &mut tools.plain) {
            Ok(kind) => kind,
            Err(alert) => return self.fail(tools, alert),
        };
        if kind != ContentType::HANDSHAKE && !records.message.is_empty() {
            // In the midst of a handshake message (RFC 8446 section 5.1).
            return self.fail(tools, Alert::UNEXPECTED_MESSAGE);
        }
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
                // RFC 8446 section 5.4.
                [] => self.fail(tools, Alert::UNEXPECTED_MESSAGE),
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
        let asks = match records.take_key_update(&tools.plain) {
            Ok(Some(asks)) => asks,
            Ok(None) => return,
            Err(alert) => return self.fail(tools, alert),
        };
        let Records { opening, kernel, .. } = &mut **records;
        if !opening.renew(tools.acceptor.fused, || kernel.update_rx_secret()) {
            return self.fail(tools, Alert::INTERNAL_ERROR);
        }
        // However often it is asked for before we send something, once is enough (RFC 8446 section 4.6.3).
        self.owes_key_update |= asks;
    }
}
