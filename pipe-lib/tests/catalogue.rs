//! Every CRC of the published catalogue by name: its check value and its residue, on every backend; and that
//! it is as fast as one that is known, since the compiler finds out that it is a CRC.

use pipe_lib::analyse::analyse;
use pipe_lib::library::{CatalogueCrc, catalogue};
use pipe_lib::syntax::print::format_source;
use pipe_lib::{Backend, CompileError, Engine, Features, Library};

/// The register in natural order, a bit at a time: long division by the polynomial.
struct Naive<'a> {
    crc: &'a CatalogueCrc,
    register: u128,
}

impl Naive<'_> {
    fn new(crc: &CatalogueCrc) -> Naive<'_> {
        Naive { crc, register: crc.init }
    }

    fn bit(&mut self, bit: bool) {
        let top = self.register >> (self.crc.width - 1) & 1 == 1;
        let mask = u128::MAX >> (128 - self.crc.width);
        self.register = (self.register << 1 & mask) ^ if top != bit { self.crc.poly } else { 0 };
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let byte = if self.crc.refin { byte.reverse_bits() } else { *byte };
            (0..8).rev().for_each(|at| self.bit(byte >> at & 1 == 1));
        }
    }

    /// What the catalogue calls the contents of the register.
    fn shown(&self) -> u128 {
        if self.crc.refout { turned(self.crc, self.register) } else { self.register }
    }

    fn value(&self) -> u128 {
        self.shown() ^ self.crc.xorout
    }
}

fn turned(crc: &CatalogueCrc, value: u128) -> u128 {
    value.reverse_bits() >> (128 - crc.width)
}

/// A message with its CRC behind it, in the order in which bits go out, and zeros to a whole byte; and the
/// number of these.
fn codeword(crc: &CatalogueCrc, message: &[u8], value: u128) -> (Vec<u8>, u32) {
    let natural = if crc.refout { turned(crc, value) } else { value };
    let bytes = crc.width.div_ceil(8);
    let padding = 8 * bytes - crc.width;
    let mut sent: Vec<u8> = (natural << padding).to_be_bytes()[16 - bytes as usize..].to_vec();
    if crc.refin {
        sent.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
    }
    ([message, &sent].concat(), padding)
}

fn engines(crc: &CatalogueCrc) -> Vec<Engine> {
    let pipeline = Library::standard().pipeline(&crc.name).unwrap_or_else(|errors| panic!("{errors}"));
    let engine = |backend: Backend| match pipeline.compile_with(&backend.into()) {
        Ok(engine) => Some(engine),
        Err(CompileError::Unsupported(why)) => {
            let fits = crc.width <= 64;
            assert!(backend == Backend::Native && !(fits && multiplies_without_carries()), "{why}");
            None
        }
        Err(error) => panic!("{}: {error}", crc.name),
    };
    Backend::ALL.into_iter().filter_map(engine).collect()
}

fn multiplies_without_carries() -> bool {
    let names: Vec<&str> = Features::detected().names().collect();
    names.contains(&"avx2") && names.contains(&"pclmul")
}

#[test]
fn check_values_and_residues_are_the_published_ones_on_every_backend() {
    for crc in catalogue() {
        let engines = engines(crc);
        let value = |engine: &Engine, bytes: &[u8]| {
            let run = engine.run_read_only(bytes).unwrap();
            let export = |name: &str| run.export(&format!("{}.{name}", crc.name)).map(u128::from);
            match crc.width {
                ..=64 => export("crc").unwrap(),
                _ => export("high").unwrap() << 64 | export("low").unwrap(),
            }
        };
        for engine in &engines {
            assert_eq!(value(engine, b"123456789"), crc.check, "{} on {}", crc.title, engine.backend());
        }
        // Long enough for whole iterations, and what they leave.
        let message: Vec<u8> = (0..1000u32).map(|at| (at * at + 7 * at) as u8).collect();
        let mut naive = Naive::new(crc);
        naive.bytes(&message);
        let (sent, padding) = codeword(crc, &message, naive.value());
        // The zeros behind it take the residue further by as many steps.
        let natural = if crc.refout { turned(crc, crc.residue) } else { crc.residue };
        let mut expected = Naive { crc, register: natural };
        (0..padding).for_each(|_| expected.bit(false));
        for engine in &engines {
            assert_eq!(value(engine, &message), naive.value(), "{} on {}", crc.title, engine.backend());
            assert_eq!(value(engine, &sent), expected.value(), "{} on {}", crc.title, engine.backend());
        }
    }
}

#[test]
fn each_is_known_as_the_crc_that_it_is() {
    let library = Library::standard();
    // A state has 64 bits.
    for crc in catalogue().iter().filter(|crc| crc.width <= 64) {
        let pipe = library.pipe(&crc.name).unwrap();
        let class = analyse(pipe).states[0].class.to_string();
        let wanted = format!("{}-bit CRC", crc.width);
        assert!(class.contains(&wanted), "{} is {class}", crc.title);
    }
}

#[test]
fn names_are_one_each_and_what_a_file_declares_goes_before() {
    let mut names: Vec<&str> = catalogue().iter().map(|crc| &*crc.name).collect();
    assert_eq!(names.len(), 113);
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    let mut library = Library::standard();
    assert!(Library::empty().pipe("crc16_modbus").is_none());
    assert!(library.pipe("crc16_modbus").is_some());
    library.load("mine.pipe", "pipe crc16_modbus : u8 { in x; not y, x; out y }").unwrap();
    assert!(library.pipe("crc16_modbus").unwrap().out.is_some());
    assert!(library.pipeline("crc16_modbus").unwrap().composition().stages[0].pipe.out.is_some());
    let errors = library.pipeline("crc16_modbuss").unwrap_err().to_string();
    assert!(errors.contains("did you mean `crc16_modbus`?"), "{errors}");
    // As stages like any other, whose parameters and windows are checked.
    library.load("more.pipe", "pipeline both = crc16_ibm_sdlc as a | crc24_openpgp as b per 512").unwrap();
    assert!(library.pipeline("both").is_ok());
    assert!(library.pipeline("crc16_ibm_sdlc(seed=1)").is_err());
}

/// Of the canonical form, and with the check value as a test.
#[test]
fn texts_are_whole_files() {
    for crc in catalogue() {
        let text = crc.text();
        assert_eq!(format_source("one.pipe", &text).unwrap(), text);
        let mut library = Library::empty();
        library.load("one.pipe", &text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        let test = library.tests().next().unwrap();
        let engine = test.pipeline.compile_with(&Backend::Interp.into()).unwrap();
        assert_eq!(test.run(&engine), Ok(()), "{text}");
    }
}
