//! Arrival handlers against the interpreter of the pipe language: those that come with us, and random ones.
//! And the kernel's verifier and eBPF against both, where the right to load programs is there.

#[path = "support/packets.rs"]
#[allow(unreachable_pub)]
mod packets;

use std::net::{Ipv4Addr, Ipv6Addr};

use netstack::handler::xdp::{XdpError, XdpFilter};
use netstack::handler::{Binding, Handlers, NamedHandler, load};
use netstack::wire::{ethernet, ipv4, tcp};
use packets::{ADDR, ADDR6, Rng, frame, random_handler};
use pipe_lib::handler::{Handler, MAX_PREFIX_BYTES, Verdict};
use pipe_lib::{Backend, Engine, Library};

const BINDINGS: [Binding; 3] = [
    Binding { name: "addr", value: ADDR as u64 },
    Binding { name: "http_port", value: 80 },
    Binding { name: "https_port", value: 443 },
];

/// Handlers of ours that look, each as it is asked for, and as a pipeline with its parameters.
const LOOKING: [(&str, &str); 6] = [
    ("steer_port(port = 80, to = 3)", "steer_port(addr = 0x0a090001, port = 80, to = 3)"),
    ("ours", "ours(addr = 0x0a090001)"),
    (
        "ours(addr6_hi = 0xfd00000900000000, addr6_lo = 1)",
        "ours(addr = 0x0a090001, addr6_hi = 0xfd00000900000000, addr6_lo = 1)",
    ),
    ("foreign", "foreign(addr = 0x0a090001)"),
    ("closed_ports", "closed_ports(addr = 0x0a090001, http_port = 80, https_port = 443)"),
    ("count_prefix(prefix = 0x0a090000)", "count_prefix(prefix = 0x0a090000)"),
];

/// Those that answer: the stages whose results the answer holds.
const ANSWERING: [(&str, &str); 2] = [
    ("echo", "echo_request(addr = 0x0a090001)"),
    ("healthz", "health_segment(addr = 0x0a090001, health_port = 8081)"),
];

/// What the language's interpreter makes of a frame: the exports by name.
struct Oracle {
    engine: Engine,
}

impl Oracle {
    fn new(library: &Library, text: &str) -> Oracle {
        let pipeline = library.pipeline(text).unwrap();
        Oracle { engine: pipeline.compile_with(&Backend::Interp.into()).unwrap() }
    }

    /// Who has no answer to give passes what it would answer, and who names no core what it would steer.
    fn judge(&self, frame: &[u8], handler: &Handler) -> (Verdict, Vec<(String, u64)>) {
        let mut prefix = [0; MAX_PREFIX_BYTES];
        let seen = frame.len().min(MAX_PREFIX_BYTES);
        prefix[..seen].copy_from_slice(&frame[..seen]);
        let run = self.engine.run(&prefix, &mut [0; MAX_PREFIX_BYTES]).unwrap();
        let exports: Vec<(String, u64)> = self
            .engine
            .exports()
            .iter()
            .map(|export| {
                let name = export.name.rsplit('.').next().unwrap().to_owned();
                (name, run.value(export.id()))
            })
            .collect();
        let (_, verdict) = exports.iter().find(|(name, _)| name == "verdict").unwrap();
        let verdict = usize::try_from(*verdict).ok().and_then(|number| Verdict::ALL.get(number).copied());
        let verdict = verdict.filter(|verdict| match verdict {
            Verdict::Answer => handler.answers(),
            Verdict::Steer => handler.steers(),
            _ => true,
        });
        (verdict.unwrap_or(Verdict::Pass), exports)
    }
}

/// Compares a handler with the oracle on these frames; what its counters should be in the end, frames by
/// verdict first.
fn compare(named: &NamedHandler, oracle: &Oracle, frames: &[Vec<u8>]) -> Vec<u64> {
    let mut values = Vec::new();
    let interpreted = named.handler.clone().interpreted();
    let own: Vec<String> = named.handler.counters().map(str::to_owned).collect();
    let mut expected = vec![0u64; Verdict::ALL.len() + own.len()];
    for frame in frames {
        let (verdict, exports) = oracle.judge(frame, &named.handler);
        assert_eq!(interpreted.judge(frame, &mut values), verdict, "{}: {frame:02x?}", named.name);
        let stepped: Vec<u64> = interpreted.counted(&values).collect();
        assert_eq!(named.handler.judge(frame, &mut values), verdict, "{}: {frame:02x?}", named.name);
        expected[verdict as usize] += 1;
        let counted: Vec<u64> = named.handler.counted(&values).collect();
        assert_eq!(counted, stepped, "{}: {frame:02x?}", named.name);
        for ((name, count), sum) in own.iter().zip(&counted).zip(&mut expected[Verdict::ALL.len()..]) {
            let (_, export) = exports.iter().find(|(export, _)| export == name).unwrap();
            assert_eq!(count, export, "{}: {name}: {frame:02x?}", named.name);
            *sum = sum.wrapping_add(*count);
        }
    }
    expected
}

