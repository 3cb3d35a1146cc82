//! The native backend: x86-64 loops as wide as the processor has registers, emitted through `iced-x86`'s
//! encoder.
//!
//! A pass becomes one function for stretches of any length: import of the states, a loop over several vectors
//! that is entered at the copy from which whole iterations are left, one masked vector for what is left then
//! (with each stage's tail rule), combination and export of the states.
//!
//! What flows where:
//!
//! * [`isa`]: how wide vectors are, from which instructions there are ([`super::features`]);
//! * [`crate::plan::wide`] is what it is given: how each state of a stage is kept (reduction, CRC, delay,
//!   ...), with how many vectors an iteration, on which target;
//! * `carry`: one file for each such form, all with the same life around the loops;
//! * `lower`: a stage's block on the lanes of one vector, in terms of `lanes` (one operation on every lane,
//!   expanded where the processor has no such instruction), into `vcode` (machine instructions on virtual
//!   registers);
//! * `schedule`: the order of instructions in loops with chains longer than the processor looks ahead;
//! * `regalloc`: real registers for straight-line code, constants rematerialised from a pool;
//! * `frame`: the function around the loop bodies; `asm`: encoding, labels, alignment;
//! * [`crate::code`] holds the result: executable pages, never writable at the same time; `perf` names it for
//!   profiles.
//!
//! What has no code here the plan has refused ([`targets`] says what there is); what is left to find out is
//! whether the registers suffice.

mod abi;
mod asm;
mod cache;
mod carry;
#[cfg(debug_assertions)]
mod checker;
mod encoding;
mod frame;
mod isa;
mod lanes;
mod lower;
mod perf;
mod regalloc;
mod schedule;
mod vcode;

#[cfg(test)]
mod tests;

use super::{Entry, Function, Listed, MAX_CALL_BYTES, PassCode, Refusal, Striped, Stripes};
#[cfg(test)]
use crate::analyse::Analysed;
use crate::code::CodeMemory;
use crate::ir::Stripe;
use crate::outline::heading;
use crate::plan::stage::{StateForm, VectorStage};
use crate::plan::target::{LaneOps, StateKinds, Systems, Target};
use crate::plan::wide::{UNROLLS, WidePlan};
use asm::Image;
pub(crate) use cache::streaming_from;
use frame::{FunctionShape, Parts, Stores, StripeMap};
#[cfg(test)]
use iced_x86::Formatter;
pub(crate) use isa::Features;
use isa::Isa;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Fewest bytes of a stretch that are worth going around the caches: lines that its ends do not fill are
/// fetched, and wait.
const STREAMED_FROM: usize = 512;

/// The machine code of a pass.
pub(crate) struct NativeCode {
    code: CodeMemory,
    /// Where `code` begins; it does not move.
    base: *const u8,
    /// The function that writes what it reads and computes.
    copying: Range<usize>,
    /// The same without stores, where stores can be left out: if no stage writes anything.
    reading: Option<Range<usize>>,
    /// The same as `copying` with stores to the striped buffer at the pipeline's end, if it is one that the
    /// loops reach.
    to_stripes: Option<Range<usize>>,
    /// The same as `copying` with loads from the striped buffer at the pipeline's start.
    from_stripes: Option<Range<usize>>,
    /// The same as `copying` with stores around the caches, to a destination that is aligned to a vector.
    streaming: Range<usize>,
    /// Bytes from which a transfer is a big one.
    streaming_from: usize,
    /// Bytes of a vector.
    vector_bytes: usize,
    /// Bytes of the longest word of the stages.
    gauge: usize,
    /// Most bytes of one call of the function; a multiple of every gauge.
    longest_call: usize,
}

// SAFETY: `base` points into `code`, which is never written again and may be executed by any thread.
unsafe impl Send for NativeCode {}
// SAFETY: as above; running changes nothing in it.
unsafe impl Sync for NativeCode {}

