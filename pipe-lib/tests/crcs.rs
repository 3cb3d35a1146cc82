//! CRCs of the published catalogue against a register of naive code, one bit at a time: in registers of every
//! width that holds them, at either end, by bits and by tables of nibbles.
//!
//! What the analysis makes of each is a CRC, so that the native backend takes it wherever the processor
//! multiplies without carries. Readable spellings of the same stand in `stranger/crcs.pipe`.

use pipe_lib::testing::{Judge, Rng};
use pipe_lib::{Backend, CompileError, Library};
use std::fmt::Write as _;

/// A CRC as the catalogue has it: <https://reveng.sourceforge.io/crc-catalogue/all.htm>.
struct Entry {
    name: &'static str,
    width: u32,
    poly: u64,
    init: u64,
    /// Of input and output; the catalogue's only mixed one is in `stranger/crcs.pipe`.
    reflected: bool,
    xorout: u64,
    /// Of `123456789`.
    check: u64,
}

const fn entry(
    name: &'static str,
    (width, poly, init, reflected): (u32, u64, u64, bool),
    (xorout, check): (u64, u64),
) -> Entry {
    Entry { name, width, poly, init, reflected, xorout, check }
}

const CATALOGUE: [Entry; 22] = [
    entry("CRC-3/GSM", (3, 0x3, 0, false), (0x7, 0x4)),
    entry("CRC-4/INTERLAKEN", (4, 0x3, 0xf, false), (0xf, 0xb)),
    entry("CRC-5/USB", (5, 0x05, 0x1f, true), (0x1f, 0x19)),
    entry("CRC-6/DARC", (6, 0x19, 0, true), (0, 0x26)),
    entry("CRC-7/MMC", (7, 0x09, 0, false), (0, 0x75)),
    entry("CRC-7/ROHC", (7, 0x4f, 0x7f, true), (0, 0x53)),
    entry("CRC-8/SMBUS", (8, 0x07, 0, false), (0, 0xf4)),
    entry("CRC-10/ATM", (10, 0x233, 0, false), (0, 0x199)),
    entry("CRC-11/FLEXRAY", (11, 0x385, 0x01a, false), (0, 0x5a3)),
    entry("CRC-12/DECT", (12, 0x80f, 0, false), (0, 0xf5b)),
    entry("CRC-13/BBC", (13, 0x1cf5, 0, false), (0, 0x04fa)),
    entry("CRC-14/DARC", (14, 0x0805, 0, true), (0, 0x082d)),
    entry("CRC-15/CAN", (15, 0x4599, 0, false), (0, 0x059e)),
    entry("CRC-16/ARC", (16, 0x8005, 0, true), (0, 0xbb3d)),
    entry("CRC-17/CAN-FD", (17, 0x1685b, 0, false), (0, 0x04f03)),
    entry("CRC-21/CAN-FD", (21, 0x10_2899, 0, false), (0, 0x0e_d841)),
    entry("CRC-24/OPENPGP", (24, 0x86_4cfb, 0xb7_04ce, false), (0, 0x21_cf02)),
    entry("CRC-24/BLE", (24, 0x00_065b, 0x55_5555, true), (0, 0xc2_5a56)),
    entry("CRC-30/CDMA", (30, 0x2030_b9c7, 0x3fff_ffff, false), (0x3fff_ffff, 0x04c3_4abf)),
    entry("CRC-31/PHILIPS", (31, 0x04c1_1db7, 0x7fff_ffff, false), (0x7fff_ffff, 0x0ce9_e46c)),
    entry("CRC-40/GSM", (40, 0x00_0482_0009, 0, false), (0xff_ffff_ffff, 0xd4_164f_c646)),
    entry("CRC-64/XZ", (64, 0x42f0_e1eb_a9ea_3693, u64::MAX, true), (u64::MAX, 0x995d_c9bb_df19_39fa)),
];

impl Entry {
    fn mask(&self) -> u64 {
        u64::MAX >> (64 - self.width)
    }

