//! Interfaces: what `ip link`, `ip addr`, `ip route` and `ethtool -K` do, by rtnetlink (Linux
//! `rtnetlink(7)`).
//!
//! A small client: one request, one acknowledgment, on a socket of its own. Every call acts in the calling
//! thread's network namespace.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

use super::tun::{MAX_NAME_LEN, interface_request};
use crate::wire::EthernetAddress;

/// What the kernel says of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in the namespace.
    pub index: u32,
    /// Hardware address; `None` for interfaces without (or with another kind).
    pub hardware_addr: Option<EthernetAddress>,
    /// Longest packet, in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub is_up: bool,
}

/// Looks an interface up.
///
/// # Errors
/// `ENODEV` if there is none of that name.
pub fn get(name: &str) -> io::Result<Link> {
    let mut request = Request::new(libc::RTM_GETLINK, 0);
    request.link_header(0, 0, 0);
    request.name_attribute(IFLA_IFNAME, name)?;
    let reply = request.send()?.ok_or(io::ErrorKind::InvalidData)?;
    parse_link(&reply).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Creates a pair of virtual Ethernet interfaces, each the other's cable end. Both are down.
///
/// # Errors
/// `EEXIST` if a name is taken; `EPERM` without `CAP_NET_ADMIN`.
pub fn create_veth(name: &str, peer: &str) -> io::Result<()> {
    create_veth_with_queues(name, peer, 1)
}

/// The same with so many queues in either direction, at both ends.
///
/// # Errors
/// As [`create_veth`].
pub fn create_veth_with_queues(name: &str, peer: &str, queues: u32) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_NEWLINK, (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16);
    request.link_header(0, 0, 0);
    request.name_attribute(IFLA_IFNAME, name)?;
    request.attribute(IFLA_NUM_TX_QUEUES, &queues.to_ne_bytes());
    request.attribute(IFLA_NUM_RX_QUEUES, &queues.to_ne_bytes());
    let info = request.begin(IFLA_LINKINFO);
    request.attribute(IFLA_INFO_KIND, b"veth");
    let data = request.begin(IFLA_INFO_DATA);
    let peer_info = request.begin(VETH_INFO_PEER);
    request.link_header(0, 0, 0);
    request.name_attribute(IFLA_IFNAME, peer)?;
    request.attribute(IFLA_NUM_TX_QUEUES, &queues.to_ne_bytes());
    request.attribute(IFLA_NUM_RX_QUEUES, &queues.to_ne_bytes());
    request.end(peer_info);
    request.end(data);
    request.end(info);
    request.send().map(drop)
}

/// Deletes an interface (a veth takes its peer along).
///
/// # Errors
/// `ENODEV`, `EPERM`.
pub fn delete(name: &str) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_DELLINK, 0);
    request.link_header(get(name)?.index, 0, 0);
    request.send().map(drop)
}

/// Sets an interface up.
///
/// # Errors
/// `ENODEV`, `EPERM`.
pub fn set_up(name: &str) -> io::Result<()> {
    let up = libc::IFF_UP as u32;
    let mut request = Request::new(libc::RTM_NEWLINK, 0);
    request.link_header(get(name)?.index, up, up);
    request.send().map(drop)
}

/// Sets the longest packet, in bytes.
///
/// # Errors
/// `ENODEV`, `EPERM`, `EINVAL` outside of what the device can do.
pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_NEWLINK, 0);
    request.link_header(get(name)?.index, 0, 0);
    request.attribute(IFLA_MTU, &mtu.to_ne_bytes());
    request.send().map(drop)
}

/// Sets the hardware address.
///
/// # Errors
/// `ENODEV`, `EPERM`, `EADDRNOTAVAIL` for an address that no station may have.
pub fn set_hardware_addr(name: &str, address: EthernetAddress) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_NEWLINK, 0);
    request.link_header(get(name)?.index, 0, 0);
    request.attribute(IFLA_ADDRESS, &address.0);
    request.send().map(drop)
}

