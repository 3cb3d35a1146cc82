//! ICMP in: echo (RFC 1122 section 3.2.2.6), and what routers report of our own packets: a path with a
//! smaller MTU (RFC 1191), and destinations that cannot be reached (RFC 5461).
//!
//! A report is believed only if it quotes a segment that is in flight (RFC 5927 section 4.1): nobody off the
//! path can forge one by guessing ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use runtime::time::Instant;

use super::queue::{Control, Icmp};
use super::udp::quoted_ports;
use super::{Application, Stack};
use crate::tcp::CloseReason;
use crate::tcp::seq::SeqNumber;
use crate::tcp::state::{Disposition, State};
use crate::tuple::FourTuple;
use crate::wire::{Protocol, icmpv4, ipv4};

/// Codes of destination unreachable that say so for good: protocol, port, and the administrator's ban.
const HARD: [u8; 3] = [2, 3, 13];

impl Stack {
    /// Whether the message was of use.
    pub(super) fn icmp_input<A: Application>(
        &mut self,
        now: Instant,
        (from, own): (Ipv4Addr, Ipv4Addr),
        bytes: &[u8],
        app: &mut A,
    ) -> bool {
        let Ok(packet) = icmpv4::Packet::new_checked(bytes) else { return false };
        match icmpv4::Repr::parse(&packet) {
            Ok(icmpv4::Repr::EchoRequest { ident, sequence, data }) => {
                self.send_icmp_from(Some(own), from, &icmpv4::Repr::EchoReply { ident, sequence, data });
                true
            }
            Ok(icmpv4::Repr::DestinationUnreachable { code, next_hop_mtu, original }) => {
                self.report_input(now, code, next_hop_mtu, original, app)
            }
            _ => false,
        }
    }

    /// A datagram's time is over, and it is not whole (RFC 1122 section 3.3.2: tell its sender, if its
    /// beginning has come). One a datagram that was waited for: no more than these are, whoever floods us.
    pub(super) fn reassembly_timed_out(&mut self, incomplete: Option<(IpAddr, [u8; 28])>) {
        self.stats.reassembly_timeouts += 1;
        if let Some((IpAddr::V4(from), quote)) = incomplete {
            let code = icmpv4::CODE_REASSEMBLY_TIME;
            self.send_icmp(from, &icmpv4::Repr::TimeExceeded { code, original: &quote });
        }
    }

    pub(super) fn send_icmp(&mut self, to: Ipv4Addr, message: &icmpv4::Repr<'_>) {
        self.send_icmp_from(None, to, message);
    }

    pub(super) fn send_icmp_from(
        &mut self,
        from: Option<Ipv4Addr>,
        to: Ipv4Addr,
        message: &icmpv4::Repr<'_>,
    ) {
        let mut bytes = vec![0; message.buffer_len()].into_boxed_slice();
        message.emit(&mut icmpv4::Packet::new_unchecked(&mut bytes[..]));
        self.queues.push(Control::Icmp(Icmp { from, ..Icmp::new(to, bytes) }));
    }

    fn report_input<A: Application>(
        &mut self,
        now: Instant,
        code: u8,
        next_hop_mtu: u16,
        original: &[u8],
        app: &mut A,
    ) -> bool {
        if let Some((from, to)) = self.quoted_datagram(original) {
            return HARD.contains(&code) && self.datagram_reported(now, from, to, app);
        }
        let Some((tuple, seq)) = self.quoted_segment(original) else { return false };
        let mtu = (code == icmpv4::CODE_FRAGMENTATION_NEEDED).then_some(next_hop_mtu);
        self.path_reported(now, tuple, seq, mtu, HARD.contains(&code), app)
    }

    /// A router reports of our segment at `seq`: it was longer than `mtu`, or does not get through; for good,
    /// if `is_hard`.
    pub(super) fn path_reported<A: Application>(
        &mut self,
        now: Instant,
        tuple: FourTuple,
        seq: SeqNumber,
        mtu: Option<u16>,
        is_hard: bool,
        app: &mut A,
    ) -> bool {
        let Some(&key) = self.demux.get(&tuple) else { return false };
        let Some((pcb, mut stream)) = app.connection(key) else { return false };
        if pcb.tuple != tuple || !seq.in_window(pcb.snd.una, (pcb.snd.max - pcb.snd.una).max(1)) {
            return false;
        }
        let disposition = if let Some(mtu) = mtu {
            if !pcb.path_mtu_is(now, mtu, &self.tcp) {
                return false;
            }
            Disposition::Continue
        } else if matches!(pcb.state, State::SynSent(_)) && is_hard {
            Disposition::Closed(CloseReason::Unreachable)
        } else {
            // Soft, or for a connection that stands: it may pass (RFC 1122 section 4.2.3.9).
            return false;
        };
        let closed = self.settle(now, key, pcb, &mut stream, disposition);
        drop(stream);
        if let Some(reason) = closed {
            app.closed(now, key, reason);
        }
        true
    }

    /// From where to whom a quoted datagram of ours went.
    fn quoted_datagram(&self, original: &[u8]) -> Option<((IpAddr, u16), SocketAddr)> {
        let packet = ipv4::Packet::new_unchecked(original.get(..ipv4::HEADER_LEN)?);
        let is_ours = packet.version() == 4 && self.routes.is_ours(packet.src_addr());
        let (src, dst) = quoted_ports(original.get(packet.header_len().max(ipv4::HEADER_LEN)..)?)?;
        let to = SocketAddr::new(packet.dst_addr().into(), dst);
        let from = (packet.src_addr().into(), src);
        (is_ours && packet.protocol() == Protocol::Udp).then_some((from, to))
    }

    /// The socket pair and sequence number of a segment of ours that a router quotes: an IPv4 header and at
    /// least eight bytes. The quoted packet is cut short, so it is no checked one.
    fn quoted_segment(&self, original: &[u8]) -> Option<(FourTuple, SeqNumber)> {
        if original.len() < ipv4::HEADER_LEN {
            return None;
        }
        let packet = ipv4::Packet::new_unchecked(original);
        let header_len = packet.header_len();
        if packet.version() != 4
            || header_len < ipv4::HEADER_LEN
            || packet.protocol() != Protocol::Tcp
            || !self.routes.is_ours(packet.src_addr())
        {
            return None;
        }
        let tcp: &[u8; 8] = original.get(header_len..header_len + 8)?.try_into().ok()?;
        let tuple = FourTuple::ipv4(
            SocketAddrV4::new(packet.src_addr(), u16::from_be_bytes([tcp[0], tcp[1]])),
            SocketAddrV4::new(packet.dst_addr(), u16::from_be_bytes([tcp[2], tcp[3]])),
        );
        Some((tuple, SeqNumber(u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]))))
    }
}
