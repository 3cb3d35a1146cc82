//! Devices for the stack, put together from options: an interface, and around it an emulated adapter, faults,
//! a tracer.

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufWriter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use netstack::device::Device;
use netstack::device::fault::{FaultDevice, Faults};
use netstack::device::layout::LayoutDevice;
use netstack::device::packet::PacketDevice;
use netstack::device::pcap::{self, PcapWriter, TraceDevice};
use netstack::device::ring::RingDevice;
use netstack::device::tap::TapDevice;
use netstack::device::vlan::VlanId;
use netstack::device::xdp::XdpDevice;
use netstack::handler::NamedHandler;
use netstack::handler::xdp::{XdpError, XdpFilter, XdpHook};
use netstack::iface::flow_share::FlowShare;
use netstack::sys::link;
use pipe_lib::{CompileOptions, Library};
use runtime::transfer::{Style, Transfers};

/// Any device.
pub type AnyDevice = Box<dyn Device + Send>;

/// What carries the frames.
#[derive(Clone, Debug)]
pub enum Interface {
    /// A TAP device, made if there is none of that name.
    Tap {
        /// Its name; the kernel chooses one otherwise.
        name: Option<String>,
        /// The kernel's end gets this address, and is set up.
        host_addr: Option<(Ipv4Addr, u8)>,
        /// Longest packet in bytes; as the interface has it otherwise.
        mtu: Option<u16>,
    },
    /// An interface of the machine, by AF_PACKET rings, with its offloads.
    Ring {
        /// Its name.
        name: String,
    },
    /// An interface of the machine, by AF_XDP: what is for these addresses; the kernel keeps the rest.
    Xdp {
        /// Its name.
        name: String,
        /// Ours in IPv4.
        addr: Ipv4Addr,
        /// And in IPv6.
        addr6: Option<Ipv6Addr>,
        /// What sees the frames for them before us, in the same program.
        handlers: Vec<NamedHandler>,
    },
    /// An interface of the machine, by AF_PACKET, a call a frame.
    Packet {
        /// Its name.
        name: String,
    },
}

/// Which device, and what stands around it.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// What carries the frames.
    pub interface: Interface,
    /// Ours for good: where the kernel hears them as well, by [`Interface::Ring`] and [`Interface::Packet`],
    /// and does not have them itself, it is kept from what is for them.
    pub addrs: Vec<IpAddr>,
    /// The VLAN that frames are of; not for [`Interface::Xdp`], whose program knows no tags.
    pub vlan: Option<VlanId>,
    /// An emulated adapter with the buffer layout of that name.
    pub nic: Option<String>,
    /// Let the interface sum and cut, where it can.
    pub offload: bool,
    /// Copy and sum in one loop, not in two passes.
    pub fused_loops: bool,
    /// What goes wrong on the way.
    pub faults: Option<FaultOptions>,
    /// Write every frame to this file.
    pub pcap: Option<PathBuf>,
}

impl DeviceOptions {
    /// The interface as it is.
    pub fn new(interface: Interface) -> DeviceOptions {
        DeviceOptions {
            interface,
            addrs: Vec::new(),
            vlan: None,
            nic: None,
            offload: true,
            fused_loops: true,
            faults: None,
            pcap: None,
        }
    }
}