/// Moves an interface into another network namespace, where it is down and without addresses.
///
/// # Errors
/// `ENODEV`, `EPERM`, `EEXIST` if the name is taken there.
pub fn move_to(name: &str, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_NEWLINK, 0);
    request.link_header(get(name)?.index, 0, 0);
    request.attribute(IFLA_NET_NS_FD, &(namespace.as_raw_fd() as u32).to_ne_bytes());
    request.send().map(drop)
}

/// Gives an interface an IPv4 address of the kernel's. On an interface that is up this makes the prefix
/// reachable.
///
/// # Errors
/// `ENODEV`, `EPERM`, `EEXIST`; [`io::ErrorKind::InvalidInput`] for a prefix over 32 bits.
pub fn add_address(name: &str, address: Ipv4Addr, prefix_len: u8) -> io::Result<()> {
    if prefix_len > 32 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "prefix of more than 32 bits"));
    }
    let index = get(name)?.index;
    let mut request = Request::new(libc::RTM_NEWADDR, (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16);
    // struct ifaddrmsg { u8 family, prefixlen, flags, scope; u32 index; }
    request.bytes.extend([libc::AF_INET as u8, prefix_len, 0, 0]);
    request.bytes.extend(index.to_ne_bytes());
    request.attribute(IFA_LOCAL, &address.octets());
    request.attribute(IFA_ADDRESS, &address.octets());
    request.send().map(drop)
}

/// Switches the offloads of what the *kernel* sends through the interface: checksums, TCP segmentation,
/// generic segmentation and receive merging. A packet socket at the far end of a veth pair sees finished
/// checksums and wire-sized frames only when this is off.
///
/// # Errors
/// `ENODEV`, `EPERM`, `EOPNOTSUPP`.
pub fn set_tx_offload(name: &str, on: bool) -> io::Result<()> {
    // linux/ethtool.h; segmentation needs checksums, so they go first when on and last when off.
    const ETHTOOL_STXCSUM: u32 = 0x17;
    const ETHTOOL_STSO: u32 = 0x1f;
    const ETHTOOL_SGSO: u32 = 0x24;
    const ETHTOOL_SGRO: u32 = 0x2c;
    let mut commands = [ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO];
    if !on {
        commands.reverse();
    }
    for command in commands {
        // struct ethtool_value { u32 cmd, data; }
        ask_ethtool(name, &mut [command, u32::from(on)])?;
    }
    Ok(())
}

/// What an interface does for who sends through it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxFeatures {
    /// It completes checksums.
    pub checksum: bool,
    /// It cuts TCP super-segments.
    pub segmentation: bool,
    /// It cuts several datagrams of UDP under one header, and packet sockets know how to ask for it.
    pub datagrams: bool,
}

/// What the interface does for who sends through it, as `ethtool -k` tells and `ethtool -K` changes.
///
/// # Errors
/// `ENODEV` if there is none of that name.
pub fn tx_features(name: &str) -> io::Result<TxFeatures> {
    const ETHTOOL_GTXCSUM: u32 = 0x16;
    const ETHTOOL_GTSO: u32 = 0x1e;
    let get = |command| -> io::Result<bool> {
        // struct ethtool_value { u32 cmd, data; }
        let mut value = [command, 0];
        ask_ethtool(name, &mut value)?;
        Ok(value[1] != 0)
    };
    Ok(TxFeatures {
        checksum: get(ETHTOOL_GTXCSUM)?,
        segmentation: get(ETHTOOL_GTSO)?,
        datagrams: headers_tell_of_datagrams() && cuts_datagrams(name)?,
    })
}

/// Whether the kernel knows virtio-net headers of UDP super-datagrams: from 6.2 on. Earlier ones refuse the
/// frame.
fn headers_tell_of_datagrams() -> bool {
    static KNOWS: OnceLock<bool> = OnceLock::new();
    *KNOWS.get_or_init(|| {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|text| text.parse().ok());
        (numbers.next(), numbers.next()) >= (Some(6u32), Some(2u32))
    })
}

/// Names of features have so many bytes, zeros included (`ETH_GSTRING_LEN`).
const FEATURE_NAME_LEN: usize = 32;

