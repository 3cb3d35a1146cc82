//! Our own TCP/IP on real devices in namespaces of the test's own, against the kernel's TCP: needs root, or
//! says so.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use cheetah::server::{Config, Server};
use cheetah::transport::device::{self, DeviceOptions, Interface};
use cheetah::transport::stack::StackOptions;
use netstack::stack::Features;
use netstack::sys::link;
use support::servers::{OURS, connect, on_device, on_queues, tap, veth};
use support::{CASES, hello_etag, in_namespace, read_response};

fn serve(options: &DeviceOptions, features: Features) -> Option<Server> {
    on_device(support::site(), options, features)
}

/// Every case, on kept connections where they may be kept; then many connections one after another and at
/// once.
fn exercise(server: Server, connections: usize) {
    let etag = hello_etag();
    let mut kept = connect(server.addr());
    for case in CASES {
        kept.write_all(&case.bytes(&etag)).unwrap();
        case.check(&read_response(&mut kept, case.is_head()), &etag);
        if case.closes {
            kept.shutdown(Shutdown::Write).unwrap();
            assert_eq!(kept.read(&mut [0]).unwrap(), 0, "{}", case.request);
            kept = connect(server.addr());
        }
    }
    for _ in 0..connections {
        let mut stream = connect(server.addr());
        stream.write_all(b"GET /noindex/file.bin HTTP/1.0\r\n\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all.ends_with(&support::noise(3000)));
    }
    let mut many: Vec<TcpStream> = (0..connections).map(|_| connect(server.addr())).collect();
    for stream in &mut many {
        stream.write_all(b"GET /noindex/file.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    for stream in &mut many {
        assert_eq!(read_response(stream, false).body.len(), 3000);
    }
    drop((kept, many));
    let stats = server.shut_down().unwrap();
    let expected = CASES.len() as u64 + 2 * connections as u64;
    assert_eq!((stats.total_responses(), stats.connections - stats.closed), (expected, 0));
}

#[test]
fn tap_with_offloads() {
    in_namespace(|| {
        let Some(server) = serve(&tap(), Features::default()) else { return };
        exercise(server, 300);
    });
}

/// A thread a queue, on each kind of interface.
#[test]
fn several_threads() {
    in_namespace(|| {
        let Some(server) = on_queues(support::site(), &tap(), 3) else { return };
        exercise(server, 150);
    });
    in_namespace(|| {
        if veth().is_none() {
            return;
        }
        link::set_tx_offload("kernels", false).unwrap();
        for interface in [Interface::Ring { name: "ours".into() }, Interface::Packet { name: "ours".into() }]
        {
            let Some(server) = on_queues(support::site(), &DeviceOptions::new(interface), 2) else { return };
            exercise(server, 60);
        }
    });
}

#[test]
fn tap_without_any_specialisation() {
    in_namespace(|| {
        let options = DeviceOptions { offload: false, fused_loops: false, ..tap() };
        let features = Features {
            offload: false,
            packet_merging: false,
            header_merging: false,
            time_wait_records: false,
            stored_sums: false,
            cached_sums: false,
            placed_input: false,
        };
        let Some(server) = serve(&options, features) else { return };
        exercise(server, 50);
    });
}

#[test]
fn tap_behind_a_striped_adapter() {
    in_namespace(|| {
        let options = DeviceOptions { offload: false, nic: Some("lance".into()), ..tap() };
        let Some(server) = serve(&options, Features { offload: false, ..Features::default() }) else {
            return;
        };
        exercise(server, 50);
    });
}

#[test]
fn tap_with_losses() {
    in_namespace(|| {
        let faults = Some("drop=2%,duplicate=1%,reorder=2%,seed=5".parse().unwrap());
        let options = DeviceOptions { offload: false, faults, ..tap() };
        let Some(server) = serve(&options, Features { offload: false, ..Features::default() }) else {
            return;
        };
        exercise(server, 20);
    });
}

/// RFC 5227 against the kernel, which answers for the address: the server does not begin, and says who has
/// it.
#[test]
fn an_address_that_the_kernel_has_is_not_served_at() {
    in_namespace(|| {
        let Ok(device::OpenDevice { device, name, .. }) = device::open(&tap()) else {
            eprintln!("skipped: no TAP device");
            return;
        };
        link::add_address(&name, OURS, 24).unwrap();
        let options = StackOptions { probe_addr: true, ..StackOptions::new((OURS, 24), 80) };
        let refused = Server::on_device(support::site(), device, &options, &Config::default());
        let error = refused.expect_err("the kernel has it");
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("has the address 10.98.0.2 already"), "{error}");
    });
}

#[test]
fn packet_device_on_a_veth_pair() {
    in_namespace(|| {
        if veth().is_none() {
            return;
        }
        link::set_tx_offload("kernels", false).unwrap();
        let options = DeviceOptions::new(Interface::Packet { name: "ours".into() });
        let Some(server) = serve(&options, Features::default()) else { return };
        exercise(server, 50);
    });
}

/// The kernel knows nothing of our address: frames for it come to us alone.
#[test]
fn af_xdp_on_a_veth_pair() {
    in_namespace(|| {
        if veth().is_none() {
            return;
        }
        link::set_tx_offload("kernels", false).unwrap();
        let interface =
            || Interface::Xdp { name: "ours".into(), addr: OURS, addr6: None, handlers: Vec::new() };
        let Some(server) = serve(&DeviceOptions::new(interface()), Features::default()) else { return };
        exercise(server, 300);
        // Its program is gone with it, and its queue is free.
        let options = DeviceOptions { fused_loops: false, ..DeviceOptions::new(interface()) };
        let server =
            serve(&options, Features { stored_sums: false, cached_sums: false, ..Features::default() });
        exercise(server.unwrap(), 50);
    });
}

#[test]
fn draining_and_replacing_the_site() {
    in_namespace(|| {
        let Some(server) = serve(&tap(), Features::default()) else { return };
        let addr = server.addr();
        let mut idle = connect(addr);
        let mut busy = connect(addr);
        busy.write_all(b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        busy.read_exact(&mut [0; 100]).unwrap();
        server.replace_site(Arc::new(support::site_of(&[("hello.txt", b"new\n".to_vec())])));
        idle.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let first = read_response(&mut idle, false).body;
        assert!(first == b"new\n" || first == b"hello, world\n");
        let draining = std::thread::spawn(move || server.shut_down().unwrap());
        assert_eq!(idle.read(&mut [0]).unwrap(), 0, "an idle connection ends");
        let mut rest = Vec::new();
        busy.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(&support::noise(1_000_003)[900_000..]));
        drop((idle, busy));
        draining.join().unwrap();
    });
}
