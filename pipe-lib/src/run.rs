//! What goes into a run besides bytes, and what comes out: imports and exports.

use crate::digest::{DigestList, DigestValue};
use crate::error::RunError;
use crate::program::{ExportId, ExportInfo, Program};
use crate::registers::{FEW, INLINE, Registers, StoredRegisters};
use smallvec::SmallVec;
use std::sync::Arc;

/// Registers' values before the first word (before the first word of every window, for a windowed stage), in
/// place of the initial ones that the pipes state. Made by [`Engine::imports`](crate::Engine::imports) and
/// good for that engine.
#[derive(Clone, Debug)]
#[must_use = "imports do nothing until a run is given them"]
pub struct Imports {
    pub(crate) engine: Arc<Program>,
    pub(crate) registers: Registers,
}

impl Imports {
    /// Sets the register `instance.name`.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), RunError> {
        let Some(register) = self.engine.registers.iter().find(|register| register.name == name) else {
            return Err(RunError::NoSuchRegister { name: name.to_owned() });
        };
        if value & !register.ty.mask() != 0 {
            return Err(RunError::ValueTooWide { name: name.to_owned(), value, ty: register.ty });
        }
        self.registers[register.index] = value;
        Ok(())
    }
}

/// The outcome of a run.
///
/// Made so that a short transfer need not pay for it: nothing in it is a structure with a destructor to call
/// unless there is something to free, and the compiler can keep it in registers.
#[derive(Clone, Debug)]
pub struct Run<'e> {
    /// Bytes of the stream that were read.
    pub read: usize,
    /// Bytes written to the destination, from its start; with a layout up to the last byte that belongs to
    /// the transfer, holes counted. 0 for a read-only run.
    pub written: usize,
    /// `None` if the run shares it.
    engine: Option<&'e Program>,
    /// The registers, if they are few enough. At the end of them the lists of a run of few windows, export
    /// after export, if they fit behind the registers.
    registers: [u64; INLINE],
    /// Windows of which there are such lists.
    in_place: u8,
    more: More,
}

/// The values of an export with windows, one a window (of a digest, as many words); one or two need no memory
/// of their own.
pub(crate) type WindowList = SmallVec<[u64; 2]>;

/// A list for each export, empty for those without window; none at all if no stage has one.
pub(crate) type WindowLists = SmallVec<[WindowList; 2]>;

/// What most runs do not have.
#[derive(Clone, Debug)]
struct More(Option<Box<Uncommon>>);

#[derive(Clone, Debug)]
struct Uncommon {
    /// The engine of a run that outlives the call.
    engine: Option<Arc<Program>>,
    /// The registers, if there are too many to hold in place.
    registers: StoredRegisters,
    windows: WindowLists,
}

impl Drop for More {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(uncommon) = self.0.take() {
            drop_uncommon(uncommon);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_uncommon(uncommon: Box<Uncommon>) {
    drop(uncommon);
}

impl<'e> Run<'e> {
    /// The outcome of a call of generated code that left `registers` behind, of an engine that has no more
    /// than those.
    #[inline(always)]
    pub(crate) fn direct(engine: &'e Program, read: usize, written: usize, registers: [u64; FEW]) -> Run<'e> {
        let [a, b, c, d] = registers;
        let registers = [a, b, c, d, 0, 0, 0, 0];
        Run { read, written, engine: Some(engine), registers, in_place: 0, more: More(None) }
    }

    /// Whether the lists of so many windows have room in place, and where they begin: of an engine all of
    /// whose exports have windows, the same ones.
    #[inline]
    pub(crate) fn room_for_windows(engine: &Program, windows: usize) -> Option<usize> {
        let values = windows.checked_mul(engine.exports.len())?;
        let registers = engine.registers.len();
        (engine.initial.is_inline() && windows > 0 && values <= INLINE.checked_sub(registers)?)
            .then(|| INLINE - values)
    }

    /// The outcome of so many windows, whose lists stand among `registers` where
    /// [`room_for_windows`](Run::room_for_windows) said.
    #[inline]
    pub(crate) fn of_windows(
        engine: &'e Program,
        read: usize,
        written: usize,
        registers: Registers,
        windows: usize,
    ) -> Run<'e> {
        let (registers, many) = registers.into_parts();
        debug_assert!(many.is_empty() && Run::room_for_windows(engine, windows).is_some());
        Run { read, written, engine: Some(engine), registers, in_place: windows as u8, more: More(None) }
    }