/// Why there is no device.
#[derive(Debug)]
pub enum DeviceError {
    /// The interface cannot be opened.
    Open(String, io::Error),
    /// Its kernel's end cannot be given an address, or set up.
    SetUp(String, io::Error),
    /// No XDP program gives us its frames.
    Steer(String, XdpError),
    /// It does not take packets of that many bytes.
    Mtu(String, u16, io::Error),
    /// The TAP device is there, and was made for one thread.
    OneQueue(String),
    /// The kernel does not share what arrives among several threads.
    Share(String, io::Error),
    /// No layout of that name; the names that there are.
    NoLayout(String, Vec<String>),
    /// No loop for that adapter, or none at all.
    Transfer(runtime::transfer::TransferError),
    /// The trace cannot be written.
    Trace(PathBuf, io::Error),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceError::Open(name, error) => write!(f, "cannot open {name}: {error}"),
            DeviceError::SetUp(name, error) => write!(f, "cannot set {name} up: {error}"),
            DeviceError::Steer(name, error) => match error {
                XdpError::Kernel(cause) if cause.raw_os_error() == Some(libc::EPERM) => write!(
                    f,
                    "no right to an XDP program on {name}: run as root, or with CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF; \
                     --net ring takes CAP_NET_RAW only"
                ),
                error => write!(f, "no XDP program on {name}: {error}"),
            },
            DeviceError::Mtu(name, mtu, error) => write!(f, "cannot give {name} an MTU of {mtu}: {error}"),
            DeviceError::OneQueue(name) => write!(
                f,
                "{name} was made with one queue: make it with `ip tuntap add {name} mode tap multi_queue vnet_hdr`, or let it be \
                 made here, or leave --workers (of `swamp`: --threads) out"
            ),
            DeviceError::Share(name, error) => {
                write!(f, "{name}'s frames cannot be shared by threads: {error}")
            }
            DeviceError::NoLayout(name, names) => {
                write!(f, "there is no layout `{name}`; there are {}", names.join(", "))
            }
            DeviceError::Transfer(error) => error.fmt(f),
            DeviceError::Trace(path, error) => write!(f, "cannot write {}: {error}", path.display()),
        }
    }
}

impl core::error::Error for DeviceError {}

/// A device, and what else is known of it.
#[derive(Debug)]
pub struct OpenDevice {
    /// The device.
    pub device: AnyDevice,
    /// The interface's name.
    pub name: String,
    /// The program that gives it its frames, of [`Interface::Xdp`]. The device holds it, too.
    pub filter: Option<Arc<XdpFilter>>,
}

/// Opens the device that `options` describe.
///
/// # Errors
/// See [`DeviceError`].
pub fn open(options: &DeviceOptions) -> Result<OpenDevice, DeviceError> {
    let transfers = &mut transfers(options);
    let device = open_interface(options, transfers, None)?;
    around(device, options, transfers)
}

/// The same for several stacks with one address: a device each, in their order.
///
/// # Errors
/// See [`DeviceError`].
pub fn open_shared(options: &DeviceOptions, shares: &[FlowShare]) -> Result<Vec<OpenDevice>, DeviceError> {
    let transfers = &mut transfers(options);
    let mut opened: Vec<OpenDevice> = Vec::new();
    // Processes of other containers may have the same number.
    let number = RandomState::new().hash_one(std::process::id()) as u16;
    for share in shares {
        let first = opened.first();
        let place = Place { share, number, first };
        let device = open_interface(options, transfers, Some(place))?;
        opened.push(device);
    }
    opened.into_iter().map(|device| around(device, options, transfers)).collect()
}

/// One of several devices on an interface.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    share: &'a FlowShare,
    /// The number of their group.
    number: u16,
    first: Option<&'a OpenDevice>,
}

fn transfers(options: &DeviceOptions) -> Transfers {
    let style = if options.fused_loops { Style::Fused } else { Style::Separate };
    Transfers::new(CompileOptions::default(), style)
}

/// Puts around an interface what `options` want there.
fn around(
    opened: OpenDevice,
    options: &DeviceOptions,
    transfers: &mut Transfers,
) -> Result<OpenDevice, DeviceError> {
    let OpenDevice { mut device, name, filter } = opened;
    if let Some(nic) = &options.nic {
        let library = Library::standard();
        let Some(layout) = library.layout(nic) else {
            let names = library.layouts().map(|layout| layout.name.to_string()).collect();
            return Err(DeviceError::NoLayout(nic.clone(), names));
        };
        device = Box::new(LayoutDevice::new(device, layout, transfers).map_err(DeviceError::Transfer)?);
    }
    if let Some(faults) = &options.faults {
        device = Box::new(FaultDevice::new(device, faults.faults, faults.seed));
    }
    if let Some(path) = &options.pcap {
        let trace_error = |error| DeviceError::Trace(path.clone(), error);
        let file = BufWriter::new(File::create(path).map_err(trace_error)?);
        // The loop's clock starts when the loop is made, which is next.
        let writer = PcapWriter::new(file, pcap::DEFAULT_SNAPLEN, SystemTime::now()).map_err(trace_error)?;
        device = Box::new(TraceDevice::new(device, writer));
    }
    Ok(OpenDevice { device, name, filter })
}

