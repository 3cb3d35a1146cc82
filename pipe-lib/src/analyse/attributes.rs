//! Declared attributes: proved by the analysis, or refuted by a counterexample.
//!
//! The paper let the programmer assert that a pipe is commutative or leaves its input alone. Here the compiler infers
//! both; a declaration is a claim that is held against the proof. A claim without proof is an error even when no
//! counterexample was found, since nothing may rely on it.

use super::class::Class;
use super::prove::analyse;
use super::rewrite::evaluate;
use crate::ir::{Block, Op, Pipe, StateInit, Value};
use std::fmt;

/// An attribute that a pipe declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// The words may come in any order.
    Commutative,
    /// The stream is passed on unchanged.
    Nomod,
}

impl Attribute {
    /// The word in the language.
    pub const fn name(self) -> &'static str {
        match self {
            Attribute::Commutative => "commutative",
            Attribute::Nomod => "nomod",
        }
    }
}

/// Why a declared attribute does not stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refuted {
    /// An input for which it does not hold, as a sentence.
    Counterexample(String),
    /// No input was found, but no proof either: why, as a phrase.
    Unproved(String),
}

impl fmt::Display for Refuted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refuted::Counterexample(text) => f.write_str(text),
            Refuted::Unproved(why) => write!(f, "no counterexample was found, but there is no proof: {why}"),
        }
    }
}

/// The declared attributes of a pipe that do not stand.
pub fn check_declared(pipe: &Pipe) -> Vec<(Attribute, Refuted)> {
    if !pipe.declared.commutative && !pipe.declared.nomod {
        return Vec::new();
    }
    let facts = analyse(pipe);
    let mut refuted = Vec::new();
    if pipe.declared.commutative && !facts.commutative() {
        let why = || {
            let state = facts
                .states
                .iter()
                .zip(&pipe.states)
                .find(|(facts, _)| !matches!(facts.class, Class::Held | Class::Reduction { .. }));
            match state {
                Some((facts, state)) => format!("state `{}` is {}", state.name, facts.class),
                None => "the output depends on the place in the stream".to_string(),
            }
        };
        let example = search(pipe, order_matters).map(Refuted::Counterexample);
        refuted.push((Attribute::Commutative, example.unwrap_or_else(|| Refuted::Unproved(why()))));
    }
    if pipe.declared.nomod && !facts.nomod() {
        let example = search(pipe, word_changes).map(Refuted::Counterexample);
        let why = || "the word written is not the word read, as far as can be seen".to_string();
        refuted.push((Attribute::Nomod, example.unwrap_or_else(|| Refuted::Unproved(why()))));
    }
    refuted
}

/// Trials before a search is given up.
const TRIALS: usize = 256;

/// Looks for an input on which `found` has something to say; deterministic.
fn search(pipe: &Pipe, found: fn(&Machine<'_>, &mut Random) -> Option<String>) -> Option<String> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    (0..TRIALS).find_map(|trial| {
        let params = pipe.params.iter().map(|param| match param.default {
            Some(default) if trial % 2 == 0 => default,
            _ => random.value(param.ty.mask()),
        });
        let params: Vec<u64> = params.collect();
        let given = (!params.is_empty()).then(|| {
            let each = |(param, value): (&crate::ir::Param, &u64)| format!("{} = {value:#x}", param.name);
            format!(" (with {})", pipe.params.iter().zip(&params).map(each).collect::<Vec<_>>().join(", "))
        });
        let machine = Machine { pipe, params };
        found(&machine, &mut random).map(|text| text + &given.unwrap_or_default())
    })
}

fn word_changes(machine: &Machine<'_>, random: &mut Random) -> Option<String> {
    let pipe = machine.pipe;
    let mut states = machine.initial();
    for at in 0..3 {
        let word = random.value(pipe.input.ty.mask());
        let (mut read, mut written) = ([0u8; 8], [0u8; 8]);
        let size = pipe.word_bytes();
        pipe.input.write(word, &mut read[..size]);
        let out = machine.step(&mut states, word, at * size as u64)?;
        pipe.output.write(out, &mut written[..size]);
        if read != written {
            return Some(format!("the word {} becomes {}", hex(&read[..size]), hex(&written[..size])));
        }
    }
    None
}