    pub(crate) fn new(
        engine: &'e Program,
        read: usize,
        written: usize,
        registers: Registers,
        windows: WindowLists,
    ) -> Run<'e> {
        let (registers, many) = registers.into_parts();
        let more = (!many.is_empty() || !windows.is_empty())
            .then(|| Box::new(Uncommon { engine: None, registers: many, windows }));
        Run { read, written, engine: Some(engine), registers, in_place: 0, more: More(more) }
    }

    /// The same, sharing the engine.
    pub(crate) fn shared(
        engine: Arc<Program>,
        read: usize,
        written: usize,
        registers: Registers,
        windows: WindowLists,
    ) -> Run<'static> {
        let (registers, many) = registers.into_parts();
        let more = Uncommon { engine: Some(engine), registers: many, windows };
        Run { read, written, engine: None, registers, in_place: 0, more: More(Some(Box::new(more))) }
    }
}

impl Run<'_> {
    /// The same outcome, which shares its engine rather than borrowing it.
    pub(crate) fn sharing(mut self, engine: Arc<Program>) -> Run<'static> {
        assert!(std::ptr::eq(self.engine(), &*engine), "an outcome is kept by the engine that ran");
        let more = match self.more.0.take() {
            Some(more) => Box::new(Uncommon { engine: Some(engine), ..*more }),
            None => Box::new(Uncommon {
                engine: Some(engine),
                registers: StoredRegisters::default(),
                windows: WindowLists::new(),
            }),
        };
        let Run { read, written, registers, in_place, .. } = self;
        Run { read, written, engine: None, registers, in_place, more: More(Some(more)) }
    }
}

/// What an export came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportValue<'a> {
    /// The value, from a stage without window.
    One(u64),
    /// One value a window, in stream order.
    Windows(&'a [u64]),
    /// The bytes of a digest of another crate.
    Digest(DigestValue),
    /// One digest a window, in stream order.
    Digests(DigestList<'a>),
}

const FEW_END: u8 = FEW as u8;

/// [`Run::value`] of any outcome, by its parts. Laid out away from that of a short transfer.
#[cold]
#[inline(never)]
#[allow(clippy::too_many_arguments, reason = "registers in a row would have to be in memory before the call")]
fn value_of(
    engine: Option<&Program>,
    more: Option<&Uncommon>,
    in_place: u8,
    index: usize,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    e: u64,
    f: u64,
    g: u64,
    h: u64,
) -> u64 {
    match export_value(engine_of(engine, more), more, &[a, b, c, d, e, f, g, h], in_place, index) {
        ExportValue::One(value) => value,
        ExportValue::Windows(_) => panic!("export {index} is a list, one entry a window"),
        ExportValue::Digest(_) | ExportValue::Digests(_) => panic!("export {index} is bytes, no number"),
    }
}

fn engine_of<'a>(engine: Option<&'a Program>, more: Option<&'a Uncommon>) -> &'a Program {
    let shared = || more.and_then(|more| more.engine.as_deref());
    engine.or_else(shared).expect("a run borrows its engine or shares it")
}

fn export_value<'a>(
    engine: &'a Program,
    more: Option<&'a Uncommon>,
    inline: &'a [u64; INLINE],
    in_place: u8,
    index: usize,
) -> ExportValue<'a> {
    let info = &engine.exports[index];
    if in_place > 0 {
        let count = usize::from(in_place);
        let from = INLINE - count * (engine.exports.len() - index);
        return ExportValue::Windows(&inline[from..from + count]);
    }
    if let Some(values) = more.and_then(|more| more.windows.get(index))
        && info.windowed
    {
        return match info.digest {
            Some(kind) => ExportValue::Digests(DigestList::new(values, kind)),
            None => ExportValue::Windows(values),
        };
    }
    let registers = all_registers(more, inline);
    match info.digest {
        Some(kind) => ExportValue::Digest(engine.digest_value(info.stage, kind, registers)),
        None => ExportValue::One(engine.export_exprs[index].value(registers)),
    }
}

/// All registers, in the engine's order.
fn all_registers<'a>(more: Option<&'a Uncommon>, inline: &'a [u64]) -> &'a [u64] {
    more.map(|more| &*more.registers).filter(|many| !many.is_empty()).unwrap_or(inline)
}

