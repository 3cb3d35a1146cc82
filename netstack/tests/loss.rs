//! How long a loss costs: each single packet of a short answer lost in turn, and many at random. What a probe
//! or the reordering window can find in a few round trips must not wait for the retransmission time-out of
//! 200 ms.

mod support;

use std::time::Duration;

use netstack::application::CloseReason;
use netstack::device::fault::Faults;
use netstack::device::{Device, wire};
use runtime::time::Instant;
use support::{Pair, TestApp, TestStream};

/// A round trip of 2 ms.
const DELAY: Duration = Duration::from_millis(1);

/// Which transmission, counted from 0, of the server or of the client is lost.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lost {
    None,
    OfServer(u64),
    OfClient(u64),
}

/// The client asks with 100 bytes and gets `down`; how long from the request until it had all and both were
/// done.
fn answer(down: u64, keep: bool, faults: Faults, seed: u64, lost: Lost) -> (Duration, Pair) {
    answer_over(wire::Config { delay: DELAY, faults, ..wire::Config::default() }, down, keep, seed, lost)
}

fn answer_over(wire: wire::Config, down: u64, keep: bool, seed: u64, lost: Lost) -> (Duration, Pair) {
    let server = TestApp::new(move |_| {
        let mut stream = TestStream::new(1, down);
        stream.finish = !keep;
        Some(stream)
    });
    let mut pair = Pair::new(wire, seed, &|_| {}, server);
    let mut stream = TestStream::new(0, 100);
    stream.finish = !keep;
    match lost {
        Lost::None => {}
        Lost::OfServer(number) => pair.server.lose = Box::new(move |n, _| n == number),
        Lost::OfClient(number) => pair.client.lose = Box::new(move |n, _| n == number),
    }
    let (client, server) = (pair.client.device.hardware_addr(), pair.server.device.hardware_addr());
    pair.client.stack.add_neighbor(pair.now, support::SERVER, server);
    pair.server.stack.add_neighbor(pair.now, support::CLIENT, client);
    let mut start = pair.now;
    let key = pair.client.connect(pair.now, stream);
    let mut received_at = None;
    let mut happened = pair.now;
    let limit = Instant::from_millis(600_000);
    pair.run_until(limit, |pair| {
        if pair.server.app.records.is_empty() && pair.server.app.closed.is_empty() {
            // Handshakes have no round trip to go by, and are not what is tested.
            start = pair.now;
        }
        let received = match pair.client.app.records.get(key.0 as usize) {
            Some(record) => record.stream.received,
            None => pair.client.app.closed.first().map_or(0, |(_, stream)| stream.received),
        };
        if received == down && received_at.is_none() {
            // What happened happened at the event before: the pair's time is that of the next one already.
            received_at = Some(happened);
        }
        happened = pair.now;
        let acknowledged = |host: &support::Host, len: u64| match host.app.records.get(0) {
            Some(record) => record.stream.acknowledged == len,
            None => host.app.closed.len() == 1,
        };
        received_at.is_some() && acknowledged(&pair.server, down) && acknowledged(&pair.client, 100)
    });
    let received_at = received_at.unwrap_or_else(|| panic!("seed {seed}, {lost:?}: it hangs"));
    (received_at.saturating_since(start), pair)
}

/// RFC 8985 section 7: "enable a sender to quickly detect losses ... at the tail". Every transmission of
/// either side after the handshake is lost once, by itself.
#[test]
fn no_single_lost_packet_costs_a_time_out() {
    for keep in [true, false] {
        for down in [100, 1_460, 2_900, 5_000, 30_000] {
            let (plain, pair) = answer(down, keep, Faults::NONE, 1, Lost::None);
            assert!(plain < Duration::from_millis(20), "{down} {keep} {plain:?}");
            // Those before are the handshake's.
            let of_server = (1..pair.server.sent).map(Lost::OfServer);
            let of_client = (2..pair.client.sent).map(Lost::OfClient);
            for lost in of_server.chain(of_client) {
                let (took, pair) = answer(down, keep, Faults::NONE, 1, lost);
                // Two round trips, and for a lone segment what the peer may delay its ACK by.
                let limit = plain + Duration::from_millis(70);
                assert!(
                    took < limit,
                    "{down} bytes, kept {keep}, {lost:?}: {took:?}, without loss {plain:?}"
                );
                for (reason, _) in pair.server.app.closed.iter().chain(&pair.client.app.closed) {
                    assert_eq!(*reason, CloseReason::Finished);
                }
            }
        }
    }
}

