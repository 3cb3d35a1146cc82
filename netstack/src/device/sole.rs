//! Packet sockets hear an interface beside the kernel, which makes a packet of every frame that they hear,
//! looks for its route, finds none, and forgets it: of a SYN from a stranger that costs more than to hear it.
//! A host that forwards does worse: it looks for who has the address, and tells the sender that nobody does.
//!
//! So what is for addresses that are ours alone ends behind the packet sockets, by a program on the
//! interface's ingress hook. Fragments and whatever else is for them, too; ARP, what is for groups (so
//! neighbours that are looked for) and for link-local addresses, and frames with a VLAN tag remain the
//! kernel's as well.

use std::io;
use std::net::{IpAddr, UdpSocket};

use crate::sys::bpf::{IngressCode, IngressLink};
use crate::sys::link;
use crate::wire::ethernet;

/// More than that many addresses are not looked for.
const MAX_ADDRS: usize = 64;

/// Where in `struct __sk_buff`, the program's argument, the frame's type and its tag are told.
const PROTOCOL_AT: i16 = 16;
const VLAN_PRESENT_AT: i16 = 20;

/// The number of `bpf_skb_load_bytes`: a frame's first bytes need not lie in one piece.
const LOAD_BYTES: i32 = 26;

/// Where on the stack an address is, below `r10`.
const ADDR_AT: i16 = -16;

/// Asks whoever is next, and drops.
const NEXT: i32 = -1;
const DROP: i32 = 2;

/// As long as it lives, the kernel's own protocols do not see what is for the addresses that it was made for.
#[derive(Debug, Default)]
pub struct SoleHearer {
    link: Option<IngressLink>,
}