fn open_interface(
    options: &DeviceOptions,
    transfers: &mut Transfers,
    place: Option<Place<'_>>,
) -> Result<OpenDevice, DeviceError> {
    let transfer = transfers.checksum(None).map_err(DeviceError::Transfer)?;
    let is_first = place.is_none_or(|place| place.first.is_none());
    match &options.interface {
        Interface::Tap { name, host_addr, mtu } => {
            let offload = options.offload && options.nic.is_none();
            let shown = name.as_deref().unwrap_or("a TAP device").to_owned();
            let open_error = |error: io::Error| match error.raw_os_error() {
                Some(libc::EINVAL) if place.is_some() => DeviceError::OneQueue(shown),
                _ => DeviceError::Open(shown, error),
            };
            let mut tap = match place {
                None => TapDevice::open(name.as_deref(), offload),
                Some(Place { first: None, .. }) => TapDevice::open_queue(name.as_deref(), offload, None),
                Some(Place { first: Some(first), .. }) => {
                    let hardware_addr = first.device.hardware_addr();
                    TapDevice::open_queue(Some(&first.name), offload, Some(hardware_addr))
                }
            }
            .map_err(open_error)?;
            tap.set_transfer(transfer);
            tap.set_vlan(options.vlan);
            let name = tap.name().to_owned();
            if place.is_some_and(|place| place.first.is_some()) {
                return Ok(OpenDevice { device: Box::new(tap), name, filter: None });
            }
            let set_up_error = |error| DeviceError::SetUp(name.clone(), error);
            if let Some(mtu) = *mtu {
                tap.set_mtu(mtu).map_err(|error| DeviceError::Mtu(name.clone(), mtu, error))?;
            }
            if let Some((addr, prefix_len)) = host_addr {
                match link::add_address(&name, *addr, *prefix_len) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    result => result.map_err(set_up_error)?,
                }
                link::set_up(&name).map_err(set_up_error)?;
            }
            Ok(OpenDevice { device: Box::new(tap), name, filter: None })
        }
        Interface::Ring { name } => {
            let offload = options.offload && options.nic.is_none();
            let mut ring = RingDevice::open_in(name, offload, options.vlan)
                .map_err(|error| DeviceError::Open(name.clone(), error))?;
            ring.set_transfer(transfer);
            if let Some(Place { share, number, .. }) = place {
                ring.join_group(number, share).map_err(|error| DeviceError::Share(name.clone(), error))?;
            }
            if is_first {
                tell_sole(name, ring.hear_alone(&options.addrs));
            }
            Ok(OpenDevice { device: Box::new(ring), name: name.clone(), filter: None })
        }
        Interface::Xdp { name, addr, addr6, handlers } => {
            let open_error = |error| DeviceError::Open(name.clone(), error);
            let steer_error = |error| DeviceError::Steer(name.clone(), error);
            let filter = match place.and_then(|place| place.first?.filter.as_ref()) {
                Some(filter) => Arc::clone(filter),
                None => {
                    let queues = link::receive_queues(name).map_err(open_error)?;
                    let filter = XdpFilter::to_sockets(*addr, *addr6, handlers, queues);
                    let mut filter = filter.map_err(steer_error)?;
                    filter.attach_first(name).map_err(steer_error)?;
                    Arc::new(filter)
                }
            };
            let (index, parts) =
                place.map_or((0, 1), |place| (place.share.index() as usize, place.share.count() as usize));
            let xdp = XdpDevice::open_part(name, Arc::clone(&filter), index, parts);
            let mut xdp = xdp.map_err(open_error)?;
            xdp.set_transfer(transfer);
            tracing::info!(
                "{name}: the XDP program runs {}, {}, by {} queue{}",
                if filter.hook() == Some(XdpHook::Driver) { "in the driver" } else { "behind the driver" },
                if xdp.is_zero_copy() { "frames stay where they lie" } else { "the kernel copies frames" },
                xdp.queues(),
                if xdp.queues() == 1 { "" } else { "s" },
            );
            if xdp.is_cut_short() {
                tracing::warn!(
                    "{name}: packets have {} bytes, fewer than the interface's: frames of several buffers take \
                     Linux 6.6, and no handler that answers",
                    xdp.mtu()
                );
            }
            Ok(OpenDevice { device: Box::new(xdp), name: name.clone(), filter: Some(filter) })
        }
        Interface::Packet { name } => {
            let mut packet = PacketDevice::open_in(name, options.vlan)
                .map_err(|error| DeviceError::Open(name.clone(), error))?;
            packet.set_transfer(transfer);
            if let Some(Place { share, number, .. }) = place {
                packet.join_group(number, share).map_err(|error| DeviceError::Share(name.clone(), error))?;
            }
            if is_first {
                tell_sole(name, packet.hear_alone(&options.addrs));
            }
            Ok(OpenDevice { device: Box::new(packet), name: name.clone(), filter: None })
        }
    }
}