/// On a network of 100 microseconds the reordering window is a quarter of that, and so the timers must be as
/// fine: a loss that one or two segments behind it tell of costs no millisecond.
#[test]
fn what_the_reordering_window_finds_is_sent_again_at_once() {
    let wire = || wire::Config { delay: Duration::from_micros(50), ..wire::Config::default() };
    let (plain, pair) = answer_over(wire(), 7_000, false, 1, Lost::None);
    // SYN-ACK, and five segments.
    assert_eq!(pair.server.sent, 6);
    // The last has none behind it, which takes a probe; of the first two, three behind them tell.
    for lost in [3, 4] {
        let (took, _) = answer_over(wire(), 7_000, false, 1, Lost::OfServer(lost));
        assert!(took > plain && took < Duration::from_micros(500), "{lost}: {took:?}");
    }
}

/// With 2 % of the packets lost both ways, a stall of a time-out is a matter of two losses of the same
/// segment, or of the handshake: rare.
#[test]
fn a_time_out_is_rare_at_two_per_cent() {
    let faults = Faults { drop: 0.02, ..Faults::NONE };
    let mut times: Vec<Duration> =
        (0..400).map(|seed| answer(30_000, true, faults, seed, Lost::None).0).collect();
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("30 KB at 2 %: p50 {:?}, p90 {:?}, p95 {:?}, p99 {:?}", at(50), at(90), at(95), at(99));
    assert!(at(90) < Duration::from_millis(40), "{:?}", at(90));
}

/// A payload that cannot be read any more ends its own connection, at both ends, and no other.
#[test]
fn an_unreadable_payload_ends_its_connection_alone() {
    let server = TestApp::new(|pcb| {
        Some(TestStream::new(1, if pcb.remote().port() % 2 == 0 { 50_000 } else { 60_000 }))
    });
    let mut pair = Pair::new(wire::Config::default(), 3, &|_| {}, server);
    for _ in 0..6 {
        pair.client.connect(pair.now, TestStream::new(0, 10));
    }
    // The last kilobytes of the longer ones lie in a page that is gone.
    pair.server.unreadable = Box::new(|_, transmission| {
        let ports = &transmission.headers[34..38];
        let (from_server, odd) = (ports[..2] == support::PORT.to_be_bytes(), ports[3] % 2 == 1);
        from_server && odd && transmission.payload_len > 0 && transmission.payload_len < 1_448
    });
    pair.run_until(Instant::from_millis(60_000), |pair| pair.client.app.closed_count == 6);
    let reasons = |app: &TestApp, len: u64, own: fn(&TestStream) -> u64| -> Vec<CloseReason> {
        app.closed.iter().filter(|(_, stream)| own(stream) == len).map(|(reason, _)| *reason).collect()
    };
    assert_eq!(reasons(&pair.server.app, 60_000, |s| s.len), [CloseReason::PayloadLost; 3]);
    assert_eq!(reasons(&pair.server.app, 50_000, |s| s.len), [CloseReason::Finished; 3]);
    assert_eq!(reasons(&pair.client.app, 50_000, |s| s.received), [CloseReason::Finished; 3]);
    assert_eq!(pair.client.app.closed.iter().filter(|(reason, _)| *reason == CloseReason::Reset).count(), 3);
}
