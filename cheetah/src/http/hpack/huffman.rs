//! The Huffman code of RFC 7541, appendix B. It is canonical: of two codes of a length that of the smaller
//! symbol is the smaller, and so the lengths are all there is to know.

/// A byte, or the one that is never sent.
const SYMBOLS: usize = 257;

/// The end of a string, of which padding is the beginning.
const EOS: u16 = 256;

const MAX_BITS: usize = 30;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// All that follows from the lengths.
struct Code {
    /// Of each symbol.
    codes: [u32; SYMBOLS],
    /// Symbols by length, and by themselves within one.
    sorted: [u16; SYMBOLS],
    /// By length: the first code, and where in `sorted` its symbol stands; how many there are.
    first: [u32; MAX_BITS + 1],
    place: [u16; MAX_BITS + 1],
    count: [u16; MAX_BITS + 1],
    /// By the next byte: symbol and length, where the code is no longer than that; a length of 0 elsewhere.
    short: [(u8, u8); 256],
}

static CODE: Code = Code::new();

impl Code {
    const fn new() -> Code {
        let mut code = Code {
            codes: [0; SYMBOLS],
            sorted: [0; SYMBOLS],
            first: [0; MAX_BITS + 1],
            place: [0; MAX_BITS + 1],
            count: [0; MAX_BITS + 1],
            short: [(0, 0); 256],
        };
        let (mut next, mut sorted, mut len) = (0_u32, 0, 1);
        while len <= MAX_BITS {
            next <<= 1;
            code.first[len] = next;
            code.place[len] = sorted as u16;
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == len {
                    code.codes[symbol] = next;
                    code.sorted[sorted] = symbol as u16;
                    if len <= 8 {
                        let mut rest = 0;
                        while rest < 1 << (8 - len) {
                            code.short[(next as usize) << (8 - len) | rest] = (symbol as u8, len as u8);
                            rest += 1;
                        }
                    }
                    next += 1;
                    sorted += 1;
                    code.count[len] += 1;
                }
                symbol += 1;
            }
            len += 1;
        }
        code
    }
}

/// The string is no code, or is padded with something else than the beginning of the end's code, or too much
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadCode;

/// Appends what `input` stands for: at most eight bytes for five.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> Result<(), BadCode> {
    // The low `held` bits of `bits` are not decoded yet.
    let (mut bits, mut held) = (0_u64, 0_u32);
    let mut rest = input.iter();
    loop {
        while held <= 56
            && let Some(&byte) = rest.next()
        {
            bits = bits << 8 | u64::from(byte);
            held += 8;
        }
        // What lies behind the end is read as ones.
        let next = match held {
            30.. => (bits >> (held - 30)) as u32,
            _ => (bits << (30 - held)) as u32 | ((1 << (30 - held)) - 1),
        } & ((1 << 30) - 1);
        let (symbol, len) = match CODE.short[(next >> 22) as usize] {
            (_, 0) => long(next),
            (symbol, len) => (u16::from(symbol), u32::from(len)),
        };
        if len > held {
            let padding = (1_u64 << held) - 1;
            return if held < 8 && bits & padding == padding { Ok(()) } else { Err(BadCode) };
        }
        let Ok(byte) = u8::try_from(symbol) else { return Err(BadCode) };
        out.push(byte);
        held -= len;
    }
}

/// The symbol whose code of more than eight bits begins the thirty bits `next`.
fn long(next: u32) -> (u16, u32) {
    for len in 10..MAX_BITS {
        let index = (next >> (MAX_BITS - len)).wrapping_sub(CODE.first[len]);
        if index < u32::from(CODE.count[len]) {
            return (CODE.sorted[usize::from(CODE.place[len]) + index as usize], len as u32);
        }
    }
    let index = next.wrapping_sub(CODE.first[MAX_BITS]) as usize;
    let symbol = CODE.sorted.get(usize::from(CODE.place[MAX_BITS]) + index);
    (symbol.copied().unwrap_or(EOS), MAX_BITS as u32)
}

/// How many bytes [`encode`] writes.
pub(super) fn encoded_len(bytes: &[u8]) -> usize {
    bytes.iter().map(|&byte| usize::from(LENGTHS[usize::from(byte)])).sum::<usize>().div_ceil(8)
}

/// Appends the code of `bytes`.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut held) = (0_u64, 0_u32);
    for &byte in bytes {
        let len = u32::from(LENGTHS[usize::from(byte)]);
        bits = bits << len | u64::from(CODE.codes[usize::from(byte)]);
        held += len;
        while held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    if held > 0 {
        out.push((bits << (8 - held)) as u8 | ((1_u16 << (8 - held)) - 1) as u8);
    }
}
