//! Records to send: of responses, of keys that change, and the last one.

use runtime::buffer::{Shared, Slice};
use runtime::stats::work::{Quantity, count};

use super::super::record::{Alert, ContentType, MAX_OVERHEAD, Version};
use super::records::{KEY_UPDATE, Records};
use super::rustls_part::Job;
use super::{Session, State, Workspace};

impl Session {
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

    /// Seals a record of `pieces`, `len` bytes of content, now. `plain_end` is where they end in the stream
    /// of responses, if that is to be told when the record is acknowledged.
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
                if self.run_rustls(tools, Job::Seal(&content)) {
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
        // What is short, as most of what is not a response, takes memory of its own: pooled buffers are of a
        // whole record.
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
        let Records { sealing, kernel, .. } = &mut **records;
        if !sealing.renew(tools.acceptor.fused, || kernel.update_tx_secret()) {
            self.end();
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
                self.run_rustls(tools, Job::Close);
            }
            State::Over => {}
        }
        self.closed = true;
    }

    /// Tells the peer why nothing goes on.
    pub(super) fn fail(&mut self, tools: &Workspace, alert: Alert) {
        self.alert(tools, alert);
        self.end();
    }

    fn alert(&mut self, tools: &Workspace, alert: Alert) {
        let level = if alert == Alert::CLOSE_NOTIFY { 1 } else { 2 };
        self.seal_ours(tools, ContentType::ALERT, &[&[level, alert.0]], 2);
    }
}
