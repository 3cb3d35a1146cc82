//! Packet scripts: what the stack does with exactly these packets at exactly these times. One `.pkt` file a
//! case, in the notation of packetdrill (Cardwell et al., USENIX ATC 2013) as far as it goes;
//! `scripts/README.md` is its reference.

mod support;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use netstack::application::Key;
use netstack::stack::{Config, FastOpenConfig, Stack};
use netstack::tcp::{Algorithm, EcnUse};
use netstack::transmission::{Capabilities, RxChecksum};
use netstack::wire::tcp::{FastOpen, Flags, Options, Packet, Repr, SackBlocks, Timestamps};
use netstack::wire::{EtherType, EthernetAddress, Protocol, ethernet, icmpv4, ipv4};
use runtime::time::Instant;
use support::{Record, TestApp, TestStream, byte_at};

const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OUR_HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const PEER_HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);
const PORT: u16 = 80;
const PEER_PORT: u16 = 5000;

/// The peer's ISN; near the wrap, so that each script crosses it.
const PEER_ISN: u32 = u32::MAX - 300;

/// In a script, the cookie that the stack gave.
const ANY_COOKIE: FastOpen = FastOpen::Cookie([0; 8]);

/// How late a packet may be: a tick of the timer wheel.
const TOLERANCE: Duration = Duration::from_micros(2200);

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("scripts")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pkt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut failures = String::new();
    for path in &paths {
        let text = std::fs::read_to_string(path).expect("text");
        let name = path.file_name().expect("a file").to_string_lossy();
        match run(&text) {
            Ok(()) => println!("{name}: ok"),
            Err((line, message)) => {
                let _ = writeln!(failures, "{name}:{line}: {message}");
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// A segment as written in a script, numbers relative to the initial ones.
#[derive(Clone, Debug, Default, PartialEq)]
struct Line {
    flags: String,
    seq: u32,
    len: u32,
    ack: Option<u32>,
    win: Option<u16>,
    df: Option<u16>,
    ecn: Option<u16>,
    urg: Option<u16>,
    from: Option<Ipv4Addr>,
    to: Option<Ipv4Addr>,
    options: Option<Options>,
}

struct Runner {
    /// The stack's time; may run ahead of the script's by the tolerance.
    now: Instant,
    script: Instant,
    stack: Stack,
    app: TestApp,
    key: Option<Key>,
    iss: Option<u32>,
    /// The same of each of the peer's ports.
    initial: std::collections::BTreeMap<u16, u32>,
    /// The value of our SYN's timestamp.
    first_stamp: u32,
    local_port: u16,
    peer_port: u16,
    /// The Fast Open cookie that the stack gave last.
    cookie: Option<FastOpen>,
    sent: std::collections::VecDeque<(Instant, Line)>,
}

fn run(text: &str) -> Result<(), (usize, String)> {
    let mut config = Config::new(OUR_HARDWARE, OURS, 24, *b"packet scripts!!");
    config.tcp.timestamps = false;
    config.tcp.pacing = false;
    config.tcp.congestion = Algorithm::NewReno;
    config.tcp.max_window = config.tcp.usual_window;
    let mut runner: Option<Runner> = None;
    let mut last = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        last = number + 1;
        if line.is_empty() {
            continue;
        }
        let at = |message: String| (number + 1, message);
        if let Some(option) = line.strip_prefix("option ") {
            if runner.is_some() {
                return Err(at("options go first".into()));
            }
            set_option(&mut config, option).map_err(at)?;
            continue;
        }
        let runner = runner.get_or_insert_with(|| Runner::new(config.clone()));
        runner.line(line).map_err(at)?;
    }
    let mut runner = runner.ok_or((last, "an empty script".to_owned()))?;
    runner.expect_silence().map_err(|message| (last, message))
}

fn set_option(config: &mut Config, option: &str) -> Result<(), String> {
    let (name, value) = option.split_once(' ').ok_or("option NAME VALUE")?;
    let number = || value.parse::<u64>().map_err(|_| format!("{value}: no number"));
    match name {
        "timestamps" => config.tcp.timestamps = value == "on",
        "congestion" => {
            config.tcp.congestion = match value {
                "reno" => Algorithm::NewReno,
                "cubic" => Algorithm::Cubic,
                _ => return Err(format!("no congestion control {value}")),
            }
        }
        "ecn" => {
            config.tcp.ecn = match value {
                "off" => EcnUse::Off,
                "passive" => EcnUse::Passive,
                "active" => EcnUse::Active,
                _ => return Err(format!("no use of ecn {value}")),
            }
        }
        "sack" => config.tcp.sack = value == "on",
        "pacing" => config.tcp.pacing = value == "on",
        "nagle" => config.tcp.nagle = value == "on",
        "header-merging" => config.features.header_merging = value == "on",
        "time-wait-records" => config.features.time_wait_records = value == "on",
        "packet-merging" => config.features.packet_merging = value == "on",
        "keep-alive-ms" => config.tcp.keep_alive = Some(Duration::from_millis(number()?)),
        "fast-open" => {
            config.fast_open =
                Some(FastOpenConfig { pending: number()? as usize, key: *b"cookies of tests" });
        }
        "challenges-per-second" => config.challenges_per_second = number()? as u32,
        "user-timeout-ms" => config.tcp.user_timeout = Some(Duration::from_millis(number()?)),
        "usual-window" => config.tcp.usual_window = number()? as u32,
        "max-window" => config.tcp.max_window = number()? as u32,
        "max-retransmissions" => config.tcp.max_retransmissions = number()? as u8,
        "fin-wait-2-ms" => config.tcp.fin_wait_2 = Duration::from_millis(number()?),
        "time-wait-ms" => config.time_wait = Duration::from_millis(number()?),
        "backlog" => config.backlog = number()? as usize,
        "initial-window" => config.tcp.initial_window_segments = number()? as u8,
        _ => return Err(format!("no option {name}")),
    }
    Ok(())
}

impl Runner {
    fn new(config: Config) -> Runner {
        let now = Instant::from_millis(1000);
        let mut stack = Stack::new(config);
        stack.listen(PORT).expect("a fresh stack");
        stack.add_neighbor(now, PEER, PEER_HARDWARE);
        let app = TestApp::new(|_| {
            let mut stream = TestStream::new(1, 0);
            stream.finish = false;
            Some(stream)
        });
        let (local_port, peer_port) = (PORT, PEER_PORT);
        Runner {
            now,
            script: now,
            stack,
            app,
            key: None,
            iss: None,
            initial: Default::default(),
            first_stamp: 0,
            local_port,
            peer_port,
            cookie: None,
            sent: Default::default(),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (time, rest) = line.split_once(' ').ok_or("TIME ACTION")?;
        let seconds: f64 = time
            .strip_prefix('+')
            .and_then(|t| t.parse().ok())
            .ok_or("times are +SECONDS, from the last line")?;
        let at = self.script + Duration::from_nanos((seconds * 1e9).round() as u64);
        self.script = at;
        if let Some(segment) = rest.strip_prefix("> ") {
            let expected = parse_segment(segment)?;
            return self.expect(at, &expected);
        }
        self.advance(at);
        self.expect_silence()?;
        if let Some(segment) = rest.strip_prefix("< ") {
            self.inject(&parse_segment(segment)?)?;
            self.collect();
            Ok(())
        } else if let Some(batch) = rest.strip_prefix("<< ") {
            for segment in batch.split(" << ") {
                self.inject(&parse_segment(segment)?)?;
            }
            self.collect();
            Ok(())
        } else {
            self.command(rest)
        }
    }

    /// Lets time pass, with all timers on their way.
    fn advance(&mut self, to: Instant) {
        self.collect();
        while let Some(at) = self.stack.poll_timeout().filter(|&at| at <= to) {
            self.now = self.now.max(at);
            self.stack.handle_timeout(self.now, &mut self.app);
            self.collect();
            if self.stack.poll_timeout() == Some(at) {
                // An entry of the wheel for later: its hand moves only with time.
                self.now = self.now + Duration::from_micros(100);
            }
        }
        self.now = self.now.max(to);
        self.stack.handle_timeout(self.now, &mut self.app);
        self.collect();
    }

    fn collect(&mut self) {
        let device = Capabilities::default();
        loop {
            let emit = |transmission: &netstack::transmission::Transmission<'_>| {
                let mut frame = transmission.headers.to_vec();
                frame.extend(transmission.payload_to_vec());
                frame
            };
            let Some(frame) = self.stack.poll_transmit(self.now, &device, &mut self.app, emit) else { break };
            let frame = ethernet::Frame::new_checked(&frame[..]).expect("a frame");
            if frame.ethertype() == EtherType::Arp {
                // Scripts of many minutes: the peer still has its address.
                self.stack.add_neighbor(self.now, PEER, PEER_HARDWARE);
                continue;
            }
            assert_eq!(frame.dst_addr(), PEER_HARDWARE);
            let ip = ipv4::Packet::new_checked(frame.payload()).expect("a packet");
            let packet = Packet::new_checked(ip.payload()).expect("a segment");
            let header = Repr::parse(&packet).expect("a header");
            if header.flags.syn() {
                self.iss = Some(header.seq_number);
                self.initial.insert(header.dst_port, header.seq_number);
                self.first_stamp = header.options.timestamps.map_or(0, |stamps| stamps.value);
                self.local_port = header.src_port;
                self.cookie = header.options.fast_open.or(self.cookie);
            }
            // A reset in answer to an ACK takes its number from there.
            let iss = self.iss.unwrap_or(0);
            let payload = packet.payload();
            // One in answer to something without ACK has the number zero.
            let zero = header.flags.rst() && header.seq_number == 0;
            let seq = if zero { 0 } else { header.seq_number.wrapping_sub(iss) };
            for (i, &byte) in payload.iter().enumerate() {
                assert_eq!(byte, byte_at(1, u64::from(seq - 1) + i as u64), "wrong payload at {seq}");
            }
            let mut options = header.options;
            let mut sack = SackBlocks::NONE;
            for &(left, right) in options.sack.as_slice() {
                sack.push(left.wrapping_sub(PEER_ISN), right.wrapping_sub(PEER_ISN));
            }
            options.sack = sack;
            if let Some(stamps) = &mut options.timestamps {
                stamps.value = stamps.value.wrapping_sub(self.first_stamp);
            }
            let line = Line {
                flags: letters(header.flags),
                seq,
                len: payload.len() as u32,
                ack: header.flags.ack().then(|| header.ack_number.wrapping_sub(PEER_ISN)),
                win: Some(header.window),
                df: Some(ip.dont_fragment().into()),
                ecn: Some(ip.ecn().into()),
                from: None,
                to: None,
                options: Some(options),
                urg: None,
            };
            self.sent.push_back((self.now, line));
        }
        if self.key.is_none() {
            self.key = self.app.records.iter().next().map(|(key, _)| Key(key as u32));
        }
    }

    fn expect(&mut self, at: Instant, expected: &Line) -> Result<(), String> {
        if self.sent.is_empty() {
            self.advance(at);
        }
        if self.sent.is_empty() {
            self.advance(at + TOLERANCE);
        }
        let Some((sent_at, sent)) = self.sent.pop_front() else {
            return Err(format!("nothing was sent, expected {}", show(expected)));
        };
        let differs = sent.flags != expected.flags
            || sent.seq != expected.seq
            || sent.len != expected.len
            || sent.ack != expected.ack
            || expected.win.is_some() && sent.win != expected.win
            || expected.df.is_some() && sent.df != expected.df
            || expected.ecn.is_some() && sent.ecn != expected.ecn
            || expected
                .options
                .is_some_and(|options| !same_options(&options, &sent.options.unwrap_or_default()));
        if differs {
            return Err(format!("expected {}\n      sent {}", show(expected), show(&sent)));
        }
        if sent_at < at || sent_at > at + TOLERANCE {
            let late = sent_at.as_nanos() as f64 - at.as_nanos() as f64;
            return Err(format!("sent {:.3} ms from the expected time: {}", late / 1e6, show(&sent)));
        }
        // Later times count from when it was really sent, or ticks would add up.
        self.script = self.script.max(sent_at);
        Ok(())
    }

    fn expect_silence(&mut self) -> Result<(), String> {
        match self.sent.pop_front() {
            None => Ok(()),
            Some((at, sent)) => {
                let ago = self.now.saturating_since(at);
                Err(format!("{ago:?} before this, unexpected: {}", show(&sent)))
            }
        }
    }

    fn inject(&mut self, segment: &Line) -> Result<(), String> {
        let mut options = segment.options.unwrap_or_default();
        let iss = self.iss.unwrap_or(0);
        let mut sack = SackBlocks::NONE;
        for &(left, right) in options.sack.as_slice() {
            sack.push(iss.wrapping_add(left), iss.wrapping_add(right));
        }
        options.sack = sack;
        if let Some(stamps) = &mut options.timestamps {
            stamps.echo_reply = stamps.echo_reply.wrapping_add(self.first_stamp);
        }
        if options.fast_open == Some(ANY_COOKIE) {
            options.fast_open = Some(self.cookie.ok_or("the stack has given no cookie")?);
        }
        let repr = Repr {
            src_port: self.peer_port,
            dst_port: self.local_port,
            seq_number: PEER_ISN.wrapping_add(segment.seq),
            ack_number: segment.ack.map_or(0, |ack| iss.wrapping_add(ack)),
            flags: flags(&segment.flags)?,
            window: segment.win.unwrap_or(65_535),
            options,
        };
        let payload: Vec<u8> = (0..segment.len)
            .map(|i| byte_at(0, u64::from(segment.seq.wrapping_sub(1).wrapping_add(i))))
            .collect();
        let mut frame = vec![0; 14 + 20 + repr.header_len() + payload.len()];
        let header =
            ethernet::Repr { src_addr: PEER_HARDWARE, dst_addr: OUR_HARDWARE, ethertype: EtherType::Ipv4 };
        header.emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
        let (src_addr, dst_addr) = (segment.from.unwrap_or(PEER), segment.to.unwrap_or(OURS));
        let ip = ipv4::Repr {
            src_addr,
            dst_addr,
            protocol: Protocol::Tcp,
            payload_len: repr.header_len() + payload.len(),
            ttl: 64,
            ident: 1,
            ecn: segment.ecn.unwrap_or(0) as u8,
        };
        ip.emit(&mut ipv4::Packet::new_unchecked(&mut frame[14..]));
        let header_len = repr.header_len();
        frame[34 + header_len..].copy_from_slice(&payload);
        repr.emit(&mut Packet::new_unchecked(&mut frame[34..]));
        frame[34 + 18..34 + 20].copy_from_slice(&segment.urg.unwrap_or(0).to_be_bytes());
        let mut packet = Packet::new_unchecked(&mut frame[34..]);
        packet.fill_checksum(src_addr, dst_addr, netstack::wire::checksum::sum(&payload), payload.len());
        self.stack.handle_frame(self.now, &frame, RxChecksum::Unknown, &mut self.app);
        Ok(())
    }

    /// An ICMP destination unreachable that quotes our segment at `seq`.
    fn report(&mut self, code: u8, seq: u32, next_hop_mtu: u16) {
        let mut original = [0; 28];
        let quoted = ipv4::Repr {
            src_addr: OURS,
            dst_addr: PEER,
            protocol: Protocol::Tcp,
            payload_len: 1000,
            ttl: 1,
            ident: 0,
            ecn: 0,
        };
        quoted.emit(&mut ipv4::Packet::new_unchecked(&mut original[..]));
        original[20..22].copy_from_slice(&self.local_port.to_be_bytes());
        original[22..24].copy_from_slice(&self.peer_port.to_be_bytes());
        original[24..28].copy_from_slice(&self.iss.unwrap_or(0).wrapping_add(seq).to_be_bytes());
        let report = icmpv4::Repr::DestinationUnreachable { code, next_hop_mtu, original: &original };
        let len = report.buffer_len();
        let mut frame = vec![0; 34 + len];
        let header =
            ethernet::Repr { src_addr: PEER_HARDWARE, dst_addr: OUR_HARDWARE, ethertype: EtherType::Ipv4 };
        header.emit(&mut ethernet::Frame::new_unchecked(&mut frame[..]));
        let router = Ipv4Addr::new(192, 0, 2, 99);
        let ip = ipv4::Repr {
            src_addr: router,
            dst_addr: OURS,
            protocol: Protocol::Icmp,
            payload_len: len,
            ttl: 64,
            ..quoted
        };
        ip.emit(&mut ipv4::Packet::new_unchecked(&mut frame[14..]));
        report.emit(&mut icmpv4::Packet::new_unchecked(&mut frame[34..]));
        self.stack.handle_frame(self.now, &frame, RxChecksum::Unknown, &mut self.app);
        self.collect();
    }

    fn record(&mut self) -> Result<&mut Record, String> {
        let key = self.key.ok_or("no connection yet")?;
        self.app.records.get_mut(key.0 as usize).ok_or("the connection is over".into())
    }

    fn command(&mut self, command: &str) -> Result<(), String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number = |at: usize| -> Result<u64, String> {
            words.get(at).and_then(|word| word.parse().ok()).ok_or(format!("{command}: a number is missing"))
        };
        match words[..] {
            ["quiet"] => return Ok(()),
            ["connect"] => {
                let mut stream = TestStream::new(1, 0);
                stream.finish = false;
                let keep = |pcb| self.app.keep(pcb, stream);
                let key = self.stack.connect(self.now, None, (PEER, PEER_PORT).into(), keep);
                self.key = Some(key.map_err(|error| error.to_string())?);
            }
            // A new connection of the peer's from another port.
            ["peer-port", _] => {
                self.peer_port = number(1)? as u16;
                self.iss = self.initial.get(&self.peer_port).copied().or(self.iss);
                self.key = None;
            }
            // A router reports the segment at SEQ: unreachable CODE SEQ [MTU].
            ["icmp", "unreachable", _, _] | ["icmp", "unreachable", _, _, _] => {
                let (code, seq) = (number(2)? as u8, number(3)? as u32);
                self.report(code, seq, number(4).unwrap_or(0) as u16);
            }
            ["app", "send", _] => {
                let len = number(2)?;
                self.record()?.stream.extend(len);
            }
            ["app", "close"] => self.record()?.stream.finish = true,
            ["app", "send", _, "close"] => {
                let len = number(2)?;
                self.record()?.stream.extend(len);
                self.record()?.stream.finish = true;
            }
            ["app", "abort"] => self.record()?.stream.abort = true,
            ["app", "stop-reading"] => self.record()?.stream.stopped_reading = true,
            ["app", "head", _] => self.record()?.stream.head = number(2)?,
            ["app", "window", _] => self.record()?.stream.window = number(2)? as usize,
            ["app", "deadline-ms", _] => {
                let at = self.script + Duration::from_millis(number(2)?);
                self.record()?.stream.deadline = Some(at);
            }
            ["state", name] => {
                let state = self.record()?.pcb.state_name();
                if state != name {
                    return Err(format!("state is {state}"));
                }
                return Ok(());
            }
            ["closed", reason] => {
                let (got, _) = self.app.closed.last().ok_or("the connection is not over")?;
                return if format!("{got:?}") == reason { Ok(()) } else { Err(format!("closed: {got:?}")) };
            }
            [what, _] => {
                let got = match what {
                    "received" => match self.app.closed.last() {
                        Some((_, stream)) => stream.received,
                        None => self.record()?.stream.received,
                    },
                    "acked" => self.record()?.stream.acknowledged,
                    "cwnd" => u64::from(self.record()?.pcb.congestion_window()),
                    "held" => self.record()?.pcb.reassembly_bytes() as u64,
                    "urgent" => {
                        let stream = &self.record()?.stream;
                        stream.urgent_end.saturating_sub(stream.received)
                    }
                    "urgent-told" => self.record()?.stream.urgent_told,
                    "timeouts" => u64::from(self.record()?.stream.timeouts),
                    "peer-finished" => u64::from(self.record()?.stream.peer_finished),
                    "fast-opened" => self.stack.stats().fast_opened,
                    "connections" => self.stack.connections() as u64,
                    "half-open" => self.stack.half_open() as u64,
                    "time-wait" => self.stack.in_time_wait() as u64,
                    _ => return Err(format!("no command {command}")),
                };
                let expected = number(1)?;
                return if got == expected { Ok(()) } else { Err(format!("{what} is {got}")) };
            }
            _ => return Err(format!("no command {command}")),
        }
        if let Some(key) = self.key {
            self.stack.wake(key);
        }
        self.collect();
        Ok(())
    }
}

fn letters(flags: Flags) -> String {
    let all = [
        (Flags::FIN, 'F'),
        (Flags::SYN, 'S'),
        (Flags::RST, 'R'),
        (Flags::PSH, 'P'),
        (Flags::ACK, '.'),
        (Flags::URG, 'U'),
        (Flags::ECE, 'E'),
        (Flags::CWR, 'W'),
    ];
    all.iter().filter(|(flag, _)| flags.contains(*flag)).map(|&(_, letter)| letter).collect()
}

fn flags(letters: &str) -> Result<Flags, String> {
    letters.chars().try_fold(Flags::NONE, |flags, letter| {
        Ok(flags.with(match letter {
            'F' => Flags::FIN,
            'S' => Flags::SYN,
            'R' => Flags::RST,
            'P' => Flags::PSH,
            '.' => Flags::ACK,
            'U' => Flags::URG,
            'E' => Flags::ECE,
            'W' => Flags::CWR,
            '0' => Flags::NONE,
            _ => return Err(format!("no flag {letter}")),
        }))
    })
}

/// `FLAGS SEQ:END(LEN) [ack N] [win N] [<options>]`
fn parse_segment(text: &str) -> Result<Line, String> {
    let (head, options) = match text.split_once('<') {
        Some((head, options)) => {
            let list = options.trim().strip_suffix('>').ok_or("options end with >")?;
            (head, Some(parse_options(list)?))
        }
        None => (text, None),
    };
    let mut words = head.split_whitespace();
    let flags = words.next().ok_or("flags are missing")?.to_owned();
    let range = words.next().ok_or("numbers are missing")?;
    let bad = || format!("{range}: expected SEQ:END(LEN)");
    let (seq, rest) = range.split_once(':').ok_or_else(bad)?;
    let (end, len) = rest.strip_suffix(')').and_then(|rest| rest.split_once('(')).ok_or_else(bad)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| bad());
    let mut line = Line { flags, seq: number(seq)?, len: number(len)?, options, ..Line::default() };
    if line.seq + line.len != number(end)? {
        return Err(format!("{range}: the numbers do not agree"));
    }
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        if let ("from" | "to", Ok(addr)) = (key, value.parse()) {
            *(if key == "to" { &mut line.to } else { &mut line.from }) = Some(addr);
            continue;
        }
        let value: u32 = value.parse().map_err(|_| format!("{value}: no number"))?;
        match key {
            "ack" => line.ack = Some(value),
            "win" => line.win = Some(value as u16),
            "df" => line.df = Some(value as u16),
            "ecn" => line.ecn = Some(value as u16),
            "urg" => line.urg = Some(value as u16),
            _ => return Err(format!("no field {key}")),
        }
    }
    Ok(line)
}