/// The vectors of a processor with these features, the best first: where only 128 bits can be multiplied
/// without carries, CRCs have them in the halves of narrower vectors.
///
/// Not in the quarters of wide ones: those processors (Skylake-SP, Cascade Lake) multiply on port 5 alone,
/// and take vectors apart there, too. For 64 bytes that is 8 products and 3 extractions in one vector, 8 and
/// 2 in two of 256 bits, which leave two ports, not one, to the other stages.
pub(crate) fn targets(features: Features) -> [Option<Target>; 2] {
    let target = |features: Features| {
        let isa = features.isa()?;
        let (narrow, wide) = (features.has(Features::PCLMUL), features.has(Features::VPCLMUL));
        Some(Target {
            features,
            vector_bytes: isa.vector_bytes(),
            registers: isa.registers(),
            crcs: wide || narrow && isa == Isa::Avx2,
            clmul64: wide && (narrow || isa == Isa::Avx512),
            clmul128: wide || narrow && isa == Isa::Avx2,
            aes: features.has(Features::VAES) || features.has(Features::AES) && isa == Isa::Avx2,
            masks: isa == Isa::Avx512,
            waits: isa == Isa::Avx512 && features.has(Features::VNNI),
            states: StateKinds {
                systems: Systems::All,
                steps: true,
                residues: false,
                around: false,
                mixed: false,
            },
            lanes: LaneOps::All,
        })
    };
    let narrower = features.has(Features::AVX512 | Features::PCLMUL) && !features.has(Features::VPCLMUL);
    [target(features), narrower.then(|| target(features.without(Features::AVX512))).flatten()]
}

/// Plans and compiles.
#[cfg(test)]
pub(crate) fn compile(
    stages: &[Analysed],
    features: Features,
    stripes: Stripes,
) -> Result<NativeCode, Refusal> {
    Ok(emit(WidePlan::new(stages, &targets(features))?, stripes)?.0)
}

/// Code for a plan; from and to the striped buffers at the pipeline's ends as well. With it comes what it was
/// made as.
pub(crate) fn emit(mut plan: WidePlan, stripes: Stripes) -> Result<(NativeCode, Emitted), Refusal> {
    let features = plan.target.features;
    let isa = features.isa().ok_or_else(|| "neither AVX2 nor AVX-512 to use".to_owned())?;
    let widest = FunctionShape::of(&plan, isa);
    let (image, parts, shape) = fitting(&plan.stages, widest)?;
    plan.unroll = shape.unroll;
    // What takes no fewer registers unrolls no further.
    let another = |source, stores| {
        let (image, ..) = fitting(&plan.stages, FunctionShape { source, stores, ..shape })?;
        Ok::<Image, Refusal>(image)
    };
    let runs = |stripe: Option<Stripe>| stripe.and_then(|stripe| StripeMap::of(stripe, isa));
    let mut bytes = Vec::new();
    let copying = image.place(&mut bytes);
    let is_made_anew = image.reads_back || reads_back(&plan.stages, isa);
    let streaming = if is_made_anew { another(None, Stores::Streamable)? } else { image };
    let streaming = streaming.streaming()?.place(&mut bytes);
    // Where this cannot be done, the engine goes by way of a block in the cache.
    let to_stripes = runs(stripes.sink).and_then(|runs| another(None, Stores::Striped(runs)).ok());
    let to_stripes = to_stripes.map(|image| image.place(&mut bytes));
    let from_stripes = runs(stripes.source).and_then(|runs| another(Some(runs), Stores::Plain).ok());
    let from_stripes = from_stripes.map(|image| image.place(&mut bytes));
    let reading = match plan.modifies() {
        true => None,
        false => {
            let (image, ..) = fitting(&plan.stages, FunctionShape { stores: Stores::None, ..widest })?;
            Some(image.place(&mut bytes))
        }
    };
    let code = CodeMemory::new(&bytes).map_err(|error| format!("executable memory: {error}"))?;
    let functions = [
        (Some(&copying), ""),
        (Some(&streaming), " (streaming)"),
        (reading.as_ref(), " (reading)"),
        (to_stripes.as_ref(), " (striped)"),
        (from_stripes.as_ref(), " (from stripes)"),
    ];
    for (place, what) in functions {
        place.into_iter().for_each(|place| perf::announce(&code, place, &plan.stages, what));
    }
    let (gathers, scatters) = (from_stripes.is_some(), to_stripes.is_some());
    let code = NativeCode {
        base: code.address(0),
        code,
        copying,
        reading,
        to_stripes,
        from_stripes,
        streaming,
        streaming_from: streaming_from(),
        vector_bytes: isa.vector_bytes(),
        gauge: plan.gauge(),
        longest_call: frame::longest_call(&plan.stages, isa),
    };
    Ok((code, Emitted { plan, parts, gathers, scatters }))
}

