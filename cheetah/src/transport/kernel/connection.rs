//! A connection: its socket, what is known of it, and how far it gets in a turn.

use std::os::fd::OwnedFd;

use runtime::payload::PayloadSource;
use runtime::poller::Interest;
use runtime::stats::work::{Quantity, count};
use runtime::time::Instant;
use runtime::timer_wheel::TimerId;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown, recv, shutdown, sockopt};

use super::TURN_BYTES;
use super::by_ring::Intake;
use crate::channel::Channel;
use crate::service::Service;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) conn: Channel,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// What raises an event of the loop. Nothing, until there is something to wait for; room to write once
    /// there was none, for most connections never lack it.
    pub(super) hears_of: Interest,
    /// The peer's FIN is in the socket, perhaps behind data.
    pub(super) end_pending: bool,
    /// The peer's FIN was read.
    pub(super) has_ended: bool,
    /// Urgent data has come: a read ends at its mark, whatever lies behind it.
    pub(super) has_mark: bool,
    /// What comes is acknowledged whether there is an answer or not.
    pub(super) acknowledges: bool,
    /// Our FIN is sent.
    pub(super) shut_down: bool,
    pub(super) queued: bool,
    pub(super) timer: Option<(TimerId, Instant)>,
    /// What is to be written next is not resident: the connection will be woken.
    pub(super) starved: bool,
    /// What a ring does for it, where there is one.
    pub(super) intake: Intake,
}

/// What is to become of a connection after its turn.
pub(super) enum Turn {
    /// Nothing to do until an event comes.
    Wait,
    /// It could go on, but others are waiting.
    Again,
    /// It has something to send, together with what others have.
    Send,
}

/// Who makes the calls of a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// The connection.
    Own,
    /// For what is to be sent, whoever sends for all of them.
    Batched,
}

/// The connection is to be closed.
pub(super) struct Over;

impl Connection {
    /// One that was just accepted.
    pub(super) fn new(socket: OwnedFd, conn: Channel, service: &Service) -> Connection {
        Connection {
            socket,
            conn,
            readable: true,
            writable: true,
            hears_of: Interest::NONE,
            end_pending: false,
            has_ended: false,
            has_mark: false,
            acknowledges: !service.options.packet_merging,
            shut_down: false,
            queued: false,
            timer: None,
            starved: false,
            intake: Intake::default(),
        }
    }

    /// Whether there is something for the peer.
    pub(super) fn has_unsent(&self) -> bool {
        self.conn.end() > self.conn.acknowledged_end()
    }

    /// Whether what the peer sends is still of interest.
    pub(super) fn listens(&self) -> bool {
        !self.conn.is_finished() || self.conn.lingers()
    }

    /// Writes and reads until neither gets further, or others should have their turn.
    pub(super) fn turn(
        &mut self,
        service: &mut Service,
        read_buffer: &mut [u8],
        calls: Calls,
    ) -> Result<Turn, Over> {
        let mut left = TURN_BYTES;
        loop {
            if self.conn.is_aborted() {
                return Err(Over);
            }
            let unsent = self.has_unsent();
            if unsent && self.writable && !self.starved {
                if calls == Calls::Batched {
                    return Ok(Turn::Send);
                }
                left = left.saturating_sub(self.write(service)?);
            } else if self.conn.is_finished() && !unsent && !self.conn.lingers() {
                return Err(Over);
            } else if self.conn.is_finished() && !unsent && !self.shut_down {
                // The peer may still be sending: our end first, and what it sends is thrown away until it has
                // seen that.
                count(Quantity::CallsToSend, 1);
                shutdown(&self.socket, Shutdown::Write).map_err(|_| Over)?;
                self.shut_down = true;
            } else if self.intake.holds() && self.conn.window(service) > 0 {
                left = left.saturating_sub(self.take_held(service).max(1024));
            } else if self.readable && self.conn.window(service) > 0 {
                // However little came, it was a call.
                left = left.saturating_sub(self.read(service, read_buffer)?.max(1024));
            } else {
                return Ok(Turn::Wait);
            }
            if left == 0 {
                return Ok(Turn::Again);
            }
        }
    }

    /// Bytes read; 0 when there were none, or none will follow.
    fn read(&mut self, service: &mut Service, buffer: &mut [u8]) -> Result<usize, Over> {
        let len = buffer.len().min(self.conn.window(service));
        let buffer = &mut buffer[..len];
        count(Quantity::CallsToReceive, 1);
        match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => {
                self.readable = false;
                self.end(service);
                Ok(0)
            }
            Ok((n, _)) => {
                // A short read has emptied the socket: the next bytes raise an event, only a FIN that was
                // announced already does not.
                self.readable = n == len || self.end_pending || self.has_mark;
                self.take(service, &buffer[..n]);
                Ok(n)
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(_) => Err(Over),
        }
    }

    /// The peer will send no more.
    pub(super) fn end(&mut self, service: &mut Service) {
        self.has_ended = true;
        self.conn.on_end(service);
    }

    /// Hands on bytes that the peer has sent.
    pub(super) fn take(&mut self, service: &mut Service, bytes: &[u8]) {
        self.conn.on_bytes(service, bytes);
        if !self.acknowledges && !self.has_unsent() {
            // The peer may wait for that before it sends the rest of its request (Nagle's algorithm). If this
            // fails, it waits a little.
            self.acknowledges = true;
            count(Quantity::OtherCalls, 1);
            let _ = sockopt::set_tcp_quickack(&self.socket, true);
        }
    }
}
