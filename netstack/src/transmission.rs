//! One thing to put on the wire, as the stack hands it to a device: finished headers, payload by reference,
//! and what is left for the device to do.
//!
//! It is not a frame yet: a device with offloads sends headers and pieces as they stand in one vectored write
//! (a super-segment of up to 64 KB); for a device without, `runtime::transfer` builds frames, payload copied
//! and summed in one engine run.

use std::num::NonZeroU16;

use runtime::payload::{Maker, Piece};

/// What a device takes off the stack's hands. All off is always right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The device fills in the TCP checksum of a frame that carries the pseudo-header's sum in its place
    /// (virtio-net `NEEDS_CSUM`, RFC-less but everywhere).
    pub checksum: bool,
    /// The device cuts one TCP super-segment into MSS-sized frames; the number is the largest payload it
    /// takes at once, in bytes. `None`: every transmission is one frame of at most the MTU.
    pub segmentation: Option<u32>,
    /// The device sends a frame from pieces (vectored write), so that payload need not be made contiguous.
    pub gather: bool,
    /// The device, which fills in checksums, cuts one UDP datagram of many into as many, of the same length
    /// but the last.
    pub datagrams: bool,
}

/// What the device still has to do for one transmission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Sum the frame from `start` to its end and put the complement at `start + offset`, where the
    /// pseudo-header's sum stands now.
    pub checksum: Option<ChecksumRequest>,
    /// Cut the payload into segments of this many bytes, repeating and adjusting the headers: of TCP, whose
    /// header [`Transmission::tcp_start`] tells, or else of UDP.
    pub segment_size: Option<u16>,
}

/// Where a checksum goes, in bytes (the virtio-net `csum_start` and `csum_offset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumRequest {
    /// First byte covered, from the start of the Ethernet header.
    pub start: u16,
    /// Place of the checksum field, from `start`.
    pub offset: u16,
}

/// What follows the headers.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Bytes that lie somewhere, in order. Empty for a frame without.
    Pieces(&'a [Piece<'a>]),
    /// Bytes of a stream that are made where the device wants them, from that offset on.
    Made(&'a dyn Maker, u64),
}

impl Payload<'_> {
    /// None.
    pub const NONE: Payload<'static> = Payload::Pieces(&[]);
}

/// Headers, payload and the request to the device.
#[derive(Clone, Copy, Debug)]
pub struct Transmission<'a> {
    /// Ethernet, IPv4 and TCP headers (or a whole small frame: ARP, ICMP, a bare ACK).
    pub headers: &'a [u8],
    /// The payload that follows.
    pub payload: Payload<'a>,
    /// Its length in bytes.
    pub payload_len: usize,
    /// Where in `headers` the TCP header starts, when the TCP checksum is still to be made: by the device
    /// when `offload.checksum` is set, else by whoever builds the frame. The field holds the pseudo-header's
    /// sum, folded and not complemented. `None`: nothing left to sum.
    pub tcp_start: Option<u16>,
    /// What the device must do.
    pub offload: Offload,
}

impl Transmission<'_> {
    /// Bytes of headers and payload together.
    pub fn len(&self) -> usize {
        self.headers.len() + self.payload_len
    }

    /// The payload's bytes, copied or made.
    pub fn payload_to_vec(&self) -> Vec<u8> {
        match self.payload {
            Payload::Pieces(pieces) => pieces.iter().flat_map(|piece| piece.bytes).copied().collect(),
            Payload::Made(maker, offset) => {
                let mut bytes = vec![0; self.payload_len];
                maker.make(offset, &mut bytes, false);
                bytes
            }
        }
    }

    /// Whether there is nothing to send (never so for what the stack makes).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the device knows about a frame that it received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RxChecksum {
    /// Nothing: verify it.
    #[default]
    Unknown,
    /// Verified by the device (virtio-net `DATA_VALID`).
    Valid,
    /// Never on a wire: only the pseudo-header's sum is in the field (virtio-net `NEEDS_CSUM`).
    Partial,
    /// The same, and not one datagram of UDP but several with one header, each of so many bytes but the last
    /// (virtio-net `GSO_UDP_L4`).
    PartialDatagrams(NonZeroU16),
}

impl RxChecksum {
    /// Whether only the pseudo-header's sum is in the field.
    pub const fn is_partial(self) -> bool {
        matches!(self, RxChecksum::Partial | RxChecksum::PartialDatagrams(_))
    }
}
