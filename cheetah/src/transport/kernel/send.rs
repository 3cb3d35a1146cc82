//! Writing to a socket: short pieces by one `sendmsg` that gathers them, which the kernel copies, long ones
//! by `sendfile` from the sealed file in memory that they lie in, of which the kernel only refers to the
//! pages.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use runtime::payload::{PayloadSource, Piece};
use runtime::ring::SendBatch;
use runtime::stats::work::{Quantity, count};
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use smallvec::SmallVec;

use super::TURN_BYTES;
use super::connection::{Connection, Over};
use crate::service::Service;

/// Most slices in one `sendmsg`; a response has two to three.
const MAX_SLICES: usize = 64;

/// Pieces from this length on are passed by reference, where they can be: what that costs (a call of its own,
/// a pipe's buffers) is less than a copy from here on.
const MIN_REFERENCE_BYTES: usize = 32 * 1024;

/// A stretch of a file.
struct Stretch<'a> {
    file: BorrowedFd<'a>,
    at: u64,
    len: usize,
}

impl<'a> Stretch<'a> {
    /// Where `piece` lies, if it is long and in a file that never changes.
    fn of(piece: &Piece<'a>) -> Option<Stretch<'a>> {
        let len = piece.bytes.len();
        let (file, at) = piece.hold.filter(|_| len >= MIN_REFERENCE_BYTES)?.file_of(piece.bytes)?;
        Some(Stretch { file, at, len })
    }
}

impl Connection {
    /// Bytes written; 0 when the socket is full, or when the source has nothing to hand.
    pub(super) fn write(&mut self, service: &mut Service) -> Result<usize, Over> {
        let from = self.conn.acknowledged_end();
        let most = self.most_at_once(service);
        let mut slices: SmallVec<[IoSlice<'_>; MAX_SLICES]> = SmallVec::new();
        let mut total = 0;
        let mut next = None;
        self.conn.for_each_piece(from, most, |piece| {
            if service.options.zero_copy {
                next = Stretch::of(&piece);
                if next.is_some() {
                    return false;
                }
            }
            total += piece.bytes.len();
            slices.push(IoSlice::new(piece.bytes));
            slices.len() < MAX_SLICES
        });
        let written = match next {
            Some(Stretch { file, mut at, len }) if slices.is_empty() => {
                // It may give less than there is room for: only a refusal tells that the socket is full.
                total = 0;
                let sent = sendfile(&self.socket, file, Some(&mut at), len);
                sent.inspect(|&n| count(Quantity::BytesByReference, n))
            }
            _ if slices.is_empty() => {
                self.starved = true;
                return Ok(0);
            }
            next => {
                // Nothing follows but the FIN, which comes with the call right behind this one: let it ride
                // on the last segment. Or a long piece follows: let this be in one segment with its
                // beginning.
                let more = next.is_some() || self.ends_with(total, service);
                let more = if more { SendFlags::MORE } else { SendFlags::empty() };
                let flags = SendFlags::NOSIGNAL | more;
                let sent = sendmsg(&self.socket, &slices, &mut SendAncillaryBuffer::default(), flags);
                sent.inspect(|&n| count(Quantity::BytesReferenced, n))
            }
        };
        drop(slices);
        count(Quantity::CallsToSend, 1);
        match written {
            Ok(n) => {
                self.wrote(service, n, total);
                Ok(n)
            }
            Err(Errno::AGAIN) => {
                self.writable = false;
                Ok(0)
            }
            Err(Errno::INTR) => Ok(0),
            Err(_) => Err(Over),
        }
    }

    /// Adds what a call would write to a batch: how many bytes, and whether more may ride on the last
    /// segment. `None` if it is no such call, or there is nothing to hand.
    pub(super) fn add_to<'a>(
        &'a self,
        batch: &mut SendBatch<'_, 'a>,
        service: &Service,
    ) -> Option<(usize, bool)> {
        let (mut total, mut is_plain) = (0, true);
        self.conn.for_each_piece(self.conn.acknowledged_end(), self.most_at_once(service), |piece| {
            is_plain = !service.options.zero_copy || Stretch::of(&piece).is_none();
            if is_plain {
                total += piece.bytes.len();
                batch.bytes(piece.bytes);
            }
            is_plain && batch.slices() < MAX_SLICES
        });
        (is_plain && total > 0).then(|| (total, self.ends_with(total, service)))
    }

    /// The socket has taken `n` of `total` bytes.
    pub(super) fn wrote(&mut self, service: &mut Service, n: usize, total: usize) {
        count(Quantity::BytesSent, n);
        self.writable = n >= total;
        self.conn.acknowledged(self.conn.acknowledged_end() + n as u64);
        self.conn.resume(service);
    }

    /// Bytes of one call.
    fn most_at_once(&self, service: &Service) -> usize {
        let from = self.conn.acknowledged_end();
        let end = if service.options.header_merging { None } else { self.conn.part_end(from) };
        end.map_or(TURN_BYTES, |end| TURN_BYTES.min(usize::try_from(end - from).unwrap_or(usize::MAX)))
    }

    /// Whether nothing follows the next `len` bytes but the FIN.
    fn ends_with(&self, len: usize, service: &Service) -> bool {
        service.options.packet_merging
            && self.conn.is_finished()
            && self.conn.acknowledged_end() + len as u64 == self.conn.end()
    }
}
