//! A hundred thousand connections that are begun and never finished: what they take is bounded, and others
//! are served.

mod support;

use std::alloc::System;

use netstack::application::CloseReason;
use netstack::device::{Device as _, wire};
use netstack::transmission::RxChecksum;
use netstack::wire::EthernetAddress;
use runtime::time::Instant;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::{PORT, Pair, SERVER, STRANGER, TestApp, TestStream};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated now, by all threads.
fn allocated() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

const HALF_OPEN: u32 = 100_000;

/// They come from so many addresses.
const NEIGHBOURS: u32 = 200;

/// What they may take: 4096 records, and what is kept of neighbours.
const MAX_BYTES: isize = 2 << 20;

fn sum(words: &[u8]) -> u32 {
    words.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum()
}

fn folded(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The `number`th SYN: from another address, or port, than all others.
fn syn(to: EthernetAddress, number: u32) -> Vec<u8> {
    let from = [10, 0, 0, 3 + (number % NEIGHBOURS) as u8];
    let port = 1024 + (number / NEIGHBOURS) as u16;
    let mut ip = [0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ip[12..16].copy_from_slice(&from);
    ip[16..20].copy_from_slice(&SERVER.octets());
    let check = folded(sum(&ip));
    ip[10..12].copy_from_slice(&check);
    let mut tcp = [0; 24];
    tcp[..2].copy_from_slice(&port.to_be_bytes());
    tcp[2..4].copy_from_slice(&PORT.to_be_bytes());
    tcp[4..8].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
    // Six words, SYN, a window, and a segment size of 1460.
    (tcp[12], tcp[13], tcp[14]) = (0x60, 2, 0xff);
    tcp[20..].copy_from_slice(&[2, 4, 5, 0xb4]);
    let check = folded(sum(&ip[12..]) + 6 + 24 + sum(&tcp));
    tcp[16..18].copy_from_slice(&check);
    [&to.0[..], &STRANGER.0, &[8, 0], &ip, &tcp].concat()
}

/// Asks for our hardware address: who does is known from then on, and can be answered.
fn arp_request(number: u32) -> Vec<u8> {
    let from = [10, 0, 0, 3 + (number % NEIGHBOURS) as u8];
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&[0xff; 6][..], &STRANGER.0, &[8, 6], &head, &STRANGER.0, &from, &[0; 6], &SERVER.octets()].concat()
}

fn transfer(pair: &mut Pair) {
    let limit = Instant::from_millis(pair.now.as_millis() + 60_000);
    pair.client.connect(pair.now, TestStream::new(6, 5000));
    assert!(pair.run_until(limit, |pair| !pair.client.app.closed.is_empty()), "it is not served");
    let (reason, stream) = pair.client.app.closed.pop().unwrap();
    assert_eq!((reason, stream.received, stream.wrong_bytes), (CloseReason::Finished, 70_000, 0));
}

#[test]
fn a_hundred_thousand_half_open_connections_leave_the_others_served() {
    let app = TestApp::new(|_| Some(TestStream::new(7, 70_000)));
    let mut pair = Pair::new(wire::Config::default(), 1, &|_| {}, app);
    transfer(&mut pair);
    pair.server.app.closed.clear();
    let device = pair.server.device.capabilities();
    let to = pair.server.device.hardware_addr();
    // The first transfer's own may be about to end.
    let records = pair.server.app.records.len();
    let before = allocated();
    let mut answers = 0;
    let neighbours = (0..NEIGHBOURS).map(arp_request);
    for frame in neighbours.chain((0..HALF_OPEN).map(|number| syn(to, number))) {
        pair.server.stack.handle_frame(pair.now, &frame, RxChecksum::Unknown, &mut pair.server.app);
        // What is answered leads nowhere.
        while pair.server.stack.poll_transmit(pair.now, &device, &mut pair.server.app, |_| ()).is_some() {
            answers += 1;
        }
    }
    let taken = allocated() - before;
    assert!(
        answers >= NEIGHBOURS + HALF_OPEN && pair.server.stack.half_open() >= 1000,
        "{answers}: they did not come"
    );
    assert!(taken < MAX_BYTES, "{taken} bytes");
    assert_eq!(pair.server.app.records.len(), records, "nothing is the application's yet");
    for _ in 0..3 {
        transfer(&mut pair);
    }
}
