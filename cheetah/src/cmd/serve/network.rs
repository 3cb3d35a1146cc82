//! Where connections come in, by what the options say: sockets of the kernel's, or our own TCP/IP over a
//! device.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use cheetah::transport::device::{DeviceOptions, Interface};
use cheetah::transport::stack::StackOptions;
use netstack::handler::{self, Binding};
use netstack::stack::{FastOpenConfig, Ipv6Config};
use netstack::tcp::{Algorithm, EcnUse};

use super::addresses::{Network, Network6, OwnAddress, OwnAddress6};
use super::values::{Congestion, Ecn, HandlersIn};
use super::{Arguments, Usage};
use crate::cmd::features::{Feature, Net};

/// What our own TCP/IP cannot do without.
const NO_ADDRESS: &str = "our own TCP/IP needs an address of its own: --addr IP/PREFIX, or dhcp";

/// Where secured connections come in.
pub(super) fn tls_addr(arguments: &Arguments) -> anyhow::Result<SocketAddr> {
    if arguments.net != Net::Kernel {
        let Some(addr) = arguments.addr else { bail!(Usage(NO_ADDRESS.to_owned())) };
        let Network(addr, _) = addr.network();
        return match &arguments.tls_listen {
            None => Ok(SocketAddr::new(addr.into(), 443)),
            Some(text) => match text.parse::<SocketAddr>() {
                Ok(listen) if listen.ip() == addr || listen.ip().is_unspecified() => Ok(listen),
                Ok(_) => bail!(Usage(format!("--tls-listen {text}: the only address is {addr}"))),
                Err(error) => bail!(Usage(format!("--tls-listen {text}: {error}"))),
            },
        };
    }
    resolve("--tls-listen", arguments.tls_listen.as_deref().unwrap_or("127.0.0.1:8443"))
}

/// The first address of a name and port.
pub(super) fn resolve(option: &str, text: &str) -> anyhow::Result<SocketAddr> {
    let mut found = text.to_socket_addrs().map_err(|error| {
        anyhow!(Usage(format!("{option} {text}: {error} (give an address and a port, as in 127.0.0.1:8080)")))
    })?;
    found.next().ok_or_else(|| anyhow!(Usage(format!("{option} {text}: no such address"))))
}

/// Checks that nothing was asked of the kernel's sockets that they do not do.
pub(super) fn kernel_addr(arguments: &Arguments) -> anyhow::Result<SocketAddr> {
    let device_only = [
        ("--dev", arguments.dev.is_some()),
        ("--addr", arguments.addr.is_some()),
        ("--addr6", arguments.addr6.is_some()),
        ("--also-addr", !arguments.also_addr.is_empty()),
        ("--probe-addr", arguments.probe_addr),
        ("--gateway", arguments.gateway.is_some()),
        ("--host-addr", arguments.host_addr.is_some()),
        ("--congestion", arguments.congestion.is_some()),
        ("--ecn", arguments.ecn.is_some()),
        ("--pacing", arguments.pacing.is_some()),
        ("--vlan", arguments.vlan.is_some()),
        ("--fast-open", arguments.fast_open.is_some()),
        ("--handler", !arguments.handler.is_empty()),
        ("--mtu", arguments.mtu.is_some()),
        ("--nic", arguments.nic.is_some()),
        ("--fault", arguments.fault.is_some()),
        ("--pcap", arguments.pcap.is_some()),
    ];
    if let Some((option, _)) = device_only.iter().find(|(_, given)| *given) {
        bail!(Usage(format!("{option} is for our own TCP/IP: add --net tap, ring, xdp or packet")));
    }
    match unix_path(arguments) {
        Some(_) => Ok(SocketAddr::from(([0, 0, 0, 0], 0))),
        None => resolve("--listen", arguments.listen.as_deref().unwrap_or("127.0.0.1:8080")),
    }
}

/// The socket of the file system to listen at, if that is where.
pub(super) fn unix_path(arguments: &Arguments) -> Option<&Path> {
    arguments.listen.as_deref()?.strip_prefix("unix:").map(Path::new)
}