/// The functions of a plan for another program, which they are not tied to this one for: constants stand
/// before the instructions that read them, relative to where they are.
#[cfg(feature = "emit")]
pub(crate) struct LooseCode {
    /// Writes what it reads and computes; takes no destination that is null.
    pub(crate) copying: LooseFunction,
    /// Ignores the destination; if no stage writes anything.
    pub(crate) reading: Option<LooseFunction>,
    /// Most bytes of a call; a multiple of every gauge.
    pub(crate) longest_call: usize,
}

/// Constants and code with the signature of [`Function`], to be placed at a multiple of 64 bytes.
#[cfg(feature = "emit")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LooseFunction {
    pub(crate) bytes: Vec<u8>,
    /// Where its instructions begin.
    pub(crate) entry: usize,
}

/// Code for a plan, from contiguous memory to contiguous memory, that is not made to run here.
#[cfg(feature = "emit")]
pub(crate) fn emit_loose(plan: &WidePlan) -> Result<LooseCode, Refusal> {
    let features = plan.target.features;
    let isa = features.isa().ok_or_else(|| "neither AVX2 nor AVX-512 to use".to_owned())?;
    let shape = FunctionShape::of(plan, isa);
    let function = |shape| {
        let (Image { bytes, entry, .. }, ..) = fitting(&plan.stages, shape)?;
        Ok::<LooseFunction, Refusal>(LooseFunction { bytes, entry })
    };
    let reading = (!plan.modifies()).then(|| function(FunctionShape { stores: Stores::None, ..shape }));
    Ok(LooseCode {
        copying: function(shape)?,
        reading: reading.transpose()?,
        longest_call: frame::longest_call(&plan.stages, isa),
    })
}

/// What code was made as, for people to read.
pub(crate) struct Emitted {
    plan: WidePlan,
    parts: Parts,
    gathers: bool,
    scatters: bool,
}

impl Emitted {
    /// What the loop does: its head, body, epilogue and tail, in lines under headings; `names` are the
    /// states', in (stage, state) order.
    pub(crate) fn outline(&self, names: &[String]) -> String {
        let mut text = self.parts.outline(&self.plan, names);
        let others = [
            (self.gathers, "a function like it with loads straight from the striped buffer at the start"),
            (self.scatters, "a function like it with stores straight to the striped buffer at the end"),
        ];
        for (_, what) in others.iter().filter(|(is, _)| *is) {
            // Writing to a string does not fail.
            let _ = heading(&mut text, "also", what);
        }
        text
    }
}

/// Whether a CRC may read what was stored, which stores around the caches must not be.
fn reads_back(stages: &[VectorStage], isa: Isa) -> bool {
    let mut changed = false;
    isa == Isa::Avx2
        && stages.iter().any(|stage| {
            let reads = changed && stage.forms.iter().any(|form| matches!(form, StateForm::Crc(..)));
            changed |= stage.pipe.out.is_some();
            reads
        })
}