fn parse_options(list: &str) -> Result<Options, String> {
    let mut options = Options::NONE;
    for option in list.split(',').map(str::trim).filter(|option| !option.is_empty() && *option != "nop") {
        let words: Vec<&str> = option.split_whitespace().collect();
        let number =
            |at: usize| words.get(at).and_then(|w| w.parse::<u32>().ok()).ok_or(format!("{option}?"));
        match words[0] {
            "mss" => options.mss = Some(number(1)? as u16),
            "wscale" => options.window_scale = Some(number(1)? as u8),
            "sackOK" => options.sack_permitted = true,
            "FO" => {
                options.fast_open = Some(match words.get(1) {
                    None => FastOpen::Request,
                    Some(&"cookie") => ANY_COOKIE,
                    Some(&"wrong") => FastOpen::Cookie(*b"forged!!"),
                    Some(other) => return Err(format!("FO {other}?")),
                });
            }
            "TS" => {
                options.timestamps =
                    Some(Timestamps { value: number(2)?, echo_reply: number(4).unwrap_or(0) });
            }
            "sack" => {
                for block in &words[1..] {
                    let (left, right) = block.split_once(':').ok_or(format!("{option}?"))?;
                    let parse = |text: &str| text.parse::<u32>().map_err(|_| format!("{option}?"));
                    options.sack.push(parse(left)?, parse(right)?);
                }
            }
            _ => return Err(format!("no option {option}")),
        }
    }
    Ok(options)
}