pub(super) fn stack_options(arguments: &Arguments, secured: bool) -> anyhow::Result<StackOptions> {
    let Some(own) = arguments.addr else { bail!(Usage(NO_ADDRESS.to_owned())) };
    let network = own.network();
    match own {
        OwnAddress::Given(_) => {
            if let Some(why) = network.refusal(arguments.gateway, arguments.host_addr) {
                bail!(Usage(why));
            }
        }
        OwnAddress::Dhcp => {
            let cannot = [
                (arguments.gateway.is_some(), "leave --gateway out: it comes from the DHCP server, too"),
                (arguments.host_addr.is_some(), "--host-addr is in the network of an address that is given"),
                (arguments.net == Net::Xdp, "--net xdp has to know the address when it begins: use ring"),
                (!arguments.handler.is_empty(), "handlers have to know the address when they begin"),
                (arguments.workers != 1, "the address is had by one queue: leave --workers out"),
            ];
            if let Some((_, why)) = cannot.iter().find(|(given, _)| *given) {
                bail!(Usage(format!("--addr dhcp: {why}")));
            }
        }
    }
    let Network(addr, prefix_len) = network;
    let one_thread = [
        ("--probe-addr asks by one queue", arguments.probe_addr),
        ("--pcap writes what one thread sees", arguments.pcap.is_some()),
    ];
    if let Some((why, _)) = one_thread.iter().find(|(_, given)| arguments.workers != 1 && *given) {
        bail!(Usage(format!("{why}: leave --workers out")));
    }
    let port = match &arguments.listen {
        None => 80,
        Some(text) => match text.parse::<SocketAddr>() {
            Ok(listen) if listen.ip() == addr || listen.ip().is_unspecified() => listen.port(),
            Ok(_) => bail!(Usage(format!("--listen {text}: the only address is {addr}"))),
            Err(error) => bail!(Usage(format!("--listen {text}: {error}"))),
        },
    };
    let mut options = StackOptions::new((addr, prefix_len), port);
    options.dhcp = matches!(own, OwnAddress::Dhcp);
    options.gateway = arguments.gateway;
    let gateway = arguments.gateway6;
    match arguments.addr6 {
        None => {}
        Some(OwnAddress6::Given(Network6(addr, prefix_len))) => {
            options.ipv6 = Some(Ipv6Config { addr, prefix_len, gateway });
        }
        Some(OwnAddress6::Auto) => {
            let cannot = [
                (gateway.is_some(), "leave --gateway6 out: the router is the way out"),
                (arguments.net == Net::Xdp, "--net xdp has to know the address when it begins: use ring"),
                (arguments.workers != 1, "the address is had by one queue: leave --workers out"),
            ];
            if let Some((_, why)) = cannot.iter().find(|(given, _)| *given) {
                bail!(Usage(format!("--addr6 auto: {why}")));
            }
            options.ipv6_autoconf = true;
        }
    }
    if let Some(why) = further_refusal(arguments, own) {
        bail!(Usage(format!("--also-addr{why}")));
    }
    options.more_addrs = arguments.also_addr.clone();
    options.probe_addr = arguments.probe_addr;
    if secured {
        options.tls_port = Some(tls_addr(arguments)?.port());
    }
    let https_port = options.tls_port.unwrap_or(port);
    let bindings = [
        Binding { name: "addr", value: addr.to_bits().into() },
        Binding { name: "http_port", value: port.into() },
        Binding { name: "https_port", value: https_port.into() },
    ];
    for text in &arguments.handler {
        options.handlers.push(handler::load(text, &bindings).with_context(|| format!("--handler {text}"))?);
    }
    if arguments.handlers_in == HandlersIn::Xdp && arguments.net == Net::Tap {
        bail!(Usage(
            "--handlers-in xdp is for --net xdp, ring and packet: what a TAP device's kernel sends us passes no XDP \
             program, so leave it out and handlers run in the stack"
                .to_owned()
        ));
    }
    if let Some(Ecn::Off) = arguments.ecn {
        options.ecn = EcnUse::Off;
    }
    options.pacing = arguments.pacing.unwrap_or(true);
    if let Some(pending) = arguments.fast_open {
        let mut key = [0; 16];
        rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty())?;
        options.fast_open = Some(FastOpenConfig { pending: pending as usize, key });
    }
    match arguments.congestion {
        None => {}
        Some(Congestion::Cubic) => options.congestion = Algorithm::Cubic,
        Some(Congestion::Reno) => options.congestion = Algorithm::NewReno,
    }
    Ok(options)
}

