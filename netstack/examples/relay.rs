//! A bad cable between two interfaces: frames go from one to the other, late, and some not at all.
//!
//! `relay A B LOSS_PERCENT DELAY_MS SEED`. For measurements with the kernel's TCP at either end where the kernel has no
//! netem; both ends' offloads must be off (`ethtool -K IF tx off tso off gso off gro off`).

use std::collections::VecDeque;
use std::time::Duration;

use netstack::device::Device;
use netstack::device::fault::Random;
use netstack::device::packet::PacketDevice;
use netstack::transmission::{Offload, Transmission};
use runtime::event_loop::EventLoop;
use runtime::poller::{Interest, Token, Trigger};
use runtime::time::Instant;

/// Frames under way to one interface at most, as in a router's queue.
const QUEUE_LEN: usize = 1000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [a, b, loss, delay, seed] = &arguments[..] else {
        return Err("usage: relay INTERFACE INTERFACE LOSS_PERCENT DELAY_MS SEED".into());
    };
    let loss: f64 = loss.parse::<f64>()? / 100.0;
    let delay = Duration::from_secs_f64(delay.parse::<f64>()? / 1000.0);
    let mut random = Random::new(seed.parse()?);
    let mut devices = [PacketDevice::open(a)?, PacketDevice::open(b)?];
    let mut under_way: [VecDeque<(Instant, Vec<u8>)>; 2] = Default::default();
    let mut events = EventLoop::new()?;
    for (number, device) in devices.iter().enumerate() {
        let descriptor = device.descriptor().ok_or("a packet device has a descriptor")?;
        events.add(&descriptor, Token(number as u64), Interest::READ, Trigger::Level)?;
    }
    loop {
        events.turn(under_way.iter().filter_map(|queue| queue.front()).map(|(at, _)| *at).min())?;
        let now = events.now();
        for from in 0..2 {
            while let Some(frame) = devices[from].receive(now)? {
                let queue = &mut under_way[1 - from];
                if random.unit() >= loss && queue.len() < QUEUE_LEN {
                    queue.push_back((now + delay, frame.bytes.to_vec()));
                }
            }
        }
        for (to, device) in devices.iter_mut().enumerate() {
            while under_way[to].front().is_some_and(|(at, _)| *at <= now) {
                let Some((_, frame)) = under_way[to].pop_front() else { break };
                device.transmit(
                    now,
                    &Transmission {
                        headers: &frame,
                        payload: &[],
                        payload_len: 0,
                        tcp_start: None,
                        offload: Offload::default(),
                    },
                )?;
            }
        }
    }
}