/// The same frames through the kernel: verdicts one by one, counters in the end. `None`, told, without the
/// right to.
fn compare_in_kernel(named: &NamedHandler, frames: &[Vec<u8>], expected: &[u64]) -> Option<()> {
    let filter = match XdpFilter::new(std::slice::from_ref(named)) {
        Err(XdpError::Kernel(error)) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            eprintln!("skipped: no XDP programs here ({error})");
            return None;
        }
        result => result.unwrap_or_else(|error| panic!("{}: {error}", named.name)),
    };
    let (mut values, mut answer) = (Vec::new(), Vec::new());
    for frame in frames {
        let ours = match named.handler.judge(frame, &mut values) {
            Verdict::Kernel => Verdict::Pass,
            verdict => verdict,
        };
        let (theirs, changed) = filter.test_answer(frame).unwrap();
        assert_eq!(theirs, ours, "{}: {frame:02x?}", named.name);
        if theirs == Verdict::Answer {
            named.handler.write_answer(frame, &values, &mut answer);
            assert_eq!(changed, answer, "{}: {frame:02x?}", named.name);
        } else {
            assert_eq!(changed, *frame, "{}: left as it was", named.name);
        }
    }
    let stats = filter.stats().unwrap();
    let counted = stats[0].counters.iter().map(|(_, count)| *count);
    let counted: Vec<u64> = stats[0].verdicts.into_iter().chain(counted).collect();
    assert_eq!(counted, expected, "{}", named.name);
    Some(())
}

/// Ours on `frames` frames each, then `random` random handlers on a few.
fn agree(frames: usize, random: u64) {
    let library = library();
    let mut rng = Rng(1);
    let mut kernel = true;
    for (text, pipeline) in LOOKING.into_iter().chain(ANSWERING) {
        let named = load(text, &BINDINGS).unwrap();
        let oracle = Oracle::new(&library, pipeline);
        let mut seen = [0; Verdict::ALL.len()];
        for chunk in 0..frames.div_ceil(10_000) {
            let frames: Vec<Vec<u8>> =
                (0..10_000.min(frames - chunk * 10_000)).map(|_| frame(&mut rng)).collect();
            let expected = compare(&named, &oracle, &frames);
            seen.iter_mut().zip(&expected).for_each(|(sum, count)| *sum += count);
            if kernel && !named.handler.steers() {
                kernel = compare_in_kernel(&named, &frames, &expected).is_some();
            }
        }
        let kinds = seen.iter().filter(|count| **count > 0).count();
        assert!(kinds >= if text.starts_with("count") { 1 } else { 2 }, "{text}: always the same: {seen:?}");
    }
    assert!(
        load("closed_ports", &BINDINGS).unwrap().handler.is_compiled() || cfg!(not(target_arch = "x86_64"))
    );
    for seed in 0..random {
        let mut rng = Rng(1000 + seed);
        let text = random_handler(&mut rng);
        let mut library = Library::standard();
        library.load("random.pipe", &text).unwrap_or_else(|error| panic!("{error}"));
        let handler = Handler::new(library.pipeline("random").unwrap().composition()).unwrap();
        let named = NamedHandler { name: text, handler };
        let frames: Vec<Vec<u8>> = (0..20).map(|_| frame(&mut rng)).collect();
        let expected = compare(&named, &Oracle::new(&library, "random"), &frames);
        if kernel {
            kernel = compare_in_kernel(&named, &frames, &expected).is_some();
        }
    }
}

fn library() -> Library {
    let mut library = Library::standard();
    library.load("handlers.pipe", include_str!("../src/handler/handlers.pipe")).unwrap();
    library
}

#[test]
fn stack_kernel_and_interpreter_agree() {
    agree(1000, 150);
}

/// 10^6 frames, and 20,000 random handlers: minutes.
#[test]
#[ignore = "long: run with --release"]
fn they_agree_on_a_million_frames() {
    agree(200_000, 20_000);
}