/// No kernel has as many features.
const MAX_FEATURES: usize = 256;

/// Whether `tx-udp-segmentation` is on.
fn cuts_datagrams(name: &str) -> io::Result<bool> {
    const ETHTOOL_GFEATURES: u32 = 0x3a;
    // Which one it is, is the kernel's to say, and the same for all interfaces.
    static NUMBER: OnceLock<Option<usize>> = OnceLock::new();
    let number = match NUMBER.get() {
        Some(number) => *number,
        None => {
            let number = feature_number(name, "tx-udp-segmentation")?;
            *NUMBER.get_or_init(|| number)
        }
    };
    let Some(number) = number else { return Ok(false) };
    // struct ethtool_gfeatures { u32 cmd, size; struct { u32 available, requested, active, never_changed; }
    // features[]; }
    let mut words = [0; 2 + 4 * MAX_FEATURES / 32];
    words[..2].copy_from_slice(&[ETHTOOL_GFEATURES, (MAX_FEATURES / 32) as u32]);
    ask_ethtool(name, &mut words)?;
    Ok(words[2 + 4 * (number / 32) + 2] >> (number % 32) & 1 != 0)
}

/// Which of the features that the kernel knows has that name.
fn feature_number(name: &str, feature: &str) -> io::Result<Option<usize>> {
    const ETHTOOL_GSSET_INFO: u32 = 0x37;
    const ETHTOOL_GSTRINGS: u32 = 0x1b;
    const ETH_SS_FEATURES: u32 = 4;
    // struct ethtool_sset_info { u32 cmd, reserved; u64 sset_mask; u32 data[]; }
    let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
    let half = |at: usize| u32::from_ne_bytes([mask[at], mask[at + 1], mask[at + 2], mask[at + 3]]);
    let mut count = [ETHTOOL_GSSET_INFO, 0, half(0), half(4), 0];
    ask_ethtool(name, &mut count)?;
    let count = count[4] as usize;
    if count > MAX_FEATURES {
        return Ok(None);
    }
    // struct ethtool_gstrings { u32 cmd, string_set, len; u8 data[]; }
    let mut words = vec![0u32; 3 + count * FEATURE_NAME_LEN / 4];
    words[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
    ask_ethtool(name, &mut words)?;
    let names: Vec<u8> = words[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let is_it = |bytes: &[u8]| {
        bytes.strip_prefix(feature.as_bytes()).is_some_and(|rest| rest.iter().all(|&byte| byte == 0))
    };
    Ok(names.chunks_exact(FEATURE_NAME_LEN).position(is_it))
}

/// The name of the interface's driver, as `ethtool -i` tells.
///
/// # Errors
/// `ENODEV` if there is none of that name; `EOPNOTSUPP` if it has none.
pub fn driver(name: &str) -> io::Result<String> {
    const ETHTOOL_GDRVINFO: u32 = 0x03;
    // struct ethtool_drvinfo { u32 cmd; char driver[32], version[32], ..; } of 196 bytes.
    let mut info = [0u32; 49];
    info[0] = ETHTOOL_GDRVINFO;
    ask_ethtool(name, &mut info)?;
    let driver = info[1..9].iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0);
    Ok(String::from_utf8_lossy(&driver.collect::<Vec<u8>>()).into_owned())
}

/// A command of ethtool's, which is the first word, and its answer.
fn ask_ethtool(name: &str, words: &mut [u32]) -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut request = interface_request(name)?;
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: SIOCETHTOOL reads one `ifreq` and reads and writes the words of the command's structure, as
    // many as the callers here give, that its data pointer leads to; both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Queues that the interface receives by, as `ethtool -l` tells and `ethtool -L` changes; one where the
/// driver tells none.
///
/// # Errors
/// `ENODEV` if there is none of that name.
pub fn receive_queues(name: &str) -> io::Result<u32> {
    const ETHTOOL_GCHANNELS: u32 = 0x3c;
    // struct ethtool_channels { u32 cmd, max_rx, max_tx, max_other, max_combined, rx, tx, other, combined; }
    let mut channels = [0u32; 9];
    channels[0] = ETHTOOL_GCHANNELS;
    match ask_ethtool(name, &mut channels) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(1),
        result => result?,
    }
    Ok((channels[5] + channels[8]).max(1))
}

