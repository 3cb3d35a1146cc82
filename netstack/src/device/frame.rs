//! Frames from transmissions, for devices that want them whole and finished.

use std::io;
use std::ops::Range;

use runtime::payload::Piece;
use runtime::stats::work::{Quantity, count};
use runtime::transfer::{Transfer, Transfers};

use crate::transmission::{Payload, Transmission};
use crate::wire::{EtherType, Protocol, checksum, ethernet, ipv4, ipv6, tcp, udp};

/// Builds frames in a buffer of its own: headers, then payload copied and summed, then the TCP checksum.
///
/// With a [`Transfer`] copying and summing are one engine run. Without, they are two passes: for tracers and
/// simulated wires, where nothing is measured.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    transfer: Option<Transfer>,
    frame: Vec<u8>,
}

impl FrameBuilder {
    /// A builder that copies and sums in passes.
    pub fn new() -> FrameBuilder {
        FrameBuilder::default()
    }

    /// A builder that copies and sums by `transfer`, which obeys no layout and sums what it writes.
    pub fn with_transfer(transfer: Transfer) -> FrameBuilder {
        FrameBuilder { transfer: Some(transfer), frame: Vec::new() }
    }

    /// A builder with the fused loop of this machine's best backend.
    pub(super) fn fused() -> io::Result<FrameBuilder> {
        Transfers::default().checksum(None).map(FrameBuilder::with_transfer).map_err(io::Error::other)
    }

    /// The frame with its checksums, after `prefix` (a header of the device's own). A segment size in the
    /// transmission is not looked at: it must be one frame.
    #[inline]
    pub fn build(&mut self, prefix: &[u8], transmission: &Transmission<'_>) -> &mut [u8] {
        self.build_with(prefix, transmission, transmission.tcp_start)
    }

    /// As [`FrameBuilder::build`], but a checksum that is left to the device stays as it is; several frames
    /// in one, if it cuts them.
    #[inline]
    pub(super) fn build_for(&mut self, prefix: &[u8], transmission: &Transmission<'_>) -> &mut [u8] {
        let ours = transmission.tcp_start.filter(|_| transmission.offload.checksum.is_none());
        self.build_with(prefix, transmission, ours)
    }

    #[inline]
    fn build_with(
        &mut self,
        prefix: &[u8],
        transmission: &Transmission<'_>,
        tcp_start: Option<u16>,
    ) -> &mut [u8] {
        let len = prefix.len() + transmission.len();
        let mut frame = std::mem::take(&mut self.frame);
        if frame.len() < len {
            frame.resize(len, 0);
        }
        frame[..prefix.len()].copy_from_slice(prefix);
        self.fill(transmission, &mut frame[prefix.len()..len], tcp_start);
        self.frame = frame;
        &mut self.frame[..len]
    }

    /// Writes the frame to memory of the device's. A checksum that is left to the device stays as it is.
    /// `frame` has just the transmission's length.
    #[inline]
    pub fn build_into(&self, transmission: &Transmission<'_>, frame: &mut [u8]) {
        let ours = transmission.tcp_start.filter(|_| transmission.offload.checksum.is_none());
        self.fill(transmission, frame, ours);
    }

    #[inline]
    fn fill(&self, transmission: &Transmission<'_>, frame: &mut [u8], tcp_start: Option<u16>) {
        let (head, payload) = frame.split_at_mut(transmission.headers.len());
        head.copy_from_slice(transmission.headers);
        let payload_sum = match (transmission.payload, tcp_start, &self.transfer) {
            (Payload::Made(maker, offset), ..) => {
                let made = maker.make(offset, payload, tcp_start.is_some());
                made.unwrap_or_else(|| if tcp_start.is_some() { checksum::sum(payload) } else { 0 })
            }
            (Payload::Pieces(pieces), None, _) => {
                copy(pieces, payload);
                0
            }
            (Payload::Pieces(pieces), Some(_), Some(transfer)) if !payload.is_empty() => {
                let copied = transfer.copy_sum(pieces, payload).ok().map(|copied| copied.sum);
                copied.unwrap_or_else(|| copy_and_sum(pieces, payload))
            }
            (Payload::Pieces(pieces), Some(_), _) => copy_and_sum(pieces, payload),
        };
        if let Some(tcp_start) = tcp_start {
            finish_checksum(&mut head[usize::from(tcp_start)..], payload_sum);
        }
    }
}

