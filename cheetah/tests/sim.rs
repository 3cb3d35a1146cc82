//! HTTP over our own TCP/IP on wires in memory, good and bad, decided by a seed.

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use cheetah::service::{Options, Service};
use cheetah::transport::sim;
use cheetah::transport::web::Web;
use netstack::application::{Application as _, CloseReason};
use netstack::device::fault::Faults;
use netstack::device::wire;
use netstack::stack::{Config, ConnectError, Features, Stack};
use netstack::transmission::Capabilities;
use netstack::wire::ethernet::EthernetAddress;
use proptest::prelude::*;
use runtime::time::Instant;
use support::{CASES, hello_etag, split_response};

/// All cases that keep the connection, pipelined on one connection, and a last one that ends it.
fn run(wire: wire::Config, seed: u64) -> sim::Outcome {
    run_with(Options::default(), Features::default(), wire, seed)
}

fn run_with(options: Options, features: Features, wire: wire::Config, seed: u64) -> sim::Outcome {
    let outcome = ask(options, features, wire, seed);
    check(&outcome, seed);
    outcome
}

fn ask(options: Options, features: Features, wire: wire::Config, seed: u64) -> sim::Outcome {
    let etag = hello_etag();
    let mut requests = Vec::new();
    for case in CASES.iter().filter(|case| !case.closes) {
        requests.extend(case.bytes(&etag));
    }
    requests.extend_from_slice(b"GET /hello.txt HTTP/1.0\r\n\r\n");
    let limit = Duration::from_secs(600);
    sim::exchange(support::site(), options, requests, wire, seed, features, limit)
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"))
}

fn check(outcome: &sim::Outcome, seed: u64) {
    let etag = hello_etag();
    assert_eq!(outcome.reason, CloseReason::Finished, "seed {seed}");
    let mut rest = &outcome.received[..];
    for case in CASES.iter().filter(|case| !case.closes) {
        let (response, after) = split_response(rest, case.is_head()).expect("a whole response");
        case.check(&response, &etag);
        rest = after;
    }
    let (last, rest) = split_response(rest, false).unwrap();
    assert_eq!((&last.body[..], rest.len()), (&b"hello, world\n"[..], 0));
}

#[test]
fn every_case_on_a_good_wire() {
    let outcome = run(wire::Config::default(), 1);
    assert!(outcome.device.tx_dropped == 0);
}

/// The same bytes without each specialisation; and it is seen on the wire that the other way was taken.
#[test]
fn switches_change_the_packets_and_not_the_bytes() {
    let wire = wire::Config::default;
    let (options, features) = (Options::default(), Features::default());
    let plain = run(wire(), 1);
    let same = |what: &str, outcome: &sim::Outcome| {
        assert!(outcome.received == plain.received, "{what}");
        outcome.device.tx_frames
    };
    let frames = plain.device.tx_frames;
    let without = |features: Features| run_with(options, features, wire(), 1);
    let heads = CASES.iter().filter(|case| !case.closes && !case.is_head()).count() as u64;
    let apart = same("header-merging", &without(Features { header_merging: false, ..features }));
    // Heads that share a segment with what is before and after them, and do not any more.
    assert!(apart > frames + heads, "{apart} frames, {frames} with {heads} bodies merged");
    let apart = same("packet-merging", &without(Features { packet_merging: false, ..features }));
    assert!(apart > frames, "{apart} frames, {frames}");
    let blocks = without(Features { time_wait_records: false, ..features });
    assert_eq!(same("time-wait-records", &blocks), frames);
    // The exchange is over when the last block is free: the record's time is not waited for.
    assert!(blocks.elapsed >= Duration::from_secs(10) && plain.elapsed < Duration::from_secs(10));
    let fresh = run_with(Options { pcb_pool: false, ..options }, features, wire(), 1);
    assert_eq!(same("pcb-pool", &fresh), frames);
}

/// On a bad wire as well.
#[test]
fn bytes_survive_without_any_specialisation() {
    let faults = Faults { drop: 0.03, duplicate: 0.02, reorder: 0.05, ..Faults::NONE };
    let features = Features {
        packet_merging: false,
        header_merging: false,
        time_wait_records: false,
        offload: false,
        stored_sums: false,
        cached_sums: false,
        placed_input: false,
    };
    let options = Options { pcb_pool: false, precomputed_headers: false, ..Options::default() };
    for seed in 0..6 {
        run_with(options, features, wire::Config { faults, ..wire::Config::default() }, seed);
    }
}

