//! The virtio-net header: what a frame before it leaves to the other side (virtio specification 1.2, section
//! 5.1.6).

use std::num::NonZeroU16;

use super::vlan;
use crate::sys::tun;
use crate::transmission::{RxChecksum, Transmission};
use crate::wire::EtherType;

/// `struct virtio_net_hdr`, in the machine's byte order as TAP devices have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VnetHeader {
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

const VIRTIO_NET_HDR_F_NEEDS_CSUM: u8 = 1;
const VIRTIO_NET_HDR_F_DATA_VALID: u8 = 2;
const VIRTIO_NET_HDR_GSO_TCPV4: u8 = 1;
const VIRTIO_NET_HDR_GSO_TCPV6: u8 = 4;
const VIRTIO_NET_HDR_GSO_UDP_L4: u8 = 5;

impl VnetHeader {
    /// What the device is to do with a transmission.
    pub(super) fn for_transmission(transmission: &Transmission<'_>) -> VnetHeader {
        let mut header = VnetHeader::default();
        if let Some(request) = transmission.offload.checksum {
            header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
            header.csum_start = request.start;
            header.csum_offset = request.offset;
        }
        if let Some(segment_size) = transmission.offload.segment_size
            && transmission.payload_len > usize::from(segment_size)
        {
            let is_ipv6 = vlan::inner_ethertype(transmission.headers) == EtherType::Ipv6;
            header.gso_type = match is_ipv6 {
                _ if transmission.tcp_start.is_none() => VIRTIO_NET_HDR_GSO_UDP_L4,
                true => VIRTIO_NET_HDR_GSO_TCPV6,
                false => VIRTIO_NET_HDR_GSO_TCPV4,
            };
            header.gso_size = segment_size;
            header.hdr_len = transmission.headers.len() as u16;
        }
        header
    }

    /// What the device knows of a received frame's checksum.
    pub(super) fn rx_checksum(self) -> RxChecksum {
        if self.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
            match NonZeroU16::new(self.gso_size) {
                Some(size) if self.gso_type == VIRTIO_NET_HDR_GSO_UDP_L4 => {
                    RxChecksum::PartialDatagrams(size)
                }
                _ => RxChecksum::Partial,
            }
        } else if self.flags & VIRTIO_NET_HDR_F_DATA_VALID != 0 {
            RxChecksum::Valid
        } else {
            RxChecksum::Unknown
        }
    }

    pub(super) fn to_bytes(self) -> [u8; tun::VNET_HEADER_LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    pub(super) fn from_bytes(bytes: &[u8; tun::VNET_HEADER_LEN]) -> VnetHeader {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        VnetHeader {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }
}
