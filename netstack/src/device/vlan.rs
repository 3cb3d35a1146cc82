//! VLAN tags (IEEE 802.1Q): the four bytes behind a frame's addresses that say which of the networks on a
//! link it is of.
//!
//! ```text
//!   | destination | source | 0x8100 | priority, id | EtherType | ..
//! ```
//!
//! A device that has an id sends all its frames with it, and receives none of other ids or without a tag; one
//! that has none receives none with a tag. What is above the devices sees no tags. A tag of id 0 says a
//! priority and no network.

use smallvec::SmallVec;

use crate::transmission::{ChecksumRequest, Offload, Transmission};
use crate::wire::{EtherType, ethernet};

/// Bytes of a tag.
pub const TAG_LEN: usize = 4;

/// The EtherType of a tagged frame.
pub(super) const TAGGED: u16 = 0x8100;

/// Where a tag is, behind both addresses.
const AT: usize = 12;

/// The id of a network on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanId(u16);

impl VlanId {
    /// That id, of 1 to 4094; `None` if it is none.
    pub const fn new(id: u16) -> Option<VlanId> {
        if id >= 1 && id <= 4094 { Some(VlanId(id)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Room for headers with a tag.
pub(super) type TaggedHeaders = SmallVec<[u8; 128]>;

/// The same transmission with that tag; its headers are written to `headers`.
pub(super) fn tagged<'a>(
    id: VlanId,
    transmission: &Transmission<'a>,
    headers: &'a mut TaggedHeaders,
) -> Transmission<'a> {
    let Some((addresses, rest)) = transmission.headers.split_at_checked(AT) else { return *transmission };
    headers.clear();
    headers.extend_from_slice(addresses);
    headers.extend_from_slice(&TAGGED.to_be_bytes());
    headers.extend_from_slice(&id.0.to_be_bytes());
    headers.extend_from_slice(rest);
    let shift = TAG_LEN as u16;
    let checksum = transmission.offload.checksum;
    Transmission {
        headers,
        tcp_start: transmission.tcp_start.map(|start| start + shift),
        offload: Offload {
            checksum: checksum.map(|request| ChecksumRequest { start: request.start + shift, ..request }),
            ..transmission.offload
        },
        ..*transmission
    }
}

/// Takes the tag out of a frame that has one, where it lies: the frame without begins [`TAG_LEN`] bytes
/// later. `None` if it is not of that network.
pub(super) fn untag(id: Option<VlanId>, frame: &mut [u8]) -> Option<&mut [u8]> {
    let Some((head, _)) = frame.split_at_checked(AT + TAG_LEN) else { return Some(frame) };
    let is_tagged = head[AT..AT + 2] == TAGGED.to_be_bytes();
    let found = if is_tagged { u16::from_be_bytes([head[AT + 2], head[AT + 3]]) & 0xfff } else { 0 };
    if found != id.map_or(0, VlanId::get) {
        return None;
    }
    if !is_tagged {
        return Some(frame);
    }
    frame.copy_within(..AT, TAG_LEN);
    Some(&mut frame[TAG_LEN..])
}

/// What the payload of a frame is, behind its tag if it has one.
pub(super) fn inner_ethertype(headers: &[u8]) -> EtherType {
    let ethertype = ethernet::Frame::new_unchecked(headers).ethertype();
    match (ethertype, headers.get(AT + TAG_LEN..AT + TAG_LEN + 2)) {
        (EtherType::Other(TAGGED), Some(&[high, low])) => u16::from_be_bytes([high, low]).into(),
        _ => ethertype,
    }
}

/// The same test as a program of classic BPF for packet sockets, which the kernel gives frames without their
/// tags: it keeps frames of that network, or those without one.
pub(crate) fn classic_program(id: Option<VlanId>) -> [(u16, u8, u8, u32); 7] {
    /// `SKF_AD_OFF` with `SKF_AD_VLAN_TAG_PRESENT` and `SKF_AD_VLAN_TAG`: what the kernel has kept of the
    /// tag.
    const IS_TAGGED: u32 = 0xffff_f000 + 48;
    const TAG: u32 = 0xffff_f000 + 44;
    let (load, is_equal, and, end) = (0x20, 0x15, 0x54, 0x06);
    // Without a tag: the end that keeps it (5), or the one that does not (6).
    let untagged = if id.is_none() { 3 } else { 4 };
    [
        (load, 0, 0, IS_TAGGED),
        (is_equal, untagged, 0, 0),
        (load, 0, 0, TAG),
        (and, 0, 0, 0xfff),
        (is_equal, 0, 1, id.map_or(0, |id| id.0.into())),
        (end, 0, 0, u32::MAX),
        (end, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transmission::Payload;

    const FIVE: Option<VlanId> = VlanId::new(5);

    #[test]
    fn ids_are_of_1_to_4094() {
        assert_eq!([0, 4095, u16::MAX].map(VlanId::new), [None; 3]);
        assert_eq!(VlanId::new(4094).map(VlanId::get), Some(4094));
    }

    /// What is tagged is the frame that it was once the tag is taken out, and what the device does is asked
    /// for at the same place of it.
    #[test]
    fn a_tag_goes_in_and_out() {
        let plain: Vec<u8> = (0..54).collect();
        let transmission = Transmission {
            headers: &plain,
            payload: Payload::NONE,
            payload_len: 0,
            tcp_start: Some(34),
            offload: Offload {
                checksum: Some(ChecksumRequest { start: 34, offset: 16 }),
                segment_size: Some(1000),
            },
        };
        let mut headers = TaggedHeaders::new();
        let with = tagged(VlanId(5), &transmission, &mut headers);
        assert_eq!(with.tcp_start, Some(38));
        let offload = with.offload;
        assert_eq!(offload.checksum, Some(ChecksumRequest { start: 38, offset: 16 }));
        assert_eq!(offload.segment_size, Some(1000));
        let mut frame = with.headers.to_vec();
        assert_eq!(frame[12..16], [0x81, 0, 0, 5]);
        assert_eq!(untag(VlanId::new(6), &mut frame), None);
        assert_eq!(untag(None, &mut frame), None);
        assert_eq!(untag(FIVE, &mut frame).as_deref(), Some(&plain[..]));
    }

    #[test]
    fn frames_of_other_networks_are_nothing_and_a_priority_is_no_network() {
        let mut untagged = [7; 60];
        assert!(untag(None, &mut untagged).is_some_and(|frame| frame.len() == 60));
        assert!(untag(FIVE, &mut untagged).is_none());
        let mut frame = [7; 60];
        // Priority 5, id 0.
        frame[12..16].copy_from_slice(&[0x81, 0, 0xa0, 0]);
        let mut same = frame;
        assert!(untag(FIVE, &mut same).is_none());
        assert!(untag(None, &mut frame).is_some_and(|frame| frame.len() == 56));
        // Too short to have a tag: not for us to judge.
        for len in 0..16 {
            assert_eq!(untag(FIVE, &mut vec![0; len]).map(|frame| frame.len()), Some(len));
        }
    }
}