/// Our timestamps' values are the clock's; scripts compare what they echo.
fn same_options(expected: &Options, sent: &Options) -> bool {
    let is_cookie = |options: &Options| matches!(options.fast_open, Some(FastOpen::Cookie(_)));
    let echo = |options: &Options| options.timestamps.map(|timestamps| timestamps.echo_reply);
    expected.mss == sent.mss
        && expected.window_scale == sent.window_scale
        && expected.sack_permitted == sent.sack_permitted
        && expected.sack == sent.sack
        && expected.fast_open.is_some() == sent.fast_open.is_some()
        && is_cookie(expected) == is_cookie(sent)
        && echo(expected) == echo(sent)
}

fn show(line: &Line) -> String {
    let mut text = format!("{} {}:{}({})", line.flags, line.seq, line.seq.wrapping_add(line.len), line.len);
    if let Some(ack) = line.ack {
        let _ = write!(text, " ack {ack}");
    }
    if let Some(win) = line.win {
        let _ = write!(text, " win {win}");
    }
    if let Some(df) = line.df {
        let _ = write!(text, " df {df}");
    }
    if let Some(ecn) = line.ecn {
        let _ = write!(text, " ecn {ecn}");
    }
    if let Some(options) = &line.options {
        let mut list = Vec::new();
        if let Some(mss) = options.mss {
            list.push(format!("mss {mss}"));
        }
        if options.sack_permitted {
            list.push("sackOK".to_owned());
        }
        if let Some(scale) = options.window_scale {
            list.push(format!("wscale {scale}"));
        }
        if let Some(timestamps) = options.timestamps {
            list.push(format!("TS val {} ecr {}", timestamps.value, timestamps.echo_reply));
        }
        match options.fast_open {
            Some(FastOpen::Cookie(_)) => list.push("FO cookie".to_owned()),
            Some(_) => list.push("FO".to_owned()),
            None => {}
        }
        if !options.sack.is_empty() {
            let blocks: Vec<_> = options.sack.as_slice().iter().map(|(l, r)| format!("{l}:{r}")).collect();
            list.push(format!("sack {}", blocks.join(" ")));
        }
        let _ = write!(text, " <{}>", list.join(","));
    }
    text
}