/// Completes the checksum of a TCP header whose field holds the pseudo-header's sum.
fn finish_checksum(header: &mut [u8], payload_sum: u16) {
    // The field itself is part of the sum, which brings the pseudo-header in.
    let sum = checksum::add(checksum::sum(header), payload_sum);
    if let Some(field) = header.get_mut(tcp::CHECKSUM_OFFSET..tcp::CHECKSUM_OFFSET + 2) {
        field.copy_from_slice(&(!sum).to_be_bytes());
    }
}

/// Completes in place the checksum of a frame that has only the pseudo-header's sum, if it is TCP or UDP
/// (with several datagrams under one header they are summed as one); other frames stay as they are, and those
/// with headers of extensions. For those who write frames down.
pub fn finish_partial(frame: &mut [u8]) {
    let Some((protocol, segment)) =
        unfinished(frame).and_then(|(protocol, at)| Some((protocol, frame.get_mut(at)?)))
    else {
        return;
    };
    match protocol {
        Protocol::Tcp if segment.len() >= tcp::HEADER_LEN => finish_checksum(segment, 0),
        Protocol::Udp if segment.len() >= udp::HEADER_LEN => {
            let sum = checksum::sum(segment);
            // Zero would say that there is none.
            let sum = if sum == 0xffff { sum } else { !sum };
            segment[udp::CHECKSUM_OFFSET..udp::HEADER_LEN].copy_from_slice(&sum.to_be_bytes());
        }
        _ => {}
    }
}

/// What an IP packet in that frame carries, and where.
fn unfinished(frame: &[u8]) -> Option<(Protocol, Range<usize>)> {
    let ethernet = ethernet::Frame::new_checked(frame).ok()?;
    let (protocol, start, end) = match ethernet.ethertype() {
        EtherType::Ipv4 => {
            let packet = ipv4::Packet::new_checked(ethernet.payload()).ok()?;
            if packet.is_fragment() {
                return None;
            }
            (packet.protocol(), packet.header_len(), packet.total_len())
        }
        EtherType::Ipv6 => {
            let packet = ipv6::Packet::new_checked(ethernet.payload()).ok()?;
            (packet.next_header().into(), ipv6::HEADER_LEN, ipv6::HEADER_LEN + packet.payload_len())
        }
        _ => return None,
    };
    Some((protocol, ethernet::HEADER_LEN + start..ethernet::HEADER_LEN + end))
}

fn copy(pieces: &[Piece<'_>], mut to: &mut [u8]) {
    for piece in pieces {
        let (head, rest) = to.split_at_mut(piece.bytes.len());
        head.copy_from_slice(piece.bytes);
        count(Quantity::BytesCopied, head.len());
        count(Quantity::BytesTouched, head.len());
        to = rest;
    }
}

fn copy_and_sum(pieces: &[Piece<'_>], mut to: &mut [u8]) -> u16 {
    let (mut offset, mut total) = (0, 0);
    for piece in pieces {
        let (head, rest) = to.split_at_mut(piece.bytes.len());
        head.copy_from_slice(piece.bytes);
        count(Quantity::BytesCopied, head.len());
        count(Quantity::BytesTouched, head.len());
        let sum = piece.sum.unwrap_or_else(|| {
            count(Quantity::BytesSummed, head.len());
            count(Quantity::BytesTouched, head.len());
            checksum::sum(head)
        });
        total = checksum::add(total, checksum::at_offset(sum, offset));
        offset = (offset + head.len()) % 2;
        to = rest;
    }
    total
}