/// It costs time alone if the kernel looks at what is ours, too; where it forwards it may send it elsewhere.
fn tell_sole(name: &str, sole: io::Result<bool>) {
    match sole {
        Ok(is_attached) => tracing::debug!("{name}: kept from the kernel's own TCP/IP: {is_attached}"),
        Err(error) => {
            tracing::info!("{name}: the kernel's own TCP/IP looks at what is for us, too: {error}");
        }
    }
}

/// Faults and the seed that decides when they happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultOptions {
    /// How often what goes wrong.
    pub faults: Faults,
    /// The same seed, the same faults.
    pub seed: u64,
}

/// A list like `drop=2%,reorder=0.01,seed=7`, of `drop`, `duplicate`, `corrupt`, `reorder` and `seed`.
impl FromStr for FaultOptions {
    type Err = String;

    fn from_str(text: &str) -> Result<FaultOptions, String> {
        let mut options = FaultOptions { faults: Faults::NONE, seed: 1 };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` is not of the form NAME=VALUE"))?;
            if name == "seed" {
                options.seed = value.parse().map_err(|_| format!("the seed `{value}` is no number"))?;
                continue;
            }
            let probability =
                probability(value).ok_or_else(|| format!("`{value}` is no probability: give 2% or 0.02"))?;
            match name {
                "drop" => options.faults.drop = probability,
                "duplicate" => options.faults.duplicate = probability,
                "corrupt" => options.faults.corrupt = probability,
                "reorder" => options.faults.reorder = probability,
                _ => {
                    return Err(format!(
                        "no fault `{name}`: there are drop, duplicate, corrupt, reorder, and seed"
                    ));
                }
            }
        }
        Ok(options)
    }
}

fn probability(text: &str) -> Option<f64> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let probability = number.parse::<f64>().ok()? / scale;
    (0.0..=1.0).contains(&probability).then_some(probability)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let options: FaultOptions = "drop=2%,reorder=0.5,seed=42".parse().unwrap();
        assert_eq!(options.seed, 42);
        assert_eq!(options.faults, Faults { drop: 0.02, reorder: 0.5, ..Faults::NONE });
        for text in ["drop", "drop=two", "drop=200%", "drop=-1", "seed=x", "explode=1%", "drop=NaN"] {
            assert!(text.parse::<FaultOptions>().is_err(), "{text}");
        }
    }
}