/// Why there can be no further addresses, or not these, if so.
fn further_refusal(arguments: &Arguments, own: OwnAddress) -> Option<String> {
    let further = &arguments.also_addr;
    let given6 = match arguments.addr6 {
        Some(OwnAddress6::Given(Network6(addr, _))) => Some(IpAddr::V6(addr)),
        Some(OwnAddress6::Auto) | None => None,
    };
    let before = |at: usize| further[..at].iter().map(|(addr, _)| *addr);
    let all = |at| before(at).chain([own.network().0.into()]).chain(given6);
    let mut addrs = further.iter().map(|(addr, _)| *addr).enumerate();
    if let Some((_, addr)) = addrs.find(|&(at, addr)| all(at).any(|other| other == addr)) {
        return Some(format!(" {addr}: this is an address of ours already; give another, or leave it out"));
    }
    let has = |is_ipv6| further.iter().any(|(addr, _)| addr.is_ipv6() == is_ipv6);
    let cannot = [
        (
            !further.is_empty() && arguments.net == Net::Xdp,
            ": --net xdp gets the packets of one address of each family: use ring",
        ),
        (
            !further.is_empty() && !arguments.handler.is_empty(),
            ": handlers know --addr as the only address that is ours, and would drop what is sent to others: \
             leave one of both out",
        ),
        (has(true) && arguments.addr6.is_none(), " in IPv6 stands beside --addr6"),
        (
            has(false) && matches!(own, OwnAddress::Dhcp),
            " in IPv4 stands beside an address that is given, not --addr dhcp: give one, or leave it out",
        ),
    ];
    cannot.iter().find(|(is_given, _)| *is_given).map(|(_, why)| (*why).to_owned())
}

pub(super) fn device_options(
    arguments: &Arguments,
    stack: &mut StackOptions,
) -> anyhow::Result<DeviceOptions> {
    let interface = match (arguments.net, &arguments.dev) {
        (Net::Ring | Net::Xdp | Net::Packet, None) => {
            let name = arguments.net.name();
            bail!(Usage(format!("--net {name} needs an interface: --dev NAME")))
        }
        (Net::Ring | Net::Xdp | Net::Packet, Some(_)) if arguments.host_addr.is_some() => {
            bail!(Usage("--host-addr is for TAP devices: they have an end of the kernel's".to_owned()))
        }
        (Net::Ring | Net::Xdp | Net::Packet, Some(name)) if arguments.mtu.is_some() => {
            bail!(Usage(format!(
                "--mtu is for TAP devices: this one's is set by `ip link set {name} mtu BYTES`"
            )))
        }
        (Net::Packet, Some(name)) => Interface::Packet { name: name.clone() },
        (Net::Ring, Some(name)) => Interface::Ring { name: name.clone() },
        (Net::Xdp, Some(name)) => Interface::Xdp {
            name: name.clone(),
            addr: stack.addr.0,
            addr6: stack.ipv6.map(|ipv6| ipv6.addr),
            // One program on an interface: the filter's, and handlers in it.
            handlers: match arguments.handlers_in {
                HandlersIn::Xdp => std::mem::take(&mut stack.handlers),
                HandlersIn::Stack => Vec::new(),
            },
        },
        (_, name) => Interface::Tap {
            name: name.clone(),
            host_addr: arguments.host_addr.zip(arguments.addr.map(|own| own.network().1)),
            mtu: arguments.mtu,
        },
    };
    if arguments.vlan.is_some() && (arguments.net == Net::Xdp || arguments.handlers_in == HandlersIn::Xdp) {
        bail!(Usage(
            "--vlan: XDP programs read frames without tags: use --net ring, and handlers in the stack"
                .to_owned()
        ));
    }
    let without = |feature| arguments.without.contains(&feature);
    let first6 = stack.ipv6.map(|ipv6| ipv6.addr.into());
    let more = stack.more_addrs.iter().map(|(addr, _)| *addr);
    Ok(DeviceOptions {
        addrs: std::iter::once(stack.addr.0.into()).chain(first6).chain(more).collect(),
        vlan: arguments.vlan,
        nic: arguments.nic.clone(),
        offload: !without(Feature::Offload),
        fused_loops: !without(Feature::FusedLoops),
        faults: arguments.fault,
        pcap: arguments.pcap.clone(),
        ..DeviceOptions::new(interface)
    })
}