    fn turned(&self, value: u64) -> u64 {
        value.reverse_bits() >> (64 - self.width)
    }

    /// Long division, the most significant bit of the register first.
    fn naive(&self, bytes: &[u8]) -> u64 {
        let mut register = self.init;
        for byte in bytes {
            let byte = if self.reflected { byte.reverse_bits() } else { *byte };
            for bit in (0..8).rev() {
                let top = (register >> (self.width - 1) & 1) ^ u64::from(byte >> bit & 1);
                register = (register << 1 & self.mask()) ^ (top * self.poly);
            }
        }
        if self.reflected { self.turned(register) ^ self.xorout } else { register ^ self.xorout }
    }

    /// The remainder of `bits` bits that meet the register's most significant ones.
    fn stepped(&self, mut register: u64, bits: u32) -> u64 {
        for _ in 0..bits {
            let top = register >> (self.width - 1) & 1;
            register = (register << 1 & self.mask()) ^ (top * self.poly);
        }
        register
    }

    /// The least significant bit first, the remainder at the lower end of the register.
    fn reflected_by_bits(&self, register: u32) -> String {
        let step =
            format!("and b, c, 1; mul m, b, {:#x}; shr c, c, 1; xor c, c, m\n", self.turned(self.poly));
        let enter = widened(register);
        let init = self.turned(self.init);
        format!("state c: u{register} = {init:#x}; in x\n{enter}; xor c, c, w\n{}", step.repeat(8))
    }

    /// The same by two tables of sixteen remainders in one.
    fn reflected_by_nibbles(&self, register: u32) -> String {
        let table = table(register, |index| self.turned(self.stepped(self.turned_nibble(index), 4)));
        let enter = widened(register);
        let init = self.turned(self.init);
        let step = "and i, c, 15; lookup r, t, i; shr c, c, 4; xor c, c, r\n".repeat(2);
        format!("{table}state c: u{register} = {init:#x}; in x\n{enter}; xor c, c, w\n{step}")
    }

    fn turned_nibble(&self, index: u64) -> u64 {
        // For widths from four up.
        (index.reverse_bits() >> 60) << (self.width - 4)
    }

    /// The most significant bit first, the remainder at the upper end of the register.
    fn upper_by_bits(&self, register: u32) -> String {
        let (up, spare, top) = (register - 8, register - self.width, register - 1);
        let poly = self.poly << spare;
        let step = format!("sar m, c, {top}; and m, m, {poly:#x}; shl c, c, 1; xor c, c, m\n");
        let (enter, init) = (widened(register), self.init << spare);
        format!(
            "state c: u{register} = {init:#x}; in x\n{enter}; shl w, w, {up}; xor c, c, w\n{}",
            step.repeat(8)
        )
    }

    /// The same at the lower end, by nibbles; masked once. For widths from eight up.
    fn lower_by_nibbles(&self, register: u32) -> String {
        let table = table(register, |index| self.stepped(index << (self.width - 4), 4));
        let down = self.width - 4;
        let enter = widened(register);
        let (init, mask) = (self.init, self.mask());
        format!(
            "{table}state c: u{register} = {init:#x}; in x\n{enter}\n\
             shr n, w, 4; shr i, c, {down}; xor i, i, n; lookup r, t, i; shl c, c, 4; xor c, c, r\n\
             shr i, c, {down}; xor i, i, w; lookup r, t, i; shl c, c, 4; xor c, c, r\n\
             and c, c, {mask:#x}\n"
        )
    }

    /// Bodies of pipes, and how far their registers are to be shifted down in the end.
    fn spellings(&self) -> Vec<(String, u32)> {
        let mut all = Vec::new();
        for register in [8, 16, 32, 64].into_iter().filter(|register| *register >= self.width) {
            if self.reflected {
                all.push((self.reflected_by_bits(register), 0));
                if self.width >= 4 {
                    all.push((self.reflected_by_nibbles(register), 0));
                }
            } else {
                all.push((self.upper_by_bits(register), register - self.width));
                if self.width >= 8 {
                    all.push((self.lower_by_nibbles(register), 0));
                }
            }
        }
        all
    }

