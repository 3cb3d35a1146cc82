//! Text that is copied to where it stays before it is verified (`Stream::place`), over a wire that damages
//! frames: what was wrong is forgotten, and all goes as without.

mod support;

use std::time::Duration;

use netstack::device::fault::Faults;
use netstack::device::wire::Config as WireConfig;
use netstack::stack::Stats;
use netstack::transmission::Capabilities;
use proptest::prelude::*;
use runtime::time::Instant;
use support::{Pair, TestApp, TestStream};

/// Both ways over the wire: the stacks' counters, when it was over, and how often what was placed was taken
/// and forgotten.
fn run(wire: WireConfig, seed: u64, places: bool, allowed: bool) -> (Stats, Stats, Instant, u64, u64) {
    let make = move |tag, len| {
        let mut stream = TestStream::new(tag, len);
        stream.places = places;
        stream
    };
    let server = TestApp::new(move |_| Some(make(1, 70_000)));
    let mut pair = Pair::new(wire, seed, &|config| config.features.placed_input = allowed, server);
    pair.client.connect(pair.now, make(0, 200_000));
    let limit = pair.now + Duration::from_secs(300);
    assert!(pair.run_until(limit, |pair| pair.client.app.closed_count + pair.server.app.closed_count == 2));
    let (mut taken, mut forgotten) = (0, 0);
    for (_, stream) in pair.client.app.closed.iter().chain(&pair.server.app.closed) {
        assert_eq!((stream.wrong_bytes, stream.acknowledged, stream.placed), (0, stream.len, None));
        taken += stream.placed_taken;
        forgotten += stream.placed_forgotten;
    }
    assert_eq!(pair.client.app.closed_badly + pair.server.app.closed_badly, 0);
    (*pair.client.stack.stats(), *pair.server.stack.stats(), pair.now, taken, forgotten)
}

fn without_places(mut stats: Stats) -> Stats {
    stats.payload_placed = 0;
    stats
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever is lost, doubled, late or damaged, the run is the same frame by frame.
    #[test]
    fn all_goes_as_without(seed in any::<u64>(), drop in 0u32..4, corrupt in 0u32..6, reorder in 0u32..6) {
        let faults = Faults {
            drop: f64::from(drop) / 100.0,
            corrupt: f64::from(corrupt) / 100.0,
            reorder: f64::from(reorder) / 100.0,
            duplicate: 0.02,
            ..Faults::NONE
        };
        let wire = WireConfig { faults, ..WireConfig::default() };
        let (client, server, end, taken, forgotten) = run(wire, seed, true, true);
        let plain = run(wire, seed, false, true);
        prop_assert_eq!((without_places(client), without_places(server), end), (plain.0, plain.1, plain.2));
        prop_assert!(taken > 10, "{} of 187 segments", taken);
        let placed = client.payload_placed + server.payload_placed;
        prop_assert!(placed >= 256 * taken && placed <= 270_000 + 1460 * forgotten, "{} bytes", placed);
    }
}

/// The usual case: all full segments are placed; what is damaged is found, and forgotten.
#[test]
fn what_is_damaged_is_forgotten() {
    let (_, server, _, taken, forgotten) = run(WireConfig::default(), 1, true, true);
    // Not the first, with the ACK of the handshake, and none once the server has sent its FIN.
    assert!((90..=187).contains(&taken) && forgotten == 0, "{taken}, {forgotten}");
    assert!(server.payload_placed > 70_000, "{}", server.payload_placed);
    let faults = Faults { corrupt: 0.05, ..Faults::NONE };
    let (client, server, _, _, forgotten) =
        run(WireConfig { faults, ..WireConfig::default() }, 2, true, true);
    assert!(forgotten > 0 && forgotten <= client.bad_checksums + server.bad_checksums, "{forgotten}");
    // Switched off, and where the device has verified.
    assert_eq!(run(WireConfig::default(), 3, true, false).3, 0);
    let capabilities = Capabilities { checksum: true, ..Capabilities::default() };
    assert_eq!(run(WireConfig { capabilities, ..WireConfig::default() }, 3, true, true).3, 0);
}
