//! The published catalogue of CRCs by name: each entry a pipe, whose text is made from the entry's
//! parameters.
//!
//! Parameters are those of the catalogue of parametrised CRC algorithms
//! (<https://reveng.sourceforge.io/crc-catalogue/all.htm>). A pipe is made when it is first named; one that a
//! file declares goes before one of the catalogue.

use super::Library;
use crate::ir::Pipe;
use crc_catalog as published;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, OnceLock};

/// A CRC of the catalogue, in the catalogue's own terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueCrc {
    /// Its name there: `CRC-16/MODBUS`.
    pub title: String,
    /// Its name as a stage of a pipeline: `crc16_modbus`.
    pub name: String,
    /// Bits of the remainder.
    pub width: u32,
    /// The polynomial without its highest term, in natural order.
    pub poly: u128,
    /// The remainder before the first bit, in natural order.
    pub init: u128,
    /// Whether the least significant bit of each byte comes first.
    pub refin: bool,
    /// Whether the remainder is turned around in the end.
    pub refout: bool,
    /// What is added (exclusive or) after that.
    pub xorout: u128,
    /// The result of `123456789`.
    pub check: u128,
    /// The remainder of a message with its CRC behind it, before `xorout`.
    pub residue: u128,
}

impl CatalogueCrc {
    fn new(constant: &str, width: u8, numbers: [u128; 5], (refin, refout): (bool, bool)) -> CatalogueCrc {
        let [poly, init, xorout, check, residue] = numbers;
        let (_, label) = constant.split_once('_').unwrap_or_default();
        let title = format!("CRC-{}", label.replacen('_', "/", 1).replace('_', "-"));
        let name = format!("crc{}", label.to_lowercase());
        CatalogueCrc { title, name, width: width.into(), poly, init, refin, refout, xorout, check, residue }
    }

    /// The pipe that computes it, bit by bit, and a test of its check value.
    ///
    /// The remainder is kept where the message enters, at the lower end of its register if the least
    /// significant bit comes first and at the upper end otherwise: what the register has too many are then
    /// bits of the message that are still to come.
    pub fn text(&self) -> String {
        let CatalogueCrc { title, name, width, check, .. } = self;
        if *width > u64::BITS {
            return self.text_in_halves();
        }
        let register = width.next_power_of_two().max(8);
        let spare = register - width;
        let turned = |value: u128| self.turned(value);
        let digits = register as usize / 4 + 2;
        let mut text = format!("/// {title}, as the catalogue of parametrised CRC algorithms has it.\n");
        let init = if self.refin { turned(self.init) } else { self.init << spare };
        // Writing to a string does not fail.
        let _ = writeln!(text, "pipe {name} : u8 {{\n    state crc: u{register} = {init:#x}\n    in x");
        let widen = if register == 8 { "mov" } else { "zext" };
        let _ = writeln!(text, "    {widen} word, x");
        let step = if self.refin {
            let poly = turned(self.poly);
            format!(
                "    and low, crc, 1\n    mul taps, low, {poly:#0digits$x}\n    shr crc, crc, 1\n    xor crc, crc, taps\n"
            )
        } else {
            if register > 8 {
                let _ = writeln!(text, "    shl word, word, {}", register - 8);
            }
            let (poly, top) = (self.poly << spare, register - 1);
            format!(
                "    sar taps, crc, {top}\n    and taps, taps, {poly:#0digits$x}\n    shl crc, crc, 1\n    xor crc, crc, taps\n"
            )
        };
        let _ = write!(text, "    xor crc, crc, word\n{}", step.repeat(8));
        let mut ends = Vec::new();
        if self.refin != self.refout {
            ends.push(("bitrev", String::new()));
        }
        if !self.refout && spare > 0 {
            ends.push(("shr", format!(", {spare}")));
        }
        if self.xorout != 0 {
            ends.push(("xor", format!(", {:#x}", self.xorout)));
        }
        match &ends[..] {
            [] => text.push_str("    export crc\n}\n\n"),
            [(op, by)] => {
                let _ = writeln!(text, "    export crc = {op} crc{by}\n}}\n");
            }
            [(first, by), (last, and_by)] => {
                let _ = writeln!(
                    text,
                    "    finish {{\n        {first} value, crc{by}\n        export crc = {last} value{and_by}\n    }}\n}}\n"
                );
            }
            // Turned and at the upper end at once it is nowhere else.
            _ => debug_assert!(false, "{title}"),
        }
        let _ = writeln!(
            text,
            "test {name} \"CRC catalogue check value\" {{ input \"123456789\" expect crc = {check:#x} }}"
        );
        text
    }

    /// The same of more than 64 bits, the register in two states and results: no backend but the interpreter
    /// has values of 128 bits beside words of 8. The catalogue's one such CRC has the least significant bit
    /// first.
    fn text_in_halves(&self) -> String {
        let CatalogueCrc { title, name, check, .. } = self;
        debug_assert!(self.refin && self.refout && self.xorout == 0, "{title}");
        let halves = |value: u128| (value as u64, (value >> 64) as u64);
        let (init, poly) = (halves(self.turned(self.init)), halves(self.turned(self.poly)));
        let check = halves(*check);
        let step = format!(
            "    and bit, low, 1\n    shl carry, high, 63\n    shr low, low, 1\n    or low, low, carry\n    \
             shr high, high, 1\n    mul taps, bit, {:#018x}\n    xor low, low, taps\n    \
             mul taps, bit, {:#018x}\n    xor high, high, taps\n",
            poly.0, poly.1
        );
        format!(
            "/// {title}, as the catalogue of parametrised CRC algorithms has it, in two halves.\n\
             pipe {name} : u8 {{\n    state low: u64 = {:#x}\n    state high: u64 = {:#x}\n    in x\n    \
             zext word, x\n    xor low, low, word\n{}    export low\n    export high\n}}\n\n\
             test {name} \"CRC catalogue check value\" {{\n    input \"123456789\"\n    \
             expect low = {:#x}\n    expect high = {:#x}\n}}\n",
            init.0,
            init.1,
            step.repeat(8),
            check.0,
            check.1
        )
    }

