//! Two of our stacks against each other over a bad wire: whatever is lost, doubled, late or broken, the bytes
//! arrive, the connections close, and nothing is left.

mod support;

use std::time::Duration;

use netstack::application::CloseReason;
use netstack::device::Device;
use netstack::device::fault::Faults;
use netstack::device::wire;
use netstack::stack::Config;
use netstack::tcp::Algorithm;
use netstack::transmission::Capabilities;
use runtime::time::Instant;
use support::{Pair, TestApp, TestStream};

const NO_LIMIT: Instant = Instant::from_millis(3_600_000);

fn default(_: &mut Config) {}

/// Transfers `up` and `down` bytes over one connection and checks everything.
fn transfer(
    name: &str,
    wire: wire::Config,
    seed: u64,
    adjust: &dyn Fn(&mut Config),
    up: u64,
    down: u64,
) -> Pair {
    // Both congestion controls, by the seed.
    let congestion = if seed.is_multiple_of(2) { Algorithm::NewReno } else { Algorithm::Cubic };
    println!("{name}: seed {seed}, {congestion:?}");
    let adjust = &|config: &mut Config| {
        config.tcp.congestion = congestion;
        adjust(config);
    };
    let server = TestApp::new(move |_| Some(TestStream::new(1, down)));
    let mut pair = Pair::new(wire, seed, adjust, server);
    if wire.faults.drop > 0.1 {
        // Three lost ARP requests in a row are likely here, and not what is tested.
        let (client, server) = (pair.client.device.hardware_addr(), pair.server.device.hardware_addr());
        pair.client.stack.add_neighbor(pair.now, support::SERVER, server);
        pair.server.stack.add_neighbor(pair.now, support::CLIENT, client);
    }
    pair.client.connect(pair.now, TestStream::new(0, up));
    let done = pair
        .run_until(NO_LIMIT, |pair| pair.client.app.closed_count == 1 && pair.server.app.closed_count == 1);
    for (side, host, expected) in [("client", &pair.client, down), ("server", &pair.server, up)] {
        if let Some(record) = host.app.records.iter().next() {
            panic!("{name}, seed {seed}: {side} hangs: {:?} {:?}", record.1.stream.received, record.1.pcb);
        }
        let (reason, stream) = &host.app.closed[0];
        // The last ACK may be lost until the other side has forgotten the connection: one of the two generals
        // never learns that all was said.
        assert!(
            *reason == CloseReason::Finished || (wire.faults.drop > 0.1 && stream.peer_finished),
            "{name}, seed {seed}: {side} closed with {reason:?}"
        );
        assert_eq!(stream.received, expected, "{name}, seed {seed}: {side} received");
        assert_eq!(stream.wrong_bytes, 0, "{name}, seed {seed}: {side}");
    }
    assert!(done);
    let limit = pair.now + Duration::from_secs(60);
    pair.run_until(limit, |pair| pair.client.stack.in_time_wait() + pair.server.stack.in_time_wait() == 0);
    pair.client.assert_empty();
    pair.server.assert_empty();
    pair
}

fn faults() -> Faults {
    Faults { drop: 0.02, duplicate: 0.01, reorder: 0.02, ..Faults::NONE }
}

#[test]
fn a_clean_wire_needs_no_retransmission() {
    let pair = transfer("clean", wire::Config::default(), 1, &default, 1_000_000, 2_000_000);
    assert_eq!(pair.client.stack.stats().payload_retransmitted, 0);
    assert_eq!(pair.server.stack.stats().payload_retransmitted, 0);
    assert_eq!(pair.client.stack.stats().payload_out, 1_000_000);
}

#[test]
fn bytes_survive_a_bad_wire() {
    for seed in 0..12 {
        let wire = wire::Config {
            delay: Duration::from_millis(5),
            jitter: Duration::from_millis(2),
            ns_per_byte: 80,
            faults: faults(),
            ..wire::Config::default()
        };
        transfer("bad wire", wire, seed, &default, 300_000, 2_000_000);
    }
}

#[test]
fn bytes_survive_without_sack_and_timestamps() {
    for seed in 0..12 {
        let wire =
            wire::Config { delay: Duration::from_millis(5), faults: faults(), ..wire::Config::default() };
        let plain = |config: &mut Config| {
            config.tcp.sack = false;
            config.tcp.timestamps = false;
        };
        transfer("NewReno", wire, seed, &plain, 300_000, 1_000_000);
    }
}

fn cross_a_terrible_wire(seed: u64) {
    let faults = Faults { drop: 0.2, duplicate: 0.1, reorder: 0.2, corrupt: 0.05, ..Faults::NONE };
    let wire = wire::Config { delay: Duration::from_millis(1), faults, ..wire::Config::default() };
    let patient = |config: &mut Config| {
        config.tcp.max_retransmissions = 30;
        config.tcp.max_syn_retransmissions = 20;
        // The peer's backed-off retransmissions may be a minute apart.
        config.tcp.fin_wait_2 = Duration::from_secs(600);
    };
    transfer("terrible wire", wire, seed, &patient, 50_000, 100_000);
}