/// The packet filter says of a frame what the wire formats say.
#[test]
fn the_packet_filter_knows_what_is_ours() {
    let (addr, addr6) = (Ipv4Addr::from_bits(ADDR), Ipv6Addr::from_bits(ADDR6));
    let text = "ours(addr6_hi = 0xfd00000900000000, addr6_lo = 1)";
    let mut handlers = Handlers::new(&[load(text, &BINDINGS).unwrap()]);
    let group = Ipv6Addr::from_bits(0xff02_u128 << 112 | 0x0001_ff00_0000 | ADDR6 & 0xff_ffff);
    let mut rng = Rng(3);
    let mut seen = [0; 2];
    for _ in 0..20_000 {
        let mut frame = frame(&mut rng);
        frame.resize(128, 0);
        let ipv6_at = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let ipv4_at = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        let is_ours = match [frame[12], frame[13]] {
            [8, 6] => ipv4_at(28) == addr || ipv4_at(38) == addr,
            [8, 0] => ipv4_at(30) == addr,
            [0x86, 0xdd] => ipv6_at(38) == addr6 || ipv6_at(38) == group && ipv6_at(62) == addr6,
            _ => false,
        };
        let verdict = handlers.arrived(&frame);
        assert_eq!(verdict, if is_ours { Verdict::Pass } else { Verdict::Kernel }, "{frame:02x?}");
        seen[usize::from(is_ours)] += 1;
    }
    assert!(seen.into_iter().all(|count| count > 5000), "{seen:?}");
}

