//! A lease by DHCP, from a server made by hand: what changes with it changes for connections that are open.

mod support;

use std::net::{IpAddr, Ipv4Addr};

use netstack::stack::{Config, Stack};
use netstack::transmission::{Capabilities, RxChecksum, Transmission};
use netstack::wire::{EthernetAddress, checksum};
use runtime::time::Instant;
use support::{PORT, STRANGER, TestApp, TestStream};

const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
const DHCP_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// Seconds; asked for again after half of it.
const LEASE: u32 = 120;

struct Host {
    stack: Stack,
    app: TestApp,
    now_ms: u64,
    /// Whom the server tells of as the way out.
    router: Ipv4Addr,
}

impl Host {
    fn new(router: Ipv4Addr) -> Host {
        let mut config = Config::new(HARDWARE, Ipv4Addr::UNSPECIFIED, 24, *b"only for testing");
        config.dhcp = true;
        Host { stack: Stack::new(config), app: TestApp::new(|_| None), now_ms: 1, router }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.now_ms)
    }

    /// All that is sent but to the DHCP server, who answers.
    fn until(&mut self, end_ms: u64) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while self.now_ms < end_ms {
            self.now_ms += 10;
            let now = self.now();
            self.stack.handle_timeout(now, &mut self.app);
            let emit = |t: &Transmission<'_>| [t.headers, &t.payload_to_vec()[..]].concat();
            while let Some(frame) =
                self.stack.poll_transmit(now, &Capabilities::default(), &mut self.app, emit)
            {
                match frame.get(42..).filter(|_| frame[23] == 17 && frame[36..38] == [0, 67]) {
                    Some(asked) => {
                        let answer = answer(asked, self.router);
                        self.stack.handle_frame(now, &answer, RxChecksum::Valid, &mut self.app);
                    }
                    None => frames.push(frame),
                }
            }
        }
        frames
    }

    /// Where segments of TCP went.
    fn segments_went_to(&mut self, end_ms: u64) -> Vec<EthernetAddress> {
        let frames = self.until(end_ms);
        let of_tcp = frames.iter().filter(|frame| frame[12..14] == [8, 0] && frame[23] == 6);
        of_tcp.map(|frame| EthernetAddress(frame[..6].try_into().unwrap())).collect()
    }
}

/// The frame by which a server answers: an offer, or what was asked for.
fn answer(asked: &[u8], router: Ipv4Addr) -> Vec<u8> {
    let mut message = asked[..240].to_vec();
    message[0] = 2;
    message[16..20].copy_from_slice(&OURS.octets());
    // The first option of ours is the kind: to a discovery an offer, to a request an acknowledgement.
    let kind = if asked[242] == 1 { 2 } else { 5 };
    message.extend([53, 1, kind, 1, 4, 255, 255, 255, 0, 3, 4]);
    message.extend(router.octets());
    message.extend([51, 4]);
    message.extend(LEASE.to_be_bytes());
    message.extend([54, 4]);
    message.extend(DHCP_SERVER.octets());
    message.push(255);
    let mut frame = HARDWARE.0.to_vec();
    frame.extend(STRANGER.0);
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((28 + message.len() as u16).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(DHCP_SERVER.octets());
    frame.extend(OURS.octets());
    let sum = !checksum::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0, 67, 0, 68]);
    frame.extend((8 + message.len() as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(message);
    frame
}

/// Where a connection's next segment goes is kept with it, but no longer than the routes: a renewal that
/// names another router moves connections, too, though the first one still answers.
#[test]
fn connections_follow_a_renewal() {
    let routers = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
    let hardware = [EthernetAddress([2, 0, 0, 0, 0, 0x21]), EthernetAddress([2, 0, 0, 0, 0, 0x22])];
    let mut host = Host::new(routers[0]);
    let mut end_ms = 0;
    while host.stack.lease().is_none() {
        end_ms += 100;
        host.until(end_ms);
        assert!(end_ms < 60_000, "no lease");
    }
    let leased_ms = host.now_ms;
    // Just before it is asked for again.
    host.until(leased_ms + 57_500);
    for (router, hardware) in routers.into_iter().zip(hardware) {
        host.stack.add_neighbor(host.now(), router, hardware);
    }
    host.stack.add_neighbor(host.now(), DHCP_SERVER, STRANGER);
    let (now, app) = (host.now(), &mut host.app);
    let keep = |pcb| app.keep(pcb, TestStream::new(0, 1000));
    let remote = IpAddr::from([192, 0, 2, 9]);
    host.stack.connect(now, None, (remote, PORT).into(), keep).expect("a port");
    // The first question, and one more a second later, for nobody answers.
    assert_eq!(host.segments_went_to(leased_ms + 59_000), [hardware[0]; 2]);
    host.router = routers[1];
    host.until(leased_ms + 60_200);
    assert_eq!(host.stack.lease().and_then(|lease| lease.router), Some(routers[1]));
    assert_eq!(host.segments_went_to(leased_ms + 62_000), [hardware[1]]);
}