    fn turned(&self, value: u128) -> u128 {
        value.reverse_bits() >> (u128::BITS - self.width)
    }

    fn pipe(&self) -> Option<Arc<Pipe>> {
        let mut library = Library::empty();
        let loaded = library.load(&format!("<catalogue/{}>", self.title), &self.text());
        debug_assert!(loaded.is_ok(), "{loaded:?}");
        library.pipe(&self.name).cloned()
    }
}

/// Entries by the names of their constants.
macro_rules! entries {
    ($($constant:ident)*) => {
        [$({
            let crc = published::$constant;
            let numbers = [crc.poly.into(), crc.init.into(), crc.xorout.into(), crc.check.into(), crc.residue.into()];
            CatalogueCrc::new(stringify!($constant), crc.width, numbers, (crc.refin, crc.refout))
        }),*]
    };
}

static ENTRIES: LazyLock<[CatalogueCrc; 113]> = LazyLock::new(|| {
    entries! {
        CRC_3_GSM CRC_3_ROHC CRC_4_G_704 CRC_4_INTERLAKEN CRC_5_EPC_C1G2 CRC_5_G_704 CRC_5_USB
        CRC_6_CDMA2000_A CRC_6_CDMA2000_B CRC_6_DARC CRC_6_GSM CRC_6_G_704 CRC_7_MMC CRC_7_ROHC
        CRC_7_UMTS CRC_8_AUTOSAR CRC_8_BLUETOOTH CRC_8_CDMA2000 CRC_8_DARC CRC_8_DVB_S2 CRC_8_GSM_A
        CRC_8_GSM_B CRC_8_HITAG CRC_8_I_432_1 CRC_8_I_CODE CRC_8_LTE CRC_8_MAXIM_DOW
        CRC_8_MIFARE_MAD CRC_8_NRSC_5 CRC_8_OPENSAFETY CRC_8_ROHC CRC_8_SAE_J1850 CRC_8_SMBUS
        CRC_8_TECH_3250 CRC_8_WCDMA CRC_10_ATM CRC_10_CDMA2000 CRC_10_GSM CRC_11_FLEXRAY CRC_11_UMTS
        CRC_12_CDMA2000 CRC_12_DECT CRC_12_GSM CRC_12_UMTS CRC_13_BBC CRC_14_DARC CRC_14_GSM
        CRC_15_CAN CRC_15_MPT1327 CRC_16_ARC CRC_16_CDMA2000 CRC_16_CMS CRC_16_DDS_110 CRC_16_DECT_R
        CRC_16_DECT_X CRC_16_DNP CRC_16_EN_13757 CRC_16_GENIBUS CRC_16_GSM CRC_16_IBM_3740
        CRC_16_IBM_SDLC CRC_16_ISO_IEC_14443_3_A CRC_16_KERMIT CRC_16_LJ1200 CRC_16_M17
        CRC_16_MAXIM_DOW CRC_16_MCRF4XX CRC_16_MODBUS CRC_16_NRSC_5 CRC_16_OPENSAFETY_A
        CRC_16_OPENSAFETY_B CRC_16_PROFIBUS CRC_16_RIELLO CRC_16_SPI_FUJITSU CRC_16_T10_DIF
        CRC_16_TELEDISK CRC_16_TMS37157 CRC_16_UMTS CRC_16_USB CRC_16_XMODEM CRC_17_CAN_FD
        CRC_21_CAN_FD CRC_24_BLE CRC_24_FLEXRAY_A CRC_24_FLEXRAY_B CRC_24_INTERLAKEN CRC_24_LTE_A
        CRC_24_LTE_B CRC_24_OPENPGP CRC_24_OS_9 CRC_30_CDMA CRC_31_PHILIPS CRC_32_AIXM
        CRC_32_AUTOSAR CRC_32_BASE91_D CRC_32_BZIP2 CRC_32_CD_ROM_EDC CRC_32_CKSUM CRC_32_ISCSI
        CRC_32_ISO_HDLC CRC_32_JAMCRC CRC_32_MEF CRC_32_MPEG_2 CRC_32_XFER CRC_40_GSM
        CRC_64_ECMA_182 CRC_64_GO_ISO CRC_64_MS CRC_64_NVME CRC_64_REDIS CRC_64_WE CRC_64_XZ
        CRC_82_DARC
    }
});

/// All of them, the narrowest first.
pub fn catalogue() -> &'static [CatalogueCrc] {
    &*ENTRIES
}

/// The pipe of that name.
pub(super) fn pipe(name: &str) -> Option<&'static Arc<Pipe>> {
    static PIPES: [OnceLock<Option<Arc<Pipe>>>; 113] = [const { OnceLock::new() }; 113];
    // Most names are none of these.
    if !name.starts_with("crc") {
        return None;
    }
    let index = ENTRIES.iter().position(|entry| entry.name == name)?;
    PIPES[index].get_or_init(|| ENTRIES[index].pipe()).as_ref()
}