#[test]
fn handlers_in_one_program_are_asked_in_turn() {
    let list: Vec<NamedHandler> = ["count_prefix(prefix = 0x0a090000)", "foreign", "closed_ports"]
        .into_iter()
        .map(|text| load(text, &BINDINGS).unwrap())
        .collect();
    let filter = match XdpFilter::new(&list) {
        Ok(filter) => filter,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let mut handlers = Handlers::new(&list);
    let mut rng = Rng(7);
    for _ in 0..2000 {
        let frame = frame(&mut rng);
        let ours = match handlers.arrived(&frame) {
            Verdict::Kernel => Verdict::Pass,
            verdict => verdict,
        };
        assert_eq!(filter.test(&frame, 1).unwrap().0, ours, "{frame:02x?}");
    }
    let ours: Vec<_> = handlers.stats().cloned().collect();
    assert_eq!(filter.stats().unwrap(), ours);
    let asked: Vec<u64> = ours.iter().map(|stats| stats.verdicts.iter().sum()).collect();
    assert!(asked[0] == 2000 && asked[1] == 2000 && asked[2] < 2000, "{asked:?}");
}

/// The program before AF_XDP sockets, which takes frames in pieces, sees of short ones and of long ones what
/// the stack sees.
#[test]
fn frames_in_pieces_are_judged_by_their_first_bytes() {
    let list: Vec<NamedHandler> = ["count_prefix(prefix = 0x0a090000)", "closed_ports"]
        .into_iter()
        .map(|text| load(text, &BINDINGS).unwrap())
        .collect();
    let filter = match XdpFilter::to_sockets(Ipv4Addr::from_bits(ADDR), None, &list, 1) {
        Ok(filter) => filter,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    if !filter.takes_pieces() {
        return eprintln!("skipped: this kernel has no programs for frames in pieces");
    }
    let mut all = vec![load("ours", &BINDINGS).unwrap()];
    all.extend(list);
    let mut handlers = Handlers::new(&all);
    let mut rng = Rng(11);
    for i in 0..4000 {
        let mut frame = frame(&mut rng);
        match i % 4 {
            0 => frame.truncate(14 + i / 4 % 120),
            1 => frame.resize(9014 + i / 4 % 3000, 7),
            _ => {}
        }
        frame.resize(frame.len().max(14), 0);
        // Nobody's socket is in the map, so what passes all is the kernel's.
        let ours = match handlers.arrived(&frame) {
            Verdict::Pass => Verdict::Kernel,
            verdict => verdict,
        };
        assert_eq!(filter.test(&frame, 1).unwrap().0, ours, "{frame:02x?}");
    }
    let counted: Vec<_> = handlers.stats().map(|stats| (stats.verdicts, stats.counters.clone())).collect();
    let kernels = filter.stats().unwrap();
    assert_eq!(
        kernels.into_iter().map(|stats| (stats.verdicts, stats.counters)).collect::<Vec<_>>(),
        counted
    );
    assert!(counted.iter().all(|(verdicts, _)| verdicts.iter().sum::<u64>() > 500), "{counted:?}");
    let answering = [load("echo", &BINDINGS).unwrap()];
    let filter = XdpFilter::to_sockets(Ipv4Addr::from_bits(ADDR), None, &answering, 1).unwrap();
    assert!(!filter.takes_pieces());
}

#[test]
fn what_ebpf_does_not_have_is_refused_by_name() {
    for (statement, what) in [
        ("clz y, x", "`clz`"),
        ("crc32c y, 0, x", "`crc32c`"),
        ("clmul y, x, x", "`clmul`"),
        ("mulmod.u64 y, z, z, 11", "`mulmod`"),
    ] {
        let mut library = Library::standard();
        let text = format!(
            "pipe p : u32be tail zero {{ state s: u64\n in x\n zext.u64 z, x\n {statement}\n\
             zext.u64 w, x\n add s, s, w\n xor v, x, x\n mov v, x\n export verdict = mov.u8 0\n export s }}"
        );
        let text = match statement {
            "mulmod.u64 y, z, z, 11" => text.replace("zext.u64 w, x\n", "mov w, y\n"),
            _ => text.replace("zext.u64 w, x\n", "zext.u64 w, y\n"),
        };
        library.load("p.pipe", &text).unwrap_or_else(|error| panic!("{error}"));
        let handler = Handler::new(library.pipeline("p").unwrap().composition()).unwrap();
        let named = NamedHandler { name: "p".to_owned(), handler };
        let Err(XdpError::Handler(error)) = XdpFilter::new(&[named]) else { panic!("{statement} was taken") };
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// The answer to a frame, which the kernel gives, too.
fn answer(named: &NamedHandler, frame: &[u8]) -> Option<Vec<u8>> {
    let mut handlers = Handlers::new(std::slice::from_ref(named));
    let answer = (handlers.arrived(frame) == Verdict::Answer).then(|| handlers.answer().to_vec());
    if let (Some(answer), Ok(filter)) = (&answer, XdpFilter::new(std::slice::from_ref(named))) {
        assert_eq!(filter.test_answer(frame).unwrap(), (Verdict::Answer, answer.clone()), "{frame:02x?}");
    }
    answer
}

#[test]
fn echoes_come_back_with_their_bytes() {
    let handler = load("echo", &BINDINGS).unwrap();
    for len in [0, 1, 32, 56, 1472] {
        let request = packets::echo_request(len);
        let reply = answer(&handler, &request).unwrap();
        assert_eq!(reply.len(), request.len());
        assert_eq!((&reply[..6], &reply[6..12]), (&request[6..12], &request[..6]));
        let ip = ipv4::Packet::new_checked(&reply[14..]).unwrap();
        let header = ipv4::Repr::parse(&ip).unwrap();
        assert_eq!((header.src_addr.to_bits(), header.dst_addr.to_bits()), (ADDR, 0x0a09_0002));
        let message = ip.payload();
        assert_eq!((message[0], message[1]), (0, 0));
        assert_eq!(netstack::wire::checksum::sum(message), 0xffff);
        assert_eq!(message[4..], request[14 + 20 + 4..]);
    }
    let mut request = packets::echo_request(56);
    request[20] |= 0x20;
    assert!(answer(&handler, &request).is_none(), "a fragment");
}

/// A whole exchange at the port of `healthz`, segment by segment.
#[test]
fn healthz_is_answered_from_each_segment_alone() {
    let handler = load("healthz", &BINDINGS).unwrap();
    let ask = |seq: u32, ack: u32, flags: u8, payload: &[u8]| {
        let frame = packets::tcp_segment(8081, seq, ack, flags, payload);
        let frame = answer(&handler, &frame)?;
        let ethernet = ethernet::Frame::new_checked(&frame[..]).unwrap();
        let ip = ipv4::Packet::new_checked(ethernet.payload()).unwrap();
        let header = ipv4::Repr::parse(&ip).unwrap();
        assert_eq!(ip.total_len() + 14, frame.len());
        let segment = tcp::Packet::new_checked(ip.payload()).unwrap();
        assert!(segment.verify_checksum(header.src_addr, header.dst_addr));
        let repr = tcp::Repr::parse(&segment).unwrap();
        assert_eq!((repr.src_port, repr.dst_port), (8081, 40_000));
        Some((segment.seq_number(), segment.ack_number(), frame[47], segment.payload().to_vec()))
    };
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    const FIN: u8 = 1;
    let (iss, ack, flags, payload) = ask(1000, 0, SYN, b"").unwrap();
    assert_eq!((ack, flags, payload.len()), (1001, SYN | ACK, 0));
    assert!(ask(1001, iss.wrapping_add(1), ACK, b"").is_none(), "an ACK is not answered");
    let get = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let (seq, ack, flags, payload) = ask(1001, iss.wrapping_add(1), ACK | 8, get).unwrap();
    assert_eq!((seq, ack, flags), (iss.wrapping_add(1), 1001 + get.len() as u32, FIN | ACK | 8));
    let text = String::from_utf8(payload.clone()).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nok\n"), "{text}");
    let (_, ack, flags, _) = ask(0xffff_ffff, seq, FIN | ACK, b"").unwrap();
    assert_eq!((ack, flags), (0, ACK), "a FIN counts one, across the wrap");
    let (_, _, flags, _) = ask(1001, 7, ACK | 8, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(flags, 4 | ACK, "another request is reset");
    assert!(ask(1001, 7, 4, b"").is_none(), "a reset is not answered");
}