#[test]
fn super_segments_take_fewer_transmissions() {
    let plain = run(wire::Config::default(), 1);
    let capabilities =
        Capabilities { checksum: true, segmentation: Some(60_000), gather: true, datagrams: false };
    let offloaded = run(wire::Config { capabilities, ..wire::Config::default() }, 1);
    assert!(offloaded.device.tx_frames * 4 < plain.device.tx_frames);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let faults = Faults { drop: 0.05, reorder: 0.05, ..Faults::NONE };
    let wire = wire::Config { faults, ..wire::Config::default() };
    let (first, second) = (run(wire, 7), run(wire, 7));
    assert_eq!((first.elapsed, first.device), (second.elapsed, second.device));
}

#[test]
fn connections_are_bounded_and_the_next_one_is_reset() {
    let options = Options { max_connections: 3, ..Options::default() };
    let mut web = Web::new(Service::new(support::site(), options));
    let addr = Ipv4Addr::new(192, 0, 2, 1);
    let mut stack = Stack::new(Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]), addr, 24, [1; 16]));
    let remote = (Ipv4Addr::new(192, 0, 2, 2), 80).into();
    let mut accept =
        |web: &mut Web| stack.connect(Instant::ZERO, None, remote, |pcb| web.accept(Instant::ZERO, pcb));
    let keys: Vec<_> = (0..3).map(|_| accept(&mut web).unwrap()).collect();
    assert_eq!(accept(&mut web), Err(ConnectError::NotKept));
    web.closed(Instant::ZERO, keys[1], CloseReason::Finished);
    assert!(accept(&mut web).is_ok());
    assert_eq!(accept(&mut web), Err(ConnectError::NotKept));
    // On the wire: the client's handshake is complete, and then it is reset.
    let options = Options { max_connections: 0, ..Options::default() };
    let request = b"GET / HTTP/1.0\r\n\r\n".to_vec();
    let limit = Duration::from_secs(60);
    let outcome = sim::exchange(
        support::site(),
        options,
        request,
        wire::Config::default(),
        1,
        Features::default(),
        limit,
    )
    .unwrap();
    assert_eq!((outcome.reason, outcome.received.len()), (CloseReason::Reset, 0));
}

/// Whether the client found the server. All of ARP's questions may be lost, or their answers; and an answer
/// may be changed on its way, which nothing in it tells, so that all that is sent goes elsewhere.
fn was_spoken_to(outcome: &sim::Outcome) -> bool {
    const ARP_FRAME: u64 = 42;
    let has_sent_segments = outcome.device.tx_bytes > ARP_FRAME * outcome.device.tx_frames;
    let was_not = [CloseReason::Unreachable, CloseReason::TimedOut].contains(&outcome.reason);
    has_sent_segments || !was_not
}

#[test]
fn an_answer_of_arp_that_was_changed_on_its_way_finds_nobody() {
    let faults = Faults {
        drop: 0.022910593443750484,
        duplicate: 0.01929504913230111,
        corrupt: 0.01808339812758799,
        reorder: 0.014021689939899716,
        ..Faults::NONE
    };
    let wire = wire::Config { faults, mtu: 1764, ..wire::Config::default() };
    let outcome = ask(Options::default(), Features::default(), wire, 13226195413329895190);
    assert!(!was_spoken_to(&outcome) && outcome.received.is_empty(), "{:?}", outcome.reason);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_case_on_bad_wires(
        seed: u64, drop in 0.0..0.06, duplicate in 0.0..0.05, corrupt in 0.0..0.02, reorder in 0.0..0.1,
        mtu in 600u16..9000,
    ) {
        let faults = Faults { drop, duplicate, corrupt, reorder, ..Faults::NONE };
        let wire = wire::Config { faults, mtu, ..wire::Config::default() };
        let outcome = ask(Options::default(), Features::default(), wire, seed);
        if !was_spoken_to(&outcome) {
            prop_assert!(outcome.received.is_empty());
        } else {
            check(&outcome, seed);
        }
    }
}
