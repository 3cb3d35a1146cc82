//! Frames for handlers: mostly right, of few addresses and ports, so that every verdict comes about; and
//! random handlers.

use std::fmt::Write as _;

use netstack::wire::checksum;

/// Our address, 10.9.0.1.
pub const ADDR: u32 = 0x0a09_0001;

/// Our address in IPv6, fd00:9::1.
pub const ADDR6: u128 = 0xfd00_0009_u128 << 96 | 1;

/// Numbers from a seed (xorshift64*).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }
}

/// Any frame of 14 to 200 bytes.
pub fn frame(rng: &mut Rng) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..200).map(|_| rng.next() as u8).collect();
    if !rng.one_in(8) {
        frame[12..14].copy_from_slice(&rng.of(&[[8, 0], [8, 0], [8, 0], [8, 0], [8, 6], [0x86, 0xdd]]));
        frame[14] = rng.of(&[0x45, 0x45, 0x45, 0x45, 0x45, 0x46, 0x65, 0x4f]);
        frame[20..22].copy_from_slice(&rng.of(&[[0, 0], [0x40, 0], [0x40, 0], [0x20, 0], [0, 9]]));
        frame[23] = rng.of(&[6, 6, 6, 17, 1, 58]);
        let addresses = [ADDR, ADDR, ADDR, ADDR, ADDR + 1, ADDR ^ 0x8000_0000, u32::MAX, 0];
        frame[26..30].copy_from_slice(&rng.of(&addresses).to_be_bytes());
        frame[30..34].copy_from_slice(&rng.of(&addresses).to_be_bytes());
        frame[36..38].copy_from_slice(&rng.of(&[80u16, 443, 8081, 8081, 22, 0]).to_be_bytes());
        frame[46..48].copy_from_slice(&rng.of(&[
            [0x50, 2],
            [0x50, 16],
            [0x50, 24],
            [0x50, 17],
            [0x80, 2],
            [0x50, 4],
        ]));
        if frame[23] == 1 {
            frame[34..36].copy_from_slice(&rng.of(&[[8, 0], [8, 0], [0, 0], [3, 4]]));
        } else if rng.one_in(2) {
            frame[54..66].copy_from_slice(b"GET /healthz");
        }
        match [frame[12], frame[13]] {
            [8, 6] => {
                frame[28..32].copy_from_slice(&rng.of(&addresses).to_be_bytes());
                frame[38..42].copy_from_slice(&rng.of(&addresses).to_be_bytes());
            }
            [0x86, 0xdd] => {
                let group = 0xff02_u128 << 112 | 0x0001_ff00_0000 | ADDR6 & 0xff_ffff;
                let other = ADDR6 ^ 1 << rng.below(128);
                frame[38..54].copy_from_slice(&rng.of(&[ADDR6, group, group, other]).to_be_bytes());
                frame[62..78].copy_from_slice(&rng.of(&[ADDR6, other]).to_be_bytes());
            }
            _ => {}
        }
        if rng.one_in(8) {
            frame[rng.below(80) as usize] ^= 1 << rng.below(8);
        }
    }
    let any = 15 + rng.below(185) as usize;
    frame.truncate(rng.of(&[14, 20, 34, 42, 54, 54, 60, 66, 74, 128, 200, any]));
    if frame.len() >= 18 {
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
    }
    frame
}

