//! Sources that have only part of what they are asked for at hand: what is there goes out, nothing is sent
//! twice or left out, no FIN runs ahead, and nobody asks in vain for long.

mod support;

use std::time::Duration;

use netstack::application::{CloseReason, Key};
use netstack::device::Device;
use netstack::device::fault::Faults;
use netstack::device::wire;
use netstack::stack::Config;
use netstack::transmission::Capabilities;
use runtime::time::Instant;
use support::{Pair, TestApp, TestStream};

/// How a source gets what it has.
#[derive(Clone, Copy, Debug)]
struct Supply {
    /// At most so many bytes at once.
    step: u64,
    /// No more than this lies at hand unacknowledged, as with a bounded number of buffers.
    pinned: u64,
    /// Time between two arrivals.
    every: Duration,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One connection, `len` bytes from the server, which gets them as `supply` says.
fn transfer(wire: wire::Config, seed: u64, adjust: &dyn Fn(&mut Config), len: u64, supply: Supply) -> Pair {
    println!("seed {seed}, {supply:?}");
    let server = TestApp::new(move |_| {
        let mut stream = TestStream::new(1, len);
        stream.resident = Some(0);
        Some(stream)
    });
    let mut pair = Pair::new(wire, seed, adjust, server);
    pair.client.connect(pair.now, TestStream::new(0, 100));
    let mut random = Random(seed + 1);
    let mut arrival = pair.now;
    let limit = Instant::from_millis(600_000);
    while pair.client.app.closed_count + pair.server.app.closed_count < 2 {
        assert!(
            pair.now < limit,
            "it hangs: {:?}",
            pair.server.app.records.iter().next().map(|r| &r.1.stream)
        );
        if pair.now >= arrival {
            arrival = pair.now + supply.every;
            for (key, record) in &mut pair.server.app.records {
                let stream = &mut record.stream;
                let resident = stream.resident.unwrap();
                let room = (stream.acknowledged + supply.pinned).saturating_sub(resident);
                stream.fetch((1 + random.below(supply.step)).min(room));
                if stream.resident != Some(resident) {
                    pair.server.stack.wake(Key(key as u32));
                }
            }
        }
        pair.client.step(pair.now);
        pair.server.step(pair.now);
        let next = pair.client.next().into_iter().chain(pair.server.next()).chain([arrival]).min();
        pair.now = next.unwrap().max(pair.now + Duration::from_nanos(1));
    }
    let (_, received) = &pair.client.app.closed[0];
    assert_eq!((received.received, received.wrong_bytes, received.peer_finished), (len, 0, true));
    let (_, sent) = &pair.server.app.closed[0];
    assert_eq!(sent.given.get(), len);
    assert!(len < 2 || sent.short_answers.get() > 0, "nothing was tested");
    pair
}

fn default(_: &mut Config) {}

const SUPPLIES: [Supply; 4] = [
    Supply { step: 3000, pinned: u64::MAX / 2, every: Duration::from_micros(300) },
    Supply { step: 200_000, pinned: 65_536, every: Duration::from_micros(50) },
    Supply { step: 7, pinned: u64::MAX / 2, every: Duration::from_millis(3) },
    // Smaller than a segment: each must be sent before the next can be had.
    Supply { step: 5000, pinned: 700, every: Duration::from_micros(100) },
];

#[test]
fn bytes_come_as_the_source_has_them() {
    for (seed, supply) in (0..).zip(SUPPLIES) {
        let len = if supply.step < 100 { 3000 } else { 400_000 };
        let pair = transfer(wire::Config::default(), seed, &default, len, supply);
        assert_eq!(pair.server.stack.stats().payload_retransmitted, 0);
        assert_eq!(pair.server.stack.stats().payload_out, len);
    }
}

#[test]
fn small_answers_wait_for_each_other_with_nagle() {
    for (seed, supply) in (10..).zip(SUPPLIES) {
        let len = if supply.step < 100 { 3000 } else { 100_000 };
        let wire = wire::Config { delay: Duration::from_millis(20), ..wire::Config::default() };
        let nagle = |config: &mut Config| config.tcp.nagle = true;
        let with = transfer(wire, seed, &nagle, len, supply).server.stack.stats().segments_out;
        let without = transfer(wire, seed, &default, len, supply).server.stack.stats().segments_out;
        // Where bytes come by themselves: a source that waits for room has less to give when segments wait.
        assert!(supply.pinned < len || with <= without, "{with} segments with, {without} without");
    }
}

#[test]
fn what_was_given_once_is_sent_again() {
    for seed in 0..10 {
        for supply in SUPPLIES {
            let faults = Faults { drop: 0.04, duplicate: 0.01, reorder: 0.03, ..Faults::NONE };
            let wire = wire::Config { delay: Duration::from_millis(2), faults, ..wire::Config::default() };
            let len = if supply.step < 100 { 1000 } else { 100_000 };
            transfer(wire, seed, &default, len, supply);
        }
    }
}

#[test]
fn super_segments_are_cut_where_the_source_ends() {
    for (seed, supply) in (20..).zip(SUPPLIES) {
        let capabilities =
            Capabilities { checksum: true, segmentation: Some(65_000), gather: true, datagrams: false };
        let wire = wire::Config { capabilities, ..wire::Config::default() };
        let len = if supply.step < 100 { 3000 } else { 400_000 };
        transfer(wire, seed, &default, len, supply);
    }
}

/// A source that breaks its promise costs its connection, and nobody's time.
#[test]
fn a_source_that_loses_bytes_is_given_up() {
    let server = TestApp::new(|_| Some(TestStream::new(1, 50_000)));
    let quick = |config: &mut Config| config.tcp.max_retransmissions = 4;
    let wire = wire::Config { delay: Duration::from_millis(1), ..wire::Config::default() };
    let mut pair = Pair::new(wire, 5, &quick, server);
    let mut listener = TestStream::new(0, 0);
    listener.finish = false;
    pair.client.connect(pair.now, listener);
    let limit = pair.now + Duration::from_secs(600);
    pair.run_until(limit, |pair| {
        pair.server.app.records.iter().any(|(_, record)| record.pcb.in_flight() > 0)
    });
    for (_, record) in &mut pair.server.app.records {
        record.stream.resident = Some(0);
    }
    // The client's ACKs get lost, so that what was sent has to be sent again.
    let mut steps = 0;
    while pair.server.app.closed.is_empty() {
        while pair.server.device.receive(pair.now).unwrap().is_some() {}
        pair.server.step(pair.now);
        let Some(next) = pair.server.next() else { break };
        pair.now = next.max(pair.now + Duration::from_nanos(1));
        steps += 1;
        assert!(steps < 1000, "it asks all the time");
    }
    assert_eq!(pair.server.app.closed[0].0, CloseReason::TimedOut);
}