impl SoleHearer {
    /// For those of the addresses that the kernel does not have itself, 64 at most, on the interface of that
    /// index. Of none it does nothing.
    ///
    /// # Errors
    /// Needs `CAP_BPF` and `CAP_NET_ADMIN`; what the kernel says, which has the hook from Linux 6.6 on.
    pub fn new(interface: u32, addrs: &[IpAddr]) -> io::Result<SoleHearer> {
        if cfg!(target_endian = "big") {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let is_ours =
            |addr: &IpAddr| !addr.is_unspecified() && !addr.is_multicast() && !may_be_kernels(*addr);
        let ours: Vec<IpAddr> = addrs.iter().copied().filter(is_ours).take(MAX_ADDRS).collect();
        let link = match ours.is_empty() {
            true => None,
            false => Some(IngressCode::load(&program(&ours))?.attach(interface)?),
        };
        Ok(SoleHearer { link })
    }

    /// The same for the interface of that name; of a device with a VLAN it does nothing.
    pub(super) fn on(name: &str, has_vlan: bool, addrs: &[IpAddr]) -> io::Result<SoleHearer> {
        if has_vlan { Ok(SoleHearer::default()) } else { SoleHearer::new(link::get(name)?.index, addrs) }
    }

    /// Whether there was an address to do it for.
    pub fn is_attached(&self) -> bool {
        self.link.is_some()
    }
}

/// Whether the kernel may answer for `addr` as well: it lets sockets be bound to its own addresses, or to
/// any. Only one answer is a no: a link-local address is not bound without its interface, and there may be no
/// descriptor.
fn may_be_kernels(addr: IpAddr) -> bool {
    !UdpSocket::bind((addr, 0)).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Where a jump leads.
#[derive(Clone, Copy)]
enum To {
    Over(i16),
    Drop,
    End,
}

/// Instructions of eBPF (RFC 9669), little-endian.
#[derive(Default)]
struct Code {
    slots: Vec<[u8; 8]>,
    /// Jumps whose aim is not there yet.
    open: Vec<(usize, To)>,
}

impl Code {
    fn push(&mut self, opcode: u8, [to, from]: [u8; 2], offset: i16, immediate: i32) {
        let ([low, high], [a, b, c, d]) = (offset.to_le_bytes(), immediate.to_le_bytes());
        self.slots.push([opcode, from << 4 | to, low, high, a, b, c, d]);
    }

    /// `to = *(u32 *)(base + offset)`
    fn load32(&mut self, to: u8, base: u8, offset: i16) {
        self.push(0x61, [to, base], offset, 0);
    }

    /// A jump of that opcode, by a register and a number.
    fn jump(&mut self, opcode: u8, registers: [u8; 2], number: i32, to: To) {
        let offset = if let To::Over(slots) = to { slots } else { 0 };
        self.open.push((self.slots.len(), to));
        self.push(opcode, registers, offset, number);
    }

    /// So many bytes of the frame from there on to the stack; to the end if they are not there.
    fn fetch(&mut self, at: usize, bytes: usize) {
        self.push(0xbf, [1, 6], 0, 0);
        self.push(0xb7, [2, 0], 0, at as i32);
        self.push(0xbf, [3, 10], 0, 0);
        self.push(0x07, [3, 0], 0, i32::from(ADDR_AT));
        self.push(0xb7, [4, 0], 0, bytes as i32);
        self.push(0x85, [0, 0], 0, LOAD_BYTES);
        self.jump(NOT_NUMBER, [0, 0], 0, To::End);
    }

    /// What drops, and the end.
    fn finish(mut self) -> Vec<u8> {
        let drop_at = self.slots.len();
        for verdict in [DROP, NEXT] {
            self.push(0xb7, [0, 0], 0, verdict);
            self.push(0x95, [0, 0], 0, 0);
        }
        for (slot, to) in self.open {
            let aim = match to {
                To::Over(_) => continue,
                To::Drop => drop_at,
                To::End => drop_at + 2,
            };
            let offset = (aim - slot - 1) as i16;
            self.slots[slot][2..4].copy_from_slice(&offset.to_le_bytes());
        }
        self.slots.concat()
    }
}

/// Jumps: always; unless equal to a number in 64 bits, and in the lower 32, if equal or not.
const ALWAYS: u8 = 0x05;
const NOT_NUMBER: u8 = 0x55;
const NUMBER32: u8 = 0x16;
const NOT_NUMBER32: u8 = 0x56;

/// Drops what is for these addresses, at least one. `r6` keeps the argument, `r5` is what is compared.
fn program(addrs: &[IpAddr]) -> Vec<u8> {
    let (mut of_4, mut of_6) = (Vec::new(), Vec::new());
    for addr in addrs {
        match addr {
            IpAddr::V4(addr) => of_4.push(i32::from_le_bytes(addr.octets())),
            IpAddr::V6(addr) => of_6.push(addr.octets()),
        }
    }
    let mut code = Code::default();
    code.push(0xbf, [6, 1], 0, 0);
    code.load32(5, 6, VLAN_PRESENT_AT);
    code.jump(NOT_NUMBER, [5, 0], 0, To::End);
    code.load32(5, 6, PROTOCOL_AT);
    // Over what fetches and loads the address, the comparisons, and the jump behind them.
    code.jump(NOT_NUMBER, [5, 0], 0x0008, To::Over(9 + of_4.len() as i16));
    code.fetch(ethernet::HEADER_LEN + 16, 4);
    code.load32(5, 10, ADDR_AT);
    for addr in of_4 {
        code.jump(NUMBER32, [5, 0], addr, To::Drop);
    }
    code.jump(ALWAYS, [0, 0], 0, To::End);
    code.jump(NOT_NUMBER, [5, 0], 0xdd86, To::End);
    code.fetch(ethernet::HEADER_LEN + 24, 16);
    for addr in of_6 {
        for (word, bytes) in addr.as_chunks::<4>().0.iter().enumerate() {
            code.load32(5, 10, ADDR_AT + 4 * word as i16);
            // To the next address: two instructions for each word, and the jump behind them.
            let rest = 2 * (3 - word as i16) + 1;
            code.jump(NOT_NUMBER32, [5, 0], i32::from_le_bytes(*bytes), To::Over(rest));
        }
        code.jump(ALWAYS, [0, 0], 0, To::Drop);
    }
    code.jump(ALWAYS, [0, 0], 0, To::End);
    code.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program shall say, in plain words.
    fn is_for(frame: &[u8], addrs: &[IpAddr]) -> bool {
        addrs.iter().any(|addr| match addr {
            IpAddr::V4(addr) => {
                frame[12..14] == [8, 0] && frame.len() >= 34 && frame[30..34] == addr.octets()
            }
            IpAddr::V6(addr) => {
                frame[12..14] == [0x86, 0xdd] && frame.len() >= 54 && frame[38..54] == addr.octets()
            }
        })
    }

    /// Lists of addresses, and frames that are for one of them, for one with a bit turned, or for
    /// nobody; of all lengths from 14 bytes on.
    #[test]
    fn the_kernel_drops_what_is_ours_and_nothing_else() {
        let mut seed = 0x1234_5678_9abc_def1u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) as usize % below
        };
        let mut answers = [0; 2];
        for _ in 0..60 {
            let count = 1 + random(6);
            let addrs: Vec<IpAddr> = (0..count)
                .map(|_| match random(2) {
                    0 => std::array::from_fn::<u8, 4, _>(|_| random(256) as u8).into(),
                    _ => std::array::from_fn::<u8, 16, _>(|_| random(256) as u8).into(),
                })
                .collect();
            let code = match IngressCode::load(&program(&addrs)) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
                    return println!("skipped: no programs here ({error})");
                }
                result => result.expect("the verifier takes it"),
            };
            for _ in 0..100 {
                let mut frame: Vec<u8> = (0..100).map(|_| random(256) as u8).collect();
                let kinds = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0]];
                frame[12..14].copy_from_slice(&kinds[random(4)]);
                if let Some(addr) = addrs.get(random(8)) {
                    let (kind, at, octets) = match addr {
                        IpAddr::V4(addr) => ([8, 0], 30, addr.octets().to_vec()),
                        IpAddr::V6(addr) => ([0x86, 0xdd], 38, addr.octets().to_vec()),
                    };
                    frame[12..14].copy_from_slice(&kind);
                    frame[at..at + octets.len()].copy_from_slice(&octets);
                    if random(4) == 0 {
                        frame[at + random(octets.len())] ^= 1 << random(8);
                    }
                }
                frame.truncate(if random(3) == 0 { 14 + random(86) } else { 100 });
                let shall = is_for(&frame, &addrs);
                let said = match code.test(&frame) {
                    // Headers that are cut short the kernel does not run at all.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) && frame.len() < 54 => continue,
                    result => result.expect("run"),
                };
                assert_eq!(said, if shall { DROP } else { NEXT }, "{addrs:?} {frame:02x?}");
                answers[usize::from(shall)] += 1;
            }
        }
        assert!(answers.iter().all(|count| *count > 500), "{answers:?}");
    }

    #[test]
    fn addresses_of_the_kernel_are_left_to_it() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        let link_local: IpAddr = "fe80::1".parse().unwrap();
        let nothing = SoleHearer::new(0, &[loopback, link_local, [0; 4].into(), [224, 0, 0, 1].into()]);
        assert!(!nothing.expect("nothing to do").is_attached());
    }
}
