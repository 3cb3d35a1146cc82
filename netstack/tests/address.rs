//! Others that claim our address: reported, but no oftener than they could be a nuisance.

mod support;

use std::time::Duration;

use netstack::device::{Device, wire};
use netstack::stack::Event;
use netstack::transmission::RxChecksum;
use netstack::wire::{EtherType, EthernetAddress, arp, ethernet};
use runtime::time::Instant;
use support::{CLIENT, Pair, SERVER, STRANGER, TestApp};

fn claim(target: EthernetAddress) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN + arp::PACKET_LEN];
    ethernet::Repr { src_addr: STRANGER, dst_addr: target, ethertype: EtherType::Arp }
        .emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
    arp::Repr {
        operation: arp::Operation::Reply,
        sender_hardware: STRANGER,
        sender_protocol: SERVER,
        target_hardware: target,
        target_protocol: CLIENT,
    }
    .emit(&mut arp::Packet::new_unchecked(&mut frame[ethernet::HEADER_LEN..]));
    frame
}

#[test]
fn a_flood_of_claims_is_reported_once_in_ten_seconds() {
    let mut pair = Pair::new(wire::Config::default(), 1, &|_| {}, TestApp::new(|_| None));
    let frame = claim(EthernetAddress::BROADCAST);
    let server = &mut pair.server;
    assert_ne!(server.device.hardware_addr(), STRANGER);
    let mut reports = 0;
    let start = Instant::from_millis(1);
    for ms in 0..25_000 {
        let now = start + Duration::from_millis(ms);
        server.stack.handle_frame(now, &frame, RxChecksum::Unknown, &mut server.app);
        while let Some(event) = server.stack.poll_event() {
            assert_eq!(event, Event::AddressConflict { hardware_addr: STRANGER });
            reports += 1;
        }
    }
    assert_eq!(reports, 3, "at 0, 10 and 20 s");
}