#[test]
fn bytes_survive_a_terrible_wire() {
    (0..8).for_each(cross_a_terrible_wire);
}

#[test]
#[ignore = "minutes"]
fn ten_thousand_terrible_wires() {
    (0..10_000).for_each(cross_a_terrible_wire);
}

#[test]
fn super_segments_cross_a_wire_with_offloads() {
    for seed in 0..4 {
        let wire = wire::Config {
            capabilities: Capabilities {
                checksum: true,
                segmentation: Some(65_536),
                gather: true,
                datagrams: false,
            },
            faults: Faults { drop: 0.01, ..Faults::NONE },
            ..wire::Config::default()
        };
        transfer("offloads", wire, seed, &default, 1_000_000, 5_000_000);
    }
}

#[test]
fn every_feature_can_be_switched_off() {
    let without = |config: &mut Config| {
        config.features.offload = false;
        config.features.packet_merging = false;
        config.features.header_merging = false;
        config.features.time_wait_records = false;
        config.features.stored_sums = false;
        config.features.cached_sums = false;
    };
    let wire = wire::Config {
        capabilities: Capabilities {
            checksum: true,
            segmentation: Some(65_536),
            gather: true,
            datagrams: false,
        },
        faults: faults(),
        ..wire::Config::default()
    };
    transfer("without", wire, 5, &without, 100_000, 500_000);
}

#[test]
fn empty_streams_and_tiny_ones_close_cleanly() {
    for (up, down) in [(0, 0), (1, 0), (0, 1), (1, 1), (1460, 1460), (1461, 1)] {
        for seed in 0..6 {
            let faults = if seed == 0 { Faults::NONE } else { Faults { drop: 0.15, ..faults() } };
            let wire = wire::Config { faults, ..wire::Config::default() };
            transfer("tiny", wire, seed, &default, up, down);
        }
    }
}

#[test]
fn sequence_numbers_wrap() {
    // From a number just below the wrap: the secret is searched for, since numbers come from it.
    for try_number in 0..4096u16 {
        let mut secret = [0; 16];
        secret[..2].copy_from_slice(&try_number.to_le_bytes());
        let adjust = move |config: &mut Config| config.secret = secret;
        let server = TestApp::new(|_| Some(TestStream::new(1, 10)));
        let mut pair = Pair::new(wire::Config::default(), 0, &adjust, server);
        let key = pair.client.connect(pair.now, TestStream::new(0, 10));
        let pcb = &pair.client.app.records[key.0 as usize].pcb;
        let text = format!("{pcb:?}");
        let (_, iss) = text.split_once("iss: ").expect("an open that has not been answered");
        let digits: String =
            iss.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        let iss: u32 = digits.parse().expect("its number");
        if iss > u32::MAX - (6 << 20) {
            transfer("wrap", wire::Config::default(), 0, &adjust, 8 << 20, 10);
            return;
        }
    }
    panic!("no secret gives a number near the wrap");
}

#[test]
fn two_thousand_connections_at_once() {
    let wire = wire::Config {
        faults: Faults { drop: 0.01, ..Faults::NONE },
        queue_len: 1 << 20,
        ..wire::Config::default()
    };
    let server = TestApp::new(|_| Some(TestStream::new(1, 10_000)));
    let mut pair = Pair::new(wire, 7, &default, server);
    for _ in 0..2000 {
        pair.client.connect(pair.now, TestStream::new(0, 100));
    }
    let all = |pair: &Pair| pair.client.app.closed_count == 2000 && pair.server.app.closed_count == 2000;
    assert!(pair.run_until(NO_LIMIT, all));
    for (reason, stream) in pair.client.app.closed.iter() {
        assert_eq!((*reason, stream.received, stream.wrong_bytes), (CloseReason::Finished, 10_000, 0));
    }
    let limit = pair.now + Duration::from_secs(60);
    pair.run_until(limit, |pair| pair.client.stack.in_time_wait() + pair.server.stack.in_time_wait() == 0);
    pair.client.assert_empty();
    pair.server.assert_empty();
}

#[test]
fn a_hundred_thousand_connections_leave_nothing() {
    connections_in_sequence(100_000, &default);
}

/// The same with whole blocks in TIME-WAIT: no more of them than configured, and in the end none.
#[test]
fn blocks_in_time_wait_are_bounded_and_leave_nothing() {
    connections_in_sequence(20_000, &|config: &mut Config| {
        config.features.time_wait_records = false;
        config.time_wait_capacity = 1_000;
    });
}

