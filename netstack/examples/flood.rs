//! SYNs from random sources at a given rate, by an AF_PACKET ring: what `scripts/bench-handlers` floods a
//! server with, in namespaces of its own.
//!
//!   flood DEV MAC ADDR FIRST-PORT LAST-PORT RATE SECONDS
//!
//! Each goes to a random port of the range at ADDR, which MAC has. Prints how many were sent.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant as Clock};

use netstack::sys::link;
use netstack::sys::ring::PacketRings;
use netstack::sys::tun::VNET_HEADER_LEN;
use netstack::wire::checksum;

const USAGE: &str = "flood DEV MAC ADDR FIRST-PORT LAST-PORT RATE SECONDS";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dev, mac, addr, first, last, rate, seconds] = &arguments[..] else { return Err(USAGE.into()) };
    let mac = mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<u8>, _>>()?;
    let mac: [u8; 6] = mac.try_into().map_err(|_| USAGE)?;
    let addr: Ipv4Addr = addr.parse()?;
    let ports: (u16, u16) = (first.parse()?, last.parse()?);
    let (rate, seconds): (u64, f64) = (rate.parse()?, seconds.parse()?);
    let interface = link::get(dev)?;
    let own = interface.hardware_addr.ok_or("no Ethernet interface")?.0;
    // It hears nothing: what else comes by the interface would cost as much as what is sent.
    let mut rings = PacketRings::open(interface.index, 8, 64, &[(0x06, 0, 0, 0)])?;
    let (mut seed, mut sent, mut dropped) = (0x9e37_79b9_7f4a_7c15, 0u64, 0u64);
    let start = Clock::now();
    while start.elapsed().as_secs_f64() < seconds {
        // As many as are due by now, every half millisecond.
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        while sent < due {
            if !rings.can_transmit() {
                kick(&mut rings)?;
            }
            if !rings.can_transmit() {
                dropped += due - sent;
                sent = due;
                break;
            }
            let frame = syn(&mut seed, mac, own, addr, ports);
            rings.transmit(|slot| {
                let room = slot.get_mut(..VNET_HEADER_LEN + frame.len())?;
                let (head, rest) = room.split_at_mut(VNET_HEADER_LEN);
                head.fill(0);
                rest.copy_from_slice(&frame);
                Some(room.len())
            });
            if rings.pending() >= 32 {
                kick(&mut rings)?;
            }
            sent += 1;
        }
        kick(&mut rings)?;
        std::thread::sleep(Duration::from_micros(500));
    }
    println!(
        "{} sent, {dropped} had no room, {:.0} a second",
        sent - dropped,
        (sent - dropped) as f64 / seconds
    );
    Ok(())
}

/// Sends what is filled; what cannot be sent now is sent by the next call.
fn kick(rings: &mut PacketRings) -> std::io::Result<()> {
    match rings.kick() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => Ok(()),
        result => result,
    }
}

/// The next SYN: a source outside of private and special networks, any port, any sequence number.
fn syn(seed: &mut u64, to: [u8; 6], from: [u8; 6], addr: Ipv4Addr, ports: (u16, u16)) -> Vec<u8> {
    let mut random = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    };
    let source = 0x1100_0000 + (random() as u32 % 0x6000_0000);
    let port = ports.0 + (random() % (u64::from(ports.1 - ports.0) + 1)) as u16;
    let numbers = random().to_be_bytes();
    let mut frame = Vec::with_capacity(54);
    frame.extend(to);
    frame.extend(from);
    frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(source.to_be_bytes());
    frame.extend(addr.octets());
    let sum = !checksum::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([numbers[0] | 0x80, numbers[1]]);
    frame.extend(port.to_be_bytes());
    frame.extend(&numbers[2..6]);
    frame.extend([0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = checksum::sum_pieces([&frame[26..34], &[0, 6, 0, 20]]);
    let sum = !checksum::add(pseudo, checksum::sum(&frame[34..]));
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    frame
}
