//! Arrival handlers before our own TCP/IP, against the kernel's TCP and `ping`: needs root, or says so.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cheetah::server::{Config, Server};
use cheetah::transport::device::{self, DeviceOptions, Interface};
use cheetah::transport::stack::StackOptions;
use netstack::handler::xdp::{XdpError, XdpFilter};
use netstack::handler::{Binding, NamedHandler, load};
use netstack::sys::link;
use support::in_namespace;
use support::servers::{OURS, connect, tap, veth};

fn handlers(texts: &[&str]) -> Vec<NamedHandler> {
    let bindings = [("addr", u64::from(OURS.to_bits())), ("http_port", 80), ("https_port", 443)]
        .map(|(name, value)| Binding { name, value });
    texts.iter().map(|text| load(text, &bindings).unwrap()).collect()
}

fn serve(device: &DeviceOptions, change: impl FnOnce(&mut StackOptions, &str)) -> Option<Server> {
    let opened = device::open(device).inspect_err(|error| eprintln!("skipped: {error}")).ok()?;
    let device::OpenDevice { device, name, filter } = opened;
    let mut options = StackOptions { filter, ..StackOptions::new((OURS, 24), 80) };
    change(&mut options, &name);
    Some(Server::on_device(support::site(), device, &options, &Config::default()).unwrap())
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = connect(SocketAddr::new(OURS.into(), port));
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn answers_without_the_stack_and_the_stack_beside_them() {
    in_namespace(|| {
        let texts = ["echo", "healthz", "closed_ports"];
        let Some(server) = serve(&tap(), |options, _| options.handlers = handlers(&texts)) else { return };
        for _ in 0..20 {
            let text = get(8081, "/healthz").unwrap();
            assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\nok\n"), "{text}");
        }
        let other = get(8081, "/").unwrap_err();
        assert_eq!(other.kind(), ErrorKind::ConnectionReset, "{other}");
        assert!(get(80, "/hello.txt").unwrap().ends_with("hello, world\n"));
        let closed = TcpStream::connect_timeout(&(OURS, 22).into(), Duration::from_millis(300)).unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::TimedOut, "dropped, not reset");
        let pinged =
            Command::new("ping").args(["-n", "-c", "5", "-i", "0.01", "-s", "1000", "10.98.0.2"]).output();
        let pings = match pinged {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(text.contains(" 0% packet loss") && !text.contains("wrong"), "{text}");
                5
            }
            Err(_) => 0,
        };
        let report = server.finish().unwrap();
        let [echo, healthz, closed] = &report.handlers[..] else { panic!("{report}") };
        assert_eq!(echo.counters, [("echoed".to_owned(), pings)]);
        assert_eq!(healthz.counters[0], ("syns".to_owned(), 21));
        assert_eq!(healthz.counters[1], ("answers".to_owned(), 20));
        assert_eq!(healthz.counters[2], ("resets".to_owned(), 1));
        assert!(closed.counters[0].1 >= 1, "{closed:?}");
        assert_eq!(report.stats.total_responses(), 1, "the others were the handler's");
    });
}

/// The kernel runs the handlers: what they drop reaches no socket.
#[test]
fn handlers_in_the_kernel() {
    in_namespace(|| {
        let list = handlers(&["count_prefix(prefix = 0x0a620000)", "closed_ports"]);
        let filter = match XdpFilter::new(&list) {
            Err(XdpError::Kernel(error)) => return eprintln!("skipped: no XDP programs here ({error})"),
            result => result.unwrap(),
        };
        let Some(()) = veth() else { return };
        link::set_tx_offload("kernels", false).unwrap();
        let mut filter = Some(filter);
        let device = DeviceOptions::new(Interface::Packet { name: "ours".into() });
        let served = serve(&device, |options, name| {
            let mut filter = filter.take().unwrap();
            filter.attach(name).unwrap();
            options.filter = Some(Arc::new(filter));
        });
        let Some(server) = served else { return };
        assert!(get(80, "/hello.txt").unwrap().ends_with("hello, world\n"));
        let closed = TcpStream::connect_timeout(&(OURS, 22).into(), Duration::from_millis(300)).unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::TimedOut, "dropped, not reset");
        let report = server.finish().unwrap();
        let [counted, closed] = &report.handlers[..] else { panic!("{report}") };
        assert!(counted.counters[0].1 >= 5 && counted.counters[1].1 > 200, "{counted:?}");
        assert!(closed.verdicts[1] >= 1 && closed.counters[0].1 == closed.verdicts[1], "{closed:?}");
        assert_eq!(report.stack.resets_out, 0);
    });
}

/// Handlers in the program that gives AF_XDP its frames: they answer and drop before a socket is touched.
#[test]
fn handlers_before_af_xdp_sockets() {
    in_namespace(|| {
        let Some(()) = veth() else { return };
        link::set_tx_offload("kernels", false).unwrap();
        let list = handlers(&["healthz", "echo", "closed_ports"]);
        let interface = Interface::Xdp { name: "ours".into(), addr: OURS, addr6: None, handlers: list };
        let Some(server) = serve(&DeviceOptions::new(interface), |_, _| {}) else { return };
        for _ in 0..20 {
            let text = get(8081, "/healthz").unwrap();
            assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\nok\n"), "{text}");
        }
        assert!(get(80, "/hello.txt").unwrap().ends_with("hello, world\n"));
        let closed = TcpStream::connect_timeout(&(OURS, 22).into(), Duration::from_millis(300)).unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::TimedOut, "dropped, not reset");
        let report = server.finish().unwrap();
        let [ours, healthz, echo, closed] = &report.handlers[..] else { panic!("{report}") };
        assert!(ours.verdicts[0] > 60, "{ours:?}");
        assert_eq!(&healthz.counters[..2], [("syns".to_owned(), 20), ("answers".to_owned(), 20)]);
        assert_eq!(echo.verdicts[3], 0);
        assert!(closed.verdicts[1] >= 1, "{closed:?}");
        // Frames of one request, of ARP, and ACKs to `healthz`, which passes what it does not answer.
        assert!(report.device.rx_frames < 60, "{report}");
    });
}