/// A function of that shape, with less unrolling if the registers do not suffice, and what it was made as.
fn fitting(stages: &[VectorStage], shape: FunctionShape) -> Result<(Image, Parts, FunctionShape), Refusal> {
    let fewer = UNROLLS.into_iter().filter(|unroll| *unroll < shape.unroll);
    for unroll in std::iter::once(shape.unroll).chain(fewer) {
        let shape = FunctionShape { unroll, ..shape };
        match frame::function(stages, shape) {
            Ok((image, parts)) => return Ok((image, parts, shape)),
            Err(Refusal::OutOfRegisters) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Err(Refusal::OutOfRegisters)
}

impl NativeCode {
    /// Runs stages that write something for their states alone: what they write goes where it stays in the
    /// first-level cache and is forgotten, at the speed of a copy, which saves half of the time that
    /// compiling takes.
    ///
    /// # Safety As for [`PassCode::run`].
    #[inline(never)]
    unsafe fn write_nowhere(&self, states: *mut u64, pos: u64, src: *const u8, len: usize) {
        const BLOCK: usize = 8192;
        let mut block = MaybeUninit::<[u8; BLOCK]>::uninit();
        let mut done = 0;
        while done < len {
            let part = BLOCK.min(len - done);
            // SAFETY: `part` bytes of the source are left, and the block has room for as many; it is a
            // multiple of every gauge.
            unsafe {
                let dst = block.as_mut_ptr().cast();
                self.call(&self.copying, states, pos + done as u64, src.add(done), dst, part);
            }
            done += part;
        }
    }

    /// Calls the function at that place of `code`.
    ///
    /// # Safety
    /// As for [`PassCode::run`].
    #[inline]
    unsafe fn call(
        &self,
        function: &Range<usize>,
        states: *mut u64,
        pos: u64,
        src: *const u8,
        dst: *mut u8,
        len: usize,
    ) {
        // SAFETY: the place lies within the code; the rest is the caller's promise.
        unsafe { self.call_at(self.base.add(function.start), states, pos, src, dst, len) }
    }

    /// Calls a function, in parts that its partial results stand.
    ///
    /// # Safety As for [`PassCode::run`], and `function` is one that was made for these stages; the streaming
    /// one needs an aligned destination.
    #[inline]
    unsafe fn call_at(
        &self,
        function: *const u8,
        states: *mut u64,
        pos: u64,
        src: *const u8,
        dst: *mut u8,
        len: usize,
    ) {
        // SAFETY: a function of this signature was assembled at that offset, into memory that is executable
        // as long as `self` lives. It touches `len` bytes from `src` and `dst` and the states, as the caller
        // promises it may; the one that only reads ignores the destination, which may be null and is then not
        // offset.
        unsafe {
            let function = std::mem::transmute::<*const u8, Function>(function);
            let mut done = 0;
            while len - done > self.longest_call {
                let dst = if dst.is_null() { dst } else { dst.add(done) };
                function(states, pos + done as u64, src.add(done), dst, self.longest_call);
                done += self.longest_call;
            }
            let dst = if dst.is_null() { dst } else { dst.add(done) };
            function(states, pos + done as u64, src.add(done), dst, len - done);
        }
    }

    /// The copying function's instructions as text, one a line.
    #[cfg(test)]
    pub(crate) fn disassembly(&self) -> String {
        let bytes = &self.code.bytes()[self.copying.clone()];
        let ip = self.copying.start as u64;
        let mut decoder = iced_x86::Decoder::with_ip(64, bytes, ip, iced_x86::DecoderOptions::NONE);
        let mut formatter = iced_x86::IntelFormatter::new();
        formatter.options_mut().set_rip_relative_addresses(true);
        let mut text = String::new();
        for inst in &mut decoder {
            text.push_str(&format!("{:5x}  ", inst.ip()));
            formatter.format(&inst, &mut text);
            text.push('\n');
        }
        text
    }
}

impl NativeCode {
    /// The function that begins at that place of `code`.
    fn function(&self, place: &Range<usize>) -> Function {
        // SAFETY: a function of this signature was assembled at that offset, into memory that does not move.
        unsafe { std::mem::transmute::<*const u8, Function>(self.base.add(place.start)) }
    }
}

impl PassCode for NativeCode {
    fn functions(&self) -> Vec<Listed<'_>> {
        let places = [
            (Some(&self.copying), "any length, from one contiguous piece of memory to another"),
            (self.reading.as_ref(), "any length, reading only"),
            (self.to_stripes.as_ref(), "any length, to the striped buffer at the end"),
            (self.from_stripes.as_ref(), "any length, from the striped buffer at the start"),
            (Some(&self.streaming), "big transfers, around the caches to a destination aligned to a vector"),
        ];
        let listed = |(place, what): &(Option<&Range<usize>>, &str)| {
            let place = (*place)?;
            let bytes = &self.code.bytes()[place.clone()];
            // What lies between two functions are the constants of the second.
            let ends = places.iter().filter_map(|(place, _)| Some(place.as_ref()?.end));
            let before = ends.filter(|end| *end <= place.start).max().unwrap_or(0);
            let constants = &self.code.bytes()[before.next_multiple_of(64)..place.start];
            Some(Listed { what: (*what).to_owned(), bytes, at: place.start, constants })
        };
        places.iter().filter_map(listed).collect()
    }

    unsafe fn run(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        debug_assert!(len > 0 && len <= MAX_CALL_BYTES);
        let in_place = std::ptr::eq(dst, src);
        // SAFETY: handed on from the caller.
        unsafe {
            if let Some(reading) = self.reading.as_ref().filter(|_| dst.is_null() || in_place) {
                self.call(reading, states, pos, src, dst, len);
            } else if dst.is_null() {
                self.write_nowhere(states, pos, src, len);
            } else {
                self.call(&self.copying, states, pos, src, dst, len);
            }
        }
    }

    /// Up to the destination's first whole vector with ordinary stores, then around the caches; if no word
    /// begins at a whole vector, ordinary stores it is.
    unsafe fn run_streaming(&self, states: *mut u64, pos: u64, src: *const u8, dst: *mut u8, len: usize) {
        let head = dst.addr().wrapping_neg() % self.vector_bytes;
        let aligns = head.is_multiple_of(self.gauge) && len >= STREAMED_FROM;
        // SAFETY: `head` bytes are within the stretch, and whole words of every stage; the destination is
        // aligned behind them.
        unsafe {
            if dst.is_null() || std::ptr::eq(dst, src) || !aligns {
                return self.run(states, pos, src, dst, len);
            }
            if head > 0 {
                self.call(&self.copying, states, pos, src, dst, head);
            }
            self.call(&self.streaming, states, pos + head as u64, src.add(head), dst.add(head), len - head);
        }
    }

    fn entry(&self) -> Option<Entry> {
        let longest = self.longest_call.min(self.streaming_from - 1);
        Some(Entry { function: self.function(&self.copying), longest })
    }

    fn reading(&self) -> Option<Entry> {
        let place = self.reading.as_ref()?;
        Some(Entry { function: self.function(place), longest: self.longest_call })
    }

    fn striped(&self) -> Option<Entry> {
        let place = self.to_stripes.as_ref()?;
        Some(Entry { function: self.function(place), longest: self.longest_call })
    }

    fn longest_striped(&self, end: Striped) -> Option<usize> {
        let place = match end {
            Striped::Source => &self.from_stripes,
            Striped::Sink => &self.to_stripes,
        };
        place.as_ref().map(|_| self.longest_call)
    }

    unsafe fn run_striped(
        &self,
        end: Striped,
        states: *mut u64,
        pos: u64,
        src: *const u8,
        dst: *mut u8,
        len: usize,
    ) {
        let place = match end {
            Striped::Source => &self.from_stripes,
            Striped::Sink => &self.to_stripes,
        };
        debug_assert!(place.is_some() && len <= self.longest_call);
        if let Some(place) = place {
            // SAFETY: the caller's promise.
            unsafe { self.function(place)(states, pos, src, dst, len) };
        }
    }
}