impl Run<'_> {
    fn engine(&self) -> &Program {
        engine_of(self.engine, self.more.0.as_deref())
    }

    /// All registers, in the engine's order.
    pub(crate) fn registers(&self) -> &[u64] {
        all_registers(self.more.0.as_deref(), &self.registers)
    }

    /// The value of the export `instance.name`.
    pub fn export(&self, name: &str) -> Result<u64, RunError> {
        match self.export_value(self.engine().export_id(name)?) {
            ExportValue::One(value) => Ok(value),
            ExportValue::Windows(_) | ExportValue::Digests(_) => {
                Err(RunError::Windowed { name: name.to_owned() })
            }
            ExportValue::Digest(_) => Err(RunError::IsDigest { name: name.to_owned() }),
        }
    }

    /// The bytes of the digest `instance.digest`.
    pub fn digest(&self, name: &str) -> Result<DigestValue, RunError> {
        match self.export_value(self.engine().export_id(name)?) {
            ExportValue::Digest(value) => Ok(value),
            ExportValue::Digests(_) => Err(RunError::Windowed { name: name.to_owned() }),
            ExportValue::One(_) | ExportValue::Windows(_) => {
                Err(RunError::NoDigest { name: name.to_owned() })
            }
        }
    }

    /// The list of a windowed digest `instance.digest`, one a window.
    pub fn digests(&self, name: &str) -> Result<DigestList<'_>, RunError> {
        match self.export_value(self.engine().export_id(name)?) {
            ExportValue::Digests(list) => Ok(list),
            ExportValue::Digest(_) => Err(RunError::NotWindowed { name: name.to_owned() }),
            ExportValue::One(_) | ExportValue::Windows(_) => {
                Err(RunError::NoDigest { name: name.to_owned() })
            }
        }
    }

    /// The value of an export, found once by [`Engine::export_id`](crate::Engine::export_id) of the engine
    /// that ran.
    ///
    /// Of an export of another engine it may give anything.
    ///
    /// # Panics
    /// If it is a windowed export, or one of another engine, with more of them.
    // Where inlining stops, the outcome's address is known elsewhere, so that it has to be in memory: a short
    // transfer then waits longer for its own stores than for its bytes.
    #[inline(always)]
    pub fn value(&self, export: ExportId) -> u64 {
        let more = self.more.0.as_deref();
        // One by one, and chosen rather than indexed: an index is one into memory.
        let [a, b, c, d, e, f, g, h] = self.registers;
        if more.is_none() && export.register < FEW_END {
            let (even, odd) = if export.register < 2 { (a, b) } else { (c, d) };
            return (if export.register.is_multiple_of(2) { even } else { odd }) ^ export.flip;
        }
        value_of(self.engine, more, self.in_place, export.index as usize, a, b, c, d, e, f, g, h)
    }

    /// The list of a windowed export `instance.name`, one entry a window.
    pub fn windows(&self, name: &str) -> Result<&[u64], RunError> {
        match self.export_value(self.engine().export_id(name)?) {
            ExportValue::Windows(values) => Ok(values),
            ExportValue::One(_) => Err(RunError::NotWindowed { name: name.to_owned() }),
            ExportValue::Digest(_) | ExportValue::Digests(_) => {
                Err(RunError::IsDigest { name: name.to_owned() })
            }
        }
    }

    /// What an export came to, of whatever kind it is.
    ///
    /// # Panics
    /// If it is one of another engine, with more of them.
    pub fn export_value(&self, export: ExportId) -> ExportValue<'_> {
        let more = self.more.0.as_deref();
        export_value(self.engine(), more, &self.registers, self.in_place, export.index as usize)
    }

    /// All exports with their values, in stream order.
    pub fn exports(&self) -> impl Iterator<Item = (&ExportInfo, ExportValue<'_>)> {
        self.engine().exports.iter().map(|info| (info, self.export_value(info.id)))
    }

    /// The final value of the register `instance.name` (of a windowed stage: since its last window ended).
    /// Imported into a later run, it continues where this one stopped.
    pub fn register(&self, name: &str) -> Result<u64, RunError> {
        match self.engine().registers.iter().find(|register| register.name == name) {
            Some(register) if register.secret => Err(RunError::SecretRegister { name: name.to_owned() }),
            Some(register) => Ok(self.registers()[register.index]),
            None => Err(RunError::NoSuchRegister { name: name.to_owned() }),
        }
    }
}