fn connections_in_sequence(total: u64, adjust: &dyn Fn(&mut Config)) {
    let mut server = TestApp::new(|_| Some(TestStream::new(1, 100)));
    server.forget_closed = true;
    let mut pair = Pair::new(wire::Config::default(), 9, adjust, server);
    let blocks = if pair.server.stack.config().features.time_wait_records { 0 } else { 1_000 };
    pair.client.app.forget_closed = true;
    // The server closes first and has the TIME-WAITs. Ports come round several times before they expire, so
    // most connections reopen one (RFC 9293 section 3.6.1, RFC 6191).
    let at_once = 10;
    let (mut started, mut most) = (0, 0);
    while pair.client.app.closed_count < total {
        while started < total && started - pair.client.app.closed_count < at_once {
            let mut stream = TestStream::new(0, 50);
            stream.finish_after_peer = true;
            pair.client.connect(pair.now, stream);
            started += 1;
        }
        assert!(pair.step(), "nothing happens any more");
        assert!(pair.server.app.records.len() <= 4 * at_once as usize + blocks);
        let timers = pair.server.stack.timers();
        assert!(timers <= 8 * at_once as usize + blocks, "{timers} timers");
        most = most.max(pair.server.app.records.len());
    }
    assert!(most > blocks, "blocks stay in TIME-WAIT, and only then");
    let limit = pair.now + Duration::from_secs(60);
    pair.run_until(limit, |pair| pair.client.stack.in_time_wait() + pair.server.stack.in_time_wait() == 0);
    assert_eq!(pair.client.app.closed_badly, 0);
    assert_eq!(pair.server.app.closed_badly, 0);
    assert_eq!(pair.server.app.closed_count, total);
    pair.client.assert_empty();
    pair.server.assert_empty();
}

/// A host that the machine gives no time: frames wait for it, then are dropped, and when it comes back all
/// its timers are due at once. The connections go on, as soon as what the other side has backed off to
/// allows.
#[test]
fn a_host_that_got_no_time_goes_on() {
    let ms = Duration::from_millis;
    for (stall, server_stalls) in [(300, true), (5_000, true), (20_000, true), (300, false), (5_000, false)] {
        let wire = wire::Config {
            delay: ms(1),
            ns_per_byte: 80,
            queue_len: 64,
            faults: Faults { drop: 0.01, ..Faults::NONE },
            ..wire::Config::default()
        };
        let server = TestApp::new(|_| Some(TestStream::new(1, 300_000)));
        let mut pair = Pair::new(wire, stall, &default, server);
        for _ in 0..20 {
            pair.client.connect(pair.now, TestStream::new(0, 1_000));
        }
        let begun = |pair: &Pair| pair.client.app.records.iter().all(|(_, r)| r.stream.received > 50_000);
        assert!(pair.run_until(NO_LIMIT, begun));
        let until = pair.now + ms(stall);
        while pair.now < until {
            let awake = if server_stalls { &mut pair.client } else { &mut pair.server };
            awake.step(pair.now);
            pair.now = awake.next().map_or(until, |next| next.max(pair.now).min(until));
        }
        let all = |pair: &Pair| pair.client.app.closed_count == 20 && pair.server.app.closed_count == 20;
        // A time-out that has been doubled as long as that may just have been set anew.
        let limit = until + 2 * ms(stall) + ms(3_000);
        assert!(pair.run_until(limit, all), "{stall} ms: {} are over", pair.client.app.closed_count);
        assert_eq!((pair.client.app.closed_badly, pair.server.app.closed_badly), (0, 0), "{stall} ms");
    }
}

/// How long 20 MB take over a long, fast path whose queue holds a third of what fits on it: 100 Mbit/s, 80
/// ms.
fn long_fat(congestion: Algorithm, drop: f64, seed: u64) -> Duration {
    let wire = wire::Config {
        delay: Duration::from_millis(40),
        ns_per_byte: 80,
        queue_len: 900,
        faults: Faults { drop, ..Faults::NONE },
        ..wire::Config::default()
    };
    let adjust = |config: &mut Config| {
        config.tcp.congestion = congestion;
        config.tcp.max_window = 8 << 20;
    };
    let server = TestApp::new(|_| Some(TestStream::new(1, 20_000_000)));
    let mut pair = Pair::new(wire, seed, &adjust, server);
    let mut stream = TestStream::new(0, 100);
    stream.window = 8 << 20;
    pair.client.connect(pair.now, stream);
    assert!(pair.run_until(NO_LIMIT, |pair| pair.client.app.closed_count == 1));
    let (reason, stream) = &pair.client.app.closed[0];
    assert_eq!((*reason, stream.received, stream.wrong_bytes), (CloseReason::Finished, 20_000_000, 0));
    pair.now.saturating_since(Instant::ZERO)
}

/// RFC 9438 section 1: what CUBIC is for. Losses now and then, on a path where Reno takes minutes to fill it
/// again.
#[test]
fn cubic_fills_a_long_fat_path_sooner_than_reno() {
    let median = |congestion| {
        let mut times: Vec<Duration> = (0..3).map(|seed| long_fat(congestion, 0.0005, seed)).collect();
        times.sort_unstable();
        println!("20 MB at 100 Mbit/s, 80 ms, 0.05 % lost, {congestion:?}: {times:?}");
        times[1]
    };
    let (reno, cubic) = (median(Algorithm::NewReno), median(Algorithm::Cubic));
    assert!(cubic < reno.mul_f64(0.8), "{cubic:?} {reno:?}");
}