// linux/if_link.h, linux/if_addr.h, linux/veth.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

const MESSAGE_HEADER_LEN: usize = 16;
const LINK_HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;

/// A netlink message in the making: `struct nlmsghdr`, a family header, attributes, all in the machine's byte
/// order and aligned to four bytes.
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(message_type: u16, flags: u16) -> Request {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(0u32.to_ne_bytes()); // length, set when sent
        bytes.extend(message_type.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes()); // sequence number
        bytes.extend(0u32.to_ne_bytes()); // port: the kernel fills it in
        Request { bytes }
    }

    /// `struct ifinfomsg`.
    fn link_header(&mut self, index: u32, flags: u32, change: u32) {
        self.bytes.extend([libc::AF_UNSPEC as u8, 0, 0, 0]);
        self.bytes.extend(index.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(change.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, data: &[u8]) {
        let start = self.begin(kind);
        self.bytes.extend(data);
        self.end(start);
    }

    fn name_attribute(&mut self, kind: u16, name: &str) -> io::Result<()> {
        if name.is_empty() || name.len() > MAX_NAME_LEN || name.bytes().any(|b| b == 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("bad interface name {name:?}")));
        }
        let mut data = name.as_bytes().to_vec();
        data.push(0);
        self.attribute(kind, &data);
        Ok(())
    }

    /// Begins an attribute that holds others.
    fn begin(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend(0u16.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        start
    }

    fn end(&mut self, start: usize) {
        let len = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Sends the message and waits for the acknowledgment. Gives the body of the message that came before it,
    /// if any.
    fn send(mut self) -> io::Result<Option<Vec<u8>>> {
        let len = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        // Protocol 0 is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        sendto(&socket, &self.bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = vec![0u8; 32 << 10];
        let mut body = None;
        loop {
            let (got, _) = recv(socket.as_fd(), buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = &buffer[..got];
            while let Some((message_type, message, next)) = split_message(rest) {
                rest = next;
                if i32::from(message_type) == libc::NLMSG_ERROR {
                    // struct nlmsgerr begins with minus the error number; zero is an acknowledgment.
                    let code = message.first_chunk::<4>().map(|b| i32::from_ne_bytes(*b));
                    return match code {
                        Some(0) => Ok(body),
                        Some(code) => Err(io::Error::from_raw_os_error(-code)),
                        None => Err(io::ErrorKind::InvalidData.into()),
                    };
                }
                body = Some(message.to_vec());
            }
        }
    }
}

/// The first message of a datagram: its type, its body, and what follows.
fn split_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(*bytes.first_chunk::<4>()?) as usize;
    let body = bytes.get(MESSAGE_HEADER_LEN..len)?;
    let message_type = u16::from_ne_bytes([bytes[4], bytes[5]]);
    Some((message_type, body, bytes.get(len.next_multiple_of(4)..).unwrap_or(&[])))
}

fn parse_link(message: &[u8]) -> Option<Link> {
    let header = message.first_chunk::<LINK_HEADER_LEN>()?;
    let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let mut link =
        Link { index: word(4), hardware_addr: None, mtu: 0, is_up: word(8) & libc::IFF_UP as u32 != 0 };
    let mut rest = &message[LINK_HEADER_LEN..];
    while let Some(head) = rest.first_chunk::<ATTRIBUTE_HEADER_LEN>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let Some(data) = rest.get(ATTRIBUTE_HEADER_LEN..len) else { break };
        match u16::from_ne_bytes([head[2], head[3]]) {
            IFLA_ADDRESS => link.hardware_addr = data.try_into().ok().map(EthernetAddress),
            IFLA_MTU => link.mtu = u32::from_ne_bytes(data.try_into().ok()?),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Some(link)
}