/// Straight-line code of all that eBPF has, on words of any width, each value in the end in a counter.
pub fn random_handler(rng: &mut Rng) -> String {
    let (gauge, bits) = rng.of(&[
        ("u8", 8),
        ("u16be", 16),
        ("u16le", 16),
        ("u32be", 32),
        ("u32le", 32),
        ("u64be", 64),
        ("u64le", 64),
    ]);
    let mut text = format!("pipe random : {gauge} tail zero {{\n");
    let places = 128 / (bits / 8);
    let words = 2 + rng.below(4);
    let ty = format!("u{bits}");
    for word in 0..words {
        let _ = writeln!(text, "state w{word}: {ty} = {}", rng.below(200));
    }
    text += "in x\npos p\n";
    for word in 0..words {
        let at = rng.below(places.min(40)) * (bits / 8);
        let _ = writeln!(text, "eq at, p, {at}; sel w{word}, at, x, w{word}");
    }
    text += "finish {\n";
    let mut names: Vec<String> = (0..words).map(|word| format!("w{word}")).collect();
    for step in 0..4 + rng.below(24) {
        let name = format!("t{step}");
        let (a, b) = (operand(rng, &names, bits), operand(rng, &names, bits));
        let kind = rng.below(10);
        let narrow = bits < 64;
        if kind < 6 {
            let mut ops = vec![
                "add", "sub", "mul", "and", "or", "xor", "shl", "shr", "sar", "rotl", "rotr", "min", "max",
                "addc", "adds", "subs",
            ];
            if narrow {
                ops.extend(["smin", "smax"]);
            }
            let _ = writeln!(text, "{}.{ty} {name}, {a}, {b}", rng.of(&ops));
        } else if kind < 7 {
            let _ = writeln!(text, "{}.{ty} {name}, {a}", rng.of(&["neg", "not", "bswap"]));
        } else if kind < 8 && narrow {
            let c = operand(rng, &names, bits);
            let _ = writeln!(text, "{}.{ty} {name}, {a}, {b}, {c}", rng.of(&["addmod", "mulmod"]));
        } else if kind < 9 || !narrow {
            let compare = rng.of(&["eq", "ne", "ltu", "leu", "lts", "les"]);
            let (c, d) = (operand(rng, &names, bits), operand(rng, &names, bits));
            let _ = writeln!(text, "{compare}.{ty} c{step}, {a}, {b}; sel.{ty} {name}, c{step}, {c}, {d}");
        } else {
            let wider = rng.of(&["u16", "u32", "u64"]
                .map(|wide| wide)
                .into_iter()
                .filter(|wide| wide[1..].parse::<u64>().is_ok_and(|w| w > bits))
                .collect::<Vec<_>>());
            let extend = rng.of(&["zext", "sext"]);
            let _ = writeln!(
                text,
                "mov.{ty} m{step}, {a}; {extend}.{wider} e{step}, m{step}; mul f{step}, e{step}, e{step}; \
                 shr f{step}, f{step}, 3; trunc.{ty} {name}, f{step}"
            );
        }
        names.push(name);
    }
    for (index, name) in names.iter().enumerate() {
        let _ = writeln!(text, "export e_{index} = mov.{ty} {name}");
    }
    let last = names.last().map_or("w0", String::as_str);
    let _ = writeln!(text, "and verdict, {last}, {}\nexport verdict\n}}\n}}", rng.of(&[1, 2, 3, 7]));
    text
}

fn operand(rng: &mut Rng, names: &[String], bits: u64) -> String {
    if rng.one_in(5) {
        let number = rng.of(&[0, 1, 2, 3, 7, 8, 31, 63, 0x7f, 0x80, 0xff, rng_number(bits), u64::MAX]);
        format!("{:#x}", number & (u64::MAX >> (64 - bits)))
    } else {
        names[rng.below(names.len() as u64) as usize].clone()
    }
}

/// The number with the top bit alone.
fn rng_number(bits: u64) -> u64 {
    1 << (bits - 1)
}

/// An echo request with so many bytes behind its header.
pub fn echo_request(len: usize) -> Vec<u8> {
    let mut frame = header(1, 8 + len);
    let at = frame.len();
    frame.extend([8, 0, 0, 0, 0x12, 0x34, 0, 7]);
    frame.extend((0..len).map(|i| i as u8));
    let sum = !checksum::sum(&frame[at..]);
    frame[at + 2..at + 4].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// A segment from 10.9.0.2, port 40,000, without options; its checksum is not looked at.
pub fn tcp_segment(port: u16, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(6, 20 + payload.len());
    frame.extend(40_000u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend(seq.to_be_bytes());
    frame.extend(ack.to_be_bytes());
    frame.extend([0x50, flags, 0x10, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(payload);
    frame
}

fn header(protocol: u8, payload_len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0]);
    frame.extend((20 + payload_len as u16).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 63, protocol, 0, 0]);
    frame.extend(0x0a09_0002u32.to_be_bytes());
    frame.extend(ADDR.to_be_bytes());
    let sum = !checksum::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}