fn order_matters(machine: &Machine<'_>, random: &mut Random) -> Option<String> {
    let pipe = machine.pipe;
    let size = pipe.word_bytes() as u64;
    let (x, y) = (random.value(pipe.input.ty.mask()), random.value(pipe.input.ty.mask()));
    let run = |first: u64, second: u64| {
        let mut states = machine.initial();
        let outs = [machine.step(&mut states, first, 0), machine.step(&mut states, second, size)];
        (states, outs)
    };
    let (one, outs) = run(x, y);
    let (other, [out_y, out_x]) = run(y, x);
    let words = format!("the words {x:#x}, {y:#x}");
    if let Some(at) = (0..one.len()).find(|&at| one[at] != other[at]) {
        let name = &pipe.states[at].name;
        return Some(format!(
            "{words} leave `{name}` at {:#x}, in the other order at {:#x}",
            one[at], other[at]
        ));
    }
    if outs != [out_x, out_y] {
        let show = |out: Option<u64>| out.map_or("nothing".to_string(), |out| format!("{out:#x}"));
        let (a, b) = (show(outs[0]), show(outs[1]));
        let (c, d) = (show(out_x), show(out_y));
        return Some(format!("{words} become {a}, {b}; in the other order they become {c}, {d}"));
    }
    None
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("x\"{}\"", digits.join(" "))
}

/// Runs a body word by word.
struct Machine<'a> {
    pipe: &'a Pipe,
    params: Vec<u64>,
}

impl Machine<'_> {
    fn initial(&self) -> Vec<u64> {
        let init = |init: &StateInit| match *init {
            StateInit::Const(value) => value,
            StateInit::Param(id) => self.params.get(id.0 as usize).copied().unwrap_or(0),
        };
        self.pipe.states.iter().map(|state| init(&state.init)).collect()
    }

    /// One word: the states move on; the word written, if there is an `out`.
    fn step(&self, states: &mut [u64], word: u64, pos: u64) -> Option<u64> {
        let body: &Block = &self.pipe.body;
        let mut values: Vec<u64> = Vec::with_capacity(body.insts.len());
        for (_, inst) in body.iter() {
            let mut args = [0; 3];
            let mut operand_ty = inst.ty;
            for (slot, operand) in args.iter_mut().zip(inst.op.operands()) {
                *slot = values[operand.0 as usize];
                operand_ty = body.ty(operand);
            }
            values.push(match inst.op {
                Op::In => word,
                Op::Pos => pos,
                Op::State(id) => states[id.0 as usize],
                Op::Param(id) => self.params.get(id.0 as usize).copied().unwrap_or(0),
                ref op => evaluate(op, inst.ty, operand_ty, args, &self.pipe.tables)?,
            });
        }
        let get = |value: Value| values[value.0 as usize];
        for (state, next) in states.iter_mut().zip(&self.pipe.next) {
            *state = get(*next);
        }
        self.pipe.out.map(get)
    }
}

/// A small deterministic generator (SplitMix64): counterexamples are the same on every run.
struct Random(u64);

impl Random {
    /// A value below `mask`, often a small or a large one.
    fn value(&mut self, mask: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        match z % 4 {
            0 => ((z >> 32) % 4) & mask,
            1 => mask - (((z >> 32) % 4) & mask),
            _ => (z >> 2) & mask,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Library;

    fn declared(text: &str) -> Result<(), String> {
        Library::standard().load("test.pipe", text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_holds_is_proved() {
        declared("pipe p : u16be commutative nomod tail zero { state s: u16; in x; addc s, s, x; export s }")
            .unwrap();
        declared("pipe p : u8 nomod { in x; out x }").unwrap();
        declared("pipe p : u8 commutative { in x; not y, x; out y }").unwrap();
    }

    #[test]
    fn what_does_not_hold_is_refuted_by_an_example() {
        let error =
            declared("pipe p : u8 commutative { state s: u8; in x; sub s, x, s; export s }").unwrap_err();
        assert!(error.contains("E0901") && error.contains("leave `s` at"), "{error}");
        let error = declared("pipe p : u8 nomod { in x; xor y, x, 1; out y }").unwrap_err();
        assert!(error.contains("E0901") && error.contains("becomes"), "{error}");
        let error = declared("pipe p : u16be -> u16le nomod { in x; out x }").unwrap_err();
        assert!(error.contains("becomes"), "{error}");
        let error =
            declared("pipe p : u8 commutative { state s: u8; in x; add s, s, x; out s }").unwrap_err();
        assert!(error.contains("E0901"), "{error}");
    }
}