    fn pipe(&self, (body, down): &(String, u32)) -> String {
        let mut text = format!("pipe p : u8 {{\n{body}finish {{\nshr v, c, {down}\n");
        let _ = write!(text, "export crc = xor v, {:#x}\n}}\n}}\n", self.xorout);
        text
    }
}

fn widened(register: u32) -> &'static str {
    if register == 8 { "mov w, x" } else { "zext w, x" }
}

fn table(register: u32, element: impl Fn(u64) -> u64) -> String {
    let elements: Vec<String> = (0..16).map(|index| format!("{:#x}", element(index))).collect();
    format!("table t: u{register} = [{}]\n", elements.join(", "))
}

fn each(mut f: impl FnMut(&Entry, &str, &pipe_lib::Pipeline)) {
    for entry in &CATALOGUE {
        for spelling in entry.spellings() {
            let text = entry.pipe(&spelling);
            let mut library = Library::standard();
            let loaded = library.load("crc.pipe", &text);
            assert!(loaded.is_ok(), "{}: {loaded:?}\n{text}", entry.name);
            let pipeline = library.pipeline("p").unwrap();
            f(entry, &text, &pipeline);
        }
    }
}

#[test]
fn naive_code_has_the_published_check_values() {
    for entry in &CATALOGUE {
        assert_eq!(entry.naive(b"123456789"), entry.check, "{}", entry.name);
    }
}

#[test]
fn every_spelling_is_a_crc_and_gives_the_published_check_value() {
    let mut count = 0;
    each(|entry, text, pipeline| {
        let facts = pipe_lib::analyse::analyse(&pipeline.composition().stages[0].pipe);
        let class = facts.states[0].class.to_string();
        assert!(class.contains(&format!("{}-bit CRC", entry.width)), "{} is {class}\n{text}", entry.name);
        for backend in Backend::ALL {
            match pipeline.compile_with(&backend.into()) {
                Ok(engine) => {
                    let run = engine.run_read_only(b"123456789").unwrap();
                    assert_eq!(
                        run.export("p.crc").unwrap(),
                        entry.check,
                        "{} on {backend}\n{text}",
                        entry.name
                    );
                }
                Err(CompileError::Unsupported(why)) => {
                    assert!(backend != Backend::Native || !multiplies_without_carries(), "{why}\n{text}");
                }
                Err(error) => panic!("{error}\n{text}"),
            }
        }
        count += 1;
    });
    assert!(count > 80, "only {count} spellings");
}

#[test]
fn every_spelling_agrees_with_naive_code_and_with_the_oracle() {
    let mut rng = Rng::new(5);
    each(|entry, text, pipeline| {
        let engine = pipeline.compile().unwrap();
        for len in [rng.between(1, 9), rng.between(10, 63), rng.between(64, 300), rng.between(301, 5000)] {
            let bytes = rng.bytes(len);
            let run = engine.run_read_only(&bytes).unwrap();
            assert_eq!(
                run.export("p.crc").unwrap(),
                entry.naive(&bytes),
                "{}, {len} bytes\n{text}",
                entry.name
            );
        }
        let backends = [Backend::Interp, Backend::Cranelift, Backend::Native];
        // Registers are imported at random there, the bits beside the remainder as well.
        let judge = Judge::new(pipeline.composition().clone(), &backends).unwrap();
        for len in [rng.between(1, 9), rng.between(10, 400)] {
            if let Err(failure) = judge.judge_some(&mut rng, len, 6) {
                panic!("{}: {failure}\n{text}", entry.name);
            }
        }
    });
}

fn multiplies_without_carries() -> bool {
    let names: Vec<&str> = pipe_lib::Features::detected().names().collect();
    names.contains(&"avx2") && names.contains(&"pclmul")
}
